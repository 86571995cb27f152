//! The representation of live events.

use chrono::{DateTime, Utc};
use ecom_core::money::Money;
use ecom_core::platform::{LiveEvent, LiveStock, PriceChange};
use ecom_core::stock::LowStock;
use serde::Serialize;
use uuid::Uuid;

use crate::dto::Amount;

/// An event: something that has happened in the shop.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct LiveEventView {
    /// The id of the event.
    pub id: Uuid,
    /// What has happened, such as `stock.changed`, `stock.low`, `product.updated`, `order.placed` or `category.moved`.
    #[schema(example = "stock.changed")]
    pub kind: &'static str,
    /// The id of the product, order or category that changed. That of `stock.changed` is the product, and that of
    /// `stock.low` the SKU.
    pub aggregate_id: Uuid,
    /// The revision of the product or category, or the version of the order, after the change. It orders the events of
    /// one aggregate.
    pub revision: i64,
    /// When it happened (RFC 3339, UTC).
    #[serde(serialize_with = "crate::dto::time")]
    pub occurred_at: DateTime<Utc>,
    /// The changes of stock; absent if there are none, or if the stream does not have the kind `stock`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub stock: Vec<LiveStockView>,
    /// The changes of prices; absent if there are none, or if the stream does not have the kind `prices`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub prices: Vec<LivePriceView>,
    /// The SKU that has become low; absent unless the event is `stock.low`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub low_stock: Option<LiveLowStockView>,
}

/// A SKU that has become low: its availability was `in_stock` before, and is not after the change.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct LiveLowStockView {
    /// The id of the SKU.
    pub sku_id: Uuid,
    /// The id of its product.
    pub product_id: Uuid,
    /// The number of pieces that could be sold after the change.
    pub available: i64,
    /// The low-stock threshold of the SKU.
    pub threshold: i64,
}

/// A change of the stock of a SKU.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct LiveStockView {
    /// The id of the SKU.
    pub sku_id: Uuid,
    /// The number of pieces that came in (positive) or went out (negative).
    pub delta: i64,
    /// The number of pieces in stock when the event was read, with this change and perhaps later ones; null if the SKU
    /// was deleted by then.
    pub on_hand: Option<i64>,
    /// The number of pieces that could be sold when the event was read; null if the SKU was deleted by then.
    pub available: Option<i64>,
}

/// A change of the price of a SKU.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct LivePriceView {
    /// The id of the SKU.
    pub sku_id: Uuid,
    /// The price after the change.
    pub price: Amount,
    /// The price after the change, less the discount of the product.
    pub final_price: Amount,
    /// The price before the change.
    pub previous_price: Amount,
    /// The price before the change, less the discount at that time.
    pub previous_final_price: Amount,
    /// The currency (ISO 4217).
    #[schema(example = "USD")]
    pub currency: &'static str,
}

impl LiveEventView {
    /// Returns the representation. `numbers` is whether prices are JSON numbers.
    pub(crate) fn of(event: &LiveEvent, numbers: bool) -> Self {
        Self {
            id: event.id.0,
            kind: event.kind.as_str(),
            aggregate_id: event.aggregate_id,
            revision: event.revision,
            occurred_at: event.occurred_at,
            stock: event.stock.iter().map(LiveStockView::from).collect(),
            prices: event.prices.iter().map(|change| LivePriceView::of(change, numbers)).collect(),
            low_stock: event.low_stock.as_ref().map(LiveLowStockView::from),
        }
    }
}

impl From<&LowStock> for LiveLowStockView {
    fn from(low: &LowStock) -> Self {
        Self { sku_id: low.sku_id.0, product_id: low.product_id.0, available: low.available, threshold: low.threshold }
    }
}

impl From<&LiveStock> for LiveStockView {
    fn from(change: &LiveStock) -> Self {
        Self {
            sku_id: change.sku_id.0,
            delta: change.delta,
            on_hand: change.level.map(|level| level.on_hand),
            available: change.level.map(|level| level.available),
        }
    }
}

impl LivePriceView {
    fn of(change: &PriceChange, numbers: bool) -> Self {
        let amount = |money: Money| Amount::new(money.amount(), numbers);
        Self {
            sku_id: change.sku_id.0,
            price: amount(change.new),
            final_price: amount(change.new_final),
            previous_price: amount(change.old),
            previous_final_price: amount(change.old_final),
            currency: change.new.currency().code(),
        }
    }
}

/// A ticket for a stream of live events.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct LiveTicketView<'a> {
    /// The ticket, which opens one stream as the parameter `ticket` of `/events`.
    pub ticket: &'a str,
    /// When the ticket expires (RFC 3339, UTC).
    #[serde(serialize_with = "crate::dto::time")]
    pub expires_at: DateTime<Utc>,
}
