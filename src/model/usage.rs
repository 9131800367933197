//! What calls used, in tokens, and how much of that is known.
//!
//! A provider reports the usage of a reply, or a part of it, or nothing. What it did not report never counts as zero:
//! it is estimated if an upper bound is known, and otherwise marked as unknown.

use std::ops::AddAssign;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// More tokens than one reply can have; a provider that reports a larger count is in error.
const MOST_IN_A_REPLY: u64 = 1_000_000_000;

/// Tokens of one or more calls, with each count known.
///
/// `input` counts every prompt token, cached ones included; `output` every generated
/// token, reasoning included. The other three are parts of these two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Prompt tokens in all.
    pub input: u64,
    /// Prompt tokens read from the provider's cache (part of `input`).
    #[serde(default)]
    pub cache_read: u64,
    /// Prompt tokens written to the provider's cache (part of `input`).
    #[serde(default)]
    pub cache_write: u64,
    /// Generated tokens in all.
    pub output: u64,
    /// Generated tokens spent on reasoning (part of `output`).
    #[serde(default)]
    pub reasoning: u64,
}

impl Usage {
    /// Input and output tokens together.
    pub fn total(&self) -> u64 {
        self.input.saturating_add(self.output)
    }
}

/// Tokens of one call as its provider reported them. A total that was not reported is `None`, never zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportedUsage {
    /// Prompt tokens in all.
    #[serde(default)]
    pub input: Option<u64>,
    /// Prompt tokens read from the provider's cache (part of `input`).
    #[serde(default)]
    pub cache_read: u64,
    /// Prompt tokens written to the provider's cache (part of `input`).
    #[serde(default)]
    pub cache_write: u64,
    /// Generated tokens in all.
    #[serde(default)]
    pub output: Option<u64>,
    /// Generated tokens spent on reasoning (part of `output`).
    #[serde(default)]
    pub reasoning: u64,
}

impl From<Usage> for ReportedUsage {
    fn from(usage: Usage) -> Self {
        let Usage { input, cache_read, cache_write, output, reasoning } = usage;
        Self { input: Some(input), cache_read, cache_write, output: Some(output), reasoning }
    }
}

impl ReportedUsage {
    /// Whether nothing was reported.
    pub fn is_nothing(&self) -> bool {
        self.input.is_none() && self.output.is_none()
    }

    /// The whole usage, if both totals were reported.
    pub fn whole(&self) -> Option<Usage> {
        self.input.and(self.output).map(|_| self.at_least())
    }

    /// A lower bound of the usage: a total that was not reported adds nothing.
    pub fn at_least(&self) -> Usage {
        Usage {
            input: self.input.unwrap_or(0),
            cache_read: self.cache_read,
            cache_write: self.cache_write,
            output: self.output.unwrap_or(0),
            reasoning: self.reasoning,
        }
    }

    /// The same for a reply with this text, without counts that can't be true: no request has an empty prompt, no text
    /// was generated without a token, and no part is larger than its whole.
    #[must_use]
    pub fn of_reply(self, text: &str) -> Self {
        let input = self.input.filter(|count| *count > 0);
        let output = self.output.filter(|count| *count > 0 || text.is_empty());
        let cache_read = self.cache_read.min(input.unwrap_or(0));
        Self {
            input,
            cache_read,
            cache_write: self.cache_write.min(input.unwrap_or(0) - cache_read),
            output,
            reasoning: self.reasoning.min(output.unwrap_or(0)),
        }
    }

    /// The usage since a session had reported `before` in total, if `self` is the total that it reports now. A session
    /// that reports less than before has started to count again.
    #[must_use]
    pub fn since(self, before: Option<Usage>) -> Self {
        let Some(before) = before else { return self };
        if self.starts_over(before) {
            return self;
        }
        Self {
            input: self.input.map(|now| now - before.input),
            cache_read: self.cache_read.saturating_sub(before.cache_read),
            cache_write: self.cache_write.saturating_sub(before.cache_write),
            output: self.output.map(|now| now - before.output),
            reasoning: self.reasoning.saturating_sub(before.reasoning),
        }
    }

    /// The total that a session has reported so far, if it had reported `before`. A count that is not reported now
    /// keeps its last known value: otherwise the next report would count it a second time.
    #[must_use]
    pub fn session_total(self, before: Option<Usage>) -> Option<Usage> {
        if self.is_nothing() {
            return before;
        }
        let known = before.filter(|before| !self.starts_over(*before)).unwrap_or_default();
        let (prompt, generated) = (self.input.map_or(known, |_| self.at_least()), self.output.map(|_| self.at_least()));
        let Usage { output, reasoning, .. } = generated.unwrap_or(known);
        Some(Usage { output, reasoning, ..prompt })
    }

