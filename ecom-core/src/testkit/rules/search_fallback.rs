//! A shop whose search engine is down: searches come from the fallback, or fail at once, and both indices converge
//! (R14).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::ShopFixture;
use super::support::{flat, me, until};
use crate::config::ShopConfig;
use crate::domain::platform::job::JobState;
use crate::domain::search::query::{Facet, SearchQuery};
use crate::error::{Dependency, Error, ErrorCode};
use crate::id::UuidV7Source;
use crate::port::search::SearchProvider as _;
use crate::service::catalog::product::ProductListQuery;
use crate::shop::{Shop, ShopParts};
use crate::testkit::code_of;
use crate::testkit::faults::{ListIndex, Watched};
use crate::testkit::running::skipped;

tests! {
    __shop_search_fallback: [
        r14_the_fallback_answers_while_the_engine_is_down,
        r14_the_engine_is_used_again_once_it_has_everything,
        r14_both_indices_converge_after_an_outage,
        r14_jobs_work_on_both_indices,
        a_search_that_waits_finds_the_write_in_the_index_that_answers,
        an_engine_that_hangs_costs_few_searches_their_time_limit,
        a_search_without_a_fallback_fails_at_once_and_says_when_to_try_again,
        r15_the_results_of_the_indices_are_cached_apart,
        a_fallback_that_is_not_built_answers_nothing,
        a_fallback_that_lacks_a_capability_fails_clearly,
        the_health_shows_both_engines,
    ]
}

const LIMIT: Duration = Duration::from_secs(40);

/// A shop with an engine that a test can break, and a fallback.
struct Two {
    shop: Shop,
    engine: Arc<Watched>,
    fallback: ListIndex,
}

impl ShopFixture {
    /// Returns a shop with two indices, as in another process. It polls often.
    fn two(&self, config: ShopConfig) -> Two {
        let (engine, fallback) = (Watched::over(self.search.clone()), ListIndex::default());
        let config = config.poll_interval(Duration::from_millis(10));
        let shop = self.standing_in(engine.clone(), Some(fallback.clone()), config);
        Two { shop, engine, fallback }
    }

    fn standing_in(&self, engine: Arc<Watched>, fallback: Option<ListIndex>, config: ShopConfig) -> Shop {
        let clock: crate::clock::SharedClock = self.clock.clone();
        let ids = Arc::new(UuidV7Source::new(clock.clone()));
        let search_fallback = fallback.map(|fallback| Arc::new(fallback) as _);
        let parts = ShopParts::new(self.storage.clone(), engine);
        Shop::new(ShopParts { search_fallback, cache: self.cache(), clock, ids, config, ..parts }).unwrap()
    }
}

impl Two {
    fn down(&self, is_down: bool) {
        self.engine.is_down.store(is_down, Ordering::SeqCst);
    }

    async fn create(&self, title: &str) {
        self.shop.acting_as(me()).products().create(&flat(title)).await.unwrap();
    }

    /// Brings the indices that are up into step with the database.
    async fn catch_up(&self) {
        let done = self.shop.index().catch_up().await;
        assert_eq!(done.is_err(), self.engine.is_down.load(Ordering::SeqCst), "{done:?}");
    }

    /// Lets the shop notice that the engine is down.
    async fn outage(&self) {
        self.down(true);
        // Until the version of the index is too old, results come from the cache.
        let before = by_fallback(&self.shop).await;
        until("the fallback answers", async || {
            self.titles().await;
            by_fallback(&self.shop).await > before + 4
        })
        .await;
    }

    async fn titles(&self) -> Vec<String> {
        titles(&self.shop).await
    }

    /// The number of searches that the engine was asked for.
    fn asked(&self) -> usize {
        self.engine.requests.lock().len()
    }
}

fn all() -> SearchQuery {
    SearchQuery { limit: 100, ..SearchQuery::default() }
}

async fn titles(shop: &Shop) -> Vec<String> {
    super::support::titles(shop.search().search(&all()).await.unwrap().products.iter().map(|p| &***p))
}

async fn by_fallback(shop: &Shop) -> u64 {
    shop.health(LIMIT).await.searches_by_fallback
}

/// It has the writes of the outage too, and the shop goes on to sell.
pub async fn r14_the_fallback_answers_while_the_engine_is_down(f: &ShopFixture) {
    let two = f.two(ShopConfig::default());
    two.create("Lamp").await;
    two.catch_up().await;
    assert_eq!((two.titles().await, by_fallback(&two.shop).await), (vec!["Lamp".to_owned()], 0));
    two.down(true);
    two.create("Rug").await;
    two.catch_up().await;
    until("the result of the engine is not known any more", async || two.titles().await == ["Lamp", "Rug"]).await;
    let before = by_fallback(&two.shop).await;
    for n in 1..10 {
        let found = (two.titles().await, by_fallback(&two.shop).await);
        assert_eq!(found, (vec!["Lamp".to_owned(), "Rug".to_owned()], before + n));
    }
    let listed = f.shop.products().list(&ProductListQuery::default()).await.unwrap();
    assert_eq!(listed.value.page.items.len(), 2, "lists do not need the engine");
}

