//! Products read with rusqlite on the calling thread, as a plain program reads them, and with as much decoded as the shop
//! decodes.

use std::collections::{BTreeMap, HashMap};

use uuid::Uuid;

use crate::support::Bench;

/// The product that a plain program would build from the statement's rows, with as much in it as that of the shop.
#[derive(Debug, Default)]
pub struct Plain {
    texts: Vec<Option<String>>,
    numbers: Vec<i64>,
    ids: Vec<Uuid>,
    tags: Vec<String>,
    images: Vec<PlainImage>,
    attributes: serde_json::Map<String, serde_json::Value>,
    options: BTreeMap<String, String>,
    categories: Vec<(i64, Uuid, String, String, String)>,
}

#[derive(Debug, serde::Deserialize)]
#[expect(dead_code, reason = "read so that the driver decodes it")]
struct PlainImage {
    url: String,
    alt: Option<String>,
}

/// The positions of the columns of the statement, by their kind.
pub struct Columns {
    json: HashMap<&'static str, Vec<usize>>,
    categories: usize,
    others: Vec<usize>,
}

impl Columns {
    pub fn of(statement: &rusqlite::Statement<'_>) -> Self {
        let names = statement.column_names();
        let mut json = HashMap::new();
        for name in ["tags", "images", "attributes", "option_values"] {
            let at = |n: &(usize, &&str)| (*n.1 == name).then_some(n.0);
            json.insert(name, names.iter().enumerate().filter_map(|n| at(&n)).collect::<Vec<_>>());
        }
        // The expression has no name that is one word.
        let categories = names.iter().position(|n| n.contains('(')).expect("the categories");
        let is_other = |n: &usize| *n != categories && !json.values().any(|at| at.contains(n));
        let others = (0..names.len()).filter(is_other).collect();
        Self { json, categories, others }
    }
}

/// A connection as a plain program opens it, with the settings that the shop has.
pub fn open(b: &Bench) -> rusqlite::Connection {
    let conn = rusqlite::Connection::open(b.dir.path().join("shop.db")).expect("a connection");
    conn.pragma_update(None, "cache_size", -8_192).expect("a setting");
    conn
}

/// Returns the rows of a statement that reads products.
pub fn read(
    conn: &rusqlite::Connection,
    text: &str,
    columns: &Columns,
    parameters: impl rusqlite::Params,
) -> Vec<Plain> {
    let mut statement = conn.prepare_cached(text).expect("a statement");
    let rows = statement.query_map(parameters, |row| plain(row, columns)).expect("rows");
    rows.map(|row| row.expect("a row")).collect()
}

fn plain(row: &rusqlite::Row<'_>, columns: &Columns) -> rusqlite::Result<Plain> {
    use rusqlite::types::ValueRef;
    let mut plain = Plain::default();
    for at in &columns.others {
        match row.get_ref(*at)? {
            ValueRef::Null => plain.texts.push(None),
            ValueRef::Integer(number) => plain.numbers.push(number),
            ValueRef::Text(text) => plain.texts.push(Some(std::str::from_utf8(text).expect("a text").to_owned())),
            ValueRef::Blob(id) => plain.ids.push(Uuid::from_slice(id).expect("an id")),
            ValueRef::Real(_) => unreachable!("no column is a float"),
        }
    }
    plain.tags = json(row, columns.json["tags"][0])?;
    plain.images = json(row, columns.json["images"][0])?;
    plain.attributes = json(row, columns.json["attributes"][0])?;
    plain.options = json(row, columns.json["option_values"][0])?;
    plain.categories = json(row, columns.categories)?;
    Ok(plain)
}

fn json<T: serde::de::DeserializeOwned + Default>(row: &rusqlite::Row<'_>, at: usize) -> rusqlite::Result<T> {
    let text = row.get_ref(at)?.as_str_or_null().expect("a text");
    Ok(text.map_or_else(T::default, |text| serde_json::from_str(text).expect("JSON")))
}
