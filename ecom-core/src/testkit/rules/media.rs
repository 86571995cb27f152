//! Images are uploaded, and products name them.

use std::time::Duration;

use bytes::Bytes;
use serde_json::json;

use super::ShopFixture;
use super::support::{category_input, conflict, fields, me, v};
use crate::config::ShopConfig;
use crate::domain::catalog::media::{MediaFile, StoredImage};
use crate::domain::catalog::product::ImageInput;
use crate::domain::common::DeleteMode;
use crate::error::{Conflict, Dependency, Error, ErrorCode};
use crate::service::catalog::media::MediaService;
use crate::shop::{Shop, ShopParts};
use crate::testkit::code_of;
use crate::testkit::shelf::Shelf;

tests! {
    __shop_media: [
        r01_an_uploaded_image_becomes_one_of_a_product,
        an_upload_that_is_repeated_stores_nothing_twice,
        r01_an_upload_that_the_product_cannot_take_is_not_decoded,
        an_upload_is_refused_while_too_many_wait,
        files_that_nothing_names_are_removed,
        a_shop_without_a_store_refuses_uploads,
    ]
}

/// The image is added to the version that was read, and one with the same URL takes its place.
pub async fn r01_an_uploaded_image_becomes_one_of_a_product(f: &ShopFixture) {
    let shelf = Shelf::new();
    let shop = Shop::new(ShopParts { media: Some(shelf.media()), ..f.parts() }).unwrap();
    let (media, products) = (shop.acting_as(me()).media(), shop.acting_as(me()).products());
    let p = f.product(json!({ "title": "Lamp", "price": 1, "images": [{ "url": "/old.png", "alt": "Old" }] })).await;
    let stored = media.upload(Bytes::from_static(b"1200x800")).await.unwrap();
    assert_eq!((stored.width, stored.height), (1_200, 800));

    let image = stored.input().alt("A lamp");
    let p = products.add_image(p.id, v(1), &image).await.unwrap();
    let shown: Vec<_> = p.images.iter().map(|i| (i.url.as_str(), i.alt.as_deref(), i.primary, i.width)).collect();
    let url = stored.url.as_str();
    assert_eq!(shown, [("/old.png", Some("Old"), true, None), (url, Some("A lamp"), false, Some(1_200))]);
    assert_eq!(f.fresh(p.id).await, p);
    assert!(matches!(
        conflict(products.add_image(p.id, v(1), &image).await, "an old version"),
        Conflict::Version { .. }
    ));

    let p = products.add_image(p.id, v(2), &image.clone().primary()).await.unwrap();
    assert_eq!(p.images.iter().map(|i| i.primary).collect::<Vec<_>>(), [false, true], "the old one is not primary");
    let head = f.head().await;
    // Without the size and the text too, which stay as they are.
    for image in [&image, &ImageInput::new(url)] {
        let same = products.add_image(p.id, v(3), image).await.unwrap();
        assert_eq!((same, f.head().await), (p.clone(), head), "an image that is added again changes nothing");
    }
    let p = products.add_image(p.id, v(3), &ImageInput::new(url).alt("")).await.unwrap();
    assert_eq!(p.images[1].alt, None, "an empty text removes the text");

    let many: Vec<_> = (0..50).map(|n| json!({ "url": format!("/{n}.png") })).collect();
    let p = f.patch(&p, json!({ "images": many })).await.unwrap();
    let refused = products.add_image(p.id, v(p.audit.version), &image).await;
    assert_eq!(fields(refused, "51 images").into_keys().collect::<Vec<_>>(), ["images"]);
    assert_eq!(f.fresh(p.id).await, p);
}

/// A retry after a lost answer finds its files.
pub async fn an_upload_that_is_repeated_stores_nothing_twice(f: &ShopFixture) {
    let shelf = Shelf::new();
    let shop = Shop::new(ShopParts { media: Some(shelf.media()), ..f.parts() }).unwrap();
    let media = shop.acting_as(me()).media();
    let first = media.upload(Bytes::from_static(b"800x600")).await.unwrap();
    assert_eq!(media.upload(Bytes::from_static(b"800x600")).await.unwrap(), first);
    assert_eq!(shelf.files(), 2);
    let file = MediaFile::parse(first.url.strip_prefix("/media/").unwrap()).unwrap();
    assert_eq!(media.read(&file).await.unwrap().unwrap(), "800x600 at 1280");
    assert_ne!(media.upload(Bytes::from_static(b"600x800")).await.unwrap().url, first.url);
    let refused = media.upload(Bytes::from_static(b"no image")).await;
    assert_eq!(fields(refused, "no image").into_keys().collect::<Vec<_>>(), ["image"]);
    assert_eq!(shelf.files(), 4);
}

