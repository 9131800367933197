//! The token usage of calls: reported, estimated or unknown.
//!
//! A provider reports the usage of a reply in full, in part or not at all. Unreported usage never counts as zero: orch
//! estimates it if it knows an upper bound, and otherwise marks it as unknown.

use std::ops::AddAssign;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The largest plausible token count of one reply; a larger reported count is an error of the provider.
pub(crate) const MAX_REPLY_TOKENS: u64 = 1_000_000_000;

/// Tokens of one or more calls, for which every count is known.
///
/// `input` counts every prompt token, including cached ones. `output` counts every generated token, including
/// reasoning. The other three counts are parts of these two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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

/// Tokens of one call as its provider reported them. An unreported total is `None`, never zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
    /// Whether the provider reported neither total.
    pub fn is_empty(&self) -> bool {
        self.input.is_none() && self.output.is_none()
    }

    /// The complete usage, if the provider reported both totals.
    pub fn complete(&self) -> Option<Usage> {
        self.input.and(self.output).map(|_| self.lower_bound())
    }

    /// A lower bound of the usage: an unreported total adds nothing.
    pub fn lower_bound(&self) -> Usage {
        Usage {
            input: self.input.unwrap_or(0),
            cache_read: self.cache_read,
            cache_write: self.cache_write,
            output: self.output.unwrap_or(0),
            reasoning: self.reasoning,
        }
    }

    /// Corrects counts that are impossible for a reply with or without content: every prompt and every nonempty reply
    /// has tokens, and a part is never larger than its total. An impossible number of cached tokens counts as none,
    /// because cached tokens cost less than others.
    #[must_use]
    pub fn plausible_for_reply(self, has_content: bool) -> Self {
        let input = self.input.filter(|count| *count > 0);
        let output = self.output.filter(|count| *count > 0 || !has_content);
        let cache_read = if self.cache_read > input.unwrap_or(0) { 0 } else { self.cache_read };
        Self {
            input,
            cache_read,
            cache_write: self.cache_write.min(input.unwrap_or(0) - cache_read),
            output,
            reasoning: self.reasoning.min(output.unwrap_or(0)),
        }
    }

    /// The usage of a session since its total was `before`; `self` is the total that the session reports now. A session
    /// that reports less than before has restarted its counters.
    #[must_use]
    pub fn since(self, before: Option<Usage>) -> Self {
        let Some(before) = before else { return self };
        if self.has_restarted(before) {
            return self;
        }
        Self {
            input: self.input.map(|total| total - before.input),
            cache_read: self.cache_read.saturating_sub(before.cache_read),
            cache_write: self.cache_write.saturating_sub(before.cache_write),
            output: self.output.map(|total| total - before.output),
            reasoning: self.reasoning.saturating_sub(before.reasoning),
        }
    }

    /// The new total of a session whose total was `before` and that now reports `self`. A count that the session does
    /// not report now keeps its previous value. Otherwise, `since` would count these tokens again after the next
    /// report.
    #[must_use]
    pub fn session_total(self, before: Option<Usage>) -> Option<Usage> {
        if self.is_empty() {
            return before;
        }
        let previous = before.filter(|before| !self.has_restarted(*before)).unwrap_or_default();
        let current = self.lower_bound();
        let Usage { input, cache_read, cache_write, .. } = if self.input.is_some() { current } else { previous };
        let Usage { output, reasoning, .. } = if self.output.is_some() { current } else { previous };
        Some(Usage { input, cache_read, cache_write, output, reasoning })
    }

    /// Whether a session that reported `before` reports less now.
    fn has_restarted(self, before: Usage) -> bool {
        let decreased = |count: Option<u64>, before: u64| count.is_some_and(|count| count < before);
        decreased(self.input, before.input) || decreased(self.output, before.output)
    }

    /// An upper bound of a reply's unreported usage, if `max_usage` is an upper bound of its usage; `None` if the
    /// provider reported everything.
    pub fn unreported_upper_bound(&self, max_usage: &Usage) -> Option<EstimatedUsage> {
        let unreported = |reported: Option<u64>, max: u64| if reported.is_some() { 0 } else { max };
        self.complete().is_none().then(|| EstimatedUsage {
            input: unreported(self.input, max_usage.input),
            output: unreported(self.output, max_usage.output),
            unsplit: 0,
        })
    }
}

