//! What is particular to SQLite: pragmas, plans, locks, cancellation, migrations, constraints, statement counts.
#![cfg(feature = "sqlite")]
#![expect(clippy::unwrap_used, reason = "a test that cannot set up fails")]
#![expect(clippy::many_single_char_names, reason = "products and categories of a test are a, b, c")]

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use ecom_core::clock::{Clock, ManualClock, SystemClock, Timestamp};
use ecom_core::domain::*;
use ecom_core::id::*;
use ecom_core::money::{Currency, Money, Percentage, Rating};
use ecom_core::paging::Paging;
use ecom_core::port::*;
use ecom_core::text::Slug;
use ecom_core::{Conflict, Error, ErrorCode, FieldCode};
use ecom_storage::{SqlStorage, SqliteOptions};

type TestResult = Result<(), Box<dyn std::error::Error>>;

fn ids() -> &'static UuidV7Source {
    static IDS: std::sync::OnceLock<UuidV7Source> = std::sync::OnceLock::new();
    IDS.get_or_init(|| UuidV7Source::new(Arc::new(SystemClock)))
}

fn now() -> Timestamp {
    SystemClock.now()
}

fn category(name: &str, parent: Option<&Category>) -> Category {
    let slug = Slug::from_title(name, "category");
    Category {
        id: CategoryId(ids().next()),
        name: name.to_owned(),
        path: Category::path_under(parent, &slug),
        slug,
        parent_id: parent.map(|p| p.id),
        description: None,
        attributes: Attributes::default(),
        external: None,
        product_count: 0,
        subtree_product_count: 0,
        revision: 1,
        audit: Audit::created(now(), &Actor::system()),
    }
}

fn sku(product: ProductId, position: i32, code: &str, cents: i64, stock: i64) -> Sku {
    Sku {
        id: SkuId(ids().next()),
        product_id: product,
        position,
        code: code.to_owned(),
        option_values: BTreeMap::from([("size".to_owned(), position.to_string())]),
        attributes: Attributes::default(),
        price: Money::from_minor(cents, Currency::USD),
        weight: None,
        dimensions: None,
        on_hand: stock,
        reserved: 0,
        low_stock_threshold: 5,
        barcode: None,
        external: None,
        audit: Audit::created(now(), &Actor::system()),
    }
}

fn opening(s: &Sku) -> StockMovement {
    movement(s.id, s.on_hand)
}

fn movement(sku_id: SkuId, delta: i64) -> StockMovement {
    StockMovement {
        id: StockMovementId(ids().next()),
        sku_id,
        delta,
        reason: StockReason::Adjustment,
        reference: None,
        created_at: now(),
        created_by: Actor::system(),
    }
}

fn product(title: &str, categories: &[&Category], cents: i64, skus: i32) -> Product {
    let id = ProductId(ids().next());
    let slug = Slug::from_title(title, "product");
    Product {
        id,
        title: title.to_owned(),
        description: Some("What it is.".to_owned()),
        brand: Some("Acme".to_owned()),
        status: ProductStatus::Active,
        categories: categories.iter().map(|c| CategorySummary::from(*c)).collect(),
        tags: vec!["New".to_owned(), "Paper".to_owned()],
        images: vec![Image { url: "/a.png".to_owned(), alt: None, primary: true }],
        attributes: Attributes::default(),
        discount: Percentage::default(),
        warranty_information: None,
        shipping_information: None,
        rating: RatingSummary { mean: Rating::from_hundredths(cents % 500).unwrap(), ..RatingSummary::default() },
        external: None,
        skus: (0..skus).map(|i| sku(id, i, &format!("{slug}-{i}"), cents + i64::from(i), 10)).collect(),
        slug,
        revision: 1,
        audit: Audit::created(now(), &Actor::system()),
    }
}

async fn write_products(s: &SqlStorage, products: &[Product]) -> ecom_core::Result<()> {
    let mut tx = s.begin().await?;
    tx.products().insert(products).await?;
    let skus: Vec<Sku> = products.iter().flat_map(|p| p.skus.clone()).collect();
    let opening: Vec<StockMovement> = skus.iter().filter(|s| s.on_hand != 0).map(opening).collect();
    tx.skus().insert(&skus, &opening).await?;
    tx.commit().await
}

async fn write_categories(s: &SqlStorage, categories: &[Category]) -> ecom_core::Result<()> {
    let mut tx = s.begin().await?;
    tx.categories().insert(categories).await?;
    tx.commit().await
}

/// A database in a directory of its own that lasts as long as the first value.
async fn file() -> (tempfile::TempDir, SqlStorage) {
    let dir = tempfile::tempdir().unwrap();
    let s = at(&dir);
    s.migrate().await.unwrap();
    (dir, s)
}

fn at(dir: &tempfile::TempDir) -> SqlStorage {
    SqlStorage::sqlite(SqliteOptions::file(dir.path().join("shop.db"))).unwrap()
}

async fn memory() -> SqlStorage {
    let s = SqlStorage::open("sqlite::memory:").unwrap();
    s.migrate().await.unwrap();
    s
}

