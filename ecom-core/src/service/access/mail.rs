//! Mails about users. A consumer of the log of events ([`Mails`]) creates a job for each event that asks for a mail,
//! and the worker of the jobs makes the token and sends the mail ([`SendMail`]). So the token is in no event and in no
//! job, and a mail is sent only after the transaction that asks for it.
//!
//! A mail may be sent twice: the process can die after the mail server has taken the mail, and before that is recorded.
//! The second mail has another token, and the first one's is void.

use std::sync::Arc;

use async_trait::async_trait;
use chrono::TimeDelta;
use serde_json::{Map, Value, json};

use crate::clock::Timestamp;
use crate::domain::access::secret::Secret;
use crate::domain::access::session::OneTimeToken;
use crate::domain::access::user::User;
use crate::domain::common::{Actor, IncludeDeleted};
use crate::domain::platform::job::{Job, JobKind};
use crate::domain::platform::mail::{MailAddress, MailContent, MailKind, MailMessage};
use crate::domain::platform::outbox::{Event, EventKind, OutboxPosition};
use crate::error::{BoxError, Error, Result};
use crate::id::{JobId, UserId};
use crate::port::mailer::MailError;
use crate::port::storage::Repositories as _;
use crate::service::background::consumer::Consumer;
use crate::service::platform::job_queue::{Handler, JobError, JobHandler, JobQueue, JobRun, Runner};
use crate::service::run::context::Context;
use crate::shop::Mailing;

/// The parameters of a job that sends a mail.
const MAIL: &str = "mail";
const USER: &str = "user";
/// The event that asked for the mail.
const EVENT: &str = "event";

/// How many runs of a mail can fail before it stays failed.
pub(crate) const MAX_ATTEMPTS: u32 = 12;

/// Creates a job for each event that asks for a mail. The job has the id of the event, so that an event that is
/// delivered again creates no second job.
#[derive(Debug)]
pub(crate) struct Mails(pub Arc<Context>);

impl Mails {
    pub const NAME: &'static str = "user-mail";

    /// Returns the kind of mail that an event asks for.
    fn asked(kind: EventKind) -> Option<MailKind> {
        match kind {
            EventKind::UserVerificationRequested => Some(MailKind::VerifyEmail),
            EventKind::UserResetRequested => Some(MailKind::ResetPassword),
            _ => None,
        }
    }
}

#[async_trait]
impl Consumer for Mails {
    fn name(&self) -> &str {
        Self::NAME
    }

    async fn handle(&self, batch: &[(OutboxPosition, Event)]) -> Result<(), BoxError> {
        let cx = &self.0;
        let now = cx.now();
        let asked: Vec<(MailKind, &Event)> = batch
            .iter()
            .filter_map(|(_, event)| Some((Self::asked(event.kind)?, event)))
            .filter(|(mail, event)| !is_old(cx, *mail, event.occurred_at, now))
            .collect();
        if asked.is_empty() {
            return Ok(());
        }
        let asked = &asked;
        let enqueue = |mut tx: crate::Tx<'static>| async move {
            for (mail, event) in asked {
                let (id, user) = (JobId(event.id.0), UserId(event.aggregate_id));
                let is_of_nobody = tx.users().get(user, IncludeDeleted::No).await?.is_none();
                if is_of_nobody || tx.jobs().get(id).await?.is_some() {
                    continue;
                }
                let parameters = [(MAIL, json!(mail.as_str())), (USER, json!(user)), (EVENT, json!(event.id))];
                let parameters: Map<String, Value> =
                    parameters.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
                // The job has the time of the event, from which the age of the mail is counted.
                let mut job = Job::new(id, JobKind::MAIL, parameters, event.occurred_at, &Actor::system());
                job.run_after = now;
                tx.jobs().insert(&job).await?;
                tx.wake();
            }
            Ok(((), tx))
        };
        Ok(cx.write(enqueue).await?)
    }
}

/// Returns true if the token of a mail would have expired, had it been sent when it was asked for.
fn is_old(cx: &Context, mail: MailKind, asked_at: Timestamp, now: Timestamp) -> bool {
    asked_at + cx.config.one_time_ttl(mail.purpose()) <= now
}

