//! The thin executor: one connection of three kinds, typed values in, typed rows out, every statement counted.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ecom_core::money::Currency;
use ecom_core::{Error, Result};
use sqlx::{AssertSqlSafe, SqlSafeStr, SqlStr};

use crate::sql::engine::dialect::{Dialect, Sql, unnumbered};
use crate::sql::engine::error::{DbError, DbResult, Kind};
use crate::sql::engine::value::{Row, Value};

/// A borrowed connection.
#[derive(Debug)]
pub enum ConnRef<'c> {
    /// Of SQLite.
    #[cfg(feature = "sqlite")]
    Sqlite(&'c mut sqlx::SqliteConnection),
    /// Of PostgreSQL.
    #[cfg(feature = "postgres")]
    Postgres(&'c mut sqlx::PgConnection),
    /// Of MySQL or MariaDB.
    #[cfg(feature = "mysql")]
    MySql(&'c mut sqlx::MySqlConnection),
}

/// What all connections of a storage share.
#[derive(Debug)]
pub struct Shared {
    /// The database's SQL.
    pub dialect: &'static Dialect,
    /// The shop's currency; set once the database is known to be in it.
    pub currency: OnceLock<Currency>,
    /// Statements sent.
    pub statements: AtomicU64,
    /// How long a statement may take.
    #[cfg(any(feature = "postgres", feature = "mysql"))]
    limit: Option<Duration>,
    /// Start of the times below.
    start: Instant,
    /// Microseconds from the start to when a connection was last lost; 0: never.
    lost: AtomicU64,
}

impl Shared {
    /// Without a limit. Without a currency, prices cannot be read until [`Self::currency`] is set.
    pub fn new(dialect: &'static Dialect, currency: impl Into<Option<Currency>>) -> Self {
        let (statements, lost) = (AtomicU64::new(0), AtomicU64::new(0));
        let currency = currency.into().map_or_else(OnceLock::new, OnceLock::from);
        Self {
            dialect,
            currency,
            statements,
            #[cfg(any(feature = "postgres", feature = "mysql"))]
            limit: None,
            start: Instant::now(),
            lost,
        }
    }

    /// With a limit for each statement.
    #[cfg(any(feature = "postgres", feature = "mysql"))]
    pub fn limited(mut self, limit: Duration) -> Self {
        self.limit = Some(limit);
        self
    }

    /// When a connection was last lost.
    pub fn last_lost(&self) -> Option<Instant> {
        match self.lost.load(Ordering::Relaxed) {
            0 => None,
            micros => Some(self.start + Duration::from_micros(micros)),
        }
    }

    /// Waits for an answer at most as long as a statement may take. A call that is given up has an unknown outcome.
    #[cfg(any(feature = "postgres", feature = "mysql"))]
    async fn within<T>(&self, call: impl Future<Output = DbResult<T>>) -> DbResult<T> {
        let answer = match self.limit {
            None => call.await,
            Some(limit) => tokio::time::timeout(limit, call).await.unwrap_or_else(|_| {
                let source = sqlx::Error::Io(std::io::ErrorKind::TimedOut.into());
                Err(DbError { kind: Kind::Lost, source })
            }),
        };
        if answer.as_ref().is_err_and(|e| e.kind == Kind::Lost) {
            let micros = u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX);
            self.lost.store(micros.max(1), Ordering::Relaxed);
        }
        answer
    }
}

/// What is known of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Nothing is under way.
    Idle,
    /// A statement was sent and its answer has not come: what a dropped call leaves behind.
    InFlight,
    /// A statement failed in a way that may have ended the transaction: what follows must not run outside of it.
    Failed,
}

impl State {
    fn after<T>(answer: &DbResult<T>) -> Self {
        match answer {
            Err(e) if !e.is_refusal() => Self::Failed,
            _ => Self::Idle,
        }
    }
}

/// The text of a statement.
pub enum Text {
    /// Fixed, made once.
    Fixed(&'static Sql),
    /// Built for this call, with `$1…$n`.
    Built(String),
}

impl From<&'static Sql> for Text {
    fn from(s: &'static Sql) -> Self {
        Self::Fixed(s)
    }
}

impl From<String> for Text {
    fn from(s: String) -> Self {
        Self::Built(s)
    }
}

