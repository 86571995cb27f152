//! The inputs that create and replace products, and the values of a valid input.

use std::collections::HashSet;

use derive_setters::Setters;
use serde::Deserialize;
use serde_json::Value;

use super::{Image, Product, ProductStatus, RatingSummary};
use crate::domain::catalog::category::{check_external, check_slug};
use crate::domain::catalog::sku::{DimensionsInput, Sku, SkuInput, SkuValues};
use crate::domain::common::{Attributes, ExternalRef};
use crate::error::{CatalogConflict, FieldCode, Result, ValidationErrors};
use crate::id::SkuId;
use crate::money::{Currency, ExactDecimal, Money, Percentage};
use crate::text::{Slug, check_text, fold_key, trimmed};

/// An image of a product.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ImageInput {
    /// An absolute `http` or `https` URL, or a path that starts with a single `/`; 1–500 characters.
    pub url: String,
    /// The text for people who do not see the image, at most 255 characters.
    #[serde(default)]
    pub alt: Option<String>,
    /// Whether this is the primary image of the product, false if absent. At most one image can be primary; if none is,
    /// the first one becomes it.
    #[serde(default)]
    pub primary: bool,
    /// The width in pixels, so that pages can leave room for the image before it is loaded; 1–100,000. It needs a
    /// height too.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 100_000, example = 800))]
    pub width: Option<u32>,
    /// The height in pixels, 1–100,000. It needs a width too.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 100_000, example = 800))]
    pub height: Option<u32>,
}

/// A product to create or to replace (PUT). Its SKUs are either listed in `skus`, or there is one SKU, the default SKU,
/// whose values are the flat fields of the product: `price`, `stock`, `track_stock`, `sku`, `weight`, `dimensions`,
/// `barcode` and `low_stock_threshold`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Setters)]
#[serde(deny_unknown_fields)]
#[setters(strip_option, into)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ProductInput {
    /// The title, 1–255 characters.
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 255, example = "Field Notebook"))]
    #[setters(skip)]
    pub title: String,
    /// The name of the product in URLs: 1–100 characters of a-z, 0-9 and -, unique among live products. If it is
    /// absent, it is derived from the title.
    #[serde(default)]
    pub slug: Option<String>,
    /// The description, at most 50,000 characters.
    #[serde(default)]
    pub description: Option<String>,
    /// The brand, at most 100 characters.
    #[serde(default)]
    pub brand: Option<String>,
    /// Whether the product is on sale; `active` if absent.
    #[serde(default)]
    pub status: ProductStatus,
    /// The categories of the product, at most 50, each by its id, slug or path. Duplicates are dropped.
    #[serde(default)]
    #[setters(skip)]
    pub categories: Option<Vec<String>>,
    /// The only category of the product, by its id, slug or path. It cannot be combined with `categories`.
    #[serde(default)]
    #[setters(skip)]
    pub category: Option<String>,
    /// The tags, at most 50 of 1–50 characters each. Duplicates, ignoring case, are dropped.
    #[serde(default)]
    #[setters(skip)]
    pub tags: Vec<String>,
    /// The images in the order of display, at most 50.
    #[serde(default)]
    #[setters(skip)]
    pub images: Vec<ImageInput>,
    /// Free attributes: a JSON object of at most 16 KiB, nested at most 30 levels deep; empty if absent.
    #[serde(default, deserialize_with = "Attributes::from_input")]
    #[setters(skip)]
    pub attributes: Attributes,
    /// The discount on the price of every SKU, in percent: 0–100, with at most two decimal places; 0 if absent.
    #[serde(default)]
    pub discount_percentage: Option<ExactDecimal>,
    /// The warranty terms, at most 255 characters.
    #[serde(default)]
    pub warranty_information: Option<String>,
    /// The shipping terms, at most 255 characters.
    #[serde(default)]
    pub shipping_information: Option<String>,
    /// The system that the product was imported from, 1–100 characters; requires `external_id`. If it is absent, a
    /// replaced product keeps its own.
    #[serde(default)]
    pub source: Option<String>,
    /// The id of the product in that system, 1–255 characters; requires `source`. No other live product has the same
    /// `source` and `external_id`.
    #[serde(default)]
    pub external_id: Option<String>,
    /// The SKUs in the order of display, 1–200; the first one is the default SKU. If a replacement does not list a SKU
    /// of the product, that SKU is soft-deleted.
    #[serde(default)]
    #[setters(skip)]
    pub skus: Option<Vec<SkuInput>>,
    /// Flat field: the price of the default SKU before the discount, in the shop's currency, 0 or more. Required if
    /// there are no `skus`.
    #[serde(default)]
    #[setters(skip)]
    pub price: Option<ExactDecimal>,
    /// The currency of the prices, as its ISO 4217 code. It must be the currency of the shop, which is also assumed if
    /// it is absent.
    #[serde(default)]
    #[setters(skip)]
    pub currency: Option<String>,
    /// Flat field: the pieces on hand of the default SKU, 0 to 10¹². If it is absent, a new SKU has 0, and an existing
    /// one keeps its stock. If `track_stock` is false, no other number is accepted.
    #[serde(default)]
    pub stock: Option<i64>,
    /// Flat field: whether the stock of the default SKU is tracked; true if absent. If it is false, the SKU is always in
    /// stock and its stock does not move.
    #[serde(default)]
    pub track_stock: Option<bool>,
    /// Flat field: the code of the default SKU, 1–100 characters, unique among live SKUs. If it is absent, a new SKU
    /// gets a code that is derived from the slug of the product, and an existing one keeps its code.
    #[serde(default)]
    pub sku: Option<String>,
    /// Flat field: the weight of the default SKU in the shop's unit, 0–1,000,000,000, with at most two decimal places.
    #[serde(default)]
    pub weight: Option<ExactDecimal>,
    /// Flat field: the dimensions of the default SKU.
    #[serde(default)]
    pub dimensions: Option<DimensionsInput>,
    /// Flat field: the barcode of the default SKU, 1–100 characters.
    #[serde(default)]
    pub barcode: Option<String>,
    /// Flat field: the low-stock threshold of the default SKU, 0 to 10¹²; 5 if absent. If this many or fewer pieces are
    /// available, the availability is `limited`.
    #[serde(default)]
    pub low_stock_threshold: Option<i64>,
    /// The version of the product that the client read (R1). Only a replacement without `If-Match` uses it.
    #[serde(default)]
    pub version: Option<i64>,
}

