//! Settings that a shop edits while it runs.

use crate::domain::platform::setting::{Setting, SettingName};
use crate::error::Result;

port! {
    /// The settings of a shop. The migrations create each of them, with an empty JSON array as its value.
    ///
    /// Every method fails with `Unavailable` if the database cannot be reached.
    pub trait SettingRepository / ForwardSettings(&mut self): Send {
        /// Returns a setting.
        async fn get(&mut self, name: SettingName) -> Result<Setting>;

        /// Locks a setting until the end of the transaction, and returns it as it is then.
        async fn lock(&mut self, name: SettingName) -> Result<Setting>;

        /// Writes `after` over `before`, which this transaction has locked.
        ///
        /// # Errors
        /// `VERSION_CONFLICT` if the row is no longer at `before`'s version.
        async fn update(&mut self, before: &Setting, after: &Setting) -> Result<()>;
    }
}
