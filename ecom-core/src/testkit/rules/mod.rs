//! What a [`Shop`] does over any set of adapters: the rules of the services.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::clock::{Clock as _, ManualClock, SharedClock};
use crate::config::ShopConfig;
use crate::domain::{
    Actor, Attributes, Category, CategoryInput, CategoryPatch, DeleteMode, Deleted, Event, EventKind, OutboxPosition,
    Patch, Product, ProductFilter, ProductInput, ProductPatch, ProductSort, Read, Sku, SkuInput, SkuPatch, StockReason,
};
use crate::error::{Conflict, Entity, Error, ErrorCode, FieldCode, Result};
use crate::id::{CategoryId, ProductId, SkuId, UuidV7Source};
use crate::paging::{Paging, Total};
use crate::port::{
    Cache, CacheKey, CacheStats, CacheValue, CategoryFilter, Codec, FillToken, IndexOp, SearchDocument, SearchFilter,
    SearchProvider, SearchQuery, Storage,
};
use crate::service::{ProductListQuery, StockAdjustment};
use crate::shop::{Shop, ShopParts};
use crate::testkit::faults::{Failure, Fault, Instructed, Recorder, SharedIndex, Unsteady, Word};
use crate::testkit::{code_of, duplicate_field, fresh_seed};

/// Runs the suite of a [`Shop`]. Takes the path of an `async fn() -> ShopFixture`; see
/// [`testkit`](crate::testkit).
#[macro_export]
macro_rules! shop_suite {
    ($make:path) => {
        $crate::__suite! {
            shop, fixture => &fixture, $make, [
                r01_a_stale_version_changes_nothing,
                r01_a_write_says_which_version_it_read,
                r01_the_last_write_wins_where_the_shop_says_so,
                r01_adjustments_need_no_version_and_move_none,
                r01_a_sale_in_between_does_not_fail_an_editors_patch,
                r01_of_many_writers_of_one_version_one_wins,
                r02_soft_deleted_rows_are_hidden_unless_asked,
                r02_a_restore_brings_back_what_went_with_the_product,
                r02_skus_and_categories_are_restored,
                r02_slugs_names_and_codes_are_free_again,
                r02_a_restore_conflicts_where_its_names_are_taken,
                r02_a_restore_under_what_is_deleted_says_so,
                r03_a_rename_rewrites_the_whole_subtree,
                r03_products_follow_a_moved_category,
                r03_a_move_under_itself_or_below_is_refused,
                r03_the_tree_is_at_most_32_deep,
                r03_random_tree_operations_match_a_model,
                r03_moves_and_product_writes_at_once_agree_in_the_end,
                r04_a_category_in_use_is_not_deleted,
                r04_force_is_refused_while_anything_refers,
                r05_force_removes_a_product_for_good,
                r05_force_removes_a_sku_for_good,
                r06_a_category_takes_its_subtree,
                r11_a_random_concurrent_history_conserves_stock,
                r11_the_oracle_finds_a_defect,
                r13_each_write_has_its_event,
                r13_a_failed_write_has_none,
                r13_events_of_an_aggregate_are_in_order,
                r13_one_process_at_a_time_runs_a_shared_consumer,
                r13_a_released_lease_is_taken_over_at_once,
                r13_the_next_takes_over_from_a_holder_that_died,
                r13_a_late_holder_moves_nothing,
                r13_a_handler_whose_lease_is_lost_is_dropped,
                r13_a_lease_is_renewed_while_a_handler_works,
                r13_a_failing_handler_gets_its_batch_again_and_holds_up_nobody,
                r13_a_consumer_learns_that_it_missed_events,
                r13_a_consumer_that_began_on_an_empty_log_misses_nothing,
                r13_a_handler_that_hangs_does_not_hold_up_a_shutdown,
                r13_a_consumer_has_a_name_of_its_own,
                r14_the_index_follows_random_histories,
                r14_a_shared_index_is_written_by_one_process_at_a_time,
                r14_verify_finds_and_repairs_drift,
                r14_an_index_ahead_of_its_database_is_brought_back,
                r14_searches_and_writes_go_on_during_rebuilds,
                r15_reads_see_every_kind_of_write,
                r15_concurrent_misses_load_once,
                r15_a_held_reader_does_not_put_an_old_value_back,
                r15_a_cached_read_is_never_older_than_its_ttl,
                r15_another_processes_write_is_seen_after_the_poll,
                r15_a_shared_cache_is_told_by_one_process_and_each_tells_itself,
                r16_every_error_has_its_code_and_shows_no_sql,
                r17_bad_products_name_each_field_and_leave_nothing,
                r17_bad_skus_name_each_field_and_leave_nothing,
                r17_bad_categories_name_each_field_and_leave_nothing,
                r17_bad_adjustments_leave_nothing,
                r17_what_nothing_can_be_called_is_not_looked_up,
                flat_writes_and_reads_mean_the_default_sku,
                put_reconciles_skus_by_id_and_by_code,
                put_that_swaps_codes_is_refused_clearly,
                a_code_that_is_given_up_can_be_taken_in_the_same_write,
                a_patch_merges,
                an_unchanged_write_writes_nothing,
                slugs_are_made_numbered_and_refused,
                a_write_that_another_was_in_the_way_of_is_run_again_and_written_once,
                a_write_of_unknown_outcome_is_not_run_again,
                tries_of_a_write_end_and_leave_nothing,
                a_deadlock_with_a_host_leaves_an_answer_to_both,
                a_made_name_that_is_lost_to_another_is_made_again,
                products_of_one_title_made_at_once_all_get_a_name,
                prices_round_half_away_from_zero_per_sku,
            ]
        }
    };
}

/// The moment at which the clock of every fixture starts: 2026-01-02 03:04:05.678901 UTC.
const START_MICROS: i64 = 1_767_323_045_678_901;

/// What a [`ShopFixture`] makes caches with: each call is the cache of one more process, aged by the clock.
pub type MakeCache = Box<dyn Fn(SharedClock) -> Arc<dyn Cache> + Send + Sync>;

/// A shop over an empty set of adapters, for one test.
pub struct ShopFixture {
    /// The shop.
    pub shop: Shop,
    /// Its clock, which stands until a test moves it.
    pub clock: Arc<ManualClock>,
    /// Its database.
    pub storage: Arc<dyn Storage>,
    /// Its index.
    pub search: Arc<dyn SearchProvider>,
    caches: MakeCache,
    /// What must outlive it.
    pub guard: Box<dyn Any + Send>,
}

impl ShopFixture {
    /// A shop with default settings over a migrated, empty database and an empty index.
    pub fn new(
        storage: impl Storage + 'static,
        search: impl SearchProvider + 'static,
        caches: MakeCache,
        guard: impl Any + Send,
    ) -> Self {
        let (storage, search): (Arc<dyn Storage>, Arc<dyn SearchProvider>) = (Arc::new(storage), Arc::new(search));
        let clock = Arc::new(ManualClock::at_micros(START_MICROS));
        let shared: SharedClock = clock.clone();
        let parts = ShopParts {
            storage: storage.clone(),
            search: search.clone(),
            cache: caches(shared.clone()),
            ids: Arc::new(UuidV7Source::seeded(shared.clone(), 42)),
            clock: shared,
            config: ShopConfig::default(),
        };
        Self { shop: Shop::new(parts).unwrap(), clock, storage, search, caches, guard: Box::new(guard) }
    }

    /// A cache of its own.
    fn cache(&self) -> Arc<dyn Cache> {
        (self.caches)(self.clock.clone())
    }

    /// Another shop over the same database and index, as another process would have it.
    fn another(&self, config: ShopConfig, cache: Arc<dyn Cache>) -> Shop {
        let clock: SharedClock = self.clock.clone();
        let ids = Arc::new(UuidV7Source::new(clock.clone()));
        let (storage, search) = (self.storage.clone(), self.search.clone());
        Shop::new(ShopParts { storage, search, cache, clock, ids, config }).unwrap()
    }

    /// A process that runs shared consumers: looks often, and keeps a lease for `lease_ttl`.
    fn process(&self, lease_ttl: Duration) -> Shop {
        let config = ShopConfig { poll_interval: Duration::from_millis(10), lease_ttl, ..ShopConfig::default() };
        self.another(config, self.cache())
    }

    /// A shop over a storage that fails as planned.
    fn unsteady(&self) -> (Shop, Arc<Unsteady>) {
        let storage = Unsteady::over(self.storage.clone());
        let clock: SharedClock = self.clock.clone();
        let ids = Arc::new(UuidV7Source::seeded(clock.clone(), 43));
        let (search, cache, config) = (self.search.clone(), self.cache(), ShopConfig::default());
        let shop = Shop::new(ShopParts { storage: storage.clone(), search, cache, clock, ids, config }).unwrap();
        (shop, storage)
    }

    /// All events, in their order.
    async fn log(&self) -> Vec<Event> {
        self.events_after(OutboxPosition { seq: 0 }).await
    }

    /// Where a shared cursor stands, once nobody holds it.
    async fn cursor(&self, consumer: &str) -> OutboxPosition {
        let lease = attempt!(self.storage, outbox.acquire(consumer, "testkit", self.clock.now(), LONG)).unwrap();
        let lease = lease.expect("its lease was released");
        attempt!(self.storage, outbox.release(&lease)).unwrap();
        lease.position
    }
}

impl fmt::Debug for ShopFixture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShopFixture").field("shop", &self.shop).finish_non_exhaustive()
    }
}

// ---------------------------------------------------------------- short ways

/// An input from JSON text, as a client sends it: decimals stay exact.
fn from<T: DeserializeOwned>(value: &Value) -> T {
    serde_json::from_str(&value.to_string()).unwrap()
}

fn me() -> Actor {
    Actor::new("user:testkit")
}

fn v(version: i64) -> Read {
    Read::Version(version)
}

fn flat(title: &str) -> ProductInput {
    from(&json!({ "title": title, "price": "9.99", "stock": 10 }))
}

fn flat_in(title: &str, categories: &[&Category]) -> ProductInput {
    let ids = categories.iter().map(|c| c.id.to_string()).collect();
    ProductInput { categories: Some(ids), ..flat(title) }
}

impl ShopFixture {
    async fn product(&self, input: Value) -> Product {
        self.shop.products().create(&from::<ProductInput>(&input), &me()).await.unwrap()
    }

    async fn plain(&self, title: &str) -> Product {
        self.shop.products().create(&flat(title), &me()).await.unwrap()
    }

    async fn plain_in(&self, title: &str, categories: &[&Category]) -> Product {
        self.shop.products().create(&flat_in(title, categories), &me()).await.unwrap()
    }

    async fn category(&self, name: &str, parent: Option<&Category>) -> Category {
        let input = category_input(name, parent.map(|p| p.id));
        self.shop.categories().create(&input, &me()).await.unwrap()
    }

    async fn patch(&self, p: &Product, patch: Value) -> Result<Product> {
        self.shop.products().patch(p.id, v(p.audit.version), from(&patch), &me()).await
    }

    async fn fresh(&self, id: ProductId) -> Product {
        self.shop.products().get_fresh(id, Deleted::Include).await.unwrap()
    }

    async fn fresh_category(&self, id: CategoryId) -> Category {
        self.shop.categories().get_fresh(id, Deleted::Include).await.unwrap()
    }

    async fn adjust(&self, sku: SkuId, delta: i64) -> Result<crate::service::Adjusted> {
        self.shop.inventory().adjust(adjustment(sku, delta)).await
    }

    async fn delete(&self, p: &Product, mode: DeleteMode) -> Result<()> {
        self.shop.products().delete(p.id, v(p.audit.version), mode, &me()).await
    }

    async fn delete_category(&self, id: CategoryId, mode: DeleteMode) -> Result<()> {
        let version = self.fresh_category(id).await.audit.version;
        self.shop.categories().delete(id, v(version), mode, &me()).await
    }

    async fn move_category(&self, id: CategoryId, parent: Option<CategoryId>) -> Result<Category> {
        let version = self.fresh_category(id).await.audit.version;
        self.shop.categories().move_to(id, v(version), parent.map(|p| p.to_string()), &me()).await
    }

    async fn rename_category(&self, id: CategoryId, name: &str) -> Result<Category> {
        let version = self.fresh_category(id).await.audit.version;
        let patch = CategoryPatch { name: Patch::Set(name.to_owned()), ..CategoryPatch::default() };
        self.shop.categories().patch(id, v(version), patch, &me()).await
    }

    async fn head(&self) -> OutboxPosition {
        self.shop.events().head().await.unwrap()
    }

    async fn events_after(&self, at: OutboxPosition) -> Vec<Event> {
        self.shop.events().read(at, 10_000).await.unwrap().into_iter().map(|(_, e)| e).collect()
    }

    /// Everything that a write could have left behind.
    async fn snapshot(&self) -> Snapshot {
        let ids: Vec<ProductId> =
            read!(self.storage, products.revisions(None, 10_000)).into_iter().map(|(id, _)| id).collect();
        let products = read!(self.storage, products.get_many(&ids, Deleted::Include));
        let (mut skus, mut movements) = (Vec::new(), 0);
        for id in ids {
            for sku in read!(self.storage, skus.of_product(id, Deleted::Include)) {
                movements += read!(self.storage, inventory.count_movements(sku.id));
                skus.push(sku);
            }
        }
        let all = CategoryFilter { parent: None, deleted: Deleted::Include };
        let categories = read!(self.storage, categories.list(&all, &Paging::first(1_000))).items;
        Snapshot { products, skus, movements, categories, head: self.head().await }
    }

    /// Titles of the products that a list shows, sorted.
    async fn listed(&self, filter: ProductFilter) -> Vec<String> {
        let query = ProductListQuery { filter, sort: ProductSort::TitleAsc, paging: Paging::first(1_000) };
        titles(self.shop.products().list(&query).await.unwrap().value.page.items.iter())
    }

    /// Titles of the products that a search finds, sorted.
    async fn searched(&self, text: &str, filter: SearchFilter) -> Vec<String> {
        let query = SearchQuery { text: text.to_owned(), filter, limit: 1_000, ..SearchQuery::default() };
        let found = self.shop.search().search(&query).await.unwrap();
        titles(found.products.iter().map(|p| &***p))
    }

    /// The index follows and agrees with the database.
    async fn index_is_in_step(&self, what: &str) {
        self.shop.index().catch_up().await.unwrap();
        let report = self.shop.index().verify(false).await.unwrap();
        assert!(report.is_clean(), "{what}: {report:?}");
    }
}

fn titles<'p>(products: impl Iterator<Item = &'p Product>) -> Vec<String> {
    let mut titles: Vec<String> = products.map(|p| p.title.clone()).collect();
    titles.sort();
    titles
}

fn category_input(name: &str, parent: Option<CategoryId>) -> CategoryInput {
    CategoryInput { name: name.to_owned(), parent_id: parent.map(|p| p.to_string()), ..CategoryInput::default() }
}

fn adjustment(sku_id: SkuId, delta: i64) -> StockAdjustment {
    StockAdjustment { sku_id, delta, reason: StockReason::Received, reference: None, actor: me() }
}

fn in_category(id: CategoryId) -> ProductFilter {
    ProductFilter { category: Some(id), ..ProductFilter::default() }
}

/// All that is stored, soft-deleted rows too.
#[derive(Debug, PartialEq)]
struct Snapshot {
    products: Vec<Product>,
    skus: Vec<Sku>,
    movements: u64,
    categories: Vec<Category>,
    head: OutboxPosition,
}

fn conflict<T: fmt::Debug>(result: Result<T>, what: &str) -> Conflict {
    match result {
        Err(Error::Conflict(c)) => *c,
        other => panic!("{what}: must be a conflict, is {other:?}"),
    }
}

