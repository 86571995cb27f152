//! The contract of [`SettingRepository`](crate::port::SettingRepository).

use std::sync::Arc;

use serde_json::json;

use crate::domain::common::Actor;
use crate::domain::platform::setting::{Setting, SettingName};
use crate::error::ErrorCode;
use crate::port::storage::Storage;
use crate::testkit::check::{holds, same};
use crate::testkit::code_of;

suite! {
    /// Runs the suite of [`SettingRepository`](crate::port::SettingRepository). Takes the path of an
    /// `async fn() -> StorageFixture`; see [`testkit`](crate::testkit).
    setting_suite, setting: fixture => &fixture.storage, __setting_tests: [
        every_setting_exists_and_is_empty,
        a_setting_is_stored_whole_and_the_others_stay,
        r01_a_setting_of_another_version_is_not_overwritten,
    ]
}

fn edited(before: &Setting, value: serde_json::Value) -> Setting {
    let mut after = before.clone();
    after.value = value;
    after.audit.edited(before.audit.updated_at, &Actor::new("user:editor"));
    after
}

/// The migrations create each setting.
pub async fn every_setting_exists_and_is_empty(storage: &Arc<dyn Storage>) {
    for name in SettingName::ALL {
        let setting = read!(storage, settings.get(*name));
        let contract = "Each setting exists from the beginning, with version 1 and an empty array.";
        same((setting.id, setting.name), (name.id(), *name), contract, name.as_str());
        same((setting.value, setting.audit.version), (json!([]), 1), contract, name.as_str());
        holds(setting.audit.deleted_at.is_none(), contract, name.as_str());
    }
}

/// A value comes back as it was written.
pub async fn a_setting_is_stored_whole_and_the_others_stay(storage: &Arc<dyn Storage>) {
    let other = read!(storage, settings.get(SettingName::SearchRules));
    let mut before = attempt!(storage, settings.lock(SettingName::Synonyms)).unwrap();
    let long: Vec<String> = (0..20_000).map(|n| format!("word {n} ä 🛋 \"\\")).collect();
    for value in [json!([{ "synonyms": ["sofa", "couch"] }]), json!(long), json!([null, 1, true, {}])] {
        let after = edited(&before, value);
        attempt!(storage, settings.update(&before, &after)).unwrap();
        let contract = "A setting is read as it was written.";
        same(read!(storage, settings.get(SettingName::Synonyms)), after.clone(), contract, "`get`");
        same(attempt!(storage, settings.lock(SettingName::Synonyms)).unwrap(), after.clone(), contract, "`lock`");
        before = after;
    }
    let contract = "An update of one setting leaves the others.";
    same(read!(storage, settings.get(SettingName::SearchRules)), other, contract, "the rules");
}

/// The version of the row is compared.
pub async fn r01_a_setting_of_another_version_is_not_overwritten(storage: &Arc<dyn Storage>) {
    let before = read!(storage, settings.get(SettingName::Synonyms));
    let after = edited(&before, json!([1]));
    attempt!(storage, settings.update(&before, &after)).unwrap();
    let late = edited(&before, json!([2]));
    let refused = attempt!(storage, settings.update(&before, &late));
    assert_eq!(code_of(refused, "the row has another version"), ErrorCode::VersionConflict);
    let contract = "A refused update changes nothing.";
    same(read!(storage, settings.get(SettingName::Synonyms)), after, contract, "version 2");
}
