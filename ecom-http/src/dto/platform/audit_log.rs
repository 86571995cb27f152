//! The representation of the audit log.

use chrono::{DateTime, Utc};
use ecom_core::platform::AuditLogEntry;
use serde::Serialize;
use serde_json::{Map, Value};
use uuid::Uuid;

/// An entry of the audit log: an edit of the catalog, of a customer, of the access or of a setting, or an import.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct AuditLogEntryView<'a> {
    /// The id of the entry.
    pub id: Uuid,
    /// When the edit was made, or when the import made its first change (RFC 3339, UTC).
    #[serde(serialize_with = "crate::dto::time")]
    pub occurred_at: DateTime<Utc>,
    /// The actor who made the edit, such as `user:` and the id of a user, or `api_key:` and the id of an API key.
    pub actor: &'a str,
    /// The kind of what was edited, such as `product`, or `import`.
    pub entity: &'a str,
    /// The kind of edit, such as `product.updated`; for an import, such as `import.products`.
    pub action: &'a str,
    /// The id of what was edited, or of the import.
    pub entity_id: Uuid,
    /// The fields that the edit changed, as they were before. Null if the edit created the entity, for an import, and
    /// if there are no values: `customer.erased`, `customer.purged` and `user.purged` never have any. Of a list, these
    /// are the elements that changed; rows such as `skus` have their `id` and the fields that changed.
    #[schema(value_type = Option<Object>, example = json!({"title": "Lamp"}))]
    pub before: Option<&'a Map<String, Value>>,
    /// The same fields after the edit. Null if the edit removed the entity, and if there are no values. For an
    /// import: `source`, `file`, and `changes`, the number of changes by kind.
    #[schema(value_type = Option<Object>, example = json!({"title": "Desk lamp"}))]
    pub after: Option<&'a Map<String, Value>>,
    /// When personal data was removed from the values, because the customer was erased or permanently deleted, or the
    /// user was (RFC 3339, UTC); null if none was.
    #[serde(serialize_with = "crate::dto::maybe_time")]
    pub erased_at: Option<DateTime<Utc>>,
}

impl<'a> AuditLogEntryView<'a> {
    pub(crate) const FIELDS: &'static [&'static str] =
        &["id", "occurred_at", "actor", "entity", "action", "entity_id", "before", "after", "erased_at"];

    /// Returns the representation.
    pub(crate) fn of(entry: &'a AuditLogEntry) -> Self {
        Self {
            id: entry.id.0,
            occurred_at: entry.occurred_at,
            actor: entry.actor.as_str(),
            entity: entry.entity(),
            action: &entry.action,
            entity_id: entry.aggregate_id,
            before: entry.before.as_ref(),
            after: entry.after.as_ref(),
            erased_at: entry.erased_at,
        }
    }
}
