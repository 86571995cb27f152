//! Users: logins of people and machines.

use std::fmt;

use derive_setters::Setters;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::domain::access::role::{Role, check_role_name};
use crate::domain::access::secret::Secret;
use crate::domain::common::{Actor, Audit, IncludeDeleted, Patch};
use crate::domain::platform::audit_log::{Audited, fields};
use crate::domain::sales::customer::{MAX_EMAIL, check_email};
use crate::error::{FieldCode, Result, ValidationErrors};
use crate::id::{CustomerId, RoleId, UserId};
use crate::text::{check_text, fold, fold_key, trimmed};

/// A user: the login of a person or a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The id of the user.
    pub id: UserId,
    /// The email address with which the user logs in, at most 254 characters, unique among live users, ignoring case.
    pub email: String,
    /// When the user proved that the address is its own; `None` if it has not.
    pub email_verified_at: Option<Timestamp>,
    /// A name for people, at most 200 characters.
    pub name: Option<String>,
    /// The hash of the password; `None` if the user has none and cannot log in with one.
    pub password: Option<PasswordHash>,
    /// When the password was last set.
    pub password_set_at: Option<Timestamp>,
    /// The roles of the user, by id.
    pub roles: Vec<RoleId>,
    /// The customer that the user is, at most one live user for each customer.
    pub customer_id: Option<CustomerId>,
    /// When the user was blocked; `None` if it may log in.
    pub blocked_at: Option<Timestamp>,
    /// When and by whom the user was created and edited, and its version.
    pub audit: Audit,
}

impl Audited for User {
    fn id(&self) -> Uuid {
        self.id.0
    }

    fn revision(&self) -> i64 {
        self.audit.version
    }

    fn document(&self) -> Map<String, Value> {
        let Self { email, email_verified_at, name, password_set_at, roles, customer_id, blocked_at, audit, .. } = self;
        let values = json!({
            "email": email,
            "email_verified_at": email_verified_at,
            "name": name,
            "password_set_at": password_set_at,
            "roles": roles,
            "customer_id": customer_id,
            "blocked_at": blocked_at,
            "audit": audit,
        });
        fields(&values, &[])
    }

    fn customer(&self) -> Option<CustomerId> {
        self.customer_id
    }
}

impl User {
    /// Returns the actor that rows and events record for what the user does.
    pub fn actor(&self) -> Actor {
        actor_of(self.id)
    }

    /// Returns true if the user may log in and its sessions may go on.
    pub const fn is_active(&self) -> bool {
        self.audit.is_live() && self.blocked_at.is_none()
    }

    /// Returns the user without personal data (R45): soft-deleted, without a name and a password, and with an email
    /// that nobody can have, because no domain ends in `.invalid` (RFC 2606). It stays the user of its customer, and
    /// keeps its roles.
    #[must_use]
    pub fn erased(&self, now: Timestamp, by: &Actor) -> Self {
        let mut audit = self.audit.clone();
        audit.edited(now, by);
        audit.deleted_at = audit.deleted_at.or(Some(now));
        Self {
            id: self.id,
            email: format!("{}@erased.invalid", self.id),
            email_verified_at: None,
            name: None,
            password: None,
            password_set_at: None,
            roles: self.roles.clone(),
            customer_id: self.customer_id,
            blocked_at: self.blocked_at,
            audit,
        }
    }
}

/// Returns the actor of a user.
pub(crate) fn actor_of(id: UserId) -> Actor {
    Actor::new(format!("user:{id}"))
}

/// The hash of a password in the PHC string format, with its algorithm and parameters. `Debug` shows nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(String);

impl PasswordHash {
    /// Returns the hash with this text, in the PHC string format.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the text, which must not appear in logs.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(…)")
    }
}

/// The filter of a list of users, which is sorted by time of creation, newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserFilter {
    /// The users with this email, ignoring case.
    pub email: Option<String>,
    /// The users with this role.
    pub role: Option<RoleId>,
    /// The user of this customer.
    pub customer: Option<CustomerId>,
    /// Whether soft-deleted users are listed (R2).
    pub include_deleted: IncludeDeleted,
}

impl UserFilter {
    /// Refuses an email that no user can have.
    ///
    /// # Errors
    /// `Validation` on `email`.
    pub fn check(&self) -> Result<()> {
        let mut errors = ValidationErrors::default();
        if let Some(email) = &self.email {
            check_text("email", email, 1, MAX_EMAIL, &mut errors);
        }
        errors.into_result()
    }
}

