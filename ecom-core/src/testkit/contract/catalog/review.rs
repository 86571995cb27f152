//! The contract of [`ReviewRepository`](crate::port::ReviewRepository).

use std::cmp::Reverse;
use std::sync::Arc;

use crate::domain::catalog::product::{
    Product, ProductFilter, ProductSort, ProductStatus, RatingSource, RatingSummary,
};
use crate::domain::catalog::review::{Review, ReviewFilter, ReviewSort, ReviewTally};
use crate::domain::common::{Audit, IncludeDeleted};
use crate::domain::sales::customer::Customer;
use crate::error::{Error, ErrorCode, FieldCode};
use crate::id::{CustomerId, IdSource as _, ProductId, ReviewId};
use crate::money::{Rating, Stars};
use crate::paging::{Keyset, Page, Paging, SortKey, Total};
use crate::port::catalog::review::ReviewedProduct;
use crate::port::storage::Storage;
use crate::testkit::check::Pages;
use crate::testkit::sample::Env;
use crate::testkit::{code_of, is_taken};

suite! {
    /// Runs the suite of [`ReviewRepository`](crate::port::ReviewRepository). Takes the path of an
    /// `async fn() -> StorageFixture`; see [`testkit`](crate::testkit).
    review_suite, review: fixture => &fixture.storage, __review_tests: [
        every_field_survives_a_round_trip,
        every_field_is_updated,
        the_longest_comments_survive_a_round_trip,
        a_customer_reviews_a_product_once,
        a_review_of_no_product_is_refused,
        r01_an_update_from_an_old_version_changes_nothing,
        r02_reviews_hide_and_return_with_their_product,
        r02_reviews_of_a_soft_deleted_customer_stay,
        r05_purge_of_a_product_removes_its_reviews,
        r05_purge_of_a_customer_keeps_its_reviews_without_it,
        a_review_is_purged_alone,
        a_rating_is_written_to_the_product_and_to_its_lists,
        an_edit_of_a_product_keeps_its_tally,
        the_lock_of_a_product_makes_reviewers_wait_for_each_other,
        a_customer_is_held_as_it_is,
        every_sort_pages_through_all_reviews_exactly_once,
        a_cursor_of_another_sort_is_refused,
        a_cursor_outside_of_the_filter_selects_no_other_rows,
        counts_stop_at_their_bound,
        a_page_costs_one_statement_whatever_its_size,
    ]
}

async fn get(storage: &Arc<dyn Storage>, id: ReviewId) -> Option<Review> {
    read!(storage, reviews.get(id, IncludeDeleted::No))
}

async fn list(storage: &Arc<dyn Storage>, filter: &ReviewFilter, sort: ReviewSort, paging: &Paging) -> Page<Review> {
    read!(storage, reviews.list(filter, sort, paging))
}

/// Returns all reviews that match, oldest first, and checks that the count is their number.
async fn all(storage: &Arc<dyn Storage>, filter: &ReviewFilter) -> Vec<Review> {
    let total = read!(storage, reviews.count(filter, 1_000));
    let page = list(storage, filter, ReviewSort::CreatedAsc, &Paging::first(1_000)).await;
    assert_eq!((total, page.next), (Total { count: page.items.len() as u64, exact: true }, None), "{filter:?}");
    page.items
}

async fn reviewed(storage: &Arc<dyn Storage>, id: ProductId) -> ReviewedProduct {
    attempt!(storage, reviews.lock_product(id)).unwrap().expect("the product exists")
}

fn of(product: &Product) -> ReviewFilter {
    ReviewFilter { product: Some(product.id), ..ReviewFilter::default() }
}

fn by(customer: &Customer) -> ReviewFilter {
    ReviewFilter { customer: Some(customer.id), ..ReviewFilter::default() }
}

fn with_deleted(filter: &ReviewFilter) -> ReviewFilter {
    ReviewFilter { include_deleted: IncludeDeleted::Yes, ..filter.clone() }
}

fn stars(tenths: i64) -> Stars {
    Stars::from_tenths(tenths).unwrap()
}

