//! The metrics of requests, and the page at `/metrics` for Prometheus (feature `metrics`).

use std::collections::HashMap;
use std::time::Duration;

use axum::extract::MatchedPath;
use axum::http::{Method, StatusCode};
use ecom_core::metrics::{self, Counter, Histogram};
use parking_lot::RwLock;

/// The end of a route that matches all paths below the prefix that no other route matches.
pub(crate) const UNKNOWN: &str = "{*unknown}";
/// The label of requests that match no route.
const UNMATCHED: &str = "unmatched";

/// The route that answered a request whose path matched only without its trailing slash.
#[derive(Clone)]
pub(crate) struct Rerouted(pub MatchedPath);

/// The metrics of requests by method, route and status, whose handles are looked up once. Methods and routes that
/// clients invent have one label each.
#[derive(Debug, Default)]
pub(crate) struct Requests(RwLock<HashMap<String, Vec<Series>>>);

/// The metrics of the requests with one method, route and status.
#[derive(Debug)]
struct Series {
    method: &'static str,
    status: StatusCode,
    requests: Counter,
    took: Histogram,
}

impl Series {
    fn new(method: &'static str, route: &str, status: StatusCode) -> Self {
        let class = match status.as_u16() / 100 {
            1 => "1xx",
            2 => "2xx",
            3 => "3xx",
            4 => "4xx",
            _ => "5xx",
        };
        let labels = |status| [("method", method), ("route", route), ("status", status)];
        Self {
            method,
            status,
            requests: metrics::counter(metrics::HTTP_REQUESTS_TOTAL, &labels(status.as_str())),
            took: metrics::histogram(metrics::HTTP_REQUEST_DURATION_SECONDS, &labels(class)),
        }
    }

    fn record(&self, took: Duration) {
        self.requests.increment(1);
        self.took.record(took.as_secs_f64());
    }
}

impl Requests {
    /// Records a request that was answered. `matched` is the route as axum has matched it.
    pub fn record(&self, method: &'static str, matched: Option<&MatchedPath>, status: StatusCode, took: Duration) {
        let route = template(matched.map(MatchedPath::as_str));
        let is = |series: &&Series| series.method == method && series.status == status;
        if let Some(series) = self.0.read().get(route).and_then(|all| all.iter().find(is)) {
            series.record(took);
            return;
        }
        let mut routes = self.0.write();
        let all = routes.entry(route.to_owned()).or_default();
        if let Some(series) = all.iter().find(is) {
            series.record(took);
            return;
        }
        let series = Series::new(method, route, status);
        series.record(took);
        all.push(series);
    }
}

/// Returns the template of a route. A path that was routed again follows the route that matches all paths.
fn template(matched: Option<&str>) -> &str {
    let route = matched.map_or("", |path| path.rsplit_once(UNKNOWN).map_or(path, |(_, again)| again));
    if route.is_empty() { UNMATCHED } else { route }
}

/// Returns the label of a method.
pub(crate) fn method_label(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}

#[cfg(feature = "metrics")]
mod page;
#[cfg(feature = "metrics")]
pub use page::MetricsAccess;
#[cfg(feature = "metrics")]
pub(crate) use page::Page;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_has_its_template_and_all_other_paths_one_label() {
        for (matched, route) in [
            (Some("/api/v1/products/{id}"), "/api/v1/products/{id}"),
            (Some("/shop/api/v1/products"), "/shop/api/v1/products"),
            (Some("/api/v1/{*unknown}"), UNMATCHED),
            (Some("/api/v1/{*unknown}/api/v1/products"), "/api/v1/products"),
            (Some("/docs/{*file}"), "/docs/{*file}"),
            (None, UNMATCHED),
        ] {
            assert_eq!(template(matched), route, "{matched:?}");
        }
        assert_eq!(method_label(&Method::from_bytes(b"BREW").unwrap()), "other");
        assert_eq!(method_label(&Method::PATCH), "PATCH");
    }
}
