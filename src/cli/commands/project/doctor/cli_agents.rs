//! Reports the CLI agents: Claude Code and Codex with their versions, and the CLI agents of the project's pipelines.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;

use crate::agent;
use crate::cli::startup::runtime;
use crate::config::{self, Settings};
use crate::model::step::Access;
use crate::model::{CliAgent, CliAgentKind, Sandbox, SandboxSpec};
use crate::process::{self, EndingGroups, ProcessError, ProgramSpec, command_environment};
use crate::runner::Runner;
use crate::runner::execute::resolve_path;

use super::DoctorReport;

/// Reports the CLI agents, and returns those that a probe can start.
pub(super) fn report_cli_agents(
    pipelines: &[PathBuf],
    settings: &Settings,
    runner: &Runner,
    report: &mut DoctorReport<'_>,
) -> Result<Vec<CliAgent>> {
    let mut usable_agents = Vec::new();
    for kind in [CliAgentKind::Claude, CliAgentKind::Codex] {
        let name = kind.as_str();
        match program_version(name, runner, report.timeout) {
            Ok(Some(version)) => {
                report.print_check(Some(true), name, version)?;
                usable_agents.push(default_cli_agent(kind, settings));
            }
            Ok(None) => {
                let advice = agent::install_hint(kind, name);
                report.print_check(None, name, format!("not installed; {advice}"))?;
            }
            Err(reason) => report.print_check(None, name, format!("`{name} --version` failed: {reason}"))?,
        }
    }
    let current_dir = runner.current_dir();
    let (cli_agents, unreadable_pipelines) = pipeline_cli_agents(pipelines, current_dir);
    for path in unreadable_pipelines {
        let problem = format!("{} can't be read, so its CLI agents are not checked", path.display());
        report.print_check(None, "pipeline", format!("{problem}; see `orch pipeline validate`"))?;
    }
    for cli_agent in cli_agents {
        let (kind, name) = (cli_agent.kind, cli_agent.argv.first().cloned().unwrap_or_default());
        if let Some(path) = find_executable(&name, current_dir) {
            report.print_check(Some(true), kind.as_str(), path.display().to_string())?;
            usable_agents.push(cli_agent);
        } else {
            let advice = agent::install_hint(kind, &name);
            report.print_check(Some(false), kind.as_str(), format!("`{name}` is not installed; {advice}"))?;
        }
    }
    Ok(usable_agents)
}

fn default_cli_agent(kind: CliAgentKind, settings: &Settings) -> CliAgent {
    let (argv, tools, mcp, env) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let sandbox = SandboxSpec::resolve(&Sandbox::default(), &settings.sandbox, Access::None);
    CliAgent { kind, argv, model: None, tools, mcp, max_turns: None, env, access: Access::None, sandbox }
}

/// The CLI agents of the kinds `acp` and `command` in the pipelines, without duplicates, and the pipelines that can't be
/// read.
fn pipeline_cli_agents<'p>(pipelines: &'p [PathBuf], current_dir: &Path) -> (Vec<CliAgent>, Vec<&'p Path>) {
    let mut unique_agents: Vec<CliAgent> = Vec::new();
    let mut unreadable = Vec::new();
    for path in pipelines {
        let Ok(project) = config::load(&resolve_path(path, current_dir)) else {
            unreadable.push(path.as_path());
            continue;
        };
        let cli_agents = project.pipeline.agents.values().filter_map(|agent| {
            let own = agent.sandbox.clone().unwrap_or_default();
            let sandbox = SandboxSpec::resolve(&own, &project.settings.sandbox, Access::None);
            Some(CliAgent { sandbox, ..agent.cli_agent(Access::None)? })
        });
        for cli_agent in cli_agents.filter(|cli_agent| !cli_agent.argv.is_empty()) {
            let cli_agent = CliAgent { tools: Vec::new(), ..cli_agent };
            if unique_agents.iter().all(|other| other.argv != cli_agent.argv) {
                unique_agents.push(cli_agent);
            }
        }
    }
    (unique_agents, unreadable)
}

/// Finds the executable file of a program.
fn find_executable(name: &str, current_dir: &Path) -> Option<PathBuf> {
    if name.contains(std::path::MAIN_SEPARATOR) {
        return Some(current_dir.join(name)).filter(|path| is_executable(path));
    }
    let path_variable = std::env::var_os("PATH")?;
    let folders: Vec<PathBuf> = std::env::split_paths(&path_variable).collect();
    folders.iter().map(|folder| folder.join(name)).find(|path| is_executable(path))
}

#[cfg(unix)]
fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

#[cfg(not(unix))]
fn is_executable(path: &Path) -> bool {
    path.is_file()
}

/// The first line that a program prints for `--version`; `None` if the program is not installed.
///
/// # Errors
/// The reason why a program that is installed prints no version.
fn program_version(program: &str, runner: &Runner, timeout: Duration) -> Result<Option<String>, String> {
    let spec = ProgramSpec {
        argv: vec![program.to_owned(), "--version".to_owned()],
        cwd: std::env::temp_dir(),
        // The program may belong to the project, so it gets no keys.
        env: command_environment(&*runner.environment.variable_lookup(), []),
        stdin: None,
        timeout: Some(timeout),
        max_captured_bytes: 4096,
        max_output_bytes: None,
        supervisor: runner.environment.supervisor().to_owned().into(),
        ending_process_groups: EndingGroups::default(),
        sandbox: None,
    };
    let output_future = async {
        let output = process::run(&spec, &|_, _| {}).await;
        spec.ending_process_groups.wait_all_ended().await;
        output
    };
    let first_line = |text: &str| text.lines().next().unwrap_or_default().trim().to_owned();
    match runtime().map_err(|error| error.to_string())?.block_on(output_future) {
        Ok(output) if output.code == Some(0) => Ok(Some(first_line(&output.stdout.text()))),
        Ok(output) => {
            let code = output.code.map_or_else(|| "no exit code".to_owned(), |code| format!("exit code {code}"));
            let message = first_line(&output.stderr.text());
            Err(if message.is_empty() { code } else { format!("{code}: {message}") })
        }
        Err(ProcessError::NotFound(_)) => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn only_executable_files_are_programs() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tool");
        for (mode, expected) in [(0o644, None), (0o744, Some(folder.path().join("./tool")))] {
            std::fs::write(&path, "").unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(find_executable("./tool", folder.path()), expected, "{mode:o}");
        }
    }
}
