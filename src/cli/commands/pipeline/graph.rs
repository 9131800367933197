//! `orch pipeline graph`.

use std::path::PathBuf;

use anyhow::Result;

use crate::cli::args::lookup;
use crate::cli::output::Ui;
use crate::cli::startup::current_dir;
use crate::config;
use crate::graph::{self, Graph};
use crate::runner::execute::resolve_path;
use crate::runner::{ExitStatus, RunnerError};

/// Draw a pipeline: its steps, groups and the artifacts between them
///
/// orch runs nothing. Use `text` for a terminal, `mermaid` for Markdown, `dot` for Graphviz, and
/// `svg` for a picture that is readable on light and dark pages.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct GraphArgs {
    /// The pipeline file, or the name of a pipeline in `pipelines/`
    #[arg(value_name = "PIPELINE")]
    pipeline: PathBuf,

    /// The format of the drawing
    #[arg(long, value_enum, default_value_t = GraphFormat::Text, value_name = "FORMAT")]
    format: GraphFormat,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum GraphFormat {
    /// Boxes of at most 80 columns
    Text,
    /// A Mermaid flowchart
    Mermaid,
    /// A graph in the DOT language of Graphviz
    Dot,
    /// An SVG picture
    Svg,
}

pub(super) fn run(args: &GraphArgs, ui: &Ui) -> Result<ExitStatus> {
    let current_dir = current_dir()?;
    let path = lookup::find_pipeline(&args.pipeline, &current_dir)?;
    let project = config::load(&resolve_path(&path, &current_dir)).map_err(RunnerError::with_findings)?;
    let graph = Graph::from_project(&project);
    let drawing = match args.format {
        GraphFormat::Text => {
            ui.write_preformatted(&graph::render_text(&graph))?;
            return Ok(ExitStatus::Success);
        }
        GraphFormat::Mermaid => graph::render_mermaid(&graph),
        GraphFormat::Dot => graph::render_dot(&graph),
        GraphFormat::Svg => graph::render_svg(&graph),
    };
    ui.write_preformatted(&drawing)?;
    Ok(ExitStatus::Success)
}
