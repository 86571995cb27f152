//! Reviews follow the same rules as other rows (R1, R2, R5, R13, R17), and the rating of a product follows its reviews
//! (R14, R15).

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use rust_decimal::{Decimal, RoundingStrategy};
use serde_json::{Value, json};
use uuid::Uuid;

use super::ShopFixture;
use super::support::{conflict, fields, flat, from, me, v};
use crate::config::ShopConfig;
use crate::domain::catalog::product::{Product, ProductSort, RatingSource, RatingSummary};
use crate::domain::catalog::review::{Review, ReviewFilter, ReviewInput, ReviewSort, ReviewTally};
use crate::domain::common::{DeleteMode, ExpectedVersion, IncludeDeleted};
use crate::domain::platform::outbox::EventKind;
use crate::domain::sales::customer::{Customer, CustomerInput};
use crate::domain::search::query::SearchFilter;
use crate::error::{Conflict, Entity, ErrorCode, FieldCode, Result};
use crate::id::{CustomerId, ProductId, ReviewId};
use crate::money::Rating;
use crate::paging::{Paging, Total};
use crate::service::catalog::product::ProductListQuery;
use crate::testkit::{code_of, duplicate_field, fresh_seed};

tests! {
    __shop_reviews: [
        r01_a_stale_version_of_a_review_changes_nothing,
        r01_a_write_of_a_review_says_which_version_it_read,
        r01_a_patch_of_a_review_merges_and_a_put_replaces,
        r01_a_write_of_a_review_that_changes_nothing_moves_no_version,
        r01_of_many_editors_of_one_review_one_wins,
        r02_reviews_hide_and_return_with_their_product,
        r02_a_soft_deleted_customer_leaves_its_reviews,
        r05_force_removes_the_reviews_of_a_product_and_keeps_those_of_a_customer,
        r13_each_write_of_a_review_has_its_events,
        r13_a_failed_write_of_a_review_has_no_event,
        r14_the_index_follows_the_rating,
        r15_a_review_makes_the_cached_product_stale,
        r16_a_second_review_names_the_customer,
        r17_bad_reviews_name_each_field_and_leave_nothing,
        r17_a_review_of_nothing_or_of_nobody_is_refused,
        the_rating_follows_every_write,
        an_external_rating_stays,
        fifty_reviews_at_once_leave_the_exact_mean,
        the_rating_is_exact_after_a_storm_of_writes,
        a_review_is_written_with_others_or_not_at_all,
        lists_of_reviews_count_and_page,
    ]
}

fn rated(rating: &str) -> ReviewInput {
    from(&json!({ "rating": rating }))
}

fn of(p: ProductId) -> ReviewFilter {
    ReviewFilter { product: Some(p), ..ReviewFilter::default() }
}

impl ShopFixture {
    async fn review(&self, p: &Product, input: &Value) -> Review {
        self.shop.acting_as(me()).reviews().create(p.id, &from(input)).await.unwrap()
    }

    async fn reviewer(&self, email: &str) -> Customer {
        self.shop.acting_as(me()).customers().create(&CustomerInput::new("Ada", "Lovelace", email)).await.unwrap()
    }

    async fn reviews(&self, filter: ReviewFilter) -> Vec<Review> {
        let all = Paging::first(10_000);
        self.shop.reviews().list(&filter, ReviewSort::CreatedAsc, &all).await.unwrap().0.items
    }

    /// Returns the mean and the number of reviews that a product shows.
    async fn rating(&self, id: ProductId) -> (String, i64) {
        let rating = self.fresh(id).await.rating;
        (rating.mean.to_string(), rating.count)
    }

    /// Computes the rating of every product from all its reviews, and compares it with the product and with its tally.
    async fn ratings_are_exact(&self, what: &str) {
        let every = ReviewFilter { include_deleted: IncludeDeleted::Yes, ..ReviewFilter::default() };
        let mut stars: BTreeMap<ProductId, Vec<Decimal>> = BTreeMap::new();
        for review in self.reviews(every).await {
            stars.entry(review.product_id).or_default().push(review.rating.decimal());
        }
        for (id, _) in read!(self.storage, products.revisions(None, 10_000)) {
            let stars = stars.remove(&id).unwrap_or_default();
            let (sum, count) = (stars.iter().sum::<Decimal>(), Decimal::from(stars.len()));
            let mean = if stars.is_empty() { Decimal::ZERO } else { sum / count };
            let mean = mean.round_dp_with_strategy(2, RoundingStrategy::MidpointAwayFromZero);
            let tally = attempt!(self.storage, reviews.lock_product(id)).unwrap().unwrap().tally;
            assert_eq!((Decimal::new(tally.sum, 1), tally.count), (sum, stars.len() as i64), "{what}: {id}");
            let shown = self.fresh(id).await.rating;
            if shown.source == RatingSource::Reviews {
                assert_eq!((shown.mean.decimal(), shown.count), (mean, stars.len() as i64), "{what}: {id}");
            }
        }
        assert!(stars.is_empty(), "{what}: there are reviews of no product: {stars:?}");
    }

