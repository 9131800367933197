//! Renders a finding for people: with its source code, or on one line.

use std::fmt::Write as _;
use std::ops::Range;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{
    Annotation, AnnotationKind, Element, Group, Level, Origin, Patch, Renderer, Snippet, normalize_untrusted_str,
};

use crate::model::{counted, visible};

use super::{Diagnostic, Label, Severity, SourceFile, floor_char_boundary};

/// The style of a rendering for people.
#[derive(Clone, Copy, Debug)]
pub struct RenderStyle {
    /// Whether to use ANSI colours.
    pub colour: bool,
    /// Whether to draw lines with Unicode characters instead of ASCII.
    pub unicode: bool,
    /// The maximum width of a source line, in columns. The rendering leaves out parts of a longer line.
    pub width: usize,
}

impl RenderStyle {
    /// A width that no source line reaches. Not `usize::MAX`: the renderer doubles the width, which would overflow.
    pub const UNLIMITED_WIDTH: usize = 1 << 30;
}

impl Default for RenderStyle {
    /// No colour, ASCII, 80 columns: suitable for snapshots and logs.
    fn default() -> Self {
        Self { colour: false, unicode: false, width: 80 }
    }
}

/// Renders one finding with its source, a caret and its advice. Ends with a line break.
pub fn render(finding: &Diagnostic, style: RenderStyle) -> String {
    let title = level(finding.severity).primary_title(sanitize_line(&finding.message));
    let mut group = title.id(finding.code.as_str()).elements(snippets(finding));
    for help in &finding.help {
        group = group.element(Level::HELP.message(sanitize_line(help)));
    }
    let mut groups = vec![group];
    groups.extend(fix_group(finding));
    let decor = if style.unicode { DecorStyle::Unicode } else { DecorStyle::Ascii };
    let renderer = if style.colour { Renderer::styled() } else { Renderer::plain() };
    let text = renderer.decor_style(decor).term_width(style.width).render(&groups);
    format!(
        "{}\n",
        visible::escape_unsafe_except(&text, |remaining| if style.colour { colour_code_length(remaining) } else { 0 })
    )
}

/// Renders all findings, separated by empty lines.
pub fn render_all(findings: &[Diagnostic], style: RenderStyle) -> String {
    let rendered: Vec<_> = findings.iter().map(|finding| render(finding, style)).collect();
    rendered.join("\n")
}

/// Renders the number of errors and warnings, such as `2 errors, 1 warning`. Without findings, the result is empty.
pub fn render_counts(findings: &[Diagnostic]) -> String {
    let errors = findings.iter().filter(|finding| finding.is_error()).count();
    let counts = [(errors, "error"), (findings.len() - errors, "warning")];
    let present = counts.into_iter().filter(|(count, _)| *count > 0);
    present.map(|(count, noun)| counted(count, noun)).collect::<Vec<_>>().join(", ")
}

/// Renders one finding on one line: `path:line:column: error[CODE]: message (advice)`.
pub fn render_line(finding: &Diagnostic) -> String {
    let mut line = String::new();
    if let Some(file) = &finding.file {
        line.push_str(&file.path);
        line.push(':');
        if let Some((row, column)) = finding.line_column() {
            let _ = write!(line, "{row}:{column}:");
        }
        line.push(' ');
    }
    let _ = write!(line, "{}[{}]: {}", finding.severity.as_str(), finding.code, finding.message);
    if let Some(help) = finding.help.first() {
        let _ = write!(line, " ({help})");
    }
    sanitize_line(&line)
}

fn level(severity: Severity) -> Level<'static> {
    match severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    }
}

/// Returns the source snippets: first the file with the mistake, then the other files in order.
fn snippets(finding: &Diagnostic) -> Vec<Element<'_>> {
    let Some(file) = &finding.file else { return Vec::new() };
    let Some(span) = &finding.span else {
        return vec![Origin::path(sanitize_line(&file.path)).into()];
    };
    let primary = annotation(AnnotationKind::Primary, file, span, finding.label.as_deref());
    let (labels_in_file, other_labels): (Vec<_>, Vec<_>) =
        finding.related.iter().partition(|label| label.file == *file);
    let context = |label: &&Label| {
        let (text, span) = (label.text.clone(), caret_range(&label.file, &label.span));
        AnnotationKind::Context.span(span).label(sanitize_line(&text))
    };
    let mut out = vec![snippet(file).annotation(primary).annotations(labels_in_file.iter().map(context)).into()];
    out.extend(other_labels.iter().map(|label| snippet(&label.file).annotation(context(label)).into()));
    out
}

fn snippet(file: &SourceFile) -> Snippet<'_, Annotation<'_>> {
    Snippet::source(file.text.as_str()).path(sanitize_line(&file.path)).fold(true)
}

