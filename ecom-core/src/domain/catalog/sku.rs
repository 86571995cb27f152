//! SKUs, the variants of products, which have prices and stock.

use std::collections::BTreeMap;

use derive_setters::Setters;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::domain::common::{Attributes, Audit, ExternalRef, Patch};
use crate::error::{FieldCode, ValidationErrors};
use crate::id::{ProductId, SkuId};
use crate::money::{Currency, ExactDecimal, Measure, Money, Percentage, price_of};
use crate::text::{check_text, shown};

/// The width, height and depth of a SKU, with two decimal places, in the shop's unit of length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dimensions {
    /// The width.
    pub width: Measure,
    /// The height.
    pub height: Measure,
    /// The depth.
    pub depth: Measure,
}

/// The availability that shoppers see. It is derived from the stock and the low-stock threshold of a SKU. A SKU whose
/// stock is not tracked is always in stock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum AvailabilityStatus {
    /// No piece is available.
    OutOfStock,
    /// At least one piece is available, but not more than the low-stock threshold.
    Limited,
    /// More pieces are available than the low-stock threshold, or the stock is not tracked.
    InStock,
}

impl AvailabilityStatus {
    /// Every availability, worst first.
    pub const ALL: [Self; 3] = [Self::OutOfStock, Self::Limited, Self::InStock];

    /// Returns the availability of a SKU that tracks its stock, with this many available pieces and this low-stock
    /// threshold.
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
    /// The product that the SKU belongs to.
    pub product_id: ProductId,
    /// The position among the SKUs of the product. The first live one is the default SKU.
    pub position: i32,
    /// The code, 1–100 characters, unique among live SKUs, ignoring case.
    pub code: String,
    /// The values of the options, such as `{"size": "M", "color": "red"}`.
    pub option_values: BTreeMap<String, String>,
    /// Free attributes.
    pub attributes: Attributes,
    /// The price before the product's discount, 0 or more, in the shop's currency.
    pub price: Money,
    /// The weight, with two decimal places, in the shop's unit of weight.
    pub weight: Option<Measure>,
    /// The dimensions, with two decimal places, in the shop's unit of length.
    pub dimensions: Option<Dimensions>,
    /// The number of pieces in stock, 0 or more, which is the sum of the SKU's stock movements (R11).
    pub on_hand: i64,
    /// The number of pieces in stock that are reserved, 0 or more.
    pub reserved: i64,
    /// Whether the stock is tracked. If it is not, the SKU is always in stock, nothing moves its stock, and on hand
    /// stays as it was.
    pub track_stock: bool,
    /// If this many or fewer pieces are available, the availability is limited.
    pub low_stock_threshold: i64,
    /// EAN, UPC or another code that scanners read, at most 100 characters.
    pub barcode: Option<String>,
    /// The record that the SKU was imported from.
    pub external: Option<ExternalRef>,
    /// When and by whom the SKU was created and edited, and its version.
    pub audit: Audit,
}

impl Sku {
    /// Returns the number of pieces that can be sold: on hand − reserved. It is no limit if the stock is not tracked.
    pub const fn available(&self) -> i64 {
        self.on_hand - self.reserved
    }

    /// Returns the availability that shoppers see.
    pub const fn availability(&self) -> AvailabilityStatus {
        if self.track_stock {
            AvailabilityStatus::of(self.available(), self.low_stock_threshold)
        } else {
            AvailabilityStatus::InStock
        }
    }

    /// Returns `price × (1 − discount / 100)`, rounded to the currency's minor unit, half away from zero.
    pub fn final_price(&self, discount: Percentage) -> Money {
        self.price.discounted(discount)
    }
}

/// The width, height and depth of a SKU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DimensionsInput {
    /// The width in the shop's unit of length, 0–1,000,000,000, with at most two decimal places.
    pub width: ExactDecimal,
    /// The height in the shop's unit of length, 0–1,000,000,000, with at most two decimal places.
    pub height: ExactDecimal,
    /// The depth in the shop's unit of length, 0–1,000,000,000, with at most two decimal places.
    pub depth: ExactDecimal,
}

