//! The routes. Each area lists its own, with one file per aggregate.

mod access;
#[cfg(feature = "admin")]
pub(crate) mod admin;
mod catalog;
pub(crate) mod docs;
mod health;
mod platform;
mod sales;
mod search;
mod stock;

use ecom_core::ErrorCode;
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
    /// The tags of its operations.
    tags: &'static [Tag],
    /// The names and paths of the links at the root.
    links: &'static [(&'static str, &'static str)],
}

/// A tag of the documentation, which the operations on one resource have.
pub(crate) struct Tag {
    /// The name.
    pub name: &'static str,
    /// A description for people.
    pub text: &'static str,
    /// The conflicts (409) that writes of the resource can have, beside those that all writes can have.
    pub conflicts: &'static [ErrorCode],
}

/// All areas, in the order of the documentation.
const AREAS: [&Area; 6] = [&catalog::AREA, &stock::AREA, &sales::AREA, &search::AREA, &access::AREA, &platform::AREA];

/// Returns all routes under the API prefix.
pub(crate) fn api() -> Routes {
    AREAS.iter().flat_map(|area| (area.routes)()).collect()
}

/// Returns the tags of all operations under the API prefix.
pub(crate) fn tags() -> impl Iterator<Item = &'static Tag> {
    AREAS.iter().flat_map(|area| area.tags)
}

/// Returns the names and paths of the links from the root to routes under the API prefix.
pub(crate) fn links() -> impl Iterator<Item = (&'static str, &'static str)> {
    AREAS.iter().flat_map(|area| area.links).copied()
}
