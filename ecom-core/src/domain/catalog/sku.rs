//! SKUs: the variants of products, which have prices and stock.

use std::collections::BTreeMap;

use derive_setters::Setters;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::domain::common::{Attributes, Audit, ExternalRef, Patch};
use crate::error::{FieldCode, ValidationErrors};
use crate::id::{ProductId, SkuId};
use crate::money::{Currency, ExactDecimal, Measure, Money, Percentage, price_of};
use crate::text::{check_text, shown};

/// Width, height and depth, with two decimal places.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dimensions {
    /// Width.
    pub width: Measure,
    /// Height.
    pub height: Measure,
    /// Depth.
    pub depth: Measure,
}

/// The availability that shoppers see. It is derived from stock and the threshold, and never stored for a SKU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum AvailabilityStatus {
    /// No piece is available.
    OutOfStock,
    /// At least one piece is available, but not more than the low-stock threshold.
    Limited,
    /// More pieces are available than the low-stock threshold.
    InStock,
}

impl AvailabilityStatus {
    /// Every availability, the worst first.
    pub const ALL: [Self; 3] = [Self::OutOfStock, Self::Limited, Self::InStock];

    /// Returns `out_of_stock` if nothing is available, `limited` if no more than the threshold is, else `in_stock`.
    pub const fn of(available: i64, threshold: i64) -> Self {
        if available <= 0 {
            Self::OutOfStock
        } else if available <= threshold {
            Self::Limited
        } else {
            Self::InStock
        }
    }

    /// Returns the word in requests and responses.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OutOfStock => "out_of_stock",
            Self::Limited => "limited",
            Self::InStock => "in_stock",
        }
    }

    /// Reads the word in requests and responses.
    pub fn parse(s: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|a| a.as_str() == s)
    }
}

/// A SKU (product variant).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sku {
    /// The id of the SKU.
    pub id: SkuId,
    /// The product that it belongs to.
    pub product_id: ProductId,
    /// Its position among the product's SKUs. The first live one is the default SKU.
    pub position: i32,
    /// Unique among live SKUs, ignoring case, 1–100 characters.
    pub code: String,
    /// The values of its options: `{"size": "M", "color": "red"}`.
    pub option_values: BTreeMap<String, String>,
    /// Free attributes.
    pub attributes: Attributes,
    /// Price before the product's discount, 0 or more, in the shop's currency.
    pub price: Money,
    /// The weight, with two decimal places, in the shop's unit of weight.
    pub weight: Option<Measure>,
    /// The dimensions, with two decimal places, in the shop's unit of length.
    pub dimensions: Option<Dimensions>,
    /// Pieces in stock, 0 or more: the sum of the SKU's stock movements (R11).
    pub on_hand: i64,
    /// Pieces that are promised, 0 or more.
    pub reserved: i64,
    /// With this many or fewer available pieces, stock counts as low.
    pub low_stock_threshold: i64,
    /// EAN, UPC or another code that scanners read, at most 100 characters.
    pub barcode: Option<String>,
    /// The record that it was imported from.
    pub external: Option<ExternalRef>,
    /// When and by whom it was created and edited.
    pub audit: Audit,
}

impl Sku {
    /// Returns how many pieces can be sold: on hand − reserved.
    pub const fn available(&self) -> i64 {
        self.on_hand - self.reserved
    }

    /// Returns the availability that shoppers see.
    pub const fn availability(&self) -> AvailabilityStatus {
        AvailabilityStatus::of(self.available(), self.low_stock_threshold)
    }

    /// Returns `price × (1 − discount / 100)`, rounded to the currency's minor unit, half away from zero.
    pub fn final_price(&self, discount: Percentage) -> Money {
        self.price.discounted(discount)
    }
}

/// Width, height and depth in an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DimensionsInput {
    /// 0 or more, scale 2.
    pub width: ExactDecimal,
    /// 0 or more, scale 2.
    pub height: ExactDecimal,
    /// 0 or more, scale 2.
    pub depth: ExactDecimal,
}

/// A patch of the dimensions (RFC 7396: objects merge).
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DimensionsPatch {
    /// 0 or more, scale 2.
    #[serde(default)]
    pub width: Patch<ExactDecimal>,
    /// 0 or more, scale 2.
    #[serde(default)]
    pub height: Patch<ExactDecimal>,
    /// 0 or more, scale 2.
    #[serde(default)]
    pub depth: Patch<ExactDecimal>,
}

