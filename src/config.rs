//! Settings of a server, from the environment, from `.env` and from a TOML file. They are checked at start, and no
//! error or log line shows a secret.
//!
//! A setting has the value from the first of these places that sets it: the environment, `.env` in the working
//! directory, the TOML file that `ECOM_CONFIG` names, the default. In the TOML file, the key of a setting is its name
//! in lower case without `ECOM_` (`listen`, `database_url`), and the value can be a string, a whole number, a boolean,
//! or a list of strings or numbers. An empty value counts as absent. A key of the TOML file that is not a setting is
//! refused. A variable whose name begins with `ECOM_` and is not a setting has no effect, and is reported as a warning
//! ([`ServerConfig::warnings`]): Kubernetes sets such variables for a service that is called `ecom`.
//!
//! `true` and `false` can also be written as `1`, `on` or `yes`, and as `0`, `off` or `no`, in any case.
//!
//! | Name | Default | Bounds | Meaning |
//! |---|---|---|---|
//! | `ECOM_CONFIG` | none | a file that can be read | the TOML file |
//! | `ECOM_LISTEN` | `127.0.0.1:8000` | `host:port`, `[v6]:port` | the address on which the server listens; port 0 selects a free one |
//! | `PORT` | none | 0–65535 | replaces the port of `ECOM_LISTEN` |
//! | `ECOM_DATA` | `./ecom-data` | a directory, which is created if it does not exist | the directory of the embedded database and index, of uploaded images, of mails in files, and of the API key of the first start |
//! | `DATABASE_URL` | `sqlite://<data>/ecom.db` | see [`crate::ShopBuilder::database`] | the database |
//! | `DATABASE_DIRECT_URL` | none | the same database without a pooler | the database for migrations, if `DATABASE_URL` leads to a pooler such as PgBouncer |
//! | `ECOM_MIGRATE` | `true` | `true`, `false` | whether the server migrates the schema of the database when it starts; with `false`, it refuses to start on an older schema, and `server migrate` must have run before |
//! | `SEARCH_URL` | `tantivy://<data>/index` | see [`crate::ShopBuilder::search`] | the search index |
//! | `SEARCH_FALLBACK_URL` | none | see [`crate::ShopBuilder::search_fallback`] | a second search index, which answers while the first one does not |
//! | `CACHE_URL` | `memory://` | see [`crate::ShopBuilder::cache`] | the cache |
//! | `RATE_LIMITER_URL` | the Redis of `CACHE_URL`, or `memory://` | see [`crate::ShopBuilder::rate_limiter`] | where requests are counted for the rate limits |
//! | `MAILER_URL` | `file://<data>/mail`, or `none` without the feature `mail` | see [`crate::ShopBuilder::mailer`] | where mails to users go |
//! | `MEDIA_URL` | `file://<data>/media`, or `none` without the feature `media` | see [`crate::ShopBuilder::media`] | where the files of uploaded images are |
//! | `DATABASE_URL_FILE`, `DATABASE_DIRECT_URL_FILE`, `SEARCH_URL_FILE`, `SEARCH_FALLBACK_URL_FILE`, `CACHE_URL_FILE`, `RATE_LIMITER_URL_FILE`, `MAILER_URL_FILE`, `MEDIA_URL_FILE` | none | a file that can be read | the file that contains the URL, for secrets; it cannot be combined with the URL itself |
//! | `ECOM_DATABASE_POOL` | `50` | 1–1,000 | the maximum number of connections to a database server |
//! | `ECOM_DATABASE_ACQUIRE_TIMEOUT` | `10` | 1–60 s | how long a caller waits for a connection |
//! | `ECOM_DATABASE_STATEMENT_TIMEOUT` | `5` | 1–600 s | how long a statement may take; on a server, the wait for a lock is a little shorter |
//! | `ECOM_DATABASE_LIFETIME` | `3600` | 60–86,400 s | the age at which a connection is replaced |
//! | `ECOM_CURRENCY` | `USD` | an ISO 4217 code whose currency has a minor unit, so not `XXX` or `XAU` | the currency of the shop |
//! | `ECOM_PRICE_BUCKETS` | `0,25,50,100,250,500,1000` | 1 to 50 prices in ascending order | the lower bounds of the price ranges that searches count, in the major unit of the currency, separated by commas |
//! | `ECOM_SEARCH_LANGUAGE` | `en` | `ar`, `ca`, `da`, `de`, `el`, `en`, `es`, `fi`, `fr`, `hu`, `id`, `it`, `nl`, `no`, `pt`, `ro`, `ru`, `sv`, `tr` | the language of titles, descriptions and searches (ISO 639-1); if it changes, the index is rebuilt |
//! | `ECOM_LAST_WRITE_WINS` | `false` | `true`, `false` | whether a write that does not name a version succeeds (R1); a write that names one is compared in both cases |
//! | `ECOM_KEEP_SOLD` | `false` | `true`, `false` | whether a product or a SKU that an order refers to cannot be deleted, not even softly (R5) |
//! | `ECOM_TOTAL_BOUND` | `10000` | 1–1,000,000 | how many rows a list counts at most for its total |
//! | `ECOM_PRODUCT_TTL` | `300` | 0–86,400 s | how long a cached product, list or search result is served |
//! | `ECOM_CATEGORY_TTL` | `3600` | 0–86,400 s | how long a cached category is served |
//! | `ECOM_POLL_INTERVAL` | `500` | 10–60,000 ms | how often a process checks for events of other processes |
//! | `ECOM_LEASE_TTL` | `5` | 1–600 s | after how long another process takes over the shared work of a process that has died |
//! | `ECOM_INDEX_BATCH` | `500` | 1–10,000 | the number of events that the index applies as one batch |
//! | `ECOM_OUTBOX_RETENTION` | `604800` | 60–316,224,000 s | how long events are kept |
//! | `ECOM_IDEMPOTENCY_RETENTION` | `86400` | 60–2,592,000 s | how long an idempotency key is kept with its response |
//! | `ECOM_CART_TTL` | `2592000` | 3,600–31,536,000 s | how long a cart is kept after its last change |
//! | `ECOM_SEARCH_TIMEOUT` | `10000` | 10–60,000 ms | how long a search waits for its engine; an engine that takes longer counts as down |
//! | `ECOM_SEARCH_LOG` | `true` | `true`, `false` | whether searches are counted by their texts, which can contain personal data |
//! | `ECOM_SEARCH_LOG_INTERVAL` | `10` | 1–3,600 s | how often a process adds the searches that it has counted to the database |
//! | `ECOM_SEARCH_LOG_RETENTION` | `7776000` | 86,400–316,224,000 s | how long the counts of a day are kept |
//! | `ECOM_TIME_ZONE` | `UTC` | the name of a time zone of IANA, such as `Europe/Berlin` | the time zone of the shop: analytics and the search log count by its days, and a change rebuilds the figures of sales |
//! | `ECOM_ANALYTICS_INTERVAL` | `10` | 1–3,600 s | how often the figures of sales are brought up to date, and how often a process adds the views of products that it has counted to the database |
//! | `ECOM_MEDIA_BASE_URL` | `/media` | an http or https URL, or a path that starts with a single `/`, of at most 400 characters, without a query, a fragment and a slash at its end | the beginning of the URLs of uploaded images: `/media`, under which the server itself serves them, or the URL of a CDN; a change applies to later uploads |
//! | `ECOM_MEDIA_RETENTION` | `off` | `off`, or 86,400–316,224,000 s | how long the files of an uploaded image are kept after nothing in the catalog names them any more; `off` keeps them for ever |
//! | `ECOM_SECRET_KEY`, `ECOM_SECRET_KEY_FILE` | none | at least 32 characters, such as the output of `openssl rand -base64 32`; or a file that contains them | the secret that all processes of a shop share, which encrypts the keys of access tokens in the database; without it, each process has a key of its own, so that other processes refuse its access tokens, and a restart makes them void |
//! | `ECOM_ACCESS_TOKEN_TTL` | `900` | 60–86,400 s | how long an access token is valid |
//! | `ECOM_SESSION_TTL` | `604800` | 3,600–31,536,000 s | how long a session goes on after its last refresh |
//! | `ECOM_TOKEN_ISSUER` | `ecom` | 1 to 255 characters | the issuer that access tokens name |
//! | `ECOM_TOKEN_ALGORITHM` | `eddsa` | `eddsa`, `hs256` | the algorithm of access tokens; `hs256` needs `ECOM_SECRET_KEY` |
//! | `ECOM_SHOP_NAME` | `Shop` | 1 to 100 characters | the name of the shop in mails |
//! | `ECOM_PUBLIC_URL` | `http://localhost:8000` | a URL of at most 500 characters that starts with `http://` or `https://`, without a user, a query, a fragment and a slash at its end | the URL of the storefront, to whose pages `/verify-email?token=…` and `/reset-password?token=…` the links in mails lead; required with a mail server |
//! | `ECOM_MAIL_FROM` | `shop@example.com` | an email address, or `Name <address>` | the sender of mails; required with a mail server |
//! | `ECOM_MAIL_TEMPLATES` | none | a directory that can be read | the directory with templates that replace those of the library; see `ecom::adapters::Templates` |
//! | `ECOM_ORDER_CONFIRMATION` | `on` | `on`, `off` | whether the buyer of a new order gets a mail that confirms it |
//! | `ECOM_ABANDONED_CART_AFTER` | `off` | `off`, or 900–2,592,000 s and less than `ECOM_CART_TTL` | how long a cart must not have changed before its shopper gets a mail that reminds of it, at most once per cart; many countries require that the shopper has agreed to such mails |
//! | `ECOM_LOW_STOCK_MAIL` | none | an email address, or `Name <address>` | the address that gets a mail when SKUs become low |
//! | `ECOM_VERIFICATION_TTL` | `259200` | 3,600–2,592,000 s | how long the token of a mail that verifies an email address is valid |
//! | `ECOM_PASSWORD_RESET_TTL` | `3600` | 300–86,400 s | how long the token of a mail that resets a password is valid |
//! | `ECOM_OIDC_ISSUER` | none | a URL with `https`, or with `http` and a loopback host, without a user, a query and a fragment | an issuer of OpenID Connect, whose tokens the shop accepts in addition to its own (feature `oidc`); tokens must name it character by character |
//! | `ECOM_OIDC_AUDIENCE` | none | 1 to 255 characters; required with `ECOM_OIDC_ISSUER` | the audience that tokens of the issuer must name, such as the client id of the shop |
//! | `ECOM_OIDC_JWKS_URL` | the one that `/.well-known/openid-configuration` of the issuer names | a URL with `https`, or with `http` and a loopback host | the URL of the key set of the issuer |
//! | `ECOM_OIDC_ALGORITHMS` | `RS256,ES256,EdDSA` | `RS256`, `RS384`, `RS512`, `PS256`, `PS384`, `PS512`, `ES256`, `ES384`, `EdDSA`, separated by commas | the algorithms by which the issuer may sign |
//! | `ECOM_OIDC_ROLES_CLAIM` | none | a claim, or names of nested claims, separated by dots | the claim with the roles of the caller, such as `groups` or `realm_access.roles` |
//! | `ECOM_OIDC_ROLE_MAP` | none | pairs such as `clerks=staff`, separated by commas | the roles of the shop, by the values of the claim; other values grant nothing |
//! | `ECOM_REFRESH_COOKIE` | `false` | `true`, `false` | whether refresh tokens are `HttpOnly` cookies instead of values in bodies; the routes that use them then require the header `X-Requested-With`, and that the page is of this host or of an origin in `ECOM_CORS_ORIGINS` |
//! | `ECOM_REFRESH_COOKIE_SECURE` | `true` | `true`, `false` | whether browsers send that cookie over TLS only; `false` is for a server on loopback |
//! | `ECOM_PASSWORD_HASHES` | half of the processors, at most 64 | 1–64 | how many passwords are hashed at a time |
//! | `ECOM_ADJUSTMENT_BATCH` | `256` | 1–1,000 | the maximum number of stock adjustments that share a commit |
//! | `ECOM_ORDER_BATCH` | `256` | 1–1,000 | the maximum number of orders that share a commit |
//! | `ECOM_LIVE_BUFFER` | `256` | 1–10,000 | the maximum number of events that wait for a live client; a client with more is dropped |
//! | `ECOM_WEBHOOKS_ALLOW` | none | addresses or networks (CIDR), separated by commas | the addresses that webhooks may call although they are not public, such as those of a receiver in the same network (feature `webhooks`) |
//! | `ECOM_WEBHOOKS_ALLOW_HTTP` | `false` | `true`, `false` | whether webhooks may have URLs with `http` |
//! | `ECOM_WEBHOOKS_TIMEOUT` | `10000` | 100–60,000 ms | the time limit of an attempt to deliver an event to a webhook |
//! | `ECOM_WEBHOOKS_RETENTION` | `2592000` | 86,400–31,536,000 s | how long the deliveries of webhooks are kept, whether they have ended or not |
//! | `ECOM_WEBHOOKS_OFF_AFTER` | `259200` | 60–2,592,000 s | how long the deliveries to a webhook can fail, without a success in between, before it is switched off |
//! | `ECOM_API_PREFIX` | `/api/v1` | `/`, or a path that starts with `/` and does not end with it | the path of the API |
//! | `ECOM_ONLY` | all | `catalog`, `stock`, `sales`, `search`, `access`, `platform`, or resources of these areas such as `orders`, separated by commas | the routes that the server has, so that areas of the shop run as services of their own; every other path gets a 404. Health, documentation, metrics and background work do not depend on it. `--only` of the example server replaces it |
//! | `ECOM_PAGE_SIZE` | `20` | 1 to `ECOM_MAX_PAGE_SIZE` | the number of rows on a page by default |
//! | `ECOM_MAX_PAGE_SIZE` | `100` | 1–1,000 | the maximum number of rows on a page |
//! | `ECOM_BODY_LIMIT` | `2097152` | 1,024–104,857,600 bytes | the maximum size of a request body |
//! | `ECOM_IMPORT_LIMIT` | `1073741824` | 1,024–1,099,511,627,776 bytes | the maximum size of the body of `POST /ingest/products`, after decompression |
//! | `ECOM_IMAGE_LIMIT` | `10485760` | 1,024–104,857,600 bytes | the maximum size of an uploaded image |
//! | `ECOM_QUERY_LIMIT` | `8192` | 256–65,536 bytes | the maximum size of a path, and of a query string |
//! | `ECOM_HEADER_LIMIT` | `32768` | 1,024–262,144 bytes | the maximum size of the names and values of all headers of a request |
//! | `ECOM_ADMIN_PAGE` | `true` | `true`, `false` | whether the server has the admin page at `/admin`; needs the feature `admin` |
//! | `ECOM_NUMBERS` | `false` | `true`, `false` | whether prices and measures are JSON numbers instead of strings by default |
//! | `ECOM_AUTH` | `on` | `on`, `off` | whether requests need a login or an API key for all but the catalog, searches, logins and guests' carts; with `off`, everybody may do everything, the server only listens on a loopback address, and it refuses requests whose `Host` is not this machine, or whose `Origin` is neither this machine nor in `ECOM_CORS_ORIGINS`, such as those that pages of other sites make in a browser |
//! | `ECOM_AUTH_OFF_ON_NETWORK` | `false` | `true`, `false` | whether a server with `ECOM_AUTH=off` may listen on any address, and accepts requests with any `Host` and `Origin` |
//! | `ECOM_ADMIN_KEY`, `ECOM_ADMIN_KEY_FILE` | none | `ecom_` and at least 32 letters, digits, `-` and `_`, at most 100 characters in all; or a file that contains them | the secret of an API key that may do everything, which the server creates if it does not exist; without this setting, the server creates a key if the shop has neither a key nor a user with the role admin, prints it once, and keeps it in `<data>/admin.key` |
//! | `ECOM_REQUEST_TIMEOUT` | `30` | 1–600 s | the time limit of a request |
//! | `ECOM_MAX_REQUESTS` | `1000` | 1–1,000,000 | the maximum number of requests at a time; a request beyond it gets a 503 with `Retry-After` |
//! | `ECOM_MAX_CONNECTIONS` | `10000` | 1–1,000,000 | the maximum number of connections at a time; a connection beyond it is closed, and up to 64 of them at a time get a 503 with `Retry-After` first. Each connection needs a file descriptor; the example server lowers this number to fit its limit of open files |
//! | `ECOM_LIVE_CLIENTS` | `2000` | 0–1,000,000 | the maximum number of live clients (`/events`) at a time, of which callers without a login get at most half; a client beyond it gets a 503 with `Retry-After` |
//! | `ECOM_LIVE_LIFETIME` | `3600` | 60–86,400 s | how long a stream of live events lasts; the client opens it again after its last event |
//! | `ECOM_LIVE_HEARTBEAT` | `15` | 1–600 s | the longest time without a message on a stream of live events; keep it below the timeouts of proxies |
//! | `ECOM_RATE_LIMIT` | `on` | `on`, `off` | whether the number of requests is limited; the following quotas are numbers of requests within a number of seconds, and `off` turns one off |
//! | `ECOM_RATE_LIMIT_ADDRESS` | `100/60` | `off`, or 1–1,000,000 / 1–86,400 s | requests without a login, per client address; an address of IPv6 counts with its /64 network |
//! | `ECOM_RATE_LIMIT_PRINCIPAL` | `1000/60` | the same | requests with a login, per user or key |
//! | `ECOM_RATE_LIMIT_LOGIN` | `10/60` | the same | logins, and requests for mails and their tokens, per client address |
//! | `ECOM_RATE_LIMIT_REGISTRATION` | `10/3600` | the same | registrations, per client address |
//! | `ECOM_RATE_LIMIT_ORDERS` | `30/60` | the same | placed orders and checkouts, per user, key or client address |
//! | `ECOM_TRUSTED_PROXIES` | none | addresses or networks (CIDR), separated by commas | the proxies that may name the client's address; a header of anybody else is ignored |
//! | `ECOM_PROXY_HEADER` | `X-Forwarded-For` | `X-Forwarded-For`, `Forwarded`, `X-Real-IP` | the header in which they name it; a proxy must set it or append to it, since it passes on the other two as the client has sent them |
//! | `ECOM_HEADER_TIMEOUT` | `10` | 1–600 s | the time within which the head of a request must arrive, also the first one of a connection |
//! | `ECOM_KEEP_ALIVE_TIMEOUT` | `75` | 1–3,600 s | how long a connection may be idle between requests |
//! | `ECOM_SEND_TIMEOUT` | `30` | 1–600 s | how long a client may read nothing of its response |
//! | `ECOM_MAX_HEADERS` | `100` | 10–1,000 | the maximum number of headers of a request (HTTP/1) |
//! | `ECOM_MAX_STREAMS` | `100` | 1–10,000 | the maximum number of requests at a time on a connection of HTTP/2 |
//! | `ECOM_PING_INTERVAL` | `20` | 1–3,600 s | after how long the server pings a silent connection of HTTP/2 |
//! | `ECOM_SHUTDOWN_TIMEOUT` | `30` | 1–600 s | how long a shutdown waits for open requests; connections without a request are closed at once |
//! | `ECOM_CORS_ORIGINS` | none | `*`, or origins separated by commas | the origins whose pages may call the API from a browser |
//! | `ECOM_METRICS` | `on`, or `off` without the feature `metrics` | `on`, `open`, `off` | whether metrics are recorded, and `/metrics` shows them to Prometheus: with `on` to callers with the permission `jobs:read`, with `open` to everybody who can reach the server (feature `metrics`) |
//! | `ECOM_ACCESS_LOG` | `true` | `true`, `false` | whether each request is logged |
//! | `ECOM_LOG` | `info` | a level, or directives such as `info,ecom_core=debug` | which events are logged |
//! | `ECOM_LOG_FORMAT` | `pretty` | `pretty`, `json` | the format of log lines |
//! | `ECOM_LOG_FILE` | none | a path | the file that lines are written to, in place of standard error; the lines of errors are also written to a second file, `server.error.log` beside `server.log`; each process needs its own |
//! | `ECOM_LOG_FILE_SIZE` | `10000000` | 65,536–1,099,511,627,776 bytes | the size at which a log file is replaced by a new one |
//! | `ECOM_LOG_FILES` | `5` | 1–1,000 | how many log files are kept, including the current one; the names of older ones end with `.1`, `.2`, … |
//! | `ECOM_OTLP_ENDPOINT` | none | a URL with `http` or `https` | the OpenTelemetry collector that gets traces by OTLP over HTTP, such as `http://127.0.0.1:4318`; without it, no traces are recorded (feature `otlp`) |
//! | `ECOM_OTLP_ENDPOINT_FILE` | none | a file that can be read | the file that contains `ECOM_OTLP_ENDPOINT`, for a URL with a password |
//! | `ECOM_TRACE_SAMPLE` | `0.01` | 0–1 | the share of traces that are recorded; a request with `traceparent` follows the decision of its caller |
//! | `ECOM_TRACE_SERVICE` | `ecom` | 1–100 characters | the name of the service in traces |
//! | `ECOM_FEEDS` | none | a TOML file of [`FeedSettings`] that can be read | the sources that the shop polls, and imports when they have changed (feature `ingest`) |

