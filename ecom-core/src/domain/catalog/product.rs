//! Products: what the catalog shows.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::domain::catalog::category::CategorySummary;
use crate::domain::catalog::category::{check_external, check_slug};
use crate::domain::catalog::sku::{AvailabilityStatus, DimensionsInput, DimensionsPatch, Sku, SkuInput, SkuValues};
use crate::domain::common::{Attributes, Audit, Deleted, ExternalRef, Patch};
use crate::error::{Conflict, FieldCode, Result, ValidationErrors};
use crate::id::{CategoryId, ProductId, SkuId};
use crate::money::{Currency, ExactDecimal, Money, Percentage, Rating};
use crate::text::{Slug, check_text, fold_key, trimmed};

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
    /// All, in the order of their numbers on disk.
    pub const ALL: [Self; 3] = [Self::Draft, Self::Active, Self::Archived];

    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Draft => "draft",
            Self::Active => "active",
            Self::Archived => "archived",
        }
    }

    /// From the word on the wire.
    pub fn parse(s: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|a| a.as_str() == s)
    }
}

/// An image of a product; the order of the list is the order of show.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// At most 500 characters.
    pub url: String,
    /// At most 255 characters.
    pub alt: Option<String>,
    /// Exactly one image of a product is primary.
    pub primary: bool,
}

/// Where a product's rating comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum RatingSource {
    /// The mean of our reviews.
    #[default]
    Reviews,
    /// Set by an import; stands until it is changed.
    External,
}

impl RatingSource {
    /// The word on the wire.
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
    /// 0–5, scale 2; 0 where there are none.
    pub mean: Rating,
    /// How many.
    pub count: i64,
    /// Where it comes from.
    pub source: RatingSource,
}

/// A product of the catalog, with its live SKUs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Product {
    /// Its id.
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
    /// The categories it is in, in the order that they were given.
    pub categories: Vec<CategorySummary>,
    /// Each at most 50 characters, no two alike.
    pub tags: Vec<String>,
    /// In order of show.
    pub images: Vec<Image>,
    /// Free attributes.
    pub attributes: Attributes,
    /// Off each SKU's price, in percent.
    pub discount: Percentage,
    /// At most 255 characters.
    pub warranty_information: Option<String>,
    /// At most 255 characters.
    pub shipping_information: Option<String>,
    /// Mean and number of ratings.
    pub rating: RatingSummary,
    /// Where it came from.
    pub external: Option<ExternalRef>,
    /// Live SKUs, by position; the first is the default SKU.
    pub skus: Vec<Sku>,
    /// Moves with whatever its document shows: stock, rating, a category's path, a SKU.
    pub revision: i64,
    /// When and by whom.
    pub audit: Audit,
}

impl Product {
    /// The longest description.
    pub const MAX_DESCRIPTION: usize = 50_000;

    /// The SKU that flat reads and writes mean.
    pub fn default_sku(&self) -> Option<&Sku> {
        self.skus.first()
    }

    /// The lowest and the highest final price over its live SKUs. Lists and searches filter and sort by the
    /// lowest ("from" price). Rounded per SKU as [`Sku::final_price`].
    pub fn price_range(&self) -> Option<(Money, Money)> {
        let mut prices = self.skus.iter().map(|s| s.final_price(self.discount));
        let first = prices.next()?;
        Some(prices.fold((first, first), |(lo, hi), p| {
            (if p.minor() < lo.minor() { p } else { lo }, if p.minor() > hi.minor() { p } else { hi })
        }))
    }

    /// The best availability over its live SKUs.
    pub fn availability(&self) -> AvailabilityStatus {
        self.skus.iter().map(Sku::availability).max().unwrap_or(AvailabilityStatus::OutOfStock)
    }

    /// Pieces that can be sold over its live SKUs.
    pub fn available(&self) -> i64 {
        self.skus.iter().map(Sku::available).sum()
    }
}

