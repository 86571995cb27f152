//! Routes of webhooks and of their deliveries.

use ecom_core::ValidationErrors;
use ecom_core::id::{EventId, WebhookDeliveryId, WebhookId};
use ecom_core::platform::{
    CreatedWebhook, Webhook, WebhookDelivery, WebhookDeliveryFilter, WebhookDeliveryState, WebhookInput, WebhookPatch,
    WebhookRotation,
};
use serde::Deserialize;
use uuid::Uuid;

use crate::dto::{Item, List, WebhookDeliveryView, WebhookView};
use crate::error::ApiResult;
use crate::etag::Stamp;
use crate::extract::{
    ById, Cursor, Id, IfMatchHeader, Json, NoBody, OptionalJson, Pages, Picked, Query, Version, word,
};
use crate::headers::{no_content, private};
use crate::idempotency::Post;
use crate::openapi::NotModified;
use crate::resource::{Format, Reply, Resource, Shown, Write};

/// Why a request whose response has a secret has no idempotency key.
const HAS_SECRET: &str = "the response has the secret of the webhook, which is not stored: send the request without a \
                          key";

impl Shown for Webhook {
    const FIELDS: &'static [&'static str] = WebhookView::FIELDS;
    type View<'a> = WebhookView<'a>;

    fn view(&self, _: &Format) -> WebhookView<'_> {
        WebhookView::new(self, None)
    }
}

impl Resource for Webhook {
    const COLLECTION: &'static str = "/webhooks";

    fn stamp(&self) -> Stamp {
        // The health changes the representation, but not the version.
        let health = &self.health;
        let times = [health.failed_at, health.rests_until, health.succeeded_at].into_iter().flatten();
        // This takes the sum of the times and not the latest one, which can stay the same while others change: a
        // receiver can ask for a pause of a day.
        let changed = times.map(|at| at.timestamp_micros()).fold(0, i64::wrapping_add);
        let revision = changed.max(self.audit.version);
        Stamp { id: self.id.0, version: self.audit.version, revision }
    }
}

impl Shown for CreatedWebhook {
    const FIELDS: &'static [&'static str] = WebhookView::FIELDS;
    type View<'a> = WebhookView<'a>;

    fn view(&self, _: &Format) -> WebhookView<'_> {
        WebhookView::new(&self.webhook, Some(&self.secret))
    }
}

impl Resource for CreatedWebhook {
    const COLLECTION: &'static str = Webhook::COLLECTION;

    fn stamp(&self) -> Stamp {
        self.webhook.stamp()
    }
}

impl Shown for WebhookDelivery {
    const FIELDS: &'static [&'static str] = WebhookDeliveryView::FIELDS;
    type View<'a> = WebhookDeliveryView<'a>;

    fn view(&self, _: &Format) -> WebhookDeliveryView<'_> {
        WebhookDeliveryView::of(self)
    }
}

impl Resource for WebhookDelivery {
    const COLLECTION: &'static str = "/webhooks/deliveries";

    fn stamp(&self) -> Stamp {
        Stamp { id: self.id.0, version: self.audit.version, revision: self.audit.version }
    }
}

/// The filters of a list of deliveries.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct DeliveryParams {
    /// Lists only the deliveries to this webhook.
    #[serde(default)]
    webhook_id: Option<Uuid>,
    /// Lists only deliveries in this state: `pending`, `succeeded` or `failed`.
    #[serde(default)]
    state: Option<String>,
    /// Lists only deliveries of events of this kind, such as `order.placed`, or `webhook.test`.
    #[param(min_length = 1, max_length = 100)]
    #[serde(default)]
    kind: Option<String>,
    /// Lists only the deliveries of this event.
    #[serde(default)]
    event_id: Option<Uuid>,
}

/// List webhooks
///
/// Lists the newest webhooks first.
#[utoipa::path(
    get, path = "/webhooks", tag = "webhooks", security(("bearer" = ["webhooks:read"])), params(Pages, Cursor, Picked),
    responses((status = 200, description = "A page of webhooks", body = List<WebhookView>))
)]
pub(crate) async fn list(reply: Reply, Query((pages, cursor, picked)): Query<(Pages, Cursor, Picked)>) -> ApiResult {
    let mut errors = ValidationErrors::default();
    let part = pages.check_with(&cursor, "created_desc", &reply.app.config, &mut errors);
    let format = reply.format::<Webhook>(&picked, &mut errors);
    errors.into_result()?;
    let (page, total) = reply.shop().webhooks().list(&part.paging).await?;
    let list = format.rows(reply.frame(&page, total, &part), page.items.iter())?;
    Ok(private(list.respond(), None))
}

