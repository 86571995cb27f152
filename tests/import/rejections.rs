//! Records that are refused, and the dead letters that give the reason.

use std::io::Cursor;

use ecom::catalog::{DeadLetters, ImportOptions};
use serde_json::{Value, json};

use crate::support::{all_products, assert_balanced, counts, fields, import, lines, products, record, shop, tree};

on_each_database! {
    r17_what_breaks_the_rules_is_a_dead_letter_and_leaves_nothing_behind,
    r17_integers_beyond_64_bits_are_refused_in_records,
    a_record_of_10_mb_is_refused_without_being_held,
    dead_letters_go_to_a_file_only_where_there_are_any,
    a_path_in_a_record_leads_to_no_file,
}

async fn r17_what_breaks_the_rules_is_a_dead_letter_and_leaves_nothing_behind() {
    let shop = shop().await;
    let mut bad: Vec<(Value, &str)> = Vec::new();
    let mut add = |change: Value, field: &'static str| {
        let mut r = record(u32::try_from(bad.len()).unwrap() + 10);
        r["category"] = json!("never-made");
        for (k, v) in change.as_object().unwrap() {
            r[k] = v.clone();
        }
        bad.push((r, field));
    };
    add(json!({"price": -0.01}), "price");
    add(json!({"price": "9.999"}), "price");
    add(json!({"price": true}), "price");
    add(json!({"price": null}), "price");
    add(json!({"stock": 1.5}), "stock");
    add(json!({"stock": -1}), "stock");
    add(json!({"title": 7}), "title");
    add(json!({"title": ""}), "title");
    add(json!({"title": null}), "title");
    add(json!({"title": "\u{200b}\u{feff}"}), "title");
    add(json!({"tags": ["a", 1]}), "tags[1]");
    add(json!({"tags": ["x".repeat(51)]}), "tags[0]");
    add(json!({"rating": 5.01}), "rating");
    add(json!({"dimensions": {"width": "wide", "height": 1, "depth": 1}}), "dimensions.width");
    add(json!({"dimensions": {"width": 1.234, "height": 1, "depth": 1}}), "dimensions.width");
    add(json!({"images": ["javascript:alert(1)"]}), "images[0].url");
    add(json!({"discountPercentage": 100.5}), "discount_percentage");
    add(json!({"currency": "EUR"}), "currency");
    add(json!({"id": 1.5}), "id");
    add(json!({"description": "x".repeat(60_000)}), "description");
    add(json!({"skus": [{"price": "1.001"}]}), "price");
    let mut records: Vec<Value> = bad.iter().map(|(r, _)| r.clone()).collect();
    records.push(record(1));
    let mut text = lines(&records);
    text.push_str("{\"id\": 99, nonsense}\n[1]\n");
    text.push_str(&record(2).to_string());
    let (report, letters) = import(&shop, text).await;
    let rejected = u64::try_from(bad.len()).unwrap() + 2;
    assert_eq!(counts(&report), [rejected + 2, 2, 0, 0, rejected], "{letters:#?}");
    for ((record, field), letter) in bad.iter().zip(&letters) {
        assert!(fields(letter).iter().any(|f| f == field), "{field}: {letter:#}");
        let shown = letter["record"].as_str().unwrap();
        assert_eq!(record.to_string(), shown);
        assert_eq!(letter["line"].as_u64().unwrap(), letter["index"].as_u64().unwrap() + 1);
        if record["id"].is_u64() {
            assert_eq!(letter["external_id"].as_str().unwrap(), record["id"].to_string());
        }
    }
    assert_eq!(letters[bad.len()]["code"], "BAD_REQUEST");
    assert_eq!(all_products(&shop).await.len(), 2);
    assert!(!tree(&shop).await.iter().any(|c| c.slug.as_str() == "never-made"));
    assert_balanced(&shop).await;
}

