//! The entities, their ids, and the kinds of events about them. Ids are newtypes of UUIDv7, which the library makes.
//! They sort by time and are safe to show.

use std::fmt;
use std::str::FromStr;

use parking_lot::Mutex;
use rand::{Rng, RngExt as _, SeedableRng, rngs::StdRng};
use uuid::{Builder, Uuid};

use crate::clock::SharedClock;

macro_rules! entities {
    ($($(#[$doc:meta])* $Entity:ident = $word:literal, $Id:ident;)*) => {
        /// A kind of row that has an id, as errors and events name it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
        #[serde(rename_all = "snake_case")]
        #[non_exhaustive]
        pub enum Entity { $($(#[$doc])* $Entity,)* }

        impl Entity {
            /// Returns the word for messages.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$Entity => $word),* }
            }
        }

        $(
            #[doc = concat!("The id of a ", $word, ".")]
            #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
            #[serde(transparent)]
            #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
            pub struct $Id(pub Uuid);

            impl fmt::Display for $Id {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { self.0.fmt(f) }
            }

            impl fmt::Debug for $Id {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    write!(f, concat!(stringify!($Id), "({})"), self.0)
                }
            }

            impl FromStr for $Id {
                type Err = uuid::Error;
                fn from_str(s: &str) -> Result<Self, Self::Err> { s.parse().map(Self) }
            }

            impl From<Uuid> for $Id {
                fn from(id: Uuid) -> Self { Self(id) }
            }

            impl From<$Id> for Uuid {
                fn from(id: $Id) -> Self { id.0 }
            }
        )*
    };
}

entities! {
    /// A category of the catalog.
    Category = "category", CategoryId;
    /// A product of the catalog.
    Product = "product", ProductId;
    /// A SKU (variant) of a product.
    Sku = "sku", SkuId;
    /// A review of a product.
    Review = "review", ReviewId;
    /// A movement of the stock ledger.
    StockMovement = "stock movement", StockMovementId;
    /// A customer.
    Customer = "customer", CustomerId;
    /// An address of a customer.
    Address = "address", AddressId;
    /// A shopping cart.
    Cart = "cart", CartId;
    /// A line of a cart.
    CartLine = "cart line", CartLineId;
    /// An order.
    Order = "order", OrderId;
    /// A line of an order.
    OrderLine = "order line", OrderLineId;
    /// A discount on a line of an order.
    OrderAdjustment = "order adjustment", OrderAdjustmentId;
    /// A bill or a credit note of an order.
    Bill = "bill", BillId;
    /// A role: a name for permissions.
    Role = "role", RoleId;
    /// A user: the login of a person or a machine.
    User = "user", UserId;
    /// An API key.
    ApiKey = "API key", ApiKeyId;
    /// A session of a user.
    Session = "session", SessionId;
    /// A setting that a shop edits while it runs.
    Setting = "setting", SettingId;
    /// A job of the queue.
    Job = "job", JobId;
    /// The queue of a kind of jobs.
    JobQueue = "job queue", JobQueueId;
    /// A schedule that creates jobs.
    JobSchedule = "job schedule", JobScheduleId;
    /// A feed: a source that is imported again and again.
    Feed = "feed", FeedId;
    /// An entry of the audit log.
    AuditLogEntry = "audit log entry", AuditLogEntryId;
    /// An event of the outbox. Consumers recognize repeated events by the id (R13).
    Event = "event", EventId;
    /// A webhook: a URL that the shop calls when events happen.
    Webhook = "webhook", WebhookId;
    /// The delivery of an event to a webhook.
    WebhookDelivery = "webhook delivery", WebhookDeliveryId;
}

impl fmt::Display for Entity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

macro_rules! event_kinds {
    ($($(#[$doc:meta])* $variant:ident = $text:literal of $entity:ident;)*) => {
        /// The kind of an event.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
        #[non_exhaustive]
        pub enum EventKind { $($(#[$doc])* #[serde(rename = $text)] $variant,)* }

        impl EventKind {
            /// Every kind.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// Returns the word in the database and in JSON.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),* }
            }

            /// Returns the kind for a word, or `None` if the word is unknown.
            pub fn parse(s: &str) -> Option<Self> {
                match s { $($text => Some(Self::$variant),)* _ => None }
            }

            /// Returns the kind of aggregate that such events are about.
            pub const fn entity(self) -> Entity {
                match self { $(Self::$variant => Entity::$entity),* }
            }
        }
    };
}

event_kinds! {
    /// A product was created.
    ProductCreated = "product.created" of Product;
    /// A product, one of its SKUs, or other data in its representation was edited.
    ProductUpdated = "product.updated" of Product;
    /// A product was soft-deleted.
    ProductDeleted = "product.deleted" of Product;
    /// A product was restored.
    ProductRestored = "product.restored" of Product;
    /// A product was permanently deleted, together with its reviews.
    ProductPurged = "product.purged" of Product;
    /// Products were created by an import in bulk ([`ImportOptions::bulk`](crate::catalog::ImportOptions::bulk)): all
    /// those of one transaction, which have no events of their own.
    /// [`Event::imported_products`](crate::platform::Event::imported_products) returns the range of their ids. The
    /// aggregate is the entry of the import in the audit log.
    ProductsImported = "products.imported" of AuditLogEntry;
    /// The stock of a product's SKU changed.
    StockChanged = "stock.changed" of Product;
    /// A SKU has become low: its availability was `in_stock`, and is `limited` or `out_of_stock` now. The revision is
    /// that of its product.
    StockLow = "stock.low" of Sku;
    /// A category was created.
    CategoryCreated = "category.created" of Category;
    /// A category was edited, without a change in the representations of its products.
    CategoryUpdated = "category.updated" of Category;
    /// A category was renamed or moved, which changes its descendants and their products.
    CategoryMoved = "category.moved" of Category;
    /// A category was soft-deleted.
    CategoryDeleted = "category.deleted" of Category;
    /// A category was restored.
    CategoryRestored = "category.restored" of Category;
    /// A category was permanently deleted.
    CategoryPurged = "category.purged" of Category;
    /// A review of a product was created.
    ReviewCreated = "review.created" of Review;
    /// A review was edited.
    ReviewUpdated = "review.updated" of Review;
    /// A review was permanently deleted. The reviews of a product that is permanently deleted have no events of their
    /// own.
    ReviewDeleted = "review.deleted" of Review;
    /// A customer was created.
    CustomerCreated = "customer.created" of Customer;
    /// A customer was edited.
    CustomerUpdated = "customer.updated" of Customer;
    /// A customer was soft-deleted.
    CustomerDeleted = "customer.deleted" of Customer;
    /// A customer was restored.
    CustomerRestored = "customer.restored" of Customer;
    /// A customer was permanently deleted, together with its addresses and carts. Its reviews remain, without a
    /// customer.
    CustomerPurged = "customer.purged" of Customer;
    /// The personal data of a customer was erased. Its addresses and carts were permanently deleted.
    CustomerErased = "customer.erased" of Customer;
    /// An address was added to a customer.
    AddressCreated = "address.created" of Address;
    /// An address was edited.
    AddressUpdated = "address.updated" of Address;
    /// An address was permanently deleted.
    AddressPurged = "address.purged" of Address;
    /// A cart was created.
    CartCreated = "cart.created" of Cart;
    /// A cart or one of its lines was edited.
    CartUpdated = "cart.updated" of Cart;
    /// A cart was merged into another one.
    CartMerged = "cart.merged" of Cart;
    /// A cart was permanently deleted, because it was removed or had expired.
    CartPurged = "cart.purged" of Cart;
    /// An order was placed.
    OrderPlaced = "order.placed" of Order;
    /// The lines, the discount, the delivery or the bills of an order were edited.
    OrderUpdated = "order.updated" of Order;
    /// The work on an order has started.
    OrderStarted = "order.started" of Order;
    /// An order was delivered.
    OrderDelivered = "order.delivered" of Order;
    /// Some units of an order were canceled.
    OrderUnitsCanceled = "order.units_canceled" of Order;
    /// An order was canceled.
    OrderCanceled = "order.canceled" of Order;
    /// An order was soft-deleted.
    OrderDeleted = "order.deleted" of Order;
    /// A soft-deleted order was restored.
    OrderRestored = "order.restored" of Order;
    /// The personal data of an order was erased, together with that of its customer.
    OrderErased = "order.erased" of Order;
    /// A bill of an order was paid.
    OrderPaid = "order.paid" of Order;
    /// A role was created.
    RoleCreated = "role.created" of Role;
    /// A role was edited.
    RoleUpdated = "role.updated" of Role;
    /// A role was permanently deleted.
    RoleDeleted = "role.deleted" of Role;
    /// A user was created.
    UserCreated = "user.created" of User;
    /// A user was edited, blocked or unblocked, or its password or roles were changed.
    UserUpdated = "user.updated" of User;
    /// A user was soft-deleted.
    UserDeleted = "user.deleted" of User;
    /// A user was restored.
    UserRestored = "user.restored" of User;
    /// A user was permanently deleted, together with its sessions.
    UserPurged = "user.purged" of User;
    /// A user, or somebody who knows its email address, asks for a mail that verifies the address. A request for an
    /// address that no user has is recorded too, with an id that no user has, so that callers cannot tell the two
    /// apart.
    UserVerificationRequested = "user.verification_requested" of User;
    /// Somebody asks for a mail with which a user can set a new password. A request for an address that no user has is
    /// recorded too, with an id that no user has.
    UserResetRequested = "user.reset_requested" of User;
    /// An API key was created.
    ApiKeyCreated = "api_key.created" of ApiKey;
    /// An API key was edited.
    ApiKeyUpdated = "api_key.updated" of ApiKey;
    /// An API key was permanently deleted.
    ApiKeyDeleted = "api_key.deleted" of ApiKey;
    /// A session has ended before its time.
    SessionEnded = "session.ended" of Session;
    /// A setting was edited.
    SettingChanged = "setting.changed" of Setting;
    /// A webhook was created.
    WebhookCreated = "webhook.created" of Webhook;
    /// A webhook was edited, or its secret was replaced.
    WebhookUpdated = "webhook.updated" of Webhook;
    /// The shop has switched a webhook off, because its receiver is gone or has failed for too long.
    WebhookDisabled = "webhook.disabled" of Webhook;
    /// A webhook was permanently deleted, together with its deliveries.
    WebhookDeleted = "webhook.deleted" of Webhook;
}

/// A source of ids. It is injected, so that a failed test can be repeated from its seed.
#[cfg_attr(feature = "mocks", mockall::automock)]
pub trait IdSource: Send + Sync + fmt::Debug {
    /// Returns a new UUIDv7, which is greater than every id that this source has returned before.
    fn next(&self) -> Uuid;

    /// Returns 32 random bytes that nobody can guess, for a secret. By default they come from the operating system.
    fn secret(&self) -> [u8; 32] {
        rand::make_rng::<StdRng>().random()
    }
}

/// The default [`IdSource`]. It makes UUIDv7 (RFC 9562, 5.7) from the time of a clock, a monotonic counter within the
/// millisecond (6.2, method 1), and the random bits of a seeded generator.
pub struct UuidV7Source {
    clock: SharedClock,
    state: Mutex<State>,
}

struct State {
    rng: StdRng,
    millis: u64,
    /// The counter, whose 42 bits precede the random tail.
    counter: u64,
}

impl UuidV7Source {
    /// Returns a source whose generator is seeded by the operating system.
    pub fn new(clock: SharedClock) -> Self {
        Self::with_rng(clock, rand::make_rng())
    }

    /// Returns a source with a seed. The same seed and the same times lead to the same ids.
    pub fn seeded(clock: SharedClock, seed: u64) -> Self {
        Self::with_rng(clock, StdRng::seed_from_u64(seed))
    }

    fn with_rng(clock: SharedClock, rng: StdRng) -> Self {
        Self { clock, state: Mutex::new(State { rng, millis: 0, counter: 0 }) }
    }
}

impl fmt::Debug for UuidV7Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UuidV7Source").finish_non_exhaustive()
    }
}

impl IdSource for UuidV7Source {
    fn secret(&self) -> [u8; 32] {
        self.state.lock().rng.random()
    }

    fn next(&self) -> Uuid {
        let now = u64::try_from(self.clock.now().timestamp_millis()).unwrap_or(0);
        let mut s = self.state.lock();
        if now > s.millis {
            s.millis = now;
            // The top bit is 0, so that the counter does not overflow in a busy millisecond.
            s.counter = s.rng.next_u64() >> 23;
        } else {
            s.counter += 1;
            if s.counter >> 42 != 0 {
                s.millis += 1;
                s.counter = 0;
            }
        }
        let mut tail = [0u8; 10];
        // The first 12 bits of the counter are in rand_a, the other 30 at the start of rand_b. The builder overwrites
        // the 4 + 2 bits of the version and the variant.
        let high = (s.counter >> 30).to_be_bytes();
        tail[0] = high[6] & 0x0f;
        tail[1] = high[7];
        let low = s.counter.to_be_bytes();
        tail[2] = low[4] & 0x3f;
        tail[3..6].copy_from_slice(&low[5..]);
        let r = s.rng.next_u32().to_be_bytes();
        tail[6..].copy_from_slice(&r);
        Builder::from_unix_timestamp_millis(s.millis, &tail).into_uuid()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock::ManualClock;

    #[test]
    fn ids_increase_within_a_millisecond_and_depend_on_the_seed() {
        let clock: SharedClock = Arc::new(ManualClock::at_micros(1_700_000_000_000_000));
        let a = UuidV7Source::seeded(clock.clone(), 7);
        let b = UuidV7Source::seeded(clock, 7);
        let mut last = Uuid::nil();
        for _ in 0..100_000 {
            let id = a.next();
            assert!(id > last, "{id} after {last}");
            assert_eq!(id.get_version_num(), 7);
            assert_eq!(id, b.next());
            last = id;
        }
    }
}
