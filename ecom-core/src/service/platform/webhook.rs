//! Webhooks: keeps the subscriptions, and shows and replays their deliveries. The background work delivers
//! (`service/background/webhooks.rs`).

use std::sync::Arc;

use url::Url;

use crate::domain::access::principal::{Permission, Principal};
use crate::domain::common::{Audit, ExpectedVersion};
use crate::domain::platform::outbox::EventKind;
use crate::domain::platform::webhook::{
    CreatedWebhook, SealedSecret, Webhook, WebhookDelivery, WebhookDeliveryFilter, WebhookHealth, WebhookInput,
    WebhookPatch, WebhookRotation, WebhookValues,
};
use crate::error::{Conflict, Entity, Error, Result, ValidationErrors};
use crate::id::{EventId, WebhookDeliveryId, WebhookId};
use crate::paging::{Page, Paging, Total};
use crate::port::storage::Repositories as _;
use crate::port::webhook_sender::WebhookSender;
use crate::service::run::context::Context;
use crate::service::run::transaction::{Change, Tx};
use crate::text::check_text;

/// How the database has a key: as it is, or encrypted by the secret key of the shop.
const PLAIN: u8 = 0;
const ENCRYPTED: u8 = 1;

/// Returns the purpose for which the key of a webhook is encrypted.
fn purpose(id: WebhookId) -> String {
    format!("webhook {id}")
}

/// Returns a key as the database has it.
fn seal(cx: &Context, id: WebhookId, key: &[u8]) -> Result<SealedSecret> {
    let sealed = match &cx.secret_key {
        Some(secret) => [vec![ENCRYPTED], secret.seal(&purpose(id), key, cx.ids.secret())?].concat(),
        None => [&[PLAIN][..], key].concat(),
    };
    Ok(SealedSecret(sealed))
}

/// Returns the key that the database has. Returns `None` if it was encrypted with another secret key than that of the
/// shop.
pub(crate) fn unseal(cx: &Context, id: WebhookId, sealed: &SealedSecret) -> Option<Vec<u8>> {
    match sealed.0.split_first()? {
        (&PLAIN, key) => Some(key.to_vec()),
        (&ENCRYPTED, key) => cx.secret_key.as_ref()?.open(&purpose(id), key),
        _ => None,
    }
}

/// The service of the webhooks of a shop. The background work delivers events to them
/// ([`Shop::start`](crate::Shop::start)), if the shop has a
/// [`WebhookSender`](crate::port::WebhookSender).
///
/// Each event is delivered at least once, and the events of one aggregate in their order: the next one waits until the
/// receiver has accepted the one before, or until that has failed for good. The events of other aggregates do not wait.
/// A failed delivery is repeated after pauses that grow up to a day, and stays failed after
/// [`WebhookDelivery::MAX_ATTEMPTS`] attempts. The shop switches a webhook off if its receiver answers with the status
/// 410, or if deliveries have failed for
/// [`ShopConfig::webhook_off_after`](crate::config::ShopConfig::webhook_off_after), and then writes the event
/// `webhook.disabled`.
///
/// Messages are signed by the Standard Webhooks specification. A signature needs the secret itself, so the database has
/// it and not only a hash. It is encrypted if the shop has a secret key.
///
/// A method for which the principal of the service lacks a permission fails with
/// [`Error::Forbidden`](crate::Error::Forbidden), in addition to the errors that it lists.
///
/// ```
/// # async fn app(shop: ecom_core::Shop) -> Result<(), Box<dyn std::error::Error>> {
/// use ecom_core::platform::{EventKind, WebhookInput};
///
/// let input = WebhookInput::new("https://example.com/hooks/shop", [EventKind::OrderPlaced]);
/// let created = shop.webhooks().create(&input).await?;
/// println!("give this to the receiver, since nobody can read it again: {}", created.secret.reveal());
/// shop.webhooks().test(created.webhook.id).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy)]
pub struct WebhookService<'a> {
    cx: &'a Arc<Context>,
    who: &'a Principal,
}

impl<'a> WebhookService<'a> {
    pub(crate) const fn new(cx: &'a Arc<Context>, who: &'a Principal) -> Self {
        Self { cx, who }
    }

    /// Returns a webhook.
    ///
    /// # Errors
    /// `NotFound`, `Unavailable`.
    pub async fn get(&self, id: WebhookId) -> Result<Webhook> {
        self.who.require(Permission::WebhooksRead)?;
        let found = self.cx.storage.connect().await?.webhooks().get(id).await?;
        found.ok_or_else(|| Error::not_found(Entity::Webhook, id))
    }

