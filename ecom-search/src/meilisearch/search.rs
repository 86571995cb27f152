//! Runs a search: the calls of the server, and results from their answers.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use ecom_core::id::ProductId;
use ecom_core::paging::Total;
use ecom_core::port::{FacetCount, SearchHit, SearchResults};
use ecom_core::search::{Facet, Matching, SearchRequest, SearchSort};
use reqwest::Method;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::client::Call;
use super::error::is_missing_index;
use super::index::Indexes;
use super::mapping::{edits, field, split_spelled, without_letters};
use super::query::{Filters, Typos, all, any, filters, is_one_of, mistyped, not, products};
use super::rank::{Candidate, Ranking, Wanted};
use crate::ranking::{BELOW_MATCHES, PINNED};
use crate::remote::Failure;
use crate::terms::MAX_FACET_VALUES;

/// The most matches that are sorted by their scores. If there are more, the best of them are found by filters
/// ([`Filters::tiers`]), and the rest follows in the order of these.
const WINDOW: u64 = 500;

/// The most words of the index that are compared with a word that may be mistyped.
const SIMILAR_WORDS: u32 = 10_000;

/// A part of a call that searches several times.
struct Query(Value);

impl Query {
    /// Finds what passes the filter, and returns nothing but the total.
    fn counting(index: &str, filter: &str) -> Self {
        Self(json!({"indexUid": index, "filter": filter, "limit": 0}))
    }

    fn page(mut self, offset: u64, limit: u64, sort: &[String], fields: &[&str]) -> Self {
        self.0["offset"] = offset.into();
        self.0["limit"] = limit.into();
        self.0["sort"] = json!(sort);
        self.0["attributesToRetrieve"] = json!(fields);
        self
    }

    fn facets(mut self, facets: impl IntoIterator<Item = Facet>) -> Self {
        let fields: Vec<&str> = facets.into_iter().filter_map(counted).collect();
        if !fields.is_empty() {
            self.0["facets"] = json!(fields);
        }
        self
    }
}

/// The answer to a part of a call.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Found {
    hits: Vec<Value>,
    estimated_total_hits: u64,
    #[serde(default)]
    facet_distribution: HashMap<String, HashMap<String, u64>>,
}

#[derive(Deserialize)]
struct Id {
    id: ProductId,
}

#[derive(Deserialize)]
struct Revision {
    id: ProductId,
    revision: i64,
}

#[derive(Deserialize)]
struct WordDocument {
    search: WordOf,
}

#[derive(Deserialize)]
struct WordOf {
    word: String,
}

impl Found {
    fn read<T: DeserializeOwned>(self) -> Result<Vec<T>, Failure> {
        self.hits.into_iter().map(|hit| serde_json::from_value(hit).map_err(|_| Failure::Garbled("hits"))).collect()
    }

    fn ids(self) -> Result<Vec<ProductId>, Failure> {
        Ok(self.read::<Id>()?.into_iter().map(|hit| hit.id).collect())
    }
}

/// Returns the field whose values the server counts for a facet; `None` for ranges of prices.
const fn counted(facet: Facet) -> Option<&'static str> {
    match facet {
        Facet::Categories => Some(field::CATEGORY),
        Facet::Brands => Some(field::BRAND),
        Facet::Prices => None,
        Facet::Tags => Some(field::TAG),
        Facet::Rating => Some(field::STARS),
        Facet::Availability => Some(field::AVAILABILITY),
    }
}

impl Indexes {
    /// Makes several searches for a shopper with one call, which waits for its turn. Without an index, they find
    /// nothing.
    async fn ask(&self, queries: Vec<Query>) -> Result<Vec<Found>, Failure> {
        let count = queries.len();
        let call = Self::search_call(queries, self.options.search_timeout);
        Self::found(self.client.search(call).await, count)
    }

    /// Searches for the shop itself, which neither waits for shoppers nor delays them.
    async fn look(&self, query: Query, limit: Duration) -> Result<Found, Failure> {
        let answer = self.client.call(Self::search_call(vec![query], limit)).await;
        Self::found(answer, 1)?.pop().ok_or(Failure::Garbled("a result"))
    }

