//! Product documents as they are in files: DummyJSON's format and our own, distinguished field by field.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{IgnoredAny, MapAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Deserializer};

use crate::domain::catalog::product::{ImageInput, InputFor, ProductInput, ProductStatus, ProductValues};
use crate::domain::catalog::sku::{DimensionsInput, SkuInput};
use crate::domain::common::Attributes;
use crate::error::{FieldCode, ValidationErrors};
use crate::money::{Currency, ExactDecimal, Rating};
use crate::service::catalog::import::Rejection;
use crate::service::catalog::import::origin;
use crate::service::catalog::product::external_rating;
use crate::text::{Slug, fold_key, is_name};

/// The largest number of ratings that is accepted.
const MAX_REVIEWS: i64 = 1_000_000_000;

/// A product document. Fields that are not listed here are ignored, since documents of other systems have more fields
/// than a shop stores, and the report names them. Those that are listed must have the right type.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct ProductRecord {
    /// DummyJSON: its id in DummyJSON, a number or a text.
    pub id: Option<ForeignId>,
    /// Ours: its id in `source`.
    pub external_id: Option<ForeignId>,
    /// Ours: the system that `external_id` belongs to; by default that of the options.
    pub source: Option<String>,
    /// Required.
    pub title: Option<String>,
    /// Made from the title if absent; kept on an update.
    pub slug: Option<String>,
    /// At most 50,000 characters.
    pub description: Option<String>,
    /// At most 100 characters.
    pub brand: Option<String>,
    /// If absent, a new product is `active`, and an existing one keeps its status.
    pub status: Option<ProductStatus>,
    /// DummyJSON: one category by slug.
    pub category: Option<String>,
    /// Ours: slugs or slug paths.
    pub categories: Option<Vec<String>>,
    /// Each at most 50 characters.
    pub tags: Option<Vec<String>>,
    /// In order of display, the first is primary: URLs, or objects with `url`, `alt` (or `alt_text`), `primary` (or
    /// `is_primary`), and `width` and `height` in pixels.
    pub images: Option<Vec<ImageRecord>>,
    /// A JSON object.
    #[serde(deserialize_with = "Attributes::from_optional_input")]
    pub attributes: Option<Attributes>,
    /// 0–100, scale 2.
    #[serde(alias = "discountPercentage")]
    pub discount_percentage: Option<ExactDecimal>,
    /// At most 255 characters.
    #[serde(alias = "warrantyInformation")]
    pub warranty_information: Option<String>,
    /// At most 255 characters.
    #[serde(alias = "shippingInformation")]
    pub shipping_information: Option<String>,
    /// 0–5, scale 2: an external rating.
    pub rating: Option<ExactDecimal>,
    /// The number of ratings; by default the number of `reviews`.
    #[serde(alias = "reviewCount")]
    pub review_count: Option<i64>,
    /// DummyJSON: only counted.
    pub reviews: Option<Vec<IgnoredAny>>,
    /// Several SKUs, in place of the flat fields.
    pub skus: Option<Vec<SkuRecord>>,
    /// Flat: the price of the only SKU.
    pub price: Option<ExactDecimal>,
    /// ISO 4217; must be the shop's.
    pub currency: Option<String>,
    /// Flat: pieces on hand. If the stock is not tracked, no other number is accepted.
    pub stock: Option<i64>,
    /// Flat: whether the stock of the SKU is tracked. If absent, a new SKU tracks its stock, and an existing one stays as
    /// it is.
    #[serde(alias = "trackStock")]
    pub track_stock: Option<bool>,
    /// Flat: the SKU's code.
    pub sku: Option<String>,
    /// Flat: the weight of the SKU.
    pub weight: Option<ExactDecimal>,
    /// Flat: the dimensions of the SKU.
    pub dimensions: Option<DimensionsRecord>,
    /// Flat: the barcode of the SKU; DummyJSON has it in `meta`.
    pub barcode: Option<String>,
    /// Flat: the low-stock threshold of the SKU.
    #[serde(alias = "lowStockThreshold")]
    pub low_stock_threshold: Option<i64>,
    /// DummyJSON: becomes the attribute `return_policy`.
    #[serde(rename = "returnPolicy")]
    pub return_policy: Option<String>,
    /// DummyJSON: becomes the attribute `minimum_order_quantity`.
    #[serde(rename = "minimumOrderQuantity")]
    pub minimum_order_quantity: Option<i64>,
    /// DummyJSON: becomes the attribute `thumbnail`.
    pub thumbnail: Option<String>,
    /// DummyJSON: see [`MetaRecord`].
    pub meta: Option<MetaRecord>,
}

