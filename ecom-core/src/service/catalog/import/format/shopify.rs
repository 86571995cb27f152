//! The product export of Shopify.
//!
//! A product is several rows with the same handle: one per variant, and one per further image. The columns of the
//! product are in its first row. The new names of columns, such as `URL handle` and `Price`, are read as well.

use std::collections::{BTreeMap, HashSet};

use rust_decimal::Decimal;
use serde_json::{Map, Value, json};

use super::cells::{integer, plain, read_boolean, split};
use super::columns::ColumnMap;
use super::csv::{Grouped, Layout};
use super::price::{Prices, attribute, category_path, measure, set_codes, set_prices, snake, text_of_html};
use super::rows::{Row, Table};
use super::{Reader, RecordSource};
use crate::money::Currency;
use crate::service::catalog::import::{EndedEarly, Rejection};
use crate::text::Slug;

/// The system that the products of Shopify belong to by default.
const SOURCE: &str = "shopify";

/// The columns that are read, with their new names.
const COLUMNS: &[&[&str]] = &[
    &["Handle", "URL handle"],
    &["Title"],
    &["Body (HTML)", "Description"],
    &["Vendor"],
    &["Type"],
    &["Product Category", "Product category"],
    &["Tags"],
    &["Published", "Published on online store"],
    &["Status"],
    &["Option1 Name", "Option1 name"],
    &["Option1 Value", "Option1 value"],
    &["Option2 Name", "Option2 name"],
    &["Option2 Value", "Option2 value"],
    &["Option3 Name", "Option3 name"],
    &["Option3 Value", "Option3 value"],
    &["Variant SKU", "SKU"],
    &["Variant Grams", "Weight value (grams)"],
    &["Variant Inventory Tracker", "Inventory tracker"],
    &["Variant Inventory Qty", "Inventory quantity"],
    &["Variant Inventory Policy", "Continue selling when out of stock"],
    &["Variant Price", "Price"],
    &["Variant Compare At Price", "Compare-at price"],
    &["Variant Requires Shipping", "Requires shipping"],
    &["Variant Taxable", "Charge tax"],
    &["Variant Barcode", "Barcode"],
    &["Image Src", "Product image URL"],
    &["Image Position", "Image position"],
    &["Image Alt Text", "Image alt text"],
    &["Gift Card", "Gift card"],
    &["SEO Title", "SEO title"],
    &["SEO Description", "SEO description"],
    &["Variant Image", "Variant image URL"],
];

/// Columns that are ignored silently, because no shop shows them: the shipping service, the unit of a form, and the
/// metafields that options are linked to.
const SILENT: &[&str] = &[
    "Variant Fulfillment Service",
    "Fulfillment service",
    "Variant Weight Unit",
    "Weight unit for display",
    "Option1 Linked To",
    "Option2 Linked To",
    "Option3 Linked To",
];

pub(super) fn open(
    reader: Reader,
    delimiter: u8,
    limit: usize,
    currency: Option<Currency>,
) -> Result<Box<dyn RecordSource>, EndedEarly> {
    let table = Table::open(reader, &ColumnMap::own().with_delimiter(delimiter), limit)?;
    let at = |name: &str| table.header.iter().position(|n| n.eq_ignore_ascii_case(name));
    let read: BTreeMap<&'static str, usize> =
        COLUMNS.iter().filter_map(|names| Some((*names.first()?, names.iter().find_map(|name| at(name))?))).collect();
    if !table.header.is_empty() {
        for name in ["Handle", "Title"] {
            if !read.contains_key(name) {
                return Err(super::stopped(format!("the header lacks the column `{name}`"), 1, 0));
            }
        }
    }
    let other = (0..table.header.len()).filter(|i| !read.values().any(|r| r == i)).collect();
    let header = table.header.clone();
    Ok(Box::new(Grouped::new(table, Products { read, other, header, currency }, limit)))
}

struct Products {
    read: BTreeMap<&'static str, usize>,
    /// The columns that are not read.
    other: Vec<usize>,
    header: Vec<String>,
    currency: Option<Currency>,
}

