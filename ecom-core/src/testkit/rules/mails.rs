//! Mails to users: when they are sent, what their tokens permit, and which customer a user becomes.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use serde_json::{Value, json};

use super::ShopFixture;
use super::support::{LONG, conflict, fields, me, until};
use crate::clock::{Clock as _, SharedClock};
use crate::config::ShopConfig;
use crate::domain::access::principal::Principal;
use crate::domain::access::secret::Secret;
use crate::domain::access::session::OneTimePurpose;
use crate::domain::access::user::{UserAccount, UserInput, UserPatch};
use crate::domain::common::{DeleteMode, ExpectedVersion, IncludeDeleted, Patch};
use crate::domain::platform::job::{Job, JobCounters, JobFilter, JobKind, JobState};
use crate::domain::platform::outbox::{EventKind, OutboxPosition};
use crate::domain::sales::cart::{CartAccess, CartInput, CartLineInput, CartToken};
use crate::domain::sales::customer::{Customer, CustomerFilter, CustomerInput, CustomerPatch, CustomerSort};
use crate::error::{Conflict, ErrorCode, Result, SalesConflict};
use crate::id::UuidV7Source;
use crate::paging::Paging;
use crate::service::access::auth::Tokens;
use crate::service::background::Background;
use crate::service::background::consumer::Consumer as _;
use crate::service::platform::mail::Mails;
use crate::shop::{Shop, ShopParts};
use crate::testkit::code_of;
use crate::testkit::faults::Fault;
use crate::testkit::postbox::Postbox;

tests! {
    __shop_mails: [
        r13_a_user_that_registers_gets_one_mail,
        r13_an_event_that_comes_again_makes_no_second_mail,
        r13_no_mail_is_sent_for_what_was_rolled_back,
        r13_a_mail_whose_sender_died_is_sent_by_the_next,
        a_mail_that_fails_is_sent_later_and_holds_up_no_other,
        a_mail_that_is_refused_for_good_is_parked_and_can_be_run_again,
        mails_that_have_become_pointless_are_skipped,
        r16_an_address_that_no_user_has_is_answered_alike,
        a_shop_without_a_mailer_sends_no_mails,
        a_token_verifies_an_address_once,
        r16_whoever_reads_the_mail_does_not_verify_the_address_of_another_login,
        r16_a_login_gets_neither_the_customer_nor_the_rights_of_somebody_else,
        of_many_that_use_a_token_at_once_one_succeeds,
        tokens_expire_and_are_replaced,
        what_changes_a_user_voids_its_tokens,
        a_new_address_must_be_verified,
        a_reset_sets_the_password_and_ends_all_sessions,
        no_token_is_in_an_event_or_a_job,
        a_verified_user_becomes_the_customer_with_its_address,
        a_verified_user_becomes_a_new_customer_if_its_name_is_known,
        r20_a_login_takes_over_the_cart_of_a_guest,
    ]
}

pub(super) const ADA: &str = "ada@example.com";
const PASSWORD: &str = "correct horse";
pub(super) const VERIFY: &str = "verify_email";
pub(super) const RESET: &str = "reset_password";

/// A shop that sends mails to a postbox, and its background work.
pub(super) struct Mailed {
    pub(super) shop: Shop,
    postbox: Arc<Postbox>,
    pub(super) background: Background,
}

fn process(f: &ShopFixture, postbox: &Arc<Postbox>) -> Shop {
    let config = ShopConfig::default().poll_interval(Duration::from_millis(10)).lease_ttl(LONG);
    let config = config.public_url("https://shop.example").shop_name("Tea Shop");
    let clock: SharedClock = f.clock.clone();
    let ids = Arc::new(UuidV7Source::new(clock.clone()));
    let (storage, search) = (f.storage.clone(), f.search.clone());
    Shop::new(ShopParts {
        secret_key: Some(super::SECRET_KEY),
        cache: f.cache(),
        mailing: Some(postbox.mailing()),
        clock,
        ids,
        config,
        ..ShopParts::new(storage, search)
    })
    .unwrap()
}

pub(super) fn mailed(f: &ShopFixture) -> Mailed {
    let postbox = Postbox::new();
    let shop = process(f, &postbox);
    let background = shop.start();
    Mailed { shop, postbox, background }
}

impl Mailed {
    pub(super) async fn register(&self, email: &str, name: Option<&str>) -> Tokens {
        let input = UserInput { name: name.map(str::to_owned), ..UserInput::new(email) }.password(PASSWORD);
        self.shop.auth().register(&input, None).await.unwrap()
    }

    /// Returns the token of a mail, once one has arrived that is not `before`.
    pub(super) async fn token(&self, to: &str, kind: &str, before: Option<&Secret>) -> Secret {
        let before = before.map(Secret::reveal);
        let found = || self.postbox.token(to, kind).filter(|token| Some(token.reveal()) != before);
        until(&format!("a mail of the kind {kind} to {to}"), async || found().is_some()).await;
        found().unwrap()
    }

