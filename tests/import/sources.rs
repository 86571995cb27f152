//! Imports into an embedded shop: SQLite and Tantivy in memory, and SQLite in a file.
#![cfg(all(feature = "sqlite", feature = "tantivy"))]
#![expect(clippy::unwrap_used, reason = "these are tests: a broken expectation panics")]

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{Cursor, Read, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use ecom::domain::{Actor, Category, Deleted, Product, ProductFilter, ProductSort, RatingSource, StockReason};
use ecom::paging::Paging;
use ecom::port::{
    CategoryRepository, Connection, InventoryRepository, OutboxRepository, PoolStatus, ProductRepository, Repositories,
    SkuRepository, Storage, UnitOfWork,
};
use ecom::service::{DeadLetters, ImportFormat, ImportKind, ImportOptions, ImportReport, ProductListQuery, detect};
use ecom::{Dependency, Error, Result, Shop, ShopBuilder};
use serde_json::{Value, json};

/// Dead letters in memory.
#[derive(Clone, Default)]
struct Letters(Arc<Mutex<Vec<u8>>>);

impl Write for Letters {
    fn write(&mut self, b: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(b);
        Ok(b.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Letters {
    fn read(&self) -> Vec<Value> {
        let bytes = self.0.lock().unwrap();
        bytes.split(|b| *b == b'\n').filter(|l| !l.is_empty()).map(|l| serde_json::from_slice(l).unwrap()).collect()
    }

    fn options(&self) -> ImportOptions {
        ImportOptions { dead_letters: DeadLetters::Writer(Box::new(self.clone())), ..ImportOptions::default() }
    }
}

async fn shop() -> Shop {
    ShopBuilder::new().database("sqlite::memory:").search("tantivy::memory:").build().await.unwrap()
}

async fn products(shop: &Shop, text: impl Into<Vec<u8>>, options: ImportOptions) -> ImportReport {
    shop.import().products(Cursor::new(text.into()), options, |_| {}).await.unwrap()
}

/// Imports and gives the report with its dead letters.
async fn import(shop: &Shop, text: impl Into<Vec<u8>>) -> (ImportReport, Vec<Value>) {
    let letters = Letters::default();
    let report = products(shop, text, letters.options()).await;
    (report, letters.read())
}

async fn import_categories(shop: &Shop, text: impl Into<Vec<u8>>) -> (ImportReport, Vec<Value>) {
    let letters = Letters::default();
    let report = shop.import().categories(Cursor::new(text.into()), letters.options(), |_| {}).await.unwrap();
    (report, letters.read())
}

fn counts(r: &ImportReport) -> [u64; 5] {
    assert_eq!(r.read, r.inserted + r.updated + r.unchanged + r.rejected, "{r:?}");
    [r.read, r.inserted, r.updated, r.unchanged, r.rejected]
}

fn data(name: &str) -> Option<Vec<u8>> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/data").join(name);
    let found = std::fs::read(path).ok();
    if found.is_none() {
        println!("SKIPPED: ../shared/data/{name} is not here");
    }
    found
}

fn sample(name: &str) -> Vec<u8> {
    std::fs::read(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("sample").join(name)).unwrap()
}

async fn all_products(shop: &Shop) -> Vec<Product> {
    let query = ProductListQuery {
        filter: ProductFilter { deleted: Deleted::Include, ..ProductFilter::default() },
        sort: ProductSort::CreatedAsc,
        paging: Paging::Offset { offset: 0, limit: 1_000 },
    };
    let mut all = shop.products().list(&query).await.unwrap().value.page.items.clone();
    all.sort_by_key(|p| p.id);
    all
}

async fn tree(shop: &Shop) -> Vec<Category> {
    shop.storage().connect().await.unwrap().categories().tree().await.unwrap()
}

async fn outbox_head(shop: &Shop) -> ecom::domain::OutboxPosition {
    shop.events().head().await.unwrap()
}

async fn assert_balanced(shop: &Shop) {
    let off = shop.storage().connect().await.unwrap().inventory().imbalances().await.unwrap();
    assert!(off.is_empty(), "R11: {off:?}");
}

fn find<'a>(all: &'a [Product], external_id: &str) -> &'a Product {
    all.iter().find(|p| p.external.as_ref().is_some_and(|x| x.external_id == external_id)).unwrap()
}

fn record(id: u32) -> Value {
    json!({"id": id, "title": format!("Thing {id}"), "category": "things", "price": 9.99, "stock": 5,
           "sku": format!("SKU-{id}")})
}

fn lines(records: &[Value]) -> String {
    records.iter().flat_map(|r| [r.to_string(), "\n".to_owned()]).collect()
}

fn fields(letter: &Value) -> Vec<String> {
    letter["fields"].as_array().unwrap().iter().map(|f| f["field"].as_str().unwrap().to_owned()).collect()
}

async fn dummyjson_on(shop: Shop) {
    let Some(file) = data("dummyjson-products.json") else { return };
    let source: Vec<Value> = serde_json::from_slice(&file).unwrap();
    let (report, letters) = import(&shop, file.clone()).await;
    assert_eq!(counts(&report), [194, 194, 0, 0, 0], "{letters:?}");
    assert_eq!((report.ended_early.as_ref(), letters.len()), (None, 0));
    let slugs: HashSet<&str> = source.iter().map(|s| s["category"].as_str().unwrap()).collect();
    assert_eq!(report.categories_created, u64::try_from(slugs.len()).unwrap());
    assert_balanced(&shop).await;

    let all = all_products(&shop).await;
    assert_eq!(all.len(), 194);
    let text = String::from_utf8(file.clone()).unwrap();
    for s in &source {
        let p = find(&all, &s["id"].to_string());
        let sku = p.default_sku().unwrap();
        assert_eq!(p.external.as_ref().unwrap().source, "dummyjson");
        assert_eq!(p.title, s["title"].as_str().unwrap().trim());
        assert_eq!(p.description.as_deref(), s["description"].as_str().map(str::trim));
        assert_eq!(p.brand.as_deref(), s["brand"].as_str());
        assert_eq!(p.categories.iter().map(|c| c.slug.as_str()).collect::<Vec<_>>(), [s["category"].as_str().unwrap()]);
        // What a price is written as is what it is; serde_json prints these floats as the file has them.
        let exact = |v: &Value| v.to_string().parse::<f64>().unwrap();
        assert_eq!(sku.price.amount().to_string().parse::<f64>().unwrap().to_bits(), exact(&s["price"]).to_bits());
        assert_eq!(p.discount.to_string().parse::<f64>().unwrap().to_bits(), exact(&s["discountPercentage"]).to_bits());
        assert_eq!(p.rating.mean.to_string().parse::<f64>().unwrap().to_bits(), exact(&s["rating"]).to_bits());
        assert_eq!(p.rating.source, RatingSource::External);
        assert_eq!(p.rating.count, i64::try_from(s["reviews"].as_array().unwrap().len()).unwrap());
        assert_eq!(Some(sku.on_hand), s["stock"].as_i64());
        assert_eq!(sku.code, s["sku"].as_str().unwrap());
        assert_eq!(sku.barcode.as_deref(), s["meta"]["barcode"].as_str());
        let d = sku.dimensions.unwrap();
        for (got, name) in [(d.width, "width"), (d.height, "height"), (d.depth, "depth")] {
            assert_eq!(got.to_string().parse::<f64>().unwrap().to_bits(), exact(&s["dimensions"][name]).to_bits());
        }
        assert_eq!(sku.weight.unwrap().to_string().parse::<f64>().unwrap().to_bits(), exact(&s["weight"]).to_bits());
        let urls: Vec<&str> = s["images"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        assert_eq!(p.images.iter().map(|i| i.url.as_str()).collect::<Vec<_>>(), urls);
        assert!(p.images.iter().enumerate().all(|(i, image)| image.primary == (i == 0)));
        let tags: Vec<&str> = s["tags"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        assert_eq!(p.tags, tags);
        assert_eq!(p.warranty_information.as_deref(), s["warrantyInformation"].as_str());
        assert_eq!(p.shipping_information.as_deref(), s["shippingInformation"].as_str());
        assert_eq!(p.attributes.0["thumbnail"], s["thumbnail"]);
        assert_eq!(p.attributes.0["return_policy"], s["returnPolicy"]);
        assert_eq!(p.attributes.0["minimum_order_quantity"], s["minimumOrderQuantity"]);
    }
    assert!(text.contains("\"price\": 9.99"));
    let mascara = find(&all, "1");
    assert_eq!(mascara.default_sku().unwrap().price.minor(), 999);
    assert_eq!(mascara.discount.hundredths(), 1048);
    assert_eq!((mascara.rating.mean.hundredths(), mascara.rating.count), (256, 3));
    let home = tree(&shop).await.into_iter().find(|c| c.slug.as_str() == "home-decoration").unwrap();
    assert_eq!((home.name.as_str(), home.parent_id), ("Home Decoration", None));
    let movement = shop
        .storage()
        .connect()
        .await
        .unwrap()
        .inventory()
        .movements(mascara.default_sku().unwrap().id, &Paging::Offset { offset: 0, limit: 10 })
        .await
        .unwrap();
    assert_eq!(movement.items[0].reason, StockReason::Import);

    let (head, categories, statements) = (outbox_head(&shop).await, tree(&shop).await, shop.storage().statements());
    let (again, letters) = import(&shop, file).await;
    let statements = shop.storage().statements() - statements;
    assert_eq!((counts(&again), again.categories_created, letters.len()), ([194, 0, 0, 194, 0], 0, 0));
    assert!(statements < 30, "two batches of unchanged rows took {statements} statements");
    assert_eq!(outbox_head(&shop).await, head);
    assert_eq!(tree(&shop).await, categories);
    assert_eq!(all_products(&shop).await, all, "versions, revisions and times stand still");

    shop.index().catch_up().await.unwrap();
    assert_balanced(&shop).await;
}

#[tokio::test]
async fn dummyjson_products_import_whole_and_twice_changes_nothing_in_memory() {
    dummyjson_on(shop().await).await;
}

#[tokio::test]
async fn dummyjson_products_import_whole_and_twice_changes_nothing_in_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", dir.path().join("shop.db").display());
    dummyjson_on(ShopBuilder::new().database(url).search("tantivy::memory:").build().await.unwrap()).await;
}

#[tokio::test]
async fn bestbuy_categories_import_with_their_paths_and_twice_changes_nothing() {
    let Some(file) = data("bestbuy-categories.json") else { return };
    let source: Vec<Value> = serde_json::from_slice(&file).unwrap();
    let shop = shop().await;
    let start = std::time::Instant::now();
    let (report, letters) = import_categories(&shop, file.clone()).await;
    println!("{report:?} in {:?}", start.elapsed());
    assert_eq!(report.read, 4_584);
    assert_eq!(report.ended_early, None);
    assert_eq!(u64::try_from(letters.len()).unwrap(), report.rejected);
    // A null name, one of 116 characters, and the second of five pairs of twins.
    assert_eq!(counts(&report), [4_584, 4_577, 0, 0, 7], "{letters:#?}");
    let refused: BTreeMap<&str, &Value> = letters.iter().map(|l| (l["external_id"].as_str().unwrap(), l)).collect();
    assert_eq!(fields(refused["pcmcat748300293073"]), ["name"]);
    assert_eq!(refused["pcmcat748300293073"]["fields"][0]["code"], "required");
    assert_eq!(refused["pcmcat248200050004"]["fields"][0]["code"], "out_of_bounds");
    assert_eq!(letters.iter().filter(|l| l["code"] == "DUPLICATE" && fields(l) == ["name"]).count(), 5);
    for l in &letters {
        let index = usize::try_from(l["index"].as_u64().unwrap()).unwrap();
        assert_eq!(source[index]["id"], l["external_id"], "the place is right");
        assert!(l["record"].as_str().unwrap().contains(l["external_id"].as_str().unwrap()));
    }

    // Every row stands where its path says.
    let all = tree(&shop).await;
    let by_id: HashMap<_, &Category> = all.iter().map(|c| (c.id, c)).collect();
    let by_external: HashMap<&str, &Category> =
        all.iter().map(|c| (c.external.as_ref().unwrap().external_id.as_str(), c)).collect();
    let mut elsewhere = 0;
    for s in &source {
        let id = s["id"].as_str().unwrap();
        if refused.contains_key(id) {
            assert!(!by_external.contains_key(id));
            continue;
        }
        let path = s["path"].as_array().unwrap();
        let names: Vec<&str> = path.iter().map(|p| p["name"].as_str().unwrap().trim()).collect();
        let mut up = Vec::new();
        let mut at = Some(by_external[id]);
        while let Some(c) = at {
            up.push(c);
            at = c.parent_id.map(|p| by_id[&p]);
        }
        up.reverse();
        let slugs: Vec<&str> = up.iter().map(|c| c.slug.as_str()).collect();
        assert_eq!(by_external[id].path, slugs.join("/"));
        let same = |a: &str, b: &str| a.to_lowercase() == b.to_lowercase();
        assert!(
            up.len() == names.len() && up.iter().zip(&names).all(|(c, n)| same(&c.name, n)),
            "{id} is at {slugs:?}, not at {names:?}"
        );
        let ids: Vec<&str> = path.iter().map(|p| p["id"].as_str().unwrap()).collect();
        elsewhere += usize::from(!up.iter().map(|c| c.external.as_ref().unwrap().external_id.as_str()).eq(ids));
    }
    // Below four ancestors that the file lacks and that are twins of rows that it has.
    assert_eq!(elsewhere, 23);
    assert_eq!(u64::try_from(all.len()).unwrap(), report.inserted + report.categories_created);
    assert!(report.categories_created >= 130, "{report:?}");

    let head = outbox_head(&shop).await;
    let (again, letters_again) = import_categories(&shop, file).await;
    assert_eq!((counts(&again), again.categories_created), ([4_584, 0, 0, 4_577, 7], 0));
    assert_eq!(letters_again, letters);
    assert_eq!(outbox_head(&shop).await, head);
    assert_eq!(tree(&shop).await, all);
}

#[tokio::test]
async fn the_sample_catalog_imports_without_a_rejection() {
    let shop = shop().await;
    assert_eq!(detect(&sample("categories.json")), Some(ImportKind::Categories));
    assert_eq!(detect(&sample("products.ndjson")[..4_096]), Some(ImportKind::Products));
    let (c, letters) = import_categories(&shop, sample("categories.json")).await;
    assert_eq!((c.rejected, c.ended_early.as_ref(), c.categories_created), (0, None, 0), "{letters:?}");
    assert!(c.inserted >= 40);
    let (p, letters) = import(&shop, sample("products.ndjson")).await;
    assert_eq!((p.rejected, p.ended_early.as_ref(), p.categories_created), (0, None, 0), "{letters:?}");
    assert!(p.inserted >= 500);
    let all = all_products(&shop).await;
    let halcyon = find(&all, "halcyon-over-ear-wireless-headphones");
    assert_eq!(halcyon.skus.len(), 3);
    assert_eq!(halcyon.skus[1].option_values["color"], "Sand");
    assert_eq!(halcyon.categories[0].path, "electronics/audio/headphones");
    assert_eq!((halcyon.rating.mean.hundredths(), halcyon.rating.count), (458, 203));
    assert_eq!(halcyon.external.as_ref().unwrap().source, "import");
    assert_balanced(&shop).await;
    let head = outbox_head(&shop).await;
    let (p, _) = import(&shop, sample("products.ndjson")).await;
    assert_eq!((p.unchanged, p.inserted + p.updated), (p.read, 0));
    let (c, _) = import_categories(&shop, sample("categories.json")).await;
    assert_eq!((c.unchanged, c.inserted + c.updated), (c.read, 0));
    assert_eq!(outbox_head(&shop).await, head);
}

#[tokio::test]
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
    // Categories of a product do not pass for a file of categories.
    let own = json!({"external_id": "x", "title": "X", "categories": ["a/b"], "skus": [{"price": "1", "code": "C"}]});
    let shop = shop().await;
    let (report, letters) = import(&shop, format!("{own}\n{a}\n")).await;
    assert_eq!(counts(&report), [2, 2, 0, 0, 0], "{letters:?}");
    assert_eq!(all_products(&shop).await.iter().flat_map(|p| &p.categories).filter(|c| c.path == "a/b").count(), 1);
    assert_eq!(detect(lines(&[own]).as_bytes()), Some(ImportKind::Products));
    assert_eq!(detect(b"[1, 2]"), None);
}

#[tokio::test]
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
        assert!(record.to_string().starts_with(shown) && shown.len() <= 4 * 1024);
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

#[tokio::test]
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

#[tokio::test]
async fn a_source_that_breaks_off_keeps_what_came_before_and_a_second_run_completes_it() {
    let records: Vec<Value> = (1..=250).map(record).collect();
    let array = serde_json::to_string_pretty(&records).unwrap();
    let wrapped = format!("{{\"products\":{array}}}");
    for (text, cut) in [(array, 0), (lines(&records), 0), (wrapped, 0), (lines(&records), 7)] {
        let shop = shop().await;
        let at = text.rfind("\"Thing 237\"").unwrap() + 4 - cut;
        let mut progress = Vec::new();
        let letters = Letters::default();
        let report = shop
            .import()
            .products(Cursor::new(text.as_bytes()[..at].to_vec()), letters.options(), |r| progress.push(r.read))
            .await
            .unwrap();
        assert_eq!(counts(&report), [236, 236, 0, 0, 0], "{:?}", letters.read());
        let ended = report.ended_early.unwrap();
        assert_eq!(ended.index, 236);
        assert_eq!(ended.byte, u64::try_from(at).unwrap());
        assert!(ended.reason.contains("breaks off"), "{ended}");
        assert_eq!(progress, [100, 200, 236]);
        assert_eq!(all_products(&shop).await.len(), 236);
        assert_balanced(&shop).await;
        let (report, _) = import(&shop, text).await;
        assert_eq!((counts(&report), report.ended_early), ([250, 14, 0, 236, 0], None));
    }
}

#[tokio::test]
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
    // A record whose brackets are right costs itself only, in an array too.
    let shop = self::shop().await;
    let (report, letters) = import(&shop, array.replace("\"Thing 120\"", "Thing 120")).await;
    assert_eq!(counts(&report), [150, 149, 0, 0, 1]);
    assert_eq!((letters[0]["index"].as_u64(), letters[0]["line"].as_u64()), (Some(119), Some(1)));
    // In lines it is one of them, also the first.
    for bad in [0, 70, 149] {
        let shop = self::shop().await;
        let mut text: Vec<String> = records.iter().map(Value::to_string).collect();
        text[bad].truncate(40);
        let (report, letters) = import(&shop, text.join("\n") + "\n").await;
        assert_eq!(counts(&report), [150, 149, 0, 0, 1], "{bad}");
        assert_eq!(letters[0]["line"].as_u64(), u64::try_from(bad + 1).ok());
    }
    let (report, _) = import(&self::shop().await, "price;title\n1;x\n").await;
    assert_eq!((report.read, report.ended_early.unwrap().index), (0, 0));
}

