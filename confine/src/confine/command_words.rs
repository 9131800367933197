//! Finds the words of a setting that may be paths. The setting may be a command, which git passes to a shell, or the
//! path of a program.
//!
//! The reader is lenient: it knows quotes and the characters between words, and returns too many words rather than too
//! few. A command can contain another command in quotes.

use std::collections::BTreeSet;

/// The characters between the words of a command, in addition to white space.
const SEPARATORS: &[char] = &[';', '&', '|', '<', '>', '(', ')', '`'];
/// The characters within a word before a path, as in `NAME=PATH` and `!PATH`.
const PREFIXES: &[char] = &['=', '!'];
/// The maximum number of commands within one another.
const MAX_DEPTH: usize = 4;

/// The words with a `/` of the value of a setting.
pub(super) fn words_with_slash(value: &str) -> BTreeSet<String> {
    let mut words = BTreeSet::new();
    add_words(&mut words, value, 0);
    words.retain(|word| word.contains('/'));
    words
}

fn add_words(words: &mut BTreeSet<String>, command: &str, depth: usize) {
    // git starts some programs without a shell, so spaces belong to the path.
    words.insert(command.trim().to_owned());
    if depth == MAX_DEPTH {
        return;
    }
    for word in split(command) {
        words.extend(word.split(PREFIXES).map(str::to_owned));
        let is_command = word != command && word.contains(|c: char| is_between(c) || is_quote(c));
        if is_command {
            add_words(words, &word, depth + 1);
        }
        words.insert(word);
    }
}

fn is_between(character: char) -> bool {
    character.is_whitespace() || SEPARATORS.contains(&character)
}

fn is_quote(character: char) -> bool {
    matches!(character, '"' | '\'')
}

/// Splits a command into words as a shell does, and removes their quotes and backslashes. A quote that is not closed
/// ends with the command.
fn split(command: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote: Option<char> = None;
    let mut characters = command.chars();
    while let Some(character) = characters.next() {
        match quote {
            Some(open) if character == open => quote = None,
            Some('\'') => word.push(character),
            None if is_quote(character) => quote = Some(character),
            None if is_between(character) => words.push(std::mem::take(&mut word)),
            Some(_) | None if character == '\\' => word.extend(characters.next()),
            Some(_) | None => word.push(character),
        }
    }
    words.push(word);
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_found_in_every_notation_of_a_command() {
        for command in [
            "a b/x.sh",
            "'a b/x.sh' --all",
            "\"a b/x.sh\"",
            "a\\ b/x.sh",
            "'a b'/x.sh",
            "sh -c 'sh \"a b/x.sh\"'",
            "!f() { \"a b/x.sh\"; }; f",
            "ssh -o \"ProxyCommand='a b/x.sh' %h\"",
            "TOOL='a b/x.sh' run",
            "!'a b/x.sh'",
            "'a b/x.sh",
        ] {
            let words = words_with_slash(command);
            assert!(words.contains("a b/x.sh"), "{command}: {words:?}");
        }
        for command in ["sh x/y.sh;z", "a&&x/y.sh|b", "(x/y.sh)", "`x/y.sh`", "A=x/y.sh b", "!x/y.sh"] {
            assert!(words_with_slash(command).contains("x/y.sh"), "{command}");
        }
        assert_eq!(words_with_slash("less -R"), BTreeSet::new());
    }
}
