//! Access tokens: JSON Web Tokens (RFC 7519, RFC 9068) that the shop signs.
//!
//! The keys that sign are stored encrypted in the setting `signing_keys`, so that all processes of a shop have the same
//! ones. A process that meets a key which it does not know reads the setting again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::crypto::{self, SecretKey};
use crate::clock::Timestamp;
use crate::domain::access::principal::{Login, Principal};
use crate::domain::access::secret::Secret;
use crate::domain::platform::outbox::EventKind;
use crate::domain::platform::setting::{Setting, SettingName};
use crate::domain::words::words;
use crate::error::{Error, Result};
use crate::id::{SessionId, UserId};
use crate::port::storage::Repositories as _;
use crate::service::run::context::Context;

words! {
    /// The algorithm by which access tokens are signed.
    TokenAlgorithm {
        /// Ed25519 (RFC 8037). Other services can verify the tokens with the public keys of `/auth/jwks.json`.
        EdDsa = "eddsa",
        /// HMAC with SHA-256, with a key that is derived from the secret key of the shop. Only the shop can verify
        /// them.
        Hs256 = "hs256",
    }
}

/// The header type of access tokens, which prevents other tokens from being accepted as access tokens (RFC 9068, 2.1).
const TYPE: &str = "at+jwt";
/// The id of the key of HMAC.
const HMAC_ID: &str = "hs256";
/// The audience of access tokens.
const AUDIENCE: &str = "ecom";
/// How long a replaced key still verifies tokens: the longest lifetime of an access token (24 h), and one hour more.
const VERIFIES_FOR: Duration = Duration::from_secs(25 * 60 * 60);
/// The minimum time between two reads of the keys because of an unknown key.
const REREAD: Duration = Duration::from_secs(5);

/// The claims of an access token.
#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    sub: UserId,
    sid: SessionId,
    iat: i64,
    exp: i64,
}

/// A key as the setting stores it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct StoredKey {
    kid: String,
    /// The public key, as base64 for URLs.
    public: String,
    /// The private key, encrypted, as base64 for URLs.
    sealed: String,
    created_at: Timestamp,
}

/// A key that is ready for use.
struct Key {
    signs: Option<EncodingKey>,
    verifies: DecodingKey,
    created_at: Timestamp,
}

/// The keys of a process.
#[derive(Default)]
struct Known {
    keys: BTreeMap<String, Arc<Key>>,
    /// The newest key that can sign.
    newest: Option<String>,
    /// When the keys were last read.
    read_at: Option<Timestamp>,
}

/// The keys that sign and verify access tokens.
pub(crate) struct TokenKeys {
    secret: Option<SecretKey>,
    known: RwLock<Known>,
    /// Held while the keys are read, so that one caller reads them.
    reading: tokio::sync::Mutex<()>,
}

impl std::fmt::Debug for TokenKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenKeys").finish_non_exhaustive()
    }
}

impl TokenKeys {
    /// Returns the keys of a shop. Without a secret key, they belong to this process alone.
    pub fn new(secret: Option<SecretKey>) -> Self {
        crypto::install();
        Self { secret, known: RwLock::default(), reading: tokio::sync::Mutex::default() }
    }
}

/// A token that was verified, except whether its session goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Verified {
    pub login: Login,
    pub expires_at: Timestamp,
}

/// Returns an access token of a session, and when it expires.
///
/// # Errors
/// `Unavailable` if the keys cannot be read or written.
pub(crate) async fn issue(cx: &Arc<Context>, login: Login) -> Result<(Secret, Timestamp)> {
    let now = cx.now();
    let expires_at = now + cx.config.access_token_ttl;
    let claims = Claims {
        iss: cx.config.token_issuer.clone(),
        aud: AUDIENCE.to_owned(),
        sub: login.user,
        sid: login.session,
        iat: now.timestamp(),
        exp: expires_at.timestamp(),
    };
    let (algorithm, kid, key) = match cx.config.token_algorithm {
        TokenAlgorithm::EdDsa => {
            let (kid, key) = signing(cx).await?;
            (Algorithm::EdDSA, kid, key)
        }
        TokenAlgorithm::Hs256 => (Algorithm::HS256, HMAC_ID.to_owned(), hmac(cx)?),
    };
    let header = Header { typ: Some(TYPE.to_owned()), kid: Some(kid), ..Header::new(algorithm) };
    let signs = key.signs.as_ref().ok_or(Error::Internal { context: "a signing key", source: None })?;
    let token = jsonwebtoken::encode(&header, &claims, signs).map_err(|e| Error::internal("signing a token", e))?;
    Ok((Secret::new(token), expires_at))
}

/// Gets the key ready with which [`issue`] signs, for callers that cannot fail later.
///
/// # Errors
/// As [`issue`].
pub(crate) async fn prepare(cx: &Arc<Context>) -> Result<()> {
    match cx.config.token_algorithm {
        TokenAlgorithm::EdDsa => signing(cx).await.map(drop),
        TokenAlgorithm::Hs256 => hmac(cx).map(drop),
    }
}

