//! The builder of a shop, from URLs or from adapters.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use derive_setters::Setters;
use ecom_core::access::{OidcConfig, OidcIssuer, SecretKey};
use ecom_core::catalog::Feed;
use ecom_core::clock::{SharedClock, SystemClock};
use ecom_core::config::ShopConfig;
use ecom_core::id::{IdSource, UuidV7Source};
use ecom_core::money::Currency;
use ecom_core::platform::JobQueue;
use ecom_core::port::{
    Cache, ImageProcessor, KeySetSource, MailTemplates, Mailer, MediaStore, NoCache, NoRateLimiter, NoSearch,
    RateLimiter, SchemaStatus, SearchProvider, Storage, WebhookSender,
};
use ecom_core::{Error, FieldCode, Mailing, Media, Result, Shop, ShopParts, ValidationErrors};

use crate::shops::Place;

/// An adapter, or the URL from which the builder opens one.
enum Choice<T: ?Sized> {
    Absent,
    Url(String),
    Part(Arc<T>),
    /// Two calls have chosen an adapter, which is an error.
    Twice,
}

impl<T: ?Sized> Choice<T> {
    fn choose(&mut self, choice: Self) {
        *self = if matches!(self, Self::Absent) { choice } else { Self::Twice };
    }
}

impl<T: ?Sized> Choice<T> {
    /// Puts the name of a shop into the URL.
    fn put_in(&mut self, name: &str) {
        if let Self::Url(url) = self {
            *url = url.replace(SHOP, name);
        }
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for Choice<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("Absent"),
            Self::Twice => f.write_str("Twice"),
            // Only the scheme is shown, because the rest may contain a password.
            Self::Url(url) => write!(f, "Url({}:…)", scheme(url)),
            Self::Part(part) => part.fmt(f),
        }
    }
}

/// Settings of the connections to a database. On SQLite, only the two timeouts apply.
#[derive(Debug, Clone, PartialEq, Eq, Setters)]
#[setters(strip_option)]
#[non_exhaustive]
pub struct DatabaseSettings {
    /// The maximum number of connections of this process, at least 1. Default 50.
    pub max_connections: usize,
    /// The time for which a caller waits for a connection, at least 100 ms. Default 10 s.
    pub acquire_timeout: Duration,
    /// The time after which a statement is given up and its connection is closed, at least 100 ms. Default 5 s. A
    /// server ends the wait for a lock after 80 % of this time (MySQL and MariaDB after whole seconds, at least 1 s),
    /// and a statement after 90 %. SQLite interrupts the statement.
    pub statement_timeout: Duration,
    /// The age at which a connection is replaced, at least 100 ms. Default one hour.
    pub max_lifetime: Duration,
}

impl DatabaseSettings {
    fn check(&self) -> Result<()> {
        let mut errors = ValidationErrors::default();
        if self.max_connections == 0 {
            errors.out_of_bounds("max_connections", "must be at least 1");
        }
        for (field, time) in [
            ("acquire_timeout", self.acquire_timeout),
            ("statement_timeout", self.statement_timeout),
            ("max_lifetime", self.max_lifetime),
        ] {
            if time < Duration::from_millis(100) {
                errors.out_of_bounds(field, "must be at least 100 ms");
            }
        }
        errors.into_result()
    }
}

impl Default for DatabaseSettings {
    fn default() -> Self {
        Self {
            max_connections: 50,
            acquire_timeout: Duration::from_secs(10),
            statement_timeout: Duration::from_secs(5),
            max_lifetime: Duration::from_secs(3600),
        }
    }
}

/// Builds a [`Shop`] from URLs, or from adapters of the application.
///
/// A database and a search index are required. By default, the cache is in-process, or there is no cache if the feature
/// `memory` is not turned on.
///
/// ```
/// # #[cfg(all(feature = "sqlite", feature = "tantivy"))]
/// # async fn app() -> ecom::Result<()> {
/// let shop = ecom::ShopBuilder::new()
///     .database("sqlite://data/shop.db")
///     .search("tantivy://data/index")
///     .build()
///     .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct ShopBuilder {
    storage: Choice<dyn Storage>,
    direct: Option<Secret>,
    database: DatabaseSettings,
    migrates: bool,
    search: Choice<dyn SearchProvider>,
    search_fallback: Choice<dyn SearchProvider>,
    cache: Choice<dyn Cache>,
    rate_limiter: Choice<dyn RateLimiter>,
    mailer: Choice<dyn Mailer>,
    mail_templates: Choice<dyn MailTemplates>,
    media: Choice<dyn MediaStore>,
    image_processor: Option<Arc<dyn ImageProcessor>>,
    media_base_url: String,
    webhooks: Webhooks,
    clock: SharedClock,
    ids: Option<Arc<dyn IdSource>>,
    secret_key: Option<SecretKey>,
    /// The issuer, and the source of its keys unless they are fetched over HTTP.
    oidc: Option<(OidcConfig, Option<Arc<dyn KeySetSource>>)>,
    feeds: Vec<Feed>,
    job_queues: Vec<JobQueue>,
    /// The errors of settings that could not become parts.
    #[cfg(feature = "config")]
    refused: Vec<Error>,
    config: ShopConfig,
    /// The names of fields in errors, which replace the names of methods.
    names: Vec<(&'static str, &'static str)>,
    /// The place of the shop among several.
    place: Option<Of>,
}

/// How a shop sends webhooks.
#[derive(Debug, Default)]
enum Webhooks {
    /// It sends none.
    #[default]
    None,
    Sender(Arc<dyn WebhookSender>),
    #[cfg(feature = "webhooks")]
    Http(Box<ecom_outbound::WebhookSenderOptions>),
}

impl Webhooks {
    #[cfg_attr(
        not(feature = "webhooks"),
        expect(clippy::unnecessary_wraps, reason = "opening the sender of the feature can fail")
    )]
    fn open(self) -> Result<Option<Arc<dyn WebhookSender>>> {
        Ok(match self {
            Self::None => None,
            Self::Sender(sender) => Some(sender),
            #[cfg(feature = "webhooks")]
            Self::Http(options) => Some(Arc::new(ecom_outbound::HttpWebhookSender::new(&options)?)),
        })
    }
}

/// The place of a shop among several.
#[derive(Debug)]
struct Of {
    #[cfg_attr(
        not(any(feature = "sqlite", feature = "postgres", feature = "mysql")),
        expect(dead_code, reason = "without a database, no shop is opened")
    )]
    place: Place,
    /// The URL of the database with [`SHOP`] in it.
    #[cfg_attr(
        not(any(feature = "postgres", feature = "mysql")),
        expect(dead_code, reason = "only the shops of a server share connections")
    )]
    template: Secret,
}

/// The text in the URLs of several shops that stands for the name of each.
const SHOP: &str = "{shop}";

impl Default for ShopBuilder {
    fn default() -> Self {
        Self {
            storage: Choice::Absent,
            direct: None,
            database: DatabaseSettings::default(),
            migrates: true,
            search: Choice::Absent,
            search_fallback: Choice::Absent,
            cache: Choice::Absent,
            rate_limiter: Choice::Absent,
            mailer: Choice::Absent,
            mail_templates: Choice::Absent,
            media: Choice::Absent,
            image_processor: None,
            media_base_url: "/media".to_owned(),
            webhooks: Webhooks::None,
            clock: Arc::new(SystemClock),
            ids: None,
            secret_key: None,
            oidc: None,
            feeds: Vec::new(),
            job_queues: Vec::new(),
            #[cfg(feature = "config")]
            refused: Vec::new(),
            config: ShopConfig::default(),
            names: Vec::new(),
            place: None,
        }
    }
}

impl ShopBuilder {
    /// Returns a builder with the clock of the machine and default settings.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the URL of the database: `sqlite://path`, whose directories are created if they do not exist,
    /// `sqlite::memory:`, `postgres://…` or `mysql://…`.
    pub fn database(mut self, url: impl Into<String>) -> Self {
        self.storage.choose(Choice::Url(url.into()));
        self
    }

    /// Sets how the builder connects to a database behind a server.
    pub fn database_settings(mut self, settings: DatabaseSettings) -> Self {
        self.database = settings;
        self
    }

    /// Sets the URL for migrations, which bypasses a pooler in front of the database.
    pub fn database_direct(mut self, url: impl Into<String>) -> Self {
        self.direct = Some(Secret(url.into()));
        self
    }

    /// Sets whether [`Self::build`] migrates the schema of the database. By default it does. Otherwise it refuses an
    /// older schema, and [`Self::migrate`] must have been called before, possibly by another program with more rights.
    pub fn migrates(mut self, migrates: bool) -> Self {
        self.migrates = migrates;
        self
    }

    /// Sets the storage, as an alternative to the URL of a database.
    pub fn with_storage(mut self, storage: Arc<dyn Storage>) -> Self {
        self.storage.choose(Choice::Part(storage));
        self
    }

