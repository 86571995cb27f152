//! Access tokens: JSON Web Tokens (RFC 7519, RFC 9068) that the shop signs.
//!
//! The keys that sign are stored encrypted in the setting `signing_keys`, so that all processes of a shop have the same
//! ones. They are read through the cache, so that adding or replacing a key takes effect within the limits of R15.
//! The id of a key is authenticated by the secret key of the shop: a process that meets an unknown id reads the setting
//! at once only if the shop has made the id, so that made-up ids do not cost a read each.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::{Mutex, RwLock};
use ring::hmac;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;
use uuid::Uuid;

use super::auth::GRANT_TTL;
use super::crypto::{self, SecretKey};
use super::jws::{Jws, SigningKey, VerifyingKey};
use crate::clock::Timestamp;
use crate::domain::access::principal::{Login, Principal};
use crate::domain::access::secret::Secret;
use crate::domain::common::Actor;
use crate::domain::platform::outbox::EventKind;
use crate::domain::platform::setting::{Setting, SettingName};
use crate::domain::words::words;
use crate::error::{Error, Result};
use crate::id::{SessionId, UserId};
use crate::port::cache::CacheKey;
use crate::port::storage::Repositories as _;
use crate::service::run::context::Context;
use crate::service::run::read_through::Cached;
use crate::service::run::transaction::{Change, Tx};

words! {
    /// The algorithm by which access tokens are signed.
    TokenAlgorithm {
        /// Ed25519 (RFC 8037). Other services can verify the tokens with the public keys of `/auth/jwks.json`.
        EdDsa = "eddsa",
        /// HMAC with SHA-256. Only the shop can verify the tokens.
        Hs256 = "hs256",
    }
}

impl TokenAlgorithm {
    /// Returns the name in headers of tokens.
    const fn name(self) -> &'static str {
        match self {
            Self::EdDsa => "EdDSA",
            Self::Hs256 => "HS256",
        }
    }

    const fn of_older_keys() -> Self {
        Self::EdDsa
    }
}

/// The header type of access tokens, which prevents other tokens from being accepted as access tokens (RFC 9068, 2.1).
const TYPE: &str = "at+jwt";
/// The audience of access tokens.
const AUDIENCE: &str = "ecom";
/// The maximum length of a token, in characters. A token of the shop has some 450.
const MAX_LENGTH: usize = 4_096;
/// How long a replaced key still verifies tokens: the longest lifetime of an access token (24 h), and one hour more.
const VERIFIES_FOR: Duration = Duration::from_secs(25 * 60 * 60);
/// The minimum time between two reads of the keys because of ids that the shop has not made, such as those of processes
/// with another secret key.
const REREAD: Duration = Duration::from_secs(5);
/// How far the clocks of processes may differ. A token that was issued later is refused.
const LEEWAY: Duration = Duration::from_secs(60);
/// The length of the part of the id of a key by which the shop recognizes it, in characters.
const MARK: usize = 16;

/// The claims of an access token.
#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    sub: UserId,
    sid: SessionId,
    iat: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    nbf: Option<i64>,
    exp: i64,
}

/// A key as the setting stores it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct StoredKey {
    kid: String,
    #[serde(default = "TokenAlgorithm::of_older_keys")]
    algorithm: TokenAlgorithm,
    /// The public key, as base64 for URLs; empty for HMAC.
    public: String,
    /// The private key, encrypted, as base64 for URLs.
    sealed: String,
    created_at: Timestamp,
}

/// The keys of a shop, as they are cached.
type Stored = Arc<Cached<Vec<StoredKey>>>;

/// A key that is ready for use.
struct Key {
    algorithm: TokenAlgorithm,
    signs: Option<SigningKey>,
    verifies: VerifyingKey,
    created_at: Timestamp,
}

/// The keys that are ready for use, by their ids.
struct Keys(BTreeMap<String, Key>);

