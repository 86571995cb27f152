//! The route of imports.

use std::sync::Arc;

use axum::extract::Request;
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use ecom_core::catalog::{ColumnMap, ImportFormat, ImportKind, ImportOptions};
use ecom_core::{Error, ErrorCode, FieldCode, ValidationErrors, trace};
use parking_lot::Mutex;
use serde::Deserialize;

use crate::dto::{ImportView, Item, Rows, json};
use crate::error::{ApiError, ApiResult};
use crate::extract::{Query, body_reader, word};
use crate::headers::{located, private};
use crate::resource::Reply;

/// The parameters of an import.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ImportParams {
    /// The format of the body: `json`, `ndjson`, `dead_letters`, `csv`, `shopify` or `woocommerce`. If it is absent,
    /// the format is that of `Content-Type`, or is detected from the beginning of the body.
    #[serde(default)]
    format: Option<String>,
    /// The mapping of the columns of a CSV body to fields: a column map as JSON, such as
    /// `{"columns":{"Name":"title","Price":"price","Number":"sku"}}`. If it is absent, the columns have the names of
    /// the fields.
    #[serde(default)]
    columns: Option<String>,
    /// The system that the ids of the records belong to. A later import recognizes a record by its id and this name.
    #[serde(default)]
    source: Option<String>,
    /// Whether to check and count everything and to write nothing; false if absent.
    #[serde(default)]
    dry_run: Option<bool>,
    /// Whether to create categories that records name and that do not exist; if not, such records are refused. True if
    /// absent.
    #[serde(default)]
    create_categories: Option<bool>,
}

const FORMATS: &[&str] = &["json", "ndjson", "dead_letters", "csv", "shopify", "woocommerce"];

impl ImportParams {
    /// Returns the options of the import. `announced` is the format that the content type names.
    fn options(&self, announced: Option<&'static str>) -> ApiResult<ImportOptions> {
        let mut errors = ValidationErrors::default();
        let format = word("format", self.format.as_deref(), FORMATS, |name| name, &mut errors).or(announced);
        let map = match (&self.columns, format) {
            (None, _) => None,
            (Some(_), Some(other)) if other != "csv" => {
                errors.push("columns", FieldCode::Inconsistent, "is allowed only for the format `csv`");
                None
            }
            (Some(text), _) => serde_json::from_str::<ColumnMap>(text)
                .map_err(|e| errors.push("columns", FieldCode::Malformed, format!("is not a column map: {e}")))
                .ok(),
        };
        errors.into_result()?;
        let mut options = ImportOptions::default()
            .dry_run(self.dry_run.unwrap_or(false))
            .create_categories(self.create_categories.unwrap_or(true));
        options.source.clone_from(&self.source);
        options.format = match (map, format) {
            (Some(map), _) => Some(ImportFormat::Csv(map)),
            // The header tells whether the columns are ours or those of a shop system.
            (None, None | Some("csv")) => None,
            (None, Some("json")) => Some(ImportFormat::Json),
            (None, Some("ndjson")) => Some(ImportFormat::NdJson),
            (None, Some("dead_letters")) => Some(ImportFormat::DeadLetters),
            (None, Some("shopify")) => Some(ImportFormat::Shopify),
            (None, Some(_)) => Some(ImportFormat::WooCommerce),
        };
        Ok(options)
    }
}

/// Returns the format that the content type of a body names, or `None` if it names none.
fn announced(headers: &HeaderMap) -> ApiResult<Option<&'static str>> {
    let unsupported = |message: &str| Err(ApiError::new(ErrorCode::UnsupportedMediaType, message));
    if headers.get_all(CONTENT_ENCODING).iter().any(|coding| {
        !coding.as_bytes().eq_ignore_ascii_case(b"identity") && !coding.as_bytes().eq_ignore_ascii_case(b"gzip")
    }) {
        return unsupported("the body must be uncompressed or compressed with gzip");
    }
    let Some(value) = headers.get(CONTENT_TYPE) else { return Ok(None) };
    let essence = value.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
    match essence.to_ascii_lowercase().as_str() {
        // A JSON body may also be NDJSON, which has no registered type.
        "application/json" | "application/octet-stream" | "application/gzip" | "text/plain" => Ok(None),
        "application/x-ndjson" | "application/ndjson" | "application/jsonl" | "application/x-jsonlines" => {
            Ok(Some("ndjson"))
        }
        "text/csv" => Ok(Some("csv")),
        _ => unsupported(
            "the body must be JSON, NDJSON or CSV, with `Content-Type: application/json`, \
                          `application/x-ndjson` or `text/csv`",
        ),
    }
}

/// Renames the field of an error in the column map from the option `format` to the parameter `columns`.
fn named(error: Error) -> Error {
    let Error::Validation(mut errors) = error else { return error };
    for e in &mut errors.0 {
        if let Some(part) = e.field.strip_prefix("format.columns") {
            e.field = format!("columns{part}");
        }
    }
    Error::Validation(errors)
}

/// Import products
///
/// Reads products from the body while it arrives, and inserts or updates them: NDJSON, a JSON array, an object with the
/// array `products`, one object, or CSV, also compressed with gzip. A product is recognized by its `external_id`, or
/// else by its SKU codes. Records that agree with their product are not written, so the request can be repeated. Each
/// record is accepted or refused by itself, and the response has the result of each. The import is a job, whose id is
/// in `job_id` and whose path is in `Location`. The response comes when the body has ended.
#[utoipa::path(
    post, path = "/ingest/products", tag = "imports",
    security(("bearer" = ["import:run", "products:write", "categories:write"])),
    params(ImportParams),
    request_body(
        content(
            (Vec<Object> = "application/json"),
            (String = "application/x-ndjson"),
            (String = "text/csv"),
        ),
        description = "The products. The size limit of other request bodies does not apply to them."
    ),
    responses((
        status = 200,
        description = "The result; some or all records may be rejected. `Location` has the path of the job",
        body = Item<ImportView>
    ))
)]
pub(crate) async fn import_products(
    reply: Reply,
    Query((params,)): Query<(ImportParams,)>,
    request: Request,
) -> ApiResult {
    let options = params.options(announced(request.headers())?)?.max_bytes(reply.app.config.import_limit);
    let dry_run = options.dry_run;
    let (reader, pump) = body_reader(request.into_body(), reply.app.config.request_timeout);
    let rows = Arc::new(Mutex::new(Rows::default()));
    // The import is a task of its own, so that it records its end if the client goes away.
    let import = tokio::spawn(trace::carry({
        let (reply, rows) = (reply.clone(), rows.clone());
        async move {
            let shop = reply.shop();
            let options = options.on_outcome(move |outcome| rows.lock().add(outcome));
            let records = shop.import().records(ImportKind::Products, reader, &options);
            shop.import().as_job(ImportKind::Products, records, options, |_| {}).await
        }
    }));
    let (done, ()) = tokio::join!(import, pump.run());
    let run = match done {
        Ok(run) => run.map_err(named)?,
        Err(panicked) => return Err(Error::internal("an import", panicked).into()),
    };
    if let Some(end) = run.report.ended_early.as_ref().filter(|_| run.report.read == 0) {
        return Err(ApiError::field("body", FieldCode::Malformed, end.to_string()));
    }
    let base = format!("{}{}", reply.target.base(), reply.app.config.api_prefix);
    let path = format!("{base}/admin/jobs/{}", run.job);
    let rows = rows.lock();
    let response = json(StatusCode::OK, &Item::new(ImportView::of(&run, &rows, dry_run), path.clone()))?;
    Ok(located(private(response, None), &path))
}