#[tokio::test]
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

#[tokio::test]
async fn r11_changed_rows_are_written_once_and_the_ledger_follows() {
    let shop = shop().await;
    import(&shop, lines(&[record(1), record(2), record(3)])).await;
    let before = all_products(&shop).await;
    let mut changed = record(2);
    changed["stock"] = json!(50);
    changed["price"] = json!("12.5");
    let head = outbox_head(&shop).await;
    let (report, letters) = import(&shop, lines(&[record(1), changed.clone(), record(3)])).await;
    assert_eq!(counts(&report), [3, 0, 1, 2, 0], "{letters:?}");
    let after = all_products(&shop).await;
    assert_eq!((&after[0], &after[2]), (&before[0], &before[2]));
    let (b, p) = (find(&before, "2"), find(&after, "2"));
    let sku = p.default_sku().unwrap();
    assert_eq!((sku.id, sku.on_hand, sku.price.minor()), (b.skus[0].id, 50, 1250));
    assert_eq!(sku.audit.version, 2);
    let events = shop.events().read(head, 10).await.unwrap();
    assert_eq!(events.len(), 1);
    assert_balanced(&shop).await;
    let (report, _) = import(&shop, lines(&[changed])).await;
    assert_eq!(counts(&report), [1, 0, 0, 1, 0]);
    // What a record does not say stays: status, threshold, slug.
    let bare = json!({"id": 3, "title": "Thing three", "price": 9.99, "sku": "SKU-3", "stock": 5});
    let (report, letters) = import(&shop, bare.to_string()).await;
    assert_eq!(counts(&report), [1, 0, 1, 0, 0], "{letters:?}");
    let after = all_products(&shop).await;
    assert_eq!(find(&after, "3").slug.as_str(), "thing-3");
    assert_eq!(find(&after, "3").categories.len(), 1);
}

