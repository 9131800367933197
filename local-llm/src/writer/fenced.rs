//! Lets the model write a text between code fences instead of inside a JSON string.
//!
//! A text is the content of a file: the string `content` of an object whose `path` precedes it. A small model often
//! forgets to escape quotes and line ends in JSON, so that the code does not parse. Between fences it writes the code as
//! in a conversation.
//!
//! There are two sequences of tokens. The document is the JSON that the caller receives. The model's tokens are what the
//! model reads and writes; they count towards the limit. They differ in the texts alone. Where the document contains
//! `"content":"x = \"\"\n"`, the model reads:
//!
//! ````text
//! "content":
//! ```python
//! x = ""
//! ```
//! ````
//!
//! - A fence opens where the document ends with the opening quote of a text.
//! - The writer adds each line to the document once it is complete, if the schema allows it.
//! - A text ends with a line of three backquotes (see [`super::lines`]), with an end token, or if it repeats itself or
//!   nears the limit. In the last two cases, its incomplete last line is removed, because half a line of code mostly does
//!   not parse, unless nothing else would remain.
//! - If the schema rejects a line, or the end of the text, the model writes the text again as a JSON string, and all
//!   later texts as well.

use toktrie::TokenId;

use super::lines::{FENCE, TextLines};
use super::rewind::FencedRange;
use super::{CLOSING_MARGIN, LATE_STRING_TOKENS, ReplyWriter, WriterStep, is_banned_in};
use crate::Error;
use crate::incremental_json::ReplyPosition;
use crate::sampler::ends_in_repetition;

/// A text that the model is writing between fences.
#[derive(Debug)]
pub(super) struct FencedText {
    /// The number of tokens of the document before those that the fence replaced in the model's tokens.
    document_start: usize,
    /// The text of these tokens: its opening quote, and what precedes it in the same token, such as `":`.
    opening_json: Vec<u8>,
    /// The number of the model's tokens before it.
    model_start: usize,
    /// The end of its last complete line in the model's tokens.
    last_line_end: ReplyPosition,
    lines: TextLines,
    /// Whether the schema allows the text to end after its last complete line.
    may_end: bool,
}

/// Escapes a text for a JSON string; returns it without quotes. The grammar allows the character U+007F only as an
/// escape, although JSON also allows the character itself.
fn escape_json(text: &str) -> Vec<u8> {
    let json = serde_json::Value::from(text).to_string();
    json.get(1..json.len() - 1).unwrap_or_default().replace('\u{7f}', "\\u007f").into_bytes()
}

