//! Products over the wire.

use chrono::{DateTime, Utc};
use ecom_core::catalog::{
    AvailabilityStatus, CategorySummary, Image, Product, ProductFilters, ProductStatus, RatingSource, Sku,
};
use ecom_core::common::Attributes;
use ecom_core::money::{Currency, Money};
use serde::Serialize;
use uuid::Uuid;

use crate::dto::{Amount, DimensionsView, SkuView};

/// What a product shows of a category.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct CategorySummaryView<'a> {
    /// Its id.
    pub id: Uuid,
    /// Its name.
    pub name: &'a str,
    /// Its slug.
    pub slug: &'a str,
    /// The slugs from the root to itself.
    pub path: &'a str,
}

impl<'a> From<&'a CategorySummary> for CategorySummaryView<'a> {
    fn from(c: &'a CategorySummary) -> Self {
        Self { id: c.id.0, name: &c.name, slug: c.slug.as_str(), path: &c.path }
    }
}

/// An image.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct ImageView<'a> {
    /// Where it is.
    pub url: &'a str,
    /// For those who do not see it.
    pub alt: Option<&'a str>,
    /// True of exactly one.
    pub primary: bool,
}

impl<'a> From<&'a Image> for ImageView<'a> {
    fn from(i: &'a Image) -> Self {
        Self { url: &i.url, alt: i.alt.as_deref(), primary: i.primary }
    }
}

/// The lowest and the highest.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct PriceRange {
    /// The lowest final price.
    pub min: Amount,
    /// The highest final price.
    pub max: Amount,
}

/// A product with its SKUs, and with the flat fields of its default SKU.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct ProductView<'a> {
    /// Its id.
    pub id: Uuid,
    /// Its title.
    #[schema(example = "Field Notebook")]
    pub title: &'a str,
    /// Its name in URLs, unique.
    #[schema(example = "field-notebook")]
    pub slug: &'a str,
    /// What it is.
    pub description: Option<&'a str>,
    /// Who makes it.
    pub brand: Option<&'a str>,
    /// Whether it is on sale.
    pub status: ProductStatus,
    /// The categories it is in.
    pub categories: Vec<CategorySummaryView<'a>>,
    /// Its tags.
    pub tags: &'a [String],
    /// In order of show.
    pub images: Vec<ImageView<'a>>,
    /// Free attributes.
    pub attributes: &'a Attributes,
    /// Off each SKU's price, in percent.
    #[schema(example = "12.50")]
    pub discount_percentage: Amount,
    /// The final price of the cheapest SKU, by which lists and searches filter and sort.
    pub lowest_price: Option<Amount>,
    /// Of the default SKU, before the discount.
    pub price: Option<Amount>,
    /// ISO 4217.
    #[schema(example = "USD")]
    pub currency: &'a str,
    /// Of the default SKU, after the discount.
    pub final_price: Option<Amount>,
    /// Final prices over all SKUs.
    pub price_range: Option<PriceRange>,
    /// The code of the default SKU.
    pub sku: Option<&'a str>,
    /// Pieces of the default SKU in the house.
    pub stock: Option<i64>,
    /// Pieces of the default SKU that can be sold.
    pub available: Option<i64>,
    /// Of the default SKU.
    pub availability_status: AvailabilityStatus,
    /// Of the default SKU.
    pub low_stock_threshold: Option<i64>,
    /// Of the default SKU.
    pub weight: Option<Amount>,
    /// Of the default SKU.
    pub dimensions: Option<DimensionsView>,
    /// Of the default SKU.
    pub barcode: Option<&'a str>,
    /// Warranty.
    pub warranty_information: Option<&'a str>,
    /// Shipping.
    pub shipping_information: Option<&'a str>,
    /// Mean rating, 0–5; 0 if there are none.
    #[schema(example = "4.35")]
    pub rating: Amount,
    /// How many ratings.
    pub review_count: i64,
    /// Where the rating comes from.
    pub rating_source: RatingSource,
    /// All SKUs; the first is the default SKU.
    pub skus: Vec<SkuView<'a>>,
    /// The system it was imported from.
    pub source: Option<&'a str>,
    /// Its id in that system.
    pub external_id: Option<&'a str>,
    /// Moves when somebody edits it.
    pub version: i64,
    /// Moves with whatever this document shows.
    pub revision: i64,
    /// When it was made.
    #[serde(serialize_with = "crate::dto::time")]
    pub created_at: DateTime<Utc>,
    /// When it was edited last.
    #[serde(serialize_with = "crate::dto::time")]
    pub updated_at: DateTime<Utc>,
    /// Who made it.
    pub created_by: &'a str,
    /// Who edited it last.
    pub updated_by: &'a str,
    /// When it was soft-deleted.
    #[serde(serialize_with = "crate::dto::maybe_time")]
    pub deleted_at: Option<DateTime<Utc>>,
}

