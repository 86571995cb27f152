//! CSV with and without a column map, and the exports of Shopify and WooCommerce.

use std::io::Write as _;

use ecom::catalog::{AvailabilityStatus, ImportFormat, ImportKind, ImportOptions, Product, ProductStatus};
use serde_json::{Value, json};

use crate::support::{
    Letters, all_products, assert_balanced, counts, data, fields, find, import, outbox_head, products, sample, shop,
};

on_each_database! {
    a_shopify_export_becomes_products_as_the_shop_showed_them,
    shopify_images_prices_stock_and_drafts_keep_their_meaning,
    a_woocommerce_export_becomes_products_with_their_variations,
    a_woocommerce_export_is_read_as_its_exporter_writes_it,
    a_variation_of_woocommerce_that_is_not_published_is_not_for_sale,
    variations_of_woocommerce_share_the_stock_of_their_product,
    a_shopify_export_has_columns_that_no_shop_shows,
    a_table_with_our_own_names_needs_no_map,
    a_column_map_names_fields_constants_defaults_and_the_encoding,
    a_bad_row_costs_one_record_and_names_its_line,
    a_header_that_cannot_be_used_ends_the_import_before_its_first_record,
    no_row_is_held_beyond_the_limit_and_a_source_has_one_too,
    customers_and_categories_come_from_tables_too,
    a_row_that_cannot_be_read_costs_its_product_no_sku,
    a_variation_that_cannot_be_read_costs_no_variable_product_its_sku,
}

async fn with(shop: &ecom::Shop, text: impl Into<Vec<u8>>, map: Value) -> (ecom::catalog::ImportReport, Vec<Value>) {
    let letters = Letters::default();
    let format = ImportFormat::Csv(serde_json::from_value(map).unwrap());
    let report = products(shop, text, letters.options().format(format)).await;
    (report, letters.read())
}

/// The real export of a shop on Shopify becomes products as that shop shows them.
async fn a_shopify_export_becomes_products_as_the_shop_showed_them() {
    let Some(text) = data("shopify-apparel.csv") else { return };
    let shop = shop().await;
    assert_eq!(ImportKind::detect(&text), Some(ImportKind::Products));
    let (report, letters) = import(&shop, text.clone()).await;
    assert_eq!((counts(&report), report.ended_early.clone()), ([20, 20, 0, 0, 0], None), "{letters:#?}");
    assert!(report.unknown_fields.is_empty(), "{:?}", report.unknown_fields);
    let all = all_products(&shop).await;
    let top = find(&all, "classic-varsity-top");
    assert_eq!((top.title.as_str(), top.slug.as_str()), ("Classic Varsity Top", "classic-varsity-top"));
    assert_eq!((top.brand.as_deref(), top.status), (Some("partners-demo"), ProductStatus::Active));
    assert_eq!(top.tags, ["women"]);
    assert_eq!(top.external.as_ref().unwrap().source, "shopify");
    let skus: Vec<_> = top.skus.iter().map(|s| (s.code.as_str(), s.option_values["Size"].as_str())).collect();
    let expected = [("small", "Small"), ("medium", "Medium"), ("large", "Large")];
    let codes = expected.map(|(code, _)| format!("classic-varsity-top-{code}"));
    assert_eq!(skus, [0, 1, 2].map(|i| (codes[i].as_str(), expected[i].1)));
    assert!(top.skus.iter().all(|s| s.price.to_string() == "60.00 USD" && s.weight.is_none()));
    // Nobody tracks the stock there, so it is always in stock.
    assert!(
        all.iter().flat_map(|p| &p.skus).all(|s| s.availability() == AvailabilityStatus::InStock && s.on_hand == 0)
    );
    let shirt = find(&all, "ocean-blue-shirt");
    assert!(shirt.skus.len() == 1 && shirt.skus[0].option_values.is_empty());
    assert_eq!(shirt.images.len(), 1);
    assert!(
        shirt.images[0].primary && shirt.images[0].url.starts_with("https://burst.shopifycdn.com/photos/young-man")
    );
    assert!(shirt.description.as_ref().unwrap().ends_with("tiled kalidoscope patterns."));

    let head = outbox_head(&shop).await;
    let (report, _) = import(&shop, text).await;
    assert_eq!((counts(&report), outbox_head(&shop).await), ([20, 0, 0, 20, 0], head));
    assert_balanced(&shop).await;
}

