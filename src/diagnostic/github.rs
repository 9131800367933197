//! Renders findings as workflow commands of GitHub Actions, which appear as annotations on the changed lines.

use crate::model::visible::escape_unsafe;

use super::{Diagnostic, Severity};

/// Renders each finding as one command on its own line. Without findings, the result is empty.
pub fn render_github(findings: &[Diagnostic]) -> String {
    findings.iter().map(workflow_command).collect()
}

fn workflow_command(finding: &Diagnostic) -> String {
    let name = match finding.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    let mut properties = Vec::new();
    if let Some(file) = &finding.file {
        properties.push(format!("file={}", escape_property(&file.path)));
        if let Some(span) = &finding.span {
            let (line, column) = file.line_column(span.start);
            let (end_line, end_column) = file.line_column(span.end.max(span.start));
            properties.push(format!("line={line},col={column}"));
            // GitHub rejects an end column if the end is on another line than the start.
            if line == end_line && end_column > column {
                properties.push(format!("endLine={line},endColumn={end_column}"));
            }
        }
    }
    properties.push(format!("title={}", escape_property(finding.code.as_str())));
    let lines: Vec<&str> = std::iter::once(&finding.message).chain(&finding.help).map(String::as_str).collect();
    format!("::{name} {}::{}\n", properties.join(","), escape_data(&lines.join("\n")))
}

fn escape_data(text: &str) -> String {
    escape_unsafe(text).replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

fn escape_property(text: &str) -> String {
    escape_data(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::{Code, SourceFile};

    #[test]
    fn a_command_is_one_line_for_any_text() {
        let file = SourceFile::new("a,b:c.yaml", "x: 100%\ny");
        let finding =
            Diagnostic::error(Code::UnknownArtifact, "`100%` is\nwrong: no").with_span(&file, 3..7).with_help("fix it");
        assert_eq!(
            render_github(&[finding]),
            "::error file=a%2Cb%3Ac.yaml,line=1,col=4,endLine=1,endColumn=8,title=ORCH0305::`100%25` is%0Awrong: \
             no%0Afix it\n"
        );
    }

    #[test]
    fn a_finding_without_a_location_has_only_a_title() {
        let finding = Diagnostic::warning(Code::UnusedInput, "unused");
        assert_eq!(render_github(&[finding]), "::warning title=ORCH0310::unused\n");
        assert_eq!(render_github(&[]), "");
    }
}
