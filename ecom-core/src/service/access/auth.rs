//! Logins: passwords and refresh tokens become access tokens, and credentials become principals.
//!
//! The permissions of a session are cached as one document, so a request with a token costs no statement. A logout, a
//! blocked user or a changed role makes the document stale as any other write does (R15).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::api_key::cache_key;
use super::link::OwnEdit;
use super::oidc::{Identity, Oidc};
use super::password::{Admitted, Passwords};
use super::role::Roles;
use super::token::{self, Signer, Verified};
use super::user::{account, verification_of};
use crate::clock::Timestamp;
use crate::domain::access::api_key::{self, ApiKey};
use crate::domain::access::principal::{Login, Permission, Principal};
use crate::domain::access::role::BuiltInRole;
use crate::domain::access::secret::{Secret, SecretHash};
use crate::domain::access::session::{LoginFailures, RefreshToken, Session, SessionEnd};
use crate::domain::access::user::{
    ProfilePatch, User, UserAccount, UserInput, actor_of, check_password, check_spelling,
};
use crate::domain::common::{Actor, Audit, ExpectedVersion, IncludeDeleted};
use crate::domain::platform::outbox::EventKind;
use crate::error::{Entity, Error, FieldCode, Result, ValidationErrors};
use crate::id::{ApiKeyId, CustomerId, RoleId, SessionId, UserId};
use crate::log_event;
use crate::metrics;
use crate::port::cache::CacheKey;
use crate::port::storage::{Connection, Repositories as _};
use crate::service::run::context::Context;
use crate::service::run::notice::Notice;
use crate::service::run::read_through::Cached;
use crate::service::run::transaction::{Change, Tx};
use crate::text::fold_key;
use crate::trace;

/// How long what a session or an API key may do is cached. If a shared cache fails while one of them ends, the end may
/// count this much later in other processes.
pub(crate) const GRANT_TTL: Duration = Duration::from_secs(60);
/// The maximum number of sessions of a user. A further login ends the oldest one.
const MAX_SESSIONS: usize = 100;
/// How often the use of an API key is noted.
const NOTED_EVERY: Duration = Duration::from_secs(60);
/// How long a request waits until the use of its API key is noted.
const NOTING: Duration = Duration::from_millis(250);
/// The maximum number of verified tokens and keys that a process remembers.
const REMEMBERED: u64 = 20_000;

/// The tokens of a session.
#[derive(Debug, Clone)]
pub struct Tokens {
    /// The token that authenticates requests, in `Authorization: Bearer …`.
    pub access: Secret,
    /// When the access token expires.
    pub access_expires_at: Timestamp,
    /// The token that is exchanged once for new tokens.
    pub refresh: Secret,
    /// When the refresh token expires, unless it is used before.
    pub refresh_expires_at: Timestamp,
    /// The user.
    pub user: UserAccount,
}

/// The cached permissions of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct SessionGrant {
    user_id: UserId,
    customer_id: Option<CustomerId>,
    roles: Vec<RoleId>,
    is_active: bool,
}

/// The cached permissions of an API key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct KeyGrant {
    id: ApiKeyId,
    hash: [u8; 32],
    permissions: Vec<String>,
    is_admin: bool,
    expires_at: Option<Timestamp>,
}

/// The values that the response to a login needs in addition to the session.
struct Prepared {
    signer: Signer,
    roles: Arc<Cached<Roles>>,
}

/// The credentials that this process has verified recently.
pub(crate) struct Remembered {
    /// The tokens that were verified, by their hashes, with the principal that was made of them.
    tokens: moka::sync::Cache<[u8; 32], Arc<RememberedToken>, foldhash::fast::RandomState>,
    /// The tokens of the issuer of OpenID Connect that were verified, by their hashes.
    identities: moka::sync::Cache<[u8; 32], Arc<RememberedIdentity>, foldhash::fast::RandomState>,
    /// The hashes of the API keys that were found.
    keys: moka::sync::Cache<[u8; 32], (), foldhash::fast::RandomState>,
    /// When the use of a key was last noted.
    uses: moka::sync::Cache<ApiKeyId, Timestamp>,
}

struct RememberedToken {
    verified: Verified,
    made: parking_lot::Mutex<Option<Made>>,
}

/// A verified token of the issuer, with the principal that was made of it and of the roles of the shop.
struct RememberedIdentity {
    identity: Identity,
    made: parking_lot::Mutex<Option<(Arc<Cached<Roles>>, Principal)>>,
}