    /// Sets the URL of the search index: `tantivy://directory`, which is created if it does not exist,
    /// `tantivy::memory:`, a search server such as `elasticsearch+https://user:password@host`, `opensearch+http://host`
    /// or `meilisearch+https://:key@host` (`ElasticsearchOptions::from_url` and `MeilisearchOptions::from_url` list the
    /// parameters), or `none` for a shop without search, whose searches fail with `UNSUPPORTED`.
    pub fn search(mut self, url: impl Into<String>) -> Self {
        self.search.choose(Choice::Url(url.into()));
        self
    }

    /// Sets the search engine, as an alternative to the URL of an index.
    pub fn with_search(mut self, search: Arc<dyn SearchProvider>) -> Self {
        self.search.choose(Choice::Part(search));
        self
    }

    /// Sets the URL of a second search index, which answers while the first one does not, such as
    /// `tantivy://data/fallback` for a search server that may be down. The URLs are those of [`Self::search`]; `none`
    /// is the default. The shop keeps both indices in step with the database.
    pub fn search_fallback(mut self, url: impl Into<String>) -> Self {
        self.search_fallback.choose(Choice::Url(url.into()));
        self
    }

    /// Sets the engine of the second search index, as an alternative to its URL.
    pub fn with_search_fallback(mut self, search: Arc<dyn SearchProvider>) -> Self {
        self.search_fallback.choose(Choice::Part(search));
        self
    }

    /// Sets the URL of the cache.
    ///
    /// | URL | Cache | Feature |
    /// |---|---|---|
    /// | `memory://` | in this process | `memory` |
    /// | `redis://user:password@host:port/database` | on Redis, shared by several processes | `redis` |
    /// | `rediss://…` | the same, with TLS | `redis` |
    /// | `tiered+redis://…`, `tiered+rediss://…` | a tier in this process in front of Redis | `memory` and `redis` |
    /// | `none` | no cache | |
    ///
    /// The URLs can have parameters, such as `memory://?memory_mib=512`:
    ///
    /// | Parameter | URLs | Default | Meaning |
    /// |---|---|---|---|
    /// | `memory_mib` | `memory`, `tiered+…` | `256` | about how many MiB of memory the entries in this process take at most |
    /// | `prefix` | all of Redis | `ecom:` | the prefix of all keys |
    /// | `timeout_ms` | all of Redis | `100` | the time limit of a call |
    /// | `load_wait_ms` | all of Redis | `150` | the time for which a reader waits for another process that is loading the value |
    /// | `decoded_mib` | `redis`, `rediss` | `16` | the size of the values that this process keeps decoded while Redis returns the same bytes |
    ///
    /// While Redis cannot be reached, the shop works without the cache.
    pub fn cache(mut self, url: impl Into<String>) -> Self {
        self.cache.choose(Choice::Url(url.into()));
        self
    }

    /// Sets the cache, as an alternative to a URL.
    pub fn with_cache(mut self, cache: Arc<dyn Cache>) -> Self {
        self.cache.choose(Choice::Part(cache));
        self
    }

    /// Sets the URL of the rate limiter, which counts the requests of each caller for the REST layer.
    ///
    /// | URL | Requests are counted | Feature |
    /// |---|---|---|
    /// | `memory://` | in this process | `memory` |
    /// | `redis://…`, `rediss://…` | on Redis, for several processes together; the URL is that of a cache, of whose parameters `prefix` and `timeout_ms` count | `redis` |
    /// | `none` | not at all | |
    ///
    /// By default, requests are counted on the Redis of the cache, or in this process if the cache is not on Redis.
    /// While Redis cannot be reached, each process counts by itself.
    pub fn rate_limiter(mut self, url: impl Into<String>) -> Self {
        self.rate_limiter.choose(Choice::Url(url.into()));
        self
    }

    /// Sets the rate limiter, as an alternative to a URL.
    pub fn with_rate_limiter(mut self, limiter: Arc<dyn RateLimiter>) -> Self {
        self.rate_limiter.choose(Choice::Part(limiter));
        self
    }

    /// Sets the URL of the mailer, which sends mails to users: those that verify an email address and those that reset
    /// a password. `none`, the default, sends no mails.
    ///
    /// | URL | Mails go | Feature |
    /// |---|---|---|
    /// | `log:` | to the log, for development: the target `ecom_mail` logs their texts, with links, at the level `debug` | `mail` |
    /// | `file:///directory` | to files in a directory, which is created if it does not exist | `mail` |
    /// | `smtp://user:password@host:port`, `smtps://…` | to a mail server; `SmtpOptions::from_url` lists the parameters | `smtp` |
    ///
    /// [`ShopConfig`] has the sender, the name of the shop and the URL of the storefront.
    pub fn mailer(mut self, url: impl Into<String>) -> Self {
        self.mailer.choose(Choice::Url(url.into()));
        self
    }

    /// Sets the mailer, as an alternative to a URL.
    pub fn with_mailer(mut self, mailer: Arc<dyn Mailer>) -> Self {
        self.mailer.choose(Choice::Part(mailer));
        self
    }

    /// Sets a directory with templates of mails, which replace those of the library (feature `mail`). The docs of
    /// `Templates` in [`adapters`](crate::adapters) list the names of the files and the variables.
    pub fn mail_templates(mut self, directory: impl Into<String>) -> Self {
        self.mail_templates.choose(Choice::Url(directory.into()));
        self
    }

    /// Sets the templates of mails, as an alternative to a directory.
    pub fn with_mail_templates(mut self, templates: Arc<dyn MailTemplates>) -> Self {
        self.mail_templates.choose(Choice::Part(templates));
        self
    }

    /// Sets the URL of the store of uploaded images. `none`, the default, refuses uploads.
    ///
    /// | URL | Files are in | Feature |
    /// |---|---|---|
    /// | `file:///directory` | a directory, which is created if it does not exist; all processes of a shop must see the same one | `media` |
    /// | `s3://id:secret@bucket/prefix` | a bucket of S3, or of a server that speaks its protocol; `ObjectMediaStore::open` lists the parameters | `media-s3` |
    pub fn media(mut self, url: impl Into<String>) -> Self {
        self.media.choose(Choice::Url(url.into()));
        self
    }

    /// Sets the store of uploaded images, as an alternative to a URL.
    pub fn with_media_store(mut self, store: Arc<dyn MediaStore>) -> Self {
        self.media.choose(Choice::Part(store));
        self
    }

    /// Sets the processor that makes the files of an uploaded image. Default: `Images` with default options (feature
    /// `media`).
    pub fn with_image_processor(mut self, processor: Arc<dyn ImageProcessor>) -> Self {
        self.image_processor = Some(processor);
        self
    }

    /// Sets the beginning of the URLs of uploaded images: a path or the URL of a CDN, without a slash at its end.
    /// Default `/media`, where the router of `ecom::http` serves the files. If the router is nested at `/shop`, it is
    /// `/shop/media`. A change applies to later uploads; products keep the URLs that they have.
    pub fn media_base_url(mut self, url: impl Into<String>) -> Self {
        self.media_base_url = url.into();
        self
    }

    /// Sends webhooks over HTTP with these settings (feature `webhooks`). Without this call, or one of
    /// [`Self::with_webhook_sender`], the shop sends none, and refuses to create them.
    #[cfg(feature = "webhooks")]
    pub fn webhooks(mut self, options: ecom_outbound::WebhookSenderOptions) -> Self {
        self.webhooks = Webhooks::Http(Box::new(options));
        self
    }

    /// Sets the sender of webhooks, in place of the one of [`Self::webhooks`].
    pub fn with_webhook_sender(mut self, sender: Arc<dyn WebhookSender>) -> Self {
        self.webhooks = Webhooks::Sender(sender);
        self
    }

    /// Adds a source that the background work of the shop polls, and imports when it has changed.
    pub fn feed(mut self, feed: Feed) -> Self {
        self.feeds.push(feed);
        self
    }

    /// Adds a queue of jobs of the application, whose jobs the background work of the shop runs. Every process that
    /// enqueues its jobs, or runs them, registers it.
    pub fn job_queue(mut self, queue: JobQueue) -> Self {
        self.job_queues.push(queue);
        self
    }

    /// Sets the settings of the shop.
    pub fn config(mut self, config: ShopConfig) -> Self {
        self.config = config;
        self
    }

    /// Sets the clock. Tests use it to control the time.
    pub fn clock(mut self, clock: SharedClock) -> Self {
        self.clock = clock;
        self
    }

    /// Sets the source of ids. Default: UUIDv7 with the time of the clock.
    pub fn ids(mut self, ids: Arc<dyn IdSource>) -> Self {
        self.ids = Some(ids);
        self
    }

    /// Sets the secret that all processes of the shop share, by which the keys that sign access tokens are stored.
    /// Default: each process signs with a key of its own, which ends with the process.
    pub fn secret_key(mut self, key: SecretKey) -> Self {
        self.secret_key = Some(key);
        self
    }

    /// Accepts the tokens of an issuer of OpenID Connect in addition to those of the shop. Its keys are fetched over
    /// HTTP, which needs the feature `oidc`.
    pub fn oidc(mut self, config: OidcConfig) -> Self {
        self.oidc = Some((config, None));
        self
    }

