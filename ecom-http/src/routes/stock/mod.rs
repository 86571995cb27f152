//! Routes of stock.

mod inventory;

use utoipa_axum::routes;

use super::Area;
use crate::app::Routes;

/// Stock, as an area of the API.
pub(super) const AREA: Area = Area { routes, tags: &[("inventory", "The stock of SKUs and its ledger")], links: &[] };

/// Returns the routes of stock.
fn routes() -> Routes {
    vec![routes!(inventory::level, inventory::adjust), routes!(inventory::movements)]
}
