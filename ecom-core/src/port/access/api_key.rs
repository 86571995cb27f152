//! API keys.

use crate::clock::Timestamp;
use crate::domain::access::api_key::ApiKey;
use crate::domain::access::secret::SecretHash;
use crate::error::Result;
use crate::id::ApiKeyId;
use crate::paging::{Page, Paging, Total};

port! {
    /// The API keys of a shop. Permissions that this release does not know are left out.
    ///
    /// Every method fails with `Unavailable` if the database cannot be reached.
    pub trait ApiKeyRepository / ForwardApiKeys(&mut self): Send {
        /// Returns one key.
        async fn get(&mut self, id: ApiKeyId) -> Result<Option<ApiKey>>;

        /// Returns the key whose secret has this hash.
        async fn get_by_hash(&mut self, hash: &SecretHash) -> Result<Option<ApiKey>>;

        /// Locks a key until the end of the transaction, and returns it as it is then.
        async fn lock(&mut self, id: ApiKeyId) -> Result<Option<ApiKey>>;

        /// Returns a page of keys, newest first.
        async fn list(&mut self, paging: &Paging) -> Result<Page<ApiKey>>;

        /// Counts the keys, up to `bound`.
        async fn count(&mut self, bound: u64) -> Result<Total>;

        /// Inserts a key.
        ///
        /// # Errors
        /// `DUPLICATE` on `secret` if another key has the same hash.
        async fn insert(&mut self, key: &ApiKey) -> Result<()>;

        /// Writes `after` over `before`. The time of the last use stays as it is in the database.
        ///
        /// # Errors
        /// `VERSION_CONFLICT` if the row is no longer at `before`'s version.
        async fn update(&mut self, before: &ApiKey, after: &ApiKey) -> Result<()>;

        /// Records when keys were last used, unless the database has a later time. Keys that are gone are skipped. The
        /// versions stay.
        async fn note_uses(&mut self, uses: &[(ApiKeyId, Timestamp)]) -> Result<()>;

        /// Returns at most `limit` keys that expired before a time, those that expired first before the others.
        async fn expired(&mut self, before: Timestamp, limit: u32) -> Result<Vec<ApiKeyId>>;

        /// Removes a key for good.
        async fn delete(&mut self, id: ApiKeyId) -> Result<()>;
    }
}