    /// Accepts the tokens of an issuer of OpenID Connect, whose keys come from a source of the application.
    pub fn with_oidc(mut self, config: OidcConfig, keys: Arc<dyn KeySetSource>) -> Self {
        self.oidc = Some((config, Some(keys)));
        self
    }

    /// Checks all settings, opens the adapters and migrates the schema of the database to this release.
    ///
    /// # Errors
    /// - `Validation` with each invalid setting. For a URL whose adapter is not compiled in, the message names the
    ///   feature to turn on. `Validation` also reports a database file that is not a database or is damaged, and a file
    ///   or directory that cannot be created.
    /// - `CURRENCY_MISMATCH` if the database was created for another currency.
    /// - `Unavailable` if the database cannot be reached or the search index cannot be opened.
    /// - `Internal` if a later release has migrated the database, and its schema does not serve this release.
    ///
    /// No message shows a URL.
    pub async fn build(self) -> Result<Shop> {
        let names = self.names.clone();
        Box::pin(self.open()).await.map_err(|e| renamed(e, &names))
    }

    /// Migrates the schema of the database to this release, and opens nothing else. Returns the status of the schema
    /// before, whose pending migrations are those that were applied.
    ///
    /// # Errors
    /// Those of [`Self::build`] that concern the database.
    pub async fn migrate(self) -> Result<SchemaStatus> {
        let (names, currency) = (self.names.clone(), self.config.currency);
        let is_opened = matches!(self.storage, Choice::Url(_));
        let migrated = match Box::pin(self.open_database(false)).await {
            Ok(storage) => {
                let migrated = migrated(&*storage, currency).await;
                // A storage of the application stays open.
                if is_opened {
                    storage.close().await;
                }
                migrated
            }
            Err(e) => Err(e),
        };
        migrated.map_err(|e| renamed(e, &names))
    }

    /// Compares the schema of the database with this release. Opens nothing else, and changes nothing.
    ///
    /// # Errors
    /// Those of [`Self::build`] that concern the database, but none if the schema is older or newer.
    pub async fn schema_status(self) -> Result<SchemaStatus> {
        let names = self.names.clone();
        let is_opened = matches!(self.storage, Choice::Url(_));
        let status = match Box::pin(self.open_database(true)).await {
            Ok(storage) => {
                let status = storage.schema_status().await;
                if is_opened {
                    storage.close().await;
                }
                status
            }
            Err(e) => Err(e),
        };
        status.map_err(|e| renamed(e, &names))
    }

    /// Opens the database. If it is only to be looked at, a file that does not exist is not created, and a new database
    /// in memory takes its place.
    async fn open_database(self, only_looks: bool) -> Result<Arc<dyn Storage>> {
        let Self { storage, direct, database, clock, ids, place, .. } = self;
        let url = match storage {
            Choice::Part(storage) => return Ok(storage),
            Choice::Url(url) => url,
            Choice::Absent => return Err(missing(DATABASE)),
            Choice::Twice => return Err(twice(DATABASE)),
        };
        if let Some(Secret(url)) = &direct {
            check_direct(url)?;
        }
        database.check()?;
        let url = if only_looks && is_absent_file(&url)? { "sqlite::memory:".to_owned() } else { url };
        let ids = ids.unwrap_or_else(|| Arc::new(UuidV7Source::new(clock.clone())));
        open_storage(&url, direct.as_ref(), &database, &clock, &ids, place.as_ref()).await
    }

    /// Makes this the builder of one of several shops: puts its name into the URLs.
    ///
    /// # Errors
    /// `Validation` on the fields whose URLs are the same for all shops and would lead to the same data.
    pub(crate) fn place(mut self, place: Place) -> Result<Self> {
        let mut errors = ValidationErrors::default();
        if matches!(&self.storage, Choice::Url(url) if !is_apart(url) && url != "sqlite::memory:") {
            errors.out_of_bounds(DATABASE, NO_NAME);
        }
        for (field, search) in [(SEARCH, &self.search), (FALLBACK, &self.search_fallback)] {
            if matches!(search, Choice::Url(url) if !is_apart(url) && url != NO_SEARCH && url != IN_MEMORY) {
                errors.out_of_bounds(field, NO_NAME);
            }
        }
        errors.into_result()?;
        let template = match &self.storage {
            Choice::Url(url) => url.clone(),
            _ => String::new(),
        };
        let name = place.name.as_str();
        self.storage.put_in(name);
        self.search.put_in(name);
        self.search_fallback.put_in(name);
        self.cache.put_in(name);
        self.rate_limiter.put_in(name);
        self.mailer.put_in(name);
        self.mail_templates.put_in(name);
        self.media.put_in(name);
        for search in [&mut self.search, &mut self.search_fallback] {
            // The writer of an embedded index allocates its memory for as long as it writes.
            if let Choice::Url(url) = search
                && scheme(url) == "tantivy"
                && url != IN_MEMORY
                && !url.contains("writer_memory_mb=")
            {
                url.push_str(if url.contains('?') { "&" } else { "?" });
                url.push_str("writer_memory_mb=15");
            }
        }
        if cfg!(feature = "memory") && matches!(self.cache, Choice::Absent) {
            self.cache = Choice::Url(format!("memory://?memory_mib={}", place.cache_mib));
        }
        self.place = Some(Of { place, template: Secret(template) });
        Ok(self)
    }

    /// Sets the names of fields in errors.
    #[cfg(feature = "config")]
    pub(crate) fn names(mut self, names: Vec<(&'static str, &'static str)>) -> Self {
        self.names = names;
        self
    }

    /// Notes the error of a setting that could not become a part, for [`Self::build`].
    #[cfg(feature = "config")]
    pub(crate) fn refused(mut self, error: Error) -> Self {
        self.refused.push(error);
        self
    }

    async fn open(self) -> Result<Shop> {
        self.check_parts()?;
        #[cfg(feature = "config")]
        if let Some(error) = self.refused.into_iter().next_back() {
            return Err(error);
        }
        let Self { storage, direct, database, search, search_fallback, cache, rate_limiter, .. } = self;
        let Self { mailer, mail_templates, webhooks, clock, ids, secret_key, oidc, .. } = self;
        let Self { media, image_processor, media_base_url, .. } = self;
        let Self { feeds, job_queues, config, place, migrates, .. } = self;
        let ids = ids.unwrap_or_else(|| Arc::new(UuidV7Source::new(clock.clone())));
        let storage = match storage {
            Choice::Part(storage) => storage,
            Choice::Url(url) => open_storage(&url, direct.as_ref(), &database, &clock, &ids, place.as_ref()).await?,
            Choice::Absent | Choice::Twice => return Err(missing(DATABASE)),
        };
        let search = match search {
            Choice::Part(search) => search,
            Choice::Url(url) => open_search(&url).await?,
            Choice::Absent | Choice::Twice => return Err(missing(SEARCH)),
        };
        let search_fallback = match search_fallback {
            Choice::Part(search) => Some(search),
            Choice::Url(url) if url != NO_SEARCH => Some(open_search(&url).await.map_err(of_fallback)?),
            Choice::Url(_) | Choice::Absent | Choice::Twice => None,
        };
        if !migrates {
            require_migrated(&*storage).await?;
        }
        // If nothing is pending, this only reads the currency and the identity of the database.
        storage.migrate(config.currency).await?;
        // The cache is opened after the migration, because the identity of the database separates shops that share a
        // Redis server.
        let cache_url = match &cache {
            Choice::Url(url) => url.clone(),
            _ => DEFAULT_CACHE.to_owned(),
        };
        let cache = match cache {
            Choice::Part(cache) => cache,
            Choice::Url(_) | Choice::Absent | Choice::Twice => open_cache(&cache_url, &*storage).await?,
        };
        let rate_limiter = match rate_limiter {
            Choice::Part(limiter) => limiter,
            Choice::Url(url) => open_rate_limiter(check_rate_limiter(&url)?, &*storage, &clock).await?,
            Choice::Absent | Choice::Twice => {
                open_rate_limiter(LimiterPlan::beside(&check_cache(&cache_url)?), &*storage, &clock).await?
            }
        };
        let mailing = open_mailing(mailer, mail_templates)?;
        let media = open_media(media, image_processor, media_base_url)?;
        let oidc = match oidc {
            Some((config, Some(keys))) => Some(OidcIssuer { config, keys }),
            Some((config, None)) => Some(open_issuer(config)?),
            None => None,
        };
        Shop::new(ShopParts {
            storage,
            search,
            search_fallback,
            cache,
            rate_limiter,
            clock,
            ids,
            secret_key,
            mailing,
            media,
            webhooks: webhooks.open()?,
            oidc,
            feeds,
            job_queues,
            config,
        })
    }

    /// Checks the settings as far as possible without opening anything.
    #[cfg(feature = "config")]
    pub(crate) fn check(&self) -> Result<()> {
        self.check_parts().map_err(|e| renamed(e, &self.names))
    }

