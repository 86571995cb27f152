//! Typed errors (R16). Every error has a kind and a stable code, and it states whether a retry may succeed.
//!
//! No message contains SQL, a path or a secret. The error of a backend is kept as a value in
//! [`std::error::Error::source`], for the log of the operator.

use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::domain::access::principal::Permission;
pub use crate::id::Entity;
use crate::id::EventId;
use crate::money::Money;

/// The result of every fallible call of the library.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A boxed cause, kept as a value.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A dependency of the library that can be unavailable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Dependency {
    /// The database behind [`crate::port::Storage`].
    Database,
    /// The index behind [`crate::port::SearchProvider`].
    Search,
    /// The index that answers while the one of [`Self::Search`] does not. Only the health of a shop names it.
    SearchFallback,
    /// The cache behind [`crate::port::Cache`].
    Cache,
    /// The rate limiter behind [`crate::port::RateLimiter`]. No call fails because it is unavailable.
    RateLimiter,
    /// The queue of password hashes; unavailable while it is full.
    Logins,
    /// The issuer of OpenID Connect behind [`crate::port::KeySetSource`].
    Issuer,
    /// The store of image files behind [`crate::port::MediaStore`].
    Media,
    /// The queue of uploaded images that wait to be decoded; unavailable while it is full.
    Uploads,
}

impl Dependency {
    /// Returns the word for the dependency, as responses and metrics contain it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Database => "database",
            Self::Search => "search",
            Self::SearchFallback => "search_fallback",
            Self::Cache => "cache",
            Self::RateLimiter => "rate_limiter",
            Self::Logins => "logins",
            Self::Issuer => "issuer",
            Self::Media => "media",
            Self::Uploads => "uploads",
        }
    }
}

impl fmt::Display for Dependency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Database => "the database",
            Self::Search => "the search index",
            Self::SearchFallback => "the fallback of the search index",
            Self::Cache => "the cache",
            Self::RateLimiter => "the rate limiter",
            Self::Logins => "the queue of password hashes",
            Self::Issuer => "the issuer of tokens",
            Self::Media => "the store of images",
            Self::Uploads => "the queue of uploads",
        })
    }
}

/// Every failure of the library.
///
/// [`Error::code`] is the stable word for programs, the `Display` text is for people.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The requested row does not exist, or it is soft-deleted and the call does not include such rows (R2).
    #[error("{entity} `{key}` does not exist")]
    NotFound {
        /// The kind of the row.
        entity: Entity,
        /// The id, slug or code that the caller used.
        key: String,
    },
    /// The request is valid, but the state of the shop does not allow it.
    #[error(transparent)]
    Conflict(Box<Conflict>),
    /// The input breaks a rule; the error names every invalid field (R17).
    #[error(transparent)]
    Validation(#[from] ValidationErrors),
    /// The principal does not have the permission for this call.
    #[error("the permission `{permission}` is required")]
    Forbidden {
        /// The permission that is missing.
        permission: Permission,
    },
    /// The call requires an authenticated caller, and there is none, or its token or key is not valid.
    #[error("a valid access token or API key is required: log in")]
    Unauthenticated,
    /// The email address and password do not match a user who may log in, or the current password is wrong.
    #[error("the credentials are wrong")]
    InvalidCredentials,
    /// Too many calls.
    #[error("too many requests; try again in {} s", retry_after.as_secs().max(1))]
    RateLimited {
        /// How long the caller should wait before it tries again.
        retry_after: Duration,
    },
    /// A dependency cannot be reached or is too slow; the same call may succeed later.
    #[error("{dependency} is not available at the moment; try again")]
    Unavailable {
        /// The dependency that is unavailable.
        dependency: Dependency,
        /// True if a write was sent and its response was lost: the write may or may not have happened.
        outcome_unknown: bool,
        /// The error of the client library.
        #[source]
        source: Option<BoxError>,
    },
    /// Another transaction conflicts with this one: a deadlock, a serialization failure, or a lock that was not
    /// released in time. The transaction is certainly aborted, and nothing was written. Services retry their own writes
    /// before they return this error. The host runs its own unit of work again, from its start.
    #[error("a concurrent write conflicts with this one; try again")]
    Contention {
        /// The error of the client library.
        #[source]
        source: Option<BoxError>,
    },
    /// The search index has not applied an event within the time limit of a search that waits for it. Nothing was
    /// searched.
    #[error(
        "the search index has not applied event `{event}` within {} ms: try again, or leave out `at_least` to search the \
         index as it is",
        limit.as_millis()
    )]
    IndexBehind {
        /// The event.
        event: EventId,
        /// How long the call has waited.
        limit: Duration,
    },
    /// The chosen backend does not support the call; see its capabilities.
    #[error("{provider} does not support this: {capability}")]
    Unsupported {
        /// The backend.
        provider: &'static str,
        /// The capability that the backend lacks.
        capability: &'static str,
    },
    /// A defect of the library or a broken environment; the source describes the cause.
    #[error("internal error: {context}")]
    Internal {
        /// The operation that failed, in words that contain no data.
        context: &'static str,
        /// The underlying cause.
        #[source]
        source: Option<BoxError>,
    },
}