/// The fields that a refusal names, with their codes.
fn fields<T: fmt::Debug>(result: Result<T>, what: &str) -> BTreeMap<String, FieldCode> {
    match result {
        Err(Error::Validation(e)) => {
            assert!(!e.0.is_empty(), "{what}: names no field");
            assert!(e.0.iter().all(|f| !f.message.is_empty()), "{what}: {e:?}");
            e.0.into_iter().map(|f| (f.field, f.code)).collect()
        }
        other => panic!("{what}: must be refused field by field, is {other:?}"),
    }
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !holds().await {
        assert!(start.elapsed() < Duration::from_secs(10), "not within ten seconds: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

// ---------------------------------------------------------------- R1

/// Product, SKU and category; patch, replace, delete and restore.
pub async fn r01_a_stale_version_changes_nothing(f: &ShopFixture) {
    let c = f.category("Lamps", None).await;
    let p =
        f.product(json!({ "title": "Lamp", "skus": [{ "code": "a", "price": 1 }, { "code": "b", "price": 2 }] })).await;
    let deleted = f.plain("Gone").await;
    f.delete(&deleted, DeleteMode::Soft).await.unwrap();
    let p = f.patch(&p, json!({ "title": "Lamp, new" })).await.unwrap();
    f.rename_category(c.id, "Lights").await.unwrap();
    assert_eq!(p.audit.version, 2);
    let sku = &p.skus[0];
    let before = f.snapshot().await;

    let (products, skus, categories) = (f.shop.products(), f.shop.skus(), f.shop.categories());
    for stale in [v(0), v(1), v(3), v(i64::MAX)] {
        let patch = from(&json!({ "title": "Mine" }));
        match conflict(products.patch(p.id, stale, patch, &me()).await, "patch") {
            Conflict::Version { entity: Entity::Product, id, expected, actual: 2 } => {
                assert_eq!((id, v(expected)), (p.id.0, stale));
            }
            other => panic!("{other}"),
        }
        let results = [
            products.replace(p.id, stale, &flat_for_many(), &me()).await.map(drop),
            products.delete(p.id, stale, DeleteMode::Soft, &me()).await,
            products.delete(p.id, stale, DeleteMode::Force, &me()).await,
            categories.patch(c.id, stale, from(&json!({ "name": "Mine" })), &me()).await.map(drop),
            categories.replace(c.id, stale, &category_input("Mine", None), &me()).await.map(drop),
            categories.delete(c.id, stale, DeleteMode::Soft, &me()).await,
            categories.delete(c.id, stale, DeleteMode::Force, &me()).await,
        ];
        for (n, result) in results.into_iter().enumerate() {
            assert_eq!(code_of(result, &format!("write {n}")), ErrorCode::VersionConflict);
        }
    }
    for stale in [v(0), v(2)] {
        let results = [
            skus.patch(sku.id, stale, from(&json!({ "price": 3 })), &me()).await.map(drop),
            skus.replace(sku.id, stale, &from(&json!({ "price": 3 })), &me()).await.map(drop),
            skus.delete(sku.id, stale, DeleteMode::Soft, &me()).await,
            skus.delete(sku.id, stale, DeleteMode::Force, &me()).await,
        ];
        for (n, result) in results.into_iter().enumerate() {
            assert_eq!(code_of(result, &format!("write {n} of a SKU")), ErrorCode::VersionConflict);
        }
    }
    let restored = products.restore(deleted.id, v(1), &me()).await;
    assert_eq!(code_of(restored, "a restore"), ErrorCode::VersionConflict);
    assert_eq!(f.snapshot().await, before);
}

/// A replacement that is right for any product.
fn flat_for_many() -> ProductInput {
    from(&json!({ "title": "Mine", "skus": [{ "price": 1 }] }))
}

/// No version, no write.
pub async fn r01_a_write_says_which_version_it_read(f: &ShopFixture) {
    let c = f.category("Lamps", None).await;
    let p =
        f.product(json!({ "title": "Lamp", "skus": [{ "code": "a", "price": 1 }, { "code": "b", "price": 2 }] })).await;
    let sku = p.skus[0].id;
    let before = f.snapshot().await;
    let (products, skus, categories) = (f.shop.products(), f.shop.skus(), f.shop.categories());
    let results = [
        products.patch(p.id, Read::Unsaid, from(&json!({ "title": "Mine" })), &me()).await.map(drop),
        products.replace(p.id, Read::Unsaid, &flat_for_many(), &me()).await.map(drop),
        products.delete(p.id, Read::Unsaid, DeleteMode::Soft, &me()).await,
        products.delete(p.id, Read::Unsaid, DeleteMode::Force, &me()).await,
        skus.patch(sku, Read::Unsaid, from(&json!({ "price": 3 })), &me()).await.map(drop),
        skus.replace(sku, Read::Unsaid, &from(&json!({ "price": 3 })), &me()).await.map(drop),
        skus.delete(sku, Read::Unsaid, DeleteMode::Soft, &me()).await,
        categories.patch(c.id, Read::Unsaid, from(&json!({ "name": "Mine" })), &me()).await.map(drop),
        categories.replace(c.id, Read::Unsaid, &category_input("Mine", None), &me()).await.map(drop),
        categories.delete(c.id, Read::Unsaid, DeleteMode::Soft, &me()).await,
    ];
    for (n, result) in results.into_iter().enumerate() {
        assert_eq!(code_of(result, &format!("write {n}")), ErrorCode::VersionRequired);
    }
    assert_eq!(f.snapshot().await, before);
}

/// A version that is said is checked all the same.
pub async fn r01_the_last_write_wins_where_the_shop_says_so(f: &ShopFixture) {
    let shop = f.another(ShopConfig { last_write_wins: true, ..ShopConfig::default() }, f.cache());
    let p = f.plain("Lamp").await;
    let c = f.category("Lamps", None).await;
    f.patch(&p, json!({ "brand": "Theirs" })).await.unwrap();
    let patch: ProductPatch = from(&json!({ "brand": "Mine" }));
    let mine = shop.products().patch(p.id, Read::Unsaid, patch.clone(), &me()).await.unwrap();
    assert_eq!((mine.brand.as_deref(), mine.audit.version), (Some("Mine"), 3));
    let stale = shop.products().patch(p.id, v(1), patch, &me()).await;
    assert_eq!(code_of(stale, "a version that is said"), ErrorCode::VersionConflict);
    let sku = shop.skus().patch(p.skus[0].id, Read::Unsaid, from(&json!({ "price": 3 })), &me()).await.unwrap();
    assert_eq!(sku.price.minor(), 300);
    shop.categories().delete(c.id, Read::Unsaid, DeleteMode::Soft, &me()).await.unwrap();
    shop.categories().restore(c.id, Read::Unsaid, &me()).await.unwrap();
    shop.products().delete(p.id, Read::Unsaid, DeleteMode::Soft, &me()).await.unwrap();
}

/// The revision moves, the versions of product and SKU do not.
pub async fn r01_adjustments_need_no_version_and_move_none(f: &ShopFixture) {
    let p = f.plain("Lamp").await;
    let sku = p.skus[0].id;
    let done = f.adjust(sku, 5).await.unwrap();
    assert_eq!((done.level.on_hand, done.movement.delta), (15, 5));
    assert_eq!(f.adjust(sku, -15).await.unwrap().level.on_hand, 0);
    let after = f.fresh(p.id).await;
    assert_eq!(after.audit.version, 1);
    assert_eq!(after.skus[0].audit.version, 1);
    assert_eq!(after.revision, p.revision + 2);
    let short = conflict(f.adjust(sku, -1).await, "one too many");
    let Conflict::InsufficientStock { shortages } = short else { panic!("{short}") };
    assert_eq!((shortages[0].sku_id, shortages[0].requested, shortages[0].available), (sku.0, 1, 0));
}

/// Nor does the PATCH undo the sale.
pub async fn r01_a_sale_in_between_does_not_fail_an_editors_patch(f: &ShopFixture) {
    let p = f.plain("Lamp").await;
    let read = f.fresh(p.id).await;
    f.adjust(p.skus[0].id, -3).await.unwrap();
    let patched = f.patch(&read, json!({ "description": "Bright" })).await.unwrap();
    assert_eq!((patched.audit.version, patched.skus[0].on_hand), (2, 7));
    assert_eq!(f.fresh(p.id).await, patched);
    f.adjust(p.skus[0].id, -3).await.unwrap();
    let replaced: ProductInput = from(&json!({ "title": "Lamp", "price": "9.99" }));
    let replaced = f.shop.products().replace(p.id, v(2), &replaced, &me()).await.unwrap();
    assert_eq!((replaced.audit.version, replaced.skus[0].on_hand), (3, 4), "stock that is not said stays");
    let (sku, read) = (p.skus[0].id, v(replaced.skus[0].audit.version));
    let sku = f.shop.skus().patch(sku, read, from(&json!({ "price": 5 })), &me()).await.unwrap();
    assert_eq!(sku.on_hand, 4);
    assert_eq!(f.shop.inventory().imbalances().await.unwrap(), []);
}

/// Sixteen editors at once.
pub async fn r01_of_many_writers_of_one_version_one_wins(f: &ShopFixture) {
    let p = f.plain("Lamp").await;
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..16 {
        let (shop, id) = (f.shop.clone(), p.id);
        tasks.spawn(async move {
            let patch = from(&json!({ "brand": format!("Editor {n}") }));
            shop.products().patch(id, v(1), patch, &me()).await.map(|p| p.brand)
        });
    }
    let (won, lost): (Vec<_>, Vec<_>) = tasks.join_all().await.into_iter().partition(Result::is_ok);
    assert_eq!(won.len(), 1);
    assert!(lost.into_iter().all(|l| code_of(l, "a loser") == ErrorCode::VersionConflict));
    let after = f.fresh(p.id).await;
    assert_eq!(after.audit.version, 2);
    assert_eq!(Some(&after.brand), won[0].as_ref().ok());
}

// ---------------------------------------------------------------- R2

/// Products, SKUs, categories; by id, slug, code, list, tree and search.
pub async fn r02_soft_deleted_rows_are_hidden_unless_asked(f: &ShopFixture) {
    let c = f.category("Lamps", None).await;
    let p = f.plain("Desk lamp").await;
    let other = f.plain("Floor lamp").await;
    let sku = p.skus[0].clone();
    f.delete(&p, DeleteMode::Soft).await.unwrap();
    f.delete_category(c.id, DeleteMode::Soft).await.unwrap();
    f.index_is_in_step("after the deletes").await;

    let products = f.shop.products();
    assert_eq!(code_of(products.get(p.id).await, "by id"), ErrorCode::NotFound);
    assert_eq!(code_of(products.get_by_slug("desk-lamp").await, "by slug"), ErrorCode::NotFound);
    assert_eq!(code_of(products.get_fresh(p.id, Deleted::Hide).await, "fresh"), ErrorCode::NotFound);
    assert_eq!(f.listed(ProductFilter::default()).await, ["Floor lamp"]);
    assert_eq!(f.searched("lamp", SearchFilter::default()).await, ["Floor lamp"]);
    assert_eq!(products.get_many(&[p.id, other.id]).await.unwrap().len(), 1);
    assert_eq!(code_of(f.shop.skus().get(sku.id, Deleted::Hide).await, "a SKU"), ErrorCode::NotFound);
    assert_eq!(code_of(f.shop.skus().get_by_code(&sku.code).await, "by code"), ErrorCode::NotFound);
    assert_eq!(code_of(f.shop.skus().of_product(p.id, Deleted::Hide).await, "of product"), ErrorCode::NotFound);
    assert_eq!(code_of(f.adjust(sku.id, 1).await, "stock"), ErrorCode::NotFound);
    assert_eq!(code_of(f.patch(&f.fresh(p.id).await, json!({ "brand": "x" })).await, "patch"), ErrorCode::NotFound);
    assert_eq!(code_of(f.delete(&f.fresh(p.id).await, DeleteMode::Soft).await, "twice"), ErrorCode::NotFound);
    assert_eq!(code_of(f.shop.categories().get(c.id).await, "a category"), ErrorCode::NotFound);
    assert_eq!(code_of(f.shop.categories().resolve("lamps").await, "by slug"), ErrorCode::NotFound);
    assert!(f.shop.categories().tree().await.unwrap().value.is_empty());

    let all = ProductFilter { deleted: Deleted::Include, ..ProductFilter::default() };
    assert_eq!(f.listed(all).await, ["Desk lamp", "Floor lamp"]);
    assert!(f.fresh(p.id).await.audit.deleted_at.is_some());
    assert_eq!(f.shop.skus().of_product(p.id, Deleted::Include).await.unwrap().len(), 1);
    assert!(!f.shop.skus().get(sku.id, Deleted::Include).await.unwrap().audit.is_live());
    assert!(!f.fresh_category(c.id).await.audit.is_live());
    let listed = |deleted| CategoryFilter { parent: None, deleted };
    let page = Paging::Offset { offset: 0, limit: 10 };
    let (hidden, total) = f.shop.categories().list(&listed(Deleted::Hide), &page).await.unwrap();
    assert_eq!((hidden.items.len(), total), (0, Some(Total { count: 0, exact: true })));
    assert_eq!(f.shop.categories().list(&listed(Deleted::Include), &page).await.unwrap().0.items.len(), 1);
}

/// A SKU that was deleted before its product stays deleted.
pub async fn r02_a_restore_brings_back_what_went_with_the_product(f: &ShopFixture) {
    let c = f.category("Lamps", None).await;
    let input = json!({ "title": "Lamp", "category": "lamps", "skus": [
        { "code": "a", "price": 1, "stock": 1 }, { "code": "b", "price": 2, "stock": 2 }, { "code": "c", "price": 3 },
    ] });
    let p = f.product(input).await;
    f.clock.advance(Duration::from_secs(1));
    f.shop.skus().delete(p.skus[1].id, v(1), DeleteMode::Soft, &me()).await.unwrap();
    f.clock.advance(Duration::from_secs(1));
    let p = f.fresh(p.id).await;
    f.delete(&p, DeleteMode::Soft).await.unwrap();
    assert_eq!(f.fresh_category(c.id).await.product_count, 0);
    let gone = f.fresh(p.id).await;
    f.clock.advance(Duration::from_secs(1));

    let back = f.shop.products().restore(p.id, v(gone.audit.version), &me()).await.unwrap();
    assert_eq!(back.skus.iter().map(|s| s.code.as_str()).collect::<Vec<_>>(), ["a", "c"]);
    assert_eq!(back, f.fresh(p.id).await, "what is returned is what is stored");
    assert_eq!(**f.shop.products().get(p.id).await.unwrap().value, back);
    assert_eq!(back.skus[0].on_hand, 1, "stock is kept");
    assert!(back.revision > gone.revision && back.audit.version > gone.audit.version);
    assert_eq!(f.fresh_category(c.id).await.product_count, 1);
    let again = f.shop.products().restore(p.id, v(back.audit.version), &me()).await;
    assert_eq!(code_of(again, "what is live"), ErrorCode::StateConflict);
    f.index_is_in_step("after the restore").await;
    assert_eq!(f.searched("lamp", SearchFilter::default()).await, ["Lamp"]);
    assert_eq!(f.shop.inventory().imbalances().await.unwrap(), []);
}

/// Alone.
pub async fn r02_skus_and_categories_are_restored(f: &ShopFixture) {
    let p =
        f.product(json!({ "title": "Lamp", "skus": [{ "code": "a", "price": 1 }, { "code": "b", "price": 2 }] })).await;
    let skus = f.shop.skus();
    skus.delete(p.skus[0].id, v(1), DeleteMode::Soft, &me()).await.unwrap();
    assert_eq!(f.fresh(p.id).await.skus.len(), 1);
    let last = skus.delete(p.skus[1].id, v(1), DeleteMode::Soft, &me()).await;
    assert_eq!(code_of(last, "a product keeps a SKU"), ErrorCode::StateConflict);
    let back = skus.restore(p.skus[0].id, v(2), &me()).await.unwrap();
    assert_eq!(back.audit.version, 3);
    let now = f.fresh(p.id).await;
    assert_eq!(now.skus.iter().map(|s| s.code.as_str()).collect::<Vec<_>>(), ["a", "b"], "in its old place");
    assert_eq!(**f.shop.products().get(p.id).await.unwrap().value, now);
    assert_eq!(code_of(skus.restore(back.id, v(3), &me()).await, "a live SKU"), ErrorCode::StateConflict);

    let c = f.category("Lamps", None).await;
    f.delete_category(c.id, DeleteMode::Soft).await.unwrap();
    let back = f.shop.categories().restore(c.id, v(2), &me()).await.unwrap();
    assert_eq!((back.audit.version, back.path.as_str()), (3, "lamps"));
    assert_eq!(**f.shop.categories().get(c.id).await.unwrap().value, back);
    let again = f.shop.categories().restore(c.id, v(3), &me()).await;
    assert_eq!(code_of(again, "a live category"), ErrorCode::StateConflict);
}

/// Once their owner is soft-deleted.
pub async fn r02_slugs_names_and_codes_are_free_again(f: &ShopFixture) {
    let input = json!({ "title": "Lamp", "slug": "lamp", "skus": [{ "code": "L-1", "price": 1 }] });
    let first = f.product(input.clone()).await;
    let taken = f.shop.products().create(&from(&input), &me()).await;
    assert_eq!(duplicate_field(taken, "a live slug"), "slug");
    let code = json!({ "title": "Lamp", "skus": [{ "code": "l-1", "price": 1 }] });
    assert_eq!(duplicate_field(f.shop.products().create(&from(&code), &me()).await, "a live code"), "code");
    f.delete(&first, DeleteMode::Soft).await.unwrap();
    let second = f.product(input).await;
    assert_eq!((second.slug.as_str(), second.skus[0].code.as_str()), ("lamp", "L-1"));

    let c = f.category("Lamps", None).await;
    let taken = f.shop.categories().create(&category_input("LAMPS", None), &me()).await;
    assert_eq!(duplicate_field(taken, "a live name"), "name");
    f.delete_category(c.id, DeleteMode::Soft).await.unwrap();
    assert_eq!(f.category("LAMPS", None).await.slug.as_str(), "lamps");
}

/// Nothing is restored by half.
pub async fn r02_a_restore_conflicts_where_its_names_are_taken(f: &ShopFixture) {
    let p =
        f.product(json!({ "title": "Lamp", "skus": [{ "code": "a", "price": 1 }, { "code": "b", "price": 1 }] })).await;
    f.delete(&p, DeleteMode::Soft).await.unwrap();
    let other = f.product(json!({ "title": "Other", "slug": "lamp", "skus": [{ "code": "B", "price": 1 }] })).await;
    let c = f.category("Lamps", None).await;
    f.delete_category(c.id, DeleteMode::Soft).await.unwrap();
    let named = f.category("Lamps", None).await;
    let before = f.snapshot().await;
    assert_eq!(duplicate_field(f.shop.products().restore(p.id, v(2), &me()).await, "slug"), "slug");
    assert_eq!(duplicate_field(f.shop.categories().restore(c.id, v(2), &me()).await, "slug"), "slug");
    assert_eq!(f.snapshot().await, before);

    let other = f.patch(&other, json!({ "slug": "other" })).await.unwrap();
    let patch = from(&json!({ "slug": "other-lamps" }));
    f.shop.categories().patch(named.id, v(1), patch, &me()).await.unwrap();
    let before = f.snapshot().await;
    assert_eq!(duplicate_field(f.shop.products().restore(p.id, v(2), &me()).await, "code"), "code");
    assert_eq!(duplicate_field(f.shop.categories().restore(c.id, v(2), &me()).await, "name"), "name");
    assert_eq!(f.snapshot().await, before);

    f.delete(&other, DeleteMode::Soft).await.unwrap();
    assert_eq!(f.shop.products().restore(p.id, v(2), &me()).await.unwrap().skus.len(), 2);
    let q =
        f.product(json!({ "title": "Q", "skus": [{ "code": "c", "price": 1 }, { "code": "d", "price": 1 }] })).await;
    f.shop.skus().delete(q.skus[0].id, v(1), DeleteMode::Soft, &me()).await.unwrap();
    f.product(json!({ "title": "R", "sku": "C", "price": 1 })).await;
    assert_eq!(duplicate_field(f.shop.skus().restore(q.skus[0].id, v(2), &me()).await, "a SKU"), "code");
}

/// A SKU of a deleted product, a category under a deleted one, a product in a deleted category.
pub async fn r02_a_restore_under_what_is_deleted_says_so(f: &ShopFixture) {
    let (parent, other) = (f.category("Lamps", None).await, f.category("Gifts", None).await);
    let child = f.category("Desk lamps", Some(&parent)).await;
    let p = f.plain_in("Lamp", &[&child, &other]).await;
    f.delete(&p, DeleteMode::Soft).await.unwrap();
    f.delete_category(child.id, DeleteMode::Soft).await.unwrap();
    f.delete_category(parent.id, DeleteMode::Soft).await.unwrap();
    let before = f.snapshot().await;
    let sku = f.shop.skus().restore(p.skus[0].id, v(2), &me()).await;
    assert_eq!(code_of(sku, "a SKU of a deleted product"), ErrorCode::StateConflict);
    let category = f.shop.categories().restore(child.id, v(2), &me()).await;
    assert_eq!(code_of(category, "a child of a deleted category"), ErrorCode::StateConflict);
    let product = f.shop.products().restore(p.id, v(2), &me()).await;
    assert_eq!(code_of(product, "a product in a deleted category"), ErrorCode::StateConflict);
    assert_eq!(f.snapshot().await, before);
    f.shop.categories().restore(parent.id, v(2), &me()).await.unwrap();
    f.shop.categories().restore(child.id, v(2), &me()).await.unwrap();
    let back = f.shop.products().restore(p.id, v(2), &me()).await.unwrap();
    assert_eq!(back.categories.len(), 2);
    f.patch(&back, json!({ "brand": "x" })).await.unwrap();
}

// ---------------------------------------------------------------- R3

/// Soft-deleted categories follow too, so that a restore finds them where they belong.
pub async fn r03_a_rename_rewrites_the_whole_subtree(f: &ShopFixture) {
    let a = f.category("Electronics", None).await;
    let b = f.category("Audio", Some(&a)).await;
    let c = f.category("Headphones", Some(&b)).await;
    let gone = f.category("Radios", Some(&b)).await;
    let near = f.category("Electronics old", None).await;
    f.delete_category(gone.id, DeleteMode::Soft).await.unwrap();
    let head = f.head().await;
    let renamed = f.rename_category(a.id, "Gadgets & Devices").await.unwrap();
    assert_eq!((renamed.slug.as_str(), renamed.path.as_str()), ("gadgets-devices", "gadgets-devices"));
    for (id, path) in [
        (b.id, "gadgets-devices/audio"),
        (c.id, "gadgets-devices/audio/headphones"),
        (gone.id, "gadgets-devices/audio/radios"),
        (near.id, "electronics-old"),
    ] {
        let now = f.fresh_category(id).await;
        assert_eq!(now.path, path);
        assert_eq!(now.audit.version, if id == gone.id { 2 } else { 1 }, "nobody edited it");
    }
    assert_eq!(f.events_after(head).await.len(), 1);
    let above = f.shop.categories().ancestors(c.id).await.unwrap();
    assert_eq!(above.iter().map(|c| c.id).collect::<Vec<_>>(), [a.id, b.id]);
    assert_eq!(f.shop.categories().resolve("gadgets-devices/audio").await.unwrap().value.id, b.id);
    assert_eq!(code_of(f.shop.categories().resolve("electronics/audio").await, "the old path"), ErrorCode::NotFound);
    f.shop.categories().restore(gone.id, v(2), &me()).await.unwrap();
    let chosen = f.shop.categories().patch(b.id, v(1), from(&json!({ "slug": "sound" })), &me()).await.unwrap();
    assert_eq!((chosen.name.as_str(), chosen.path.as_str()), ("Audio", "gadgets-devices/sound"));
    let renamed = f.rename_category(b.id, "Hi-fi").await.unwrap();
    assert_eq!(renamed.slug.as_str(), "sound", "a slug that was chosen stays");

    // A live category that took the path of a deleted one does not take its children along.
    let (old, child) = (f.category("Twin", None).await, f.category("Twin child", None).await);
    f.move_category(child.id, Some(old.id)).await.unwrap();
    f.delete_category(child.id, DeleteMode::Soft).await.unwrap();
    f.delete_category(old.id, DeleteMode::Soft).await.unwrap();
    let new = f.category("Twin", None).await;
    f.rename_category(new.id, "Other").await.unwrap();
    assert_eq!(f.fresh_category(old.id).await.path, "twin");
    assert_eq!(f.fresh_category(child.id).await.path, "twin/twin-child");
}

/// What they show, what lists find, what the index finds, what categories count.
pub async fn r03_products_follow_a_moved_category(f: &ShopFixture) {
    let (a, b) = (f.category("A", None).await, f.category("B", None).await);
    let mid = f.category("Mid", Some(&a)).await;
    let low = f.category("Low", Some(&mid)).await;
    let p = f.plain_in("P", &[&low]).await;
    let gone = f.plain_in("Gone", &[&low]).await;
    f.delete(&gone, DeleteMode::Soft).await.unwrap();
    f.plain_in("Q", &[&a]).await;
    assert_eq!(f.listed(in_category(a.id)).await, ["P", "Q"]);
    f.index_is_in_step("before").await;

    let moved = f.move_category(mid.id, Some(b.id)).await.unwrap();
    assert_eq!(moved.path, "b/mid");
    let now = f.fresh(p.id).await;
    assert_eq!(now.categories[0].path, "b/mid/low");
    assert_eq!((now.audit.version, now.revision > p.revision), (1, true), "moved, not edited");
    assert_eq!(**f.shop.products().get(p.id).await.unwrap().value, now);
    assert_eq!(f.listed(in_category(a.id)).await, ["Q"]);
    assert_eq!(f.listed(in_category(b.id)).await, ["P"]);
    let count = async |id| f.fresh_category(id).await.subtree_product_count;
    assert_eq!((count(a.id).await, count(b.id).await, count(mid.id).await), (1, 1, 1));
    f.index_is_in_step("after the move").await;
    let within = |id| SearchFilter { categories: vec![id], ..SearchFilter::default() };
    assert_eq!(f.searched("", within(a.id)).await, ["Q"]);
    assert_eq!(f.searched("", within(b.id)).await, ["P"]);
    f.rename_category(low.id, "Deepest").await.unwrap();
    f.index_is_in_step("after the rename").await;
    assert_eq!(f.searched("deepest", SearchFilter::default()).await, ["P"], "its category's name is searched");
    assert_eq!(f.fresh(gone.id).await.categories[0].path, "b/mid/deepest");
    f.move_category(mid.id, None).await.unwrap();
    assert_eq!(f.fresh(p.id).await.categories[0].path, "mid/deepest");
    assert!(f.listed(in_category(b.id)).await.is_empty());
}

/// By move and by PUT.
pub async fn r03_a_move_under_itself_or_below_is_refused(f: &ShopFixture) {
    let a = f.category("A", None).await;
    let b = f.category("B", Some(&a)).await;
    let c = f.category("C", Some(&b)).await;
    let before = f.snapshot().await;
    for parent in [a.id, b.id, c.id] {
        match conflict(f.move_category(a.id, Some(parent)).await, "a cycle") {
            Conflict::CategoryCycle { category, parent: named } => assert_eq!((category, named), (a.id.0, parent.0)),
            other => panic!("{other}"),
        }
        let put = f.shop.categories().replace(a.id, v(1), &category_input("A", Some(parent)), &me()).await;
        assert_eq!(code_of(put, "PUT"), ErrorCode::CategoryCycle);
    }
    assert_eq!(f.snapshot().await, before);
    assert_eq!(f.move_category(c.id, Some(a.id)).await.unwrap().path, "a/c");
}

/// By create and by the move of a subtree.
pub async fn r03_the_tree_is_at_most_32_deep(f: &ShopFixture) {
    let mut chain = vec![f.category("L1", None).await];
    for n in 2..=Category::MAX_DEPTH {
        let next = f.category(&format!("L{n}"), chain.last()).await;
        chain.push(next);
    }
    let last = chain.last().unwrap();
    assert_eq!(last.depth(), 32);
    let top = f.category("Top", None).await;
    let side = f.category("Side", None).await;
    f.category("Below", Some(&side)).await;
    let before = f.snapshot().await;
    let deeper = f.shop.categories().create(&category_input("L33", Some(last.id)), &me()).await;
    assert!(fields(deeper, "one too deep").contains_key("parent_id"));
    let moved = f.move_category(chain[0].id, Some(top.id)).await;
    assert!(fields(moved, "a move that is one too deep").contains_key("parent_id"));
    let moved = f.move_category(side.id, Some(chain[30].id)).await;
    assert!(fields(moved, "the depth of what is below counts").contains_key("parent_id"));
    assert_eq!(f.snapshot().await, before);
    assert_eq!(f.move_category(side.id, Some(chain[29].id)).await.unwrap().depth(), 31);
}

#[derive(Debug, Clone)]
struct Node {
    slug: String,
    parent: Option<CategoryId>,
    live: bool,
}

fn model_path(tree: &BTreeMap<CategoryId, Node>, id: CategoryId) -> String {
    let node = &tree[&id];
    node.parent.map_or_else(|| node.slug.clone(), |p| format!("{}/{}", model_path(tree, p), node.slug))
}

fn model_contains(tree: &BTreeMap<CategoryId, Node>, above: CategoryId, id: CategoryId) -> bool {
    above == id || tree[&id].parent.is_some_and(|p| model_contains(tree, above, p))
}

/// Creates, renames, moves, deletes and restores; a failure names its seed.
pub async fn r03_random_tree_operations_match_a_model(f: &ShopFixture) {
    tree_history(f, fresh_seed()).await;
}

/// Replays a random history of the tree.
pub async fn tree_history(f: &ShopFixture, seed: u64) {
    println!("seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let mut tree: BTreeMap<CategoryId, Node> = BTreeMap::new();
    let mut products: BTreeMap<ProductId, CategoryId> = BTreeMap::new();
    for step in 0..150 {
        let at = format!("seed {seed}, step {step}");
        let ids: Vec<CategoryId> = tree.keys().copied().collect();
        let live: Vec<CategoryId> = ids.iter().copied().filter(|id| tree[id].live).collect();
        let pick =
            |rng: &mut StdRng, from: &[CategoryId]| (!from.is_empty()).then(|| from[rng.random_range(0..from.len())]);
        let name = format!("N {}", rng.random_range(0..12));
        let one = pick(&mut rng, &live);
        let other = if rng.random_bool(0.2) { None } else { pick(&mut rng, &live) };
        let used = |id: CategoryId, tree: &BTreeMap<CategoryId, Node>, all: bool| {
            tree.values().any(|n| n.parent == Some(id) && (all || n.live)) || products.values().any(|c| *c == id)
        };
        match (rng.random_range(0..10), one) {
            (0..=3, _) | (_, None) => match f.shop.categories().create(&category_input(&name, other), &me()).await {
                Ok(c) => {
                    tree.insert(c.id, Node { slug: c.slug.to_string(), parent: other, live: true });
                    if rng.random_bool(0.4) {
                        let p = f.plain_in(&format!("P {step}"), &[&c]).await;
                        products.insert(p.id, c.id);
                    }
                }
                Err(e) => assert_eq!(e.code(), ErrorCode::Duplicate, "{at}: {e}"),
            },
            (4, Some(id)) => match f.rename_category(id, &name).await {
                Ok(c) => tree.get_mut(&id).unwrap().slug = c.slug.to_string(),
                Err(e) => assert_eq!(e.code(), ErrorCode::Duplicate, "{at}: {e}"),
            },
            (5..=6, Some(id)) => {
                let cycle = other.is_some_and(|o| model_contains(&tree, id, o));
                match f.move_category(id, other).await {
                    Ok(_) if !cycle => tree.get_mut(&id).unwrap().parent = other,
                    Ok(c) => panic!("{at}: a cycle: {c:?}"),
                    Err(e) if cycle => assert_eq!(e.code(), ErrorCode::CategoryCycle, "{at}: {e}"),
                    Err(e) => assert_eq!(e.code(), ErrorCode::Duplicate, "{at}: {e}"),
                }
            }
            (7, Some(id)) => match f.delete_category(id, DeleteMode::Soft).await {
                Ok(()) if !used(id, &tree, false) => tree.get_mut(&id).unwrap().live = false,
                Ok(()) => panic!("{at}: deleted while in use"),
                Err(e) => assert!(used(id, &tree, false) && e.code() == ErrorCode::CategoryNotEmpty, "{at}: {e}"),
            },
            (8, Some(id)) if rng.random_bool(0.5) => match f.delete_category(id, DeleteMode::Force).await {
                Ok(()) if !used(id, &tree, true) => drop(tree.remove(&id)),
                Ok(()) => panic!("{at}: removed while in use"),
                Err(e) => assert!(used(id, &tree, true) && e.code() == ErrorCode::CategoryNotEmpty, "{at}: {e}"),
            },
            _ => {
                let gone: Vec<CategoryId> = ids.iter().copied().filter(|id| !tree[id].live).collect();
                if let Some(id) = pick(&mut rng, &gone) {
                    let version = f.fresh_category(id).await.audit.version;
                    let under_deleted = tree[&id].parent.is_some_and(|p| !tree[&p].live);
                    match f.shop.categories().restore(id, v(version), &me()).await {
                        Ok(_) if !under_deleted => tree.get_mut(&id).unwrap().live = true,
                        Ok(c) => panic!("{at}: live under a deleted parent: {c:?}"),
                        Err(e) if under_deleted => assert_eq!(e.code(), ErrorCode::StateConflict, "{at}: {e}"),
                        Err(e) => assert_eq!(e.code(), ErrorCode::Duplicate, "{at}: {e}"),
                    }
                }
            }
        }
        if step % 10 == 9 {
            matches_the_model(f, &tree, &products, &at).await;
        }
    }
    f.index_is_in_step(&format!("seed {seed}")).await;
}

/// Categories are moved, renamed, made and deleted while products are made, moved between them, deleted and restored.
pub async fn r03_moves_and_product_writes_at_once_agree_in_the_end(f: &ShopFixture) {
    tree_storm(f, fresh_seed()).await;
}

/// Replays the operations of a storm; how they interleave is up to the machine.
pub async fn tree_storm(f: &ShopFixture, seed: u64) {
    println!("seed {seed}");
    let mut categories = Vec::new();
    for n in 0..3 {
        let root = f.category(&format!("Root {n}"), None).await;
        for m in 0..2 {
            let mid = f.category(&format!("Mid {n} {m}"), Some(&root)).await;
            categories.push(f.category(&format!("Leaf {n} {m}"), Some(&mid)).await.id);
            categories.push(mid.id);
        }
        categories.push(root.id);
    }
    let mut products = Vec::new();
    for n in 0..10 {
        let category = f.fresh_category(categories[n % categories.len()]).await;
        products.push(f.plain_in(&format!("P {n}"), &[&category]).await.id);
    }
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..8_u64 {
        let (shop, mut rng) = (f.shop.clone(), StdRng::seed_from_u64(seed ^ (task << 48)));
        let (categories, mut products) = (categories.clone(), products.clone());
        tasks.spawn(async move {
            let mut done = 0;
            for step in 0..25 {
                let category = categories[rng.random_range(0..categories.len())];
                let other = categories[rng.random_range(0..categories.len())];
                let product = products[rng.random_range(0..products.len())];
                let what = rng.random_range(0..10);
                let outcome = tree_write(&shop, (task, step), what, category, other, product).await;
                match outcome {
                    Ok(made) => {
                        done += 1;
                        products.extend(made);
                    }
                    Err(e) => {
                        let expected = [
                            ErrorCode::VersionConflict,
                            ErrorCode::CategoryCycle,
                            ErrorCode::CategoryNotEmpty,
                            ErrorCode::Duplicate,
                            ErrorCode::NotFound,
                            ErrorCode::Validation,
                            ErrorCode::StateConflict,
                        ];
                        assert!(expected.contains(&e.code()), "seed {seed}: {e:?}");
                    }
                }
            }
            done
        });
    }
    let done: i32 = tasks.join_all().await.into_iter().sum();
    assert!(done > 50, "seed {seed}: only {done} of 200 writes were taken");

    let stored = f.snapshot().await;
    let tree: BTreeMap<CategoryId, Node> = stored
        .categories
        .iter()
        .map(|c| (c.id, Node { slug: c.slug.to_string(), parent: c.parent_id, live: c.audit.is_live() }))
        .collect();
    let at = format!("seed {seed}");
    for c in &stored.categories {
        assert_eq!(c.path, model_path(&tree, c.id), "{at}");
        let live = stored.products.iter().filter(|p| p.audit.is_live());
        let own = live.clone().filter(|p| p.categories.iter().any(|of| of.id == c.id)).count();
        let below: BTreeSet<ProductId> =
            live.filter(|p| p.categories.iter().any(|of| model_contains(&tree, c.id, of.id))).map(|p| p.id).collect();
        if c.audit.is_live() {
            assert!(c.parent_id.is_none_or(|p| tree[&p].live), "{at}: {} is under a deleted one", c.path);
            assert_eq!(c.product_count, own as i64, "{at}: count of {}", c.path);
            assert_eq!(c.subtree_product_count, below.len() as i64, "{at}: subtree count of {}", c.path);
            let filter = in_category(c.id);
            let query = ProductListQuery { filter, sort: ProductSort::CreatedAsc, paging: Paging::first(1_000) };
            let list = f.shop.products().list(&query).await.unwrap();
            let listed: BTreeSet<ProductId> = list.value.page.items.iter().map(|p| p.id).collect();
            assert_eq!(listed, below, "{at}: list of {}", c.path);
        } else {
            assert_eq!(own, 0, "{at}: live products in a deleted category");
        }
    }
    for of in stored.products.iter().flat_map(|p| &p.categories) {
        assert_eq!(of.path, model_path(&tree, of.id), "{at}");
    }
    f.index_is_in_step(&at).await;
}

/// One write of a storm; the product that it made.
async fn tree_write(
    shop: &Shop,
    (task, step): (u64, u64),
    what: u32,
    category: CategoryId,
    other: CategoryId,
    product: ProductId,
) -> Result<Option<ProductId>> {
    let products = shop.products();
    let categories = shop.categories();
    let version = async || Ok::<_, Error>(v(categories.get_fresh(category, Deleted::Include).await?.audit.version));
    match what {
        0 | 1 => {
            let parent = (step % 3 > 0).then(|| other.to_string());
            categories.move_to(category, version().await?, parent, &me()).await?;
        }
        2 => {
            let patch = CategoryPatch { name: Patch::Set(format!("Name {task} {step}")), ..CategoryPatch::default() };
            categories.patch(category, version().await?, patch, &me()).await?;
        }
        3 => {
            categories.create(&category_input(&format!("New {task} {step}"), Some(category)), &me()).await?;
        }
        4 => match categories.get_fresh(category, Deleted::Hide).await {
            Ok(c) => categories.delete(category, v(c.audit.version), DeleteMode::Soft, &me()).await?,
            Err(_) => drop(categories.restore(category, version().await?, &me()).await?),
        },
        5 | 6 => {
            let input = ProductInput {
                categories: Some(vec![category.to_string(), other.to_string()]),
                ..flat(&format!("P {task} {step}"))
            };
            return products.create(&input, &me()).await.map(|p| Some(p.id));
        }
        7 | 8 => {
            let read = products.get_fresh(product, Deleted::Include).await?;
            let patch = ProductPatch { categories: Patch::Set(vec![category.to_string()]), ..ProductPatch::default() };
            products.patch(product, v(read.audit.version), patch, &me()).await?;
        }
        _ => {
            let read = products.get_fresh(product, Deleted::Include).await?;
            if read.audit.is_live() {
                products.delete(product, v(read.audit.version), DeleteMode::Soft, &me()).await?;
            } else {
                products.restore(product, v(read.audit.version), &me()).await?;
            }
        }
    }
    Ok(None)
}

async fn matches_the_model(
    f: &ShopFixture,
    tree: &BTreeMap<CategoryId, Node>,
    products: &BTreeMap<ProductId, CategoryId>,
    at: &str,
) {
    let stored = f.snapshot().await;
    assert_eq!(stored.categories.len(), tree.len(), "{at}");
    for c in &stored.categories {
        let node = &tree[&c.id];
        assert_eq!((c.parent_id, c.audit.is_live()), (node.parent, node.live), "{at}");
        assert_eq!(c.path, model_path(tree, c.id), "{at}: live {}", node.live);
        let own = products.values().filter(|of| **of == c.id).count();
        let below: BTreeSet<ProductId> =
            products.iter().filter(|(_, of)| model_contains(tree, c.id, **of)).map(|(p, _)| *p).collect();
        if node.live {
            assert_eq!(c.product_count, own as i64, "{at}: count of {}", c.path);
            assert_eq!(c.subtree_product_count, below.len() as i64, "{at}: subtree count of {}", c.path);
            let query = ProductListQuery {
                filter: in_category(c.id),
                sort: ProductSort::CreatedAsc,
                paging: Paging::first(1_000),
            };
            let list = f.shop.products().list(&query).await.unwrap();
            let listed: BTreeSet<ProductId> = list.value.page.items.iter().map(|p| p.id).collect();
            assert_eq!(listed, below, "{at}: list of {}", c.path);
        }
    }
    for p in &stored.products {
        assert_eq!(p.categories[0].path, model_path(tree, products[&p.id]), "{at}");
    }
    let shown = f.shop.categories().tree().await.unwrap();
    let live: BTreeSet<CategoryId> = tree.iter().filter(|(_, n)| n.live).map(|(id, _)| *id).collect();
    assert_eq!(shown.value.iter().map(|c| c.id).collect::<BTreeSet<_>>(), live, "{at}");
    let mut seen = HashSet::new();
    for c in shown.value.iter() {
        assert!(c.parent_id.is_none_or(|p| seen.contains(&p)), "{at}: parents come first");
        seen.insert(c.id);
    }
}

// ---------------------------------------------------------------- R4, R5

fn not_empty<T: fmt::Debug>(result: Result<T>, what: &str) -> (u64, u64) {
    match conflict(result, what) {
        Conflict::CategoryNotEmpty { children, products, .. } => (children, products),
        other => panic!("{what}: {other}"),
    }
}

/// By children, by products.
pub async fn r04_a_category_in_use_is_not_deleted(f: &ShopFixture) {
    let a = f.category("A", None).await;
    let b = f.category("B", Some(&a)).await;
    let p = f.plain_in("P", &[&b]).await;
    let before = f.snapshot().await;
    assert_eq!(not_empty(f.delete_category(a.id, DeleteMode::Soft).await, "a child"), (1, 0));
    assert_eq!(not_empty(f.delete_category(b.id, DeleteMode::Soft).await, "a product"), (0, 1));
    assert_eq!(not_empty(f.delete_category(b.id, DeleteMode::Force).await, "by force"), (0, 1));
    assert_eq!(f.snapshot().await, before);
    f.delete(&p, DeleteMode::Soft).await.unwrap();
    f.delete_category(b.id, DeleteMode::Soft).await.unwrap();
    f.delete_category(a.id, DeleteMode::Soft).await.unwrap();
}

/// Live or deleted; the database holds it too.
pub async fn r04_force_is_refused_while_anything_refers(f: &ShopFixture) {
    let a = f.category("A", None).await;
    let b = f.category("B", Some(&a)).await;
    let p = f.plain_in("P", &[&b]).await;
    f.delete(&p, DeleteMode::Soft).await.unwrap();
    f.delete_category(b.id, DeleteMode::Soft).await.unwrap();
    let before = f.snapshot().await;
    assert_eq!(not_empty(f.delete_category(a.id, DeleteMode::Force).await, "a deleted child"), (1, 0));
    assert_eq!(not_empty(f.delete_category(b.id, DeleteMode::Force).await, "a deleted product"), (0, 1));
    for id in [a.id, b.id] {
        let around = attempt!(f.storage, categories.purge(id));
        assert_eq!(code_of(around, "the foreign keys hold"), ErrorCode::CategoryNotEmpty);
    }
    assert_eq!(f.snapshot().await, before);
    f.delete(&f.fresh(p.id).await, DeleteMode::Force).await.unwrap();
    f.delete_category(b.id, DeleteMode::Force).await.unwrap();
    f.delete_category(a.id, DeleteMode::Force).await.unwrap();
    assert!(f.snapshot().await.categories.is_empty());
}

/// With its SKUs, their ledger and its links; a live one and a soft-deleted one.
pub async fn r05_force_removes_a_product_for_good(f: &ShopFixture) {
    let c = f.category("C", None).await;
    let (p, q) = (f.plain_in("P", &[&c]).await, f.plain_in("Q", &[&c]).await);
    f.adjust(p.skus[0].id, 5).await.unwrap();
    f.index_is_in_step("before").await;
    f.delete(&q, DeleteMode::Soft).await.unwrap();
    f.delete(&p, DeleteMode::Force).await.unwrap();
    f.delete(&f.fresh(q.id).await, DeleteMode::Force).await.unwrap();
    for id in [p.id, q.id] {
        let gone = f.shop.products().get_fresh(id, Deleted::Include).await;
        assert_eq!(code_of(gone, "it is gone"), ErrorCode::NotFound);
        assert_eq!(code_of(f.shop.products().restore(id, v(1), &me()).await, "restore"), ErrorCode::NotFound);
    }
    assert_eq!(code_of(f.shop.skus().get(p.skus[0].id, Deleted::Include).await, "its SKU"), ErrorCode::NotFound);
    assert_eq!(code_of(f.shop.inventory().level(p.skus[0].id).await, "its level"), ErrorCode::NotFound);
    let left = f.snapshot().await;
    assert_eq!((left.products.len(), left.skus.len(), left.movements), (0, 0, 0));
    assert_eq!(left.categories[0].product_count, 0);
    f.index_is_in_step("after").await;
    assert!(f.searched("", SearchFilter::default()).await.is_empty());
    f.delete_category(c.id, DeleteMode::Force).await.unwrap();
}

/// A live one, a soft-deleted one; never the last.
pub async fn r05_force_removes_a_sku_for_good(f: &ShopFixture) {
    let skus: Vec<Value> = ["a", "b", "c"].iter().map(|c| json!({ "code": c, "price": 1, "stock": 4 })).collect();
    let p = f.product(json!({ "title": "P", "skus": skus })).await;
    let skus = f.shop.skus();
    skus.delete(p.skus[0].id, v(1), DeleteMode::Force, &me()).await.unwrap();
    skus.delete(p.skus[1].id, v(1), DeleteMode::Soft, &me()).await.unwrap();
    skus.delete(p.skus[1].id, v(2), DeleteMode::Force, &me()).await.unwrap();
    let last = skus.delete(p.skus[2].id, v(1), DeleteMode::Force, &me()).await;
    assert_eq!(code_of(last, "a product keeps a SKU"), ErrorCode::StateConflict);
    assert_eq!(f.shop.skus().of_product(p.id, Deleted::Include).await.unwrap().len(), 1);
    let left = f.snapshot().await;
    assert_eq!((left.skus.len(), left.movements), (1, 1));
    assert_eq!(f.shop.inventory().imbalances().await.unwrap(), []);
    assert_eq!(**f.shop.products().get(p.id).await.unwrap().value, f.fresh(p.id).await);
}

// ---------------------------------------------------------------- R6

/// In lists, counts, filters and searches; each product once.
pub async fn r06_a_category_takes_its_subtree(f: &ShopFixture) {
    let a = f.category("A", None).await;
    let b = f.category("B", Some(&a)).await;
    let c = f.category("C", Some(&b)).await;
    let ab = f.category("A B", None).await;
    f.plain_in("In a", &[&a]).await;
    f.plain_in("In c", &[&c]).await;
    f.plain_in("In all", &[&a, &b, &c]).await;
    f.plain_in("Beside", &[&ab]).await;
    f.plain("Nowhere").await;
    f.index_is_in_step("before").await;
    for (id, expected) in [
        (a.id, vec!["In a", "In all", "In c"]),
        (b.id, vec!["In all", "In c"]),
        (c.id, vec!["In all", "In c"]),
        (ab.id, vec!["Beside"]),
    ] {
        assert_eq!(f.listed(in_category(id)).await, expected);
        let within = SearchFilter { categories: vec![id], ..SearchFilter::default() };
        assert_eq!(f.searched("", within).await, expected);
        let paging = Paging::Offset { offset: 0, limit: 1 };
        let query = ProductListQuery { filter: in_category(id), sort: ProductSort::PriceAsc, paging };
        let total = f.shop.products().list(&query).await.unwrap().value.total;
        assert_eq!(total, Some(Total { count: expected.len() as u64, exact: true }));
        assert_eq!(f.fresh_category(id).await.subtree_product_count, expected.len() as i64);
    }
}

// ---------------------------------------------------------------- R11

/// Creates, PATCHes of stock, adjustments and deletes of SKUs from 64 tasks at once.
pub async fn r11_a_random_concurrent_history_conserves_stock(f: &ShopFixture) {
    stock_storm(f, fresh_seed()).await;
}

/// What one task was told.
#[derive(Debug, Default)]
struct Told {
    accepted: Vec<(SkuId, String, i64)>,
    refused: Vec<(SkuId, String)>,
    made: Vec<SkuId>,
}

/// Replays the operations of a storm; how they interleave is up to the machine.
pub async fn stock_storm(f: &ShopFixture, seed: u64) {
    println!("seed {seed}");
    let mut shared = Vec::new();
    for n in 0..6 {
        let skus: Vec<Value> =
            (0..3).map(|m| json!({ "code": format!("s{n}-{m}"), "price": 1, "stock": n * 5 })).collect();
        shared.push(f.product(json!({ "title": format!("Shared {n}"), "skus": skus })).await);
    }
    let shared = Arc::new(shared);
    let done = Arc::new(AtomicBool::new(false));
    let watcher = tokio::spawn({
        let (shop, done) = (f.shop.clone(), done.clone());
        async move {
            while !done.load(Ordering::SeqCst) {
                assert_eq!(shop.inventory().imbalances().await.unwrap(), [], "at any moment");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    });
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..64 {
        let (shop, shared) = (f.shop.clone(), shared.clone());
        tasks.spawn(async move {
            let mut rng = StdRng::seed_from_u64(seed ^ (task + 1));
            let mut told = Told::default();
            for step in 0..8 {
                let p = &shared[rng.random_range(0..shared.len())];
                let sku = p.skus[rng.random_range(0..p.skus.len())].id;
                match rng.random_range(0..20) {
                    0..=13 => {
                        let reference = format!("{task}-{step}");
                        let delta = loop {
                            match rng.random_range(-8..8) {
                                0 => {}
                                d => break d,
                            }
                        };
                        let wanted = StockAdjustment { reference: Some(reference.clone()), ..adjustment(sku, delta) };
                        match shop.inventory().adjust(wanted).await {
                            Ok(a) => {
                                assert!(a.level.on_hand >= 0 && a.movement.delta == delta);
                                told.accepted.push((sku, reference, delta));
                            }
                            Err(e) => {
                                let code = e.code();
                                let expected = [ErrorCode::InsufficientStock, ErrorCode::NotFound];
                                assert!(expected.contains(&code), "seed {seed}: {e:?}");
                                told.refused.push((sku, reference));
                            }
                        }
                    }
                    14..=15 => {
                        let input = json!({ "title": format!("Made {task} {step}"), "price": 1, "stock": step });
                        told.made.push(shop.products().create(&from(&input), &me()).await.unwrap().skus[0].id);
                    }
                    16..=18 => {
                        let Ok(read) = shop.skus().get(sku, Deleted::Hide).await else { continue };
                        let patch: SkuPatch = from(&json!({ "stock": rng.random_range(0..20) }));
                        if let Err(e) = shop.skus().patch(sku, v(read.audit.version), patch, &me()).await {
                            let expected = [ErrorCode::VersionConflict, ErrorCode::NotFound];
                            assert!(expected.contains(&e.code()), "seed {seed}: {e:?}");
                        }
                    }
                    _ => {
                        let Ok(read) = shop.skus().get(sku, Deleted::Hide).await else { continue };
                        let mode = if rng.random_bool(0.3) { DeleteMode::Force } else { DeleteMode::Soft };
                        if let Err(e) = shop.skus().delete(sku, v(read.audit.version), mode, &me()).await {
                            let expected = [ErrorCode::VersionConflict, ErrorCode::NotFound, ErrorCode::StateConflict];
                            assert!(expected.contains(&e.code()), "seed {seed}: {e:?}");
                        }
                    }
                }
            }
            told
        });
    }
    let told = tasks.join_all().await;
    done.store(true, Ordering::SeqCst);
    watcher.await.unwrap();

    let mut ledgers: HashMap<SkuId, HashMap<String, i64>> = HashMap::new();
    for p in shared.iter() {
        for sku in f.shop.skus().of_product(p.id, Deleted::Include).await.unwrap() {
            let page = Paging::first(10_000);
            let rows = f.shop.inventory().movements(sku.id, &page).await.unwrap().0.items;
            assert!(sku.on_hand >= 0, "seed {seed}");
            assert_eq!(rows.iter().map(|m| m.delta).sum::<i64>(), sku.on_hand, "seed {seed}: {}", sku.code);
            let mut on_hand = 0;
            for m in rows.iter().rev() {
                on_hand += m.delta;
                assert!(on_hand >= 0, "seed {seed}: {} was under zero", sku.code);
            }
            let named: Vec<(String, i64)> = rows.into_iter().filter_map(|m| Some((m.reference?, m.delta))).collect();
            let count = named.len();
            let by_reference: HashMap<String, i64> = named.into_iter().collect();
            assert_eq!(by_reference.len(), count, "seed {seed}: an adjustment counts once");
            ledgers.insert(sku.id, by_reference);
        }
    }
    let mut accepted = 0;
    for t in &told {
        // A SKU that was removed for good took its ledger along.
        for (sku, reference, delta) in t.accepted.iter().filter(|(sku, ..)| ledgers.contains_key(sku)) {
            assert_eq!(ledgers[sku].get(reference), Some(delta), "seed {seed}: what was acknowledged is there");
            accepted += 1;
        }
        for (sku, reference) in &t.refused {
            assert!(
                ledgers.get(sku).is_none_or(|l| !l.contains_key(reference)),
                "seed {seed}: what was refused is not"
            );
        }
        for sku in &t.made {
            f.shop.skus().get(*sku, Deleted::Hide).await.unwrap();
        }
    }
    assert_eq!(ledgers.values().map(HashMap::len).sum::<usize>(), accepted, "seed {seed}");
    assert_eq!(f.shop.inventory().imbalances().await.unwrap(), [], "seed {seed}");
    f.index_is_in_step(&format!("seed {seed}")).await;
}

/// A control that is wrong on purpose: stock that no movement explains.
pub async fn r11_the_oracle_finds_a_defect(f: &ShopFixture) {
    f.plain("Right").await;
    assert_eq!(f.shop.inventory().imbalances().await.unwrap(), []);
    let env = crate::testkit::sample::Env::new(7);
    let wrong = env.priced("Wrong", 100, 5);
    let mut tx = f.storage.begin().await.unwrap();
    tx.products().insert(std::slice::from_ref(&wrong)).await.unwrap();
    tx.skus().insert(&wrong.skus, &[]).await.unwrap();
    tx.commit().await.unwrap();
    let found = f.shop.inventory().imbalances().await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].sku_id, found[0].on_hand, found[0].ledger), (wrong.skus[0].id, 5, 0));
}

// ---------------------------------------------------------------- R13

/// One event, of the right kind, with the revision that is stored.
pub async fn r13_each_write_has_its_event(f: &ShopFixture) {
    use EventKind as K;
    let mut at = f.head().await;
    let mut expect = async |what: &str, kind: EventKind, id: Uuid| {
        let events = f.events_after(at).await;
        at = f.head().await;
        assert_eq!(events.len(), 1, "{what}: {events:?}");
        let e = &events[0];
        assert_eq!((e.kind, e.aggregate_id), (kind, id), "{what}");
        assert_eq!(e.actor, me(), "{what}");
        let stored = match kind.entity() {
            Entity::Product => {
                let found = read!(f.storage, products.get(ProductId(id), Deleted::Include));
                found.map(|p| p.revision)
            }
            _ => read!(f.storage, categories.get(CategoryId(id), Deleted::Include)).map(|c| c.revision),
        };
        match stored {
            Some(revision) => assert_eq!(e.revision, revision, "{what}"),
            None => assert!(e.revision > 1, "{what}: later than all before"),
        }
    };
    let (products, skus, categories) = (f.shop.products(), f.shop.skus(), f.shop.categories());
    let c = f.category("C", None).await;
    expect("create", K::CategoryCreated, c.id.0).await;
    let patch = from(&json!({ "description": "d" }));
    categories.patch(c.id, v(1), patch, &me()).await.unwrap();
    expect("edit", K::CategoryUpdated, c.id.0).await;
    f.rename_category(c.id, "D").await.unwrap();
    expect("rename", K::CategoryMoved, c.id.0).await;
    f.delete_category(c.id, DeleteMode::Soft).await.unwrap();
    expect("delete", K::CategoryDeleted, c.id.0).await;
    categories.restore(c.id, v(4), &me()).await.unwrap();
    expect("restore", K::CategoryRestored, c.id.0).await;

    let p = f.plain_in("P", &[&c]).await;
    expect("create", K::ProductCreated, p.id.0).await;
    let p = f.patch(&p, json!({ "brand": "b" })).await.unwrap();
    expect("patch", K::ProductUpdated, p.id.0).await;
    f.adjust(p.skus[0].id, 1).await.unwrap();
    expect("stock", K::StockChanged, p.id.0).await;
    f.patch(&p, json!({ "stock": 3 })).await.unwrap();
    expect("stock by patch", K::ProductUpdated, p.id.0).await;
    let sku = skus.create(p.id, &from(&json!({ "price": 1, "stock": 2 })), &me()).await.unwrap();
    expect("a SKU", K::ProductUpdated, p.id.0).await;
    skus.patch(sku.id, v(1), from(&json!({ "stock": 4, "price": 2 })), &me()).await.unwrap();
    expect("a SKU's patch", K::ProductUpdated, p.id.0).await;
    skus.delete(sku.id, v(2), DeleteMode::Soft, &me()).await.unwrap();
    expect("a SKU's delete", K::ProductUpdated, p.id.0).await;
    skus.restore(sku.id, v(3), &me()).await.unwrap();
    expect("a SKU's restore", K::ProductUpdated, p.id.0).await;
    skus.delete(sku.id, v(4), DeleteMode::Force, &me()).await.unwrap();
    expect("a SKU's end", K::ProductUpdated, p.id.0).await;
    f.delete(&f.fresh(p.id).await, DeleteMode::Soft).await.unwrap();
    expect("delete", K::ProductDeleted, p.id.0).await;
    products.restore(p.id, v(f.fresh(p.id).await.audit.version), &me()).await.unwrap();
    expect("restore", K::ProductRestored, p.id.0).await;
    f.delete(&f.fresh(p.id).await, DeleteMode::Force).await.unwrap();
    expect("the end", K::ProductPurged, p.id.0).await;
    f.delete_category(c.id, DeleteMode::Force).await.unwrap();
    expect("the end", K::CategoryPurged, c.id.0).await;
}

/// Whether it fails in the library, in the database, or is rolled back by a host.
pub async fn r13_a_failed_write_has_none(f: &ShopFixture) {
    let c = f.category("C", None).await;
    f.category("Other", None).await;
    let p = f.plain_in("P", &[&c]).await;
    f.plain("Q").await;
    let before = f.snapshot().await;
    assert!(f.patch(&p, json!({ "slug": "q" })).await.is_err());
    assert!(f.patch(&p, json!({ "sku": "Q" })).await.is_err());
    assert!(f.patch(&p, json!({ "categories": ["nowhere"] })).await.is_err());
    assert!(f.rename_category(c.id, "other").await.is_err());
    assert!(f.delete_category(c.id, DeleteMode::Soft).await.is_err());
    assert!(f.adjust(p.skus[0].id, -11).await.is_err());
    let mut tx = f.storage.begin().await.unwrap();
    let values = flat("Host").check(f.shop.config().currency).unwrap();
    let (made, after) = f.shop.products().create_many_in(&mut *tx, vec![values], &me()).await.unwrap();
    assert_eq!(made.len(), 1);
    tx.rollback().await.unwrap();
    drop(after);
    assert_eq!(f.snapshot().await, before);
}

/// Also where 32 tasks write the same few products.
pub async fn r13_events_of_an_aggregate_are_in_order(f: &ShopFixture) {
    let start = f.head().await;
    let products = [f.plain("A").await, f.plain("B").await, f.plain("C").await];
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..32usize {
        let (shop, p) = (f.shop.clone(), products[task % 3].clone());
        tasks.spawn(async move {
            for n in 0..4 {
                if n % 2 == 0 {
                    shop.inventory().adjust(adjustment(p.skus[0].id, 1)).await.unwrap();
                } else {
                    let read = shop.products().get_fresh(p.id, Deleted::Hide).await.unwrap();
                    let patch = from(&json!({ "brand": format!("{task} {n}") }));
                    // A loser of the race wrote nothing.
                    let _ = shop.products().patch(p.id, v(read.audit.version), patch, &me()).await;
                }
            }
        });
    }
    tasks.join_all().await;
    let events = f.events_after(start).await;
    let ids: HashSet<_> = events.iter().map(|e| e.id).collect();
    assert_eq!(ids.len(), events.len());
    for p in products {
        let revisions: Vec<i64> = events.iter().filter(|e| e.aggregate_id == p.id.0).map(|e| e.revision).collect();
        assert!(revisions.is_sorted_by(|a, b| a < b), "{revisions:?}");
        assert_eq!(*revisions.last().unwrap(), f.fresh(p.id).await.revision, "the last event is of the last state");
    }
}

/// A lease that does not end in a test, unless the test moves the clock.
const LONG: Duration = Duration::from_secs(60);

/// Two processes, many writers: one of them handles every event once, in the order of the log.
pub async fn r13_one_process_at_a_time_runs_a_shared_consumer(f: &ShopFixture) {
    let recorders = [Recorder::new("mail"), Recorder::new("mail")];
    let mut running = Vec::new();
    for recorder in &recorders {
        let mut background = f.process(LONG).start();
        background.consume(recorder.clone()).unwrap();
        running.push(background);
    }
    let products = [f.plain("A").await, f.plain("B").await, f.plain("C").await];
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..12usize {
        let (shop, sku) = (f.shop.clone(), products[task % 3].skus[0].id);
        tasks.spawn(async move {
            for _ in 0..5 {
                shop.inventory().adjust(adjustment(sku, 1)).await.unwrap();
            }
        });
    }
    tasks.join_all().await;
    let log = f.log().await;
    until("all is handled", async || recorders.iter().map(|r| r.done().len()).sum::<usize>() >= log.len()).await;
    let [a, b] = &recorders;
    let (busy, idle) = if a.calls() > 0 { (a, b) } else { (b, a) };
    assert_eq!(busy.done(), log);
    assert_eq!(idle.calls(), 0, "one at a time");
    for background in running {
        background.shutdown().await;
    }
    assert_eq!(f.cursor("mail").await, f.head().await);
}

/// The clock stands, so that no lease runs out.
pub async fn r13_a_released_lease_is_taken_over_at_once(f: &ShopFixture) {
    let (a, b) = (Recorder::new("mail"), Recorder::new("mail"));
    let mut first = f.process(LONG).start();
    first.consume(a.clone()).unwrap();
    f.plain("A").await;
    until("the first has it", async || a.done().len() == 1).await;
    let mut second = f.process(LONG).start();
    second.consume(b.clone()).unwrap();
    f.plain("B").await;
    until("the first goes on", async || a.done().len() == 2).await;
    first.shutdown().await;
    f.plain("C").await;
    until("the second goes on", async || b.done().len() == 1).await;
    assert_eq!([a.done(), b.done()].concat(), f.log().await, "each event once");
    second.shutdown().await;
}

/// Killed in the middle of a batch: that batch comes again, and nothing before it.
pub async fn r13_the_next_takes_over_from_a_holder_that_died(f: &ShopFixture) {
    let (a, b) = (Recorder::held("mail"), Recorder::new("mail"));
    let mut first = f.process(LONG).start();
    first.consume(a.clone()).unwrap();
    let p = f.plain("A").await;
    a.permits.add_permits(1);
    until("the first has it", async || a.done().len() == 1).await;
    for _ in 0..20 {
        f.adjust(p.skus[0].id, 1).await.unwrap();
    }
    until("it is at the next batch", async || a.calls() == 2).await;
    let mut second = f.process(LONG).start();
    second.consume(b.clone()).unwrap();
    drop(first);
    until("it is dead", async || a.dropped.load(Ordering::SeqCst) == 1).await;
    let other = attempt!(f.storage, outbox.acquire("mail", "other", f.clock.now(), LONG)).unwrap();
    assert_eq!(other, None, "its lease lives on");
    assert_eq!(b.calls(), 0);
    f.clock.advance(LONG * 2);
    let log = f.log().await;
    until("the second goes on", async || b.done().len() >= log.len() - 1).await;
    assert_eq!(b.done(), log[1..], "from where the first stood, in order");
    second.shutdown().await;
}

/// It has handled its batch, and another has gone on meanwhile.
pub async fn r13_a_late_holder_moves_nothing(f: &ShopFixture) {
    let (a, b) = (Recorder::held("mail"), Recorder::new("mail"));
    let mut first = f.process(LONG).start();
    first.consume(a.clone()).unwrap();
    let p = f.plain("A").await;
    until("the first is at it", async || a.calls() == 1).await;
    // It hangs for so long that its lease runs out.
    f.clock.advance(LONG * 2);
    let mut second = f.process(LONG).start();
    second.consume(b.clone()).unwrap();
    for _ in 0..20 {
        f.adjust(p.skus[0].id, 1).await.unwrap();
    }
    let log = f.log().await;
    until("the second has everything", async || b.done().len() >= log.len()).await;
    a.permits.add_permits(100);
    until("the first ends", async || a.done().len() == 1).await;
    first.shutdown().await;
    f.adjust(p.skus[0].id, 1).await.unwrap();
    let log = f.log().await;
    until("the second goes on", async || b.done().len() >= log.len()).await;
    second.shutdown().await;
    assert_eq!(b.done(), log, "nothing twice, nothing skipped");
    assert_eq!(a.done(), log[..1], "the first has done nothing more");
    assert_eq!(f.cursor("mail").await, f.head().await, "the late word of the first was refused");
}

/// A handler that hangs does not go on behind the back of the next.
pub async fn r13_a_handler_whose_lease_is_lost_is_dropped(f: &ShopFixture) {
    let ttl = Duration::from_secs(1);
    let (a, b) = (Recorder::held("mail"), Recorder::new("mail"));
    let mut first = f.process(ttl).start();
    first.consume(a.clone()).unwrap();
    f.plain("A").await;
    until("the first is at it", async || a.calls() == 1).await;
    let mut second = f.process(LONG).start();
    second.consume(b.clone()).unwrap();
    until("it is dropped, by another who holds the lease or by time", async || {
        f.clock.advance(ttl * 2);
        a.dropped.load(Ordering::SeqCst) > 0
    })
    .await;
    until("the second has it", async || {
        f.clock.advance(ttl * 2);
        b.done().len() == 1
    })
    .await;
    assert_eq!(a.done(), []);
    first.shutdown().await;
    second.shutdown().await;
}

/// Longer than the lease lasts.
pub async fn r13_a_lease_is_renewed_while_a_handler_works(f: &ShopFixture) {
    let ttl = Duration::from_secs(2);
    let (a, b) = (Recorder::held("mail"), Recorder::new("mail"));
    let mut first = f.process(ttl).start();
    first.consume(a.clone()).unwrap();
    f.plain("A").await;
    until("the first is at it", async || a.calls() == 1).await;
    let mut second = f.process(ttl).start();
    second.consume(b.clone()).unwrap();
    // The clock of the lease runs at half the pace of the machine's, which says when it is renewed.
    for _ in 0..60 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        f.clock.advance(Duration::from_millis(50));
    }
    assert_eq!(b.calls(), 0, "the first still has it");
    a.permits.add_permits(1);
    until("the first ends", async || a.done().len() == 1).await;
    assert_eq!((a.calls(), a.dropped.load(Ordering::SeqCst)), (1, 0));
    first.shutdown().await;
    second.shutdown().await;
    assert_eq!((b.calls(), f.cursor("mail").await), (0, f.head().await));
}

/// Errors and panics; another consumer in the same process goes on all the while.
pub async fn r13_a_failing_handler_gets_its_batch_again_and_holds_up_nobody(f: &ShopFixture) {
    let (broken, mail) = (Recorder::held("broken"), Recorder::new("mail"));
    *broken.failures.lock() = [Failure::Error, Failure::Panic, Failure::Error].into();
    let p = f.plain("A").await;
    for _ in 0..20 {
        f.adjust(p.skus[0].id, 1).await.unwrap();
    }
    let mut background = f.process(LONG).start();
    background.consume(broken.clone()).unwrap();
    background.consume(mail.clone()).unwrap();
    let log = f.log().await;
    until("the other has everything", async || mail.done().len() == log.len()).await;
    assert_eq!(broken.done(), []);
    broken.permits.add_permits(100);
    until("it has recovered", async || broken.done().len() == log.len()).await;
    assert_eq!(broken.done(), log);
    let given = broken.given.lock().clone();
    assert_eq!(given[..4], vec![log[..7].to_vec(); 4], "the same batch, until it is handled");
    assert_eq!(mail.done(), log);
    background.shutdown().await;
}

/// Where it begins with what is to come, and where it was away while events were trimmed.
pub async fn r13_a_consumer_learns_that_it_missed_events(f: &ShopFixture) {
    f.plain("Before").await;
    let run = async |recorder: &Arc<Recorder>| {
        let mut background = f.process(LONG).start();
        background.consume(recorder.clone()).unwrap();
        background
    };
    let first = Recorder::from_head("mail");
    let background = run(&first).await;
    until("it has begun", async || first.missed.load(Ordering::SeqCst) == 1).await;
    until("its place is kept", async || {
        f.plain("Later").await;
        !first.done().is_empty()
    })
    .await;
    let before = f.log().await[0].id;
    assert!(first.done().iter().all(|e| e.id != before), "what happened before is none of its business");
    background.shutdown().await;

    f.clock.advance(Duration::from_secs(10));
    f.plain("While it is away").await;
    // What goes had its place in the log.
    f.log().await;
    f.clock.advance(Duration::from_secs(10));
    attempt!(f.storage, outbox.trim(f.clock.now())).unwrap();
    f.plain("When it is back").await;
    let second = Recorder::from_head("mail");
    let background = run(&second).await;
    until("it goes on", async || second.done().len() == 1).await;
    assert_eq!(second.missed.load(Ordering::SeqCst), 1, "it knows that something is gone");
    background.shutdown().await;
    let third = Recorder::from_head("mail");
    let background = run(&third).await;
    f.plain("Nothing missed").await;
    until("it goes on", async || third.done().len() == 1).await;
    assert_eq!(third.missed.load(Ordering::SeqCst), 0);
    background.shutdown().await;
}

/// Begun with what is to come, when nothing had been; what came then is for the next one, who never ran before.
pub async fn r13_a_consumer_that_began_on_an_empty_log_misses_nothing(f: &ShopFixture) {
    let (a, b) = (Recorder::from_head("mail"), Recorder::from_head("mail"));
    let mut first = f.process(LONG).start();
    first.consume(a.clone()).unwrap();
    until("it has begun", async || a.missed.load(Ordering::SeqCst) == 1).await;
    first.shutdown().await;
    f.plain("A").await;
    let mut second = f.process(LONG).start();
    second.consume(b.clone()).unwrap();
    f.plain("B").await;
    until("the next goes on", async || b.done().len() == 2).await;
    assert_eq!(b.done(), f.log().await);
    assert_eq!((a.missed.load(Ordering::SeqCst), b.missed.load(Ordering::SeqCst)), (1, 0));
    second.shutdown().await;
}

/// It is dropped in the end, and the next one has its batch at once.
pub async fn r13_a_handler_that_hangs_does_not_hold_up_a_shutdown(f: &ShopFixture) {
    let (a, b) = (Recorder::held("mail"), Recorder::new("mail"));
    let mut first = f.process(Duration::from_secs(1)).start();
    first.consume(a.clone()).unwrap();
    f.plain("A").await;
    until("it is at it", async || a.calls() == 1).await;
    tokio::time::timeout(Duration::from_secs(20), first.shutdown()).await.expect("it ends");
    assert_eq!((a.done(), a.dropped.load(Ordering::SeqCst)), (Vec::new(), 1));
    let mut second = f.process(LONG).start();
    second.consume(b.clone()).unwrap();
    until("the next has it", async || b.done().len() == 1).await;
    second.shutdown().await;
}

/// Or two would share a place in the log.
pub async fn r13_a_consumer_has_a_name_of_its_own(f: &ShopFixture) {
    let mut background = f.process(LONG).start();
    background.consume(Recorder::new("mail")).unwrap();
    for name in ["mail", "cache", "index", "trim", "", "two\nlines"] {
        let refused = fields(background.consume(Recorder::new(name)), name);
        assert_eq!(refused.keys().collect::<Vec<_>>(), ["name"], "{name}");
    }
    background.consume(Recorder::new("webhooks")).unwrap();
    background.shutdown().await;
}

// ---------------------------------------------------------------- R14

/// Creates, edits, stock, deletes, restores, purges, moves; caught up at random.
pub async fn r14_the_index_follows_random_histories(f: &ShopFixture) {
    for seed in [1, fresh_seed()] {
        index_history(f, seed).await;
    }
}

/// Replays a random history of the catalog.
pub async fn index_history(f: &ShopFixture, seed: u64) {
    println!("seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let mut categories = vec![f.category(&format!("Root {seed}"), None).await.id];
    let mut products: Vec<ProductId> = Vec::new();
    for step in 0..120 {
        random_write(f, &mut rng, &mut categories, &mut products, &format!("{seed} {step}")).await;
        if rng.random_bool(0.1) {
            f.index_is_in_step(&format!("seed {seed}, step {step}")).await;
        }
    }
    f.index_is_in_step(&format!("seed {seed}")).await;
    let look = async || {
        let mut found = vec![f.searched("product", SearchFilter::default()).await];
        for c in &categories {
            let within = SearchFilter { categories: vec![*c], ..SearchFilter::default() };
            let searched = f.searched("", within).await;
            assert_eq!(searched, f.listed(in_category(*c)).await, "seed {seed}: search and list agree");
            found.push(searched);
        }
        found
    };
    let followed = look().await;
    let report = f.shop.index().rebuild().await.unwrap();
    assert!(report.rebuilt && report.writer);
    assert_eq!(look().await, followed, "seed {seed}: what a full reindex would build");
    f.index_is_in_step(&format!("seed {seed}, rebuilt")).await;
}

async fn random_write(
    f: &ShopFixture,
    rng: &mut StdRng,
    categories: &mut Vec<CategoryId>,
    products: &mut Vec<ProductId>,
    name: &str,
) {
    let category = categories[rng.random_range(0..categories.len())];
    if products.is_empty() || rng.random_bool(0.3) {
        let input =
            json!({ "title": format!("Product {name}"), "price": 5, "stock": 3, "category": category.to_string() });
        products.push(f.product(input).await.id);
        return;
    }
    let at = rng.random_range(0..products.len());
    let p = f.fresh(products[at]).await;
    if !p.audit.is_live() {
        if rng.random_bool(0.5) {
            f.shop.products().restore(p.id, v(p.audit.version), &me()).await.unwrap();
        } else {
            f.delete(&p, DeleteMode::Force).await.unwrap();
            products.swap_remove(at);
        }
        return;
    }
    match rng.random_range(0..8) {
        0..=1 => drop(f.adjust(p.skus[0].id, rng.random_range(1..9)).await.unwrap()),
        2 => drop(f.patch(&p, json!({ "title": format!("Product renamed {name}") })).await.unwrap()),
        3 => drop(f.patch(&p, json!({ "category": category.to_string(), "discount_percentage": 5 })).await.unwrap()),
        4 => f.delete(&p, DeleteMode::Soft).await.unwrap(),
        5 => {
            let below = f.fresh_category(category).await;
            if below.depth() < 10 {
                categories.push(f.category(&format!("Below {name}"), Some(&below)).await.id);
            }
        }
        6 => drop(f.rename_category(category, &format!("Renamed {name}")).await.unwrap()),
        _ => {
            let to = categories[rng.random_range(0..categories.len())];
            if let Err(e) = f.move_category(category, Some(to)).await {
                assert_eq!(e.code(), ErrorCode::CategoryCycle, "{e}");
            }
        }
    }
}

fn document_of(p: &Product) -> SearchDocument {
    SearchDocument::of(p, &[])
}

/// An index that does not keep its place itself is written under a lease, and handed over at a shutdown.
pub async fn r14_a_shared_index_is_written_by_one_process_at_a_time(f: &ShopFixture) {
    let searches = [SharedIndex::over(f.search.clone()), SharedIndex::over(f.search.clone())];
    let mut running = Vec::new();
    for search in &searches {
        let config = ShopConfig { poll_interval: Duration::from_millis(10), ..ShopConfig::default() };
        let clock: SharedClock = f.clock.clone();
        let ids = Arc::new(UuidV7Source::new(clock.clone()));
        let (storage, search, cache) = (f.storage.clone(), search.clone(), f.cache());
        running.push(Shop::new(ShopParts { storage, search, cache, clock, ids, config }).unwrap().start());
    }
    let asked = || searches.each_ref().map(|s| s.asked.load(Ordering::SeqCst));
    let found = async |text: &str| f.searched(text, SearchFilter::default()).await.len();
    f.plain("Lamp").await;
    until("one follows", async || found("lamp").await == 1).await;
    let [a, b] = asked();
    assert!((a == 0) != (b == 0), "one of them writes: {a}, {b}");
    let busy = usize::from(a == 0);
    running.remove(busy).shutdown().await;
    f.plain("Torch").await;
    until("the other goes on", async || found("torch").await == 1).await;
    assert!(asked()[1 - busy] > 0);
    for background in running {
        background.shutdown().await;
    }
}

/// A missing, an old and a superfluous document.
pub async fn r14_verify_finds_and_repairs_drift(f: &ShopFixture) {
    let mut all = Vec::new();
    for n in 0..20 {
        all.push(f.plain(&format!("Lamp {n}")).await);
    }
    let old = f.fresh(all[3].id).await;
    f.adjust(old.skus[0].id, 1).await.unwrap();
    f.index_is_in_step("before").await;
    let now = f.search.checkpoint().await.unwrap().unwrap();
    let purged = all.pop().unwrap();
    f.delete(&purged, DeleteMode::Force).await.unwrap();

    let mut build = f.search.begin_rebuild().await.unwrap();
    let wrong = all.iter().filter(|p| p.id != all[5].id).chain([&purged]).map(document_of).collect();
    build.add(wrong).await.unwrap();
    build.publish(crate::port::Checkpoint { position: f.head().await, ..now }).await.unwrap();

    let small = f.another(ShopConfig { index_batch: 3, ..ShopConfig::default() }, f.cache());
    for shop in [&f.shop, &small] {
        let found = shop.index().verify(false).await.unwrap();
        assert_eq!((found.missing, found.stale, found.extra, found.repaired), (1, 1, 1, false), "{found:?}");
        assert!(!found.is_clean());
    }
    let repaired = small.index().verify(true).await.unwrap();
    assert!(repaired.repaired && !repaired.is_clean(), "{repaired:?}");
    let clean = f.shop.index().verify(true).await.unwrap();
    assert!(clean.is_clean() && !clean.repaired, "{clean:?}");
    assert_eq!(clean.compared, 19);
    f.index_is_in_step("after").await;
}

/// As after the restore of an old backup of the database: revisions and places in the outbox are behind the index's.
pub async fn r14_an_index_ahead_of_its_database_is_brought_back(f: &ShopFixture) {
    let p = f.plain("Lamp").await;
    let q = f.plain("Lamp two").await;
    f.index_is_in_step("before").await;
    let now = f.search.checkpoint().await.unwrap().unwrap();
    let ahead = SearchDocument { revision: p.revision + 50, ..document_of(&p) };
    let ops = || vec![IndexOp::Upsert(Box::new(ahead.clone())), IndexOp::Delete { id: q.id, revision: 50 }];
    f.search.apply(ops(), now).await.unwrap();
    let found = f.shop.index().verify(true).await.unwrap();
    assert_eq!((found.stale, found.missing, found.repaired), (1, 1, true));
    f.index_is_in_step("revisions from the future").await;

    let position = OutboxPosition { seq: now.position.seq + 1_000 };
    f.search.apply(ops(), crate::port::Checkpoint { position, ..now }).await.unwrap();
    f.plain("Lamp three").await;
    f.index_is_in_step("a place from the future").await;
    assert_eq!(f.searched("lamp", SearchFilter::default()).await.len(), 3);
}

/// No search fails or misses what has been there all along, and no write is lost.
pub async fn r14_searches_and_writes_go_on_during_rebuilds(f: &ShopFixture) {
    let mut products = Vec::new();
    for n in 0..30 {
        products.push(f.plain(&format!("Steady {n}")).await);
    }
    f.index_is_in_step("before").await;
    let done = Arc::new(AtomicBool::new(false));
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..4usize {
        let (shop, done, products) = (f.shop.clone(), done.clone(), products.clone());
        tasks.spawn(async move {
            let mut n = 0;
            while !done.load(Ordering::SeqCst) {
                n += 1;
                match task {
                    0 => {
                        let query = SearchQuery { text: "steady".to_owned(), limit: 100, ..SearchQuery::default() };
                        assert_eq!(shop.search().search(&query).await.unwrap().total.count, 30);
                    }
                    1 => drop(shop.index().catch_up().await.unwrap()),
                    _ => {
                        let p = &products[n % products.len()];
                        shop.inventory().adjust(adjustment(p.skus[0].id, 1)).await.unwrap();
                    }
                }
            }
        });
    }
    for n in 0..6 {
        let report = f.shop.index().rebuild().await.unwrap();
        assert!(report.rebuilt && report.written == 30, "rebuild {n}: {report:?}");
    }
    done.store(true, Ordering::SeqCst);
    tasks.join_all().await;
    f.index_is_in_step("after").await;
}

// ---------------------------------------------------------------- R15

/// Whatever way a value is read, it is what the database has. Twice: filled, and then cached.
async fn reads_agree(f: &ShopFixture, what: &str) {
    let stored = f.snapshot().await;
    for round in ["first", "second"] {
        let what = format!("{what}, {round} read");
        for p in &stored.products {
            let (by_id, by_slug) =
                (f.shop.products().get(p.id).await, f.shop.products().get_by_slug(p.slug.as_str()).await);
            if p.audit.is_live() {
                assert_eq!(&**by_id.unwrap().value, p, "{what}: by id");
                assert_eq!(&**by_slug.unwrap().value, p, "{what}: by slug");
            } else {
                assert_eq!(code_of(by_id, &what), ErrorCode::NotFound);
                assert!(by_slug.is_err() || by_slug.unwrap().value.id != p.id, "{what}: by slug");
            }
        }
        let mut filters = vec![ProductFilter::default()];
        filters.extend(stored.categories.iter().map(|c| in_category(c.id)));
        for filter in filters {
            for paging in [Paging::first(50), Paging::Offset { offset: 0, limit: 50 }] {
                let query = ProductListQuery { filter: filter.clone(), sort: ProductSort::TitleAsc, paging };
                let list = f.shop.products().list(&query).await.unwrap();
                let fresh = read!(f.storage, products.list(&query.filter, query.sort, &query.paging));
                assert_eq!(list.value.page, fresh, "{what}: {query:?}");
                if let Some(total) = list.value.total {
                    assert_eq!(total.count, fresh.items.len() as u64, "{what}");
                }
            }
        }
        for c in &stored.categories {
            let (by_id, by_slug) =
                (f.shop.categories().get(c.id).await, f.shop.categories().get_by_slug(c.slug.as_str()).await);
            if c.audit.is_live() {
                assert_eq!(&**by_id.unwrap().value, c, "{what}: by id");
                assert_eq!(&**by_slug.unwrap().value, c, "{what}: by slug");
            } else {
                assert_eq!(code_of(by_id, &what), ErrorCode::NotFound);
            }
        }
        assert_eq!(
            **f.shop.categories().tree().await.unwrap().value,
            read!(f.storage, categories.tree()),
            "{what}: tree"
        );
    }
}

/// By id, slug, list, category and tree.
pub async fn r15_reads_see_every_kind_of_write(f: &ShopFixture) {
    let (products, skus, categories) = (f.shop.products(), f.shop.skus(), f.shop.categories());
    reads_agree(f, "empty").await;
    let root = f.category("Root", None).await;
    reads_agree(f, "a category").await;
    let mid = f.category("Mid", Some(&root)).await;
    let low = f.category("Low", Some(&mid)).await;
    let p = f.plain_in("P", &[&low]).await;
    reads_agree(f, "a product").await;
    let q = f.plain_in("Q", &[&mid]).await;
    reads_agree(f, "another").await;
    f.clock.advance(Duration::from_secs(1));
    let p = f.patch(&p, json!({ "title": "P two", "slug": "p-two" })).await.unwrap();
    assert_eq!(code_of(products.get_by_slug("p").await, "the old slug"), ErrorCode::NotFound);
    reads_agree(f, "a patch").await;
    let q = f.patch(&q, json!({ "slug": "p" })).await.unwrap();
    assert_eq!(products.get_by_slug("p").await.unwrap().value.id, q.id, "the old slug of another");
    let p = f.patch(&p, json!({ "category": "root" })).await.unwrap();
    reads_agree(f, "other categories").await;
    let p = f.patch(&p, json!({ "status": "draft" })).await.unwrap();
    reads_agree(f, "a draft").await;
    let p = products.replace(p.id, v(p.audit.version), &flat_in("P three", &[&low]), &me()).await.unwrap();
    reads_agree(f, "a PUT").await;
    f.adjust(p.skus[0].id, -10).await.unwrap();
    reads_agree(f, "stock").await;
    f.patch(&p, json!({ "stock": 7 })).await.unwrap();
    reads_agree(f, "flat stock").await;
    let sku = skus.create(p.id, &from(&json!({ "price": "0.50" })), &me()).await.unwrap();
    reads_agree(f, "a SKU").await;
    skus.patch(sku.id, v(1), from(&json!({ "price": "0.40", "stock": 2 })), &me()).await.unwrap();
    reads_agree(f, "a SKU's patch").await;
    f.clock.advance(Duration::from_secs(1));
    skus.delete(sku.id, v(2), DeleteMode::Soft, &me()).await.unwrap();
    reads_agree(f, "a SKU's delete").await;
    skus.restore(sku.id, v(3), &me()).await.unwrap();
    reads_agree(f, "a SKU's restore").await;
    f.delete(&f.fresh(p.id).await, DeleteMode::Soft).await.unwrap();
    reads_agree(f, "a delete").await;
    products.restore(p.id, v(f.fresh(p.id).await.audit.version), &me()).await.unwrap();
    reads_agree(f, "a restore").await;
    f.rename_category(mid.id, "Middle").await.unwrap();
    assert_eq!(code_of(categories.get_by_slug("mid").await, "the old slug"), ErrorCode::NotFound);
    reads_agree(f, "a rename").await;
    let patch = from(&json!({ "description": "d" }));
    categories.patch(low.id, v(1), patch, &me()).await.unwrap();
    reads_agree(f, "a description").await;
    f.move_category(low.id, None).await.unwrap();
    reads_agree(f, "a move").await;
    let empty = f.category("Empty", Some(&mid)).await;
    f.delete_category(empty.id, DeleteMode::Soft).await.unwrap();
    reads_agree(f, "a category's delete").await;
    categories.restore(empty.id, v(2), &me()).await.unwrap();
    reads_agree(f, "a category's restore").await;
    f.delete_category(empty.id, DeleteMode::Force).await.unwrap();
    reads_agree(f, "a category's end").await;
    f.delete(&f.fresh(q.id).await, DeleteMode::Force).await.unwrap();
    assert_eq!(code_of(products.get_by_slug("p").await, "it is gone"), ErrorCode::NotFound);
    reads_agree(f, "the end").await;
    let values = flat_in("Host", &[&low]).check(f.shop.config().currency).unwrap();
    let mut tx = f.storage.begin().await.unwrap();
    let (_, after) = products.create_many_in(&mut *tx, vec![values], &me()).await.unwrap();
    tx.commit().await.unwrap();
    after.run(&f.shop).await;
    reads_agree(f, "a host's transaction").await;
}

/// Holds back the first who comes once it is closed.
#[derive(Debug)]
struct Gate {
    closed: AtomicBool,
    held: AtomicU64,
    release: Semaphore,
}

impl Default for Gate {
    fn default() -> Self {
        Self { closed: AtomicBool::new(false), held: AtomicU64::new(0), release: Semaphore::new(0) }
    }
}

impl Gate {
    async fn pass(&self) {
        if self.closed.swap(false, Ordering::SeqCst) {
            self.held.fetch_add(1, Ordering::SeqCst);
            self.release.acquire().await.unwrap().forget();
            self.held.fetch_sub(1, Ordering::SeqCst);
        }
    }

    fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }

    async fn holds_one(&self) {
        until("somebody is held", async || self.held.load(Ordering::SeqCst) == 1).await;
    }

    fn open(&self) {
        self.release.add_permits(1);
    }
}

/// A cache with gates before a load and before a fill.
#[derive(Debug)]
struct Gated {
    inner: Arc<dyn Cache>,
    load: Gate,
    fill: Gate,
    gets: AtomicU64,
}

impl Gated {
    fn over(inner: Arc<dyn Cache>) -> Arc<Self> {
        Arc::new(Self { inner, load: Gate::default(), fill: Gate::default(), gets: AtomicU64::new(0) })
    }
}

#[async_trait]
impl Cache for Gated {
    fn name(&self) -> &'static str {
        self.inner.name()
    }
    fn is_shared(&self) -> bool {
        self.inner.is_shared()
    }
    fn local(&self, key: &CacheKey) -> Option<CacheValue> {
        self.inner.local(key)
    }
    async fn get(&self, key: &CacheKey, codec: &'static Codec) -> Option<CacheValue> {
        self.gets.fetch_add(1, Ordering::SeqCst);
        self.inner.get(key, codec).await
    }
    async fn begin_fill(&self, key: &CacheKey) -> FillToken {
        let token = self.inner.begin_fill(key).await;
        self.load.pass().await;
        token
    }
    async fn fill(
        &self,
        key: &CacheKey,
        value: CacheValue,
        codec: &'static Codec,
        ttl: Duration,
        token: FillToken,
    ) -> bool {
        self.fill.pass().await;
        self.inner.fill(key, value, codec, ttl, token).await
    }
    async fn invalidate(&self, keys: &[CacheKey]) -> Result<()> {
        self.inner.invalidate(keys).await
    }
    async fn invalidate_local(&self, keys: &[CacheKey]) {
        self.inner.invalidate_local(keys).await;
    }
    async fn clear_local(&self) {
        self.inner.clear_local().await;
    }
    async fn clear(&self) -> Result<()> {
        self.inner.clear().await
    }
    async fn ping(&self) -> Result<()> {
        self.inner.ping().await
    }
    fn stats(&self) -> CacheStats {
        self.inner.stats()
    }
}

/// Sixty-four readers of one product cost what one costs.
pub async fn r15_concurrent_misses_load_once(f: &ShopFixture) {
    let p = f.plain("Lamp").await;
    let gated = Gated::over(f.cache());
    let shop = f.another(ShopConfig::default(), gated.clone());
    // Once for connections that open late.
    shop.products().get(p.id).await.unwrap();
    gated.clear().await.unwrap();
    let before = f.storage.statements();
    shop.products().get(p.id).await.unwrap();
    let one = f.storage.statements() - before;
    assert!(one > 0);
    gated.clear().await.unwrap();

    let (before, gets) = (f.storage.statements(), gated.gets.load(Ordering::SeqCst));
    gated.load.close();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let (shop, id) = (shop.clone(), p.id);
        tasks.spawn(async move { shop.products().get(id).await.unwrap().value.title.clone() });
    }
    gated.load.holds_one().await;
    until("all have missed", async || gated.gets.load(Ordering::SeqCst) - gets >= 64).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    gated.load.open();
    assert!(tasks.join_all().await.iter().all(|t| t == "Lamp"));
    assert_eq!(f.storage.statements() - before, one, "one load for all");

    // A leader that goes away leaves the load to somebody else.
    gated.clear().await.unwrap();
    gated.load.close();
    let leader = tokio::spawn({
        let (shop, id) = (shop.clone(), p.id);
        async move { shop.products().get(id).await.map(drop) }
    });
    gated.load.holds_one().await;
    let follower = tokio::spawn({
        let (shop, id) = (shop.clone(), p.id);
        async move { shop.products().get(id).await.unwrap().value.title.clone() }
    });
    tokio::time::sleep(Duration::from_millis(20)).await;
    leader.abort();
    assert_eq!(follower.await.unwrap(), "Lamp");
}