/// A token count from JSON; `None` if it is negative, has a fraction or is too large for one reply.
pub fn parse_token_count(value: &Value) -> Option<u64> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is a small whole number")]
    #[expect(clippy::cast_precision_loss, reason = "the bound is far below 2^52")]
    let to_integer = |number: f64| {
        (number.fract() == 0.0 && (0.0..=MAX_REPLY_TOKENS as f64).contains(&number)).then_some(number as u64)
    };
    value.as_u64().or_else(|| value.as_f64().and_then(to_integer)).filter(|count| *count <= MAX_REPLY_TOKENS)
}

/// An upper bound of unreported tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EstimatedUsage {
    /// Prompt tokens.
    #[serde(default)]
    pub input: u64,
    /// Generated tokens.
    #[serde(default)]
    pub output: u64,
    /// Tokens of CLI agents, whose `estimate:` does not separate input from output.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unsplit: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl From<Usage> for EstimatedUsage {
    fn from(usage: Usage) -> Self {
        Self { input: usage.input, output: usage.output, unsplit: 0 }
    }
}

/// Tokens of one or more calls, including estimated and unknown usage.
///
/// `input` and `output` contain both reported and estimated tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
    /// An upper bound of the unreported tokens. It is part of `input` and `output`, except for `unsplit`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimated: Option<EstimatedUsage>,
    /// Calls that did not report all of their usage and have no estimate.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub calls_with_unknown_usage: u64,
}

impl UsageTotal {
    /// The usage of one call. If a model may have generated something (`may_have_generated`), unreported usage is
    /// unknown, not zero.
    pub fn from_call(
        reported: Option<ReportedUsage>,
        estimated: Option<EstimatedUsage>,
        may_have_generated: bool,
    ) -> Self {
        let reported = reported.unwrap_or_default();
        let lower_bound = reported.lower_bound();
        let unreported = estimated.unwrap_or_default();
        let is_unknown = estimated.is_none() && may_have_generated && reported.complete().is_none();
        Self {
            input: lower_bound.input.saturating_add(unreported.input),
            cache_read: lower_bound.cache_read,
            cache_write: lower_bound.cache_write,
            output: lower_bound.output.saturating_add(unreported.output),
            reasoning: lower_bound.reasoning,
            estimated,
            calls_with_unknown_usage: u64::from(is_unknown),
        }
    }

    /// Whether the known usage is zero and no usage is unknown.
    pub fn is_empty(&self) -> bool {
        self.total() == 0 && self.estimated.is_none() && self.calls_with_unknown_usage == 0
    }

    /// Whether the providers reported everything.
    pub fn is_fully_reported(&self) -> bool {
        self.estimated.is_none() && self.calls_with_unknown_usage == 0
    }

    /// All tokens together, including estimated ones.
    pub fn total(&self) -> u64 {
        let unsplit = self.estimated.map_or(0, |estimated| estimated.unsplit);
        self.input.saturating_add(self.output).saturating_add(unsplit)
    }

    /// The prompt and generated tokens, which have prices, without unsplit estimates.
    pub fn priced_tokens(&self) -> Usage {
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
        if let Some(other) = other.estimated {
            let estimated = self.estimated.get_or_insert_default();
            estimated.input = estimated.input.saturating_add(other.input);
            estimated.output = estimated.output.saturating_add(other.output);
            estimated.unsplit = estimated.unsplit.saturating_add(other.unsplit);
        }
        self.calls_with_unknown_usage = self.calls_with_unknown_usage.saturating_add(other.calls_with_unknown_usage);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const MAX_USAGE: Usage = Usage { input: 500, cache_read: 0, cache_write: 0, output: 1000, reasoning: 0 };

    #[test]
    fn only_plausible_token_counts_are_accepted() {
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
            assert_eq!(parse_token_count(&value), count, "{value}");
        }
        let huge: Value = serde_json::from_str("1000000000000000000000000000000").unwrap();
        assert_eq!(parse_token_count(&huge), None);
    }

