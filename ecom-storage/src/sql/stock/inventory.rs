//! Stock and its ledger. Each statement works on a whole batch.

use std::collections::{BTreeMap, HashMap};

use async_trait::async_trait;
use ecom_core::common::Actor;
use ecom_core::id::{OrderLineId, ProductId, SkuId, StockMovementId};
use ecom_core::paging::{Keyset, Page, Paging, SortKey};
use ecom_core::platform::LedgerSum;
use ecom_core::port::{InventoryRepository, TouchedProduct};
use ecom_core::stock::{Shortage, StockConflict};
use ecom_core::stock::{StockImbalance, StockLevel, StockMovement};
use ecom_core::{Entity, Error, Result};

use crate::sql::engine::builder::{Builder, MAX_LIST, bad_cursor, case_size, page};
use crate::sql::engine::columns::{Column, Table};
use crate::sql::engine::dialect::Sql;
use crate::sql::engine::repository::SqlRepository;
use crate::sql::engine::value::{Row, Value};

/// The columns of the ledger.
pub static MOVEMENTS: Table<StockMovement> = Table {
    name: "stock_movements",
    entity: Entity::StockMovement,
    columns: &[
        Column::fixed("id", |m| m.id.into()),
        Column::fixed("sku_id", |m| m.sku_id.into()),
        Column::fixed("delta", |m| m.delta.into()),
        Column::fixed("reason", |m| m.reason.into()),
        Column::fixed("reference", |m| m.reference.as_deref().into()),
        Column::fixed("order_line_id", |m| m.order_line_id.into()),
        Column::fixed("created_at", |m| m.created_at.into()),
        Column::fixed("created_by", |m| m.created_by.as_str().into()),
    ],
    unique: &[],
    parent: Some(("sku_id", |m| Some(m.sku_id.0))),
};

/// The columns of a SKU that are its stock level.
static LEVELS: Table<StockLevel> = Table {
    name: "skus",
    entity: Entity::Sku,
    columns: &[
        Column::kept("id"),
        Column::kept("product_id"),
        Column::kept("on_hand"),
        Column::kept("reserved"),
        Column::kept("track_stock"),
        Column::kept("low_stock_threshold"),
        Column::kept("deleted_at"),
    ],
    unique: &[],
    parent: None,
};
// Not a join, which would lock products too, in no particular order.
static LEVELS_OF: Sql = Sql::over(
    &[("s", &LEVELS)],
    "SELECT {s.*}, (SELECT p.deleted_at FROM products p WHERE p.id = s.product_id) FROM skus s WHERE s.id IN ",
);
/// The position of the column after [`LEVELS`] in [`LEVELS_OF`].
const PRODUCT_DELETED_AT: usize = LEVELS.width();
static MOVEMENTS_OF: Sql = Sql::of(&MOVEMENTS, "SELECT {*} FROM stock_movements WHERE sku_id = ");
static COUNT: Sql = Sql::new("SELECT COUNT(*) FROM stock_movements WHERE sku_id = $1");
// A subselect that finds the line by its id. With EXISTS, PostgreSQL may read all lines of a SKU for each movement.
static LEDGERS: Sql = Sql::new(
    "SELECT s.id, s.on_hand, \
     (SELECT CAST(coalesce(SUM(m.delta), 0) AS {bigint}) FROM stock_movements m WHERE m.sku_id = s.id), \
     (SELECT COUNT(*) FROM stock_movements m WHERE m.sku_id = s.id AND m.order_line_id IS NOT NULL \
      AND NOT coalesce((SELECT l.sku_id FROM order_lines l WHERE l.id = m.order_line_id) = s.id, FALSE)) \
     FROM skus s WHERE s.id > $1 ORDER BY s.id LIMIT $2",
);
static IMBALANCES: Sql = Sql::new(
    "SELECT s.id, s.on_hand, CAST(coalesce(SUM(m.delta), 0) AS {bigint}) FROM skus s \
     LEFT JOIN stock_movements m ON m.sku_id = s.id GROUP BY s.id, s.on_hand \
     HAVING s.on_hand <> coalesce(SUM(m.delta), 0) ORDER BY s.id",
);

/// The stock of a SQL database.
pub type SqlInventory<'c> = SqlRepository<'c, dyn InventoryRepository>;

/// The best availability over the SKUs that a product shows: the live ones or, if it is soft-deleted, those that were
/// deleted with it, whose stock a canceled order restores. A SKU that does not track its stock is in stock.
const AVAILABILITY: &str = "(SELECT coalesce(MAX(CASE WHEN s.track_stock = 0 THEN 2 \
     WHEN s.on_hand - s.reserved <= 0 THEN 0 WHEN s.on_hand - s.reserved <= s.low_stock_threshold THEN 1 ELSE 2 END), 0) \
     FROM skus s WHERE s.product_id = products.id \
     AND (s.deleted_at = products.deleted_at OR (s.deleted_at IS NULL AND products.deleted_at IS NULL)))";

