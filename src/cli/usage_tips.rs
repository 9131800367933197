//! Tips about arguments that a command does not have, in place of those of the parser, and about missing runs.

use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::model::visible::escape_unsafe;

/// The beginnings of the commands that set inputs of a pipeline.
const COMMANDS_WITH_INPUTS: [&str; 4] = ["orch run ", "orch pipeline run ", "orch plan ", "orch pipeline plan "];

/// Options of other tools that limit the time.
const TIME_LIMIT_OPTIONS: [&str; 3] = ["--timeout", "--time-limit", "--max-time"];

/// The beginnings of the commands without such an option at which users look for one, and what limits the time there.
const TIME_LIMITS: &[(&[&str], &str)] = &[
    (
        &["orch run ", "orch pipeline run ", "orch plan ", "orch pipeline plan "],
        "to limit the time of a run, write `--budget seconds=NUMBER`; each step has a `timeout` in the pipeline; to set the \
         input `timeout` of the pipeline, write `--input timeout=VALUE`",
    ),
    (
        &["orch resume ", "orch pipeline resume "],
        "to limit the time of a run, write `--budget seconds=NUMBER`; each step has a `timeout` in the pipeline",
    ),
    (&["orch pipeline test "], "each step has a `timeout` in the pipeline, such as `timeout: 10m`"),
    (
        &["orch tools list ", "orch tools show ", "orch validate ", "orch pipeline validate "],
        "an MCP server has one minute to start and one to list its tools, and no option changes that; only \
         `orch tools call` has `--timeout` for its call",
    ),
];

/// Adds a tip to the error about a missing run: how to find one. Adds a tip to the error about an unknown argument: how to
/// pass a task that the user wrote without an option, or the value of an input, to a command with inputs; and how to limit
/// the time. `arguments` are those of the process.
pub(super) fn add_tip(error: &mut clap::Error, arguments: &[String]) {
    if let Some(tip) = tip(error, arguments) {
        let tip = StyledStr::from(escape_unsafe(&tip).into_owned());
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip]));
    }
}

fn tip(error: &clap::Error, arguments: &[String]) -> Option<String> {
    if error.kind() == ErrorKind::MissingRequiredArgument {
        return missing_run_tip(error);
    }
    // The parser has found a similar option.
    let has_similar_option = error.get(ContextKind::SuggestedArg).is_some();
    if error.kind() != ErrorKind::UnknownArgument || has_similar_option {
        return None;
    }
    let (Some(ContextValue::StyledStr(usage)), Some(ContextValue::String(argument))) =
        (error.get(ContextKind::Usage), error.get(ContextKind::InvalidArg))
    else {
        return None;
    };
    let usage = usage.to_string();
    if TIME_LIMIT_OPTIONS.contains(&argument.as_str())
        && let Some(tip) = time_limit_tip(&usage)
    {
        return Some(tip.to_owned());
    }
    if !COMMANDS_WITH_INPUTS.iter().any(|command| usage.contains(command)) {
        return None;
    }
    Some(match argument.strip_prefix("--") {
        Some(name) => {
            let name = name.replace('-', "_");
            format!("to set the input `{name}` of the pipeline, write `--input {name}=VALUE`")
        }
        None if argument.starts_with('-') => return None,
        None => {
            let task = quote(&stray_words(arguments, argument));
            format!("to set the input `task`, write `--task {task}`; other inputs are set with `--input NAME=VALUE`")
        }
    })
}

/// How to find the run that a command needs, because it changes or deletes something.
fn missing_run_tip(error: &clap::Error) -> Option<String> {
    let Some(ContextValue::Strings(missing)) = error.get(ContextKind::InvalidArg) else { return None };
    let names_run = missing.iter().any(|argument| argument.starts_with("<RUN"));
    names_run.then(|| "`orch runs list` shows the runs, the latest first".to_owned())
}

/// How to limit the time of the command with this usage.
fn time_limit_tip(usage: &str) -> Option<&'static str> {
    let is_usage_of = |commands: &[&str]| commands.iter().any(|command| usage.contains(command));
    TIME_LIMITS.iter().find(|(commands, _)| is_usage_of(commands)).map(|(_, tip)| *tip)
}

/// The text that the user meant as the task: the argument and the words after it, and before it the value of `--task`.
fn stray_words(arguments: &[String], argument: &str) -> String {
    let after = |start: usize, is_wanted: &dyn Fn(&str) -> bool| {
        let found = arguments.iter().skip(start).position(|word| is_wanted(word));
        found.map(|offset| start + offset)
    };
    let command = after(0, &|word| matches!(word, "run" | "plan")).map_or(0, |command| command + 1);
    let pipeline = after(command, &|word| !word.starts_with('-')).map_or(command, |pipeline| pipeline + 1);
    let Some(start) = after(pipeline, &|word| word == argument) else { return argument.to_owned() };
    let is_task_option = |at: &usize| matches!(arguments.get(*at).map(String::as_str), Some("--task" | "-t"));
    let task = start.checked_sub(2).filter(is_task_option).and_then(|option| arguments.get(option + 1));
    let words = arguments.iter().skip(start).take_while(|word| !word.starts_with('-'));
    task.into_iter().chain(words).map(String::as_str).collect::<Vec<_>>().join(" ")
}

/// A text in quotes for a shell.
fn quote(text: &str) -> String {
    if text.contains(['"', '\\', '$', '`', '!']) {
        return format!("'{}'", text.replace('\'', r"'\''"));
    }
    format!("\"{text}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_a_task_are_collected() {
        let words = |line: &str, argument: &str| {
            let arguments: Vec<String> = line.split(' ').map(str::to_owned).collect();
            stray_words(&arguments, argument)
        };
        assert_eq!(words("orch run default extra", "extra"), "extra");
        assert_eq!(words("orch pipeline run default Create a model -q", "Create"), "Create a model");
        assert_eq!(words("orch plan default --task Create a model", "a"), "Create a model");
        assert_eq!(words("orch run default default", "default"), "default");
        assert_eq!(quote("it's"), "\"it's\"");
        assert_eq!(quote("it's $5"), r"'it'\''s $5'");
    }
}
