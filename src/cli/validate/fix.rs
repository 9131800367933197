//! `--fix`: applies the edits that findings carry.
//!
//! Edits of one round never overlap, files are replaced whole, and a round that leaves a file in a
//! worse state than it was (a key twice, a name taken, no YAML any more) is taken back.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use similar::TextDiff;

use crate::diagnostic::{Code, Diagnostic, Fix, SourceFile, apart};
use crate::model::visible::one_line;

use crate::cli::ui::Ui;
use crate::session::SessionError;

/// How often edits are followed by another look.
const ROUNDS: usize = 10;

/// What an edit must not lead to.
const WORSE: &[Code] = &[
    Code::YamlSyntax,
    Code::YamlRefused,
    Code::DuplicateKey,
    Code::JsonSyntax,
    Code::NameTaken,
    Code::TwoWriters,
    Code::TemplateSyntax,
];

/// A finding with its edit, in the file that both are about.
type Edit<'a> = (&'a Diagnostic, &'a Fix);

/// The edits of a round by file, in order and apart from one another.
type RoundEdits<'a> = BTreeMap<&'a str, (&'a SourceFile, Vec<Edit<'a>>)>;

/// Mends until nothing is left to mend; what is still wrong then.
pub(super) fn apply(check: &dyn Fn() -> Vec<Diagnostic>, ui: &Ui) -> Result<Vec<Diagnostic>, SessionError> {
    let mut found = check();
    let mut refused = HashSet::new();
    for _ in 0..ROUNDS {
        let plan = plan(&found, &refused);
        if plan.is_empty() {
            break;
        }
        for (file, edits) in plan.values() {
            write(Path::new(&file.path), &file.text, &edited(file, edits))?;
        }
        let after = check();
        let worse = worse(&plan, &found, &after);
        for (path, (file, edits)) in &plan {
            let back = worse.contains(*path);
            if back {
                write(Path::new(path), &edited(file, edits), &file.text)?;
                refused.extend(edits.iter().map(|edit| key(edit.0)));
                continue;
            }
            for (d, fix) in edits {
                ui.say(one_line(&format!("{} {}", ui.style.good("fixed"), told(d, fix))));
            }
        }
        found = if worse.is_empty() { after } else { check() };
    }
    Ok(found)
}

/// What one round would change, as a unified diff; empty for nothing.
pub(super) fn diff(found: &[Diagnostic]) -> String {
    let parts = plan(found, &HashSet::new()).into_values().map(|(file, edits)| {
        let after = edited(file, &edits);
        let diff = TextDiff::from_lines(file.text.as_str(), after.as_str());
        diff.unified_diff().header(&format!("a/{}", file.path), &format!("b/{}", file.path)).to_string()
    });
    parts.collect()
}

fn plan<'a>(found: &'a [Diagnostic], refused: &HashSet<String>) -> RoundEdits<'a> {
    let mut files: BTreeMap<&str, (&SourceFile, Vec<&Diagnostic>)> = BTreeMap::new();
    for d in found {
        let (Some(file), Some(fix)) = (&d.file, &d.fix) else { continue };
        if !refused.contains(&key(d)) && file.text.get(fix.span.clone()).is_some() {
            files.entry(file.path.as_str()).or_insert_with(|| (file.as_ref(), Vec::new())).1.push(d);
        }
    }
    let plan = files.into_iter().map(|(path, (file, found))| (path, (file, apart(found))));
    plan.filter(|(_, (_, edits))| !edits.is_empty()).collect()
}