    pub(super) async fn reset(&self, before: Option<&Secret>) -> Secret {
        self.shop.auth().request_password_reset(ADA).await.unwrap();
        self.token(ADA, RESET, before).await
    }

    /// Registers a user and verifies its address.
    pub(super) async fn verified(&self, email: &str, name: Option<&str>) -> UserAccount {
        self.register(email, name).await;
        let token = self.token(email, VERIFY, None).await;
        self.shop.auth().verify_email(Principal::system(), &token).await.unwrap()
    }

    /// Creates a customer's user with an address that nobody can register, and verifies the address.
    pub(super) async fn unlike(&self, email: &str, name: &str) -> UserAccount {
        let input = UserInput::new(email).name(name).role("customer");
        self.shop.users().create(&input).await.unwrap();
        self.shop.auth().request_verification(email).await.unwrap();
        let token = self.token(email, VERIFY, None).await;
        self.shop.auth().verify_email(Principal::system(), &token).await.unwrap()
    }

    async fn jobs(&self) -> Vec<Job> {
        let filter = JobFilter { kind: Some(JobKind::MAIL), state: None };
        self.shop.jobs().list(&filter, &Paging::first(1_000)).await.unwrap().0.items
    }

    /// Waits until so many mails have been sent, skipped or parked.
    async fn ended(&self, count: usize) -> Vec<Job> {
        until(&format!("{count} mails have ended"), async || {
            let jobs = self.jobs().await;
            jobs.len() == count && jobs.iter().all(|job| job.finished_at.is_some())
        })
        .await;
        self.jobs().await
    }
}

fn counters(name: &str) -> JobCounters {
    JobCounters::from([(name.to_owned(), 1)])
}

/// Checks that a token is refused, and with which field.
pub(super) fn is_void<T: std::fmt::Debug>(outcome: Result<T>, what: &str) {
    assert_eq!(fields(outcome, what).into_keys().collect::<Vec<_>>(), ["token"], "{what}");
}

/// Two processes share the mails.
pub async fn r13_a_user_that_registers_gets_one_mail(f: &ShopFixture) {
    let m = mailed(f);
    let other = process(f, &m.postbox);
    let running = other.start();
    let bad = UserInput::new(ADA).password(PASSWORD).name("Ada\r\nBcc: eve@example.com");
    let outcome = m.shop.auth().register(&bad, None).await;
    assert_eq!(fields(outcome, "a name of two lines").into_keys().collect::<Vec<_>>(), ["name"]);
    for n in 0..5 {
        m.register(&format!("user{n}@example.com"), Some("Ada")).await;
    }
    let jobs = m.ended(5).await;
    assert!(jobs.iter().all(|job| job.counters == counters("sent") && job.attempts == 1), "{jobs:#?}");
    let mails = m.postbox.mails();
    let mut to: Vec<_> = mails.iter().map(|mail| mail.to.to_string()).collect();
    to.sort();
    let expected: Vec<_> = (0..5).map(|n| format!("user{n}@example.com")).collect();
    assert_eq!(to, expected);
    for mail in &mails {
        assert_eq!((mail.subject.as_str(), mail.from.address()), (VERIFY, "shop@example.com"));
        assert!(mail.text.starts_with("https://shop.example/verify-email?token="), "{}", mail.text);
    }
    running.shutdown().await;
    m.background.shutdown().await;
    // The events were handled, so a new process sends nothing again.
    let last = process(f, &m.postbox);
    let running = last.start();
    m.shop.auth().request_verification("user0@example.com").await.unwrap();
    until("another mail", async || m.postbox.mails().len() > 5).await;
    running.shutdown().await;
    assert_eq!(m.postbox.mails().len(), 6);
}

/// The consumer dies after it has made the jobs, and before its position moves.
pub async fn r13_an_event_that_comes_again_makes_no_second_mail(f: &ShopFixture) {
    let postbox = Postbox::new();
    let shop = process(f, &postbox);
    for n in 0..3 {
        let input = UserInput::new(format!("user{n}@example.com")).password(PASSWORD);
        shop.auth().register(&input, None).await.unwrap();
    }
    let log: Vec<_> = shop.events().read(OutboxPosition { seq: 0 }, 1_000).await.unwrap().events;
    let consumer = Mails(shop.cx.clone());
    consumer.handle(&log).await.unwrap();
    let m = Mailed { background: shop.start(), shop: shop.clone(), postbox };
    m.ended(3).await;
    consumer.handle(&log).await.unwrap();
    m.register(ADA, None).await;
    m.token(ADA, VERIFY, None).await;
    assert_eq!((m.ended(4).await.len(), m.postbox.mails().len()), (4, 4));
    m.background.shutdown().await;
}