/// A principal, and the documents of which it was made.
struct Made {
    grant: Arc<Cached<SessionGrant>>,
    roles: Arc<Cached<Roles>>,
    principal: Principal,
}

impl Made {
    /// Returns the principal if it was made of these documents.
    fn of(&self, grant: &Arc<Cached<SessionGrant>>, roles: &Arc<Cached<Roles>>) -> Option<Principal> {
        (Arc::ptr_eq(&self.grant, grant) && Arc::ptr_eq(&self.roles, roles)).then(|| self.principal.clone())
    }
}

impl std::fmt::Debug for Remembered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Remembered").finish_non_exhaustive()
    }
}

impl Default for Remembered {
    fn default() -> Self {
        Self {
            tokens: by_hash(),
            identities: by_hash(),
            keys: by_hash(),
            uses: moka::sync::Cache::builder().max_capacity(REMEMBERED).build(),
        }
    }
}

/// Returns an empty cache whose keys are the hashes of verified credentials.
fn by_hash<T: Clone + Send + Sync + 'static>() -> moka::sync::Cache<[u8; 32], T, foldhash::fast::RandomState> {
    moka::sync::Cache::builder().max_capacity(REMEMBERED).build_with_hasher(foldhash::fast::RandomState::default())
}

/// The service of logins. It needs no permission: it finds out who calls.
///
/// ```
/// # async fn app(shop: ecom_core::Shop) -> Result<(), Box<dyn std::error::Error>> {
/// use ecom_core::access::Secret;
///
/// let tokens = shop.auth().login("clerk@example.com", &Secret::new("correct horse"), None).await?;
/// let clerk = shop.auth().authenticate(&tokens.access).await?;
/// let orders = shop.acting_as(&clerk).orders();
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy)]
pub struct AuthService<'a> {
    pub(super) cx: &'a Arc<Context>,
}

impl<'a> AuthService<'a> {
    pub(crate) const fn new(cx: &'a Arc<Context>) -> Self {
        Self { cx }
    }

    /// Returns the principal of an access token, of a token of the issuer of OpenID Connect, or of an API key.
    ///
    /// # Errors
    /// `Unauthenticated` if it is not valid, or if its session has ended; `Unavailable`.
    pub async fn authenticate(&self, credential: &Secret) -> Result<Principal> {
        if credential.reveal().starts_with(ApiKey::MARK) {
            self.by_key(credential).await
        } else {
            self.by_token(credential).await
        }
    }

    /// Returns the principal of an access token of the shop without waiting, if this process has verified the token
    /// before and has its session, the roles and the keys in memory. Returns `None` otherwise, also for an invalid token:
    /// then call [`Self::authenticate`].
    pub fn authenticate_now(&self, token: &Secret) -> Option<Principal> {
        if token.reveal().starts_with(ApiKey::MARK) {
            return None;
        }
        let remembered = self.cx.logins.tokens.get(&token.hash().0)?;
        let Verified { login, expires_at, .. } = remembered.verified;
        if expires_at <= self.cx.now() || !token::is_current_now(self.cx, &remembered.verified)? {
            return None;
        }
        let grant = self.cx.cache.local(&CacheKey::Session(login.session))?;
        let roles = self.cx.cache.local(&CacheKey::Roles)?;
        remembered.made.lock().as_ref()?.of(&grant, &roles)
    }

    async fn by_token(&self, token: &Secret) -> Result<Principal> {
        let hash = token.hash().0;
        let mut remembered = self.cx.logins.tokens.get(&hash);
        if let Some(known) = &remembered
            && !token::is_current(self.cx, &known.verified).await?
        {
            remembered = None;
        }
        let remembered = match remembered {
            Some(remembered) => remembered,
            None => {
                if let Some(oidc) = &self.cx.oidc
                    && let Some(known) = self.by_issuer(oidc, hash, token).await?
                {
                    return Ok(known);
                }
                let verified = token::verify(self.cx, token).await?;
                let remembered = Arc::new(RememberedToken { verified, made: parking_lot::Mutex::default() });
                self.cx.logins.tokens.insert(hash, remembered.clone());
                remembered
            }
        };
        let Verified { login, expires_at, .. } = remembered.verified;
        if expires_at <= self.cx.now() {
            self.cx.logins.tokens.invalidate(&hash);
            return Err(Error::Unauthenticated);
        }
        let grant = self.grant(login.session).await?.ok_or(Error::Unauthenticated)?;
        if !grant.is_active || grant.user_id != login.user {
            return Err(Error::Unauthenticated);
        }
        let roles = Roles::load(self.cx).await?.value;
        let mut made = remembered.made.lock();
        if let Some(principal) = made.as_ref().and_then(|made| made.of(&grant, &roles)) {
            return Ok(principal);
        }
        let principal = Principal::logged_in(login, roles.permissions(&grant.roles), grant.customer_id);
        *made = Some(Made { grant, roles, principal: principal.clone() });
        Ok(principal)
    }

