//! Mails. A consumer of the log of events ([`Mails`]) creates a job for each event that asks for a mail, and the worker
//! of the jobs makes the mail and sends it ([`SendMail`]). So neither an event nor a job contains an address, a name or
//! a token, and a mail is sent only after the transaction that asks for it. Reminders of carts have no event: the
//! background work creates their jobs ([`Reminders`](crate::service::sales::reminder::Reminders)).
//!
//! A mail may be sent twice: the process can die after the mail server has taken the mail, and before that is recorded.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::domain::access::secret::Secret;
use crate::domain::common::{Actor, IncludeDeleted};
use crate::domain::platform::job::{Job, JobKind};
use crate::domain::platform::mail::{MailAbout, MailAddress, MailContent, MailKind, MailLowStock, MailMessage};
use crate::domain::platform::outbox::{Event, EventKind, OutboxPosition};
use crate::error::{BoxError, Error, Result};
use crate::id::{CartId, EventId, JobId, OrderId, UserId};
use crate::log_event;
use crate::port::mailer::MailError;
use crate::port::storage::Repositories as _;
use crate::service::access::mail as of_user;
use crate::service::background::consumer::Consumer;
use crate::service::platform::job_queue::{Handler, JobError, JobHandler, JobQueue, JobRun, Runner};
use crate::service::run::context::Context;
use crate::service::run::transaction::Tx;
use crate::service::sales::{confirmation, reminder};
use crate::service::stock::low_stock;
use crate::shop::Mailing;

/// The parameters of a job that sends a mail: the kind of the mail, and the ids of what it is about.
const MAIL: &str = "mail";
const USER: &str = "user";
const ORDER: &str = "order";
/// The cart, and the version that it had when the job was created.
const CART: &str = "cart";
const VERSION: &str = "version";
const SKUS: &str = "skus";
/// The event that asked for the mail, or the events.
const EVENT: &str = "event";
const EVENTS: &str = "events";

/// How many runs of a mail can fail before it stays failed.
pub(crate) const MAX_ATTEMPTS: u32 = 12;
/// A mail without a token that is not sent within this time, for example over a weekend, is not sent at all. If a shop
/// gets its first mailer, this is also how old the orders are for which it sends mails.
pub(crate) const SENT_WITHIN: Duration = Duration::from_secs(3 * 86_400);

/// Creates a job for each event that asks for a mail, or one for several events of low stock. The job has the id of the
/// event, or of the first one, so that an event that is delivered again creates no second job.
#[derive(Debug)]
pub(crate) struct Mails(pub Arc<Context>);

/// An event that asks for a mail about one user or order.
struct Asked<'e> {
    mail: MailKind,
    event: &'e Event,
}

impl Mails {
    pub const NAME: &'static str = "user-mail";

    /// Returns the kind of mail that an event asks for.
    fn asked(cx: &Context, kind: EventKind) -> Option<MailKind> {
        match kind {
            EventKind::UserVerificationRequested => Some(MailKind::VerifyEmail),
            EventKind::UserResetRequested => Some(MailKind::ResetPassword),
            EventKind::OrderPlaced => cx.config.order_confirmation.then_some(MailKind::OrderConfirmation),
            EventKind::StockLow => cx.config.low_stock_mail.is_some().then_some(MailKind::LowStock),
            _ => None,
        }
    }
}

impl Asked<'_> {
    /// Returns the parameters of the job; `None` if nobody would get the mail.
    async fn parameters(&self, tx: &mut Tx<'_>) -> Result<Option<Map<String, Value>>> {
        let (mail, event) = (self.mail, self.event);
        let about = if mail.purpose().is_some() {
            let user = UserId(event.aggregate_id);
            if tx.users().get(user, IncludeDeleted::No).await?.is_none() {
                return Ok(None);
            }
            USER
        } else {
            ORDER
        };
        let parameters = [(MAIL, json!(mail.as_str())), (about, json!(event.aggregate_id)), (EVENT, json!(event.id))];
        Ok(Some(map(parameters)))
    }
}

