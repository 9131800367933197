//! Reads the wait that a provider requests from headers, error bodies and the text of messages.

use std::num::IntErrorKind;

use jiff::Timestamp;
use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};
use serde_json::{Number, Value};

use crate::model::failure::FailureClass;
use crate::model::json_number::integer_value;

/// The longest wait that orch accepts from a provider: one day, in milliseconds. orch shortens longer waits to it.
const MAX_WAIT: u64 = 24 * 60 * 60 * 1000;

/// The first year that orch treats as too far in the future to calculate with, because [`Timestamp`] ends during it.
const FAR_YEAR: u64 = 9999;
/// The names of months in HTTP dates.
const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// The wait that headers request, in milliseconds; `now` is the time at which they arrived.
///
/// - `retry-after-ms` (`OpenAI` and Azure) has precedence, because it is exact.
/// - `Retry-After` (RFC 9110) contains seconds, or a date in one of three formats.
/// - Without these, the reset of an exhausted limit counts: `x-ratelimit-reset-requests` and `-tokens` (`OpenAI`, Groq,
///   as durations such as `6m0s`), or `anthropic-ratelimit-*-reset` (Anthropic, as dates).
pub(super) fn wait_from_headers(headers: &HeaderMap, now: Timestamp) -> Option<u64> {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let number = |name: &str| header(name)?.parse::<f64>().ok();
    let wait_in_seconds = || number(RETRY_AFTER.as_str()).map(|seconds| seconds * 1000.0);
    if let Some(wait) = number("retry-after-ms").or_else(wait_in_seconds) {
        return round_wait(wait);
    }
    let date = |name: &str| http_date(header(name)?);
    if header(RETRY_AFTER.as_str()).is_some_and(is_far_date) {
        return Some(MAX_WAIT);
    }
    if let Some(until) = date(RETRY_AFTER.as_str()) {
        // Compare with the server's own `Date`, if there is one, because its clock may differ from the local one.
        return Some(millis_between(date(DATE.as_str()).unwrap_or(now), until));
    }
    limit_headers()
        .filter(|(remaining, _)| header(remaining) == Some("0"))
        .filter_map(|(_, reset)| wait_until_reset(header(&reset)?, now))
        .max()
}

/// Parses an HTTP date in the format of RFC 9110, or in the two obsolete formats that recipients must accept: RFC 850
/// and `asctime`.
fn http_date(text: &str) -> Option<Timestamp> {
    if let Ok(date) = jiff::fmt::rfc2822::parse(text) {
        return Some(date.timestamp());
    }
    // Ignore the day of the week, so that a wrong one does not make the date invalid.
    let (_, date) = text.split_once(' ')?;
    let date = date.split_whitespace().collect::<Vec<_>>().join(" ");
    let parse = |format: &str| jiff::civil::DateTime::strptime(format, &date).ok();
    let date = parse("%d-%b-%y %H:%M:%S GMT").or_else(|| parse("%b %d %H:%M:%S %Y"))?;
    Some(date.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp())
}

/// Whether a text is a date so far in the future that orch can't represent it: an HTTP date, or one such as
/// `9999-12-31T23:59:59Z`.
fn is_far_date(text: &str) -> bool {
    let is_far_year = |word: &str| {
        let is_number = word.len() >= 4 && word.bytes().all(|byte| byte.is_ascii_digit());
        is_number && word.parse().unwrap_or(u64::MAX) >= FAR_YEAR
    };
    let words = || text.split_whitespace();
    let is_http_date = text.contains(':') && words().any(|word| MONTHS.contains(&word));
    let iso_year = text.trim_start_matches('+').split_once('-').map(|(year, _)| year);
    is_http_date && words().any(is_far_year) || iso_year.is_some_and(is_far_year)
}

/// Pairs of headers: the remaining amount of a limit, and the time at which the limit is reset.
fn limit_headers() -> impl Iterator<Item = (String, String)> {
    let openai = ["requests", "tokens"]
        .map(|unit| (format!("x-ratelimit-remaining-{unit}"), format!("x-ratelimit-reset-{unit}")));
    let anthropic = ["requests", "tokens", "input-tokens", "output-tokens"]
        .map(|unit| (format!("anthropic-ratelimit-{unit}-remaining"), format!("anthropic-ratelimit-{unit}-reset")));
    openai.into_iter().chain(anthropic)
}

