//! The search settings of a shop, which can be edited at run time: synonyms and rules.

use std::sync::Arc;

use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::clock::Timestamp;
use crate::domain::access::principal::{Permission, Principal};
use crate::domain::common::ExpectedVersion;
use crate::domain::platform::outbox::EventKind;
use crate::domain::platform::setting::{Setting, SettingName};
use crate::domain::search::rule::{SearchRule, SearchRules};
use crate::domain::search::synonyms::{Synonym, Synonyms};
use crate::error::{Entity, Error, Result};
use crate::port::cache::CacheKey;
use crate::port::storage::Repositories as _;
use crate::service::run::context::Context;
use crate::service::run::read_through::Cached;
use crate::service::run::transaction::{Change, Tx};

/// The service of the search settings of a shop. Each setting is read and replaced as a whole. The process that writes
/// uses the new value at once. Other processes use it at once if they share the cache, and otherwise within
/// [`poll_interval`](crate::config::ShopConfig::poll_interval). Nothing is indexed again.
///
/// A method for which the principal of the service lacks a permission fails with
/// [`Error::Forbidden`](crate::Error::Forbidden), in addition to the errors that it lists.
///
/// ```
/// # async fn app(shop: ecom_core::Shop) -> Result<(), Box<dyn std::error::Error>> {
/// use ecom_core::common::ExpectedVersion;
/// use ecom_core::search::{Synonym, Synonyms};
///
/// let settings = shop.search_settings();
/// let mut synonyms = settings.synonyms().await?;
/// synonyms.value.extend(Synonyms::english());
/// synonyms.value.push(Synonym::two_way(["lantern", "lamp"]));
/// let read = ExpectedVersion::Exact(synonyms.audit.version);
/// settings.replace_synonyms(read, synonyms.value).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy)]
pub struct SearchSettingsService<'a> {
    cx: &'a Arc<Context>,
    who: &'a Principal,
}

impl<'a> SearchSettingsService<'a> {
    pub(crate) const fn new(cx: &'a Arc<Context>, who: &'a Principal) -> Self {
        Self { cx, who }
    }

    /// Returns the synonyms of the shop.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn synonyms(&self) -> Result<Setting<Vec<Synonym>>> {
        self.read(SettingName::Synonyms).await
    }

    /// Returns the rules that pin, hide and boost products.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn rules(&self) -> Result<Setting<Vec<SearchRule>>> {
        self.read(SettingName::SearchRules).await
    }

    async fn read<T: DeserializeOwned>(&self, name: SettingName) -> Result<Setting<T>> {
        self.who.require(Permission::SearchRead)?;
        let found = self.cx.storage.connect().await?.settings().get(name).await?;
        let value = T::deserialize(&found.value).map_err(|e| Error::internal("reading a setting", e))?;
        Ok(found.with(value))
    }

    /// Replaces all synonyms (R1).
    ///
    /// # Errors
    /// `Validation` as [`Synonyms::new`], `VERSION_CONFLICT`, `VERSION_REQUIRED`, `Unavailable`.
    pub async fn replace_synonyms(
        &self,
        expected: ExpectedVersion,
        synonyms: Vec<Synonym>,
    ) -> Result<Setting<Vec<Synonym>>> {
        self.who.require(Permission::SearchWrite)?;
        Synonyms::new(&synonyms, self.cx.config.search_language)?;
        self.replace(SettingName::Synonyms, expected, synonyms).await
    }

    /// [`Self::replace_synonyms`] inside a transaction.
    ///
    /// # Errors
    /// As [`Self::replace_synonyms`].
    pub async fn replace_synonyms_in(
        &self,
        tx: &mut Tx<'_>,
        expected: ExpectedVersion,
        synonyms: Vec<Synonym>,
    ) -> Result<Setting<Vec<Synonym>>> {
        self.who.require(Permission::SearchWrite)?;
        Synonyms::new(&synonyms, self.cx.config.search_language)?;
        self.replace_in(tx, SettingName::Synonyms, expected, &synonyms).await
    }

    /// Replaces all rules (R1). A rule may name products and categories that do not exist: such products are ignored,
    /// and a condition on such a category is never met.
    ///
    /// # Errors
    /// `Validation` as [`SearchRules::new`], `Unsupported` if the search engine cannot pin, hide and boost,
    /// `VERSION_CONFLICT`, `VERSION_REQUIRED`, `Unavailable`.
    pub async fn replace_rules(
        &self,
        expected: ExpectedVersion,
        rules: Vec<SearchRule>,
    ) -> Result<Setting<Vec<SearchRule>>> {
        self.who.require(Permission::SearchWrite)?;
        self.check_rules(&rules)?;
        self.replace(SettingName::SearchRules, expected, rules).await
    }

    /// [`Self::replace_rules`] inside a transaction.
    ///
    /// # Errors
    /// As [`Self::replace_rules`].
    pub async fn replace_rules_in(
        &self,
        tx: &mut Tx<'_>,
        expected: ExpectedVersion,
        rules: Vec<SearchRule>,
    ) -> Result<Setting<Vec<SearchRule>>> {
        self.who.require(Permission::SearchWrite)?;
        self.check_rules(&rules)?;
        self.replace_in(tx, SettingName::SearchRules, expected, &rules).await
    }

    fn check_rules(&self, rules: &[SearchRule]) -> Result<()> {
        SearchRules::check(rules)?;
        if !rules.is_empty() && !self.cx.indices.main.provider.capabilities().merchandising {
            return Err(Error::Unsupported {
                provider: self.cx.indices.main.provider.name(),
                capability: "merchandising",
            });
        }
        Ok(())
    }

    async fn replace<T>(&self, name: SettingName, expected: ExpectedVersion, value: T) -> Result<Setting<T>>
    where
        T: Serialize + DeserializeOwned + Clone + PartialEq + Send + Sync,
    {
        let value = &value;
        self.cx.write(|mut tx| async move { Ok((self.replace_in(&mut tx, name, expected, value).await?, tx)) }).await
    }

    async fn replace_in<T>(
        &self,
        tx: &mut Tx<'_>,
        name: SettingName,
        expected: ExpectedVersion,
        value: &T,
    ) -> Result<Setting<T>>
    where
        T: Serialize + DeserializeOwned + Clone + PartialEq + Send + Sync,
    {
        let stored = serde_json::to_value(value).map_err(|e| Error::internal("writing a setting", e))?;
        tx.started();
        let before = tx.settings().lock(name).await?;
        expected.check(Entity::Setting, before.id, before.audit.version, self.cx.config.last_write_wins)?;
        if T::deserialize(&before.value).ok().as_ref() == Some(value) {
            return tx.ended(Ok(before.with(value.clone())));
        }
        let mut after = Setting { value: stored, ..before.clone() };
        after.audit.edited(self.cx.now(), self.who.actor());
        tx.settings().update(&before, &after).await?;
        tx.emit(Change::edited(EventKind::SettingChanged, &before, &after, self.who.actor())).await?;
        tx.ended(Ok(after.with(value.clone())))
    }
}

