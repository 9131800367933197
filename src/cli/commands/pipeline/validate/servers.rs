//! `--probe`: compares the tools of MCP servers that pipelines name with those that the servers list.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::Result;

use crate::check::{ServerTools, load_valid_settings, named_servers, unlisted_tools};
use crate::cli::args::TrustArgs;
use crate::cli::interrupt::wait_for_signal;
use crate::cli::startup::runtime;
use crate::config::{self, Project, Settings};
use crate::diagnostic::Diagnostic;
use crate::runner::execute::root_and_file;
use crate::runner::tools::{ProjectTools, ServerToolList, ToolsRequest};
use crate::runner::{ExitStatus, Runner, RunnerError};

/// What the servers of the checked pipelines say.
#[derive(Default)]
pub(super) struct ProbeResults {
    /// The tools that a server does not have.
    pub(super) findings: Vec<Diagnostic>,
    /// The servers that can't be started or reached.
    pub(super) failures: Vec<RunnerError>,
}

/// Starts the MCP servers that pipelines name and compares their tools with the names. Skips pipelines that can't be
/// loaded, and those with invalid settings, which have findings.
///
/// # Errors
/// The project is not trusted, or the user stopped the command.
pub(super) fn probe_servers(paths: &[PathBuf], trust: &TrustArgs, runner: &Runner) -> Result<ProbeResults> {
    let sources = runner.environment.sources();
    let loaded = paths.iter().filter(|path| !config::is_case(path));
    let projects: Vec<Project> = loaded.filter_map(|path| config::load_from(&sources, path).ok()).collect();
    let mut servers_by_root: BTreeMap<PathBuf, (&Settings, BTreeSet<String>)> = BTreeMap::new();
    for project in &projects {
        let root = root_and_file(project, runner.current_dir()).0;
        let (_, servers) = servers_by_root.entry(root).or_insert_with(|| (&project.settings, BTreeSet::new()));
        servers.extend(named_servers(project));
    }
    let mut results = ProbeResults::default();
    for (root, (settings, servers)) in servers_by_root {
        // Invalid settings have findings.
        if servers.is_empty() || load_valid_settings(&sources, &root).is_err() {
            continue;
        }
        let request = ToolsRequest { trusted_digest: trust.digest(), ..ToolsRequest::default() };
        let project_tools = runner.open_tools(&root, settings.clone(), &request)?;
        let mut listed = ServerTools::new();
        for ServerToolList { server, listed: tools } in list_tools(project_tools, &servers)? {
            match tools {
                Ok(tools) => {
                    // The name of a tool begins with that of its server and a dot.
                    let names = tools.tools.iter().filter_map(|tool| tool.name.get(server.len() + 1..));
                    listed.insert(server.clone(), names.map(str::to_owned).collect());
                }
                Err(failure) => results.failures.push(failure.into()),
            }
        }
        let of_root = projects.iter().filter(|project| root_and_file(project, runner.current_dir()).0 == root);
        results.findings.extend(of_root.flat_map(|project| unlisted_tools(project, &listed)));
    }
    Ok(results)
}

/// Lists the tools of these servers, and ends the servers.
fn list_tools(project_tools: ProjectTools, servers: &BTreeSet<String>) -> Result<Vec<ServerToolList>> {
    runtime()?.block_on(async {
        let specs = servers.iter().filter_map(|name| project_tools.specs().get(name));
        let listed = tokio::select! {
            biased;
            listed = project_tools.list(specs) => Ok(listed),
            () = wait_for_signal() => {
                Err(RunnerError::usage("the command was stopped").with_status(ExitStatus::Interrupted))
            }
        };
        project_tools.close().await;
        Ok(listed?)
    })
}
