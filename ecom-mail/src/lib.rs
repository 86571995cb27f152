//! Mailers behind [`ecom_core::port::Mailer`], and the templates of mails.
//!
//! | Feature | Adapter | URL |
//! |---|---|---|
//! | | [`LogMailer`]: writes mails to the log, for development | `log:` |
//! | | [`FileMailer`]: writes each mail to a file | `file:///<directory>` |
//! | `smtp` | [`SmtpMailer`]: sends mails through a mail server | `smtp://<user>:<password>@<host>:<port>`, `smtps://…` |
//!
//! Every mailer runs the suite `ecom_core::mailer_suite!` (feature `testkit`). A mailer of your own runs it with one
//! line in a test crate.
//!
//! [`Templates`] makes the texts of mails, from the templates of this crate or from files that replace them.

mod eml;
mod file;
mod log;
#[cfg(feature = "smtp")]
mod smtp;
mod template;

pub use self::file::FileMailer;
pub use self::log::LogMailer;
#[cfg(feature = "smtp")]
pub use self::smtp::{SmtpMailer, SmtpOptions, SmtpTls};
pub use self::template::Templates;
