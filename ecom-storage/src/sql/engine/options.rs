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

/// The maximum length of the name of a schema. PostgreSQL truncates a longer one, and MySQL refuses one of more than
/// 64.
const MAX_SCHEMA: usize = 63;

/// The name of a schema of PostgreSQL, or of a database of MySQL: lower-case ASCII letters, digits and underscores, so
/// that it can be part of a statement.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SchemaName(Arc<str>);

impl SchemaName {
    /// Checks a name.
    fn new(name: &str) -> Result<Self> {
        let bad = |message: String| Err(Error::invalid("database", FieldCode::OutOfBounds, message));
        let is_allowed = name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
            && name.len() <= MAX_SCHEMA;
        if !is_allowed {
            return bad(format!(
                "must have a schema of lower-case letters, digits and underscores that begins with a letter, with at \
                 most {MAX_SCHEMA} characters"
            ));
        }
        if name.starts_with("pg_") || ["information_schema", "mysql", "performance_schema", "sys"].contains(&name) {
            return bad(format!("must not have the schema `{name}`, which belongs to the server"));
        }
        Ok(Self(name.into()))
    }

    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The options of a PostgreSQL, MySQL or MariaDB database.
///
/// Connections are opened when they are needed, and they stay open. Every wait has a time limit: the wait for a
/// connection, for a statement, and for the lock of another transaction. The clock of this process measures them.
#[derive(Clone)]
pub struct ServerOptions {
    pub(super) dialect: &'static Dialect,
    pub(super) opener: Opener,
    pub(super) direct: Option<Opener>,
    /// The schema of PostgreSQL that has the tables; `None` for the first schema of the search path of the user.
    pub(super) schema: Option<SchemaName>,
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
    /// The time after which a connection is checked again before it is used: whether it still leads to the same server,
    /// and whether that server still writes. Default 5 s. Each check is a round trip, besides the statements.
    pub check_interval: Duration,
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
    /// Returns the name of the schema, or of the database on MySQL, in which the tables of the shop are.
    pub(super) fn place(&self) -> Result<SchemaName> {
        let schema = match (&self.schema, &self.opener) {
            (Some(schema), _) => schema.clone(),
            #[cfg(feature = "mysql")]
            (None, Opener::MySql { options, .. }) => SchemaName::new(options.get_database().unwrap_or_default())?,
            #[cfg(any(feature = "sqlite", feature = "postgres"))]
            (None, _) => {
                let message = "must have the parameter `schema`, because other shops share its connections";
                return Err(Error::invalid("database", FieldCode::Required, message));
            }
        };
        if ["public", "information_schema", "mysql", "performance_schema", "sys"].contains(&schema.as_str()) {
            let message = "must not lead to a schema that the server has made";
            return Err(Error::invalid("database", FieldCode::OutOfBounds, message));
        }
        Ok(schema)
    }

    /// Returns the options for a URL: `postgres://user:password@host:port/database` or `mysql://…`, with parameters of
    /// the drivers (`sslmode`, `sslrootcert` …), with `pooler=transaction` for [`Self::transaction_pooler`], and for
    /// PostgreSQL with `schema=name`, if the tables are in a schema of this name and not in the first one of the search
    /// path.
    ///
    /// # Errors
    /// `Validation` on field `database`.
    pub fn from_url(url: &str) -> Result<Self> {
        let (url, pooler) = without(url, "pooler");
        let (url, schema) = if url.starts_with("postgres") { without(&url, "schema") } else { (url, None) };
        let transaction_pooler = match pooler.as_deref() {
            None => false,
            Some("transaction") => true,
            Some(_) => {
                let message = "must have the value `transaction` for the parameter `pooler`, or no such parameter";
                return Err(Error::invalid("database", FieldCode::OutOfBounds, message));
            }
        };
        let schema = schema.as_deref().map(SchemaName::new).transpose()?;
        if schema.is_some() && transaction_pooler {
            let message = "must not have the parameter `schema` together with `pooler`, since such a pooler does not \
                           keep the schema of a session: set `search_path` on the role, or leave out the pooler";
            return Err(Error::invalid("database", FieldCode::Inconsistent, message));
        }
        let (dialect, opener) = read_url("database", &url)?;
        let clock: SharedClock = Arc::new(SystemClock);
        Ok(Self {
            dialect,
            opener,
            direct: None,
            schema,
            max_connections: 50,
            acquire_timeout: Duration::from_secs(10),
            statement_timeout: Duration::from_secs(5),
            max_lifetime: Duration::from_secs(3600),
            check_interval: Duration::from_secs(5),
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

/// Removes a parameter of our own, which the drivers do not know, from a URL. Also returns its last value.
fn without(url: &str, name: &str) -> (String, Option<String>) {
    let Some((head, query)) = url.split_once('?') else { return (url.to_owned(), None) };
    let is_own = |pair: &&str| pair.split_once('=').is_some_and(|(found, _)| found == name);
    let (own, rest): (Vec<&str>, Vec<&str>) = query.split('&').partition(is_own);
    let value = own.last().and_then(|pair| pair.split_once('=')).map(|(_, value)| value.to_owned());
    let url = if rest.is_empty() { head.to_owned() } else { format!("{head}?{}", rest.join("&")) };
    (url, value)
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
            ("postgres://u@h/shop?schema=Hunter2", FieldCode::OutOfBounds),
            ("postgres://u@h/shop?schema=a%22;hunter2", FieldCode::OutOfBounds),
            ("postgres://u@h/shop?schema=pg_hunter2x\"", FieldCode::OutOfBounds),
            ("postgres://u@h/shop?schema=", FieldCode::OutOfBounds),
            ("postgres://u@h/shop?schema=shop&pooler=transaction", FieldCode::Inconsistent),
            ("mysql://u@h/shop?schema=shop", FieldCode::Unknown),
        ] {
            let error = ServerOptions::from_url(url).unwrap_err();
            let Error::Validation(fields) = &error else { panic!("{url}: {error:?}") };
            assert_eq!((fields.0[0].field.as_str(), fields.0[0].code), ("database", code), "{url}: {error}");
            assert!(!format!("{error:?}").to_lowercase().contains("hunter2"), "{error:?}");
        }
        for url in [
            "postgres://u@h/shop?sslmode=require&options[search_path]=shop&pooler=transaction",
            "postgres://u@h/shop?schema=shop_a&sslmode=require",
            "postgres:///?host=/var/run/postgresql&dbname=shop&user=u",
            "mysql://u@h/shop?ssl-mode=REQUIRED&socket=/run/mysqld/mysqld.sock",
        ] {
            ServerOptions::from_url(url).unwrap();
        }
    }

    #[test]
    fn a_schema_is_a_plain_name_that_the_server_does_not_use() {
        let long = "a".repeat(MAX_SCHEMA + 1);
        for bad in ["", "1a", "_a", "A", "a-b", "a b", "a\"b", "a;b", "ä", "pg_temp", "sys", "mysql", &long] {
            assert!(SchemaName::new(bad).is_err(), "{bad}");
        }
        for good in ["a", "shop_1", "user", &long[1..]] {
            assert_eq!(SchemaName::new(good).unwrap().as_str(), good);
        }
    }
}
