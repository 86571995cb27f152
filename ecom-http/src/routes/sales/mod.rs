//! Routes of sales.

mod customer;

use utoipa_axum::routes;

use crate::app::Routes;

/// Returns the routes of sales.
pub(crate) fn routes() -> Routes {
    vec![
        routes!(customer::list, customer::create),
        routes!(customer::read, customer::replace, customer::patch, customer::delete),
        routes!(customer::restore),
        routes!(customer::addresses_of, customer::create_address),
        routes!(customer::list_addresses),
        routes!(customer::read_address, customer::replace_address, customer::patch_address, customer::delete_address),
    ]
}
