//! Column maps: which column of a table is which field of a record.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use encoding_rs::{DecoderResult, UTF_8};
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use crate::error::{FieldCode, ValidationErrors};
use crate::service::catalog::import::ImportKind;
use crate::text::shown;

/// Whether a field belongs to the product or to one of its SKUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::service::catalog) enum Level {
    Product,
    Sku,
}

/// The type of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::service::catalog) enum Type {
    Text,
    Decimal,
    Integer,
    Boolean,
    List,
    /// A JSON object.
    Object,
}

/// The columns of an export without a map, which are also the fields that a map can name. In addition, a map can name
/// `option.NAME`, `attributes.NAME` and `sku_attributes.NAME`.
pub(in crate::service::catalog) const PRODUCT_FIELDS: &[(&str, Level, Type)] = &[
    ("source", Level::Product, Type::Text),
    ("external_id", Level::Product, Type::Text),
    ("title", Level::Product, Type::Text),
    ("slug", Level::Product, Type::Text),
    ("description", Level::Product, Type::Text),
    ("brand", Level::Product, Type::Text),
    ("status", Level::Product, Type::Text),
    ("categories", Level::Product, Type::List),
    ("tags", Level::Product, Type::List),
    ("images", Level::Product, Type::List),
    ("image_alts", Level::Product, Type::Object),
    ("image_sizes", Level::Product, Type::Object),
    ("primary_image", Level::Product, Type::Text),
    ("attributes", Level::Product, Type::Object),
    ("discount_percentage", Level::Product, Type::Decimal),
    ("warranty_information", Level::Product, Type::Text),
    ("shipping_information", Level::Product, Type::Text),
    ("rating", Level::Product, Type::Decimal),
    ("review_count", Level::Product, Type::Integer),
    ("sku", Level::Sku, Type::Text),
    ("option_values", Level::Sku, Type::Object),
    ("price", Level::Sku, Type::Decimal),
    ("currency", Level::Sku, Type::Text),
    ("stock", Level::Sku, Type::Integer),
    ("track_stock", Level::Sku, Type::Boolean),
    ("low_stock_threshold", Level::Sku, Type::Integer),
    ("weight", Level::Sku, Type::Decimal),
    ("width", Level::Sku, Type::Decimal),
    ("height", Level::Sku, Type::Decimal),
    ("depth", Level::Sku, Type::Decimal),
    ("barcode", Level::Sku, Type::Text),
    ("sku_attributes", Level::Sku, Type::Object),
];

/// The fields of customers and categories that a map can name.
const CUSTOMER_FIELDS: &[&str] = &[
    "source",
    "external_id",
    "first_name",
    "last_name",
    "email",
    "telephone",
    "address.street",
    "address.number",
    "address.city",
    "address.region",
    "address.postal_code",
    "address.country",
];
const CATEGORY_FIELDS: &[&str] = &["id", "name", "parent", "path", "description"];

/// A field of a product or of a SKU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::service::catalog) enum Field {
    Known(&'static str, Level, Type),
    Option(String),
    Attribute(String),
    SkuAttribute(String),
}

impl Field {
    pub fn parse(name: &str) -> Option<Self> {
        let of = |prefix: &str| name.strip_prefix(prefix).filter(|n| !n.is_empty()).map(str::to_owned);
        if let Some(name) = of("option.") {
            return Some(Self::Option(name));
        }
        if let Some(name) = of("attributes.") {
            return Some(Self::Attribute(name));
        }
        if let Some(name) = of("sku_attributes.") {
            return Some(Self::SkuAttribute(name));
        }
        let name = if name == "category" { "categories" } else { name };
        PRODUCT_FIELDS.iter().find(|(n, ..)| *n == name).map(|(name, level, kind)| Self::Known(name, *level, *kind))
    }

    pub const fn level(&self) -> Level {
        match self {
            Self::Known(_, level, _) => *level,
            Self::Attribute(_) => Level::Product,
            Self::Option(_) | Self::SkuAttribute(_) => Level::Sku,
        }
    }
}

/// The encoding of a table.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Encoding(&'static encoding_rs::Encoding);

impl Encoding {
    /// Decodes a cell, or returns a reason that completes a sentence about it.
    pub fn decode(self, cell: Vec<u8>) -> Result<String, String> {
        if self.0 == UTF_8 {
            return String::from_utf8(cell)
                .map_err(|_| "is not UTF-8: name the encoding in the column map, such as `windows-1252`".to_owned());
        }
        let mut text = String::with_capacity(cell.len() * 3);
        let mut decoder = self.0.new_decoder_without_bom_handling();
        match decoder.decode_to_string_without_replacement(&cell, &mut text, true) {
            (DecoderResult::InputEmpty, _) => Ok(text),
            _ => Err(format!("is not {}", self.0.name())),
        }
    }
}

