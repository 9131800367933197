//! `orch pipeline show`.

use std::fmt::Write as _;
use std::path::PathBuf;

use crate::config::{self, Project};

use super::error::{CliError, Code};
use super::here;
use super::ui::Ui;

/// Show a pipeline: its inputs, agents, steps and files
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The pipeline file
    #[arg(value_name = "PIPELINE")]
    pipeline: PathBuf,
}

pub(super) fn run(args: &Args, ui: &Ui) -> Result<Code, CliError> {
    let project = config::load(&super::session::given(&args.pipeline, &here()?))?;
    ui.data(&text(&project, ui))?;
    Ok(Code::Ok)
}

fn text(project: &Project, ui: &Ui) -> String {
    let (pipeline, style) = (&project.pipeline, ui.out_style);
    let mut out =
        format!("{}  {}\n", style.strong(&pipeline.name), pipeline.description.as_deref().unwrap_or_default());
    let mut line = |text: String| {
        // Writing to a string can't fail.
        let _ = writeln!(out, "{text}");
    };
    line(format!("file   {}", project.document.file.path));
    line(format!("root   {}", project.root.display()));
    for (name, input) in &pipeline.inputs {
        let word = |key: &str| input.get(key).and_then(serde_json::Value::as_str).unwrap_or_default();
        let optional = if input.contains_key("default") { " (optional)" } else { "" };
        line(format!("input  {name}: {}{optional}  {}", word("type"), word("description")));
    }
    for (name, agent) in &pipeline.agents {
        line(format!("agent  {name}: {}", agent.model));
    }
    for (i, step) in pipeline.steps.iter().enumerate() {
        let reads = if step.inputs.is_empty() { String::new() } else { format!(" reads {}", step.inputs.join(", ")) };
        let schema = match Project::schema_file(step) {
            Some(file) => format!("schemas/{file}"),
            None => step.schema.clone().unwrap_or_default(),
        };
        line(format!(
            "{:>2}. {}  {} with prompts/{}{reads}, writes {} ({schema})",
            i + 1,
            style.strong(&step.id),
            step.agent,
            step.prompt,
            step.output
        ));
    }
    out
}