    fn check_parts(&self) -> Result<()> {
        let mut errors = ValidationErrors::default();
        let mut note = |result: Result<()>| match result {
            Ok(()) => Ok(()),
            Err(Error::Validation(e)) => {
                errors.0.extend(e.0);
                Ok(())
            }
            Err(e) => Err(e),
        };
        note(self.config.check())?;
        note(Feed::check_all(&self.feeds))?;
        note(JobQueue::check_all(&self.job_queues))?;
        if let Some((config, keys)) = &self.oidc {
            note(config.check())?;
            if keys.is_none() && !cfg!(feature = "oidc") {
                note(Err(not_built_in(OIDC, "the client of OpenID Connect", "oidc")))?;
            }
        }
        note(match &self.storage {
            Choice::Part(_) => Ok(()),
            Choice::Absent => Err(missing(DATABASE)),
            Choice::Twice => Err(twice(DATABASE)),
            Choice::Url(url) => check_database(url),
        })?;
        if let Some(Secret(url)) = &self.direct {
            note(check_direct(url))?;
        }
        note(self.database.check())?;
        note(match &self.search {
            Choice::Part(_) => Ok(()),
            Choice::Absent => Err(missing(SEARCH)),
            Choice::Twice => Err(twice(SEARCH)),
            Choice::Url(url) => check_search(url),
        })?;
        note(self.check_fallback())?;
        note(match &self.cache {
            Choice::Part(_) | Choice::Absent => Ok(()),
            Choice::Twice => Err(twice(CACHE)),
            Choice::Url(url) => check_cache(url).map(drop),
        })?;
        note(match &self.rate_limiter {
            Choice::Part(_) | Choice::Absent => Ok(()),
            Choice::Twice => Err(twice(RATE_LIMITER)),
            Choice::Url(url) => check_rate_limiter(url).map(drop),
        })?;
        note(match &self.mailer {
            Choice::Part(_) | Choice::Absent => Ok(()),
            Choice::Twice => Err(twice(MAILER)),
            Choice::Url(url) => check_mailer(url).map(drop),
        })?;
        note(match &self.mail_templates {
            Choice::Part(_) | Choice::Absent => Ok(()),
            Choice::Twice => Err(twice(MAIL_TEMPLATES)),
            Choice::Url(directory) => open_templates(Some(directory)).map(drop),
        })?;
        note(match &self.media {
            Choice::Part(_) | Choice::Absent => Ok(()),
            Choice::Twice => Err(twice(MEDIA)),
            Choice::Url(url) => check_media(url),
        })?;
        note(Media::check_base_url(&self.media_base_url))?;
        errors.into_result()
    }

    fn check_fallback(&self) -> Result<()> {
        let is_same = match (&self.search, &self.search_fallback) {
            (Choice::Url(main), Choice::Url(fallback)) => main == fallback && main != IN_MEMORY,
            (Choice::Part(main), Choice::Part(fallback)) => Arc::ptr_eq(main, fallback),
            _ => false,
        };
        let without_main = matches!(&self.search, Choice::Url(url) if url == NO_SEARCH);
        match &self.search_fallback {
            Choice::Absent => Ok(()),
            Choice::Url(url) if url == NO_SEARCH => Ok(()),
            Choice::Twice => Err(twice(FALLBACK)),
            _ if is_same => {
                let message = "must not be the main search index";
                Err(Error::invalid(FALLBACK, FieldCode::Inconsistent, message))
            }
            _ if without_main => {
                let message = "needs a main search index, and this shop has none: set one, or remove the fallback";
                Err(Error::invalid(FALLBACK, FieldCode::Inconsistent, message))
            }
            Choice::Part(_) => Ok(()),
            Choice::Url(url) => check_search(url).map_err(of_fallback),
        }
    }
}

/// Replaces the names of fields in a validation error.
fn renamed(error: Error, names: &[(&str, &str)]) -> Error {
    match error {
        Error::Validation(mut errors) => {
            for e in &mut errors.0 {
                if let Some((_, name)) = names.iter().find(|(field, _)| *field == e.field) {
                    (*name).clone_into(&mut e.field);
                }
            }
            Error::Validation(errors)
        }
        other => other,
    }
}

/// A URL that may hold a password.
struct Secret(String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Url({}:…)", scheme(&self.0))
    }
}

/// The URL of the cache by default.
pub(crate) const DEFAULT_CACHE: &str = if cfg!(feature = "memory") { "memory://" } else { "none" };

fn scheme(url: &str) -> &str {
    url.split_once(':').map_or("", |(scheme, _)| scheme)
}

// The methods of the builder, as errors name them. `ecom::config` replaces them by the names of its settings.
pub(crate) const DATABASE: &str = "database";
pub(crate) const SEARCH: &str = "search";
pub(crate) const FALLBACK: &str = "search_fallback";
pub(crate) const CACHE: &str = "cache";
pub(crate) const RATE_LIMITER: &str = "rate_limiter";
pub(crate) const MAILER: &str = "mailer";
pub(crate) const MAIL_TEMPLATES: &str = "mail_templates";
pub(crate) const MEDIA: &str = "media";
pub(crate) const OIDC: &str = "oidc_issuer";

/// Returns the error for an adapter that is required and was not chosen.
fn missing(method: &'static str) -> Error {
    let none = if method == SEARCH { "; `search(\"none\")` makes a shop without search" } else { "" };
    let message = format!("is required: call `{method}` with a URL, or `{}`{none}", part(method));
    Error::invalid(method, FieldCode::Required, message)
}

/// Returns the error for two adapters of one kind.
fn twice(method: &'static str) -> Error {
    let message = format!("must be set only once: call either `{method}` or `{}`, once", part(method));
    Error::invalid(method, FieldCode::Inconsistent, message)
}

/// Returns the method that sets an adapter in place of a URL.
fn part(method: &'static str) -> &'static str {
    match method {
        DATABASE => "with_storage",
        SEARCH => "with_search",
        FALLBACK => "with_search_fallback",
        RATE_LIMITER => "with_rate_limiter",
        MAILER => "with_mailer",
        MAIL_TEMPLATES => "with_mail_templates",
        MEDIA => "with_media_store",
        _ => "with_cache",
    }
}

/// Returns the error for a URL whose adapter is not compiled in.
fn not_built_in(field: &'static str, what: &str, feature: &str) -> Error {
    let message =
        format!("needs {what}, which is not compiled into this program: turn on the feature `{feature}` of `ecom`");
    Error::invalid(field, FieldCode::OutOfBounds, message)
}

fn check_database(url: &str) -> Result<()> {
    const FIELD: &str = DATABASE;
    match scheme(url) {
        "sqlite" if !cfg!(feature = "sqlite") => Err(not_built_in(FIELD, "SQLite", "sqlite")),
        "postgres" | "postgresql" if !cfg!(feature = "postgres") => Err(not_built_in(FIELD, "PostgreSQL", "postgres")),
        "mysql" | "mariadb" if !cfg!(feature = "mysql") => Err(not_built_in(FIELD, "MySQL", "mysql")),
        #[cfg(feature = "sqlite")]
        "sqlite" => ecom_storage::SqliteOptions::from_url(url).map(drop),
        #[cfg(any(feature = "postgres", feature = "mysql"))]
        "postgres" | "postgresql" | "mysql" | "mariadb" => ecom_storage::ServerOptions::from_url(url).map(drop),
        _ => Err(Error::invalid(
            FIELD,
            FieldCode::OutOfBounds,
            "must start with `sqlite://`, `postgres://` or `mysql://`, or be `sqlite::memory:`",
        )),
    }
}

/// Checks the URL that bypasses a pooler.
fn check_direct(url: &str) -> Result<()> {
    match check_database(url) {
        Err(Error::Validation(mut errors)) => {
            for e in &mut errors.0 {
                "database_direct".clone_into(&mut e.field);
            }
            Err(Error::Validation(errors))
        }
        checked => checked,
    }
}

/// Returns the error for a database whose directory cannot be created.
#[cfg(feature = "sqlite")]
fn no_directory(e: &std::io::Error) -> Error {
    let message = format!(
        "is in a directory that cannot be created ({}): its path must not lead through a file, and this process needs \
         the permission to create it",
        e.kind()
    );
    Error::invalid(DATABASE, FieldCode::OutOfBounds, message)
}

/// Creates a directory and its missing parents. On Unix, only their owner can enter them. A directory that exists keeps
/// its mode.
#[cfg(feature = "sqlite")]
fn create_private(directory: &std::path::Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory)
}