/// A SKU of a [`ProductRecord`].
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct SkuRecord {
    /// The code of the SKU.
    #[serde(alias = "sku")]
    pub code: Option<String>,
    /// `{"size": "M"}`.
    #[serde(alias = "optionValues")]
    pub option_values: Option<BTreeMap<String, String>>,
    /// A JSON object.
    #[serde(deserialize_with = "Attributes::from_optional_input")]
    pub attributes: Option<Attributes>,
    /// Required.
    pub price: Option<ExactDecimal>,
    /// ISO 4217; must be the shop's.
    pub currency: Option<String>,
    /// Scale 2.
    pub weight: Option<ExactDecimal>,
    /// Scale 2.
    pub dimensions: Option<DimensionsRecord>,
    /// Pieces on hand; if absent, they stay as they are. If the stock is not tracked, no other number is accepted.
    pub stock: Option<i64>,
    /// Whether the stock is tracked. If absent, a new SKU tracks its stock, and an existing one stays as it is.
    #[serde(alias = "trackStock")]
    pub track_stock: Option<bool>,
    /// The low-stock threshold; if absent, it stays as it is.
    #[serde(alias = "lowStockThreshold")]
    pub low_stock_threshold: Option<i64>,
    /// At most 100 characters.
    pub barcode: Option<String>,
}

/// Width, height and depth of a record.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct DimensionsRecord {
    width: ExactDecimal,
    height: ExactDecimal,
    depth: ExactDecimal,
}

impl From<DimensionsRecord> for DimensionsInput {
    fn from(d: DimensionsRecord) -> Self {
        Self { width: d.width, height: d.height, depth: d.depth }
    }
}

/// The part of DummyJSON's documents that is under `meta`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct MetaRecord {
    /// The barcode of the SKU.
    pub barcode: Option<String>,
}

/// An id of another system: a whole number or a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignId(pub String);

impl<'de> Deserialize<'de> for ForeignId {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Id;
        impl Visitor<'_> for Id {
            type Value = ForeignId;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number or a string")
            }
            fn visit_u64<E>(self, v: u64) -> Result<ForeignId, E> {
                Ok(ForeignId(v.to_string()))
            }
            fn visit_i64<E>(self, v: i64) -> Result<ForeignId, E> {
                Ok(ForeignId(v.to_string()))
            }
            fn visit_str<E>(self, v: &str) -> Result<ForeignId, E> {
                Ok(ForeignId(v.trim().to_owned()))
            }
        }
        d.deserialize_any(Id)
    }
}

/// An image: its URL alone, or with its text.
#[derive(Debug, Clone)]
pub struct ImageRecord(ImageInput);

impl<'de> Deserialize<'de> for ImageRecord {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Object {
            url: String,
            #[serde(default, alias = "alt_text", alias = "altText")]
            alt: Option<String>,
            #[serde(default, alias = "is_primary", alias = "isPrimary")]
            primary: bool,
            #[serde(default)]
            width: Option<u32>,
            #[serde(default)]
            height: Option<u32>,
        }
        struct Image;
        impl<'de> Visitor<'de> for Image {
            type Value = ImageRecord;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a URL, or an object with `url`")
            }
            fn visit_str<E>(self, v: &str) -> Result<ImageRecord, E> {
                Ok(ImageRecord(ImageInput::new(v)))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ImageRecord, A::Error> {
                let Object { url, alt, primary, width, height } = Object::deserialize(MapAccessDeserializer::new(map))?;
                Ok(ImageRecord(ImageInput { url, alt, primary, width, height }))
            }
        }
        d.deserialize_any(Image)
    }
}

/// A record whose values a product may have, with the fields that it leaves out.
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    pub values: ProductValues,
    /// The folded codes of its SKUs that have one.
    pub codes: Vec<String>,
    pub status_said: bool,
    pub categories_said: bool,
    /// The names of its categories, by path, if the record does not name them by slug.
    pub category_names: Vec<(String, String)>,
    pub slug_said: bool,
    /// For each SKU, the fields that the record has.
    pub skus_said: Vec<SkuSaid>,
}

/// The fields that a record has of those that an existing SKU keeps otherwise.
#[derive(Debug, Clone, Copy)]
pub(super) struct SkuSaid {
    pub low_stock_threshold: bool,
    pub track_stock: bool,
}

