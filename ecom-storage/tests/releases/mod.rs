//! The statements of the releases whose processes the schema of this release serves (`docs/upgrades.md`).
//!
//! A storage suite records the statements that it sends if `ECOM_RECORD_RELEASE` names a release:
//! `ECOM_RECORD_RELEASE=0.1.0 cargo test -p ecom-storage --test sqlite_suite` writes `0.1.0/sqlite.sql` beside this
//! file, one statement per line, with the types of its parameters. Statements that differ only in the number of their
//! parameters or in their operators are recorded once.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};

use ecom_core::port::Storage as _;
use ecom_storage::SqlStorage;

/// A statement that a release sends.
#[derive(Debug)]
pub struct Statement {
    /// The release.
    pub release: String,
    /// The text.
    pub text: String,
    /// The types of its parameters.
    pub types: Vec<String>,
}

/// The separator of a text and the types of its parameters.
const TYPES: &str = "; --";

/// The database whose statements this program records.
static DATABASE: OnceLock<&str> = OnceLock::new();
/// The lines of the statements that were recorded, by the words of their texts.
static LINES: Mutex<BTreeMap<String, String>> = Mutex::new(BTreeMap::new());

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/releases")
}

fn release_to_record() -> Option<String> {
    std::env::var_os("ECOM_RECORD_RELEASE")?.into_string().ok().filter(|release| !release.is_empty())
}

/// Records the statements of a storage from now on, if `ECOM_RECORD_RELEASE` names a release.
pub fn record(storage: &SqlStorage) {
    if release_to_record().is_some() {
        DATABASE.get_or_init(|| storage.name());
        storage.record_statements(note);
    }
}

/// Adds a statement to the file, unless one with the same words is shorter.
fn note(text: &str, types: &[&'static str]) {
    let changes_or_reads = ["SELECT", "INSERT", "UPDATE", "DELETE", "WITH"];
    let text = text.lines().map(str::trim).collect::<Vec<_>>().join(" ");
    if !changes_or_reads.iter().any(|word| text.starts_with(word)) {
        return;
    }
    let line = format!("{text}{TYPES} {}", types.join(" "));
    let mut lines = LINES.lock().unwrap();
    let known = lines.entry(words(&text)).or_default();
    if known.is_empty() || line.len() < known.len() {
        *known = line;
        write(lines.values());
    }
}

/// Returns the words of a text, each once, in the order of their first places.
fn words(text: &str) -> String {
    let mut known = BTreeSet::new();
    let mut words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).filter(|word| {
        let is_name = word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        is_name && known.insert(*word)
    });
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |all, word| all + " " + word)
}

fn write<'l>(lines: impl Iterator<Item = &'l String>) {
    let (Some(release), Some(database)) = (release_to_record(), DATABASE.get()) else { return };
    let folder = folder().join(release);
    fs::create_dir_all(&folder).unwrap();
    let sorted: BTreeSet<&str> = lines.map(String::as_str).collect();
    let text = sorted.into_iter().fold(String::new(), |text, line| text + line.trim_end() + "\n");
    fs::write(folder.join(format!("{database}.sql")), text).unwrap();
}

/// Returns the statements of the recorded releases. Panics if there are none, so that no test passes without them.
pub fn recorded(database: &str) -> Vec<Statement> {
    let folders = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir());
    let mut all = Vec::new();
    for folder in folders {
        let release = folder.file_name().unwrap().to_str().unwrap();
        let path = folder.join(format!("{database}.sql"));
        let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}: {}", path.display(), how(release)));
        for line in text.lines() {
            let (text, types) = line.rsplit_once(TYPES).unwrap();
            let types = types.split_whitespace().map(str::to_owned).collect();
            all.push(Statement { release: release.to_owned(), text: text.to_owned(), types });
        }
    }
    assert!(all.len() > 100, "{} statements are recorded: {}", all.len(), how(env!("CARGO_PKG_VERSION")));
    all
}

fn how(release: &str) -> String {
    format!("check the release out, and run this suite with ECOM_RECORD_RELEASE={release}")
}

/// Returns what is wrong with an INSERT on this schema: the columns that have neither a default nor NULL and that the
/// statement does not set. `required` has the tables and names of such columns.
pub fn unset_columns(required: &[(String, String)], text: &str) -> Vec<String> {
    let mut unset = Vec::new();
    for (start, insert) in text.match_indices("INSERT ") {
        let rest = &text[start + insert.len()..];
        let Some((_, rest)) = rest.split_once("INTO ") else { continue };
        let Some((table, rest)) = rest.split_once('(') else { continue };
        // Without a list of columns, all of them are set.
        let (table, Some((columns, _))) = (table.trim(), rest.split_once(')')) else { continue };
        if table.contains(' ') {
            continue;
        }
        let columns: Vec<&str> = columns.split(',').map(str::trim).collect();
        let missing = required.iter().filter(|(of, column)| of == table && !columns.contains(&column.as_str()));
        unset.extend(missing.map(|(of, column)| format!("{of}.{column} has no default and is not set")));
    }
    unset
}

/// Panics if statements do not work on this schema.
pub fn assert_served(wrong: &[(Statement, String)]) {
    let wrong: Vec<String> = wrong
        .iter()
        .map(|(of, why)| format!("{}: {why}\n  {}{TYPES} {}", of.release, of.text, of.types.join(" ")))
        .collect();
    assert!(
        wrong.is_empty(),
        "the schema must serve the release before this one (docs/upgrades.md): move what breaks it to a later release\n\
         {}",
        wrong.join("\n")
    );
}

#[test]
fn columns_that_an_insert_does_not_set_are_found() {
    let required = [("carts".to_owned(), "id".to_owned()), ("carts".to_owned(), "token".to_owned())];
    assert_eq!(
        unset_columns(&required, "INSERT INTO carts (id, name) VALUES (?,?)"),
        ["carts.token has no default and is not set"]
    );
    for fine in [
        "INSERT INTO carts (token, id) SELECT a, b FROM x",
        "INSERT INTO orders (id) VALUES (?)",
        "INSERT INTO carts SELECT a FROM (SELECT b)",
        "SELECT id FROM carts",
    ] {
        assert_eq!(unset_columns(&required, fine), Vec::<String>::new(), "{fine}");
    }
}

#[test]
fn statements_with_more_rows_have_the_same_words() {
    let one = "INSERT INTO t (a, b) VALUES ($1, CAST($2 AS BIGINT))";
    let two = "INSERT INTO t (a, b) VALUES ($1, CAST($2 AS BIGINT)), ($3, CAST($4 AS BIGINT))";
    assert_eq!(words(one), words(two));
    assert_ne!(words(one), words("INSERT INTO t (a, c) VALUES ($1, CAST($2 AS BIGINT))"));
}
