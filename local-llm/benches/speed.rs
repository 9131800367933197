//! The speed of a model: loading, reading a prompt, generating with and without a schema; beside llama.cpp on the same
//! file if `ORCH_TEST_LLAMACPP_PYTHON` names a Python with the package `xllamacpp`. Run it with
//! `cargo bench --profile dist -p local-llm --bench speed -- FILE.gguf [THREADS]`.

#![allow(clippy::disallowed_methods, reason = "a bench waits for processes")]

#[path = "../../tests/it/support/llamacpp_process.rs"]
#[allow(dead_code)]
mod llamacpp_process;

use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant};

use llamacpp_process::LlamaProcess;
use local_llm::{GeneratedReply, LoadOptions, Model, PromptMessage, Request};
use serde_json::{Value, json};

const SYSTEM: &str = "You are a helpful assistant.";
const SHORT: &str = "Write a Rust function that reverses a string, with a short explanation.";
const SENTENCE: &str = "The river rises in the hills, passes three mills and a bridge, and ends in the sea. ";
const MAX_TOKENS: u32 = 192;

/// What an engine did with a model.
struct Speed {
    engine: &'static str,
    loading: Duration,
    prompt_tokens: u64,
    prompt_time: Duration,
    /// Tokens per second of free text.
    free: f64,
    /// Tokens per second of text that fits a schema.
    constrained: Option<f64>,
    memory_kb: u64,
}

fn main() {
    let mut args = std::env::args().skip(1).filter(|arg| !arg.starts_with('-'));
    let Some(file) = args.next() else {
        println!("skipped: name a model file: `cargo bench -p local-llm --bench speed -- FILE.gguf [THREADS]`");
        return;
    };
    let threads = args.next().map(|threads| threads.parse().unwrap());
    let own = measure_own(Path::new(&file), threads);
    println!(
        "\n| | loading | prompt | reading it | tokens per second | with a schema | memory |\n|---|---|---|---|---|---|---|"
    );
    print(&own);
    match std::env::var_os("ORCH_TEST_LLAMACPP_PYTHON") {
        Some(python) => print(&LlamaServer::start(python.as_ref(), Path::new(&file)).measure()),
        None => println!("\nORCH_TEST_LLAMACPP_PYTHON is not set: the table has no row for llama.cpp"),
    }
}

fn print(speed: &Speed) {
    println!(
        "| {} | {:.2} s | {} tokens | {:.2} s | {:.1} | {} | {} MB |",
        speed.engine,
        speed.loading.as_secs_f64(),
        speed.prompt_tokens,
        speed.prompt_time.as_secs_f64(),
        speed.free,
        speed.constrained.map_or("–".to_owned(), |speed| format!("{speed:.1}")),
        speed.memory_kb / 1000,
    );
}

/// A prompt of 308 tokens in the vocabulary of Qwen2.5.
fn long_prompt() -> String {
    SENTENCE.repeat(14) + "Summarize the text in one sentence."
}

fn measure_own(file: &Path, threads: Option<usize>) -> Speed {
    let start = Instant::now();
    let model = Model::load(file, &LoadOptions { threads }).unwrap();
    let loading = start.elapsed();
    let generate = |text: &str, schema: Option<Value>| {
        let messages = vec![PromptMessage::new("system", SYSTEM), PromptMessage::new("user", text)];
        let request = Request { messages, schema, max_tokens: MAX_TOKENS, ..Request::default() };
        model.generate(&request, &mut |_| ControlFlow::Continue(())).unwrap()
    };
    // The first request: no part of its prompt is in the cache.
    let long = generate(&long_prompt(), None);
    let free = generate(SHORT, None);
    let constrained = generate("Plan a small website for a bakery. Answer in JSON.", Some(schema()));
    Speed {
        engine: "orch",
        loading,
        prompt_tokens: long.prompt_tokens.try_into().unwrap(),
        prompt_time: long.prompt_time,
        free: tokens_per_second(&free),
        constrained: Some(tokens_per_second(&constrained)),
        memory_kb: peak_memory(std::process::id()),
    }
}

fn schema() -> Value {
    json!({
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
    })
}

fn tokens_per_second(reply: &GeneratedReply) -> f64 {
    f64::from(u32::try_from(reply.output_tokens).unwrap()) / reply.output_time.as_secs_f64()
}

/// The largest memory of a process in kB; 0 where the system does not tell.
fn peak_memory(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

/// The server of llama.cpp.
struct LlamaServer {
    process: LlamaProcess,
    /// The time until the server is ready, with the start of Python.
    loading: Duration,
    runtime: tokio::runtime::Runtime,
}

impl LlamaServer {
    fn start(python: &Path, model: &Path) -> Self {
        let start = Instant::now();
        let process = LlamaProcess::start(python.as_os_str(), model);
        let loading = start.elapsed();
        let _ = rustls::crypto::ring::default_provider().install_default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { process, loading, runtime }
    }

    fn measure(&self) -> Speed {
        let long = self.complete(&long_prompt(), 1);
        let free = self.complete(SHORT, MAX_TOKENS);
        let number = |timings: &Value, name: &str| timings[name].as_f64().unwrap();
        Speed {
            engine: "llama.cpp; loading with the start of Python",
            loading: self.loading,
            prompt_tokens: long["prompt_n"].as_u64().unwrap(),
            prompt_time: Duration::from_secs_f64(number(&long, "prompt_ms") / 1e3),
            free: number(&free, "predicted_per_second"),
            constrained: None,
            memory_kb: peak_memory(self.process.id()),
        }
    }

    /// Generates a reply, and returns the times that the server measured.
    fn complete(&self, text: &str, max_tokens: u32) -> Value {
        let messages = json!([{ "role": "system", "content": SYSTEM }, { "role": "user", "content": text }]);
        let prompt = self.post("/apply-template", &json!({ "messages": messages }))["prompt"].take();
        let body = json!({ "prompt": prompt, "n_predict": max_tokens, "temperature": 0, "cache_prompt": false });
        self.post("/completion", &body)["timings"].take()
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        let request = reqwest::Client::new().post(format!("{}{path}", self.process.base_url())).body(body.to_string());
        let text = self.runtime.block_on(async { request.send().await.unwrap().text().await.unwrap() });
        serde_json::from_str(&text).unwrap()
    }
}
