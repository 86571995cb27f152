//! Helpers for the tests of the lists of metrics and of log events. They compare a list with a table of the docs, and
//! read the sources that use the list.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Returns the text of a file of the workspace.
pub(crate) fn text_of(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

/// Returns the text of all sources of the workspace, without the testkit and the file of the list itself.
pub(crate) fn users_of(list: &str) -> String {
    let (list, mut text) = (root().join(list), String::new());
    let mut waiting = vec![root().join("src"), root().join("examples")];
    for package in fs::read_dir(root()).unwrap() {
        let package = package.unwrap();
        let sources = package.path().join("src");
        if package.file_name().to_str().is_some_and(|name| name.starts_with("ecom-")) && sources.is_dir() {
            waiting.push(sources);
        }
    }
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("testkit") {
                waiting.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") && path != list {
                text += &fs::read_to_string(path).unwrap();
            }
        }
    }
    text
}

/// Asserts that a page of the docs has the table with these columns and rows.
pub(crate) fn assert_has_table<const N: usize>(
    page: &str,
    columns: [&str; N],
    rows: impl Iterator<Item = [String; N]>,
) {
    let mut table = format!("| {} |\n|{}\n", columns.join(" | "), "---|".repeat(N));
    for row in rows {
        writeln!(table, "| {} |", row.join(" | ")).unwrap();
    }
    assert!(text_of(page).contains(&table), "{page} must have this table:\n{table}");
}
