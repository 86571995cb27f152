//! Whole catalogs: those of DummyJSON and Best Buy, and the sample of this project.

use std::collections::{BTreeMap, HashMap, HashSet};

use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode, header};
use ecom::catalog::ImportKind;
use ecom::catalog::{Category, RatingSource};
use ecom::paging::Paging;
use ecom::stock::StockReason;
use ecom::{Shop, ShopBuilder};
use serde_json::Value;
use tower::ServiceExt as _;

use crate::support::{
    all_products, assert_balanced, counts, data, fields, find, import, import_categories, outbox_head, sample, shop,
    tree,
};

on_each_database! {
    dummyjson_products_import_whole_and_twice_changes_nothing_in_memory,
    bestbuy_categories_import_with_their_paths_and_twice_changes_nothing,
    the_sample_catalog_imports_without_a_rejection,
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
        // A price has exactly the written digits; serde_json prints these floats as they are in the file.
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

async fn dummyjson_products_import_whole_and_twice_changes_nothing_in_memory() {
    dummyjson_on(shop().await).await;
}

#[tokio::test]
async fn dummyjson_products_import_whole_and_twice_changes_nothing_in_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", dir.path().join("shop.db").display());
    dummyjson_on(ShopBuilder::new().database(url).search("tantivy::memory:").build().await.unwrap()).await;
}

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
    // Refused are a null name, a name of 116 characters, and the second of each of five pairs with the same path.
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

    // Every row is at the place that its path names.
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
    // Rows below four ancestors that the file lacks and that have the same path as rows that it has.
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

async fn the_sample_catalog_imports_without_a_rejection() {
    let shop = shop().await;
    assert_eq!(ImportKind::detect(&sample("categories.json")), Some(ImportKind::Categories));
    assert_eq!(ImportKind::detect(&sample("products.ndjson")[..4_096]), Some(ImportKind::Products));
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

/// Returns the status, the headers and the text of a picture of the sample.
async fn picture(path: &str, known: Option<&str>) -> (StatusCode, axum::http::HeaderMap, String) {
    let mut request = Request::builder().uri(path);
    if let Some(tag) = known {
        request = request.header(header::IF_NONE_MATCH, tag);
    }
    let response = crate::pictures::router().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    let text = String::from_utf8(to_bytes(body, 100_000).await.unwrap().to_vec()).unwrap();
    (parts.status, parts.headers, text)
}

/// The reference server draws them.
#[tokio::test]
async fn each_product_of_the_sample_has_a_picture_with_a_size_and_a_text() {
    let text = String::from_utf8(sample("products.ndjson")).unwrap();
    let images = text.lines().flat_map(|line| {
        let product: Value = serde_json::from_str(line).unwrap();
        product["images"].as_array().unwrap().clone()
    });
    let mut kinds = HashSet::new();
    for image in images {
        let url = image["url"].as_str().unwrap();
        assert!(image["alt"].as_str().is_some_and(|alt| !alt.is_empty()), "{url}");
        assert_eq!((&image["width"], &image["height"]), (&Value::from(800), &Value::from(800)), "{url}");
        let (status, headers, svg) = picture(url, None).await;
        assert_eq!(status, StatusCode::OK, "{url}");
        assert_eq!(headers[header::CONTENT_TYPE], "image/svg+xml");
        let color = url.rsplit('/').next().unwrap().strip_suffix(".svg").unwrap();
        assert!(svg.contains(&format!("width=\"800\" height=\"800\" color=\"#{color}\"")), "{url}: {svg}");
        kinds.insert(url.split('/').nth(2).unwrap().to_owned());
    }
    let files = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/sample/images")).unwrap();
    let files: HashSet<String> =
        files.filter_map(|file| Some(file.unwrap().file_name().to_str()?.strip_suffix(".svg")?.to_owned())).collect();
    assert_eq!(kinds, files, "each drawing is that of a product");
}

#[tokio::test]
async fn a_picture_is_cached_and_runs_nothing() {
    let (_, headers, _) = picture("/images/headphones/474a51.svg", None).await;
    let tag = headers[header::ETAG].to_str().unwrap();
    assert_eq!(headers[header::CACHE_CONTROL], "public, max-age=86400");
    assert_eq!(headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
    let policy = headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
    assert!(policy.contains("default-src 'none'") && policy.contains("sandbox"), "{policy}");
    for known in [tag.to_owned(), format!("\"x\", W/{tag}"), "*".to_owned()] {
        let (status, headers, body) = picture("/images/headphones/474a51.svg", Some(&known)).await;
        assert_eq!(
            (status, headers[header::ETAG].to_str().unwrap(), body.as_str()),
            (StatusCode::NOT_MODIFIED, tag, "")
        );
    }
    let (status, other, _) = picture("/images/headphones/ffffff.svg", Some(tag)).await;
    assert!(status == StatusCode::OK && other[header::ETAG] != headers[header::ETAG]);
    for absent in ["headphones/474a51", "headphones/474A51.svg", "headphones/12345.svg", "unknown/474a51.svg"] {
        assert_eq!(picture(&format!("/images/{absent}"), None).await.0, StatusCode::NOT_FOUND, "{absent}");
    }
}