    /// Returns the principal of a token of the issuer of OpenID Connect; `None` for a token that does not name it.
    async fn by_issuer(&self, oidc: &Arc<Oidc>, hash: [u8; 32], token: &Secret) -> Result<Option<Principal>> {
        let identities = &self.cx.logins.identities;
        let mut remembered = identities.get(&hash);
        if let Some(known) = &remembered
            && !oidc.is_current(self.cx, &known.identity).await?
        {
            remembered = None;
        }
        let remembered = match remembered {
            Some(remembered) => remembered,
            None if !oidc.is_named_by(token) => return Ok(None),
            None => {
                let identity = oidc.verify(self.cx, token).await?;
                let remembered = Arc::new(RememberedIdentity { identity, made: parking_lot::Mutex::default() });
                identities.insert(hash, remembered.clone());
                remembered
            }
        };
        let Identity { actor, roles: names, expires_at, .. } = &remembered.identity;
        if *expires_at <= self.cx.now() {
            identities.invalidate(&hash);
            return Err(Error::Unauthenticated);
        }
        let roles = Roles::load(self.cx).await?.value;
        let mut made = remembered.made.lock();
        if let Some((of, principal)) = &*made
            && Arc::ptr_eq(of, &roles)
        {
            return Ok(Some(principal.clone()));
        }
        let ids = roles.existing(names);
        if ids.len() < names.len() {
            tracing::warn!(?names, "claims of an issuer are mapped to roles of which the shop does not have all");
        }
        let principal = match roles.permissions(&ids) {
            Some(permissions) => Principal::new(actor.clone(), permissions),
            None => Principal::trusted(actor.clone()),
        };
        let principal = principal.expiring(Some(*expires_at));
        *made = Some((roles, principal.clone()));
        Ok(Some(principal))
    }

    /// Returns whether this process has verified a credential a short time ago, so that it is not made up. The
    /// credential may have expired or been revoked since.
    pub fn has_verified(&self, credential: &Secret) -> bool {
        let (hash, logins) = (credential.hash().0, &self.cx.logins);
        if credential.reveal().starts_with(ApiKey::MARK) {
            logins.keys.contains_key(&hash)
        } else {
            logins.tokens.contains_key(&hash) || logins.identities.contains_key(&hash)
        }
    }

    /// Returns the principal of a login.
    ///
    /// # Errors
    /// `Unauthenticated` if the session has ended, `Unavailable`.
    pub(super) async fn of_login(&self, login: Login) -> Result<Principal> {
        let grant = self.grant(login.session).await?.ok_or(Error::Unauthenticated)?;
        if !grant.is_active || grant.user_id != login.user {
            return Err(Error::Unauthenticated);
        }
        let roles = Roles::load(self.cx).await?.value;
        Ok(Principal::logged_in(login, roles.permissions(&grant.roles), grant.customer_id))
    }

    /// Returns a principal with the permissions that its session or its API key has in the database now, without the
    /// cache. A principal that has neither is returned as it is.
    ///
    /// # Errors
    /// `Unauthenticated` if the session or the API key has ended, or if the user may not log in any more;
    /// `Unavailable`.
    pub(crate) async fn fresh(&self, db: &mut dyn Connection, who: &Principal) -> Result<Principal> {
        if let Some(login) = who.login() {
            let session = db.sessions().get(login.session).await?;
            let goes_on = session.is_some_and(|session| session.ended.is_none() && session.user_id == login.user);
            let user = db.users().get(login.user, IncludeDeleted::No).await?;
            let user = user.filter(|user| goes_on && user.is_active()).ok_or(Error::Unauthenticated)?;
            let roles = Roles::load_from(db).await?;
            return Ok(Principal::logged_in(login, roles.permissions(&user.roles), user.customer_id));
        }
        let Some(id) = api_key::id_of(who.actor().as_str()) else { return Ok(who.clone()) };
        let key = db.api_keys().get(id).await?.filter(|key| key.is_valid(self.cx.now()));
        let key = key.ok_or(Error::Unauthenticated)?;
        let actor = who.actor().clone();
        let fresh = if key.is_admin { Principal::trusted(actor) } else { Principal::new(actor, key.permissions) };
        let fresh = fresh.expiring(key.expires_at);
        Ok(match who.customer() {
            Some(customer) => fresh.with_customer(customer),
            None => fresh,
        })
    }

