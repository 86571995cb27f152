//! The rate limiter on Redis, which processes share.
//!
//! One script reads the time of the server, decides and stores, so that calls at the same time never exceed a quota
//! together, and the clocks of the processes do not matter. A key expires when its quota is whole.
//!
//! While Redis is lost, the process decides by itself at once: a call that fails or takes too long discards the
//! connection for all callers, and a background task opens a new one.

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use ecom_core::port::{Quota, RateDecision, RateKey, RateLimiter};
use ecom_core::{Dependency, Error, FieldCode, Result, log_event};
use parking_lot::RwLock;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, RedisError, RedisResult, Script};
use tokio::task::JoinHandle;

use super::memory::MemoryLimiter;
use crate::cache::RedisOptions;
use crate::cache::redis_errors::{is_loss, is_refusal};

/// The time limit for opening a connection.
const CONNECT: Duration = Duration::from_secs(1);
/// The pause between two tries to connect.
const PAUSE: Duration = Duration::from_millis(500);

/// Key: that of the caller. Arguments: the time after which a call comes back, and the time after which all have, in
/// microseconds. Returns whether the call is allowed, the time until the next one is, and the time until the quota is
/// whole. It is [`RateDecision::by_gcra`] on the server.
const CHECK: &str = r"
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local step, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local whole = tonumber(redis.call('GET', KEYS[1]) or 0)
local used = math.min(math.max(whole - now, 0), burst)
local wait = used + step - burst
if wait > 0 then
    return {0, wait, used}
end
used = used + step
redis.call('SET', KEYS[1], string.format('%.0f', now + used), 'PX', math.ceil(used / 1000))
return {1, 0, used}
";

/// The rate limiter on a Redis server (7 or later): `redis://…`.
///
/// Processes that use the same server, database, prefix and namespace count together. While Redis is lost, each process
/// counts by itself. Keys that Redis evicts start anew.
#[derive(Clone)]
pub struct RedisLimiter {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    timeout: Duration,
    root: String,
    script: Script,
    state: RwLock<State>,
    alone: MemoryLimiter,
}

struct State {
    /// The connection with its number, so that a late failure of an old connection does not discard a newer one.
    wire: Option<(MultiplexedConnection, u64)>,
    newest: u64,
    recovery: Option<JoinHandle<()>>,
    error: Option<Arc<RedisError>>,
    closed: bool,
}

impl fmt::Debug for RedisLimiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let connected = self.inner.state.read().wire.is_some();
        f.debug_struct("RedisLimiter").field("connected", &connected).finish_non_exhaustive()
    }
}

impl RedisLimiter {
    /// Connects to Redis. If Redis cannot be reached, returns a limiter that counts by itself and continues to connect in
    /// the background. Must be called on a tokio runtime. Of the options, it uses the server, the prefix, the namespace
    /// and the time limit of a call.
    ///
    /// # Errors
    /// `Validation` on field `rate_limiter` if the server refuses the user, the password, the database or the commands.
    pub async fn open(options: RedisOptions) -> Result<Self> {
        let refused = |_| {
            Error::invalid(
                "rate_limiter",
                FieldCode::OutOfBounds,
                "is refused by Redis: check the user, the password and the number of the database, and that the user \
                 may run scripts, read, write and run TIME",
            )
        };
        let client = options.client().map_err(refused)?;
        let inner = Arc::new(Inner {
            client,
            timeout: options.timeout,
            root: options.root("rate"),
            script: Script::new(CHECK),
            state: RwLock::new(State { wire: None, newest: 0, recovery: None, error: None, closed: false }),
            alone: MemoryLimiter::default(),
        });
        match inner.connect().await {
            Ok(connection) => inner.restored(connection),
            Err(error) if is_refusal(&error) => return Err(refused(error)),
            Err(error) => inner.lost(None, error),
        }
        Ok(Self { inner })
    }
}

