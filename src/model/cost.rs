//! What calls cost, in US dollars, and how much of that is known.

use std::ops::AddAssign;

use serde_json::Value;

/// The cost of one or more calls in US dollars, with whether parts of it are estimated or unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CostTotal {
    usd: f64,
    estimated: bool,
    unknown: bool,
}

impl CostTotal {
    /// The cost of one call: known, else estimated, else unknown if the call used anything.
    pub fn of_call(cost: Option<f64>, estimated: Option<f64>, used: bool) -> Self {
        Self {
            usd: cost.or(estimated).unwrap_or(0.0),
            estimated: cost.is_none() && estimated.is_some(),
            unknown: used && cost.is_none() && estimated.is_none(),
        }
    }

    /// The cost, if every part of it is known.
    pub fn known(&self) -> Option<f64> {
        (!self.unknown && !self.estimated).then_some(self.usd)
    }

    /// The most that it may cost, if a part is estimated and every other part is known.
    pub fn estimated(&self) -> Option<f64> {
        (!self.unknown && self.estimated).then_some(self.usd)
    }
}

impl AddAssign for CostTotal {
    fn add_assign(&mut self, other: Self) {
        self.usd += other.usd;
        self.estimated |= other.estimated;
        self.unknown |= other.unknown;
    }
}

/// An amount in dollars with all its digits and at least two decimals: `$2.00`, `$0.0003`.
pub fn dollars(usd: f64) -> String {
    let digits = format!("{usd}");
    let decimals = digits.split_once('.').map_or(0, |(_, decimals)| decimals.len());
    format!("${usd:.*}", decimals.max(2))
}

/// An amount in dollars for display: four decimals, or two significant digits if it is below a tenth of a cent.
pub fn rounded(usd: f64) -> String {
    if usd == 0.0 || usd >= 0.001 {
        return format!("${usd:.4}");
    }
    let zeros = (1..12).find(|digits| usd * 10_f64.powi(*digits) >= 1.0).unwrap_or(12);
    format!("${usd:.*}", usize::try_from(zeros + 1).unwrap_or(4).max(4))
}

/// More than one turn can cost in dollars; a provider or CLI agent that reports more is in error.
const MOST_OF_A_TURN: f64 = 1e6;

/// The cost of a turn in US dollars from JSON, if the value can be one.
pub fn dollar_amount(value: &Value) -> Option<f64> {
    value.as_f64().and_then(believable_cost)
}

/// A reported cost of a turn in US dollars; `None` if it can't be one, so that the cost counts as unknown.
pub fn believable_cost(usd: f64) -> Option<f64> {
    // The range contains no invalid number, and not `NaN` either.
    (0.0..=MOST_OF_A_TURN).contains(&usd).then_some(usd)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_amount_that_is_none_is_not_read() {
        assert_eq!((dollar_amount(&json!(-1.0)), dollar_amount(&json!("1"))), (None, None));
        assert_eq!((dollar_amount(&json!(0.25)), dollar_amount(&json!(0))), (Some(0.25), Some(0.0)));
        assert_eq!((dollar_amount(&json!(1e6)), dollar_amount(&json!(1e30))), (Some(1e6), None));
        assert_eq!((believable_cost(f64::NAN), believable_cost(f64::INFINITY)), (None, None));
    }

    #[test]
    fn a_sum_with_an_unknown_part_is_never_whole() {
        let (known, none) = (CostTotal::of_call(Some(0.5), None, true), CostTotal::of_call(None, None, false));
        let (estimated, unknown) = (CostTotal::of_call(None, Some(0.25), true), CostTotal::of_call(None, None, true));
        let sum = |parts: &[CostTotal]| {
            let mut sum = CostTotal::default();
            for part in parts {
                sum += *part;
            }
            (sum.known(), sum.estimated())
        };
        assert_eq!(sum(&[known, none]), (Some(0.5), None));
        assert_eq!(sum(&[known, estimated]), (None, Some(0.75)));
        assert_eq!(sum(&[known, estimated, unknown]), (None, None));
    }

    #[test]
    fn dollars_keep_their_digits() {
        for (usd, text) in
            [(2.0, "$2.00"), (0.5, "$0.50"), (0.0003, "$0.0003"), (0.000_000_1, "$0.0000001"), (0.0, "$0.00")]
        {
            assert_eq!(dollars(usd), text);
        }
        for (usd, text) in [
            (0.25, "$0.2500"),
            (0.0, "$0.0000"),
            (0.000_31, "$0.00031"),
            (0.000_001_26, "$0.0000013"),
            (0.012_345, "$0.0123"),
        ] {
            assert_eq!(rounded(usd), text);
        }
    }
}
