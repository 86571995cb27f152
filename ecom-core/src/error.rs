//! Typed errors (R16): every failure has a kind, a stable code and an answer to "may I retry?".
//!
//! No variant shows SQL, a path or a secret in its message; what a backend said is kept as a value in
//! [`std::error::Error::source`] for the log of the operator.

use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::domain::access::principal::Permission;
pub use crate::id::Entity;

/// What every fallible call of the library returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A boxed cause, kept as a value.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What the library depends on and what can be out of reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Dependency {
    /// The database behind [`crate::port::Storage`].
    Database,
    /// The index behind [`crate::port::SearchProvider`].
    Search,
    /// The cache behind [`crate::port::Cache`].
    Cache,
}

impl fmt::Display for Dependency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Database => "the database",
            Self::Search => "the search index",
            Self::Cache => "the cache",
        })
    }
}

/// Every failure of the library.
///
/// [`Error::code`] is the stable word for programs, the `Display` text is for people.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The thing that was named does not exist, or is soft-deleted and was not asked for (R2).
    #[error("{entity} `{key}` does not exist")]
    NotFound {
        /// What kind of thing.
        entity: Entity,
        /// The id, slug or code that was asked for.
        key: String,
    },
    /// The request is fine, but the state of the shop does not allow it.
    #[error(transparent)]
    Conflict(Box<Conflict>),
    /// The input breaks a rule; every bad field is named (R17).
    #[error(transparent)]
    Validation(#[from] ValidationErrors),
    /// The principal may not do this.
    #[error("this needs the permission `{permission}`")]
    Forbidden {
        /// The permission that is missing.
        permission: Permission,
    },
    /// Nobody is logged in, and somebody must be.
    #[error("authentication is required")]
    Unauthenticated,
    /// Too many calls.
    #[error("too many requests; try again in {} s", retry_after.as_secs().max(1))]
    RateLimited {
        /// When a retry makes sense.
        retry_after: Duration,
    },
    /// A dependency is out of reach or too slow; the same call may work later.
    #[error("{dependency} is not available at the moment; try again")]
    Unavailable {
        /// Which one.
        dependency: Dependency,
        /// True where a write was sent and its answer was lost: it may or may not have happened.
        outcome_unknown: bool,
        /// What the client library said.
        #[source]
        source: Option<BoxError>,
    },
    /// Another transaction was in the way: a deadlock, a serialization failure, a lock that did not come free in time.
    /// The transaction is certainly aborted and nothing was written. Services have tried their own writes again by
    /// the time they say so; a unit of work of the host's is for the host to run again, from its start.
    #[error("another write was in the way; try again")]
    Contention {
        /// What the client library said.
        #[source]
        source: Option<BoxError>,
    },
    /// The chosen backend cannot do this; its capabilities say so.
    #[error("{provider} cannot do this: {capability}")]
    Unsupported {
        /// The backend.
        provider: &'static str,
        /// What was asked of it.
        capability: &'static str,
    },
    /// A defect or a broken environment; the source says which.
    #[error("internal error: {context}")]
    Internal {
        /// What was being done, in words without data.
        context: &'static str,
        /// What went wrong underneath.
        #[source]
        source: Option<BoxError>,
    },
}

impl Error {
    /// `NotFound` of `entity` by the `key` that the caller used.
    pub fn not_found(entity: Entity, key: impl fmt::Display) -> Self {
        Self::NotFound { entity, key: key.to_string() }
    }

    /// `Internal` with a cause.
    pub fn internal(context: &'static str, source: impl Into<BoxError>) -> Self {
        Self::Internal { context, source: Some(source.into()) }
    }

    /// `Unavailable` whose outcome is certain: nothing was written.
    pub fn unavailable(dependency: Dependency, source: impl Into<BoxError>) -> Self {
        Self::Unavailable { dependency, outcome_unknown: false, source: Some(source.into()) }
    }

    /// One bad field.
    pub fn invalid(field: impl Into<String>, code: FieldCode, message: impl Into<String>) -> Self {
        Self::Validation(ValidationErrors::one(field, code, message))
    }

