//! Routes of the files of images: uploads, and the files themselves.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use bytes::Bytes;
use ecom_core::access::Permission;
use ecom_core::catalog::{ImageFormat, MediaFile, Product};
use ecom_core::id::ProductId;
use ecom_core::{ErrorCode, FieldCode};
use serde::Deserialize;

use crate::app::{App, HttpConfig};
use crate::dto::{Item, ProductView};
use crate::error::{ApiError, ApiResult};
use crate::etag::is_known;
use crate::extract::{ById, IfMatchHeader, Numbers, Query, Received, Version};
use crate::headers::FOR_EVER;
use crate::idempotency::Post;
use crate::resource::{Write, principal};

/// The path of the files, which does not begin with the prefix of the API.
pub(crate) const FILES: &str = "/media";
/// Pages of any host may show the files.
const CROSS_ORIGIN: HeaderValue = HeaderValue::from_static("cross-origin");
const CROSS_ORIGIN_RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// The bytes of an image, of at most [`HttpConfig::image_limit`].
pub(crate) struct ImageBody(Bytes);

impl Received for ImageBody {
    fn absent() -> Option<Self> {
        None
    }

    fn limit(config: &HttpConfig) -> usize {
        config.image_limit
    }

    fn check_type(content_type: &str) -> ApiResult<()> {
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        let is_image = |format: ImageFormat| essence.eq_ignore_ascii_case(format.content_type());
        // The content decides; clients that do not know it send the second type.
        if ImageFormat::ALL.into_iter().any(is_image) || essence.eq_ignore_ascii_case("application/octet-stream") {
            return Ok(());
        }
        let message = "the body must be an image, with `Content-Type: image/jpeg`, `image/png` or `image/webp`";
        Err(ApiError::new(ErrorCode::UnsupportedMediaType, message))
    }

    fn parse(bytes: &[u8]) -> ApiResult<Self> {
        if bytes.is_empty() {
            return Err(ApiError::field("body", FieldCode::Required, "is required"));
        }
        Ok(Self(Bytes::copy_from_slice(bytes)))
    }
}

/// A caller who may upload images. It is extracted before the body, so that nobody else's images are read.
pub(crate) struct Uploader;

impl FromRequestParts<Arc<App>> for Uploader {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        principal(parts, app).require(Permission::ProductsWrite)?;
        Ok(Self)
    }
}

/// The parameters of an image.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ImageParams {
    /// The text for people who do not see the image, at most 255 characters.
    #[serde(default)]
    alt: Option<String>,
    /// Whether this becomes the primary image of the product; false if absent.
    #[serde(default)]
    primary: Option<bool>,
}

/// Add an image to a product
///
/// The body is the image itself: JPEG, PNG or WebP. The server rotates it by its EXIF data, removes all metadata, and
/// stores it in several widths. The product shows the largest file, whose URL ends in its width, such as
/// `/media/…/1280.jpg`; the smaller ones are `640.jpg` and `320.jpg` beside it. An image that is higher than 5,000
/// pixels at this width, or whose file has more than 5 MiB, is scaled down further. If the product has the image
/// already, its entry is replaced, and keeps its text unless the request has `alt`; `alt=` removes it. A product with
/// 50 images accepts no upload. If too many uploads wait in the server, the response is 503 with `Retry-After`.
#[utoipa::path(
    post, path = "/products/{id}/images", tag = "products",
    security(("bearer" = ["products:write"])), params(ById, IfMatchHeader, Version, Numbers, ImageParams),
    request_body(
        content((String = "image/jpeg"), (String = "image/png"), (String = "image/webp")),
        description = "The bytes of the image. The size limit of other request bodies does not apply to them."
    ),
    responses((status = 200, description = "The product with the image", body = Item<ProductView>))
)]
pub(crate) async fn add_image(
    w: Write<ProductId>,
    _: Uploader,
    Query((version, numbers, params)): Query<(Version, Numbers, ImageParams)>,
    Post { body: ImageBody(content), keyed }: Post<ImageBody>,
) -> ApiResult {
    let read = w.read(version.version)?;
    let stored = match w.shop().media().upload_for(w.id, read, params.alt.as_deref(), content).await {
        Ok(stored) => stored,
        Err(refused) => return w.done(Box::pin(keyed.replayed_or(&w, refused)).await),
    };
    let mut image = stored.input();
    image.alt = params.alt;
    image.primary = params.primary.unwrap_or(false);
    let products = w.shop().products();
    let within = |mut tx| async { Ok((products.add_image_in(&mut tx, w.id, read, &image).await?, tx)) };
    let render = |changed: &_| w.written::<Product>(changed, &numbers);
    w.done(keyed.answer(&w, products.add_image(w.id, read, &image), within, render).await)
}

/// Returns the routes of the files. The OpenAPI document does not contain them, because clients get their URLs from
/// products.
pub(crate) fn files() -> Router<Arc<App>> {
    Router::new().route(&format!("{FILES}/{{digest}}/{{file}}"), get(file))
}

async fn file(
    State(app): State<Arc<App>>,
    Path((digest, file)): Path<(String, String)>,
    headers: HeaderMap,
) -> ApiResult {
    let not_found = || ApiError::of_status(StatusCode::NOT_FOUND);
    let name = MediaFile::parse(&format!("{digest}/{file}")).ok_or_else(not_found)?;
    let tag = HeaderValue::from_str(&format!("\"{digest}-{file}\"")).map_err(|_| not_found())?;
    let mut response = if is_known(headers.get(IF_NONE_MATCH), &tag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let Ok(_place) = app.files.try_acquire() else {
            let message = "too many images are being read at the moment; try again";
            return Err(ApiError::new(ErrorCode::Unavailable, message));
        };
        let content = app.shop.media().read(&name).await?.ok_or_else(not_found)?;
        let mut response = Response::new(Body::from(content));
        let content_type = HeaderValue::from_static(name.format().content_type());
        response.headers_mut().insert(CONTENT_TYPE, content_type);
        response
    };
    response.headers_mut().insert(ETAG, tag);
    response.headers_mut().insert(CACHE_CONTROL, FOR_EVER);
    response.headers_mut().insert(CROSS_ORIGIN_RESOURCE_POLICY, CROSS_ORIGIN);
    Ok(response)
}
