//! Reviews, and the ratings of the products that they are about.

use async_trait::async_trait;
use ecom_core::catalog::{ProductStatus, RatingSummary, Review, ReviewFilter, ReviewSort, ReviewTally};
use ecom_core::common::IncludeDeleted;
use ecom_core::id::{CustomerId, ProductId, ReviewId};
use ecom_core::money::{Rating, Stars};
use ecom_core::paging::{Keyset, Page, Paging, SortKey, Total};
use ecom_core::port::{ReviewRepository, ReviewedProduct};
use ecom_core::{Entity, Result};

use crate::sql::engine::builder::{Builder, bad_cursor, count, lock_rows, page};
use crate::sql::engine::columns::{Column, Table, Unique, Versioned, read_audit};
use crate::sql::engine::dialect::{Dialect, Sql};
use crate::sql::engine::pool::SqlStorage;
use crate::sql::engine::repository::SqlRepository;
use crate::sql::engine::value::{Row, Value, bounded};

/// The columns of reviews.
pub static REVIEWS: Table<Review> = Table {
    name: "reviews",
    entity: Entity::Review,
    columns: &[
        Column::fixed("id", |r| r.id.into()),
        Column::fixed("product_id", |r| r.product_id.into()),
        Column::fixed("customer_id", |r| r.customer_id.into()),
        Column::field("rating", |r| tenths(r.rating).into()),
        Column::field("comment", |r| r.comment.as_deref().into()),
        Column::Audit(|r| &r.audit),
    ],
    unique: &[Unique {
        index: "reviews_customer_product",
        columns: &["customer_id", "product_id"],
        field: "customer_id",
        value: |r| r.customer_id.map(|c| c.to_string()),
    }],
    parent: Some(("product_id", |r| Some(r.product_id.0))),
};

static WRITES: Versioned<Review> = Versioned::new(&REVIEWS);
static GET: Sql = Sql::of(&REVIEWS, "SELECT {*} FROM reviews WHERE id = $1");
static LIST: Sql = Sql::of(&REVIEWS, "SELECT {*}");
static DELETE: Sql = Sql::new("DELETE FROM reviews WHERE id = $1");
static REVIEWED: Sql = Sql::new(
    "SELECT rating, rating_count, rating_source, review_sum, review_count, revision, deleted_at \
     FROM products WHERE id = $1",
);
static RATE: Sql = Sql::new(
    "UPDATE products SET rating = $2, rating_count = $3, review_sum = $4, review_count = $5, revision = $6 \
     WHERE id = $1",
);
static RATE_LISTINGS: Sql = Sql::new("UPDATE product_listings SET rating = $2 WHERE product_id = $1 AND rating <> $2");

fn tenths(stars: Stars) -> i64 {
    i64::from(stars.tenths())
}

fn read_review(r: &Row) -> Result<Review> {
    Ok(Review {
        id: ReviewId(r.uuid(const { REVIEWS.at("id") })?),
        product_id: ProductId(r.uuid(const { REVIEWS.at("product_id") })?),
        customer_id: r.opt_uuid(const { REVIEWS.at("customer_id") })?.map(CustomerId),
        rating: bounded(Stars::from_tenths(r.i64(const { REVIEWS.at("rating") })?))?,
        comment: r.opt_string(const { REVIEWS.at("comment") })?,
        audit: read_audit(r, const { REVIEWS.at("created_at") })?,
    })
}

fn read_reviewed(id: ProductId, r: &Row) -> Result<ReviewedProduct> {
    Ok(ReviewedProduct {
        id,
        rating: RatingSummary {
            mean: bounded(Rating::from_hundredths(r.i64(0)?))?,
            count: r.i64(1)?,
            source: r.stored(2)?,
        },
        tally: ReviewTally { sum: r.i64(3)?, count: r.i64(4)? },
        revision: r.i64(5)?,
        live: r.opt_time(6)?.is_none(),
    })
}

/// Adds `FROM …` and the conditions. If the list does not walk an index by rating, a plus keeps the planner from
/// leaving the index of the sort for one by rating, whose rows it would have to sort. `beyond_cursor` leaves out the
/// bound of the rating that the cursor of the list replaces.
fn filtered(b: &mut Builder<'_>, filter: &ReviewFilter, sort: Option<ReviewSort>, beyond_cursor: bool) {
    b.push(" FROM reviews WHERE 1 = 1");
    if let Some(id) = filter.product {
        b.push(" AND product_id = ").bind(id);
    }
    if let Some(id) = filter.customer {
        b.push(" AND customer_id = ").bind(id);
    }
    let column = if sort.is_some_and(|s| !s.is_by_rating()) { " AND +rating " } else { " AND rating " };
    if let Some(min) = filter.min_rating.filter(|_| !(beyond_cursor && sort == Some(ReviewSort::RatingAsc))) {
        b.push(column).push(">= ").bind(tenths(min));
    }
    if let Some(max) = filter.max_rating.filter(|_| !(beyond_cursor && sort == Some(ReviewSort::RatingDesc))) {
        b.push(column).push("<= ").bind(tenths(max));
    }
    if filter.active_only {
        // Not EXISTS, which MariaDB would turn into a join that begins with the products.
        b.push(" AND (SELECT p.status FROM products p WHERE p.id = reviews.product_id) = ").bind(ProductStatus::Active);
    }
    if filter.include_deleted == IncludeDeleted::No {
        b.push(" AND deleted_at IS NULL");
    }
}

