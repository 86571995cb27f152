//! The representation of imports.

use std::collections::BTreeMap;

use ecom_core::FieldError;
use ecom_core::catalog::{EndedEarly, ImportReport, ImportRun, RecordOutcome, RecordResult};
use serde::Serialize;
use uuid::Uuid;

/// The result of an import.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct ImportView<'a> {
    /// The id of the job of the import, which keeps the counters and the records that were refused.
    pub job_id: Uuid,
    /// Whether this was a dry run, which writes nothing and has the counters of a real import.
    pub dry_run: bool,
    /// The number of records that were read.
    pub read: u64,
    /// The number of records that became new products.
    pub inserted: u64,
    /// The number of records that changed a product.
    pub updated: u64,
    /// The number of records that agreed with their product, so that nothing was written.
    pub unchanged: u64,
    /// The number of records that were refused.
    pub rejected: u64,
    /// The number of categories that were created because records name them.
    pub categories_created: u64,
    /// The fields and columns that the import does not know and has ignored, with the number of their occurrences.
    #[schema(value_type = std::collections::HashMap<String, u64>, example = json!({"columns.Remark": 12}))]
    pub unknown_fields: &'a BTreeMap<String, u64>,
    /// Where and why the body could not be read further; null if it was read to its end. The records before that are
    /// imported.
    pub ended_early: Option<EndedEarlyView<'a>>,
    /// Which records `rows` contains: `all`, or, if the body has more than 1,000 records, the first 1,000 `rejected`
    /// ones. `/admin/jobs/{id}/rejected` has all rejected records that the job keeps.
    pub rows_are: &'static str,
    /// The results of single records, in the order of the body.
    pub rows: Vec<RowView<'a>>,
    /// How many seconds the import took.
    pub seconds: f64,
}

/// Where a body could not be read further.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct EndedEarlyView<'a> {
    /// The reason.
    pub reason: &'a str,
    /// The index of the record that could not be read, from 0.
    pub index: u64,
    /// The line, from 1.
    pub line: u64,
    /// The number of bytes before the position.
    pub byte: u64,
}

/// The result of one record.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct RowView<'a> {
    /// The index of the record in the body, from 0.
    pub index: u64,
    /// The line on which the record starts, from 1.
    pub line: u64,
    /// The result: `inserted`, `updated`, `unchanged` or `rejected`.
    pub result: &'static str,
    /// The id that a rejected record has in the system it comes from, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_id: Option<&'a str>,
    /// Why the record was rejected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<RowErrorView<'a>>,
}

/// Why a record was rejected.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct RowErrorView<'a> {
    /// The code, one of those of errors.
    pub code: &'static str,
    /// The reason, for people.
    pub message: &'a str,
    /// The first 20 refused fields.
    #[schema(value_type = Vec<Object>)]
    pub details: &'a [FieldError],
}

/// The results of single records, as an import reports them.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    /// The first ones.
    first: Vec<RecordOutcome>,
    /// The first rejected ones after those.
    later: Vec<RecordOutcome>,
    count: usize,
}

impl Rows {
    /// How many records of a kind are kept.
    const MAX: usize = 1_000;

    /// How many refused fields of a record are kept.
    const MAX_FIELDS: usize = 20;

    /// Adds the result of a record.
    pub fn add(&mut self, mut outcome: RecordOutcome) {
        self.count += 1;
        if let RecordResult::Rejected(why) = &mut outcome.result {
            why.fields.truncate(Self::MAX_FIELDS);
            why.fields.shrink_to_fit();
        }
        if self.first.len() < Self::MAX {
            self.first.push(outcome);
        } else if outcome.is_rejected() && self.later.len() < Self::MAX {
            self.later.push(outcome);
        }
    }
}

impl<'a> ImportView<'a> {
    /// Returns the representation.
    pub(crate) fn of(run: &'a ImportRun, rows: &'a Rows, dry_run: bool) -> Self {
        let ImportReport { read, inserted, updated, unchanged, rejected, categories_created, .. } = run.report;
        let (rows_are, mut rows): (_, Vec<RowView<'a>>) = if rows.count > Rows::MAX {
            let rejected = rows.first.iter().chain(&rows.later).filter(|outcome| outcome.is_rejected());
            ("rejected", rejected.take(Rows::MAX).map(RowView::of).collect())
        } else {
            ("all", rows.first.iter().map(RowView::of).collect())
        };
        rows.sort_by_key(|row| row.index);
        Self {
            job_id: run.job.0,
            dry_run,
            read,
            inserted,
            updated,
            unchanged,
            rejected,
            categories_created,
            unknown_fields: &run.report.unknown_fields,
            ended_early: run.report.ended_early.as_ref().map(|EndedEarly { reason, index, line, byte }| {
                EndedEarlyView { reason, index: *index, line: *line, byte: *byte }
            }),
            rows_are,
            rows,
            seconds: run.report.seconds,
        }
    }
}

impl<'a> RowView<'a> {
    fn of(outcome: &'a RecordOutcome) -> Self {
        let error = match &outcome.result {
            RecordResult::Rejected(why) => {
                Some(RowErrorView { code: why.code.as_str(), message: &why.reason, details: &why.fields })
            }
            _ => None,
        };
        Self {
            index: outcome.index,
            line: outcome.line,
            result: outcome.result.as_str(),
            external_id: outcome.external_id.as_deref(),
            error,
        }
    }
}
