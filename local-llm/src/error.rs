//! The errors of loading a model and of generating a reply.

use std::path::PathBuf;

/// An error from loading a model or from generating a reply.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// This process cannot read the file.
    #[error("cannot read the model file {}: {source}", path.display())]
    File {
        /// The path of the model file.
        path: PathBuf,
        /// The error of the operating system.
        #[source]
        source: std::io::Error,
    },
    /// The file is not a GGUF file that this crate can run.
    #[error("orch cannot use the model file: {0}")]
    Format(String),
    /// The weights need more memory than is free.
    #[error(
        "its weights need {} of memory, but {} are free; end other programs, or use a smaller model or quantization",
        format_gigabytes(*.needed),
        format_gigabytes(*.free)
    )]
    InsufficientMemory {
        /// The size of the weights, in bytes.
        needed: u64,
        /// The free memory, in bytes.
        free: u64,
    },
    /// The processor lacks the vector instructions that make replies fast enough.
    #[error("this processor lacks {0}; a local model needs them (choose a hosted model instead)")]
    UnsupportedProcessor(&'static str),
    /// The request is invalid.
    #[error("{0}")]
    InvalidRequest(String),
    /// The prompt is too long for the model.
    #[error(
        "the prompt has {prompt} tokens, but prompt and reply together may have at most {limit}; shorten the messages"
    )]
    PromptTooLong {
        /// The number of tokens of the prompt.
        prompt: usize,
        /// The context length of the model, in tokens.
        limit: usize,
    },
    /// The computation failed because of a defect in the model file or in this crate.
    #[error("the model failed while computing: {0}")]
    Compute(#[from] candle_core::Error),
    /// This crate cannot convert the schema into a grammar, even in its loosest form.
    #[error("orch cannot constrain the reply to the JSON Schema: {0}")]
    UnsupportedSchema(String),
}

/// Formats a size in gigabytes, rounded up.
fn format_gigabytes(bytes: u64) -> String {
    let tenths = bytes.div_ceil(100_000_000);
    format!("{}.{} GB", tenths / 10, tenths % 10)
}