fn map<const N: usize>(parameters: [(&str, Value); N]) -> Map<String, Value> {
    parameters.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Returns the job of a mail that was asked for at some time, from which its age is counted.
fn job(id: JobId, parameters: Map<String, Value>, asked_at: Timestamp, now: Timestamp) -> Job {
    let mut job = Job::new(id, JobKind::MAIL, parameters, asked_at, &Actor::system());
    job.run_after = now;
    job
}

/// Returns the job of the mail that reminds of a cart with this version.
pub(crate) fn reminder_job(id: JobId, cart: Uuid, version: i64, now: Timestamp) -> Job {
    let mail = MailKind::AbandonedCart.as_str();
    job(id, map([(MAIL, json!(mail)), (CART, json!(cart)), (VERSION, json!(version))]), now, now)
}

/// Creates the jobs of the mails about SKUs that have become low: one for at most [`MailLowStock::MOST`] SKUs.
async fn enqueue_low_stock(tx: &mut Tx<'_>, mut left: &[&Event], now: Timestamp) -> Result<()> {
    while let Some(first) = left.first() {
        let id = JobId(first.id.0);
        let taken = if let Some(made) = tx.jobs().get(id).await? {
            // An earlier delivery has made the job, perhaps for fewer events.
            let events: Vec<EventId> = ids(&made, EVENTS);
            left.iter().take_while(|event| events.contains(&event.id)).count().max(1)
        } else {
            let taken = left.len().min(MailLowStock::MOST);
            let (events, skus): (Vec<EventId>, Vec<Uuid>) =
                left[..taken].iter().map(|event| (event.id, event.aggregate_id)).unzip();
            let mail = MailKind::LowStock.as_str();
            let parameters =
                [(MAIL, json!(mail)), (EVENT, json!(first.id)), (SKUS, json!(skus)), (EVENTS, json!(events))];
            tx.jobs().insert(&job(id, map(parameters), first.occurred_at, now)).await?;
            tx.wake();
            taken
        };
        left = &left[taken..];
    }
    Ok(())
}

/// Returns the ids in a parameter of a job.
fn ids<T: serde::de::DeserializeOwned>(job: &Job, name: &str) -> Vec<T> {
    job.parameters.get(name).and_then(|value| serde_json::from_value(value.clone()).ok()).unwrap_or_default()
}

#[async_trait]
impl Consumer for Mails {
    fn name(&self) -> &str {
        Self::NAME
    }

    async fn handle(&self, batch: &[(OutboxPosition, Event)]) -> Result<(), BoxError> {
        let cx = &self.0;
        let now = cx.now();
        let asked = batch.iter().filter_map(|(_, event)| Some(Asked { mail: Self::asked(cx, event.kind)?, event }));
        let asked = asked.filter(|asked| !is_old(cx, asked.mail, asked.event.occurred_at, now));
        let (low, asked): (Vec<Asked<'_>>, Vec<Asked<'_>>) = asked.partition(|asked| asked.mail == MailKind::LowStock);
        if low.is_empty() && asked.is_empty() {
            return Ok(());
        }
        let low: Vec<&Event> = low.into_iter().map(|low| low.event).collect();
        let (low, asked) = (&low, &asked);
        let enqueue = |mut tx: Tx<'static>| async move {
            for asked in asked {
                let id = JobId(asked.event.id.0);
                if tx.jobs().get(id).await?.is_some() {
                    continue;
                }
                let Some(parameters) = asked.parameters(&mut tx).await? else { continue };
                tx.jobs().insert(&job(id, parameters, asked.event.occurred_at, now)).await?;
                tx.wake();
            }
            enqueue_low_stock(&mut tx, low, now).await?;
            Ok(((), tx))
        };
        // A batch can have some hundred orders.
        Ok(cx.write_at_length(enqueue).await?)
    }
}

/// Returns true if a mail is too old to be sent: if its token would have expired, had it been sent when it was asked
/// for, or if it has no token and is older than [`SENT_WITHIN`].
pub(crate) fn is_old(cx: &Context, mail: MailKind, asked_at: Timestamp, now: Timestamp) -> bool {
    let limit = mail.purpose().map_or(SENT_WITHIN, |purpose| cx.config.one_time_ttl(purpose));
    asked_at + limit <= now
}

/// What is in a mail besides the settings of the shop.
pub(crate) struct Letter {
    /// The address of the receiver.
    pub email: String,
    /// The name of the receiver, if it can be shown.
    pub name: Option<String>,
    /// The query string of the link.
    pub query: Option<Secret>,
    pub about: MailAbout,
}

