//! The REST API over SQLite, Tantivy and the in-process cache, all in memory.

mod product;
