//! Events: what others must learn of, written in the transaction of the change (R13).

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::domain::common::Actor;
use crate::error::Entity;
use crate::id::EventId;

macro_rules! event_kinds {
    ($($(#[$doc:meta])* $variant:ident = $text:literal of $entity:ident;)*) => {
        /// What happened.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[non_exhaustive]
        pub enum EventKind { $($(#[$doc])* #[serde(rename = $text)] $variant,)* }

        impl EventKind {
            /// All.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The word on disk and on the wire.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),* }
            }

            /// From the word.
            pub fn parse(s: &str) -> Option<Self> {
                match s { $($text => Some(Self::$variant),)* _ => None }
            }

            /// The kind of aggregate it is about.
            pub const fn entity(self) -> Entity {
                match self { $(Self::$variant => Entity::$entity),* }
            }
        }
    };
}

event_kinds! {
    /// A product was made.
    ProductCreated = "product.created" of Product;
    /// A product, one of its SKUs or what it shows was edited.
    ProductUpdated = "product.updated" of Product;
    /// A product was soft-deleted.
    ProductDeleted = "product.deleted" of Product;
    /// A product was restored.
    ProductRestored = "product.restored" of Product;
    /// A product was removed for good.
    ProductPurged = "product.purged" of Product;
    /// The stock of a product's SKU changed.
    StockChanged = "stock.changed" of Product;
    /// A category was made.
    CategoryCreated = "category.created" of Category;
    /// A category was edited without a change that its products show.
    CategoryUpdated = "category.updated" of Category;
    /// A category was renamed or moved: everything below it and its products show it.
    CategoryMoved = "category.moved" of Category;
    /// A category was soft-deleted.
    CategoryDeleted = "category.deleted" of Category;
    /// A category was restored.
    CategoryRestored = "category.restored" of Category;
    /// A category was removed for good.
    CategoryPurged = "category.purged" of Category;
    /// A customer was made.
    CustomerCreated = "customer.created" of Customer;
    /// A customer was edited.
    CustomerUpdated = "customer.updated" of Customer;
    /// A customer was soft-deleted.
    CustomerDeleted = "customer.deleted" of Customer;
    /// A customer was restored.
    CustomerRestored = "customer.restored" of Customer;
    /// A customer was removed for good, with its addresses.
    CustomerPurged = "customer.purged" of Customer;
    /// An address was added to a customer.
    AddressCreated = "address.created" of Address;
    /// An address was edited.
    AddressUpdated = "address.updated" of Address;
    /// An address was removed for good.
    AddressPurged = "address.purged" of Address;
}

/// A row of the outbox.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Consumers are idempotent by it.
    pub id: EventId,
    /// What happened.
    pub kind: EventKind,
    /// To which aggregate.
    pub aggregate_id: Uuid,
    /// The aggregate's revision after the change; orders events of one aggregate.
    pub revision: i64,
    /// More about it; small.
    pub data: Value,
    /// When.
    pub occurred_at: Timestamp,
    /// Who.
    pub actor: Actor,
}

/// The answer of a read of the outbox.
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

/// A place in the outbox. Ordered; everything at or before it has committed, and nothing is ever put before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct OutboxPosition {
    /// Sequence number, from 1; 0 is before the first event.
    pub seq: i64,
}