/// A merge patch of the dimensions (RFC 7396). Values that it leaves out stay unchanged; a SKU without dimensions needs
/// all three.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DimensionsPatch {
    /// The width in the shop's unit of length, 0–1,000,000,000, with at most two decimal places; null is refused.
    #[serde(default)]
    pub width: Patch<ExactDecimal>,
    /// The height in the shop's unit of length, 0–1,000,000,000, with at most two decimal places; null is refused.
    #[serde(default)]
    pub height: Patch<ExactDecimal>,
    /// The depth in the shop's unit of length, 0–1,000,000,000, with at most two decimal places; null is refused.
    #[serde(default)]
    pub depth: Patch<ExactDecimal>,
}

impl DimensionsPatch {
    /// Merges a patch. Values that it leaves out stay unchanged. If there were no dimensions, it must have all three.
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

/// A SKU to create or to replace (PUT).
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Setters)]
#[serde(deny_unknown_fields)]
#[setters(strip_option, into)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SkuInput {
    /// In the `skus` of a product that is replaced or patched: the SKU that this entry replaces. Without an id, the
    /// entry replaces the SKU that has the same code. In a replacement of a single SKU it must be the id of the path.
    #[serde(default)]
    #[setters(skip)]
    pub id: Option<SkuId>,
    /// The code, 1–100 characters, unique among live SKUs, ignoring case. If it is absent, a new SKU gets a code that
    /// is derived from the slug of the product, and a replaced SKU keeps its code.
    #[serde(default)]
    pub code: Option<String>,
    /// The values of the options, such as `{"size": "M", "color": "red"}`: at most 10, with names and values of 1–100
    /// characters.
    #[serde(default)]
    #[setters(skip)]
    pub option_values: BTreeMap<String, String>,
    /// Free attributes: a JSON object of at most 16 KiB, nested at most 30 levels deep; empty if absent.
    #[serde(default, deserialize_with = "Attributes::from_input")]
    #[setters(skip)]
    pub attributes: Attributes,
    /// The price before the product's discount, in the shop's currency: 0 or more, with no more decimal places than the
    /// minor unit of the currency. Required.
    #[setters(skip)]
    pub price: Option<ExactDecimal>,
    /// The currency of the price, as its ISO 4217 code. It must be the currency of the shop, which is also assumed if
    /// it is absent.
    #[serde(default)]
    #[setters(skip)]
    pub currency: Option<String>,
    /// The weight in the shop's unit of weight, 0–1,000,000,000, with at most two decimal places.
    #[serde(default)]
    pub weight: Option<ExactDecimal>,
    /// The dimensions in the shop's unit of length.
    #[serde(default)]
    pub dimensions: Option<DimensionsInput>,
    /// The number of pieces on hand, 0 to 10¹². The ledger records the difference. If it is absent, a new SKU has 0,
    /// and a replaced SKU keeps its stock. If `track_stock` is false, no other number is accepted.
    #[serde(default)]
    pub stock: Option<i64>,
    /// Whether the stock is tracked; true if absent. If it is false, the SKU is always in stock and its stock does not
    /// move.
    #[serde(default)]
    pub track_stock: Option<bool>,
    /// The low-stock threshold, 0 to 10¹²; 5 if absent. If this many or fewer pieces are available, the availability is
    /// `limited`.
    #[serde(default)]
    pub low_stock_threshold: Option<i64>,
    /// The EAN, UPC or another code that scanners read, 1–100 characters. Several SKUs can have the same.
    #[serde(default)]
    pub barcode: Option<String>,
    /// The system that the SKU was imported from, 1–100 characters; requires `external_id`. If it is absent, a replaced
    /// SKU keeps its own.
    #[serde(default)]
    pub source: Option<String>,
    /// The id of the SKU in that system, 1–255 characters; requires `source`. No other live SKU has the same `source`
    /// and `external_id`.
    #[serde(default)]
    pub external_id: Option<String>,
    /// The version of the SKU that the client read (R1). Only a replacement without `If-Match` uses it.
    #[serde(default)]
    pub version: Option<i64>,
}

