//! Reads the token usage that servers report in different parts of a reply.
//!
//! Covers the published APIs and the servers that speak their dialects: `OpenAI` (the last chunk), xAI and Perplexity
//! (every chunk), Moonshot (inside the choice), Groq (`x_groq`), llama.cpp (`timings`), Ollama (`prompt_eval_count`,
//! `eval_count`), Gemini (`usageMetadata`), Anthropic (`message_start`, `message_delta`, and `iterations` where the API
//! ran a model several times for one message).

use serde_json::{Map, Value};

use crate::model::repeated_keys::values_of;
use crate::model::usage::{MAX_REPLY_TOKENS, ReportedUsage, parse_token_count};

/// The names of the usage fields in one dialect.
pub(super) struct UsageFields {
    /// Fields that count generated tokens. Their values become out of date when the model generates more.
    output: &'static [&'static str],
    /// The other fields that orch reads.
    other: &'static [&'static str],
    parse: fn(&Map<String, Value>) -> ReportedUsage,
}

impl UsageFields {
    /// Whether a field with this name contains a count.
    pub(super) fn has(&self, name: &str) -> bool {
        self.output.contains(&name) || self.other.contains(&name)
    }
}

/// The usage fields of `OpenAI` and of servers that speak its dialect.
pub(super) const OPENAI: UsageFields = UsageFields {
    output: &["completion_tokens", "output_tokens", "total_tokens", "eval_count", "predicted_n"],
    other: &[
        "prompt_tokens",
        "input_tokens",
        "prompt_tokens_details",
        "input_tokens_details",
        "completion_tokens_details",
        "output_tokens_details",
        "prompt_cache_hit_tokens",
        "prompt_eval_count",
        "prompt_n",
        "cache_n",
    ],
    parse: parse_openai,
};

/// The usage fields of Anthropic's Messages API.
pub(super) const ANTHROPIC: UsageFields = UsageFields {
    output: &["output_tokens", "iterations"],
    other: &["input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens", "cache_creation"],
    parse: parse_anthropic,
};

/// The usage fields of Gemini.
pub(super) const GEMINI: UsageFields = UsageFields {
    output: &["candidatesTokenCount", "thoughtsTokenCount", "totalTokenCount"],
    other: &["promptTokenCount", "cachedContentTokenCount", "toolUsePromptTokenCount"],
    parse: parse_gemini,
};

/// The usage fields of Bedrock's Converse API.
pub(super) const CONVERSE: UsageFields = UsageFields {
    output: &["outputTokens", "totalTokens"],
    other: &["inputTokens", "cacheReadInputTokens", "cacheWriteInputTokens"],
    parse: parse_converse,
};

/// Collects the reported usage of a reply under construction.
#[derive(Default)]
pub(super) struct UsageMeter {
    fields: Map<String, Value>,
    /// Whether the model generated more since the server last reported the output.
    is_out_of_date: bool,
}

impl UsageMeter {
    /// Merges a report. Counts are totals, so a later one replaces an earlier one, unless it is smaller: a total never
    /// shrinks, and tokens that a server has reported never count as fewer. The same holds for several counts under one
    /// name.
    pub(super) fn merge_report(&mut self, report: Option<&Value>, fields: &UsageFields) {
        let Some(report) = report.filter(|report| report.is_object()) else { return };
        for name in fields.output.iter().chain(fields.other) {
            for value in values_of(report, name).into_iter().filter(|value| !value.is_null()) {
                self.merge_count(name, value, fields);
            }
        }
    }

    /// Merges all reports that an event has under a name.
    pub(super) fn merge_reports(&mut self, event: &Value, name: &str, fields: &UsageFields) {
        for report in values_of(event, name) {
            self.merge_report(Some(report), fields);
        }
    }

    fn merge_count(&mut self, name: &str, value: &Value, fields: &UsageFields) {
        let count = parse_token_count(value);
        let previous = self.fields.get(name).and_then(parse_token_count);
        let is_smaller = count.zip(previous).is_some_and(|(count, previous)| count < previous);
        // Some servers leave fields at zero in later reports. Such a report says nothing about the output.
        if is_smaller && count == Some(0) {
            return;
        }
        if !is_smaller {
            self.fields.insert(name.to_owned(), value.clone());
        }
        if fields.output.contains(&name) {
            self.is_out_of_date = false;
        }
    }

    /// Records that the model generated more, so that the reported output is out of date.
    pub(super) fn mark_out_of_date(&mut self) {
        self.is_out_of_date = true;
    }

    /// Whether the server reported the output after the last piece of it.
    pub(super) fn is_up_to_date(&self, fields: &UsageFields) -> bool {
        !self.is_out_of_date && fields.output.iter().any(|name| self.fields.contains_key(*name))
    }

