//! Imports: files of products and categories, streamed in bounded batches.

use std::sync::Arc;

use crate::shop::Context;

/// Imports into a shop.
#[derive(Debug, Clone, Copy)]
pub struct ImportService<'a> {
    #[expect(dead_code, reason = "the imports come next")]
    cx: &'a Arc<Context>,
}

impl<'a> ImportService<'a> {
    pub(crate) const fn new(cx: &'a Arc<Context>) -> Self {
        Self { cx }
    }
}
