//! Writes a reply token by token: follows the schema, stops repetition, and ends the reply before its limit.

mod fenced;

use toktrie::TokenId;

use crate::Error;
use crate::grammar::Grammar;
use crate::items::{Items, ReplyPosition};
use crate::sampler::{TokenSampler, repeats};
use crate::vocab::Vocab;

use fenced::{Fenced, Stretch};

/// A string that has this many tokens is ended once the reply nears its limit.
const LATE_STRING: usize = 24;

/// Each step watches the way out of the document once the remaining tokens are at most twice that way plus this.
const MARGIN: usize = 48;

/// The next step of a reply.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum WriterStep {
    /// These tokens follow; the model must read them before the next step.
    Go(Vec<TokenId>),
    /// These tokens follow, and the reply is complete.
    Last(Vec<TokenId>),
    /// What the model read of the reply is taken back except for the first so many tokens, and these tokens follow; the
    /// model must read them before the next step.
    Back(usize, Vec<TokenId>),
    /// The reply is cut off: it reached its limit, or it repeats itself.
    Cut,
}

/// Writes one reply.
pub(crate) struct ReplyWriter<'a> {
    vocab: &'a Vocab,
    grammar: Option<Grammar>,
    sampler: TokenSampler,
    banned: Vec<bool>,
    limit: usize,
    /// The tokens of the document.
    written: Vec<TokenId>,
    /// The tokens as the model reads them, with texts of files between fences.
    read: Vec<TokenId>,
    /// How many of `read` the model has read.
    known: usize,
    stretches: Vec<Stretch>,
    file: Option<Fenced>,
    /// Whether texts of files are written as JSON strings, because the schema restricts them further.
    as_json: bool,
    string_from: Option<usize>,
    way: Option<Vec<TokenId>>,
    items: Items,
    taken_back: usize,
}

impl<'a> ReplyWriter<'a> {
    /// Starts a reply of at most `limit` tokens.
    pub(crate) fn new(vocab: &'a Vocab, grammar: Option<Grammar>, sampler: TokenSampler, limit: usize) -> Self {
        let mut banned = vec![false; vocab.len()];
        for token in vocab.reserved() {
            if let Some(entry) = banned.get_mut(*token as usize) {
                *entry = !vocab.ends().contains(token);
            }
        }
        let way = grammar.as_ref().and_then(|grammar| grammar.way_out(vocab, limit));
        Self {
            vocab,
            grammar,
            sampler,
            banned,
            limit,
            written: Vec::new(),
            read: Vec::new(),
            known: 0,
            stretches: Vec::new(),
            file: None,
            as_json: false,
            string_from: None,
            way,
            items: Items::default(),
            taken_back: 0,
        }
    }

    /// The reply so far.
    pub(crate) fn document(&self) -> Vec<u8> {
        self.written.iter().flat_map(|token| self.vocab.bytes(*token)).copied().collect()
    }

    /// Tokens that every reply begins with; they are known before the model has read anything.
    pub(crate) fn opening(&mut self) -> Vec<TokenId> {
        let mut tokens = match &mut self.grammar {
            Some(grammar) => grammar.forced(self.vocab),
            None => Vec::new(),
        };
        tokens.truncate(self.limit);
        self.keep(&tokens);
        tokens
    }

    /// How many tokens were generated, including those that were taken back.
    pub(crate) fn produced(&self) -> usize {
        self.read.len() + self.taken_back
    }

    /// Whether the reply may get more tokens.
    pub(crate) fn has_room(&self) -> bool {
        self.read.len() < self.limit
    }

    /// Adds tokens to the reply; if they show that items of a list repeat, returns the position to go back to.
    fn keep(&mut self, tokens: &[TokenId]) -> Option<ReplyPosition> {
        self.read.extend_from_slice(tokens);
        self.add_to_document(tokens)
    }

    fn add_to_document(&mut self, tokens: &[TokenId]) -> Option<ReplyPosition> {
        self.written.extend_from_slice(tokens);
        let mut mark = None;
        if self.grammar.is_some() {
            for token in tokens {
                mark = mark.or(self.items.read(self.vocab.bytes(*token)));
            }
        }
        let inside = self.grammar.as_ref().is_some_and(Grammar::in_string);
        self.string_from = match (inside, self.string_from) {
            (false, _) => None,
            (true, None) => Some(self.written.len()),
            (true, from) => from,
        };
        mark
    }

    /// Takes back what comes after a position, and ends the list or string that is open there if the schema allows it.
    fn back(&mut self, mark: ReplyPosition, end: u8) -> Option<WriterStep> {
        let (grammar, tokens) = self.up_to(mark, &[end])?;
        let to = self.place_read(mark.tokens)?;
        let room = self.limit.checked_sub(to + tokens.len())?;
        let way = grammar.way_out(self.vocab, room)?;
        self.replace_document(mark.tokens, &tokens, grammar);
        self.way = Some(way);
        Some(self.replace_read(to, &tokens))
    }