/// The settings that searches use, made ready once for each version.
#[derive(Debug, Default)]
pub(crate) struct Ready {
    synonyms: Mutex<Option<Made<Synonyms>>>,
    rules: Mutex<Option<Made<SearchRules>>>,
}

/// A value that was made of a version of a setting.
type Made<T> = (i64, Timestamp, Arc<T>);

impl Ready {
    /// Returns the synonyms of the shop.
    pub(crate) async fn synonyms(cx: &Arc<Context>) -> Result<Arc<Synonyms>> {
        let setting = Self::load(cx, SettingName::Synonyms).await?;
        Ok(made(&cx.search_settings.synonyms, &setting, |setting| {
            Synonyms::stored(&readable(setting), cx.config.search_language)
        }))
    }

    /// Returns the rules of the shop. A search engine without the capability has none.
    pub(crate) async fn rules(cx: &Arc<Context>) -> Result<Arc<SearchRules>> {
        let setting = Self::load(cx, SettingName::SearchRules).await?;
        let able = cx.indices.main.provider.capabilities().merchandising;
        Ok(made(&cx.search_settings.rules, &setting, |setting| {
            let rules: Vec<SearchRule> = readable(setting);
            if !rules.is_empty() && !able {
                let engine = cx.indices.main.provider.name();
                tracing::warn!("the search engine `{engine}` does not support search rules; they are ignored");
                return SearchRules::default();
            }
            SearchRules::stored(rules, cx.config.search_language)
        }))
    }

    async fn load(cx: &Arc<Context>, name: SettingName) -> Result<Arc<Cached<Setting>>> {
        let key = CacheKey::Setting(name.id());
        let load = async { Ok(Some(cx.storage.connect().await?.settings().get(name).await?)) };
        let found = cx.cache.get_or_load(key, cx.config.category_ttl, load).await?;
        found.map(|found| found.value).ok_or_else(|| Error::not_found(Entity::Setting, name.id()))
    }
}

/// Returns what was made of this version of a setting, or makes it.
fn made<T>(place: &Mutex<Option<Made<T>>>, setting: &Setting, make: impl Fn(&Setting) -> T) -> Arc<T> {
    let (version, at) = (setting.audit.version, setting.audit.updated_at);
    if let Some((known, known_at, value)) = &*place.lock()
        && (*known, *known_at) == (version, at)
    {
        return value.clone();
    }
    let value = Arc::new(make(setting));
    *place.lock() = Some((version, at, value.clone()));
    value
}

/// Returns the entries of a stored setting. An entry that this release cannot read, because a newer one has written it,
/// is left out of searches.
fn readable<T: DeserializeOwned>(setting: &Setting) -> Vec<T> {
    let entries = setting.value.as_array().into_iter().flatten();
    let read = entries.filter_map(|entry| {
        T::deserialize(entry)
            .inspect_err(|error| {
                let name = setting.name.as_str();
                tracing::warn!(%error, "an entry of the setting `{name}` cannot be read; searches go on without it");
            })
            .ok()
    });
    read.collect()
}
