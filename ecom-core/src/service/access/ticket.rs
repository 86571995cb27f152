//! Tickets, with which browsers open streams of live events. They are rows of the database, so that a ticket opens a
//! stream in any process, and only one.

use serde::{Deserialize, Serialize};

use super::auth::AuthService;
use crate::clock::Timestamp;
use crate::domain::access::api_key;
use crate::domain::access::principal::{Login, Permission, Principal};
use crate::domain::access::secret::Secret;
use crate::domain::access::session::LiveTicket;
use crate::domain::common::Actor;
use crate::error::{Error, Result};
use crate::id::{ApiKeyId, CustomerId, SessionId, UserId};
use crate::port::storage::Repositories as _;
use crate::service::run::transaction::Tx;

/// A principal, as a ticket stores it.
#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    actor: String,
    /// `None` if the principal may do everything.
    permissions: Option<Vec<String>>,
    customer: Option<CustomerId>,
    login: Option<(UserId, SessionId)>,
    expires_at: Option<Timestamp>,
}

impl AuthService<'_> {
    /// Returns a ticket for a principal who has logged in, and when the ticket expires. It is valid for a minute, in
    /// every process of the shop, and [`Self::redeem_ticket`] takes it once.
    ///
    /// # Errors
    /// `Unauthenticated` for the principal of callers who have not logged in, `Unavailable`.
    pub async fn issue_ticket(&self, who: &Principal) -> Result<(Secret, Timestamp)> {
        if who.is_anonymous() {
            return Err(Error::Unauthenticated);
        }
        let stored = Stored {
            actor: who.actor().as_str().to_owned(),
            permissions: who.permissions().map(|all| all.map(|p| p.as_str().to_owned()).collect()),
            customer: who.customer(),
            login: who.login().map(|login| (login.user, login.session)),
            expires_at: who.expires_at(),
        };
        let principal = serde_json::to_string(&stored).map_err(|e| Error::internal("encoding a ticket", e))?;
        let secret = Secret::from_random(self.cx.ids.secret());
        let expires_at = self.cx.now() + LiveTicket::TTL;
        let ticket = &LiveTicket { hash: secret.hash(), principal, expires_at };
        let put = |mut tx: Tx<'static>| async move {
            tx.sessions().put_ticket(ticket).await?;
            Ok(((), tx))
        };
        self.cx.write(put).await?;
        Ok((secret, expires_at))
    }

    /// Takes a ticket and returns its principal, with the permissions that its user or API key has now.
    ///
    /// # Errors
    /// `Unauthenticated` if the ticket was taken or has expired, if there never was one, or if the session or the API
    /// key of its principal has ended; `Unavailable`.
    pub async fn redeem_ticket(&self, ticket: &Secret) -> Result<Principal> {
        let hash = &ticket.hash();
        let take = |mut tx: Tx<'static>| async move {
            let taken = tx.sessions().take_ticket(hash).await?;
            Ok((taken, tx))
        };
        let taken = self.cx.write(take).await?.ok_or(Error::Unauthenticated)?;
        let now = self.cx.now();
        let stored: Stored =
            serde_json::from_str(&taken.principal).map_err(|e| Error::internal("decoding a ticket", e))?;
        if taken.expires_at <= now || stored.expires_at.is_some_and(|end| end <= now) {
            return Err(Error::Unauthenticated);
        }
        if let Some((user, session)) = stored.login {
            return self.of_login(Login { user, session }).await;
        }
        let mut permissions: Option<Vec<Permission>> =
            stored.permissions.map(|all| all.iter().filter_map(|text| text.parse().ok()).collect());
        if let Some(id) = api_key::id_of(&stored.actor) {
            let key = self.key(id).await?.filter(|key| key.is_valid(now)).ok_or(Error::Unauthenticated)?;
            permissions = (!key.is_admin).then(|| key.permissions.iter().copied().collect());
        }
        let actor = Actor::new(stored.actor);
        let who = match permissions {
            Some(permissions) => Principal::new(actor, permissions),
            None => Principal::trusted(actor),
        };
        let who = who.expiring(stored.expires_at);
        Ok(match stored.customer {
            Some(customer) => who.with_customer(customer),
            None => who,
        })
    }

    async fn key(&self, id: ApiKeyId) -> Result<Option<api_key::ApiKey>> {
        self.cx.storage.connect().await?.api_keys().get(id).await
    }
}