/// Returns the one statement of a list.
fn list_statement(
    dialect: &Dialect,
    filter: &ReviewFilter,
    sort: ReviewSort,
    paging: &Paging,
) -> Result<(String, Vec<Value<'static>>)> {
    let after = match paging {
        Paging::Keyset { after, .. } => after.as_ref(),
        Paging::Offset { .. } => None,
    };
    let rating = match after.map(|k| &k.key) {
        None => None,
        Some(SortKey::Id) if !sort.is_by_rating() => None,
        Some(SortKey::Int(rating)) if sort.is_by_rating() => Some(*rating),
        Some(_) => return Err(bad_cursor()),
    };
    // A cursor starts the walk, in place of the bound of the filter, if it is within the bound.
    let within = rating.is_some_and(|at| match sort {
        ReviewSort::RatingAsc => filter.min_rating.is_none_or(|min| tenths(min) <= at),
        _ => filter.max_rating.is_none_or(|max| tenths(max) >= at),
    });
    let mut b = Builder::on(&LIST, dialect);
    filtered(&mut b, filter, Some(sort), within);
    let (beyond, direction) = if sort.is_descending() { (" < ", " DESC") } else { (" > ", "") };
    match (after, rating) {
        (Some(k), None) => {
            b.push(" AND id").push(beyond).bind(k.id);
        }
        (Some(k), Some(at)) if within && dialect.row_values => {
            b.push(" AND (rating, id)").push(beyond).push("(").bind(at).push(", ").bind(k.id).push(")");
        }
        (Some(k), Some(at)) if within => {
            b.push(" AND rating").push(beyond.trim_end()).push("= ").bind(at);
            b.push(" AND (rating").push(beyond).bind(at).push(" OR id").push(beyond).bind(k.id).push(")");
        }
        // There is no cursor, or the whole range of the filter comes after it.
        _ => {}
    }
    let order =
        if sort.is_by_rating() { format!("rating{direction}, id{direction}") } else { format!("id{direction}") };
    page(&mut b, &order, paging);
    Ok(b.done())
}

impl SqlStorage {
    /// Returns the plan that the database makes for a list of reviews, for tests that check the use of indexes.
    #[doc(hidden)]
    pub async fn explain_reviews(
        &self,
        filter: &ReviewFilter,
        sort: ReviewSort,
        paging: &Paging,
    ) -> Result<Vec<String>> {
        let (text, args) = list_statement(self.dialect(), filter, sort, paging)?;
        self.explain(&text, args).await
    }
}

/// The reviews of a SQL database.
pub type SqlReviews<'c> = SqlRepository<'c, dyn ReviewRepository>;

#[async_trait]
impl ReviewRepository for SqlReviews<'_> {
    async fn get(&mut self, id: ReviewId, deleted: IncludeDeleted) -> Result<Option<Review>> {
        let row = self.0.fetch_optional(&GET, vec![id.into()]).await?;
        let review = row.as_ref().map(read_review).transpose()?;
        Ok(review.filter(|r| deleted == IncludeDeleted::Yes || r.audit.is_live()))
    }

    async fn lock_product(&mut self, id: ProductId) -> Result<Option<ReviewedProduct>> {
        // A change of the tree copies the rating of products into their listings.
        if let Some(sql) = self.0.dialect().hold_tree {
            self.0.fetch_all(sql, Vec::new()).await?;
        }
        lock_rows(&mut self.0, "products", "id", &[id]).await?;
        // A statement of its own, since the read must see the change that the lock waited for.
        let row = self.0.fetch_optional(&REVIEWED, vec![id.into()]).await?;
        row.as_ref().map(|r| read_reviewed(id, r)).transpose()
    }

    async fn rate(&mut self, product: &ReviewedProduct) -> Result<()> {
        let ReviewedProduct { id, rating, tally, revision, live: _ } = *product;
        let mean = i64::from(rating.mean.hundredths());
        let args = [mean, rating.count, tally.sum, tally.count, revision].map(Value::from);
        self.0.execute(&RATE, std::iter::once(id.into()).chain(args).collect()).await?;
        self.0.execute(&RATE_LISTINGS, vec![id.into(), mean.into()]).await?;
        Ok(())
    }

    async fn list(&mut self, filter: &ReviewFilter, sort: ReviewSort, paging: &Paging) -> Result<Page<Review>> {
        let (text, args) = list_statement(self.0.dialect(), filter, sort, paging)?;
        let items = self.0.fetch_all(text, args).await?.iter().map(read_review).collect::<Result<Vec<_>>>()?;
        Ok(Page::from_overfetch(items, paging.limit(), |r| Keyset {
            sort: sort.as_str().to_owned(),
            key: if sort.is_by_rating() { SortKey::Int(tenths(r.rating)) } else { SortKey::Id },
            id: r.id.0,
        }))
    }

    async fn count(&mut self, filter: &ReviewFilter, bound: u64) -> Result<Total> {
        count(&mut self.0, bound, |b| filtered(b, filter, None, false)).await
    }

    async fn insert(&mut self, reviews: &[Review]) -> Result<()> {
        REVIEWS.insert(&mut self.0, reviews).await
    }

    async fn update(&mut self, before: &Review, after: &Review) -> Result<()> {
        WRITES.update(&mut self.0, before, after).await
    }

    async fn purge(&mut self, id: ReviewId) -> Result<()> {
        self.0.execute(&DELETE, vec![id.into()]).await?;
        Ok(())
    }
}