    /// The usage reported so far, for an incomplete reply. A sum of counts may be implausible although each of them is
    /// plausible; it is then unknown.
    pub(super) fn partial_usage(&self, fields: &UsageFields) -> ReportedUsage {
        let usage = (fields.parse)(&self.fields);
        let plausible = |count: Option<u64>| count.filter(|count| *count <= MAX_REPLY_TOKENS);
        ReportedUsage { input: plausible(usage.input), output: plausible(usage.output), ..usage }
    }

    /// The usage of the complete reply; its output is unknown if the model generated more after the last report.
    pub(super) fn complete_usage(&self, fields: &UsageFields) -> ReportedUsage {
        let usage = self.partial_usage(fields);
        ReportedUsage { output: usage.output.filter(|_| !self.is_out_of_date), ..usage }
    }
}

/// The count under the first of these names that is present; `None` if that value is not a count.
fn count(report: &Map<String, Value>, names: &[&str]) -> Option<u64> {
    names.iter().find_map(|name| report.get(*name)).and_then(parse_token_count)
}

/// Whether a field is present but not a count. orch then does not derive the count from other fields.
fn has_invalid_count(report: &Map<String, Value>, names: &[&str]) -> bool {
    names.iter().any(|name| report.get(*name).is_some_and(|value| parse_token_count(value).is_none()))
}

/// The count in `field` of the first of these objects that has the field.
fn detail_count(report: &Map<String, Value>, names: &[&str], field: &str) -> Option<u64> {
    names.iter().find_map(|name| report.get(*name)?.get(field)).and_then(parse_token_count)
}

/// Input and output tokens. Derives a missing count from their sum. If the sum is larger, raises the output, because
/// some servers count reasoning only in the sum.
fn complete_with_sum(input: Option<u64>, output: Option<u64>, sum: Option<u64>) -> (Option<u64>, Option<u64>) {
    match (input, output, sum) {
        (Some(input), Some(output), Some(sum)) => (Some(input), Some(output.max(sum.saturating_sub(input)))),
        (Some(input), None, Some(sum)) => (Some(input), sum.checked_sub(input)),
        (None, Some(output), Some(sum)) => (sum.checked_sub(output), Some(output)),
        (input, output, _) => (input, output),
    }
}

fn parse_openai(report: &Map<String, Value>) -> ReportedUsage {
    const INPUT: &[&str] = &["prompt_tokens", "input_tokens", "prompt_eval_count"];
    const OUTPUT: &[&str] = &["completion_tokens", "output_tokens", "eval_count", "predicted_n"];
    let is_count_invalid = has_invalid_count(report, INPUT) || has_invalid_count(report, OUTPUT);
    // `prompt_n` of llama.cpp counts only the prompt tokens that are not in its cache; `cache_n` counts the others.
    let timed_input = report.get("prompt_n").zip(report.get("cache_n")).and_then(|(uncached, cached)| {
        Some(parse_token_count(uncached)?.saturating_add(parse_token_count(cached)?))
            .filter(|_| !has_invalid_count(report, INPUT))
    });
    let (input, output) = (count(report, INPUT).or(timed_input), count(report, OUTPUT));
    let (input, output) =
        complete_with_sum(input, output, count(report, &["total_tokens"]).filter(|_| !is_count_invalid));
    let (input_details, output_details) =
        (["prompt_tokens_details", "input_tokens_details"], ["completion_tokens_details", "output_tokens_details"]);
    let cached = detail_count(report, &input_details, "cached_tokens")
        .or(count(report, &["prompt_cache_hit_tokens", "cache_n"]));
    let reasoning = detail_count(report, &output_details, "reasoning_tokens").unwrap_or(0);
    ReportedUsage {
        input,
        cache_read: cached.unwrap_or(0),
        cache_write: detail_count(report, &input_details, "cache_write_tokens").unwrap_or(0),
        // More reasoning than output means that the server counts them separately.
        output: output.map(|output| if reasoning > output { output.saturating_add(reasoning) } else { output }),
        reasoning,
    }
}

/// The names of the counts in an API whose input count does not include cached input.
struct SeparateCounts {
    input: &'static str,
    cache_read: &'static str,
    cache_write: &'static str,
    output: &'static str,
}

