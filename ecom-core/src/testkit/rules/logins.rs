//! Logins: passwords, sessions and their tokens, API keys, and how soon a change of them counts.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::pin::pin;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures::future::join_all;
use ring::hmac;
use ring::signature::Ed25519KeyPair;
use serde_json::{Value, json};

use super::ShopFixture;
use super::support::{fields, until, v};
use crate::clock::Clock as _;
use crate::config::ShopConfig;
use crate::domain::access::api_key::{ApiKey, ApiKeyInput, ApiKeyPatch};
use crate::domain::access::principal::{Permission, Principal};
use crate::domain::access::role::{BuiltInRole, Role, RoleInput, RolePatch};
use crate::domain::access::secret::Secret;
use crate::domain::access::session::{LoginFailures, Session};
use crate::domain::access::user::{UserAccount, UserInput, UserPatch};
use crate::domain::common::{DeleteMode, ExpectedVersion, IncludeDeleted, Patch};
use crate::domain::platform::setting::SettingName;
use crate::domain::sales::customer::CustomerInput;
use crate::error::{Error, ErrorCode, Result};
use crate::port::cache::CacheKey;
use crate::service::access::auth::Tokens;
use crate::service::access::crypto;
use crate::service::access::role::Roles;
use crate::service::access::token::{self, TokenAlgorithm};
use crate::shop::{Shop, ShopParts};

tests! {
    __shop_logins: [
        a_login_makes_a_principal_with_the_permissions_of_its_roles,
        r16_a_wrong_password_and_an_unknown_user_are_refused_alike,
        r16_a_login_of_nobody_waits_for_a_hash_too,
        failed_logins_have_to_wait,
        of_many_guesses_at_once_few_are_tried,
        a_refresh_token_is_exchanged_once,
        of_many_exchanges_at_once_one_succeeds_and_the_session_ends,
        a_logout_ends_both_tokens,
        r15_what_ends_a_session_counts_at_once_and_soon_in_other_processes,
        a_changed_role_counts_at_once,
        a_changed_password_ends_the_other_sessions,
        registered_users_are_customers,
        tokens_of_other_shops_and_kinds_are_refused,
        forged_tokens_are_refused_even_with_the_key_of_the_shop,
        signing_keys_rotate_and_old_tokens_stay_valid,
        r15_replaced_keys_end_their_tokens_at_once_and_soon_in_other_processes,
        a_new_key_is_known_at_once_and_made_up_ones_cost_no_reads,
        without_a_secret_key_each_process_has_keys_of_its_own,
        an_api_key_authenticates_until_it_ends,
        r16_an_api_key_that_expires_makes_none_that_outlives_it,
        nobody_grants_what_they_lack,
        built_in_roles_stay_as_they_are,
        a_role_that_a_user_has_stays,
        a_deleted_user_cannot_log_in,
        the_oldest_of_too_many_sessions_ends,
        r15_a_token_that_is_remembered_counts_until_it_is_revoked,
    ]
}

const EMAIL: &str = "Ada@Example.com";
const PASSWORD: &str = "correct horse";

async fn user(f: &ShopFixture, roles: &[&str]) -> UserAccount {
    let roles = roles.iter().map(|role| (*role).to_owned()).collect();
    let input = UserInput { roles, ..UserInput::new(EMAIL) }.password(PASSWORD);
    f.shop.users().create(&input).await.unwrap()
}

async fn login(shop: &Shop) -> Result<Tokens> {
    shop.auth().login(" ada@example.COM", &Secret::new(PASSWORD), Some("test")).await
}

async fn is_accepted(shop: &Shop, token: &Secret) -> bool {
    match shop.auth().authenticate(token).await {
        Ok(_) => true,
        Err(Error::Unauthenticated) => false,
        Err(other) => panic!("{other:?}"),
    }
}

/// Returns the names of the fields that an outcome refuses, sorted.
fn named<T: std::fmt::Debug>(outcome: Result<T>) -> Vec<String> {
    fields(outcome, "a login").into_keys().collect()
}

fn is_code<T: std::fmt::Debug>(outcome: Result<T>, code: ErrorCode) {
    assert_eq!(outcome.unwrap_err().code(), code);
}

/// Returns a shop of another process, which polls often.
fn other_process(f: &ShopFixture) -> Shop {
    f.another(ShopConfig::default().poll_interval(Duration::from_millis(10)), f.cache())
}

/// A login leads to a principal that has what the roles of the user grant, until the token expires.
pub async fn a_login_makes_a_principal_with_the_permissions_of_its_roles(f: &ShopFixture) {
    let input = RoleInput::new("warehouse", [Permission::StockAdjust]).description("moves boxes");
    f.shop.roles().create(&input).await.unwrap();
    let ada = user(f, &["warehouse", "staff"]).await;
    assert_eq!(ada.roles, ["staff", "warehouse"]);
    let tokens = login(&f.shop).await.unwrap();
    assert_eq!(tokens.user, ada);
    assert_eq!(tokens.access_expires_at, f.clock.now() + Duration::from_secs(15 * 60));
    assert_eq!(tokens.refresh_expires_at, f.clock.now() + Duration::from_secs(7 * 86_400));
    for _ in 0..2 {
        let who = f.shop.auth().authenticate(&tokens.access).await.unwrap();
        assert_eq!(who.actor().as_str(), format!("user:{}", ada.id));
        assert_eq!(who.login().map(|login| login.user), Some(ada.id));
        let mut granted = BuiltInRole::Staff.permissions();
        granted.insert(Permission::StockAdjust);
        let may: BTreeSet<Permission> = Permission::ALL.iter().copied().filter(|p| who.may(*p)).collect();
        assert_eq!(may, granted);
        assert_eq!(f.shop.auth().me(&who).await.unwrap(), ada);
    }
    let sessions = f.shop.users().sessions(ada.id).await.unwrap();
    assert!(matches!(&*sessions, [Session { user_agent: Some(agent), .. }] if agent == "test"), "{sessions:?}");
    // The token has expired.
    f.clock.advance(Duration::from_secs(15 * 60));
    assert!(!is_accepted(&f.shop, &tokens.access).await);
}