/// A commit that fails sends nothing, and one whose answer was lost does.
pub async fn r13_no_mail_is_sent_for_what_was_rolled_back(f: &ShopFixture) {
    let m = mailed(f);
    let (unsteady, storage) = f.unsteady();
    let register = async |email: &str| {
        let input = UserInput::new(email).password(PASSWORD);
        unsteady.auth().register(&input, None).await.map(drop)
    };
    // Makes the key of access tokens first, which is a write of its own.
    register("first@example.com").await.unwrap();
    storage.plan(&[Fault::CommitLost]);
    assert!(register("lost@example.com").await.unwrap_err().outcome_unknown());
    storage.plan(&[Fault::AnswerLost]);
    assert!(register("written@example.com").await.unwrap_err().outcome_unknown());
    m.ended(2).await;
    let to: Vec<_> = m.postbox.mails().iter().map(|mail| mail.to.address().to_owned()).collect();
    assert!(to.len() == 2 && !to.iter().any(|to| to == "lost@example.com"), "{to:?}");
    m.background.shutdown().await;
}

/// The first process hangs while it sends the mail, and is aborted.
pub async fn r13_a_mail_whose_sender_died_is_sent_by_the_next(f: &ShopFixture) {
    let postbox = Postbox::held(0);
    let first = process(f, &postbox);
    let dying = first.start();
    let input = UserInput::new(ADA).password(PASSWORD);
    first.auth().register(&input, None).await.unwrap();
    until("the first process sends the mail", async || postbox.tried() == 1).await;
    drop(dying);
    let m = mailed(f);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(m.postbox.mails().len(), 0, "the lease of the job has not run out");
    f.clock.advance(LONG + Duration::from_secs(1));
    let token = m.token(ADA, VERIFY, None).await;
    assert_eq!(m.ended(1).await[0].attempts, 2);
    m.shop.auth().verify_email(Principal::system(), &token).await.unwrap();
    m.background.shutdown().await;
}

/// A mail to one address fails for some time.
pub async fn a_mail_that_fails_is_sent_later_and_holds_up_no_other(f: &ShopFixture) {
    let m = mailed(f);
    m.postbox.refuse(ADA, false);
    m.register(ADA, None).await;
    until("the mail has failed", async || m.jobs().await.iter().any(|job| job.last_error.is_some())).await;
    for n in 0..5 {
        m.register(&format!("user{n}@example.com"), None).await;
    }
    until("the other mails", async || m.postbox.mails().len() == 5).await;
    let failed = m.jobs().await.into_iter().find(|job| job.last_error.is_some()).unwrap();
    assert_eq!((failed.state, failed.attempts), (JobState::Queued, 1));
    assert_eq!(failed.last_error.as_deref(), Some("the mail server is away"));
    f.clock.advance(Duration::from_secs(5));
    let has_failed_again = |job: &Job| job.attempts == 2 && job.state == JobState::Queued;
    until("it has failed again", async || m.jobs().await.iter().any(has_failed_again)).await;
    m.postbox.accept();
    f.clock.advance(Duration::from_secs(20));
    let token = m.token(ADA, VERIFY, None).await;
    m.shop.auth().verify_email(Principal::system(), &token).await.unwrap();
    let jobs = m.ended(6).await;
    assert!(jobs.iter().all(|job| job.state == JobState::Succeeded && job.last_error.is_none()), "{jobs:#?}");
    m.background.shutdown().await;
}

/// An operator sees the mail and runs it again.
pub async fn a_mail_that_is_refused_for_good_is_parked_and_can_be_run_again(f: &ShopFixture) {
    let m = mailed(f);
    m.postbox.refuse(ADA, true);
    m.register(ADA, None).await;
    let [parked] = &*m.ended(1).await else { panic!("one job") };
    assert_eq!((parked.state, parked.attempts), (JobState::Failed, 1));
    assert_eq!(parked.last_error.as_deref(), Some("the mail server refuses the mail (reply 550)"));
    m.postbox.accept();
    m.shop.jobs().retry(parked.id).await.unwrap();
    let token = m.token(ADA, VERIFY, None).await;
    assert_eq!(m.ended(1).await[0].counters, counters("sent"));
    m.shop.auth().verify_email(Principal::system(), &token).await.unwrap();
    // A mail that keeps failing is parked, too.
    m.postbox.refuse("bob@example.com", false);
    m.register("bob@example.com", None).await;
    until("the mail is parked", async || {
        let jobs = m.jobs().await;
        // The clock moves only while the mail waits, and no further than to its next run.
        let waits = jobs.iter().filter(|job| job.state == JobState::Queued).map(|job| job.run_after - f.clock.now());
        for pause in waits.filter_map(|pause| pause.to_std().ok()) {
            f.clock.advance(pause);
        }
        jobs.iter().any(|job| job.state == JobState::Failed)
    })
    .await;
    let jobs = m.jobs().await;
    let parked = jobs.iter().find(|job| job.state == JobState::Failed).unwrap();
    assert_eq!(parked.attempts, crate::service::platform::mail::MAX_ATTEMPTS);
    m.background.shutdown().await;
}