    /// Returns a page of webhooks, newest first, and, with [`Paging::Offset`], how many there are, counted up to
    /// [`crate::config::ShopConfig::total_bound`].
    ///
    /// # Errors
    /// `Validation` if the limit of the page is out of bounds, `Unavailable`.
    pub async fn list(&self, paging: &Paging) -> Result<(Page<Webhook>, Option<Total>)> {
        self.who.require(Permission::WebhooksRead)?;
        paging.check()?;
        let mut db = self.cx.storage.connect().await?;
        let page = db.webhooks().list(paging).await?;
        let total = match paging {
            Paging::Offset { .. } => Some(db.webhooks().count(self.cx.config.total_bound).await?),
            Paging::Keyset { .. } => None,
        };
        Ok((page, total))
    }

    /// Creates a webhook, and returns it with its secret, which nobody can read again. It receives the events from then
    /// on.
    ///
    /// # Errors
    /// `Validation`, `STATE_CONFLICT` if the shop has [`Webhook::MAX`] webhooks, `Unsupported` if the shop sends none,
    /// `Unavailable`.
    pub async fn create(&self, input: &WebhookInput) -> Result<CreatedWebhook> {
        self.check(input)?;
        self.cx.write(|mut tx| async move { Ok((self.create_in(&mut tx, input).await?, tx)) }).await
    }

    /// [`Self::create`] inside a transaction.
    ///
    /// # Errors
    /// As [`Self::create`].
    pub async fn create_in(&self, tx: &mut Tx<'_>, input: &WebhookInput) -> Result<CreatedWebhook> {
        let (values, key) = self.check(input)?;
        tx.started();
        if tx.webhooks().count(Webhook::MAX).await?.count >= Webhook::MAX {
            let message = format!("the shop has {} webhooks, and cannot have more: delete one first", Webhook::MAX);
            return Err(Conflict::State { message }.into());
        }
        let id = WebhookId(self.cx.ids.next());
        let key = key.unwrap_or_else(|| self.cx.ids.secret().to_vec());
        let WebhookValues { url, description, events, enabled } = values;
        let webhook = Webhook {
            id,
            url,
            description,
            events,
            enabled,
            off_reason: None,
            secret: seal(self.cx, id, &key)?,
            previous_secrets: Vec::new(),
            health: WebhookHealth::default(),
            audit: Audit::created(self.cx.now(), self.who.actor()),
        };
        tx.webhooks().insert(&webhook).await?;
        tx.emit(Change::created(EventKind::WebhookCreated, &webhook, self.who.actor())).await?;
        tx.ended(Ok(CreatedWebhook { webhook, secret: Webhook::secret_of(&key) }))
    }

    /// Merges a patch into a webhook (RFC 7396, R1). Deliveries that wait are sent to the new URL. `enabled: true` also
    /// ends the pauses of a receiver that has failed.
    ///
    /// # Errors
    /// `NotFound`, `VERSION_CONFLICT`, `VERSION_REQUIRED`, `Validation`, `Unsupported` if the shop sends no webhooks,
    /// `Unavailable`.
    pub async fn patch(&self, id: WebhookId, expected: ExpectedVersion, patch: WebhookPatch) -> Result<Webhook> {
        self.may_write()?;
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
        id: WebhookId,
        expected: ExpectedVersion,
        patch: WebhookPatch,
    ) -> Result<Webhook> {
        let sender = self.may_write()?;
        let expected = expected.or_named(patch.version)?;
        tx.started();
        let before = lock(tx, id).await?;
        expected.check(Entity::Webhook, id, before.audit.version, self.cx.config.last_write_wins)?;
        let resumes = patch.enabled == crate::common::Patch::Set(true) && before.health.failures > 0;
        let input = patch.onto(&before)?;
        // A webhook can be switched off also after its URL is no longer allowed. Each attempt checks the URL too.
        let stays = input.url == before.url;
        let (values, _) = input.check(|url| if stays { None } else { sender.refuses(url) })?;
        let WebhookValues { url, description, events, enabled } = values;
        let mut after = Webhook { url, description, events, enabled, ..before.clone() };
        if enabled != before.enabled {
            after.off_reason = None;
        }
        if resumes {
            after.health = WebhookHealth { succeeded_at: before.health.succeeded_at, ..WebhookHealth::default() };
            tx.webhooks().note_health(id, &after.health).await?;
            tx.webhook_deliveries().hasten(id, self.cx.now()).await?;
            tx.wake();
        }
        if (Webhook { health: before.health.clone(), ..after.clone() }) == before {
            return tx.ended(Ok(after));
        }
        after.audit.edited(self.cx.now(), self.who.actor());
        tx.webhooks().update(&before, &after).await?;
        tx.emit(Change::edited(EventKind::WebhookUpdated, &before, &after, self.who.actor())).await?;
        tx.ended(Ok(after))
    }

