//! Results of searches are cached until the index changes, and their products are current (R15).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::json;
use tokio::task::JoinSet;

use super::ShopFixture;
use super::support::{flat, from, me, until, v};
use crate::clock::{Clock as _, SharedClock};
use crate::config::ShopConfig;
use crate::domain::common::DeleteMode;
use crate::domain::sales::customer::CustomerInput;
use crate::domain::search::language::Language;
use crate::domain::search::query::{Facet, SearchQuery};
use crate::domain::search::rule::SearchRule;
use crate::domain::search::synonyms::Synonym;
use crate::error::{Dependency, Error, Result};
use crate::id::UuidV7Source;
use crate::port::cache::{Cache, CacheKey, CacheValue, Codec, ForwardCache};
use crate::port::search::{Checkpoint, SearchDocument, SearchProvider};
use crate::shop::{Shop, ShopParts};
use crate::testkit::faults::Watched;
use crate::testkit::running::skipped;

tests! {
    __shop_search_cache: [
        r15_a_search_is_cached_until_a_document_changes,
        r15_a_cached_search_returns_current_products,
        r15_a_cached_search_ends_with_a_repair_and_with_a_rebuild,
        r15_a_cached_search_follows_synonyms_rules_and_their_times,
        r15_another_process_searches_the_changed_index_after_the_poll,
        r15_the_version_of_the_index_is_not_read_for_each_search,
        r15_concurrent_searches_ask_the_engine_once,
        r15_a_search_that_is_given_up_leaves_its_load_to_another,
        r15_concurrent_searches_share_an_error_of_the_engine,
        r15_a_search_that_began_before_a_change_is_not_kept,
        r15_a_search_does_without_a_version_that_cannot_be_read,
        a_search_counts_the_facets_that_it_asks_for_and_no_others,
    ]
}

/// The longest poll interval, for a process that learns of nothing by itself in a test.
const NEVER: Duration = Duration::from_secs(60);

/// Returns a query for all products. `n` distinguishes queries.
fn all(n: u32) -> SearchQuery {
    SearchQuery { limit: 100 + n, ..SearchQuery::default() }
}

fn typed(text: &str) -> SearchQuery {
    SearchQuery { text: text.to_owned(), ..SearchQuery::default() }
}

/// Returns the sorted titles that a search finds, and whether it has found them in the cache.
async fn look(shop: &Shop, query: &SearchQuery) -> (Vec<String>, bool) {
    let found = shop.search().search(query).await.unwrap();
    let mut titles: Vec<String> = found.products.iter().map(|p| p.title.clone()).collect();
    titles.sort();
    (titles, found.hit)
}

impl ShopFixture {
    /// Returns whether the shop has a cache.
    pub(super) fn caches(&self) -> bool {
        self.cache().name() != "none"
    }

    /// Returns a shop over another engine, as in another process.
    pub(super) fn over(&self, search: Arc<dyn SearchProvider>, config: ShopConfig) -> Shop {
        let clock: SharedClock = self.clock.clone();
        let ids = Arc::new(UuidV7Source::new(clock.clone()));
        let (storage, cache) = (self.storage.clone(), self.cache());
        Shop::new(ShopParts { cache, clock, ids, config, ..ShopParts::new(storage, search) }).unwrap()
    }
}

fn has(titles: &[&str], hit: bool) -> (Vec<String>, bool) {
    (titles.iter().map(|t| (*t).to_owned()).collect(), hit)
}