impl fmt::Debug for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.name())
    }
}

/// A column of a map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::service::catalog) struct Column {
    /// The name of the column in the header.
    pub name: String,
    /// The field.
    pub field: String,
    /// The text between the values of a list.
    pub separator: Option<String>,
    /// Whether the header may lack it.
    pub optional: bool,
}

/// Maps the columns of a CSV file to the fields of a record. Imports and exports use the same map, so that a shop reads
/// what it has written.
///
/// The columns that a map does not name are imported as `columns` of the record: a transform can use them, and
/// otherwise the report names them as unknown. A map has this form in TOML, where only `columns` is required:
///
/// ```toml
/// delimiter = ";"             # default ","
/// quote = "'"                 # default "\""
/// encoding = "windows-1252"   # default "utf-8"; any encoding of one byte per character by its name in browsers
/// decimal_comma = true        # 1.234,50
/// separator = "|"             # between the values of a list; default "|"
/// group = "Article"           # rows that follow each other with the same value are the SKUs of one product;
///                             # by default those with the same external id, or slug
///
/// [columns]
/// "Article" = "external_id"
/// "Name" = "title"
/// "Number" = "sku"
/// "Colour" = "option.color"
/// "Material" = "attributes.material"
/// "Price" = "price"
/// "Groups" = { field = "categories", separator = ">>" }
/// "Remark" = { field = "description", optional = true }   # the file may lack this column
///
/// [constants]                 # the same for each record; an export does not write them
/// source = "erp"
///
/// [defaults]                  # for records without a value
/// stock = 0
/// ```
///
/// A file without a map has our own field names as columns (see [`ProductRecord`](super::super::ProductRecord) and
/// [`ExportService`](crate::catalog::ExportService)). The prefix of an option is `option.`, that of an attribute of the
/// product `attributes.`, and that of an attribute of the SKU `sku_attributes.`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnMap(Arc<Inner>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Inner {
    delimiter: u8,
    quote: u8,
    encoding: Encoding,
    decimal_comma: bool,
    separator: String,
    group: Option<String>,
    /// Empty if the header has our own field names.
    columns: Vec<Column>,
    constants: Map<String, Value>,
    defaults: Map<String, Value>,
}

/// A map as files have it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    delimiter: Option<char>,
    quote: Option<char>,
    encoding: Option<String>,
    #[serde(default)]
    decimal_comma: bool,
    separator: Option<String>,
    group: Option<String>,
    columns: Columns,
    #[serde(default)]
    constants: Map<String, Value>,
    #[serde(default)]
    defaults: Map<String, Value>,
}

/// Columns in the order of the file.
struct Columns(Vec<Column>);

impl<'de> Deserialize<'de> for Columns {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Target {
            Field(String),
            Table(Table),
        }
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Table {
            field: String,
            separator: Option<String>,
            #[serde(default)]
            optional: bool,
        }
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Columns;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table of the columns with their fields")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Columns, A::Error> {
                let mut columns = Vec::new();
                while let Some((name, target)) = map.next_entry::<String, Target>()? {
                    let (field, separator, optional) = match target {
                        Target::Field(field) => (field, None, false),
                        Target::Table(t) => (t.field, t.separator, t.optional),
                    };
                    columns.push(Column { name, field, separator, optional });
                }
                Ok(Columns(columns))
            }
        }
        d.deserialize_map(InOrder)
    }
}

