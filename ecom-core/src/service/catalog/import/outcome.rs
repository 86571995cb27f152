//! The outcomes of single records, for callers that answer row by row.

use std::fmt;

use crate::service::catalog::import::Rejection;

/// The outcome of one record of an import.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecordOutcome {
    /// The index of the record in the source, from 0.
    pub index: u64,
    /// The line that it starts on, from 1.
    pub line: u64,
    /// The id of the record in the system that it comes from, if it has one.
    pub external_id: Option<String>,
    /// The result.
    pub result: RecordResult,
}

impl RecordOutcome {
    /// Returns whether the record was refused.
    pub const fn is_rejected(&self) -> bool {
        matches!(self.result, RecordResult::Rejected(_))
    }
}

/// The result of one record of an import. In a dry run, it is the result that the record would have.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecordResult {
    /// It became a new row.
    Inserted,
    /// It changed its row.
    Updated,
    /// It agreed with its row, so that nothing was written.
    Unchanged,
    /// A [`Transform`](super::Transform) left it out.
    Dropped,
    /// It was refused.
    Rejected(Rejection),
}

impl RecordResult {
    /// Returns the word for the result.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Inserted => "inserted",
            Self::Updated => "updated",
            Self::Unchanged => "unchanged",
            Self::Dropped => "dropped",
            Self::Rejected(_) => "rejected",
        }
    }
}

/// The function of [`ImportOptions::on_outcome`](super::ImportOptions::on_outcome), if there is one.
#[derive(Default)]
pub(super) struct Outcomes(pub Option<Box<dyn FnMut(RecordOutcome) + Send>>);

impl Outcomes {
    /// Reports an outcome. `make` is called only if somebody asks for outcomes.
    pub fn report(&mut self, make: impl FnOnce() -> RecordOutcome) {
        if let Some(on_outcome) = &mut self.0 {
            on_outcome(make());
        }
    }
}

impl fmt::Debug for Outcomes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Outcomes").field(&self.0.is_some()).finish()
    }
}