/// A change of a document ends all cached results. An event that changes no document ends none.
pub async fn r15_a_search_is_cached_until_a_document_changes(f: &ShopFixture) {
    let cached = f.caches();
    f.plain("Lamp").await;
    f.shop.index().catch_up().await.unwrap();
    assert_eq!(look(&f.shop, &all(0)).await, has(&["Lamp"], false));
    assert_eq!(look(&f.shop, &all(0)).await, has(&["Lamp"], cached));
    assert_eq!(look(&f.shop, &all(1)).await, has(&["Lamp"], false), "another query has a result of its own");
    let rug = f.plain("Rug").await;
    assert_eq!(look(&f.shop, &all(0)).await, has(&["Lamp"], cached), "the index has not changed yet");
    f.shop.index().catch_up().await.unwrap();
    for query in [all(0), all(1)] {
        assert_eq!(look(&f.shop, &query).await, has(&["Lamp", "Rug"], false));
        assert_eq!(look(&f.shop, &query).await, has(&["Lamp", "Rug"], cached));
    }
    let ada = CustomerInput::new("Ada", "Lovelace", "ada@example.com");
    f.shop.acting_as(me()).customers().create(&ada).await.unwrap();
    let report = f.shop.index().catch_up().await.unwrap();
    assert_eq!((report.events, report.written), (1, 0));
    assert_eq!(look(&f.shop, &all(0)).await, has(&["Lamp", "Rug"], cached), "no document has changed");
    f.delete(&rug, DeleteMode::Soft).await.unwrap();
    f.shop.index().catch_up().await.unwrap();
    assert_eq!(look(&f.shop, &all(0)).await, has(&["Lamp"], false));
}

/// Products are loaded for each search, so that a cached result has their current prices, and leaves out deleted ones.
pub async fn r15_a_cached_search_returns_current_products(f: &ShopFixture) {
    let cached = f.caches();
    let lamp = f.plain("Lamp").await;
    let rug = f.plain("Rug").await;
    f.shop.index().catch_up().await.unwrap();
    look(&f.shop, &all(0)).await;
    f.patch(&lamp, json!({ "title": "Lantern" })).await.unwrap();
    f.adjust(rug.skus[0].id, 7).await.unwrap();
    let found = f.shop.search().search(&all(0)).await.unwrap();
    assert_eq!(found.hit, cached);
    let shown = found.products.iter().find(|p| p.id == rug.id).unwrap();
    assert_eq!(shown.skus[0].on_hand, rug.skus[0].on_hand + 7);
    assert_eq!(look(&f.shop, &all(0)).await, has(&["Lantern", "Rug"], cached));
    f.delete(&f.fresh(rug.id).await, DeleteMode::Soft).await.unwrap();
    assert_eq!(look(&f.shop, &all(0)).await, has(&["Lantern"], cached));
}

/// Both leave the position of the index as it is.
pub async fn r15_a_cached_search_ends_with_a_repair_and_with_a_rebuild(f: &ShopFixture) {
    let cached = f.caches();
    let lamp = f.plain("Lamp").await;
    f.plain("Rug").await;
    f.shop.index().catch_up().await.unwrap();
    for (n, repair) in [true, false].into_iter().enumerate() {
        // A document is lost, in a way that nobody learns of.
        let before = f.search.checkpoint().await.unwrap().unwrap();
        let mut build = f.search.begin_rebuild(before.into(), None).await.unwrap();
        build.add(vec![SearchDocument::of(&lamp, &[], Language::English)], lamp.id).await.unwrap();
        build.publish(before).await.unwrap();
        let query = all(u32::try_from(n).unwrap());
        assert_eq!(look(&f.shop, &query).await, has(&["Lamp"], false));
        assert_eq!(look(&f.shop, &query).await, has(&["Lamp"], cached));
        if repair {
            assert_eq!(f.shop.index().verify(true).await.unwrap().missing, 1);
        } else {
            f.shop.index().rebuild().await.unwrap();
        }
        let after = f.search.checkpoint().await.unwrap().unwrap();
        assert_eq!(Checkpoint { version: before.version, ..after }, before, "the position stays");
        assert_eq!(look(&f.shop, &query).await, has(&["Lamp", "Rug"], false));
        assert_eq!(look(&f.shop, &query).await, has(&["Lamp", "Rug"], cached));
    }
}

