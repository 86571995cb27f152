//! The sources of settings: `.env` and the TOML file, which are merged by name.

use std::collections::BTreeMap;

use ecom_core::{FieldCode, ValidationErrors};

/// The names of all settings. A TOML file can contain all but `ECOM_CONFIG`; its keys are the names in lower case
/// without `ECOM_`.
pub(super) const NAMES: [&str; 128] = [
    "ECOM_LISTEN",
    "PORT",
    "ECOM_DATA",
    "DATABASE_URL",
    "DATABASE_URL_FILE",
    "DATABASE_DIRECT_URL",
    "DATABASE_DIRECT_URL_FILE",
    "ECOM_MIGRATE",
    "SEARCH_URL",
    "SEARCH_URL_FILE",
    "SEARCH_FALLBACK_URL",
    "SEARCH_FALLBACK_URL_FILE",
    "CACHE_URL",
    "CACHE_URL_FILE",
    "RATE_LIMITER_URL",
    "RATE_LIMITER_URL_FILE",
    "MAILER_URL",
    "MAILER_URL_FILE",
    "MEDIA_URL",
    "MEDIA_URL_FILE",
    "ECOM_MEDIA_BASE_URL",
    "ECOM_MEDIA_RETENTION",
    "ECOM_DATABASE_POOL",
    "ECOM_DATABASE_ACQUIRE_TIMEOUT",
    "ECOM_DATABASE_STATEMENT_TIMEOUT",
    "ECOM_DATABASE_LIFETIME",
    "ECOM_CURRENCY",
    "ECOM_PRICE_BUCKETS",
    "ECOM_SEARCH_LANGUAGE",
    "ECOM_LAST_WRITE_WINS",
    "ECOM_KEEP_SOLD",
    "ECOM_TOTAL_BOUND",
    "ECOM_PRODUCT_TTL",
    "ECOM_CATEGORY_TTL",
    "ECOM_POLL_INTERVAL",
    "ECOM_LEASE_TTL",
    "ECOM_INDEX_BATCH",
    "ECOM_OUTBOX_RETENTION",
    "ECOM_IDEMPOTENCY_RETENTION",
    "ECOM_CART_TTL",
    "ECOM_SEARCH_TIMEOUT",
    "ECOM_SEARCH_LOG",
    "ECOM_SEARCH_LOG_INTERVAL",
    "ECOM_SEARCH_LOG_RETENTION",
    "ECOM_TIME_ZONE",
    "ECOM_ANALYTICS_INTERVAL",
    "ECOM_SECRET_KEY",
    "ECOM_SECRET_KEY_FILE",
    "ECOM_ACCESS_TOKEN_TTL",
    "ECOM_SESSION_TTL",
    "ECOM_TOKEN_ISSUER",
    "ECOM_TOKEN_ALGORITHM",
    "ECOM_SHOP_NAME",
    "ECOM_PUBLIC_URL",
    "ECOM_MAIL_FROM",
    "ECOM_MAIL_TEMPLATES",
    "ECOM_ORDER_CONFIRMATION",
    "ECOM_ABANDONED_CART_AFTER",
    "ECOM_LOW_STOCK_MAIL",
    "ECOM_VERIFICATION_TTL",
    "ECOM_PASSWORD_RESET_TTL",
    "ECOM_PASSWORD_HASHES",
    "ECOM_OIDC_ISSUER",
    "ECOM_OIDC_AUDIENCE",
    "ECOM_OIDC_JWKS_URL",
    "ECOM_OIDC_ALGORITHMS",
    "ECOM_OIDC_ROLES_CLAIM",
    "ECOM_OIDC_ROLE_MAP",
    "ECOM_REFRESH_COOKIE",
    "ECOM_REFRESH_COOKIE_SECURE",
    "ECOM_ADJUSTMENT_BATCH",
    "ECOM_ORDER_BATCH",
    "ECOM_LIVE_BUFFER",
    "ECOM_WEBHOOKS_ALLOW",
    "ECOM_WEBHOOKS_ALLOW_HTTP",
    "ECOM_WEBHOOKS_TIMEOUT",
    "ECOM_WEBHOOKS_RETENTION",
    "ECOM_WEBHOOKS_OFF_AFTER",
    "ECOM_API_PREFIX",
    "ECOM_ONLY",
    "ECOM_PAGE_SIZE",
    "ECOM_MAX_PAGE_SIZE",
    "ECOM_BODY_LIMIT",
    "ECOM_IMPORT_LIMIT",
    "ECOM_IMAGE_LIMIT",
    "ECOM_QUERY_LIMIT",
    "ECOM_HEADER_LIMIT",
    "ECOM_NUMBERS",
    "ECOM_ADMIN_PAGE",
    "ECOM_AUTH",
    "ECOM_AUTH_OFF_ON_NETWORK",
    "ECOM_ADMIN_KEY",
    "ECOM_ADMIN_KEY_FILE",
    "ECOM_REQUEST_TIMEOUT",
    "ECOM_MAX_REQUESTS",
    "ECOM_MAX_CONNECTIONS",
    "ECOM_LIVE_CLIENTS",
    "ECOM_LIVE_LIFETIME",
    "ECOM_LIVE_HEARTBEAT",
    "ECOM_RATE_LIMIT",
    "ECOM_RATE_LIMIT_ADDRESS",
    "ECOM_RATE_LIMIT_PRINCIPAL",
    "ECOM_RATE_LIMIT_LOGIN",
    "ECOM_RATE_LIMIT_REGISTRATION",
    "ECOM_RATE_LIMIT_ORDERS",
    "ECOM_TRUSTED_PROXIES",
    "ECOM_PROXY_HEADER",
    "ECOM_HEADER_TIMEOUT",
    "ECOM_KEEP_ALIVE_TIMEOUT",
    "ECOM_SEND_TIMEOUT",
    "ECOM_MAX_HEADERS",
    "ECOM_MAX_STREAMS",
    "ECOM_PING_INTERVAL",
    "ECOM_SHUTDOWN_TIMEOUT",
    "ECOM_CORS_ORIGINS",
    "ECOM_METRICS",
    "ECOM_ACCESS_LOG",
    "ECOM_LOG",
    "ECOM_LOG_FORMAT",
    "ECOM_LOG_FILE",
    "ECOM_LOG_FILE_SIZE",
    "ECOM_LOG_FILES",
    "ECOM_OTLP_ENDPOINT",
    "ECOM_OTLP_ENDPOINT_FILE",
    "ECOM_TRACE_SAMPLE",
    "ECOM_TRACE_SERVICE",
    "ECOM_FEEDS",
    "ECOM_CONFIG",
];

