//! The connection to Redis, and the circuit around it.
//!
//! There is one multiplexed connection for commands, or none: then readers go on at once, without Redis. A call that
//! fails or takes too long takes the connection away, for all; a task in the background makes a new one, with pauses
//! that grow to a second. So a dead or slow Redis costs each call that was under way its time limit, once. (The
//! crate's own `ConnectionManager` reconnects too, but lets every caller wait for that.)
//!
//! # What could not be told
//! An invalidation that fails is kept, and the connection is taken away in the same step; what is invalidated while
//! there is none is kept as well. A new connection serves no reader before everything kept has been told, so that
//! this process never reads from before its own writes. What is kept is bounded: past that it stands for everything.
//!
//! # A server that came back with an older state
//! A server that loads a snapshot, or a replica that takes over, may hold what was invalidated before. Each run of a
//! server has an id: where that changes, everything is dropped before readers come back.

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use ecom_core::{Dependency, Error};
use parking_lot::{RwLock, RwLockUpgradableReadGuard, RwLockWriteGuard};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, ErrorKind, PushInfo, PushKind, RedisError, RedisResult, ServerErrorKind};
use tokio::task::JoinHandle;

use super::forget::Forget;
use super::layout::Layout;

/// How long a connection may take to be made, however short the limit of a call is.
const CONNECT: Duration = Duration::from_secs(1);
/// After the first failed try, then twice as long each time.
const PAUSE: Duration = Duration::from_millis(250);
const MAX_PAUSE: Duration = Duration::from_secs(1);
/// A connection that held this long was a good one: its loss is tried at once again.
const STEADY: Duration = Duration::from_secs(10);

/// The same, once telling them has failed again.
const MOST_AGAIN: usize = 1_000;

/// A connection, by its number: a late failure of an old one takes no new one away.
#[derive(Clone)]
struct Wire {
    connection: MultiplexedConnection,
    number: u64,
}

struct State {
    wire: Option<Wire>,
    /// The number of the newest connection.
    newest: u64,
    /// Empty while there is a connection.
    untold: Forget,
    /// The run of the server that was last spoken to.
    run: Option<String>,
    recovery: Option<JoinHandle<()>>,
    /// Failed tries since the last steady connection.
    tries: u32,
    since: Instant,
    /// Why there is no connection.
    error: Option<Arc<RedisError>>,
    /// There is no connection any more, and none is made.
    closed: bool,
}

struct Inner {
    client: Client,
    timeout: Duration,
    layout: Arc<Layout>,
    state: RwLock<State>,
}

/// See the module.
#[derive(Clone)]
pub(super) struct Link {
    inner: Arc<Inner>,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("connected", &self.inner.state.read().wire.is_some()).finish_non_exhaustive()
    }
}

/// Whether the failure of a call says that the connection, or the server, is of no use at the moment.
fn is_loss(error: &RedisError) -> bool {
    match error.kind() {
        ErrorKind::Io | ErrorKind::Parse | ErrorKind::AuthenticationFailed | ErrorKind::ClusterConnectionNotFound => {
            true
        }
        ErrorKind::Server(kind) => matches!(
            kind,
            ServerErrorKind::BusyLoading
                | ServerErrorKind::MasterDown
                | ServerErrorKind::ReadOnly
                | ServerErrorKind::ClusterDown
                | ServerErrorKind::TryAgain
        ),
        _ => error.code() == Some("NOAUTH"),
    }
}

/// Whether no retry will help: the URL is to be mended.
fn is_refusal(error: &RedisError) -> bool {
    matches!(error.kind(), ErrorKind::AuthenticationFailed | ErrorKind::InvalidClientConfig)
        || matches!(error.code(), Some("NOAUTH" | "WRONGPASS" | "NOPERM"))
        || matches!(error.kind(), ErrorKind::Server(ServerErrorKind::ResponseError))
            && error.detail().is_some_and(|d| d.contains("DB index"))
}

/// `Unavailable`, for this reason.
fn unavailable(error: Option<Arc<RedisError>>) -> Error {
    Error::Unavailable {
        dependency: Dependency::Cache,
        outcome_unknown: false,
        source: error.map(|e| Box::new(e) as Box<dyn std::error::Error + Send + Sync>),
    }
}

