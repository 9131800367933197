//! Explains each code with a wrong and a right example. `docs/checks.md` is generated from these explanations.
//!
//! The entries are in `explain/`, one file per group of codes. Every example is a small project that a test checks.

use std::fmt::Write as _;

use super::Code;

/// The introduction of the page, with the project that the examples belong to.
const INTRODUCTION: &str = include_str!("explain/base.md");

/// The paragraph for `{mutations}` in the introduction: how many mistakes the check reports. The test of the mutations
/// (`tests/it/mutations/`) writes it.
const MUTATION_FIGURES: &str = include_str!("explain/mutations.md");

/// The entries, one text per group of codes.
const GROUPS: &[&str] = &[
    include_str!("explain/reading.md"),
    include_str!("explain/shape.md"),
    include_str!("explain/steps.md"),
    include_str!("explain/templates.md"),
    include_str!("explain/schemas.md"),
    include_str!("explain/types.md"),
    include_str!("explain/models.md"),
    include_str!("explain/suppressions.md"),
];

/// A file of an example.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExampleFile {
    /// Whether the file belongs to the wrong example; otherwise it belongs to the right one.
    pub is_wrong: bool,
    /// The path relative to the project.
    pub path: &'static str,
    /// The content of the file.
    pub text: &'static str,
}

/// The explanation of a code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The explanation in Markdown, without the examples.
    pub text: &'static str,
    /// The files of the wrong and of the right example; empty if text can't show the mistake.
    pub files: Vec<ExampleFile>,
}

/// Returns the explanation of a code, or `None` for a code without an entry. A test checks that each code has one.
pub fn explanation(code: Code) -> Option<Explanation> {
    let heading = format!("\n# {code}\n");
    let entry = GROUPS.iter().find_map(|group| group.split_once(heading.as_str()))?.1;
    let entry = entry.split("\n# ORCH").next().unwrap_or(entry);
    Some(Explanation { text: entry.split("\n```").next().unwrap_or(entry).trim(), files: example_files(entry) })
}

/// Returns the files of the project that the examples belong to.
pub fn example_project() -> Vec<ExampleFile> {
    example_files(INTRODUCTION)
}

/// Renders the entry of a code as Markdown: its title, its explanation and its examples.
pub fn render_explanation(code: Code) -> String {
    let mut out = format!("{code}: {}\n", code.title());
    let Some(entry) = explanation(code) else { return out };
    let _ = write!(out, "\n{}\n", entry.text);
    for (is_wrong, title) in [(true, "Wrong"), (false, "Right")] {
        for (i, file) in entry.files.iter().filter(|file| file.is_wrong == is_wrong).enumerate() {
            let title = if i == 0 { format!("{title}, ") } else { "with ".to_owned() };
            let _ = write!(out, "\n{title}`{}`:\n\n{}", file.path, fenced_block(file));
        }
    }
    out
}

/// Renders the page of all codes as Markdown.
pub fn render_all_explanations() -> String {
    let introduction = INTRODUCTION.split("\n```").next().unwrap_or(INTRODUCTION).trim();
    let mut out = format!("# Checks\n\n{}\n", introduction.replace("{mutations}", MUTATION_FIGURES.trim()));
    for file in example_project() {
        let _ = write!(out, "\n`{}`:\n\n{}", file.path, fenced_block(&file));
    }
    for group in GROUPS {
        let title = group.lines().next().unwrap_or_default().trim_start_matches("= ");
        let _ = write!(out, "\n## {title}\n");
        for code in Code::ALL.iter().filter(|code| group.contains(&format!("\n# {code}\n"))) {
            let _ = write!(out, "\n### {}", render_explanation(*code));
        }
    }
    out
}

/// Parses the fenced blocks of an entry. The first line of a block is ```` ```LANGUAGE wrong|right PATH ````.
fn example_files(entry: &'static str) -> Vec<ExampleFile> {
    let blocks = entry.split("\n```").skip(1).step_by(2);
    let parse_block = |block: &'static str| {
        let (info, text) = block.split_once('\n')?;
        let mut attributes = info.split(' ').skip(1);
        // The split removed the line break before the closing fence.
        Some(ExampleFile { is_wrong: attributes.next()? == "wrong", path: attributes.next()?, text })
    };
    blocks.filter_map(parse_block).collect()
}

fn fenced_block(file: &ExampleFile) -> String {
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
            let has_examples = [true, false].map(|is_wrong| entry.files.iter().any(|file| file.is_wrong == is_wrong));
            // The examples are short UTF-8 texts without links, so they can't show these mistakes.
            let cannot_be_shown = matches!(code, Code::NotUtf8 | Code::FileTooLarge | Code::LinkOutsideProject);
            assert_eq!(has_examples, [!cannot_be_shown, !cannot_be_shown], "{code}");
        }
    }

    #[test]
    fn each_entry_has_a_code() {
        let is_heading_of_code = |line: &str| Code::ALL.iter().any(|code| line == format!("# {code}"));
        let lines = GROUPS.iter().flat_map(|group| group.lines()).filter(|line| line.starts_with("# ORCH"));
        for line in lines {
            assert!(is_heading_of_code(line), "{line} belongs to no code");
        }
        assert_eq!(render_all_explanations().matches("\n### ORCH").count(), Code::ALL.len());
    }
}
