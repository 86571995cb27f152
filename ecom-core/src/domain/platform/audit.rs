//! The result of an audit.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::Entity;

/// The result of an audit of the shop (R41).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct AuditReport {
    /// How many SKUs were checked.
    pub skus: u64,
    /// How many orders were checked.
    pub orders: u64,
    /// The findings. A finding is a defect, a change of rows without the library, or an order that changed so often
    /// that it could not be checked; in the last case, run the audit again.
    pub findings: Vec<AuditFinding>,
}

impl AuditReport {
    /// Returns true if there are no findings.
    pub const fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }
}

/// A row, or several rows that belong together, that contradict a rule, or an order that could not be checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AuditFinding {
    /// The kind of the row.
    pub entity: Entity,
    /// The id of the row.
    pub id: Uuid,
    /// What is wrong, with the number of the rule, or why the order could not be checked.
    pub message: String,
}

/// The stock of a SKU and the sum of its ledger, read at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerSum {
    /// The SKU.
    pub sku_id: crate::id::SkuId,
    /// The stock on hand of the SKU.
    pub on_hand: i64,
    /// The sum of its movements.
    pub ledger: i64,
    /// How many of its movements name an order line that does not exist or sells another SKU.
    pub orphans: u64,
}
