//! Connections: deadpool over single sqlx connections, and the storage on top of it.

#[cfg(any(feature = "postgres", feature = "mysql"))]
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
#[cfg(any(feature = "postgres", feature = "mysql"))]
use std::time::Instant;

use deadpool::managed::{
    Manager, Metrics, Object, Pool, PoolError, QueueMode, RecycleError, RecycleResult, TimeoutType, Timeouts,
};
use ecom_core::clock::SharedClock;
use ecom_core::id::IdSource;
use ecom_core::port::PoolStatus;
use ecom_core::{Dependency, Error, FieldCode, Result};
use tokio::sync::OwnedSemaphorePermit;
#[cfg(any(feature = "postgres", feature = "mysql"))]
use tokio::sync::Semaphore;

#[cfg(any(feature = "postgres", feature = "mysql"))]
use crate::sql::engine::check::{self, Known, View};
use crate::sql::engine::dialect::Dialect;
use crate::sql::engine::error::{DbError, DbResult, Kind};
#[cfg(any(feature = "postgres", feature = "mysql"))]
use crate::sql::engine::executor::Losses;
use crate::sql::engine::executor::{ConnRef, Executor, Shared, State};
#[cfg(any(feature = "postgres", feature = "mysql"))]
use crate::sql::engine::fullness::Fullness;
#[cfg(any(feature = "postgres", feature = "mysql"))]
use crate::sql::engine::idle::{Fit, Idle, User};
#[cfg(any(feature = "postgres", feature = "mysql"))]
use crate::sql::engine::options::{SchemaName, ServerOptions};
use crate::sql::engine::value::{Row, Value};

/// An open connection.
enum Open {
    #[cfg(feature = "sqlite")]
    Sqlite(Box<crate::sqlite::Connection>),
    #[cfg(feature = "postgres")]
    Postgres(sqlx::PgConnection),
    #[cfg(feature = "mysql")]
    MySql(sqlx::MySqlConnection, crate::mysql::Node),
}

/// A connection and its state, as far as it is known.
pub struct Conn {
    open: Open,
    /// The state that the last statement left.
    pub state: State,
    /// Whether a transaction was started and has not ended.
    pub in_transaction: bool,
    /// When the connection and its server were last checked.
    #[cfg(any(feature = "postgres", feature = "mysql"))]
    checked_at: Instant,
    /// The name of its server.
    #[cfg(any(feature = "postgres", feature = "mysql"))]
    server: String,
    /// How often the primary had changed when it was opened.
    #[cfg(any(feature = "postgres", feature = "mysql"))]
    changes: u64,
    /// The schema in which it finds the tables, if it is one of a [`ServerPool`] and has entered one.
    #[cfg(any(feature = "postgres", feature = "mysql"))]
    schema: Option<SchemaName>,
    /// The schemas that the connection has entered.
    #[cfg(any(feature = "postgres", feature = "mysql"))]
    entered: HashSet<SchemaName>,
}

/// The maximum number of schemas that a connection remembers.
#[cfg(any(feature = "postgres", feature = "mysql"))]
const MOST_ENTERED: usize = 1_000;

impl Conn {
    fn new(open: Open) -> Self {
        Self {
            open,
            state: State::Idle,
            in_transaction: false,
            #[cfg(any(feature = "postgres", feature = "mysql"))]
            checked_at: Instant::now(),
            #[cfg(any(feature = "postgres", feature = "mysql"))]
            server: String::new(),
            #[cfg(any(feature = "postgres", feature = "mysql"))]
            changes: 0,
            #[cfg(any(feature = "postgres", feature = "mysql"))]
            schema: None,
            #[cfg(any(feature = "postgres", feature = "mysql"))]
            entered: HashSet::new(),
        }
    }

    /// Returns how well the connection suits a shop with this schema.
    #[cfg(any(feature = "postgres", feature = "mysql"))]
    fn fit(&self, schema: &SchemaName) -> Fit {
        if self.schema.as_ref() == Some(schema) {
            Fit::Current
        } else if self.entered.contains(schema) {
            Fit::Former
        } else {
            Fit::New
        }
    }

    /// Returns whether a statement or a transaction on it has not ended.
    fn is_undone(&self) -> bool {
        self.state != State::Idle || self.in_transaction
    }

    /// Ends the transaction of a connection to SQLite, unless a thread of the blocking pool still has it, or a statement
    /// has failed. Other databases end it when the connection is closed.
    fn roll_back_now(&mut self) {
        #[cfg(feature = "sqlite")]
        if let Open::Sqlite(c) = &mut self.open
            && self.in_transaction
            && self.state != State::Failed
            && c.brief("ROLLBACK").is_ok()
        {
            self.in_transaction = false;
            self.state = State::Idle;
        }
    }

    /// Sets the size of the page cache of a connection to SQLite.
    #[cfg(feature = "sqlite")]
    pub(crate) fn make_room(&mut self, room: crate::sqlite::Room) {
        match &mut self.open {
            Open::Sqlite(c) => c.make_room(room),
            #[cfg(any(feature = "postgres", feature = "mysql"))]
            _ => {}
        }
    }

