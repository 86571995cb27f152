//! Live events: what a subscription asks for, what its principal may see, and what it gets. They are made from the
//! events of the outbox, and they are public documents: the data of an [`Event`] is not part of them.

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::domain::access::api_key;
use crate::domain::access::policy::Reach;
use crate::domain::access::principal::{Permission, Principal};
use crate::domain::catalog::product::{Product, ProductStatus};
use crate::domain::catalog::sku::Sku;
use crate::domain::common::Actor;
use crate::domain::platform::outbox::{Event, EventKind, OutboxPosition, PriceChange};
use crate::domain::stock::inventory::LowStock;
use crate::domain::words::words;
use crate::error::{Entity, Error, FieldCode, Result};
use crate::id::{ApiKeyId, CustomerId, EventId, ProductId, SkuId};

words! {
    /// A kind of live events, which a subscription asks for.
    LiveKind {
        /// Changes of stock, and SKUs that become low. They are public if the product is active.
        Stock = "stock",
        /// Changes of prices. They are public if the product is active.
        Prices = "prices",
        /// Changes of orders, for principals with `orders:read` and for the customers of the orders.
        Orders = "orders",
        /// Changes of products and their SKUs. They are public if the product is active.
        Products = "products",
        /// Changes of categories, which are public.
        Categories = "categories",
    }
}

/// The live events that a subscription asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LiveFilter {
    /// The kinds. Without any, the subscription gets all kinds that the principal may see.
    pub kinds: HashSet<LiveKind>,
    /// The ids of products, SKUs, orders and categories: at most [`Self::MAX_IDS`]. Without any, the subscription gets
    /// the events of all of them.
    pub ids: HashSet<Uuid>,
}

impl LiveFilter {
    /// The maximum number of ids.
    pub const MAX_IDS: usize = 100;
}

/// An event, as subscriptions get it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveEvent {
    /// The id of the event. A subscription can go on after it.
    pub id: EventId,
    /// The kind of the change.
    pub kind: EventKind,
    /// The product, order or category that changed; the SKU of `stock.low`.
    pub aggregate_id: Uuid,
    /// The revision of the aggregate after the change, which orders the events of one aggregate.
    pub revision: i64,
    /// When it happened.
    pub occurred_at: Timestamp,
    /// The changes of stock, if the subscription asks for them. An event of another kind than `stock.changed` can have
    /// some too.
    pub stock: Vec<LiveStock>,
    /// The changes of prices, if the subscription asks for them.
    pub prices: Vec<PriceChange>,
    /// The SKU that has become low, if the event is `stock.low`.
    pub low_stock: Option<LowStock>,
}

/// A change of the stock of a SKU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LiveStock {
    /// The SKU.
    pub sku_id: SkuId,
    /// The number of pieces that came in (positive) or went out (negative).
    pub delta: i64,
    /// The level when the event was read; `None` if the SKU was deleted by then. The level contains the change, and it
    /// can contain later ones.
    pub level: Option<LiveLevel>,
}

/// The stock of a SKU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LiveLevel {
    /// The number of pieces in stock.
    pub on_hand: i64,
    /// The number of pieces that can be sold.
    pub available: i64,
}

/// A message of a subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LiveMessage {
    /// An event.
    Event(LiveEvent),
    /// The log no longer has the event after which the subscription was to begin, so events may have been missed. The
    /// subscription continues with new events. The receiver should load again what it shows.
    Reset,
    /// The end of the subscription. It is the last message.
    End(LiveEnd),
}

/// Why a subscription has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LiveEnd {
    /// The receiver was too slow. It can go on after the last event that it has received.
    Lagged,
    /// The session or the API key of the principal has ended, or its permissions may have changed.
    Revoked,
    /// The database could not be read. The receiver can go on later.
    Unavailable,
    /// The shop was closed, or all subscriptions of this process were ended.
    Closed,
}

impl LiveEnd {
    /// Returns the word for programs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Lagged => "lagged",
            Self::Revoked => "revoked",
            Self::Unavailable => "unavailable",
            Self::Closed => "closed",
        }
    }
}

/// An event, with the customer of its order and the state of its product, which decide who may see it.
#[derive(Debug)]
pub(crate) struct ReadEvent {
    pub position: OutboxPosition,
    pub event: Event,
    /// The customer of the order that the event is about.
    pub customer: Option<CustomerId>,
    /// Whether everybody may read the product that the event is about.
    is_public: bool,
    stock: Vec<LiveStock>,
    prices: Vec<PriceChange>,
    low_stock: Option<LowStock>,
}

impl ReadEvent {
    /// Returns an event with the product that it is about, as it is now.
    pub fn new(
        position: OutboxPosition,
        event: Event,
        product: Option<&Product>,
        customer: Option<CustomerId>,
    ) -> Self {
        let level = |sku: &Sku| LiveLevel { on_hand: sku.on_hand, available: sku.available() };
        let skus = product.into_iter().flat_map(|product| &product.skus);
        let levels: HashMap<SkuId, LiveLevel> = skus.map(|sku| (sku.id, level(sku))).collect();
        let is_public = match product {
            // A soft delete keeps the status, so the event of the deletion tells whether the product was active.
            Some(product) => {
                let is_shown = product.audit.is_live() || event.kind == EventKind::ProductDeleted;
                product.status == ProductStatus::Active && is_shown
            }
            // Of a product that was permanently deleted, the event tells what it was.
            None => event.kind == EventKind::ProductPurged && event.removed_public(),
        };
        let (mut stock, mut prices) = (Vec::new(), Vec::new());
        if event.kind.entity() == Entity::Product {
            let changes = event.stock_changes().into_iter();
            stock.extend(changes.map(|s| LiveStock {
                sku_id: s.sku_id,
                delta: s.delta,
                level: levels.get(&s.sku_id).copied(),
            }));
            prices = event.price_changes();
        }
        let low_stock = event.low_stock();
        Self { position, event, customer, is_public, stock, prices, low_stock }
    }

