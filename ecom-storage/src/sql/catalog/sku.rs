//! SKUs.

use std::collections::HashSet;

use async_trait::async_trait;
use ecom_core::catalog::{Dimensions, Sku};
use ecom_core::common::Deleted;
use ecom_core::id::{ProductId, SkuId};
use ecom_core::money::{Currency, Measure, Money};
use ecom_core::port::SkuRepository;
use ecom_core::stock::StockMovement;
use ecom_core::text::{Slug, fold_key};
use ecom_core::{Conflict, Entity, Error, Result};
use uuid::Uuid;

use crate::sql::catalog::category::{bind_audit, bind_external, colliding, moved_on, read_audit, read_external};
use crate::sql::catalog::product::bounded;
use crate::sql::engine::builder::{Builder, MAX_LIST, insert_rows, taken};
use crate::sql::engine::dialect::Sql;
use crate::sql::engine::error::{DbError, Kind};
use crate::sql::engine::executor::Text;
use crate::sql::engine::unit_of_work::SqlRepository;
use crate::sql::engine::value::{Row, Value};
use crate::sql::stock::inventory::insert_movements;

macro_rules! columns {
    () => {
        "id, product_id, position, code, option_values, attributes, price, weight, width, height, depth, on_hand, \
         reserved, low_stock_threshold, barcode, source, external_id, created_at, updated_at, created_by, updated_by, \
         version, deleted_at"
    };
}

static GET: Sql = Sql::new(concat!("SELECT ", columns!(), " FROM skus WHERE id = $1"));
static GET_BY_CODE: Sql =
    Sql::new(concat!("SELECT ", columns!(), " FROM skus WHERE code_key = $1 AND deleted_at IS NULL"));
static BY_BARCODE: Sql = Sql::new(concat!(
    "SELECT ",
    columns!(),
    " FROM skus WHERE barcode = $1 AND deleted_at IS NULL ORDER BY id LIMIT 100"
));
static OF_PRODUCT: Sql =
    Sql::new(concat!("SELECT ", columns!(), " FROM skus WHERE product_id = $1 ORDER BY position, id"));
static LIVE_OF_PRODUCT: Sql = Sql::new(concat!(
    "SELECT ",
    columns!(),
    " FROM skus WHERE product_id = $1 AND deleted_at IS NULL ORDER BY position, id"
));
static UPDATE: Sql = Sql::new(
    "UPDATE skus SET position = $3, code = $4, code_key = $5, option_values = $6, attributes = $7, price = $8, \
     weight = $9, width = $10, height = $11, depth = $12, low_stock_threshold = $13, barcode = $14, source = $15, \
     external_id = $16, updated_at = $17, updated_by = $18, version = $19, deleted_at = $20 \
     WHERE id = $1 AND version = $2",
);
static VERSION: Sql = Sql::new("SELECT version FROM skus WHERE id = $1");
static DELETE_MOVEMENTS: Sql = Sql::new("DELETE FROM stock_movements WHERE sku_id = $1");
static DELETE: Sql = Sql::new("DELETE FROM skus WHERE id = $1");

/// Reads a SKU whose columns start at `at`.
pub fn read(r: &Row, at: usize, currency: Currency) -> Result<Sku> {
    let measure = |i: usize| r.opt_i64(at + i)?.map(|n| bounded(Measure::from_hundredths(n))).transpose();
    let dimensions = match (measure(8)?, measure(9)?, measure(10)?) {
        (Some(width), Some(height), Some(depth)) => Some(Dimensions { width, height, depth }),
        _ => None,
    };
    Ok(Sku {
        id: SkuId(r.uuid(at)?),
        product_id: ProductId(r.uuid(at + 1)?),
        position: r.i32(at + 2)?,
        code: r.string(at + 3)?,
        option_values: r.json(at + 4)?,
        attributes: r.json(at + 5)?,
        price: Money::from_minor(r.i64(at + 6)?, currency),
        weight: measure(7)?,
        dimensions,
        on_hand: r.i64(at + 11)?,
        reserved: r.i64(at + 12)?,
        low_stock_threshold: r.i64(at + 13)?,
        barcode: r.opt_string(at + 14)?,
        external: read_external(r, at + 15)?,
        audit: read_audit(r, at + 17)?,
    })
}

/// A delete that a foreign key refuses: an order line refers to it (R5).
pub fn or_has_sales(e: DbError, entity: Entity, id: Uuid) -> Error {
    if e.kind == Kind::ForeignKey { Conflict::HasSales { entity, id }.into() } else { e.into() }
}

