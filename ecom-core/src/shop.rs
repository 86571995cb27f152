//! The shop, which has the services over one set of adapters.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::clock::{SharedClock, SystemClock};
use crate::config::ShopConfig;
use crate::domain::access::principal::Principal;
use crate::domain::platform::job::JobKind;
use crate::error::{Conflict, Dependency, Error, FieldCode, RefusedServer, Result};
use crate::health::{DependencyHealth, Health};
use crate::id::{EventId, IdSource, UuidV7Source};
use crate::metrics::Sample;
use crate::port::cache::{Cache, NoCache};
use crate::port::catalog::media::{ImageProcessor, MediaStore};
use crate::port::mailer::{MailTemplates, Mailer};
use crate::port::rate_limiter::{NoRateLimiter, RateLimiter};
use crate::port::search::SearchProvider;
use crate::port::storage::{Storage, UnitOfWork};
use crate::port::webhook_sender::WebhookSender;
use crate::service::access::api_key::ApiKeyService;
use crate::service::access::auth::{AuthService, Remembered};
use crate::service::access::crypto::SecretKey;
use crate::service::access::oidc::{Oidc, OidcIssuer};
use crate::service::access::password::Passwords;
use crate::service::access::role::RoleService;
use crate::service::access::token::TokenKeys;
use crate::service::access::user::UserService;
use crate::service::background::{Background, EventSignal, Pass};
use crate::service::catalog::category::CategoryService;
use crate::service::catalog::export::ExportService;
use crate::service::catalog::feed::{Feed, FeedService};
use crate::service::catalog::import::ImportService;
use crate::service::catalog::media::{self, MediaService, Uploads};
use crate::service::catalog::product::ProductService;
use crate::service::catalog::review::ReviewService;
use crate::service::catalog::sku::SkuService;
use crate::service::platform::analytics::{self, AnalyticsService};
use crate::service::platform::audit::AuditService;
use crate::service::platform::audit_log::AuditLogService;
use crate::service::platform::idempotency::IdempotencyService;
use crate::service::platform::job::JobService;
use crate::service::platform::job_queue::{Handler, JobQueue, Queues, Runner};
use crate::service::platform::live::{Live, LiveService};
use crate::service::platform::mail;
use crate::service::platform::outbox::EventLog;
use crate::service::platform::samples;
use crate::service::platform::search_log::{SearchCounts, SearchLogService};
use crate::service::platform::webhook::WebhookService;
use crate::service::run::context::{Context, Shared};
use crate::service::run::counts::Counts;
use crate::service::run::queue::Queue;
use crate::service::run::read_through::ReadThrough;
use crate::service::run::transaction::Tx;
use crate::service::sales::bill::BillService;
use crate::service::sales::cart::CartService;
use crate::service::sales::customer::{AddressService, CustomerService};
use crate::service::sales::order::OrderService;
use crate::service::search::index::IndexSyncService;
use crate::service::search::jobs;
use crate::service::search::query::SearchService;
use crate::service::search::settings::SearchSettingsService;
use crate::service::search::state::Indices;
use crate::service::stock::inventory::InventoryService;

/// The adapters and other values from which a shop is built.
#[derive(Debug)]
pub struct ShopParts {
    /// The database, which must have been migrated ([`Storage::migrate`]).
    pub storage: Arc<dyn Storage>,
    /// The search index.
    pub search: Arc<dyn SearchProvider>,
    /// A second search index, which answers while the first one does not. The shop keeps both in step with the
    /// database.
    pub search_fallback: Option<Arc<dyn SearchProvider>>,
    /// The cache.
    pub cache: Arc<dyn Cache>,
    /// The rate limiter, which counts the requests of each caller.
    pub rate_limiter: Arc<dyn RateLimiter>,
    /// The clock.
    pub clock: SharedClock,
    /// The source of ids.
    pub ids: Arc<dyn IdSource>,
    /// The secret that all processes of the shop share. It encrypts secrets in the database, such as the keys that sign
    /// access tokens and those of webhooks. Without it, each process signs access tokens with a key of its own, which
    /// ends with the process, and the keys of webhooks are not encrypted.
    pub secret_key: Option<SecretKey>,
    /// How the shop sends mails; `None` if it sends none.
    pub mailing: Option<Mailing>,
    /// How the shop stores uploaded images; `None` if it refuses uploads.
    pub media: Option<Media>,
    /// The sender of webhooks; `None` if the shop sends none.
    pub webhooks: Option<Arc<dyn WebhookSender>>,
    /// The sources that the shop imports again and again.
    pub feeds: Vec<Feed>,
    /// The queues of the application's own jobs.
    pub job_queues: Vec<JobQueue>,
    /// An issuer of OpenID Connect, whose tokens the shop accepts in addition to its own.
    pub oidc: Option<OidcIssuer>,
    /// The settings.
    pub config: ShopConfig,
}

