//! Bills and credit notes of orders.

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::domain::common::{Audit, IncludeDeleted, Patch};
use crate::domain::sales::order::{Totals, check_range};
use crate::domain::words::words;
use crate::error::{Result, ValidationErrors};
use crate::id::{BillId, OrderId};
use crate::money::ExactDecimal;

words! {
    /// The kind of a bill.
    BillKind {
        /// A bill, which the buyer pays.
        Bill = "bill",
        /// A credit note, which takes back a part of a bill.
        CreditNote = "credit_note",
    }
}

words! {
    /// The status of a bill or a credit note. Of a credit note, `open` means that the amount has not been refunded yet,
    /// and `paid` records the refund.
    BillStatus {
        /// The bill has not been paid, or the amount of the credit note has not been refunded yet.
        Open = "open",
        /// The bill has been paid, and its lines no longer change, or the amount of the credit note has been refunded.
        Paid = "paid",
        /// The bill does not count: its order was canceled before it was paid.
        Void = "void",
    }
}

words! {
    /// The way in which a bill is paid.
    #[derive(Default)]
    PaymentType {
        /// In cash.
        #[default]
        Cash = "cash",
        /// By card.
        Card = "card",
    }
}

/// A bill or a credit note of an order. It is made with the order and follows its lines until it is paid or one of its
/// lines has canceled units (R39). It is never removed, and it is hidden while its order is soft-deleted (R2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bill {
    /// The id of the bill.
    pub id: BillId,
    /// The order of the bill.
    pub order_id: OrderId,
    /// Whether it is a bill or a credit note.
    pub kind: BillKind,
    /// The number within the bills, or within the credit notes, of the order. It starts at 1.
    pub seq: i32,
    /// The bill that a credit note corrects.
    pub corrects: Option<BillId>,
    /// The number, such as `BILL-2026-000123`, unique for ever.
    pub number: String,
    /// The amounts: those of its lines and, on the first bill, of shipping.
    pub totals: Totals,
    /// How the bill is paid.
    pub payment_type: PaymentType,
    /// The status.
    pub status: BillStatus,
    /// The time of issue.
    pub date: Timestamp,
    /// When and by whom the bill was created and edited, and its version. It counts as soft-deleted while its order is.
    pub audit: Audit,
}

/// The filter of a list of bills.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BillFilter {
    /// The bills of this order.
    pub order: Option<OrderId>,
    /// The bills of this kind.
    pub kind: Option<BillKind>,
    /// The bills with this status.
    pub status: Option<BillStatus>,
    /// The bills of this date or a later one.
    pub from: Option<Timestamp>,
    /// The bills before this date.
    pub until: Option<Timestamp>,
    /// Whether the bills of soft-deleted orders are listed (R2).
    pub include_deleted: IncludeDeleted,
}

impl BillFilter {
    /// Refuses a range of dates that ends before it begins.
    ///
    /// # Errors
    /// `Validation` on field `from`.
    pub fn check(&self) -> Result<()> {
        let mut errors = ValidationErrors::default();
        check_range(self.from, self.until, &mut errors);
        errors.into_result()
    }
}

words! {
    /// The order of a list of bills. Equal bills are ordered by id.
    #[derive(Default)]
    BillSort {
        /// By date, newest first.
        #[default]
        DateDesc = "date_desc",
        /// By date, oldest first.
        DateAsc = "date_asc",
    }
}

/// A merge patch of a bill (RFC 7396): fields that it leaves out stay unchanged.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BillPatch {
    /// How the bill is paid. It can be changed while the bill is open; null is refused.
    #[serde(default)]
    pub payment_type: Patch<PaymentType>,
    /// Requires `orders:discount`: the discount on the whole bill, in the major unit of the currency, which is spread
    /// over its lines (R27). It can be changed while the bill is open, none of its lines has canceled units, and the
    /// order is pending or in progress. A credit note refuses it. Null removes it.
    #[serde(default)]
    pub discount: Patch<ExactDecimal>,
    /// True if the bill has been paid, or if the amount of the credit note has been refunded. A paid bill stays paid.
    #[serde(default)]
    pub paid: Option<bool>,
    /// The version of the bill that the client read (R1), unless `If-Match` names it.
    #[serde(default)]
    pub version: Option<i64>,
}
