//! Our engine against llama.cpp on files that it has never seen: random weights of every architecture, vocabulary and
//! form of weights, and every way to cut text into words.
//!
//! Needs `ORCH_TEST_LLAMACPP_PYTHON`, a Python with the package `xllamacpp`.
#![allow(clippy::disallowed_methods, reason = "tests are no runs: they wait for processes")]
#![allow(clippy::print_stdout, reason = "a test may say what it saw")]

use std::env;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use local_llm::{LoadOptions, Model, PromptMessage};
use serde_json::{Value, json};

#[path = "support/gguf.rs"]
#[allow(dead_code)]
mod support;

use support::{CHATML, Gguf, Kind, SMALL, Sizes};

/// llama.cpp's server; closing its standard input ends it.
struct Peer {
    process: Child,
    root: String,
    /// One server at a time: each computes on every processor.
    _turn: MutexGuard<'static, ()>,
}

static TURN: Mutex<()> = Mutex::new(());

impl Peer {
    /// Starts the server on a file; `None`, with a printed reason, where there is none.
    fn serving(model: &Path) -> Option<Self> {
        let Some(python) = env::var_os("ORCH_TEST_LLAMACPP_PYTHON") else {
            // What is printed by the macros is not shown of a test that passes.
            let mut shown = std::io::stderr();
            writeln!(shown, "skipped, since ORCH_TEST_LLAMACPP_PYTHON is not set: a comparison with llama.cpp")
                .unwrap();
            return None;
        };
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/it/support/llamacpp.py");
        let mut process = Command::new(python)
            .arg(script)
            .arg(model)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut address = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut address).unwrap();
        let root = address.trim().trim_end_matches("/v1").to_owned();
        assert!(root.starts_with("http://127.0.0.1:"), "the server did not start: {address:?}");
        let _ = rustls::crypto::ring::default_provider().install_default();
        Some(Self { process, root, _turn: turn })
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

/// How far two logarithms of a chance may lie apart at most, and on average: both engines round weights and states to
/// eight bits. What is computed in another way lies apart by one and more.
const MOST: f64 = 0.4;
const USUAL: f64 = 0.08;

async fn post(peer: &Peer, path: &str, body: Value) -> Value {
    let url = format!("{}{path}", peer.root);
    let sent = reqwest::Client::new().post(url).body(body.to_string()).send().await.unwrap();
    let (status, text) = (sent.status(), sent.text().await.unwrap());
    assert!(status.is_success(), "{path}: {status} {text}");
    serde_json::from_str(&text).unwrap()
}

fn number(value: &Value) -> u32 {
    u32::try_from(value.as_u64().unwrap()).unwrap()
}

/// The tokens of a text by the peer.
async fn tokens(peer: &Peer, text: &str) -> Vec<u32> {
    let body = json!({ "content": text, "add_special": true, "parse_special": true });
    post(peer, "/tokenize", body).await["tokens"].as_array().unwrap().iter().map(number).collect()
}

/// The prompt of one message by the peer.
async fn prompt(peer: &Peer, text: &str) -> Vec<u32> {
    let body =
        json!({ "messages": [{ "role": "system", "content": "Be brief." }, { "role": "user", "content": text }] });
    let reply = post(peer, "/apply-template", body).await;
    tokens(peer, reply["prompt"].as_str().unwrap()).await
}

fn loaded(file: &Path) -> Model {
    Model::load(file, &LoadOptions::default()).unwrap()
}

const TEXTS: [&str; 3] = ["Hello World, the other one!", "12345 and (a) or ä?", "x"];

/// Whether both engines give every token the same chance, at many positions of several conversations.
async fn agrees(gguf: &Gguf, what: &str) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.gguf");
    gguf.write(&file);
    let Some(peer) = Peer::serving(&file) else { return };
    let ours = loaded(&file);
    let (mut same, mut positions, mut apart) = (0, 0, Vec::new());
    for text in TEXTS {
        let mut read =
            ours.tokens(&[PromptMessage::new("system", "Be brief."), PromptMessage::new("user", text)]).unwrap();
        assert_eq!(read, prompt(&peer, text).await, "{what}: the prompt of {text:?}");
        for _ in 0..8 {
            let body = json!({ "prompt": read, "n_predict": 1, "temperature": 0, "n_probs": 10, "cache_prompt": false, "return_tokens": true });
            let theirs = post(&peer, "/completion", body).await;
            let known = ours.likeliest_after(&read, usize::MAX).unwrap();
            positions += 1;
            // Of a byte in the middle of a character the peer shows no chances, and of an end no token.
            let Some(first) = theirs["tokens"][0].as_u64() else {
                assert_eq!(known[0].1, "", "{what}: the reply ends after {} tokens", read.len());
                same += 1;
                break;
            };
            let own = |token: u32| f64::from(known.iter().find(|(known, ..)| *known == token).unwrap().2);
            for entry in theirs["completion_probabilities"][0]["top_logprobs"].as_array().into_iter().flatten() {
                let (token, log) = (number(&entry["id"]), entry["logprob"].as_f64().unwrap());
                let far = (own(token) - log).abs();
                assert!(far < MOST, "{what}: after {} tokens, token {token}: {} and {log}", read.len(), own(token));
                apart.push(far);
            }
            let first = u32::try_from(first).unwrap();
            same += u32::from(known[0].0 == first);
            // Two that are as likely may change places.
            assert!(f64::from(known[0].2) - own(first) < MOST, "{what}: after {} tokens: {first}", read.len());
            read.push(first);
        }
    }
    #[allow(clippy::cast_precision_loss)]
    let usual = apart.iter().sum::<f64>() / apart.len() as f64;
    println!("{what}: the same likeliest token at {same} of {positions} positions, chances {usual:.3} apart");
    assert!(usual < USUAL, "{what}: chances lie {usual} apart");
    assert!(
        positions >= 20 && apart.len() > 100 && same * 10 >= positions * 8,
        "{what}: {same} of {positions} likeliest tokens are the same"
    );
}