/// The product, its version, the number of its images and the text are checked first.
pub async fn r01_an_upload_that_the_product_cannot_take_is_not_decoded(f: &ShopFixture) {
    let shelf = Shelf::new();
    let shop = Shop::new(ShopParts { media: Some(shelf.media()), ..f.parts() }).unwrap();
    let media = shop.acting_as(me()).media();
    let content = || Bytes::from_static(b"800x600");
    let p = f.plain("Lamp").await;
    let gone = f.plain("Gone").await;
    shop.products().delete(gone.id, v(1), DeleteMode::Soft).await.unwrap();
    let absent = media.upload_for(gone.id, v(1), None, content()).await;
    assert_eq!(code_of(absent, "a product that was deleted"), ErrorCode::NotFound);
    let old = conflict(media.upload_for(p.id, v(7), None, content()).await, "another version");
    assert!(matches!(old, Conflict::Version { .. }), "{old:?}");
    let long = "a".repeat(256);
    let refused = media.upload_for(p.id, v(1), Some(&long), content()).await;
    assert_eq!(fields(refused, "a long text").into_keys().collect::<Vec<_>>(), ["images[0].alt"]);
    let many: Vec<_> = (0..50).map(|n| json!({ "url": format!("/{n}.png") })).collect();
    let full = f.product(json!({ "title": "Full", "price": 1, "images": many })).await;
    let refused = media.upload_for(full.id, v(1), None, content()).await;
    assert_eq!(fields(refused, "51 images").into_keys().collect::<Vec<_>>(), ["images"]);
    assert_eq!((shelf.processed(), shelf.files()), (0, 0));
    media.upload_for(p.id, v(1), Some("A lamp"), content()).await.unwrap();
    assert_eq!((shelf.processed(), shelf.files()), (1, 2));
}

/// Uploads that wait keep their bytes in memory.
pub async fn an_upload_is_refused_while_too_many_wait(f: &ShopFixture) {
    let shelf = Shelf::new();
    let shop = Shop::new(ShopParts { media: Some(shelf.media()), ..f.parts() }).unwrap();
    let media = shop.acting_as(me()).media();
    let others = shop.cx.uploads.fill().unwrap();
    let refused = media.upload(Bytes::from_static(b"800x600")).await;
    assert!(
        matches!(refused, Err(Error::Unavailable { dependency: Dependency::Uploads, outcome_unknown: false, .. })),
        "{refused:?}"
    );
    assert_eq!(shelf.processed(), 0);
    drop(others);
    media.upload(Bytes::from_static(b"800x600")).await.unwrap();
    assert!(shop.cx.uploads.fill().is_some(), "the upload must have given its place back");
}

async fn uploaded(media: MediaService<'_>, image: &'static str) -> StoredImage {
    media.upload(Bytes::from_static(image.as_bytes())).await.unwrap()
}

async fn is_there(media: MediaService<'_>, image: &StoredImage) -> bool {
    let file = MediaFile::parse(image.url.strip_prefix("/media/").unwrap()).unwrap();
    media.read(&file).await.unwrap().is_some()
}

