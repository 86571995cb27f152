//! Lists of products stay in the cache through the writes that do not concern them, and no others (R15).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_trait::async_trait;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::ShopFixture;
use super::support::{from, me, until, v};
use crate::config::ShopConfig;
use crate::domain::catalog::product::{Product, ProductFilter, ProductSort, ProductStatus};
use crate::domain::catalog::review::{ReviewFilter, ReviewInput, ReviewSort};
use crate::domain::catalog::sku::AvailabilityStatus;
use crate::domain::common::{DeleteMode, IncludeDeleted};
use crate::error::Result;
use crate::id::CategoryId;
use crate::paging::{Page, Paging};
use crate::port::cache::NoCache;
use crate::port::storage::{Connection, ForwardRepositories, ForwardStorage, Repositories, Storage};
use crate::port::{ForwardProducts, ProductRepository};
use crate::service::catalog::product::ProductListQuery;
use crate::shop::{Shop, ShopParts};
use crate::testkit::fresh_seed;
use crate::testkit::sample::usd;

tests! {
    __shop_lists: [
        r15_lists_stay_cached_through_writes_that_move_none_of_their_products,
        r15_no_list_is_older_than_any_random_write,
        r15_readers_that_race_with_writes_leave_no_old_list,
        r15_a_list_that_was_read_before_a_write_is_not_kept,
    ]
}

/// Reads a list from a shop, and returns what it shows and whether it came from the cache.
async fn read(shop: &Shop, query: &ProductListQuery) -> (String, bool) {
    let found = shop.products().list(query).await.unwrap();
    (format!("{:?}", **found.value), found.hit)
}

/// Reads the values by which a list can be narrowed.
async fn read_values(shop: &Shop, filter: &ProductFilter) -> (String, bool) {
    let found = shop.products().filters(filter).await.unwrap();
    (format!("{:?}", found.values), found.hit)
}

/// The lists of a shop that sells tea and shoes, by name.
struct Lists {
    by_name: Vec<(&'static str, ProductListQuery)>,
    /// The shop without a cache.
    truth: Shop,
    cached: bool,
}

impl Lists {
    /// Reads all lists and values, and returns the names of those that did not come from the cache.
    async fn missing(&self, f: &ShopFixture, what: &str) -> Vec<String> {
        let mut missing = Vec::new();
        let mut check = |name: String, (shown, hit): (String, bool), (stored, _): (String, bool)| {
            assert_eq!(shown, stored, "after {what}: `{name}` is old");
            if !hit {
                missing.push(name);
            }
        };
        for (name, query) in &self.by_name {
            check((*name).to_owned(), read(&f.shop, query).await, read(&self.truth, query).await);
            let filter = &query.filter;
            check(
                format!("values of {name}"),
                read_values(&f.shop, filter).await,
                read_values(&self.truth, filter).await,
            );
        }
        missing
    }