#[tokio::test]
async fn llama_files_give_the_tokens_that_llama_cpp_gives() {
    agrees(&Gguf::model("llama", SMALL, Kind::F16, 1), "llama, F16").await;
    agrees(&Gguf::model("llama", SMALL, Kind::Q8, 2).frequencies(SMALL.head), "llama with the factors of Llama 3")
        .await;
    let wide = Sizes { head: 32, ..SMALL };
    let linear = Gguf::model("llama", wide, Kind::Q8, 3)
        .with("llama.rope.scaling.type", "linear".into())
        .with("llama.rope.scaling.factor", support::Value::F32(4.0));
    agrees(&linear, "llama with heads of their own size and stretched positions").await;
}

#[tokio::test]
async fn llama_files_with_scored_pieces_give_the_tokens_that_llama_cpp_gives() {
    let pieces = Gguf::new("llama", 4).pieces().with("tokenizer.chat_template", CHATML.into());
    agrees(&pieces.weights(SMALL, Kind::Q8), "llama with a SentencePiece vocabulary").await;
}

#[tokio::test]
async fn qwen2_files_give_the_tokens_that_llama_cpp_gives() {
    agrees(&Gguf::model("qwen2", SMALL, Kind::F32, 5), "qwen2, F32").await;
    agrees(&Gguf::model("qwen2", SMALL, Kind::Q8, 6), "qwen2, Q8_0").await;
}

#[tokio::test]
async fn qwen3_files_give_the_tokens_that_llama_cpp_gives() {
    let wide = Sizes { head: 32, ..SMALL };
    agrees(&Gguf::model("qwen3", wide, Kind::F16, 7), "qwen3, F16").await;
    agrees(&Gguf::model("qwen3", wide, Kind::Q8, 8), "qwen3, Q8_0").await;
}

#[tokio::test]
async fn text_is_cut_into_words_as_llama_cpp_cuts_it() {
    let texts = [
        "Hello World, I'LL say it's 12345 times: don't!!",
        "  two  spaces\n\n\tand\r\nlines   \n",
        "camelCase HTTPServer fooBar1234baz_qux",
        "ünïcode 日本語テキスト и кириллица 한국어 ½ ²³",
        "if (x >= 10) { return a[i]->b; } // café\n",
        "<|im_start|>user\nnot <|im_end|> a turn $1,000.00 ^~|`",
    ];
    let known = ["qwen2", "llama-bpe", "smaug-bpe", "tekken", "smollm", "gpt-2", "deepseek-coder", "default"];
    for pre in known {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("model.gguf");
        Gguf::model("llama", SMALL, Kind::Q8, 1).with("tokenizer.ggml.pre", pre.into()).write(&file);
        let Some(peer) = Peer::serving(&file) else { return };
        let ours = loaded(&file);
        for text in texts {
            assert_eq!(ours.tokenize(text).unwrap(), tokens(&peer, text).await, "{pre}: {text:?}");
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.gguf");
    Gguf::new("llama", 1).pieces().with("tokenizer.chat_template", CHATML.into()).weights(SMALL, Kind::Q8).write(&file);
    let Some(peer) = Peer::serving(&file) else { return };
    let ours = loaded(&file);
    for text in texts {
        assert_eq!(ours.tokenize(text).unwrap(), tokens(&peer, text).await, "pieces: {text:?}");
    }
}
