//! Reviews: their rows in the model, the operations on them, and their comparison. The rating of a product is computed
//! from all its reviews after each write.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use rust_decimal::{Decimal, RoundingStrategy};

use super::World;
use super::comparison::{Checked, Refusal, read, read_ok, same};
use super::customer::Walk;
use super::generator::bad_text;
use super::shared::trimmed;
use super::{Operation, Part, Runner};
use crate::domain::access::principal::Principal;
use crate::domain::catalog::product::{RatingSource, RatingSummary};
use crate::domain::catalog::review::{Review, ReviewFilter, ReviewInput, ReviewPatch, ReviewSort};
use crate::domain::common::{Audit, ExpectedVersion, IncludeDeleted, Patch};
use crate::error::{ErrorCode, Result};
use crate::id::{ProductId, ReviewId};
use crate::money::{ExactDecimal, Rating, Stars};
use crate::paging::Paging;
use crate::shop::Shop;

pub(super) const PART: Part = Part { operations: OPERATIONS, compare: |r| Box::pin(r.compare_reviews()) };

const OPERATIONS: &[Operation] = &[
    Operation { name: "create review", weight: |_| 40, run: |r| Box::pin(r.create_review()) },
    Operation { name: "patch review", weight: |_| 20, run: |r| Box::pin(r.patch_review()) },
    Operation { name: "replace review", weight: |_| 8, run: |r| Box::pin(r.replace_review()) },
    Operation { name: "delete review", weight: |_| 10, run: |r| Box::pin(r.delete_review()) },
    Operation { name: "read review", weight: |_| 5, run: |r| Box::pin(r.read_review()) },
    Operation { name: "list reviews", weight: |_| 14, run: |r| Box::pin(r.list_reviews()) },
];

const COMMENTS: [&str; 5] = ["Bright.", " Two\nlines\t ", "  ", "🧺 ünïcödé \"q\" \\ %_", "長い長い長い"];
/// Numbers that are not the rating of a review, in hundredths.
const BAD_RATINGS: [i64; 5] = [-10, 501, 510, 455, 10_000_000_000];

fn tenths(n: i64) -> ExactDecimal {
    ExactDecimal(Decimal::new(n, 1))
}

impl World {
    /// Returns all reviews as reads show them, those of deleted products too.
    fn shown_reviews(&self) -> impl Iterator<Item = Review> {
        self.reviews.values().map(|r| {
            let mut shown = r.clone();
            shown.audit.deleted_at = self.products.rows[&r.product_id].0.audit.deleted_at;
            shown
        })
    }

    fn live_review(&self, id: ReviewId) -> Option<Review> {
        self.shown_reviews().find(|r| r.id == id && r.audit.is_live())
    }

    /// Returns the reviews of a list in its order.
    fn matching_reviews(&self, filter: &ReviewFilter, sort: ReviewSort) -> Vec<Review> {
        let matches = |r: &Review| {
            (filter.include_deleted == IncludeDeleted::Yes || r.audit.is_live())
                && filter.product.is_none_or(|p| r.product_id == p)
                && filter.customer.is_none_or(|c| r.customer_id == Some(c))
                && filter.min_rating.is_none_or(|min| r.rating >= min)
                && filter.max_rating.is_none_or(|max| r.rating <= max)
        };
        let mut found: Vec<Review> = self.shown_reviews().filter(matches).collect();
        match sort {
            ReviewSort::CreatedAsc => found.sort_by_key(|r| r.id),
            ReviewSort::CreatedDesc => found.sort_by_key(|r| Reverse(r.id)),
            ReviewSort::RatingAsc => found.sort_by_key(|r| (r.rating, r.id)),
            ReviewSort::RatingDesc => found.sort_by_key(|r| Reverse((r.rating, r.id))),
        }
        found
    }

    /// Computes the rating of a product from all its reviews.
    fn rate(&mut self, product: ProductId) {
        let stars: Vec<Decimal> =
            self.reviews.values().filter(|r| r.product_id == product).map(|r| r.rating.decimal()).collect();
        let mean = stars.iter().sum::<Decimal>() / Decimal::from(stars.len().max(1));
        let mean = mean.round_dp_with_strategy(2, RoundingStrategy::MidpointAwayFromZero);
        self.products.rows.get_mut(&product).unwrap().0.rating = RatingSummary {
            mean: Rating::exact(mean).unwrap(),
            count: stars.len() as i64,
            source: RatingSource::Reviews,
        };
    }
}

