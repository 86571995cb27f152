//! A plain reference store of image files in memory, with a place for each bug.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use ecom_core::catalog::{MediaFile, StoredFile};
use ecom_core::clock::{Clock as _, SystemClock, Timestamp};
use ecom_core::port::MediaStore;
use ecom_core::testkit::MediaStoreFixture;
use ecom_core::{Dependency, Error, Result};
use parking_lot::Mutex;

use self::MediaMutant as M;

crate::runner::mutants! {
    /// A bug of a store of image files.
    MediaMutant {
        ForgetsDigest: "files of the same width and format are one file" default,
        ForgetsWidth: "all widths of an image are one file" default,
        ForgetsFormat: "all formats of an image are one file" default,
        AbsentIsEmpty: "a file that was not stored is read as an empty one" default,
        AbsentFails: "the read of a file that was not stored fails" default,
        LargeFilesAreCut: "a file is cut off after 64 KiB" default,
        FilesAreText: "bytes that are no text are replaced" default,
        StoresOnce: "a file that is there cannot be stored again" default,
        Appends: "a file that is stored again is longer" default,
        Forgets: "the second file replaces the first one" default,
        ListsUnsorted: "files are listed by their formats first" default,
        ListsByWidth: "files of an image are listed by their widths as numbers" default,
        ListsAgain: "a page begins with the last file of the page before" default,
        ListsAll: "`list` ignores its limit" default,
        RemovesYoung: "`remove` removes young files too" default,
        RemovesNothing: "`remove` removes nothing and returns true" default,
        RemovesAll: "`remove` removes all files of the image" default,
        RemovesAbsent: "`remove` of an absent file returns true" default,
        IsDown: "`ping` fails" default,
    }
}

#[derive(Debug)]
struct Reference {
    mutant: Option<M>,
    files: Mutex<HashMap<String, (MediaFile, Bytes, Timestamp)>>,
}

/// An empty store, with a bug or without.
pub(crate) fn media_fixture(mutant: Option<M>) -> MediaStoreFixture {
    MediaStoreFixture::new(Reference { mutant, files: Mutex::default() }, ())
}

impl Reference {
    fn key(&self, file: &MediaFile) -> String {
        let name = file.to_string();
        match (self.mutant, name.split_once('/'), name.rsplit_once('.')) {
            (Some(M::ForgetsDigest), Some((_, rest)), _) | (Some(M::ForgetsFormat), _, Some((rest, _))) => {
                rest.to_owned()
            }
            (Some(M::ForgetsWidth), Some((digest, _)), Some((_, format))) => format!("{digest}.{format}"),
            _ => name.clone(),
        }
    }
}

fn down() -> Error {
    Error::unavailable(Dependency::Media, "the store is down")
}

#[async_trait]
impl MediaStore for Reference {
    fn name(&self) -> &'static str {
        "reference"
    }

    async fn put(&self, file: &MediaFile, content: Bytes) -> Result<()> {
        let mut files = self.files.lock();
        let key = self.key(file);
        let content = match self.mutant {
            Some(M::LargeFilesAreCut) => content.slice(..content.len().min(65_536)),
            Some(M::FilesAreText) => String::from_utf8_lossy(&content).into_owned().into(),
            Some(M::StoresOnce) if files.contains_key(&key) => return Err(down()),
            Some(M::Appends) => {
                let before = files.get(&key).map(|(_, content, _)| content.clone()).unwrap_or_default();
                [before, content].concat().into()
            }
            Some(M::Forgets) => {
                files.clear();
                content
            }
            _ => content,
        };
        files.insert(key, (*file, content, SystemClock.now()));
        Ok(())
    }

    async fn get(&self, file: &MediaFile) -> Result<Option<Bytes>> {
        let found = self.files.lock().get(&self.key(file)).map(|(_, content, _)| content.clone());
        match self.mutant {
            Some(M::AbsentIsEmpty) => Ok(Some(found.unwrap_or_default())),
            Some(M::AbsentFails) if found.is_none() => Err(down()),
            _ => Ok(found),
        }
    }

    async fn list(&self, after: Option<MediaFile>, limit: usize) -> Result<Vec<StoredFile>> {
        let mut files: Vec<StoredFile> =
            self.files.lock().values().map(|(file, _, stored_at)| StoredFile::new(*file, *stored_at)).collect();
        let width = |file: &MediaFile| -> u32 {
            let name = file.to_string();
            name[65..].split('.').next().unwrap_or_default().parse().unwrap_or_default()
        };
        files.sort_unstable_by_key(|found| found.file);
        match self.mutant {
            Some(M::ListsUnsorted) => files.sort_by_key(|found| found.file.format().extension()),
            Some(M::ListsByWidth) => files.sort_by_key(|found| (found.file.digest(), width(&found.file))),
            _ => {}
        }
        let begin = after.and_then(|after| files.iter().position(|found| found.file == after));
        let begin = begin.map_or(0, |at| if self.mutant == Some(M::ListsAgain) { at } else { at + 1 });
        let limit = if self.mutant == Some(M::ListsAll) { usize::MAX } else { limit };
        Ok(files.into_iter().skip(begin).take(limit).collect())
    }

    async fn remove(&self, file: &MediaFile, before: Timestamp) -> Result<bool> {
        let mut files = self.files.lock();
        let before = if self.mutant == Some(M::RemovesYoung) { before + Duration::from_secs(60) } else { before };
        let Some((_, _, stored_at)) = files.get(&self.key(file)) else {
            return Ok(self.mutant == Some(M::RemovesAbsent));
        };
        if *stored_at >= before {
            return Ok(false);
        }
        match self.mutant {
            Some(M::RemovesNothing) => {}
            Some(M::RemovesAll) => files.retain(|_, (other, ..)| other.digest() != file.digest()),
            _ => drop(files.remove(&self.key(file))),
        }
        Ok(true)
    }

    async fn ping(&self) -> Result<()> {
        if self.mutant == Some(M::IsDown) { Err(down()) } else { Ok(()) }
    }

    async fn close(&self) {}
}
