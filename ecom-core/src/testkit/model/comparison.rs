//! The comparison of answers with the model: values, refusals, revisions and the digest.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Debug;
use std::hash::{Hash as _, Hasher as _};

use serde::Serialize;
use uuid::Uuid;

use super::Runner;
use crate::error::{Conflict, Error, ErrorCode, Result};

/// A reason for which a call may be refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// An error with this code.
    Code(ErrorCode),
    /// A value of this field that another row has.
    Duplicate(&'static str),
    /// Bad values of exactly these fields.
    Fields(BTreeSet<String>),
}

impl Refusal {
    /// Returns the refusal of one bad field.
    pub(super) fn field(name: &str) -> Self {
        Self::Fields(BTreeSet::from([name.to_owned()]))
    }

    fn explains(&self, e: &Error) -> bool {
        match (self, e) {
            (Self::Duplicate(field), Error::Conflict(c)) => {
                matches!(**c, Conflict::Duplicate { field: f, .. } if f == *field)
            }
            (Self::Fields(fields), Error::Validation(v)) => {
                v.0.iter().map(|f| f.field.clone()).collect::<BTreeSet<_>>() == *fields
            }
            (Self::Code(code), e) => e.code() == *code,
            _ => false,
        }
    }
}

/// The result of a comparison, with the text of the first difference.
pub(super) type Checked<T> = std::result::Result<T, String>;

/// Compares an answer with the prediction.
pub(super) fn same<T: PartialEq + Debug>(what: &str, got: &T, want: &T) -> Checked<()> {
    if got == want {
        return Ok(());
    }
    // Rows are long, so only the text around the first difference is shown.
    let (got, want) = (format!("{got:?}"), format!("{want:?}"));
    let alike = got.chars().zip(want.chars()).take_while(|(a, b)| a == b).count().saturating_sub(120);
    let excerpt = |text: &str| text.chars().skip(alike).take(400).collect::<String>();
    Err(format!("{what}\n  is      …{}\n  must be …{}", excerpt(&got), excerpt(&want)))
}

/// Returns the answer of a read that must succeed.
pub(super) fn read<T>(what: &str, answer: Result<T>) -> Checked<T> {
    answer.map_err(|e| format!("{what} fails: {e:?}"))
}

/// Returns the answer of a read after a write, which must succeed.
pub(super) fn read_ok<T>(answer: Result<T>) -> Checked<T> {
    read("reading it again", answer)
}

/// Checks that the revision of a row rises whenever its content changes, and never falls. `seen` holds the last answer
/// that showed each row.
pub(super) fn observe<T: PartialEq + Debug>(
    seen: &mut HashMap<Uuid, T>,
    id: Uuid,
    shown: T,
    revision: fn(&T) -> i64,
) -> Checked<()> {
    match seen.get(&id) {
        Some(before) if revision(before) > revision(&shown) => {
            return Err(format!("the revision went back from {}", revision(before)));
        }
        Some(before) if revision(before) == revision(&shown) => {
            return same("what this revision shows", &shown, before);
        }
        _ => {}
    }
    seen.insert(id, shown);
    Ok(())
}

/// Returns a hash of a value that is the same in every process.
pub(super) fn hash_of(value: &impl Serialize) -> u64 {
    let mut hasher = DefaultHasher::new();
    canonical(&serde_json::to_value(value).unwrap(), &mut hasher);
    hasher.finish()
}

/// Hashes a value in such a way that the order of the keys of an object does not matter.
fn canonical(value: &serde_json::Value, to: &mut DefaultHasher) {
    match value {
        serde_json::Value::Array(a) => {
            a.len().hash(to);
            for v in a {
                canonical(v, to);
            }
        }
        serde_json::Value::Object(o) => {
            let sorted: BTreeMap<_, _> = o.iter().collect();
            sorted.len().hash(to);
            for (k, v) in sorted {
                k.hash(to);
                canonical(v, to);
            }
        }
        scalar => scalar.to_string().hash(to),
    }
}

impl Runner<'_> {
    /// Compares the success or refusal of a call with the prediction. Returns `None` if the call was refused as
    /// predicted.
    pub(super) fn judge<T: Debug>(&mut self, answer: Result<T>, refusals: &[Refusal]) -> Checked<Option<T>> {
        match answer {
            Ok(value) if refusals.is_empty() => {
                self.kind.hash(&mut self.digest);
                Ok(Some(value))
            }
            Ok(value) => Err(format!("succeeds with {value:?}, must be refused: {refusals:?}")),
            Err(e) if refusals.iter().any(|r| r.explains(&e)) => {
                self.is_refused = true;
                *self.refused.entry((self.kind, e.code().as_str())).or_default() += 1;
                (self.kind, e.code().as_str()).hash(&mut self.digest);
                Ok(None)
            }
            Err(e) if refusals.is_empty() => Err(format!("fails with {e:?}, must succeed")),
            Err(e) => Err(format!("fails with {e:?}, must be refused for one of {refusals:?}")),
        }
    }
}
