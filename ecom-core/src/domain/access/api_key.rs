//! API keys: secrets by which machines call the shop.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::Datelike as _;
use derive_setters::Setters;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::domain::access::principal::Permission;
use crate::domain::access::secret::{Secret, SecretHash};
use crate::domain::common::{Actor, Audit, Patch};
use crate::domain::platform::audit_log::{Audited, fields};
use crate::error::{FieldCode, Result, ValidationErrors};
use crate::id::ApiKeyId;
use crate::text::check_text;

/// An API key. Its secret is returned once, when the key is created; the database has its hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ApiKey {
    /// The id of the key.
    pub id: ApiKeyId,
    /// A name for people, 1–100 characters.
    pub name: String,
    /// The first characters of the secret ([`ApiKey::PREFIX_LENGTH`]), by which people recognize the key.
    pub prefix: String,
    /// The hash of the secret, which no other key has.
    #[serde(skip)]
    pub hash: SecretHash,
    /// The permissions that the key grants.
    pub permissions: BTreeSet<Permission>,
    /// Whether the key may do everything, including what later releases add. Only a key that
    /// [`ApiKeyService::ensure_admin`](crate::access::ApiKeyService::ensure_admin) created has this.
    pub is_admin: bool,
    /// When the key expires; `None` if it does not.
    pub expires_at: Option<Timestamp>,
    /// When the key was last used, to about a minute; `None` if it never was.
    pub last_used_at: Option<Timestamp>,
    /// When and by whom the key was created and edited, and its version.
    pub audit: Audit,
}

impl Audited for ApiKey {
    fn id(&self) -> Uuid {
        self.id.0
    }

    fn revision(&self) -> i64 {
        self.audit.version
    }

    fn document(&self) -> Map<String, Value> {
        fields(self, &["id", "last_used_at"])
    }
}

impl ApiKey {
    /// The beginning of every secret, so that people and scanners recognize keys of ecom.
    pub const MARK: &'static str = "ecom_";

    /// The length of [`ApiKey::prefix`], in characters.
    pub const PREFIX_LENGTH: usize = Self::MARK.len() + 6;

    /// The minimum number of characters of a secret that the application chooses.
    pub const MIN_SECRET_LENGTH: usize = 32 + Self::MARK.len();
    /// The maximum number of characters of a secret.
    pub const MAX_SECRET_LENGTH: usize = 100;

    /// How long a key is kept after it has expired, so that people see in the list why it is refused: 90 days.
    pub const KEPT: Duration = Duration::from_secs(90 * 86_400);

    /// Returns a secret that the application has chosen for
    /// [`ApiKeyService::ensure_admin`](crate::access::ApiKeyService::ensure_admin); `None` if the text does not begin
    /// with [`ApiKey::MARK`], is too short or too long, or has other characters than letters, digits, `-` and `_`.
    pub fn secret_from_text(text: &str) -> Option<Secret> {
        let lengths = Self::MIN_SECRET_LENGTH..=Self::MAX_SECRET_LENGTH;
        let is_secret = text.starts_with(Self::MARK)
            && lengths.contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
        is_secret.then(|| Secret::new(text))
    }

    /// Returns a secret made of these random bytes.
    pub(crate) fn secret(bytes: [u8; 32]) -> Secret {
        Secret::new(format!("{}{}", Self::MARK, Secret::from_random(bytes).reveal()))
    }

    /// Returns the prefix of a secret.
    pub(crate) fn prefix_of(secret: &Secret) -> String {
        secret.reveal().chars().take(Self::PREFIX_LENGTH).collect()
    }

    /// Returns true if the key is accepted at this time.
    pub fn is_valid(&self, now: Timestamp) -> bool {
        self.expires_at.is_none_or(|end| now < end)
    }

    /// Returns the actor that rows and events record for what is done with the key.
    pub fn actor(&self) -> Actor {
        actor_of(self.id)
    }
}

/// Returns the actor of an API key.
pub(crate) fn actor_of(id: ApiKeyId) -> Actor {
    Actor::new(format!("{OF_KEYS}{id}"))
}

/// Returns the API key whose actor this is; `None` if it is that of something else.
pub(crate) fn id_of(actor: &str) -> Option<ApiKeyId> {
    actor.strip_prefix(OF_KEYS)?.parse().ok()
}

/// The beginning of the actors of API keys.
const OF_KEYS: &str = "api_key:";