impl Products {
    fn cell<'r>(&self, row: &'r Row, name: &str) -> Option<&'r str> {
        row.cell(*self.read.get(name)?)
    }

    fn is(&self, row: &Row, name: &str) -> Option<bool> {
        self.cell(row, name).and_then(read_boolean)
    }

    /// Returns whether a row is a variant. A row without one adds an image.
    fn is_variant(&self, row: &Row) -> bool {
        ["Variant Price", "Variant SKU", "Option1 Value"].iter().any(|name| self.cell(row, name).is_some())
    }

    fn sku(&self, row: &Row, options: &[&str]) -> (Map<String, Value>, Prices) {
        let mut sku = Map::new();
        // Shopify writes an apostrophe before numbers, so that spreadsheets keep their zeros.
        let code = |name: &str| self.cell(row, name).map(|c| c.trim_start_matches('\''));
        if let Some(code) = code("Variant SKU") {
            sku.insert("code".to_owned(), code.into());
        }
        if let Some(barcode) = code("Variant Barcode") {
            sku.insert("barcode".to_owned(), barcode.into());
        }
        let mut values = Map::new();
        for (name, value) in options.iter().zip(["Option1 Value", "Option2 Value", "Option3 Value"]) {
            if let Some(value) = self.cell(row, value) {
                values.insert((*name).to_owned(), value.into());
            }
        }
        // The only variant of a product without options.
        if values.len() == 1 && values.get("Title").is_some_and(|v| v == "Default Title") {
            values.clear();
        }
        if !values.is_empty() {
            sku.insert("option_values".to_owned(), values.into());
        }
        if let Some(grams) = self.cell(row, "Variant Grams").filter(|g| g.parse() != Ok(0.0)) {
            sku.insert("weight".to_owned(), measure(grams, Decimal::ONE).into());
        }
        // Without a tracker, or if sales go on, the variant is always in stock, and the quantity means nothing.
        let policy = self.cell(row, "Variant Inventory Policy").unwrap_or_default();
        let oversells = policy.eq_ignore_ascii_case("continue") || read_boolean(policy) == Some(true);
        if self.cell(row, "Variant Inventory Tracker").is_none() || oversells {
            sku.insert("track_stock".to_owned(), false.into());
        } else {
            sku.insert("track_stock".to_owned(), true.into());
            if let Some(quantity) = self.cell(row, "Variant Inventory Qty") {
                // What was oversold is out of stock.
                let quantity = match integer(quantity) {
                    Value::Number(n) if n.as_i64().is_some_and(|n| n < 0) => 0.into(),
                    quantity => quantity,
                };
                sku.insert("stock".to_owned(), quantity);
            }
        }
        if let Some(image) = self.cell(row, "Variant Image") {
            attribute(&mut sku, "image", image.into());
        }
        for (column, name) in [("Variant Requires Shipping", "requires_shipping"), ("Variant Taxable", "taxable")] {
            if self.is(row, column) == Some(false) {
                attribute(&mut sku, name, false.into());
            }
        }
        let text = |name| self.cell(row, name).map(str::to_owned);
        (sku, Prices { price: text("Variant Price"), before: text("Variant Compare At Price") })
    }

    fn images(&self, rows: &[Row]) -> Vec<Value> {
        let mut images: Vec<(u64, Value)> = Vec::new();
        let mut urls = HashSet::new();
        for row in rows {
            let Some(url) = self.cell(row, "Image Src") else { continue };
            if !urls.insert(url) {
                continue;
            }
            let position = self.cell(row, "Image Position").and_then(|p| p.parse().ok()).unwrap_or(u64::MAX);
            images.push((position, json!({ "url": url, "alt": self.cell(row, "Image Alt Text") })));
        }
        // A stable sort: images without a position stay in the order of the rows, at the end.
        images.sort_by_key(|(position, _)| *position);
        images.into_iter().map(|(_, image)| image).collect()
    }

    /// Adds the cells of all other columns: those with a meaning as attributes, and the rest as unknown `columns`.
    fn others(&self, product: &mut Map<String, Value>, rows: &[Row]) {
        for i in &self.other {
            let Some(name) = self.header.get(*i) else { continue };
            let Some(cell) = rows.iter().find_map(|row| row.cell(*i)) else { continue };
            if SILENT.iter().any(|silent| silent.eq_ignore_ascii_case(name)) {
                continue;
            }
            let metafield =
                name.strip_suffix(')').and_then(|n| n.split_once("(product.metafields.")).map(|(_, key)| key);
            if let Some(key) = metafield {
                let key = key.rsplit('.').next().unwrap_or(key);
                attribute(product, &snake(key), plain(cell));
            } else if let Some(google) = name.strip_prefix("Google Shopping / ") {
                let google = snake(google);
                attribute(product, &format!("google_{}", google.trim_start_matches("google_")), plain(cell));
            } else {
                let columns = product.entry("columns").or_insert_with(|| Map::new().into());
                if let Value::Object(columns) = columns {
                    columns.insert(name.clone(), cell.into());
                }
            }
        }
    }
}