    /// The stable code for programs, e.g. `VERSION_CONFLICT`.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::NotFound { .. } => ErrorCode::NotFound,
            Self::Conflict(c) => c.code(),
            Self::Validation(_) => ErrorCode::Validation,
            Self::Forbidden { .. } => ErrorCode::Forbidden,
            Self::Unauthenticated => ErrorCode::Unauthenticated,
            Self::RateLimited { .. } => ErrorCode::RateLimited,
            Self::Unavailable { .. } | Self::Contention { .. } => ErrorCode::Unavailable,
            Self::Unsupported { .. } => ErrorCode::Unsupported,
            Self::Internal { .. } => ErrorCode::Internal,
        }
    }

    /// True where the same call may succeed later without any change.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Contention { .. } | Self::RateLimited { .. })
    }

    /// True where another transaction was in the way and this one is certainly aborted: the same unit of work, run
    /// again from its start, may succeed at once.
    pub const fn is_contention(&self) -> bool {
        matches!(self, Self::Contention { .. })
    }

    /// True where a write may have happened although the call failed: read before you retry.
    pub fn outcome_unknown(&self) -> bool {
        matches!(self, Self::Unavailable { outcome_unknown: true, .. })
    }
}

/// Why the state of the shop does not allow a write. Each has its own [`ErrorCode`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Conflict {
    /// The row has moved on since the caller read it (R1).
    #[error(
        "{entity} {id} was changed by somebody else: you read version {expected}, it is now at {actual}; read it again"
    )]
    Version {
        /// What kind of row.
        entity: Entity,
        /// Which row.
        id: Uuid,
        /// The version that the caller read.
        expected: i64,
        /// The version of the row now.
        actual: i64,
    },
    /// A write must say which version it read (R1).
    #[error("say which version of the {entity} you read: send If-Match or `version`")]
    VersionRequired {
        /// What kind of row.
        entity: Entity,
    },
    /// A name, slug or code is taken by another live row.
    #[error("another {entity} has the {field} `{value}`")]
    Duplicate {
        /// What kind of row.
        entity: Entity,
        /// Which field of it.
        field: &'static str,
        /// The value that is taken.
        value: String,
    },
    /// A rule of the catalog.
    #[error(transparent)]
    Catalog(#[from] CatalogConflict),
    /// A rule of stock.
    #[error(transparent)]
    Stock(#[from] StockConflict),
    /// A rule of sales.
    #[error(transparent)]
    Sales(#[from] SalesConflict),
    /// The amount is in another currency than the shop's.
    #[error("the shop sells in {expected}, not in {found}")]
    CurrencyMismatch {
        /// The shop's currency.
        expected: String,
        /// The currency that was sent.
        found: String,
    },
    /// The database keeps prices in another currency than the shop is configured for.
    #[error(
        "the shop sells in {shop}, but this database was made for {database}: configure the shop for {database}, or use \
         another database"
    )]
    DatabaseCurrency {
        /// The currency of the database.
        database: String,
        /// The currency that the shop is configured for.
        shop: String,
    },
    /// A restore or another step that the state of the row does not allow.
    #[error("{message}")]
    State {
        /// What is not possible and what to do first.
        message: String,
    },
}

/// Why the state of the catalog does not allow a write.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CatalogConflict {
    /// A category cannot move under itself or a descendant (R3).
    #[error("category {category} cannot move under {parent}, which is itself or below it")]
    CategoryCycle {
        /// The category to move.
        category: Uuid,
        /// The parent that was asked for.
        parent: Uuid,
    },
    /// A category that is in use is not deleted (R4).
    #[error("category {category} is in use: {children} child categories and {products} products refer to it")]
    CategoryNotEmpty {
        /// Which category.
        category: Uuid,
        /// Child categories that count for this kind of delete.
        children: u64,
        /// Products that count for this kind of delete.
        products: u64,
    },
    /// A flat write (price, stock, sku …) to a product with several SKUs.
    #[error("product {product} has {skus} SKUs: write `skus`, or the SKU itself, in place of `{field}`")]
    FlatWrite {
        /// The product.
        product: Uuid,
        /// How many live SKUs it has.
        skus: usize,
        /// The first flat field that was sent.
        field: &'static str,
    },
}

/// Why the stock does not allow a write.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StockConflict {
    /// There is not enough stock; every short SKU is named.
    #[error("not enough stock for {} of the SKUs", shortages.len())]
    Insufficient {
        /// One row per short SKU.
        shortages: Vec<Shortage>,
    },
}

