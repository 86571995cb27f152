//! Calls that run at most once for an idempotency key (R12, R42).

use std::fmt;
use std::sync::Arc;

use crate::domain::access::principal::Principal;
use crate::domain::platform::idempotency::{IdempotencyKey, RequestHash, StoredAnswer};
use crate::error::{Error, PlatformConflict, Result};
use crate::id::EventId;
use crate::port::platform::idempotency::{Claim, Claimed};
use crate::port::storage::Repositories as _;
use crate::service::run::context::Context;
use crate::service::run::transaction::{Manner, Tx};

/// Returns the answer to store for the value of a call and its last event.
type Render<T> = dyn Fn(&T, Option<EventId>) -> Result<StoredAnswer> + Send + Sync;

/// The key of a call that runs at most once, the hash of its request, and a function for the answer to store.
///
/// It is for calls that share a commit with others, such as
/// [`OrderService::place_once`](crate::sales::OrderService::place_once). All other calls use
/// [`IdempotencyService::run`].
pub struct KeyedCall<T> {
    pub(crate) key: IdempotencyKey,
    pub(crate) hash: RequestHash,
    answer: Box<Render<T>>,
}

impl<T> KeyedCall<T> {
    /// Makes a call run at most once for a key. `answer` returns the answer to store for the value of the call and the
    /// last event that the call has written, if it has written any. It runs inside the transaction, and may run again
    /// if the transaction does. If it fails, the call fails with its error and has no effect.
    pub fn new(
        key: IdempotencyKey,
        hash: RequestHash,
        answer: impl Fn(&T, Option<EventId>) -> Result<StoredAnswer> + Send + Sync + 'static,
    ) -> Self {
        Self { key, hash, answer: Box::new(answer) }
    }

    /// Returns the answer to store for a value and its last event.
    pub(crate) fn answer(&self, value: &T, event: Option<EventId>) -> Result<StoredAnswer> {
        let answer = (self.answer)(value, event)?;
        answer.check()?;
        Ok(answer)
    }

    /// Returns the claim of the key.
    pub(crate) fn claim(&self, cx: &Context) -> Claim {
        claim(cx, &self.key, self.hash)
    }
}

impl<T> fmt::Debug for KeyedCall<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedCall").field("key", &self.key).field("hash", &self.hash).finish_non_exhaustive()
    }
}

/// The result of a call with an idempotency key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Once<T> {
    /// It ran, and this is its value.
    Ran(T),
    /// An earlier call with the same key has run, and this is the answer that it stored.
    Replayed(StoredAnswer),
}

/// The service of calls that have their effect at most once, however often a caller repeats them (R12).
///
/// The key, the effect and the answer are written in one transaction, so the guarantee holds across processes and
/// crashes. If the outcome of a call is unknown ([`Error::outcome_unknown`]), the caller repeats it with the same key.
/// A call that fails leaves its key free: the caller may repeat it, also with another request. A key counts for as long
/// as it is stored, which is [`ShopConfig::idempotency_retention`](crate::config::ShopConfig::idempotency_retention) or
/// a little longer.
///
/// ```
/// # async fn app(shop: ecom_core::Shop) -> ecom_core::Result<()> {
/// use ecom_core::platform::{Once, RequestHash, StoredAnswer};
/// use ecom_core::sales::CustomerInput;
///
/// let input = CustomerInput::new("Ada", "Lovelace", "ada@example.com");
/// let calls = shop.idempotency();
/// let key = calls.key("newsletter.subscribe", "3f6c1a")?;
/// let hash = RequestHash::of([input.email.as_bytes()]);
/// let done = calls.run(&key, hash, |mut tx| async {
///     let customer = shop.customers().create_in(&mut tx, &input).await?;
///     let answer = StoredAnswer::json(&customer.id)?;
///     Ok((customer.id, answer, tx))
/// });
/// let id = match done.await? {
///     Once::Ran(id) => id,
///     Once::Replayed(answer) => answer.read()?,
/// };
/// # let _ = id;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy)]
pub struct IdempotencyService<'a> {
    cx: &'a Arc<Context>,
    who: &'a Principal,
}

impl<'a> IdempotencyService<'a> {
    pub(crate) const fn new(cx: &'a Arc<Context>, who: &'a Principal) -> Self {
        Self { cx, who }
    }

    /// Returns a key of the principal of this service for an operation; see [`IdempotencyKey::of`].
    ///
    /// # Errors
    /// `Validation`.
    pub fn key(&self, operation: &str, key: impl Into<String>) -> Result<IdempotencyKey> {
        IdempotencyKey::of(self.who, operation, key)
    }

