//! Tests of the decoder with fake models.

mod contents;
mod random;
mod strings;

use std::io::Cursor;

use candle_core::quantized::gguf_file::Content;
use serde_json::{Value, json};

use super::*;
use crate::grammar::GrammarFactory;
use crate::support::Gguf;

/// Merges that define the token `":"`: most vocabularies have a token with both quotes and the colon between them.
const COLON_MERGES: [&str; 2] = ["\" :", "\": \""];

/// A model that prefers the tokens of given texts: its vocabulary, and the grammars for it.
struct FakeModel {
    vocab: Vocab,
    grammars: GrammarFactory,
}

impl FakeModel {
    fn from_gguf(file: &Gguf) -> Self {
        let vocab = Vocab::from_gguf(&Content::read(&mut Cursor::new(file.bytes())).unwrap()).unwrap();
        let grammars = GrammarFactory::new(&vocab).unwrap();
        Self { vocab, grammars }
    }

    /// Creates a model with a byte-level vocabulary. To the merges that every test file has, it adds these merges.
    fn with_merges(merges: &[&str]) -> Self {
        Self::from_gguf(&Gguf::new("qwen2", 1).with_bpe_vocab("qwen2").with_merges(merges))
    }

    /// Raises the logits of the tokens with which `text` begins; the longest token has the highest logit.
    fn prefer(&self, logits: &mut [f32], text: &[u8]) {
        let prefixes = (1..=text.len().min(40)).filter_map(|len| self.vocab.token_for_bytes(&text[..len]));
        for (token, logit) in prefixes.zip(1u16..) {
            logits[token as usize] = f32::from(logit);
        }
    }

    /// Gives the highest logit to the end-of-turn token.
    fn prefer_end(&self, logits: &mut [f32]) {
        logits[self.vocab.end_tokens()[0] as usize] = 100.0;
    }
}

/// A complete or truncated reply.
#[derive(Debug)]
struct Reply {
    document: String,
    /// The text of the tokens that the model read.
    model_text: String,
    is_complete: bool,
    /// The number of tokens that the decoder removed after the model had read them.
    removed_token_count: usize,
    /// For each rewind, the text that the decoder removed and the text that replaced it, without their common prefix.
    rewinds: Vec<(String, String)>,
}

impl Reply {
    fn value(&self) -> Value {
        assert!(self.is_complete, "{self:?}");
        serde_json::from_str(&self.document).unwrap()
    }
}

fn after_common_prefix(left: &[u8], right: &[u8]) -> (String, String) {
    let common_len = left.iter().zip(right).take_while(|(a, b)| a == b).count();
    let rest = |text: &[u8]| String::from_utf8_lossy(&text[common_len..]).into_owned();
    (rest(left), rest(right))
}

/// Writes a reply with a fake model: `set_logits` sets the logits after the text that the model has read.
fn run(model: &FakeModel, schema: &Value, limit: usize, mut set_logits: impl FnMut(&[u8], &mut [f32])) -> Reply {
    let vocab = &model.vocab;
    let grammar = model.grammars.build(schema).unwrap();
    let mut decoder = ReplyDecoder::new(vocab, Some(grammar), TokenSampler::new(0.0, 1.0, 0), limit);
    let mut processed_tokens = decoder.forced_prefix();
    let bytes_of =
        |tokens: &[TokenId]| -> Vec<u8> { tokens.iter().flat_map(|t| vocab.token_bytes(*t)).copied().collect() };
    let mut rewinds = Vec::new();
    let is_complete = loop {
        let mut logits = vec![0.0; vocab.len()];
        // The decoder chooses this token where the schema forbids the preferred tokens.
        logits[vocab.token_for_bytes(b"~").unwrap() as usize] = 0.5;
        set_logits(&bytes_of(&processed_tokens), &mut logits);
        match decoder.step(&logits).unwrap() {
            DecoderStep::Continue(tokens) => processed_tokens.extend(tokens),
            DecoderStep::Rewind(prefix_len, tokens) => {
                assert!(prefix_len <= processed_tokens.len() && !tokens.is_empty());
                rewinds
                    .push(after_common_prefix(&bytes_of(&processed_tokens.split_off(prefix_len)), &bytes_of(&tokens)));
                processed_tokens.extend(tokens);
            }
            DecoderStep::Finish(tokens) => {
                processed_tokens.extend(tokens);
                break true;
            }
            DecoderStep::Truncated => break false,
        }
        assert_eq!(processed_tokens, decoder.model_tokens);
        assert!(processed_tokens.len() <= limit);
    };
    assert!(decoder.generated_count() >= processed_tokens.len());
    let document = String::from_utf8(decoder.document()).unwrap();
    let removed_token_count = decoder.removed_token_count;
    let model_text = String::from_utf8_lossy(&bytes_of(&processed_tokens)).into_owned();
    Reply { document, model_text, is_complete, removed_token_count, rewinds }
}

