//! The values of `--timeout`.

use crate::model::HumanDuration;

/// Parses a duration such as `90s`.
pub(in crate::cli) fn parse_time_limit(text: &str) -> Result<HumanDuration, String> {
    HumanDuration::parse(text).ok_or_else(|| "write a number with a unit, as in `90s`, `5m` or `1h30m`".to_owned())
}
