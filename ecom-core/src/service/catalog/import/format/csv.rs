//! CSV with a column map.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::cells::{boolean, decimal, integer, plain, put, split};
use super::columns::{Column, ColumnMap, Field, Level, Type, is_field};
use super::json::too_large;
use super::rows::{MAX_ROWS, Row, Table, refused};
use super::{Document, Reader, RecordSource, SourceRecord, stopped};
use crate::error::{ErrorCode, FieldCode, FieldError};
use crate::service::catalog::import::{EndedEarly, ImportKind, Rejection};
use crate::service::run::read_through::text_hash;
use crate::text::shown;

/// Turns rows that belong together into a record.
pub(super) trait Layout: Send {
    /// Returns the value that the rows of a record share; a row without one is a record of its own.
    fn key<'r>(&self, row: &'r Row) -> Option<&'r str>;

    /// Makes a record of rows that can be read. A record that is refused comes with what is known of it.
    fn record(&self, rows: &[Row]) -> Result<Map<String, Value>, (Map<String, Value>, Rejection)>;
}

/// Rows that follow each other with the same key are one record.
pub(super) struct Grouped<L> {
    table: Table,
    layout: L,
    /// The first row of the next record.
    next: Option<Row>,
    /// The hashes of the keys of records that were refused because of a row. Later rows with such a key are a part of
    /// the record, not the whole.
    refused: HashSet<u128>,
    limit: usize,
}

impl<L: Layout> Grouped<L> {
    pub fn new(table: Table, layout: L, limit: usize) -> Self {
        Self { table, layout, next: None, refused: HashSet::new(), limit }
    }
}

impl<L: Layout> RecordSource for Grouped<L> {
    fn next(&mut self) -> Result<Option<SourceRecord>, EndedEarly> {
        let first = match self.next.take() {
            Some(row) => row,
            None => match self.table.next()? {
                Some(row) => row,
                None => return Ok(None),
            },
        };
        if let Some(stop) = first.broke_off {
            return Err(stop);
        }
        let (line, mut size) = (first.line, first.size);
        let key = self.layout.key(&first).map(str::to_owned);
        let mut rows = vec![first];
        if key.is_some() {
            while let Some(row) = self.table.next()? {
                let other = self.layout.key(&row);
                // A row that breaks off may belong to the record, which would lack it.
                if let (Some(stop), true) = (&row.broke_off, other.is_none() || other == key.as_deref()) {
                    return Err(stop.clone());
                }
                if other != key.as_deref() {
                    self.next = Some(row);
                    break;
                }
                size = size.saturating_add(row.size);
                // The first rows of a record that is too large are enough for its dead letter.
                if rows.len() == MAX_ROWS {
                    size = usize::MAX;
                } else if size <= self.limit {
                    rows.push(row);
                }
            }
        }
        let hash = key.as_deref().map(text_hash);
        let is_part = hash.is_some_and(|hash| self.refused.contains(&hash));
        let is_bad = size > self.limit || rows.iter().any(|row| row.bad.is_some());
        self.refused.extend(hash.filter(|_| is_bad));
        let document = if is_part && !is_bad {
            let record = self.layout.record(&rows).unwrap_or_else(|(record, _)| record);
            let why = Rejection::new(ErrorCode::BadRequest, "an earlier row of the same record cannot be read");
            Document::Refused { text: Value::Object(record).to_string().into_bytes(), cut: false, why }
        } else if size > self.limit && rows.iter().all(|row| row.bad.is_none()) {
            let record = self.layout.record(&rows).unwrap_or_else(|(record, _)| record);
            too_large(Value::Object(record).to_string().into_bytes())
        } else {
            document(&self.layout, &rows)
        };
        Ok(Some(SourceRecord::new(line, size.min(self.limit), document)))
    }
}

pub(super) fn document(layout: &impl Layout, rows: &[Row]) -> Document {
    match refused(rows) {
        Some(refused) => refused,
        None => match layout.record(rows) {
            Ok(record) => Document::Object(record),
            Err((record, why)) => {
                Document::Refused { text: Value::Object(record).to_string().into_bytes(), cut: false, why }
            }
        },
    }
}