async fn shopify_images_prices_stock_and_drafts_keep_their_meaning() {
    let shop = shop().await;
    let (report, letters) = import(&shop, sample("shopify.csv")).await;
    assert_eq!((counts(&report), report.ended_early.clone()), ([4, 4, 0, 0, 0], None), "{letters:#?}");
    let unknown: Vec<_> = report.unknown_fields.into_iter().collect();
    assert_eq!(unknown, [("columns.Cost per item".to_owned(), 1)]);
    let all = all_products(&shop).await;
    let mug = find(&all, "enamel-mug");
    // One discount leads from each price before to the price now.
    assert_eq!(mug.discount.to_string(), "25.00");
    let finals: Vec<_> = mug.skus.iter().map(|s| s.price.discounted(mug.discount).to_string()).collect();
    assert_eq!(finals, ["12.00 USD", "15.00 USD"]);
    assert_eq!(
        mug.images.iter().map(|i| i.url.rsplit('/').next().unwrap()).collect::<Vec<_>>(),
        ["front.jpg", "back.jpg", "box.jpg"]
    );
    assert_eq!(mug.images[1].alt.as_deref(), Some("The back"));
    assert_eq!(mug.skus[1].attributes.0["image"], "https://img.example/red.jpg");
    assert_eq!((mug.skus[0].on_hand, mug.skus[0].track_stock, mug.skus[1].track_stock), (7, true, false));
    assert_eq!(mug.skus[0].weight.unwrap().to_string(), "350.00");
    assert_eq!(mug.skus[0].barcode.as_deref(), Some("0123456"));
    assert_eq!(mug.description.as_deref(), Some("A mug.\n\nHolds 300 ml & more"));
    assert_eq!(mug.categories[0].path, "home-garden/kitchen/mugs");
    assert_eq!(mug.attributes.0["seo_title"], "Enamel mug");
    let lamp = find(&all, "desk-lamp");
    assert_eq!((lamp.status, lamp.discount.to_string()), (ProductStatus::Draft, "0.00".to_owned()));
    assert_eq!(lamp.skus[0].attributes.0["compare_at_price"], "50.00");
    assert!(lamp.skus[1].attributes.0.is_empty());
    let card = find(&all, "gift-card");
    assert_eq!(card.attributes.0["gift_card"], true);
    assert_eq!(card.skus[0].attributes.0["requires_shipping"], false);
    assert_eq!(find(&all, "old-chair").status, ProductStatus::Archived);
    let (report, _) = import(&shop, sample("shopify.csv")).await;
    assert_eq!(counts(&report), [4, 0, 0, 4, 0]);
}

async fn a_woocommerce_export_becomes_products_with_their_variations() {
    let shop = shop().await;
    let (report, letters) = import(&shop, sample("woocommerce.csv")).await;
    assert_eq!((counts(&report), report.ended_early.clone()), ([5, 4, 0, 0, 1], None), "{letters:#?}");
    // A variation whose parent is not in the file.
    assert_eq!(letters[0]["line"], 8);
    let all = all_products(&shop).await;
    let shirt = find(&all, "20");
    let skus: Vec<_> = shirt.skus.iter().map(|s| (s.code.as_str(), s.option_values["Size"].as_str())).collect();
    assert_eq!(skus, [("TEE-S", "S"), ("TEE-M", "M")]);
    assert_eq!(shirt.attributes.0["material"], json!(["Cotton", "Linen"]));
    assert_eq!(shirt.categories.iter().map(|c| c.path.as_str()).collect::<Vec<_>>(), ["clothing/shirts", "new"]);
    assert_eq!((shirt.skus[0].on_hand, shirt.skus[1].track_stock), (4, false));
    assert_eq!(shirt.skus[0].weight.unwrap().to_string(), "200.00");
    let hat = find(&all, "10");
    assert_eq!((hat.skus[0].price.to_string(), hat.discount.to_string()), ("20.00 USD".to_owned(), "10.00".to_owned()));
    assert_eq!(hat.skus[0].dimensions.unwrap().depth.to_string(), "30.00");
    assert_eq!(hat.images.len(), 2);
    assert_eq!(find(&all, "30").status, ProductStatus::Draft);
    // The parent comes after its variation.
    assert_eq!(find(&all, "40").skus[0].code, "SOCK-42");
    let (report, _) = import(&shop, sample("woocommerce.csv")).await;
    assert_eq!(counts(&report), [5, 0, 0, 4, 1]);
}

/// Returns a CSV file whose rows have the cells of these columns, and the others empty.
fn table(rows: &[&[(&str, &str)]]) -> String {
    let mut columns: Vec<&str> = Vec::new();
    for (name, _) in rows.iter().copied().flatten() {
        if !columns.contains(name) {
            columns.push(name);
        }
    }
    let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
    let line = |cells: Vec<String>| format!("{}\n", cells.join(","));
    let mut text = line(columns.iter().map(|name| quoted(name)).collect());
    for row in rows {
        let cell = |column: &&str| row.iter().find(|(name, _)| name == column).map_or("", |(_, cell)| *cell);
        text.push_str(&line(columns.iter().map(|column| quoted(cell(column))).collect()));
    }
    text
}

