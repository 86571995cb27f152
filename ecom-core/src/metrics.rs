//! The metrics of a shop, with the names, types and labels that Prometheus shows.
//!
//! The crates record through the facade of the crate `metrics`, as they log through `tracing`, and install no recorder
//! themselves. A recorder belongs to the process, and so do these numbers: if a process has several shops, they add up.
//! Before [`enable`] is called, nothing is recorded and no handle is looked up.
//!
//! `ecom_http::router` with `HttpConfig::metrics` installs the recorder for Prometheus and calls [`enable`]. An
//! application with another recorder installs it and then calls [`enable`] itself:
//!
//! ```
//! # use metrics::NoopRecorder as MyRecorder;
//! metrics::set_global_recorder(MyRecorder)?;
//! ecom_core::metrics::enable();
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A [sampled](Metric::is_sampled) metric is not recorded. It is read at a scrape, by
//! [`Shop::samples`](crate::Shop::samples) and [`Shop::state_samples`](crate::Shop::state_samples).
//!
//! No label contains an id, a path, or a text that a client has sent. `docs/metrics.md` has all metrics in a table.

use std::sync::atomic::{AtomicBool, Ordering};

use ::metrics::Label;
pub use ::metrics::{Counter, Histogram};

/// The type of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum MetricKind {
    /// A number that only increases, from 0 at the start of the process.
    Counter,
    /// A number that can increase and decrease.
    Gauge,
    /// The distribution of a quantity over [`Metric::buckets`].
    Histogram,
}

impl MetricKind {
    /// Returns the word of Prometheus for the type.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A metric.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Metric {
    /// The name.
    pub name: &'static str,
    /// The type.
    pub kind: MetricKind,
    /// What it measures.
    pub meaning: &'static str,
    /// The labels, and the values that each can have.
    pub labels: &'static [(&'static str, &'static str)],
    /// Whether it is read at a scrape, and not recorded.
    pub is_sampled: bool,
    /// The upper bounds of the buckets of a histogram, in ascending order; empty for other types.
    pub buckets: &'static [f64],
}

impl Metric {
    /// Returns the unit, which the name contains: `seconds`, `bytes`, or an empty text for a number of things.
    pub fn unit(&self) -> &'static str {
        let name = self.name.strip_suffix("_total").unwrap_or(self.name);
        ["seconds", "bytes"].into_iter().find(|unit| name.ends_with(unit)).unwrap_or_default()
    }
}

/// A value of a metric that was read at a scrape.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Sample {
    /// The name of the metric.
    pub metric: &'static str,
    /// The values of its labels.
    pub labels: Vec<(&'static str, String)>,
    /// The value.
    pub value: f64,
}

impl Sample {
    /// Returns a value of a metric with these labels.
    pub fn new(metric: &'static str, labels: &[(&'static str, &str)], value: f64) -> Self {
        let labels = labels.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        Self { metric, labels, value }
    }

    /// Returns a value that is a number of things.
    #[expect(clippy::cast_precision_loss, reason = "a float is what Prometheus stores")]
    pub fn of(metric: &'static str, labels: &[(&'static str, &str)], value: u64) -> Self {
        Self::new(metric, labels, value as f64)
    }
}

