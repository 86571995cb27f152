//! The export of traces to a collector of OpenTelemetry.

use std::error::Error as StdError;
use std::hash::{BuildHasher as _, RandomState};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use ecom_core::{Error, FieldCode, Result, WithCauses, trace};
use opentelemetry::Context as TraceContext;
use opentelemetry::trace::{TraceContextExt as _, TracerProvider as _};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{BatchSpanProcessor, Sampler, SdkTracerProvider};
use parking_lot::Mutex;
use reqwest::blocking::Client;
use reqwest::redirect::Policy;
use rust_decimal::prelude::ToPrimitive as _;
use tracing::subscriber::Interest;
use tracing::{Metadata, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Context, Filter};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{EnvFilter, Layer, Registry};

use crate::config::TraceConfig;

/// The time limit of a call of the collector.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How long the end of the process waits for the spans that are not sent yet.
const LAST: Duration = Duration::from_secs(3);
/// How often a collector that stays down is logged.
const REMINDED_EVERY: Duration = Duration::from_secs(300);

/// The traces of the process. When it is dropped, the spans that wait are sent.
#[derive(Debug)]
pub(super) struct Traces(SdkTracerProvider);

impl Traces {
    /// Starts the thread that sends spans, and returns the layer that records them.
    pub fn start(config: &TraceConfig) -> Result<(Self, Box<dyn Layer<Registry> + Send + Sync>)> {
        let endpoint = format!("{}/v1/traces", config.endpoint.expose().trim_end_matches('/'));
        // The message shows no URL, which can contain a password.
        let invalid = |_| Error::invalid("ECOM_OTLP_ENDPOINT", FieldCode::Malformed, "must be a valid URL");
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Collector::new()?)
            .with_endpoint(endpoint)
            .with_timeout(TIMEOUT)
            .build()
            .map_err(invalid)?;
        let provider = SdkTracerProvider::builder()
            .with_span_processor(BatchSpanProcessor::builder(exporter).build())
            // `Gate` has decided before.
            .with_sampler(Sampler::AlwaysOn)
            .with_resource(Resource::builder().with_service_name(config.service.clone()).build())
            .build();
        let layer = tracing_opentelemetry::layer::<Registry>()
            .with_tracer(provider.tracer("ecom"))
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_filter(Targets::new().with_target(trace::TARGET, LevelFilter::DEBUG));
        Ok((Self(provider), layer.boxed()))
    }

    /// Sends the spans that wait.
    pub fn flush(&self) {
        // The client logs a failure.
        let _ = self.0.force_flush();
    }
}

impl Drop for Traces {
    fn drop(&mut self) {
        let _ = self.0.shutdown_with_timeout(LAST);
    }
}

/// Disables the spans of traces that are not recorded, for all layers. It decides when the first span of a trace is
/// about to be created, and all others follow.
///
/// A filter of the exporting layer is not enough, because the registry creates a span even if the filter of each layer
/// has disabled it.
pub(super) struct Gate {
    /// The filter of the log, which names the callsites that no layer needs.
    lines: EnvFilter,
    /// The share of traces that are recorded, from 0 to 1.
    share: f64,
}

impl Gate {
    /// Returns the gate for a log with this filter.
    pub fn new(config: &TraceConfig, lines: EnvFilter) -> Self {
        Self { lines, share: config.sample.to_f64().unwrap_or(0.0) }
    }

    /// Decides whether to record the trace that begins now.
    fn takes(&self) -> bool {
        let caller = TraceContext::map_current(|current| {
            let span = current.span();
            let context = span.span_context();
            context.is_valid().then(|| context.is_sampled())
        });
        caller.unwrap_or_else(|| {
            // Each `RandomState` has another key, so this is a random number.
            let random = u32::try_from(RandomState::new().hash_one(()) >> 32).unwrap_or(u32::MAX);
            f64::from(random) < self.share * (f64::from(u32::MAX) + 1.0)
        })
    }
}

/// Returns whether the current span belongs to a trace that is recorded.
fn is_recorded<S>(cx: &Context<'_, S>) -> bool
where
    S: Subscriber + for<'l> LookupSpan<'l>,
{
    cx.lookup_current().is_some_and(|span| span.scope().any(|span| span.metadata().target() == trace::TARGET))
}

impl<S> Layer<S> for Gate
where
    S: Subscriber + for<'l> LookupSpan<'l>,
{
    fn register_callsite(&self, meta: &'static Metadata<'static>) -> Interest {
        if meta.target() == trace::TARGET {
            Interest::sometimes()
        } else {
            Filter::<S>::callsite_enabled(&self.lines, meta)
        }
    }

    fn enabled(&self, meta: &Metadata<'_>, cx: Context<'_, S>) -> bool {
        meta.target() != trace::TARGET || is_recorded(&cx) || (trace::ROOTS.contains(&meta.name()) && self.takes())
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(Filter::<S>::max_level_hint(&self.lines)?.max(LevelFilter::DEBUG))
    }
}

/// The client that calls the collector. The thread that sends spans waits for it, and nothing else does.
#[derive(Debug)]
struct Collector {
    http: Client,
    /// When a failure was logged, while the collector fails.
    logged: Mutex<Option<Instant>>,
}

impl Collector {
    fn new() -> Result<Self> {
        let build = || Client::builder().no_proxy().redirect(Policy::none()).timeout(TIMEOUT).build();
        // The client must not be made on a thread of a runtime.
        let made = std::thread::spawn(build)
            .join()
            .map_err(|_| Error::Internal { context: "making the client of the trace collector", source: None })?;
        let http = made.map_err(|e| Error::internal("making the client of the trace collector", e))?;
        Ok(Self { http, logged: Mutex::new(None) })
    }

    fn send(&self, request: Request<Bytes>) -> std::result::Result<Response<Bytes>, reqwest::Error> {
        let (parts, body) = request.into_parts();
        let answer = self.http.post(parts.uri.to_string()).headers(parts.headers).body(body).send()?;
        let status = answer.status();
        let mut response = Response::new(answer.bytes()?);
        *response.status_mut() = status;
        Ok(response)
    }

    /// Logs a failure of the collector, and its end, but not each of many.
    fn note(&self, failure: Option<&(dyn StdError + 'static)>) {
        let mut logged = self.logged.lock();
        match failure {
            Some(_) if logged.is_some_and(|at| at.elapsed() < REMINDED_EVERY) => {}
            Some(error) => {
                *logged = Some(Instant::now());
                let error = WithCauses(error);
                tracing::warn!(%error, "traces are lost, because the trace collector does not accept them");
            }
            None if logged.take().is_some() => tracing::info!("the trace collector accepts traces again"),
            None => {}
        }
    }
}

/// The collector has answered with the status of an error.
#[derive(Debug)]
struct Refused(u16);

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "it has answered with the status {}", self.0)
    }
}

impl StdError for Refused {}

#[async_trait]
impl HttpClient for Collector {
    async fn send_bytes(&self, request: Request<Bytes>) -> std::result::Result<Response<Bytes>, HttpError> {
        match self.send(request) {
            Ok(response) => {
                let status = response.status();
                let refused = Refused(status.as_u16());
                self.note(if status.is_success() { None } else { Some(&refused) });
                Ok(response)
            }
            Err(error) => {
                let error = error.without_url();
                self.note(Some(&error));
                Err(error.into())
            }
        }
    }
}