/// What a list of products is filtered by; everything given must hold.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ProductFilter {
    /// In this category or below it (R6).
    pub category: Option<CategoryId>,
    /// The lowest final price is at least this, in minor units of the shop's currency.
    pub min_price: Option<i64>,
    /// The lowest final price is at most this, in minor units of the shop's currency.
    pub max_price: Option<i64>,
    /// This brand, by its folded key.
    pub brand: Option<String>,
    /// With this tag, by its folded key.
    pub tag: Option<String>,
    /// The best availability over the SKUs.
    pub availability: Option<AvailabilityStatus>,
    /// `None`: any status.
    pub status: Option<ProductStatus>,
    /// Whether soft-deleted products are listed (R2).
    pub deleted: Deleted,
    /// Edited or re-read since then (microseconds), for catch-up of consumers.
    pub updated_since: Option<crate::clock::Timestamp>,
}

impl ProductFilter {
    /// Pushes what is wrong with a brand or tag that no product can have.
    pub fn check_texts(brand: Option<&str>, tag: Option<&str>, errors: &mut ValidationErrors) {
        for (field, text) in [("brand", brand), ("tag", tag)] {
            if let Some(text) = text {
                check_text(field, text, 1, 100, errors);
            }
        }
    }

    /// # Errors
    /// `Validation` by [`Self::check_texts`].
    pub(crate) fn check(&self) -> Result<()> {
        let mut errors = ValidationErrors::default();
        Self::check_texts(self.brand.as_deref(), self.tag.as_deref(), &mut errors);
        errors.into_result()
    }
}

/// How a list of products is sorted; ties by id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ProductSort {
    /// Newest first.
    #[default]
    CreatedDesc,
    /// Oldest first.
    CreatedAsc,
    /// Lowest final price first.
    PriceAsc,
    /// Highest first, by the lowest final price.
    PriceDesc,
    /// By title, folded.
    TitleAsc,
    /// By title, folded, descending.
    TitleDesc,
    /// Best rating first.
    RatingDesc,
}

impl ProductSort {
    /// All.
    pub const ALL: [Self; 7] = [
        Self::CreatedDesc,
        Self::CreatedAsc,
        Self::PriceAsc,
        Self::PriceDesc,
        Self::TitleAsc,
        Self::TitleDesc,
        Self::RatingDesc,
    ];

    /// The word on the wire.
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

    /// From the word on the wire.
    pub fn parse(s: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|a| a.as_str() == s)
    }

    /// True where greater keys come first.
    pub const fn is_descending(self) -> bool {
        matches!(self, Self::CreatedDesc | Self::PriceDesc | Self::TitleDesc | Self::RatingDesc)
    }
}

/// What a list could be narrowed by (`meta.filters`).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ProductFilters {
    /// Categories that matching products are directly in, most products first, at most 100.
    pub categories: Vec<(CategorySummary, u64)>,
    /// Brands, most products first, at most 100.
    pub brands: Vec<(String, u64)>,
    /// Lowest and highest "from" price, in minor units of the shop's currency.
    pub price: Option<(i64, i64)>,
}

/// An image of an input.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ImageInput {
    /// `https://…` or a path of the shop's own host, at most 500 characters.
    pub url: String,
    /// At most 255 characters.
    #[serde(default)]
    pub alt: Option<String>,
    /// At most one; the first image is primary where none is.
    #[serde(default)]
    pub primary: bool,
}

