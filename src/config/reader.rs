//! The reader of settings, which parses and checks them and collects an error for each invalid one.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use ecom_core::access::{ApiKey, OidcConfig, Principal, Secret, SecretKey, SignatureAlgorithm, TokenAlgorithm};
use ecom_core::clock::TimeZone;
use ecom_core::money::{Currency, price_of};
use ecom_core::platform::MailAddress;
use ecom_core::port::Quota;
use ecom_core::search::Language;
use ecom_core::{FieldCode, ValidationErrors};
#[cfg(feature = "metrics")]
use ecom_http::MetricsAccess;
use ecom_http::{HttpConfig, IpNet, RateLimits, RouteGroup, ServeConfig, UnknownRouteGroup};
use rust_decimal::Decimal;

use super::SecretUrl;
use super::logs::{LogConfig, LogFormat, TraceConfig};
use super::sources::{present, unreadable};

/// Splits `host:port` or `[v6]:port`.
pub(super) fn host_and_port(text: &str) -> Option<(String, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let host = match host.strip_prefix('[') {
        Some(v6) => v6.strip_suffix(']')?,
        None if host.contains(':') => return None,
        None => host,
    };
    let plain = !host.is_empty() && host.chars().all(|c| c.is_ascii_graphic() && c != '/');
    if plain { Some((host.to_owned(), port.parse().ok()?)) } else { None }
}

/// Returns whether a text turns a setting on or off; `None` if it does neither.
fn switch(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "on" | "yes" => Some(true),
        "false" | "0" | "off" | "no" => Some(false),
        _ => None,
    }
}

/// Reads settings and collects their errors. An invalid setting has its default.
pub(super) struct Reader<'a> {
    pub values: &'a BTreeMap<&'static str, String>,
    pub errors: &'a mut ValidationErrors,
}