/// Escaped commas and line breaks, parents by SKU and id, the order of variations, prices with a comma, every state of
/// publication and of stock, and a grouped product.
async fn a_woocommerce_export_is_read_as_its_exporter_writes_it() {
    const COLOR: (&str, &str) = ("Attribute 1 name", "Color");
    const FIT: (&str, &str) = ("Attribute 2 name", "Fit");
    let variation = |id, sku, parent, color| {
        [("ID", id), ("Type", "variation"), ("SKU", sku), ("Name", "Tee"), ("Parent", parent)]
            .into_iter()
            .chain([COLOR, ("Attribute 1 value(s)", color), FIT, ("Stock", "")])
            .collect::<Vec<_>>()
    };
    let with = |mut row: Vec<(&'static str, &'static str)>, more: &[(&'static str, &'static str)]| {
        row.extend(more);
        row
    };
    let simple = |id, kind, published, in_stock, stock, backorders| {
        vec![
            ("ID", id),
            ("Type", kind),
            ("Name", "Thing"),
            ("Published", published),
            ("In stock?", in_stock),
            ("Stock", stock),
            ("Backorders allowed?", backorders),
            ("Regular price", "10"),
        ]
    };
    let blue = [("Published", "1"), ("In stock?", "1"), ("Regular price", "20"), ("Position", "2")];
    let red = [
        ("Published", "1"),
        ("In stock?", "0"),
        ("Regular price", "24,50"),
        ("Sale price", "19,60"),
        ("Position", "1"),
        ("Description", "Dark."),
        ("Tax class", "reduced"),
    ];
    let rows = [
        with(variation("102", "TEE-B", "id:100", "Blue"), &blue),
        vec![
            ("ID", "100"),
            ("Type", "variable"),
            ("SKU", "TEE"),
            ("Name", "Tee"),
            ("Published", "1"),
            ("Description", r"<p>Soft.</p>\nWash cold."),
            ("Weight (kg)", ".2"),
            ("Categories", r"Clothing > Tees\, tops, Sale"),
            ("Brands", "Acme > Acme Kids, Other"),
            ("Images", r"https://img.example/a\,b.jpg, https://img.example/c.jpg"),
            COLOR,
            ("Attribute 1 value(s)", r"Red\, dark, Blue, Green"),
            FIT,
            ("Attribute 2 value(s)", "Slim"),
            ("Attribute 1 default", "Blue"),
        ],
        with(variation("101", "TEE-R", "TEE", r"Red\, dark"), &red),
        // It is private, so it is not for sale.
        with(variation("103", "TEE-G", "TEE", "Green"), &[("Published", "0"), ("Regular price", "20")]),
        simple("110", "simple", "1", "1", "-2", "notify"),
        simple("111", "simple", "0", "1", "4", "0"),
        simple("112", "simple", "2", "backorder", "", "1"),
        simple("113", "simple", "'-1", "0", "", "0"),
        with(simple("114", "simple", "true", "1", "", "0"), &[("Download 1 name", "Pages")]),
        simple("115", "simple, virtual", "1", "1", "", "0"),
        vec![("ID", "120"), ("Type", "grouped"), ("Name", "Set"), ("Grouped products", "TEE, id:110")],
    ];
    let rows: Vec<_> = rows.iter().map(Vec::as_slice).collect();
    let shop = shop().await;
    for expected in [[8, 7, 0, 0, 1], [8, 0, 0, 7, 1]] {
        let (report, letters) = import(&shop, table(&rows)).await;
        assert_eq!((counts(&report), report.ended_early.clone()), (expected, None), "{letters:#?}");
        assert!(letters[0]["reason"].as_str().unwrap().contains("a grouped product"), "{letters:#?}");
        let unknown: Vec<_> = report.unknown_fields.keys().map(String::as_str).collect();
        assert_eq!(unknown, ["columns.Download 1 name"]);
    }
    let all = all_products(&shop).await;
    let tee = find(&all, "100");
    let skus: Vec<_> = tee.skus.iter().map(|s| (s.code.as_str(), s.option_values["Color"].as_str())).collect();
    assert_eq!(skus, [("TEE-R", "Red, dark"), ("TEE-B", "Blue")]);
    let prices: Vec<_> = tee.skus.iter().map(|s| s.price.to_string()).collect();
    assert_eq!(
        (prices, tee.discount.to_string()),
        (vec!["19.60 USD".to_owned(), "20.00 USD".to_owned()], "0.00".to_owned())
    );
    let red = &tee.skus[0].attributes.0;
    assert_eq!((&red["compare_at_price"], &red["description"]), (&json!("24.50"), &json!("Dark.")));
    assert_eq!(red["tax_class"], "reduced");
    let stock: Vec<_> = tee.skus.iter().map(|s| (s.track_stock, s.on_hand, s.weight.unwrap().to_string())).collect();
    assert_eq!(stock, [(true, 0, "200.00".to_owned()), (false, 0, "200.00".to_owned())]);
    assert_eq!(tee.description.as_deref(), Some("Soft.\n\nWash cold."));
    assert_eq!(tee.categories.iter().map(|c| c.path.as_str()).collect::<Vec<_>>(), ["clothing/tees-tops", "sale"]);
    let images: Vec<_> = tee.images.iter().map(|image| image.url.as_str()).collect();
    assert_eq!(images, ["https://img.example/a,b.jpg", "https://img.example/c.jpg"]);
    assert_eq!((tee.brand.as_deref(), &tee.attributes.0["fit"]), (Some("Acme Kids"), &json!("Slim")));
    assert_eq!(tee.attributes.0["brands"], json!(["Acme Kids", "Other"]));
    let things = ["110", "111", "112", "113", "114", "115"].map(|id| {
        let thing = find(&all, id);
        let sku = &thing.skus[0];
        (thing.status, sku.track_stock, sku.on_hand, sku.attributes.0.contains_key("requires_shipping"))
    });
    let (active, draft) = (ProductStatus::Active, ProductStatus::Draft);
    let expected = [
        (active, false, 0, false),
        (draft, true, 4, false),
        (draft, false, 0, false),
        (draft, true, 0, false),
        (active, false, 0, false),
        (active, false, 0, true),
    ];
    assert_eq!(things, expected);
}

