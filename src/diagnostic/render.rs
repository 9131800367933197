//! Findings as text.

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use super::{Diagnostic, Severity};

/// A finding with its place and a caret, as compilers show it; ends without a newline.
pub fn human(diagnostic: &Diagnostic, colour: bool, width: usize) -> String {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let path = diagnostic.source.path.display().to_string();
    let title = level.primary_title(diagnostic.message.as_str()).id(diagnostic.code.as_str());
    let mut group: Group<'_> = match &diagnostic.span {
        Some(span) => {
            let snippet = Snippet::source(diagnostic.source.text.as_str()).path(path.as_str()).fold(true);
            title.element(snippet.annotation(AnnotationKind::Primary.span(visible(&diagnostic.source.text, span))))
        }
        None => title.element(annotate_snippets::Origin::path(path.as_str())),
    };
    if let Some(help) = &diagnostic.help {
        group = group.element(Level::HELP.message(help.as_str()));
    }
    let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
    renderer.decor_style(DecorStyle::Ascii).term_width(width).render(&[group])
}

/// A span as a caret can show it: inside the text, on one line, not empty where the text allows.
fn visible(text: &str, span: &std::ops::Range<usize>) -> std::ops::Range<usize> {
    let start = floor(text, span.start);
    let line_end = text.get(start..).and_then(|rest| rest.find('\n')).map_or(text.len(), |i| start + i);
    let end = floor(text, span.end).min(line_end).max(start);
    let shown = text.get(start..end).map_or(end, |part| start + part.trim_end().len());
    if shown > start { start..shown } else { start..start }
}

fn floor(text: &str, mut at: usize) -> usize {
    at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// A finding on one line: `pipelines/a.yaml:3:5: error[ORCH0201]: unknown key …`.
pub fn one_line(diagnostic: &Diagnostic) -> String {
    let place = match diagnostic.line_column() {
        Some((line, column)) => format!(":{line}:{column}"),
        None => String::new(),
    };
    let help = diagnostic.help.as_ref().map_or_else(String::new, |help| format!(" ({help})"));
    format!(
        "{}{place}: {}[{}]: {}{help}",
        diagnostic.source.path.display(),
        diagnostic.severity.as_str(),
        diagnostic.code,
        diagnostic.message
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::{Code, Source};

    #[test]
    fn a_finding_shows_its_line_with_a_caret() {
        let source = Source::new("pipelines/a.yaml", "name: x\nsteps:\n  - idd: plan\n");
        let finding =
            Diagnostic::new(Code::UnknownKey, "unknown key `idd`", &source, Some(19..22)).help("did you mean `id`?");
        let text = human(&finding, false, 80);
        assert!(text.starts_with("error[ORCH0201]: unknown key `idd`\n --> pipelines/a.yaml:3:5\n"), "{text}");
        assert!(text.contains("3 |   - idd: plan\n  |     ^^^"), "{text}");
        assert!(text.contains("help: did you mean `id`?"), "{text}");
        assert_eq!(one_line(&finding), "pipelines/a.yaml:3:5: error[ORCH0201]: unknown key `idd` (did you mean `id`?)");
    }
}
