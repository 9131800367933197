//! Tests of what a reply under construction counts and limits.

use serde_json::json;

use super::*;
use crate::provider::Dialect;
use crate::provider::reply_blocks::MAX_BLOCKS;
use crate::provider::usage::OPENAI;

#[test]
fn a_reply_has_a_limited_number_of_parts() {
    let mut builder = ReplyBuilder::default();
    for number in 0..MAX_BLOCKS {
        builder.start_call(&number.to_string(), None, &format!("tool{number}"));
    }
    assert!(!builder.has_too_many_blocks());
    builder.push_text("x", &|_| {});
    assert!(builder.has_too_many_blocks());
    builder.start_call("more", None, "tool");
    builder.blocks.push_opaque(Dialect::OpenAi, json!({}));
    assert_eq!((builder.blocks.len(), builder.tools.len()), (MAX_BLOCKS, MAX_LISTED));
}

#[test]
fn text_is_measured_as_it_arrives() {
    let mut builder = ReplyBuilder::default();
    builder.push_text(" \n", &|_| {});
    assert!(builder.is_empty() && builder.text_len() == 2);
    builder.push_separate_text("é", &|_| {});
    assert!(!builder.is_empty() && builder.text_len() == 4);
    assert_eq!(builder.into_reply(&OPENAI).text(), " \né");
}

#[test]
fn output_of_zero_tokens_is_unknown_if_the_model_generated_anything() {
    let output = |generate: &dyn Fn(&mut ReplyBuilder)| {
        let mut builder = ReplyBuilder::default();
        generate(&mut builder);
        let report = json!({"prompt_tokens": 11, "completion_tokens": 0});
        builder.usage.merge_report(Some(&report), &OPENAI);
        builder.into_reply(&OPENAI).usage.output
    };
    assert_eq!(output(&|_| {}), Some(0));
    assert_eq!(output(&|builder| builder.push_reasoning("hm", &|_| {})), None);
    assert_eq!(output(&ReplyBuilder::record_hidden_reasoning), None);
    assert_eq!(output(&|builder| builder.push_text("hi", &|_| {})), None);
}