    /// Returns when a credential expires that this process has verified; `None` if it does not expire, or if the
    /// process does not remember it.
    pub fn expires_at(&self, credential: &Secret, principal: &Principal) -> Option<Timestamp> {
        let (hash, logins) = (credential.hash().0, &self.cx.logins);
        let of_token = logins.tokens.get(&hash).map(|token| token.verified.expires_at);
        let of_issuer = || logins.identities.get(&hash).map(|known| known.identity.expires_at);
        of_token.or_else(of_issuer).or_else(|| principal.expires_at())
    }

    /// Returns what a session may do, through the cache.
    async fn grant(&self, id: SessionId) -> Result<Option<Arc<Cached<SessionGrant>>>> {
        let load = async {
            let mut db = self.cx.storage.connect().await?;
            let Some(session) = db.sessions().get(id).await? else { return Ok(None) };
            let user = db.users().get(session.user_id, IncludeDeleted::Yes).await?;
            Ok(user.map(|user| SessionGrant {
                user_id: user.id,
                customer_id: user.customer_id,
                is_active: session.ended.is_none() && user.is_active(),
                roles: user.roles,
            }))
        };
        let found = self.cx.cache.get_or_load(CacheKey::Session(id), GRANT_TTL, load).await?;
        Ok(found.map(|found| found.value))
    }

    async fn by_key(&self, secret: &Secret) -> Result<Principal> {
        if secret.reveal().len() > 256 {
            return Err(Error::Unauthenticated);
        }
        let hash = secret.hash();
        let load = async {
            let found = self.cx.storage.connect().await?.api_keys().get_by_hash(&hash).await?;
            Ok(found.map(|key| KeyGrant {
                id: key.id,
                hash: key.hash.0,
                permissions: key.permissions.iter().map(|p| p.as_str().to_owned()).collect(),
                is_admin: key.is_admin,
                expires_at: key.expires_at,
            }))
        };
        let found = self.cx.cache.get_or_load(cache_key(&hash), GRANT_TTL, load).await?;
        let now = self.cx.now();
        let is_valid =
            |grant: &KeyGrant| SecretHash(grant.hash) == hash && grant.expires_at.is_none_or(|end| now < end);
        let Some(grant) = found.map(|found| found.value).filter(|grant| is_valid(grant)) else {
            self.cx.logins.keys.invalidate(&hash.0);
            return Err(Error::Unauthenticated);
        };
        if !self.cx.logins.keys.contains_key(&hash.0) {
            self.cx.logins.keys.insert(hash.0, ());
        }
        self.note_use(grant.id, now).await;
        Ok(grant
            .attached(|grant| {
                let permissions: BTreeSet<Permission> =
                    grant.permissions.iter().filter_map(|text| text.parse().ok()).collect();
                let actor = api_key::actor_of(grant.id);
                let who = if grant.is_admin { Principal::trusted(actor) } else { Principal::new(actor, permissions) };
                who.expiring(grant.expires_at)
            })
            .clone())
    }

