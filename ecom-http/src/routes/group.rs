//! Groups of routes, which a router can leave out.

use std::fmt;
use std::str::FromStr;

use super::AREAS;

/// A group of routes under the API prefix, which [`HttpConfig::route_groups`](crate::HttpConfig::route_groups) mounts.
///
/// A group is an area of the shop, such as [`RouteGroup::SALES`], or one resource of an area, such as `orders`. The
/// names of resources are the tags of the OpenAPI document. A name is parsed ([`FromStr`]), and [`RouteGroup::all`]
/// lists all groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RouteGroup(&'static str);

impl RouteGroup {
    /// The catalog: products, SKUs, categories, reviews and imports.
    pub const CATALOG: Self = Self("catalog");
    /// Stock and its ledger.
    pub const STOCK: Self = Self("stock");
    /// Customers, carts, orders and bills.
    pub const SALES: Self = Self("sales");
    /// Searches, suggestions and their settings.
    pub const SEARCH: Self = Self("search");
    /// Logins, users, roles and API keys.
    pub const ACCESS: Self = Self("access");
    /// Operations, live events, webhooks and analytics.
    pub const PLATFORM: Self = Self("platform");

    /// The groups that are areas. Together they contain all routes.
    pub const AREAS: [Self; 6] = [Self::CATALOG, Self::STOCK, Self::SALES, Self::SEARCH, Self::ACCESS, Self::PLATFORM];

    /// Returns every group: the areas, and then the resources of all areas.
    pub fn all() -> Vec<Self> {
        // The name of a group has no space. An area that has the name of one of its resources contains it.
        let tags = AREAS.iter().flat_map(|area| area.tags).map(|tag| Self(tag.name));
        let resources = tags.filter(|group| !group.0.contains(' ') && !Self::AREAS.contains(group));
        Self::AREAS.into_iter().chain(resources).collect()
    }

    /// Returns the name.
    pub const fn name(self) -> &'static str {
        self.0
    }
}

impl fmt::Display for RouteGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl FromStr for RouteGroup {
    type Err = UnknownRouteGroup;

    fn from_str(name: &str) -> Result<Self, UnknownRouteGroup> {
        Self::all().into_iter().find(|group| group.0 == name).ok_or(UnknownRouteGroup)
    }
}

/// The error for a text that is not the name of a [`RouteGroup`]. Its message lists the names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownRouteGroup;

impl fmt::Display for UnknownRouteGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = RouteGroup::all().into_iter().map(RouteGroup::name).collect();
        write!(f, "must be the name of a group of routes, which are {}", names.join(", "))
    }
}

impl std::error::Error for UnknownRouteGroup {}
