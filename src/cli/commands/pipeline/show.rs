//! `orch pipeline show`.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::Result;

use crate::cli::args::lookup;
use crate::cli::output::Ui;
use crate::cli::startup::current_dir;
use crate::config::{self, Project};
use crate::model::step::CommandLine;
use crate::model::visible::escape_line_breaks;
use crate::model::{Step, StepAction, counted};
use crate::runner::execute::resolve_path;
use crate::runner::passed_variables::passed_variables;
use crate::runner::{ExitStatus, RunnerError};
use crate::trust::Disclosures;

/// Show a pipeline: its inputs, agents, steps and files
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct ShowArgs {
    /// The pipeline file, or the name of a pipeline in `pipelines/`
    #[arg(value_name = "PIPELINE")]
    pipeline: PathBuf,
}

pub(super) fn run(args: &ShowArgs, ui: &Ui) -> Result<ExitStatus> {
    let current_dir = current_dir()?;
    let path = lookup::find_pipeline(&args.pipeline, &current_dir)?;
    let project = config::load(&resolve_path(&path, &current_dir)).map_err(RunnerError::with_findings)?;
    ui.write_text(&describe_pipeline(&project, ui))?;
    Ok(ExitStatus::Success)
}

fn describe_pipeline(project: &Project, ui: &Ui) -> String {
    let (pipeline, style) = (&project.pipeline, ui.stdout_style);
    let mut out = String::new();
    let mut write_line = |text: String| {
        // Writing to a string can't fail.
        let _ = writeln!(out, "{}", escape_line_breaks(&text));
    };
    let description = pipeline.description.as_deref().unwrap_or_default().trim_end();
    write_line(format!("{}  {description}", style.bold(&pipeline.name)));
    write_line(format!("file   {}", project.document.file.path));
    write_line(format!("root   {}", project.root.display()));
    for (name, input) in &pipeline.inputs {
        let schema_text = |key: &str| input.get(key).and_then(serde_json::Value::as_str).unwrap_or_default();
        let optional_suffix = if input.contains_key("default") { " (optional)" } else { "" };
        write_line(format!("input  {name}: {}{optional_suffix}  {}", schema_text("type"), schema_text("description")));
    }
    for (name, agent) in &pipeline.agents {
        let model = match agent.cli_agent(agent.default_access()) {
            Some(program) => program.model_ref().to_string(),
            None => agent.model.clone(),
        };
        let calls = if agent.pipelines.is_empty() { String::new() } else { may_call(&agent.pipelines) };
        write_line(format!("agent  {name}: {model}{calls}"));
    }
    for (i, step) in pipeline.steps.iter().enumerate() {
        write_line(format!("{:>2}. {}", i + 1, describe_step(step, ui)));
        write_nested_steps(step, 1, ui, &mut write_line);
    }
    for step in &pipeline.finally {
        write_line(format!("finally {}", describe_step(step, ui)));
        write_nested_steps(step, 2, ui, &mut write_line);
    }
    for disclosure in Disclosures::from_settings(&project.settings).all() {
        write_line(format!("{:<6} {disclosure}", disclosure.label()));
    }
    for variables in passed_variables(project).all() {
        write_line(format!("{:<6} {variables}", "passes"));
    }
    for (name, expression) in &pipeline.outputs {
        write_line(format!("output {name}: {expression}"));
    }
    out
}

/// The pipelines that the model of an agent may call.
fn may_call(files: &[String]) -> String {
    format!(", may call {}", files.join(", "))
}

fn write_nested_steps(step: &Step, depth: usize, ui: &Ui, write_line: &mut impl FnMut(String)) {
    for child in step.children().1 {
        write_line(format!("{}- {}", "    ".repeat(depth), describe_step(child, ui)));
        write_nested_steps(child, depth + 1, ui, write_line);
    }
}

/// Describes a step in one line.
fn describe_step(step: &Step, ui: &Ui) -> String {
    let action = match step.action() {
        Some(StepAction::Agent { agent, prompt }) => format!("{agent} with prompts/{prompt}"),
        Some(StepAction::Command(CommandLine::Shell(text))) => format!("runs `{}`", text.trim()),
        Some(StepAction::Command(CommandLine::Argv(argv))) => format!("runs `{}`", argv.join(" ")),
        Some(StepAction::Call(tool)) => format!("calls the tool `{tool}`"),
        Some(StepAction::Write(files)) => format!("writes the files of `{files}`"),
        Some(StepAction::Approve(_)) => "waits for an approval".to_owned(),
        Some(StepAction::Parallel(_)) => "runs its steps in parallel".to_owned(),
        Some(StepAction::Sequence(_)) => "runs its steps in sequence".to_owned(),
        Some(StepAction::Repeat(repeat)) => {
            let until = repeat.until.as_ref().map_or_else(String::new, |until| format!(" until `{until}`"));
            format!("repeats its steps at most {}{until}", counted(repeat.max, "time"))
        }
        Some(StepAction::Pipeline(file)) => format!("calls {file}"),
        None => String::new(),
    };
    let mut out = format!("{}  {action}", ui.stdout_style.bold(&step.id));
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
        out.push_str(&format!(", produces {output}{schema}"));
    }
    if !step.children().1.is_empty() {
        out.push(':');
    }
    out
}
