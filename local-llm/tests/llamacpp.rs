//! Compares this engine with llama.cpp on files with random weights: all architectures and vocabularies, several tensor
//! types, and all rules for splitting text into words.
//!
//! Needs `ORCH_TEST_LLAMACPP_PYTHON`, a Python with the package `xllamacpp`.
#![allow(clippy::disallowed_methods, reason = "tests may wait for processes")]
#![allow(clippy::print_stdout, reason = "a test may print measurements")]

use std::env;
use std::io::Write as _;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use local_llm::{LoadOptions, Model, PromptMessage};
use serde_json::{Value, json};

#[path = "../../tests/it/support/llamacpp_process.rs"]
#[allow(dead_code)]
mod llamacpp_process;
#[path = "support/gguf.rs"]
#[allow(dead_code)]
mod support;

use llamacpp_process::LlamaProcess;
use support::{CHATML, Gguf, SMALL, Sizes, TensorType};

/// The server of llama.cpp.
struct LlamaServer {
    process: LlamaProcess,
    /// Allows only one server at a time, because a server uses all processors.
    _guard: MutexGuard<'static, ()>,
}

static SERVER_LOCK: Mutex<()> = Mutex::new(());

impl LlamaServer {
    /// Starts the server for a model file; prints the reason and returns `None` if llama.cpp is not configured.
    fn start(model: &Path) -> Option<Self> {
        let Some(python) = env::var_os("ORCH_TEST_LLAMACPP_PYTHON") else {
            // Not `eprintln!`: the test harness hides its output if the test passes.
            let mut stderr = std::io::stderr();
            writeln!(stderr, "SKIPPED: a comparison with llama.cpp: ORCH_TEST_LLAMACPP_PYTHON is not set").unwrap();
            return None;
        };
        let guard = SERVER_LOCK.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = rustls::crypto::ring::default_provider().install_default();
        Some(Self { process: LlamaProcess::start(&python, model), _guard: guard })
    }
}

/// The maximum difference of the log probabilities of a token: both engines round weights and activations to eight
/// bits. If one engine computes incorrectly, the differences are one or more.
const MAX_DIFFERENCE: f64 = 0.4;
/// The maximum mean of these differences for a model.
const MAX_MEAN_DIFFERENCE: f64 = 0.08;

async fn post(server: &LlamaServer, path: &str, body: Value) -> Value {
    let url = format!("{}{path}", server.process.base_url());
    let response = reqwest::Client::new().post(url).body(body.to_string()).send().await.unwrap();
    let (status, text) = (response.status(), response.text().await.unwrap());
    assert!(status.is_success(), "{path}: {status} {text}");
    serde_json::from_str(&text).unwrap()
}

fn parse_u32(value: &Value) -> u32 {
    u32::try_from(value.as_u64().unwrap()).unwrap()
}

/// The tokens of a text according to llama.cpp.
async fn llama_tokens(server: &LlamaServer, text: &str) -> Vec<u32> {
    let body = json!({ "content": text, "add_special": true, "parse_special": true });
    post(server, "/tokenize", body).await["tokens"].as_array().unwrap().iter().map(parse_u32).collect()
}

/// The tokens of the prompt for one message according to llama.cpp.
async fn llama_prompt_tokens(server: &LlamaServer, text: &str) -> Vec<u32> {
    let body =
        json!({ "messages": [{ "role": "system", "content": "Be brief." }, { "role": "user", "content": text }] });
    let reply = post(server, "/apply-template", body).await;
    llama_tokens(server, reply["prompt"].as_str().unwrap()).await
}

fn load_model(file: &Path) -> Model {
    Model::load(file, &LoadOptions::default()).unwrap()
}

const TEXTS: [&str; 3] = ["Hello World, the other one!", "12345 and (a) or ä?", "x"];

