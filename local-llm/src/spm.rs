//! Tokenizes with a SentencePiece vocabulary (`llama` in GGUF files). It starts with one symbol for each character, and
//! repeatedly merges the two adjacent symbols that form the piece with the highest score.

use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, HashMap};

use toktrie::TokenId;

/// The character that represents a space in the pieces of a SentencePiece vocabulary.
pub(crate) const SPACE_MARK: char = '\u{2581}';

/// A SentencePiece vocabulary.
pub(crate) struct PieceVocab {
    /// The token and score of each piece.
    pieces: HashMap<String, (TokenId, f32)>,
    /// The token of each byte, for text without a piece.
    byte_tokens: Vec<Option<TokenId>>,
    unknown: Option<TokenId>,
    /// The special tokens with their texts, longest text first.
    special_tokens: Vec<(String, TokenId)>,
    /// Whether the tokenizer inserts a space at the beginning of a text and after a special token.
    leading_space: bool,
}

/// A symbol of the text. Its length is zero after the tokenizer has merged it into its left neighbour.
struct Symbol {
    start: usize,
    length: usize,
    previous: Option<usize>,
    next: Option<usize>,
}

/// Two adjacent symbols that form a piece, so that the tokenizer can merge them.
struct Bigram {
    score: f32,
    left: usize,
    right: usize,
    length: usize,
}

impl Bigram {
    /// Orders bigrams by score. If the scores are equal, the bigram further to the left is the greater one.
    fn compare(&self, other: &Self) -> Ordering {
        self.score.total_cmp(&other.score).then_with(|| Reverse(self.left).cmp(&Reverse(other.left)))
    }
}

impl PartialEq for Bigram {
    fn eq(&self, other: &Self) -> bool {
        self.compare(other) == Ordering::Equal
    }
}

impl Eq for Bigram {}

impl PartialOrd for Bigram {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Bigram {
    fn cmp(&self, other: &Self) -> Ordering {
        self.compare(other)
    }
}

impl PieceVocab {
    pub(crate) fn new(
        pieces: HashMap<String, (TokenId, f32)>,
        byte_tokens: Vec<Option<TokenId>>,
        unknown: Option<TokenId>,
        mut special_tokens: Vec<(String, TokenId)>,
        leading_space: bool,
    ) -> Self {
        special_tokens.retain(|(text, _)| !text.is_empty());
        special_tokens.sort_by_key(|(text, _)| Reverse(text.len()));
        Self { pieces, byte_tokens, unknown, special_tokens, leading_space }
    }

    /// Encodes a prompt: recognizes special tokens, and inserts leading spaces.
    pub(crate) fn encode(&self, text: &str) -> Vec<TokenId> {
        let mut segments = if text.is_empty() { Vec::new() } else { vec![(text, None)] };
        for (special_text, token) in &self.special_tokens {
            if !text.contains(special_text.as_str()) {
                continue;
            }
            segments = segments.into_iter().flat_map(|segment| split_at_token(segment, special_text, *token)).collect();
        }
        let (mut tokens, mut after_special) = (Vec::new(), true);
        for (segment, token) in segments {
            match token {
                Some(token) => tokens.push(token),
                None if after_special && self.leading_space => self.encode_segment(&format!(" {segment}"), &mut tokens),
                None => self.encode_segment(segment, &mut tokens),
            }
            after_special = token.is_some();
        }
        tokens
    }

    /// Encodes ordinary text: recognizes no special tokens, and inserts no space.
    pub(crate) fn encode_ordinary(&self, text: &str) -> Vec<TokenId> {
        let mut tokens = Vec::new();
        self.encode_segment(text, &mut tokens);
        tokens
    }