/// The keys that sign and verify access tokens.
pub(crate) struct TokenKeys {
    /// The secret key of the shop, or that of this process, which is made when it is first needed.
    secret: OnceLock<SecretKey>,
    /// The keys of this process, if the shop has no secret key.
    own: Option<RwLock<Stored>>,
    /// The ids that the shop has made and does not have any more. No key gets such an id again.
    gone: moka::sync::Cache<String, ()>,
    /// When the keys were last read because of an id that the shop has not made.
    read_at: Mutex<Option<Timestamp>>,
    /// Held while keys are made or read because of an unknown id, so that one caller does it for all.
    turn: tokio::sync::Mutex<()>,
}

impl std::fmt::Debug for TokenKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenKeys").finish_non_exhaustive()
    }
}

impl TokenKeys {
    /// Returns the keys of a shop. Without a secret key, they belong to this process alone.
    pub fn new(secret: Option<SecretKey>) -> Self {
        let own = secret.is_none().then(|| RwLock::new(Arc::new(Cached::new(Vec::new()))));
        Self {
            secret: secret.map_or_else(OnceLock::new, OnceLock::from),
            own,
            gone: moka::sync::Cache::builder().max_capacity(1_000).build(),
            read_at: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
        }
    }
}

/// A token that was verified, except whether its session goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verified {
    pub login: Login,
    pub expires_at: Timestamp,
    kid: String,
}

/// A key that is ready to sign.
pub(crate) struct Signer {
    keys: Stored,
    kid: String,
}

impl Signer {
    /// Returns an access token of a session, and when it expires.
    ///
    /// # Errors
    /// `Internal`.
    pub fn issue(&self, cx: &Context, login: Login) -> Result<(Secret, Timestamp)> {
        let now = cx.now();
        let expires_at = now + cx.config.access_token_ttl;
        let claims = Claims {
            iss: cx.config.token_issuer.clone(),
            aud: AUDIENCE.to_owned(),
            sub: login.user,
            sid: login.session,
            iat: now.timestamp(),
            nbf: None,
            exp: expires_at.timestamp(),
        };
        let key = ready(cx, &self.keys).0.get(&self.kid).and_then(|key| key.signs.as_ref());
        let key = key.ok_or(Error::Internal { context: "a signing key", source: None })?;
        Ok((Secret::new(key.sign(TYPE, &self.kid, &claims)?), expires_at))
    }
}

/// Returns the key that signs. Makes one if there is none, or if the newest has come of age.
///
/// # Errors
/// `Unavailable` if the keys cannot be read or written.
pub(crate) async fn signer(cx: &Arc<Context>) -> Result<Signer> {
    if let Some(signer) = newest(cx, load(cx).await?) {
        return Ok(signer);
    }
    let _turn = cx.token_keys.turn.lock().await;
    if let Some(signer) = newest(cx, load(cx).await?) {
        return Ok(signer);
    }
    let made = make(cx)?;
    let keys = write(cx, Principal::system().actor(), |keys| {
        let now = cx.now();
        if keys.iter().any(|key| is_able(cx, key, now)) {
            return None;
        }
        let mut keys = keys.to_vec();
        // Drops those whose tokens have all expired.
        keys.retain(|key| now < key.created_at + cx.config.signing_key_lifetime + VERIFIES_FOR);
        keys.push(made.clone());
        Some(keys)
    });
    newest(cx, keys.await?).ok_or(Error::Internal { context: "a signing key", source: None })
}

/// Replaces all keys by a new one, so that every token that was signed before is void.
///
/// # Errors
/// `Unavailable`.
pub(crate) async fn replace(cx: &Arc<Context>, actor: &Actor) -> Result<()> {
    let _turn = cx.token_keys.turn.lock().await;
    let made = make(cx)?;
    write(cx, actor, |_| Some(vec![made.clone()])).await.map(drop)
}

