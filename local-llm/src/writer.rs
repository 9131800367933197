//! Writes a reply token by token: follows the schema, ends repetition, and completes the reply before its limit.

mod fenced;

use toktrie::TokenId;

use crate::Error;
use crate::grammar::Grammar;
use crate::incremental_json::{IncrementalJson, ReplyPosition};
use crate::sampler::{TokenSampler, ends_in_repetition};
use crate::vocab::Vocab;

use fenced::{FencedRange, FencedText};

/// When a reply nears its limit, the writer ends a string with at least this many tokens.
const LATE_STRING_TOKENS: usize = 24;

/// A reply nears its limit when the remaining tokens are at most twice the tokens that close the document, plus this
/// number.
const CLOSING_MARGIN: usize = 48;

/// The result of a step.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum WriterStep {
    /// The reply continues with these tokens; the model must read them before the next step.
    Continue(Vec<TokenId>),
    /// The reply ends with these tokens and is complete.
    Finish(Vec<TokenId>),
    /// The reply keeps only this number of tokens and continues with these tokens; the model must read them before the
    /// next step.
    Rewind(usize, Vec<TokenId>),
    /// The reply is incomplete: it reached its limit, or it repeats itself.
    Truncated,
}

/// Writes one reply.
pub(crate) struct ReplyWriter<'a> {
    vocab: &'a Vocab,
    grammar: Option<Grammar>,
    sampler: TokenSampler,
    /// For each token, whether the model must not generate it.
    banned: Vec<bool>,
    limit: usize,
    /// The tokens of the document.
    document_tokens: Vec<TokenId>,
    /// The tokens that the model reads, with the texts of files between fences.
    model_tokens: Vec<TokenId>,
    /// The number of these tokens that the model has already read.
    processed_len: usize,
    fenced_ranges: Vec<FencedRange>,
    fenced_text: Option<FencedText>,
    /// Whether the model writes the texts of files as JSON strings, because the schema restricts these texts.
    writes_files_as_strings: bool,
    /// The number of tokens of the document before the content of the string in which the document ends.
    string_start: Option<usize>,
    /// Tokens that would complete the document.
    closing_tokens: Option<Vec<TokenId>>,
    json: IncrementalJson,
    /// The number of generated tokens that the reply no longer contains.
    removed_count: usize,
}

impl<'a> ReplyWriter<'a> {
    /// Starts a reply of at most `limit` tokens.
    pub(crate) fn new(vocab: &'a Vocab, grammar: Option<Grammar>, sampler: TokenSampler, limit: usize) -> Self {
        let mut banned = vec![false; vocab.len()];
        for token in vocab.reserved_tokens() {
            if let Some(entry) = banned.get_mut(*token as usize) {
                *entry = !vocab.end_tokens().contains(token);
            }
        }
        let closing_tokens = grammar.as_ref().and_then(|grammar| grammar.closing_sequence(vocab, limit));
        Self {
            vocab,
            grammar,
            sampler,
            banned,
            limit,
            document_tokens: Vec::new(),
            model_tokens: Vec::new(),
            processed_len: 0,
            fenced_ranges: Vec::new(),
            fenced_text: None,
            writes_files_as_strings: false,
            string_start: None,
            closing_tokens,
            json: IncrementalJson::default(),
            removed_count: 0,
        }
    }

    /// The reply so far.
    pub(crate) fn document(&self) -> Vec<u8> {
        self.document_tokens.iter().flat_map(|token| self.vocab.token_bytes(*token)).copied().collect()
    }

    /// Adds and returns the tokens with which the schema requires every reply to begin.
    pub(crate) fn forced_prefix(&mut self) -> Vec<TokenId> {
        let mut tokens = match &mut self.grammar {
            Some(grammar) => grammar.consume_forced(self.vocab),
            None => Vec::new(),
        };
        tokens.truncate(self.limit);
        self.append(&tokens);
        tokens
    }

    /// The number of generated tokens, including the removed ones.
    pub(crate) fn generated_count(&self) -> usize {
        self.model_tokens.len() + self.removed_count
    }

    /// Whether the reply may get more tokens.
    pub(crate) fn has_room(&self) -> bool {
        self.model_tokens.len() < self.limit
    }

    /// Adds tokens to the reply. If items of a list repeat, returns the end of the last item before the repetition.
    fn append(&mut self, tokens: &[TokenId]) -> Option<ReplyPosition> {
        self.model_tokens.extend_from_slice(tokens);
        self.add_to_document(tokens)
    }

    fn add_to_document(&mut self, tokens: &[TokenId]) -> Option<ReplyPosition> {
        self.document_tokens.extend_from_slice(tokens);
        let mut repetition = None;
        if self.grammar.is_some() {
            for token in tokens {
                repetition = repetition.or(self.json.push_token(self.vocab.token_bytes(*token)));
            }
        }
        let in_string = self.grammar.as_ref().is_some_and(Grammar::in_string);
        self.string_start = match (in_string, self.string_start) {
            (false, _) => None,
            (true, None) => Some(self.document_tokens.len()),
            (true, start) => start,
        };
        repetition
    }