/// The wait until a limit is reset, from a date or a duration.
fn wait_until_reset(text: &str, now: Timestamp) -> Option<u64> {
    if is_far_date(text) {
        return Some(MAX_WAIT);
    }
    match text.parse::<Timestamp>() {
        Ok(until) => Some(millis_between(now, until)),
        Err(_) => parse_duration(text).map(|(wait, _)| wait),
    }
}

/// Whether waiting can help after a failure of this class.
pub(super) fn is_wait_useful(class: FailureClass) -> bool {
    matches!(class, FailureClass::RateLimited | FailureClass::ProviderUnavailable | FailureClass::Timeout)
}

/// The wait that an error body requests, in milliseconds; `None` where waiting does not help. If the body is a list,
/// its longest wait counts.
///
/// - Gemini sends `RetryInfo.retryDelay` in `details` (<https://cloud.google.com/apis/design/errors>).
/// - `OpenRouter` sends the time of the reset, in milliseconds, in `metadata.headers`.
/// - Other servers send a number of seconds in a field, such as `retry_after`, or `estimated_time` (Hugging Face, while
///   a model loads).
/// - `OpenAI`, Groq, Azure and Gemini write the wait into the message: "Please try again in 4.5s", "Please retry after 7
///   seconds".
pub(super) fn wait_from_body(error: &Value, message: &str, class: FailureClass, now: Timestamp) -> Option<u64> {
    if !is_wait_useful(class) {
        return None;
    }
    let values = error.as_array().map_or(std::slice::from_ref(error), Vec::as_slice);
    let waits = values.iter().flat_map(error_objects).filter_map(|object| wait_in_fields(object, now));
    waits.max().or_else(|| wait_in_message(message))
}

/// The objects that may describe an error: the value itself, and the values of `error`, `errors` and `detail`.
fn error_objects(value: &Value) -> impl Iterator<Item = &Value> {
    let inner = ["error", "errors", "detail"].iter().filter_map(|field| value.get(*field));
    std::iter::once(value)
        .chain(inner.flat_map(|inner| inner.as_array().map_or(std::slice::from_ref(inner), Vec::as_slice)))
}

/// The wait in the fields of an error, in milliseconds.
fn wait_in_fields(error: &Value, now: Timestamp) -> Option<u64> {
    let details = error.get("details").and_then(Value::as_array).into_iter().flatten();
    let delay =
        details.filter_map(|detail| parse_duration(detail.get("retryDelay")?.as_str()?)).map(|(wait, _)| wait).max();
    delay.or_else(|| openrouter_reset(error, now)).or_else(|| {
        let objects = [Some(error), error.get("metadata"), error.get("details")];
        objects.into_iter().flatten().find_map(wait_in_object)
    })
}

/// The wait in a field with a known name: a number of milliseconds or seconds, or a duration with its unit.
fn wait_in_object(object: &Value) -> Option<u64> {
    let milliseconds = ["retry_after_ms", "retryAfterMs"].map(|name| (name, 1.0));
    let seconds = ["retry_after", "retry_after_seconds", "retryAfter", "retryAfterSeconds", "estimated_time"];
    milliseconds.into_iter().chain(seconds.map(|name| (name, 1000.0))).find_map(|(name, factor)| {
        // The text of a number can be larger than a float.
        let text = match object.get(name)? {
            Value::Number(number) => number.to_string(),
            value => value.as_str().unwrap_or_default().trim().to_owned(),
        };
        let number = text.parse::<f64>().ok();
        number.map_or_else(|| parse_duration(&text).map(|(wait, _)| wait), |number| round_wait(number * factor))
    })
}

