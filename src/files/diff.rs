//! Renders a [`ChangeSet`] as a unified diff that `git apply` accepts.

use similar::{Algorithm, DiffOp, DiffTag, capture_diff_slices, group_diff_ops};

use super::record::{ChangeKind, ChangeSet, FileChange, FileState};
use super::shown_mode;

/// Lines of context around a change.
const CONTEXT: usize = 3;

/// With more changed lines than this, orch shows them as replaced and does not compare them one by one.
const COMPARED: usize = 400_000;

/// The changes of a change set as one unified diff in git's format; empty if nothing changes. A binary file is named
/// without its bytes, and that part of the diff can't be applied.
pub fn diff(look: &ChangeSet) -> String {
    look.files.iter().filter(|change| change.kind() != ChangeKind::Unchanged).map(file).collect()
}

/// How many lines are added and removed between two texts.
pub(super) fn counts(before: &str, after: &str) -> (usize, usize) {
    let ops = operations(&lines(before), &lines(after));
    ops.iter()
        .filter(|op| op.tag() != DiffTag::Equal)
        .fold((0, 0), |(added, removed), op| (added + op.new_range().len(), removed + op.old_range().len()))
}

/// Splits a text into lines. They end at `\n` alone, as in git, and include it.
fn lines(text: &str) -> Vec<&str> {
    text.split_inclusive('\n').collect()
}

fn operations(old: &[&str], new: &[&str]) -> Vec<DiffOp> {
    let start = old.iter().zip(new).take_while(|(one, other)| one == other).count();
    let end = old[start..].iter().rev().zip(new[start..].iter().rev()).take_while(|(one, other)| one == other).count();
    let (old_len, new_len) = (old.len() - start - end, new.len() - start - end);
    if old_len + new_len <= COMPARED {
        return capture_diff_slices(Algorithm::Myers, old, new);
    }
    let ops = [
        DiffOp::Equal { old_index: 0, new_index: 0, len: start },
        DiffOp::Replace { old_index: start, old_len, new_index: start, new_len },
        DiffOp::Equal { old_index: start + old_len, new_index: start + new_len, len: end },
    ];
    ops.into_iter().filter(|op| !(op.old_range().is_empty() && op.new_range().is_empty())).collect()
}

fn file(change: &FileChange) -> String {
    let (a, b) = (quoted("a/", &change.path), quoted("b/", &change.path));
    let mut out = format!("diff --git {a} {b}\n");
    // Git has two file modes, and applies a patch only to a file with the mode that the patch names.
    let mode = |state: &FileState| match state.mode {
        Some(mode) if mode & 0o100 != 0 => "100755".to_owned(),
        _ => "100644".to_owned(),
    };
    let (mut from, mut to) = (a.as_str(), b.as_str());
    match (&change.before, &change.after) {
        (None, Some(after)) => {
            out.push_str(&format!("new file mode {}\n", mode(after)));
            from = "/dev/null";
        }
        (Some(before), None) => {
            out.push_str(&format!("deleted file mode {}\n", mode(before)));
            to = "/dev/null";
        }
        (Some(before), Some(after)) if mode(before) != mode(after) => {
            out.push_str(&format!("old mode {}\nnew mode {}\n", mode(before), mode(after)));
        }
        (Some(before), Some(after)) if before.content == after.content => {
            let shown = |state: &FileState| shown_mode(state.mode.unwrap_or_default());
            return format!("# {}: mode {} becomes {}\n", change.path, shown(before), shown(after));
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
            out.push_str(&format!("--- {}\n+++ {}\n", ended(from), ended(to)));
            hunks(&mut out, &lines(&before), &lines(&after));
        }
        _ => out.push_str(&format!("Binary files {from} and {to} differ\n")),
    }
    out
}

/// A path as git writes it: in quotes if it contains one.
fn quoted(side: &str, path: &str) -> String {
    if path.contains('"') { format!("\"{side}{}\"", path.replace('"', "\\\"")) } else { format!("{side}{path}") }
}

/// A path at the end of a `---` or `+++` line: git ends a path that contains spaces with a tab.
fn ended(path: &str) -> String {
    if path.contains(' ') { format!("{path}\t") } else { path.to_owned() }
}

fn hunks(out: &mut String, old: &[&str], new: &[&str]) {
    for group in group_diff_ops(operations(old, new), CONTEXT) {
        let (Some(first), Some(last)) = (group.first(), group.last()) else { continue };
        let removed = first.old_range().start..last.old_range().end;
        let added = first.new_range().start..last.new_range().end;
        out.push_str(&format!("@@ -{} +{} @@\n", span(&removed), span(&added)));
        for op in &group {
            if op.tag() == DiffTag::Equal {
                write(out, ' ', &old[op.old_range()]);
            } else {
                write(out, '-', &old[op.old_range()]);
                write(out, '+', &new[op.new_range()]);
            }
        }
    }
}

/// The range of lines in the header of a hunk; an empty range has the number of the line before it.
fn span(range: &std::ops::Range<usize>) -> String {
    match range.len() {
        0 => format!("{},0", range.start),
        1 => format!("{}", range.start + 1),
        len => format!("{},{len}", range.start + 1),
    }
}

fn write(out: &mut String, sign: char, lines: &[&str]) {
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

    fn look(before: Option<&[u8]>, after: Option<&[u8]>) -> ChangeSet {
        let state = |bytes: Option<&[u8]>| bytes.map(|bytes| FileState { content: bytes.to_vec().into(), mode: None });
        let change = FileChange { path: "a b".to_owned(), before: state(before), after: state(after) };
        ChangeSet { files: vec![change], new_folders: Vec::new() }
    }

    #[test]
    fn a_new_file_without_a_final_newline_says_so() {
        assert_eq!(
            diff(&look(None, Some(b"x\ny"))),
            "diff --git a/a b b/a b\nnew file mode 100644\n--- /dev/null\n+++ b/a b\t\n@@ -0,0 +1,2 @@\n+x\n+y\n\\ No newline at end of file\n"
        );
    }

    #[test]
    fn only_newlines_end_lines() {
        let text = diff(&look(Some(b"a\rb\r\nc\r"), Some(b"a\rb\r\nd\r")));
        assert!(text.ends_with(
            "@@ -1,2 +1,2 @@\n a\rb\r\n-c\r\n\\ No newline at end of file\n+d\r\n\\ No newline at end of file\n"
        ));
        assert_eq!(counts("a\rb\r\nc\r", "a\rb\r\nd\r"), (1, 1));
    }

    #[test]
    fn bytes_that_are_no_text_are_not_shown() {
        assert!(diff(&look(Some(&[0xff]), Some(b"x"))).ends_with("Binary files a/a b and b/a b differ\n"));
    }

    #[test]
    fn texts_of_more_lines_than_are_compared_are_shown_as_replaced() {
        let text = |word: &str| (0..COMPARED).map(|index| format!("{word} {}\n", index % 7)).collect::<String>();
        let (old, new) = (format!("same\n{}", text("x")), format!("same\n{}end\n", text("y")));
        assert_eq!(counts(&old, &new), (COMPARED + 1, COMPARED));
        assert_eq!(counts(&old, &format!("{old}end\n")), (1, 0));
    }
}