/// A reader that is slow between its load and its fill; by id, slug, list, category and tree.
pub async fn r15_a_held_reader_does_not_put_an_old_value_back(f: &ShopFixture) {
    let c = f.category("Old", None).await;
    let p = f.plain_in("Old", &[&c]).await;
    let gated = Gated::over(f.cache());
    let shop = f.another(ShopConfig::default(), gated.clone());
    let list = || ProductListQuery {
        filter: ProductFilter::default(),
        sort: ProductSort::TitleAsc,
        paging: Paging::first(10),
    };
    let look = async |shop: &Shop, way: usize| match way {
        0 => shop.products().get(p.id).await.unwrap().value.title.clone(),
        1 => shop.products().get_by_slug("old").await.unwrap().value.title.clone(),
        2 => shop.products().list(&list()).await.unwrap().value.page.items[0].title.clone(),
        3 => shop.categories().get(c.id).await.unwrap().value.name.clone(),
        4 => shop.categories().tree().await.unwrap().value[0].name.clone(),
        5 => shop.categories().get_by_slug("old").await.unwrap().value.name.clone(),
        _ => shop.products().get_many(&[p.id]).await.unwrap()[0].title.clone(),
    };
    for way in 0..7 {
        for round in 0..2 {
            let new = format!("Name {way} {round}");
            gated.clear().await.unwrap();
            gated.fill.close();
            let held = async {
                look(&shop, way).await;
            };
            let write = async {
                gated.fill.holds_one().await;
                if (3..=5).contains(&way) {
                    let patch = from(&json!({ "name": new, "slug": "old" }));
                    let read = v(shop.categories().get_fresh(c.id, Deleted::Hide).await.unwrap().audit.version);
                    shop.categories().patch(c.id, read, patch, &me()).await.unwrap();
                } else {
                    let read = v(shop.products().get_fresh(p.id, Deleted::Hide).await.unwrap().audit.version);
                    shop.products().patch(p.id, read, from(&json!({ "title": new })), &me()).await.unwrap();
                }
                // Which product has a slug did not change: a later reader may wait for that.
                if way != 1 {
                    assert_eq!(look(&shop, way).await, new, "way {way}: a later reader does not join the old load");
                }
                gated.fill.open();
            };
            futures::join!(held, write);
            assert_eq!(look(&shop, way).await, new, "way {way}: the old value is back");
        }
    }
}

