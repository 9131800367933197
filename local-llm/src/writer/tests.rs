//! Replies of a fake model that prefers given texts.

use std::io::Cursor;

use candle_core::quantized::gguf_file::Content;
use serde_json::{Value, json};

use super::*;
use crate::grammar::GrammarFactory;
use crate::support::{Gguf, SMALL, TensorType};

/// Writes a reply with a fake model that prefers these texts in sequence, and repeats the last one without an end.
/// Returns the document, and the text that the model read.
fn write(schema: &Value, limit: usize, texts: &[&str]) -> (String, String) {
    let file = Gguf::model("qwen2", SMALL, TensorType::Q8, 1).bytes();
    let vocab = Vocab::from_gguf(&Content::read(&mut Cursor::new(file)).unwrap()).unwrap();
    let grammar = GrammarFactory::new(&vocab).unwrap().build(schema).unwrap();
    let mut writer = ReplyWriter::new(&vocab, Some(grammar), TokenSampler::new(0.0, 1.0, 0), limit);
    let (last, other_texts) = texts.split_last().unwrap();
    let mut preferences = other_texts.iter().flat_map(|text| text.bytes()).chain(last.bytes().cycle());
    let mut read = writer.forced_prefix();
    loop {
        let preference = match preferences.next().unwrap() {
            b'$' => vocab.end_tokens()[0],
            b'%' => vocab.token_for_bytes(b"```\n").unwrap(),
            byte => vocab.token_for_bytes(&[byte]).unwrap(),
        };
        let mut logits = vec![0.0; vocab.len()];
        // The writer chooses this token where the schema forbids the preferred one.
        logits[vocab.token_for_bytes(b"~").unwrap() as usize] = 0.5;
        logits[preference as usize] = 1.0;
        match writer.step(&logits).unwrap() {
            WriterStep::Continue(tokens) => read.extend(tokens),
            WriterStep::Rewind(kept_len, tokens) => {
                read.truncate(kept_len);
                read.extend(tokens);
            }
            WriterStep::Finish(tokens) => {
                read.extend(tokens);
                break;
            }
            WriterStep::Truncated => break,
        }
        assert_eq!(read, writer.model_tokens);
        assert!(read.len() <= limit);
    }
    assert!(writer.generated_count() >= read.len());
    let read_text: Vec<u8> = read.iter().flat_map(|token| vocab.token_bytes(*token)).copied().collect();
    (String::from_utf8(writer.document()).unwrap(), String::from_utf8(read_text).unwrap())
}

fn object_schema(properties: &Value) -> Value {
    let names: Vec<&String> = properties.as_object().unwrap().keys().collect();
    json!({ "type": "object", "properties": properties, "required": names, "additionalProperties": false })
}

fn words_schema() -> Value {
    object_schema(&json!({ "words": { "type": "string" } }))
}

/// The schema of a list of files; `content` is the schema of their contents.
fn files_schema(content: &Value) -> Value {
    let file = object_schema(&json!({ "path": { "type": "string" }, "content": content }));
    object_schema(&json!({ "files": { "type": "array", "items": file } }))
}

