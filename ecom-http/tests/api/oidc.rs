//! Tokens of an issuer of OpenID Connect, whose keys come over HTTP from a small issuer on this machine.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::LOCATION;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ecom_core::access::{OidcConfig, OidcIssuer, Principal, SignatureAlgorithm};
use ecom_core::clock::Clock as _;
use ecom_http::{HttpConfig, HttpKeySet};
use ecom_search::{TantivyOptions, TantivySearch};
use parking_lot::Mutex;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
    Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RsaKeyPair,
};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::support::{API, Answer, Api};

/// A key that is used nowhere else. `ring` generates no keys of this type.
const RSA: &[u8] = include_bytes!("issuer.rsa.der");
const CONFIGURATION: &str = "/.well-known/openid-configuration";

/// What the issuer answers to a path.
#[derive(Clone)]
enum Says {
    Json(Value),
    Bytes(Vec<u8>),
    /// The JSON, with a status that is not 200.
    Status(u16, Value),
    Redirect(String),
    /// Nothing, for ever.
    Silence,
    /// Bytes for ever.
    Flood,
}

#[derive(Clone, Default)]
struct Sayings {
    answers: Arc<Mutex<HashMap<String, Says>>>,
    requests: Arc<AtomicUsize>,
}

async fn answer(State(sayings): State<Sayings>, request: Request) -> Response {
    sayings.requests.fetch_add(1, Ordering::SeqCst);
    let says = sayings.answers.lock().get(request.uri().path()).cloned();
    match says {
        Some(Says::Json(value)) => axum::Json(value).into_response(),
        Some(Says::Bytes(bytes)) => bytes.into_response(),
        Some(Says::Status(status, value)) => {
            (axum::http::StatusCode::from_u16(status).unwrap(), axum::Json(value)).into_response()
        }
        Some(Says::Redirect(to)) => (axum::http::StatusCode::FOUND, [(LOCATION, to)]).into_response(),
        Some(Says::Silence) => std::future::pending().await,
        Some(Says::Flood) => {
            let chunk = || Ok::<_, std::convert::Infallible>(vec![b' '; 64 * 1024]);
            Body::from_stream(futures::stream::repeat_with(chunk)).into_response()
        }
        None => axum::http::StatusCode::NOT_FOUND.into_response(),
    }
}

struct Issuer {
    url: String,
    sayings: Sayings,
}

impl Issuer {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/realms/shop", listener.local_addr().unwrap());
        let sayings = Sayings::default();
        let router = Router::new().fallback(answer).with_state(sayings.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        let issuer = Self { url, sayings };
        issuer.configured();
        issuer
    }

    fn configured(&self) {
        let keys = format!("{}/keys", self.url);
        self.says(CONFIGURATION, Says::Json(json!({"issuer": self.url, "jwks_uri": keys})));
    }

    fn says(&self, path: &str, says: Says) {
        self.sayings.answers.lock().insert(format!("/realms/shop{path}"), says);
    }

    fn publish(&self, keys: &[&Signer]) {
        let keys: Vec<Value> = keys.iter().map(|key| key.jwk()).collect();
        self.says("/keys", Says::Json(json!({ "keys": keys })));
    }

    fn config(&self) -> OidcConfig {
        use SignatureAlgorithm as A;
        OidcConfig::new(&self.url, "shop")
            .algorithms(vec![A::Rs256, A::Rs512, A::Ps256, A::Es256, A::Es384, A::EdDsa])
            .roles_claim("groups")
            .role("clerks", "staff")
    }

    async fn api(&self) -> Api {
        accepting(self.config()).await
    }

    fn claims(&self, api: &Api) -> Value {
        let now = api.clock.now().timestamp();
        json!({"iss": self.url, "sub": "ada", "aud": ["shop"], "iat": now, "exp": now + 300, "groups": ["clerks"]})
    }
}

