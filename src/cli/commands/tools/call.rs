//! `orch tools call`.

use anyhow::Result;
use serde_json::{Map, Value, json};

use crate::cli::args::{OutputFormat, parse_time_limit};
use crate::cli::interrupt::wait_for_signal;
use crate::cli::output::Ui;
use crate::cli::startup::{runner, runtime};
use crate::files::read_to_end_bounded;
use crate::model::visible::escape_line_breaks;
use crate::model::{Failure, FailureClass, HumanDuration, InputRequired};
use crate::runner::tool_info::ToolInfo;
use crate::runner::tools::{ProjectTools, ToolCallOptions, ToolCallOutcome};
use crate::runner::{ExitStatus, Runner, RunnerError};

use super::progress::ProgressLines;
use super::{ToolServerArgs, until_signal};

/// Call a tool once
///
/// Prints what a model would receive as the result. Nothing is recorded. The exit code is 0 if the tool returned a
/// result, 1 if it reports an error or gave no answer, 2 if orch could not make the call, and 3 if the MCP server asks
/// for input and --answer is missing.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct ToolsCallArgs {
    /// The name of the tool: `read`, or `SERVER.TOOL`
    #[arg(value_name = "NAME")]
    name: String,

    /// The arguments, as a JSON object; `-` reads it from standard input
    #[arg(long = "args", value_name = "JSON")]
    arguments: Option<String>,

    /// One argument; takes precedence over --args. orch converts the text to the type in the schema of the tool
    #[arg(long = "arg", short, value_name = "NAME=VALUE", value_parser = parse_argument)]
    argument: Vec<(String, String)>,

    /// The answer to questions of the MCP server, as JSON; `null` declines
    #[arg(long, value_name = "JSON")]
    answer: Option<String>,

    /// The time limit of the call, such as `90s` or `5m`
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = parse_time_limit)]
    timeout: HumanDuration,

    /// Call a tool that may change something without asking
    #[arg(long, short)]
    yes: bool,

    /// The output format
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    output: OutputFormat,

    #[command(flatten)]
    server_args: ToolServerArgs,
}

/// The maximum size of arguments on standard input, in bytes.
const MAX_ARGUMENT_BYTES: u64 = 64 << 20;

fn parse_argument(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| "write the name, `=` and the value".to_owned())?;
    Ok((name.to_owned(), value.to_owned()))
}

pub(super) fn run(args: &ToolsCallArgs, ui: &Ui) -> Result<ExitStatus> {
    let runner = runner(ui)?;
    let arguments = read_arguments(args)?;
    let project_tools = args.server_args.open_with_answer(&runner, args.answer.clone())?;
    let result = runtime()?.block_on(async {
        let result = call(args, arguments, &project_tools, &runner, ui).await;
        project_tools.close().await;
        result
    })?;
    match (result, args.output) {
        (ToolCallOutcome::Output { content, is_error, structured }, format) => {
            match format {
                // The text is for people; `--output json` has it as data.
                OutputFormat::Text => ui.write_preformatted(&content)?,
                OutputFormat::Json => {
                    let json = json!({ "content": content, "is_error": is_error, "structured": structured });
                    ui.write_data(&format!("{json:#}"))?;
                }
            }
            Ok(if is_error { ExitStatus::Failed } else { ExitStatus::Success })
        }
        (ToolCallOutcome::Questions(input), OutputFormat::Text) => {
            ui.print_always(&question_text(&args.name, &input));
            Ok(ExitStatus::Waiting)
        }
        (ToolCallOutcome::Questions(input), OutputFormat::Json) => {
            ui.write_data(&format!("{:#}", json!({ "questions": input.questions })))?;
            Ok(ExitStatus::Waiting)
        }
    }
}

