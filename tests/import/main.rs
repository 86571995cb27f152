//! Imports into an embedded shop: SQLite and Tantivy in memory, and SQLite in a file.

mod sources;
