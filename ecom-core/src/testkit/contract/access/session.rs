//! The contract of [`SessionRepository`](crate::port::SessionRepository).

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::domain::access::secret::SecretHash;
use crate::domain::access::session::{LiveTicket, LoginFailures, OneTimePurpose, OneTimeToken, Session, SessionEnd};
use crate::domain::access::user::User;
use crate::error::{Error, FieldCode, Result};
use crate::id::{IdSource as _, SessionId};
use crate::port::storage::Storage;
use crate::testkit::check::{holds, same};
use crate::testkit::sample::Env;

suite! {
    /// Runs the suite of [`SessionRepository`](crate::port::SessionRepository). Takes the path of an
    /// `async fn() -> StorageFixture`; see [`testkit`](crate::testkit).
    session_suite, session: fixture => &fixture.storage, __session_tests: [
        a_session_is_read_as_it_was_written,
        a_session_is_refreshed_and_ended,
        a_session_of_nobody_is_refused,
        the_active_sessions_of_a_user_are_the_newest_that_go_on,
        at_most_a_thousand_active_sessions_are_returned,
        of_refreshes_of_a_session_at_once_each_sees_the_one_before,
        all_sessions_of_a_user_are_ended_once,
        the_end_of_all_sessions_waits_for_a_refresh,
        old_sessions_are_removed,
        a_user_has_one_token_for_each_purpose,
        a_token_of_nobody_is_refused,
        a_token_is_taken_once,
        of_many_that_take_a_token_at_once_one_gets_it,
        a_token_that_is_taken_in_a_rolled_back_transaction_is_still_there,
        the_tokens_of_a_user_are_removed,
        old_tokens_are_removed,
        a_ticket_is_taken_once,
        old_tickets_are_removed,
        failed_logins_are_counted_by_address,
        failed_logins_at_once_are_all_counted,
        the_count_of_failed_logins_begins_again_after_a_day,
        old_failed_logins_are_removed,
        reads_of_sessions_take_one_statement,
    ]
}

const DAY: Duration = Duration::from_secs(86_400);

async fn users(env: &Env, storage: &Arc<dyn Storage>, n: usize) -> Vec<User> {
    let users: Vec<User> = (0..n).map(|n| env.user(&format!("u{n}@example.com"))).collect();
    env.insert_users(storage, &users).await.unwrap();
    users
}

async fn insert(storage: &Arc<dyn Storage>, sessions: &[Session]) {
    let mut unit = storage.begin().await.unwrap();
    for session in sessions {
        unit.sessions().insert(session).await.unwrap();
    }
    unit.commit().await.unwrap();
}

async fn get(storage: &Arc<dyn Storage>, id: SessionId) -> Option<Session> {
    read!(storage, sessions.get(id))
}

async fn put(storage: &Arc<dyn Storage>, token: &OneTimeToken) {
    attempt!(storage, sessions.put_token(token)).unwrap();
}

async fn take(storage: &Arc<dyn Storage>, token: &OneTimeToken) -> Option<OneTimeToken> {
    attempt!(storage, sessions.take_token(&token.hash, token.purpose)).unwrap()
}

/// Returns the number and the time of the failed logins with an address.
async fn failures(storage: &Arc<dyn Storage>, address: &SecretHash) -> Option<(u32, Timestamp)> {
    read!(storage, sessions.failures(address)).map(|failures| (failures.count, failures.last_at))
}

/// Panics unless the call was refused because the user does not exist.
#[track_caller]
fn has_no_user<T: std::fmt::Debug>(result: Result<T>, what: &str) {
    match result {
        Err(Error::Validation(e)) => {
            let found: Vec<_> = e.0.iter().map(|f| (f.field.as_str(), f.code)).collect();
            let expected = vec![("user_id", FieldCode::ReferenceNotFound)];
            same(found, expected, "A bad reference is refused by its field.", what);
        }
        other => panic!("{what}: the call must be refused as a bad reference, but returns {other:?}"),
    }
}