fn read_movement(r: &Row) -> Result<StockMovement> {
    Ok(StockMovement {
        id: StockMovementId(r.uuid(const { MOVEMENTS.at("id") })?),
        sku_id: SkuId(r.uuid(const { MOVEMENTS.at("sku_id") })?),
        delta: r.i64(const { MOVEMENTS.at("delta") })?,
        reason: r.stored(const { MOVEMENTS.at("reason") })?,
        reference: r.opt_string(const { MOVEMENTS.at("reference") })?,
        order_line_id: r.opt_uuid(const { MOVEMENTS.at("order_line_id") })?.map(OrderLineId),
        created_at: r.time(const { MOVEMENTS.at("created_at") })?,
        created_by: Actor::new(r.text(const { MOVEMENTS.at("created_by") })?),
    })
}

fn read_level(r: &Row) -> Result<StockLevel> {
    let sku_is_live = r.opt_time(const { LEVELS.at("deleted_at") })?.is_none();
    Ok(StockLevel {
        sku_id: SkuId(r.uuid(const { LEVELS.at("id") })?),
        product_id: ProductId(r.uuid(const { LEVELS.at("product_id") })?),
        on_hand: r.i64(const { LEVELS.at("on_hand") })?,
        reserved: r.i64(const { LEVELS.at("reserved") })?,
        tracked: r.i32(const { LEVELS.at("track_stock") })? != 0,
        low_stock_threshold: r.i64(const { LEVELS.at("low_stock_threshold") })?,
        live: sku_is_live && r.opt_time(PRODUCT_DELETED_AT)?.is_none(),
    })
}

impl SqlInventory<'_> {
    async fn read_levels(&mut self, ids: &[SkuId], lock: bool) -> Result<Vec<StockLevel>> {
        let mut sorted = ids.to_vec();
        sorted.sort_unstable();
        sorted.dedup();
        let mut out = Vec::with_capacity(sorted.len());
        for chunk in sorted.chunks(MAX_LIST) {
            let mut b = Builder::on(&LEVELS_OF, self.0.dialect());
            b.list(chunk).push(" ORDER BY s.id");
            if lock {
                b.push(self.0.dialect().for_update);
            }
            let (text, args) = b.done();
            for r in self.0.fetch_all(text, args).await? {
                out.push(read_level(&r)?);
            }
        }
        Ok(out)
    }

    /// Returns the error with the SKUs whose stock `deltas` would make negative.
    async fn shortages(&mut self, deltas: &[(SkuId, i64)]) -> Result<Error> {
        let ids: Vec<SkuId> = deltas.iter().map(|(id, _)| *id).collect();
        let levels = if self.0.dialect().survives_errors { self.read_levels(&ids, false).await? } else { Vec::new() };
        let shortages = deltas
            .iter()
            .filter(|(_, delta)| *delta < 0)
            .filter_map(|(id, delta)| {
                let level = levels.iter().find(|l| l.sku_id == *id);
                if level.is_some_and(|l| l.on_hand + delta >= 0) {
                    return None;
                }
                let available = level.map_or(0, |l| l.available().max(0));
                Some(Shortage { sku_id: id.0, requested: -delta, available })
            })
            .collect();
        Ok(StockConflict::Insufficient { shortages }.into())
    }
}