/// An engine that is back and lacks the writes of the outage is not asked.
pub async fn r14_the_engine_is_used_again_once_it_has_everything(f: &ShopFixture) {
    let two = f.two(ShopConfig::default());
    two.create("Lamp").await;
    two.catch_up().await;
    two.outage().await;
    two.create("Rug").await;
    two.catch_up().await;
    let both = ["Lamp", "Rug"];
    assert_eq!(two.titles().await, both);
    // The engine answers again, but nothing has brought its index up to date.
    two.down(false);
    let (asked, read) = (two.asked(), two.engine.checkpoints.load(Ordering::SeqCst));
    until("the shop tries the engine", async || {
        assert_eq!(two.titles().await, both);
        two.engine.checkpoints.load(Ordering::SeqCst) > read
    })
    .await;
    assert_eq!(two.asked(), asked, "an engine that is behind is not asked");
    two.catch_up().await;
    let seen = by_fallback(&two.shop).await;
    until("the engine is asked again", async || {
        assert_eq!(two.titles().await, both);
        two.asked() > asked
    })
    .await;
    let seen = by_fallback(&two.shop).await.max(seen);
    for _ in 0..5 {
        assert_eq!(two.titles().await, both);
    }
    assert_eq!(by_fallback(&two.shop).await, seen, "the fallback is not asked any more");
    assert!(two.shop.index().verify(false).await.unwrap().is_clean());
}

/// With no person acting.
pub async fn r14_both_indices_converge_after_an_outage(f: &ShopFixture) {
    let two = f.two(ShopConfig::default());
    let background = two.shop.start();
    two.create("Lamp 0").await;
    let revisions = async |of: &dyn crate::port::search::SearchProvider| of.revisions(None, 100).await.unwrap();
    let converged = async |n: usize| {
        let (main, fallback) = (revisions(&*f.search).await, revisions(&two.fallback).await);
        main.len() == n && main == fallback
    };
    until("both indices have the product", async || converged(1).await).await;
    for n in 1..4 {
        two.outage().await;
        two.create(&format!("Lamp {n}")).await;
        until("the fallback follows alone", async || revisions(&two.fallback).await.len() == n + 1).await;
        assert_eq!(revisions(&*f.search).await.len(), n);
        assert_eq!(two.titles().await.len(), n + 1);
        two.down(false);
        until("both indices have the product", async || converged(n + 1).await).await;
        assert_eq!(two.titles().await.len(), n + 1);
    }
    background.shutdown().await;
    assert!(two.shop.index().verify(false).await.unwrap().is_clean());
}

/// Their counters add up both.
pub async fn r14_jobs_work_on_both_indices(f: &ShopFixture) {
    let two = f.two(ShopConfig::default());
    two.create("Lamp").await;
    two.catch_up().await;
    let job = two.shop.jobs().enqueue_reindex().await.unwrap();
    let check = two.shop.jobs().enqueue_verify(true).await.unwrap();
    let background = two.shop.start();
    for (id, counter) in [(job.id, "written"), (check.id, "compared")] {
        until("the job ends", async || two.shop.jobs().get(id).await.unwrap().finished_at.is_some()).await;
        let done = two.shop.jobs().get(id).await.unwrap();
        assert_eq!((done.state, done.counters[counter]), (JobState::Succeeded, 2), "{done:?}");
    }
    background.shutdown().await;
    let (main, fallback) =
        (f.search.revisions(None, 10).await.unwrap(), two.fallback.revisions(None, 10).await.unwrap());
    assert_eq!((main.len(), main), (1, fallback));
}

/// A later search does not go to an index that is behind, either.
pub async fn a_search_that_waits_finds_the_write_in_the_index_that_answers(f: &ShopFixture) {
    let two = f.two(ShopConfig::default());
    two.create("Lamp").await;
    two.catch_up().await;
    let background = two.shop.start();
    let mut expected = vec!["Lamp".to_owned()];
    for (n, is_noticed) in [(1, false), (2, true), (3, false)] {
        two.engine.refuses_changes.store(true, Ordering::SeqCst);
        if is_noticed {
            two.outage().await;
        }
        two.down(true);
        expected.push(format!("Rug {n}"));
        let recording = two.shop.recording();
        recording.acting_as(me()).products().create(&flat(&expected[n])).await.unwrap();
        two.shop.search().wait_for(recording.last_event().unwrap(), LIMIT).await.unwrap();
        assert_eq!(two.titles().await, expected);
        // The engine answers, and its index cannot follow.
        two.down(false);
        let read = two.engine.checkpoints.load(Ordering::SeqCst);
        until("the shop tries the engine", async || {
            assert_eq!(two.titles().await, expected);
            two.engine.checkpoints.load(Ordering::SeqCst) > read + 3
        })
        .await;
        two.engine.refuses_changes.store(false, Ordering::SeqCst);
        let asked = two.asked();
        until("the engine is asked again", async || {
            assert_eq!(two.titles().await, expected);
            two.asked() > asked
        })
        .await;
    }
    background.shutdown().await;
}