/// Sessions that go on, and sessions that have ended for each reason.
pub async fn a_session_is_read_as_it_was_written(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let users = users(&env, storage, 1).await;
    let mut sessions = vec![env.session(&users[0])];
    sessions.push(Session {
        family: SecretHash([0; 32]),
        token: SecretHash([255; 32]),
        user_agent: Some("🎧".repeat(255)),
        ..env.session(&users[0])
    });
    sessions.push(Session { user_agent: Some(String::new()), ..env.session(&users[0]) });
    for reason in SessionEnd::ALL {
        sessions.push(Session { ended: Some((env.now(), *reason)), ..env.session(&users[0]) });
    }
    insert(storage, &sessions).await;
    let contract = "A session is read as it was written.";
    for session in &sessions {
        same(get(storage, session.id).await.as_ref(), Some(session), contract, format_args!("{:?}", session.ended));
        let locked = attempt!(storage, sessions.lock(session.id)).unwrap();
        same(locked.as_ref(), Some(session), contract, "`lock`");
    }
    let (unknown, contract) = (SessionId(env.ids.next()), "A session that does not exist is not found.");
    same(get(storage, unknown).await, None, contract, "`get`");
    same(attempt!(storage, sessions.lock(unknown)).unwrap(), None, contract, "`lock`");
}

/// Other sessions stay.
pub async fn a_session_is_refreshed_and_ended(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let users = users(&env, storage, 1).await;
    let (session, other) = (env.session(&users[0]), env.session(&users[0]));
    insert(storage, &[session.clone(), other.clone()]).await;
    let refreshed =
        Session { token: env.hash(), refreshed_at: env.now(), expires_at: env.now() + DAY, ..session.clone() };
    let ended = Session { ended: Some((env.now(), SessionEnd::Reuse)), ..refreshed.clone() };
    let contract = "An update writes the token, the times and the end of a session.";
    for after in [refreshed, ended] {
        attempt!(storage, sessions.update(&after)).unwrap();
        same(get(storage, session.id).await, Some(after.clone()), contract, format_args!("{:?}", after.ended));
    }
    same(get(storage, other.id).await, Some(other), contract, "another session");
}

/// The error names the field.
pub async fn a_session_of_nobody_is_refused(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let session = env.session(&env.user("nobody@example.com"));
    has_no_user(attempt!(storage, sessions.insert(&session)), "a session of nobody");
    same(get(storage, session.id).await, None, "A refused insert writes nothing.", "a session of nobody");
}

/// Sessions of others, and sessions that have ended or expired, are left out.
pub async fn the_active_sessions_of_a_user_are_the_newest_that_go_on(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let users = users(&env, storage, 2).await;
    let first = env.session(&users[0]);
    let ended = Session { ended: Some((env.now(), SessionEnd::Logout)), ..env.session(&users[0]) };
    let short = Session { expires_at: env.now() + DAY, ..env.session(&users[0]) };
    let (other, last) = (env.session(&users[1]), env.session(&users[0]));
    insert(storage, &[first.clone(), ended, short.clone(), other.clone(), last.clone()]).await;
    let contract = "`active` returns the sessions of a user that can be refreshed, newest first.";
    let micro = Duration::from_micros(1);
    for (user, now, expected, about) in [
        (0, short.expires_at - micro, vec![&last, &short, &first], "before one expires"),
        (0, short.expires_at, vec![&last, &first], "when one expires"),
        (0, first.expires_at, vec![&last], "when another one expires"),
        (0, last.expires_at, vec![], "when the last one expires"),
        (1, short.expires_at, vec![&other], "the other user"),
    ] {
        let found = read!(storage, sessions.active(users[user].id, now));
        same(found.iter().collect::<Vec<_>>(), expected, contract, about);
    }
    let nobody = env.user("nobody@example.com").id;
    same(read!(storage, sessions.active(nobody, first.created_at)), vec![], contract, "nobody");
}

/// The oldest ones are left out.
pub async fn at_most_a_thousand_active_sessions_are_returned(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let users = users(&env, storage, 1).await;
    let sessions: Vec<Session> = (0..1_002).map(|_| env.session(&users[0])).collect();
    insert(storage, &sessions).await;
    let found = read!(storage, sessions.active(users[0].id, env.now()));
    let found: Vec<SessionId> = found.iter().map(|session| session.id).collect();
    let expected: Vec<SessionId> = sessions.iter().rev().take(1_000).map(|session| session.id).collect();
    holds(found == expected, "`active` returns the newest 1,000 sessions.", found.len());
    let ended = attempt!(storage, sessions.end_all(users[0].id, env.now(), SessionEnd::Revoked)).unwrap();
    same(ended.len(), 1_002, "`end_all` ends all sessions of a user.", "1,002 sessions");
}