fn edited(env: &Env, review: &Review, tenths: i64) -> Review {
    let mut after = Review { rating: stars(tenths), ..review.clone() };
    after.audit.edited(env.now(), &env.actor);
    after
}

/// Stores two products and two customers.
async fn scene(env: &Env, storage: &Arc<dyn Storage>) -> ([Product; 2], [Customer; 2]) {
    let products = [env.priced("Lamp", 1_000, 3), env.priced("Desk", 2_000, 3)];
    let customers = [env.customer("Ada", "L", "ada@example.com"), env.customer("Bob", "L", "bob@example.com")];
    env.insert_products(storage, &products).await.unwrap();
    env.insert_customers(storage, &customers, &[]).await.unwrap();
    (products, customers)
}

/// Rows with all fields, and rows without optional fields, are read back as they were inserted.
pub async fn every_field_survives_a_round_trip(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let ([lamp, desk], [ada, bob]) = scene(&env, storage).await;
    let rows = [
        env.full_review(&lamp, &ada, 45),
        env.review(&lamp, Some(&bob), 0),
        env.review(&lamp, None, 50),
        env.review(&lamp, None, 1),
        env.full_review(&desk, &ada, 30),
    ];
    env.insert_reviews(storage, &rows).await.unwrap();
    for expected in &rows {
        assert_eq!(get(storage, expected.id).await.as_ref(), Some(expected), "a review is read as it was inserted");
    }
    assert_eq!(get(storage, ReviewId(env.ids.next())).await, None, "`get` of an unknown review finds nothing");
    assert_eq!(all(storage, &ReviewFilter::default()).await, rows, "the list has all reviews");
}

/// An update sets and clears every field.
pub async fn every_field_is_updated(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let ([lamp, _], [ada, bob]) = scene(&env, storage).await;
    let (a, b) = (env.review(&lamp, Some(&ada), 10), env.full_review(&lamp, &bob, 20));
    env.insert_reviews(storage, &[a.clone(), b.clone()]).await.unwrap();
    let after = Review { comment: Some("Ünïcödé".to_owned()), ..edited(&env, &a, 35) };
    env.update_review(storage, &a, &after).await.unwrap();
    assert_eq!(get(storage, a.id).await.as_ref(), Some(&after), "every field is updated");
    let emptied = Review { comment: None, ..edited(&env, &after, 0) };
    env.update_review(storage, &after, &emptied).await.unwrap();
    assert_eq!(get(storage, a.id).await, Some(emptied), "every field is emptied");
    assert_eq!(get(storage, b.id).await, Some(b), "other rows stay as they are");
}

/// The comments have the maximum length, with characters of up to four bytes.
pub async fn the_longest_comments_survive_a_round_trip(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let ([lamp, _], _) = scene(&env, storage).await;
    for c in ["🎧", "ß", "x", "\n"] {
        let comment = format!("a{}b", c.repeat(Review::MAX_COMMENT - 2));
        let review = Review { comment: Some(comment), ..env.review(&lamp, None, 40) };
        env.insert_reviews(storage, std::slice::from_ref(&review)).await.unwrap();
        assert_eq!(get(storage, review.id).await, Some(review), "the longest comments are kept");
    }
}

/// `DUPLICATE` names the customer. Reviews without a customer are not compared.
pub async fn a_customer_reviews_a_product_once(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let ([lamp, desk], [ada, bob]) = scene(&env, storage).await;
    let first = env.review(&lamp, Some(&ada), 10);
    env.insert_reviews(storage, std::slice::from_ref(&first)).await.unwrap();
    let twin = env.review(&lamp, Some(&ada), 50);
    is_taken("customer_id", env.insert_reviews(storage, &[twin.clone()]).await, "a second review");
    assert_eq!(get(storage, twin.id).await, None, "an insert that is refused leaves nothing behind");
    let pair = [env.review(&desk, Some(&bob), 10), env.review(&desk, Some(&bob), 20)];
    is_taken("customer_id", env.insert_reviews(storage, &pair).await, "within a call");
    assert_eq!(get(storage, pair[0].id).await, None, "all or nothing");
    let others = [
        env.review(&desk, Some(&ada), 10),
        env.review(&lamp, Some(&bob), 10),
        env.review(&lamp, None, 10),
        env.review(&lamp, None, 10),
    ];
    env.insert_reviews(storage, &others).await.expect("these are reviews of another pair, or have no customer");
    // A review that is hidden with its product still counts.
    env.soft_delete(storage, &lamp).await.unwrap();
    is_taken("customer_id", env.insert_reviews(storage, &[twin.clone()]).await, "a hidden review");
    attempt!(storage, reviews.purge(first.id)).unwrap();
    env.insert_reviews(storage, &[twin]).await.expect("the first review is gone");
}