pub(super) fn open(
    reader: Reader,
    map: ColumnMap,
    kind: ImportKind,
    limit: usize,
) -> Result<Box<dyn RecordSource>, EndedEarly> {
    let table = Table::open(reader, &map, limit)?;
    if kind == ImportKind::Carts {
        return Err(stopped("carts are imported from JSON only", 1, 0));
    }
    let mut columns = Vec::with_capacity(table.header.len());
    for name in &table.header {
        let column = map.columns().iter().find(|c| c.name == *name);
        let field = column.map_or(name.as_str(), |c| c.field.as_str());
        let named = column.is_some() || map.columns().is_empty();
        columns.push(if named && is_field(kind, field) { Some((field.to_owned(), column.cloned())) } else { None });
    }
    if !table.header.is_empty() {
        let missing = |c: &&Column| !c.optional && !table.header.contains(&c.name);
        let missing: Vec<String> = map.columns().iter().filter(missing).map(|c| shown(&c.name)).collect();
        if !missing.is_empty() {
            let missing = missing.join("`, `");
            let reason = format!("the header lacks columns that the column map names: `{missing}`");
            return Err(stopped(reason, 1, 0));
        }
    }
    let at = |name: &str| table.header.iter().position(|n| n == name);
    let of_field = |field: &str| columns.iter().position(|c| c.as_ref().is_some_and(|(f, _)| f == field));
    let keys: Vec<usize> = match map.group() {
        Some(name) => match at(name) {
            Some(i) => vec![i],
            None if table.header.is_empty() => Vec::new(),
            None => {
                let reason = format!("the header lacks the column `{}`, which groups rows", shown(name));
                return Err(stopped(reason, 1, 0));
            }
        },
        None => [of_field("external_id"), of_field("slug")].into_iter().flatten().collect(),
    };
    let header = table.header.clone();
    Ok(match kind {
        ImportKind::Products => {
            let fields = columns
                .into_iter()
                .map(|c| c.and_then(|(field, column)| Some((Field::parse(&field)?, column))))
                .collect();
            Box::new(Grouped::new(table, Products { map, header, fields, keys }, limit))
        }
        _ => Box::new(Grouped::new(table, Flat { map, header, fields: columns, kind }, limit)),
    })
}

/// Adds the cell of a column that the map does not name.
fn unmapped(record: &mut Map<String, Value>, name: &str, cell: &str) {
    let columns = record.entry("columns").or_insert_with(|| Map::new().into());
    if let Value::Object(columns) = columns {
        columns.insert(if name.is_empty() { "(without a name)" } else { name }.to_owned(), cell.into());
    }
}

/// Records of one row each, whose fields are texts.
struct Flat {
    map: ColumnMap,
    header: Vec<String>,
    fields: Vec<Option<(String, Option<Column>)>>,
    kind: ImportKind,
}

impl Layout for Flat {
    fn key<'r>(&self, _: &'r Row) -> Option<&'r str> {
        None
    }

    fn record(&self, rows: &[Row]) -> Result<Map<String, Value>, (Map<String, Value>, Rejection)> {
        let mut record = Map::new();
        for row in rows {
            for (i, name) in self.header.iter().enumerate() {
                let Some(cell) = row.cell(i) else { continue };
                match self.fields.get(i) {
                    Some(Some((field, column))) => self.put(&mut record, field, column.as_ref(), cell),
                    _ => unmapped(&mut record, name, cell),
                }
            }
        }
        for (constants, over) in [(self.map.constants(), true), (self.map.defaults(), false)] {
            for (field, value) in constants {
                if over || !has(&record, field) {
                    put(&mut record, field, value.clone());
                }
            }
        }
        Ok(record)
    }
}

/// Returns whether an object has a value at a path of names.
fn has(object: &Map<String, Value>, path: &str) -> bool {
    match path.split_once('.') {
        None => object.contains_key(path),
        Some((first, rest)) => object.get(first).and_then(Value::as_object).is_some_and(|inner| has(inner, rest)),
    }
}

impl Flat {
    fn put(&self, record: &mut Map<String, Value>, field: &str, column: Option<&Column>, cell: &str) {
        match (self.kind, field) {
            // The id of the parent, which has a row of its own.
            (ImportKind::Categories, "parent") => {
                record.insert("path".to_owned(), serde_json::json!([{ "id": cell }]));
            }
            // The names of the ancestors, from the root; the path to each is its id.
            (ImportKind::Categories, "path") => {
                let separator = self.map.separator(column);
                let names = split(cell, separator);
                let step = |i: usize| {
                    let id = names.get(..=i).unwrap_or_default().join(separator);
                    serde_json::json!({ "id": id, "name": names.get(i) })
                };
                record.insert("path".to_owned(), (0..names.len()).map(step).collect());
            }
            _ => put(record, field, cell.into()),
        }
    }
}

/// Products, one row per SKU.
struct Products {
    map: ColumnMap,
    header: Vec<String>,
    fields: Vec<Option<(Field, Option<Column>)>>,
    /// The columns that tell which rows are one product: the first of them that has a value.
    keys: Vec<usize>,
}

