//! Sizes in bytes, in the notation of pipeline files.

use std::fmt;

use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::count::counted;

/// The units, from the largest to the smallest, each with its number of bytes.
const UNITS: [(&str, u64); 4] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

/// A number of bytes, written as `512MiB` or `2GiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HumanBytes(pub u64);

impl HumanBytes {
    /// The pattern of a number of bytes in the generated schemas.
    pub const PATTERN: &str = "^[1-9][0-9]{0,5}(KiB|MiB|GiB|TiB)$";

    /// Parses a number with its unit (`KiB`, `MiB`, `GiB`, `TiB`); `None` for other text and for zero.
    pub fn parse(text: &str) -> Option<Self> {
        let (digits, unit) = UNITS.iter().find_map(|(unit, size)| Some((text.strip_suffix(*unit)?, *size)))?;
        let is_number = (1..=6).contains(&digits.len())
            && digits.bytes().all(|byte| byte.is_ascii_digit())
            && !digits.starts_with('0');
        let count: u64 = digits.parse().ok().filter(|_| is_number)?;
        Some(Self(count.checked_mul(unit)?))
    }
}

impl fmt::Display for HumanBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match UNITS.iter().find(|(_, size)| self.0.is_multiple_of(*size)) {
            Some((unit, size)) => write!(f, "{}{unit}", self.0 / size),
            None => f.write_str(&counted(self.0, "byte")),
        }
    }
}

impl Serialize for HumanBytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for HumanBytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| D::Error::custom("expected a size such as `512MiB` or `2GiB`"))
    }
}

impl JsonSchema for HumanBytes {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Bytes".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "A number of bytes, such as `512MiB` or `2GiB`.",
            "pattern": HumanBytes::PATTERN
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_displayed_size_can_be_parsed_and_matches_the_pattern() {
        let pattern = regex::Regex::new(HumanBytes::PATTERN).unwrap();
        for (text, bytes) in [("1KiB", 1 << 10), ("512MiB", 512 << 20), ("2GiB", 2 << 30), ("3TiB", 3 << 40)] {
            assert!(pattern.is_match(text), "{text}");
            assert_eq!(HumanBytes::parse(text), Some(HumanBytes(bytes)));
            assert_eq!(HumanBytes(bytes).to_string(), text);
        }
        assert_eq!(HumanBytes::parse("1024MiB").unwrap().to_string(), "1GiB");
        for text in ["", "5", "MiB", "5 MiB", "0MiB", "05MiB", "-1MiB", "5MB", "1.5GiB", "9999999GiB"] {
            assert!(!pattern.is_match(text), "{text}");
            assert_eq!(HumanBytes::parse(text), None, "{text}");
        }
    }
}
