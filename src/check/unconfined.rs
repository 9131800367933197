//! Warns about commands that run without a sandbox after a model has written files, because such a command may run the
//! files.

use std::collections::{HashMap, HashSet};

use crate::config::{Project, child_pointer, steps_with_pointers};
use crate::diagnostic::{Code, Diagnostic};
use crate::model::step::{Access, CommandLine};
use crate::model::{Step, StepAction};
use crate::template::variables;

/// Programs that never run files of the workspace.
const SAFE_PROGRAMS: &[&str] = &[
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
    let mut search = UnconfinedCommandSearch {
        project,
        model_artifacts: model_artifacts(project),
        latest_writer: None,
        unconfined_commands: HashMap::new(),
    };
    search.visit_steps(&project.pipeline.steps);
    search.visit_steps(&project.pipeline.finally);
    let mut diagnostics = Vec::new();
    for (pointer, step) in steps_with_pointers(&project.pipeline) {
        let Some(writer) = search.unconfined_commands.get(&std::ptr::from_ref(step)) else { continue };
        let message = format!(
            "step `{}` may run files that a model wrote (step `{writer}`), and without a sandbox they run with all your \
             rights",
            step.id
        );
        let document = &project.document;
        let span = document.spans.key(&child_pointer(&pointer, "run"));
        let help = "confine it with `sandbox: {}`; if it runs no such file, write `access: none`; to run it with all \
                    your rights, write `sandbox: { enabled: false }`";
        diagnostics.push(
            Diagnostic::warning(Code::UnconfinedCommand, message).with_span(&document.file, span).with_help(help),
        );
    }
    diagnostics
}

/// Visits the steps in the order in which they run, and collects the commands to warn about.
struct UnconfinedCommandSearch<'a> {
    project: &'a Project,
    /// The artifacts that models produce.
    model_artifacts: HashSet<&'a str>,
    /// The latest visited step that writes files of a model.
    latest_writer: Option<&'a str>,
    /// The commands to warn about, each with the step that writes files before it.
    unconfined_commands: HashMap<*const Step, &'a str>,
}

impl<'a> UnconfinedCommandSearch<'a> {
    fn visit_steps(&mut self, steps: &'a [Step]) {
        for step in steps {
            self.visit(step);
        }
    }

    fn visit(&mut self, step: &'a Step) {
        if step.repeat.is_some() || step.for_each.is_some() {
            // From the second iteration on, each command runs after all steps of the previous iteration.
            self.latest_writer = self.last_writer(step).or(self.latest_writer);
        }
        if let Some(StepAction::Command(command)) = step.action() {
            let is_safe =
                step.sandbox.is_some() || step.access == Some(Access::None) || runs_only_safe_programs(command);
            if let Some(writer) = self.latest_writer.filter(|_| !is_safe) {
                self.unconfined_commands.insert(std::ptr::from_ref(step), writer);
            }
        }
        self.visit_steps(step.children().1);
        if self.writes_model_files(step) {
            self.latest_writer = Some(&step.id);
        }
    }

    /// The last step that writes files of a model, among this step and the steps inside it.
    fn last_writer(&self, step: &'a Step) -> Option<&'a str> {
        let mut steps: Vec<&'a Step> = Vec::new();
        step.walk(&mut |inner| steps.push(inner));
        steps.into_iter().rev().find(|inner| self.writes_model_files(inner)).map(|inner| inner.id.as_str())
    }

    /// Whether a step, or a pipeline that it calls, writes files of a model.
    fn writes_model_files(&self, step: &Step) -> bool {
        if let Some(StepAction::Pipeline(file)) = step.action() {
            let called_project = self.project.called_projects.get(file);
            return called_project.is_some_and(|called_project| {
                called_project.with_called_projects().into_iter().any(|project| {
                    let artifacts = model_artifacts(project);
                    project.pipeline.all_steps().into_iter().any(|step| writes_model_files(project, &artifacts, step))
                })
            });
        }
        writes_model_files(self.project, &self.model_artifacts, step)
    }
}

/// Whether a step itself writes files of a model: a CLI agent writes them, or a `write` step writes an artifact of a
/// model.
fn writes_model_files(project: &Project, model_artifacts: &HashSet<&str>, step: &Step) -> bool {
    let agents = &project.pipeline.agents;
    match step.action() {
        Some(StepAction::Agent { agent, .. }) => {
            let is_cli_agent = agents.get(agent).is_some_and(|agent| agent.cli_kind().is_some());
            is_cli_agent && step.effective_access(agents) == Access::Write
        }
        Some(StepAction::Write(files)) => variables(files).iter().any(|name| model_artifacts.contains(name.as_str())),
        _ => false,
    }
}

/// The artifacts that models produce: the outputs of agent steps, of groups with agent steps, and of called pipelines
/// with agent steps.
fn model_artifacts(project: &Project) -> HashSet<&str> {
    let mut names = HashSet::new();
    for step in project.pipeline.all_steps() {
        let mut calls_agent = false;
        step.walk(&mut |inner| calls_agent |= inner.agent.is_some());
        if let Some(StepAction::Pipeline(file)) = step.action()
            && let Some(called_project) = project.called_projects.get(file)
            && called_project.pipeline.all_steps().iter().any(|step| step.agent.is_some())
        {
            calls_agent = true;
            names.extend(called_project.pipeline.outputs.keys().map(String::as_str));
        }
        names.extend(step.output.as_deref().filter(|_| calls_agent));
    }
    names
}

/// Whether a command runs only programs of [`SAFE_PROGRAMS`].
fn runs_only_safe_programs(command: &CommandLine) -> bool {
    match command {
        CommandLine::Argv(argv) => argv.first().is_some_and(|program| SAFE_PROGRAMS.contains(&program.as_str())),
        CommandLine::Shell(text) if text.contains("$(") || text.contains('`') => false,
        CommandLine::Shell(text) => {
            let commands = text.split([';', '&', '|', '\n']);
            let programs: Vec<&str> = commands.filter_map(|command| command.split_whitespace().next()).collect();
            !programs.is_empty() && programs.iter().all(|program| SAFE_PROGRAMS.contains(program))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_safe_programs_need_no_sandbox() {
        let shell = |text: &str| runs_only_safe_programs(&CommandLine::Shell(text.to_owned()));
        for text in
            ["rm -rf scratch", "rm -rf scratch; echo {{ task }}", "cat a | sort > b\nwc b", "mkdir a && touch a/b"]
        {
            assert!(shell(text), "{text}");
        }
        for text in ["", "cargo test", "rm a; make", "echo $(./x)", "cat a | sh", "true && ./x"] {
            assert!(!shell(text), "{text}");
        }
        let argv =
            |program: &str| runs_only_safe_programs(&CommandLine::Argv(vec![program.to_owned(), "-x".to_owned()]));
        assert!(argv("rm") && !argv("python3") && !argv("git"));
    }
}
