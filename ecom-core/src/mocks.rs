//! Mocks of the ports that an application replaces in its unit tests (feature `mocks`), made by mockall.
//!
//! ```
//! use ecom_core::clock::Clock as _;
//! use ecom_core::mocks::MockClock;
//!
//! let mut clock = MockClock::new();
//! clock.expect_now().return_const(chrono::DateTime::UNIX_EPOCH);
//! assert_eq!(clock.now().timestamp(), 0);
//! ```

pub use crate::clock::MockClock;
pub use crate::id::MockIdSource;
pub use crate::port::cache::MockCache;
pub use crate::port::catalog::media::MockMediaStore;
pub use crate::port::mailer::MockMailer;
pub use crate::port::rate_limiter::MockRateLimiter;
pub use crate::port::search::MockSearchProvider;
pub use crate::port::webhook_sender::MockWebhookSender;