#[tokio::test]
async fn sku_codes_are_found_again_and_never_taken_over() {
    let shop = shop().await;
    // One without an external id, as a person makes it.
    let by_hand: ecom::domain::ProductInput =
        serde_json::from_value(json!({"title": "By hand", "sku": "hand-1", "price": "1", "stock": 2})).unwrap();
    let by_hand = shop.products().create(&by_hand, &Actor::system()).await.unwrap();
    let adopt = json!({"id": 7, "title": "Adopted", "sku": "HAND-1", "price": 1, "stock": 2});
    let (report, letters) = import(&shop, adopt.to_string()).await;
    assert_eq!(counts(&report), [1, 0, 1, 0, 0], "{letters:?}");
    let all = all_products(&shop).await;
    assert_eq!((find(&all, "7").id, all.len()), (by_hand.id, 1));

    let twice = [
        record(1),
        json!({"id": 2, "title": "Same code as 1", "sku": "sku-1", "price": 1}),
        json!({"id": 3, "title": "Same code as in the shop", "sku": "Hand-1", "price": 1}),
        json!({"id": 1, "title": "Same id", "sku": "SKU-9", "price": 1}),
        json!({"title": "No id", "price": 1}),
        json!({"title": "By code", "sku": "C-1", "price": 1}),
        json!({"title": "By code again", "sku": "c-1", "price": 1}),
        json!({"id": 8, "title": "Slug taken in this file", "slug": "thing-1", "sku": "S-8", "price": 1}),
    ];
    for inserted in [2, 0] {
        let (report, letters) = import(&shop, lines(&twice)).await;
        assert_eq!(counts(&report), [8, inserted, 0, 2 - inserted, 6], "{letters:#?}");
        let why: Vec<(u64, Vec<String>)> = letters.iter().map(|l| (l["index"].as_u64().unwrap(), fields(l))).collect();
        let expected = [(1, "code"), (2, "code"), (3, "external_id"), (4, "external_id"), (6, "sku"), (7, "slug")];
        assert_eq!(why, expected.map(|(i, f)| (i, vec![f.to_owned()])));
    }
    let read = ecom::domain::Read::Version(find(&all_products(&shop).await, "1").audit.version);
    let one = find(&all_products(&shop).await, "1").id;
    shop.products().delete(one, read, ecom::domain::DeleteMode::Soft, &Actor::system()).await.unwrap();
    let (report, letters) = import(&shop, lines(&twice[..1])).await;
    assert_eq!(
        (report.rejected, letters[0]["code"].as_str()),
        (1, Some("STATE_CONFLICT")),
        "a deleted product stays so"
    );
    assert_balanced(&shop).await;
}