/// A variation that is private, a draft or waiting for a review is no SKU. A product without a published variation is a
/// draft that keeps them all, because the exporter calls all variations of a draft drafts.
async fn a_variation_of_woocommerce_that_is_not_published_is_not_for_sale() {
    const SIZES: [&str; 4] = ["S", "M", "L", "XL"];
    let header = "ID,Type,SKU,Name,Published,Regular price,Parent,Attribute 1 name,Attribute 1 value(s)\n";
    let rows = |id: u32, published: &str, variations: [&str; 4]| {
        let parent = format!("{id},variable,,Tee {id},{published},,,Size,\"S, M, L, XL\"\n");
        let variation = |(size, published): (&str, &str)| {
            format!("{id}0{size},variation,{id}-{size},Tee {id} - {size},{published},7,id:{id},Size,{size}\n")
        };
        SIZES.into_iter().zip(variations).map(variation).fold(parent, |text, row| text + &row)
    };
    let sizes =
        |product: &Product| product.skus.iter().map(|sku| sku.option_values["Size"].clone()).collect::<Vec<_>>();
    let shop = shop().await;
    let text = [
        header.to_owned(),
        rows(1, "1", ["1", "-1", "2", "0"]),
        rows(2, "-1", ["-1"; 4]),
        rows(3, "1", ["-1", "'-1", "2", "0"]),
        rows(4, "0", ["1", "true", "false", "0"]),
    ]
    .concat();
    for expected in [[4, 4, 0, 0, 0], [4, 0, 0, 4, 0]] {
        let (report, letters) = import(&shop, text.clone()).await;
        assert_eq!((counts(&report), report.ended_early.clone()), (expected, None), "{letters:#?}");
    }
    let all = all_products(&shop).await;
    let shown = ["1", "2", "3", "4"].map(|id| (find(&all, id).status, sizes(find(&all, id)).join(" ")));
    let expected = [
        (ProductStatus::Active, "S"),
        (ProductStatus::Draft, "S M L XL"),
        (ProductStatus::Draft, "S M L XL"),
        (ProductStatus::Draft, "S M"),
    ];
    assert_eq!(shown, expected.map(|(status, sizes)| (status, sizes.to_owned())));

    // A variation that has become a draft is not for sale any more.
    let text = [header.to_owned(), rows(1, "1", ["-1", "1", "2", "0"])].concat();
    let (report, letters) = import(&shop, text).await;
    assert_eq!((counts(&report), report.ended_early.clone()), ([1, 0, 1, 0, 0], None), "{letters:#?}");
    let all = all_products(&shop).await;
    assert_eq!((find(&all, "1").status, sizes(find(&all, "1"))), (ProductStatus::Active, vec!["M".to_owned()]));
    assert_balanced(&shop).await;
}

