//! Encodes plain values as messages to the client.

use std::ops::Range;
use std::path::Path;
use std::str::FromStr as _;

use lsp_types as lsp;
use serde::Serialize;
use serde_json::{Value, json};

use super::actions::CodeAction;
use super::complete::{Choice, CompletionKind};
use super::definition::DefinitionTarget;
use super::documents::Documents;
use super::hover::Hover;
use super::incoming::Client;
use super::positions::{Encoding, LineIndex, Position};
use super::symbols::Symbol;
use crate::diagnostic::{Code, Diagnostic, Severity, is_certain};
use crate::model::visible::{one_line, visible};

/// The server's capabilities, as the answer to `initialize`.
pub(super) fn capabilities(client: &Client) -> Value {
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

/// The request that the client report file changes on the disk.
pub(super) fn watch() -> Value {
    let globs = ["**/*.{yaml,yml}", "**/prompts/**", "**/schemas/**"];
    let watchers: Vec<Value> = globs.iter().map(|glob| json!({ "globPattern": glob })).collect();
    let method = "workspace/didChangeWatchedFiles";
    json!({ "registrations": [{ "id": "files", "method": method, "registerOptions": { "watchers": watchers } }] })
}

fn plain(value: impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

fn point(position: Position) -> lsp::Position {
    lsp::Position { line: position.line, character: position.character }
}

fn range(lines: &LineIndex<'_>, range: &Range<usize>) -> lsp::Range {
    let (start, end) = lines.range(range);
    lsp::Range { start: point(start), end: point(end) }
}

/// The findings for a file, as the parameters of `textDocument/publishDiagnostics`.
pub(super) fn findings(
    uri: &str,
    version: Option<i32>,
    found: &[Diagnostic],
    client: &Client,
    documents: &Documents,
) -> Value {
    let text = found.iter().find_map(|d| d.file.clone());
    let lines = text.as_ref().map(|file| LineIndex::new(&file.text, client.encoding));
    let each: Vec<Value> = found.iter().map(|d| finding(d, lines.as_ref(), client, documents)).collect();
    let mut params = json!({ "uri": uri, "diagnostics": each });
    if let (Some(version), Some(map)) = (version, params.as_object_mut()) {
        map.insert("version".to_owned(), version.into());
    }
    params
}

/// Escapes a line of a message, because editors show it without escaping.
fn shown(line: &str) -> String {
    visible(&one_line(line)).into_owned()
}

/// One finding. Its message contains the help too, because editors do not show help in any other field.
fn finding(d: &Diagnostic, lines: Option<&LineIndex<'_>>, client: &Client, documents: &Documents) -> Value {
    let place = match (lines, &d.span) {
        (Some(lines), Some(span)) => range(lines, span),
        _ => lsp::Range::default(),
    };
    let severity = match d.severity {
        Severity::Error => lsp::DiagnosticSeverity::ERROR,
        Severity::Warning => lsp::DiagnosticSeverity::WARNING,
    };
    let words = std::iter::once(d.message.clone()).chain(d.label.clone());
    let words = words.chain(d.help.iter().map(|help| format!("help: {help}")));
    let message = words.map(|line| shown(&line)).collect::<Vec<_>>().join("\n");
    let labels = d.labels.iter().filter(|_| client.related).filter_map(|label| {
        let lines = LineIndex::new(&label.file.text, client.encoding);
        let location = location(Path::new(&label.file.path), range(&lines, &label.span), documents)?;
        Some(lsp::DiagnosticRelatedInformation { location, message: shown(&label.text) })
    });
    let labels: Vec<_> = labels.collect();
    let unused = matches!(d.code, Code::UnusedInput | Code::UnusedAgent);
    plain(lsp::Diagnostic {
        range: place,
        severity: Some(severity),
        code: Some(lsp::NumberOrString::String(d.code.as_str().to_owned())),
        source: Some("orch".to_owned()),
        message,
        related_information: (!labels.is_empty()).then_some(labels),
        tags: unused.then(|| vec![lsp::DiagnosticTag::UNNECESSARY]),
        ..lsp::Diagnostic::default()
    })
}

fn location(path: &Path, range: lsp::Range, documents: &Documents) -> Option<lsp::Location> {
    let uri = lsp::Uri::from_str(&documents.uri(path)?).ok()?;
    Some(lsp::Location { uri, range })
}

/// The completions for a position.
pub(super) fn choices(list: &[Choice], lines: &LineIndex<'_>, client: &Client) -> Value {
    let items = list.iter().enumerate().map(|(index, choice)| {
        let kind = match choice.sort {
            CompletionKind::Key => lsp::CompletionItemKind::FIELD,
            CompletionKind::Value => lsp::CompletionItemKind::ENUM_MEMBER,
            CompletionKind::Variable => lsp::CompletionItemKind::VARIABLE,
            CompletionKind::Property => lsp::CompletionItemKind::PROPERTY,
            CompletionKind::Agent => lsp::CompletionItemKind::CLASS,
            CompletionKind::File => lsp::CompletionItemKind::FILE,
            CompletionKind::Function => lsp::CompletionItemKind::FUNCTION,
            CompletionKind::Keyword => lsp::CompletionItemKind::KEYWORD,
        };
        let edit = lsp::TextEdit { range: range(lines, &choice.replace), new_text: choice.insert.clone() };
        lsp::CompletionItem {
            label: choice.label.clone(),
            kind: Some(kind),
            detail: Some(shown(&choice.detail)).filter(|detail| !detail.is_empty()),
            documentation: choice.about.clone().map(|about| documentation(about, client)),
            // Editors sort by this text. It preserves orch's order, in which required keys come first.
            sort_text: Some(format!("{index:04}")),
            filter_text: Some(choice.label.clone()),
            text_edit: Some(lsp::CompletionTextEdit::Edit(edit)),
            ..lsp::CompletionItem::default()
        }
    });
    plain(lsp::CompletionList { is_incomplete: false, items: items.collect() })
}

fn documentation(about: String, client: &Client) -> lsp::Documentation {
    lsp::Documentation::MarkupContent(markup(about, client))
}

fn markup(value: String, client: &Client) -> lsp::MarkupContent {
    let kind = if client.markdown { lsp::MarkupKind::Markdown } else { lsp::MarkupKind::PlainText };
    lsp::MarkupContent { kind, value: visible(&value).into_owned() }
}

/// The answer to a hover request.
pub(super) fn hover(found: Option<Hover>, lines: &LineIndex<'_>, client: &Client) -> Value {
    let each = found.map(|hover| lsp::Hover {
        contents: lsp::HoverContents::Markup(markup(hover.text, client)),
        range: Some(range(lines, &hover.span)),
    });
    plain(each)
}

/// Ranges in files.
pub(super) fn places(list: &[DefinitionTarget], client: &Client, documents: &Documents) -> Value {
    let each = list.iter().filter_map(|target| {
        let lines = LineIndex::new(&target.file.text, client.encoding);
        location(Path::new(&target.file.path), range(&lines, &target.span), documents)
    });
    plain(each.collect::<Vec<_>>())
}

/// The outline of a file.
pub(super) fn symbols(list: &[Symbol], lines: &LineIndex<'_>) -> Value {
    let each = list.iter().map(|symbol| {
        json!({
            "name": shown(&symbol.name),
            "detail": shown(&symbol.detail),
            "kind": if symbol.group { lsp::SymbolKind::NAMESPACE } else { lsp::SymbolKind::FUNCTION },
            "range": range(lines, &symbol.whole),
            "selectionRange": range(lines, &symbol.name_at),
            "children": symbols(&symbol.children, lines),
        })
    });
    each.collect()
}

/// Code actions that fix findings.
pub(super) fn actions(list: &[CodeAction], uri: &str, client: &Client, documents: &Documents) -> Value {
    let each = list.iter().map(|action| {
        let lines = LineIndex::new(&action.file.text, client.encoding);
        let edits: Vec<Value> = action
            .edits
            .iter()
            .map(|fix| json!({ "range": range(&lines, &fix.span), "newText": fix.replacement }))
            .collect();
        let diagnostics: Vec<Value> =
            action.fixes.iter().map(|d| finding(d, Some(&lines), client, documents)).collect();
        json!({
            "title": action.title,
            "kind": action.kind,
            "isPreferred": action.kind == "quickfix" && action.fixes.iter().all(is_certain),
            "diagnostics": diagnostics,
            "edit": { "changes": { uri: edits } },
        })
    });
    each.collect()
}
