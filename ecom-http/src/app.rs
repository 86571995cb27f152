//! The state that all handlers share, and the settings of the router.

use std::sync::Arc;
use std::time::Duration;

use derive_setters::Setters;
use ecom_core::Shop;
use ecom_core::access::Principal;
use tokio::sync::Semaphore;
use utoipa_axum::router::UtoipaMethodRouter;

use crate::admission::Admission;
use crate::metrics;
use crate::middleware::{Compressed, RateLimits};
use crate::routes::RouteGroup;

/// The longest duration of a stream of live events.
const LONGEST_STREAM: Duration = Duration::from_secs(24 * 60 * 60);
/// The shortest time between two heartbeats of a stream of live events.
const SHORTEST_HEARTBEAT: Duration = Duration::from_millis(10);

/// Settings of [`router`](crate::router).
#[derive(Debug, Clone, PartialEq, Eq, Setters)]
#[setters(strip_option)]
#[non_exhaustive]
pub struct HttpConfig {
    /// The path of the API, with a leading slash and without a trailing one; empty for the root. Default `/api/v1`.
    #[setters(into)]
    pub api_prefix: String,
    /// The number of rows on a page by default, 1 to `max_page_size`. Default 20.
    pub page_size: u32,
    /// The maximum number of rows on a page, 1–1,000. Default 100.
    pub max_page_size: u32,
    /// The maximum size of a request body, in bytes. Default 2 MiB.
    pub body_limit: usize,
    /// The maximum size of the body of an import, after decompression, in bytes. Default 1 GiB.
    pub import_limit: u64,
    /// The maximum size of an uploaded image, in bytes. Default 10 MiB.
    pub image_limit: usize,
    /// The maximum size of the path, and of the query string, in bytes. Default 8 KiB.
    /// [`ServeConfig::head_limit`](crate::ServeConfig::head_limit) must exceed it, because the responses of the server
    /// to larger heads are not in the envelope of errors.
    pub query_limit: usize,
    /// The maximum size of the names and values of all headers, in bytes. Default 32 KiB. The server has limits of its
    /// own, and its responses are not in the envelope of errors.
    pub header_limit: usize,
    /// The maximum memory of the public lists that the router keeps in compressed form, in bytes. They are kept beside
    /// the cache of the shop and found by their content, so they are never out of date. 0 keeps none. Default 16 MiB.
    pub compressed_lists: u64,
    /// Whether each request is logged, at level `info` with the target `ecom_http::access`. Default true.
    pub access_log: bool,
    /// The origins whose pages may call the API (CORS); `*` allows all. Default none.
    pub cors_origins: Vec<String>,
    /// The time limit of a request. For an import, it is the longest time between two parts of its body. Default 30 s.
    pub request_timeout: Duration,
    /// The maximum number of requests at a time. A request beyond it gets a 503 with `Retry-After`, except for the
    /// routes of health and of metrics. Default 1,000.
    pub max_requests: usize,
    /// The maximum number of live clients (`/events`) at a time. Callers who have not logged in get at most half of
    /// these places, so that they cannot keep out those who have. A client beyond it gets a 503 with `Retry-After`.
    /// Default 2,000.
    pub live_clients: usize,
    /// How long a stream of live events lasts, at most a day. The client then opens it again, after its last event.
    /// Default 1 hour.
    pub live_lifetime: Duration,
    /// The longest time without a message on a stream of live events: then the server sends one without data, so that
    /// proxies do not close the connection, and notices clients that are gone. 10 ms to a day. Default 15 s.
    pub live_heartbeat: Duration,
    /// The rate limits; `None` turns them off. They need a [`RateLimiter`](ecom_core::port::RateLimiter) in the shop.
    /// The routes of health are not limited, and requests without a principal are limited only if the server puts
    /// axum's `ConnectInfo<SocketAddr>` into their extensions, as [`serve`](crate::serve) does. Default: those of
    /// [`RateLimits`].
    #[setters(strip_option = false)]
    pub rate_limits: Option<RateLimits>,
    /// Whether prices and measures are JSON numbers instead of strings if the client does not choose. Default false.
    pub numbers: bool,
    /// Who may read the metrics of the shop and of the process at `/metrics`, which is one of the root routes. Unless
    /// this is [`MetricsAccess::Off`](crate::MetricsAccess), the first router of the process installs a recorder of the
    /// crate `metrics`. If the application has installed a recorder before, that one gets the recorded metrics, and the
    /// page has the others. Default `Off`.
    #[cfg(feature = "metrics")]
    pub metrics: metrics::MetricsAccess,
    /// Whether the router has the routes `/`, `/health`, `/health/live`, `/health/ready`, `/openapi.json`, `/docs`,
    /// `/redoc`, `/metrics`, `/admin` and `/media/…`. Set it to false to merge the router into one that already has
    /// some of these paths or a fallback. Default true.
    pub root_routes: bool,
    /// The groups of routes that the router has under its prefix. A path of another group gets a 404 like an unknown
    /// one, and neither the links at `/` nor the OpenAPI document contain it. Links in other responses can lead to
    /// routes that another service has. Default: all areas.
    pub route_groups: Vec<RouteGroup>,
    /// Whether the router has the admin page at `/admin`, a web page on this API for the staff of the shop. The page
    /// needs the feature `admin` and [`Self::root_routes`]; without them, this setting has no effect. Anybody can load
    /// its files, and what they show comes from the API, which checks who calls. Default true.
    pub admin_page: bool,
    /// Whether a request with `Authorization: Bearer` acts as the principal of its access token or API key, and is
    /// refused if they are not valid. Requests whose extensions contain a [`Principal`] are left as they are. Set it to
    /// false if the application has bearer tokens of its own. Default true.
    pub authentication: bool,
    /// Whether refresh tokens are cookies, which scripts of a page cannot read, instead of values in bodies. The cookie
    /// is sent to `/auth` of the API only, by pages of the same site. The routes that set or read it then require the
    /// header `X-Requested-With`, and that `Sec-Fetch-Site` or `Origin` names this host or an origin of
    /// [`Self::cors_origins`], which may send credentials. A `*` in that list allows none. Default false.
    pub refresh_cookie: bool,
    /// Whether browsers send the cookie over TLS only. Set it to false for a server on loopback without TLS. Default
    /// true.
    pub refresh_cookie_secure: bool,
    /// Whether requests are accepted only if they address this machine: `Host` must be a loopback host (`localhost`, a
    /// name below it, 127.0.0.0/8 or `[::1]`), and `Origin`, if the request has one, must have such a host or be one of
    /// [`Self::cors_origins`]; a `*` in that list allows no origin. Other requests get `FORBIDDEN`. This protects a
    /// server that listens on loopback and needs no login: a page of another site in a browser on the same machine
    /// could otherwise reach it by DNS rebinding or by forms. Default false.
    pub loopback_only: bool,
    /// The principal of requests that do not say who calls: without a [`Principal`] in their extensions and without a
    /// credential. The default, [`Principal::anonymous`] without permissions, reads the catalog, searches, registers,
    /// logs in, and uses the cart of a guest by its token. `Principal::trusted("anonymous")` opens everything, for an
    /// application that decides itself which requests reach the router.
    pub anonymous: Principal,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            api_prefix: "/api/v1".to_owned(),
            page_size: 20,
            max_page_size: 100,
            body_limit: 2 * 1024 * 1024,
            import_limit: 1 << 30,
            image_limit: 10 * 1024 * 1024,
            query_limit: 8 * 1024,
            header_limit: 32 * 1024,
            compressed_lists: 16 << 20,
            access_log: true,
            cors_origins: Vec::new(),
            request_timeout: Duration::from_secs(30),
            max_requests: 1_000,
            live_clients: 2_000,
            live_lifetime: Duration::from_secs(3_600),
            live_heartbeat: Duration::from_secs(15),
            rate_limits: Some(RateLimits::default()),
            numbers: false,
            #[cfg(feature = "metrics")]
            metrics: metrics::MetricsAccess::default(),
            root_routes: true,
            route_groups: RouteGroup::AREAS.to_vec(),
            admin_page: true,
            authentication: true,
            refresh_cookie: false,
            refresh_cookie_secure: true,
            loopback_only: false,
            anonymous: Principal::anonymous([]),
        }
    }
}

