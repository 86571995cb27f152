//! Uploads of images, and the files that the server then serves.

use std::sync::Arc;

use ecom_core::access::{Permission, Principal};
use ecom_core::port::NoSearch;
use ecom_core::testkit::shelf::Shelf;
use ecom_http::HttpConfig;
use serde_json::json;

use crate::support::{API, Answer, Api, id, lamp, open};

/// Returns an API whose shop takes uploads: texts such as `800x600`.
async fn taking_uploads(config: HttpConfig) -> Api {
    Api::changed(config, Arc::new(NoSearch), |parts| parts.media = Some(Shelf::new().media())).await
}

async fn upload(api: &Api, path: &str, content_type: &str, image: &str) -> Answer {
    api.call("POST", &format!("{API}{path}"), &[("content-type", content_type)], Some(image)).await
}

#[tokio::test]
async fn an_uploaded_image_is_shown_and_served() {
    let api = taking_uploads(open()).await;
    let path = format!("/products/{}/images", id(&api.product(lamp()).await));
    let shown = upload(&api, &format!("{path}?version=1&alt=A%20lamp"), "image/png", "800x600").await.ok(200).data();
    let image = &shown["images"][0];
    assert_eq!((&image["alt"], &image["primary"]), (&json!("A lamp"), &json!(true)));
    assert_eq!((&image["width"], &image["height"]), (&json!(800), &json!(600)));
    let url = image["url"].as_str().unwrap();
    let file = api.call("GET", url, &[], None).await.ok(200);
    assert_eq!((file.header("content-type"), &file.bytes[..]), ("image/png", &b"800x600 at 1280"[..]));
    assert_eq!(file.header("cache-control"), "public, max-age=31536000, immutable");
    assert_eq!(file.header("x-content-type-options"), "nosniff");
    assert_eq!(api.call("GET", &url.replace("1280", "320"), &[], None).await.ok(200).bytes, b"800x600 at 320");
    let known = api.call("GET", url, &[("if-none-match", file.header("etag"))], None).await;
    assert_eq!((known.status.as_u16(), known.bytes.len()), (304, 0));
    for absent in
        [url.replace("1280", "640"), url.replace(".png", ".jpg"), url.replace(".png", ""), "/media/x/1.png".into()]
    {
        api.call("GET", &absent, &[], None).await.refused(404, "NOT_FOUND", "");
    }
}

#[tokio::test]
async fn r01_an_image_is_added_to_the_version_that_was_read() {
    let api = taking_uploads(open()).await;
    let path = format!("/products/{}/images", id(&api.product(lamp()).await));
    upload(&api, &path, "image/jpeg", "800x600").await.refused(428, "VERSION_REQUIRED", "");
    upload(&api, &format!("{path}?version=7"), "image/jpeg", "800x600").await.refused(409, "VERSION_CONFLICT", "");
    upload(&api, &format!("{path}?version=1&primary=true"), "image/webp", "800x600").await.ok(200);
}

#[tokio::test]
async fn r12_a_repeated_upload_gets_the_stored_response_without_being_decoded() {
    let shelf = Shelf::new();
    let api = Api::changed(open(), Arc::new(NoSearch), |parts| parts.media = Some(shelf.media())).await;
    let path = format!("{API}/products/{}/images?version=1", id(&api.product(lamp()).await));
    let keyed = async |key: &str| {
        let headers = [("idempotency-key", key), ("content-type", "image/png")];
        api.call("POST", &path, &headers, Some("800x600")).await
    };
    let first = keyed("a").await.ok(200);
    let again = keyed("a").await.ok(200);
    assert_eq!((again.header("idempotency-replayed"), &again.bytes), ("true", &first.bytes));
    // A refusal frees its key.
    keyed("b").await.refused(409, "VERSION_CONFLICT", "");
    keyed("b").await.refused(409, "VERSION_CONFLICT", "");
    assert_eq!((shelf.processed(), shelf.files()), (1, 2));
}

#[tokio::test]
async fn r17_a_bad_image_is_refused() {
    let api = taking_uploads(open().image_limit(20)).await;
    let path = format!("/products/{}/images?version=1", id(&api.product(lamp()).await));
    for bad in ["image/svg+xml", "image/gif", "application/json", "text/plain", ""] {
        upload(&api, &path, bad, "800x600").await.refused(415, "UNSUPPORTED_MEDIA_TYPE", "");
    }
    upload(&api, &path, "image/png", &"1".repeat(21)).await.refused(413, "PAYLOAD_TOO_LARGE", "body");
    upload(&api, &path, "image/png", "").await.refused(422, "VALIDATION_FAILED", "body");
    upload(&api, &path, "image/png", "no image").await.refused(400, "BAD_REQUEST", "image");
    let long = format!("{path}&alt={}", "a".repeat(256));
    upload(&api, &long, "image/png", "800x600").await.refused(422, "VALIDATION_FAILED", "images[0].alt");
    upload(&api, &path, "application/octet-stream", "800x600").await.ok(200);
}

#[tokio::test]
async fn r16_an_upload_needs_the_permission_and_a_store() {
    let clerk = Principal::new("user:clerk", [Permission::ProductsRead]);
    let api = taking_uploads(HttpConfig::default().anonymous(clerk)).await;
    let path = format!("/products/{}/images?version=1", uuid::Uuid::nil());
    // The body is not looked at, whatever it is.
    for (content_type, body) in [("image/png", "no image"), ("text/plain", "no image"), ("image/png", "")] {
        upload(&api, &path, content_type, body).await.refused(403, "FORBIDDEN", "");
    }
    let without = Api::new().await;
    upload(&without, &path, "image/png", "800x600").await.refused(501, "UNSUPPORTED", "");
    let absent = format!("/media/{}/320.png", "0".repeat(64));
    without.call("GET", &absent, &[], None).await.refused(501, "UNSUPPORTED", "");
}
