//! What can go wrong while loading a model or writing a reply.

use std::path::PathBuf;

/// An error from loading a model or from writing a reply.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file could not be read.
    #[error("cannot read the model file {}: {source}", path.display())]
    File {
        /// The file that was opened.
        path: PathBuf,
        /// The error of the operating system.
        #[source]
        source: std::io::Error,
    },
    /// The file is not a GGUF file that this crate can run.
    #[error("the model file cannot be used: {0}")]
    Format(String),
    /// The weights need more memory than is free.
    #[error(
        "its weights take {} of memory, and {} are free; end other programs, or take a smaller model or quantization",
        gigabytes(*.needed),
        gigabytes(*.free)
    )]
    Memory {
        /// Bytes of the weights.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// The processor lacks instructions without which replies would take minutes.
    #[error("this processor lacks {0}; a local model needs them (choose a hosted model instead)")]
    Processor(&'static str),
    /// The request cannot be answered as it stands.
    #[error("{0}")]
    Request(String),
    /// The prompt does not fit.
    #[error(
        "the prompt is {prompt} tokens and the reply needs room too, but the model reads at most {limit}; shorten the messages"
    )]
    TooLong {
        /// Tokens in the prompt.
        prompt: usize,
        /// How many positions the model has.
        limit: usize,
    },
    /// The arithmetic failed; this is a fault of the model file or of this crate.
    #[error("the model failed while computing: {0}")]
    Compute(#[from] candle_core::Error),
    /// The schema could not be turned into a grammar, even in its loosest form.
    #[error("the JSON Schema cannot be followed: {0}")]
    Schema(String),
}

/// A size in gigabytes.
fn gigabytes(bytes: u64) -> String {
    let tenths = bytes.div_ceil(100_000_000);
    format!("{}.{} GB", tenths / 10, tenths % 10)
}