    /// Sets the rating of a product as an import does.
    async fn set_rating(&self, id: ProductId, rating: RatingSummary) -> Product {
        let mut tx = self.storage.begin().await.unwrap();
        let before = tx.products().lock(&[id]).await.unwrap().pop().unwrap();
        let after = Product { rating, revision: before.revision + 1, ..before.clone() };
        tx.products().update(&before, &after).await.unwrap();
        tx.commit().await.unwrap();
        after
    }
}

/// Patches, replaces and deletes a review.
pub async fn r01_a_stale_version_of_a_review_changes_nothing(f: &ShopFixture) {
    let p = f.plain("Lamp").await;
    let r = f.review(&p, &json!({ "rating": 4 })).await;
    let reviews = f.shop.acting_as(me()).reviews();
    reviews.patch(r.id, v(1), from(&json!({ "rating": 3 }))).await.unwrap();
    let before = f.snapshot().await;
    for stale in [v(0), v(1), v(3), v(i64::MAX)] {
        match conflict(reviews.patch(r.id, stale, from(&json!({ "rating": 0 }))).await, "patch") {
            Conflict::Version { entity: Entity::Review, id, expected, actual: 2 } => {
                assert_eq!((id, v(expected)), (r.id.0, stale));
            }
            other => panic!("{other}"),
        }
        let put = reviews.replace(r.id, stale, &rated("1")).await;
        assert_eq!(code_of(put, "replace"), ErrorCode::VersionConflict);
        assert_eq!(code_of(reviews.delete(r.id, stale).await, "delete"), ErrorCode::VersionConflict);
    }
    assert_eq!(f.snapshot().await, before);
}

/// A write without a version is refused, unless the last write wins in the shop.
pub async fn r01_a_write_of_a_review_says_which_version_it_read(f: &ShopFixture) {
    let p = f.plain("Lamp").await;
    let r = f.review(&p, &json!({ "rating": 4 })).await;
    let before = f.snapshot().await;
    let reviews = f.shop.acting_as(me()).reviews();
    let none = ExpectedVersion::Unspecified;
    let results = [
        reviews.patch(r.id, none, from(&json!({ "rating": 0 }))).await.map(drop),
        reviews.replace(r.id, none, &rated("0")).await.map(drop),
        reviews.delete(r.id, none).await,
    ];
    for (n, result) in results.into_iter().enumerate() {
        assert_eq!(code_of(result, &format!("write {n}")), ErrorCode::VersionRequired);
    }
    assert_eq!(f.snapshot().await, before);
    let shop = f.another(ShopConfig::default().last_write_wins(true), f.cache());
    let reviews = shop.acting_as(me()).reviews();
    assert_eq!(reviews.patch(r.id, none, from(&json!({ "rating": 0 }))).await.unwrap().audit.version, 2);
    reviews.delete(r.id, none).await.unwrap();
    f.ratings_are_exact("the last write wins").await;
}

/// A patch keeps fields that it leaves out, and null removes a comment (RFC 7396). A PUT clears the comment, and keeps
/// product and customer.
pub async fn r01_a_patch_of_a_review_merges_and_a_put_replaces(f: &ShopFixture) {
    let (p, ada) = (f.plain("Lamp").await, f.reviewer("ada@example.com").await);
    let r = f.review(&p, &json!({ "rating": "4.5", "comment": " Bright. ", "customer_id": ada.id })).await;
    assert_eq!((r.product_id, r.customer_id, r.comment.as_deref()), (p.id, Some(ada.id), Some("Bright.")));
    assert_eq!((r.audit.version, &r.audit.created_by), (1, me().actor()));
    let reviews = f.shop.acting_as(me()).reviews();
    let patched = reviews.patch(r.id, v(1), from(&json!({ "rating": 3 }))).await.unwrap();
    let want = Review { rating: patched.rating, audit: patched.audit.clone(), ..r.clone() };
    assert_eq!((&patched, patched.rating.tenths(), patched.audit.version), (&want, 30, 2));
    assert_eq!(reviews.get(r.id, IncludeDeleted::No).await.unwrap(), want);
    let cleared = reviews.patch(r.id, v(2), from(&json!({ "comment": null }))).await.unwrap();
    assert_eq!((cleared.comment.as_deref(), cleared.rating.tenths()), (None, 30));
    reviews.patch(r.id, v(3), from(&json!({ "comment": "Dim." }))).await.unwrap();
    let put = reviews.replace(r.id, v(4), &rated("0.5")).await.unwrap();
    assert_eq!((put.comment.as_deref(), put.rating.tenths(), put.customer_id), (None, 5, Some(ada.id)));
    let same = reviews.replace(r.id, v(5), &rated("1").customer_id(ada.id)).await.unwrap();
    assert_eq!((same.customer_id, same.audit.version), (Some(ada.id), 6));
    let bob = f.reviewer("bob@example.com").await;
    let named = fields(reviews.replace(r.id, v(6), &rated("1").customer_id(bob.id)).await, "another customer");
    assert_eq!(named.into_iter().collect::<Vec<_>>(), [("customer_id".to_owned(), FieldCode::Inconsistent)]);
    assert_eq!(reviews.get(r.id, IncludeDeleted::No).await.unwrap(), same);
}