    /// Runs a call at most once for a key. `call` takes a transaction, in which it uses the `…_in` forms of the
    /// services, and returns its value, the answer to store, and the transaction. If another transaction is in the way,
    /// `call` runs again in a new transaction. It must have no effects outside of the transaction.
    ///
    /// If an earlier call with the key is running, this call waits until it ends. If an earlier call with the key and
    /// the same hash has run, `call` does not run, and the permissions of the principal are not checked, since the
    /// answer was made for the same principal.
    ///
    /// # Errors
    /// Those of `call`. `IDEMPOTENCY_KEY_REUSED` if the earlier call had another hash, `IDEMPOTENCY_ANSWER_ERASED` if
    /// its answer was erased (R45), `Validation` of an answer that is too long, `Unavailable`.
    pub async fn run<T, F>(
        &self,
        key: &IdempotencyKey,
        hash: RequestHash,
        call: impl Fn(Tx<'static>) -> F,
    ) -> Result<Once<T>>
    where
        F: Future<Output = Result<(T, StoredAnswer, Tx<'static>)>>,
    {
        self.run_as(Manner::Long, key, hash, call).await
    }

    /// As [`Self::run`], for a call that waits for nothing but the database, and writes few rows. It may share its commit
    /// with other writes, which wait until it ends.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub async fn run_short<T, F>(
        &self,
        key: &IdempotencyKey,
        hash: RequestHash,
        call: impl Fn(Tx<'static>) -> F,
    ) -> Result<Once<T>>
    where
        F: Future<Output = Result<(T, StoredAnswer, Tx<'static>)>>,
    {
        self.run_as(Manner::Short, key, hash, call).await
    }

    async fn run_as<T, F>(
        &self,
        manner: Manner,
        key: &IdempotencyKey,
        hash: RequestHash,
        call: impl Fn(Tx<'static>) -> F,
    ) -> Result<Once<T>>
    where
        F: Future<Output = Result<(T, StoredAnswer, Tx<'static>)>>,
    {
        let call = &call;
        let ran = self.cx.write_as(manner, |mut tx| async move {
            // A key that is reused, or whose answer was erased, is no error in here, so that the transaction ends and
            // its connection stays usable.
            match self.claim(&mut tx, key, hash).await? {
                Claimed::New => {
                    let (value, answer, mut tx) = call(tx).await?;
                    self.store_in(&mut tx, key, answer).await?;
                    Ok((Ok(Once::Ran(value)), tx))
                }
                Claimed::Answered(answer) => Ok((Ok(Once::Replayed(answer)), tx)),
                Claimed::Reused => Ok((Err(reused(key)), tx)),
                Claimed::Erased => Ok((Err(erased(key)), tx)),
            }
        });
        ran.await?
    }

    /// The first half of [`Self::run`] inside a transaction: claims the key. The transaction should begin with it, so
    /// that the key is claimed before any other lock is taken. Returns the stored answer if an earlier call with the
    /// key has run. If there is none, the caller runs the call in the transaction and passes its answer to
    /// [`Self::store_in`].
    ///
    /// # Errors
    /// `IDEMPOTENCY_KEY_REUSED` if the earlier call had another hash, `IDEMPOTENCY_ANSWER_ERASED` if its answer was
    /// erased (R45), `Contention`, `Unavailable`.
    pub async fn claim_in(
        &self,
        tx: &mut Tx<'_>,
        key: &IdempotencyKey,
        hash: RequestHash,
    ) -> Result<Option<StoredAnswer>> {
        match self.claim(tx, key, hash).await? {
            Claimed::New => Ok(None),
            Claimed::Answered(answer) => Ok(Some(answer)),
            Claimed::Reused => Err(reused(key)),
            Claimed::Erased => Err(erased(key)),
        }
    }

    /// The second half of [`Self::run`] inside a transaction: stores the answer of a call whose key [`Self::claim_in`]
    /// has claimed. A claim that is committed without an answer does not count, and the next call with the key runs
    /// again.
    ///
    /// # Errors
    /// `Validation` of an answer that is too long, `Internal` if the key is not claimed, `Unavailable`.
    pub async fn store_in(&self, tx: &mut Tx<'_>, key: &IdempotencyKey, answer: StoredAnswer) -> Result<()> {
        answer.check()?;
        tx.idempotency().store(&[(key.clone(), answer)]).await
    }

    async fn claim(&self, tx: &mut Tx<'_>, key: &IdempotencyKey, hash: RequestHash) -> Result<Claimed> {
        let found = tx.idempotency().claim(&[claim(self.cx, key, hash)]).await?.pop();
        found.ok_or(Error::Internal { context: "a claim has no result", source: None })
    }
}

fn claim(cx: &Context, key: &IdempotencyKey, hash: RequestHash) -> Claim {
    let now = cx.now();
    Claim { key: key.clone(), hash, created_at: now, expires_at: now + cx.config.idempotency_retention }
}

/// Returns the error for a key that another request has used.
pub(crate) fn reused(key: &IdempotencyKey) -> Error {
    PlatformConflict::KeyReused { key: key.key().to_owned() }.into()
}

/// Returns the error for a key whose answer was erased.
pub(crate) fn erased(key: &IdempotencyKey) -> Error {
    PlatformConflict::AnswerErased { key: key.key().to_owned() }.into()
}
