//! `--fix`: applies the edits that findings contain.
//!
//! orch applies edits in rounds, so that the edits of one round never overlap. It replaces each file by a rename. If
//! the edits of a file cause a duplicate key, invalid YAML or a similar error, orch rolls them back and applies them one
//! by one, without the edits that cause such an error.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Result;
use similar::TextDiff;

use crate::cli::output::Ui;
use crate::diagnostic::{Code, Diagnostic, Fix, SourceFile, non_overlapping_fixes};
use crate::model::visible::escape_line_breaks;
use crate::runner::RunnerError;

/// The maximum number of rounds in which orch applies all edits of a file.
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

/// The files whose edits orch applies one by one, with the byte offset of the next edit to try.
type NextOffsets = HashMap<String, usize>;

/// Applies edits until no edits are left or the maximum number of rounds is reached.
pub(super) fn apply_fixes(check: &dyn Fn() -> Vec<Diagnostic>, ui: &Ui) -> Result<()> {
    let mut findings = check();
    let mut next_offsets = NextOffsets::new();
    let mut rounds = 0;
    while rounds < MAX_ROUNDS {
        let round = plan_round(&findings, &next_offsets);
        if round.is_empty() {
            break;
        }
        // The other rounds end, because each of them moves forward in its files.
        rounds += usize::from(round.keys().any(|path| !next_offsets.contains_key(*path)));
        for (file, edits) in round.values() {
            replace_file(Path::new(&file.path), &file.text, &apply_edits(file, edits))?;
        }
        let new_findings = check();
        let regressions = regressions(&round, &findings, &new_findings);
        for (path, (file, edits)) in &round {
            if let Some(regression) = regressions.get(*path) {
                replace_file(Path::new(path), &apply_edits(file, edits), &file.text)?;
                let next_offset = match edits.as_slice() {
                    [(finding, fix)] => {
                        let label = ui.stderr_style.warning("skipped");
                        let text = format!("{label} {}", describe_skipped_fix(finding, fix, regression));
                        ui.print_message(escape_line_breaks(&text));
                        fix.span.end.max(fix.span.start + 1)
                    }
                    _ => 0,
                };
                next_offsets.insert((*path).to_owned(), next_offset);
                continue;
            }
            for (finding, fix) in edits {
                let label = ui.stderr_style.success("fixed");
                ui.print_message(escape_line_breaks(&format!("{label} {}", describe_fix(finding, fix))));
            }
            if let (Some(next_offset), [(_, fix)]) = (next_offsets.get_mut(*path), edits.as_slice()) {
                *next_offset = fix.span.start + fix.replacement.len();
            }
        }
        findings = if regressions.is_empty() { new_findings } else { check() };
    }
    Ok(())
}

/// The changes of the first round as a unified diff. Empty if there are no changes.
pub(super) fn first_round_diff(findings: &[Diagnostic]) -> String {
    let diffs = plan_round(findings, &NextOffsets::new()).into_values().map(|(file, edits)| {
        let after = apply_edits(file, &edits);
        let diff = TextDiff::from_lines(file.text.as_str(), after.as_str());
        diff.unified_diff().header(&format!("a/{}", file.path), &format!("b/{}", file.path)).to_string()
    });
    diffs.collect()
}

/// The edits of the next round: all edits of a file, or one of them if the file has an offset.
fn plan_round<'a>(findings: &'a [Diagnostic], next_offsets: &NextOffsets) -> RoundEdits<'a> {
    let mut files: BTreeMap<&str, (&SourceFile, Vec<&Diagnostic>)> = BTreeMap::new();
    for finding in findings {
        let (Some(file), Some(fix)) = (&finding.file, &finding.fix) else { continue };
        let is_left = next_offsets.get(&file.path).is_none_or(|offset| fix.span.start >= *offset);
        if is_left && file.text.get(fix.span.clone()).is_some() {
            files.entry(file.path.as_str()).or_insert_with(|| (file.as_ref(), Vec::new())).1.push(finding);
        }
    }
    let round = files.into_iter().map(|(path, (file, findings))| {
        let mut edits = non_overlapping_fixes(findings);
        if next_offsets.contains_key(path) {
            edits.truncate(1);
        }
        (path, (file, edits))
    });
    round.filter(|(_, (_, edits))| !edits.is_empty()).collect()
}