mod feeds;
mod logs;
mod reader;
mod sources;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use ecom_core::access::{OidcConfig, Secret, SecretKey};
use ecom_core::config::ShopConfig;
use ecom_core::money::Currency;
use ecom_core::{Error, FieldCode, Result, ValidationErrors};
use ecom_http::{HttpConfig, IpNet, ServeConfig};

pub use self::feeds::FeedSettings;
pub use self::logs::{LogConfig, LogFormat, TraceConfig};
use self::reader::{Reader, host_and_port};
use self::sources::{NAMES, dot_env, merge, present, toml_values, unknown, unreadable};
use crate::builder::{
    CACHE, DATABASE, DEFAULT_CACHE, FALLBACK, MAIL_TEMPLATES, MAILER, MEDIA, OIDC, RATE_LIMITER, SEARCH,
};
use crate::{DatabaseSettings, ShopBuilder};

/// A URL that may contain a password. Its `Debug` shows only the scheme.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretUrl(String);

impl SecretUrl {
    /// Wraps a URL.
    pub fn new(url: impl Into<String>) -> Self {
        Self(url.into())
    }

    /// Returns the whole URL, which must not be logged.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Returns the part of the URL that may be shown: the whole URL of an adapter without a server, else the scheme.
    pub fn shown(&self) -> &str {
        match self.0.split_once(':') {
            Some(("sqlite" | "tantivy" | "memory" | "file" | "log", _)) => &self.0,
            Some((scheme, _)) => scheme,
            None if self.0 == "none" => "none",
            None => "…",
        }
    }
}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:…", self.0.split_once(':').map_or("", |(scheme, _)| scheme))
    }
}

