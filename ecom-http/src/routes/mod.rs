//! The routes: an area lists its own, one file per aggregate.

mod catalog;
pub(crate) mod docs;
mod health;
mod sales;
mod search;
mod stock;

use utoipa_axum::routes;

use crate::app::Routes;

/// Returns health and the links at the root.
pub(crate) fn operational() -> Routes {
    vec![routes!(docs::root), routes!(health::health), routes!(health::live), routes!(health::ready)]
}

/// Returns what stands under the prefix.
pub(crate) fn api() -> Routes {
    [catalog::routes(), vec![routes!(search::search)], stock::routes(), sales::routes()].into_iter().flatten().collect()
}
