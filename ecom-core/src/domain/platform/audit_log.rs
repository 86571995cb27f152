//! The audit log: who edited the catalog, the customers, the access and the settings of the shop, when, and what the
//! values were before and after. Entries are written in the transaction of the edit.
//!
//! The ledger of stock and the histories of orders have the other changes. An import has one entry, which counts its
//! changes.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicI64;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::domain::catalog::product::Product;
use crate::domain::common::Actor;
use crate::error::{Result, ValidationErrors};
use crate::id::{AuditLogEntryId, CustomerId};
use crate::text::check_text;

/// An entry of the audit log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AuditLogEntry {
    /// The id of the entry.
    pub id: AuditLogEntryId,
    /// The name of the event of the edit ([`EventKind`](crate::platform::EventKind)), such as `product.updated`. For an
    /// import, `import.` and the kind of its records, such as `import.products`.
    pub action: String,
    /// The id of what was edited, or of the import.
    pub aggregate_id: Uuid,
    /// The customer whose personal data the entry may contain.
    pub customer_id: Option<CustomerId>,
    /// The fields that the edit changed, as they were before; `None` if the edit created the aggregate, or if the entry
    /// has no values: those of an erasure and of the permanent deletion of a customer or a user never have any, and
    /// [`Self::erased_at`] says whether they were removed later. An amount is a decimal number with its currency. No
    /// value is a secret.
    pub before: Option<Map<String, Value>>,
    /// The same fields after the edit; `None` if the edit removed the aggregate, or if the entry has no values. The
    /// entry of an import has its source and the number of its changes.
    pub after: Option<Map<String, Value>>,
    /// When personal data was removed from `before` and `after`, because the customer was erased (R45) or permanently
    /// deleted, or the user was.
    pub erased_at: Option<Timestamp>,
    /// When the edit was made, or when the import made its first change.
    pub occurred_at: Timestamp,
    /// The actor who made the edit.
    pub actor: Actor,
}

impl AuditLogEntry {
    /// Returns the word for the kind of what was edited: the part of the action before the dot, such as `product`.
    pub fn entity(&self) -> &str {
        self.action.split('.').next().unwrap_or_default()
    }

    /// Returns the entry without personal data. That of a user keeps what the user may do: its roles, its customer, and
    /// whether it was blocked or deleted. Other entries lose all values.
    #[must_use]
    pub fn erased(&self, now: Timestamp) -> Self {
        let keeps = |name: &String, _: &mut Value| !["email", "name"].contains(&name.as_str());
        let of_user = |mut values: Map<String, Value>| {
            values.retain(keeps);
            values
        };
        let values = |values: &Option<Map<String, Value>>| match self.entity() {
            "user" => values.clone().map(of_user),
            _ => None,
        };
        let (before, after) = (values(&self.before), values(&self.after));
        Self { before, after, erased_at: self.erased_at.or(Some(now)), ..self.clone() }
    }
}

/// The filter of a list of entries. An entry must match every filter that is set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditLogFilter {
    /// The entries of this actor, such as `user:` and the id of a user.
    pub actor: Option<String>,
    /// The edits of this kind of aggregate ([`AuditLogEntry::entity`]), such as `product`.
    pub entity: Option<String>,
    /// The edits with this [`AuditLogEntry::action`].
    pub action: Option<String>,
    /// The edits of this aggregate.
    pub aggregate_id: Option<Uuid>,
    /// The edits from this time on.
    pub from: Option<Timestamp>,
    /// The edits before this time.
    pub until: Option<Timestamp>,
}

impl AuditLogFilter {
    /// Refuses texts that no entry can have.
    ///
    /// # Errors
    /// `Validation` with each such field.
    pub fn check(&self) -> Result<()> {
        let mut errors = ValidationErrors::default();
        for (field, text) in [("actor", &self.actor), ("entity", &self.entity), ("action", &self.action)] {
            if let Some(text) = text {
                check_text(field, text, 1, 100, &mut errors);
            }
        }
        errors.into_result()
    }
}

/// An aggregate whose edits the audit log has.
pub(crate) trait Audited: Sync {
    /// Returns the id.
    fn id(&self) -> Uuid;

    /// Returns the revision that the events of the aggregate have.
    fn revision(&self) -> i64;

    /// Returns the fields that the audit log shows. None of them is a secret.
    fn document(&self) -> Map<String, Value>;

    /// Returns the customer whose personal data the fields may contain.
    fn customer(&self) -> Option<CustomerId> {
        None
    }

    /// Returns the product, if the aggregate is one.
    fn product(&self) -> Option<&Product> {
        None
    }
}