/// The settings of searches, and the time at which a rule begins, are part of what is cached.
pub async fn r15_a_cached_search_follows_synonyms_rules_and_their_times(f: &ShopFixture) {
    if !f.search.capabilities().full_text || !f.search.capabilities().merchandising {
        return skipped("shop", "search cache", "the search engine lacks full_text or merchandising");
    }
    let cached = f.caches();
    let chair = f.plain("Chair").await;
    f.plain("Sofa").await;
    f.shop.index().catch_up().await.unwrap();
    let query = typed("couch");
    for hit in [false, cached] {
        assert_eq!(look(&f.shop, &query).await, has(&[], hit));
    }
    let settings = f.shop.search_settings();
    settings.replace_synonyms(v(1), vec![Synonym::two_way(["sofa", "couch"])]).await.unwrap();
    for hit in [false, cached] {
        assert_eq!(look(&f.shop, &query).await, has(&["Sofa"], hit));
    }
    let begins = f.clock.now() + chrono::TimeDelta::seconds(60);
    let rule: SearchRule = from(&json!({
        "name": "chairs", "query": "couch", "pin": [chair.id], "starts_at": begins,
        "ends_at": begins + chrono::TimeDelta::seconds(60),
    }));
    settings.replace_rules(v(1), vec![rule]).await.unwrap();
    assert_eq!(look(&f.shop, &query).await.0, ["Sofa"], "the rule has not begun");
    f.clock.advance(Duration::from_secs(61));
    for hit in [false, cached] {
        assert_eq!(look(&f.shop, &query).await, has(&["Chair", "Sofa"], hit), "the rule has begun");
    }
    f.clock.advance(Duration::from_secs(60));
    assert_eq!(look(&f.shop, &query).await.0, ["Sofa"], "the rule has ended");
    settings.replace_synonyms(v(2), Vec::new()).await.unwrap();
    assert_eq!(look(&f.shop, &query).await.0, [""; 0], "without the synonym");
}

/// A process that does not write the index reads its version again after the poll interval.
pub async fn r15_another_process_searches_the_changed_index_after_the_poll(f: &ShopFixture) {
    let config = ShopConfig::default().poll_interval(Duration::from_millis(20));
    let other = f.another(config, f.cache());
    let mut titles = vec!["Lamp 0".to_owned()];
    f.plain("Lamp 0").await;
    f.shop.index().catch_up().await.unwrap();
    for n in 1..4 {
        until("the other process has the result in its cache", async || {
            look(&other, &all(0)).await == (titles.clone(), f.caches())
        })
        .await;
        titles.push(format!("Lamp {n}"));
        f.plain(&titles[n]).await;
        f.shop.index().catch_up().await.unwrap();
        until("the other process finds the new product", async || look(&other, &all(0)).await.0 == titles).await;
    }
}

/// Searches within the poll interval share one read of the version.
pub async fn r15_the_version_of_the_index_is_not_read_for_each_search(f: &ShopFixture) {
    f.plain("Lamp").await;
    f.shop.index().catch_up().await.unwrap();
    let engine = Watched::over(f.search.clone());
    let shop = f.over(engine.clone(), ShopConfig::default().poll_interval(NEVER));
    for _ in 0..40 {
        assert_eq!(look(&shop, &all(0)).await.0, ["Lamp"]);
    }
    let (reads, searches) = (engine.checkpoints.load(Ordering::SeqCst), engine.requests.lock().len());
    if f.caches() {
        // More than one only if the machine stands still for the whole interval.
        assert!((1..10).contains(&reads), "40 searches have read the version {reads} times");
        assert!(searches < 10, "40 equal searches have asked the engine {searches} times");
    } else {
        assert_eq!((reads, searches), (0, 40), "without a cache, nobody needs the version");
    }
}

/// A cache that counts the searches that have looked for their result.
#[derive(Debug)]
struct Counted {
    inner: Arc<dyn Cache>,
    searches: AtomicU64,
}

#[async_trait]
impl ForwardCache for Counted {
    fn inner(&self) -> &dyn Cache {
        &*self.inner
    }
    async fn get(&self, key: &CacheKey, codec: &'static Codec) -> Option<CacheValue> {
        let found = self.inner.get(key, codec).await;
        self.searches.fetch_add(u64::from(matches!(key, CacheKey::Search(_))), Ordering::SeqCst);
        found
    }
}

/// Equal searches that run at the same time, all of which have missed their result in the cache, while the engine holds
/// back the first one.
struct Waiting {
    engine: Arc<Watched>,
    shop: Shop,
    first: tokio::task::JoinHandle<Outcome>,
    others: JoinSet<Outcome>,
}

/// The titles that a search has found, and whether they came from the cache.
type Outcome = Result<(Vec<String>, bool)>;

async fn found(shop: Shop, query: SearchQuery) -> Outcome {
    let found = shop.search().search(&query).await?;
    Ok((found.products.iter().map(|p| p.title.clone()).collect(), found.hit))
}

