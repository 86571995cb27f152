//! Routes of stock.

mod inventory;

use utoipa_axum::routes;

use crate::app::Routes;

/// Returns the routes of stock.
pub(crate) fn routes() -> Routes {
    vec![routes!(inventory::level, inventory::adjust), routes!(inventory::movements)]
}