/// Mails that wait for the mailer while something happens to their users.
pub async fn mails_that_have_become_pointless_are_skipped(f: &ShopFixture) {
    let ttl = ShopConfig::default().password_reset_ttl;
    let mut skipped_before = 0;
    for case in ["blocked", "deleted", "purged", "erased", "verified", "password", "old"] {
        let m = mailed(f);
        let email = format!("{case}@example.com");
        let user = m.register(&email, Some("Ada Lovelace")).await.user;
        let token = m.token(&email, VERIFY, None).await;
        let before = m.ended(m.jobs().await.len()).await.len();
        m.background.shutdown().await;
        let auth = m.shop.auth();
        if case == "verified" {
            auth.request_verification(&email).await.unwrap();
        } else {
            auth.request_password_reset(&email).await.unwrap();
        }
        f.clock.advance(Duration::from_secs(1));
        let users = m.shop.users();
        let read = user.audit.version.into();
        match case {
            "blocked" => {
                let patch = UserPatch { blocked: Patch::Set(true), ..UserPatch::default() };
                users.patch(user.id, read, patch).await.unwrap();
            }
            "deleted" => users.delete(user.id, read, DeleteMode::Soft).await.unwrap(),
            "purged" => users.delete(user.id, read, DeleteMode::Force).await.unwrap(),
            "password" => {
                let patch = UserPatch { password: Patch::Set(Secret::new("battery staple")), ..UserPatch::default() };
                users.patch(user.id, read, patch).await.unwrap();
            }
            "verified" => drop(auth.verify_email(Principal::system(), &token).await.unwrap()),
            "erased" => {
                let verified = auth.verify_email(Principal::system(), &token).await.unwrap();
                m.shop.customers().erase(verified.customer_id.unwrap()).await.unwrap();
            }
            _ => f.clock.advance(ttl),
        }
        let again = Mailed { background: m.shop.start(), shop: m.shop.clone(), postbox: m.postbox.clone() };
        // A mail that is sent afterwards shows that the ones before were handled.
        let marker = format!("marker-{case}@example.com");
        again.register(&marker, None).await;
        again.token(&marker, VERIFY, None).await;
        // The request of a user that is gone, or an old one, leads to no job.
        let left = usize::from(!matches!(case, "deleted" | "purged" | "erased" | "old"));
        let jobs = again.ended(before + 1 + left).await;
        let skipped = jobs.iter().filter(|job| job.counters == counters("skipped")).count();
        assert_eq!(skipped - skipped_before, left, "{case}: {jobs:#?}");
        skipped_before = skipped;
        assert!(again.postbox.token(&email, RESET).is_none(), "{case}: {jobs:#?}");
        let verifications = again.postbox.mails().iter().filter(|mail| mail.to.address() == email).count();
        assert_eq!(verifications, 1, "{case}");
        again.background.shutdown().await;
    }
}

/// A request for an unknown address writes as much, and leads to no mail.
pub async fn r16_an_address_that_no_user_has_is_answered_alike(f: &ShopFixture) {
    let m = mailed(f);
    m.register(ADA, None).await;
    m.ended(1).await;
    for email in [ADA, "ADA@example.com", "nobody@example.com", "blocked@example.com"] {
        if email.starts_with("blocked") {
            let user = m.shop.users().create(&UserInput::new(email)).await.unwrap();
            let patch = UserPatch { blocked: Patch::Set(true), ..UserPatch::default() };
            m.shop.users().patch(user.id, user.audit.version.into(), patch).await.unwrap();
        }
        let head = f.head().await;
        m.shop.auth().request_password_reset(email).await.unwrap();
        let events = f.events_after(head).await;
        let asked: Vec<_> = events.iter().filter(|e| e.kind == EventKind::UserResetRequested).collect();
        assert_eq!(asked.len(), 1, "{email}: {events:#?}");
        assert_eq!((asked[0].data.clone(), asked[0].actor.as_str()), (Value::Null, "anonymous"));
    }
    for nonsense in ["", "nobody", "a\0b@example.com", &"x".repeat(100_000)] {
        m.shop.auth().request_password_reset(nonsense).await.unwrap();
        m.shop.auth().request_verification(nonsense).await.unwrap();
    }
    // The two of Ada are sent, the blocked user's is skipped, and nobody's has no job.
    let jobs = m.ended(4).await;
    assert_eq!(jobs.iter().filter(|job| job.counters == counters("skipped")).count(), 1, "{jobs:#?}");
    let to = m.postbox.mails();
    assert!(to.len() == 3 && to.iter().all(|mail| mail.to.address() == ADA), "{to:?}");
    m.background.shutdown().await;
}

/// Requests for mails fail clearly. Registrations go on, and their mails are sent once there is a mailer.
pub async fn a_shop_without_a_mailer_sends_no_mails(f: &ShopFixture) {
    let input = UserInput::new(ADA).password(PASSWORD);
    f.shop.auth().register(&input, None).await.unwrap();
    for asked in [f.shop.auth().request_verification(ADA).await, f.shop.auth().request_password_reset(ADA).await] {
        assert_eq!(code_of(asked, "a mail without a mailer"), ErrorCode::Unsupported);
    }
    let m = mailed(f);
    m.token(ADA, VERIFY, None).await;
    m.background.shutdown().await;
}

