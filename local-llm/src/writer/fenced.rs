//! Lets the model write the text of a file between fences, as it has learned to write code, instead of inside a JSON
//! string.
//!
//! A small model that must escape every quote and line end of a program forgets some, and the program does not parse.
//! So where the text of a file begins, the model reads ```` ```python ```` and writes lines as they are; each complete
//! line goes into the document as JSON. After the closing fence, the model continues with the document. Only for these
//! texts does what the model reads differ from what the document holds.

use toktrie::TokenId;

use super::{LATE_STRING, ReplyWriter, WriterStep, among};
use crate::Error;
use crate::grammar::Grammar;
use crate::items::ReplyPosition;
use crate::sampler::repeats;

const FENCE: &[u8] = b"```";

/// A text that is being written between fences.
#[derive(Debug)]
pub(super) struct Fenced {
    /// Where its opening quote is in the document.
    quote: ReplyPosition,
    /// Where the text begins in what the model read.
    from: usize,
    /// Up to where, in what the model read, complete lines are in the document.
    whole: ReplyPosition,
    /// The next line, as far as it is written.
    line: Vec<u8>,
    /// Whether the schema lets the text end after its last complete line.
    may_end: bool,
}

/// Where a text between fences is in the document, and where the model's reading continues after it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stretch {
    from: usize,
    to: usize,
    read: usize,
}

/// The content of a JSON string that holds a text, without the quotes.
fn escaped(text: &str) -> Vec<u8> {
    let quoted = serde_json::Value::from(text).to_string();
    quoted.get(1..quoted.len() - 1).unwrap_or_default().into()
}

