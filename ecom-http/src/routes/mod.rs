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

/// What an area has under the prefix.
pub(crate) struct Area {
    /// Its routes.
    routes: fn() -> Routes,
    /// The tags of its operations, each with a description.
    tags: &'static [(&'static str, &'static str)],
    /// What the root links to, by name.
    links: &'static [(&'static str, &'static str)],
}

/// Every area, in the order of the documentation.
const AREAS: [&Area; 4] = [&catalog::AREA, &stock::AREA, &sales::AREA, &search::AREA];

/// Returns what stands under the prefix.
pub(crate) fn api() -> Routes {
    AREAS.iter().flat_map(|area| (area.routes)()).collect()
}

/// Returns the tags of all operations under the prefix, each with a description.
pub(crate) fn tags() -> impl Iterator<Item = (&'static str, &'static str)> {
    AREAS.iter().flat_map(|area| area.tags).copied()
}

/// Returns the name and the path of what the root links to under the prefix.
pub(crate) fn links() -> impl Iterator<Item = (&'static str, &'static str)> {
    AREAS.iter().flat_map(|area| area.links).copied()
}
