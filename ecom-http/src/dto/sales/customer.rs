//! The representations of customers and of their addresses.

use chrono::{DateTime, Utc};
use ecom_core::common::Attributes;
use ecom_core::sales::{Address, Customer};
use serde::Serialize;
use uuid::Uuid;

/// A customer.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct CustomerView<'a> {
    /// The id of the customer.
    pub id: Uuid,
    /// The first name.
    #[schema(example = "Ada")]
    pub first_name: &'a str,
    /// The last name.
    #[schema(example = "Lovelace")]
    pub last_name: &'a str,
    /// The email address in the spelling in which it was last written, unique among live customers, ignoring case.
    #[schema(format = "email", example = "ada@example.com")]
    pub email: &'a str,
    /// The telephone number: digits, with a plus before an international number; null if there is none.
    #[schema(example = "+442079460018")]
    pub telephone: Option<&'a str>,
    /// Free attributes.
    pub attributes: &'a Attributes,
    /// The system that the customer was imported from; null if the customer was not imported.
    pub source: Option<&'a str>,
    /// The id of the customer in that system.
    pub external_id: Option<&'a str>,
    /// The version, which increases when somebody edits the customer. Writes name it (R1).
    pub version: i64,
    /// When the customer was created (RFC 3339, UTC).
    #[serde(serialize_with = "crate::dto::time")]
    pub created_at: DateTime<Utc>,
    /// When the customer was last edited (RFC 3339, UTC).
    #[serde(serialize_with = "crate::dto::time")]
    pub updated_at: DateTime<Utc>,
    /// The actor who created the customer.
    pub created_by: &'a str,
    /// The actor who last edited the customer.
    pub updated_by: &'a str,
    /// When the customer was soft-deleted (RFC 3339, UTC); null for a live one.
    #[serde(serialize_with = "crate::dto::maybe_time")]
    pub deleted_at: Option<DateTime<Utc>>,
    /// When the personal data of the customer was erased (RFC 3339, UTC); null if it was not. Such a customer cannot be
    /// restored.
    #[serde(serialize_with = "crate::dto::maybe_time")]
    pub erased_at: Option<DateTime<Utc>>,
}

impl CustomerView<'_> {
    pub(crate) const FIELDS: &'static [&'static str] = &[
        "id",
        "first_name",
        "last_name",
        "email",
        "telephone",
        "attributes",
        "source",
        "external_id",
        "version",
        "created_at",
        "updated_at",
        "created_by",
        "updated_by",
        "deleted_at",
        "erased_at",
    ];
}

impl<'a> From<&'a Customer> for CustomerView<'a> {
    fn from(c: &'a Customer) -> Self {
        Self {
            id: c.id.0,
            first_name: &c.first_name,
            last_name: &c.last_name,
            email: &c.email,
            telephone: c.telephone.as_deref(),
            attributes: &c.attributes,
            source: c.external.as_ref().map(|x| x.source.as_str()),
            external_id: c.external.as_ref().map(|x| x.external_id.as_str()),
            version: c.audit.version,
            created_at: c.audit.created_at,
            updated_at: c.audit.updated_at,
            created_by: c.audit.created_by.as_str(),
            updated_by: c.audit.updated_by.as_str(),
            deleted_at: c.audit.deleted_at,
            erased_at: c.erased_at,
        }
    }
}

/// An address of a customer.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct AddressView<'a> {
    /// The id of the address.
    pub id: Uuid,
    /// The id of the customer that the address belongs to.
    pub customer_id: Uuid,
    /// The street.
    #[schema(example = "Ockham Lane")]
    pub street: &'a str,
    /// The house number; null if there is none.
    #[schema(example = "12a")]
    pub number: Option<&'a str>,
    /// The city.
    #[schema(example = "London")]
    pub city: &'a str,
    /// The state or province; null if there is none.
    pub region: Option<&'a str>,
    /// The postal code; null if there is none.
    #[schema(example = "SW1Y 4LB")]
    pub postal_code: Option<&'a str>,
    /// The country, as its ISO 3166-1 alpha-2 code in upper case; null if it is not known.
    #[schema(example = "GB")]
    pub country: Option<&'a str>,
    /// The version, which increases when somebody edits the address. Writes name it (R1).
    pub version: i64,
    /// When the address was created (RFC 3339, UTC).
    #[serde(serialize_with = "crate::dto::time")]
    pub created_at: DateTime<Utc>,
    /// When the address was last edited (RFC 3339, UTC).
    #[serde(serialize_with = "crate::dto::time")]
    pub updated_at: DateTime<Utc>,
    /// The actor who created the address.
    pub created_by: &'a str,
    /// The actor who last edited the address.
    pub updated_by: &'a str,
    /// When the customer of the address was soft-deleted (RFC 3339, UTC); null while the customer is live.
    #[serde(serialize_with = "crate::dto::maybe_time")]
    pub deleted_at: Option<DateTime<Utc>>,
}

impl AddressView<'_> {
    pub(crate) const FIELDS: &'static [&'static str] = &[
        "id",
        "customer_id",
        "street",
        "number",
        "city",
        "region",
        "postal_code",
        "country",
        "version",
        "created_at",
        "updated_at",
        "created_by",
        "updated_by",
        "deleted_at",
    ];
}

impl<'a> From<&'a Address> for AddressView<'a> {
    fn from(a: &'a Address) -> Self {
        Self {
            id: a.id.0,
            customer_id: a.customer_id.0,
            street: &a.street,
            number: a.number.as_deref(),
            city: &a.city,
            region: a.region.as_deref(),
            postal_code: a.postal_code.as_deref(),
            country: a.country.as_deref(),
            version: a.audit.version,
            created_at: a.audit.created_at,
            updated_at: a.audit.updated_at,
            created_by: a.audit.created_by.as_str(),
            updated_by: a.audit.updated_by.as_str(),
            deleted_at: a.audit.deleted_at,
        }
    }
}
