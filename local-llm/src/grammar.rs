//! Constrains a reply to a schema: computes the tokens that may follow, and a short sequence of tokens that completes
//! the reply.

use llguidance::api::TopLevelGrammar;
use llguidance::{Matcher, ParserFactory};
use serde_json::Value;
use toktrie::{SimpleVob, TokenId};

use crate::schema::JsonSpacing;
use crate::vocab::Vocab;
use crate::{Error, schema};

/// Builds grammars from schemas. A factory is expensive to create, so each model has only one.
pub(crate) struct GrammarFactory {
    factory: ParserFactory,
    closing_tokens: ClosingTokens,
}

/// The tokens that complete a document quickly.
#[derive(Debug, Clone)]
struct ClosingTokens {
    /// The token that ends a reply.
    end: TokenId,
    quote: Option<TokenId>,
    /// The tokens to try outside of strings, in this order. The first two close an object and an array.
    structural_tokens: Vec<TokenId>,
}

/// Whether the end of a JSON text is inside a string, and whether a backslash escapes the next character there.
#[derive(Debug, Clone, Copy, Default)]
struct JsonState {
    in_string: bool,
    is_escaped: bool,
}

impl JsonState {
    fn advance(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if self.is_escaped {
                self.is_escaped = false;
            } else if *byte == b'"' {
                self.in_string = !self.in_string;
            } else if *byte == b'\\' && self.in_string {
                self.is_escaped = true;
            }
        }
    }
}

/// The grammar of a schema, and the parser state of one reply.
#[derive(Clone)]
pub(crate) struct Grammar {
    matcher: Matcher,
    closing_tokens: ClosingTokens,
    json_state: JsonState,
}

fn schema_error(error: impl std::fmt::Display) -> Error {
    Error::UnsupportedSchema(error.to_string())
}

impl GrammarFactory {
    /// Prepares grammars for a vocabulary.
    pub(crate) fn new(vocab: &Vocab) -> Result<Self, Error> {
        let mut factory = ParserFactory::new_simple(vocab.env()).map_err(schema_error)?;
        factory.quiet();
        let limits = factory.limits_mut();
        limits.verbose_errors = false;
        limits.step_max_items = 500_000;
        limits.step_lexer_fuel = 2_000_000;
        let closing_tokens = ClosingTokens {
            end: vocab.env().tok_trie().eos_token(),
            quote: vocab.token_for_bytes(b"\""),
            structural_tokens: [&b"}"[..], b"]", b"\"", b",", b":", b"0", b"null", b"{", b"["]
                .into_iter()
                .filter_map(|bytes| vocab.token_for_bytes(bytes))
                .collect(),
        };
        Ok(Self { factory, closing_tokens })
    }

    /// Builds the grammar of a schema, in the strictest form that the grammar library supports.
    pub(crate) fn build(&self, schema: &Value) -> Result<Grammar, Error> {
        self.build_with_spacing(schema, JsonSpacing::Compact)
    }

