//! `orch tools list`.

use std::borrow::Cow;

use anyhow::Result;
use serde_json::{Value, json};

use crate::cli::args::OutputFormat;
use crate::cli::output::Ui;
use crate::cli::startup::{runner, runtime};
use crate::model::visible::{escape_line_breaks, escape_unsafe, one_line};
use crate::report::width::{display_width, pad_end, truncate_end};
use crate::runner::tool_info::{ToolInfo, builtin_tools};
use crate::runner::tools::{ProjectTools, ServerToolList};
use crate::runner::{ExitStatus, RunnerError};

use super::{ToolServerArgs, until_signal};

/// List the tools of orch and of the MCP servers in orch.yaml
///
/// Starts each server, asks for its tools and ends it. The exit code is 2 if a server can't be started or reached.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct ToolsListArgs {
    /// List only the tools of this MCP server
    #[arg(long, value_name = "NAME")]
    server: Option<String>,

    /// The output format
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    output: OutputFormat,

    #[command(flatten)]
    server_args: ToolServerArgs,
}

/// The maximum length of a description in a line, in characters.
const MAX_DESCRIPTION_CHARS: usize = 200;

pub(super) fn run(args: &ToolsListArgs, ui: &Ui) -> Result<ExitStatus> {
    let runner = runner(ui)?;
    let (_, settings) = runner.project_settings()?;
    let builtin = if args.server.is_none() { builtin_tools() } else { Vec::new() };
    let servers = if settings.mcp.is_empty() && args.server.is_none() {
        Vec::new()
    } else {
        let project_tools = args.server_args.open(&runner)?;
        runtime()?.block_on(async {
            let listed = until_signal(list_servers(&project_tools, args.server.as_deref())).await;
            project_tools.close().await;
            listed
        })?
    };
    if args.output == OutputFormat::Json {
        ui.write_data(&format!("{:#}", to_json(&builtin, &servers)))?;
    } else {
        let listed = servers.iter().filter_map(|server| server.listed.as_ref().ok());
        let tools: Vec<&ToolInfo> = builtin.iter().chain(listed.flat_map(|listed| &listed.tools)).collect();
        print_tools(&tools, ui)?;
    }
    let mut status = ExitStatus::Success;
    for ServerToolList { server, listed } in servers {
        match listed {
            Ok(listed) => {
                for note in listed.notes {
                    let note = format!("{} {server}: {note}", ui.stderr_style.warning("note:"));
                    ui.print_always(&escape_line_breaks(&note));
                }
            }
            Err(failure) => {
                ui.print_error(&RunnerError::from(failure));
                status = ExitStatus::Usage;
            }
        }
    }
    Ok(status)
}

/// Lists the tools of one server or of all.
async fn list_servers(project_tools: &ProjectTools, server: Option<&str>) -> Result<Vec<ServerToolList>, RunnerError> {
    match server {
        Some(name) => Ok(project_tools.list([project_tools.server(name)?]).await),
        None => Ok(project_tools.list(project_tools.specs().values()).await),
    }
}

/// Prints a line for each tool: its name, whether calls may change anything, and the beginning of its description.
fn print_tools(tools: &[&ToolInfo], ui: &Ui) -> Result<()> {
    let names: Vec<String> = tools.iter().map(|tool| printable_line(&tool.name)).collect();
    let name_width = names.iter().map(|name| display_width(name)).max().unwrap_or_default();
    for (tool, name) in tools.iter().zip(&names) {
        let access = if tool.only_reads { "read " } else { "write" };
        let first_line = tool.description.trim_start().lines().next().unwrap_or_default();
        let description = printable_line(&one_line(first_line, MAX_DESCRIPTION_CHARS));
        let line = format!("{}  {access}  {description}", pad_end(name, name_width));
        let line = line.trim_end();
        let line = ui.stdout_width().map_or(Cow::Borrowed(line), |width| truncate_end(line, width));
        ui.write_preformatted(&line)?;
    }
    Ok(())
}

/// A text of a server in one line, without control characters.
fn printable_line(text: &str) -> String {
    escape_unsafe(&escape_line_breaks(text)).into_owned()
}

fn to_json(builtin: &[ToolInfo], servers: &[ServerToolList]) -> Value {
    let listed = servers.iter().filter_map(|server| server.listed.as_ref().ok());
    let tools = builtin.iter().chain(listed.flat_map(|listed| &listed.tools)).map(ToolInfo::to_json);
    let servers = servers.iter().map(|ServerToolList { server, listed }| match listed {
        Ok(listed) => {
            json!({ "name": server, "protocol_version": listed.protocol_version, "notes": listed.notes, "error": null })
        }
        Err(failure) => {
            json!({ "name": server, "protocol_version": null, "notes": [], "error": failure.message })
        }
    });
    json!({ "tools": tools.collect::<Vec<Value>>(), "servers": servers.collect::<Vec<Value>>() })
}