/// What another process wrote, with no word of it: old until the TTL, and not a second longer.
pub async fn r15_a_cached_read_is_never_older_than_its_ttl(f: &ShopFixture) {
    let c = f.category("Old", None).await;
    let p = f.plain_in("Old", &[&c]).await;
    let other = f.another(ShopConfig::default(), f.cache());
    let query =
        ProductListQuery { filter: ProductFilter::default(), sort: ProductSort::TitleAsc, paging: Paging::first(10) };
    let look = async || {
        [
            f.shop.products().get(p.id).await.unwrap().value.title.clone(),
            f.shop.products().get_by_slug("old").await.unwrap().value.title.clone(),
            f.shop.products().list(&query).await.unwrap().value.page.items[0].title.clone(),
        ]
    };
    let look_at_category = async || {
        [
            f.shop.categories().get(c.id).await.unwrap().value.description.clone(),
            f.shop.categories().tree().await.unwrap().value[0].description.clone(),
        ]
    };
    look().await;
    look_at_category().await;
    other.products().patch(p.id, v(1), from(&json!({ "title": "New" })), &me()).await.unwrap();
    let patch = from(&json!({ "description": "New" }));
    other.categories().patch(c.id, v(1), patch, &me()).await.unwrap();
    if f.cache().is_shared() {
        // There is a word of it. That what is shared ends with its TTL is in the suite of caches: no clock of ours ages it.
        until("another process's write is seen", async || look().await == ["New"; 3]).await;
        until("also of a category", async || {
            look_at_category().await.iter().all(|text| text.as_deref() == Some("New"))
        })
        .await;
        return;
    }
    let cached = f.cache().name() != "none";
    f.clock.advance(Duration::from_secs(299));
    assert_eq!(look().await, [if cached { "Old" } else { "New" }; 3]);
    f.clock.advance(Duration::from_secs(1));
    assert_eq!(look().await, ["New"; 3]);
    let new = Some("New".to_owned());
    let (seen, expected) = (look_at_category().await, if cached { None } else { new.clone() });
    assert_eq!(seen, [expected.clone(), expected]);
    f.clock.advance(Duration::from_secs(3_300));
    assert_eq!(look_at_category().await, [new.clone(), new]);
}