/// A product to create, or what replaces one (PUT). Either `skus`, or the flat fields of one default SKU.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ProductInput {
    /// 1–255 characters.
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 255, example = "Field Notebook"))]
    pub title: String,
    /// Made from the title if absent.
    #[serde(default)]
    pub slug: Option<String>,
    /// At most 50,000 characters.
    #[serde(default)]
    pub description: Option<String>,
    /// At most 100 characters.
    #[serde(default)]
    pub brand: Option<String>,
    /// `active` if absent.
    #[serde(default)]
    pub status: ProductStatus,
    /// Ids, slugs or paths of categories.
    #[serde(default)]
    pub categories: Option<Vec<String>>,
    /// One category, in place of `categories`.
    #[serde(default)]
    pub category: Option<String>,
    /// Each 1–50 characters, at most 50.
    #[serde(default)]
    pub tags: Vec<String>,
    /// At most 50.
    #[serde(default)]
    pub images: Vec<ImageInput>,
    /// A JSON object, at most 16 KiB.
    #[serde(default)]
    pub attributes: Attributes,
    /// 0–100, scale 2.
    #[serde(default)]
    pub discount_percentage: Option<ExactDecimal>,
    /// At most 255 characters.
    #[serde(default)]
    pub warranty_information: Option<String>,
    /// At most 255 characters.
    #[serde(default)]
    pub shipping_information: Option<String>,
    /// The system it was imported from.
    #[serde(default)]
    pub source: Option<String>,
    /// Its id in that system.
    #[serde(default)]
    pub external_id: Option<String>,
    /// At most 200; on replace, SKUs that are not named are deleted.
    #[serde(default)]
    pub skus: Option<Vec<SkuInput>>,
    /// Flat: the price of the default SKU.
    #[serde(default)]
    pub price: Option<ExactDecimal>,
    /// ISO 4217; must be the shop's.
    #[serde(default)]
    pub currency: Option<String>,
    /// Flat: pieces on hand of the default SKU.
    #[serde(default)]
    pub stock: Option<i64>,
    /// Flat: the code of the default SKU.
    #[serde(default)]
    pub sku: Option<String>,
    /// Flat: the weight of the default SKU.
    #[serde(default)]
    pub weight: Option<ExactDecimal>,
    /// Flat: the dimensions of the default SKU.
    #[serde(default)]
    pub dimensions: Option<DimensionsInput>,
    /// Flat: the barcode of the default SKU.
    #[serde(default)]
    pub barcode: Option<String>,
    /// Flat: the low-stock threshold of the default SKU.
    #[serde(default)]
    pub low_stock_threshold: Option<i64>,
    /// On replace: the version that was read (R1), unless If-Match says it.
    #[serde(default)]
    pub version: Option<i64>,
}

/// A merge patch of a product (RFC 7396).
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ProductPatch {
    /// See [`ProductInput::title`].
    #[serde(default)]
    pub title: Patch<String>,
    /// See [`ProductInput::slug`]; null makes it from the title again.
    #[serde(default)]
    pub slug: Patch<String>,
    /// See [`ProductInput::description`].
    #[serde(default)]
    pub description: Patch<String>,
    /// See [`ProductInput::brand`].
    #[serde(default)]
    pub brand: Patch<String>,
    /// See [`ProductInput::status`].
    #[serde(default)]
    pub status: Patch<ProductStatus>,
    /// Replaces all categories; null empties them.
    #[serde(default)]
    pub categories: Patch<Vec<String>>,
    /// One category, in place of all.
    #[serde(default)]
    pub category: Patch<String>,
    /// Replaces all tags; null empties them.
    #[serde(default)]
    pub tags: Patch<Vec<String>>,
    /// Replaces all images; null empties them.
    #[serde(default)]
    pub images: Patch<Vec<ImageInput>>,
    /// Merged into what is there; null empties it.
    #[serde(default)]
    pub attributes: Patch<Attributes>,
    /// See [`ProductInput::discount_percentage`]; null is 0.
    #[serde(default)]
    pub discount_percentage: Patch<ExactDecimal>,
    /// See [`ProductInput::warranty_information`].
    #[serde(default)]
    pub warranty_information: Patch<String>,
    /// See [`ProductInput::shipping_information`].
    #[serde(default)]
    pub shipping_information: Patch<String>,
    /// Replaces all SKUs.
    #[serde(default)]
    pub skus: Patch<Vec<SkuInput>>,
    /// Flat: the price of the only SKU.
    #[serde(default)]
    pub price: Patch<ExactDecimal>,
    /// ISO 4217; must be the shop's.
    #[serde(default)]
    pub currency: Option<String>,
    /// Flat: pieces on hand of the only SKU.
    #[serde(default)]
    pub stock: Patch<i64>,
    /// Flat: the code of the only SKU.
    #[serde(default)]
    pub sku: Patch<String>,
    /// Flat: the weight of the only SKU.
    #[serde(default)]
    pub weight: Patch<ExactDecimal>,
    /// Flat: the dimensions of the only SKU.
    #[serde(default)]
    pub dimensions: Patch<DimensionsPatch>,
    /// Flat: the barcode of the only SKU.
    #[serde(default)]
    pub barcode: Patch<String>,
    /// Flat: the low-stock threshold of the only SKU.
    #[serde(default)]
    pub low_stock_threshold: Patch<i64>,
    /// The version that was read (R1), unless If-Match says it.
    #[serde(default)]
    pub version: Option<i64>,
}

