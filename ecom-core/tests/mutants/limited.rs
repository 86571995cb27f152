//! Search engines that can do less than the reference, and say so: the suite takes them as they are.

use std::panic::catch_unwind;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use ecom_core::port::{ForwardSearch, SearchCapabilities, SearchProvider, SearchResults};
use ecom_core::search::SearchRequest;
use ecom_core::testkit::{SearchFixture, run_within};
use ecom_core::{Error, Result};

use crate::search::search_fixture;
use crate::search_mutants::SearchMutant;

/// A provider with fewer capabilities, which refuses what it lacks.
#[derive(Debug)]
struct Limited {
    inner: Arc<dyn SearchProvider>,
    able: SearchCapabilities,
}

#[async_trait]
impl ForwardSearch for Limited {
    fn inner(&self) -> &dyn SearchProvider {
        &*self.inner
    }

    fn capabilities(&self) -> SearchCapabilities {
        self.able
    }

    async fn search(&self, request: &SearchRequest) -> Result<SearchResults> {
        let query = request.query();
        let lacks = |capability| Err(Error::Unsupported { provider: "limited", capability });
        if !self.able.full_text && request.has_text() {
            return lacks("full_text");
        }
        if !self.able.facets && !query.facets.is_empty() {
            return lacks("facets");
        }
        if !self.able.attribute_filters && !query.filter.attributes.is_empty() {
            return lacks("attribute_filters");
        }
        if !self.able.merchandising && request.has_merchandising() {
            return lacks("merchandising");
        }
        self.inner.search(request).await
    }
}

fn limited(able: SearchCapabilities, mutant: Option<SearchMutant>) -> SearchFixture {
    SearchFixture::new(Limited { inner: search_fixture(mutant).provider, able }, ())
}

fn passes(make: fn() -> SearchFixture) {
    for test in crate::search_tests() {
        run_within(Duration::from_secs(20), test.name, move || async move { (test.run)(make()).await });
    }
}

#[test]
fn a_search_engine_without_any_capability_passes() {
    passes(|| limited(SearchCapabilities::default(), None));
}

#[test]
fn a_search_engine_whose_facets_take_their_own_filter_passes_if_it_says_so() {
    passes(|| {
        let mut able = SearchCapabilities::default();
        able.full_text = true;
        able.facets = true;
        able.attribute_filters = true;
        limited(able, Some(SearchMutant::FacetsTakeTheirOwnFilter))
    });
}

#[test]
fn a_fixture_that_does_not_say_how_to_reopen_is_told_so() {
    let tests = crate::search_tests();
    let test = *tests.iter().find(|t| t.name == "r14_what_was_applied_is_there_after_reopening").expect("a test");
    let make = || {
        let mut able = SearchCapabilities::default();
        able.own_checkpoint = true;
        limited(able, None)
    };
    let run = || run_within(Duration::from_secs(20), test.name, move || async move { (test.run)(make()).await });
    let panic = catch_unwind(run).expect_err("the fixture is refused");
    let message = panic.downcast::<String>().expect("a message");
    assert!(message.contains("`.reopen_with(…)`") && message.contains("`.in_memory()`"), "{message}");
}
