//! The mailer that sends mails through a mail server (SMTP).

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use derive_setters::Setters;
use ecom_core::platform::MailMessage;
use ecom_core::port::{MailError, Mailer};
use ecom_core::{Error, FieldCode, Result};
use lettre::transport::smtp;
use lettre::transport::smtp::PoolConfig;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Tokio1Executor};
use url::Url;

use crate::eml::message;

/// How a connection to a mail server is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SmtpTls {
    /// The connection begins with TLS, usually on port 465.
    Implicit,
    /// The connection begins in clear and must change to TLS (STARTTLS) before anything is sent, usually on port 587.
    StartTls,
    /// Everything is sent in clear.
    None,
}

/// Settings of a [`SmtpMailer`]. Their `Debug` shows no password.
#[derive(Clone, PartialEq, Eq, Setters)]
#[setters(strip_option, into)]
#[non_exhaustive]
pub struct SmtpOptions {
    /// The name or address of the mail server, which its certificate must contain.
    pub host: String,
    /// The port.
    pub port: u16,
    /// How the connection is encrypted.
    pub tls: SmtpTls,
    /// The name of the user and its password; without them, the mailer does not authenticate.
    pub credentials: Option<(String, String)>,
    /// A certificate authority in PEM, in addition to those of the machine.
    pub authority: Option<Vec<u8>>,
    /// How long sending a mail may take. 1 s to 2 min, default 20 s.
    pub timeout: Duration,
    /// The maximum number of connections, 1–100. Default 4.
    pub connections: u32,
}

impl fmt::Debug for SmtpOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SmtpOptions")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("tls", &self.tls)
            .finish_non_exhaustive()
    }
}

impl SmtpOptions {
    /// Returns the settings of a URL: `smtp://user:password@host:port` encrypts by STARTTLS, `smtps://…` from the
    /// beginning of the connection. Users and passwords are percent-encoded.
    ///
    /// | Parameter | Default | Meaning |
    /// |---|---|---|
    /// | `tls` | `starttls` | `none` sends everything in clear, with `smtp` only; a password may then be sent to this machine only |
    /// | `ca` | none | the file of a certificate authority in PEM, in addition to those of the machine |
    /// | `timeout_ms` | `20000` | how long sending a mail may take, 1,000–120,000 |
    /// | `connections` | `4` | the maximum number of connections, 1–100 |
    ///
    /// # Errors
    /// `Validation` on `mailer` if the URL or the file cannot be read. No message shows the URL.
    pub fn from_url(text: &str) -> Result<Self> {
        let url = Url::parse(text).map_err(|_| bad("must be a URL such as `smtp://user:password@mail.example.com`"))?;
        let (mut tls, port) = match url.scheme() {
            "smtps" => (SmtpTls::Implicit, 465),
            "smtp" => (SmtpTls::StartTls, 587),
            _ => return Err(bad("must start with `smtp://` or `smtps://`")),
        };
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or_else(|| bad("must name a host"))?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        if !matches!(url.path(), "" | "/") || url.fragment().is_some() {
            return Err(bad("must not have a path or a fragment"));
        }
        let decoded = |text: &str| {
            let text = percent_encoding::percent_decode_str(text).decode_utf8();
            text.map(String::from).map_err(|_| bad("must have a user and a password in UTF-8"))
        };
        let credentials = match (url.username(), url.password()) {
            ("", None) => None,
            (user, Some(password)) if !user.is_empty() => Some((decoded(user)?, decoded(password)?)),
            _ => return Err(bad("must have both a user and a password, or neither")),
        };
        let (mut authority, mut timeout, mut connections) = (None, Duration::from_secs(20), 4);
        for (name, value) in url.query_pairs() {
            match &*name {
                "tls" => match &*value {
                    "starttls" if url.scheme() == "smtp" => {}
                    "none" if url.scheme() == "smtp" => tls = SmtpTls::None,
                    _ => return Err(bad("must have `tls=starttls` or `tls=none`, and neither with `smtps`")),
                },
                "ca" => {
                    let pem = std::fs::read(&*value).map_err(|e| {
                        bad(&format!("must have a `ca` that names a file that can be read ({})", e.kind()))
                    })?;
                    authority = Some(pem);
                }
                "timeout_ms" => timeout = Duration::from_millis(number(&name, &value, 1_000..=120_000)?),
                "connections" => connections = u32::try_from(number(&name, &value, 1..=100)?).unwrap_or(4),
                _ => return Err(bad("must have no parameters but `tls`, `ca`, `timeout_ms` and `connections`")),
            }
        }
        let port = url.port().unwrap_or(port);
        let options = Self { host, port, tls, credentials, authority, timeout, connections };
        options.check()?;
        Ok(options)
    }

    fn check(&self) -> Result<()> {
        let is_here = self.host == "localhost" || self.host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
        if self.tls == SmtpTls::None && self.credentials.is_some() && !is_here {
            return Err(bad("must not send a password in clear: leave out `tls=none`, or the user and password"));
        }
        if !(Duration::from_secs(1)..=Duration::from_secs(120)).contains(&self.timeout) {
            return Err(bad("must have a timeout between 1 s and 2 min"));
        }
        if !(1..=100).contains(&self.connections) {
            return Err(bad("must have 1 to 100 connections"));
        }
        Ok(())
    }
}

fn bad(message: &str) -> Error {
    Error::invalid("mailer", FieldCode::Malformed, message)
}

