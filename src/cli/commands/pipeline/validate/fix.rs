//! `--fix`: applies the edits that findings contain.
//!
//! orch applies edits in rounds, so that the edits of one round never overlap. It replaces each file by a rename. If
//! the edits of a file cause a duplicate key, invalid YAML or a similar error, orch rolls them back.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Result;
use similar::TextDiff;

use crate::cli::output::Ui;
use crate::diagnostic::{Code, Diagnostic, Fix, SourceFile, non_overlapping_fixes};
use crate::model::visible::escape_line_breaks;
use crate::session::SessionError;

/// The maximum number of rounds of edits.
const MAX_ROUNDS: usize = 10;

/// The codes of the findings that edits must not cause.
const REGRESSION_CODES: &[Code] = &[
    Code::YamlSyntax,
    Code::UnsupportedYaml,
    Code::DuplicateKey,
    Code::JsonSyntax,
    Code::DuplicateName,
    Code::DuplicateArtifact,
    Code::TemplateSyntax,
];

/// A finding with its edit.
type Edit<'a> = (&'a Diagnostic, &'a Fix);

/// The edits of a round by file, in order and without overlaps.
type RoundEdits<'a> = BTreeMap<&'a str, (&'a SourceFile, Vec<Edit<'a>>)>;

/// Applies edits until no edits are left or the maximum number of rounds is reached.
pub(super) fn apply_fixes(check: &dyn Fn() -> Vec<Diagnostic>, ui: &Ui) -> Result<()> {
    let mut findings = check();
    let mut rolled_back = HashSet::new();
    for _ in 0..MAX_ROUNDS {
        let round = plan_round(&findings, &rolled_back);
        if round.is_empty() {
            break;
        }
        for (file, edits) in round.values() {
            replace_file(Path::new(&file.path), &file.text, &apply_edits(file, edits))?;
        }
        let new_findings = check();
        let regressed_files = regressed_files(&round, &findings, &new_findings);
        for (path, (file, edits)) in &round {
            if regressed_files.contains(*path) {
                replace_file(Path::new(path), &apply_edits(file, edits), &file.text)?;
                rolled_back.extend(edits.iter().map(|(finding, _)| finding_key(finding)));
                continue;
            }
            for (finding, fix) in edits {
                ui.print_message(escape_line_breaks(&format!(
                    "{} {}",
                    ui.stderr_style.success("fixed"),
                    describe_fix(finding, fix)
                )));
            }
        }
        findings = if regressed_files.is_empty() { new_findings } else { check() };
    }
    Ok(())
}

/// The changes of the first round as a unified diff. Empty if there are no changes.
pub(super) fn first_round_diff(findings: &[Diagnostic]) -> String {
    let diffs = plan_round(findings, &HashSet::new()).into_values().map(|(file, edits)| {
        let after = apply_edits(file, &edits);
        let diff = TextDiff::from_lines(file.text.as_str(), after.as_str());
        diff.unified_diff().header(&format!("a/{}", file.path), &format!("b/{}", file.path)).to_string()
    });
    diffs.collect()
}

fn plan_round<'a>(findings: &'a [Diagnostic], rolled_back: &HashSet<String>) -> RoundEdits<'a> {
    let mut files: BTreeMap<&str, (&SourceFile, Vec<&Diagnostic>)> = BTreeMap::new();
    for finding in findings {
        let (Some(file), Some(fix)) = (&finding.file, &finding.fix) else { continue };
        if !rolled_back.contains(&finding_key(finding)) && file.text.get(fix.span.clone()).is_some() {
            files.entry(file.path.as_str()).or_insert_with(|| (file.as_ref(), Vec::new())).1.push(finding);
        }
    }
    let round = files.into_iter().map(|(path, (file, findings))| (path, (file, non_overlapping_fixes(findings))));
    round.filter(|(_, (_, edits))| !edits.is_empty()).collect()
}

