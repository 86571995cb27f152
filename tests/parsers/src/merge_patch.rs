use axum::extract::Request;
use axum::http::StatusCode;
use ecom_core::common::Attributes;
use serde_json::{Map, Value, json};

use crate::shop::{TestShop, kept};

/// The fields of a product that a patch replaces as a whole, and that are shown as they are sent, each with its value
/// after it is removed.
const PLAIN: [(&str, Value); 4] = [
    ("description", Value::Null),
    ("warranty_information", Value::Null),
    ("shipping_information", Value::Null),
    ("barcode", Value::Null),
];

struct Target {
    shop: TestShop,
    path: String,
    body: Value,
}

thread_local! {
    static TARGET: &'static Target = {
        let shop = TestShop::open();
        let body = json!({
            "title": "Desk Lamp", "brand": "Lumen", "description": "Bright",
            "tags": ["light"], "warranty_information": "2 years",
            "attributes": {"watts": 7, "color": {"name": "red", "rgb": [255, 0, 0]}, "old": null},
            // Not as flat fields, so that it also replaces a product to which a patch has given several SKUs.
            "skus": [{
                "price": "19.99", "stock": 3, "barcode": "4006381333931", "weight": "1.25",
                "dimensions": {"width": 1, "height": 2, "depth": 3}
            }]
        });
        let made = shop.create("/products", &body);
        let path = format!("/api/v1/products/{}", made["id"].as_str().expect("an id"));
        kept(Target { shop, path, body })
    };
}

/// Merge patches (RFC 7396): attributes merge as the algorithm of the RFC merges them, and a patch of a product changes
/// the fields that it has, and no others.
///
/// The input is the patch of a product, or two lines: attributes, and a patch of them.
pub fn merge_patch(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    match text.split_once('\n') {
        Some((attributes, patch)) => merge_attributes(attributes, patch),
        None => TARGET.with(|target| target.patch(text)),
    }
}

/// Returns the result of a patch, by the algorithm of RFC 7396, section 2.
pub fn merged(target: &Value, patch: &Value) -> Value {
    let Value::Object(patch) = patch else { return patch.clone() };
    let mut result = target.as_object().cloned().unwrap_or_default();
    for (name, value) in patch {
        if value.is_null() {
            result.remove(name);
        } else {
            let before = result.remove(name).unwrap_or_default();
            result.insert(name.clone(), merged(&before, value));
        }
    }
    Value::Object(result)
}

fn merge_attributes(attributes: &str, patch: &str) {
    let read = |json: &str| serde_json::from_str::<Attributes>(json).ok();
    let (Some(before), Some(patch)) = (read(attributes), read(patch)) else { return };
    let mut after = before.clone();
    after.merge(&patch);
    let expected = merged(&Value::Object(before.0.clone()), &Value::Object(patch.0.clone()));
    assert_eq!(Value::Object(after.0.clone()), expected, "{before:?} and {patch:?}");
    let mut by_crate = Value::Object(before.0.clone());
    json_patch::merge(&mut by_crate, &Value::Object(patch.0.clone()));
    assert_eq!(by_crate, expected, "{before:?} and {patch:?}");
    let mut again = after.clone();
    again.merge(&patch);
    assert_eq!(again, after, "the second merge of {patch:?} into {before:?} changes something");
    // What a database stores is read back as it is.
    let stored = serde_json::to_string(&after).expect("attributes are JSON");
    assert_eq!(read(&stored).as_ref(), Some(&after), "{stored}");
}

impl Target {
    fn read(&self) -> Map<String, Value> {
        let answer = self.shop.send(Request::get(&self.path), None).expect("valid HTTP");
        answer.body["data"].as_object().expect("a product").clone()
    }

    fn patch(&self, text: &str) {
        let before = self.read();
        let tag = format!("\"{}\"", before["version"]);
        let request = Request::patch(&self.path).header("if-match", &tag);
        let answer = self.shop.send(request, Some(text)).expect("valid HTTP");
        let after = self.read();
        if answer.status != StatusCode::OK {
            assert_eq!(after, before, "{text:?} is refused, but changes something");
            if answer.status != StatusCode::CONFLICT {
                answer.is_refusal(text);
            }
            return;
        }
        assert_eq!(Some(&after), answer.body["data"].as_object(), "{text:?}");
        let patch: Value = serde_json::from_str(text).expect("what is accepted is JSON");
        let patch = patch.as_object().expect("what is accepted is an object");
        compare(&before, &after, patch, text);
        if after["version"] != before["version"] {
            let request = Request::put(&self.path).header("if-match", format!("\"{}\"", after["version"]));
            let answer = self.shop.send(request, Some(&self.body.to_string())).expect("valid HTTP");
            assert_eq!(answer.status, StatusCode::OK, "{text:?}: {}", answer.body);
        }
    }
}

/// Compares the product before and after a patch.
fn compare(before: &Map<String, Value>, after: &Map<String, Value>, patch: &Map<String, Value>, text: &str) {
    for (name, removed) in PLAIN {
        if name == "barcode" && patch.contains_key("skus") {
            continue;
        }
        match patch.get(name) {
            None => assert_eq!(after[name], before[name], "{name} is not in {text:?}"),
            Some(Value::Null) => assert_eq!(after[name], removed, "{name} is removed by {text:?}"),
            // Spaces around a text are cut off, and a text of spaces is none.
            Some(new) => {
                let new = new.as_str().expect("a text").trim();
                let shown = after[name].as_str().unwrap_or_default();
                assert_eq!(shown, new, "{name} is set by {text:?}");
            }
        }
    }
    let attributes = match patch.get("attributes") {
        None => before["attributes"].clone(),
        Some(Value::Null) => json!({}),
        Some(patch) => {
            // The numbers as the shop stores them.
            let patch: Attributes = serde_json::from_value(patch.clone()).expect("an object");
            merged(&before["attributes"], &Value::Object(patch.0))
        }
    };
    assert_eq!(after["attributes"], attributes, "{text:?}");
    for name in ["title", "brand", "status", "tags", "images", "discount_percentage", "weight", "sku", "stock"] {
        let is_of_skus = ["weight", "sku", "stock"].contains(&name) && patch.contains_key("skus");
        if !patch.contains_key(name) && !is_of_skus {
            assert_eq!(after[name], before[name], "{name} is not in {text:?}");
        }
    }
    assert!(
        patch.contains_key("skus") || patch.contains_key("dimensions") || after["dimensions"] == before["dimensions"]
    );
}