/// A transaction that holds the lock reads the token of the holder before it.
pub async fn of_refreshes_of_a_session_at_once_each_sees_the_one_before(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let users = users(&env, storage, 1).await;
    let session = Session { token: SecretHash([0; 32]), ..env.session(&users[0]) };
    insert(storage, &[session.clone()]).await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (storage, id) = (storage.clone(), session.id);
        tasks.spawn(async move {
            let mut unit = storage.begin().await.unwrap();
            let mut session = unit.sessions().lock(id).await.unwrap().unwrap();
            tokio::task::yield_now().await;
            session.token.0[0] += 1;
            unit.sessions().update(&session).await.unwrap();
            unit.commit().await.unwrap();
        });
    }
    tasks.join_all().await;
    let token = get(storage, session.id).await.unwrap().token.0[0];
    same(token, 8, "Writers that lock a session lose no write.", "eight refreshes");
}

/// Sessions that have ended before keep their reasons, and those of others go on.
pub async fn all_sessions_of_a_user_are_ended_once(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let users = users(&env, storage, 2).await;
    let (a, b) = (env.session(&users[0]), env.session(&users[0]));
    let expired = Session { expires_at: a.created_at, ..env.session(&users[0]) };
    let ended = Session { ended: Some((env.now(), SessionEnd::Logout)), ..env.session(&users[0]) };
    let other = env.session(&users[1]);
    insert(storage, &[b.clone(), expired.clone(), a.clone(), ended.clone(), other.clone()]).await;
    let (at, reason) = (env.now(), SessionEnd::PasswordChanged);
    let mut unit = storage.begin().await.unwrap();
    unit.users().lock(users[0].id).await.unwrap();
    let rolled_back = unit.sessions().end_all(users[0].id, at, reason).await.unwrap();
    unit.rollback().await.unwrap();
    same(get(storage, a.id).await.as_ref(), Some(&a), "A rollback undoes the end of a session.", "`end_all`");
    let contract = "`end_all` ends the sessions of a user that have not ended, and returns their ids.";
    let found = attempt!(storage, sessions.end_all(users[0].id, at, reason)).unwrap();
    same(&found, &vec![a.id, b.id, expired.id], contract, "the ids");
    same(rolled_back, found, contract, "the ids in the transaction that was rolled back");
    for session in [a, b, expired] {
        let after = Session { ended: Some((at, reason)), ..session };
        same(get(storage, after.id).await, Some(after), contract, "a session that went on");
    }
    same(get(storage, ended.id).await, Some(ended), contract, "a session that had ended");
    same(get(storage, other.id).await, Some(other), contract, "a session of another user");
    let again = attempt!(storage, sessions.end_all(users[0].id, env.now(), SessionEnd::Revoked)).unwrap();
    same(again, vec![], contract, "a second time");
}

/// The refresh is not lost, and the session ends.
pub async fn the_end_of_all_sessions_waits_for_a_refresh(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let users = users(&env, storage, 1).await;
    let (refreshed, logged_out) = (env.session(&users[0]), env.session(&users[0]));
    insert(storage, &[refreshed.clone(), logged_out.clone()]).await;
    let mut unit = storage.begin().await.unwrap();
    for session in [&refreshed, &logged_out] {
        unit.sessions().lock(session.id).await.unwrap();
    }
    let (id, at) = (users[0].id, env.now());
    let ending = {
        let storage = storage.clone();
        tokio::spawn(async move { attempt!(storage, sessions.end_all(id, at, SessionEnd::UserBlocked)).unwrap() })
    };
    tokio::time::sleep(Duration::from_millis(50)).await;
    let refreshed = Session { token: env.hash(), refreshed_at: env.now(), ..refreshed };
    let logged_out = Session { ended: Some((env.now(), SessionEnd::Logout)), ..logged_out };
    for session in [&refreshed, &logged_out] {
        unit.sessions().update(session).await.unwrap();
    }
    unit.commit().await.unwrap();
    let contract = "`end_all` waits for the transactions that have locked a session.";
    same(ending.await.unwrap(), vec![refreshed.id], contract, "the ids");
    let after = Session { ended: Some((at, SessionEnd::UserBlocked)), ..refreshed };
    same(get(storage, after.id).await, Some(after), contract, "the session that was refreshed");
    same(get(storage, logged_out.id).await, Some(logged_out), contract, "the session that was ended");
}

