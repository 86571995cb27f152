//! The spans of traces, the trace context of other systems (W3C Trace Context), and the id of the request that is being
//! served.
//!
//! The library creates spans of the crate `tracing` with the target [`TARGET`] at the level `debug`: for requests, for
//! the writes and cached reads of services, for statements, searches, jobs and calls of webhooks. A subscriber with a
//! layer of `tracing-opentelemetry` exports them; `ecom::logging` (feature `otlp`) has one. A span whose target no
//! subscriber enables costs about as much as a comparison.
//!
//! The id of a request is a value of its task and not a span, because a span for each request costs more than all else
//! that is logged about it. `ecom::logging` writes the id into each line; an application with its own
//! subscriber calls [`request_id`] when it formats a line.

use std::panic::Location;
use std::sync::Arc;

use tokio::task::futures::TaskLocalFuture;
use tracing::Span;
use tracing::instrument::{Instrument as _, Instrumented};

/// The target of all spans of traces.
pub const TARGET: &str = "ecom::trace";

/// The names of the spans that can begin a trace. The others are created for each statement or read, also of the
/// background work, and belong to a trace only inside of one of these.
pub const ROOTS: [&str; 3] = ["request", "job", "webhook"];

/// The maximum length of a header `tracestate` that is passed on, in bytes. The specification allows dropping longer
/// ones.
#[cfg(feature = "otlp")]
const STATE_LIMIT: usize = 512;

tokio::task_local! {
    static REQUEST: Option<Arc<str>>;
}

/// The future of [`in_request`].
pub type InRequest<F> = TaskLocalFuture<Option<Arc<str>>, F>;

/// Returns the id of the request that the current task serves, if it serves one.
pub fn request_id() -> Option<Arc<str>> {
    REQUEST.try_with(Clone::clone).ok().flatten()
}

/// Returns a future that runs `work` for the request with this id.
pub fn in_request<F: Future>(id: Arc<str>, work: F) -> InRequest<F> {
    REQUEST.scope(Some(id), work)
}

/// Calls `work` for the request with this id.
pub fn in_request_now<T>(id: Arc<str>, work: impl FnOnce() -> T) -> T {
    REQUEST.sync_scope(Some(id), work)
}

/// Returns a future that runs `work` for the current request and in the current span, for a task that is spawned.
pub fn carry<F: Future>(work: F) -> Instrumented<InRequest<F>> {
    REQUEST.scope(request_id(), work).in_current_span()
}

/// Returns a function that calls `work` for the current request and in the current span, for another thread.
pub fn carry_blocking<T>(work: impl FnOnce() -> T) -> impl FnOnce() -> T {
    let (id, span) = (request_id(), Span::current());
    move || REQUEST.sync_scope(id, || span.in_scope(work))
}

/// Calls `create`, which creates a span, so that the span continues the trace of another system. The arguments are the
/// headers `traceparent` and `tracestate` that the system has sent. Without a valid `traceparent`, or without the
/// feature `otlp`, the span begins a trace.
pub fn continuing(traceparent: Option<&str>, tracestate: Option<&str>, create: impl FnOnce() -> Span) -> Span {
    #[cfg(feature = "otlp")]
    let _remote = traceparent.and_then(|parent| context::read(parent, tracestate)).map(opentelemetry::Context::attach);
    #[cfg(not(feature = "otlp"))]
    let _ = (traceparent, tracestate);
    create()
}

/// Returns the headers that continue the trace of the current span in another system: `traceparent`, and `tracestate`
/// if there is one. There are none outside of a sampled trace, and none without the feature `otlp`.
pub fn headers() -> Vec<(&'static str, String)> {
    #[cfg(feature = "otlp")]
    let headers = context::headers();
    #[cfg(not(feature = "otlp"))]
    let headers = Vec::new();
    headers
}

/// Returns the span of a write that the service at this place makes.
pub(crate) fn of_write(place: &'static Location<'static>) -> Span {
    let service = service_at(place.file());
    tracing::debug_span!(
        target: TARGET,
        "service",
        otel.name = %format_args!("write {service}"),
        service,
        code.line.number = place.line(),
    )
}

/// Returns the name of the service in a file, such as `sales/order` for `src/service/sales/order/mod.rs`.
fn service_at(file: &str) -> &str {
    let name = file.rsplit_once("/service/").map_or(file, |(_, name)| name);
    name.trim_end_matches(".rs").trim_end_matches("/mod")
}

