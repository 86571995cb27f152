//! Webhooks: URLs that the shop calls when events of some kinds happen, and the deliveries of these events.
//!
//! The functions here compute the next states of a delivery and of its webhook after an attempt. They do no I/O; the
//! background work writes what they return. Messages and signatures follow the Standard Webhooks specification
//! (<https://www.standardwebhooks.com>).

use std::collections::HashSet;
use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::TimeDelta;
use ring::hmac;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use url::Url;
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::domain::access::secret::Secret;
use crate::domain::common::{Actor, Audit, Patch};
use crate::domain::platform::audit_log::{Audited, fields};
use crate::domain::platform::outbox::{Event, EventKind, OutboxPosition, PriceChange};
use crate::domain::stock::inventory::LowStock;
use crate::domain::words::words;
use crate::error::{FieldCode, Result, ValidationErrors};
use crate::id::{EventId, WebhookDeliveryId, WebhookId};
use crate::text::check_text;

words! {
    /// Why the shop has switched a webhook off.
    WebhookOffReason {
        /// Its receiver has answered with the status 410 (Gone).
        Gone = "gone",
        /// Deliveries have failed, and none has succeeded, for
        /// [`ShopConfig::webhook_off_after`](crate::config::ShopConfig::webhook_off_after).
        Failing = "failing",
    }
}

/// A webhook: a URL to which the shop sends events of some kinds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Webhook {
    /// The id.
    pub id: WebhookId,
    /// The URL of the receiver.
    pub url: String,
    /// A text for people, at most 255 characters.
    pub description: Option<String>,
    /// The kinds of events that it receives, in the order of [`EventKind::ALL`].
    pub events: Vec<EventKind>,
    /// Whether events are delivered. Events that happen while it is off are never delivered.
    pub enabled: bool,
    /// Why the shop has switched it off; `None` if it is on, or if somebody else has switched it off.
    pub off_reason: Option<WebhookOffReason>,
    /// The key that signs its messages.
    #[serde(skip)]
    pub secret: SealedSecret,
    /// Earlier keys, newest first, which sign as well for a time.
    #[serde(skip)]
    pub previous_secrets: Vec<PreviousSecret>,
    /// How the last deliveries went.
    #[serde(skip)]
    pub health: WebhookHealth,
    /// When and by whom the webhook was created and edited, and its version.
    pub audit: Audit,
}

/// A key as the database has it: encrypted if the shop has a secret key. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SealedSecret(pub Vec<u8>);

impl fmt::Debug for SealedSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealedSecret(…)")
    }
}

/// A key that a rotation has replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreviousSecret {
    /// The key.
    pub secret: SealedSecret,
    /// The time from which it no longer signs.
    pub until: Timestamp,
}

/// How the last deliveries of a webhook went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WebhookHealth {
    /// The number of failures since the last success. Attempts that ran at the same time count as one failure.
    pub failures: u32,
    /// The time of the first of these failures; `None` if there are none.
    pub failing_since: Option<Timestamp>,
    /// The time of the last of these failures.
    pub failed_at: Option<Timestamp>,
    /// When the next attempt may begin; `None` if it may begin at once.
    pub rests_until: Option<Timestamp>,
    /// When a delivery last succeeded, to about a minute; `None` if none has.
    pub succeeded_at: Option<Timestamp>,
}

impl WebhookHealth {
    /// A receiver that has failed more often than this in a row is called at intervals.
    const CALM: u32 = 2;
    /// The first interval. Each that follows is twice as long.
    const FIRST_INTERVAL: Duration = Duration::from_secs(5);
    /// The longest interval. It is short, so that events of other aggregates than the failing one soon get their turn.
    const MAX_INTERVAL: Duration = Duration::from_secs(60);
    /// The time of the last success is recorded at most once in this interval.
    const NOTED_EVERY: TimeDelta = TimeDelta::minutes(1);

    /// Returns true if the receiver has failed so often in a row that it is called at intervals.
    pub(crate) const fn is_resting(&self) -> bool {
        self.failures > Self::CALM
    }

    /// Returns the health after an attempt that has succeeded.
    fn succeeded(&self, attempt: &WebhookAttempt, now: Timestamp) -> Self {
        let is_noted = self.succeeded_at.is_some_and(|at| now - at < Self::NOTED_EVERY);
        let succeeded_at = if is_noted && self.failures == 0 { self.succeeded_at } else { Some(now) };
        // If the receiver has asked for a pause while the attempt ran, the pause stays.
        let ran_beside = self.failed_at.is_some_and(|at| attempt.began < at);
        let rests_until = self.rests_until.filter(|until| ran_beside && now < *until);
        Self { rests_until, succeeded_at, ..Self::default() }
    }

    /// Returns the health after an attempt that has failed. `jitter` shortens a pause, unless the receiver asks for it.
    fn failed(&self, attempt: &WebhookAttempt, now: Timestamp, jitter: impl Fn(Duration) -> Duration) -> Self {
        let asked = Some(now + attempt.asked()).filter(|until| now < *until);
        if self.failed_at.is_some_and(|at| attempt.began < at) {
            // It ran beside an attempt whose failure counts.
            return Self { rests_until: self.rests_until.max(asked), ..self.clone() };
        }
        let failures = self.failures.saturating_add(1);
        let failing_since = self.failing_since.or(Some(now));
        let mut after = Self { failures, failing_since, failed_at: Some(now), rests_until: None, ..self.clone() };
        if after.is_resting() {
            let factor = 2_u32.saturating_pow(failures - Self::CALM - 1);
            let interval = Self::FIRST_INTERVAL.saturating_mul(factor).min(Self::MAX_INTERVAL);
            after.rests_until = Some(now + jitter(interval));
        }
        after.rests_until = after.rests_until.max(asked);
        after
    }
}

