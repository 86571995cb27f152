//! Products of the catalog.

mod input;
mod patch;

use serde::{Deserialize, Serialize};

pub(crate) use self::input::ProductValues;
pub(crate) use self::input::flat_names;
pub use self::input::{ImageInput, ProductInput};
pub use self::patch::ProductPatch;
pub(crate) use self::patch::require;
use crate::domain::catalog::category::CategorySummary;
use crate::domain::catalog::sku::{AvailabilityStatus, Sku};
use crate::domain::common::{Attributes, Audit, ExternalRef, IncludeDeleted};
use crate::error::{Result, ValidationErrors};
use crate::id::{CategoryId, ProductId};
use crate::money::Currency;
use crate::money::{Money, Percentage, Rating};
use crate::money::{check_price_currency, check_price_order};
use crate::text::{Slug, check_text};

/// Whether a product is on sale.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum ProductStatus {
    /// Being prepared; not shown to shoppers.
    Draft,
    /// On sale.
    #[default]
    Active,
    /// No longer on sale.
    Archived,
}

impl ProductStatus {
    /// Every status, in the order of the stored numbers.
    pub const ALL: [Self; 3] = [Self::Draft, Self::Active, Self::Archived];

    /// Returns the word in requests and responses.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Draft => "draft",
            Self::Active => "active",
            Self::Archived => "archived",
        }
    }

    /// Reads the word in requests and responses.
    pub fn parse(s: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|a| a.as_str() == s)
    }
}

/// An image of a product. The list is in the order of display.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// At most 500 characters.
    pub url: String,
    /// At most 255 characters.
    pub alt: Option<String>,
    /// Exactly one image of a product is primary.
    pub primary: bool,
}

/// The origin of a product's rating.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum RatingSource {
    /// The mean of our reviews.
    #[default]
    Reviews,
    /// Set by an import, and kept until it is changed.
    External,
}

impl RatingSource {
    /// Returns the word in responses.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reviews => "reviews",
            Self::External => "external",
        }
    }
}

/// Mean and number of ratings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RatingSummary {
    /// 0–5, scale 2; 0 if there are none.
    pub mean: Rating,
    /// How many ratings there are.
    pub count: i64,
    /// The origin of the rating.
    pub source: RatingSource,
}

/// A product of the catalog, with its live SKUs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Product {
    /// The id of the product.
    pub id: ProductId,
    /// 1–255 characters.
    pub title: String,
    /// Unique among live products.
    pub slug: Slug,
    /// At most 50,000 characters.
    pub description: Option<String>,
    /// At most 100 characters.
    pub brand: Option<String>,
    /// Whether it is on sale.
    pub status: ProductStatus,
    /// The categories that it is in, in the order in which they were given.
    pub categories: Vec<CategorySummary>,
    /// Each at most 50 characters, without duplicates by folded key.
    pub tags: Vec<String>,
    /// In the order of display.
    pub images: Vec<Image>,
    /// Free attributes.
    pub attributes: Attributes,
    /// The discount on each SKU's price, in percent.
    pub discount: Percentage,
    /// At most 255 characters.
    pub warranty_information: Option<String>,
    /// At most 255 characters.
    pub shipping_information: Option<String>,
    /// Mean and number of ratings.
    pub rating: RatingSummary,
    /// The record that it was imported from.
    pub external: Option<ExternalRef>,
    /// Live SKUs, by position. The first one is the default SKU.
    pub skus: Vec<Sku>,
    /// Increases with every change of what its document shows: stock, rating, a category's path, a SKU.
    pub revision: i64,
    /// When and by whom it was created and edited.
    pub audit: Audit,
}

impl Product {
    /// The longest description.
    pub const MAX_DESCRIPTION: usize = 50_000;

    /// Returns the SKU that flat reads and writes refer to.
    pub fn default_sku(&self) -> Option<&Sku> {
        self.skus.first()
    }

    /// Returns the lowest and the highest final price over its live SKUs. Lists and searches filter and sort by the
    /// lowest ("from" price). Each is rounded as in [`Sku::final_price`].
    pub fn price_range(&self) -> Option<(Money, Money)> {
        let mut prices = self.skus.iter().map(|s| s.final_price(self.discount));
        let first = prices.next()?;
        Some(prices.fold((first, first), |(lo, hi), p| {
            (if p.minor() < lo.minor() { p } else { lo }, if p.minor() > hi.minor() { p } else { hi })
        }))
    }