async fn r17_integers_beyond_64_bits_are_refused_in_records() {
    let shop = shop().await;
    let with = |record: &Value, attributes: &str| {
        let text = record.to_string();
        format!("{},\"attributes\":{attributes}}}\n", text.strip_suffix('}').unwrap())
    };
    let text = with(&record(1), r#"{"n":18446744073709551616}"#) + &with(&record(2), r#"{"n":18446744073709551615}"#);
    let (report, letters) = import(&shop, text).await;
    assert_eq!(counts(&report), [2, 1, 0, 0, 1], "{letters:#?}");
    assert!(fields(&letters[0]).iter().any(|f| f == "attributes"), "{:#}", letters[0]);
    assert!(letters[0]["reason"].as_str().unwrap().contains("64 bits"), "{:#}", letters[0]);
}

async fn a_record_of_10_mb_is_refused_without_being_held() {
    let shop = shop().await;
    let mut huge = record(5);
    huge["description"] = json!("x".repeat(10 * 1024 * 1024));
    for text in [format!("[{},{huge},{}]", record(1), record(2)), lines(&[record(3), huge.clone(), record(4)])] {
        let (report, letters) = import(&shop, text).await;
        assert_eq!(counts(&report), [3, 2, 0, 0, 1]);
        assert_eq!(letters[0]["code"], "PAYLOAD_TOO_LARGE");
        assert_eq!(letters[0]["index"], 1);
        assert_eq!(letters[0]["record"].as_str().unwrap().len(), 4 * 1024);
    }
}

async fn dead_letters_go_to_a_file_only_where_there_are_any() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("dead.ndjson");
    let options = || ImportOptions::default().dead_letters(DeadLetters::File(path.clone())).file("things.ndjson");
    let shop = shop().await;
    products(&shop, lines(&[record(1)]), options()).await;
    assert!(!path.exists());
    for _ in 0..2 {
        products(&shop, lines(&[record(1), json!({"id": 2})]), options()).await;
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 1);
        let letter: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((letter["file"].as_str(), letter["line"].as_u64()), (Some("things.ndjson"), Some(2)));
    }
    let nowhere = ImportOptions::default().dead_letters(DeadLetters::File(dir.path().join("no/such")));
    let failed = shop.import().products(Cursor::new(b"[1]".to_vec()), nowhere, |_| {}).await.unwrap_err();
    assert!(!failed.to_string().contains("such"), "no path in messages: {failed}");
    let none = ImportOptions::default().batch(0);
    assert!(shop.import().products(Cursor::new(Vec::new()), none, |_| {}).await.is_err());
}

/// A record is data: an import opens no file and fetches no URL that a record names, and no file is named by a record.
async fn a_path_in_a_record_leads_to_no_file() {
    const SECRET: &str = "what only this machine knows";
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("secret.txt");
    std::fs::write(&secret, SECRET).unwrap();
    let path = secret.to_str().unwrap();
    let shop = shop().await;
    let mut records = Vec::new();
    let texts = [path.to_owned(), format!("file://{path}"), format!("@{path}"), format!("../../../../../..{path}")];
    for (n, text) in (1..).zip(&texts) {
        let mut named = record(n);
        for field in ["title", "description", "brand", "warrantyInformation"] {
            named[field] = json!(text);
        }
        records.push(named);
    }
    let mut placed = record(10);
    placed["category"] = json!(path);
    records.push(placed);
    for (n, url) in (11..).zip([format!("file://{path}"), format!("../../../../../..{path}"), "..\\x".to_owned()]) {
        let mut linked = record(n);
        linked["images"] = json!([url]);
        records.push(linked);
    }
    let letters = dir.path().join("dead.ndjson");
    let options = ImportOptions::default().dead_letters(DeadLetters::File(letters.clone())).file("../../x");
    let report = products(&shop, lines(&records), options).await;
    // Only `http` and `https`, and paths of the shop's own pages.
    assert_eq!(report.rejected, 3, "{report:?}");
    let refused = std::fs::read_to_string(&letters).unwrap();
    assert!(refused.lines().count() == 3 && !refused.contains(SECRET), "{refused}");
    let found = all_products(&shop).await;
    assert!(!format!("{found:?}").contains(SECRET), "{found:?}");
    assert!(found.len() == 5 && found.iter().all(|p| !p.slug.as_str().contains(['/', '.', '\\'])), "{found:?}");
    assert!(tree(&shop).await.iter().all(|c| !c.slug.as_str().contains(['/', '.', '\\'])));
    let mut files: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
    files.sort();
    assert_eq!(files, ["dead.ndjson", "secret.txt"]);
}
