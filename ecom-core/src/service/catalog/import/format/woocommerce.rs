//! The product export of WooCommerce, with the English names of its columns.
//!
//! A simple product is one row. A variable product is a row, and one more for each variation, which names its parent and
//! may stand anywhere. So variable products are held until the end of the file, and come after the simple ones. The
//! exporter and the importer of WooCommerce 10 were the reference for what the cells mean.

use std::collections::{HashMap, HashSet, VecDeque};

use rust_decimal::Decimal;
use serde_json::{Map, Value};

use super::cells::{integer, plain, read_boolean};
use super::columns::ColumnMap;
use super::csv::{Layout, document};
use super::price::{Prices, attribute, category_path, measure, set_codes, set_prices, snake, text_of_html};
use super::rows::{MAX_ROWS, Row, Table};
use super::{Document, Reader, RecordSource, SourceRecord};
use crate::error::{ErrorCode, FieldCode, FieldError};
use crate::money::Currency;
use crate::service::catalog::import::{EndedEarly, Rejection};
use crate::text::shown;

/// The system that the products of WooCommerce belong to by default.
const SOURCE: &str = "woocommerce";
/// The most bytes of variable products that are held. Beyond that, the first ones count as complete.
const MAX_HELD: usize = 64 << 20;

/// Columns whose values become attributes of the product or the SKU, with their names there.
const ATTRIBUTES: &[(&str, &str)] = &[
    ("Short description", "short_description"),
    ("Tax status", "tax_status"),
    ("Tax class", "tax_class"),
    ("Shipping class", "shipping_class"),
    ("Purchase note", "purchase_note"),
    ("External URL", "external_url"),
    ("Button text", "button_text"),
];
/// Columns that tell nothing about the product itself.
const SILENT: &[&str] = &[
    "Allow customer reviews?",
    "Download limit",
    "Download expiry days",
    "Is featured?",
    "Position",
    "Sold individually?",
];
/// Columns that are read one by one.
const READ: &[&str] = &[
    "ID",
    "Type",
    "SKU",
    "GTIN, UPC, EAN, or ISBN",
    "Name",
    "Published",
    "Visibility in catalog",
    "Description",
    "Date sale price starts",
    "Date sale price ends",
    "In stock?",
    "Stock",
    "Low stock amount",
    "Backorders allowed?",
    "Sale price",
    "Regular price",
    "Categories",
    "Tags",
    "Images",
    "Parent",
    "Brands",
];

pub(super) fn open(
    reader: Reader,
    delimiter: u8,
    limit: usize,
    currency: Option<Currency>,
) -> Result<Box<dyn RecordSource>, EndedEarly> {
    let table = Table::open(reader, &ColumnMap::own().with_delimiter(delimiter), limit)?;
    let layout = Products::new(&table.header, currency);
    if !table.header.is_empty() {
        for name in ["Type", "Name", "Regular price"] {
            if !layout.at.contains_key(name) {
                return Err(super::stopped(format!("the header lacks the column `{name}`"), 1, 0));
            }
        }
    }
    Ok(Box::new(WooCommerce { table, layout, limit, held: Held::default(), lacks_variations: false, ended: false }))
}

struct WooCommerce {
    table: Table,
    layout: Products,
    limit: usize,
    held: Held,
    /// Whether a variation could not be read, of which it is not certain which product it belongs to.
    lacks_variations: bool,
    ended: bool,
}

/// Variable products, with the variations that were read so far.
#[derive(Default)]
struct Held {
    /// The rows of each product, with the names that variations use for it.
    products: VecDeque<(Vec<String>, Vec<Row>)>,
    /// The number of products that were taken from the front.
    taken: usize,
    /// The index of each product by the names that variations use for their parent. Indexes count from the first product
    /// that was ever held.
    by_name: HashMap<String, usize>,
    bytes: usize,
}

impl Held {
    fn find(&mut self, name: &str) -> Option<&mut (Vec<String>, Vec<Row>)> {
        let at = self.by_name.get(name)?.checked_sub(self.taken)?;
        self.products.get_mut(at)
    }

    /// Adds a row to the product with a name, and returns the row if there is no such product. `names` are further names
    /// of the product.
    fn join(&mut self, name: &str, names: Vec<String>, row: Row) -> Option<Row> {
        let Some(&at) = self.by_name.get(name) else { return Some(row) };
        let Some(product) = self.find(name) else { return Some(row) };
        let cost = cost(&row);
        product.1.push(row);
        product.0.extend(names.iter().cloned());
        self.bytes += cost;
        for name in names {
            self.by_name.entry(name).or_insert(at);
        }
        None
    }