/// Settings of a server. See the table of the [module](self).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerConfig {
    /// The host name or address on which the server listens; an IPv6 address has no brackets.
    pub host: String,
    /// The port on which the server listens; 0 selects a free one.
    pub port: u16,
    /// The directory of the embedded database and index.
    pub data: PathBuf,
    /// The URL of the database.
    pub database_url: SecretUrl,
    /// The URL for migrations, which bypasses a pooler.
    pub database_direct_url: Option<SecretUrl>,
    /// Whether a shop migrates the schema of the database when it is opened.
    pub migrate: bool,
    /// The settings of connections to a database server.
    pub database: DatabaseSettings,
    /// The URL of the search index.
    pub search_url: SecretUrl,
    /// The URL of the second search index.
    pub search_fallback_url: Option<SecretUrl>,
    /// The URL of the cache.
    pub cache_url: SecretUrl,
    /// The URL of the rate limiter; `None` follows the cache.
    pub rate_limiter_url: Option<SecretUrl>,
    /// The URL of the mailer.
    pub mailer_url: SecretUrl,
    /// The URL of the store of uploaded images.
    pub media_url: SecretUrl,
    /// The beginning of the URLs of uploaded images.
    pub media_base_url: String,
    /// The directory with templates of mails.
    pub mail_templates: Option<String>,
    /// The secret that all processes of the shop share.
    pub secret_key: Option<SecretKey>,
    /// The secret of an API key that may do everything, for a shop that does not have the key yet.
    pub admin_key: Option<Secret>,
    /// The issuer of OpenID Connect whose tokens the shop accepts.
    pub oidc: Option<OidcConfig>,
    /// The sources that the shop polls.
    pub feeds: Vec<FeedSettings>,
    /// The addresses that webhooks may call although they are not public.
    pub webhooks_allow: Vec<IpNet>,
    /// Whether webhooks may have URLs with `http`.
    pub webhooks_allow_http: bool,
    /// The settings of the shop.
    pub shop: ShopConfig,
    /// The settings of the REST API.
    pub http: HttpConfig,
    /// The limits of connections.
    pub serve: ServeConfig,
    /// The settings of the log.
    pub log: LogConfig,
    /// The settings of traces; `None` if none are recorded.
    pub traces: Option<TraceConfig>,
    /// Variables of the environment and of `.env` that look like settings but have no effect, each in one sentence. A
    /// server logs them at start.
    pub warnings: Vec<String>,
}