impl Error {
    /// Returns `NotFound` for an `entity` that was looked up by `key`.
    pub fn not_found(entity: Entity, key: impl fmt::Display) -> Self {
        Self::NotFound { entity, key: key.to_string() }
    }

    /// Returns `Internal` with a cause.
    pub fn internal(context: &'static str, source: impl Into<BoxError>) -> Self {
        Self::Internal { context, source: Some(source.into()) }
    }

    /// Returns `Unavailable` for a call that certainly wrote nothing.
    pub fn unavailable(dependency: Dependency, source: impl Into<BoxError>) -> Self {
        Self::Unavailable { dependency, outcome_unknown: false, source: Some(source.into()) }
    }

    /// Returns `Validation` for one invalid field. The message completes a sentence that begins with the name of the
    /// field.
    pub fn invalid(field: impl Into<String>, code: FieldCode, message: impl Into<String>) -> Self {
        Self::Validation(ValidationErrors::one(field, code, message))
    }

    /// Returns the stable code for programs, such as `VERSION_CONFLICT`.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::NotFound { .. } => ErrorCode::NotFound,
            Self::Conflict(c) => c.code(),
            Self::Validation(_) => ErrorCode::Validation,
            Self::Forbidden { .. } => ErrorCode::Forbidden,
            Self::Unauthenticated => ErrorCode::Unauthenticated,
            Self::InvalidCredentials => ErrorCode::InvalidCredentials,
            Self::RateLimited { .. } => ErrorCode::RateLimited,
            Self::Unavailable { .. } | Self::Contention { .. } | Self::IndexBehind { .. } => ErrorCode::Unavailable,
            Self::Unsupported { .. } => ErrorCode::Unsupported,
            Self::Internal { .. } => ErrorCode::Internal,
        }
    }

    /// Returns how long to wait before the call is retried, if that is known.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after } => Some(*retry_after),
            Self::Unavailable { source: Some(source), .. } => {
                source.downcast_ref::<Resting>().map(|resting| resting.retry_after)
            }
            _ => None,
        }
    }

    /// Returns true if the same call may succeed later without any change.
    pub fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::Unavailable { .. } | Self::Contention { .. } | Self::RateLimited { .. } | Self::IndexBehind { .. }
        )
    }

    /// Returns true if another transaction conflicted with this one, which is certainly aborted. The same unit of work
    /// may succeed at once if it runs again from its start.
    pub const fn is_contention(&self) -> bool {
        matches!(self, Self::Contention { .. })
    }

    /// Returns true if a write may have happened although the call failed: read the row before you retry.
    pub fn outcome_unknown(&self) -> bool {
        matches!(self, Self::Unavailable { outcome_unknown: true, .. })
    }
}

/// The cause of [`Error::Unavailable`] while the circuit breaker of a dependency is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("recent calls have failed; the next attempt is in {} ms", retry_after.as_millis())]
pub struct Resting {
    /// After which time the dependency is tried again.
    pub retry_after: Duration,
}

/// The cause of [`Error::Unavailable`] if an adapter refuses the server that its URL leads to, because the server could
/// give wrong answers: a standby, for example, or a bucket or directory that does not exist.
/// [`Health`](crate::Health) shows the reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the server is refused: {reason}")]
pub struct RefusedServer {
    /// Why, and what to do about it. It names no server and contains no part of a URL.
    pub reason: &'static str,
}

impl RefusedServer {
    /// Returns the refusal among the causes of an error.
    pub fn among_causes(error: &Error) -> Option<Self> {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
        while let Some(error) = cause {
            if let Some(refused) = error.downcast_ref() {
                return Some(*refused);
            }
            cause = error.source();
        }
        None
    }
}

