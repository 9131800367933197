//! Replies of fake models.

mod random;
mod strings;
mod texts;

use std::io::Cursor;

use candle_core::quantized::gguf_file::Content;
use serde_json::{Value, json};

use super::*;
use crate::grammar::GrammarFactory;
use crate::support::Gguf;

/// Merges for the token `":"`, in which most vocabularies have a quote, the colon and the next quote.
const COLON_MERGES: [&str; 2] = ["\" :", "\": \""];

/// A vocabulary with its grammars.
struct Tokens {
    vocab: Vocab,
    grammars: GrammarFactory,
}

impl Tokens {
    fn from_gguf(file: &Gguf) -> Self {
        let vocab = Vocab::from_gguf(&Content::read(&mut Cursor::new(file.bytes())).unwrap()).unwrap();
        let grammars = GrammarFactory::new(&vocab).unwrap();
        Self { vocab, grammars }
    }

    /// A byte-level vocabulary with these merges in addition to those that all tests have.
    fn with_merges(merges: &[&str]) -> Self {
        Self::from_gguf(&Gguf::new("qwen2", 1).with_bpe_vocab("qwen2").with_merges(merges))
    }

    /// The tokens with which these texts begin; the model prefers the longer ones.
    fn prefer(&self, logits: &mut [f32], text: &[u8]) {
        let prefixes = (1..=text.len().min(40)).filter_map(|len| self.vocab.token_for_bytes(&text[..len]));
        for (token, logit) in prefixes.zip(1u16..) {
            logits[token as usize] = f32::from(logit);
        }
    }

    fn prefer_end(&self, logits: &mut [f32]) {
        logits[self.vocab.end_tokens()[0] as usize] = 100.0;
    }
}

/// A complete or cut reply.
#[derive(Debug)]
struct Reply {
    document: String,
    /// The text that the model read.
    read: String,
    is_complete: bool,
    /// The number of tokens that the model read and that the reply no longer contains.
    removed_count: usize,
    /// For each rewind, the text that the model read and had to forget, and the text that it read instead, each after
    /// what they have in common.
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

/// Writes a reply with a fake model: `choose` sets the logits after the text that the model has read.
fn run(tokens: &Tokens, schema: &Value, limit: usize, mut choose: impl FnMut(&[u8], &mut [f32])) -> Reply {
    let vocab = &tokens.vocab;
    let grammar = tokens.grammars.build(schema).unwrap();
    let mut writer = ReplyWriter::new(vocab, Some(grammar), TokenSampler::new(0.0, 1.0, 0), limit);
    let mut read = writer.forced_prefix();
    let text_of = |read: &[TokenId]| -> Vec<u8> { read.iter().flat_map(|t| vocab.token_bytes(*t)).copied().collect() };
    let mut rewinds = Vec::new();
    let is_complete = loop {
        let mut logits = vec![0.0; vocab.len()];
        // The writer chooses this token where the schema forbids the preferred ones.
        logits[vocab.token_for_bytes(b"~").unwrap() as usize] = 0.5;
        choose(&text_of(&read), &mut logits);
        match writer.step(&logits).unwrap() {
            WriterStep::Continue(tokens) => read.extend(tokens),
            WriterStep::Rewind(kept_len, tokens) => {
                assert!(kept_len <= read.len() && !tokens.is_empty());
                rewinds.push(after_common_prefix(&text_of(&read.split_off(kept_len)), &text_of(&tokens)));
                read.extend(tokens);
            }
            WriterStep::Finish(tokens) => {
                read.extend(tokens);
                break true;
            }
            WriterStep::Truncated => break false,
        }
        assert_eq!(read, writer.model_tokens);
        assert!(read.len() <= limit);
    };
    assert!(writer.generated_count() >= read.len());
    let document = String::from_utf8(writer.document()).unwrap();
    let removed_count = writer.removed_count;
    let read = String::from_utf8_lossy(&text_of(&read)).into_owned();
    Reply { document, read, is_complete, removed_count, rewinds }
}

/// Writes a reply with a model that prefers these texts in sequence, byte by byte, and repeats the last one without an
/// end; `$` is the end token. Returns the document, and the text that the model read.
fn write(schema: &Value, limit: usize, texts: &[&str]) -> (String, String) {
    let tokens = Tokens::with_merges(&[]);
    let (last, other_texts) = texts.split_last().unwrap();
    let mut preferences = other_texts.iter().flat_map(|text| text.bytes()).chain(last.bytes().cycle());
    let reply = run(&tokens, schema, limit, |_, logits| match preferences.next().unwrap() {
        b'$' => tokens.prefer_end(logits),
        byte => tokens.prefer(logits, &[byte]),
    });
    (reply.document, reply.read)
}

/// The text that a model reads and writes if it means the document of these JSON parts with these contents between
/// them. It writes a content between fences if it has read an opening fence there, and otherwise as a JSON string.
fn meant_text(read: &[u8], parts: &[&str], contents: &[&str]) -> Vec<u8> {
    let mut meant = Vec::new();
    for (index, part) in parts.iter().enumerate() {
        meant.extend(part.bytes());
        let Some(content) = contents.get(index) else { continue };
        let rest = read.get(meant.len()..).unwrap_or_default();
        if rest.starts_with(b"\n```") && read.starts_with(&meant) {
            meant.extend(rest.split_inclusive(|byte| *byte == b'\n').take(2).flatten());
            meant.extend(content.bytes());
            meant.extend(if content.is_empty() || content.ends_with('\n') { &b""[..] } else { b"\n" });
            meant.extend(b"```\n");
        } else {
            meant.extend(Value::from(*content).to_string().bytes());
        }
    }
    meant
}

/// Writes a reply with a model that means a document: these JSON parts with these contents between them.
fn write_meant(tokens: &Tokens, schema: &Value, limit: usize, (parts, contents): (&[&str], &[&str])) -> Reply {
    run(tokens, schema, limit, |read, logits| match meant_text(read, parts, contents).strip_prefix(read) {
        Some(rest) if !rest.is_empty() => tokens.prefer(logits, rest),
        _ => tokens.prefer_end(logits),
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