/// Verifies an access token: its signature, type, issuer and audience, and that it was not issued in the future. It
/// checks neither whether the token has expired nor whether its session is still active: the caller, which remembers
/// the token, does both each time.
///
/// # Errors
/// `Unauthenticated`, `Unavailable`.
pub(crate) async fn verify(cx: &Arc<Context>, token: &Secret) -> Result<Verified> {
    let refused = || Error::Unauthenticated;
    if token.reveal().len() > MAX_LENGTH {
        return Err(refused());
    }
    let jws = Jws::parse(token.reveal()).ok_or_else(refused)?;
    // The shop chooses the algorithm, never the token.
    let algorithm = cx.config.token_algorithm;
    if jws.header.alg != algorithm.name() || !jws.header.typ.as_deref().is_some_and(|t| t.eq_ignore_ascii_case(TYPE)) {
        return Err(refused());
    }
    let kid = jws.header.kid.as_deref().ok_or_else(refused)?;
    let keys = with_key(cx, kid).await?.ok_or_else(refused)?;
    let key = ready(cx, &keys).0.get(kid).filter(|key| key.algorithm == algorithm).ok_or_else(refused)?;
    let Claims { iss, aud, sub, sid, iat, nbf, exp } = jws.verified(&key.verifies).ok_or_else(refused)?;
    let latest = (cx.now() + LEEWAY).timestamp();
    if iss != cx.config.token_issuer || aud != AUDIENCE || iat > latest || nbf.is_some_and(|t| t > latest) {
        return Err(refused());
    }
    let expires_at = Timestamp::from_timestamp(exp, 0).ok_or_else(refused)?;
    Ok(Verified { login: Login { user: sub, session: sid }, expires_at, kid: kid.to_owned() })
}

/// Returns whether the key that has signed a verified token is still accepted.
///
/// # Errors
/// `Unavailable`.
pub(crate) async fn is_current(cx: &Arc<Context>, verified: &Verified) -> Result<bool> {
    Ok(ready(cx, &load(cx).await?).0.contains_key(&verified.kid))
}

/// As [`is_current`], without waiting; `None` if the memory of this process does not have the keys.
pub(crate) fn is_current_now(cx: &Context, verified: &Verified) -> Option<bool> {
    let keys = match &cx.token_keys.own {
        Some(own) => own.read().clone(),
        None => cx.cache.local(&CACHE_KEY)?,
    };
    Some(ready(cx, &keys).0.contains_key(&verified.kid))
}

/// Returns the public keys as a JSON Web Key Set (RFC 7517), with which other services verify access tokens. It is
/// empty if the tokens are signed by HMAC.
///
/// # Errors
/// `Unavailable`.
pub(crate) async fn key_set(cx: &Arc<Context>) -> Result<serde_json::Value> {
    let mut keys = Vec::new();
    if cx.config.token_algorithm == TokenAlgorithm::EdDsa {
        for key in signer(cx).await?.keys.iter().filter(|key| key.algorithm == TokenAlgorithm::EdDsa) {
            keys.push(serde_json::json!({
                "kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": key.kid, "x": key.public
            }));
        }
    }
    Ok(serde_json::json!({ "keys": keys }))
}

const CACHE_KEY: CacheKey = CacheKey::Setting(SettingName::SigningKeys.id());

/// Returns the keys through the cache.
async fn load(cx: &Context) -> Result<Stored> {
    if let Some(own) = &cx.token_keys.own {
        return Ok(own.read().clone());
    }
    let found = cx.cache.get_or_load(CACHE_KEY, GRANT_TTL, async { Ok(Some(read(cx).await?)) }).await?;
    found.map(|found| found.value).ok_or(Error::Internal { context: "the signing keys", source: None })
}

/// Returns the keys from the database.
async fn read(cx: &Context) -> Result<Vec<StoredKey>> {
    Ok(stored(&cx.storage.connect().await?.settings().get(SettingName::SigningKeys).await?))
}