/// Variations that take their stock from their product have as many pieces together as the product, so that the shop
/// sells no more than there are.
async fn variations_of_woocommerce_share_the_stock_of_their_product() {
    let header = "ID,Type,SKU,Name,Published,In stock?,Stock,Backorders allowed?,Regular price,Parent,\
                  Attribute 1 name,Attribute 1 value(s)\n";
    // Whether each variation is published and in stock, and its own stock. The third and the fourth one take nothing
    // from the product.
    let variations = [
        ("S", "1", "1", ""),
        ("M", "1", "1", "parent"),
        ("L", "1", "1", "4"),
        ("XL", "1", "0", ""),
        ("XXL", "-1", "1", ""),
    ];
    let rows = |id: u32, stock: &str, backorders: &str| {
        let parent = format!("{id},variable,,Tea {id},1,1,{stock},{backorders},,,Size,\"S, M, L, XL, XXL\"\n");
        let variation = |(size, published, in_stock, stock): (&str, &str, &str, &str)| {
            format!("{id}0{size},variation,{id}-{size},Tea,{published},{in_stock},{stock},0,7,id:{id},Size,{size}\n")
        };
        variations.into_iter().map(variation).fold(parent, |text, row| text + &row)
    };
    let stock =
        |product: &Product| -> Vec<_> { product.skus.iter().map(|sku| (sku.track_stock, sku.on_hand)).collect() };
    let shop = shop().await;
    let text = [
        header.to_owned(),
        rows(1, "7", "0"),
        rows(2, "-2", "0"),
        rows(3, "7", "notify"),
        rows(4, "", "0"),
        rows(5, "many", "0"),
    ]
    .concat();
    for expected in [[5, 4, 0, 0, 1], [5, 0, 0, 4, 1]] {
        let (report, letters) = import(&shop, text.clone()).await;
        assert_eq!((counts(&report), report.ended_early.clone()), (expected, None), "{letters:#?}");
    }
    let all = all_products(&shop).await;
    let own = [(true, 4), (true, 0)];
    for (id, shared) in
        [("1", [(true, 4), (true, 3)]), ("2", [(true, 0); 2]), ("3", [(false, 0); 2]), ("4", [(false, 0); 2])]
    {
        assert_eq!(stock(find(&all, id)), [shared, own].concat(), "{id}");
    }

    let (report, letters) = import(&shop, [header.to_owned(), rows(1, "8", "0")].concat()).await;
    assert_eq!((counts(&report), report.ended_early.clone()), ([1, 0, 1, 0, 0], None), "{letters:#?}");
    let all = all_products(&shop).await;
    assert_eq!(stock(find(&all, "1")), [(true, 4), (true, 4), (true, 4), (true, 0)]);
    assert_balanced(&shop).await;
}

/// Metafields that options are linked to, weights with many digits, and an image in a row of its own.
async fn a_shopify_export_has_columns_that_no_shop_shows() {
    let linked = ("Option1 Linked To", "product.metafields.shopify.color-pattern");
    let text = table(&[
        &[
            ("Handle", "cup"),
            ("Title", "Cup"),
            ("Published", "TRUE"),
            ("Option1 Name", "Color"),
            ("Option1 Value", "Red"),
            linked,
            ("Variant SKU", "CUP-R"),
            ("Variant Grams", "453.59237"),
            ("Variant Inventory Tracker", "shopify"),
            ("Variant Inventory Qty", "3"),
            ("Variant Inventory Policy", "deny"),
            ("Variant Price", "8"),
            ("Image Src", "https://img.example/1.jpg"),
            ("Image Position", "1"),
            ("Image Alt Text", "Front, left"),
            ("Color (product.metafields.shopify.color-pattern)", "red; blue"),
            ("Status", "active"),
        ],
        &[
            ("Handle", "cup"),
            ("Option1 Value", "Blue"),
            ("Variant SKU", "CUP-B"),
            ("Variant Grams", "0.0"),
            ("Variant Price", "8"),
            ("Image Src", "https://img.example/2.jpg"),
            ("Image Position", "2"),
        ],
        &[("Handle", "cup"), ("Image Src", "https://img.example/3.jpg"), ("Image Position", "3")],
    ]);
    let shop = shop().await;
    let (report, letters) = import(&shop, text.clone()).await;
    assert_eq!((counts(&report), report.ended_early.clone()), ([1, 1, 0, 0, 0], None), "{letters:#?}");
    assert!(report.unknown_fields.is_empty(), "{:?}", report.unknown_fields);
    let (report, letters) = import(&shop, text.replace("\",\"", "\";\"")).await;
    assert_eq!(counts(&report), [1, 0, 0, 1, 0], "a program has changed the delimiter: {letters:#?}");
    let all = all_products(&shop).await;
    let cup = find(&all, "cup");
    assert_eq!(cup.skus[0].weight.map(|weight| weight.to_string()).as_deref(), Some("453.59"));
    assert_eq!((cup.skus[1].weight, cup.skus[1].track_stock), (None, false));
    assert_eq!(cup.skus.iter().map(|s| s.option_values["Color"].as_str()).collect::<Vec<_>>(), ["Red", "Blue"]);
    let file = |url: &str| url.rsplit('/').next().unwrap().to_owned();
    let images: Vec<_> = cup.images.iter().map(|image| (file(&image.url), image.alt.as_deref())).collect();
    let expected = [("1.jpg", Some("Front, left")), ("2.jpg", None), ("3.jpg", None)];
    assert_eq!(images, expected.map(|(file, alt)| (file.to_owned(), alt)));
    assert_eq!(cup.attributes.0["color_pattern"], "red; blue");
}

const GOODS: &str = "\u{feff}external_id,title,sku,price,stock,option.size,attributes.fabric,categories,images\r\n\
    a,Shirt,S-1,9.99,3,S,cotton,clothes/shirts|new,https://img.example/1.jpg|https://img.example/2.jpg\r\n\
    a,,S-2,10.99,4,M,,,\r\n\
    b,\"A \"\"big\"\", red box\",B-1,5,1,,,,\r\n";

