//! Renders findings as JSON: a single one, or all of them with their counts.

use std::ops::Range;

use serde_json::{Value, json};

use super::{Diagnostic, SourceFile};

/// One finding as JSON. A place is `{path, start, end, line, column}`; `start` and `end` are byte offsets.
pub fn to_json(d: &Diagnostic) -> Value {
    let mut out = json!({
        "code": d.code.as_str(),
        "title": d.code.title(),
        "severity": d.severity.as_str(),
        "message": d.message,
    });
    let mut put = |key: &str, value: Value| {
        if let Some(map) = out.as_object_mut() {
            map.insert(key.to_owned(), value);
        }
    };
    if let Some(file) = &d.file {
        put("location", place(file, d.span.as_ref()));
    }
    if let Some(label) = &d.label {
        put("label", json!(label));
    }
    if !d.labels.is_empty() {
        let related = d.labels.iter().map(|l| json!({"text": l.text, "location": place(&l.file, Some(&l.span))}));
        put("related", related.collect());
    }
    if !d.help.is_empty() {
        put("help", json!(d.help));
    }
    if let Some(fix) = &d.fix {
        put("fix", json!({"start": fix.span.start, "end": fix.span.end, "replacement": fix.replacement}));
    }
    out
}

/// A whole check as JSON: the files that were checked, the counts, and all findings.
pub fn json_report(checked: &[String], list: &[Diagnostic]) -> Value {
    let errors = list.iter().filter(|d| d.is_error()).count();
    json!({
        "checked": checked,
        "errors": errors,
        "warnings": list.len() - errors,
        "findings": list.iter().map(to_json).collect::<Vec<_>>(),
    })
}

fn place(file: &SourceFile, span: Option<&Range<usize>>) -> Value {
    match span {
        None => json!({"path": file.path}),
        Some(span) => {
            let (line, column) = file.line_column(span.start);
            json!({"path": file.path, "start": span.start, "end": span.end, "line": line, "column": column})
        }
    }
}