/// The values of a valid input. The library adds the others, such as the id and the version.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ProductValues {
    /// See [`Product::title`].
    pub title: String,
    /// The slug; `None` if it is derived from the title.
    pub slug: Option<Slug>,
    /// See [`Product::description`].
    pub description: Option<String>,
    /// See [`Product::brand`].
    pub brand: Option<String>,
    /// See [`Product::status`].
    pub status: ProductStatus,
    /// The ids, slugs or paths of the categories, which the service resolves.
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
    /// An external rating, which only an import sets. `None` keeps the current rating.
    pub rating: Option<RatingSummary>,
    /// The SKUs; `None` keeps the current ones, if a patch does not list any.
    pub skus: Option<Vec<(Option<SkuId>, SkuValues)>>,
    /// Whether the values of the only SKU were flat fields, which errors then name.
    pub flat: bool,
}

/// The write that an input is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InputFor {
    /// A create: all SKUs are new.
    Create,
    /// A replacement.
    Replace,
    /// A patch, or a write that leaves the SKUs unchanged: without SKUs and flat fields, it keeps the current SKUs.
    Patch,
}

impl ImageInput {
    /// Returns an image that has no alternative text and no size, and is not marked as primary.
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: url.into(), alt: None, primary: false, width: None, height: None }
    }

    /// Sets the text for people who do not see the image.
    #[must_use]
    pub fn alt(mut self, text: impl Into<String>) -> Self {
        self.alt = Some(text.into());
        self
    }

    /// Sets the width and the height, in pixels.
    #[must_use]
    pub const fn size(mut self, width: u32, height: u32) -> Self {
        self.width = Some(width);
        self.height = Some(height);
        self
    }

    /// Marks the image as the primary image of its product.
    #[must_use]
    pub fn primary(mut self) -> Self {
        self.primary = true;
        self
    }
}

