//! Splits a command into words as a POSIX shell does, and checks it against the patterns of `shell(PATTERN)`.
//!
//! orch runs a command that it checked without a shell, with exactly the words that it checked. So nothing in the
//! command can have another meaning for the shell than for the check.

use crate::model::CommandPattern;

/// The message about a character with a meaning for the shell.
struct SpecialCharacter {
    found: String,
    meaning: &'static str,
}

/// Splits a command into words, without any expansion.
///
/// # Errors
/// The command contains something that only a shell could do. The error is a sentence for the model.
fn split_words(command: &str) -> Result<Vec<String>, String> {
    let mut splitter = WordSplitter { words: Vec::new(), word: None };
    let mut chars = command.trim_matches([' ', '\t', '\n', '\r']).chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' => splitter.end_word(),
            '\'' => splitter.add_quoted(&mut chars)?,
            '"' => splitter.add_double_quoted(&mut chars)?,
            '\\' => match chars.next() {
                Some('\n') | None => return Err(refusal(&special("\\", "continues the command on another line"))),
                Some(escaped) => splitter.push(escaped),
            },
            '#' | '~' if splitter.word.is_none() => return Err(refusal(&special_at_start(c))),
            _ => match special_character(c, chars.peek().copied()) {
                Some(found) => return Err(refusal(&found)),
                None => splitter.push(c),
            },
        }
    }
    splitter.end_word();
    Ok(splitter.words)
}

/// The words so far, and the current word.
struct WordSplitter {
    words: Vec<String>,
    word: Option<String>,
}

impl WordSplitter {
    fn push(&mut self, c: char) {
        self.word.get_or_insert_default().push(c);
    }

    fn end_word(&mut self) {
        self.words.extend(self.word.take());
    }

    /// Adds the text up to the next single quote.
    fn add_quoted(&mut self, chars: &mut impl Iterator<Item = char>) -> Result<(), String> {
        let word = self.word.get_or_insert_default();
        for c in chars {
            if c == '\'' {
                return Ok(());
            }
            word.push(c);
        }
        Err("the command was not run: it ends inside single quotes; close them".to_owned())
    }

    /// Adds the text up to the next double quote. In double quotes, a backslash only escapes some characters.
    fn add_double_quoted(&mut self, chars: &mut impl Iterator<Item = char>) -> Result<(), String> {
        let word = self.word.get_or_insert_default();
        while let Some(c) = chars.next() {
            match c {
                '"' => return Ok(()),
                '$' | '`' => return Err(refusal(&special_expansion(c))),
                '\\' => match chars.next() {
                    Some(escaped @ ('"' | '\\' | '$' | '`')) => word.push(escaped),
                    Some('\n') | None => return Err(refusal(&special("\\", "continues the command on another line"))),
                    Some(other) => word.extend(['\\', other]),
                },
                c => word.push(c),
            }
        }
        Err("the command was not run: it ends inside double quotes; close them".to_owned())
    }
}

fn special(found: &str, meaning: &'static str) -> SpecialCharacter {
    SpecialCharacter { found: found.to_owned(), meaning }
}

fn special_expansion(c: char) -> SpecialCharacter {
    let meaning = if c == '$' { "expands a variable or a command" } else { "runs another command" };
    SpecialCharacter { found: c.to_string(), meaning }
}

fn special_at_start(c: char) -> SpecialCharacter {
    let meaning = if c == '#' { "begins a comment" } else { "stands for the home folder" };
    SpecialCharacter { found: c.to_string(), meaning }
}

/// Whether an unquoted character has a meaning for the shell.
fn special_character(c: char, next: Option<char>) -> Option<SpecialCharacter> {
    let (found, meaning) = match c {
        ';' => (";".to_owned(), "separates commands"),
        '\n' | '\r' => ("a line break".to_owned(), "separates commands"),
        '&' if next == Some('&') => ("&&".to_owned(), "joins commands"),
        '&' => ("&".to_owned(), "runs a command in the background"),
        '|' if next == Some('|') => ("||".to_owned(), "joins commands"),
        '|' => ("|".to_owned(), "joins commands"),
        '<' | '>' => (c.to_string(), "redirects input or output"),
        '(' | ')' => (c.to_string(), "groups commands"),
        '$' | '`' => return Some(special_expansion(c)),
        '*' | '?' | '[' => (c.to_string(), "stands for the names of files"),
        _ => return None,
    };
    Some(SpecialCharacter { found, meaning })
}

