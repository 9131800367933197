//! Encodes plain values as messages to the client.

use std::ops::Range;
use std::path::Path;
use std::str::FromStr as _;

use lsp_types as lsp;
use serde::Serialize;
use serde_json::{Value, json};

use super::actions::CodeAction;
use super::completion::{Completion, CompletionKind};
use super::definition_target::DefinitionTarget;
use super::documents::Documents;
use super::hover::Hover;
use super::incoming::ClientCapabilities;
use super::positions::{Encoding, LineIndex, Position};
use super::symbols::Symbol;
use crate::diagnostic::{Code, Diagnostic, Severity};
use crate::model::visible::{escape_line_breaks, escape_unsafe};

/// Encodes the server's capabilities, as the result of `initialize`.
pub(super) fn encode_capabilities(client: &ClientCapabilities) -> Value {
    let encoding = match client.encoding {
        Encoding::Utf8 => "utf-8",
        Encoding::Utf16 => "utf-16",
    };
    json!({
        "capabilities": {
            "positionEncoding": encoding,
            "textDocumentSync": { "openClose": true, "change": 2, "save": {} },
            "completionProvider": { "triggerCharacters": [".", "[", "\"", "'", "|", "/", " ", "{", "#"] },
            "hoverProvider": true,
            "definitionProvider": true,
            "referencesProvider": true,
            "documentSymbolProvider": true,
            "codeActionProvider": { "codeActionKinds": ["quickfix", "source.fixAll"] },
            "workspace": { "workspaceFolders": { "supported": true, "changeNotifications": true } }
        },
        "serverInfo": { "name": "orch", "version": env!("CARGO_PKG_VERSION") }
    })
}

/// Encodes the parameters that register the server for file changes on the disk.
pub(super) fn encode_watch_registration() -> Value {
    let globs = ["**/*.{yaml,yml}", "**/prompts/**", "**/schemas/**"];
    let watchers: Vec<Value> = globs.iter().map(|glob| json!({ "globPattern": glob })).collect();
    let method = "workspace/didChangeWatchedFiles";
    json!({ "registrations": [{ "id": "files", "method": method, "registerOptions": { "watchers": watchers } }] })
}