/// The error names the field.
pub async fn a_review_of_no_product_is_refused(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let ([lamp, _], [ada, _]) = scene(&env, storage).await;
    let unknown = env.priced("Unknown", 1, 1);
    let rows = [env.review(&lamp, Some(&ada), 10), env.review(&unknown, None, 10)];
    match env.insert_reviews(storage, &rows).await {
        Err(Error::Validation(e)) => {
            assert_eq!(e.0.len(), 1, "{e:?}");
            assert_eq!((e.0[0].field.as_str(), e.0[0].code), ("product_id", FieldCode::ReferenceNotFound));
            assert!(e.0[0].message.contains(&unknown.id.to_string()), "{e:?}");
        }
        other => panic!("must be a reference error, is {other:?}"),
    }
    assert_eq!(all(storage, &ReviewFilter::default()).await, [], "all or nothing");
    assert_eq!(attempt!(storage, reviews.lock_product(unknown.id)).unwrap(), None, "there is nothing to lock");
}

/// An update from an old version changes neither the row nor anything else of the transaction.
pub async fn r01_an_update_from_an_old_version_changes_nothing(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let ([lamp, _], [ada, bob]) = scene(&env, storage).await;
    let (a, b) = (env.review(&lamp, Some(&ada), 10), env.review(&lamp, Some(&bob), 20));
    env.insert_reviews(storage, &[a.clone(), b.clone()]).await.unwrap();
    let winner = edited(&env, &b, 30);
    env.update_review(storage, &b, &winner).await.unwrap();
    let before = reviewed(storage, lamp.id).await;
    let mut uow = storage.begin().await.unwrap();
    let locked = uow.reviews().lock_product(lamp.id).await.unwrap().unwrap();
    let tally = ReviewTally { sum: 90, count: 2 };
    uow.reviews().rate(&ReviewedProduct { tally, revision: 9, ..locked }).await.unwrap();
    uow.reviews().update(&a, &edited(&env, &a, 40)).await.unwrap();
    let answer = uow.reviews().update(&b, &edited(&env, &b, 50)).await;
    assert_eq!(code_of(answer, "an old version"), ErrorCode::VersionConflict, "an old version is refused");
    drop(uow);
    assert_eq!(get(storage, a.id).await, Some(a), "a unit of work that is dropped changes nothing");
    assert_eq!(get(storage, b.id).await, Some(winner), "the newer version stays");
    assert_eq!(reviewed(storage, lamp.id).await, before, "the rating is part of the transaction");
}

