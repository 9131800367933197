//! Reads the files of a folder of recordings.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::answers::AnswerRecording;
use super::exchange::{CommandRecording, ReplyRecording};
use super::mcp_calls::McpCallRecording;
use super::mcp_listings::McpListingRecording;
use super::tool_calls::ToolCallRecording;
use crate::files::read_to_end_bounded;
use crate::folder::open_file;
use crate::model::text::decode_text;

/// The size of the largest recording that orch reads, in bytes.
const MAX_RECORDING_BYTES: u64 = 256 << 20;

/// A recording in a file.
pub(super) enum RecordingFile {
    Reply(Box<ReplyRecording>),
    Command(Box<CommandRecording>),
    ToolCall(Box<ToolCallRecording>),
    McpCall(Box<McpCallRecording>),
    McpListing(Box<McpListingRecording>),
    Answer(Box<AnswerRecording>),
}

/// The files of a folder of recordings. Files with the same request are in the order in which orch recorded them.
pub(super) fn recording_paths(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let read_error = |error: std::io::Error| read_error(folder, &error.to_string());
    let entries = std::fs::read_dir(folder).map_err(read_error)?;
    let paths = entries.map(|entry| entry.map(|entry| entry.path()));
    let mut paths: Vec<PathBuf> = paths.collect::<Result<_, _>>().map_err(read_error)?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    paths.sort_by_cached_key(|path| {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        // `vote.1f2e.10` follows `vote.1f2e.9`.
        match stem.rsplit_once('.').and_then(|(name, count)| Some((name.to_owned(), count.parse::<u64>().ok()?))) {
            Some(name_and_count) => name_and_count,
            None => (stem, 0),
        }
    });
    Ok(paths)
}

pub(super) fn read_error(path: &Path, reason: &str) -> String {
    format!("the recording `{}` can't be read: {reason}", path.display())
}

pub(super) fn read_recording(path: &Path) -> Result<RecordingFile, String> {
    let bytes = open_file(path)
        .and_then(|file| read_to_end_bounded(file, MAX_RECORDING_BYTES))
        .map_err(|error| read_error(path, &error.to_string()))?;
    let text = decode_text(bytes).map_err(|reason| read_error(path, &format!("it {reason}")))?;
    let parse_error = |error: serde_json::Error| read_error(path, &error.to_string());
    let value: Value = serde_json::from_str(&text).map_err(parse_error)?;
    if value.get("command").is_some() {
        return serde_json::from_value(value).map(RecordingFile::Command).map_err(parse_error);
    }
    if value.get("tool").is_some() {
        return serde_json::from_value(value).map(RecordingFile::ToolCall).map_err(parse_error);
    }
    if value.get("mcp_tool").is_some() {
        return serde_json::from_value(value).map(RecordingFile::McpCall).map_err(parse_error);
    }
    if value.get("mcp_listing").is_some() {
        return serde_json::from_value(value).map(RecordingFile::McpListing).map_err(parse_error);
    }
    if value.get("question").is_some() {
        return serde_json::from_value(value).map(RecordingFile::Answer).map_err(parse_error);
    }
    serde_json::from_value(value).map(RecordingFile::Reply).map_err(parse_error)
}
