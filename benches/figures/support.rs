//! A shop to measure, and the comparison of two rates.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ecom::adapters::{MemoryCache, MemoryCacheOptions, SqlStorage, SqliteOptions, TantivyOptions, TantivySearch};
use ecom::catalog::{CategoryInput, ProductInput, SkuInput};
use ecom::common::IncludeDeleted;
use ecom::id::{CategoryId, ProductId};
use ecom::money::{Currency, Money};
use ecom::port::{Cache, Storage};
use ecom::{Shop, ShopParts};

pub struct Bench {
    pub shop: Shop,
    pub storage: Arc<SqlStorage>,
    pub products: Vec<ProductId>,
    pub category: CategoryId,
    pub dir: tempfile::TempDir,
}

/// Creates a shop on a file with `n` products of two SKUs each, in 20 categories, each a leaf of three levels.
pub async fn shop(n: usize) -> Bench {
    let dir = tempfile::tempdir().expect("a folder");
    let storage = SqlStorage::sqlite(SqliteOptions::file(dir.path().join("shop.db"))).expect("a database");
    shop_on(storage, Arc::new(MemoryCache::new(MemoryCacheOptions::default())), n, dir).await
}

/// As [`shop`], on a new database and a new cache.
pub async fn shop_on(storage: SqlStorage, cache: Arc<dyn Cache>, n: usize, dir: tempfile::TempDir) -> Bench {
    shop_of(storage, cache, TantivyOptions::memory(), n, dir, input).await
}

/// As [`shop_on`], with an index of these options and products of another kind.
pub async fn shop_of(
    storage: SqlStorage,
    cache: Arc<dyn Cache>,
    index: TantivyOptions,
    n: usize,
    dir: tempfile::TempDir,
    input: impl Fn(usize, CategoryId) -> ProductInput,
) -> Bench {
    let storage = Arc::new(storage);
    storage.migrate(Currency::USD).await.expect("a schema");
    let search = TantivySearch::open(index).await.expect("an index");
    let mut parts = ShopParts::new(storage.clone(), Arc::new(search));
    parts.cache = cache;
    // Tasks edit the same rows at once.
    parts.config.last_write_wins = true;
    let shop = Shop::new(parts).expect("a shop");
    let mut leaves = Vec::new();
    let root = category(&shop, "Everything", None).await;
    for i in 0..4 {
        let mid = category(&shop, &format!("Department {i}"), Some(root)).await;
        for j in 0..5 {
            leaves.push(category(&shop, &format!("Shelf {i} {j}"), Some(mid)).await);
        }
    }
    let mut products = Vec::with_capacity(n);
    let start = Instant::now();
    for chunk in (0..n).collect::<Vec<_>>().chunks(500) {
        let inputs: Vec<ProductInput> = chunk.iter().map(|i| input(*i, leaves[i % leaves.len()])).collect();
        let mut tx = shop.begin().await.expect("a transaction");
        let made = shop.products().create_many_in(&mut tx, &inputs).await.expect("products");
        tx.commit().await.expect("a commit").run().await;
        products.extend(made.iter().map(|p| p.id));
    }
    println!("  ({n} products made in {:.1?})", start.elapsed());
    Bench { shop, storage, products, category: leaves[7], dir }
}

async fn category(shop: &Shop, name: &str, parent: Option<CategoryId>) -> CategoryId {
    let input =
        CategoryInput { name: name.to_owned(), parent_id: parent.map(|p| p.to_string()), ..CategoryInput::default() };
    shop.categories().create(&input).await.expect("a category").id
}

/// Returns a product whose title differs from those of others by its number alone.
pub fn input(i: usize, category: CategoryId) -> ProductInput {
    // The values are spread without a random source, so that every run measures the same.
    let spread = i.wrapping_mul(2_654_435_761) % 100_000;
    let sku = |size: &str| SkuInput {
        code: Some(format!("B-{i}-{size}")),
        option_values: [("size".to_owned(), size.to_owned())].into(),
        price: Some(format!("{}.{:02}", 5 + spread / 100, spread % 100).parse().expect("a price")),
        stock: Some(1_000_000),
        ..SkuInput::default()
    };
    ProductInput {
        title: format!("Measured product {i}"),
        description: Some(
            "A product that stands for the usual ones: two sentences of text. This is the second.".into(),
        ),
        brand: Some(format!("Brand {}", i % 50)),
        categories: Some(vec![category.to_string()]),
        tags: vec![format!("tag-{}", i % 30), "measured".into()],
        discount_percentage: Some("10".parse().expect("a percentage")),
        skus: Some(vec![sku("M"), sku("L")]),
        ..ProductInput::default()
    }
}

/// Makes `each` calls from each of `n` tasks, over all products.
pub async fn tasks<F: Future<Output = ()> + Send + 'static>(
    b: &Bench,
    n: usize,
    each: usize,
    call: fn(Shop, ProductId) -> F,
) {
    let mut set = tokio::task::JoinSet::new();
    for t in 0..n {
        let (shop, ids) = (b.shop.clone(), b.products.clone());
        set.spawn(async move {
            for i in 0..each {
                call(shop.clone(), ids[(i + t * 97) % ids.len()]).await;
            }
        });
    }
    set.join_all().await;
}

/// Reads a product from the database, without the cache.
pub async fn fresh(shop: Shop, id: ProductId) {
    black_box(shop.products().get_fresh(id, IncludeDeleted::No).await.expect("a product"));
}

static ONCE: AtomicBool = AtomicBool::new(false);

/// Measures each pair once from now on, whatever its number of rounds is.
pub fn measure_once() {
    ONCE.store(true, Ordering::Relaxed);
}

/// Returns how often a pair is measured that asks for `rounds`.
pub fn rounds(rounds: usize) -> usize {
    if ONCE.load(Ordering::Relaxed) { 1 } else { rounds }
}

/// Measures `a` and `b` in turn, `rounds` times. Prints the median rate of each, and the median of the ratios.
pub async fn pair(
    what: &str,
    wanted: &str,
    rounds: usize,
    mut a: impl AsyncFnMut() -> (u64, Duration),
    mut b: impl AsyncFnMut() -> (u64, Duration),
) {
    let rate = |(n, t): (u64, Duration)| n as f64 / t.as_secs_f64();
    a().await;
    b().await;
    let (mut ra, mut rb, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..self::rounds(rounds) {
        let (x, y) = (rate(a().await), rate(b().await));
        ra.push(x);
        rb.push(y);
        ratios.push(x / y);
    }
    println!(
        "{what}: {:.0}/s against {:.0}/s, ratio {:.2} (from {:.2} to {:.2}); wanted {wanted}",
        median(&mut ra),
        median(&mut rb),
        median(&mut ratios),
        ratios[0],
        ratios[ratios.len() - 1],
    );
}

pub fn median(v: &mut [f64]) -> f64 {
    v.sort_by(f64::total_cmp);
    v[v.len() / 2]
}

/// Returns an amount of US dollars, from cents.
pub fn usd(cents: i64) -> Money {
    Money::from_minor(cents, Currency::USD)
}