/// Writes a reply with a model that prefers these texts in sequence, byte by byte, and repeats the last text forever.
/// `$` stands for the end-of-turn token. Returns the document, and the text that the model read.
fn write(schema: &Value, limit: usize, texts: &[&str]) -> (String, String) {
    let model = FakeModel::with_merges(&[]);
    let (last, other_texts) = texts.split_last().unwrap();
    let mut preferences = other_texts.iter().flat_map(|text| text.bytes()).chain(last.bytes().cycle());
    let reply = run(&model, schema, limit, |_, logits| match preferences.next().unwrap() {
        b'$' => model.prefer_end(logits),
        byte => model.prefer(logits, &[byte]),
    });
    (reply.document, reply.model_text)
}

/// Returns the whole text that a model intends to write, given the text that it has read. The model intends to write a
/// document of these JSON parts with these contents between them. It writes a content between fences if `read` has an
/// opening fence at its place, and otherwise as a JSON string.
fn intended_text(read: &[u8], json_parts: &[&str], contents: &[&str]) -> Vec<u8> {
    let mut intended = Vec::new();
    for (index, part) in json_parts.iter().enumerate() {
        intended.extend(part.bytes());
        let Some(content) = contents.get(index) else { continue };
        let rest = read.get(intended.len()..).unwrap_or_default();
        if rest.starts_with(b"\n```") && read.starts_with(&intended) {
            intended.extend(rest.split_inclusive(|byte| *byte == b'\n').take(2).flatten());
            intended.extend(content.bytes());
            intended.extend(if content.is_empty() || content.ends_with('\n') { &b""[..] } else { b"\n" });
            intended.extend(b"```\n");
        } else {
            intended.extend(Value::from(*content).to_string().bytes());
        }
    }
    intended
}

/// Writes a reply with a model that intends to write a document: these JSON parts with these contents between them.
fn write_intended(
    model: &FakeModel,
    schema: &Value,
    limit: usize,
    (json_parts, contents): (&[&str], &[&str]),
) -> Reply {
    run(model, schema, limit, |read, logits| match intended_text(read, json_parts, contents).strip_prefix(read) {
        Some(rest) if !rest.is_empty() => model.prefer(logits, rest),
        _ => model.prefer_end(logits),
    })
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

/// Writes free text with a model that intends to write `text`. Returns what the decoder has written when the text ends,
/// when it reaches the limit, or, if the rule is `EndsText`, when it contains the text that begins a call.
fn write_free_text(rule: CallMarkerRule, text: &str) -> String {
    // A token of this vocabulary continues after the end of the marker.
    let model = FakeModel::with_merges(&["> \u{10a}"]);
    let sampler = TokenSampler::new(0.0, 1.0, 0);
    let mut decoder = ReplyDecoder::new(&model.vocab, None, sampler, 40).with_marker_rule(rule);
    loop {
        let document = String::from_utf8(decoder.document()).unwrap();
        let mut logits = vec![0.0; model.vocab.len()];
        logits[model.vocab.token_for_bytes(b"~").unwrap() as usize] = 0.5;
        match text.strip_prefix(document.as_str()) {
            Some(rest) if !rest.is_empty() => model.prefer(&mut logits, rest.as_bytes()),
            _ => model.prefer_end(&mut logits),
        }
        let is_call = rule == CallMarkerRule::EndsText && document.ends_with(CALL_MARKER);
        match decoder.step(&logits).unwrap() {
            DecoderStep::Continue(_) if !is_call => {}
            _ => return document,
        }
    }
}

#[test]
fn free_text_follows_the_rule_for_the_marker_of_a_call() {
    let call = "Look: <tool_call>\n{}";
    assert_eq!(write_free_text(CallMarkerRule::Ignored, call), call);
    assert_eq!(write_free_text(CallMarkerRule::EndsText, call), "Look: <tool_call>");
    let without_call = write_free_text(CallMarkerRule::Banned, call);
    assert!(without_call.starts_with("Look: <tool_call") && !without_call.contains(CALL_MARKER), "{without_call}");
    for rule in [CallMarkerRule::Ignored, CallMarkerRule::EndsText, CallMarkerRule::Banned] {
        assert_eq!(write_free_text(rule, "a <b>\n"), "a <b>\n", "{rule:?}");
    }
}
