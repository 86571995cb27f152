//! Types that all aggregates share.

use std::collections::BTreeMap;
use std::fmt;

use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::clock::Timestamp;
use crate::error::{Conflict, Entity, Error, FieldCode, Result, ValidationErrors};
use crate::text::check_text;

/// The author of a change: a text of at most 100 characters, such as `user:<uuid>`, `system`, or a name that the
/// application chooses. The library does not interpret it. An empty text is accepted, and then rows and events have no
/// author: an application that audits writes should refuse it where it authenticates.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Actor(String);

impl Actor {
    /// Returns the actor of the library itself, `system`.
    pub fn system() -> Self {
        Self("system".to_owned())
    }

    /// Returns an actor with a name. The name is cut off after 100 characters, and NUL characters, which some databases
    /// cannot store, are removed.
    pub fn new(text: impl Into<String>) -> Self {
        let mut t: String = text.into();
        t.retain(|c| c != '\0');
        if let Some((i, _)) = t.char_indices().nth(100) {
            t.truncate(i);
        }
        Self(t)
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Actor {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl From<String> for Actor {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl fmt::Debug for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

/// When and by whom a row was created and edited, and its version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audit {
    /// When the row was created.
    pub created_at: Timestamp,
    /// When the row was last edited.
    pub updated_at: Timestamp,
    /// The actor who created the row.
    pub created_by: Actor,
    /// The actor who last edited the row.
    pub updated_by: Actor,
    /// The version of the row. It starts at 1 and increases with every edit (R1).
    pub version: i64,
    /// When the row was soft-deleted (R2); `None` for a live row.
    pub deleted_at: Option<Timestamp>,
}

impl Audit {
    /// Returns the audit data of a row that is created now.
    pub fn created(now: Timestamp, by: &Actor) -> Self {
        Self {
            created_at: now,
            updated_at: now,
            created_by: by.clone(),
            updated_by: by.clone(),
            version: 1,
            deleted_at: None,
        }
    }

    /// Records an edit and increases the version.
    pub fn edited(&mut self, now: Timestamp, by: &Actor) {
        self.updated_at = now;
        self.updated_by = by.clone();
        self.version += 1;
    }

    /// Records a soft deletion and increases the version.
    pub fn deleted(&mut self, now: Timestamp, by: &Actor) {
        self.edited(now, by);
        self.deleted_at = Some(now);
    }

    /// Records a restore and increases the version.
    pub fn restored(&mut self, now: Timestamp, by: &Actor) {
        self.edited(now, by);
        self.deleted_at = None;
    }

    /// Returns true if the row is not soft-deleted.
    pub const fn is_live(&self) -> bool {
        self.deleted_at.is_none()
    }

    /// Refuses to restore a live row. `what` is the kind of the row, for the message.
    pub(crate) fn check_deleted(&self, what: &str, id: impl fmt::Display) -> Result<()> {
        if self.is_live() {
            return Err(
                Conflict::State { message: format!("{what} {id} is not deleted, so it cannot be restored") }.into()
            );
        }
        Ok(())
    }
}

/// The version that a write expects the row to have: the one that the writer has read (R1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ExpectedVersion {
    /// The call does not name a version. Its input must name one, unless the last write wins in this shop
    /// ([`ShopConfig::last_write_wins`](crate::config::ShopConfig::last_write_wins)).
    #[default]
    Unspecified,
    /// The row must have this version.
    Exact(i64),
}

impl From<i64> for ExpectedVersion {
    fn from(version: i64) -> Self {
        Self::Exact(version)
    }
}

impl From<Option<i64>> for ExpectedVersion {
    fn from(version: Option<i64>) -> Self {
        version.map_or(Self::Unspecified, Self::Exact)
    }
}

impl ExpectedVersion {
    /// Returns this version, or the `version` of the input if the call names none.
    ///
    /// # Errors
    /// `Validation` on `version` if both name a version and they differ.
    pub fn or_named(self, version: Option<i64>) -> Result<Self> {
        match (self, version) {
            (Self::Exact(expected), Some(named)) if expected != named => {
                let message =
                    format!("must be {expected}, the version that `If-Match` or the call names, or be left out");
                Err(Error::invalid("version", FieldCode::Inconsistent, message))
            }
            (Self::Unspecified, named) => Ok(named.into()),
            (exact, _) => Ok(exact),
        }
    }

    /// Checks that the row has the expected version (R1). If none is specified, the check passes only if the last write
    /// wins.
    ///
    /// # Errors
    /// `VERSION_CONFLICT`, `VERSION_REQUIRED`.
    pub fn check(self, entity: Entity, id: impl Into<uuid::Uuid>, actual: i64, last_write_wins: bool) -> Result<()> {
        match self {
            Self::Exact(v) if v == actual => Ok(()),
            Self::Exact(expected) => Err(Conflict::Version { entity, id: id.into(), expected, actual }.into()),
            Self::Unspecified if last_write_wins => Ok(()),
            Self::Unspecified => Err(Conflict::VersionRequired { entity }.into()),
        }
    }
}

/// Whether a read includes soft-deleted rows (R2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum IncludeDeleted {
    /// Only live rows.
    #[default]
    No,
    /// Live and soft-deleted rows.
    Yes,
}

/// The origin of an imported row, unique among the rows of its kind.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ExternalRef {
    /// The system that the row was imported from.
    pub source: String,
    /// The id of the row in that system.
    pub external_id: String,
}