    /// Whether the reply is so close to its limit that it must reserve tokens for the way out of the document.
    fn is_narrow(&self, left: usize) -> bool {
        self.way.as_ref().is_none_or(|way| left <= way.len() * 2 + MARGIN)
    }

    /// Chooses the next tokens from the scores that the model gives to every token.
    pub(crate) fn step(&mut self, scores: &[f32]) -> Result<WriterStep, Error> {
        let Some(left) = self.limit.checked_sub(self.read.len()).filter(|left| *left > 0) else {
            let complete = self.grammar.as_ref().is_some_and(Grammar::finished);
            return Ok(if complete { WriterStep::Last(Vec::new()) } else { WriterStep::Cut });
        };
        self.known = self.read.len();
        if let Some(file) = self.file.take() {
            return self.file_step(file, scores, left);
        }
        let narrow = self.is_narrow(left);
        let vocab = self.vocab;
        let circling = repeats(&self.read);
        let Some(grammar) = &mut self.grammar else {
            if circling {
                return Ok(WriterStep::Cut);
            }
            let token = self.sampler.pick(scores, None, among(&self.banned));
            return Ok(match token {
                Some(token) if vocab.ends().contains(&token) => WriterStep::Last(Vec::new()),
                Some(token) => {
                    self.keep(&[token]);
                    WriterStep::Go(vec![token])
                }
                None => WriterStep::Cut,
            });
        };
        if grammar.finished() {
            return Ok(WriterStep::Last(Vec::new()));
        }

        let late = self.read.len() * 4 >= self.limit * 3;
        let closing = match self.string_from {
            Some(from) => circling || (late && self.written.len() - from >= LATE_STRING),
            None => circling || late,
        };
        let mask = grammar.mask()?;
        let closer = if closing { grammar.closer(&mask) } else { None };
        // Half a line of code does not parse, so end the string after its last complete line, if it has one.
        if closer.is_some()
            && let Some(mark) = self.items.line_end()
            && let Some(step) = self.back(mark, b'"')
        {
            return Ok(step);
        }
        let Some(grammar) = &mut self.grammar else { return Ok(WriterStep::Cut) };
        let token = closer
            .or_else(|| self.sampler.pick(scores, Some(&mask), among(&self.banned)))
            .ok_or_else(|| Error::Schema("no token can follow".to_owned()))?;
        if vocab.ends().contains(&token) {
            return Ok(WriterStep::Last(Vec::new()));
        }

        let watch = narrow || (self.string_from.is_none() && self.read.len() * 2 >= self.limit);
        let before = if watch { grammar.way_out(vocab, left) } else { None };
        grammar.take(token, vocab)?;
        let mut tokens = vec![token];
        tokens.extend(grammar.forced(vocab));
        if watch {
            let room = left.saturating_sub(tokens.len());
            let after = grammar.way_out(vocab, room).filter(|_| tokens.len() <= left);
            match (after, before) {
                (Some(after), _) => self.way = Some(after),
                // The token would leave too little room, so end the document instead.
                (None, Some(before)) => {
                    self.keep(&before);
                    return Ok(WriterStep::Last(before));
                }
                (None, None) => {}
            }
        }
        tokens.truncate(left);
        let again = self.keep(&tokens);
        let step = again.and_then(|mark| self.back(mark, b']')).or_else(|| self.open_file());
        Ok(step.unwrap_or(WriterStep::Go(tokens)))
    }
}