/// The validated values of a product, without what the library adds.
#[derive(Debug, Clone, PartialEq)]
pub struct ProductValues {
    /// See [`Product::title`].
    pub title: String,
    /// `None`: made from the title.
    pub slug: Option<Slug>,
    /// See [`Product::description`].
    pub description: Option<String>,
    /// See [`Product::brand`].
    pub brand: Option<String>,
    /// See [`Product::status`].
    pub status: ProductStatus,
    /// Ids, slugs or paths; the service resolves them.
    pub categories: Vec<String>,
    /// See [`Product::tags`].
    pub tags: Vec<String>,
    /// See [`Product::images`].
    pub images: Vec<Image>,
    /// See [`Product::attributes`].
    pub attributes: Attributes,
    /// See [`Product::discount`].
    pub discount: Percentage,
    /// See [`Product::warranty_information`].
    pub warranty_information: Option<String>,
    /// See [`Product::shipping_information`].
    pub shipping_information: Option<String>,
    /// See [`Product::external`].
    pub external: Option<ExternalRef>,
    /// An external rating, which only an import sets; `None` leaves the rating.
    pub rating: Option<RatingSummary>,
    /// `None` leaves the SKUs (a patch that does not name them).
    pub skus: Option<Vec<(Option<SkuId>, SkuValues)>>,
}

