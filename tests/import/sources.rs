//! The forms of a source, sources that break off or fail, and how far ahead a source is read.

use std::io::{Cursor, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ecom::catalog::{ImportFormat, ImportKind, ImportOptions, ImportReport};
use serde_json::{Value, json};

use crate::support::{Letters, all_products, assert_balanced, counts, import, lines, record, shop};

on_each_database! {
    every_shape_of_a_source_is_read,
    a_source_that_breaks_off_keeps_what_came_before_and_a_second_run_completes_it,
    malformed_json_in_the_middle_ends_an_array_there_and_costs_lines_one_record,
    a_source_that_fails_to_read_is_reported_without_its_path,
    the_source_is_not_read_far_ahead_of_the_writer,
    batches_are_large_in_an_empty_shop_and_bounded_by_the_size_of_their_records,
}

async fn every_shape_of_a_source_is_read() {
    let (a, b) = (record(1), record(2));
    let pretty = serde_json::to_string_pretty(&a).unwrap();
    for (name, text, read) in [
        ("an array", format!("[{a},\n{b}]"), 2),
        ("an empty array", " [ ] ".to_owned(), 0),
        ("nothing", String::new(), 0),
        ("a wrapper", format!("{{\"products\":[{a},{b}],\"total\":2}}"), 2),
        ("a wrapper with more before", format!("{{\"total\":2,\"x\":{{\"y\":[1]}},\n\"products\" : [{a},{b}]}}"), 2),
        ("one object", pretty.clone(), 1),
        ("objects over lines", format!("{pretty}\n{pretty}").replacen("Thing 1", "Thing 7", 1), 2),
        ("lines", lines(&[a.clone(), b.clone()]), 2),
        ("lines without the last end", format!("{a}\r\n\r\n{b}"), 2),
        ("a byte order mark", format!("\u{feff}[{a},{b}]"), 2),
    ] {
        let shop = shop().await;
        let (report, letters) = import(&shop, text).await;
        assert_eq!((report.read, report.ended_early.as_ref()), (read, None), "{name}: {letters:?}");
    }
    // The categories of a product do not make its file a file of categories.
    let own = json!({"external_id": "x", "title": "X", "categories": ["a/b"], "skus": [{"price": "1", "code": "C"}]});
    let shop = shop().await;
    let (report, letters) = import(&shop, format!("{own}\n{a}\n")).await;
    assert_eq!(counts(&report), [2, 2, 0, 0, 0], "{letters:?}");
    assert_eq!(all_products(&shop).await.iter().flat_map(|p| &p.categories).filter(|c| c.path == "a/b").count(), 1);
    assert_eq!(ImportKind::detect(lines(&[own]).as_bytes()), Some(ImportKind::Products));
    assert_eq!(ImportKind::detect(b"[1, 2]"), None);
}

async fn a_source_that_breaks_off_keeps_what_came_before_and_a_second_run_completes_it() {
    let records: Vec<Value> = (1..=250).map(record).collect();
    let array = serde_json::to_string_pretty(&records).unwrap();
    let wrapped = format!("{{\"products\":{array}}}");
    for (text, cut) in [(array, 0), (lines(&records), 0), (wrapped, 0), (lines(&records), 7)] {
        let shop = shop().await;
        let at = text.rfind("\"Thing 237\"").unwrap() + 4 - cut;
        let mut progress = Vec::new();
        let letters = Letters::default();
        let options = letters.options().batch(100);
        let report = shop
            .import()
            .products(Cursor::new(text.as_bytes()[..at].to_vec()), options, |r| progress.push(r.read))
            .await
            .unwrap();
        assert_eq!(counts(&report), [236, 236, 0, 0, 0], "{:?}", letters.read());
        let ended = report.ended_early.unwrap();
        assert_eq!(ended.index, 236);
        assert_eq!(ended.byte, u64::try_from(at).unwrap());
        assert!(ended.reason.contains("the source ends"), "{ended}");
        assert_eq!(progress, [100, 200, 236]);
        assert_eq!(all_products(&shop).await.len(), 236);
        assert_balanced(&shop).await;
        let (report, _) = import(&shop, text).await;
        assert_eq!((counts(&report), report.ended_early), ([250, 14, 0, 236, 0], None));
    }
}

async fn malformed_json_in_the_middle_ends_an_array_there_and_costs_lines_one_record() {
    let records: Vec<Value> = (1..=150).map(record).collect();
    let array = serde_json::to_string(&records).unwrap();
    let shop = shop().await;
    for broken in [
        array.replace("\"Thing 120\"", "\"Thing 120"),
        array.replace("},{\"category\":\"things\",\"id\":121", "} {\"id\":121"),
    ] {
        assert_ne!(broken, array);
        let (report, letters) = import(&shop, broken).await;
        let ended = report.ended_early.clone().unwrap();
        assert!((119..=120).contains(&report.read), "{ended}");
        assert_eq!(ended.index, report.read);
        assert!(letters.len() <= 1, "{letters:?}");
    }
    // A bad record whose brackets are balanced is the only one that is refused, in an array too.
    let shop = self::shop().await;
    let (report, letters) = import(&shop, array.replace("\"Thing 120\"", "Thing 120")).await;
    assert_eq!(counts(&report), [150, 149, 0, 0, 1]);
    assert_eq!((letters[0]["index"].as_u64(), letters[0]["line"].as_u64()), (Some(119), Some(1)));
    // In a file of lines, only the bad line is refused, even the first one.
    for bad in [0, 70, 149] {
        let shop = self::shop().await;
        let mut text: Vec<String> = records.iter().map(Value::to_string).collect();
        text[bad].truncate(40);
        let (report, letters) = import(&shop, text.join("\n") + "\n").await;
        assert_eq!(counts(&report), [150, 149, 0, 0, 1], "{bad}");
        assert_eq!(letters[0]["line"].as_u64(), u64::try_from(bad + 1).ok());
    }
    let (report, _) = import(&self::shop().await, "hello;world\n1;x\n").await;
    assert_eq!((report.read, report.ended_early.unwrap().index), (0, 0));
}

async fn a_source_that_fails_to_read_is_reported_without_its_path() {
    struct Fails(Cursor<Vec<u8>>);
    impl Read for Fails {
        fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
            match self.0.read(to)? {
                0 => Err(std::io::Error::other("/secret/path")),
                n => Ok(n),
            }
        }
    }
    let shop = shop().await;
    let source = Fails(Cursor::new(lines(&[record(1), record(2)]).into_bytes()));
    let report = shop.import().products(source, ImportOptions::default(), |_| {}).await.unwrap();
    assert_eq!(report.inserted, 2);
    assert!(!report.ended_early.unwrap().to_string().contains("secret"));
}