    /// Removes everything after a position, and closes the array or string that is open there, if the schema allows it.
    fn rewind_and_close(&mut self, position: ReplyPosition, closing_byte: u8) -> Option<WriterStep> {
        let (grammar, tokens) = self.rewind_grammar(position, &[closing_byte])?;
        let read_len = self.model_index(position.tokens)?;
        let remaining = self.limit.checked_sub(read_len + tokens.len())?;
        let closing_tokens = grammar.closing_sequence(self.vocab, remaining)?;
        self.replace_document(position.tokens, &tokens, grammar);
        self.closing_tokens = Some(closing_tokens);
        Some(self.replace_model_tokens(read_len, &tokens))
    }

    /// Whether the reply is so close to its limit that it must reserve tokens for the end of the document.
    fn is_near_limit(&self, remaining: usize) -> bool {
        self.closing_tokens.as_ref().is_none_or(|tokens| remaining <= tokens.len() * 2 + CLOSING_MARGIN)
    }

    /// Chooses the next tokens from the logits of the model.
    pub(crate) fn step(&mut self, logits: &[f32]) -> Result<WriterStep, Error> {
        let Some(remaining) = self.limit.checked_sub(self.model_tokens.len()).filter(|remaining| *remaining > 0) else {
            let is_complete = self.grammar.as_ref().is_some_and(Grammar::is_finished);
            return Ok(if is_complete { WriterStep::Finish(Vec::new()) } else { WriterStep::Truncated });
        };
        self.processed_len = self.model_tokens.len();
        if let Some(file) = self.fenced_text.take() {
            return self.step_fenced(file, logits, remaining);
        }
        let is_near_limit = self.is_near_limit(remaining);
        let vocab = self.vocab;
        let is_repeating = ends_in_repetition(&self.model_tokens);
        let Some(grammar) = &mut self.grammar else {
            if is_repeating {
                return Ok(WriterStep::Truncated);
            }
            let token = self.sampler.sample(logits, None, is_banned_in(&self.banned));
            return Ok(match token {
                Some(token) if vocab.end_tokens().contains(&token) => WriterStep::Finish(Vec::new()),
                Some(token) => {
                    self.append(&[token]);
                    WriterStep::Continue(vec![token])
                }
                None => WriterStep::Truncated,
            });
        };
        if grammar.is_finished() {
            return Ok(WriterStep::Finish(Vec::new()));
        }

        let is_late = self.model_tokens.len() * 4 >= self.limit * 3;
        let should_close = match self.string_start {
            Some(start) => is_repeating || (is_late && self.document_tokens.len() - start >= LATE_STRING_TOKENS),
            None => is_repeating || is_late,
        };
        let mask = grammar.compute_mask()?;
        let closing_token = if should_close { grammar.closing_token(&mask) } else { None };
        // An incomplete line of code does not parse, so end the string after its last complete line, if it has one.
        if closing_token.is_some()
            && let Some(position) = self.json.last_line_end()
            && let Some(step) = self.rewind_and_close(position, b'"')
        {
            return Ok(step);
        }
        let Some(grammar) = &mut self.grammar else { return Ok(WriterStep::Truncated) };
        let token = closing_token
            .or_else(|| self.sampler.sample(logits, Some(&mask), is_banned_in(&self.banned)))
            .ok_or_else(|| Error::UnsupportedSchema("no token can follow".to_owned()))?;
        if vocab.end_tokens().contains(&token) {
            return Ok(WriterStep::Finish(Vec::new()));
        }

        let must_check_end =
            is_near_limit || (self.string_start.is_none() && self.model_tokens.len() * 2 >= self.limit);
        let closing_before = if must_check_end { grammar.closing_sequence(vocab, remaining) } else { None };
        grammar.consume(token, vocab)?;
        let mut tokens = vec![token];
        tokens.extend(grammar.consume_forced(vocab));
        if must_check_end {
            let remaining_after = remaining.saturating_sub(tokens.len());
            let closing_after = grammar.closing_sequence(vocab, remaining_after).filter(|_| tokens.len() <= remaining);
            match (closing_after, closing_before) {
                (Some(closing_after), _) => self.closing_tokens = Some(closing_after),
                // The token would leave too little room, so end the document instead.
                (None, Some(closing_before)) => {
                    self.append(&closing_before);
                    return Ok(WriterStep::Finish(closing_before));
                }
                (None, None) => {}
            }
        }
        tokens.truncate(remaining);
        let repetition = self.append(&tokens);
        let step = repetition.and_then(|position| self.rewind_and_close(position, b']')).or_else(|| self.open_fence());
        Ok(step.unwrap_or(WriterStep::Continue(tokens)))
    }
}

/// A predicate that is true for banned tokens and for tokens outside the vocabulary.
fn is_banned_in(banned: &[bool]) -> impl Fn(TokenId) -> bool {
    move |token| banned.get(token as usize).copied().unwrap_or(true)
}

#[cfg(test)]
mod tests {
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
}
