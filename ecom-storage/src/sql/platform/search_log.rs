//! The search log: one row for each day and text.

use async_trait::async_trait;
use chrono::NaiveDate;
use ecom_core::paging::{Keyset, Page, Paging, SortKey, Total};
use ecom_core::platform::{DayRange, SearchCount, SearchTerm, SearchTermSort};
use ecom_core::port::SearchLogRepository;
use ecom_core::{Error, Result};

use crate::sql::engine::builder::{Builder, bad_cursor, count, page};
use crate::sql::engine::dialect::Sql;
use crate::sql::engine::repository::SqlRepository;
use crate::sql::engine::value::{Row, Value};

static ADD: Sql =
    Sql::new("INSERT INTO search_log (day, term, typed, searches, without_result, partial_result) VALUES ");
/// The terms of a range with their sums, before the conditions.
static SUMS: Sql = Sql::new(
    "SELECT t.term, (SELECT l.typed FROM search_log l WHERE l.term = t.term ORDER BY l.day DESC LIMIT 1), \
     t.all_searches, t.all_without_result, t.all_partial_result FROM (SELECT term, \
     CAST(SUM(searches) AS {bigint}) AS all_searches, CAST(SUM(without_result) AS {bigint}) AS all_without_result, \
     CAST(SUM(partial_result) AS {bigint}) AS all_partial_result FROM search_log",
);
static LAST_OLD: Sql = Sql::new("SELECT day, term FROM search_log WHERE day < $1 ORDER BY day, term LIMIT 1 OFFSET $2");
static TRIM: Sql = Sql::new("DELETE FROM search_log WHERE day < $1");
static TRIM_SOME: Sql = Sql::new("DELETE FROM search_log WHERE day <= $1 AND (day < $1 OR term <= $2)");

/// How many rows one statement inserts.
const AT_ONCE: usize = 128;

/// The log of a SQL database.
pub type SqlSearchLog<'c> = SqlRepository<'c, dyn SearchLogRepository>;

/// Returns a count as a column has it.
fn number(n: u64) -> Value<'static> {
    i64::try_from(n).unwrap_or(i64::MAX).into()
}

fn read_term(r: &Row) -> Result<SearchTerm> {
    Ok(SearchTerm {
        id: r.uuid(0)?,
        text: r.string(1)?,
        searches: r.count(2)?,
        without_result: r.count(3)?,
        partial_result: r.count(4)?,
    })
}

/// Returns the column by which a list sorts.
const fn column(sort: SearchTermSort) -> &'static str {
    match sort {
        SearchTermSort::Searches => "searches",
        SearchTermSort::WithoutResult => "without_result",
    }
}

/// Adds the conditions that a row is within the range and its term in the list.
fn matching(b: &mut Builder<'_>, range: &DayRange, sort: SearchTermSort) {
    b.push(" WHERE day >= ").bind(range.from).push(" AND day <= ").bind(range.to);
    b.push(" GROUP BY term HAVING SUM(").push(column(sort)).push(") > 0");
}

#[async_trait]
impl SearchLogRepository for SqlSearchLog<'_> {
    async fn add(&mut self, counts: &[SearchCount]) -> Result<()> {
        let dialect = self.0.dialect();
        let mut sorted: Vec<&SearchCount> = counts.iter().collect();
        // All transactions lock the rows in one order.
        sorted.sort_unstable_by_key(|c| (c.day, c.term.id));
        let mut rest = sorted.as_slice();
        while !rest.is_empty() {
            // Powers of two, so that there are few different texts.
            let n = AT_ONCE.min(1 << rest.len().ilog2());
            let (now, later) = rest.split_at(n);
            rest = later;
            let mut b = Builder::on(&ADD, dialect);
            for (i, SearchCount { day, term }) in now.iter().enumerate() {
                b.push(if i == 0 { "(" } else { ",(" }).bind(*day).push(",").bind(term.id);
                b.push(",").bind(term.text.as_str()).push(",").bind(number(term.searches));
                b.push(",").bind(number(term.without_result)).push(",").bind(number(term.partial_result)).push(")");
            }
            b.push(&dialect.render("{add_searches}"));
            let (text, args) = b.done();
            self.0.execute(text, args).await?;
        }
        Ok(())
    }

    async fn list(&mut self, range: &DayRange, sort: SearchTermSort, paging: &Paging) -> Result<Page<SearchTerm>> {
        let mut b = Builder::on(&SUMS, self.0.dialect());
        matching(&mut b, range, sort);
        let by = column(sort);
        if let Paging::Keyset { after: Some(k), .. } = paging {
            let SortKey::Int(n) = k.key else { return Err(bad_cursor()) };
            b.push(" AND (SUM(").push(by).push(") < ").bind(n).push(" OR (SUM(").push(by).push(") = ").bind(n);
            b.push(" AND term > ").bind(k.id).push("))");
        }
        page(&mut b, &format!("all_{by} DESC, term"), paging);
        b.push(") t ORDER BY t.all_").push(by).push(" DESC, t.term");
        let (text, args) = b.done();
        let terms = self.0.fetch_all(text, args).await?.iter().map(read_term).collect::<Result<Vec<_>>>()?;
        Ok(Page::from_overfetch(terms, paging.limit(), |t| Keyset {
            sort: sort.as_str().to_owned(),
            key: SortKey::Int(i64::try_from(sort.count(t)).unwrap_or(i64::MAX)),
            id: t.id,
        }))
    }

    async fn count(&mut self, range: &DayRange, sort: SearchTermSort, bound: u64) -> Result<Total> {
        count(&mut self.0, bound, |b| {
            b.push(" FROM search_log");
            matching(b, range, sort);
        })
        .await
    }

    async fn trim(&mut self, day: NaiveDate, limit: u32) -> Result<u64> {
        let Some(skipped) = limit.checked_sub(1) else { return Ok(0) };
        // The last of the rows that this call removes.
        let last = self.0.fetch_optional(&LAST_OLD, vec![day.into(), i64::from(skipped).into()]).await?;
        let gone = match last {
            Some(row) => self.0.execute(&TRIM_SOME, vec![row.date(0)?.into(), row.uuid(1)?.into()]).await,
            None => self.0.execute(&TRIM, vec![day.into()]).await,
        };
        gone.map_err(Error::from)
    }
}
