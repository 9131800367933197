//! Files that are not in the catalogue: what of them is run, and what is said of the others.

use std::ops::ControlFlow;
use std::path::PathBuf;

use local_llm::{LoadOptions, Model, PromptMessage, ReplyEnd, Request, gguf};
use serde_json::json;

#[path = "support/gguf.rs"]
#[allow(dead_code)]
mod support;

use support::{Gguf, Kind, SMALL, Sizes, Value};

struct Written {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

fn written(bytes: &[u8]) -> Written {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    std::fs::write(&path, bytes).unwrap();
    Written { _folder: folder, path }
}

/// What is said of a file that can't be run.
fn refused(bytes: &[u8]) -> String {
    let file = written(bytes);
    let checked = gguf::read(&file.path).and_then(|header| header.check()).unwrap_err().to_string();
    let loaded = Model::load(&file.path, &LoadOptions::default()).unwrap_err().to_string();
    assert_eq!(checked, loaded, "what is checked beforehand is what loading says");
    checked
}

fn qwen3() -> Gguf {
    Gguf::model("qwen3", SMALL, Kind::Q8, 1)
}

#[test]
fn a_file_of_each_architecture_writes_what_a_schema_asks_for() {
    let wide = Sizes { head: 32, ..SMALL };
    for (architecture, sizes, kind) in
        [("llama", SMALL, Kind::F16), ("qwen2", SMALL, Kind::F32), ("qwen3", wide, Kind::Q8)]
    {
        let file = written(&Gguf::model(architecture, sizes, kind, 2).bytes());
        let model = Model::load(&file.path, &LoadOptions::default()).unwrap();
        let schema = json!({ "type": "object", "properties": { "sure": { "type": "boolean" } }, "required": ["sure"],
            "additionalProperties": false });
        let request = Request {
            messages: vec![PromptMessage::new("system", "Be brief."), PromptMessage::new("user", "Is it?")],
            schema: Some(schema),
            ..Request::default()
        };
        let reply = model.generate(&request, &mut |_| ControlFlow::Continue(())).unwrap();
        let value: serde_json::Value = serde_json::from_str(&reply.text).unwrap();
        assert!(value["sure"].is_boolean() && reply.stop == ReplyEnd::End, "{architecture}: {}", reply.text);
    }
}

#[test]
fn a_vocabulary_of_pieces_writes_what_a_schema_asks_for() {
    let file = Gguf::new("llama", 3).pieces().with("tokenizer.chat_template", support::CHATML.into());
    let file = written(&file.weights(SMALL, Kind::Q8).bytes());
    let model = Model::load(&file.path, &LoadOptions::default()).unwrap();
    let schema = json!({ "type": "object", "properties": { "words": { "type": "string", "maxLength": 8 } },
        "required": ["words"], "additionalProperties": false });
    let messages = vec![PromptMessage::new("user", "Say it.")];
    let request = Request { messages, schema: Some(schema), ..Request::default() };
    let reply = model.generate(&request, &mut |_| ControlFlow::Continue(())).unwrap();
    let value: serde_json::Value = serde_json::from_str(&reply.text).unwrap();
    assert!(value["words"].is_string(), "{}", reply.text);
}

#[test]
fn a_header_tells_what_the_model_is_and_takes() {
    let file = written(&qwen3().bytes());
    let header = gguf::read(&file.path).unwrap();
    assert_eq!((header.architecture(), header.name()), ("qwen3", Some("Random qwen3")));
    assert_eq!(header.context(), 2048);
    let memory = header.memory();
    let loaded = Model::load(&file.path, &LoadOptions::default()).unwrap();
    assert!(memory.least as usize >= loaded.weight_bytes(), "{memory:?} {}", loaded.weight_bytes());
    // Keys and values of two layers, two groups of sixteen numbers, four bytes each.
    assert!(memory.most >= memory.least + 2 * 2 * 2 * 16 * 4 * 2048, "{memory:?}");
}

#[test]
fn what_is_no_whole_gguf_file_is_told() {
    let bytes = qwen3().bytes();
    assert!(refused(b"").contains("is not a GGUF file"));
    assert!(refused(b"# a text\n").contains("does not begin with the letters GGUF"));
    for end in [20, 200, 5000] {
        assert!(refused(&bytes[..end]).contains("ends in the middle of its header"), "{end}");
    }
    let cut = refused(&bytes[..bytes.len() - 1]);
    assert!(cut.contains(&format!("has {} of its {} bytes", bytes.len() - 1, bytes.len())), "{cut}");
    let mut other = bytes.clone();
    other[4..8].copy_from_slice(&3u32.to_be_bytes());
    assert!(refused(&other).contains("it is big-endian"));
    let mut many = bytes;
    many[8..16].copy_from_slice(&u64::MAX.to_le_bytes());
    assert!(refused(&many).contains("its header is damaged"));
}

#[test]
fn what_is_not_run_is_named_beside_what_is() {
    let said = refused(&Gguf::model("phi3", SMALL, Kind::F32, 1).bytes());
    assert!(said.contains("`phi3`") && said.contains("`llama`, `qwen2`, `qwen3`"), "{said}");
    let said = refused(&Gguf::model("qwen3", SMALL, Kind::Unknown, 1).bytes());
    assert!(said.contains("has the type IQ4_NL") && said.contains("Q4_K"), "{said}");
    let said = refused(&qwen3().with("tokenizer.ggml.pre", "poro-chat".into()).bytes());
    assert!(said.contains("`poro-chat`") && said.contains("qwen2, "), "{said}");
    let said = refused(&qwen3().without("tokenizer.ggml.pre").bytes());
    assert!(said.contains("take a newer file"), "{said}");
    let said = refused(&qwen3().with("tokenizer.ggml.model", "rwkv".into()).bytes());
    assert!(said.contains("`rwkv`") && said.contains("`gpt2` and `llama`"), "{said}");
    let said = refused(&qwen3().with("split.count", Value::U32(2)).with("split.no", Value::U32(1)).bytes());
    assert!(said.contains("part 2 of 2") && said.contains("--merge"), "{said}");
    let said = refused(&Gguf::model("llama", SMALL, Kind::Q8, 1).with("llama.expert_count", Value::U32(8)).bytes());
    assert!(said.contains("mixture of experts"), "{said}");
    let said = refused(&Gguf::new("qwen3", 1).merges("qwen2").bytes());
    assert!(said.contains("has no weights"), "{said}");
}

#[test]
fn what_only_loading_finds_is_told_too() {
    let loading = |gguf: &Gguf| {
        let file = written(&gguf.bytes());
        Model::load(&file.path, &LoadOptions::default()).unwrap_err().to_string()
    };
    let yarn = loading(&qwen3().with("qwen3.rope.scaling.type", "yarn".into()));
    assert!(yarn.contains("`yarn`"), "{yarn}");
    let heads = loading(&qwen3().with("qwen3.attention.head_count_kv", Value::U32(3)));
    assert!(heads.contains("share 3"), "{heads}");
    let partly = loading(&qwen3().with("qwen3.rope.dimension_count", Value::U32(8)));
    assert!(partly.contains("8 that are rotated"), "{partly}");
}

#[test]
fn without_a_template_the_usual_form_is_taken_if_the_model_knows_its_signs() {
    let file = written(&qwen3().without("tokenizer.chat_template").bytes());
    let bare = Model::load(&file.path, &LoadOptions::default()).unwrap();
    let file = written(&qwen3().bytes());
    let full = Model::load(&file.path, &LoadOptions::default()).unwrap();
    let messages = [PromptMessage::new("user", "Hello")];
    assert_eq!(bare.tokens(&messages).unwrap(), full.tokens(&messages).unwrap());
}