/// Runs statements on a borrowed connection.
pub struct Executor<'c> {
    conn: ConnRef<'c>,
    state: &'c mut State,
    shared: &'c Shared,
}

macro_rules! run {
    ($self:ident, $sql:ident, $args:ident, $method:ident) => {{
        if *$self.state == State::Failed {
            let source = sqlx::Error::Protocol("an earlier statement on this connection failed".to_owned());
            return Err(DbError { kind: Kind::Unavailable, source });
        }
        let (text, args) = $self.prepare($sql.into(), $args);
        $self.shared.statements.fetch_add(1, Ordering::Relaxed);
        *$self.state = State::InFlight;
        let answer = match &mut $self.conn {
            // SQLite has its own limits, and what it was told to do it does.
            #[cfg(feature = "sqlite")]
            ConnRef::Sqlite(c) => crate::sqlite::$method(c, text, args).await,
            #[cfg(feature = "postgres")]
            ConnRef::Postgres(c) => $self.shared.within(crate::postgres::$method(c, text, args)).await,
            #[cfg(feature = "mysql")]
            ConnRef::MySql(c) => $self.shared.within(crate::mysql::$method(c, text, args)).await,
        };
        *$self.state = State::after(&answer);
        answer
    }};
}

impl<'c> Executor<'c> {
    /// On a connection.
    pub fn new(conn: ConnRef<'c>, state: &'c mut State, shared: &'c Shared) -> Self {
        Self { conn, state, shared }
    }

    /// The database's SQL.
    pub fn dialect(&self) -> &'static Dialect {
        self.shared.dialect
    }

    /// The shop's currency.
    ///
    /// # Errors
    /// `Internal` before [`Storage::migrate`](ecom_core::port::Storage::migrate).
    pub fn currency(&self) -> Result<Currency> {
        let unknown = Error::Internal {
            context: "the currency of the database is not known: call `migrate` first",
            source: None,
        };
        self.shared.currency.get().copied().ok_or(unknown)
    }

    fn prepare<'q>(&self, text: Text, args: Vec<Value<'q>>) -> (SqlStr, Vec<Value<'q>>) {
        let dialect = self.shared.dialect;
        let reorder = |order: Option<&Vec<usize>>, args: Vec<Value<'q>>| match order {
            None => args,
            Some(order) => order.iter().filter_map(|i| args.get(*i).cloned()).collect(),
        };
        match text {
            Text::Fixed(sql) => {
                let p = sql.prepared(dialect);
                (p.text.as_str().into_sql_str(), reorder(p.order.as_ref(), args))
            }
            Text::Built(text) if dialect.numbered => (AssertSqlSafe(text).into_sql_str(), args),
            Text::Built(text) => {
                let p = unnumbered(&text);
                (AssertSqlSafe(p.text).into_sql_str(), reorder(p.order.as_ref(), args))
            }
        }
    }

    /// All rows.
    pub async fn fetch_all(&mut self, sql: impl Into<Text> + Send, args: Vec<Value<'_>>) -> DbResult<Vec<Row>> {
        run!(self, sql, args, fetch_all)
    }

    /// The first row.
    pub async fn fetch_optional(&mut self, sql: impl Into<Text> + Send, args: Vec<Value<'_>>) -> DbResult<Option<Row>> {
        run!(self, sql, args, fetch_optional)
    }

    /// Runs it and says how many rows it changed.
    pub async fn execute(&mut self, sql: impl Into<Text> + Send, args: Vec<Value<'_>>) -> DbResult<u64> {
        run!(self, sql, args, execute)
    }

    /// Runs a text of the library's own without parameters and without keeping it prepared; it may hold several
    /// statements.
    pub async fn script(&mut self, text: &'static str) -> DbResult<()> {
        self.shared.statements.fetch_add(1, Ordering::Relaxed);
        *self.state = State::InFlight;
        let answer = match &mut self.conn {
            #[cfg(feature = "sqlite")]
            ConnRef::Sqlite(c) => crate::sqlite::script(c, text).await,
            #[cfg(feature = "postgres")]
            ConnRef::Postgres(c) => self.shared.within(crate::postgres::script(c, text)).await,
            #[cfg(feature = "mysql")]
            ConnRef::MySql(c) => self.shared.within(crate::mysql::script(c, text)).await,
        };
        *self.state = State::after(&answer);
        answer
    }
}
