//! The order of tokens in one reply: what the schema allows, what keeps the
//! reply from going in circles, and what brings it to an end in time.

use toktrie::TokenId;

use crate::Error;
use crate::grammar::Grammar;
use crate::items::{Items, Mark};
use crate::sampler::{Sampler, repeats};
use crate::vocab::Vocab;

/// Tokens a string may still have once the reply nears its limit.
const LATE_STRING: usize = 24;

/// Tokens beyond which the way out of a document is not looked for in advance.
const MARGIN: usize = 48;

/// What follows.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// These tokens; the model must read them before the next step.
    Go(Vec<TokenId>),
    /// These tokens, and the reply is complete.
    Last(Vec<TokenId>),
    /// All but the first so many tokens are taken back, and these follow; the model must read them before the next
    /// step.
    Back(usize, Vec<TokenId>),
    /// The limit was reached or the model goes in circles.
    Cut,
}

/// Writes one reply.
pub(crate) struct Writer<'a> {
    vocab: &'a Vocab,
    grammar: Option<Grammar>,
    sampler: Sampler,
    banned: Vec<bool>,
    limit: usize,
    written: Vec<TokenId>,
    string_from: Option<usize>,
    way: Option<Vec<TokenId>>,
    items: Items,
    taken_back: usize,
}

impl<'a> Writer<'a> {
    /// Begins a reply of at most `limit` tokens.
    pub(crate) fn new(vocab: &'a Vocab, grammar: Option<Grammar>, sampler: Sampler, limit: usize) -> Self {
        let mut banned = vec![false; vocab.len()];
        for token in vocab.reserved() {
            if let Some(entry) = banned.get_mut(*token as usize) {
                *entry = !vocab.ends().contains(token);
            }
        }
        let written = Vec::new();
        let way = grammar.as_ref().and_then(|grammar| grammar.way_out(vocab, limit));
        Self {
            vocab,
            grammar,
            sampler,
            banned,
            limit,
            written,
            string_from: None,
            way,
            items: Items::default(),
            taken_back: 0,
        }
    }

    /// The tokens written so far.
    pub(crate) fn written(&self) -> &[TokenId] {
        &self.written
    }

    /// Tokens every reply begins with, known before the model has read anything.
    pub(crate) fn opening(&mut self) -> Vec<TokenId> {
        let mut tokens = match &mut self.grammar {
            Some(grammar) => grammar.forced(self.vocab),
            None => Vec::new(),
        };
        tokens.truncate(self.limit);
        self.keep(&tokens);
        tokens
    }

    /// How many tokens were written, with those that were taken back.
    pub(crate) fn produced(&self) -> usize {
        self.written.len() + self.taken_back
    }