    fn push(&mut self, names: Vec<String>, row: Row) {
        let at = self.taken + self.products.len();
        for name in &names {
            self.by_name.entry(name.clone()).or_insert(at);
        }
        self.bytes += cost(&row);
        self.products.push_back((names, vec![row]));
    }

    fn pop(&mut self) -> Option<Vec<Row>> {
        let (names, rows) = self.products.pop_front()?;
        for name in names {
            if self.by_name.get(&name) == Some(&self.taken) {
                self.by_name.remove(&name);
            }
        }
        self.taken += 1;
        self.bytes -= rows.iter().map(cost).sum::<usize>().min(self.bytes);
        Some(rows)
    }
}

/// Returns about how many bytes a row takes while it is held.
fn cost(row: &Row) -> usize {
    row.size + row.cells.len() * size_of::<String>()
}

impl WooCommerce {
    fn record(&self, mut rows: Vec<Row>) -> SourceRecord {
        let line = rows.iter().map(|row| row.line).min().unwrap_or(1);
        let size: usize = rows.iter().map(|row| row.size).sum();
        // Parents come before their variations, whose order is that of their positions, and then of the file.
        rows.sort_by_key(|row| (self.layout.is_variation(row), self.layout.position(row), row.line));
        let parent = rows.first().filter(|row| row.bad.is_none());
        let document = match parent {
            Some(row) if self.layout.is_variation(row) => {
                let named = self.layout.cell(row, "Parent").unwrap_or_default();
                let message = format!("`{}` is not a product of this file", shown(named));
                let fields = vec![FieldError {
                    field: "columns.Parent".to_owned(),
                    code: FieldCode::ReferenceNotFound,
                    message,
                }];
                let reason = "the variation has no parent in this file".to_owned();
                let why = Rejection { code: ErrorCode::Validation, reason, fields };
                let mut record = self.layout.record(&rows).unwrap_or_else(|(record, _)| record);
                record.remove("external_id");
                Document::Refused { text: Value::Object(record).to_string().into_bytes(), cut: false, why }
            }
            Some(row) if self.lacks_variations && self.layout.is_variable(row) => {
                let reason = "a variation of the file cannot be read, and may belong to this product";
                let why = Rejection::new(ErrorCode::BadRequest, reason);
                let record = self.layout.record(&rows).unwrap_or_else(|(record, _)| record);
                Document::Refused { text: Value::Object(record).to_string().into_bytes(), cut: false, why }
            }
            Some(_) if size > self.limit || rows.len() > MAX_ROWS => {
                rows.truncate(MAX_ROWS);
                let record = self.layout.record(&rows).unwrap_or_else(|(record, _)| record);
                super::json::too_large(Value::Object(record).to_string().into_bytes())
            }
            _ => document(&self.layout, &rows),
        };
        SourceRecord::new(line, size.min(self.limit), document)
    }
}

impl RecordSource for WooCommerce {
    fn next(&mut self) -> Result<Option<SourceRecord>, EndedEarly> {
        while !self.ended {
            if self.held.bytes > MAX_HELD
                && let Some(rows) = self.held.pop()
            {
                return Ok(Some(self.record(rows)));
            }
            let Some(row) = self.table.next()? else {
                self.ended = true;
                break;
            };
            if let Some(stop) = row.broke_off {
                // The variable products may lack it.
                return Err(stop);
            }
            let parent = self.layout.cell(&row, "Parent").map(str::to_owned);
            match parent {
                Some(parent) if self.layout.is_variation(&row) => {
                    // The cell of a bad row may be that of another column.
                    let is_bad = row.bad.is_some();
                    if let Some(row) = self.held.join(&parent, Vec::new(), row) {
                        self.lacks_variations |= is_bad;
                        self.held.push(vec![parent], row);
                    }
                }
                _ if row.bad.is_none() && self.layout.is_variable(&row) => {
                    let names = self.layout.names(&row);
                    // A variation before its parent. A second parent of the same name is a product of its own.
                    let layout = &self.layout;
                    let is_early = |held: &mut Held, name: &String| {
                        held.find(name).is_some_and(|(_, rows)| rows.iter().all(|row| layout.is_variation(row)))
                    };
                    let early = names.iter().find(|name| is_early(&mut self.held, name)).cloned();
                    let row = match early {
                        Some(name) => self.held.join(&name, names.clone(), row),
                        None => Some(row),
                    };
                    if let Some(row) = row {
                        self.held.push(names, row);
                    }
                }
                _ => {
                    let is_typed = self.layout.cell(&row, "Type").is_some() && !self.layout.is_variation(&row);
                    self.lacks_variations |= row.bad.is_some() && !is_typed;
                    return Ok(Some(self.record(vec![row])));
                }
            }
        }
        Ok(self.held.pop().map(|rows| self.record(rows)))
    }
}

