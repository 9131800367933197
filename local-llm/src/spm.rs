//! Tokenizes with a SentencePiece vocabulary (`llama` in GGUF files): merges pairs of pieces, the highest score first.

use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, HashMap};

use toktrie::TokenId;

/// The character that represents a space in the pieces of a SentencePiece vocabulary.
pub(crate) const SPACE_MARK: char = '\u{2581}';

/// A SentencePiece vocabulary.
pub(crate) struct PieceVocab {
    /// The token and score of each piece.
    pieces: HashMap<String, (TokenId, f32)>,
    /// The token of each byte, for text that no piece covers.
    bytes: Vec<Option<TokenId>>,
    unknown: Option<TokenId>,
    /// The special tokens with their texts, the longest first.
    special_tokens: Vec<(String, TokenId)>,
    /// Whether the tokenizer inserts a space at the beginning of a text and after a special token.
    leading_space: bool,
}

/// A part of the text during merging; if its length is zero, it was merged into its left neighbour.
struct TextPart {
    start: usize,
    length: usize,
    previous: Option<usize>,
    next: Option<usize>,
}

/// Two adjacent parts that could be merged into one piece.
struct MergePair {
    score: f32,
    left: usize,
    right: usize,
    length: usize,
}

impl MergePair {
    /// Orders pairs by score; of pairs with equal scores, the leftmost one is the greatest.
    fn compare(&self, other: &Self) -> Ordering {
        self.score.total_cmp(&other.score).then_with(|| Reverse(self.left).cmp(&Reverse(other.left)))
    }
}

impl PartialEq for MergePair {
    fn eq(&self, other: &Self) -> bool {
        self.compare(other) == Ordering::Equal
    }
}

impl Eq for MergePair {}

impl PartialOrd for MergePair {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for MergePair {
    fn cmp(&self, other: &Self) -> Ordering {
        self.compare(other)
    }
}

impl PieceVocab {
    pub(crate) fn new(
        pieces: HashMap<String, (TokenId, f32)>,
        bytes: Vec<Option<TokenId>>,
        unknown: Option<TokenId>,
        mut special_tokens: Vec<(String, TokenId)>,
        leading_space: bool,
    ) -> Self {
        special_tokens.retain(|(text, _)| !text.is_empty());
        special_tokens.sort_by_key(|(text, _)| Reverse(text.len()));
        Self { pieces, bytes, unknown, special_tokens, leading_space }
    }

    /// Encodes a prompt, and recognizes special tokens.
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

    /// Encodes a part of a text: inserts no space and recognizes no special tokens.
    pub(crate) fn encode_part(&self, text: &str) -> Vec<TokenId> {
        let mut tokens = Vec::new();
        self.encode_segment(text, &mut tokens);
        tokens
    }

    fn encode_segment(&self, text: &str, tokens: &mut Vec<TokenId>) {
        let text = text.replace(' ', SPACE_MARK.encode_utf8(&mut [0; 4]));
        let mut parts: Vec<TextPart> = Vec::with_capacity(text.len());
        for (start, c) in text.char_indices() {
            let (index, length) = (parts.len(), c.len_utf8());
            let next = (start + length < text.len()).then_some(index + 1);
            parts.push(TextPart { start, length, previous: index.checked_sub(1), next });
        }
        let mut queue = BinaryHeap::new();
        for right in 1..parts.len() {
            self.queue_pair(&text, &parts, Some(right - 1), Some(right), &mut queue);
        }
        while let Some(pair) = queue.pop() {
            let (Some(left), Some(right)) = (parts.get(pair.left), parts.get(pair.right)) else { continue };
            // One of the two parts was merged with another part in the meantime.
            if left.length == 0 || right.length == 0 || left.length + right.length != pair.length {
                continue;
            }
            let (previous, next) = (left.previous, right.next);
            if let Some(right) = parts.get_mut(pair.right) {
                right.length = 0;
            }
            if let Some(left) = parts.get_mut(pair.left) {
                left.length = pair.length;
                left.next = next;
            }
            if let Some(next_part) = next.and_then(|next| parts.get_mut(next)) {
                next_part.previous = Some(pair.left);
            }
            self.queue_pair(&text, &parts, previous, Some(pair.left), &mut queue);
            self.queue_pair(&text, &parts, Some(pair.left), next, &mut queue);
        }
        for part in parts.iter().filter(|part| part.length > 0) {
            self.push_piece(text.get(part.start..part.start + part.length).unwrap_or_default(), tokens);
        }
    }

    /// Adds two adjacent parts to the queue if they form a piece.
    fn queue_pair(
        &self,
        text: &str,
        parts: &[TextPart],
        left: Option<usize>,
        right: Option<usize>,
        queue: &mut BinaryHeap<MergePair>,
    ) {
        let (Some(left), Some(right)) = (left, right) else { return };
        let (Some(first), Some(second)) = (parts.get(left), parts.get(right)) else { return };
        let length = first.length + second.length;
        let piece = text.get(first.start..first.start + length).and_then(|text| self.pieces.get(text));
        if let Some((_, score)) = piece {
            queue.push(MergePair { score: *score, left, right, length });
        }
    }

    fn push_piece(&self, piece: &str, tokens: &mut Vec<TokenId>) {
        if let Some((token, _)) = self.pieces.get(piece) {
            tokens.push(*token);
            return;
        }
        let byte = |byte: u8| self.bytes.get(usize::from(byte)).copied().flatten().or(self.unknown);
        tokens.extend(piece.bytes().filter_map(byte));
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
        assert_eq!(vocab().encode_part(" ab"), [14, 12]);
        assert_eq!(vocab().encode_part("bab"), [12, 13]);
        assert_eq!(vocab().encode_part("c"), [100 + u32::from(b'c')]);
    }

    #[test]
    fn special_tokens_split_the_text_and_a_space_follows_them() {
        assert_eq!(vocab().encode("a</s>a"), [14, 2, 14]);
        assert_eq!(vocab().encode("</s></s>"), [2, 2]);
        assert_eq!(vocab().encode(""), Vec::<u32>::new());
    }
}
