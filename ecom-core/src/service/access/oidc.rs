//! Tokens of an issuer of OpenID Connect, which its published keys verify.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::RwLock;
use ring::signature::RsaPublicKeyComponents;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use tokio::sync::Semaphore;

use super::jws::{Jws, VerifyingKey};
use crate::clock::Timestamp;
use crate::domain::access::oidc::{OidcConfig, SignatureAlgorithm, actor_of};
use crate::domain::access::secret::Secret;
use crate::domain::common::Actor;
use crate::error::{Dependency, Error, Result, WithCauses};
use crate::port::access::key_set::KeySetSource;
use crate::service::run::context::Context;

/// The maximum size of a token, in bytes. A larger one is refused without being parsed.
const MAX_LENGTH: usize = 16 * 1024;
/// The maximum number of keys of a set that are read.
const MAX_KEYS: usize = 100;
/// The time limit of a fetch, whatever the source does.
const FETCH_LIMIT: Duration = Duration::from_secs(15);
/// How many callers may wait for a fetch.
const WAITING: usize = 64;

/// An issuer of OpenID Connect whose tokens a shop accepts, with the source of its keys.
#[derive(Debug, Clone)]
pub struct OidcIssuer {
    /// The settings.
    pub config: OidcConfig,
    /// The source of the keys.
    pub keys: Arc<dyn KeySetSource>,
}

/// The keys of the issuer, and when they were fetched.
#[derive(Default)]
struct State {
    keys: Option<(Arc<KeySet>, Timestamp)>,
    /// When the last fetch began.
    tried_at: Option<Timestamp>,
}

/// The verifier of the tokens of an issuer.
pub(crate) struct Oidc {
    config: OidcConfig,
    source: Arc<dyn KeySetSource>,
    state: RwLock<State>,
    /// Held by the fetch that is under way.
    turn: tokio::sync::Mutex<()>,
    waiting: Semaphore,
}

impl std::fmt::Debug for Oidc {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Oidc").field("config", &self.config).field("source", &self.source).finish_non_exhaustive()
    }
}

/// The caller that a verified token names.
pub(crate) struct Identity {
    pub actor: Actor,
    /// The names of the roles to which its claims are mapped, sorted.
    pub roles: Vec<String>,
    /// When the token expires, with the leeway.
    pub expires_at: Timestamp,
    /// The keys that have verified it.
    keys: Arc<KeySet>,
}

/// The registered claims (RFC 7519, OpenID Connect Core 2).
#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: Audience,
    exp: f64,
    nbf: Option<f64>,
    iat: Option<f64>,
    /// The key whose possession the caller would have to prove (RFC 7800).
    cnf: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

impl Audience {
    fn contains(&self, audience: &str) -> bool {
        match self {
            Self::One(one) => one == audience,
            Self::Many(many) => many.iter().any(|one| one == audience),
        }
    }
}

/// The result of verifying a token with a set of keys.
enum Outcome {
    Verified(Value),
    Refused,
    UnknownKey,
}

impl Oidc {
    pub fn new(issuer: OidcIssuer) -> Self {
        let OidcIssuer { config, keys: source } = issuer;
        let (state, turn) = (RwLock::default(), tokio::sync::Mutex::default());
        Self { config, source, state, turn, waiting: Semaphore::new(WAITING) }
    }

    /// Returns whether a token that was not verified names the issuer.
    pub fn is_named_by(&self, token: &Secret) -> bool {
        #[derive(Deserialize)]
        struct Issuer {
            iss: String,
        }
        let text = token.reveal();
        let named: Option<Issuer> =
            (text.len() <= MAX_LENGTH).then(|| Jws::parse(text).and_then(|jws| jws.unverified())).flatten();
        named.is_some_and(|named| named.iss == self.config.issuer)
    }

    /// Verifies a token: its signature, type, issuer, audience, and that it is already valid. It does not check whether
    /// the token has expired: the caller, which remembers the token, does so each time.
    ///
    /// # Errors
    /// `Unauthenticated`; `Unavailable` if the keys of the issuer are not known, or too old.
    pub async fn verify(self: &Arc<Self>, cx: &Arc<Context>, token: &Secret) -> Result<Identity> {
        let refused = || Error::Unauthenticated;
        if token.reveal().len() > MAX_LENGTH {
            return Err(refused());
        }
        let jws = Jws::parse(token.reveal()).ok_or_else(refused)?;
        let algorithm = SignatureAlgorithm::parse(&jws.header.alg).ok_or_else(refused)?;
        // Tokens of other types, such as logout tokens, can have the same issuer and audience.
        let typ = jws.header.typ.as_deref().unwrap_or("JWT").to_ascii_lowercase();
        let is_accepted = matches!(typ.strip_prefix("application/").unwrap_or(&typ), "jwt" | "at+jwt");
        if !is_accepted || !self.config.algorithms.contains(&algorithm) {
            return Err(refused());
        }
        let mut keys = self.keys(cx).await?;
        let mut outcome = keys.verify(&jws, algorithm);
        if matches!(outcome, Outcome::UnknownKey) {
            self.refresh(cx, Some(&keys)).await?;
            keys = self.keys(cx).await?;
            outcome = keys.verify(&jws, algorithm);
        }
        let Outcome::Verified(all) = outcome else { return Err(refused()) };
        let claims = Claims::deserialize(&all).map_err(|_| refused())?;
        let (now, leeway) = (cx.now(), self.config.leeway);
        let expires_at = time(claims.exp).ok_or_else(refused)? + leeway;
        let has_begun = |at: Option<f64>| at.is_none_or(|at| time(at).is_some_and(|at| at <= now + leeway));
        if claims.iss != self.config.issuer
            || !claims.aud.contains(&self.config.audience)
            || !has_begun(claims.nbf)
            || !has_begun(claims.iat)
            || claims.cnf.is_some()
            || claims.sub.is_empty()
            || claims.sub.len() > 1_024
        {
            return Err(refused());
        }
        Ok(Identity { actor: actor_of(&claims.sub), roles: self.roles(&all), expires_at, keys })
    }