/// The reason why the state of the shop does not allow a write. Each reason has its own [`ErrorCode`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Conflict {
    /// Somebody has changed the row since the caller read it (R1).
    #[error(
        "{entity} {id} has changed: the request expects version {expected}, but the current version is {actual}; read \
         it again"
    )]
    Version {
        /// The kind of the row.
        entity: Entity,
        /// The id of the row.
        id: Uuid,
        /// The version that the caller read.
        expected: i64,
        /// The current version of the row.
        actual: i64,
    },
    /// The write does not name the version that the caller read (R1).
    #[error("the version of the {entity} is required: send the version that you read in `If-Match` or `version`")]
    VersionRequired {
        /// The kind of the row.
        entity: Entity,
    },
    /// Another live row already has the name, slug, code or email.
    #[error("another {entity} already has the {field} `{value}`")]
    Duplicate {
        /// The kind of the row.
        entity: Entity,
        /// The field of the row.
        field: &'static str,
        /// The value that the other row has.
        value: String,
    },
    /// The write breaks a rule of the catalog.
    #[error(transparent)]
    Catalog(#[from] CatalogConflict),
    /// The write breaks a rule of stock.
    #[error(transparent)]
    Stock(#[from] StockConflict),
    /// The write breaks a rule of sales.
    #[error(transparent)]
    Sales(#[from] SalesConflict),
    /// The call contradicts an earlier one.
    #[error(transparent)]
    Platform(#[from] PlatformConflict),
    /// The amount is not in the currency of the shop.
    #[error("the shop sells in {expected}, not in {found}")]
    CurrencyMismatch {
        /// The currency of the shop.
        expected: String,
        /// The currency of the amount.
        found: String,
    },
    /// The database stores prices in another currency than the one that the shop is configured for.
    #[error(
        "the shop sells in {shop}, but this database was created for {database}: configure the shop for {database}, or \
         use another database"
    )]
    DatabaseCurrency {
        /// The currency of the database.
        database: String,
        /// The currency that the shop is configured for.
        shop: String,
    },
    /// The state of the row does not allow a restore or another step.
    #[error("{message}")]
    State {
        /// The text of the error: what is not possible, and what to do first.
        message: String,
    },
}

/// The reason why the state of the catalog does not allow a write.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CatalogConflict {
    /// A category cannot move under itself or a descendant (R3).
    #[error("category {category} cannot move under {parent}, which is the same category or a descendant of it")]
    CategoryCycle {
        /// The category to move.
        category: Uuid,
        /// The requested parent.
        parent: Uuid,
    },
    /// A category that is in use cannot be deleted (R4).
    #[error(
        "category {category} is in use: {children} child categories and {products} products refer to it; move or \
         delete them first"
    )]
    CategoryNotEmpty {
        /// The category to delete.
        category: Uuid,
        /// The number of child categories that prevent this kind of deletion.
        children: u64,
        /// The number of products that prevent this kind of deletion.
        products: u64,
    },
    /// A write sets a flat field (price, stock, sku …) of a product with several SKUs.
    #[error("product {product} has {skus} SKUs, so `{field}` is ambiguous: set it in `skus` or on a SKU")]
    FlatWrite {
        /// The product.
        product: Uuid,
        /// The number of its live SKUs.
        skus: usize,
        /// The first flat field of the write.
        field: &'static str,
    },
}

/// The reason why the stock does not allow a write.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StockConflict {
    /// There is not enough stock; the error names every SKU of which too little is available.
    #[error("{}", insufficient(shortages))]
    Insufficient {
        /// The SKUs of which too little is available.
        shortages: Vec<Shortage>,
    },
    /// The SKU does not track its stock, so nothing can move it.
    #[error("SKU {sku_id} does not track its stock: set its `track_stock` to true before the stock is adjusted")]
    NotTracked {
        /// The id of the SKU.
        sku_id: Uuid,
    },
}

fn insufficient(shortages: &[Shortage]) -> String {
    match shortages {
        [Shortage { sku_id, requested, available }] => {
            format!("there is not enough stock of SKU {sku_id}: {requested} requested, {available} available")
        }
        many => format!("there is not enough stock for {} of the requested SKUs", many.len()),
    }
}