/// Why what was sold does not allow a write.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SalesConflict {
    /// An order refers to the row, so that it cannot be deleted for good (R5).
    #[error("{entity} {id} is used by an order and cannot be deleted for good")]
    HasSales {
        /// What kind of row.
        entity: Entity,
        /// Which row.
        id: Uuid,
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
        }
    }

    fn details(&self) -> Vec<Value> {
        match self {
            Self::Insufficient { shortages } => shortages.iter().map(|s| json!(s)).collect(),
        }
    }
}

impl SalesConflict {
    const fn code(&self) -> ErrorCode {
        match self {
            Self::HasSales { .. } => ErrorCode::HasSales,
        }
    }

    fn details(&self) -> Vec<Value> {
        match self {
            Self::HasSales { entity, id } => vec![json!({"field": "force", "entity": entity, "id": id})],
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

/// One SKU of which too little is available.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Shortage {
    /// Which SKU.
    pub sku_id: Uuid,
    /// How many pieces were asked for.
    pub requested: i64,
    /// How many pieces are available: on hand less reserved, and not below 0.
    pub available: i64,
}

impl Conflict {
    /// The stable code for programs.
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::Version { .. } => ErrorCode::VersionConflict,
            Self::VersionRequired { .. } => ErrorCode::VersionRequired,
            Self::Duplicate { .. } => ErrorCode::Duplicate,
            Self::Catalog(c) => c.code(),
            Self::Stock(c) => c.code(),
            Self::Sales(c) => c.code(),
            Self::CurrencyMismatch { .. } | Self::DatabaseCurrency { .. } => ErrorCode::CurrencyMismatch,
            Self::State { .. } => ErrorCode::StateConflict,
        }
    }

    /// Returns what the error says for programs: an object per thing that is to blame. A `field` is the field of the
    /// input that the caller changes to resolve the conflict.
    pub fn details(&self) -> Vec<Value> {
        // No catch-all: a new conflict says here what it has to say.
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
            Self::DatabaseCurrency { database: expected, shop: found } | Self::CurrencyMismatch { expected, found } => {
                vec![json!({"field": "currency", "expected": expected, "found": found})]
            }
            Self::State { message } => vec![json!({"field": "id", "message": message})],
        }
    }
}

/// An error with its causes, `message: cause: cause`, for logs. A cause that the text before it holds already is left out:
/// many libraries put the text of a cause into their own message.
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
        /// The stable codes of [`Error`]: the one list that the documentation's table is made from.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum ErrorCode { $(#[doc = $meaning] $variant,)* }

        impl ErrorCode {
            /// Every code, in the order of the documentation.
            pub const ALL: &'static [ErrorCode] = &[$(Self::$variant),*];

            /// The word on the wire.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),* }
            }

            /// What it means and what the caller does about it, in one line.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $meaning),* }
            }
        }
    };
}

