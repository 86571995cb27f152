//! Sessions, which begin with a login and end with a logout. The refresh tokens of a session are a family, of which
//! only the newest is valid.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::domain::access::secret::{Secret, SecretHash};
use crate::domain::words::words;
use crate::id::{SessionId, UserId};

words! {
    /// Why a session has ended.
    SessionEnd {
        /// The user has logged out.
        Logout = "logout",
        /// A refresh token was used a second time, so somebody else may have it.
        Reuse = "reuse",
        /// The password of the user was changed.
        PasswordChanged = "password_changed",
        /// The user was blocked or deleted.
        UserBlocked = "user_blocked",
        /// Somebody with the permission has ended it.
        Revoked = "revoked",
    }
}

/// A session of a user.
///
/// Its refresh token consists of the id of the session, a part that stays the same (`family`), and a part that changes
/// with each refresh (`token`). A token with the right first two parts and an old third one was valid once: it was
/// stolen, or the client did not receive the response to its refresh. A token with a wrong second part was never valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// The id of the session.
    pub id: SessionId,
    /// The user that has logged in.
    pub user_id: UserId,
    /// The hash of the part of the refresh token that stays the same.
    pub family: SecretHash,
    /// The hash of the part of the refresh token that changes.
    pub token: SecretHash,
    /// The `User-Agent` of the login, at most 255 characters, by which people recognize the session.
    pub user_agent: Option<String>,
    /// When the user logged in.
    pub created_at: Timestamp,
    /// When the session was last refreshed.
    pub refreshed_at: Timestamp,
    /// When the session expires unless it is refreshed.
    pub expires_at: Timestamp,
    /// When and why the session has ended; `None` while it goes on.
    pub ended: Option<(Timestamp, SessionEnd)>,
}

impl Session {
    /// How long ended and expired sessions are kept.
    pub const KEPT: Duration = Duration::from_secs(30 * 24 * 60 * 60);

    /// Returns true if the session can be used at this time.
    pub fn is_active(&self, now: Timestamp) -> bool {
        self.ended.is_none() && now < self.expires_at
    }
}

/// The parts of a refresh token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RefreshToken {
    /// The session.
    pub session: SessionId,
    /// The hash of the part that stays the same.
    pub family: SecretHash,
    /// The hash of the part that changes.
    pub token: SecretHash,
}

/// The number of bytes of each part.
const PART: usize = 16;

impl RefreshToken {
    /// Returns the text of a new token, and its parts. `family` and `token` are random.
    pub fn compose(session: SessionId, family: [u8; PART], token: [u8; PART]) -> (Secret, Self) {
        let bytes = [session.0.into_bytes(), family, token].concat();
        (Secret::from_random(&bytes), Self::of_parts(session, family, token))
    }

    fn of_parts(session: SessionId, family: [u8; PART], token: [u8; PART]) -> Self {
        Self { session, family: SecretHash::of(&family), token: SecretHash::of(&token) }
    }

    /// Reads the text of a token, and returns its parts and the bytes of its second one, which a new token repeats.
    /// Returns `None` for a text that is not a token.
    pub fn parse(secret: &Secret) -> Option<(Self, [u8; PART])> {
        let text = secret.reveal();
        if text.len() != (3 * PART * 8).div_ceil(6) {
            return None;
        }
        let bytes: [u8; 3 * PART] = URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()?;
        let part = |n: usize| -> [u8; PART] { std::array::from_fn(|i| bytes[n * PART + i]) };
        let family = part(1);
        Some((Self::of_parts(SessionId(Uuid::from_bytes(part(0))), family, part(2)), family))
    }
}

words! {
    /// The action that a one-time token permits.
    OneTimePurpose {
        /// Proves that an email address is that of the user.
        VerifyEmail = "verify_email",
        /// Sets a new password.
        ResetPassword = "reset_password",
    }
}

/// A token that is sent to a user by mail and can be used once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OneTimeToken {
    /// The hash of the token.
    pub hash: SecretHash,
    /// The user whom it was sent to.
    pub user_id: UserId,
    /// The action that it permits.
    pub purpose: OneTimePurpose,
    /// The address to which the token was sent. The token is void if the user's address has changed since.
    pub email: String,
    /// When it expires.
    pub expires_at: Timestamp,
}

/// A ticket: a secret that is valid for a minute and opens one stream of live events. Browsers use it, because they
/// cannot send a token in a header there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveTicket {
    /// The hash of the ticket.
    pub hash: SecretHash,
    /// The principal of the ticket, as the library encodes it: at most 4,000 characters.
    pub principal: String,
    /// When the ticket expires.
    pub expires_at: Timestamp,
}

impl LiveTicket {
    /// How long a ticket is valid.
    pub const TTL: Duration = Duration::from_secs(60);
}

/// The failed logins with one email address since the last successful one, whether or not a user has the address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoginFailures {
    /// How many logins have failed.
    pub count: u32,
    /// When the last one failed.
    pub last_at: Timestamp,
}

impl LoginFailures {
    /// How many logins may fail before the next one has to wait.
    pub const FREE: u32 = 5;
    /// The longest wait.
    pub const MAX_WAIT: Duration = Duration::from_secs(15 * 60);
    /// After how long without a failure they are forgotten.
    pub const KEPT: Duration = Duration::from_secs(24 * 60 * 60);

    /// Returns until when logins with the address are refused: 2 seconds after the [`FREE`](Self::FREE)th failure,
    /// twice as long after each further one, up to [`MAX_WAIT`](Self::MAX_WAIT).
    pub fn refused_until(&self) -> Option<Timestamp> {
        let doublings = self.count.checked_sub(Self::FREE)?;
        let wait = Duration::from_secs(2 << doublings.min(16)).min(Self::MAX_WAIT);
        Some(self.last_at + wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refresh_token_is_read_from_its_text() {
        let id = SessionId(Uuid::from_u128(7));
        let (text, parts) = RefreshToken::compose(id, [1; 16], [2; 16]);
        assert_eq!(text.reveal().len(), 64);
        assert_eq!(RefreshToken::parse(&text), Some((parts, [1; 16])));
        let (_, later) = RefreshToken::compose(id, [1; 16], [3; 16]);
        assert!(later.family == parts.family && later.token != parts.token && later.session == id);
        for other in ["", "x", &text.reveal()[..63], &format!("{}=", text.reveal()), &"ä".repeat(32), &"*".repeat(64)]
        {
            assert_eq!(RefreshToken::parse(&Secret::new(other)), None, "{other}");
        }
    }

    #[test]
    fn failed_logins_wait_longer_and_longer() {
        let last_at = Timestamp::UNIX_EPOCH;
        let wait = |count| {
            let until = LoginFailures { count, last_at }.refused_until()?;
            Some((until - last_at).num_seconds())
        };
        assert_eq!([0, 1, 4].map(wait), [None; 3]);
        assert_eq!([5, 6, 7, 13, 14, 1_000].map(wait), [2, 4, 8, 512, 900, 900].map(Some));
    }
}
