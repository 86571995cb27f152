//! Groups of parameters that resources share, and what the documentation says of paths and headers.

use ecom_core::common::{DeleteMode, IncludeDeleted};
use serde::Deserialize;

use super::filter::present;

/// What a client wants to see of a resource.
pub(crate) trait Wish {
    /// Returns the fields, with commas between; `None` for all.
    fn fields(&self) -> Option<&str> {
        None
    }

    /// Returns whether decimals are JSON numbers; `None` leaves it to the configuration.
    fn numbers(&self) -> Option<bool> {
        None
    }
}

/// Everything, as the configuration has it.
impl Wish for () {}

/// Which fields, and how decimals are written.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Shape {
    /// Top-level fields to return, with commas between; all if absent. At least one.
    #[serde(default, deserialize_with = "present")]
    fields: Option<String>,
    /// Prices and measures as JSON numbers in place of strings.
    #[serde(default)]
    numbers: Option<bool>,
}

impl Wish for Shape {
    fn fields(&self) -> Option<&str> {
        self.fields.as_deref()
    }

    fn numbers(&self) -> Option<bool> {
        self.numbers
    }
}

/// Which fields, of a resource without decimals.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Picked {
    /// Top-level fields to return, with commas between; all if absent. At least one.
    #[serde(default, deserialize_with = "present")]
    fields: Option<String>,
}

impl Wish for Picked {
    fn fields(&self) -> Option<&str> {
        self.fields.as_deref()
    }
}

/// How decimals are written, of a resource that is always returned whole.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Numbers {
    /// Prices and measures as JSON numbers in place of strings.
    #[serde(default)]
    numbers: Option<bool>,
}

impl Wish for Numbers {
    fn numbers(&self) -> Option<bool> {
        self.numbers
    }
}

/// Whether soft-deleted rows are shown.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ShowDeleted {
    /// Show soft-deleted rows too; a single one only by its id.
    #[serde(default)]
    include_deleted: Option<bool>,
}

impl ShowDeleted {
    /// Returns the choice; hidden if absent.
    pub(crate) fn choice(&self) -> IncludeDeleted {
        if self.include_deleted == Some(true) { IncludeDeleted::Yes } else { IncludeDeleted::No }
    }
}

/// The version that a writer read, of a write whose body does not hold it.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Version {
    /// The version that was read (R1), unless If-Match has it.
    #[serde(default)]
    pub version: Option<i64>,
}

/// How a delete is meant.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Force {
    /// Delete for good, if nothing refers to it (R4, R5).
    #[serde(default)]
    force: Option<bool>,
}

impl Force {
    /// Returns the kind of delete; soft if absent.
    pub(crate) const fn mode(&self) -> DeleteMode {
        match self.force {
            Some(true) => DeleteMode::Force,
            _ => DeleteMode::Soft,
        }
    }
}

/// The id in a path, for the documentation.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "read by the derive")]
pub(crate) struct ById {
    /// Id
    id: uuid::Uuid,
}

/// The id or slug in a path, for the documentation.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "read by the derive")]
pub(crate) struct ByKey {
    /// Id or slug
    id: String,
}

/// The If-Match header, for the documentation.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "read by the derive")]
pub(crate) struct IfMatchHeader {
    /// The entity tag that was read, weak or strong (R1). Only its document and version count.
    #[param(rename = "If-Match")]
    if_match: Option<String>,
}
