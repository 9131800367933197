//! The extractor against `serde_json` on the bare value.

#![allow(clippy::expect_used, reason = "a bench that can't go on fails")]

use divan::Bencher;
use divan::counter::BytesCount;
use orch::extract::{Options, extract};
use orch::schema::Schema;
use serde_json::{Value, json};

const SIZES: [usize; 4] = [1 << 10, 32 << 10, 1 << 20, 5 << 20];

fn main() {
    divan::main();
}

/// An object of about this many bytes.
fn object(size: usize) -> String {
    let item = json!({ "file": "src/store.rs", "line": 88, "severity": "major", "message": "The lock is held across an \"await\" point." });
    let count = (size / item.to_string().len()).max(1);
    json!({ "issues": vec![item; count] }).to_string()
}

fn schema() -> Schema {
    let schema = json!({ "type": "object", "required": ["issues"], "properties": { "issues": { "type": "array", "items": { "type": "object" } } } });
    Schema::compile("bench", schema).expect("the schema compiles")
}

fn run(bencher: Bencher<'_, '_>, reply: &str, schema: &Schema) {
    bencher
        .counter(BytesCount::of_str(reply))
        .bench_local(|| extract(divan::black_box(reply.as_bytes()), schema, &Options::default()));
}

#[divan::bench(args = SIZES)]
fn serde_json_bare(bencher: Bencher<'_, '_>, size: usize) {
    let text = object(size);
    bencher.counter(BytesCount::of_str(&text)).bench_local(|| serde_json::from_str::<Value>(divan::black_box(&text)));
}

#[divan::bench(args = SIZES)]
fn whole(bencher: Bencher<'_, '_>, size: usize) {
    run(bencher, &object(size), &schema());
}

#[divan::bench(args = SIZES)]
fn fenced(bencher: Bencher<'_, '_>, size: usize) {
    run(bencher, &format!("Here it is:\n```json\n{}\n```\nDone.", object(size)), &schema());
}

#[divan::bench(args = SIZES)]
fn repaired(bencher: Bencher<'_, '_>, size: usize) {
    let text = object(size);
    run(bencher, &format!("{},}}", text.trim_end_matches('}')), &schema());
}

/// Texts with quotes that pair, and one in a thousand with a quote that does not: other readings are tried.
#[divan::bench(args = SIZES)]
fn unescaped_quotes(bencher: Bencher<'_, '_>, size: usize) {
    let item = r#"{"file": "a.rs", "message": "the "Queue" holds "a", b and (\"c\")"}"#;
    let odd = r#"{"file": "a.rs", "message": "a 5" disk"}"#;
    let items: Vec<&str> = (0..size / item.len()).map(|i| if i % 1000 == 7 { odd } else { item }).collect();
    run(bencher, &format!(r#"{{"issues": [{}]}}"#, items.join(", ")), &schema());
}

/// Markup of many families, and no answer.
#[divan::bench(args = SIZES)]
fn markup(bencher: Bencher<'_, '_>, size: usize) {
    run(bencher, &"a <think>b</think> ◁think▷c◁/think▷ <|x|>d<|/x|> `<|im_end|>`\n".repeat(size / 66), &schema());
}

#[divan::bench(args = SIZES)]
fn prose(bencher: Bencher<'_, '_>, size: usize) {
    run(bencher, &"The line was [error] {ctx} and `f(x[1])` said \"no\".\n".repeat(size / 52), &schema());
}
