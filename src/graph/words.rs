//! The text that a picture shows for a step, and functions that fit text into columns.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::{ConsumedArtifact, Edge, EdgeKind, GraphNode, ProducedArtifact};
use crate::model::step::CommandLine;
use crate::model::visible::visible;
use crate::model::{Pipeline, Step, StepAction};

/// The kind of a step as text.
pub(super) fn what(step: &Step, pipeline: &Pipeline) -> String {
    match step.kind() {
        Some(StepAction::Agent { agent, .. }) => {
            let model = pipeline.agents.get(agent).map_or("", |agent| agent.model.as_str());
            let dot = if model.is_empty() { "" } else { " · " };
            one_line(&format!("agent {agent}{dot}{model}"))
        }
        Some(StepAction::Command(_)) => "command".to_owned(),
        Some(StepAction::Write(_)) => "files".to_owned(),
        Some(StepAction::Approve(_)) => "approval".to_owned(),
        Some(StepAction::Parallel(_)) => match step.max_parallel {
            Some(limit) if step.for_each.is_none() => format!("side by side, {limit} at once"),
            _ => "side by side".to_owned(),
        },
        Some(StepAction::Sequence(_)) => "one after another".to_owned(),
        Some(StepAction::Repeat(repeat)) => format!("repeat, {} rounds at most", repeat.max),
        Some(StepAction::Pipeline(file)) => one_line(&format!("pipeline {file}")),
        None => String::new(),
    }
}

/// Details of a step, one per line.
pub(super) fn lines(step: &Step) -> Vec<String> {
    let mut out = Vec::new();
    if let Some(list) = &step.for_each {
        let limit = step.max_parallel.map_or_else(String::new, |limit| format!(", {limit} at once"));
        out.push(format!("for each of {list}{limit}"));
    }
    out.extend(step.when.iter().map(|when| format!("when {when}")));
    match step.kind() {
        Some(StepAction::Agent { prompt, .. }) => out.push(format!("prompts/{prompt}")),
        Some(StepAction::Command(CommandLine::Shell(line))) => out.push(format!("$ {line}")),
        Some(StepAction::Command(CommandLine::Argv(parts))) => out.push(format!("$ {}", parts.join(" "))),
        Some(StepAction::Write(files)) => out.push(format!("writes the files of {files}")),
        Some(StepAction::Approve(message)) => out.push(format!("asks: {}", message.trim())),
        Some(StepAction::Repeat(repeat)) => out.extend(repeat.until.iter().map(|until| format!("until {until}"))),
        Some(StepAction::Parallel(_) | StepAction::Sequence(_) | StepAction::Pipeline(_)) | None => {}
    }
    out.iter().map(|line| one_line(line)).collect()
}

/// What a step reads and produces: `plan, code? ─▶ review (schemas/review.schema.json)`.
pub(super) fn flow(node: &GraphNode, edges: &[Edge]) -> Option<String> {
    if node.reads.is_empty() && node.gives.is_empty() {
        return None;
    }
    let read = |read: &ConsumedArtifact| {
        let mark = if read.optional { "?" } else { "" };
        let last_round =
            |edge: &&Edge| edge.to == node.at && matches!(&edge.flow, EdgeKind::LastRound(name) if *name == read.name);
        let round = if edges.iter().any(|edge| last_round(&edge)) { " (of the round before)" } else { "" };
        format!("{}{mark}{round}", read.name)
    };
    let reads = node.reads.iter().map(read).collect::<Vec<_>>().join(", ");
    let given = |given: &ProducedArtifact| match given.contract.as_str() {
        "" => given.name.clone(),
        contract => format!("{} ({contract})", given.name),
    };
    let gives = node.gives.iter().map(given).collect::<Vec<_>>().join(", ");
    Some(match (reads.is_empty(), gives.is_empty()) {
        (false, true) => format!("{reads} ─▶"),
        (true, _) => format!("─▶ {gives}"),
        (false, false) => format!("{reads} ─▶ {gives}"),
    })
}

/// A text on one line: each run of white space becomes one space, and invisible characters are made visible.
pub(super) fn one_line(text: &str) -> String {
    visible(text).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// How many columns a text takes in a terminal.
pub(super) fn width(text: &str) -> usize {
    text.width()
}

/// A text of at most this many columns; an ellipsis marks where it was cut off.
pub(super) fn fit(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let mut out = String::new();
    for c in text.chars() {
        let mut longer = out.clone();
        longer.push(c);
        if width(&longer) + 1 > columns {
            break;
        }
        out = longer;
    }
    out.push('…');
    out
}

/// A text in lines of at most this many columns, broken at spaces where possible.
pub(super) fn wrap(text: &str, columns: usize) -> Vec<String> {
    let columns = columns.max(4);
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let used = lines.last().map_or(0, |line| width(line));
        if used > 0 && used + 1 + width(word) <= columns {
            if let Some(line) = lines.last_mut() {
                line.push(' ');
                line.push_str(word);
            }
            continue;
        }
        if used > 0 {
            lines.push(String::new());
        }
        for c in word.chars() {
            let full = lines.last().is_some_and(|line| width(line) + c.width().unwrap_or(0) > columns);
            if full {
                lines.push(String::new());
            }
            if let Some(line) = lines.last_mut() {
                line.push(c);
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_letters_take_two_columns_when_text_is_cut_and_broken() {
        assert_eq!(fit("計画を立てる", 7), "計画を…");
        assert_eq!(wrap("計画を立てる", 6), ["計画を", "立てる"]);
        assert_eq!(wrap("a long name of words", 8), ["a long", "name of", "words"]);
    }
}