impl ProductInput {
    /// Returns an active product with a title. It still needs a price: either of its only SKU ([`Self::price`]), or of
    /// each of its SKUs ([`Self::with_sku`]).
    ///
    /// ```
    /// use ecom_core::catalog::{ImageInput, ProductInput, SkuInput};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let notebook = ProductInput::new("Field Notebook").price("4.50 USD".parse()?).stock(20);
    ///
    /// let tea = ProductInput::new("Sencha Yabukita")
    ///     .in_category("tea/green")
    ///     .tagged("loose leaf")
    ///     .discount_percentage(10)
    ///     .with_image(ImageInput::new("/images/sencha.jpg").alt("A tin of tea"))
    ///     .with_sku(SkuInput::new("6.90 USD".parse()?).code("TEA-50").option("size", "50 g").stock(40))
    ///     .with_sku(SkuInput::new("12.50 USD".parse()?).code("TEA-100").option("size", "100 g").stock(25));
    /// # Ok(())
    /// # }
    /// ```
    pub fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), ..Self::default() }
    }

    /// Adds a category, by its id, slug or path.
    #[must_use]
    #[expect(clippy::needless_pass_by_value, reason = "an id, a slug, and a text in quotes read the same")]
    pub fn in_category(mut self, reference: impl ToString) -> Self {
        self.categories.get_or_insert_default().push(reference.to_string());
        self
    }

    /// Adds a tag.
    #[must_use]
    pub fn tagged(mut self, tag: impl Into<String>) -> Self {
        self.tags.push(tag.into());
        self
    }

    /// Appends an image.
    #[must_use]
    pub fn with_image(mut self, image: ImageInput) -> Self {
        self.images.push(image);
        self
    }

    /// Sets one attribute.
    #[must_use]
    pub fn attribute(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.attributes.0.insert(name.into(), value.into());
        self
    }

    /// Appends a SKU. A product that lists its SKUs must not have a flat price, stock, `track_stock`, code, weight,
    /// dimensions, barcode or threshold.
    #[must_use]
    pub fn with_sku(mut self, sku: SkuInput) -> Self {
        self.skus.get_or_insert_default().push(sku);
        self
    }

    /// Sets the price of the product's only SKU, in the shop's currency.
    #[must_use]
    pub fn price(mut self, price: Money) -> Self {
        self.price = Some(price.amount().into());
        self.currency = Some(price.currency().to_string());
        self
    }

    /// Returns the first flat SKU field that is present.
    fn flat_field(&self) -> Option<&'static str> {
        [
            ("price", self.price.is_some()),
            ("stock", self.stock.is_some()),
            ("track_stock", self.track_stock.is_some()),
            ("sku", self.sku.is_some()),
            ("weight", self.weight.is_some()),
            ("dimensions", self.dimensions.is_some()),
            ("barcode", self.barcode.is_some()),
            ("low_stock_threshold", self.low_stock_threshold.is_some()),
        ]
        .into_iter()
        .find_map(|(name, present)| present.then_some(name))
    }

    /// Refuses flat fields for a product with several SKUs.
    ///
    /// # Errors
    /// `FLAT_WRITE_REFUSED`.
    pub(crate) fn check_flat_against(&self, current: &Product) -> Result<()> {
        match self.flat_field() {
            Some(field) if current.skus.len() > 1 => {
                Err(CatalogConflict::FlatWrite { product: current.id.0, skus: current.skus.len(), field }.into())
            }
            _ => Ok(()),
        }
    }

    /// Checks a product against the bounds of `docs/rules.md`, "Product", and returns its values.
    ///
    /// # Errors
    /// `Validation` with each invalid field; `CURRENCY_MISMATCH`.
    pub(crate) fn check(&self, currency: Currency, write: InputFor) -> Result<ProductValues> {
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
                e.out_of_bounds("discount_percentage", why.to_string());
                Percentage::default()
            }
            Some(Ok(p)) => p,
            None => Percentage::default(),
        };
        check_external("", self.source.as_deref(), self.external_id.as_deref(), e);
        let categories = match (&self.categories, &self.category) {
            (Some(_), Some(_)) => {
                e.push(
                    "category",
                    FieldCode::Inconsistent,
                    "cannot be combined with `categories`: send one of the two",
                );
                Vec::new()
            }
            (Some(all), None) => all.clone(),
            (None, Some(one)) => vec![one.clone()],
            (None, None) => Vec::new(),
        };
        if categories.len() > 50 {
            e.out_of_bounds("categories", "must have at most 50 entries");
        }
        let skus = self.check_skus(currency, write, e);
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
            flat: self.skus.is_none(),
        })
    }

    fn check_skus(
        &self,
        currency: Currency,
        write: InputFor,
        e: &mut ValidationErrors,
    ) -> Option<Vec<(Option<SkuId>, SkuValues)>> {
        let flat = self.flat_field();
        let new = write == InputFor::Create;
        if let Some(skus) = &self.skus {
            if let Some(field) = flat {
                e.push(field, FieldCode::Inconsistent, "cannot be combined with `skus`: set it on an entry of `skus`");
            }
            if skus.is_empty() || skus.len() > 200 {
                e.out_of_bounds("skus", "must have 1 to 200 entries");
                return None;
            }
            let mut seen = HashSet::new();
            let mut values = Vec::with_capacity(skus.len());
            for (i, s) in skus.iter().enumerate() {
                if let Some(c) = &s.code
                    && c.len() <= 400
                    && !seen.insert(fold_key(c))
                {
                    e.push(
                        format!("skus[{i}].code"),
                        FieldCode::Inconsistent,
                        "is used by another SKU of this product: choose a different code",
                    );
                }
                values.extend(s.check(&format!("skus[{i}]."), currency, new, e).map(|v| (s.id, v)));
            }
            return Some(values);
        }
        if flat.is_none() && write == InputFor::Patch {
            return None;
        }
        let sku = SkuInput {
            code: self.sku.clone(),
            price: self.price,
            weight: self.weight,
            dimensions: self.dimensions,
            stock: self.stock,
            track_stock: self.track_stock,
            low_stock_threshold: self.low_stock_threshold,
            barcode: self.barcode.clone(),
            ..SkuInput::default()
        };
        let mut inner = ValidationErrors::default();
        let values = sku.check("", currency, new, &mut inner);
        e.0.extend(flat_names(inner).0);
        Some(values.map(|v| (None, v)).into_iter().collect())
    }
}

