//! The text that a graph shows for a step, and functions that fit text into columns.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::edge_index::EdgeIndex;
use super::{ConsumedArtifact, GraphNode, ProducedArtifact};
use crate::model::step::CommandLine;
use crate::model::visible::escape_unsafe;
use crate::model::{Pipeline, Step, StepAction, counted};

/// Returns the kind of a step as text.
pub(super) fn kind_label(step: &Step, pipeline: &Pipeline) -> String {
    match step.action() {
        Some(StepAction::Agent { agent, .. }) => {
            let model = pipeline.agents.get(agent).map_or("", |agent| agent.model.as_str());
            let separator = if model.is_empty() { "" } else { " · " };
            one_line(&format!("agent {agent}{separator}{model}"))
        }
        Some(StepAction::Command(_)) => "command".to_owned(),
        Some(StepAction::Call(tool)) => one_line(&format!("tool {tool}")),
        Some(StepAction::Write(_)) => "files".to_owned(),
        Some(StepAction::Approve(_)) => "approval".to_owned(),
        Some(StepAction::Parallel(_)) => match step.max_parallel {
            Some(limit) if step.for_each.is_none() => format!("in parallel, at most {limit}"),
            _ => "in parallel".to_owned(),
        },
        Some(StepAction::Sequence(_)) => "in sequence".to_owned(),
        Some(StepAction::Repeat(repeat)) => format!("loop, at most {}", counted(repeat.max, "iteration")),
        Some(StepAction::Pipeline(file)) => one_line(&format!("pipeline {file}")),
        None => String::new(),
    }
}

/// Returns the details of a step, one per line.
pub(super) fn detail_lines(step: &Step, pipeline: &Pipeline) -> Vec<String> {
    let mut out = Vec::new();
    if let Some(list) = &step.for_each {
        let limit = step.max_parallel.map_or_else(String::new, |limit| format!(", {limit} in parallel"));
        out.push(format!("for each of {list}{limit}"));
    }
    out.extend(step.when.iter().map(|when| format!("when {when}")));
    match step.action() {
        Some(StepAction::Agent { agent, prompt }) => {
            out.push(format!("prompts/{prompt}"));
            let files = pipeline.agents.get(agent).map(|agent| agent.pipelines.as_slice()).unwrap_or_default();
            if !files.is_empty() {
                out.push(format!("may call {}", files.join(", ")));
            }
        }
        Some(StepAction::Command(CommandLine::Shell(line))) => out.push(format!("$ {line}")),
        Some(StepAction::Command(CommandLine::Argv(args))) => out.push(format!("$ {}", args.join(" "))),
        Some(StepAction::Call(_)) => {
            out.extend(step.args.iter().map(|(name, value)| match value.as_str() {
                Some(text) => format!("{name}: {text}"),
                None => format!("{name}: {value}"),
            }));
        }
        Some(StepAction::Write(files)) => out.push(format!("writes the files of {files}")),
        Some(StepAction::Approve(message)) => out.push(format!("question: {}", message.trim())),
        Some(StepAction::Repeat(repeat)) => out.extend(repeat.until.iter().map(|until| format!("until {until}"))),
        Some(StepAction::Parallel(_) | StepAction::Sequence(_) | StepAction::Pipeline(_)) | None => {}
    }
    out.iter().map(|line| one_line(line)).collect()
}

/// Returns the artifacts that a step reads and produces, as `plan, code? ─▶ review (schemas/review.schema.json)`.
pub(super) fn data_flow_label(node: &GraphNode, edges: &EdgeIndex<'_>) -> Option<String> {
    let input_label = |artifact: &ConsumedArtifact| {
        let suffix = if artifact.optional { "?" } else { "" };
        format!("{}{suffix}", artifact.name)
    };
    let mut consumed: Vec<String> = node.consumed.iter().map(input_label).collect();
    for edge in edges.previous_iteration_edges(node) {
        let label = edge.kind.label();
        if !consumed.contains(&label) {
            consumed.push(label);
        }
    }
    if consumed.is_empty() && node.produced.is_empty() {
        return None;
    }
    let consumed = consumed.join(", ");
    let produced_label = |artifact: &ProducedArtifact| match artifact.type_label.as_str() {
        "" => artifact.name.clone(),
        type_label => format!("{} ({type_label})", artifact.name),
    };
    let produced = node.produced.iter().map(produced_label).collect::<Vec<_>>().join(", ");
    Some(match (consumed.is_empty(), produced.is_empty()) {
        (false, true) => format!("{consumed} ─▶"),
        (true, _) => format!("─▶ {produced}"),
        (false, false) => format!("{consumed} ─▶ {produced}"),
    })
}

/// Puts a text on one line: each run of white space becomes one space, and invisible characters become visible.
pub(super) fn one_line(text: &str) -> String {
    escape_unsafe(text).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Returns the number of columns that a text takes in a terminal.
pub(super) fn display_width(text: &str) -> usize {
    text.width()
}

/// Truncates a text to at most this many columns, and ends a truncated text with an ellipsis.
pub(super) fn truncate_to_width(text: &str, columns: usize) -> String {
    if display_width(text) <= columns {
        return text.to_owned();
    }
    let mut out = String::new();
    for c in text.chars() {
        let mut extended = out.clone();
        extended.push(c);
        if display_width(&extended) + 1 > columns {
            break;
        }
        out = extended;
    }
    out.push('…');
    out
}

/// Breaks a text into lines of at most this many columns, at spaces where possible.
pub(super) fn wrap(text: &str, columns: usize) -> Vec<String> {
    let columns = columns.max(4);
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line_width = lines.last().map_or(0, |line| display_width(line));
        if line_width > 0 && line_width + 1 + display_width(word) <= columns {
            if let Some(line) = lines.last_mut() {
                line.push(' ');
                line.push_str(word);
            }
            continue;
        }
        if line_width > 0 {
            lines.push(String::new());
        }
        for c in word.chars() {
            let is_full = lines.last().is_some_and(|line| display_width(line) + c.width().unwrap_or(0) > columns);
            if is_full {
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
    fn wide_characters_count_as_two_columns() {
        assert_eq!(truncate_to_width("計画を立てる", 7), "計画を…");
        assert_eq!(wrap("計画を立てる", 6), ["計画を", "立てる"]);
        assert_eq!(wrap("a long name of words", 8), ["a long", "name of", "words"]);
    }
}
