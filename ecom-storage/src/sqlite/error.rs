//! The errors of SQLite.

use rusqlite::ffi;

use crate::sql::TABLES;
use crate::sql::engine::error::{DbError, Kind};

/// Classifies the error of a statement.
pub(crate) fn classify(e: rusqlite::Error) -> DbError {
    let kind = e.sqlite_error().map_or(Kind::Other, |code| kind(code.extended_code, &e.to_string()));
    DbError { kind, source: e.into() }
}

/// Classifies the error of a statement on a host's connection of sqlx.
pub(crate) fn classify_sqlx(e: sqlx::Error) -> DbError {
    let kind = match &e {
        sqlx::Error::Database(inner) => {
            let code = inner.code().and_then(|code| code.parse().ok()).unwrap_or(ffi::SQLITE_ERROR);
            kind(code, inner.message())
        }
        sqlx::Error::Io(_) | sqlx::Error::WorkerCrashed => Kind::Lost,
        _ => Kind::Other,
    };
    DbError { kind, source: e.into() }
}

/// Classifies an extended result code and its message.
fn kind(code: i32, message: &str) -> Kind {
    match code {
        ffi::SQLITE_CONSTRAINT_UNIQUE | ffi::SQLITE_CONSTRAINT_PRIMARYKEY => Kind::Unique(constraint(message)),
        // `ON DELETE RESTRICT` refuses a statement as a trigger would.
        ffi::SQLITE_CONSTRAINT_FOREIGNKEY | ffi::SQLITE_CONSTRAINT_TRIGGER => Kind::ForeignKey(String::new()),
        ffi::SQLITE_CONSTRAINT_CHECK => Kind::Check(constraint(message)),
        _ => match code & 0xff {
            // Nothing was written.
            ffi::SQLITE_BUSY | ffi::SQLITE_LOCKED | ffi::SQLITE_INTERRUPT | ffi::SQLITE_FULL | ffi::SQLITE_PROTOCOL => {
                Kind::Unavailable
            }
            // The outcome is not known.
            ffi::SQLITE_IOERR => Kind::Lost,
            ffi::SQLITE_CANTOPEN => Kind::Setup(
                "names a file that cannot be opened: it must not be a directory, and this process must be allowed to \
                 read and write it and to create files in its directory",
            ),
            ffi::SQLITE_PERM | ffi::SQLITE_READONLY | ffi::SQLITE_AUTH => Kind::Setup(
                "names a file that this process cannot write to: grant the permission, or name another file",
            ),
            ffi::SQLITE_NOTADB => {
                Kind::Damaged("names a file that is not an SQLite database: name another file, or move this one away")
            }
            ffi::SQLITE_CORRUPT => Kind::Damaged("names a database that is damaged: restore it from a backup"),
            _ => Kind::Other,
        },
    }
}

/// Returns the name of the constraint in `UNIQUE constraint failed: products.slug`. SQLite names an index only if it
/// has expressions, and its columns otherwise.
fn constraint(message: &str) -> String {
    let what = message.split_once("constraint failed: ").map_or("", |(_, w)| w);
    if let Some(name) = what.strip_prefix("index '").and_then(|o| o.strip_suffix('\'')) {
        return name.to_owned();
    }
    let is_it = |table: &str, columns: &[&str]| what.split(", ").eq(columns.iter().map(|c| format!("{table}.{c}")));
    let index = TABLES.iter().flat_map(|t| t.indexes().into_iter().filter(|i| is_it(t.name(), i.columns))).next();
    index.map_or(what, |i| i.name).to_owned()
}