/// The address is verified at once, also in the eyes of other requests.
pub async fn a_token_verifies_an_address_once(f: &ShopFixture) {
    let m = mailed(f);
    let tokens = m.register(ADA, Some("Ada")).await;
    let token = m.token(ADA, VERIFY, None).await;
    let auth = m.shop.auth();
    is_void(auth.reset_password(&token, &Secret::new("battery staple")).await, "the token of another purpose");
    for wrong in ["", "x", tokens.refresh.reveal(), &token.reveal()[1..], &format!("{}A", token.reveal())] {
        is_void(auth.verify_email(Principal::system(), &Secret::new(wrong)).await, wrong);
    }
    let head = f.head().await;
    let verified = auth.verify_email(Principal::system(), &token).await.unwrap();
    assert!(verified.email_verified_at.is_some() && verified.id == tokens.user.id, "{verified:?}");
    assert_eq!(verified.audit.version, tokens.user.audit.version + 1);
    let kinds: Vec<_> = f.events_after(head).await.iter().map(|e| (e.kind, e.actor.clone())).collect();
    assert_eq!(kinds, [(EventKind::UserUpdated, verified.audit.updated_by.clone())]);
    is_void(auth.verify_email(Principal::system(), &token).await, "the second time");
    let who = auth.authenticate(&tokens.access).await.unwrap();
    assert_eq!(auth.me(&who).await.unwrap(), verified);
    m.background.shutdown().await;
}

/// Somebody who registers the address of somebody else does not get the customer of the owner, who follows the link of
/// the mail: the token counts only for the user itself, who knows the password.
pub async fn r16_whoever_reads_the_mail_does_not_verify_the_address_of_another_login(f: &ShopFixture) {
    let m = mailed(f);
    let ada = m.shop.customers().create(&CustomerInput::new("Ada", "Lovelace", ADA)).await.unwrap();
    let tokens = m.register(ADA, Some("Eve Evil")).await;
    let other = m.register("bob@example.com", Some("Bob")).await;
    let token = m.token(ADA, VERIFY, None).await;
    let auth = m.shop.auth();
    let anonymous = auth.verify_email(&Principal::anonymous([]), &token).await;
    assert_eq!(code_of(anonymous, "without a login"), ErrorCode::Unauthenticated);
    let bob = auth.authenticate(&other.access).await.unwrap();
    is_void(auth.verify_email(&bob, &token).await, "of another user");
    assert_eq!(auth.me(&auth.authenticate(&tokens.access).await.unwrap()).await.unwrap().email_verified_at, None);
    // The owner resets the password instead, which ends the sessions of the other.
    let reset = m.reset(None).await;
    auth.reset_password(&reset, &Secret::new("battery staple")).await.unwrap();
    assert_eq!(code_of(auth.authenticate(&tokens.access).await, "a session"), ErrorCode::Unauthenticated);
    let mine = auth.login(ADA, &Secret::new("battery staple"), None).await.unwrap();
    assert_eq!(mine.user.customer_id, Some(ada.id));
    m.background.shutdown().await;
}

/// Nobody registers an address that looks like that of somebody else, or gives rights to a login that has registered
/// itself. Staff may create a user with such an address, which belongs to another person than the one that it looks
/// like.
pub async fn r16_a_login_gets_neither_the_customer_nor_the_rights_of_somebody_else(f: &ShopFixture) {
    let m = mailed(f);
    m.shop.customers().create(&CustomerInput::new("Bob", "Strasse", "bob@strasse.de")).await.unwrap();
    let (auth, users) = (m.shop.auth(), m.shop.users());
    let before = f.head().await;
    for alike in ["bob@stra\u{df}e.de", "\u{ff22}ob@strasse.de", " bo\u{1d482}@strasse.de"] {
        let refused = auth.register(&UserInput::new(alike).password(PASSWORD), None).await;
        assert_eq!(fields(refused, alike).into_keys().collect::<Vec<_>>(), ["email"], "{alike}");
    }
    assert_eq!(f.head().await, before);
    let bob = m.register(" BOB@strasse.de", None).await.user;
    let staff = || UserPatch { roles: Patch::Set(vec!["staff".to_owned()]), ..UserPatch::default() };
    let granted = users.patch(bob.id, bob.audit.version.into(), staff()).await;
    assert_eq!(code_of(granted, "a role of an unknown user"), ErrorCode::StateConflict);
    let token = m.token("BOB@strasse.de", VERIFY, None).await;
    let bob = auth.verify_email(Principal::system(), &token).await.unwrap();
    assert!(bob.customer_id.is_some());
    users.delete(bob.id, bob.audit.version.into(), DeleteMode::Force).await.unwrap();

    let eve = m.unlike("bob@stra\u{df}e.de", "Eve Evil").await;
    assert_eq!(eve.customer_id, None);
    users.patch(eve.id, eve.audit.version.into(), staff()).await.unwrap();
    m.background.shutdown().await;
}