impl Layout for Products {
    fn key<'r>(&self, row: &'r Row) -> Option<&'r str> {
        self.keys.iter().find_map(|i| row.cell(*i))
    }

    fn record(&self, rows: &[Row]) -> Result<Map<String, Value>, (Map<String, Value>, Rejection)> {
        let mut product = Map::new();
        let mut skus = Vec::with_capacity(rows.len());
        let mut disagree = Vec::new();
        for row in rows {
            let mut sku = Map::new();
            for (i, name) in self.header.iter().enumerate() {
                let Some(cell) = row.cell(i) else { continue };
                let Some(Some((field, column))) = self.fields.get(i) else {
                    unmapped(&mut product, name, cell);
                    continue;
                };
                let value = self.value(field, column.as_ref(), cell);
                match field.level() {
                    Level::Sku => set(&mut sku, field, value),
                    Level::Product => {
                        let mut other = Map::new();
                        set(&mut other, field, value);
                        merge(&mut product, other, &mut disagree);
                    }
                }
            }
            skus.push(sku);
        }
        for (values, over) in [(self.map.constants(), true), (self.map.defaults(), false)] {
            for (name, value) in values {
                let Some(field) = Field::parse(name) else { continue };
                let targets: Vec<&mut Map<String, Value>> = match field.level() {
                    Level::Product => vec![&mut product],
                    Level::Sku => skus.iter_mut().collect(),
                };
                for target in targets {
                    if over || !has(target, &place(&field)) {
                        set(target, &field, value.clone());
                    }
                }
            }
        }
        images(&mut product);
        let flat =
            skus.len() == 1 && skus.iter().all(|s| !s.contains_key("option_values") && !s.contains_key("attributes"));
        if flat {
            for mut sku in skus {
                if let Some(code) = sku.remove("code") {
                    sku.insert("sku".to_owned(), code);
                }
                product.append(&mut sku);
            }
        } else {
            product.insert("skus".to_owned(), skus.into_iter().map(Value::Object).collect());
        }
        if disagree.is_empty() {
            return Ok(product);
        }
        let message = "must be the same in all rows of a product, or only in the first one";
        let fields = disagree
            .into_iter()
            .map(|field| FieldError { field, code: FieldCode::Inconsistent, message: message.to_owned() })
            .collect();
        let reason = "the rows of the product disagree".to_owned();
        Err((product, Rejection { code: ErrorCode::Validation, reason, fields }))
    }
}

impl Products {
    fn value(&self, field: &Field, column: Option<&Column>, cell: &str) -> Value {
        match field {
            Field::Option(_) => cell.into(),
            Field::Attribute(_) | Field::SkuAttribute(_) => plain(cell),
            Field::Known(name, _, kind) => match kind {
                Type::Text if *name == "status" => cell.to_ascii_lowercase().into(),
                Type::Text => cell.into(),
                Type::Decimal => decimal(cell, self.map.decimal_comma()),
                Type::Integer => integer(cell),
                Type::Boolean => boolean(cell),
                Type::List => split(cell, self.map.separator(column)).into(),
                // A value that is no object is refused with the name of the field.
                Type::Object => serde_json::from_str(cell).unwrap_or_else(|_| cell.into()),
            },
        }
    }
}

/// Returns where an object has a field.
fn place(field: &Field) -> String {
    match field {
        Field::Known("sku", ..) => "code".to_owned(),
        Field::Known("sku_attributes", ..) => "attributes".to_owned(),
        Field::Known(name @ ("width" | "height" | "depth"), ..) => format!("dimensions.{name}"),
        Field::Known(name, ..) => (*name).to_owned(),
        Field::Option(name) => format!("option_values.{name}"),
        Field::Attribute(name) | Field::SkuAttribute(name) => format!("attributes.{name}"),
    }
}

fn set(object: &mut Map<String, Value>, field: &Field, value: Value) {
    let (parent, name) = match field {
        Field::Option(name) => ("option_values", name.as_str()),
        Field::Attribute(name) | Field::SkuAttribute(name) => ("attributes", name.as_str()),
        Field::Known(name @ ("width" | "height" | "depth"), ..) => ("dimensions", *name),
        Field::Known(..) => {
            object.insert(place(field), value);
            return;
        }
    };
    // Names of options and attributes may contain points.
    if let Value::Object(inner) = object.entry(parent).or_insert_with(|| Map::new().into()) {
        inner.insert(name.to_owned(), value);
    }
}