impl Reader<'_> {
    pub fn bad(&mut self, name: &str, message: &str) {
        self.errors.out_of_bounds(name, message);
    }

    pub fn text(&self, name: &str, default: &str) -> String {
        present(self.values, name).unwrap_or(default).to_owned()
    }

    fn parsed<T: FromStr>(&mut self, name: &str, ok: impl Fn(&T) -> bool, bounds: &str) -> Option<T> {
        let text = present(self.values, name)?;
        match text.parse() {
            Ok(value) if ok(&value) => Some(value),
            _ => {
                self.bad(name, &format!("must be {bounds}"));
                None
            }
        }
    }

    pub fn number(&mut self, name: &str, default: u64, bounds: RangeInclusive<u64>) -> u64 {
        let text = format!("a whole number, {} to {}", bounds.start(), bounds.end());
        self.parsed(name, |n| bounds.contains(n), &text).unwrap_or(default)
    }

    /// Reads a time in seconds.
    pub fn seconds(&mut self, name: &str, default: Duration, bounds: RangeInclusive<u64>) -> Duration {
        self.counted(name, "seconds", bounds).map_or(default, Duration::from_secs)
    }

    /// Reads a time in seconds; `None` if it is `off` or not set.
    pub fn seconds_or_off(&mut self, name: &str, bounds: RangeInclusive<u64>) -> Option<Duration> {
        let text = present(self.values, name).filter(|text| !text.eq_ignore_ascii_case("off"))?;
        let seconds = text.parse::<u64>().ok().filter(|seconds| bounds.contains(seconds));
        if seconds.is_none() {
            let (least, most) = (bounds.start(), bounds.end());
            self.bad(name, &format!("must be `off`, or a whole number of seconds without a unit, {least} to {most}"));
        }
        seconds.map(Duration::from_secs)
    }

    /// Reads a time in milliseconds.
    pub fn milliseconds(&mut self, name: &str, default: Duration, bounds: RangeInclusive<u64>) -> Duration {
        self.counted(name, "milliseconds", bounds).map_or(default, Duration::from_millis)
    }

    /// Reads a number of bytes, whose bounds must fit into `usize`.
    pub fn bytes(&mut self, name: &str, default: usize, bounds: RangeInclusive<u64>) -> usize {
        self.counted(name, "bytes", bounds).and_then(|n| usize::try_from(n).ok()).unwrap_or(default)
    }

    /// Reads a number of a unit, which the value does not contain.
    fn counted(&mut self, name: &str, unit: &str, bounds: RangeInclusive<u64>) -> Option<u64> {
        let text = format!("a whole number of {unit} without a unit, {} to {}", bounds.start(), bounds.end());
        self.parsed(name, |n| bounds.contains(n), &text)
    }

    /// Reads a number, whose bounds must fit into `T`.
    pub fn size<T: TryFrom<u64> + Copy>(&mut self, name: &str, default: T, bounds: RangeInclusive<u64>) -> T {
        let text = format!("a whole number, {} to {}", bounds.start(), bounds.end());
        let found: Option<u64> = self.parsed(name, |n| bounds.contains(n), &text);
        found.and_then(|n| T::try_from(n).ok()).unwrap_or(default)
    }

    /// Reads a setting that is required if mails are sent through a mail server.
    pub fn required_by_mails(&mut self, name: &str, mailer: &SecretUrl, default: &str) -> String {
        let is_server = mailer.expose().starts_with("smtp");
        if is_server && present(self.values, name).is_none() {
            self.errors.push(name, FieldCode::Required, "is required, because MAILER_URL names a mail server");
        }
        self.text(name, default)
    }

    /// Reads the sender of mails.
    pub fn mail_address(&mut self, name: &str, mailer: &SecretUrl, default: &MailAddress) -> MailAddress {
        let text = self.required_by_mails(name, mailer, default.address());
        text.parse().unwrap_or_else(|_| {
            self.bad(name, "must be an email address, such as `shop@example.com` or `Shop <shop@example.com>`");
            default.clone()
        })
    }

    /// Reads the address of a receiver of mails; `None` if there is none.
    pub fn optional_mail_address(&mut self, name: &str) -> Option<MailAddress> {
        let address = present(self.values, name)?.parse().ok();
        if address.is_none() {
            self.bad(name, "must be an email address, such as `stock@example.com` or `Stock <stock@example.com>`");
        }
        address
    }

    /// Reads after how many seconds shoppers are reminded of their carts; `None` if they are not.
    pub fn abandoned_cart_after(&mut self, name: &str, cart_ttl: Duration) -> Option<Duration> {
        let text = present(self.values, name).filter(|text| !text.eq_ignore_ascii_case("off"))?;
        let after = text.parse().ok().map(Duration::from_secs);
        let is_within = |after: &Duration| (900..=30 * 86_400).contains(&after.as_secs()) && *after < cart_ttl;
        let after = after.filter(is_within);
        if after.is_none() {
            self.bad(
                name,
                "must be `off`, or a whole number of seconds without a unit, 900 to 2592000, which is less than \
                 ECOM_CART_TTL",
            );
        }
        after
    }

    /// Returns a number from 1 to `max`.
    pub fn count(&mut self, name: &str, default: NonZeroUsize, max: u64) -> NonZeroUsize {
        NonZeroUsize::new(self.size(name, default.get(), 1..=max)).unwrap_or(default)
    }

    pub fn flag(&mut self, name: &str, default: bool) -> bool {
        let Some(text) = present(self.values, name) else { return default };
        switch(text).unwrap_or_else(|| {
            self.bad(name, "must be `on` or `off`");
            default
        })
    }

    /// Reads the code of a language; English by default.
    pub fn language(&mut self, name: &str) -> Language {
        match present(self.values, name).map(str::to_ascii_lowercase).as_deref().map(str::parse) {
            None => Language::English,
            Some(Ok(language)) => language,
            Some(Err(_)) => {
                let codes: Vec<&str> = Language::ALL.iter().map(|language| language.code()).collect();
                self.bad(name, &format!("must be one of {}", codes.join(", ")));
                Language::English
            }
        }
    }

    /// Reads the name of a time zone; UTC by default.
    pub fn time_zone(&mut self, name: &str) -> TimeZone {
        let bounds = "the name of a time zone of IANA, such as `Europe/Berlin` or `UTC`";
        self.parsed(name, |_| true, bounds).unwrap_or_else(TimeZone::utc)
    }

    /// Reads the levels of the log: a level, or directives of `tracing-subscriber`'s `EnvFilter`. A name without a
    /// level is refused, because a misspelled level would count as a name.
    pub fn log(&mut self, name: &str, default: &str) -> String {
        let text = self.text(name, default);
        let is_level = |word: &str| {
            let levels = ["off", "error", "warn", "info", "debug", "trace", "0", "1", "2", "3", "4", "5"];
            levels.contains(&word.to_ascii_lowercase().as_str())
        };
        let is_directive = |directive: &str| match directive.trim().rsplit_once('=') {
            None => is_level(directive.trim()),
            Some((target, level)) => {
                !target.is_empty() && !target.contains(char::is_whitespace) && is_level(level.trim())
            }
        };
        // Directives with spans have a grammar of their own, in which commas separate fields too.
        if !text.contains('[') && !text.split(',').all(is_directive) {
            self.bad(
                name,
                "must be `off`, `error`, `warn`, `info`, `debug` or `trace`, or directives such as \
                 `info,ecom_core=debug`",
            );
        }
        text
    }

    /// Reads the settings of the log.
    pub fn log_config(&mut self) -> LogConfig {
        let defaults = LogConfig::default();
        let levels = self.log("ECOM_LOG", &defaults.levels);
        let format = match self.text("ECOM_LOG_FORMAT", "pretty").as_str() {
            "pretty" => LogFormat::Pretty,
            "json" => LogFormat::Json,
            _ => {
                self.bad("ECOM_LOG_FORMAT", "must be `pretty` or `json`");
                LogFormat::Pretty
            }
        };
        let file_size: u64 = self.size("ECOM_LOG_FILE_SIZE", defaults.file_size, 65_536..=1 << 40);
        let files: u32 = self.size("ECOM_LOG_FILES", defaults.files, 1..=1_000);
        let log = defaults.levels(levels).format(format).file_size(file_size).files(files);
        match present(self.values, "ECOM_LOG_FILE") {
            Some(path) => log.file(path),
            None => log,
        }
    }

    /// Reads the settings of traces; `None` if there is no collector.
    pub fn traces(&mut self) -> Option<TraceConfig> {
        let bounds = "a number from 0 to 1, such as 0.01";
        let is_share = |share: &Decimal| (Decimal::ZERO..=Decimal::ONE).contains(share);
        let sample = self.parsed("ECOM_TRACE_SAMPLE", is_share, bounds);
        let service = self.text("ECOM_TRACE_SERVICE", "ecom");
        if service.chars().count() > 100 || service.chars().any(char::is_control) {
            self.bad("ECOM_TRACE_SERVICE", "must have 1 to 100 characters");
        }
        let name = "ECOM_OTLP_ENDPOINT";
        let endpoint = self.url(name, "ECOM_OTLP_ENDPOINT_FILE", "");
        let text = endpoint.expose();
        if text.is_empty() {
            return None;
        }
        if !cfg!(feature = "otlp") {
            self.bad(name, "needs the feature `otlp`, which this program was built without");
            return None;
        }
        let host = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
        let is_url = |host: &str| !host.starts_with('/') && host.chars().all(|c| c.is_ascii_graphic());
        if !host.is_some_and(|host| !host.is_empty() && is_url(host)) {
            self.bad(name, "must be a URL such as `http://127.0.0.1:4318`");
            return None;
        }
        let traces = TraceConfig::new(endpoint).service(service);
        Some(match sample {
            Some(sample) => traces.sample(sample),
            None => traces,
        })
    }

    /// Reads prices in the major unit, in ascending order, and returns them in minor units.
    pub fn prices(&mut self, name: &str, currency: Currency, default: &[i64]) -> Vec<i64> {
        let Some(text) = present(self.values, name) else { return default.to_vec() };
        let price = |text: &str| {
            let mut errors = ValidationErrors::default();
            let price = price_of(text.trim().parse().ok()?, currency, name, &mut errors)?;
            Some(price.minor())
        };
        match text.split(',').map(price).collect::<Option<Vec<i64>>>() {
            Some(prices) if prices.len() <= 50 && prices.is_sorted_by(|a, b| a < b) => prices,
            _ => {
                self.bad(
                    name,
                    "must be 1 to 50 prices of the shop's currency in ascending order, such as `0,25,50,100`",
                );
                default.to_vec()
            }
        }
    }

    /// Reads the settings of the REST API.
    pub fn http(&mut self) -> HttpConfig {
        let defaults = HttpConfig::default();
        let api_prefix = self.text("ECOM_API_PREFIX", &defaults.api_prefix);
        let api_prefix = if api_prefix == "/" { String::new() } else { api_prefix };
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '-' | '_' | '.' | '~');
        if !(api_prefix.is_empty() || api_prefix.starts_with('/'))
            || api_prefix.ends_with('/')
            || api_prefix.contains("//")
            || api_prefix.len() > 100
            || !api_prefix.chars().all(plain)
        {
            self.bad(
                "ECOM_API_PREFIX",
                "must be a path such as `/api/v1`, which starts with `/` and does not end with it",
            );
        }
        let max_page_size: u32 = self.size("ECOM_MAX_PAGE_SIZE", defaults.max_page_size, 1..=1_000);
        let page_size = defaults.page_size.min(max_page_size);
        let page_size = self.size("ECOM_PAGE_SIZE", page_size, 1..=u64::from(max_page_size));
        let body_limit = self.bytes("ECOM_BODY_LIMIT", defaults.body_limit, 1024..=100 * 1024 * 1024);
        let image_limit = self.bytes("ECOM_IMAGE_LIMIT", defaults.image_limit, 1024..=100 << 20);
        let import_limit = self.size("ECOM_IMPORT_LIMIT", defaults.import_limit, 1024..=1 << 40);
        let query_limit = self.bytes("ECOM_QUERY_LIMIT", defaults.query_limit, 256..=64 * 1024);
        let header_limit = self.bytes("ECOM_HEADER_LIMIT", defaults.header_limit, 1024..=256 * 1024);
        let numbers = self.flag("ECOM_NUMBERS", defaults.numbers);
        let has_logins = self.flag("ECOM_AUTH", true);
        let insists = self.flag("ECOM_AUTH_OFF_ON_NETWORK", false);
        let anonymous = if has_logins { defaults.anonymous.clone() } else { Principal::trusted("anonymous") };
        let timeout = self.seconds("ECOM_REQUEST_TIMEOUT", defaults.request_timeout, 1..=600);
        let max_requests = self.size("ECOM_MAX_REQUESTS", defaults.max_requests, 1..=1_000_000);
        let live_clients = self.size("ECOM_LIVE_CLIENTS", defaults.live_clients, 0..=1_000_000);
        let live_lifetime = self.seconds("ECOM_LIVE_LIFETIME", defaults.live_lifetime, 60..=86_400);
        let live_heartbeat = self.seconds("ECOM_LIVE_HEARTBEAT", defaults.live_heartbeat, 1..=600);
        let rate_limits = self.rate_limits();
        let cors_origins: Vec<String> = self
            .text("ECOM_CORS_ORIGINS", "")
            .split(',')
            .map(str::trim)
            .filter(|o| !o.is_empty())
            .map(|o| o.trim_end_matches('/').to_owned())
            .collect();
        let is_origin = |o: &String| {
            o.strip_prefix("https://").or_else(|| o.strip_prefix("http://")).is_some_and(|host| {
                !host.is_empty() && host.chars().all(|c| c.is_ascii_graphic() && !matches!(c, '/' | '?' | '#' | '@'))
            })
        };
        if !(cors_origins.iter().all(is_origin) || cors_origins == ["*"]) {
            self.bad(
                "ECOM_CORS_ORIGINS",
                "must be `*`, or origins such as `https://shop.example`, separated by commas",
            );
        }
        let admin_page = self.flag("ECOM_ADMIN_PAGE", defaults.admin_page);
        let access_log = self.flag("ECOM_ACCESS_LOG", defaults.access_log);
        let route_groups = self.route_groups("ECOM_ONLY", &defaults.route_groups);
        let refresh_cookie = self.flag("ECOM_REFRESH_COOKIE", defaults.refresh_cookie);
        let secure = self.flag("ECOM_REFRESH_COOKIE_SECURE", defaults.refresh_cookie_secure);
        defaults
            .api_prefix(api_prefix)
            .page_size(page_size)
            .max_page_size(max_page_size)
            .body_limit(body_limit)
            .import_limit(import_limit)
            .image_limit(image_limit)
            .query_limit(query_limit)
            .header_limit(header_limit)
            .admin_page(admin_page)
            .access_log(access_log)
            .cors_origins(cors_origins)
            .route_groups(route_groups)
            .request_timeout(timeout)
            .max_requests(max_requests)
            .live_clients(live_clients)
            .live_lifetime(live_lifetime)
            .live_heartbeat(live_heartbeat)
            .rate_limits(rate_limits)
            .numbers(numbers)
            .authentication(has_logins)
            .loopback_only(!has_logins && !insists)
            .refresh_cookie(refresh_cookie)
            .refresh_cookie_secure(secure)
            .anonymous(anonymous)
    }

    /// Reads who may read the metrics.
    #[cfg(feature = "metrics")]
    pub fn metrics(&mut self) -> MetricsAccess {
        let Some(text) = present(self.values, "ECOM_METRICS") else { return MetricsAccess::Restricted };
        match switch(text) {
            Some(true) => MetricsAccess::Restricted,
            Some(false) => MetricsAccess::Off,
            None if text.eq_ignore_ascii_case("open") => MetricsAccess::Open,
            None => {
                self.bad("ECOM_METRICS", "must be `on`, `open` or `off`");
                MetricsAccess::Off
            }
        }
    }

    /// Refuses metrics, which this build does not have.
    #[cfg(not(feature = "metrics"))]
    pub fn no_metrics(&mut self) {
        if present(self.values, "ECOM_METRICS").is_some_and(|text| switch(text) != Some(false)) {
            self.bad("ECOM_METRICS", "must be `off`, or the server must be built with the feature `metrics`");
        }
    }

    /// Reads names of groups of routes.
    fn route_groups(&mut self, name: &str, default: &[RouteGroup]) -> Vec<RouteGroup> {
        let Some(text) = present(self.values, name) else { return default.to_vec() };
        let groups: Result<Vec<RouteGroup>, UnknownRouteGroup> =
            text.split(',').map(|group| group.trim().parse()).collect();
        groups.unwrap_or_else(|unknown| {
            self.bad(name, &format!("{unknown}; several are separated by commas"));
            default.to_vec()
        })
    }

    /// Refuses to open a server to everybody in the network without authentication, unless a setting allows it.
    pub fn check_reach(&mut self, http: &HttpConfig, host: &str) {
        let is_loopback = host.eq_ignore_ascii_case("localhost")
            || host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback());
        if http.loopback_only && !(is_loopback || host.is_empty()) {
            let message = "can be `off` only if ECOM_LISTEN is a loopback address such as 127.0.0.1, because everybody \
                           who reaches the server may do everything; ECOM_AUTH_OFF_ON_NETWORK=true allows it anyway";
            self.bad("ECOM_AUTH", message);
        }
    }

    /// Returns the secret of the API key that may do everything, from the setting or its file.
    pub fn admin_key(&mut self, name: &str, file: &str) -> Option<Secret> {
        let text = self.url(name, file, "");
        let text = Some(text.expose()).filter(|text| !text.is_empty())?;
        let key = ApiKey::secret_from_text(text);
        if key.is_none() {
            let message = format!(
                "must have {} to {} letters, digits, `-` and `_`, and begin with `{}`",
                ApiKey::MIN_SECRET_LENGTH,
                ApiKey::MAX_SECRET_LENGTH,
                ApiKey::MARK
            );
            self.bad(name, &message);
        }
        key
    }

    /// Reads the rate limits; `None` if they are off.
    fn rate_limits(&mut self) -> Option<RateLimits> {
        let defaults = RateLimits::default();
        let proxies = self.networks("ECOM_TRUSTED_PROXIES");
        let header = self.parsed("ECOM_PROXY_HEADER", |_| true, "`X-Forwarded-For`, `Forwarded` or `X-Real-IP`");
        let limits = defaults
            .clone()
            .address(self.quota("ECOM_RATE_LIMIT_ADDRESS", defaults.address))
            .principal(self.quota("ECOM_RATE_LIMIT_PRINCIPAL", defaults.principal))
            .login(self.quota("ECOM_RATE_LIMIT_LOGIN", defaults.login))
            .registration(self.quota("ECOM_RATE_LIMIT_REGISTRATION", defaults.registration))
            .orders(self.quota("ECOM_RATE_LIMIT_ORDERS", defaults.orders))
            .trusted_proxies(proxies)
            .proxy_header(header.unwrap_or(defaults.proxy_header));
        self.flag("ECOM_RATE_LIMIT", true).then_some(limits)
    }

    /// Reads addresses and networks.
    pub fn networks(&mut self, name: &str) -> Vec<IpNet> {
        let text = self.text(name, "");
        let texts = text.split(',').map(str::trim).filter(|net| !net.is_empty());
        let network = |text: &str| text.parse().or_else(|_| text.parse().map(|address: IpAddr| IpNet::from(address)));
        texts.map(network).collect::<Result<_, _>>().unwrap_or_else(|_| {
            self.bad(name, "must be addresses or networks such as `10.0.0.0/8`, separated by commas");
            Vec::new()
        })
    }

    /// Reads a number of requests within a number of seconds, such as `100/60`; `off` is `None`.
    fn quota(&mut self, name: &str, default: Option<Quota>) -> Option<Quota> {
        let Some(text) = present(self.values, name) else { return default };
        if text.eq_ignore_ascii_case("off") {
            return None;
        }
        let read = |text: &str| {
            let (limit, seconds) = text.split_once('/')?;
            let (limit, seconds): (u32, u64) = (limit.trim().parse().ok()?, seconds.trim().parse().ok()?);
            let is_within = (1..=1_000_000).contains(&limit) && (1..=86_400).contains(&seconds);
            is_within.then(|| Quota::new(limit, Duration::from_secs(seconds)))
        };
        let quota = read(text);
        if quota.is_none() {
            let message = "must be `off`, or a number of requests and a number of seconds such as `100/60`, up to \
                           1000000/86400";
            self.bad(name, message);
        }
        quota.or(default)
    }

    /// Reads the limits of connections. The largest head that the REST API reports in its envelope of errors fits.
    pub fn serve(&mut self, http: &HttpConfig) -> ServeConfig {
        let defaults = ServeConfig::default();
        let head_limit = http.header_limit + 2 * http.query_limit + 8 * 1024;
        let head_limit = head_limit.max(defaults.head_limit);
        let (header, keep_alive) = (defaults.header_timeout, defaults.keep_alive_timeout);
        let (send, ping) = (defaults.send_timeout, defaults.ping_interval);
        let shutdown = defaults.shutdown_timeout;
        defaults
            .clone()
            .head_limit(head_limit)
            .max_connections(self.size("ECOM_MAX_CONNECTIONS", defaults.max_connections, 1..=1_000_000))
            .header_timeout(self.seconds("ECOM_HEADER_TIMEOUT", header, 1..=600))
            .keep_alive_timeout(self.seconds("ECOM_KEEP_ALIVE_TIMEOUT", keep_alive, 1..=3_600))
            .send_timeout(self.seconds("ECOM_SEND_TIMEOUT", send, 1..=600))
            .max_headers(self.size("ECOM_MAX_HEADERS", defaults.max_headers, 10..=1_000))
            .max_streams(self.size("ECOM_MAX_STREAMS", defaults.max_streams, 1..=10_000))
            .ping_interval(self.seconds("ECOM_PING_INTERVAL", ping, 1..=3_600))
            .shutdown_timeout(self.seconds("ECOM_SHUTDOWN_TIMEOUT", shutdown, 1..=600))
    }

    /// Returns the secret key of the shop, which the setting or its file contains.
    pub fn secret_key(&mut self, name: &str, file: &str) -> Option<SecretKey> {
        let text = self.url(name, file, "");
        if text.expose().is_empty() {
            return None;
        }
        let key = SecretKey::from_text(text.expose());
        if key.is_none() {
            let message = format!(
                "must have at least {} characters, such as the output of `openssl rand -base64 32`",
                SecretKey::MIN_LENGTH
            );
            self.bad(name, &message);
        }
        key
    }

    /// Returns the algorithm of access tokens.
    pub fn token_algorithm(&mut self, name: &str, has_secret_key: bool) -> TokenAlgorithm {
        let algorithm = TokenAlgorithm::parse(&self.text(name, TokenAlgorithm::EdDsa.as_str()));
        match algorithm {
            None => self.bad(name, "must be `eddsa` or `hs256`"),
            Some(TokenAlgorithm::Hs256) if !has_secret_key => {
                self.bad(name, "can be `hs256` only if ECOM_SECRET_KEY is set");
            }
            Some(_) => {}
        }
        algorithm.unwrap_or(TokenAlgorithm::EdDsa)
    }

    /// Returns the issuer of OpenID Connect whose tokens are accepted, if there is one.
    pub fn oidc(&mut self) -> Option<OidcConfig> {
        let issuer = present(self.values, "ECOM_OIDC_ISSUER");
        let others =
            ["AUDIENCE", "JWKS_URL", "ALGORITHMS", "ROLES_CLAIM", "ROLE_MAP"].map(|n| format!("ECOM_OIDC_{n}"));
        let Some(issuer) = issuer else {
            if let Some(other) = others.iter().find(|name| present(self.values, name).is_some()) {
                self.errors.push("ECOM_OIDC_ISSUER", FieldCode::Required, format!("is required, since {other} is set"));
            }
            return None;
        };
        let mut config = OidcConfig::new(issuer, self.text("ECOM_OIDC_AUDIENCE", ""));
        config.jwks_url = present(self.values, "ECOM_OIDC_JWKS_URL").map(str::to_owned);
        config.roles_claim = present(self.values, "ECOM_OIDC_ROLES_CLAIM").map(str::to_owned);
        if let Some(text) = present(self.values, "ECOM_OIDC_ALGORITHMS") {
            match text.split(',').map(|word| SignatureAlgorithm::parse(word.trim())).collect() {
                Some(algorithms) => config.algorithms = algorithms,
                None => {
                    let names: Vec<&str> = SignatureAlgorithm::ALL.iter().map(|a| a.as_str()).collect();
                    self.bad("ECOM_OIDC_ALGORITHMS", &format!("must be some of {}", names.join(", ")));
                }
            }
        }
        if let Some(text) = present(self.values, "ECOM_OIDC_ROLE_MAP") {
            // The name of a role contains no `=`, and the value of a claim may.
            let pair = |pair: &str| {
                let (value, role) = pair.rsplit_once('=')?;
                let (value, role) = (value.trim(), role.trim());
                (!value.is_empty() && !role.is_empty()).then(|| (value.to_owned(), role.to_owned()))
            };
            match text.split(',').map(pair).collect() {
                Some(map) => config.role_map = map,
                None => self.bad("ECOM_OIDC_ROLE_MAP", "must be pairs such as `clerks=staff`, separated by commas"),
            }
        }
        Some(config)
    }

    pub fn url(&mut self, name: &str, file: &str, default: &str) -> SecretUrl {
        let text = match (present(self.values, name), present(self.values, file)) {
            (Some(_), Some(_)) => {
                self.errors.push(
                    name,
                    FieldCode::Inconsistent,
                    format!("cannot be combined with {file}: set one of the two"),
                );
                default.to_owned()
            }
            (Some(text), None) => text.to_owned(),
            (None, Some(path)) => match std::fs::read_to_string(path) {
                Ok(text) => text.trim().to_owned(),
                Err(e) => {
                    self.errors.push(file, FieldCode::ReferenceNotFound, unreadable(&e));
                    default.to_owned()
                }
            },
            (None, None) => default.to_owned(),
        };
        SecretUrl(text)
    }
}