    /// Returns the best availability over its live SKUs.
    pub fn availability(&self) -> AvailabilityStatus {
        self.skus.iter().map(Sku::availability).max().unwrap_or(AvailabilityStatus::OutOfStock)
    }

    /// Returns how many pieces can be sold, over its live SKUs.
    pub fn available(&self) -> i64 {
        self.skus.iter().map(Sku::available).sum()
    }
}

/// The filters of a list of products; a product must match all that are given.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ProductFilter {
    /// The product is in this category or below it (R6).
    pub category: Option<CategoryId>,
    /// The lowest final price is at least this amount, in the shop's currency.
    pub min_price: Option<Money>,
    /// The lowest final price is at most this amount, in the shop's currency.
    pub max_price: Option<Money>,
    /// The product has this brand, by its folded key.
    pub brand: Option<String>,
    /// The product has this tag, by its folded key.
    pub tag: Option<String>,
    /// The best availability over its SKUs is this one.
    pub availability: Option<AvailabilityStatus>,
    /// The product has this status; `None` selects all.
    pub status: Option<ProductStatus>,
    /// Whether soft-deleted products are listed (R2).
    pub include_deleted: IncludeDeleted,
    /// The product was edited at or after this time (microseconds), for consumers that catch up.
    pub updated_since: Option<crate::clock::Timestamp>,
}

impl ProductFilter {
    /// Pushes an error for a brand or tag that no product can have.
    pub fn check_texts(brand: Option<&str>, tag: Option<&str>, errors: &mut ValidationErrors) {
        for (field, text) in [("brand", brand), ("tag", tag)] {
            if let Some(text) = text {
                check_text(field, text, 1, 100, errors);
            }
        }
    }

    /// Checks the brand, the tag and the bounds of the price.
    ///
    /// # Errors
    /// `Validation` as in [`Self::check_texts`] and for price bounds that no price can be between, `CURRENCY_MISMATCH`.
    pub(crate) fn check(&self, shop: Currency) -> Result<()> {
        let mut errors = ValidationErrors::default();
        Self::check_texts(self.brand.as_deref(), self.tag.as_deref(), &mut errors);
        check_price_order(self.min_price, self.max_price, &mut errors);
        errors.into_result()?;
        check_price_currency([self.min_price, self.max_price], shop)
    }
}

/// The order of a list of products; ties by id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ProductSort {
    /// The newest first.
    #[default]
    CreatedDesc,
    /// The oldest first.
    CreatedAsc,
    /// The lowest final price first.
    PriceAsc,
    /// The highest "from" price first.
    PriceDesc,
    /// By folded title.
    TitleAsc,
    /// By folded title, descending.
    TitleDesc,
    /// The best rating first.
    RatingDesc,
}

impl ProductSort {
    /// Every order.
    pub const ALL: [Self; 7] = [
        Self::CreatedDesc,
        Self::CreatedAsc,
        Self::PriceAsc,
        Self::PriceDesc,
        Self::TitleAsc,
        Self::TitleDesc,
        Self::RatingDesc,
    ];

    /// Returns the word in requests.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CreatedDesc => "created_desc",
            Self::CreatedAsc => "created_asc",
            Self::PriceAsc => "price_asc",
            Self::PriceDesc => "price_desc",
            Self::TitleAsc => "title_asc",
            Self::TitleDesc => "title_desc",
            Self::RatingDesc => "rating_desc",
        }
    }

    /// Reads the word in requests.
    pub fn parse(s: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|a| a.as_str() == s)
    }

    /// Returns true if greater keys come first.
    pub const fn is_descending(self) -> bool {
        matches!(self, Self::CreatedDesc | Self::PriceDesc | Self::TitleDesc | Self::RatingDesc)
    }
}

/// The values by which a list can be narrowed (`meta.filters`).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ProductFilters {
    /// Categories that matching products are directly in, most products first, at most 100.
    pub categories: Vec<(CategorySummary, u64)>,
    /// Brands, most products first, at most 100.
    pub brands: Vec<(String, u64)>,
    /// The lowest and the highest "from" price.
    pub price: Option<(Money, Money)>,
}
