//! The core of `ecom`, an embeddable commerce engine: the domain, the ports, the services and the behaviour suites.
//!
//! The core does not open connections. Adapters implement the traits in [`port`], and the services of the areas use
//! them. Applications depend on the facade crate `ecom`, which adds the adapters.

pub mod circuit;
pub mod clock;
pub mod config;
/// The types of a shop, and the checks of their values. The modules of the areas below re-export the public types.
mod domain {
    /// Principals and their permissions, users, roles, API keys and sessions.
    pub(crate) mod access {
        pub(crate) mod api_key;
        pub(crate) mod oidc;
        pub(crate) mod policy;
        pub(crate) mod principal;
        pub(crate) mod role;
        pub(crate) mod secret;
        pub(crate) mod session;
        pub(crate) mod user;
    }
    /// Products, SKUs, categories, reviews and feeds.
    pub(crate) mod catalog {
        pub(crate) mod category;
        pub(crate) mod feed;
        pub(crate) mod media;
        pub(crate) mod product;
        pub(crate) mod review;
        pub(crate) mod sku;
    }
    pub(crate) mod common;
    /// Analytics, idempotency keys, the report of the audit, jobs, mails, settings, webhooks, and the logs of edits, of
    /// events and of searches.
    pub(crate) mod platform {
        pub(crate) mod analytics;
        pub(crate) mod audit;
        pub(crate) mod audit_log;
        pub(crate) mod idempotency;
        pub(crate) mod job;
        pub(crate) mod live;
        pub(crate) mod mail;
        pub(crate) mod outbox;
        pub(crate) mod schedule;
        pub(crate) mod search_log;
        pub(crate) mod setting;
        pub(crate) mod webhook;
    }
    /// How texts and queries become words.
    pub(crate) mod search {
        pub(crate) mod highlight;
        pub(crate) mod language;
        pub(crate) mod query;
        pub(crate) mod query_text;
        pub(crate) mod rule;
        pub(crate) mod synonyms;
        pub(crate) mod text;
    }
    /// Stock levels and the ledger.
    pub(crate) mod stock {
        pub(crate) mod inventory;
    }
    /// Customers with their addresses, carts, orders and bills.
    pub(crate) mod sales {
        pub(crate) mod bill;
        pub(crate) mod cart;
        pub(crate) mod customer;
        pub(crate) mod offer;
        pub(crate) mod order;
        pub(crate) mod pricing;
    }
    pub(crate) mod words;
}
mod error;
mod health;
pub mod id;
#[cfg(test)]
mod listing;
pub mod log_event;
pub mod metrics;
#[cfg(feature = "mocks")]
pub mod mocks;
pub mod money;
pub mod paging;
pub mod port;
/// The services, which implement the rules of the shop over the ports.
mod service {
    /// Users, roles, API keys, and logins.
    pub(crate) mod access {
        pub(crate) mod api_key;
        pub(crate) mod auth;
        pub(crate) mod crypto;
        pub(crate) mod jws;
        pub(crate) mod link;
        pub(crate) mod mail;
        pub(crate) mod oidc;
        pub(crate) mod one_time;
        pub(crate) mod password;
        pub(crate) mod role;
        pub(crate) mod ticket;
        pub(crate) mod token;
        pub(crate) mod user;
    }
    pub(crate) mod background;
    /// The rules of the catalog.
    pub(crate) mod catalog {
        pub(crate) mod category;
        pub(crate) mod export;
        pub(crate) mod feed;
        pub(crate) mod import;
        pub(crate) mod media;
        pub(crate) mod product;
        pub(crate) mod resolver;
        pub(crate) mod review;
        pub(crate) mod sku;
    }
    /// Analytics, idempotent calls, jobs, mails, webhooks, and the readers of the logs of edits, of events and of
    /// searches.
    pub(crate) mod platform {
        pub(crate) mod analytics;
        pub(crate) mod audit;
        pub(crate) mod audit_log;
        pub(crate) mod idempotency;
        pub(crate) mod job;
        pub(crate) mod job_queue;
        pub(crate) mod live;
        pub(crate) mod mail;
        pub(crate) mod outbox;
        pub(crate) mod samples;
        pub(crate) mod search_log;
        pub(crate) mod webhook;
    }
    pub(crate) mod run;
    /// Searches, and the synchronization of the index.
    pub(crate) mod search {
        pub(crate) mod compare;
        pub(crate) mod fallback;
        pub(crate) mod index;
        pub(crate) mod jobs;
        pub(crate) mod query;
        pub(crate) mod settings;
        pub(crate) mod state;
        pub(crate) mod suggest;
    }
    /// The rules of stock.
    pub(crate) mod stock {
        pub(crate) mod inventory;
        pub(crate) mod low_stock;
    }
    /// The rules of sales.
    pub(crate) mod sales {
        pub(crate) mod bill;
        pub(crate) mod cart;
        pub(crate) mod confirmation;
        pub(crate) mod customer;
        pub(crate) mod order;
        pub(crate) mod reminder;
    }
}
mod shop;
pub mod stream;
#[cfg(feature = "testkit")]
pub mod testkit;
pub mod text;
pub mod trace;