    /// Checks that after a write, exactly these lists and values do not come from the cache.
    async fn dropped(&self, f: &ShopFixture, what: &str, expected: &[&str]) {
        let missing = self.missing(f, what).await;
        if self.cached {
            assert_eq!(missing, expected, "the lists that {what} drops");
            assert_eq!(self.missing(f, what).await, Vec::<String>::new(), "the second read after {what}");
        }
    }
}

/// Sales, edits of texts, drafts and products of other categories drop no list. A change drops the lists that filter or
/// sort by it.
pub async fn r15_lists_stay_cached_through_writes_that_move_none_of_their_products(f: &ShopFixture) {
    let tea = f.category("Tea", None).await;
    let green = f.category("Green", Some(&tea)).await;
    let shoes = f.category("Shoes", None).await;
    let product = async |title: &str, category: CategoryId, more: Value| {
        let mut input = json!({ "title": title, "price": "9.99", "stock": 100, "categories": [category.to_string()] });
        input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        f.product(input).await
    };
    let sencha = product("Sencha", green.id, json!({ "brand": "Yabukita", "tags": ["green"] })).await;
    let assam = product("Assam", tea.id, json!({})).await;
    let boots = product("Boots", shoes.id, json!({})).await;
    let active = ProductFilter { status: Some(ProductStatus::Active), ..ProductFilter::default() };
    let of = |filter: ProductFilter, sort| ProductListQuery {
        filter,
        sort,
        paging: Paging::Offset { offset: 0, limit: 20 },
    };
    let in_tea = ProductFilter { category: Some(tea.id), ..active.clone() };
    let in_stock = ProductFilter { availability: Some(AvailabilityStatus::InStock), ..in_tea.clone() };
    let lists = Lists {
        by_name: vec![
            ("all", of(active.clone(), ProductSort::CreatedDesc)),
            ("tea", of(in_tea.clone(), ProductSort::CreatedDesc)),
            ("cheap tea", of(ProductFilter { max_price: Some(usd(1_500)), ..in_tea.clone() }, ProductSort::PriceAsc)),
            ("tea by title", of(in_tea.clone(), ProductSort::TitleAsc)),
            ("best tea", of(in_tea.clone(), ProductSort::RatingDesc)),
            ("tea in stock", of(in_stock, ProductSort::CreatedDesc)),
            (
                "tea of a brand",
                of(ProductFilter { brand: Some("Yabukita".to_owned()), ..in_tea.clone() }, ProductSort::CreatedDesc),
            ),
            (
                "tea with a tag",
                of(ProductFilter { tag: Some("green".to_owned()), ..in_tea.clone() }, ProductSort::CreatedDesc),
            ),
            (
                "drafts",
                of(
                    ProductFilter { status: Some(ProductStatus::Draft), ..ProductFilter::default() },
                    ProductSort::CreatedDesc,
                ),
            ),
        ],
        truth: f.another(ShopConfig::default(), Arc::new(NoCache)),
        cached: f.cache().name() != "none",
    };
    // The lists "tea", "tea by title" and "best tea" have one filter, and so the same values.
    lists.missing(f, "the first read").await;
    lists.dropped(f, "no write", &[]).await;
    let edit = async |p: &Product, patch: Value| f.patch(&f.fresh(p.id).await, patch).await.unwrap();

    f.adjust(sencha.skus[0].id, -10).await.unwrap();
    lists.dropped(f, "a sale", &[]).await;
    edit(&assam, json!({ "description": "Strong", "warranty_information": "None", "attributes": { "a": 1 } })).await;
    lists.dropped(f, "an edit of texts", &[]).await;
    edit(&boots, json!({ "price": "99.00", "title": "Long boots", "stock": 0 })).await;
    // Availability is one part for the whole shop.
    let all = ["values of all", "tea in stock", "values of tea in stock"];
    lists.dropped(f, "a price, a title and the stock of another category", &all).await;
    let clogs = product("Clogs", shoes.id, json!({})).await;
    lists.dropped(f, "a product of another category", &["all", "values of all"]).await;
    f.delete(&clogs, DeleteMode::Soft).await.unwrap();
    lists.dropped(f, "the end of a product of another category", &["all", "values of all"]).await;
    let draft = product("Oolong", green.id, json!({ "status": "draft" })).await;
    lists.dropped(f, "a draft", &["drafts", "values of drafts"]).await;
    edit(&draft, json!({ "price": "1.00", "brand": "Yabukita" })).await;
    lists.dropped(f, "the price and the brand of a draft", &["values of drafts"]).await;
    f.adjust(assam.skus[0].id, -100).await.unwrap();
    lists.dropped(f, "the last sale", &["tea in stock", "values of tea in stock"]).await;
    f.shop.acting_as(me()).reviews().create(sencha.id, &ReviewInput::new(5)).await.unwrap();
    lists.dropped(f, "a review", &["best tea"]).await;
    edit(&sencha, json!({ "title": "Gyokuro" })).await;
    lists.dropped(f, "a title", &["tea by title"]).await;
    edit(&sencha, json!({ "tags": ["green", "new"] })).await;
    lists.dropped(f, "a tag", &["tea with a tag", "values of tea with a tag"]).await;
    edit(&sencha, json!({ "price": "8.00" })).await;
    let values = |more: &[&'static str]| -> Vec<&'static str> {
        // In the order in which they are read.
        let names = [
            "all",
            "values of all",
            "tea",
            "values of tea",
            "cheap tea",
            "values of cheap tea",
            "tea by title",
            "best tea",
            "tea in stock",
            "values of tea in stock",
            "tea of a brand",
            "values of tea of a brand",
            "tea with a tag",
            "values of tea with a tag",
        ];
        names.into_iter().filter(|name| name.starts_with("values") || more.contains(name)).collect()
    };
    lists.dropped(f, "a price", &values(&["cheap tea"])).await;
    edit(&sencha, json!({ "brand": "YABUKITA" })).await;
    lists.dropped(f, "a brand", &values(&["tea of a brand"])).await;
    edit(&assam, json!({ "categories": [green.id.to_string(), tea.id.to_string()] })).await;
    lists.dropped(f, "another category below", &values(&[])).await;
    let all =
        ["all", "tea", "cheap tea", "tea by title", "best tea", "tea in stock", "tea of a brand", "tea with a tag"];
    edit(&sencha, json!({ "status": "archived" })).await;
    lists.dropped(f, "the end of a product", &values(&all)).await;
    edit(&draft, json!({ "status": "active" })).await;
    let with_drafts: Vec<&str> = values(&all).into_iter().chain(["drafts", "values of drafts"]).collect();
    lists.dropped(f, "the publication of a draft", &with_drafts).await;
}

/// A shop that random writes change.
struct Chance<'a> {
    f: &'a ShopFixture,
    rng: StdRng,
    refused: usize,
}

impl Chance<'_> {
    fn some<T: Copy>(&mut self, all: &[T]) -> T {
        *all.choose(&mut self.rng).unwrap()
    }