    /// Returns the product that the event is about.
    pub fn product_of(event: &Event) -> Option<ProductId> {
        match event.kind.entity() {
            Entity::Product => Some(ProductId(event.aggregate_id)),
            _ => event.low_stock().map(|low| low.product_id),
        }
    }
}

/// Decides which events a subscription gets: those that match its filter and that its principal may see.
#[derive(Debug)]
pub(crate) struct LiveScope {
    who: Principal,
    kinds: HashSet<LiveKind>,
    ids: HashSet<Uuid>,
    /// The orders that the principal may see; `None` if it gets no events of orders.
    orders: Option<Reach>,
    /// Whether the principal may see products that are not active.
    all_products: bool,
}

impl LiveScope {
    /// Returns what a principal gets with a filter.
    ///
    /// # Errors
    /// `Forbidden` or `Unauthenticated` if the filter names orders and the principal may see none; `Validation` for too
    /// many ids.
    pub fn of(who: &Principal, filter: &LiveFilter) -> Result<Self> {
        if filter.ids.len() > LiveFilter::MAX_IDS {
            let message = format!("must be at most {} ids", LiveFilter::MAX_IDS);
            return Err(Error::invalid("id", FieldCode::OutOfBounds, message));
        }
        let reach = who.reach(Permission::OrdersRead);
        let (kinds, orders) = if filter.kinds.is_empty() {
            let kinds = LiveKind::ALL.iter().copied().filter(|kind| *kind != LiveKind::Orders || reach.is_ok());
            (kinds.collect(), reach.ok())
        } else if filter.kinds.contains(&LiveKind::Orders) {
            (filter.kinds.clone(), Some(reach?))
        } else {
            (filter.kinds.clone(), None)
        };
        Ok(Self { kinds, ids: filter.ids.clone(), orders, all_products: who.reads_all_products(), who: who.clone() })
    }

    /// Returns an event as the subscription gets it; `None` if the subscription does not get it.
    pub fn view(&self, read: &ReadEvent) -> Option<LiveEvent> {
        let event = &read.event;
        let asks = |kind| self.kinds.contains(&kind);
        let names = |id: Uuid| self.ids.is_empty() || self.ids.contains(&id);
        let is_named = names(event.aggregate_id);
        let (mut stock, mut prices, mut low_stock) = (Vec::new(), Vec::new(), None);
        let shows = match event.kind.entity() {
            Entity::Order => {
                is_named && asks(LiveKind::Orders) && self.orders.is_some_and(|reach| reach.covers(read.customer))
            }
            Entity::Category => is_named && asks(LiveKind::Categories),
            Entity::Product if self.all_products || read.is_public => {
                if asks(LiveKind::Stock) {
                    stock.extend(read.stock.iter().filter(|s| is_named || names(s.sku_id.0)));
                }
                if asks(LiveKind::Prices) {
                    prices.extend(read.prices.iter().filter(|p| is_named || names(p.sku_id.0)).cloned());
                }
                let is_edit = event.kind != EventKind::StockChanged;
                !stock.is_empty() || !prices.is_empty() || (is_named && is_edit && asks(LiveKind::Products))
            }
            Entity::Sku if self.all_products || read.is_public => {
                let is_asked = |low: &LowStock| asks(LiveKind::Stock) && (is_named || names(low.product_id.0));
                low_stock = read.low_stock.filter(is_asked);
                low_stock.is_some()
            }
            _ => false,
        };
        shows.then_some(LiveEvent {
            id: event.id,
            kind: event.kind,
            aggregate_id: event.aggregate_id,
            revision: event.revision,
            occurred_at: event.occurred_at,
            stock,
            prices,
            low_stock,
        })
    }

    /// Returns whether the subscription gets an event.
    pub fn gets(&self, read: &ReadEvent) -> bool {
        self.view(read).is_some()
    }

    /// Returns whether an event ends the subscription, because its principal may have other permissions now, or none.
    pub fn is_revoked_by(&self, event: &Event) -> bool {
        let id = event.aggregate_id;
        match event.kind.entity() {
            Entity::Session => self.who.login().is_some_and(|login| login.session.0 == id),
            Entity::User => {
                let edits = !matches!(
                    event.kind,
                    EventKind::UserVerificationRequested | EventKind::UserResetRequested | EventKind::UserCreated
                );
                edits && self.who.login().is_some_and(|login| login.user.0 == id)
            }
            Entity::ApiKey => *self.who.actor() == api_key::actor_of(ApiKeyId(id)),
            // Which principals have the role is not known here. A subscription that need not have ended can go on after
            // its last event.
            Entity::Role => {
                let has_roles = !self.who.is_anonymous() && *self.who.actor() != Actor::system();
                event.kind != EventKind::RoleCreated && has_roles
            }
            _ => false,
        }
    }
}
