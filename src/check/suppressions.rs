//! Comments that suppress warnings: `# orch: allow CODE because REASON` in YAML, and `{# orch: allow … #}` in templates.
//!
//! A comment suppresses only warnings, because orch does not run a pipeline with errors. Prompts and `orch.yaml` belong
//! to several pipelines, so whether a comment in them has any effect is known only after the checks of all pipelines.
//! The same holds for a comment about a finding that depends on the callers of its pipeline.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use crate::config::{Document, Project};
use crate::diagnostic::{Code, Diagnostic, Severity, SourceFile};
use crate::template;

/// The word that begins a comment for orch.
const MARKER: &str = "orch:";

/// The suppressions that the checks of several pipelines may use, each with whether a check used it.
#[derive(Debug, Default)]
pub struct SharedSuppressions {
    entries: BTreeMap<SuppressionKey, (bool, Diagnostic)>,
}

/// The path of a file, the position of a comment in it, and a code in the comment.
type SuppressionKey = (String, usize, &'static str);

impl SharedSuppressions {
    /// Adds the suppressions of another check.
    pub fn merge(&mut self, other: Self) {
        for (key, (is_used, diagnostic)) in other.entries {
            self.entries.entry(key).or_insert((false, diagnostic)).0 |= is_used;
        }
    }

    /// Adds suppressions of a file.
    fn add(&mut self, file: &FileSuppressions, uses: SuppressionUses<'_>, has_errors: bool) {
        for (suppression, usage) in uses {
            let key = (file.file.path.clone(), suppression.comment.start, suppression.code.as_str());
            let is_used = usage == SuppressionUse::Used || has_errors;
            self.entries.insert(key, (is_used, file.unused_finding(suppression, usage)));
        }
    }

    /// The findings for the suppressions that no check used. Complete only after the checks of all pipelines of the
    /// project, and meaningful only if none of them found an error.
    pub fn into_unused(self) -> Vec<Diagnostic> {
        self.entries.into_values().filter(|(is_used, _)| !is_used).map(|(_, diagnostic)| diagnostic).collect()
    }
}

/// A suppression of one code.
#[derive(Debug)]
struct Suppression {
    code: Code,
    /// The comment.
    comment: Range<usize>,
    /// The bytes in which a suppressed finding begins.
    target: Range<usize>,
}

/// The comments of one file.
#[derive(Debug)]
struct FileSuppressions {
    file: Arc<SourceFile>,
    suppressions: Vec<Suppression>,
    invalid: Vec<Diagnostic>,
}

/// How a suppression relates to the findings of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SuppressionUse {
    Unused,
    /// It matches only errors, which no comment suppresses.
    MatchesError,
    Used,
}

/// Suppressions of a file, and how each relates to the findings of a check.
type SuppressionUses<'f> = Vec<(&'f Suppression, SuppressionUse)>;

/// Removes the suppressed warnings from the findings of one pipeline. Adds a finding for each invalid comment, and for
/// each comment in the pipeline file that has no effect. Errors hide other findings, so with `has_errors` a comment may
/// have an effect later. Returns the suppressions that the checks of other pipelines may use.
pub(super) fn apply(project: &Project, findings: &mut Vec<Diagnostic>, has_errors: bool) -> SharedSuppressions {
    let settings = project.settings_document.as_ref().map(FileSuppressions::from_document);
    let prompts = project.prompts.values().map(FileSuppressions::from_prompt);
    let mut shared = SharedSuppressions::default();
    for file in settings.into_iter().chain(prompts) {
        shared.add(&file, file.remove_suppressed(findings), has_errors);
        findings.extend(file.invalid);
    }
    let file = FileSuppressions::from_document(&project.document);
    let uses = file.remove_suppressed(findings).into_iter();
    // The finding about an unconfined command also depends on the pipelines that call this one.
    let (shared_uses, own_uses): (SuppressionUses<'_>, SuppressionUses<'_>) =
        uses.partition(|(suppression, _)| suppression.code == Code::UnconfinedCommand);
    shared.add(&file, shared_uses, has_errors);
    findings.extend(file.ineffective(own_uses, has_errors));
    findings.extend(file.invalid);
    shared
}

/// Removes the suppressed warnings from the findings of a file that no other check reads, and adds findings about its
/// comments.
pub(super) fn apply_to_file(document: &Document, mut findings: Vec<Diagnostic>) -> Vec<Diagnostic> {
    let has_errors = findings.iter().any(Diagnostic::is_error);
    let file = FileSuppressions::from_document(document);
    let uses = file.remove_suppressed(&mut findings);
    findings.extend(file.ineffective(uses, has_errors));
    findings.extend(file.invalid);
    findings
}

impl FileSuppressions {
    fn from_document(document: &Document) -> Self {
        let text = &document.file.text;
        let mut file = Self::new(&document.file);
        if !text.contains(MARKER) {
            return file;
        }
        for comment in document.comments_with(MARKER) {
            let line = line_of_target(text, &comment, CommentStyle::Yaml);
            let target = line.start..document.end_of_strings(&line);
            file.add_comment(comment, target, CommentStyle::Yaml);
        }
        for string in document.string_ranges() {
            let source = text.get(string.clone()).unwrap_or_default();
            for comment in template::comments(source) {
                let comment = string.start + comment.start..string.start + comment.end;
                let target = line_of_target(text, &comment, CommentStyle::Template);
                file.add_comment(comment, target, CommentStyle::Template);
            }
        }
        file
    }