/// Renames the errors of a flat write's only SKU to the flat fields of the product.
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

impl From<&Product> for ProductInput {
    /// Returns an input that replaces the product by itself, with all its SKUs. They have no stock, so that the stock
    /// stays unchanged.
    fn from(p: &Product) -> Self {
        Self { skus: Some(p.skus.iter().map(SkuInput::from).collect()), ..Self::without_skus(p) }
    }
}

impl ProductInput {
    /// Returns the fields of a product, for a write that leaves its SKUs unchanged.
    pub(crate) fn without_skus(p: &Product) -> Self {
        Self {
            title: p.title.clone(),
            slug: Some(p.slug.to_string()),
            description: p.description.clone(),
            brand: p.brand.clone(),
            status: p.status,
            categories: Some(p.categories.iter().map(|c| c.id.to_string()).collect()),
            tags: p.tags.clone(),
            images: p.images.iter().map(ImageInput::from).collect(),
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

impl From<&Image> for ImageInput {
    fn from(image: &Image) -> Self {
        let Image { url, alt, primary, width, height } = image.clone();
        Self { url, alt, primary, width, height }
    }
}

impl From<&Sku> for SkuInput {
    /// Returns an input that replaces the SKU by itself. It has no stock, so that the stock stays unchanged.
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
            track_stock: Some(s.track_stock),
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
        errors.out_of_bounds("tags", "must have at most 50 entries");
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
        errors.out_of_bounds("images", "must have at most 50 entries");
        return Vec::new();
    }
    if images.iter().filter(|i| i.primary).count() > 1 {
        errors.out_of_bounds("images", "must have at most one primary image");
    }
    let none_primary = images.iter().all(|i| !i.primary);
    let mut out = Vec::with_capacity(images.len());
    for (i, image) in images.iter().enumerate() {
        let field = format!("images[{i}].url");
        check_text(&field, &image.url, 1, 500, errors);
        let absolute = url::Url::parse(&image.url).is_ok_and(|u| matches!(u.scheme(), "http" | "https"));
        let local = image.url.starts_with('/') && !image.url.starts_with("//");
        if !absolute && !local {
            errors.out_of_bounds(field, "must be an http or https URL, or a path that starts with a single /");
        }
        check_optional(&format!("images[{i}].alt"), image.alt.as_deref(), 255, errors);
        for (name, pixels, other) in [("width", image.width, image.height), ("height", image.height, image.width)] {
            let field = format!("images[{i}].{name}");
            match pixels {
                Some(pixels) if !(1..=Image::MAX_SIZE).contains(&pixels) => {
                    errors.out_of_bounds(field, "must be 1 to 100,000 pixels");
                }
                None if other.is_some() => {
                    errors.push(
                        field,
                        FieldCode::Inconsistent,
                        "is missing: send both `width` and `height`, or neither",
                    );
                }
                _ => {}
            }
        }
        out.push(Image {
            url: image.url.clone(),
            alt: trimmed(image.alt.as_deref()),
            primary: image.primary || (none_primary && i == 0),
            width: image.width,
            height: image.height,
        });
    }
    out
}