impl Link {
    /// Connects, or goes on trying in the background.
    pub(super) async fn open(client: Client, timeout: Duration, layout: Arc<Layout>) -> Result<Self, RedisError> {
        let state = State {
            wire: None,
            newest: 0,
            untold: Forget::default(),
            run: None,
            recovery: None,
            tries: 1,
            since: Instant::now(),
            error: None,
            closed: false,
        };
        let inner = Arc::new(Inner { client, timeout, layout, state: RwLock::new(state) });
        match inner.connect().await {
            Ok((wire, run)) => {
                let mut state = inner.state.write();
                state.wire = Some(wire);
                state.run = run;
                state.tries = 0;
            }
            Err(error) if is_refusal(&error) => return Err(error),
            Err(error) => inner.lost(&mut inner.state.write(), error),
        }
        Ok(Self { inner })
    }

    /// A connection of its own, for pushed messages.
    #[cfg(feature = "memory")]
    pub(super) async fn subscriber(
        &self,
        messages: tokio::sync::mpsc::UnboundedSender<PushInfo>,
    ) -> RedisResult<MultiplexedConnection> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT))
            .set_response_timeout(Some(CONNECT.max(self.inner.timeout)))
            .set_push_sender(messages);
        self.inner.client.get_multiplexed_async_connection_with_config(&config).await
    }

    /// The connection; none where Redis is lost.
    fn wire(&self) -> Result<Wire, Option<Arc<RedisError>>> {
        let state = self.inner.state.read();
        if let Some(wire) = &state.wire {
            return Ok(wire.clone());
        }
        let error = state.error.clone();
        if state.recovery.as_ref().is_none_or(JoinHandle::is_finished) {
            drop(state);
            // Its runtime is gone, or it was lost where there was none.
            self.inner.recover(&mut self.inner.state.write());
        }
        Err(error)
    }

    /// Runs a call whose failure costs speed only; `None` where it failed or Redis is lost.
    pub(super) async fn call<T>(
        &self,
        call: impl AsyncFnOnce(&mut MultiplexedConnection) -> RedisResult<T>,
    ) -> Option<T> {
        let mut wire = self.wire().ok()?;
        match call(&mut wire.connection).await {
            Ok(value) => Some(value),
            Err(error) => {
                if is_loss(&error) {
                    self.inner.lose(wire.number, error);
                } else {
                    tracing::debug!(%error, "a call to the cache failed");
                }
                None
            }
        }
    }

    /// Tells Redis and the other processes; what cannot be told now is told before anybody reads again.
    pub(super) async fn forget(&self, what: Forget) -> Result<(), Error> {
        let mut wire = {
            let state = self.inner.state.upgradable_read();
            match &state.wire {
                Some(wire) => wire.clone(),
                None => {
                    let mut state = RwLockUpgradableReadGuard::upgrade(state);
                    state.untold.add(what);
                    let error = state.error.clone();
                    self.inner.recover(&mut state);
                    return Err(unavailable(error));
                }
            }
        };
        let Err(error) = self.inner.layout.tell(&mut wire.connection, &what).await else { return Ok(()) };
        let mut state = self.inner.state.write();
        state.untold.add(what);
        // Also where there is a newer connection by now: it has not told this.
        self.inner.lost(&mut state, error);
        Err(unavailable(state.error.clone()))
    }

    /// Ends the connection, and the tries to get one.
    pub(super) fn close(&self) {
        let mut state = self.inner.state.write();
        state.closed = true;
        state.wire = None;
        if let Some(recovery) = state.recovery.take() {
            recovery.abort();
        }
    }

    /// Whether it answers.
    pub(super) async fn ping(&self) -> Result<(), Error> {
        let mut wire = self.wire().map_err(unavailable)?;
        match redis::cmd("PING").query_async::<()>(&mut wire.connection).await {
            Ok(()) => Ok(()),
            Err(error) => {
                self.inner.lose(wire.number, error);
                Err(unavailable(self.inner.state.read().error.clone()))
            }
        }
    }
}

