//! The files of a log, which are replaced when they are full.
//!
//! Before each write, a missing file is created again, and the rest of a failed write is removed. So the log continues
//! when the disk has space again, every line is complete, and lost lines are counted. A full file that cannot be
//! replaced goes on growing, because a large file is better than lost lines.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many bytes of lines are written at once at most, unless one line is longer.
const AT_ONCE: usize = 1 << 16;

/// A file of a log. Each call of `write` is one line; `flush` writes the lines to the file. No call returns an error:
/// lines that cannot be written are counted and dropped.
pub(super) struct RollingFile {
    path: PathBuf,
    /// The size at which the file is replaced.
    limit: u64,
    /// How many files are kept, with this one.
    files: u32,
    file: Option<File>,
    /// The size of the file.
    size: u64,
    lines: Vec<u8>,
    count: usize,
    /// The lines that could not be written.
    lost: Arc<AtomicUsize>,
    is_failing: bool,
    /// Whether the file is full and could not be replaced.
    is_stuck: bool,
}

impl RollingFile {
    /// Opens a file, and creates its directory.
    pub fn open(path: PathBuf, limit: u64, files: u32, lost: Arc<AtomicUsize>) -> io::Result<Self> {
        let lines = Vec::with_capacity(AT_ONCE);
        let (file, size, count) = (None, 0, 0);
        let mut log = Self { path, limit, files, file, size, lines, count, lost, is_failing: false, is_stuck: false };
        log.reopen()?;
        Ok(log)
    }

    fn reopen(&mut self) -> io::Result<()> {
        self.file = None;
        if let Some(directory) = self.path.parent() {
            fs::create_dir_all(directory)?;
        }
        let file = OpenOptions::new().append(true).create(true).open(&self.path)?;
        self.size = file.metadata()?.len();
        self.file = Some(file);
        Ok(())
    }

    /// Returns the path of an older file: 1 is the youngest.
    fn older(&self, n: u32) -> PathBuf {
        let mut path = self.path.as_os_str().to_owned();
        path.push(format!(".{n}"));
        path.into()
    }

    /// Begins a new file, and removes the oldest one if there are too many.
    fn replace(&mut self) -> io::Result<()> {
        self.file = None;
        if self.files <= 1 {
            fs::remove_file(&self.path)?;
        } else {
            // If an earlier attempt failed halfway, a number is free, and the files from that number on keep theirs.
            let last = self.files - 1;
            let free = (1..last).find(|n| !self.older(*n).exists()).unwrap_or(last);
            for n in (1..free).rev() {
                match fs::rename(self.older(n), self.older(n + 1)) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
            fs::rename(&self.path, self.older(1))?;
        }
        self.reopen()
    }

    /// Begins a new file, or goes on with the full one if it cannot be replaced.
    fn replace_or_go_on(&mut self) -> io::Result<()> {
        let was_stuck = self.is_stuck;
        match self.replace() {
            Ok(()) => self.is_stuck = false,
            Err(error) => {
                self.reopen()?;
                self.is_stuck = true;
                if !was_stuck {
                    let _ = writeln!(io::stderr(), "the full log file cannot be replaced, and grows: {error}");
                }
            }
        }
        if was_stuck && !self.is_stuck {
            let _ = writeln!(io::stderr(), "the full log file was replaced");
        }
        Ok(())
    }

    /// Writes the lines that wait, all or none of them.
    fn store(&mut self) -> io::Result<()> {
        // Somebody may have removed, moved or emptied the file.
        let found = fs::metadata(&self.path);
        if self.file.is_none() || !found.is_ok_and(|found| found.len() == self.size) {
            self.reopen()?;
        }
        let added = u64::try_from(self.lines.len()).unwrap_or(u64::MAX);
        if self.size > 0 && self.size.saturating_add(added) > self.limit {
            self.replace_or_go_on()?;
        }
        let Some(file) = &mut self.file else { return Err(io::ErrorKind::NotFound.into()) };
        if let Err(error) = file.write_all(&self.lines) {
            let _ = file.set_len(self.size);
            return Err(error);
        }
        self.size += added;
        Ok(())
    }

    fn write_waiting(&mut self) {
        if self.lines.is_empty() {
            return;
        }
        let was_failing = self.is_failing;
        match self.store() {
            Ok(()) => self.is_failing = false,
            Err(error) => {
                self.lost.fetch_add(self.count, Ordering::Relaxed);
                self.file = None;
                self.is_failing = true;
                if !was_failing {
                    let _ = writeln!(io::stderr(), "a log file cannot be written, and lines are dropped: {error}");
                }
            }
        }
        if was_failing && !self.is_failing {
            let _ = writeln!(io::stderr(), "the log file can be written again");
        }
        self.lines.clear();
        self.count = 0;
    }
}

impl Write for RollingFile {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.lines.len() + line.len() > AT_ONCE {
            self.write_waiting();
        }
        self.lines.extend_from_slice(line);
        self.count += 1;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.write_waiting();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    struct Log {
        file: RollingFile,
        lost: Arc<AtomicUsize>,
    }