/// How a shop sends mails. The settings of mails are in [`ShopConfig`].
#[derive(Debug, Clone)]
pub struct Mailing {
    /// The mailer.
    pub mailer: Arc<dyn Mailer>,
    /// The templates.
    pub templates: Arc<dyn MailTemplates>,
}

/// How a shop stores uploaded images.
#[derive(Debug, Clone)]
pub struct Media {
    /// The store of their files.
    pub store: Arc<dyn MediaStore>,
    /// The processor that makes these files from uploads.
    pub processor: Arc<dyn ImageProcessor>,
    /// The beginning of the URLs of all files, without a slash at its end, as browsers see it: `/media` for the files
    /// that `ecom-http` serves, or the URL of a CDN in front of them.
    pub base_url: String,
}

impl Media {
    /// Checks a base URL.
    ///
    /// # Errors
    /// `Validation` on `media_base_url`.
    pub fn check_base_url(url: &str) -> Result<()> {
        let is_absolute = url::Url::parse(url).is_ok_and(|url| {
            matches!(url.scheme(), "http" | "https") && url.query().is_none() && url.fragment().is_none()
        });
        let is_path = url.len() > 1 && url.starts_with('/') && !url.starts_with("//") && !url.contains(['?', '#']);
        // With the name of a file, the URL still fits into an image.
        if (is_absolute || is_path) && !url.ends_with('/') && url.chars().count() <= 400 {
            return Ok(());
        }
        let message = "must be an http or https URL, or a path that starts with a single /, of at most 400 characters, \
                       without a query, a fragment and a slash at its end";
        Err(Error::invalid("media_base_url", FieldCode::OutOfBounds, message))
    }
}

impl ShopParts {
    /// Returns parts with the clock of the machine, UUIDv7 ids, no cache, no rate limiter, no mails, no webhooks, no
    /// uploads of images, no feeds, no queues of the application and default settings.
    pub fn new(storage: Arc<dyn Storage>, search: Arc<dyn SearchProvider>) -> Self {
        let clock: SharedClock = Arc::new(SystemClock);
        let ids = Arc::new(UuidV7Source::new(clock.clone()));
        let (cache, config) = (Arc::new(NoCache), ShopConfig::default());
        let rate_limiter = Arc::new(NoRateLimiter);
        Self {
            storage,
            search,
            search_fallback: None,
            cache,
            rate_limiter,
            clock,
            ids,
            secret_key: None,
            mailing: None,
            media: None,
            webhooks: None,
            feeds: Vec::new(),
            job_queues: Vec::new(),
            oidc: None,
            config,
        }
    }
}

/// An embeddable shop. It is cheap to clone, and every clone is the same shop.
///
/// Applications build one with `ecom::ShopBuilder`. Reads and writes work at once. The search index follows while the
/// background work of [`Shop::start`] runs, or when the application calls [`IndexSyncService::catch_up`].
///
/// ```
/// # async fn app(shop: ecom_core::Shop) -> Result<(), Box<dyn std::error::Error>> {
/// use ecom_core::catalog::ProductInput;
///
/// let background = shop.start();
/// let pen = shop.products().create(&ProductInput::new("Pen").price("2 USD".parse()?).stock(3)).await?;
/// println!("{}", shop.products().get(pen.id).await?.title);
/// background.shutdown().await;
/// shop.close().await;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Shop {
    pub(crate) cx: Arc<Context>,
}

/// The services of a shop for one principal; see [`Shop::acting_as`].
#[derive(Debug, Clone, Copy)]
pub struct ActingShop<'a> {
    cx: &'a Arc<Context>,
    who: &'a Principal,
}