impl ExternalRef {
    /// Returns a reference to a row of another system.
    pub fn new(source: impl Into<String>, external_id: impl Into<String>) -> Self {
        Self { source: source.into(), external_id: external_id.into() }
    }

    /// Returns the reference of an input; `None` unless the input has both parts.
    pub(crate) fn of(source: Option<&str>, external_id: Option<&str>) -> Option<Self> {
        source.zip(external_id).map(|(s, i)| Self::new(s, i))
    }

    /// Pushes an error for each part that is out of bounds. `prefix` (`skus[0].` or empty) precedes the field.
    pub fn check(&self, prefix: &str, errors: &mut ValidationErrors) {
        check_text(&format!("{prefix}source"), &self.source, 1, 100, errors);
        check_text(&format!("{prefix}external_id"), &self.external_id, 1, 255, errors);
    }
}

/// Free attributes: a JSON object of at most 16 KiB, nested at most 30 levels deep.
///
/// When attributes are read from JSON, floats that some databases would store as another number are normalized: `-0.0`
/// becomes `0.0`, and `1e16` becomes the integer. Inputs, which must be JSON, refuse integers that need more than 64
/// bits, because they would become floats.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[serde(transparent)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(value_type = Object))]
pub struct Attributes(pub serde_json::Map<String, Value>);

impl Attributes {
    /// The maximum size as JSON, in bytes.
    pub const MAX_BYTES: usize = 16 * 1024;

    /// The maximum depth of objects and arrays, including the outermost object. MariaDB supports at most 31.
    pub const MAX_DEPTH: usize = 30;

    /// Pushes an error if the attributes are too large or too deeply nested, or if they contain NUL characters, which
    /// some databases cannot store.
    pub fn check(&self, field: &str, errors: &mut ValidationErrors) {
        Self::check_map(&self.0, Self::MAX_BYTES, field, errors);
    }

    /// As [`Self::check`], for another JSON object of at most `max` bytes.
    pub(crate) fn check_map(
        map: &serde_json::Map<String, Value>,
        max: usize,
        field: &str,
        errors: &mut ValidationErrors,
    ) {
        if map.is_empty() {
            return;
        }
        match serde_json::to_string(map) {
            Ok(s) if s.len() > max => errors.out_of_bounds(field, format!("must have at most {max} bytes as JSON")),
            Ok(_) => {
                if depth(map.values()) > Self::MAX_DEPTH {
                    errors.out_of_bounds(field, format!("must be nested at most {} levels deep", Self::MAX_DEPTH));
                } else if map.iter().any(|(k, v)| k.contains('\0') || has_nul(v)) {
                    errors.out_of_bounds(field, "must not contain NUL characters");
                }
            }
            Err(e) => errors.out_of_bounds(field, e.to_string()),
        }
    }

    /// Deserializes the attributes of an input, which must be JSON. It refuses integers that would become floats.
    ///
    /// # Errors
    /// The error of the deserializer if the value is not such an object.
    pub fn from_input<'de, D: Deserializer<'de>>(d: D) -> std::result::Result<Self, D::Error> {
        Box::<RawValue>::deserialize(d).and_then(|json| exact_attributes(&json))
    }

    /// As [`Self::from_input`], for a field that may be null.
    pub(crate) fn from_optional_input<'de, D>(d: D) -> std::result::Result<Option<Self>, D::Error>
    where
        D: Deserializer<'de>,
    {
        Option::<Box<RawValue>>::deserialize(d)?.map(|json| exact_attributes(&json)).transpose()
    }

