//! Entity tags identify the document and its variant, and are strong or weak.

use std::collections::HashSet;

use serde_json::json;

use crate::support::{API, Api, id, lamp};

#[tokio::test]
async fn a_document_that_takes_over_a_slug_has_a_tag_of_its_own() {
    let api = Api::new().await;
    let category = json!({"name": "Lighting"});
    for (collection, slug, body) in [("products", "desk-lamp", lamp()), ("categories", "lighting", category)] {
        let collection = format!("{API}/{collection}");
        let path = format!("{collection}/{slug}");
        let body = body.to_string();
        let old = api.call("POST", &collection, &[], Some(&body)).await.ok(201).data();
        let tag = api.call("GET", &path, &[], None).await.ok(200).header("etag").to_owned();
        let known = [("if-none-match", tag.as_str())];
        api.call("GET", &path, &known, None).await.ok(304);
        api.call("DELETE", &format!("{collection}/{}?version=1", id(&old)), &[], None).await.ok(204);
        let new = api.call("POST", &collection, &[], Some(&body)).await.ok(201).data();
        assert_eq!((&new["version"], &new["revision"]), (&old["version"], &old["revision"]), "{slug}");
        let read = api.call("GET", &path, &known, None).await.ok(200);
        assert_eq!(read.data()["id"], new["id"]);
        // The old tag does not match the new document by its id, or with some of its fields, either.
        api.call("GET", &format!("{collection}/{}", id(&new)), &known, None).await.ok(200);
        api.call("GET", &format!("{path}?fields=slug"), &known, None).await.ok(200);
    }
}

#[tokio::test]
async fn variants_of_a_document_share_no_tag() {
    let api = Api::new().await;
    let p = api.product(lamp()).await;
    let sku = format!("/skus/{}", id(&p["skus"][0]));
    let category = format!("/categories/{}", id(&api.category(json!({"name": "Lighting"})).await));
    let product = format!("/products/{}", id(&p));
    let decimals =
        ["", "?numbers=true", "?fields=id,version", "?fields=id", "?fields=id&numbers=true", "?fields=version"];
    let plain = ["", "?fields=id,version", "?fields=id", "?fields=version"];
    for (path, variants) in [(&product, &decimals[..]), (&sku, &decimals[..]), (&category, &plain[..])] {
        let mut tags = HashSet::new();
        for variant in variants {
            let url = format!("{API}{path}{variant}");
            let tag = api.call("GET", &url, &[], None).await.ok(200).header("etag").to_owned();
            assert!(tag.starts_with('"'), "{url}: {tag}");
            api.call("GET", &url, &[("if-none-match", &tag)], None).await.ok(304);
            assert!(tags.insert(tag), "{url}");
        }
        // The order of the names in `fields` does not matter: the document and its tag are the same.
        let a = api.get(&format!("{path}?fields=version,id")).await;
        assert_eq!(a.header("etag"), api.get(&format!("{path}?fields=id,version")).await.header("etag"));
        // The response of a write has the tag of the variant that it contains.
        if path == &product {
            let body = json!({"title": "Lamp", "version": 1});
            let a = api.write("PATCH", &format!("{path}?numbers=true"), body).await.ok(200);
            let tag = a.header("etag").to_owned();
            let url = format!("{API}{path}");
            api.call("GET", &format!("{url}?numbers=true"), &[("if-none-match", &tag)], None).await.ok(304);
            api.call("GET", &url, &[("if-none-match", &tag)], None).await.ok(200);
        }
    }
}

#[tokio::test]
async fn a_compressed_document_has_a_weak_tag() {
    let api = Api::new().await;
    let p = api.product(lamp()).await;
    let category = api.category(json!({"name": "Lighting"})).await;
    for path in [
        format!("{API}/products/{}", id(&p)),
        format!("{API}/products/desk-lamp?numbers=true"),
        format!("{API}/skus/{}", id(&p["skus"][0])),
        format!("{API}/categories/{}", id(&category)),
    ] {
        let gzip = ("accept-encoding", "gzip, br");
        let strong = api.call("GET", &path, &[], None).await.ok(200).header("etag").to_owned();
        let zipped = api.call("GET", &path, &[gzip], None).await.ok(200);
        assert_eq!(zipped.header("content-encoding"), "gzip");
        let weak = zipped.header("etag").to_owned();
        assert_eq!(weak, format!("W/{strong}"));
        // A 304 has the tag that a 200 would have, whether the client sent the strong or the weak one.
        for tag in [&strong, &weak] {
            let known = ("if-none-match", tag.as_str());
            assert_eq!(api.call("GET", &path, &[known], None).await.ok(304).header("etag"), strong);
            assert_eq!(api.call("GET", &path, &[known, gzip], None).await.ok(304).header("etag"), weak);
            let brotli = ("accept-encoding", "br");
            assert_eq!(api.call("GET", &path, &[known, brotli], None).await.ok(304).header("etag"), strong);
        }
    }
    let body = json!({"title": "Lamp", "version": 1}).to_string();
    let path = format!("{API}/products/{}", id(&p));
    let written = api.call("PATCH", &path, &[("accept-encoding", "gzip")], Some(&body)).await.ok(200);
    assert!(written.header("etag").starts_with("W/\"2."), "{written:?}");
}

#[tokio::test]
async fn r01_a_tag_is_a_precondition_of_its_own_document() {
    let api = Api::new().await;
    let p = api.product(lamp()).await;
    let other = api.product(json!({"title": "Other", "price": 1})).await;
    let path = format!("{API}/products/{}", id(&p));
    let patch = async |tag: &str| {
        let body = json!({"description": tag}).to_string();
        api.call("PATCH", &path, &[("if-match", tag)], Some(&body)).await
    };
    let hex = id(&p).replace('-', "");
    // The tag is strong, weak, of a variant, of another revision, or only a version.
    for (version, tag) in [
        format!("\"1.1-{hex}\""),
        format!("W/\"2.1-{hex}\""),
        format!("W/\"3.1-{hex};n;f0123\""),
        "\"4.77\"".to_owned(),
        "W/\"5\"".to_owned(),
    ]
    .iter()
    .enumerate()
    {
        assert_eq!(patch(tag).await.ok(200).data()["version"], version + 2, "{tag}");
    }
    let before = api.everything().await;
    patch(&format!("\"5.1-{hex}\"")).await.refused(412, "VERSION_CONFLICT", "version");
    patch("\"6.1-xyz\"").await.refused(400, "BAD_REQUEST", "If-Match");
    patch("\"6.1\", \"7.1\"").await.refused(400, "BAD_REQUEST", "If-Match");
    // The version is current, but the tag belongs to another document.
    let of_other = format!("\"6.1-{}\"", id(&other).replace('-', ""));
    patch(&of_other).await.refused(412, "VERSION_CONFLICT", "If-Match");
    let tag = [("if-match", of_other.as_str())];
    for (method, path, body) in [
        ("PUT", path.clone(), Some(lamp().to_string())),
        ("DELETE", path.clone(), None),
        ("POST", format!("{path}/restore"), None),
        ("PATCH", format!("{API}/skus/{}", id(&p["skus"][0])), Some("{}".to_owned())),
        ("DELETE", format!("{API}/categories/019ab000-0000-7000-8000-000000000000"), None),
    ] {
        api.call(method, &path, &tag, body.as_deref()).await.refused(412, "VERSION_CONFLICT", "If-Match");
    }
    assert_eq!(before, api.everything().await);
}