fn to_value(value: impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

fn lsp_position(position: Position) -> lsp::Position {
    lsp::Position { line: position.line, character: position.character }
}

fn lsp_range(lines: &LineIndex<'_>, range: &Range<usize>) -> lsp::Range {
    let (start, end) = lines.range(range);
    lsp::Range { start: lsp_position(start), end: lsp_position(end) }
}

/// Encodes the findings for a file, as the parameters of `textDocument/publishDiagnostics`.
pub(super) fn encode_findings(
    uri: &str,
    version: Option<i32>,
    findings: &[Diagnostic],
    client: &ClientCapabilities,
    documents: &Documents,
) -> Value {
    let source_file = findings.iter().find_map(|finding| finding.file.clone());
    let lines = source_file.as_ref().map(|file| LineIndex::new(&file.text, client.encoding));
    let diagnostics: Vec<Value> =
        findings.iter().map(|finding| encode_finding(finding, lines.as_ref(), client, documents)).collect();
    let mut params = json!({ "uri": uri, "diagnostics": diagnostics });
    if let (Some(version), Some(map)) = (version, params.as_object_mut()) {
        map.insert("version".to_owned(), version.into());
    }
    params
}

/// Escapes the special characters of a line, because editors show them unescaped.
fn sanitize_line(line: &str) -> String {
    escape_unsafe(&escape_line_breaks(line)).into_owned()
}

/// Encodes one finding. The message also contains the help, because the protocol has no field for help.
fn encode_finding(
    finding: &Diagnostic,
    lines: Option<&LineIndex<'_>>,
    client: &ClientCapabilities,
    documents: &Documents,
) -> Value {
    let range = match (lines, &finding.span) {
        (Some(lines), Some(span)) => lsp_range(lines, span),
        _ => lsp::Range::default(),
    };
    let severity = match finding.severity {
        Severity::Error => lsp::DiagnosticSeverity::ERROR,
        Severity::Warning => lsp::DiagnosticSeverity::WARNING,
    };
    let message_lines = std::iter::once(finding.message.clone()).chain(finding.label.clone());
    let message_lines = message_lines.chain(finding.help.iter().map(|help| format!("help: {help}")));
    let message = message_lines.map(|line| sanitize_line(&line)).collect::<Vec<_>>().join("\n");
    let labels = finding.related.iter().filter(|_| client.supports_related_information).filter_map(|label| {
        let lines = LineIndex::new(&label.file.text, client.encoding);
        let location = to_location(Path::new(&label.file.path), lsp_range(&lines, &label.span), documents)?;
        Some(lsp::DiagnosticRelatedInformation { location, message: sanitize_line(&label.text) })
    });
    let labels: Vec<_> = labels.collect();
    let is_unused = matches!(finding.code, Code::UnusedInput | Code::UnusedAgent | Code::UnusedSuppression);
    to_value(lsp::Diagnostic {
        range,
        severity: Some(severity),
        code: Some(lsp::NumberOrString::String(finding.code.as_str().to_owned())),
        source: Some("orch".to_owned()),
        message,
        related_information: (!labels.is_empty()).then_some(labels),
        tags: is_unused.then(|| vec![lsp::DiagnosticTag::UNNECESSARY]),
        ..lsp::Diagnostic::default()
    })
}

fn to_location(path: &Path, range: lsp::Range, documents: &Documents) -> Option<lsp::Location> {
    let uri = lsp::Uri::from_str(&documents.uri(path)?).ok()?;
    Some(lsp::Location { uri, range })
}

/// Encodes the completions for the cursor.
pub(super) fn encode_completions(
    completions: &[Completion],
    lines: &LineIndex<'_>,
    client: &ClientCapabilities,
) -> Value {
    let items = completions.iter().enumerate().map(|(index, completion)| {
        let kind = match completion.kind {
            CompletionKind::Key => lsp::CompletionItemKind::FIELD,
            CompletionKind::Value => lsp::CompletionItemKind::ENUM_MEMBER,
            CompletionKind::Variable => lsp::CompletionItemKind::VARIABLE,
            CompletionKind::Property => lsp::CompletionItemKind::PROPERTY,
            CompletionKind::Agent => lsp::CompletionItemKind::CLASS,
            CompletionKind::File => lsp::CompletionItemKind::FILE,
            CompletionKind::Function => lsp::CompletionItemKind::FUNCTION,
            CompletionKind::Keyword => lsp::CompletionItemKind::KEYWORD,
        };
        let edit = lsp::TextEdit {
            range: lsp_range(lines, &completion.replace_range),
            new_text: completion.insert_text.clone(),
        };
        lsp::CompletionItem {
            label: completion.label.clone(),
            kind: Some(kind),
            detail: Some(sanitize_line(&completion.detail)).filter(|detail| !detail.is_empty()),
            documentation: completion.documentation.clone().map(|text| to_documentation(text, client)),
            // Editors sort by this text. It preserves orch's order, in which required keys are first.
            sort_text: Some(format!("{index:04}")),
            filter_text: Some(completion.label.clone()),
            text_edit: Some(lsp::CompletionTextEdit::Edit(edit)),
            ..lsp::CompletionItem::default()
        }
    });
    to_value(lsp::CompletionList { is_incomplete: false, items: items.collect() })
}

fn to_documentation(text: String, client: &ClientCapabilities) -> lsp::Documentation {
    lsp::Documentation::MarkupContent(to_markup(text, client))
}

fn to_markup(value: String, client: &ClientCapabilities) -> lsp::MarkupContent {
    let kind = if client.supports_markdown { lsp::MarkupKind::Markdown } else { lsp::MarkupKind::PlainText };
    lsp::MarkupContent { kind, value: escape_unsafe(&value).into_owned() }
}

/// Encodes the result of a hover request.
pub(super) fn encode_hover(hover: Option<Hover>, lines: &LineIndex<'_>, client: &ClientCapabilities) -> Value {
    let result = hover.map(|hover| lsp::Hover {
        contents: lsp::HoverContents::Markup(to_markup(hover.text, client)),
        range: Some(lsp_range(lines, &hover.span)),
    });
    to_value(result)
}

/// Encodes locations in files.
pub(super) fn encode_locations(
    targets: &[DefinitionTarget],
    client: &ClientCapabilities,
    documents: &Documents,
) -> Value {
    let locations = targets.iter().filter_map(|target| {
        let lines = LineIndex::new(&target.file.text, client.encoding);
        to_location(Path::new(&target.file.path), lsp_range(&lines, &target.span), documents)
    });
    to_value(locations.collect::<Vec<_>>())
}

/// Encodes the document symbols of a file.
pub(super) fn encode_symbols(list: &[Symbol], lines: &LineIndex<'_>) -> Value {
    let encoded = list.iter().map(|symbol| {
        json!({
            "name": sanitize_line(&symbol.name),
            "detail": sanitize_line(&symbol.detail),
            "kind": if symbol.is_group { lsp::SymbolKind::NAMESPACE } else { lsp::SymbolKind::FUNCTION },
            "range": lsp_range(lines, &symbol.range),
            "selectionRange": lsp_range(lines, &symbol.name_range),
            "children": encode_symbols(&symbol.children, lines),
        })
    });
    encoded.collect()
}

/// Encodes code actions that fix findings.
pub(super) fn encode_code_actions(
    actions: &[CodeAction],
    uri: &str,
    client: &ClientCapabilities,
    documents: &Documents,
) -> Value {
    let encoded = actions.iter().map(|action| {
        let lines = LineIndex::new(&action.file.text, client.encoding);
        let edits: Vec<Value> = action
            .edits
            .iter()
            .map(|fix| json!({ "range": lsp_range(&lines, &fix.span), "newText": fix.replacement }))
            .collect();
        let diagnostics: Vec<Value> = action
            .fixed_findings
            .iter()
            .map(|finding| encode_finding(finding, Some(&lines), client, documents))
            .collect();
        json!({
            "title": action.title,
            "kind": action.kind,
            "isPreferred": action.kind == "quickfix" && action.edits.iter().all(|fix| fix.is_safe),
            "diagnostics": diagnostics,
            "edit": { "changes": { uri: edits } },
        })
    });
    encoded.collect()
}