impl Audited for Webhook {
    fn id(&self) -> Uuid {
        self.id.0
    }

    fn revision(&self) -> i64 {
        self.audit.version
    }

    fn document(&self) -> Map<String, Value> {
        fields(self, &["id"])
    }
}

impl Webhook {
    /// The maximum number of webhooks of a shop.
    pub const MAX: u64 = 100;
    /// The maximum length of a URL, in characters.
    pub const MAX_URL: usize = 2_000;
    /// The beginning of every secret.
    pub const SECRET_MARK: &'static str = "whsec_";
    /// The minimum number of bytes of a key.
    pub const MIN_KEY: usize = 24;
    /// The maximum number of bytes of a key.
    pub const MAX_KEY: usize = 64;
    /// The maximum number of earlier keys that sign at a time. Another rotation drops the oldest.
    pub const MAX_PREVIOUS: usize = 3;
    /// The number of attempts at a time in a process, unless the receiver fails.
    pub(crate) const AT_ONCE: u32 = 4;

    /// Returns the secret of a key, as receivers configure it: `whsec_` and the key in base64.
    pub(crate) fn secret_of(key: &[u8]) -> Secret {
        Secret::new(format!("{}{}", Self::SECRET_MARK, STANDARD.encode(key)))
    }

    /// Returns the key of a secret; `None` if the text does not begin with [`Self::SECRET_MARK`], if the rest is not
    /// base64, or if the key is too short or too long.
    pub(crate) fn key_of(secret: &Secret) -> Option<Vec<u8>> {
        let encoded = secret.reveal().strip_prefix(Self::SECRET_MARK).filter(|text| text.len() <= 100)?;
        let key = STANDARD.decode(encoded).ok()?;
        (Self::MIN_KEY..=Self::MAX_KEY).contains(&key.len()).then_some(key)
    }

    /// Returns true if the webhook receives an event. It receives no events from the time before its creation.
    pub(crate) fn receives(&self, event: &Event) -> bool {
        self.enabled && self.events.contains(&event.kind) && event.occurred_at >= self.audit.created_at
    }

    /// Returns how many attempts of a process may run at a time: none if the webhook is off or rests.
    pub(crate) fn at_once(&self, now: Timestamp) -> u32 {
        if !self.enabled || self.health.rests_until.is_some_and(|until| now < until) {
            return 0;
        }
        if self.health.failures == 0 { Self::AT_ONCE } else { 1 }
    }

    /// Returns the sealed keys that sign at this time, the current one first.
    pub(crate) fn secrets(&self, now: Timestamp) -> impl Iterator<Item = &SealedSecret> {
        let previous = self.previous_secrets.iter().filter(move |previous| now < previous.until);
        std::iter::once(&self.secret).chain(previous.map(|previous| &previous.secret))
    }

    /// Returns the webhook with a new key. The current one signs until `until`.
    pub(crate) fn rotated(&self, secret: SealedSecret, until: Timestamp, now: Timestamp, by: &Actor) -> Self {
        let mut after = self.clone();
        let replaced = PreviousSecret { secret: std::mem::replace(&mut after.secret, secret), until };
        after.previous_secrets.insert(0, replaced);
        after.previous_secrets.retain(|previous| now < previous.until);
        after.previous_secrets.truncate(Self::MAX_PREVIOUS);
        after.audit.edited(now, by);
        after
    }

    /// Returns the health after an attempt, and the reason for which the webhook must be switched off, if there is one.
    pub(crate) fn after(
        &self,
        attempt: &WebhookAttempt,
        off_after: Duration,
        now: Timestamp,
        jitter: impl Fn(Duration) -> Duration,
    ) -> (WebhookHealth, Option<WebhookOffReason>) {
        if attempt.is_success() {
            return (self.health.succeeded(attempt, now), None);
        }
        let health = self.health.failed(attempt, now, jitter);
        let is_failing = health.failing_since.is_some_and(|since| since + off_after <= now);
        let reason = match attempt.status {
            _ if !self.enabled => None,
            Some(410) => Some(WebhookOffReason::Gone),
            _ if is_failing => Some(WebhookOffReason::Failing),
            _ => None,
        };
        (health, reason)
    }

    /// Returns the webhook after the shop has switched it off.
    pub(crate) fn switched_off(&self, reason: WebhookOffReason, health: WebhookHealth, now: Timestamp) -> Self {
        let mut after = Self { enabled: false, off_reason: Some(reason), health, ..self.clone() };
        after.audit.edited(now, &Actor::system());
        after
    }
}

/// A webhook that was just created, or whose secret was just replaced, with the secret, which nobody can read again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreatedWebhook {
    /// The webhook.
    pub webhook: Webhook,
    /// The secret, with which the receiver verifies the signatures of its messages.
    pub secret: Secret,
}

