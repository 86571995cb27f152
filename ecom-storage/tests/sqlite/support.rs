//! Databases, products and categories that the tests of SQLite share.

use std::collections::BTreeMap;
use std::sync::Arc;

use ecom_core::catalog::{Category, CategorySummary, Image, Product, ProductStatus, RatingSummary, Sku};
use ecom_core::clock::{Clock as _, SystemClock, Timestamp};
use ecom_core::common::{Actor, Attributes, Audit};
use ecom_core::id::*;
use ecom_core::money::{Currency, Money, Percentage, Rating};
use ecom_core::port::*;
use ecom_core::stock::{StockMovement, StockReason};
use ecom_core::text::Slug;
use ecom_storage::{SqlStorage, SqliteOptions};

pub type TestResult = Result<(), Box<dyn std::error::Error>>;

pub fn ids() -> &'static UuidV7Source {
    static IDS: std::sync::OnceLock<UuidV7Source> = std::sync::OnceLock::new();
    IDS.get_or_init(|| UuidV7Source::new(Arc::new(SystemClock)))
}

pub fn now() -> Timestamp {
    SystemClock.now()
}

pub fn category(name: &str, parent: Option<&Category>) -> Category {
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

pub fn sku(product: ProductId, position: i32, code: &str, cents: i64, stock: i64) -> Sku {
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
        track_stock: true,
        low_stock_threshold: 5,
        barcode: None,
        external: None,
        audit: Audit::created(now(), &Actor::system()),
    }
}

fn opening(s: &Sku) -> StockMovement {
    movement(s.id, s.on_hand)
}

pub fn movement(sku_id: SkuId, delta: i64) -> StockMovement {
    StockMovement {
        id: StockMovementId(ids().next()),
        sku_id,
        delta,
        reason: StockReason::Adjustment,
        reference: None,
        order_line_id: None,
        created_at: now(),
        created_by: Actor::system(),
    }
}

pub fn product(title: &str, categories: &[&Category], cents: i64, skus: i32) -> Product {
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
        images: vec![Image { url: "/a.png".to_owned(), alt: None, primary: true, width: None, height: None }],
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

pub async fn write_products(s: &SqlStorage, products: &[Product]) -> ecom_core::Result<()> {
    let mut tx = s.begin().await?;
    tx.products().insert(products).await?;
    let skus: Vec<Sku> = products.iter().flat_map(|p| p.skus.clone()).collect();
    let opening: Vec<StockMovement> = skus.iter().filter(|s| s.on_hand != 0).map(opening).collect();
    tx.skus().insert(&skus, &opening).await?;
    tx.commit().await
}

pub async fn write_categories(s: &SqlStorage, categories: &[Category]) -> ecom_core::Result<()> {
    let mut tx = s.begin().await?;
    tx.categories().insert(categories).await?;
    tx.commit().await
}

/// Creates a database in a directory that lasts as long as the first value.
pub async fn file() -> (tempfile::TempDir, SqlStorage) {
    let dir = tempfile::tempdir().unwrap();
    let s = at(&dir);
    s.migrate(Currency::USD).await.unwrap();
    (dir, s)
}

pub fn at(dir: &tempfile::TempDir) -> SqlStorage {
    SqlStorage::sqlite(SqliteOptions::file(dir.path().join("shop.db"))).unwrap()
}

pub async fn memory() -> SqlStorage {
    let s = SqlStorage::open("sqlite::memory:").unwrap();
    s.migrate(Currency::USD).await.unwrap();
    s
}

/// Runs statements on the file that bypass the library.
pub async fn raw(dir: &tempfile::TempDir, sql: &'static str) -> TestResult {
    use sqlx::Connection as _;
    let url = format!("sqlite://{}", dir.path().join("shop.db").display());
    let mut c = sqlx::SqliteConnection::connect(&url).await?;
    sqlx::query(sql).execute(&mut c).await?;
    c.close().await?;
    Ok(())
}

/// Returns two columns of text of a statement that bypasses the library.
pub async fn rows(dir: &tempfile::TempDir, sql: &'static str) -> Result<Vec<(String, String)>, sqlx::Error> {
    use sqlx::Connection as _;
    let url = format!("sqlite://{}", dir.path().join("shop.db").display());
    let mut c = sqlx::SqliteConnection::connect(&url).await?;
    sqlx::query_as(sql).fetch_all(&mut c).await
}

/// Adds one piece to the stock of a SKU, as a service would.
pub async fn add_one(s: &SqlStorage, id: SkuId) -> ecom_core::Result<()> {
    let mut tx = s.begin().await?;
    let levels = tx.inventory().lock(&[id]).await?;
    assert!(levels[0].live);
    tx.inventory().apply(&[movement(id, 1)]).await?;
    tx.commit().await
}