    fn from_prompt(prompt: &Arc<SourceFile>) -> Self {
        let mut file = Self::new(prompt);
        if prompt.text.contains(MARKER) {
            for comment in template::comments(&prompt.text) {
                let target = line_of_target(&prompt.text, &comment, CommentStyle::Template);
                file.add_comment(comment, target, CommentStyle::Template);
            }
        }
        file
    }

    fn new(file: &Arc<SourceFile>) -> Self {
        Self { file: Arc::clone(file), suppressions: Vec::new(), invalid: Vec::new() }
    }

    fn add_comment(&mut self, comment: Range<usize>, target: Range<usize>, style: CommentStyle) {
        let source = self.file.text.get(comment.clone()).unwrap_or_default();
        match parse_comment(style.content(source)) {
            None => {}
            Some(Ok(codes)) => {
                let new_suppression = |code| Suppression { code, comment: comment.clone(), target: target.clone() };
                self.suppressions.extend(codes.into_iter().map(new_suppression));
            }
            Some(Err(mistake)) => {
                let diagnostic = Diagnostic::warning(Code::InvalidSuppression, mistake.message());
                let diagnostic = diagnostic.with_span(&self.file, comment);
                self.invalid.push(mistake.add_help(diagnostic, style));
            }
        }
    }

    /// Removes the suppressed warnings, and returns how each comment relates to the findings.
    fn remove_suppressed(&self, findings: &mut Vec<Diagnostic>) -> SuppressionUses<'_> {
        let unused = |suppression| (suppression, SuppressionUse::Unused);
        let mut uses: SuppressionUses<'_> = self.suppressions.iter().map(unused).collect();
        findings.retain(|finding| {
            let is_in_file = finding.file.as_ref().is_some_and(|file| file.path == self.file.path);
            let Some(span) = finding.span.as_ref().filter(|_| is_in_file) else { return true };
            let mut is_suppressed = false;
            let matches = |suppression: &Suppression| {
                suppression.code == finding.code && suppression.target.contains(&span.start)
            };
            for (_, usage) in uses.iter_mut().filter(|(suppression, _)| matches(suppression)) {
                is_suppressed |= finding.severity == Severity::Warning;
                *usage = match finding.severity {
                    Severity::Warning => SuppressionUse::Used,
                    Severity::Error if *usage == SuppressionUse::Used => SuppressionUse::Used,
                    Severity::Error => SuppressionUse::MatchesError,
                };
            }
            !is_suppressed
        });
        uses
    }

    fn unused_finding(&self, suppression: &Suppression, usage: SuppressionUse) -> Diagnostic {
        let code = suppression.code;
        let (message, help) = match usage {
            SuppressionUse::MatchesError => (
                format!("`{code}` is an error here, and a comment can suppress only warnings"),
                "correct the mistake, and remove the comment",
            ),
            SuppressionUse::Unused | SuppressionUse::Used => {
                (format!("nothing here has the code `{code}`"), "remove the comment, or the code from it")
            }
        };
        Diagnostic::warning(Code::UnusedSuppression, message)
            .with_span(&self.file, suppression.comment.clone())
            .with_help(help)
    }

    /// The findings about suppressions that have no effect.
    fn ineffective(&self, uses: SuppressionUses<'_>, has_errors: bool) -> Vec<Diagnostic> {
        let reported = uses.into_iter().filter(|(_, usage)| match usage {
            SuppressionUse::Used => false,
            SuppressionUse::MatchesError => true,
            SuppressionUse::Unused => !has_errors,
        });
        reported.map(|(suppression, usage)| self.unused_finding(suppression, usage)).collect()
    }
}

/// The syntax of a comment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CommentStyle {
    /// `# …`
    Yaml,
    /// `{# … #}`
    Template,
}

impl CommentStyle {
    /// The text of a comment without its delimiters.
    fn content(self, comment: &str) -> &str {
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
fn line_of_target(text: &str, comment: &Range<usize>, style: CommentStyle) -> Range<usize> {
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
enum CommentMistake {
    /// It has a code, but does not begin with `allow`.
    NotAllow,
    NoCode,
    UnknownCode(String),
    NoReason(Code),
}

impl CommentMistake {
    fn message(&self) -> String {
        match self {
            Self::NotAllow => "orch does not understand this comment".to_owned(),
            Self::NoCode => "the comment does not name a code".to_owned(),
            Self::UnknownCode(name) => format!("there is no code `{name}`"),
            Self::NoReason(code) => format!("the comment does not say why it suppresses `{code}`"),
        }
    }

    fn add_help(&self, diagnostic: Diagnostic, style: CommentStyle) -> Diagnostic {
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
fn parse_comment(content: &str) -> Option<Result<Vec<Code>, CommentMistake>> {
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
