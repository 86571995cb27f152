//! Calls of the server, with time limits, retries and a circuit.
//!
//! The SDK describes settings; the calls are sent by reqwest. The client of the SDK cannot trust an authority of one's
//! own, does not tell the status of an answer with an error, and clears a buffer of 8 MB for each call.

use std::time::{Duration, Instant};

use bytes::Bytes;
use ecom_core::{Error, FieldCode, Result, trace};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Method};
use serde_json::Value;
use url::Url;

use super::config::MeilisearchOptions;
use super::error::{failed_task, refused};
use crate::remote::{Failure, Gate, certificates};

/// The pauses between two looks at a task, at first and at most.
const FIRST_LOOK: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// A call of the server.
pub(super) struct Call<'a> {
    pub(super) method: Method,
    pub(super) path: &'a str,
    pub(super) body: Option<Bytes>,
    /// The time limit, with all repetitions.
    pub(super) limit: Duration,
    /// Whether the call may be repeated after a failure, because a second one changes nothing.
    pub(super) is_repeatable: bool,
}

/// The connections to a server. It has no `Debug`, because its headers contain the key.
pub(super) struct Client {
    http: reqwest::Client,
    server: Url,
    gate: Gate,
}

impl Client {
    pub(super) fn new(options: &MeilisearchOptions) -> Result<Self> {
        let unusable = |message: &str| Error::invalid("search", FieldCode::OutOfBounds, message);
        let mut headers = HeaderMap::new();
        if let Some(key) = &options.key {
            let value = HeaderValue::from_str(&format!("Bearer {key}"));
            let mut value = value.map_err(|_| unusable("must have a key of visible ASCII characters"))?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let mut builder =
            reqwest::Client::builder().no_proxy().redirect(Policy::none()).default_headers(headers).tcp_nodelay(true);
        if let Some(path) = &options.certificates {
            let parse = |pem: &[u8]| Certificate::from_pem_bundle(pem).ok().filter(|found| !found.is_empty());
            let certificates = certificates(path, parse)?;
            builder = certificates.into_iter().fold(builder, reqwest::ClientBuilder::add_root_certificate);
        }
        let http = builder.build().map_err(|e| Error::internal("making the client of the search server", e))?;
        Ok(Self { http, server: options.server.clone(), gate: Gate::new(options.concurrent_searches) })
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

    /// Makes a call that enqueues a task, and returns the number of the task.
    pub(super) async fn enqueue(&self, call: Call<'_>) -> Result<u64, Failure> {
        let answer = self.call(call).await?;
        answer.get("taskUid").and_then(Value::as_u64).ok_or(Failure::Garbled("the number of a task"))
    }

    /// Waits until a task has ended. The server carries its tasks out one after another, also those of other indexes.
    pub(super) async fn finished(&self, task: u64, limit: Duration) -> Result<(), Failure> {
        let since = Instant::now();
        let path = format!("tasks/{task}");
        let mut pause = FIRST_LOOK;
        loop {
            let left = limit.saturating_sub(since.elapsed());
            let look = Call { method: Method::GET, path: &path, body: None, limit: left, is_repeatable: true };
            let answer = self.call(look).await?;
            match answer.get("status").and_then(Value::as_str) {
                Some("succeeded") => return Ok(()),
                Some("enqueued" | "processing") => {}
                Some("failed" | "canceled") => return Err(failed_task(&answer["error"])),
                _ => return Err(Failure::Garbled("the status of a task")),
            }
            if since.elapsed() + pause >= limit {
                return Err(Failure::TooSlow);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn once(&self, call: &Call<'_>) -> Result<Value, Failure> {
        // The error of a URL would show the address.
        let url = self.server.join(call.path).map_err(|_| Failure::Garbled("a valid address"))?;
        let mut request = self.http.request(call.method.clone(), url);
        if let Some(body) = &call.body {
            request = request.header(CONTENT_TYPE, "application/json").body(body.clone());
        }
        for (name, value) in trace::headers() {
            request = request.header(name, value);
        }
        let lost = |e: reqwest::Error| Failure::unreachable(e.without_url());
        let response = request.send().await.map_err(lost)?;
        let status = response.status();
        if status.is_redirection() {
            return Err(Failure::Redirected);
        }
        let body = response.bytes().await.map_err(lost)?;
        let parsed = serde_json::from_slice(&body);
        if !status.is_success() {
            return Err(refused(status.as_u16(), &parsed.unwrap_or(Value::Null)));
        }
        parsed.map_err(|_| Failure::Garbled("JSON"))
    }
}
