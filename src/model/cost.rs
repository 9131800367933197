//! The cost of calls in US dollars: known, estimated or unknown.

use std::ops::AddAssign;

use serde_json::Value;

/// The cost of one or more calls in US dollars, and whether parts of it are estimated or unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CostTotal {
    usd: f64,
    has_estimate: bool,
    has_unknown: bool,
}

impl CostTotal {
    /// The cost of one call: known, else estimated, else unknown if the call may have used tokens, else zero.
    pub fn from_call(cost: Option<f64>, estimated: Option<f64>, may_have_used_tokens: bool) -> Self {
        Self {
            usd: cost.or(estimated).unwrap_or(0.0),
            has_estimate: cost.is_none() && estimated.is_some(),
            has_unknown: may_have_used_tokens && cost.is_none() && estimated.is_none(),
        }
    }

    /// The cost, if every part of it is known.
    pub fn exact(&self) -> Option<f64> {
        (!self.has_unknown && !self.has_estimate).then_some(self.usd)
    }

    /// An upper bound of the cost, if a part is estimated and every other part is known.
    pub fn upper_bound(&self) -> Option<f64> {
        (!self.has_unknown && self.has_estimate).then_some(self.usd)
    }
}

impl AddAssign for CostTotal {
    fn add_assign(&mut self, other: Self) {
        self.usd += other.usd;
        self.has_estimate |= other.has_estimate;
        self.has_unknown |= other.has_unknown;
    }
}

/// Formats an amount in dollars with all its digits and at least two decimals: `$2.00`, `$0.0003`.
pub fn format_dollars(usd: f64) -> String {
    let digits = format!("{usd}");
    let decimals = digits.split_once('.').map_or(0, |(_, decimals)| decimals.len());
    format!("${usd:.*}", decimals.max(2))
}

/// Formats an amount in dollars for display: with four decimals, or with two significant digits below a tenth of a
/// cent.
pub fn format_dollars_rounded(usd: f64) -> String {
    if usd == 0.0 || usd >= 0.001 {
        return format!("${usd:.4}");
    }
    let first_digit = (1..12).find(|decimals| usd * 10_f64.powi(*decimals) >= 1.0).unwrap_or(12);
    format!("${usd:.*}", usize::try_from(first_digit + 1).unwrap_or(4).max(4))
}

/// The largest plausible cost of one turn in dollars; a larger reported cost is an error of the provider or CLI agent.
const MAX_TURN_COST: f64 = 1e6;

/// The cost of a turn in US dollars from JSON; `None` if the value is not plausible.
pub fn parse_dollar_amount(value: &Value) -> Option<f64> {
    value.as_f64().and_then(plausible_cost)
}

/// A reported cost of a turn in US dollars; `None` if it is not plausible, so that the cost counts as unknown.
pub fn plausible_cost(usd: f64) -> Option<f64> {
    // The range excludes infinity and `NaN` too.
    (0.0..=MAX_TURN_COST).contains(&usd).then_some(usd)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_plausible_costs_are_accepted() {
        assert_eq!((parse_dollar_amount(&json!(-1.0)), parse_dollar_amount(&json!("1"))), (None, None));
        assert_eq!((parse_dollar_amount(&json!(0.25)), parse_dollar_amount(&json!(0))), (Some(0.25), Some(0.0)));
        assert_eq!((parse_dollar_amount(&json!(1e6)), parse_dollar_amount(&json!(1e30))), (Some(1e6), None));
        assert_eq!((plausible_cost(f64::NAN), plausible_cost(f64::INFINITY)), (None, None));
    }

    #[test]
    fn a_total_with_an_unknown_part_is_unknown() {
        let (known, unused) = (CostTotal::from_call(Some(0.5), None, true), CostTotal::from_call(None, None, false));
        let (estimated, unknown) =
            (CostTotal::from_call(None, Some(0.25), true), CostTotal::from_call(None, None, true));
        let total = |costs: &[CostTotal]| {
            let mut total = CostTotal::default();
            for cost in costs {
                total += *cost;
            }
            (total.exact(), total.upper_bound())
        };
        assert_eq!(total(&[known, unused]), (Some(0.5), None));
        assert_eq!(total(&[known, estimated]), (None, Some(0.75)));
        assert_eq!(total(&[known, estimated, unknown]), (None, None));
    }

    #[test]
    fn small_amounts_keep_significant_digits() {
        for (usd, text) in
            [(2.0, "$2.00"), (0.5, "$0.50"), (0.0003, "$0.0003"), (0.000_000_1, "$0.0000001"), (0.0, "$0.00")]
        {
            assert_eq!(format_dollars(usd), text);
        }
        for (usd, text) in [
            (0.25, "$0.2500"),
            (0.0, "$0.0000"),
            (0.000_31, "$0.00031"),
            (0.000_001_26, "$0.0000013"),
            (0.012_345, "$0.0123"),
        ] {
            assert_eq!(format_dollars_rounded(usd), text);
        }
    }
}