/// Returns a value, unless it is absent or empty.
pub(super) fn present<'v>(values: &'v BTreeMap<&'static str, String>, name: &str) -> Option<&'v str> {
    values.get(name).map(|v| v.trim()).filter(|v| !v.is_empty())
}

/// Adds the settings of a later source that no earlier source has set. A URL and the file that contains it count as one
/// setting.
pub(super) fn merge(values: &mut BTreeMap<&'static str, String>, later: BTreeMap<&'static str, String>) {
    let taken: Vec<&str> = NAMES
        .into_iter()
        .filter(|name| {
            let other = name.strip_suffix("_FILE").map_or_else(|| format!("{name}_FILE"), str::to_owned);
            present(values, name).is_some() || present(values, &other).is_some()
        })
        .collect();
    values.extend(later.into_iter().filter(|(name, _)| !taken.contains(name)));
}

/// Returns the message for a file that cannot be read, without its path.
pub(super) fn unreadable(e: &std::io::Error) -> String {
    format!("must be the path of a file that can be read ({})", e.kind())
}

fn known(name: &str) -> Option<&'static str> {
    NAMES.into_iter().find(|n| *n == name)
}

/// Returns a warning about a variable whose name begins like that of a setting but is not one.
pub(super) fn unknown(name: &str) -> Option<String> {
    let upper = name.to_ascii_uppercase();
    if !upper.starts_with("ECOM_") || known(name).is_some() {
        return None;
    }
    Some(match nearest(&upper) {
        Some(near) => format!("{name} is not a setting, and has no effect; did you mean `{near}`?"),
        None => format!("{name} is not a setting, and has no effect"),
    })
}

