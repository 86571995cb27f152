//! Calls of the server, with time limits, retries and a circuit.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ::elasticsearch::auth::Credentials;
use ::elasticsearch::cert::{Certificate, CertificateValidation};
use ::elasticsearch::http::Method;
use ::elasticsearch::http::headers::HeaderMap;
use ::elasticsearch::http::transport::{SingleNodeConnectionPool, Transport, TransportBuilder};
use bytes::Bytes;
use ecom_core::{Error, FieldCode, Result};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::Semaphore;
use url::Url;

use super::config::{Authentication, ElasticsearchOptions};
use super::error::Failure;

/// The number of failures in a row after which calls are not sent for a while.
const FAILURES: u32 = 3;
/// How long calls are not sent, at first and at most. The time doubles with each trial that fails.
const FIRST_REST: Duration = Duration::from_millis(500);
const LONGEST_REST: Duration = Duration::from_secs(10);
/// The pauses before a call is repeated.
const PAUSES: [Duration; 3] = [Duration::from_millis(50), Duration::from_millis(200), Duration::from_millis(800)];

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
    searches: Semaphore,
    circuit: Mutex<Circuit>,
    is_closed: AtomicBool,
}

impl Client {
    pub(super) fn new(options: &ElasticsearchOptions) -> Result<Self> {
        let unusable = |message: &str| Error::invalid("search", FieldCode::OutOfBounds, message);
        let mut builder = TransportBuilder::new(SingleNodeConnectionPool::new(options.server.clone())).disable_proxy();
        builder = match options.authentication.clone() {
            None => builder,
            Some(Authentication::Basic { user, password }) => builder.auth(Credentials::Basic(user, password)),
            Some(Authentication::ApiKey(key)) => builder.auth(Credentials::EncodedApiKey(key)),
            Some(Authentication::Bearer(token)) => builder.auth(Credentials::Bearer(token)),
        };
        if let Some(path) = &options.certificates {
            let pem = std::fs::read(path).map_err(|e| {
                tracing::debug!(error = %e, "the certificates of the search server cannot be read");
                unusable(&format!("must name a file of certificates that can be read ({})", e.kind()))
            })?;
            let certificates = Certificate::from_pem(&pem)
                .map_err(|_| unusable("must name a file with at least one certificate in PEM"))?;
            builder = builder.cert_validation(CertificateValidation::Full(certificates));
        }
        let transport = builder.build().map_err(|e| Error::internal("making the client of the search server", e))?;
        Ok(Self {
            transport,
            server: options.server.clone(),
            searches: Semaphore::new(options.concurrent_searches),
            circuit: Mutex::default(),
            is_closed: AtomicBool::new(false),
        })
    }

    /// Refuses all later calls.
    pub(super) fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        self.searches.close();
    }

    /// Waits for a permit to search, and then makes the call. The wait counts against the limit of the call.
    pub(super) async fn search(&self, call: Call<'_>) -> Result<Value, Failure> {
        let since = Instant::now();
        let turn = tokio::time::timeout(call.limit, self.searches.acquire());
        let _turn = turn.await.map_err(|_| Failure::TooSlow)?.map_err(|_| Failure::Closed)?;
        let limit = call.limit.saturating_sub(since.elapsed());
        if limit < call.limit / 4 {
            // The server would get too little time to answer, and would be blamed for it.
            return Err(Failure::TooSlow);
        }
        self.call(Call { limit, ..call }).await
    }

    /// Makes a call and returns the JSON of its answer.
    pub(super) async fn call(&self, call: Call<'_>) -> Result<Value, Failure> {
        let since = Instant::now();
        let mut pauses = PAUSES.iter();
        loop {
            let limit = call.limit.saturating_sub(since.elapsed());
            if self.is_closed.load(Ordering::Acquire) {
                return Err(Failure::Closed);
            }
            let is_trial = self.circuit.lock().admit()?;
            // If the caller is cancelled, the circuit must not wait for the end of a trial.
            let attempt = Attempt { client: self, is_trial, is_over: false };
            let answer = match tokio::time::timeout(limit, self.once(&call)).await {
                Ok(answer) => answer,
                Err(_) => Err(Failure::TooSlow),
            };
            let pause = pauses.next().filter(|pause| {
                let is_temporary = answer.as_ref().is_err_and(Failure::is_temporary);
                call.is_repeatable && is_temporary && !is_trial && since.elapsed() + **pause < call.limit
            });
            match pause {
                // Only the last attempt of a call counts for the circuit.
                Some(pause) => {
                    drop(attempt);
                    tokio::time::sleep(*pause).await;
                }
                None => {
                    attempt.ended(answer.as_ref().is_err_and(Failure::blames_server));
                    return answer;
                }
            }
        }
    }

    async fn once(&self, call: &Call<'_>) -> Result<Value, Failure> {
        let send = self.transport.send(
            call.method,
            call.path,
            HeaderMap::new(),
            Some(call.parameters),
            call.body.clone(),
            None,
        );
        let response = send.await.map_err(Failure::Unreachable)?;
        // A redirection makes a GET without a body of every call.
        let (asked, answered) = (&self.server, response.url());
        if asked.origin() != answered.origin() || !answered.path().ends_with(call.path) {
            return Err(Failure::Redirected);
        }
        let status = response.status_code().as_u16();
        let body = response.bytes().await.map_err(Failure::Unreachable)?;
        let parsed = serde_json::from_slice(&body);
        if status >= 400 {
            return Err(Failure::refused(status, &parsed.unwrap_or(Value::Null)));
        }
        parsed.map_err(|_| Failure::Garbled("JSON"))
    }
}

