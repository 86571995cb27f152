//! The routes of searches.

mod at_least;
mod query;
mod settings;
mod suggest;

use utoipa_axum::routes;

use super::{Area, RouteGroup, Tag};
use crate::app::Routes;

/// Search, as an area of the API.
pub(super) const AREA: Area = Area {
    group: RouteGroup::SEARCH,
    routes,
    tags: &[
        Tag { name: "search", text: "Full-text search of products, with filters and facets", conflicts: &[] },
        Tag {
            name: "search settings",
            text: "Search settings that can be changed at run time: synonyms, and rules that pin, hide and boost products",
            conflicts: &[],
        },
    ],
    links: &[
        ("search", "/products/search"),
        ("suggest", "/products/suggest"),
        ("search_synonyms", "/search/synonyms"),
        ("search_rules", "/search/rules"),
    ],
};

fn routes() -> Routes {
    vec![
        routes!(query::search),
        routes!(suggest::suggest),
        routes!(suggest::related),
        routes!(settings::synonyms, settings::replace_synonyms),
        routes!(settings::rules, settings::replace_rules),
    ]
}