    /// As [`Self::from_input`], for a field of a merge patch.
    pub(crate) fn from_patch<'de, D: Deserializer<'de>>(d: D) -> std::result::Result<Patch<Self>, D::Error> {
        Ok(Self::from_optional_input(d)?.map_or(Patch::Clear, Patch::Set))
    }

    /// Merges a patch (RFC 7396): null removes a value, objects are merged, and other values are replaced.
    pub fn merge(&mut self, patch: &Self) {
        let mut doc = Value::Object(std::mem::take(&mut self.0));
        json_patch::merge(&mut doc, &Value::Object(patch.0.clone()));
        if let Value::Object(m) = doc {
            self.0 = m;
        }
    }
}

impl<'de> Deserialize<'de> for Attributes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let mut map = serde_json::Map::deserialize(deserializer)?;
        map.values_mut().for_each(normalize);
        Ok(Self(map))
    }
}

/// Reads attributes from well-formed JSON.
fn exact_attributes<E: serde::de::Error>(json: &RawValue) -> std::result::Result<Attributes, E> {
    let text = json.get();
    if !text.starts_with('{') {
        return Err(E::custom("must be a JSON object"));
    }
    if let Some(integer) = inexact_integer(text) {
        let shown: String = integer.chars().take(40).collect();
        let path: String = path_of_inexact(json).chars().take(100).collect();
        return Err(E::custom(format_args!(
            "contains at `{path}` the integer {shown}, which needs more than 64 bits: send it as a string"
        )));
    }
    serde_json::from_str(text).map_err(|e| match e.to_string() {
        // The parser has a limit of its own, which is above ours.
        e if e.starts_with("recursion limit") => {
            E::custom(format_args!("must be nested at most {} levels deep", Attributes::MAX_DEPTH))
        }
        e => E::custom(e),
    })
}

/// Returns the first integer in a JSON text that does not fit into 64 bits.
fn inexact_integer(json: &str) -> Option<&str> {
    let mut rest = json;
    loop {
        let start = rest.find(|c: char| c == '"' || c == '-' || c.is_ascii_digit())?;
        rest = &rest[start..];
        if let Some(text) = rest.strip_prefix('"') {
            // A quote after an odd number of backslashes does not end the string.
            let mut escaped = false;
            let end = text.find(|c: char| {
                let ends = c == '"' && !escaped;
                escaped = c == '\\' && !escaped;
                ends
            })?;
            rest = &text[end + 1..];
        } else {
            let end = rest.find(|c: char| !matches!(c, '-' | '+' | '.' | 'e' | 'E' | '0'..='9')).unwrap_or(rest.len());
            let (number, after) = rest.split_at(end);
            let is_integer = !number.contains(['.', 'e', 'E']);
            if is_integer && number.parse::<i64>().is_err() && number.parse::<u64>().is_err() {
                return Some(number);
            }
            rest = after;
        }
    }
}

/// Returns the path of the first integer that does not fit into 64 bits, such as `sizes[2].width`.
fn path_of_inexact(json: &RawValue) -> String {
    let text = json.get();
    let join = |name: &str, below: &str| {
        let dot = if below.is_empty() || below.starts_with('[') { "" } else { "." };
        format!("{name}{dot}{below}")
    };
    let is_wrong = |value: &RawValue| inexact_integer(value.get()).is_some();
    if let Ok(fields) = serde_json::from_str::<BTreeMap<String, &RawValue>>(text)
        && let Some((name, value)) = fields.into_iter().find(|(_, value)| is_wrong(value))
    {
        return join(&name, &path_of_inexact(value));
    }
    if let Ok(items) = serde_json::from_str::<Vec<&RawValue>>(text)
        && let Some((i, value)) = items.into_iter().enumerate().find(|(_, value)| is_wrong(value))
    {
        return join(&format!("[{i}]"), &path_of_inexact(value));
    }
    String::new()
}

/// Returns the depth of an object or array with these values.
fn depth<'a>(values: impl Iterator<Item = &'a Value>) -> usize {
    let below = values.map(|v| match v {
        Value::Array(a) => depth(a.iter()),
        Value::Object(o) => depth(o.values()),
        _ => 0,
    });
    1 + below.max().unwrap_or(0)
}

fn has_nul(value: &Value) -> bool {
    match value {
        Value::String(s) => s.contains('\0'),
        Value::Array(a) => a.iter().any(has_nul),
        Value::Object(o) => o.iter().any(|(k, v)| k.contains('\0') || has_nul(v)),
        _ => false,
    }
}