pub use error::{
    BoxError, Conflict, Dependency, Entity, Error, ErrorCode, FieldCode, FieldError, RefusedServer, Resting, Result,
    ValidationErrors, WithCauses,
};
pub use health::{DependencyHealth, Health};
pub use service::run::after_commit::AfterCommit;
pub use service::run::transaction::Tx;
pub use shop::{ActingShop, Mailing, Media, Shop, ShopParts};

/// Access: principals and their permissions, users with their roles, API keys, and sessions.
pub mod access {
    pub use crate::domain::access::api_key::{ApiKey, ApiKeyInput, ApiKeyPatch, CreatedApiKey};
    pub use crate::domain::access::oidc::{OidcConfig, SignatureAlgorithm, checked_url, is_loopback};
    pub use crate::domain::access::principal::{Login, Permission, Principal, UnknownPermission};
    pub use crate::domain::access::role::{BuiltInRole, Role, RoleInput, RolePatch};
    pub use crate::domain::access::secret::{Secret, SecretHash};
    pub use crate::domain::access::session::{
        LiveTicket, LoginFailures, OneTimePurpose, OneTimeToken, Session, SessionEnd,
    };
    pub use crate::domain::access::user::{
        MAX_PASSWORD, MIN_PASSWORD, PasswordHash, ProfilePatch, User, UserAccount, UserFilter, UserInput, UserPatch,
    };
    pub use crate::service::access::api_key::ApiKeyService;
    pub use crate::service::access::auth::{AuthService, Tokens};
    pub use crate::service::access::crypto::SecretKey;
    pub use crate::service::access::oidc::OidcIssuer;
    pub use crate::service::access::role::RoleService;
    pub use crate::service::access::token::TokenAlgorithm;
    pub use crate::service::access::user::UserService;
}

/// Types that all areas share: actors, audit fields, expected versions, kinds of deletion, attributes, patches and
/// cached values.
pub mod common {
    pub use crate::domain::common::{
        Actor, Attributes, Audit, DeleteMode, ExpectedVersion, ExternalRef, IncludeDeleted, Patch,
    };
    pub use crate::service::run::read_through::{Cacheable, Cached, Lookup};
}