/// The reason why the sales of the shop do not allow a write.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SalesConflict {
    /// An order refers to the row, so it cannot be deleted permanently (R5).
    #[error("an order refers to {entity} {id}, so it cannot be deleted permanently: delete it without `force`")]
    HasSales {
        /// The kind of the row.
        entity: Entity,
        /// The id of the row.
        id: Uuid,
    },
    /// An order refers to the row, and the shop keeps what was sold
    /// ([`ShopConfig::keep_sold`](crate::config::ShopConfig::keep_sold)), so it cannot be deleted (R5).
    #[error(
        "an order refers to {entity} {id}, so this shop does not delete it: keep a SKU in `skus`, and set the product \
         to `archived` to stop its sale"
    )]
    Kept {
        /// The kind of the row.
        entity: Entity,
        /// The id of the row.
        id: Uuid,
    },
    /// The price that the buyer was shown is not the current one (R8). The error names every wrong price, and also
    /// every SKU of which too little is available.
    #[error("the price has changed for {} of the lines; show the buyer the current prices and try again", prices.len())]
    PriceMismatch {
        /// The wrong prices.
        prices: Vec<PriceMismatch>,
        /// The SKUs of which too little is available.
        shortages: Vec<Shortage>,
    },
    /// The status of the order does not allow the step.
    #[error("order {order} is {status}; this step requires an order that is {required}")]
    OrderStatus {
        /// The order.
        order: Uuid,
        /// Its status.
        status: &'static str,
        /// The statuses in which the step is possible.
        required: &'static str,
    },
    /// The bill can no longer be changed: it is a credit note, paid or void, or units of its lines were canceled (R39).
    #[error(
        "bill {number} can no longer be changed: it is a credit note, paid or void, or units of its lines were \
         canceled; to take units away, cancel them, and to sell more, add lines"
    )]
    BillFrozen {
        /// The field of the input that would change the bill, such as `change[0].line_id` or `discount`.
        field: String,
        /// The bill.
        bill: Uuid,
        /// The number of the bill.
        number: String,
    },
    /// The cart has expired, so that it can no longer be used.
    #[error("cart {cart} has expired: create another one")]
    CartExpired {
        /// The cart.
        cart: Uuid,
    },
    /// An order was placed from the cart, so it cannot be changed or deleted (R20).
    #[error("cart {cart} was already ordered, so it cannot be changed or deleted: create a new cart")]
    CartOrdered {
        /// The cart.
        cart: Uuid,
    },
    /// The cart was merged into another one (R20).
    #[error("cart {cart} was merged into cart {into}: use that one")]
    CartMerged {
        /// The cart.
        cart: Uuid,
        /// The cart that has its lines now.
        into: Uuid,
    },
}

/// The reason why a call contradicts an earlier one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlatformConflict {
    /// An earlier call with the same idempotency key was another request (R12).
    #[error(
        "the idempotency key `{key}` was used for another request: repeat that request unchanged, or send this one with \
         a new key"
    )]
    KeyReused {
        /// The key, as the caller sent it.
        key: String,
    },
    /// The same call has run before, and its answer was erased together with the personal data of a customer (R45).
    #[error(
        "the request with the idempotency key `{key}` has run before, and its response was erased together with the \
         personal data of a customer; it does not run again: read the resource to see the result"
    )]
    AnswerErased {
        /// The key, as the caller sent it.
        key: String,
    },
}

impl CatalogConflict {
    const fn code(&self) -> ErrorCode {
        match self {
            Self::CategoryCycle { .. } => ErrorCode::CategoryCycle,
            Self::CategoryNotEmpty { .. } => ErrorCode::CategoryNotEmpty,
            Self::FlatWrite { .. } => ErrorCode::FlatWriteRefused,
        }
    }

    fn details(&self) -> Vec<Value> {
        match self {
            Self::CategoryCycle { category, parent } => {
                vec![json!({"field": "parent_id", "category": category, "parent": parent})]
            }
            Self::CategoryNotEmpty { category, children, products } => {
                vec![json!({"field": "id", "category": category, "children": children, "products": products})]
            }
            Self::FlatWrite { product, skus, field } => {
                vec![json!({"field": field, "product": product, "skus": skus})]
            }
        }
    }
}

impl StockConflict {
    const fn code(&self) -> ErrorCode {
        match self {
            Self::Insufficient { .. } => ErrorCode::InsufficientStock,
            Self::NotTracked { .. } => ErrorCode::StockNotTracked,
        }
    }

    fn details(&self) -> Vec<Value> {
        match self {
            Self::Insufficient { shortages } => shortages.iter().map(|s| json!(s)).collect(),
            Self::NotTracked { sku_id } => vec![json!({"field": "track_stock", "sku_id": sku_id})],
        }
    }
}

