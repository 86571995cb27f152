//! The contract of [`SearchProvider`], one file per topic.
//!
//! The capabilities of a provider decide what a test asks of it. A provider refuses what it lacks with `UNSUPPORTED`.

mod documents;
mod facets;
mod filters;
mod rebuild;
mod results;
mod support;
mod text;

use std::any::Any;
use std::sync::Arc;

use crate::port::search::SearchProvider;

suite! {
    /// Runs the suite of [`SearchProvider`]. Takes the path of an
    /// `async fn() -> (Arc<dyn SearchProvider>, Box<dyn Any + Send>)` that makes a fresh, empty provider and what must
    /// outlive it; see [`testkit`](crate::testkit).
    search_suite, search: fixture => &*fixture.0, {
        results: __search_results,
        text: __search_text,
        filters: __search_filters,
        facets: __search_facets,
        documents: __search_documents,
        rebuild: __search_rebuild,
    }
}

/// A provider as a factory of the suite returns it.
pub type Fixture = (Arc<dyn SearchProvider>, Box<dyn Any + Send>);