/// Replaces floats that some databases would store as another number by the number that all of them store.
fn normalize(value: &mut Value) {
    match value {
        Value::Array(a) => a.iter_mut().for_each(normalize),
        Value::Object(o) => o.values_mut().for_each(normalize),
        Value::Number(n) if n.is_f64() => {
            let Some(f) = n.as_f64() else { return };
            if f == 0.0 {
                *value = Value::from(0.0);
            } else if f.abs() >= 1e16
                && let Ok(digits) = Decimal::from_scientific(&n.to_string())
                && let Some(whole) = digits.to_i64().map(Value::from).or_else(|| digits.to_u64().map(Value::from))
            {
                *value = whole;
            }
        }
        _ => {}
    }
}

/// A field of a merge patch (RFC 7396): absent, null, or a new value.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Patch<T> {
    /// The field is absent: its value stays.
    #[default]
    Keep,
    /// The field is null: its value is removed.
    Clear,
    /// The field has a new value.
    Set(T),
}

impl<T> Patch<T> {
    /// Applies the patch to an optional field.
    pub fn apply(self, to: &mut Option<T>) {
        match self {
            Self::Keep => {}
            Self::Clear => *to = None,
            Self::Set(v) => *to = Some(v),
        }
    }

    /// Applies the patch to a field that cannot be null. Pushes an error for null.
    pub fn apply_required(self, to: &mut T, field: &str, errors: &mut ValidationErrors) {
        match self {
            Self::Keep => {}
            Self::Clear => errors.push(field, FieldCode::Required, "must not be null"),
            Self::Set(v) => *to = v,
        }
    }

    /// Returns true if the field is present, with a value or with null.
    pub const fn is_present(&self) -> bool {
        !matches!(self, Self::Keep)
    }
}

impl Patch<Attributes> {
    /// Merges the patch into existing attributes (RFC 7396). Null removes all of them.
    pub(crate) fn merge_into(self, to: &mut Attributes) {
        match self {
            Self::Keep => {}
            Self::Clear => *to = Attributes::default(),
            Self::Set(changes) => to.merge(&changes),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Patch<T> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> std::result::Result<Self, D::Error> {
        Ok(Option::<T>::deserialize(d)?.map_or(Self::Clear, Self::Set))
    }
}

#[cfg(feature = "openapi")]
mod patch_schema {
    use utoipa::openapi::schema::{Object, OneOfBuilder, Schema, SchemaType, Type};
    use utoipa::openapi::{RefOr, schema::ObjectBuilder};
    // The derive calls this hidden trait for the arguments of generic types. utoipa has no public API for it.
    use utoipa::__dev::ComposeSchema;
    use utoipa::{PartialSchema, ToSchema};

    use super::Patch;

    type Part = RefOr<Schema>;

    /// The schema is that of [`Option`]: the value or null.
    impl<T: ComposeSchema> ComposeSchema for Patch<T> {
        fn compose(generics: Vec<Part>) -> Part {
            let nullable = |kind: &SchemaType| match kind {
                SchemaType::Type(t) => Some(SchemaType::from_iter([t.clone(), Type::Null])),
                _ => None,
            };
            let mut value = generics.first().cloned().unwrap_or_else(|| T::compose(generics));
            let kind = match &mut value {
                RefOr::T(Schema::Object(Object { schema_type, .. })) => Some(schema_type),
                RefOr::T(Schema::Array(array)) => Some(&mut array.schema_type),
                _ => None,
            };
            if let Some(kind) = kind
                && let Some(both) = nullable(kind)
            {
                *kind = both;
                return value;
            }
            OneOfBuilder::new().item(value).item(ObjectBuilder::new().schema_type(Type::Null)).into()
        }
    }

    impl<T: ToSchema> ToSchema for Patch<T>
    where
        Self: PartialSchema,
    {
        fn name() -> std::borrow::Cow<'static, str> {
            "Patch".into()
        }

        fn schemas(schemas: &mut Vec<(String, Part)>) {
            // A struct or an enum has its own schema in the document.
            let own = T::schema();
            if let RefOr::T(Schema::Object(o)) = &own
                && (!o.properties.is_empty() || o.enum_values.is_some())
            {
                schemas.push((T::name().into_owned(), own));
            }
            T::schemas(schemas);
        }
    }
}

/// The kind of a deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeleteMode {
    /// Hides the row, which can be restored (R2).
    #[default]
    Soft,
    /// Removes the row permanently, if no other row refers to it (R4, R5).
    Force,
}

