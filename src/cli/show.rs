//! `orch pipeline show`.

use crate::session::execute::short_path;
use std::fmt::Write as _;
use std::path::PathBuf;

use crate::config::{self, Project};
use crate::model::step::CommandLine;
use crate::model::{Step, StepAction};

use crate::model::visible::one_line;
use crate::trust::Disclosures;

use super::here;
use super::ui::Ui;
use crate::session::{ExitStatus, SessionError};

/// Show a pipeline: its inputs, agents, steps and files
#[derive(Debug, clap::Args)]
pub(super) struct ShowArgs {
    /// The pipeline: its file, or its name in `pipelines/`
    #[arg(value_name = "PIPELINE")]
    pipeline: PathBuf,
}

pub(super) fn run(args: &ShowArgs, ui: &Ui) -> Result<ExitStatus, SessionError> {
    let here = here()?;
    let path = super::named::pipeline(&args.pipeline, &here)?;
    let project = config::load(&short_path(&path, &here))?;
    ui.text(&text(&project, ui))?;
    Ok(ExitStatus::Success)
}

fn text(project: &Project, ui: &Ui) -> String {
    let (pipeline, style) = (&project.pipeline, ui.out_style);
    let mut out = String::new();
    let mut line = |text: String| {
        // Writing to a string can't fail.
        let _ = writeln!(out, "{}", one_line(&text));
    };
    let description = pipeline.description.as_deref().unwrap_or_default().trim_end();
    line(format!("{}  {description}", style.strong(&pipeline.name)));
    line(format!("file   {}", project.document.file.path));
    line(format!("root   {}", project.root.display()));
    for (name, input) in &pipeline.inputs {
        let word = |key: &str| input.get(key).and_then(serde_json::Value::as_str).unwrap_or_default();
        let optional = if input.contains_key("default") { " (optional)" } else { "" };
        line(format!("input  {name}: {}{optional}  {}", word("type"), word("description")));
    }
    for (name, agent) in &pipeline.agents {
        let who = match agent.program(agent.access()) {
            Some(program) => program.reference().to_string(),
            None => agent.model.clone(),
        };
        line(format!("agent  {name}: {who}"));
    }
    for (i, step) in pipeline.steps.iter().enumerate() {
        line(format!("{:>2}. {}", i + 1, words(step, ui)));
        inside(step, 1, ui, &mut line);
    }
    for step in &pipeline.finally {
        line(format!("finally {}", words(step, ui)));
        inside(step, 2, ui, &mut line);
    }
    for disclosure in Disclosures::of(&project.settings).all() {
        line(format!("sends  {disclosure}"));
    }
    for (name, expression) in &pipeline.outputs {
        line(format!("output {name}: {expression}"));
    }
    out
}

fn inside(step: &Step, depth: usize, ui: &Ui, line: &mut impl FnMut(String)) {
    for child in step.children().1 {
        line(format!("{}- {}", "    ".repeat(depth), words(child, ui)));
        inside(child, depth + 1, ui, line);
    }
}

/// A step in a line.
fn words(step: &Step, ui: &Ui) -> String {
    let what = match step.kind() {
        Some(StepAction::Agent { agent, prompt }) => format!("{agent} with prompts/{prompt}"),
        Some(StepAction::Command(CommandLine::Shell(text))) => format!("runs `{}`", text.trim()),
        Some(StepAction::Command(CommandLine::Argv(parts))) => format!("runs `{}`", parts.join(" ")),
        Some(StepAction::Write(files)) => format!("writes the files of `{files}`"),
        Some(StepAction::Approve(_)) => "asks a person".to_owned(),
        Some(StepAction::Parallel(_)) => "side by side".to_owned(),
        Some(StepAction::Sequence(_)) => "one after another".to_owned(),
        Some(StepAction::Repeat(repeat)) => {
            let until = repeat.until.as_ref().map_or_else(String::new, |until| format!(" until `{until}`"));
            format!("at most {} times{until}", repeat.max)
        }
        Some(StepAction::Pipeline(file)) => format!("calls {file}"),
        None => String::new(),
    };
    let mut out = format!("{}  {what}", ui.out_style.strong(&step.id));
    if let Some(list) = &step.for_each {
        out.push_str(&format!(", for each of `{list}`"));
    }
    if let Some(when) = &step.when {
        out.push_str(&format!(", when `{when}`"));
    }
    if !step.inputs.is_empty() {
        out.push_str(&format!(", reads {}", step.inputs.join(", ")));
    }
    if let Some(output) = &step.output {
        let schema =
            Project::schema_file(step).map_or_else(|| step.schema.clone(), |file| Some(format!("schemas/{file}")));
        let schema = schema.map_or_else(String::new, |schema| format!(" ({schema})"));
        out.push_str(&format!(", gives {output}{schema}"));
    }
    if !step.children().1.is_empty() {
        out.push(':');
    }
    out
}
