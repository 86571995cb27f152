//! Routes of stock.

mod inventory;

use ecom_core::ErrorCode;
use utoipa_axum::routes;

use super::{Area, RouteGroup, Tag};
use crate::app::Routes;

/// Stock, as an area of the API.
pub(super) const AREA: Area = Area {
    group: RouteGroup::STOCK,
    routes,
    tags: &[Tag {
        name: "inventory",
        text: "The stock of SKUs and its ledger",
        conflicts: &[ErrorCode::InsufficientStock, ErrorCode::StockNotTracked],
    }],
    links: &[],
};

/// Returns the routes of stock.
fn routes() -> Routes {
    vec![routes!(inventory::level, inventory::adjust), routes!(inventory::movements)]
}