fn stored(setting: &Setting) -> Vec<StoredKey> {
    let entries = setting.value.as_array().into_iter().flatten();
    entries.filter_map(|entry| StoredKey::deserialize(entry).ok()).collect()
}

/// Returns keys among which is the one with this id; `None` if the shop has no such key.
async fn with_key(cx: &Arc<Context>, kid: &str) -> Result<Option<Stored>> {
    let has = |keys: &Stored| ready(cx, keys).0.contains_key(kid);
    let known = load(cx).await?;
    if has(&known) {
        return Ok(Some(known));
    }
    let keys = &cx.token_keys;
    let is_made = is_made_by_the_shop(cx, kid);
    let may_read = || {
        let is_due = |at: Timestamp| !(at..at + REREAD).contains(&cx.now());
        if is_made { !keys.gone.contains_key(kid) } else { keys.read_at.lock().is_none_or(is_due) }
    };
    if keys.own.is_some() || !may_read() {
        return Ok(None);
    }
    let _turn = keys.turn.lock().await;
    let known = load(cx).await?;
    if has(&known) {
        return Ok(Some(known));
    }
    if !may_read() {
        return Ok(None);
    }
    if !is_made {
        *keys.read_at.lock() = Some(cx.now());
    }
    let found = Arc::new(Cached::new(read(cx).await?));
    if has(&found) {
        // Another process has added the key, and this one has not learned of it yet.
        cx.cache.invalidate_local(&[CACHE_KEY]).await;
        return Ok(Some(found));
    }
    if is_made {
        keys.gone.insert(kid.to_owned(), ());
    }
    Ok(None)
}

/// Returns the secret by which keys are encrypted.
fn secret(cx: &Context) -> &SecretKey {
    cx.token_keys.secret.get_or_init(|| SecretKey::from_random(cx.ids.secret()))
}

/// Returns the part of the id of a key by which the shop recognizes that it has made the id.
fn mark(cx: &Context, id: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, &secret(cx).derive("ids of signing keys"));
    let digest = hmac::sign(&key, id.as_bytes());
    let mut mark = URL_SAFE_NO_PAD.encode(digest);
    mark.truncate(MARK);
    mark
}

fn is_made_by_the_shop(cx: &Context, kid: &str) -> bool {
    let parts = kid.len().checked_sub(MARK).and_then(|at| kid.split_at_checked(at));
    parts.is_some_and(|(id, found)| mark(cx, id).as_bytes().ct_eq(found.as_bytes()).into())
}

/// Returns the keys of the shop, ready for use. A key that this process cannot decrypt still verifies, if it is public.
fn ready<'k>(cx: &Context, keys: &'k Stored) -> &'k Keys {
    keys.attached(|stored| {
        let ready = |key: &StoredKey| {
            let private = unsealed(cx, key);
            if private.is_none() {
                tracing::warn!(kid = key.kid, "a signing key was encrypted with another secret key of the shop");
            }
            let verifies = match key.algorithm {
                TokenAlgorithm::EdDsa => VerifyingKey::Ed25519(URL_SAFE_NO_PAD.decode(&key.public).ok()?),
                TokenAlgorithm::Hs256 => VerifyingKey::Hmac(hmac::Key::new(hmac::HMAC_SHA256, private.as_ref()?)),
            };
            let signs = private.and_then(|private| match key.algorithm {
                TokenAlgorithm::EdDsa => SigningKey::ed25519(&private),
                TokenAlgorithm::Hs256 => Some(SigningKey::hmac(&private)),
            });
            Some((key.kid.clone(), Key { algorithm: key.algorithm, signs, verifies, created_at: key.created_at }))
        };
        Keys(stored.iter().filter_map(ready).collect())
    })
}

fn unsealed(cx: &Context, key: &StoredKey) -> Option<Vec<u8>> {
    secret(cx).open(&purpose(&key.kid), &URL_SAFE_NO_PAD.decode(&key.sealed).ok()?)
}