impl ProductInput {
    /// The first flat SKU field that is said.
    fn flat_field(&self) -> Option<&'static str> {
        [
            ("price", self.price.is_some()),
            ("stock", self.stock.is_some()),
            ("sku", self.sku.is_some()),
            ("weight", self.weight.is_some()),
            ("dimensions", self.dimensions.is_some()),
            ("barcode", self.barcode.is_some()),
            ("low_stock_threshold", self.low_stock_threshold.is_some()),
        ]
        .into_iter()
        .find_map(|(name, said)| said.then_some(name))
    }

    /// R-flat: a product with several SKUs is not written with flat fields.
    ///
    /// # Errors
    /// `FLAT_WRITE_REFUSED`.
    pub fn check_flat_against(&self, current: &Product) -> Result<()> {
        match self.flat_field() {
            Some(field) if current.skus.len() > 1 => {
                Err(Conflict::FlatWrite { product: current.id.0, skus: current.skus.len(), field }.into())
            }
            _ => Ok(()),
        }
    }

    /// Checks everything that SPEC 2 says of a product that is written whole (create, PUT).
    ///
    /// # Errors
    /// `Validation` with each bad field; `CURRENCY_MISMATCH`.
    pub fn check(&self, currency: Currency) -> Result<ProductValues> {
        self.check_with(currency, true)
    }

    /// As [`Self::check`]; with `skus_required` false a write that names no SKU leaves them.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub fn check_with(&self, currency: Currency, skus_required: bool) -> Result<ProductValues> {
        let mut errors = ValidationErrors::default();
        let e = &mut errors;
        check_text("title", &self.title, 1, 255, e);
        check_slug(self.slug.as_deref(), e);
        check_optional("description", self.description.as_deref(), Product::MAX_DESCRIPTION, e);
        check_optional("brand", self.brand.as_deref(), 100, e);
        check_optional("warranty_information", self.warranty_information.as_deref(), 255, e);
        check_optional("shipping_information", self.shipping_information.as_deref(), 255, e);
        let tags = check_tags(&self.tags, e);
        let images = check_images(&self.images, e);
        self.attributes.check("attributes", e);
        let discount = match self.discount_percentage.map(|d| Percentage::exact(d.0)) {
            Some(Err(why)) => {
                e.out_of_bounds("discount_percentage", why);
                Percentage::default()
            }
            Some(Ok(p)) => p,
            None => Percentage::default(),
        };
        check_external("", self.source.as_deref(), self.external_id.as_deref(), e);
        let categories = match (&self.categories, &self.category) {
            (Some(_), Some(_)) => {
                e.push("category", FieldCode::Inconsistent, "goes in place of `categories`, not beside it");
                Vec::new()
            }
            (Some(all), None) => all.clone(),
            (None, Some(one)) => vec![one.clone()],
            (None, None) => Vec::new(),
        };
        if categories.len() > 50 {
            e.out_of_bounds("categories", "must be at most 50");
        }
        let skus = self.check_skus(currency, skus_required, e);
        let mismatch = std::iter::once(self.currency.as_deref())
            .chain(self.skus.iter().flatten().map(|s| s.currency.as_deref()))
            .find_map(|c| crate::money::check_currency(c, currency).err());
        if let Some(why) = mismatch {
            match why {
                crate::Error::Validation(v) => e.0.extend(v.0),
                other => return Err(other),
            }
        }
        errors.into_result()?;
        Ok(ProductValues {
            title: self.title.trim().to_owned(),
            slug: self.slug.clone().map(Slug::trusted),
            description: trimmed(self.description.as_deref()),
            brand: trimmed(self.brand.as_deref()),
            status: self.status,
            categories,
            tags,
            images,
            attributes: self.attributes.clone(),
            discount,
            warranty_information: trimmed(self.warranty_information.as_deref()),
            shipping_information: trimmed(self.shipping_information.as_deref()),
            external: ExternalRef::of(self.source.as_deref(), self.external_id.as_deref()),
            rating: None,
            skus,
        })
    }

    fn check_skus(
        &self,
        currency: Currency,
        required: bool,
        e: &mut ValidationErrors,
    ) -> Option<Vec<(Option<SkuId>, SkuValues)>> {
        let flat = self.flat_field();
        if let Some(skus) = &self.skus {
            if let Some(field) = flat {
                e.push(field, FieldCode::Inconsistent, "goes in place of `skus`, not beside it");
            }
            if skus.is_empty() || skus.len() > 200 {
                e.out_of_bounds("skus", "must be 1 to 200");
                return None;
            }
            let mut seen = HashSet::new();
            let mut values = Vec::with_capacity(skus.len());
            for (i, s) in skus.iter().enumerate() {
                if let Some(c) = &s.code
                    && c.len() <= 400
                    && !seen.insert(fold_key(c))
                {
                    e.push(format!("skus[{i}].code"), FieldCode::Inconsistent, "stands twice in this product");
                }
                values.extend(s.check(&format!("skus[{i}]."), currency, e).map(|v| (s.id, v)));
            }
            return Some(values);
        }
        if flat.is_none() && !required {
            return None;
        }
        let sku = SkuInput {
            code: self.sku.clone(),
            price: self.price,
            weight: self.weight,
            dimensions: self.dimensions,
            stock: self.stock,
            low_stock_threshold: self.low_stock_threshold,
            barcode: self.barcode.clone(),
            ..SkuInput::default()
        };
        let mut inner = ValidationErrors::default();
        let values = sku.check("", currency, &mut inner);
        e.0.extend(flat_names(inner).0);
        Some(values.map(|v| (None, v)).into_iter().collect())
    }
}