impl<'a> ActingShop<'a> {
    /// Returns the principal.
    pub const fn principal(&self) -> &'a Principal {
        self.who
    }

    /// Returns the service of products.
    pub const fn products(&self) -> ProductService<'a> {
        ProductService::new(self.cx, self.who)
    }

    /// Returns the service of image files.
    pub const fn media(&self) -> MediaService<'a> {
        MediaService::new(self.cx, self.who)
    }

    /// Returns the service of categories.
    pub const fn categories(&self) -> CategoryService<'a> {
        CategoryService::new(self.cx, self.who)
    }

    /// Returns the service of SKUs.
    pub const fn skus(&self) -> SkuService<'a> {
        SkuService::new(self.cx, self.who)
    }

    /// Returns the service of the search settings: synonyms and rules.
    pub const fn search_settings(&self) -> SearchSettingsService<'a> {
        SearchSettingsService::new(self.cx, self.who)
    }

    /// Returns the service of reviews.
    pub const fn reviews(&self) -> ReviewService<'a> {
        ReviewService::new(self.cx, self.who)
    }

    /// Returns the service of stock and its ledger.
    pub const fn inventory(&self) -> InventoryService<'a> {
        InventoryService::new(self.cx, self.who)
    }

    /// Returns the service of customers.
    pub const fn customers(&self) -> CustomerService<'a> {
        CustomerService::new(self.cx, self.who)
    }

    /// Returns the service of the addresses of customers.
    pub const fn addresses(&self) -> AddressService<'a> {
        AddressService::new(self.cx, self.who)
    }

    /// Returns the service of orders.
    pub const fn orders(&self) -> OrderService<'a> {
        OrderService::new(self.cx, self.who)
    }

    /// Returns the service of bills and credit notes.
    pub const fn bills(&self) -> BillService<'a> {
        BillService::new(self.cx, self.who)
    }

    /// Returns the service of carts.
    pub const fn carts(&self) -> CartService<'a> {
        CartService::new(self.cx, self.who)
    }

    /// Returns the service of searches.
    pub const fn search(&self) -> SearchService<'a> {
        SearchService::new(self.cx, self.who)
    }

    /// Returns the service that synchronizes, rebuilds and verifies the search index.
    pub const fn index(&self) -> IndexSyncService<'a> {
        IndexSyncService::new(self.cx, self.who)
    }

    /// Returns the event log, for consumers that store their position in it themselves.
    pub const fn events(&self) -> EventLog<'a> {
        EventLog::new(self.cx, self.who)
    }

    /// Returns the service of live events.
    pub const fn live(&self) -> LiveService<'a> {
        LiveService::new(self.cx, self.who)
    }

    /// Returns the service that audits the shop.
    pub const fn audit(&self) -> AuditService<'a> {
        AuditService::new(self.cx, self.who)
    }

    /// Returns the service of the audit log.
    pub const fn audit_log(&self) -> AuditLogService<'a> {
        AuditLogService::new(self.cx, self.who)
    }

    /// Returns the service of idempotent calls, whose keys belong to the principal.
    pub const fn idempotency(&self) -> IdempotencyService<'a> {
        IdempotencyService::new(self.cx, self.who)
    }

    /// Returns the service of jobs.
    pub const fn jobs(&self) -> JobService<'a> {
        JobService::new(self.cx, self.who)
    }

    /// Returns the service of analytics.
    pub const fn analytics(&self) -> AnalyticsService<'a> {
        AnalyticsService::new(self.cx, self.who)
    }

    /// Returns the service of the search log.
    pub const fn search_log(&self) -> SearchLogService<'a> {
        SearchLogService::new(self.cx, self.who)
    }

    /// Returns the service of webhooks.
    pub const fn webhooks(&self) -> WebhookService<'a> {
        WebhookService::new(self.cx, self.who)
    }

    /// Returns the service of users.
    pub const fn users(&self) -> UserService<'a> {
        UserService::new(self.cx, self.who)
    }

    /// Returns the service of roles.
    pub const fn roles(&self) -> RoleService<'a> {
        RoleService::new(self.cx, self.who)
    }

    /// Returns the service of API keys.
    pub const fn api_keys(&self) -> ApiKeyService<'a> {
        ApiKeyService::new(self.cx, self.who)
    }

    /// Returns the service of logins. It does the same for every principal.
    pub const fn auth(&self) -> AuthService<'a> {
        AuthService::new(self.cx)
    }

    /// Returns the service of imports.
    pub const fn import(&self) -> ImportService<'a> {
        ImportService::new(self.cx, self.who)
    }

    /// Returns the service of the feeds that the shop polls.
    pub const fn feeds(&self) -> FeedService<'a> {
        FeedService::new(self.cx, self.who)
    }

    /// Returns the service of exports.
    pub const fn export(&self) -> ExportService<'a> {
        ExportService::new(self.cx, self.who)
    }
}

