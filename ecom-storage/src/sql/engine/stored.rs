//! How enums are stored: each variant as a number or a word.

use ecom_core::access::{OneTimePurpose, SessionEnd};
use ecom_core::catalog::{AvailabilityStatus, ProductStatus, RatingSource};
use ecom_core::platform::{JobPriority, JobState, SettingName, WebhookDeliveryState};
use ecom_core::sales::{
    AdjustmentKind, BillKind, BillStatus, CartState, ChangeKind, DeliveryMethod, LineKind, OrderStatus, PaymentType,
};
use ecom_core::stock::StockReason;
use ecom_core::{Error, Result};

use crate::sql::engine::value::{Row, Value};

/// An enum that is stored as a number or a word.
pub trait Stored: Copy {
    /// The type on disk.
    type Disk;

    /// Returns the number or word of the variant.
    fn disk(self) -> Self::Disk;

    /// Reads the variant from a column.
    ///
    /// # Errors
    /// `Internal` if the column holds a number or word that this release does not know.
    fn read(row: &Row, at: usize) -> Result<Self>;
}

/// The error for a stored number or word that no variant has.
#[derive(Debug, thiserror::Error)]
#[error("{of} has no variant that is stored as `{found}`")]
struct Unknown {
    of: &'static str,
    found: String,
}

fn unknown(of: &'static str, found: &impl ToString) -> Error {
    Error::internal("reading a row", Unknown { of, found: found.to_string() })
}

/// Maps an enum to its stored number and back, or to the word that `as_str` and `parse` give it. A variant without a
/// number does not compile.
macro_rules! stored {
    ($ty:ident { $($variant:ident = $number:literal),+ $(,)? }) => {
        stored!($ty, i32, i32, |v| match v { $($ty::$variant => $number),+ }, |d| match d {
            $($number => Some($ty::$variant),)+
            _ => None,
        });
    };
    ($ty:ident by its words) => {
        stored!($ty, &'static str, text, |v| v.as_str(), |d| $ty::parse(d));
    };
    ($ty:ident, $disk:ty, $get:ident, |$v:ident| $write:expr, |$d:ident| $read:expr) => {
        impl Stored for $ty {
            type Disk = $disk;

            fn disk(self) -> $disk {
                let $v = self;
                $write
            }

            fn read(row: &Row, at: usize) -> Result<Self> {
                let $d = row.$get(at)?;
                $read.ok_or_else(|| unknown(stringify!($ty), &$d))
            }
        }

        impl From<$ty> for Value<'_> {
            fn from(v: $ty) -> Self {
                v.disk().into()
            }
        }
    };
}

stored!(ProductStatus { Draft = 0, Active = 1, Archived = 2 });
stored!(AvailabilityStatus { OutOfStock = 0, Limited = 1, InStock = 2 });
stored!(RatingSource { Reviews = 0, External = 1 });
stored!(CartState { Open = 0, Ordered = 1, Merged = 2 });
stored!(StockReason by its words);
stored!(OrderStatus { Pending = 0, InProgress = 1, Delivered = 2, Canceled = 3 });
stored!(DeliveryMethod { DriveThru = 0, OnHand = 1, HomeDelivery = 2 });
stored!(LineKind { Sku = 0, Custom = 1, Fee = 2 });
stored!(AdjustmentKind { Manual = 0, Promotion = 1 });
stored!(ChangeKind by its words);
stored!(SettingName by its words);
stored!(JobPriority { Low = -1, Normal = 0, High = 1 });
stored!(JobState by its words);
stored!(SessionEnd by its words);
stored!(WebhookDeliveryState by its words);
stored!(OneTimePurpose by its words);
stored!(BillKind { Bill = 0, CreditNote = 1 });
stored!(BillStatus { Open = 0, Paid = 1, Void = 2 });
stored!(PaymentType { Cash = 0, Card = 1 });
// Events are stored by their words too, but readers skip unknown ones: see the outbox.