/// The buckets of requests, in seconds.
const REQUESTS: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.015, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0, 2.5, 5.0, 10.0];
/// The buckets of statements, in seconds.
const STATEMENTS: &[f64] = &[0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0];
/// The buckets of calls of webhooks, in seconds.
const CALLS: &[f64] = &[0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Returns the buckets of a metric, if it has any.
const fn only(given: &[&'static [f64]]) -> &'static [f64] {
    if given.is_empty() { &[] } else { given[0] }
}

macro_rules! is_sampled {
    (recorded) => {
        false
    };
    (sampled) => {
        true
    };
}

macro_rules! metric_list {
    ($(
        $(#[doc = $meaning:literal])+
        $name:ident = $text:literal, $kind:ident $source:ident $(($buckets:ident))?, {
            $($label:literal: $what:literal),* $(,)?
        };
    )*) => {
        $($(#[doc = $meaning])+ pub const $name: &str = $text;)*

        /// All metrics, sorted by name.
        pub const ALL: &[Metric] = &[$(Metric {
            name: $text,
            kind: MetricKind::$kind,
            meaning: concat!($($meaning),+).trim_ascii_start(),
            labels: &[$(($label, $what)),*],
            is_sampled: is_sampled!($source),
            buckets: only(&[$($buckets)?]),
        }),*];
    };
}

metric_list! {
    /// Rows that audits have found to contradict a rule, and orders that they could not check.
    AUDIT_FINDINGS_TOTAL = "ecom_audit_findings_total", Counter recorded, {};
    /// Audits that have ended.
    AUDITS_TOTAL = "ecom_audits_total", Counter recorded, {};
    /// The time since the last lease of the background work ended; 0 while a process holds one. Up to a minute is
    /// usual.
    BACKGROUND_IDLE_SECONDS = "ecom_background_idle_seconds", Gauge sampled, {};
    /// Always 1; the label has the release of the server.
    BUILD_INFO = "ecom_build_info", Gauge sampled, { "version": "the release" };
    /// About how many values this process holds in its cache.
    CACHE_ENTRIES = "ecom_cache_entries", Gauge sampled, {};
    /// Values that the cache of this process has removed because of their age or to make room.
    CACHE_EVICTIONS_TOTAL = "ecom_cache_evictions_total", Counter sampled, {};
    /// Reads of the cache that found a value.
    CACHE_HITS_TOTAL = "ecom_cache_hits_total", Counter sampled, {};
    /// Reads of the cache that found no value.
    CACHE_MISSES_TOTAL = "ecom_cache_misses_total", Counter sampled, {};
    /// Statements that failed because another transaction was in the way. The transaction was rolled back.
    DB_CONFLICTS_TOTAL = "ecom_db_conflicts_total", Counter recorded, {
        "reason": "`deadlock`, `serialization`, `lock_timeout` or `other`",
    };
    /// The open connections of the pool.
    DB_POOL_CONNECTIONS = "ecom_db_pool_connections", Gauge sampled, { "state": "`in_use` or `idle`" };
    /// The maximum number of connections of the pool.
    DB_POOL_MAX_CONNECTIONS = "ecom_db_pool_max_connections", Gauge sampled, {};
    /// The callers that wait for a connection of the pool.
    DB_POOL_WAITING = "ecom_db_pool_waiting", Gauge sampled, {};
    /// Statements that took longer than a second. Each has the named event `slow_statement` in the log.
    DB_SLOW_STATEMENTS_TOTAL = "ecom_db_slow_statements_total", Counter recorded, { "statement": "the statement" };
    /// The time of statements, with the way to the database and back.
    DB_STATEMENT_DURATION_SECONDS = "ecom_db_statement_duration_seconds", Histogram recorded(STATEMENTS), {
        "statement": "the statement: its verb and its first table, such as `select products`; or `begin`, `commit`, \
                      `rollback`, `script`",
    };
    /// Statements that were sent to the database.
    DB_STATEMENTS_TOTAL = "ecom_db_statements_total", Counter sampled, {};
    /// How long a dependency took to respond, or how long it was waited for.
    DEPENDENCY_LATENCY_SECONDS = "ecom_dependency_latency_seconds", Gauge sampled, {
        "dependency": "as of `ecom_dependency_up`",
    };
    /// Whether a dependency responds: 1 or 0.
    DEPENDENCY_UP = "ecom_dependency_up", Gauge sampled, {
        "dependency": "`database`, `search`, `search_fallback`, `cache`, `rate_limiter` or `media`",
        "adapter": "the name of the adapter",
    };
    /// The time of requests, until the head of the response was ready or the client closed the connection.
    HTTP_REQUEST_DURATION_SECONDS = "ecom_http_request_duration_seconds", Histogram recorded(REQUESTS), {
        "method": "the method, or `other`",
        "route": "the template of the route, such as `/api/v1/products/{id}`, or `unmatched`",
        "status": "the class of the status: `2xx`, `3xx`, `4xx` or `5xx`",
    };
    /// The requests that are answered at the moment. Requests of health and of metrics count too.
    HTTP_REQUESTS_IN_FLIGHT = "ecom_http_requests_in_flight", Gauge sampled, {};
    /// Requests that have ended.
    HTTP_REQUESTS_TOTAL = "ecom_http_requests_total", Counter recorded, {
        "method": "the method, or `other`",
        "route": "the template of the route, or `unmatched`",
        "status": "the status, or `499` if the client closed the connection before the response",
    };
    /// Records that imports have read. The sum over the outcomes is the number of all records.
    IMPORT_RECORDS_TOTAL = "ecom_import_records_total", Counter recorded, {
        "of": "`products`, `categories`, `customers` or `carts`",
        "outcome": "`inserted`, `updated`, `unchanged`, `rejected` or `dropped`",
    };
    /// Changes of documents that the sync of the index has sent to the engine.
    INDEX_DOCUMENTS_TOTAL = "ecom_index_documents_total", Counter recorded, {
        "engine": "the search engine",
        "outcome": "`written`; `unchanged`, if the index had the revision already; or `rejected` by the engine",
    };
    /// Events that the sync of the index has read.
    INDEX_EVENTS_TOTAL = "ecom_index_events_total", Counter recorded, { "engine": "the search engine" };
    /// The events in the outbox that the index has not applied.
    INDEX_LAG_EVENTS = "ecom_index_lag_events", Gauge sampled, {
        "index": "`main` or `fallback`",
        "engine": "the search engine",
    };
    /// The age of the oldest event in the outbox that the index has not applied; 0 if there is none.
    INDEX_LAG_SECONDS = "ecom_index_lag_seconds", Gauge sampled, {
        "index": "`main` or `fallback`",
        "engine": "the search engine",
    };
    /// Search indices that were built anew.
    INDEX_REBUILDS_TOTAL = "ecom_index_rebuilds_total", Counter recorded, { "engine": "the search engine" };
    /// Runs of jobs that have ended.
    JOB_RUNS_TOTAL = "ecom_job_runs_total", Counter recorded, {
        "kind": "the kind of the job, as it is registered",
        "outcome": "`succeeded`; `retried`, if it failed and runs again; `parked`, if it stays failed; `postponed`; or \
                    `lost`, if the job was canceled or another process has it",
    };
    /// The jobs that wait, run, or stay failed. Of each state, the 10,000 newest are counted.
    JOBS = "ecom_jobs", Gauge sampled, {
        "kind": "the kind of the job, or `other` for the kinds that the process has not registered, after the first 50 \
                 of these",
        "state": "`queued`, `running` or `failed`",
    };
    /// The clients of live events that are connected.
    LIVE_CLIENTS = "ecom_live_clients", Gauge sampled, {};
    /// Lines of the log that were dropped, because they could not be written, or not fast enough.
    LOG_LINES_DROPPED_TOTAL = "ecom_log_lines_dropped_total", Counter recorded, {};
    /// Logins that were refused.
    LOGINS_REFUSED_TOTAL = "ecom_logins_refused_total", Counter recorded, {};
    /// Orders that were canceled.
    ORDERS_CANCELED_TOTAL = "ecom_orders_canceled_total", Counter recorded, {};
    /// Orders that were placed.
    ORDERS_PLACED_TOTAL = "ecom_orders_placed_total", Counter recorded, {};
    /// Orders that were refused by the state of the shop. Invalid requests and failures count in
    /// `ecom_http_requests_total` only.
    ORDERS_REFUSED_TOTAL = "ecom_orders_refused_total", Counter recorded, {
        "reason": "the code of the error, such as `INSUFFICIENT_STOCK` or `PRICE_MISMATCH`; or `NOT_FOR_SALE`",
    };
    /// The events in the outbox that a consumer has not handled.
    OUTBOX_LAG_EVENTS = "ecom_outbox_lag_events", Gauge sampled, {
        "consumer": "the name of the consumer, as it is registered",
    };
    /// The age of the oldest event in the outbox that a consumer has not handled; 0 if there is none.
    OUTBOX_LAG_SECONDS = "ecom_outbox_lag_seconds", Gauge sampled, {
        "consumer": "the name of the consumer, as it is registered",
    };
    /// Requests that a rate limit has refused.
    RATE_LIMITED_TOTAL = "ecom_rate_limited_total", Counter recorded, {
        "quota": "`address`, `principal`, `login`, `registration` or `orders`",
    };
    /// Searches that the fallback has answered.
    SEARCHES_BY_FALLBACK_TOTAL = "ecom_searches_by_fallback_total", Counter sampled, {};
    /// The time of attempts to deliver an event to a webhook.
    WEBHOOK_ATTEMPT_DURATION_SECONDS = "ecom_webhook_attempt_duration_seconds", Histogram recorded(CALLS), {
        "outcome": "`succeeded`; `refused`, if the receiver answered with another status; or `failed` without a status",
    };
    /// The webhooks of the shop.
    WEBHOOKS = "ecom_webhooks", Gauge sampled, {
        "state": "`on`; `failing`, if the last attempts have failed; `switched_off` by the shop; or `off`",
    };
    /// Writes that ran again because another transaction was in the way.
    WRITE_RETRIES_TOTAL = "ecom_write_retries_total", Counter recorded, {};
    /// The time that the process has used the processors, in user and system mode.
    PROCESS_CPU_SECONDS_TOTAL = "process_cpu_seconds_total", Counter sampled, {};
    /// The maximum number of open file descriptors.
    PROCESS_MAX_FDS = "process_max_fds", Gauge sampled, {};
    /// The open file descriptors.
    PROCESS_OPEN_FDS = "process_open_fds", Gauge sampled, {};
    /// The memory that the process has in RAM.
    PROCESS_RESIDENT_MEMORY_BYTES = "process_resident_memory_bytes", Gauge sampled, {};
    /// When the process was started, as a time of Unix.
    PROCESS_START_TIME_SECONDS = "process_start_time_seconds", Gauge sampled, {};
    /// The threads of the process.
    PROCESS_THREADS = "process_threads", Gauge sampled, {};
    /// The virtual memory of the process.
    PROCESS_VIRTUAL_MEMORY_BYTES = "process_virtual_memory_bytes", Gauge sampled, {};
}

static IS_ENABLED: AtomicBool = AtomicBool::new(false);

/// Begins to record. Call it once the process has a recorder. Handles are looked up once, so a recorder that is
/// installed later gets nothing, and nothing is recorded before this call.
///
/// It describes all metrics to the recorder. Counters without labels begin at 0.
pub fn enable() {
    for metric in ALL.iter().filter(|metric| !metric.is_sampled) {
        match metric.kind {
            MetricKind::Counter => ::metrics::describe_counter!(metric.name, metric.meaning),
            MetricKind::Gauge => ::metrics::describe_gauge!(metric.name, metric.meaning),
            MetricKind::Histogram => ::metrics::describe_histogram!(metric.name, metric.meaning),
        }
        if metric.kind == MetricKind::Counter && metric.labels.is_empty() {
            counter(metric.name, &[]).increment(0);
        }
    }
    IS_ENABLED.store(true, Ordering::Release);
}

/// Returns whether metrics are recorded.
#[inline]
pub fn is_enabled() -> bool {
    IS_ENABLED.load(Ordering::Acquire)
}

/// Returns the handle of a counter with these labels. Call it after [`enable`].
pub fn counter(metric: &'static str, labels: &[(&'static str, &str)]) -> Counter {
    ::metrics::counter!(metric, owned(labels))
}

/// Returns the handle of a histogram with these labels. Call it after [`enable`].
pub fn histogram(metric: &'static str, labels: &[(&'static str, &str)]) -> Histogram {
    ::metrics::histogram!(metric, owned(labels))
}

/// Adds to a counter, if metrics are recorded. It looks the counter up, so code that runs thousands of times a second
/// keeps a [`counter`] instead.
pub fn count(metric: &'static str, labels: &[(&'static str, &str)], n: u64) {
    if is_enabled() {
        counter(metric, labels).increment(n);
    }
}

