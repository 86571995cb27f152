//! Work that is done again and again.

use async_trait::async_trait;

use crate::error::BoxError;
use crate::port::platform::outbox::Lease;

/// What is done again and again.
#[async_trait]
pub(crate) trait Work: Send {
    /// Does some of what there is to do; true where there may be more. With a lease, it is held at the beginning, and
    /// the call is dropped at an await once it is not.
    async fn step(&mut self, lease: Option<&mut Lease>) -> Result<bool, BoxError>;
}
