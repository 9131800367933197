//! Model files outside the catalog: loads supported files, and checks the errors for unsupported files.

use std::ops::ControlFlow;
use std::path::PathBuf;

use local_llm::{CallChoice, FinishReason, LoadOptions, Model, OfferedTool, PromptMessage, Request, gguf};
use serde_json::json;

#[path = "support/gguf.rs"]
#[allow(dead_code)]
mod support;

use support::{Gguf, SMALL, Sizes, TensorType, Value};

struct TempFile {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

fn write_temp_file(bytes: &[u8]) -> TempFile {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    std::fs::write(&path, bytes).unwrap();
    TempFile { _folder: folder, path }
}

/// The error message for an invalid file; asserts that checking and loading the file return the same message.
fn error_message(bytes: &[u8]) -> String {
    let file = write_temp_file(bytes);
    let check_error = gguf::read_header(&file.path).and_then(|header| header.check()).unwrap_err().to_string();
    let load_error = Model::load(&file.path, &LoadOptions::default()).unwrap_err().to_string();
    assert_eq!(check_error, load_error);
    check_error
}

fn qwen3_model() -> Gguf {
    Gguf::model("qwen3", SMALL, TensorType::Q8, 1)
}

#[test]
fn a_model_of_each_architecture_follows_a_schema() {
    let with_head_size = Sizes { head_size: 32, ..SMALL };
    for (architecture, sizes, matrix_type) in [
        ("llama", SMALL, TensorType::F16),
        ("qwen2", SMALL, TensorType::F32),
        ("qwen3", with_head_size, TensorType::Q8),
    ] {
        let file = write_temp_file(&Gguf::model(architecture, sizes, matrix_type, 2).bytes());
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
        assert!(
            value["sure"].is_boolean() && reply.finish_reason == FinishReason::Complete,
            "{architecture}: {}",
            reply.text
        );
    }
}

#[test]
fn a_model_with_a_sentencepiece_vocabulary_follows_a_schema() {
    let file = Gguf::new("llama", 3).with_sentencepiece_vocab().with("tokenizer.chat_template", support::CHATML.into());
    let file = write_temp_file(&file.with_weights(SMALL, TensorType::Q8).bytes());
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
fn models_of_all_vocabularies_call_tools() {
    let tool = |name: &str, parameters: serde_json::Value| OfferedTool {
        name: name.to_owned(),
        description: "Turns.".to_owned(),
        parameters,
    };
    // Few different calls are possible, so that one of them repeats before the limit.
    let degrees = json!({ "type": "object", "properties": { "degrees": { "enum": [45, 90] } },
        "required": ["degrees"] });
    let nothing = json!({ "type": "object", "properties": {} });
    let tools = vec![tool("turn_left", degrees), tool("turn_right", nothing)];
    let sentence_piece =
        Gguf::new("llama", 3).with_sentencepiece_vocab().with("tokenizer.chat_template", support::CHATML.into());
    for gguf in [Gguf::model("qwen2", SMALL, TensorType::Q8, 5), sentence_piece.with_weights(SMALL, TensorType::Q8)] {
        let file = write_temp_file(&gguf.bytes());
        let model = Model::load(&file.path, &LoadOptions::default()).unwrap();
        let request = Request {
            messages: vec![PromptMessage::new("user", "Turn.")],
            tools: tools.clone(),
            choice: CallChoice::Required,
            max_tokens: 700,
            ..Request::default()
        };
        let reply = model.generate(&request, &mut |_| ControlFlow::Continue(())).unwrap();
        assert_eq!((reply.text.as_str(), reply.finish_reason), ("", FinishReason::Complete), "{reply:?}");
        assert!(reply.output_tokens <= 700, "{reply:?}");
        let call = reply.call.unwrap();
        match call.name.as_str() {
            "turn_left" => assert!(call.arguments["degrees"] == 45 || call.arguments["degrees"] == 90, "{call:?}"),
            name => assert_eq!((name, &call.arguments), ("turn_right", &json!({})), "{call:?}"),
        }
        let answer = Request { choice: CallChoice::None, max_tokens: 40, ..request };
        let reply = model.generate(&answer, &mut |_| ControlFlow::Continue(())).unwrap();
        assert!(reply.call.is_none() && !reply.text.contains("<tool_call>"), "{reply:?}");
    }
}

#[test]
fn a_header_has_the_name_and_the_memory_of_the_model() {
    let file = write_temp_file(&qwen3_model().bytes());
    let header = gguf::read_header(&file.path).unwrap();
    assert_eq!((header.architecture(), header.name()), ("qwen3", Some("Random qwen3")));
    assert_eq!(header.context_length(), 2048);
    let memory = header.memory_estimate();
    let model = Model::load(&file.path, &LoadOptions::default()).unwrap();
    assert!(memory.min_bytes as usize >= model.weight_bytes(), "{memory:?} {}", model.weight_bytes());
    // Keys and values of two layers, for two key-value heads with sixteen numbers of four bytes each.
    assert!(memory.max_bytes >= memory.min_bytes + 2 * 2 * 2 * 16 * 4 * 2048, "{memory:?}");
}

#[test]
fn matrices_that_are_not_converted_need_four_bytes_per_weight() {
    // No row of a matrix has a multiple of 32 weights.
    let sizes = Sizes { width: 72, heads: 4, kv_heads: 2, head_size: 18, feed_forward: 100, layers: 1 };
    let file = write_temp_file(&Gguf::model("qwen3", sizes, TensorType::F16, 1).bytes());
    let header = gguf::read_header(&file.path).unwrap();
    assert_eq!(header.memory_estimate().min_bytes, 4 * header.parameter_count());
}

#[test]
fn an_invalid_or_incomplete_gguf_file_is_an_error() {
    let bytes = qwen3_model().bytes();
    assert!(error_message(b"").contains("is not a GGUF file"));
    assert!(error_message(b"# a text\n").contains("does not begin with the letters GGUF"));
    for end in [20, 200, 5000] {
        assert!(error_message(&bytes[..end]).contains("ends in the middle of its header"), "{end}");
    }
    let message = error_message(&bytes[..bytes.len() - 1]);
    assert!(message.contains(&format!("has {} of its {} bytes", bytes.len() - 1, bytes.len())), "{message}");
    let mut big_endian = bytes.clone();
    big_endian[4..8].copy_from_slice(&3u32.to_be_bytes());
    assert!(error_message(&big_endian).contains("it is big-endian (version field: 50331648)"));
    for version in [0u32, 1, 4] {
        let mut unsupported = bytes.clone();
        unsupported[4..8].copy_from_slice(&version.to_le_bytes());
        let message = error_message(&unsupported);
        assert!(message.contains(&format!("an unsupported version (version field: {version})")), "{message}");
    }
    let mut long_string = bytes.clone();
    long_string[24..32].copy_from_slice(&u64::MAX.to_le_bytes());
    assert!(error_message(&long_string).contains(&format!("a string with a stated length of {} bytes", u64::MAX)));
    let mut too_many_tensors = bytes;
    too_many_tensors[8..16].copy_from_slice(&u64::MAX.to_le_bytes());
    assert!(error_message(&too_many_tensors).contains("its header is damaged"));
}

#[test]
fn the_error_for_an_unsupported_model_names_the_supported_alternatives() {
    let message = error_message(&Gguf::model("phi3", SMALL, TensorType::F32, 1).bytes());
    assert!(message.contains("`phi3`") && message.contains("`llama`, `qwen2`, `qwen3`"), "{message}");
    let message = error_message(&Gguf::model("qwen3", SMALL, TensorType::Unsupported, 1).bytes());
    assert!(message.contains("has the type IQ4_NL") && message.contains("Q4_K"), "{message}");
    let message = error_message(&qwen3_model().with("tokenizer.ggml.pre", "poro-chat".into()).bytes());
    assert!(message.contains("`poro-chat`") && message.contains("qwen2, "), "{message}");
    let message = error_message(&qwen3_model().without("tokenizer.ggml.pre").bytes());
    assert!(message.contains("use a newer file"), "{message}");
    let message = error_message(&qwen3_model().with("tokenizer.ggml.model", "rwkv".into()).bytes());
    assert!(message.contains("`rwkv`") && message.contains("`gpt2` and `llama`"), "{message}");
    let message =
        error_message(&qwen3_model().with("split.count", Value::U32(2)).with("split.no", Value::U32(1)).bytes());
    assert!(message.contains("part 2 of 2") && message.contains("--merge"), "{message}");
    let message = error_message(
        &Gguf::model("llama", SMALL, TensorType::Q8, 1).with("llama.expert_count", Value::U32(8)).bytes(),
    );
    assert!(message.contains("mixture of experts"), "{message}");
    let message = error_message(&Gguf::new("qwen3", 1).with_bpe_vocab("qwen2").bytes());
    assert!(message.contains("has no weights"), "{message}");
}

#[test]
fn unsupported_dimensions_and_scaling_are_errors_of_loading() {
    let load_error = |gguf: &Gguf| {
        let file = write_temp_file(&gguf.bytes());
        Model::load(&file.path, &LoadOptions::default()).unwrap_err().to_string()
    };
    let yarn = load_error(&qwen3_model().with("qwen3.rope.scaling.type", "yarn".into()));
    assert!(yarn.contains("`yarn`"), "{yarn}");
    let heads = load_error(&qwen3_model().with("qwen3.attention.head_count_kv", Value::U32(3)));
    assert!(heads.contains("its 3 key heads"), "{heads}");
    let rotation = load_error(&qwen3_model().with("qwen3.rope.dimension_count", Value::U32(8)));
    assert!(rotation.contains("8 for rotation"), "{rotation}");
}

#[test]
fn a_model_without_a_template_uses_chatml_if_its_vocabulary_has_the_tokens() {
    let file = write_temp_file(&qwen3_model().without("tokenizer.chat_template").bytes());
    let without_template = Model::load(&file.path, &LoadOptions::default()).unwrap();
    let file = write_temp_file(&qwen3_model().bytes());
    let with_template = Model::load(&file.path, &LoadOptions::default()).unwrap();
    let messages = [PromptMessage::new("user", "Hello")];
    assert_eq!(
        without_template.tokenize_messages(&messages).unwrap(),
        with_template.tokenize_messages(&messages).unwrap()
    );
}