impl ServerConfig {
    /// Reads the settings from the environment, from `.env` and from the TOML file. No other function of the library
    /// reads the environment.
    ///
    /// # Errors
    /// `Validation` with each invalid setting. No message shows a value.
    pub fn load() -> Result<Self> {
        let mut errors = ValidationErrors::default();
        let mut values = BTreeMap::new();
        for name in NAMES {
            #[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
            match std::env::var(name) {
                Ok(value) => drop(values.insert(name, value)),
                Err(std::env::VarError::NotPresent) => {}
                Err(std::env::VarError::NotUnicode(_)) => errors.push(name, FieldCode::Malformed, "must be UTF-8"),
            }
        }
        let mut names: Vec<String> = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()).collect();
        merge(&mut values, dot_env(&mut names, &mut errors));
        if let Some(path) = present(&values, "ECOM_CONFIG") {
            match std::fs::read_to_string(path) {
                Ok(text) => {
                    let file = toml_values(&text, &mut errors);
                    merge(&mut values, file);
                }
                Err(e) => errors.push("ECOM_CONFIG", FieldCode::ReferenceNotFound, unreadable(&e)),
            }
        }
        let mut config = Self::from_values(&values, errors)?;
        names.sort_unstable();
        names.dedup();
        config.warnings = names.iter().filter_map(|name| unknown(name)).collect();
        Ok(config)
    }

    /// Returns the settings with these values, by name.
    fn from_values(values: &BTreeMap<&'static str, String>, mut errors: ValidationErrors) -> Result<Self> {
        let defaults = ShopConfig::default();
        let mut r = Reader { values, errors: &mut errors };

        let listen = r.text("ECOM_LISTEN", "127.0.0.1:8000");
        let (host, mut port) = host_and_port(&listen).unwrap_or_else(|| {
            r.bad("ECOM_LISTEN", "must have the form `host:port`");
            (String::new(), 0)
        });
        port = r.number("PORT", u64::from(port), 0..=u64::from(u16::MAX)).try_into().unwrap_or(port);

        let data = r.text("ECOM_DATA", "./ecom-data");
        if std::fs::metadata(&data).is_ok_and(|found| !found.is_dir()) {
            r.bad("ECOM_DATA", "must be a directory, not a file; it is created if it does not exist");
        }
        let (database, search) = embedded_urls(&data);
        let database_url = r.url("DATABASE_URL", "DATABASE_URL_FILE", &database);
        let database_direct_url = r.url("DATABASE_DIRECT_URL", "DATABASE_DIRECT_URL_FILE", "");
        let database_direct_url = (!database_direct_url.expose().is_empty()).then_some(database_direct_url);
        let migrate = r.flag("ECOM_MIGRATE", true);
        let search_url = r.url("SEARCH_URL", "SEARCH_URL_FILE", &search);
        let search_fallback_url = r.url("SEARCH_FALLBACK_URL", "SEARCH_FALLBACK_URL_FILE", "");
        let search_fallback_url = (!search_fallback_url.expose().is_empty()).then_some(search_fallback_url);
        let cache_url = r.url("CACHE_URL", "CACHE_URL_FILE", DEFAULT_CACHE);
        let rate_limiter_url = r.url("RATE_LIMITER_URL", "RATE_LIMITER_URL_FILE", "");
        let rate_limiter_url = (!rate_limiter_url.expose().is_empty()).then_some(rate_limiter_url);

        let mailer_url = r.url("MAILER_URL", "MAILER_URL_FILE", &mail_files(&data));
        let media_url = r.url("MEDIA_URL", "MEDIA_URL_FILE", &media_files(&data));
        let media_base_url = r.text("ECOM_MEDIA_BASE_URL", "/media");
        let mail_templates = Some(r.text("ECOM_MAIL_TEMPLATES", "")).filter(|directory| !directory.is_empty());

        let currency = r.text("ECOM_CURRENCY", "USD");
        let currency = Currency::from_code(&currency).unwrap_or_else(|_| {
            r.bad("ECOM_CURRENCY", "must be the ISO 4217 code of a currency with a minor unit, such as USD");
            Currency::USD
        });
        let pool = DatabaseSettings::default();
        let database = DatabaseSettings {
            max_connections: r.size("ECOM_DATABASE_POOL", pool.max_connections, 1..=1_000),
            acquire_timeout: r.seconds("ECOM_DATABASE_ACQUIRE_TIMEOUT", pool.acquire_timeout, 1..=60),
            statement_timeout: r.seconds("ECOM_DATABASE_STATEMENT_TIMEOUT", pool.statement_timeout, 1..=600),
            max_lifetime: r.seconds("ECOM_DATABASE_LIFETIME", pool.max_lifetime, 60..=86_400),
        };
        let secret_key = r.secret_key("ECOM_SECRET_KEY", "ECOM_SECRET_KEY_FILE");
        let oidc = r.oidc();
        let shop = ShopConfig::default()
            .currency(currency)
            .search_language(r.language("ECOM_SEARCH_LANGUAGE"))
            .price_bounds(r.prices("ECOM_PRICE_BUCKETS", currency, &defaults.price_bounds))
            .last_write_wins(r.flag("ECOM_LAST_WRITE_WINS", defaults.last_write_wins))
            .keep_sold(r.flag("ECOM_KEEP_SOLD", defaults.keep_sold))
            .total_bound(r.number("ECOM_TOTAL_BOUND", defaults.total_bound, 1..=1_000_000))
            .product_ttl(r.seconds("ECOM_PRODUCT_TTL", defaults.product_ttl, 0..=86_400))
            .category_ttl(r.seconds("ECOM_CATEGORY_TTL", defaults.category_ttl, 0..=86_400))
            .poll_interval(r.milliseconds("ECOM_POLL_INTERVAL", defaults.poll_interval, 10..=60_000))
            .lease_ttl(r.seconds("ECOM_LEASE_TTL", defaults.lease_ttl, 1..=600))
            .index_batch(r.size("ECOM_INDEX_BATCH", defaults.index_batch, 1..=10_000))
            .outbox_retention(r.seconds("ECOM_OUTBOX_RETENTION", defaults.outbox_retention, 60..=10 * 366 * 86_400))
            .cart_ttl(r.seconds("ECOM_CART_TTL", defaults.cart_ttl, 3_600..=365 * 86_400))
            .idempotency_retention(r.seconds(
                "ECOM_IDEMPOTENCY_RETENTION",
                defaults.idempotency_retention,
                60..=30 * 86_400,
            ))
            .search_timeout(r.milliseconds("ECOM_SEARCH_TIMEOUT", defaults.search_timeout, 10..=60_000))
            .search_log(r.flag("ECOM_SEARCH_LOG", defaults.search_log))
            .search_log_interval(r.seconds("ECOM_SEARCH_LOG_INTERVAL", defaults.search_log_interval, 1..=3_600))
            .search_log_retention(r.seconds(
                "ECOM_SEARCH_LOG_RETENTION",
                defaults.search_log_retention,
                86_400..=10 * 366 * 86_400,
            ))
            .time_zone(r.time_zone("ECOM_TIME_ZONE"))
            .analytics_interval(r.seconds("ECOM_ANALYTICS_INTERVAL", defaults.analytics_interval, 1..=3_600))
            .access_token_ttl(r.seconds("ECOM_ACCESS_TOKEN_TTL", defaults.access_token_ttl, 60..=86_400))
            .session_ttl(r.seconds("ECOM_SESSION_TTL", defaults.session_ttl, 3_600..=365 * 86_400))
            .token_issuer(r.text("ECOM_TOKEN_ISSUER", &defaults.token_issuer))
            .token_algorithm(r.token_algorithm("ECOM_TOKEN_ALGORITHM", secret_key.is_some()))
            .shop_name(r.text("ECOM_SHOP_NAME", &defaults.shop_name))
            .public_url(r.required_by_mails("ECOM_PUBLIC_URL", &mailer_url, &defaults.public_url))
            .mail_from(r.mail_address("ECOM_MAIL_FROM", &mailer_url, &defaults.mail_from))
            .order_confirmation(r.flag("ECOM_ORDER_CONFIRMATION", defaults.order_confirmation))
            .verification_ttl(r.seconds("ECOM_VERIFICATION_TTL", defaults.verification_ttl, 3_600..=30 * 86_400))
            .password_reset_ttl(r.seconds("ECOM_PASSWORD_RESET_TTL", defaults.password_reset_ttl, 300..=86_400))
            .password_hashes(r.count("ECOM_PASSWORD_HASHES", defaults.password_hashes, 64))
            .adjustment_batch(r.size("ECOM_ADJUSTMENT_BATCH", defaults.adjustment_batch, 1..=1_000))
            .order_batch(r.size("ECOM_ORDER_BATCH", defaults.order_batch, 1..=1_000))
            .live_buffer(r.size("ECOM_LIVE_BUFFER", defaults.live_buffer, 1..=10_000))
            .webhook_timeout(r.milliseconds("ECOM_WEBHOOKS_TIMEOUT", defaults.webhook_timeout, 100..=60_000))
            .webhook_retention(r.seconds("ECOM_WEBHOOKS_RETENTION", defaults.webhook_retention, 86_400..=365 * 86_400))
            .webhook_off_after(r.seconds("ECOM_WEBHOOKS_OFF_AFTER", defaults.webhook_off_after, 60..=30 * 86_400));
        let webhooks_allow = r.networks("ECOM_WEBHOOKS_ALLOW");
        let webhooks_allow_http = r.flag("ECOM_WEBHOOKS_ALLOW_HTTP", false);
        let shop = match r.abandoned_cart_after("ECOM_ABANDONED_CART_AFTER", shop.cart_ttl) {
            Some(after) => shop.abandoned_cart_after(after),
            None => shop,
        };
        let shop = match r.optional_mail_address("ECOM_LOW_STOCK_MAIL") {
            Some(address) => shop.low_stock_mail(address),
            None => shop,
        };
        let shop = match r.seconds_or_off("ECOM_MEDIA_RETENTION", 86_400..=10 * 366 * 86_400) {
            Some(kept) => shop.media_retention(kept),
            None => shop,
        };

        let http = r.http();
        #[cfg(feature = "metrics")]
        let http = http.metrics(r.metrics());
        #[cfg(not(feature = "metrics"))]
        r.no_metrics();
        r.check_reach(&http, &host);
        let admin_key = r.admin_key("ECOM_ADMIN_KEY", "ECOM_ADMIN_KEY_FILE");
        let serve = r.serve(&http);
        let log = r.log_config();
        let traces = r.traces();
        let feeds = match present(values, "ECOM_FEEDS") {
            Some(path) => FeedSettings::read(path, &mut errors),
            None => Vec::new(),
        };
        let config = Self {
            host,
            port,
            data: PathBuf::from(data),
            database_url,
            database_direct_url,
            migrate,
            database,
            search_url,
            search_fallback_url,
            cache_url,
            rate_limiter_url,
            mailer_url,
            media_url,
            media_base_url,
            mail_templates,
            secret_key,
            admin_key,
            oidc,
            feeds,
            webhooks_allow,
            webhooks_allow_http,
            shop,
            http,
            serve,
            log,
            traces,
            warnings: Vec::new(),
        };
        if let Err(Error::Validation(e)) = config.shop_builder().check() {
            // Each setting has at most one error here, although an invalid one is checked again with its default.
            let noted: Vec<String> = errors.0.iter().map(|e| e.field.clone()).collect();
            errors.0.extend(e.0.into_iter().filter(|e| !noted.contains(&e.field)));
        }
        errors.into_result()?;
        Ok(config)
    }

    /// Returns a builder for a shop with these settings. Its errors name the settings.
    pub fn shop_builder(&self) -> ShopBuilder {
        let builder = ShopBuilder::new()
            .database(self.database_url.expose())
            .database_settings(self.database.clone())
            .migrates(self.migrate)
            .search(self.search_url.expose())
            .cache(self.cache_url.expose())
            .mailer(self.mailer_url.expose())
            .media(self.media_url.expose())
            .media_base_url(&self.media_base_url)
            .config(self.shop.clone());
        let (database, search) = embedded_urls(&self.data.to_string_lossy());
        let mut names = Vec::with_capacity(SETTINGS.len() + 2);
        // A user who has not set the URL knows only the directory.
        if self.database_url.expose() == database {
            names.push((DATABASE, "DATABASE_URL (by default in ECOM_DATA)"));
        }
        if self.search_url.expose() == search {
            names.push((SEARCH, "SEARCH_URL (by default in ECOM_DATA)"));
        }
        names.extend(SETTINGS);
        let mut builder = builder.names(names);
        if let Some(key) = &self.secret_key {
            builder = builder.secret_key(key.clone());
        }
        if let Some(directory) = &self.mail_templates {
            builder = builder.mail_templates(directory);
        }
        if let Some(issuer) = &self.oidc {
            builder = builder.oidc(issuer.clone());
        }
        if let Some(url) = &self.search_fallback_url {
            builder = builder.search_fallback(url.expose());
        }
        if let Some(url) = &self.rate_limiter_url {
            builder = builder.rate_limiter(url.expose());
        }
        #[cfg(feature = "webhooks")]
        {
            builder = match self.webhook_options() {
                Ok(options) => builder.webhooks(options),
                Err(error) => builder.refused(error),
            };
        }
        for settings in &self.feeds {
            builder = match settings.feed() {
                Ok(feed) => builder.feed(feed),
                Err(error) => builder.refused(error),
            };
        }
        match &self.database_direct_url {
            Some(url) => builder.database_direct(url.expose()),
            None => builder,
        }
    }
}

