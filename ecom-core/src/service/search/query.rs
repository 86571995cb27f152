//! Search: the provider finds the products, and the shop loads them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::domain::access::principal::Principal;
use crate::domain::catalog::category::Category;
use crate::domain::catalog::product::Product;
use crate::domain::common::IncludeDeleted;
use crate::domain::platform::outbox::OutboxPosition;
use crate::domain::platform::search_log::SearchTerm;
use crate::domain::search::highlight::{Highlighter, Piece};
use crate::domain::search::query::{Facet, SearchQuery, SearchRequest};
use crate::domain::search::query_text::QueryText;
use crate::error::{Error, FieldCode, Result};
use crate::id::{CategoryId, EventId};
use crate::money::check_price_currency;
use crate::paging::Total;
use crate::port::search::{SearchCapabilities, SearchResults};
use crate::service::background::consumer::Invalidate;
use crate::service::catalog::category::CategoryService;
use crate::service::catalog::product::ProductService;
use crate::service::platform::outbox::EventLog;
use crate::service::run::context::Context;
use crate::service::run::read_through::Cached;
use crate::service::search::settings::Ready;

/// One value of a facet, with a label for people.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct FacetValue {
    /// The value as a filter takes it: a category id, a brand, a tag, the lower bound of a price range in minor units,
    /// a minimum number of whole stars, or an availability. [`Facet`] says which filter it stands for.
    pub value: String,
    /// The label for people: the name of a category, otherwise the value.
    pub label: String,
    /// How many matches have the value.
    pub count: u64,
}

/// A page of search results.
#[derive(Debug, Clone)]
pub struct SearchPage {
    /// The products in their current state, in the order of the hits. Products that were deleted after they were
    /// indexed are left out.
    pub products: Vec<Arc<Cached<Product>>>,
    /// The number of matches, according to the index: products that have every required word of the text, and pinned
    /// products.
    pub total: Total,
    /// How many further products match at least half of the required words, if the matches do not fill the first page;
    /// otherwise 0. They follow after the last match.
    pub partial: u64,
    /// The words of the text, with their synonyms.
    pub text: QueryText,
    /// The facets that the query asked for, with their counts.
    pub facets: Vec<(Facet, Vec<FacetValue>)>,
    /// Whether the result of the search engine came from the cache.
    pub hit: bool,
}

/// The highlights of a product.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Highlights {
    /// The title with its matches marked, if something in it matches.
    pub title: Option<Vec<Piece>>,
    /// An excerpt of the description of about 200 bytes with its matches marked, if something in it matches.
    pub description: Option<Vec<Piece>>,
}

impl SearchPage {
    /// The length of an excerpt of a description, in bytes.
    const EXCERPT: usize = 200;

    /// Returns the highlights of each product, in the order of [`Self::products`]. They are the same for every search
    /// engine.
    pub fn highlights(&self) -> Vec<Highlights> {
        let highlighter = Highlighter::of(&self.text);
        let marked = |text: &str, longest| highlighter.mark(text, longest);
        let of = |product: &Product| Highlights {
            title: marked(&product.title, usize::MAX),
            description: product.description.as_deref().and_then(|text| marked(text, Self::EXCERPT)),
        };
        self.products.iter().map(|product| of(product)).collect()
    }
}

/// The service that searches a shop.
///
/// ```
/// # async fn app(shop: ecom_core::Shop) -> Result<(), Box<dyn std::error::Error>> {
/// use ecom_core::search::{Facet, SearchFilter, SearchQuery};
///
/// let filter = SearchFilter { max_price: Some("20 USD".parse()?), ..SearchFilter::default() };
/// let query = SearchQuery { text: "hedphones".to_owned(), filter, facets: vec![Facet::Brands], ..SearchQuery::default() };
/// let found = shop.search().search(&query).await?;
/// println!("{} match", found.total.count);
/// for product in &found.products {
///     println!("{}", product.title);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy)]
pub struct SearchService<'a> {
    pub(super) cx: &'a Arc<Context>,
    pub(super) who: &'a Principal,
    /// Whether the search log counts the searches.
    is_counted: bool,
}

