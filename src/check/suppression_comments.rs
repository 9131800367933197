//! Parses the comments that suppress warnings, and finds the lines that they are about.

use std::ops::Range;

use crate::diagnostic::{Code, Diagnostic};

/// The word that begins a comment for orch.
const MARKER: &str = "orch:";
/// The part of the marker that its misspellings also contain, in lower case.
pub(super) const MARKER_NAME: &str = "orch";
/// Words with which other tools begin the comments that suppress findings, in lower case, and orch's own word.
const VERBS: &[&str] = &["allow", "disable", "expect", "ignore", "noqa", "skip", "suppress"];

/// The syntax of a comment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CommentStyle {
    /// `# …`
    Yaml,
    /// `{# … #}`
    Template,
}

impl CommentStyle {
    /// The text of a comment without its delimiters.
    pub(super) fn content(self, comment: &str) -> &str {
        let content = match self {
            Self::Yaml => comment.trim_start_matches('#'),
            Self::Template => {
                let content = comment.strip_prefix("{#").unwrap_or(comment);
                content.strip_suffix("#}").unwrap_or(content).trim_matches(['-', '+'])
            }
        };
        content.trim()
    }

    /// The comment with a content.
    fn comment(self, content: &str) -> String {
        match self {
            Self::Yaml => format!("# {content}"),
            Self::Template => format!("{{# {content} #}}"),
        }
    }

    /// Whether a line consists of comments alone.
    fn is_comment_line(self, line: &str) -> bool {
        let line = line.trim();
        match self {
            Self::Yaml => line.starts_with('#'),
            Self::Template => line.starts_with("{#") && line.find("#}") == Some(line.len().saturating_sub(2)),
        }
    }
}

/// The line that a comment is about: its own line if that line has other content, otherwise the next line with content.
/// A comment of several lines is about the line of its end.
pub(super) fn line_of_target(text: &str, comment: &Range<usize>, style: CommentStyle) -> Range<usize> {
    let line_start = text.get(..comment.start).and_then(|before| before.rfind('\n')).map_or(0, |newline| newline + 1);
    let line_end = end_of_line(text, comment.end);
    let has_content = |range: Range<usize>| !text.get(range).unwrap_or_default().trim().is_empty();
    if has_content(line_start..comment.start) || has_content(comment.end..line_end) {
        return line_start..line_end;
    }
    let mut start = line_end;
    while start < text.len() {
        start += 1;
        let end = end_of_line(text, start);
        let line = text.get(start..end).unwrap_or_default();
        if !line.trim().is_empty() && !style.is_comment_line(line) {
            return start..end;
        }
        start = end;
    }
    text.len()..text.len()
}

/// The offset of the line break that ends the line at `offset`, or the end of the text.
fn end_of_line(text: &str, offset: usize) -> usize {
    text.get(offset..).and_then(|rest| rest.find('\n')).map_or(text.len(), |newline| offset + newline)
}

/// A mistake in a comment for orch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum CommentMistake {
    /// It has a code, but does not begin with `orch: allow`. Contains the code, if orch has it.
    NotAllow(Option<Code>),
    NoCode,
    UnknownCode(String),
    NoReason(Code),
}

impl CommentMistake {
    pub(super) fn message(&self) -> String {
        match self {
            Self::NotAllow(_) => "orch does not understand this comment".to_owned(),
            Self::NoCode => "the comment does not name a code".to_owned(),
            Self::UnknownCode(name) => format!("there is no code `{name}`"),
            Self::NoReason(code) => format!("the comment does not say why it suppresses `{code}`"),
        }
    }

    pub(super) fn add_help(&self, diagnostic: Diagnostic, style: CommentStyle) -> Diagnostic {
        let form = |code: &str| format!("write `{}`", style.comment(&format!("{MARKER} allow {code} because REASON")));
        match self {
            Self::NoReason(code) | Self::NotAllow(Some(code)) => diagnostic.with_help(form(code.as_str())),
            Self::NotAllow(None) | Self::NoCode => diagnostic.with_help(form("CODE")),
            Self::UnknownCode(name) => {
                if let Some(code) = intended_code(name) {
                    return diagnostic.with_help(form(code.as_str())).with_replacement(name, Some(code.as_str()));
                }
                let names: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
                let with_names = diagnostic.clone().with_suggestion(name, names);
                if with_names.help.is_empty() { diagnostic.with_help(form("CODE")) } else { with_names }
            }
        }
    }
}