/// The reviews of other products stay. A restore shows the reviews again as they were.
pub async fn r02_reviews_hide_and_return_with_their_product(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let ([lamp, desk], [ada, bob]) = scene(&env, storage).await;
    let of_lamp = [env.full_review(&lamp, &ada, 45), env.review(&lamp, Some(&bob), 10)];
    let of_desk = env.review(&desk, Some(&ada), 30);
    let rows = [of_lamp[0].clone(), of_lamp[1].clone(), of_desk.clone()];
    env.insert_reviews(storage, &rows).await.unwrap();
    let gone = env.soft_delete(storage, &lamp).await.unwrap();
    assert!(!reviewed(storage, lamp.id).await.live, "a lock tells whether the product is live");
    let hidden =
        of_lamp.clone().map(|r| Review { audit: Audit { deleted_at: gone.audit.deleted_at, ..r.audit.clone() }, ..r });
    for filter in [of(&lamp), by(&bob)] {
        assert_eq!(all(storage, &filter).await, [], "the reviews of a soft-deleted product are hidden: {filter:?}");
    }
    assert_eq!(all(storage, &by(&ada)).await, [of_desk.clone()], "reviews of other products are shown");
    assert_eq!(all(storage, &ReviewFilter::default()).await, [of_desk], "they are hidden in every list");
    assert_eq!(all(storage, &with_deleted(&of(&lamp))).await, hidden, "they are listed if asked for");
    for r in &hidden {
        assert_eq!(get(storage, r.id).await, None, "`get` hides the review of a deleted product");
        let shown = read!(storage, reviews.get(r.id, IncludeDeleted::Yes));
        assert_eq!(shown.as_ref(), Some(r), "it is shown if asked for");
    }
    let mut back = Product { revision: gone.revision + 1, ..gone.clone() };
    back.audit.restored(env.now(), &env.actor);
    env.update_product(storage, &gone, &back).await.unwrap();
    assert!(reviewed(storage, lamp.id).await.live, "a lock tells whether the product is live");
    assert_eq!(all(storage, &ReviewFilter::default()).await, rows, "reviews come back with their product");
}

/// A review does not depend on whether its customer is live.
pub async fn r02_reviews_of_a_soft_deleted_customer_stay(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let ([lamp, _], [ada, _]) = scene(&env, storage).await;
    let review = env.full_review(&lamp, &ada, 45);
    env.insert_reviews(storage, std::slice::from_ref(&review)).await.unwrap();
    env.soft_delete_customer(storage, &ada).await.unwrap();
    assert_eq!(get(storage, review.id).await.as_ref(), Some(&review), "the review stays with its customer");
    assert_eq!(all(storage, &by(&ada)).await, [review], "lists find it by its customer");
}

/// The reviews of a live and of a soft-deleted product are removed, and other products keep their reviews.
pub async fn r05_purge_of_a_product_removes_its_reviews(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let ([lamp, desk], [ada, bob]) = scene(&env, storage).await;
    let chair = env.priced("Chair", 1, 1);
    env.insert_products(storage, std::slice::from_ref(&chair)).await.unwrap();
    let kept = env.full_review(&chair, &ada, 10);
    let rows =
        [env.review(&lamp, Some(&ada), 10), env.review(&desk, Some(&ada), 20), env.review(&desk, Some(&bob), 30)];
    env.insert_reviews(storage, &rows).await.unwrap();
    env.insert_reviews(storage, std::slice::from_ref(&kept)).await.unwrap();
    let desk = env.soft_delete(storage, &desk).await.unwrap();
    for gone in [&lamp, &desk] {
        let mut uow = storage.begin().await.unwrap();
        uow.products().lock(&[gone.id]).await.unwrap();
        uow.products().purge(gone).await.unwrap();
        uow.commit().await.unwrap();
    }
    let every = with_deleted(&ReviewFilter::default());
    assert_eq!(all(storage, &every).await, [kept], "the reviews are gone for good, others stay");
}

/// The reviews lose their customer, and their versions increase, because what they show changes.
pub async fn r05_purge_of_a_customer_keeps_its_reviews_without_it(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let ([lamp, desk], [ada, bob]) = scene(&env, storage).await;
    let of_ada = [env.full_review(&lamp, &ada, 45), env.review(&desk, Some(&ada), 10)];
    let of_bob = env.review(&lamp, Some(&bob), 20);
    env.insert_reviews(storage, &[of_ada[0].clone(), of_ada[1].clone(), of_bob.clone()]).await.unwrap();
    env.soft_delete(storage, &desk).await.unwrap();
    attempt!(storage, customers.purge(ada.id)).unwrap();
    assert_eq!(read!(storage, customers.get(ada.id, IncludeDeleted::Yes)), None, "the customer is gone for good");
    for before in &of_ada {
        let found = read!(storage, reviews.get(before.id, IncludeDeleted::Yes)).expect("the review stays");
        let audit =
            Audit { version: before.audit.version + 1, deleted_at: found.audit.deleted_at, ..before.audit.clone() };
        assert_eq!(found, Review { customer_id: None, audit, ..before.clone() }, "the review has no customer");
    }
    assert_eq!(all(storage, &with_deleted(&by(&ada))).await, [], "lists do not find it by its customer");
    assert_eq!(get(storage, of_bob.id).await, Some(of_bob), "other reviews stay as they are");
}