async fn a_table_with_our_own_names_needs_no_map() {
    let shop = shop().await;
    assert_eq!(ImportKind::detect(GOODS.as_bytes()), Some(ImportKind::Products));
    for expected in [[2, 2, 0, 0, 0], [2, 0, 0, 2, 0]] {
        let (report, letters) = import(&shop, GOODS).await;
        assert_eq!((counts(&report), report.ended_early.clone()), (expected, None), "{letters:#?}");
    }
    let all = all_products(&shop).await;
    let shirt = find(&all, "a");
    let skus: Vec<_> =
        shirt.skus.iter().map(|s| (s.code.as_str(), s.option_values["size"].as_str(), s.on_hand)).collect();
    assert_eq!(skus, [("S-1", "S", 3), ("S-2", "M", 4)]);
    assert_eq!(shirt.attributes.0["fabric"], "cotton");
    assert_eq!(shirt.categories.len(), 2);
    assert_eq!(shirt.images.len(), 2);
    assert_eq!(find(&all, "b").title, "A \"big\", red box");
    // Semicolons and tabs are recognized, and so is gzip.
    for delimiter in [";", "\t"] {
        let text = "external_id,title,sku,price\nx,Thing,X-1,3\n".replace(',', delimiter);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(text.as_bytes()).unwrap();
        let gzip = gzip.finish().unwrap();
        assert_eq!(ImportKind::detect(&gzip), Some(ImportKind::Products));
        for text in [text.into_bytes(), gzip] {
            let (report, letters) = import(&self::shop().await, text).await;
            assert_eq!(counts(&report), [1, 1, 0, 0, 0], "{letters:#?}");
        }
    }
}

async fn a_column_map_names_fields_constants_defaults_and_the_encoding() {
    let map = json!({
        "delimiter": ";", "quote": "'", "encoding": "windows-1252", "decimal_comma": true, "group": "Artikel",
        "columns": {
            "Artikel": "external_id", "Name": "title", "Nummer": "sku", "Preis": "price", "Farbe": "option.color",
            "Gruppen": {"field": "categories", "separator": ">>"}, "Lager": "stock",
            "Notiz": {"field": "description", "optional": true},
        },
        "constants": {"source": "erp", "brand": "Acme"},
        "defaults": {"stock": 5},
    });
    let text = "Artikel;Name;Nummer;Preis;Farbe;Gruppen;Lager;Intern;price\n\
                7;Gr\u{fc}ner 'Becher';7-1;1.234,50;gr\u{fc}n;Haus>>K\u{fc}che;2;geheim;1\n\
                7;;7-2;9,5;'rot; matt';;;;\n\
                8;Teller;8-1;neun;blau;;;;\n\
                8;Schale;8-2;9;rot;;;;\n";
    let latin: Vec<u8> = text.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect();
    let shop = shop().await;
    let (report, letters) = with(&shop, latin, map.clone()).await;
    assert_eq!((counts(&report), report.ended_early.clone()), ([2, 1, 0, 0, 1], None), "{letters:#?}");
    // The rows of one product disagree about its title.
    assert_eq!((fields(&letters[0]), letters[0]["line"].as_u64()), (vec!["title".to_owned()], Some(4)));
    let unknown: Vec<_> = report.unknown_fields.keys().map(String::as_str).collect();
    assert_eq!(unknown, ["columns.Intern", "columns.price"]);
    let all = all_products(&shop).await;
    let cup = find(&all, "7");
    assert_eq!(cup.title, "Gr\u{fc}ner 'Becher'");
    assert_eq!((cup.external.as_ref().unwrap().source.as_str(), cup.brand.as_deref()), ("erp", Some("Acme")));
    let skus: Vec<_> =
        cup.skus.iter().map(|s| (s.price.to_string(), s.option_values["color"].clone(), s.on_hand)).collect();
    assert_eq!(skus[0], ("1234.50 USD".to_owned(), "gr\u{fc}n".to_owned(), 2));
    assert_eq!(skus[1], ("9.50 USD".to_owned(), "rot; matt".to_owned(), 5));
    // The categories are two, because the separator of this column is not that of a path.
    assert_eq!(cup.categories.iter().map(|c| c.path.as_str()).collect::<Vec<_>>(), ["haus", "kuche"]);

    // Wrong maps.
    for (change, field) in [
        (json!({"columns": {"x": "prize"}}), "format.columns"),
        (json!({"columns": {"x": "title"}, "constants": {"colour": "red"}}), "format.constants"),
    ] {
        let format = ImportFormat::Csv(serde_json::from_value(change).unwrap());
        let options = ImportOptions::default().format(format);
        let error = shop.import().products(std::io::empty(), options, |_| {}).await.unwrap_err();
        assert!(format!("{error:?}").contains(field), "{error:?}");
    }
    for wrong in [
        json!({"columns": {}}),
        json!({"columns": {"x": "title", "y": "title"}}),
        json!({"columns": {"x": "title"}, "encoding": "utf-16"}),
        json!({"columns": {"x": "title"}, "delimiter": "\""}),
        json!({"columns": {"x": "title"}, "colums": 1}),
    ] {
        assert!(serde_json::from_value::<ecom::catalog::ColumnMap>(wrong.clone()).is_err(), "{wrong}");
    }
}

