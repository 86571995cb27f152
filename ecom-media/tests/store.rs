//! The stores keep the contract of their port.

#![expect(clippy::unwrap_used, reason = "these are tests: a broken expectation panics")]

use std::time::{Duration, SystemTime};

use ecom_core::RefusedServer;
use ecom_core::catalog::{ImageFormat, MediaFile, StoredFile};
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

/// On a bucket of `TEST_S3_URL`, such as `s3://id:secret@bucket/?endpoint=http://127.0.0.1:9000`, in which tests may
/// store files. `tests/s3/run` starts a server.
#[cfg(feature = "s3")]
mod s3 {
    use std::hash::{BuildHasher as _, Hasher as _, RandomState};

    use ecom_core::testkit::{Test, run_test};
    use url::Url;

    use super::*;

    /// Returns the URL of an empty place in the bucket.
    fn place() -> Url {
        let url = std::env::var_os("TEST_S3_URL").and_then(|url| url.into_string().ok()).filter(|url| !url.is_empty());
        let Some(url) = url else {
            panic!("TEST_S3_URL is not set: run `tests/s3/run`, or set it to a bucket for tests")
        };
        let mut url = Url::parse(&url).unwrap();
        let name =
            format!("{}/test-{:016x}", url.path().trim_end_matches('/'), RandomState::new().build_hasher().finish());
        url.set_path(&name);
        url
    }

    fn make() -> MediaStoreFixture {
        MediaStoreFixture::new(ObjectMediaStore::open(place().as_str()).unwrap(), ())
    }

    #[test]
    #[ignore = "needs a bucket: run `tests/s3/run`"]
    fn a_bucket_keeps_the_contract() {
        let tests: Vec<Test<MediaStoreFixture>> = ecom_core::media_store_suite!(@tests);
        for test in tests {
            run_test(test.name, move || async move { (test.run)(make()).await });
        }
    }

    #[tokio::test]
    #[ignore = "needs a bucket: run `tests/s3/run`"]
    async fn a_bucket_that_does_not_exist_is_not_healthy() {
        let mut url = place();
        ObjectMediaStore::open(url.as_str()).unwrap().ping().await.unwrap();
        url.set_host(Some("no-such-bucket-of-ecom")).unwrap();
        let down = ObjectMediaStore::open(url.as_str()).unwrap().ping().await.unwrap_err();
        assert!(RefusedServer::among_causes(&down).unwrap().reason.contains("bucket"), "{down:?}");
    }
}

#[tokio::test]
async fn a_directory_that_was_removed_is_not_healthy() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().join("media");
    let store = ObjectMediaStore::directory(&place).unwrap();
    store.ping().await.unwrap();
    std::fs::remove_dir(&place).unwrap();
    let down = store.ping().await.unwrap_err();
    assert!(RefusedServer::among_causes(&down).unwrap().reason.contains("directory"), "{down:?}");
    store.list(None, 1).await.unwrap_err();
}

#[tokio::test]
async fn a_file_that_is_stored_again_is_young_and_other_files_stay() {
    let directory = tempfile::tempdir().unwrap();
    let store = ObjectMediaStore::directory(directory.path()).unwrap();
    let file = MediaFile::new([7; 32], 320, ImageFormat::Png);
    let place = directory.path().join(file.to_string());
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(86_400);
    let make_old = || std::fs::File::options().write(true).open(&place).unwrap().set_modified(long_ago).unwrap();
    let before = (long_ago + Duration::from_secs(3_600)).into();

    store.put(&file, "content".into()).await.unwrap();
    make_old();
    let note = place.with_file_name("note.txt");
    for other in [&note, &directory.path().join("README"), &directory.path().join("0".repeat(64))] {
        std::fs::write(other, "not an image").unwrap();
    }
    assert_eq!(store.list(None, 10).await.unwrap(), [StoredFile::new(file, long_ago.into())]);
    store.put(&file, "content".into()).await.unwrap();
    assert!(!store.remove(&file, before).await.unwrap());
    assert!(place.exists());
    make_old();
    assert!(store.remove(&file, before).await.unwrap());
    assert!(!place.exists() && note.exists());
    // The directory of an image without files is removed, too.
    std::fs::remove_file(note).unwrap();
    store.put(&file, "content".into()).await.unwrap();
    make_old();
    assert!(store.remove(&file, before).await.unwrap());
    assert!(!place.parent().unwrap().exists() && directory.path().join("README").exists());
}

/// A walk through many images must not read the names of all of them for each page.
#[tokio::test]
async fn a_walk_reads_the_names_of_the_images_once() {
    let directory = tempfile::tempdir().unwrap();
    let store = ObjectMediaStore::directory(directory.path()).unwrap();
    let file = |image| MediaFile::new([image; 32], 320, ImageFormat::Png);
    for image in [1, 2, 4] {
        store.put(&file(image), "content".into()).await.unwrap();
    }
    let page = async |after, limit| {
        let files = store.list(after, limit).await.unwrap();
        files.iter().map(|found| found.file).collect::<Vec<_>>()
    };
    assert_eq!(page(None, 1).await, [file(1)]);
    // The walk has read the names already, but finds that this image is gone.
    store.put(&file(3), "content".into()).await.unwrap();
    std::fs::remove_dir_all(directory.path().join("04".repeat(32))).unwrap();
    assert_eq!(page(Some(file(1)), 10).await, [file(2)]);
    // Other walks read them again.
    assert_eq!(page(Some(file(1)), 10).await, [file(2), file(3)]);
    assert_eq!(page(None, 1).await, [file(1)]);
    assert_eq!(page(Some(file(2)), 10).await, [file(3)]);
    assert_eq!(page(None, 10).await, [file(1), file(2), file(3)]);
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
