//! How long a provider asks to wait: reads headers, error bodies and the text of messages.

use jiff::Timestamp;
use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};
use serde_json::Value;

use crate::model::failure::Class;

/// The longest wait that orch accepts from a provider: one day, in milliseconds. A longer one is capped.
const LONGEST_WAIT: u64 = 24 * 60 * 60 * 1000;

/// The wait that headers ask for, in milliseconds; `now` is when they arrived.
///
/// `retry-after-ms` (`OpenAI` and Azure) is exact; `Retry-After` (RFC 9110) holds seconds, or a date in one of three
/// forms. Without them, the reset of an exhausted limit counts: `x-ratelimit-reset-requests` and `-tokens` (`OpenAI`,
/// Groq, as durations such as `6m0s`), `anthropic-ratelimit-*-reset` (Anthropic, as dates).
pub(super) fn in_headers(headers: &HeaderMap, now: Timestamp) -> Option<u64> {
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).map(str::trim);
    let milliseconds = text("retry-after-ms").and_then(|t| t.parse::<f64>().ok());
    let seconds = || text(RETRY_AFTER.as_str()).and_then(|t| t.parse::<f64>().ok()).map(|s| s * 1000.0);
    if let Some(wait) = milliseconds.or_else(seconds) {
        return whole(wait);
    }
    let date = |name: &str| http_date(text(name)?);
    if let Some(until) = date(RETRY_AFTER.as_str()) {
        // Compare with the server's own `Date`, if it sends one: its clock may differ from ours.
        return Some(between(date(DATE.as_str()).unwrap_or(now), until));
    }
    limits()
        .filter(|(remaining, _)| text(remaining) == Some("0"))
        .filter_map(|(_, reset)| reset_of(text(&reset)?, now))
        .max()
}

/// Parses a date of HTTP: in the form that RFC 9110 prescribes, or in the two obsolete forms that recipients must
/// accept, those of RFC 850 and of `asctime`.
fn http_date(text: &str) -> Option<Timestamp> {
    if let Ok(date) = jiff::fmt::rfc2822::parse(text) {
        return Some(date.timestamp());
    }
    // Ignore the day of the week: a wrong one is no reason to retry at once.
    let (_, date) = text.split_once(' ')?;
    let date = date.split_whitespace().collect::<Vec<_>>().join(" ");
    let read = |form: &str| jiff::civil::DateTime::strptime(form, &date).ok();
    let date = read("%d-%b-%y %H:%M:%S GMT").or_else(|| read("%b %d %H:%M:%S %Y"))?;
    Some(date.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp())
}

/// The headers that report what remains of a limit, each with the one that says when the limit is reset.
fn limits() -> impl Iterator<Item = (String, String)> {
    let openai = ["requests", "tokens"]
        .map(|what| (format!("x-ratelimit-remaining-{what}"), format!("x-ratelimit-reset-{what}")));
    let anthropic = ["requests", "tokens", "input-tokens", "output-tokens"]
        .map(|what| (format!("anthropic-ratelimit-{what}-remaining"), format!("anthropic-ratelimit-{what}-reset")));
    openai.into_iter().chain(anthropic)
}

fn reset_of(text: &str, now: Timestamp) -> Option<u64> {
    match text.parse::<Timestamp>() {
        Ok(until) => Some(between(now, until)),
        Err(_) => duration(text).map(|(wait, _)| wait),
    }
}

/// Whether waiting can help after a failure of this class.
pub(super) fn helps(class: Class) -> bool {
    matches!(class, Class::RateLimited | Class::ProviderUnavailable | Class::Timeout)
}

/// The wait that an error body asks for, in milliseconds; `None` where waiting does not help. If the body is a list,
/// its longest wait counts.
///
/// Gemini puts it into `details` as `RetryInfo.retryDelay` (<https://cloud.google.com/apis/design/errors>),
/// `OpenRouter` into `metadata.headers` as a time in milliseconds; other servers into a field, as a number of seconds
/// (`retry_after`, `estimated_time` of Hugging Face while a model loads). `OpenAI`, Groq, Azure and Gemini put it into
/// the message: "Please try again in 4.5s", "Please retry after 7 seconds".
pub(super) fn in_body(error: &Value, message: &str, class: Class, now: Timestamp) -> Option<u64> {
    if !helps(class) {
        return None;
    }
    let parts = error.as_array().map_or(std::slice::from_ref(error), Vec::as_slice);
    parts.iter().flat_map(errors_in).filter_map(|part| in_fields(part, now)).max().or_else(|| in_words(message))
}

/// The objects that may describe an error: the value itself, and those in `error`, `errors` and `detail`.
fn errors_in(value: &Value) -> impl Iterator<Item = &Value> {
    let inner = ["error", "errors", "detail"].iter().filter_map(|field| value.get(*field));
    std::iter::once(value)
        .chain(inner.flat_map(|inner| inner.as_array().map_or(std::slice::from_ref(inner), Vec::as_slice)))
}

/// The wait in the fields of an error, in milliseconds.
fn in_fields(error: &Value, now: Timestamp) -> Option<u64> {
    let details = error.get("details").and_then(Value::as_array).into_iter().flatten();
    let delay = details.filter_map(|detail| duration(detail.get("retryDelay")?.as_str()?)).map(|(wait, _)| wait).max();
    delay.or_else(|| routed_reset(error, now)).or_else(|| {
        let holders = [Some(error), error.get("metadata"), error.get("details")];
        holders.into_iter().flatten().find_map(named_wait)
    })
}

