//! `orch pipeline graph`.

use crate::session::execute::short_path;
use std::path::PathBuf;

use crate::config;
use crate::graph::{self, Graph};

use super::here;
use super::ui::Ui;
use crate::session::{ExitStatus, SessionError};

/// Draw a pipeline: its steps, groups and the artifacts between them
///
/// Nothing is run. `text` is for a terminal, `mermaid` for Markdown, `dot` for Graphviz, and `svg` is
/// a picture that is readable on light and dark pages.
#[derive(Debug, clap::Args)]
pub(super) struct GraphArgs {
    /// The pipeline: its file, or its name in `pipelines/`
    #[arg(value_name = "PIPELINE")]
    pipeline: PathBuf,

    /// What is drawn: text, mermaid, dot or svg
    #[arg(long, value_enum, default_value_t = GraphFormat::Text, value_name = "FORMAT")]
    format: GraphFormat,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum GraphFormat {
    /// Boxes of at most 80 columns
    Text,
    /// A Mermaid flowchart
    Mermaid,
    /// Graphviz
    Dot,
    /// A picture
    Svg,
}

pub(super) fn run(args: &GraphArgs, ui: &Ui) -> Result<ExitStatus, SessionError> {
    let here = here()?;
    let path = super::named::pipeline(&args.pipeline, &here)?;
    let project = config::load(&short_path(&path, &here))?;
    let graph = Graph::of(&project);
    let drawn = match args.format {
        GraphFormat::Text => {
            ui.drawn(&graph::text(&graph))?;
            return Ok(ExitStatus::Success);
        }
        GraphFormat::Mermaid => graph::mermaid(&graph),
        GraphFormat::Dot => graph::dot(&graph),
        GraphFormat::Svg => graph::svg(&graph),
    };
    ui.drawn(&drawn)?;
    Ok(ExitStatus::Success)
}