/// Verifies an access token: its signature, type, issuer, audience and times. It does not check whether the session is
/// still active.
///
/// # Errors
/// `Unauthenticated`, `Unavailable`.
pub(crate) async fn verify(cx: &Arc<Context>, token: &Secret) -> Result<Verified> {
    let refused = || Error::Unauthenticated;
    // A token of the shop has some 400 characters.
    if token.reveal().len() > 4_096 {
        return Err(refused());
    }
    let header = jsonwebtoken::decode_header(token.reveal()).map_err(|_| refused())?;
    if !header.typ.as_deref().is_some_and(|typ| typ.eq_ignore_ascii_case(TYPE)) {
        return Err(refused());
    }
    // The shop chooses the algorithm, never the token.
    let (algorithm, key) = match cx.config.token_algorithm {
        TokenAlgorithm::EdDsa => {
            let kid = header.kid.as_deref().ok_or_else(refused)?;
            (Algorithm::EdDSA, verifying(cx, kid).await?.ok_or_else(refused)?)
        }
        TokenAlgorithm::Hs256 if header.kid.as_deref() == Some(HMAC_ID) => (Algorithm::HS256, hmac(cx)?),
        TokenAlgorithm::Hs256 => return Err(refused()),
    };
    let mut validation = Validation::new(algorithm);
    validation.set_audience(&[AUDIENCE]);
    validation.set_issuer(&[&cx.config.token_issuer]);
    validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
    // The times are compared with the clock of the shop below.
    validation.validate_exp = false;
    let claims = jsonwebtoken::decode::<Claims>(token.reveal(), &key.verifies, &validation).map_err(|_| refused())?;
    let Claims { sub, sid, exp, .. } = claims.claims;
    let expires_at = Timestamp::from_timestamp(exp, 0).ok_or_else(refused)?;
    if expires_at <= cx.now() {
        return Err(refused());
    }
    Ok(Verified { login: Login { user: sub, session: sid }, expires_at })
}

/// Returns the public keys as a JSON Web Key Set (RFC 7517), with which other services verify access tokens. It is
/// empty if the tokens are signed by HMAC.
///
/// # Errors
/// `Unavailable`.
pub(crate) async fn key_set(cx: &Arc<Context>) -> Result<serde_json::Value> {
    let mut keys = Vec::new();
    if cx.config.token_algorithm == TokenAlgorithm::EdDsa {
        signing(cx).await?;
        for (kid, key) in &cx.token_keys.known.read().keys {
            let public = key.verifies.try_get_as_bytes().map_err(|e| Error::internal("a public key", e))?;
            let x = URL_SAFE_NO_PAD.encode(public);
            keys.push(serde_json::json!({
                "kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": kid, "x": x
            }));
        }
    }
    Ok(serde_json::json!({ "keys": keys }))
}

/// Returns the key of HMAC.
fn hmac(cx: &Context) -> Result<Arc<Key>> {
    if let Some(key) = cx.token_keys.known.read().keys.get(HMAC_ID) {
        return Ok(key.clone());
    }
    let context = "tokens are signed by HMAC, which needs the secret key of the shop";
    let secret = cx.token_keys.secret.as_ref().ok_or(Error::Internal { context, source: None })?;
    let bytes = secret.derive("access tokens");
    let key = Arc::new(Key {
        signs: Some(EncodingKey::from_secret(&bytes)),
        verifies: DecodingKey::from_secret(&bytes),
        created_at: Timestamp::UNIX_EPOCH,
    });
    cx.token_keys.known.write().keys.insert(HMAC_ID.to_owned(), key.clone());
    Ok(key)
}

/// Returns the newest key and its id. Makes one if there is none, or if the newest has come of age.
async fn signing(cx: &Arc<Context>) -> Result<(String, Arc<Key>)> {
    let newest = |cx: &Context| {
        let known = cx.token_keys.known.read();
        let kid = known.newest.clone()?;
        let key = known.keys.get(&kid)?.clone();
        (key.created_at + cx.config.signing_key_lifetime > cx.now()).then_some((kid, key))
    };
    if let Some(found) = newest(cx) {
        return Ok(found);
    }
    let _turn = cx.token_keys.reading.lock().await;
    if let Some(found) = newest(cx) {
        return Ok(found);
    }
    if cx.token_keys.secret.is_some() {
        read(cx).await?;
        if let Some(found) = newest(cx) {
            return Ok(found);
        }
    }
    make(cx).await?;
    newest(cx).ok_or(Error::Internal { context: "a signing key", source: None })
}