#[tokio::test]
async fn a_product_reads_as_it_was_written() -> TestResult {
    for (_dir, s) in [
        {
            let (d, s) = file().await;
            (Some(d), s)
        },
        (None, memory().await),
    ] {
        let top = category("Office", None);
        let below = category("Paper", Some(&top));
        write_categories(&s, &[top.clone(), below.clone()]).await?;
        let mut p = product("Field Notebook", &[&below], 999, 3);
        p.external = Some(ExternalRef::new("dummyjson", "1"));
        write_products(&s, std::slice::from_ref(&p)).await?;
        let mut c = s.connect().await?;
        assert_eq!(c.products().get(p.id, Deleted::Hide).await?.as_ref(), Some(&p));
        assert_eq!(c.products().get_by_slug("field-notebook").await?.as_ref(), Some(&p));
        assert_eq!(c.products().get_many(&[p.id], Deleted::Hide).await?, vec![p.clone()]);
        assert_eq!(c.products().find_by_external("dummyjson", &["1".to_owned()]).await?, vec![("1".to_owned(), p.id)]);
        for sort in ProductSort::ALL {
            for filter in [
                ProductFilter::default(),
                ProductFilter {
                    deleted: Deleted::Include,
                    status: Some(ProductStatus::Active),
                    ..ProductFilter::default()
                },
                ProductFilter {
                    category: Some(top.id),
                    min_price: Some(999),
                    max_price: Some(999),
                    brand: Some("ACME".to_owned()),
                    tag: Some("new".to_owned()),
                    availability: Some(AvailabilityStatus::InStock),
                    status: Some(ProductStatus::Active),
                    deleted: Deleted::Hide,
                    updated_since: Some(p.audit.updated_at),
                },
            ] {
                let page = c.products().list(&filter, sort, &Paging::first(20)).await?;
                assert_eq!(page.items, vec![p.clone()]);
                assert_eq!(page.next, None);
                assert_eq!(c.products().count(&filter, 100).await?.count, 1);
                let found = c.products().filters(&filter).await?;
                assert_eq!(found.categories, vec![(CategorySummary::from(&below), 1)]);
                assert_eq!(found.brands, vec![("Acme".to_owned(), 1)]);
                assert_eq!(found.price, Some((999, 999)));
            }
        }
        let t = c.categories().get(top.id, Deleted::Hide).await?.unwrap();
        assert_eq!((t.product_count, t.subtree_product_count, t.revision), (0, 1, 2));
        let b = c.categories().get(below.id, Deleted::Hide).await?.unwrap();
        assert_eq!((b.product_count, b.subtree_product_count, b.revision), (1, 1, 2));
        assert!(c.inventory().imbalances().await?.is_empty());
        drop(c);
        assert_eq!(s.identity().await?, s.identity().await?);
        s.ping().await?;
    }
    Ok(())
}

