//! The routes. Each area lists its own, with one file per aggregate.

mod access;
#[cfg(feature = "admin")]
pub(crate) mod admin;
pub(crate) mod catalog;
pub(crate) mod docs;
mod group;
mod health;
#[cfg(feature = "metrics")]
mod metrics;
mod platform;
mod sales;
mod search;
mod stock;

use std::sync::Arc;

use ecom_core::ErrorCode;
use utoipa_axum::router::UtoipaMethodRouter;
use utoipa_axum::routes;

pub use self::group::{RouteGroup, UnknownRouteGroup};
#[cfg(feature = "metrics")]
use crate::MetricsAccess;
use crate::app::{App, HttpConfig, Routes};

/// Returns the routes of health and of metrics, and that of the links at the root.
#[cfg_attr(not(feature = "metrics"), expect(unused_variables, unused_mut, reason = "no metrics"))]
pub(crate) fn operational(config: &HttpConfig) -> Routes {
    let mut all = vec![routes!(docs::root), routes!(health::health), routes!(health::live), routes!(health::ready)];
    #[cfg(feature = "metrics")]
    match config.metrics {
        MetricsAccess::Off => {}
        MetricsAccess::Restricted => all.push(routes!(metrics::metrics)),
        MetricsAccess::Open => all.push(routes!(metrics::open_metrics)),
    }
    all
}

/// The routes of an area under the API prefix, with their documentation.
pub(crate) struct Area {
    /// The group of all of its routes.
    group: RouteGroup,
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

/// Returns the routes under the API prefix that belong to one of these groups.
pub(crate) fn api(groups: &[RouteGroup]) -> Routes {
    let mut all = Vec::new();
    for area in AREAS {
        all.extend((area.routes)().into_iter().filter(|routes| area.is_in(groups, tag_of(routes))));
    }
    all
}

impl Area {
    /// Returns true if one of the groups contains the routes of this area that have this tag.
    fn is_in(&self, groups: &[RouteGroup], tag: &str) -> bool {
        groups.iter().any(|group| *group == self.group || group.name() == tag)
    }
}

/// Returns the tag of the operations on one path.
fn tag_of((_, paths, _): &UtoipaMethodRouter<Arc<App>>) -> &str {
    let operations =
        paths.paths.values().flat_map(|item| [&item.get, &item.post, &item.put, &item.patch, &item.delete]);
    let mut tags = operations.flatten().flat_map(|operation| operation.tags.iter().flatten());
    tags.next().map_or("", String::as_str)
}

/// Returns the tags of all operations under the API prefix.
pub(crate) fn tags() -> impl Iterator<Item = &'static Tag> {
    AREAS.iter().flat_map(|area| area.tags)
}

/// Returns the tags of the operations that belong to one of these groups.
pub(crate) fn tags_in(groups: &[RouteGroup]) -> Vec<&'static Tag> {
    AREAS.iter().flat_map(|area| area.tags.iter().filter(move |tag| area.is_in(groups, tag.name))).collect()
}

/// Returns the names and paths of the links from the root to routes under the API prefix.
pub(crate) fn links() -> impl Iterator<Item = (&'static str, &'static str)> {
    AREAS.iter().flat_map(|area| area.links).copied()
}