    /// Deletes a webhook for good, together with its deliveries. An attempt that runs may still reach the receiver.
    ///
    /// # Errors
    /// `NotFound`, `VERSION_CONFLICT`, `VERSION_REQUIRED`, `Unavailable`.
    pub async fn delete(&self, id: WebhookId, expected: ExpectedVersion) -> Result<()> {
        self.who.require(Permission::WebhooksWrite)?;
        self.cx.write_at_length(|mut tx| async move { Ok((self.delete_in(&mut tx, id, expected).await?, tx)) }).await
    }

    /// [`Self::delete`] inside a transaction.
    ///
    /// # Errors
    /// As [`Self::delete`].
    pub async fn delete_in(&self, tx: &mut Tx<'_>, id: WebhookId, expected: ExpectedVersion) -> Result<()> {
        self.who.require(Permission::WebhooksWrite)?;
        tx.started();
        let before = lock(tx, id).await?;
        expected.check(Entity::Webhook, id, before.audit.version, self.cx.config.last_write_wins)?;
        tx.webhooks().delete(id).await?;
        tx.emit(Change::removed(EventKind::WebhookDeleted, &before, self.who.actor())).await?;
        tx.ended(Ok(()))
    }

    /// Replaces the secret of a webhook, and returns the new one, which nobody can read again. Earlier secrets sign as
    /// well until their times have passed: each message has a signature by each of them, so that the receiver can
    /// change its configuration in between. It needs no version, because a repeated rotation makes no earlier secret
    /// void before its time, unless more than [`Webhook::MAX_PREVIOUS`] would sign.
    ///
    /// # Errors
    /// `NotFound`, `Validation`, `Unavailable`.
    pub async fn rotate_secret(&self, id: WebhookId, rotation: &WebhookRotation) -> Result<CreatedWebhook> {
        self.who.require(Permission::WebhooksWrite)?;
        rotation.check()?;
        self.cx.write(|mut tx| async move { Ok((self.rotate_secret_in(&mut tx, id, rotation).await?, tx)) }).await
    }

    /// [`Self::rotate_secret`] inside a transaction.
    ///
    /// # Errors
    /// As [`Self::rotate_secret`].
    pub async fn rotate_secret_in(
        &self,
        tx: &mut Tx<'_>,
        id: WebhookId,
        rotation: &WebhookRotation,
    ) -> Result<CreatedWebhook> {
        self.who.require(Permission::WebhooksWrite)?;
        let (key, overlap) = rotation.check()?;
        tx.started();
        let before = lock(tx, id).await?;
        let key = key.unwrap_or_else(|| self.cx.ids.secret().to_vec());
        let now = self.cx.now();
        let after = before.rotated(seal(self.cx, id, &key)?, now + overlap, now, self.who.actor());
        tx.webhooks().update(&before, &after).await?;
        let change = Change::edited(EventKind::WebhookUpdated, &before, &after, self.who.actor());
        // The log shows no secret, so that the edit would seem to change nothing.
        tx.emit(change.without_data()).await?;
        tx.ended(Ok(CreatedWebhook { webhook: after, secret: Webhook::secret_of(&key) }))
    }

    /// Makes a delivery of the kind [`WebhookDelivery::TEST`], which the background work attempts like any other. No
    /// delivery waits for it.
    ///
    /// # Errors
    /// `NotFound`, `STATE_CONFLICT` if the webhook is off, `Unsupported` if the shop sends no webhooks, `Unavailable`.
    pub async fn test(&self, id: WebhookId) -> Result<WebhookDelivery> {
        self.may_write()?;
        self.cx.write(|mut tx| async move { Ok((self.test_in(&mut tx, id).await?, tx)) }).await
    }

    /// [`Self::test`] inside a transaction.
    ///
    /// # Errors
    /// As [`Self::test`].
    pub async fn test_in(&self, tx: &mut Tx<'_>, id: WebhookId) -> Result<WebhookDelivery> {
        self.may_write()?;
        tx.started();
        is_on(&lock(tx, id).await?)?;
        let (delivery, event) = (WebhookDeliveryId(self.cx.ids.next()), EventId(self.cx.ids.next()));
        let delivery = WebhookDelivery::test(delivery, id, event, self.cx.now(), self.who.actor());
        tx.webhook_deliveries().insert(std::slice::from_ref(&delivery)).await?;
        tx.wake();
        tx.ended(Ok(delivery))
    }

