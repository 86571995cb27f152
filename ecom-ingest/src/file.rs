//! A file that somebody replaces.

use std::fs::{File, Metadata};
use std::io::{self, ErrorKind, Read};
use std::path::PathBuf;
use std::time::UNIX_EPOCH;

use ecom_core::catalog::FeedVersion;
use ecom_core::port::{FeedContent, FeedError, Fetched, ImportFeed};

/// A file, which is imported when it has been replaced or written.
///
/// Its version consists of its size, its modification time and, on Unix, its device and inode. To replace the file
/// without a moment at which half of it is visible, write another file beside it, and rename that. If the file is
/// written while it is imported, the import fails at the end of the file, and the file is imported again.
#[derive(Debug, Clone)]
pub struct FileFeed {
    path: PathBuf,
}

impl FileFeed {
    /// Returns the feed of a file, which need not exist yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }
}

/// Returns what tells one state of a file from another.
fn version(of: &Metadata) -> FeedVersion {
    let modified = of.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
    #[cfg(unix)]
    let inode = {
        use std::os::unix::fs::MetadataExt as _;
        format!("-{}-{}", of.dev(), of.ino())
    };
    #[cfg(not(unix))]
    let inode = "";
    let text = format!("{}-{}{inode}", of.len(), modified.as_nanos());
    FeedVersion::new(text).unwrap_or_else(|| unreachable!("five numbers are short"))
}

fn unreadable(error: io::Error) -> FeedError {
    let message = match error.kind() {
        ErrorKind::NotFound => "the file does not exist; it is imported once it does",
        ErrorKind::PermissionDenied => "the file cannot be read: the process has no permission",
        _ => "the file cannot be read",
    };
    FeedError::new(message).source(error)
}

#[async_trait::async_trait]
impl ImportFeed for FileFeed {
    fn location(&self) -> String {
        self.path.file_name().map_or_else(|| "a file".to_owned(), |name| name.to_string_lossy().into_owned())
    }

    fn identity(&self) -> String {
        format!("file {}", self.path.display())
    }

    async fn fetch(&self, known: Option<&FeedVersion>) -> Result<Fetched, FeedError> {
        let path = self.path.clone();
        // A file system can be slow, or in a network.
        let opened = tokio::task::spawn_blocking(move || {
            // To open a pipe would wait for its writer.
            if !std::fs::metadata(&path)?.is_file() {
                return Ok(None);
            }
            let file = File::open(&path)?;
            let version = version(&file.metadata()?);
            Ok::<_, io::Error>(Some((file, version)))
        });
        let opened = opened.await.map_err(|e| FeedError::new("the file cannot be read").source(e))?;
        let Some((file, version)) = opened.map_err(unreadable)? else {
            return Err(FeedError::new("the path is not that of a file"));
        };
        if known == Some(&version) {
            return Ok(Fetched::Unchanged);
        }
        let reader = Whole { file, version: version.clone() };
        Ok(Fetched::Changed(FeedContent::from_reader(Some(version), reader)))
    }
}

/// Reads a file, and fails at its end if it was written meanwhile.
struct Whole {
    file: File,
    version: FeedVersion,
}

impl Read for Whole {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read(to)?;
        if n == 0 && !to.is_empty() && version(&self.file.metadata()?) != self.version {
            let error = FeedError::new("the file was written while it was read; replace it by renaming another one");
            return Err(io::Error::other(error));
        }
        Ok(n)
    }
}