impl SalesConflict {
    const fn code(&self) -> ErrorCode {
        match self {
            Self::HasSales { .. } | Self::Kept { .. } => ErrorCode::HasSales,
            Self::PriceMismatch { .. } => ErrorCode::PriceMismatch,
            Self::OrderStatus { .. } => ErrorCode::OrderStatusConflict,
            Self::BillFrozen { .. } => ErrorCode::BillFrozen,
            Self::CartExpired { .. } => ErrorCode::CartExpired,
            Self::CartOrdered { .. } => ErrorCode::CartOrdered,
            Self::CartMerged { .. } => ErrorCode::CartMerged,
        }
    }

    fn details(&self) -> Vec<Value> {
        match self {
            Self::HasSales { entity, id } => vec![json!({"field": "force", "entity": entity, "id": id})],
            Self::Kept { entity, id } => vec![json!({"field": "id", "entity": entity, "id": id})],
            Self::PriceMismatch { prices, shortages } => {
                let prices = prices.iter().map(|p| {
                    let (expected, found) = (p.expected.amount(), p.found.amount());
                    json!({"field": p.field, "sku_id": p.sku_id, "expected": expected, "found": found})
                });
                prices.chain(shortages.iter().map(|s| json!(s))).collect()
            }
            Self::OrderStatus { order, status, required } => {
                vec![json!({"field": "status", "order": order, "status": status, "required": required})]
            }
            Self::BillFrozen { field, bill, number } => {
                vec![json!({"field": field, "bill": bill, "number": number})]
            }
            Self::CartExpired { cart } | Self::CartOrdered { cart } => vec![json!({"field": "id", "cart": cart})],
            Self::CartMerged { cart, into } => {
                vec![json!({"field": "id", "cart": cart, "merged_into": into})]
            }
        }
    }
}

impl PlatformConflict {
    const fn code(&self) -> ErrorCode {
        match self {
            Self::KeyReused { .. } => ErrorCode::IdempotencyKeyReused,
            Self::AnswerErased { .. } => ErrorCode::IdempotencyAnswerErased,
        }
    }

    fn details(&self) -> Vec<Value> {
        match self {
            Self::KeyReused { key } | Self::AnswerErased { key } => {
                vec![json!({"field": "Idempotency-Key", "key": key})]
            }
        }
    }
}

impl From<Conflict> for Error {
    fn from(c: Conflict) -> Self {
        Self::Conflict(Box::new(c))
    }
}

impl From<CatalogConflict> for Error {
    fn from(c: CatalogConflict) -> Self {
        Conflict::Catalog(c).into()
    }
}

impl From<StockConflict> for Error {
    fn from(c: StockConflict) -> Self {
        Conflict::Stock(c).into()
    }
}

impl From<SalesConflict> for Error {
    fn from(c: SalesConflict) -> Self {
        Conflict::Sales(c).into()
    }
}

impl From<PlatformConflict> for Error {
    fn from(c: PlatformConflict) -> Self {
        Conflict::Platform(c).into()
    }
}

/// A SKU of which too little is available.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Shortage {
    /// The id of the SKU.
    pub sku_id: Uuid,
    /// How many pieces the caller requested.
    pub requested: i64,
    /// How many pieces are available: on hand less reserved, and not below 0.
    pub available: i64,
}

/// A price that the buyer was shown and that is not the current one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PriceMismatch {
    /// The path of the price in the input, such as `lines[0].unit_price`.
    pub field: String,
    /// The id of the SKU.
    pub sku_id: Uuid,
    /// The current price of a unit.
    pub expected: Money,
    /// The price that the buyer was shown, as the request or the cart has it.
    pub found: Money,
}

impl Conflict {
    /// Returns the stable code for programs.
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::Version { .. } => ErrorCode::VersionConflict,
            Self::VersionRequired { .. } => ErrorCode::VersionRequired,
            Self::Duplicate { .. } => ErrorCode::Duplicate,
            Self::Catalog(c) => c.code(),
            Self::Stock(c) => c.code(),
            Self::Sales(c) => c.code(),
            Self::Platform(c) => c.code(),
            Self::CurrencyMismatch { .. } | Self::DatabaseCurrency { .. } => ErrorCode::CurrencyMismatch,
            Self::State { .. } => ErrorCode::StateConflict,
        }
    }

    /// Returns the details of the error for programs, as one object for each cause. In it, `field` is the field of the
    /// input that the caller changes to resolve the conflict. If no field of the input does that, it is the field of
    /// the row that stands in the way, such as `status`, or `id` for the row as a whole.
    pub fn details(&self) -> Vec<Value> {
        // Without a catch-all arm, a new conflict does not compile until it has details.
        match self {
            Self::Version { entity, id, expected, actual } => vec![json!({
                "field": "version", "entity": entity, "id": id, "expected": expected, "actual": actual,
            })],
            Self::VersionRequired { entity } => vec![json!({"field": "version", "entity": entity})],
            Self::Duplicate { entity, field, value } => {
                vec![json!({"field": field, "entity": entity, "value": value})]
            }
            Self::Catalog(c) => c.details(),
            Self::Stock(c) => c.details(),
            Self::Sales(c) => c.details(),
            Self::Platform(c) => c.details(),
            Self::DatabaseCurrency { database: expected, shop: found } | Self::CurrencyMismatch { expected, found } => {
                vec![json!({"field": "currency", "expected": expected, "found": found})]
            }
            Self::State { message } => vec![json!({"field": "id", "message": message})],
        }
    }
}