/// Adds the values of a row to those of the rows before.
fn merge(product: &mut Map<String, Value>, row: Map<String, Value>, disagree: &mut Vec<String>) {
    for (name, value) in row {
        match (product.get_mut(&name), value) {
            (None, value) => {
                product.insert(name, value);
            }
            (Some(Value::Object(all)), Value::Object(value)) => merge(all, value, disagree),
            (Some(before), value) if *before != value && !disagree.contains(&name) => disagree.push(name),
            (Some(_), _) => {}
        }
    }
}

/// Joins the columns of images to the images of a record.
fn images(product: &mut Map<String, Value>) {
    let alts = product.remove("image_alts");
    let sizes = product.remove("image_sizes");
    let primary = product.remove("primary_image");
    let Some(Value::Array(images)) = product.get_mut("images") else { return };
    for image in images {
        let alt = alts.as_ref().and_then(|alts| alts.get(image.as_str()?)).cloned();
        let size = sizes.as_ref().and_then(|sizes| sizes.get(image.as_str()?)).and_then(Value::as_object).cloned();
        let is_primary = primary.as_ref() == Some(image);
        if alt.is_some() || size.is_some() || is_primary {
            let size = size.unwrap_or_default();
            let (width, height) = (size.get("width"), size.get("height"));
            *image = serde_json::json!({
                "url": image.take(), "alt": alt, "primary": is_primary, "width": width, "height": height,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;

    use super::*;

    fn read(text: impl Into<Vec<u8>>, limit: usize) -> (Vec<Document>, Option<EndedEarly>) {
        let mut found = Vec::new();
        let mut source = match open(Box::new(Cursor::new(text.into())), ColumnMap::own(), ImportKind::Products, limit) {
            Ok(source) => source,
            Err(stop) => return (found, Some(stop)),
        };
        loop {
            match source.next() {
                Ok(Some(record)) => found.push(record.document),
                Ok(None) => return (found, None),
                Err(stop) => return (found, Some(stop)),
            }
        }
    }

    fn quoted(text: &str) -> String {
        format!("\"{}\"", text.replace('"', "\"\""))
    }

    proptest! {
        #[test]
        fn cells_are_read_as_they_were_written(
            rows in prop::collection::vec(("[a-z]{1,4}", "[a-c\",;\n é]{0,8}[x]"), 0..6),
            bare: bool,
        ) {
            let mut text = "title,description\n".to_owned();
            for (title, description) in &rows {
                let needs = description.contains(['"', ',', '\n']);
                let description = if needs || !bare { quoted(description) } else { description.clone() };
                text.extend([title, ",", &description, "\r\n"]);
            }
            let (found, ended) = read(text, 1 << 20);
            prop_assert_eq!(ended, None);
            let found: Vec<(String, String)> = found.into_iter().map(|document| {
                let Document::Object(o) = document else { panic!("{document:?}") };
                (o["title"].as_str().unwrap().to_owned(), o["description"].as_str().unwrap().to_owned())
            }).collect();
            let rows: Vec<_> = rows.into_iter().map(|(t, d)| (t, d.trim().to_owned())).collect();
            prop_assert_eq!(found, rows);
        }

        /// A row with broken quotes costs no row after it that has no quotes.
        #[test]
        fn reading_goes_on_after_broken_quotes(bad in "[ab\",]{0,8}", n in 1_usize..5) {
            let good = "plain,text\n".repeat(n);
            let (found, _) = read(format!("title,description\n\"x\"{bad}y\n{good}"), 1 << 20);
            let is_plain = |o: &Map<String, Value>| o.get("title").is_some_and(|t| t == "plain");
            let whole = found.iter().filter(|d| matches!(d, Document::Object(o) if is_plain(o)));
            prop_assert_eq!(whole.count(), n);
        }

        #[test]
        fn no_table_is_too_strange(rows in "[a\",\n\r;é'=|\\\\]{0,60}", limit in 1_usize..50) {
            read(format!("title,sku,external_id,option.a,images\n{rows}"), limit);
            read(rows, limit);
        }

        #[test]
        fn no_export_of_a_shop_is_too_strange(rows in "[a\",\n1.e]{0,60}") {
            for header in [
                "Handle,Title,Variant Price,Option1 Name,Option1 Value,Image Src,Image Position,Variant Grams\n",
                "ID,Type,SKU,Name,Regular price,Sale price,Parent,Attribute 1 name,Attribute 1 value(s)\n",
            ] {
                let opening = super::super::Opening {
                    kind: ImportKind::Products,
                    format: None,
                    max_record: 100,
                    max_bytes: None,
                    currency: Some(crate::money::Currency::USD),
                };
                let mut source = opening.open(Cursor::new(format!("{header}{rows}")));
                while let Ok(Some(_)) = source.next() {}
            }
        }
    }
}
