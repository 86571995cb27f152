//! The rules of the services: how a [`Shop`] behaves over any set of adapters.
//!
//! Each file holds the tests of one topic and lists them. A new topic is a new file, its `mod` line, and a line in
//! the list of [`shop_suite!`](crate::shop_suite).

mod access;
mod analytics;
mod audit_log;
mod cache;
pub(super) mod caching;
mod carts;
mod consumers;
mod customers;
mod erasure;
mod errors;
mod feeds;
mod guest_orders;
mod idempotency;
mod imports;
mod index;
mod input;
mod job_queues;
mod jobs;
mod keyed_orders;
mod lists;
mod live;
mod logins;
mod mails;
mod media;
mod oidc;
mod orders;
mod outbox;
mod own_jobs;
mod own_rows;
mod products;
mod read_your_writes;
mod removal;
mod reviews;
mod search_cache;
mod search_fallback;
mod search_log;
mod search_settings;
pub(super) mod searching;
mod soft_delete;
mod staleness;
mod stock;
mod support;
mod tree;
mod versions;
mod webhooks;
mod writes;

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use self::support::{LONG, adjustment, category_input, flat, flat_in, from, me, titles, v};
use crate::access::SecretKey;
use crate::clock::{Clock as _, ManualClock, SharedClock};
use crate::config::ShopConfig;
use crate::domain::catalog::category::CategoryFilter;
use crate::domain::catalog::category::{Category, CategoryPatch};
use crate::domain::catalog::product::{Product, ProductFilter, ProductInput, ProductSort};
use crate::domain::catalog::review::{Review, ReviewFilter, ReviewSort};
use crate::domain::catalog::sku::Sku;
use crate::domain::common::{DeleteMode, IncludeDeleted, Patch};
use crate::domain::platform::audit_log::AuditLogEntry;
use crate::domain::platform::job::{Job, JobFilter};
use crate::domain::platform::outbox::{Event, OutboxPosition};
use crate::domain::platform::setting::{Setting, SettingName};
use crate::domain::platform::webhook::Webhook;
use crate::domain::sales::cart::{Cart, CartFilter};
use crate::domain::sales::customer::{Address, AddressFilter, Customer, CustomerFilter, CustomerSort};
use crate::domain::sales::order::OrderRecord;
use crate::domain::search::query::{SearchFilter, SearchQuery};
use crate::error::Result;
use crate::id::{CategoryId, ProductId, SkuId, UuidV7Source};
use crate::paging::Paging;
use crate::port::cache::Cache;
use crate::port::search::SearchProvider;
use crate::port::storage::Storage;
use crate::service::catalog::feed::Feed;
use crate::service::catalog::product::ProductListQuery;
use crate::shop::{Shop, ShopParts};
use crate::testkit::faults::Unsteady;
use crate::testkit::receiver::Receiver;

pub use self::index::index_history;
pub use self::stock::stock_storm;
pub use self::tree::{tree_history, tree_storm};

suite! {
    /// Runs the suite of a [`Shop`]. Takes the path of an `async fn() -> ShopFixture`; see
    /// [`testkit`](crate::testkit).
    shop_suite, shop: fixture => &fixture, {
        versions: __shop_versions,
        soft_delete: __shop_soft_delete,
        tree: __shop_tree,
        removal: __shop_removal,
        stock: __shop_stock,
        outbox: __shop_outbox,
        consumers: __shop_consumers,
        live: __shop_live,
        index: __shop_index,
        jobs: __shop_jobs,
        job_queues: __shop_job_queues,
        own_jobs: __shop_own_jobs,
        search_settings: __shop_search_settings,
        search_cache: __shop_search_cache,
        search_fallback: __shop_search_fallback,
        search_log: __shop_search_log,
        analytics: __shop_analytics,
        read_your_writes: __shop_read_your_writes,
        cache: __shop_cache,
        staleness: __shop_staleness,
        lists: __shop_lists,
        errors: __shop_errors,
        input: __shop_input,
        products: __shop_products,
        writes: __shop_writes,
        customers: __shop_customers,
        erasure: __shop_erasure,
        keyed_orders: __shop_keyed_orders,
        orders: __shop_orders,
        reviews: __shop_reviews,
        carts: __shop_carts,
        imports: __shop_imports,
        feeds: __shop_feeds,
        access: __shop_access,
        audit_log: __shop_audit_log,
        own_rows: __shop_own_rows,
        logins: __shop_logins,
        mails: __shop_mails,
        media: __shop_media,
        webhooks: __shop_webhooks,
        guest_orders: __shop_guest_orders,
        oidc: __shop_oidc,
        idempotency: __shop_idempotency,
    }
}

