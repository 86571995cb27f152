//! Errors of the HTTP API. Only this module maps codes to statuses (R16).

use std::sync::Arc;

use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use chrono::SecondsFormat;
use ecom_core::clock::Timestamp;
use ecom_core::{Error, ErrorCode, FieldCode, FieldError, ValidationErrors, WithCauses};
use serde_json::{Value, json};

/// The error of a handler or extractor. The middleware renders it with the id of the request.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    code: ErrorCode,
    message: String,
    details: Vec<Value>,
    retry_after: Option<u64>,
    cause: Option<Error>,
}

pub(crate) type ApiResult<T = Response> = Result<T, ApiError>;

/// Returns the status of a code.
pub(crate) const fn status_of(code: ErrorCode) -> StatusCode {
    match code {
        ErrorCode::BadRequest => StatusCode::BAD_REQUEST,
        ErrorCode::Validation => StatusCode::UNPROCESSABLE_ENTITY,
        ErrorCode::Unauthenticated | ErrorCode::InvalidCredentials => StatusCode::UNAUTHORIZED,
        ErrorCode::Forbidden => StatusCode::FORBIDDEN,
        ErrorCode::NotFound => StatusCode::NOT_FOUND,
        ErrorCode::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        ErrorCode::VersionConflict
        | ErrorCode::Duplicate
        | ErrorCode::CategoryCycle
        | ErrorCode::CategoryNotEmpty
        | ErrorCode::HasSales
        | ErrorCode::InsufficientStock
        | ErrorCode::StockNotTracked
        | ErrorCode::PriceMismatch
        | ErrorCode::OrderStatusConflict
        | ErrorCode::BillFrozen
        | ErrorCode::FlatWriteRefused
        | ErrorCode::IdempotencyKeyReused
        | ErrorCode::IdempotencyAnswerErased
        | ErrorCode::CurrencyMismatch
        | ErrorCode::CartExpired
        | ErrorCode::CartOrdered
        | ErrorCode::CartMerged
        | ErrorCode::StateConflict => StatusCode::CONFLICT,
        ErrorCode::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
        ErrorCode::UriTooLong => StatusCode::URI_TOO_LONG,
        ErrorCode::HeadersTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        ErrorCode::VersionRequired => StatusCode::PRECONDITION_REQUIRED,
        ErrorCode::PayloadTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorCode::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        ErrorCode::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        ErrorCode::Unsupported => StatusCode::NOT_IMPLEMENTED,
        ErrorCode::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        // A missing code is a defect of this crate, which a test detects.
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl ApiError {
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            status: status_of(code),
            code,
            message: message.into(),
            details: Vec::new(),
            retry_after: (code == ErrorCode::Unavailable).then_some(1),
            cause: None,
        }
    }

    /// Returns the error of one invalid field. The message completes a sentence that begins with the name of the field.
    pub(crate) fn field(field: impl Into<String>, code: FieldCode, message: impl Into<String>) -> Self {
        Error::invalid(field, code, message).into()
    }

    /// Sets the part of the request that has caused the error.
    pub(crate) fn at(mut self, field: &str, code: FieldCode) -> Self {
        self.details = vec![serde_json::json!({"field": field, "code": code, "message": self.message})];
        self
    }

    /// Returns the error for a panic of a handler. The panic hook has logged the position.
    pub(crate) fn panicked() -> Self {
        Self::new(ErrorCode::Internal, "internal error")
    }

    /// Returns the error for a response that was not made by a handler of this crate, by its status.
    pub(crate) fn of_status(status: StatusCode) -> Self {
        let (code, message) = match status {
            StatusCode::NOT_FOUND => (ErrorCode::NotFound, "the path does not lead to a resource"),
            StatusCode::METHOD_NOT_ALLOWED => (
                ErrorCode::MethodNotAllowed,
                "the resource does not support this method; `Allow` lists those that it supports",
            ),
            StatusCode::REQUEST_TIMEOUT => {
                (ErrorCode::RequestTimeout, "the request did not arrive in time; send it again")
            }
            StatusCode::URI_TOO_LONG => {
                (ErrorCode::UriTooLong, "the path or the query string is too long; send fewer or shorter parameters")
            }
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => {
                (ErrorCode::HeadersTooLarge, "the headers are too large; send fewer or shorter ones")
            }
            StatusCode::PAYLOAD_TOO_LARGE => (ErrorCode::PayloadTooLarge, "the body of the request is too large"),
            StatusCode::UNSUPPORTED_MEDIA_TYPE => {
                (ErrorCode::UnsupportedMediaType, "the body must be JSON, with `Content-Type: application/json`")
            }
            s if s.is_client_error() => (ErrorCode::BadRequest, "the request cannot be read"),
            _ => (ErrorCode::Internal, "internal error"),
        };
        Self { status, ..Self::new(code, message) }
    }

    /// Turns a stale version, which If-Match named, into a failed precondition.
    pub(crate) fn precondition(mut self) -> Self {
        if self.code == ErrorCode::VersionConflict {
            self.status = StatusCode::PRECONDITION_FAILED;
        }
        self
    }

    /// Converts an error. `NotFound` becomes an error of `field`, because a field and not the path names the resource.
    pub(crate) fn reference(error: Error, field: &str) -> Self {
        match error {
            Error::NotFound { .. } => Self::field(field, FieldCode::ReferenceNotFound, error.to_string()),
            other => other.into(),
        }
    }

    /// Returns the error of the library that has caused this one, for callers that return those.
    pub(crate) fn into_error(self) -> Error {
        self.cause.unwrap_or(Error::Internal { context: "rendering a response", source: None })
    }

    /// Logs a server error with its causes, which responses do not contain.
    pub(crate) fn log(&self, request_id: &str) {
        if self.status.is_server_error() {
            let code = self.code.as_str();
            match &self.cause {
                Some(cause) => tracing::error!(request_id, code, "{}", WithCauses(cause)),
                None => tracing::error!(request_id, code, "{}", self.message),
            }
        }
    }

    /// Returns the response in the envelope of errors.
    pub(crate) fn render(&self, request_id: &str, now: Timestamp) -> Response {
        let body = json!({"error": {
            "code": self.code.as_str(),
            "message": self.message,
            "details": self.details,
            "timestamp": now.to_rfc3339_opts(SecondsFormat::Micros, true),
            "request_id": request_id,
        }});
        let mut response = (self.status, body.to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if self.code == ErrorCode::Unauthenticated {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"ecom\""));
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        response
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        let mut api = Self::new(error.code(), String::new());
        match &error {
            Error::Validation(v) => {
                api.details = v.0.iter().map(field_detail).collect();
                if v.0.iter().any(|f| f.code.is_syntax()) {
                    api.code = ErrorCode::BadRequest;
                    api.status = status_of(api.code);
                }
            }
            Error::Conflict(c) => api.details = c.details(),
            Error::NotFound { entity, key } => api.details = vec![json!({"entity": entity, "key": shorten(key)})],
            _ => {}
        }
        if let Some(left) = error.retry_after() {
            // Whole seconds, rounded up.
            api.retry_after = Some(left.as_secs() + u64::from(left.subsec_nanos() > 0)).map(|seconds| seconds.max(1));
        }
        api.message = match &error {
            Error::Internal { .. } => "internal error".to_owned(),
            Error::NotFound { entity, key } => format!("{entity} `{}` does not exist", shorten(key)),
            Error::Validation(v) => ValidationErrors(v.0.iter().map(short_field).collect()).to_string(),
            other => other.to_string(),
        };
        api.cause = Some(error);
        api
    }
}