fn apply_edits(file: &SourceFile, edits: &[Edit<'_>]) -> String {
    let mut text = file.text.clone();
    for (_, fix) in edits.iter().rev() {
        text.replace_range(fix.span.clone(), &fix.replacement);
    }
    text
}

/// The files that have more findings with [`REGRESSION_CODES`] than before the edits, each with the message of such a
/// finding.
fn regressions(edits: &RoundEdits<'_>, before: &[Diagnostic], after: &[Diagnostic]) -> HashMap<String, String> {
    let paths: HashSet<&str> = after.iter().filter_map(|finding| Some(finding.file.as_ref()?.path.as_str())).collect();
    let regression_in = |path: &str| {
        // After the fix of a key or a name, orch can check templates that it could not check before. The edits did not
        // cause the errors in these templates.
        let is_key_fix = |(finding, _): &Edit<'_>| matches!(finding.code, Code::UnknownKey | Code::InvalidName);
        let only_key_fixes = edits.get(path).is_some_and(|(_, edits)| edits.iter().all(is_key_fix));
        let is_counted = |code: &Code| !(only_key_fixes && *code == Code::TemplateSyntax);
        let codes: Vec<Code> = REGRESSION_CODES.iter().copied().filter(is_counted).collect();
        let (before, after) = (with_codes(before, path, &codes), with_codes(after, path, &codes));
        if after.len() <= before.len() {
            return None;
        }
        let is_new = |finding: &&Diagnostic| {
            before.iter().all(|known| (known.code, &known.message) != (finding.code, &finding.message))
        };
        let finding = after.iter().copied().find(is_new).or(after.last().copied())?;
        Some(format!("{} ({})", finding.message, finding.code))
    };
    paths.into_iter().filter_map(|path| Some((path.to_owned(), regression_in(path)?))).collect()
}

/// The findings in a file that have one of these codes.
fn with_codes<'f>(findings: &'f [Diagnostic], path: &str, codes: &[Code]) -> Vec<&'f Diagnostic> {
    let is_in_file = |finding: &Diagnostic| finding.file.as_ref().is_some_and(|file| file.path == path);
    findings.iter().filter(|finding| codes.contains(&finding.code) && is_in_file(finding)).collect()
}

fn describe_fix(finding: &Diagnostic, fix: &Fix) -> String {
    let (place, old) = replaced_text(finding, fix);
    let change = if old.is_empty() {
        format!("added `{}`", fix.replacement.trim())
    } else {
        format!("`{old}` is now `{}`", fix.replacement)
    };
    format!("{place}: {change} ({})", finding.code)
}

/// Describes a fix that orch did not make, because it would cause another finding with this message.
fn describe_skipped_fix(finding: &Diagnostic, fix: &Fix, regression: &str) -> String {
    let (place, old) = replaced_text(finding, fix);
    let change = if old.is_empty() {
        format!("orch did not add `{}`", fix.replacement.trim())
    } else {
        format!("orch did not change `{old}` to `{}`", fix.replacement)
    };
    format!("{place}: {change} ({}), because then {regression}", finding.code)
}

/// The place of a fix, as `path:line:column`, and the text that it replaces.
fn replaced_text<'f>(finding: &'f Diagnostic, fix: &Fix) -> (String, &'f str) {
    let Some(file) = &finding.file else { return (String::new(), "") };
    let (line, column) = file.line_column(fix.span.start);
    (format!("{}:{line}:{column}", file.path), file.text.get(fix.span.clone()).unwrap_or_default())
}

/// Replaces a file by a rename, if its content is still `before`.
fn replace_file(path: &Path, before: &str, after: &str) -> Result<(), RunnerError> {
    let write_error = |error: &std::io::Error| {
        RunnerError::usage(format!("`{}` can't be fixed: {error}", path.display()))
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
        let error = RunnerError::usage(format!("`{}` changed during the check", path.display()));
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
        finding.fix = Some(Fix { span, replacement: text.to_owned(), is_safe: true });
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
        let round = plan_round(&findings, &NextOffsets::new());
        let (file, edits) = &round["a"];
        assert_eq!(apply_edits(file, edits), "1 two 3");
        assert!(
            first_round_diff(&findings).contains("-one two three\n")
                && first_round_diff(&findings).contains("+1 two 3\n")
        );
        let next_offsets = NextOffsets::from([("a".to_owned(), 1)]);
        let round = plan_round(&findings, &next_offsets);
        assert_eq!(apply_edits(file, &round["a"].1), "onxwo three", "one edit, at the offset or after it");
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
