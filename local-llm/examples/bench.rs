//! Measures the speed of a model: `bench FILE [THREADS]`.

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use local_llm::{LoadOptions, Model, PromptMessage, Request};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let file = args.next().ok_or("usage: bench FILE [THREADS]")?;
    let threads = args.next().map(|threads| threads.parse()).transpose()?;
    let started_at = Instant::now();
    let model = Model::load(Path::new(&file), &LoadOptions { threads })?;
    println!("load {:.2?}, weights {} MB", started_at.elapsed(), model.weight_bytes() / 1_000_000);

    let sentence = "The river rises in the hills, passes three mills and a bridge, and ends in the sea. ";
    let schema: serde_json::Value = serde_json::json!({
        "type": "object",
        "properties": {
            "title": {"type": "string", "minLength": 3, "maxLength": 60},
            "steps": {"type": "array", "minItems": 2, "maxItems": 5, "items": {
                "type": "object",
                "properties": {
                    "name": {"type": "string"},
                    "kind": {"enum": ["plan", "build", "test"]},
                    "minutes": {"type": "integer", "minimum": 1, "maximum": 90},
                },
                "required": ["name", "kind", "minutes"],
            }},
        },
        "required": ["title", "steps"],
    });
    let messages = |text: String| {
        vec![PromptMessage::new("system", "You are a helpful assistant."), PromptMessage::new("user", text)]
    };
    let runs = [
        ("free", messages("Write a Rust function that reverses a string, with a short explanation.".into()), None),
        ("schema", messages("Plan a small website for a bakery. Answer in JSON.".into()), Some(schema.clone())),
        ("300-token prompt", messages(sentence.repeat(14) + "Summarize the text in one sentence."), None),
        (
            "same prompt, schema",
            messages(sentence.repeat(14) + "Summarize the text in one sentence, then plan a visit."),
            Some(schema),
        ),
    ];
    for (name, messages, schema) in runs {
        let request = Request { messages, schema, max_tokens: 192, ..Request::default() };
        let reply = model.generate(&request, &mut |_| ControlFlow::Continue(()))?;
        println!("--- {name}\n{}", reply.text);
        println!(
            "{:?}: prompt {} ({} cached) in {:.2?}, output {} in {:.2?} = {:.1} tok/s",
            reply.finish_reason,
            reply.prompt_tokens,
            reply.cached_tokens,
            reply.prompt_time,
            reply.output_tokens,
            reply.output_time,
            f64::from(u32::try_from(reply.output_tokens)?) / reply.output_time.as_secs_f64(),
        );
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    for line in status.lines().filter(|line| line.starts_with("VmRSS") || line.starts_with("VmHWM")) {
        println!("{line}");
    }
    Ok(())
}