/// Other reviews and the product stay.
pub async fn a_review_is_purged_alone(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let ([lamp, _], [ada, bob]) = scene(&env, storage).await;
    let (a, b) = (env.review(&lamp, Some(&ada), 10), env.review(&lamp, Some(&bob), 20));
    env.insert_reviews(storage, &[a.clone(), b.clone()]).await.unwrap();
    attempt!(storage, reviews.purge(a.id)).unwrap();
    assert_eq!(read!(storage, reviews.get(a.id, IncludeDeleted::Yes)), None, "it is gone for good");
    assert_eq!(all(storage, &of(&lamp)).await, [b], "other reviews stay");
    attempt!(storage, reviews.purge(a.id)).expect("there is nothing to remove");
    let shown = read!(storage, products.get(lamp.id, IncludeDeleted::No));
    assert_eq!(shown, Some(lamp), "the repository of reviews changes no rating by itself");
}

/// The lists by rating, of all products and of a category, have the new order. Version and time of the edit stay.
pub async fn a_rating_is_written_to_the_product_and_to_its_lists(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let top = env.category("Top", None);
    env.insert_categories(storage, &[&top]).await.unwrap();
    let in_top = |p: Product| Product { categories: vec![(&top).into()], ..p };
    let products = [in_top(env.priced("Lamp", 1_000, 3)), in_top(env.priced("Desk", 2_000, 3))];
    env.insert_products(storage, &products).await.unwrap();
    let rating = |hundredths, count| RatingSummary {
        mean: Rating::from_hundredths(hundredths).unwrap(),
        count,
        source: RatingSource::Reviews,
    };
    for (n, means) in [[317, 200], [100, 500]].into_iter().enumerate() {
        let mut expected = Vec::new();
        for (p, mean) in products.iter().zip(means) {
            let before = reviewed(storage, p.id).await;
            let mut uow = storage.begin().await.unwrap();
            let locked = uow.reviews().lock_product(p.id).await.unwrap().unwrap();
            assert_eq!(locked, before);
            let tally = ReviewTally { sum: 19 + n as i64, count: 6 + n as i64 };
            let after =
                ReviewedProduct { rating: rating(mean, tally.count), tally, revision: locked.revision + 1, ..locked };
            uow.reviews().rate(&after).await.unwrap();
            uow.commit().await.unwrap();
            assert_eq!(reviewed(storage, p.id).await, after, "a rating is read as it was written");
            let shown = read!(storage, products.get(p.id, IncludeDeleted::No)).unwrap();
            let want = Product { rating: after.rating, revision: after.revision, ..p.clone() };
            assert_eq!(shown, want, "the product shows its rating, and nothing else changes");
            expected.push(want);
        }
        expected.sort_by_key(|p| Reverse(p.rating.mean));
        for category in [None, Some(top.id)] {
            let filter = ProductFilter { category, ..ProductFilter::default() };
            let page = read!(storage, products.list(&filter, ProductSort::RatingDesc, &Paging::first(9)));
            assert_eq!(page.items, expected, "lists sort by the new rating: {filter:?}");
        }
    }
}

