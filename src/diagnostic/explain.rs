//! Explains each code, with a wrong and a right example; the source of `docs/checks.md`.
//!
//! The entries are in `explain/`, one file per group of codes. Every example is a small project that a test checks.

use std::fmt::Write as _;

use super::Code;

/// The beginning of the page, with the project that the examples belong to.
const BASE: &str = include_str!("explain/base.md");

/// The entries, one text per group of codes.
const GROUPS: &[&str] = &[
    include_str!("explain/reading.md"),
    include_str!("explain/shape.md"),
    include_str!("explain/steps.md"),
    include_str!("explain/templates.md"),
    include_str!("explain/schemas.md"),
    include_str!("explain/types.md"),
    include_str!("explain/models.md"),
];

/// A file of an example.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExampleFile {
    /// Whether the file belongs to the wrong example; otherwise it belongs to the right one.
    pub wrong: bool,
    /// The path relative to the project.
    pub path: &'static str,
    /// The content of the file.
    pub text: &'static str,
}

/// The explanation of a code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// A few sentences in Markdown.
    pub text: &'static str,
    /// The files of the wrong and of the right example; empty if text can't show the mistake.
    pub files: Vec<ExampleFile>,
}

/// The explanation of a code; `None` for a code without an entry, which a test rules out.
pub fn explanation(code: Code) -> Option<Explanation> {
    let mark = format!("\n# {code}\n");
    let entry = GROUPS.iter().find_map(|group| group.split_once(mark.as_str()))?.1;
    let entry = entry.split("\n# ORCH").next().unwrap_or(entry);
    Some(Explanation { text: entry.split("\n```").next().unwrap_or(entry).trim(), files: files(entry) })
}

/// The files of the project that the examples belong to.
pub fn example_base() -> Vec<ExampleFile> {
    files(BASE)
}

/// The entry of a code as Markdown: its title, its meaning, its examples.
pub fn explain(code: Code) -> String {
    let mut out = format!("{code}: {}\n", code.title());
    let Some(entry) = explanation(code) else { return out };
    let _ = write!(out, "\n{}\n", entry.text);
    for (wrong, title) in [(true, "Wrong"), (false, "Right")] {
        for (i, file) in entry.files.iter().filter(|file| file.wrong == wrong).enumerate() {
            let title = if i == 0 { format!("{title}, ") } else { "with ".to_owned() };
            let _ = write!(out, "\n{title}`{}`:\n\n{}", file.path, fenced(file));
        }
    }
    out
}

/// The page of all codes, as Markdown.
pub fn explain_all() -> String {
    let mut out = format!("# Checks\n\n{}\n", BASE.split("\n```").next().unwrap_or(BASE).trim());
    for file in example_base() {
        let _ = write!(out, "\n`{}`:\n\n{}", file.path, fenced(&file));
    }
    for group in GROUPS {
        let title = group.lines().next().unwrap_or_default().trim_start_matches("= ");
        let _ = write!(out, "\n## {title}\n");
        for code in Code::ALL.iter().filter(|code| group.contains(&format!("\n# {code}\n"))) {
            let _ = write!(out, "\n### {}", explain(*code));
        }
    }
    out
}

/// The fenced blocks of an entry, whose first line is ```` ```LANGUAGE wrong|right PATH ````.
fn files(entry: &'static str) -> Vec<ExampleFile> {
    let blocks = entry.split("\n```").skip(1).step_by(2);
    let file = |block: &'static str| {
        let (info, text) = block.split_once('\n')?;
        let mut words = info.split(' ').skip(1);
        // The split took the line break before the closing fence.
        Some(ExampleFile { wrong: words.next()? == "wrong", path: words.next()?, text })
    };
    blocks.filter_map(file).collect()
}

fn fenced(file: &ExampleFile) -> String {
    let language = match file.path.rsplit('.').next() {
        Some("yaml") => "yaml",
        Some("json") => "json",
        _ => "text",
    };
    format!("```{language}\n{}\n```\n", file.text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_has_an_entry_and_an_example_where_text_can_show_it() {
        for code in Code::ALL {
            let entry = explanation(*code).unwrap_or_else(|| panic!("{code} has no entry in src/diagnostic/explain/"));
            assert!(entry.text.ends_with('.') && !entry.text.contains("# ORCH"), "{code}: {}", entry.text);
            let shown = [true, false].map(|wrong| entry.files.iter().any(|file| file.wrong == wrong));
            // The examples are short UTF-8 texts without links, so they can't show these mistakes.
            let unshown = matches!(code, Code::NotText | Code::TooLarge | Code::LinkOutside);
            assert_eq!(shown, [!unshown, !unshown], "{code}");
        }
    }

    #[test]
    fn each_entry_has_a_code() {
        let known = |line: &str| Code::ALL.iter().any(|code| line == format!("# {code}"));
        let lines = GROUPS.iter().flat_map(|group| group.lines()).filter(|line| line.starts_with("# ORCH"));
        for line in lines {
            assert!(known(line), "{line} is the entry of no code");
        }
        assert_eq!(explain_all().matches("\n### ORCH").count(), Code::ALL.len());
    }
}
