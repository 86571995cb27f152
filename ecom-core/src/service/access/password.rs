//! Hashes of passwords: argon2id, of which a bounded number is computed at a time, so that logins leave processors for
//! everything else.

use std::cell::RefCell;
use std::num::NonZeroUsize;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use argon2::password_hash::phc::{Output, ParamsString, PasswordHash as Phc, Salt};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use parking_lot::Mutex;
use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::domain::access::secret::Secret;
use crate::domain::access::user::PasswordHash;
use crate::error::{Dependency, Error, Result};

/// The parameters that OWASP recommends first for argon2id (Password Storage Cheat Sheet, 2025): 19 MiB, 2 passes, 1
/// lane.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// How many callers may wait for each hash that is computed at a time. The last of them waits about a second, and
/// longer while other work keeps the processors busy.
const WAITING: usize = 32;

/// Computes and verifies the hashes of passwords.
#[derive(Debug)]
pub(crate) struct Passwords {
    /// A permit for each hash that is computed at a time.
    running: Arc<Semaphore>,
    /// Threads that run only while a processor has nothing else to do.
    idle: Threads,
    /// Threads that get a small part of the time of busy processors.
    low: Threads,
    /// The time until which hashes skip `idle`, because the processors were busy.
    busy_until: Mutex<Option<Instant>>,
    /// A permit for each caller that computes or waits.
    admitted: Semaphore,
    /// The hash that stands for that of a user who does not exist, made by the first login.
    nobody: Arc<OnceLock<PasswordHash>>,
}

impl Passwords {
    /// Returns the passwords of a shop, which computes at most `at_once` hashes at a time.
    ///
    /// # Errors
    /// `Internal` if the threads cannot be set up.
    pub fn new(at_once: NonZeroUsize) -> Result<Self> {
        Ok(Self {
            running: Arc::new(Semaphore::new(at_once.get())),
            idle: Threads::new(at_once, Share::Idle)?,
            low: Threads::new(at_once, Share::Low)?,
            busy_until: Mutex::default(),
            admitted: Semaphore::new(at_once.get() * (WAITING + 1)),
            nobody: Arc::default(),
        })
    }

    /// Takes a permit to compute a hash until the result is dropped. Tests use it to make callers wait.
    #[cfg(any(test, feature = "testkit"))]
    pub async fn occupy(&self) -> Option<tokio::sync::OwnedSemaphorePermit> {
        self.running.clone().acquire_owned().await.ok()
    }

    /// Returns a place in the queue of those who wait for a hash.
    ///
    /// # Errors
    /// `Unavailable` if too many callers wait.
    pub fn admit(&self) -> Result<Admitted<'_>> {
        let place = self.admitted.try_acquire().map_err(|e| Error::unavailable(Dependency::Logins, e))?;
        Ok(Admitted { passwords: self, _place: place })
    }

    /// Returns the hash of a password. The first bytes of `random` are its salt.
    ///
    /// # Errors
    /// `Unavailable` if too many callers wait.
    pub async fn hash(&self, password: &Secret, random: [u8; 32]) -> Result<PasswordHash> {
        self.admit()?.hash(password, random).await
    }

    /// Returns whether a hash was made with other parameters than those of this release.
    pub fn is_outdated(hash: &PasswordHash) -> bool {
        Phc::new(hash.reveal())
            .ok()
            .and_then(|parsed| Params::try_from(&parsed).ok())
            .is_none_or(|p| (p.m_cost(), p.t_cost(), p.p_cost()) != (MEMORY_KIB, PASSES, LANES))
    }
}

/// A place in the queue of those who wait for a hash.
pub(crate) struct Admitted<'a> {
    passwords: &'a Passwords,
    _place: SemaphorePermit<'a>,
}