/// An API key that was created, with its secret, which nobody can read again.
#[derive(Debug, Clone)]
pub struct CreatedApiKey {
    /// The key.
    pub key: ApiKey,
    /// The secret.
    pub secret: Secret,
}

/// An API key to create.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Setters)]
#[serde(deny_unknown_fields)]
#[setters(strip_option, into)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ApiKeyInput {
    /// A name for people, 1–100 characters.
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 100, example = "warehouse robot"))]
    #[setters(skip)]
    pub name: String,
    /// The permissions that the key grants, such as `stock:adjust`, at least one.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<Permission>))]
    #[serde(default)]
    pub permissions: BTreeSet<Permission>,
    /// When the key expires; it does not if this is absent.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
    #[serde(default)]
    pub expires_at: Option<Timestamp>,
}

/// A merge patch of an API key (RFC 7396): fields that it leaves out stay unchanged.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ApiKeyPatch {
    /// A name for people, 1–100 characters; null is refused.
    #[serde(default)]
    pub name: Patch<String>,
    /// The permissions that the key grants, all of them, at least one; null is refused.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Vec<Permission>>))]
    #[serde(default)]
    pub permissions: Patch<BTreeSet<Permission>>,
    /// When the key expires; null removes the expiry.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
    #[serde(default)]
    pub expires_at: Patch<Timestamp>,
    /// The version of the key that the client read (R1), unless `If-Match` names it.
    #[serde(default)]
    pub version: Option<i64>,
}

impl ApiKeyInput {
    /// Returns a key with this name and these permissions.
    pub fn new(name: impl Into<String>, permissions: impl IntoIterator<Item = Permission>) -> Self {
        Self { name: name.into(), permissions: permissions.into_iter().collect(), expires_at: None }
    }

    /// Checks the input and returns it as it is stored.
    ///
    /// # Errors
    /// `Validation` with every field that is out of bounds.
    pub(crate) fn check(&self) -> Result<Self> {
        let mut e = ValidationErrors::default();
        check_text("name", self.name.trim(), 1, 100, &mut e);
        if self.expires_at.is_some_and(|end| !(1970..=9999).contains(&end.year())) {
            e.push("expires_at", FieldCode::OutOfBounds, "must be in the years 1970 to 9999");
        }
        if self.permissions.is_empty() {
            e.push("permissions", FieldCode::Required, "must have at least one permission");
        }
        e.into_result()?;
        Ok(Self { name: self.name.trim().to_owned(), ..self.clone() })
    }
}

impl ApiKeyPatch {
    /// Merges the patch into a key and returns the result as an input.
    ///
    /// # Errors
    /// `Validation` with every field that must not be null.
    pub(crate) fn onto(self, key: &ApiKey) -> Result<ApiKeyInput> {
        let mut e = ValidationErrors::default();
        let mut input =
            ApiKeyInput { name: key.name.clone(), permissions: key.permissions.clone(), expires_at: key.expires_at };
        self.name.apply_required(&mut input.name, "name", &mut e);
        self.permissions.apply_required(&mut input.permissions, "permissions", &mut e);
        self.expires_at.apply(&mut input.expires_at);
        e.into_result()?;
        Ok(input)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_has_a_mark_and_a_prefix() {
        let secret = ApiKey::secret([255; 32]);
        assert_eq!(secret.reveal(), "ecom___________________________________________8");
        assert_eq!(ApiKey::prefix_of(&secret), "ecom_______");
        assert_eq!(ApiKey::prefix_of(&secret).len(), ApiKey::PREFIX_LENGTH);
        assert_eq!(format!("{secret:?}"), "Secret(…)");
    }

    #[test]
    fn r17_a_key_needs_a_name_and_a_permission() {
        assert!(ApiKeyInput::new("robot", [Permission::StockAdjust]).check().is_ok());
        assert!(ApiKeyInput::new(" ", [Permission::StockAdjust]).check().is_err());
        assert!(ApiKeyInput::new("robot", []).check().is_err());
        for (year, is_good) in [(-1, false), (1969, false), (1970, true), (9999, true), (10_000, false)] {
            let end = chrono::NaiveDate::from_ymd_opt(year, 6, 1).unwrap().and_time(chrono::NaiveTime::MIN).and_utc();
            let input = ApiKeyInput { expires_at: Some(end), ..ApiKeyInput::new("robot", [Permission::StockAdjust]) };
            assert_eq!(input.check().is_ok(), is_good, "{year}");
        }
    }
}