/// Sends the mails of jobs. It counts `sent`, or `skipped` for a mail that has become pointless: because it was
/// requested too long ago, or because the user is blocked, deleted or erased, has verified its address, or has set
/// another password since.
#[derive(Debug)]
struct SendMail(Mailing);

/// Returns the queue of mails. They are tried for three to six and a half hours, because a mail server can be down for
/// longer than an index. A slow response of the mail server does not hold up the other mails.
pub(crate) fn queue(mailing: Mailing) -> JobQueue {
    let handler = Handler::Plain(Arc::new(SendMail(mailing)));
    JobQueue::of_shop(JobKind::MAIL, handler, Runner::Worker).max_attempts(MAX_ATTEMPTS).at_once(4)
}

#[async_trait]
impl JobHandler for SendMail {
    async fn run(&self, run: &JobRun) -> Result<(), JobError> {
        let (cx, job, mailing) = (&run.cx, run.job(), &self.0);
        let text = |name: &str| job.parameters.get(name).and_then(Value::as_str);
        let (Some(kind), Some(id)) = (text(MAIL).and_then(MailKind::parse), text(USER).and_then(|id| id.parse().ok()))
        else {
            return Err(JobError::permanent("this release does not know the mail of the job"));
        };
        let Some((user, token, expires_at)) = prepare(cx, job, kind, id).await? else {
            run.count("skipped", 1);
            return Ok(());
        };
        let content = content(cx, kind, &user, token, expires_at);
        let texts = mailing.templates.render(&content)?;
        let refused = |error: Error| MailError::permanent("the mail is not valid").source(error);
        let to = MailAddress::new(&user.email, shown_name(&user)).map_err(refused)?;
        let from = cx.config.mail_from.clone();
        let message = MailMessage::new(cx.ids.next(), from, to, texts, cx.now()).map_err(refused)?;
        mailing.mailer.send(&message).await?;
        run.count("sent", 1);
        tracing::info!(job = %job.id, mail = kind.as_str(), user = %user.id, "a mail was sent");
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

/// Makes the token of a mail and stores its hash. Returns the user, the token and the time at which it expires; `None`
/// if the mail is pointless.
async fn prepare(
    cx: &Arc<Context>,
    job: &Job,
    kind: MailKind,
    id: UserId,
) -> Result<Option<(User, Secret, Timestamp)>> {
    let asked_at = job.audit.created_at;
    let token = &Secret::from_random(cx.ids.secret());
    let store = |mut tx: crate::Tx<'static>| async move {
        let now = cx.now();
        // A write that makes the mail pointless holds this lock.
        let Some(user) = tx.users().lock(id).await?.filter(User::is_active) else { return Ok((None, tx)) };
        let is_pointless = match kind {
            MailKind::VerifyEmail => user.email_verified_at.is_some(),
            MailKind::ResetPassword => user.password_set_at.is_some_and(|set_at| asked_at < set_at),
        };
        if is_pointless || is_old(cx, kind, asked_at, now) {
            return Ok((None, tx));
        }
        let expires_at = now + cx.config.one_time_ttl(kind.purpose());
        let stored = OneTimeToken {
            hash: token.hash(),
            user_id: user.id,
            purpose: kind.purpose(),
            email: user.email.clone(),
            expires_at,
        };
        tx.sessions().put_token(&stored).await?;
        Ok((Some((user, token.clone(), expires_at)), tx))
    };
    cx.write(store).await
}

/// Returns the name of a user for its mails, if its address is verified. Anybody can register an address of somebody
/// else, with a text as the name that the owner would read as one of the shop.
fn shown_name(user: &User) -> Option<&str> {
    user.name.as_deref().filter(|_| user.email_verified_at.is_some())
}

fn content(cx: &Context, kind: MailKind, user: &User, token: Secret, expires_at: Timestamp) -> MailContent {
    let config = &cx.config;
    let link = Secret::new(format!("{}/{}?token={}", config.public_url, kind.page(), token.reveal()));
    let valid = TimeDelta::from_std(config.one_time_ttl(kind.purpose())).unwrap_or_default();
    MailContent {
        kind,
        shop_name: config.shop_name.clone(),
        public_url: config.public_url.clone(),
        name: shown_name(user).map(str::to_owned),
        email: user.email.clone(),
        token,
        link,
        expires_at,
        valid_minutes: u64::try_from(valid.num_minutes()).unwrap_or_default(),
    }
}