    /// Chooses where a connection to SQLite sorts rows. It must not be in a transaction.
    #[cfg(feature = "sqlite")]
    pub(crate) fn sort_in_files(&mut self, in_files: bool) {
        match &mut self.open {
            Open::Sqlite(c) => c.sort_in_files(in_files),
            #[cfg(any(feature = "postgres", feature = "mysql"))]
            _ => {}
        }
    }

    /// Undoes what a connection to SQLite has written since a savepoint. Returns false if that is not possible.
    #[cfg(feature = "sqlite")]
    pub fn roll_back_savepoint(&mut self) -> bool {
        match &mut self.open {
            Open::Sqlite(c) => {
                // A call that was dropped between two statements leaves `InFlight` behind.
                let is_done =
                    self.state != State::Failed && c.brief("ROLLBACK TO ecom_unit; RELEASE ecom_unit").is_ok();
                if is_done {
                    self.state = State::Idle;
                }
                is_done
            }
            #[cfg(feature = "postgres")]
            Open::Postgres(_) => false,
            #[cfg(feature = "mysql")]
            Open::MySql(..) => false,
        }
    }

    /// Returns an executor on this connection.
    pub fn executor<'c>(&'c mut self, shared: &'c Shared) -> Executor<'c> {
        let conn = match &mut self.open {
            #[cfg(feature = "sqlite")]
            Open::Sqlite(c) => ConnRef::Sqlite(c),
            #[cfg(feature = "postgres")]
            Open::Postgres(c) => ConnRef::Postgres(c),
            #[cfg(feature = "mysql")]
            Open::MySql(c, node) => {
                ConnRef::MySql(c, if self.in_transaction { *node } else { crate::mysql::Node::Alone })
            }
        };
        Executor::new(conn, &mut self.state, shared)
    }

    /// Makes the connection find the tables in a schema, with one statement if it was used for another one before. If
    /// the call fails or is dropped, the connection is closed when it is returned.
    #[cfg(any(feature = "postgres", feature = "mysql"))]
    async fn enter(&mut self, schema: &SchemaName, shared: &Shared) -> DbResult<()> {
        if self.schema.as_ref() == Some(schema) {
            return Ok(());
        }
        self.schema = None;
        self.executor(shared).enter(schema).await?;
        self.schema = Some(schema.clone());
        if self.entered.len() >= MOST_ENTERED {
            self.entered.clear();
        }
        self.entered.insert(schema.clone());
        Ok(())
    }

    /// Creates a schema, if it does not exist.
    #[cfg(any(feature = "postgres", feature = "mysql"))]
    async fn create_schema(&mut self, schema: &SchemaName) -> DbResult<()> {
        self.state = State::InFlight;
        match &mut self.open {
            #[cfg(feature = "sqlite")]
            Open::Sqlite(_) => {}
            #[cfg(feature = "postgres")]
            Open::Postgres(c) => crate::postgres::create_schema(c, schema).await?,
            #[cfg(feature = "mysql")]
            Open::MySql(c, _) => crate::mysql::create_schema(c, schema).await?,
        }
        self.state = State::Idle;
        Ok(())
    }

    /// Reads what a SELECT outside of a transaction shows about the server of the connection, and about the schema if
    /// that is asked for. A file has no server.
    #[cfg(any(feature = "postgres", feature = "mysql"))]
    async fn view(&mut self, with_schema: bool) -> DbResult<Option<View>> {
        let columns = with_schema.then(check::schema_columns);
        match &mut self.open {
            #[cfg(feature = "sqlite")]
            Open::Sqlite(_) => Ok(None),
            #[cfg(feature = "postgres")]
            Open::Postgres(c) => crate::postgres::view(c, columns).await.map(Some),
            #[cfg(feature = "mysql")]
            Open::MySql(c, _) => crate::mysql::view(c, columns).await.map(Some),
        }
    }

    /// Returns the name of the server to which transactions go.
    #[cfg(any(feature = "postgres", feature = "mysql"))]
    async fn server_of_transactions(&mut self) -> DbResult<String> {
        match &mut self.open {
            #[cfg(feature = "sqlite")]
            Open::Sqlite(_) => Ok(String::new()),
            #[cfg(feature = "postgres")]
            Open::Postgres(c) => crate::postgres::server_of_transactions(c).await,
            #[cfg(feature = "mysql")]
            Open::MySql(c, _) => crate::mysql::server_of_transactions(c).await,
        }
    }

    /// Checks a connection that was just opened, see [`check`].
    ///
    /// # Errors
    /// `Unavailable` if its server is refused.
    #[cfg(any(feature = "postgres", feature = "mysql"))]
    async fn check_first(&mut self, shared: &Shared) -> DbResult<()> {
        self.changes = shared.known.changes();
        let server = self.server_of_transactions().await?;
        let is_known = shared.known.contains(&server);
        for _ in 1..if is_known { 1 } else { check::READS_OF_A_NEW_SERVER } {
            let Some(view) = self.view(false).await? else { return Ok(()) };
            view.check(&server)?;
        }
        let identity = shared.identity.get();
        let view = self.view(identity.is_some()).await;
        let view = if identity.is_some() { view.map_err(check::no_schema) } else { view };
        let Some(view) = view? else { return Ok(()) };
        view.check(&server)?;
        if let Some(identity) = identity {
            check::check_schema(shared.dialect, identity, &view.schema)?;
        }
        if !is_known {
            let timeline = match &mut self.open {
                #[cfg(feature = "postgres")]
                Open::Postgres(c) => crate::postgres::timeline(c).await?,
                #[cfg(any(feature = "sqlite", feature = "mysql"))]
                _ => None,
            };
            self.changes = shared.known.add(server.clone(), timeline)?;
        }
        self.server = server;
        Ok(())
    }

