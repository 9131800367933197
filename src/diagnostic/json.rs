//! Renders findings as JSON: one finding, or all findings with their counts.

use std::ops::Range;

use serde_json::{Value, json};

use super::{Diagnostic, SourceFile};

/// Renders one finding as JSON. A location is `{path, start, end, line, column}`; `start` and `end` are byte offsets.
pub fn to_json(finding: &Diagnostic) -> Value {
    let mut out = json!({
        "code": finding.code.as_str(),
        "title": finding.code.title(),
        "severity": finding.severity.as_str(),
        "message": finding.message,
    });
    let mut insert = |key: &str, value: Value| {
        if let Some(map) = out.as_object_mut() {
            map.insert(key.to_owned(), value);
        }
    };
    if let Some(file) = &finding.file {
        insert("location", location_json(file, finding.span.as_ref()));
    }
    if let Some(label) = &finding.label {
        insert("label", json!(label));
    }
    if !finding.related.is_empty() {
        let related = finding
            .related
            .iter()
            .map(|label| json!({"text": label.text, "location": location_json(&label.file, Some(&label.span))}));
        insert("related", related.collect());
    }
    if !finding.help.is_empty() {
        insert("help", json!(finding.help));
    }
    if let Some(fix) = &finding.fix {
        insert("fix", json!({"start": fix.span.start, "end": fix.span.end, "replacement": fix.replacement}));
    }
    out
}

/// Renders a complete check as JSON: the checked files, the counts, and all findings.
pub fn json_report(checked_files: &[String], findings: &[Diagnostic]) -> Value {
    let errors = findings.iter().filter(|finding| finding.is_error()).count();
    json!({
        "checked": checked_files,
        "errors": errors,
        "warnings": findings.len() - errors,
        "findings": findings.iter().map(to_json).collect::<Vec<_>>(),
    })
}

fn location_json(file: &SourceFile, span: Option<&Range<usize>>) -> Value {
    match span {
        None => json!({"path": file.path}),
        Some(span) => {
            let (line, column) = file.line_column(span.start);
            json!({"path": file.path, "start": span.start, "end": span.end, "line": line, "column": column})
        }
    }
}