    /// Builds the grammar of a schema for JSON with this white space.
    pub(crate) fn build_with_spacing(&self, schema: &Value, spacing: JsonSpacing) -> Result<Grammar, Error> {
        let mut first_error = None;
        for form in schema::loosened_forms(schema, spacing) {
            let grammar = TopLevelGrammar::from_json_schema(form);
            let mut matcher = Matcher::new(self.factory.create_parser(grammar));
            let result =
                matcher.get_error().map_or_else(|| matcher.compute_mask().map_err(|error| error.to_string()), Err);
            match result {
                Ok(_) => {
                    let closing_tokens = self.closing_tokens.clone();
                    return Ok(Grammar { matcher, closing_tokens, json_state: JsonState::default() });
                }
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        Err(schema_error(first_error.unwrap_or_default()))
    }
}

impl Grammar {
    /// Whether the document is complete, so that no token can follow.
    pub(crate) fn is_finished(&self) -> bool {
        self.matcher.is_stopped()
    }

    /// Whether the document may end here.
    pub(crate) fn may_end(&mut self) -> bool {
        self.matcher.is_accepting().unwrap_or(false)
    }

    /// Computes the tokens that the grammar allows next.
    pub(crate) fn compute_mask(&mut self) -> Result<SimpleVob, Error> {
        self.matcher.compute_mask_or_eos().map_err(schema_error)
    }

    /// Adds a token to the document.
    pub(crate) fn consume(&mut self, token: TokenId, vocab: &Vocab) -> Result<(), Error> {
        self.matcher.consume_token(token).map_err(schema_error)?;
        self.json_state.advance(vocab.token_bytes(token));
        Ok(())
    }

    /// Adds all tokens and returns true if the schema allows them; otherwise adds none.
    pub(crate) fn try_consume(&mut self, tokens: &[TokenId], vocab: &Vocab) -> bool {
        if self.matcher.validate_tokens(tokens).is_ok_and(|valid| valid == tokens.len())
            && self.matcher.consume_tokens(tokens).is_ok()
        {
            tokens.iter().for_each(|token| self.json_state.advance(vocab.token_bytes(*token)));
            return true;
        }
        false
    }

    /// Whether the open string may end here.
    pub(crate) fn can_end_string(&mut self) -> bool {
        let quote = self.closing_tokens.quote;
        quote.is_some_and(|quote| self.matcher.validate_tokens(&[quote]).is_ok_and(|valid| valid == 1))
    }

    /// Adds the next tokens while the schema allows only one sequence, and returns them.
    pub(crate) fn consume_forced(&mut self, vocab: &Vocab) -> Vec<TokenId> {
        if self.is_finished() {
            return Vec::new();
        }
        let tokens = self.matcher.consume_ff_tokens();
        tokens.iter().for_each(|token| self.json_state.advance(vocab.token_bytes(*token)));
        tokens
    }

    /// Creates a copy of this grammar in which `bytes` replace the last `removed_token_count` tokens of the document.
    /// `prefix` are the tokens before those. Returns the copy and the tokens for `bytes`, or `None` if the schema does
    /// not allow `bytes` there.
    pub(crate) fn rewind(
        &self,
        prefix: &[TokenId],
        removed_token_count: usize,
        bytes: &[u8],
        vocab: &Vocab,
    ) -> Option<(Self, Vec<TokenId>)> {
        let mut grammar = self.clone();
        // A shallow clone would share the state of the parser.
        grammar.matcher = self.matcher.deep_clone();
        grammar.matcher.rollback(removed_token_count).ok()?;
        grammar.json_state = JsonState::default();
        prefix.iter().for_each(|token| grammar.json_state.advance(vocab.token_bytes(*token)));
        // Where the schema forces the next bytes, the mask allows only the token that the tokenizer would choose.
        let mut tokens = vocab.tokenize_greedily(bytes)?;
        if !grammar.try_consume(&tokens, vocab) {
            return None;
        }
        tokens.extend(grammar.consume_forced(vocab));
        Some((grammar, tokens))
    }

    /// A token that ends the open string, or the innermost array or object, if the grammar allows it.
    pub(crate) fn closing_token(&self, mask: &SimpleVob) -> Option<TokenId> {
        let is_allowed = |token: &TokenId| mask.is_allowed(*token);
        if self.json_state.in_string {
            return self.closing_tokens.quote.filter(is_allowed);
        }
        if mask.is_allowed(self.closing_tokens.end) {
            return Some(self.closing_tokens.end);
        }
        self.closing_tokens.structural_tokens.iter().copied().take(2).find(is_allowed)
    }

    /// A short sequence of tokens that completes the document, chosen without the model; `None` if it has more than
    /// `limit` tokens.
    pub(crate) fn closing_sequence(&self, vocab: &Vocab, limit: usize) -> Option<Vec<TokenId>> {
        let mut grammar = self.clone();
        // A shallow clone would share the state of the parser.
        grammar.matcher = self.matcher.deep_clone();
        let mut tokens = Vec::new();
        while !grammar.is_finished() {
            if tokens.len() >= limit {
                return None;
            }
            let mask = grammar.compute_mask().ok()?;
            let token = grammar
                .closing_token(&mask)
                .or_else(|| grammar.structural_token(&mask))
                .or_else(|| mask.first_bit_set().and_then(|bit| TokenId::try_from(bit).ok()))?;
            grammar.consume(token, vocab).ok()?;
            if token == grammar.closing_tokens.end {
                break;
            }
            tokens.push(token);
            tokens.extend(grammar.consume_forced(vocab));
        }
        (tokens.len() <= limit).then_some(tokens)
    }

    /// The first of the structural tokens that the grammar allows; `None` inside strings.
    fn structural_token(&self, mask: &SimpleVob) -> Option<TokenId> {
        if self.json_state.in_string {
            return None;
        }
        self.closing_tokens.structural_tokens.iter().copied().find(|token| mask.is_allowed(*token))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use candle_core::quantized::gguf_file::Content;
    use serde_json::json;

    use super::*;
    use crate::support::Gguf;

    #[test]
    fn a_rewound_document_may_continue_within_a_forced_token() {
        let file = Gguf::new("qwen2", 1).with_bpe_vocab("qwen2").with_merges(&["a b"]).bytes();
        let vocab = Vocab::from_gguf(&Content::read(&mut Cursor::new(file)).unwrap()).unwrap();
        let mut grammar = GrammarFactory::new(&vocab).unwrap().build(&json!({ "const": "abc" })).unwrap();
        let forced_tokens = grammar.consume_forced(&vocab);
        let bytes_of =
            |tokens: &[TokenId]| -> Vec<u8> { tokens.iter().flat_map(|t| vocab.token_bytes(*t)).copied().collect() };
        let (rewound, tokens) = grammar.rewind(&[], forced_tokens.len(), b"\"a", &vocab).unwrap();
        assert_eq!(bytes_of(&tokens), b"\"abc\"");
        assert_ne!(tokens, forced_tokens);
        assert!(rewound.is_finished());
        assert!(grammar.rewind(&[], forced_tokens.len(), b"\"b", &vocab).is_none());
    }
}