/// Opens the database of a URL, and creates it if it is that of a new shop among several.
#[cfg_attr(
    not(any(feature = "postgres", feature = "mysql")),
    expect(clippy::unused_async, reason = "the same call in every build")
)]
async fn open_storage(
    url: &str,
    direct: Option<&Secret>,
    database: &DatabaseSettings,
    clock: &SharedClock,
    ids: &Arc<dyn IdSource>,
    of: Option<&Of>,
) -> Result<Arc<dyn Storage>> {
    check_database(url)?;
    #[cfg(feature = "sqlite")]
    if scheme(url) == "sqlite" {
        let mut options = ecom_storage::SqliteOptions::from_url(url)?;
        options.clock = clock.clone();
        options.ids = ids.clone();
        options.acquire_timeout = database.acquire_timeout;
        options.statement_timeout = database.statement_timeout;
        if of.is_some() {
            options.readers = 1;
        }
        if of.is_some_and(|of| !of.place.create) && options.path().is_some_and(|path| !path.is_file()) {
            let message = "names a file that does not exist: create the shop first";
            return Err(Error::invalid(DATABASE, FieldCode::OutOfBounds, message));
        }
        if let Some(directory) = options.path().and_then(std::path::Path::parent) {
            create_private(directory).map_err(|e| no_directory(&e))?;
        }
        return Ok(Arc::new(ecom_storage::SqlStorage::sqlite(options)?));
    }
    // The direct URL applies to servers only.
    let _ = (direct, database, of);
    #[cfg(any(feature = "postgres", feature = "mysql"))]
    {
        let mut options = ecom_storage::ServerOptions::from_url(url)?;
        options.clock = clock.clone();
        options.ids = ids.clone();
        options.max_connections = database.max_connections;
        options.acquire_timeout = database.acquire_timeout;
        options.statement_timeout = database.statement_timeout;
        options.max_lifetime = database.max_lifetime;
        if let Some(Secret(url)) = direct {
            options = options.with_direct_url(url)?;
        }
        let Some(Of { place, template: Secret(template) }) = of else {
            return Ok(Arc::new(ecom_storage::SqlStorage::server(options)?));
        };
        let pool = place.servers.pool(template, || ecom_storage::ServerPool::new(options.clone()))?;
        options.max_connections = place.connections.unwrap_or(database.max_connections.div_ceil(2));
        let storage = ecom_storage::SqlStorage::server_on(&pool, options)?;
        if place.create {
            storage.create_schema().await?;
        }
        Ok(Arc::new(storage))
    }
    #[cfg(not(any(feature = "postgres", feature = "mysql")))]
    {
        // `check_database` has refused every other URL.
        let _ = (clock, ids);
        Err(missing(DATABASE))
    }
}

/// Returns true if a URL names a file that does not exist.
fn is_absent_file(url: &str) -> Result<bool> {
    #[cfg(feature = "sqlite")]
    if scheme(url) == "sqlite" {
        let options = ecom_storage::SqliteOptions::from_url(url)?;
        return Ok(options.path().is_some_and(|path| !path.exists()));
    }
    check_database(url)?;
    Ok(false)
}

/// Migrates a database, and returns the status of its schema before.
async fn migrated(storage: &dyn Storage, currency: Currency) -> Result<SchemaStatus> {
    let before = storage.schema_status().await?;
    storage.migrate(currency).await?;
    Ok(before)
}

/// Refuses a database whose schema lacks migrations of this release.
///
/// # Errors
/// `Validation` on the database.
async fn require_migrated(storage: &dyn Storage) -> Result<()> {
    let pending = storage.schema_status().await?.pending;
    let (Some(first), Some(last)) = (pending.first(), pending.last()) else { return Ok(()) };
    let message = format!(
        "names a database whose schema lacks migrations of this release ({} of them, {first} to {last}): run `server \
         migrate` first, or, in an application, call `ShopBuilder::migrate`",
        pending.len()
    );
    Err(Error::invalid(DATABASE, FieldCode::OutOfBounds, message))
}

/// Returns an issuer whose keys are fetched over HTTP.
fn open_issuer(config: OidcConfig) -> Result<OidcIssuer> {
    #[cfg(feature = "oidc")]
    {
        let keys = Arc::new(ecom_http::HttpKeySet::new(&config)?);
        Ok(OidcIssuer { config, keys })
    }
    #[cfg(not(feature = "oidc"))]
    {
        drop(config);
        Err(not_built_in(OIDC, "the client of OpenID Connect", "oidc"))
    }
}

fn check_search(url: &str) -> Result<()> {
    const FIELD: &str = SEARCH;
    match scheme(url) {
        _ if url == NO_SEARCH => Ok(()),
        "tantivy" if !cfg!(feature = "tantivy") => Err(not_built_in(FIELD, "Tantivy", "tantivy")),
        #[cfg(feature = "tantivy")]
        "tantivy" => ecom_search::TantivyOptions::from_url(url).map(drop),
        s if is_search_server(s) && !cfg!(feature = "elasticsearch") => {
            Err(not_built_in(FIELD, "the client of Elasticsearch and OpenSearch", "elasticsearch"))
        }
        #[cfg(feature = "elasticsearch")]
        s if is_search_server(s) => ecom_search::ElasticsearchOptions::from_url(url).map(drop),
        "meilisearch+http" | "meilisearch+https" if !cfg!(feature = "meilisearch") => {
            Err(not_built_in(FIELD, "the client of Meilisearch", "meilisearch"))
        }
        #[cfg(feature = "meilisearch")]
        "meilisearch+http" | "meilisearch+https" => ecom_search::MeilisearchOptions::from_url(url).map(drop),
        _ => Err(Error::invalid(
            FIELD,
            FieldCode::OutOfBounds,
            "must start with `tantivy://`, `elasticsearch+http://`, `elasticsearch+https://`, `opensearch+http://`, \
             `opensearch+https://`, `meilisearch+http://` or `meilisearch+https://`, or be `tantivy::memory:` or `none`",
        )),
    }
}

/// The message about a URL that several shops would share.
const NO_NAME: &str = "must contain `{shop}`, which is replaced by the name of each shop, in the parameter `schema` of \
                       PostgreSQL, in the database of MySQL, in the path of SQLite or Tantivy, or in the parameter \
                       `index` of a search server, and in no other part";

/// Returns true if the URL leads to other data for each shop. Nothing else of a database server may differ, because its
/// shops share connections.
fn is_apart(url: &str) -> bool {
    let (head, query) = url.split_once('?').unwrap_or((url, ""));
    let is_in = |parameter: &str| query.split('&').any(|p| p.starts_with(parameter) && p.contains(SHOP));
    match scheme(url) {
        "postgres" | "postgresql" => {
            !head.contains(SHOP)
                && is_in("schema=")
                && query.split('&').all(|p| p.starts_with("schema=") || !p.contains(SHOP))
        }
        "mysql" | "mariadb" => {
            let (server, database) = head.rsplit_once('/').unwrap_or((head, ""));
            database.contains(SHOP) && !server.contains(SHOP) && !query.contains(SHOP)
        }
        "sqlite" | "tantivy" => head.contains(SHOP),
        _ => is_in("index="),
    }
}
/// The URL of a shop without search.
const NO_SEARCH: &str = "none";
/// The URL of an index of which each opening makes a new one.
const IN_MEMORY: &str = "tantivy::memory:";

/// Returns the error of a search index as that of the fallback.
fn of_fallback(error: Error) -> Error {
    renamed(error, &[(SEARCH, FALLBACK)])
}

fn is_search_server(scheme: &str) -> bool {
    matches!(scheme, "elasticsearch+http" | "elasticsearch+https" | "opensearch+http" | "opensearch+https")
}

#[cfg_attr(not(feature = "tantivy"), expect(clippy::unused_async, reason = "the same call in every build"))]
async fn open_search(url: &str) -> Result<Arc<dyn SearchProvider>> {
    check_search(url)?;
    match scheme(url) {
        #[cfg(feature = "tantivy")]
        "tantivy" => {
            let options = ecom_search::TantivyOptions::from_url(url)?;
            Ok(Arc::new(ecom_search::TantivySearch::open(options).await?))
        }
        #[cfg(feature = "elasticsearch")]
        s if is_search_server(s) => {
            let options = ecom_search::ElasticsearchOptions::from_url(url)?;
            Ok(Arc::new(ecom_search::ElasticsearchSearch::open(options)?))
        }
        #[cfg(feature = "meilisearch")]
        "meilisearch+http" | "meilisearch+https" => {
            let options = ecom_search::MeilisearchOptions::from_url(url)?;
            Ok(Arc::new(ecom_search::MeilisearchSearch::open(options)?))
        }
        // `check_search` has refused every other URL.
        _ => Ok(Arc::new(NoSearch)),
    }
}

/// The cache that a URL selects.
#[derive(Debug)]
enum CachePlan {
    None,
    #[cfg(feature = "memory")]
    Memory(ecom_storage::cache::MemoryCacheOptions),
    #[cfg(feature = "redis")]
    Redis(Box<ecom_storage::cache::RedisOptions>),
    #[cfg(all(feature = "memory", feature = "redis"))]
    Tiered(Box<ecom_storage::cache::TieredOptions>),
}