/// Returns the fields of an aggregate without those that every entry has anyway: ids, versions, times and actors. The
/// time of a soft deletion stays.
pub(crate) fn fields<T: Serialize>(aggregate: &T, without: &[&str]) -> Map<String, Value> {
    let Ok(Value::Object(mut fields)) = serde_json::to_value(aggregate) else { return Map::new() };
    leave_out(&mut fields, without);
    fields
}

/// Removes these fields, and those that [`fields`] leaves out of every row.
pub(crate) fn leave_out(fields: &mut Map<String, Value>, without: &[&str]) {
    let deleted_at = fields.remove("audit").and_then(|mut audit| audit.get_mut("deleted_at").map(Value::take));
    for name in without {
        fields.remove(*name);
    }
    if let Some(time) = deleted_at.filter(|time| !time.is_null()) {
        fields.insert("deleted_at".to_owned(), time);
    }
}

/// The fields of an aggregate, by name.
type Fields = Map<String, Value>;

/// Returns the fields that differ between two states. A state that is `None` stays `None`, and the other is returned
/// whole.
pub(crate) fn differences(before: Option<Fields>, after: Option<Fields>) -> (Option<Fields>, Option<Fields>) {
    match (before, after) {
        (Some(before), Some(after)) => {
            let (before, after) = differing_fields(before, after);
            (Some(before), Some(after))
        }
        states => states,
    }
}

fn differing_fields(mut before: Fields, mut after: Fields) -> (Fields, Fields) {
    before.retain(|name, old| {
        let Some(new) = after.get_mut(name) else { return true };
        if old == new {
            after.remove(name);
            return false;
        }
        let (left, right) = differing(old.take(), new.take());
        (*old, *new) = (left, right);
        true
    });
    (before, after)
}

/// Returns what differs between two values that are not equal.
fn differing(before: Value, after: Value) -> (Value, Value) {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => {
            let (before, after) = differing_fields(before, after);
            (Value::Object(before), Value::Object(after))
        }
        (Value::Array(before), Value::Array(after)) => match (ids(&before), ids(&after)) {
            (Some(old), Some(new)) if is_in_order(&old, &new) => differing_rows(before, after),
            (Some(_), Some(_)) => (Value::Array(before), Value::Array(after)),
            _ => differing_elements(before, after),
        },
        different => different,
    }
}

/// Returns the ids of an array of rows; `None` if an element has none.
fn ids(rows: &[Value]) -> Option<Vec<&str>> {
    rows.iter().map(|row| row.get("id")?.as_str()).collect()
}

/// Returns whether the ids that both arrays have are in the same order.
fn is_in_order(before: &[&str], after: &[&str]) -> bool {
    let kept = before.iter().filter(|id| after.contains(id));
    kept.eq(after.iter().filter(|id| before.contains(id)))
}

/// Returns the elements that only one of two arrays has, or both arrays if only the order differs.
fn differing_elements(before: Vec<Value>, after: Vec<Value>) -> (Value, Value) {
    let mut right: Vec<Option<&Value>> = after.iter().map(Some).collect();
    let mut left = Vec::new();
    for old in &before {
        match right.iter_mut().find(|new| **new == Some(old)) {
            Some(new) => *new = None,
            None => left.push(old.clone()),
        }
    }
    let right: Vec<Value> = right.into_iter().flatten().cloned().collect();
    if left.is_empty() && right.is_empty() {
        return (Value::Array(before), Value::Array(after));
    }
    (Value::Array(left), Value::Array(right))
}

/// Returns the rows that differ, each with its id and the fields that differ.
fn differing_rows(before: Vec<Value>, after: Vec<Value>) -> (Value, Value) {
    let mut left = Vec::new();
    let mut right = Vec::new();
    let mut after: Vec<Option<Value>> = after.into_iter().map(Some).collect();
    for old in before {
        let id = old["id"].clone();
        let Some(new) = after.iter_mut().find(|new| new.as_ref().is_some_and(|new| new["id"] == id)) else {
            left.push(old);
            continue;
        };
        let Some(new) = new.take().filter(|new| *new != old) else { continue };
        let (mut old, mut new) = differing(old, new);
        old["id"] = id.clone();
        new["id"] = id;
        left.push(old);
        right.push(new);
    }
    right.extend(after.into_iter().flatten());
    (Value::Array(left), Value::Array(right))
}

