use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::shop::{TestShop, kept};

struct Target {
    shop: TestShop,
    path: String,
    id: Uuid,
    tag: String,
}

thread_local! {
    static TARGET: &'static Target = {
        let shop = TestShop::open();
        let made = shop.create("/products", &json!({"title": "Desk Lamp", "price": 1}));
        let id: Uuid = made["id"].as_str().and_then(|id| id.parse().ok()).expect("an id");
        let path = format!("/products/{id}");
        let patch = |version: i64| {
            let body = json!({"title": format!("Desk Lamp {version}"), "version": version}).to_string();
            let answer = shop.send(Request::patch(format!("/api/v1{path}")), Some(&body)).expect("valid HTTP");
            assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        };
        // To version 3, which no other number is taken for.
        patch(1);
        patch(2);
        let tag = shop.get(&path).expect("valid HTTP").headers["etag"].to_str().expect("a text").to_owned();
        kept(Target { shop, path, id, tag })
    };
}

/// If-Match: a write is made if the header is one entity tag of the current version, of this resource if the tag names
/// one; each other header is refused, and changes nothing.
///
/// The input is the header. `{id}` stands for the id of the resource, and `{tag}` for its entity tag.
pub fn if_match(input: &[u8]) {
    TARGET.with(|target| {
        let text = String::from_utf8_lossy(input);
        let text = text.replace("{id}", &target.id.simple().to_string()).replace("{tag}", &target.tag);
        // Bytes that are not text reach the parser as they are.
        let bytes = if std::str::from_utf8(input).is_ok() { text.as_bytes() } else { input };
        let Ok(header) = HeaderValue::from_bytes(bytes) else { return };
        let request = Request::patch(format!("/api/v1{}", target.path)).header("if-match", &header);
        let answer = target.shop.send(request, Some("{}")).expect("valid HTTP");
        let error = &answer.body["error"]["code"];
        match (expected(bytes, target.id), answer.status) {
            (Expected::Written, StatusCode::OK) => assert_eq!(answer.body["data"]["version"], 3),
            (Expected::Stale, StatusCode::PRECONDITION_FAILED) => assert_eq!(error, "VERSION_CONFLICT"),
            (Expected::Required, StatusCode::PRECONDITION_REQUIRED) => assert_eq!(error, "VERSION_REQUIRED"),
            (Expected::Malformed, StatusCode::BAD_REQUEST) => answer.is_refusal(&text),
            (expected, status) => panic!("{text:?} has {status}, not {expected:?}: {}", answer.body),
        }
        // The version is still the same.
        assert_eq!(title(target), json!("Desk Lamp 2"), "{text:?}");
    });
}

fn title(target: &Target) -> Value {
    target.shop.get(&target.path).expect("valid HTTP").body["data"]["title"].clone()
}

#[derive(Debug)]
enum Expected {
    Written,
    Stale,
    Required,
    Malformed,
}

/// Reads a header as ARCHITECTURE.md and `etag.rs` describe entity tags: `"<version>.<revision>-<id>;<variant>"`, of
/// which all but the version may be missing.
fn expected(header: &[u8], id: Uuid) -> Expected {
    if !header.iter().all(|b| (b' '..=b'~').contains(b) || *b == b'\t') {
        return Expected::Malformed;
    }
    let text = header.trim_ascii();
    if text == b"*" {
        return Expected::Required;
    }
    let tag = text.strip_prefix(b"W/").unwrap_or(text);
    let Some(inner) = tag.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")) else {
        return Expected::Malformed;
    };
    if inner.contains(&b'"') {
        return Expected::Malformed;
    }
    let state = inner.split(|b| *b == b';').next().unwrap_or_default();
    let mut parts = state.splitn(2, |b| *b == b'-');
    let version = parts.next().unwrap_or_default().split(|b| *b == b'.').next().unwrap_or_default();
    let is_number = !version.is_empty() && version.iter().all(u8::is_ascii_digit);
    let Some(version) = std::str::from_utf8(version).ok().filter(|_| is_number).and_then(|v| v.parse::<i64>().ok())
    else {
        return Expected::Malformed;
    };
    let of = match parts.next() {
        None => None,
        Some(of) => match Uuid::try_parse_ascii(of) {
            Ok(of) => Some(of),
            Err(_) => return Expected::Malformed,
        },
    };
    if version == 3 && of.is_none_or(|of| of == id) { Expected::Written } else { Expected::Stale }
}