fn check_cache(url: &str) -> Result<CachePlan> {
    const FIELD: &str = CACHE;
    match scheme(url) {
        _ if url == "none" => Ok(CachePlan::None),
        "memory" if !cfg!(feature = "memory") => Err(not_built_in(FIELD, "the in-process cache", "memory")),
        "redis" | "rediss" | "tiered+redis" | "tiered+rediss" if !cfg!(feature = "redis") => {
            Err(not_built_in(FIELD, "Redis", "redis"))
        }
        "tiered+redis" | "tiered+rediss" if !cfg!(feature = "memory") => {
            Err(not_built_in(FIELD, "the in-process cache", "memory"))
        }
        #[cfg(feature = "memory")]
        "memory" => {
            let mut options = ecom_storage::cache::MemoryCacheOptions::default();
            if !matches!(url, "memory:" | "memory://") {
                let size = url.strip_prefix("memory://?memory_mib=").and_then(|n| n.parse::<u64>().ok());
                let size = size.filter(|mib| (1..=1_048_576).contains(mib)).ok_or_else(|| {
                    let message = "must be `memory://`, or `memory://?memory_mib=` and a number from 1 to 1048576";
                    Error::invalid(FIELD, FieldCode::Malformed, message)
                })?;
                options.max_bytes = size << 20;
            }
            Ok(CachePlan::Memory(options))
        }
        #[cfg(feature = "redis")]
        "redis" | "rediss" => ecom_storage::cache::RedisOptions::from_url(url).map(|o| CachePlan::Redis(Box::new(o))),
        #[cfg(all(feature = "memory", feature = "redis"))]
        "tiered+redis" | "tiered+rediss" => {
            ecom_storage::cache::TieredOptions::from_url(url).map(|o| CachePlan::Tiered(Box::new(o)))
        }
        _ => Err(Error::invalid(
            FIELD,
            FieldCode::OutOfBounds,
            "must be `memory://` or `none`, or start with `redis://`, `rediss://`, `tiered+redis://` or \
             `tiered+rediss://`",
        )),
    }
}

/// Opens a cache for the rows of a storage.
#[cfg_attr(not(feature = "redis"), expect(clippy::unused_async, reason = "the same call in every build"))]
async fn open_cache(url: &str, storage: &dyn Storage) -> Result<Arc<dyn Cache>> {
    #[cfg(not(feature = "redis"))]
    let _ = storage;
    Ok(match check_cache(url)? {
        CachePlan::None => Arc::new(NoCache),
        #[cfg(feature = "memory")]
        CachePlan::Memory(options) => Arc::new(ecom_storage::cache::MemoryCache::new(options)),
        #[cfg(feature = "redis")]
        CachePlan::Redis(mut options) => {
            options.namespace = storage.identity().await?.simple().to_string();
            Arc::new(ecom_storage::cache::RedisCache::open(*options).await?)
        }
        #[cfg(all(feature = "memory", feature = "redis"))]
        CachePlan::Tiered(mut options) => {
            options.redis.namespace = storage.identity().await?.simple().to_string();
            Arc::new(ecom_storage::cache::TieredCache::open(*options).await?)
        }
    })
}

/// The mailer that a URL selects.
enum MailerPlan {
    None,
    #[cfg(feature = "mail")]
    Log,
    #[cfg(feature = "mail")]
    File(std::path::PathBuf),
    #[cfg(feature = "smtp")]
    Smtp(Box<ecom_mail::SmtpOptions>),
}

fn check_mailer(url: &str) -> Result<MailerPlan> {
    const FIELD: &str = MAILER;
    match scheme(url) {
        _ if url == "none" => Ok(MailerPlan::None),
        "log" | "file" if !cfg!(feature = "mail") => Err(not_built_in(FIELD, "the mailers of files and logs", "mail")),
        "smtp" | "smtps" if !cfg!(feature = "smtp") => Err(not_built_in(FIELD, "the client of mail servers", "smtp")),
        #[cfg(feature = "mail")]
        "log" if matches!(url, "log:" | "log://") => Ok(MailerPlan::Log),
        #[cfg(feature = "mail")]
        "file" => ecom_mail::FileMailer::directory_of(url).map(MailerPlan::File),
        #[cfg(feature = "smtp")]
        "smtp" | "smtps" => ecom_mail::SmtpOptions::from_url(url).map(|options| MailerPlan::Smtp(Box::new(options))),
        _ => Err(Error::invalid(
            FIELD,
            FieldCode::OutOfBounds,
            "must be `log:` or `none`, or start with `file://`, `smtp://` or `smtps://`",
        )),
    }
}

/// Opens the mailer and the templates of a shop. Without a mailer, no templates are used.
fn open_mailing(mailer: Choice<dyn Mailer>, templates: Choice<dyn MailTemplates>) -> Result<Option<Mailing>> {
    let mailer: Arc<dyn Mailer> = match mailer {
        Choice::Part(mailer) => mailer,
        Choice::Absent | Choice::Twice => return Ok(None),
        Choice::Url(url) => match check_mailer(&url)? {
            MailerPlan::None => return Ok(None),
            #[cfg(feature = "mail")]
            MailerPlan::Log => Arc::new(ecom_mail::LogMailer),
            #[cfg(feature = "mail")]
            MailerPlan::File(directory) => Arc::new(ecom_mail::FileMailer::open(directory)?),
            #[cfg(feature = "smtp")]
            MailerPlan::Smtp(options) => Arc::new(ecom_mail::SmtpMailer::open(*options)?),
        },
    };
    let templates = match templates {
        Choice::Part(templates) => templates,
        Choice::Url(directory) => open_templates(Some(&directory))?,
        Choice::Absent | Choice::Twice => open_templates(None)?,
    };
    Ok(Some(Mailing { mailer, templates }))
}

/// Opens the templates of the library, with those of a directory.
#[cfg(feature = "mail")]
fn open_templates(directory: Option<&str>) -> Result<Arc<dyn MailTemplates>> {
    Ok(Arc::new(match directory {
        Some(directory) => ecom_mail::Templates::from_directory(directory.as_ref())?,
        None => ecom_mail::Templates::own()?,
    }))
}

#[cfg(not(feature = "mail"))]
fn open_templates(_: Option<&str>) -> Result<Arc<dyn MailTemplates>> {
    Err(not_built_in(MAIL_TEMPLATES, "the language of templates", "mail"))
}

fn check_media(url: &str) -> Result<()> {
    match scheme(url) {
        _ if url == "none" => Ok(()),
        "file" if !cfg!(feature = "media") => Err(not_built_in(MEDIA, "the store of images", "media")),
        "s3" if !cfg!(feature = "media-s3") => Err(not_built_in(MEDIA, "the client of S3", "media-s3")),
        #[cfg(feature = "media")]
        "file" | "s3" => ecom_media::ObjectMediaStore::check(url),
        _ => Err(Error::invalid(MEDIA, FieldCode::OutOfBounds, "must be `none`, or start with `file://` or `s3://`")),
    }
}

/// Opens the store of images of a shop. Without a store, no processor is used.
fn open_media(
    store: Choice<dyn MediaStore>,
    processor: Option<Arc<dyn ImageProcessor>>,
    base_url: String,
) -> Result<Option<Media>> {
    let store = match store {
        Choice::Part(store) => store,
        Choice::Absent | Choice::Twice => return Ok(None),
        Choice::Url(url) if url == "none" => return Ok(None),
        Choice::Url(url) => open_media_store(&url)?,
    };
    let processor = match processor {
        Some(processor) => processor,
        None => own_processor()?,
    };
    Ok(Some(Media { store, processor, base_url }))
}

#[cfg(feature = "media")]
fn open_media_store(url: &str) -> Result<Arc<dyn MediaStore>> {
    check_media(url)?;
    Ok(Arc::new(ecom_media::ObjectMediaStore::open(url)?))
}

#[cfg(not(feature = "media"))]
fn open_media_store(url: &str) -> Result<Arc<dyn MediaStore>> {
    check_media(url)?;
    Err(not_built_in(MEDIA, "the store of images", "media"))
}

#[cfg(feature = "media")]
fn own_processor() -> Result<Arc<dyn ImageProcessor>> {
    Ok(Arc::new(ecom_media::Images::new(ecom_media::ImageOptions::default())?))
}

#[cfg(not(feature = "media"))]
fn own_processor() -> Result<Arc<dyn ImageProcessor>> {
    Err(not_built_in(MEDIA, "the processor of images", "media"))
}

/// The rate limiter that a URL selects.
enum LimiterPlan {
    None,
    #[cfg(feature = "memory")]
    Memory,
    #[cfg(feature = "redis")]
    Redis(Box<ecom_storage::cache::RedisOptions>),
}

impl LimiterPlan {
    const DEFAULT: Self = {
        #[cfg(feature = "memory")]
        {
            Self::Memory
        }
        #[cfg(not(feature = "memory"))]
        {
            Self::None
        }
    };

    /// Returns the rate limiter of a shop with this cache by default.
    fn beside(cache: &CachePlan) -> Self {
        match cache {
            #[cfg(feature = "redis")]
            CachePlan::Redis(options) => Self::Redis(options.clone()),
            #[cfg(all(feature = "memory", feature = "redis"))]
            CachePlan::Tiered(options) => Self::Redis(Box::new(options.redis.clone())),
            _ => Self::DEFAULT,
        }
    }
}