    /// Checks a connection that was checked before: it must still lead to the same server, and that server must still
    /// write. If the call fails or is dropped, the connection must be closed, and counts as in flight.
    ///
    /// # Errors
    /// `Unavailable`.
    #[cfg(any(feature = "postgres", feature = "mysql"))]
    async fn check_again(&mut self) -> DbResult<()> {
        self.state = State::InFlight;
        if let Some(view) = self.view(false).await? {
            view.check(&self.server)?;
        }
        self.state = State::Idle;
        self.checked_at = Instant::now();
        Ok(())
    }
}

/// The way to open connections.
#[derive(Clone)]
pub enum Opener {
    /// Opens connections to SQLite.
    #[cfg(feature = "sqlite")]
    Sqlite {
        /// The options of the database.
        options: crate::sqlite::SqliteOptions,
        /// The role of the connections.
        role: crate::sqlite::Role,
        /// The statements that the connections know to take long.
        slow: Arc<crate::sqlite::Slow>,
    },
    /// Opens connections to PostgreSQL.
    #[cfg(feature = "postgres")]
    Postgres(Box<sqlx::postgres::PgConnectOptions>),
    /// Opens connections to MySQL or MariaDB.
    #[cfg(feature = "mysql")]
    MySql {
        /// The options of the driver.
        options: Box<sqlx::mysql::MySqlConnectOptions>,
        /// How many prepared statements a connection keeps.
        kept: usize,
        /// The server's time limit of a statement.
        limit: Option<Duration>,
    },
}

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opener").finish_non_exhaustive()
    }
}

impl Opener {
    /// Sets limits in each session after which the server gives up a lock, a statement or an idle transaction. Through
    /// a pooler, whose sessions are not ours, it changes nothing.
    #[cfg(any(feature = "postgres", feature = "mysql"))]
    fn session(&mut self, limit: Duration, through_pooler: bool) {
        #[cfg(not(feature = "postgres"))]
        let _ = through_pooler;
        match self {
            #[cfg(feature = "postgres")]
            Self::Postgres(o) if !through_pooler => **o = crate::postgres::with_limits((**o).clone(), limit),
            #[cfg(feature = "mysql")]
            Self::MySql { limit: l, .. } => *l = Some(limit),
            #[expect(clippy::allow_attributes, reason = "which arms are left depends on the features")]
            #[allow(unreachable_patterns, reason = "as above")]
            _ => {}
        }
    }

    /// Makes connections that are opened from now on begin in a schema.
    #[cfg(any(feature = "postgres", feature = "mysql"))]
    fn begin_in(&mut self, schema: &SchemaName) {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite { .. } => {}
            #[cfg(feature = "postgres")]
            Self::Postgres(o) => **o = crate::postgres::in_schema((**o).clone(), schema),
            #[cfg(feature = "mysql")]
            Self::MySql { options, .. } => **options = (**options).clone().database(schema.as_str()),
        }
    }

    /// Opens a connection, and checks its server.
    ///
    /// # Errors
    /// `Unavailable` if the server is refused, see [`check`].
    #[cfg_attr(not(any(feature = "postgres", feature = "mysql")), expect(unused_variables, reason = "no servers"))]
    pub(super) async fn open(&self, shared: &Shared) -> DbResult<Conn> {
        let open = match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite { options, role, slow } => {
                Open::Sqlite(Box::new(crate::sqlite::Connection::open(options, *role, slow.clone()).await?))
            }
            #[cfg(feature = "postgres")]
            Self::Postgres(o) => Open::Postgres(crate::postgres::open(o).await?),
            #[cfg(feature = "mysql")]
            Self::MySql { options, kept, limit } => {
                let (c, node) = crate::mysql::open(options, *kept, *limit).await?;
                Open::MySql(c, node)
            }
        };
        #[cfg_attr(not(any(feature = "postgres", feature = "mysql")), expect(unused_mut, reason = "no servers"))]
        let mut conn = Conn::new(open);
        #[cfg(any(feature = "postgres", feature = "mysql"))]
        let checked = conn.check_first(shared).await;
        #[cfg(any(feature = "postgres", feature = "mysql"))]
        shared.known.noted(checked)?;
        Ok(conn)
    }
}

/// Opens connections and checks those that are used again.
#[derive(Debug)]
pub struct Opens {
    opener: Opener,
    /// Whether this connection is the database itself, so that it is cleaned up and never closed.
    only_one: bool,
    /// Connections that are older than this are replaced.
    max_lifetime: Option<Duration>,
    /// Connections whose last check is older than this are checked before they are used.
    #[cfg(any(feature = "postgres", feature = "mysql"))]
    check_interval: Duration,
    pub(super) shared: Arc<Shared>,
}

impl Manager for Opens {
    type Type = Conn;
    type Error = DbError;

    async fn create(&self) -> std::result::Result<Conn, DbError> {
        self.opener.open(&self.shared).await
    }