/// Returns the setting whose name differs the least from this one, if it differs by at most two characters, or by the
/// prefix `ECOM_`.
fn nearest(name: &str) -> Option<&'static str> {
    if let Some(same) = known(name).or_else(|| known(name.strip_prefix("ECOM_")?)) {
        return Some(same);
    }
    let (distance, near) = NAMES.into_iter().map(|known| (edits(name, known), known)).min()?;
    (distance <= 2).then_some(near)
}

/// Returns the number of characters to insert, delete or replace that make one name of the other.
fn edits(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut before = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.bytes().enumerate() {
            let replaced = before + usize::from(x != y);
            before = row[j + 1];
            row[j + 1] = replaced.min(before + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

/// Returns the settings of `.env` in the working directory, or none if there is no such file. Adds the names of all its
/// variables to `names`.
pub(super) fn dot_env(names: &mut Vec<String>, errors: &mut ValidationErrors) -> BTreeMap<&'static str, String> {
    let mut values = BTreeMap::new();
    let lines = match dotenvy::from_path_iter(".env") {
        Ok(lines) => lines,
        Err(dotenvy::Error::Io(e)) if e.kind() == std::io::ErrorKind::NotFound => return values,
        Err(_) => {
            errors.push(".env", FieldCode::Malformed, "must be a file that can be read");
            return values;
        }
    };
    for line in lines {
        match line {
            Ok((name, value)) => {
                if let Some(name) = known(&name) {
                    values.entry(name).or_insert(value);
                }
                names.push(name);
            }
            // The error of the parser shows the line, which may contain a secret.
            Err(_) => {
                errors.push(".env", FieldCode::Malformed, "must contain only lines of the form `NAME=value`");
                break;
            }
        }
    }
    values
}

/// Returns the settings of a TOML file.
pub(super) fn toml_values(text: &str, errors: &mut ValidationErrors) -> BTreeMap<&'static str, String> {
    let mut values = BTreeMap::new();
    let table: toml::Table = match text.parse() {
        Ok(table) => table,
        // The error of the parser shows the line, which may contain a secret.
        Err(e) => {
            let e: toml::de::Error = e;
            let line = e.span().map_or(0, |s| text[..s.start.min(text.len())].lines().count().max(1));
            errors.push(
                "ECOM_CONFIG",
                FieldCode::Malformed,
                format!("must be valid TOML; the error is at or after line {line}"),
            );
            return values;
        }
    };
    for (key, value) in table {
        let upper = key.to_ascii_uppercase();
        let name = known(&format!("ECOM_{upper}")).or_else(|| known(&upper));
        let Some(name) = name.filter(|n| *n != "ECOM_CONFIG" && key == key.to_ascii_lowercase()) else {
            let near = nearest(&format!("ECOM_{upper}")).or_else(|| nearest(&upper)).filter(|n| *n != "ECOM_CONFIG");
            let advice = near.map_or_else(
                || "check its spelling".to_owned(),
                |near| format!("did you mean `{}`?", near.trim_start_matches("ECOM_").to_ascii_lowercase()),
            );
            let message = format!("is not a known setting; {advice}");
            errors.push(format!("ECOM_CONFIG: {key}"), FieldCode::Unknown, message);
            continue;
        };
        let text = match value {
            toml::Value::String(s) => Some(s),
            toml::Value::Integer(n) => Some(n.to_string()),
            toml::Value::Boolean(b) => Some(b.to_string()),
            toml::Value::Array(items) => items
                .into_iter()
                .map(|item| match item {
                    toml::Value::String(s) => Some(s),
                    toml::Value::Integer(n) => Some(n.to_string()),
                    // This is the shortest text of the same number, so that 12.5 stays 12.5.
                    toml::Value::Float(n) => Some(n.to_string()),
                    _ => None,
                })
                .collect::<Option<Vec<String>>>()
                .map(|items| items.join(",")),
            _ => None,
        };
        match text {
            Some(_) if values.contains_key(name) => {
                errors.push(
                    name,
                    FieldCode::Inconsistent,
                    format!("must be set only once, but `{key}` and another key set it"),
                );
            }
            Some(text) => drop(values.insert(name, text)),
            None => errors.push(
                name,
                FieldCode::Malformed,
                "must be a string, a whole number, a boolean, or a list of strings or numbers",
            ),
        }
    }
    values
}
