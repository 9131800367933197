//! Tests of the token counts that servers report.

use serde_json::json;

use super::*;

/// The input and output tokens after these reports, which arrive after all generated text.
fn token_counts(fields: &UsageFields, reports: &[Value]) -> (Option<u64>, Option<u64>) {
    let mut meter = UsageMeter::default();
    meter.mark_out_of_date();
    for report in reports {
        meter.merge_report(Some(report), fields);
    }
    let usage = meter.complete_usage(fields).plausible_for_reply(true);
    (usage.input, usage.output)
}

/// Values that are not the count of a reply.
fn invalid_counts() -> Vec<Value> {
    let huge = serde_json::from_str("1000000000000000000000000000000").unwrap();
    let mut counts = vec![json!(-7), json!(1.5), json!("7"), json!(1e30), json!({}), json!([7]), json!(true), huge];
    counts.extend([json!(0), json!(null), json!(u64::MAX), json!("")]);
    counts
}

#[test]
fn an_invalid_count_is_unknown_in_every_dialect_and_does_not_affect_the_other() {
    for (fields, input, output) in [
        (&OPENAI, "prompt_tokens", "completion_tokens"),
        (&OPENAI, "input_tokens", "output_tokens"),
        (&OPENAI, "prompt_eval_count", "eval_count"),
        (&ANTHROPIC, "input_tokens", "output_tokens"),
        (&GEMINI, "promptTokenCount", "candidatesTokenCount"),
        (&CONVERSE, "inputTokens", "outputTokens"),
    ] {
        let report = |a: Value, b: Value| json!({ input: a, output: b });
        assert_eq!(token_counts(fields, &[report(json!(9), json!(3))]), (Some(9), Some(3)), "{input}");
        for invalid in invalid_counts() {
            assert_eq!(
                token_counts(fields, &[report(invalid.clone(), json!(3))]),
                (None, Some(3)),
                "{input}: {invalid}"
            );
            assert_eq!(
                token_counts(fields, &[report(json!(9), invalid.clone())]),
                (Some(9), None),
                "{output}: {invalid}"
            );
            assert_eq!(
                token_counts(fields, &[report(invalid.clone(), invalid.clone())]),
                (None, None),
                "{output}: {invalid}"
            );
        }
    }
    for empty_report in [json!(null), json!({}), json!([]), json!(""), json!(7)] {
        for fields in [&OPENAI, &ANTHROPIC, &GEMINI, &CONVERSE] {
            assert_eq!(token_counts(fields, std::slice::from_ref(&empty_report)), (None, None), "{empty_report}");
        }
    }
}

#[test]
fn an_output_count_from_before_the_end_is_not_complete() {
    for (fields, input, output) in [
        (&OPENAI, "prompt_tokens", "completion_tokens"),
        (&ANTHROPIC, "input_tokens", "output_tokens"),
        (&GEMINI, "promptTokenCount", "candidatesTokenCount"),
    ] {
        let mut meter = UsageMeter::default();
        meter.merge_report(Some(&json!({ input: 9, output: 1 })), fields);
        assert_eq!(meter.complete_usage(fields).output, Some(1));
        meter.mark_out_of_date();
        assert_eq!((meter.complete_usage(fields).input, meter.complete_usage(fields).output), (Some(9), None));
        assert_eq!(meter.partial_usage(fields).output, Some(1));
        meter.merge_report(Some(&json!({ output: 4 })), fields);
        assert_eq!((meter.complete_usage(fields).input, meter.complete_usage(fields).output), (Some(9), Some(4)));
    }
}