    async fn recycle(&self, conn: &mut Conn, metrics: &Metrics) -> RecycleResult<DbError> {
        // The only connection is cleaned up once it is lent: if cleaning up while it is recycled were cancelled, it
        // would be closed.
        if self.only_one {
            return Ok(());
        }
        if conn.is_undone() {
            return Err(RecycleError::message("dropped in flight"));
        }
        if self.max_lifetime.is_some_and(|l| metrics.age() > l) {
            return Err(RecycleError::message("too old"));
        }
        #[cfg(any(feature = "postgres", feature = "mysql"))]
        {
            if conn.changes != self.shared.known.changes() {
                return Err(RecycleError::message("the database has another primary"));
            }
            // If another connection was lost since, the server may have closed all of them, or have another role.
            let lost = self.shared.losses.last().is_some_and(|lost| lost >= conn.checked_at);
            if lost || conn.checked_at.elapsed() > self.check_interval {
                let checked = conn.check_again().await;
                self.shared.known.noted(checked).map_err(RecycleError::Backend)?;
            }
        }
        Ok(())
    }
}

/// A connection of the pool. When it is dropped it returns to the pool, unless a statement or a transaction on it has
/// not ended.
pub struct Lent {
    object: Option<Object<Opens>>,
    /// Counts this caller among the users of the connections of a [`ServerPool`].
    #[cfg(any(feature = "postgres", feature = "mysql"))]
    user: Option<User<Object<Opens>>>,
    /// The turn of the storage at the connections of a [`ServerPool`].
    _turn: Option<OwnedSemaphorePermit>,
}

impl Lent {
    /// Begins a transaction.
    pub async fn begin(&mut self, shared: &Shared) -> DbResult<()> {
        let conn = self.conn();
        // Set before the answer arrives, because a call that is cancelled in between leaves a transaction open.
        conn.in_transaction = true;
        if let Err(e) = conn.executor(shared).begin().await {
            conn.in_transaction = false;
            return Err(e);
        }
        Ok(())
    }

    /// Returns the connection.
    pub fn conn(&mut self) -> &mut Conn {
        match self.object.as_deref_mut() {
            Some(c) => c,
            None => unreachable!("only Drop takes it"),
        }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let Some(mut object) = self.object.take() else { return };
        object.roll_back_now();
        let kept = if object.is_undone() && !Object::pool(&object).is_some_and(|p| p.manager().only_one) {
            // Closing it ends its transaction and with that its locks.
            drop(Object::take(object));
            None
        } else {
            Some(object)
        };
        #[cfg(any(feature = "postgres", feature = "mysql"))]
        if let (Some(object), Some(user)) = (kept, self.user.take()) {
            user.put_back(object);
        }
        #[cfg(not(any(feature = "postgres", feature = "mysql")))]
        drop(kept);
    }
}

/// A SQL database behind the storage ports.
///
/// Cheap to clone: all clones share the pool.
#[derive(Clone)]
pub struct SqlStorage {
    pub(super) readers: Pool<Opens>,
    pub(super) writer: Pool<Opens>,
    pub(crate) shared: Arc<Shared>,
    /// The short transactions that share commits, on a file of SQLite.
    #[cfg(feature = "sqlite")]
    pub(super) groups: Option<Arc<crate::sqlite::Groups>>,
    /// Whether readers and writer are the same pool.
    pub(super) one_pool: bool,
    /// The time for which a caller waits for a connection, including the time to open one.
    pub(crate) wait: Duration,
    /// The way in which migrations open their connection, if they do not use a pooled one.
    pub(super) migrations: Option<Opener>,
    /// The part of this storage in the connections that it shares with others.
    #[cfg(any(feature = "postgres", feature = "mysql"))]
    pub(super) part: Option<Arc<Part>>,
    pub(super) clock: SharedClock,
    pub(super) ids: Arc<dyn IdSource>,
}

impl fmt::Debug for SqlStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqlStorage")
            .field("database", &self.shared.dialect.name)
            .field("currency", &self.shared.currency.get())
            .finish_non_exhaustive()
    }
}

/// The connections of this process to a PostgreSQL, MySQL or MariaDB server that the storages of several shops share.
/// Each shop has a schema of one PostgreSQL database, or a database of MySQL or MariaDB, of its own.
///
/// A connection serves one shop at a time, from when it is lent until it is returned. If it last served another shop,
/// it first switches to the schema of this one with one statement: `SET search_path` on PostgreSQL, after which the
/// server plans the prepared statements of the connection again, or `USE` on MySQL, after which they are prepared
/// again. Of the idle connections, a shop therefore gets one that it used last, or else one that it has used before, or
/// else the one that has been idle longest. If none is idle, it gets a new one or the next one that is returned; it
/// never waits for a particular one.
///
/// Cheap to clone: all clones share the connections.
#[cfg(any(feature = "postgres", feature = "mysql"))]
#[derive(Clone)]
pub struct ServerPool {
    pool: Pool<Opens>,
    slot: usize,
    wait: Duration,
    limit: Duration,
    losses: Arc<Losses>,
    fullness: Arc<Fullness>,
    known: Arc<Known>,
    idle: Arc<Idle<Object<Opens>>>,
    /// The turns of migrations, each of which has a connection of its own.
    migrations: Arc<Semaphore>,
}

#[cfg(any(feature = "postgres", feature = "mysql"))]
impl fmt::Debug for ServerPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerPool").field("status", &self.status()).finish_non_exhaustive()
    }
}

