//! The value of `--output`.

/// The format of the output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(in crate::cli) enum OutputFormat {
    /// Human-readable text.
    #[default]
    Text,
    /// One JSON object on standard output.
    Json,
}
