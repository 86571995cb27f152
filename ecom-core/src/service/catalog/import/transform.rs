//! Steps of an application between a source and the shop.

use std::fmt;

use serde_json::{Map, Value};

use crate::error::ErrorCode;
use crate::service::catalog::import::Rejection;

/// The fate of a record after a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It is imported.
    Keep,
    /// It is left out, and the report counts it as dropped.
    Drop,
    /// It goes to the dead letters.
    Refuse(Rejection),
}

impl Fate {
    /// Refuses a record for a reason that people understand.
    pub fn refuse(reason: impl Into<String>) -> Self {
        Self::Refuse(Rejection::new(ErrorCode::Validation, reason))
    }
}

/// A step of an application between a source and the shop: it changes records, leaves some out, or refuses some.
///
/// A record is a JSON object before its checks. Tables (CSV, Shopify, WooCommerce) have the field names of our own
/// documents, and in `columns` the cells of the columns that have no field. JSON is as the source has it.
///
/// The steps run on the thread that reads the source, in the order of the records, so a step may keep state. An import
/// that resumes runs them for the records that it skips, too. A dead letter has the record as it was before the steps,
/// because they run again when it is imported again.
///
/// ```
/// use ecom_core::catalog::{Fate, ImportOptions};
/// use serde_json::{Map, Value};
///
/// let options = ImportOptions::default().transform(|record: &mut Map<String, Value>| {
///     if record.get("brand").is_some_and(|brand| brand == "Acme") {
///         return Fate::Drop;
///     }
///     record.insert("tags".to_owned(), vec!["imported"].into());
///     Fate::Keep
/// });
/// ```
pub trait Transform: Send {
    /// Changes a record, and returns what becomes of it.
    fn apply(&mut self, record: &mut Map<String, Value>) -> Fate;
}

impl<F: FnMut(&mut Map<String, Value>) -> Fate + Send> Transform for F {
    fn apply(&mut self, record: &mut Map<String, Value>) -> Fate {
        self(record)
    }
}

/// The steps of an import, in their order.
#[derive(Default)]
pub(super) struct Transforms(pub Vec<Box<dyn Transform>>);

impl fmt::Debug for Transforms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} steps", self.0.len())
    }
}

impl Transforms {
    pub fn apply(&mut self, record: &mut Map<String, Value>) -> Fate {
        for step in &mut self.0 {
            match step.apply(record) {
                Fate::Keep => {}
                end => return end,
            }
        }
        Fate::Keep
    }
}
