//! Idempotency keys: the claims of transactions, and the stored answers.
//!
//! The primary key makes a second transaction wait for the first one. SQLite has one writer, so there nothing waits
//! here.

use std::collections::HashMap;

use async_trait::async_trait;
use ecom_core::clock::Timestamp;
use ecom_core::id::CustomerId;
use ecom_core::platform::{AnswerSubject, IdempotencyKey, RequestHash, StoredAnswer};
use ecom_core::port::{Claim, Claimed, IdempotencyRepository};
use ecom_core::{Error, Result};
use uuid::Uuid;

use crate::sql::engine::builder::{Builder, case_size};
use crate::sql::engine::dialect::Sql;
use crate::sql::engine::pool::SqlStorage;
use crate::sql::engine::repository::SqlRepository;
use crate::sql::engine::value::{Row, Value};

/// The keys of a SQL database.
pub type SqlIdempotency<'c> = SqlRepository<'c, dyn IdempotencyRepository>;

/// How many keys one statement names.
const AT_ONCE: usize = 128;

static FOUND: Sql = Sql::new(
    "SELECT scope, idempotency_key, request_hash, answer, customer_id, guest_id, erased_at FROM idempotency_keys \
     WHERE ",
);
static CLAIM: Sql =
    Sql::new("INSERT INTO idempotency_keys (scope, idempotency_key, request_hash, created_at, expires_at) VALUES ");
static ERASE: Sql = Sql::new(
    "UPDATE idempotency_keys SET answer = NULL, customer_id = NULL, guest_id = NULL, erased_at = $2 \
     WHERE customer_id = $1",
);
/// The keys of answers about carts and orders that were a guest's and are a customer's now. `CROSS JOIN` makes SQLite
/// begin with the few carts and orders, and not with all answers.
static ONCE_GUESTS: Sql = Sql::new(
    "WITH RECURSIVE own (id) AS (SELECT id FROM orders WHERE customer_id = $1 \
     UNION SELECT cart_id FROM orders WHERE customer_id = $1 AND cart_id IS NOT NULL \
     UNION SELECT id FROM carts WHERE customer_id = $1 \
     UNION SELECT c.id FROM own o JOIN carts c ON c.merged_into = o.id) \
     SELECT k.scope, k.idempotency_key FROM own CROSS JOIN idempotency_keys k WHERE k.guest_id = own.id",
);
static EXPIRED: Sql =
    Sql::new("SELECT scope, idempotency_key FROM idempotency_keys WHERE expires_at < $1 ORDER BY expires_at LIMIT $2");

/// A key as a row has it.
type Name<'k> = (&'k str, &'k str);

fn name(key: &IdempotencyKey) -> Name<'_> {
    (key.scope(), key.key())
}

/// Returns the keys of rows, sorted, so that they are locked in that order.
fn names(rows: &[Row]) -> Result<Vec<Name<'_>>> {
    let mut names = rows.iter().map(|r| Ok((r.text(0)?, r.text(1)?))).collect::<Result<Vec<_>>>()?;
    names.sort_unstable();
    Ok(names)
}

/// Adds a list in which the last item is repeated up to one of a few sizes, so that there are few different texts.
fn padded<'q, T>(b: &mut Builder<'q>, between: &str, items: &'q [T], mut item: impl FnMut(&mut Builder<'q>, &'q T)) {
    for i in 0..case_size(items.len()) {
        if let Some(it) = items.get(i).or(items.last()) {
            if i > 0 {
                b.push(between);
            }
            item(b, it);
        }
    }
}

/// Adds the condition that a row has one of the keys.
fn one_of<'q>(b: &mut Builder<'q>, keys: &'q [Name<'q>]) {
    b.push("(");
    padded(b, " OR ", keys, |b, &(scope, key)| {
        b.push("(scope = ").bind(scope).push(" AND idempotency_key = ").bind(key).push(")");
    });
    b.push(")");
}