/// A user to create or to replace (PUT).
#[derive(Debug, Clone, Default, Deserialize, Setters)]
#[serde(deny_unknown_fields)]
#[setters(strip_option, into)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct UserInput {
    /// The email address with which the user logs in, at most 254 characters, unique among live users, ignoring case.
    #[cfg_attr(feature = "openapi", schema(max_length = 254, format = "email", example = "ada@example.com"))]
    #[setters(skip)]
    pub email: String,
    /// A name for people, at most 200 characters.
    #[serde(default)]
    pub name: Option<String>,
    /// The password, 8–256 characters. Without one, the user cannot log in until a password is set. A replaced user
    /// without one keeps its own.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, min_length = 8, max_length = 256,
                                           format = "password"))]
    #[serde(default)]
    pub password: Option<Secret>,
    /// The names of the roles of the user.
    #[cfg_attr(feature = "openapi", schema(example = json!(["staff"])))]
    #[serde(default)]
    pub roles: Vec<String>,
    /// The customer that the user is. No other live user is the same customer.
    #[serde(default)]
    pub customer_id: Option<CustomerId>,
    /// The version of the user that the client read (R1). Only a replacement without `If-Match` uses it.
    #[serde(default)]
    pub version: Option<i64>,
}

/// A merge patch of a user (RFC 7396): fields that it leaves out stay unchanged.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct UserPatch {
    /// The email address with which the user logs in; null is refused. A new address is not verified.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, max_length = 254, format = "email"))]
    #[serde(default)]
    pub email: Patch<String>,
    /// A name for people, at most 200 characters; null removes it.
    #[serde(default)]
    pub name: Patch<String>,
    /// A new password, 8–256 characters, which ends all sessions of the user; null is refused.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, min_length = 8, max_length = 256,
                                           format = "password"))]
    #[serde(default)]
    pub password: Patch<Secret>,
    /// The names of the roles of the user, all of them; null removes all.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Vec<String>>))]
    #[serde(default)]
    pub roles: Patch<Vec<String>>,
    /// The customer that the user is; null separates them.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<CustomerId>))]
    #[serde(default)]
    pub customer_id: Patch<CustomerId>,
    /// Whether the user is blocked: true ends all its sessions and refuses its logins; null is false.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<bool>))]
    #[serde(default)]
    pub blocked: Patch<bool>,
    /// The version of the user that the client read (R1), unless `If-Match` names it.
    #[serde(default)]
    pub version: Option<i64>,
}

/// A merge patch with which a user edits itself (RFC 7396): fields that it leaves out stay unchanged.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ProfilePatch {
    /// A name for people, at most 200 characters; null removes it.
    #[serde(default)]
    pub name: Patch<String>,
    /// The version of the user that the client read (R1), unless `If-Match` names it.
    #[serde(default)]
    pub version: Option<i64>,
}

impl UserInput {
    /// Returns a user with this email address.
    pub fn new(email: impl Into<String>) -> Self {
        Self { email: email.into(), ..Self::default() }
    }

    /// Adds a role by its name.
    #[must_use]
    pub fn role(mut self, name: impl Into<String>) -> Self {
        self.roles.push(name.into());
        self
    }

    /// Checks the input and returns it as it is stored: texts without spaces around them, and each role once.
    ///
    /// # Errors
    /// `Validation` with every field that is out of bounds.
    pub(crate) fn check(&self) -> Result<Self> {
        let mut e = ValidationErrors::default();
        let email = self.email.trim();
        check_email(email, &mut e);
        let name = check_name(self.name.as_deref(), &mut e);
        if let Some(password) = &self.password {
            check_password("password", password, email, &mut e);
        }
        let roles = check_roles(&self.roles, &mut e);
        e.into_result()?;
        Ok(Self { email: email.to_owned(), name, roles, ..self.clone() })
    }
}

impl ProfilePatch {
    /// Checks the patch and returns it as it is stored: the name without spaces around it.
    ///
    /// # Errors
    /// `Validation` with every field that is out of bounds.
    pub(crate) fn check(self) -> Result<Self> {
        let Patch::Set(name) = &self.name else { return Ok(self) };
        let mut e = ValidationErrors::default();
        let name = check_name(Some(name), &mut e).map_or(Patch::Clear, Patch::Set);
        e.into_result()?;
        Ok(Self { name, ..self })
    }
}

/// Returns the name of a user without spaces around it, or `None` if it is empty. Pushes an error if it cannot be one.
fn check_name(name: Option<&str>, errors: &mut ValidationErrors) -> Option<String> {
    if let Some(name) = name {
        check_text("name", name, 0, 200, errors);
    }
    trimmed(name)
}

/// The minimum number of characters of a password, as NIST SP 800-63B, 3.1.1.2 requires at least.
pub const MIN_PASSWORD: usize = 8;
/// The maximum number of characters of a password. A longer one would only cost time.
pub const MAX_PASSWORD: usize = 256;

/// Pushes an error if a text cannot be a new password: it must have [`MIN_PASSWORD`] to [`MAX_PASSWORD`] characters,
/// and must not be the email address of the user or one character that is repeated.
pub(crate) fn check_password(field: &str, password: &Secret, email: &str, errors: &mut ValidationErrors) {
    let text = password.reveal();
    let length = if text.len() > MAX_PASSWORD * 4 { usize::MAX } else { text.chars().count() };
    if !(MIN_PASSWORD..=MAX_PASSWORD).contains(&length) {
        let message = format!("must have {MIN_PASSWORD} to {MAX_PASSWORD} characters");
        errors.push(field, FieldCode::OutOfBounds, message);
    } else if fold_key(text) == fold_key(email) || text.chars().all(|c| text.starts_with(c)) {
        errors.push(field, FieldCode::OutOfBounds, "is too easy to guess; choose another one");
    }
}