/// Two shops on one database, each with a cache of its own.
pub async fn r15_another_processes_write_is_seen_after_the_poll(f: &ShopFixture) {
    let config = ShopConfig { poll_interval: Duration::from_millis(20), ..ShopConfig::default() };
    let other = f.another(config, f.cache());
    let background = other.start();
    let c = f.category("Old", None).await;
    let p = f.plain_in("Old", &[&c]).await;
    let query =
        ProductListQuery { filter: ProductFilter::default(), sort: ProductSort::TitleAsc, paging: Paging::first(10) };
    for n in 0..3 {
        let read = other.products().get(p.id).await.unwrap();
        let tree = other.categories().tree().await.unwrap();
        other.products().list(&query).await.unwrap();
        let title = format!("New {n}");
        let patch = from(&json!({ "title": title }));
        f.shop.products().patch(p.id, v(read.value.audit.version.max(n + 1)), patch, &me()).await.unwrap();
        until("a product", async || other.products().get(p.id).await.unwrap().value.title == title).await;
        until("a list", async || other.products().list(&query).await.unwrap().value.page.items[0].title == title).await;
        assert!(!tree.value.is_empty());
        f.rename_category(c.id, &title).await.unwrap();
        until("the tree", async || other.categories().tree().await.unwrap().value[0].name == title).await;
        until("a category", async || other.categories().get(c.id).await.unwrap().value.name == title).await;
        until("its name on a product", async || {
            other.products().get(p.id).await.unwrap().value.categories[0].name == title
        })
        .await;
    }
    background.shutdown().await;
}

