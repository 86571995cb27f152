//! Exports products: as the documents and the tables that an import reads.

use std::borrow::Cow;
use std::io::Write;
use std::sync::Arc;

use derive_setters::Setters;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::domain::access::principal::{Permission, Principal};
use crate::domain::catalog::product::{Image, Product, ProductStatus, RatingSource};
use crate::domain::catalog::sku::Sku;
use crate::domain::common::IncludeDeleted;
use crate::error::{Error, FieldCode, Result, ValidationErrors};
use crate::id::ProductId;
use crate::service::catalog::import::{Column, ColumnMap, Field, ImportKind, Level, PRODUCT_FIELDS, Type, joined};
use crate::service::run::context::Context;
use crate::text::guard_formula;

/// Products that are read at a time.
const PAGE: u32 = 500;

/// The format of an export.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum ExportFormat {
    /// A [`ProductRecord`](crate::catalog::ProductRecord) per line.
    #[default]
    NdJson,
    /// CSV with the columns of the map, in its order, or with our own columns for [`ColumnMap::own`]. A product has one
    /// row per SKU; the fields of the product are in its first row, except for those that tell which rows belong
    /// together. A column map without `external_id`, `slug` or `group` cannot tell that, so that an import would take
    /// each row for a product of its own.
    ///
    /// A cell that a spreadsheet would take for a formula (it begins with `=`, `+`, `-`, `@`, a tab or a carriage return) gets an apostrophe
    /// before it, as in the exports of WooCommerce, and an import removes the apostrophe.
    Csv(ColumnMap),
}

/// The options of an export.
#[derive(Debug, Clone, Default, Setters)]
#[setters(strip_option)]
#[non_exhaustive]
pub struct ExportOptions {
    /// The format.
    pub format: ExportFormat,
    /// Only products that were imported from this system.
    #[setters(into)]
    pub source: Option<String>,
    /// Only products with this status.
    pub status: Option<ProductStatus>,
}

/// The result of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[non_exhaustive]
pub struct ExportReport {
    /// Products that were written.
    pub products: u64,
    /// SKUs that were written.
    pub skus: u64,
}

/// The service of exports.
///
/// ```
/// # async fn app(shop: ecom_core::Shop) -> Result<(), Box<dyn std::error::Error>> {
/// use ecom_core::catalog::ExportOptions;
///
/// let file = std::io::BufWriter::new(std::fs::File::create("products.ndjson")?);
/// let report = shop.export().products(file, ExportOptions::default(), |so_far| println!("{}", so_far.products)).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy)]
pub struct ExportService<'a> {
    cx: &'a Arc<Context>,
    who: &'a Principal,
}

impl<'a> ExportService<'a> {
    pub(crate) const fn new(cx: &'a Arc<Context>, who: &'a Principal) -> Self {
        Self { cx, who }
    }

    /// Writes the live products with their SKUs, drafts and archived ones too, by their ids and thus in the order in
    /// which they were created. It reads some hundreds at a time, so memory is bounded, and a product that changes
    /// meanwhile is written as it was before or after.
    ///
    /// An import of the export into the same shop writes nothing. An import into an empty shop creates the same
    /// products, of which a second export is the same to the byte, unless products have exchanged a title, a SKU code
    /// or a slug since they were created. Categories are named by their paths, so import them first to keep their names. Reviews and prices in the
    /// past are not a part of products; a rating is written if it came from outside. Ids, times and versions are new.
    ///
    /// `on_progress` is called after each page.
    ///
    /// # Errors
    /// `Forbidden` without `products:read`. `Validation` for a column map that names fields that products do not have,
    /// or whose encoding lacks a character of a product. `Unavailable` if the database is. `Internal` if `to` cannot be
    /// written.
    pub async fn products(
        &self,
        to: impl Write + Send,
        options: ExportOptions,
        mut on_progress: impl FnMut(&ExportReport) + Send,
    ) -> Result<ExportReport> {
        self.who.require(Permission::ProductsRead)?;
        let ExportOptions { format, source, status } = options;
        if let ExportFormat::Csv(map) = &format {
            let mut errors = ValidationErrors::default();
            map.check(ImportKind::Products, &mut errors);
            errors.into_result()?;
        }
        let mut to = Output { to, report: ExportReport::default() };
        let table = match format {
            ExportFormat::NdJson => None,
            ExportFormat::Csv(map) => Some(Table::new(map)),
        };
        if let Some(table) = &table {
            to.write(&table.header()?)?;
        }
        let mut after: Option<ProductId> = None;
        loop {
            let mut db = self.cx.storage.connect().await?;
            let page = db.products().revisions(after, PAGE).await?;
            let ids: Vec<ProductId> = page.iter().map(|(id, _)| *id).collect();
            let Some(last) = ids.last() else { break };
            after = Some(*last);
            let mut products = db.products().get_many(&ids, IncludeDeleted::No).await?;
            drop(db);
            products.sort_by_key(|p| p.id);
            for product in products {
                let is_of = |source: &String| product.external.as_ref().is_some_and(|x| x.source == *source);
                if source.as_ref().is_some_and(|s| !is_of(s)) || status.is_some_and(|s| s != product.status) {
                    continue;
                }
                match &table {
                    None => to.write(format!("{}\n", document(&product)).as_bytes())?,
                    Some(table) => to.write(&table.rows(&product)?)?,
                }
                to.report.products += 1;
                to.report.skus += u64::try_from(product.skus.len()).unwrap_or(0);
            }
            on_progress(&to.report);
        }
        to.to.flush().map_err(failed)?;
        Ok(to.report)
    }
}