/// Such a write does not write an event either.
pub async fn r01_a_write_of_a_review_that_changes_nothing_moves_no_version(f: &ShopFixture) {
    let p = f.plain("Lamp").await;
    let r = f.review(&p, &json!({ "rating": 4, "comment": "Bright." })).await;
    let before = f.snapshot().await;
    let reviews = f.shop.acting_as(me()).reviews();
    assert_eq!(reviews.patch(r.id, v(1), from(&json!({ "comment": " Bright.\n" }))).await.unwrap(), r);
    assert_eq!(reviews.replace(r.id, v(1), &rated("4.0").comment("Bright.")).await.unwrap(), r);
    assert_eq!(f.snapshot().await, before);
}

/// The others receive `VERSION_CONFLICT`, and the rating is that of the winner.
pub async fn r01_of_many_editors_of_one_review_one_wins(f: &ShopFixture) {
    let p = f.plain("Lamp").await;
    let r = f.review(&p, &json!({ "rating": 5 })).await;
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..12 {
        let (shop, id) = (f.shop.clone(), r.id);
        tasks.spawn(async move {
            let patch = from(&json!({ "rating": format!("{}.{}", n / 10, n % 10) }));
            shop.acting_as(me()).reviews().patch(id, v(1), patch).await
        });
    }
    let (won, lost): (Vec<_>, Vec<_>) = tasks.join_all().await.into_iter().partition(Result::is_ok);
    assert_eq!(won.len(), 1);
    for result in lost {
        assert_eq!(code_of(result, "a later editor"), ErrorCode::VersionConflict);
    }
    let winner = won.into_iter().next().unwrap().unwrap();
    assert_eq!(f.fresh(p.id).await.rating.mean.decimal(), winner.rating.decimal());
    f.ratings_are_exact("one editor wins").await;
}

/// The rating of the product stays with it.
pub async fn r02_reviews_hide_and_return_with_their_product(f: &ShopFixture) {
    let (lamp, desk) = (f.plain("Lamp").await, f.plain("Desk").await);
    let r = f.review(&lamp, &json!({ "rating": 4 })).await;
    let kept = f.review(&desk, &json!({ "rating": 2 })).await;
    let reviews = f.shop.acting_as(me()).reviews();
    f.delete(&f.fresh(lamp.id).await, DeleteMode::Soft).await.unwrap();
    assert_eq!(code_of(reviews.get(r.id, IncludeDeleted::No).await, "a hidden review"), ErrorCode::NotFound);
    assert_eq!(f.reviews(ReviewFilter::default()).await, [kept.clone()]);
    let list = reviews.list(&of(lamp.id), ReviewSort::default(), &Paging::default()).await;
    assert_eq!(code_of(list, "the reviews of a deleted product"), ErrorCode::NotFound);
    let shown = reviews.get(r.id, IncludeDeleted::Yes).await.unwrap();
    let deleted = f.fresh(lamp.id).await;
    assert_eq!((shown.audit.deleted_at, shown.audit.version), (deleted.audit.deleted_at, 1));
    let before = f.snapshot().await;
    let patch = reviews.patch(r.id, v(1), from(&json!({ "rating": 1 }))).await;
    assert_eq!(code_of(patch, "an edit of a hidden review"), ErrorCode::NotFound);
    assert_eq!(code_of(reviews.replace(r.id, v(1), &rated("1")).await, "a replacement"), ErrorCode::NotFound);
    assert_eq!(code_of(reviews.delete(r.id, v(1)).await, "a deletion"), ErrorCode::NotFound);
    assert_eq!(f.snapshot().await, before);
    f.shop.acting_as(me()).products().restore(lamp.id, v(deleted.audit.version)).await.unwrap();
    assert_eq!(f.reviews(ReviewFilter::default()).await, [r, kept]);
    assert_eq!(f.rating(lamp.id).await, ("4.00".to_owned(), 1));
    f.ratings_are_exact("after a restore").await;
}

/// Its reviews can still be edited and deleted.
pub async fn r02_a_soft_deleted_customer_leaves_its_reviews(f: &ShopFixture) {
    let (p, ada) = (f.plain("Lamp").await, f.reviewer("ada@example.com").await);
    let r = f.review(&p, &json!({ "rating": 4, "customer_id": ada.id })).await;
    f.shop.acting_as(me()).customers().delete(ada.id, v(1), DeleteMode::Soft).await.unwrap();
    let reviews = f.shop.acting_as(me()).reviews();
    assert_eq!(reviews.get(r.id, IncludeDeleted::No).await.unwrap(), r);
    let filter = ReviewFilter { customer: Some(ada.id), ..ReviewFilter::default() };
    assert_eq!(f.reviews(filter).await, [r.clone()]);
    let edited = reviews.patch(r.id, v(1), from(&json!({ "rating": 2 }))).await.unwrap();
    assert_eq!((edited.customer_id, f.rating(p.id).await), (Some(ada.id), ("2.00".to_owned(), 1)));
    reviews.delete(r.id, v(2)).await.unwrap();
    assert_eq!(f.rating(p.id).await, ("0.00".to_owned(), 0));
}