    /// Returns a delivery.
    ///
    /// # Errors
    /// `NotFound`, `Unavailable`.
    pub async fn delivery(&self, id: WebhookDeliveryId) -> Result<WebhookDelivery> {
        self.who.require(Permission::WebhooksRead)?;
        let found = self.cx.storage.connect().await?.webhook_deliveries().get(id).await?;
        found.ok_or_else(|| Error::not_found(Entity::WebhookDelivery, id))
    }

    /// Returns a page of deliveries, newest first, and, with [`Paging::Offset`], how many match, counted up to
    /// [`crate::config::ShopConfig::total_bound`].
    ///
    /// # Errors
    /// `Validation` if the kind or the limit of the page is out of bounds, `Unavailable`.
    pub async fn deliveries(
        &self,
        filter: &WebhookDeliveryFilter,
        paging: &Paging,
    ) -> Result<(Page<WebhookDelivery>, Option<Total>)> {
        self.who.require(Permission::WebhooksRead)?;
        let mut errors = ValidationErrors::default();
        if let Some(kind) = &filter.kind {
            check_text("kind", kind, 1, 100, &mut errors);
        }
        errors.into_result()?;
        paging.check()?;
        let mut db = self.cx.storage.connect().await?;
        let page = db.webhook_deliveries().list(filter, paging).await?;
        let total = match paging {
            Paging::Offset { .. } => Some(db.webhook_deliveries().count(filter, self.cx.config.total_bound).await?),
            Paging::Keyset { .. } => None,
        };
        Ok((page, total))
    }

    /// Delivers an event again, whether its delivery has succeeded or failed, with as many attempts as a new one. It
    /// does not wait for other deliveries, so that the receiver gets it after later events of its aggregate. A delivery
    /// that pauses after a failure is attempted now. One that waits for an earlier event, or that is being attempted,
    /// is returned unchanged.
    ///
    /// # Errors
    /// `NotFound`, `STATE_CONFLICT` if the webhook is off, `Unsupported` if the shop sends no webhooks, `Unavailable`.
    pub async fn replay(&self, id: WebhookDeliveryId) -> Result<WebhookDelivery> {
        self.may_write()?;
        self.cx.write(|mut tx| async move { Ok((self.replay_in(&mut tx, id).await?, tx)) }).await
    }

    /// [`Self::replay`] inside a transaction.
    ///
    /// # Errors
    /// As [`Self::replay`].
    pub async fn replay_in(&self, tx: &mut Tx<'_>, id: WebhookDeliveryId) -> Result<WebhookDelivery> {
        self.may_write()?;
        tx.started();
        let missing = || Error::not_found(Entity::WebhookDelivery, id);
        let webhook = tx.webhook_deliveries().get(id).await?.ok_or_else(missing)?.webhook_id;
        is_on(&lock(tx, webhook).await?)?;
        let before = tx.webhook_deliveries().lock(id).await?.ok_or_else(missing)?;
        let now = self.cx.now();
        let pauses = before.holder.is_none() && before.due_at.is_some_and(|at| now < at);
        if before.is_pending() && !pauses {
            return tx.ended(Ok(before));
        }
        let after = before.replayed(now, self.who.actor());
        tx.webhook_deliveries().update(&before, &after).await?;
        tx.wake();
        tx.ended(Ok(after))
    }

    /// Refuses a principal who may not write webhooks, and returns the sender.
    fn may_write(&self) -> Result<&Arc<dyn WebhookSender>> {
        self.who.require(Permission::WebhooksWrite)?;
        let capability = "webhooks: build the shop with a `WebhookSender`";
        self.cx.webhooks.as_ref().ok_or(Error::Unsupported { provider: "this shop", capability })
    }

    fn check(&self, input: &WebhookInput) -> Result<(WebhookValues, Option<Vec<u8>>)> {
        let sender = self.may_write()?;
        input.check(|url: &Url| sender.refuses(url))
    }
}

async fn lock(tx: &mut Tx<'_>, id: WebhookId) -> Result<Webhook> {
    tx.webhooks().lock(id).await?.ok_or_else(|| Error::not_found(Entity::Webhook, id))
}

/// Refuses a webhook that is off, because nothing would be delivered to it.
fn is_on(webhook: &Webhook) -> Result<()> {
    if webhook.enabled {
        return Ok(());
    }
    let message = format!("webhook {} is off, so nothing is delivered to it: set `enabled` to true first", webhook.id);
    Err(Conflict::State { message }.into())
}