/// How many migrations of the shops of a [`ServerPool`] run at a time, each on a connection besides those of the pool.
#[cfg(any(feature = "postgres", feature = "mysql"))]
const MIGRATIONS_AT_ONCE: usize = 2;

#[cfg(any(feature = "postgres", feature = "mysql"))]
impl ServerPool {
    /// Returns a pool of at most [`ServerOptions::max_connections`] connections to the server of the options. The
    /// schema of the options, and their database on MySQL, are ignored. Nothing is opened yet. While shops are
    /// migrated, the process has up to two further connections.
    ///
    /// # Errors
    /// `Validation` on field `database` if the options have a pooler, because a pooler does not keep the schema of a
    /// session.
    /// `Internal` if the pool cannot be created.
    pub fn new(options: ServerOptions) -> Result<Self> {
        if options.transaction_pooler {
            let message = "must not have the parameter `pooler`, since shops that share connections set the schema of \
                           their sessions";
            return Err(Error::invalid("database", FieldCode::Inconsistent, message));
        }
        let (slot, wait, limit) = (options.dialect.slot, options.acquire_timeout, options.statement_timeout);
        let shared = Arc::new(Shared::new(options.dialect, None).limited(limit));
        let (losses, fullness, known) = (shared.losses.clone(), shared.fullness.clone(), shared.known.clone());
        let mut opener = options.opener;
        opener.session(limit, false);
        match &mut opener {
            #[cfg(feature = "mysql")]
            Opener::MySql { options, .. } => {
                // That of a shop may not exist yet; this one exists always, and everybody may use it.
                **options = (**options).clone().database("information_schema");
            }
            #[cfg(any(feature = "sqlite", feature = "postgres"))]
            _ => {}
        }
        let max_lifetime = Some(options.max_lifetime);
        let opens = Opens { opener, only_one: false, max_lifetime, check_interval: options.check_interval, shared };
        let pool = pool(opens, options.max_connections, wait)?;
        let idle = Idle::new(pool.status().max_size);
        let migrations = Arc::new(Semaphore::new(MIGRATIONS_AT_ONCE));
        Ok(Self { pool, slot, wait, limit, losses, fullness, known, idle, migrations })
    }

    /// Returns the state of the pool.
    pub fn status(&self) -> PoolStatus {
        status(&self.pool, self.idle.len())
    }

    /// Closes the idle connections, and the others when they are returned. Later calls of the storages fail.
    pub fn close(&self) {
        self.pool.close();
        self.idle.close();
    }
}

/// The part of one storage in the connections of a [`ServerPool`].
#[cfg(any(feature = "postgres", feature = "mysql"))]
#[derive(Debug)]
pub struct Part {
    schema: SchemaName,
    /// The connections that the storage may use at a time; closed with the storage.
    turns: Arc<Semaphore>,
    /// The idle connections of all storages.
    idle: Arc<Idle<Object<Opens>>>,
    /// The turns of the migrations of all storages.
    pub(super) migrations: Arc<Semaphore>,
}

#[cfg(any(feature = "postgres", feature = "mysql"))]
impl Part {
    /// Refuses further calls.
    pub(super) fn close(&self) {
        self.turns.close();
    }

    /// Returns the idle connection that suits the storage best, or one of the pool. It closes idle connections that
    /// must not be used again, as the pool does.
    async fn get(
        &self,
        pool: &Pool<Opens>,
        user: &User<Object<Opens>>,
    ) -> std::result::Result<Object<Opens>, PoolError<DbError>> {
        while let Some(mut object) = user.take(|object| object.fit(&self.schema)) {
            let metrics = *Object::metrics(&object);
            let checking = pool.manager().recycle(&mut object, &metrics);
            // If this is dropped meanwhile, the connection is in flight, and the pool closes it.
            if matches!(tokio::time::timeout(CHECK_LIMIT, checking).await, Ok(Ok(()))) {
                return Ok(object);
            }
            drop(Object::take(object));
        }
        pool.get().await
    }
}

/// The time limit for opening a connection and for checking one again.
pub(super) const OPEN_LIMIT: Duration = Duration::from_secs(5);
const CHECK_LIMIT: Duration = Duration::from_secs(1);

fn pool(opens: Opens, size: usize, wait: Duration) -> Result<Pool<Opens>> {
    // Opening a file has a limit of its own, the time for which another process may lock it.
    let create = if opens.shared.dialect.is_file { wait } else { OPEN_LIMIT.min(wait) };
    Pool::builder(opens)
        .max_size(size.max(1))
        .timeouts(Timeouts { wait: Some(wait), create: Some(create), recycle: Some(CHECK_LIMIT) })
        // The connection that was used last has the warmest caches.
        .queue_mode(QueueMode::Lifo)
        .runtime(deadpool::Runtime::Tokio1)
        .build()
        .map_err(|e| Error::internal("creating a connection pool", e))
}

/// Returns the state of a pool. For deadpool, the connections that storages share are in use while they are idle:
/// `idle` is the number of those.
fn status(pool: &Pool<Opens>, idle: usize) -> PoolStatus {
    let s = pool.status();
    PoolStatus::default().max(s.max_size).size(s.size).idle(s.available + idle).waiting(s.waiting)
}

