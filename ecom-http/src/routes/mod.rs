//! The routes. Each area lists its own, with one file per aggregate.

mod catalog;
pub(crate) mod docs;
mod health;
mod platform;
mod sales;
mod search;
mod stock;

use utoipa_axum::routes;

use crate::app::Routes;

/// Returns the routes of health and of the links at the root.
pub(crate) fn operational() -> Routes {
    vec![routes!(docs::root), routes!(health::health), routes!(health::live), routes!(health::ready)]
}

/// The routes of an area under the API prefix, with their documentation.
pub(crate) struct Area {
    /// Returns the routes of the area.
    routes: fn() -> Routes,
    /// The tags of its operations, each with a description.
    tags: &'static [(&'static str, &'static str)],
    /// The names and paths of the links at the root.
    links: &'static [(&'static str, &'static str)],
}

/// All areas, in the order of the documentation.
const AREAS: [&Area; 5] = [&catalog::AREA, &stock::AREA, &sales::AREA, &search::AREA, &platform::AREA];

/// Returns all routes under the API prefix.
pub(crate) fn api() -> Routes {
    AREAS.iter().flat_map(|area| (area.routes)()).collect()
}

/// Returns the tags of all operations under the API prefix, each with a description.
pub(crate) fn tags() -> impl Iterator<Item = (&'static str, &'static str)> {
    AREAS.iter().flat_map(|area| area.tags).copied()
}

/// Returns the names and paths of the links from the root to routes under the API prefix.
pub(crate) fn links() -> impl Iterator<Item = (&'static str, &'static str)> {
    AREAS.iter().flat_map(|area| area.links).copied()
}
