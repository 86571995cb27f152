//! The stores keep the contract of their port.

#![expect(clippy::unwrap_used, reason = "these are tests: a broken expectation panics")]

use ecom_core::catalog::{ImageFormat, MediaFile};
use ecom_core::port::MediaStore as _;
use ecom_core::testkit::MediaStoreFixture;
use ecom_media::ObjectMediaStore;

mod directory {
    use super::*;

    pub async fn make() -> MediaStoreFixture {
        let directory = tempfile::tempdir().unwrap();
        let store = ObjectMediaStore::directory(&directory.path().join("a/media of the shop")).unwrap();
        MediaStoreFixture::new(store, directory)
    }

    ecom_core::media_store_suite!(make);
}

mod memory {
    use super::*;

    pub async fn make() -> MediaStoreFixture {
        MediaStoreFixture::new(ObjectMediaStore::in_memory(), ())
    }

    ecom_core::media_store_suite!(make);
}

#[tokio::test]
async fn a_url_names_a_directory_that_another_store_opens_again() {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("file://{}/a%20shop", directory.path().display());
    let file = MediaFile::new([7; 32], 320, ImageFormat::Png);
    ObjectMediaStore::open(&url).unwrap().put(&file, "content".into()).await.unwrap();
    let place = directory.path().join("a shop").join(file.to_string());
    assert_eq!(std::fs::read(place).unwrap(), b"content");
    assert_eq!(ObjectMediaStore::open(&url).unwrap().get(&file).await.unwrap().unwrap(), "content");
}

#[test]
fn bad_urls_are_refused_and_not_shown() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let below_a_file = format!("file://{}/hunter2", file.path().display());
    for bad in ["", "hunter2", "file:", "file://", "file:///hunter2?x=y", "file:///%ff", "ftp://hunter2", &below_a_file]
    {
        let refused = ObjectMediaStore::open(bad).unwrap_err().to_string();
        assert!(refused.contains("media") && !refused.contains("hunter2"), "{bad}: {refused}");
    }
}

#[cfg(feature = "s3")]
#[test]
fn a_url_names_a_bucket() {
    for good in [
        "s3://bucket",
        "s3://bucket/shops/tea?region=eu-central-1",
        "s3://id:hunter2%2F@bucket/?endpoint=http://127.0.0.1:9000",
    ] {
        ObjectMediaStore::check(good).unwrap();
        assert!(!format!("{:?}", ObjectMediaStore::open(good).unwrap()).contains("hunter2"), "{good}");
    }
    for bad in ["s3:", "s3://", "s3://hunter2@bucket", "s3://:hunter2@bucket", "s3://b?x=hunter2", "s3://b?endpoint=h"]
    {
        let refused = ObjectMediaStore::check(bad).unwrap_err().to_string();
        assert!(refused.contains("media") && !refused.contains("hunter2"), "{bad}: {refused}");
    }
}