struct Products {
    at: HashMap<String, usize>,
    /// The columns of the name and the values of each attribute.
    attributes: Vec<(usize, usize)>,
    /// The columns that are not read, with their names.
    other: Vec<(usize, String)>,
    /// A column of a measure with its factor to grams or centimetres.
    measures: Vec<(&'static str, usize, Decimal)>,
    currency: Option<Currency>,
}

impl Products {
    fn new(header: &[String], currency: Option<Currency>) -> Self {
        let at: HashMap<String, usize> = header.iter().enumerate().map(|(i, name)| (name.clone(), i)).collect();
        let mut attributes = Vec::new();
        let mut measures = Vec::new();
        let mut other = Vec::new();
        for (i, name) in header.iter().enumerate() {
            let unit = |prefix: &str| name.strip_prefix(prefix).and_then(|n| n.strip_prefix(" (")?.strip_suffix(')'));
            let measure = ["Weight", "Length", "Width", "Height"]
                .into_iter()
                .zip(["weight", "depth", "width", "height"])
                .find_map(|(prefix, field)| Some((field, factor(unit(prefix)?)?)));
            if let Some((field, factor)) = measure {
                measures.push((field, i, factor));
            } else if let Some(n) = name.strip_prefix("Attribute ").and_then(|n| n.strip_suffix(" name")) {
                if let Some(values) = at.get(&format!("Attribute {n} value(s)")) {
                    attributes.push((i, *values));
                }
            } else if !READ.contains(&name.as_str())
                && !SILENT.contains(&name.as_str())
                && !name.starts_with("Attribute ")
                && !ATTRIBUTES.iter().any(|(column, _)| column == name)
            {
                other.push((i, name.clone()));
            }
        }
        Self { at, attributes, other, measures, currency }
    }