fn annotation<'a>(kind: AnnotationKind, file: &SourceFile, span: &Range<usize>, label: Option<&str>) -> Annotation<'a> {
    kind.span(caret_range(file, span)).label(label.map(sanitize_line))
}

/// Returns the part of a span to underline: on character boundaries and on the first line only, because a caret under a
/// whole block is not helpful.
fn caret_range(file: &SourceFile, span: &Range<usize>) -> Range<usize> {
    let start = floor_char_boundary(&file.text, span.start);
    let end = floor_char_boundary(&file.text, span.end.max(start));
    let text = file.text.get(start..end).unwrap_or_default();
    let line = text.split('\n').next().unwrap_or_default().trim_end();
    start..start + line.len()
}

fn fix_group(finding: &Diagnostic) -> Option<Group<'_>> {
    let (fix, file) = (finding.fix.as_ref()?, finding.file.as_ref()?);
    // The help already names the replacement of a word; only an insertion needs a diff.
    if !fix.span.is_empty() {
        return None;
    }
    let start = floor_char_boundary(&file.text, fix.span.start);
    let patch = Snippet::source(file.text.as_str())
        .path(sanitize_line(&file.path))
        .fold(true)
        .patch(Patch::new(start..start, fix.replacement.as_str()));
    Some(Level::HELP.secondary_title("insert this").element(patch))
}

/// Puts the text on one line: a line break in a name must not begin a new line of the message.
fn sanitize_line(text: &str) -> String {
    sanitize(&visible::escape_line_breaks(text))
}

/// Escapes characters that could control the terminal, reorder text or be invisible.
fn sanitize(text: &str) -> String {
    normalize_untrusted_str(&visible::escape_unsafe(text))
}

/// Returns the length of a colour code at the start of the text, or 0. Only the renderer's own codes can occur, because
/// the renderer escapes the escape characters in source lines.
fn colour_code_length(text: &str) -> usize {
    let Some(parameters) = text.strip_prefix("\u{1b}[") else { return 0 };
    let length = parameters.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b';').count();
    if parameters.as_bytes().get(length) == Some(&b'm') { length + 3 } else { 0 }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::diagnostic::{Code, Fix, to_json};

    fn example() -> Diagnostic {
        let file = SourceFile::new("p.yaml", "steps:\n  - id: a\n    agent: codr\n");
        Diagnostic::error(Code::UnknownAgent, "unknown agent `codr`")
            .with_span(&file, 28..32)
            .with_suggestion("codr", ["coder"])
    }

    #[test]
    fn a_rendering_for_people_has_the_source_line_and_a_caret() {
        let text = render(&example(), RenderStyle::default());
        assert_eq!(
            text,
            "error[ORCH0304]: unknown agent `codr`\n --> p.yaml:3:12\n  |\n3 |     agent: codr\n  |            ^^^^\n  |\n  \
             = help: did you mean `coder`?\n"
        );
    }

    #[test]
    fn a_rendering_shows_the_text_to_insert_in_a_diff() {
        let mut finding = example();
        finding.fix = Some(Fix { span: 28..28, replacement: "my_".to_owned(), is_safe: true });
        let text = render(&finding, RenderStyle::default());
        assert!(text.contains("help: insert this"), "{text}");
        assert!(text.contains("my_codr"), "{text}");
    }

    #[test]
    fn one_line_and_json_contain_the_same_information() {
        assert_eq!(
            render_line(&example()),
            "p.yaml:3:12: error[ORCH0304]: unknown agent `codr` (did you mean `coder`?)"
        );
        let data = to_json(&example());
        assert_eq!(data["location"]["line"], json!(3));
        assert_eq!(data["fix"]["replacement"], "coder");
    }

    #[test]
    fn a_rendering_of_unlimited_width_has_the_whole_source_line() {
        let line = format!("# {}", "word ".repeat(100));
        let file = SourceFile::new("p.yaml", line.as_str());
        let finding = Diagnostic::error(Code::UnknownAgent, "no").with_span(&file, 2..6);
        let style = RenderStyle { width: RenderStyle::UNLIMITED_WIDTH, ..RenderStyle::default() };
        assert!(render(&finding, style).contains(line.trim_end()));
        assert!(!render(&finding, RenderStyle::default()).contains(line.trim_end()));
    }

    #[test]
    fn renderings_accept_any_span() {
        let file = SourceFile::new("é", "é\r\nü\u{1b}[0m\t\n");
        for start in 0..14 {
            for end in 0..14 {
                #[allow(clippy::reversed_empty_ranges)]
                let finding = Diagnostic::error(Code::WrongType, "x\u{1b}")
                    .with_span(&file, start..end)
                    .with_secondary_label(&file, end..start, "y");
                for unicode in [false, true] {
                    for width in [10, RenderStyle::UNLIMITED_WIDTH] {
                        render(&finding, RenderStyle { unicode, colour: unicode, width });
                    }
                }
                render_line(&finding);
                to_json(&finding);
            }
        }
    }
}
