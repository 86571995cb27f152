//! Categories that products name, and rows of categories.

use std::collections::HashSet;

use ecom::catalog::{ImportOptions, Product};
use serde_json::{Value, json};

use crate::support::{
    all_products, counts, fields, find, import, import_categories, lines, outbox_head, products, record, shop, tree,
};

on_each_database! {
    categories_of_products_are_made_or_refused_by_option,
    two_branches_have_a_category_of_one_name,
    category_rows_find_their_place_in_any_order,
    a_category_that_products_made_becomes_that_of_a_row,
}

async fn categories_of_products_are_made_or_refused_by_option() {
    let shop = shop().await;
    let product = |id: u32, c: &str| json!({"id": id, "title": "T", "price": 1, "category": c});
    let refuse = ImportOptions::default().create_categories(false);
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
}

/// A slug is unique in the shop, so that the second category of one name has its parents in its slug.
async fn two_branches_have_a_category_of_one_name() {
    let shop = shop().await;
    let product = |id: u32, c: &str| json!({"id": id, "title": "T", "price": 1, "category": c});
    let all = [
        product(1, "Men/T-Shirts & Tops"),
        product(2, "Women/T-Shirts & Tops"),
        product(3, "Women/T-Shirts & Tops/Long"),
        product(4, "Men/T-Shirts & Tops/Long"),
        product(5, "men"),
    ];
    let (report, letters) = import(&shop, lines(&all)).await;
    assert_eq!((report.inserted, report.categories_created), (5, 6), "{letters:?}");
    let made: HashSet<(String, String)> = tree(&shop).await.into_iter().map(|c| (c.path, c.name)).collect();
    let expected = [
        ("men", "Men"),
        ("men/t-shirts-tops", "T-Shirts & Tops"),
        ("men/t-shirts-tops/long", "Long"),
        ("women", "Women"),
        ("women/women-t-shirts-tops", "T-Shirts & Tops"),
        ("women/women-t-shirts-tops/women-t-shirts-tops-long", "Long"),
    ];
    assert_eq!(made, expected.map(|(path, name)| (path.to_owned(), name.to_owned())).into());
    let place = |all: &[Product], id: &str| find(all, id).categories[0].path.clone();
    let products = all_products(&shop).await;
    assert_eq!(place(&products, "3"), "women/women-t-shirts-tops/women-t-shirts-tops-long");
    assert_eq!(place(&products, "4"), "men/t-shirts-tops/long");

    let head = outbox_head(&shop).await;
    let (report, _) = import(&shop, lines(&all)).await;
    assert_eq!((counts(&report), outbox_head(&shop).await), ([5, 0, 0, 5, 0], head));
    // A category whose slug looks like that of another path is not taken for it, in one batch or in two.
    let alike = [product(10, "Yard/Yard Tools"), product(11, "Yard/Tools")];
    for one in &alike {
        let (report, letters) = import(&shop, one.to_string()).await;
        assert_eq!(report.inserted, 1, "{letters:?}");
    }
    let products = all_products(&shop).await;
    assert_eq!(["10", "11"].map(|id| place(&products, id)), ["yard/yard-tools", "yard/tools"]);
    // It has no third name.
    let taken = [product(6, "women-garden"), product(7, "men/garden"), product(8, "women/garden")];
    let (report, letters) = import(&shop, lines(&taken)).await;
    assert_eq!((report.inserted, letters.len()), (2, 1), "{letters:?}");
    assert_eq!(fields(&letters[0]), ["categories[0]"]);
}

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

    // A row that was moved and renamed takes its descendants along.
    let moved = [row("lacks", json!("Mobiles"), &[])];
    let (report, letters) = import_categories(&shop, lines(&moved)).await;
    assert_eq!(counts(&report), [1, 0, 1, 0, 0], "{letters:?}");
    let paths: HashSet<String> = tree(&shop).await.into_iter().map(|c| c.path).collect();
    assert!(paths.contains("mobiles/phones"), "{paths:?}");
}

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
