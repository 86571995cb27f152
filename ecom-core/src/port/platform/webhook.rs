//! Webhooks and the log of their deliveries.

use uuid::Uuid;

use crate::clock::Timestamp;
use crate::domain::platform::webhook::{Webhook, WebhookDelivery, WebhookDeliveryFilter, WebhookHealth};
use crate::error::Result;
use crate::id::{EventId, WebhookDeliveryId, WebhookId};
use crate::paging::{Page, Paging, Total};

port! {
    /// The webhooks of a shop. Kinds of events that this release does not know are left out.
    ///
    /// Every method fails with `Unavailable` if the database cannot be reached.
    pub trait WebhookRepository / ForwardWebhooks(&mut self): Send {
        /// Inserts a webhook.
        async fn insert(&mut self, webhook: &Webhook) -> Result<()>;

        /// Returns one webhook.
        async fn get(&mut self, id: WebhookId) -> Result<Option<Webhook>>;

        /// Locks a webhook until the end of the transaction, and returns it as it is then. Whoever adds deliveries of
        /// the webhook, or ends one, holds this lock.
        async fn lock(&mut self, id: WebhookId) -> Result<Option<Webhook>>;

        /// As [`Self::lock`], for several webhooks, in the order of their ids.
        async fn lock_many(&mut self, ids: &[WebhookId]) -> Result<Vec<Webhook>>;

        /// Returns all webhooks that are enabled, in the order of their ids.
        async fn enabled(&mut self) -> Result<Vec<Webhook>>;

        /// Returns the enabled webhooks whose rest is over ([`WebhookHealth::rests_until`]) and that have a delivery
        /// which is due at `now`, in the order of their ids. One statement, which takes no lock.
        async fn due(&mut self, now: Timestamp) -> Result<Vec<WebhookId>>;

        /// Returns a page of webhooks, newest first.
        async fn list(&mut self, paging: &Paging) -> Result<Page<Webhook>>;

        /// Counts the webhooks, up to `bound`.
        async fn count(&mut self, bound: u64) -> Result<Total>;

        /// Writes `after` over `before`, without the health.
        ///
        /// # Errors
        /// `VERSION_CONFLICT` if the row is no longer at `before`'s version, `NotFound` if it does not exist.
        async fn update(&mut self, before: &Webhook, after: &Webhook) -> Result<()>;

        /// Writes the health of a webhook. Its version stays. Changes nothing if the webhook does not exist.
        async fn note_health(&mut self, id: WebhookId, health: &WebhookHealth) -> Result<()>;

        /// Removes a webhook for good, together with its deliveries.
        async fn delete(&mut self, id: WebhookId) -> Result<()>;
    }
}

port! {
    /// The deliveries of the webhooks of a shop. The domain decides how a delivery changes; the repository stores it.
    ///
    /// Every method fails with `Unavailable` if the database cannot be reached.
    pub trait WebhookDeliveryRepository / ForwardWebhookDeliveries(&mut self): Send {
        /// Inserts deliveries.
        ///
        /// # Errors
        /// `DUPLICATE` on `event_id` if the webhook has a delivery of the event already, `Validation` on `webhook_id`
        /// if a webhook does not exist.
        async fn insert(&mut self, deliveries: &[WebhookDelivery]) -> Result<()>;

        /// Returns one delivery.
        async fn get(&mut self, id: WebhookDeliveryId) -> Result<Option<WebhookDelivery>>;

        /// Locks a delivery until the end of the transaction, and returns it as it is then.
        async fn lock(&mut self, id: WebhookDeliveryId) -> Result<Option<WebhookDelivery>>;

        /// Returns those of these events that have a delivery to the webhook already.
        async fn known(&mut self, webhook: WebhookId, events: &[EventId]) -> Result<Vec<EventId>>;

        /// Returns those of these aggregates that have a pending delivery to the webhook.
        async fn pending_of(&mut self, webhook: WebhookId, aggregates: &[Uuid]) -> Result<Vec<Uuid>>;

        /// Returns at most `limit` deliveries to a webhook that are due at `now`. Those that have been due for the
        /// longest time come first. The caller has locked the webhook.
        async fn due(&mut self, webhook: WebhookId, now: Timestamp, limit: u32) -> Result<Vec<WebhookDelivery>>;

        /// Returns the first pending delivery of an aggregate to a webhook, in the order of the log. Returns `None` if
        /// none is pending, or if one of them does not wait, because it has a [`WebhookDelivery::due_at`].
        async fn next_of(&mut self, webhook: WebhookId, aggregate: Uuid) -> Result<Option<WebhookDelivery>>;

        /// Returns at most `limit` pending deliveries that wait although no earlier one of their aggregate is pending,
        /// because the earlier one was removed.
        async fn orphans(&mut self, limit: u32) -> Result<Vec<WebhookDelivery>>;

        /// Writes `after` over `before`.
        ///
        /// # Errors
        /// `VERSION_CONFLICT` if the row is no longer at `before`'s version, `NotFound` if it does not exist.
        async fn update(&mut self, before: &WebhookDelivery, after: &WebhookDelivery) -> Result<()>;

        /// Ends the pauses of deliveries to a webhook that have failed: they become due at `now`.
        async fn hasten(&mut self, webhook: WebhookId, now: Timestamp) -> Result<()>;

        /// Returns a page of deliveries, newest first: one statement whatever the limit.
        async fn list(&mut self, filter: &WebhookDeliveryFilter, paging: &Paging) -> Result<Page<WebhookDelivery>>;

        /// Counts the deliveries that match, up to `bound`.
        async fn count(&mut self, filter: &WebhookDeliveryFilter, bound: u64) -> Result<Total>;

        /// Removes at most `limit` deliveries that were made before `before`, the oldest first. Returns how many.
        async fn trim(&mut self, before: Timestamp, limit: u32) -> Result<u64>;
    }
}