    fn search_call(queries: Vec<Query>, limit: Duration) -> Call<'static> {
        let queries: Vec<Value> = queries.into_iter().map(|query| query.0).collect();
        let body = Some(json!({"queries": queries}).to_string().into());
        Call { method: Method::POST, path: "multi-search", body, limit, is_repeatable: true }
    }

    fn found(answer: Result<Value, Failure>, count: usize) -> Result<Vec<Found>, Failure> {
        let mut answer = match answer {
            Err(failure) if is_missing_index(&failure) => {
                return Ok(std::iter::repeat_with(Found::default).take(count).collect());
            }
            answer => answer?,
        };
        let results = answer.get_mut("results").map(Value::take).unwrap_or_default();
        let found: Vec<Found> = serde_json::from_value(results).map_err(|_| Failure::Garbled("results"))?;
        if found.len() == count { Ok(found) } else { Err(Failure::Garbled("the result of each search")) }
    }

    async fn ask_one(&self, query: Query) -> Result<Found, Failure> {
        self.ask(vec![query]).await?.pop().ok_or(Failure::Garbled("a result"))
    }

    /// Checks that searches are answered.
    pub(super) async fn ping(&self) -> Result<(), Failure> {
        let query = Query::counting(&self.live(), &format!("{} = true", field::LIVE));
        self.look(query, self.options.search_timeout).await.map(drop)
    }

    /// Returns ids and revisions of live products, by ascending id.
    pub(super) async fn revisions(
        &self,
        after: Option<ProductId>,
        limit: u32,
    ) -> Result<Vec<(ProductId, i64)>, Failure> {
        let mut clauses = vec![format!("{} = true", field::LIVE)];
        clauses.extend(after.map(|after| format!("{} > \"{after}\"", field::ID)));
        let sort = [format!("{}:asc", field::ID)];
        let query = Query::counting(&self.live(), &all(clauses));
        let query = query.page(0, limit.into(), &sort, &[field::ID, field::REVISION]);
        let found = self.look(query, self.options.write_timeout).await?;
        Ok(found.read::<Revision>()?.into_iter().map(|hit| (hit.id, hit.revision)).collect())
    }

    /// Returns the words of the index that mistyped words of the text may stand for.
    async fn typos(&self, request: &SearchRequest) -> Result<Typos, Failure> {
        let mistyped = mistyped(request);
        if mistyped.is_empty() {
            return Ok(Typos::default());
        }
        let forms = mistyped.iter().flat_map(|(word, edits)| without_letters(word, *edits));
        let query = Query::counting(&self.live(), &is_one_of(field::TYPOS, forms.collect::<Vec<_>>()));
        let found = self.ask_one(query.page(0, SIMILAR_WORDS.into(), &[], &[field::WORD])).await?;
        let words = found.read::<WordDocument>()?;
        let similar = mistyped.into_iter().map(|(typed, most)| {
            let near = words.iter().map(|found| &found.search.word).filter(|word| edits(typed, word) <= most);
            (typed.to_owned(), near.cloned().collect())
        });
        Ok(similar.collect())
    }

    pub(super) async fn find(&self, request: &SearchRequest) -> Result<SearchResults, Failure> {
        let typos = self.typos(request).await?;
        let search = Search {
            indexes: self,
            live: self.live(),
            request,
            filters: Filters::new(request, &typos),
            ranking: Ranking::new(request, &typos),
        };
        search.run().await
    }
}

/// One search.
struct Search<'a> {
    indexes: &'a Indexes,
    live: String,
    request: &'a SearchRequest,
    filters: Filters<'a>,
    ranking: Ranking<'a>,
}

