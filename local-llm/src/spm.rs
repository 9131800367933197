//! Tokenizes with a SentencePiece vocabulary (`llama` in GGUF files): merges pairs of pieces, the best score first.

use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, HashMap};

use toktrie::TokenId;

/// The character that stands for a space in the texts of such a vocabulary.
pub(crate) const SPACE: char = '\u{2581}';

/// A vocabulary of scored pieces.
pub(crate) struct PieceVocab {
    /// Token and score of each piece.
    pieces: HashMap<String, (TokenId, f32)>,
    /// The token of each byte, for text that no piece covers.
    bytes: Vec<Option<TokenId>>,
    unknown: Option<TokenId>,
    /// Special tokens by their texts, the longest first.
    signs: Vec<(String, TokenId)>,
    /// Whether a space is inserted before text at the beginning and after a special token.
    leading_space: bool,
}

/// A part of the text while parts are merged; a length of zero means that it was merged into its left neighbour.
struct TextPart {
    start: usize,
    length: usize,
    before: Option<usize>,
    after: Option<usize>,
}

/// Two neighbours that could be merged into one piece.
struct MergePair {
    score: f32,
    left: usize,
    right: usize,
    length: usize,
}

impl MergePair {
    /// The best score ranks first; among equal scores, the leftmost pair.
    fn rank(&self, other: &Self) -> Ordering {
        self.score.total_cmp(&other.score).then_with(|| Reverse(self.left).cmp(&Reverse(other.left)))
    }
}

impl PartialEq for MergePair {
    fn eq(&self, other: &Self) -> bool {
        self.rank(other) == Ordering::Equal
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
        self.rank(other)
    }
}

impl PieceVocab {
    pub(crate) fn new(
        pieces: HashMap<String, (TokenId, f32)>,
        bytes: Vec<Option<TokenId>>,
        unknown: Option<TokenId>,
        mut signs: Vec<(String, TokenId)>,
        leading_space: bool,
    ) -> Self {
        signs.retain(|(text, _)| !text.is_empty());
        signs.sort_by_key(|(text, _)| Reverse(text.len()));
        Self { pieces, bytes, unknown, signs, leading_space }
    }

    /// Tokens of a prompt, with special tokens recognized.
    pub(crate) fn encode(&self, text: &str) -> Vec<TokenId> {
        let mut spans = if text.is_empty() { Vec::new() } else { vec![(text, None)] };
        for (sign, token) in &self.signs {
            if !text.contains(sign.as_str()) {
                continue;
            }
            spans = spans.into_iter().flat_map(|span| split(span, sign, *token)).collect();
        }
        let (mut tokens, mut after_sign) = (Vec::new(), true);
        for (span, token) in spans {
            match token {
                Some(token) => tokens.push(token),
                None if after_sign && self.leading_space => self.join(&format!(" {span}"), &mut tokens),
                None => self.join(span, &mut tokens),
            }
            after_sign = token.is_some();
        }
        tokens
    }

    /// Tokens of a text inside another one: inserts no space and recognizes no special tokens.
    pub(crate) fn inside(&self, text: &str) -> Vec<TokenId> {
        let mut tokens = Vec::new();
        self.join(text, &mut tokens);
        tokens
    }

    fn join(&self, text: &str, tokens: &mut Vec<TokenId>) {
        let text = text.replace(' ', SPACE.encode_utf8(&mut [0; 4]));
        let mut parts: Vec<TextPart> = Vec::with_capacity(text.len());
        for (start, letter) in text.char_indices() {
            let (index, length) = (parts.len(), letter.len_utf8());
            let after = (start + length < text.len()).then_some(index + 1);
            parts.push(TextPart { start, length, before: index.checked_sub(1), after });
        }
        let mut queue = BinaryHeap::new();
        for right in 1..parts.len() {
            self.offer(&text, &parts, Some(right - 1), Some(right), &mut queue);
        }
        while let Some(pair) = queue.pop() {
            let (Some(left), Some(right)) = (parts.get(pair.left), parts.get(pair.right)) else { continue };
            // One of them was merged with another part meanwhile.
            if left.length == 0 || right.length == 0 || left.length + right.length != pair.length {
                continue;
            }
            let (before, after) = (left.before, right.after);
            if let Some(right) = parts.get_mut(pair.right) {
                right.length = 0;
            }
            if let Some(left) = parts.get_mut(pair.left) {
                left.length = pair.length;
                left.after = after;
            }
            if let Some(next) = after.and_then(|after| parts.get_mut(after)) {
                next.before = Some(pair.left);
            }
            self.offer(&text, &parts, before, Some(pair.left), &mut queue);
            self.offer(&text, &parts, Some(pair.left), after, &mut queue);
        }
        for part in parts.iter().filter(|part| part.length > 0) {
            self.push(text.get(part.start..part.start + part.length).unwrap_or_default(), tokens);
        }
    }

    /// Puts two neighbours into the queue if together they are a piece.
    fn offer(
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

    fn push(&self, piece: &str, tokens: &mut Vec<TokenId>) {
        if let Some((token, _)) = self.pieces.get(piece) {
            tokens.push(*token);
            return;
        }
        let byte = |byte: u8| self.bytes.get(usize::from(byte)).copied().flatten().or(self.unknown);
        tokens.extend(piece.bytes().filter_map(byte));
    }
}

/// Splits a span of text at every place where a special token occurs.
fn split<'a>((text, token): (&'a str, Option<TokenId>), sign: &str, its: TokenId) -> Vec<(&'a str, Option<TokenId>)> {
    if token.is_some() {
        return vec![(text, token)];
    }
    let mut spans = Vec::new();
    for (number, between) in text.split(sign).enumerate() {
        if number > 0 {
            spans.push(("", Some(its)));
        }
        if !between.is_empty() {
            spans.push((between, None));
        }
    }
    spans
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces() -> PieceVocab {
        let list = [("▁", -9.0), ("a", -5.0), ("b", -5.0), ("ab", -2.0), ("▁a", -1.0), ("ba", -3.0)];
        let pieces = (10..).zip(list).map(|(token, (text, score))| (text.to_owned(), (token, score))).collect();
        let bytes = (0..=255).map(|byte| Some(100 + byte)).collect();
        PieceVocab::new(pieces, bytes, None, vec![("</s>".to_owned(), 2)], true)
    }

    #[test]
    fn the_best_pair_is_joined_first() {
        assert_eq!(pieces().inside(" ab"), [14, 12]);
        assert_eq!(pieces().inside("bab"), [12, 13]);
        assert_eq!(pieces().inside("c"), [100 + u32::from(b'c')]);
    }

    #[test]
    fn signs_cut_the_text_and_a_space_follows_them() {
        assert_eq!(pieces().encode("a</s>a"), [14, 2, 14]);
        assert_eq!(pieces().encode("</s></s>"), [2, 2]);
        assert_eq!(pieces().encode(""), Vec::<u32>::new());
    }
}