fn field_detail(f: &FieldError) -> Value {
    let f = short_field(f);
    json!({"field": f.field, "code": f.code, "message": f.message})
}

/// Returns the error with its texts shortened, because they may contain texts of the caller.
fn short_field(f: &FieldError) -> FieldError {
    FieldError { field: shorten(&f.field), code: f.code, message: shorten(&f.message) }
}

pub(crate) fn shorten(text: &str) -> String {
    const MOST: usize = 300;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(Arc::new(self));
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r16_every_code_has_a_status_of_its_own_kind() {
        for code in ErrorCode::ALL {
            let status = status_of(*code);
            assert!(status.is_client_error() || status.is_server_error(), "{code}");
            assert_eq!(
                status == StatusCode::INTERNAL_SERVER_ERROR,
                *code == ErrorCode::Internal,
                "{code} has no status yet"
            );
        }
    }

    #[test]
    fn r16_temporary_errors_have_retry_after() {
        let source: ecom_core::BoxError = "deadlock on row 7".into();
        let down = Error::unavailable(ecom_core::Dependency::Database, "connection refused by 10.0.0.1");
        for error in [Error::Contention { source: Some(source) }, Error::Contention { source: None }, down] {
            let api = ApiError::from(error);
            let response = api.render("id", Timestamp::UNIX_EPOCH);
            assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
            assert_eq!(response.headers()[RETRY_AFTER], "1");
            assert_eq!(api.code, ErrorCode::Unavailable);
            assert!(!api.message.contains("row") && !api.message.contains("10.0"), "{}", api.message);
        }
    }

    #[test]
    fn r16_a_dependency_that_rests_is_asked_again_after_its_rest() {
        for (left, shown) in [(0, "1"), (300, "1"), (1_000, "1"), (4_001, "5")] {
            let resting = ecom_core::Resting { retry_after: std::time::Duration::from_millis(left) };
            let api = ApiError::from(Error::unavailable(ecom_core::Dependency::Search, resting));
            let response = api.render("id", Timestamp::UNIX_EPOCH);
            assert_eq!(
                (response.status(), &response.headers()[RETRY_AFTER]),
                (StatusCode::SERVICE_UNAVAILABLE, &HeaderValue::from_static(shown))
            );
        }
    }

    #[test]
    fn r16_internal_errors_show_nothing() {
        let error = Error::internal("reading a product", "SELECT secret FROM /var/db");
        let api = ApiError::from(error);
        assert_eq!(api.message, "internal error");
        assert!(api.details.is_empty());
    }
}