impl Search<'_> {
    async fn run(&self) -> Result<SearchResults, Failure> {
        let query = self.request.query();
        let matches = self.filters.matches();
        let base = self.filters.filter(matches.as_deref(), &[]);
        let mut facets = Vec::new();
        for facet in &query.facets {
            if !facets.contains(facet) {
                facets.push(*facet);
            }
        }
        // The filter on the field of a facet is left out of its counts.
        let (alone, together): (Vec<Facet>, Vec<Facet>) =
            facets.iter().filter(|f| **f != Facet::Prices).partition(|facet| filters(&query.filter, **facet));
        let is_scored = self.request.is_scored();
        let pinned_first = query.sort == SearchSort::Relevance && !is_scored && !self.request.pinned.is_empty();
        let main = Query::counting(&self.live, &base).facets(together.iter().copied());
        let main = if is_scored {
            main.page(0, WINDOW, &self.filters.sort(), &self.fields())
        } else if pinned_first {
            main
        } else {
            main.page(query.offset, query.limit.into(), &self.filters.sort(), &[field::ID])
        };
        let mut calls = vec![main];
        for facet in &alone {
            let filter = self.filters.filter(matches.as_deref(), &[*facet]);
            calls.push(Query::counting(&self.live, &filter).facets([*facet]));
        }
        let has_prices = facets.contains(&Facet::Prices);
        if has_prices {
            let filter = self.filters.filter(matches.as_deref(), &[Facet::Prices]);
            let ends = query.price_bounds.iter().skip(1).map(Some).chain([None]);
            for (low, end) in query.price_bounds.iter().zip(ends) {
                let mut clauses = vec![filter.clone(), format!("{} >= {low}", field::PRICE)];
                clauses.extend(end.map(|end| format!("{} < {end}", field::PRICE)));
                calls.push(Query::counting(&self.live, &all(clauses)));
            }
        }
        let mut found = self.indexes.ask(calls).await?.into_iter();
        let mut next = || found.next().ok_or(Failure::Garbled("a result"));
        let main = next()?;
        let mut counts: HashMap<Facet, Vec<FacetCount>> = HashMap::new();
        for facet in together {
            counts.insert(facet, facet_counts(facet, &main));
        }
        for facet in alone {
            counts.insert(facet, facet_counts(facet, &next()?));
        }
        if has_prices {
            let mut ranges = Vec::new();
            for low in &query.price_bounds {
                let count = next()?.estimated_total_hits;
                if count > 0 {
                    ranges.push(FacetCount { value: low.to_string(), count });
                }
            }
            counts.insert(Facet::Prices, ranges);
        }
        let total = main.estimated_total_hits;
        let limit = u64::from(query.limit);
        let hits = if is_scored {
            let tiers = || self.filters.tiers();
            self.ranked(&base, main, &tiers, query.offset, limit, Wanted::Matches).await?
        } else if pinned_first {
            self.pinned_first(&base).await?
        } else {
            unscored(main.ids()?)
        };
        let facets = facets.iter().map(|facet| (*facet, counts.remove(facet).unwrap_or_default())).collect();
        let total_count = Total { count: total, exact: true };
        let mut results = SearchResults { hits, total: total_count, partial: 0, facets };
        let fewer = self.request.text().fewer_words();
        let Some(fewer) = fewer.filter(|_| self.request.matching == Matching::AllThenMost && total < limit) else {
            return Ok(results);
        };
        let left = limit.saturating_sub(results.hits.len() as u64);
        let (partial, more) = self.most(fewer, query.offset.saturating_sub(total), left).await?;
        results.partial = partial;
        // Scores fall from the matches to the rest.
        results.hits.extend(more.into_iter().map(|hit| SearchHit { score: hit.score / BELOW_MATCHES, ..hit }));
        Ok(results)
    }

    /// Returns the number of products that match at least `fewer` words and are no matches, and a page of them.
    async fn most(&self, fewer: usize, offset: u64, limit: u64) -> Result<(u64, Vec<SearchHit>), Failure> {
        let base = self.filters.filter(Some(&self.filters.most_words(fewer)), &[]);
        let query = Query::counting(&self.live, &base);
        if !self.request.is_scored() {
            let query = query.page(offset, limit, &self.filters.sort(), &[field::ID]);
            let found = self.indexes.ask_one(query).await?;
            return Ok((found.estimated_total_hits, unscored(found.ids()?)));
        }
        let found = self.indexes.ask_one(query.page(0, WINDOW, &self.filters.sort(), &self.fields())).await?;
        let total = found.estimated_total_hits;
        let tiers = || self.filters.tiers_of_most(fewer);
        Ok((total, self.ranked(&base, found, &tiers, offset, limit, Wanted::Most).await?))
    }

    /// Returns the fields by which candidates are ranked.
    fn fields(&self) -> Vec<&'static str> {
        let mut fields = vec![field::ID, field::RANK, field::CODES];
        if !self.request.boosts.is_empty() {
            fields.extend([
                field::CATEGORY,
                field::BRAND_KEY,
                field::TAG_KEY,
                field::ATTRIBUTE,
                field::PRICE,
                field::RATING,
                field::AVAILABILITY,
                field::STATUS,
            ]);
        }
        fields
    }

    /// Returns a page of what passes the filter `base`, by relevance. `first` is the answer for the first ones in any
    /// order.
    async fn ranked(
        &self,
        base: &str,
        first: Found,
        tiers: &(impl Fn() -> Vec<String> + Sync),
        offset: u64,
        limit: u64,
        wanted: Wanted,
    ) -> Result<Vec<SearchHit>, Failure> {
        let has_all = first.estimated_total_hits <= WINDOW;
        let tiers = if has_all { Vec::new() } else { tiers() };
        let candidates: Vec<Candidate> =
            if has_all { first.read()? } else { self.of_tiers(base, &tiers, 0, WINDOW, &self.fields()).await? };
        let hits = self.ranking.hits(&candidates, wanted).into_iter();
        let skip = usize::try_from(offset).unwrap_or(usize::MAX);
        let mut page: Vec<SearchHit> = hits.skip(skip).take(usize::try_from(limit).unwrap_or(usize::MAX)).collect();
        let left = limit - page.len() as u64;
        if !has_all && left > 0 {
            let rest: Vec<Id> = self.of_tiers(base, &tiers, offset.max(WINDOW), left, &[field::ID]).await?;
            page.extend(unscored(rest.into_iter().map(|hit| hit.id).collect()));
        }
        Ok(page)
    }

    /// Returns a page of what passes the filter `base`, in the order of the tiers.
    async fn of_tiers<T: DeserializeOwned>(
        &self,
        base: &str,
        tiers: &[String],
        mut skip: u64,
        mut limit: u64,
        fields: &[&str],
    ) -> Result<Vec<T>, Failure> {
        let mut page = Vec::new();
        for (at, tier) in tiers.iter().enumerate() {
            let mut clauses = vec![base.to_owned(), tier.clone()];
            if at > 0 {
                clauses.push(not(&any(tiers[..at].to_vec())));
            }
            let query = Query::counting(&self.live, &all(clauses));
            let found = self.indexes.ask_one(query.page(skip, limit, &self.filters.sort(), fields)).await?;
            skip = skip.saturating_sub(found.estimated_total_hits);
            let hits: Vec<T> = found.read()?;
            limit -= hits.len() as u64;
            page.extend(hits);
            if limit == 0 {
                break;
            }
        }
        Ok(page)
    }

    /// Returns the page of a search without a text whose pinned products are first.
    async fn pinned_first(&self, base: &str) -> Result<Vec<SearchHit>, Failure> {
        let (query, pinned) = (self.request.query(), &self.request.pinned);
        let is_pinned = products(pinned);
        let of_pinned = Query::counting(&self.live, &all(vec![base.to_owned(), is_pinned.clone()]));
        let found = of_pinned.page(0, pinned.len() as u64, &[], &[field::ID]);
        let found = self.indexes.ask_one(found).await?.ids()?;
        let mut first: Vec<SearchHit> = Vec::new();
        for (at, id) in pinned.iter().enumerate().filter(|(_, id)| found.contains(id)) {
            let above = u16::try_from(pinned.len() - at).unwrap_or(u16::MAX);
            first.push(SearchHit { id: *id, score: PINNED * f32::from(above) });
        }
        let (count, limit) = (first.len() as u64, query.limit as usize);
        let skip = usize::try_from(query.offset).unwrap_or(usize::MAX);
        let mut page: Vec<SearchHit> = first.into_iter().skip(skip).take(limit).collect();
        if page.len() < limit {
            let rest = Query::counting(&self.live, &all(vec![base.to_owned(), not(&is_pinned)]));
            let (offset, left) = (query.offset.saturating_sub(count), (limit - page.len()) as u64);
            let found = self.indexes.ask_one(rest.page(offset, left, &self.filters.sort(), &[field::ID])).await?;
            page.extend(unscored(found.ids()?));
        }
        Ok(page)
    }
}

