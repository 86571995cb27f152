//! Mails to users, which contain a token. A mail that is sent twice has another token the second time, and the first
//! one's is void.

use std::sync::Arc;

use chrono::TimeDelta;

use crate::domain::access::secret::Secret;
use crate::domain::access::session::{OneTimePurpose, OneTimeToken};
use crate::domain::access::user::User;
use crate::domain::platform::job::Job;
use crate::domain::platform::mail::{MailAbout, MailKind, MailToken};
use crate::error::Result;
use crate::id::UserId;
use crate::port::storage::Repositories as _;
use crate::service::platform::mail::{Letter, is_old};
use crate::service::run::context::Context;
use crate::service::run::transaction::Tx;

/// Makes the token of a mail and stores its hash. Returns the letter, or `None` if the mail is pointless.
pub(crate) async fn letter(cx: &Arc<Context>, job: &Job, kind: MailKind, id: UserId) -> Result<Option<Letter>> {
    let Some(purpose) = kind.purpose() else { return Ok(None) };
    let asked_at = job.audit.created_at;
    let token = &Secret::from_random(cx.ids.secret());
    let store = |mut tx: Tx<'static>| async move {
        let now = cx.now();
        // A write that makes the mail pointless holds this lock.
        let Some(user) = tx.users().lock(id).await?.filter(User::is_active) else { return Ok((None, tx)) };
        let is_pointless = match purpose {
            OneTimePurpose::VerifyEmail => user.email_verified_at.is_some(),
            OneTimePurpose::ResetPassword => user.password_set_at.is_some_and(|set_at| asked_at < set_at),
        };
        if is_pointless || is_old(cx, kind, asked_at, now) {
            return Ok((None, tx));
        }
        let expires_at = now + cx.config.one_time_ttl(purpose);
        let stored =
            OneTimeToken { hash: token.hash(), user_id: user.id, purpose, email: user.email.clone(), expires_at };
        tx.sessions().put_token(&stored).await?;
        Ok((Some((user, expires_at)), tx))
    };
    let Some((user, expires_at)) = cx.write(store).await? else { return Ok(None) };
    let valid = TimeDelta::from_std(cx.config.one_time_ttl(purpose)).unwrap_or_default();
    let valid_minutes = u64::try_from(valid.num_minutes()).unwrap_or_default();
    Ok(Some(Letter {
        name: shown_name(&user).map(str::to_owned),
        email: user.email,
        query: Some(Secret::new(format!("token={}", token.reveal()))),
        about: MailAbout::Token(MailToken::new(token.clone(), expires_at, valid_minutes)),
    }))
}

/// Returns the name of a user for its mails, if its address is verified. Anybody can register an address of somebody
/// else, with a text as the name that the owner would read as one of the shop.
fn shown_name(user: &User) -> Option<&str> {
    user.name.as_deref().filter(|_| user.email_verified_at.is_some())
}