impl<'de> Deserialize<'de> for ColumnMap {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let file = File::deserialize(d)?;
        let byte = |name: &str, given: Option<char>, default: u8| match given {
            None => Ok(default),
            Some(c) if c.is_ascii() && !matches!(c, '\n' | '\r') => {
                u8::try_from(u32::from(c)).map_err(D::Error::custom)
            }
            Some(_) => Err(D::Error::custom(format!("`{name}` must be an ASCII character and no line break"))),
        };
        let delimiter = byte("delimiter", file.delimiter, b',')?;
        let quote = byte("quote", file.quote, b'"')?;
        if delimiter == quote {
            return Err(D::Error::custom("`delimiter` and `quote` must differ"));
        }
        let encoding = match file.encoding.as_deref() {
            None => UTF_8,
            Some(label) => encoding_rs::Encoding::for_label(label.as_bytes())
                .filter(|e| *e == UTF_8 || e.is_single_byte())
                .ok_or_else(|| {
                    D::Error::custom(
                        "`encoding` must be `utf-8` or an encoding of one byte per character, such as `windows-1252`",
                    )
                })?,
        };
        let columns = file.columns.0;
        if columns.is_empty() {
            return Err(D::Error::custom("`columns` must name at least one column"));
        }
        if columns.iter().any(|c| c.separator.as_deref() == Some("")) || file.separator.as_deref() == Some("") {
            return Err(D::Error::custom("`separator` must not be empty"));
        }
        for (i, c) in columns.iter().enumerate() {
            if columns.iter().take(i).any(|other| other.field == c.field) {
                return Err(D::Error::custom(format!("two columns name the field `{}`", shown(&c.field))));
            }
        }
        Ok(Self(Arc::new(Inner {
            delimiter,
            quote,
            encoding: Encoding(encoding),
            decimal_comma: file.decimal_comma,
            separator: file.separator.unwrap_or_else(|| SEPARATOR.to_owned()),
            group: file.group,
            columns,
            constants: file.constants,
            defaults: file.defaults,
        })))
    }
}

const SEPARATOR: &str = "|";

impl ColumnMap {
    /// Returns the map of files whose columns have our own field names, such as those of an export.
    pub fn own() -> Self {
        Self(Arc::new(Inner {
            delimiter: b',',
            quote: b'"',
            encoding: Encoding(UTF_8),
            decimal_comma: false,
            separator: SEPARATOR.to_owned(),
            group: None,
            columns: Vec::new(),
            constants: Map::new(),
            defaults: Map::new(),
        }))
    }

    /// Sets the character between cells.
    pub(super) fn with_delimiter(mut self, delimiter: u8) -> Self {
        Arc::make_mut(&mut self.0).delimiter = delimiter;
        self
    }

    pub(in crate::service::catalog) fn delimiter(&self) -> u8 {
        self.0.delimiter
    }

    pub(in crate::service::catalog) fn quote(&self) -> u8 {
        self.0.quote
    }

    pub(super) fn encoding(&self) -> Encoding {
        self.0.encoding
    }

    /// Encodes a text, or returns `None` if the encoding lacks one of its characters.
    pub(in crate::service::catalog) fn encode<'t>(&self, text: &'t str) -> Option<Cow<'t, [u8]>> {
        let (bytes, _, lossy) = self.0.encoding.0.encode(text);
        (!lossy).then_some(bytes)
    }

    pub(in crate::service::catalog) fn decimal_comma(&self) -> bool {
        self.0.decimal_comma
    }

    pub(in crate::service::catalog) fn group(&self) -> Option<&str> {
        self.0.group.as_deref()
    }

    pub(in crate::service::catalog) fn columns(&self) -> &[Column] {
        &self.0.columns
    }

    pub(in crate::service::catalog) fn separator<'a>(&'a self, column: Option<&'a Column>) -> &'a str {
        column.and_then(|c| c.separator.as_deref()).unwrap_or(&self.0.separator)
    }

    pub(super) fn constants(&self) -> &Map<String, Value> {
        &self.0.constants
    }

    pub(super) fn defaults(&self) -> &Map<String, Value> {
        &self.0.defaults
    }

    /// Checks that the map names only fields of a kind.
    pub(in crate::service::catalog) fn check(&self, kind: ImportKind, errors: &mut ValidationErrors) {
        let constants = self.0.constants.keys().map(|field| ("constants", field));
        let defaults = self.0.defaults.keys().map(|field| ("defaults", field));
        let columns = self.0.columns.iter().map(|c| ("columns", &c.field));
        for (part, field) in columns.chain(constants).chain(defaults) {
            if !is_field(kind, field) {
                let message = format!("must not name `{}`, which is no field of {}", shown(field), kind.as_str());
                errors.push(format!("format.{part}"), FieldCode::Unknown, message);
            }
        }
    }
}

/// Returns whether a map may name a field.
pub(super) fn is_field(kind: ImportKind, field: &str) -> bool {
    match kind {
        ImportKind::Products => Field::parse(field).is_some(),
        ImportKind::Customers => CUSTOMER_FIELDS.contains(&field) || field.starts_with("attributes."),
        ImportKind::Categories => CATEGORY_FIELDS.contains(&field),
        ImportKind::Carts => false,
    }
}
