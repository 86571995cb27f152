//! The settings of an issuer of OpenID Connect, whose tokens a shop accepts in addition to its own.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use derive_setters::Setters;
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use url::{Host, Url};

use crate::domain::common::Actor;
use crate::domain::words::words;
use crate::error::{Result, ValidationErrors};

words! {
    /// An algorithm by which an issuer signs tokens, with a private key (RFC 7518, RFC 8037). Algorithms with a shared
    /// secret and the algorithm `none` are not supported.
    SignatureAlgorithm {
        /// Ed25519.
        EdDsa = "EdDSA",
        /// ECDSA with the curve P-256 and SHA-256.
        Es256 = "ES256",
        /// ECDSA with the curve P-384 and SHA-384.
        Es384 = "ES384",
        /// RSA with PKCS #1 padding and SHA-256.
        Rs256 = "RS256",
        /// RSA with PKCS #1 padding and SHA-384.
        Rs384 = "RS384",
        /// RSA with PKCS #1 padding and SHA-512.
        Rs512 = "RS512",
        /// RSA with PSS padding and SHA-256.
        Ps256 = "PS256",
        /// RSA with PSS padding and SHA-384.
        Ps384 = "PS384",
        /// RSA with PSS padding and SHA-512.
        Ps512 = "PS512",
    }
}

/// An issuer of OpenID Connect, and what its tokens grant.
///
/// A token is accepted if the issuer has signed it with one of the `algorithms`, it names exactly this issuer and,
/// among its audiences, this audience, and it is valid at this time. Its caller acts as `oidc:<subject>` and has the
/// permissions of the roles to which `role_map` maps the values of `roles_claim`; if no value is mapped, it has no
/// permissions.
///
/// ```
/// use ecom_core::access::OidcConfig;
///
/// let issuer = OidcConfig::new("https://login.example.com/realms/shop", "shop")
///     .roles_claim("realm_access.roles")
///     .role("shop-admins", "admin")
///     .role("clerks", "staff");
/// assert!(issuer.check().is_ok());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Setters)]
#[setters(strip_option)]
#[non_exhaustive]
pub struct OidcConfig {
    /// The issuer: a URL with `https`, or with `http` and a loopback host, without a query and a fragment. Tokens must
    /// name it character by character.
    #[setters(into)]
    pub issuer: String,
    /// The audience, of 1–255 characters, that tokens must name, such as the client id of the shop.
    #[setters(into)]
    pub audience: String,
    /// The URL of the key set. By default, the issuer's `/.well-known/openid-configuration` names it.
    #[setters(into)]
    pub jwks_url: Option<String>,
    /// The accepted algorithms. Default RS256, ES256 and EdDSA.
    pub algorithms: Vec<SignatureAlgorithm>,
    /// The claim with the roles of the caller: a name such as `groups`, or names of nested objects, separated by dots,
    /// such as `realm_access.roles`. Its value is a list of texts, or one text with words separated by spaces. Default
    /// none.
    #[setters(into)]
    pub roles_claim: Option<String>,
    /// The roles of the shop, by the values of the claim. Values and roles that do not exist grant nothing. Default
    /// none.
    pub role_map: BTreeMap<String, String>,
    /// How far the clock of the issuer may differ. At most 5 min, default 60 s.
    pub leeway: Duration,
    /// The age at which the key set is fetched again. 1 min to 24 hours, default 1 hour.
    pub refresh_interval: Duration,
    /// The minimum time between two fetches of the key set, also because of a key that it does not contain. 1 s to 1
    /// hour, default 10 s.
    pub min_refresh_interval: Duration,
    /// How old the key set may become while the issuer does not answer. After that, its tokens lead to `Unavailable`.
    /// At least `refresh_interval`, at most 7 days, default 24 hours.
    pub max_stale: Duration,
}

impl OidcConfig {
    /// Returns an issuer with default settings. Its tokens grant no permissions.
    pub fn new(issuer: impl Into<String>, audience: impl Into<String>) -> Self {
        use SignatureAlgorithm as A;
        Self {
            issuer: issuer.into(),
            audience: audience.into(),
            jwks_url: None,
            algorithms: vec![A::Rs256, A::Es256, A::EdDsa],
            roles_claim: None,
            role_map: BTreeMap::new(),
            leeway: Duration::from_secs(60),
            refresh_interval: Duration::from_secs(60 * 60),
            min_refresh_interval: Duration::from_secs(10),
            max_stale: Duration::from_secs(24 * 60 * 60),
        }
    }

    /// Maps a value of the claim to a role of the shop.
    #[must_use]
    pub fn role(mut self, value: impl Into<String>, role: impl Into<String>) -> Self {
        self.role_map.insert(value.into(), role.into());
        self
    }

