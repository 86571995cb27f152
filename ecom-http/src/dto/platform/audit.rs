//! The representation of the result of an audit.

use ecom_core::platform::AuditReport;
use serde::Serialize;
use uuid::Uuid;

/// The result of an audit.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct AuditView<'a> {
    /// Whether there are no findings.
    pub clean: bool,
    /// How many SKUs were checked.
    pub skus: u64,
    /// How many orders were checked.
    pub orders: u64,
    /// The findings. A finding is a defect, a change of rows without the library, or an order that changed so often
    /// that it could not be checked; in the last case, run the audit again.
    pub findings: Vec<FindingView<'a>>,
}

/// A row, or several rows that belong together, that contradict a rule, or an order that could not be checked.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct FindingView<'a> {
    /// The kind of the row.
    #[schema(example = "sku")]
    pub entity: &'static str,
    /// The id of the row.
    pub id: Uuid,
    /// What is wrong, with the number of the rule, or why the order could not be checked.
    #[schema(example = "on hand is 3, but the ledger adds up to 2 (R11)")]
    pub message: &'a str,
}

impl<'a> From<&'a AuditReport> for AuditView<'a> {
    fn from(report: &'a AuditReport) -> Self {
        let finding = |f: &'a ecom_core::platform::AuditFinding| FindingView {
            entity: f.entity.as_str(),
            id: f.id,
            message: &f.message,
        };
        Self {
            clean: report.is_clean(),
            skus: report.skus,
            orders: report.orders,
            findings: report.findings.iter().map(finding).collect(),
        }
    }
}
