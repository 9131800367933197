//! Lists the programs that a project starts, for `orch trust`.

use std::path::Path;

use crate::cli::output::Ui;
use crate::config::{self, Project, SETTINGS_FILE, Settings};
use crate::model::step::{Access, CommandLine};
use crate::model::visible::escape_line_breaks;
use crate::model::{BuiltinTool, Step, StepAction};
use crate::session::execute::resolve_path;
use crate::session::project_state::pipeline_files;

/// Lists the MCP servers of `orch.yaml`, the commands and CLI agents of every pipeline of a project, and the grants of
/// the tool `shell`, each with the variables that it gets, one in each line, in the order of the files.
///
/// For an unreadable pipeline, the list contains a line that names the pipeline.
pub(super) fn list_programs(root: &Path, current_dir: &Path, settings: &Settings, ui: &Ui) -> Vec<String> {
    let (pipelines, findings) = pipeline_files(root, current_dir);
    ui.print_findings(&findings);
    let servers = settings.mcp.iter().filter_map(|(name, server)| Some((name, server.command.as_ref()?, &server.env)));
    let mut lines: Vec<String> = servers
        .map(|(name, command, env)| {
            format!("{}{}  (MCP server {name} of {SETTINGS_FILE})", command.join(" "), with_variables(env))
        })
        .collect();
    for path in pipelines {
        let display_path = path.strip_prefix(root).unwrap_or(&path).display().to_string();
        match config::load(&resolve_path(&path, current_dir)) {
            Ok(project) => add_programs(&project, &display_path, &mut lines),
            Err(_) => lines.push(format!("unknown: {display_path} can't be read; see `orch pipeline validate`")),
        }
    }
    lines.iter().map(|line| escape_line_breaks(line).into_owned()).collect()
}

fn add_programs(project: &Project, display_path: &str, lines: &mut Vec<String>) {
    for (name, agent) in &project.pipeline.agents {
        if let Some(program) = agent.cli_agent(Access::None) {
            let argv = if program.argv.is_empty() { program.kind.as_str().to_owned() } else { program.argv.join(" ") };
            lines.push(format!("{argv}{}  (agent {name} of {display_path})", with_variables(&agent.env)));
        }
        for grant in agent.tool_grants().iter().filter(|grant| grant.tool == BuiltinTool::Shell) {
            let variables = with_variables(&agent.env);
            lines.push(format!(
                "{grant}, as its model chooses, in a sandbox{variables}  (agent {name} of {display_path})"
            ));
        }
    }
    for step in project.pipeline.all_steps() {
        lines.extend(command_line(step).map(|command_line| {
            format!("{command_line}{}  (step {} of {display_path})", with_variables(&step.env), step.id)
        }));
    }
}

/// The variables that a program gets in addition to the basic ones, as a part of its line.
fn with_variables(names: &[String]) -> String {
    if names.is_empty() { String::new() } else { format!(", with the variables {}", names.join(", ")) }
}

fn command_line(step: &Step) -> Option<String> {
    match step.action()? {
        StepAction::Command(CommandLine::Shell(text)) => Some(text.split_whitespace().collect::<Vec<_>>().join(" ")),
        StepAction::Command(CommandLine::Argv(argv)) => Some(argv.join(" ")),
        _ => None,
    }
}
