//! Reports constant paths that orch would refuse at run time: paths of files that `write` steps and calls of `edit` and
//! `write` never change, and folders of commands outside the workspace.

use std::ops::Range;
use std::path::Path;

use minijinja::machinery::ast::{BinOpKind, Expr, Stmt};
use minijinja::machinery::parse;
use serde_json::json;

use crate::config::{OutputType, Project, child_pointer, output_type, steps_with_pointers};
use crate::diagnostic::{Code, Diagnostic};
use crate::files::{self, PathIndex, ReservedFiles};
use crate::model::{Artifact, BuiltinTool, Step, StepAction};
use crate::template::walk::{Visit, walk_expr};
use crate::template::{expr_range, parse_expression, template_syntax};

/// The help for a path that `write` refuses.
pub(super) const PATH_HELP: &str = "paths are relative to the workspace, such as `src/main.py`";

/// The part of a text, from its start, that is the same for all values.
#[derive(Default)]
struct ConstantText {
    text: String,
    /// Whether it is the whole text.
    is_whole: bool,
}

/// The files of the artifacts of a run, as paths relative to the workspace.
pub(super) fn artifact_files(project: &Project) -> PathIndex {
    let mut files = Vec::new();
    for steps in [&project.pipeline.steps, &project.pipeline.finally] {
        collect_artifact_files(steps, &mut files);
    }
    PathIndex::new(files)
}

fn collect_artifact_files(steps: &[Step], files: &mut Vec<String>) {
    for step in steps {
        if let Some(name) = &step.output {
            let is_text = step.for_each.is_none() && matches!(output_type(step), Some(OutputType::Text));
            files.push(Artifact::file_path(name, is_text));
        }
        // The artifacts of the items of a `for_each` have no files.
        if step.for_each.is_none() {
            collect_artifact_files(step.children().1, files);
        }
    }
}

/// Checks the constant paths of a pipeline. `artifact_files` are the files of the run's artifacts.
pub(super) fn check(project: &Project, artifact_files: &PathIndex) -> Vec<Diagnostic> {
    let mut diagnostics = Vec::new();
    for (pointer, step) in steps_with_pointers(&project.pipeline) {
        match step.action() {
            Some(StepAction::Write(files)) => {
                diagnostics.extend(check_write(project, &child_pointer(&pointer, "write"), files, artifact_files));
            }
            Some(StepAction::Command(_)) => {
                let cwd_pointer = child_pointer(&pointer, "cwd");
                diagnostics.extend(step.cwd.as_deref().and_then(|cwd| check_cwd(project, &cwd_pointer, cwd)));
            }
            Some(StepAction::Call(_)) => {
                diagnostics.extend(check_changed_path(project, &pointer, step, artifact_files));
            }
            Some(
                StepAction::Agent { .. }
                | StepAction::Approve(_)
                | StepAction::Parallel(_)
                | StepAction::Repeat(_)
                | StepAction::Sequence(_)
                | StepAction::Pipeline(_),
            )
            | None => {}
        }
    }
    diagnostics
}

/// Reports the constant paths in the value of `write` that it would refuse.
fn check_write(project: &Project, pointer: &str, text: &str, artifact_files: &PathIndex) -> Vec<Diagnostic> {
    let Ok(parsed) = parse_expression(text) else { return Vec::new() };
    let mut search = PathSearch::default();
    walk_expr(&parsed, &mut search);
    let refused = search.paths.into_iter().filter_map(|(range, path)| {
        let refusal = path_refusal(&path.extended(), artifact_files)?;
        let document = &project.document;
        let diagnostic = Diagnostic::error(Code::RefusedPath, refusal);
        Some(diagnostic.with_span(&document.file, document.span_in_value(pointer, range)).with_help(PATH_HELP))
    });
    refused.collect()
}

/// Reports the constant path of a file that the called tool would refuse to change.
fn check_changed_path(
    project: &Project,
    step_pointer: &str,
    step: &Step,
    artifact_files: &PathIndex,
) -> Option<Diagnostic> {
    let tool = step.called_builtin().filter(|tool| matches!(tool, BuiltinTool::Edit | BuiltinTool::Write))?;
    let path = constant_template(step.args.get("path")?.as_str()?).extended();
    // Unlike `write`, a tool accepts the absolute path of a file in the workspace.
    let refusal = path_refusal(&path, artifact_files).filter(|_| !Path::new(&path).is_absolute())?;
    let document = &project.document;
    let pointer = child_pointer(&child_pointer(step_pointer, "args"), "path");
    let diagnostic = Diagnostic::error(Code::RefusedPath, format!("the tool `{tool}`: {refusal}"));
    Some(diagnostic.with_span(&document.file, document.spans.value(&pointer)).with_help(PATH_HELP))
}

