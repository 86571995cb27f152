//! Hashes of passwords: argon2id, of which a bounded number is computed at a time, so that logins leave processors for
//! everything else.

use std::num::NonZeroUsize;
use std::sync::{Arc, OnceLock};

use argon2::password_hash::phc::PasswordHash as Phc;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use argon2::{Algorithm, Argon2, Params, Version};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::domain::access::secret::Secret;
use crate::domain::access::user::PasswordHash;
use crate::error::{Dependency, Error, Result};

/// The parameters that OWASP recommends first for argon2id (Password Storage Cheat Sheet, 2025): 19 MiB, 2 passes, 1
/// lane.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// How many callers may wait for each hash that is computed at a time. The last one of them waits about a second, and
/// longer while other work keeps the processors busy.
const WAITING: usize = 32;

/// Computes and verifies the hashes of passwords.
#[derive(Debug)]
pub(crate) struct Passwords {
    /// A permit for each hash that is computed at a time.
    running: Arc<Semaphore>,
    /// A permit for each caller that computes or waits.
    admitted: Semaphore,
    /// The hash that stands for that of a user who does not exist, made by the first login.
    nobody: Arc<OnceLock<PasswordHash>>,
}

impl Passwords {
    /// Returns the passwords of a shop, which computes at most `at_once` hashes at a time.
    pub fn new(at_once: NonZeroUsize) -> Self {
        Self {
            running: Arc::new(Semaphore::new(at_once.get())),
            admitted: Semaphore::new(at_once.get() * (WAITING + 1)),
            nobody: Arc::default(),
        }
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
    /// `Unavailable` if no thread can be started, `Internal`.
    pub async fn hash(&self, password: &Secret, random: [u8; 32]) -> Result<PasswordHash> {
        let password = password.clone();
        self.compute(move || hash(&password, &random[..16])).await?
    }

    /// Returns whether a password has this hash. It takes as long for a user without one as for a wrong password.
    ///
    /// # Errors
    /// `Unavailable` if no thread can be started, `Internal`.
    pub async fn verify(&self, password: &Secret, hash: Option<&PasswordHash>) -> Result<bool> {
        let exists = hash.is_some();
        let (password, hash, nobody) = (password.clone(), hash.cloned(), self.passwords.nobody.clone());
        let is_right = self.compute(move || {
            // Made by the first login, whoever it is.
            let nobody = nobody.get_or_init(nobodys_hash);
            let hash = hash.as_ref().unwrap_or(nobody);
            let parsed = Phc::new(hash.reveal()).ok();
            parsed.is_some_and(|p| algorithm().verify_password(password.reveal().as_bytes(), &p).is_ok())
        });
        Ok(is_right.await? && exists)
    }

    /// Runs a computation on a thread of its own, after those that came before.
    async fn compute<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let closed = |e| Error::internal("the queue of logins", e);
        let running = self.passwords.running.clone().acquire_owned().await.map_err(closed)?;
        let (done, computed) = tokio::sync::oneshot::channel();
        let compute = move || {
            yield_to_others();
            // If the caller is gone, nobody needs the result.
            let _ = done.send(work());
            // Held until the end of the computation, also if its caller is gone.
            drop(running);
        };
        // Not a blocking thread of the runtime, because the priority of a thread cannot be raised again.
        let thread = std::thread::Builder::new().name("ecom-password".to_owned()).spawn(compute);
        thread.map_err(|e| Error::unavailable(Dependency::Logins, e))?;
        computed.await.map_err(|e| Error::internal("a login", e))
    }
}

/// Lowers the priority of the current thread, so that other requests get most of the time of a processor while passwords
/// are hashed. Only on Linux does `nice` apply to the calling thread alone.
fn yield_to_others() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::nice(NICENESS) {
        tracing::debug!(%error, "the priority of a thread cannot be lowered");
    }
}

/// How much the priority of a thread is lowered, of 19 steps. The lowest one would starve logins under load.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 10;

fn algorithm() -> Argon2<'static> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).unwrap_or_default();
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

/// Returns a hash that is compared with the passwords of users who do not exist. Whether one matches does not matter.
fn nobodys_hash() -> PasswordHash {
    hash(&Secret::new(""), &[0; 16]).unwrap_or_else(|_| PasswordHash::new(""))
}

fn hash(password: &Secret, salt: &[u8]) -> Result<PasswordHash> {
    let hashed = algorithm().hash_password_with_salt(password.reveal().as_bytes(), salt);
    let hashed = hashed.map_err(|e| Error::internal("hashing a password", e))?;
    Ok(PasswordHash::new(hashed.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_has_its_hash_and_no_other() {
        let passwords = Passwords::new(NonZeroUsize::MIN);
        let right = Secret::new("correct horse");
        let hash = passwords.hash(&right, [2; 32]).await.unwrap();
        assert!(hash.reveal().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{}", hash.reveal());
        assert!(!Passwords::is_outdated(&hash));
        assert!(passwords.admit().unwrap().verify(&right, Some(&hash)).await.unwrap());
        assert!(!passwords.admit().unwrap().verify(&Secret::new("Correct horse"), Some(&hash)).await.unwrap());
        assert!(!passwords.admit().unwrap().verify(&right, None).await.unwrap());
        assert!(!passwords.admit().unwrap().verify(&right, Some(&PasswordHash::new("nonsense"))).await.unwrap());
        assert_ne!(passwords.hash(&right, [3; 32]).await.unwrap(), hash, "another salt");
        let weak = "$argon2id$v=19$m=4096,t=1,p=1$AgICAgICAgICAgICAgICAg$SgGWZQkaeMNEAgc3GIxMGw";
        assert!(Passwords::is_outdated(&PasswordHash::new(weak)));
    }

    #[tokio::test]
    async fn callers_beyond_the_limit_are_refused_at_once() {
        let passwords = Arc::new(Passwords::new(NonZeroUsize::MIN));
        let running = passwords.running.clone().acquire_owned().await.unwrap();
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
        drop(running);
        for caller in waiting {
            assert!(!caller.await.unwrap().unwrap());
        }
    }
}
