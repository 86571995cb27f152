//! Merge patches of products (RFC 7396).

use serde::Deserialize;

use super::{ImageInput, Product, ProductInput, ProductStatus};
use crate::domain::catalog::sku::{DimensionsPatch, SkuInput};
use crate::domain::common::{Attributes, Patch};
use crate::error::{CatalogConflict, FieldCode, Result, ValidationErrors};
use crate::money::ExactDecimal;

/// A merge patch of a product (RFC 7396): fields that it leaves out stay unchanged.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ProductPatch {
    /// The title, 1–255 characters; null is refused.
    #[serde(default)]
    pub title: Patch<String>,
    /// The name of the product in URLs: 1–100 characters of a-z, 0-9 and -, unique among live products; null derives it
    /// from the title again.
    #[serde(default)]
    pub slug: Patch<String>,
    /// The description, at most 50,000 characters; null removes it.
    #[serde(default)]
    pub description: Patch<String>,
    /// The brand, at most 100 characters; null removes it.
    #[serde(default)]
    pub brand: Patch<String>,
    /// Whether the product is on sale; null is refused.
    #[serde(default)]
    pub status: Patch<ProductStatus>,
    /// The categories, at most 50, each by its id, slug or path. They replace all current ones; null removes all.
    #[serde(default)]
    pub categories: Patch<Vec<String>>,
    /// The only category, by its id, slug or path. It replaces all current ones; null removes all. It cannot be
    /// combined with `categories`.
    #[serde(default)]
    pub category: Patch<String>,
    /// The tags, at most 50 of 1–50 characters each. They replace all current ones; null removes all.
    #[serde(default)]
    pub tags: Patch<Vec<String>>,
    /// The images in the order of display, at most 50. They replace all current ones; null removes all.
    #[serde(default)]
    pub images: Patch<Vec<ImageInput>>,
    /// Changes of the attributes, merged into the existing ones (RFC 7396); null removes all of them.
    #[serde(default, deserialize_with = "Attributes::from_patch")]
    pub attributes: Patch<Attributes>,
    /// The discount on the price of every SKU, in percent: 0–100, with at most two decimal places; null sets it to 0.
    #[serde(default)]
    pub discount_percentage: Patch<ExactDecimal>,
    /// The warranty terms, at most 255 characters; null removes them.
    #[serde(default)]
    pub warranty_information: Patch<String>,
    /// The shipping terms, at most 255 characters; null removes them.
    #[serde(default)]
    pub shipping_information: Patch<String>,
    /// The SKUs in the order of display, 1–200. They replace all current ones: SKUs of the product that are not listed
    /// are soft-deleted. Null is refused.
    #[serde(default)]
    pub skus: Patch<Vec<SkuInput>>,
    /// Flat field: the price of the only SKU before the discount, in the shop's currency, 0 or more; null is refused.
    /// Flat fields are refused if the product has several SKUs.
    #[serde(default)]
    pub price: Patch<ExactDecimal>,
    /// The currency of the prices, as its ISO 4217 code. It must be the currency of the shop, which is also assumed if
    /// it is absent.
    #[serde(default)]
    pub currency: Option<String>,
    /// Flat field: the pieces on hand of the only SKU, 0 to 10¹²; the ledger records the difference. Null is refused,
    /// and so is another number than the current one if `track_stock` is false.
    #[serde(default)]
    pub stock: Patch<i64>,
    /// Flat field: whether the stock of the only SKU is tracked; null is refused. If it is false, the SKU is always in
    /// stock and its stock does not move.
    #[serde(default)]
    pub track_stock: Patch<bool>,
    /// Flat field: the code of the only SKU, 1–100 characters, unique among live SKUs; null is refused.
    #[serde(default)]
    pub sku: Patch<String>,
    /// Flat field: the weight of the only SKU in the shop's unit, 0–1,000,000,000, with at most two decimal places;
    /// null removes it.
    #[serde(default)]
    pub weight: Patch<ExactDecimal>,
    /// Flat field: the dimensions of the only SKU, merged into the existing ones; null removes them.
    #[serde(default)]
    pub dimensions: Patch<DimensionsPatch>,
    /// Flat field: the barcode of the only SKU, 1–100 characters; null removes it.
    #[serde(default)]
    pub barcode: Patch<String>,
    /// Flat field: the low-stock threshold of the only SKU, 0 to 10¹²; null is refused.
    #[serde(default)]
    pub low_stock_threshold: Patch<i64>,
    /// The version of the product that the client read (R1), unless `If-Match` names it.
    #[serde(default)]
    pub version: Option<i64>,
}