#[cfg(feature = "webhooks")]
impl ServerConfig {
    /// Returns the settings of the sender of webhooks.
    fn webhook_options(&self) -> Result<crate::adapters::WebhookSenderOptions> {
        let mut outbound = crate::adapters::outbound::OutboundOptions::default();
        for network in &self.webhooks_allow {
            outbound = outbound.allow(&network.to_string())?;
        }
        Ok(crate::adapters::WebhookSenderOptions::default().allow_http(self.webhooks_allow_http).outbound(outbound))
    }
}

/// The names of settings for the fields in errors of the builder.
const SETTINGS: [(&str, &str); 23] = [
    (DATABASE, "DATABASE_URL"),
    ("database_direct", "DATABASE_DIRECT_URL"),
    (SEARCH, "SEARCH_URL"),
    (FALLBACK, "SEARCH_FALLBACK_URL"),
    (CACHE, "CACHE_URL"),
    (RATE_LIMITER, "RATE_LIMITER_URL"),
    (MAILER, "MAILER_URL"),
    (MEDIA, "MEDIA_URL"),
    ("media_base_url", "ECOM_MEDIA_BASE_URL"),
    (MAIL_TEMPLATES, "ECOM_MAIL_TEMPLATES"),
    ("shop_name", "ECOM_SHOP_NAME"),
    ("public_url", "ECOM_PUBLIC_URL"),
    ("mail_from", "ECOM_MAIL_FROM"),
    (OIDC, "ECOM_OIDC_ISSUER"),
    ("oidc_audience", "ECOM_OIDC_AUDIENCE"),
    ("oidc_jwks_url", "ECOM_OIDC_JWKS_URL"),
    ("oidc_algorithms", "ECOM_OIDC_ALGORITHMS"),
    ("oidc_roles_claim", "ECOM_OIDC_ROLES_CLAIM"),
    ("oidc_role_map", "ECOM_OIDC_ROLE_MAP"),
    ("max_connections", "ECOM_DATABASE_POOL"),
    ("acquire_timeout", "ECOM_DATABASE_ACQUIRE_TIMEOUT"),
    ("statement_timeout", "ECOM_DATABASE_STATEMENT_TIMEOUT"),
    ("max_lifetime", "ECOM_DATABASE_LIFETIME"),
];

/// Returns the URLs of the embedded database and index in a directory.
fn embedded_urls(data: &str) -> (String, String) {
    let escaped = escaped(data);
    (format!("sqlite://{escaped}/ecom.db"), format!("tantivy://{escaped}/index"))
}

/// Returns the URL of the mailer by default, which writes files in a directory.
fn mail_files(data: &str) -> String {
    if cfg!(feature = "mail") { format!("file://{}/mail", escaped(data)) } else { "none".to_owned() }
}

/// Returns the URL of the store of images by default, which keeps files in a directory.
fn media_files(data: &str) -> String {
    if cfg!(feature = "media") { format!("file://{}/media", escaped(data)) } else { "none".to_owned() }
}

