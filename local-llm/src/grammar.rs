//! What the grammar of a schema allows next, and how to end a reply in the fewest tokens.

use llguidance::api::TopLevelGrammar;
use llguidance::{Matcher, ParserFactory};
use serde_json::Value;
use toktrie::{SimpleVob, TokenId};

use crate::vocab::Vocab;
use crate::{Error, schema};

/// Builds grammars from schemas; costly to set up, so each model has one.
pub(crate) struct Grammars {
    factory: ParserFactory,
    closers: ClosingTokens,
}

/// Tokens that bring a document closer to its end.
#[derive(Debug, Clone)]
struct ClosingTokens {
    end: TokenId,
    quote: Option<TokenId>,
    outside: Vec<TokenId>,
}

/// Whether the text ends inside a JSON string, and whether it ends in a backslash that escapes what follows.
#[derive(Debug, Clone, Copy, Default)]
struct JsonPlace {
    in_string: bool,
    escaped: bool,
}

impl JsonPlace {
    fn read(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if self.escaped {
                self.escaped = false;
            } else if *byte == b'"' {
                self.in_string = !self.in_string;
            } else if *byte == b'\\' && self.in_string {
                self.escaped = true;
            }
        }
    }
}

/// How far a reply has followed a schema.
#[derive(Clone)]
pub(crate) struct Grammar {
    matcher: Matcher,
    closers: ClosingTokens,
    place: JsonPlace,
}

fn fail(error: impl std::fmt::Display) -> Error {
    Error::Schema(error.to_string())
}

impl Grammars {
    /// Prepares the vocabulary for grammars.
    pub(crate) fn new(vocab: &Vocab) -> Result<Self, Error> {
        let mut factory = ParserFactory::new_simple(vocab.env()).map_err(fail)?;
        factory.quiet();
        let limits = factory.limits_mut();
        limits.verbose_errors = false;
        limits.step_max_items = 500_000;
        limits.step_lexer_fuel = 2_000_000;
        let closers = ClosingTokens {
            end: vocab.env().tok_trie().eos_token(),
            quote: vocab.token(b"\""),
            outside: [&b"}"[..], b"]", b"\"", b",", b":", b"0", b"null", b"{", b"["]
                .into_iter()
                .filter_map(|bytes| vocab.token(bytes))
                .collect(),
        };
        Ok(Self { factory, closers })
    }

    /// The grammar of a schema, loosened as far as necessary.
    pub(crate) fn of(&self, schema: &Value) -> Result<Grammar, Error> {
        let mut first = None;
        for form in schema::forms(schema) {
            let grammar = TopLevelGrammar::from_json_schema(form);
            let mut matcher = Matcher::new(self.factory.create_parser(grammar));
            let usable =
                matcher.get_error().map_or_else(|| matcher.compute_mask().map_err(|error| error.to_string()), Err);
            match usable {
                Ok(_) => {
                    let closers = self.closers.clone();
                    return Ok(Grammar { matcher, closers, place: JsonPlace::default() });
                }
                Err(error) => first = first.or(Some(error)),
            }
        }
        Err(fail(first.unwrap_or_default()))
    }
}

impl Grammar {
    /// Whether the document is complete and nothing can follow.
    pub(crate) fn finished(&self) -> bool {
        self.matcher.is_stopped()
    }

    /// Whether the text ends inside a string.
    pub(crate) fn in_string(&self) -> bool {
        self.place.in_string
    }

    /// Tokens allowed next.
    pub(crate) fn mask(&mut self) -> Result<SimpleVob, Error> {
        self.matcher.compute_mask_or_eos().map_err(fail)
    }

    /// Adds a token to the document.
    pub(crate) fn take(&mut self, token: TokenId, vocab: &Vocab) -> Result<(), Error> {
        self.matcher.consume_token(token).map_err(fail)?;
        self.place.read(vocab.bytes(token));
        Ok(())
    }

    /// Adds tokens if the schema allows them; returns whether it does.
    pub(crate) fn takes(&mut self, tokens: &[TokenId], vocab: &Vocab) -> bool {
        if self.matcher.validate_tokens(tokens).is_ok_and(|valid| valid == tokens.len())
            && self.matcher.consume_tokens(tokens).is_ok()
        {
            tokens.iter().for_each(|token| self.place.read(vocab.bytes(*token)));
            return true;
        }
        false
    }

    /// Whether the open string may end here.
    pub(crate) fn string_may_end(&mut self) -> bool {
        let quote = self.closers.quote;
        quote.is_some_and(|quote| self.matcher.validate_tokens(&[quote]).is_ok_and(|valid| valid == 1))
    }

    /// Adds the tokens that are the only ones possible, and returns them.
    pub(crate) fn forced(&mut self, vocab: &Vocab) -> Vec<TokenId> {
        if self.finished() {
            return Vec::new();
        }
        let tokens = self.matcher.consume_ff_tokens();
        tokens.iter().for_each(|token| self.place.read(vocab.bytes(*token)));
        tokens
    }

    /// The same document without its last `dropped` tokens, followed by `bytes`; returns its grammar and the tokens for
    /// `bytes`. `None` when the schema does not allow the bytes there.
    pub(crate) fn back(
        &self,
        kept: &[TokenId],
        dropped: usize,
        bytes: &[u8],
        vocab: &Vocab,
    ) -> Option<(Self, Vec<TokenId>)> {
        let mut back = self.clone();
        // A plain clone would share the state of the parser.
        back.matcher = self.matcher.deep_clone();
        back.matcher.rollback(dropped).ok()?;
        back.place = JsonPlace::default();
        kept.iter().for_each(|token| back.place.read(vocab.bytes(*token)));
        let mut tokens = Vec::new();
        for byte in bytes {
            let token = vocab.token(&[*byte])?;
            if !back.mask().ok()?.is_allowed(token) {
                return None;
            }
            back.take(token, vocab).ok()?;
            tokens.push(token);
        }
        tokens.extend(back.forced(vocab));
        Some((back, tokens))
    }

    /// A token that ends the string or the innermost list or object, if allowed.
    pub(crate) fn closer(&self, mask: &SimpleVob) -> Option<TokenId> {
        let allowed = |token: &TokenId| mask.is_allowed(*token);
        if self.place.in_string {
            return self.closers.quote.filter(allowed);
        }
        if mask.is_allowed(self.closers.end) {
            return Some(self.closers.end);
        }
        self.closers.outside.iter().copied().take(2).find(allowed)
    }

    /// A short way to the end of the document that does not ask the model; `None` when it takes more than `limit`
    /// tokens.
    pub(crate) fn way_out(&self, vocab: &Vocab, limit: usize) -> Option<Vec<TokenId>> {
        let mut ahead = self.clone();
        // A plain clone would share the state of the parser.
        ahead.matcher = self.matcher.deep_clone();
        let mut way = Vec::new();
        while !ahead.finished() {
            if way.len() >= limit {
                return None;
            }
            let mask = ahead.mask().ok()?;
            let token = ahead
                .closer(&mask)
                .or_else(|| ahead.plainest(&mask))
                .or_else(|| mask.first_bit_set().and_then(|bit| TokenId::try_from(bit).ok()))?;
            ahead.take(token, vocab).ok()?;
            if token == ahead.closers.end {
                break;
            }
            way.push(token);
            way.extend(ahead.forced(vocab));
        }
        (way.len() <= limit).then_some(way)
    }

    fn plainest(&self, mask: &SimpleVob) -> Option<TokenId> {
        if self.place.in_string {
            return None;
        }
        self.closers.outside.iter().copied().find(|token| mask.is_allowed(*token))
    }
}
