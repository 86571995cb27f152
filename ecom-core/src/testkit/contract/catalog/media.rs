//! The contract of [`MediaStore`](crate::port::MediaStore).

use std::time::Duration;

use bytes::Bytes;

use crate::domain::catalog::media::{ImageFormat, MediaFile, StoredFile};
use crate::testkit::MediaStoreFixture;
use crate::testkit::check::{Pages, holds, same, succeeds};
use crate::testkit::running::step;

suite! {
    /// Runs the suite of [`MediaStore`](crate::port::MediaStore). Takes the path of an `async fn() ->
    /// MediaStoreFixture`; see [`testkit`](crate::testkit).
    media_store_suite, media_store: fixture => &fixture, __media_store_tests: [
        a_stored_file_is_read_byte_by_byte,
        a_file_that_was_not_stored_is_absent,
        each_digest_width_and_format_is_a_file_of_its_own,
        a_file_that_is_stored_again_stays,
        a_file_that_many_store_at_once_is_whole,
        files_are_listed_in_the_order_of_their_names,
        a_file_is_removed_unless_it_is_younger_than_a_time,
        it_has_a_name_responds_and_closes,
    ]
}

fn file(digest: u8, width: u32, format: ImageFormat) -> MediaFile {
    MediaFile::new([digest; 32], width, format)
}

async fn put(f: &MediaStoreFixture, file: &MediaFile, content: &Bytes) {
    step("`put`");
    succeeds(f.store.put(file, content.clone()).await, "`put`");
}

async fn get(f: &MediaStoreFixture, file: &MediaFile) -> Option<Bytes> {
    step("`get`");
    succeeds(f.store.get(file).await, "`get`")
}

