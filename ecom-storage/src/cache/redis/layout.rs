//! The protocol between processes: the keys in Redis and the messages on its channel.
//!
//! All keys start with `prefix{namespace:1}:`, where 1 is the version of this protocol, and the braces put them into
//! one slot of a cluster.
//!
//! | Key | Content |
//! |---|---|
//! | `…epoch` | a random word; values of another epoch are ignored (`clear`) |
//! | `…v:<key>` | version of the encoding, epoch, encoded value; expires with the TTL |
//! | `…l:<key>` | the lease: token and epoch of the loads that may fill the key; expires after seconds |
//! | channel `…forget:<db>` | the keys of each invalidation, one a line; `*` is everything |
//!
//! A read is one `MGET` of the epoch and of the values. A load takes the lease, or joins an existing one. An
//! invalidation deletes value and lease. A fill is stored only if its lease still exists and the epoch is the one at
//! its start, so that no process stores a value that it read before an invalidation. No invalidation has happened between
//! loads that share a lease, so each of them may fill, and the first fill is stored.
//!
//! A reader that finds no epoch creates one. To delete the epoch invalidates all values, even on a server that is out
//! of memory. Epochs are random, so that one that was evicted or flushed never comes back with old values.
//!
//! The version of the encoding is part of the value and not of the key. During a rolling deployment, the two releases
//! therefore overwrite each other's values, and the invalidations of each are effective for the other.

use std::fmt::Write as _;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ecom_core::port::CacheKey;
use redis::aio::MultiplexedConnection;
use redis::{RedisResult, Script, Value};

use super::RedisOptions;
use super::forget::Forget;

/// The time after which a lease expires, longer than any load that is worth waiting for. A later fill is refused.
const LEASE: Duration = Duration::from_secs(10);
/// The longest TTL. Redis counts milliseconds in 64 bits and adds the time of day.
const MAX_TTL: Duration = Duration::from_hours(10 * 366 * 24);
/// The maximum number of keys in one command.
const CHUNK: usize = 1_000;

/// Takes or joins leases. Keys: the epoch, then the lease of each key. Arguments: token, new epoch, milliseconds.
/// Returns the token of each.
const BEGIN: &str = r"
local epoch = redis.call('GET', KEYS[1])
if not epoch then
    epoch = ARGV[2]
    redis.call('SET', KEYS[1], epoch)
end
local tokens = {}
for i = 2, #KEYS do
    local lease = redis.call('GET', KEYS[i])
    if lease and string.sub(lease, 17) == epoch then
        tokens[i - 1] = string.sub(lease, 1, 16)
    else
        redis.call('SET', KEYS[i], ARGV[1] .. epoch, 'PX', ARGV[3])
        tokens[i - 1] = ARGV[1]
    end
end
return tokens
";

/// Takes the lease of one key, unless there is a value or the lease of another process. Keys: the epoch, lease, value.
/// Arguments: token, new epoch, milliseconds, version. Returns `{'value', value, milliseconds}`, `{'theirs', token}` or
/// `{'ours', token}`.
const LOAD: &str = r"
local epoch = redis.call('GET', KEYS[1])
if not epoch then
    epoch = ARGV[2]
    redis.call('SET', KEYS[1], epoch)
