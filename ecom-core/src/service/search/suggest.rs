//! Suggestions while typing, and related products.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::query::SearchService;
use crate::domain::catalog::category::Category;
use crate::domain::catalog::product::{Product, ProductStatus};
use crate::domain::search::language::Language;
use crate::domain::search::query::{Boost, Facet, Matching, SearchFilter, SearchQuery, SearchSort};
use crate::domain::search::query_text::QueryText;
use crate::domain::search::text::{Chunk, FieldWords, Pairs, chunks};
use crate::error::{FieldCode, Result, ValidationErrors};
use crate::id::{CategoryId, ProductId};
use crate::service::catalog::category::CategoryService;
use crate::service::catalog::product::ProductService;
use crate::service::run::read_through::Cached;

/// Suggestions for a text that a shopper is typing.
#[derive(Debug, Clone, Default)]
pub struct Suggestions {
    /// Texts to search for: the typed one with its last word completed to words of the products that it finds, the most
    /// frequent first. Of several words with one stem, the most frequent one.
    pub queries: Vec<String>,
    /// The categories with products whose name has all typed words, those with the most products first.
    pub categories: Vec<Category>,
    /// The brands whose name has all typed words, of the 100 with the most products that the text finds; those with the
    /// most products first.
    pub brands: Vec<String>,
    /// The active products that the text finds, the best first.
    pub products: Vec<Arc<Cached<Product>>>,
    /// Whether the result of the search engine came from the cache.
    pub hit: bool,
}

/// Products that are similar to another one.
#[derive(Debug, Clone, Default)]
pub struct RelatedProducts {
    /// The products, in their current state.
    pub products: Vec<Arc<Cached<Product>>>,
    /// Whether all results of the search engine came from the cache.
    pub hit: bool,
}

/// The words of the names of the categories of a cached tree.
struct CategoryWords(Vec<FieldWords>);

/// How many products are read for the words that complete a text.
const READ: u32 = 50;
/// How much more the score of a related product is worth if it has the same brand.
const SAME_BRAND: f32 = 1.2;

impl SearchService<'_> {
    /// The maximum `limit` of [`Self::suggest`] and [`Self::related`].
    pub const MAX_PROPOSED: u32 = 50;

    fn check_limit(limit: u32) -> Result<()> {
        let mut errors = ValidationErrors::default();
        if !(1..=Self::MAX_PROPOSED).contains(&limit) {
            errors.push("limit", FieldCode::OutOfBounds, format!("must be between 1 and {}", Self::MAX_PROPOSED));
        }
        errors.into_result()
    }

    /// Returns at most `limit` suggestions of each kind for a text whose last word may be incomplete. A text without
    /// words has none. Rules that hide or boost apply; pins do not.
    ///
    /// # Errors
    /// `Validation` for a text out of the bounds of [`SearchQuery::check`] and for a limit that is not between 1 and
    /// [`Self::MAX_PROPOSED`], `Unsupported`, `Unavailable`.
    pub async fn suggest(&self, text: &str, limit: u32) -> Result<Suggestions> {
        Self::check_limit(limit)?;
        let facets = if self.capabilities().facets { vec![Facet::Brands] } else { Vec::new() };
        let query = SearchQuery { text: text.to_owned(), limit: READ, facets, ..active() };
        let mut request = self.request(query).await?;
        request.matching = Matching::All;
        request.pinned.clear();
        let words = request.text().clone();
        if words.slots.is_empty() {
            return Ok(Suggestions::default());
        }
        let found = self.found(&request).await?;
        let limit = limit as usize;
        let brands = found.facets.iter().flat_map(|(_, counts)| counts).map(|count| &count.value);
        let brands =
            brands.filter(|brand| words.is_in(&FieldWords::of(brand, Pairs::All, words.language))).take(limit).cloned();
        let brands = brands.collect();
        let ids: Vec<ProductId> = found.hits.iter().map(|hit| hit.id).collect();
        let mut products = ProductService::new(self.cx, self.who).get_many(&ids).await?;
        let queries = completions(text, words.language, &products, limit);
        products.truncate(limit);
        let categories = self.categories(&words, limit).await?;
        Ok(Suggestions { queries, categories, brands, products, hit: found.hit })
    }

    async fn categories(&self, words: &QueryText, limit: usize) -> Result<Vec<Category>> {
        let tree = CategoryService::new(self.cx, self.who).tree().await?;
        let names = tree.value.attached(|tree| {
            CategoryWords(tree.iter().map(|c| FieldWords::of(&c.name, Pairs::All, words.language)).collect())
        });
        let matching =
            tree.value.iter().zip(&names.0).filter(|(c, name)| c.subtree_product_count > 0 && words.is_in(name));
        let mut found: Vec<&Category> = matching.map(|(c, _)| c).collect();
        found.sort_by(|a, b| b.subtree_product_count.cmp(&a.subtree_product_count).then_with(|| a.path.cmp(&b.path)));
        Ok(found.into_iter().take(limit).cloned().collect())
    }

    /// Returns at most `limit` active products that are similar to a product, in three groups: products of its
    /// categories that share words of its title, brand or tags, the most similar first; the other products of its
    /// categories, the best rated first; and products of other categories that share such words, the most similar
    /// first. Hidden products are left out; pins and boosts of rules do not apply.
    ///
    /// # Errors
    /// `NotFound` for a product that does not exist, `Validation` for a limit that is not between 1 and
    /// [`Self::MAX_PROPOSED`], `Unsupported` if the engine does not search text, `Unavailable`.
    pub async fn related(&self, id: ProductId, limit: u32) -> Result<RelatedProducts> {
        Self::check_limit(limit)?;
        let products = ProductService::new(self.cx, self.who);
        let product = products.get(id).await?;
        let text = alike(&product);
        if chunks(&text).is_empty() {
            return Ok(RelatedProducts::default());
        }
        let categories: Vec<CategoryId> =
            product.categories.iter().map(|c| c.id).take(SearchQuery::MAX_FILTER_VALUES).collect();
        let (mut ids, mut hit): (Vec<ProductId>, bool) = (Vec::new(), true);
        let mut passes = vec![(Vec::new(), text.clone())];
        if !categories.is_empty() {
            passes.splice(0..0, [(categories.clone(), text), (categories, String::new())]);
        }
        for (categories, text) in passes {
            if ids.len() >= limit as usize {
                break;
            }
            // The product itself and those of its categories may be found too.
            let more = limit + 1 + u32::try_from(ids.len()).unwrap_or(u32::MAX);
            let filter = SearchFilter { categories, ..active().filter };
            let sort = if text.is_empty() { SearchSort::RatingDesc } else { SearchSort::Relevance };
            let query = SearchQuery { text, filter, sort, limit: more, ..SearchQuery::default() };
            let mut request = self.request(query).await?.for_any_word();
            request.pinned.clear();
            request.boosts.clear();
            if let Some(brand) = product.brand.clone().filter(|_| self.capabilities().merchandising) {
                let filter = SearchFilter { brands: vec![brand], ..SearchFilter::default() };
                request.boosts.push(Boost { filter, factor: SAME_BRAND });
            }
            let found = self.found(&request).await?;
            hit &= found.hit;
            let known: HashSet<ProductId> = ids.iter().copied().chain([id]).collect();
            ids.extend(found.hits.iter().map(|hit| hit.id).filter(|id| !known.contains(id)));
        }
        ids.truncate(limit as usize);
        Ok(RelatedProducts { products: products.get_many(&ids).await?, hit })
    }
}

