//! Generations of an index and their files.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use ecom_core::id::ProductId;
use ecom_core::port::Checkpoint;
use ecom_core::{Error, Result};
use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};
use tantivy::columnar::Column;
use tantivy::directory::MmapDirectory;
use tantivy::indexer::{IndexWriterOptions, LogMergePolicy};
use tantivy::schema::IndexRecordOption;
use tantivy::{
    DocSet, Index, IndexReader, IndexSettings, IndexWriter, ReloadPolicy, Searcher, SegmentReader, TERMINATED,
    TantivyError, Term,
};
use uuid::Uuid;

use super::error::{at_start, failed, is_unusable, unavailable};
use super::schema::{FORMAT, Fields, column, tokenizers};
use super::view::View;

/// The share of replaced documents in a segment above which the segment is merged.
const DEAD_BEFORE_MERGE: f32 = 0.3;

/// One index: the documents up to a checkpoint.
pub(super) struct Generation {
    index: Index,
    reader: IndexReader,
    /// The lists and expansions that searches share, for the state of the index that was searched last.
    view: RwLock<Option<Arc<View>>>,
    /// Serializes reloads, so that the last reload to end is also the last one that has read the directory.
    reloading: Mutex<()>,
    /// The number and the directory, or `None` for an index in memory.
    place: Option<(u64, PathBuf)>,
}

impl Generation {
    /// Creates an empty generation in memory.
    pub(super) fn in_memory() -> Result<Self> {
        let (schema, _) = Fields::new();
        Self::of(Index::create_in_ram(schema), None).map_err(failed("creating an index in memory"))
    }

    fn of(mut index: Index, place: Option<(u64, PathBuf)>) -> tantivy::Result<Self> {
        index.set_tokenizers(tokenizers());
        // Nothing reads the document store, so it needs no cache.
        let reader =
            index.reader_builder().reload_policy(ReloadPolicy::Manual).doc_store_cache_num_blocks(1).try_into()?;
        Ok(Self { index, reader, view: RwLock::default(), reloading: Mutex::new(()), place })
    }

    fn open(number: u64, path: &Path, thorough: bool) -> tantivy::Result<Self> {
        let index = Index::open(MmapDirectory::open(path)?)?;
        if index.schema() != Fields::new().0 {
            return Err(TantivyError::SchemaError("the index has fields of another release".to_owned()));
        }
        if thorough && !index.validate_checksum()?.is_empty() {
            return Err(TantivyError::InternalError("files of the index are damaged".to_owned()));
        }
        Self::of(index, Some((number, path.to_owned())))
    }

    pub(super) fn searcher(&self) -> Searcher {
        self.reader.searcher()
    }

    /// Returns the state that searches read, opened for searches.
    pub(super) fn view(&self, fields: &Fields) -> tantivy::Result<Arc<View>> {
        if let Some(view) = self.opened() {
            return Ok(view);
        }
        let mut place = self.view.write();
        let searcher = self.searcher();
        if let Some(view) = place.as_ref().filter(|view| view.is_of(&searcher)) {
            return Ok(view.clone());
        }
        let view = Arc::new(View::open(searcher, place.as_deref(), fields)?);
        *place = Some(view.clone());
        Ok(view)
    }

    /// As [`Self::view`], if an earlier search has opened this state.
    pub(super) fn opened(&self) -> Option<Arc<View>> {
        let searcher = self.searcher();
        self.view.read().as_ref().filter(|view| view.is_of(&searcher)).cloned()
    }

    /// Creates a writer with one thread that indexes and one that merges, and removes the files of writers that ended
    /// in the middle of a commit.
    pub(super) fn writer(&self, memory: usize) -> Result<IndexWriter> {
        let options = IndexWriterOptions::builder()
            .memory_budget_per_thread(memory)
            .num_worker_threads(1)
            .num_merge_threads(1)
            .build();
        let writer = self.index.writer_with_options(options).map_err(failed("opening the index to write"))?;
        let mut merges = LogMergePolicy::default();
        merges.set_del_docs_ratio_before_merge(DEAD_BEFORE_MERGE);
        writer.set_merge_policy(Box::new(merges));
        // After a kill, the same commit comes again, and Tantivy names the list of deleted documents of a segment by
        // the number of the operation: it would refuse to write the file that the killed writer has left, each time.
        writer.garbage_collect_files().wait().map_err(failed("removing the files of a commit that did not end"))?;
        Ok(writer)
    }

    /// Makes the committed documents searchable.
    pub(super) fn reload(&self) -> tantivy::Result<()> {
        let _one_at_a_time = self.reloading.lock();
        self.reader.reload()
    }