/// The tally is not part of what an edit of a product writes.
pub async fn an_edit_of_a_product_keeps_its_tally(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let ([lamp, _], _) = scene(&env, storage).await;
    let locked = reviewed(storage, lamp.id).await;
    assert_eq!(
        locked,
        ReviewedProduct {
            id: lamp.id,
            live: true,
            rating: lamp.rating,
            tally: ReviewTally::default(),
            revision: lamp.revision,
        },
        "a new product has no reviews"
    );
    let tally = ReviewTally { sum: 77, count: 3 };
    attempt!(storage, reviews.rate(&ReviewedProduct { tally, ..locked })).unwrap();
    let renamed = Product { title: "Lantern".to_owned(), ..env.edited(&lamp) };
    env.update_product(storage, &lamp, &renamed).await.unwrap();
    let after = reviewed(storage, lamp.id).await;
    assert_eq!((after.tally, after.revision), (tally, renamed.revision));
}

/// A transaction that holds the lock reads all writes of the holders before it.
pub async fn the_lock_of_a_product_makes_reviewers_wait_for_each_other(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let ([lamp, _], _) = scene(&env, storage).await;
    let mut tasks = tokio::task::JoinSet::new();
    for seed in 0..8 {
        let (storage, lamp) = (storage.clone(), lamp.clone());
        tasks.spawn(async move {
            let env = Env::new(100 + seed);
            let mut uow = storage.begin().await.unwrap();
            let locked = uow.reviews().lock_product(lamp.id).await.unwrap().unwrap();
            let n = uow.reviews().count(&of(&lamp), 100).await.unwrap().count;
            assert_eq!(locked.tally.count as u64, n, "a lock reads what the holder before has written");
            let review = env.review(&lamp, None, 10);
            uow.reviews().insert(std::slice::from_ref(&review)).await.unwrap();
            let tally = locked.tally.after(None, Some(review.rating));
            uow.reviews().rate(&ReviewedProduct { tally, ..locked }).await.unwrap();
            uow.commit().await.unwrap();
        });
    }
    tasks.join_all().await;
    assert_eq!(reviewed(storage, lamp.id).await.tally, ReviewTally { sum: 80, count: 8 });
}

/// A hold returns soft-deleted customers too, as a lock does.
pub async fn a_customer_is_held_as_it_is(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let (_, [ada, bob]) = scene(&env, storage).await;
    let bob = env.soft_delete_customer(storage, &bob).await.unwrap();
    for customer in [&ada, &bob] {
        assert_eq!(
            attempt!(storage, customers.hold(&[customer.id])).unwrap().as_slice(),
            std::slice::from_ref(customer)
        );
    }
    assert_eq!(attempt!(storage, customers.hold(&[CustomerId(env.ids.next())])).unwrap(), []);
}

