//! Merchandising: rules that pin, hide and boost products in searches.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::language::Language;
use super::query::{Boost, SearchFilter, SearchRequest};
use super::synonyms::keys;
use super::text::{Chunk, chunks, count};
use crate::clock::Timestamp;
use crate::domain::catalog::sku::AvailabilityStatus;
use crate::domain::words::words;
use crate::error::{Error, FieldCode, Result, ValidationErrors};
use crate::id::{CategoryId, ProductId};
use crate::text::{check_text, fold_key};

words! {
    /// How the text of a rule is compared with the text of a search.
    #[derive(Default)]
    TextMatch {
        /// The search has the text of the rule and no other words.
        #[default]
        Is = "is",
        /// The search has the words of the rule, next to each other, among others.
        Contains = "contains",
    }
}

/// A rule that pins, hides or boosts products in some searches. It applies to a search that meets all of its
/// conditions; without conditions, to every search.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SearchRule {
    /// The name of the rule, for people: 1 to 100 characters, unique in the shop.
    pub name: String,
    /// Condition: the words of the search. They are compared by their stems, without case, accents, spaces and hyphens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
    /// How `query` is compared; `is` by default.
    #[serde(default)]
    pub query_match: TextMatch,
    /// Condition: the search filters by exactly this category, not by one below it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category_id: Option<CategoryId>,
    /// Condition: the search is made at this time or later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
    pub starts_at: Option<Timestamp>,
    /// Condition: the search is made before this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
    pub ends_at: Option<Timestamp>,
    /// Whether the rule is left out of all searches.
    #[serde(default)]
    pub disabled: bool,
    /// The products that match whatever the text of the search is, if they pass its filters: at most 50. With the sort
    /// `relevance`, they come before all others, in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pin: Vec<ProductId>,
    /// The products that are left out: at most 50.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hide: Vec<ProductId>,
    /// The products that rank higher or lower by relevance: at most 10 groups.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub boost: Vec<RuleBoost>,
}

/// Products whose rank a rule changes: those that meet all of its conditions. At least one is required.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct RuleBoost {
    /// Condition: the product is in this category or below it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category_id: Option<CategoryId>,
    /// Condition: the product has this brand, ignoring case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub brand: Option<String>,
    /// Condition: the product has this tag, ignoring case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// Condition: the product has this availability.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub availability: Option<AvailabilityStatus>,
    /// The factor by which the score is multiplied, 0.1 to 10. If several boosts apply to a product, their factors are
    /// multiplied, and the result is limited to 0.1 to 10. It has an effect only on a search that is sorted by
    /// relevance to a text.
    pub factor: f32,
}

/// All rules of a shop, ready for use.
#[derive(Debug, Clone, Default)]
pub struct SearchRules {
    rules: Vec<(SearchRule, Option<Vec<String>>)>,
    /// The largest number of chunks that a text of a rule can have.
    longest: usize,
    language: Language,
}

impl SearchRules {
    /// The maximum number of rules.
    pub const MAX_RULES: usize = 1_000;
    /// The maximum number of products that a rule can pin, and that it can hide.
    pub const MAX_PRODUCTS: usize = 50;
    /// The maximum number of products that all rules hide together.
    pub const MAX_HIDDEN: usize = SearchRequest::MAX_HIDDEN;
    /// The maximum number of boosts of a rule.
    pub const MAX_BOOSTS: usize = 10;