/// A merge patch of a SKU (RFC 7396): fields that it leaves out stay unchanged.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SkuPatch {
    /// The code, 1–100 characters, unique among live SKUs, ignoring case; null is refused.
    #[serde(default)]
    pub code: Patch<String>,
    /// Changes of the options, merged into the existing ones: null for one option removes it, and null in place of the
    /// object removes all.
    #[serde(default)]
    pub option_values: Patch<BTreeMap<String, Option<String>>>,
    /// Changes of the attributes, merged into the existing ones (RFC 7396); null removes all of them.
    #[serde(default, deserialize_with = "Attributes::from_patch")]
    pub attributes: Patch<Attributes>,
    /// The price before the product's discount, in the shop's currency: 0 or more, with no more decimal places than the
    /// minor unit of the currency; null is refused.
    #[serde(default)]
    pub price: Patch<ExactDecimal>,
    /// The currency of the price, as its ISO 4217 code. It must be the currency of the shop, which is also assumed if
    /// it is absent.
    #[serde(default)]
    pub currency: Option<String>,
    /// The weight in the shop's unit of weight, 0–1,000,000,000, with at most two decimal places; null removes it.
    #[serde(default)]
    pub weight: Patch<ExactDecimal>,
    /// Changes of the dimensions, merged into the existing ones; null removes them.
    #[serde(default)]
    pub dimensions: Patch<DimensionsPatch>,
    /// The number of pieces on hand, 0 to 10¹²; the ledger records the difference. Null is refused, and so is another
    /// number than the current one if `track_stock` is false.
    #[serde(default)]
    pub stock: Patch<i64>,
    /// Whether the stock is tracked; null is refused. If it is false, the SKU is always in stock and its stock does not
    /// move.
    #[serde(default)]
    pub track_stock: Patch<bool>,
    /// The low-stock threshold, 0 to 10¹²; null is refused. If this many or fewer pieces are available, the
    /// availability is `limited`.
    #[serde(default)]
    pub low_stock_threshold: Patch<i64>,
    /// The EAN, UPC or another code that scanners read, 1–100 characters; null removes it.
    #[serde(default)]
    pub barcode: Patch<String>,
    /// The version of the SKU that the client read (R1), unless `If-Match` names it.
    #[serde(default)]
    pub version: Option<i64>,
}

/// The values of a valid input. The library adds the others, such as the id and the version.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SkuValues {
    /// The code; `None` derives the code of a new SKU from the product's slug and keeps that of an existing one.
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
    /// The number of pieces on hand; `None` keeps the stock of an existing SKU and means 0 for a new one.
    pub stock: Option<i64>,
    /// See [`Sku::track_stock`].
    pub track_stock: bool,
    /// See [`Sku::low_stock_threshold`].
    pub low_stock_threshold: i64,
    /// See [`Sku::barcode`].
    pub barcode: Option<String>,
    /// See [`Sku::external`].
    pub external: Option<ExternalRef>,
}

/// The low-stock threshold of a SKU whose input does not have one.
pub const DEFAULT_LOW_STOCK_THRESHOLD: i64 = 5;
/// The maximum number of pieces of a SKU, and the largest adjustment.
pub const MAX_STOCK: i64 = 1_000_000_000_000;

impl DimensionsInput {
    /// Returns dimensions in the shop's unit of length. Each is 0–1,000,000,000, with at most two decimal places.
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

    /// Sets the id of the SKU that this input replaces.
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

    /// Checks a SKU against the bounds of `docs/rules.md`, "SKU". Returns its values, or pushes errors and returns
    /// `None`. `prefix` (`skus[0].` or empty) precedes the fields of errors. If the caller does not know yet whether the
    /// SKU is `new`, it calls [`check_untracked`] later.
    pub(crate) fn check(
        &self,
        prefix: &str,
        currency: Currency,
        new: bool,
        errors: &mut ValidationErrors,
    ) -> Option<SkuValues> {
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
        let track_stock = self.track_stock.unwrap_or(true);
        if new && (0..=MAX_STOCK).contains(&self.stock.unwrap_or(0)) {
            check_untracked(&at("stock"), track_stock, self.stock, 0, errors);
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
            track_stock,
            low_stock_threshold: threshold,
            barcode: self.barcode.as_deref().map(|b| b.trim().to_owned()),
            external: ExternalRef::of(self.source.as_deref(), self.external_id.as_deref()),
        })
    }
}

/// Refuses a write that changes the stock of a SKU that does not track it. `on_hand` is the stock before the write, 0 for
/// a new SKU, and `field` is the name of the stock in errors.
pub(crate) fn check_untracked(
    field: &str,
    tracked: bool,
    stock: Option<i64>,
    on_hand: i64,
    errors: &mut ValidationErrors,
) {
    if !tracked && stock.is_some_and(|s| s != on_hand) {
        let message =
            format!("must be {on_hand} or absent, because `track_stock` is false: set it to true to change the stock");
        errors.push(field, FieldCode::Inconsistent, message);
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