impl ProductPatch {
    /// The first flat SKU field that is said.
    pub fn flat_field(&self) -> Option<&'static str> {
        [
            ("price", self.price.is_said()),
            ("stock", self.stock.is_said()),
            ("sku", self.sku.is_said()),
            ("weight", self.weight.is_said()),
            ("dimensions", self.dimensions.is_said()),
            ("barcode", self.barcode.is_said()),
            ("low_stock_threshold", self.low_stock_threshold.is_said()),
        ]
        .into_iter()
        .find_map(|(name, said)| said.then_some(name))
    }

    /// Makes the whole product that this patch asks for.
    ///
    /// # Errors
    /// `Validation` for a null where none is allowed, `FLAT_WRITE_REFUSED` for flat fields on a product with
    /// several SKUs.
    pub fn onto(self, current: &Product) -> Result<ProductInput> {
        let flat = self.flat_field();
        let mut e = ValidationErrors::default();
        let mut p = ProductInput::from(current);
        self.title.apply_required(&mut p.title, "title", &mut e);
        self.slug.apply(&mut p.slug);
        self.description.apply(&mut p.description);
        self.brand.apply(&mut p.brand);
        self.status.apply_required(&mut p.status, "status", &mut e);
        match (self.categories, self.category) {
            (Patch::Keep, Patch::Keep) => {}
            (c, Patch::Keep) => c.apply(&mut p.categories),
            (c, category) => {
                if c.is_said() {
                    e.push("category", FieldCode::Inconsistent, "goes in place of `categories`, not beside it");
                }
                p.categories = None;
                category.apply(&mut p.category);
            }
        }
        or_default(self.tags, &mut p.tags);
        or_default(self.images, &mut p.images);
        match self.attributes {
            Patch::Keep => {}
            Patch::Clear => p.attributes = Attributes::default(),
            Patch::Set(a) => p.attributes.merge(&a),
        }
        self.discount_percentage.apply(&mut p.discount_percentage);
        self.warranty_information.apply(&mut p.warranty_information);
        self.shipping_information.apply(&mut p.shipping_information);
        p.currency = self.currency;

        match (self.skus, flat) {
            (Patch::Keep, None) => {}
            (Patch::Keep, Some(field)) => {
                if current.skus.len() > 1 {
                    return Err(Conflict::FlatWrite { product: current.id.0, skus: current.skus.len(), field }.into());
                }
                let mut s = current.default_sku().map(SkuInput::from).unwrap_or_default();
                require(self.price, &mut s.price, "price", &mut e);
                require(self.stock, &mut s.stock, "stock", &mut e);
                require(self.sku, &mut s.code, "sku", &mut e);
                self.weight.apply(&mut s.weight);
                DimensionsPatch::merge(self.dimensions, &mut s.dimensions, &mut e);
                self.barcode.apply(&mut s.barcode);
                require(self.low_stock_threshold, &mut s.low_stock_threshold, "low_stock_threshold", &mut e);
                p.skus = Some(vec![s]);
            }
            (Patch::Set(_), Some(field)) => {
                e.push(field, FieldCode::Inconsistent, "goes in place of `skus`, not beside it");
            }
            (Patch::Set(skus), None) => p.skus = Some(skus),
            (Patch::Clear, _) => e.push("skus", FieldCode::Required, "cannot be null: a product has at least one SKU"),
        }
        e.into_result()?;
        Ok(p)
    }
}

/// The errors of the one SKU of a flat write, under the names that the writer used.
pub(crate) fn flat_names(mut errors: ValidationErrors) -> ValidationErrors {
    for e in &mut errors.0 {
        if let Some(field) = e.field.strip_prefix("skus[0].") {
            e.field = field.to_owned();
        }
        if e.field == "code" {
            "sku".clone_into(&mut e.field);
        }
    }
    errors
}

fn or_default<T: Default>(patch: Patch<T>, to: &mut T) {
    match patch {
        Patch::Keep => {}
        Patch::Clear => *to = T::default(),
        Patch::Set(v) => *to = v,
    }
}

/// A field that a patch may change but not remove.
pub(crate) fn require<T>(patch: Patch<T>, to: &mut Option<T>, field: &str, e: &mut ValidationErrors) {
    match patch {
        Patch::Clear => e.push(field, FieldCode::Required, "cannot be null"),
        patch => patch.apply(to),
    }
}

