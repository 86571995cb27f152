//! Cached reads return every write within the bounds of R15.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::ShopFixture;
use super::support::{category_input, flat_in, from, in_category, me, until, v};
use crate::config::ShopConfig;
use crate::domain::catalog::category::{Category, CategoryFilter};
use crate::domain::catalog::product::{ProductFilter, ProductSort};
use crate::domain::common::{DeleteMode, IncludeDeleted};
use crate::error::ErrorCode;
use crate::paging::Paging;
use crate::port::cache::{Cache, CacheKey, CacheValue, Codec, FillToken, ForwardCache};
use crate::service::catalog::import::ImportOptions;
use crate::service::catalog::product::ProductListQuery;
use crate::shop::Shop;
use crate::testkit::code_of;
use crate::testkit::faults::{Instructed, Word};

tests! {
    __shop_cache: [
        r15_reads_see_every_kind_of_write,
        r15_lists_of_categories_are_cached_and_never_older_than_a_write,
        r15_concurrent_misses_load_once,
        r15_a_held_reader_does_not_put_an_old_value_back,
        r15_a_cached_read_is_never_older_than_its_ttl,
        r15_another_processes_write_is_seen_after_the_poll,
        r15_a_shared_cache_is_told_by_one_process_and_each_tells_itself,
    ]
}

/// Checks that every kind of read returns what the database contains. The first round fills the cache, the second one
/// reads from it.
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
                assert_eq!(list.page.clone().map(|p| (**p).clone()), fresh, "{what}: {query:?}");
                if let Some(total) = list.value.total {
                    assert_eq!(
                        total.count,
                        fresh.items.len() as u64,
                        "after {what}: the total must be that of the database"
                    );
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
        for (filter, paging) in category_lists(&stored.categories) {
            let list = f.shop.categories().list(&filter, &paging).await.unwrap();
            let fresh = read!(f.storage, categories.list(&filter, &paging));
            assert_eq!(list.value.page, fresh, "{what}: {filter:?} {paging:?}");
            if let Some(total) = list.value.total {
                assert_eq!(total.count, fresh.items.len() as u64, "{what}: {filter:?}");
            }
        }
        assert_eq!(
            **f.shop.categories().tree().await.unwrap().value,
            read!(f.storage, categories.tree()),
            "{what}: tree"
        );
    }
}

/// Returns every list that contains one of `categories`, by page number and by cursor.
fn category_lists(categories: &[Category]) -> Vec<(CategoryFilter, Paging)> {
    let parents = [None, Some(None)].into_iter().chain(categories.iter().map(|c| Some(Some(c.id))));
    let filters = parents.flat_map(|parent| {
        [IncludeDeleted::No, IncludeDeleted::Yes].map(|include_deleted| CategoryFilter { parent, include_deleted })
    });
    filters.flat_map(|f| [Paging::first(50), Paging::Offset { offset: 0, limit: 50 }].map(|p| (f.clone(), p))).collect()
}

/// Reads by id, slug, list, category and tree after each kind of write.
pub async fn r15_reads_see_every_kind_of_write(f: &ShopFixture) {
    let shop = f.shop.acting_as(me());
    let (products, skus, categories) = (shop.products(), shop.skus(), shop.categories());
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
    assert_eq!(
        products.get_by_slug("p").await.unwrap().value.id,
        q.id,
        "the old slug must find the product that has taken it over"
    );
    let p = f.patch(&p, json!({ "category": "root" })).await.unwrap();
    reads_agree(f, "a change of categories").await;
    let p = f.patch(&p, json!({ "status": "draft" })).await.unwrap();
    reads_agree(f, "a change to a draft").await;
    let p = products.replace(p.id, v(p.audit.version), &flat_in("P three", &[&low])).await.unwrap();
    reads_agree(f, "a PUT").await;
    f.adjust(p.skus[0].id, -10).await.unwrap();
    reads_agree(f, "stock").await;
    f.patch(&p, json!({ "stock": 7 })).await.unwrap();
    reads_agree(f, "a patch of the flat stock").await;
    let sku = skus.create(p.id, &from(&json!({ "price": "0.50" }))).await.unwrap();
    reads_agree(f, "a SKU").await;
    skus.patch(sku.id, v(1), from(&json!({ "price": "0.40", "stock": 2 }))).await.unwrap();
    reads_agree(f, "a patch of a SKU").await;
    f.clock.advance(Duration::from_secs(1));
    skus.delete(sku.id, v(2), DeleteMode::Soft).await.unwrap();
    reads_agree(f, "a delete of a SKU").await;
    skus.restore(sku.id, v(3)).await.unwrap();
    reads_agree(f, "a restore of a SKU").await;
    f.delete(&f.fresh(p.id).await, DeleteMode::Soft).await.unwrap();
    reads_agree(f, "a delete").await;
    products.restore(p.id, v(f.fresh(p.id).await.audit.version)).await.unwrap();
    reads_agree(f, "a restore").await;
    f.rename_category(mid.id, "Middle").await.unwrap();
    assert_eq!(code_of(categories.get_by_slug("mid").await, "the old slug"), ErrorCode::NotFound);
    reads_agree(f, "a rename").await;
    let patch = from(&json!({ "description": "d" }));
    categories.patch(low.id, v(1), patch).await.unwrap();
    reads_agree(f, "a description").await;
    f.move_category(low.id, None).await.unwrap();
    reads_agree(f, "a move").await;
    let empty = f.category("Empty", Some(&mid)).await;
    f.delete_category(empty.id, DeleteMode::Soft).await.unwrap();
    reads_agree(f, "a delete of a category").await;
    categories.restore(empty.id, v(2)).await.unwrap();
    reads_agree(f, "a restore of a category").await;
    f.delete_category(empty.id, DeleteMode::Force).await.unwrap();
    reads_agree(f, "the force delete of a category").await;
    f.delete(&f.fresh(q.id).await, DeleteMode::Force).await.unwrap();
    assert_eq!(code_of(products.get_by_slug("p").await, "a deleted product"), ErrorCode::NotFound);
    reads_agree(f, "all writes").await;
    let mut tx = f.shop.begin().await.unwrap();
    products.create_many_in(&mut tx, &[flat_in("Host", &[&low])]).await.unwrap();
    tx.commit().await.unwrap().run().await;
    reads_agree(f, "a host's transaction").await;
}

