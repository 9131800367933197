//! The tools `edit` and `write`, which change one file of the workspace.

use crate::files::{AppliedFile, ChangeKind, ChangeSet, FileState, MAX_BYTES, diff};
use crate::model::counted;
use crate::process::shorten_middle;

use super::arguments::{EditArguments, WriteArguments};
use super::job::{FileJob, ToolError};
use super::nearest::explain_missing;
use super::output::RawOutput;

/// The maximum size of the diff in the result of an edit, in bytes.
const MAX_DIFF_BYTES: usize = 8 << 10;
/// The maximum number of lines that a message names.
const MAX_NAMED_LINES: usize = 10;

/// Replaces a text in a file.
pub(super) fn edit(job: &FileJob, arguments: &EditArguments) -> Result<RawOutput, ToolError> {
    let path = job.writable_path(&arguments.path)?;
    // Planning an empty file checks the path and reads the existing file.
    let planned = job.plan(&path, String::new())?;
    let Some(before) = previous_state(&planned) else {
        return Err(ToolError::Refused(format!(
            "`{path}` does not exist, and `edit` changes only existing files; check the path, or create the file with \
             `write` if you have this tool"
        )));
    };
    let Some(text) = before.content.text() else {
        return Err(ToolError::Refused(format!(
            "`{path}` is not UTF-8 text, so `edit` can't change it; leave it as it is, or replace the whole file"
        )));
    };
    let (new_text, lines) = replace(&path, text, arguments)?;
    let change_set = job.plan(&path, new_text)?;
    if previous_state(&change_set) != Some(before) {
        return Err(ToolError::Refused(format!("`{path}` was changed by another process just now; read it again")));
    }
    // Comparing a large file takes time, in which the call can still end without a change.
    // A part of a secret at the cut would not be recognized.
    let changes = job.redactor.redact(&diff(&change_set));
    job.apply(&change_set)?;
    let count = lines.len();
    let occurrences = if count == 1 { "occurrence" } else { "occurrences" };
    let shown = shorten_middle(&changes, MAX_DIFF_BYTES);
    let note =
        if shown.len() == changes.len() { "" } else { "[the diff is shortened; read the file to see the rest]\n" };
    let text = format!("Replaced {count} {occurrences} in `{path}`, in {}.\n{shown}{note}", name_lines(&lines));
    Ok(RawOutput { change_set: Some(change_set), ..RawOutput::new(text) })
}

/// The state of the only file of a change set before the change.
fn previous_state(change_set: &ChangeSet) -> Option<&FileState> {
    change_set.files.first()?.before.as_ref()
}

/// Replaces the text. Returns the new text of the file, and the numbers of the lines in which `old` began.
fn replace(path: &str, text: &str, arguments: &EditArguments) -> Result<(String, Vec<usize>), String> {
    if arguments.old.is_empty() {
        return Err(
            "`old` is empty, so there is nothing to replace; write the text to replace, or use `write` for a whole \
                    file"
                .to_owned(),
        );
    }
    let (old, new) = with_line_ends_of(text, &arguments.old, &arguments.new);
    if old == new {
        return Err("`old` and `new` are the same, so nothing was changed; write another text as `new`".to_owned());
    }
    let positions: Vec<usize> = text.match_indices(&old).map(|(position, _)| position).collect();
    if positions.is_empty() {
        return Err(explain_missing(path, text, &arguments.old));
    }
    let lines = line_numbers(text, &positions);
    if positions.len() > 1 && !arguments.all {
        return Err(format!(
            "`old` occurs {} times in `{path}`, in {}; add lines around it so that it occurs once, or set `all` to \
             replace every occurrence",
            positions.len(),
            name_lines(&lines)
        ));
    }
    let kept_bytes = text.len() - positions.len() * old.len();
    let size = positions.len().saturating_mul(new.len()).saturating_add(kept_bytes);
    if size as u64 > MAX_BYTES {
        return Err(format!("`{path}` would have {size} bytes, and {MAX_BYTES} are the most; insert a shorter text"));
    }
    Ok((text.replace(&old, &new), lines))
}

/// Converts the line ends of `old` and `new` to those of a file whose lines end with CRLF. The result of `read` does
/// not contain the CR.
fn with_line_ends_of(text: &str, old: &str, new: &str) -> (String, String) {
    let converted = old.replace('\n', "\r\n");
    if !text.contains(old) && !old.contains('\r') && text.contains(&converted) {
        return (converted, new.replace("\r\n", "\n").replace('\n', "\r\n"));
    }
    (old.to_owned(), new.to_owned())
}