    /// Checks the settings. The names of fields in errors begin with `oidc_`.
    ///
    /// # Errors
    /// `Validation` with each setting that is out of bounds.
    pub fn check(&self) -> Result<()> {
        let mut e = ValidationErrors::default();
        let mut within = |field: &str, ok: bool, bounds: &str| {
            if !ok {
                e.out_of_bounds(format!("oidc_{field}"), format!("must {bounds}"));
            }
        };
        let url = "be a URL with `https`, or with `http` and a loopback host, without a user, a query and a fragment";
        let is_plain = |url: &Url| url.query().is_none() && url.fragment().is_none();
        within("issuer", checked_url(&self.issuer).as_ref().is_some_and(is_plain), url);
        let keys = self.jwks_url.as_deref();
        within(
            "jwks_url",
            keys.is_none_or(|url| checked_url(url).is_some()),
            "be a URL with the same rules as that of the issuer",
        );
        within("audience", (1..=255).contains(&self.audience.chars().count()), "have 1 to 255 characters");
        within("algorithms", !self.algorithms.is_empty(), "name at least one algorithm");
        let claim = self.roles_claim.as_deref();
        within("roles_claim", claim.is_none_or(|c| (1..=255).contains(&c.len())), "have 1 to 255 bytes");
        within("role_map", self.role_map.len() <= 1_000, "map at most 1,000 values");
        within("role_map", self.role_map.is_empty() || claim.is_some(), "be empty, because there is no claim of roles");
        within("leeway", self.leeway <= Duration::from_secs(300), "be at most 5 minutes");
        let (minute, day) = (Duration::from_secs(60), Duration::from_secs(86_400));
        within("refresh_interval", (minute..=day).contains(&self.refresh_interval), "be between 1 minute and 24 hours");
        let least = Duration::from_secs(1)..=Duration::from_secs(3_600);
        within("min_refresh_interval", least.contains(&self.min_refresh_interval), "be between 1 second and 1 hour");
        within(
            "max_stale",
            (self.refresh_interval..=7 * day).contains(&self.max_stale),
            "be at least `refresh_interval` and at most 7 days",
        );
        e.into_result()
    }
}

/// Parses the URL of an issuer or of its key set. Returns `None` unless the responses can be trusted: the URL must have
/// `https`, or `http` and a loopback host.
pub fn checked_url(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok().filter(|url| url.username().is_empty() && url.password().is_none())?;
    match url.scheme() {
        "https" => url.host().is_some(),
        "http" => is_loopback(&url),
        _ => false,
    }
    .then_some(url)
}

/// Returns whether the host of a URL is this machine.
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// Returns the actor of a subject: `oidc:<subject>`, or a hash of a subject that is long or has unusual characters. Two
/// subjects never have one actor.
pub(crate) fn actor_of(subject: &str) -> Actor {
    const HASHED: &str = "sha256-";
    let is_plain = subject.len() <= 95 && subject.bytes().all(|b| b.is_ascii_graphic()) && !subject.starts_with(HASHED);
    if is_plain {
        return Actor::new(format!("oidc:{subject}"));
    }
    let hash = URL_SAFE_NO_PAD.encode(digest(&SHA256, subject.as_bytes()));
    Actor::new(format!("oidc:{HASHED}{hash}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r17_bad_settings_are_named() {
        let good = || OidcConfig::new("https://login.example.com/realms/shop", "shop");
        assert!(good().roles_claim("groups").role("a", "admin").check().is_ok());
        for issuer in ["http://127.0.0.1:8080", "http://[::1]/x", "http://localhost:1/realms/a"] {
            assert!(OidcConfig::new(issuer, "shop").check().is_ok(), "{issuer}");
        }
        for issuer in [
            "",
            "login.example.com",
            "http://login.example.com",
            "http://127.0.0.1.example.com",
            "http://localhost.example.com",
            "http://10.0.0.1",
            "ftp://login.example.com",
            "file:///etc/passwd",
            "https://u:p@login.example.com",
            "https://u@login.example.com",
            "https://login.example.com?a=b",
            "https://login.example.com#a",
        ] {
            let text = OidcConfig::new(issuer, "shop").check().unwrap_err().to_string();
            assert!(text.contains("oidc_issuer"), "{issuer}: {text}");
        }
        let minutes = |n: u64| Duration::from_secs(60 * n);
        for (field, bad) in [
            ("audience", OidcConfig { audience: String::new(), ..good() }),
            ("jwks_url", good().jwks_url("http://login.example.com/keys")),
            ("algorithms", good().algorithms(Vec::new())),
            ("roles_claim", good().roles_claim("")),
            ("role_map", good().role("a", "admin")),
            ("leeway", good().leeway(minutes(6))),
            ("refresh_interval", good().refresh_interval(minutes(0))),
            ("min_refresh_interval", good().min_refresh_interval(minutes(0))),
            ("max_stale", good().max_stale(minutes(1))),
            ("max_stale", good().max_stale(minutes(8 * 24 * 60))),
        ] {
            let text = bad.check().unwrap_err().to_string();
            assert!(text.contains(&format!("oidc_{field}")), "{field}: {text}");
        }
        for word in ["none", "HS256", "HS384", "HS512", "rs256", ""] {
            assert_eq!(SignatureAlgorithm::parse(word), None, "{word}");
        }
    }

    #[test]
    fn each_subject_has_an_actor_of_its_own() {
        let long = "x".repeat(96);
        let hash_of_long = actor_of(&long).as_str().strip_prefix("oidc:").unwrap().to_owned();
        let subjects = [
            "ada",
            "ADA",
            "auth0|1",
            "ada ",
            " ada",
            "a\0da",
            "äda",
            &long[..95],
            &long,
            &format!("{long}x"),
            &hash_of_long,
        ];
        let actors: std::collections::BTreeSet<String> =
            subjects.iter().map(|subject| actor_of(subject).as_str().to_owned()).collect();
        assert_eq!(actors.len(), subjects.len(), "{actors:?}");
        assert!(actors.iter().all(|actor| actor.starts_with("oidc:") && actor.chars().count() <= 100), "{actors:?}");
        assert!(actors.contains("oidc:auth0|1"), "{actors:?}");
    }
}