#[tokio::test]
async fn categories_of_products_are_made_or_refused_by_option() {
    let shop = shop().await;
    let product = |id: u32, c: &str| json!({"id": id, "title": "T", "price": 1, "category": c});
    let refuse = ImportOptions { create_categories: false, ..ImportOptions::default() };
    let report = products(&shop, product(1, "home-decoration").to_string(), refuse).await;
    assert_eq!((report.rejected, tree(&shop).await.len()), (1, 0));
    let many = [
        product(1, "home-decoration"),
        product(2, "Home Decoration"),
        product(3, "garden/tools/spades"),
        product(4, "tools"),
    ];
    let (report, letters) = import(&shop, lines(&many)).await;
    assert_eq!((report.inserted, report.categories_created), (4, 4), "{letters:?}");
    let paths: Vec<String> = tree(&shop).await.into_iter().map(|c| c.path).collect();
    assert_eq!(paths, ["garden", "home-decoration", "garden/tools", "garden/tools/spades"]);
    // A path whose slug stands elsewhere is not there, and cannot be made.
    let (report, letters) = import(&shop, product(5, "kitchen/tools").to_string()).await;
    assert_eq!((report.rejected, fields(&letters[0])), (1, vec!["categories[0]".to_owned()]));
}

#[tokio::test]
async fn category_rows_find_their_place_in_any_order() {
    let shop = shop().await;
    let row = |id: &str, name: Value, path: &[(&str, &str)]| {
        let mut steps: Vec<Value> = path.iter().map(|(i, n)| json!({"id": i, "name": n})).collect();
        steps.push(json!({"id": id, "name": name}));
        json!({"id": id, "name": name, "path": steps})
    };
    let rows = [
        row("c", json!("Phones"), &[("a", "Electronics"), ("lacks", "Mobile")]),
        row("b", json!("Audio"), &[("a", "Electronics")]),
        row("a", json!("Electronics"), &[]),
        row("twin", json!("  AUDIO "), &[("a", "Electronics")]),
        row("under-twin", json!("Radios"), &[("a", "Electronics"), ("twin", "Audio")]),
        row("null", Value::Null, &[("a", "Electronics")]),
        row("under-null", json!("Lost"), &[("a", "Electronics"), ("null", "?")]),
        row("far-under-null", json!("Lost too"), &[("a", "Electronics"), ("null", "?"), ("gap", "Gap")]),
        row("long", json!("x".repeat(101)), &[]),
        row("x", json!("X"), &[("y", "Y")]),
        row("y", json!("Y"), &[("x", "X")]),
        row("a", json!("Again"), &[]),
        json!({"id": "typed", "name": 5}),
        json!({"name": "No id"}),
        row("root-audio", json!("Audio"), &[]),
    ];
    let text = lines(&rows);
    let (report, letters) = import_categories(&shop, text.clone()).await;
    let mut refused: Vec<u64> = letters.iter().map(|l| l["index"].as_u64().unwrap()).collect();
    refused.sort_unstable();
    assert_eq!(refused, [3, 5, 6, 7, 8, 9, 10, 11, 12, 13], "{letters:#?}");
    assert_eq!((counts(&report), report.categories_created), ([15, 5, 0, 0, 10], 1));
    let made = tree(&shop).await;
    let path = |id: &str| {
        made.iter().find(|c| c.external.as_ref().unwrap().external_id == id).map(|c| c.path.clone()).unwrap_or_default()
    };
    assert_eq!(path("c"), "electronics/mobile/phones");
    assert_eq!(path("under-twin"), format!("{}/radios", path("b")));
    assert!(path("root-audio").starts_with("audio"));
    let under = letters.iter().find(|l| l["index"] == 7).unwrap();
    assert!(under["reason"].as_str().unwrap().contains("`null`"), "{under}");

    let head = outbox_head(&shop).await;
    let (again, letters_again) = import_categories(&shop, text).await;
    assert_eq!((counts(&again), again.categories_created), ([15, 0, 0, 5, 10], 0));
    assert_eq!(letters_again, letters);
    assert_eq!(outbox_head(&shop).await, head);

    // A row that moved and was renamed takes what is below it along.
    let moved = [row("lacks", json!("Mobiles"), &[])];
    let (report, letters) = import_categories(&shop, lines(&moved)).await;
    assert_eq!(counts(&report), [1, 0, 1, 0, 0], "{letters:?}");
    let paths: HashSet<String> = tree(&shop).await.into_iter().map(|c| c.path).collect();
    assert!(paths.contains("mobiles/phones"), "{paths:?}");
}