/// Sends the mails of jobs. It counts `sent`, or `skipped` for a mail that has become pointless: because it was
/// requested too long ago, because the user is blocked, deleted or erased, has verified its address, or has set another
/// password since, because the order was canceled, because the cart was changed or ordered, or because the SKUs were
/// refilled.
#[derive(Debug)]
struct SendMail(Mailing);

/// Returns the queue of mails. They are tried for three to six and a half hours, because a mail server can be down for
/// longer than an index. A slow response of the mail server does not hold up the other mails.
pub(crate) fn queue(mailing: Mailing) -> JobQueue {
    let handler = Handler::Plain(Arc::new(SendMail(mailing)));
    JobQueue::of_shop(JobKind::MAIL, handler, Runner::Worker).max_attempts(MAX_ATTEMPTS).at_once(4)
}

/// Makes the letter of a job. Returns it with the id of what it is about, or `None` if the mail is pointless.
async fn letter(cx: &Arc<Context>, job: &Job, kind: MailKind) -> Result<Option<(Letter, Uuid)>, JobError> {
    if is_old(cx, kind, job.audit.created_at, cx.now()) {
        return Ok(None);
    }
    let id = |name: &str| -> Result<Uuid, JobError> {
        let id = job.parameters.get(name).and_then(Value::as_str).and_then(|id| id.parse().ok());
        id.ok_or_else(|| JobError::permanent("this release does not know the parameters of the mail"))
    };
    let (letter, about) = match kind {
        MailKind::VerifyEmail | MailKind::ResetPassword => {
            let user = id(USER)?;
            (of_user::letter(cx, job, kind, UserId(user)).await?, user)
        }
        MailKind::OrderConfirmation => {
            let order = id(ORDER)?;
            (confirmation::letter(cx, OrderId(order)).await?, order)
        }
        MailKind::AbandonedCart => {
            let cart = id(CART)?;
            let version = job.parameters.get(VERSION).and_then(Value::as_i64).unwrap_or_default();
            (reminder::letter(cx, CartId(cart), version).await?, cart)
        }
        MailKind::LowStock => (low_stock::letter(cx, &ids(job, SKUS)).await?, id(EVENT)?),
    };
    Ok(letter.map(|letter| (letter, about)))
}

#[async_trait]
impl JobHandler for SendMail {
    async fn run(&self, run: &JobRun) -> Result<(), JobError> {
        let (cx, job, mailing) = (&run.cx, run.job(), &self.0);
        let kind = job.parameters.get(MAIL).and_then(Value::as_str).and_then(MailKind::parse);
        let Some(kind) = kind else {
            return Err(JobError::permanent("this release does not know the mail of the job"));
        };
        let Some((letter, about)) = letter(cx, job, kind).await? else {
            run.count("skipped", 1);
            return Ok(());
        };
        let content = content(cx, kind, letter);
        let texts = mailing.templates.render(&content)?;
        let refused = |error: Error| MailError::permanent("the mail is not valid").source(error);
        let to = MailAddress::new(&content.email, content.name.as_deref()).map_err(refused)?;
        let from = cx.config.mail_from.clone();
        let message = MailMessage::new(cx.ids.next(), from, to, texts, cx.now()).map_err(refused)?;
        mailing.mailer.send(&message).await?;
        run.count("sent", 1);
        let (event, mail) = (log_event::MAIL_SENT, kind.as_str());
        tracing::info!(target: log_event::TARGET, event, job = %job.id, mail, %about, "a mail was sent");
        Ok(())
    }
}

impl From<MailError> for JobError {
    fn from(error: MailError) -> Self {
        let message = error.to_string();
        let failed = if error.is_permanent { Self::permanent(message) } else { Self::new(message) };
        failed.source(error)
    }
}

fn content(cx: &Context, kind: MailKind, letter: Letter) -> MailContent {
    let config = &cx.config;
    let page = format!("{}/{}", config.public_url, kind.page());
    let link = match &letter.query {
        Some(query) => format!("{page}?{}", query.reveal()),
        None => page,
    };
    MailContent {
        kind,
        shop_name: config.shop_name.clone(),
        public_url: config.public_url.clone(),
        name: letter.name,
        email: letter.email,
        link: Secret::new(link),
        about: letter.about,
    }
}