#[test]
fn empty_fields_do_not_replace_earlier_counts() {
    let zeros = json!({ "prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0 });
    let nulls = json!({ "prompt_tokens": null, "completion_tokens": null });
    let counts = json!({ "prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12 });
    for later in [&zeros, &nulls] {
        assert_eq!(token_counts(&OPENAI, &[counts.clone(), later.clone()]), (Some(9), Some(3)), "{later}");
        assert_eq!(token_counts(&OPENAI, &[later.clone(), counts.clone()]), (Some(9), Some(3)), "{later}");
    }
    let broken = json!({ "completion_tokens": -1 });
    assert_eq!(token_counts(&OPENAI, &[counts, broken]), (Some(9), None), "an invalid count replaces the earlier one");
}

#[test]
fn a_smaller_count_does_not_replace_an_earlier_one() {
    let report = |input: u64, output: u64| json!({ "prompt_tokens": input, "completion_tokens": output });
    for (reports, counts) in [
        ([report(100, 50), report(1, 1)], (Some(100), Some(50))),
        ([report(1, 50), report(100, 1)], (Some(100), Some(50))),
        ([report(1, 1), report(100, 50)], (Some(100), Some(50))),
    ] {
        assert_eq!(token_counts(&OPENAI, &reports), counts, "{reports:?}");
    }
    // The count of an earlier report is a lower bound even if the server reports less after the end.
    let mut meter = UsageMeter::default();
    meter.merge_report(Some(&report(100, 50)), &OPENAI);
    meter.mark_out_of_date();
    meter.merge_report(Some(&report(100, 1)), &OPENAI);
    assert_eq!(meter.complete_usage(&OPENAI).output, Some(50));
}

#[test]
fn an_implausible_sum_of_plausible_counts_is_unknown() {
    let most = 1_000_000_000_u64;
    let openai = json!({ "prompt_tokens": 11, "completion_tokens": 7,
        "completion_tokens_details": { "reasoning_tokens": most } });
    assert_eq!(token_counts(&OPENAI, &[openai]), (Some(11), None));
    let anthropic = json!({ "input_tokens": most, "cache_read_input_tokens": 1, "output_tokens": most });
    assert_eq!(token_counts(&ANTHROPIC, &[anthropic]), (None, Some(most)));
    let iteration = json!({ "input_tokens": most, "output_tokens": most });
    let iterations = json!({ "iterations": [iteration, iteration] });
    assert_eq!(token_counts(&ANTHROPIC, &[iterations]), (None, None));
    let gemini = json!({ "promptTokenCount": 3, "candidatesTokenCount": most, "thoughtsTokenCount": most });
    assert_eq!(token_counts(&GEMINI, &[gemini]), (Some(3), None));
}

#[test]
fn missing_counts_are_derived_from_the_sum() {
    let openai = |report: Value| token_counts(&OPENAI, &[report]);
    let (input, output, sum) = ("prompt_tokens", "completion_tokens", "total_tokens");
    // xAI, and Gemini behind this dialect, count reasoning only in the sum.
    assert_eq!(openai(json!({ input: 21, output: 0, sum: 81 })), (Some(21), Some(60)));
    assert_eq!(openai(json!({ input: 21, output: 5, sum: 81 })), (Some(21), Some(60)));
    assert_eq!(openai(json!({ input: 21, sum: 81 })), (Some(21), Some(60)));
    assert_eq!(openai(json!({ output: 60, sum: 81 })), (Some(21), Some(60)));
    assert_eq!(openai(json!({ input: 21, output: 5, sum: 2 })), (Some(21), Some(5)));
    assert_eq!(openai(json!({ input: 90, sum: 81 })), (Some(90), None));
    assert_eq!(openai(json!({ input: -1, output: 5, sum: 81 })), (None, Some(5)));
    let gemini = |report: Value| token_counts(&GEMINI, &[report]);
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
fn the_sum_of_bedrock_includes_tokens_that_it_reports_nowhere_else() {
    let converse = |report: Value| token_counts(&CONVERSE, &[report]);
    let (input, output, sum) = ("inputTokens", "outputTokens", "totalTokens");
    assert_eq!(converse(json!({ input: 5, output: 7, sum: 18, "cacheReadInputTokens": 6 })), (Some(11), Some(7)));
    assert_eq!(converse(json!({ input: 5, output: 7, sum: 40 })), (Some(5), Some(35)));
    assert_eq!(converse(json!({ input: 5, sum: 40 })), (Some(5), Some(35)));
    assert_eq!(converse(json!({ input: 5, output: 7, sum: 3 })), (Some(5), Some(7)));
    assert_eq!(converse(json!({ input: -1, output: 7, sum: 40 })), (None, Some(7)));
    assert_eq!(converse(json!({ input: 5, output: -7, sum: 40 })), (Some(5), None));
}

#[test]
fn more_reasoning_than_output_is_counted_apart() {
    let usage = |completion: u64, reasoning: u64, total: Option<u64>| {
        let mut meter = UsageMeter::default();
        let report = json!({ "prompt_tokens": 9, "completion_tokens": completion, "total_tokens": total,
            "completion_tokens_details": { "reasoning_tokens": reasoning } });
        meter.merge_report(Some(&report), &OPENAI);
        let usage = meter.complete_usage(&OPENAI).plausible_for_reply(true);
        (usage.output, usage.reasoning)
    };
    assert_eq!(usage(5, 4000, None), (Some(4005), 4000));
    assert_eq!(usage(5, 4000, Some(14)), (Some(4005), 4000));
    // The sum already includes the reasoning.
    assert_eq!(usage(5, 4000, Some(4014)), (Some(4005), 4000));
    assert_eq!(usage(4005, 4000, None), (Some(4005), 4000));
}

#[test]
fn more_cached_tokens_than_tokens_are_not_believed() {
    let cached = |fields: &UsageFields, report: Value| {
        let mut meter = UsageMeter::default();
        meter.merge_report(Some(&report), fields);
        let usage = meter.complete_usage(fields).plausible_for_reply(true);
        (usage.input, usage.cache_read)
    };
    let openai = |cached_tokens: u64| json!({ "prompt_tokens": 9, "completion_tokens": 3, "prompt_tokens_details": { "cached_tokens": cached_tokens } });
    assert_eq!(cached(&OPENAI, openai(9)), (Some(9), 9));
    assert_eq!(cached(&OPENAI, openai(10)), (Some(9), 0));
    let gemini = json!({ "promptTokenCount": 9, "candidatesTokenCount": 3, "cachedContentTokenCount": 10 });
    assert_eq!(cached(&GEMINI, gemini), (Some(9), 0));
}

#[test]
fn cache_writes_may_be_reported_by_lifetime() {
    let anthropic = |report: Value| {
        let mut meter = UsageMeter::default();
        meter.merge_report(Some(&report), &ANTHROPIC);
        let usage = meter.complete_usage(&ANTHROPIC);
        (usage.input, usage.cache_write)
    };
    let by_lifetime = json!({ "ephemeral_5m_input_tokens": 4, "ephemeral_1h_input_tokens": 3 });
    assert_eq!(
        anthropic(json!({ "input_tokens": 1, "cache_creation": by_lifetime, "output_tokens": 3 })),
        (Some(8), 7)
    );
    let both = json!({ "input_tokens": 1, "cache_creation": by_lifetime, "cache_creation_input_tokens": 7, "output_tokens": 3 });
    assert_eq!(anthropic(both), (Some(8), 7));
    let invalid =
        json!({ "input_tokens": 1, "cache_creation": { "ephemeral_5m_input_tokens": -4 }, "output_tokens": 3 });
    assert_eq!(anthropic(invalid), (None, 0));
    let iterations = json!({ "iterations": [
        { "input_tokens": 10, "output_tokens": 2, "cache_creation": by_lifetime },
        { "input_tokens": 10, "output_tokens": 2, "cache_creation": null },
    ] });
    assert_eq!(anthropic(iterations), (Some(27), 7));
}

#[test]
fn llama_cpp_timings_count_without_a_usage() {
    let timings = json!({ "cache_n": 5, "prompt_n": 4, "predicted_n": 3, "prompt_ms": 1.5 });
    assert_eq!(token_counts(&OPENAI, std::slice::from_ref(&timings)), (Some(9), Some(3)));
    let without_cache = json!({ "prompt_n": 4, "predicted_n": 3 });
    assert_eq!(token_counts(&OPENAI, &[without_cache]), (None, Some(3)), "the number of cached tokens is unknown");
    let usage = json!({ "prompt_tokens": 11, "completion_tokens": 2 });
    assert_eq!(token_counts(&OPENAI, &[timings, usage]), (Some(11), Some(2)));
}

#[test]
fn all_iterations_of_a_message_count() {
    let anthropic = |report: Value| token_counts(&ANTHROPIC, &[report]);
    let iterations = json!({ "input_tokens": 10, "output_tokens": 2, "iterations": [
        { "type": "compaction", "input_tokens": 100, "output_tokens": 20, "cache_read_input_tokens": null },
        { "type": "message", "input_tokens": 10, "output_tokens": 2, "cache_read_input_tokens": 5 },
    ] });
    assert_eq!(anthropic(iterations), (Some(115), Some(22)));
    let broken = json!({ "input_tokens": 10, "output_tokens": 2, "iterations": [{ "input_tokens": 10 }] });
    assert_eq!(anthropic(broken), (Some(10), None));
    let cached = json!({ "input_tokens": 1, "cache_read_input_tokens": 8, "cache_creation_input_tokens": 2, "output_tokens": 3 });
    assert_eq!(anthropic(cached), (Some(11), Some(3)));
    let invalid = json!({ "input_tokens": 1, "cache_read_input_tokens": -8, "output_tokens": 3 });
    assert_eq!(anthropic(invalid), (None, Some(3)));
}
