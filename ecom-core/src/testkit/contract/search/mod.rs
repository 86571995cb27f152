//! The contract of [`SearchProvider`], one file per topic.
//!
//! The tests use only the capabilities of a provider. It refuses queries that need another capability with
//! `UNSUPPORTED`, and the tests of that capability are reported as skipped. All queries are within the bounds of
//! [`SearchQuery::check`](crate::search::SearchQuery::check).

mod bounds;
mod documents;
mod durability;
mod facets;
mod filters;
mod fixture;
mod freshness;
mod merchandising;
mod rebuild;
mod results;
mod support;
mod text;

pub use self::fixture::SearchFixture;

suite! {
    /// Runs the suite of [`SearchProvider`](crate::port::SearchProvider). Takes the path of an
    /// `async fn() -> SearchFixture` that makes a new, empty provider; see [`testkit`](crate::testkit).
    search_suite, search: fixture => fixture, {
        results: __search_results,
        bounds: __search_bounds,
        text: __search_text,
        filters: __search_filters,
        facets: __search_facets,
        merchandising: __search_merchandising,
        documents: __search_documents,
        rebuild: __search_rebuild,
        freshness: __search_freshness,
        durability: __search_durability,
    }
}