/// Create a webhook
///
/// The shop sends each event of these kinds that happens from then on to the URL, as a POST with a JSON body that is
/// signed by the Standard Webhooks specification. The response has the secret of the signatures, which nobody can read
/// again.
#[utoipa::path(
    post, path = "/webhooks", tag = "webhooks", security(("bearer" = ["webhooks:write"])), request_body = WebhookInput,
    responses((status = 201, description = "The created webhook; `Location` has its path", body = Item<WebhookView>))
)]
pub(crate) async fn create(
    reply: Reply,
    Query(()): Query<()>,
    Post { body: Json(input), keyed }: Post<Json<WebhookInput>>,
) -> ApiResult {
    keyed.refuse(HAS_SECRET)?;
    let made = reply.shop().webhooks().create(&input).await?;
    reply.created(&made, &())
}

/// Read a webhook
///
/// The response does not have its secret.
#[utoipa::path(
    get, path = "/webhooks/{id}", tag = "webhooks", security(("bearer" = ["webhooks:read"])), params(ById, Picked),
    responses((status = 200, description = "The webhook", body = Item<WebhookView>), NotModified)
)]
pub(crate) async fn read(reply: Reply, Id(id): Id<WebhookId>, Query((picked,)): Query<(Picked,)>) -> ApiResult {
    let format = reply.only_format::<Webhook>(&picked)?;
    reply.personal(&reply.shop().webhooks().get(id).await?, &format)
}

/// Change a webhook
///
/// The body is a merge patch (RFC 7396). Deliveries that wait are sent to the new URL. `enabled: true` also ends the
/// pauses of a receiver that has failed.
#[utoipa::path(
    patch, path = "/webhooks/{id}", tag = "webhooks",
    security(("bearer" = ["webhooks:write"])), params(ById, IfMatchHeader), request_body = WebhookPatch,
    responses((status = 200, description = "The changed webhook", body = Item<WebhookView>))
)]
pub(crate) async fn patch(w: Write<WebhookId>, Query(()): Query<()>, Json(patch): Json<WebhookPatch>) -> ApiResult {
    let read = w.read(patch.version)?;
    let done = w.shop().webhooks().patch(w.id, read, patch).await;
    w.written(&w.done(done)?, &())
}

/// Delete a webhook
///
/// Its deliveries are deleted too.
#[utoipa::path(
    delete, path = "/webhooks/{id}", tag = "webhooks",
    security(("bearer" = ["webhooks:write"])), params(ById, IfMatchHeader, Version),
    responses((status = 204, description = "The webhook is deleted"))
)]
pub(crate) async fn delete(w: Write<WebhookId>, Query((version,)): Query<(Version,)>) -> ApiResult {
    let read = w.read(version.version)?;
    w.done(w.shop().webhooks().delete(w.id, read).await)?;
    Ok(no_content())
}

/// Replace the secret of a webhook
///
/// The response has the new secret, which nobody can read again. The current one signs messages as well for
/// `overlap_seconds`, a day by default: until then, `webhook-signature` has a signature by each of them.
#[utoipa::path(
    post, path = "/webhooks/{id}/rotate-secret", tag = "webhooks", security(("bearer" = ["webhooks:write"])),
    params(ById), request_body(content = Option<WebhookRotation>, description = "The body can be empty."),
    responses((status = 200, description = "The webhook with its new secret", body = Item<WebhookView>))
)]
pub(crate) async fn rotate_secret(
    reply: Reply,
    Id(id): Id<WebhookId>,
    Query(()): Query<()>,
    Post { body: OptionalJson(rotation), keyed }: Post<OptionalJson<WebhookRotation>>,
) -> ApiResult {
    keyed.refuse(HAS_SECRET)?;
    let rotated = reply.shop().webhooks().rotate_secret(id, &rotation).await?;
    reply.written(&rotated, &())
}

