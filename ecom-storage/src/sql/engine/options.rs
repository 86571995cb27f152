//! The options with which a storage opens a database behind a server.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ecom_core::clock::{SharedClock, SystemClock};
use ecom_core::id::{IdSource, UuidV7Source};
use ecom_core::{Error, FieldCode, Result};

use crate::parameter_shown;
use crate::sql::engine::dialect::Dialect;
use crate::sql::engine::pool::Opener;

/// The options of a PostgreSQL, MySQL or MariaDB database.
///
/// Connections are opened when they are needed, and they stay open. Every wait has a time limit: the wait for a
/// connection, for a statement, and for the lock of another transaction. The clock of this process measures them.
#[derive(Clone)]
pub struct ServerOptions {
    pub(super) dialect: &'static Dialect,
    pub(super) opener: Opener,
    pub(super) direct: Option<Opener>,
    /// The maximum number of connections of this process. Default 50.
    pub max_connections: usize,
    /// The time for which a caller waits for a connection of the pool. Default 10 s.
    pub acquire_timeout: Duration,
    /// The time after which this process gives up a statement and closes its connection. Default 5 s. The server ends
    /// the wait for a lock after 80 % of this time (MySQL and MariaDB count whole seconds), and a statement after 90 %,
    /// so that it reports them first and the connection survives. Migrations have no such limit.
    pub statement_timeout: Duration,
    /// The age at which a connection is replaced. Default one hour.
    pub max_lifetime: Duration,
    /// Whether the database is behind a pooler that assigns a server connection to each transaction. Such a pooler does
    /// not preserve the settings of a session, so the shop does not set any, and the role or the pooler must set them
    /// as docs/production.md describes.
    pub transaction_pooler: bool,
    /// The clock.
    pub clock: SharedClock,
    /// The source of the id that identifies the database.
    pub ids: Arc<dyn IdSource>,
}

impl fmt::Debug for ServerOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerOptions")
            .field("database", &self.dialect.name)
            .field("max_connections", &self.max_connections)
            .finish_non_exhaustive()
    }
}

/// Reads the URL of a server. Returns the dialect of its database and the way to open connections.
fn read_url(field: &'static str, url: &str) -> Result<(&'static Dialect, Opener)> {
    // The error must not show the URL. The driver's message may, so it is left out.
    let bad = |_: sqlx::Error| {
        Error::invalid(
            field,
            FieldCode::Malformed,
            "must be a valid URL: `<database>://<user>:<password>@<host>/<name>`",
        )
    };
    match url.split_once(':').map_or("", |(s, _)| s) {
        #[cfg(feature = "postgres")]
        "postgres" | "postgresql" => {
            known(field, url, &crate::postgres::PARAMETERS)?;
            let options = crate::postgres::options(url).map_err(bad)?;
            options.get_database().ok_or_else(|| unnamed(field))?;
            Ok((&crate::postgres::DIALECT, Opener::Postgres(Box::new(options))))
        }
        #[cfg(feature = "mysql")]
        "mysql" | "mariadb" => {
            known(field, url, &crate::mysql::PARAMETERS)?;
            let (options, kept) = crate::mysql::options(url).map_err(bad)?;
            options.get_database().ok_or_else(|| unnamed(field))?;
            Ok((&crate::mysql::DIALECT, Opener::MySql { options: Box::new(options), kept, limit: None }))
        }
        _ => Err(Error::invalid(
            field,
            FieldCode::OutOfBounds,
            "must start with `postgres:` or `mysql:`, and the feature of that database must be turned on",
        )),
    }
}

/// The URL parameters that every server has.
const PARAMETERS: [&str; 8] =
    ["sslmode", "ssl-mode", "ssl-ca", "sslcert", "ssl-cert", "sslkey", "ssl-key", "statement-cache-capacity"];

/// Refuses unknown parameters, which the drivers would ignore, or log with their values. `own` are the parameters of
/// this server.
fn known(field: &'static str, url: &str, own: &[&str]) -> Result<()> {
    let parameters = [&PARAMETERS, own].concat();
    let query = url.split_once('?').map_or("", |(_, query)| query);
    for name in query.split('&').filter_map(|pair| pair.split('=').next()).filter(|name| !name.is_empty()) {
        // `options[name]=value` sets one of PostgreSQL's own parameters.
        let is = |p: &str| name == p || p.strip_suffix(']').is_some_and(|p| name.starts_with(p));
        if !parameters.iter().any(|p| is(p)) {
            let all = parameters.join("`, `");
            let message = format!("has the unknown parameter `{}`; the known ones are `{all}`", parameter_shown(name));
            return Err(Error::invalid(field, FieldCode::Unknown, message));
        }
    }
    Ok(())
}