impl Admitted<'_> {
    /// Returns the hash of a password. The first bytes of `random` are its salt.
    ///
    /// # Errors
    /// `Internal`.
    pub async fn hash(&self, password: &Secret, random: [u8; 32]) -> Result<PasswordHash> {
        let password = password.clone();
        self.compute(move || hash(&password, &random[..16])).await?
    }

    /// Returns whether a password has this hash. It takes as long for a user without one as for a wrong password.
    ///
    /// # Errors
    /// `Internal`.
    pub async fn verify(&self, password: &Secret, hash: Option<&PasswordHash>) -> Result<bool> {
        let exists = hash.is_some();
        let (password, hash, nobody) = (password.clone(), hash.cloned(), self.passwords.nobody.clone());
        let is_right = self.compute(move || {
            // Made by the first login, whoever it is. No thread waits for another one, which may be idle.
            let nobody = nobody.get().cloned().unwrap_or_else(|| {
                let made = nobodys_hash();
                let _ = nobody.set(made.clone());
                made
            });
            matches(&password, hash.as_ref().unwrap_or(&nobody)).unwrap_or(false)
        });
        Ok(is_right.await? && exists)
    }

    /// Runs a computation after those that came before. If other work keeps the processors busy, it is begun again on
    /// a thread that gets a part of their time. The first thread then goes on with what it has begun, because a hash
    /// cannot be interrupted: up to twice as many hashes as permits occupy memory.
    async fn compute<T: Send + 'static>(&self, work: impl Fn() -> T + Clone + Send + 'static) -> Result<T> {
        let Passwords { running, idle, low, busy_until, .. } = self.passwords;
        let _running = running.acquire().await.map_err(|e| Error::internal("the queue of logins", e))?;
        // Elsewhere, the threads do not differ.
        let is_busy = !cfg!(target_os = "linux") || busy_until.lock().is_some_and(|until| Instant::now() < until);
        if !is_busy {
            match tokio::time::timeout(STARVED_AFTER, idle.run(work.clone())).await {
                Ok(done) => return done,
                Err(_) => *busy_until.lock() = Some(Instant::now() + BUSY_FOR),
            }
        }
        low.run(work).await
    }
}

/// How long an idle thread may take for a hash before the processors count as busy. With one of them to itself, a hash
/// takes some 20 ms.
const STARVED_AFTER: Duration = Duration::from_millis(250);
/// How long the processors then count as busy.
const BUSY_FOR: Duration = Duration::from_secs(10);

/// How much of a processor's time threads get while others want it.
#[derive(Debug, Clone, Copy)]
enum Share {
    /// Almost none: any other thread interrupts them at once, so that requests do not wait for hashes.
    Idle,
    /// About a tenth. A thread first ends its slice of some milliseconds, for which requests wait.
    Low,
}

impl Share {
    /// Gives the current thread this share. On other systems than Linux, it does nothing. If it fails, the thread keeps
    /// its priority.
    fn apply(self) {
        #[cfg(target_os = "linux")]
        {
            use thread_priority::unix::{
                NormalThreadSchedulePolicy, ThreadSchedulePolicy, set_thread_priority_and_policy, thread_native_id,
            };
            let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
            let lowest = thread_priority::ThreadPriority::Min;
            let applied = match self {
                Self::Idle => set_thread_priority_and_policy(thread_native_id(), lowest, idle).is_ok(),
                Self::Low => rustix::process::nice(10).is_ok(),
            };
            if !applied {
                tracing::debug!(share = ?self, "the priority of a thread cannot be changed");
            }
        }
    }
}

/// Threads that compute hashes.
#[derive(Debug)]
struct Threads(
    /// Has no tasks, only blocking threads. `None` once the threads are dropped.
    Option<Runtime>,
);

impl Threads {
    fn new(at_once: NonZeroUsize, share: Share) -> Result<Self> {
        let threads = tokio::runtime::Builder::new_current_thread()
            .max_blocking_threads(at_once.get())
            .thread_name("ecom-password")
            .on_thread_start(move || share.apply())
            // Its memory is released with the thread.
            .thread_keep_alive(Duration::from_secs(10))
            .build();
        Ok(Self(Some(threads.map_err(|e| Error::internal("starting the threads of passwords", e))?)))
    }

    /// Runs a computation on one of the threads.
    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let (done, computed) = tokio::sync::oneshot::channel();
        if let Some(threads) = &self.0 {
            threads.spawn_blocking(move || {
                // If the caller is gone, nobody needs the result.
                if !done.is_closed() {
                    let _ = done.send(work());
                }
            });
        }
        computed.await.map_err(|e| Error::internal("a login", e))
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(threads) = self.0.take() {
            // The task that drops a shop must not wait for the hashes.
            threads.shutdown_background();
        }
    }
}

fn algorithm() -> Argon2<'static> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).unwrap_or_default();
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

/// Returns a hash that is compared with the passwords of users who do not exist. Whether one matches does not matter.
fn nobodys_hash() -> PasswordHash {
    hash(&Secret::new(""), &[0; 16]).unwrap_or_else(|_| PasswordHash::new(""))
}

fn hash(password: &Secret, salt: &[u8]) -> Result<PasswordHash> {
    let hashed = encoded(&algorithm(), password, salt).map_err(|e| Error::internal("hashing a password", e))?;
    Ok(PasswordHash::new(hashed.to_string()))
}