end
local head = ARGV[4] .. epoch
local value = redis.call('GET', KEYS[3])
if value and string.sub(value, 1, #head) == head then
    return {'value', string.sub(value, #head + 1), redis.call('PTTL', KEYS[3])}
end
local lease = redis.call('GET', KEYS[2])
if lease and string.sub(lease, 17) == epoch then
    return {'theirs', string.sub(lease, 1, 16)}
end
redis.call('SET', KEYS[2], ARGV[1] .. epoch, 'PX', ARGV[3])
return {'ours', ARGV[1]}
";

/// Stores the values whose leases still exist. Keys: the epoch, then lease and value of each key. Arguments:
/// milliseconds, version, then token and value of each. Returns 1 for each value that it stored, and 0 for each other
/// one.
const FILL: &str = r"
local epoch = redis.call('GET', KEYS[1])
local stored = {}
for i = 1, (#KEYS - 1) / 2 do
    local lease, name = KEYS[2 * i], KEYS[2 * i + 1]
    stored[i] = 0
    if epoch and redis.call('GET', lease) == ARGV[2 * i + 1] .. epoch then
        redis.call('SET', name, ARGV[2] .. epoch .. ARGV[2 * i + 2], 'PX', ARGV[1])
        redis.call('DEL', lease)
        stored[i] = 1
    end
end
return stored
";

/// Gives up leases. Keys: the leases. Arguments: their tokens.
const ABANDON: &str = r"
for i = 1, #KEYS do
    local lease = redis.call('GET', KEYS[i])
    if lease and string.sub(lease, 1, 16) == ARGV[i] then redis.call('DEL', KEYS[i]) end
end
return redis.status_reply('OK')
";

/// The names of keys and the scripts of one cache.
pub(super) struct Layout {
    root: String,
    channel: String,
    epoch: String,
    begin: Script,
    load: Script,
    fill: Script,
    abandon: Script,
    /// Makes tokens and epochs: a counter that is hashed with a random key. Processes compare them, so they need to be
    /// unique; they do not need to replay from a seed.
    words: RandomState,
    next: AtomicU64,
}

/// An encoded value and its remaining TTL.
pub(super) struct Held {
    answer: Vec<u8>,
    /// The offset at which the encoded value begins.
    start: usize,
    pub(super) ttl: Option<Duration>,
}

impl Held {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.answer[self.start..]
    }
}

/// The state that a reader finds after a miss.
pub(super) enum Begun {
    Value(Held),
    /// Another process is loading the value, under this token.
    Theirs(u64),
    Ours(u64),
}

fn word(n: u64) -> String {
    format!("{n:016x}")
}

fn unword(text: &[u8]) -> Option<u64> {
    u64::from_str_radix(std::str::from_utf8(text).ok()?, 16).ok()
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.min(MAX_TTL).as_millis()).unwrap_or(u64::MAX)
}

fn unexpected() -> redis::RedisError {
    (redis::ErrorKind::UnexpectedReturnType, "a script returned an unexpected value").into()
}

impl Layout {
    pub(super) fn new(options: &RedisOptions) -> Self {
        let root = options.root("1");
        Self {
            channel: format!("{root}forget:{}", options.server.redis_settings().db()),
            epoch: format!("{root}epoch"),
            root,
            begin: Script::new(BEGIN),
            load: Script::new(LOAD),
            fill: Script::new(FILL),
            abandon: Script::new(ABANDON),
            words: RandomState::new(),
            next: AtomicU64::new(0),
        }
    }

    /// Returns the channel on which invalidations are published.
    #[cfg(feature = "memory")]
    pub(super) fn channel(&self) -> &str {
        &self.channel
    }

    fn value(&self, key: &CacheKey) -> String {
        format!("{}v:{key}", self.root)
    }

    fn lease(&self, key: &CacheKey) -> String {
        format!("{}l:{key}", self.root)
    }

    /// Returns a number that is unique among all processes, and never 0, which stands for no token.
    fn fresh(&self) -> u64 {
        self.words.hash_one(self.next.fetch_add(1, Ordering::Relaxed)).max(1)
    }

    pub(super) async fn load_scripts(&self, connection: &mut MultiplexedConnection) -> RedisResult<()> {
        for script in [&self.begin, &self.load, &self.fill, &self.abandon] {
            script.load_async(connection).await?;
        }
        Ok(())
    }

    /// Fails if the user has no access to the keys and the channel. This publishes an empty message, which listeners
    /// ignore.
    pub(super) async fn check(&self, connection: &mut MultiplexedConnection) -> RedisResult<()> {
        let mut pipe = redis::pipe();
        pipe.cmd("MGET").arg(&self.epoch).ignore();
        pipe.cmd("PUBLISH").arg(&self.channel).arg("").ignore();
        pipe.query_async(connection).await
    }

    /// Reads the values of `keys` in one round trip, with their remaining TTL if `aging`.
    pub(super) async fn get(
        &self,
        connection: &mut MultiplexedConnection,
        keys: &[CacheKey],
        version: u64,
        aging: bool,
    ) -> RedisResult<Vec<Option<Held>>> {
        let names: Vec<String> = keys.iter().map(|k| self.value(k)).collect();
        let mut get = redis::cmd("MGET");
        get.arg(&self.epoch).arg(&names);
        let (left, found): (Vec<i64>, Vec<Option<Vec<u8>>>) = if aging {
            let mut pipe = redis::pipe();
            // The TTLs are read before the values. If a value is replaced in between, the new one lives longer than its
            // TTL here.
            for name in &names {
                pipe.cmd("PTTL").arg(name);
            }
            pipe.add_command(get);
            let mut answers: Vec<Value> = pipe.query_async(connection).await?;
            let values = answers.pop().ok_or_else(unexpected)?;
            let left = answers.into_iter().map(redis::from_redis_value).collect::<Result<_, _>>()?;
            (left, redis::from_redis_value(values)?)
        } else {
            (Vec::new(), get.query_async(connection).await?)
        };
        let mut found = found.into_iter();
        let epoch = found.next().flatten();
        let version = word(version);
        let open = |(i, answer): (usize, Option<Vec<u8>>)| {
            let answer = answer?;
            let rest = answer.strip_prefix(version.as_bytes())?.strip_prefix(epoch.as_deref()?)?;
            let start = answer.len() - rest.len();
            let ttl = left.get(i).and_then(|ms| u64::try_from(*ms).ok()).map(Duration::from_millis);
            Some(Held { answer, start, ttl })
        };
        Ok(found.enumerate().map(open).collect())
    }

    /// Takes or joins the leases of `keys`, and returns their tokens.
    pub(super) async fn begin(
        &self,
        connection: &mut MultiplexedConnection,
        keys: &[CacheKey],
    ) -> RedisResult<Vec<u64>> {
        let mut call = self.begin.key(&self.epoch);
        for key in keys {
            call.key(self.lease(key));
        }
        call.arg(word(self.fresh())).arg(word(self.fresh())).arg(millis(LEASE));
        let tokens: Vec<Vec<u8>> = call.invoke_async(connection).await?;
        tokens.iter().map(|t| unword(t)).collect::<Option<_>>().ok_or_else(unexpected)
    }

    /// Takes the lease of `key`, unless there is a value or the lease of another process.
    pub(super) async fn load(
        &self,
        connection: &mut MultiplexedConnection,
        key: &CacheKey,
        version: u64,
    ) -> RedisResult<Begun> {
        let mut call = self.load.key(&self.epoch);
        call.key(self.lease(key)).key(self.value(key));
        call.arg(word(self.fresh())).arg(word(self.fresh())).arg(millis(LEASE)).arg(word(version));
        let mut answer: Vec<Value> = call.invoke_async(connection).await?;
        if answer.len() < 2 {
            return Err(unexpected());
        }
        let ttl = answer.get(2).cloned().map(redis::from_redis_value::<i64>).transpose()?;
        let bytes: Vec<u8> = redis::from_redis_value(answer.swap_remove(1))?;
        let what: String = redis::from_redis_value(answer.swap_remove(0))?;
        let token = || unword(&bytes).ok_or_else(unexpected);
        match what.as_str() {
            "ours" => Ok(Begun::Ours(token()?)),
            "theirs" => Ok(Begun::Theirs(token()?)),
            _ => {
                let ttl = ttl.and_then(|ms| u64::try_from(ms).ok()).map(Duration::from_millis);
                Ok(Begun::Value(Held { answer: bytes, start: 0, ttl }))
            }
        }
    }

    /// Stores values under the leases of their loads, and returns which ones it stored.
    pub(super) async fn fill(
        &self,
        connection: &mut MultiplexedConnection,
        values: &[(CacheKey, Vec<u8>, u64)],
        version: u64,
        ttl: Duration,
    ) -> RedisResult<Vec<bool>> {
        let mut call = self.fill.key(&self.epoch);
        call.arg(millis(ttl)).arg(word(version));
        for (key, bytes, token) in values {
            call.key(self.lease(key)).key(self.value(key)).arg(word(*token)).arg(bytes.as_slice());
        }
        call.invoke_async(connection).await
    }

    /// Gives up leases.
    pub(super) async fn abandon(
        &self,
        connection: &mut MultiplexedConnection,
        loads: &[(CacheKey, u64)],
    ) -> RedisResult<()> {
        let mut call = self.abandon.prepare_invoke();
        for (key, token) in loads {
            call.key(self.lease(key)).arg(word(*token));
        }
        call.invoke_async(connection).await
    }

    /// Deletes values and leases, and publishes the invalidation to the other processes.
    pub(super) async fn tell(&self, connection: &mut MultiplexedConnection, what: &Forget) -> RedisResult<()> {
        let mut pipe = redis::pipe();
        if what.all {
            pipe.cmd("UNLINK").arg(&self.epoch);
            pipe.cmd("PUBLISH").arg(&self.channel).arg("*");
        }
        let keys: Vec<CacheKey> = what.keys.iter().copied().collect();
        for keys in keys.chunks(CHUNK) {
            let mut unlink = redis::cmd("UNLINK");
            let mut message = String::new();
            for key in keys {
                unlink.arg(self.value(key)).arg(self.lease(key));
                let _ = writeln!(message, "{key}");
            }
            pipe.add_command(unlink);
            // The message is published after the deletion, so that a process that receives it reads the new state.
            pipe.cmd("PUBLISH").arg(&self.channel).arg(message);
        }
        let _: Vec<i64> = pipe.query_async(connection).await?;
        Ok(())
    }
}

/// Reads a message of [`Layout::tell`]. A message that cannot be read invalidates everything.
#[cfg(feature = "memory")]
pub(in crate::cache) fn heard(message: &[u8]) -> Option<Vec<CacheKey>> {
    std::str::from_utf8(message).ok()?.lines().map(CacheKey::parse).collect()
}