async fn accepting(config: OidcConfig) -> Api {
    let search = TantivySearch::open(TantivyOptions::memory()).await.unwrap();
    let keys = Arc::new(HttpKeySet::new(&config).unwrap());
    let nobody = HttpConfig::default().anonymous(Principal::new("anonymous", []));
    Api::changed(nobody, Arc::new(search), |parts| parts.oidc = Some(OidcIssuer { config, keys })).await
}

/// A private key of the issuer.
enum Signer {
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair, &'static str),
    Ed(Ed25519KeyPair),
}

fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Signer {
    fn rsa() -> Self {
        Self::Rsa(RsaKeyPair::from_pkcs8(RSA).unwrap())
    }

    fn ec(algorithm: &'static EcdsaSigningAlgorithm, curve: &'static str) -> Self {
        let random = SystemRandom::new();
        let der = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        Self::Ec(EcdsaKeyPair::from_pkcs8(algorithm, der.as_ref(), &random).unwrap(), curve)
    }

    fn ed() -> Self {
        let der = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self::Ed(Ed25519KeyPair::from_pkcs8(der.as_ref()).unwrap())
    }

    /// The id of the key: a part of its public half.
    fn kid(&self) -> String {
        let public = match self {
            Self::Rsa(key) => key.public_key().as_ref().to_vec(),
            Self::Ec(key, _) => key.public_key().as_ref().to_vec(),
            Self::Ed(key) => key.public_key().as_ref().to_vec(),
        };
        b64(&public[public.len() - 20..])
    }

    fn jwk(&self) -> Value {
        let kid = self.kid();
        match self {
            Self::Rsa(key) => {
                let public = ring::signature::RsaPublicKeyComponents::<Vec<u8>>::from(key.public_key());
                json!({"kty": "RSA", "use": "sig", "kid": kid, "n": b64(public.n), "e": b64(public.e)})
            }
            Self::Ec(key, curve) => {
                let (x, y) = key.public_key().as_ref()[1..].split_at(key.public_key().as_ref().len() / 2);
                json!({"kty": "EC", "use": "sig", "crv": curve, "kid": kid, "x": b64(x), "y": b64(y)})
            }
            Self::Ed(key) => {
                json!({"kty": "OKP", "use": "sig", "crv": "Ed25519", "kid": kid, "x": b64(key.public_key())})
            }
        }
    }

    /// Returns a token that names `alg` and was signed by `by`.
    fn token_by(&self, alg: &str, by: &str, claims: &Value) -> String {
        let header = json!({"alg": alg, "typ": "JWT", "kid": self.kid()});
        let signed = format!("{}.{}", b64(header.to_string()), b64(claims.to_string()));
        let (message, random) = (signed.as_bytes(), SystemRandom::new());
        let signature = match self {
            Self::Rsa(key) => {
                let padding: &'static dyn ring::signature::RsaEncoding = match by {
                    "RS256" => &RSA_PKCS1_SHA256,
                    "RS512" => &RSA_PKCS1_SHA512,
                    _ => &RSA_PSS_SHA256,
                };
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(padding, &random, message, &mut signature).unwrap();
                signature
            }
            Self::Ec(key, _) => key.sign(&random, message).unwrap().as_ref().to_vec(),
            Self::Ed(key) => key.sign(message).as_ref().to_vec(),
        };
        format!("{signed}.{}", b64(signature))
    }

    fn token(&self, alg: &str, claims: &Value) -> String {
        self.token_by(alg, alg, claims)
    }
}

async fn orders(api: &Api, token: &str) -> Answer {
    let authorization = format!("Bearer {token}");
    api.call("GET", &format!("{API}/orders"), &[("authorization", &authorization)], None).await
}