    /// Returns the rules, ready for searches in a language.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub fn new(rules: Vec<SearchRule>, language: Language) -> Result<Self> {
        Self::check(&rules)?;
        Ok(Self::stored(rules, language))
    }

    /// Checks rules.
    ///
    /// # Errors
    /// `Validation` with each field that is not valid.
    pub fn check(rules: &[SearchRule]) -> Result<()> {
        let mut errors = ValidationErrors::default();
        if rules.len() > Self::MAX_RULES {
            errors.out_of_bounds("rules", format!("must have at most {} rules", Self::MAX_RULES));
            return Err(Error::Validation(errors));
        }
        let hidden: usize = rules.iter().map(|rule| rule.hide.len()).sum();
        if hidden > Self::MAX_HIDDEN {
            let most = Self::MAX_HIDDEN;
            errors.out_of_bounds("rules", format!("must hide at most {most} products in total"));
        }
        let mut names = HashSet::new();
        for (i, rule) in rules.iter().enumerate() {
            let field = format!("rules[{i}]");
            rule.check(&field, &mut errors);
            if !names.insert(fold_key(&rule.name)) {
                errors.push(format!("{field}.name"), FieldCode::Inconsistent, "must be unique among the rules");
            }
        }
        errors.into_result()
    }

    /// Returns stored rules, which were checked when they were written.
    pub(crate) fn stored(rules: Vec<SearchRule>, language: Language) -> Self {
        let mut longest = 0;
        let rules = rules.into_iter().map(|rule| {
            let cut = rule.query.as_deref().map(chunks);
            longest = longest.max(cut.as_deref().map_or(0, count));
            (rule, cut.map(|cut| keys(&cut, language)))
        });
        let rules = rules.collect();
        Self { rules, longest, language }
    }

    /// Applies the rules, in their order, to a search that is made at `now`. Pins and boosts beyond the limits of a
    /// request are left out.
    pub fn apply(&self, request: &mut SearchRequest, now: Timestamp) {
        if self.rules.is_empty() {
            return;
        }
        let cut = chunks(&request.query().text);
        let whole: HashSet<String> = keys(&cut, self.language).into_iter().collect();
        let runs = (1..=self.longest.min(cut.len())).flat_map(|length| cut.windows(length));
        let parts: HashSet<String> = runs.flat_map(|run: &[Chunk]| keys(run, self.language)).collect();
        let has = |typed: &HashSet<String>, keys: &[String]| keys.iter().any(|key| typed.contains(key));
        for (rule, text) in &self.rules {
            let has_text = text.as_ref().is_none_or(|text| match rule.query_match {
                TextMatch::Is => !cut.is_empty() && has(&whole, text),
                TextMatch::Contains => has(&parts, text),
            });
            let has_category = rule.category_id.is_none_or(|id| request.query().filter.categories.contains(&id));
            let is_now = rule.starts_at.is_none_or(|at| at <= now) && rule.ends_at.is_none_or(|at| now < at);
            if rule.disabled || !has_text || !has_category || !is_now {
                continue;
            }
            for id in &rule.pin {
                if request.pinned.len() < SearchRequest::MAX_PINNED && !request.pinned.contains(id) {
                    request.pinned.push(*id);
                }
            }
            let left = SearchRequest::MAX_HIDDEN.saturating_sub(request.hidden.len());
            request.hidden.extend(rule.hide.iter().take(left));
            let left = SearchRequest::MAX_BOOSTS.saturating_sub(request.boosts.len());
            request.boosts.extend(rule.boost.iter().take(left).map(RuleBoost::boost));
        }
    }
}

impl SearchRule {
    fn check(&self, field: &str, errors: &mut ValidationErrors) {
        check_text(&format!("{field}.name"), &self.name, 1, 100, errors);
        if let Some(query) = &self.query {
            let field = format!("{field}.query");
            let before = errors.0.len();
            check_text(&field, query, 1, 200, errors);
            if errors.0.len() == before && !(1..=16).contains(&count(&chunks(query))) {
                errors.out_of_bounds(field, "must have 1 to 16 words");
            }
        }
        if self.starts_at.zip(self.ends_at).is_some_and(|(start, end)| start >= end) {
            errors.push(format!("{field}.ends_at"), FieldCode::Inconsistent, "must be after `starts_at`");
        }
        let most = SearchRules::MAX_PRODUCTS;
        for (name, ids) in [("pin", &self.pin), ("hide", &self.hide)] {
            if ids.len() > most {
                errors.out_of_bounds(format!("{field}.{name}"), format!("must have at most {most} products"));
            }
        }
        if self.boost.len() > SearchRules::MAX_BOOSTS {
            let most = SearchRules::MAX_BOOSTS;
            errors.out_of_bounds(format!("{field}.boost"), format!("must have at most {most} entries"));
        }
        for (i, boost) in self.boost.iter().enumerate().take(SearchRules::MAX_BOOSTS) {
            boost.check(&format!("{field}.boost[{i}]"), errors);
        }
        if self.pin.is_empty() && self.hide.is_empty() && self.boost.is_empty() {
            errors.push(field, FieldCode::Required, "must have at least one product to pin or to hide, or a boost");
        }
    }
}

impl RuleBoost {
    fn check(&self, field: &str, errors: &mut ValidationErrors) {
        if !(Boost::MIN_FACTOR..=Boost::MAX_FACTOR).contains(&self.factor) {
            errors.out_of_bounds(format!("{field}.factor"), "must be between 0.1 and 10");
        }
        for (name, text) in [("brand", &self.brand), ("tag", &self.tag)] {
            if let Some(text) = text {
                check_text(&format!("{field}.{name}"), text, 1, 200, errors);
            }
        }
        let has_condition =
            self.category_id.is_some() || self.brand.is_some() || self.tag.is_some() || self.availability.is_some();
        if !has_condition {
            let message = "must have at least one of `category_id`, `brand`, `tag` and `availability`";
            errors.push(field, FieldCode::Required, message);
        }
    }

