//! API keys.

use std::sync::Arc;

use chrono::SecondsFormat;

use crate::clock::Timestamp;
use crate::domain::access::api_key::{self, ApiKey, ApiKeyInput, ApiKeyPatch, CreatedApiKey};
use crate::domain::access::principal::{Permission, Principal};
use crate::domain::access::secret::{Secret, SecretHash};
use crate::domain::common::{Audit, ExpectedVersion};
use crate::domain::platform::outbox::EventKind;
use crate::error::{Conflict, Entity, Error, FieldCode, Result};
use crate::id::ApiKeyId;
use crate::paging::{Page, Paging, Total};
use crate::port::cache::CacheKey;
use crate::port::storage::Repositories as _;
use crate::service::run::context::Context;
use crate::service::run::transaction::{Change, Tx};

/// The most keys that one transaction removes because they have expired.
const EXPIRED_AT_ONCE: u32 = 100;

/// The service of the API keys of a shop.
///
/// A method for which the principal of the service lacks a permission fails with
/// [`Error::Forbidden`](crate::Error::Forbidden), in addition to the errors that it lists. A principal cannot give a
/// key permissions that it does not have, and cannot change a key that has them. If the principal is an API key that
/// expires, it cannot create a key that expires later than itself, extend one, itself included, beyond that time, or
/// add permissions to a key that lasts longer: the call fails with `Validation` on `expires_at`.
///
/// ```
/// # async fn app(shop: ecom_core::Shop) -> Result<(), Box<dyn std::error::Error>> {
/// use ecom_core::access::{ApiKeyInput, Permission};
///
/// let robot = ApiKeyInput::new("warehouse robot", [Permission::StockAdjust]);
/// let created = shop.api_keys().create(&robot).await?;
/// println!("give this to the robot, since nobody can read it again: {}", created.secret.reveal());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy)]
pub struct ApiKeyService<'a> {
    cx: &'a Arc<Context>,
    who: &'a Principal,
}

impl<'a> ApiKeyService<'a> {
    pub(crate) const fn new(cx: &'a Arc<Context>, who: &'a Principal) -> Self {
        Self { cx, who }
    }

    /// Returns a key.
    ///
    /// # Errors
    /// `NotFound`, `Unavailable`.
    pub async fn get(&self, id: ApiKeyId) -> Result<ApiKey> {
        self.who.require(Permission::ApiKeysRead)?;
        let found = self.cx.storage.connect().await?.api_keys().get(id).await?;
        found.ok_or_else(|| Error::not_found(Entity::ApiKey, id))
    }

    /// Returns a page of keys, newest first, and, with [`Paging::Offset`], how many there are, counted up to
    /// [`crate::config::ShopConfig::total_bound`].
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn list(&self, paging: &Paging) -> Result<(Page<ApiKey>, Option<Total>)> {
        self.who.require(Permission::ApiKeysRead)?;
        paging.check()?;
        let mut db = self.cx.storage.connect().await?;
        let page = db.api_keys().list(paging).await?;
        let total = match paging {
            Paging::Offset { .. } => Some(db.api_keys().count(self.cx.config.total_bound).await?),
            Paging::Keyset { .. } => None,
        };
        Ok((page, total))
    }

    /// Creates a key, and returns it with its secret, which nobody can read again.
    ///
    /// # Errors
    /// `Validation`, `Unavailable`.
    pub async fn create(&self, input: &ApiKeyInput) -> Result<CreatedApiKey> {
        self.may_write(input)?;
        self.may_last_until(input.check()?.expires_at)?;
        self.cx.write(|mut tx| async move { Ok((self.create_in(&mut tx, input).await?, tx)) }).await
    }

    /// [`Self::create`] inside a transaction.
    ///
    /// # Errors
    /// As [`Self::create`].
    pub async fn create_in(&self, tx: &mut Tx<'_>, input: &ApiKeyInput) -> Result<CreatedApiKey> {
        self.may_write(input)?;
        let values = input.check()?;
        self.may_last_until(values.expires_at)?;
        self.insert(tx, values, ApiKey::secret(self.cx.ids.secret()), false).await
    }