    /// Returns the ids of some of the live categories.
    async fn some_categories(&mut self) -> Vec<String> {
        let all = read!(self.f.storage, categories.tree());
        all.iter().filter(|_| self.rng.random_bool(0.3)).map(|c| c.id.to_string()).collect()
    }

    async fn products(&self) -> Vec<Product> {
        let ids: Vec<_> =
            read!(self.f.storage, products.revisions(None, 1_000)).into_iter().map(|(id, _)| id).collect();
        read!(self.f.storage, products.get_many(&ids, IncludeDeleted::Yes))
    }

    /// Notes whether a write was refused, as one of what is not there or not empty may be.
    fn note<T>(&mut self, written: &Result<T>) {
        self.refused += usize::from(written.is_err());
    }

    async fn create(&mut self) {
        let n: u32 = self.rng.random();
        let input = json!({
            "title": self.some(&["Sencha", "Assam", "assam", "Boots"]),
            "slug": format!("p-{n}"),
            "price": self.some(&["4.00", "9.99", "25.00"]),
            "stock": self.some(&[0, 3, 100]),
            "brand": self.some(&["Acme", "ACME", "Zen"]),
            "tags": self.some(&[&["green"][..], &["green", "new"], &[]]),
            "status": self.some(&["active", "active", "draft"]),
            "categories": self.some_categories().await,
        });
        self.f.product(input).await;
    }