#[tokio::test]
async fn tokens_of_all_kinds_of_keys_are_accepted() {
    let issuer = Issuer::start().await;
    let api = issuer.api().await;
    let (rsa, ed) = (Signer::rsa(), Signer::ed());
    let p256 = Signer::ec(&ECDSA_P256_SHA256_FIXED_SIGNING, "P-256");
    let p384 = Signer::ec(&ECDSA_P384_SHA384_FIXED_SIGNING, "P-384");
    issuer.publish(&[&rsa, &p256, &p384, &ed]);
    let claims = issuer.claims(&api);
    let kinds = [(&rsa, "RS256"), (&rsa, "RS512"), (&rsa, "PS256"), (&p256, "ES256"), (&p384, "ES384"), (&ed, "EdDSA")];
    for (key, alg) in kinds {
        orders(&api, &key.token(alg, &claims)).await.ok(200);
        // The signature counts, and a key signs by its own algorithms only.
        let mut other = claims.clone();
        other["sub"] = json!("bob");
        let (token, forged) = (key.token(alg, &claims), key.token(alg, &other));
        let mixed: Vec<&str> = forged.split('.').take(2).chain(token.split('.').skip(2)).collect();
        orders(&api, &mixed.join(".")).await.refused(401, "UNAUTHENTICATED", "");
        for (_, wrong) in kinds.into_iter().filter(|(_, wrong)| *wrong != alg) {
            let confused = key.token_by(wrong, alg, &claims);
            orders(&api, &confused).await.refused(401, "UNAUTHENTICATED", "");
        }
        for wrong in ["none", "HS256", "RS384", "ES512"] {
            orders(&api, &key.token_by(wrong, alg, &claims)).await.refused(401, "UNAUTHENTICATED", "");
        }
    }
    assert_eq!(issuer.sayings.requests.load(Ordering::SeqCst), 2, "the configuration and the keys, once");
    // Rows record the subject, and the roles decide what it may do.
    let authorization = format!("Bearer {}", ed.token("EdDSA", &claims));
    let headers = [("authorization", &*authorization)];
    let customer = r#"{"first_name": "Ada", "last_name": "Lovelace", "email": "ada@example.com"}"#;
    let made = api.call("POST", &format!("{API}/customers"), &headers, Some(customer)).await.ok(201);
    assert_eq!(made.data()["created_by"], "oidc:ada");
    let product = r#"{"title": "Pen", "price": 1}"#;
    api.call("POST", &format!("{API}/products"), &headers, Some(product)).await.refused(403, "FORBIDDEN", "");
    let mut nobody = claims.clone();
    nobody["groups"] = json!(["staff", "admin"]);
    orders(&api, &ed.token("EdDSA", &nobody)).await.refused(403, "FORBIDDEN", "");
    // It is no user of the shop.
    api.call("GET", &format!("{API}/auth/me"), &headers, None).await.refused(401, "UNAUTHENTICATED", "");
    for (name, value) in [("iss", json!("https://evil.example")), ("aud", json!("other")), ("exp", json!(1))] {
        let mut wrong = claims.clone();
        wrong[name] = value;
        orders(&api, &ed.token("EdDSA", &wrong)).await.refused(401, "UNAUTHENTICATED", "");
    }
}

#[tokio::test]
async fn the_keys_are_fetched_again_after_a_rotation() {
    let issuer = Issuer::start().await;
    let (old, new) = (Signer::ed(), Signer::ec(&ECDSA_P256_SHA256_FIXED_SIGNING, "P-256"));
    // The settings can name the key set.
    issuer.says(CONFIGURATION, Says::Status(404, Value::Null));
    let api = accepting(issuer.config().jwks_url(format!("{}/keys", issuer.url))).await;
    issuer.publish(&[&old]);
    let claims = issuer.claims(&api);
    orders(&api, &old.token("EdDSA", &claims)).await.ok(200);
    issuer.publish(&[&new]);
    api.clock.advance(Duration::from_secs(10));
    orders(&api, &new.token("ES256", &claims)).await.ok(200);
    orders(&api, &old.token("EdDSA", &claims)).await.refused(401, "UNAUTHENTICATED", "");
    assert_eq!(issuer.sayings.requests.load(Ordering::SeqCst), 2);
    // The issuer is down, and its last keys count.
    issuer.says("/keys", Says::Status(500, Value::Null));
    api.clock.advance(Duration::from_secs(3 * 60 * 60));
    let claims = issuer.claims(&api);
    orders(&api, &new.token("ES256", &claims)).await.ok(200);
    api.clock.advance(Duration::from_secs(24 * 60 * 60));
    let claims = issuer.claims(&api);
    let refused = orders(&api, &new.token("ES256", &claims)).await.refused(503, "UNAVAILABLE", "");
    assert_eq!(refused.header("retry-after"), "1");
}

