//! The representation of products.

use chrono::{DateTime, Utc};
use ecom_core::catalog::{
    AvailabilityStatus, CategorySummary, Image, Product, ProductFilters, ProductStatus, RatingSource, Sku,
};
use ecom_core::common::Attributes;
use ecom_core::money::{Currency, Money};
use serde::Serialize;
use uuid::Uuid;

use crate::dto::{Amount, DimensionsView, SkuView};

/// A category of a product.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct CategorySummaryView<'a> {
    /// The id of the category.
    pub id: Uuid,
    /// The name of the category.
    pub name: &'a str,
    /// The name of the category in URLs.
    pub slug: &'a str,
    /// The slugs from the root to the category, separated by slashes.
    pub path: &'a str,
}

impl<'a> From<&'a CategorySummary> for CategorySummaryView<'a> {
    fn from(c: &'a CategorySummary) -> Self {
        Self { id: c.id.0, name: &c.name, slug: c.slug.as_str(), path: &c.path }
    }
}

/// An image of a product.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct ImageView<'a> {
    /// The absolute URL of the image, or a path that starts with `/`.
    pub url: &'a str,
    /// The text for people who do not see the image; null if there is none.
    pub alt: Option<&'a str>,
    /// Whether this is the primary image. Exactly one image of a product is.
    pub primary: bool,
    /// The width in pixels; null if it is not known.
    pub width: Option<u32>,
    /// The height in pixels; null if it is not known.
    pub height: Option<u32>,
}

impl<'a> From<&'a Image> for ImageView<'a> {
    fn from(i: &'a Image) -> Self {
        Self { url: &i.url, alt: i.alt.as_deref(), primary: i.primary, width: i.width, height: i.height }
    }
}

/// The lowest and the highest final price.
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
    /// The id of the product.
    pub id: Uuid,
    /// The title.
    #[schema(example = "Field Notebook")]
    pub title: &'a str,
    /// The name of the product in URLs, unique among live products.
    #[schema(example = "field-notebook")]
    pub slug: &'a str,
    /// The description; null if there is none.
    pub description: Option<&'a str>,
    /// The brand; null if there is none.
    pub brand: Option<&'a str>,
    /// Whether the product is on sale.
    pub status: ProductStatus,
    /// The categories of the product.
    pub categories: Vec<CategorySummaryView<'a>>,
    /// The tags.
    pub tags: &'a [String],
    /// The images, in the order of display.
    pub images: Vec<ImageView<'a>>,
    /// Free attributes.
    pub attributes: &'a Attributes,
    /// The discount on the price of every SKU, in percent.
    #[schema(example = "12.50")]
    pub discount_percentage: Amount,
    /// The lowest final price of the SKUs, by which lists and searches filter and sort; null without SKUs.
    pub lowest_price: Option<Amount>,
    /// The price of the default SKU before the discount; null without SKUs.
    pub price: Option<Amount>,
    /// The currency of all prices, as its ISO 4217 code.
    #[schema(example = "USD")]
    pub currency: &'a str,
    /// The price of the default SKU after the discount: price × (1 − discount / 100), rounded to the minor unit of the
    /// currency, half away from zero.
    pub final_price: Option<Amount>,
    /// The lowest and the highest final price of the SKUs; null without SKUs.
    pub price_range: Option<PriceRange>,
    /// The code of the default SKU.
    pub sku: Option<&'a str>,
    /// The number of pieces of the default SKU in stock.
    pub stock: Option<i64>,
    /// Whether the stock of the default SKU is tracked. If it is not, the SKU is always in stock and its stock does not
    /// move.
    pub track_stock: Option<bool>,
    /// The number of pieces of the default SKU that can be sold. It is no limit if the stock is not tracked.
    pub available: Option<i64>,
    /// The availability of the default SKU.
    pub availability_status: AvailabilityStatus,
    /// The low-stock threshold of the default SKU: if this many or fewer pieces are available, the availability is
    /// `limited`.
    pub low_stock_threshold: Option<i64>,
    /// The weight of the default SKU, in the shop's unit of weight; null if it is not known.
    pub weight: Option<Amount>,
    /// The dimensions of the default SKU, in the shop's unit of length; null if they are not known.
    pub dimensions: Option<DimensionsView>,
    /// The barcode of the default SKU; null if there is none.
    pub barcode: Option<&'a str>,
    /// The warranty terms; null if there are none.
    pub warranty_information: Option<&'a str>,
    /// The shipping terms; null if there are none.
    pub shipping_information: Option<&'a str>,
    /// The mean rating in stars, 0–5; 0 if there are no ratings.
    #[schema(example = "4.35")]
    pub rating: Amount,
    /// The number of ratings.
    pub review_count: i64,
    /// The origin of the rating.
    pub rating_source: RatingSource,
    /// The live SKUs, by position. The first one is the default SKU.
    pub skus: Vec<SkuView<'a>>,
    /// The system that the product was imported from; null if it was not imported.
    pub source: Option<&'a str>,
    /// The id of the product in that system.
    pub external_id: Option<&'a str>,
    /// The version, which increases when somebody edits the product. Writes name it (R1).
    pub version: i64,
    /// The revision, which increases with every change of this representation, such as a change of stock.
    pub revision: i64,
    /// When the product was created (RFC 3339, UTC).
    #[serde(serialize_with = "crate::dto::time")]
    pub created_at: DateTime<Utc>,
    /// When the product was last edited (RFC 3339, UTC).
    #[serde(serialize_with = "crate::dto::time")]
    pub updated_at: DateTime<Utc>,
    /// The actor who created the product.
    pub created_by: &'a str,
    /// The actor who last edited the product.
    pub updated_by: &'a str,
    /// When the product was soft-deleted (RFC 3339, UTC); null for a live one.
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
        "track_stock",
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
            track_stock: sku.map(|s| s.track_stock),
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

/// The values by which a list of products can be filtered further.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct FiltersView {
    /// The categories that directly contain matching products, most products first; at most 100.
    pub categories: Vec<CategoryCount>,
    /// The brands of matching products, most products first; at most 100.
    pub brands: Vec<BrandCount>,
    /// The lowest and the highest of the matching products' lowest final prices; null if no product matches.
    pub price_range: Option<PriceRange>,
}

/// A category and the number of matching products in it.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct CategoryCount {
    /// The id of the category.
    pub id: Uuid,
    /// The name of the category.
    pub name: String,
    /// The name of the category in URLs.
    pub slug: String,
    /// The slugs from the root to the category, separated by slashes.
    pub path: String,
    /// The number of matching products that are directly in the category.
    pub count: u64,
}

/// A brand and the number of its matching products.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct BrandCount {
    /// The name of the brand.
    pub name: String,
    /// The number of matching products of the brand.
    pub count: u64,
}

impl FiltersView {
    pub(crate) fn of(f: &ProductFilters, numbers: bool) -> Self {
        let amount = |price: Money| Amount::new(price.amount(), numbers);
        Self {
            categories: f
                .categories
                .iter()
                .map(|(c, count)| CategoryCount {
                    id: c.id.0,
                    name: c.name.clone(),
                    slug: c.slug.to_string(),
                    path: c.path.clone(),
                    count: *count,
                })
                .collect(),
            brands: f.brands.iter().map(|(name, count)| BrandCount { name: name.clone(), count: *count }).collect(),
            price_range: f.price.map(|(min, max)| PriceRange { min: amount(min), max: amount(max) }),
        }
    }
}