/// A writer that died after its commit has told nobody.
pub async fn r15_a_shared_cache_is_told_by_one_process_and_each_tells_itself(f: &ShopFixture) {
    let caches = [Arc::new(Instructed::default()), Arc::new(Instructed::default())];
    let config = ShopConfig { poll_interval: Duration::from_millis(10), ..ShopConfig::default() };
    let running = caches.each_ref().map(|cache| f.another(config.clone(), cache.clone()).start());
    until("all have begun", async || {
        caches.iter().all(|c| c.was(Word::LocalClear)) && caches.iter().any(|c| c.was(Word::SharedClear))
    })
    .await;
    let mut last = None;
    // Only once the place of the shared one is known are events its business.
    until("what is shared is dropped", async || {
        let p = f.plain("P").await;
        last = Some(p.id);
        tokio::time::sleep(Duration::from_millis(50)).await;
        caches.iter().any(|c| c.was(Word::Shared(CacheKey::Product(p.id))))
    })
    .await;
    let key = CacheKey::Product(last.unwrap());
    until("each drops its own", async || caches.iter().all(|c| c.was(Word::Local(key)))).await;
    assert_eq!(caches.iter().filter(|c| c.was(Word::Shared(key))).count(), 1, "one tells it");
    for background in running {
        background.shutdown().await;
    }
}

// ---------------------------------------------------------------- R16, R17

/// What people read names what they sent, never how it is stored.
pub async fn r16_every_error_has_its_code_and_shows_no_sql(f: &ShopFixture) {
    let a = f.category("A", None).await;
    let b = f.category("B", Some(&a)).await;
    let p = f.plain_in("P", &[&b]).await;
    let two =
        f.product(json!({ "title": "Two", "skus": [{ "code": "x", "price": 1 }, { "code": "y", "price": 1 }] })).await;
    let nobody = ProductId(Uuid::from_u128(9));
    let create = async |input: Value| f.shop.products().create(&from(&input), &me()).await.map(drop);
    let external = json!({ "title": "E", "price": 1, "source": "s", "external_id": "1" });
    create(external.clone()).await.unwrap();
    let cases = [
        (f.shop.products().get(nobody).await.map(drop), ErrorCode::NotFound),
        (f.shop.products().get_by_slug("'; DROP TABLE products --").await.map(drop), ErrorCode::NotFound),
        (f.shop.skus().get_by_code("none").await.map(drop), ErrorCode::NotFound),
        (f.shop.categories().resolve("none").await.map(drop), ErrorCode::NotFound),
        (f.adjust(SkuId(Uuid::from_u128(9)), 1).await.map(drop), ErrorCode::NotFound),
        (f.patch(&two, json!({ "price": 5 })).await.map(drop), ErrorCode::FlatWriteRefused),
        (
            f.shop.products().patch(p.id, v(9), ProductPatch::default(), &me()).await.map(drop),
            ErrorCode::VersionConflict,
        ),
        (
            f.shop.products().patch(p.id, Read::Unsaid, ProductPatch::default(), &me()).await.map(drop),
            ErrorCode::VersionRequired,
        ),
        (create(json!({ "title": "P", "slug": "p", "price": 1 })).await, ErrorCode::Duplicate),
        (create(json!({ "title": "P", "sku": "X", "price": 1 })).await, ErrorCode::Duplicate),
        (create(external).await, ErrorCode::Duplicate),
        (create(json!({ "title": "P", "price": 1, "currency": "EUR" })).await, ErrorCode::CurrencyMismatch),
        (create(json!({ "title": "P", "price": -1 })).await, ErrorCode::Validation),
        (create(json!({ "title": "P", "price": 1, "category": "none" })).await, ErrorCode::Validation),
        (f.move_category(a.id, Some(b.id)).await.map(drop), ErrorCode::CategoryCycle),
        (f.delete_category(a.id, DeleteMode::Soft).await, ErrorCode::CategoryNotEmpty),
        (f.shop.categories().create(&category_input("a", None), &me()).await.map(drop), ErrorCode::Duplicate),
        (f.adjust(p.skus[0].id, -99).await.map(drop), ErrorCode::InsufficientStock),
        (f.shop.products().restore(p.id, v(1), &me()).await.map(drop), ErrorCode::StateConflict),
    ];
    for (result, code) in cases {
        let error = result.expect_err(code.as_str());
        assert_eq!(error.code(), code, "{error:?}");
        assert!(!error.is_retryable() && !error.outcome_unknown(), "{error:?}");
        let message = error.to_string();
        assert!(!message.is_empty());
        let quoted = message.contains("DROP TABLE");
        for word in ["SELECT", "INSERT", "UPDATE", "sqlite", "SQL", "constraint", "UNIQUE", "products.", "/tmp"] {
            assert!(quoted || !message.contains(word), "{message}");
        }
    }
    let missing: ProductInput = from(&json!({ "title": "P", "price": 1, "categories": ["a", "none"] }));
    let named = fields(f.shop.products().create(&missing, &me()).await, "a reference");
    assert_eq!(named.get("categories[1]"), Some(&FieldCode::ReferenceNotFound), "{named:?}");
    let mut seen = HashSet::new();
    assert!(ErrorCode::ALL.iter().all(|c| seen.insert(c.as_str()) && !c.meaning().is_empty()));
}

