//! Renders findings as SARIF 2.1.0, which code hosts and editors can display.
//!
//! The rules are the complete table of codes, so the index of a rule is its position in the table.

use std::fmt::Write as _;
use std::ops::Range;

use serde_json::{Map, Value, json};

use super::{Code, Diagnostic, Fix, SourceFile, explanation, floor_char_boundary};

const SCHEMA: &str = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json";

/// Renders one SARIF log, whose single run contains all findings.
pub fn render_sarif(findings: &[Diagnostic]) -> Value {
    json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "orch",
                "semanticVersion": env!("CARGO_PKG_VERSION"),
                "rules": Code::ALL.iter().map(|code| sarif_rule(*code)).collect::<Vec<_>>(),
            } },
            "columnKind": "unicodeCodePoints",
            "invocations": [{ "executionSuccessful": true }],
            "results": findings.iter().map(sarif_result).collect::<Vec<_>>(),
        }],
    })
}

fn sarif_rule(code: Code) -> Value {
    let description = explanation(code).map_or(code.title(), |entry| entry.text);
    json!({
        "id": code.as_str(),
        "shortDescription": { "text": code.title() },
        "fullDescription": { "text": description },
        "help": { "text": format!("orch explain {code}"), "markdown": super::render_explanation(code) },
    })
}

fn sarif_result(finding: &Diagnostic) -> Value {
    let mut text = finding.message.clone();
    for help in &finding.help {
        let _ = write!(text, "\n{help}");
    }
    let mut out = Map::new();
    out.insert("ruleId".to_owned(), json!(finding.code.as_str()));
    out.insert("ruleIndex".to_owned(), json!(Code::ALL.iter().position(|code| *code == finding.code)));
    out.insert("level".to_owned(), json!(finding.severity.as_str()));
    out.insert("message".to_owned(), json!({ "text": text }));
    if let Some(file) = &finding.file {
        out.insert(
            "locations".to_owned(),
            json!([{ "physicalLocation": physical_location(file, finding.span.as_ref()) }]),
        );
        if let Some(fix) = &finding.fix {
            out.insert("fixes".to_owned(), json!([sarif_fix(file, fix)]));
        }
    }
    if !finding.related.is_empty() {
        let related = finding.related.iter().enumerate().map(|(id, label)| {
            json!({
                "id": id,
                "message": { "text": label.text },
                "physicalLocation": physical_location(&label.file, Some(&label.span)),
            })
        });
        out.insert("relatedLocations".to_owned(), related.collect());
    }
    Value::Object(out)
}

fn physical_location(file: &SourceFile, span: Option<&Range<usize>>) -> Value {
    let artifact = json!({ "uri": uri_reference(&file.path) });
    match span {
        None => json!({ "artifactLocation": artifact }),
        Some(span) => json!({ "artifactLocation": artifact, "region": region(file, span, true) }),
    }
}

fn region(file: &SourceFile, span: &Range<usize>, include_snippet: bool) -> Value {
    let start = floor_char_boundary(&file.text, span.start);
    let end = floor_char_boundary(&file.text, span.end.max(start));
    let ((line, column), (end_line, end_column)) = (file.line_column(start), file.line_column(end));
    let mut out = json!({ "startLine": line, "startColumn": column, "endLine": end_line, "endColumn": end_column });
    if include_snippet && let Some(map) = out.as_object_mut() {
        map.insert("snippet".to_owned(), json!({ "text": file.text.get(start..end).unwrap_or_default() }));
    }
    out
}

fn sarif_fix(file: &SourceFile, fix: &Fix) -> Value {
    let verb = if fix.span.is_empty() { "insert" } else { "replace with" };
    json!({
        "description": { "text": format!("{verb} `{}`", fix.replacement.trim()) },
        "artifactChanges": [{
            "artifactLocation": { "uri": uri_reference(&file.path) },
            "replacements": [{
                "deletedRegion": region(file, &fix.span, false),
                "insertedContent": { "text": fix.replacement },
            }],
        }],
    })
}

/// Converts a path to a URI reference. A relative path stays relative; an absolute path becomes a `file:` URI.
fn uri_reference(path: &str) -> String {
    let mut out = String::new();
    let has_drive = path.get(1..3) == Some(":/");
    if path.starts_with('/') {
        out.push_str("file://");
    } else if has_drive {
        out.push_str("file:///");
    }
    let path = path.strip_prefix("./").unwrap_or(path);
    for byte in path.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'/' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            b':' if has_drive => out.push(':'),
            other => {
                let _ = write!(out, "%{other:02X}");
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_fixes_and_related_locations_are_included() {
        let file = SourceFile::new("a b/p.yaml", "é: codr\n");
        let finding = Diagnostic::error(Code::UnknownAgent, "unknown agent `codr`")
            .with_span(&file, 4..8)
            .with_secondary_label(&file, 0..2, "here")
            .with_suggestion("codr", ["coder"]);
        let log = render_sarif(&[finding]);
        let result = &log["runs"][0]["results"][0];
        let location = &result["locations"][0]["physicalLocation"];
        assert_eq!(location["artifactLocation"]["uri"], "a%20b/p.yaml");
        assert_eq!(
            location["region"],
            json!({ "startLine": 1, "startColumn": 4, "endLine": 1, "endColumn": 8, "snippet": { "text": "codr" } })
        );
        let index = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
        assert_eq!(log["runs"][0]["tool"]["driver"]["rules"][index]["id"], "ORCH0304");
        assert_eq!(
            result["fixes"][0]["artifactChanges"][0]["replacements"][0]["insertedContent"]["text"],
            json!("coder")
        );
        assert_eq!(result["relatedLocations"][0]["message"]["text"], "here");
    }

    #[test]
    fn paths_become_uri_references() {
        assert_eq!(uri_reference("./a/b.yaml"), "a/b.yaml");
        assert_eq!(uri_reference("/tmp/ä.yaml"), "file:///tmp/%C3%A4.yaml");
        assert_eq!(uri_reference("C:/x"), "file:///C:/x");
    }
}