/// Fifty requests use a token at once, in two processes.
pub async fn of_many_that_use_a_token_at_once_one_succeeds(f: &ShopFixture) {
    let m = mailed(f);
    let other = process(f, &m.postbox);
    m.register(ADA, Some("Ada Lovelace")).await;
    let token = m.token(ADA, VERIFY, None).await;
    let shop = |n: usize| if n.is_multiple_of(2) { &m.shop } else { &other };
    let uses = join_all((0..50).map(|n| {
        let (shop, token) = (shop(n), token.clone());
        async move { shop.auth().verify_email(Principal::system(), &token).await }
    }));
    let (won, lost): (Vec<_>, Vec<_>) = uses.await.into_iter().partition(Result::is_ok);
    assert_eq!((won.len(), lost.len()), (1, 49));
    for lost in lost {
        is_void(lost, "another one was first");
    }
    let all = CustomerFilter::default();
    let customers = m.shop.customers().list(&all, CustomerSort::NameAsc, &Paging::first(9)).await.unwrap().0.items;
    assert_eq!(customers.len(), 1, "one customer was created: {customers:#?}");

    let token = m.reset(None).await;
    let uses = join_all((0..50).map(|n| {
        let (shop, token) = (shop(n), token.clone());
        async move { (n, shop.auth().reset_password(&token, &Secret::new(format!("battery staple {n}"))).await) }
    }));
    let mut won = Vec::new();
    for (n, outcome) in uses.await {
        match outcome {
            Ok(()) => won.push(n),
            // The queue of hashes is bounded.
            Err(refused) if refused.code() == ErrorCode::Unavailable => {}
            Err(refused) => is_void(Err::<(), _>(refused), "another one was first"),
        }
    }
    let [winner] = &*won else { panic!("one password was set: {won:?}") };
    for n in [*winner, (winner + 1) % 50] {
        let login = m.shop.auth().login(ADA, &Secret::new(format!("battery staple {n}")), None).await;
        assert_eq!(login.is_ok(), n == *winner);
    }
    m.background.shutdown().await;
}

/// A token is valid for as long as the settings say, and only the newest one of its kind.
pub async fn tokens_expire_and_are_replaced(f: &ShopFixture) {
    let m = mailed(f);
    m.register(ADA, None).await;
    let first = m.token(ADA, VERIFY, None).await;
    m.shop.auth().request_verification(ADA).await.unwrap();
    let second = m.token(ADA, VERIFY, Some(&first)).await;
    is_void(m.shop.auth().verify_email(Principal::system(), &first).await, "a token that was replaced");
    let reset = m.reset(None).await;
    let config = ShopConfig::default();
    let reset_ttl = config.one_time_ttl(OneTimePurpose::ResetPassword);
    f.clock.advance(reset_ttl);
    let outcome = m.shop.auth().reset_password(&reset, &Secret::new("battery staple")).await;
    is_void(outcome, "a token that has expired");
    let left = config.one_time_ttl(OneTimePurpose::VerifyEmail).saturating_sub(reset_ttl + Duration::from_secs(1));
    f.clock.advance(left);
    m.shop.auth().verify_email(Principal::system(), &second).await.unwrap();
    m.background.shutdown().await;
}

/// Tokens that were sent before a user was changed are void.
pub async fn what_changes_a_user_voids_its_tokens(f: &ShopFixture) {
    for case in ["password", "changed password", "blocked", "deleted", "email"] {
        let m = mailed(f);
        let tokens = m.register(ADA, None).await;
        let verification = m.token(ADA, VERIFY, None).await;
        let reset = m.reset(None).await;
        let (user, users) = (tokens.user, m.shop.users());
        let patch = match case {
            "password" => UserPatch { password: Patch::Set(Secret::new("battery staple")), ..UserPatch::default() },
            "blocked" => UserPatch { blocked: Patch::Set(true), ..UserPatch::default() },
            "email" => UserPatch { email: Patch::Set("b@example.com".to_owned()), ..UserPatch::default() },
            _ => UserPatch::default(),
        };
        if case == "changed password" {
            let who = m.shop.auth().authenticate(&tokens.access).await.unwrap();
            let (old, new) = (Secret::new(PASSWORD), Secret::new("battery staple"));
            m.shop.auth().change_password(&who, &old, &new).await.unwrap();
        } else if case == "deleted" {
            users.delete(user.id, user.audit.version.into(), DeleteMode::Soft).await.unwrap();
        } else {
            users.patch(user.id, user.audit.version.into(), patch).await.unwrap();
        }
        is_void(m.shop.auth().verify_email(Principal::system(), &verification).await, case);
        is_void(m.shop.auth().reset_password(&reset, &Secret::new("another one")).await, case);
        let left = m.shop.users().get(user.id, IncludeDeleted::Yes).await.unwrap();
        assert_eq!(left.email_verified_at, None, "{case}");
        if left.audit.is_live() {
            users.delete(user.id, left.audit.version.into(), DeleteMode::Force).await.unwrap();
        }
        m.background.shutdown().await;
    }
}