    fn boost(&self) -> Boost {
        let filter = SearchFilter {
            categories: self.category_id.into_iter().collect(),
            brands: self.brand.iter().cloned().collect(),
            tags: self.tag.iter().cloned().collect(),
            availability: self.availability.into_iter().collect(),
            ..SearchFilter::default()
        };
        Boost { filter, factor: self.factor }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::super::query::SearchQuery;
    use super::super::synonyms::Synonyms;
    use super::*;

    fn product(n: u128) -> ProductId {
        ProductId(Uuid::from_u128(n))
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_timestamp(seconds, 0).unwrap()
    }

    fn rule(name: &str, pin: u128) -> SearchRule {
        SearchRule { name: name.to_owned(), pin: vec![product(pin)], ..SearchRule::default() }
    }

    #[test]
    fn rules_apply_to_searches_that_fulfil_their_conditions() {
        let category = CategoryId(Uuid::from_u128(9));
        let text = |text: &str| Some(text.to_owned());
        let rules = SearchRules::new(
            vec![
                SearchRule { query: text("Desk-Lamps"), ..rule("is", 1) },
                SearchRule { query: text("lamp"), query_match: TextMatch::Contains, ..rule("contains", 2) },
                SearchRule { category_id: Some(category), ..rule("category", 3) },
                SearchRule { starts_at: Some(at(10)), ends_at: Some(at(20)), ..rule("time", 4) },
                SearchRule { disabled: true, ..rule("disabled", 5) },
            ],
            Language::English,
        );
        let rules = rules.unwrap();
        let pinned = |typed: &str, categories: &[CategoryId], now| {
            let filter = SearchFilter { categories: categories.to_vec(), ..SearchFilter::default() };
            let query = SearchQuery { text: typed.to_owned(), filter, ..SearchQuery::default() };
            let mut request = SearchRequest::new(query, &Synonyms::default()).unwrap();
            rules.apply(&mut request, at(now));
            request.pinned.iter().map(|id| id.0.as_u128()).collect::<Vec<_>>()
        };
        assert_eq!(pinned("desk lamp", &[], 0), [1, 2]);
        assert_eq!(pinned("DeskLamp", &[], 0), [1]);
        assert_eq!(pinned("red lamps", &[], 0), [2]);
        assert_eq!(pinned("lamp desk", &[], 0), [2]);
        assert_eq!(pinned("", &[category], 0), [3]);
        assert_eq!(pinned("", &[], 10), [4]);
        assert_eq!(pinned("", &[], 20), [0; 0]);
    }

    #[test]
    fn fields_out_of_bounds_are_named() {
        let refused = |rule: SearchRule| match SearchRules::new(vec![rule], Language::English) {
            Err(Error::Validation(errors)) => errors.0.into_iter().map(|e| e.field).collect::<Vec<_>>(),
            other => panic!("{other:?} must be a refusal"),
        };
        let boost = |factor| RuleBoost { brand: Some("Acme".to_owned()), factor, ..RuleBoost::default() };
        let boosted = |boost| SearchRule { boost: vec![boost], ..rule("a", 1) };
        for (rule, field) in [
            (rule(" ", 1), "rules[0].name"),
            (SearchRule { query: Some("--".to_owned()), ..rule("a", 1) }, "rules[0].query"),
            (SearchRule { query: Some("a\0b".to_owned()), ..rule("a", 1) }, "rules[0].query"),
            (SearchRule { query: Some("+".repeat(2_000_000)), ..rule("a", 1) }, "rules[0].query"),
            (SearchRule { starts_at: Some(at(2)), ends_at: Some(at(2)), ..rule("a", 1) }, "rules[0].ends_at"),
            (SearchRule { pin: vec![product(1); 51], ..rule("a", 1) }, "rules[0].pin"),
            (SearchRule { hide: vec![product(1); 51], ..rule("a", 1) }, "rules[0].hide"),
            (SearchRule { pin: Vec::new(), ..rule("a", 1) }, "rules[0]"),
            (boosted(boost(0.0)), "rules[0].boost[0].factor"),
            (boosted(boost(f32::NAN)), "rules[0].boost[0].factor"),
            (boosted(RuleBoost { brand: None, ..boost(1.0) }), "rules[0].boost[0]"),
        ] {
            assert_eq!(refused(rule), [field]);
        }
        assert!(SearchRules::new(vec![rule("a", 1), rule("A ", 2)], Language::English).is_err(), "a name twice");
        let hides = |n: usize| SearchRule { hide: vec![product(1); 50], ..rule(&n.to_string(), 1) };
        assert!(SearchRules::new((0..100).map(hides).collect(), Language::English).is_ok());
        assert!(
            SearchRules::new((0..101).map(hides).collect(), Language::English).is_err(),
            "too many hidden products"
        );
    }
}