impl Inner {
    /// A new connection that answers, with the id of the server's run.
    async fn connect(self: &Arc<Self>) -> RedisResult<(Wire, Option<String>)> {
        let number = {
            let mut state = self.state.write();
            state.newest += 1;
            state.newest
        };
        let weak = Arc::downgrade(self);
        let closed = move |info: PushInfo| {
            if info.kind == PushKind::Disconnection
                && let Some(inner) = Weak::upgrade(&weak)
            {
                // Seen here, the loss costs no reader anything.
                inner.lose(number, RedisError::from(std::io::Error::from(std::io::ErrorKind::ConnectionReset)));
            }
            Ok::<(), redis::aio::SendError>(())
        };
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT))
            .set_response_timeout(Some(self.timeout))
            .set_pipeline_buffer_size(1024)
            .set_push_sender(closed);
        let mut connection = self.client.get_multiplexed_async_connection_with_config(&config).await?;
        redis::cmd("PING").query_async::<()>(&mut connection).await?;
        self.layout.load_scripts(&mut connection).await?;
        self.layout.check(&mut connection).await?;
        // Not everybody may ask; unknown is as good as changed.
        let info: Option<String> = redis::cmd("INFO").arg("server").query_async(&mut connection).await.ok();
        let run = info.and_then(|i| i.lines().find_map(|l| l.strip_prefix("run_id:").map(|id| id.trim().to_owned())));
        Ok((Wire { connection, number }, run))
    }

    /// Takes a connection away that failed.
    fn lose(self: &Arc<Self>, number: u64, error: RedisError) {
        let mut state = self.state.write();
        if state.wire.as_ref().is_some_and(|w| w.number == number) {
            self.lost(&mut state, error);
        }
    }

    /// There is no connection from now on, until the recovery has made one.
    fn lost(self: &Arc<Self>, state: &mut RwLockWriteGuard<'_, State>, error: RedisError) {
        if state.wire.take().is_some() {
            tracing::warn!(%error, "cache lost: reads go to the database until it is back");
            if state.since.elapsed() > STEADY {
                state.tries = 0;
            }
        } else if state.error.is_none() {
            tracing::warn!(%error, "cache not reached: reads go to the database until it is there");
        }
        state.error = Some(Arc::new(error));
        self.recover(state);
    }

    /// Starts the recovery unless it runs.
    fn recover(self: &Arc<Self>, state: &mut RwLockWriteGuard<'_, State>) {
        let runs = state.recovery.as_ref().is_some_and(|r| !r.is_finished());
        if state.wire.is_none()
            && !state.closed
            && !runs
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            state.recovery = Some(runtime.spawn(recovery(Arc::downgrade(self))));
        }
    }

    /// One try: connects, tells what is kept, lets readers in.
    async fn try_again(self: &Arc<Self>) -> RedisResult<()> {
        let (mut wire, run) = self.connect().await?;
        let mut checked = false;
        loop {
            let mut untold = {
                let mut state = self.state.write();
                if !checked && state.run.is_some() && (run.is_none() || state.run != run) {
                    state.untold = Forget::all();
                }
                checked = true;
                if state.closed {
                    return Ok(());
                }
                if state.untold.is_empty() {
                    state.wire = Some(wire);
                    state.run = run;
                    state.error = None;
                    state.since = Instant::now();
                    // What is kept from now on finds a connection, or starts a recovery of its own.
                    state.recovery = None;
                    return Ok(());
                }
                // Taken, so that what is invalidated again meanwhile is told again.
                Untold { inner: self, what: std::mem::take(&mut state.untold) }
            };
            self.layout.tell(&mut wire.connection, &untold.what).await?;
            untold.what = Forget::default();
        }
    }
}

/// What is being told; kept again where that fails or is cut off.
struct Untold<'a> {
    inner: &'a Inner,
    what: Forget,
}

impl Drop for Untold<'_> {
    fn drop(&mut self) {
        if !self.what.is_empty() {
            // So many keys may be what took too long; everything is said in one word.
            let what = if self.what.keys.len() > MOST_AGAIN { Forget::all() } else { std::mem::take(&mut self.what) };
            self.inner.state.write().untold.add(what);
        }
    }
}

async fn recovery(link: Weak<Inner>) {
    loop {
        let Some(tries) = link.upgrade().map(|inner| {
            let mut state = inner.state.write();
            state.tries = state.tries.saturating_add(1);
            state.tries - 1
        }) else {
            return;
        };
        if let Some(doublings) = tries.checked_sub(1) {
            tokio::time::sleep((PAUSE * 2_u32.pow(doublings.min(8))).min(MAX_PAUSE)).await;
        }
        let Some(inner) = link.upgrade() else { return };
        match inner.try_again().await {
            Ok(()) => {
                tracing::info!("cache back");
                return;
            }
            Err(error) => inner.state.write().error = Some(Arc::new(error)),
        }
    }
}
