//! The representation of bills and credit notes.

use chrono::{DateTime, Utc};
use ecom_core::money::Money;
use ecom_core::sales::{Bill, BillKind, BillStatus, PaymentType};
use serde::Serialize;
use uuid::Uuid;

use crate::dto::Amount;

/// A bill or a credit note of an order.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct BillView<'a> {
    /// The id of the bill.
    pub id: Uuid,
    /// The number, unique for ever.
    #[schema(example = "BILL-2026-000123")]
    pub number: &'a str,
    /// The id of the order.
    pub order_id: Uuid,
    /// Whether it is a bill or a credit note.
    pub kind: BillKind,
    /// The number within the bills, or within the credit notes, of the order; it starts at 1.
    pub seq: i32,
    /// The id of the bill that a credit note corrects; null for a bill.
    pub corrects: Option<Uuid>,
    /// The status. Of a credit note, `open` means that the amount has not been refunded yet, and `paid` records the
    /// refund.
    pub status: BillStatus,
    /// How the bill is paid.
    pub payment_type: PaymentType,
    /// The time of issue (RFC 3339, UTC).
    #[serde(serialize_with = "crate::dto::time")]
    pub date: DateTime<Utc>,
    /// The currency of all amounts, as its ISO 4217 code.
    #[schema(example = "USD")]
    pub currency: &'static str,
    /// Bill: the sum of the subtotals of its lines. Credit note: canceled units × unit price.
    pub subtotal: Amount,
    /// The cost of shipping, less its discounts.
    pub shipping: Amount,
    /// Bill: the sum of the discounts of its lines. Credit note: the part of the discount that falls on the canceled
    /// units.
    pub discount: Amount,
    /// The tax that is added to the prices.
    pub tax_added: Amount,
    /// The tax that the prices include.
    pub tax_included: Amount,
    /// The total: subtotal + shipping − discount + added tax. The buyer pays the total of a bill, and gets that of a
    /// credit note back.
    pub total: Amount,
    /// The version, which increases when the bill changes. Writes name it (R1).
    pub version: i64,
    /// When the bill was created (RFC 3339, UTC).
    #[serde(serialize_with = "crate::dto::time")]
    pub created_at: DateTime<Utc>,
    /// When the bill was last changed (RFC 3339, UTC).
    #[serde(serialize_with = "crate::dto::time")]
    pub updated_at: DateTime<Utc>,
    /// The actor who created the bill.
    pub created_by: &'a str,
    /// The actor who last changed the bill.
    pub updated_by: &'a str,
    /// When the order of the bill was soft-deleted (RFC 3339, UTC); null while the order is live.
    #[serde(serialize_with = "crate::dto::maybe_time")]
    pub deleted_at: Option<DateTime<Utc>>,
}

impl<'a> BillView<'a> {
    pub(crate) const FIELDS: &'static [&'static str] = &[
        "id",
        "number",
        "order_id",
        "kind",
        "seq",
        "corrects",
        "status",
        "payment_type",
        "date",
        "currency",
        "subtotal",
        "shipping",
        "discount",
        "tax_added",
        "tax_included",
        "total",
        "version",
        "created_at",
        "updated_at",
        "created_by",
        "updated_by",
        "deleted_at",
    ];

    pub(crate) fn of(b: &'a Bill, numbers: bool) -> Self {
        let money = |m: Money| Amount::new(m.amount(), numbers);
        Self {
            id: b.id.0,
            number: &b.number,
            order_id: b.order_id.0,
            kind: b.kind,
            seq: b.seq,
            corrects: b.corrects.map(Into::into),
            status: b.status,
            payment_type: b.payment_type,
            date: b.date,
            currency: b.totals.total.currency().code(),
            subtotal: money(b.totals.subtotal),
            shipping: money(b.totals.shipping),
            discount: money(b.totals.discount),
            tax_added: money(b.totals.tax_added),
            tax_included: money(b.totals.tax_included),
            total: money(b.totals.total),
            version: b.audit.version,
            created_at: b.audit.created_at,
            updated_at: b.audit.updated_at,
            created_by: b.audit.created_by.as_str(),
            updated_by: b.audit.updated_by.as_str(),
            deleted_at: b.audit.deleted_at,
        }
    }
}