/// Pushes an error if folding an email address changes more than the case of ASCII letters, as for `straße.de`, whose
/// key is `strasse.de`. If somebody registered such an address, the owner of the folded one could not register, and
/// would get no mail, because mails go to the address as it was registered.
pub(crate) fn check_spelling(email: &str, errors: &mut ValidationErrors) {
    let plain = fold(email);
    if email.chars().count() <= MAX_EMAIL && !plain.eq_ignore_ascii_case(email) {
        let message = format!(
            "counts as the same address as `{plain}`: if that address is yours, register it in that spelling; \
             otherwise write the domain in ASCII (`xn--…`), or ask the shop to create your login"
        );
        errors.push("email", FieldCode::OutOfBounds, message);
    }
}

/// Returns the names of roles, each once, and pushes an error for each that cannot be one.
fn check_roles(names: &[String], errors: &mut ValidationErrors) -> Vec<String> {
    if names.len() > Role::MAX {
        errors.push("roles", FieldCode::OutOfBounds, format!("must have at most {} roles", Role::MAX));
        return Vec::new();
    }
    let mut roles: Vec<String> = Vec::with_capacity(names.len());
    for (i, name) in names.iter().enumerate() {
        check_role_name(&format!("roles[{i}]"), name, errors);
        if !roles.contains(name) {
            roles.push(name.clone());
        }
    }
    roles
}

/// A user as the shop shows it: without the hash of its password, and with the names of its roles.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UserAccount {
    /// The id of the user.
    pub id: UserId,
    /// The email address with which the user logs in.
    pub email: String,
    /// When the user proved that the address is its own.
    pub email_verified_at: Option<Timestamp>,
    /// A name for people.
    pub name: Option<String>,
    /// Whether the user has a password.
    pub has_password: bool,
    /// The names of the roles of the user, sorted.
    pub roles: Vec<String>,
    /// The customer that the user is.
    pub customer_id: Option<CustomerId>,
    /// When the user was blocked; `None` if it may log in.
    pub blocked_at: Option<Timestamp>,
    /// When and by whom the user was created and edited, and its version.
    pub audit: Audit,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(input: &UserInput) -> Vec<String> {
        match input.check() {
            Err(crate::Error::Validation(e)) => e.0.into_iter().map(|f| f.field).collect(),
            other => panic!("must be refused: {other:?}"),
        }
    }

    #[test]
    fn r17_every_bad_field_of_a_user_is_named() {
        let good = UserInput::new(" Ada@Example.com ").password("correct horse").role("staff").role("staff");
        let stored = good.check().unwrap();
        assert_eq!((stored.email.as_str(), stored.roles.as_slice()), ("Ada@Example.com", &["staff".to_owned()][..]));
        for (bad, field) in [
            (UserInput { email: "ada".to_owned(), ..good.clone() }, "email"),
            (UserInput { name: Some("x".repeat(201)), ..good.clone() }, "name"),
            (good.clone().password("short"), "password"),
            (good.clone().password("x".repeat(257)), "password"),
            (good.clone().password("x".repeat(2_000_000)), "password"),
            (good.clone().password("aaaaaaaaaaaa"), "password"),
            (good.clone().password("ADA@example.com"), "password"),
            (good.clone().role("No Role"), "roles[2]"),
            (UserInput { roles: vec!["a".to_owned(); 101], ..good.clone() }, "roles"),
        ] {
            assert_eq!(fields(&bad), [field]);
        }
    }

    #[test]
    fn an_address_that_looks_like_another_one_is_not_registered() {
        let accepts = |email: &str| {
            let mut errors = ValidationErrors::default();
            check_spelling(email, &mut errors);
            errors.0.is_empty()
        };
        for email in ["Ada@Example.COM", "ada@xn--strae-oqa.de", "\u{fc}nal@example.com", "", "not an address"] {
            assert!(accepts(email), "{email}");
        }
        // The Kelvin sign, a sharp s, full-width letters, a ligature, a capital with an accent, and a combining accent.
        for email in [
            "\u{212a}im@example.com",
            "ada@stra\u{df}e.de",
            "\u{ff21}da@example.com",
            "o\u{fb03}ce@example.com",
            "\u{dc}nal@example.com",
            "u\u{308}nal@example.com",
        ] {
            assert!(!accepts(email), "{email}");
        }
    }

    #[test]
    fn a_password_is_not_shown() {
        let user = UserInput::new("ada@example.com").password("correct horse");
        assert!(!format!("{user:?}").contains("horse"));
        assert!(!format!("{:?}", PasswordHash::new("$argon2id$secret")).contains("secret"));
    }
}