fn failed(e: std::io::Error) -> Error {
    Error::internal("writing an export", e)
}

struct Output<W> {
    to: W,
    report: ExportReport,
}

impl<W: Write> Output<W> {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.to.write_all(bytes).map_err(failed)
    }
}

/// Returns a product as a record of an import.
fn document(p: &Product) -> Value {
    let mut record = Map::new();
    let mut set = |name: &str, value: Value| {
        if !value.is_null() {
            record.insert(name.to_owned(), value);
        }
    };
    for (name, _, _) in PRODUCT_FIELDS.iter().filter(|(_, level, _)| *level == Level::Product) {
        match *name {
            "images" => set(name, images(p)),
            "image_alts" | "image_sizes" | "primary_image" => {}
            name => set(name, product_value(p, name)),
        }
    }
    set("skus", p.skus.iter().map(sku_document).collect());
    Value::Object(record)
}

fn images(p: &Product) -> Value {
    let image = |i: &Image| {
        let mut record = json!({ "url": i.url, "primary": i.primary });
        if let Some(alt) = &i.alt {
            record["alt"] = alt.as_str().into();
        }
        if let (Some(width), Some(height)) = (i.width, i.height) {
            record["width"] = width.into();
            record["height"] = height.into();
        }
        record
    };
    p.images.iter().map(image).collect()
}

fn sku_document(s: &Sku) -> Value {
    let mut record = Map::new();
    for (name, ..) in PRODUCT_FIELDS.iter().filter(|(_, level, _)| *level == Level::Sku) {
        let (name, value) = match *name {
            "width" | "height" | "depth" => continue,
            "sku" => ("code", sku_value(s, "sku")),
            "sku_attributes" => ("attributes", sku_value(s, "sku_attributes")),
            name => (name, sku_value(s, name)),
        };
        if !value.is_null() {
            record.insert(name.to_owned(), value);
        }
    }
    if let Some(d) = &s.dimensions {
        let texts = json!({
            "width": d.width.to_string(), "height": d.height.to_string(), "depth": d.depth.to_string(),
        });
        record.insert("dimensions".to_owned(), texts);
    }
    Value::Object(record)
}

fn object(map: &Map<String, Value>) -> Value {
    if map.is_empty() { Value::Null } else { Value::Object(map.clone()) }
}

/// Returns a field of a product, null if it has no value.
fn product_value(p: &Product, field: &str) -> Value {
    let external = p.external.as_ref();
    let rated = p.rating.source == RatingSource::External;
    match field {
        "source" => external.map(|x| x.source.as_str()).into(),
        "external_id" => external.map(|x| x.external_id.as_str()).into(),
        "title" => p.title.as_str().into(),
        "slug" => p.slug.as_str().into(),
        "description" => p.description.as_deref().into(),
        "brand" => p.brand.as_deref().into(),
        "status" => p.status.as_str().into(),
        // The list is written even if it is empty, so that an import removes the product from its categories.
        "categories" => p.categories.iter().map(|c| Value::from(c.path.as_str())).collect(),
        "tags" => p.tags.clone().into(),
        "images" => p.images.iter().map(|i| Value::from(i.url.as_str())).collect(),
        "image_alts" => {
            let alts = p.images.iter().filter_map(|i| Some((i.url.clone(), Value::from(i.alt.as_deref()?))));
            object(&alts.collect())
        }
        "image_sizes" => {
            let size = |i: &Image| Some((i.url.clone(), json!({ "width": i.width?, "height": i.height? })));
            object(&p.images.iter().filter_map(size).collect())
        }
        "primary_image" => p.images.iter().skip(1).find(|i| i.primary).map(|i| i.url.as_str()).into(),
        "attributes" => object(&p.attributes.0),
        "discount_percentage" => p.discount.to_string().into(),
        "warranty_information" => p.warranty_information.as_deref().into(),
        "shipping_information" => p.shipping_information.as_deref().into(),
        "rating" if rated => p.rating.mean.to_string().into(),
        "review_count" if rated => p.rating.count.into(),
        _ => Value::Null,
    }
}