/// The numbers of the lines with these byte positions, which are in ascending order.
fn line_numbers(text: &str, positions: &[usize]) -> Vec<usize> {
    let (mut line, mut counted) = (1, 0);
    let mut numbers = Vec::with_capacity(positions.len());
    for position in positions {
        line += text.get(counted..*position).unwrap_or_default().matches('\n').count();
        counted = *position;
        numbers.push(line);
    }
    numbers
}

/// The numbers as a phrase: `line 3`, `lines 3, 10`, `lines 3, 10 and 2 more`.
fn name_lines(lines: &[usize]) -> String {
    let numbers: Vec<String> = lines.iter().take(MAX_NAMED_LINES).map(ToString::to_string).collect();
    let more = match lines.len() - numbers.len() {
        0 => String::new(),
        count => format!(" and {count} more"),
    };
    format!("{} {}{more}", if lines.len() == 1 { "line" } else { "lines" }, numbers.join(", "))
}

/// Writes a whole file.
pub(super) fn write(job: &FileJob, arguments: &WriteArguments) -> Result<RawOutput, ToolError> {
    let path = job.writable_path(&arguments.path)?;
    if arguments.content.len() as u64 > MAX_BYTES {
        let size = arguments.content.len();
        let message = format!("`content` has {size} bytes, and {MAX_BYTES} are the most; write several smaller files");
        return Err(ToolError::Refused(message));
    }
    let change_set = job.plan(&path, arguments.content.clone())?;
    let report = job.apply(&change_set)?;
    let Some(file) = report.files.first() else {
        return Err(ToolError::Refused(format!("`{path}` was not written, because of a defect of orch; try it again")));
    };
    if file.change == ChangeKind::Unchanged {
        return Ok(RawOutput::new(format!("`{path}` already has this content.\n")));
    }
    let text = describe_written(&path, &arguments.content, file);
    Ok(RawOutput { change_set: Some(change_set), ..RawOutput::new(text) })
}

fn describe_written(path: &str, content: &str, file: &AppliedFile) -> String {
    let (lines, bytes) = (counted(content.lines().count(), "line"), counted(content.len(), "byte"));
    if file.before.is_none() {
        return format!("Created `{path}`: {lines}, {bytes}.\n");
    }
    let (added, removed) = (file.added, counted(file.removed, "line"));
    format!("Replaced `{path}`: {lines}, {bytes} (+{added} −{removed}).\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(old: &str, new: &str, all: bool) -> EditArguments {
        EditArguments { path: "f".to_owned(), old: old.to_owned(), new: new.to_owned(), all }
    }

    #[test]
    fn only_a_unique_text_is_replaced_unless_all_is_set() {
        let text = "a = 1\nb = 1\nc = 2\n";
        assert_eq!(replace("f", text, &arguments("2", "3", false)), Ok(("a = 1\nb = 1\nc = 3\n".to_owned(), vec![3])));
        let error = replace("f", text, &arguments("= 1", "= 0", false)).unwrap_err();
        assert!(error.starts_with("`old` occurs 2 times in `f`, in lines 1, 2; add lines around it"), "{error}");
        let (all, lines) = replace("f", text, &arguments("= 1", "= 0", true)).unwrap();
        assert_eq!((all.as_str(), lines), ("a = 0\nb = 0\nc = 2\n", vec![1, 2]));
        assert!(replace("f", text, &arguments("", "x", true)).unwrap_err().contains("`old` is empty"));
        assert!(replace("f", text, &arguments("2", "2", true)).unwrap_err().contains("are the same"));
    }

    #[test]
    fn lines_beyond_the_limit_are_counted() {
        let name = |count: usize| name_lines(&(1..=count).collect::<Vec<_>>());
        assert_eq!((name(1).as_str(), name(2).as_str()), ("line 1", "lines 1, 2"));
        assert!(name(MAX_NAMED_LINES + 1).ends_with("9, 10 and 1 more"), "{}", name(MAX_NAMED_LINES + 1));
    }

    #[test]
    fn the_line_ends_of_the_file_are_kept() {
        let text = "a\r\nb\r\nc\r\n";
        let (replaced, lines) = replace("f", text, &arguments("a\nb", "x\ny\nz", false)).unwrap();
        assert_eq!((replaced.as_str(), lines), ("x\r\ny\r\nz\r\nc\r\n", vec![1]));
        let (replaced, _) = replace("f", text, &arguments("b", "x", false)).unwrap();
        assert_eq!(replaced, "a\r\nx\r\nc\r\n");
    }

    #[test]
    fn a_replacement_that_would_fill_the_memory_is_refused() {
        let text = "x".repeat(100_000);
        let error = replace("f", &text, &arguments("x", &"y".repeat(100_000), true)).unwrap_err();
        assert!(error.contains("would have 10000000000 bytes"), "{error}");
    }
}