#[tokio::test]
async fn a_category_that_products_made_becomes_that_of_a_row() {
    let shop = shop().await;
    import(&shop, lines(&[record(1)])).await;
    let made = tree(&shop).await.remove(0);
    let rows = json!([{"id": "t", "name": "things", "path": [{"id": "t", "name": "things"}], "description": "All"}]);
    let (report, letters) = import_categories(&shop, rows.to_string()).await;
    assert_eq!(counts(&report), [1, 0, 1, 0, 0], "{letters:?}");
    let now = tree(&shop).await;
    assert_eq!((now.len(), now[0].id, now[0].description.as_deref()), (1, made.id, Some("All")));
    let (report, _) = import_categories(&shop, rows.to_string()).await;
    assert_eq!(counts(&report), [1, 0, 0, 1, 0]);
}

#[tokio::test]
async fn the_source_is_not_read_far_ahead_of_the_writer() {
    /// Makes records of 64 KiB and counts how many were taken from it.
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
    let options = ImportOptions { batch: 10, format: Some(ImportFormat::NdJson), ..ImportOptions::default() };
    let report = shop
        .import()
        .products(source, options, |r| {
            // The reader has all the time it wants.
            std::thread::sleep(std::time::Duration::from_millis(2));
            ahead = ahead.max(made.load(Ordering::SeqCst) - r.read);
        })
        .await
        .unwrap();
    assert_eq!(report.inserted, 2_000);
    assert!(ahead <= 10 + 32 + 3, "{ahead} records were read ahead of the writer");
}

