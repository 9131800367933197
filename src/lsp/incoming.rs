//! Decodes the client's messages to plain values, so that only this module and `outgoing` depend on `lsp_types`.

use std::path::PathBuf;

use lsp_types as lsp;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::documents::{DocumentChange, path_of};
use super::positions::{Encoding, Position};
use super::wire::Refusal;

/// The capabilities of the client that the server makes use of.
#[derive(Clone, Debug, Default)]
pub(super) struct Client {
    pub(super) encoding: Encoding,
    /// Whether the client watches files at the server's request.
    pub(super) watches: bool,
    /// Whether the client renders Markdown.
    pub(super) markdown: bool,
    /// Whether the client shows related places beside a finding.
    pub(super) related: bool,
    /// Whether the client accepts code actions with edits, and not only commands.
    pub(super) literals: bool,
}

pub(super) fn parse<T: DeserializeOwned>(params: Value) -> Result<T, Refusal> {
    serde_json::from_value(params).map_err(Refusal::params)
}

/// Decodes `initialize`.
pub(super) fn client(params: Value) -> Result<Client, Refusal> {
    let asked: lsp::InitializeParams = parse(params)?;
    let general = asked.capabilities.general.and_then(|general| general.position_encodings).unwrap_or_default();
    let workspace = asked.capabilities.workspace.unwrap_or_default();
    let text = asked.capabilities.text_document.unwrap_or_default();
    let utf8 = general.contains(&lsp::PositionEncodingKind::UTF8);
    let formats = text.hover.and_then(|hover| hover.content_format);
    Ok(Client {
        encoding: if utf8 { Encoding::Utf8 } else { Encoding::Utf16 },
        watches: workspace
            .did_change_watched_files
            .and_then(|watched| watched.dynamic_registration)
            .unwrap_or_default(),
        markdown: formats.is_some_and(|formats| formats.contains(&lsp::MarkupKind::Markdown)),
        related: text.publish_diagnostics.and_then(|publish| publish.related_information).unwrap_or_default(),
        literals: text.code_action.is_some_and(|action| action.code_action_literal_support.is_some()),
    })
}

/// A text that the client opened.
pub(super) struct OpenedDocument {
    pub(super) path: PathBuf,
    pub(super) uri: String,
    pub(super) version: i32,
    pub(super) text: String,
}

/// Decodes `textDocument/didOpen`; returns `None` if the URI does not name a file.
pub(super) fn opened(params: Value) -> Result<Option<OpenedDocument>, Refusal> {
    let document = parse::<lsp::DidOpenTextDocumentParams>(params)?.text_document;
    let uri = document.uri.as_str().to_owned();
    Ok(path_of(&uri).map(|path| OpenedDocument { path, uri, version: document.version, text: document.text }))
}

/// Decodes `textDocument/didChange`: the path, the version and the edits.
pub(super) fn changed(params: Value) -> Result<(Option<PathBuf>, i32, Vec<DocumentChange>), Refusal> {
    let asked: lsp::DidChangeTextDocumentParams = parse(params)?;
    let each = asked.content_changes.into_iter().map(|change| DocumentChange {
        range: change.range.map(|range| (position(range.start), position(range.end))),
        text: change.text,
    });
    Ok((path_of(asked.text_document.uri.as_str()), asked.text_document.version, each.collect()))
}

/// Decodes a message about one text, such as `textDocument/didClose`.
pub(super) fn document(params: Value) -> Result<Option<PathBuf>, Refusal> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Named {
        text_document: lsp::TextDocumentIdentifier,
    }
    Ok(path_of(parse::<Named>(params)?.text_document.uri.as_str()))
}

/// Decodes a request about a position, such as `textDocument/hover`.
pub(super) fn place(params: Value) -> Result<(Option<PathBuf>, Position), Refusal> {
    let asked: lsp::TextDocumentPositionParams = parse(params)?;
    Ok((path_of(asked.text_document.uri.as_str()), position(asked.position)))
}

/// Decodes `textDocument/references`: the path, the position, and whether to include the declaration.
pub(super) fn references(params: Value) -> Result<(Option<PathBuf>, Position, bool), Refusal> {
    let asked: lsp::ReferenceParams = parse(params)?;
    let at = asked.text_document_position;
    Ok((path_of(at.text_document.uri.as_str()), position(at.position), asked.context.include_declaration))
}

/// A request for code actions.
pub(super) struct Actions {
    pub(super) path: Option<PathBuf>,
    pub(super) range: (Position, Position),
    only: Option<Vec<String>>,
}

impl Actions {
    /// Whether the client wants actions of this kind: `quickfix`, `source.fixAll`.
    pub(super) fn wants(&self, kind: &str) -> bool {
        let covers = |asked: &String| {
            kind == asked || kind.strip_prefix(asked.as_str()).is_some_and(|rest| rest.starts_with('.'))
        };
        self.only.as_ref().is_none_or(|only| only.iter().any(covers))
    }
}

/// Decodes `textDocument/codeAction`.
pub(super) fn actions(params: Value) -> Result<Actions, Refusal> {
    let asked: lsp::CodeActionParams = parse(params)?;
    Ok(Actions {
        path: path_of(asked.text_document.uri.as_str()),
        range: (position(asked.range.start), position(asked.range.end)),
        only: asked.context.only.map(|kinds| kinds.iter().map(|kind| kind.as_str().to_owned()).collect()),
    })
}

/// Decodes `workspace/didChangeWatchedFiles`: the paths, and whether each file only changed (and was not created or
/// deleted).
pub(super) fn watched(params: Value) -> Result<Vec<(PathBuf, bool)>, Refusal> {
    let asked: lsp::DidChangeWatchedFilesParams = parse(params)?;
    let each = asked.changes.into_iter();
    Ok(each
        .filter_map(|event| Some((path_of(event.uri.as_str())?, event.typ == lsp::FileChangeType::CHANGED)))
        .collect())
}

/// Decodes `workspace/didChangeWorkspaceFolders`: the folders that were removed.
pub(super) fn removed_folders(params: Value) -> Result<Vec<PathBuf>, Refusal> {
    let asked: lsp::DidChangeWorkspaceFoldersParams = parse(params)?;
    Ok(asked.event.removed.iter().filter_map(|folder| path_of(folder.uri.as_str())).collect())
}

fn position(position: lsp::Position) -> Position {
    Position { line: position.line, character: position.character }
}