/// Reports the end of a call to the circuit, also if its future is dropped.
struct Attempt<'a> {
    client: &'a Client,
    is_trial: bool,
    is_over: bool,
}

impl Attempt<'_> {
    fn ended(mut self, failed: bool) {
        self.is_over = true;
        self.client.circuit.lock().ended(failed, self.is_trial);
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if self.is_trial && !self.is_over {
            self.client.circuit.lock().is_trying = false;
        }
    }
}

/// Spares callers the time limit while the server does not answer: after several failures in a row, calls fail at once,
/// and from time to time one of them is sent as a trial.
#[derive(Debug, Default)]
struct Circuit {
    failures: u32,
    rest: Duration,
    rests_until: Option<Instant>,
    /// Whether a trial is on its way.
    is_trying: bool,
}

impl Circuit {
    /// Returns whether the call is a trial.
    fn admit(&mut self) -> Result<bool, Failure> {
        let Some(until) = self.rests_until else { return Ok(false) };
        if self.is_trying || Instant::now() < until {
            return Err(Failure::Resting);
        }
        self.is_trying = true;
        Ok(true)
    }

    fn ended(&mut self, failed: bool, is_trial: bool) {
        if self.rests_until.is_some() && !is_trial {
            // A call that was sent before the circuit opened.
            return;
        }
        self.is_trying = false;
        if !failed {
            if self.rests_until.is_some() {
                tracing::info!("the search server answers again");
            }
            *self = Self::default();
            return;
        }
        self.failures = self.failures.saturating_add(1);
        if self.failures >= FAILURES {
            if self.rests_until.is_none() {
                tracing::warn!("the search server does not answer; calls fail at once until it does");
            }
            self.rest = (self.rest * 2).clamp(FIRST_REST, LONGEST_REST);
            self.rests_until = Some(Instant::now() + self.rest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_circuit_opens_after_failures_and_lets_one_trial_pass() {
        let mut circuit = Circuit::default();
        for _ in 0..FAILURES {
            assert!(circuit.admit().is_ok(), "calls are sent until there are enough failures");
            circuit.ended(true, false);
        }
        circuit.ended(true, false);
        assert_eq!(circuit.rest, FIRST_REST, "calls that were sent before do not make the rest longer");
        assert!(circuit.admit().is_err(), "calls are not sent after {FAILURES} failures");
        let over = |circuit: &mut Circuit| circuit.rests_until = Some(Instant::now());
        over(&mut circuit);
        assert!(matches!(circuit.admit(), Ok(true)), "one call is a trial");
        circuit.ended(false, false);
        assert!(circuit.admit().is_err(), "there is one trial at a time");
        circuit.ended(true, true);
        assert!(circuit.admit().is_err(), "a trial that fails begins another rest");
        assert_eq!(circuit.rest, FIRST_REST * 2);
        over(&mut circuit);
        assert!(circuit.admit().is_ok());
        circuit.ended(false, true);
        assert!(circuit.admit().is_ok() && circuit.admit().is_ok(), "a trial that succeeds closes the circuit");
    }
}