async fn the_source_is_not_read_far_ahead_of_the_writer() {
    /// Produces records of 64 KiB, and counts how many were read from it.
    struct Endless {
        made: Arc<AtomicU64>,
        rest: Cursor<Vec<u8>>,
    }
    impl Read for Endless {
        fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
            loop {
                match self.rest.read(to)? {
                    0 if self.made.load(Ordering::SeqCst) < 2_000 => {
                        let n = self.made.fetch_add(1, Ordering::SeqCst) + 1;
                        let mut r = record(u32::try_from(n).unwrap());
                        r["ignored"] = json!("x".repeat(64 * 1024));
                        self.rest = Cursor::new(format!("{r}\n").into_bytes());
                    }
                    n => return Ok(n),
                }
            }
        }
    }
    let shop = shop().await;
    let made = Arc::new(AtomicU64::new(0));
    let source = Endless { made: made.clone(), rest: Cursor::default() };
    let mut ahead = 0;
    let options = ImportOptions::default().batch(10).format(ImportFormat::NdJson);
    let report = shop
        .import()
        .products(source, options, |r| {
            // The reader has enough time to read ahead.
            std::thread::sleep(std::time::Duration::from_millis(2));
            ahead = ahead.max(made.load(Ordering::SeqCst) - r.read);
        })
        .await
        .unwrap();
    assert_eq!(report.inserted, 2_000);
    assert!(ahead <= 10 + 32 + 3, "{ahead} records were read ahead of the writer");
}

/// The records of each batch, as the progress reports show them. Only the first import of products has large batches,
/// and no batch holds much more than 8 MiB of records.
async fn batches_are_large_in_an_empty_shop_and_bounded_by_the_size_of_their_records() {
    let shop = shop().await;
    let batches = async |records: Vec<Value>| {
        let mut read = vec![0];
        let source = Cursor::new(lines(&records).into_bytes());
        let note = |r: &ImportReport| read.push(r.read);
        let report = shop.import().products(source, ImportOptions::default(), note).await.unwrap();
        assert_eq!(report.inserted, records.len() as u64);
        read.windows(2).map(|w| w[1] - w[0]).filter(|n| *n > 0).collect::<Vec<_>>()
    };
    assert_eq!(batches((1..=250).map(record).collect()).await, [250]);
    assert_eq!(batches((251..=500).map(record).collect()).await, [100, 100, 50]);
    let large = |n| {
        let mut record = record(n);
        record["ignored"] = json!("x".repeat(512 * 1024));
        record
    };
    assert_eq!(batches((501..=540).map(large).collect()).await, [16, 16, 8]);
}