fn refusal(special: &SpecialCharacter) -> String {
    let SpecialCharacter { found, meaning } = special;
    let found = if found.len() > 2 { found.clone() } else { format!("`{found}`") };
    format!(
        "the command was not run: in a shell, {found} {meaning}, and this agent runs single commands without a shell; \
         put it in single quotes if it is a part of an argument"
    )
}

/// Checks a command against patterns. Returns its words, to be run without a shell.
///
/// # Errors
/// No pattern allows the command. The error is a sentence for the model.
pub(super) fn check_command(command: &str, patterns: &[CommandPattern], listed: &str) -> Result<Vec<String>, String> {
    let words = split_words(command)?;
    let Some(program) = words.first() else {
        return Err("the command is empty, so nothing was run; write a command".to_owned());
    };
    if program.contains('=') {
        return Err(format!(
            "the command was not run: `{program}` sets a variable, and this agent runs single commands without a \
             shell; omit it"
        ));
    }
    if patterns.iter().any(|pattern| pattern.matches(&words)) {
        return Ok(words);
    }
    Err(format!("the command was not run: this agent may run only commands that match {listed}; run such a command"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, command: &str) -> Result<Vec<String>, String> {
        check_command(command, &[CommandPattern::parse(pattern).unwrap()], &format!("`{pattern}`"))
    }

    #[test]
    fn a_command_is_split_into_words_as_in_a_shell() {
        for (command, words) in [
            ("cargo test", vec!["cargo", "test"]),
            ("  cargo\ttest -- --nocapture\n", vec!["cargo", "test", "--", "--nocapture"]),
            ("cargo run 'a b' \"c $\"", vec![]),
            ("cargo run 'a; b && $(c) | d > e `f`' ''", vec!["cargo", "run", "a; b && $(c) | d > e `f`", ""]),
            ("cargo run \"a \\\"b\\\" \\$c \\n\"", vec!["cargo", "run", "a \"b\" $c \\n"]),
            ("cargo a\\ b\\;c x'y'\"z\"", vec!["cargo", "a b;c", "xyz"]),
            ("cargo a#b HEAD~1 a~ {x,y} a=b !x", vec!["cargo", "a#b", "HEAD~1", "a~", "{x,y}", "a=b", "!x"]),
        ] {
            let result = check("cargo:*", command);
            if words.is_empty() {
                assert!(result.unwrap_err().contains("expands a variable"), "{command}");
            } else {
                assert_eq!(result.unwrap(), words, "{command}");
            }
        }
    }

    #[test]
    fn nothing_that_only_a_shell_can_do_is_allowed() {
        for command in [
            "cargo test; rm -rf x",
            "cargo test && rm x",
            "cargo test || rm x",
            "cargo test | sh",
            "cargo test & rm x",
            "cargo test\nrm x",
            "cargo test\r\nrm x",
            "cargo $(rm x)",
            "cargo `rm x`",
            "cargo ${HOME}",
            "cargo \"$(rm x)\"",
            "cargo \"`rm x`\"",
            "cargo test > /etc/x",
            "cargo test < x",
            "cargo test 2>&1",
            "(cargo test)",
            "cargo test # comment",
            "cargo ~/x",
            "cargo *.rs",
            "cargo 'x",
            "cargo \"x",
            "cargo x\\",
            "cargo \\\nx",
            "cargo \"x\\\ny\"",
        ] {
            assert!(check("cargo:*", command).is_err(), "{command}");
        }
    }

    #[test]
    fn the_first_words_must_be_those_of_a_pattern() {
        for command in [
            "rm -rf x",
            "CARGO=1 cargo test",
            "\"FOO=1\" cargo",
            "./cargo test",
            "/usr/bin/cargo test",
            "cargo-x",
            "'cargo test'",
            "env cargo test",
            "",
            "   ",
            "''",
        ] {
            assert!(check("cargo:*", command).is_err(), "{command}");
        }
        assert_eq!(check("cargo:*", "c'ar'go test").unwrap(), ["cargo", "test"]);
        assert!(check("git diff:*", "git -c core.pager=x diff").is_err());
        assert!(check("git diff:*", "git diff --stat").is_ok());
        let error = check("cargo test", "cargo build").unwrap_err();
        assert!(error.ends_with("may run only commands that match `cargo test`; run such a command"), "{error}");
        let error = check("cargo:*", "cargo test; x").unwrap_err();
        assert!(error.contains("in a shell, `;` separates commands"), "{error}");
    }
}
