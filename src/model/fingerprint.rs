//! Fingerprints: the digests that decide whether a recorded result can be reused.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::id::Digest;

/// The two digests that decide whether a recorded result can be reused.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Fingerprint {
    /// What the step requests: for an agent the dialect, models, parameters, system prompt, messages and tools,
    /// without the schema; with access to the workspace, also which earlier steps changed it.
    pub request: Digest,
    /// How orch decodes the result: the schema with its references, the extract mode, the conditions of `accept` with
    /// the values that they read, and the rules for paths of files to write.
    pub decode: Digest,
}

impl Fingerprint {
    /// The bytes of both digests; `None` if one of them is no digest.
    pub fn to_bytes(&self) -> Option<[[u8; 32]; 2]> {
        Some([self.request.to_bytes()?, self.decode.to_bytes()?])
    }
}

/// A part of the data that a fingerprint covers, with its own digest. orch compares the parts of two attempts to name
/// the parts that changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FingerprintPart {
    /// The kind of the part, with its name if it has one.
    pub kind: PartKind,
    /// The digest of the part's content.
    pub digest: PartDigest,
}

impl FingerprintPart {
    /// A part whose content has this digest.
    pub fn new(kind: PartKind, digest: &Digest) -> Self {
        Self { kind, digest: PartDigest::new(digest) }
    }
}

/// The beginning of a BLAKE3 digest: 16 digits in lower-case hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct PartDigest(String);

impl PartDigest {
    /// Shortens a digest.
    pub fn new(digest: &Digest) -> Self {
        // Each attempt records several of these, and orch finds no result by them, so they need not be long.
        Self(digest.as_str().chars().take(16).collect())
    }
}

/// The parts that a fingerprint can have. Parts with a name are objects, such as `{"prompt": "planner.md"}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PartKind {
    /// The agent's model and its fallbacks.
    Model,
    /// The prompt, by its file name.
    Prompt(String),
    /// The template of the user message.
    Message,
    /// The parameters of the request, such as the temperature.
    Parameters,
    /// An input of the pipeline, by its name.
    Input(String),
    /// An artifact that the step reads, by its name.
    Artifact(String),
    /// An artifact of an earlier iteration that the step reads, by its expression, such as `loop.previous.review`.
    Previous(String),
    /// The item of `for_each`.
    Item,
    /// The schema of the step's output, by the name of the output.
    Schema(String),
    /// The state of the workspace.
    Workspace,
    /// The command line.
    Command,
    /// The sandbox of a command, a CLI agent or an agent with tools.
    Sandbox,
    /// The tools of an agent: the grants, their definitions, whether the model must call one first, and the variables
    /// that `shell` inherits.
    Tools,
    /// The question of an approval.
    Question,
    /// The list of files to write.
    Files,
    /// The conditions under `accept`.
    Accept,
    /// The values that these conditions read.
    AcceptValues,
    /// The rules for the paths of files to write.
    WriteRules,
}

impl fmt::Display for PartKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Model => f.write_str("model"),
            Self::Prompt(file) => write!(f, "prompt {file}"),
            Self::Message => f.write_str("message"),
            Self::Parameters => f.write_str("parameters"),
            Self::Input(name) | Self::Artifact(name) => write!(f, "input {name}"),
            Self::Previous(expression) => f.write_str(expression),
            Self::Item => f.write_str("item"),
            Self::Schema(output) => write!(f, "schema of {output}"),
            Self::Workspace => f.write_str("workspace"),
            Self::Command => f.write_str("command"),
            Self::Sandbox => f.write_str("sandbox"),
            Self::Tools => f.write_str("tools"),
            Self::Question => f.write_str("question"),
            Self::Files => f.write_str("files"),
            Self::Accept => f.write_str("accept"),
            Self::AcceptValues => f.write_str("a value that `accept` reads"),
            Self::WriteRules => f.write_str("the rules for paths"),
        }
    }
}