/// Adds the assignment of a column whose value depends on the key.
fn set<'q>(
    b: &mut Builder<'q>,
    column: &str,
    answers: &'q [(IdempotencyKey, StoredAnswer)],
    value: impl Fn(&'q StoredAnswer) -> Value<'q>,
) {
    b.push(column).push(" = CASE");
    padded(b, "", answers, |b, (key, answer)| {
        b.push(" WHEN scope = ").bind(key.scope()).push(" AND idempotency_key = ").bind(key.key());
        b.push(" THEN ").bind(value(answer));
    });
    b.push(" ELSE ").push(column).push(" END");
}

/// Returns the customer whom an answer is about.
fn customer(answer: &StoredAnswer) -> Option<CustomerId> {
    match answer.subject() {
        Some(AnswerSubject::Customer(id)) => Some(id),
        _ => None,
    }
}

/// Returns the cart or the order of a guest that an answer is about.
fn guest(answer: &StoredAnswer) -> Option<Uuid> {
    match answer.subject() {
        Some(AnswerSubject::Guest(id)) => Some(id),
        _ => None,
    }
}

/// What a row has, besides its key.
struct Found {
    hash: RequestHash,
    answer: Option<StoredAnswer>,
    erased: bool,
}

impl Found {
    fn read(r: &Row) -> Result<Self> {
        let hash: [u8; RequestHash::LENGTH] =
            r.bytes(2)?.try_into().map_err(|e| Error::internal("reading the hash of a request", e))?;
        let customer = r.opt_uuid(4)?.map(|id| AnswerSubject::Customer(CustomerId(id)));
        let about = customer.or(r.opt_uuid(5)?.map(AnswerSubject::Guest));
        let answer = r.opt_bytes(3)?.map(|bytes| StoredAnswer::new(bytes).about(about));
        Ok(Self { hash: hash.into(), answer, erased: r.opt_time(6)?.is_some() })
    }

    fn claimed(&self, claim: &Claim) -> Claimed {
        match &self.answer {
            _ if self.hash != claim.hash => Claimed::Reused,
            Some(answer) => Claimed::Answered(answer.clone()),
            None if self.erased => Claimed::Erased,
            None => Claimed::New,
        }
    }
}

impl SqlStorage {
    /// Returns the plan that the database makes for the answers that were about a guest, for tests that check the use
    /// of indexes.
    #[doc(hidden)]
    pub async fn explain_answers_about_guests(&self, customer: CustomerId) -> Result<Vec<String>> {
        self.explain(&ONCE_GUESTS.prepared(self.dialect()).text, vec![customer.into()]).await
    }
}

impl SqlIdempotency<'_> {
    /// Inserts the rows of keys that have none. Returns true if it is known that none had one.
    async fn insert(&mut self, sorted: &[&Claim]) -> Result<bool> {
        let dialect = self.0.dialect();
        let mut all_new = dialect.counts_inserts;
        for chunk in sorted.chunks(AT_ONCE) {
            let mut b = Builder::on(&CLAIM, dialect);
            padded(&mut b, ",", chunk, |b, c| {
                b.push("(").bind(c.key.scope()).push(",").bind(c.key.key());
                b.push(",").bind(c.hash.as_bytes().as_slice());
                b.push(",").bind(c.created_at).push(",").bind(c.expires_at).push(")");
            });
            b.push(" ").push(&dialect.render("{claim_if_new}"));
            let (text, args) = b.done();
            all_new &= self.0.execute(text, args).await? == chunk.len() as u64;
        }
        Ok(all_new)
    }

    /// Removes the rows with these keys that match a further condition.
    async fn delete(&mut self, keys: &[Name<'_>], expired: Option<Timestamp>) -> Result<u64> {
        let mut gone = 0;
        for chunk in keys.chunks(AT_ONCE) {
            let mut b = Builder::new("DELETE FROM idempotency_keys WHERE ");
            one_of(&mut b, chunk);
            if let Some(before) = expired {
                b.push(" AND expires_at < ").bind(before);
            }
            let (text, args) = b.done();
            gone += self.0.execute(text, args).await?;
        }
        Ok(gone)
    }
}

