//! Products of the catalog.

mod input;
mod patch;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

pub(crate) use self::input::ProductValues;
pub use self::input::{ImageInput, ProductInput};
pub(crate) use self::input::{InputFor, flat_names};
pub use self::patch::ProductPatch;
pub(crate) use self::patch::require;
use crate::domain::catalog::category::CategorySummary;
use crate::domain::catalog::sku::{AvailabilityStatus, Sku};
use crate::domain::common::{Attributes, Audit, ExternalRef, IncludeDeleted};
use crate::domain::platform::audit_log::{Audited, fields, leave_out};
use crate::error::{Result, ValidationErrors};
use crate::id::{CategoryId, ProductId};
use crate::money::Currency;
use crate::money::{Money, Percentage, Rating};
use crate::money::{check_price_currency, check_price_order};
use crate::text::{Slug, check_text};

/// The status of a product. Shoppers see active products only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum ProductStatus {
    /// The product is being prepared and is not shown to shoppers.
    Draft,
    /// The product is on sale.
    #[default]
    Active,
    /// The product is no longer on sale.
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

/// An image of a product.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// An absolute `http` or `https` URL, or a path that starts with `/`; at most 500 characters.
    pub url: String,
    /// The text for people who do not see the image, at most 255 characters.
    pub alt: Option<String>,
    /// Whether this is the primary image. Exactly one image of a product is.
    pub primary: bool,
    /// The width in pixels, 1–100,000, if it is known. An image has both a width and a height, or neither.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub width: Option<u32>,
    /// The height in pixels, 1–100,000, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub height: Option<u32>,
}

impl Image {
    /// The maximum width and height, in pixels.
    pub const MAX_SIZE: u32 = 100_000;
}

/// The origin of a product's rating.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum RatingSource {
    /// The rating is the mean of the shop's own reviews.
    #[default]
    Reviews,
    /// An import has set the rating, which stays until it is changed.
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

/// The mean and the number of the ratings of a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RatingSummary {
    /// The mean rating in stars: 0–5, with two decimal places; 0 if there are no ratings.
    pub mean: Rating,
    /// The number of ratings.
    pub count: i64,
    /// The origin of the rating.
    pub source: RatingSource,
}

/// A product of the catalog, with its live SKUs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Product {
    /// The id of the product.
    pub id: ProductId,
    /// The title, 1–255 characters.
    pub title: String,
    /// The name of the product in URLs, unique among live products.
    pub slug: Slug,
    /// The description, at most 50,000 characters.
    pub description: Option<String>,
    /// The brand, at most 100 characters.
    pub brand: Option<String>,
    /// Whether the product is on sale.
    pub status: ProductStatus,
    /// The categories that the product is in, in the order of the request that set them.
    pub categories: Vec<CategorySummary>,
    /// The tags, each at most 50 characters. No two tags have the same folded key.
    pub tags: Vec<String>,
    /// The images, in the order of display.
    pub images: Vec<Image>,
    /// Free attributes.
    pub attributes: Attributes,
    /// The discount on the price of every SKU, in percent.
    pub discount: Percentage,
    /// The warranty terms, at most 255 characters.
    pub warranty_information: Option<String>,
    /// The shipping terms, at most 255 characters.
    pub shipping_information: Option<String>,
    /// The mean and the number of ratings.
    pub rating: RatingSummary,
    /// The record that the product was imported from.
    pub external: Option<ExternalRef>,
    /// The live SKUs, by position. The first one is the default SKU.
    pub skus: Vec<Sku>,
    /// The revision of the product, which increases with every change of its representation, including changes of
    /// stock, rating, SKUs and the paths of its categories.
    pub revision: i64,
    /// When and by whom the product was created and edited, and its version.
    pub audit: Audit,
}

impl Audited for Product {
    fn id(&self) -> Uuid {
        self.id.0
    }

    fn revision(&self) -> i64 {
        self.revision
    }

    fn product(&self) -> Option<&Product> {
        Some(self)
    }

    fn document(&self) -> Map<String, Value> {
        let mut document = fields(self, &["id", "revision", "rating"]);
        let skus = document.get_mut("skus").and_then(Value::as_array_mut);
        for sku in skus.into_iter().flatten().filter_map(Value::as_object_mut) {
            // The ledger has the changes of stock.
            leave_out(sku, &["product_id", "on_hand", "reserved"]);
        }
        document
    }
}