/// Returns the text of a hash, from which [`matches`] reads all that it needs.
fn encoded(algorithm: &Argon2<'_>, password: &Secret, salt: &[u8]) -> argon2::password_hash::Result<Phc> {
    Ok(Phc {
        algorithm: Algorithm::Argon2id.ident(),
        version: Some(Version::V0x13.into()),
        params: ParamsString::try_from(algorithm.params())?,
        salt: Some(Salt::new(salt)?),
        hash: Some(output(algorithm, password, salt, Params::DEFAULT_OUTPUT_LEN)?),
    })
}

/// Returns whether a password has a hash, which an earlier release may have made with other parameters. The time of the
/// comparison does not depend on the hashes.
fn matches(password: &Secret, hash: &PasswordHash) -> argon2::password_hash::Result<bool> {
    let parsed = Phc::new(hash.reveal())?;
    let (Some(salt), Some(expected)) = (parsed.salt, parsed.hash) else { return Ok(false) };
    let version = parsed.version.map_or(Ok(Version::default()), Version::try_from)?;
    let algorithm = Algorithm::try_from(parsed.algorithm.as_str())?;
    let algorithm = Argon2::new(algorithm, version, Params::try_from(&parsed)?);
    Ok(output(&algorithm, password, &salt, expected.len())? == expected)
}

/// Returns the bytes of a hash. Each thread keeps the memory that a hash fills: the kernel takes milliseconds to map and
/// to unmap it, and does not interrupt the thread meanwhile.
fn output(
    algorithm: &Argon2<'_>,
    password: &Secret,
    salt: &[u8],
    length: usize,
) -> argon2::password_hash::Result<Output> {
    thread_local!(static MEMORY: RefCell<Vec<Block>> = const { RefCell::new(Vec::new()) });
    let mut bytes = [0; Output::MAX_LENGTH];
    let bytes = bytes.get_mut(..length).ok_or(argon2::password_hash::Error::OutputSize)?;
    MEMORY.with_borrow_mut(|memory| {
        memory.resize(memory.len().max(algorithm.params().block_count()), Block::default());
        algorithm.hash_password_into_with_memory(password.reveal().as_bytes(), salt, bytes, memory)
    })?;
    Ok(Output::new(bytes)?)
}

#[cfg(test)]
mod tests {
    use argon2::password_hash::PasswordHasher as _;

    use super::*;

    #[tokio::test]
    async fn a_password_has_its_hash_and_no_other() {
        let passwords = Passwords::new(NonZeroUsize::MIN).unwrap();
        let right = Secret::new("correct horse");
        let hash = passwords.hash(&right, [2; 32]).await.unwrap();
        assert!(hash.reveal().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{}", hash.reveal());
        assert!(!Passwords::is_outdated(&hash));
        assert!(passwords.admit().unwrap().verify(&right, Some(&hash)).await.unwrap());
        assert!(!passwords.admit().unwrap().verify(&Secret::new("Correct horse"), Some(&hash)).await.unwrap());
        assert!(!passwords.admit().unwrap().verify(&right, None).await.unwrap());
        assert!(!passwords.admit().unwrap().verify(&right, Some(&PasswordHash::new("nonsense"))).await.unwrap());
        assert_ne!(passwords.hash(&right, [3; 32]).await.unwrap(), hash, "another salt");
        let params = Params::new(4096, 1, 2, Some(16)).unwrap();
        let weak = Argon2::new(Algorithm::Argon2i, Version::V0x10, params);
        let weak = weak.hash_password_with_salt(b"correct horse", &[2; 16]).unwrap();
        let weak = PasswordHash::new(weak.to_string());
        assert!(Passwords::is_outdated(&weak));
        assert!(passwords.admit().unwrap().verify(&right, Some(&weak)).await.unwrap(), "another algorithm and length");
        assert!(!passwords.admit().unwrap().verify(&Secret::new("x"), Some(&weak)).await.unwrap());
    }

    #[tokio::test]
    async fn callers_beyond_the_limit_are_refused_at_once() {
        let passwords = Arc::new(Passwords::new(NonZeroUsize::MIN).unwrap());
        // Occupies the only thread.
        let go_on = passwords.occupy().await;
        let waiting: Vec<_> = (0..=WAITING)
            .map(|_| {
                let passwords = passwords.clone();
                tokio::spawn(async move { passwords.admit()?.verify(&Secret::new("x"), None).await })
            })
            .collect();
        while passwords.admitted.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        let refused = passwords.hash(&Secret::new("x"), [0; 32]).await.unwrap_err();
        assert!(matches!(refused, Error::Unavailable { dependency: Dependency::Logins, .. }), "{refused:?}");
        drop(go_on);
        for caller in waiting {
            assert!(!caller.await.unwrap().unwrap());
        }
    }
}
