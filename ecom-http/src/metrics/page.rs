//! The recorder of Prometheus, and the text that it scrapes.

use std::fmt::Write as _;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use ecom_core::access::{Principal, Secret, SecretHash};
use ecom_core::metrics::{self, MetricKind, Sample};
use ecom_core::{Error, Result, Shop};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use parking_lot::Mutex;

/// How long a scrape waits for a dependency, and for the state of the shop.
const LIMIT: Duration = Duration::from_secs(2);
/// How long the state of the shop is kept, so that many scrapes do not load the database.
const KEPT: Duration = Duration::from_secs(5);
/// How often the recorder counts what it was sent, so that its memory is bounded.
const UPKEEP: Duration = Duration::from_secs(5);

/// Who may read the metrics at `/metrics`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum MetricsAccess {
    /// Nobody: nothing is recorded, and the route does not exist.
    #[default]
    Off,
    /// Callers with the permission `jobs:read`.
    Restricted,
    /// Everybody who can reach the server. They learn which routes are used, and how many orders are placed.
    Open,
}

/// Returns the recorder of the process, which the first call installs. Returns `None` if the process has another
/// recorder, which then gets the recorded metrics, so that the page has the samples only.
fn recorder() -> Option<&'static PrometheusHandle> {
    static RECORDER: OnceLock<Option<PrometheusHandle>> = OnceLock::new();
    RECORDER.get_or_init(install).as_ref()
}

fn install() -> Option<PrometheusHandle> {
    let mut histograms = metrics::ALL.iter().filter(|metric| metric.kind == MetricKind::Histogram);
    let builder = histograms.try_fold(PrometheusBuilder::new(), |builder, metric| {
        builder.set_buckets_for_metric(Matcher::Full(metric.name.to_owned()), metric.buckets)
    });
    match builder.and_then(PrometheusBuilder::install_recorder) {
        Ok(handle) => {
            let kept = handle.clone();
            let upkeep = move || loop {
                std::thread::sleep(UPKEEP);
                kept.run_upkeep();
            };
            if let Err(error) = std::thread::Builder::new().name("metrics".to_owned()).spawn(upkeep) {
                tracing::warn!(%error, "the metrics are counted at scrapes only: their thread could not be started");
            }
            metrics::enable();
            Some(handle)
        }
        Err(error) => {
            tracing::warn!(%error, "the process has another recorder of metrics, so `/metrics` lacks what it records");
            metrics::enable();
            None
        }
    }
}

/// What the page shows of a shop in addition to the recorder.
#[derive(Debug, Default)]
pub(crate) struct Page {
    recorder: Option<&'static PrometheusHandle>,
    /// The state of the shop, and when it was read. Scrapes wait for the one that reads it.
    state: tokio::sync::Mutex<Option<(Instant, Vec<Sample>)>>,
    /// The last caller that was allowed to read the page, for the time in which the database is down.
    reader: Mutex<Option<(SecretHash, Principal)>>,
}

impl Page {
    /// Returns the page of a shop, and begins to record unless nobody may read it.
    pub fn new(access: MetricsAccess) -> Self {
        let recorder = if access == MetricsAccess::Off { None } else { recorder() };
        Self { recorder, ..Self::default() }
    }

    /// Remembers a caller of the page whose credential is valid.
    pub fn remember(&self, credential: &Secret, principal: &Principal) {
        *self.reader.lock() = Some((credential.hash(), principal.clone()));
    }

    /// Returns the last caller of the page if this is its credential. Call it only while the database is down, because
    /// the credential may have been revoked meanwhile.
    pub fn remembered(&self, credential: &Secret) -> Option<Principal> {
        let reader = self.reader.lock();
        reader.as_ref().filter(|(known, _)| *known == credential.hash()).map(|(_, principal)| principal.clone())
    }

    /// Returns the text of the page. `own` are the samples of the caller.
    pub async fn text(&self, shop: &Shop, own: Vec<Sample>) -> Result<String> {
        let mut samples = own;
        samples.extend(shop.samples());
        samples.extend(self.state(shop).await);
        let recorder = self.recorder;
        let rendered = tokio::task::spawn_blocking(move || {
            samples.extend(process());
            let mut text = recorder.map(PrometheusHandle::render).unwrap_or_default();
            write_samples(&mut text, samples);
            text
        });
        rendered.await.map_err(|e| Error::internal("rendering the metrics", e))
    }