fn active() -> SearchQuery {
    let filter = SearchFilter { status: Some(ProductStatus::Active), ..SearchFilter::default() };
    SearchQuery { filter, ..SearchQuery::default() }
}

/// Returns the words by which related products are found, within the bounds of a query.
fn alike(product: &Product) -> String {
    let mut text = String::new();
    let sources = [Some(product.title.as_str()), product.brand.as_deref()];
    for word in
        sources.into_iter().flatten().chain(product.tags.iter().map(String::as_str)).flat_map(str::split_whitespace)
    {
        let longer = format!("{text} {word}");
        let query = SearchQuery { text: longer, ..SearchQuery::default() };
        if query.check().is_ok() {
            text = query.text;
        }
    }
    text
}

/// Completes the last word of a text with the words of these products.
fn completions(text: &str, language: Language, products: &[Arc<Cached<Product>>], limit: usize) -> Vec<String> {
    let is_in_word = |c: char| c.is_alphanumeric() || matches!(c, '\'' | '\u{2019}');
    let (before, last) = match text.char_indices().rfind(|(_, c)| !is_in_word(*c)) {
        Some((at, c)) => text.split_at(at + c.len_utf8()),
        None => ("", text),
    };
    let Some(last) = chunks(last).iter().find_map(Chunk::joined) else { return Vec::new() };
    // The words of each stem, with the number of products that have them.
    let mut counts: BTreeMap<String, BTreeMap<String, usize>> = BTreeMap::new();
    for product in products {
        let texts = [Some(&product.title), product.brand.as_ref()].into_iter().flatten().chain(&product.tags);
        let parts = texts.flat_map(|text| chunks(text)).flat_map(|chunk| chunk.parts).map(|part| part.text);
        let own: HashSet<String> =
            parts.filter(|word| is_worth_typing(word, language) && word.starts_with(&last)).collect();
        for word in own {
            *counts.entry(language.stem(&word)).or_default().entry(word).or_default() += 1;
        }
    }
    let most = |words: BTreeMap<String, usize>| {
        let all = words.values().sum::<usize>();
        words.into_iter().max_by_key(|(_, n)| *n).map(|(word, _)| (word, all))
    };
    let mut found: Vec<(String, usize)> = counts.into_values().filter_map(most).collect();
    found.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    found.into_iter().take(limit).map(|(word, _)| format!("{}{word}", before.trim_start())).collect()
}

/// Whether a word is worth suggesting.
fn is_worth_typing(word: &str, language: Language) -> bool {
    word.chars().nth(1).is_some() && !language.is_stop_word(word)
}