    /// Makes one write, and returns its name.
    async fn write(&mut self) -> &'static str {
        let products = self.products().await;
        let live: Vec<&Product> = products.iter().filter(|p| p.audit.is_live()).collect();
        let Some(p) = live.choose(&mut self.rng).map(|p| (*p).clone()) else {
            self.create().await;
            return "create";
        };
        let shop = self.f.shop.acting_as(me());
        let categories = read!(self.f.storage, categories.tree());
        let category = categories.choose(&mut self.rng).cloned();
        let what = self.rng.random_range(0..22);
        let (name, patch) = match what {
            0 => ("title", json!({ "title": self.some(&["Sencha", "assam", "Boots", "Zebra"]), "slug": p.slug })),
            1 => ("brand", json!({ "brand": self.some(&[Some("Acme"), Some("ACME"), Some("Zen"), None]) })),
            2 => ("tags", json!({ "tags": self.some(&[&["green"][..], &["new"], &[]]) })),
            3 => ("status", json!({ "status": self.some(&["active", "draft", "archived"]) })),
            4 => ("categories", json!({ "categories": self.some_categories().await })),
            5 => ("discount", json!({ "discount_percentage": self.some(&["0", "50", "90"]) })),
            6 => ("texts", json!({ "description": self.rng.random::<u32>().to_string() })),
            7 => ("flat price", json!({ "price": self.some(&["1.00", "12.00", "30.00"]) })),
            8 => ("flat stock", json!({ "stock": self.some(&[0, 3, 100]) })),
            _ => ("", Value::Null),
        };
        if !patch.is_null() {
            let written = self.f.patch(&p, patch).await;
            self.note(&written);
            return name;
        }
        let version = v(p.audit.version);
        match what {
            9..=11 => {
                let delta = self.some(&[-100, -97, -3, 1, 3, 100]);
                let Some(sku) = p.skus.choose(&mut self.rng) else { return "nothing" };
                let written = self.f.adjust(sku.id, delta).await;
                self.note(&written);
                "adjust"
            }
            12 => {
                let price = self.some(&["0.50", "60.00"]);
                let written = shop.skus().create(p.id, &from(&json!({ "price": price, "stock": 5 }))).await;
                self.note(&written);
                "create SKU"
            }
            13 => {
                let Some(sku) = p.skus.last() else { return "nothing" };
                let written = shop.skus().delete(sku.id, v(sku.audit.version), DeleteMode::Soft).await;
                self.note(&written);
                "delete SKU"
            }
            14 => {
                let mode = self.some(&[DeleteMode::Soft, DeleteMode::Soft, DeleteMode::Force]);
                let written = shop.products().delete(p.id, version, mode).await;
                self.note(&written);
                "delete"
            }
            15 => {
                let gone: Vec<&Product> = products.iter().filter(|p| !p.audit.is_live()).collect();
                let Some(gone) = gone.choose(&mut self.rng) else { return "nothing" };
                let written = shop.products().restore(gone.id, v(gone.audit.version)).await;
                self.note(&written);
                "restore"
            }
            16 => {
                let written = shop.reviews().create(p.id, &ReviewInput::new(self.some(&[1, 3, 5]))).await;
                self.note(&written);
                "review"
            }
            17 => {
                let filter = ReviewFilter { product: Some(p.id), ..ReviewFilter::default() };
                let (page, _) = shop.reviews().list(&filter, ReviewSort::default(), &Paging::first(9)).await.unwrap();
                let Some(review) = page.items.first() else { return "nothing" };
                let written = shop.reviews().delete(review.id, v(review.audit.version)).await;
                self.note(&written);
                "delete review"
            }
            18 => {
                let Some(category) = category else { return "nothing" };
                let written = self.f.rename_category(category.id, &format!("C {}", self.rng.random::<u16>())).await;
                self.note(&written);
                "rename category"
            }
            19 => {
                let (Some(category), parent) = (category, categories.choose(&mut self.rng)) else { return "nothing" };
                let parent = parent.map(|c| c.id).filter(|_| self.rng.random_bool(0.7));
                let written = self.f.move_category(category.id, parent).await;
                self.note(&written);
                "move category"
            }
            20 => {
                let mut tx = self.f.shop.begin().await.unwrap();
                let patch = json!({ "title": "Zebra", "slug": p.slug, "discount_percentage": "10" });
                let first = shop.products().patch_in(&mut tx, p.id, version, from(&patch)).await;
                if first.is_ok() {
                    tx.commit().await.unwrap().run().await;
                }
                self.note(&first);
                "a host's transaction"
            }
            _ => {
                self.create().await;
                "create"
            }
        }
    }
}