/// A review without its customer has a new version, because its document changed.
pub async fn r05_force_removes_the_reviews_of_a_product_and_keeps_those_of_a_customer(f: &ShopFixture) {
    let (lamp, desk, ada) = (f.plain("Lamp").await, f.plain("Desk").await, f.reviewer("ada@example.com").await);
    let gone = f.review(&lamp, &json!({ "rating": 4, "customer_id": ada.id })).await;
    let kept = f.review(&desk, &json!({ "rating": 3, "comment": "Solid.", "customer_id": ada.id })).await;
    f.delete(&f.fresh(lamp.id).await, DeleteMode::Force).await.unwrap();
    let reviews = f.shop.acting_as(me()).reviews();
    assert_eq!(code_of(reviews.get(gone.id, IncludeDeleted::Yes).await, "a removed review"), ErrorCode::NotFound);
    let revision = f.fresh(desk.id).await.revision;
    f.shop.acting_as(me()).customers().delete(ada.id, v(1), DeleteMode::Force).await.unwrap();
    let found = reviews.get(kept.id, IncludeDeleted::No).await.unwrap();
    let mut audit = kept.audit.clone();
    audit.version = 2;
    assert_eq!(found, Review { customer_id: None, audit, ..kept.clone() });
    let stale = reviews.patch(kept.id, v(1), from(&json!({ "rating": 1 }))).await;
    assert_eq!(code_of(stale, "the version before"), ErrorCode::VersionConflict);
    assert_eq!(f.fresh(desk.id).await.revision, revision, "the product shows no customers");
    reviews.patch(kept.id, v(2), from(&json!({ "rating": 1 }))).await.unwrap();
    let filter = ReviewFilter { customer: Some(ada.id), ..ReviewFilter::default() };
    assert_eq!(f.reviews(filter).await, []);
    f.ratings_are_exact("after permanent deletions").await;
}

/// A write that changes the rating of the product has a second event, with the next revision of the product. Events
/// contain no personal data.
pub async fn r13_each_write_of_a_review_has_its_events(f: &ShopFixture) {
    use EventKind as K;
    let (p, ada) = (f.plain("Lamp").await, f.reviewer("ada@example.com").await);
    let start = f.head().await;
    let reviews = f.shop.acting_as(me()).reviews();
    let r = f.review(&p, &json!({ "rating": 4, "comment": "Bright.", "customer_id": ada.id })).await;
    reviews.patch(r.id, v(1), from(&json!({ "comment": "Very bright." }))).await.unwrap();
    reviews.patch(r.id, v(2), from(&json!({ "rating": 2 }))).await.unwrap();
    reviews.replace(r.id, v(3), &rated("3")).await.unwrap();
    reviews.delete(r.id, v(4)).await.unwrap();
    let events = f.events_after(start).await;
    let found: Vec<_> = events.iter().map(|e| (e.kind, e.revision)).collect();
    assert_eq!(
        found,
        [
            (K::ReviewCreated, 1),
            (K::ProductUpdated, 2),
            (K::ReviewUpdated, 2),
            (K::ReviewUpdated, 3),
            (K::ProductUpdated, 3),
            (K::ReviewUpdated, 4),
            (K::ProductUpdated, 4),
            (K::ReviewDeleted, 5),
            (K::ProductUpdated, 5),
        ]
    );
    for e in &events {
        let about = if e.kind.entity() == Entity::Product { p.id.0 } else { r.id.0 };
        assert_eq!((e.aggregate_id, &e.actor), (about, me().actor()), "{e:?}");
        let text = serde_json::to_string(e).unwrap().to_lowercase();
        assert!(!text.contains("bright") && !text.contains(&ada.id.to_string()), "{text}");
    }
    let product = f.fresh(p.id).await;
    assert_eq!((product.revision, product.audit.version), (5, 1), "a review does not edit the product");
}

/// Neither the review nor the rating is written.
pub async fn r13_a_failed_write_of_a_review_has_no_event(f: &ShopFixture) {
    let (p, ada) = (f.plain("Lamp").await, f.reviewer("ada@example.com").await);
    let input = json!({ "rating": 4, "customer_id": ada.id });
    let r = f.review(&p, &input).await;
    let before = f.snapshot().await;
    let reviews = f.shop.acting_as(me()).reviews();
    reviews.create(p.id, &from(&input)).await.unwrap_err();
    reviews.patch(r.id, v(1), from(&json!({ "rating": 6 }))).await.unwrap_err();
    reviews.delete(r.id, v(9)).await.unwrap_err();
    let mut tx = f.shop.begin().await.unwrap();
    reviews.create_in(&mut tx, p.id, &rated("1")).await.unwrap();
    drop(tx);
    assert_eq!(f.snapshot().await, before);
    f.ratings_are_exact("after failed writes").await;
}