/// The second read of a list comes from the cache, and the first read after a write, or after an import, returns the
/// write. Lists with soft-deleted categories always come from the database.
pub async fn r15_lists_of_categories_are_cached_and_never_older_than_a_write(f: &ShopFixture) {
    let cached = f.cache().name() != "none";
    let mut last = Vec::new();
    let mut check = async |what: &str| {
        let lists = category_lists(&f.snapshot().await.categories);
        let mut now = Vec::new();
        for (filter, paging) in &lists {
            let what = format!("{what}: {filter:?} {paging:?}");
            let fresh = read!(f.storage, categories.list(filter, paging));
            for _ in 0..2 {
                assert_eq!(
                    f.shop.categories().list(filter, paging).await.unwrap().value.page,
                    fresh,
                    "after {what}: a list must equal that of the database"
                );
            }
            let again = f.shop.categories().list(filter, paging).await.unwrap();
            assert_eq!(
                again.value.page, fresh,
                "after {what}: the second read of a list must equal that of the database"
            );
            assert_eq!(
                again.hit,
                cached && filter.include_deleted == IncludeDeleted::No,
                "after {what}: the second read must come from the cache, unless soft-deleted categories are included"
            );
            assert_eq!(
                again.value.total.is_some(),
                matches!(paging, Paging::Offset { .. }),
                "after {what}: a page by number must have a total, and a page by cursor must not"
            );
            now.push(fresh);
        }
        assert_ne!(now, last, "the test itself is at fault: {what} must change a list");
        last = now;
    };
    let shop = f.shop.acting_as(me());
    let (products, categories) = (shop.products(), shop.categories());
    let top = f.category("Top", None).await;
    check("a category").await;
    let below = f.category("Below", Some(&top)).await;
    check("a category below it").await;
    categories.patch(below.id, v(1), from(&json!({ "description": "d" }))).await.unwrap();
    check("a new description").await;
    let named = f.rename_category(top.id, "Roof").await.unwrap();
    check("a new name").await;
    categories.replace(top.id, v(named.audit.version), &category_input("Top", None)).await.unwrap();
    check("a PUT").await;
    f.move_category(below.id, None).await.unwrap();
    check("a move to the root").await;
    f.move_category(below.id, Some(top.id)).await.unwrap();
    check("a move back").await;
    let p = f.plain_in("P", &[&below]).await;
    check("a product").await;
    let p = f.patch(&p, json!({ "status": "draft" })).await.unwrap();
    check("a change to a draft").await;
    let p = f.patch(&p, json!({ "status": "active" })).await.unwrap();
    check("a change to an active product").await;
    let p = f.patch(&p, json!({ "category": "top" })).await.unwrap();
    check("a change of the category of a product").await;
    f.delete(&p, DeleteMode::Soft).await.unwrap();
    check("a delete of a product").await;
    products.restore(p.id, v(f.fresh(p.id).await.audit.version)).await.unwrap();
    check("a restore of a product").await;
    f.delete(&f.fresh(p.id).await, DeleteMode::Force).await.unwrap();
    check("a force delete of a product").await;
    f.delete_category(below.id, DeleteMode::Soft).await.unwrap();
    check("a delete of a category").await;
    categories.restore(below.id, v(f.fresh_category(below.id).await.audit.version)).await.unwrap();
    check("a restore of a category").await;
    f.delete_category(below.id, DeleteMode::Force).await.unwrap();
    check("a force delete of a category").await;

    let file = |rows: Value| std::io::Cursor::new(rows.to_string().into_bytes());
    let rows = |description: &str| {
        json!([
            { "id": "1", "name": "Imported", "path": [], "description": description },
            { "id": "2", "name": "Inner", "path": [{ "id": "1", "name": "Imported" }] },
        ])
    };
    let import = f.shop.import();
    for (text, what) in [("one", "imported categories"), ("two", "an imported change")] {
        let report = import.categories(file(rows(text)), ImportOptions::default(), |_| ()).await.unwrap();
        assert_eq!((report.rejected, report.ended_early), (0, None));
        check(what).await;
    }
    for (path, what) in [("imported/inner", "an imported product"), ("fresh", "a category that an import makes")] {
        let rows = json!([{ "external_id": what, "title": what, "price": "1", "categories": [path] }]);
        let report = import.products(file(rows), ImportOptions::default(), |_| ()).await.unwrap();
        assert_eq!((report.inserted, report.ended_early), (1, None), "{what}");
        check(what).await;
    }
}

