//! Decodes the client's messages to plain values, so that only this module and `outgoing` depend on `lsp_types`.

use std::path::PathBuf;

use lsp_types as lsp;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::documents::{DocumentChange, uri_to_path};
use super::positions::{Encoding, Position};
use super::wire::ResponseError;

/// The capabilities of the client that the server uses.
#[derive(Clone, Debug, Default)]
pub(super) struct ClientCapabilities {
    pub(super) encoding: Encoding,
    /// Whether the client watches files at the server's request.
    pub(super) can_watch_files: bool,
    /// Whether the client renders Markdown.
    pub(super) supports_markdown: bool,
    /// Whether the client shows related locations with a finding.
    pub(super) supports_related_information: bool,
    /// Whether the client accepts code actions with edits instead of commands.
    pub(super) supports_code_action_literals: bool,
}

pub(super) fn decode_params<T: DeserializeOwned>(params: Value) -> Result<T, ResponseError> {
    serde_json::from_value(params).map_err(ResponseError::invalid_params)
}

/// Decodes `initialize`.
pub(super) fn decode_initialize(params: Value) -> Result<ClientCapabilities, ResponseError> {
    let request: lsp::InitializeParams = decode_params(params)?;
    let position_encodings =
        request.capabilities.general.and_then(|general| general.position_encodings).unwrap_or_default();
    let workspace = request.capabilities.workspace.unwrap_or_default();
    let text_document = request.capabilities.text_document.unwrap_or_default();
    let supports_utf8 = position_encodings.contains(&lsp::PositionEncodingKind::UTF8);
    let hover_formats = text_document.hover.and_then(|hover| hover.content_format);
    Ok(ClientCapabilities {
        encoding: if supports_utf8 { Encoding::Utf8 } else { Encoding::Utf16 },
        can_watch_files: workspace
            .did_change_watched_files
            .and_then(|watched| watched.dynamic_registration)
            .unwrap_or_default(),
        supports_markdown: hover_formats.is_some_and(|formats| formats.contains(&lsp::MarkupKind::Markdown)),
        supports_related_information: text_document
            .publish_diagnostics
            .and_then(|publish| publish.related_information)
            .unwrap_or_default(),
        supports_code_action_literals: text_document
            .code_action
            .is_some_and(|action| action.code_action_literal_support.is_some()),
    })
}

/// A document that the client opened.
pub(super) struct OpenedDocument {
    pub(super) path: PathBuf,
    pub(super) uri: String,
    pub(super) version: i32,
    pub(super) text: String,
}

/// Decodes `textDocument/didOpen`; returns `None` if the URI does not name a file.
pub(super) fn decode_did_open(params: Value) -> Result<Option<OpenedDocument>, ResponseError> {
    let document = decode_params::<lsp::DidOpenTextDocumentParams>(params)?.text_document;
    let uri = document.uri.as_str().to_owned();
    Ok(uri_to_path(&uri).map(|path| OpenedDocument { path, uri, version: document.version, text: document.text }))
}

/// Decodes `textDocument/didChange`: the path, the version and the edits.
pub(super) fn decode_did_change(params: Value) -> Result<(Option<PathBuf>, i32, Vec<DocumentChange>), ResponseError> {
    let request: lsp::DidChangeTextDocumentParams = decode_params(params)?;
    let changes = request.content_changes.into_iter().map(|change| DocumentChange {
        range: change.range.map(|range| (convert_position(range.start), convert_position(range.end))),
        text: change.text,
    });
    Ok((uri_to_path(request.text_document.uri.as_str()), request.text_document.version, changes.collect()))
}

/// Decodes a message about one document, such as `textDocument/didClose`.
pub(super) fn decode_document(params: Value) -> Result<Option<PathBuf>, ResponseError> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct DocumentParams {
        text_document: lsp::TextDocumentIdentifier,
    }
    Ok(uri_to_path(decode_params::<DocumentParams>(params)?.text_document.uri.as_str()))
}

/// Decodes a request about a position, such as `textDocument/hover`.
pub(super) fn decode_position(params: Value) -> Result<(Option<PathBuf>, Position), ResponseError> {
    let request: lsp::TextDocumentPositionParams = decode_params(params)?;
    Ok((uri_to_path(request.text_document.uri.as_str()), convert_position(request.position)))
}

/// Decodes `textDocument/references`: the path, the position, and whether to include the declaration.
pub(super) fn decode_references(params: Value) -> Result<(Option<PathBuf>, Position, bool), ResponseError> {
    let request: lsp::ReferenceParams = decode_params(params)?;
    let target = request.text_document_position;
    Ok((
        uri_to_path(target.text_document.uri.as_str()),
        convert_position(target.position),
        request.context.include_declaration,
    ))
}

/// A request for code actions.
pub(super) struct CodeActionRequest {
    pub(super) path: Option<PathBuf>,
    pub(super) range: (Position, Position),
    requested_kinds: Option<Vec<String>>,
}

impl CodeActionRequest {
    /// Returns whether the client requests actions of a kind, such as `quickfix` or `source.fixAll`.
    pub(super) fn includes_kind(&self, kind: &str) -> bool {
        let includes_kind = |requested: &String| {
            kind == requested
                || kind.strip_prefix(requested.as_str()).is_some_and(|remaining| remaining.starts_with('.'))
        };
        self.requested_kinds.as_ref().is_none_or(|kinds| kinds.iter().any(includes_kind))
    }
}

/// Decodes `textDocument/codeAction`.
pub(super) fn decode_code_action(params: Value) -> Result<CodeActionRequest, ResponseError> {
    let request: lsp::CodeActionParams = decode_params(params)?;
    Ok(CodeActionRequest {
        path: uri_to_path(request.text_document.uri.as_str()),
        range: (convert_position(request.range.start), convert_position(request.range.end)),
        requested_kinds: request.context.only.map(|kinds| kinds.iter().map(|kind| kind.as_str().to_owned()).collect()),
    })
}

/// Decodes `workspace/didChangeWatchedFiles`: the paths, and whether each file was changed (instead of created or
/// deleted).
pub(super) fn decode_watched_files(params: Value) -> Result<Vec<(PathBuf, bool)>, ResponseError> {
    let request: lsp::DidChangeWatchedFilesParams = decode_params(params)?;
    let events = request.changes.into_iter();
    Ok(events
        .filter_map(|event| Some((uri_to_path(event.uri.as_str())?, event.typ == lsp::FileChangeType::CHANGED)))
        .collect())
}

/// Decodes `workspace/didChangeWorkspaceFolders`: the folders that were removed.
pub(super) fn decode_removed_folders(params: Value) -> Result<Vec<PathBuf>, ResponseError> {
    let request: lsp::DidChangeWorkspaceFoldersParams = decode_params(params)?;
    Ok(request.event.removed.iter().filter_map(|folder| uri_to_path(folder.uri.as_str())).collect())
}

fn convert_position(position: lsp::Position) -> Position {
    Position { line: position.line, character: position.character }
}
