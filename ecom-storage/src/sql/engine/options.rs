//! How a database behind a server is opened.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ecom_core::clock::{SharedClock, SystemClock};
use ecom_core::id::{IdSource, UuidV7Source};
use ecom_core::{Error, FieldCode, Result};

use crate::parameter_shown;
use crate::sql::engine::dialect::Dialect;
use crate::sql::engine::pool::Opener;

/// How a PostgreSQL, MySQL or MariaDB database is opened.
///
/// Connections are opened when they are needed and kept. Every wait has an end: for a connection, for a statement, for
/// another transaction's lock. Times are of this process's clock.
#[derive(Clone)]
pub struct ServerOptions {
    pub(super) dialect: &'static Dialect,
    pub(super) opener: Opener,
    pub(super) direct: Option<Opener>,
    /// Most connections of this process; 50.
    pub max_connections: usize,
    /// How long a connection out of the pool is waited for; 10 s.
    pub acquire_timeout: Duration,
    /// How long a statement may take before its connection is given up; 5 s. Locks are waited for a little less, so
    /// that the server says so first. Migrations have no such limit.
    pub statement_timeout: Duration,
    /// A connection that is older than this is replaced; an hour.
    pub max_lifetime: Duration,
    /// Leaves out what a pooler that hands each transaction to another server connection cannot carry: settings of
    /// the session, which the role or the pooler must then have. See docs/production.md.
    pub transaction_pooler: bool,
    /// The clock.
    pub clock: SharedClock,
    /// Where the database's identity comes from.
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

/// What a URL of a server says: which database it is and how its connections are opened.
fn read_url(field: &'static str, url: &str) -> Result<(&'static Dialect, Opener)> {
    // What the driver says may show the URL and is left out, as is all of the URL but its scheme.
    let bad = |_: sqlx::Error| Error::invalid(field, FieldCode::Malformed, "is not a URL of this database");
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
            let options = crate::mysql::options(url).map_err(bad)?;
            options.get_database().ok_or_else(|| unnamed(field))?;
            Ok((&crate::mysql::DIALECT, Opener::MySql { options: Box::new(options), limit: None }))
        }
        _ => Err(Error::invalid(
            field,
            FieldCode::OutOfBounds,
            "must start with `postgres:` or `mysql:`, and the database must be built in",
        )),
    }
}

/// What a URL of any server may say besides where it is.
const PARAMETERS: [&str; 8] =
    ["sslmode", "ssl-mode", "ssl-ca", "sslcert", "ssl-cert", "sslkey", "ssl-key", "statement-cache-capacity"];

/// Refuses parameters that are neither of any server nor of this one: drivers take what they do not know in silence, or
/// log it with its value.
fn known(field: &'static str, url: &str, own: &[&str]) -> Result<()> {
    let parameters = [&PARAMETERS, own].concat();
    let query = url.split_once('?').map_or("", |(_, query)| query);
    for name in query.split('&').filter_map(|pair| pair.split('=').next()).filter(|name| !name.is_empty()) {
        // `options[name]=value` sets one of PostgreSQL's own.
        let is = |p: &str| name == p || p.strip_suffix(']').is_some_and(|p| name.starts_with(p));
        if !parameters.iter().any(|p| is(p)) {
            let all = parameters.join("`, `");
            let message = format!("has the unknown parameter `{}`; known are `{all}`", parameter_shown(name));
            return Err(Error::invalid(field, FieldCode::Unknown, message));
        }
    }
    Ok(())
}

fn unnamed(field: &'static str) -> Error {
    Error::invalid(field, FieldCode::Required, "must name a database: `…://user@host/database`")
}

impl ServerOptions {
    /// From `postgres://user:password@host:port/database` or `mysql://…`, with parameters of the drivers (`sslmode`,
    /// `sslrootcert` …) and `pooler=transaction` for [`Self::transaction_pooler`].
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

    /// Where migrations go, past a pooler that stands in front of the database.
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

/// Takes our own parameter out of a URL, which the drivers would not know.
fn without_pooler(url: &str) -> Result<(String, bool)> {
    let Some((head, query)) = url.split_once('?') else { return Ok((url.to_owned(), false)) };
    let mut found = false;
    let mut rest = Vec::new();
    for pair in query.split('&') {
        match pair.split_once('=') {
            Some(("pooler", "transaction")) => found = true,
            Some(("pooler", _)) => {
                return Err(Error::invalid("database", FieldCode::OutOfBounds, "`pooler` can be `transaction`"));
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
