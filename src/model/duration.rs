//! Durations in the notation of pipeline files.

use std::fmt;
use std::time::Duration;

use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A duration, written as `90s`, `5m` or `1h30m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HumanDuration(pub Duration);

impl HumanDuration {
    /// The pattern of durations in the generated schemas. At least one of the numbers is not zero.
    pub const PATTERN: &str = "^([0-9]{1,9}(ms|s|m|h))*0*[1-9][0-9]{0,8}(ms|s|m|h)([0-9]{1,9}(ms|s|m|h))*$";

    /// Parses one or more numbers, each with a unit (`ms`, `s`, `m`, `h`); `None` for other text and for zero.
    pub fn parse(text: &str) -> Option<Self> {
        let mut remaining = text;
        let mut total = Duration::ZERO;
        while !remaining.is_empty() {
            let digit_count = remaining.find(|c: char| !c.is_ascii_digit())?;
            let number: u64 = remaining.get(..digit_count)?.parse().ok()?;
            let suffix = remaining.get(digit_count..)?;
            let unit_len = suffix.find(|c: char| !c.is_ascii_lowercase()).unwrap_or(suffix.len());
            let unit_millis = match suffix.get(..unit_len)? {
                "ms" => 1,
                "s" => 1_000,
                "m" => 60_000,
                "h" => 3_600_000,
                _ => return None,
            };
            total = total.checked_add(Duration::from_millis(number.checked_mul(unit_millis)?))?;
            remaining = suffix.get(unit_len..)?;
        }
        (total > Duration::ZERO).then_some(Self(total))
    }
}

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut millis = self.0.as_millis();
        for (unit, size) in [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)] {
            if millis >= size {
                write!(f, "{}{unit}", millis / size)?;
                millis %= size;
            }
        }
        Ok(())
    }
}

impl Serialize for HumanDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for HumanDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| D::Error::custom("expected a duration such as `90s`, `5m` or `1h30m`"))
    }
}

impl JsonSchema for HumanDuration {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "A duration, such as `90s`, `5m` or `1h30m`.",
            "pattern": HumanDuration::PATTERN
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_printed_duration_can_be_parsed_and_matches_the_pattern() {
        let pattern = regex::Regex::new(HumanDuration::PATTERN).unwrap();
        for text in ["90s", "5m", "1h30m", "250ms", "0h5m", "5m0s", "007s"] {
            assert!(pattern.is_match(text), "{text}");
            let duration = HumanDuration::parse(text).expect(text);
            assert_eq!(HumanDuration::parse(&duration.to_string()), Some(duration));
        }
        for text in ["", "5", "m", "5 m", "0s", "0h00m", "-1s", "5d", "99999999999999999999h"] {
            assert!(!pattern.is_match(text), "{text}");
            assert_eq!(HumanDuration::parse(text), None, "{text}");
        }
    }
}
