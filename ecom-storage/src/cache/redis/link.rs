//! The connection to Redis, and the circuit breaker around it.
//!
//! Commands share one multiplexed connection. While there is none, readers continue at once without Redis. A call that
//! fails or takes too long discards the connection for all callers, and a background task opens a new one, with pauses
//! that grow to a second. A dead or slow Redis therefore delays only the calls under way, each by its time limit. (The
//! crate's own `ConnectionManager` reconnects too, but every caller waits for it.)
//!
//! # Pending invalidations
//! If an invalidation fails, it is kept, and the connection is discarded in the same step. Invalidations that arrive
//! while there is no connection are kept as well. A new connection serves no reader before all of them have been
//! carried out, so that this process never reads a value from before its own writes. Their number is limited. If there
//! are more, everything is invalidated.
//!
//! # A server that came back with an older state
//! A server that loads a snapshot, or a replica that takes over, may contain values that were invalidated before. Each
//! run of a server has an id. If the id has changed, everything is invalidated before readers use the server again.

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use ecom_core::{Dependency, Error, log_event};
use parking_lot::{RwLock, RwLockUpgradableReadGuard, RwLockWriteGuard};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, PushInfo, PushKind, RedisError, RedisResult};
use tokio::task::JoinHandle;

use super::errors::{is_loss, is_refusal};
use super::forget::Forget;
use super::layout::Layout;

/// The time limit for opening a connection, whatever the time limit of a call is.
const CONNECT: Duration = Duration::from_secs(1);
/// The pause after the first failed try; it doubles with each further one.
const PAUSE: Duration = Duration::from_millis(250);
const MAX_PAUSE: Duration = Duration::from_secs(1);
/// If a connection lasted this long, the first try after its loss comes at once.
const STEADY: Duration = Duration::from_secs(10);

/// The maximum number of keys that are kept after their invalidation has failed again. If there are more, everything is
/// invalidated.
const MOST_AGAIN: usize = 1_000;

/// A connection with its number, so that a late failure of an old connection does not discard a newer one.
#[derive(Clone)]
struct Wire {
    connection: MultiplexedConnection,
    number: u64,
}

struct State {
    wire: Option<Wire>,
    /// The number of the newest connection.
    newest: u64,
    /// Invalidations that Redis has not carried out yet. Empty while there is a connection.
    untold: Forget,
    /// The id of the server's run at the last connection.
    run: Option<String>,
    recovery: Option<JoinHandle<()>>,
    /// Failed tries since the last steady connection.
    tries: u32,
    since: Instant,
    /// The error because of which there is no connection.
    error: Option<Arc<RedisError>>,
    /// Whether the link was closed, so that it opens no further connection.
    closed: bool,
}

struct Inner {
    client: Client,
    timeout: Duration,
    layout: Arc<Layout>,
    state: RwLock<State>,
}

/// A handle to the connection, as the module docs describe.
#[derive(Clone)]
pub(super) struct Link {
    inner: Arc<Inner>,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("connected", &self.inner.state.read().wire.is_some()).finish_non_exhaustive()
    }
}

/// Returns the error `Unavailable` with `error` as its source.
fn unavailable(error: Option<Arc<RedisError>>) -> Error {
    Error::Unavailable {
        dependency: Dependency::Cache,
        outcome_unknown: false,
        source: error.map(|e| Box::new(e) as Box<dyn std::error::Error + Send + Sync>),
    }
}

impl Link {
    /// Connects. If Redis cannot be reached, returns a link that continues to connect in the background.
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

    /// Opens a second connection, for pushed messages.
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

    /// Returns the connection, or the error because of which there is none.
    fn wire(&self) -> Result<Wire, Option<Arc<RedisError>>> {
        let state = self.inner.state.read();
        if let Some(wire) = &state.wire {
            return Ok(wire.clone());
        }
        let error = state.error.clone();
        if state.recovery.as_ref().is_none_or(JoinHandle::is_finished) {
            drop(state);
            // No recovery is running, because its runtime has ended, or because there was no runtime when the
            // connection was lost.
            self.inner.recover(&mut self.inner.state.write());
        }
        Err(error)
    }

    /// Runs a call whose failure only makes a read slower. Returns `None` if the call fails or there is no connection.
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

    /// Invalidates in Redis and notifies the other processes. If this fails, it is repeated before any later read.
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
        // A newer connection is discarded too, because it has not carried out this invalidation.
        self.inner.lost(&mut state, error);
        Err(unavailable(state.error.clone()))
    }

    /// Closes the connection and stops the recovery.
    pub(super) fn close(&self) {
        let mut state = self.inner.state.write();
        state.closed = true;
        state.wire = None;
        if let Some(recovery) = state.recovery.take() {
            recovery.abort();
        }
    }

    /// Checks that the server answers.
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
    /// Opens a connection, checks that the server answers, and returns it with the id of the server's run.
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
                // The loss is detected here, before a reader uses the connection.
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
        // The user may lack the right to run INFO. An unknown id counts as a new run.
        let info: Option<String> = redis::cmd("INFO").arg("server").query_async(&mut connection).await.ok();
        let run = info.and_then(|i| i.lines().find_map(|l| l.strip_prefix("run_id:").map(|id| id.trim().to_owned())));
        Ok((Wire { connection, number }, run))
    }

    /// Discards the connection with this number, after it failed.
    fn lose(self: &Arc<Self>, number: u64, error: RedisError) {
        let mut state = self.state.write();
        if state.wire.as_ref().is_some_and(|w| w.number == number) {
            self.lost(&mut state, error);
        }
    }

    /// Records that there is no connection, and starts the recovery.
    fn lost(self: &Arc<Self>, state: &mut RwLockWriteGuard<'_, State>, error: RedisError) {
        if state.wire.take().is_some() {
            tracing::warn!(
                target: log_event::TARGET,
                event = log_event::CACHE_LOST,
                %error,
                "lost the connection to the cache: reads go to the database until it is restored"
            );
            if state.since.elapsed() > STEADY {
                state.tries = 0;
            }
        } else if state.error.is_none() {
            tracing::warn!(
                target: log_event::TARGET,
                event = log_event::CACHE_LOST,
                %error,
                "cannot connect to the cache: reads go to the database until a connection is open"
            );
        }
        state.error = Some(Arc::new(error));
        self.recover(state);
    }

    /// Starts the recovery, unless it is running.
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

    /// Tries once to connect, to carry out the pending invalidations, and then to let readers use the connection.
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
                    // From now on, an invalidation that fails starts a recovery of its own.
                    state.recovery = None;
                    return Ok(());
                }
                // The invalidations are taken out, so that keys that are invalidated again meanwhile become pending
                // again.
                Untold { inner: self, what: std::mem::take(&mut state.untold) }
            };
            self.layout.tell(&mut wire.connection, &untold.what).await?;
            untold.what = Forget::default();
        }
    }
}

/// Invalidations that are being carried out. They are pending again if that fails or is cancelled.
struct Untold<'a> {
    inner: &'a Inner,
    what: Forget,
}

impl Drop for Untold<'_> {
    fn drop(&mut self) {
        if !self.what.is_empty() {
            // The number of keys may be the reason why the call took too long, so everything is invalidated with one
            // command.
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
                let event = log_event::CACHE_RESTORED;
                tracing::info!(target: log_event::TARGET, event, "connected to the cache again");
                return;
            }
            Err(error) => inner.state.write().error = Some(Arc::new(error)),
        }
    }
}