/// Holds back the first caller after it is closed.
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
        until("a caller is held back", async || self.held.load(Ordering::SeqCst) == 1).await;
    }

    fn open(&self) {
        self.release.add_permits(1);
    }
}

/// A cache with a gate before loads and a gate before fills.
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
impl ForwardCache for Gated {
    fn inner(&self) -> &dyn Cache {
        &*self.inner
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
}

/// Sixty-four concurrent readers of one product cost as many statements as one reader.
pub async fn r15_concurrent_misses_load_once(f: &ShopFixture) {
    let p = f.plain("Lamp").await;
    let gated = Gated::over(f.cache());
    let shop = f.another(ShopConfig::default(), gated.clone());
    // The first read opens the connections.
    shop.products().get(p.id).await.unwrap();
    gated.inner.clear().await.unwrap();
    let before = f.storage.statements();
    shop.products().get(p.id).await.unwrap();
    let one = f.storage.statements() - before;
    assert!(one > 0);
    gated.inner.clear().await.unwrap();

    let (before, gets) = (f.storage.statements(), gated.gets.load(Ordering::SeqCst));
    gated.load.close();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let (shop, id) = (shop.clone(), p.id);
        tasks.spawn(async move { shop.products().get(id).await.unwrap().value.title.clone() });
    }
    gated.load.holds_one().await;
    until("all readers have missed", async || gated.gets.load(Ordering::SeqCst) - gets >= 64).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    gated.load.open();
    assert!(tasks.join_all().await.iter().all(|t| t == "Lamp"));
    assert_eq!(f.storage.statements() - before, one, "concurrent readers of one key must share one load");

    // If the reader that loads is cancelled, another one loads.
    gated.inner.clear().await.unwrap();
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

/// A write happens while a reader is between its load and its fill. Reads are by id, slug, list, category, tree and
/// list of categories.
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
        6 => {
            let all = CategoryFilter::default();
            shop.categories().list(&all, &Paging::first(10)).await.unwrap().value.page.items[0].name.clone()
        }
        _ => shop.products().get_many(&[p.id]).await.unwrap()[0].title.clone(),
    };
    for way in 0..8 {
        for round in 0..2 {
            let new = format!("Name {way} {round}");
            gated.inner.clear().await.unwrap();
            gated.fill.close();
            let held = async {
                look(&shop, way).await;
            };
            let write = async {
                gated.fill.holds_one().await;
                if (3..=6).contains(&way) {
                    let patch = from(&json!({ "name": new, "slug": "old" }));
                    let read = v(shop.categories().get_fresh(c.id, IncludeDeleted::No).await.unwrap().audit.version);
                    shop.acting_as(me()).categories().patch(c.id, read, patch).await.unwrap();
                } else {
                    let read = v(shop.products().get_fresh(p.id, IncludeDeleted::No).await.unwrap().audit.version);
                    shop.acting_as(me()).products().patch(p.id, read, from(&json!({ "title": new }))).await.unwrap();
                }
                // The write does not change which product has the slug, so a later reader may join that load.
                if way != 1 {
                    assert_eq!(look(&shop, way).await, new, "way {way}: a later reader must not join the old load");
                }
                gated.fill.open();
            };
            futures::join!(held, write);
            assert_eq!(look(&shop, way).await, new, "way {way}: the old value must not return to the cache");
        }
    }
}

