//! SKUs.

use std::collections::HashSet;

use async_trait::async_trait;
use ecom_core::catalog::{Dimensions, Sku};
use ecom_core::common::IncludeDeleted;
use ecom_core::id::{ProductId, SkuId};
use ecom_core::money::{Currency, Measure, Money};
use ecom_core::port::SkuRepository;
use ecom_core::stock::StockMovement;
use ecom_core::text::{Slug, fold_key};
use ecom_core::{Entity, Result};

use crate::sql::engine::builder::{Builder, MAX_LIST, taken};
use crate::sql::engine::columns::{Column, Table, Unique, Versioned, read_audit, read_external};
use crate::sql::engine::dialect::Sql;
use crate::sql::engine::executor::Text;
use crate::sql::engine::repository::SqlRepository;
use crate::sql::engine::value::{Row, Value, bounded};
use crate::sql::stock::inventory::MOVEMENTS;

/// The columns of SKUs.
pub static SKUS: Table<Sku> = Table {
    name: "skus",
    entity: Entity::Sku,
    columns: &[
        Column::fixed("id", |s| s.id.into()),
        Column::fixed("product_id", |s| s.product_id.into()),
        Column::field("position", |s| s.position.into()),
        Column::field("code", |s| Value::from(&s.code)),
        Column::derived("code_key", |s| fold_key(&s.code).into()),
        Column::json("option_values", |s| Value::json(&s.option_values)),
        Column::json("attributes", |s| Value::json(&s.attributes)),
        Column::field("price", |s| s.price.minor().into()),
        Column::field("weight", |s| s.weight.map(Measure::hundredths).into()),
        Column::field("width", |s| s.dimensions.as_ref().map(|d| d.width.hundredths()).into()),
        Column::field("height", |s| s.dimensions.as_ref().map(|d| d.height.hundredths()).into()),
        Column::field("depth", |s| s.dimensions.as_ref().map(|d| d.depth.hundredths()).into()),
        // Movements change it.
        Column::fixed("on_hand", |s| s.on_hand.into()),
        Column::fixed("reserved", |s| s.reserved.into()),
        Column::field("track_stock", |s| i32::from(s.track_stock).into()),
        Column::field("low_stock_threshold", |s| s.low_stock_threshold.into()),
        Column::field("barcode", |s| s.barcode.as_deref().into()),
        Column::External(|s| &s.external),
        Column::Audit(|s| &s.audit),
    ],
    unique: &[
        Unique { index: "skus_code_live", columns: &["code_key"], field: "code", value: |s| Some(s.code.clone()) },
        Unique {
            index: "skus_external_live",
            columns: &["source", "external_id"],
            field: "external_id",
            value: |s| s.external.as_ref().map(|e| e.external_id.clone()),
        },
    ],
    parent: Some(("product_id", |s| Some(s.product_id.0))),
};

static WRITES: Versioned<Sku> = Versioned::new(&SKUS);
static GET: Sql = Sql::of(&SKUS, "SELECT {*} FROM skus WHERE id = $1");
static GET_BY_CODE: Sql = Sql::of(&SKUS, "SELECT {*} FROM skus WHERE code_key = $1 AND deleted_at IS NULL");
static BY_BARCODE: Sql =
    Sql::of(&SKUS, "SELECT {*} FROM skus WHERE barcode = $1 AND deleted_at IS NULL ORDER BY id LIMIT 100");
static OF_PRODUCT: Sql = Sql::of(&SKUS, "SELECT {*} FROM skus WHERE product_id = $1 ORDER BY position, id");
static LIVE_OF_PRODUCT: Sql =
    Sql::of(&SKUS, "SELECT {*} FROM skus WHERE product_id = $1 AND deleted_at IS NULL ORDER BY position, id");
static DELETED_OF: Sql = Sql::of(&SKUS, "SELECT {*} FROM skus WHERE deleted_at IS NOT NULL AND product_id IN ");
static DELETE_MOVEMENTS: Sql = Sql::new("DELETE FROM stock_movements WHERE sku_id = $1");
static DELETE_CART_LINES: Sql = Sql::new("DELETE FROM cart_lines WHERE sku_id = $1");
static DELETE: Sql = Sql::new("DELETE FROM skus WHERE id = $1");

