//! Which programs the pipelines of a project start, as a reader of `orch trust` sees them.

use crate::session::execute::short_path;
use std::path::Path;

use crate::cli::ui::Ui;
use crate::config::{self, Project};
use crate::model::step::{Access, CommandLine};
use crate::model::visible::one_line;
use crate::model::{Step, StepAction};

/// The programs of every pipeline of a root, each once, in the order of the files: commands and CLI agents.
///
/// A pipeline that can't be read is named instead: what it starts is unknown.
pub(super) fn started(root: &Path, here: &Path, ui: &Ui) -> Vec<String> {
    let (pipelines, unread) = crate::cli::runs::pipelines(root, here);
    ui.findings(&unread);
    let mut lines = Vec::new();
    for path in pipelines {
        let shown = path.strip_prefix(root).unwrap_or(&path).display().to_string();
        match config::load(&short_path(&path, here)) {
            Ok(project) => of_project(&project, &shown, &mut lines),
            Err(_) => lines.push(format!("unknown: {shown} can't be read; `orch pipeline validate` says why")),
        }
    }
    lines.iter().map(|line| one_line(line).into_owned()).collect()
}

fn of_project(project: &Project, shown: &str, lines: &mut Vec<String>) {
    for (name, agent) in &project.pipeline.agents {
        if let Some(program) = agent.program(Access::None) {
            let argv = if program.argv.is_empty() { program.kind.as_str().to_owned() } else { program.argv.join(" ") };
            lines.push(format!("{argv}  (agent {name} of {shown})"));
        }
    }
    for step in project.pipeline.all_steps() {
        lines.extend(command(step).map(|command| format!("{command}  (step {} of {shown})", step.id)));
    }
}

fn command(step: &Step) -> Option<String> {
    match step.kind()? {
        StepAction::Command(CommandLine::Shell(text)) => Some(text.split_whitespace().collect::<Vec<_>>().join(" ")),
        StepAction::Command(CommandLine::Argv(parts)) => Some(parts.join(" ")),
        _ => None,
    }
}
