//! The core of `ecom`, an embeddable commerce engine: domain, ports, services and behaviour suites.
//!
//! Nothing here does I/O: adapters implement the traits in [`port`], and the services of the areas work on them.
//! Applications use the facade crate `ecom`, which adds the adapters.

pub mod clock;
pub mod config;
mod domain;
mod error;
mod health;
pub mod id;
#[cfg(feature = "mocks")]
pub mod mocks;
pub mod money;
pub mod paging;
pub mod port;
mod service;
mod shop;
#[cfg(feature = "testkit")]
pub mod testkit;
pub mod text;

pub use error::*;
pub use health::{DependencyHealth, Health};
pub use service::run::after_commit::AfterCommit;
pub use service::run::transaction::Tx;
pub use shop::{Shop, ShopParts};

/// Types that all areas share: actors, audit fields, versions that were read, deletion, attributes, patches, cached
/// values.
pub mod common {
    pub use crate::domain::common::{Actor, Attributes, Audit, DeleteMode, Deleted, ExternalRef, Patch, Read};
    pub use crate::service::run::read_through::{Cacheable, Cached, Lookup};
}

/// The catalog: products with their SKUs, the tree of categories, and imports of both.
pub mod catalog {
    pub use crate::domain::catalog::category::{
        Category, CategoryFilter, CategoryInput, CategoryPatch, CategorySummary, ancestor_slugs, path_depth,
    };
    pub use crate::domain::catalog::product::{
        Image, ImageInput, Product, ProductFilter, ProductFilters, ProductInput, ProductPatch, ProductSort,
        ProductStatus, ProductValues, RatingSource, RatingSummary,
    };
    pub use crate::domain::catalog::sku::{
        AvailabilityStatus, DEFAULT_LOW_STOCK_THRESHOLD, Dimensions, DimensionsInput, DimensionsPatch, MAX_STOCK, Sku,
        SkuInput, SkuPatch, SkuValues,
    };
    pub use crate::service::catalog::category::{CategoryList, CategoryService};
    pub use crate::service::catalog::import::{
        DeadLetters, DimensionsRecord, EndedEarly, ForeignId, ImageRecord, ImportFormat, ImportKind, ImportOptions,
        ImportReport, ImportService, MetaRecord, ProductRecord, SkuRecord, detect,
    };
    pub use crate::service::catalog::product::{ProductList, ProductListQuery, ProductService};
    pub use crate::service::catalog::sku::{MAX_SKUS, SkuService};
}

/// Stock: adjustments, levels and the ledger.
pub mod stock {
    pub use crate::domain::stock::inventory::{
        Adjusted, StockAdjustment, StockImbalance, StockLevel, StockMovement, StockReason,
    };
    pub use crate::service::stock::inventory::InventoryService;
}

/// Sales: customers with their addresses.
pub mod sales {
    pub use crate::domain::sales::customer::{
        Address, AddressFilter, AddressInput, AddressPatch, Customer, CustomerFilter, CustomerInput, CustomerPatch,
        CustomerSort,
    };
    pub use crate::service::sales::customer::{AddressService, CustomerService};
}

/// Search: queries, results, and the index that follows the database.
pub mod search {
    pub use crate::port::search::{Facet, SearchFilter, SearchQuery, SearchSort};
    pub use crate::service::search::index::{IndexSyncService, SyncReport, VerifyReport};
    pub use crate::service::search::query::{FacetValue, SearchPage, SearchService};
}

/// The log of events, its consumers, and the background work.
pub mod platform {
    pub use crate::domain::platform::outbox::{Event, EventBatch, EventKind, OutboxPosition};
    pub use crate::service::background::Background;
    pub use crate::service::background::consumer::{Consumer, Start};
    pub use crate::service::platform::outbox::EventLog;
}