    /// Returns whether the keys that have verified an identity are still those of the issuer.
    ///
    /// # Errors
    /// `Unavailable` if they are too old.
    pub async fn is_current(self: &Arc<Self>, cx: &Arc<Context>, identity: &Identity) -> Result<bool> {
        Ok(Arc::ptr_eq(&self.keys(cx).await?, &identity.keys))
    }

    /// Returns the names of the roles to which the claims of a token are mapped, sorted.
    fn roles(&self, claims: &Value) -> Vec<String> {
        let Some(path) = self.config.roles_claim.as_deref() else { return Vec::new() };
        // The names of claims can contain dots, such as `https://shop.example/roles`.
        let found = claims.get(path).or_else(|| path.split('.').try_fold(claims, |value, name| value.get(name)));
        let values: Vec<&str> = match found {
            Some(Value::String(text)) => text.split_whitespace().collect(),
            Some(Value::Array(items)) => items.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        let roles: BTreeSet<&String> = values.iter().filter_map(|value| self.config.role_map.get(*value)).collect();
        roles.into_iter().cloned().collect()
    }

    /// Returns the keys of the issuer. Old ones are returned while new ones are fetched.
    async fn keys(self: &Arc<Self>, cx: &Arc<Context>) -> Result<Arc<KeySet>> {
        let held = |limit: Duration| {
            let state = self.state.read();
            let (keys, at) = state.keys.as_ref()?;
            (*at..*at + limit).contains(&cx.now()).then(|| keys.clone())
        };
        if let Some(keys) = held(self.config.refresh_interval) {
            return Ok(keys);
        }
        if let Some(keys) = held(self.config.max_stale) {
            if self.is_due(cx) {
                drop(self.fetch(cx, Some(&keys)));
            }
            return Ok(keys);
        }
        self.refresh(cx, None).await?;
        held(self.config.max_stale)
            .ok_or_else(|| Error::unavailable(Dependency::Issuer, "the issuer has not returned its keys"))
    }

    /// Returns whether a fetch may begin.
    fn is_due(&self, cx: &Context) -> bool {
        let recently = |at: Timestamp| (at..at + self.config.min_refresh_interval).contains(&cx.now());
        !self.state.read().tried_at.is_some_and(recently)
    }

    /// Fetches the keys, unless they are no longer the `known` ones, or the last fetch was a short time ago.
    ///
    /// # Errors
    /// `Unavailable` if too many callers wait for the issuer.
    async fn refresh(self: &Arc<Self>, cx: &Arc<Context>, known: Option<&Arc<KeySet>>) -> Result<()> {
        let _place = self.waiting.try_acquire().map_err(|e| Error::unavailable(Dependency::Issuer, e))?;
        // A task of its own goes on if this caller is gone.
        if let Err(error) = self.fetch(cx, known).await {
            tracing::error!(%error, "the fetch of the keys of the issuer has ended abnormally");
        }
        Ok(())
    }

    fn fetch(self: &Arc<Self>, cx: &Arc<Context>, known: Option<&Arc<KeySet>>) -> tokio::task::JoinHandle<()> {
        let (oidc, cx, known) = (self.clone(), cx.clone(), known.cloned());
        tokio::spawn(async move {
            let _turn = oidc.turn.lock().await;
            let held = oidc.state.read().keys.as_ref().map(|(keys, _)| keys.clone());
            let is_other = match (&held, &known) {
                (Some(held), Some(known)) => !Arc::ptr_eq(held, known),
                _ => false,
            };
            if is_other || !oidc.is_due(&cx) {
                return;
            }
            let now = cx.now();
            oidc.state.write().tried_at = Some(now);
            let fetched = match tokio::time::timeout(FETCH_LIMIT, oidc.source.fetch()).await {
                Ok(fetched) => fetched.map_err(|error| WithCauses(&error).to_string()),
                Err(elapsed) => Err(elapsed.to_string()),
            };
            let found = fetched.and_then(|json| KeySet::of(json).ok_or_else(|| "the answer is no key set".to_owned()));
            match found {
                Ok(found) => {
                    // Tokens that the same keys have verified need not be verified again.
                    let keys = held.filter(|held| held.json == found.json).unwrap_or_else(|| Arc::new(found));
                    oidc.state.write().keys = Some((keys, now));
                }
                Err(error) => {
                    tracing::warn!(issuer = oidc.config.issuer, %error, "the keys of the issuer are not available");
                }
            }
        })
    }
}

/// Converts the seconds of a claim, which can have a fraction, to a time; `None` from the year 10000 on.
fn time(seconds: f64) -> Option<Timestamp> {
    #[expect(clippy::cast_possible_truncation, reason = "the number is within these bounds")]
    (0.0..253_402_300_800.0).contains(&seconds).then(|| Timestamp::from_timestamp_millis((seconds * 1_000.0) as i64))?
}

/// The keys of an issuer.
struct KeySet {
    json: Vec<u8>,
    keys: Vec<PublishedKey>,
}

/// A key that verifies signatures.
struct PublishedKey {
    kid: Option<String>,
    /// The only algorithm for which the key may be used; `None` for each of its type.
    alg: Option<String>,
    key: VerifyingKey,
}

/// A key in the JSON of a set (RFC 7517, RFC 7518).
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    /// The private part, which no issuer publishes on purpose.
    d: Option<IgnoredAny>,
}

