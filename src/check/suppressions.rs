//! Comments that suppress warnings: `# orch: allow CODE because REASON` in YAML, and `{# orch: allow … #}` in templates.
//!
//! A comment suppresses only warnings, because orch does not run a pipeline with errors. Prompts and `orch.yaml` belong
//! to several pipelines, so whether a comment in them has any effect is known only after the checks of all pipelines.
//! The same holds for a comment about a finding that depends on the callers of its pipeline. A comment about a finding
//! that only `validate --strict` reports has no effect on other checks, so they do not call it unused.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use super::strictness::Strictness;
use super::suppression_comments::{CommentStyle, MARKER_NAME, line_of_target, parse_comment};
use crate::config::{Document, Project};
use crate::diagnostic::{Code, Diagnostic, Severity, SourceFile};
use crate::template;

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
    fn add(&mut self, file: &FileSuppressions, uses: SuppressionUses<'_>, options: SuppressionOptions) {
        for (suppression, usage) in uses {
            let key = (file.file.path.clone(), suppression.comment.start, suppression.code.as_str());
            let is_used = usage == SuppressionUse::Used || options.has_errors;
            self.entries.insert(key, (is_used, file.unused_finding(suppression, usage)));
        }
    }

    /// The findings for the suppressions that no check used. Complete only after the checks of all pipelines of the
    /// project, and meaningful only if none of them found an error.
    pub fn into_unused(self) -> Vec<Diagnostic> {
        self.entries.into_values().filter(|(is_used, _)| !is_used).map(|(_, diagnostic)| diagnostic).collect()
    }
}

/// What decides whether a comment without effect is a mistake.
#[derive(Clone, Copy, Debug)]
pub(super) struct SuppressionOptions {
    /// Which findings the check reports.
    pub(super) strictness: Strictness,
    /// Whether there are errors. They hide other findings, so a comment may have an effect later.
    pub(super) has_errors: bool,
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
/// each comment in the pipeline file that has no effect. Returns the suppressions that the checks of other pipelines
/// may use.
pub(super) fn apply(
    project: &Project,
    findings: &mut Vec<Diagnostic>,
    options: SuppressionOptions,
) -> SharedSuppressions {
    let settings = project.settings_document.as_ref().map(FileSuppressions::from_document);
    let prompts = project.prompts.values().map(FileSuppressions::from_prompt);
    let mut shared = SharedSuppressions::default();
    for file in settings.into_iter().chain(prompts) {
        shared.add(&file, file.remove_suppressed(findings, options.strictness), options);
        findings.extend(file.invalid);
    }
    let file = FileSuppressions::from_document(&project.document);
    let uses = file.remove_suppressed(findings, options.strictness).into_iter();
    // These findings also depend on the pipelines that call this one: on the files that they write, and their budgets.
    let depends_on_callers = |code: Code| matches!(code, Code::UnconfinedCommand | Code::UsageNotReported);
    let (shared_uses, own_uses): (SuppressionUses<'_>, SuppressionUses<'_>) =
        uses.partition(|(suppression, _)| depends_on_callers(suppression.code));
    shared.add(&file, shared_uses, options);
    findings.extend(file.ineffective(own_uses, options));
    findings.extend(file.invalid);
    shared
}

/// Removes the suppressed warnings from the findings of a file that no other check reads, and adds findings about its
/// comments.
pub(super) fn apply_to_file(
    document: &Document,
    mut findings: Vec<Diagnostic>,
    options: SuppressionOptions,
) -> Vec<Diagnostic> {
    let file = FileSuppressions::from_document(document);
    let uses = file.remove_suppressed(&mut findings, options.strictness);
    findings.extend(file.ineffective(uses, options));
    findings.extend(file.invalid);
    findings
}

/// Whether a text may contain a comment for orch, also with a misspelt marker.
fn may_contain_comment(text: &str) -> bool {
    text.to_ascii_lowercase().contains(MARKER_NAME)
}

impl FileSuppressions {
    fn from_document(document: &Document) -> Self {
        let text = &document.file.text;
        let mut file = Self::new(&document.file);
        if !may_contain_comment(text) {
            return file;
        }
        for comment in document.comments_with(MARKER_NAME) {
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
        if may_contain_comment(&prompt.text) {
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

    /// Removes the suppressed warnings, and returns how the suppressions of the codes that the check reports relate to
    /// the findings.
    fn remove_suppressed(&self, findings: &mut Vec<Diagnostic>, strictness: Strictness) -> SuppressionUses<'_> {
        let reported = self.suppressions.iter().filter(|suppression| strictness.reports(suppression.code));
        let mut uses: SuppressionUses<'_> = reported.map(|suppression| (suppression, SuppressionUse::Unused)).collect();
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
    fn ineffective(&self, uses: SuppressionUses<'_>, options: SuppressionOptions) -> Vec<Diagnostic> {
        let reported = uses.into_iter().filter(|(_, usage)| match usage {
            SuppressionUse::Used => false,
            SuppressionUse::MatchesError => true,
            SuppressionUse::Unused => !options.has_errors,
        });
        reported.map(|(suppression, usage)| self.unused_finding(suppression, usage)).collect()
    }
}
