//! Reads the token usage that servers report, wherever in a reply they put it.
//!
//! The places and names are those of the published APIs and of servers that speak their dialects: `OpenAI` (the last
//! chunk), xAI and Perplexity (every chunk), Moonshot (inside the choice), Groq (`x_groq`), llama.cpp (`timings`),
//! Ollama (`prompt_eval_count`, `eval_count`), Gemini (`usageMetadata`), Anthropic (`message_start`, `message_delta`,
//! and `iterations` where the API ran a model several times for one message).

use serde_json::{Map, Value};

use crate::model::usage::{ReportedUsage, token_count};

/// The names of the usage fields in one dialect.
pub(super) struct UsageFields {
    /// Fields that count generated tokens: a report of them is out of date once more is generated.
    output: &'static [&'static str],
    /// The other fields that are read.
    other: &'static [&'static str],
    read: fn(&Map<String, Value>) -> ReportedUsage,
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
    read: openai,
};

/// The usage fields of Anthropic's Messages API.
pub(super) const ANTHROPIC: UsageFields = UsageFields {
    output: &["output_tokens", "iterations"],
    other: &["input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"],
    read: anthropic,
};

/// The usage fields of Gemini.
pub(super) const GEMINI: UsageFields = UsageFields {
    output: &["candidatesTokenCount", "thoughtsTokenCount", "totalTokenCount"],
    other: &["promptTokenCount", "cachedContentTokenCount", "toolUsePromptTokenCount"],
    read: gemini,
};

/// Collects the reported usage of a reply under construction.
#[derive(Default)]
pub(super) struct UsageMeter {
    reported: Map<String, Value>,
    /// Whether more was generated since the output was last reported.
    out_of_date: bool,
}

impl UsageMeter {
    /// Merges a report. Counts are totals, so a later one replaces an earlier one.
    pub(super) fn report(&mut self, report: Option<&Value>, fields: &UsageFields) {
        let Some(report) = report.and_then(Value::as_object) else { return };
        for name in fields.output.iter().chain(fields.other) {
            let Some(value) = report.get(*name).filter(|value| !value.is_null()) else { continue };
            let known = self.reported.get(*name).and_then(token_count);
            // Some servers leave fields at zero in later reports, so a zero never replaces a count.
            if token_count(value) == Some(0) && known.is_some_and(|count| count > 0) {
                continue;
            }
            self.reported.insert((*name).to_owned(), value.clone());
            if fields.output.contains(name) {
                self.out_of_date = false;
            }
        }
    }

    /// Notes that more was generated, so that the reported output is out of date.
    pub(super) fn generated(&mut self) {
        self.out_of_date = true;
    }

    /// Whether the output was reported after the last piece of it.
    pub(super) fn is_up_to_date(&self, fields: &UsageFields) -> bool {
        !self.out_of_date && fields.output.iter().any(|name| self.reported.contains_key(*name))
    }

    /// The usage reported so far, for a reply that broke off.
    pub(super) fn so_far(&self, fields: &UsageFields) -> ReportedUsage {
        (fields.read)(&self.reported)
    }

    /// The usage of the complete reply; its output is unknown if more was generated after the last report.
    pub(super) fn of_reply(&self, fields: &UsageFields) -> ReportedUsage {
        let usage = self.so_far(fields);
        ReportedUsage { output: usage.output.filter(|_| !self.out_of_date), ..usage }
    }
}

/// The count under the first of these names that is present. If that value is not a count, later names are not tried.
fn count(report: &Map<String, Value>, names: &[&str]) -> Option<u64> {
    names.iter().find_map(|name| report.get(*name)).and_then(token_count)
}

/// Whether a field is present but not a count; then no value is derived in its place.
fn is_broken(report: &Map<String, Value>, names: &[&str]) -> bool {
    names.iter().any(|name| report.get(*name).is_some_and(|value| token_count(value).is_none()))
}

/// The count in `field` of the first of these objects that has it.
fn detail(report: &Map<String, Value>, names: &[&str], field: &str) -> Option<u64> {
    names.iter().find_map(|name| report.get(*name)?.get(field)).and_then(token_count)
}