    /// Whether a session that had reported `before` reports less now.
    fn starts_over(self, before: Usage) -> bool {
        let less = |now: Option<u64>, before: u64| now.is_some_and(|now| now < before);
        less(self.input, before.input) || less(self.output, before.output)
    }

    /// An upper bound of what a reply used but did not report, given the most that its request could use; `None` if
    /// everything was reported.
    pub fn missing(&self, most: &Usage) -> Option<EstimatedUsage> {
        let missing = |reported: Option<u64>, most| if reported.is_some() { 0 } else { most };
        self.whole().is_none().then(|| EstimatedUsage {
            input: missing(self.input, most.input),
            output: missing(self.output, most.output),
            undivided: 0,
        })
    }
}

/// A token count from JSON, if it is valid: not negative, without a fraction and no larger than a reply can be.
pub fn token_count(value: &Value) -> Option<u64> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is a small whole number")]
    #[expect(clippy::cast_precision_loss, reason = "the bound is far below 2^52")]
    let whole = |number: f64| {
        (number.fract() == 0.0 && (0.0..=MOST_IN_A_REPLY as f64).contains(&number)).then_some(number as u64)
    };
    value.as_u64().or_else(|| value.as_f64().and_then(whole)).filter(|count| *count <= MOST_IN_A_REPLY)
}

/// An upper bound of tokens that were not reported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EstimatedUsage {
    /// Prompt tokens.
    #[serde(default)]
    pub input: u64,
    /// Generated tokens.
    #[serde(default)]
    pub output: u64,
    /// Tokens of CLI agents, whose `estimate:` does not separate input from output.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub undivided: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl From<Usage> for EstimatedUsage {
    fn from(most: Usage) -> Self {
        Self { input: most.input, output: most.output, undivided: 0 }
    }
}

/// Tokens of one or more calls, including estimated and unknown usage.
///
/// `input` and `output` contain both what was reported and what was estimated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageTotal {
    /// Prompt tokens in all.
    pub input: u64,
    /// Prompt tokens read from the provider's cache (part of `input`).
    #[serde(default)]
    pub cache_read: u64,
    /// Prompt tokens written to the provider's cache (part of `input`).
    #[serde(default)]
    pub cache_write: u64,
    /// Generated tokens in all.
    pub output: u64,
    /// Generated tokens spent on reasoning (part of `output`).
    #[serde(default)]
    pub reasoning: u64,
    /// An upper bound of the tokens that were not reported. It is part of `input` and `output`, except for `undivided`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimated: Option<EstimatedUsage>,
    /// Calls that did not report all of their usage, and for which there is no estimate.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unknown_calls: u64,
}

impl UsageTotal {
    /// The usage of one call. `at_work` is whether a model may have generated anything: then usage that was not
    /// reported is unknown rather than nothing.
    pub fn of_call(reported: Option<ReportedUsage>, estimated: Option<EstimatedUsage>, at_work: bool) -> Self {
        let reported = reported.unwrap_or_default();
        let known = reported.at_least();
        let more = estimated.unwrap_or_default();
        Self {
            input: known.input.saturating_add(more.input),
            cache_read: known.cache_read,
            cache_write: known.cache_write,
            output: known.output.saturating_add(more.output),
            reasoning: known.reasoning,
            estimated,
            unknown_calls: u64::from(estimated.is_none() && at_work && reported.whole().is_none()),
        }
    }

    /// Whether nothing was used, as far as is known, and nothing is unknown.
    pub fn is_nothing(&self) -> bool {
        self.total() == 0 && self.estimated.is_none() && self.unknown_calls == 0
    }

    /// Whether everything was reported.
    pub fn is_reported(&self) -> bool {
        self.estimated.is_none() && self.unknown_calls == 0
    }

    /// All tokens together, including estimated ones.
    pub fn total(&self) -> u64 {
        let undivided = self.estimated.map_or(0, |estimated| estimated.undivided);
        self.input.saturating_add(self.output).saturating_add(undivided)
    }

    /// Prompt and generated tokens, to apply a price to.
    pub fn divided(&self) -> Usage {
        let Self { input, cache_read, cache_write, output, reasoning, .. } = *self;
        Usage { input, cache_read, cache_write, output, reasoning }
    }
}