impl DimensionsPatch {
    /// Merges a patch. Values that it leaves out stay; if there were no dimensions, it must give all three.
    pub(crate) fn merge(patch: Patch<Self>, to: &mut Option<DimensionsInput>, errors: &mut ValidationErrors) {
        let patch = match patch {
            Patch::Keep => return,
            Patch::Clear => {
                *to = None;
                return;
            }
            Patch::Set(p) => p,
        };
        let mut side = |new: Patch<ExactDecimal>, old: Option<ExactDecimal>, name: &str| match new {
            Patch::Set(v) => Some(v),
            Patch::Keep if old.is_some() => old,
            _ => {
                errors.push(format!("dimensions.{name}"), FieldCode::Required, "is required");
                None
            }
        };
        let width = side(patch.width, to.map(|d| d.width), "width");
        let height = side(patch.height, to.map(|d| d.height), "height");
        let depth = side(patch.depth, to.map(|d| d.depth), "depth");
        if let (Some(width), Some(height), Some(depth)) = (width, height, depth) {
            *to = Some(DimensionsInput { width, height, depth });
        }
    }
}

/// A SKU to create, or to replace another with.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Setters)]
#[serde(deny_unknown_fields)]
#[setters(strip_option, into)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SkuInput {
    /// In a product's `skus` on replace: the SKU that this entry replaces. Without it, the code decides.
    #[serde(default)]
    #[setters(skip)]
    pub id: Option<SkuId>,
    /// 1–100 characters, unique. Made from the product's slug if absent.
    #[serde(default)]
    pub code: Option<String>,
    /// `{"size": "M", "color": "red"}`, at most 10 options of 100 characters.
    #[serde(default)]
    #[setters(skip)]
    pub option_values: BTreeMap<String, String>,
    /// A JSON object, at most 16 KiB.
    #[serde(default, deserialize_with = "Attributes::from_input")]
    #[setters(skip)]
    pub attributes: Attributes,
    /// 0 or more, exact in the currency's minor unit.
    #[setters(skip)]
    pub price: Option<ExactDecimal>,
    /// ISO 4217; must be the shop's.
    #[serde(default)]
    #[setters(skip)]
    pub currency: Option<String>,
    /// 0 or more, scale 2.
    #[serde(default)]
    pub weight: Option<ExactDecimal>,
    /// 0 or more, scale 2.
    #[serde(default)]
    pub dimensions: Option<DimensionsInput>,
    /// Pieces on hand, 0 or more. On replace, the difference goes into the ledger; if absent, the stock stays.
    #[serde(default)]
    pub stock: Option<i64>,
    /// 0 or more; 5 if absent.
    #[serde(default)]
    pub low_stock_threshold: Option<i64>,
    /// At most 100 characters.
    #[serde(default)]
    pub barcode: Option<String>,
    /// The system that it was imported from.
    #[serde(default)]
    pub source: Option<String>,
    /// Its id in that system.
    #[serde(default)]
    pub external_id: Option<String>,
    /// On replace: the version that was read (R1), unless If-Match names it.
    #[serde(default)]
    pub version: Option<i64>,
}

/// A merge patch of a SKU (RFC 7396).
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SkuPatch {
    /// 1–100 characters, unique; null is refused.
    #[serde(default)]
    pub code: Patch<String>,
    /// Merged into the options: null for one removes it, null for all empties them.
    #[serde(default)]
    pub option_values: Patch<BTreeMap<String, Option<String>>>,
    /// Merged into the attributes; null empties them.
    #[serde(default, deserialize_with = "Attributes::from_patch")]
    pub attributes: Patch<Attributes>,
    /// 0 or more, exact in the currency's minor unit; null is refused.
    #[serde(default)]
    pub price: Patch<ExactDecimal>,
    /// ISO 4217; must be the shop's.
    #[serde(default)]
    pub currency: Option<String>,
    /// 0 or more, with at most two decimals; null removes it.
    #[serde(default)]
    pub weight: Patch<ExactDecimal>,
    /// Merged into what is there; null removes them.
    #[serde(default)]
    pub dimensions: Patch<DimensionsPatch>,
    /// Pieces on hand. The difference goes into the ledger.
    #[serde(default)]
    pub stock: Patch<i64>,
    /// 0 or more; null is refused.
    #[serde(default)]
    pub low_stock_threshold: Patch<i64>,
    /// At most 100 characters; null removes it.
    #[serde(default)]
    pub barcode: Patch<String>,
    /// The version that was read (R1), unless If-Match names it.
    #[serde(default)]
    pub version: Option<i64>,
}

/// The validated values of a SKU, without those that the library adds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SkuValues {
    /// The code; `None` if it is made from the product's slug.
    pub code: Option<String>,
    /// See [`Sku::option_values`].
    pub option_values: BTreeMap<String, String>,
    /// See [`Sku::attributes`].
    pub attributes: Attributes,
    /// See [`Sku::price`].
    pub price: Money,
    /// See [`Sku::weight`].
    pub weight: Option<Measure>,
    /// See [`Sku::dimensions`].
    pub dimensions: Option<Dimensions>,
    /// Pieces on hand. `None` keeps the stock, and means 0 for a new SKU.
    pub stock: Option<i64>,
    /// See [`Sku::low_stock_threshold`].
    pub low_stock_threshold: i64,
    /// See [`Sku::barcode`].
    pub barcode: Option<String>,
    /// See [`Sku::external`].
    pub external: Option<ExternalRef>,
}