impl ReplyWriter<'_> {
    /// The index in what the model read of a token of the document. `None` inside a text between fences.
    pub(super) fn place_read(&self, token: usize) -> Option<usize> {
        match self.stretches.iter().rfind(|stretch| stretch.from < token) {
            Some(stretch) => Some(token.checked_sub(stretch.to)? + stretch.read),
            None => Some(token),
        }
    }

    /// Starts a text between fences if the text of a file has just begun.
    pub(super) fn open_file(&mut self) -> Option<WriterStep> {
        if self.as_json {
            return None;
        }
        let file = self.items.open_file()?;
        let (mut grammar, kept) = self.up_to(file.quote, b"\"")?;
        let to = self.place_read(file.quote.tokens)?;
        let begun = self.begun(file.quote)?.to_vec();
        // If the schema leaves no choice after the quote, there is no text to put between fences.
        if kept.iter().map(|token| self.vocab.bytes(*token).len()).sum::<usize>() > begun.len() + 1 {
            return None;
        }
        let opening = self.vocab.split(&[&begun, &b"\n"[..], FENCE, file.language.as_bytes(), b"\n"].concat())?;
        let room = self.limit.checked_sub(to + opening.len() + super::MARGIN)?;
        let way = grammar.way_out(self.vocab, room / 2)?;
        let may_end = grammar.string_may_end();
        self.replace_document(file.quote.tokens, &kept, grammar);
        let step = self.replace_read(to, &opening);
        let from = self.read.len();
        let whole = ReplyPosition { tokens: from, bytes: 0 };
        self.way = Some(way);
        self.file = Some(Fenced { quote: file.quote, from, whole, line: Vec::new(), may_end });
        Some(step)
    }

    /// Chooses what follows in a text between fences.
    pub(super) fn file_step(&mut self, file: Fenced, scores: &[f32], left: usize) -> Result<WriterStep, Error> {
        let vocab = self.vocab;
        let own = self.read.get(file.from..).unwrap_or_default();
        let late = self.read.len() * 4 >= self.limit * 3 && own.len() >= LATE_STRING;
        if late || self.is_narrow(left) || repeats(own) {
            return self.close_file(file);
        }
        let begins_fence = |token: TokenId| {
            let bytes = vocab.bytes(token);
            let line = file.line.iter().chain(bytes).take(FENCE.len());
            (vocab.ends().contains(&token) && file.line.is_empty()) || (!bytes.is_empty() && line.eq(FENCE))
        };
        let token = {
            let banned = among(&self.banned);
            self.sampler.pick(scores, None, |token| banned(token) || (!file.may_end && begins_fence(token)))
        };
        match token {
            None => self.close_file(file),
            Some(token) if vocab.ends().contains(&token) => {
                let file = self.end_line(file);
                self.close_file(file)
            }
            Some(token) => {
                self.read.push(token);
                self.file_token(file, token)
            }
        }
    }

    fn file_token(&mut self, mut file: Fenced, token: TokenId) -> Result<WriterStep, Error> {
        let bytes = self.vocab.bytes(token);
        for (place, byte) in bytes.iter().enumerate() {
            file.line.push(*byte);
            // A token may hold both the fence and the end of its line.
            if *byte == b'\n' && !file.line.starts_with(FENCE) {
                let end = match bytes.len() - place {
                    1 => ReplyPosition { tokens: self.read.len(), bytes: 0 },
                    _ => ReplyPosition { tokens: self.read.len() - 1, bytes: place + 1 },
                };
                if !self.take_line(&mut file, end) {
                    return self.close_file(file);
                }
            }
        }
        if file.line.starts_with(FENCE) {
            return self.close_file(file);
        }
        self.file = Some(file);
        Ok(WriterStep::Go(vec![token]))
    }

    /// Adds the last line, which has no line end, to the document.
    fn end_line(&mut self, mut file: Fenced) -> Fenced {
        let end = ReplyPosition { tokens: self.read.len(), bytes: 0 };
        if !file.line.is_empty() {
            self.take_line(&mut file, end);
        }
        file
    }

    /// Adds a line to the document; returns whether the schema allows it.
    fn take_line(&mut self, file: &mut Fenced, end: ReplyPosition) -> bool {
        let text = escaped(&String::from_utf8_lossy(&file.line));
        let Some(tokens) = self.vocab.split(&text) else { return false };
        let Some(grammar) = &mut self.grammar else { return false };
        if !grammar.takes(&tokens, self.vocab) {
            return false;
        }
        file.may_end = grammar.string_may_end();
        file.whole = end;
        file.line.clear();
        self.add_to_document(&tokens);
        true
    }

    /// Ends a text after its last complete line, or where it is if the schema requires more, and continues with the
    /// document. If the schema does not allow that text to end, it and all later ones are written as JSON strings.
    fn close_file(&mut self, mut file: Fenced) -> Result<WriterStep, Error> {
        if !file.may_end {
            file = self.end_line(file);
        }
        let Some(grammar) = &mut self.grammar else { return Ok(WriterStep::Cut) };
        let quote = self.vocab.token(b"\"").filter(|_| grammar.string_may_end());
        let Some(quote) = quote.filter(|quote| grammar.takes(&[*quote], self.vocab)) else {
            return Ok(self.as_string(&file).unwrap_or(WriterStep::Cut));
        };
        let forced = grammar.forced(self.vocab);
        let from = file.quote.tokens;
        self.add_to_document(&[quote]);
        let to = self.written.len();
        let begun = self.read.get(file.whole.tokens).map_or(&[][..], |token| self.vocab.bytes(*token));
        let begun = begun.get(..file.whole.bytes).unwrap_or_default();
        // A line without an end gets one before the fence.
        let open = self.last_read_byte(file.whole) != Some(b'\n');
        let fence = [begun, if open { b"\n" } else { b"" }, FENCE, b"\n"].concat();
        let fence = self.vocab.split(&fence).ok_or_else(|| Error::Schema("a fence can't be written".to_owned()))?;
        let read = file.whole.tokens + fence.len();
        self.stretches.push(Stretch { from, to, read });
        self.add_to_document(&forced);
        let step = self.replace_read(file.whole.tokens, &[fence, forced].concat());
        let room = self.limit.saturating_sub(self.read.len());
        self.way = self.grammar.as_ref().and_then(|grammar| grammar.way_out(self.vocab, room));
        Ok(step)
    }

    /// The byte before a position in what the model read.
    fn last_read_byte(&self, place: ReplyPosition) -> Option<u8> {
        let bytes = |token: usize| self.read.get(token).map_or(&[][..], |token| self.vocab.bytes(*token));
        match place.bytes {
            0 => bytes(place.tokens.checked_sub(1)?).last().copied(),
            some => bytes(place.tokens).get(some - 1).copied(),
        }
    }

    /// Goes back to where a text began, to write it as a JSON string.
    fn as_string(&mut self, file: &Fenced) -> Option<WriterStep> {
        self.as_json = true;
        let (grammar, kept) = self.up_to(file.quote, b"\"")?;
        let to = self.place_read(file.quote.tokens)?;
        let room = self.limit.checked_sub(to + kept.len())?;
        let way = grammar.way_out(self.vocab, room)?;
        self.replace_document(file.quote.tokens, &kept, grammar);
        self.way = Some(way);
        Some(self.replace_read(to, &kept))
    }

    /// The bytes that the token at a position of the document has before that position.
    pub(super) fn begun(&self, mark: ReplyPosition) -> Option<&[u8]> {
        self.written.get(mark.tokens).map_or(&[][..], |token| self.vocab.bytes(*token)).get(..mark.bytes)
    }

    /// The document up to a position, followed by the bytes `more`: its grammar, and its tokens from that position's
    /// token on.
    pub(super) fn up_to(&self, mark: ReplyPosition, more: &[u8]) -> Option<(Grammar, Vec<TokenId>)> {
        let (kept, dropped) = self.written.split_at_checked(mark.tokens)?;
        let bytes = [self.begun(mark)?, more].concat();
        self.grammar.as_ref()?.back(kept, dropped.len(), &bytes, self.vocab)
    }

    /// Keeps the first `kept` tokens of the document and replaces the rest by `tokens`.
    pub(super) fn replace_document(&mut self, kept: usize, tokens: &[TokenId], grammar: Grammar) {
        self.written.truncate(kept);
        self.stretches.retain(|stretch| stretch.to <= kept);
        self.items = Default::default();
        for token in &self.written {
            let _ = self.items.read(self.vocab.bytes(*token));
        }
        self.grammar = Some(grammar);
        self.string_from = None;
        self.add_to_document(tokens);
    }

    /// Replaces what follows the first `kept` tokens for the model, which may not have read all of those.
    pub(super) fn replace_read(&mut self, kept: usize, tokens: &[TokenId]) -> WriterStep {
        let to = kept.min(self.known);
        self.taken_back += self.known - to;
        self.read.truncate(kept);
        self.read.extend_from_slice(tokens);
        WriterStep::Back(to, self.read.get(to..).unwrap_or_default().to_vec())
    }
}