#[tokio::test]
async fn the_file_is_in_wal_with_foreign_keys_and_full_durability() -> TestResult {
    let (_dir, s) = file().await;
    for write in [false, true] {
        assert_eq!(s.pragma("journal_mode", write).await?, "wal");
        assert_eq!(s.pragma("foreign_keys", write).await?, "1");
        assert_eq!(s.pragma("synchronous", write).await?, "2");
        assert_eq!(s.pragma("query_only", write).await?, if write { "0" } else { "1" });
    }
    // A connection for reads writes nothing.
    let mut c = s.connect().await?;
    let e = c.categories().insert(&[category("A", None)]).await.unwrap_err();
    assert_eq!(e.code(), ErrorCode::Internal);
    // A failure that may have ended a transaction lets nothing more through, and the connection is not used again.
    assert!(c.categories().tree().await.is_err());
    drop(c);
    assert!(s.connect().await?.categories().tree().await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn every_list_walks_an_index_and_sorts_nothing() -> TestResult {
    let (_dir, s) = file().await;
    let top = category("Office", None);
    write_categories(&s, std::slice::from_ref(&top)).await?;
    let all: Vec<Product> = (0..60).map(|i| product(&format!("Pen {i}"), &[&top], 100 + i, 1)).collect();
    write_products(&s, &all).await?;
    for sort in ProductSort::ALL {
        let index = match sort {
            ProductSort::CreatedAsc | ProductSort::CreatedDesc => "id",
            ProductSort::PriceAsc | ProductSort::PriceDesc => "price",
            ProductSort::TitleAsc | ProductSort::TitleDesc => "title",
            ProductSort::RatingDesc => "rating",
        };
        for category in [None, Some(top.id)] {
            for prices in [false, true] {
                let filter = ProductFilter {
                    category,
                    status: Some(ProductStatus::Active),
                    min_price: prices.then_some(100),
                    max_price: prices.then_some(1_000),
                    ..ProductFilter::default()
                };
                let first = s.connect().await?.products().list(&filter, sort, &Paging::first(20)).await?;
                for paging in [
                    Paging::first(20),
                    Paging::Keyset { after: first.next.clone(), limit: 20 },
                    Paging::Offset { offset: 20, limit: 20 },
                ] {
                    let plan = s.explain_list(&filter, sort, &paging).await?.join("\n");
                    let name = if category.is_some() { "product_listings" } else { "products_list" };
                    assert!(plan.contains(&format!("INDEX {name}_{index} ")), "{sort:?} {paging:?}\n{plan}");
                    assert!(!plan.contains("TEMP B-TREE"), "{sort:?} {paging:?}\n{plan}");
                    assert!(
                        !plan.lines().any(|l| l.starts_with("SCAN") && l != "SCAN page"),
                        "{sort:?} {paging:?}\n{plan}"
                    );
                    if prices && index == "price" {
                        assert!(plan.contains("price_key"), "the price bounds the walk\n{plan}");
                    }
                    if matches!(paging, Paging::Keyset { after: Some(_), .. }) && index != "id" {
                        let beyond = if sort.is_descending() { "<" } else { ">" };
                        let bound = format!("){beyond}(?,?)");
                        assert!(plan.contains(&bound), "the cursor bounds the walk\n{plan}");
                        assert!(
                            !prices || index != "price" || plan.matches("price_key").count() == 2,
                            "and so does the filter\n{plan}"
                        );
                    }
                }
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn pages_by_cursor_and_by_offset_are_the_same_list() -> TestResult {
    let (_dir, s) = file().await;
    let top = category("Office", None);
    write_categories(&s, std::slice::from_ref(&top)).await?;
    let mut all: Vec<Product> = (0..90).map(|i| product(&format!("Pen {}", i % 30), &[&top], 100 + i % 7, 1)).collect();
    for (i, p) in all.iter_mut().enumerate() {
        p.slug = Slug::trusted(format!("pen-{i}"));
        p.skus[0].code = format!("pen-{i}");
        p.status = ProductStatus::ALL[i % 3];
        if i % 10 == 0 {
            p.audit.deleted_at = Some(now());
            p.skus.clear();
        }
    }
    write_products(&s, &all).await?;
    let mut c = s.connect().await?;
    for category in [None, Some(top.id)] {
        for (status, deleted) in [
            (None, Deleted::Hide),
            (None, Deleted::Include),
            (Some(ProductStatus::Active), Deleted::Hide),
            (Some(ProductStatus::Draft), Deleted::Include),
        ] {
            let filter = ProductFilter { category, status, deleted, ..ProductFilter::default() };
            let mut expected: Vec<&Product> = all
                .iter()
                .filter(|p| deleted == Deleted::Include || p.audit.is_live())
                .filter(|p| status.is_none_or(|s| s == p.status))
                .collect();
            assert_eq!(c.products().count(&filter, 1_000).await?.count, expected.len() as u64);
            for sort in ProductSort::ALL {
                let price = |p: &Product| p.price_range().map_or(i64::MAX, |(lo, _)| lo.minor());
                expected.sort_by(|a, b| {
                    let o = match sort {
                        ProductSort::CreatedAsc | ProductSort::CreatedDesc => std::cmp::Ordering::Equal,
                        ProductSort::PriceAsc | ProductSort::PriceDesc => price(a).cmp(&price(b)),
                        ProductSort::TitleAsc | ProductSort::TitleDesc => {
                            ecom_core::text::fold_key(&a.title).cmp(&ecom_core::text::fold_key(&b.title))
                        }
                        ProductSort::RatingDesc => a.rating.mean.cmp(&b.rating.mean),
                    }
                    .then(a.id.cmp(&b.id));
                    if sort.is_descending() { o.reverse() } else { o }
                });
                let expected: Vec<ProductId> = expected.iter().map(|p| p.id).collect();
                let mut by_cursor = Vec::new();
                let mut after = None;
                loop {
                    let page = c.products().list(&filter, sort, &Paging::Keyset { after, limit: 7 }).await?;
                    by_cursor.extend(page.items.iter().map(|p| p.id));
                    after = page.next;
                    if after.is_none() {
                        break;
                    }
                }
                assert_eq!(by_cursor, expected, "{sort:?} {filter:?}");
                let page = c.products().list(&filter, sort, &Paging::Offset { offset: 5, limit: 6 }).await?;
                let ids: Vec<ProductId> = page.items.iter().map(|p| p.id).collect();
                assert_eq!(ids, expected[5.min(expected.len())..11.min(expected.len())]);
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_page_is_one_statement_whatever_its_size_and_a_batch_grows_with_chunks_only() -> TestResult {
    let (_dir, s) = file().await;
    let top = category("Office", None);
    write_categories(&s, std::slice::from_ref(&top)).await?;
    let all: Vec<Product> = (0..128).map(|i| product(&format!("Pen {i}"), &[&top], 100 + i, 2)).collect();
    let before = s.statements();
    write_products(&s, &all).await?;
    let batch = s.statements() - before;
    assert!(batch <= 20, "{batch} statements for 128 products");
    let filter = ProductFilter { category: Some(top.id), ..ProductFilter::default() };
    let mut c = s.connect().await?;
    let mut counted = Vec::new();
    for limit in [20, 100] {
        let before = s.statements();
        let page = c.products().list(&filter, ProductSort::PriceAsc, &Paging::first(limit)).await?;
        assert_eq!(page.items.len(), limit as usize);
        counted.push(s.statements() - before);
    }
    assert_eq!(counted, [1, 1]);
    let ids: Vec<ProductId> = all.iter().map(|p| p.id).collect();
    for (n, reads) in [(1, 1), (100, 1)] {
        let before = s.statements();
        assert_eq!(c.products().get_many(&ids[..n], Deleted::Hide).await?, all[..n]);
        assert_eq!(s.statements() - before, reads);
    }
    let before = s.statements();
    c.products().get(ids[0], Deleted::Hide).await?;
    assert_eq!(s.statements() - before, 1);
    drop(c);
    // Stock of 100 SKUs at once.
    let moves: Vec<StockMovement> = all[..50].iter().flat_map(|p| &p.skus).map(|s| movement(s.id, 1)).collect();
    let mut tx = s.begin().await?;
    let before = s.statements();
    assert_eq!(tx.inventory().apply(&moves).await?.len(), 50);
    assert!(s.statements() - before <= 10);
    tx.commit().await?;
    Ok(())
}

/// Adds one to a SKU, as a service would.
async fn add_one(s: &SqlStorage, id: SkuId) -> ecom_core::Result<()> {
    let mut tx = s.begin().await?;
    let levels = tx.inventory().lock(&[id]).await?;
    assert!(levels[0].live);
    tx.inventory().apply(&[movement(id, 1)]).await?;
    tx.commit().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sixty_four_writers_never_see_a_lock() -> TestResult {
    let (dir, s) = file().await;
    let p = product("Pen", &[], 100, 1);
    write_products(&s, std::slice::from_ref(&p)).await?;
    let other = at(&dir);
    let id = p.skus[0].id;
    let mut tasks = Vec::new();
    for i in 0..64 {
        // Half of them through a pool of their own, as another process would.
        let s = if i % 2 == 0 { s.clone() } else { other.clone() };
        tasks.push(tokio::spawn(async move {
            for _ in 0..4 {
                add_one(&s, id).await?;
                s.connect().await?.inventory().levels(&[id]).await?;
            }
            Ok::<_, Error>(())
        }));
    }
    for t in tasks {
        t.await??;
    }
    let mut c = s.connect().await?;
    assert_eq!(c.inventory().levels(&[id]).await?[0].on_hand, 10 + 64 * 4);
    assert!(c.inventory().imbalances().await?.is_empty());
    Ok(())
}

const CHILD: &str = "ECOM_TEST_CHILD";

#[expect(clippy::disallowed_methods, reason = "the parent test tells this process what to do")]
fn told() -> Option<String> {
    std::env::var(CHILD).ok()
}

/// The other process of the test below; does nothing on its own.
#[tokio::test]
async fn child_process_that_writes() -> TestResult {
    let Some(told) = told() else { return Ok(()) };
    let (path, id) = told.split_once('|').ok_or("two parts")?;
    let s = SqlStorage::sqlite(SqliteOptions::file(path))?;
    s.migrate().await?;
    for _ in 0..50 {
        add_one(&s, id.parse()?).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_on_one_file_never_see_a_lock() -> TestResult {
    let (dir, s) = file().await;
    let p = product("Pen", &[], 100, 1);
    write_products(&s, std::slice::from_ref(&p)).await?;
    let id = p.skus[0].id;
    let path = dir.path().join("shop.db");
    let mut children = Vec::new();
    for _ in 0..2 {
        children.push(
            std::process::Command::new(std::env::current_exe()?)
                .args(["--exact", "catalog::child_process_that_writes"])
                .env(CHILD, format!("{}|{id}", path.display()))
                .stdout(std::process::Stdio::null())
                .spawn()?,
        );
    }
    for _ in 0..50 {
        add_one(&s, id).await?;
    }
    for mut c in children {
        assert!(tokio::task::spawn_blocking(move || c.wait()).await??.success());
    }
    assert_eq!(s.connect().await?.inventory().levels(&[id]).await?[0].on_hand, 160);
    Ok(())
}

/// Polls a future at most `left` times.
struct Polls<F> {
    future: Pin<Box<F>>,
    left: usize,
}

impl<F: Future> Future for Polls<F> {
    type Output = Option<F::Output>;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        self.left -= 1;
        self.future.as_mut().poll(cx).map(Some)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_dropped_at_any_await_leaves_the_pool_whole_and_nothing_half_written() -> TestResult {
    for (_dir, s) in [
        {
            let (d, s) = file().await;
            (Some(d), s)
        },
        (None, memory().await),
    ] {
        let top = category("Office", None);
        write_categories(&s, std::slice::from_ref(&top)).await?;
        let mut done = 0;
        let (mut dropped, mut completed) = (0, 0);
        // How often a future is polled differs from run to run: each place is tried several times, and all of them
        // again until enough were dropped.
        for (tries, n) in (0..30).cycle().enumerate() {
            if tries >= 90 && dropped >= 20 && completed >= 1 {
                break;
            }
            assert!(tries < 900, "{dropped} dropped, {completed} completed");
            let p = product(&format!("Pen {n} {}", ids().next()), &[&top], 100, 2);
            let whole = async {
                write_products(&s, std::slice::from_ref(&p)).await?;
                s.connect().await?.products().get(p.id, Deleted::Hide).await
            };
            let finished = Polls { future: Box::pin(whole), left: n }.await;
            // The next caller gets a clean connection, and finds all of the product or nothing.
            let mut tx = s.begin().await?;
            let found = tx.products().get(p.id, Deleted::Include).await?;
            let live = tx.categories().get(top.id, Deleted::Hide).await?.ok_or("gone")?.product_count;
            let listed = tx
                .products()
                .count(&ProductFilter { category: Some(top.id), ..ProductFilter::default() }, 10_000)
                .await?;
            assert_eq!(listed.count, u64::try_from(live)?);
            match found {
                Some(found) => {
                    assert_eq!(found.skus.len(), 2, "dropped after {n} polls");
                    assert!(tx.inventory().imbalances().await?.is_empty());
                    done += 1;
                    assert_eq!(live, done);
                }
                None => assert_eq!(live, done, "dropped after {n} polls"),
            }
            tx.commit().await?;
            let status = s.pool_status();
            assert!(status.size <= status.max && status.waiting == 0, "{status:?}");
            if finished.is_some() {
                completed += 1;
            } else {
                dropped += 1;
            }
        }
        let mut held = Vec::new();
        for _ in 0..if s.pool_status().max == 1 { 1 } else { 4 } {
            held.push(s.connect().await?);
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_dropped_unit_of_work_writes_nothing_and_frees_the_lock() -> TestResult {
    for (_dir, s) in [
        {
            let (d, s) = file().await;
            (Some(d), s)
        },
        (None, memory().await),
    ] {
        let top = category("Office", None);
        {
            let mut tx = s.begin().await?;
            tx.categories().insert(std::slice::from_ref(&top)).await?;
        }
        let mut tx = s.begin().await?;
        assert_eq!(tx.categories().get(top.id, Deleted::Include).await?, None);
        tx.categories().insert(std::slice::from_ref(&top)).await?;
        tx.rollback().await?;
        assert_eq!(s.connect().await?.categories().get(top.id, Deleted::Include).await?, None);
    }
    Ok(())
}

#[tokio::test]
async fn who_waits_too_long_for_another_process_is_told_to_try_again() -> TestResult {
    let dir = tempfile::tempdir()?;
    let mut options = SqliteOptions::file(dir.path().join("shop.db"));
    options.busy_timeout = Duration::from_millis(100);
    let (a, b) = (SqlStorage::sqlite(options.clone())?, SqlStorage::sqlite(options)?);
    a.migrate().await?;
    let held = a.begin().await?;
    let Err(e) = b.begin().await else { return Err("the file is taken".into()) };
    assert_eq!(e.code(), ErrorCode::Unavailable);
    assert!(e.is_retryable() && !e.outcome_unknown());
    drop(held);
    b.begin().await?.commit().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn migrations_run_once_also_from_many_at_once() -> TestResult {
    let dir = tempfile::tempdir()?;
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let s = at(&dir);
            tokio::spawn(async move {
                s.migrate().await?;
                s.identity().await
            })
        })
        .collect();
    let mut identities = Vec::new();
    for t in tasks {
        identities.push(t.await??);
    }
    identities.dedup();
    assert_eq!(identities.len(), 1);
    let s = at(&dir);
    s.migrate().await?;
    assert_eq!(s.identity().await?, identities[0]);
    Ok(())
}

async fn raw(dir: &tempfile::TempDir, sql: &'static str) -> TestResult {
    use sqlx::Connection as _;
    let url = format!("sqlite://{}", dir.path().join("shop.db").display());
    let mut c = sqlx::SqliteConnection::connect(&url).await?;
    sqlx::query(sql).execute(&mut c).await?;
    c.close().await?;
    Ok(())
}

#[tokio::test]
async fn a_newer_schema_and_an_edited_migration_are_refused() -> TestResult {
    for (sql, word) in [
        ("INSERT INTO ecom_migrations VALUES (999, 'later', '0', 0)", "newer"),
        ("UPDATE ecom_migrations SET checksum = 'x'", "does not know"),
    ] {
        let (dir, s) = file().await;
        raw(&dir, sql).await?;
        let e = s.migrate().await.unwrap_err();
        assert_eq!(e.code(), ErrorCode::Internal);
        assert!(e.to_string().contains(word), "{e}");
    }
    Ok(())
}

fn duplicate(e: &Error) -> Option<(&'static str, &str)> {
    match e {
        Error::Conflict(c) => match &**c {
            Conflict::Duplicate { field, value, .. } => Some((field, value)),
            _ => None,
        },
        _ => None,
    }
}

#[tokio::test]
async fn what_the_database_refuses_becomes_our_conflict() -> TestResult {
    let (_dir, s) = file().await;
    let top = category("Office", None);
    let mut below = category("Paper", Some(&top));
    below.external = Some(ExternalRef::new("shop", "1"));
    write_categories(&s, &[top.clone(), below.clone()]).await?;
    let mut p = product("Pen", &[&below], 100, 1);
    p.external = Some(ExternalRef::new("shop", "1"));
    write_products(&s, std::slice::from_ref(&p)).await?;

    // Roots are siblings of each other; a name is folded.
    let mut c = category("OFFICE", None);
    c.slug = Slug::trusted("other".to_owned());
    let e = write_categories(&s, std::slice::from_ref(&c)).await.unwrap_err();
    assert_eq!(duplicate(&e), Some(("name", "OFFICE")));
    c.name = "Other".to_owned();
    c.slug = top.slug.clone();
    let e = write_categories(&s, std::slice::from_ref(&c)).await.unwrap_err();
    assert_eq!(duplicate(&e), Some(("slug", "office")));
    c.slug = Slug::trusted("other".to_owned());
    c.external = below.external.clone();
    let e = write_categories(&s, std::slice::from_ref(&c)).await.unwrap_err();
    assert_eq!(duplicate(&e), Some(("external_id", "1")));
    c.external = None;
    c.parent_id = Some(CategoryId(ids().next()));
    let e = write_categories(&s, std::slice::from_ref(&c)).await.unwrap_err();
    let Error::Validation(v) = &e else { return Err(e.into()) };
    assert_eq!((v.0[0].field.as_str(), v.0[0].code), ("parent_id", FieldCode::ReferenceNotFound));

    let mut q = product("Pen", &[], 100, 0);
    let e = write_products(&s, std::slice::from_ref(&q)).await.unwrap_err();
    assert_eq!(duplicate(&e), Some(("slug", "pen")));
    q.slug = Slug::trusted("pencil".to_owned());
    q.external = p.external.clone();
    let e = write_products(&s, std::slice::from_ref(&q)).await.unwrap_err();
    assert_eq!(duplicate(&e), Some(("external_id", "1")));
    q.external = None;
    q.skus = vec![sku(q.id, 0, "PEN-0", 1, 0)];
    let e = write_products(&s, std::slice::from_ref(&q)).await.unwrap_err();
    assert_eq!(duplicate(&e), Some(("code", "PEN-0")));
    q.skus.clear();
    let gone = category("Gone", None);
    q.categories = vec![CategorySummary::from(&gone)];
    let e = write_products(&s, std::slice::from_ref(&q)).await.unwrap_err();
    let Error::Validation(v) = &e else { return Err(e.into()) };
    assert_eq!((v.0[0].field.as_str(), v.0[0].code), ("categories", FieldCode::ReferenceNotFound));
    assert!(v.0[0].message.contains(&gone.id.to_string()));

    let mut tx = s.begin().await?;
    let e = tx.categories().purge(below.id).await.unwrap_err();
    assert_eq!(e.code(), ErrorCode::CategoryNotEmpty);
    let e = tx.categories().purge(top.id).await.unwrap_err();
    assert_eq!(e.code(), ErrorCode::CategoryNotEmpty);
    let e = tx.inventory().apply(&[movement(p.skus[0].id, -11)]).await.unwrap_err();
    let Error::Conflict(c) = &e else { return Err(e.into()) };
    let Conflict::InsufficientStock { shortages } = &**c else { return Err(e.into()) };
    assert_eq!((shortages[0].requested, shortages[0].available), (11, 10));
    let e = tx.inventory().apply(&[movement(SkuId(ids().next()), 1)]).await.unwrap_err();
    assert_eq!(e.code(), ErrorCode::NotFound);
    let mut stale = p.clone();
    stale.audit.version = 7;
    let e = tx.products().update(&stale, &stale).await.unwrap_err();
    assert_eq!(e.code(), ErrorCode::VersionConflict);
    tx.rollback().await?;

    // Free again once their owner is soft-deleted.
    let mut after = p.clone();
    after.audit.edited(now(), &Actor::system());
    after.audit.deleted_at = Some(now());
    let mut tx = s.begin().await?;
    tx.products().update(&p, &after).await?;
    q.slug = p.slug.clone();
    q.external = p.external.clone();
    q.categories.clear();
    tx.products().insert(std::slice::from_ref(&q)).await?;
    assert_eq!(tx.categories().get(top.id, Deleted::Hide).await?.ok_or("gone")?.subtree_product_count, 0);
    tx.commit().await?;
    Ok(())
}

/// Counts and listings as a full computation gives them, which the maintained ones must equal.
async fn check_listings(s: &SqlStorage) -> TestResult {
    let mut c = s.connect().await?;
    let tree = c.categories().tree().await?;
    let filter = ProductFilter::default();
    let all = c.products().list(&filter, ProductSort::CreatedAsc, &Paging::first(1_000)).await?.items;
    for category in &tree {
        let under =
            |p: &&Product| p.categories.iter().any(|pc| tree.iter().any(|t| t.id == pc.id && category.contains(t)));
        let ids: Vec<ProductId> = all.iter().filter(under).map(|p| p.id).collect();
        let filter = ProductFilter { category: Some(category.id), ..ProductFilter::default() };
        let listed = c.products().list(&filter, ProductSort::CreatedAsc, &Paging::first(1_000)).await?.items;
        assert_eq!(listed.iter().map(|p| p.id).collect::<Vec<_>>(), ids, "{}", category.path);
        let active = |p: &&Product| p.status == ProductStatus::Active;
        let direct = all.iter().filter(|p| p.categories.iter().any(|pc| pc.id == category.id)).filter(active).count();
        let subtree = all.iter().filter(under).filter(active).count();
        assert_eq!(
            (category.product_count, category.subtree_product_count),
            (i64::try_from(direct)?, i64::try_from(subtree)?),
            "{}",
            category.path
        );
    }
    Ok(())
}

#[tokio::test]
async fn r6_listings_and_counts_follow_products_and_the_tree() -> TestResult {
    let (_dir, s) = file().await;
    let a = category("A", None);
    let b = category("B", Some(&a));
    let c = category("C", Some(&b));
    let d = category("D", None);
    write_categories(&s, &[a.clone(), b.clone(), c.clone(), d.clone()]).await?;
    let mut p = product("One", &[&c, &b], 100, 1);
    let q = product("Two", &[&c, &d], 200, 1);
    let mut r = product("Three", &[&a], 300, 1);
    r.status = ProductStatus::Draft;
    write_products(&s, &[p.clone(), q.clone(), r.clone()]).await?;
    check_listings(&s).await?;

    // A product moves, another goes on sale, a price changes.
    let mut tx = s.begin().await?;
    let mut after = p.clone();
    after.categories = vec![CategorySummary::from(&d), CategorySummary::from(&a)];
    after.tags = vec!["old".to_owned()];
    after.skus[0].price = Money::from_minor(5, Currency::USD);
    after.revision += 1;
    after.audit.edited(now(), &Actor::system());
    tx.products().update(&p, &after).await?;
    tx.skus().update(&p.skus[0], &after.skus[0]).await?;
    p = after;
    let mut after = r.clone();
    after.status = ProductStatus::Active;
    after.audit.edited(now(), &Actor::system());
    tx.products().update(&r, &after).await?;
    tx.commit().await?;
    check_listings(&s).await?;
    assert_eq!(s.connect().await?.products().get(p.id, Deleted::Hide).await?, Some(p.clone()));

    // B moves under D: its path and that of everything below follow.
    let mut tx = s.begin().await?;
    tx.categories().lock_tree().await?;
    let before = tx.categories().get(b.id, Deleted::Hide).await?.ok_or("b")?;
    let subtree = tx.categories().subtree("a/b").await?;
    assert_eq!(subtree.iter().map(|c| c.path.as_str()).collect::<Vec<_>>(), ["a/b", "a/b/c"]);
    let touched = tx.products().ids_in_category(b.id, None, 100).await?;
    assert_eq!(touched, [q.id]);
    let mut moved = before.clone();
    moved.parent_id = Some(d.id);
    moved.path = "d/b".to_owned();
    moved.revision += 1;
    moved.audit.edited(now(), &Actor::system());
    tx.categories().update(&before, &moved).await?;
    tx.categories().rewrite_paths(&[(c.id, "d/b/c".to_owned())]).await?;
    tx.products().refresh_categories(&touched).await?;
    tx.commit().await?;
    check_listings(&s).await?;
    let found = s.connect().await?.products().get(q.id, Deleted::Hide).await?.ok_or("q")?;
    assert_eq!(found.revision, q.revision + 1);
    assert_eq!(found.categories[0].path, "d/b/c");

    let mut tx = s.begin().await?;
    tx.products().purge(&found).await?;
    tx.commit().await?;
    check_listings(&s).await?;
    let mut conn = s.connect().await?;
    assert_eq!(conn.products().get(q.id, Deleted::Include).await?, None);
    assert!(conn.inventory().imbalances().await?.is_empty());
    assert_eq!(conn.categories().usage(b.id).await?.all_children, 1);
    assert_eq!(conn.categories().usage(c.id).await?, CategoryUsage::default());
    Ok(())
}

#[tokio::test]
async fn stock_moves_availability_and_revision_together() -> TestResult {
    let (_dir, s) = file().await;
    let p = product("Pen", &[], 100, 2);
    write_products(&s, std::slice::from_ref(&p)).await?;
    let mut tx = s.begin().await?;
    let all: Vec<StockMovement> = p.skus.iter().map(|s| movement(s.id, -7)).collect();
    let touched = tx.inventory().apply(&all).await?;
    assert_eq!(touched, [TouchedProduct { product_id: p.id, revision: 2 }]);
    tx.commit().await?;
    let filter = |a| ProductFilter { availability: Some(a), ..ProductFilter::default() };
    let mut c = s.connect().await?;
    assert_eq!(c.products().count(&filter(AvailabilityStatus::Limited), 10).await?.count, 1);
    assert_eq!(c.products().count(&filter(AvailabilityStatus::InStock), 10).await?.count, 0);
    let page = c.inventory().movements(p.skus[0].id, &Paging::first(1)).await?;
    assert_eq!(page.items, vec![all[0].clone()]);
    let page = c.inventory().movements(p.skus[0].id, &Paging::Keyset { after: page.next, limit: 1 }).await?;
    assert_eq!((page.items[0].delta, page.next), (10, None));
    assert_eq!(c.inventory().count_movements(p.skus[0].id).await?, 2);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_database_in_memory_serves_sixteen_tasks() -> TestResult {
    let s = memory().await;
    let p = product("Pen", &[], 100, 1);
    write_products(&s, std::slice::from_ref(&p)).await?;
    let id = p.skus[0].id;
    let tasks: Vec<_> = (0..16)
        .map(|_| {
            let (s, p) = (s.clone(), p.id);
            tokio::spawn(async move {
                for _ in 0..20 {
                    add_one(&s, id).await?;
                    assert!(s.connect().await?.products().get(p, Deleted::Hide).await?.is_some());
                }
                Ok::<_, Error>(())
            })
        })
        .collect();
    for t in tasks {
        t.await??;
    }
    assert_eq!(s.connect().await?.inventory().levels(&[id]).await?[0].on_hand, 10 + 320);
    Ok(())
}

fn event(at: Timestamp) -> Event {
    Event {
        id: EventId(ids().next()),
        kind: EventKind::ProductCreated,
        aggregate_id: ids().next(),
        revision: 1,
        data: serde_json::json!({"a": [1]}),
        occurred_at: at,
        actor: Actor::system(),
    }
}

#[tokio::test]
async fn r13_the_outbox_keeps_its_order_its_end_and_its_leases() -> TestResult {
    let (_dir, s) = file().await;
    let clock = ManualClock::at_micros(1_700_000_000_000_000);
    let mut tx = s.begin().await?;
    assert_eq!(tx.outbox().head().await?, OutboxPosition::default());
    assert_eq!(tx.outbox().horizon().await?, OutboxPosition::default());
    let first = event(clock.now());
    clock.advance(Duration::from_secs(1));
    let second = event(clock.now());
    tx.outbox().append(&[first.clone(), second.clone()]).await?;
    let read = tx.outbox().read(OutboxPosition::default(), 10).await?;
    assert_eq!(read.iter().map(|(_, e)| e.clone()).collect::<Vec<_>>(), [first, second]);
    assert_eq!(tx.outbox().head().await?, read[1].0);
    assert_eq!(tx.outbox().trim(clock.now()).await?, 1);
    assert_eq!(tx.outbox().horizon().await?, read[0].0);
    clock.advance(Duration::from_secs(1));
    assert_eq!(tx.outbox().trim(clock.now()).await?, 1);
    assert_eq!(tx.outbox().head().await?, read[1].0);
    assert_eq!(tx.outbox().horizon().await?, read[1].0);

    let ttl = Duration::from_secs(10);
    let lease = tx.outbox().acquire("index", "a", clock.now(), ttl).await?.ok_or("free")?;
    assert_eq!((lease.fence, lease.position), (1, OutboxPosition::default()));
    assert_eq!(tx.outbox().acquire("index", "b", clock.now(), ttl).await?, None);
    assert_eq!(tx.outbox().acquire("index", "a", clock.now(), ttl).await?.ok_or("ours")?.fence, 1);
    assert!(tx.outbox().advance(&lease, read[1].0).await?);
    clock.advance(Duration::from_secs(11));
    let taken = tx.outbox().acquire("index", "b", clock.now(), ttl).await?.ok_or("expired")?;
    assert_eq!((taken.fence, taken.position), (2, read[1].0));
    assert!(!tx.outbox().advance(&lease, read[0].0).await?);
    tx.commit().await?;
    Ok(())
}

#[tokio::test]
async fn taken_slugs_are_the_base_and_its_numbers() -> TestResult {
    let (_dir, s) = file().await;
    let long = Slug::trusted("x".repeat(100));
    let slugs = ["pen", "pen-2", "pen-13", "pen-3g-case", "penny", "pe"].map(|s| Slug::trusted(s.to_owned()));
    let mut all: Vec<Product> = Vec::new();
    for slug in slugs.iter().chain([&long, &long.numbered(2)]) {
        let mut p = product("Pen", &[], 100, 0);
        p.slug = slug.clone();
        all.push(p);
    }
    write_products(&s, &all).await?;
    let mut c = s.connect().await?;
    let taken = c.products().taken_slugs(&[slugs[0].clone(), long.clone()]).await?;
    let second = long.numbered(2);
    let expected = ["pen", "pen-2", "pen-13", long.as_str(), second.as_str()];
    assert_eq!(taken, expected.iter().map(|s| (*s).to_owned()).collect());
    Ok(())
}

#[tokio::test]
async fn a_host_writes_inside_its_own_transaction() -> TestResult {
    use sqlx::Connection as _;
    let (dir, s) = file().await;
    let url = format!("sqlite://{}", dir.path().join("shop.db").display());
    let mut c = sqlx::SqliteConnection::connect(&url).await?;
    let p = product("Pen", &[], 100, 0);
    for keep in [false, true] {
        let mut tx = c.begin_with("BEGIN IMMEDIATE").await?;
        let mut ours = ecom_storage::SqlRepositories::on_sqlite(&mut tx, Currency::USD);
        ours.products().insert(std::slice::from_ref(&p)).await?;
        if keep {
            tx.commit().await?;
        } else {
            tx.rollback().await?;
        }
        assert_eq!(s.connect().await?.products().get(p.id, Deleted::Hide).await?.is_some(), keep);
    }
    Ok(())
}

#[tokio::test]
async fn a_url_without_its_feature_names_the_feature_and_no_secret() {
    let servers: [(&str, &str, bool); 2] = [
        ("postgres://u:hunter2@h/d", "`postgres`", cfg!(feature = "postgres")),
        ("mysql://u:hunter2@h/d", "`mysql`", cfg!(feature = "mysql")),
    ];
    for (url, word, built) in servers {
        match SqlStorage::open(url) {
            Ok(s) => assert!(built && !format!("{s:?}").contains("hunter2")),
            Err(e) => {
                let text = format!("{e} {e:?}");
                assert!(!built && text.contains(word) && !text.contains("hunter2"), "{text}");
            }
        }
    }
    assert_eq!(SqlStorage::open("redis://x").unwrap_err().code(), ErrorCode::Validation);
    assert_eq!(SqlStorage::open("sqlite://").unwrap_err().code(), ErrorCode::Validation);
}
