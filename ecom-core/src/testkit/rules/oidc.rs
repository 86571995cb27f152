//! Tokens of an issuer of OpenID Connect: which are accepted, what they grant, and how its keys change.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures::future::join_all;
use parking_lot::Mutex;
use ring::hmac;
use ring::signature::Ed25519KeyPair;
use serde_json::{Value, json};

use super::ShopFixture;
use super::support::{fields, until};
use crate::clock::Clock as _;
use crate::domain::access::oidc::{OidcConfig, SignatureAlgorithm};
use crate::domain::access::principal::{Permission, Principal};
use crate::domain::access::role::{BuiltInRole, RoleInput, RolePatch};
use crate::domain::access::secret::Secret;
use crate::domain::access::user::UserInput;
use crate::domain::common::Patch;
use crate::error::{Dependency, Error, ErrorCode, Result};
use crate::port::access::key_set::KeySetSource;
use crate::service::access::crypto;
use crate::service::access::oidc::OidcIssuer;
use crate::shop::{Shop, ShopParts};

tests! {
    __shop_oidc: [
        a_token_of_the_issuer_grants_the_roles_of_its_claims,
        a_token_without_mapped_claims_grants_nothing,
        tokens_that_differ_in_one_claim_are_refused,
        tokens_that_differ_in_the_header_or_the_signature_are_refused,
        a_key_verifies_only_what_the_issuer_has_published_it_for,
        new_keys_are_fetched_and_made_up_ones_cost_few_fetches,
        a_key_that_the_issuer_has_removed_does_not_count,
        old_keys_count_for_a_bounded_time_while_the_issuer_is_down,
        many_callers_fetch_the_keys_once,
        the_tokens_of_the_shop_count_beside_those_of_the_issuer,
    ]
}

const ISSUER: &str = "https://login.example.com/realms/shop";
const AUDIENCE: &str = "shop";

/// An issuer in the process of the test.
#[derive(Debug, Default)]
struct Issuer {
    /// The answer of the issuer; `None` while it is down.
    published: Mutex<Option<Vec<u8>>>,
    fetches: AtomicUsize,
}

#[async_trait]
impl KeySetSource for Issuer {
    async fn fetch(&self) -> Result<Vec<u8>> {
        self.fetches.fetch_add(1, Ordering::SeqCst);
        tokio::task::yield_now().await;
        self.published.lock().clone().ok_or_else(|| Error::unavailable(Dependency::Issuer, "down"))
    }
}

impl Issuer {
    fn with(keys: &[Value]) -> Arc<Self> {
        let issuer = Arc::new(Self::default());
        issuer.publish(keys);
        issuer
    }

    fn publish(&self, keys: &[Value]) {
        *self.published.lock() = Some(json!({ "keys": keys }).to_string().into_bytes());
    }

    fn fetches(&self) -> usize {
        self.fetches.load(Ordering::SeqCst)
    }
}

/// Returns the public key of a seed as the issuer publishes it.
fn jwk(seed: u8, kid: &str) -> Value {
    let (_, public) = crypto::ed25519([seed; 32]).unwrap();
    let x = URL_SAFE_NO_PAD.encode(public);
    json!({"kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": kid, "x": x})
}

fn header(kid: &str) -> Value {
    json!({"alg": "EdDSA", "typ": "JWT", "kid": kid})
}

/// Returns the text that is signed.
fn signed(header: &Value, claims: &Value) -> String {
    let encode = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
    format!("{}.{}", encode(header), encode(claims))
}

/// Returns a token that the key of a seed has signed.
fn token(seed: u8, header: &Value, claims: &Value) -> Secret {
    let (private, _) = crypto::ed25519([seed; 32]).unwrap();
    let key = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&private).unwrap();
    let signed = signed(header, claims);
    let signature = URL_SAFE_NO_PAD.encode(key.sign(signed.as_bytes()));
    Secret::new(format!("{signed}.{signature}"))
}

fn config() -> OidcConfig {
    OidcConfig::new(ISSUER, AUDIENCE).roles_claim("realm_access.roles").role("clerks", "staff").role("bosses", "admin")
}

