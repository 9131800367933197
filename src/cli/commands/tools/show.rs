//! `orch tools show`.

use anyhow::Result;

use crate::cli::args::OutputFormat;
use crate::cli::output::Ui;
use crate::cli::startup::{runner, runtime};
use crate::runner::ExitStatus;
use crate::runner::tool_info::{ToolInfo, builtin_tool};

use super::{ToolServerArgs, until_signal};

/// Show what a tool does, and the schemas of its arguments and its result
///
/// Starts the MCP server of the tool.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct ToolsShowArgs {
    /// The name of the tool: `read`, or `SERVER.TOOL`
    #[arg(value_name = "NAME")]
    name: String,

    /// The output format
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    output: OutputFormat,

    #[command(flatten)]
    server_args: ToolServerArgs,
}

pub(super) fn run(args: &ToolsShowArgs, ui: &Ui) -> Result<ExitStatus> {
    let tool = if let Some(tool) = builtin_tool(&args.name) {
        tool
    } else {
        let project_tools = args.server_args.open(&runner(ui)?)?;
        runtime()?.block_on(async {
            let tool = until_signal(project_tools.find(&args.name)).await;
            project_tools.close().await;
            tool
        })?
    };
    if args.output == OutputFormat::Json {
        ui.write_data(&format!("{:#}", tool.to_json()))?;
    } else {
        ui.write_text(&description(&tool))?;
    }
    Ok(ExitStatus::Success)
}

fn description(tool: &ToolInfo) -> String {
    let access = if tool.only_reads { "its calls change nothing" } else { "its calls may change something" };
    let mut text = format!("{}: {access}; models see it as `{}`\n", tool.name, tool.model_name);
    if !tool.description.is_empty() {
        text.push_str(&format!("\n{}\n", tool.description.trim_end()));
    }
    text.push_str(&format!("\narguments: {:#}\n", tool.arguments));
    if let Some(result) = &tool.result {
        text.push_str(&format!("\nresult: {result:#}\n"));
    }
    text
}
