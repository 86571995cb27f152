//! Search engines behind [`ecom_core::port::SearchProvider`].
//!
//! | Feature | Adapter | URL |
//! |---|---|---|
//! | `tantivy` (default) | [`TantivySearch`]: embedded, disk or memory | `tantivy://<directory>`, `tantivy://memory` |
//! | `elasticsearch` | [`ElasticsearchSearch`]: Elasticsearch 8 and 9, OpenSearch 2 and 3 | `elasticsearch+https://<host>`, `opensearch+https://<host>` |
//! | `meilisearch` | [`MeilisearchSearch`]: Meilisearch 1.18 and newer | `meilisearch+https://:<key>@<host>` |
//!
//! `open` opens an index, which the application passes to the shop. Every adapter runs the suite
//! `ecom_core::search_suite!` (feature `testkit`). An adapter of your own runs it with one line in a test crate:
//!
//! ```ignore
//! mod my_engine {
//!     ecom_core::search_suite!(crate::start_my_engine);
//! }
//! ```

#[cfg(feature = "elasticsearch")]
mod elasticsearch;
#[cfg(feature = "meilisearch")]
mod meilisearch;
#[cfg(any(feature = "elasticsearch", feature = "meilisearch", feature = "tantivy"))]
mod ranking;
#[cfg(any(feature = "elasticsearch", feature = "meilisearch"))]
mod remote;
#[cfg(feature = "tantivy")]
mod tantivy;
#[cfg(any(feature = "elasticsearch", feature = "meilisearch", feature = "tantivy"))]
mod terms;

#[cfg(feature = "elasticsearch")]
pub use self::elasticsearch::{Authentication, ElasticsearchOptions, ElasticsearchSearch};
#[cfg(feature = "meilisearch")]
pub use self::meilisearch::{MeilisearchOptions, MeilisearchSearch};
#[cfg(feature = "tantivy")]
pub use self::tantivy::{Location, TantivyOptions, TantivySearch};