#[tokio::test]
async fn wrong_answers_of_the_issuer_are_not_believed() {
    let issuer = Issuer::start().await;
    let api = issuer.api().await;
    let key = Signer::ed();
    issuer.publish(&[&key]);
    let good = json!({ "keys": [key.jwk()] });
    // The answers would be good without what is wrong with each.
    let elsewhere = Issuer::start().await;
    elsewhere.publish(&[&key]);
    issuer.says("/elsewhere", Says::Json(good.clone()));
    let large = json!({ "keys": [key.jwk()], "padding": "x".repeat(300_000) });
    let other = json!({"issuer": format!("{}/", issuer.url), "jwks_uri": format!("{}/keys", issuer.url)});
    let named = |keys: &str| Says::Json(json!({"issuer": issuer.url, "jwks_uri": keys}));
    for (what, path, says) in [
        ("no configuration", CONFIGURATION, Says::Status(404, json!({}))),
        ("another issuer", CONFIGURATION, Says::Json(other)),
        ("no JSON", CONFIGURATION, Says::Bytes(b"<html>".to_vec())),
        ("a redirect", CONFIGURATION, Says::Redirect(format!("{}{CONFIGURATION}", elsewhere.url))),
        ("keys of another machine without TLS", CONFIGURATION, named("http://192.0.2.1/keys")),
        ("keys in a file", CONFIGURATION, named("file:///etc/passwd")),
        (
            "keys behind a password",
            CONFIGURATION,
            named(&format!("{}/keys", issuer.url.replace("http://", "http://a:b@"))),
        ),
        ("no URL", CONFIGURATION, named("keys")),
        ("no keys", "/keys", Says::Status(404, good.clone())),
        ("an error", "/keys", Says::Status(500, good.clone())),
        ("not the whole set", "/keys", Says::Status(206, good.clone())),
        ("a redirect of the keys", "/keys", Says::Redirect(format!("{}/elsewhere", issuer.url))),
        ("too large", "/keys", Says::Json(large)),
        ("endless", "/keys", Says::Flood),
        ("an empty answer", "/keys", Says::Bytes(Vec::new())),
        ("no key set", "/keys", Says::Json(json!({"keys": 7}))),
        ("half of a key set", "/keys", Says::Bytes(good.to_string().into_bytes()[..40].to_vec())),
        ("silence", "/keys", Says::Silence),
    ] {
        issuer.says(path, says);
        let token = key.token("EdDSA", &issuer.claims(&api));
        let refused = orders(&api, &token).await;
        assert_eq!(refused.status, 503, "{what}: {refused:?}");
        let text = String::from_utf8_lossy(&refused.bytes).into_owned();
        assert!(!text.contains("127.0.0.1") && !text.contains("keys"), "{what}: {text}");
        // Whatever the issuer does, everybody else is served.
        api.get("/products").await.ok(200);
        issuer.configured();
        issuer.publish(&[&key]);
        api.clock.advance(Duration::from_secs(10));
    }
    orders(&api, &key.token("EdDSA", &issuer.claims(&api))).await.ok(200);
    // An issuer of another machine does not make this one read what only this one serves.
    assert!(HttpKeySet::new(&OidcConfig::new("http://login.example.com", "shop")).is_err());
    assert!(HttpKeySet::new(&issuer.config().jwks_url("http://login.example.com/keys")).is_err());
}