/// Sessions that can still be used stay, however old they are.
pub async fn old_sessions_are_removed(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let users = users(&env, storage, 1).await;
    let start = env.now();
    let session = |expires: u32, ended: Option<u32>| Session {
        expires_at: start + DAY * expires,
        ended: ended.map(|days| (start + DAY * days, SessionEnd::Logout)),
        ..env.session(&users[0])
    };
    // The time from which on each cannot be used, in days.
    let sessions = [
        (3, session(3, None)),
        (1, session(1, None)),
        (2, session(9, Some(2))),
        (1, session(1, Some(5))),
        (4, session(4, None)),
        (4, session(9, Some(4))),
        (9, session(9, None)),
    ];
    insert(storage, &sessions.clone().map(|(_, session)| session)).await;
    let contract =
        "`trim` removes sessions that ended or expired before a time, at most so many, and returns how many.";
    let left = async || {
        let mut left = Vec::new();
        for (days, session) in &sessions {
            if let Some(found) = get(storage, session.id).await {
                same(&found, session, "`trim` leaves the other sessions as they are.", days);
                left.push(*days);
            }
        }
        left
    };
    same(attempt!(storage, sessions.trim(start + DAY, 9)).unwrap(), 0, contract, "at the time of the first ones");
    same(attempt!(storage, sessions.trim(start + DAY * 4, 0)).unwrap(), 0, contract, "at most none");
    for (limit, gone) in [(3, 3), (3, 1), (3, 0)] {
        same(attempt!(storage, sessions.trim(start + DAY * 4, limit)).unwrap(), gone, contract, limit);
    }
    same(left().await, vec![4, 4, 9], contract, "those of later days stay");
    same(attempt!(storage, sessions.trim(start + DAY * 5, 9)).unwrap(), 2, contract, "the fourth day");
    same(left().await, vec![9], contract, "the session that goes on");
    // A session that is ended before it expires can be removed earlier.
    let ended = attempt!(storage, sessions.end_all(users[0].id, start + DAY * 6, SessionEnd::Revoked)).unwrap();
    same(ended.len(), 1, "`end_all` ends the sessions of a user.", "the last one");
    same(attempt!(storage, sessions.trim(start + DAY * 7, 9)).unwrap(), 1, contract, "after its end");
}

/// Of tokens that are stored at once, one stays.
pub async fn a_user_has_one_token_for_each_purpose(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let users = users(&env, storage, 2).await;
    let token = |user: usize, purpose| env.one_time_token(&users[user], purpose);
    let (old, other) = (token(0, OneTimePurpose::VerifyEmail), token(0, OneTimePurpose::ResetPassword));
    let theirs = token(1, OneTimePurpose::VerifyEmail);
    let new = OneTimeToken { email: "Zoë@例え.jp".to_owned(), ..token(0, OneTimePurpose::VerifyEmail) };
    for token in [&old, &other, &theirs, &new] {
        put(storage, token).await;
    }
    let contract = "A token replaces the one that the user has for the same purpose.";
    same(take(storage, &old).await, None, contract, "the old one");
    for token in [new, other, theirs] {
        same(take(storage, &token).await, Some(token), contract, "the others");
    }
    let mut tasks = tokio::task::JoinSet::new();
    let at_once: Vec<OneTimeToken> = (0..8).map(|_| token(0, OneTimePurpose::ResetPassword)).collect();
    for token in at_once.clone() {
        let storage = storage.clone();
        tasks.spawn(async move {
            loop {
                match attempt!(storage, sessions.put_token(&token)) {
                    Err(Error::Contention { .. }) => {}
                    result => break result.unwrap(),
                }
            }
        });
    }
    tasks.join_all().await;
    let mut left = 0;
    for token in &at_once {
        left += usize::from(take(storage, token).await.is_some());
    }
    same(left, 1, contract, "eight at once");
}