/// The names of categories by their ids.
enum Names {
    None,
    Read(HashMap<String, String>),
    /// The names of the categories in the cached tree.
    OfTree(Arc<Cached<Vec<Category>>>),
}

/// The names of the categories of a cached tree by their ids.
struct NamesById(HashMap<String, String>);

impl Names {
    fn get(&self, id: &str) -> Option<&str> {
        let names = match self {
            Self::None => return None,
            Self::Read(names) => names,
            Self::OfTree(tree) => {
                &tree.attached(|tree| NamesById(tree.iter().map(|c| (c.id.to_string(), c.name.clone())).collect())).0
            }
        };
        names.get(id).map(String::as_str)
    }
}

impl<'a> SearchService<'a> {
    pub(crate) const fn new(cx: &'a Arc<Context>, who: &'a Principal) -> Self {
        Self { cx, who, is_counted: true }
    }

    /// Returns the service for searches that the search log does not count, such as those of the staff.
    #[must_use]
    pub const fn uncounted(self) -> Self {
        Self { is_counted: false, ..self }
    }

    /// Returns what the main engine supports. If the fallback lacks a capability that a search needs, the search fails
    /// with `Unsupported` while the fallback answers.
    pub fn capabilities(&self) -> SearchCapabilities {
        self.cx.indices.main.provider.capabilities()
    }

    /// Returns the request of a query with the synonyms and the rules of the shop.
    pub(super) async fn request(&self, query: SearchQuery) -> Result<SearchRequest> {
        let cut = query.cut()?;
        check_price_currency([query.filter.min_price, query.filter.max_price], self.cx.config.currency)?;
        let (synonyms, rules) = (Ready::synonyms(self.cx).await?, Ready::rules(self.cx).await?);
        let mut request = SearchRequest::checked(query, &cut, &synonyms);
        rules.apply(&mut request, self.cx.now());
        Ok(request)
    }

    /// Searches. The index finds the products, and they are loaded from cache or database, so that prices and stock are
    /// current. What the index has found is cached until the index changes, synonyms and rules included.
    ///
    /// # Errors
    /// `Validation` for a query out of the bounds of [`SearchQuery::check`], `CURRENCY_MISMATCH`, `Unsupported`,
    /// `Unavailable`.
    pub async fn search(&self, query: &SearchQuery) -> Result<SearchPage> {
        let mut query = query.clone();
        let products = ProductService::new(self.cx, self.who);
        query.filter.status = products.readable(query.filter.status)?;
        if query.price_bounds.is_empty() && query.facets.contains(&Facet::Prices) {
            query.price_bounds.clone_from(&self.cx.config.price_bounds);
        }
        let request = self.request(query).await?;
        let found = self.found(&request).await?;
        let ids: Vec<_> = found.hits.iter().map(|h| h.id).collect();
        let products = products.get_many(&ids).await?;
        let names = self.category_names(&found).await?;
        let label = |value: &str| names.get(value).unwrap_or(value).to_owned();
        let facets = found.facets.iter().map(|(facet, counts)| {
            let values =
                counts.iter().map(|c| FacetValue { label: label(&c.value), value: c.value.clone(), count: c.count });
            (*facet, values.collect())
        });
        let facets = facets.collect();
        let (total, partial, hit) = (found.total, found.partial, found.hit);
        let query = request.query();
        // Further pages belong to the same search.
        let is_new = query.offset == 0 && !request.text().slots.is_empty();
        if self.cx.config.search_log && self.is_counted && is_new {
            let term = SearchTerm::once(&query.text, total.count, partial);
            self.cx.searches.note(self.cx.config.time_zone.day_of(self.cx.now()), term);
        }
        Ok(SearchPage { products, total, partial, text: request.text().clone(), facets, hit })
    }

