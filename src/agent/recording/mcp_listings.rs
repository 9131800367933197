//! Recordings of the tools of MCP servers, so that a replay needs no server.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::paths::RunPaths;
use super::{RecordingContext, map_texts};
use crate::model::McpListing;

/// The beginning of the names of these files. No step has such a name, since the recordings of steps begin with the name
/// of their step.
const FILE_PREFIX: &str = "mcp-tools.";

/// The recorded tools of a server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct McpListingRecording {
    /// The list.
    mcp_listing: Value,
}

impl McpListingRecording {
    pub(super) fn new(listing: &McpListing, context: &RecordingContext<'_>) -> Self {
        Self { mcp_listing: context.portable_value(&json!(listing)) }
    }

    /// The name of the file for a server.
    pub(super) fn file_name(server: &str) -> String {
        format!("{FILE_PREFIX}{server}.json")
    }

    /// The list with the folders of this run.
    pub(super) fn listing(&self, paths: &RunPaths) -> serde_json::Result<McpListing> {
        serde_json::from_value(map_texts(&self.mcp_listing, &|text| paths.fill_placeholders(text)))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::agent::{Recorder, Replay, ReplayOptions};
    use crate::model::{FailureClass, McpToolDefinition};
    use crate::secret::Redactor;

    fn listing(server: &str, text: &str) -> McpListing {
        let definition = McpToolDefinition {
            name: "find".to_owned(),
            description: text.to_owned(),
            input_schema: Arc::new(json!({ "type": "object", "description": text })),
            output_schema: None,
        };
        let protocol_version = "2025-11-25".to_owned();
        McpListing { server: server.to_owned(), protocol_version, tools: vec![definition] }
    }

    #[test]
    fn the_last_list_of_each_server_is_replayed_in_any_folder() {
        let folder = tempfile::tempdir().unwrap();
        let recorder = Recorder::new(folder.path()).unwrap();
        let (redactor, paths) = (Redactor::default(), RunPaths::new(Path::new("/w"), Path::new("/p"), None));
        let context = RecordingContext { redactor: &redactor, paths: &paths };
        for (server, text) in [("docs", "old"), ("docs", "in /w"), ("files", "x")] {
            recorder.record_listing(&listing(server, text), &context);
        }
        assert_eq!(recorder.failure(), None);
        let replay = Replay::open(folder.path(), ReplayOptions::default()).unwrap();
        let elsewhere = RunPaths::new(Path::new("/other"), Path::new("/p"), None);
        let context = RecordingContext { redactor: &redactor, paths: &elsewhere };
        assert_eq!(replay.listing("docs", &context), Ok(listing("docs", "in /other")));
        assert_eq!(replay.listing("files", &context), Ok(listing("files", "x")));
        let failure = replay.listing("github", &context).unwrap_err();
        assert_eq!(failure.class, FailureClass::NoRecording);
        assert!(failure.message.contains("MCP server `github`"), "{failure}");
    }
}