impl ProductRecord {
    /// Checks the record against the bounds of a product.
    pub(super) fn check(self, source: Option<&str>, currency: Currency) -> Result<Candidate, Rejection> {
        let mut errors = ValidationErrors::default();
        let (source, external) = origin(source, self.source, self.external_id, self.id);
        let codes: Vec<String> = self
            .skus
            .iter()
            .flatten()
            .map(|s| &s.code)
            .chain([&self.sku])
            .flatten()
            .filter(|c| c.len() <= 400)
            .map(|c| fold_key(c))
            .collect();
        if external.is_none() && codes.is_empty() {
            errors.push(
                "external_id",
                FieldCode::Required,
                "is required if the record has no SKU code, so that a later import recognizes it",
            );
        }
        if self.title.is_none() {
            errors.push("title", FieldCode::Required, "is required");
        }

        let rating = self.rating.and_then(|r| match Rating::exact(r.0) {
            Ok(mean) => Some(mean),
            Err(why) => {
                errors.out_of_bounds("rating", why.to_string());
                None
            }
        });
        let counted = self.reviews.as_ref().map_or(0, |r| i64::try_from(r.len()).unwrap_or(i64::MAX));
        let count = self.review_count.unwrap_or(counted);
        if !(0..=MAX_REVIEWS).contains(&count) {
            errors.out_of_bounds("review_count", format!("must be between 0 and {MAX_REVIEWS}"));
        }

        let mut attributes = self.attributes.unwrap_or_default();
        for (name, value) in [
            ("thumbnail", self.thumbnail.map(Into::into)),
            ("return_policy", self.return_policy.map(Into::into)),
            ("minimum_order_quantity", self.minimum_order_quantity.map(Into::into)),
        ] {
            if let Some(value) = value {
                attributes.0.entry(name).or_insert(value);
            }
        }

        let mut category_names = Vec::new();
        let categories = match (self.categories, self.category) {
            (None, None) => None,
            (all, one) => {
                let all = all.into_iter().flatten().chain(one).filter(|c| !c.trim().is_empty());
                Some(all.map(|c| reference(&c, &mut category_names)).collect::<Vec<_>>())
            }
        };
        let said = |threshold: Option<i64>, tracked: Option<bool>| SkuSaid {
            low_stock_threshold: threshold.is_some(),
            track_stock: tracked.is_some(),
        };
        let skus_said = self.skus.as_ref().map_or_else(
            || vec![said(self.low_stock_threshold, self.track_stock)],
            |skus| skus.iter().map(|s| said(s.low_stock_threshold, s.track_stock)).collect(),
        );
        let skus = self.skus.map(|skus| skus.into_iter().map(SkuInput::from).collect());
        let several = skus.is_some();
        let input = ProductInput {
            title: self.title.unwrap_or_default(),
            slug: self.slug,
            description: self.description,
            brand: self.brand,
            status: self.status.unwrap_or_default(),
            categories,
            tags: self.tags.unwrap_or_default(),
            images: self.images.unwrap_or_default().into_iter().map(|i| i.0).collect(),
            attributes,
            discount_percentage: self.discount_percentage,
            warranty_information: self.warranty_information,
            shipping_information: self.shipping_information,
            source: external.is_some().then_some(source),
            external_id: external,
            skus,
            price: self.price,
            currency: self.currency,
            stock: self.stock,
            track_stock: self.track_stock,
            sku: self.sku,
            weight: self.weight,
            dimensions: self.dimensions.map(Into::into),
            barcode: self.barcode.or(if several { None } else { self.meta.and_then(|m| m.barcode) }),
            low_stock_threshold: self.low_stock_threshold,
            ..ProductInput::default()
        };
        let checked = match input.check(currency, InputFor::Replace) {
            Ok(values) => Some(values),
            Err(crate::Error::Validation(v)) => {
                // Both checks notice a missing title; the error from here is the better one.
                let known: Vec<String> = errors.0.iter().map(|e| e.field.clone()).collect();
                errors.0.extend(v.0.into_iter().filter(|e| !known.contains(&e.field)));
                None
            }
            Err(other) => return Err(Rejection::from(&other)),
        };
        match checked {
            Some(mut values) if errors.0.is_empty() => {
                values.rating = rating.map(|mean| external_rating(mean, count));
                Ok(Candidate {
                    codes,
                    status_said: self.status.is_some(),
                    categories_said: input.categories.is_some(),
                    category_names,
                    slug_said: input.slug.is_some(),
                    skus_said,
                    values,
                })
            }
            _ => Err(Rejection::from(&crate::Error::Validation(errors))),
        }
    }
}

impl From<SkuRecord> for SkuInput {
    fn from(s: SkuRecord) -> Self {
        Self {
            code: s.code,
            option_values: s.option_values.unwrap_or_default(),
            attributes: s.attributes.unwrap_or_default(),
            price: s.price,
            currency: s.currency,
            weight: s.weight,
            dimensions: s.dimensions.map(Into::into),
            stock: s.stock,
            track_stock: s.track_stock,
            low_stock_threshold: s.low_stock_threshold,
            barcode: s.barcode,
            ..Self::default()
        }
    }
}

/// Returns a category that a record names, as a reference: an id or a slug path stays as it is, and a name becomes its
/// slug and is added to `names`.
fn reference(text: &str, names: &mut Vec<(String, String)>) -> String {
    if text.parse::<crate::id::CategoryId>().is_ok() {
        return text.to_owned();
    }
    let mut path = String::new();
    for segment in text.trim_matches('/').split('/') {
        let slug = Slug::parse(segment);
        if !path.is_empty() {
            path.push('/');
        }
        path.push_str(slug.as_ref().unwrap_or(&Slug::from_title(segment, "category")).as_str());
        let name = segment.trim();
        if slug.is_err() && is_name(name) {
            names.push((path.clone(), name.to_owned()));
        }
    }
    path
}
