//! Maps what users of other tools write to how orch spells it.
//!
//! The tables are data: keys of YAML files in [`keys`], values of another shape in [`values`], and words of expressions
//! and templates in [`syntax`]. A check that finds an unknown word asks this module before it lists the known words.

mod keys;
mod syntax;
mod values;

pub use syntax::{Slip, call, constant, filter, in_expression, in_template, of_step, property, variable};
pub use values::{YamlShape, known_values, value};

/// A part of a file with a fixed set of keys, identified by the name of its type in the schema.
type Place = &'static str;

/// Keys of other tools with the same meaning, the places where they occur, and how orch spells them.
struct KeyRow {
    places: &'static [Place],
    /// The keys, separated by spaces; case, `-` and `_` make no difference.
    words: &'static str,
    say: Say,
}

/// How orch spells a key.
enum Say {
    /// Another key with the same kind of value.
    Called(&'static str),
    /// A sentence that has what to write in backticks.
    Advice(&'static str),
}

/// Advice about a key that a place does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Equivalent {
    /// One sentence for the user.
    pub help: String,
    /// The key to write instead, if the rename is all that is necessary.
    pub rename: Option<&'static str>,
}

/// Returns advice for the unknown key `word` at a place, such as `Step`, if another tool has such a key.
pub fn key(place: &str, word: &str) -> Option<Equivalent> {
    let wanted = squashed(word);
    let row = keys::KEYS
        .iter()
        .find(|row| row.places.contains(&place) && row.words.split(' ').any(|known| squashed(known) == wanted))?;
    Some(match row.say {
        Say::Called(key) => Equivalent { help: format!("write `{key}` in place of `{word}`"), rename: Some(key) },
        Say::Advice(text) => Equivalent { help: text.to_owned(), rename: None },
    })
}

/// All keys of other tools with advice, as `(place, word)`.
pub fn known_keys() -> impl Iterator<Item = (&'static str, &'static str)> {
    let rows = keys::KEYS.iter();
    rows.flat_map(|row| row.places.iter().flat_map(|place| row.words.split(' ').map(move |word| (*place, word))))
}

/// Names of types in programming languages, with their names in JSON Schema.
const TYPES: &[(&str, &str)] = &[
    ("string str text varchar char", "string"),
    ("integer int int32 int64 i32 i64 long uint", "integer"),
    ("number float double decimal f32 f64", "number"),
    ("boolean bool flag", "boolean"),
    ("array list sequence tuple set vec", "array"),
    ("object dict dictionary map mapping struct json record hash", "object"),
    ("null none nil void", "null"),
];

/// The JSON Schema name of a type, given its name in some programming language.
pub fn json_type(word: &str) -> Option<&'static str> {
    let wanted = squashed(word);
    TYPES.iter().find_map(|(words, name)| words.split(' ').any(|known| known == wanted).then_some(*name))
}

/// A word without the differences between tools: in lower case and without separators.
fn squashed(word: &str) -> String {
    word.chars().filter(|c| !matches!(c, '-' | '_' | ' ')).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_word_has_one_meaning_at_a_place() {
        let mut seen = HashSet::new();
        for (place, word) in known_keys() {
            assert!(seen.insert((place, squashed(word))), "{place}: {word}");
        }
    }

    #[test]
    fn advice_is_one_line_and_names_what_to_write() {
        for row in keys::KEYS {
            if let Say::Advice(text) = row.say {
                assert!(!text.contains('\n') && text.contains('`') && !text.ends_with('.'), "{text}");
            }
        }
    }

    #[test]
    fn separators_and_case_make_no_difference() {
        let advice = |word| key("Step", word).and_then(|found| found.rename);
        for word in ["working-directory", "working_directory", "workingDirectory"] {
            assert_eq!(advice(word), Some("cwd"));
        }
        assert_eq!(key("Step", "agent"), None);
        assert_eq!(key("Nowhere", "if"), None);
    }
}