impl SeparateCounts {
    /// Adds up input, cache reads and cache writes, which do not overlap.
    fn parse(&self, report: &Map<String, Value>) -> ReportedUsage {
        let cache_count = |name| if report.contains_key(name) { count(report, &[name]) } else { Some(0) };
        let (cache_read, cache_write) = (cache_count(self.cache_read), cache_count(self.cache_write));
        let input = count(report, &[self.input]).zip(cache_read).zip(cache_write);
        let input = input
            .map(|((input, cache_read), cache_write)| input.saturating_add(cache_read).saturating_add(cache_write));
        ReportedUsage {
            input,
            cache_read: cache_read.unwrap_or(0),
            cache_write: cache_write.unwrap_or(0),
            output: count(report, &[self.output]),
            reasoning: 0,
        }
    }
}

fn parse_converse(report: &Map<String, Value>) -> ReportedUsage {
    let counts = SeparateCounts {
        input: "inputTokens",
        cache_read: "cacheReadInputTokens",
        cache_write: "cacheWriteInputTokens",
        output: "outputTokens",
    };
    let usage = counts.parse(report);
    let is_count_invalid = has_invalid_count(report, &["outputTokens"]) || usage.input.is_none();
    let total = count(report, &["totalTokens"]).filter(|_| !is_count_invalid);
    let (_, output) = complete_with_sum(usage.input, usage.output, total);
    ReportedUsage { output, ..usage }
}

/// If the report has `iterations`, adds up their counts, since the totals cover only the last iteration.
fn parse_anthropic(report: &Map<String, Value>) -> ReportedUsage {
    let counts = SeparateCounts {
        input: "input_tokens",
        cache_read: "cache_read_input_tokens",
        cache_write: "cache_creation_input_tokens",
        output: "output_tokens",
    };
    let iterations = report.get("iterations").and_then(Value::as_array).filter(|list| !list.is_empty());
    let Some(iterations) = iterations else { return counts.parse(&with_cache_writes(report)) };
    let zero = ReportedUsage { input: Some(0), output: Some(0), ..ReportedUsage::default() };
    let add_known = |a: Option<u64>, b: Option<u64>| a.zip(b).map(|(a, b)| a.saturating_add(b));
    iterations.iter().fold(zero, |sum, iteration| {
        let empty = Map::new();
        let usage = counts.parse(&with_cache_writes(&without_nulls(iteration.as_object().unwrap_or(&empty))));
        ReportedUsage {
            input: add_known(sum.input, usage.input),
            cache_read: sum.cache_read.saturating_add(usage.cache_read),
            cache_write: sum.cache_write.saturating_add(usage.cache_write),
            output: add_known(sum.output, usage.output),
            reasoning: 0,
        }
    })
}

/// The report of Anthropic's API with the number of tokens that the request wrote to the cache. Some servers report only
/// the numbers for each lifetime, such as `ephemeral_5m_input_tokens`.
fn with_cache_writes(report: &Map<String, Value>) -> Map<String, Value> {
    let mut report = report.clone();
    let by_lifetime = report.get("cache_creation").and_then(Value::as_object);
    let counts = by_lifetime.into_iter().flat_map(Map::values).filter(|value| !value.is_null());
    // The sum is unknown if one of the numbers is invalid.
    let sum = counts.map(parse_token_count).try_fold(0_u64, |sum, count| Some(sum.saturating_add(count?)));
    if by_lifetime.is_some() && !report.contains_key("cache_creation_input_tokens") {
        report.insert("cache_creation_input_tokens".to_owned(), sum.map_or(Value::Null, Value::from));
    }
    report
}

fn without_nulls(report: &Map<String, Value>) -> Map<String, Value> {
    report.iter().filter(|(_, value)| !value.is_null()).map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn parse_gemini(report: &Map<String, Value>) -> ReportedUsage {
    const INPUT: &[&str] = &["promptTokenCount", "toolUsePromptTokenCount"];
    const OUTPUT: &[&str] = &["candidatesTokenCount", "thoughtsTokenCount"];
    let sum = |names: &[&str; 2]| {
        let [first, second] = names.map(|name| report.get(name));
        let second = second.map_or(Some(0), parse_token_count);
        first.and_then(parse_token_count).zip(second).map(|(first, second)| first.saturating_add(second))
    };
    let is_count_invalid = has_invalid_count(report, INPUT) || has_invalid_count(report, OUTPUT);
    let total = count(report, &["totalTokenCount"]).filter(|_| !is_count_invalid);
    let (input, output) = complete_with_sum(
        sum(&["promptTokenCount", "toolUsePromptTokenCount"]),
        sum(&["candidatesTokenCount", "thoughtsTokenCount"]),
        total,
    );
    ReportedUsage {
        input,
        cache_read: count(report, &["cachedContentTokenCount"]).unwrap_or(0),
        cache_write: 0,
        output,
        reasoning: count(report, &["thoughtsTokenCount"]).unwrap_or(0),
    }
}

#[cfg(test)]
mod tests;