/// Returns the error for a URL of a database that is not compiled in.
#[cfg(not(all(feature = "sqlite", feature = "postgres", feature = "mysql")))]
fn no_feature<T>(provider: &'static str, capability: &'static str) -> Result<T> {
    Err(Error::Unsupported { provider, capability })
}

impl SqlStorage {
    /// Opens a database behind a server. One pool serves reads and writes.
    ///
    /// # Errors
    /// `Internal` if the pool cannot be created.
    #[cfg(any(feature = "postgres", feature = "mysql"))]
    pub fn server(mut options: ServerOptions) -> Result<Self> {
        let wait = options.acquire_timeout;
        let shared = Arc::new(Shared::new(options.dialect, None).limited(options.statement_timeout));
        let mut migrations = options.direct.take().unwrap_or_else(|| options.opener.clone());
        let mut opener = options.opener;
        if let Some(schema) = &options.schema {
            migrations.begin_in(schema);
            opener.begin_in(schema);
        }
        opener.session(options.statement_timeout, options.transaction_pooler);
        let opens = Opens {
            opener,
            only_one: false,
            max_lifetime: Some(options.max_lifetime),
            check_interval: options.check_interval,
            shared: shared.clone(),
        };
        let pool = pool(opens, options.max_connections, wait)?;
        Ok(Self {
            readers: pool.clone(),
            writer: pool,
            shared,
            #[cfg(feature = "sqlite")]
            groups: None,
            one_pool: true,
            wait,
            migrations: Some(migrations),
            part: None,
            ids: options.ids,
            clock: options.clock,
        })
    }

    /// Returns the storage of one shop on a pool that it shares with other shops. The schema of the options, or their
    /// database on MySQL, is that of the shop. Their server must be that of the pool; only its kind is checked. The
    /// shop uses at most `max_connections` of the options at a time, and never more than the pool has. The time limits
    /// are those of the pool. [`Storage::close`] closes no connection, and later calls of this storage fail with
    /// `Unavailable`.
    ///
    /// If the schema has all migrations, [`Storage::migrate`] uses a connection of the pool. If not, it waits until
    /// fewer than two storages of the pool are being migrated, and then opens a connection of its own. It does not
    /// create the schema; [`Self::create_schema`] does.
    ///
    /// # Errors
    /// `Validation` on field `database` if the options have no schema, a schema with a name that is not allowed, or
    /// another kind of database than the pool.
    ///
    /// [`Storage::close`]: ecom_core::port::Storage::close
    /// [`Storage::migrate`]: ecom_core::port::Storage::migrate
    #[cfg(any(feature = "postgres", feature = "mysql"))]
    pub fn server_on(pool: &ServerPool, mut options: ServerOptions) -> Result<Self> {
        if options.dialect.slot != pool.slot {
            let message = "must lead to the same kind of database as the shared connections";
            return Err(Error::invalid("database", FieldCode::Inconsistent, message));
        }
        let schema = options.place()?;
        let mut shared = Shared::new(options.dialect, None).limited(pool.limit);
        shared.losses = pool.losses.clone();
        shared.fullness = pool.fullness.clone();
        shared.known = pool.known.clone();
        let mut migrations = options.direct.take().unwrap_or(options.opener);
        migrations.begin_in(&schema);
        let most = options.max_connections.clamp(1, pool.status().max.max(1));
        let part = Part {
            schema,
            turns: Arc::new(Semaphore::new(most)),
            idle: pool.idle.clone(),
            migrations: pool.migrations.clone(),
        };
        Ok(Self {
            readers: pool.pool.clone(),
            writer: pool.pool.clone(),
            shared: Arc::new(shared),
            #[cfg(feature = "sqlite")]
            groups: None,
            one_pool: true,
            wait: pool.wait,
            migrations: Some(migrations),
            part: Some(Arc::new(part)),
            ids: options.ids,
            clock: options.clock,
        })
    }

    /// Creates the schema of a storage on shared connections, or its database on MySQL, if it does not exist. Other
    /// storages have nothing to create.
    ///
    /// # Errors
    /// `Validation` on field `database` if the user lacks the right, `Unavailable`.
    #[cfg(any(feature = "postgres", feature = "mysql"))]
    pub async fn create_schema(&self) -> Result<()> {
        let Some(part) = &self.part else { return Ok(()) };
        let mut lent = self.take(&self.writer).await?;
        match lent.conn().create_schema(&part.schema).await {
            Ok(()) => Ok(()),
            // Two processes have created it at the same time.
            Err(e) if matches!(e.kind, Kind::Unique(_)) => Ok(()),
            Err(e) => Err(e.at_start()),
        }
    }

