//! The OpenAPI document: what the handlers say, and what all of them share.

use ecom_core::ErrorCode;
use serde::Serialize;
use utoipa::OpenApi;
use utoipa::openapi::path::Operation;
use utoipa::openapi::{ContentBuilder, OpenApi as Document, Ref, RefOr, Response, ResponseBuilder};

use crate::error::status_of;

/// What every error looks like.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(example = json!({"error": {
    "code": "VALIDATION_FAILED",
    "message": "the input is not valid: price: must be 0 or more",
    "details": [{"field": "price", "code": "out_of_bounds", "message": "must be 0 or more"}],
    "timestamp": "2026-01-31T12:00:00.000000Z",
    "request_id": "019ab000-0000-7000-8000-000000000000"
}}))]
pub(crate) struct ErrorEnvelope {
    /// The error.
    error: ErrorBody,
}

/// An error.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct ErrorBody {
    /// The stable word for programs.
    code: String,
    /// For people.
    message: String,
    /// Each bad field, or what else the code has to say.
    details: Vec<serde_json::Value>,
    /// When.
    timestamp: String,
    /// The id of the request, as in `X-Request-Id`.
    request_id: String,
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "ecom",
        description = "Catalog, stock and search of a shop.\n\nOne envelope: `data`, `meta`, `links`; errors: `error`. \
                       Writes name the version that they read, by `If-Match` or `version` (R1). Prices are exact: \
                       strings, or numbers with `numbers=true`.",
        license(name = "MIT OR Apache-2.0")
    ),
    components(schemas(ErrorEnvelope, ErrorBody)),
    tags(
        (name = "products", description = "Products with their SKUs"),
        (name = "skus", description = "SKUs: what is sold and counted"),
        (name = "inventory", description = "Stock and its ledger"),
        (name = "categories", description = "The tree of categories"),
        (name = "search", description = "Full text, filters, facets"),
        (name = "operations", description = "Health and documentation")
    )
)]
struct Frame;

/// The document without paths, with the one table of error codes (R16).
pub(crate) fn frame() -> Document {
    let mut document = Frame::openapi();
    let mut text = document.info.description.take().unwrap_or_default();
    text.push_str(
        "\n\nErrors, by `error.code`; where fields are to blame, `error.details` has one entry with `field`, `code` \
         and `message` for each.\n\n| Code | Status | Meaning |\n|---|---|---|\n",
    );
    for code in ErrorCode::ALL {
        let status = status_of(*code).as_u16();
        text.extend(["| `", code.as_str(), "` | ", &status.to_string(), " | ", code.meaning(), " |\n"]);
    }
    document.info.description = Some(text);
    document
}

/// Adds to every operation the errors that it can have.
pub(crate) fn complete(document: &mut Document) {
    use ErrorCode as C;
    let reads = [C::BadRequest, C::NotFound, C::PayloadTooLarge, C::Validation, C::Internal, C::Unavailable];
    let writes = [
        C::BadRequest,
        C::NotFound,
        C::StateConflict,
        C::PayloadTooLarge,
        C::UnsupportedMediaType,
        C::Validation,
        C::Internal,
        C::Unavailable,
    ];
    for (path, item) in &mut document.paths.paths {
        if path == "/" || path.starts_with("/health") {
            continue;
        }
        if let Some(operation) = &mut item.get {
            add(operation, &reads);
        }
        for operation in [&mut item.post, &mut item.put, &mut item.patch, &mut item.delete].into_iter().flatten() {
            add(operation, &writes);
            let versioned = operation.parameters.iter().flatten().any(|p| match p {
                RefOr::T(p) => p.name == "If-Match",
                RefOr::Ref(_) => false,
            });
            if versioned {
                add(operation, &[C::VersionRequired]);
                let failed = response("VERSION_CONFLICT: If-Match is stale; read it again and decide.");
                operation.responses.responses.entry("412".to_owned()).or_insert(failed);
            }
        }
    }
}

fn add(operation: &mut Operation, codes: &[ErrorCode]) {
    for code in codes {
        let status = status_of(*code).as_u16().to_string();
        operation
            .responses
            .responses
            .entry(status)
            .or_insert_with(|| response(&format!("{}: {}", code.as_str(), code.meaning())));
    }
}

fn response(description: &str) -> RefOr<Response> {
    ResponseBuilder::new()
        .description(description)
        .content("application/json", ContentBuilder::new().schema(Some(Ref::from_schema_name("ErrorEnvelope"))).build())
        .build()
        .into()
}