/// Some bytes that no text contains, as many as an image may have, and none.
pub async fn a_stored_file_is_read_byte_by_byte(f: &MediaStoreFixture) {
    let large: Vec<u8> = (0..3_000_000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    for (digest, content) in [(1, vec![0, 255, b'\r', b'\n', 0]), (2, large), (3, vec![7]), (4, Vec::new())] {
        let (name, content) = (file(digest, 640, ImageFormat::Png), Bytes::from(content));
        put(f, &name, &content).await;
        let found = get(f, &name).await;
        let contract = "A file is read as it was stored.";
        holds(found.as_ref() == Some(&content), contract, format_args!("{} bytes", content.len()));
    }
}

/// An empty store, and one with another file of the image.
pub async fn a_file_that_was_not_stored_is_absent(f: &MediaStoreFixture) {
    let contract = "A file that was not stored is `None`.";
    let stored = file(1, 640, ImageFormat::Jpeg);
    same(get(f, &stored).await, None::<Bytes>, contract, "an empty store");
    put(f, &stored, &Bytes::from_static(b"a")).await;
    same(get(f, &file(2, 640, ImageFormat::Jpeg)).await, None::<Bytes>, contract, "another image");
    same(get(f, &file(1, 64, ImageFormat::Jpeg)).await, None::<Bytes>, contract, "another width");
}

/// Names that share a part.
pub async fn each_digest_width_and_format_is_a_file_of_its_own(f: &MediaStoreFixture) {
    let mut files = Vec::new();
    for digest in [1, 2] {
        for width in [320, 640] {
            files.extend(ImageFormat::ALL.map(|format| file(digest, width, format)));
        }
    }
    for name in &files {
        put(f, name, &Bytes::from(name.to_string())).await;
    }
    for name in &files {
        let contract = "Each digest, width and format is a file of its own.";
        same(get(f, name).await, Some(Bytes::from(name.to_string())), contract, name);
    }
}

/// An upload is repeated after its answer was lost.
pub async fn a_file_that_is_stored_again_stays(f: &MediaStoreFixture) {
    let (name, content) = (file(1, 640, ImageFormat::Webp), Bytes::from_static(b"content"));
    put(f, &name, &content).await;
    put(f, &name, &content).await;
    same(get(f, &name).await, Some(content), "A file that is stored again stays as it is.", "two calls");
}

/// Several processes may get the same upload.
pub async fn a_file_that_many_store_at_once_is_whole(f: &MediaStoreFixture) {
    let (name, content) = (file(1, 640, ImageFormat::Jpeg), Bytes::from(vec![5; 200_000]));
    step("`put` of many tasks");
    let stored = futures::future::join_all((0..8).map(|_| f.store.put(&name, content.clone()))).await;
    for stored in stored {
        succeeds(stored, "`put` at the same time as others");
    }
    holds(get(f, &name).await == Some(content), "A file that many store at once is whole.", "eight tasks");
}

async fn list(f: &MediaStoreFixture, after: Option<MediaFile>, limit: usize) -> Vec<StoredFile> {
    step("`list`");
    succeeds(f.store.list(after, limit).await, "`list`")
}

/// Files of several images, which are stored in another order, in pages that end within an image and between two.
pub async fn files_are_listed_in_the_order_of_their_names(f: &MediaStoreFixture) {
    let contract = "Files are listed in the order of their names, byte by byte, each once.";
    same(list(f, None, 10).await, Vec::<StoredFile>::new(), contract, "an empty store");
    let mut files = Vec::new();
    for digest in [0xa0, 2, 0x0a] {
        files.extend([320, 64, 1_280].map(|width| file(digest, width, ImageFormat::Jpeg)));
    }
    files.push(file(2, 64, ImageFormat::Png));
    for name in &files {
        put(f, name, &Bytes::from_static(b"content")).await;
    }
    files.sort_unstable();
    for limit in [1, 2, 3, files.len(), 1_000] {
        let (mut walked, mut after) = (Vec::new(), None);
        let mut pages = Pages::over(files.len());
        loop {
            pages.turn();
            let page = list(f, after, limit).await;
            let contract = "Only the last page has fewer files than the limit, and none has more.";
            let is_full = page.len() == limit;
            let is_whole = is_full || walked.len() + page.len() == files.len();
            holds(page.len() <= limit && is_whole, contract, format_args!("limit {limit}"));
            walked.extend(page.iter().map(|found| found.file));
            after = walked.last().copied();
            if !is_full {
                break;
            }
        }
        same(walked, files.clone(), contract, format_args!("limit {limit}"));
    }
}

/// The margins are larger than the precision of any store.
pub async fn a_file_is_removed_unless_it_is_younger_than_a_time(f: &MediaStoreFixture) {
    let (name, other) = (file(1, 640, ImageFormat::Jpeg), file(1, 1_280, ImageFormat::Jpeg));
    for name in [&name, &other] {
        put(f, name, &Bytes::from_static(b"content")).await;
    }
    let listed = list(f, None, 10).await;
    let stored_at = listed.iter().find(|found| found.file == name).map(|found| found.stored_at);
    let Some(stored_at) = stored_at else { panic!("`list` must return the stored file, but returns {listed:?}") };
    let margin = Duration::from_secs(5);
    let removed = async |before| {
        step("`remove`");
        succeeds(f.store.remove(&name, before).await, "`remove`")
    };
    let contract = "A file that was stored at the time or later is not removed.";
    same(removed(stored_at - margin).await, false, contract, "a time before");
    holds(get(f, &name).await.is_some(), contract, "a time before");
    let contract = "A file that was stored before the time is removed, once, and no other file is.";
    same(removed(stored_at + margin).await, true, contract, "a time after");
    holds(get(f, &name).await.is_none(), contract, "the removed file");
    same(removed(stored_at + margin).await, false, contract, "a second call");
    holds(get(f, &other).await.is_some(), contract, "another file of the image");
    let left: Vec<MediaFile> = list(f, None, 10).await.iter().map(|found| found.file).collect();
    same(left, vec![other], contract, "the files that are left");
    put(f, &name, &Bytes::from_static(b"content")).await;
    holds(get(f, &name).await.is_some(), "A removed file can be stored again.", "the removed file");
}

/// The name of the store, which health shows, its ping, and its close.
pub async fn it_has_a_name_responds_and_closes(f: &MediaStoreFixture) {
    holds(!f.store.name().is_empty(), "A store has a name.", "the name");
    step("`ping`");
    succeeds(f.store.ping().await, "`ping`");
    step("`close`");
    f.store.close().await;
}