/// Displays an error with its causes, `message: cause: cause`, for logs. It omits a cause whose text the message before
/// it already contains, because many libraries put the text of a cause into their own message.
///
/// ```
/// let error = ecom_core::Error::internal("reading a file", "the disk is gone");
/// assert_eq!(ecom_core::WithCauses(&error).to_string(), "internal error: reading a file: the disk is gone");
/// ```
#[derive(Debug, Clone, Copy)]
pub struct WithCauses<'e>(pub &'e (dyn std::error::Error + 'e));

impl fmt::Display for WithCauses<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.0.to_string();
        let mut next = self.0.source();
        while let Some(cause) = next {
            let words = cause.to_string();
            if !text.contains(&words) {
                text.push_str(": ");
                text.push_str(&words);
            }
            next = cause.source();
        }
        f.write_str(&text)
    }
}

macro_rules! error_codes {
    ($($variant:ident = $text:literal, $meaning:literal;)*) => {
        /// The stable codes of [`Error`]. The table of the documentation is generated from this list.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum ErrorCode { $(#[doc = $meaning] $variant,)* }

        impl ErrorCode {
            /// Every code, in the order of the documentation.
            pub const ALL: &'static [ErrorCode] = &[$(Self::$variant),*];

            /// Returns the code as responses contain it.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),* }
            }

            /// Returns one line about what the code means and what the caller can do.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $meaning),* }
            }
        }
    };
}