impl Product {
    /// The maximum length of the description, in characters.
    pub const MAX_DESCRIPTION: usize = 50_000;

    /// Returns the SKU that flat reads and writes refer to.
    pub fn default_sku(&self) -> Option<&Sku> {
        self.skus.first()
    }

    /// Returns the lowest and the highest final price of the live SKUs, each rounded as in [`Sku::final_price`]. Lists
    /// and searches filter and sort by the lowest one ("from" price).
    pub fn price_range(&self) -> Option<(Money, Money)> {
        let mut prices = self.skus.iter().map(|s| s.final_price(self.discount));
        let first = prices.next()?;
        Some(prices.fold((first, first), |(lo, hi), p| {
            (if p.minor() < lo.minor() { p } else { lo }, if p.minor() > hi.minor() { p } else { hi })
        }))
    }

    /// Returns the best availability of the live SKUs.
    pub fn availability(&self) -> AvailabilityStatus {
        self.skus.iter().map(Sku::availability).max().unwrap_or(AvailabilityStatus::OutOfStock)
    }

    /// Returns the product as an input with one more image. If the product has an image with this URL, the new image
    /// replaces it, and keeps the old text and size if it has none of its own. Otherwise, the new image comes last.
    pub(crate) fn with_image(&self, image: &ImageInput) -> ProductInput {
        let mut input = ProductInput::without_skus(self);
        if image.primary {
            input.images.iter_mut().for_each(|other| other.primary = false);
        }
        match input.images.iter_mut().find(|other| other.url == image.url) {
            Some(same) => {
                let mut new = image.clone();
                new.primary |= same.primary;
                new.alt = new.alt.or_else(|| same.alt.take());
                if (new.width, new.height) == (None, None) {
                    (new.width, new.height) = (same.width, same.height);
                }
                *same = new;
            }
            None => input.images.push(image.clone()),
        }
        input
    }

    /// Returns how many pieces of all live SKUs can be sold. It is no limit if a SKU does not track its stock.
    pub fn available(&self) -> i64 {
        self.skus.iter().map(Sku::available).sum()
    }
}

/// The filters of a list of products. A product must match every filter that is set.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ProductFilter {
    /// The product is in this category or in one of its descendants (R6).
    pub category: Option<CategoryId>,
    /// The lowest final price is at least this amount, in the shop's currency.
    pub min_price: Option<Money>,
    /// The lowest final price is at most this amount, in the shop's currency.
    pub max_price: Option<Money>,
    /// The product has this brand; the folded keys are compared.
    pub brand: Option<String>,
    /// The product has this tag; the folded keys are compared.
    pub tag: Option<String>,
    /// The best availability of the SKUs of the product is this one.
    pub availability: Option<AvailabilityStatus>,
    /// The product has this status; `None` selects all.
    pub status: Option<ProductStatus>,
    /// Whether soft-deleted products are listed (R2).
    pub include_deleted: IncludeDeleted,
    /// The product was edited at or after this time, with microsecond precision. Consumers use this filter to catch up.
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
    /// `Validation` as in [`Self::check_texts`] and if the lower price bound is above the upper one;
    /// `CURRENCY_MISMATCH`.
    pub(crate) fn check(&self, shop: Currency) -> Result<()> {
        let mut errors = ValidationErrors::default();
        Self::check_texts(self.brand.as_deref(), self.tag.as_deref(), &mut errors);
        check_price_order("", self.min_price, self.max_price, &mut errors);
        errors.into_result()?;
        check_price_currency([self.min_price, self.max_price], shop)
    }
}

/// The order of a list of products. Equal products are ordered by id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ProductSort {
    /// By time of creation, newest first.
    #[default]
    CreatedDesc,
    /// By time of creation, oldest first.
    CreatedAsc,
    /// By lowest final price ("from" price), ascending.
    PriceAsc,
    /// By lowest final price ("from" price), descending.
    PriceDesc,
    /// By folded title, ascending.
    TitleAsc,
    /// By folded title, descending.
    TitleDesc,
    /// By mean rating, best first.
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

/// The values by which a list of products can be filtered further (`meta.filters`).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ProductFilters {
    /// The categories that directly contain matching products, with the number of products, most products first; at
    /// most 100.
    pub categories: Vec<(CategorySummary, u64)>,
    /// The brands of matching products, with the number of products, most products first; at most 100.
    pub brands: Vec<(String, u64)>,
    /// The lowest and the highest "from" price of the matching products.
    pub price: Option<(Money, Money)>,
}
