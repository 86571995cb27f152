//! A plain reference store of image files in memory, with a place for each bug.

use std::collections::HashMap;

use async_trait::async_trait;
use bytes::Bytes;
use ecom_core::catalog::MediaFile;
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
        IsDown: "`ping` fails" default,
    }
}

#[derive(Debug)]
struct Reference {
    mutant: Option<M>,
    files: Mutex<HashMap<String, Bytes>>,
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
                let before = files.get(&key).cloned().unwrap_or_default();
                [before, content].concat().into()
            }
            Some(M::Forgets) => {
                files.clear();
                content
            }
            _ => content,
        };
        files.insert(key, content);
        Ok(())
    }

    async fn get(&self, file: &MediaFile) -> Result<Option<Bytes>> {
        let found = self.files.lock().get(&self.key(file)).cloned();
        match self.mutant {
            Some(M::AbsentIsEmpty) => Ok(Some(found.unwrap_or_default())),
            Some(M::AbsentFails) if found.is_none() => Err(down()),
            _ => Ok(found),
        }
    }

    async fn ping(&self) -> Result<()> {
        if self.mutant == Some(M::IsDown) { Err(down()) } else { Ok(()) }
    }

    async fn close(&self) {}
}
