//! Buckets of S3. The calls go through the HTTP client that the other crates use, so that a program has one
//! implementation of TLS.

use std::time::Duration;

use async_trait::async_trait;
use ecom_core::{Error, FieldCode, Result};
use http_body_util::BodyExt as _;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody, HttpService,
};
use object_store::path::Path;
use object_store::{ClientOptions, RetryConfig};
use url::Url;

/// The time limit of a call, which may send some megabytes.
const CALL: Duration = Duration::from_secs(30);
/// The time limit of a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// For how long a call is repeated. The default of `object_store` is three minutes, for which an upload would wait.
const REPEATED: Duration = Duration::from_secs(10);

/// Opens the bucket of an `s3` URL, and returns it with the prefix of all files.
pub(crate) fn open(url: &str) -> Result<(AmazonS3, Path)> {
    let bad = |message| Error::invalid("media", FieldCode::Malformed, message);
    let url = Url::parse(url).map_err(|_| bad("must be a URL, such as `s3://bucket/prefix?region=eu-central-1`"))?;
    let bucket = url.host_str().filter(|bucket| !bucket.is_empty()).ok_or_else(|| bad("must name a bucket"))?;
    let decoded = |text: &str| {
        let text = percent_encoding::percent_decode_str(text).decode_utf8();
        text.map(String::from).map_err(|_| bad("must be UTF-8"))
    };
    let retry = RetryConfig { max_retries: 3, retry_timeout: REPEATED, ..RetryConfig::default() };
    let mut builder = AmazonS3Builder::new().with_bucket_name(bucket).with_retry(retry).with_http_connector(Connector);
    // Files are removed one by one, and some servers cannot remove several at once.
    builder = builder.with_disable_bulk_delete(true);
    match (url.username(), url.password()) {
        ("", None) => {}
        (key, Some(secret)) if !key.is_empty() => {
            builder = builder.with_access_key_id(decoded(key)?).with_secret_access_key(decoded(secret)?);
        }
        _ => return Err(bad("must have both the id of a key and its secret, or neither")),
    }
    for (name, value) in url.query_pairs() {
        builder = match &*name {
            "region" if !value.is_empty() => builder.with_region(value),
            "endpoint" if value.starts_with("https://") || value.starts_with("http://") => {
                let is_plain = value.starts_with("http://");
                builder.with_endpoint(value).with_allow_http(is_plain)
            }
            _ => return Err(bad("has a parameter that is not `region`, or `endpoint` with an http or https URL")),
        };
    }
    let prefix = Path::from_url_path(url.path()).map_err(|_| bad("has a path that no object can have"))?;
    let store = builder.build().map_err(|e| Error::internal("opening the bucket of images", e))?;
    Ok((store, prefix))
}

/// Makes clients for `object_store`.
#[derive(Debug)]
struct Connector;

impl HttpConnector for Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        let client = reqwest::Client::builder()
            .timeout(CALL)
            .connect_timeout(CONNECT)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|e| object_store::Error::Generic { store: "S3", source: Box::new(e) })?;
        Ok(HttpClient::new(Client(client)))
    }
}

#[derive(Debug)]
struct Client(reqwest::Client);

#[async_trait]
impl HttpService for Client {
    async fn call(&self, request: HttpRequest) -> std::result::Result<HttpResponse, HttpError> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let url = Url::parse(&parts.uri.to_string()).map_err(|e| HttpError::new(HttpErrorKind::Unknown, e))?;
        let mut request = reqwest::Request::new(parts.method, url);
        *request.headers_mut() = parts.headers;
        *request.body_mut() = Some(body.into());
        let answer = self.0.execute(request).await.map_err(failed)?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let body = answer.bytes().await.map_err(failed)?;
        let mut response = HttpResponse::new(HttpResponseBody::from(body));
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        Ok(response)
    }
}

/// Returns the error of a call without its URL.
fn failed(error: reqwest::Error) -> HttpError {
    let kind = if error.is_timeout() {
        HttpErrorKind::Timeout
    } else if error.is_connect() {
        HttpErrorKind::Connect
    } else {
        HttpErrorKind::Interrupted
    };
    HttpError::new(kind, error.without_url())
}
