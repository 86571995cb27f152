//! Sessions, one-time tokens, tickets and failed logins.

use async_trait::async_trait;
use ecom_core::access::{LiveTicket, LoginFailures, OneTimePurpose, OneTimeToken, SecretHash, Session, SessionEnd};
use ecom_core::clock::Timestamp;
use ecom_core::id::{SessionId, UserId};
use ecom_core::port::SessionRepository;
use ecom_core::{Entity, Result};

use crate::sql::access::api_key::read_hash;
use crate::sql::engine::builder::{Builder, MAX_LIST, lock_rows};
use crate::sql::engine::columns::{Column, Table};
use crate::sql::engine::dialect::Sql;
use crate::sql::engine::error::{DbError, Kind, gone};
use crate::sql::engine::repository::SqlRepository;
use crate::sql::engine::value::{Row, Value};

/// The columns of sessions. The database computes `over_at` from when on a session cannot be used, so that one index
/// finds the sessions to remove.
static SESSIONS: Table<Session> = Table {
    name: "sessions",
    entity: Entity::Session,
    columns: &[
        Column::fixed("id", |s| s.id.into()),
        Column::fixed("user_id", |s| s.user_id.into()),
        Column::fixed("family", |s| s.family.0.as_slice().into()),
        Column::field("token", |s| s.token.0.as_slice().into()),
        Column::fixed("user_agent", |s| s.user_agent.as_deref().into()),
        Column::fixed("created_at", |s| s.created_at.into()),
        Column::field("refreshed_at", |s| s.refreshed_at.into()),
        Column::field("expires_at", |s| s.expires_at.into()),
        Column::field("ended_at", |s| s.ended.map(|(at, _)| at).into()),
        Column::field("end_reason", |s| s.ended.map(|(_, reason)| reason.as_str()).into()),
    ],
    unique: &[],
    parent: Some(("user_id", |s| Some(s.user_id.0))),
};

static GET: Sql = Sql::of(&SESSIONS, "SELECT {*} FROM sessions WHERE id = $1");
static ACTIVE: Sql = Sql::of(
    &SESSIONS,
    "SELECT {*} FROM sessions WHERE user_id = $1 AND ended_at IS NULL AND expires_at > $2 ORDER BY id DESC LIMIT 1000",
);
static UPDATE: Sql = Sql::new(
    "UPDATE sessions SET token = $2, refreshed_at = $3, expires_at = $4, ended_at = $5, end_reason = $6 WHERE id = $1",
);
static OPEN: Sql = Sql::new("SELECT id FROM sessions WHERE user_id = $1 AND ended_at IS NULL ORDER BY id{for_update}");
static OVER: Sql = Sql::new("SELECT id FROM sessions WHERE over_at < $1 ORDER BY over_at, id LIMIT $2");
static PUT_TOKEN: Sql = Sql::new(
    "INSERT INTO one_time_tokens (hash, user_id, purpose, email, expires_at) VALUES ($1, $2, $3, $4, $5) {put_token}",
);
static TOKEN: Sql =
    Sql::new("SELECT hash, user_id, purpose, email, expires_at FROM one_time_tokens WHERE hash = $1 AND purpose = $2");
static DELETE_TOKEN: Sql = Sql::new("DELETE FROM one_time_tokens WHERE hash = $1 AND purpose = $2");
static DELETE_TOKENS: Sql = Sql::new("DELETE FROM one_time_tokens WHERE user_id = $1");
static OLD_TOKENS: Sql =
    Sql::new("SELECT hash FROM one_time_tokens WHERE expires_at < $1 ORDER BY expires_at LIMIT $2");
static PUT_TICKET: Sql = Sql::new("INSERT INTO live_tickets (hash, principal, expires_at) VALUES ($1, $2, $3)");
static TICKET: Sql = Sql::new("SELECT hash, principal, expires_at FROM live_tickets WHERE hash = $1");
static DELETE_TICKET: Sql = Sql::new("DELETE FROM live_tickets WHERE hash = $1");
static OLD_TICKETS: Sql = Sql::new("SELECT hash FROM live_tickets WHERE expires_at < $1 ORDER BY expires_at LIMIT $2");
static FAILURES: Sql = Sql::new("SELECT failures, last_at FROM login_failures WHERE address = $1");
static ADD_FAILURE: Sql =
    Sql::new("INSERT INTO login_failures (address, failures, last_at) VALUES ($1, 1, $2) {add_failure}");
static CLEAR_FAILURES: Sql = Sql::new("DELETE FROM login_failures WHERE address = $1");
static OLD_FAILURES: Sql = Sql::new("SELECT address FROM login_failures WHERE last_at < $1 ORDER BY last_at LIMIT $2");

