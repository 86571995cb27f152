//! Dry runs, runs that resume, steps of an application, dead letters that are imported again, and unknown fields.

use std::io::Cursor;

use ecom::catalog::{DeadLetters, Fate, ImportFormat, ImportOptions, ImportReport, RecordSource, SourceRecord};
use ecom::catalog::{Document, EndedEarly};
use serde_json::{Map, Value, json};

use crate::support::{
    Letters, all_products, assert_balanced, counts, find, import, import_categories, lines, outbox_head, products,
    record, sample, shop, tree,
};

on_each_database! {
    a_dry_run_counts_as_a_run_does_and_writes_nothing,
    a_run_that_resumes_ends_as_one_that_was_not_stopped,
    steps_of_an_application_change_drop_and_refuse_records,
    dead_letters_are_mended_and_imported_again,
    the_report_names_the_fields_that_it_does_not_know,
    a_run_that_resumes_keeps_the_dead_letters_of_the_part_before,
    records_come_from_a_source_of_the_application,
}

async fn a_dry_run_counts_as_a_run_does_and_writes_nothing() {
    let shop = shop().await;
    import(&shop, lines(&(1..=150).map(record).collect::<Vec<_>>())).await;
    let mut records: Vec<Value> = (1..=400).map(record).collect();
    for r in &mut records[100..150] {
        r["price"] = json!("12.50");
    }
    records[200]["price"] = json!("nine");
    records[300]["sku"] = json!("SKU-250");
    records[350]["category"] = json!("gadgets/new");
    records[20]["category"] = json!("gadgets/new");
    records.push(record(7));
    let text = lines(&records);
    let (before, head, categories) = (all_products(&shop).await, outbox_head(&shop).await, tree(&shop).await.len());
    let letters = Letters::default();
    let dry = products(&shop, text.clone(), letters.options().dry_run(true).batch(100)).await;
    assert_eq!((all_products(&shop).await, outbox_head(&shop).await), (before, head));
    assert_eq!((tree(&shop).await.len(), dry.done), (categories, 0));
    let (run, real) = import(&shop, text).await;
    assert_eq!(counts(&dry), [401, 248, 51, 99, 3]);
    assert_eq!(counts(&dry), counts(&run));
    assert_eq!(dry.categories_created, run.categories_created);
    let places = |letters: &[Value]| letters.iter().map(|l| l["index"].clone()).collect::<Vec<_>>();
    assert_eq!(places(&letters.read()), places(&real));
    assert_balanced(&shop).await;

    let letters = Letters::default();
    let text = r#"[{"id":"a","name":"A"},{"id":"b","name":"B","path":[{"id":"a","name":"A"}]},{"id":"b","name":"C"}]"#;
    let (before, options) = (tree(&shop).await.len(), letters.options().dry_run(true));
    let dry = shop.import().categories(Cursor::new(text), options, |_| {}).await.unwrap();
    assert_eq!(tree(&shop).await.len(), before);
    let (run, _) = import_categories(&shop, text).await;
    assert_eq!((counts(&dry), counts(&run)), ([3, 2, 0, 0, 1], [3, 2, 0, 0, 1]));
}

/// A run that was stopped continues after the records that it had done, and both together do what one would have done,
/// also for a record that repeats one from before the stop.
async fn a_run_that_resumes_ends_as_one_that_was_not_stopped() {
    let mut records: Vec<Value> = (1..=250).map(record).collect();
    records[240] = json!({"id": 5, "title": "Another with the id of the fifth", "price": 1, "sku": "SKU-241"});
    records[30]["price"] = json!("nine");
    let text = lines(&records);
    let whole = shop().await;
    let (at_once, _) = import(&whole, text.clone()).await;
    for stop in [100_usize, 237] {
        let shop = shop().await;
        let cut: usize = text.split_inclusive('\n').take(stop).map(str::len).sum();
        let mut done = Vec::new();
        let options = ImportOptions::default().batch(100);
        let source = Cursor::new(text.as_bytes()[..cut].to_vec());
        let first = shop.import().products(source, options, |r| done.push(r.done)).await.unwrap();
        assert_eq!(done.last(), Some(&u64::try_from(stop).unwrap()));
        let letters = Letters::default();
        let second = products(&shop, text.clone(), letters.options().skip(first.done)).await;
        assert_eq!((second.skipped, second.done), (first.done, 250));
        let rest = 250 - u64::try_from(stop).unwrap();
        assert_eq!(counts(&second), [rest, rest - 1, 0, 0, 1], "{:#?}", letters.read());
        assert_eq!(first.inserted + second.inserted, at_once.inserted);
        // The places are those in the whole source.
        assert_eq!((letters.read()[0]["index"].as_u64(), letters.read()[0]["line"].as_u64()), (Some(240), Some(241)));
        let shown = async |shop: &ecom::Shop| {
            let all = all_products(shop).await;
            all.iter().map(|p| (p.external.clone(), p.title.clone(), p.skus[0].code.clone())).collect::<Vec<_>>()
        };
        assert_eq!(shown(&shop).await, shown(&whole).await);
    }
}