impl ShopFixture {
    /// Returns a shop that accepts the tokens of an issuer, as in a process of its own.
    fn accepting(&self, config: OidcConfig, keys: Arc<Issuer>) -> Shop {
        Shop::new(ShopParts { oidc: Some(OidcIssuer { config, keys }), ..self.parts() }).unwrap()
    }

    /// Returns the claims of a valid token.
    fn claims(&self) -> Value {
        let now = self.clock.now().timestamp();
        json!({
            "iss": ISSUER, "sub": "ada", "aud": AUDIENCE, "iat": now, "nbf": now, "exp": now + 300,
            "realm_access": {"roles": ["clerks", "others"]}
        })
    }
}

async fn accepted(shop: &Shop, token: &Secret) -> Option<Principal> {
    match shop.auth().authenticate(token).await {
        Ok(principal) => Some(principal),
        Err(Error::Unauthenticated) => None,
        Err(other) => panic!("{other:?}"),
    }
}

fn granted(who: &Principal) -> BTreeSet<Permission> {
    Permission::ALL.iter().copied().filter(|p| who.may(*p)).collect()
}

fn with(claims: &Value, name: &str, value: Value) -> Value {
    let mut changed = claims.clone();
    changed[name] = value;
    changed
}

/// The values of a claim are mapped to roles, and the permissions are those that the roles grant now.
pub async fn a_token_of_the_issuer_grants_the_roles_of_its_claims(f: &ShopFixture) {
    let clerks = f.shop.roles().create(&RoleInput::new("warehouse", [Permission::StockAdjust])).await.unwrap();
    let issuer = Issuer::with(&[jwk(1, "one")]);
    let config = config().role("boxes", "warehouse").role("ghosts", "no-such-role");
    let shop = f.accepting(config.clone(), issuer.clone());
    let valid = token(1, &header("one"), &f.claims());
    for _ in 0..2 {
        let who = accepted(&shop, &valid).await.unwrap();
        assert_eq!((who.actor().as_str(), who.login(), who.customer()), ("oidc:ada", None, None));
        assert_eq!(granted(&who), BuiltInRole::Staff.permissions());
    }
    let roles = |roles: Value| with(&f.claims(), "realm_access", json!({ "roles": roles }));
    let who = accepted(&shop, &token(1, &header("one"), &roles(json!(["bosses"])))).await.unwrap();
    assert_eq!(granted(&who).len(), Permission::ALL.len());
    let boxes = token(1, &header("one"), &roles(json!("boxes ghosts")));
    let who = accepted(&shop, &boxes).await.unwrap();
    assert_eq!(granted(&who), BTreeSet::from([Permission::StockAdjust]));
    // A changed role counts at once, although the token is known.
    let permissions = Patch::Set(BTreeSet::from([Permission::StockRead]));
    let patch = RolePatch { permissions, ..RolePatch::default() };
    shop.roles().patch(clerks.id, clerks.audit.version.into(), patch).await.unwrap();
    let who = accepted(&shop, &boxes).await.unwrap();
    assert_eq!(granted(&who), BTreeSet::from([Permission::StockRead]));
    // The name of a claim can contain dots.
    let shop = f.accepting(config.roles_claim("https://shop.example/roles"), issuer);
    let named = with(&f.claims(), "https://shop.example/roles", json!(["clerks"]));
    let who = accepted(&shop, &token(1, &header("one"), &named)).await.unwrap();
    assert_eq!(granted(&who), BuiltInRole::Staff.permissions());
    // A token counts until it expires, with the leeway.
    f.clock.advance(Duration::from_secs(300 + 59));
    let who = accepted(&shop, &token(1, &header("one"), &named)).await.unwrap();
    assert_eq!(who.expires_at().map(|at| at.timestamp()), Some(f.clock.now().timestamp() + 1));
    let (ticket, _) = shop.auth().issue_ticket(&who).await.unwrap();
    f.clock.advance(Duration::from_secs(1));
    assert!(accepted(&shop, &token(1, &header("one"), &named)).await.is_none());
    let refused = shop.auth().redeem_ticket(&ticket).await.unwrap_err();
    assert!(matches!(refused, Error::Unauthenticated), "a ticket must end with the token: {refused:?}");
}

