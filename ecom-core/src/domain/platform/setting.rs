//! Stored settings: documents in the database that can be edited at run time, unlike the settings of the environment.
//! Each is one row, which the migrations create.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::domain::common::Audit;
use crate::domain::platform::audit_log::Audited;
use crate::domain::words::words;
use crate::id::SettingId;

words! {
    /// The name of a setting.
    SettingName {
        /// The synonyms of searches.
        Synonyms = "synonyms",
        /// The rules that pin, hide and boost products in searches.
        SearchRules = "search_rules",
        /// The keys that sign access tokens, encrypted.
        SigningKeys = "signing_keys",
    }
}

impl SettingName {
    /// Returns the id of the row, which is the same in every shop.
    pub const fn id(self) -> SettingId {
        match self {
            Self::Synonyms => SettingId(Uuid::from_u128(1)),
            Self::SearchRules => SettingId(Uuid::from_u128(2)),
            Self::SigningKeys => SettingId(Uuid::from_u128(3)),
        }
    }
}

/// A setting of a shop. `T` is the type of its value; the database stores JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Setting<T = Value> {
    /// The id.
    pub id: SettingId,
    /// The name.
    pub name: SettingName,
    /// The value.
    pub value: T,
    /// When and by whom the setting was edited, and its version. A setting that nobody has edited has version 1 and the
    /// time of the migration.
    pub audit: Audit,
}

impl Audited for Setting {
    fn id(&self) -> Uuid {
        self.id.0
    }

    fn revision(&self) -> i64 {
        self.audit.version
    }

    fn document(&self) -> Map<String, Value> {
        let value = match self.name {
            SettingName::Synonyms | SettingName::SearchRules => self.value.clone(),
            // Only the names of the keys.
            SettingName::SigningKeys => {
                self.value.as_array().into_iter().flatten().map(|key| key["kid"].clone()).collect()
            }
        };
        // Under its name, because the differences between two objects would not name the setting.
        Map::from_iter([(self.name.as_str().to_owned(), value)])
    }
}

impl<T> Setting<T> {
    /// Returns the setting with another value.
    pub fn with<U>(self, value: U) -> Setting<U> {
        let Self { id, name, value: _, audit } = self;
        Setting { id, name, value, audit }
    }
}
