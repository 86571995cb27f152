//! The representations of webhooks and of their deliveries.

use chrono::{DateTime, Utc};
use ecom_core::access::Secret;
use ecom_core::platform::{EventKind, Webhook, WebhookDelivery, WebhookDeliveryState, WebhookOffReason};
use serde::Serialize;
use serde_json::value::RawValue;
use uuid::Uuid;

/// A webhook: a URL to which the shop sends events of some kinds.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct WebhookView<'a> {
    /// The id of the webhook.
    pub id: Uuid,
    /// The URL of the receiver.
    #[schema(example = "https://example.com/hooks/shop")]
    pub url: &'a str,
    /// A text for people.
    pub description: Option<&'a str>,
    /// The kinds of events that it receives.
    #[schema(value_type = Vec<String>, example = json!(["order.placed", "order.canceled"]))]
    pub events: &'a [EventKind],
    /// Whether events are delivered.
    pub enabled: bool,
    /// Why the shop has switched it off: `gone` if the receiver has answered with the status 410, `failing` if
    /// deliveries have failed for too long; null if it is on, or if somebody has switched it off.
    pub off_reason: Option<WebhookOffReason>,
    /// The secret, with which the receiver verifies signatures. Only the responses to the creation and to a rotation
    /// have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")]
    pub secret: Option<&'a str>,
    /// When the last of the earlier secrets stops signing messages (RFC 3339, UTC), which may be in the past; null if
    /// there is no earlier secret.
    #[serde(serialize_with = "crate::dto::maybe_time")]
    pub previous_secret_until: Option<DateTime<Utc>>,
    /// The number of failures since the last success. Attempts that ran at the same time count as one.
    pub failures: u32,
    /// The time of the first of these failures (RFC 3339, UTC); null if there are none.
    #[serde(serialize_with = "crate::dto::maybe_time")]
    pub failing_since: Option<DateTime<Utc>>,
    /// When the receiver is called again, after it has failed several times in a row or has asked for a pause
    /// (RFC 3339, UTC); null if it is called without a pause.
    #[serde(serialize_with = "crate::dto::maybe_time")]
    pub rests_until: Option<DateTime<Utc>>,
    /// When a delivery last succeeded, to about a minute (RFC 3339, UTC); null if none has.
    #[serde(serialize_with = "crate::dto::maybe_time")]
    pub succeeded_at: Option<DateTime<Utc>>,
    /// The version, which increases when somebody edits the webhook, or the shop switches it off. Writes name it (R1).
    pub version: i64,
    /// When the webhook was created (RFC 3339, UTC).
    #[serde(serialize_with = "crate::dto::time")]
    pub created_at: DateTime<Utc>,
    /// When the webhook was last edited (RFC 3339, UTC).
    #[serde(serialize_with = "crate::dto::time")]
    pub updated_at: DateTime<Utc>,
    /// The actor who created the webhook.
    pub created_by: &'a str,
    /// The actor who last edited the webhook; `system` if the shop has switched it off.
    pub updated_by: &'a str,
}

impl<'a> WebhookView<'a> {
    pub(crate) const FIELDS: &'static [&'static str] = &[
        "id",
        "url",
        "description",
        "events",
        "enabled",
        "off_reason",
        "secret",
        "previous_secret_until",
        "failures",
        "failing_since",
        "rests_until",
        "succeeded_at",
        "version",
        "created_at",
        "updated_at",
        "created_by",
        "updated_by",
    ];

    pub(crate) fn new(webhook: &'a Webhook, secret: Option<&'a Secret>) -> Self {
        Self {
            id: webhook.id.0,
            url: &webhook.url,
            description: webhook.description.as_deref(),
            events: &webhook.events,
            enabled: webhook.enabled,
            off_reason: webhook.off_reason,
            secret: secret.map(Secret::reveal),
            previous_secret_until: webhook.previous_secrets.iter().map(|previous| previous.until).max(),
            failures: webhook.health.failures,
            failing_since: webhook.health.failing_since,
            rests_until: webhook.health.rests_until,
            succeeded_at: webhook.health.succeeded_at,
            version: webhook.audit.version,
            created_at: webhook.audit.created_at,
            updated_at: webhook.audit.updated_at,
            created_by: webhook.audit.created_by.as_str(),
            updated_by: webhook.audit.updated_by.as_str(),
        }
    }
}