async fn steps_of_an_application_change_drop_and_refuse_records() {
    let shop = shop().await;
    let mut seen = 0;
    let step = move |record: &mut Map<String, Value>| {
        seen += 1;
        match record["id"].as_u64() {
            Some(2) => return Fate::Drop,
            Some(3) => return Fate::refuse("threes are not sold here"),
            _ => {}
        }
        record.insert("brand".to_owned(), format!("No. {seen}").into());
        Fate::Keep
    };
    let letters = Letters::default();
    let options = letters.options().transform(step).transform(|record: &mut Map<String, Value>| {
        record.insert("tags".to_owned(), json!([record["brand"].clone()]));
        Fate::Keep
    });
    let report = products(&shop, lines(&(1..=4).map(record).collect::<Vec<_>>()), options).await;
    let ImportReport { read, inserted, rejected, dropped, .. } = report;
    assert_eq!((read, inserted, rejected, dropped), (4, 2, 1, 1));
    let all = all_products(&shop).await;
    assert_eq!(find(&all, "4").brand.as_deref(), Some("No. 4"));
    assert_eq!(find(&all, "4").tags, ["No. 4"]);
    let letters = letters.read();
    assert_eq!(letters[0]["reason"], "threes are not sold here");
    // As it was before the steps.
    assert_eq!(letters[0]["record"].as_str(), Some(record(3).to_string().as_str()));
    // The columns that a table has beside its fields.
    let options = ImportOptions::default().transform(|record: &mut Map<String, Value>| {
        if let Some(Value::Object(columns)) = record.remove("columns") {
            record.insert("title".to_owned(), columns["Bezeichnung"].clone());
        }
        Fate::Keep
    });
    let report = products(&shop, "external_id,sku,price,title,Bezeichnung\nx,X-1,3,,Tasse\n", options).await;
    assert_eq!((report.inserted, report.unknown_fields.len()), (1, 0));
    assert_eq!(find(&all_products(&shop).await, "x").title, "Tasse");
}

async fn dead_letters_are_mended_and_imported_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("dead.ndjson");
    let long = "long ".repeat(2_000);
    let mut second = record(2);
    second["description"] = json!(long);
    second["price"] = json!("nine");
    let json = lines(&[record(1), second, record(3)]);
    let csv = format!("external_id,title,sku,price,description\n1,Thing 1,SKU-1,9.99,\n2,Thing 2,SKU-2,nine,{long}\n");
    let shopify = String::from_utf8(sample("shopify.csv")).unwrap().replace("12.00,16.00", "twelve,16.00");
    for (name, text) in [("json", json), ("csv", csv), ("shopify", shopify)] {
        let shop = shop().await;
        let file = || ImportOptions::default().dead_letters(DeadLetters::File(path.clone()));
        let report = products(&shop, text, file()).await;
        assert_eq!(report.rejected, 1, "{name}");
        let letters = std::fs::read_to_string(&path).unwrap();
        // As they are, they are rejected again, and lose nothing.
        let again = Letters::default();
        let report = products(&shop, letters.clone(), again.options()).await;
        assert_eq!(counts(&report), [1, 0, 0, 0, 1], "{name}");
        let record = |letter: &Value| letter["record"].as_str().unwrap().to_owned();
        assert_eq!(record(&again.read()[0]), record(&serde_json::from_str(&letters).unwrap()), "{name}");
        let mended = letters.replace("nine", "9.99").replace("twelve", "12.00");
        let report = products(&shop, mended.clone(), file()).await;
        assert_eq!(counts(&report), [1, 1, 0, 0, 0], "{name}");
        // A record may also be an object in place of its text.
        let mut letter: Value = serde_json::from_str(&mended).unwrap();
        letter["record"] = serde_json::from_str(&record(&letter)).unwrap();
        let options = ImportOptions::default().format(ImportFormat::DeadLetters);
        let report = products(&shop, lines(&[letter]), options).await;
        assert_eq!(counts(&report), [1, 0, 0, 1, 0], "{name}");
        let all = all_products(&shop).await;
        if name == "shopify" {
            let mug = find(&all, "enamel-mug");
            assert_eq!((mug.skus.len(), mug.external.as_ref().unwrap().source.as_str()), (2, "shopify"));
        } else {
            assert_eq!(find(&all, "2").description.as_deref(), Some(long.trim()));
        }
    }
    // Of a record that is too large, the dead letter has only the beginning.
    let mut huge = record(9);
    huge["description"] = json!("x".repeat(2 << 20));
    let shop = shop().await;
    let (_, letters) = import(&shop, lines(&[huge])).await;
    let (report, letters) = import(&shop, lines(&letters)).await;
    assert_eq!(counts(&report), [1, 0, 0, 0, 1]);
    assert!(letters[0]["reason"].as_str().unwrap().contains("only the beginning"), "{letters:?}");
}