impl AddAssign for UsageTotal {
    fn add_assign(&mut self, other: Self) {
        self.input = self.input.saturating_add(other.input);
        self.cache_read = self.cache_read.saturating_add(other.cache_read);
        self.cache_write = self.cache_write.saturating_add(other.cache_write);
        self.output = self.output.saturating_add(other.output);
        self.reasoning = self.reasoning.saturating_add(other.reasoning);
        if let Some(more) = other.estimated {
            let own = self.estimated.get_or_insert_default();
            own.input = own.input.saturating_add(more.input);
            own.output = own.output.saturating_add(more.output);
            own.undivided = own.undivided.saturating_add(more.undivided);
        }
        self.unknown_calls = self.unknown_calls.saturating_add(other.unknown_calls);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const MOST: Usage = Usage { input: 500, cache_read: 0, cache_write: 0, output: 1000, reasoning: 0 };

    #[test]
    fn a_count_that_is_none_is_not_read() {
        for (value, count) in [
            (json!(0), Some(0)),
            (json!(12), Some(12)),
            (json!(12.0), Some(12)),
            (json!(1_000_000_000), Some(1_000_000_000)),
            (json!(1_000_000_001), None),
            (json!(u64::MAX), None),
            (json!(-1), None),
            (json!(-0.5), None),
            (json!(12.5), None),
            (json!(1e30), None),
            (json!("12"), None),
            (json!(null), None),
            (json!(true), None),
            (json!([12]), None),
            (json!({ "count": 12 }), None),
        ] {
            assert_eq!(token_count(&value), count, "{value}");
        }
        let huge: Value = serde_json::from_str("1000000000000000000000000000000").unwrap();
        assert_eq!(token_count(&huge), None);
    }

    #[test]
    fn what_was_not_reported_is_estimated_total_by_total() {
        let of = |input, output| ReportedUsage { input, output, ..ReportedUsage::default() };
        let estimated = |input, output| Some(EstimatedUsage { input, output, undivided: 0 });
        assert_eq!(of(Some(9), Some(3)).missing(&MOST), None);
        assert_eq!(of(Some(9), None).missing(&MOST), estimated(0, 1000));
        assert_eq!(of(None, Some(3)).missing(&MOST), estimated(500, 0));
        assert_eq!(of(None, None).missing(&MOST), estimated(500, 1000));
        let total = UsageTotal::of_call(Some(of(Some(9), None)), estimated(0, 1000), true);
        assert_eq!((total.input, total.output, total.total(), total.unknown_calls), (9, 1000, 1009, 0));
        let unknown = UsageTotal::of_call(Some(of(Some(9), None)), None, true);
        assert_eq!((unknown.total(), unknown.unknown_calls), (9, 1));
        assert!(UsageTotal::of_call(None, None, false).is_nothing());
    }

    #[test]
    fn what_a_session_had_reported_before_is_subtracted_unless_it_starts_over() {
        let all = |input, output| ReportedUsage { input, output, ..ReportedUsage::default() };
        let before = Some(Usage { input: 900, output: 100, ..Usage::default() });
        assert_eq!(all(Some(1800), Some(200)).since(before), all(Some(900), Some(100)));
        assert_eq!(all(Some(1800), None).since(before), all(Some(900), None));
        assert_eq!(all(Some(899), Some(200)).since(before), all(Some(899), Some(200)));
        assert_eq!(all(Some(1800), Some(99)).since(before), all(Some(1800), Some(99)));
        assert_eq!(all(None, None).since(before), all(None, None));
        assert_eq!(all(Some(1800), Some(200)).since(None), all(Some(1800), Some(200)));
    }

    #[test]
    fn a_session_remembers_the_last_known_count_of_what_a_turn_does_not_report() {
        let all = |input, output| ReportedUsage { input, output, ..ReportedUsage::default() };
        let sum = |input, output| Some(Usage { input, output, ..Usage::default() });
        let before = sum(900, 100);
        assert_eq!(all(None, None).session_total(before), before);
        assert_eq!(all(None, None).session_total(None), None);
        assert_eq!(all(Some(1800), None).session_total(before), sum(1800, 100));
        assert_eq!(all(None, Some(200)).session_total(before), sum(900, 200));
        assert_eq!(all(Some(1800), Some(200)).session_total(before), sum(1800, 200));
        assert_eq!(all(Some(1800), None).session_total(None), sum(1800, 0));
        // It has started to count again: its total contains nothing from before.
        assert_eq!(all(Some(500), None).session_total(before), sum(500, 0));
    }

    #[test]
    fn counts_that_cannot_be_true_are_not_believed() {
        let of = |input, cache_read, output| ReportedUsage {
            input: Some(input),
            cache_read,
            cache_write: 7,
            output: Some(output),
            reasoning: 99,
        };
        let zeros = of(0, 5, 0).of_reply("text");
        assert_eq!((zeros.input, zeros.output, zeros.cache_read, zeros.reasoning), (None, None, 0, 0));
        assert_eq!(of(4, 0, 0).of_reply("").output, Some(0));
        let parts = of(10, 6, 20).of_reply("text");
        assert_eq!((parts.cache_read, parts.cache_write, parts.reasoning), (6, 4, 20));
    }
}