impl Layout for Products {
    fn key<'r>(&self, row: &'r Row) -> Option<&'r str> {
        self.cell(row, "Handle")
    }

    fn record(&self, rows: &[Row]) -> Result<Map<String, Value>, (Map<String, Value>, Rejection)> {
        let mut product = Map::new();
        let Some(first) = rows.first() else { return Ok(product) };
        let mut text = |name: &str, column: &str| {
            if let Some(value) = self.cell(first, column) {
                product.insert(name.to_owned(), value.into());
            }
        };
        text("external_id", "Handle");
        text("title", "Title");
        text("brand", "Vendor");
        product.insert("source".to_owned(), SOURCE.into());
        // The URL of the product, if it can be one here.
        if let Some(slug) = self.cell(first, "Handle").filter(|h| Slug::parse(h).is_ok()) {
            product.insert("slug".to_owned(), slug.into());
        }
        if let Some(html) = self.cell(first, "Body (HTML)") {
            product.insert("description".to_owned(), text_of_html(html).into());
        }
        let status = match (self.cell(first, "Status"), self.is(first, "Published")) {
            (Some(s), _) if s.eq_ignore_ascii_case("archived") => "archived",
            (Some(s), _) if !s.eq_ignore_ascii_case("active") => "draft",
            (_, Some(false)) => "draft",
            _ => "active",
        };
        product.insert("status".to_owned(), status.into());
        let path = self.cell(first, "Product Category").and_then(|c| category_path(c, ">"));
        let kind = self.cell(first, "Type").and_then(|c| category_path(c, "\0"));
        let kind =
            kind.filter(|kind| path.as_ref().is_none_or(|p| !p.split('/').any(|n| n.eq_ignore_ascii_case(kind))));
        let categories: Vec<String> = path.into_iter().chain(kind).collect();
        product.insert("categories".to_owned(), categories.into());
        let tags = self.cell(first, "Tags").map(|t| split(t, ",")).unwrap_or_default();
        product.insert("tags".to_owned(), tags.into());
        product.insert("images".to_owned(), self.images(rows).into());
        for (column, name) in [("SEO Title", "seo_title"), ("SEO Description", "seo_description")] {
            if let Some(value) = self.cell(first, column) {
                attribute(&mut product, name, value.into());
            }
        }
        if self.is(first, "Gift Card") == Some(true) {
            attribute(&mut product, "gift_card", true.into());
        }
        self.others(&mut product, rows);

        let names = ["Option1 Name", "Option2 Name", "Option3 Name"];
        let options: Vec<&str> = names
            .iter()
            .zip(["Option 1", "Option 2", "Option 3"])
            .map(|(n, d)| self.cell(first, n).unwrap_or(d))
            .collect();
        let (mut skus, prices): (Vec<_>, Vec<_>) =
            rows.iter().filter(|row| self.is_variant(row)).map(|row| self.sku(row, &options)).unzip();
        set_codes(&mut skus, self.cell(first, "Handle").unwrap_or("product"));
        set_prices(&mut product, &mut skus, &prices, self.currency);
        product.insert("skus".to_owned(), skus.into_iter().map(Value::Object).collect());
        Ok(product)
    }
}