/// A principal without a mapped claim is known, and may do nothing.
pub async fn a_token_without_mapped_claims_grants_nothing(f: &ShopFixture) {
    let issuer = Issuer::with(&[jwk(1, "one")]);
    let shop = f.accepting(config(), issuer.clone());
    for roles in [json!(null), json!({}), json!({"roles": ["others"]}), json!({"roles": 7}), json!(["clerks"])] {
        let who = accepted(&shop, &token(1, &header("one"), &with(&f.claims(), "realm_access", roles))).await.unwrap();
        assert_eq!(granted(&who), BTreeSet::new());
    }
    // The name of a role of the shop grants nothing unless it is mapped, and neither does any claim without a setting.
    let admin = with(&f.claims(), "realm_access", json!({"roles": ["admin", "staff"]}));
    let admin = with(&with(&admin, "roles", json!(["admin"])), "permissions", json!(["force:delete"]));
    let admin = token(1, &header("one"), &admin);
    let plain = f.accepting(OidcConfig::new(ISSUER, AUDIENCE), issuer);
    for shop in [&shop, &plain] {
        assert_eq!(granted(&accepted(shop, &admin).await.unwrap()), BTreeSet::new());
    }
}

/// Each claim is checked: the other claims of these tokens, and their signatures, are valid.
pub async fn tokens_that_differ_in_one_claim_are_refused(f: &ShopFixture) {
    let shop = f.accepting(config(), Issuer::with(&[jwk(1, "one")]));
    let (good, now) = (f.claims(), f.clock.now().timestamp());
    let refuse = |name: &'static str, value: Value| {
        let (shop, token) = (&shop, token(1, &header("one"), &with(&good, name, value.clone())));
        async move { assert!(accepted(shop, &token).await.is_none(), "{name}: {value}") }
    };
    let accept = |name: &'static str, value: Value| {
        let (shop, token) = (&shop, token(1, &header("one"), &with(&good, name, value.clone())));
        async move { assert!(accepted(shop, &token).await.is_some(), "{name}: {value}") }
    };
    for aud in [json!([AUDIENCE]), json!(["other", AUDIENCE])] {
        accept("aud", aud).await;
    }
    for aud in [json!("other"), json!("shop2"), json!("SHOP"), json!(["other"]), json!([]), json!(null), json!(7)] {
        refuse("aud", aud).await;
    }
    for iss in ["https://login.example.com/realms/shop/", "https://LOGIN.example.com/realms/shop", "", "ecom"] {
        refuse("iss", json!(iss)).await;
    }
    // Within the leeway of 60 s, as whole numbers and with fractions.
    for (name, time) in [("exp", json!(now - 59)), ("nbf", json!(now + 59)), ("iat", json!(now + 59))] {
        accept(name, time).await;
    }
    accept("exp", json!(1_767_323_645.25)).await;
    for (name, time) in [("exp", now - 61), ("exp", 0), ("exp", -1), ("nbf", now + 62), ("iat", now + 3_600)] {
        refuse(name, json!(time)).await;
    }
    for (name, value) in [
        ("exp", json!(null)),
        ("exp", json!("4102444800")),
        ("exp", json!(1e300)),
        ("nbf", json!("0")),
        ("iat", json!(1e300)),
        ("sub", json!(null)),
        ("sub", json!("")),
        ("sub", json!(7)),
        ("sub", json!("x".repeat(1_025))),
        // Only a caller who proves that it has another key may use the token.
        ("cnf", json!({"jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"})),
    ] {
        refuse(name, value).await;
    }
    for name in ["exp", "sub", "aud", "iss"] {
        let mut claims = good.clone();
        claims.as_object_mut().unwrap().remove(name);
        assert!(accepted(&shop, &token(1, &header("one"), &claims)).await.is_none(), "without {name}");
    }
    for name in ["nbf", "iat"] {
        let mut claims = good.clone();
        claims.as_object_mut().unwrap().remove(name);
        assert!(accepted(&shop, &token(1, &header("one"), &claims)).await.is_some(), "without {name}");
    }
    accept("padding", json!("x".repeat(1_000))).await;
    refuse("padding", json!("x".repeat(20_000))).await;
}