impl From<&Product> for ProductInput {
    /// The product as its own replacement; its SKUs are not named, so they stay.
    fn from(p: &Product) -> Self {
        Self {
            title: p.title.clone(),
            slug: Some(p.slug.to_string()),
            description: p.description.clone(),
            brand: p.brand.clone(),
            status: p.status,
            categories: Some(p.categories.iter().map(|c| c.id.to_string()).collect()),
            tags: p.tags.clone(),
            images: p
                .images
                .iter()
                .map(|i| ImageInput { url: i.url.clone(), alt: i.alt.clone(), primary: i.primary })
                .collect(),
            attributes: p.attributes.clone(),
            discount_percentage: Some(ExactDecimal(p.discount.decimal())),
            warranty_information: p.warranty_information.clone(),
            shipping_information: p.shipping_information.clone(),
            source: p.external.as_ref().map(|x| x.source.clone()),
            external_id: p.external.as_ref().map(|x| x.external_id.clone()),
            ..Self::default()
        }
    }
}

impl From<&Sku> for SkuInput {
    /// The SKU as its own replacement; stock is not named, so it stays.
    fn from(s: &Sku) -> Self {
        Self {
            id: Some(s.id),
            code: Some(s.code.clone()),
            option_values: s.option_values.clone(),
            attributes: s.attributes.clone(),
            price: Some(ExactDecimal(s.price.amount())),
            weight: s.weight.map(|m| ExactDecimal(m.decimal())),
            dimensions: s.dimensions.map(|d| DimensionsInput {
                width: ExactDecimal(d.width.decimal()),
                height: ExactDecimal(d.height.decimal()),
                depth: ExactDecimal(d.depth.decimal()),
            }),
            low_stock_threshold: Some(s.low_stock_threshold),
            barcode: s.barcode.clone(),
            source: s.external.as_ref().map(|x| x.source.clone()),
            external_id: s.external.as_ref().map(|x| x.external_id.clone()),
            ..Self::default()
        }
    }
}

fn check_optional(field: &str, text: Option<&str>, max: usize, errors: &mut ValidationErrors) {
    if let Some(t) = text {
        check_text(field, t, 0, max, errors);
    }
}

fn check_tags(tags: &[String], errors: &mut ValidationErrors) -> Vec<String> {
    if tags.len() > 50 {
        errors.out_of_bounds("tags", "must be at most 50");
        return Vec::new();
    }
    let mut seen = HashSet::new();
    let mut out = Vec::with_capacity(tags.len());
    for (i, t) in tags.iter().enumerate() {
        let before = errors.0.len();
        check_text(&format!("tags[{i}]"), t, 1, 50, errors);
        if errors.0.len() == before && seen.insert(fold_key(t)) {
            out.push(t.trim().to_owned());
        }
    }
    out
}

fn check_images(images: &[ImageInput], errors: &mut ValidationErrors) -> Vec<Image> {
    if images.len() > 50 {
        errors.out_of_bounds("images", "must be at most 50");
        return Vec::new();
    }
    if images.iter().filter(|i| i.primary).count() > 1 {
        errors.out_of_bounds("images", "exactly one image is primary");
    }
    let none_primary = images.iter().all(|i| !i.primary);
    let mut out = Vec::with_capacity(images.len());
    for (i, image) in images.iter().enumerate() {
        let field = format!("images[{i}].url");
        check_text(&field, &image.url, 1, 500, errors);
        let absolute = url::Url::parse(&image.url).is_ok_and(|u| matches!(u.scheme(), "http" | "https"));
        let local = image.url.starts_with('/') && !image.url.starts_with("//");
        if !absolute && !local {
            errors.out_of_bounds(field, "must be an http(s) URL or a path that starts with /");
        }
        check_optional(&format!("images[{i}].alt"), image.alt.as_deref(), 255, errors);
        out.push(Image {
            url: image.url.clone(),
            alt: trimmed(image.alt.as_deref()),
            primary: image.primary || (none_primary && i == 0),
        });
    }
    out
}