#[tokio::test]
async fn dead_letters_go_to_a_file_only_where_there_are_any() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("dead.ndjson");
    let options = || ImportOptions {
        dead_letters: DeadLetters::File(path.clone()),
        file: Some("things.ndjson".to_owned()),
        ..ImportOptions::default()
    };
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
    let nowhere =
        ImportOptions { dead_letters: DeadLetters::File(dir.path().join("no/such")), ..ImportOptions::default() };
    let failed = shop.import().products(Cursor::new(b"[1]".to_vec()), nowhere, |_| {}).await.unwrap_err();
    assert!(!failed.to_string().contains("such"), "no path in messages: {failed}");
    let none = ImportOptions { batch: 0, ..ImportOptions::default() };
    assert!(shop.import().products(Cursor::new(Vec::new()), none, |_| {}).await.is_err());
}

/// A database that is away for a number of transactions.
#[derive(Debug)]
struct Flaky {
    inner: Arc<dyn Storage>,
    away: AtomicU64,
    /// Whether the answer to a commit is lost after it has happened.
    lose_answers: bool,
}

struct LosesAnswer(Box<dyn UnitOfWork>);

impl Repositories for LosesAnswer {
    fn products(&mut self) -> Box<dyn ProductRepository + '_> {
        self.0.products()
    }
    fn categories(&mut self) -> Box<dyn CategoryRepository + '_> {
        self.0.categories()
    }
    fn skus(&mut self) -> Box<dyn SkuRepository + '_> {
        self.0.skus()
    }
    fn inventory(&mut self) -> Box<dyn InventoryRepository + '_> {
        self.0.inventory()
    }
    fn outbox(&mut self) -> Box<dyn OutboxRepository + '_> {
        self.0.outbox()
    }
}

