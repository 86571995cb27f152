//! Sessions, one-time tokens, tickets and failed logins.

use crate::clock::Timestamp;
use crate::domain::access::secret::SecretHash;
use crate::domain::access::session::{LiveTicket, LoginFailures, OneTimePurpose, OneTimeToken, Session, SessionEnd};
use crate::error::Result;
use crate::id::{SessionId, UserId};

port! {
    /// The sessions of users, and what precedes them: one-time tokens and failed logins. Also the tickets of live
    /// events.
    ///
    /// Every method fails with `Unavailable` if the database cannot be reached.
    pub trait SessionRepository / ForwardSessions(&mut self): Send {
        /// Returns one session.
        async fn get(&mut self, id: SessionId) -> Result<Option<Session>>;

        /// Locks a session until the end of the transaction, and returns it as it is then.
        async fn lock(&mut self, id: SessionId) -> Result<Option<Session>>;

        /// Returns the sessions of a user that have not ended and can be refreshed at `now`, newest first, at most
        /// 1,000.
        async fn active(&mut self, user: UserId, now: Timestamp) -> Result<Vec<Session>>;

        /// Inserts a session.
        ///
        /// # Errors
        /// `Validation` (reference) for a user that does not exist.
        async fn insert(&mut self, session: &Session) -> Result<()>;

        /// Writes the hash of the changing part of the refresh token, the times and the end of a session that this
        /// transaction has locked.
        async fn update(&mut self, session: &Session) -> Result<()>;

        /// Ends all sessions of a user that have not ended, expired ones too, and returns their ids, sorted. The
        /// transaction has locked the user, so that no session begins meanwhile.
        async fn end_all(&mut self, user: UserId, at: Timestamp, reason: SessionEnd) -> Result<Vec<SessionId>>;

        /// Removes at most `limit` sessions that ended or expired before `before`. Returns how many.
        async fn trim(&mut self, before: Timestamp, limit: u32) -> Result<u64>;

        /// Stores a one-time token in place of the one that the user has for the same purpose, if it has one.
        ///
        /// # Errors
        /// `Validation` (reference) for a user that does not exist.
        async fn put_token(&mut self, token: &OneTimeToken) -> Result<()>;

        /// Returns the one-time token with this hash and purpose, even if it has expired. The token is kept.
        async fn find_token(&mut self, hash: &SecretHash, purpose: OneTimePurpose) -> Result<Option<OneTimeToken>>;

        /// Removes and returns the one-time token with this hash and purpose, even if it has expired. Of several
        /// transactions that take it at once, one gets it, and the others wait for its end and get nothing, unless it
        /// is rolled back.
        async fn take_token(&mut self, hash: &SecretHash, purpose: OneTimePurpose) -> Result<Option<OneTimeToken>>;

        /// Removes the one-time tokens of a user.
        async fn remove_tokens(&mut self, user: UserId) -> Result<()>;

        /// Removes at most `limit` one-time tokens that expired before `before`. Returns how many.
        async fn trim_tokens(&mut self, before: Timestamp, limit: u32) -> Result<u64>;

        /// Stores a ticket.
        async fn put_ticket(&mut self, ticket: &LiveTicket) -> Result<()>;

        /// Removes and returns the ticket with this hash, even if it has expired. Of several transactions that take it
        /// at once, one gets it, and the others wait for its end and get nothing, unless it is rolled back.
        async fn take_ticket(&mut self, hash: &SecretHash) -> Result<Option<LiveTicket>>;

        /// Removes at most `limit` tickets that expired before `before`. Returns how many.
        async fn trim_tickets(&mut self, before: Timestamp, limit: u32) -> Result<u64>;

        /// Returns the failed logins with an email address, of which `address` is the hash; `None` if there are none.
        /// They may be older than [`LoginFailures::KEPT`].
        async fn failures(&mut self, address: &SecretHash) -> Result<Option<LoginFailures>>;

        /// Counts a failed login. Concurrent calls lose none. The count begins again at 1 if the last login failed
        /// more than [`LoginFailures::KEPT`] before `at`. The time of the last failure never goes back.
        async fn note_failure(&mut self, address: &SecretHash, at: Timestamp) -> Result<()>;

        /// Forgets the failed logins with an address.
        async fn clear_failures(&mut self, address: &SecretHash) -> Result<()>;

        /// Removes at most `limit` addresses whose last login failed before `before`. Returns how many.
        async fn trim_failures(&mut self, before: Timestamp, limit: u32) -> Result<u64>;
    }
}
