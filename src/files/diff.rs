//! Renders a [`ChangeSet`] as a unified diff that `git apply` accepts, except for binary files.

use similar::{Algorithm, DiffOp, DiffTag, capture_diff_slices, group_diff_ops};

use super::format_mode;
use super::record::{ChangeKind, ChangeSet, FileChange, FileState};

/// Lines of context around a change.
const CONTEXT_LINES: usize = 3;

/// The maximum number of changed lines that orch compares with one another. It shows a larger number as one replaced
/// block.
const MAX_COMPARED_LINES: usize = 400_000;

/// Renders a change set as one unified diff in git's format; empty if nothing changes. The diff names a binary file
/// without its bytes, so `git apply` refuses a diff with a binary file.
pub fn diff(change_set: &ChangeSet) -> String {
    change_set.files.iter().filter(|change| change.kind() != ChangeKind::Unchanged).map(render_file).collect()
}

/// Counts the added and removed lines between two texts.
pub(super) fn count_changed_lines(before: &str, after: &str) -> (usize, usize) {
    let ops = diff_operations(&lines(before), &lines(after));
    ops.iter()
        .filter(|op| op.tag() != DiffTag::Equal)
        .fold((0, 0), |(added, removed), op| (added + op.new_range().len(), removed + op.old_range().len()))
}

/// Splits a text into lines. They end at `\n` alone, as in git, and include it.
fn lines(text: &str) -> Vec<&str> {
    text.split_inclusive('\n').collect()
}

fn diff_operations(old: &[&str], new: &[&str]) -> Vec<DiffOp> {
    let prefix_len = old.iter().zip(new).take_while(|(old, new)| old == new).count();
    let (old_tail, new_tail) = (&old[prefix_len..], &new[prefix_len..]);
    let suffix_len = old_tail.iter().rev().zip(new_tail.iter().rev()).take_while(|(old, new)| old == new).count();
    let (old_len, new_len) = (old_tail.len() - suffix_len, new_tail.len() - suffix_len);
    if old_len + new_len <= MAX_COMPARED_LINES {
        return capture_diff_slices(Algorithm::Myers, old, new);
    }
    let ops = [
        DiffOp::Equal { old_index: 0, new_index: 0, len: prefix_len },
        DiffOp::Replace { old_index: prefix_len, old_len, new_index: prefix_len, new_len },
        DiffOp::Equal { old_index: prefix_len + old_len, new_index: prefix_len + new_len, len: suffix_len },
    ];
    ops.into_iter().filter(|op| !(op.old_range().is_empty() && op.new_range().is_empty())).collect()
}

fn render_file(change: &FileChange) -> String {
    let (old_path, new_path) = (quote_path("a/", &change.path), quote_path("b/", &change.path));
    let mut out = format!("diff --git {old_path} {new_path}\n");
    // git tracks only the executable bit of a regular file's mode, as 100644 or 100755. `git apply` expects this form.
    let git_mode = |state: &FileState| match state.mode {
        Some(mode) if mode & 0o100 != 0 => "100755".to_owned(),
        _ => "100644".to_owned(),
    };
    let (mut old_header, mut new_header) = (old_path.as_str(), new_path.as_str());
    match (&change.before, &change.after) {
        (None, Some(after)) => {
            out.push_str(&format!("new file mode {}\n", git_mode(after)));
            old_header = "/dev/null";
        }
        (Some(before), None) => {
            out.push_str(&format!("deleted file mode {}\n", git_mode(before)));
            new_header = "/dev/null";
        }
        (Some(before), Some(after)) if git_mode(before) != git_mode(after) => {
            out.push_str(&format!("old mode {}\nnew mode {}\n", git_mode(before), git_mode(after)));
        }
        (Some(before), Some(after)) if before.content == after.content => {
            let octal_mode = |state: &FileState| format_mode(state.mode.unwrap_or_default());
            return format!(
                "# {}: mode {} becomes {}\n",
                quote_path("", &change.path),
                octal_mode(before),
                octal_mode(after)
            );
        }
        _ => {}
    }
    let text = |state: &'_ Option<FileState>| match state {
        Some(state) => state.content.text().map(str::to_owned),
        None => Some(String::new()),
    };
    match (text(&change.before), text(&change.after)) {
        (Some(before), Some(after)) if before == after => {}
        (Some(before), Some(after)) => {
            out.push_str(&format!("--- {}\n+++ {}\n", header_path(old_header), header_path(new_header)));
            render_hunks(&mut out, &lines(&before), &lines(&after));
        }
        _ => out.push_str(&format!("Binary files {old_header} and {new_header} differ\n")),
    }
    out
}

