//! Renders findings as SARIF 2.1.0, which code hosts and editors read.
//!
//! The rules are the whole table of codes, so the index of a rule is its position in the table.

use std::fmt::Write as _;
use std::ops::Range;

use serde_json::{Map, Value, json};

use super::{Code, Diagnostic, Fix, SourceFile, explain, explanation, floor_boundary};

const SCHEMA: &str = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json";

/// One SARIF log, whose single run contains all findings.
pub fn sarif(list: &[Diagnostic]) -> Value {
    json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "orch",
                "semanticVersion": env!("CARGO_PKG_VERSION"),
                "rules": Code::ALL.iter().map(|code| rule(*code)).collect::<Vec<_>>(),
            } },
            "columnKind": "unicodeCodePoints",
            "invocations": [{ "executionSuccessful": true }],
            "results": list.iter().map(result).collect::<Vec<_>>(),
        }],
    })
}

fn rule(code: Code) -> Value {
    let whole = explanation(code).map_or(code.title(), |entry| entry.text);
    json!({
        "id": code.as_str(),
        "shortDescription": { "text": code.title() },
        "fullDescription": { "text": whole },
        "help": { "text": format!("orch explain {code}"), "markdown": explain(code) },
    })
}

fn result(d: &Diagnostic) -> Value {
    let mut text = d.message.clone();
    for help in &d.help {
        let _ = write!(text, "\n{help}");
    }
    let mut out = Map::new();
    out.insert("ruleId".to_owned(), json!(d.code.as_str()));
    out.insert("ruleIndex".to_owned(), json!(Code::ALL.iter().position(|code| *code == d.code)));
    out.insert("level".to_owned(), json!(d.severity.as_str()));
    out.insert("message".to_owned(), json!({ "text": text }));
    if let Some(file) = &d.file {
        out.insert("locations".to_owned(), json!([{ "physicalLocation": physical(file, d.span.as_ref()) }]));
        if let Some(fix) = &d.fix {
            out.insert("fixes".to_owned(), json!([fixed(file, fix)]));
        }
    }
    if !d.labels.is_empty() {
        let related = d.labels.iter().enumerate().map(|(id, label)| {
            json!({
                "id": id,
                "message": { "text": label.text },
                "physicalLocation": physical(&label.file, Some(&label.span)),
            })
        });
        out.insert("relatedLocations".to_owned(), related.collect());
    }
    Value::Object(out)
}

fn physical(file: &SourceFile, span: Option<&Range<usize>>) -> Value {
    let artifact = json!({ "uri": uri(&file.path) });
    match span {
        None => json!({ "artifactLocation": artifact }),
        Some(span) => json!({ "artifactLocation": artifact, "region": region(file, span, true) }),
    }
}

fn region(file: &SourceFile, span: &Range<usize>, snippet: bool) -> Value {
    let start = floor_boundary(&file.text, span.start);
    let end = floor_boundary(&file.text, span.end.max(start));
    let ((line, column), (end_line, end_column)) = (file.line_column(start), file.line_column(end));
    let mut out = json!({ "startLine": line, "startColumn": column, "endLine": end_line, "endColumn": end_column });
    if snippet && let Some(map) = out.as_object_mut() {
        map.insert("snippet".to_owned(), json!({ "text": file.text.get(start..end).unwrap_or_default() }));
    }
    out
}

fn fixed(file: &SourceFile, fix: &Fix) -> Value {
    let words = if fix.span.is_empty() { "write" } else { "replace by" };
    json!({
        "description": { "text": format!("{words} `{}`", fix.replacement.trim()) },
        "artifactChanges": [{
            "artifactLocation": { "uri": uri(&file.path) },
            "replacements": [{
                "deletedRegion": region(file, &fix.span, false),
                "insertedContent": { "text": fix.replacement },
            }],
        }],
    })
}

/// A path as a URI reference. A relative path stays relative; an absolute path becomes a `file:` URI.
fn uri(path: &str) -> String {
    let mut out = String::new();
    let drive = path.get(1..3) == Some(":/");
    if path.starts_with('/') {
        out.push_str("file://");
    } else if drive {
        out.push_str("file:///");
    }
    let path = path.strip_prefix("./").unwrap_or(path);
    for byte in path.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'/' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            b':' if drive => out.push(':'),
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
    fn places_fixes_and_related_places_are_told() {
        let file = SourceFile::new("a b/p.yaml", "é: codr\n");
        let d = Diagnostic::error(Code::UnknownAgent, "unknown agent `codr`")
            .at(&file, 4..8)
            .also(&file, 0..2, "here")
            .suggest("codr", ["coder"]);
        let log = sarif(&[d]);
        let result = &log["runs"][0]["results"][0];
        let place = &result["locations"][0]["physicalLocation"];
        assert_eq!(place["artifactLocation"]["uri"], "a%20b/p.yaml");
        assert_eq!(
            place["region"],
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
        assert_eq!(uri("./a/b.yaml"), "a/b.yaml");
        assert_eq!(uri("/tmp/ä.yaml"), "file:///tmp/%C3%A4.yaml");
        assert_eq!(uri("C:/x"), "file:///C:/x");
    }
}
