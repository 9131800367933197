//! Words of other tools in place of one of orch's own words, for values that are one of a few words.

use super::{MappingType, normalize};

/// A type of such values, words of other tools separated by spaces, the word of orch with the same meaning, and the
/// advice. Case, `-` and `_` make no difference in the words of other tools.
type WordRow = (MappingType, &'static str, Option<&'static str>, &'static str);

#[rustfmt::skip]
const WORDS: &[WordRow] = &[
    ("FirstToolChoice", "any always force forced", Some("required"), "write `required`: the first reply of a conversation must then call a tool"),
    ("FirstToolChoice", "none never", None, "a model without tools calls none: remove `tool_choice`, and the `tools` and `pipelines` of the agent"),
    ("FirstToolChoice", "function tool read list search edit write shell fetch", None, "orch can't require a certain tool: write `required`, and say in the prompt which tool the model must call first"),
];

/// Returns advice for a word in place of one of the words of a type, and the word that orch has for it, if there is one.
pub fn word_help(value_type: &str, word: &str) -> Option<(&'static str, Option<&'static str>)> {
    let normalized = normalize(word);
    let (_, _, own_word, advice) = WORDS.iter().find(|(row_type, words, _, _)| {
        *row_type == value_type && words.split(' ').any(|known| normalize(known) == normalized)
    })?;
    Some((*advice, *own_word))
}

/// Returns all words with advice, each with its type and the word that orch has for it.
pub fn known_words() -> impl Iterator<Item = (&'static str, &'static str, Option<&'static str>)> {
    WORDS
        .iter()
        .flat_map(|(value_type, words, own_word, _)| words.split(' ').map(move |word| (*value_type, word, *own_word)))
}
