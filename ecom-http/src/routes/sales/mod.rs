//! Routes of sales.

mod cart;
mod customer;

use utoipa_axum::routes;

use super::Area;
use crate::app::Routes;

/// Sales, as an area of the API.
pub(super) const AREA: Area = Area {
    routes,
    tags: &[("customers", "Customers and their addresses"), ("carts", "Carts and their lines")],
    links: &[("customers", "/customers"), ("addresses", "/addresses"), ("carts", "/carts")],
};

/// Returns the routes of sales.
fn routes() -> Routes {
    vec![
        routes!(customer::list, customer::create),
        routes!(customer::read, customer::replace, customer::patch, customer::delete),
        routes!(customer::restore),
        routes!(customer::addresses_of, customer::create_address),
        routes!(customer::list_addresses),
        routes!(customer::read_address, customer::replace_address, customer::patch_address, customer::delete_address),
        routes!(cart::list, cart::create),
        routes!(cart::read, cart::patch, cart::delete),
        routes!(cart::add_line, cart::clear),
        routes!(cart::change_line, cart::remove_line),
        routes!(cart::merge),
        routes!(cart::assign),
    ]
}