fn apply_edits(file: &SourceFile, edits: &[Edit<'_>]) -> String {
    let mut text = file.text.clone();
    for (_, fix) in edits.iter().rev() {
        text.replace_range(fix.span.clone(), &fix.replacement);
    }
    text
}

/// The files that have more findings with [`REGRESSION_CODES`] than before the edits.
fn regressed_files(edits: &RoundEdits<'_>, before: &[Diagnostic], after: &[Diagnostic]) -> HashSet<String> {
    let count = |findings: &[Diagnostic], path: &str, codes: &[Code]| {
        let is_counted = |finding: &&Diagnostic| {
            codes.contains(&finding.code) && finding.file.as_ref().is_some_and(|file| file.path == path)
        };
        findings.iter().filter(is_counted).count()
    };
    let paths: HashSet<&str> = after.iter().filter_map(|finding| Some(finding.file.as_ref()?.path.as_str())).collect();
    let has_regressed = |path: &&str| {
        // After the fix of a key or a name, orch can check templates that it could not check before. The edits did not
        // cause the errors in these templates.
        let is_key_fix = |(finding, _): &Edit<'_>| matches!(finding.code, Code::UnknownKey | Code::InvalidName);
        let only_key_fixes = edits.get(*path).is_some_and(|(_, edits)| edits.iter().all(is_key_fix));
        let is_counted = |code: &Code| !(only_key_fixes && *code == Code::TemplateSyntax);
        let codes: Vec<Code> = REGRESSION_CODES.iter().copied().filter(is_counted).collect();
        count(after, path, &codes) > count(before, path, &codes)
    };
    paths.into_iter().filter(has_regressed).map(str::to_owned).collect()
}

/// Identifies a finding across rounds.
fn finding_key(finding: &Diagnostic) -> String {
    let path = finding.file.as_ref().map_or("", |file| file.path.as_str());
    format!("{path} {} {}", finding.code, finding.message)
}

fn describe_fix(finding: &Diagnostic, fix: &Fix) -> String {
    let (line, column) = finding.file.as_ref().map_or((0, 0), |file| file.line_column(fix.span.start));
    let path = finding.file.as_ref().map_or("", |file| file.path.as_str());
    let old = finding.file.as_ref().and_then(|file| file.text.get(fix.span.clone())).unwrap_or_default();
    let change = if old.is_empty() {
        format!("added `{}`", fix.replacement.trim())
    } else {
        format!("`{old}` is now `{}`", fix.replacement)
    };
    format!("{path}:{line}:{column}: {change} ({})", finding.code)
}

/// Replaces a file by a rename, if its content is still `before`.
fn replace_file(path: &Path, before: &str, after: &str) -> Result<(), SessionError> {
    let write_error = |error: &std::io::Error| {
        SessionError::usage(format!("`{}` can't be fixed: {error}", path.display()))
            .with_hint("orch did not change the file")
    };
    // If the path is a link, replace its target.
    let real_path: PathBuf = path.canonicalize().map_err(|error| write_error(&error))?;
    let content = fs::read_to_string(&real_path).map_err(|error| write_error(&error))?;
    let (byte_order_mark, text) = match content.strip_prefix('\u{feff}') {
        Some(text) => ("\u{feff}", text),
        None => ("", content.as_str()),
    };
    if text != before {
        let error = SessionError::usage(format!("`{}` changed during the check", path.display()));
        return Err(error.with_hint("run the command again"));
    }
    let folder = real_path.parent().unwrap_or_else(|| Path::new("."));
    let save = || -> std::io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(byte_order_mark.as_bytes())?;
        file.write_all(after.as_bytes())?;
        file.as_file().set_permissions(fs::metadata(&real_path)?.permissions())?;
        file.as_file().sync_all()?;
        file.persist(&real_path).map_err(|error| error.error)?;
        Ok(())
    };
    save().map_err(|error| write_error(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(file: &std::sync::Arc<SourceFile>, span: std::ops::Range<usize>, text: &str) -> Diagnostic {
        let message = format!("at {}", span.start);
        let mut finding = Diagnostic::error(Code::UnknownKey, message).with_span(file, span.clone());
        finding.fix = Some(Fix { span, replacement: text.to_owned() });
        finding
    }

    #[test]
    fn overlapping_and_adjacent_edits_wait_for_the_next_round() {
        let file = SourceFile::new("a", "one two three");
        let findings = [
            finding(&file, 8..13, "3"),
            finding(&file, 0..3, "1"),
            finding(&file, 2..5, "x"),
            finding(&file, 0..3, "1"),
        ];
        let round = plan_round(&findings, &HashSet::new());
        let (file, edits) = &round["a"];
        assert_eq!(apply_edits(file, edits), "1 two 3");
        assert!(
            first_round_diff(&findings).contains("-one two three\n")
                && first_round_diff(&findings).contains("+1 two 3\n")
        );
    }

    #[test]
    fn a_fixed_file_keeps_its_byte_order_mark() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.yaml");
        fs::write(&path, "\u{feff}a: b").unwrap();
        replace_file(&path, "a: b", "a: c").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "\u{feff}a: c");
        assert!(replace_file(&path, "a: b", "a: d").is_err(), "the file has changed");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
