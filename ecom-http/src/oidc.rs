//! The keys of an issuer of OpenID Connect, fetched over HTTP.

use std::time::Duration;

use ecom_core::access::{OidcConfig, checked_url, is_loopback};
use ecom_core::{BoxError, Dependency, Error, FieldCode, Result};
use reqwest::redirect::Policy;
use reqwest::{Client, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// The time limit of a connection, and of a whole call.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);
const LIMIT: Duration = Duration::from_secs(5);
/// The maximum size of a response, in bytes.
const MAX_ANSWER: usize = 256 * 1024;

/// The key set of an issuer of OpenID Connect, which each fetch reads from the URL of the settings or, without one,
/// from the URL that the issuer's `/.well-known/openid-configuration` names.
///
/// Only URLs with `https` are read, or with `http` from this machine. A redirect, a response of more than 256 KiB, and
/// one that takes longer than 5 s are errors.
///
/// ```
/// # async fn app(mut parts: ecom_core::ShopParts) -> ecom_core::Result<()> {
/// use std::sync::Arc;
///
/// use ecom_core::access::{OidcConfig, OidcIssuer};
/// use ecom_http::HttpKeySet;
///
/// let config = OidcConfig::new("https://login.example.com", "shop").roles_claim("groups").role("clerks", "staff");
/// let keys = Arc::new(HttpKeySet::new(&config)?);
/// parts.oidc = Some(OidcIssuer { config, keys });
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct HttpKeySet {
    http: Client,
    issuer: String,
    keys: Option<Url>,
    may_be_local: bool,
}

/// The configuration document of an issuer (OpenID Connect Discovery, 3).
#[derive(Deserialize)]
struct Metadata {
    issuer: String,
    jwks_uri: String,
}

/// The error of a key set that cannot be read. No message shows the response of the issuer.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("the issuer cannot be reached")]
    Unreachable(#[source] reqwest::Error),
    #[error("the issuer has answered with the status {0}")]
    Status(u16),
    #[error("the issuer has answered with more than {MAX_ANSWER} bytes")]
    TooLarge,
    #[error("the issuer has not answered with the expected JSON")]
    Garbled,
    #[error("the configuration of the issuer names another issuer")]
    OtherIssuer,
    #[error("the configuration of the issuer names a key set whose URL does not begin with `https`")]
    InsecureKeys,
}

impl HttpKeySet {
    /// Returns the key set of an issuer. Nothing is fetched yet.
    ///
    /// # Errors
    /// `Validation` if a setting is out of bounds, `Internal` if the client cannot be made.
    pub fn new(config: &OidcConfig) -> Result<Self> {
        config.check()?;
        let malformed = |field| Error::invalid(field, FieldCode::Malformed, "must be a URL");
        let issuer = checked_url(&config.issuer).ok_or_else(|| malformed("oidc_issuer"))?;
        let may_be_local = is_loopback(&issuer);
        let keys = match &config.jwks_url {
            Some(url) => Some(checked_url(url).ok_or_else(|| malformed("oidc_jwks_url"))?),
            None => None,
        };
        let http = Client::builder()
            .no_proxy()
            .redirect(Policy::none())
            .connect_timeout(CONNECT_LIMIT)
            .timeout(LIMIT)
            .build()
            .map_err(|e| Error::internal("making the client of the issuer", e))?;
        Ok(Self { http, issuer: config.issuer.clone(), keys, may_be_local })
    }

    async fn read(&self) -> Result<Vec<u8>, Failure> {
        if let Some(url) = &self.keys {
            return self.get(url.clone()).await;
        }
        let configuration = format!("{}/.well-known/openid-configuration", self.issuer.trim_end_matches('/'));
        let configuration = Url::parse(&configuration).map_err(|_| Failure::Garbled)?;
        let Metadata { issuer, jwks_uri } = parsed(&self.get(configuration).await?)?;
        if issuer != self.issuer {
            return Err(Failure::OtherIssuer);
        }
        // An issuer elsewhere must not make this process read what only this machine serves.
        let url = checked_url(&jwks_uri).filter(|url| url.scheme() == "https" || self.may_be_local);
        self.get(url.ok_or(Failure::InsecureKeys)?).await
    }

    async fn get(&self, url: Url) -> Result<Vec<u8>, Failure> {
        let lost = |e: reqwest::Error| Failure::Unreachable(e.without_url());
        let mut response = self.http.get(url).send().await.map_err(lost)?;
        if response.status() != reqwest::StatusCode::OK {
            return Err(Failure::Status(response.status().as_u16()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(lost)? {
            if body.len() + chunk.len() > MAX_ANSWER {
                return Err(Failure::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}

fn parsed<T: DeserializeOwned>(json: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(json).map_err(|_| Failure::Garbled)
}

#[async_trait::async_trait]
impl ecom_core::port::KeySetSource for HttpKeySet {
    async fn fetch(&self) -> Result<Vec<u8>> {
        let failed = |failure| Error::unavailable(Dependency::Issuer, BoxError::from(failure));
        self.read().await.map_err(failed)
    }
}
