//! The representation of API keys.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use ecom_core::access::{ApiKey, Permission, Secret};
use serde::Serialize;
use uuid::Uuid;

/// An API key.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct ApiKeyView<'a> {
    /// The id of the key.
    pub id: Uuid,
    /// A name for people.
    #[schema(example = "warehouse robot")]
    pub name: &'a str,
    /// The first characters of the secret, by which people recognize the key.
    #[schema(example = "ecom_Xy12ab")]
    pub prefix: &'a str,
    /// The secret, which authenticates requests in the header `Authorization: Bearer <secret>`. Only the response to
    /// the creation has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<&'a str>,
    /// The permissions that the key grants.
    pub permissions: &'a BTreeSet<Permission>,
    /// Whether the key may do everything, including what later releases add.
    pub is_admin: bool,
    /// When the key expires (RFC 3339, UTC); null if it does not.
    #[serde(serialize_with = "crate::dto::maybe_time")]
    pub expires_at: Option<DateTime<Utc>>,
    /// When the key was last used, to about a minute (RFC 3339, UTC); null if it never was.
    #[serde(serialize_with = "crate::dto::maybe_time")]
    pub last_used_at: Option<DateTime<Utc>>,
    /// The version, which increases when somebody edits the key. Writes name it (R1).
    pub version: i64,
    /// When the key was created (RFC 3339, UTC).
    #[serde(serialize_with = "crate::dto::time")]
    pub created_at: DateTime<Utc>,
    /// When the key was last edited (RFC 3339, UTC).
    #[serde(serialize_with = "crate::dto::time")]
    pub updated_at: DateTime<Utc>,
    /// The actor who created the key.
    pub created_by: &'a str,
    /// The actor who last edited the key.
    pub updated_by: &'a str,
}

impl<'a> ApiKeyView<'a> {
    pub(crate) const FIELDS: &'static [&'static str] = &[
        "id",
        "name",
        "prefix",
        "secret",
        "permissions",
        "is_admin",
        "expires_at",
        "last_used_at",
        "version",
        "created_at",
        "updated_at",
        "created_by",
        "updated_by",
    ];

    pub(crate) fn new(key: &'a ApiKey, secret: Option<&'a Secret>) -> Self {
        Self {
            id: key.id.0,
            name: &key.name,
            prefix: &key.prefix,
            secret: secret.map(Secret::reveal),
            permissions: &key.permissions,
            is_admin: key.is_admin,
            expires_at: key.expires_at,
            last_used_at: key.last_used_at,
            version: key.audit.version,
            created_at: key.audit.created_at,
            updated_at: key.audit.updated_at,
            created_by: key.audit.created_by.as_str(),
            updated_by: key.audit.updated_by.as_str(),
        }
    }
}
