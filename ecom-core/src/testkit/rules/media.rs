//! Images are uploaded, and products name them.

use bytes::Bytes;
use serde_json::json;

use super::ShopFixture;
use super::support::{conflict, fields, me, v};
use crate::domain::catalog::media::MediaFile;
use crate::domain::catalog::product::ImageInput;
use crate::error::{Conflict, ErrorCode};
use crate::shop::{Shop, ShopParts};
use crate::testkit::code_of;
use crate::testkit::shelf::Shelf;

tests! {
    __shop_media: [
        r01_an_uploaded_image_becomes_one_of_a_product,
        an_upload_that_is_repeated_stores_nothing_twice,
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
    let same = products.add_image(p.id, v(3), &image).await.unwrap();
    assert_eq!((same, f.head().await), (p.clone(), head), "an image that is added again changes nothing");

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