/// After each of many random writes, every list is what a shop without a cache shows, although most of them are cached.
pub async fn r15_no_list_is_older_than_any_random_write(f: &ShopFixture) {
    let seed = fresh_seed();
    println!("seed {seed}");
    let mut chance = Chance { f, rng: StdRng::seed_from_u64(seed), refused: 0 };
    let truth = f.another(ShopConfig::default(), Arc::new(NoCache));
    let root = f.category("Root", None).await;
    let leaf = f.category("Leaf", Some(&root)).await;
    let beside = f.category("Beside", None).await;
    for _ in 0..8 {
        chance.create().await;
    }
    let mut queries = Vec::new();
    let any = ProductFilter::default();
    for category in [None, Some(root.id), Some(leaf.id), Some(beside.id)] {
        for filter in [
            any.clone(),
            ProductFilter { status: Some(ProductStatus::Active), ..any.clone() },
            ProductFilter { status: Some(ProductStatus::Draft), ..any.clone() },
            ProductFilter { min_price: Some(usd(500)), max_price: Some(usd(2_000)), ..any.clone() },
            ProductFilter { brand: Some("acme".to_owned()), ..any.clone() },
            ProductFilter { tag: Some("green".to_owned()), ..any.clone() },
            ProductFilter { availability: Some(AvailabilityStatus::InStock), ..any.clone() },
            ProductFilter { availability: Some(AvailabilityStatus::OutOfStock), ..any.clone() },
        ] {
            let sort = chance.some(&ProductSort::ALL);
            let paging = chance.some(&[0, 1, 2]);
            let paging = match paging {
                0 => Paging::Offset { offset: 0, limit: 3 },
                1 => Paging::Offset { offset: 2, limit: 3 },
                _ => Paging::first(3),
            };
            queries.push(ProductListQuery { filter: ProductFilter { category, ..filter }, sort, paging });
        }
    }
    let steps = f.steps(60);
    // The share of writes that are refused varies more among few.
    let most_refused = if steps < 60 { 15 } else { 30 };
    let (mut hits, mut reads) = (0, 0);
    for step in 0..steps {
        for query in &queries {
            let ((shown, hit), (stored, _)) = (read(&f.shop, query).await, read(&truth, query).await);
            assert_eq!(shown, stored, "seed {seed}, step {step}: {query:?} is old");
            hits += usize::from(hit);
            reads += 1;
        }
        // The values take more statements, so that only some are read each time.
        for _ in 0..8 {
            let filter = &queries.choose(&mut chance.rng).unwrap().filter;
            let ((shown, _), (stored, _)) = (read_values(&f.shop, filter).await, read_values(&truth, filter).await);
            assert_eq!(shown, stored, "seed {seed}, step {step}: the values of {filter:?} are old");
        }
        let what = chance.write().await;
        println!("step {step}: {what}");
    }
    println!("{hits} of {reads} lists came from the cache, and {} of {steps} writes were refused", chance.refused);
    assert!(chance.refused < most_refused, "the test itself is at fault: most writes were refused");
    if f.cache().name() != "none" {
        assert!(hits > reads / 10, "the test itself is at fault: {hits} of {reads} lists came from the cache");
    }
}

/// Readers load lists all the time, in this process and in another one with the same cache, while products enter and
/// leave the lists. Whenever all writes of a round are acknowledged, no list of this process is old.
pub async fn r15_readers_that_race_with_writes_leave_no_old_list(f: &ShopFixture) {
    let tea = f.category("Tea", None).await;
    let mut products = Vec::new();
    for n in 0..4 {
        let input =
            json!({ "title": format!("P {n}"), "price": "9.99", "stock": 5, "categories": [tea.id.to_string()] });
        products.push(f.product(input).await);
    }
    let active = ProductFilter { status: Some(ProductStatus::Active), ..ProductFilter::default() };
    let queries: Vec<ProductListQuery> = [
        active.clone(),
        ProductFilter { category: Some(tea.id), ..active.clone() },
        ProductFilter { max_price: Some(usd(500)), ..active.clone() },
        ProductFilter { availability: Some(AvailabilityStatus::OutOfStock), ..active },
    ]
    .map(|filter| ProductListQuery {
        filter,
        sort: ProductSort::PriceAsc,
        paging: Paging::Offset { offset: 0, limit: 10 },
    })
    .to_vec();
    let truth = f.another(ShopConfig::default(), Arc::new(NoCache));
    let (ended, read_lists) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut readers = tokio::task::JoinSet::new();
    for shop in [f.shop.clone(), f.shop.clone(), f.another(ShopConfig::default(), f.cache())] {
        let (queries, ended, read_lists) = (queries.clone(), ended.clone(), read_lists.clone());
        readers.spawn(async move {
            while !ended.load(Ordering::Relaxed) {
                for query in &queries {
                    shop.products().list(query).await.unwrap();
                    read_lists.fetch_add(1, Ordering::Relaxed);
                    tokio::task::yield_now().await;
                }
            }
        });
    }
    for round in 0..25 {
        let before = read_lists.load(Ordering::Relaxed);
        let (odd, patches) = (round % 2 == 1, [json!({ "price": "4.00" }), json!({ "price": "9.99" })]);
        let status = if odd { "active" } else { "draft" };
        let [p, q, r, s] = &products[..] else { unreachable!("four products") };
        let edit = async |p: &Product, patch: Value| f.patch(&f.fresh(p.id).await, patch).await.map(drop);
        let categories = if odd { vec![tea.id.to_string()] } else { Vec::new() };
        let written = futures::join!(
            edit(p, json!({ "status": status })),
            edit(q, patches[usize::from(odd)].clone()),
            f.adjust(r.skus[0].id, if odd { 5 } else { -5 }),
            edit(s, json!({ "categories": categories })),
        );
        assert!(written.0.is_ok() && written.1.is_ok() && written.2.is_ok() && written.3.is_ok(), "{written:?}");
        for query in &queries {
            let ((shown, _), (stored, _)) = (read(&f.shop, query).await, read(&truth, query).await);
            assert_eq!(shown, stored, "round {round}: {query:?} is old");
        }
        until("the readers go on", async || read_lists.load(Ordering::Relaxed) > before + 4).await;
    }
    ended.store(true, Ordering::Relaxed);
    readers.join_all().await;
}

