//! Maps the syntax of other tools to its equivalent in orch.
//!
//! The tables are data: keys of YAML files in [`keys`], values of another shape in [`values`], values that are another
//! word in [`words`], words of expressions and templates in [`syntax`], filters and tags in [`templates`], and words
//! for all tools of an agent in [`tools`]. A check that finds an unknown word calls this module before it lists the
//! known words.

mod keys;
mod syntax;
mod templates;
mod tools;
mod values;
mod words;

pub use syntax::{
    SyntaxMistake, VariableHelp, call_help, constant_equivalent, find_expression_mistake, property_help,
    step_property_help, template_tag_help, variable_help,
};
pub use templates::{filter_advice, filter_equivalent, handlebars_help};
pub use tools::{ALL_TOOLS_HELP, means_all_tools};
pub use values::{YamlShape, known_values, value_help};
pub use words::{known_words, word_help};

/// The schema's name for the type of a mapping with a fixed set of keys, such as `Step`.
type MappingType = &'static str;

/// Keys of other tools with the same meaning, the types of mapping that they occur in, and their equivalent in orch.
struct KeyRow {
    mapping_types: &'static [MappingType],
    /// The keys, separated by spaces; case, `-` and `_` make no difference.
    foreign_keys: &'static str,
    equivalent: KeyEquivalent,
}

/// The equivalent of a key in orch.
enum KeyEquivalent {
    /// Another key with the same type of value.
    Renamed(&'static str),
    /// A sentence with the text to write in backticks.
    Advice(&'static str),
}

/// Advice about a key that a type of mapping does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyHelp {
    /// One sentence for the user.
    pub help: String,
    /// The key to write instead, if renaming the key fixes the mistake.
    pub rename: Option<&'static str>,
}

/// Returns advice for the unknown key `key` in a mapping of a type, such as `Step`, if another tool has such a key.
pub fn key_help(mapping_type: &str, key: &str) -> Option<KeyHelp> {
    let normalized = normalize(key);
    let row = keys::KEYS.iter().find(|row| {
        row.mapping_types.contains(&mapping_type)
            && row.foreign_keys.split(' ').any(|known| normalize(known) == normalized)
    })?;
    Some(match row.equivalent {
        KeyEquivalent::Renamed(orch_key) => {
            KeyHelp { help: format!("write `{orch_key}` in place of `{key}`"), rename: Some(orch_key) }
        }
        KeyEquivalent::Advice(text) => KeyHelp { help: text.to_owned(), rename: None },
    })
}

/// Returns all keys of other tools with advice, as `(mapping type, key)`.
pub fn known_keys() -> impl Iterator<Item = (&'static str, &'static str)> {
    let rows = keys::KEYS.iter();
    rows.flat_map(|row| {
        row.mapping_types
            .iter()
            .flat_map(|mapping_type| row.foreign_keys.split(' ').map(move |key| (*mapping_type, key)))
    })
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

/// Returns the JSON Schema name of a type, given its name in some programming language.
pub fn json_schema_type(name: &str) -> Option<&'static str> {
    let normalized = normalize(name);
    let row = TYPES.iter().find(|(aliases, _)| aliases.split(' ').any(|alias| alias == normalized));
    row.map(|(_, json_name)| *json_name)
}

/// Returns a word in lower case and without separators, because tools differ in these.
fn normalize(word: &str) -> String {
    word.chars().filter(|c| !matches!(c, '-' | '_' | ' ')).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_key_has_one_meaning_in_a_mapping_type() {
        let mut seen = HashSet::new();
        for (mapping_type, key) in known_keys() {
            assert!(seen.insert((mapping_type, normalize(key))), "{mapping_type}: {key}");
        }
    }

    #[test]
    fn advice_is_one_line_with_the_text_to_write_in_backticks() {
        for row in keys::KEYS {
            if let KeyEquivalent::Advice(text) = row.equivalent {
                assert!(!text.contains('\n') && text.contains('`') && !text.ends_with('.'), "{text}");
            }
        }
    }

    #[test]
    fn separators_and_case_make_no_difference() {
        let renamed = |name| key_help("Step", name).and_then(|equivalent| equivalent.rename);
        for name in ["working-directory", "working_directory", "workingDirectory"] {
            assert_eq!(renamed(name), Some("cwd"));
        }
        assert_eq!(key_help("Step", "agent"), None);
        assert_eq!(key_help("Nowhere", "if"), None);
    }
}
