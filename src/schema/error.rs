//! Errors of schemas.

/// The reason why orch can't use a schema.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SchemaError {
    /// The schema file that contains the mistake.
    pub file: String,
    /// The location in that file, as a JSON pointer.
    pub pointer: String,
    /// The mistake, in lower case without a full stop.
    pub message: String,
    /// Advice on how to fix the mistake.
    pub help: Option<String>,
}
