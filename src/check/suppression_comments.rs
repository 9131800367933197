//! Parses the comments that suppress warnings, and finds the lines that they are about.

use std::ops::Range;

use crate::diagnostic::{Code, Diagnostic};

/// The word that begins a comment for orch.
pub(super) const MARKER: &str = "orch:";

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
    /// It has a code, but does not begin with `allow`.
    NotAllow,
    NoCode,
    UnknownCode(String),
    NoReason(Code),
}

impl CommentMistake {
    pub(super) fn message(&self) -> String {
        match self {
            Self::NotAllow => "orch does not understand this comment".to_owned(),
            Self::NoCode => "the comment does not name a code".to_owned(),
            Self::UnknownCode(name) => format!("there is no code `{name}`"),
            Self::NoReason(code) => format!("the comment does not say why it suppresses `{code}`"),
        }
    }

    pub(super) fn add_help(&self, diagnostic: Diagnostic, style: CommentStyle) -> Diagnostic {
        let code = match self {
            Self::NoReason(code) => code.as_str(),
            Self::UnknownCode(name) => {
                let names: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
                let with_names = diagnostic.clone().with_suggestion(name, names);
                if !with_names.help.is_empty() {
                    return with_names;
                }
                "CODE"
            }
            Self::NotAllow | Self::NoCode => "CODE",
        };
        diagnostic.with_help(format!("write `{}`", style.comment(&format!("{MARKER} allow {code} because REASON"))))
    }
}

/// Parses the content of a comment. Returns the codes that it suppresses, or `None` if the comment is not for orch.
pub(super) fn parse_comment(content: &str) -> Option<Result<Vec<Code>, CommentMistake>> {
    let directive = content.strip_prefix(MARKER)?.trim_start();
    let Some(list) = directive.strip_prefix("allow").filter(|list| !list.starts_with(char::is_alphanumeric)) else {
        // Without a code, the comment is prose that begins with the same word.
        return mentions_code(directive).then_some(Err(CommentMistake::NotAllow));
    };
    let words = list.split([' ', '\t', '\n', '\r', ',']).map(|word| word.trim_matches(':'));
    let mut words = words.filter(|word| !word.is_empty());
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
            (None, Some(code)) if !mentions_code(word) => return Some(Err(CommentMistake::NoReason(code))),
            (None, _) => return Some(Err(CommentMistake::UnknownCode(word.to_owned()))),
        }
    }
    Some(Err(codes.first().map_or(CommentMistake::NoCode, |code| CommentMistake::NoReason(*code))))
}

/// Whether a text has a word such as `ORCH0602`.
fn mentions_code(text: &str) -> bool {
    let mut digits = text.match_indices("ORCH").filter_map(|(offset, name)| text.get(offset + name.len()..));
    digits.any(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
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
        assert_eq!(mistake("orch: ignore ORCH0602"), CommentMistake::NotAllow);
        for prose in ["orch: runs this", "orch: allowed by the team", "about orch: allow ORCH0602", "allow ORCH0602"] {
            assert_eq!(parse_comment(prose), None, "{prose}");
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
