//! The thin executor: it runs statements on one of three kinds of connections, takes typed values, returns typed rows,
//! and counts every statement.

#[cfg(any(feature = "postgres", feature = "mysql"))]
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
#[cfg(any(feature = "postgres", feature = "mysql"))]
use std::time::{Duration, Instant};

use ecom_core::money::Currency;
use ecom_core::{Error, Result, trace};
use sqlx::{AssertSqlSafe, SqlSafeStr, SqlStr};
use tracing::{Instrument as _, Span};

#[cfg(any(feature = "postgres", feature = "mysql"))]
use crate::sql::engine::check::{self, Known};
use crate::sql::engine::dialect::{Dialect, Sql, unnumbered};
use crate::sql::engine::error::{DbError, DbResult, Kind};
#[cfg(any(feature = "postgres", feature = "mysql"))]
use crate::sql::engine::fullness::Fullness;
#[cfg(any(feature = "postgres", feature = "mysql"))]
use crate::sql::engine::options::SchemaName;
use crate::sql::engine::statement::{Statement, Timer, Verb};
use crate::sql::engine::value::{Row, Value};

/// A borrowed connection.
#[derive(Debug)]
pub enum ConnRef<'c> {
    /// A connection to SQLite.
    #[cfg(feature = "sqlite")]
    Sqlite(&'c mut crate::sqlite::Connection),
    /// A connection of the host to SQLite.
    #[cfg(feature = "sqlite")]
    SqliteOfHost(crate::sqlite::HostConnection<'c>),
    /// A connection to PostgreSQL.
    #[cfg(feature = "postgres")]
    Postgres(&'c mut sqlx::PgConnection),
    /// A connection to MySQL or MariaDB. Outside of transactions, the node is given as `Alone`, because only
    /// transactions are checked.
    #[cfg(feature = "mysql")]
    MySql(&'c mut sqlx::MySqlConnection, crate::mysql::Node),
}

/// When a connection of a pool was last lost.
#[cfg(any(feature = "postgres", feature = "mysql"))]
#[derive(Debug)]
pub struct Losses {
    /// The origin of `last`.
    start: Instant,
    /// The time in microseconds since `start`; 0 if no connection was lost.
    last: AtomicU64,
}

#[cfg(any(feature = "postgres", feature = "mysql"))]
impl Default for Losses {
    fn default() -> Self {
        Self { start: Instant::now(), last: AtomicU64::new(0) }
    }
}

#[cfg(any(feature = "postgres", feature = "mysql"))]
impl Losses {
    /// Returns when a connection was last lost.
    pub fn last(&self) -> Option<Instant> {
        match self.last.load(Ordering::Relaxed) {
            0 => None,
            micros => Some(self.start + Duration::from_micros(micros)),
        }
    }

    /// Notes that a connection was lost, or that its server has become read-only.
    fn note(&self) {
        let micros = u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.last.store(micros.max(1), Ordering::Relaxed);
    }
}

/// The state that all connections of a storage share.
#[derive(Debug)]
pub struct Shared {
    /// The database's SQL.
    pub dialect: &'static Dialect,
    /// The currency of the shop; set once the currency of the database is known to be the same.
    pub currency: OnceLock<Currency>,
    /// The number of statements that were sent.
    pub statements: AtomicU64,
    /// Takes the text of each statement with the types of its parameters, for the tests that compare releases.
    pub recorder: OnceLock<fn(&str, &[&'static str])>,
    /// The time limit of a statement.
    #[cfg(any(feature = "postgres", feature = "mysql"))]
    limit: Option<Duration>,
    /// The losses of the pool, which storages that share a pool share too.
    #[cfg(any(feature = "postgres", feature = "mysql"))]
    pub losses: Arc<Losses>,
    /// The warnings of the pool, which storages that share a pool share too.
    #[cfg(any(feature = "postgres", feature = "mysql"))]
    pub fullness: Arc<Fullness>,
    /// The servers to which the connections have led, which storages that share a pool share too.
    #[cfg(any(feature = "postgres", feature = "mysql"))]
    pub known: Arc<Known>,
    /// The identity of the database; set by [`Storage::migrate`](ecom_core::port::Storage::migrate). From then on,
    /// another database is refused, and one without the migrations of this release.
    #[cfg(any(feature = "postgres", feature = "mysql"))]
    pub identity: OnceLock<String>,
}

impl Shared {
    /// Creates the state without a time limit. Without a currency, prices cannot be read until [`Self::currency`] is
    /// set.
    pub fn new(dialect: &'static Dialect, currency: impl Into<Option<Currency>>) -> Self {
        let statements = AtomicU64::new(0);
        let currency = currency.into().map_or_else(OnceLock::new, OnceLock::from);
        Self {
            dialect,
            currency,
            statements,
            recorder: OnceLock::new(),
            #[cfg(any(feature = "postgres", feature = "mysql"))]
            limit: None,
            #[cfg(any(feature = "postgres", feature = "mysql"))]
            losses: Arc::default(),
            #[cfg(any(feature = "postgres", feature = "mysql"))]
            fullness: Arc::default(),
            #[cfg(any(feature = "postgres", feature = "mysql"))]
            known: Arc::default(),
            #[cfg(any(feature = "postgres", feature = "mysql"))]
            identity: OnceLock::new(),
        }
    }

    /// Returns a state for the connection of migrations: without a time limit, and without an expected schema.
    pub fn for_migrations(&self) -> Self {
        #[cfg_attr(not(any(feature = "postgres", feature = "mysql")), expect(unused_mut, reason = "no servers"))]
        let mut shared = Self::new(self.dialect, None);
        #[cfg(any(feature = "postgres", feature = "mysql"))]
        {
            shared.known = self.known.clone();
        }
        shared
    }

    /// Notes the currency and the identity of the database, whose schema is that of this release.
    pub fn migrated(&self, currency: Currency, identity: String) {
        self.currency.get_or_init(|| currency);
        #[cfg(any(feature = "postgres", feature = "mysql"))]
        self.identity.get_or_init(|| identity);
        #[cfg(not(any(feature = "postgres", feature = "mysql")))]
        drop(identity);
    }

    /// Records the time of a statement that has ended, and whether another transaction was in its way.
    fn measure<T>(&self, timer: Timer, answer: &DbResult<T>) {
        timer.end();
        if let Err(error) = answer {
            error.count(self.dialect);
        }
    }

    /// Sets a time limit for each statement.
    #[cfg(any(feature = "postgres", feature = "mysql"))]
    pub fn limited(mut self, limit: Duration) -> Self {
        self.limit = Some(limit);
        self
    }

    /// Waits for an answer until the time limit of statements. After the limit, the outcome of the call is unknown.
    #[cfg(any(feature = "postgres", feature = "mysql"))]
    async fn within<T>(&self, call: impl Future<Output = DbResult<T>>) -> DbResult<T> {
        let answer = match self.limit {
            None => call.await,
            Some(limit) => tokio::time::timeout(limit, call).await.unwrap_or_else(|_| {
                let source = std::io::Error::from(std::io::ErrorKind::TimedOut);
                Err(DbError { kind: Kind::Lost, source: source.into() })
            }),
        };
        if answer.as_ref().is_err_and(|e| matches!(e.kind, Kind::Lost | Kind::ReadOnly)) {
            self.losses.note();
        }
        answer
    }
}

/// The state of a connection, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// No statement is under way.
    Idle,
    /// A statement was sent and its answer has not arrived. A call that is dropped leaves this state behind.
    InFlight,
    /// A statement failed in a way that may have ended the transaction. No later statement may run outside of it.
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
    /// A fixed text.
    Fixed(&'static Sql),
    /// A text that was built for this call, with `$1…$n`.
    Built(String),
    /// A text that was built for this call, with `?`, and that runs once for each set of values. Only a connection that
    /// [`Executor::repeats`] can run it.
    Repeated(String),
}

impl Text {
    fn statement(&self) -> &'static Statement {
        match self {
            Self::Fixed(sql) => sql.statement(),
            Self::Built(text) | Self::Repeated(text) => Statement::of(text),
        }
    }
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

/// A text without parameters, by what it does.
#[derive(Debug, Clone, Copy)]
enum Script {
    Statements(&'static str),
    Begin(&'static str),
    Commit,
    Rollback,
    /// A statement of SQLite that waits for nothing.
    #[cfg(feature = "sqlite")]
    Brief(&'static str),
}

impl Script {
    const fn verb(self) -> Verb {
        match self {
            Self::Begin(_) => Verb::Begin,
            Self::Commit => Verb::Commit,
            Self::Rollback => Verb::Rollback,
            Self::Statements(_) => Verb::Script,
            #[cfg(feature = "sqlite")]
            Self::Brief(_) => Verb::Script,
        }
    }

    const fn text(self) -> &'static str {
        match self {
            Self::Statements(text) | Self::Begin(text) => text,
            Self::Commit => "COMMIT",
            Self::Rollback => "ROLLBACK",
            #[cfg(feature = "sqlite")]
            Self::Brief(text) => text,
        }
    }
}

/// The most bytes of a statement that its span contains.
const SHOWN: usize = 1_000;

/// Returns the span of a statement. Its text has no values, because these are parameters.
fn statement_span(dialect: &Dialect, statement: &Statement, text: &str) -> Span {
    tracing::debug_span!(
        target: trace::TARGET,
        "statement",
        otel.kind = "client",
        otel.name = statement.name(),
        db.system.name = dialect.name,
        db.query.text = &text[..text.floor_char_boundary(SHOWN)],
    )
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
            let source = "an earlier statement on this connection failed".into();
            return Err(DbError { kind: Kind::Unavailable, source });
        }
        let sql: Text = $sql.into();
        let statement = sql.statement();
        let (text, args) = $self.prepare(sql, $args);
        if let Some(record) = $self.shared.recorder.get() {
            record(text.as_str(), &args.iter().map(Value::type_name).collect::<Vec<_>>());
        }
        $self.shared.statements.fetch_add(1, Ordering::Relaxed);
        *$self.state = State::InFlight;
        let span = statement_span($self.shared.dialect, statement, text.as_str());
        let timer = Timer::start(statement);
        let answer = match &mut $self.conn {
            // SQLite has its own limits, and it always completes a statement that it has begun.
            #[cfg(feature = "sqlite")]
            ConnRef::Sqlite(c) => c.$method(text.as_str(), args).instrument(span).await,
            #[cfg(feature = "sqlite")]
            ConnRef::SqliteOfHost(c) => c.$method(text, args).instrument(span).await,
            #[cfg(feature = "postgres")]
            ConnRef::Postgres(c) => $self.shared.within(crate::postgres::$method(c, text, args)).instrument(span).await,
            #[cfg(feature = "mysql")]
            ConnRef::MySql(c, node) => {
                $self.shared.within(crate::mysql::$method(c, *node, text, args)).instrument(span).await
            }
        };
        *$self.state = State::after(&answer);
        $self.shared.measure(timer, &answer);
        answer
    }};
}

impl<'c> Executor<'c> {
    /// Runs statements on `conn`.
    pub fn new(conn: ConnRef<'c>, state: &'c mut State, shared: &'c Shared) -> Self {
        Self { conn, state, shared }
    }

    /// Returns the SQL of the database.
    pub fn dialect(&self) -> &'static Dialect {
        self.shared.dialect
    }

    /// Returns whether the connection runs a statement once for each set of values ([`Text::Repeated`]). On SQLite, this
    /// is a quarter faster than one statement with all rows: there is no network in between, and SQLite keeps a copy of
    /// each page that a statement of several rows changes, in order to undo it.
    pub fn repeats(&self) -> bool {
        #[cfg(feature = "sqlite")]
        let repeats = matches!(self.conn, ConnRef::Sqlite(_));
        #[cfg(not(feature = "sqlite"))]
        let repeats = false;
        repeats
    }

    /// Returns the currency of the shop.
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
            // The usual case, in which nothing has to be copied.
            Some(order) if order.iter().copied().eq(0..args.len()) => args,
            Some(order) => order.iter().filter_map(|i| args.get(*i).cloned()).collect(),
        };
        match text {
            Text::Fixed(sql) => {
                let p = sql.prepared(dialect);
                (p.text.as_str().into_sql_str(), reorder(p.order.as_ref(), args))
            }
            Text::Repeated(text) => (AssertSqlSafe(text).into_sql_str(), args),
            Text::Built(text) if dialect.numbered => (AssertSqlSafe(text).into_sql_str(), args),
            Text::Built(text) => {
                let p = unnumbered(&text);
                (AssertSqlSafe(p.text).into_sql_str(), reorder(p.order.as_ref(), args))
            }
        }
    }

    /// Returns all rows.
    pub async fn fetch_all(&mut self, sql: impl Into<Text> + Send, args: Vec<Value<'_>>) -> DbResult<Vec<Row>> {
        run!(self, sql, args, fetch_all)
    }

    /// Returns the first row.
    pub async fn fetch_optional(&mut self, sql: impl Into<Text> + Send, args: Vec<Value<'_>>) -> DbResult<Option<Row>> {
        run!(self, sql, args, fetch_optional)
    }

    /// Runs a statement and returns how many rows it changed.
    pub async fn execute(&mut self, sql: impl Into<Text> + Send, args: Vec<Value<'_>>) -> DbResult<u64> {
        run!(self, sql, args, execute)
    }

    /// Runs a text of the library's own, without parameters and without preparing it. It may contain several
    /// statements.
    pub async fn script(&mut self, text: &'static str) -> DbResult<()> {
        self.send(Script::Statements(text)).await
    }

    /// Runs a statement that changes the schema and has no parameters, and that was built for this call.
    pub async fn define(&mut self, text: String) -> DbResult<()> {
        #[cfg(feature = "sqlite")]
        if let ConnRef::Sqlite(c) = &mut self.conn {
            self.shared.statements.fetch_add(1, Ordering::Relaxed);
            *self.state = State::InFlight;
            let answer = c.script(text).await;
            *self.state = State::after(&answer);
            return answer;
        }
        self.execute(text, Vec::new()).await.map(drop)
    }

    /// Begins a transaction that may write.
    pub async fn begin(&mut self) -> DbResult<()> {
        self.send(Script::Begin(self.shared.dialect.begin)).await
    }

    /// Commits the transaction.
    pub async fn commit(&mut self) -> DbResult<()> {
        self.send(Script::Commit).await
    }

    /// Begins a savepoint in a transaction on SQLite.
    #[cfg(feature = "sqlite")]
    pub async fn savepoint(&mut self) -> DbResult<()> {
        self.send(Script::Brief("SAVEPOINT ecom_unit")).await
    }

    /// Keeps what was written since [`Self::savepoint`].
    #[cfg(feature = "sqlite")]
    pub async fn release_savepoint(&mut self) -> DbResult<()> {
        self.send(Script::Brief("RELEASE ecom_unit")).await
    }

    /// Rolls the transaction back.
    pub async fn rollback(&mut self) -> DbResult<()> {
        self.send(Script::Rollback).await
    }

    /// Makes a schema the one in which the connection finds the tables. Once the identity of the database is known, this
    /// also checks the database and its schema, in the same round trip. If this fails, the connection must be closed.
    #[cfg(any(feature = "postgres", feature = "mysql"))]
    pub async fn enter(&mut self, schema: &SchemaName) -> DbResult<()> {
        self.shared.statements.fetch_add(1, Ordering::Relaxed);
        *self.state = State::InFlight;
        let identity = self.shared.identity.get();
        let columns = identity.map(|_| check::schema_columns());
        let entered = match &mut self.conn {
            #[cfg(feature = "sqlite")]
            // A file has no schemas.
            ConnRef::Sqlite(_) | ConnRef::SqliteOfHost(_) => Ok(None),
            #[cfg(feature = "postgres")]
            ConnRef::Postgres(c) => self.shared.within(crate::postgres::enter(c, schema, columns)).await,
            #[cfg(feature = "mysql")]
            ConnRef::MySql(c, _) => self.shared.within(crate::mysql::enter(c, schema, columns)).await,
        };
        let answer = match (entered, identity) {
            (Ok(Some(found)), Some(identity)) => check::check_schema(self.shared.dialect, identity, &found),
            (Ok(_), _) => Ok(()),
            (Err(e), Some(_)) => Err(check::no_schema(e)),
            (Err(e), None) => Err(e),
        };
        *self.state = State::after(&answer);
        answer
    }

    async fn send(&mut self, script: Script) -> DbResult<()> {
        let statement = Statement::without_table(script.verb());
        let span = statement_span(self.shared.dialect, statement, script.text());
        self.send_timed(script, Timer::start(statement)).instrument(span).await
    }

    async fn send_timed(&mut self, script: Script, timer: Timer) -> DbResult<()> {
        self.shared.statements.fetch_add(1, Ordering::Relaxed);
        *self.state = State::InFlight;
        let answer = match &mut self.conn {
            #[cfg(feature = "sqlite")]
            ConnRef::Sqlite(c) => match script {
                Script::Statements(text) => c.script(text).await,
                Script::Begin(text) => c.begin(text).await,
                Script::Commit => c.commit().await,
                Script::Rollback => c.brief("ROLLBACK"),
                Script::Brief(text) => c.brief(text),
            },
            #[cfg(feature = "sqlite")]
            ConnRef::SqliteOfHost(c) => c.script(script.text()).await,
            #[cfg(feature = "postgres")]
            ConnRef::Postgres(c) => self.shared.within(crate::postgres::script(c, script.text())).await,
            #[cfg(feature = "mysql")]
            ConnRef::MySql(c, node) => match script {
                Script::Begin(text) => self.shared.within(crate::mysql::begin(c, *node, text)).await,
                Script::Commit => self.shared.within(crate::mysql::commit(c, *node)).await,
                _ => self.shared.within(crate::mysql::script(c, script.text())).await,
            },
        };
        *self.state = State::after(&answer);
        self.shared.measure(timer, &answer);
        answer
    }
}