/// The errors do not tell which email addresses have users.
pub async fn r16_a_wrong_password_and_an_unknown_user_are_refused_alike(f: &ShopFixture) {
    user(f, &[]).await;
    let without = UserInput::new("machine@example.com");
    f.shop.users().create(&without).await.unwrap();
    let mut messages = BTreeSet::new();
    for (email, password) in [
        (EMAIL, "wrong"),
        (EMAIL, ""),
        ("nobody@example.com", PASSWORD),
        ("machine@example.com", ""),
        ("", ""),
        ("no address", PASSWORD),
        ("ada\0@example.com", PASSWORD),
    ] {
        let refused = f.shop.auth().login(email, &Secret::new(password), None).await.unwrap_err();
        assert_eq!(refused.code(), ErrorCode::InvalidCredentials, "{email}");
        messages.insert(refused.to_string());
    }
    assert_eq!(messages.len(), 1, "{messages:?}");
    is_code(f.shop.auth().login(&"x".repeat(100_000), &Secret::new("y"), None).await, ErrorCode::InvalidCredentials);
}

/// The time of a refusal does not tell which email addresses have users: each of them needs a hash.
pub async fn r16_a_login_of_nobody_waits_for_a_hash_too(f: &ShopFixture) {
    user(f, &[]).await;
    let without = UserInput::new("machine@example.com");
    f.shop.users().create(&without).await.unwrap();
    let shop = f.another(ShopConfig::default().password_hashes(NonZeroUsize::MIN), f.cache());
    for email in [EMAIL, "machine@example.com", "nobody@example.com", "no address"] {
        let release = shop.cx.passwords.occupy().await;
        let (auth, wrong) = (shop.auth(), Secret::new("wrong"));
        let mut login = pin!(auth.login(email, &wrong, None));
        let waited = tokio::time::timeout(Duration::from_millis(300), login.as_mut()).await;
        assert!(waited.is_err(), "{email}: nothing was hashed, but the login returns {waited:?}");
        drop(release);
        is_code(login.await, ErrorCode::InvalidCredentials);
    }
}

/// After five failures, each further attempt waits twice as long.
pub async fn failed_logins_have_to_wait(f: &ShopFixture) {
    user(f, &[]).await;
    // An unknown address behaves the same, so that callers cannot tell the two apart.
    for email in ["ADA@example.com", "nobody@example.com"] {
        let wrong = || async { f.shop.auth().login(email, &Secret::new("wrong"), None).await.unwrap_err() };
        for _ in 0..LoginFailures::FREE {
            assert_eq!(wrong().await.code(), ErrorCode::InvalidCredentials);
        }
        for seconds in [2, 4, 8] {
            let Error::RateLimited { retry_after } = wrong().await else { panic!("must wait") };
            assert_eq!(retry_after, Duration::from_secs(seconds));
            f.clock.advance(retry_after);
            assert_eq!(wrong().await.code(), ErrorCode::InvalidCredentials);
        }
    }
    // The right password has to wait too, and then it starts the count anew.
    is_code(login(&f.shop).await, ErrorCode::RateLimited);
    f.clock.advance(Duration::from_secs(60));
    login(&f.shop).await.unwrap();
    is_code(f.shop.auth().login(EMAIL, &Secret::new("wrong"), None).await, ErrorCode::InvalidCredentials);
    login(&f.shop).await.unwrap();
}

/// Of 30 guesses at once, in two processes, no more are tried than one after another.
pub async fn of_many_guesses_at_once_few_are_tried(f: &ShopFixture) {
    user(f, &[]).await;
    let other = other_process(f);
    let guess = |n: usize| {
        let shop = if n.is_multiple_of(2) { &f.shop } else { &other };
        async move { shop.auth().login(EMAIL, &Secret::new(format!("wrong {n}")), None).await.unwrap_err().code() }
    };
    let refusals = join_all((0..30).map(guess)).await;
    let tried = refusals.iter().filter(|code| **code == ErrorCode::InvalidCredentials).count();
    let waiting = refusals.iter().filter(|code| **code == ErrorCode::RateLimited).count();
    assert_eq!((tried, waiting), (LoginFailures::FREE as usize, 25), "{refusals:?}");
}

/// Returns a refresh token that names the same session, and that nobody has issued.
fn of_another_family(token: &Secret) -> Secret {
    let mut forged = token.reveal().to_owned();
    let changed = if forged.as_bytes()[30] == b'A' { "B" } else { "A" };
    forged.replace_range(30..31, changed);
    Secret::new(forged)
}

/// A refresh token that is used again ends its session, and only that one.
pub async fn a_refresh_token_is_exchanged_once(f: &ShopFixture) {
    user(f, &[]).await;
    let first = login(&f.shop).await.unwrap();
    f.clock.advance(Duration::from_secs(6 * 86_400));
    let second = f.shop.auth().refresh(&first.refresh).await.unwrap();
    assert_ne!(second.refresh.reveal(), first.refresh.reveal());
    assert!(is_accepted(&f.shop, &second.access).await);
    f.clock.advance(Duration::from_secs(6 * 86_400));
    let third = f.shop.auth().refresh(&second.refresh).await.unwrap();
    let bystander = login(&f.shop).await.unwrap();
    // The first one was exchanged, so the whole family is void.
    is_code(f.shop.auth().refresh(&first.refresh).await, ErrorCode::Unauthenticated);
    assert!(!is_accepted(&f.shop, &third.access).await);
    is_code(f.shop.auth().refresh(&third.refresh).await, ErrorCode::Unauthenticated);
    // Another session of the same user goes on.
    assert!(is_accepted(&f.shop, &bystander.access).await);
    // A token that nobody has issued ends no session, even if it names one.
    let forged = of_another_family(&bystander.refresh);
    for other in [forged.reveal(), "", "x", "ecom_x", &"A".repeat(64)] {
        is_code(f.shop.auth().refresh(&Secret::new(other)).await, ErrorCode::Unauthenticated);
    }
    let next = f.shop.auth().refresh(&bystander.refresh).await.unwrap();
    f.clock.advance(Duration::from_secs(7 * 86_400));
    is_code(f.shop.auth().refresh(&next.refresh).await, ErrorCode::Unauthenticated);
}

/// Of 50 exchanges of one token at once, one succeeds, and the others end the session.
pub async fn of_many_exchanges_at_once_one_succeeds_and_the_session_ends(f: &ShopFixture) {
    let ada = user(f, &[]).await;
    let tokens = login(&f.shop).await.unwrap();
    let exchanges = (0..50).map(|_| async { f.shop.auth().refresh(&tokens.refresh).await });
    let (won, refused): (Vec<_>, Vec<_>) = join_all(exchanges).await.into_iter().partition(Result::is_ok);
    assert_eq!((won.len(), refused.len()), (1, 49));
    for refusal in refused {
        is_code(refusal, ErrorCode::Unauthenticated);
    }
    for won in won {
        // The family is void.
        assert!(!is_accepted(&f.shop, &won.unwrap().access).await);
    }
    assert_eq!(f.shop.users().sessions(ada.id).await.unwrap(), []);
}