/// The input of a new webhook.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WebhookInput {
    /// The URL of the receiver: `https`, at most 2,000 characters, without a user and a fragment.
    #[cfg_attr(feature = "openapi", schema(example = "https://example.com/hooks/shop"))]
    pub url: String,
    /// A text for people, at most 255 characters.
    #[serde(default)]
    pub description: Option<String>,
    /// The kinds of events that it receives, such as `order.placed`: at least one.
    #[cfg_attr(feature = "openapi", schema(example = json!(["order.placed", "order.canceled"])))]
    pub events: Vec<String>,
    /// Whether events are delivered; true if it is absent.
    #[serde(default = "yes")]
    #[cfg_attr(feature = "openapi", schema(default = true))]
    pub enabled: bool,
    /// The secret: `whsec_` and the base64 of a random key of 24 to 64 bytes. The shop makes one if it is absent.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    #[serde(default)]
    pub secret: Option<Secret>,
}

const fn yes() -> bool {
    true
}

/// A merge patch of a webhook (RFC 7396): fields that it leaves out stay unchanged.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WebhookPatch {
    /// The URL of the receiver; null is refused.
    #[serde(default)]
    pub url: Patch<String>,
    /// A text for people; null removes it.
    #[serde(default)]
    pub description: Patch<String>,
    /// The kinds of events that it receives, all of them; null is refused.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Vec<String>>))]
    #[serde(default)]
    pub events: Patch<Vec<String>>,
    /// Whether events are delivered; null is refused. `true` also ends the pauses of a receiver that fails.
    #[serde(default)]
    pub enabled: Patch<bool>,
    /// The version of the webhook that the client read (R1), unless `If-Match` names it.
    #[serde(default)]
    pub version: Option<i64>,
}

/// The input of a rotation of the secret.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WebhookRotation {
    /// The new secret: `whsec_` and the base64 of a random key of 24 to 64 bytes. The shop makes one if it is absent.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    #[serde(default)]
    pub secret: Option<Secret>,
    /// For how many seconds the current secret signs as well: 0 to 2,592,000 (30 days). Default 86,400 (a day).
    #[serde(default)]
    pub overlap_seconds: Option<u64>,
}

/// The checked values of a webhook.
#[derive(Debug)]
pub(crate) struct WebhookValues {
    pub url: String,
    pub description: Option<String>,
    pub events: Vec<EventKind>,
    pub enabled: bool,
}

impl WebhookInput {
    /// Returns the input of a webhook that receives these kinds of events.
    pub fn new(url: impl Into<String>, events: impl IntoIterator<Item = EventKind>) -> Self {
        let events = events.into_iter().map(|kind| kind.as_str().to_owned()).collect();
        Self { url: url.into(), description: None, events, enabled: true, secret: None }
    }

    /// Checks the input and returns its values, with the key if the input has a secret. `refused` returns the message
    /// for a URL that the shop does not call.
    ///
    /// # Errors
    /// `Validation` with every field that is out of bounds.
    pub(crate) fn check(
        &self,
        refused: impl Fn(&Url) -> Option<&'static str>,
    ) -> Result<(WebhookValues, Option<Vec<u8>>)> {
        let mut e = ValidationErrors::default();
        check_url(&self.url, refused, &mut e);
        let description = self.description.as_deref().map(str::trim).filter(|text| !text.is_empty());
        if let Some(description) = description {
            check_text("description", description, 0, 255, &mut e);
        }
        let events = check_events(&self.events, &mut e);
        let key = check_secret(self.secret.as_ref(), &mut e);
        e.into_result()?;
        let (url, description) = (self.url.clone(), description.map(str::to_owned));
        Ok((WebhookValues { url, description, events, enabled: self.enabled }, key))
    }
}

impl WebhookPatch {
    /// Merges the patch into a webhook and returns the result as an input.
    ///
    /// # Errors
    /// `Validation` with every field that must not be null.
    pub(crate) fn onto(self, webhook: &Webhook) -> Result<WebhookInput> {
        let mut e = ValidationErrors::default();
        let mut input = WebhookInput {
            description: webhook.description.clone(),
            enabled: webhook.enabled,
            ..WebhookInput::new(webhook.url.clone(), webhook.events.iter().copied())
        };
        self.url.apply_required(&mut input.url, "url", &mut e);
        self.description.apply(&mut input.description);
        self.events.apply_required(&mut input.events, "events", &mut e);
        self.enabled.apply_required(&mut input.enabled, "enabled", &mut e);
        e.into_result()?;
        Ok(input)
    }
}

impl WebhookRotation {
    /// The longest time for which the current secret signs as well.
    const MAX_OVERLAP: u64 = 30 * 86_400;
    /// The time for which the current secret signs as well by default.
    const OVERLAP: u64 = 86_400;

    /// Checks the input and returns the key, if it has one, and how long the current secret signs as well.
    ///
    /// # Errors
    /// `Validation` with every field that is out of bounds.
    pub(crate) fn check(&self) -> Result<(Option<Vec<u8>>, Duration)> {
        let mut e = ValidationErrors::default();
        let key = check_secret(self.secret.as_ref(), &mut e);
        let overlap = self.overlap_seconds.unwrap_or(Self::OVERLAP);
        if overlap > Self::MAX_OVERLAP {
            e.out_of_bounds("overlap_seconds", format!("must be at most {}", Self::MAX_OVERLAP));
        }
        e.into_result()?;
        Ok((key, Duration::from_secs(overlap)))
    }
}