/// The wait until the reset time that `OpenRouter` sends in `metadata.headers`.
fn openrouter_reset(error: &Value, now: Timestamp) -> Option<u64> {
    let reset = error.pointer("/metadata/headers/X-RateLimit-Reset")?;
    let text = match reset {
        Value::Number(number) => number.to_string(),
        value => value.as_str()?.trim().to_owned(),
    };
    let millis = match text.parse::<i64>() {
        Ok(millis) => millis,
        Err(error) if *error.kind() == IntErrorKind::PosOverflow => i64::MAX,
        // Some servers write all numbers as floats.
        Err(_) => {
            let integer = integer_value(&text.parse::<Number>().ok()?)?;
            i64::try_from(integer).unwrap_or(if integer > 0 { i64::MAX } else { i64::MIN })
        }
    };
    let wait = millis.saturating_sub(now.as_millisecond());
    Some(u64::try_from(wait).unwrap_or(0).min(MAX_WAIT))
}

/// The wait that a message requests: the first duration after "try again in", "try again after", "retry in" or "retry
/// after".
fn wait_in_message(message: &str) -> Option<u64> {
    let message = message.to_ascii_lowercase();
    let text_after = |phrase: &str| message.find(phrase).and_then(|start| message.get(start + phrase.len()..));
    ["try again in ", "try again after ", "retry in ", "retry after "]
        .iter()
        .find_map(|phrase| parse_duration(text_after(phrase)?))
        .map(|(wait, _)| wait)
}

/// Parses a duration at the beginning of a text, such as `4.5s`, `6m0s`, `250ms` or `7 seconds`. Returns milliseconds
/// and the remaining text; `None` for a number without a unit.
fn parse_duration(text: &str) -> Option<(u64, &str)> {
    let (mut remaining, mut sum, mut has_unit) = (text.trim_start(), 0.0_f64, false);
    loop {
        let number_length = remaining.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(remaining.len());
        let Some(number) =
            remaining.get(..number_length).and_then(|number| number.trim_end_matches('.').parse::<f64>().ok())
        else {
            break;
        };
        let after_number = remaining.get(number_length..)?.trim_start();
        let unit_length = after_number.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after_number.len());
        let factor = match after_number.get(..unit_length)? {
            "ms" | "millisecond" | "milliseconds" => 1.0,
            "s" | "sec" | "secs" | "second" | "seconds" => 1000.0,
            "m" | "min" | "mins" | "minute" | "minutes" => 60_000.0,
            "h" | "hour" | "hours" => 3_600_000.0,
            "d" | "day" | "days" => 86_400_000.0,
            _ => break,
        };
        sum += number * factor;
        has_unit = true;
        remaining = after_number.get(unit_length..)?;
    }
    if has_unit { Some((round_wait(sum)?, remaining)) } else { None }
}