/// The error names the field.
pub async fn a_token_of_nobody_is_refused(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let token = env.one_time_token(&env.user("nobody@example.com"), OneTimePurpose::VerifyEmail);
    has_no_user(attempt!(storage, sessions.put_token(&token)), "a token of nobody");
    same(take(storage, &token).await, None, "A refused call writes nothing.", "a token of nobody");
}

/// The hash and the purpose must match, and the time does not matter.
pub async fn a_token_is_taken_once(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let users = users(&env, storage, 1).await;
    let token = env.one_time_token(&users[0], OneTimePurpose::ResetPassword);
    let token = OneTimeToken { expires_at: token.expires_at - DAY * 365, ..token };
    put(storage, &token).await;
    let contract = "A token is taken once, by its hash and purpose.";
    let wrong = OneTimeToken { purpose: OneTimePurpose::VerifyEmail, ..token.clone() };
    same(take(storage, &wrong).await, None, contract, "another purpose");
    same(take(storage, &OneTimeToken { hash: env.hash(), ..token.clone() }).await, None, contract, "another hash");
    let found = async |purpose| read!(storage, sessions.find_token(&token.hash, purpose));
    for _ in 0..2 {
        let contract = "A token is found by its hash and purpose as often as it is looked for.";
        same(found(token.purpose).await, Some(token.clone()), contract, "a token that has expired");
        same(found(wrong.purpose).await, None, contract, "another purpose");
    }
    same(take(storage, &token).await, Some(token.clone()), contract, "the first time, after it expired");
    same(take(storage, &token).await, None, contract, "the second time");
    put(storage, &token).await;
    same(take(storage, &token).await, Some(token), contract, "stored again");
}

/// The transactions overlap.
pub async fn of_many_that_take_a_token_at_once_one_gets_it(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let users = users(&env, storage, 1).await;
    let token = env.one_time_token(&users[0], OneTimePurpose::ResetPassword);
    put(storage, &token).await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let (storage, token) = (storage.clone(), token.clone());
        tasks.spawn(async move {
            loop {
                match attempt!(storage, sessions.take_token(&token.hash, token.purpose)) {
                    Err(Error::Contention { .. }) => {}
                    result => break result.unwrap(),
                }
            }
        });
    }
    let found: Vec<OneTimeToken> = tasks.join_all().await.into_iter().flatten().collect();
    same(found, vec![token], "Of many that take a token at once, one gets it.", "twenty at once");
}

/// Another transaction that waits for it gets the token.
pub async fn a_token_that_is_taken_in_a_rolled_back_transaction_is_still_there(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let users = users(&env, storage, 1).await;
    let token = env.one_time_token(&users[0], OneTimePurpose::VerifyEmail);
    put(storage, &token).await;
    let contract = "A token that is taken in a transaction that is rolled back is still there.";
    let mut unit = storage.begin().await.unwrap();
    let found = unit.sessions().take_token(&token.hash, token.purpose).await.unwrap();
    same(found.as_ref(), Some(&token), contract, "in the transaction");
    let waiting = {
        let (storage, token) = (storage.clone(), token.clone());
        tokio::spawn(async move { take(&storage, &token).await })
    };
    tokio::time::sleep(Duration::from_millis(50)).await;
    unit.rollback().await.unwrap();
    same(waiting.await.unwrap(), Some(token), contract, "in the transaction that waits");
}

/// Those of others stay.
pub async fn the_tokens_of_a_user_are_removed(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let users = users(&env, storage, 2).await;
    let mut tokens = Vec::new();
    for user in &users {
        for purpose in OneTimePurpose::ALL {
            let token = env.one_time_token(user, *purpose);
            put(storage, &token).await;
            tokens.push(token);
        }
    }
    attempt!(storage, sessions.remove_tokens(users[0].id)).unwrap();
    for token in tokens {
        let expected = Some(token.clone()).filter(|token| token.user_id == users[1].id);
        same(take(storage, &token).await, expected, "The tokens of one user are removed.", token.purpose.as_str());
    }
    attempt!(storage, sessions.remove_tokens(users[0].id)).expect("a user without tokens must do no harm");
}