    fn cell<'r>(&self, row: &'r Row, name: &str) -> Option<&'r str> {
        row.cell(*self.at.get(name)?)
    }

    fn is_of_type(&self, row: &Row, kind: &str) -> bool {
        self.cell(row, "Type").is_some_and(|t| t.split(',').any(|t| t.trim().eq_ignore_ascii_case(kind)))
    }

    fn is_variation(&self, row: &Row) -> bool {
        self.is_of_type(row, "variation")
    }

    fn is_variable(&self, row: &Row) -> bool {
        self.is_of_type(row, "variable")
    }

    /// Returns the place of a variation among those of its parent, and 0 for a parent.
    fn position(&self, row: &Row) -> i64 {
        let position = self.cell(row, "Position").filter(|_| self.is_variation(row));
        position.and_then(|position| position.parse().ok()).unwrap_or_default()
    }

    /// Returns the ways in which variations name a parent.
    fn names(&self, row: &Row) -> Vec<String> {
        let id = self.cell(row, "ID").map(|id| format!("id:{id}"));
        self.cell(row, "SKU").map(str::to_owned).into_iter().chain(id).collect()
    }

    /// Returns the attributes of a row: names and values.
    fn attributes<'r>(&self, row: &'r Row) -> impl Iterator<Item = (&'r str, &'r str)> {
        self.attributes.iter().filter_map(|(name, values)| Some((row.cell(*name)?, row.cell(*values)?)))
    }

    fn sku(&self, row: &Row, parent: Option<&Row>) -> (Map<String, Value>, Prices) {
        let mut sku = Map::new();
        // A variation takes from its parent whatever it leaves out.
        let cell = |name: &str| self.cell(row, name).or_else(|| self.cell(parent?, name));
        if let Some(code) = self.cell(row, "SKU") {
            sku.insert("code".to_owned(), code.into());
        }
        if let Some(barcode) = self.cell(row, "GTIN, UPC, EAN, or ISBN") {
            sku.insert("barcode".to_owned(), barcode.into());
        }
        if parent.is_some() {
            let values = self.attributes(row).filter_map(|(n, v)| Some((n.to_owned(), Value::from(first(v)?))));
            let values: Map<String, Value> = values.collect();
            if !values.is_empty() {
                sku.insert("option_values".to_owned(), values.into());
            }
            if let Some(image) = self.cell(row, "Images").and_then(first) {
                attribute(&mut sku, "image", image.into());
            }
            if let Some(html) = self.cell(row, "Description") {
                attribute(&mut sku, "description", text_of_html(&lines(html)).into());
            }
            // A variation with the class `parent` has that of its product.
            for (column, name) in [("Tax class", "tax_class"), ("Shipping class", "shipping_class")] {
                if let Some(value) = self.cell(row, column).filter(|class| *class != "parent") {
                    attribute(&mut sku, name, value.into());
                }
            }
        }
        if self.is_of_type(row, "virtual") {
            attribute(&mut sku, "requires_shipping", false.into());
        }
        let mut dimensions = Map::new();
        for (field, column, factor) in &self.measures {
            let Some(text) = row.cell(*column).or_else(|| parent?.cell(*column)) else { continue };
            let value = measure(text, *factor);
            if *field == "weight" {
                sku.insert("weight".to_owned(), value.into());
            } else {
                dimensions.insert((*field).to_owned(), value.into());
            }
        }
        if dimensions.len() == 3 {
            sku.insert("dimensions".to_owned(), dimensions.into());
        } else {
            for (name, value) in dimensions {
                attribute(&mut sku, &name, value);
            }
        }
        let stock = self.cell(row, "Stock").filter(|stock| !stock.eq_ignore_ascii_case("parent"));
        // The export leaves `Stock` empty for a variation that takes its stock from its parent. `Backorders allowed?` of
        // the variation then means nothing.
        let sharing = parent.filter(|parent| stock.is_none() && self.cell(parent, "Stock").is_some());
        let backorders = match sharing {
            Some(parent) => self.cell(parent, "Backorders allowed?"),
            None => cell("Backorders allowed?"),
        };
        let backorders = backorders.is_some_and(|b| read_boolean(b) != Some(false));
        match stock {
            Some(stock) if !backorders => {
                sku.insert("track_stock".to_owned(), true.into());
                sku.insert("stock".to_owned(), pieces(stock));
            }
            // Nobody counts the pieces: either there are always some or there are none.
            None if cell("In stock?").and_then(read_boolean) == Some(false) => {
                sku.insert("track_stock".to_owned(), true.into());
                sku.insert("stock".to_owned(), 0.into());
            }
            // `share_stock` adds the pieces.
            None if sharing.is_some() && !backorders => {
                sku.insert("track_stock".to_owned(), true.into());
            }
            _ => {
                sku.insert("track_stock".to_owned(), false.into());
            }
        }
        if let Some(threshold) = cell("Low stock amount") {
            sku.insert("low_stock_threshold".to_owned(), integer(threshold));
        }
        let price = |name: &str| self.cell(row, name).map(|text| price(text, self.currency));
        let (regular, sale) = (price("Regular price"), price("Sale price"));
        let dates = [("Date sale price starts", "sale_starts"), ("Date sale price ends", "sale_ends")];
        let prices = if dates.iter().any(|(column, _)| self.cell(row, column).is_some()) && sale.is_some() {
            // A sale with dates ends, but a stored discount does not.
            for (column, name) in dates {
                if let Some(value) = self.cell(row, column) {
                    attribute(&mut sku, name, value.into());
                }
            }
            if let Some(sale) = sale {
                attribute(&mut sku, "sale_price", sale.into());
            }
            Prices { price: regular, before: None }
        } else {
            match sale {
                Some(sale) => Prices { price: Some(sale), before: regular },
                None => Prices { price: regular, before: None },
            }
        };
        (sku, prices)
    }

    /// Divides the stock of a product among the SKUs that are tracked and have no stock of their own. Each gets the
    /// same number of pieces, and the first ones get one more if a remainder is left, so that the sum is the stock of
    /// the product.
    fn share_stock(&self, product: &Row, skus: &mut [Map<String, Value>]) {
        let is_tracked = |sku: &Map<String, Value>| sku.get("track_stock").and_then(Value::as_bool) == Some(true);
        let sharing: Vec<_> = skus.iter_mut().filter(|sku| is_tracked(sku) && !sku.contains_key("stock")).collect();
        let Some(stock) = self.cell(product, "Stock").map(pieces) else { return };
        let parts = i64::try_from(sharing.len()).unwrap_or(i64::MAX);
        for (i, sku) in (0..).zip(sharing) {
            // The checks of the record refuse what is no number.
            let part = stock.as_i64().map_or_else(|| stock.clone(), |n| (n / parts + i64::from(i < n % parts)).into());
            sku.insert("stock".to_owned(), part);
        }
    }

    /// Returns whether a product or a variation is published: 0 is private, -1 is a draft, and 2 waits for a review.
    fn is_published(&self, row: &Row) -> bool {
        self.cell(row, "Published").is_none_or(|p| p == "1" || p.eq_ignore_ascii_case("true"))
    }
}