/// After a logout, neither the access token nor the refresh token is accepted.
pub async fn a_logout_ends_both_tokens(f: &ShopFixture) {
    user(f, &[]).await;
    let tokens = login(&f.shop).await.unwrap();
    let who = f.shop.auth().authenticate(&tokens.access).await.unwrap();
    for _ in 0..2 {
        f.shop.auth().logout(&who).await.unwrap();
        assert!(!is_accepted(&f.shop, &tokens.access).await);
        is_code(f.shop.auth().refresh(&tokens.refresh).await, ErrorCode::Unauthenticated);
    }
    let tokens = login(&f.shop).await.unwrap();
    // Whoever knows the id of a session alone does not end it.
    for other in [Secret::new("nonsense"), of_another_family(&tokens.refresh)] {
        f.shop.auth().logout_by_refresh(&other).await.unwrap();
        assert!(is_accepted(&f.shop, &tokens.access).await);
    }
    f.shop.auth().logout_by_refresh(&tokens.refresh).await.unwrap();
    assert!(!is_accepted(&f.shop, &tokens.access).await);
    is_code(f.shop.auth().logout(Principal::system()).await, ErrorCode::Unauthenticated);
}

/// Blocking a user, a new password, the end of its sessions and its deletion count in this process at once, and in
/// another one within its poll interval.
pub async fn r15_what_ends_a_session_counts_at_once_and_soon_in_other_processes(f: &ShopFixture) {
    let other = other_process(f);
    let background = other.start();
    let mut ada = user(f, &["staff"]).await;
    for end in ["block", "password", "sessions", "delete"] {
        let tokens = login(&f.shop).await.unwrap();
        assert!(is_accepted(&f.shop, &tokens.access).await && is_accepted(&other, &tokens.access).await);
        let read = ExpectedVersion::Exact(ada.audit.version);
        let users = f.shop.users();
        match end {
            "block" => {
                let patch = UserPatch { blocked: Patch::Set(true), ..UserPatch::default() };
                ada = users.patch(ada.id, read, patch).await.unwrap();
                is_code(login(&f.shop).await, ErrorCode::InvalidCredentials);
            }
            "password" => {
                let patch = UserPatch { password: Patch::Set(Secret::new(PASSWORD)), ..UserPatch::default() };
                ada = users.patch(ada.id, read, patch).await.unwrap();
            }
            "sessions" => assert_eq!(users.end_sessions(ada.id).await.unwrap(), 1),
            _ => users.delete(ada.id, read, DeleteMode::Force).await.unwrap(),
        }
        assert!(!is_accepted(&f.shop, &tokens.access).await, "{end}");
        is_code(f.shop.auth().refresh(&tokens.refresh).await, ErrorCode::Unauthenticated);
        until("the other process", async || !is_accepted(&other, &tokens.access).await).await;
        if end == "block" {
            let patch = UserPatch { blocked: Patch::Clear, ..UserPatch::default() };
            ada = f.shop.users().patch(ada.id, ada.audit.version.into(), patch).await.unwrap();
            assert!(!is_accepted(&f.shop, &tokens.access).await, "an ended session stays so");
        }
    }
    background.shutdown().await;
}

/// A session has the permissions that its roles grant now.
pub async fn a_changed_role_counts_at_once(f: &ShopFixture) {
    let role = f.shop.roles().create(&RoleInput::new("clerk", [Permission::OrdersRead])).await.unwrap();
    let ada = user(f, &["clerk"]).await;
    let tokens = login(&f.shop).await.unwrap();
    let may = |permission| {
        let (shop, token) = (f.shop.clone(), tokens.access.clone());
        async move { shop.auth().authenticate(&token).await.unwrap().may(permission) }
    };
    assert!(may(Permission::OrdersRead).await && !may(Permission::OrdersWrite).await);
    let patch =
        RolePatch { permissions: Patch::Set(BTreeSet::from([Permission::OrdersWrite])), ..RolePatch::default() };
    f.shop.roles().patch(role.id, role.audit.version.into(), patch).await.unwrap();
    assert!(!may(Permission::OrdersRead).await && may(Permission::OrdersWrite).await);
    let patch = UserPatch { roles: Patch::Set(vec!["admin".to_owned()]), ..UserPatch::default() };
    let ada = f.shop.users().patch(ada.id, ada.audit.version.into(), patch).await.unwrap();
    assert!(may(Permission::ForceDelete).await);
    let patch = UserPatch { roles: Patch::Clear, ..UserPatch::default() };
    f.shop.users().patch(ada.id, ada.audit.version.into(), patch).await.unwrap();
    assert!(!may(Permission::OrdersWrite).await);
}

/// The session that changes the password goes on, and all others end.
pub async fn a_changed_password_ends_the_other_sessions(f: &ShopFixture) {
    user(f, &[]).await;
    let (own, other) = (login(&f.shop).await.unwrap(), login(&f.shop).await.unwrap());
    let who = f.shop.auth().authenticate(&own.access).await.unwrap();
    let change = |old: &'static str, new: &'static str| {
        let (shop, who) = (f.shop.clone(), who.clone());
        async move { shop.auth().change_password(&who, &Secret::new(old), &Secret::new(new)).await }
    };
    is_code(change("wrong", "battery staple").await, ErrorCode::InvalidCredentials);
    assert_eq!(named(change(PASSWORD, "short").await), ["password"]);
    change(PASSWORD, "battery staple").await.unwrap();
    assert!(is_accepted(&f.shop, &own.access).await && !is_accepted(&f.shop, &other.access).await);
    is_code(login(&f.shop).await, ErrorCode::InvalidCredentials);
    f.shop.auth().login(EMAIL, &Secret::new("battery staple"), None).await.unwrap();
}

/// Somebody who registers gets the role `customer` and nothing else.
pub async fn registered_users_are_customers(f: &ShopFixture) {
    let input = UserInput::new(EMAIL).password(PASSWORD).name("Ada");
    let tokens = f.shop.auth().register(&input, None).await.unwrap();
    assert_eq!((&*tokens.user.roles, tokens.user.customer_id), (&["customer".to_owned()][..], None));
    assert_eq!(tokens.user.email_verified_at, None);
    let who = f.shop.auth().authenticate(&tokens.access).await.unwrap();
    assert!(Permission::ALL.iter().all(|permission| !who.may(*permission)));
    is_code(f.shop.auth().register(&input, None).await, ErrorCode::Duplicate);
    // Nobody gives themselves a role, or a customer's data.
    let customer = CustomerInput::new("Ada", "Lovelace", EMAIL);
    let customer = f.shop.customers().create(&customer).await.unwrap();
    let bad = UserInput { customer_id: Some(customer.id), ..input.clone() };
    assert_eq!(named(f.shop.auth().register(&bad.role("admin"), None).await), ["customer_id", "roles"]);
    let without = UserInput::new("b@example.com");
    assert_eq!(named(f.shop.auth().register(&without, None).await), ["password"]);
    login(&f.shop).await.unwrap();
}

