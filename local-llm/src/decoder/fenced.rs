//! Lets the model write file contents between code fences instead of inside a JSON string.
//!
//! A file content is the string `content` of an object whose `path` precedes it. A small model often forgets to escape
//! quotes and line ends in JSON, so that the code does not parse. Between fences, it writes code as in a conversation.
//!
//! There are two sequences of tokens. The document is the JSON that the caller receives. The model's tokens are the
//! ones that the model reads and writes; they count towards the limit. The two differ only in file contents. Where the
//! document contains `"content":"x = \"\"\n"`, the model reads:
//!
//! ````text
//! "content":
//! ```python
//! x = ""
//! ```
//! ````
//!
//! - The decoder opens a fence where the document ends with the opening quote of a file content.
//! - It adds each complete line to the document if the schema allows the line.
//! - A content ends with a line of three backticks (see [`super::lines`]), with an end-of-turn token, or if it repeats
//!   or nears the limit. In the last two cases, the decoder removes an incomplete last line, because half a line of
//!   code usually does not parse. It keeps the line if the content has no other line.
//! - If the schema rejects a line or the end of the content, the model writes this content again as a JSON string, and
//!   all later contents as well.

use toktrie::TokenId;

use super::lines::{ContentLines, FENCE};
use super::rewind::FencedRange;
use super::{CLOSING_MARGIN, DecoderStep, MIN_STRING_TOKENS_NEAR_LIMIT, ReplyDecoder, is_banned_in};
use crate::Error;
use crate::incremental_json::ReplyPosition;
use crate::sampler::ends_in_repetition;

/// A file content that the model is writing between fences.
#[derive(Debug)]
pub(super) struct FencedContent {
    /// The number of document tokens before the ones that the opening fence replaces in the model's tokens.
    document_start: usize,
    /// The text of the replaced tokens: the opening quote, and everything before it in the same token, such as `":`.
    opening_json: Vec<u8>,
    /// The number of the model's tokens before the content.
    model_start: usize,
    /// The end of the last complete line in the model's tokens.
    last_line_end: ReplyPosition,
    lines: ContentLines,
    /// Whether the schema allows the content to end after its last complete line.
    may_end: bool,
}

/// Escapes a text for a JSON string, and returns it without quotes. The grammar allows the character U+007F only as an
/// escape, although JSON also allows the character itself.
fn escape_json(text: &str) -> Vec<u8> {
    let json = serde_json::Value::from(text).to_string();
    json.get(1..json.len() - 1).unwrap_or_default().replace('\u{7f}', "\\u007f").into_bytes()
}