/// Returns the number of pieces, which is 0 if the shop has sold more than it had, or the text if it is no number.
fn pieces(stock: &str) -> Value {
    match integer(stock) {
        Value::Number(n) if n.as_i64().is_some_and(|n| n < 0) => 0.into(),
        stock => stock,
    }
}

/// Returns the values of a list. The export escapes commas in a value, and nothing else.
fn list(text: &str) -> Vec<String> {
    let mut values = Vec::new();
    let mut value = String::new();
    let mut parts = text.split(',').peekable();
    while let Some(part) = parts.next() {
        match part.strip_suffix('\\').filter(|_| parts.peek().is_some()) {
            Some(escaped) => {
                value.push_str(escaped);
                value.push(',');
            }
            None => {
                value.push_str(part);
                values.push(std::mem::take(&mut value));
            }
        }
    }
    values.into_iter().map(|v| v.trim().to_owned()).filter(|v| !v.is_empty()).collect()
}

/// Returns the first value of a list.
fn first(text: &str) -> Option<String> {
    list(text).into_iter().next()
}

/// Returns a description with its line breaks. The export writes them as `\n`, and `\n` itself as `\\n`.
fn lines(text: &str) -> String {
    text.split("\\\\n").map(|part| part.replace("\\n", "\n")).collect::<Vec<_>>().join("\\n")
}

/// Returns a price with a decimal point. The export writes it with the decimal separator of the shop, and groups no
/// digits. A program that has edited the export may have grouped them, so a comma before three digits stays, and the
/// price is refused, unless the currency has three decimal places.
fn price(text: &str, currency: Option<Currency>) -> String {
    let has_thousandths = currency.is_some_and(|currency| currency.exponent() == 3);
    match text.split_once(',') {
        Some((whole, part)) if !text.contains('.') && (part.len() != 3 || has_thousandths) => format!("{whole}.{part}"),
        _ => text.to_owned(),
    }
}

/// Returns the factor from a unit to grams or centimetres.
fn factor(unit: &str) -> Option<Decimal> {
    let (mantissa, scale) = match unit {
        "kg" => (1000, 0),
        "g" | "cm" => (1, 0),
        "lbs" => (45_359_237, 5),
        "oz" => (28_349_523, 6),
        "m" => (100, 0),
        "mm" => (1, 1),
        "in" => (254, 2),
        "yd" => (9144, 2),
        _ => return None,
    };
    Some(Decimal::new(mantissa, scale))
}