/// Parses the content of a comment. Returns the codes that it suppresses, or `None` if the comment is not for orch.
pub(super) fn parse_comment(content: &str) -> Option<Result<Vec<Code>, CommentMistake>> {
    let Some(directive) = content.strip_prefix(MARKER).map(str::trim_start) else {
        let directive = after_misspelt_marker(content)?;
        return is_directive(directive).then(|| Err(CommentMistake::NotAllow(first_code(directive))));
    };
    let Some(list) = directive.strip_prefix("allow").filter(|list| !list.starts_with(char::is_alphanumeric)) else {
        // Without a code, the comment is prose that begins with the same word.
        let is_meant = is_directive(directive) || words_of(directive).any(begins_like_code);
        return is_meant.then(|| Err(CommentMistake::NotAllow(first_code(directive))));
    };
    let mut words = words_of(list);
    let mut codes: Vec<Code> = Vec::new();
    while let Some(word) = words.next() {
        let first_code = codes.first().copied();
        if word == "because" {
            let has_reason = words.next().is_some();
            return Some(match first_code {
                None => Err(CommentMistake::NoCode),
                Some(code) if !has_reason => Err(CommentMistake::NoReason(code)),
                Some(_) => Ok(codes),
            });
        }
        match (Code::ALL.iter().find(|code| code.as_str() == word), first_code) {
            (Some(code), _) => codes.push(*code),
            // A word that is no code begins the reason.
            (None, Some(code)) if !begins_like_code(word) && intended_code(word).is_none() => {
                return Some(Err(CommentMistake::NoReason(code)));
            }
            (None, _) => return Some(Err(CommentMistake::UnknownCode(word.to_owned()))),
        }
    }
    Some(Err(codes.first().map_or(CommentMistake::NoCode, |code| CommentMistake::NoReason(*code))))
}

/// The words of a comment, without the punctuation of lists.
fn words_of(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split([' ', '\t', '\n', '\r', ',']).map(|word| word.trim_matches(':'));
    words.filter(|word| !word.is_empty())
}

/// The text after a marker in another spelling, such as `Orch:` or `orch` without a colon. The marker is not the
/// beginning of a longer word.
fn after_misspelt_marker(content: &str) -> Option<&str> {
    let (name, rest) = content.split_at_checked(MARKER_NAME.len())?;
    let is_marker = name.eq_ignore_ascii_case(MARKER_NAME) && !rest.starts_with(char::is_alphanumeric);
    is_marker.then(|| rest.trim_start_matches(|c: char| !c.is_alphanumeric()))
}

/// Whether a text begins with a word that suppresses findings, and names one of orch's codes.
fn is_directive(text: &str) -> bool {
    let mut words = words_of(text);
    let begins_with_verb = words.next().is_some_and(|word| VERBS.contains(&word.to_lowercase().as_str()));
    begins_with_verb && words.any(|word| begins_like_code(word) || intended_code(word).is_some())
}

/// The first word that stands for one of orch's codes.
fn first_code(text: &str) -> Option<Code> {
    words_of(text).find_map(intended_code)
}

/// Whether a word begins like a code, such as `ORCH0602` or `orch06`.
fn begins_like_code(word: &str) -> bool {
    let prefix_and_rest = word.split_at_checked(MARKER_NAME.len());
    prefix_and_rest.is_some_and(|(prefix, rest)| {
        prefix.eq_ignore_ascii_case(MARKER_NAME) && rest.starts_with(|c: char| c.is_ascii_digit())
    })
}