    /// Adds tokens to the reply; gives the place to go back to when they show that items of a list repeat.
    fn keep(&mut self, tokens: &[TokenId]) -> Option<Mark> {
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

    /// Takes back what comes after a place and ends the list or string that is open there, if the schema lets it end.
    fn back(&mut self, mark: Mark, end: u8) -> Option<Step> {
        let (kept, dropped) = self.written.split_at_checked(mark.tokens)?;
        let begun = dropped.first().map_or(&[][..], |token| self.vocab.bytes(*token)).get(..mark.bytes)?;
        let bytes = [begun, &[end]].concat();
        let (grammar, tokens) = self.grammar.as_ref()?.back(kept, dropped.len(), &bytes, self.vocab)?;
        let room = self.limit.checked_sub(kept.len() + tokens.len())?;
        let way = grammar.way_out(self.vocab, room)?;
        self.taken_back += dropped.len();
        self.written.truncate(mark.tokens);
        self.items = Items::default();
        for token in &self.written {
            let _ = self.items.read(self.vocab.bytes(*token));
        }
        (self.grammar, self.way) = (Some(grammar), Some(way));
        self.keep(&tokens);
        Some(Step::Back(mark.tokens, tokens))
    }

    /// Chooses what follows from the scores the model gives to every token.
    pub(crate) fn step(&mut self, scores: &[f32]) -> Result<Step, Error> {
        let Some(left) = self.limit.checked_sub(self.written.len()).filter(|left| *left > 0) else {
            let complete = self.grammar.as_ref().is_some_and(Grammar::finished);
            return Ok(if complete { Step::Last(Vec::new()) } else { Step::Cut });
        };
        let vocab = self.vocab;
        let circling = repeats(&self.written);
        let Some(grammar) = &mut self.grammar else {
            if circling {
                return Ok(Step::Cut);
            }
            let token = self.sampler.pick(scores, None, among(&self.banned));
            return Ok(match token {
                Some(token) if vocab.ends().contains(&token) => Step::Last(Vec::new()),
                Some(token) => {
                    self.written.push(token);
                    Step::Go(vec![token])
                }
                None => Step::Cut,
            });
        };
        if grammar.finished() {
            return Ok(Step::Last(Vec::new()));
        }

        let late = self.written.len() * 4 >= self.limit * 3;
        let closing = match self.string_from {
            Some(from) => circling || (late && self.written.len() - from >= LATE_STRING),
            None => circling || late,
        };
        let mask = grammar.mask()?;
        let closer = if closing { grammar.closer(&mask) } else { None };
        // Half a line of code does not parse: the string ends with its last whole line, if it has one.
        if closer.is_some()
            && let Some(mark) = self.items.line_end()
            && let Some(step) = self.back(mark, b'"')
        {
            return Ok(step);
        }
        let Some(grammar) = &mut self.grammar else { return Ok(Step::Cut) };
        let amid_code = self.items.is_amid_code();
        let ends_amid = |token: TokenId| amid_code && vocab.bytes(token).first() == Some(&b'"');
        let token = closer
            .or_else(|| {
                let banned = among(&self.banned);
                let best = self.sampler.pick(scores, Some(&mask), |token| banned(token) || ends_amid(token));
                best.or_else(|| self.sampler.pick(scores, Some(&mask), banned))
            })
            .ok_or_else(|| Error::Schema("no token can follow".to_owned()))?;
        if vocab.ends().contains(&token) {
            return Ok(Step::Last(Vec::new()));
        }

        let narrow = self.way.as_ref().is_none_or(|way| left <= way.len() * 2 + MARGIN);
        let watch = narrow || (self.string_from.is_none() && self.written.len() * 2 >= self.limit);
        let before = if watch { grammar.way_out(vocab, left) } else { None };
        grammar.take(token, vocab)?;
        let mut tokens = vec![token];
        tokens.extend(grammar.forced(vocab));
        if watch {
            let room = left.saturating_sub(tokens.len());
            let after = grammar.way_out(vocab, room).filter(|_| tokens.len() <= left);
            match (after, before) {
                (Some(after), _) => self.way = Some(after),
                // The token would lead too far: end the document instead of it.
                (None, Some(before)) => {
                    self.written.extend_from_slice(&before);
                    return Ok(Step::Last(before));
                }
                (None, None) => {}
            }
        }
        tokens.truncate(left);
        let again = self.keep(&tokens);
        Ok(again.and_then(|mark| self.back(mark, b']')).unwrap_or(Step::Go(tokens)))
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

    /// What is written with a schema when the model wants these texts in turn, the last one for ever.
    fn written(schema: &Value, limit: usize, wanted: &[&str]) -> String {
        let file = Gguf::model("qwen2", SMALL, Kind::Q8, 1).bytes();
        let vocab = Vocab::read(&Content::read(&mut Cursor::new(file)).unwrap()).unwrap();
        let grammar = Grammars::new(&vocab).unwrap().of(schema).unwrap();
        let mut writer = Writer::new(&vocab, Some(grammar), Sampler::new(0.0, 1.0, 0), limit);
        let (last, first) = wanted.split_last().unwrap();
        let mut wishes = first.iter().flat_map(|text| text.bytes()).chain(last.bytes().cycle());
        writer.opening();
        loop {
            let wish = vocab.token(&[wishes.next().unwrap()]).unwrap();
            let mut scores = vec![0.0; vocab.len()];
            // Where a quote may not stand, the model escapes it.
            scores[vocab.token(b"\\").unwrap() as usize] = 0.5;
            scores[wish as usize] = 1.0;
            match writer.step(&scores).unwrap() {
                Step::Go(_) | Step::Back(..) => {}
                Step::Last(_) | Step::Cut => break,
            }
        }
        String::from_utf8(writer.written().iter().flat_map(|token| vocab.bytes(*token)).copied().collect()).unwrap()
    }

    fn content() -> Value {
        json!({ "type": "object", "properties": { "content": { "type": "string" } }, "required": ["content"],
            "additionalProperties": false })
    }

    #[test]
    fn a_string_in_circles_ends_with_a_whole_line() {
        let text = written(&content(), 500, &[r"x = 1\n", r"y(1, 1);\n", "z(("]);
        assert_eq!(text, r#"{"content":"x = 1\ny(1, 1);\n"}"#);
    }

    #[test]
    fn a_string_near_the_limit_ends_with_a_whole_line() {
        let text = written(&content(), 60, &[r"one\ntwo\n", "abcdefghijklmnopqrstuvwxyz0123456789"]);
        assert_eq!(text, r#"{"content":"one\ntwo\n"}"#);
    }

    #[test]
    fn code_does_not_end_in_the_middle_of_a_quoted_text() {
        // The model forgets to escape both quotes.
        let text = written(&content(), 500, &[r#"print(""#, r#""a""#, r#"")\n""#, "}"]);
        assert_eq!(text, r#"{"content":"print(\"a\")\n"}"#);
    }

    #[test]
    fn a_string_of_one_line_ends_where_it_stands() {
        let text = written(&content(), 500, &["go ", "on "]);
        assert!(text.starts_with(r#"{"content":"go on on"#) && text.ends_with(r#""}"#), "{text}");
    }
}