impl<'a> ProductView<'a> {
    pub(crate) const FIELDS: &'static [&'static str] = &[
        "id",
        "title",
        "slug",
        "description",
        "brand",
        "status",
        "categories",
        "tags",
        "images",
        "attributes",
        "discount_percentage",
        "lowest_price",
        "price",
        "currency",
        "final_price",
        "price_range",
        "sku",
        "stock",
        "available",
        "availability_status",
        "low_stock_threshold",
        "weight",
        "dimensions",
        "barcode",
        "warranty_information",
        "shipping_information",
        "rating",
        "review_count",
        "rating_source",
        "skus",
        "source",
        "external_id",
        "version",
        "revision",
        "created_at",
        "updated_at",
        "created_by",
        "updated_by",
        "deleted_at",
    ];

    pub(crate) fn of(p: &'a Product, currency: Currency, numbers: bool) -> Self {
        let money = |m: Money| Amount::new(m.amount(), numbers);
        let sku = p.default_sku();
        let range = p.price_range();
        Self {
            id: p.id.0,
            title: &p.title,
            slug: p.slug.as_str(),
            description: p.description.as_deref(),
            brand: p.brand.as_deref(),
            status: p.status,
            categories: p.categories.iter().map(Into::into).collect(),
            tags: &p.tags,
            images: p.images.iter().map(Into::into).collect(),
            attributes: &p.attributes,
            discount_percentage: Amount::new(p.discount.decimal(), numbers),
            lowest_price: range.map(|(lowest, _)| money(lowest)),
            price: sku.map(|s| money(s.price)),
            currency: sku.map_or(currency, |s| s.price.currency()).code(),
            final_price: sku.map(|s| money(s.final_price(p.discount))),
            price_range: range.map(|(min, max)| PriceRange { min: money(min), max: money(max) }),
            sku: sku.map(|s| s.code.as_str()),
            stock: sku.map(|s| s.on_hand),
            available: sku.map(Sku::available),
            availability_status: sku.map_or(AvailabilityStatus::OutOfStock, Sku::availability),
            low_stock_threshold: sku.map(|s| s.low_stock_threshold),
            weight: sku.and_then(|s| s.weight).map(|w| Amount::new(w.decimal(), numbers)),
            dimensions: sku.and_then(|s| s.dimensions.as_ref()).map(|d| DimensionsView::of(d, numbers)),
            barcode: sku.and_then(|s| s.barcode.as_deref()),
            warranty_information: p.warranty_information.as_deref(),
            shipping_information: p.shipping_information.as_deref(),
            rating: Amount::new(p.rating.mean.decimal(), numbers),
            review_count: p.rating.count,
            rating_source: p.rating.source,
            skus: p.skus.iter().map(|s| SkuView::of(s, p.discount, numbers)).collect(),
            source: p.external.as_ref().map(|x| x.source.as_str()),
            external_id: p.external.as_ref().map(|x| x.external_id.as_str()),
            version: p.audit.version,
            revision: p.revision,
            created_at: p.audit.created_at,
            updated_at: p.audit.updated_at,
            created_by: p.audit.created_by.as_str(),
            updated_by: p.audit.updated_by.as_str(),
            deleted_at: p.audit.deleted_at,
        }
    }
}

/// The values by which a list can be narrowed.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct FiltersView {
    /// Categories that matching products are directly in, most products first.
    pub categories: Vec<CategoryCount>,
    /// Brands, most products first.
    pub brands: Vec<BrandCount>,
    /// Over the matching products, by their lowest final price.
    pub price_range: Option<PriceRange>,
}

/// A category and how many products are in it.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct CategoryCount {
    /// Its id.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// Its slug.
    pub slug: String,
    /// Its path.
    pub path: String,
    /// How many.
    pub count: u64,
}

/// A brand and how many products it has.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct BrandCount {
    /// The brand.
    pub name: String,
    /// How many.
    pub count: u64,
}

impl FiltersView {
    pub(crate) fn of(f: ProductFilters, numbers: bool) -> Self {
        let amount = |price: Money| Amount::new(price.amount(), numbers);
        Self {
            categories: f
                .categories
                .into_iter()
                .map(|(c, count)| CategoryCount {
                    id: c.id.0,
                    name: c.name,
                    slug: c.slug.to_string(),
                    path: c.path,
                    count,
                })
                .collect(),
            brands: f.brands.into_iter().map(|(name, count)| BrandCount { name, count }).collect(),
            price_range: f.price.map(|(min, max)| PriceRange { min: amount(min), max: amount(max) }),
        }
    }
}