/// The mail goes to the new address.
pub async fn a_new_address_must_be_verified(f: &ShopFixture) {
    let m = mailed(f);
    let user = m.verified(ADA, None).await;
    let patch = UserPatch { email: Patch::Set("countess@example.com".to_owned()), ..UserPatch::default() };
    let moved = m.shop.users().patch(user.id, user.audit.version.into(), patch).await.unwrap();
    assert_eq!(moved.email_verified_at, None);
    let token = m.token("countess@example.com", VERIFY, None).await;
    assert!(m.shop.auth().verify_email(Principal::system(), &token).await.unwrap().email_verified_at.is_some());
    // An edit that keeps the address sends nothing.
    let sent = m.postbox.mails().len();
    let user = m.shop.users().get(user.id, IncludeDeleted::No).await.unwrap();
    let patch = UserPatch { name: Patch::Set("Ada".to_owned()), ..UserPatch::default() };
    let user = m.shop.users().patch(user.id, user.audit.version.into(), patch).await.unwrap();
    assert!(user.email_verified_at.is_some());
    m.shop.auth().request_password_reset("countess@example.com").await.unwrap();
    m.token("countess@example.com", RESET, None).await;
    assert_eq!(m.postbox.mails().len(), sent + 1);
    m.background.shutdown().await;
}

/// The mail also proves that the address is the user's own.
pub async fn a_reset_sets_the_password_and_ends_all_sessions(f: &ShopFixture) {
    let m = mailed(f);
    let tokens = m.register(ADA, Some("Ada Lovelace")).await;
    let verification = m.token(ADA, VERIFY, None).await;
    let token = m.reset(None).await;
    let auth = m.shop.auth();
    for _ in 0..6 {
        let _ = auth.login(ADA, &Secret::new("forgotten"), None).await;
    }
    let outcome = auth.reset_password(&token, &Secret::new("short")).await;
    assert_eq!(fields(outcome, "a bad password").into_keys().collect::<Vec<_>>(), ["password"]);
    auth.reset_password(&token, &Secret::new("battery staple")).await.unwrap();
    is_void(auth.reset_password(&token, &Secret::new("battery staple")).await, "the second time");
    is_void(auth.verify_email(Principal::system(), &verification).await, "another token of the user");
    assert_eq!(code_of(auth.authenticate(&tokens.access).await, "a session"), ErrorCode::Unauthenticated);
    assert_eq!(code_of(auth.refresh(&tokens.refresh).await, "a session"), ErrorCode::Unauthenticated);
    // Failed logins before do not count any more.
    let user = auth.login(ADA, &Secret::new("battery staple"), None).await.unwrap().user;
    assert!(user.email_verified_at.is_some() && user.customer_id.is_some(), "{user:?}");
    // A user without a password can set its first one.
    m.shop.users().create(&UserInput::new("clerk@example.com").role("staff")).await.unwrap();
    auth.request_password_reset("clerk@example.com").await.unwrap();
    let token = m.token("clerk@example.com", RESET, None).await;
    auth.reset_password(&token, &Secret::new("battery staple")).await.unwrap();
    auth.login("clerk@example.com", &Secret::new("battery staple"), None).await.unwrap();
    m.background.shutdown().await;
}

/// The token is only in the mail.
pub async fn no_token_is_in_an_event_or_a_job(f: &ShopFixture) {
    let m = mailed(f);
    m.register(ADA, Some("Ada Lovelace")).await;
    let tokens = [m.token(ADA, VERIFY, None).await, m.reset(None).await];
    let jobs = m.ended(2).await;
    let seen = format!("{:?} {jobs:?}", f.log().await);
    for token in &tokens {
        assert!(!seen.contains(token.reveal()), "{seen}");
    }
    // Not "ada" alone: the hexadecimal digits of an id can spell it.
    for text in ["lovelace", "example.com"] {
        assert!(!seen.to_lowercase().contains(text), "neither names nor addresses: {seen}");
    }
    m.background.shutdown().await;
}

async fn customer(f: &ShopFixture, email: &str) -> Customer {
    let input = CustomerInput::new("Augusta", "King", email);
    f.shop.acting_as(me()).customers().create(&input).await.unwrap()
}

