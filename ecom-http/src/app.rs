//! What every handler works with, and the settings of the router.

use std::sync::Arc;
use std::time::Duration;

use derive_setters::Setters;
use ecom_core::Shop;
use ecom_core::access::Principal;
use utoipa_axum::router::UtoipaMethodRouter;

/// Settings of [`router`](crate::router).
#[derive(Debug, Clone, PartialEq, Eq, Setters)]
#[setters(strip_option)]
#[non_exhaustive]
pub struct HttpConfig {
    /// Where the API stands, with a leading and without a trailing slash; empty for the root. Default `/api/v1`.
    #[setters(into)]
    pub api_prefix: String,
    /// Rows of a page if the client does not say how many. Default 20, at most `max_page_size`.
    pub page_size: u32,
    /// The most rows of a page. Default 100, at most 1,000.
    pub max_page_size: u32,
    /// The most bytes of a body. Default 2 MiB.
    pub body_limit: usize,
    /// The most bytes of a path, and of a query string. Default 8 KiB. A server has limits of its own, whose answers are
    /// not in the envelope of errors: those of hyper are 64 KiB for both together.
    pub query_limit: usize,
    /// The most bytes of the names and values of all headers. Default 32 KiB. A server has limits of its own, whose
    /// answers are not in the envelope of errors: those of hyper are 100 headers and 400 KiB.
    pub header_limit: usize,
    /// A log line per request, at level info under the target `ecom_http::access`. Default on.
    pub access_log: bool,
    /// Origins whose pages may call the API; `*` for all. Default none.
    pub cors_origins: Vec<String>,
    /// How long a request may take. Default 30 s.
    pub request_timeout: Duration,
    /// Prices and measures as JSON numbers in place of strings, also where the client does not ask. Default off.
    pub numbers: bool,
    /// Whether `/`, `/health`, `/health/live`, `/health/ready`, `/openapi.json`, `/docs` and `/redoc` stand at the root of
    /// the router. Turn it off to merge the router into one that has some of these paths, or a fallback, of its own.
    /// Default on.
    pub root_routes: bool,
    /// Who calls, if the host puts no [`Principal`] into the extensions of the request. Default: a trusted principal with
    /// the actor `anonymous`.
    pub anonymous: Principal,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            api_prefix: "/api/v1".to_owned(),
            page_size: 20,
            max_page_size: 100,
            body_limit: 2 * 1024 * 1024,
            query_limit: 8 * 1024,
            header_limit: 32 * 1024,
            access_log: true,
            cors_origins: Vec::new(),
            request_timeout: Duration::from_secs(30),
            numbers: false,
            root_routes: true,
            anonymous: Principal::trusted("anonymous"),
        }
    }
}

impl HttpConfig {
    /// Returns the settings within their bounds.
    pub(crate) fn bounded(mut self) -> Self {
        let prefix = self.api_prefix.trim_matches('/');
        self.api_prefix = if prefix.is_empty() { String::new() } else { format!("/{prefix}") };
        self.max_page_size = self.max_page_size.clamp(1, 1_000);
        self.page_size = self.page_size.clamp(1, self.max_page_size);
        self
    }
}

/// What every handler works with.
#[derive(Debug)]
pub(crate) struct App {
    pub shop: Shop,
    pub config: HttpConfig,
}

/// Routes of an area, with what the documentation says of them.
pub(crate) type Routes = Vec<UtoipaMethodRouter<Arc<App>>>;