/// Whether a token is one of the banned ones.
fn among(banned: &[bool]) -> impl Fn(TokenId) -> bool {
    move |token| banned.get(token as usize).copied().unwrap_or(true)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use candle_core::quantized::gguf_file::Content;
    use serde_json::{Value, json};

    use super::*;
    use crate::grammar::Grammars;
    use crate::support::{Gguf, Kind, SMALL};

    /// The document, and what the model reads of it, for a schema and a model that wants these texts in turn, the last
    /// one forever.
    fn written(schema: &Value, limit: usize, wanted: &[&str]) -> (String, String) {
        let file = Gguf::model("qwen2", SMALL, Kind::Q8, 1).bytes();
        let vocab = Vocab::read(&Content::read(&mut Cursor::new(file)).unwrap()).unwrap();
        let grammar = Grammars::new(&vocab).unwrap().of(schema).unwrap();
        let mut writer = ReplyWriter::new(&vocab, Some(grammar), TokenSampler::new(0.0, 1.0, 0), limit);
        let (last, first) = wanted.split_last().unwrap();
        let mut wishes = first.iter().flat_map(|text| text.bytes()).chain(last.bytes().cycle());
        let mut read = writer.opening();
        loop {
            let wish = match wishes.next().unwrap() {
                b'$' => vocab.ends()[0],
                b'%' => vocab.token(b"```\n").unwrap(),
                byte => vocab.token(&[byte]).unwrap(),
            };
            let mut scores = vec![0.0; vocab.len()];
            // This is written where the schema does not allow the wanted token.
            scores[vocab.token(b"~").unwrap() as usize] = 0.5;
            scores[wish as usize] = 1.0;
            match writer.step(&scores).unwrap() {
                WriterStep::Go(tokens) => read.extend(tokens),
                WriterStep::Back(to, tokens) => {
                    read.truncate(to);
                    read.extend(tokens);
                }
                WriterStep::Last(tokens) => {
                    read.extend(tokens);
                    break;
                }
                WriterStep::Cut => break,
            }
            assert_eq!(read, writer.read);
            assert!(read.len() <= limit);
        }
        assert!(writer.produced() >= read.len());
        let read: Vec<u8> = read.iter().flat_map(|token| vocab.bytes(*token)).copied().collect();
        (String::from_utf8(writer.document()).unwrap(), String::from_utf8(read).unwrap())
    }

    fn object(properties: &Value) -> Value {
        let names: Vec<&String> = properties.as_object().unwrap().keys().collect();
        json!({ "type": "object", "properties": properties, "required": names, "additionalProperties": false })
    }

    fn words() -> Value {
        object(&json!({ "words": { "type": "string" } }))
    }

    /// A list of files, each with a path and a content of this schema.
    fn files(content: &Value) -> Value {
        let file = object(&json!({ "path": { "type": "string" }, "content": content }));
        object(&json!({ "files": { "type": "array", "items": file } }))
    }

    #[test]
    fn a_string_in_circles_ends_with_a_whole_line() {
        let (text, _) = written(&words(), 500, &[r"x = 1\n", r"y(1, 1);\n", "z(("]);
        assert_eq!(text, r#"{"words":"x = 1\ny(1, 1);\n"}"#);
    }

    #[test]
    fn a_string_near_the_limit_ends_with_a_whole_line() {
        let (text, _) = written(&words(), 60, &[r"one\ntwo\n", "abcdefghijklmnopqrstuvwxyz0123456789"]);
        assert_eq!(text, r#"{"words":"one\ntwo\n"}"#);
    }

    #[test]
    fn a_string_of_one_line_ends_where_it_stands() {
        let (text, _) = written(&words(), 500, &["go ", "on "]);
        assert!(text.starts_with(r#"{"words":"go on on"#) && text.ends_with(r#""}"#), "{text}");
    }

    #[test]
    fn text_of_files_is_written_between_fences() {
        let any = json!({ "type": "string", "minLength": 3 });
        let (text, read) = written(
            &files(&any),
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
    fn a_file_in_circles_ends_with_a_whole_line() {
        let any = files(&json!({ "type": "string" }));
        let (text, _) = written(&any, 900, &[r#"{a""#, "x = 1\ny = [", "1, "]);
        assert!(text.starts_with(r#"{"files":[{"path":"a","content":"x = 1\n"}"#), "{text}");
        // It stays as it is when it has no complete line and the schema requires at least one character.
        let some = files(&json!({ "type": "string", "minLength": 1 }));
        let (text, _) = written(&some, 900, &[r#"{a""#, "x = [", "1, "]);
        assert!(text.starts_with(r#"{"files":[{"path":"a","content":"x = [1, 1"#), "{text}");
    }

    #[test]
    fn files_that_are_written_again_end_the_list_before_them() {
        let again = [r#"{a""#, "x\n```", r#",b""#, "y\n%", r#",./A""#, "]"];
        let (text, read) = written(&files(&json!({ "type": "string" })), 900, &again);
        assert_eq!(text, r#"{"files":[{"path":"a","content":"x\n"},{"path":"b","content":"y\n"}]}"#);
        assert!(read.ends_with("\ny\n```\n}]}"), "{read}");
    }

    #[test]
    fn a_content_of_another_form_is_written_as_json() {
        let number = json!({ "type": "string", "pattern": "^[0-9]{2,4}$" });
        let (text, read) = written(&files(&number), 900, &[r#"{a""#, "x = 1\n", "123\"]", "]"]);
        assert!(text.starts_with(r#"{"files":[{"path":"a","content":"1"#), "{text}");
        assert_eq!(text, read);
        let (text, _) = written(
            &files(&json!({ "type": "string", "maxLength": 12 })),
            900,
            &[r#"{a""#, "one\ntwo\nthree\nfour\n", "]"],
        );
        assert!(text.starts_with(r#"{"files":[{"path":"a","content":"one\ntwo\n"}"#), "{text}");
        let chosen = json!({ "type": "string", "enum": ["a\n", "b\n"] });
        let (text, _) = written(&files(&chosen), 900, &[r#"{a""#, "b\n", "]"]);
        assert_eq!(text, r#"{"files":[{"path":"a","content":"b\n"}]}"#);
    }

    #[test]
    fn a_long_file_leaves_room_for_the_end_of_the_document() {
        for limit in (60..400).step_by(11) {
            let lines = "abcdefgh\nijklmnopqrst\nuvwxyz0123456789\n";
            let (text, _) = written(&files(&json!({ "type": "string" })), limit, &[r#"{a""#, lines]);
            assert!(serde_json::from_str::<Value>(&text).is_ok(), "{limit} {text}");
        }
    }
}
