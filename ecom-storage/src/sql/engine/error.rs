//! The errors of statements, and their conversion into the errors of the library.

use ecom_core::metrics;
use ecom_core::sales::SalesConflict;
use ecom_core::{BoxError, Dependency, Entity, Error, FieldCode};
use uuid::Uuid;

use crate::sql::TABLES;
use crate::sql::engine::columns::{Index, duplicate};
use crate::sql::engine::dialect::Dialect;

/// The reason why a statement failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A unique index refused a row. Contains the name of the index.
    Unique(String),
    /// A foreign key refused the statement. Contains its name, if the database reports one.
    ForeignKey(String),
    /// A check refused a row. Contains the name of the check, if the database reports one.
    Check(String),
    /// Another transaction conflicts, and this one is certainly aborted. An immediate retry may succeed.
    Contention,
    /// The server cannot be reached or has no space. Nothing was written, and a retry may succeed.
    Unavailable,
    /// As `Unavailable`, because the server is read-only: it may have become a standby or replica.
    #[cfg(any(feature = "postgres", feature = "mysql"))]
    ReadOnly,
    /// As `Unavailable`, but if the statement was a commit, it may have taken effect.
    Lost,
    /// The database does not let the shop in, or not write. Contains a message for the setting that names the database,
    /// which says what to do.
    Setup(&'static str),
    /// The file of the database is damaged. Contains such a message too. Other statements may succeed.
    Damaged(&'static str),
    /// Any other failure, which is a defect.
    Other,
}

/// A statement failed.
#[derive(Debug, thiserror::Error)]
#[error("a statement failed")]
pub struct DbError {
    /// The reason.
    pub kind: Kind,
    /// The error of the driver.
    #[source]
    pub source: BoxError,
}

pub type DbResult<T> = Result<T, DbError>;

/// The error of a driver, with the advice of [`Kind::Setup`].
#[derive(Debug, thiserror::Error)]
#[error("the setting of the database {advice}")]
struct Advised {
    advice: &'static str,
    #[source]
    source: BoxError,
}

/// Returns the unique index of this name, of whatever table.
fn known_index(name: &str) -> Option<Index> {
    TABLES.iter().flat_map(|t| t.indexes()).find(|i| i.name == name)
}

impl DbError {
    /// Returns whether the check of this name refused the statement.
    pub fn is_check(&self, name: &str) -> bool {
        matches!(&self.kind, Kind::Check(n) if n == name)
    }

    /// Returns the library's error for a failure while the shop is being opened: wrong settings are reported as such.
    pub fn at_start(self) -> Error {
        match self.kind {
            Kind::Setup(message) | Kind::Damaged(message) => {
                Error::invalid("database", FieldCode::OutOfBounds, message)
            }
            _ => self.into(),
        }
    }

    /// Returns whether the transaction can go on, because a constraint refused the statement and nothing else happened.
    pub fn is_refusal(&self) -> bool {
        matches!(self.kind, Kind::Unique(_) | Kind::ForeignKey(_) | Kind::Check(_))
    }

    /// Counts the error if another transaction was in the way.
    pub fn count(&self, dialect: &Dialect) {
        if self.kind != Kind::Contention {
            return;
        }
        let code = match self.source.downcast_ref::<sqlx::Error>() {
            Some(sqlx::Error::Database(e)) => e.code(),
            _ => None,
        };
        // MySQL reports the standard code of a serialization failure for a deadlock, and none for a lock timeout.
        let reason = match (dialect.name, code.as_deref()) {
            (_, Some("40P01")) | ("mysql", Some("40001")) => "deadlock",
            (_, Some("40001")) => "serialization",
            (_, Some("55P03" | "HY000")) => "lock_timeout",
            _ => "other",
        };
        metrics::count(metrics::DB_CONFLICTS_TOTAL, &[("reason", reason)], 1);
    }

    /// Returns the library's error for a failed commit. If the answer was lost, the commit may have happened.
    pub fn or_unknown(self) -> Error {
        if self.kind != Kind::Lost {
            return self.into();
        }
        Error::Unavailable { dependency: Dependency::Database, outcome_unknown: true, source: Some(self.source) }
    }

    /// Returns the library's error for a failed delete. If a foreign key refused it, an order or a line of one refers to
    /// the row (R5), or a cart does since its lines were deleted: then the delete is tried again.
    pub fn or_has_sales(self, entity: Entity, id: Uuid) -> Error {
        match &self.kind {
            Kind::ForeignKey(name) if name.starts_with("cart") => Error::Contention { source: Some(self.source) },
            Kind::ForeignKey(_) => SalesConflict::HasSales { entity, id }.into(),
            _ => self.into(),
        }
    }
}

/// Returns the error for a `field` that refers to a row that does not exist.
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
            Kind::Contention => Self::Contention { source: Some(e.source) },
            // The outcome is known, because writes take effect with their commit, for which `or_unknown` is used.
            Kind::Unavailable | Kind::Lost => Self::unavailable(Dependency::Database, e.source),
            #[cfg(any(feature = "postgres", feature = "mysql"))]
            Kind::ReadOnly => {
                let advice = "leads to a server that is read-only: let it lead to the server that writes";
                Self::unavailable(Dependency::Database, Advised { advice, source: e.source })
            }
            Kind::Setup(advice) => Self::unavailable(Dependency::Database, Advised { advice, source: e.source }),
            Kind::Damaged(_) => {
                Self::internal("using a database whose file is damaged: restore it from a backup", e.source)
            }
            Kind::Unique(_) | Kind::ForeignKey(_) | Kind::Check(_) | Kind::Other => {
                Self::internal("running a statement", e.source)
            }
        }
    }
}
