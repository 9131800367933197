//! `orch pipeline show`.

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
    describe_pipeline(&project, ui).iter().try_for_each(|row| {
        let (label, text) = (escape_line_breaks(&row.label), escape_line_breaks(&row.text));
        ui.write_row(&label, &text)
    })?;
    Ok(ExitStatus::Success)
}

/// A line of the description, which continues in the column of its text.
struct DescriptionRow {
    /// The first columns, with the spaces after them.
    label: String,
    text: String,
}

impl DescriptionRow {
    fn new(label: impl Into<String>, text: impl Into<String>) -> Self {
        Self { label: label.into(), text: text.into() }
    }
}

fn describe_pipeline(project: &Project, ui: &Ui) -> Vec<DescriptionRow> {
    let (pipeline, style) = (&project.pipeline, ui.stdout_style);
    let description = pipeline.description.as_deref().unwrap_or_default().trim_end();
    let mut rows = vec![
        DescriptionRow::new(format!("{}  ", style.bold(&pipeline.name)), description),
        DescriptionRow::new("file   ", &project.document.file.path),
        DescriptionRow::new("root   ", project.root.display().to_string()),
    ];
    for (name, input) in &pipeline.inputs {
        let schema_text = |key: &str| input.get(key).and_then(serde_json::Value::as_str).unwrap_or_default();
        let optional_suffix = if input.contains_key("default") { " (optional)" } else { "" };
        let columns = format!("input  {name}: {}{optional_suffix}  ", schema_text("type"));
        rows.push(DescriptionRow::new(columns, schema_text("description")));
    }
    for (name, agent) in &pipeline.agents {
        let model = match agent.cli_agent(agent.default_access()) {
            Some(program) => program.model_ref().to_string(),
            None => agent.model.clone(),
        };
        let calls = if agent.pipelines.is_empty() { String::new() } else { may_call(&agent.pipelines) };
        rows.push(DescriptionRow::new("agent  ", format!("{name}: {model}{calls}")));
    }
    for (i, step) in pipeline.steps.iter().enumerate() {
        rows.push(step_row(&format!("{:>2}. ", i + 1), step, ui));
        add_nested_steps(step, 1, ui, &mut rows);
    }
    for step in &pipeline.finally {
        rows.push(step_row("finally ", step, ui));
        add_nested_steps(step, 2, ui, &mut rows);
    }
    for disclosure in Disclosures::from_settings(&project.settings).all() {
        rows.push(DescriptionRow::new(format!("{:<6} ", disclosure.label()), disclosure.to_string()));
    }
    for variables in passed_variables(project).all() {
        rows.push(DescriptionRow::new("passes ", variables.to_string()));
    }
    for (name, expression) in &pipeline.outputs {
        rows.push(DescriptionRow::new("output ", format!("{name}: {expression}")));
    }
    rows
}

/// The pipelines that the model of an agent may call.
fn may_call(files: &[String]) -> String {
    format!(", may call {}", files.join(", "))
}

fn add_nested_steps(step: &Step, depth: usize, ui: &Ui, rows: &mut Vec<DescriptionRow>) {
    for child in step.children().1 {
        rows.push(step_row(&format!("{}- ", "    ".repeat(depth)), child, ui));
        add_nested_steps(child, depth + 1, ui, rows);
    }
}

/// The row of a step. `prefix` is what comes before its id.
fn step_row(prefix: &str, step: &Step, ui: &Ui) -> DescriptionRow {
    DescriptionRow::new(format!("{prefix}{}  ", ui.stdout_style.bold(&step.id)), describe_step(step))
}

/// Describes what a step does.
fn describe_step(step: &Step) -> String {
    let mut out = match step.action() {
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