impl ProductPatch {
    /// Returns the first flat SKU field that is present.
    pub(crate) fn flat_field(&self) -> Option<&'static str> {
        [
            ("price", self.price.is_present()),
            ("stock", self.stock.is_present()),
            ("track_stock", self.track_stock.is_present()),
            ("sku", self.sku.is_present()),
            ("weight", self.weight.is_present()),
            ("dimensions", self.dimensions.is_present()),
            ("barcode", self.barcode.is_present()),
            ("low_stock_threshold", self.low_stock_threshold.is_present()),
        ]
        .into_iter()
        .find_map(|(name, present)| present.then_some(name))
    }

    /// Merges the patch into a product, and returns the result as an input.
    ///
    /// # Errors
    /// `Validation` for a field that must not be null; `FLAT_WRITE_REFUSED` for flat fields on a product with several
    /// SKUs.
    pub(crate) fn onto(self, current: &Product) -> Result<ProductInput> {
        let flat = self.flat_field();
        let mut e = ValidationErrors::default();
        let mut p = ProductInput::without_skus(current);
        self.title.apply_required(&mut p.title, "title", &mut e);
        self.slug.apply(&mut p.slug);
        self.description.apply(&mut p.description);
        self.brand.apply(&mut p.brand);
        self.status.apply_required(&mut p.status, "status", &mut e);
        match (self.categories, self.category) {
            (Patch::Keep, Patch::Keep) => {}
            (c, Patch::Keep) => c.apply(&mut p.categories),
            (c, category) => {
                if c.is_present() {
                    e.push(
                        "category",
                        FieldCode::Inconsistent,
                        "cannot be combined with `categories`: send one of the two",
                    );
                }
                p.categories = None;
                category.apply(&mut p.category);
            }
        }
        or_default(self.tags, &mut p.tags);
        or_default(self.images, &mut p.images);
        self.attributes.merge_into(&mut p.attributes);
        self.discount_percentage.apply(&mut p.discount_percentage);
        self.warranty_information.apply(&mut p.warranty_information);
        self.shipping_information.apply(&mut p.shipping_information);
        p.currency = self.currency;

        match (self.skus, flat) {
            (Patch::Keep, None) => {}
            (Patch::Keep, Some(field)) => {
                if current.skus.len() > 1 {
                    return Err(
                        CatalogConflict::FlatWrite { product: current.id.0, skus: current.skus.len(), field }.into()
                    );
                }
                let mut s = current.default_sku().map(SkuInput::from).unwrap_or_default();
                require(self.price, &mut s.price, "price", &mut e);
                require(self.stock, &mut s.stock, "stock", &mut e);
                require(self.track_stock, &mut s.track_stock, "track_stock", &mut e);
                require(self.sku, &mut s.code, "sku", &mut e);
                self.weight.apply(&mut s.weight);
                DimensionsPatch::merge(self.dimensions, &mut s.dimensions, &mut e);
                self.barcode.apply(&mut s.barcode);
                require(self.low_stock_threshold, &mut s.low_stock_threshold, "low_stock_threshold", &mut e);
                p.skus = Some(vec![s]);
            }
            (Patch::Set(_), Some(field)) => {
                e.push(field, FieldCode::Inconsistent, "cannot be combined with `skus`: set it on an entry of `skus`");
            }
            (Patch::Set(skus), None) => p.skus = Some(skus),
            (Patch::Clear, _) => {
                e.push("skus", FieldCode::Required, "must not be null, because a product has at least one SKU");
            }
        }
        e.into_result()?;
        Ok(p)
    }
}

fn or_default<T: Default>(patch: Patch<T>, to: &mut T) {
    match patch {
        Patch::Keep => {}
        Patch::Clear => *to = T::default(),
        Patch::Set(v) => *to = v,
    }
}

/// Merges a field that a patch may change but not remove.
pub(crate) fn require<T>(patch: Patch<T>, to: &mut Option<T>, field: &str, e: &mut ValidationErrors) {
    match patch {
        Patch::Clear => e.push(field, FieldCode::Required, "must not be null"),
        patch => patch.apply(to),
    }
}