    /// Syncs the directory, so that the commit survives a power failure: Tantivy syncs the file, but not its new name.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.place.as_ref().map_or(Ok(()), |(_, path)| sync_directory(path))
    }

    pub(super) fn checkpoint(&self) -> Result<Option<Checkpoint>> {
        let metas = self.index.load_metas().map_err(failed("reading the checkpoint of the index"))?;
        Ok(metas.payload.and_then(|p| {
            serde_json::from_str(&p)
                .inspect_err(|error| tracing::warn!(%error, "the checkpoint of the search index cannot be read"))
                .ok()
        }))
    }

    pub(super) fn meta_stamp(&self) -> Option<Stamp> {
        self.place.as_ref().and_then(|(_, path)| Stamp::of(&path.join("meta.json")))
    }

    pub(super) fn revision_lookup(&self) -> tantivy::Result<RevisionLookup> {
        let searcher = self.searcher();
        let revisions = searcher
            .segment_readers()
            .iter()
            .map(|s| s.fast_fields().i64(column::REVISION))
            .collect::<tantivy::Result<_>>()?;
        Ok(RevisionLookup { searcher, revisions })
    }

    /// Returns id and revision of the live documents after `after`, sorted by id.
    pub(super) fn revisions(
        &self,
        fields: &Fields,
        after: Option<ProductId>,
        limit: usize,
    ) -> Result<Vec<(ProductId, i64)>> {
        let searcher = self.searcher();
        let mut found = Vec::new();
        for segment in searcher.segment_readers() {
            first_of_segment(segment, fields, after, limit, &mut found).map_err(failed("reading revisions"))?;
        }
        found.sort_unstable();
        found.truncate(limit);
        Ok(found)
    }
}

fn first_of_segment(
    segment: &SegmentReader,
    fields: &Fields,
    after: Option<ProductId>,
    limit: usize,
    found: &mut Vec<(ProductId, i64)>,
) -> tantivy::Result<()> {
    let revisions = segment.fast_fields().i64(column::REVISION)?;
    let live = segment.fast_fields().u64(column::LIVE)?;
    let ids = segment.inverted_index(fields.id)?;
    let mut range = ids.terms().range();
    if let Some(after) = after {
        range = range.gt(after.0.as_bytes());
    }
    let mut stream = range.into_stream()?;
    let mut left = limit;
    while left > 0 && stream.advance() {
        let Ok(id) = Uuid::from_slice(stream.key()) else { continue };
        let mut postings = ids.read_postings_from_terminfo(stream.value(), IndexRecordOption::Basic)?;
        while postings.doc() != TERMINATED {
            let doc = postings.doc();
            if !segment.is_deleted(doc)
                && live.first(doc) == Some(1)
                && let Some(revision) = revisions.first(doc)
            {
                found.push((ProductId(id), revision));
                left -= 1;
            }
            postings.advance();
        }
    }
    Ok(())
}

/// Looks up the revision of a product in the index, including that of a deleted product.
pub(super) struct RevisionLookup {
    searcher: Searcher,
    revisions: Vec<Column<i64>>,
}

impl RevisionLookup {
    pub(super) fn find(&self, fields: &Fields, id: ProductId) -> tantivy::Result<Option<i64>> {
        let term = Term::from_field_bytes(fields.id, id.0.as_bytes());
        for (segment, revisions) in self.searcher.segment_readers().iter().zip(&self.revisions) {
            let Some(mut postings) =
                segment.inverted_index(fields.id)?.read_postings(&term, IndexRecordOption::Basic)?
            else {
                continue;
            };
            while postings.doc() != TERMINATED {
                if !segment.is_deleted(postings.doc()) {
                    return Ok(revisions.first(postings.doc()));
                }
                postings.advance();
            }
        }
        Ok(None)
    }
}

/// Distinguishes the states of a file that is replaced by rename.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    modified: Option<SystemTime>,
    length: u64,
    file: u64,
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let meta = fs::metadata(path).ok()?;
        #[cfg(unix)]
        let file = std::os::unix::fs::MetadataExt::ino(&meta);
        #[cfg(not(unix))]
        let file = 0;
        Some(Self { modified: meta.modified().ok(), length: meta.len(), file })
    }
}

/// The content of `CURRENT`.
#[derive(Serialize, Deserialize)]
struct Current {
    format: u32,
    generation: u64,
}

/// The directory of an index.
pub(super) struct Layout {
    directory: PathBuf,
}

const GENERATION: &str = "gen-";
const DEAD: &str = "dead-";

