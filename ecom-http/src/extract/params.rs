//! Groups of parameters that resources share, and the documentation of parameters in paths and headers.

use ecom_core::common::{DeleteMode, IncludeDeleted};
use serde::Deserialize;

use super::filter::present;

/// The representation of a resource that a client requests.
pub(crate) trait Wish {
    /// Returns the names of the fields, separated by commas; `None` selects all fields.
    fn fields(&self) -> Option<&str> {
        None
    }

    /// Returns whether decimals are JSON numbers; `None` leaves the choice to the configuration.
    fn numbers(&self) -> Option<bool> {
        None
    }
}

/// All fields, in the configured format.
impl Wish for () {}

/// The parameters for fields and for the format of decimals.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Shape {
    /// The top-level fields to return, separated by commas. At least one is required; all are returned if the parameter
    /// is absent.
    #[serde(default, deserialize_with = "present")]
    fields: Option<String>,
    /// Whether prices and measures are JSON numbers instead of strings. If it is absent, the server's configuration
    /// decides.
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

/// The parameter for fields, for resources without decimals.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Picked {
    /// The top-level fields to return, separated by commas. At least one is required; all are returned if the parameter
    /// is absent.
    #[serde(default, deserialize_with = "present")]
    fields: Option<String>,
}

impl Wish for Picked {
    fn fields(&self) -> Option<&str> {
        self.fields.as_deref()
    }
}

/// The parameter for the format of decimals, for resources that are always returned with all fields.
#[derive(Debug, Default, Clone, Copy, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Numbers {
    /// Whether prices and measures are JSON numbers instead of strings. If it is absent, the server's configuration
    /// decides.
    #[serde(default)]
    numbers: Option<bool>,
}

impl Wish for Numbers {
    fn numbers(&self) -> Option<bool> {
        self.numbers
    }
}

/// The parameter that includes soft-deleted rows.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ShowDeleted {
    /// Whether soft-deleted resources are included; false if absent. A single soft-deleted resource cannot be read by
    /// its slug.
    #[serde(default)]
    include_deleted: Option<bool>,
}

impl ShowDeleted {
    /// Returns whether soft-deleted rows are included.
    pub(crate) fn choice(&self) -> IncludeDeleted {
        if self.include_deleted == Some(true) { IncludeDeleted::Yes } else { IncludeDeleted::No }
    }
}

/// The parameter for the version that the client read, for writes whose body does not contain it.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Version {
    /// The version that the client read (R1), unless `If-Match` or the body names it.
    #[serde(default)]
    pub version: Option<i64>,
}

/// The parameter for the kind of a deletion.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Force {
    /// Whether the resource is deleted permanently; false if absent. The request is refused if another resource still
    /// refers to it (R4, R5).
    #[serde(default)]
    force: Option<bool>,
}

impl Force {
    /// Returns the kind of the deletion.
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
    /// The id of the resource, a UUID.
    id: uuid::Uuid,
}

/// The id of a line in a path, for the documentation.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "read by the derive")]
pub(crate) struct ByLine {
    /// The id of the line, a UUID.
    line_id: uuid::Uuid,
}

/// The header with the token of a cart, for the documentation.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "read by the derive")]
pub(crate) struct CartTokenHeader {
    /// The token of a guest's cart, which the response that created the cart has returned. Without it, the caller needs
    /// the permission of the operation.
    #[param(rename = "X-Cart-Token")]
    x_cart_token: Option<String>,
}

/// The id or slug in a path, for the documentation.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "read by the derive")]
pub(crate) struct ByKey {
    /// The id or the slug of the resource. A value that is not a UUID is a slug.
    id: String,
}

/// The id or number in a path, for the documentation.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "read by the derive")]
pub(crate) struct ByNumber {
    /// The id or the number of the resource. A value that is not a UUID is a number.
    id: String,
}

/// The name in a path, for the documentation.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "read by the derive")]
pub(crate) struct ByName {
    /// The name of the resource.
    name: String,
}

/// The If-Match header, for the documentation.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "read by the derive")]
pub(crate) struct IfMatchHeader {
    /// The entity tag that the client read, weak or strong (R1). Only the resource and the version in it are compared.
    #[param(rename = "If-Match")]
    if_match: Option<String>,
}

/// The If-Match header of a write that needs no version, for the documentation.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "read by the derive")]
pub(crate) struct OptionalIfMatchHeader {
    /// The entity tag that the client read, weak or strong (R1). The write needs none; if it names one, the version in
    /// it is checked.
    #[param(rename = "If-Match")]
    if_match: Option<String>,
}