    /// Returns the names of the categories that a result has counted.
    async fn category_names(&self, found: &SearchResults) -> Result<Names> {
        let counted = found.facets.iter().filter(|(facet, _)| *facet == Facet::Categories);
        let ids: Vec<CategoryId> =
            counted.flat_map(|(_, counts)| counts.iter().filter_map(|c| c.value.parse().ok())).collect();
        if ids.is_empty() {
            return Ok(Names::None);
        }
        if self.cx.cache.name() == "none" {
            let read = self.cx.storage.connect().await?.categories().get_many(&ids, IncludeDeleted::No).await?;
            return Ok(Names::Read(read.into_iter().map(|c| (c.id.to_string(), c.name)).collect()));
        }
        Ok(Names::OfTree(CategoryService::new(self.cx, self.who).tree().await?.value))
    }

    /// Waits until the index has applied an event, so that the searches of this process that begin afterwards find the
    /// write of the event and all writes before it, and return the products as they are after these writes.
    /// [`Shop::last_event`](crate::Shop::last_event) and
    /// [`AfterCommit::last_event`](crate::AfterCommit::last_event) return the event of a write.
    ///
    /// The background work of this process ([`Shop::start`](crate::Shop::start)) begins to sync the index at once. If
    /// another process writes the index, that process follows within its
    /// [`poll_interval`](crate::config::ShopConfig::poll_interval). An event that was removed from the log counts as
    /// applied once the index has applied all removed events; see
    /// [`EventLog::position`](crate::platform::EventLog::position).
    ///
    /// # Errors
    /// `Validation` on `at_least` for an event that does not exist, [`Error::IndexBehind`] if the index has not applied
    /// the event within `limit`, `Unsupported` without a search engine, `Unavailable`.
    pub async fn wait_for(&self, event: EventId, limit: Duration) -> Result<()> {
        let position = EventLog::new(self.cx, Principal::system()).position(event).await?.ok_or_else(|| {
            let message = format!("names event `{event}`, which does not exist");
            Error::invalid("at_least", FieldCode::ReferenceNotFound, message)
        })?;
        let applied = tokio::time::timeout(limit, self.until_applied(position)).await;
        applied.unwrap_or(Err(Error::IndexBehind { event, limit }))
    }

    async fn until_applied(&self, position: OutboxPosition) -> Result<()> {
        let cx = self.cx;
        let mut moved = cx.indices.main.state.moved();
        let mut fallback = cx.indices.fallback.as_ref().map(|index| index.state.moved());
        let mut pause = Duration::from_millis(10);
        let mut is_woken = false;
        loop {
            moved.mark_unchanged();
            fallback.iter_mut().for_each(watch::Receiver::mark_unchanged);
            if self.has_applied(position).await? {
                self.promise(position);
                // The products of the hits are loaded through the cache.
                return Invalidate::until(cx, position).await;
            }
            // Wakes the background work that syncs the index: once, because it does not forget.
            if !std::mem::replace(&mut is_woken, true) {
                cx.events.send_replace(());
            }
            tokio::select! {
                _ = moved.changed() => {}
                () = changed(&mut fallback) => {}
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(Duration::from_millis(200)),
            }
        }
    }

    async fn has_applied(&self, position: OutboxPosition) -> Result<bool> {
        let cx = self.cx;
        let Some(at) = self.checkpoint().await? else { return Ok(false) };
        if at.position < position || at.database != cx.database().await? {
            return Ok(false);
        }
        // A position after the end of the log is that of another state of the database, such as one before a restore.
        Ok(at.position <= cx.storage.connect().await?.outbox().head().await?)
    }
}

/// Waits until the index has changed; for ever if there is none.
async fn changed(index: &mut Option<watch::Receiver<()>>) {
    match index {
        Some(index) => drop(index.changed().await),
        None => std::future::pending().await,
    }
}