/// An import, which has one entry in the audit log.
#[derive(Debug)]
pub(crate) struct Import {
    /// The id of the import and of its entry.
    pub id: AuditLogEntryId,
    /// The kind of the records, such as `products`.
    pub of: &'static str,
    /// The system that the records come from, if the caller has named it.
    pub source: Option<String>,
    /// The name of the file, if the caller has named it.
    pub file: Option<String>,
    /// The actor who imports.
    pub actor: Actor,
    /// Whether the products that a transaction creates have one event in common.
    pub is_bulk: bool,
    /// The number of these events, which orders them.
    pub events: AtomicI64,
}

/// The field of an import's entry that counts the changes.
const CHANGES: &str = "changes";

impl Import {
    /// Returns the entry of the import before its first change.
    pub fn entry(&self, now: Timestamp) -> AuditLogEntry {
        let of = [("source", &self.source), ("file", &self.file)];
        let named = of.into_iter().filter_map(|(name, text)| Some((name.to_owned(), json!(text.as_ref()?))));
        AuditLogEntry {
            id: self.id,
            action: format!("import.{}", self.of),
            aggregate_id: self.id.0,
            customer_id: None,
            before: None,
            after: Some(named.collect()),
            erased_at: None,
            occurred_at: now,
            actor: self.actor.clone(),
        }
    }

    /// Adds changes, by the names of their events, to those that the entry of an import counts.
    pub fn count(entry: &mut AuditLogEntry, changes: &BTreeMap<&'static str, u64>) {
        let counted = entry.after.get_or_insert_default().entry(CHANGES).or_insert_with(|| json!({}));
        for (name, number) in changes {
            let before = counted.get(*name).and_then(Value::as_u64).unwrap_or_default();
            counted[*name] = json!(before + number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(value: &Value) -> Option<Fields> {
        value.as_object().cloned()
    }

    #[test]
    fn an_entry_has_the_fields_that_differ() {
        let before = json!({
            "title": "Lamp", "brand": "Lumen", "attributes": {"color": "red", "watts": 7},
            "tags": ["a", "b"], "order": ["x", "y"], "categories": [{"id": "1"}, {"id": "2"}], "skus": [
                {"id": "1", "code": "L-1", "price": 100},
                {"id": "2", "code": "L-2", "price": 200},
                {"id": "3", "code": "L-3", "price": 300},
            ],
        });
        let after = json!({
            "title": "Lamp", "brand": null, "attributes": {"color": "blue", "watts": 7, "size": "m"},
            "tags": ["a"], "order": ["y", "x"], "categories": [{"id": "2"}, {"id": "1"}], "skus": [
                {"id": "1", "code": "L-1", "price": 100},
                {"id": "2", "code": "L-2", "price": 250},
                {"id": "4", "code": "L-4", "price": 400},
            ],
        });
        let (left, right) = differences(map(&before), map(&after));
        assert_eq!(
            Value::from(left.unwrap()),
            json!({
                "brand": "Lumen", "attributes": {"color": "red"}, "tags": ["b"], "order": ["x", "y"],
            "categories": [{"id": "1"}, {"id": "2"}],
                "skus": [{"id": "2", "price": 200}, {"id": "3", "code": "L-3", "price": 300}],
            })
        );
        assert_eq!(
            Value::from(right.unwrap()),
            json!({
                "brand": null, "attributes": {"color": "blue", "size": "m"}, "tags": [], "order": ["y", "x"],
            "categories": [{"id": "2"}, {"id": "1"}],
                "skus": [{"id": "2", "price": 250}, {"id": "4", "code": "L-4", "price": 400}],
            })
        );
        let whole = map(&before);
        assert_eq!(differences(None, whole.clone()), (None, whole.clone()), "what is created is shown whole");
        assert_eq!(differences(whole.clone(), whole), (Some(Map::new()), Some(Map::new())));
    }

    #[test]
    fn an_import_counts_its_changes() {
        let import = Import {
            id: AuditLogEntryId(Uuid::from_u128(1)),
            of: "products",
            source: None,
            file: Some("lamps.ndjson".to_owned()),
            actor: Actor::system(),
            is_bulk: false,
            events: AtomicI64::new(0),
        };
        let mut entry = import.entry(Timestamp::UNIX_EPOCH);
        Import::count(&mut entry, &BTreeMap::from([("product.created", 2)]));
        Import::count(&mut entry, &BTreeMap::from([("product.created", 3), ("product.updated", 1)]));
        assert_eq!((entry.action.as_str(), entry.entity()), ("import.products", "import"));
        assert_eq!(
            Value::from(entry.after.unwrap()),
            json!({"file": "lamps.ndjson", "changes": {"product.created": 5, "product.updated": 1}})
        );
    }
}