/// Tokens that have not expired stay.
pub async fn old_tokens_are_removed(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let users = users(&env, storage, 5).await;
    let start = env.now();
    let mut tokens = Vec::new();
    for (days, user) in (1..).zip(&users) {
        let token = env.one_time_token(user, OneTimePurpose::VerifyEmail);
        let token = OneTimeToken { expires_at: start + DAY * days, ..token };
        put(storage, &token).await;
        tokens.push(token);
    }
    let contract = "`trim_tokens` removes tokens that expired before a time, at most so many, and returns how many.";
    for (days, limit, gone) in [(1, 9, 0), (4, 0, 0), (4, 2, 2), (4, 2, 1), (4, 2, 0)] {
        let removed = attempt!(storage, sessions.trim_tokens(start + DAY * days, limit)).unwrap();
        same(removed, gone, contract, format_args!("day {days}, at most {limit}"));
    }
    for (n, token) in tokens.into_iter().enumerate() {
        same(take(storage, &token).await, Some(token).filter(|_| n >= 3), contract, format_args!("token {n}"));
    }
}

fn ticket(env: &Env, principal: &str) -> LiveTicket {
    LiveTicket { hash: env.hash(), principal: principal.to_owned(), expires_at: env.now() }
}

async fn take_ticket(storage: &Arc<dyn Storage>, ticket: &LiveTicket) -> Option<LiveTicket> {
    attempt!(storage, sessions.take_ticket(&ticket.hash)).unwrap()
}

/// Also of many transactions that take it at once.
pub async fn a_ticket_is_taken_once(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let longest = format!("{{\"actor\":\"{}\"}}", "ä".repeat(3_988));
    let tickets = [ticket(&env, "{}"), ticket(&env, &longest)];
    for ticket in &tickets {
        attempt!(storage, sessions.put_ticket(ticket)).unwrap();
    }
    for ticket in &tickets {
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let (storage, ticket) = (storage.clone(), ticket.clone());
            tasks.spawn(async move { take_ticket(&storage, &ticket).await });
        }
        let found: Vec<LiveTicket> = tasks.join_all().await.into_iter().flatten().collect();
        same(found, vec![ticket.clone()], "Of many that take a ticket at once, one gets it.", "eight at once");
    }
    same(take_ticket(storage, &ticket(&env, "{}")).await, None, "A ticket that nobody has made is not found.", "none");
}

/// Tickets that have not expired stay.
pub async fn old_tickets_are_removed(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let start = env.now();
    let mut tickets = Vec::new();
    for days in 1..=3 {
        let ticket = LiveTicket { expires_at: start + DAY * days, ..ticket(&env, "{}") };
        attempt!(storage, sessions.put_ticket(&ticket)).unwrap();
        tickets.push(ticket);
    }
    let contract = "`trim_tickets` removes tickets that expired before a time, at most so many, and returns how many.";
    for (days, limit, gone) in [(1, 9, 0), (3, 0, 0), (3, 1, 1), (3, 9, 1)] {
        let removed = attempt!(storage, sessions.trim_tickets(start + DAY * days, limit)).unwrap();
        same(removed, gone, contract, format_args!("day {days}, at most {limit}"));
    }
    for (n, ticket) in tickets.into_iter().enumerate() {
        same(
            take_ticket(storage, &ticket).await,
            Some(ticket).filter(|_| n == 2),
            contract,
            format_args!("ticket {n}"),
        );
    }
}

/// Each address has a count of its own, which a successful login clears.
pub async fn failed_logins_are_counted_by_address(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let (a, b) = (env.hash(), SecretHash([0; 32]));
    let times: Vec<Timestamp> = (0..4).map(|_| env.now()).collect();
    let contract = "Failed logins are counted by address, with the time of the last one.";
    same(failures(storage, &a).await, None, contract, "none");
    for (n, at) in (1..).zip(&times[..3]) {
        attempt!(storage, sessions.note_failure(&a, *at)).unwrap();
        same(failures(storage, &a).await, Some((n, *at)), contract, n);
    }
    attempt!(storage, sessions.note_failure(&b, times[3])).unwrap();
    attempt!(storage, sessions.note_failure(&a, times[0])).unwrap();
    same(failures(storage, &a).await, Some((4, times[2])), "The time of the last failure never goes back.", "late");
    let mut unit = storage.begin().await.unwrap();
    unit.sessions().note_failure(&a, times[3]).await.unwrap();
    unit.rollback().await.unwrap();
    same(failures(storage, &a).await, Some((4, times[2])), contract, "a transaction that was rolled back");
    attempt!(storage, sessions.clear_failures(&a)).unwrap();
    same(failures(storage, &a).await, None, contract, "cleared");
    same(failures(storage, &b).await, Some((1, times[3])), contract, "the other address");
    attempt!(storage, sessions.clear_failures(&a)).expect("an address without failures must do no harm");
    attempt!(storage, sessions.note_failure(&a, times[3])).unwrap();
    same(failures(storage, &a).await, Some((1, times[3])), contract, "the first one after that");
}