/// The algorithm is one of the settings, and the header says that the token is one for access.
pub async fn tokens_that_differ_in_the_header_or_the_signature_are_refused(f: &ShopFixture) {
    let issuer = Issuer::with(&[jwk(1, "one")]);
    let shop = f.accepting(config(), issuer.clone());
    let claims = f.claims();
    for typ in [json!("at+jwt"), json!("application/at+jwt"), json!("jwt"), json!(null)] {
        assert!(accepted(&shop, &token(1, &with(&header("one"), "typ", typ), &claims)).await.is_some());
    }
    let without_kid = json!({"alg": "EdDSA"});
    assert!(accepted(&shop, &token(1, &without_kid, &claims)).await.is_some(), "the only key");
    for (name, value) in [
        ("typ", json!("logout+jwt")),
        ("typ", json!("dpop+jwt")),
        ("alg", json!("none")),
        ("alg", json!("HS256")),
        ("alg", json!("ES256")),
        ("alg", json!("RS256")),
        ("alg", json!("eddsa")),
        ("crit", json!(["exp"])),
        ("kid", json!("two")),
        ("kid", json!("")),
        ("kid", json!(1)),
    ] {
        let forged = token(1, &with(&header("one"), name, value.clone()), &claims);
        assert!(accepted(&shop, &forged).await.is_none(), "{name}: {value}");
    }
    assert!(accepted(&shop, &token(2, &header("one"), &claims)).await.is_none(), "another key");
    // A key in the header of the token is ignored.
    let own = with(&header("one"), "jwk", jwk(2, "one"));
    assert!(accepted(&shop, &token(2, &own, &claims)).await.is_none(), "a key that the token brings");
    let (_, public) = crypto::ed25519([1; 32]).unwrap();
    for header in [header("one"), with(&header("one"), "alg", json!("HS256"))] {
        let signed = signed(&header, &claims);
        let key = hmac::Key::new(hmac::HMAC_SHA256, &public);
        let signature = URL_SAFE_NO_PAD.encode(hmac::sign(&key, signed.as_bytes()));
        for signature in [&*signature, ""] {
            let forged = Secret::new(format!("{signed}.{signature}"));
            assert!(accepted(&shop, &forged).await.is_none(), "{header}");
        }
    }
    // An algorithm that the settings do not list.
    let shop = f.accepting(config().algorithms(vec![SignatureAlgorithm::Rs256]), issuer);
    assert!(accepted(&shop, &token(1, &header("one"), &claims)).await.is_none());
}

/// A key is used only as the issuer publishes it: with its use, its operations, its algorithm and its type.
pub async fn a_key_verifies_only_what_the_issuer_has_published_it_for(f: &ShopFixture) {
    let good = jwk(1, "one");
    let plain = json!({"kty": "OKP", "crv": "Ed25519", "kid": "one", "x": good["x"]});
    for key in [good.clone(), plain.clone(), with(&plain, "key_ops", json!(["verify"]))] {
        let shop = f.accepting(config(), Issuer::with(&[json!({"kty": "unknown"}), json!(7), key.clone()]));
        assert!(accepted(&shop, &token(1, &header("one"), &f.claims())).await.is_some(), "{key}");
    }
    let x = good["x"].clone();
    for key in [
        with(&good, "use", json!("enc")),
        with(&good, "key_ops", json!(["encrypt"])),
        with(&good, "alg", json!("ES256")),
        with(&good, "alg", json!("HS256")),
        with(&good, "crv", json!("X25519")),
        with(&good, "kty", json!("EC")),
        with(&good, "x", json!("AAAA")),
        with(&good, "d", x.clone()),
        json!({"kty": "oct", "kid": "one", "k": x, "alg": "HS256"}),
    ] {
        let shop = f.accepting(config(), Issuer::with(std::slice::from_ref(&key)));
        assert!(accepted(&shop, &token(1, &header("one"), &f.claims())).await.is_none(), "{key}");
    }
    // The public key, published as the secret of HMAC, verifies no token.
    let shop =
        f.accepting(config(), Issuer::with(&[json!({"kty": "oct", "kid": "one", "k": good["x"]}), good.clone()]));
    let (_, public) = crypto::ed25519([1; 32]).unwrap();
    let signed = signed(&with(&header("one"), "alg", json!("HS256")), &f.claims());
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &public), signed.as_bytes());
    let forged = Secret::new(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)));
    assert!(accepted(&shop, &forged).await.is_none());
    // Without an id, the token must leave no choice.
    let other = json!({"kty": "EC", "crv": "P-256", "x": good["x"], "y": good["x"], "kid": "two"});
    let shop = f.accepting(config(), Issuer::with(&[good.clone(), other]));
    assert!(accepted(&shop, &token(1, &json!({"alg": "EdDSA"}), &f.claims())).await.is_some(), "one of its type");
    let shop = f.accepting(config(), Issuer::with(&[good, jwk(2, "two")]));
    assert!(accepted(&shop, &token(1, &json!({"alg": "EdDSA"}), &f.claims())).await.is_none());
}