impl Layout for Products {
    fn key<'r>(&self, _: &'r Row) -> Option<&'r str> {
        None
    }

    fn record(&self, rows: &[Row]) -> Result<Map<String, Value>, (Map<String, Value>, Rejection)> {
        let mut product = Map::new();
        let Some(first) = rows.first() else { return Ok(product) };
        if let Some(id) = self.cell(first, "ID").or_else(|| self.cell(first, "SKU")) {
            product.insert("external_id".to_owned(), id.into());
        }
        product.insert("source".to_owned(), SOURCE.into());
        if let Some(name) = self.cell(first, "Name") {
            product.insert("title".to_owned(), name.into());
        }
        // A brand of WooCommerce can have parents, as a category can; only its own name is kept. A product here has one
        // brand.
        let brands = self.cell(first, "Brands").map(list).unwrap_or_default();
        let last = |path: &String| path.rsplit('>').next().unwrap_or_default().trim().to_owned();
        let brands: Vec<String> = brands.iter().map(last).filter(|brand| !brand.is_empty()).collect();
        if let Some(brand) = brands.first() {
            product.insert("brand".to_owned(), brand.as_str().into());
        }
        if brands.len() > 1 {
            attribute(&mut product, "brands", brands.into());
        }
        let html = self.cell(first, "Description").or_else(|| self.cell(first, "Short description"));
        if let Some(html) = html {
            product.insert("description".to_owned(), text_of_html(&lines(html)).into());
        }
        // A variation that is not published is not for sale, so it is left out. A product without a published variation
        // is not for sale either, but it keeps its variations: the export calls all variations of a draft drafts.
        let variations = rows.get(1..).unwrap_or_default();
        let published: Vec<&Row> = variations.iter().filter(|row| self.is_published(row)).collect();
        let is_variable = self.is_variable(first);
        let is_active = self.is_published(first) && !(is_variable && published.is_empty());
        product.insert("status".to_owned(), if is_active { "active" } else { "draft" }.into());
        let categories = self.cell(first, "Categories").map(list).unwrap_or_default();
        let categories: Vec<String> = categories.iter().filter_map(|c| category_path(c, ">")).collect();
        product.insert("categories".to_owned(), categories.into());
        let lists = [("tags", "Tags"), ("images", "Images")];
        for (name, column) in lists {
            let values = self.cell(first, column).map(list).unwrap_or_default();
            product.insert(name.to_owned(), values.into());
        }
        if let Some(visibility) = self.cell(first, "Visibility in catalog").filter(|v| *v != "visible") {
            attribute(&mut product, "catalog_visibility", visibility.into());
        }
        for (column, name) in ATTRIBUTES {
            let Some(value) = self.cell(first, column) else { continue };
            let value = if *name == "short_description" { text_of_html(&lines(value)) } else { value.to_owned() };
            if !(*name == "tax_status" && value == "taxable") {
                attribute(&mut product, name, value.into());
            }
        }
        let options: HashSet<&str> = variations.iter().flat_map(|row| self.attributes(row)).map(|(n, _)| n).collect();
        for (name, values) in self.attributes(first).filter(|(name, _)| !options.contains(name)) {
            let mut values = list(values);
            let value = if values.len() == 1 { values.pop().map_or(Value::Null, Value::from) } else { values.into() };
            attribute(&mut product, &snake(name), value);
        }
        for (i, name) in &self.other {
            let Some(cell) = rows.iter().find_map(|row| row.cell(*i)) else { continue };
            // Fields of plug-ins. An underscore at the beginning marks a private one, which is reported as unknown.
            if let Some(meta) = name.strip_prefix("Meta: ").filter(|m| !m.starts_with('_')) {
                attribute(&mut product, &snake(meta), plain(cell));
            } else if let Value::Object(columns) = product.entry("columns").or_insert_with(|| Map::new().into()) {
                columns.insert(name.clone(), cell.into());
            }
        }

        let (mut skus, prices): (Vec<_>, Vec<_>) = if is_variable {
            let sold: Vec<&Row> = if published.is_empty() { variations.iter().collect() } else { published };
            sold.into_iter().map(|row| self.sku(row, Some(first))).unzip()
        } else {
            [self.sku(first, None)].into_iter().unzip()
        };
        self.share_stock(first, &mut skus);
        let name = self.cell(first, "SKU").or_else(|| self.cell(first, "ID")).unwrap_or("product");
        set_codes(&mut skus, name);
        set_prices(&mut product, &mut skus, &prices, self.currency);
        product.insert("skus".to_owned(), skus.into_iter().map(Value::Object).collect());
        if self.is_of_type(first, "grouped") {
            let reason = "a grouped product has no price of its own; the products in it are imported on their own";
            return Err((product, Rejection::new(ErrorCode::Validation, reason)));
        }
        Ok(product)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_read_as_the_exporter_writes_them() {
        assert_eq!(list(r"Red\, dark, Blue,, C:\\x\"), ["Red, dark", "Blue", r"C:\\x\"]);
        assert_eq!(list(r"\,"), [","]);
        assert_eq!(first(" , "), None);
        assert_eq!(lines(r"a\nb\\nc"), "a\nb\\nc");
        let usd = ["19,90", "1.234,5", "1,234,567", "1,200", "7"].map(|text| price(text, Some(Currency::USD)));
        assert_eq!(usd, ["19.90", "1.234,5", "1.234,567", "1,200", "7"]);
        assert_eq!(price("1,200", Currency::from_code("KWD").ok()), "1.200");
    }
}