fn read_session(r: &Row) -> Result<Session> {
    let ended_at = r.opt_time(const { SESSIONS.at("ended_at") })?;
    let ended = match ended_at {
        Some(at) => Some((at, r.stored(const { SESSIONS.at("end_reason") })?)),
        None => None,
    };
    Ok(Session {
        id: SessionId(r.uuid(const { SESSIONS.at("id") })?),
        user_id: UserId(r.uuid(const { SESSIONS.at("user_id") })?),
        family: read_hash(r, const { SESSIONS.at("family") })?,
        token: read_hash(r, const { SESSIONS.at("token") })?,
        user_agent: r.opt_string(const { SESSIONS.at("user_agent") })?,
        created_at: r.time(const { SESSIONS.at("created_at") })?,
        refreshed_at: r.time(const { SESSIONS.at("refreshed_at") })?,
        expires_at: r.time(const { SESSIONS.at("expires_at") })?,
        ended,
    })
}

fn read_token(r: &Row) -> Result<OneTimeToken> {
    Ok(OneTimeToken {
        hash: read_hash(r, 0)?,
        user_id: UserId(r.uuid(1)?),
        purpose: r.stored(2)?,
        email: r.string(3)?,
        expires_at: r.time(4)?,
    })
}

/// The sessions of a SQL database.
pub type SqlSessions<'c> = SqlRepository<'c, dyn SessionRepository>;

impl SqlSessions<'_> {
    /// Removes at most `limit` rows of `table` whose time in `column` is before `before`. `old` finds their `key`s.
    async fn trim_old(
        &mut self,
        old: &'static Sql,
        (table, key, column): (&str, &str, &str),
        read: fn(&Row) -> Result<Value<'static>>,
        before: Timestamp,
        limit: u32,
    ) -> Result<u64> {
        // Two statements, since MySQL allows no limit in a subquery.
        let rows = self.0.fetch_all(old, vec![before.into(), i64::from(limit).into()]).await?;
        let keys = rows.iter().map(read).collect::<Result<Vec<_>>>()?;
        let mut removed = 0;
        for chunk in keys.chunks(MAX_LIST) {
            // A row that has changed meanwhile may have a later time.
            let mut b = Builder::new("DELETE FROM ");
            b.push(table).push(" WHERE ").push(column).push(" < ").bind(before);
            b.push(" AND ").push(key).push(" IN ").list(chunk);
            let (text, args) = b.done();
            removed += self.0.execute(text, args).await?;
        }
        Ok(removed)
    }
}