/// Nobody becomes a customer by registering the customer's address.
pub async fn a_verified_user_becomes_the_customer_with_its_address(f: &ShopFixture) {
    let m = mailed(f);
    let augusta = customer(f, "Ada@Example.com").await;
    let tokens = m.register(ADA, Some("Ada Lovelace")).await;
    assert_eq!(tokens.user.customer_id, None);
    let token = m.token(ADA, VERIFY, None).await;
    let who = m.shop.auth().authenticate(&tokens.access).await.unwrap();
    assert_eq!(who.customer(), None);
    assert_eq!(m.shop.auth().verify_email(Principal::system(), &token).await.unwrap().customer_id, Some(augusta.id));
    // The session that began before is that of the customer now.
    let who = m.shop.auth().authenticate(&tokens.access).await.unwrap();
    assert_eq!(who.customer(), Some(augusta.id));
    let read = m.shop.customers().get(augusta.id, IncludeDeleted::No).await.unwrap();
    assert_eq!(read, augusta, "the customer stays as it is");

    // A customer that another user is.
    let others = customer(f, "taken@example.com").await;
    let other = UserInput::new("other@example.com");
    m.shop.users().create(&UserInput { customer_id: Some(others.id), ..other }).await.unwrap();
    assert_eq!(m.verified("taken@example.com", Some("Ada Lovelace")).await.customer_id, None);
    // A user that is another customer stays that one.
    let own = customer(f, "own@example.com").await;
    customer(f, "clerk@example.com").await;
    let clerk = UserInput { customer_id: Some(own.id), ..UserInput::new("clerk@example.com") };
    m.shop.users().create(&clerk).await.unwrap();
    m.shop.auth().request_verification("clerk@example.com").await.unwrap();
    let token = m.token("clerk@example.com", VERIFY, None).await;
    assert_eq!(m.shop.auth().verify_email(Principal::system(), &token).await.unwrap().customer_id, Some(own.id));
    // The customer has another address by the time of the verification.
    let moved = customer(f, "moved@example.com").await;
    m.register("moved@example.com", None).await;
    let token = m.token("moved@example.com", VERIFY, None).await;
    let patch = CustomerPatch { email: Patch::Set("elsewhere@example.com".to_owned()), ..CustomerPatch::default() };
    m.shop.customers().patch(moved.id, moved.audit.version.into(), patch).await.unwrap();
    assert_eq!(m.shop.auth().verify_email(Principal::system(), &token).await.unwrap().customer_id, None);
    m.background.shutdown().await;
}

/// The last word of a name is the last name.
pub async fn a_verified_user_becomes_a_new_customer_if_its_name_is_known(f: &ShopFixture) {
    let m = mailed(f);
    let ada = m.verified(ADA, Some("Augusta Ada  Lovelace")).await;
    let made = m.shop.customers().get(ada.customer_id.unwrap(), IncludeDeleted::No).await.unwrap();
    assert_eq!((made.first_name.as_str(), made.last_name.as_str(), &*made.email), ("Augusta Ada", "Lovelace", ADA));
    assert_eq!(made.audit.created_by, ada.audit.updated_by);
    for (email, name) in [("none@example.com", None), ("one@example.com", Some("Ada"))] {
        assert_eq!(m.verified(email, name).await.customer_id, None, "{email}");
    }
    let long = format!("{} Lovelace", "x".repeat(150));
    assert_eq!(m.verified("long@example.com", Some(&long)).await.customer_id, None, "a name too long for a customer");
    // An employee who verifies its address does not become a customer.
    let clerk = UserInput::new("clerk@example.com").name("Charles Babbage").role("staff");
    m.shop.users().create(&clerk).await.unwrap();
    m.shop.auth().request_verification("clerk@example.com").await.unwrap();
    let token = m.token("clerk@example.com", VERIFY, None).await;
    assert_eq!(m.shop.auth().verify_email(Principal::system(), &token).await.unwrap().customer_id, None);
    m.background.shutdown().await;
}

/// The guest's lines are in the cart of the customer afterwards.
pub async fn r20_a_login_takes_over_the_cart_of_a_guest(f: &ShopFixture) {
    let m = mailed(f);
    let pen = f.product(json!({ "title": "Pen", "price": "2.00", "stock": 10 })).await;
    let guest = async |quantity: i64| {
        let line = CartLineInput::new(pen.skus[0].id, quantity, pen.skus[0].final_price(pen.discount));
        let anyone = Principal::new("anonymous", []);
        m.shop.acting_as(&anyone).carts().create(&CartInput::default().line(line)).await.unwrap()
    };
    let auth = m.shop.auth();
    let unverified = m.register(ADA, Some("Ada Lovelace")).await.user;
    let first = guest(2).await;
    let (cart, token) = (first.cart.cart.id, first.token.unwrap());
    let refused = conflict(auth.adopt_cart(&unverified, cart, &token).await, "a user that is no customer");
    assert!(matches!(refused, Conflict::State { .. }), "{refused:?}");
    let verification = m.token(ADA, VERIFY, None).await;
    let ada = auth.verify_email(Principal::system(), &verification).await.unwrap();
    let wrong = auth.adopt_cart(&ada, cart, &CartToken::new("wrong")).await;
    assert_eq!(code_of(wrong, "a wrong token"), ErrorCode::NotFound);
    let own = auth.adopt_cart(&ada, cart, &token).await.unwrap();
    assert_eq!((own.cart.id, own.cart.customer_id), (cart, ada.customer_id));
    // The second cart is merged into the first one: the greater quantity stays.
    let second = guest(3).await;
    let (other, token) = (second.cart.cart.id, second.token.unwrap());
    for _ in 0..2 {
        let own = auth.adopt_cart(&ada, other, &token).await.unwrap();
        assert_eq!((own.cart.id, own.cart.lines[0].quantity, own.cart.lines.len()), (cart, 3, 1));
    }
    let cleared = m.shop.carts().clear(other, &CartAccess::Permission, ExpectedVersion::Unspecified).await;
    let conflicts = conflict(cleared, "a cart that was merged");
    assert!(matches!(conflicts, Conflict::Sales(SalesConflict::CartMerged { .. })), "{conflicts:?}");
    m.background.shutdown().await;
}