#[async_trait]
impl UnitOfWork for LosesAnswer {
    async fn commit(self: Box<Self>) -> Result<()> {
        self.0.commit().await?;
        Err(Error::Unavailable { dependency: Dependency::Database, outcome_unknown: true, source: None })
    }
    async fn rollback(self: Box<Self>) -> Result<()> {
        self.0.rollback().await
    }
}

#[async_trait]
impl Storage for Flaky {
    fn name(&self) -> &'static str {
        "flaky"
    }
    async fn connect(&self) -> Result<Box<dyn Connection>> {
        self.inner.connect().await
    }
    async fn begin(&self) -> Result<Box<dyn UnitOfWork>> {
        let away = self.away.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok();
        match (away, self.lose_answers) {
            (true, false) => Err(Error::unavailable(Dependency::Database, "away")),
            (true, true) => Ok(Box::new(LosesAnswer(self.inner.begin().await?))),
            (false, _) => self.inner.begin().await,
        }
    }
    async fn migrate(&self) -> Result<()> {
        self.inner.migrate().await
    }
    async fn identity(&self) -> Result<uuid::Uuid> {
        self.inner.identity().await
    }
    async fn ping(&self) -> Result<()> {
        self.inner.ping().await
    }
    fn pool_status(&self) -> PoolStatus {
        self.inner.pool_status()
    }
    fn statements(&self) -> u64 {
        self.inner.statements()
    }
    async fn close(&self) {
        self.inner.close().await;
    }
}