error_codes! {
    BadRequest = "BAD_REQUEST",
        "The request cannot be parsed: it has malformed JSON, a malformed value, or an unknown field, parameter or \
         word.";
    Validation = "VALIDATION_FAILED", "At least one value is invalid; `details` has an entry for each such field.";
    Unauthenticated = "UNAUTHENTICATED", "The request requires a valid access token or API key in `Authorization: Bearer`: log in.";
    InvalidCredentials = "INVALID_CREDENTIALS",
        "The email address and password do not match a user who may log in, or the current password is wrong.";
    Forbidden = "FORBIDDEN", "The caller does not have the permission that the message names.";
    NotFound = "NOT_FOUND",
        "The resource does not exist, or it is soft-deleted; `include_deleted=true` shows soft-deleted ones.";
    MethodNotAllowed = "METHOD_NOT_ALLOWED",
        "The resource does not support this method; the header `Allow` lists those that it supports.";
    VersionConflict = "VERSION_CONFLICT",
        "The resource has changed since you read it: read it again, and repeat the change if it still applies.";
    VersionRequired = "VERSION_REQUIRED",
        "The write must name the version that you read: send it in `If-Match` or `version`.";
    Duplicate = "DUPLICATE", "Another live resource already has this value; `details` names the field.";
    CategoryCycle = "CATEGORY_CYCLE", "A category cannot move under itself or one of its descendants.";
    CategoryNotEmpty = "CATEGORY_NOT_EMPTY",
        "The category is in use: move or delete its child categories and products first.";
    HasSales = "HAS_SALES",
        "An order refers to the resource: delete it without `force`. If the shop keeps what was sold, keep a SKU in \
         `skus`, and set the product to `archived` to stop its sale.";
    InsufficientStock = "INSUFFICIENT_STOCK",
        "There is not enough stock; `details` names each such SKU and how many pieces are available.";
    StockNotTracked = "STOCK_NOT_TRACKED",
        "The SKU does not track its stock, so nothing moves it: set its `track_stock` to true first.";
    PriceMismatch = "PRICE_MISMATCH",
        "A price that the buyer was shown is not the current one; `details` has, for each such line, `expected` (the \
         current price) and `found` (the price in the request, or in the cart).";
    OrderStatusConflict = "ORDER_STATUS_CONFLICT",
        "The status of the order does not allow this step; `details` has the current status and the statuses in which \
         the step is possible.";
    BillFrozen = "BILL_FROZEN",
        "The bill can no longer be changed: it is a credit note, paid or void, or units of its lines were canceled. To \
         take units away, cancel them; to sell more, add lines.";
    CartExpired = "CART_EXPIRED", "The cart has expired: create another one.";
    CartOrdered = "CART_ORDERED",
        "The cart was already ordered, so it cannot be changed or deleted: create a new cart.";
    CartMerged = "CART_MERGED", "The cart was merged into another one, which `details` names: use that one.";
    FlatWriteRefused = "FLAT_WRITE_REFUSED",
        "The product has several SKUs, so a flat field is ambiguous: set it in `skus` or on a SKU.";
    IdempotencyKeyReused = "IDEMPOTENCY_KEY_REUSED",
        "An earlier request with this `Idempotency-Key` was another one: repeat that one, or send a new key.";
    IdempotencyAnswerErased = "IDEMPOTENCY_ANSWER_ERASED",
        "The request with this `Idempotency-Key` has run, and its response was erased with the data of a customer; it \
         does not run again: read the resource to see the result.";
    CurrencyMismatch = "CURRENCY_MISMATCH",
        "The amount is not in the currency of the shop: send all amounts in that currency.";
    StateConflict = "STATE_CONFLICT",
        "The state of the resource does not allow this step; the message gives the reason.";
    RequestTimeout = "REQUEST_TIMEOUT", "The body of the request did not arrive in time: send the request again.";
    PayloadTooLarge = "PAYLOAD_TOO_LARGE", "The body of the request exceeds the limit that the message names.";
    UriTooLong = "URI_TOO_LONG", "The path or the query string exceeds the limit: send fewer or shorter parameters.";
    HeadersTooLarge = "HEADERS_TOO_LARGE", "The headers exceed the limit: send fewer or shorter ones.";
    UnsupportedMediaType = "UNSUPPORTED_MEDIA_TYPE",
        "The body must be JSON in UTF-8: send it with `Content-Type: application/json`.";
    RateLimited = "RATE_LIMITED", "The caller sends too many requests: try again after `Retry-After` seconds.";
    Unsupported = "UNSUPPORTED", "The configured backend does not support this request.";
    Unavailable = "UNAVAILABLE", "A dependency is down or too slow: try again after `Retry-After` seconds.";
    Internal = "INTERNAL", "The server has a defect: report the `request_id` to its operator.";
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The reason why a field was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FieldCode {
    /// The field is required, and it is missing, empty or null.
    Required,
    /// The value cannot be read: it has the wrong type or bad syntax.
    Malformed,
    /// There is no such field or parameter.
    Unknown,
    /// The value can be read, but is out of bounds.
    OutOfBounds,
    /// The value refers to something that does not exist.
    ReferenceNotFound,
    /// The value names something that the shop does not sell at the moment.
    NotForSale,
    /// The value contradicts another field of the same request.
    Inconsistent,
}

impl FieldCode {
    /// Returns true if HTTP reports the error as a bad request (400), and false if as unprocessable content (422).
    pub const fn is_syntax(self) -> bool {
        matches!(self, Self::Malformed | Self::Unknown)
    }
}

/// A refused field of an input.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct FieldError {
    /// The path of the field in the input, such as `skus[0].price`.
    pub field: String,
    /// The reason, for programs.
    pub code: FieldCode,
    /// The reason, for people, and what would be valid. It completes a sentence that begins with the name of the field.
    pub message: String,
}

/// All refused fields of one input; never empty in an [`Error`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ValidationErrors(pub Vec<FieldError>);

impl ValidationErrors {
    /// Returns the error of one field.
    pub fn one(field: impl Into<String>, code: FieldCode, message: impl Into<String>) -> Self {
        let mut e = Self::default();
        e.push(field, code, message);
        e
    }

    /// Adds the error of a field. The message completes a sentence that begins with the name of the field.
    pub fn push(&mut self, field: impl Into<String>, code: FieldCode, message: impl Into<String>) {
        self.0.push(FieldError { field: field.into(), code, message: message.into() });
    }

    /// Adds the error of a field whose value is out of bounds. The message is as in [`Self::push`].
    pub fn out_of_bounds(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.push(field, FieldCode::OutOfBounds, message);
    }