    impl Log {
        fn open(path: &Path, limit: u64, files: u32) -> Self {
            let lost = Arc::new(AtomicUsize::new(0));
            Self { file: RollingFile::open(path.to_owned(), limit, files, lost.clone()).unwrap(), lost }
        }

        fn line(&mut self, line: &str) {
            self.file.write_all(format!("{line}\n").as_bytes()).unwrap();
            self.file.flush().unwrap();
        }

        fn lost(&self) -> usize {
            self.lost.load(Ordering::Relaxed)
        }
    }

    fn read(path: &Path) -> String {
        fs::read_to_string(path).unwrap()
    }

    #[test]
    fn a_full_file_is_replaced_and_the_oldest_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("made/server.log");
        let mut log = Log::open(&path, 20, 3);
        for n in 1..=9 {
            log.line(&format!("line {n:02}"));
        }
        // Two lines of eight bytes fit into a file.
        assert_eq!(read(&path), "line 09\n");
        assert_eq!(read(&path.with_file_name("server.log.1")), "line 07\nline 08\n");
        assert_eq!(read(&path.with_file_name("server.log.2")), "line 05\nline 06\n");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 3);
        // A restart continues the file, and a line that is longer than a file has one of its own.
        let mut log = Log::open(&path, 20, 3);
        log.line("line 10");
        log.line(&"long ".repeat(9));
        assert_eq!(read(&path.with_file_name("server.log.1")), "line 09\nline 10\n");
        assert_eq!((read(&path).len(), log.lost()), (46, 0));
    }

    #[test]
    fn one_file_is_emptied() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("server.log");
        let mut log = Log::open(&path, 10, 1);
        log.line("line 1");
        log.line("line 2");
        assert_eq!((read(&path).as_str(), fs::read_dir(dir.path()).unwrap().count()), ("line 2\n", 1));
    }

    #[test]
    fn a_full_file_that_cannot_be_replaced_grows_until_it_can() {
        let dir = tempfile::tempdir().unwrap();
        let (path, older) = (dir.path().join("server.log"), dir.path().join("server.log.1"));
        let mut log = Log::open(&path, 10, 2);
        log.line("line 1");
        // No file can take the place of a directory.
        fs::create_dir(&older).unwrap();
        log.line("line 2");
        log.line("line 3");
        assert_eq!((read(&path).as_str(), log.lost()), ("line 1\nline 2\nline 3\n", 0));
        assert!(log.file.is_stuck);
        fs::remove_dir(&older).unwrap();
        log.line("line 4");
        assert_eq!((read(&path), read(&older)), ("line 4\n".to_owned(), "line 1\nline 2\nline 3\n".to_owned()));
        assert!(!log.file.is_stuck);
    }

    #[test]
    fn older_files_stay_if_the_number_before_them_is_free() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("server.log");
        fs::write(dir.path().join("server.log.2"), "older\n").unwrap();
        let mut log = Log::open(&path, 10, 4);
        log.line("line 1");
        log.line("line 2");
        let files = [1, 2].map(|n| read(&dir.path().join(format!("server.log.{n}"))));
        assert_eq!(files, ["line 1\n", "older\n"]);
    }

    #[test]
    fn the_log_goes_on_after_its_directory_has_vanished() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("logs/server.log");
        let mut log = Log::open(&path, 1_000, 3);
        log.line("line 1");
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
        log.line("line 2");
        assert_eq!(read(&path), "line 2\n");
        // A file in the place of the directory.
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path.parent().unwrap(), "").unwrap();
        log.line("line 3");
        log.line("line 4");
        assert_eq!(log.lost(), 2);
        fs::remove_file(path.parent().unwrap()).unwrap();
        log.line("line 5");
        assert_eq!((read(&path).as_str(), log.lost()), ("line 5\n", 2));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_log_goes_on_after_the_disk_was_full() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("server.log");
        // Every write to this device fails as on a full disk.
        std::os::unix::fs::symlink("/dev/full", &path).unwrap();
        let mut log = Log::open(&path, 1_000, 3);
        log.line("line 1");
        log.line("line 2");
        assert_eq!(log.lost(), 2);
        fs::remove_file(&path).unwrap();
        log.line("line 3");
        assert_eq!((read(&path).as_str(), log.lost()), ("line 3\n", 2));
    }
}