/// The catalog: products with their SKUs, the files of their images, the tree of categories, reviews, imports (also of
/// customers and carts), and feeds, which are sources that the shop imports again and again.
pub mod catalog {
    pub use crate::domain::catalog::category::{
        Category, CategoryFilter, CategoryInput, CategoryPatch, CategorySummary, path_depth,
    };
    pub use crate::domain::catalog::feed::{FeedState, FeedVersion};
    pub use crate::domain::catalog::media::{ImageFormat, MediaFile, ProcessedImage, StoredFile, StoredImage};
    pub use crate::domain::catalog::product::{
        Image, ImageInput, Product, ProductFilter, ProductFilters, ProductInput, ProductPatch, ProductSort,
        ProductStatus, RatingSource, RatingSummary,
    };
    pub use crate::domain::catalog::review::{Review, ReviewFilter, ReviewInput, ReviewPatch, ReviewSort, ReviewTally};
    pub use crate::domain::catalog::sku::{
        AvailabilityStatus, DEFAULT_LOW_STOCK_THRESHOLD, Dimensions, DimensionsInput, DimensionsPatch, MAX_STOCK, Sku,
        SkuInput, SkuPatch,
    };
    pub use crate::error::CatalogConflict;
    pub use crate::paging::{Page, Paging, Total};
    pub use crate::service::catalog::category::{CategoryList, CategoryService};
    pub use crate::service::catalog::export::{ExportFormat, ExportOptions, ExportReport, ExportService};
    pub use crate::service::catalog::feed::{Feed, FeedService, FeedStatus};
    pub use crate::service::catalog::import::{
        AddressRecord, CartLineRecord, CartRecord, ColumnMap, CustomerRecord, DeadLetters, DimensionsRecord, Document,
        EndedEarly, Fate, ForeignId, ImageRecord, ImportFormat, ImportKind, ImportOptions, ImportReport, ImportRun,
        ImportService, MetaRecord, ProductRecord, RecordOutcome, RecordResult, RecordSource, Rejection, SkuRecord,
        SourceRecord, Transform,
    };
    pub use crate::service::catalog::media::MediaService;
    pub use crate::service::catalog::product::{ProductFilterValues, ProductList, ProductListQuery, ProductService};
    pub use crate::service::catalog::review::ReviewService;
    pub use crate::service::catalog::sku::{MAX_SKUS, SkuService};
}

/// Stock: adjustments, levels and the ledger.
pub mod stock {
    pub use crate::domain::stock::inventory::{
        Adjusted, LowStock, StockAdjustment, StockImbalance, StockLevel, StockMovement, StockReason,
    };
    pub use crate::error::{Shortage, StockConflict};
    pub use crate::paging::{Page, Paging, Total};
    pub use crate::service::stock::inventory::InventoryService;
}

/// Sales: customers with their addresses, carts, orders and bills.
pub mod sales {
    pub use crate::domain::sales::bill::{Bill, BillFilter, BillKind, BillPatch, BillSort, BillStatus, PaymentType};
    pub use crate::domain::sales::cart::{
        Cart, CartAccess, CartFilter, CartInput, CartLine, CartLineInput, CartLinePatch, CartPatch, CartState,
        CartToken, CreatedCart, PricedCart, PricedLine,
    };
    pub use crate::domain::sales::customer::{
        Address, AddressFilter, AddressInput, AddressPatch, Customer, CustomerFilter, CustomerInput, CustomerPatch,
        CustomerSort,
    };
    pub use crate::domain::sales::offer::Offer;
    pub use crate::domain::sales::order::explain::{
        AmountName, AmountOf, AmountPart, ExplainedAmount, ExplainedKind, OrderExplanation,
    };
    pub use crate::domain::sales::order::input::{
        CancelUnits, CheckoutInput, ExtraLineInput, GuestInput, LineChange, OrderEdit, OrderInput, OrderLineInput,
        OrderPatch,
    };
    pub use crate::domain::sales::order::{
        AdjustmentKind, Buyer, ChangeKind, DeliveryMethod, LineKind, Order, OrderAdjustment, OrderCancellation,
        OrderChange, OrderFilter, OrderLine, OrderLineFilter, OrderRecord, OrderSort, OrderStatus, PostalAddress,
        Totals,
    };
    pub use crate::domain::sales::pricing::MAX_AMOUNT;
    pub use crate::error::{PriceMismatch, SalesConflict};
    pub use crate::paging::{Page, Paging, Total};
    pub use crate::service::sales::bill::BillService;
    pub use crate::service::sales::cart::CartService;
    pub use crate::service::sales::customer::{AddressService, CustomerService};
    pub use crate::service::sales::order::OrderService;
}