    /// Opens the database of a URL: `sqlite://path`, `sqlite::memory:`, `postgres://…`, `mysql://…`. Nothing is read
    /// yet; call [`Storage::migrate`](ecom_core::port::Storage::migrate) next.
    ///
    /// # Errors
    /// `Validation` on field `database`, `Unsupported` for a database whose feature is not compiled in.
    pub fn open(url: &str) -> Result<Self> {
        // No more of the URL than its scheme: the rest may contain a password.
        let scheme = url.split_once(':').map_or("", |(s, _)| s);
        match scheme {
            #[cfg(feature = "sqlite")]
            "sqlite" => Self::sqlite(crate::sqlite::SqliteOptions::from_url(url)?),
            #[cfg(not(feature = "sqlite"))]
            "sqlite" => no_feature("sqlite", "turn on the feature `sqlite`"),
            #[cfg(feature = "postgres")]
            "postgres" | "postgresql" => Self::server(ServerOptions::from_url(url)?),
            #[cfg(not(feature = "postgres"))]
            "postgres" | "postgresql" => no_feature("postgres", "turn on the feature `postgres`"),
            #[cfg(feature = "mysql")]
            "mysql" | "mariadb" => Self::server(ServerOptions::from_url(url)?),
            #[cfg(not(feature = "mysql"))]
            "mysql" | "mariadb" => no_feature("mysql", "turn on the feature `mysql`"),
            _ => Err(Error::invalid(
                "database",
                FieldCode::OutOfBounds,
                "must start with `sqlite:`, `postgres:` or `mysql:`",
            )),
        }
    }

    /// Opens a SQLite database.
    ///
    /// # Errors
    /// `Internal` if the pool cannot be created.
    #[cfg(feature = "sqlite")]
    #[expect(clippy::needless_pass_by_value, reason = "callers make them for this call")]
    pub fn sqlite(options: crate::sqlite::SqliteOptions) -> Result<Self> {
        use crate::sqlite::Role;
        let shared = Arc::new(Shared::new(&crate::sqlite::DIALECT, None));
        let only_one = options.path().is_none();
        let (wait, readers) = (options.acquire_timeout, options.readers);
        let (clock, ids) = (options.clock.clone(), options.ids.clone());
        let slow = Arc::default();
        let opens = |role| Opens {
            opener: Opener::Sqlite { options: options.clone(), role, slow: Arc::clone(&slow) },
            only_one,
            max_lifetime: None,
            #[cfg(any(feature = "postgres", feature = "mysql"))]
            check_interval: Duration::MAX,
            shared: shared.clone(),
        };
        let writer = pool(opens(Role::Writer), 1, wait)?;
        let readers = if only_one { writer.clone() } else { pool(opens(Role::Reader), readers, wait)? };
        let groups = (!only_one).then(|| crate::sqlite::Groups::new(&options));
        Ok(Self {
            readers,
            writer,
            shared,
            groups,
            one_pool: only_one,
            wait,
            migrations: None,
            #[cfg(any(feature = "postgres", feature = "mysql"))]
            part: None,
            clock,
            ids,
        })
    }

    /// Returns a connection of the pool on which this storage finds its tables.
    pub(super) async fn lend(&self, pool: &Pool<Opens>) -> Result<Lent> {
        #[cfg(any(feature = "postgres", feature = "mysql"))]
        if let Some(part) = &self.part {
            let mut lent = self.take(pool).await?;
            let mut entered = lent.conn().enter(&part.schema, &self.shared).await;
            if entered.as_ref().is_err_and(|e| e.kind == Kind::Lost) {
                // The connection died while it was idle, and the pool checks the other connections from now on.
                drop(lent);
                lent = self.take(pool).await?;
                entered = lent.conn().enter(&part.schema, &self.shared).await;
            }
            let is_starting = self.shared.currency.get().is_none();
            return entered.map(|()| lent).map_err(|e| if is_starting { e.at_start() } else { e.into() });
        }
        self.take(pool).await
    }

    /// Waits for the turn of this storage at connections that it shares with others.
    async fn turn(&self) -> Result<Option<OwnedSemaphorePermit>> {
        #[cfg(any(feature = "postgres", feature = "mysql"))]
        if let Some(part) = &self.part {
            let turn = part.turns.clone().acquire_owned().await;
            return turn.map(Some).map_err(|closed| Error::unavailable(Dependency::Database, closed));
        }
        std::future::ready(Ok(None)).await
    }

    /// Returns a connection of the pool.
    async fn take(&self, pool: &Pool<Opens>) -> Result<Lent> {
        // The pool's own limits apply to each step, so several dead connections in a row would add up.
        let getting = async {
            let turn = self.turn().await?;
            #[cfg(any(feature = "postgres", feature = "mysql"))]
            if let Some(part) = &self.part {
                let user = part.idle.user();
                let got = part.get(pool, &user).await;
                return Ok((got, turn, Some(user)));
            }
            Ok((pool.get().await, turn, None))
        };
        let got = tokio::time::timeout(self.wait, getting).await;
        let (got, turn, user) = got.unwrap_or_else(|_| Err(self.waited(pool)))?;
        #[cfg(not(any(feature = "postgres", feature = "mysql")))]
        let _: Option<()> = user;
        match got {
            Ok(object) => {
                // A file has few connections, which are all in use whenever the shop is busy.
                #[cfg(any(feature = "postgres", feature = "mysql"))]
                if !self.shared.dialect.is_file {
                    let status = self.status(pool);
                    let in_use = status.size.saturating_sub(status.idle);
                    self.shared.fullness.note(in_use, status.max, status.waiting);
                }
                let mut lent = Lent {
                    object: Some(object),
                    #[cfg(any(feature = "postgres", feature = "mysql"))]
                    user,
                    _turn: turn,
                };
                let conn = lent.conn();
                if conn.is_undone() {
                    // Only the one connection of a database in memory gets here. The statement of the cancelled call
                    // has completed by the time that this one runs. If its transaction is still open, it is rolled
                    // back; if not, the ROLLBACK fails, which is harmless.
                    let _ = conn.executor(&self.shared).rollback().await;
                    conn.in_transaction = false;
                    conn.state = State::Idle;
                }
                Ok(lent)
            }
            Err(PoolError::Backend(e)) if matches!(e.kind, Kind::Setup(_) | Kind::Damaged(_)) => {
                let is_starting = self.shared.dialect.is_file && self.shared.currency.get().is_none();
                Err(if is_starting { e.at_start() } else { e.into() })
            }
            // If no connection can be opened, the database is out of reach, and nothing was written.
            Err(PoolError::Backend(e)) => Err(Error::unavailable(Dependency::Database, e.source)),
            Err(PoolError::Timeout(TimeoutType::Wait)) => Err(self.waited(pool)),
            Err(e) => Err(Error::unavailable(Dependency::Database, e)),
        }
    }