error_codes! {
    BadRequest = "BAD_REQUEST", "The request cannot be parsed: malformed JSON, a malformed id, an unknown field or parameter.";
    Validation = "VALIDATION_FAILED", "A value is out of bounds; `details` names each field.";
    Unauthenticated = "UNAUTHENTICATED", "Log in first.";
    Forbidden = "FORBIDDEN", "The permission named in the message is missing.";
    NotFound = "NOT_FOUND", "It does not exist, or is deleted; list with `include_deleted` to see it.";
    MethodNotAllowed = "METHOD_NOT_ALLOWED", "The resource exists, the method does not; `Allow` lists those that do.";
    NotAcceptable = "NOT_ACCEPTABLE", "The representation asked for is not offered.";
    VersionConflict = "VERSION_CONFLICT", "Somebody else changed it since you read it; read it again and decide.";
    VersionRequired = "VERSION_REQUIRED", "Send If-Match or `version` with the version that you read.";
    Duplicate = "DUPLICATE", "Another live row has this value; `details` names the field.";
    CategoryCycle = "CATEGORY_CYCLE", "A category cannot move under itself or a descendant.";
    CategoryNotEmpty = "CATEGORY_NOT_EMPTY", "Move or delete its children and products first.";
    HasSales = "HAS_SALES", "An order refers to it: delete it without `force`.";
    InsufficientStock = "INSUFFICIENT_STOCK", "`details` names each short SKU with what is available.";
    FlatWriteRefused = "FLAT_WRITE_REFUSED", "The product has several SKUs: write `skus` or the SKU itself.";
    CurrencyMismatch = "CURRENCY_MISMATCH", "The shop has one currency; send amounts in it.";
    StateConflict = "STATE_CONFLICT", "The state of the row does not allow this step; the message says why.";
    RequestTimeout = "REQUEST_TIMEOUT", "The body did not arrive in time; send the request again.";
    PayloadTooLarge = "PAYLOAD_TOO_LARGE", "The body is over the limit.";
    UriTooLong = "URI_TOO_LONG", "The path or the query string is over the limit; send fewer or shorter parameters.";
    HeadersTooLarge = "HEADERS_TOO_LARGE", "The headers are over the limit; send fewer or shorter ones.";
    UnsupportedMediaType = "UNSUPPORTED_MEDIA_TYPE", "Send `Content-Type: application/json`, in UTF-8.";
    RateLimited = "RATE_LIMITED", "Wait for `Retry-After` seconds.";
    Unsupported = "UNSUPPORTED", "The chosen backend cannot do this.";
    Unavailable = "UNAVAILABLE", "A dependency is down or slow; retry after `Retry-After` seconds.";
    Internal = "INTERNAL", "A defect; tell the operator the `request_id`.";
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a field was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FieldCode {
    /// It is missing.
    Required,
    /// It cannot be read at all: wrong type, bad syntax.
    Malformed,
    /// There is no such field or parameter.
    Unknown,
    /// It is read, and outside its bounds.
    OutOfBounds,
    /// It names something that does not exist.
    ReferenceNotFound,
    /// It does not go with another field of the same request.
    Inconsistent,
}

impl FieldCode {
    /// True for what HTTP calls a bad request (400) in place of an unprocessable one (422).
    pub const fn is_syntax(self) -> bool {
        matches!(self, Self::Malformed | Self::Unknown)
    }
}

/// One refused field.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct FieldError {
    /// Its path in the input: `skus[0].price`.
    pub field: String,
    /// Why, for programs.
    pub code: FieldCode,
    /// Why, for people, and what would be right.
    pub message: String,
}

/// All refused fields of one input; never empty when returned.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ValidationErrors(pub Vec<FieldError>);

impl ValidationErrors {
    /// With one field.
    pub fn one(field: impl Into<String>, code: FieldCode, message: impl Into<String>) -> Self {
        let mut e = Self::default();
        e.push(field, code, message);
        e
    }

    /// Adds a field.
    pub fn push(&mut self, field: impl Into<String>, code: FieldCode, message: impl Into<String>) {
        self.0.push(FieldError { field: field.into(), code, message: message.into() });
    }

    /// Adds an out-of-bounds field.
    pub fn out_of_bounds(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.push(field, FieldCode::OutOfBounds, message);
    }

    /// `Ok` where nothing was refused.
    ///
    /// # Errors
    /// Itself, as [`Error::Validation`].
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
    struct Wrapped(#[source] std::io::Error);

    #[test]
    fn r16_a_cause_is_shown_once() {
        let disk = || std::io::Error::other("the disk is gone");
        let error = Error::unavailable(Dependency::Database, Wrapped(disk()));
        assert_eq!(
            WithCauses(&error).to_string(),
            "the database is not available at the moment; try again: cannot read: the disk is gone"
        );
        assert_eq!(WithCauses(&disk()).to_string(), "the disk is gone");
        let conflict = Error::from(Conflict::State { message: "it is not deleted".to_owned() });
        assert_eq!(WithCauses(&conflict).to_string(), "it is not deleted");
    }

    #[test]
    fn r16_every_conflict_says_what_is_to_blame() {
        let (id, entity) = (Uuid::from_u128(7), Entity::Product);
        let shortage = Shortage { sku_id: id, requested: 2, available: 1 };
        for conflict in [
            Conflict::Version { entity, id, expected: 1, actual: 2 },
            Conflict::VersionRequired { entity },
            Conflict::Duplicate { entity, field: "slug", value: "lamp".to_owned() },
            CatalogConflict::CategoryCycle { category: id, parent: id }.into(),
            CatalogConflict::CategoryNotEmpty { category: id, children: 1, products: 0 }.into(),
            SalesConflict::HasSales { entity, id }.into(),
            StockConflict::Insufficient { shortages: vec![shortage] }.into(),
            CatalogConflict::FlatWrite { product: id, skus: 2, field: "price" }.into(),
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