impl Runner<'_> {
    fn some_review(&mut self) -> ReviewId {
        let live: Vec<ReviewId> = self.world.shown_reviews().filter(|r| r.audit.is_live()).map(|r| r.id).collect();
        let all: Vec<ReviewId> = self.world.reviews.keys().copied().collect();
        self.some_id(&live, &all)
    }

    fn stars(&mut self) -> i64 {
        self.below(51) as i64
    }

    /// Returns an input without a customer, and the names of its bad fields.
    fn review_input(&mut self) -> (ReviewInput, BTreeSet<String>) {
        let mut input = ReviewInput::new(tenths(self.stars()));
        if self.chance(60) {
            input.comment = Some(self.any(&COMMENTS).to_owned());
        }
        let mut bad = BTreeSet::new();
        if self.chance(8) {
            if self.chance(60) {
                input.rating = ExactDecimal(Decimal::new(self.any(&BAD_RATINGS), 2));
                bad.insert("rating".to_owned());
            }
            if bad.is_empty() || self.chance(20) {
                let text = bad_text(&mut self.rng, Review::MAX_COMMENT);
                if !text.trim().is_empty() {
                    input.comment = Some(text);
                    bad.insert("comment".to_owned());
                }
            }
        }
        (input, bad)
    }

    /// Compares a review that the shop returned, and its product, with the model.
    async fn review_answer(&mut self, got: &Review) -> Checked<()> {
        same("the answer", &Some(got), &self.world.shown_reviews().find(|r| r.id == got.id).as_ref())?;
        self.rated(got.product_id).await
    }

    /// Compares a product with the model after a change of its reviews.
    async fn rated(&mut self, product: ProductId) -> Checked<()> {
        self.world.rate(product);
        let got = read_ok(self.shop.products().get_fresh(product, IncludeDeleted::Yes).await)?;
        self.product_answer(&got)
    }

    async fn create_review(&mut self) -> Checked<()> {
        let product = self.some_product();
        let (mut input, bad) = self.review_input();
        if self.chance(60) {
            input.customer_id = Some(self.some_customer());
        }
        let who = self.principal();
        self.begins((product, &input));
        let customer = input.customer_id;
        let mut refusals = Vec::new();
        if !bad.is_empty() {
            refusals.push(Refusal::Fields(bad));
        } else if customer.is_some_and(|c| self.world.live_customer(c).is_none()) {
            refusals.push(Refusal::field("customer_id"));
        } else if self.world.live_product(product).is_none() {
            refusals.push(Refusal::field("product_id"));
        } else if customer.is_some()
            && self.world.reviews.values().any(|r| r.product_id == product && r.customer_id == customer)
        {
            refusals.push(Refusal::Duplicate("customer_id"));
        }
        let answer = self.shop.acting_as(&who).reviews().create(product, &input).await;
        if let Some(got) = self.judge(answer, &refusals)? {
            self.world.is_new(got.id.0)?;
            let want = Review {
                id: got.id,
                product_id: product,
                customer_id: customer,
                rating: Stars::exact(input.rating.0).unwrap(),
                comment: trimmed(input.comment.as_ref()),
                audit: Audit::created(self.now(), who.actor()),
            };
            self.world.reviews.insert(got.id, want);
            self.review_answer(&got).await?;
        }
        Ok(())
    }

    async fn write_review(
        &mut self,
        id: ReviewId,
        input: Option<ReviewInput>,
        bad: BTreeSet<String>,
        call: impl AsyncFnOnce(&Shop, ExpectedVersion, &Principal) -> Result<Review>,
    ) -> Checked<()> {
        let who = self.principal();
        let now = self.now();
        let mut refusals = if bad.is_empty() { Vec::new() } else { vec![Refusal::Fields(bad)] };
        let mut want = None;
        let read = match self.world.live_review(id) {
            None => {
                refusals.push(Refusal::Code(ErrorCode::NotFound));
                ExpectedVersion::Exact(1)
            }
            Some(before) => {
                let (read, stale) = self.version(before.audit.version);
                refusals.extend(stale);
                if let Some(input) = input.as_ref().filter(|_| refusals.is_empty()) {
                    if input.customer_id.is_some() && input.customer_id != before.customer_id {
                        refusals.push(Refusal::field("customer_id"));
                    }
                    let mut after = Review {
                        rating: Stars::exact(input.rating.0).unwrap(),
                        comment: trimmed(input.comment.as_ref()),
                        ..before.clone()
                    };
                    if after != before {
                        after.audit.edited(now, who.actor());
                    }
                    want = Some(after);
                }
                read
            }
        };
        self.begins((id, read, &input));
        let answer = call(&self.shop, read, &who).await;
        if let Some(got) = self.judge(answer, &refusals)? {
            self.world.reviews.insert(id, want.unwrap());
            self.review_answer(&got).await?;
        }
        Ok(())
    }

    async fn replace_review(&mut self) -> Checked<()> {
        let id = self.some_review();
        let (mut input, bad) = self.review_input();
        if self.chance(50) {
            let own = self.world.reviews.get(&id).and_then(|r| r.customer_id);
            input.customer_id = if self.chance(80) { own } else { Some(self.some_customer()) };
        }
        let sent = input.clone();
        self.write_review(id, Some(input), bad, async move |shop, read, who| {
            shop.acting_as(who).reviews().replace(id, read, &sent).await
        })
        .await
    }

    async fn patch_review(&mut self) -> Checked<()> {
        let id = self.some_review();
        let mut patch = ReviewPatch::default();
        let mut bad = BTreeSet::new();
        if self.chance(60) {
            patch.rating = Patch::Set(tenths(self.stars()));
        }
        if self.chance(40) {
            patch.comment = if self.chance(30) { Patch::Clear } else { Patch::Set(self.any(&COMMENTS).to_owned()) };
        }
        if self.chance(6) {
            let number = ExactDecimal(Decimal::new(self.any(&BAD_RATINGS), 2));
            patch.rating = if self.chance(30) { Patch::Clear } else { Patch::Set(number) };
            bad.insert("rating".to_owned());
        }
        let input = self.world.reviews.get(&id).map(|r| {
            let mut input = ReviewInput { comment: r.comment.clone(), ..ReviewInput::new(r.rating.decimal()) };
            if let Patch::Set(rating) = patch.rating {
                input.rating = rating;
            }
            patch.comment.clone().apply(&mut input.comment);
            input
        });
        self.write_review(id, input, bad, async move |shop, read, who| {
            shop.acting_as(who).reviews().patch(id, read, patch).await
        })
        .await
    }

    async fn delete_review(&mut self) -> Checked<()> {
        let id = self.some_review();
        let who = self.principal();
        let (read, refusals) = match self.world.live_review(id) {
            None => (ExpectedVersion::Exact(1), vec![Refusal::Code(ErrorCode::NotFound)]),
            Some(r) => {
                let (read, stale) = self.version(r.audit.version);
                (read, stale.into_iter().collect())
            }
        };
        self.begins((id, read));
        let answer = self.shop.acting_as(&who).reviews().delete(id, read).await;
        if self.judge(answer, &refusals)?.is_some() {
            let gone = self.world.reviews.remove(&id).unwrap();
            self.rated(gone.product_id).await?;
        }
        Ok(())
    }

    async fn read_review(&mut self) -> Checked<()> {
        let id = self.some_review();
        self.begins(id);
        let got = self.shop.reviews().get(id, IncludeDeleted::No).await;
        same("the review", &got.ok(), &self.world.live_review(id))?;
        let got = self.shop.reviews().get(id, IncludeDeleted::Yes).await;
        same("the review", &got.ok(), &self.world.shown_reviews().find(|r| r.id == id))
    }

    async fn list_reviews(&mut self) -> Checked<()> {
        let deleted = if self.chance(30) { IncludeDeleted::Yes } else { IncludeDeleted::No };
        let sort = self.one_of(ReviewSort::ALL).unwrap();
        let mut filter = ReviewFilter { include_deleted: deleted, ..ReviewFilter::default() };
        if self.chance(40) {
            filter.product = Some(self.some_product());
        }
        if self.chance(30) {
            filter.customer = Some(self.some_customer());
        }
        if self.chance(30) {
            filter.min_rating = Some(Stars::from_tenths(self.stars()).unwrap());
        }
        if self.chance(30) {
            filter.max_rating = Some(Stars::from_tenths(self.stars()).unwrap());
        }
        let limit = 1 + self.below(8) as u32;
        self.begins((&filter, sort, limit));
        if filter.min_rating.zip(filter.max_rating).is_some_and(|(min, max)| min > max) {
            let answer = self.shop.reviews().list(&filter, sort, &Paging::first(limit)).await;
            return self.judge(answer, &[Refusal::field("min_rating")]).map(drop);
        }
        if let Some(id) = filter.product {
            let found = self.world.products.rows.get(&id);
            if !found.is_some_and(|(p, _)| deleted == IncludeDeleted::Yes || p.audit.is_live()) {
                let answer = self.shop.reviews().list(&filter, sort, &Paging::first(limit)).await;
                return self.judge(answer, &[Refusal::Code(ErrorCode::NotFound)]).map(drop);
            }
        }
        let mut walk = Walk::new(self.world.matching_reviews(&filter, sort), limit);
        while let Some(paging) = walk.next.take() {
            walk.reads(self.shop.reviews().list(&filter, sort, &paging).await)?;
        }
        Ok(())
    }

    /// Compares all reviews, those of deleted products too.
    async fn compare_reviews(&mut self) -> Checked<()> {
        let all = ReviewFilter { include_deleted: IncludeDeleted::Yes, ..ReviewFilter::default() };
        let paging = Paging::first(100_000);
        let (page, _) = read("the reviews", self.shop.reviews().list(&all, ReviewSort::CreatedAsc, &paging).await)?;
        same("the reviews", &page.items, &self.world.shown_reviews().collect())?;
        self.digest_at_end(&page.items);
        Ok(())
    }
}