/// Input and output tokens, completed from their sum where one is missing or where the sum is larger: some servers
/// count reasoning only in the sum.
fn completed(input: Option<u64>, output: Option<u64>, sum: Option<u64>) -> (Option<u64>, Option<u64>) {
    match (input, output, sum) {
        (Some(input), Some(output), Some(sum)) => (Some(input), Some(output.max(sum.saturating_sub(input)))),
        (Some(input), None, Some(sum)) => (Some(input), sum.checked_sub(input)),
        (None, Some(output), Some(sum)) => (sum.checked_sub(output), Some(output)),
        (input, output, _) => (input, output),
    }
}

fn openai(report: &Map<String, Value>) -> ReportedUsage {
    const INPUT: &[&str] = &["prompt_tokens", "input_tokens", "prompt_eval_count"];
    const OUTPUT: &[&str] = &["completion_tokens", "output_tokens", "eval_count", "predicted_n"];
    let broken = is_broken(report, INPUT) || is_broken(report, OUTPUT);
    // `prompt_n` of llama.cpp counts only the prompt tokens that it had to read; `cache_n` were in its cache.
    let read = report.get("prompt_n").zip(report.get("cache_n")).and_then(|(read, cached)| {
        Some(token_count(read)?.saturating_add(token_count(cached)?)).filter(|_| !is_broken(report, INPUT))
    });
    let (input, output) = (count(report, INPUT).or(read), count(report, OUTPUT));
    let (input, output) = completed(input, output, count(report, &["total_tokens"]).filter(|_| !broken));
    let (inputs, outputs) =
        (["prompt_tokens_details", "input_tokens_details"], ["completion_tokens_details", "output_tokens_details"]);
    let cached = detail(report, &inputs, "cached_tokens").or(count(report, &["prompt_cache_hit_tokens", "cache_n"]));
    ReportedUsage {
        input,
        cache_read: cached.unwrap_or(0),
        cache_write: detail(report, &inputs, "cache_write_tokens").unwrap_or(0),
        output,
        reasoning: detail(report, &outputs, "reasoning_tokens").unwrap_or(0),
    }
}

/// Adds input, cache reads and cache writes, which do not overlap. Where there are `iterations`, adds up those, since
/// the totals cover only the last one.
fn anthropic(report: &Map<String, Value>) -> ReportedUsage {
    let parts = |report: &Map<String, Value>| {
        let cached = |name| if report.contains_key(name) { count(report, &[name]) } else { Some(0) };
        let (read, write) = (cached("cache_read_input_tokens"), cached("cache_creation_input_tokens"));
        let input = count(report, &["input_tokens"]).zip(read).zip(write);
        let input = input.map(|((input, read), write)| input.saturating_add(read).saturating_add(write));
        let output = count(report, &["output_tokens"]);
        ReportedUsage { input, cache_read: read.unwrap_or(0), cache_write: write.unwrap_or(0), output, reasoning: 0 }
    };
    let whole = parts(report);
    let iterations = report.get("iterations").and_then(Value::as_array).filter(|list| !list.is_empty());
    let Some(iterations) = iterations else { return whole };
    let none = ReportedUsage { input: Some(0), output: Some(0), ..ReportedUsage::default() };
    let add = |a: Option<u64>, b: Option<u64>| a.zip(b).map(|(a, b)| a.saturating_add(b));
    iterations.iter().fold(none, |sum, iteration| {
        let empty = Map::new();
        let part = parts(&without_nulls(iteration.as_object().unwrap_or(&empty)));
        ReportedUsage {
            input: add(sum.input, part.input),
            cache_read: sum.cache_read.saturating_add(part.cache_read),
            cache_write: sum.cache_write.saturating_add(part.cache_write),
            output: add(sum.output, part.output),
            reasoning: 0,
        }
    })
}