/// Returns a field of a SKU, null if it has no value.
fn sku_value(s: &Sku, field: &str) -> Value {
    let dimension = |of: fn(&crate::domain::catalog::sku::Dimensions) -> String| s.dimensions.as_ref().map(of).into();
    match field {
        "sku" => s.code.as_str().into(),
        "option_values" => {
            object(&s.option_values.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect())
        }
        "price" => s.price.amount().to_string().into(),
        "currency" => s.price.currency().code().into(),
        // The stock of an untracked SKU is not written, so that an import leaves it as it is.
        "stock" if s.track_stock => s.on_hand.into(),
        "track_stock" => s.track_stock.into(),
        "low_stock_threshold" => s.low_stock_threshold.into(),
        "weight" => s.weight.map(|w| w.to_string()).into(),
        "width" => dimension(|d| d.width.to_string()),
        "height" => dimension(|d| d.height.to_string()),
        "depth" => dimension(|d| d.depth.to_string()),
        "barcode" => s.barcode.as_deref().into(),
        "sku_attributes" => object(&s.attributes.0),
        _ => Value::Null,
    }
}

/// The columns of a table.
struct Table {
    map: ColumnMap,
    columns: Vec<(String, Field, Option<Column>)>,
}

impl Table {
    fn new(map: ColumnMap) -> Self {
        let named =
            map.columns().iter().filter_map(|c| Some((c.name.clone(), Field::parse(&c.field)?, Some(c.clone()))));
        let mut columns: Vec<_> = named.collect();
        if columns.is_empty() {
            columns = PRODUCT_FIELDS
                .iter()
                .map(|(name, level, kind)| ((*name).to_owned(), Field::Known(name, *level, *kind), None))
                .collect();
        }
        Self { map, columns }
    }

    fn header(&self) -> Result<Vec<u8>> {
        let mut line = Vec::new();
        for (i, (name, ..)) in self.columns.iter().enumerate() {
            self.put(&mut line, i, name)?;
        }
        line.push(b'\n');
        Ok(line)
    }

    /// Returns the rows of a product, one per SKU.
    fn rows(&self, p: &Product) -> Result<Vec<u8>> {
        let mut rows = Vec::new();
        for (n, sku) in p.skus.iter().enumerate() {
            for (i, (name, field, column)) in self.columns.iter().enumerate() {
                let in_each = field.level() == Level::Sku
                    || matches!(field, Field::Known("external_id" | "source" | "slug", ..))
                    || self.map.group() == Some(name);
                let text = if n == 0 || in_each { self.text(p, sku, field, column.as_ref()) } else { String::new() };
                let text = if matches!(field, Field::Known(_, _, Type::Decimal | Type::Integer)) {
                    Cow::from(text)
                } else {
                    Cow::from(guard_formula(&text).into_owned())
                };
                self.put(&mut rows, i, &text)?;
            }
            rows.push(b'\n');
        }
        Ok(rows)
    }

    fn text(&self, p: &Product, sku: &Sku, field: &Field, column: Option<&Column>) -> String {
        let plain = |value: &Value| match value {
            Value::Null => String::new(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        match field {
            Field::Option(name) => sku.option_values.get(name).cloned().unwrap_or_default(),
            Field::Attribute(name) => p.attributes.0.get(name).map(plain).unwrap_or_default(),
            Field::SkuAttribute(name) => sku.attributes.0.get(name).map(plain).unwrap_or_default(),
            Field::Known(name, level, kind) => {
                let value = if *level == Level::Sku { sku_value(sku, name) } else { product_value(p, name) };
                match (kind, &value) {
                    (Type::List, Value::Array(values)) => {
                        joined(values.iter().filter_map(Value::as_str), self.map.separator(column))
                    }
                    (Type::Decimal, _) if self.map.decimal_comma() => plain(&value).replace('.', ","),
                    _ => plain(&value),
                }
            }
        }
    }

    /// Adds a cell, in quotes if it needs them.
    fn put(&self, line: &mut Vec<u8>, at: usize, text: &str) -> Result<()> {
        let (delimiter, quote) = (self.map.delimiter(), self.map.quote());
        if at > 0 {
            line.push(delimiter);
        }
        let Some(bytes) = self.map.encode(text) else {
            let message = format!("lacks a character of `{}`: use utf-8", crate::text::shown(text));
            return Err(Error::invalid("format.encoding", FieldCode::OutOfBounds, message));
        };
        let needs_quotes = bytes.iter().any(|b| *b == delimiter || *b == quote || matches!(b, b'\n' | b'\r'));
        if !needs_quotes {
            line.extend_from_slice(&bytes);
            return Ok(());
        }
        line.push(quote);
        for byte in bytes.iter() {
            if *byte == quote {
                line.push(quote);
            }
            line.push(*byte);
        }
        line.push(quote);
        Ok(())
    }
}