/// The low-stock threshold of a SKU whose input has none.
pub const DEFAULT_LOW_STOCK_THRESHOLD: i64 = 5;
/// The most pieces of one SKU, and the largest single adjustment.
pub const MAX_STOCK: i64 = 1_000_000_000_000;

impl DimensionsInput {
    /// Returns the dimensions. Each is 0 or more, with at most two decimal places, in the shop's unit of length.
    pub fn new(
        width: impl Into<ExactDecimal>,
        height: impl Into<ExactDecimal>,
        depth: impl Into<ExactDecimal>,
    ) -> Self {
        Self { width: width.into(), height: height.into(), depth: depth.into() }
    }
}

impl SkuInput {
    /// Returns a SKU with a price in the shop's currency.
    pub fn new(price: Money) -> Self {
        Self { price: Some(price.amount().into()), currency: Some(price.currency().to_string()), ..Self::default() }
    }

    /// Selects the SKU of the product that this input replaces.
    #[must_use]
    pub const fn id(mut self, id: SkuId) -> Self {
        self.id = Some(id);
        self
    }

    /// Sets the value of one option, such as `size`.
    #[must_use]
    pub fn option(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.option_values.insert(name.into(), value.into());
        self
    }

    /// Sets one attribute.
    #[must_use]
    pub fn attribute(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.attributes.0.insert(name.into(), value.into());
        self
    }

    /// Checks a SKU against all bounds of `docs/rules.md`, "SKU". Pushes errors under `prefix` (`skus[0].` or empty),
    /// and returns `None` if there are any.
    pub(crate) fn check(&self, prefix: &str, currency: Currency, errors: &mut ValidationErrors) -> Option<SkuValues> {
        let before = errors.0.len();
        let at = |f: &str| format!("{prefix}{f}");
        if let Some(c) = &self.code {
            check_text(&at("code"), c, 1, 100, errors);
        }
        check_option_values(&at("option_values"), &self.option_values, errors);
        self.attributes.check(&at("attributes"), errors);
        let price = match self.price {
            Some(p) => price_of(p, currency, &at("price"), errors),
            None => {
                errors.push(at("price"), FieldCode::Required, "is required");
                None
            }
        };
        let weight = check_measure(&at("weight"), self.weight, errors);
        let dimensions = check_dimensions(&at("dimensions"), self.dimensions, errors);
        if let Some(s) = self.stock {
            check_count(&at("stock"), s, errors);
        }
        let threshold = self.low_stock_threshold.unwrap_or(DEFAULT_LOW_STOCK_THRESHOLD);
        check_count(&at("low_stock_threshold"), threshold, errors);
        if let Some(b) = &self.barcode {
            check_text(&at("barcode"), b, 1, 100, errors);
        }
        crate::domain::catalog::category::check_external(
            prefix,
            self.source.as_deref(),
            self.external_id.as_deref(),
            errors,
        );
        if errors.0.len() > before {
            return None;
        }
        Some(SkuValues {
            code: self.code.as_deref().map(|c| c.trim().to_owned()),
            option_values: self.option_values.clone(),
            attributes: self.attributes.clone(),
            price: price?,
            weight,
            dimensions,
            stock: self.stock,
            low_stock_threshold: threshold,
            barcode: self.barcode.as_deref().map(|b| b.trim().to_owned()),
            external: ExternalRef::of(self.source.as_deref(), self.external_id.as_deref()),
        })
    }
}

fn check_option_values(field: &str, values: &BTreeMap<String, String>, errors: &mut ValidationErrors) {
    if values.len() > 10 {
        errors.out_of_bounds(field, "must have at most 10 options");
    }
    for (k, v) in values {
        check_text(field, k, 1, 100, errors);
        check_text(&format!("{field}.{}", shown(k)), v, 1, 100, errors);
    }
}

fn check_measure(field: &str, d: Option<ExactDecimal>, errors: &mut ValidationErrors) -> Option<Measure> {
    match d.map(|d| Measure::exact(d.0)) {
        None => None,
        Some(Ok(m)) => Some(m),
        Some(Err(why)) => {
            errors.out_of_bounds(field, why.to_string());
            None
        }
    }
}

fn check_dimensions(field: &str, d: Option<DimensionsInput>, errors: &mut ValidationErrors) -> Option<Dimensions> {
    let d = d?;
    let width = check_measure(&format!("{field}.width"), Some(d.width), errors);
    let height = check_measure(&format!("{field}.height"), Some(d.height), errors);
    let depth = check_measure(&format!("{field}.depth"), Some(d.depth), errors);
    Some(Dimensions { width: width?, height: height?, depth: depth? })
}

fn check_count(field: &str, n: i64, errors: &mut ValidationErrors) {
    if !(0..=MAX_STOCK).contains(&n) {
        errors.out_of_bounds(field, format!("must be between 0 and {MAX_STOCK}"));
    }
}