/// Search: queries, results, and the index that follows the database.
pub mod search {
    pub use crate::domain::search::highlight::{Highlighter, Piece};
    pub use crate::domain::search::language::Language;
    pub use crate::domain::search::query::{
        Boost, Facet, Matching, SearchFilter, SearchQuery, SearchRequest, SearchSort,
    };
    pub use crate::domain::search::query_text::{QueryText, Slot, Way, Word};
    pub use crate::domain::search::rule::{RuleBoost, SearchRule, SearchRules, TextMatch};
    pub use crate::domain::search::synonyms::{Synonym, Synonyms};
    pub use crate::domain::search::text::{Chunk, FieldWords, Pairs, Part, chunks, code_forms};
    pub use crate::service::search::compare::SearchComparison;
    pub use crate::service::search::index::{IndexSyncService, SyncReport, VerifyReport};
    pub use crate::service::search::query::{FacetValue, Highlights, SearchPage, SearchService};
    pub use crate::service::search::settings::SearchSettingsService;
    pub use crate::service::search::suggest::{RelatedProducts, Suggestions};
}

/// The platform: the event log, its consumers, analytics, idempotent calls, jobs, mails, webhooks, the search log, and
/// the background work.
pub mod platform {
    pub use crate::domain::platform::analytics::{
        AnalyticsState, CreatedCarts, DailyReport, DayFigures, DayRange, DaySales, Funnel, LowStockSku, ProductDay,
        ProductSales, ProductSalesSort, ProductViews,
    };
    pub use crate::domain::platform::audit::{AuditFinding, AuditReport, LedgerSum};
    pub use crate::domain::platform::audit_log::{AuditLogEntry, AuditLogFilter};
    pub use crate::domain::platform::idempotency::{AnswerSubject, IdempotencyKey, RequestHash, StoredAnswer};
    pub use crate::domain::platform::job::{
        Job, JobCounters, JobFilter, JobKind, JobLease, JobPriority, JobQueueState, JobRejection, JobState,
    };
    pub use crate::domain::platform::live::{
        LiveEnd, LiveEvent, LiveFilter, LiveKind, LiveLevel, LiveMessage, LiveStock,
    };
    pub use crate::domain::platform::mail::{
        MailAbout, MailAddress, MailContent, MailKind, MailLine, MailLowStock, MailMessage, MailOrder, MailText,
        MailToken,
    };
    pub use crate::domain::platform::outbox::{
        Event, EventBatch, EventKind, ImportedProducts, OutboxPosition, PriceChange, StockChange,
    };
    pub use crate::domain::platform::schedule::{CronLine, ScheduleState};
    pub use crate::domain::platform::search_log::{SearchCount, SearchTerm, SearchTermSort};
    pub use crate::domain::platform::setting::{Setting, SettingName};
    pub use crate::domain::platform::webhook::{
        CreatedWebhook, PreviousSecret, SealedSecret, Webhook, WebhookDelivery, WebhookDeliveryFilter,
        WebhookDeliveryState, WebhookHealth, WebhookInput, WebhookOffReason, WebhookPatch, WebhookRotation,
    };
    pub use crate::error::PlatformConflict;
    pub use crate::service::background::consumer::{Consumer, StartPosition};
    pub use crate::service::background::{Background, EventSignal, Pass};
    pub use crate::service::platform::analytics::AnalyticsService;
    pub use crate::service::platform::audit::AuditService;
    pub use crate::service::platform::audit_log::AuditLogService;
    pub use crate::service::platform::idempotency::{IdempotencyService, KeyedCall, Once};
    pub use crate::service::platform::job::{JobQueueStatus, JobService};
    pub use crate::service::platform::job_queue::{
        AfterFailure, JobError, JobHandler, JobQueue, JobRun, NewJob, TransactionalJobHandler,
    };
    pub use crate::service::platform::live::{LiveEvents, LiveService};
    pub use crate::service::platform::outbox::EventLog;
    pub use crate::service::platform::search_log::SearchLogService;
    pub use crate::service::platform::webhook::WebhookService;
}