    /// Adds an error unless the field is a name of 1 to 64 of the characters a-z, 0-9, `-` and `_`.
    pub(crate) fn check_name(&mut self, field: impl Into<String>, name: &str) {
        let is_plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
        if !(1..=64).contains(&name.len()) || !name.bytes().all(is_plain) {
            self.push(field, FieldCode::Malformed, "must be 1 to 64 of a-z, 0-9, - and _");
        }
    }

    /// Returns a part of an input that was checked by itself, or adds its errors, with `prefix` before each field, and
    /// returns `None`. A field that already has an error keeps that one alone.
    ///
    /// # Errors
    /// The other errors of `checked`.
    pub(crate) fn nested<T>(&mut self, prefix: &str, checked: Result<T>) -> Result<Option<T>> {
        let part = match checked {
            Ok(value) => return Ok(Some(value)),
            Err(Error::Validation(part)) => part,
            Err(other) => return Err(other),
        };
        let known = self.0.len();
        for e in part.0 {
            let field = format!("{prefix}{}", e.field);
            if self.0.iter().take(known).all(|own| own.field != field) {
                self.push(field, e.code, e.message);
            }
        }
        Ok(None)
    }

    /// Returns `Ok` if no field was refused.
    ///
    /// # Errors
    /// [`Error::Validation`] with the refused fields.
    pub fn into_result(self) -> Result<()> {
        if self.0.is_empty() { Ok(()) } else { Err(Error::Validation(self)) }
    }
}

impl fmt::Display for ValidationErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the input is not valid: ")?;
        for (i, e) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("; ")?;
            }
            write!(f, "{}: {}", e.field, e.message)?;
        }
        Ok(())
    }
}

impl std::error::Error for ValidationErrors {}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot read: {0}")]
    struct Unreadable(#[source] std::io::Error);

    #[test]
    fn r16_a_cause_is_shown_once() {
        let disk = || std::io::Error::other("the disk is gone");
        let error = Error::unavailable(Dependency::Database, Unreadable(disk()));
        assert_eq!(
            WithCauses(&error).to_string(),
            "the database is not available at the moment; try again: cannot read: the disk is gone"
        );
        assert_eq!(WithCauses(&disk()).to_string(), "the disk is gone");
        let conflict = Error::from(Conflict::State { message: "it is not deleted".to_owned() });
        assert_eq!(WithCauses(&conflict).to_string(), "it is not deleted");
    }

    #[test]
    fn r16_every_conflict_names_its_cause() {
        let (id, entity) = (Uuid::from_u128(7), Entity::Product);
        let shortage = Shortage { sku_id: id, requested: 2, available: 1 };
        let price = Money::from_minor(100, crate::money::Currency::USD);
        let field = "lines[0].unit_price".to_owned();
        let mismatch = PriceMismatch { field, sku_id: id, expected: price, found: price };
        for conflict in [
            Conflict::Version { entity, id, expected: 1, actual: 2 },
            Conflict::VersionRequired { entity },
            Conflict::Duplicate { entity, field: "slug", value: "lamp".to_owned() },
            CatalogConflict::CategoryCycle { category: id, parent: id }.into(),
            CatalogConflict::CategoryNotEmpty { category: id, children: 1, products: 0 }.into(),
            SalesConflict::HasSales { entity, id }.into(),
            SalesConflict::Kept { entity, id }.into(),
            SalesConflict::PriceMismatch { prices: vec![mismatch], shortages: Vec::new() }.into(),
            SalesConflict::BillFrozen { field: "discount".to_owned(), bill: id, number: "B-1".to_owned() }.into(),
            SalesConflict::CartExpired { cart: id }.into(),
            SalesConflict::CartOrdered { cart: id }.into(),
            SalesConflict::CartMerged { cart: id, into: id }.into(),
            StockConflict::Insufficient { shortages: vec![shortage] }.into(),
            StockConflict::NotTracked { sku_id: id }.into(),
            CatalogConflict::FlatWrite { product: id, skus: 2, field: "price" }.into(),
            PlatformConflict::KeyReused { key: "k-1".to_owned() }.into(),
            PlatformConflict::AnswerErased { key: "k-1".to_owned() }.into(),
            Conflict::CurrencyMismatch { expected: "USD".to_owned(), found: "JPY".to_owned() },
            Conflict::State { message: "it is not deleted".to_owned() },
        ] {
            let details = conflict.details();
            assert!(!details.is_empty(), "{conflict:?}");
            for detail in details {
                assert!(detail["field"].is_string() || detail["sku_id"].is_string(), "{conflict:?}: {detail}");
            }
        }
    }
}