/// The trace context in headers.
#[cfg(feature = "otlp")]
mod context {
    use opentelemetry::trace::{SpanContext, TraceContextExt as _, TraceState};
    use opentelemetry::{Context, SpanId, TraceFlags, TraceId};

    use super::STATE_LIMIT;

    /// Returns the context that headers contain; `None` if `traceparent` is malformed. A malformed `tracestate` is left
    /// out.
    pub(super) fn read(traceparent: &str, tracestate: Option<&str>) -> Option<Context> {
        let mut parts = traceparent.trim().split('-');
        let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let is_hex = |text: &str, length: usize| {
            text.len() == length && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        };
        if !(is_hex(version, 2) && is_hex(trace, 32) && is_hex(span, 16) && is_hex(flags, 2)) {
            return None;
        }
        // A later version may have more parts.
        if version == "ff" || (version == "00" && parts.next().is_some()) {
            return None;
        }
        let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()?) & TraceFlags::SAMPLED;
        let state = tracestate.filter(|state| state.len() <= STATE_LIMIT).and_then(|state| state.parse().ok());
        let state: TraceState = state.unwrap_or_default();
        let context =
            SpanContext::new(TraceId::from_hex(trace).ok()?, SpanId::from_hex(span).ok()?, flags, true, state);
        context.is_valid().then(|| Context::new().with_remote_span_context(context))
    }

    /// Returns the headers of the current context.
    pub(super) fn headers() -> Vec<(&'static str, String)> {
        Context::map_current(|current| {
            let span = current.span();
            let context = span.span_context();
            if !context.is_valid() {
                return Vec::new();
            }
            let flags = context.trace_flags().to_u8();
            let parent = format!("00-{}-{}-{flags:02x}", context.trace_id(), context.span_id());
            let mut headers = vec![("traceparent", parent)];
            let state = context.trace_state().header();
            if !state.is_empty() {
                headers.push(("tracestate", state));
            }
            headers
        })
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

        #[test]
        fn a_context_is_continued_as_it_was_sent() {
            let sent = read(PARENT, Some("vendor=a,other=b")).unwrap();
            let span = sent.span();
            assert!(span.span_context().is_remote() && span.span_context().is_sampled());
            let attached = sent.clone().attach();
            let state = "vendor=a,other=b".to_owned();
            assert_eq!(headers(), [("traceparent", PARENT.to_owned()), ("tracestate", state)]);
            drop(attached);
            assert!(headers().is_empty());
        }

        #[test]
        fn malformed_contexts_are_ignored() {
            for bad in [
                "",
                "00",
                "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
                "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
                "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
                "00-00000000000000000000000000000000-b7ad6b7169203331-01",
                "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
                "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
                "00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
                "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0x",
            ] {
                assert!(read(bad, None).is_none(), "{bad}");
            }
            assert!(read(&PARENT.replace("00-0", "01-0").replace("-01", "-01-more"), None).is_some());
            let long = "a=b,".repeat(200);
            for state in ["no value", long.as_str()] {
                let kept = read(PARENT, Some(state)).unwrap();
                assert_eq!(kept.span().span_context().trace_state().header(), "", "{state}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_named_after_its_file() {
        assert_eq!(service_at("ecom-core/src/service/sales/order/mod.rs"), "sales/order");
        assert_eq!(service_at("/x/ecom-core-0.1.0/src/service/stock/inventory.rs"), "stock/inventory");
        assert_eq!(service_at("other.rs"), "other");
    }

    #[tokio::test]
    async fn a_request_has_its_id_in_its_tasks_and_nowhere_else() {
        assert_eq!(request_id(), None);
        let work = async {
            let spawned = tokio::spawn(carry(async { request_id() })).await.unwrap();
            let blocking = tokio::task::spawn_blocking(carry_blocking(request_id)).await.unwrap();
            let plain = tokio::spawn(async { request_id() }).await.unwrap();
            (request_id(), spawned, blocking, plain)
        };
        let id: Option<Arc<str>> = Some("r-1".into());
        assert_eq!(in_request("r-1".into(), work).await, (id.clone(), id.clone(), id, None));
        assert_eq!(in_request_now("r-2".into(), || request_id().map(|id| id.to_string())), Some("r-2".to_owned()));
        assert_eq!(request_id(), None);
    }
}