fn purpose(kid: &str) -> String {
    format!("signing key {kid}")
}

/// Returns whether a key may still sign.
fn is_able(cx: &Context, key: &StoredKey, now: Timestamp) -> bool {
    let is_young = now < key.created_at + cx.config.signing_key_lifetime;
    is_young && key.algorithm == cx.config.token_algorithm && unsealed(cx, key).is_some()
}

/// Returns the newest key that may sign.
fn newest(cx: &Context, keys: Stored) -> Option<Signer> {
    let is_young = |key: &Key| cx.now() < key.created_at + cx.config.signing_key_lifetime;
    let able = ready(cx, &keys)
        .0
        .iter()
        .filter(|(_, key)| key.signs.is_some() && key.algorithm == cx.config.token_algorithm && is_young(key));
    let (kid, _) = able.max_by_key(|(kid, key)| (key.created_at, *kid))?;
    let kid = kid.clone();
    Some(Signer { keys, kid })
}

/// Returns a new key.
fn make(cx: &Context) -> Result<StoredKey> {
    let algorithm = cx.config.token_algorithm;
    let id = Uuid::simple(cx.ids.next()).to_string();
    let kid = format!("{id}{}", mark(cx, &id));
    let random = cx.ids.secret();
    let (private, public) = match algorithm {
        TokenAlgorithm::EdDsa => crypto::ed25519(random)?,
        TokenAlgorithm::Hs256 => (random.to_vec(), Vec::new()),
    };
    let sealed = secret(cx).seal(&purpose(&kid), &private, cx.ids.secret())?;
    let (public, sealed) = (URL_SAFE_NO_PAD.encode(public), URL_SAFE_NO_PAD.encode(sealed));
    Ok(StoredKey { kid, algorithm, public, sealed, created_at: cx.now() })
}

/// Changes the keys, and returns what is stored then. `change` returns `None` if nothing needs to be written.
async fn write(
    cx: &Arc<Context>,
    actor: &Actor,
    change: impl Fn(&[StoredKey]) -> Option<Vec<StoredKey>>,
) -> Result<Stored> {
    if let Some(own) = &cx.token_keys.own {
        let mut own = own.write();
        if let Some(keys) = change(&own) {
            *own = Arc::new(Cached::new(keys));
        }
        return Ok(own.clone());
    }
    let change = &change;
    let write = |mut tx: Tx<'static>| async move {
        tx.started();
        let before = tx.settings().lock(SettingName::SigningKeys).await?;
        let found = stored(&before);
        let Some(keys) = change(&found) else { return tx.ended(Ok(found)).map(|keys| (keys, tx)) };
        let value = serde_json::to_value(&keys).map_err(|e| Error::internal("writing a setting", e))?;
        let mut after = Setting { value, ..before.clone() };
        after.audit.edited(cx.now(), actor);
        tx.settings().update(&before, &after).await?;
        tx.emit(Change::edited(EventKind::SettingChanged, &before, &after, actor)).await?;
        tx.ended(Ok(keys)).map(|keys| (keys, tx))
    };
    let keys = cx.write(write).await?;
    // If another process has made the key, this one may not have learned of it yet.
    cx.cache.invalidate_local(&[CACHE_KEY]).await;
    Ok(Arc::new(Cached::new(keys)))
}

/// Returns the id of the key that signs, and its private and public parts, for tests that forge tokens.
#[cfg(feature = "testkit")]
pub(crate) async fn revealed(cx: &Arc<Context>) -> Option<(String, Vec<u8>, Vec<u8>)> {
    let Signer { keys, kid } = signer(cx).await.ok()?;
    let key = keys.iter().find(|key| key.kid == kid)?;
    let (private, public) = (unsealed(cx, key)?, URL_SAFE_NO_PAD.decode(&key.public).ok()?);
    Some((kid, private, public))
}