/// Another process writes, and no event arrives. The old value is served until the TTL ends, and not longer.
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
    let roots = CategoryFilter { parent: Some(None), include_deleted: IncludeDeleted::No };
    let look_at_category = async || {
        [
            f.shop.categories().get(c.id).await.unwrap().value.description.clone(),
            f.shop.categories().tree().await.unwrap().value[0].description.clone(),
            f.shop.categories().list(&roots, &Paging::first(10)).await.unwrap().value.page.items[0].description.clone(),
        ]
    };
    look().await;
    look_at_category().await;
    other.acting_as(me()).products().patch(p.id, v(1), from(&json!({ "title": "New" }))).await.unwrap();
    let patch = from(&json!({ "description": "New" }));
    other.acting_as(me()).categories().patch(c.id, v(1), patch).await.unwrap();
    if f.cache().is_shared() {
        // In a shared cache, events arrive. The suite of caches tests its TTL, because the clock of the test does not
        // control it.
        until("the write of another process is visible", async || look().await == ["New"; 3]).await;
        until("the write of a category is visible", async || {
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
    assert!(seen.iter().all(|text| *text == expected), "{seen:?}");
    f.clock.advance(Duration::from_secs(3_300));
    assert!(look_at_category().await.iter().all(|text| *text == new));
}

/// Two shops use one database, each with its own cache.
pub async fn r15_another_processes_write_is_seen_after_the_poll(f: &ShopFixture) {
    let config = ShopConfig::default().poll_interval(Duration::from_millis(20));
    let other = f.another(config, f.cache());
    let background = other.start();
    let c = f.category("Old", None).await;
    let p = f.plain_in("Old", &[&c]).await;
    let query =
        ProductListQuery { filter: ProductFilter::default(), sort: ProductSort::TitleAsc, paging: Paging::first(10) };
    for n in 0..3 {
        let read = other.products().get(p.id).await.unwrap();
        let tree = other.categories().tree().await.unwrap();
        let roots = CategoryFilter { parent: Some(None), include_deleted: IncludeDeleted::No };
        let listed =
            async || other.categories().list(&roots, &Paging::first(10)).await.unwrap().value.page.items[0].clone();
        listed().await;
        other.products().list(&query).await.unwrap();
        let title = format!("New {n}");
        let patch = from(&json!({ "title": title }));
        f.shop.acting_as(me()).products().patch(p.id, v(read.value.audit.version.max(n + 1)), patch).await.unwrap();
        until("the other process shows the product", async || {
            other.products().get(p.id).await.unwrap().value.title == title
        })
        .await;
        until("the other process shows the product in a list", async || {
            other.products().list(&query).await.unwrap().value.page.items[0].title == title
        })
        .await;
        assert!(!tree.value.is_empty());
        f.rename_category(c.id, &title).await.unwrap();
        until("the other process shows the tree", async || {
            other.categories().tree().await.unwrap().value[0].name == title
        })
        .await;
        until("the other process shows a list of categories", async || listed().await.name == title).await;
        let counted = listed().await.product_count;
        f.plain_in("Zebra", &[&c]).await;
        until("the other process shows the new product count", async || listed().await.product_count == counted + 1)
            .await;
        until("the other process shows the category", async || {
            other.categories().get(c.id).await.unwrap().value.name == title
        })
        .await;
        until("the other process shows the name of the category in the product", async || {
            other.products().get(p.id).await.unwrap().value.categories[0].name == title
        })
        .await;
    }
    background.shutdown().await;
}

/// A writer that dies after its commit has not invalidated any cache. One process invalidates the shared cache, and
/// each process its own.
pub async fn r15_a_shared_cache_is_told_by_one_process_and_each_tells_itself(f: &ShopFixture) {
    let caches = [Arc::new(Instructed::default()), Arc::new(Instructed::default())];
    let config = ShopConfig::default().poll_interval(Duration::from_millis(10));
    let running = caches.each_ref().map(|cache| f.another(config.clone(), cache.clone()).start());
    until("all consumers have begun", async || {
        caches.iter().all(|c| c.was(Word::LocalClear)) && caches.iter().any(|c| c.was(Word::SharedClear))
    })
    .await;
    let mut last = None;
    // The shared consumer handles events only after its position is stored.
    until("the shared values are invalidated", async || {
        let p = f.plain("P").await;
        last = Some(p.id);
        tokio::time::sleep(Duration::from_millis(50)).await;
        caches.iter().any(|c| c.was(Word::Shared(CacheKey::Product(p.id))))
    })
    .await;
    let key = CacheKey::Product(last.unwrap());
    until("each process invalidates its own values", async || caches.iter().all(|c| c.was(Word::Local(key)))).await;
    assert_eq!(
        caches.iter().filter(|c| c.was(Word::Shared(key))).count(),
        1,
        "exactly one process must invalidate the shared cache"
    );
    for background in running {
        background.shutdown().await;
    }
}