/// Tokens with another issuer, algorithm or signature are refused.
pub async fn tokens_of_other_shops_and_kinds_are_refused(f: &ShopFixture) {
    user(f, &["admin"]).await;
    let tokens = login(&f.shop).await.unwrap();
    let issuer = f.another(ShopConfig::default().token_issuer("another shop"), f.cache());
    assert!(!is_accepted(&issuer, &tokens.access).await, "another issuer");
    let hmac = f.another(ShopConfig::default().token_algorithm(TokenAlgorithm::Hs256), f.cache());
    assert!(!is_accepted(&hmac, &tokens.access).await, "another algorithm");
    let of_hmac = login(&hmac).await.unwrap();
    assert!(is_accepted(&hmac, &of_hmac.access).await && !is_accepted(&f.shop, &of_hmac.access).await);
    assert!(is_accepted(&other_process(f), &tokens.access).await, "another process of the same shop");
    // The refresh token is no access token.
    for other in [tokens.refresh.reveal(), "", "a.b.c", "..", "ecom_", "ecom_nonsense", &"x.".repeat(50_000)] {
        assert!(!is_accepted(&f.shop, &Secret::new(other)).await, "{other}");
    }
    let parts: Vec<&str> = tokens.access.reveal().split('.').collect();
    let [header, claims, signature] = *parts else { panic!("three parts") };
    for forged in [
        format!("{header}.{claims}."),
        format!("{header}.{claims}.{}", &signature[1..]),
        // {"alg":"none","typ":"at+jwt"}
        format!("eyJhbGciOiJub25lIiwidHlwIjoiYXQrand0In0.{claims}."),
        format!("{header}.{claims}.{signature}.{signature}"),
    ] {
        assert!(!is_accepted(&f.shop, &Secret::new(forged)).await);
    }
}

/// Returns a token with this header and these claims that the key of an algorithm has signed.
fn forged(algorithm: TokenAlgorithm, private: &[u8], header: &Value, claims: &Value) -> Secret {
    let encode = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
    let signed = format!("{}.{}", encode(header), encode(claims));
    let signature = match algorithm {
        TokenAlgorithm::EdDsa => {
            let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(private).unwrap();
            URL_SAFE_NO_PAD.encode(pair.sign(signed.as_bytes()))
        }
        TokenAlgorithm::Hs256 => {
            URL_SAFE_NO_PAD.encode(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, private), signed.as_bytes()))
        }
    };
    Secret::new(format!("{signed}.{signature}"))
}

