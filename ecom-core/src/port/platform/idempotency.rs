//! Idempotency keys and the stored answers of their requests (R12).

use crate::clock::Timestamp;
use crate::domain::platform::idempotency::{IdempotencyKey, RequestHash, StoredAnswer};
use crate::error::Result;
use crate::id::CustomerId;

/// A key that a transaction claims for a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The key.
    pub key: IdempotencyKey,
    /// The hash of the request.
    pub hash: RequestHash,
    /// When the request arrived.
    pub created_at: Timestamp,
    /// When the key can be removed.
    pub expires_at: Timestamp,
}

/// The result of a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claimed {
    /// The key belongs to this transaction, which now does what the request asks for.
    New,
    /// The same request was answered before.
    Answered(StoredAnswer),
    /// Another request has used the key.
    Reused,
    /// The same request was answered before, and its answer was erased.
    Erased,
}

port! {
    /// The idempotency keys of a shop. A transaction claims its keys before it takes any other lock (R24), and stores
    /// the answers before it commits.
    ///
    /// Every method fails with `Unavailable` if the database cannot be reached.
    pub trait IdempotencyRepository / ForwardIdempotency(&mut self): Send {
        /// Claims keys, and returns what each claim has found, in the order of the claims. The keys are locked in their
        /// sort order until the transaction ends. If another transaction has claimed one of them and has not ended, the
        /// call waits for its end: after a commit it finds the answer, after a rollback the key is new.
        ///
        /// A key whose row has no answer is new: this transaction has claimed it before, or a host has committed a
        /// claim without an answer. So both of two equal claims in one batch are new.
        ///
        /// # Errors
        /// `Contention` if the wait takes too long, or if the row was removed meanwhile.
        async fn claim(&mut self, claims: &[Claim]) -> Result<Vec<Claimed>>;

        /// Stores the answers of keys that this transaction has claimed, each key once.
        ///
        /// # Errors
        /// `Internal` if one of the keys is not claimed.
        async fn store(&mut self, answers: &[(IdempotencyKey, StoredAnswer)]) -> Result<()>;

        /// Removes keys that this transaction has claimed and whose requests were refused, so that they are free again
        /// (R42).
        async fn release(&mut self, keys: &[IdempotencyKey]) -> Result<()>;

        /// Removes the stored answers about a customer (R45), and returns how many. This includes answers that were
        /// stored for a guest: about a cart or an order that now belongs to the customer, about a cart that was merged
        /// into one of the customer's carts, and about a cart that one of its orders was made from. The keys stay: a
        /// claim by the same request finds [`Claimed::Erased`].
        async fn erase(&mut self, customer: CustomerId, at: Timestamp) -> Result<u64>;

        /// Removes at most `limit` keys that expired before `before`, oldest first. Returns how many.
        async fn sweep(&mut self, before: Timestamp, limit: u32) -> Result<u64>;
    }
}