/// Returns the key with an id; `None` if the shop has none.
async fn verifying(cx: &Arc<Context>, kid: &str) -> Result<Option<Arc<Key>>> {
    let known = |cx: &Context| cx.token_keys.known.read().keys.get(kid).filter(|_| kid != HMAC_ID).cloned();
    if let Some(key) = known(cx) {
        return Ok(Some(key));
    }
    let is_fresh =
        |cx: &Context| cx.token_keys.known.read().read_at.is_some_and(|at| (at..at + REREAD).contains(&cx.now()));
    if cx.token_keys.secret.is_none() || is_fresh(cx) {
        return Ok(None);
    }
    let _turn = cx.token_keys.reading.lock().await;
    if !is_fresh(cx) {
        read(cx).await?;
    }
    Ok(known(cx))
}

/// Reads the keys from the database.
async fn read(cx: &Arc<Context>) -> Result<()> {
    let setting = cx.storage.connect().await?.settings().get(SettingName::SigningKeys).await?;
    learn(cx, &stored(&setting));
    Ok(())
}

fn stored(setting: &Setting) -> Vec<StoredKey> {
    let entries = setting.value.as_array().into_iter().flatten();
    entries.filter_map(|entry| StoredKey::deserialize(entry).ok()).collect()
}

/// Takes over stored keys. A key that this shop cannot decrypt still verifies.
fn learn(cx: &Context, stored: &[StoredKey]) {
    let mut keys = BTreeMap::new();
    for key in stored {
        let Ok(verifies) = DecodingKey::from_ed_components(&key.public) else { continue };
        let private = URL_SAFE_NO_PAD.decode(&key.sealed).ok().zip(cx.token_keys.secret.as_ref());
        let private = private.and_then(|(sealed, secret)| secret.open(&purpose(&key.kid), &sealed));
        if private.is_none() {
            tracing::warn!(kid = key.kid, "a signing key was encrypted with another secret key of the shop");
        }
        let signs = private.map(|der| EncodingKey::from_ed_der(&der));
        keys.insert(key.kid.clone(), Arc::new(Key { signs, verifies, created_at: key.created_at }));
    }
    let mut known = cx.token_keys.known.write();
    let able = keys.iter().filter(|(_, key)| key.signs.is_some());
    known.newest = able.max_by_key(|(kid, key)| (key.created_at, (*kid).clone())).map(|(kid, _)| kid.clone());
    known.keys = keys;
    known.read_at = Some(cx.now());
}

fn purpose(kid: &str) -> String {
    format!("signing key {kid}")
}

/// Makes a key, unless another process has just made one. Drops those whose tokens have all expired.
async fn make(cx: &Arc<Context>) -> Result<()> {
    let now = cx.now();
    let kid = Uuid::simple(cx.ids.next()).to_string();
    let (private, public) = crypto::ed25519(cx.ids.secret())?;
    let Some(secret) = &cx.token_keys.secret else {
        let key = Key {
            signs: Some(EncodingKey::from_ed_der(&private)),
            verifies: DecodingKey::from_ed_der(&public),
            created_at: now,
        };
        let mut known = cx.token_keys.known.write();
        known.keys.retain(|_, key| now < key.created_at + cx.config.signing_key_lifetime + VERIFIES_FOR);
        known.keys.insert(kid.clone(), Arc::new(key));
        known.newest = Some(kid);
        return Ok(());
    };
    let made = StoredKey {
        sealed: URL_SAFE_NO_PAD.encode(secret.seal(&purpose(&kid), &private, cx.ids.secret())?),
        public: URL_SAFE_NO_PAD.encode(&public),
        kid,
        created_at: now,
    };
    let made = &made;
    let write = |mut tx: crate::Tx<'static>| async move {
        tx.started();
        let before = tx.settings().lock(SettingName::SigningKeys).await?;
        let mut keys = stored(&before);
        let opens = |key: &StoredKey| {
            let sealed = URL_SAFE_NO_PAD.decode(&key.sealed).unwrap_or_default();
            secret.open(&purpose(&key.kid), &sealed).is_some()
        };
        let is_young = |key: &StoredKey| now < key.created_at + cx.config.signing_key_lifetime;
        if keys.iter().any(|key| is_young(key) && opens(key)) {
            return tx.ended(Ok(keys)).map(|keys| (keys, tx));
        }
        keys.retain(|key| now < key.created_at + cx.config.signing_key_lifetime + VERIFIES_FOR);
        keys.push(made.clone());
        let value = serde_json::to_value(&keys).map_err(|e| Error::internal("writing a setting", e))?;
        let mut after = Setting { value, ..before.clone() };
        let actor = Principal::system().actor();
        after.audit.edited(now, actor);
        tx.settings().update(&before, &after).await?;
        tx.emit(EventKind::SettingChanged, after.id, after.audit.version, actor, []).await?;
        tx.ended(Ok(keys)).map(|keys| (keys, tx))
    };
    let keys = cx.write(write).await?;
    learn(cx, &keys);
    Ok(())
}