    /// Notes the use of a key, about once a minute. A failure is logged and does not refuse the request.
    async fn note_use(&self, id: ApiKeyId, now: Timestamp) {
        let uses = &self.cx.logins.uses;
        if uses.get(&id).is_some_and(|noted| now < noted + NOTED_EVERY) {
            return;
        }
        uses.insert(id, now);
        let cx = self.cx.clone();
        let noted = tokio::spawn(trace::carry(async move {
            let note = |mut tx: Tx<'static>| async move {
                tx.api_keys().note_uses(&[(id, now)]).await?;
                Ok(((), tx))
            };
            if let Err(error) = cx.write(note).await {
                tracing::warn!(%error, key = %id, "the last use of an API key could not be recorded");
            }
        }));
        // If other writes are in the way, the request does not wait for them.
        let _ = tokio::time::timeout(NOTING, noted).await;
    }

    /// Begins a session of the user with this email address and password. `user_agent` is shown with the session; it is
    /// cut off after 255 characters.
    ///
    /// After five failed logins with an address, logins with it are refused with `RateLimited`: for 2 s, and twice as
    /// long after each further failure, up to 15 minutes. A successful login, or 24 hours without a failure, resets the
    /// count. A user has at most 100 sessions; a further login ends the oldest one. An address that no user has costs
    /// as much and leads to the same errors as a wrong password.
    ///
    /// # Errors
    /// `InvalidCredentials`, also for a user that is blocked or has no password; `RateLimited` while attempts have to
    /// wait; `Unavailable`, also if too many logins wait.
    pub async fn login(&self, email: &str, password: &Secret, user_agent: Option<&str>) -> Result<Tokens> {
        let (email, address) = address(email)?;
        let turn = self.attempt(&address).await?;
        let prepared = self.prepared().await?;
        // Not every database accepts control characters, and no user has them.
        let found = if email.contains(char::is_control) {
            None
        } else {
            self.cx.storage.connect().await?.users().get_by_email(email).await?
        };
        let hash = found.as_ref().filter(|user| user.is_active()).and_then(|user| user.password.as_ref());
        let is_right = turn.verify(password, hash).await?;
        let known = found.as_ref().map(|user| user.id);
        let Some(user) = found.filter(|_| is_right) else {
            log_failure(known);
            return Err(Error::InvalidCredentials);
        };
        let renewed = match &user.password {
            Some(old) if Passwords::is_outdated(old) => {
                Some((old.clone(), turn.hash(password, self.cx.ids.secret()).await?))
            }
            _ => None,
        };
        drop(turn);
        let (set_at, renewed) = (user.password_set_at, &renewed);
        let begin = |mut tx: Tx<'static>| async move {
            tx.started();
            // The user may have been blocked, or have another password, since it was read.
            let user = tx.users().lock(user.id).await?.filter(User::is_active);
            let user = user.filter(|user| user.password_set_at == set_at).ok_or(Error::InvalidCredentials)?;
            tx.sessions().clear_failures(&address).await?;
            if let Some((old, new)) = renewed {
                tx.users().rehash(user.id, old, new).await?;
            }
            let begun = self.begin(&mut tx, &user, user_agent).await?;
            tx.ended(Ok((begun, user))).map(|done| (done, tx))
        };
        let done = self.cx.write(begin).await;
        if matches!(done, Err(Error::InvalidCredentials)) {
            log_failure(known);
        }
        let ((session, refresh), user) = done?;
        self.tokens(&user, &session, refresh, &prepared)
    }

    /// Counts an attempt to use a password of an email address, and returns its place in the queue. The attempt counts
    /// before its outcome is known, so that many at once cannot try more passwords.
    async fn attempt(&self, address: &SecretHash) -> Result<Admitted<'a>> {
        let now = self.cx.now();
        let refuse = |failures: LoginFailures| match failures.refused_until() {
            Some(until) if now < until => {
                Err(Error::RateLimited { retry_after: (until - now).to_std().unwrap_or_default() })
            }
            _ => Ok(()),
        };
        // The place is taken first, so that an attempt that the queue refuses makes no query here.
        let turn = self.cx.passwords.admit()?;
        let known = self.cx.storage.connect().await?.sessions().failures(address).await?;
        known.map_or(Ok(()), refuse)?;
        let count = |mut tx: Tx<'static>| async move {
            tx.sessions().note_failure(address, now).await?;
            // Attempts that have come in between are as recent as this one, which is not counted if it must wait for
            // them.
            let before = tx.sessions().failures(address).await?.map_or(0, |failures| failures.count.saturating_sub(1));
            if before > known.map_or(0, |failures| failures.count) {
                refuse(LoginFailures { count: before, last_at: now })?;
            }
            Ok(((), tx))
        };
        self.cx.write(count).await?;
        Ok(turn)
    }

    /// Returns the values that the response to a login needs. They are read first, so that nothing fails once a session
    /// is written.
    async fn prepared(&self) -> Result<Prepared> {
        Ok(Prepared { signer: token::signer(self.cx).await?, roles: Roles::load(self.cx).await?.value })
    }

    /// Begins a session of a user that the transaction has locked.
    async fn begin(&self, tx: &mut Tx<'_>, user: &User, user_agent: Option<&str>) -> Result<(Session, Secret)> {
        let now = self.cx.now();
        let active = tx.sessions().active(user.id, now).await?;
        for mut old in active.into_iter().skip(MAX_SESSIONS - 1) {
            end(tx, &mut old, now, SessionEnd::Revoked, &user.actor()).await?;
        }
        let id = SessionId(self.cx.ids.next());
        let random = self.cx.ids.secret();
        let (refresh, parts) = RefreshToken::compose(id, half(&random, 0), half(&random, 1));
        let session = Session {
            id,
            user_id: user.id,
            family: parts.family,
            token: parts.token,
            user_agent: user_agent.map(|text| text.chars().filter(|c| !c.is_control()).take(255).collect()),
            created_at: now,
            refreshed_at: now,
            expires_at: now + self.cx.config.session_ttl,
            ended: None,
        };
        tx.sessions().insert(&session).await?;
        Ok((session, refresh))
    }

    fn tokens(&self, user: &User, session: &Session, refresh: Secret, prepared: &Prepared) -> Result<Tokens> {
        let login = Login { user: user.id, session: session.id };
        let (access, access_expires_at) = prepared.signer.issue(self.cx, login)?;
        Ok(Tokens {
            access,
            access_expires_at,
            refresh,
            refresh_expires_at: session.expires_at,
            user: account(user, &prepared.roles),
        })
    }

    /// Exchanges a refresh token for new tokens. It can be exchanged once: if it is sent again, somebody else may have
    /// it, so its session ends, and all tokens of the session are void.
    ///
    /// # Errors
    /// `Unauthenticated` if the token is not valid or was used, or if the session has ended; `Unavailable`.
    pub async fn refresh(&self, token: &Secret) -> Result<Tokens> {
        let (parts, family) = RefreshToken::parse(token).ok_or(Error::Unauthenticated)?;
        let prepared = self.prepared().await?;
        let exchange = |mut tx: Tx<'static>| async move {
            tx.started();
            let now = self.cx.now();
            let Some(user_id) = tx.sessions().get(parts.session).await?.map(|session| session.user_id) else {
                return Err(Error::Unauthenticated);
            };
            // Users are locked before their sessions.
            let user = tx.users().lock(user_id).await?.filter(User::is_active);
            let session = tx.sessions().lock(parts.session).await?.filter(|session| session.is_active(now));
            let (Some(user), Some(mut session)) = (user, session) else { return Err(Error::Unauthenticated) };
            if session.family != parts.family {
                return Err(Error::Unauthenticated);
            }
            if session.token != parts.token {
                tx.note(Notice::SessionReused { session: session.id, user: user.id });
                end(&mut tx, &mut session, now, SessionEnd::Reuse, &user.actor()).await?;
                return tx.ended(Ok(None)).map(|done| (done, tx));
            }
            let (refresh, next) = RefreshToken::compose(session.id, family, half(&self.cx.ids.secret(), 0));
            session.token = next.token;
            session.refreshed_at = now;
            session.expires_at = now + self.cx.config.session_ttl;
            tx.sessions().update(&session).await?;
            tx.ended(Ok(Some((user, session, refresh)))).map(|done| (done, tx))
        };
        let (user, session, refresh) = self.cx.write(exchange).await?.ok_or(Error::Unauthenticated)?;
        self.tokens(&user, &session, refresh, &prepared)
    }

    /// Ends the session of a principal. Its tokens are void at once in this process, and in other processes as R15
    /// says. Ending a session that has ended changes nothing.
    ///
    /// # Errors
    /// `Unauthenticated` if the principal has no session, `Unavailable`.
    pub async fn logout(&self, who: &Principal) -> Result<()> {
        let login = who.login().ok_or(Error::Unauthenticated)?;
        self.end_session(login.session, login.user).await
    }

    /// Ends the session of a refresh token, also of one that was used. A text that is no such token ends none.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn logout_by_refresh(&self, token: &Secret) -> Result<()> {
        let Some((parts, _)) = RefreshToken::parse(token) else { return Ok(()) };
        let found = self.cx.storage.connect().await?.sessions().get(parts.session).await?;
        match found.filter(|session| session.family == parts.family) {
            Some(session) => self.end_session(session.id, session.user_id).await,
            None => Ok(()),
        }
    }

    async fn end_session(&self, id: SessionId, user: UserId) -> Result<()> {
        let finish = |mut tx: Tx<'static>| async move {
            tx.started();
            let now = self.cx.now();
            tx.users().lock(user).await?;
            let found = tx.sessions().lock(id).await?;
            if let Some(mut session) = found.filter(|session| session.ended.is_none()) {
                end(&mut tx, &mut session, now, SessionEnd::Logout, &actor_of(user)).await?;
            }
            tx.ended(Ok(())).map(|()| ((), tx))
        };
        self.cx.write(finish).await
    }

    /// Returns the user of a principal.
    ///
    /// # Errors
    /// `Unauthenticated` if the principal has no session, `Unavailable`.
    pub async fn me(&self, who: &Principal) -> Result<UserAccount> {
        let login = who.login().ok_or(Error::Unauthenticated)?;
        let found = self.cx.storage.connect().await?.users().get(login.user, IncludeDeleted::No).await?;
        let user = found.ok_or(Error::Unauthenticated)?;
        Ok(account(&user, &Roles::load(self.cx).await?.value))
    }

    /// Merges a patch into the user of a principal (RFC 7396, R1), and returns the user.
    ///
    /// If the patch contains the name, the email address of the user is verified and the user has no customer yet, the
    /// user becomes a customer under the conditions of [`Self::verify_email`], with the same effects: the orders that
    /// guests have placed with the address become those of the customer.
    ///
    /// # Errors
    /// `Unauthenticated` if the principal has no session or its user is blocked or deleted, `VERSION_CONFLICT`,
    /// `VERSION_REQUIRED`, `Validation` on `name`, `Unavailable`.
    pub async fn update_profile(
        &self,
        who: &Principal,
        expected: ExpectedVersion,
        patch: ProfilePatch,
    ) -> Result<UserAccount> {
        let login = who.login().ok_or(Error::Unauthenticated)?;
        let expected = expected.or_named(patch.version)?;
        let patch = &patch.check()?;
        let merge = |mut tx: Tx<'static>| async move {
            tx.started();
            let user = tx.users().get(login.user, IncludeDeleted::No).await?.filter(User::is_active);
            let user = user.ok_or(Error::Unauthenticated)?;
            expected.check(Entity::User, user.id, user.audit.version, self.cx.config.last_write_wins)?;
            let rename = |user: &mut User| patch.name.clone().apply(&mut user.name);
            let becomes_customer =
                patch.name.is_present() && user.email_verified_at.is_some() && user.customer_id.is_none();
            let edit = if becomes_customer {
                OwnEdit::with_customer(self.cx, &mut tx, &user, rename).await?
            } else {
                OwnEdit::alone(&mut tx, &user, rename).await?
            };
            let edited = edit.write(self.cx, &mut tx, None).await?;
            let roles = Roles::load_in(&mut tx).await?;
            tx.ended(Ok(account(&edited, &roles))).map(|done| (done, tx))
        };
        self.cx.write(merge).await
    }

    /// Registers a customer: creates a user with the role `customer`, begins a session, and sends a mail with which the
    /// user verifies its email address ([`Self::verify_email`]). Until then, the user is not linked to a customer.
    ///
    /// # Errors
    /// `Validation`, also for roles and a customer, which only somebody with the permission can give, and for an email
    /// address that is not spelled like its unique key, apart from the case of ASCII letters, such as one with `ß` for
    /// `ss`; `DUPLICATE` for an email that a user has; `Unavailable`, also if too many passwords wait to be hashed.
    pub async fn register(&self, input: &UserInput, user_agent: Option<&str>) -> Result<Tokens> {
        let mut errors = ValidationErrors::default();
        if !input.roles.is_empty() {
            errors.push("roles", FieldCode::OutOfBounds, "must be absent");
        }
        if input.customer_id.is_some() {
            errors.push("customer_id", FieldCode::OutOfBounds, "must be absent");
        }
        if input.password.is_none() {
            errors.push("password", FieldCode::Required, "is required");
        }
        check_spelling(input.email.trim(), &mut errors);
        errors.into_result()?;
        let values = input.check()?;
        let secret = values.password.clone().unwrap_or_else(|| Secret::new(""));
        let password = self.cx.passwords.hash(&secret, self.cx.ids.secret()).await?;
        let prepared = self.prepared().await?;
        let (values, password) = (&values, &password);
        let create = |mut tx: Tx<'static>| async move {
            tx.started();
            let now = self.cx.now();
            let id = UserId(self.cx.ids.next());
            let user = User {
                id,
                email: values.email.clone(),
                email_verified_at: None,
                name: values.name.clone(),
                password: Some(password.clone()),
                password_set_at: Some(now),
                roles: vec![BuiltInRole::Customer.id()],
                customer_id: None,
                blocked_at: None,
                audit: Audit::created(now, &actor_of(id)),
            };
            tx.users().insert(&user).await?;
            let created = Change::created(EventKind::UserCreated, &user, &user.actor());
            tx.emit_all(vec![created, verification_of(&user, &user.actor())]).await?;
            let begun = self.begin(&mut tx, &user, user_agent).await?;
            tx.ended(Ok((begun, user))).map(|done| (done, tx))
        };
        let ((session, refresh), user) = self.cx.write(create).await?;
        self.tokens(&user, &session, refresh, &prepared)
    }

    /// Changes the password of the user of a principal. All its other sessions end, and the tokens of mails that were
    /// sent to it before are void.
    ///
    /// # Errors
    /// `Unauthenticated` if the principal has no session, `InvalidCredentials` if `old` is not its password,
    /// `Validation` on `password` if `new` cannot be one, `Unavailable`.
    pub async fn change_password(&self, who: &Principal, old: &Secret, new: &Secret) -> Result<()> {
        let login = who.login().ok_or(Error::Unauthenticated)?;
        let found = self.cx.storage.connect().await?.users().get(login.user, IncludeDeleted::No).await?;
        let user = found.ok_or(Error::Unauthenticated)?;
        let mut errors = ValidationErrors::default();
        check_password("password", new, &user.email, &mut errors);
        errors.into_result()?;
        let (_, address) = address(&user.email)?;
        let turn = self.attempt(&address).await?;
        if !turn.verify(old, user.password.as_ref()).await? {
            return Err(Error::InvalidCredentials);
        }
        let hash = turn.hash(new, self.cx.ids.secret()).await?;
        drop(turn);
        let (hash, set_at) = (&hash, user.password_set_at);
        let change = |mut tx: Tx<'static>| async move {
            tx.started();
            let now = self.cx.now();
            let before = tx.users().lock(login.user).await?.filter(User::is_active);
            let before = before.filter(|user| user.password_set_at == set_at).ok_or(Error::InvalidCredentials)?;
            tx.sessions().clear_failures(&address).await?;
            let mut after = before.clone();
            after.password = Some(hash.clone());
            after.password_set_at = Some(now);
            after.audit.edited(now, who.actor());
            tx.users().update(&before, &after).await?;
            tx.sessions().remove_tokens(after.id).await?;
            tx.emit(Change::edited(EventKind::UserUpdated, &before, &after, who.actor())).await?;
            let active = tx.sessions().active(login.user, now).await?;
            for mut other in active {
                if other.id != login.session {
                    end(&mut tx, &mut other, now, SessionEnd::PasswordChanged, who.actor()).await?;
                }
            }
            tx.ended(Ok(())).map(|()| ((), tx))
        };
        self.cx.write(change).await
    }

    /// Replaces all keys that sign access tokens by a new one, for example after
    /// [`SecretKey`](crate::access::SecretKey) has become known to others. Access tokens that were signed before become
    /// void: in this process at once, and in other processes within the limits of R15. Sessions go on: their refresh
    /// tokens lead to new access tokens. Without a secret key, each process has keys of its own, and the call replaces
    /// those of this one.
    ///
    /// # Errors
    /// [`Forbidden`](Error::Forbidden) without the permission `signing_keys:write`, `Unavailable`.
    pub async fn replace_keys(&self, who: &Principal) -> Result<()> {
        who.require(Permission::SigningKeysWrite)?;
        token::replace(self.cx, who.actor()).await?;
        tracing::info!(actor = who.actor().as_str(), "the keys of access tokens were replaced");
        Ok(())
    }

    /// Returns the public keys that verify access tokens, as a JSON Web Key Set (RFC 7517).
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn key_set(&self) -> Result<serde_json::Value> {
        token::key_set(self.cx).await
    }
}

/// Ends a session that the transaction has locked.
async fn end(tx: &mut Tx<'_>, session: &mut Session, now: Timestamp, reason: SessionEnd, actor: &Actor) -> Result<()> {
    session.ended = Some((now, reason));
    tx.sessions().update(session).await?;
    tx.emit(Change::event_only(EventKind::SessionEnded, session.id, 1, actor)).await
}

/// Returns an email address without spaces around it, and its hash, by which failed logins are counted.
pub(super) fn address(email: &str) -> Result<(&str, SecretHash)> {
    let email = email.trim();
    if email.len() > 1_024 {
        return Err(Error::InvalidCredentials);
    }
    Ok((email, SecretHash::of(fold_key(email).as_bytes())))
}

/// Logs and counts a login that was refused.
fn log_failure(user: Option<UserId>) {
    metrics::count(metrics::LOGINS_REFUSED_TOTAL, &[], 1);
    let (event, user) = (log_event::LOGIN_FAILED, user.map(tracing::field::display));
    tracing::info!(target: log_event::TARGET, event, user, "a login was refused");
}

fn half(random: &[u8; 32], n: usize) -> [u8; 16] {
    std::array::from_fn(|i| random[n * 16 + i])
}
