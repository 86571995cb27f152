//! The mailer that writes files.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use ecom_core::platform::MailMessage;
use ecom_core::port::{MailError, Mailer};
use ecom_core::{Error, FieldCode, Result};

use crate::eml::message;

/// A mailer that writes each mail to a file: `file:///<directory>`.
///
/// A mail is the file `<id>.eml`, which mail programs open. It appears with its whole content, and on Unix only its
/// owner can read it (mode 0600), because it contains personal data and perhaps a link that sets a password. The files
/// stay until somebody removes them.
#[derive(Debug, Clone)]
pub struct FileMailer {
    directory: PathBuf,
}

impl FileMailer {
    /// Returns a mailer that writes to a directory, which is created if it does not exist.
    ///
    /// # Errors
    /// `Validation` on `mailer` if the directory cannot be created or is not one.
    pub fn open(directory: impl Into<PathBuf>) -> Result<Self> {
        let directory = directory.into();
        let mut builder = DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&directory).map_err(|e| {
            let message = format!("must be a directory that exists or can be created ({})", e.kind());
            Error::invalid("mailer", FieldCode::OutOfBounds, message)
        })?;
        Ok(Self { directory })
    }

    /// Returns the directory of a URL, percent-decoded.
    ///
    /// # Errors
    /// `Validation` on `mailer` if the URL does not start with `file://` or names no directory.
    pub fn directory_of(url: &str) -> Result<PathBuf> {
        let bad = |message| Error::invalid("mailer", FieldCode::Malformed, message);
        let path = url.strip_prefix("file://").ok_or_else(|| bad("must start with `file://`"))?;
        if path.is_empty() || path.contains(['?', '#']) {
            return Err(bad("must name a directory, such as `file:///var/mail/shop`, and nothing else"));
        }
        let path = percent_encoding::percent_decode_str(path).decode_utf8();
        let path = path.map_err(|_| bad("must name a directory in UTF-8"))?;
        Ok(PathBuf::from(&*path))
    }

    /// Returns the directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }
}

#[async_trait]
impl Mailer for FileMailer {
    fn name(&self) -> &'static str {
        "file"
    }

    async fn send(&self, mail: &MailMessage) -> Result<(), MailError> {
        let (bytes, id, directory) = (message(mail)?.formatted(), mail.id, self.directory.clone());
        let written = tokio::task::spawn_blocking(move || {
            let partial = directory.join(format!(".{id}.partial"));
            let written = write(&partial, &bytes).and_then(|()| {
                std::fs::rename(&partial, directory.join(format!("{id}.eml")))?;
                // Syncs the directory too, so that the name of the file is on the disk.
                if cfg!(unix) { File::open(&directory)?.sync_all() } else { Ok(()) }
            });
            if written.is_err() {
                let _ = std::fs::remove_file(&partial);
            }
            written
        });
        let failed = || MailError::temporary("the file of a mail cannot be written");
        written.await.map_err(|e| failed().source(e))?.map_err(|e| failed().source(e))
    }

    async fn close(&self) {}
}

/// Writes a new file that only its owner can read.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}