    fn encode_segment(&self, text: &str, tokens: &mut Vec<TokenId>) {
        let text = text.replace(' ', SPACE_MARK.encode_utf8(&mut [0; 4]));
        let mut symbols: Vec<Symbol> = Vec::with_capacity(text.len());
        for (start, c) in text.char_indices() {
            let (index, length) = (symbols.len(), c.len_utf8());
            let next = (start + length < text.len()).then_some(index + 1);
            symbols.push(Symbol { start, length, previous: index.checked_sub(1), next });
        }
        let mut queue = BinaryHeap::new();
        for right in 1..symbols.len() {
            self.push_bigram(&text, &symbols, Some(right - 1), Some(right), &mut queue);
        }
        while let Some(bigram) = queue.pop() {
            let (Some(left), Some(right)) = (symbols.get(bigram.left), symbols.get(bigram.right)) else { continue };
            // The bigram is outdated if an earlier iteration merged one of the two symbols with another symbol.
            if left.length == 0 || right.length == 0 || left.length + right.length != bigram.length {
                continue;
            }
            let (previous, next) = (left.previous, right.next);
            if let Some(right) = symbols.get_mut(bigram.right) {
                right.length = 0;
            }
            if let Some(left) = symbols.get_mut(bigram.left) {
                left.length = bigram.length;
                left.next = next;
            }
            if let Some(next_symbol) = next.and_then(|next| symbols.get_mut(next)) {
                next_symbol.previous = Some(bigram.left);
            }
            self.push_bigram(&text, &symbols, previous, Some(bigram.left), &mut queue);
            self.push_bigram(&text, &symbols, Some(bigram.left), next, &mut queue);
        }
        for symbol in symbols.iter().filter(|symbol| symbol.length > 0) {
            self.push_piece_tokens(text.get(symbol.start..symbol.start + symbol.length).unwrap_or_default(), tokens);
        }
    }

    /// Adds two adjacent symbols to the queue as a bigram if they form a piece.
    fn push_bigram(
        &self,
        text: &str,
        symbols: &[Symbol],
        left: Option<usize>,
        right: Option<usize>,
        queue: &mut BinaryHeap<Bigram>,
    ) {
        let (Some(left), Some(right)) = (left, right) else { return };
        let (Some(first), Some(second)) = (symbols.get(left), symbols.get(right)) else { return };
        let length = first.length + second.length;
        let piece = text.get(first.start..first.start + length).and_then(|text| self.pieces.get(text));
        if let Some((_, score)) = piece {
            queue.push(Bigram { score: *score, left, right, length });
        }
    }

    fn push_piece_tokens(&self, piece: &str, tokens: &mut Vec<TokenId>) {
        if let Some((token, _)) = self.pieces.get(piece) {
            tokens.push(*token);
            return;
        }
        let byte_token = |byte: u8| self.byte_tokens.get(usize::from(byte)).copied().flatten().or(self.unknown);
        tokens.extend(piece.bytes().filter_map(byte_token));
    }
}

/// Splits a segment of text at every occurrence of a special token.
fn split_at_token<'a>(
    (text, token): (&'a str, Option<TokenId>),
    special_text: &str,
    special_token: TokenId,
) -> Vec<(&'a str, Option<TokenId>)> {
    if token.is_some() {
        return vec![(text, token)];
    }
    let mut segments = Vec::new();
    for (index, segment) in text.split(special_text).enumerate() {
        if index > 0 {
            segments.push(("", Some(special_token)));
        }
        if !segment.is_empty() {
            segments.push((segment, None));
        }
    }
    segments
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vocab() -> PieceVocab {
        let list = [("▁", -9.0), ("a", -5.0), ("b", -5.0), ("ab", -2.0), ("▁a", -1.0), ("ba", -3.0)];
        let pieces = (10..).zip(list).map(|(token, (text, score))| (text.to_owned(), (token, score))).collect();
        let bytes = (0..=255).map(|byte| Some(100 + byte)).collect();
        PieceVocab::new(pieces, bytes, None, vec![("</s>".to_owned(), 2)], true)
    }

    #[test]
    fn the_pair_with_the_highest_score_is_merged_first() {
        assert_eq!(vocab().encode_ordinary(" ab"), [14, 12]);
        assert_eq!(vocab().encode_ordinary("bab"), [12, 13]);
        assert_eq!(vocab().encode_ordinary("c"), [100 + u32::from(b'c')]);
    }

    #[test]
    fn special_tokens_split_the_text_and_a_space_follows_them() {
        assert_eq!(vocab().encode("a</s>a"), [14, 2, 14]);
        assert_eq!(vocab().encode("</s></s>"), [2, 2]);
        assert_eq!(vocab().encode(""), Vec::<u32>::new());
    }
}
