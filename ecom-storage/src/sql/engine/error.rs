//! What databases say when a statement fails, and what the library makes of it.

use ecom_core::sales::SalesConflict;
use ecom_core::{Dependency, Entity, Error, FieldCode};
use uuid::Uuid;

use crate::sql::TABLES;
use crate::sql::engine::columns::{Index, duplicate};

/// Why a statement failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A unique index refused it; its name.
    Unique(String),
    /// A foreign key refused it.
    ForeignKey,
    /// A check refused it; its name where the database says one.
    Check(String),
    /// Another transaction is in the way, and this one is certainly aborted: a retry at once may help.
    Contention,
    /// The server is out of reach or has no room; a retry may help and nothing was written.
    Unavailable,
    /// As `Unavailable`, but where it was a commit it may have taken effect.
    Lost,
    /// The server does not let us in or lacks the database; what is to be done about it.
    Setup(&'static str),
    /// A defect.
    Other,
}

/// A statement failed.
#[derive(Debug, thiserror::Error)]
#[error("a statement failed")]
pub struct DbError {
    /// Why.
    pub kind: Kind,
    /// What the driver said.
    #[source]
    pub source: sqlx::Error,
}

pub type DbResult<T> = Result<T, DbError>;

/// The unique index of this name, of whatever table.
fn known_index(name: &str) -> Option<Index> {
    TABLES.iter().flat_map(|t| t.indexes()).find(|i| i.name == name)
}

impl DbError {
    /// True where a named check refused it.
    pub fn is_check(&self, name: &str) -> bool {
        matches!(&self.kind, Kind::Check(n) if n == name)
    }

    /// As the library's error, where the shop is only being opened: what the settings got wrong is said so.
    pub fn at_start(self) -> Error {
        match self.kind {
            Kind::Setup(message) => Error::invalid("database", FieldCode::OutOfBounds, message),
            _ => self.into(),
        }
    }

    /// True where the transaction can go on: a constraint refused the statement and nothing else happened.
    pub fn is_refusal(&self) -> bool {
        matches!(self.kind, Kind::Unique(_) | Kind::ForeignKey | Kind::Check(_))
    }

    /// As the library's error, of a commit: it may have happened where its answer was lost.
    pub fn or_unknown(self) -> Error {
        if self.kind != Kind::Lost {
            return self.into();
        }
        Error::Unavailable { dependency: Dependency::Database, outcome_unknown: true, source: Some(self.source.into()) }
    }

    /// As the library's error, of a delete: a foreign key that refuses means that an order line refers to the row (R5).
    pub fn or_has_sales(self, entity: Entity, id: Uuid) -> Error {
        if self.kind == Kind::ForeignKey { SalesConflict::HasSales { entity, id }.into() } else { self.into() }
    }
}

/// The error for a `field` that refers to a row that does not exist.
pub fn gone(field: &'static str, key: &str) -> Error {
    Error::invalid(field, FieldCode::ReferenceNotFound, format!("`{key}` does not exist"))
}

impl From<DbError> for Error {
    fn from(e: DbError) -> Self {
        if let Kind::Unique(name) = &e.kind
            && let Some(index) = known_index(name)
        {
            return duplicate(index.entity, index.field, None);
        }
        match e.kind {
            Kind::Contention => Self::Contention { source: Some(e.source.into()) },
            // Writes take effect with their commit, which asks `or_unknown`.
            Kind::Unavailable | Kind::Lost | Kind::Setup(_) => Self::unavailable(Dependency::Database, e.source),
            Kind::Unique(_) | Kind::ForeignKey | Kind::Check(_) | Kind::Other => {
                Self::internal("running a statement", e.source)
            }
        }
    }
}