async fn the_report_names_the_fields_that_it_does_not_know() {
    let shop = shop().await;
    let mut known = record(1);
    known["images"] = json!([{"url": "https://img.example/1.jpg"},
        {"url": "https://img.example/2.jpg", "alt_text": "The back", "is_primary": true, "caption": "x", "size": 3}]);
    known["availabilityStatus"] = json!("In Stock");
    known["meta"] = json!({"qrCode": "x", "createdAt": "y", "colour": "z"});
    known["reviews"] = json!([{"rating": 5}, {"rating": 4}]);
    let mut unknown = record(2);
    unknown["colour"] = json!({"deep": [1, 2]});
    unknown["skus"] = json!([{"code": "A", "price": 1, "material": 2}, {"code": "B", "price": 1, "material": 2}]);
    for field in ["price", "sku", "stock"] {
        unknown.as_object_mut().unwrap().remove(field);
    }
    let (report, letters) = import(&shop, lines(&[known, unknown])).await;
    assert_eq!(report.inserted, 2, "{letters:#?}");
    let found: Vec<_> = report.unknown_fields.iter().map(|(name, n)| (name.as_str(), *n)).collect();
    let expected =
        [("colour", 1), ("images[].caption", 1), ("images[].size", 1), ("meta.colour", 1), ("skus[].material", 2)];
    assert_eq!(found, expected);
    let all = all_products(&shop).await;
    let images = &find(&all, "1").images;
    assert_eq!((images[1].alt.as_deref(), images[1].primary, images[0].primary), (Some("The back"), true, false));
    // The number and the length of the names are bounded.
    let mut strange = record(3);
    for i in 0..1_000 {
        strange[format!("{i:04}{}", "x".repeat(500))] = json!(i);
    }
    let (report, _) = import(&shop, lines(&[strange])).await;
    assert_eq!((report.unknown_fields.len(), report.unknown_fields["(more)"]), (101, 900));
    assert!(report.unknown_fields.keys().all(|name| name.chars().count() <= 101));
}

/// The dead letters of a run that resumes join those of the part before.
async fn a_run_that_resumes_keeps_the_dead_letters_of_the_part_before() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("dead.ndjson");
    let shop = shop().await;
    let mut records: Vec<Value> = (1..=4).map(record).collect();
    records[0]["price"] = json!("one");
    records[3]["price"] = json!("four");
    let options = || ImportOptions::default().dead_letters(DeadLetters::File(path.clone()));
    let first = products(&shop, lines(&records[..2]), options()).await;
    products(&shop, lines(&records), options().skip(first.done)).await;
    let letters = std::fs::read_to_string(&path).unwrap();
    let places: Vec<Value> =
        letters.lines().map(|l| serde_json::from_str::<Value>(l).unwrap()["index"].clone()).collect();
    assert_eq!(places, [0, 3]);
}

/// A source of an application's own.
async fn records_come_from_a_source_of_the_application() {
    struct Countdown(u32);
    impl RecordSource for Countdown {
        fn next(&mut self) -> Result<Option<SourceRecord>, EndedEarly> {
            self.0 -= 1;
            match self.0 {
                0 => Err(EndedEarly { reason: "the line is dead".to_owned(), index: 0, line: 0, byte: 0 }),
                n => Ok(Some(SourceRecord::new(u64::from(n), 10, Document::Json(record(n).to_string().into_bytes())))),
            }
        }
    }
    let shop = shop().await;
    let report = shop.import().products_from(Box::new(Countdown(4)), ImportOptions::default(), |_| {}).await.unwrap();
    assert_eq!(counts(&report), [3, 3, 0, 0, 0]);
    let ended = report.ended_early.unwrap();
    assert_eq!((ended.index, ended.reason.as_str()), (3, "the line is dead"));
}