fn part(token: &Secret, n: usize) -> Value {
    let part = token.reveal().split('.').nth(n).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

/// Each token differs in one thing from a valid one, and the key of the shop has signed it.
pub async fn forged_tokens_are_refused_even_with_the_key_of_the_shop(f: &ShopFixture) {
    user(f, &["admin"]).await;
    let bob = UserInput::new("bob@example.com").password(PASSWORD);
    let bob = f.shop.users().create(&bob).await.unwrap();
    let hmac = f.another(ShopConfig::default().token_algorithm(TokenAlgorithm::Hs256), f.cache());
    for (algorithm, other, shop) in
        [(TokenAlgorithm::EdDsa, TokenAlgorithm::Hs256, &f.shop), (TokenAlgorithm::Hs256, TokenAlgorithm::EdDsa, &hmac)]
    {
        let real = login(shop).await.unwrap().access;
        let (kid, private, public) = token::revealed(&shop.cx).await.unwrap();
        let (header, claims) = (part(&real, 0), part(&real, 1));
        assert_eq!(header["kid"], kid);
        let now = f.clock.now().timestamp();
        let forge = |header: &Value, claims: &Value| forged(algorithm, &private, header, claims);
        let claiming = |name: &str, value: Value| {
            let mut claims = claims.clone();
            claims[name] = value;
            forge(&header, &claims)
        };
        let heading = |name: &str, value: Value| {
            let mut header = header.clone();
            header[name] = value;
            forge(&header, &claims)
        };
        // The control: the forgery itself is good.
        assert!(is_accepted(shop, &forge(&header, &claims)).await, "{algorithm:?}");
        for good in [
            claiming("exp", json!(now + 1)),
            claiming("nbf", json!(now + 59)),
            claiming("iat", json!(now + 59)),
            claiming("padding", json!("x".repeat(2_000))),
            heading("typ", json!("AT+JWT")),
        ] {
            assert!(is_accepted(shop, &good).await, "{algorithm:?}: {}", good.reveal());
        }
        for (name, value) in [
            ("iss", json!("another shop")),
            ("iss", json!("ECOM")),
            ("aud", json!("another")),
            ("aud", json!(["another"])),
            ("aud", json!([])),
            ("exp", json!(now)),
            ("exp", json!(now - 1)),
            ("exp", json!(-1)),
            ("exp", json!("never")),
            ("exp", json!(i64::MAX)),
            ("nbf", json!(now + 3_600)),
            ("iat", json!(now + 3_600)),
            ("sub", json!(bob.id)),
            ("sub", json!("ada")),
            ("sid", json!(bob.id)),
            ("padding", json!("x".repeat(4_000))),
        ] {
            assert!(!is_accepted(shop, &claiming(name, value.clone())).await, "{algorithm:?}: {name} {value}");
        }
        for name in ["iss", "aud", "exp", "iat", "sub", "sid"] {
            let mut claims = claims.clone();
            claims.as_object_mut().unwrap().remove(name);
            assert!(!is_accepted(shop, &forge(&header, &claims)).await, "{algorithm:?}: without {name}");
        }
        for (name, value) in [
            ("typ", json!("JWT")),
            ("typ", json!("refresh+jwt")),
            ("typ", json!(null)),
            ("kid", json!(null)),
            ("kid", json!("")),
            ("kid", json!("hs256")),
            ("kid", json!(kid.replace(&kid[..4], "0000"))),
            ("kid", json!(["x"])),
            ("alg", json!("none")),
            ("alg", json!("NONE")),
            ("alg", json!("eddsa")),
            ("alg", json!("HS512")),
            ("alg", json!("ES256")),
            ("alg", json!("RS256")),
            ("alg", json!(if other == TokenAlgorithm::Hs256 { "HS256" } else { "EdDSA" })),
            ("crit", json!(["exp"])),
        ] {
            assert!(!is_accepted(shop, &heading(name, value.clone())).await, "{algorithm:?}: {name} {value}");
        }
        // Without a signature, and with one by another key.
        let signed = |header: &Value| {
            let encode = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
            format!("{}.{}.", encode(header), encode(&claims))
        };
        let none = json!({"alg": "none", "typ": "at+jwt", "kid": kid});
        for unsigned in [signed(&header), signed(&none)] {
            assert!(!is_accepted(shop, &Secret::new(unsigned)).await, "{algorithm:?}");
        }
        let (another, _) = crypto::ed25519([1; 32]).unwrap();
        assert!(!is_accepted(shop, &forged(TokenAlgorithm::EdDsa, &another, &header, &claims)).await);
        // The public key as the secret of HMAC, with either name of the algorithm.
        for alg in ["HS256", "EdDSA"] {
            let confused = json!({"alg": alg, "typ": "at+jwt", "kid": kid});
            for secret in [&public[..], URL_SAFE_NO_PAD.encode(&public).as_bytes(), b""] {
                let confused = forged(TokenAlgorithm::Hs256, secret, &confused, &claims);
                assert!(!is_accepted(shop, &confused).await, "{algorithm:?}: {alg}");
            }
        }
        let huge = format!("{}.{}", real.reveal(), "A".repeat(1_000_000));
        assert!(!is_accepted(shop, &Secret::new(huge)).await);
        assert!(is_accepted(shop, &real).await);
    }
}

/// The tokens of a replaced key are refused, although they were verified before. Sessions go on.
pub async fn r15_replaced_keys_end_their_tokens_at_once_and_soon_in_other_processes(f: &ShopFixture) {
    let ada = user(f, &[]).await;
    let config = || ShopConfig::default().poll_interval(Duration::from_millis(10));
    for algorithm in [TokenAlgorithm::EdDsa, TokenAlgorithm::Hs256] {
        let shop = f.another(config().token_algorithm(algorithm), f.cache());
        let other = f.another(config().token_algorithm(algorithm), f.cache());
        let background = other.start();
        let tokens = login(&shop).await.unwrap();
        let (kid, private, _) = token::revealed(&shop.cx).await.unwrap();
        assert!(is_accepted(&shop, &tokens.access).await && is_accepted(&other, &tokens.access).await);
        let nobody = Principal::new("nobody", []);
        is_code(shop.auth().replace_keys(&nobody).await, ErrorCode::Forbidden);
        assert!(is_accepted(&shop, &tokens.access).await);
        let who = Principal::trusted("operator");
        shop.auth().replace_keys(&who).await.unwrap();
        assert!(!is_accepted(&shop, &tokens.access).await);
        until("the other process", async || !is_accepted(&other, &tokens.access).await).await;
        // A new token of the old key is refused too.
        let (mut claims, header) = (part(&tokens.access, 1), part(&tokens.access, 0));
        claims["iat"] = json!(claims["iat"].as_i64().unwrap() + 1);
        let forged = forged(algorithm, &private, &header, &claims);
        assert!(!is_accepted(&shop, &forged).await && !is_accepted(&other, &forged).await);
        let setting = f.storage.connect().await.unwrap().settings().get(SettingName::SigningKeys).await.unwrap();
        assert!(!setting.value.to_string().contains(&kid), "{}", setting.value);
        assert_eq!(setting.audit.updated_by.as_str(), "operator");
        // The session goes on, with a token of the new key.
        let next = shop.auth().refresh(&tokens.refresh).await.unwrap();
        assert!(is_accepted(&shop, &next.access).await && is_accepted(&other, &next.access).await);
        assert_eq!(f.shop.users().sessions(ada.id).await.unwrap().len(), 1);
        f.shop.users().end_sessions(ada.id).await.unwrap();
        background.shutdown().await;
    }
}

/// A process that does not know of a new key yet reads it for the first of its tokens. An id that the shop has not made
/// is read at most once in a while.
pub async fn a_new_key_is_known_at_once_and_made_up_ones_cost_no_reads(f: &ShopFixture) {
    user(f, &[]).await;
    let other = f.another(ShopConfig::default(), f.cache());
    // The other process has read that there are no keys, a moment before the first one is made.
    let made_up = |n: usize| {
        let header = json!({"alg": "EdDSA", "typ": "at+jwt", "kid": format!("{n:048}")});
        forged(TokenAlgorithm::Hs256, b"x", &header, &json!({}))
    };
    assert!(!is_accepted(&other, &made_up(0)).await);
    let mut tokens = vec![login(&f.shop).await.unwrap().access];
    assert!(is_accepted(&other, &tokens[0]).await);
    for _ in 0..3 {
        f.shop.auth().replace_keys(Principal::system()).await.unwrap();
        let token = login(&f.shop).await.unwrap().access;
        assert!(is_accepted(&other, &token).await);
        tokens.push(token);
    }
    let valid = tokens.pop().unwrap();
    for old in &tokens {
        assert!(!is_accepted(&other, old).await);
    }
    // Neither ids that nobody has made nor those of replaced keys are read again.
    let before = f.storage.statements();
    for n in 0..100 {
        assert!(!is_accepted(&other, &made_up(n)).await);
        assert!(!is_accepted(&other, &tokens[n % tokens.len()]).await);
    }
    assert!(is_accepted(&other, &valid).await);
    let statements = f.storage.statements() - before;
    // Without a cache, each token reads the keys, the session, the user and the roles.
    assert!(statements <= 10 || other.cx.cache.name() == "none", "{statements} statements");
}

/// The tokens of a process without a secret key are valid in this process alone, and the process can replace its keys.
pub async fn without_a_secret_key_each_process_has_keys_of_its_own(f: &ShopFixture) {
    user(f, &[]).await;
    for algorithm in [TokenAlgorithm::EdDsa, TokenAlgorithm::Hs256] {
        let process = || {
            let config = ShopConfig::default().token_algorithm(algorithm);
            Shop::new(ShopParts { secret_key: None, config, ..f.parts() }).unwrap()
        };
        let (shop, other) = (process(), process());
        let token = login(&shop).await.unwrap().access;
        assert!(is_accepted(&shop, &token).await && !is_accepted(&other, &token).await);
        shop.auth().replace_keys(Principal::system()).await.unwrap();
        assert!(!is_accepted(&shop, &token).await);
        assert!(is_accepted(&shop, &login(&shop).await.unwrap().access).await);
        let stored = f.storage.connect().await.unwrap().settings().get(SettingName::SigningKeys).await.unwrap();
        assert_eq!(stored.value, json!([]));
    }
}

/// A new key signs once the old one has come of age, and all processes accept the tokens of both.
pub async fn signing_keys_rotate_and_old_tokens_stay_valid(f: &ShopFixture) {
    user(f, &[]).await;
    let config = || ShopConfig::default().access_token_ttl(Duration::from_secs(86_400));
    let (shop, other) = (f.another(config(), f.cache()), f.another(config(), f.cache()));
    let old = login(&shop).await.unwrap();
    assert!(is_accepted(&other, &old.access).await, "a process that has read the keys");
    let keys = async |shop: &Shop| shop.auth().key_set().await.unwrap()["keys"].as_array().unwrap().len();
    assert_eq!((keys(&shop).await, keys(&other).await), (1, 1));
    f.clock.advance(Duration::from_secs(30 * 86_400 - 60));
    let before = login(&shop).await.unwrap();
    f.clock.advance(Duration::from_secs(120));
    let after = login(&shop).await.unwrap();
    assert_eq!(keys(&shop).await, 2);
    for token in [&before.access, &after.access] {
        assert!(is_accepted(&shop, token).await && is_accepted(&other, token).await);
    }
    // Both processes have made the next key at once, and there is one.
    f.clock.advance(Duration::from_secs(30 * 86_400));
    let (a, b) = futures::join!(login(&shop), login(&other));
    let (a, b) = (a.unwrap(), b.unwrap());
    assert!(is_accepted(&other, &a.access).await && is_accepted(&shop, &b.access).await);
    assert_eq!((keys(&shop).await, keys(&other).await), (2, 2), "the first one verifies nothing any more");
    let stored = f.storage.connect().await.unwrap().settings().get(SettingName::SigningKeys).await.unwrap();
    let kept = stored.value.to_string();
    assert!(kept.contains("sealed") && !kept.contains("private"), "{kept}");
}

/// A key has its permissions until it is changed, expires or is deleted.
pub async fn an_api_key_authenticates_until_it_ends(f: &ShopFixture) {
    let keys = f.shop.api_keys();
    let input = ApiKeyInput::new("robot", [Permission::StockAdjust]);
    let made = keys.create(&input).await.unwrap();
    assert!(made.secret.reveal().starts_with(&made.key.prefix) && made.key.prefix.starts_with(ApiKey::MARK));
    let who = f.shop.auth().authenticate(&made.secret).await.unwrap();
    assert_eq!(who.actor(), &made.key.actor());
    assert!(who.may(Permission::StockAdjust) && !who.may(Permission::StockRead));
    assert_eq!(keys.get(made.key.id).await.unwrap().last_used_at, Some(f.clock.now()));
    // A change counts at once.
    let permissions = Patch::Set(BTreeSet::from([Permission::StockRead]));
    let end = f.clock.now() + Duration::from_secs(10);
    let patch = ApiKeyPatch { permissions, expires_at: Patch::Set(end), ..ApiKeyPatch::default() };
    let patched = keys.patch(made.key.id, made.key.audit.version.into(), patch).await.unwrap();
    let who = f.shop.auth().authenticate(&made.secret).await.unwrap();
    assert!(!who.may(Permission::StockAdjust) && who.may(Permission::StockRead));
    f.clock.advance(Duration::from_secs(10));
    assert!(!is_accepted(&f.shop, &made.secret).await, "it has expired");
    let patch = ApiKeyPatch { expires_at: Patch::Clear, ..ApiKeyPatch::default() };
    let patched = keys.patch(made.key.id, patched.audit.version.into(), patch).await.unwrap();
    assert!(is_accepted(&f.shop, &made.secret).await);
    keys.delete(made.key.id, patched.audit.version.into()).await.unwrap();
    assert!(!is_accepted(&f.shop, &made.secret).await);
    // The key of the first start is made once.
    let secret = keys.new_secret();
    assert!(keys.ensure_admin(&secret).await.unwrap() && !keys.ensure_admin(&secret).await.unwrap());
    // Its permissions mean nothing, so they cannot be edited.
    let (all, _) = keys.list(&crate::paging::Paging::first(10)).await.unwrap();
    let admin = all.items.into_iter().find(|key| key.is_admin).unwrap();
    let fewer = ApiKeyPatch { permissions: Patch::Set([Permission::OrdersRead].into()), ..ApiKeyPatch::default() };
    is_code(keys.patch(admin.id, 1.into(), fewer).await, ErrorCode::StateConflict);
    let renamed = ApiKeyPatch { name: Patch::Set("owner".to_owned()), ..ApiKeyPatch::default() };
    assert_eq!(keys.patch(admin.id, 1.into(), renamed).await.unwrap().name, "owner");
    let admin = f.shop.auth().authenticate(&secret).await.unwrap();
    assert!(Permission::ALL.iter().all(|permission| admin.may(*permission)));
}

/// A key with the permission to write keys neither extends itself nor makes another one that lasts longer. Users and
/// keys that do not expire are not limited.
pub async fn r16_an_api_key_that_expires_makes_none_that_outlives_it(f: &ShopFixture) {
    let own = Permission::ApiKeysWrite;
    let (end, second) = (f.clock.now() + Duration::from_secs(3_600), Duration::from_secs(1));
    let key = |expires_at| ApiKeyInput { expires_at, ..ApiKeyInput::new("robot", [own]) };
    let until = |expires_at: Patch<_>| ApiKeyPatch { expires_at, ..ApiKeyPatch::default() };
    let trusted = f.shop.api_keys();
    let made = trusted.create(&key(Some(end))).await.unwrap();
    let eternal = trusted.create(&key(None)).await.unwrap();
    let admin = Secret::new("ecom_the-admin-key-of-the-first-start");
    assert!(trusted.ensure_admin(&admin).await.unwrap());
    let admin_id = read!(f.storage, api_keys.get_by_hash(&admin.hash())).unwrap().id;
    trusted.patch(admin_id, v(1), until(Patch::Set(end))).await.unwrap();
    for (secret, id) in [(&made.secret, made.key.id), (&admin, admin_id)] {
        let who = f.shop.auth().authenticate(secret).await.unwrap();
        assert_eq!(who.expires_at(), Some(end));
        let shop = f.shop.acting_as(&who);
        let keys = shop.api_keys();
        let version = v(trusted.get(id).await.unwrap().audit.version);
        let head = f.head().await;
        let refused = |outcome: Result<ApiKey>, what: &str| {
            let Err(Error::Validation(errors)) = outcome else { panic!("{what}: {outcome:?}") };
            let [only] = &*errors.0 else { panic!("{what}: {errors:?}") };
            assert_eq!(only.field, "expires_at", "{what}");
            assert!(only.message.contains("at most 2026-01-02T04:04:05.678901Z"), "{what}: {}", only.message);
        };
        for later in [None, Some(end + second)] {
            refused(keys.create(&key(later)).await.map(|made| made.key), "a key that lasts longer");
            let mut tx = f.shop.begin().await.unwrap();
            refused(keys.create_in(&mut tx, &key(later)).await.map(|made| made.key), "in a transaction");
            drop(tx);
            let later = later.map_or(Patch::Clear, Patch::Set);
            refused(keys.patch(id, version, until(later.clone())).await, "itself");
            let sooner = trusted.create(&key(Some(end - second))).await.unwrap().key;
            refused(keys.patch(sooner.id, v(1), until(later)).await, "another key");
            trusted.delete(sooner.id, v(1)).await.unwrap();
        }
        if id == admin_id {
            refused(keys.ensure_admin(&Secret::new("ecom_another")).await.map(|_| made.key.clone()), "an admin key");
        }
        let by_it = f.events_after(head).await.into_iter().filter(|event| event.actor == *who.actor()).count();
        assert_eq!(by_it, 0);
        let twin = keys.create(&key(Some(end))).await.unwrap().key;
        keys.patch(twin.id, v(1), until(Patch::Set(end - second))).await.unwrap();
        keys.patch(twin.id, v(2), until(Patch::Set(end))).await.unwrap();
        // A key that lasts longer anyway can be edited, and shortened.
        let version = v(trusted.get(eternal.key.id).await.unwrap().audit.version);
        let rename = ApiKeyPatch { name: Patch::Set(format!("eternal {id}")), ..ApiKeyPatch::default() };
        keys.patch(eternal.key.id, version, rename).await.unwrap();
        // It gets no permissions, with which it could do what this key could do for ever.
        let weak = trusted.create(&ApiKeyInput::new("weak", [own])).await.unwrap().key;
        let fewer = ApiKeyPatch { permissions: Patch::Set([Permission::StockRead].into()), ..ApiKeyPatch::default() };
        trusted.patch(weak.id, v(1), fewer).await.unwrap();
        if id == admin_id {
            let more = ApiKeyPatch { permissions: Patch::Set([own].into()), ..ApiKeyPatch::default() };
            refused(keys.patch(weak.id, v(2), more).await, "a key that gets permissions");
        }
        trusted.delete(weak.id, v(2)).await.unwrap();
    }
    let who = f.shop.auth().authenticate(&eternal.secret).await.unwrap();
    f.shop.acting_as(&who).api_keys().create(&key(None)).await.unwrap();
    user(f, &["admin"]).await;
    let who = f.shop.auth().authenticate(&login(&f.shop).await.unwrap().access).await.unwrap();
    f.shop.acting_as(&who).api_keys().create(&key(None)).await.unwrap();
}

/// A principal cannot give itself or others more than it has.
pub async fn nobody_grants_what_they_lack(f: &ShopFixture) {
    use Permission::{ApiKeysWrite, OrdersRead, RolesWrite, StockAdjust, UsersWrite};
    let manager = Principal::new("manager", [UsersWrite, RolesWrite, ApiKeysWrite, OrdersRead]);
    let (shop, own) = (f.shop.acting_as(&manager), f.shop.clone());
    let strong = own.roles().create(&RoleInput::new("strong", [OrdersRead, StockAdjust])).await.unwrap();
    let boss = own.users().create(&UserInput::new("boss@example.com").role("admin")).await.unwrap();
    let key = own.api_keys().create(&ApiKeyInput::new("robot", [StockAdjust])).await.unwrap().key;
    let refused = |outcome: Result<()>| assert!(matches!(outcome, Err(Error::Forbidden { .. })), "{outcome:?}");
    let v = |n: i64| ExpectedVersion::Exact(n);
    refused(shop.roles().create(&RoleInput::new("mine", [StockAdjust])).await.map(drop));
    refused(shop.roles().patch(strong.id, v(1), RolePatch::default()).await.map(drop));
    refused(shop.roles().replace(strong.id, v(1), &RoleInput::new("strong", [])).await.map(drop));
    refused(shop.roles().delete(strong.id, v(1)).await);
    refused(shop.users().create(&UserInput::new("me@example.com").role("admin")).await.map(drop));
    refused(shop.users().create(&UserInput::new("me@example.com").role("strong")).await.map(drop));
    let password = UserPatch { password: Patch::Set(Secret::new(PASSWORD)), ..UserPatch::default() };
    refused(shop.users().patch(boss.id, v(1), password).await.map(drop));
    refused(shop.users().replace(boss.id, v(1), &UserInput::new("boss@example.com")).await.map(drop));
    refused(shop.users().delete(boss.id, v(1), DeleteMode::Soft).await);
    refused(shop.users().end_sessions(boss.id).await.map(drop));
    refused(shop.api_keys().create(&ApiKeyInput::new("mine", [StockAdjust])).await.map(drop));
    refused(shop.api_keys().patch(key.id, v(1), ApiKeyPatch::default()).await.map(drop));
    refused(shop.api_keys().delete(key.id, v(1)).await);
    // Whoever decides which customer a login is, or how it logs in, could act as the customer.
    let customer = own.customers().create(&CustomerInput::new("Ada", "Lovelace", EMAIL)).await.unwrap();
    let linked = UserInput { customer_id: Some(customer.id), ..UserInput::new(EMAIL) };
    refused(shop.users().create(&linked).await.map(drop));
    let plain = own.users().create(&UserInput::new("plain@example.com")).await.unwrap();
    let link = UserPatch { customer_id: Patch::Set(customer.id), ..UserPatch::default() };
    refused(shop.users().patch(plain.id, v(1), link).await.map(drop));
    let linked = own.users().create(&linked).await.unwrap();
    let password = UserPatch { password: Patch::Set(Secret::new(PASSWORD)), ..UserPatch::default() };
    refused(shop.users().patch(linked.id, v(1), password).await.map(drop));
    let email = UserPatch { email: Patch::Set("eve@example.com".to_owned()), ..UserPatch::default() };
    refused(shop.users().patch(linked.id, v(1), email).await.map(drop));
    let unlinked =
        UserPatch { customer_id: Patch::Clear, password: Patch::Set(Secret::new(PASSWORD)), ..UserPatch::default() };
    refused(shop.users().patch(linked.id, v(1), unlinked).await.map(drop));
    let unlinked = UserPatch { customer_id: Patch::Clear, ..UserPatch::default() };
    refused(shop.users().patch(linked.id, v(1), unlinked).await.map(drop));
    // A manager can grant every permission that it has.
    shop.roles().create(&RoleInput::new("reader", [OrdersRead])).await.unwrap();
    shop.users().create(&UserInput::new("reader@example.com").role("reader")).await.unwrap();
    shop.api_keys().create(&ApiKeyInput::new("reader", [OrdersRead])).await.unwrap();
    assert_eq!(own.users().get(boss.id, IncludeDeleted::No).await.unwrap(), boss, "nothing has changed");
}

/// The roles that every shop has cannot be changed.
pub async fn built_in_roles_stay_as_they_are(f: &ShopFixture) {
    let roles = f.shop.roles().list().await.unwrap();
    assert_eq!(roles.iter().map(|r| r.name.as_str()).collect::<Vec<_>>(), ["admin", "customer", "manager", "staff"]);
    for Role { id, name, permissions, audit, .. } in roles {
        let built_in = BuiltInRole::ALL.iter().find(|role| role.as_str() == name).unwrap();
        assert_eq!((built_in.id(), &built_in.permissions()), (id, &permissions));
        let read = ExpectedVersion::Exact(audit.version);
        is_code(f.shop.roles().delete(id, read).await, ErrorCode::StateConflict);
        is_code(f.shop.roles().patch(id, read, RolePatch::default()).await, ErrorCode::StateConflict);
        is_code(f.shop.roles().replace(id, read, &RoleInput::new(name, [])).await, ErrorCode::StateConflict);
    }
    is_code(f.shop.roles().create(&RoleInput::new("admin", [])).await, ErrorCode::Duplicate);
}

/// A role is deleted once no user has it.
pub async fn a_role_that_a_user_has_stays(f: &ShopFixture) {
    let role = f.shop.roles().create(&RoleInput::new("clerk", [])).await.unwrap();
    let ada = user(f, &["clerk"]).await;
    is_code(f.shop.roles().delete(role.id, 1.into()).await, ErrorCode::StateConflict);
    f.shop.users().delete(ada.id, 1.into(), DeleteMode::Soft).await.unwrap();
    is_code(f.shop.roles().delete(role.id, 1.into()).await, ErrorCode::StateConflict);
    f.shop.users().delete(ada.id, 2.into(), DeleteMode::Force).await.unwrap();
    f.shop.roles().delete(role.id, 1.into()).await.unwrap();
    is_code(f.shop.roles().get(role.id).await, ErrorCode::NotFound);
    let unknown = UserInput::new(EMAIL).role("clerk").role("admin").role("cook");
    assert_eq!(named(f.shop.users().create(&unknown).await), ["roles[0]", "roles[2]"]);
}

/// A soft-deleted user cannot log in until it is restored.
pub async fn a_deleted_user_cannot_log_in(f: &ShopFixture) {
    let ada = user(f, &[]).await;
    f.shop.users().delete(ada.id, 1.into(), DeleteMode::Soft).await.unwrap();
    is_code(login(&f.shop).await, ErrorCode::InvalidCredentials);
    is_code(f.shop.users().get(ada.id, IncludeDeleted::No).await, ErrorCode::NotFound);
    let back = f.shop.users().restore(ada.id, 2.into()).await.unwrap();
    assert_eq!(back.audit.version, 3);
    login(&f.shop).await.unwrap();
    is_code(f.shop.users().restore(ada.id, 3.into()).await, ErrorCode::StateConflict);
}

/// A user has at most 100 sessions.
pub async fn the_oldest_of_too_many_sessions_ends(f: &ShopFixture) {
    let ada = user(f, &[]).await;
    let first = login(&f.shop).await.unwrap();
    assert!(is_accepted(&f.shop, &first.access).await);
    let more: Vec<Tokens> = {
        let mut made = Vec::new();
        for _ in 0..100 {
            made.push(login(&f.shop).await.unwrap());
        }
        made
    };
    assert!(!is_accepted(&f.shop, &first.access).await);
    assert!(is_accepted(&f.shop, &more[0].access).await);
    assert_eq!(f.shop.users().sessions(ada.id).await.unwrap().len(), 100);
}

/// A process answers from its memory until the token is revoked, and then asks the database.
pub async fn r15_a_token_that_is_remembered_counts_until_it_is_revoked(f: &ShopFixture) {
    let shop = f.another(ShopConfig::default(), f.cache());
    let role = shop.roles().create(&RoleInput::new("packer", [Permission::StockRead])).await.unwrap();
    let ada = user(f, &["packer"]).await;
    let auth = shop.auth();
    assert!(auth.authenticate_now(&Secret::new("nonsense")).is_none());
    for revoke in 0..5 {
        let tokens = login(&shop).await.unwrap();
        let now = || auth.authenticate_now(&tokens.access);
        assert!(now().is_none(), "nobody has verified it yet");
        let principal = auth.authenticate(&tokens.access).await.unwrap();
        // A shop without a cache in this process remembers nothing.
        let remembers = shop.cx.cache.local::<Roles>(&CacheKey::Roles).is_some();
        assert_eq!(now(), remembers.then(|| principal.clone()), "after a request with the token");
        assert!(principal.may(Permission::StockRead));
        let is_over = match revoke {
            0 => auth.logout(&principal).await.map(|()| true),
            1 => shop.users().end_sessions(ada.id).await.map(|_| true),
            2 => {
                let none = RolePatch { permissions: Patch::Set(BTreeSet::new()), ..RolePatch::default() };
                shop.roles().patch(role.id, role.audit.version.into(), none).await.map(|_| false)
            }
            3 => auth.replace_keys(Principal::system()).await.map(|()| true),
            _ => {
                f.clock.advance(Duration::from_secs(3_600));
                Ok(true)
            }
        };
        let is_over = is_over.unwrap();
        assert!(now().is_none(), "revocation {revoke}");
        assert_eq!(is_accepted(&shop, &tokens.access).await, !is_over, "revocation {revoke}");
        if !is_over {
            assert!(!auth.authenticate(&tokens.access).await.unwrap().may(Permission::StockRead));
            let all =
                RolePatch { permissions: Patch::Set(BTreeSet::from([Permission::StockRead])), ..RolePatch::default() };
            shop.roles().patch(role.id, (role.audit.version + 1).into(), all).await.unwrap();
        }
    }
    // A token expires although its session was read a moment before.
    let tokens = login(&shop).await.unwrap();
    f.clock.advance(Duration::from_secs(15 * 60 - 1));
    auth.authenticate(&tokens.access).await.unwrap();
    let remembers = shop.cx.cache.local::<Roles>(&CacheKey::Roles).is_some();
    assert_eq!(auth.authenticate_now(&tokens.access).is_some(), remembers);
    f.clock.advance(Duration::from_secs(1));
    assert!(auth.authenticate_now(&tokens.access).is_none());
    assert!(!is_accepted(&shop, &tokens.access).await);
}