/// The reason for which `write` refuses a path, in the words of a run; `None` if it accepts the path.
pub(super) fn path_refusal(path: &str, artifact_files: &PathIndex) -> Option<String> {
    let reserved = ReservedFiles { artifacts: artifact_files, ..ReservedFiles::default() };
    files::refusals(&json!([{ "path": path, "content": "" }]), reserved).into_iter().next()
}

/// Reports a working directory of a command outside the workspace.
fn check_cwd(project: &Project, pointer: &str, cwd: &str) -> Option<Diagnostic> {
    if !files::leaves_folder(&constant_template(cwd).extended()) {
        return None;
    }
    let document = &project.document;
    let diagnostic = Diagnostic::error(Code::PathOutsideFolder, format!("`cwd: {cwd}` leads out of the workspace"));
    let diagnostic = diagnostic.with_span(&document.file, document.spans.value(pointer));
    Some(diagnostic.with_help("set it to a folder in the workspace, relative to the workspace"))
}

/// Collects the paths of the files in an expression.
#[derive(Default)]
struct PathSearch {
    paths: Vec<(Range<usize>, ConstantText)>,
}

impl<'a> Visit<'a> for PathSearch {
    fn visit_expr(&mut self, expr: &Expr<'a>) {
        let Expr::Map(map) = expr else { return };
        if !map.keys.iter().any(|key| is_text(key, "content") || is_text(key, "delete")) {
            return;
        }
        let entries = map.keys.iter().zip(&map.values);
        let paths = entries.filter(|(key, _)| is_text(key, "path"));
        self.paths.extend(paths.map(|(_, path)| (expr_range(path), constant_text(path))));
    }
}

fn is_text(expr: &Expr<'_>, text: &str) -> bool {
    matches!(expr, Expr::Const(constant) if constant.value.as_str() == Some(text))
}

impl ConstantText {
    /// Adds the text that follows. Returns whether further text may be added.
    fn append(&mut self, following: &Self) -> bool {
        self.text.push_str(&following.text);
        self.is_whole = following.is_whole;
        self.is_whole
    }

    /// The text, with a `*` for what may follow in its last name.
    fn extended(&self) -> String {
        if self.is_whole { self.text.clone() } else { format!("{}*", self.text) }
    }
}

/// The constant part of the text that an expression returns.
fn constant_text(expr: &Expr<'_>) -> ConstantText {
    match expr {
        Expr::Const(constant) => match constant.value.as_str() {
            Some(text) => ConstantText { text: text.to_owned(), is_whole: true },
            None => ConstantText::default(),
        },
        Expr::BinOp(inner) if matches!(inner.op, BinOpKind::Concat | BinOpKind::Add) => {
            let mut text = constant_text(&inner.left);
            if text.is_whole {
                text.append(&constant_text(&inner.right));
            }
            text
        }
        _ => ConstantText::default(),
    }
}

/// The constant part of a rendered template.
fn constant_template(text: &str) -> ConstantText {
    let Ok(Stmt::Template(parsed)) = parse(text, "template", template_syntax()) else {
        return ConstantText::default();
    };
    let mut constant = ConstantText { text: String::new(), is_whole: true };
    for statement in &parsed.children {
        let part = match statement {
            Stmt::EmitRaw(inner) => ConstantText { text: inner.raw.to_owned(), is_whole: true },
            Stmt::EmitExpr(inner) => constant_text(&inner.expr),
            _ => ConstantText::default(),
        };
        if !constant.append(&part) {
            break;
        }
    }
    constant
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_constant_part_of_a_text_ends_at_the_first_value() {
        for (template, expected, is_whole) in [
            ("src/app", "src/app", true),
            ("../{{ name }}/x", "../", false),
            ("{{ '../' ~ name }}", "../", false),
            ("{{ 'src' ~ '/app' }}", "src/app", true),
            ("{{ name }}/..", "", false),
            ("{% if x %}..{% endif %}", "", false),
        ] {
            let constant = constant_template(template);
            assert_eq!((constant.text.as_str(), constant.is_whole), (expected, is_whole), "{template}");
        }
    }

    #[test]
    fn a_path_is_refused_only_if_every_text_that_begins_so_is() {
        let refusal = |text: &str, is_whole| {
            let path = ConstantText { text: text.to_owned(), is_whole };
            path_refusal(&path.extended(), &PathIndex::new(["plan.json".to_owned()]))
        };
        assert_eq!(refusal("/etc/x", true).unwrap(), "`/etc/x` is absolute, and paths start in the workspace");
        assert_eq!(refusal("plan.json", true).unwrap(), "`plan.json` is kept for the artifact that orch writes there");
        assert!(refusal("../", false).is_some());
        assert!(refusal(".git/", false).is_some());
        for (text, is_whole) in [("src/main.py", true), ("..", false), (".git", false), ("", false), ("plan", false)] {
            assert!(refusal(text, is_whole).is_none(), "{text}");
        }
    }
}