impl Inner {
    async fn connect(&self) -> RedisResult<MultiplexedConnection> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT))
            .set_response_timeout(Some(self.timeout))
            .set_pipeline_buffer_size(1024);
        let mut connection = self.client.get_multiplexed_async_connection_with_config(&config).await?;
        self.script.load_async(&mut connection).await?;
        // The user may lack the right to use the keys or the script.
        self.call(&mut connection, &format!("{}check", self.root), Quota::new(1, Duration::ZERO)).await?;
        Ok(connection)
    }

    async fn call(&self, connection: &mut MultiplexedConnection, key: &str, quota: Quota) -> RedisResult<RateDecision> {
        let mut call = self.script.key(key);
        call.arg(quota.step_micros()).arg(quota.burst_micros());
        let (is_allowed, wait, used): (bool, u64, u64) = call.invoke_async(connection).await?;
        Ok(if is_allowed { RateDecision::allowed(quota, used) } else { RateDecision::refused(quota, wait, used) })
    }

    fn restored(&self, connection: MultiplexedConnection) {
        let mut state = self.state.write();
        if !state.closed {
            state.newest += 1;
            state.wire = Some((connection, state.newest));
            state.error = None;
            state.recovery = None;
        }
    }

    /// Records that there is no connection, and starts the recovery. Does nothing if `number` is not that of the
    /// connection.
    fn lost(self: &Arc<Self>, number: Option<u64>, error: RedisError) {
        let mut state = self.state.write();
        if state.wire.as_ref().map(|(_, number)| *number) != number {
            return;
        }
        if state.wire.take().is_some() || state.error.is_none() {
            tracing::warn!(
                target: log_event::TARGET,
                event = log_event::LIMITER_LOST,
                %error,
                "lost the shared rate limiter: each process counts by itself until it is restored"
            );
        }
        state.error = Some(Arc::new(error));
        if !state.closed
            && state.recovery.as_ref().is_none_or(JoinHandle::is_finished)
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            state.recovery = Some(runtime.spawn(recovery(Arc::downgrade(self))));
        }
    }
}

async fn recovery(limiter: Weak<Inner>) {
    loop {
        tokio::time::sleep(PAUSE).await;
        let Some(inner) = limiter.upgrade() else { return };
        match inner.connect().await {
            Ok(connection) => {
                let event = log_event::LIMITER_RESTORED;
                tracing::info!(target: log_event::TARGET, event, "the shared rate limiter is restored");
                inner.restored(connection);
                return;
            }
            Err(error) => inner.state.write().error = Some(Arc::new(error)),
        }
    }
}

#[async_trait]
impl RateLimiter for RedisLimiter {
    fn name(&self) -> &'static str {
        "redis"
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn check_now(&self, key: RateKey, quota: Quota) -> Option<RateDecision> {
        self.inner.state.read().wire.is_none().then(|| self.inner.alone.decide(key, quota))
    }

    async fn check(&self, key: RateKey, quota: Quota) -> RateDecision {
        let wire = self.inner.state.read().wire.clone();
        let Some((mut connection, number)) = wire else { return self.inner.alone.decide(key, quota) };
        match self.inner.call(&mut connection, &format!("{}{key}", self.inner.root), quota).await {
            Ok(decision) => decision,
            Err(error) => {
                if is_loss(&error) {
                    self.inner.lost(Some(number), error);
                } else {
                    tracing::debug!(%error, "a call to the rate limiter failed");
                }
                self.inner.alone.decide(key, quota)
            }
        }
    }

    async fn ping(&self) -> Result<()> {
        let unavailable = |error: Option<Arc<RedisError>>| Error::Unavailable {
            dependency: Dependency::RateLimiter,
            outcome_unknown: false,
            source: error.map(|e| Box::new(e) as Box<dyn std::error::Error + Send + Sync>),
        };
        let (wire, error) = {
            let state = self.inner.state.read();
            (state.wire.clone(), state.error.clone())
        };
        let (mut connection, number) = wire.ok_or_else(|| unavailable(error))?;
        match redis::cmd("PING").query_async::<()>(&mut connection).await {
            Ok(()) => Ok(()),
            Err(error) => {
                self.inner.lost(Some(number), error);
                let error = self.inner.state.read().error.clone();
                Err(unavailable(error))
            }
        }
    }

    async fn close(&self) {
        let mut state = self.inner.state.write();
        state.closed = true;
        state.wire = None;
        if let Some(recovery) = state.recovery.take() {
            recovery.abort();
        }
    }
}