/// The secret key that all processes of a test share.
const SECRET_KEY: SecretKey = SecretKey::from_random([9; 32]);
/// The moment at which the clock of every fixture starts: 2026-01-02 03:04:05.678901 UTC.
const START_MICROS: i64 = 1_767_323_045_678_901;

/// The function with which a [`ShopFixture`] makes caches. Each call returns the cache of another process, whose
/// entries age by the clock.
pub type MakeCache = Box<dyn Fn(SharedClock) -> Arc<dyn Cache> + Send + Sync>;

/// A shop over an empty set of adapters, for one test.
pub struct ShopFixture {
    /// The shop.
    pub shop: Shop,
    /// The clock of the shop, which only moves when a test advances it.
    pub clock: Arc<ManualClock>,
    /// The database of the shop.
    pub storage: Arc<dyn Storage>,
    /// The index of the shop.
    pub search: Arc<dyn SearchProvider>,
    caches: MakeCache,
    /// A value that must be dropped after the shop, such as a temporary directory.
    pub guard: Box<dyn Any + Send>,
}

impl ShopFixture {
    /// Returns the fixture of a shop with default settings over a migrated, empty database and an empty index.
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
            secret_key: Some(SECRET_KEY),
            cache: caches(shared.clone()),
            ids: Arc::new(UuidV7Source::seeded(shared.clone(), 42)),
            webhooks: Some(Receiver::new()),
            clock: shared,
            ..ShopParts::new(storage.clone(), search.clone())
        };
        Self { shop: Shop::new(parts).unwrap(), clock, storage, search, caches, guard: Box::new(guard) }
    }

    /// Returns a new cache.
    fn cache(&self) -> Arc<dyn Cache> {
        (self.caches)(self.clock.clone())
    }

    /// Returns another shop over the same database and index, as in another process.
    fn another(&self, config: ShopConfig, cache: Arc<dyn Cache>) -> Shop {
        Shop::new(ShopParts { cache, config, ..self.parts() }).unwrap()
    }

    /// Returns the parts of another shop over the same database and index, with a new cache.
    fn parts(&self) -> ShopParts {
        let clock: SharedClock = self.clock.clone();
        let ids = Arc::new(UuidV7Source::new(clock.clone()));
        let (storage, search, cache) = (self.storage.clone(), self.search.clone(), self.cache());
        ShopParts { secret_key: Some(SECRET_KEY), cache, clock, ids, ..ShopParts::new(storage, search) }
    }

    /// Returns a shop that runs shared consumers. It polls often, and its leases last for `lease_ttl`.
    fn process(&self, lease_ttl: Duration) -> Shop {
        let config = ShopConfig::default().poll_interval(Duration::from_millis(10)).lease_ttl(lease_ttl);
        self.another(config, self.cache())
    }

    /// Returns a shop over a storage that fails as planned.
    fn unsteady(&self) -> (Shop, Arc<Unsteady>) {
        self.unsteady_with(Vec::new())
    }

    /// As [`Self::unsteady`], with feeds.
    fn unsteady_with(&self, feeds: Vec<Feed>) -> (Shop, Arc<Unsteady>) {
        let storage = Unsteady::over(self.storage.clone());
        let clock: SharedClock = self.clock.clone();
        let ids = Arc::new(UuidV7Source::seeded(clock.clone(), 43));
        let (search, cache, config) = (self.search.clone(), self.cache(), ShopConfig::default());
        let shop = Shop::new(ShopParts {
            secret_key: Some(SECRET_KEY),
            cache,
            clock,
            ids,
            config,
            webhooks: Some(Receiver::new()),
            feeds,
            ..ShopParts::new(storage.clone(), search)
        })
        .unwrap();
        (shop, storage)
    }

    /// Returns all events, in their order.
    async fn log(&self) -> Vec<Event> {
        self.events_after(OutboxPosition { seq: 0 }).await
    }

    /// Returns the position of a consumer whose lease is released.
    async fn cursor(&self, consumer: &str) -> OutboxPosition {
        let lease = attempt!(self.storage, outbox.acquire(consumer, "testkit", self.clock.now(), LONG)).unwrap();
        let lease = lease.expect("the lease of the consumer must be released");
        attempt!(self.storage, outbox.release(&lease, self.clock.now())).unwrap();
        lease.position
    }
}