impl Waiting {
    /// How many searches run besides the first one.
    const OTHERS: u64 = 15;

    /// Begins the searches. `hold` holds the engine back.
    async fn begin(f: &ShopFixture, query: &SearchQuery, hold: impl FnOnce(&Watched)) -> Self {
        let engine = Watched::over(f.search.clone());
        let cache = Arc::new(Counted { inner: f.cache(), searches: AtomicU64::new(0) });
        let config = ShopConfig::default().poll_interval(NEVER).search_timeout(NEVER);
        let shop = Shop::new(ShopParts { cache: cache.clone(), config, search: engine.clone(), ..f.parts() }).unwrap();
        // Reads the settings and the product, so that the searches wait for nothing but the engine.
        look(&shop, &all(900)).await;
        hold(&engine);
        engine.requests.lock().clear();
        cache.searches.store(0, Ordering::SeqCst);
        let search = || found(shop.clone(), query.clone());
        let first = tokio::spawn(search());
        until("the first search asks the engine", async || engine.requests.lock().len() == 1).await;
        let mut others = JoinSet::new();
        for _ in 0..Self::OTHERS {
            others.spawn(search());
        }
        until("all searches have missed", async || {
            let missed = cache.searches.load(Ordering::SeqCst);
            let asked = engine.requests.lock().len();
            if f.caches() { missed > Self::OTHERS } else { asked as u64 > Self::OTHERS }
        })
        .await;
        Self { engine, shop, first, others }
    }

    fn requests(&self) -> usize {
        self.engine.requests.lock().len()
    }
}

/// Searches for the same result wait for the one that asks the engine. None of them has found it in the cache, and the
/// next one does.
pub async fn r15_concurrent_searches_ask_the_engine_once(f: &ShopFixture) {
    f.plain("Lamp").await;
    f.shop.index().catch_up().await.unwrap();
    let mut waiting = Waiting::begin(f, &all(0), Watched::hold).await;
    waiting.engine.release();
    let mut outcomes = vec![(&mut waiting.first).await.unwrap()];
    outcomes.extend(std::mem::take(&mut waiting.others).join_all().await);
    for outcome in outcomes {
        assert_eq!(outcome.unwrap(), has(&["Lamp"], false), "a result that another search has loaded is no hit");
    }
    assert_eq!(waiting.requests(), if f.caches() { 1 } else { 16 });
    assert_eq!(look(&waiting.shop, &all(0)).await, has(&["Lamp"], f.caches()));
}

/// If the search that asks the engine is given up, one of those that wait asks it in its place.
pub async fn r15_a_search_that_is_given_up_leaves_its_load_to_another(f: &ShopFixture) {
    f.plain("Lamp").await;
    f.shop.index().catch_up().await.unwrap();
    let mut waiting = Waiting::begin(f, &all(0), Watched::hold).await;
    waiting.first.abort();
    assert!((&mut waiting.first).await.unwrap_err().is_cancelled());
    if f.caches() {
        until("another search asks the engine", async || waiting.requests() == 2).await;
    }
    waiting.engine.release();
    for outcome in std::mem::take(&mut waiting.others).join_all().await {
        assert_eq!(outcome.unwrap(), has(&["Lamp"], false));
    }
    assert_eq!(waiting.requests(), if f.caches() { 2 } else { 16 });
}

/// Searches that wait for a load share its error, which is not kept.
pub async fn r15_concurrent_searches_share_an_error_of_the_engine(f: &ShopFixture) {
    f.plain("Lamp").await;
    f.shop.index().catch_up().await.unwrap();
    let fails = |engine: &Watched| {
        engine.refuses_searches.store(true, Ordering::SeqCst);
        engine.hangs.store(true, Ordering::SeqCst);
    };
    let mut waiting = Waiting::begin(f, &all(0), fails).await;
    waiting.engine.hangs.store(false, Ordering::SeqCst);
    let mut outcomes = vec![(&mut waiting.first).await.unwrap()];
    outcomes.extend(std::mem::take(&mut waiting.others).join_all().await);
    for outcome in outcomes {
        let error = outcome.unwrap_err();
        assert!(matches!(error, Error::Unavailable { dependency: Dependency::Search, .. }), "{error:?}");
    }
    assert_eq!(waiting.requests(), if f.caches() { 1 } else { 16 });
    waiting.engine.refuses_searches.store(false, Ordering::SeqCst);
    // A shop of its own, whose circuit does not know of the error.
    let shop = f.over(waiting.engine.clone(), ShopConfig::default());
    assert_eq!(look(&shop, &all(0)).await, has(&["Lamp"], false), "an error is not cached");
}