/// An image is named by a product, a soft-deleted product, a SKU of one, a soft-deleted SKU of a live product, a text
/// or a category; another one is young; one is old but was uploaded again; and one is named again after it was marked.
pub async fn files_that_nothing_names_are_removed(f: &ShopFixture) {
    let shelf = Shelf::at(f.clock.clone());
    let day = Duration::from_secs(86_400);
    let config = ShopConfig::default().media_retention(day);
    let shop = Shop::new(ShopParts { media: Some(shelf.media()), config, ..f.parts() }).unwrap();
    let media = shop.media();
    let shown = uploaded(media, "1x1").await;
    let hidden = uploaded(media, "2x2").await;
    let in_text = uploaded(media, "3x3").await;
    let in_category = uploaded(media, "4x4").await;
    let in_sku = uploaded(media, "9x9").await;
    let in_deleted_sku = uploaded(media, "10x10").await;
    let again = uploaded(media, "5x5").await;
    let unused = uploaded(media, "6x6").await;
    let returning = uploaded(media, "7x7").await;
    f.product(json!({ "title": "Lamp", "price": 1, "images": [{ "url": shown.url }] })).await;
    let gone = json!({ "title": "Gone", "price": 1, "images": [{ "url": format!("https://cdn{}", hidden.url) }] });
    let gone = f.product(gone).await;
    shop.products().delete(gone.id, v(1), DeleteMode::Soft).await.unwrap();
    let skus = json!([{ "code": "OLD", "price": 1, "attributes": { "image": in_sku.url } }]);
    let gone = f.product(json!({ "title": "Gone, too", "skus": skus })).await;
    shop.products().delete(gone.id, v(1), DeleteMode::Soft).await.unwrap();
    let skus = json!([{ "price": 1 }, { "price": 1, "attributes": { "image": in_deleted_sku.url } }]);
    let changed = f.product(json!({ "title": "Changed", "skus": skus })).await;
    shop.skus().delete(changed.skus[1].id, v(1), DeleteMode::Soft).await.unwrap();
    let description = format!("<img src=\"{}\">", in_text.url.replace("/1280.", "/320."));
    f.product(json!({ "title": "Text", "price": 1, "description": description })).await;
    let mut category = category_input("Lamps", None);
    category.description = Some(in_category.url.clone());
    shop.categories().create(&category).await.unwrap();

    f.clock.advance(day);
    assert_eq!((media.remove_unused().await.unwrap(), shelf.files()), (0, 18), "none is older than a day");
    f.clock.advance(day);
    assert_eq!(uploaded(media, "5x5").await, again);
    let young = uploaded(media, "8x8").await;
    // Two images are marked, by a file each.
    assert_eq!((media.remove_unused().await.unwrap(), shelf.files()), (0, 22));
    let mark = unused.url.replace("/media/", "").replace("/1280.png", "/0.jpg");
    assert_eq!(media.read(&MediaFile::parse(&mark).unwrap()).await.unwrap(), None, "a mark is not served");
    f.product(json!({ "title": "Again", "price": 1, "images": [{ "url": returning.url }] })).await;
    f.clock.advance(day);
    assert_eq!((media.remove_unused().await.unwrap(), shelf.files()), (0, 21), "the marks are a day old");
    f.clock.advance(Duration::from_secs(1));
    assert_eq!(media.remove_unused().await.unwrap(), 1);
    assert!(!is_there(media, &unused).await);
    for kept in [&shown, &hidden, &in_text, &in_category, &in_sku, &in_deleted_sku, &again, &young, &returning] {
        assert!(is_there(media, kept).await, "{kept:?}");
    }
    // Two other images are marked now.
    assert_eq!(shelf.files(), 20);
    f.clock.advance(day * 2);
    let keeping = Shop::new(ShopParts { media: Some(shelf.media()), ..f.parts() }).unwrap();
    assert_eq!(keeping.media().remove_unused().await.unwrap(), 0, "by default, nothing is removed");
    assert_eq!((media.remove_unused().await.unwrap(), shelf.files()), (2, 14));
}

/// The error says what is missing.
pub async fn a_shop_without_a_store_refuses_uploads(f: &ShopFixture) {
    let refused = f.shop.acting_as(me()).media().upload(Bytes::from_static(b"800x600")).await;
    assert_eq!(code_of(refused, "an upload without a store"), ErrorCode::Unsupported);
    for bad in
        ["", "/", "media", "/media/", "//cdn.example.com", "https://cdn.example.com/x?y", "ftp://cdn.example.com"]
    {
        let media = crate::shop::Media { base_url: bad.to_owned(), ..Shelf::new().media() };
        let refused = Shop::new(ShopParts { media: Some(media), ..f.parts() });
        assert_eq!(fields(refused, bad).into_keys().collect::<Vec<_>>(), ["media_base_url"], "{bad}");
    }
    // The image of another shop, or of a CDN, is added by its URL alone.
    let p = f.plain("Lamp").await;
    let image = ImageInput::new("https://cdn.example.com/lamp.png");
    let p = f.shop.acting_as(me()).products().add_image(p.id, v(1), &image).await.unwrap();
    assert!(p.images[0].primary);
}