/// The address has no failure before.
pub async fn failed_logins_at_once_are_all_counted(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let (address, start) = (env.hash(), env.now());
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..20 {
        let storage = storage.clone();
        tasks.spawn(async move {
            let at = start + Duration::from_millis(n);
            loop {
                match attempt!(storage, sessions.note_failure(&address, at)) {
                    Err(Error::Contention { .. }) => {}
                    result => break result.unwrap(),
                }
            }
        });
    }
    tasks.join_all().await;
    let expected = Some((20, start + Duration::from_millis(19)));
    same(failures(storage, &address).await, expected, "Failures at once are all counted.", "twenty");
}

/// A failure after exactly a day is counted with the others.
pub async fn the_count_of_failed_logins_begins_again_after_a_day(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let (address, start) = (env.hash(), env.now());
    let contract = "The count begins again at 1 if the last login failed more than `KEPT` before.";
    let within = start + LoginFailures::KEPT;
    let later = within + LoginFailures::KEPT + Duration::from_micros(1);
    for (at, count) in [(start, 1), (start, 2), (within, 3), (later, 1), (later, 2)] {
        attempt!(storage, sessions.note_failure(&address, at)).unwrap();
        same(failures(storage, &address).await, Some((count, at)), contract, format_args!("{at}"));
    }
}

/// Addresses with a later failure stay.
pub async fn old_failed_logins_are_removed(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let start = env.now();
    let addresses: Vec<SecretHash> = (0..5).map(|_| env.hash()).collect();
    for (days, address) in (1..).zip(&addresses) {
        attempt!(storage, sessions.note_failure(address, start + DAY * days)).unwrap();
    }
    let contract = "`trim_failures` removes addresses whose last login failed before a time, at most so many.";
    for (days, limit, gone) in [(1, 9, 0), (4, 0, 0), (4, 2, 2), (4, 2, 1), (4, 2, 0)] {
        let removed = attempt!(storage, sessions.trim_failures(start + DAY * days, limit)).unwrap();
        same(removed, gone, contract, format_args!("day {days}, at most {limit}"));
    }
    for (n, address) in addresses.iter().enumerate() {
        same(failures(storage, address).await.is_some(), n >= 3, contract, format_args!("address {n}"));
    }
}

/// The number of sessions does not matter.
pub async fn reads_of_sessions_take_one_statement(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let users = users(&env, storage, 2).await;
    let sessions: Vec<Session> = (0..40).map(|_| env.session(&users[0])).collect();
    insert(storage, &sessions).await;
    insert(storage, &[env.session(&users[1])]).await;
    let mut unit = storage.begin().await.unwrap();
    let mut before = storage.statements();
    let mut spent = || {
        let spent = storage.statements() - before;
        before += spent;
        spent
    };
    let contract = "A read of sessions takes one statement.";
    unit.sessions().get(sessions[0].id).await.unwrap();
    same(spent(), 1, contract, "`get`");
    let active = unit.sessions().active(users[0].id, env.now()).await.unwrap();
    same((active.len(), spent()), (40, 1), contract, "`active`");
    unit.sessions().failures(&env.hash()).await.unwrap();
    same(spent(), 1, contract, "`failures`");
    unit.sessions().end_all(users[1].id, env.now(), SessionEnd::Revoked).await.unwrap();
    let one = spent();
    unit.sessions().end_all(users[0].id, env.now(), SessionEnd::Revoked).await.unwrap();
    same(spent(), one, "The end of all sessions takes a fixed number of statements.", "1 and 40 sessions");
    unit.rollback().await.unwrap();
}