fn check_url(text: &str, refused: impl Fn(&Url) -> Option<&'static str>, errors: &mut ValidationErrors) {
    let known = errors.0.len();
    check_text("url", text, 1, Webhook::MAX_URL, errors);
    if errors.0.len() > known {
        return;
    }
    let Some(url) = Url::parse(text).ok().filter(Url::has_host) else {
        errors.push("url", FieldCode::Malformed, "must be a URL such as `https://example.com/hooks`");
        return;
    };
    let message = if !matches!(url.scheme(), "http" | "https") {
        Some("must begin with `https://`")
    } else if !url.username().is_empty() || url.password().is_some() {
        Some("must not contain a user or a password, because it is shown to everybody who reads webhooks")
    } else if url.fragment().is_some() {
        Some("must not have a fragment (`#…`), which is never sent")
    } else {
        refused(&url)
    };
    if let Some(message) = message {
        errors.out_of_bounds("url", message);
    }
}

/// Returns the kinds of events with these names, in their order in [`EventKind::ALL`]. Pushes an error if a name is
/// unknown or occurs twice, or if there are none.
fn check_events(names: &[String], errors: &mut ValidationErrors) -> Vec<EventKind> {
    if names.is_empty() {
        errors.push("events", FieldCode::Required, "must have at least one kind of events");
        return Vec::new();
    }
    let mut found = HashSet::new();
    for (i, name) in names.iter().enumerate().take(EventKind::ALL.len() + 1) {
        let field = format!("events[{i}]");
        match EventKind::parse(name) {
            Some(kind) if found.insert(kind) => {}
            Some(_) => errors.push(field, FieldCode::Inconsistent, "must not occur twice"),
            None => {
                errors.push(field, FieldCode::OutOfBounds, unknown_event(name));
                // The message is long, so that it is shown once.
                return Vec::new();
            }
        }
    }
    EventKind::ALL.iter().copied().filter(|kind| found.contains(kind)).collect()
}

/// Returns the message for a name that is not a kind of events. It lists the kinds of the same aggregate, or else the
/// aggregates, because REST shows at most 300 characters of the error of a field.
fn unknown_event(name: &str) -> String {
    let of = |kind: EventKind| kind.as_str().split('.').next().unwrap_or_default();
    let aggregate = name.split('.').next().unwrap_or_default();
    let all = EventKind::ALL.iter().copied();
    let same: Vec<&str> = all.clone().filter(|kind| of(*kind) == aggregate).map(EventKind::as_str).collect();
    if !same.is_empty() {
        return format!("must be one of {}", same.join(", "));
    }
    let mut aggregates: Vec<&str> = all.map(of).collect();
    aggregates.dedup();
    format!("must be a kind of events such as `order.placed`; kinds begin with {}", aggregates.join(", "))
}

fn check_secret(secret: Option<&Secret>, errors: &mut ValidationErrors) -> Option<Vec<u8>> {
    let key = Webhook::key_of(secret?);
    if key.is_none() {
        let (mark, min, max) = (Webhook::SECRET_MARK, Webhook::MIN_KEY, Webhook::MAX_KEY);
        let message = format!("must be `{mark}` and the base64 of a random key of {min} to {max} bytes");
        errors.push("secret", FieldCode::OutOfBounds, message);
    }
    key
}

words! {
    /// The state of a delivery.
    WebhookDeliveryState {
        /// The delivery waits: for its first attempt, for another one after a failure, or for the delivery of an
        /// earlier event of the same aggregate.
        Pending = "pending",
        /// The receiver has accepted it, with a status of 200 to 299.
        Succeeded = "succeeded",
        /// All of its attempts have failed. It is not attempted again unless it is replayed.
        Failed = "failed",
    }
}

/// The delivery of an event to a webhook, as the delivery log shows it, with its last attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookDelivery {
    /// The id.
    pub id: WebhookDeliveryId,
    /// The webhook.
    pub webhook_id: WebhookId,
    /// The id of the event, which is also the id of the message (`webhook-id`). It is the same in every attempt, so
    /// that receivers recognize a message that they have already handled.
    pub event_id: EventId,
    /// The kind of the event, or [`Self::TEST`].
    pub kind: String,
    /// The aggregate that the event is about. The events of one aggregate are delivered in their order.
    pub aggregate_id: Uuid,
    /// The position of the event in the log.
    pub seq: i64,
    /// The body of the message, which is JSON.
    pub payload: String,
    /// The state.
    pub state: WebhookDeliveryState,
    /// How often it was attempted since it was made or replayed.
    pub attempts: u32,
    /// When a process can attempt it: after a pause, or once the lease of a process that attempts it has run out.
    /// `None` if it waits for the delivery of an earlier event, or has ended.
    pub due_at: Option<Timestamp>,
    /// The holder of the attempt that runs: an id that a process makes for each attempt.
    pub holder: Option<Uuid>,
    /// When the last attempt began.
    pub attempted_at: Option<Timestamp>,
    /// How long the last attempt took, in milliseconds.
    pub duration_ms: Option<i64>,
    /// The HTTP status of the last answer; `None` if there was no answer.
    pub status: Option<u16>,
    /// Why the last attempt failed; `None` if it has succeeded, or if there was none.
    pub error: Option<String>,
    /// The beginning of the body of the last answer, at most [`Self::MAX_RESPONSE`] characters.
    pub response: Option<String>,
    /// When the delivery ended.
    pub finished_at: Option<Timestamp>,
    /// When the delivery was made and last changed, and its version, which increases with every change.
    pub audit: Audit,
}