    #[test]
    fn each_unreported_total_is_estimated() {
        let reported = |input, output| ReportedUsage { input, output, ..ReportedUsage::default() };
        let estimated = |input, output| Some(EstimatedUsage { input, output, unsplit: 0 });
        assert_eq!(reported(Some(9), Some(3)).unreported_upper_bound(&MAX_USAGE), None);
        assert_eq!(reported(Some(9), None).unreported_upper_bound(&MAX_USAGE), estimated(0, 1000));
        assert_eq!(reported(None, Some(3)).unreported_upper_bound(&MAX_USAGE), estimated(500, 0));
        assert_eq!(reported(None, None).unreported_upper_bound(&MAX_USAGE), estimated(500, 1000));
        let total = UsageTotal::from_call(Some(reported(Some(9), None)), estimated(0, 1000), true);
        assert_eq!((total.input, total.output, total.total(), total.calls_with_unknown_usage), (9, 1000, 1009, 0));
        let unknown = UsageTotal::from_call(Some(reported(Some(9), None)), None, true);
        assert_eq!((unknown.total(), unknown.calls_with_unknown_usage), (9, 1));
        assert!(UsageTotal::from_call(None, None, false).is_empty());
    }

    #[test]
    fn earlier_usage_of_a_session_is_subtracted_unless_its_counters_restarted() {
        let session_total = |input, output| ReportedUsage { input, output, ..ReportedUsage::default() };
        let before = Some(Usage { input: 900, output: 100, ..Usage::default() });
        assert_eq!(session_total(Some(1800), Some(200)).since(before), session_total(Some(900), Some(100)));
        assert_eq!(session_total(Some(1800), None).since(before), session_total(Some(900), None));
        assert_eq!(session_total(Some(899), Some(200)).since(before), session_total(Some(899), Some(200)));
        assert_eq!(session_total(Some(1800), Some(99)).since(before), session_total(Some(1800), Some(99)));
        assert_eq!(session_total(None, None).since(before), session_total(None, None));
        assert_eq!(session_total(Some(1800), Some(200)).since(None), session_total(Some(1800), Some(200)));
    }

    #[test]
    fn a_session_total_contains_earlier_counts_that_a_turn_does_not_report() {
        let reported = |input, output| ReportedUsage { input, output, ..ReportedUsage::default() };
        let total = |input, output| Some(Usage { input, output, ..Usage::default() });
        let before = total(900, 100);
        assert_eq!(reported(None, None).session_total(before), before);
        assert_eq!(reported(None, None).session_total(None), None);
        assert_eq!(reported(Some(1800), None).session_total(before), total(1800, 100));
        assert_eq!(reported(None, Some(200)).session_total(before), total(900, 200));
        assert_eq!(reported(Some(1800), Some(200)).session_total(before), total(1800, 200));
        assert_eq!(reported(Some(1800), None).session_total(None), total(1800, 0));
        // The counters have restarted: the total contains nothing from before.
        assert_eq!(reported(Some(500), None).session_total(before), total(500, 0));
    }

    #[test]
    fn impossible_counts_are_corrected() {
        let reported = |input, cache_read, output| ReportedUsage {
            input: Some(input),
            cache_read,
            cache_write: 7,
            output: Some(output),
            reasoning: 99,
        };
        let zeros = reported(0, 5, 0).plausible_for_reply(true);
        assert_eq!((zeros.input, zeros.output, zeros.cache_read, zeros.reasoning), (None, None, 0, 0));
        assert_eq!(reported(4, 0, 0).plausible_for_reply(false).output, Some(0));
        let parts = reported(10, 6, 20).plausible_for_reply(true);
        assert_eq!((parts.cache_read, parts.cache_write, parts.reasoning), (6, 4, 20));
        let too_many_cached = reported(10, 11, 20).plausible_for_reply(true);
        assert_eq!((too_many_cached.input, too_many_cached.cache_read), (Some(10), 0));
    }
}