/// Searches filter by the new rating.
pub async fn r14_the_index_follows_the_rating(f: &ShopFixture) {
    let (lamp, _) = (f.plain("Lamp").await, f.plain("Desk").await);
    let at_least = |n| SearchFilter { min_rating: Some(n), ..SearchFilter::default() };
    f.index_is_in_step("before").await;
    assert_eq!(f.searched("", at_least(400)).await, [""; 0]);
    let r = f.review(&lamp, &json!({ "rating": "4.5" })).await;
    f.index_is_in_step("created").await;
    assert_eq!(f.searched("", at_least(400)).await, ["Lamp"]);
    let reviews = f.shop.acting_as(me()).reviews();
    reviews.patch(r.id, v(1), from(&json!({ "rating": "3.5" }))).await.unwrap();
    f.index_is_in_step("edited").await;
    assert_eq!(f.searched("", at_least(400)).await, [""; 0]);
    assert_eq!(f.searched("", at_least(350)).await, ["Lamp"]);
    reviews.delete(r.id, v(2)).await.unwrap();
    f.index_is_in_step("deleted").await;
    assert_eq!(f.searched("", at_least(1)).await, [""; 0]);
}

/// The product, its lists and its lists by rating are read from the cache before and after each write.
pub async fn r15_a_review_makes_the_cached_product_stale(f: &ShopFixture) {
    let top = f.category("Top", None).await;
    let (lamp, desk) = (f.plain_in("Lamp", &[&top]).await, f.plain_in("Desk", &[&top]).await);
    f.review(&desk, &json!({ "rating": 3 })).await;
    let shown = async || {
        let product = f.shop.products().get(lamp.id).await.unwrap().value.rating;
        let mut lists = Vec::new();
        for category in [None, Some(top.id)] {
            let filter = crate::catalog::ProductFilter { category, ..crate::catalog::ProductFilter::default() };
            let paging = Paging::Offset { offset: 0, limit: 10 };
            let query = ProductListQuery { filter, sort: ProductSort::RatingDesc, paging };
            let page = f.shop.products().list(&query).await.unwrap();
            lists.push(page.value.page.items.iter().map(|p| p.title.clone()).collect::<Vec<_>>());
        }
        assert_eq!(lists[0], lists[1]);
        (product.mean.to_string(), product.count, lists.remove(0))
    };
    let first = |title: &str| {
        let other = if title == "Lamp" { "Desk" } else { "Lamp" };
        vec![title.to_owned(), other.to_owned()]
    };
    assert_eq!(shown().await, ("0.00".to_owned(), 0, first("Desk")));
    let r = f.review(&lamp, &json!({ "rating": 4 })).await;
    assert_eq!(shown().await, ("4.00".to_owned(), 1, first("Lamp")));
    let reviews = f.shop.acting_as(me()).reviews();
    reviews.patch(r.id, v(1), from(&json!({ "rating": "2.9" }))).await.unwrap();
    assert_eq!(shown().await, ("2.90".to_owned(), 1, first("Desk")));
    reviews.delete(r.id, v(2)).await.unwrap();
    assert_eq!(shown().await, ("0.00".to_owned(), 0, first("Desk")));
}

/// Also if both are created at the same time.
pub async fn r16_a_second_review_names_the_customer(f: &ShopFixture) {
    let (p, ada) = (f.plain("Lamp").await, f.reviewer("ada@example.com").await);
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..8 {
        let (shop, product, input) = (f.shop.clone(), p.id, ReviewInput::new(n % 5).customer_id(ada.id));
        tasks.spawn(async move { shop.acting_as(me()).reviews().create(product, &input).await });
    }
    let (made, refused): (Vec<_>, Vec<_>) = tasks.join_all().await.into_iter().partition(Result::is_ok);
    assert_eq!(made.len(), 1);
    for result in refused {
        match conflict(result, "a second review") {
            Conflict::Duplicate { entity: Entity::Review, field: "customer_id", value } => {
                assert_eq!(value, ada.id.to_string());
            }
            other => panic!("{other}"),
        }
    }
    // Another product, and a review without a customer.
    let desk = f.plain("Desk").await;
    f.review(&desk, &json!({ "rating": 1, "customer_id": ada.id })).await;
    f.review(&p, &json!({ "rating": 1 })).await;
    f.ratings_are_exact("one review of a customer").await;
}

/// Uses create, PUT and PATCH.
pub async fn r17_bad_reviews_name_each_field_and_leave_nothing(f: &ShopFixture) {
    let p = f.plain("Lamp").await;
    let r = f.review(&p, &json!({ "rating": 4 })).await;
    let before = f.snapshot().await;
    let reviews = f.shop.acting_as(me()).reviews();
    for (bad, expected) in [
        (json!({ "rating": "5.1" }), &["rating"][..]),
        (json!({ "rating": "-0.1" }), &["rating"]),
        (json!({ "rating": "4.55" }), &["rating"]),
        (json!({ "rating": "1e20" }), &["rating"]),
        (json!({ "comment": "x".repeat(5_001) }), &["comment"]),
        (json!({ "comment": "a\u{0}b" }), &["comment"]),
        (json!({ "rating": 6, "comment": "\u{7}" }), &["comment", "rating"]),
    ] {
        let mut input = json!({ "rating": 3 });
        for (k, value) in bad.as_object().unwrap() {
            input[k] = value.clone();
        }
        for result in [
            reviews.create(p.id, &from(&input)).await,
            reviews.replace(r.id, v(1), &from(&input)).await,
            reviews.patch(r.id, v(1), from(&bad)).await,
        ] {
            let named = fields(result, &bad.to_string());
            assert_eq!(named.keys().map(String::as_str).collect::<Vec<_>>(), expected, "{bad}");
        }
    }
    let named = fields(reviews.patch(r.id, v(1), from(&json!({ "rating": null }))).await, "rating");
    assert_eq!(named.into_iter().collect::<Vec<_>>(), [("rating".to_owned(), FieldCode::Required)]);
    let [one, two] = ["1", "2"].map(|n| rated(n).rating.0).map(|n| crate::money::Stars::exact(n).unwrap());
    let filter = ReviewFilter { min_rating: Some(two), max_rating: Some(one), ..ReviewFilter::default() };
    let named = fields(reviews.list(&filter, ReviewSort::default(), &Paging::default()).await, "bounds");
    assert_eq!(named.into_iter().collect::<Vec<_>>(), [("min_rating".to_owned(), FieldCode::Inconsistent)]);
    assert_eq!(f.snapshot().await, before);
}