#[async_trait]
impl InventoryRepository for SqlInventory<'_> {
    async fn levels(&mut self, ids: &[SkuId]) -> Result<Vec<StockLevel>> {
        self.read_levels(ids, false).await
    }

    async fn lock(&mut self, ids: &[SkuId]) -> Result<Vec<StockLevel>> {
        self.read_levels(ids, true).await
    }

    async fn apply(&mut self, movements: &[StockMovement]) -> Result<Vec<TouchedProduct>> {
        // The sum of all movements of a SKU, so that stock which is given back can be taken in the same call.
        let mut deltas: BTreeMap<SkuId, i64> = BTreeMap::new();
        for m in movements {
            *deltas.entry(m.sku_id).or_default() += m.delta;
        }
        let deltas: Vec<(SkuId, i64)> = deltas.into_iter().collect();
        let all: Vec<SkuId> = deltas.iter().map(|(id, _)| *id).collect();
        for deltas in deltas.chunks(100) {
            let ids: Vec<SkuId> = deltas.iter().map(|(id, _)| *id).collect();
            let mut b = Builder::new("UPDATE skus SET on_hand = on_hand + CASE id");
            for i in 0..case_size(deltas.len()) {
                if let Some((id, delta)) = deltas.get(i).or(deltas.last()) {
                    b.push(" WHEN ").bind(*id).push(" THEN ").bind(*delta);
                }
            }
            b.push(" ELSE 0 END WHERE id IN ").list(&ids);
            let (text, args) = b.done();
            match self.0.execute(text, args).await {
                Err(e) if e.is_check("skus_on_hand_not_negative") => return Err(self.shortages(deltas).await?),
                Err(e) => return Err(e.into()),
                Ok(n) if n < ids.len() as u64 => {
                    let known = self.read_levels(&ids, false).await?;
                    let missing = ids.iter().find(|id| !known.iter().any(|l| l.sku_id == **id));
                    return Err(Error::not_found(Entity::Sku, missing.map_or_else(String::new, ToString::to_string)));
                }
                Ok(_) => {}
            }
        }
        MOVEMENTS.insert(&mut self.0, movements).await?;
        let mut touched = Vec::new();
        for chunk in all.chunks(MAX_LIST) {
            // Locked in id order.
            let mut b = Builder::new("SELECT id, revision + 1, availability FROM products WHERE id IN ");
            b.push("(SELECT k.product_id FROM skus k WHERE k.id IN ").list(chunk);
            b.push(") ORDER BY id").push(self.0.dialect().for_update);
            let (text, args) = b.done();
            let mut products: Vec<ProductId> = Vec::with_capacity(chunk.len());
            let mut before: HashMap<ProductId, i32> = HashMap::with_capacity(chunk.len());
            let first = touched.len();
            for r in self.0.fetch_all(text, args).await? {
                let product_id = ProductId(r.uuid(0)?);
                products.push(product_id);
                before.insert(product_id, r.i32(2)?);
                touched.push(TouchedProduct { product_id, revision: r.i64(1)?, availability_changed: false });
            }
            // By their ids: MariaDB would walk all products for an update by a subselect.
            let mut b = Builder::new("UPDATE products SET revision = revision + 1 WHERE id IN ");
            b.list(&products);
            let (text, args) = b.done();
            self.0.execute(text, args).await?;
            // Updated apart from the revision, since a sale seldom changes it and an index of lists contains it.
            let mut b = Builder::new("UPDATE products SET availability = ");
            b.push(AVAILABILITY).push(" WHERE id IN ").list(&products).push(" AND availability <> ").push(AVAILABILITY);
            let (text, args) = b.done();
            if self.0.execute(text, args).await? == 0 {
                continue;
            }
            let mut b = Builder::new("SELECT id, availability FROM products WHERE id IN ");
            b.list(&products);
            let (text, args) = b.done();
            for r in self.0.fetch_all(text, args).await? {
                let id = ProductId(r.uuid(0)?);
                if before.get(&id) != Some(&r.i32(1)?)
                    && let Some(product) = touched[first..].iter_mut().find(|t| t.product_id == id)
                {
                    product.availability_changed = true;
                }
            }
        }
        Ok(touched)
    }

    async fn movements(&mut self, sku: SkuId, paging: &Paging) -> Result<Page<StockMovement>> {
        let mut b = Builder::on(&MOVEMENTS_OF, self.0.dialect());
        b.bind(sku);
        if let Paging::Keyset { after: Some(k), .. } = paging {
            if k.key != SortKey::Id {
                return Err(bad_cursor());
            }
            b.push(" AND id < ").bind(k.id);
        }
        page(&mut b, "id DESC", paging);
        let (text, args) = b.done();
        let items = self.0.fetch_all(text, args).await?.iter().map(read_movement).collect::<Result<Vec<_>>>()?;
        Ok(Page::from_overfetch(items, paging.limit(), |m| Keyset {
            sort: "created_desc".to_owned(),
            key: SortKey::Id,
            id: m.id.0,
        }))
    }

    async fn count_movements(&mut self, sku: SkuId) -> Result<u64> {
        let row = self.0.fetch_optional(&COUNT, vec![Value::from(sku)]).await?;
        row.map_or(Ok(0), |r| r.count(0))
    }

    async fn ledgers(&mut self, after: Option<SkuId>, limit: u32) -> Result<Vec<LedgerSum>> {
        let after = after.unwrap_or(SkuId(uuid::Uuid::nil()));
        let rows = self.0.fetch_all(&LEDGERS, vec![after.into(), i64::from(limit).into()]).await?;
        let sum = |r: &Row| {
            Ok(LedgerSum { sku_id: SkuId(r.uuid(0)?), on_hand: r.i64(1)?, ledger: r.i64(2)?, orphans: r.count(3)? })
        };
        rows.iter().map(sum).collect()
    }

    async fn imbalances(&mut self) -> Result<Vec<StockImbalance>> {
        self.0
            .fetch_all(&IMBALANCES, Vec::new())
            .await?
            .iter()
            .map(|r| Ok(StockImbalance { sku_id: SkuId(r.uuid(0)?), on_hand: r.i64(1)?, ledger: r.i64(2)? }))
            .collect()
    }
}
