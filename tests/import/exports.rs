//! Exports, and imports of exports.

use ecom::access::Principal;
use ecom::catalog::{ColumnMap, ExportFormat, ExportOptions, ImportFormat, ImportOptions};
use ecom::{Error, Shop};
use serde_json::{Value, json};

use crate::support::{all_products, counts, data, import, lines, outbox_head, products, sample, shop};

on_each_database! {
    an_export_is_imported_as_it_was,
    an_export_is_for_those_who_may_read_drafts_and_can_be_narrowed,
}

async fn export(shop: &Shop, format: ExportFormat) -> Vec<u8> {
    let mut out = Vec::new();
    shop.export().products(&mut out, ExportOptions::default().format(format), |_| {}).await.unwrap();
    out
}

/// Products with whatever a cell or a document could spoil.
fn difficult() -> Vec<Value> {
    let texts = [
        "=1+1",
        "'=1",
        "-5",
        "@x",
        "+",
        "a\"b",
        "c;d,e|f",
        "g\nh\r\ni",
        "\\|",
        "\u{1f9e6} Gr\u{fc}n",
        "'",
        "007",
        "true",
    ];
    let mut all: Vec<Value> = Vec::new();
    for (i, whole) in texts.iter().enumerate() {
        // Only descriptions and attributes may have several lines.
        let text = whole.replace(['\r', '\n'], " ");
        let status = ["draft", "active", "archived"];
        all.push(json!({
            "source": "erp", "external_id": format!("d{i}"), "title": format!("{text} {i}"), "description": whole,
            "brand": text, "tags": [text, "plain"], "categories": [format!("deep/path-{i}")],
            "images": [{"url": "https://img.example/a.jpg?x=1|2"},
                {"url": "/b.jpg", "alt": text, "primary": i % 2 == 0, "width": 640, "height": 480 + i}],
            "attributes": {"text": whole, "number": 1.5, "list": [1, null], "a.b": {"c": false}},
            "discount_percentage": "12.5", "warranty_information": text, "rating": "4.25", "review_count": 7,
            "status": status[i % 3],
            "skus": [
                {"code": format!("{text}-{i}-1"), "price": "0.01", "option_values": {"size": text}, "barcode": text,
                 "stock": i, "weight": "1.25", "dimensions": {"width": 1, "height": "2.5", "depth": 3},
                 "attributes": {"note": whole}, "low_stock_threshold": 3},
                {"code": format!("{text}-{i}-2"), "price": "1234567.89", "track_stock": false},
            ],
        }));
    }
    all
}

/// Imports of an export write nothing into the same shop, and make the same products in an empty one.
async fn an_export_is_imported_as_it_was() {
    let own = || ExportFormat::Csv(ColumnMap::own());
    let map: ColumnMap = serde_json::from_value(json!({
        "delimiter": ";", "decimal_comma": true, "separator": ", ",
        "columns": {
            "System": "source", "Id": "external_id", "Name": "title", "Address": "slug", "Text": "description",
            "Maker": "brand", "State": "status", "Groups": "categories", "Words": "tags", "Pictures": "images",
            "Alt": "image_alts", "Sizes": "image_sizes", "Main picture": "primary_image", "More": "attributes",
            "Less": "discount_percentage",
            "Warranty": "warranty_information", "Shipping": "shipping_information", "Stars": "rating",
            "Reviews": "review_count", "Code": "sku", "Options": "option_values", "Price": "price", "Stock": "stock",
            "Counted": "track_stock", "Few": "low_stock_threshold", "Weight": "weight", "W": "width", "H": "height",
            "D": "depth", "EAN": "barcode", "Notes": "sku_attributes",
        },
    }))
    .unwrap();
    let mut sources = vec![lines(&difficult()).into_bytes(), sample("shopify.csv"), sample("woocommerce.csv")];
    sources.extend(data("dummyjson-products.json").map(|text| text[..].to_vec()));
    sources.extend(data("shopify-apparel.csv"));
    for source in sources {
        let shop = shop().await;
        import(&shop, source).await;
        let all = u64::try_from(all_products(&shop).await.len()).unwrap();
        assert!(all > 0);
        for format in [ExportFormat::NdJson, own(), ExportFormat::Csv(map.clone())] {
            let text = export(&shop, format.clone()).await;
            let again = match &format {
                ExportFormat::Csv(map) if !map.eq(&ColumnMap::own()) => Some(ImportFormat::Csv(map.clone())),
                _ => None,
            };
            let mut options = ImportOptions::default();
            options.format = again;
            let head = outbox_head(&shop).await;
            let letters = crate::support::Letters::default();
            let mut into_same = letters.options();
            into_same.format.clone_from(&options.format);
            let report = products(&shop, text.clone(), into_same).await;
            let shown = String::from_utf8_lossy(&text[..text.len().min(2_000)]).into_owned();
            assert_eq!(counts(&report), [all, 0, 0, all, 0], "{:#?}\n{shown}", letters.read());
            assert!(report.unknown_fields.is_empty() && report.ended_early.is_none(), "{report:?}");
            assert_eq!(outbox_head(&shop).await, head);
            let empty = self::shop().await;
            let report = products(&empty, text.clone(), options).await;
            assert_eq!(counts(&report), [all, all, 0, 0, 0], "{shown}");
            let second = export(&empty, format).await;
            assert!(second == text, "{shown}\n---\n{}", String::from_utf8_lossy(&second));
        }
    }
}

async fn an_export_is_for_those_who_may_read_drafts_and_can_be_narrowed() {
    let shop = shop().await;
    import(&shop, lines(&difficult())).await;
    let nobody = Principal::anonymous([]);
    let anonymous = shop.acting_as(&nobody);
    let refused = anonymous.export().products(Vec::new(), ExportOptions::default(), |_| {}).await.unwrap_err();
    assert!(matches!(refused, Error::Unauthenticated), "{refused:?}");
    for (options, expected) in [
        (ExportOptions::default(), 13),
        (ExportOptions::default().source("erp"), 13),
        (ExportOptions::default().source("other"), 0),
        (ExportOptions::default().status(ecom::catalog::ProductStatus::Draft), 5),
    ] {
        let mut out = Vec::new();
        let report = shop.export().products(&mut out, options, |_| {}).await.unwrap();
        assert_eq!((report.products, report.skus), (expected, 2 * expected));
        assert_eq!(out.split(|b| *b == b'\n').count() as u64, expected + 1);
    }
    // A character that the encoding lacks is an error and no question mark.
    let latin = json!({"encoding": "windows-1252", "columns": {"Name": "title", "Code": "sku"}});
    let format = ExportFormat::Csv(serde_json::from_value(latin).unwrap());
    let failed = shop.export().products(Vec::new(), ExportOptions::default().format(format), |_| {}).await.unwrap_err();
    assert!(format!("{failed:?}").contains("format.encoding"), "{failed:?}");
}