/// The product and the customer do not exist or are soft-deleted. The error names the field.
pub async fn r17_a_review_of_nothing_or_of_nobody_is_refused(f: &ShopFixture) {
    let (p, gone) = (f.plain("Lamp").await, f.plain("Gone").await);
    f.delete(&gone, DeleteMode::Soft).await.unwrap();
    let away = f.reviewer("away@example.com").await;
    f.shop.acting_as(me()).customers().delete(away.id, v(1), DeleteMode::Soft).await.unwrap();
    let before = f.snapshot().await;
    let reviews = f.shop.acting_as(me()).reviews();
    for product in [gone.id, ProductId(Uuid::from_u128(3))] {
        let named = fields(reviews.create(product, &rated("4")).await, "a product");
        assert_eq!(named.into_iter().collect::<Vec<_>>(), [("product_id".to_owned(), FieldCode::ReferenceNotFound)]);
    }
    for customer in [away.id, CustomerId(Uuid::from_u128(3))] {
        let named = fields(reviews.create(p.id, &rated("4").customer_id(customer)).await, "a customer");
        assert_eq!(named.into_iter().collect::<Vec<_>>(), [("customer_id".to_owned(), FieldCode::ReferenceNotFound)]);
    }
    let unknown = ReviewId(Uuid::from_u128(3));
    assert_eq!(code_of(reviews.get(unknown, IncludeDeleted::Yes).await, "get"), ErrorCode::NotFound);
    assert_eq!(code_of(reviews.delete(unknown, v(1)).await, "delete"), ErrorCode::NotFound);
    assert_eq!(f.snapshot().await, before);
}

/// The mean has two decimal places, rounded half away from zero.
pub async fn the_rating_follows_every_write(f: &ShopFixture) {
    let p = f.plain("Lamp").await;
    let reviews = f.shop.acting_as(me()).reviews();
    let mut made = Vec::new();
    for (rating, mean) in [("5", "5.00"), ("4", "4.50"), ("4", "4.33"), ("0.1", "3.28"), ("0", "2.62"), ("5", "3.02")] {
        made.push(f.review(&p, &json!({ "rating": rating })).await);
        assert_eq!(f.rating(p.id).await, (mean.to_owned(), made.len() as i64));
    }
    reviews.patch(made[4].id, v(1), from(&json!({ "rating": "4.5" }))).await.unwrap();
    assert_eq!(f.rating(p.id).await, ("3.77".to_owned(), 6));
    reviews.replace(made[3].id, v(1), &rated("4.9")).await.unwrap();
    assert_eq!(f.rating(p.id).await, ("4.57".to_owned(), 6));
    for (n, mean) in [(0, "4.48"), (5, "4.35"), (1, "4.47"), (2, "4.70")] {
        reviews.delete(made[n].id, v(1)).await.unwrap();
        assert_eq!(f.rating(p.id).await.0, mean);
    }
    reviews.delete(made[3].id, v(2)).await.unwrap();
    reviews.delete(made[4].id, v(2)).await.unwrap();
    assert_eq!(f.rating(p.id).await, ("0.00".to_owned(), 0));
    f.ratings_are_exact("after all reviews were deleted").await;
}

/// Reviews are counted meanwhile, so that the rating is right once it comes from reviews again.
pub async fn an_external_rating_stays(f: &ShopFixture) {
    use EventKind as K;
    let p = f.plain("Lamp").await;
    let first = f.review(&p, &json!({ "rating": 5 })).await;
    let external =
        RatingSummary { mean: Rating::from_hundredths(417).unwrap(), count: 90, source: RatingSource::External };
    let imported = f.set_rating(p.id, external).await;
    let start = f.head().await;
    let second = f.review(&p, &json!({ "rating": 4 })).await;
    let reviews = f.shop.acting_as(me()).reviews();
    reviews.patch(second.id, v(1), from(&json!({ "rating": 1 }))).await.unwrap();
    reviews.delete(first.id, v(1)).await.unwrap();
    f.review(&p, &json!({ "rating": 2 })).await;
    assert_eq!(f.fresh(p.id).await, imported, "the product stays as it is, with its revision");
    let kinds: Vec<K> = f.events_after(start).await.iter().map(|e| e.kind).collect();
    assert_eq!(kinds, [K::ReviewCreated, K::ReviewUpdated, K::ReviewDeleted, K::ReviewCreated]);
    f.ratings_are_exact("the tally follows").await;
    // The rating comes from reviews again.
    let tally = attempt!(f.storage, reviews.lock_product(p.id)).unwrap().unwrap().tally;
    assert_eq!(tally, ReviewTally { sum: 30, count: 2 });
    f.set_rating(p.id, tally.rating_after(RatingSummary::default())).await;
    assert_eq!(f.rating(p.id).await, ("1.50".to_owned(), 2));
    f.review(&p, &json!({ "rating": 0 })).await;
    assert_eq!(f.rating(p.id).await, ("1.00".to_owned(), 3));
    f.ratings_are_exact("the rating follows again").await;
}

