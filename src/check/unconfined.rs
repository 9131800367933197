//! Warns about a command without a sandbox after a model wrote files: the command may run what the model wrote.

use std::collections::{HashMap, HashSet};

use crate::config::{Project, child_pointer, steps_with_pointers};
use crate::diagnostic::{Code, Diagnostic};
use crate::model::step::{Access, CommandLine};
use crate::model::{Step, StepAction};
use crate::template::variables;

/// Programs that never run a file of the workspace.
const FILE_PROGRAMS: &[&str] = &[
    "cat",
    "cmp",
    "cp",
    "cut",
    "diff",
    "du",
    "echo",
    "false",
    "grep",
    "head",
    "ls",
    "mkdir",
    "mv",
    "printf",
    "pwd",
    "rm",
    "rmdir",
    "sha256sum",
    "sleep",
    "sort",
    "stat",
    "tail",
    "test",
    "touch",
    "tr",
    "true",
    "uniq",
    "wc",
];

pub(super) fn check(project: &Project) -> Vec<Diagnostic> {
    let mut walk =
        UnconfinedWalk { project, model_artifacts: model_artifacts(project), writer: None, found: HashMap::new() };
    walk.visit_all(&project.pipeline.steps);
    walk.visit_all(&project.pipeline.finally);
    let mut diagnostics = Vec::new();
    for (pointer, step) in steps_with_pointers(&project.pipeline) {
        let Some(writer) = walk.found.get(&std::ptr::from_ref(step)) else { continue };
        let message = format!(
            "step `{}` may run files that a model wrote (step `{writer}`), and without a sandbox they run with all your \
             rights",
            step.id
        );
        let document = &project.document;
        let span = document.spans.key(&child_pointer(&pointer, "run"));
        let help = "confine it with `sandbox: {}`; if it runs no such file, write `access: none`, or \
                    `sandbox: { enabled: false }`";
        diagnostics.push(
            Diagnostic::warning(Code::UnconfinedCommand, message).with_span(&document.file, span).with_help(help),
        );
    }
    diagnostics
}

/// A walk through the steps in the order in which they run.
struct UnconfinedWalk<'a> {
    project: &'a Project,
    /// The artifacts that a model produces.
    model_artifacts: HashSet<&'a str>,
    /// The latest step that wrote files of a model.
    writer: Option<&'a str>,
    /// The commands to warn about, each with the step that wrote files before.
    found: HashMap<*const Step, &'a str>,
}

impl<'a> UnconfinedWalk<'a> {
    fn visit_all(&mut self, steps: &'a [Step]) {
        for step in steps {
            self.visit(step);
        }
    }

    fn visit(&mut self, step: &'a Step) {
        if step.repeat.is_some() || step.for_each.is_some() {
            // In the next round, a command comes after every step of the round before.
            self.writer = self.last_writer(step).or(self.writer);
        }
        if let Some(StepAction::Command(line)) = step.action() {
            let is_confined = step.sandbox.is_some() || step.access == Some(Access::None) || runs_no_file(line);
            if let Some(writer) = self.writer.filter(|_| !is_confined) {
                self.found.insert(std::ptr::from_ref(step), writer);
            }
        }
        self.visit_all(step.children().1);
        if self.writes_files_of_a_model(step) {
            self.writer = Some(&step.id);
        }
    }

    /// The last step that writes files of a model: this one or one inside it.
    fn last_writer(&self, step: &'a Step) -> Option<&'a str> {
        let mut steps: Vec<&'a Step> = Vec::new();
        step.walk(&mut |inner| steps.push(inner));
        steps.into_iter().rev().find(|inner| self.writes_files_of_a_model(inner)).map(|inner| inner.id.as_str())
    }

    fn writes_files_of_a_model(&self, step: &Step) -> bool {
        if let Some(StepAction::Pipeline(file)) = step.action() {
            let called = self.project.called_projects.get(file);
            return called.is_some_and(|called| {
                called.with_called_projects().into_iter().any(|called| {
                    let artifacts = model_artifacts(called);
                    called.pipeline.all_steps().into_iter().any(|step| writes_directly(called, &artifacts, step))
                })
            });
        }
        writes_directly(self.project, &self.model_artifacts, step)
    }
}

/// Whether a step itself writes files that a model made: a CLI agent that may write, or the files of an artifact.
fn writes_directly(project: &Project, model_artifacts: &HashSet<&str>, step: &Step) -> bool {
    let agents = &project.pipeline.agents;
    match step.action() {
        Some(StepAction::Agent { agent, .. }) => {
            let is_program = agents.get(agent).is_some_and(|agent| agent.cli_kind().is_some());
            is_program && step.effective_access(agents) == Access::Write
        }
        Some(StepAction::Write(files)) => variables(files).iter().any(|name| model_artifacts.contains(name.as_str())),
        _ => false,
    }
}

/// The artifacts that a model produces: those of agents, of groups with agents, and of called pipelines with agents.
fn model_artifacts(project: &Project) -> HashSet<&str> {
    let mut names = HashSet::new();
    for step in project.pipeline.all_steps() {
        let mut calls_agent = false;
        step.walk(&mut |inner| calls_agent |= inner.agent.is_some());
        if let Some(StepAction::Pipeline(file)) = step.action()
            && let Some(called) = project.called_projects.get(file)
            && called.pipeline.all_steps().iter().any(|step| step.agent.is_some())
        {
            calls_agent = true;
            names.extend(called.pipeline.outputs.keys().map(String::as_str));
        }
        names.extend(step.output.as_deref().filter(|_| calls_agent));
    }
    names
}

/// Whether a command consists of programs that only read, copy and remove files.
fn runs_no_file(line: &CommandLine) -> bool {
    match line {
        CommandLine::Argv(argv) => argv.first().is_some_and(|program| FILE_PROGRAMS.contains(&program.as_str())),
        CommandLine::Shell(text) if text.contains("$(") || text.contains('`') => false,
        CommandLine::Shell(text) => {
            let first_words = text.split([';', '&', '|', '\n']).filter_map(|part| part.split_whitespace().next());
            let words: Vec<&str> = first_words.collect();
            !words.is_empty() && words.iter().all(|word| FILE_PROGRAMS.contains(word))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_programs_that_handle_files_need_no_sandbox() {
        let shell = |text: &str| runs_no_file(&CommandLine::Shell(text.to_owned()));
        for text in
            ["rm -rf scratch", "rm -rf scratch; echo {{ task }}", "cat a | sort > b\nwc b", "mkdir a && touch a/b"]
        {
            assert!(shell(text), "{text}");
        }
        for text in ["", "cargo test", "rm a; make", "echo $(./x)", "cat a | sh", "true && ./x"] {
            assert!(!shell(text), "{text}");
        }
        let argv = |program: &str| runs_no_file(&CommandLine::Argv(vec![program.to_owned(), "-x".to_owned()]));
        assert!(argv("rm") && !argv("python3") && !argv("git"));
    }
}
