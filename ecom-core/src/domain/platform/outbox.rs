//! Events: the changes of which other processes and consumers are notified, written in the transaction of the change
//! (R13).

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::domain::catalog::product::Product;
use crate::domain::common::Actor;
use crate::domain::stock::inventory::{LowStock, StockMovement, StockReason};
pub use crate::id::EventKind;
use crate::id::{EventId, ProductId, SkuId};
use crate::money::Money;

/// A row of the outbox.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// The id of the event, by which consumers recognize an event that they have handled.
    pub id: EventId,
    /// The kind of change.
    pub kind: EventKind,
    /// The aggregate that changed.
    pub aggregate_id: Uuid,
    /// The aggregate's revision after the change, which orders the events of one aggregate.
    pub revision: i64,
    /// Further data, a JSON object or null. [`Event::stock_changes`], [`Event::price_changes`],
    /// [`Event::imported_products`] and [`Event::low_stock`] read it. Its field `stale` is for the library's own
    /// caches.
    pub data: Value,
    /// When the change happened.
    pub occurred_at: Timestamp,
    /// The actor who made the change.
    pub actor: Actor,
}

impl Event {
    /// Returns the stock movements that the write made, in the order of the ledger. `stock.changed` has some, and so
    /// has every other event of a write that sets stock. A movement whose reason this release does not know is left
    /// out.
    pub fn stock_changes(&self) -> Vec<StockChange> {
        self.list(STOCK)
    }

    /// Returns the SKUs whose price or final price the write changed. `product.updated` can have some.
    pub fn price_changes(&self) -> Vec<PriceChange> {
        self.list(PRICES)
    }

    /// Returns the products of an event of the kind [`EventKind::ProductsImported`], and `None` for other kinds.
    pub fn imported_products(&self) -> Option<ImportedProducts> {
        let range = || self.data.get(IMPORTED).and_then(|found| ImportedProducts::deserialize(found).ok());
        (self.kind == EventKind::ProductsImported).then(|| range().unwrap_or(ImportedProducts::ALL))
    }

    /// Returns the SKU that the event is about, if it is `stock.low`.
    pub fn low_stock(&self) -> Option<LowStock> {
        (self.kind == EventKind::StockLow).then(|| LowStock::deserialize(&self.data).ok()).flatten()
    }

    /// Returns whether the event removed a product that everybody could read.
    pub(crate) fn removed_public(&self) -> bool {
        self.data.get(WAS_PUBLIC) == Some(&Value::Bool(true))
    }

    fn list<T: DeserializeOwned>(&self, field: &str) -> Vec<T> {
        let entries = self.data.get(field).and_then(Value::as_array).into_iter().flatten();
        entries.filter_map(|e| T::deserialize(e).ok()).collect()
    }
}

/// A stock movement, as events contain it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StockChange {
    /// The SKU.
    pub sku_id: SkuId,
    /// The number of pieces that came in (positive) or went out (negative).
    pub delta: i64,
    /// The reason of the movement.
    pub reason: StockReason,
    /// The document that the movement refers to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
}

impl From<&StockMovement> for StockChange {
    fn from(m: &StockMovement) -> Self {
        Self { sku_id: m.sku_id, delta: m.delta, reason: m.reason, reference: m.reference.clone() }
    }
}

/// The prices of a SKU before and after a write, as events contain them. Money is in the shop's currency.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PriceChange {
    /// The SKU.
    pub sku_id: SkuId,
    /// The price before.
    pub old: Money,
    /// The price after.
    pub new: Money,
    /// The final price before: the old price less the discount at that time.
    pub old_final: Money,
    /// The final price after: the new price less the discount now.
    pub new_final: Money,
}

impl PriceChange {
    /// Returns the changes of prices between two states of a product, for the SKUs that both have.
    pub(crate) fn between(before: &Product, after: &Product) -> Vec<Self> {
        let changes = after.skus.iter().filter_map(|new| {
            let old = before.skus.iter().find(|s| s.id == new.id)?;
            let (old_final, new_final) = (old.final_price(before.discount), new.final_price(after.discount));
            let changed = old.price != new.price || old_final != new_final;
            changed.then_some(Self { sku_id: new.id, old: old.price, new: new.price, old_final, new_final })
        });
        changes.collect()
    }
}

/// The products that one transaction of an import in bulk has created, as [`EventKind::ProductsImported`] contains
/// them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ImportedProducts {
    /// The lowest id.
    pub first: ProductId,
    /// The highest id. Products that the import has not created can have ids in between.
    pub last: ProductId,
    /// The number of products that were created.
    pub count: u64,
}

impl ImportedProducts {
    /// The range of all products, for an event whose data this release cannot read.
    const ALL: Self = Self { first: ProductId(Uuid::nil()), last: ProductId(Uuid::max()), count: 0 };

    /// Returns the range with one product.
    pub(crate) const fn of(id: ProductId) -> Self {
        Self { first: id, last: id, count: 1 }
    }

    /// Returns the range with one product more.
    pub(crate) fn with(self, id: ProductId) -> Self {
        Self { first: self.first.min(id), last: self.last.max(id), count: self.count + 1 }
    }
}

/// The further data that a write puts into its event.
#[derive(Debug, Default)]
pub(crate) struct EventDetails {
    pub stock: Vec<StockChange>,
    pub prices: Vec<PriceChange>,
    pub imported: Option<ImportedProducts>,
    /// The SKUs that the movements have made low. Each has an event of its own.
    pub low: Vec<LowStock>,
    /// Whether a product that was permanently deleted was one that everybody could read.
    pub was_public: bool,
}

impl EventDetails {
    /// Returns the details as fields of the data. Empty lists, and what is false, are left out.
    pub fn into_fields(self) -> serde_json::Map<String, Value> {
        let mut fields = serde_json::Map::new();
        if !self.stock.is_empty() {
            fields.insert(STOCK.to_owned(), json!(self.stock));
        }
        if !self.prices.is_empty() {
            fields.insert(PRICES.to_owned(), json!(self.prices));
        }
        if let Some(imported) = self.imported {
            fields.insert(IMPORTED.to_owned(), json!(imported));
        }
        if self.was_public {
            fields.insert(WAS_PUBLIC.to_owned(), Value::Bool(true));
        }
        fields
    }
}

const STOCK: &str = "stock";
const PRICES: &str = "prices";
const IMPORTED: &str = "imported";
const WAS_PUBLIC: &str = "was_public";

/// The result of a read of the outbox.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct EventBatch {
    /// Events in their order, each with its position. An event of a kind that this release does not know is left out:
    /// a newer release that runs on the same database wrote it.
    pub events: Vec<(OutboxPosition, Event)>,
    /// The position to read on from: that of the last event that was read, whether it was left out or not. It is the
    /// position that the read began after if there was nothing to read.
    pub end: OutboxPosition,
    /// Whether the read ended at its limit, so that there may be more.
    pub full: bool,
}

/// A position in the outbox. Positions are ordered: every event at or before one has committed, and no event is ever
/// inserted before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct OutboxPosition {
    /// Sequence number, from 1; 0 is before the first event.
    pub seq: i64,
}