    async fn state(&self, shop: &Shop) -> Vec<Sample> {
        let mut state = self.state.lock().await;
        if let Some((at, samples)) = &*state
            && at.elapsed() < KEPT
        {
            return samples.clone();
        }
        let samples = shop.state_samples(LIMIT).await;
        *state = Some((Instant::now(), samples.clone()));
        samples
    }
}

/// Returns the metrics of the process, as far as the system shows them.
fn process() -> Vec<Sample> {
    let found = metrics_process::collector::collect();
    let numbers = [
        (metrics::PROCESS_OPEN_FDS, found.open_fds),
        (metrics::PROCESS_MAX_FDS, found.max_fds),
        (metrics::PROCESS_RESIDENT_MEMORY_BYTES, found.resident_memory_bytes),
        (metrics::PROCESS_VIRTUAL_MEMORY_BYTES, found.virtual_memory_bytes),
        (metrics::PROCESS_START_TIME_SECONDS, found.start_time_seconds),
        (metrics::PROCESS_THREADS, found.threads),
    ];
    let mut samples: Vec<Sample> =
        numbers.into_iter().filter_map(|(metric, n)| Some(Sample::of(metric, &[], n?))).collect();
    samples.extend(found.cpu_seconds_total.map(|n| Sample::new(metrics::PROCESS_CPU_SECONDS_TOTAL, &[], n)));
    samples
}

/// Writes samples in the text format of Prometheus.
fn write_samples(text: &mut String, mut samples: Vec<Sample>) {
    samples.sort_by_key(|sample| sample.metric);
    let mut last = "";
    for Sample { metric, labels, value, .. } in samples {
        if last != metric {
            last = metric;
            if let Some(known) = metrics::ALL.iter().find(|known| known.name == metric) {
                let _ = write!(text, "# HELP {metric} {}\n# TYPE {metric} {}\n", known.meaning, known.kind.as_str());
            }
        }
        text.push_str(metric);
        for (n, (name, value)) in labels.iter().enumerate() {
            let _ = write!(text, "{}{name}=\"", if n == 0 { '{' } else { ',' });
            for c in value.chars() {
                match c {
                    '\\' | '"' => text.extend(['\\', c]),
                    '\n' => text.push_str("\\n"),
                    c => text.push(c),
                }
            }
            text.push('"');
        }
        let _ = writeln!(text, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_written_in_the_format_of_prometheus() {
        let mut text = String::new();
        let samples = vec![
            Sample::of(metrics::DB_POOL_WAITING, &[], 3),
            Sample::new(metrics::BUILD_INFO, &[("version", "a \"quoted\"\\\nname")], 0.25),
            Sample::of(metrics::DEPENDENCY_UP, &[("dependency", "database"), ("adapter", "sqlite")], 1),
            Sample::new(metrics::BUILD_INFO, &[("version", "b")], 2.0),
        ];
        write_samples(&mut text, samples);
        let expected = r#"# HELP ecom_build_info Always 1; the label has the release of the server.
# TYPE ecom_build_info gauge
ecom_build_info{version="a \"quoted\"\\\nname"} 0.25
ecom_build_info{version="b"} 2
# HELP ecom_db_pool_waiting The callers that wait for a connection of the pool.
# TYPE ecom_db_pool_waiting gauge
ecom_db_pool_waiting 3
# HELP ecom_dependency_up Whether a dependency responds: 1 or 0.
# TYPE ecom_dependency_up gauge
ecom_dependency_up{dependency="database",adapter="sqlite"} 1
"#;
        assert_eq!(text, expected);
    }

    #[test]
    fn a_caller_is_known_by_its_credential_only() {
        let page = Page::default();
        let (key, other) = (Secret::new("ecom_one"), Secret::new("ecom_other"));
        assert!(page.remembered(&key).is_none());
        page.remember(&key, &Principal::trusted("monitor"));
        assert!(page.remembered(&other).is_none());
        assert_eq!(page.remembered(&key), Some(Principal::trusted("monitor")));
    }
}
