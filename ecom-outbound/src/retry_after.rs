//! The pause that a response asks for.

use std::time::Duration;

use reqwest::header::{DATE, HeaderMap, HeaderName, RETRY_AFTER};

/// Returns the time for which a server asks not to be called again (`Retry-After`): a number of seconds, or the time
/// from the `Date` of the response to the date that the header names, so that the clocks of both sides need not agree.
///
/// Returns `None` if the header is missing or malformed, if its date has passed, or if it is a date and the response
/// has no `Date`. The time has no bound, so the caller must set one.
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let asked = text(RETRY_AFTER)?;
    if let Ok(seconds) = asked.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = httpdate::parse_http_date(asked).ok()?;
    let sent = httpdate::parse_http_date(text(DATE)?).ok()?;
    until.duration_since(sent).ok().filter(|pause| !pause.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(retry_after_value: &str, date: Option<&str>) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, retry_after_value.parse().unwrap());
        if let Some(date) = date {
            headers.insert(DATE, date.parse().unwrap());
        }
        retry_after(&headers)
    }

    #[test]
    fn a_pause_is_a_number_of_seconds_or_a_date_after_that_of_the_response() {
        let date = Some("Sat, 28 Nov 2026 23:59:30 GMT");
        let later = |seconds| Some(Duration::from_secs(seconds));
        for (value, pause) in [
            ("120", later(120)),
            (" 0 ", later(0)),
            ("Sun, 29 Nov 2026 00:01:00 GMT", later(90)),
            // The older forms of a date.
            ("Sunday, 29-Nov-26 00:01:00 GMT", later(90)),
            ("Sun Nov 29 00:01:00 2026", later(90)),
            ("Sat, 28 Nov 2026 23:59:30 GMT", None),
            ("Sat, 28 Nov 2026 23:59:29 GMT", None),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
            ("99999999999999999999", None),
            ("Sun, 29 Nov 2026 00:01:00", None),
        ] {
            assert_eq!(asked(value, date), pause, "{value}");
        }
        assert_eq!(asked("120", None), later(120));
        assert_eq!(asked("Sun, 29 Nov 2026 00:01:00 GMT", None), None);
        assert_eq!(asked("Sun, 29 Nov 2026 00:01:00 GMT", Some("yesterday")), None);
        assert_eq!(retry_after(&HeaderMap::new()), None);
    }
}