impl HttpConfig {
    /// Returns the settings with page sizes and the times of live streams within their bounds, and with a normalized
    /// prefix.
    pub(crate) fn bounded(mut self) -> Self {
        let prefix = self.api_prefix.trim_matches('/');
        self.api_prefix = if prefix.is_empty() { String::new() } else { format!("/{prefix}") };
        self.max_page_size = self.max_page_size.clamp(1, 1_000);
        self.page_size = self.page_size.clamp(1, self.max_page_size);
        self.live_lifetime = self.live_lifetime.min(LONGEST_STREAM);
        self.live_heartbeat = self.live_heartbeat.clamp(SHORTEST_HEARTBEAT, LONGEST_STREAM);
        self
    }
}

/// The state that all handlers share.
#[derive(Debug)]
pub(crate) struct App {
    pub shop: Shop,
    pub config: HttpConfig,
    /// Which routes refuse callers who have not logged in.
    pub admission: Admission,
    /// The metrics of requests.
    pub requests: metrics::Requests,
    /// The page of the metrics.
    #[cfg(feature = "metrics")]
    pub page: metrics::Page,
    /// The lists that are compressed already.
    pub compressed: Compressed,
    /// A permit for each request that may still begin.
    pub places: Arc<Semaphore>,
    /// A permit for each file of an image that may still be read: half of the requests, so that a store that does not
    /// answer leaves the others to the API.
    pub files: Semaphore,
    /// A permit for each live client that may still come.
    pub live: Arc<Semaphore>,
    /// A permit for each live client that may still come without a login. Such a client needs one of both.
    pub live_strangers: Arc<Semaphore>,
}

impl App {
    pub fn new(shop: Shop, config: HttpConfig, admission: Admission) -> Self {
        let places = Arc::new(Semaphore::new(config.max_requests.min(Semaphore::MAX_PERMITS)));
        let files = Semaphore::new(config.max_requests.div_ceil(2).min(Semaphore::MAX_PERMITS));
        let live = Arc::new(Semaphore::new(config.live_clients.min(Semaphore::MAX_PERMITS)));
        let half = config.live_clients.div_ceil(2).min(Semaphore::MAX_PERMITS);
        let live_strangers = Arc::new(Semaphore::new(half));
        Self {
            shop,
            admission,
            requests: metrics::Requests::default(),
            #[cfg(feature = "metrics")]
            page: metrics::Page::new(config.metrics),
            compressed: Compressed::new(config.compressed_lists),
            config,
            places,
            files,
            live,
            live_strangers,
        }
    }
}

/// The routes of an area, with their documentation.
pub(crate) type Routes = Vec<UtoipaMethodRouter<Arc<App>>>;