#[async_trait]
impl SessionRepository for SqlSessions<'_> {
    async fn get(&mut self, id: SessionId) -> Result<Option<Session>> {
        let row = self.0.fetch_optional(&GET, vec![id.into()]).await?;
        row.as_ref().map(read_session).transpose()
    }

    async fn lock(&mut self, id: SessionId) -> Result<Option<Session>> {
        lock_rows(&mut self.0, "sessions", "id", &[id]).await?;
        // A statement of its own, since the read must see the change that the lock waited for.
        self.get(id).await
    }

    async fn active(&mut self, user: UserId, now: Timestamp) -> Result<Vec<Session>> {
        self.0.fetch_all(&ACTIVE, vec![user.into(), now.into()]).await?.iter().map(read_session).collect()
    }

    async fn insert(&mut self, session: &Session) -> Result<()> {
        SESSIONS.insert(&mut self.0, &[session]).await
    }

    async fn update(&mut self, session: &Session) -> Result<()> {
        let args = vec![
            session.id.into(),
            session.token.0.as_slice().into(),
            session.refreshed_at.into(),
            session.expires_at.into(),
            session.ended.map(|(at, _)| at).into(),
            session.ended.map(|(_, reason)| reason.as_str()).into(),
        ];
        self.0.execute(&UPDATE, args).await?;
        Ok(())
    }

    async fn end_all(&mut self, user: UserId, at: Timestamp, reason: SessionEnd) -> Result<Vec<SessionId>> {
        let rows = self.0.fetch_all(&OPEN, vec![user.into()]).await?;
        let ids = rows.iter().map(|r| r.uuid(0).map(SessionId)).collect::<Result<Vec<_>>>()?;
        for chunk in ids.chunks(MAX_LIST) {
            let mut b = Builder::new("UPDATE sessions SET ended_at = ");
            b.bind(at).push(", end_reason = ").bind(reason).push(" WHERE id IN ").list(chunk);
            let (text, args) = b.done();
            self.0.execute(text, args).await?;
        }
        Ok(ids)
    }

    async fn trim(&mut self, before: Timestamp, limit: u32) -> Result<u64> {
        let id = |r: &Row| r.uuid(0).map(Value::from);
        self.trim_old(&OVER, ("sessions", "id", "over_at"), id, before, limit).await
    }

    async fn put_token(&mut self, token: &OneTimeToken) -> Result<()> {
        let args = vec![
            token.hash.0.as_slice().into(),
            token.user_id.into(),
            token.purpose.into(),
            Value::from(&token.email),
            token.expires_at.into(),
        ];
        self.0.execute(&PUT_TOKEN, args).await.map_err(|e: DbError| match e.kind {
            Kind::ForeignKey(_) => gone("user_id", &token.user_id.to_string()),
            _ => e.into(),
        })?;
        Ok(())
    }

    async fn find_token(&mut self, hash: &SecretHash, purpose: OneTimePurpose) -> Result<Option<OneTimeToken>> {
        let row = self.0.fetch_optional(&TOKEN, vec![hash.0.as_slice().into(), purpose.into()]).await?;
        row.as_ref().map(read_token).transpose()
    }

    async fn take_token(&mut self, hash: &SecretHash, purpose: OneTimePurpose) -> Result<Option<OneTimeToken>> {
        let Some(token) = self.find_token(hash, purpose).await? else { return Ok(None) };
        // A row with this hash never changes. Of several transactions that have read it, one deletes it.
        let deleted = self.0.execute(&DELETE_TOKEN, vec![hash.0.as_slice().into(), purpose.into()]).await?;
        Ok((deleted > 0).then_some(token))
    }

    async fn remove_tokens(&mut self, user: UserId) -> Result<()> {
        self.0.execute(&DELETE_TOKENS, vec![user.into()]).await?;
        Ok(())
    }

    async fn trim_tokens(&mut self, before: Timestamp, limit: u32) -> Result<u64> {
        let hash = |r: &Row| r.bytes(0).map(|hash| hash.to_vec().into());
        self.trim_old(&OLD_TOKENS, ("one_time_tokens", "hash", "expires_at"), hash, before, limit).await
    }

    async fn put_ticket(&mut self, ticket: &LiveTicket) -> Result<()> {
        let args = vec![ticket.hash.0.as_slice().into(), Value::from(&ticket.principal), ticket.expires_at.into()];
        self.0.execute(&PUT_TICKET, args).await?;
        Ok(())
    }

    async fn take_ticket(&mut self, hash: &SecretHash) -> Result<Option<LiveTicket>> {
        let Some(row) = self.0.fetch_optional(&TICKET, vec![hash.0.as_slice().into()]).await? else { return Ok(None) };
        let ticket = LiveTicket { hash: read_hash(&row, 0)?, principal: row.string(1)?, expires_at: row.time(2)? };
        // A row never changes. Of several transactions that have read it, one deletes it.
        let deleted = self.0.execute(&DELETE_TICKET, vec![hash.0.as_slice().into()]).await?;
        Ok((deleted > 0).then_some(ticket))
    }

    async fn trim_tickets(&mut self, before: Timestamp, limit: u32) -> Result<u64> {
        let hash = |r: &Row| r.bytes(0).map(|hash| hash.to_vec().into());
        self.trim_old(&OLD_TICKETS, ("live_tickets", "hash", "expires_at"), hash, before, limit).await
    }

    async fn failures(&mut self, address: &SecretHash) -> Result<Option<LoginFailures>> {
        let row = self.0.fetch_optional(&FAILURES, vec![address.0.as_slice().into()]).await?;
        let read = |r: &Row| {
            let count = u32::try_from(r.count(0)?).unwrap_or(u32::MAX);
            Ok(LoginFailures { count, last_at: r.time(1)? })
        };
        row.as_ref().map(read).transpose()
    }

    async fn note_failure(&mut self, address: &SecretHash, at: Timestamp) -> Result<()> {
        let args = vec![address.0.as_slice().into(), at.into(), (at - LoginFailures::KEPT).into()];
        self.0.execute(&ADD_FAILURE, args).await?;
        Ok(())
    }

    async fn clear_failures(&mut self, address: &SecretHash) -> Result<()> {
        self.0.execute(&CLEAR_FAILURES, vec![address.0.as_slice().into()]).await?;
        Ok(())
    }

    async fn trim_failures(&mut self, before: Timestamp, limit: u32) -> Result<u64> {
        let address = |r: &Row| r.bytes(0).map(|address| address.to_vec().into());
        self.trim_old(&OLD_FAILURES, ("login_failures", "address", "last_at"), address, before, limit).await
    }
}
