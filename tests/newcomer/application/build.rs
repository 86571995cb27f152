//! Extracts the program and its dependencies from the README.

use std::path::Path;
use std::{env, fs};

/// Returns the first block of code in `text` that is marked as `language`.
fn block<'t>(text: &'t str, language: &str) -> &'t str {
    let (_, rest) = text.split_once(&format!("```{language}\n")).expect("the README has such a block");
    rest.split_once("```").expect("the block ends").0
}

fn main() {
    let root = Path::new(&env::var("CARGO_MANIFEST_DIR").expect("set by Cargo")).join("../../..");
    let readme = root.join("README.md");
    println!("cargo::rerun-if-changed={}", readme.display());
    let readme = fs::read_to_string(readme).expect("the README");

    let named = block(&readme, "toml").replace("version = \"0.1\"", "path = \"../../..\"");
    let manifest = fs::read_to_string("Cargo.toml").expect("the manifest");
    assert!(manifest.contains(&named), "the README names other dependencies than Cargo.toml:\n{named}");

    let out = Path::new(&env::var("OUT_DIR").expect("set by Cargo")).join("readme.rs");
    fs::write(out, block(&readme, "rust")).expect("a file of the build");
}