/// The code for which a word stands, also if it is in lower case, or lacks its prefix or its first zero.
fn intended_code(word: &str) -> Option<Code> {
    let word = word.to_ascii_uppercase();
    let digits = word.strip_prefix("ORCH").map_or(word.as_str(), |digits| digits.trim_start_matches(['-', '_']));
    let is_number = (3..=4).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    let name = is_number.then(|| format!("ORCH{digits:0>4}"))?;
    Code::ALL.iter().copied().find(|code| code.as_str() == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_names_codes_and_a_reason() {
        let codes = |content: &str| parse_comment(content).unwrap().unwrap();
        assert_eq!(codes("orch: allow ORCH0602 because it is there"), [Code::PossiblyMissing]);
        let two = [Code::PossiblyMissing, Code::PrintsRawStructure];
        assert_eq!(codes("orch: allow ORCH0602, ORCH0606 because: it is"), two);
        assert_eq!(codes("orch:allow ORCH0602 ORCH0606\nbecause\nit is"), two);
        let mistake = |content: &str| parse_comment(content).unwrap().unwrap_err();
        for content in ["orch: allow ORCH0602", "orch: allow ORCH0602 because", "orch: allow ORCH0602 it is there"] {
            assert_eq!(mistake(content), CommentMistake::NoReason(Code::PossiblyMissing), "{content}");
        }
        assert_eq!(mistake("orch: allow because it is"), CommentMistake::NoCode);
        assert_eq!(mistake("orch: allow"), CommentMistake::NoCode);
        assert_eq!(mistake("orch: allow ORCH9999 because x"), CommentMistake::UnknownCode("ORCH9999".to_owned()));
        assert_eq!(
            mistake("orch: allow ORCH0602, ORCH9999 because x"),
            CommentMistake::UnknownCode("ORCH9999".to_owned())
        );
        for prose in [
            "orch: runs this",
            "orch: allowed by the team",
            "orch: needs 602 files",
            "orch runs 0602 first",
            "orchard: allow ORCH0602",
            "about orch: allow ORCH0602",
            "allow ORCH0602",
            "ORCH0602: the plan always exists",
        ] {
            assert_eq!(parse_comment(prose), None, "{prose}");
        }
    }

    #[test]
    fn another_spelling_is_a_mistake() {
        let mistake = |content: &str| parse_comment(content).unwrap_or_else(|| panic!("{content}")).unwrap_err();
        for content in [
            "orch: ignore ORCH0602",
            "orch: ignore 0602",
            "orch: Allow ORCH0602 because x",
            "Orch: allow ORCH0602 because x",
            "ORCH: ALLOW orch0602",
            "orch allow ORCH0602 because x",
            "orch-ignore: 602",
        ] {
            assert_eq!(mistake(content), CommentMistake::NotAllow(Some(Code::PossiblyMissing)), "{content}");
        }
        assert_eq!(mistake("orch: disable ORCH9999"), CommentMistake::NotAllow(None));
        for name in ["0602", "602", "orch0602", "Orch-0602"] {
            for content in [format!("orch: allow {name} because x"), format!("orch: allow ORCH0606, {name}")] {
                assert_eq!(mistake(&content), CommentMistake::UnknownCode(name.to_owned()), "{content}");
            }
            let diagnostic = Diagnostic::warning(Code::InvalidSuppression, "x");
            let help = CommentMistake::UnknownCode(name.to_owned()).add_help(diagnostic, CommentStyle::Yaml).help;
            assert_eq!(help, ["write `# orch: allow ORCH0602 because REASON`"], "{name}");
        }
    }

    #[test]
    fn a_comment_is_about_its_own_line_or_the_next_one() {
        let target = |text: &str, style: CommentStyle| {
            let start = text.find('@').unwrap();
            text[line_of_target(text, &(start..start + 1), style)].to_owned()
        };
        assert_eq!(target("a\nb @\nc", CommentStyle::Yaml), "b @");
        assert_eq!(target("a\n  @\n\n  # x\n  b\nc", CommentStyle::Yaml), "  b");
        assert_eq!(target("a\n@\n# Title\nb", CommentStyle::Template), "# Title", "a heading is no comment");
        assert_eq!(target("@\n{# x #}\n{# y #} b", CommentStyle::Template), "{# y #} b");
        assert_eq!(target("a\n@", CommentStyle::Yaml), "");
    }
}