/// Returns a directory as a part of a URL. The adapters percent-decode their URLs.
fn escaped(data: &str) -> String {
    let escaped = data.replace('%', "%25").replace('?', "%3F").replace('#', "%23");
    escaped.strip_prefix("./").unwrap_or(&escaped).trim_end_matches('/').to_owned()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ecom_core::access::{Permission, SignatureAlgorithm};
    use ecom_core::port::Quota;
    use rust_decimal::Decimal;

    use super::*;

    fn read(pairs: &[(&'static str, &str)]) -> Result<ServerConfig> {
        let values = pairs.iter().map(|(n, v)| (*n, (*v).to_owned())).collect();
        ServerConfig::from_values(&values, ValidationErrors::default())
    }

    fn bad_fields(error: Error) -> Vec<String> {
        match error {
            Error::Validation(e) => e.0.into_iter().map(|f| f.field).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn without_values_everything_is_the_default() {
        let c = read(&[]).unwrap();
        assert_eq!((c.host.as_str(), c.port), ("127.0.0.1", 8000));
        assert_eq!(c.database_url.expose(), "sqlite://ecom-data/ecom.db");
        assert_eq!(c.search_url.expose(), "tantivy://ecom-data/index");
        assert_eq!(c.shop, ShopConfig::default());
        let http = HttpConfig::default();
        #[cfg(feature = "metrics")]
        let http = http.metrics(ecom_http::MetricsAccess::Restricted);
        assert_eq!(c.http, http);
        assert_eq!(c.serve, ServeConfig::default());
        assert_eq!(read(&[("ECOM_API_PREFIX", "/")]).unwrap().http.api_prefix, "");
        // The table in the docs of the module has the default in the major unit.
        assert_eq!(read(&[("ECOM_PRICE_BUCKETS", "0,25,50,100,250,500,1000")]).unwrap().shop, c.shop);
    }

    #[test]
    fn who_may_read_the_metrics_is_a_setting() {
        let refused = if cfg!(feature = "metrics") { ["public", "opened"] } else { ["true", "open"] };
        for value in refused {
            assert_eq!(bad_fields(read(&[("ECOM_METRICS", value)]).unwrap_err()), ["ECOM_METRICS"]);
        }
        for value in ["off", "False", "0"] {
            assert!(read(&[("ECOM_METRICS", value)]).is_ok());
        }
        #[cfg(feature = "metrics")]
        for (value, access) in [
            ("OFF", ecom_http::MetricsAccess::Off),
            ("no", ecom_http::MetricsAccess::Off),
            ("on", ecom_http::MetricsAccess::Restricted),
            ("true", ecom_http::MetricsAccess::Restricted),
            ("open", ecom_http::MetricsAccess::Open),
        ] {
            assert_eq!(read(&[("ECOM_METRICS", value)]).unwrap().http.metrics, access);
        }
    }

    #[test]
    fn r17_a_setting_with_a_unit_is_refused() {
        for (name, value, message) in [
            ("ECOM_REQUEST_TIMEOUT", "30s", "must be a whole number of seconds without a unit, 1 to 600"),
            ("ECOM_SHUTDOWN_TIMEOUT", "1 min", "must be a whole number of seconds without a unit, 1 to 600"),
            ("ECOM_POLL_INTERVAL", "500ms", "must be a whole number of milliseconds without a unit, 10 to 60000"),
            ("ECOM_BODY_LIMIT", "2 MiB", "must be a whole number of bytes without a unit, 1024 to 104857600"),
            ("ECOM_HEADER_LIMIT", "0", "must be a whole number of bytes without a unit, 1024 to 262144"),
            ("ECOM_PAGE_SIZE", "0", "must be a whole number, 1 to 100"),
            ("ECOM_MAX_PAGE_SIZE", "0", "must be a whole number, 1 to 1000"),
            ("ECOM_PRICE_BUCKETS", "100,50,25", "in ascending order, such as `0,25,50,100`"),
            ("ECOM_PRICE_BUCKETS", "25,25", "in ascending order"),
            ("ECOM_ONLY", "catalog,", "which are catalog, stock, sales, search, access, platform, products"),
            ("ECOM_MIGRATE", "never", "must be `on` or `off`"),
        ] {
            let error = read(&[(name, value)]).unwrap_err();
            let text = error.to_string();
            assert!(text.contains(&format!("{name}: ")) && text.contains(message), "{value}: {text}");
            assert_eq!(bad_fields(error), [name]);
        }
        assert_eq!(read(&[("ECOM_HEADER_LIMIT", "2048")]).unwrap().http.header_limit, 2048);
        let some = read(&[("ECOM_ONLY", "search, orders"), ("ECOM_MIGRATE", "false")]).unwrap();
        let groups: Vec<&str> = some.http.route_groups.iter().map(|group| group.name()).collect();
        assert_eq!((groups, some.migrate, read(&[]).unwrap().migrate), (vec!["search", "orders"], false, true));
    }

    #[cfg(all(feature = "sqlite", feature = "tantivy"))]
    #[tokio::test]
    async fn r16_a_place_that_cannot_be_used_is_named_by_its_setting() {
        let dir = tempfile::tempdir().unwrap();
        let (data, file) = (dir.path().join("data"), dir.path().join("file"));
        std::fs::create_dir(&data).unwrap();
        std::fs::write(data.join("ecom.db"), "hello, this is no database. ".repeat(50)).unwrap();
        std::fs::write(&file, "hello").unwrap();
        let (data, file) = (data.to_str().unwrap(), file.to_str().unwrap());
        let text = read(&[("ECOM_DATA", file)]).unwrap_err().to_string();
        assert!(text.contains("ECOM_DATA: must be a directory, not a file"), "{text}");
        let (database, index) = (format!("sqlite://{data}/ecom.db"), format!("tantivy://{file}/index"));
        for (pairs, name) in [
            (vec![("ECOM_DATA", data)], "DATABASE_URL (by default in ECOM_DATA)"),
            (vec![("DATABASE_URL", database.as_str()), ("SEARCH_URL", "none")], "DATABASE_URL"),
            (vec![("DATABASE_URL", "sqlite::memory:"), ("SEARCH_URL", index.as_str())], "SEARCH_URL"),
        ] {
            let error = read(&pairs).unwrap().shop_builder().build().await.unwrap_err();
            let text = error.to_string();
            assert!(!text.contains(file) && !text.contains("try again") && !text.contains("internal"), "{text}");
            assert_eq!(bad_fields(error), [name]);
        }
    }

    #[cfg(feature = "smtp")]
    #[test]
    fn r17_a_mail_server_needs_a_sender_and_a_storefront() {
        let server = ("MAILER_URL", "smtp://u:hunter2@mail.example.com");
        let error = read(&[server]).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"));
        assert_eq!(bad_fields(error), ["ECOM_PUBLIC_URL", "ECOM_MAIL_FROM"]);
        let (url, from) = (("ECOM_PUBLIC_URL", "https://shop.example"), ("ECOM_MAIL_FROM", "Tea <tea@example.com>"));
        let c = read(&[server, url, from]).unwrap();
        assert_eq!((c.shop.mail_from.name(), c.shop.mail_from.address()), (Some("Tea"), "tea@example.com"));
        assert!(!format!("{c:?}").contains("hunter2"));
        assert_eq!(bad_fields(read(&[server, url, ("ECOM_MAIL_FROM", "tea")]).unwrap_err()), ["ECOM_MAIL_FROM"]);
    }

    #[cfg(feature = "mail")]
    #[test]
    fn mails_are_files_in_the_data_directory_by_default() {
        assert_eq!(read(&[]).unwrap().mailer_url.expose(), "file://ecom-data/mail");
        let bad = [("ECOM_MAIL_TEMPLATES", "/nowhere"), ("ECOM_VERIFICATION_TTL", "1"), ("ECOM_SHOP_NAME", "a\nb")];
        let bad = bad_fields(read(&bad).unwrap_err());
        assert_eq!(bad, ["ECOM_VERIFICATION_TTL", "ECOM_SHOP_NAME", "ECOM_MAIL_TEMPLATES"]);
    }

    #[cfg(feature = "media")]
    #[test]
    fn images_are_files_in_the_data_directory_by_default() {
        let c = read(&[]).unwrap();
        assert_eq!((c.media_url.expose(), c.media_base_url.as_str()), ("file://ecom-data/media", "/media"));
        assert_eq!(c.shop.media_retention, None);
        let c = read(&[("ECOM_MEDIA_RETENTION", "86400")]).unwrap();
        assert_eq!(c.shop.media_retention, Some(Duration::from_secs(86_400)));
        let bad = [
            ("MEDIA_URL", "ftp://hunter2"),
            ("ECOM_MEDIA_BASE_URL", "media"),
            ("ECOM_MEDIA_RETENTION", "3600"),
            ("ECOM_IMAGE_LIMIT", "1"),
        ];
        let error = read(&bad).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"));
        assert_eq!(bad_fields(error), ["ECOM_MEDIA_RETENTION", "ECOM_IMAGE_LIMIT", "MEDIA_URL", "ECOM_MEDIA_BASE_URL"]);
    }

    #[test]
    fn port_replaces_the_port_and_keeps_the_host() {
        let c = read(&[("ECOM_LISTEN", "0.0.0.0:9000"), ("PORT", "80")]).unwrap();
        assert_eq!((c.host.as_str(), c.port), ("0.0.0.0", 80));
        let c = read(&[("ECOM_LISTEN", "[::1]:9000")]).unwrap();
        assert_eq!((c.host.as_str(), c.port), ("::1", 9000));
    }

    #[test]
    fn a_data_directory_with_reserved_characters_stays_itself() {
        let c = read(&[("ECOM_DATA", "/srv/100%?/")]).unwrap();
        assert_eq!(c.database_url.expose(), "sqlite:///srv/100%25%3F/ecom.db");
        assert_eq!(c.search_url.expose(), "tantivy:///srv/100%25%3F/index");
    }

    #[test]
    fn r17_each_bad_setting_is_named_at_once() {
        let error = read(&[
            ("ECOM_LISTEN", "nowhere"),
            ("PORT", "70000"),
            ("DATABASE_URL", "postgres://u:hunter2@h/x"),
            ("DATABASE_URL_FILE", "/nowhere/hunter2"),
            ("SEARCH_URL_FILE", "/nowhere/hunter2"),
            ("ECOM_CURRENCY", "XXX1"),
            ("ECOM_LAST_WRITE_WINS", "perhaps"),
            ("ECOM_KEEP_SOLD", "sometimes"),
            ("ECOM_POLL_INTERVAL", "1"),
            ("ECOM_AUTH", "all"),
            ("ECOM_AUTH_OFF_ON_NETWORK", "all"),
            ("ECOM_ADMIN_KEY", "hunter2"),
            ("ECOM_API_PREFIX", "api/"),
            ("ECOM_MAX_PAGE_SIZE", "1001"),
            ("ECOM_PAGE_SIZE", "101"),
            ("ECOM_PRICE_BUCKETS", "9,1"),
            ("ECOM_SEARCH_LANGUAGE", "klingon"),
            ("ECOM_CORS_ORIGINS", "shop.example"),
            ("ECOM_LOG", "loud"),
            ("ECOM_LOG_FORMAT", "xml"),
        ])
        .unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"));
        assert_eq!(
            bad_fields(error),
            [
                "ECOM_LISTEN",
                "PORT",
                "DATABASE_URL",
                "SEARCH_URL_FILE",
                "ECOM_CURRENCY",
                "ECOM_SEARCH_LANGUAGE",
                "ECOM_PRICE_BUCKETS",
                "ECOM_LAST_WRITE_WINS",
                "ECOM_KEEP_SOLD",
                "ECOM_POLL_INTERVAL",
                "ECOM_API_PREFIX",
                "ECOM_MAX_PAGE_SIZE",
                "ECOM_PAGE_SIZE",
                "ECOM_AUTH",
                "ECOM_AUTH_OFF_ON_NETWORK",
                "ECOM_CORS_ORIGINS",
                "ECOM_ADMIN_KEY",
                "ECOM_LOG",
                "ECOM_LOG_FORMAT",
            ]
        );
    }

    #[test]
    fn r17_a_server_that_is_open_to_all_listens_on_loopback_only() {
        for host in ["127.0.0.1", "[::1]", "localhost", "127.8.8.8", "[::ffff:127.0.0.1]"] {
            let listen = format!("{host}:8000");
            let open = read(&[("ECOM_AUTH", "off"), ("ECOM_LISTEN", &listen)]).unwrap();
            assert!(!open.http.authentication && open.http.anonymous.may(Permission::ForceDelete), "{host}");
            assert!(open.http.loopback_only, "{host}");
        }
        for host in ["0.0.0.0", "[::]", "192.0.2.1", "shop.example", "127.0.0.1.example"] {
            let listen = format!("{host}:8000");
            let refused = read(&[("ECOM_AUTH", "off"), ("ECOM_LISTEN", &listen)]).unwrap_err();
            assert_eq!(bad_fields(refused), ["ECOM_AUTH"], "{host}");
            let insists = [("ECOM_AUTH", "off"), ("ECOM_LISTEN", &*listen), ("ECOM_AUTH_OFF_ON_NETWORK", "true")];
            assert!(!read(&insists).unwrap().http.loopback_only, "{host}");
            let closed = read(&[("ECOM_LISTEN", &listen)]).unwrap();
            assert!(closed.http.authentication && !closed.http.anonymous.may(Permission::OrdersRead), "{host}");
            assert!(!closed.http.loopback_only, "{host}");
        }
    }

    #[test]
    fn r17_log_levels_are_checked() {
        for good in ["warn", "DEBUG", "info,ecom_core=debug", "off, ecom_http=info", "3", "ecom[span{id=1,n=2}]=trace"]
        {
            assert_eq!(read(&[("ECOM_LOG", good)]).unwrap().log.levels, good);
        }
        for bad in ["loud", "info,loud", "ecom_core", "ecom_core=loud", "info ecom_core=debug", "info,,warn", "=info"] {
            let error = read(&[("ECOM_LOG", bad)]).unwrap_err();
            assert!(error.to_string().contains("such as `info,ecom_core=debug`"), "{bad}: {error}");
            assert_eq!(bad_fields(error), ["ECOM_LOG"], "{bad}");
        }
    }

    #[test]
    fn r17_the_settings_of_log_files_and_traces_are_checked() {
        let file = [("ECOM_LOG_FILE", "/var/log/ecom.log"), ("ECOM_LOG_FILE_SIZE", "65536"), ("ECOM_LOG_FILES", "1")];
        let log = read(&file).unwrap().log;
        assert_eq!(log, LogConfig::default().file("/var/log/ecom.log").file_size(65_536_u64).files(1_u32));
        assert_eq!((read(&[]).unwrap().log, read(&[]).unwrap().traces), (LogConfig::default(), None));
        let endpoint = ("ECOM_OTLP_ENDPOINT", "http://u:hunter2@collector:4318");
        if cfg!(feature = "otlp") {
            let config = read(&[endpoint, ("ECOM_TRACE_SAMPLE", "0.5"), ("ECOM_TRACE_SERVICE", "shop")]).unwrap();
            assert!(!format!("{config:?}").contains("hunter2"));
            let expected = TraceConfig::new(SecretUrl::new(endpoint.1)).sample(Decimal::new(5, 1)).service("shop");
            assert_eq!(config.traces, Some(expected));
        } else {
            assert_eq!(bad_fields(read(&[endpoint]).unwrap_err()), ["ECOM_OTLP_ENDPOINT"]);
        }
        for (name, bad) in [
            ("ECOM_LOG_FILE_SIZE", "10MB"),
            ("ECOM_LOG_FILE_SIZE", "65535"),
            ("ECOM_LOG_FILES", "0"),
            ("ECOM_OTLP_ENDPOINT", "collector:4318"),
            ("ECOM_OTLP_ENDPOINT", "http://"),
            ("ECOM_TRACE_SAMPLE", "1.01"),
            ("ECOM_TRACE_SAMPLE", "-0.1"),
            ("ECOM_TRACE_SAMPLE", "1%"),
        ] {
            assert_eq!(bad_fields(read(&[(name, bad)]).unwrap_err()), [name], "{bad}");
        }
    }

    #[test]
    fn r17_currencies_without_a_minor_unit_are_refused() {
        for bad in ["XXX", "XAU", "ABC", "US"] {
            assert_eq!(bad_fields(read(&[("ECOM_CURRENCY", bad)]).unwrap_err()), ["ECOM_CURRENCY"], "{bad}");
        }
    }

    #[test]
    fn a_misspelled_setting_is_reported_with_the_nearest_name() {
        let asks = |name: &str, nearest: &str| {
            let text = unknown(name).unwrap();
            assert!(text.starts_with(&format!("{name} is not a setting")) && text.contains(nearest), "{text}");
        };
        asks("ECOM_LISTEM", "`ECOM_LISTEN`");
        asks("ECOM_PAGESIZE", "`ECOM_PAGE_SIZE`");
        asks("ECOM_DATABASE_URL", "`DATABASE_URL`");
        asks("ECOM_PORT", "`PORT`");
        asks("Ecom_Listen", "`ECOM_LISTEN`");
        assert_eq!(unknown("ECOM_SERVICE_HOST").unwrap(), "ECOM_SERVICE_HOST is not a setting, and has no effect");
        assert_eq!((unknown("ECOM_LISTEN"), unknown("PATH"), unknown("DATABASE_URL")), (None, None, None));
        let mut errors = ValidationErrors::default();
        toml_values("page_sise = 1", &mut errors);
        assert!(errors.to_string().contains("did you mean `page_size`?"), "{errors}");
    }

    #[test]
    fn rate_limits_are_numbers_of_requests_within_seconds() {
        let limits = |pairs: &[(&'static str, &str)]| read(pairs).unwrap().http.rate_limits;
        let found = limits(&[
            ("ECOM_RATE_LIMIT_ADDRESS", " 5 / 10 "),
            ("ECOM_RATE_LIMIT_ORDERS", "off"),
            ("ECOM_TRUSTED_PROXIES", "10.0.0.0/8, 192.0.2.1,::1"),
            ("ECOM_PROXY_HEADER", "forwarded"),
        ])
        .unwrap();
        assert_eq!(found.address, Some(Quota::new(5, Duration::from_secs(10))));
        assert_eq!((found.orders, found.login), (None, ecom_http::RateLimits::default().login));
        let networks: Vec<String> = found.trusted_proxies.iter().map(ToString::to_string).collect();
        assert_eq!(networks, ["10.0.0.0/8", "192.0.2.1/32", "::1/128"]);
        assert_eq!(found.proxy_header, ecom_http::ProxyHeader::Forwarded);
        assert_eq!(limits(&[("ECOM_RATE_LIMIT", "off")]), None);
        for (name, bad) in [
            ("ECOM_RATE_LIMIT", "100"),
            ("ECOM_RATE_LIMIT_ADDRESS", "100"),
            ("ECOM_RATE_LIMIT_ADDRESS", "0/60"),
            ("ECOM_RATE_LIMIT_LOGIN", "1/0"),
            ("ECOM_RATE_LIMIT_LOGIN", "1/1m"),
            ("ECOM_TRUSTED_PROXIES", "10.0.0.0/33"),
            ("ECOM_TRUSTED_PROXIES", "proxy.example"),
            ("ECOM_PROXY_HEADER", "X-Client-IP"),
            ("RATE_LIMITER_URL", "tiered+redis://h"),
        ] {
            assert_eq!(bad_fields(read(&[(name, bad)]).unwrap_err()), [name], "{bad}");
        }
    }

    #[test]
    fn r17_an_issuer_needs_all_of_its_settings() {
        let issuer = ("ECOM_OIDC_ISSUER", "https://login.example.com/realms/shop");
        let audience = ("ECOM_OIDC_AUDIENCE", "shop");
        assert_eq!(read(&[]).unwrap().oidc, None);
        let found = read(&[
            issuer,
            audience,
            ("ECOM_OIDC_ALGORITHMS", "ES256, PS512"),
            ("ECOM_OIDC_ROLES_CLAIM", "realm_access.roles"),
            ("ECOM_OIDC_ROLE_MAP", "clerks = staff, shop=admins=admin"),
        ]);
        if cfg!(feature = "oidc") {
            let expected = OidcConfig::new(issuer.1, "shop")
                .algorithms(vec![SignatureAlgorithm::Es256, SignatureAlgorithm::Ps512])
                .roles_claim("realm_access.roles")
                .role("clerks", "staff")
                .role("shop=admins", "admin");
            assert_eq!(found.unwrap().oidc, Some(expected));
        } else {
            let error = found.unwrap_err();
            assert!(error.to_string().contains("feature `oidc`"), "{error}");
            assert_eq!(bad_fields(error), ["ECOM_OIDC_ISSUER"]);
            return;
        }
        for (name, pairs) in [
            ("ECOM_OIDC_AUDIENCE", vec![issuer]),
            ("ECOM_OIDC_ISSUER", vec![audience]),
            ("ECOM_OIDC_ISSUER", vec![("ECOM_OIDC_ISSUER", "http://login.example.com"), audience]),
            ("ECOM_OIDC_JWKS_URL", vec![issuer, audience, ("ECOM_OIDC_JWKS_URL", "http://10.0.0.1/keys")]),
            ("ECOM_OIDC_ALGORITHMS", vec![issuer, audience, ("ECOM_OIDC_ALGORITHMS", "RS256,HS256")]),
            ("ECOM_OIDC_ALGORITHMS", vec![issuer, audience, ("ECOM_OIDC_ALGORITHMS", "none")]),
            ("ECOM_OIDC_ROLE_MAP", vec![issuer, audience, ("ECOM_OIDC_ROLE_MAP", "clerks=staff")]),
            ("ECOM_OIDC_ROLE_MAP", vec![issuer, audience, ("ECOM_OIDC_ROLE_MAP", "clerks")]),
            ("ECOM_OIDC_ISSUER", vec![("ECOM_OIDC_ROLES_CLAIM", "groups")]),
        ] {
            let fields = bad_fields(read(&pairs).unwrap_err());
            assert!(fields.contains(&name.to_owned()), "{pairs:?}: {fields:?}");
        }
    }

    #[test]
    fn price_buckets_are_in_the_major_unit_of_the_currency() {
        let read = |currency, text| read(&[("ECOM_CURRENCY", currency), ("ECOM_PRICE_BUCKETS", text)]);
        assert_eq!(read("USD", "0, 9.99,25").unwrap().shop.price_bounds, [0, 999, 2_500]);
        assert_eq!(read("JPY", "0,1000").unwrap().shop.price_bounds, [0, 1_000]);
        let many = (0..51).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
        for (currency, text) in [
            ("USD", "25,0"),
            ("USD", "0,0"),
            ("USD", "0,,1"),
            ("USD", "-1"),
            ("USD", "9.999"),
            ("JPY", "0.5"),
            ("USD", &many),
        ] {
            assert_eq!(bad_fields(read(currency, text).unwrap_err()), ["ECOM_PRICE_BUCKETS"], "{currency} {text}");
        }
    }

    #[test]
    fn secrets_come_from_files_and_are_not_shown() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("url");
        std::fs::write(&file, "postgres://u:hunter2@h/x\n").unwrap();
        match read(&[("DATABASE_URL_FILE", file.to_str().unwrap())]) {
            Ok(c) => {
                assert_eq!(c.database_url.expose(), "postgres://u:hunter2@h/x");
                assert!(!format!("{c:?} {}", c.database_url.shown()).contains("hunter2"));
            }
            Err(error) if cfg!(feature = "postgres") => panic!("{error}"),
            Err(error) => {
                assert!(!format!("{error} {error:?}").contains("hunter2"));
                assert_eq!(bad_fields(error), ["DATABASE_URL"]);
            }
        }
    }

    #[test]
    fn a_toml_file_says_what_the_environment_does_not() {
        let mut errors = ValidationErrors::default();
        let file = toml_values(
            "listen = '0.0.0.0:1'\nmax_page_size = 7\naccess_log = false\ncors_origins = ['https://a.example', 'http://b']\n\
             database_url = 'sqlite::memory:'\nport = 9\nprice_buckets = [0, 12.5, '100']\n",
            &mut errors,
        );
        assert_eq!(errors, ValidationErrors::default());
        let mut values = BTreeMap::from([("PORT", "10".to_owned()), ("ECOM_LISTEN", String::new())]);
        merge(&mut values, file);
        let c = ServerConfig::from_values(&values, errors).unwrap();
        assert_eq!((c.host.as_str(), c.port), ("0.0.0.0", 10));
        assert_eq!((c.http.max_page_size, c.http.page_size, c.http.access_log), (7, 7, false));
        assert_eq!(c.http.cors_origins, ["https://a.example", "http://b"]);
        assert_eq!(c.shop.price_bounds, [0, 1250, 10_000]);
        assert_eq!(c.database_url.expose(), "sqlite::memory:");
    }

    #[test]
    fn a_url_of_an_earlier_place_hides_the_file_of_a_later_one() {
        let mut values = BTreeMap::from([("DATABASE_URL", "sqlite::memory:".to_owned())]);
        merge(&mut values, BTreeMap::from([("DATABASE_URL_FILE", "/nowhere".to_owned())]));
        assert_eq!(values.len(), 1);
    }

    #[test]
    fn r17_a_bad_toml_file_shows_no_value() {
        for text in ["database_url = 'postgres://u:hunter2", "colour = 'hunter2'", "listen = { hunter2 = 1 }"] {
            let mut errors = ValidationErrors::default();
            toml_values(text, &mut errors);
            assert_eq!(errors.0.len(), 1, "{text}");
            assert!(!errors.to_string().contains("hunter2"), "{errors}");
        }
    }
}