impl fmt::Debug for ShopFixture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShopFixture").field("shop", &self.shop).finish_non_exhaustive()
    }
}

impl ShopFixture {
    /// Returns how many steps of a random history are made: on a server, where each takes longer, the first third.
    fn steps(&self, all: usize) -> usize {
        if self.storage.has_one_writer() { all } else { all / 3 }
    }

    async fn product(&self, input: Value) -> Product {
        self.shop.acting_as(me()).products().create(&from::<ProductInput>(&input)).await.unwrap()
    }

    async fn plain(&self, title: &str) -> Product {
        self.shop.acting_as(me()).products().create(&flat(title)).await.unwrap()
    }

    async fn plain_in(&self, title: &str, categories: &[&Category]) -> Product {
        self.shop.acting_as(me()).products().create(&flat_in(title, categories)).await.unwrap()
    }

    async fn category(&self, name: &str, parent: Option<&Category>) -> Category {
        let input = category_input(name, parent.map(|p| p.id));
        self.shop.acting_as(me()).categories().create(&input).await.unwrap()
    }

    async fn patch(&self, p: &Product, patch: Value) -> Result<Product> {
        self.shop.acting_as(me()).products().patch(p.id, v(p.audit.version), from(&patch)).await
    }

    async fn fresh(&self, id: ProductId) -> Product {
        self.shop.products().get_fresh(id, IncludeDeleted::Yes).await.unwrap()
    }

    async fn fresh_category(&self, id: CategoryId) -> Category {
        self.shop.categories().get_fresh(id, IncludeDeleted::Yes).await.unwrap()
    }

    async fn adjust(&self, sku: SkuId, delta: i64) -> Result<crate::domain::stock::inventory::Adjusted> {
        self.shop.acting_as(me()).inventory().adjust(adjustment(sku, delta)).await
    }

    async fn delete(&self, p: &Product, mode: DeleteMode) -> Result<()> {
        self.shop.acting_as(me()).products().delete(p.id, v(p.audit.version), mode).await
    }

    async fn delete_category(&self, id: CategoryId, mode: DeleteMode) -> Result<()> {
        let version = self.fresh_category(id).await.audit.version;
        self.shop.acting_as(me()).categories().delete(id, v(version), mode).await
    }

    async fn move_category(&self, id: CategoryId, parent: Option<CategoryId>) -> Result<Category> {
        let version = self.fresh_category(id).await.audit.version;
        self.shop.acting_as(me()).categories().move_to(id, v(version), parent.map(|p| p.to_string())).await
    }

    async fn rename_category(&self, id: CategoryId, name: &str) -> Result<Category> {
        let version = self.fresh_category(id).await.audit.version;
        let patch = CategoryPatch { name: Patch::Set(name.to_owned()), ..CategoryPatch::default() };
        self.shop.acting_as(me()).categories().patch(id, v(version), patch).await
    }

    async fn head(&self) -> OutboxPosition {
        self.shop.events().head().await.unwrap()
    }

    async fn events_after(&self, at: OutboxPosition) -> Vec<Event> {
        self.shop.events().read(at, 10_000).await.unwrap().events.into_iter().map(|(_, e)| e).collect()
    }