/// The wait in a field with a known name: a number of milliseconds or seconds, or a duration with its unit.
fn named_wait(holder: &Value) -> Option<u64> {
    let milliseconds = ["retry_after_ms", "retryAfterMs"].map(|name| (name, 1.0));
    let seconds = ["retry_after", "retry_after_seconds", "retryAfter", "retryAfterSeconds", "estimated_time"];
    milliseconds.into_iter().chain(seconds.map(|name| (name, 1000.0))).find_map(|(name, factor)| {
        let value = holder.get(name)?;
        let text = value.as_str().unwrap_or_default().trim();
        let number = value.as_f64().or_else(|| text.parse().ok());
        number.map_or_else(|| duration(text).map(|(wait, _)| wait), |number| whole(number * factor))
    })
}

fn routed_reset(error: &Value, now: Timestamp) -> Option<u64> {
    let reset = error.pointer("/metadata/headers/X-RateLimit-Reset")?;
    let millis = reset.as_i64().or_else(|| reset.as_str()?.parse().ok())?;
    Some(between(now, Timestamp::from_millisecond(millis).ok()?))
}

/// The wait that a message asks for: the first duration after "try again in", "try again after", "retry in" or "retry
/// after".
fn in_words(message: &str) -> Option<u64> {
    let message = message.to_ascii_lowercase();
    let behind = |phrase: &str| message.find(phrase).and_then(|at| message.get(at + phrase.len()..));
    ["try again in ", "try again after ", "retry in ", "retry after "]
        .iter()
        .find_map(|phrase| duration(behind(phrase)?))
        .map(|(wait, _)| wait)
}

/// Parses a duration at the beginning of a text, such as `4.5s`, `6m0s`, `250ms` or `7 seconds`. Returns milliseconds
/// and the rest of the text; `None` for a number without a unit.
fn duration(text: &str) -> Option<(u64, &str)> {
    let (mut rest, mut sum, mut any) = (text.trim_start(), 0.0_f64, false);
    loop {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let Some(number) = rest.get(..digits).and_then(|number| number.trim_end_matches('.').parse::<f64>().ok())
        else {
            break;
        };
        let unit_at = rest.get(digits..)?.trim_start();
        let letters = unit_at.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(unit_at.len());
        let factor = match unit_at.get(..letters)? {
            "ms" | "millisecond" | "milliseconds" => 1.0,
            "s" | "sec" | "secs" | "second" | "seconds" => 1000.0,
            "m" | "min" | "mins" | "minute" | "minutes" => 60_000.0,
            "h" | "hour" | "hours" => 3_600_000.0,
            "d" | "day" | "days" => 86_400_000.0,
            _ => break,
        };
        sum += number * factor;
        any = true;
        rest = unit_at.get(letters..)?;
    }
    if any { Some((whole(sum)?, rest)) } else { None }
}

/// Rounds milliseconds up to a whole number, capped at [`LONGEST_WAIT`]; `None` if they are negative or infinite.
fn whole(wait: f64) -> Option<u64> {
    if !wait.is_finite() || wait < 0.0 {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked above, and capped")]
    Some((wait.ceil() as u64).min(LONGEST_WAIT))
}

/// Milliseconds from one moment to another; 0 when `until` comes first.
fn between(from: Timestamp, until: Timestamp) -> u64 {
    let wait = until.as_millisecond().saturating_sub(from.as_millisecond());
    u64::try_from(wait).unwrap_or(0).min(LONGEST_WAIT)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that can't go on fails")]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn durations_are_read_as_providers_write_them() {
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
            ("99999999999 days", Some(LONGEST_WAIT)),
        ] {
            assert_eq!(duration(text).map(|(wait, _)| wait), millis, "{text}");
        }
    }

    #[test]
    fn dates_are_read_in_the_three_forms_of_http() {
        let expected: Timestamp = "2031-11-06T08:49:37Z".parse().unwrap();
        for text in ["Thu, 06 Nov 2031 08:49:37 GMT", "Thursday, 06-Nov-31 08:49:37 GMT", "Thu Nov  6 08:49:37 2031"] {
            assert_eq!(http_date(text), Some(expected), "{text}");
        }
        assert_eq!(http_date("soon"), None);
    }

    #[test]
    fn a_wait_is_found_wherever_an_error_names_it() {
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
            (json!({"retry_after": -1}), None),
            (json!({"retry_after": null}), None),
            (json!("text"), None),
        ] {
            assert_eq!(in_body(&body, "", Class::RateLimited, now), millis, "{body}");
            assert_eq!(in_body(&body, "", Class::BadRequest, now), None, "{body}");
        }
    }

    #[test]
    fn words_that_ask_to_wait_are_found() {
        for (text, millis) in [
            ("Rate limit reached for gpt-4o. Please try again in 4.5s. Visit the page.", Some(4500)),
            ("Requests have exceeded the limit. Please retry after 7 seconds.", Some(7000)),
            ("quota exceeded\nPlease retry in 37.4s.", Some(37_400)),
            ("try again in a moment", None),
            ("the 5s limit is over", None),
        ] {
            assert_eq!(in_words(text), millis, "{text}");
        }
    }
}