#[test]
fn a_repetitive_string_ends_after_a_complete_line() {
    let (text, _) = write(&words_schema(), 500, &[r"x = 1\n", r"y(1, 1);\n", "z(("]);
    assert_eq!(text, r#"{"words":"x = 1\ny(1, 1);\n"}"#);
}

#[test]
fn a_string_near_the_limit_ends_after_a_complete_line() {
    let (text, _) = write(&words_schema(), 60, &[r"one\ntwo\n", "abcdefghijklmnopqrstuvwxyz0123456789"]);
    assert_eq!(text, r#"{"words":"one\ntwo\n"}"#);
}

#[test]
fn a_repetitive_string_of_one_line_ends_within_the_line() {
    let (text, _) = write(&words_schema(), 500, &["go ", "on "]);
    assert!(text.starts_with(r#"{"words":"go on on"#) && text.ends_with(r#""}"#), "{text}");
}

#[test]
fn the_model_writes_files_between_fences() {
    let any_text = json!({ "type": "string", "minLength": 3 });
    let (text, read) = write(
        &files_schema(&any_text),
        900,
        &[
            r#"{a.py""#,
            "print(\"ä\\n\")\n\tpass\n",
            "``",
            "`",
            r#",src/Makefile""#,
            "```all:",
            "$",
            r#",a.md"```""#,
            "]",
        ],
    );
    assert_eq!(
        text,
        concat!(
            r#"{"files":[{"path":"a.py","content":"print(\"ä\\n\")\n\tpass\n"},"#,
            r#"{"path":"src/Makefile","content":"``~all:"},{"path":"a.md","content":"```"}]}"#
        )
    );
    assert_eq!(
        read,
        concat!(
            "{\"files\":[{\"path\":\"a.py\",\"content\":\n```py\nprint(\"ä\\n\")\n\tpass\n```\n},",
            "{\"path\":\"src/Makefile\",\"content\":\n```\n``~all:\n```\n},{\"path\":\"a.md\",\"content\":\"```\"}]}"
        )
    );
}

#[test]
fn a_repetitive_file_ends_after_a_complete_line() {
    let schema = files_schema(&json!({ "type": "string" }));
    let (text, _) = write(&schema, 900, &[r#"{a""#, "x = 1\ny = [", "1, "]);
    assert!(text.starts_with(r#"{"files":[{"path":"a","content":"x = 1\n"}"#), "{text}");
    // A file without a complete line remains unchanged if the schema requires at least one character.
    let schema = files_schema(&json!({ "type": "string", "minLength": 1 }));
    let (text, _) = write(&schema, 900, &[r#"{a""#, "x = [", "1, "]);
    assert!(text.starts_with(r#"{"files":[{"path":"a","content":"x = [1, 1"#), "{text}");
}

#[test]
fn a_list_ends_before_a_repeated_file() {
    let texts = [r#"{a""#, "x\n```", r#",b""#, "y\n%", r#",./A""#, "]"];
    let (text, read) = write(&files_schema(&json!({ "type": "string" })), 900, &texts);
    assert_eq!(text, r#"{"files":[{"path":"a","content":"x\n"},{"path":"b","content":"y\n"}]}"#);
    assert!(read.ends_with("\ny\n```\n}]}"), "{read}");
}

#[test]
fn a_content_with_further_constraints_is_written_as_json() {
    let number = json!({ "type": "string", "pattern": "^[0-9]{2,4}$" });
    let (text, read) = write(&files_schema(&number), 900, &[r#"{a""#, "x = 1\n", "123\"]", "]"]);
    assert!(text.starts_with(r#"{"files":[{"path":"a","content":"1"#), "{text}");
    assert_eq!(text, read);
    let (text, _) = write(
        &files_schema(&json!({ "type": "string", "maxLength": 12 })),
        900,
        &[r#"{a""#, "one\ntwo\nthree\nfour\n", "]"],
    );
    assert!(text.starts_with(r#"{"files":[{"path":"a","content":"one\ntwo\n"}"#), "{text}");
    let choices = json!({ "type": "string", "enum": ["a\n", "b\n"] });
    let (text, _) = write(&files_schema(&choices), 900, &[r#"{a""#, "b\n", "]"]);
    assert_eq!(text, r#"{"files":[{"path":"a","content":"b\n"}]}"#);
}

#[test]
fn a_long_file_leaves_room_for_the_end_of_the_document() {
    for limit in (60..400).step_by(11) {
        let lines = "abcdefgh\nijklmnopqrst\nuvwxyz0123456789\n";
        let (text, _) = write(&files_schema(&json!({ "type": "string" })), limit, &[r#"{a""#, lines]);
        assert!(serde_json::from_str::<Value>(&text).is_ok(), "{limit} {text}");
    }
}