impl ReplyDecoder<'_> {
    /// Opens a fence if the document ends with the opening quote of a file content. The content remains a JSON string
    /// if the schema forces its first characters, or if too few tokens remain.
    pub(super) fn open_fence(&mut self) -> Option<DecoderStep> {
        if self.writes_contents_as_strings || self.fenced_content.is_some() {
            return None;
        }
        let content = self.json.open_content()?;
        // A fence that does not fit at the beginning of a content does not fit later either, and each attempt copies
        // the grammar.
        if self.last_fence_attempt.replace(content.quote) == Some(content.quote) {
            return None;
        }
        let (mut grammar, tokens) = self.rewind_grammar(content.quote, b"\"")?;
        let document_start = content.quote.tokens;
        let prefix_len = self.model_index(document_start)?;
        let token_prefix = self.token_prefix(content.quote)?.to_vec();
        if tokens.iter().map(|token| self.vocab.token_bytes(*token).len()).sum::<usize>() > token_prefix.len() + 1 {
            return None;
        }
        let fence_line = [&token_prefix, &b"\n"[..], FENCE, content.language.as_bytes(), b"\n"].concat();
        let fence_tokens = self.vocab.tokenize_greedily(&fence_line)?;
        // A content ends when it nears the limit (`is_near_limit`). It should have at least `MIN_STRING_TOKENS_NEAR_LIMIT` tokens
        // before that, so half of the tokens after these and the margin must suffice for the end of the document.
        let reserve = MIN_STRING_TOKENS_NEAR_LIMIT + CLOSING_MARGIN;
        let remaining = self.limit.checked_sub(prefix_len + fence_tokens.len() + reserve)?;
        let closing_tokens = grammar.closing_sequence(self.vocab, remaining / 2)?;
        let may_end = grammar.can_end_string();
        self.replace_document(document_start, &tokens, grammar);
        let step = self.replace_model_tokens(prefix_len, &fence_tokens);
        let model_start = self.model_tokens.len();
        let last_line_end = ReplyPosition { tokens: model_start, bytes: 0 };
        self.closing_tokens = Some(closing_tokens);
        self.fenced_content = Some(FencedContent {
            document_start,
            opening_json: [&token_prefix, &b"\""[..]].concat(),
            model_start,
            last_line_end,
            lines: ContentLines::default(),
            may_end,
        });
        Some(step)
    }

    /// Chooses the next token of a content between fences.
    pub(super) fn step_fenced(
        &mut self,
        mut content: FencedContent,
        logits: &[f32],
        remaining: usize,
    ) -> Result<DecoderStep, Error> {
        let vocab = self.vocab;
        let written = self.model_tokens.get(content.model_start..).unwrap_or_default();
        let is_late = self.model_tokens.len() * 4 >= self.limit * 3 && written.len() >= MIN_STRING_TOKENS_NEAR_LIMIT;
        if is_late || self.is_near_limit(remaining) || ends_in_repetition(written) {
            return self.close_content(content);
        }
        let may_follow = |token: TokenId| match vocab.end_tokens().contains(&token) {
            true => content.may_end || !content.lines.is_at_line_start(),
            false => content.lines.may_continue(vocab.token_bytes(token), content.may_end),
        };
        let token = {
            let is_banned = is_banned_in(&self.banned);
            self.sampler.sample(logits, None, |token| is_banned(token) || !may_follow(token))
        };
        match token {
            None => self.close_content(content),
            Some(token) if vocab.end_tokens().contains(&token) => {
                if !self.finish_line(&mut content) {
                    return Ok(self.rewrite_as_string(&content));
                }
                self.close_content(content)
            }
            Some(token) => {
                self.model_tokens.push(token);
                self.push_token(content, token)
            }
        }
    }

    fn push_token(&mut self, mut content: FencedContent, token: TokenId) -> Result<DecoderStep, Error> {
        let bytes = self.vocab.token_bytes(token);
        for (index, byte) in bytes.iter().enumerate() {
            if content.lines.ends_before(*byte) {
                return self.close_content(content);
            }
            content.lines.push(*byte);
            if *byte == b'\n' {
                let end = match bytes.len() - index {
                    1 => ReplyPosition { tokens: self.model_tokens.len(), bytes: 0 },
                    _ => ReplyPosition { tokens: self.model_tokens.len() - 1, bytes: index + 1 },
                };
                if !self.push_line(&mut content, end) {
                    return Ok(self.rewrite_as_string(&content));
                }
            }
        }
        self.fenced_content = Some(content);
        Ok(DecoderStep::Continue(vec![token]))
    }

    /// Adds the incomplete last line to the document and returns true if the schema allows the line; otherwise returns
    /// false. A closing fence and an incomplete character are not part of the content.
    fn finish_line(&mut self, content: &mut FencedContent) -> bool {
        let end = self.position_before(content.lines.incomplete_char_len());
        content.lines.is_at_line_start() || content.lines.is_at_fence() || self.push_line(content, end)
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

    /// Adds the last line to the document and returns true if the schema allows the line; otherwise returns false.
    /// `end` is the end of the line in the model's tokens.
    fn push_line(&mut self, content: &mut FencedContent, end: ReplyPosition) -> bool {
        let line = escape_json(&content.lines.last_line());
        let Some(tokens) = self.vocab.tokenize_greedily(&line) else { return false };
        let Some(grammar) = &mut self.grammar else { return false };
        if !grammar.try_consume(&tokens, self.vocab) {
            return false;
        }
        content.may_end = grammar.can_end_string();
        content.last_line_end = end;
        content.lines.end_line();
        self.add_to_document(&tokens);
        true
    }

    /// Ends a content after its last complete line, and continues with the document. If the content has no complete
    /// line, or the schema requires more, it includes the incomplete line.
    fn close_content(&mut self, mut content: FencedContent) -> Result<DecoderStep, Error> {
        let needs_last_line = !content.may_end || !content.lines.has_line();
        if needs_last_line && !self.finish_line(&mut content) {
            return Ok(self.rewrite_as_string(&content));
        }
        let Some(grammar) = &mut self.grammar else { return Ok(DecoderStep::Truncated) };
        let quote = self.vocab.token_for_bytes(b"\"").filter(|_| grammar.can_end_string());
        let Some(quote) = quote.filter(|quote| grammar.try_consume(&[*quote], self.vocab)) else {
            return Ok(self.rewrite_as_string(&content));
        };
        let forced_tokens = grammar.consume_forced(self.vocab);
        self.add_to_document(&[quote]);
        let document_end = self.document_tokens.len();
        let (prefix_len, fence) = self.closing_fence(content.last_line_end)?;
        let model_end = prefix_len + fence.len();
        let FencedContent { document_start, opening_json, .. } = content;
        self.fenced_ranges.push(FencedRange { document_start, opening_json, document_end, model_end });
        let repetition = self.add_to_document(&forced_tokens);
        let step = self.replace_model_tokens(prefix_len, &[fence, forced_tokens].concat());
        let remaining = self.limit.saturating_sub(self.model_tokens.len());
        self.closing_tokens = self.grammar.as_ref().and_then(|grammar| grammar.closing_sequence(self.vocab, remaining));
        Ok(repetition.and_then(|position| self.rewind(position, b"]")).unwrap_or(step))
    }

    /// Returns the number of the model's tokens before the closing fence, and the tokens of the fence. The content ends
    /// at `end`; the fence is on a separate line. If the model has written the fence itself, its tokens remain.
    fn closing_fence(&self, end: ReplyPosition) -> Result<(usize, Vec<TokenId>), Error> {
        let vocab = self.vocab;
        let bytes =
            |tokens: &[TokenId]| -> Vec<u8> { tokens.iter().flat_map(|t| vocab.token_bytes(*t)).copied().collect() };
        let (prefix, removed) = self.model_tokens.split_at_checked(end.tokens).unwrap_or((&self.model_tokens, &[]));
        let removed = bytes(removed);
        let (token_prefix, rest) = removed.split_at_checked(end.bytes).unwrap_or_default();
        if rest.strip_prefix(FENCE) == Some(b"\n") {
            return Ok((self.model_tokens.len(), Vec::new()));
        }
        let last_token = prefix.last().map_or(&[][..], |token| vocab.token_bytes(*token));
        let has_line_end = if token_prefix.is_empty() { last_token } else { token_prefix }.ends_with(b"\n");
        let fence = [token_prefix, if has_line_end { b"" } else { b"\n" }, FENCE, b"\n"].concat();
        let fence = vocab.tokenize_greedily(&fence);
        let fence =
            fence.ok_or_else(|| Error::UnsupportedSchema("the vocabulary cannot represent a fence".to_owned()))?;
        Ok((end.tokens, fence))
    }

    /// Removes a content that the schema rejects, so that the model writes it as a JSON string, which the grammar
    /// constrains. All later contents become strings too.
    fn rewrite_as_string(&mut self, content: &FencedContent) -> DecoderStep {
        self.writes_contents_as_strings = true;
        let start = ReplyPosition { tokens: content.document_start, bytes: 0 };
        self.rewind(start, &content.opening_json).unwrap_or(DecoderStep::Truncated)
    }

    /// If the `language` after a complete content shows that the content is prose, removes the content and everything
    /// after it, so that the model writes it as a JSON string: the content may have ended at a fence that was part of
    /// it.
    pub(super) fn rewrite_prose_content(&mut self) -> Option<DecoderStep> {
        let token = self.json.take_prose_content_token()?;
        let contains_token = |range: &&FencedRange| (range.document_start..range.document_end).contains(&token);
        let FencedRange { document_start, opening_json, .. } = self.fenced_ranges.iter().find(contains_token)?.clone();
        let step = self.rewind(ReplyPosition { tokens: document_start, bytes: 0 }, &opening_json)?;
        self.last_fence_attempt = self.json.open_content().map(|content| content.quote);
        Some(step)
    }
}
