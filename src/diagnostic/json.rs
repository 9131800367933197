//! Renders findings as JSON: one finding, or all findings with their counts.

use std::ops::Range;

use serde_json::{Value, json};

use super::{Diagnostic, SourceFile};

/// Renders one finding as JSON. A location is `{path, start, end, line, column}`; `start` and `end` are byte offsets.
pub fn to_json(d: &Diagnostic) -> Value {
    let mut out = json!({
        "code": d.code.as_str(),
        "title": d.code.title(),
        "severity": d.severity.as_str(),
        "message": d.message,
    });
    let mut insert = |key: &str, value: Value| {
        if let Some(map) = out.as_object_mut() {
            map.insert(key.to_owned(), value);
        }
    };
    if let Some(file) = &d.file {
        insert("location", location_json(file, d.span.as_ref()));
    }
    if let Some(label) = &d.label {
        insert("label", json!(label));
    }
    if !d.related.is_empty() {
        let related = d
            .related
            .iter()
            .map(|label| json!({"text": label.text, "location": location_json(&label.file, Some(&label.span))}));
        insert("related", related.collect());
    }
    if !d.help.is_empty() {
        insert("help", json!(d.help));
    }
    if let Some(fix) = &d.fix {
        insert("fix", json!({"start": fix.span.start, "end": fix.span.end, "replacement": fix.replacement}));
    }
    out
}

/// Renders a complete check as JSON: the checked files, the counts, and all findings.
pub fn json_report(checked: &[String], findings: &[Diagnostic]) -> Value {
    let errors = findings.iter().filter(|d| d.is_error()).count();
    json!({
        "checked": checked,
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