    /// Returns the state of a pool.
    pub(super) fn status(&self, pool: &Pool<Opens>) -> PoolStatus {
        #[cfg(any(feature = "postgres", feature = "mysql"))]
        if let Some(part) = &self.part {
            return status(pool, part.idle.len());
        }
        #[cfg(not(any(feature = "postgres", feature = "mysql")))]
        let _ = self;
        status(pool, 0)
    }

    /// Returns the error for a caller who waited in vain for a connection of the pool.
    fn waited(&self, pool: &Pool<Opens>) -> Error {
        let (wait, status) = (self.wait, self.status(pool));
        #[cfg(any(feature = "postgres", feature = "mysql"))]
        if self.part.as_ref().is_some_and(|part| part.turns.available_permits() == 0) {
            let message = format!(
                "all connections that one shop may use at a time were in use for {wait:?}: end transactions that are \
                 still open, or raise `ShopsLimits::connections_per_shop`"
            );
            return Error::unavailable(Dependency::Database, message);
        }
        // If not all connections are lent, opening one took too long.
        let message = if status.size.saturating_sub(status.idle) < status.max {
            format!("no connection could be opened within {wait:?}")
        } else if !self.shared.dialect.is_file {
            format!(
                "all {} connections of the pool were in use for {wait:?}: end transactions that are still open, or raise \
                 `max_connections` (`ECOM_DATABASE_POOL`)",
                status.max
            )
        } else if self.one_pool {
            format!(
                "the one connection of the database in memory was in use for {wait:?}: commit or drop the transaction \
                 of this process that is still open, or raise `SqliteOptions::acquire_timeout`"
            )
        } else if status.max == 1 {
            format!(
                "another transaction of this process was open for {wait:?} and is the one writer of the SQLite \
                 database: commit or drop it before the next write, or raise `SqliteOptions::acquire_timeout`"
            )
        } else {
            format!("all {} connections for reads were in use for {wait:?}: raise `SqliteOptions::readers`", status.max)
        };
        Error::unavailable(Dependency::Database, message)
    }

    /// Returns the error for a caller whose turn to write has not come in time.
    #[cfg(feature = "sqlite")]
    pub(crate) fn waited_to_write(&self) -> Error {
        self.waited(&self.writer)
    }

    /// Returns a connection that may write in a new transaction.
    pub(crate) async fn begin_on_writer(&self) -> Result<Lent> {
        let mut lent = self.writer().await?;
        match lent.begin(&self.shared).await {
            // The connection died while it was idle. Nothing was written, and the pool checks the other connections from
            // now on.
            Err(e) if self.migrations.is_some() && e.kind == Kind::Lost => {
                lent = self.writer().await?;
                lent.begin(&self.shared).await?;
            }
            begun => begun?,
        }
        Ok(lent)
    }

    /// Returns a connection that may write, outside a transaction.
    pub(super) async fn writer(&self) -> Result<Lent> {
        self.lend(&self.writer).await
    }

    /// Returns the SQL of the database.
    pub(crate) fn dialect(&self) -> &'static Dialect {
        self.shared.dialect
    }

    /// Reads rows on a connection for reads.
    pub(crate) async fn read_rows(&self, text: String, args: Vec<Value<'_>>) -> Result<Vec<Row>> {
        let mut lent = self.lend(&self.readers).await?;
        Ok(lent.conn().executor(&self.shared).fetch_all(text, args).await?)
    }

    /// Returns the plan that SQLite makes for a statement, for tests that check the use of indexes.
    pub(crate) async fn explain(&self, text: &str, args: Vec<Value<'_>>) -> Result<Vec<String>> {
        self.read_rows(format!("EXPLAIN QUERY PLAN {text}"), args).await?.iter().map(|r| r.string(3)).collect()
    }

    /// Returns the number of a SQLite pragma, on a connection for writes if `write` is set, and for reads otherwise.
    /// For tests.
    #[doc(hidden)]
    pub async fn pragma(&self, name: &'static str, write: bool) -> Result<String> {
        let mut lent = self.lend(if write { &self.writer } else { &self.readers }).await?;
        let text = format!("SELECT CAST({name} AS TEXT) FROM pragma_{name}");
        let row = lent.conn().executor(&self.shared).fetch_optional(text, Vec::new()).await?;
        row.ok_or_else(|| Error::Internal { context: "reading a pragma", source: None })?.string(0)
    }
}