impl ReplyWriter<'_> {
    /// Starts a text between fences if the document ends where a text begins. The text remains a JSON string if the schema
    /// forces its first characters, or if too few tokens remain.
    pub(super) fn open_fence(&mut self) -> Option<WriterStep> {
        if self.writes_texts_as_strings || self.fenced_text.is_some() {
            return None;
        }
        let text = self.json.open_text()?;
        // A fence that does not fit at the beginning of a text does not fit later either, and each attempt copies the
        // grammar.
        if self.tried_quote.replace(text.quote) == Some(text.quote) {
            return None;
        }
        let (mut grammar, tokens) = self.rewind_grammar(text.quote, b"\"")?;
        let document_start = text.quote.tokens;
        let kept_len = self.model_index(document_start)?;
        let prefix = self.token_prefix(text.quote)?.to_vec();
        if tokens.iter().map(|token| self.vocab.token_bytes(*token).len()).sum::<usize>() > prefix.len() + 1 {
            return None;
        }
        let opening =
            self.vocab.tokenize_greedily(&[&prefix, &b"\n"[..], FENCE, text.language.as_bytes(), b"\n"].concat())?;
        // A text ends when it is near the limit, see `is_near_limit`. Before that, it should have some tokens: so half of
        // what remains after these and the margin must suffice for the end of the document.
        let reserve = LATE_STRING_TOKENS + CLOSING_MARGIN;
        let remaining = self.limit.checked_sub(kept_len + opening.len() + reserve)?;
        let closing_tokens = grammar.closing_sequence(self.vocab, remaining / 2)?;
        let may_end = grammar.can_end_string();
        self.replace_document(document_start, &tokens, grammar);
        let step = self.replace_model_tokens(kept_len, &opening);
        let model_start = self.model_tokens.len();
        let last_line_end = ReplyPosition { tokens: model_start, bytes: 0 };
        self.closing_tokens = Some(closing_tokens);
        self.fenced_text = Some(FencedText {
            document_start,
            opening_json: [&prefix, &b"\""[..]].concat(),
            model_start,
            last_line_end,
            lines: TextLines::default(),
            may_end,
        });
        Some(step)
    }

    /// Chooses the next token of a text between fences.
    pub(super) fn step_fenced(
        &mut self,
        mut text: FencedText,
        logits: &[f32],
        remaining: usize,
    ) -> Result<WriterStep, Error> {
        let vocab = self.vocab;
        let written = self.model_tokens.get(text.model_start..).unwrap_or_default();
        let is_late = self.model_tokens.len() * 4 >= self.limit * 3 && written.len() >= LATE_STRING_TOKENS;
        if is_late || self.is_near_limit(remaining) || ends_in_repetition(written) {
            return self.close_text(text);
        }
        let may_follow = |token: TokenId| match vocab.end_tokens().contains(&token) {
            true => text.may_end || !text.lines.is_at_line_start(),
            false => text.lines.may_continue(vocab.token_bytes(token), text.may_end),
        };
        let token = {
            let is_banned = is_banned_in(&self.banned);
            self.sampler.sample(logits, None, |token| is_banned(token) || !may_follow(token))
        };
        match token {
            None => self.close_text(text),
            Some(token) if vocab.end_tokens().contains(&token) => {
                if !self.finish_line(&mut text) {
                    return Ok(self.rewrite_as_string(&text));
                }
                self.close_text(text)
            }
            Some(token) => {
                self.model_tokens.push(token);
                self.push_token(text, token)
            }
        }
    }

    fn push_token(&mut self, mut text: FencedText, token: TokenId) -> Result<WriterStep, Error> {
        let bytes = self.vocab.token_bytes(token);
        for (index, byte) in bytes.iter().enumerate() {
            if text.lines.ends_before(*byte) {
                return self.close_text(text);
            }
            text.lines.push(*byte);
            if *byte == b'\n' {
                let end = match bytes.len() - index {
                    1 => ReplyPosition { tokens: self.model_tokens.len(), bytes: 0 },
                    _ => ReplyPosition { tokens: self.model_tokens.len() - 1, bytes: index + 1 },
                };
                if !self.push_line(&mut text, end) {
                    return Ok(self.rewrite_as_string(&text));
                }
            }
        }
        self.fenced_text = Some(text);
        Ok(WriterStep::Continue(vec![token]))
    }

    /// Adds the last, incomplete line to the document and returns true if the schema allows it; otherwise returns false.
    /// The closing fence and half a character are not part of the text.
    fn finish_line(&mut self, text: &mut FencedText) -> bool {
        let end = self.position_before(text.lines.incomplete_char_len());
        text.lines.is_at_line_start() || text.lines.is_at_fence() || self.push_line(text, end)
    }

    /// The position before the last bytes of the model's tokens.
    fn position_before(&self, mut byte_count: usize) -> ReplyPosition {
        let mut tokens = self.model_tokens.len();
        while byte_count > 0 && tokens > 0 {
            tokens -= 1;
            let token_len = self.model_tokens.get(tokens).map_or(0, |token| self.vocab.token_bytes(*token).len());
            if let Some(bytes) = token_len.checked_sub(byte_count) {
                return ReplyPosition { tokens, bytes };
            }
            byte_count -= token_len;
        }
        ReplyPosition { tokens, bytes: 0 }
    }

    /// Adds the line to the document and returns true if the schema allows it; otherwise returns false.
    fn push_line(&mut self, text: &mut FencedText, end: ReplyPosition) -> bool {
        let line = escape_json(&text.lines.last_line());
        let Some(tokens) = self.vocab.tokenize_greedily(&line) else { return false };
        let Some(grammar) = &mut self.grammar else { return false };
        if !grammar.try_consume(&tokens, self.vocab) {
            return false;
        }
        text.may_end = grammar.can_end_string();
        text.last_line_end = end;
        text.lines.end_line();
        self.add_to_document(&tokens);
        true
    }

    /// Ends a text after its last complete line, and continues with the document. If there is no complete line, or the
    /// schema requires more, the text includes its incomplete line.
    fn close_text(&mut self, mut text: FencedText) -> Result<WriterStep, Error> {
        let needs_last_line = !text.may_end || !text.lines.has_line();
        if needs_last_line && !self.finish_line(&mut text) {
            return Ok(self.rewrite_as_string(&text));
        }
        let Some(grammar) = &mut self.grammar else { return Ok(WriterStep::Truncated) };
        let quote = self.vocab.token_for_bytes(b"\"").filter(|_| grammar.can_end_string());
        let Some(quote) = quote.filter(|quote| grammar.try_consume(&[*quote], self.vocab)) else {
            return Ok(self.rewrite_as_string(&text));
        };
        let forced_tokens = grammar.consume_forced(self.vocab);
        self.add_to_document(&[quote]);
        let document_end = self.document_tokens.len();
        let (kept_len, fence) = self.closing_fence(text.last_line_end)?;
        let model_end = kept_len + fence.len();
        let FencedText { document_start, opening_json, .. } = text;
        self.fenced_ranges.push(FencedRange { document_start, opening_json, document_end, model_end });
        let repetition = self.add_to_document(&forced_tokens);
        let step = self.replace_model_tokens(kept_len, &[fence, forced_tokens].concat());
        let remaining = self.limit.saturating_sub(self.model_tokens.len());
        self.closing_tokens = self.grammar.as_ref().and_then(|grammar| grammar.closing_sequence(self.vocab, remaining));
        Ok(repetition.and_then(|position| self.rewind(position, b"]")).unwrap_or(step))
    }

    /// Where the closing fence of a text begins in the model's tokens, and its tokens. The text ends at `end`; the fence
    /// is on a line of its own. If the model wrote the fence, its tokens remain.
    fn closing_fence(&self, end: ReplyPosition) -> Result<(usize, Vec<TokenId>), Error> {
        let vocab = self.vocab;
        let bytes =
            |tokens: &[TokenId]| -> Vec<u8> { tokens.iter().flat_map(|t| vocab.token_bytes(*t)).copied().collect() };
        let (kept, removed) = self.model_tokens.split_at_checked(end.tokens).unwrap_or((&self.model_tokens, &[]));
        let removed = bytes(removed);
        let (text, rest) = removed.split_at_checked(end.bytes).unwrap_or_default();
        if rest.strip_prefix(FENCE) == Some(b"\n") {
            return Ok((self.model_tokens.len(), Vec::new()));
        }
        let last_token = kept.last().map_or(&[][..], |token| vocab.token_bytes(*token));
        let line_end = if text.is_empty() { last_token } else { text }.ends_with(b"\n");
        let fence = [text, if line_end { b"" } else { b"\n" }, FENCE, b"\n"].concat();
        let fence = vocab.tokenize_greedily(&fence);
        let fence =
            fence.ok_or_else(|| Error::UnsupportedSchema("the vocabulary cannot represent a fence".to_owned()))?;
        Ok((end.tokens, fence))
    }

    /// Removes a text that the schema rejects, so that the model writes it as a JSON string, which the grammar guides.
    /// All later texts become strings too.
    fn rewrite_as_string(&mut self, text: &FencedText) -> WriterStep {
        self.writes_texts_as_strings = true;
        let start = ReplyPosition { tokens: text.document_start, bytes: 0 };
        self.rewind(start, &text.opening_json).unwrap_or(WriterStep::Truncated)
    }

    /// Removes everything from a complete text on, so that the model writes it as a JSON string, if its language follows
    /// it and is one whose texts may contain fences: the text may have ended at its own fence.
    pub(super) fn rewrite_late_prose(&mut self) -> Option<WriterStep> {
        let token = self.json.take_late_prose()?;
        let is_around = |range: &&FencedRange| (range.document_start..range.document_end).contains(&token);
        let FencedRange { document_start, opening_json, .. } = self.fenced_ranges.iter().find(is_around)?.clone();
        let step = self.rewind(ReplyPosition { tokens: document_start, bytes: 0 }, &opening_json)?;
        self.tried_quote = self.json.open_text().map(|text| text.quote);
        Some(step)
    }
}