fn owned(labels: &[(&'static str, &str)]) -> Vec<Label> {
    labels.iter().map(|(name, value)| Label::new(*name, (*value).to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::listing::{assert_has_table, text_of, users_of};

    /// Returns the names of metrics that a text has, without the suffixes of the series of histograms.
    fn names(text: &str) -> BTreeSet<&str> {
        let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        let named = words.filter(|word| word.starts_with("ecom_") || word.starts_with("process_"));
        let of_series = |word| {
            let base = ["_bucket", "_sum", "_count"].into_iter().find_map(|suffix| str::strip_suffix(word, suffix));
            let is_histogram = |base: &&str| ALL.iter().any(|m| m.name == *base && m.kind == MetricKind::Histogram);
            base.filter(is_histogram).unwrap_or(word)
        };
        named.map(of_series).collect()
    }

    #[test]
    fn names_follow_the_conventions_of_prometheus() {
        let sorted = |a: &Metric, b: &Metric| a.name < b.name;
        assert!(ALL.is_sorted_by(sorted), "the metrics are sorted by name, and each is listed once");
        for metric in ALL {
            let name = metric.name;
            assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{name}");
            assert_eq!(metric.kind == MetricKind::Counter, name.ends_with("_total"), "{name}");
            assert_eq!(metric.kind == MetricKind::Histogram, !metric.buckets.is_empty(), "{name}");
            assert!(metric.buckets.len() <= 14 && metric.buckets.is_sorted_by(|a, b| a < b), "{name}");
            assert!(metric.kind != MetricKind::Histogram || !metric.unit().is_empty(), "{name}");
        }
    }

    #[test]
    fn each_metric_is_measured_somewhere() {
        let text = users_of("ecom-core/src/metrics.rs");
        for metric in ALL {
            let name = metric.name.strip_prefix("ecom_").unwrap_or(metric.name).to_ascii_uppercase();
            assert!(text.contains(&format!("metrics::{name}")), "nothing measures `{}`", metric.name);
        }
    }

    #[test]
    fn the_docs_have_the_table_of_all_metrics() {
        let rows = ALL.iter().map(|metric| {
            let labels: Vec<String> = metric.labels.iter().map(|(label, what)| format!("`{label}`: {what}")).collect();
            let name = format!("`{}`", metric.name);
            [
                name,
                metric.kind.as_str().to_owned(),
                metric.unit().to_owned(),
                metric.meaning.to_owned(),
                labels.join("; "),
            ]
        });
        assert_has_table("docs/metrics.md", ["Metric", "Type", "Unit", "Meaning", "Labels"], rows);
    }

    #[test]
    fn alerts_and_dashboard_use_metrics_that_exist() {
        let known: BTreeSet<&str> = ALL.iter().map(|metric| metric.name).collect();
        for (file, some) in [("prometheus/alerts.yml", DB_POOL_CONNECTIONS), ("grafana/ecom.json", CACHE_HITS_TOTAL)] {
            let text = text_of(&format!("deploy/{file}"));
            let names = names(&text);
            assert!(names.contains(some), "{file} has {names:?}");
            let unknown: Vec<_> = names.difference(&known).collect();
            assert!(unknown.is_empty(), "deploy/{file} uses metrics that do not exist: {unknown:?}");
        }
    }

    #[test]
    fn the_dashboard_shows_every_metric() {
        let text = text_of("deploy/grafana/ecom.json");
        let shown = names(&text);
        let missing: Vec<_> = ALL.iter().map(|metric| metric.name).filter(|name| !shown.contains(name)).collect();
        assert!(missing.is_empty(), "the dashboard does not show {missing:?}");
    }
}