fn unscored(ids: Vec<ProductId>) -> Vec<SearchHit> {
    ids.into_iter().map(|id| SearchHit { id, score: 0.0 }).collect()
}

/// Returns the counts of a facet other than that of prices.
fn facet_counts(facet: Facet, found: &Found) -> Vec<FacetCount> {
    let values = counted(facet).and_then(|field| found.facet_distribution.get(field));
    let values = values.into_iter().flatten().map(|(value, count)| (value.as_str(), *count));
    // The key, the value that is returned, and the count.
    let mut counts: Vec<(String, String, u64)> = match facet {
        Facet::Brands | Facet::Tags => {
            let mut by_key: BTreeMap<&str, Vec<(u64, String)>> = BTreeMap::new();
            for (value, count) in values {
                let (key, spelling) = split_spelled(value);
                by_key.entry(key).or_default().push((count, spelling));
            }
            let joined = by_key.into_iter().filter_map(|(key, mut spellings)| {
                let count = spellings.iter().map(|(count, _)| count).sum();
                spellings.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
                Some((key.to_owned(), spellings.into_iter().next()?.1, count))
            });
            joined.collect()
        }
        _ => values.map(|(value, count)| (value.to_owned(), value.to_owned(), count)).collect(),
    };
    if facet == Facet::Rating {
        counts.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    } else {
        counts.sort_unstable_by(|a, b| b.2.cmp(&a.2).then_with(|| a.0.cmp(&b.0)));
        counts.truncate(MAX_FACET_VALUES);
        counts.sort_unstable_by(|a, b| b.2.cmp(&a.2).then_with(|| a.1.cmp(&b.1)));
    }
    counts.into_iter().filter(|c| c.2 > 0).map(|(_, value, count)| FacetCount { value, count }).collect()
}
