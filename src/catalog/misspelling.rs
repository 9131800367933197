//! Recognizes misspelt names of listed models.
//!
//! Providers publish new models all the time, so an unlisted name is no mistake in itself. A name is misspelt only if
//! it has the same numbers as a listed name and differs from it in the letters of one word, or only in its separators
//! or its case.

use crate::model::ModelRef;

use super::{LISTED_PROVIDERS, catalog_entry, catalog_table, is_version};

/// The listed model whose name a name misspells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IntendedModel {
    /// The name of the listed model.
    pub name: &'static str,
    /// Whether this name can replace the misspelt one: no other listed name is as close, and the misspelt name has no
    /// version or variant that the listed name lacks.
    pub is_certain: bool,
}

/// The listed model whose name a name misspells; `None` if the name is listed, or may be the name of another model.
pub fn misspelt_model(model: &ModelRef) -> Option<IntendedModel> {
    if !LISTED_PROVIDERS.contains(&model.provider.as_str()) || catalog_entry(model).is_some() {
        return None;
    }
    let name = model.model.strip_prefix("models/").unwrap_or(&model.model);
    // A variant of a model at OpenRouter, such as `:free`.
    let name = name.split_once(':').map_or(name, |(name, _)| name);
    let listed: Vec<&'static str> = catalog_table().get(&model.provider)?.keys().map(String::as_str).collect();
    let known_words: Vec<Vec<String>> = listed.iter().map(|name| name_parts(name)).collect();
    let is_known_word = |word: &str| known_words.iter().flatten().any(|known| known == word);
    let mut names = [name, without_version(name)].into_iter();
    names.find_map(|name| {
        let parts = name_parts(name);
        let is_whole = name == model.model;
        let is_other_spelling = |listed: &&&str| name_parts(listed).concat() == parts.concat() && **listed != name;
        if let Some(same_letters) = listed.iter().find(is_other_spelling).copied() {
            return Some(IntendedModel { name: same_letters, is_certain: is_whole });
        }
        let misspelt = |listed: &&&str| is_misspelling(&parts, &name_parts(listed), is_known_word);
        let similar: Vec<&'static str> = listed.iter().filter(misspelt).copied().collect();
        let closest = similar.iter().copied().min_by_key(|listed| (listed.len(), *listed))?;
        Some(IntendedModel { name: closest, is_certain: is_whole && similar.len() == 1 })
    })
}

/// The name without the date, the number, `latest` or `preview` of a version.
fn without_version(name: &str) -> &str {
    let separators = name.match_indices(['-', '@']);
    let mut bases = separators.filter(|(start, _)| name.get(start + 1..).is_some_and(is_version));
    bases.next_back().and_then(|(start, _)| name.get(..start)).unwrap_or(name)
}

/// The words and numbers of a name, in lower case and without separators.
fn name_parts(name: &str) -> Vec<String> {
    let mut parts: Vec<String> = Vec::new();
    let mut previous: Option<char> = None;
    for c in name.chars() {
        if c.is_ascii_alphanumeric() {
            let continues = previous.is_some_and(|previous| {
                previous.is_ascii_alphanumeric() && previous.is_ascii_digit() == c.is_ascii_digit()
            });
            match parts.last_mut().filter(|_| continues) {
                Some(part) => part.push(c.to_ascii_lowercase()),
                None => parts.push(c.to_ascii_lowercase().to_string()),
            }
        }
        previous = Some(c);
    }
    parts
}

/// Whether the parts of a name differ from those of a listed name only in the letters of one word, which no listed name
/// has.
fn is_misspelling(parts: &[String], listed: &[String], is_known_word: impl Fn(&str) -> bool) -> bool {
    if parts.len() != listed.len() {
        return false;
    }
    let mut different = parts.iter().zip(listed).filter(|(part, listed)| part != listed);
    let (Some((word, listed)), None) = (different.next(), different.next()) else { return false };
    let is_word = |part: &str| !part.starts_with(|c: char| c.is_ascii_digit());
    is_word(word) && is_word(listed) && !is_known_word(word) && is_misspelt_word(word, listed)
}

/// Whether one word is a misspelling of another: a few letters differ, or two letters of a short word are swapped.
fn is_misspelt_word(word: &str, listed: &str) -> bool {
    let max_distance = match listed.len() {
        0..=2 => return false,
        3 => return word.len() == 3 && is_swap(word, listed),
        4..=6 => 1,
        _ => 2,
    };
    strsim::osa_distance(word, listed) <= max_distance
}

/// Whether two words have the same letters and one pair of neighbours is swapped.
fn is_swap(word: &str, listed: &str) -> bool {
    let sorted = |text: &str| {
        let mut letters: Vec<char> = text.chars().collect();
        letters.sort_unstable();
        letters
    };
    sorted(word) == sorted(listed) && strsim::osa_distance(word, listed) == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn misspelt(name: &str) -> Option<&'static str> {
        misspelt_model(&ModelRef::parse(name).unwrap()).map(|intended| intended.name)
    }

    #[test]
    fn near_misses_of_listed_names_are_recognized() {
        for (name, expected) in [
            ("anthropic/claude-sonet-4-5", "claude-sonnet-4-5"),
            ("anthropic/calude-opus-4-5", "claude-opus-4-5"),
            ("anthropic/claude-sonnet-4.5", "claude-sonnet-4-5"),
            ("anthropic/claude-hiaku-4-5-20251001", "claude-haiku-4-5"),
            ("openai/gtp-5", "gpt-5"),
            ("openai/gpt5", "gpt-5"),
            ("openai/GPT-5-mini", "gpt-5-mini"),
            ("openai/gpt-5-minni", "gpt-5-mini"),
            ("gemini/gemni-2.5-pro", "gemini-2.5-pro"),
            ("gemini/models/gemini-2.5-flahs", "gemini-2.5-flash"),
            ("openrouter/antropic/claude-opus-4.5", "anthropic/claude-opus-4.5"),
        ] {
            assert_eq!(misspelt(name), Some(expected), "{name}");
        }
    }

    #[test]
    fn a_name_with_a_version_or_variant_has_no_certain_replacement() {
        for (name, is_certain) in [
            ("anthropic/claude-sonet-4-5", true),
            ("openai/GPT-5-mini", true),
            ("anthropic/claude-hiaku-4-5-20251001", false),
            ("openrouter/antropic/claude-opus-4.5:free", false),
        ] {
            let intended = misspelt_model(&ModelRef::parse(name).unwrap()).unwrap();
            assert_eq!(intended.is_certain, is_certain, "{name}");
        }
    }

    #[test]
    fn listed_names_and_names_of_other_models_are_not_misspelt() {
        for name in [
            "anthropic/claude-opus-4-5-20251101",
            "anthropic/claude-opus-4-9",
            "anthropic/claude-sonnet-7",
            "anthropic/claude-sonnet-7-20290101",
            "anthropic/claude-2.1",
            "openai/gpt-5.9",
            "openai/gpt-4o-2099-01-01",
            "openai/gpt-5-image",
            "openai/o5",
            "openai/o5-mini",
            "openai/davinci-002",
            "openai/gpt-3.5-turbo",
            "openai/ft:gpt-4o:org::id",
            "gemini/gemini-9-pro",
            "gemini/gemma-3-27b-it",
            "openrouter/anthropic/claude-opus-4.5:free",
            "openrouter/mistralai/new-model",
            "ollama/lama3",
            "lab/claude-sonet-4-5",
        ] {
            assert_eq!(misspelt(name), None, "{name}");
        }
    }
}