/// After a few searches, the engine is only tried now and then.
pub async fn an_engine_that_hangs_costs_few_searches_their_time_limit(f: &ShopFixture) {
    let two = f.two(ShopConfig::default().search_timeout(Duration::from_millis(400)));
    two.create("Lamp").await;
    two.shop.index().catch_up().await.unwrap();
    two.engine.hangs.store(true, Ordering::SeqCst);
    let before = two.engine.calls.load(Ordering::SeqCst);
    for _ in 0..200 {
        assert_eq!(two.titles().await, ["Lamp"]);
    }
    let asked = two.engine.calls.load(Ordering::SeqCst) - before;
    assert!((1..100).contains(&asked), "200 searches have called an engine that hangs {asked} times");
    two.engine.hangs.store(false, Ordering::SeqCst);
    let asked = two.asked();
    until("the engine is asked again", async || {
        assert_eq!(two.titles().await, ["Lamp"]);
        two.asked() > asked
    })
    .await;
}

/// Nobody waits for an engine that is known to be down.
pub async fn a_search_without_a_fallback_fails_at_once_and_says_when_to_try_again(f: &ShopFixture) {
    f.plain("Lamp").await;
    f.shop.index().catch_up().await.unwrap();
    let engine = Watched::over(f.search.clone());
    let shop = f.standing_in(engine.clone(), None, ShopConfig::default());
    engine.is_down.store(true, Ordering::SeqCst);
    let mut rested = 0;
    for _ in 0..100 {
        let error = shop.search().search(&all()).await.unwrap_err();
        assert!(matches!(error, Error::Unavailable { dependency: Dependency::Search, .. }), "{error:?}");
        rested += u64::from(error.retry_after().is_some());
    }
    let asked = engine.requests.lock().len();
    assert!((3..50).contains(&asked), "100 searches have asked an engine that is down {asked} times");
    assert_eq!(rested, 100 - asked as u64, "the others say when to try again");
    assert!(shop.search().suggest("lam", 3).await.is_err());
    engine.is_down.store(false, Ordering::SeqCst);
    until("the engine answers again", async || shop.search().search(&all()).await.is_ok()).await;
    assert_eq!(titles(&shop).await, ["Lamp"]);
}

/// An answer of one index is never returned for the other.
pub async fn r15_the_results_of_the_indices_are_cached_apart(f: &ShopFixture) {
    let two = f.two(ShopConfig::default());
    two.create("Lamp").await;
    two.catch_up().await;
    let look = async || {
        let found = two.shop.search().search(&all()).await.unwrap();
        (found.products.len(), found.hit)
    };
    for hit in [false, f.caches()] {
        assert_eq!(look().await, (1, hit));
    }
    two.outage().await;
    two.create("Rug").await;
    two.catch_up().await;
    for hit in [false, f.caches()] {
        assert_eq!(look().await, (2, hit), "the fallback has another result");
    }
    let other = SearchQuery { limit: 99, ..all() };
    assert!(!two.shop.search().search(&other).await.unwrap().hit, "it has no result of another query");
}

/// An index that lacks everything is worse than none.
pub async fn a_fallback_that_is_not_built_answers_nothing(f: &ShopFixture) {
    f.plain("Lamp").await;
    f.shop.index().catch_up().await.unwrap();
    let two = f.two(ShopConfig::default());
    two.down(true);
    for _ in 0..5 {
        assert_eq!(code_of(two.shop.search().search(&all()).await, "no index can answer"), ErrorCode::Unavailable);
    }
    two.catch_up().await;
    assert_eq!(two.titles().await, ["Lamp"]);
}

/// The answer is not silently another one.
pub async fn a_fallback_that_lacks_a_capability_fails_clearly(f: &ShopFixture) {
    if !f.search.capabilities().facets {
        return skipped("shop", "search fallback", "the search engine lacks facets");
    }
    let two = f.two(ShopConfig::default());
    two.create("Lamp").await;
    two.catch_up().await;
    let query = SearchQuery { facets: vec![Facet::Tags], ..all() };
    assert!(two.shop.search().search(&query).await.is_ok());
    two.outage().await;
    let query = SearchQuery { facets: vec![Facet::Brands], ..all() };
    assert_eq!(code_of(two.shop.search().search(&query).await, "no facets"), ErrorCode::Unsupported);
    assert_eq!(two.titles().await, ["Lamp"]);
}

/// A shop with a fallback is degraded while its engine is down.
pub async fn the_health_shows_both_engines(f: &ShopFixture) {
    let two = f.two(ShopConfig::default());
    let up = async || {
        let health = two.shop.health(LIMIT).await;
        let search = |d: &&crate::health::DependencyHealth| {
            matches!(d.dependency, Dependency::Search | Dependency::SearchFallback)
        };
        let up: Vec<bool> = health.dependencies.iter().filter(search).map(|d| d.up).collect();
        (up, health.can_serve(), health.is_whole())
    };
    assert_eq!(up().await, (vec![true, true], true, true));
    two.down(true);
    assert_eq!(up().await, (vec![false, true], true, false));
    two.down(false);
    assert_eq!(up().await, (vec![true, true], true, true));
}