/// Both kinds of paging, with every filter.
pub async fn every_sort_pages_through_all_reviews_exactly_once(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let mut products: Vec<Product> = (0..3).map(|n| env.priced(&format!("P{n}"), 100, 1)).collect();
    products[1].status = ProductStatus::Draft;
    let customers: Vec<Customer> = (0..40).map(|n| env.customer("A", "B", &format!("c{n}@example.com"))).collect();
    env.insert_products(storage, &products).await.unwrap();
    env.insert_customers(storage, &customers, &[]).await.unwrap();
    let mut rows = Vec::new();
    for n in 0..120 {
        let customer = (n % 5 != 3).then(|| &customers[n / 3]);
        rows.push(env.review(&products[n % 3], customer, (n * 7 % 11) as i64 * 5));
    }
    env.insert_reviews(storage, &rows).await.unwrap();
    let gone = env.soft_delete(storage, &products[2]).await.unwrap();
    for r in rows.iter_mut().filter(|r| r.product_id == gone.id) {
        r.audit.deleted_at = gone.audit.deleted_at;
    }
    let at_least = |tenths| ReviewFilter { min_rating: Some(stars(tenths)), ..ReviewFilter::default() };
    let filters = [
        ReviewFilter::default(),
        with_deleted(&ReviewFilter::default()),
        of(&products[1]),
        with_deleted(&of(&products[2])),
        with_deleted(&by(&customers[3])),
        at_least(30),
        ReviewFilter { max_rating: Some(stars(25)), ..ReviewFilter::default() },
        ReviewFilter { max_rating: Some(stars(40)), ..at_least(10) },
        ReviewFilter { product: Some(products[0].id), max_rating: Some(stars(40)), ..at_least(10) },
        ReviewFilter { customer: Some(customers[3].id), ..with_deleted(&at_least(10)) },
        ReviewFilter { customer: Some(customers[3].id), ..of(&products[1]) },
        ReviewFilter { active_only: true, ..ReviewFilter::default() },
        ReviewFilter { active_only: true, ..at_least(10) },
    ];
    for &sort in ReviewSort::ALL {
        let mut sorted = rows.clone();
        match sort {
            ReviewSort::CreatedAsc => sorted.sort_by_key(|r| r.id),
            ReviewSort::CreatedDesc => sorted.sort_by_key(|r| Reverse(r.id)),
            ReviewSort::RatingAsc => sorted.sort_by_key(|r| (r.rating, r.id)),
            ReviewSort::RatingDesc => sorted.sort_by_key(|r| Reverse((r.rating, r.id))),
        }
        for filter in &filters {
            let matches = |r: &&Review| {
                (filter.include_deleted == IncludeDeleted::Yes || r.audit.is_live())
                    && (!filter.active_only
                        || products.iter().any(|p| p.id == r.product_id && p.status == ProductStatus::Active))
                    && filter.product.is_none_or(|p| r.product_id == p)
                    && filter.customer.is_none_or(|c| r.customer_id == Some(c))
                    && filter.min_rating.is_none_or(|min| r.rating >= min)
                    && filter.max_rating.is_none_or(|max| r.rating <= max)
            };
            let expected: Vec<Review> = sorted.iter().filter(matches).cloned().collect();
            assert!(!expected.is_empty(), "the sample has rows for {filter:?}");
            let total = read!(storage, reviews.count(filter, 1_000));
            assert_eq!(total, Total { count: expected.len() as u64, exact: true }, "{filter:?}");
            for limit in [3, 25, 1_000] {
                let at = format!("{} of {filter:?}, pages of {limit}", sort.as_str());
                let (mut by_cursor, mut after) = (Vec::new(), None::<Keyset>);
                let mut pages = Pages::over(expected.len());
                loop {
                    pages.turn();
                    let page = list(storage, filter, sort, &Paging::Keyset { after, limit }).await;
                    assert!(page.items.len() <= limit as usize, "a page has at most `limit` rows: {at}");
                    by_cursor.extend(page.items);
                    let Some(next) = page.next else { break };
                    assert_eq!(
                        Keyset::decode(&next.encode(), sort.as_str()).unwrap(),
                        next,
                        "a cursor crosses the wire"
                    );
                    after = Some(next);
                }
                assert_eq!(by_cursor, expected, "by cursor: {at}");
                let mut by_offset = Vec::new();
                let mut pages = Pages::over(expected.len());
                loop {
                    pages.turn();
                    let offset = by_offset.len() as u64;
                    let page = list(storage, filter, sort, &Paging::Offset { offset, limit }).await;
                    by_offset.extend(page.items);
                    let more = by_offset.len() < expected.len();
                    assert_eq!(page.next.is_some(), more, "`next` says whether there is more: {at}");
                    if page.next.is_none() {
                        break;
                    }
                }
                assert_eq!(by_offset, expected, "by offset: {at}");
            }
        }
    }
}

/// A cursor whose key does not match the sort order is an error of the caller.
pub async fn a_cursor_of_another_sort_is_refused(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let ([lamp, _], _) = scene(&env, storage).await;
    env.insert_reviews(storage, &[env.review(&lamp, None, 10)]).await.unwrap();
    for (sort, key) in [
        (ReviewSort::RatingAsc, SortKey::Id),
        (ReviewSort::RatingDesc, SortKey::Text("4.5".to_owned())),
        (ReviewSort::CreatedAsc, SortKey::Int(10)),
        (ReviewSort::CreatedDesc, SortKey::Text("a".to_owned())),
    ] {
        let after = Some(Keyset { sort: sort.as_str().to_owned(), key, id: env.ids.next() });
        let paging = Paging::Keyset { after, limit: 5 };
        let mut connection = storage.connect().await.unwrap();
        let answer = connection.reviews().list(&ReviewFilter::default(), sort, &paging).await;
        assert_eq!(code_of(answer, sort.as_str()), ErrorCode::Validation, "it is refused as invalid");
    }
}