/// The delivery of an event to a webhook, with its last attempt.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct WebhookDeliveryView<'a> {
    /// The id of the delivery.
    pub id: Uuid,
    /// The id of the webhook.
    pub webhook_id: Uuid,
    /// The id of the event, which is the header `webhook-id` of the message.
    pub event_id: Uuid,
    /// The kind of the event, or `webhook.test`.
    #[schema(example = "order.placed")]
    pub kind: &'a str,
    /// The id of the aggregate that the event is about. The events of one aggregate are delivered in their order.
    pub aggregate_id: Uuid,
    /// The body of the message.
    #[schema(value_type = Object)]
    pub payload: Option<&'a RawValue>,
    /// The state: `pending`, `succeeded` or `failed`. A delivery that has failed is not attempted again by itself.
    pub state: WebhookDeliveryState,
    /// How often it was attempted since it was made or replayed. After 15 failed attempts, its state is `failed`.
    pub attempts: u32,
    /// When it is attempted next (RFC 3339, UTC), or, while it is attempted, when another process takes it over; null
    /// if it waits for the delivery of an earlier event of the same aggregate, or has ended.
    #[serde(serialize_with = "crate::dto::maybe_time")]
    pub next_attempt_at: Option<DateTime<Utc>>,
    /// When the last attempt began (RFC 3339, UTC); null if there was none.
    #[serde(serialize_with = "crate::dto::maybe_time")]
    pub attempted_at: Option<DateTime<Utc>>,
    /// How long the last attempt took, in milliseconds; null if none has ended.
    pub duration_ms: Option<i64>,
    /// The HTTP status of the last answer; null if there was none.
    #[schema(example = 500)]
    pub status: Option<u16>,
    /// Why the last attempt failed; null if it has succeeded, or if none has ended.
    pub error: Option<&'a str>,
    /// The beginning of the body of the last answer, at most 500 characters; null if there was none.
    pub response: Option<&'a str>,
    /// When the delivery ended (RFC 3339, UTC); null before.
    #[serde(serialize_with = "crate::dto::maybe_time")]
    pub finished_at: Option<DateTime<Utc>>,
    /// The version, which increases with every change.
    pub version: i64,
    /// When the delivery was made (RFC 3339, UTC).
    #[serde(serialize_with = "crate::dto::time")]
    pub created_at: DateTime<Utc>,
    /// When the delivery was last changed (RFC 3339, UTC).
    #[serde(serialize_with = "crate::dto::time")]
    pub updated_at: DateTime<Utc>,
}

impl<'a> WebhookDeliveryView<'a> {
    pub(crate) const FIELDS: &'static [&'static str] = &[
        "id",
        "webhook_id",
        "event_id",
        "kind",
        "aggregate_id",
        "payload",
        "state",
        "attempts",
        "next_attempt_at",
        "attempted_at",
        "duration_ms",
        "status",
        "error",
        "response",
        "finished_at",
        "version",
        "created_at",
        "updated_at",
    ];

    /// Returns the representation.
    pub(crate) fn of(delivery: &'a WebhookDelivery) -> Self {
        Self {
            id: delivery.id.0,
            webhook_id: delivery.webhook_id.0,
            event_id: delivery.event_id.0,
            kind: &delivery.kind,
            aggregate_id: delivery.aggregate_id,
            payload: serde_json::from_str(&delivery.payload).ok(),
            state: delivery.state,
            attempts: delivery.attempts,
            next_attempt_at: delivery.due_at,
            attempted_at: delivery.attempted_at,
            duration_ms: delivery.duration_ms,
            status: delivery.status,
            error: delivery.error.as_deref(),
            response: delivery.response.as_deref(),
            finished_at: delivery.finished_at,
            version: delivery.audit.version,
            created_at: delivery.audit.created_at,
            updated_at: delivery.audit.updated_at,
        }
    }
}