    /// Creates a key that may do everything and has this secret, unless a key has the secret already. Returns whether
    /// it was created. An application calls this at its first start to create the first key.
    ///
    /// # Errors
    /// `Validation` if the principal is a key that expires, `Unavailable`.
    pub async fn ensure_admin(&self, secret: &Secret) -> Result<bool> {
        self.who.require(Permission::ApiKeysWrite)?;
        self.who.require_everything()?;
        self.may_last_until(None)?;
        let ensure = |mut tx: Tx<'static>| async move {
            if tx.api_keys().get_by_hash(&secret.hash()).await?.is_some() {
                return Ok((false, tx));
            }
            let values = ApiKeyInput::new("admin", Permission::ALL.iter().copied());
            self.insert(&mut tx, values, secret.clone(), true).await?;
            Ok((true, tx))
        };
        match self.cx.write(ensure).await {
            // Another process has created it at the same moment.
            Err(Error::Conflict(c)) if matches!(*c, Conflict::Duplicate { .. }) => Ok(false),
            outcome => outcome,
        }
    }

    /// Returns a new secret of an API key.
    pub fn new_secret(&self) -> Secret {
        ApiKey::secret(self.cx.ids.secret())
    }

    async fn insert(
        &self,
        tx: &mut Tx<'_>,
        values: ApiKeyInput,
        secret: Secret,
        is_admin: bool,
    ) -> Result<CreatedApiKey> {
        tx.started();
        let key = ApiKey {
            id: ApiKeyId(self.cx.ids.next()),
            name: values.name,
            prefix: ApiKey::prefix_of(&secret),
            hash: secret.hash(),
            permissions: values.permissions,
            is_admin,
            expires_at: values.expires_at,
            last_used_at: None,
            audit: Audit::created(self.cx.now(), self.who.actor()),
        };
        tx.api_keys().insert(&key).await?;
        tx.emit(Change::created(EventKind::ApiKeyCreated, &key, self.who.actor())).await?;
        tx.ended(Ok(CreatedApiKey { key, secret }))
    }

    /// Merges a patch into a key (RFC 7396, R1). It takes effect as R15 says: immediately in this process, and within
    /// the poll interval in processes that do not share the cache.
    ///
    /// # Errors
    /// `NotFound`, `VERSION_CONFLICT`, `VERSION_REQUIRED`, `STATE_CONFLICT` if the patch changes the permissions of an
    /// admin key, `Validation`, `Unavailable`.
    pub async fn patch(&self, id: ApiKeyId, expected: ExpectedVersion, patch: ApiKeyPatch) -> Result<ApiKey> {
        self.who.require(Permission::ApiKeysWrite)?;
        let expected = expected.or_named(patch.version)?;
        let patch = &patch;
        self.cx
            .write(|mut tx| async move { Ok((self.patch_in(&mut tx, id, expected, patch.clone()).await?, tx)) })
            .await
    }

    /// [`Self::patch`] inside a transaction.
    ///
    /// # Errors
    /// As [`Self::patch`].
    pub async fn patch_in(
        &self,
        tx: &mut Tx<'_>,
        id: ApiKeyId,
        expected: ExpectedVersion,
        patch: ApiKeyPatch,
    ) -> Result<ApiKey> {
        self.who.require(Permission::ApiKeysWrite)?;
        let expected = expected.or_named(patch.version)?;
        tx.started();
        let before = self.lock(tx, id, expected).await?;
        let values = patch.onto(&before)?.check()?;
        self.may_write(&values)?;
        if is_later(values.expires_at, before.expires_at) || !values.permissions.is_subset(&before.permissions) {
            self.may_last_until(values.expires_at)?;
        }
        let mut after = ApiKey {
            name: values.name,
            permissions: values.permissions,
            expires_at: values.expires_at,
            ..before.clone()
        };
        if after == before {
            return tx.ended(Ok(before));
        }
        if before.is_admin && after.permissions != before.permissions {
            let message = "an admin key has all permissions: create a key with fewer, and delete this one".to_owned();
            return Err(Conflict::State { message }.into());
        }
        after.audit.edited(self.cx.now(), self.who.actor());
        tx.api_keys().update(&before, &after).await?;
        let change = Change::edited(EventKind::ApiKeyUpdated, &before, &after, self.who.actor());
        tx.emit(change.shown_by([cache_key(&after.hash)])).await?;
        tx.ended(Ok(after))
    }

    /// Deletes a key for good. This takes effect as [`Self::patch`] does.
    ///
    /// # Errors
    /// `NotFound`, `VERSION_CONFLICT`, `VERSION_REQUIRED`, `Unavailable`.
    pub async fn delete(&self, id: ApiKeyId, expected: ExpectedVersion) -> Result<()> {
        self.who.require(Permission::ApiKeysWrite)?;
        self.cx.write(|mut tx| async move { Ok((self.delete_in(&mut tx, id, expected).await?, tx)) }).await
    }

    /// [`Self::delete`] inside a transaction.
    ///
    /// # Errors
    /// As [`Self::delete`].
    pub async fn delete_in(&self, tx: &mut Tx<'_>, id: ApiKeyId, expected: ExpectedVersion) -> Result<()> {
        self.who.require(Permission::ApiKeysWrite)?;
        tx.started();
        let before = self.lock(tx, id, expected).await?;
        tx.api_keys().delete(id).await?;
        let change = Change::removed(EventKind::ApiKeyDeleted, &before, self.who.actor());
        tx.emit(change.shown_by([cache_key(&before.hash)])).await?;
        tx.ended(Ok(()))
    }

    /// Deletes some of the keys that expired more than [`ApiKey::KEPT`] ago, and returns true if there may be more.
    pub(crate) async fn remove_some_expired(&self) -> Result<bool> {
        self.who.require(Permission::ApiKeysWrite)?;
        let cx = self.cx;
        let before = cx.now() - ApiKey::KEPT;
        let removed = cx.write_at_length(|mut tx| async move {
            let mut ids = tx.api_keys().expired(before, EXPIRED_AT_ONCE).await?;
            // All transactions lock the rows in one order.
            ids.sort_unstable();
            for id in &ids {
                // It may have been deleted, or last longer, since.
                let Some(key) = tx.api_keys().lock(*id).await? else { continue };
                if key.expires_at.is_some_and(|end| end < before) {
                    tx.api_keys().delete(*id).await?;
                    let change = Change::removed(EventKind::ApiKeyDeleted, &key, self.who.actor());
                    tx.emit(change.shown_by([cache_key(&key.hash)])).await?;
                }
            }
            Ok((ids.len(), tx))
        });
        Ok(removed.await? >= EXPIRED_AT_ONCE as usize)
    }

    /// Locks a key, and checks that it is the one that the writer read (R1), and that the writer may change it.
    async fn lock(&self, tx: &mut Tx<'_>, id: ApiKeyId, expected: ExpectedVersion) -> Result<ApiKey> {
        let before = tx.api_keys().lock(id).await?.ok_or_else(|| Error::not_found(Entity::ApiKey, id))?;
        expected.check(Entity::ApiKey, id, before.audit.version, self.cx.config.last_write_wins)?;
        if before.is_admin {
            self.who.require_everything()?;
        }
        self.who.require_all(&before.permissions)?;
        Ok(before)
    }

    /// Refuses a principal who may not write keys or lacks a permission of this one.
    fn may_write(&self, input: &ApiKeyInput) -> Result<()> {
        self.who.require(Permission::ApiKeysWrite)?;
        self.who.require_all(&input.permissions)
    }

    /// Refuses an expiry after that of the key that the principal is.
    fn may_last_until(&self, end: Option<Timestamp>) -> Result<()> {
        // A person with a token that expires can create keys that last longer.
        let is_key = api_key::id_of(self.who.actor().as_str()).is_some();
        match self.who.expires_at().filter(|_| is_key) {
            Some(own) if is_later(end, Some(own)) => {
                let own = own.to_rfc3339_opts(SecondsFormat::AutoSi, true);
                let message = format!("must be at most {own}, when the key of the request expires");
                Err(Error::invalid("expires_at", FieldCode::OutOfBounds, message))
            }
            _ => Ok(()),
        }
    }
}

/// Returns true if the first expiry is later than the second one. `None` is never.
fn is_later(end: Option<Timestamp>, than: Option<Timestamp>) -> bool {
    than.is_some_and(|than| end.is_none_or(|end| end > than))
}

/// Returns the key of the cached document of an API key.
pub(crate) fn cache_key(hash: &SecretHash) -> CacheKey {
    CacheKey::ApiKey(u128::from_be_bytes(std::array::from_fn(|i| hash.0[i])))
}