impl Shop {
    /// Builds a shop from its parts.
    ///
    /// # Errors
    /// `Validation` if a setting is out of bounds, `CURRENCY_MISMATCH` if the database was created for another
    /// currency, `Internal` if [`Storage::migrate`] has not been called.
    pub fn new(parts: ShopParts) -> Result<Self> {
        parts.config.check()?;
        Feed::check_all(&parts.feeds)?;
        JobQueue::check_all(&parts.job_queues)?;
        parts.media.as_ref().map_or(Ok(()), |media| Media::check_base_url(&media.base_url))?;
        if let Some(issuer) = &parts.oidc {
            issuer.config.check()?;
            if issuer.config.issuer == parts.config.token_issuer {
                let message = "must not be the issuer of the shop's own tokens";
                return Err(Error::invalid("oidc_issuer", FieldCode::Inconsistent, message));
            }
        }
        let shop = parts.config.currency;
        match parts.storage.currency() {
            Some(database) if database == shop => {}
            Some(database) => {
                let (database, shop) = (database.to_string(), shop.to_string());
                return Err(Conflict::DatabaseCurrency { database, shop }.into());
            }
            None => {
                let context = "the storage of a shop must be migrated: call `Storage::migrate` first";
                return Err(Error::Internal { context, source: None });
            }
        }
        let mut own = jobs::queues();
        own.push(JobQueue::of_shop(JobKind::IMPORT, Handler::Creator, Runner::Creator).max_attempts(1));
        own.push(analytics::queue());
        own.extend(parts.mailing.clone().map(mail::queue));
        own.extend(parts.media.as_ref().map(|_| media::queue(&parts.config)));
        Ok(Self {
            cx: Context::new(Shared {
                queues: Queues::new(own, parts.job_queues),
                passwords: Passwords::new(parts.config.password_hashes)?,
                token_keys: TokenKeys::new(parts.secret_key.clone()),
                secret_key: parts.secret_key,
                oidc: parts.oidc.map(|issuer| Arc::new(Oidc::new(issuer))),
                logins: Remembered::default(),
                storage: parts.storage,
                cache: ReadThrough::new(parts.cache),
                rate_limiter: parts.rate_limiter,
                clock: parts.clock,
                ids: parts.ids,
                mailing: parts.mailing,
                media: parts.media,
                uploads: Uploads::default(),
                webhooks: parts.webhooks,
                feeds: parts.feeds,
                config: parts.config,
                adjustments: Queue::default(),
                orders: Queue::default(),
                search_settings: crate::service::search::settings::Ready::default(),
                indices: Indices::new(parts.search, parts.search_fallback),
                searches: SearchCounts::default(),
                views: Counts::default(),
                forgotten: parking_lot::Mutex::default(),
                consumers: parking_lot::Mutex::default(),
                events: watch::Sender::default(),
                live: Live::default(),
                naming: tokio::sync::Mutex::default(),
                background: parking_lot::Mutex::default(),
                identity: tokio::sync::OnceCell::default(),
            }),
        })
    }

    /// Returns the services of the shop for a principal. They refuse calls for which it has no permission, and they
    /// record it as the actor of its writes.
    ///
    /// ```
    /// # async fn app(shop: ecom_core::Shop) -> ecom_core::Result<()> {
    /// use ecom_core::access::{Permission, Principal};
    /// use ecom_core::catalog::CategoryInput;
    ///
    /// let clerk = Principal::new("user:2", [Permission::CategoriesWrite]);
    /// let tea = shop.acting_as(&clerk).categories().create(&CategoryInput::new("Tea")).await?;
    /// assert_eq!(tea.audit.created_by.as_str(), "user:2");
    /// # Ok(())
    /// # }
    /// ```
    pub const fn acting_as<'a>(&'a self, principal: &'a Principal) -> ActingShop<'a> {
        ActingShop { cx: &self.cx, who: principal }
    }