async fn flaky_shop(away: u64, lose_answers: bool) -> Shop {
    let inner = shop().await.storage().clone();
    let flaky = Arc::new(Flaky { inner, away: AtomicU64::new(away), lose_answers });
    ShopBuilder::new().with_storage(flaky).search("tantivy::memory:").build().await.unwrap()
}

#[tokio::test]
async fn an_import_waits_for_a_database_that_is_away_for_a_moment() {
    let records: Vec<Value> = (1..=150).map(record).collect();
    let shop = flaky_shop(2, false).await;
    let (report, _) = import(&shop, lines(&records)).await;
    assert_eq!(counts(&report), [150, 150, 0, 0, 0]);
    // A batch that was written although its answer was lost is found, not written again.
    let shop = flaky_shop(1, true).await;
    let (report, letters) = import(&shop, lines(&records)).await;
    assert_eq!(counts(&report), [150, 50, 0, 100, 0], "{letters:?}");
    assert_eq!(all_products(&shop).await.len(), 150);
    assert_balanced(&shop).await;
    let rows: Vec<Value> = (0..30).map(|i| json!({"id": i, "name": format!("C{i}")})).collect();
    for lose_answers in [false, true] {
        let shop = flaky_shop(1, lose_answers).await;
        let (report, letters) = import_categories(&shop, lines(&rows)).await;
        assert_eq!(counts(&report), [30, 30, 0, 0, 0], "{letters:?}");
        assert_eq!(tree(&shop).await.len(), 30);
    }
    // One that stays away ends the import with an error; what was written stays.
    let shop = flaky_shop(u64::MAX, false).await;
    let failed = shop.import().products(Cursor::new(lines(&records)), ImportOptions::default(), |_| {}).await;
    assert!(failed.unwrap_err().is_retryable());
}

#[tokio::test]
async fn imports_run_as_tasks() {
    let shop = shop().await;
    let task = tokio::spawn(async move {
        let text = lines(&[record(1)]).into_bytes();
        let p = shop.import().products(Cursor::new(text), ImportOptions::default(), |_| {}).await?;
        let rows = br#"[{"id": "a", "name": "A", "path": []}]"#.to_vec();
        let c = shop.import().categories(Cursor::new(rows), ImportOptions::default(), |_| {}).await?;
        Ok::<_, Error>((p.inserted, c.inserted))
    });
    assert_eq!(task.await.unwrap().unwrap(), (1, 1));
}

/// As several servers do that start on one empty database: each plans over what the one before has made.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn imports_of_one_file_at_once_reject_nothing() {
    let shop = shop().await;
    let rows: Vec<String> = (0..40)
        .map(|i| {
            let above =
                if i < 4 { String::new() } else { format!(r#"{{"id": "{}", "name": "C {}"}}, "#, i % 4, i % 4) };
            format!(r#"{{"id": "{i}", "name": "C {i}", "path": [{above}{{"id": "{i}", "name": "C {i}"}}]}}"#)
        })
        .collect();
    let file = rows.join("\n").into_bytes();
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let (shop, file) = (shop.clone(), file.clone());
        running.spawn(async move {
            shop.import().categories(Cursor::new(file), ImportOptions::default(), |_| {}).await.unwrap()
        });
    }
    let reports = running.join_all().await;
    assert_eq!(reports.iter().map(|r| r.rejected).sum::<u64>(), 0, "{reports:?}");
    assert_eq!(reports.iter().map(|r| r.inserted).sum::<u64>(), 40, "{reports:?}");
    assert_eq!(reports.iter().map(|r| r.unchanged).sum::<u64>(), 120, "{reports:?}");
}