async fn a_bad_row_costs_one_record_and_names_its_line() {
    let head = "external_id,title,sku,price\n";
    let good = |n: u32| format!("{n},Thing {n},SKU-{n},9.99\n");
    let many = |range: std::ops::Range<u32>| range.map(good).collect::<String>();
    for (name, bad, code, reason) in [
        ("a quote that is not closed", "50,\"Thing 50,SKU-50,9.99\n", "BAD_REQUEST", "line 51: a quote"),
        ("a quote that closes too early", "50,\"Th\"ing 50,SKU-50,9.99\n", "BAD_REQUEST", "line 51: a quote closes"),
        ("too few cells", "50,Thing 50,9.99\n", "BAD_REQUEST", "line 51: the row has 3 cells, and the header has 4"),
        ("too many cells", "50,Thing, 50,SKU-50,9.99\n", "BAD_REQUEST", "line 51: the row has 5 cells"),
        ("a price in words", "50,Thing 50,SKU-50,nine\n", "BAD_REQUEST", "decimal"),
        ("a price with a comma", "50,Thing 50,SKU-50,\"9,99\"\n", "BAD_REQUEST", "decimal"),
        ("a code of another record", "50,Thing 50,SKU-3,9.99\n", "DUPLICATE", ""),
        ("the id of another record", "3,Thing 50,SKU-50,9.99\n", "VALIDATION_FAILED", "only once in the source"),
    ] {
        let shop = shop().await;
        let text = format!("{head}{}{bad}{}", many(1..50), many(51..100));
        let (report, letters) = import(&shop, text).await;
        assert_eq!((counts(&report), report.ended_early), ([99, 98, 0, 0, 1], None), "{name}: {letters:#?}");
        assert_eq!((letters[0]["code"].as_str(), letters[0]["line"].as_u64()), (Some(code), Some(51)), "{name}");
        assert!(letters[0]["reason"].as_str().unwrap().contains(reason), "{name}: {letters:#?}");
    }
    // A quote that opens in the last row.
    let (report, letters) = import(&shop().await, format!("{head}{}50,\"Thing", many(1..50))).await;
    assert_eq!((counts(&report), report.ended_early), ([50, 49, 0, 0, 1], None), "{letters:#?}");
    // The wrong encoding.
    let mut text = format!("{head}{}", good(1)).into_bytes();
    text.extend_from_slice(b"2,Gr\xfcn,SKU-2,1\n");
    text.extend(good(3).into_bytes());
    let (report, letters) = import(&shop().await, text).await;
    assert_eq!(counts(&report), [3, 2, 0, 0, 1], "{letters:#?}");
    assert!(letters[0]["reason"].as_str().unwrap().contains("line 3: the column `title` is not UTF-8"), "{letters:#?}");
    // 1 MB in one field, with and without quotes and line breaks.
    for big in ["x".repeat(1 << 20), format!("\"{}\"", "y\n".repeat(1 << 19)), format!("\"{}\"", "z".repeat(3 << 20))] {
        let text = format!("{head}{}2,{big},SKU-2,1\n{}", good(1), good(3));
        let (report, letters) = import(&shop().await, text).await;
        assert_eq!((counts(&report), report.ended_early), ([3, 2, 0, 0, 1], None), "{letters:?}");
        assert_eq!((letters[0]["code"].as_str(), letters[0]["cut"].as_bool()), (Some("PAYLOAD_TOO_LARGE"), Some(true)));
        assert!(letters[0]["record"].as_str().unwrap().len() <= 4 * 1024);
    }
    // A source that breaks off within a row.
    let (report, _) = import(&shop().await, format!("{head}{}2,Thing", good(1))).await;
    let ended = report.ended_early.clone().unwrap();
    assert_eq!((counts(&report), ended.index, ended.line), ([1, 1, 0, 0, 0], 1, 3));
}

async fn a_header_that_cannot_be_used_ends_the_import_before_its_first_record() {
    let shop = shop().await;
    let map = json!({"columns": {"Name": "title", "Code": "sku", "Price": "price"}});
    for (text, reason) in [
        ("Name,Code\nx,1\n".as_bytes(), "the header lacks columns that the column map names: `Price`"),
        (b"Name,Code,Price,Name\nx,1,2,3\n", "the header has the column `Name` twice"),
        (b"\xff\xfeN\0a\0m\0e\0", "the source is UTF-16"),
        (b"Name,\"Code,Price\nx,1,2\n", "the header cannot be read"),
        (&[b','; 3_000], "the header has more than 2000 columns"),
    ] {
        let (report, _) = with(&shop, text, map.clone()).await;
        let ended = report.ended_early.unwrap();
        assert!(ended.reason.contains(reason) && report.read == 0, "{ended}");
    }
    let (report, _) = with(&shop, "", map).await;
    assert_eq!((report.read, report.ended_early), (0, None));
}