/// The filter of a list of deliveries. A delivery must match every filter that is set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WebhookDeliveryFilter {
    /// The deliveries to this webhook.
    pub webhook_id: Option<WebhookId>,
    /// The deliveries in this state.
    pub state: Option<WebhookDeliveryState>,
    /// The deliveries of events of this kind, or [`WebhookDelivery::TEST`].
    pub kind: Option<String>,
    /// The deliveries of this event.
    pub event_id: Option<EventId>,
}

/// The result of an attempt to deliver an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WebhookAttempt {
    pub began: Timestamp,
    pub duration: Duration,
    /// The status of the answer, if there was one.
    pub status: Option<u16>,
    /// The beginning of the body of the answer.
    pub response: Option<String>,
    /// Why there was no answer.
    pub error: Option<String>,
    /// The time for which the receiver asks not to be called again.
    pub retry_after: Option<Duration>,
}

impl WebhookAttempt {
    /// Returns an attempt that has just begun.
    pub const fn new(began: Timestamp) -> Self {
        Self { began, duration: Duration::ZERO, status: None, response: None, error: None, retry_after: None }
    }

    /// Returns the shortest pause after the attempt: the one that the receiver asks for, up to the longest pause of the
    /// shop's own. It is zero after a success.
    pub fn asked(&self) -> Duration {
        let asked = self.retry_after.filter(|_| !self.is_success());
        asked.unwrap_or_default().min(WebhookDelivery::MAX_PAUSE)
    }

    /// Returns true if the receiver has accepted the message.
    pub fn is_success(&self) -> bool {
        self.status.is_some_and(|status| (200..300).contains(&status))
    }

    /// Returns why the attempt has failed.
    fn failure(&self) -> Option<String> {
        match self.status {
            _ if self.is_success() => None,
            Some(status @ 300..400) => {
                Some(format!("the receiver answered with status {status}, and redirects are not followed"))
            }
            Some(status) => Some(format!("the receiver answered with status {status}")),
            None => Some(self.error.clone().unwrap_or_default()),
        }
    }
}

/// Returns a text of at most `max` characters, without NUL characters, which some databases cannot store.
fn bounded(text: &str, max: usize) -> String {
    text.chars().filter(|c| *c != '\0').take(max).collect()
}

impl WebhookDelivery {
    /// The kind of a delivery that tests a webhook.
    pub const TEST: &'static str = "webhook.test";
    /// How often a delivery is attempted before it stays failed. With the pauses, that takes four to seven days.
    pub const MAX_ATTEMPTS: u32 = 15;
    /// The maximum length of [`Self::response`], in characters.
    pub const MAX_RESPONSE: usize = 500;
    /// The maximum length of [`Self::error`], in characters.
    pub const MAX_ERROR: usize = 300;
    /// The pause after the first attempt. Each pause that follows is four times as long.
    const FIRST_PAUSE: Duration = Duration::from_secs(5);
    /// The longest pause.
    const MAX_PAUSE: Duration = Duration::from_secs(86_400);
    /// The error of an attempt that has ended without a result.
    const DIED: &'static str = "the attempt had no result, because the process died";

    /// Returns the delivery of an event. It is due now unless it waits for another one.
    pub(crate) fn of_event(
        id: WebhookDeliveryId,
        webhook: WebhookId,
        (at, event): &(OutboxPosition, Event),
        waits: bool,
        now: Timestamp,
    ) -> Self {
        Self {
            id,
            webhook_id: webhook,
            event_id: event.id,
            kind: event.kind.as_str().to_owned(),
            aggregate_id: event.aggregate_id,
            seq: at.seq,
            payload: payload_of(event),
            state: WebhookDeliveryState::Pending,
            attempts: 0,
            due_at: (!waits).then_some(now),
            holder: None,
            attempted_at: None,
            duration_ms: None,
            status: None,
            error: None,
            response: None,
            finished_at: None,
            audit: Audit::created(now, &Actor::system()),
        }
    }

    /// Returns a delivery that tests a webhook. Nothing waits for it.
    pub(crate) fn test(id: WebhookDeliveryId, webhook: WebhookId, event: EventId, now: Timestamp, by: &Actor) -> Self {
        let data = json!({ "webhook_id": webhook });
        Self {
            id,
            webhook_id: webhook,
            event_id: event,
            kind: Self::TEST.to_owned(),
            // An aggregate of its own.
            aggregate_id: id.0,
            seq: 0,
            payload: json!({ "type": Self::TEST, "timestamp": now, "data": data }).to_string(),
            state: WebhookDeliveryState::Pending,
            attempts: 0,
            due_at: Some(now),
            holder: None,
            attempted_at: None,
            duration_ms: None,
            status: None,
            error: None,
            response: None,
            finished_at: None,
            audit: Audit::created(now, by),
        }
    }

    /// Returns true if the delivery has not ended.
    pub fn is_pending(&self) -> bool {
        self.state == WebhookDeliveryState::Pending
    }