    /// Returns this shop in a form that notes the last event that its writes commit; see [`Self::last_event`]. Clones
    /// of the returned shop share the note. Make one for each write, or each group of writes, whose event is of
    /// interest.
    ///
    /// ```
    /// # async fn app(shop: ecom_core::Shop) -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    ///
    /// use ecom_core::catalog::ProductInput;
    /// use ecom_core::search::SearchQuery;
    ///
    /// let recording = shop.recording();
    /// recording.products().create(&ProductInput::new("Pen").price("2 USD".parse()?)).await?;
    /// if let Some(event) = recording.last_event() {
    ///     shop.search().wait_for(event, Duration::from_secs(5)).await?;
    /// }
    /// let query = SearchQuery { text: "pen".to_owned(), ..SearchQuery::default() };
    /// assert_eq!(shop.search().search(&query).await?.total.count, 1);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn recording(&self) -> Self {
        Self { cx: self.cx.recording() }
    }

    /// Returns the last event of the last write that [`Self::recording`] has noted. It is `None` before the first write
    /// with an event, and for a shop that does not record. An order or a stock adjustment that shares its commit with
    /// others has its own last event. A transaction of a host counts once its
    /// [`AfterCommit`](crate::AfterCommit) runs.
    pub fn last_event(&self) -> Option<EventId> {
        self.cx.last_event()
    }

    fn trusted(&self) -> ActingShop<'_> {
        self.acting_as(Principal::system())
    }

    /// Returns the service of products.
    pub fn products(&self) -> ProductService<'_> {
        self.trusted().products()
    }

    /// Returns the service of image files.
    pub fn media(&self) -> MediaService<'_> {
        self.trusted().media()
    }

    /// Returns the service of categories.
    pub fn categories(&self) -> CategoryService<'_> {
        self.trusted().categories()
    }

    /// Returns the service of SKUs.
    pub fn skus(&self) -> SkuService<'_> {
        self.trusted().skus()
    }

    /// Returns the service of the search settings: synonyms and rules.
    pub fn search_settings(&self) -> SearchSettingsService<'_> {
        self.trusted().search_settings()
    }

    /// Returns the service of reviews.
    pub fn reviews(&self) -> ReviewService<'_> {
        self.trusted().reviews()
    }

    /// Returns the service of stock and its ledger.
    pub fn inventory(&self) -> InventoryService<'_> {
        self.trusted().inventory()
    }

    /// Returns the service of customers.
    pub fn customers(&self) -> CustomerService<'_> {
        self.trusted().customers()
    }

    /// Returns the service of the addresses of customers.
    pub fn addresses(&self) -> AddressService<'_> {
        self.trusted().addresses()
    }

    /// Returns the service of orders.
    pub fn orders(&self) -> OrderService<'_> {
        self.trusted().orders()
    }

    /// Returns the service of bills and credit notes.
    pub fn bills(&self) -> BillService<'_> {
        self.trusted().bills()
    }

    /// Returns the service of carts.
    pub fn carts(&self) -> CartService<'_> {
        self.trusted().carts()
    }

    /// Returns the service of searches.
    pub fn search(&self) -> SearchService<'_> {
        self.trusted().search()
    }

    /// Returns the service that synchronizes, rebuilds and verifies the search index.
    pub fn index(&self) -> IndexSyncService<'_> {
        self.trusted().index()
    }

    /// Returns the event log, for consumers that store their position in it themselves.
    pub fn events(&self) -> EventLog<'_> {
        self.trusted().events()
    }

    /// Returns the service of live events.
    pub fn live(&self) -> LiveService<'_> {
        self.trusted().live()
    }

    /// Returns the service that audits the shop.
    pub fn audit(&self) -> AuditService<'_> {
        self.trusted().audit()
    }

    /// Returns the service of the audit log.
    pub fn audit_log(&self) -> AuditLogService<'_> {
        self.trusted().audit_log()
    }

    /// Returns the service of idempotent calls, whose keys belong to the application itself.
    pub fn idempotency(&self) -> IdempotencyService<'_> {
        self.trusted().idempotency()
    }

    /// Returns the service of jobs.
    pub fn jobs(&self) -> JobService<'_> {
        self.trusted().jobs()
    }

    /// Returns the service of analytics.
    pub fn analytics(&self) -> AnalyticsService<'_> {
        self.trusted().analytics()
    }

    /// Returns the service of the search log.
    pub fn search_log(&self) -> SearchLogService<'_> {
        self.trusted().search_log()
    }

    /// Returns the service of webhooks.
    pub fn webhooks(&self) -> WebhookService<'_> {
        self.trusted().webhooks()
    }

    /// Returns the service of users.
    pub fn users(&self) -> UserService<'_> {
        self.trusted().users()
    }

    /// Returns the service of roles.
    pub fn roles(&self) -> RoleService<'_> {
        self.trusted().roles()
    }

    /// Returns the service of API keys.
    pub fn api_keys(&self) -> ApiKeyService<'_> {
        self.trusted().api_keys()
    }

    /// Returns the service of logins.
    pub fn auth(&self) -> AuthService<'_> {
        self.trusted().auth()
    }

    /// Returns the service of imports.
    pub fn import(&self) -> ImportService<'_> {
        self.trusted().import()
    }

    /// Returns the service of the feeds that the shop polls.
    pub fn feeds(&self) -> FeedService<'_> {
        self.trusted().feeds()
    }

    /// Returns the service of exports.
    pub fn export(&self) -> ExportService<'_> {
        self.trusted().export()
    }

    /// Returns the settings of the shop.
    pub fn config(&self) -> &ShopConfig {
        &self.cx.config
    }

    /// Returns the clock of the shop.
    pub fn clock(&self) -> &SharedClock {
        &self.cx.clock
    }

    /// Returns the rate limiter.
    pub fn rate_limiter(&self) -> &Arc<dyn RateLimiter> {
        &self.cx.rate_limiter
    }

    /// Returns the source of ids.
    pub fn ids(&self) -> &Arc<dyn IdSource> {
        &self.cx.ids
    }

    /// Begins a transaction for several writes, of which either all happen or none.
    ///
    /// Until it ends, the same task must not call other writes of the shop: SQLite has one writer, so that the call
    /// would wait for this transaction and fail with `Unavailable` after the time limit. A database in memory
    /// (`sqlite::memory:`) has one connection, so that reads would wait too.
    ///
    /// # Errors
    /// `Unavailable` if no connection, or no right to write, becomes free within the time limit of the adapter.
    pub async fn begin(&self) -> Result<Tx<'static>> {
        Ok(self.transaction(self.cx.storage.begin().await?))
    }

    /// Returns the id of the database, which its first migration has created.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn identity(&self) -> Result<uuid::Uuid> {
        self.cx.database().await
    }

    /// Returns a transaction of the shop over a unit of work that an adapter has begun for a host, for example on a
    /// connection of the host. Applications call `begin_on_…` and `on_…` of the SQL adapters instead.
    pub fn transaction<'t>(&self, unit: Box<dyn UnitOfWork + 't>) -> Tx<'t> {
        Tx::new(self.cx.clone(), unit)
    }

    /// Returns the database.
    pub fn storage(&self) -> &Arc<dyn Storage> {
        &self.cx.storage
    }

    /// Starts the background work, which applies events to the index and to the figures of analytics, invalidates
    /// caches after writes of other processes, removes old events, runs jobs, sends mails, calls webhooks, and writes
    /// the search log and the views of products. Consumers of the host can be added to the returned handle. A process
    /// calls this once, and ends the work with [`Background::shutdown`](crate::platform::Background::shutdown).
    pub fn start(&self) -> Background {
        Background::start(&self.cx.silent())
    }

    /// Does the background work that is due now. Returns when none is left, or soon after `stop` completes; pass
    /// [`std::future::pending`] to never stop it. It takes leases as the work of [`Self::start`] does, and gives them
    /// up at the end, together with the right to write the index. So a process with many shops can give each shop a
    /// pass in turn, as `ecom::Shops` does. It does not run the consumers of [`Background::consume`]. A failure is
    /// logged, and the next pass tries again. If the call is dropped, other processes wait until its leases run out.
    /// Webhooks are called for about ten seconds; if deliveries may be left then, [`Self::event_signal`] asks for another
    /// pass.
    ///
    /// Returns true if work is left that another pass should do soon: a part of it has failed, or another process has
    /// its lease.
    pub async fn run_background_pass(&self, pass: Pass, stop: impl Future<Output = ()> + Send) -> bool {
        Background::pass(&self.cx.silent(), pass, stop).await
    }

    /// Returns a signal that reports when this process has written events. It does not keep the shop alive.
    pub fn event_signal(&self) -> EventSignal {
        EventSignal(self.cx.events.subscribe())
    }

    /// Closes the shop and all its clones. It ends the live subscriptions and the background work, as
    /// [`Background::shutdown`](crate::platform::Background::shutdown) does, adds the last counts to the search log and
    /// to the views of products, and then closes the connections to the database, the index, the cache, the rate
    /// limiter, the mail server and the store of images. Open transactions can still be committed or rolled back. Later
    /// calls that need a connection fail with `Unavailable`.
    pub async fn close(&self) {
        self.cx.live.close();
        Background::end_all(&self.cx).await;
        self.cx.searches.flush_last(&self.cx.silent()).await;
        self.cx.views.flush_last(&self.cx.silent()).await;
        self.cx.storage.close().await;
        for index in self.cx.indices.all() {
            index.provider.close().await;
        }
        self.cx.cache.close().await;
        self.cx.rate_limiter.close().await;
        if let Some(mailing) = &self.cx.mailing {
            mailing.mailer.close().await;
        }
        if let Some(media) = &self.cx.media {
            media.store.close().await;
        }
    }

    /// Checks whether every dependency responds within `limit`.
    pub async fn health(&self, limit: Duration) -> Health {
        async fn probe(
            dependency: Dependency,
            name: &'static str,
            limit: Duration,
            call: impl Future<Output = Result<()>>,
        ) -> DependencyHealth {
            let start = Instant::now();
            let (up, refused) = match tokio::time::timeout(limit, call).await {
                Ok(Ok(())) => (true, None),
                Ok(Err(e)) => (false, RefusedServer::among_causes(&e).map(|refused| refused.reason)),
                Err(_) => (false, None),
            };
            DependencyHealth { dependency, name, up, latency: start.elapsed(), refused }
        }
        let cx = &self.cx;
        let main = &cx.indices.main.provider;
        let fallback = async {
            let provider = &cx.indices.fallback.as_ref()?.provider;
            Some(probe(Dependency::SearchFallback, provider.name(), limit, provider.ping()).await)
        };
        let limiter = async {
            // A limiter in this process cannot be down.
            let limiter = Some(&cx.rate_limiter).filter(|limiter| limiter.is_shared())?;
            Some(probe(Dependency::RateLimiter, limiter.name(), limit, limiter.ping()).await)
        };
        let media = async {
            let store = &cx.media.as_ref()?.store;
            Some(probe(Dependency::Media, store.name(), limit, store.ping()).await)
        };
        let (database, search, fallback, cache, limiter, media) = futures::join!(
            probe(Dependency::Database, cx.storage.name(), limit, cx.storage.ping()),
            probe(Dependency::Search, main.name(), limit, main.ping()),
            fallback,
            probe(Dependency::Cache, cx.cache.name(), limit, cx.cache.ping()),
            limiter,
            media,
        );
        Health {
            dependencies: [Some(database), Some(search), fallback, Some(cache), limiter, media]
                .into_iter()
                .flatten()
                .collect(),
            pool: cx.storage.pool_status(),
            cache: cx.cache.stats(),
            searches_by_fallback: cx.indices.by_fallback.load(Ordering::Relaxed),
        }
    }

    /// Returns the metrics of the shop that this process knows without a call of a dependency: those of the pool of
    /// connections and of the cache ([`metrics`](crate::metrics)).
    pub fn samples(&self) -> Vec<Sample> {
        samples::of_process(&self.cx)
    }

    /// Returns the metrics of the shop that are read from its dependencies: whether each responds, and, from the
    /// database and the indices, the lag of the outbox and of the index, the jobs and the webhooks. What cannot be read
    /// within `limit` is left out. It makes about ten statements, of which one counts up to 30,000 jobs, so do not call
    /// it more often than every few seconds.
    pub async fn state_samples(&self, limit: Duration) -> Vec<Sample> {
        let health = self.health(limit).await;
        let mut samples = samples::of_health(&health);
        if health.can_serve() {
            samples.extend(samples::of_state(&self.cx, limit).await);
        }
        samples
    }
}