/// Test a webhook
///
/// Makes a delivery of the kind `webhook.test`, which is attempted as soon as possible. The delivery log shows what has
/// become of it.
#[utoipa::path(
    post, path = "/webhooks/{id}/test", tag = "webhooks", security(("bearer" = ["webhooks:write"])), params(ById),
    responses((status = 202, description = "The delivery; `Location` has its path", body = Item<WebhookDeliveryView>))
)]
pub(crate) async fn test(
    reply: Reply,
    Id(id): Id<WebhookId>,
    Query(()): Query<()>,
    Post { body: NoBody, keyed }: Post<NoBody>,
) -> ApiResult {
    let webhooks = reply.shop().webhooks();
    let within = |mut tx| async { Ok((webhooks.test_in(&mut tx, id).await?, tx)) };
    let render = |delivery: &_| reply.accepted::<WebhookDelivery>(delivery);
    Ok(keyed.answer(&reply, webhooks.test(id), within, render).await?)
}

/// List deliveries
///
/// Lists the deliveries of all webhooks, the newest first. They are kept for `ECOM_WEBHOOKS_RETENTION` seconds (30 days
/// by default).
#[utoipa::path(
    get, path = "/webhooks/deliveries", tag = "webhooks",
    security(("bearer" = ["webhooks:read"])), params(Pages, Cursor, Picked, DeliveryParams),
    responses((status = 200, description = "A page of deliveries", body = List<WebhookDeliveryView>))
)]
pub(crate) async fn deliveries(
    reply: Reply,
    Query((pages, cursor, picked, p)): Query<(Pages, Cursor, Picked, DeliveryParams)>,
) -> ApiResult {
    let mut errors = ValidationErrors::default();
    let words = (WebhookDeliveryState::ALL, WebhookDeliveryState::as_str);
    let state = word("state", p.state.as_deref(), words.0, words.1, &mut errors);
    let part = pages.check_with(&cursor, "created_desc", &reply.app.config, &mut errors);
    let format = reply.format::<WebhookDelivery>(&picked, &mut errors);
    errors.into_result()?;
    let (webhook_id, event_id) = (p.webhook_id.map(WebhookId), p.event_id.map(EventId));
    let filter = WebhookDeliveryFilter { webhook_id, state, kind: p.kind, event_id };
    let (page, total) = reply.shop().webhooks().deliveries(&filter, &part.paging).await?;
    let list = format.rows(reply.frame(&page, total, &part), page.items.iter())?;
    Ok(private(list.respond(), None))
}

/// Read a delivery
#[utoipa::path(
    get, path = "/webhooks/deliveries/{id}", tag = "webhooks", security(("bearer" = ["webhooks:read"])),
    params(ById, Picked),
    responses((status = 200, description = "The delivery", body = Item<WebhookDeliveryView>), NotModified)
)]
pub(crate) async fn delivery(
    reply: Reply,
    Id(id): Id<WebhookDeliveryId>,
    Query((picked,)): Query<(Picked,)>,
) -> ApiResult {
    let format = reply.only_format::<WebhookDelivery>(&picked)?;
    reply.personal(&reply.shop().webhooks().delivery(id).await?, &format)
}

/// Deliver an event again
///
/// The delivery begins anew, whether it has succeeded or failed, with the same `webhook-id`. It does not wait for other
/// deliveries. One that pauses after a failure is attempted now; one that is being attempted, or that waits for an
/// earlier event of its aggregate, stays as it is.
#[utoipa::path(
    post, path = "/webhooks/deliveries/{id}/replay", tag = "webhooks", security(("bearer" = ["webhooks:write"])),
    params(ById),
    responses((status = 202, description = "The delivery; `Location` has its path", body = Item<WebhookDeliveryView>))
)]
pub(crate) async fn replay(
    reply: Reply,
    Id(id): Id<WebhookDeliveryId>,
    Query(()): Query<()>,
    Post { body: NoBody, keyed }: Post<NoBody>,
) -> ApiResult {
    let webhooks = reply.shop().webhooks();
    let within = |mut tx| async { Ok((webhooks.replay_in(&mut tx, id).await?, tx)) };
    let render = |delivery: &_| reply.accepted::<WebhookDelivery>(delivery);
    Ok(keyed.answer(&reply, webhooks.replay(id), within, render).await?)
}