    /// Returns true if this holder attempts the delivery.
    pub(crate) fn is_held_by(&self, holder: Uuid) -> bool {
        self.is_pending() && self.holder == Some(holder)
    }

    /// Returns the pause after a number of attempts that have failed; `None` if there have been too many.
    pub(crate) fn pause(attempts: u32) -> Option<Duration> {
        let factor = 4_u32.saturating_pow(attempts.saturating_sub(1));
        (attempts < Self::MAX_ATTEMPTS).then(|| Self::FIRST_PAUSE.saturating_mul(factor).min(Self::MAX_PAUSE))
    }

    fn changed(&self, now: Timestamp, by: &Actor) -> Self {
        let mut after = Self { holder: None, ..self.clone() };
        after.audit.edited(now, by);
        after
    }

    /// Returns the delivery after a process has taken it for an attempt, under a lease that ends at `until`.
    pub(crate) fn claimed(&self, holder: Uuid, until: Timestamp, now: Timestamp) -> Self {
        let mut after = self.changed(now, &Actor::system());
        after.holder = Some(holder);
        after.due_at = Some(until);
        after.attempts += 1;
        after.attempted_at = Some(now);
        after
    }

    /// Returns the delivery as failed, after its last attempt has ended without a result.
    pub(crate) fn abandoned(&self, now: Timestamp) -> Self {
        let error = Some(Self::DIED.to_owned());
        let (state, finished_at) = (WebhookDeliveryState::Failed, Some(now));
        let after = self.changed(now, &Actor::system());
        Self { state, due_at: None, error, status: None, response: None, finished_at, ..after }
    }

    /// Returns the delivery after an attempt. If it has failed, it is due after `pause`, or stays failed if that is
    /// `None`.
    pub(crate) fn after(&self, attempt: &WebhookAttempt, pause: Option<Duration>, now: Timestamp) -> Self {
        let (state, due_at) = match pause {
            _ if attempt.is_success() => (WebhookDeliveryState::Succeeded, None),
            Some(pause) => (WebhookDeliveryState::Pending, Some(now + pause)),
            None => (WebhookDeliveryState::Failed, None),
        };
        Self {
            state,
            due_at,
            duration_ms: Some(i64::try_from(attempt.duration.as_millis()).unwrap_or(i64::MAX)),
            status: attempt.status,
            error: attempt.failure().map(|error| bounded(&error, Self::MAX_ERROR)),
            response: attempt.response.as_deref().map(|text| bounded(text, Self::MAX_RESPONSE)),
            finished_at: (state != WebhookDeliveryState::Pending).then_some(now),
            ..self.changed(now, &Actor::system())
        }
    }

    /// Returns the delivery after the one that it has waited for has ended. It is due now.
    pub(crate) fn unblocked(&self, now: Timestamp) -> Self {
        Self { due_at: Some(now), ..self.changed(now, &Actor::system()) }
    }

    /// Returns the delivery after a replay: its attempts begin anew, and it is due now.
    pub(crate) fn replayed(&self, now: Timestamp, by: &Actor) -> Self {
        let (state, due_at) = (WebhookDeliveryState::Pending, Some(now));
        Self { state, due_at, attempts: 0, finished_at: None, ..self.changed(now, by) }
    }
}

/// The body of a message.
#[derive(Serialize)]
struct Payload {
    r#type: EventKind,
    timestamp: Timestamp,
    data: EventData,
}

/// An event, with fields that live events also have.
#[derive(Serialize)]
struct EventData {
    id: EventId,
    kind: EventKind,
    aggregate_id: Uuid,
    revision: i64,
    occurred_at: Timestamp,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    stock: Vec<Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    prices: Vec<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    low_stock: Option<LowStock>,
}