#[async_trait]
impl IdempotencyRepository for SqlIdempotency<'_> {
    async fn claim(&mut self, claims: &[Claim]) -> Result<Vec<Claimed>> {
        let mut sorted: Vec<&Claim> = claims.iter().collect();
        sorted.sort_by(|a, b| a.key.cmp(&b.key));
        sorted.dedup_by(|a, b| a.key == b.key);
        let repeats = sorted.len() < claims.len();
        if self.insert(&sorted).await? && !repeats {
            return Ok(vec![Claimed::New; claims.len()]);
        }
        let dialect = self.0.dialect();
        let for_update = dialect.for_update;
        let names: Vec<Name<'_>> = sorted.iter().map(|c| name(&c.key)).collect();
        let mut found: HashMap<(String, String), Found> = HashMap::with_capacity(names.len());
        for chunk in names.chunks(AT_ONCE) {
            // A statement of its own, which sees the answers of the transactions that the INSERT has waited for.
            let mut b = Builder::on(&FOUND, dialect);
            one_of(&mut b, chunk);
            b.push(" ORDER BY scope, idempotency_key").push(for_update);
            let (text, args) = b.done();
            for r in self.0.fetch_all(text, args).await? {
                found.insert((r.string(0)?, r.string(1)?), Found::read(&r)?);
            }
        }
        let found_for = |c: &Claim| {
            let found = found.get(&(c.key.scope().to_owned(), c.key.key().to_owned()));
            // The row was removed between the two statements.
            found.map(|f| f.claimed(c)).ok_or(Error::Contention { source: None })
        };
        claims.iter().map(found_for).collect()
    }

    async fn store(&mut self, answers: &[(IdempotencyKey, StoredAnswer)]) -> Result<()> {
        for chunk in answers.chunks(AT_ONCE) {
            let names: Vec<Name<'_>> = chunk.iter().map(|(key, _)| name(key)).collect();
            let mut b = Builder::new("UPDATE idempotency_keys SET ");
            set(&mut b, "answer", chunk, |answer| answer.as_bytes().into());
            if chunk.iter().any(|(_, answer)| customer(answer).is_some()) {
                b.push(", ");
                set(&mut b, "customer_id", chunk, |answer| customer(answer).into());
            }
            if chunk.iter().any(|(_, answer)| guest(answer).is_some()) {
                b.push(", ");
                set(&mut b, "guest_id", chunk, |answer| guest(answer).into());
            }
            b.push(" WHERE ");
            one_of(&mut b, &names);
            let (text, args) = b.done();
            if self.0.execute(text, args).await? != chunk.len() as u64 {
                return Err(Error::Internal {
                    context: "storing the answer of a key that is not claimed",
                    source: None,
                });
            }
        }
        Ok(())
    }

    async fn release(&mut self, keys: &[IdempotencyKey]) -> Result<()> {
        let mut names: Vec<Name<'_>> = keys.iter().map(name).collect();
        names.sort_unstable();
        self.delete(&names, None).await?;
        Ok(())
    }

    async fn erase(&mut self, customer: CustomerId, at: Timestamp) -> Result<u64> {
        let mut erased = self.0.execute(&ERASE, vec![customer.into(), at.into()]).await?;
        let rows = self.0.fetch_all(&ONCE_GUESTS, vec![customer.into()]).await?;
        for chunk in names(&rows)?.chunks(AT_ONCE) {
            let mut b = Builder::new("UPDATE idempotency_keys SET answer = NULL, guest_id = NULL, erased_at = ");
            b.bind(at).push(" WHERE guest_id IS NOT NULL AND ");
            one_of(&mut b, chunk);
            let (text, args) = b.done();
            erased += self.0.execute(text, args).await?;
        }
        Ok(erased)
    }

    async fn sweep(&mut self, before: Timestamp, limit: u32) -> Result<u64> {
        // Two statements, since MySQL would read the whole table for one with a subquery.
        let rows = self.0.fetch_all(&EXPIRED, vec![before.into(), i64::from(limit).into()]).await?;
        self.delete(&names(&rows)?, Some(before)).await
    }
}