fn without_nulls(report: &Map<String, Value>) -> Map<String, Value> {
    report.iter().filter(|(_, value)| !value.is_null()).map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn gemini(report: &Map<String, Value>) -> ReportedUsage {
    const INPUT: &[&str] = &["promptTokenCount", "toolUsePromptTokenCount"];
    const OUTPUT: &[&str] = &["candidatesTokenCount", "thoughtsTokenCount"];
    let sum = |names: &[&str; 2]| {
        let [first, second] = names.map(|name| report.get(name));
        let second = second.map_or(Some(0), token_count);
        first.and_then(token_count).zip(second).map(|(first, second)| first.saturating_add(second))
    };
    let broken = is_broken(report, INPUT) || is_broken(report, OUTPUT);
    let total = count(report, &["totalTokenCount"]).filter(|_| !broken);
    let (input, output) = completed(
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
mod tests {
    use serde_json::json;

    use super::*;

    /// The input and output tokens after these reports, which arrive after all generated text.
    fn read(fields: &UsageFields, reports: &[Value]) -> (Option<u64>, Option<u64>) {
        let mut meter = UsageMeter::default();
        meter.generated();
        for report in reports {
            meter.report(Some(report), fields);
        }
        let usage = meter.of_reply(fields).of_reply("text");
        (usage.input, usage.output)
    }

    fn odd() -> Vec<Value> {
        let huge = serde_json::from_str("1000000000000000000000000000000").unwrap();
        let mut odd = vec![json!(-7), json!(1.5), json!("7"), json!(1e30), json!({}), json!([7]), json!(true), huge];
        odd.extend([json!(0), json!(null), json!(u64::MAX), json!("")]);
        odd
    }

    #[test]
    fn an_odd_count_is_unknown_in_every_dialect_and_leaves_the_other_one_known() {
        for (fields, input, output) in [
            (&OPENAI, "prompt_tokens", "completion_tokens"),
            (&OPENAI, "input_tokens", "output_tokens"),
            (&OPENAI, "prompt_eval_count", "eval_count"),
            (&ANTHROPIC, "input_tokens", "output_tokens"),
            (&GEMINI, "promptTokenCount", "candidatesTokenCount"),
        ] {
            let report = |a: Value, b: Value| json!({ input: a, output: b });
            assert_eq!(read(fields, &[report(json!(9), json!(3))]), (Some(9), Some(3)), "{input}");
            for odd in odd() {
                assert_eq!(read(fields, &[report(odd.clone(), json!(3))]), (None, Some(3)), "{input}: {odd}");
                assert_eq!(read(fields, &[report(json!(9), odd.clone())]), (Some(9), None), "{output}: {odd}");
                assert_eq!(read(fields, &[report(odd.clone(), odd.clone())]), (None, None), "{output}: {odd}");
            }
        }
        for none in [json!(null), json!({}), json!([]), json!(""), json!(7)] {
            for fields in [&OPENAI, &ANTHROPIC, &GEMINI] {
                assert_eq!(read(fields, std::slice::from_ref(&none)), (None, None), "{none}");
            }
        }
    }

    #[test]
    fn a_count_of_what_was_generated_before_the_end_is_not_whole() {
        for (fields, input, output) in [
            (&OPENAI, "prompt_tokens", "completion_tokens"),
            (&ANTHROPIC, "input_tokens", "output_tokens"),
            (&GEMINI, "promptTokenCount", "candidatesTokenCount"),
        ] {
            let mut meter = UsageMeter::default();
            meter.report(Some(&json!({ input: 9, output: 1 })), fields);
            assert_eq!(meter.of_reply(fields).output, Some(1));
            meter.generated();
            assert_eq!((meter.of_reply(fields).input, meter.of_reply(fields).output), (Some(9), None));
            assert_eq!(meter.so_far(fields).output, Some(1));
            meter.report(Some(&json!({ output: 4 })), fields);
            assert_eq!((meter.of_reply(fields).input, meter.of_reply(fields).output), (Some(9), Some(4)));
        }
    }

    #[test]
    fn fields_that_are_not_filled_in_do_not_hide_counts_before_them() {
        let zeros = json!({ "prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0 });
        let nulls = json!({ "prompt_tokens": null, "completion_tokens": null });
        let counts = json!({ "prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12 });
        for later in [&zeros, &nulls] {
            assert_eq!(read(&OPENAI, &[counts.clone(), later.clone()]), (Some(9), Some(3)), "{later}");
            assert_eq!(read(&OPENAI, &[later.clone(), counts.clone()]), (Some(9), Some(3)), "{later}");
        }
        let broken = json!({ "completion_tokens": -1 });
        assert_eq!(read(&OPENAI, &[counts, broken]), (Some(9), None), "a total that is broken is not an earlier one");
    }

    #[test]
    fn a_sum_tells_what_its_parts_leave_out() {
        let of = |report: Value| read(&OPENAI, &[report]);
        let (input, output, sum) = ("prompt_tokens", "completion_tokens", "total_tokens");
        // xAI, and Gemini behind this dialect, count reasoning only in the sum.
        assert_eq!(of(json!({ input: 21, output: 0, sum: 81 })), (Some(21), Some(60)));
        assert_eq!(of(json!({ input: 21, output: 5, sum: 81 })), (Some(21), Some(60)));
        assert_eq!(of(json!({ input: 21, sum: 81 })), (Some(21), Some(60)));
        assert_eq!(of(json!({ output: 60, sum: 81 })), (Some(21), Some(60)));
        assert_eq!(of(json!({ input: 21, output: 5, sum: 2 })), (Some(21), Some(5)));
        assert_eq!(of(json!({ input: 90, sum: 81 })), (Some(90), None));
        assert_eq!(of(json!({ input: -1, output: 5, sum: 81 })), (None, Some(5)));
        let gemini = |report: Value| read(&GEMINI, &[report]);
        assert_eq!(
            gemini(json!({ "promptTokenCount": 21, "thoughtsTokenCount": 60, "totalTokenCount": 81 })),
            (Some(21), Some(60))
        );
        assert_eq!(
            gemini(
                json!({ "promptTokenCount": 20, "toolUsePromptTokenCount": 4, "candidatesTokenCount": 2, "thoughtsTokenCount": 3 })
            ),
            (Some(24), Some(5))
        );
    }

    #[test]
    fn the_timings_of_llama_cpp_count_where_there_is_no_usage() {
        let timings = json!({ "cache_n": 5, "prompt_n": 4, "predicted_n": 3, "prompt_ms": 1.5 });
        assert_eq!(read(&OPENAI, std::slice::from_ref(&timings)), (Some(9), Some(3)));
        let without = json!({ "prompt_n": 4, "predicted_n": 3 });
        assert_eq!(read(&OPENAI, &[without]), (None, Some(3)), "what was in the cache is not known");
        let usage = json!({ "prompt_tokens": 11, "completion_tokens": 2 });
        assert_eq!(read(&OPENAI, &[timings, usage]), (Some(11), Some(2)));
    }

    #[test]
    fn all_iterations_of_a_message_count() {
        let of = |report: Value| read(&ANTHROPIC, &[report]);
        let iterations = json!({ "input_tokens": 10, "output_tokens": 2, "iterations": [
            { "type": "compaction", "input_tokens": 100, "output_tokens": 20, "cache_read_input_tokens": null },
            { "type": "message", "input_tokens": 10, "output_tokens": 2, "cache_read_input_tokens": 5 },
        ] });
        assert_eq!(of(iterations), (Some(115), Some(22)));
        let broken = json!({ "input_tokens": 10, "output_tokens": 2, "iterations": [{ "input_tokens": 10 }] });
        assert_eq!(of(broken), (Some(10), None));
        let cached = json!({ "input_tokens": 1, "cache_read_input_tokens": 8, "cache_creation_input_tokens": 2, "output_tokens": 3 });
        assert_eq!(of(cached), (Some(11), Some(3)));
        let odd = json!({ "input_tokens": 1, "cache_read_input_tokens": -8, "output_tokens": 3 });
        assert_eq!(of(odd), (None, Some(3)));
    }
}