/// A path as git writes it: in quotes, with escapes, if it contains a quote, a backslash or a control character. The
/// files that a CLI agent creates may have such names.
fn quote_path(prefix: &str, path: &str) -> String {
    if !path.contains(|c: char| matches!(c, '"' | '\\') || c.is_ascii_control()) {
        return format!("{prefix}{path}");
    }
    let mut quoted = format!("\"{prefix}");
    for c in path.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            _ if c.is_ascii_control() => quoted.push_str(&format!("\\{:03o}", u32::from(c))),
            _ => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// A path for a `---` or `+++` line: git adds a tab to a path that contains spaces.
fn header_path(path: &str) -> String {
    if path.contains(' ') { format!("{path}\t") } else { path.to_owned() }
}

fn render_hunks(out: &mut String, old: &[&str], new: &[&str]) {
    for group in group_diff_ops(diff_operations(old, new), CONTEXT_LINES) {
        let (Some(first), Some(last)) = (group.first(), group.last()) else { continue };
        let removed = first.old_range().start..last.old_range().end;
        let added = first.new_range().start..last.new_range().end;
        out.push_str(&format!("@@ -{} +{} @@\n", hunk_range(&removed), hunk_range(&added)));
        for op in &group {
            if op.tag() == DiffTag::Equal {
                write_lines(out, ' ', &old[op.old_range()]);
            } else {
                write_lines(out, '-', &old[op.old_range()]);
                write_lines(out, '+', &new[op.new_range()]);
            }
        }
    }
}

/// The range of lines in the header of a hunk. An empty range starts with the number of the line before it.
fn hunk_range(range: &std::ops::Range<usize>) -> String {
    match range.len() {
        0 => format!("{},0", range.start),
        1 => format!("{}", range.start + 1),
        len => format!("{},{len}", range.start + 1),
    }
}

fn write_lines(out: &mut String, sign: char, lines: &[&str]) {
    for line in lines {
        out.push(sign);
        out.push_str(line);
        if !line.ends_with('\n') {
            out.push_str("\n\\ No newline at end of file\n");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change_set(before: Option<&[u8]>, after: Option<&[u8]>) -> ChangeSet {
        let state = |bytes: Option<&[u8]>| bytes.map(|bytes| FileState { content: bytes.to_vec().into(), mode: None });
        let change = FileChange { path: "a b".to_owned(), before: state(before), after: state(after) };
        ChangeSet { files: vec![change], new_folders: Vec::new() }
    }

    #[test]
    fn a_missing_final_newline_is_marked() {
        assert_eq!(
            diff(&change_set(None, Some(b"x\ny"))),
            "diff --git a/a b b/a b\nnew file mode 100644\n--- /dev/null\n+++ b/a b\t\n@@ -0,0 +1,2 @@\n+x\n+y\n\\ No newline at end of file\n"
        );
    }

    #[test]
    fn only_newlines_end_lines() {
        let text = diff(&change_set(Some(b"a\rb\r\nc\r"), Some(b"a\rb\r\nd\r")));
        assert!(text.ends_with(
            "@@ -1,2 +1,2 @@\n a\rb\r\n-c\r\n\\ No newline at end of file\n+d\r\n\\ No newline at end of file\n"
        ));
        assert_eq!(count_changed_lines("a\rb\r\nc\r", "a\rb\r\nd\r"), (1, 1));
    }

    #[test]
    fn binary_contents_are_not_shown() {
        assert!(diff(&change_set(Some(&[0xff]), Some(b"x"))).ends_with("Binary files a/a b and b/a b differ\n"));
    }

    #[test]
    fn special_characters_in_paths_are_quoted_as_in_git() {
        for (path, quoted) in [
            ("a'é", "b/a'é"),
            ("a\"b", r#""b/a\"b""#),
            ("a\\b", r#""b/a\\b""#),
            ("a\nb\tc\u{1b}", r#""b/a\nb\tc\033""#),
        ] {
            assert_eq!(quote_path("b/", path), quoted);
        }
    }

    #[test]
    fn very_long_texts_are_shown_as_replaced() {
        let text =
            |word: &str| (0..MAX_COMPARED_LINES).map(|index| format!("{word} {}\n", index % 7)).collect::<String>();
        let (old, new) = (format!("same\n{}", text("x")), format!("same\n{}end\n", text("y")));
        assert_eq!(count_changed_lines(&old, &new), (MAX_COMPARED_LINES + 1, MAX_COMPARED_LINES));
        assert_eq!(count_changed_lines(&old, &format!("{old}end\n")), (1, 0));
    }
}