impl DeleteMode {
    /// Returns the rows that can be deleted in this mode: live rows, and by force also soft-deleted rows.
    pub(crate) const fn of(self) -> IncludeDeleted {
        match self {
            Self::Soft => IncludeDeleted::No,
            Self::Force => IncludeDeleted::Yes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attributes(json: &str) -> Attributes {
        serde_json::from_str(json).unwrap()
    }

    fn refused(a: &Attributes) -> bool {
        let mut errors = ValidationErrors::default();
        a.check("attributes", &mut errors);
        !errors.0.is_empty()
    }

    #[test]
    fn numbers_are_those_that_every_database_stores() {
        let read = attributes(
            r#"{"a":-0.0,"b":[1e16,-1e18,1.8e19],"c":{"d":1.2345678901234567e17},"e":1.0,"f":1e300,"g":1e-7}"#,
        );
        let kept = r#"{"a":0.0,"b":[10000000000000000,-1000000000000000000,18000000000000000000],"c":{"d":123456789012345660},"e":1.0,"f":1e300,"g":1e-7}"#;
        assert_eq!(serde_json::to_value(&read).unwrap(), serde_json::from_str::<Value>(kept).unwrap());
        assert_eq!(attributes(&serde_json::to_string(&read).unwrap()), read);
    }

    #[test]
    fn a_float_is_read_back_as_it_was_written() {
        for json in [r#"{"a":7.250746992794981e+111}"#, r#"{"a":-3.48996740256245e-264}"#] {
            let read = attributes(json);
            assert_eq!(attributes(&serde_json::to_string(&read).unwrap()), read, "{json}");
        }
    }

    #[derive(Debug, Deserialize)]
    struct Input {
        #[serde(default, deserialize_with = "Attributes::from_input")]
        attributes: Attributes,
        #[serde(default, deserialize_with = "Attributes::from_patch")]
        patch: Patch<Attributes>,
        #[serde(default, deserialize_with = "Attributes::from_optional_input")]
        record: Option<Attributes>,
    }

    #[test]
    fn r17_integers_beyond_64_bits_are_refused_in_inputs() {
        let read = |json: &str| serde_json::from_str::<Input>(json);
        for n in ["18446744073709551616", "-9223372036854775809", "123456789012345678901234567890"] {
            for json in [
                format!("{{\"attributes\":{{\"a\":{n}}}}}"),
                format!("{{\"patch\":{{\"a\":[1.5,{{\"b\":{n}}}]}}}}"),
                format!("{{\"record\":{{\"a\\\"\\\\\":[\"-\", {n} ]}}}}"),
            ] {
                let error = read(&json).unwrap_err().to_string();
                assert!(error.contains(n) && error.contains("send it as a string"), "{json}: {error}");
            }
        }
        let kept = r#"{"a":18446744073709551615,"b":-9223372036854775808,"c":"99999999999999999999","d":1e30,"e":1.0,"f":"\\"}"#;
        let input = read(&format!(r#"{{"attributes":{kept},"patch":null,"record":null}}"#)).unwrap();
        assert_eq!(input.attributes, attributes(kept));
        assert_eq!((input.patch, input.record), (Patch::Clear, None));
        assert!(matches!(read("{}").unwrap(), Input { patch: Patch::Keep, record: None, .. }));
        assert!(read(r#"{"attributes":[]}"#).unwrap_err().to_string().contains("must be a JSON object"));
        let deep = format!("{{\"patch\":{{\"a\":{}{}}}}}", "[".repeat(200), "]".repeat(200));
        assert!(read(&deep).unwrap_err().to_string().contains("at most 30 levels"));
    }

    #[test]
    fn r17_attributes_that_some_databases_cannot_store_are_refused() {
        assert!(refused(&attributes("{\"a\":[\"\\u0000\"]}")));
        assert!(refused(&attributes("{\"a\":{\"\\u0000\":1}}")));
        assert!(!refused(&attributes("{\"a\":\"\\\\u0000\"}")));
        let nested = |n: usize| attributes(&format!("{{\"a\":{}{}}}", "[".repeat(n), "]".repeat(n)));
        assert!(!refused(&nested(Attributes::MAX_DEPTH - 1)));
        assert!(refused(&nested(Attributes::MAX_DEPTH)));
    }
}