/// Each case: the input, and the fields that must be named, no more and no fewer.
pub async fn r17_bad_products_name_each_field_and_leave_nothing(f: &ShopFixture) {
    let p = f.plain("Lamp").await;
    let before = f.snapshot().await;
    let long = |n: usize| "x".repeat(n);
    let huge = long(10_000_000);
    let mut attributes = Attributes::default();
    attributes.0.insert("k".to_owned(), Value::String(long(16 * 1024)));
    let many = |n: usize, value: Value| Value::Array(vec![value; n]);
    let cases: Vec<(Value, Vec<&str>)> = vec![
        (json!({ "title": "" }), vec!["title"]),
        (json!({ "title": "   " }), vec!["title"]),
        (json!({ "title": long(256) }), vec!["title"]),
        (json!({ "title": "bell \u{7}" }), vec!["title"]),
        (json!({ "slug": "" }), vec!["slug"]),
        (json!({ "slug": "No Slug" }), vec!["slug"]),
        (json!({ "slug": long(101) }), vec!["slug"]),
        (json!({ "slug": "search" }), vec!["slug"]),
        (json!({ "slug": "0193b5a6-0000-7000-8000-000000000000" }), vec!["slug"]),
        (json!({ "description": huge }), vec!["description"]),
        (json!({ "brand": long(101) }), vec!["brand"]),
        (
            json!({ "warranty_information": long(256), "shipping_information": long(256) }),
            vec!["shipping_information", "warranty_information"],
        ),
        (json!({ "tags": ["ok", "", long(51)] }), vec!["tags[1]", "tags[2]"]),
        (json!({ "tags": many(51, json!("t")) }), vec!["tags"]),
        (json!({ "images": [{ "url": "javascript:alert(1)" }] }), vec!["images[0].url"]),
        (json!({ "images": [{ "url": "//evil.example/x" }] }), vec!["images[0].url"]),
        (json!({ "images": [{ "url": format!("/{}", long(500)) }] }), vec!["images[0].url"]),
        (json!({ "images": [{ "url": "/a", "alt": long(256) }] }), vec!["images[0].alt"]),
        (json!({ "images": [{ "url": "/a", "primary": true }, { "url": "/b", "primary": true }] }), vec!["images"]),
        (json!({ "attributes": attributes.0 }), vec!["attributes"]),
        (json!({ "attributes": { "a": "\u{0}" } }), vec!["attributes"]),
        (json!({ "discount_percentage": "100.01" }), vec!["discount_percentage"]),
        (json!({ "discount_percentage": -1 }), vec!["discount_percentage"]),
        (json!({ "discount_percentage": "1.001" }), vec!["discount_percentage"]),
        (json!({ "price": -1 }), vec!["price"]),
        (json!({ "price": "99.999" }), vec!["price"]),
        (json!({ "price": "1e25" }), vec!["price"]),
        (json!({ "stock": -1 }), vec!["stock"]),
        (json!({ "stock": i64::MAX }), vec!["stock"]),
        (json!({ "low_stock_threshold": -1 }), vec!["low_stock_threshold"]),
        (json!({ "sku": "" }), vec!["sku"]),
        (json!({ "sku": long(101) }), vec!["sku"]),
        (json!({ "barcode": long(101) }), vec!["barcode"]),
        (json!({ "weight": "1.234" }), vec!["weight"]),
        (
            json!({ "dimensions": { "width": -1, "height": 1, "depth": "0.001" } }),
            vec!["dimensions.depth", "dimensions.width"],
        ),
        (json!({ "source": "erp" }), vec!["external_id"]),
        (json!({ "external_id": "1" }), vec!["source"]),
        (json!({ "category": "a", "categories": ["b"] }), vec!["category"]),
        (json!({ "category": "nowhere" }), vec!["categories[0]"]),
        (json!({ "categories": ["nowhere", Uuid::from_u128(5).to_string()] }), vec!["categories[0]", "categories[1]"]),
        (json!({ "currency": "EURO" }), vec!["currency"]),
        (
            json!({ "title": "", "price": -1, "stock": -1, "brand": long(101) }),
            vec!["brand", "price", "stock", "title"],
        ),
    ];
    for (bad, expected) in cases {
        let mut input = json!({ "title": "Good", "price": 1 });
        for (k, value) in bad.as_object().unwrap() {
            input[k] = value.clone();
        }
        let shown: String = bad.to_string().chars().take(200).collect();
        let input: ProductInput = from(&input);
        let named = fields(f.shop.products().create(&input, &me()).await, &shown);
        assert_eq!(named.keys().map(String::as_str).collect::<Vec<_>>(), expected, "{shown}");
        let named = fields(f.shop.products().replace(p.id, v(1), &input, &me()).await, &shown);
        assert_eq!(named.keys().map(String::as_str).collect::<Vec<_>>(), expected, "PUT {shown}");
    }
    let no_price: ProductInput = from(&json!({ "title": "Good" }));
    let named = fields(f.shop.products().create(&no_price, &me()).await, "no price");
    assert_eq!(named.get("price"), Some(&FieldCode::Required), "{named:?}");
    for (patch, expected) in [
        (json!({ "title": null }), "title"),
        (json!({ "status": null }), "status"),
        (json!({ "price": null }), "price"),
        (json!({ "stock": null }), "stock"),
        (json!({ "sku": null }), "sku"),
        (json!({ "skus": null }), "skus"),
        (json!({ "skus": [] }), "skus"),
        (json!({ "title": "" }), "title"),
        (json!({ "price": "0.001" }), "price"),
        (json!({ "category": "nowhere" }), "categories[0]"),
    ] {
        let result = f.shop.products().patch(p.id, v(1), from(&patch), &me()).await;
        let named = fields(result, &patch.to_string());
        // A flat field of a patch is a field of the only SKU.
        let expected_sku = format!("skus[0].{expected}");
        assert!(named.contains_key(expected) || named.contains_key(&expected_sku), "{patch}: {named:?}");
        assert_eq!(named.len(), 1, "{patch}: {named:?}");
    }
    assert_eq!(f.snapshot().await, before);
}

/// In a product and alone.
pub async fn r17_bad_skus_name_each_field_and_leave_nothing(f: &ShopFixture) {
    let p = f.plain("Lamp").await;
    let sku = p.skus[0].id;
    let before = f.snapshot().await;
    let long = |n: usize| "x".repeat(n);
    let options: Value = (0..11).map(|n| (format!("o{n}"), json!("v"))).collect::<serde_json::Map<_, _>>().into();
    let cases = [
        (json!({ "price": -1 }), "price"),
        (json!({ "price": "0.001" }), "price"),
        (json!({ "code": "" }), "code"),
        (json!({ "code": long(101) }), "code"),
        (json!({ "option_values": options }), "option_values"),
        (json!({ "option_values": { "size": long(101) } }), "option_values.size"),
        (json!({ "attributes": { "k": long(17_000) } }), "attributes"),
        (json!({ "weight": -1 }), "weight"),
        (json!({ "dimensions": { "width": 1, "height": -1, "depth": 1 } }), "dimensions.height"),
        (json!({ "stock": -1 }), "stock"),
        (json!({ "low_stock_threshold": -1 }), "low_stock_threshold"),
        (json!({ "barcode": long(101) }), "barcode"),
    ];
    for (bad, field) in cases {
        let what = format!("{field} of a SKU");
        let mut input = json!({ "price": 1 });
        for (k, value) in bad.as_object().unwrap() {
            input[k] = value.clone();
        }
        let alone: SkuInput = from(&input);
        let skus = f.shop.skus();
        for result in [
            skus.create(p.id, &alone, &me()).await,
            skus.replace(sku, v(1), &alone, &me()).await,
            skus.patch(sku, v(1), from(&bad), &me()).await,
        ] {
            let named = fields(result, &what);
            assert_eq!(named.keys().collect::<Vec<_>>(), [field], "{what}");
        }
        let both: ProductInput = from(&json!({ "title": "Two", "skus": [{ "price": 1 }, input] }));
        for result in
            [f.shop.products().create(&both, &me()).await, f.shop.products().replace(p.id, v(1), &both, &me()).await]
        {
            let named = fields(result, &what);
            assert_eq!(named.keys().cloned().collect::<Vec<_>>(), [format!("skus[1].{field}")], "{what}");
        }
    }
    let products: [(Value, &str); 5] = [
        (json!({ "skus": [{ "price": 1, "code": "a" }, { "price": 1, "code": "A" }] }), "skus[1].code"),
        (json!({ "skus": [] }), "skus"),
        (json!({ "skus": vec![json!({ "price": 1 }); 201] }), "skus"),
        (json!({ "skus": [{ "price": 1 }], "price": 1 }), "price"),
        (json!({ "skus": [{ "price": 1 }, {}] }), "skus[1].price"),
    ];
    for (bad, field) in products {
        let mut input = bad.clone();
        input["title"] = json!("Two");
        let named = fields(f.shop.products().create(&from(&input), &me()).await, field);
        assert!(named.contains_key(field), "{named:?}");
    }
    let foreign: ProductInput = from(&json!({ "title": "P", "skus": [{ "id": Uuid::from_u128(3), "price": 1 }] }));
    let named = fields(f.shop.products().replace(p.id, v(1), &foreign, &me()).await, "an id of another product");
    assert_eq!(named.get("skus[0].id"), Some(&FieldCode::ReferenceNotFound));
    for field in ["code", "price", "stock", "low_stock_threshold"] {
        let patch = from(&json!({ field: null }));
        let named = fields(f.shop.skus().patch(sku, v(1), patch, &me()).await, field);
        assert_eq!(named.get(field), Some(&FieldCode::Required));
    }
    assert_eq!(f.snapshot().await, before);
}

/// Create, PUT and PATCH.
pub async fn r17_bad_categories_name_each_field_and_leave_nothing(f: &ShopFixture) {
    let c = f.category("Lamps", None).await;
    let before = f.snapshot().await;
    let long = |n: usize| "x".repeat(n);
    for (bad, field) in [
        (json!({ "name": "" }), "name"),
        (json!({ "name": long(101) }), "name"),
        (json!({ "name": "a\u{0}b" }), "name"),
        (json!({ "slug": "Not a slug" }), "slug"),
        (json!({ "slug": "tree" }), "slug"),
        (json!({ "description": long(5_001) }), "description"),
        (json!({ "attributes": { "k": long(17_000) } }), "attributes"),
        (json!({ "parent_id": "nowhere" }), "parent_id"),
        (json!({ "parent_id": Uuid::from_u128(4).to_string() }), "parent_id"),
        (json!({ "parent_id": "wrong/lamps" }), "parent_id"),
    ] {
        let mut input = json!({ "name": "Good" });
        for (k, value) in bad.as_object().unwrap() {
            input[k] = value.clone();
        }
        let input: CategoryInput = from(&input);
        let categories = f.shop.categories();
        for result in [
            categories.create(&input, &me()).await,
            categories.replace(c.id, v(1), &input, &me()).await,
            categories.patch(c.id, v(1), from(&bad), &me()).await,
        ] {
            let named = fields(result, field);
            assert_eq!(named.keys().collect::<Vec<_>>(), [field]);
        }
    }
    let half = CategoryInput { source: Some("erp".to_owned()), ..category_input("Good", None) };
    assert!(fields(f.shop.categories().create(&half, &me()).await, "half a reference").contains_key("external_id"));
    let named = fields(f.shop.categories().patch(c.id, v(1), from(&json!({ "name": null })), &me()).await, "null");
    assert_eq!(named.get("name"), Some(&FieldCode::Required));
    assert_eq!(f.snapshot().await, before);
}

/// A name that no row can have is nobody's, on every database, and no error of one.
pub async fn r17_what_nothing_can_be_called_is_not_looked_up(f: &ShopFixture) {
    f.plain("Lamp").await;
    for name in ["la\0mp", "\0", "", "LAMP", &"x".repeat(100_000)] {
        let shown: String = name.chars().take(10).collect();
        assert_eq!(code_of(f.shop.products().get_by_slug(name).await, &shown), ErrorCode::NotFound);
        assert_eq!(code_of(f.shop.categories().get_by_slug(name).await, &shown), ErrorCode::NotFound);
        assert_eq!(code_of(f.shop.categories().resolve(name).await, &shown), ErrorCode::NotFound);
        assert_eq!(code_of(f.shop.skus().get_by_code(&format!("{name}?")).await, &shown), ErrorCode::NotFound);
        assert_eq!(f.shop.skus().find_by_barcode(name).await.unwrap(), []);
        let statements = f.storage.statements();
        if name != "LAMP" && !name.is_empty() {
            let brand = ProductFilter { brand: Some(name.to_owned()), ..ProductFilter::default() };
            let tag = ProductFilter { tag: Some(name.to_owned()), ..ProductFilter::default() };
            for filter in [brand, tag] {
                let query =
                    ProductListQuery { filter: filter.clone(), sort: ProductSort::TitleAsc, paging: Paging::first(5) };
                let refused = f.shop.products().list(&query).await;
                assert_eq!(code_of(refused, &shown), ErrorCode::Validation);
                assert_eq!(code_of(f.shop.products().filters(&filter).await, &shown), ErrorCode::Validation);
            }
            assert_eq!(f.storage.statements(), statements, "{shown}: refused before it touches the database");
        }
    }
}

/// A bad one in a batch fails alone.
pub async fn r17_bad_adjustments_leave_nothing(f: &ShopFixture) {
    let p = f.plain("Lamp").await;
    let sku = p.skus[0].id;
    let before = f.snapshot().await;
    let adjust = async |a: StockAdjustment| f.shop.inventory().adjust(a).await;
    for delta in [0, i64::MIN, i64::MAX, 1_000_000_000_001, 1_000_000_000_000] {
        assert!(fields(adjust(adjustment(sku, delta)).await, "delta").contains_key("delta"), "{delta}");
    }
    let initial = StockAdjustment { reason: StockReason::Initial, ..adjustment(sku, 1) };
    assert!(fields(adjust(initial).await, "reason").contains_key("reason"));
    for reference in [String::new(), "x".repeat(256), "a\u{0}".to_owned()] {
        let bad = StockAdjustment { reference: Some(reference), ..adjustment(sku, 1) };
        assert!(fields(adjust(bad).await, "reference").contains_key("reference"));
    }
    assert_eq!(code_of(adjust(adjustment(sku, -11)).await, "too many"), ErrorCode::InsufficientStock);
    assert_eq!(f.snapshot().await, before);
    let mixed =
        [adjustment(sku, -11), adjustment(sku, -4), adjustment(SkuId(Uuid::from_u128(1)), 1), adjustment(sku, -6)];
    let results = futures::future::join_all(mixed.map(adjust)).await;
    let worked: Vec<bool> = results.iter().map(Result::is_ok).collect();
    assert_eq!(worked, [false, true, false, true], "{results:?}");
    assert_eq!(f.shop.inventory().level(sku).await.unwrap().on_hand, 0);
    assert_eq!(f.shop.inventory().imbalances().await.unwrap(), []);
}

// ---------------------------------------------------------------- writing products

/// One SKU and one category from flat fields, and back.
pub async fn flat_writes_and_reads_mean_the_default_sku(f: &ShopFixture) {
    let c = f.category("Lamps", None).await;
    let input = json!({
        "title": "Lamp", "price": 12.5, "stock": 3, "sku": "L-1", "weight": "1.20", "barcode": "4012",
        "dimensions": { "width": 1, "height": "2.5", "depth": 3 }, "category": "lamps", "low_stock_threshold": 3,
    });
    let p = f.product(input).await;
    assert_eq!(p.categories.iter().map(|c| c.id).collect::<Vec<_>>(), [c.id]);
    assert_eq!(p.skus.len(), 1);
    let sku = p.default_sku().unwrap();
    assert_eq!((sku.code.as_str(), sku.price.minor(), sku.on_hand), ("L-1", 1_250, 3));
    assert_eq!(sku.weight.unwrap().hundredths(), 120);
    assert_eq!(sku.dimensions.unwrap().height.hundredths(), 250);
    assert_eq!((sku.barcode.as_deref(), sku.low_stock_threshold), (Some("4012"), 3));
    assert_eq!(p.availability().as_str(), "limited");
    assert_eq!(f.fresh(p.id).await, p);

    let p = f.patch(&p, json!({ "price": 13, "stock": 9, "weight": null })).await.unwrap();
    let now = p.default_sku().unwrap();
    assert_eq!((now.id, now.price.minor(), now.on_hand, now.weight), (sku.id, 1_300, 9, None));
    assert_eq!((now.code.as_str(), now.barcode.as_deref()), ("L-1", Some("4012")), "the rest stays");
    assert_eq!(f.fresh(p.id).await, p);
    let put: ProductInput = from(&json!({ "title": "Lamp", "price": 14 }));
    let p = f.shop.products().replace(p.id, v(p.audit.version), &put, &me()).await.unwrap();
    let now = p.default_sku().unwrap();
    assert_eq!((now.id, now.price.minor(), now.on_hand), (sku.id, 1_400, 9), "the same SKU, its stock untouched");
    assert!(p.categories.is_empty() && now.barcode.is_none(), "PUT replaces");

    f.shop.skus().create(p.id, &from(&json!({ "price": 20, "code": "L-2" })), &me()).await.unwrap();
    let p = f.fresh(p.id).await;
    let before = f.snapshot().await;
    for (field, value) in [("price", json!(1)), ("stock", json!(1)), ("sku", json!("z")), ("weight", json!(1))] {
        match conflict(f.patch(&p, json!({ field: value })).await, field) {
            Conflict::FlatWrite { product, skus: 2, field: named } => assert_eq!((product, named), (p.id.0, field)),
            other => panic!("{other}"),
        }
    }
    let put = f.shop.products().replace(p.id, v(p.audit.version), &put, &me()).await;
    assert_eq!(code_of(put, "PUT"), ErrorCode::FlatWriteRefused);
    assert_eq!(f.snapshot().await, before);
    assert_eq!(f.patch(&p, json!({ "title": "Lamps" })).await.unwrap().skus.len(), 2, "a patch leaves them");
}

/// Kept by id or code, new, removed; in the order that was sent.
pub async fn put_reconciles_skus_by_id_and_by_code(f: &ShopFixture) {
    let skus: Vec<Value> = ["a", "b", "c"].iter().map(|c| json!({ "code": c, "price": 1, "stock": 5 })).collect();
    let p = f.product(json!({ "title": "P", "skus": skus })).await;
    let put = json!({ "title": "P", "skus": [
        { "code": "new", "price": 9, "stock": 2 },
        { "code": "C", "price": 3 },
        { "id": p.skus[0].id, "code": "a-renamed", "price": 1, "stock": 8 },
        { "price": 4 },
    ] });
    let after = f.shop.products().replace(p.id, v(1), &from(&put), &me()).await.unwrap();
    let seen: Vec<(&str, i64, i64)> =
        after.skus.iter().map(|s| (s.code.as_str(), s.price.minor(), s.on_hand)).collect();
    assert_eq!(seen, [("new", 900, 2), ("C", 300, 5), ("a-renamed", 100, 8), ("p", 400, 0)]);
    assert_eq!((after.skus[1].id, after.skus[2].id), (p.skus[2].id, p.skus[0].id));
    assert_eq!(f.fresh(p.id).await, after, "what is returned is what is stored");
    let gone = f.shop.skus().get(p.skus[1].id, Deleted::Include).await.unwrap();
    assert!(!gone.audit.is_live(), "what is not named is deleted");
    assert_eq!(f.shop.inventory().imbalances().await.unwrap(), []);
    let named = json!({ "title": "P", "skus": [{ "id": after.skus[1].id, "price": 3 }] });
    let one = f.shop.products().replace(p.id, v(2), &from(&named), &me()).await.unwrap();
    assert_eq!((one.skus.len(), one.skus[0].code.as_str()), (1, "C"), "a code that is not said stays");
    f.index_is_in_step("after").await;
}

/// In place of a failure of the database.
pub async fn put_that_swaps_codes_is_refused_clearly(f: &ShopFixture) {
    let p =
        f.product(json!({ "title": "P", "skus": [{ "code": "a", "price": 1 }, { "code": "b", "price": 2 }] })).await;
    let before = f.snapshot().await;
    let put = json!({ "title": "P", "skus": [
        { "id": p.skus[0].id, "code": "b", "price": 1 }, { "id": p.skus[1].id, "code": "a", "price": 2 },
    ] });
    let swapped = f.shop.products().replace(p.id, v(1), &from(&put), &me()).await;
    assert_eq!(duplicate_field(swapped, "a swap"), "code");
    assert_eq!(f.snapshot().await, before);
}