/// A key that is not known is fetched, at most once in the minimum interval.
pub async fn new_keys_are_fetched_and_made_up_ones_cost_few_fetches(f: &ShopFixture) {
    let issuer = Issuer::with(&[jwk(1, "one")]);
    let shop = f.accepting(config(), issuer.clone());
    assert!(accepted(&shop, &token(1, &header("one"), &f.claims())).await.is_some());
    assert_eq!(issuer.fetches(), 1);
    issuer.publish(&[jwk(1, "one"), jwk(2, "two")]);
    f.clock.advance(Duration::from_secs(10));
    assert!(accepted(&shop, &token(2, &header("two"), &f.claims())).await.is_some());
    assert!(accepted(&shop, &token(1, &header("one"), &f.claims())).await.is_some());
    assert_eq!(issuer.fetches(), 2);
    for n in 0..50 {
        assert!(accepted(&shop, &token(3, &header(&format!("made up {n}")), &f.claims())).await.is_none());
    }
    assert_eq!(issuer.fetches(), 2, "the last fetch was a short time ago");
    f.clock.advance(Duration::from_secs(10));
    let claims = f.claims();
    let made_up = (0..50).map(|n| token(3, &header(&format!("made up {n}")), &claims)).collect::<Vec<_>>();
    join_all(made_up.iter().map(|token| async { assert!(accepted(&shop, token).await.is_none()) })).await;
    assert_eq!(issuer.fetches(), 3);
    // A wrong signature of a known key costs none.
    f.clock.advance(Duration::from_secs(10));
    assert!(accepted(&shop, &token(3, &header("one"), &f.claims())).await.is_none());
    assert_eq!(issuer.fetches(), 3);
}

/// A token that was verified does not outlive its key.
pub async fn a_key_that_the_issuer_has_removed_does_not_count(f: &ShopFixture) {
    let issuer = Issuer::with(&[jwk(1, "one"), jwk(2, "two")]);
    let shop = f.accepting(config().refresh_interval(Duration::from_secs(60)), issuer.clone());
    let claims = f.claims();
    let (one, two) = (token(1, &header("one"), &claims), token(2, &header("two"), &claims));
    assert!(accepted(&shop, &one).await.is_some() && accepted(&shop, &two).await.is_some());
    issuer.publish(&[jwk(2, "two")]);
    assert!(accepted(&shop, &one).await.is_some(), "the issuer is not asked for each token");
    f.clock.advance(Duration::from_secs(61));
    until("the keys are fetched again", async || accepted(&shop, &one).await.is_none()).await;
    assert!(accepted(&shop, &two).await.is_some());
    // The same id with another key.
    issuer.publish(&[jwk(3, "two")]);
    f.clock.advance(Duration::from_secs(61));
    until("the keys are fetched again", async || accepted(&shop, &two).await.is_none()).await;
    assert!(accepted(&shop, &token(3, &header("two"), &claims)).await.is_some());
}