/// Finds the tool, checks the arguments and makes the call. A signal ends each of these.
async fn call(
    args: &ToolsCallArgs,
    arguments: Map<String, Value>,
    project_tools: &ProjectTools,
    runner: &Runner,
    ui: &Ui,
) -> Result<ToolCallOutcome, RunnerError> {
    let tool = until_signal(project_tools.find(&args.name)).await?;
    let arguments = tool.read_arguments(&Value::Object(arguments))?;
    if !tool.only_reads && !args.yes {
        confirm_call(&tool, &arguments, runner)?;
    }
    let progress = ProgressLines::new(|text: &str| ui.print_message(escape_line_breaks(text)));
    let on_progress = |text: &str| progress.add(text);
    let options = ToolCallOptions { timeout: args.timeout.0, on_progress: &on_progress };
    let interruption = async {
        wait_for_signal().await;
        Failure::new(FailureClass::Cancelled, "the command was stopped")
    };
    let call = Box::pin(project_tools.call(&tool, &arguments, &options, interruption));
    progress.print_during(call).await
}

/// Asks the user before a call that may change something.
fn confirm_call(tool: &ToolInfo, arguments: &Value, runner: &Runner) -> Result<(), RunnerError> {
    let question = format!("Call `{}` with {arguments}? It may change something.", tool.name);
    match runner.prompter.confirm(&question) {
        Some(true) => Ok(()),
        Some(false) => Err(RunnerError::usage(format!("`{}` was not called", tool.name))),
        None => Err(RunnerError::usage(format!("`{}` may change something", tool.name))
            .with_hint("pass --yes to call it, or set `access: read` of its MCP server if no call changes anything")),
    }
}

/// The arguments of the command line.
fn read_arguments(args: &ToolsCallArgs) -> Result<Map<String, Value>, RunnerError> {
    let text = match args.arguments.as_deref() {
        Some("-") => {
            let bytes = read_to_end_bounded(std::io::stdin(), MAX_ARGUMENT_BYTES)
                .map_err(|error| RunnerError::usage(format!("standard input can't be read: {error}")))?;
            String::from_utf8_lossy(&bytes).into_owned()
        }
        Some(text) => text.to_owned(),
        None => "{}".to_owned(),
    };
    let mut arguments: Map<String, Value> = serde_json::from_str(&text).map_err(|error| {
        RunnerError::usage(format!("the value of --args is not a JSON object: {error}"))
            .with_hint("for example: --args '{\"path\":\"README.md\"}'")
    })?;
    for (name, value) in &args.argument {
        arguments.insert(name.clone(), Value::String(value.clone()));
    }
    Ok(arguments)
}

/// The questions of a server, and how to answer them.
fn question_text(tool: &str, input: &InputRequired) -> String {
    let mut text = format!("The MCP server of `{tool}` asks:");
    for (name, question) in &input.questions {
        text.push_str(&format!("\n\n`{}`: {}", escape_line_breaks(name), question.message));
        if let Some(url) = &question.url {
            text.push_str(&format!("\nIt wants you to open this address: {}", escape_line_breaks(url)));
        }
        if let Some(schema) = &question.schema {
            text.push_str(&format!("\nThe answer fits this JSON Schema:\n{schema:#}"));
        }
    }
    let form = if input.questions.len() == 1 {
        "the answer: an object, `true` for an address, or `null` to decline"
    } else {
        "an object with an answer for each name: an object, `true` for an address, or `null` to decline"
    };
    text.push_str(&format!("\n\nTo answer, call the tool again with `--answer JSON`, where JSON is {form}."));
    text
}

#[cfg(test)]
mod tests {
    use indexmap::IndexMap;

    use super::*;
    use crate::model::InputQuestion;

    #[test]
    fn the_name_and_the_address_of_a_question_add_no_line() {
        let question = InputQuestion {
            message: "Open it.\nThen continue.".to_owned(),
            schema: None,
            url: Some("https://a.example/\nrm".to_owned()),
        };
        let input = InputRequired { questions: IndexMap::from([("a\n\nTo answer".to_owned(), question)]), state: None };
        let text = question_text("docs.t", &input);
        let expected = "\n\n`a\\n\\nTo answer`: Open it.\nThen continue.\nIt wants you to open this address: \
                        https://a.example/\\nrm\n\n";
        assert!(text.contains(expected), "{text}");
    }
}