impl Layout {
    /// Creates the directory if it does not exist, and checks that it is writable.
    pub(super) fn open(directory: PathBuf) -> Result<Self> {
        fs::create_dir_all(&directory).map_err(at_start(
            "names a directory that cannot be created: it must not be a file, nor lie below one, and this process must \
             be allowed to create it",
        ))?;
        let layout = Self { directory };
        layout.open_lock_file().map_err(at_start(
            "names a directory that cannot be written to: allow this process to write to it, or name another directory",
        ))?;
        // A `CURRENT` that is a directory cannot be replaced by a rename.
        match fs::read(layout.current_file()) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(at_start(
                "names a directory whose index cannot be read: allow this process to read it, or remove the directory, \
                 so that the index is rebuilt",
            )(e)),
            _ => Ok(layout),
        }
    }

    pub(super) fn lock_file(&self) -> Result<File> {
        self.open_lock_file().map_err(|e| Error::internal("writing to the directory of the search index", e))
    }

    fn open_lock_file(&self) -> io::Result<File> {
        OpenOptions::new().create(true).truncate(false).write(true).open(self.directory.join("writer.lock"))
    }

    fn current_file(&self) -> PathBuf {
        self.directory.join("CURRENT")
    }

    pub(super) fn current_stamp(&self) -> Option<Stamp> {
        Stamp::of(&self.current_file())
    }

    fn path(&self, number: u64) -> PathBuf {
        self.directory.join(format!("{GENERATION}{number}"))
    }

    /// Opens the generation in use, or returns `None` if there is none, or none that this version can read. If
    /// `thorough`, it also reads every file once to check that it is intact.
    pub(super) fn open_current(&self, thorough: bool) -> Result<Option<Generation>> {
        let bytes = match fs::read(self.current_file()) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(unavailable(e)),
        };
        let Ok(Current { format: FORMAT, generation }) = serde_json::from_slice(&bytes) else {
            return Ok(None);
        };
        let path = self.path(generation);
        // Damaged files can make Tantivy panic.
        let opened = catch_unwind(AssertUnwindSafe(|| Generation::open(generation, &path, thorough)));
        match opened {
            Ok(Ok(generation)) => Ok(Some(generation)),
            Ok(Err(error)) if is_unusable(&error) => {
                tracing::warn!(?error, "a generation of the search index cannot be opened");
                Ok(None)
            }
            Ok(Err(error)) => Err(failed("opening the search index")(error)),
            Err(_) => {
                tracing::warn!("a generation of the search index is damaged");
                Ok(None)
            }
        }
    }

    /// Creates a new, empty generation beside the others. Only the holder of the lock may call it.
    pub(super) fn create(&self) -> Result<Generation> {
        let number = self.entries()?.into_iter().map(|(n, _)| n).max().unwrap_or(0) + 1;
        let path = self.path(number);
        fs::create_dir(&path).map_err(unavailable)?;
        let made = MmapDirectory::open(&path)
            .map_err(TantivyError::from)
            .and_then(|d| Index::create(d, Fields::new().0, IndexSettings::default()))
            .and_then(|index| Generation::of(index, Some((number, path.clone()))));
        made.map_err(|e| {
            remove_directory(&path);
            failed("creating a new search index")(e)
        })
    }

    /// Puts `generation` into use. If this fails, the old one stays in use.
    pub(super) fn publish(&self, generation: &Generation) -> Result<()> {
        let Some((number, _)) = generation.place else { return Ok(()) };
        let text = serde_json::to_vec(&Current { format: FORMAT, generation: number })
            .map_err(|e| Error::internal("encoding the name of the new search index", e))?;
        let new = self.directory.join("CURRENT.new");
        let write = || {
            generation.sync()?;
            let mut file = File::create(&new)?;
            file.write_all(&text)?;
            file.sync_all()?;
            // The name of the generation is on disk before `CURRENT` refers to it.
            sync_directory(&self.directory)?;
            fs::rename(&new, self.current_file())
        };
        write().map_err(unavailable)?;
        if let Err(error) = sync_directory(&self.directory) {
            // The generation is already in use. After a power failure, `CURRENT` could name the old one, which has been
            // removed. The next `open` detects this, and the index is rebuilt.
            tracing::warn!(%error, "the directory of the search index could not be synced to disk");
        }
        Ok(())
    }

    /// Removes a generation that is no longer in use.
    pub(super) fn remove(&self, generation: &Generation) {
        if let Some((number, path)) = &generation.place {
            // Renamed first, so that a reader that is about to open it fails at once and reads `CURRENT` again.
            let dead = self.directory.join(format!("{DEAD}{number}"));
            remove_directory(if fs::rename(path, &dead).is_ok() { &dead } else { path });
        }
    }

    /// Removes the generations that other processes left behind when they died.
    pub(super) fn remove_others(&self, keep: &Generation) {
        let keep = keep.place.as_ref().map(|(_, path)| path);
        for (_, path) in self.entries().unwrap_or_default() {
            if Some(&path) != keep {
                remove_directory(&path);
            }
        }
    }

    /// Returns all generations, including incomplete and half-removed ones.
    fn entries(&self) -> Result<Vec<(u64, PathBuf)>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.directory).map_err(unavailable)? {
            let entry = entry.map_err(unavailable)?;
            let name = entry.file_name();
            let number = name.to_str().and_then(|n| n.strip_prefix(GENERATION).or_else(|| n.strip_prefix(DEAD)));
            if let Some(number) = number.and_then(|n| n.parse().ok()) {
                found.push((number, entry.path()));
            }
        }
        Ok(found)
    }
}

fn remove_directory(path: &Path) {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(%error, "an old search index could not be removed; the next writer will try again");
        }
        _ => {}
    }
}

#[cfg(unix)]
fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// On other systems, a rename cannot be made more durable.
#[cfg(not(unix))]
fn sync_directory(_: &Path) -> io::Result<()> {
    Ok(())
}
