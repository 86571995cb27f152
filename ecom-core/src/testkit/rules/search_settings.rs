//! Synonyms and search rules: they are edited as other rows (R1, R13, R17), and every process uses them (R15).

use std::time::Duration;

use serde_json::json;

use super::ShopFixture;
use super::support::{fields, from, me, until, v};
use crate::config::ShopConfig;
use crate::domain::common::ExpectedVersion;
use crate::domain::platform::outbox::EventKind;
use crate::domain::platform::setting::SettingName;
use crate::domain::search::query::{SearchFilter, SearchQuery};
use crate::domain::search::rule::SearchRule;
use crate::domain::search::synonyms::{Synonym, Synonyms};
use crate::error::{ErrorCode, FieldCode};
use crate::shop::Shop;
use crate::testkit::code_of;
use crate::testkit::running::skipped;

tests! {
    __shop_search_settings: [
        r01_a_stale_version_of_the_synonyms_changes_nothing,
        r13_an_edit_of_a_setting_has_one_event,
        r15_every_process_uses_new_synonyms_and_rules,
        r17_synonyms_and_rules_are_checked,
        rules_need_a_search_engine_that_can_follow_them,
    ]
}

fn sofas() -> Vec<Synonym> {
    vec![Synonym::two_way(["sofa", "couch"])]
}

async fn found(shop: &Shop, text: &str) -> Vec<String> {
    let filter = SearchFilter::default();
    let query = SearchQuery { text: text.to_owned(), filter, ..SearchQuery::default() };
    shop.search().search(&query).await.unwrap().products.iter().map(|p| p.title.clone()).collect()
}

/// A write names the version that it has read.
pub async fn r01_a_stale_version_of_the_synonyms_changes_nothing(f: &ShopFixture) {
    let settings = f.shop.search_settings();
    let first = settings.replace_synonyms(v(1), sofas()).await.unwrap();
    assert_eq!((first.audit.version, &first.value), (2, &sofas()));
    assert_eq!(
        code_of(settings.replace_synonyms(v(1), Vec::new()).await, "version 1 is old"),
        ErrorCode::VersionConflict
    );
    let unnamed = settings.replace_synonyms(ExpectedVersion::Unspecified, Vec::new()).await;
    assert_eq!(code_of(unnamed, "no version is named"), ErrorCode::VersionRequired);
    assert_eq!(settings.synonyms().await.unwrap(), first);
    let same = settings.replace_synonyms(v(2), sofas()).await.unwrap();
    assert_eq!(same, first, "a write that changes nothing moves no version");
    assert_eq!(settings.rules().await.unwrap().audit.version, 1, "the rules have a version of their own");
}

/// The event names the setting and its version.
pub async fn r13_an_edit_of_a_setting_has_one_event(f: &ShopFixture) {
    let head = f.head().await;
    let settings = f.shop.acting_as(me()).search_settings();
    settings.replace_synonyms(v(1), sofas()).await.unwrap();
    settings.replace_synonyms(v(2), sofas()).await.unwrap();
    assert_eq!(
        code_of(settings.replace_synonyms(v(1), Vec::new()).await, "version 1 is old"),
        ErrorCode::VersionConflict
    );
    let events = f.events_after(head).await;
    let told: Vec<_> = events.iter().map(|e| (e.kind, e.aggregate_id, e.revision, &e.actor)).collect();
    assert_eq!(told, [(EventKind::SettingChanged, SettingName::Synonyms.id().0, 2, me().actor())]);
}

/// The process that writes uses the settings at once, and another one after it has read the event.
pub async fn r15_every_process_uses_new_synonyms_and_rules(f: &ShopFixture) {
    if !f.search.capabilities().full_text {
        return skipped("shop", "search settings", "the search engine lacks full_text");
    }
    let config = ShopConfig::default().poll_interval(Duration::from_millis(10));
    let other = f.another(config, f.cache());
    let chair = f.plain("Chair").await;
    f.plain("Blue sofa").await;
    f.shop.index().catch_up().await.unwrap();
    // Not before: both write to one index here, and two rebuilds of a new index could overtake each other.
    let background = other.start();
    for shop in [&f.shop, &other] {
        assert_eq!(found(shop, "couch").await, [""; 0]);
    }
    f.shop.search_settings().replace_synonyms(v(1), sofas()).await.unwrap();
    assert_eq!(found(&f.shop, "couches").await, ["Blue sofa"]);
    until("the other process uses the synonyms", async || found(&other, "couch").await == ["Blue sofa"]).await;
    if f.search.capabilities().merchandising {
        let rule: SearchRule = from(&json!({ "name": "chairs first", "query": "couch", "pin": [chair.id] }));
        f.shop.search_settings().replace_rules(v(1), vec![rule]).await.unwrap();
        assert_eq!(found(&f.shop, "couch").await, ["Chair", "Blue sofa"]);
        until("the other process uses the rules", async || found(&other, "couch").await.len() == 2).await;
        assert_eq!(found(&f.shop, "sofa").await, ["Blue sofa"], "another search");
        f.shop.search_settings().replace_rules(v(2), Vec::new()).await.unwrap();
        assert_eq!(found(&f.shop, "couch").await, ["Blue sofa"]);
    }
    f.shop.search_settings().replace_synonyms(v(2), Vec::new()).await.unwrap();
    assert_eq!(found(&f.shop, "couch").await, [""; 0]);
    background.shutdown().await;
}

/// Each entry that is out of bounds is named, and nothing is written.
pub async fn r17_synonyms_and_rules_are_checked(f: &ShopFixture) {
    let settings = f.shop.search_settings();
    let one = Synonym::two_way(["sofa"]);
    let refused = fields(settings.replace_synonyms(v(1), vec![one]).await, "an entry with one word");
    assert_eq!(refused.into_iter().collect::<Vec<_>>(), [("synonyms[0].synonyms".to_owned(), FieldCode::OutOfBounds)]);
    let rule = SearchRule { name: "nothing".to_owned(), ..SearchRule::default() };
    let refused = fields(settings.replace_rules(v(1), vec![rule]).await, "a rule that does nothing");
    assert_eq!(refused.into_iter().collect::<Vec<_>>(), [("rules[0]".to_owned(), FieldCode::Required)]);
    assert_eq!(settings.synonyms().await.unwrap().audit.version, 1);
    assert_eq!(settings.rules().await.unwrap().audit.version, 1);
    let all = settings.replace_synonyms(v(1), Synonyms::english()).await.unwrap();
    assert_eq!(settings.synonyms().await.unwrap(), all, "the starter set can be stored");
}

/// A rule that the engine cannot follow is refused when it is written, so that no search fails.
pub async fn rules_need_a_search_engine_that_can_follow_them(f: &ShopFixture) {
    let chair = f.plain("Chair").await;
    let rule: SearchRule = from(&json!({ "name": "chairs first", "pin": [chair.id] }));
    let written = f.shop.search_settings().replace_rules(v(1), vec![rule]).await.map(drop).map_err(|e| e.code());
    let able = f.search.capabilities().merchandising;
    assert_eq!(written, if able { Ok(()) } else { Err(ErrorCode::Unsupported) });
}