fn edited(file: &SourceFile, edits: &[Edit<'_>]) -> String {
    let mut text = file.text.clone();
    for (_, fix) in edits.iter().rev() {
        text.replace_range(fix.span.clone(), &fix.replacement);
    }
    text
}

/// The files that now have a finding of a bad kind that they did not have before.
fn worse(plan: &RoundEdits<'_>, before: &[Diagnostic], after: &[Diagnostic]) -> HashSet<String> {
    let count = |list: &[Diagnostic], path: &str, bad: &[Code]| {
        let is_bad = |d: &&Diagnostic| bad.contains(&d.code) && d.file.as_ref().is_some_and(|file| file.path == path);
        list.iter().filter(is_bad).count()
    };
    let paths: HashSet<&str> = after.iter().filter_map(|d| Some(d.file.as_ref()?.path.as_str())).collect();
    let is_worse = |path: &&str| {
        // A wrong key or name hides what is wrong with texts, and to mend it breaks none.
        let of_keys = |(d, _): &Edit<'_>| matches!(d.code, Code::UnknownKey | Code::BadName);
        let reveals = plan.get(*path).is_some_and(|(_, edits)| edits.iter().all(of_keys));
        let bad: Vec<Code> = WORSE.iter().copied().filter(|code| !(reveals && *code == Code::TemplateSyntax)).collect();
        count(after, path, &bad) > count(before, path, &bad)
    };
    paths.into_iter().filter(is_worse).map(str::to_owned).collect()
}

fn key(d: &Diagnostic) -> String {
    format!("{} {} {}", d.file.as_ref().map_or("", |file| file.path.as_str()), d.code, d.message)
}

fn told(d: &Diagnostic, fix: &Fix) -> String {
    let (line, column) = d.file.as_ref().map_or((0, 0), |file| file.line_column(fix.span.start));
    let path = d.file.as_ref().map_or("", |file| file.path.as_str());
    let old = d.file.as_ref().and_then(|file| file.text.get(fix.span.clone())).unwrap_or_default();
    let what = if old.is_empty() {
        format!("added `{}`", fix.replacement.trim())
    } else {
        format!("`{old}` is now `{}`", fix.replacement)
    };
    format!("{path}:{line}:{column}: {what} ({})", d.code)
}

/// Replaces a file by a rename, if it still holds what the edits were made for.
fn write(path: &Path, before: &str, after: &str) -> Result<(), SessionError> {
    let failed = |error: &std::io::Error| {
        SessionError::usage(format!("`{}` can't be mended: {error}", path.display())).hint("nothing of it was changed")
    };
    // A link stays a link: what it leads to is replaced.
    let real: PathBuf = path.canonicalize().map_err(|error| failed(&error))?;
    let written = fs::read_to_string(&real).map_err(|error| failed(&error))?;
    let (mark, text) = match written.strip_prefix('\u{feff}') {
        Some(text) => ("\u{feff}", text),
        None => ("", written.as_str()),
    };
    if text != before {
        let error = SessionError::usage(format!("`{}` was changed while it was checked", path.display()));
        return Err(error.hint("run the command again"));
    }
    let folder = real.parent().unwrap_or_else(|| Path::new("."));
    let save = || -> std::io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(mark.as_bytes())?;
        file.write_all(after.as_bytes())?;
        file.as_file().set_permissions(fs::metadata(&real)?.permissions())?;
        file.as_file().sync_all()?;
        file.persist(&real).map_err(|error| error.error)?;
        Ok(())
    };
    save().map_err(|error| failed(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(file: &std::sync::Arc<SourceFile>, span: std::ops::Range<usize>, text: &str) -> Diagnostic {
        let mut d = Diagnostic::error(Code::UnknownKey, format!("at {}", span.start)).at(file, span.clone());
        d.fix = Some(Fix { span, replacement: text.to_owned() });
        d
    }

    #[test]
    fn edits_that_overlap_or_touch_wait_for_the_next_round() {
        let file = SourceFile::new("a", "one two three");
        let found = [
            finding(&file, 8..13, "3"),
            finding(&file, 0..3, "1"),
            finding(&file, 2..5, "x"),
            finding(&file, 0..3, "1"),
        ];
        let plan = plan(&found, &HashSet::new());
        let (file, edits) = &plan["a"];
        assert_eq!(edited(file, edits), "1 two 3");
        assert!(diff(&found).contains("-one two three\n") && diff(&found).contains("+1 two 3\n"));
    }

    #[test]
    fn a_file_keeps_its_mark_and_its_permissions() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.yaml");
        fs::write(&path, "\u{feff}a: b").unwrap();
        write(&path, "a: b", "a: c").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "\u{feff}a: c");
        assert!(write(&path, "a: b", "a: d").is_err(), "it holds something else by now");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