/// By the removal of the SKU that has it.
pub async fn a_code_that_is_given_up_can_be_taken_in_the_same_write(f: &ShopFixture) {
    let p =
        f.product(json!({ "title": "P", "skus": [{ "code": "a", "price": 1 }, { "code": "b", "price": 2 }] })).await;
    let put = json!({ "title": "P", "skus": [{ "id": p.skus[0].id, "code": "B", "price": 1 }] });
    let after = f.shop.products().replace(p.id, v(1), &from(&put), &me()).await.unwrap();
    assert_eq!((after.skus[0].id, after.skus[0].code.as_str()), (p.skus[0].id, "B"));
    assert_eq!(f.shop.skus().get_by_code("b").await.unwrap().id, p.skus[0].id);
}

/// RFC 7396: null clears, objects merge, arrays replace, what is absent stays.
pub async fn a_patch_merges(f: &ShopFixture) {
    let c = f.category("Lamps", None).await;
    let p = f
        .product(json!({
            "title": "Lamp", "description": "d", "brand": "b", "tags": ["x", "y"], "price": 1, "discount_percentage": 10,
            "images": [{ "url": "/a" }, { "url": "/b" }], "category": "lamps", "warranty_information": "w",
            "attributes": { "keep": 1, "drop": 2, "deep": { "a": 1, "b": 2 }, "list": [1, 2] },
        }))
        .await;
    let patch = json!({
        "description": null, "tags": ["z"], "images": [{ "url": "/c" }],
        "attributes": { "drop": null, "deep": { "b": null, "c": 3 }, "list": [3] },
    });
    let p = f.patch(&p, patch).await.unwrap();
    assert_eq!((p.description.as_deref(), p.brand.as_deref()), (None, Some("b")));
    assert_eq!(p.tags, ["z"]);
    assert_eq!(p.images.len(), 1);
    assert!(p.images[0].primary, "the first image is primary where none is");
    assert_eq!(Value::Object(p.attributes.0.clone()), json!({ "keep": 1, "deep": { "a": 1, "c": 3 }, "list": [3] }));
    assert_eq!((p.discount.hundredths(), p.categories.len()), (1_000, 1));
    assert_eq!((p.title.as_str(), p.slug.as_str()), ("Lamp", "lamp"));
    assert_eq!(f.fresh(p.id).await, p);
    let nulls = json!({
        "tags": null, "images": null, "attributes": null, "discount_percentage": null, "categories": null,
        "brand": null, "warranty_information": null,
    });
    let p = f.patch(&p, nulls).await.unwrap();
    assert!(p.tags.is_empty() && p.images.is_empty() && p.attributes.0.is_empty() && p.categories.is_empty());
    assert_eq!((p.discount.hundredths(), p.brand, p.warranty_information), (0, None, None));

    let input =
        json!({ "price": 1, "attributes": { "a": 1, "b": 2 }, "option_values": { "size": "M" }, "barcode": "1" });
    let sku = f.shop.skus().create(p.id, &from(&input), &me()).await.unwrap();
    let patch = json!({ "attributes": { "a": null }, "option_values": { "color": "red" },
        "dimensions": { "width": 1, "height": 2, "depth": 3 }, "barcode": null });
    let sku = f.shop.skus().patch(sku.id, v(1), from(&patch), &me()).await.unwrap();
    assert_eq!(Value::Object(sku.attributes.0.clone()), json!({ "b": 2 }));
    assert_eq!(sku.option_values.keys().collect::<Vec<_>>(), ["color", "size"], "objects merge (RFC 7396)");
    assert_eq!(sku.barcode, None);
    let patch = json!({ "option_values": { "size": null }, "dimensions": { "depth": 4 } });
    let sku = f.shop.skus().patch(sku.id, v(2), from(&patch), &me()).await.unwrap();
    assert_eq!(sku.option_values.keys().collect::<Vec<_>>(), ["color"]);
    let d = sku.dimensions.unwrap();
    let sides = [d.width.hundredths(), d.height.hundredths(), d.depth.hundredths()];
    assert_eq!(sides, [100, 200, 400]);
    let patch = from(&json!({ "attributes": { "a": 1 }, "description": "d" }));
    let c = f.shop.categories().patch(c.id, v(1), patch, &me()).await.unwrap();
    let patch = from(&json!({ "attributes": { "b": 2 }, "description": null }));
    let c = f.shop.categories().patch(c.id, v(2), patch, &me()).await.unwrap();
    assert_eq!(Value::Object(c.attributes.0.clone()), json!({ "a": 1, "b": 2 }));
    assert_eq!(c.description, None);
}

/// No version, no event, no ledger row; PATCH and PUT.
pub async fn an_unchanged_write_writes_nothing(f: &ShopFixture) {
    let c = f.category("Lamps", None).await;
    let p = f.plain_in("Lamp", &[&c]).await;
    f.clock.advance(Duration::from_secs(1));
    let before = f.snapshot().await;
    let same = f.patch(&p, json!({ "title": "Lamp", "stock": 10, "price": "9.990", "sku": "lamp" })).await.unwrap();
    assert_eq!(same, p);
    f.patch(&p, json!({})).await.unwrap();
    let put = f.shop.products().replace(p.id, v(1), &flat_in("Lamp", &[&c]), &me()).await.unwrap();
    assert_eq!(put, p);
    let sku =
        f.shop.skus().patch(p.skus[0].id, v(1), from(&json!({ "price": 9.99, "stock": 10 })), &me()).await.unwrap();
    assert_eq!(sku, p.skus[0]);
    let same = f.shop.categories().patch(c.id, v(1), from(&json!({ "name": "Lamps" })), &me()).await.unwrap();
    assert_eq!(same.audit.version, 1);
    f.shop.categories().replace(c.id, v(1), &category_input("Lamps", None), &me()).await.unwrap();
    assert_eq!(f.snapshot().await, before);
}

/// Transliterated, numbered when taken, never an id or a route.
pub async fn slugs_are_made_numbered_and_refused(f: &ShopFixture) {
    for expected in ["creme-brulee", "creme-brulee-2", "creme-brulee-3"] {
        let p = f.plain("Crème brûlée").await;
        assert_eq!((p.slug.as_str(), p.skus[0].code.as_str()), (expected, expected));
    }
    for (title, expected) in [("Search", "search-product"), ("!!!", "product"), ("Ёлка", "iolka"), ("A/B & C", "a-b-c")]
    {
        assert_eq!(f.plain(title).await.slug.as_str(), expected, "{title}");
    }
    let id = "0193b5a6-0000-7000-8000-000000000000";
    assert_eq!(f.plain(id).await.slug.as_str(), format!("{id}-product"));
    let long = f.plain(&"long ".repeat(50)).await;
    assert!(long.slug.as_str().len() <= 100);
    let also = f.plain(&"long ".repeat(50)).await;
    assert!(also.slug.as_str().len() <= 100 && also.slug.as_str().ends_with("-2"), "{}", also.slug);

    let p = f.plain("Lamp").await;
    let p = f.patch(&p, json!({ "title": "Light" })).await.unwrap();
    assert_eq!(p.slug.as_str(), "lamp", "a patch of the title leaves the slug");
    let p = f.patch(&p, json!({ "slug": null })).await.unwrap();
    assert_eq!(p.slug.as_str(), "light", "null makes it from the title again");
    let p = f.patch(&p, json!({ "slug": "own" })).await.unwrap();
    let put = f.shop.products().replace(p.id, v(p.audit.version), &flat("Light"), &me()).await.unwrap();
    assert_eq!(put.slug.as_str(), "light");
    assert_eq!(f.category("Tree", None).await.slug.as_str(), "tree-category");
    let a = f.category("A", None).await;
    assert_eq!(f.category("Tree", Some(&a)).await.slug.as_str(), "tree-category-2", "unique in the whole tree");
}

/// At each SKU, not on the sum.
pub async fn prices_round_half_away_from_zero_per_sku(f: &ShopFixture) {
    for (price, discount, expected) in [
        ("9.99", "10.48", 894),
        ("0.01", "50", 1),
        ("0.03", "50", 2),
        ("0.05", "50", 3),
        ("0.01", "49.99", 1),
        ("0.01", "50.01", 0),
        ("100", "33.33", 6_667),
        ("19.99", "0", 1_999),
        ("19.99", "100", 0),
        ("1234567.89", "12.5", 108_024_690),
    ] {
        let p = f.product(json!({ "title": "P", "price": price, "discount_percentage": discount })).await;
        let stored = f.fresh(p.id).await;
        let shown = stored.skus[0].final_price(stored.discount);
        assert_eq!(shown.minor(), expected, "{price} less {discount} %");
        assert_eq!(stored.price_range(), Some((shown, shown)));
        let found = ProductFilter { min_price: Some(expected), max_price: Some(expected), ..ProductFilter::default() };
        assert!(f.listed(found).await.contains(&"P".to_owned()), "lists filter by the same price");
        f.delete(&p, DeleteMode::Force).await.unwrap();
    }
}

// ---------------------------------------------------------------- other transactions in the way

/// The kinds of writes that [`Written::write`] knows.
const WRITES: usize = 15;

/// What writes work on.
struct Written {
    product: Product,
    other: Product,
    sku: Sku,
    gone: Product,
    gone_sku: Sku,
    category: Category,
    gone_category: Category,
    /// In the names of the round.
    n: usize,
}

impl Written {
    async fn make(f: &ShopFixture, n: usize) -> Self {
        let category = f.category(&format!("C {n}"), None).await;
        let gone_category = f.category(&format!("Gone {n}"), None).await;
        f.delete_category(gone_category.id, DeleteMode::Soft).await.unwrap();
        let two =
            json!({ "title": format!("P {n}"), "skus": [{ "price": 1, "stock": 5 }, { "price": 2 }, { "price": 3 }] });
        let product = f.product(two).await;
        f.shop.skus().delete(product.skus[2].id, v(1), DeleteMode::Soft, &me()).await.unwrap();
        let gone = f.plain(&format!("Gone {n}")).await;
        f.delete(&gone, DeleteMode::Soft).await.unwrap();
        Self {
            product: f.fresh(product.id).await,
            other: f.plain(&format!("Other {n}")).await,
            sku: product.skus[1].clone(),
            gone: f.fresh(gone.id).await,
            gone_sku: f.shop.skus().get(product.skus[2].id, Deleted::Include).await.unwrap(),
            category,
            gone_category: f.fresh_category(gone_category.id).await,
            n,
        }
    }

    async fn write(&self, shop: &Shop, way: usize) -> Result<()> {
        let (products, skus, categories, me) = (shop.products(), shop.skus(), shop.categories(), me());
        let (p, sku, c) = (&self.product, &self.sku, &self.category);
        match way {
            0 => products.create(&flat("New"), &me).await.map(drop),
            1 => products.patch(p.id, v(p.audit.version), from(&json!({ "brand": "b" })), &me).await.map(drop),
            2 => products.replace(self.other.id, v(1), &flat("Put"), &me).await.map(drop),
            3 => products.delete(p.id, v(p.audit.version), DeleteMode::Soft, &me).await,
            4 => products.restore(self.gone.id, v(self.gone.audit.version), &me).await.map(drop),
            5 => skus.create(p.id, &from(&json!({ "price": 1, "stock": 2 })), &me).await.map(drop),
            6 => skus.patch(sku.id, v(1), from(&json!({ "price": 7, "stock": 3 })), &me).await.map(drop),
            7 => skus.delete(sku.id, v(1), DeleteMode::Soft, &me).await,
            8 => skus.restore(self.gone_sku.id, v(self.gone_sku.audit.version), &me).await.map(drop),
            9 => categories.create(&category_input(&format!("New {}", self.n), None), &me).await.map(drop),
            10 => {
                categories.patch(c.id, v(1), from(&json!({ "name": format!("Other {}", self.n) })), &me).await.map(drop)
            }
            11 => categories.delete(c.id, v(1), DeleteMode::Soft, &me).await,
            12 => {
                let c = &self.gone_category;
                categories.restore(c.id, v(c.audit.version), &me).await.map(drop)
            }
            13 => shop.inventory().adjust(adjustment(p.skus[0].id, -2)).await.map(drop),
            _ => products.delete(self.gone.id, v(self.gone.audit.version), DeleteMode::Force, &me).await,
        }
    }
}

/// Every write of every service.
pub async fn a_write_that_another_was_in_the_way_of_is_run_again_and_written_once(f: &ShopFixture) {
    let (shop, storage) = f.unsteady();
    for way in 0..WRITES {
        let on = Written::make(f, way).await;
        let head = f.head().await;
        storage.plan(&[Fault::Contention; 3]);
        on.write(&shop, way).await.unwrap_or_else(|e| panic!("write {way}: {e:?}"));
        assert_eq!(storage.commits(), 4, "write {way}");
        let events = f.events_after(head).await;
        assert_eq!(events.len(), 1, "write {way}: {events:?}");
    }
    assert_eq!(f.shop.inventory().imbalances().await.unwrap(), []);
}

/// Whether it was written or not: a second time could write it twice.
pub async fn a_write_of_unknown_outcome_is_not_run_again(f: &ShopFixture) {
    let (shop, storage) = f.unsteady();
    for way in 0..WRITES {
        for (n, (fault, written)) in [(Fault::CommitLost, 0), (Fault::AnswerLost, 1)].into_iter().enumerate() {
            let on = Written::make(f, way * 2 + n).await;
            let head = f.head().await;
            storage.plan(&[fault]);
            let error = on.write(&shop, way).await.expect_err("the answer was lost");
            assert!(error.outcome_unknown() && !error.is_contention(), "write {way}: {error:?}");
            assert_eq!(storage.commits(), 1, "write {way}");
            assert_eq!(f.events_after(head).await.len(), written, "write {way} after {fault:?}");
        }
    }
    assert_eq!(f.shop.inventory().imbalances().await.unwrap(), []);
}

/// A client is told to come back, rather than kept waiting.
pub async fn tries_of_a_write_end_and_leave_nothing(f: &ShopFixture) {
    let (shop, storage) = f.unsteady();
    let on = Written::make(f, 0).await;
    let before = f.snapshot().await;
    for way in [0, 6, 10, 13] {
        storage.plan(&[Fault::Contention; 100]);
        let error = on.write(&shop, way).await.expect_err("another is always in the way");
        assert!(error.is_contention() && error.is_retryable() && !error.outcome_unknown(), "write {way}: {error:?}");
        assert_eq!(error.code(), ErrorCode::Unavailable);
        assert!((2..=8).contains(&storage.commits()), "write {way}: {} tries", storage.commits());
    }
    assert_eq!(f.snapshot().await, before);
    // A host's own transaction is run once: it alone can run it again.
    storage.plan(&[Fault::Contention; 1]);
    let mut tx = shop.storage().begin().await.unwrap();
    let values = flat("Host").check(f.shop.config().currency).unwrap();
    let (_, after) = shop.products().create_many_in(&mut *tx, vec![values], &me()).await.unwrap();
    assert!(tx.commit().await.unwrap_err().is_contention());
    drop(after);
    assert_eq!(storage.commits(), 1);
    assert_eq!(f.snapshot().await, before);
}

/// A host that locks SKUs in no order, where the service locks those of a batch by id. Who gives way is the database's
/// business: the service does it again, the host is told that it may.
pub async fn a_deadlock_with_a_host_leaves_an_answer_to_both(f: &ShopFixture) {
    let (a, b) = (f.plain("A").await.skus[0].id, f.plain("B").await.skus[0].id);
    let mut host = f.storage.begin().await.unwrap();
    host.inventory().lock(&[b]).await.unwrap();
    let service = tokio::spawn({
        let shop = f.shop.clone();
        async move {
            let inventory = shop.inventory();
            let all = (0..64).map(|n| inventory.adjust(adjustment(if n % 2 == 0 { a } else { b }, 1)));
            futures::future::join_all(all).await
        }
    });
    // Where it does not get that far in time, or waits for its turn to write, there is no deadlock to solve.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let locked = host.inventory().lock(&[a]).await;
    println!("the host {}", if locked.is_ok() { "goes on" } else { "gives way" });
    match locked {
        Ok(_) => host.commit().await.unwrap(),
        Err(e) => {
            assert!(e.is_contention(), "{e:?}");
            drop(host);
        }
    }
    for adjusted in service.await.unwrap() {
        adjusted.unwrap();
    }
    for sku in [a, b] {
        assert_eq!(f.shop.inventory().level(sku).await.unwrap().on_hand, 10 + 32);
    }
    assert_eq!(f.shop.inventory().imbalances().await.unwrap(), []);
}

/// Free when the library looked and taken when it wrote: the client who did not choose it hears nothing of it.
pub async fn a_made_name_that_is_lost_to_another_is_made_again(f: &ShopFixture) {
    let (shop, storage) = f.unsteady();
    f.plain("Lamp").await;
    f.product(json!({ "title": "Unlike", "sku": "torch", "price": 1 })).await;
    let made = async |input: Value| shop.products().create(&from(&input), &me()).await;

    storage.blind(true, false);
    let p = made(json!({ "title": "Lamp", "price": 1 })).await.unwrap();
    assert_eq!((p.slug.as_str(), p.skus[0].code.as_str()), ("lamp-2", "lamp-2"));
    storage.blind(false, true);
    let torch = made(json!({ "title": "Torch", "price": 1 })).await.unwrap();
    assert_eq!((torch.slug.as_str(), torch.skus[0].code.as_str()), ("torch", "torch-2"));
    storage.blind(true, false);
    let patch = from(&json!({ "title": "Lamp", "slug": null }));
    let moved = shop.products().patch(torch.id, v(1), patch, &me()).await.unwrap();
    assert_eq!(moved.slug.as_str(), "lamp-3");
    storage.blind(false, true);
    let sku = shop.skus().create(p.id, &from(&json!({ "price": 1 })), &me()).await.unwrap();
    assert_eq!(sku.code, "lamp-2-2");
    f.product(json!({ "title": "Unlike", "sku": "lamp-2-3", "price": 1 })).await;
    storage.blind(false, true);
    let put = json!({ "title": "Lamp", "skus": [{ "code": "lamp-2", "price": 1 }, { "price": 1 }, { "price": 1 }] });
    let read = v(f.fresh(p.id).await.audit.version);
    let put = shop.products().replace(p.id, read, &from(&put), &me()).await.unwrap();
    assert_eq!(put.skus.iter().map(|s| &*s.code).collect::<Vec<_>>(), ["lamp-2", "lamp-2-4", "lamp-2-5"]);

    // A name that the client chose is its own business.
    storage.blind(true, false);
    let refused = made(json!({ "title": "Any", "slug": "lamp", "price": 1 })).await;
    assert_eq!(duplicate_field(refused, "a chosen slug"), "slug");
    // Also beside one that is made.
    let refused = made(json!({ "title": "Lamp", "sku": "LAMP", "price": 1 })).await;
    assert_eq!(duplicate_field(refused, "a chosen code"), "code");

    // The host's transaction has failed, and says that it may be run again.
    storage.blind(true, false);
    let mut tx = shop.storage().begin().await.unwrap();
    let values = flat("Lamp").check(f.shop.config().currency).unwrap();
    let error = shop.products().create_many_in(&mut *tx, vec![values], &me()).await.unwrap_err();
    assert!(error.is_contention(), "{error:?}");
}

/// In two processes.
pub async fn products_of_one_title_made_at_once_all_get_a_name(f: &ShopFixture) {
    let other = f.another(ShopConfig::default(), f.cache());
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..32 {
        let shop = if n % 2 == 0 { f.shop.clone() } else { other.clone() };
        tasks.spawn(async move { shop.products().create(&flat("Crème brûlée"), &me()).await.unwrap() });
    }
    let made = tasks.join_all().await;
    let slugs: BTreeSet<&str> = made.iter().map(|p| p.slug.as_str()).collect();
    let codes: BTreeSet<&str> = made.iter().map(|p| p.skus[0].code.as_str()).collect();
    assert_eq!((slugs.len(), codes.len()), (32, 32));
    for n in 1..=32 {
        let slug = if n == 1 { "creme-brulee".to_owned() } else { format!("creme-brulee-{n}") };
        assert!(slugs.contains(&*slug), "{slug} is left out: {slugs:?}");
    }
}