impl KeySet {
    /// Reads a set. Keys that cannot be used are left out.
    fn of(json: Vec<u8>) -> Option<Self> {
        #[derive(Deserialize)]
        struct Jwks {
            keys: Vec<Value>,
        }
        let set: Jwks = serde_json::from_slice(&json).ok()?;
        let keys: Vec<PublishedKey> = set.keys.iter().take(MAX_KEYS).filter_map(PublishedKey::of).collect();
        Some(Self { json, keys })
    }

    /// Verifies a token with the key that it names. If it names none, exactly one key of the set must fit.
    fn verify(&self, jws: &Jws<'_>, algorithm: SignatureAlgorithm) -> Outcome {
        let fitting = self.keys.iter().filter(|key| key.fits(algorithm));
        let candidates: Vec<&PublishedKey> = match &jws.header.kid {
            Some(kid) => fitting.filter(|key| key.kid.as_ref() == Some(kid)).collect(),
            None => fitting.collect(),
        };
        match (&jws.header.kid, &*candidates) {
            (Some(_), []) => Outcome::UnknownKey,
            (_, [key]) => jws.verified(&key.key).map_or(Outcome::Refused, Outcome::Verified),
            _ => Outcome::Refused,
        }
    }
}

impl PublishedKey {
    fn of(value: &Value) -> Option<Self> {
        let jwk = Jwk::deserialize(value).ok()?;
        let is_for_signatures = jwk.usage.as_deref().is_none_or(|usage| usage == "sig")
            && jwk.key_ops.is_none_or(|operations| operations.iter().any(|operation| operation == "verify"));
        if !is_for_signatures || jwk.d.is_some() {
            return None;
        }
        let bytes = |part: &Option<String>| URL_SAFE_NO_PAD.decode(part.as_ref()?).ok();
        let sized = |part: &Option<String>, length: usize| bytes(part).filter(|bytes| bytes.len() == length);
        let point = |length| Some([vec![4], sized(&jwk.x, length)?, sized(&jwk.y, length)?].concat());
        let key = match (&*jwk.kty, jwk.crv.as_deref()) {
            ("RSA", _) => {
                let significant = |bytes: Vec<u8>| bytes.into_iter().skip_while(|byte| *byte == 0).collect::<Vec<u8>>();
                let (n, e) = (significant(bytes(&jwk.n)?), significant(bytes(&jwk.e)?));
                // `ring` refuses smaller and larger ones when it verifies.
                (256..=1_024).contains(&n.len()).then_some(VerifyingKey::Rsa(RsaPublicKeyComponents { n, e }))?
            }
            ("EC", Some("P-256")) => VerifyingKey::P256(point(32)?),
            ("EC", Some("P-384")) => VerifyingKey::P384(point(48)?),
            ("OKP", Some("Ed25519")) => VerifyingKey::Ed25519(sized(&jwk.x, 32)?),
            _ => return None,
        };
        Some(Self { kid: jwk.kid, alg: jwk.alg, key })
    }

    /// Returns whether the key may be used for an algorithm.
    fn fits(&self, algorithm: SignatureAlgorithm) -> bool {
        use SignatureAlgorithm as A;
        let is_of_type = match algorithm {
            A::EdDsa => matches!(self.key, VerifyingKey::Ed25519(_)),
            A::Es256 => matches!(self.key, VerifyingKey::P256(_)),
            A::Es384 => matches!(self.key, VerifyingKey::P384(_)),
            A::Rs256 | A::Rs384 | A::Rs512 | A::Ps256 | A::Ps384 | A::Ps512 => matches!(self.key, VerifyingKey::Rsa(_)),
        };
        is_of_type && self.alg.as_deref().is_none_or(|alg| alg == algorithm.as_str())
    }
}