async fn no_row_is_held_beyond_the_limit_and_a_source_has_one_too() {
    let shop = shop().await;
    let mut text = "external_id,title,sku,price,option.size\n".to_owned();
    text.extend((0..3_000).map(|i| format!("a,Endless,SKU-{i},1,{i}\n")));
    text.push_str("b,Other,B-1,1,M\n");
    let letters = Letters::default();
    let report = products(&shop, text.clone(), letters.options().max_record(16 * 1024)).await;
    assert_eq!(counts(&report), [2, 1, 0, 0, 1]);
    assert_eq!(letters.read()[0]["code"], "PAYLOAD_TOO_LARGE");
    // A bomb: a few KiB that become many MiB.
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    bomb.write_all(b"title,sku,price\n").unwrap();
    for _ in 0..12 {
        bomb.write_all("x".repeat(1 << 20).as_bytes()).unwrap();
    }
    let bomb = bomb.finish().unwrap();
    let report = products(&shop, bomb, ImportOptions::default().max_bytes(8 << 20)).await;
    assert!(report.ended_early.unwrap().reason.contains("larger than the limit"));
}

async fn customers_and_categories_come_from_tables_too() {
    let shop = shop().await;
    let text = "external_id,first_name,last_name,email,address.street,address.city,address.country,attributes.vip\n\
                1,Ada,Lovelace,ada@example.com,12 Main St,London,GB,yes\n2,Bob,Nobody,not an address,,,,\n";
    assert_eq!(ImportKind::detect(text.as_bytes()), Some(ImportKind::Customers));
    let letters = Letters::default();
    let source = std::io::Cursor::new(text.as_bytes().to_vec());
    let report = shop.import().customers(source, letters.options(), |_| {}).await.unwrap();
    assert_eq!(counts(&report), [2, 1, 0, 0, 1], "{:#?}", letters.read());
    // Parents come later, or never.
    let text = "id,name,parent\n3,Phones,2\n2,Electronics,\n4,Lost,9\n";
    assert_eq!(ImportKind::detect(text.as_bytes()), Some(ImportKind::Categories));
    let (report, letters) = crate::support::import_categories(&shop, text).await;
    assert_eq!(counts(&report), [3, 2, 0, 0, 1], "{letters:#?}");
    assert_eq!(letters[0]["line"], 4);
    assert!(crate::support::tree(&shop).await.iter().any(|c| c.path == "electronics/phones"));
}

/// The rows that can be read are a part of the product, and would remove the SKUs of the others.
async fn a_row_that_cannot_be_read_costs_its_product_no_sku() {
    let shop = shop().await;
    let good = "external_id,option.size,sku,title,description,price\n\
        A,S,A1,T,\"two lines\nof text\",1\nA,M,A2,T,,2\nB,S,B1,U,,3\n";
    let (report, letters) = import(&shop, good).await;
    assert_eq!(counts(&report), [2, 2, 0, 0, 0], "{letters:#?}");
    let before = all_products(&shop).await;
    // The quotes of the first row are broken, and its second line is taken for a row of another product.
    let (report, letters) = import(&shop, good.replace("of text", "of \"bad\" text")).await;
    assert_eq!(report.unchanged, 1, "{report:?} {letters:#?}");
    assert!(letters.iter().any(|l| l["reason"] == "an earlier row of the same record cannot be read"), "{letters:#?}");
    assert_eq!(all_products(&shop).await, before);
}

async fn a_variation_that_cannot_be_read_costs_no_variable_product_its_sku() {
    let shop = shop().await;
    let header = "ID,Type,SKU,Name,Description,Regular price,Parent,Attribute 1 name,Attribute 1 value(s)\n";
    let simple = "9,simple,HAT,Hat,,5,,,\n";
    let parent = "1,variable,TEE,Tee,,,,Size,\"S, M\"\n";
    let variation =
        |id: u32, size: &str, text: &str| format!("{id},variation,TEE-{size},Tee,{text},7,TEE,Size,{size}\n");
    let good = [header, simple, parent, &variation(2, "S", ""), &variation(3, "M", "")].concat();
    let (report, letters) = import(&shop, good.clone()).await;
    assert_eq!(counts(&report), [2, 2, 0, 0, 0], "{letters:#?}");
    let before = all_products(&shop).await;
    let broken = [header, simple, parent, &variation(2, "S", "\"a \"b\" c"), &variation(3, "M", "")].concat();
    let (report, letters) = import(&shop, broken).await;
    assert_eq!(report.unchanged, 1, "only the simple product is there as it was: {report:?} {letters:#?}");
    assert_eq!(report.updated + report.inserted, 0, "{report:?} {letters:#?}");
    assert_eq!(all_products(&shop).await, before);
    // A second parent with the same id is refused, and the first one keeps its variations.
    let twice = good.replace(simple, parent);
    let (report, letters) = import(&shop, twice).await;
    assert_eq!((report.unchanged, report.rejected), (1, 1), "{report:?} {letters:#?}");
    assert_eq!(all_products(&shop).await, before);
}