/// Two processes create the reviews. No review is lost from the sum.
pub async fn fifty_reviews_at_once_leave_the_exact_mean(f: &ShopFixture) {
    let top = f.category("Top", None).await;
    let p = f.plain_in("Lamp", &[&top]).await;
    let other = f.another(ShopConfig::default(), f.cache());
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..50 {
        let shop = if n % 2 == 0 { f.shop.clone() } else { other.clone() };
        let (id, input) = (p.id, rated(&format!("{}.{}", n % 5, n / 5)));
        tasks.spawn(async move { shop.acting_as(me()).reviews().create(id, &input).await.map(|r| r.rating.tenths()) });
    }
    let tenths: i64 = tasks.join_all().await.into_iter().map(|made| i64::from(made.unwrap())).sum();
    assert_eq!(tenths, 10 * (10 + 20 + 30 + 40) + 5 * 45);
    // 1225 tenths over 50 reviews are 2.45 stars.
    assert_eq!(f.rating(p.id).await, ("2.45".to_owned(), 50));
    assert_eq!(f.fresh(p.id).await.revision, 1 + 50);
    f.ratings_are_exact("fifty at once").await;
    f.index_is_in_step("fifty at once").await;
}

/// Reviews are created, edited and deleted, while their customers and products are deleted, stock changes and
/// categories move.
pub async fn the_rating_is_exact_after_a_storm_of_writes(f: &ShopFixture) {
    let seed = fresh_seed();
    println!("seed {seed}");
    let (top, side) = (f.category("Top", None).await, f.category("Side", None).await);
    let below = f.category("Below", Some(&top)).await;
    let mut products = Vec::new();
    for n in 0..4 {
        products.push(f.plain_in(&format!("P {n}"), &[&below]).await);
    }
    let mut customers = Vec::new();
    for n in 0..12 {
        customers.push(f.reviewer(&format!("c{n}@example.com")).await.id);
    }
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..6 {
        let (shop, products, customers) = (f.shop.clone(), products.clone(), customers.clone());
        let (top, side, below) = (top.id, side.id, below.id);
        tasks.spawn(async move {
            let mut rng = StdRng::seed_from_u64(seed.wrapping_add(task));
            for _ in 0..25 {
                let shop = shop.acting_as(me());
                let p = products.choose(&mut rng).unwrap();
                let rating = format!("{}.{}", rng.random_range(0..5), rng.random_range(0..10));
                let all = ReviewFilter::default();
                let some = shop.reviews().list(&all, ReviewSort::default(), &Paging::first(50)).await.unwrap().0.items;
                let one = some.choose(&mut rng);
                let done = match (rng.random_range(0..20), one) {
                    (0..8, _) | (8..16, None) => {
                        let customer = customers.choose(&mut rng).copied().filter(|_| rng.random_bool(0.7));
                        let input = ReviewInput { customer_id: customer, ..rated(&rating) };
                        shop.reviews().create(p.id, &input).await.map(drop)
                    }
                    (8..12, Some(r)) => {
                        let patch = from(&json!({ "rating": rating }));
                        shop.reviews().patch(r.id, v(r.audit.version), patch).await.map(drop)
                    }
                    (12..16, Some(r)) => shop.reviews().delete(r.id, v(r.audit.version)).await,
                    (16, _) => {
                        let customer = *customers.choose(&mut rng).unwrap();
                        shop.customers().delete(customer, v(1), DeleteMode::Force).await
                    }
                    (17, _) => shop.inventory().adjust(super::adjustment(p.skus[0].id, 1)).await.map(drop),
                    (18, _) => {
                        let at = shop.categories().get_fresh(below, IncludeDeleted::No).await.unwrap();
                        let parent = if at.parent_id == Some(top) { side } else { top };
                        let version = v(at.audit.version);
                        shop.categories().move_to(below, version, Some(parent.to_string())).await.map(drop)
                    }
                    _ => {
                        let read = shop.products().get_fresh(p.id, IncludeDeleted::Yes).await.unwrap();
                        let version = v(read.audit.version);
                        if read.audit.is_live() {
                            shop.products().delete(p.id, version, DeleteMode::Soft).await
                        } else {
                            shop.products().restore(p.id, version).await.map(drop)
                        }
                    }
                };
                if let Err(error) = done {
                    let expected = matches!(
                        error.code(),
                        ErrorCode::VersionConflict
                            | ErrorCode::NotFound
                            | ErrorCode::Duplicate
                            | ErrorCode::Validation
                            | ErrorCode::StateConflict
                    );
                    assert!(expected, "seed {seed}: {error:?}");
                }
            }
        });
    }
    tasks.join_all().await;
    f.ratings_are_exact(&format!("seed {seed}")).await;
    f.index_is_in_step(&format!("seed {seed}")).await;
    // Lists by category show the same ratings.
    let query = |category| ProductListQuery {
        filter: crate::catalog::ProductFilter { category, ..crate::catalog::ProductFilter::default() },
        sort: ProductSort::RatingDesc,
        paging: Paging::first(10),
    };
    let all = f.shop.products().list(&query(None)).await.unwrap().value.page.items.clone();
    let listed = f.shop.products().list(&query(Some(below.id))).await.unwrap().value.page.items.clone();
    assert_eq!(listed, all, "seed {seed}");
}