/// Asserts that both engines predict the same probabilities, at many positions of several conversations.
async fn assert_same_predictions(gguf: &Gguf, description: &str) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.gguf");
    gguf.write(&file);
    let Some(server) = LlamaServer::start(&file) else { return };
    let model = load_model(&file);
    let (mut same_count, mut positions, mut differences) = (0, 0, Vec::new());
    for text in TEXTS {
        let mut tokens = model
            .tokenize_messages(&[PromptMessage::new("system", "Be brief."), PromptMessage::new("user", text)])
            .unwrap();
        assert_eq!(tokens, llama_prompt_tokens(&server, text).await, "{description}: the prompt of {text:?}");
        for _ in 0..8 {
            let body = json!({ "prompt": tokens, "n_predict": 1, "temperature": 0, "n_probs": 10, "cache_prompt": false, "return_tokens": true });
            let prediction = post(&server, "/completion", body).await;
            let ranking = model.likeliest_tokens_after(&tokens, usize::MAX).unwrap();
            let (likeliest, text, log_probability) = &ranking[0];
            positions += 1;
            // llama.cpp returns no token at the end of a reply, and no probabilities inside a character of several
            // bytes.
            let Some(expected) = prediction["tokens"][0].as_u64() else {
                assert_eq!(text, "", "{description}: the reply ends after {} tokens", tokens.len());
                same_count += 1;
                break;
            };
            let log_probability_of = |token: u32| f64::from(ranking.iter().find(|(id, ..)| *id == token).unwrap().2);
            for entry in prediction["completion_probabilities"][0]["top_logprobs"].as_array().into_iter().flatten() {
                let (token, expected) = (parse_u32(&entry["id"]), entry["logprob"].as_f64().unwrap());
                let actual = log_probability_of(token);
                let difference = (actual - expected).abs();
                assert!(
                    difference < MAX_DIFFERENCE,
                    "{description}: after {} tokens, token {token}: {actual} and {expected}",
                    tokens.len()
                );
                differences.push(difference);
            }
            let expected = u32::try_from(expected).unwrap();
            same_count += u32::from(*likeliest == expected);
            // The engines may rank two tokens with almost the same probability in a different order.
            assert!(
                f64::from(*log_probability) - log_probability_of(expected) < MAX_DIFFERENCE,
                "{description}: after {} tokens: {expected}",
                tokens.len()
            );
            tokens.push(expected);
        }
    }
    #[allow(clippy::cast_precision_loss)]
    let mean = differences.iter().sum::<f64>() / differences.len() as f64;
    println!(
        "{description}: the same likeliest token at {same_count} of {positions} positions, mean difference {mean:.3}"
    );
    assert!(mean < MAX_MEAN_DIFFERENCE, "{description}: mean difference {mean}");
    assert!(
        positions >= 20 && differences.len() > 100 && same_count * 10 >= positions * 8,
        "{description}: {same_count} of {positions} likeliest tokens are the same"
    );
}

#[tokio::test]
async fn llama_models_predict_the_same_tokens_as_llama_cpp() {
    assert_same_predictions(&Gguf::model("llama", SMALL, TensorType::F16, 1), "llama, F16").await;
    assert_same_predictions(
        &Gguf::model("llama", SMALL, TensorType::Q8, 2).with_rope_factors(SMALL.head_size),
        "llama with the rope factors of Llama 3",
    )
    .await;
    let with_head_size = Sizes { head_size: 32, ..SMALL };
    let linear = Gguf::model("llama", with_head_size, TensorType::Q8, 3)
        .with("llama.rope.scaling.type", "linear".into())
        .with("llama.rope.scaling.factor", support::Value::F32(4.0));
    assert_same_predictions(&linear, "llama with an explicit head size and linear rope scaling").await;
}

#[tokio::test]
async fn llama_models_with_a_sentencepiece_vocabulary_predict_the_same_tokens_as_llama_cpp() {
    let gguf = Gguf::new("llama", 4).with_sentencepiece_vocab().with("tokenizer.chat_template", CHATML.into());
    assert_same_predictions(&gguf.with_weights(SMALL, TensorType::Q8), "llama with a SentencePiece vocabulary").await;
}

#[tokio::test]
async fn qwen2_models_predict_the_same_tokens_as_llama_cpp() {
    assert_same_predictions(&Gguf::model("qwen2", SMALL, TensorType::F32, 5), "qwen2, F32").await;
    assert_same_predictions(&Gguf::model("qwen2", SMALL, TensorType::Q8, 6), "qwen2, Q8_0").await;
}

#[tokio::test]
async fn qwen3_models_predict_the_same_tokens_as_llama_cpp() {
    let with_head_size = Sizes { head_size: 32, ..SMALL };
    assert_same_predictions(&Gguf::model("qwen3", with_head_size, TensorType::F16, 7), "qwen3, F16").await;
    assert_same_predictions(&Gguf::model("qwen3", with_head_size, TensorType::Q8, 8), "qwen3, Q8_0").await;
}

#[tokio::test]
async fn text_is_tokenized_as_by_llama_cpp() {
    let texts = [
        "Hello World, I'LL say it's 12345 times: don't!!",
        "  two  spaces\n\n\tand\r\nlines   \n",
        "camelCase HTTPServer fooBar1234baz_qux",
        "ünïcode 日本語テキスト и кириллица 한국어 ½ ²³",
        "if (x >= 10) { return a[i]->b; } // café\n",
        "<|im_start|>user\nnot <|im_end|> a turn $1,000.00 ^~|`",
    ];
    let pre_tokenizers = ["qwen2", "llama-bpe", "smaug-bpe", "tekken", "smollm", "gpt-2", "deepseek-coder", "default"];
    for pre in pre_tokenizers {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("model.gguf");
        Gguf::model("llama", SMALL, TensorType::Q8, 1).with("tokenizer.ggml.pre", pre.into()).write(&file);
        let Some(server) = LlamaServer::start(&file) else { return };
        let model = load_model(&file);
        for text in texts {
            assert_eq!(model.tokenize(text).unwrap(), llama_tokens(&server, text).await, "{pre}: {text:?}");
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.gguf");
    Gguf::new("llama", 1)
        .with_sentencepiece_vocab()
        .with("tokenizer.chat_template", CHATML.into())
        .with_weights(SMALL, TensorType::Q8)
        .write(&file);
    let Some(server) = LlamaServer::start(&file) else { return };
    let model = load_model(&file);
    for text in texts {
        assert_eq!(model.tokenize(text).unwrap(), llama_tokens(&server, text).await, "SentencePiece: {text:?}");
    }
}