/// While the issuer is down, its last keys count for a day.
pub async fn old_keys_count_for_a_bounded_time_while_the_issuer_is_down(f: &ShopFixture) {
    let issuer = Issuer::with(&[jwk(1, "one")]);
    let shop = f.accepting(config(), issuer.clone());
    let fresh = || token(1, &header("one"), &f.claims());
    let down = |outcome: Result<Principal>| {
        let error = outcome.unwrap_err();
        assert!(matches!(error, Error::Unavailable { dependency: Dependency::Issuer, .. }), "{error:?}");
        assert_eq!(error.code(), ErrorCode::Unavailable);
    };
    // It is down from the beginning, or its answer is no key set.
    for answer in [None, Some(b"".to_vec()), Some(b"<html>".to_vec()), Some(b"[]".to_vec()), Some(b"{}".to_vec())] {
        *issuer.published.lock() = answer;
        down(shop.auth().authenticate(&fresh()).await);
        f.clock.advance(Duration::from_secs(10));
    }
    issuer.publish(&[jwk(1, "one")]);
    assert!(accepted(&shop, &fresh()).await.is_some());
    for answer in [None, Some(b"<html>".to_vec())] {
        *issuer.published.lock() = answer;
        f.clock.advance(Duration::from_secs(11 * 60 * 60));
        assert!(accepted(&shop, &fresh()).await.is_some());
    }
    f.clock.advance(Duration::from_secs(2 * 60 * 60));
    down(shop.auth().authenticate(&fresh()).await);
    // A token that was verified before is refused too, and the shop's own tokens count.
    issuer.publish(&[jwk(1, "one")]);
    f.clock.advance(Duration::from_secs(10));
    assert!(accepted(&shop, &fresh()).await.is_some());
}

/// The first tokens of a process wait for one fetch.
pub async fn many_callers_fetch_the_keys_once(f: &ShopFixture) {
    let issuer = Issuer::with(&[jwk(1, "one")]);
    let shop = f.accepting(config(), issuer.clone());
    let subjects = (0..50).map(|n| token(1, &header("one"), &with(&f.claims(), "sub", json!(format!("user {n}")))));
    let tokens: Vec<Secret> = subjects.collect();
    let found = join_all(tokens.iter().map(|token| accepted(&shop, token))).await;
    assert!(found.iter().all(Option::is_some));
    assert_eq!(issuer.fetches(), 1);
}

/// Both issuers count, each with its own keys.
pub async fn the_tokens_of_the_shop_count_beside_those_of_the_issuer(f: &ShopFixture) {
    let issuer = Issuer::with(&[jwk(1, "one")]);
    let shop = f.accepting(config(), issuer.clone());
    let input = UserInput::new("ada@example.com").password("correct horse");
    shop.users().create(&input).await.unwrap();
    let own = shop.auth().login("ada@example.com", &Secret::new("correct horse"), None).await.unwrap();
    let who = accepted(&shop, &own.access).await.unwrap();
    assert!(who.login().is_some());
    // The issuer cannot sign the tokens of the shop, and nobody else those of the issuer.
    let parts: Vec<&str> = own.access.reveal().split('.').collect();
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(parts[1]).unwrap()).unwrap();
    let header_of_own: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(parts[0]).unwrap()).unwrap();
    assert!(accepted(&shop, &token(1, &header_of_own, &claims)).await.is_none());
    let typed = json!({"alg": "EdDSA", "typ": "at+jwt", "kid": "one"});
    assert!(accepted(&shop, &token(1, &typed, &claims)).await.is_none());
    assert_eq!(issuer.fetches(), 0, "no token has named the issuer");
    // A shop without an issuer accepts none of its tokens.
    assert!(accepted(&f.shop, &token(1, &header("one"), &f.claims())).await.is_none());
    // An issuer cannot have the name of the shop.
    let mut parts = f.parts();
    parts.config = parts.config.token_issuer(ISSUER);
    parts.oidc = Some(OidcIssuer { config: config(), keys: issuer });
    assert_eq!(fields(Shop::new(parts), "an issuer").into_keys().collect::<Vec<_>>(), ["oidc_issuer"]);
}