/// Reads a SKU whose columns start at `at`.
pub fn read(r: &Row, at: usize, currency: Currency) -> Result<Sku> {
    let measure = |column: usize| r.opt_i64(at + column)?.map(|n| bounded(Measure::from_hundredths(n))).transpose();
    let dimensions = match (
        measure(const { SKUS.at("width") })?,
        measure(const { SKUS.at("height") })?,
        measure(const { SKUS.at("depth") })?,
    ) {
        (Some(width), Some(height), Some(depth)) => Some(Dimensions { width, height, depth }),
        _ => None,
    };
    Ok(Sku {
        id: SkuId(r.uuid(at + const { SKUS.at("id") })?),
        product_id: ProductId(r.uuid(at + const { SKUS.at("product_id") })?),
        position: r.i32(at + const { SKUS.at("position") })?,
        code: r.string(at + const { SKUS.at("code") })?,
        option_values: r.json(at + const { SKUS.at("option_values") })?,
        attributes: r.json(at + const { SKUS.at("attributes") })?,
        price: Money::from_minor(r.i64(at + const { SKUS.at("price") })?, currency),
        weight: measure(const { SKUS.at("weight") })?,
        dimensions,
        on_hand: r.i64(at + const { SKUS.at("on_hand") })?,
        reserved: r.i64(at + const { SKUS.at("reserved") })?,
        track_stock: r.i32(at + const { SKUS.at("track_stock") })? != 0,
        low_stock_threshold: r.i64(at + const { SKUS.at("low_stock_threshold") })?,
        barcode: r.opt_string(at + const { SKUS.at("barcode") })?,
        external: read_external(r, at + const { SKUS.at("source") })?,
        audit: read_audit(r, at + const { SKUS.at("created_at") })?,
    })
}

/// The SKUs of a SQL database.
pub type SqlSkus<'c> = SqlRepository<'c, dyn SkuRepository>;

impl SqlSkus<'_> {
    async fn many(&mut self, text: impl Into<Text> + Send, args: Vec<Value<'_>>) -> Result<Vec<Sku>> {
        let currency = self.0.currency()?;
        self.0.fetch_all(text, args).await?.iter().map(|r| read(r, 0, currency)).collect()
    }
}

#[async_trait]
impl SkuRepository for SqlSkus<'_> {
    async fn get(&mut self, id: SkuId, deleted: IncludeDeleted) -> Result<Option<Sku>> {
        let sku = self.many(&GET, vec![id.into()]).await?.pop();
        Ok(sku.filter(|s| deleted == IncludeDeleted::Yes || s.audit.is_live()))
    }

    async fn get_by_code(&mut self, code: &str) -> Result<Option<Sku>> {
        Ok(self.many(&GET_BY_CODE, vec![fold_key(code).into()]).await?.pop())
    }

    async fn find_by_barcode(&mut self, barcode: &str) -> Result<Vec<Sku>> {
        self.many(&BY_BARCODE, vec![barcode.into()]).await
    }

    async fn find_by_codes(&mut self, codes: &[String]) -> Result<Vec<(String, SkuId, ProductId)>> {
        let mut out = Vec::with_capacity(codes.len());
        for chunk in codes.chunks(MAX_LIST) {
            let mut b =
                Builder::new("SELECT code_key, id, product_id FROM skus WHERE deleted_at IS NULL AND code_key IN ");
            b.list(&chunk.iter().map(|c| fold_key(c)).collect::<Vec<_>>()).push(" ORDER BY code_key");
            let (text, args) = b.done();
            for r in self.0.fetch_all(text, args).await? {
                out.push((r.string(0)?, SkuId(r.uuid(1)?), ProductId(r.uuid(2)?)));
            }
        }
        Ok(out)
    }

    async fn taken_codes(&mut self, bases: &[Slug]) -> Result<HashSet<String>> {
        taken(&mut self.0, "skus", "code_key", bases).await
    }

    async fn of_product(&mut self, product: ProductId, deleted: IncludeDeleted) -> Result<Vec<Sku>> {
        let sql = if deleted == IncludeDeleted::Yes { &OF_PRODUCT } else { &LIVE_OF_PRODUCT };
        self.many(sql, vec![product.into()]).await
    }

    async fn deleted_of(&mut self, products: &[ProductId]) -> Result<Vec<Sku>> {
        let mut skus = Vec::new();
        for chunk in products.chunks(MAX_LIST) {
            let mut b = Builder::on(&DELETED_OF, self.0.dialect());
            b.list(chunk);
            let (text, args) = b.done();
            skus.extend(self.many(text, args).await?);
        }
        Ok(skus)
    }

    async fn insert(&mut self, skus: &[Sku], opening: &[StockMovement]) -> Result<()> {
        SKUS.insert(&mut self.0, skus).await?;
        MOVEMENTS.insert(&mut self.0, opening).await
    }

    async fn update(&mut self, before: &Sku, after: &Sku) -> Result<()> {
        WRITES.update(&mut self.0, before, after).await
    }

    async fn purge(&mut self, id: SkuId) -> Result<()> {
        for sql in [&DELETE_MOVEMENTS, &DELETE_CART_LINES] {
            self.0.execute(sql, vec![id.into()]).await?;
        }
        self.0.execute(&DELETE, vec![id.into()]).await.map_err(|e| e.or_has_sales(Entity::Sku, id.0))?;
        Ok(())
    }
}