fn check_rate_limiter(url: &str) -> Result<LimiterPlan> {
    const FIELD: &str = RATE_LIMITER;
    match scheme(url) {
        _ if url == "none" => Ok(LimiterPlan::None),
        "memory" if !cfg!(feature = "memory") => Err(not_built_in(FIELD, "the in-process rate limiter", "memory")),
        "redis" | "rediss" if !cfg!(feature = "redis") => Err(not_built_in(FIELD, "Redis", "redis")),
        #[cfg(feature = "memory")]
        "memory" if url == "memory://" => Ok(LimiterPlan::Memory),
        #[cfg(feature = "redis")]
        "redis" | "rediss" => {
            let options =
                ecom_storage::cache::RedisOptions::from_url(url).map_err(|e| renamed(e, &[(CACHE, FIELD)]))?;
            Ok(LimiterPlan::Redis(Box::new(options)))
        }
        _ => Err(Error::invalid(
            FIELD,
            FieldCode::OutOfBounds,
            "must be `memory://` or `none`, or start with `redis://` or `rediss://`",
        )),
    }
}

/// Opens the rate limiter of the shop whose rows are in a storage.
#[cfg_attr(not(feature = "redis"), expect(clippy::unused_async, reason = "the same call in every build"))]
async fn open_rate_limiter(
    plan: LimiterPlan,
    storage: &dyn Storage,
    clock: &SharedClock,
) -> Result<Arc<dyn RateLimiter>> {
    let _ = (storage, clock);
    Ok(match plan {
        LimiterPlan::None => Arc::new(NoRateLimiter),
        #[cfg(feature = "memory")]
        LimiterPlan::Memory => {
            use ecom_storage::limiter::{DEFAULT_KEYS, MemoryLimiter};
            Arc::new(MemoryLimiter::new(DEFAULT_KEYS, clock.clone()))
        }
        #[cfg(feature = "redis")]
        LimiterPlan::Redis(mut options) => {
            options.namespace = storage.identity().await?.simple().to_string();
            Arc::new(ecom_storage::limiter::RedisLimiter::open(*options).await?)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(error: &Error) -> Vec<&str> {
        match error {
            Error::Validation(e) => e.0.iter().map(|f| f.field.as_str()).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn r17_every_invalid_setting_is_named_before_anything_is_opened() {
        let config = ShopConfig::default().index_batch(0);
        let builder = ShopBuilder::new().database("oracle://x").search("lucene://x").cache("disk://x").config(config);
        let error = builder.build().await.unwrap_err();
        assert_eq!(fields(&error), ["index_batch", "database", "search", "cache"]);
        assert_eq!(fields(&ShopBuilder::new().build().await.unwrap_err()), ["database", "search"]);
    }

    #[tokio::test]
    async fn two_adapters_of_one_kind_are_refused() {
        let twice = ShopBuilder::new().database("sqlite::memory:").database("sqlite::memory:");
        let twice = twice.search("none").with_search(Arc::new(NoSearch)).cache("none").with_cache(Arc::new(NoCache));
        let error = twice.build().await.unwrap_err();
        assert_eq!(fields(&error), ["database", "search", "cache"]);
        assert!(error.to_string().contains("either `search` or `with_search`"), "{error}");
    }

    #[tokio::test]
    async fn r17_a_fallback_is_another_index_than_the_main_one() {
        let with = |main: &str, fallback: &str| ShopBuilder::new().database("x").search(main).search_fallback(fallback);
        for builder in [
            with("lucene://x", "lucene://y"),
            with("none", "tantivy::memory:"),
            with("tantivy://data/index", "tantivy://data/index"),
            with("tantivy://data/index", "tantivy::memory:").search_fallback("tantivy::memory:"),
            with("tantivy://data/index", "tantivy://"),
        ] {
            let error = builder.check_parts().unwrap_err();
            assert!(fields(&error).contains(&"search_fallback"), "{error}");
        }
        let none: Arc<dyn SearchProvider> = Arc::new(NoSearch);
        let same = ShopBuilder::new().with_search(none.clone()).with_search_fallback(none);
        assert_eq!(fields(&same.check_parts().unwrap_err()), ["database", "search_fallback"]);
        let absent = ShopBuilder::new().search("none").search_fallback("none");
        assert_eq!(fields(&absent.check_parts().unwrap_err()), ["database"]);
    }

    #[cfg(all(feature = "sqlite", feature = "tantivy"))]
    #[tokio::test]
    async fn a_shop_keeps_a_fallback_beside_its_index() {
        let builder = ShopBuilder::new().database("sqlite::memory:").search("tantivy::memory:");
        let shop = builder.search_fallback("tantivy::memory:").build().await.unwrap();
        let health = shop.health(Duration::from_secs(5)).await;
        let found: Vec<_> = health.dependencies.iter().map(|d| (d.dependency, d.name, d.up)).collect();
        assert!(found.contains(&(ecom_core::Dependency::SearchFallback, "tantivy", true)), "{found:?}");
        shop.close().await;
    }

    #[cfg(feature = "sqlite")]
    #[tokio::test]
    async fn a_shop_without_search_works_and_refuses_searches() {
        let shop = ShopBuilder::new().database("sqlite::memory:").search("none").build().await.unwrap();
        let error = shop.search().search(&ecom_core::search::SearchQuery::default()).await.unwrap_err();
        assert_eq!(error.code(), ecom_core::ErrorCode::Unsupported);
        let background = shop.start();
        assert!(shop.health(Duration::from_secs(5)).await.is_whole());
        background.shutdown().await;
        shop.close().await;
    }

    #[tokio::test]
    async fn r16_no_message_and_no_debug_text_shows_a_url() {
        for (database, search, cache) in [
            ("oracle://u:hunter2@h/x", "elasticsearch+https://u:hunter2@h", "redis://u:hunter2@h"),
            ("postgres://u:hunter2@h:port/x", "hunter2", "hunter2"),
            ("mysql://u:hunter2@h:port/x", "meilisearch+http://hunter2@h", "memory://hunter2"),
            ("hunter2", "tantivy:hunter2", "tiered+redis://:hunter2@h"),
        ] {
            let builder = ShopBuilder::new().database(database).search(search).cache(cache);
            let shown = format!("{builder:?}");
            let error = builder.build().await.unwrap_err();
            assert!(!format!("{shown} {error} {error:?}").contains("hunter2"), "{error:?}");
            let mut source = std::error::Error::source(&error);
            while let Some(e) = source {
                assert!(!format!("{e} {e:?}").contains("hunter2"), "{e:?}");
                source = e.source();
            }
        }
    }

    #[tokio::test]
    async fn a_url_whose_feature_is_not_built_in_names_the_feature() {
        for (built_in, url, feature) in [
            (cfg!(feature = "sqlite"), "sqlite::memory:", "sqlite"),
            (cfg!(feature = "postgres"), "postgres://localhost/shop", "postgres"),
            (cfg!(feature = "mysql"), "mysql://localhost/shop", "mysql"),
        ] {
            if !built_in {
                let error = check_database(url).unwrap_err().to_string();
                assert!(error.contains(&format!("turn on the feature `{feature}`")), "{error}");
            }
        }
        let needs = [
            ("memory://", &["memory"][..]),
            ("redis://localhost", &["redis"]),
            ("rediss://localhost", &["redis"]),
            ("tiered+redis://localhost", &["redis", "memory"]),
            ("tiered+rediss://localhost", &["redis", "memory"]),
        ];
        let built_in =
            |f: &str| [("redis", cfg!(feature = "redis")), ("memory", cfg!(feature = "memory"))].contains(&(f, true));
        for (url, features) in needs {
            match (check_cache(url), features.iter().find(|f| !built_in(f))) {
                (Ok(_), None) => {}
                (Err(error), Some(feature)) => {
                    assert!(error.to_string().contains(&format!("turn on the feature `{feature}`")), "{error}");
                }
                (answer, _) => panic!("{url}: {answer:?}"),
            }
        }
        for (built_in, url, feature) in [
            (cfg!(feature = "tantivy"), "tantivy::memory:", "tantivy"),
            (cfg!(feature = "elasticsearch"), "elasticsearch+http://localhost", "elasticsearch"),
            (cfg!(feature = "elasticsearch"), "opensearch+https://localhost", "elasticsearch"),
            (cfg!(feature = "meilisearch"), "meilisearch+http://localhost", "meilisearch"),
        ] {
            match check_search(url) {
                Ok(()) => assert!(built_in, "{url}"),
                Err(error) => {
                    assert!(error.to_string().contains(&format!("turn on the feature `{feature}`")), "{error}");
                }
            }
        }
    }

    #[test]
    fn a_mailer_whose_feature_is_not_built_in_names_the_feature() {
        for (built_in, url, feature) in [
            (cfg!(feature = "mail"), "log:", "mail"),
            (cfg!(feature = "mail"), "file:///var/mail/shop", "mail"),
            (cfg!(feature = "smtp"), "smtp://u:hunter2@mail.example.com", "smtp"),
            (cfg!(feature = "smtp"), "smtps://u:hunter2@mail.example.com", "smtp"),
        ] {
            match check_mailer(url) {
                Ok(_) => assert!(built_in, "{url}"),
                Err(error) => {
                    assert!(error.to_string().contains(&format!("turn on the feature `{feature}`")), "{error}");
                    assert!(!built_in && !error.to_string().contains("hunter2"), "{error}");
                }
            }
        }
        assert!(matches!(check_mailer("none"), Ok(MailerPlan::None)));
        for bad in ["", "log:x", "file:", "mailto:a@example.com", "smtp:/hunter2", "hunter2"] {
            let Err(error) = check_mailer(bad) else { panic!("{bad} must be refused") };
            assert!(fields(&error) == ["mailer"] && !error.to_string().contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn a_store_of_images_whose_feature_is_not_built_in_names_the_feature() {
        for (built_in, url, feature) in [
            (cfg!(feature = "media"), "file:///var/lib/shop/media", "media"),
            (cfg!(feature = "media-s3"), "s3://id:hunter2@bucket/shop", "media-s3"),
        ] {
            match check_media(url) {
                Ok(()) => assert!(built_in, "{url}"),
                Err(error) => {
                    assert!(error.to_string().contains(&format!("turn on the feature `{feature}`")), "{error}");
                    assert!(!built_in && !error.to_string().contains("hunter2"), "{error}");
                }
            }
        }
        check_media("none").unwrap();
        for bad in ["", "hunter2", "ftp://hunter2", "file"] {
            let error = check_media(bad).unwrap_err();
            assert!(fields(&error) == ["media"] && !error.to_string().contains("hunter2"), "{bad}: {error}");
        }
        let builder = ShopBuilder::new().database("x").search("none").media("x").media_base_url("media/");
        assert_eq!(fields(&builder.check_parts().unwrap_err()), ["database", "media", "media_base_url"]);
    }

    #[cfg(all(feature = "sqlite", feature = "mail"))]
    #[tokio::test]
    async fn r17_bad_settings_of_mails_are_named_before_anything_is_opened() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("verify_email.txt"), "{{ unknown }}").unwrap();
        let templates = dir.path().display().to_string();
        let builder = || ShopBuilder::new().database("sqlite::memory:").search("none").mailer("log:");
        let config = ShopConfig::default().public_url("shop.example").shop_name("");
        let error = builder().mailer("none").mail_templates(&templates).config(config).build().await.unwrap_err();
        assert_eq!(fields(&error), ["shop_name", "public_url", "mailer", "mail_templates"]);
        assert!(!error.to_string().contains(&templates), "{error}");
        for bad in ["https://shop.example/", "ftp://shop.example", "https://u:p@shop.example", "https://a.example/?x=y"]
        {
            let config = ShopConfig::default().public_url(bad);
            assert_eq!(fields(&builder().config(config).build().await.unwrap_err()), ["public_url"], "{bad}");
        }
        let good = ShopConfig::default().public_url("https://shop.example/de");
        builder().config(good).build().await.unwrap().close().await;
    }

    #[cfg(all(feature = "sqlite", feature = "tantivy"))]
    #[tokio::test]
    async fn a_shop_on_disk_makes_its_directories_and_opens_again() {
        let dir = tempfile::tempdir().unwrap();
        let at = |what: &str| format!("{}/new/deep/{what}", dir.path().display());
        for _ in 0..2 {
            let shop = ShopBuilder::new()
                .database(format!("sqlite://{}", at("shop.db")))
                .search(format!("tantivy://{}", at("index")))
                .build()
                .await
                .unwrap();
            assert!(shop.health(Duration::from_secs(5)).await.is_whole());
            shop.close().await;
        }
        assert!(dir.path().join("new/deep/shop.db").is_file());
    }

    #[cfg(all(feature = "sqlite", feature = "tantivy"))]
    #[tokio::test]
    async fn a_shop_in_another_currency_than_its_database_is_refused() {
        use ecom_core::money::Currency;

        let dir = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", dir.path().join("shop.db").display());
        let shop = |currency| {
            let config = ShopConfig::default().currency(currency);
            ShopBuilder::new().database(&url).search("tantivy::memory:").config(config)
        };
        shop(Currency::USD).build().await.unwrap();
        let error = shop(Currency::JPY).build().await.unwrap_err();
        assert_eq!(error.code(), ecom_core::ErrorCode::CurrencyMismatch);
        let message = error.to_string();
        assert!(message.contains("sells in JPY") && message.contains("created for USD"), "{message}");
        assert!(message.contains("configure the shop for USD, or use another database"), "{message}");
        let again = shop(Currency::USD).build().await.unwrap();

        // A shop from parts compares the currencies and requires a migrated storage.
        let search = || async { open_search("tantivy::memory:").await.unwrap() };
        let mut parts = ShopParts::new(again.storage().clone(), search().await);
        parts.config.currency = Currency::JPY;
        assert_eq!(Shop::new(parts).unwrap_err().code(), ecom_core::ErrorCode::CurrencyMismatch);
        let storage = ecom_storage::SqlStorage::open(&url).unwrap();
        let error = Shop::new(ShopParts::new(Arc::new(storage), search().await)).unwrap_err();
        assert!(error.to_string().contains("migrate"), "{error}");
    }

    #[cfg(feature = "sqlite")]
    #[tokio::test]
    async fn a_schema_is_migrated_apart_from_the_shop() {
        let storage: Arc<dyn Storage> = Arc::new(ecom_storage::SqlStorage::open("sqlite::memory:").unwrap());
        let builder = || ShopBuilder::new().with_storage(storage.clone()).search("none").migrates(false);
        let error = builder().build().await.unwrap_err();
        assert!(error.to_string().contains("lacks migrations of this release"), "{error}");
        let pending = builder().schema_status().await.unwrap().pending;
        assert!(!pending.is_empty());
        assert_eq!(builder().migrate().await.unwrap().pending, pending);
        assert!(builder().schema_status().await.unwrap().is_ready());
        builder().build().await.unwrap();
    }

    #[cfg(all(feature = "sqlite", feature = "tantivy"))]
    #[tokio::test]
    async fn r16_a_file_or_directory_that_cannot_be_used_is_named_by_its_method() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, bytes: &[u8]| {
            let path = dir.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            path.display().to_string()
        };
        let noise: Vec<u8> = (0..20_000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect();
        let (random, text) = (file("random.db", &noise), file("hunter2", b"hello"));
        let damaged = dir.path().join("damaged.db").display().to_string();
        let at = |path: &str| ShopBuilder::new().database(format!("sqlite://{path}")).search("none");
        at(&damaged).build().await.unwrap().close().await;
        // The last connection moves the log into the file when it closes.
        while std::fs::exists(format!("{damaged}-wal")).unwrap() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let mut bytes = std::fs::read(&damaged).unwrap();
        // The header stays valid, and every page after it is noise.
        bytes.truncate(100);
        bytes.extend(noise);
        std::fs::write(&damaged, bytes).unwrap();
        let directory = dir.path().display().to_string();
        for (path, advice) in [
            (random, "is not an SQLite database: name another file"),
            (damaged, "is damaged: restore it from a backup"),
            (directory, "must not be a directory"),
            (format!("{text}/shop.db"), "must not lead through a file"),
        ] {
            let error = at(&path).build().await.expect_err(advice);
            assert_eq!(fields(&error), ["database"], "{advice}: {error}");
            let message = error.to_string();
            assert!(message.contains(advice) && !message.contains("hunter2"), "{message}");
            assert!(!message.contains("try again"), "{message}");
        }
        let builder = ShopBuilder::new().database("sqlite::memory:").search(format!("tantivy://{text}/index"));
        let error = builder.build().await.unwrap_err();
        assert_eq!(fields(&error), ["search"], "{error}");
        assert!(error.to_string().contains("must not be a file") && !error.to_string().contains("hunter2"), "{error}");
    }

    #[test]
    fn rate_limiter_urls() {
        assert!(matches!(check_rate_limiter("none").unwrap(), LimiterPlan::None));
        #[cfg(feature = "memory")]
        assert!(matches!(check_rate_limiter("memory://").unwrap(), LimiterPlan::Memory));
        #[cfg(feature = "redis")]
        for url in ["redis://localhost", "rediss://:p@localhost/2?prefix=shop:"] {
            assert!(matches!(check_rate_limiter(url).unwrap(), LimiterPlan::Redis(_)), "{url}");
            assert!(matches!(LimiterPlan::beside(&check_cache(url).unwrap()), LimiterPlan::Redis(_)), "{url}");
        }
        for bad in ["memory://?memory_mib=5", "redis://h?hunter2=1", "tiered+redis://hunter2", "hunter2", ""] {
            let error = check_rate_limiter(bad).err().unwrap();
            assert_eq!(fields(&error), ["rate_limiter"], "{bad}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }

    #[cfg(feature = "memory")]
    #[test]
    fn cache_urls() {
        let max_bytes = |url| {
            let CachePlan::Memory(options) = check_cache(url).unwrap() else { panic!("{url}") };
            options.max_bytes
        };
        assert!(matches!(check_cache("none").unwrap(), CachePlan::None));
        assert_eq!(max_bytes("memory://"), ecom_storage::cache::DEFAULT_MAX_BYTES);
        assert_eq!(max_bytes("memory://?memory_mib=5"), 5 << 20);
        for bad in ["memory://?memory_mib=0", "memory://?capacity=5", "memory://?size=1", "memory://x", "", "nothing"] {
            assert_eq!(fields(&check_cache(bad).unwrap_err()), ["cache"], "{bad}");
        }
    }
}
