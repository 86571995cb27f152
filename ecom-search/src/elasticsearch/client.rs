//! Calls of the server, with time limits, retries and a circuit.

use std::time::Duration;

use ::elasticsearch::auth::Credentials;
use ::elasticsearch::cert::{Certificate, CertificateValidation};
use ::elasticsearch::http::Method;
use ::elasticsearch::http::headers::{HeaderMap, HeaderValue};
use ::elasticsearch::http::transport::{SingleNodeConnectionPool, Transport, TransportBuilder};
use bytes::Bytes;
use ecom_core::{Error, Result, trace};
use serde_json::Value;
use url::Url;

use super::config::{Authentication, ElasticsearchOptions};
use super::error::refused;
use crate::remote::{Failure, Gate, certificates};

/// A call of the server.
pub(super) struct Call<'a> {
    pub(super) method: Method,
    pub(super) path: &'a str,
    pub(super) parameters: &'a [(&'a str, &'a str)],
    pub(super) body: Option<Bytes>,
    /// The time limit, with all repetitions.
    pub(super) limit: Duration,
    /// Whether the call may be repeated after a failure, because a second one changes nothing.
    pub(super) is_repeatable: bool,
}

/// The connections to a server. It has no `Debug`, because that of the transport shows credentials.
pub(super) struct Client {
    transport: Transport,
    server: Url,
    gate: Gate,
}

impl Client {
    pub(super) fn new(options: &ElasticsearchOptions) -> Result<Self> {
        let mut builder = TransportBuilder::new(SingleNodeConnectionPool::new(options.server.clone())).disable_proxy();
        builder = match options.authentication.clone() {
            None => builder,
            Some(Authentication::Basic { user, password }) => builder.auth(Credentials::Basic(user, password)),
            Some(Authentication::ApiKey(key)) => builder.auth(Credentials::EncodedApiKey(key)),
            Some(Authentication::Bearer(token)) => builder.auth(Credentials::Bearer(token)),
        };
        if let Some(path) = &options.certificates {
            let certificates = certificates(path, |pem| Certificate::from_pem(pem).ok())?;
            builder = builder.cert_validation(CertificateValidation::Full(certificates));
        }
        let transport = builder.build().map_err(|e| Error::internal("making the client of the search server", e))?;
        Ok(Self { transport, server: options.server.clone(), gate: Gate::new(options.concurrent_searches) })
    }

    /// Refuses all later calls.
    pub(super) fn close(&self) {
        self.gate.close();
    }

    /// Waits for a permit to search, and then makes the call. The wait counts against the limit of the call.
    pub(super) async fn search(&self, call: Call<'_>) -> Result<Value, Failure> {
        let (_turn, limit) = self.gate.turn(call.limit).await?;
        self.call(Call { limit, ..call }).await
    }

    /// Makes a call and returns the JSON of its answer.
    pub(super) async fn call(&self, call: Call<'_>) -> Result<Value, Failure> {
        self.gate.call(call.limit, call.is_repeatable, || self.once(&call)).await
    }

    async fn once(&self, call: &Call<'_>) -> Result<Value, Failure> {
        let mut headers = HeaderMap::new();
        for (name, value) in trace::headers() {
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(name, value);
            }
        }
        let send = self.transport.send(call.method, call.path, headers, Some(call.parameters), call.body.clone(), None);
        let response = send.await.map_err(Failure::unreachable)?;
        // A redirection makes a GET without a body of every call.
        let (asked, answered) = (&self.server, response.url());
        if asked.origin() != answered.origin() || !answered.path().ends_with(call.path) {
            return Err(Failure::Redirected);
        }
        let status = response.status_code().as_u16();
        let body = response.bytes().await.map_err(Failure::unreachable)?;
        let parsed = serde_json::from_slice(&body);
        if status >= 400 {
            return Err(refused(status, &parsed.unwrap_or(Value::Null)));
        }
        parsed.map_err(|_| Failure::Garbled("JSON"))
    }
}