fn unnamed(field: &'static str) -> Error {
    Error::invalid(field, FieldCode::Required, "must end with the name of a database: `…://<user>@<host>/<name>`")
}

impl ServerOptions {
    /// Returns the options for a URL: `postgres://user:password@host:port/database` or `mysql://…`, with parameters of
    /// the drivers (`sslmode`, `sslrootcert` …) and with `pooler=transaction` for [`Self::transaction_pooler`].
    ///
    /// # Errors
    /// `Validation` on field `database`.
    pub fn from_url(url: &str) -> Result<Self> {
        let (url, transaction_pooler) = without_pooler(url)?;
        let (dialect, opener) = read_url("database", &url)?;
        let clock: SharedClock = Arc::new(SystemClock);
        Ok(Self {
            dialect,
            opener,
            direct: None,
            max_connections: 50,
            acquire_timeout: Duration::from_secs(10),
            statement_timeout: Duration::from_secs(5),
            max_lifetime: Duration::from_secs(3600),
            transaction_pooler,
            ids: Arc::new(UuidV7Source::new(clock.clone())),
            clock,
        })
    }

    /// Sets the URL for migrations, which bypasses a pooler in front of the database.
    ///
    /// # Errors
    /// `Validation` on field `database_direct`.
    pub fn with_direct_url(mut self, url: &str) -> Result<Self> {
        let (dialect, opener) = read_url("database_direct", url)?;
        if dialect.slot != self.dialect.slot {
            return Err(Error::invalid(
                "database_direct",
                FieldCode::OutOfBounds,
                "must lead to the same database as `database`",
            ));
        }
        self.direct = Some(opener);
        Ok(self)
    }
}

/// Removes our own parameter, which the drivers do not know, from a URL.
fn without_pooler(url: &str) -> Result<(String, bool)> {
    let Some((head, query)) = url.split_once('?') else { return Ok((url.to_owned(), false)) };
    let mut found = false;
    let mut rest = Vec::new();
    for pair in query.split('&') {
        match pair.split_once('=') {
            Some(("pooler", "transaction")) => found = true,
            Some(("pooler", _)) => {
                return Err(Error::invalid(
                    "database",
                    FieldCode::OutOfBounds,
                    "must have the value `transaction` for the parameter `pooler`, or no such parameter",
                ));
            }
            _ => rest.push(pair),
        }
    }
    let url = if rest.is_empty() { head.to_owned() } else { format!("{head}?{}", rest.join("&")) };
    Ok((url, found))
}

#[cfg(all(test, feature = "postgres", feature = "mysql"))]
mod tests {
    use super::*;

    #[test]
    fn a_bad_url_is_named_and_not_shown() {
        for (url, code) in [
            ("postgres://u:hunter2@h", FieldCode::Required),
            ("postgres://u:hunter2@h/", FieldCode::Required),
            ("mysql://u:hunter2@h", FieldCode::Required),
            ("mysql://u:hunter2@h/", FieldCode::Required),
            ("postgres://u@h/shop?pasword=hunter2", FieldCode::Unknown),
            ("postgres://u@h/shop?Hunter2=x", FieldCode::Unknown),
            ("mysql://u@h/shop?charset=latin1", FieldCode::Unknown),
            ("mysql://u@h/shop?timezone=%2B02:00", FieldCode::Unknown),
            ("mysql://u@h/shop?pooler=hunter2", FieldCode::OutOfBounds),
            ("oracle://u:hunter2@h/shop", FieldCode::OutOfBounds),
        ] {
            let error = ServerOptions::from_url(url).unwrap_err();
            let Error::Validation(fields) = &error else { panic!("{url}: {error:?}") };
            assert_eq!((fields.0[0].field.as_str(), fields.0[0].code), ("database", code), "{url}: {error}");
            assert!(!format!("{error:?}").to_lowercase().contains("hunter2"), "{error:?}");
        }
        for url in [
            "postgres://u@h/shop?sslmode=require&options[search_path]=shop&pooler=transaction",
            "postgres:///?host=/var/run/postgresql&dbname=shop&user=u",
            "mysql://u@h/shop?ssl-mode=REQUIRED&socket=/run/mysqld/mysqld.sock",
        ] {
            ServerOptions::from_url(url).unwrap();
        }
    }
}