/// Position to depth.
fn bind_values<'q>(s: &'q Sku, to: &mut Vec<Value<'q>>) -> Result<()> {
    let dimension = |f: fn(&Dimensions) -> Measure| s.dimensions.as_ref().map(|d| f(d).hundredths());
    to.extend([
        s.position.into(),
        Value::from(&s.code),
        fold_key(&s.code).into(),
        Value::json(&s.option_values)?,
        Value::json(&s.attributes)?,
        s.price.minor().into(),
        s.weight.map(Measure::hundredths).into(),
        dimension(|d| d.width).into(),
        dimension(|d| d.height).into(),
        dimension(|d| d.depth).into(),
    ]);
    Ok(())
}

fn unique_value(s: &Sku, field: &str) -> Option<String> {
    match field {
        "code" => Some(s.code.clone()),
        "external_id" => s.external.as_ref().map(|e| e.external_id.clone()),
        _ => None,
    }
}

/// The SKUs of a SQL database.
pub type SqlSkus<'c> = SqlRepository<'c, dyn SkuRepository>;

impl SqlSkus<'_> {
    async fn many(&mut self, text: impl Into<Text> + Send, args: Vec<Value<'_>>) -> Result<Vec<Sku>> {
        let currency = self.0.currency();
        self.0.fetch_all(text, args).await?.iter().map(|r| read(r, 0, currency)).collect()
    }
}

#[async_trait]
impl SkuRepository for SqlSkus<'_> {
    async fn get(&mut self, id: SkuId, deleted: Deleted) -> Result<Option<Sku>> {
        let sku = self.many(&GET, vec![id.into()]).await?.pop();
        Ok(sku.filter(|s| deleted == Deleted::Include || s.audit.is_live()))
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

    async fn of_product(&mut self, product: ProductId, deleted: Deleted) -> Result<Vec<Sku>> {
        let sql = if deleted == Deleted::Include { &OF_PRODUCT } else { &LIVE_OF_PRODUCT };
        self.many(sql, vec![product.into()]).await
    }

    async fn insert(&mut self, skus: &[Sku], opening: &[StockMovement]) -> Result<()> {
        let head = "INSERT INTO skus (id, product_id, position, code, code_key, option_values, attributes, price, \
                    weight, width, height, depth, on_hand, reserved, low_stock_threshold, barcode, source, \
                    external_id, created_at, updated_at, created_by, updated_by, version, deleted_at)";
        insert_rows(&mut self.0, head, 24, skus, |s, to| {
            to.extend([s.id.into(), s.product_id.into()]);
            bind_values(s, to)?;
            to.extend([s.on_hand.into(), s.reserved.into(), s.low_stock_threshold.into(), s.barcode.as_deref().into()]);
            bind_external(s.external.as_ref(), to);
            bind_audit(&s.audit, to);
            Ok(())
        })
        .await?
        .map_err(|e| match e.kind {
            Kind::ForeignKey => e.or_reference("product_id", || {
                skus.iter().take(5).map(|s| s.product_id.to_string()).collect::<Vec<_>>().join("`, `")
            }),
            _ => e.or_duplicate(|field| colliding(skus, |s| unique_value(s, field))),
        })?;
        insert_movements(&mut self.0, opening).await
    }

    async fn update(&mut self, before: &Sku, after: &Sku) -> Result<()> {
        let mut args = vec![before.id.into(), before.audit.version.into()];
        bind_values(after, &mut args)?;
        args.extend([after.low_stock_threshold.into(), after.barcode.as_deref().into()]);
        bind_external(after.external.as_ref(), &mut args);
        args.extend([
            after.audit.updated_at.into(),
            after.audit.updated_by.as_str().into(),
            after.audit.version.into(),
            after.audit.deleted_at.into(),
        ]);
        let changed =
            self.0.execute(&UPDATE, args).await.map_err(|e| e.or_duplicate(|field| unique_value(after, field)))?;
        if changed == 0 {
            return Err(moved_on(&mut self.0, &VERSION, Entity::Sku, before.id.0, before.audit.version).await?);
        }
        Ok(())
    }

    async fn purge(&mut self, id: SkuId) -> Result<()> {
        self.0.execute(&DELETE_MOVEMENTS, vec![id.into()]).await?;
        self.0.execute(&DELETE, vec![id.into()]).await.map_err(|e| or_has_sales(e, Entity::Sku, id.0))?;
        Ok(())
    }
}