    /// Returns all stored data, to check that a failed write has written nothing.
    async fn snapshot(&self) -> Snapshot {
        let ids: Vec<ProductId> =
            read!(self.storage, products.revisions(None, 10_000)).into_iter().map(|(id, _)| id).collect();
        let products = read!(self.storage, products.get_many(&ids, IncludeDeleted::Yes));
        let (mut skus, mut movements) = (Vec::new(), 0);
        for id in ids {
            for sku in read!(self.storage, skus.of_product(id, IncludeDeleted::Yes)) {
                movements += read!(self.storage, inventory.count_movements(sku.id));
                skus.push(sku);
            }
        }
        let all = CategoryFilter { parent: None, include_deleted: IncludeDeleted::Yes };
        let categories = read!(self.storage, categories.list(&all, &Paging::first(1_000))).items;
        let all = CustomerFilter { include_deleted: IncludeDeleted::Yes, ..CustomerFilter::default() };
        let page = Paging::first(10_000);
        let customers = read!(self.storage, customers.list(&all, CustomerSort::CreatedAsc, &page)).items;
        let all = AddressFilter { include_deleted: IncludeDeleted::Yes, ..AddressFilter::default() };
        let addresses = read!(self.storage, addresses.list(&all, &page)).items;
        let all = ReviewFilter { include_deleted: IncludeDeleted::Yes, ..ReviewFilter::default() };
        let reviews = read!(self.storage, reviews.list(&all, ReviewSort::CreatedAsc, &page)).items;
        let carts = read!(self.storage, carts.list(&CartFilter::default(), &page)).items;
        let ids = read!(self.storage, orders.ids_after(None, 10_000));
        let orders = read!(self.storage, orders.records(&ids));
        let head = self.head().await;
        let mut settings = Vec::new();
        for name in SettingName::ALL {
            settings.push(read!(self.storage, settings.get(*name)));
        }
        let jobs = read!(self.storage, jobs.list(&JobFilter::default(), &page)).items;
        let webhooks = read!(self.storage, webhooks.list(&page)).items;
        Snapshot {
            products,
            skus,
            movements,
            categories,
            customers,
            addresses,
            reviews,
            carts,
            orders,
            settings,
            jobs,
            webhooks,
            audit_log: self.audit_log().await,
            head,
        }
    }

    /// Returns the sorted titles of the products in a list.
    async fn listed(&self, filter: ProductFilter) -> Vec<String> {
        let query = ProductListQuery { filter, sort: ProductSort::TitleAsc, paging: Paging::first(1_000) };
        titles(self.shop.products().list(&query).await.unwrap().page.items.iter().map(|p| &***p))
    }

    /// Returns the sorted titles of the products that a search finds.
    async fn searched(&self, text: &str, filter: SearchFilter) -> Vec<String> {
        let query = SearchQuery { text: text.to_owned(), filter, limit: 1_000, ..SearchQuery::default() };
        let found = self.shop.search().search(&query).await.unwrap();
        titles(found.products.iter().map(|p| &***p))
    }

    /// Updates the index and checks that it agrees with the database.
    async fn index_is_in_step(&self, what: &str) {
        self.shop.index().catch_up().await.unwrap();
        let report = self.shop.index().verify(false).await.unwrap();
        assert!(report.is_clean(), "{what}: {report:?}");
    }
}

/// All stored data, including soft-deleted rows.
#[derive(Debug, PartialEq)]
struct Snapshot {
    products: Vec<Product>,
    skus: Vec<Sku>,
    movements: u64,
    categories: Vec<Category>,
    customers: Vec<Customer>,
    addresses: Vec<Address>,
    reviews: Vec<Review>,
    carts: Vec<Cart>,
    orders: Vec<OrderRecord>,
    settings: Vec<Setting>,
    jobs: Vec<Job>,
    webhooks: Vec<Webhook>,
    audit_log: Vec<AuditLogEntry>,
    head: OutboxPosition,
}