/// A cursor that was made for another filter neither adds rows that do not match nor leaves out rows after it.
pub async fn a_cursor_outside_of_the_filter_selects_no_other_rows(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let ([lamp, _], _) = scene(&env, storage).await;
    let rows: Vec<Review> = [10, 20, 30, 40, 50].map(|tenths| env.review(&lamp, None, tenths)).to_vec();
    env.insert_reviews(storage, &rows).await.unwrap();
    let filter = ReviewFilter { min_rating: Some(stars(20)), max_rating: Some(stars(40)), ..ReviewFilter::default() };
    for (sort, at, expected) in [
        (ReviewSort::RatingAsc, 5, &[20, 30, 40][..]),
        (ReviewSort::RatingAsc, 20, &[30, 40]),
        (ReviewSort::RatingAsc, 45, &[]),
        (ReviewSort::RatingDesc, 50, &[40, 30, 20]),
        (ReviewSort::RatingDesc, 40, &[30, 20]),
        (ReviewSort::RatingDesc, 15, &[]),
    ] {
        let id = rows.iter().find(|r| r.rating.tenths() == at).map_or(lamp.id.0, |r| r.id.0);
        let after = Some(Keyset { sort: sort.as_str().to_owned(), key: SortKey::Int(i64::from(at)), id });
        let page = list(storage, &filter, sort, &Paging::Keyset { after, limit: 9 }).await;
        let found: Vec<i32> = page.items.iter().map(|r| r.rating.tenths()).collect();
        assert_eq!(found, expected, "{} after {at}", sort.as_str());
    }
}

/// A count is exact up to the bound, and a lower bound above it.
pub async fn counts_stop_at_their_bound(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let ([lamp, _], _) = scene(&env, storage).await;
    let rows: Vec<Review> = (0..12).map(|_| env.review(&lamp, None, 10)).collect();
    env.insert_reviews(storage, &rows).await.unwrap();
    for (bound, total) in [(100, (12, true)), (12, (12, true)), (11, (11, false))] {
        let total = Total { count: total.0, exact: total.1 };
        assert_eq!(read!(storage, reviews.count(&of(&lamp), bound)), total, "a count stops at its bound");
    }
}

/// A single row, a count and the change of a rating cost a fixed number of statements too.
pub async fn a_page_costs_one_statement_whatever_its_size(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let ([lamp, _], _) = scene(&env, storage).await;
    let rows: Vec<Review> = (0..110).map(|n| env.review(&lamp, None, n % 51)).collect();
    env.insert_reviews(storage, &rows).await.unwrap();
    let mut connection = storage.connect().await.unwrap();
    let mut before = storage.statements();
    let mut costs_one = |what: &str| {
        assert_eq!(storage.statements() - before, 1, "{what}");
        before = storage.statements();
    };
    for limit in [5, 100] {
        for &sort in ReviewSort::ALL {
            let page = connection.reviews().list(&of(&lamp), sort, &Paging::first(limit)).await.unwrap();
            assert_eq!(page.items.len(), limit as usize, "a page has as many rows as were asked for");
            costs_one("a page");
        }
    }
    connection.reviews().count(&of(&lamp), 1_000).await.unwrap();
    costs_one("a count");
    connection.reviews().get(rows[0].id, IncludeDeleted::No).await.unwrap();
    costs_one("a review");
    drop(connection);
    let mut uow = storage.begin().await.unwrap();
    let at = storage.statements();
    let locked = uow.reviews().lock_product(lamp.id).await.unwrap().unwrap();
    uow.reviews().rate(&locked).await.unwrap();
    let cost = storage.statements() - at;
    assert!(cost <= 5, "a change of a rating costs {cost} statements, whatever the number of reviews");
}