/// Returns the body of the message about an event.
fn payload_of(event: &Event) -> String {
    let stock = event.stock_changes().into_iter();
    let price = |change: PriceChange| {
        json!({
            "sku_id": change.sku_id,
            "price": change.new.amount().to_string(),
            "final_price": change.new_final.amount().to_string(),
            "previous_price": change.old.amount().to_string(),
            "previous_final_price": change.old_final.amount().to_string(),
            "currency": change.new.currency().code(),
        })
    };
    let data = EventData {
        id: event.id,
        kind: event.kind,
        aggregate_id: event.aggregate_id,
        revision: event.revision,
        occurred_at: event.occurred_at,
        stock: stock
            .map(|change| json!({ "sku_id": change.sku_id, "delta": change.delta, "reason": change.reason }))
            .collect(),
        prices: event.price_changes().into_iter().map(price).collect(),
        low_stock: event.low_stock(),
    };
    let payload = Payload { r#type: event.kind, timestamp: event.occurred_at, data };
    // Texts, numbers and lists can always be serialized.
    serde_json::to_string(&payload).unwrap_or_default()
}

/// Returns the value of the header `webhook-signature` for a message: the signature by each of the keys, separated by
/// spaces.
pub(crate) fn signature(keys: &[Vec<u8>], id: &str, timestamp: i64, body: &str) -> String {
    let signed = format!("{id}.{timestamp}.{body}");
    let sign = |key: &Vec<u8>| {
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), signed.as_bytes());
        format!("v1,{}", STANDARD.encode(tag.as_ref()))
    };
    keys.iter().map(sign).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_timestamp(1_700_000_000 + second, 0).unwrap()
    }

    fn webhook() -> Webhook {
        Webhook {
            id: WebhookId(Uuid::from_u128(1)),
            url: "https://example.com/hooks".to_owned(),
            description: None,
            events: vec![EventKind::OrderPlaced],
            enabled: true,
            off_reason: None,
            secret: SealedSecret(vec![0]),
            previous_secrets: Vec::new(),
            health: WebhookHealth::default(),
            audit: Audit::created(at(0), &Actor::system()),
        }
    }

    fn attempt(status: Option<u16>, began: i64) -> WebhookAttempt {
        let error = status.is_none().then(|| "no connection".to_owned());
        WebhookAttempt { duration: Duration::from_millis(3), status, error, ..WebhookAttempt::new(at(began)) }
    }

    /// The example of the specification.
    #[test]
    fn a_signature_is_that_of_the_standard_webhooks_specification() {
        let key = Webhook::key_of(&Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")).unwrap();
        let (id, body) = ("msg_p5jXN8AQM9LWM0D4loKWxJek", "{\"test\": 2432232314}");
        let one = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        assert_eq!(signature(std::slice::from_ref(&key), id, 1_614_265_330, body), one);
        let two = signature(&[vec![7; 24], key], id, 1_614_265_330, body);
        assert!(two.ends_with(&format!(" {one}")) && two.matches("v1,").count() == 2, "{two}");
    }

    #[test]
    fn the_message_of_a_sku_that_is_low_has_its_stock() {
        let low = json!({
            "sku_id": Uuid::from_u128(1), "product_id": Uuid::from_u128(2), "available": 3, "threshold": 5,
        });
        let event = Event {
            id: EventId(Uuid::from_u128(3)),
            kind: EventKind::StockLow,
            aggregate_id: Uuid::from_u128(1),
            revision: 4,
            data: low.clone(),
            occurred_at: at(0),
            actor: Actor::system(),
        };
        let message: Value = serde_json::from_str(&payload_of(&event)).unwrap();
        assert_eq!(message["data"]["low_stock"], low);
    }

    #[test]
    fn r17_a_secret_has_a_mark_and_a_key_of_24_to_64_bytes() {
        for (bytes, is_good) in [(23, false), (24, true), (64, true), (65, false), (10_000, false)] {
            let secret = Webhook::secret_of(&vec![7; bytes]);
            assert_eq!(Webhook::key_of(&secret), is_good.then(|| vec![7; bytes]), "{bytes}");
        }
        let bare = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        for bad in ["", "whsec_", "whsec_???", bare, &format!("WHSEC_{bare}"), &format!("whsec_{bare} ")] {
            assert_eq!(Webhook::key_of(&Secret::new(bad)), None, "{bad}");
        }
        assert_eq!(format!("{:?}", SealedSecret(vec![1])), "SealedSecret(…)");
    }

    #[test]
    fn r17_bad_webhooks_are_refused_field_by_field() {
        let fields = |input: &WebhookInput| match input.check(|_| None) {
            Err(crate::Error::Validation(e)) => e.0.into_iter().map(|e| e.field).collect::<Vec<_>>(),
            other => panic!("{other:?}"),
        };
        let good = || WebhookInput::new("https://example.com/hooks?a=b", [EventKind::OrderPlaced]);
        assert!(good().check(|_| None).is_ok());
        let long = format!("https://example.com/{}", "a".repeat(10_000));
        for url in [
            "",
            " ",
            "example.com/hooks",
            "/hooks",
            "ftp://example.com/",
            "https://",
            "https://ada@example.com/",
            "https://:secret@example.com/",
            "https://example.com/#top",
            "https://example.com/\u{0}",
            &long,
        ] {
            let input = WebhookInput { url: url.to_owned(), ..good() };
            assert_eq!(fields(&input), ["url"], "{url}");
        }
        let refused = good().check(|_| Some("must not be private"));
        assert!(refused.unwrap_err().to_string().contains("must not be private"));
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        for (events, field) in [
            (names(&[]), "events"),
            (names(&["order.placed", "order.placed"]), "events[1]"),
            (names(&["order.placed", "order.exploded"]), "events[1]"),
            (names(&["*"]), "events[0]"),
        ] {
            assert_eq!(fields(&WebhookInput { events: events.clone(), ..good() }), [field], "{events:?}");
        }
        for kind in EventKind::ALL {
            let aggregate = kind.as_str().split('.').next().unwrap();
            let message = unknown_event(&format!("{aggregate}.exploded"));
            assert!(message.contains(kind.as_str()) && message.len() <= 300, "{message}");
            let message = unknown_event("x");
            assert!(message.contains(aggregate) && message.len() <= 300, "{message}");
        }
        let (secret, description) = (Some(Secret::new("whsec_short")), Some("a".repeat(256)));
        let bad = WebhookInput { secret, url: String::new(), events: vec![], description, ..good() };
        assert_eq!(fields(&bad), ["url", "description", "events", "secret"]);
        assert!(!format!("{bad:?}").contains("short"));
        let rotation = WebhookRotation { overlap_seconds: Some(2_592_001), ..WebhookRotation::default() };
        assert!(rotation.check().is_err());
    }

    #[test]
    fn pauses_grow_up_to_a_day_and_then_end() {
        let pauses: Vec<_> = (1..WebhookDelivery::MAX_ATTEMPTS).map(|n| WebhookDelivery::pause(n).unwrap()).collect();
        assert_eq!(pauses[..3], [5, 20, 80].map(Duration::from_secs));
        assert!(pauses.is_sorted() && pauses.last() == Some(&Duration::from_secs(86_400)));
        assert_eq!(WebhookDelivery::pause(WebhookDelivery::MAX_ATTEMPTS), None);
    }

    #[test]
    fn a_receiver_that_fails_is_called_at_intervals_and_then_switched_off() {
        let off_after = Duration::from_secs(3 * 86_400);
        let mut webhook = webhook();
        let mut now = 0;
        let mut longest = 0;
        let reason = loop {
            let (health, reason) = webhook.after(&attempt(Some(500), now), off_after, at(now), |pause| pause);
            // A second attempt that ran beside the first one does not count.
            webhook.health = health.clone();
            let beside = webhook.after(&attempt(None, now - 1), off_after, at(now), |pause| pause);
            assert_eq!(beside.0, health);
            if let Some(reason) = reason {
                break reason;
            }
            let pause = health.rests_until.map_or(1, |until| (until - at(now)).num_seconds());
            assert_eq!(webhook.at_once(at(now)), u32::from(health.rests_until.is_none()));
            longest = longest.max(pause);
            now += pause;
        };
        assert_eq!((reason, longest), (WebhookOffReason::Failing, 60));
        assert!((3 * 86_400..3 * 86_400 + 120).contains(&now), "{now}");
        let off = webhook.switched_off(reason, webhook.health.clone(), at(now));
        assert_eq!((off.enabled, off.at_once(at(now + 1_000)), off.audit.version), (false, 0, 2));
        let gone = webhook.after(&attempt(Some(410), now), off_after, at(now), |pause| pause);
        assert_eq!(gone.1, Some(WebhookOffReason::Gone));
        let (well, reason) = webhook.after(&attempt(Some(204), now), off_after, at(now), |pause| pause);
        assert_eq!((well.failures, well.rests_until, well.succeeded_at, reason), (0, None, Some(at(now)), None));
    }

    #[test]
    fn a_receiver_that_asks_for_a_pause_is_not_called_before_its_end() {
        const DAY: u64 = 86_400;
        let off_after = Duration::from_secs(3 * DAY);
        let asks = |status, seconds| {
            let retry_after = Some(Duration::from_secs(seconds));
            WebhookAttempt { retry_after, ..attempt(Some(status), 0) }
        };
        for (status, asked, pause) in
            [(429, 120, 120), (503, DAY * 9, DAY), (503, u64::MAX, DAY), (500, 0, 0), (200, 60, 0)]
        {
            let attempt = asks(status, asked);
            assert_eq!(attempt.asked(), Duration::from_secs(pause), "{status}, {asked}");
            let (health, _) = webhook().after(&attempt, off_after, at(0), |_| Duration::ZERO);
            let until = (pause > 0).then(|| at(0) + Duration::from_secs(pause));
            assert_eq!(health.rests_until, until, "{status}, {asked}");
        }
        // The shop's own pause is longer, or the attempt ran beside another one.
        let mut webhook = webhook();
        for n in 0..8 {
            webhook.health = webhook.after(&attempt(Some(500), n), off_after, at(n), |pause| pause).0;
        }
        let own = webhook.health.rests_until;
        assert_eq!(own, Some(at(7 + 60)));
        let beside = webhook.after(&asks(503, 30), off_after, at(8), |pause| pause).0;
        assert_eq!((beside.rests_until, beside.failures), (own, webhook.health.failures));
        let longer = webhook.after(&asks(503, 100), off_after, at(8), |pause| pause).0;
        assert_eq!(longer.rests_until, Some(at(108)));
        // A message that was sent before has been accepted.
        webhook.health = webhook.after(&asks(429, 120), off_after, at(9), |pause| pause).0;
        let accepted = webhook.after(&attempt(Some(200), 5), off_after, at(10), |pause| pause).0;
        assert_eq!((accepted.failures, accepted.rests_until), (0, Some(at(9 + 120))));
        let later = webhook.after(&attempt(Some(200), 130), off_after, at(130), |pause| pause).0;
        assert_eq!(later.rests_until, None);
    }

    #[test]
    fn earlier_secrets_sign_until_their_time() {
        let by = Actor::system();
        let sealed = |n: u8| SealedSecret(vec![n]);
        let signing = |webhook: &Webhook, now| webhook.secrets(at(now)).map(|s| s.0[0]).collect::<Vec<_>>();
        let mut webhook = webhook();
        for n in 1..=3 {
            webhook = webhook.rotated(sealed(n), at(100 + i64::from(n)), at(0), &by);
        }
        assert_eq!(signing(&webhook, 0), [3, 2, 1, 0]);
        assert_eq!(signing(&webhook, 101), [3, 2, 1]);
        assert_eq!(signing(&webhook, 103), [3]);
        let fourth = webhook.rotated(sealed(4), at(1_000), at(102), &by);
        assert_eq!(signing(&fourth, 102), [4, 3, 2]);
        let at_once = webhook.rotated(sealed(5), at(0), at(0), &by);
        assert_eq!(signing(&at_once, 0), [5, 2, 1, 0]);
    }
}
