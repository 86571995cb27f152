//! Every file of `fuzz/corpus` has the property of its folder.

#![expect(clippy::unwrap_used, reason = "a corpus that cannot be read is a failure")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use test_parsers::PROPERTIES;

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus")
}

#[test]
fn every_property_has_a_corpus_and_a_target() {
    let names: BTreeSet<String> = PROPERTIES.iter().map(|(name, _)| (*name).to_owned()).collect();
    let name = |path: &PathBuf| path.file_stem().unwrap().to_str().unwrap().to_owned();
    assert_eq!(files(&corpus()).iter().map(name).collect::<BTreeSet<_>>(), names);
    assert_eq!(files(&corpus().join("../fuzz_targets")).iter().map(name).collect::<BTreeSet<_>>(), names);
}

fn check(name: &str) {
    let (_, property) = PROPERTIES.iter().find(|(known, _)| *known == name).unwrap();
    let files = files(&corpus().join(name));
    assert!(files.len() >= 5, "the corpus of {name} is missing");
    for file in files {
        // A failure names the file.
        println!("{}", file.display());
        property(&fs::read(&file).unwrap());
    }
}

macro_rules! corpora {
    ($($name:ident)*) => { $(#[test] fn $name() { check(stringify!($name)); })* };
}

corpora! { cursor filters forwarded if_match merge_patch price table token }