fn number(name: &str, value: &str, bounds: std::ops::RangeInclusive<u64>) -> Result<u64> {
    let found = value.parse().ok().filter(|n| bounds.contains(n));
    found.ok_or_else(|| bad(&format!("must have a `{name}` from {} to {}", bounds.start(), bounds.end())))
}

/// A mailer that sends mails through a mail server: `smtp://…`, `smtps://…`.
///
/// It keeps connections, and connects anew if one has ended. Opening it does not connect.
#[derive(Debug)]
pub struct SmtpMailer {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    timeout: Duration,
}

impl SmtpMailer {
    /// Returns a mailer.
    ///
    /// # Errors
    /// `Validation` on `mailer` if a setting is out of bounds or the certificate authority cannot be read.
    pub fn open(options: SmtpOptions) -> Result<Self> {
        options.check()?;
        let SmtpOptions { host, port, tls, credentials, authority, timeout, connections } = options;
        let parameters = || -> Result<TlsParameters> {
            let mut builder = TlsParameters::builder(host.clone());
            if let Some(pem) = &authority {
                let unreadable = |_| bad("must have a `ca` that is a certificate in PEM");
                builder = builder.add_root_certificate(Certificate::from_pem(pem).map_err(unreadable)?);
            }
            builder.build_rustls().map_err(|e| Error::internal("TLS cannot be set up", e))
        };
        let tls = match tls {
            SmtpTls::Implicit => Tls::Wrapper(parameters()?),
            SmtpTls::StartTls => Tls::Required(parameters()?),
            SmtpTls::None => Tls::None,
        };
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&host)
            .port(port)
            .tls(tls)
            .timeout(Some(timeout))
            .pool_config(PoolConfig::new().max_size(connections));
        if let Some((user, password)) = credentials {
            builder = builder.credentials(Credentials::new(user, password));
        }
        Ok(Self { transport: builder.build(), timeout })
    }
}

#[async_trait]
impl Mailer for SmtpMailer {
    fn name(&self) -> &'static str {
        "smtp"
    }

    async fn send(&self, mail: &MailMessage) -> Result<(), MailError> {
        let message = message(mail)?;
        // The timeout of the library applies to each response of the server, and not to the whole call.
        match tokio::time::timeout(self.timeout, self.transport.send(message)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(refused(error)),
            Err(elapsed) => Err(MailError::temporary("the mail server does not answer in time").source(elapsed)),
        }
    }

    async fn close(&self) {
        self.transport.shutdown().await;
    }
}

/// Converts an error of the library.
fn refused(error: smtp::Error) -> MailError {
    let code = error.status().map(u16::from);
    let made = match code {
        // The mail is fine, but the settings are wrong: an operator can correct them.
        Some(530 | 534 | 535 | 538) => MailError::temporary("the mail server refuses the user or its password"),
        Some(502..=504) => MailError::temporary("the mail server does not support a command"),
        Some(500..) => MailError::permanent("the mail server refuses the mail"),
        Some(_) => MailError::temporary("the mail server does not accept the mail at the moment"),
        None if error.is_tls() => MailError::temporary("the connection to the mail server cannot be encrypted"),
        None if error.is_timeout() => MailError::temporary("the mail server does not answer in time"),
        None => MailError::temporary("the mail server cannot be reached or does not answer as expected"),
    };
    made.code(code).source(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_have_the_settings_of_a_mail_server() {
        let read = |url: &str| SmtpOptions::from_url(url).unwrap();
        let plain = read("smtp://mail.example.com");
        assert_eq!((plain.host.as_str(), plain.port, plain.tls), ("mail.example.com", 587, SmtpTls::StartTls));
        assert_eq!((plain.credentials, plain.timeout, plain.connections), (None, Duration::from_secs(20), 4));
        let full = read("smtps://ada%40example.com:p%3Aw@mail.example.com:2465?timeout_ms=5000&connections=9");
        assert_eq!((full.port, full.tls), (2465, SmtpTls::Implicit));
        assert_eq!(full.credentials, Some(("ada@example.com".to_owned(), "p:w".to_owned())));
        assert_eq!((full.timeout, full.connections), (Duration::from_secs(5), 9));
        let local = read("smtp://a:b@[::1]:25?tls=none");
        assert_eq!((local.host.as_str(), local.port, local.tls), ("::1", 25, SmtpTls::None));
        assert!(!format!("{local:?}").contains("\"b\""));
    }

    #[test]
    fn bad_urls_are_refused_and_not_shown() {
        for url in [
            "",
            "smtp://",
            "smtp://user@hunter2.example",
            "smtp://:hunter2@example.com",
            "smtp://u:hunter2@example.com?tls=none",
            "smtps://u:hunter2@example.com?tls=starttls",
            "smtp://u:hunter2@example.com/path",
            "smtp://u:hunter2@example.com?timeout_ms=1",
            "smtp://u:hunter2@example.com?connections=0",
            "smtp://u:hunter2@example.com?ca=/nowhere/hunter2.pem",
            "smtp://u:hunter2@example.com?password=hunter2",
            "http://u:hunter2@example.com",
        ] {
            let Err(Error::Validation(errors)) = SmtpOptions::from_url(url) else { panic!("{url} must be refused") };
            assert_eq!(errors.0[0].field, "mailer");
            assert!(!errors.0[0].message.contains("hunter2"), "{}", errors.0[0].message);
        }
    }
}
