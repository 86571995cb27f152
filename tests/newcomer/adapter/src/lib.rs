//! Adapters of a third party: a list that is searched by filters only, and a cache that is a map. Both are written from
//! the documentation of the traits alone.

mod cache;
#[path = "../../../../examples/search_provider/list.rs"]
mod search;

pub use cache::MapCache;
pub use search::ListSearch;