/// A storage that holds back the answer of a list that was read from the database.
#[derive(Debug)]
struct HeldLists {
    inner: Arc<dyn Storage>,
    hold: Arc<Hold>,
}

#[derive(Debug)]
struct Hold {
    closed: AtomicBool,
    reached: Semaphore,
    release: Semaphore,
}

struct HeldConnection(Box<dyn Connection>, Arc<Hold>);

struct HeldProducts<'c>(Box<dyn ProductRepository + 'c>, Arc<Hold>);

#[async_trait]
impl ForwardStorage for HeldLists {
    fn inner(&self) -> &dyn Storage {
        &*self.inner
    }
    async fn connect(&self) -> Result<Box<dyn Connection>> {
        Ok(Box::new(HeldConnection(self.inner.connect().await?, self.hold.clone())))
    }
}

impl ForwardRepositories for HeldConnection {
    fn inner(&mut self) -> &mut dyn Repositories {
        &mut *self.0
    }
    fn products(&mut self) -> Box<dyn ProductRepository + '_> {
        Box::new(HeldProducts(self.0.products(), self.1.clone()))
    }
}

impl Connection for HeldConnection {}

#[async_trait]
impl ForwardProducts for HeldProducts<'_> {
    fn inner(&mut self) -> &mut dyn ProductRepository {
        &mut *self.0
    }
    async fn list(&mut self, filter: &ProductFilter, sort: ProductSort, paging: &Paging) -> Result<Page<Product>> {
        let page = self.0.list(filter, sort, paging).await;
        if self.1.closed.swap(false, Ordering::SeqCst) {
            self.1.reached.add_permits(1);
            self.1.release.acquire().await.unwrap().forget();
        }
        page
    }
}

/// A write happens after a list was read from the database, and before it is stored in the cache.
pub async fn r15_a_list_that_was_read_before_a_write_is_not_kept(f: &ShopFixture) {
    if f.cache().name() == "none" {
        // Without a cache, nothing can be stale. A database in memory has one connection, which the list holds.
        return;
    }
    let p = f.plain("Old").await;
    let hold = Hold { closed: AtomicBool::new(false), reached: Semaphore::new(0), release: Semaphore::new(0) };
    let hold = Arc::new(hold);
    let storage = Arc::new(HeldLists { inner: f.storage.clone(), hold: hold.clone() });
    let shop = Shop::new(ShopParts { storage, ..f.parts() }).unwrap();
    let query = ProductListQuery { sort: ProductSort::TitleAsc, ..ProductListQuery::default() };
    let title = async || shop.products().list(&query).await.unwrap().page.items[0].title.clone();
    for round in 1..4_i64 {
        hold.closed.store(true, Ordering::SeqCst);
        let new = format!("New {round}");
        let write = async {
            hold.reached.acquire().await.unwrap().forget();
            let patch = from(&json!({ "title": new }));
            shop.acting_as(me()).products().patch(p.id, v(round), patch).await.unwrap();
            assert_eq!(title().await, new, "a later reader must not join the old load");
            hold.release.add_permits(1);
        };
        futures::join!(title(), write);
        assert_eq!(title().await, new, "round {round}: the old list must not be kept");
        // The next round needs a list that is not cached.
        shop.acting_as(me()).products().create(&from(&json!({ "title": "Z", "price": "1" }))).await.unwrap();
    }
}