/// The engine answers with the old index while the index changes, in the same process and in another one.
pub async fn r15_a_search_that_began_before_a_change_is_not_kept(f: &ShopFixture) {
    let mut titles = vec!["Lamp 0".to_owned()];
    f.plain("Lamp 0").await;
    f.shop.index().catch_up().await.unwrap();
    // Each round has a query of its own, because a shared cache keeps the result of the round before.
    for (n, own) in [(1, true), (2, false)] {
        let round = u32::try_from(n).unwrap();
        let engine = Watched::held(f.search.clone());
        let shop = f.over(engine.clone(), ShopConfig::default().poll_interval(NEVER));
        let slow = tokio::spawn({
            let shop = shop.clone();
            async move { look(&shop, &all(round)).await.0 }
        });
        until("the engine has searched the old index", async || engine.requests.lock().len() == 1).await;
        let old = titles.clone();
        titles.push(format!("Lamp {n}"));
        let recording = f.shop.recording();
        recording.products().create(&flat(&titles[n])).await.unwrap();
        if own {
            shop.index().catch_up().await.unwrap();
        } else {
            f.shop.index().catch_up().await.unwrap();
            shop.search().wait_for(recording.last_event().unwrap(), NEVER).await.unwrap();
        }
        engine.release();
        assert_eq!(look(&shop, &all(round)).await.0, titles, "a later search must not join the old one");
        assert_eq!(slow.await.unwrap(), old);
        assert_eq!(look(&shop, &all(round)).await, (titles.clone(), f.caches()), "the old result must not be kept");
    }
}

/// The search then goes to the engine each time.
pub async fn r15_a_search_does_without_a_version_that_cannot_be_read(f: &ShopFixture) {
    f.plain("Lamp").await;
    f.shop.index().catch_up().await.unwrap();
    let engine = Watched::over(f.search.clone());
    let shop = f.over(engine.clone(), ShopConfig::default());
    engine.refuses_checkpoints.store(true, Ordering::SeqCst);
    for _ in 0..2 {
        assert_eq!(look(&shop, &all(0)).await, has(&["Lamp"], false));
    }
    f.plain("Rug").await;
    f.shop.index().catch_up().await.unwrap();
    assert_eq!(look(&shop, &all(0)).await, has(&["Lamp", "Rug"], false));
}

/// The engine gets the facets that the caller has asked for, and none for a search without facets and for related
/// products. Suggestions count brands, which they return.
pub async fn a_search_counts_the_facets_that_it_asks_for_and_no_others(f: &ShopFixture) {
    let can = f.search.capabilities();
    if !can.full_text || !can.facets {
        return skipped("shop", "search cache", "the search engine lacks full_text or facets");
    }
    let lamp = f.product(json!({ "title": "Lamp", "price": 5, "brand": "Lumen", "tags": ["brass"] })).await;
    f.shop.index().catch_up().await.unwrap();
    let engine = Watched::over(f.search.clone());
    let shop = f.over(engine.clone(), ShopConfig::default());
    let asked = || -> Vec<Vec<Facet>> {
        let requests = std::mem::take(&mut *engine.requests.lock());
        requests.iter().map(|request| request.query().facets.clone()).collect()
    };
    let found = shop.search().search(&typed("lamp")).await.unwrap();
    assert_eq!((found.facets, asked()), (Vec::new(), vec![Vec::new()]));
    let query = SearchQuery { facets: vec![Facet::Tags], ..typed("lamp") };
    let found = shop.search().search(&query).await.unwrap();
    assert_eq!((found.facets.len(), asked()), (1, vec![vec![Facet::Tags]]));
    shop.search().related(lamp.id, 5).await.unwrap();
    assert!(asked().iter().all(Vec::is_empty));
    shop.search().suggest("la", 5).await.unwrap();
    assert_eq!(asked(), [[Facet::Brands]]);
}