/// Rounds milliseconds up to a whole number of at most [`MAX_WAIT`], also if the number was too large for a float.
/// Returns `None` if it is negative or not a number.
fn round_wait(wait: f64) -> Option<u64> {
    if wait.is_nan() || wait < 0.0 {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked above, and capped")]
    Some((wait.ceil() as u64).min(MAX_WAIT))
}

/// The milliseconds from `from` to `until`; 0 if `until` is earlier.
fn millis_between(from: Timestamp, until: Timestamp) -> u64 {
    let wait = until.as_millisecond().saturating_sub(from.as_millisecond());
    u64::try_from(wait).unwrap_or(0).min(MAX_WAIT)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that can't continue fails")]
mod tests {
    use reqwest::header::HeaderValue;
    use serde_json::json;

    use super::*;

    #[test]
    fn durations_parse_as_providers_write_them() {
        for (text, millis) in [
            ("4.5s", Some(4500)),
            ("6m0s", Some(360_000)),
            ("1h2m3.5s", Some(3_723_500)),
            ("250ms.", Some(250)),
            ("7 seconds. Thank you", Some(7000)),
            ("7.66s. Visit", Some(7660)),
            ("1s", Some(1000)),
            ("5", None),
            ("soon", None),
            ("", None),
            ("3 apples", None),
            ("99999999999 days", Some(MAX_WAIT)),
        ] {
            assert_eq!(parse_duration(text).map(|(wait, _)| wait), millis, "{text}");
        }
    }

    #[test]
    fn dates_parse_in_the_three_formats_of_http() {
        let expected: Timestamp = "2031-11-06T08:49:37Z".parse().unwrap();
        for text in ["Thu, 06 Nov 2031 08:49:37 GMT", "Thursday, 06-Nov-31 08:49:37 GMT", "Thu Nov  6 08:49:37 2031"] {
            assert_eq!(http_date(text), Some(expected), "{text}");
        }
        assert_eq!(http_date("soon"), None);
    }

    #[test]
    fn a_wait_that_orch_can_not_represent_is_a_very_long_one() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let wait = |headers: &[(&'static str, &str)]| {
            let headers = headers.iter().map(|&(name, value)| {
                (reqwest::header::HeaderName::from_static(name), value.parse::<HeaderValue>().unwrap())
            });
            wait_from_headers(&headers.collect::<HeaderMap>(), now)
        };
        for text in [
            "Fri, 31 Dec 9999 23:59:59 GMT",
            "Fri Dec 31 23:59:59 9999",
            "Fri, 31 Dec 12025 23:59:59 GMT",
            "Fri, 31 Dec 99999999999999999999999 23:59:59 GMT",
            "Tue, 01 Dec 2099 00:00:00 GMT",
            "9999999999999999999999999",
            "1e309",
            "inf",
        ] {
            assert_eq!(wait(&[("retry-after", text)]), Some(MAX_WAIT), "{text}");
        }
        for text in ["9999-12-31T23:59:59Z", "+012025-01-01T00:00:00Z", "9999999999999999h"] {
            let headers = [("x-ratelimit-remaining-requests", "0"), ("x-ratelimit-reset-requests", text)];
            assert_eq!(wait(&headers), Some(MAX_WAIT), "{text}");
        }
        for text in ["soon", "-5", "NaN", "Dec 9999", "9999 apples"] {
            assert_eq!(wait(&[("retry-after", text)]), None, "{text}");
        }
    }

    #[test]
    fn every_field_for_a_wait_is_recognized() {
        let now = Timestamp::UNIX_EPOCH;
        for (body, millis) in [
            (json!([{"error": {"code": 429, "details": [{"retryDelay": "2.5s"}]}}]), Some(2500)),
            (json!([{"candidates": []}, {"error": {"details": [{"retryDelay": "2s"}]}}]), Some(2000)),
            (json!({"errors": [{"message": "x", "retry_after": 3}]}), Some(3000)),
            (json!({"error": "Model m is currently loading", "estimated_time": 20.5}), Some(20_500)),
            (json!({"detail": {"retry_after_seconds": "4"}}), Some(4000)),
            (json!({"error": {"metadata": {"retry_after_seconds": 7}}}), Some(7000)),
            (json!({"retry_after_ms": 250}), Some(250)),
            (json!({"error": {"retry_after": "1m30s"}}), Some(90_000)),
            (json!({"error": {"metadata": {"headers": {"X-RateLimit-Reset": "9000"}}}}), Some(9000)),
            (json!({"error": {"metadata": {"headers": {"X-RateLimit-Reset": 9000.0}}}}), Some(9000)),
            (json!({"error": {"metadata": {"headers": {"X-RateLimit-Reset": "9".repeat(30)}}}}), Some(MAX_WAIT)),
            (json!({"error": {"metadata": {"headers": {"X-RateLimit-Reset": "soon"}}}}), None),
            (serde_json::from_str("{\"retry_after\": 1e400}").unwrap(), Some(MAX_WAIT)),
            (json!({"retry_after": 1e300}), Some(MAX_WAIT)),
            (json!({"retry_after": "NaN"}), None),
            (json!({"retry_after": -1}), None),
            (json!({"retry_after": null}), None),
            (json!("text"), None),
        ] {
            assert_eq!(wait_from_body(&body, "", FailureClass::RateLimited, now), millis, "{body}");
            assert_eq!(wait_from_body(&body, "", FailureClass::BadRequest, now), None, "{body}");
        }
    }

    #[test]
    fn a_wait_in_a_message_is_recognized() {
        for (text, millis) in [
            ("Rate limit reached for gpt-4o. Please try again in 4.5s. Visit the page.", Some(4500)),
            ("Requests have exceeded the limit. Please retry after 7 seconds.", Some(7000)),
            ("quota exceeded\nPlease retry in 37.4s.", Some(37_400)),
            ("try again in a moment", None),
            ("the 5s limit is over", None),
        ] {
            assert_eq!(wait_in_message(text), millis, "{text}");
        }
    }
}