/// A review and an edit of its product share a transaction.
pub async fn a_review_is_written_with_others_or_not_at_all(f: &ShopFixture) {
    let p = f.plain("Lamp").await;
    let shop = f.shop.acting_as(me());
    let mut tx = f.shop.begin().await.unwrap();
    let desk = shop.products().create_in(&mut tx, &flat("Desk")).await.unwrap();
    let a = shop.reviews().create_in(&mut tx, desk.id, &rated("4")).await.unwrap();
    let b = shop.reviews().create_in(&mut tx, p.id, &rated("3")).await.unwrap();
    shop.reviews().patch_in(&mut tx, a.id, v(1), from(&json!({ "rating": 2 }))).await.unwrap();
    shop.reviews().replace_in(&mut tx, b.id, v(1), &rated("1.5")).await.unwrap();
    let c = shop.reviews().create_in(&mut tx, p.id, &rated("5")).await.unwrap();
    shop.reviews().delete_in(&mut tx, c.id, v(1)).await.unwrap();
    tx.commit().await.unwrap().run().await;
    assert_eq!((f.rating(desk.id).await.0, f.rating(p.id).await.0), ("2.00".to_owned(), "1.50".to_owned()));
    assert_eq!(f.reviews(ReviewFilter::default()).await.len(), 2);
    f.ratings_are_exact("written together").await;
    let before = f.snapshot().await;
    let mut tx = f.shop.begin().await.unwrap();
    shop.reviews().delete_in(&mut tx, a.id, v(2)).await.unwrap();
    shop.reviews().create_in(&mut tx, p.id, &rated("5")).await.unwrap();
    let taken = shop.products().create_in(&mut tx, &from(&json!({ "title": "X", "slug": "lamp", "price": 1 }))).await;
    assert_eq!(duplicate_field(taken, "a taken slug"), "slug");
    drop(tx);
    assert_eq!(f.snapshot().await, before);
}

/// A page by number has a total, and one by cursor has none.
pub async fn lists_of_reviews_count_and_page(f: &ShopFixture) {
    let (lamp, desk) = (f.plain("Lamp").await, f.plain("Desk").await);
    let ada = f.reviewer("ada@example.com").await;
    let mut made = Vec::new();
    for n in 0..6 {
        made.push(f.review(&lamp, &json!({ "rating": n % 3 })).await);
    }
    made.push(f.review(&desk, &json!({ "rating": 5, "customer_id": ada.id })).await);
    let reviews = f.shop.reviews();
    let pick = |numbers: &[usize]| numbers.iter().map(|n| made[*n].clone()).collect::<Vec<_>>();
    let by_rating = of(lamp.id);
    for (sort, expected) in [
        (ReviewSort::RatingDesc, [5, 2, 4, 1]),
        (ReviewSort::RatingAsc, [0, 3, 1, 4]),
        (ReviewSort::CreatedDesc, [5, 4, 3, 2]),
        (ReviewSort::CreatedAsc, [0, 1, 2, 3]),
    ] {
        let (page, total) = reviews.list(&by_rating, sort, &Paging::Offset { offset: 0, limit: 4 }).await.unwrap();
        assert_eq!((page.items, total), (pick(&expected), Some(Total { count: 6, exact: true })));
        let (rest, total) =
            reviews.list(&by_rating, sort, &Paging::Keyset { after: page.next, limit: 4 }).await.unwrap();
        assert_eq!((rest.items.len(), rest.next, total), (2, None, None));
    }
    let filter = ReviewFilter { customer: Some(ada.id), ..ReviewFilter::default() };
    assert_eq!(f.reviews(filter).await, pick(&[6]));
    // A customer who does not exist has no reviews: reading reviews does not tell who is a customer.
    let filter = ReviewFilter { customer: Some(CustomerId(Uuid::from_u128(3))), ..ReviewFilter::default() };
    assert_eq!(f.reviews(filter).await, []);
    let none = f.plain("New").await;
    assert_eq!(f.reviews(of(none.id)).await, []);
    let unknown = reviews.list(&of(ProductId(Uuid::from_u128(3))), ReviewSort::default(), &Paging::default()).await;
    assert_eq!(code_of(unknown, "an unknown product"), ErrorCode::NotFound);
}
