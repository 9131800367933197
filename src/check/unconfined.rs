//! Warns about commands that run without a sandbox after a model has written files, because such a command may run the
//! files. The command and the step that writes the files may be in different pipelines.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::rc::Rc;

use super::model_text::{ModelTextAnalysis, passes_model_text};
use crate::config::{Project, child_pointer, steps_with_pointers};
use crate::diagnostic::{Code, Diagnostic};
use crate::model::step::{Access, CommandLine};
use crate::model::{Step, StepAction};

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

/// The folders of programs that the system installs. A name without a folder counts as such a program too.
const SYSTEM_FOLDERS: &[&str] = &["", "/bin", "/usr/bin"];

/// Checks a project and the pipelines that it calls.
pub(super) fn check(project: &Project) -> Vec<Diagnostic> {
    let mut search = UnconfinedCommandSearch::default();
    search.visit_pipeline(project, PipelineStart::default());
    search.diagnostics.into_values().collect()
}

/// A step that writes files of a model.
#[derive(Clone, Copy)]
struct WritingStep<'a> {
    id: &'a str,
    /// The path of its pipeline file.
    file: &'a str,
}

/// What precedes the first step of a pipeline.
#[derive(Clone, Copy, Default)]
struct PipelineStart<'a> {
    /// The latest step that writes files of a model.
    writer: Option<WritingStep<'a>>,
    /// Whether the inputs of the pipeline may contain text of a model.
    has_model_inputs: bool,
}

/// Searches a project and the pipelines that it calls for unconfined commands.
#[derive(Default)]
struct UnconfinedCommandSearch<'a> {
    model_text: ModelTextAnalysis<'a>,
    /// The start of each visited pipeline, by the path of its file; if several steps call it, what precedes any of
    /// them.
    starts: HashMap<&'a str, PipelineStart<'a>>,
    /// The warnings so far, by the file and the pointer of the command.
    diagnostics: BTreeMap<(&'a str, String), Diagnostic>,
}

impl<'a> UnconfinedCommandSearch<'a> {
    /// Visits a pipeline, unless an earlier visit covers this start.
    fn visit_pipeline(&mut self, project: &'a Project, start: PipelineStart<'a>) {
        let file = project.document.file.path.as_str();
        let known = self.starts.get(file).copied();
        let covered = known.unwrap_or_default();
        let start = PipelineStart {
            writer: covered.writer.or(start.writer),
            has_model_inputs: covered.has_model_inputs || start.has_model_inputs,
        };
        let is_covered =
            start.writer.is_some() == covered.writer.is_some() && start.has_model_inputs == covered.has_model_inputs;
        if known.is_some() && is_covered {
            return;
        }
        self.starts.insert(file, start);
        let pointers = steps_with_pointers(&project.pipeline);
        let names = self.model_text.names(project, start.has_model_inputs);
        let mut visit = PipelineVisit {
            pointers: pointers.into_iter().map(|(pointer, step)| (std::ptr::from_ref(step), pointer)).collect(),
            search: self,
            project,
            file,
            names,
            latest_writer: start.writer,
        };
        visit.visit_steps(&project.pipeline.steps);
        visit.visit_steps(&project.pipeline.finally);
    }
}

/// Visits the steps of one pipeline in the order in which they run.
struct PipelineVisit<'s, 'a> {
    search: &'s mut UnconfinedCommandSearch<'a>,
    project: &'a Project,
    file: &'a str,
    /// The pointer of each step in the file.
    pointers: HashMap<*const Step, String>,
    /// The names whose values may contain text of a model.
    names: Rc<HashSet<&'a str>>,
    /// The latest visited step that writes files of a model.
    latest_writer: Option<WritingStep<'a>>,
}

impl<'a> PipelineVisit<'_, 'a> {
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
        match step.action() {
            Some(StepAction::Command(command)) => self.check_command(step, command),
            Some(StepAction::Pipeline(file)) => {
                if let Some(called) = self.project.called_projects.get(file) {
                    let has_model_inputs = passes_model_text(&self.names, step);
                    self.search.visit_pipeline(called, PipelineStart { writer: self.latest_writer, has_model_inputs });
                }
            }
            Some(StepAction::Agent { .. }) => self.visit_model_calls(step),
            _ => {}
        }
        self.visit_steps(step.children().1);
        if self.writes_files(step) {
            self.latest_writer = Some(WritingStep { id: &step.id, file: self.file });
        }
    }

    /// Visits the pipelines that the model of a step may call. The model writes their inputs, and it may have written
    /// files with its own tools or with another of these pipelines before.
    fn visit_model_calls(&mut self, step: &'a Step) {
        let project = self.project;
        let called = project.projects_called_by(step);
        if called.is_empty() {
            return;
        }
        let own = self.writes_files(step).then_some(WritingStep { id: &step.id, file: self.file });
        let start = PipelineStart { writer: own.or(self.latest_writer), has_model_inputs: true };
        for pipeline in called {
            self.search.visit_pipeline(pipeline, start);
        }
    }

    /// Warns about a command if a model has written files before it and nothing confines it.
    fn check_command(&mut self, step: &'a Step, command: &CommandLine) {
        let is_safe = step.sandbox.is_some() || step.access == Some(Access::None) || runs_only_safe_programs(command);
        let Some(writer) = self.latest_writer.filter(|_| !is_safe) else { return };
        let Some(pointer) = self.pointers.get(&std::ptr::from_ref(step)) else { return };
        let writer_name = if writer.file == self.file {
            format!("step `{}`", writer.id)
        } else {
            format!("step `{}` of `{}`", writer.id, writer.file)
        };
        let message = format!(
            "step `{}` may run files that a model wrote ({writer_name}), and without a sandbox they run with all your \
             rights",
            step.id
        );
        let document = &self.project.document;
        let span = document.spans.key(&child_pointer(pointer, "run"));
        let help = "confine it with `sandbox: {}`; if it runs no such file, write `access: none`; to run it with all \
                    your rights, write `sandbox: { enabled: false }`";
        let diagnostic = Diagnostic::warning(Code::UnconfinedCommand, message);
        self.search
            .diagnostics
            .entry((self.file, pointer.clone()))
            .or_insert_with(|| diagnostic.with_span(&document.file, span).with_help(help));
    }

    /// The last step that writes files of a model, among this step and the steps inside it.
    fn last_writer(&mut self, step: &'a Step) -> Option<WritingStep<'a>> {
        let mut steps: Vec<&'a Step> = Vec::new();
        step.walk(&mut |inner| steps.push(inner));
        let writer = steps.into_iter().rev().find(|inner| self.writes_files(inner))?;
        Some(WritingStep { id: &writer.id, file: self.file })
    }

    fn writes_files(&mut self, step: &'a Step) -> bool {
        self.search.model_text.writes_files(self.project, &self.names, step)
    }
}

/// Whether a command runs only programs of [`SAFE_PROGRAMS`].
fn runs_only_safe_programs(command: &CommandLine) -> bool {
    match command {
        CommandLine::Argv(argv) => argv.first().is_some_and(|program| is_safe_program(program)),
        CommandLine::Shell(text) if text.contains("$(") || text.contains('`') => false,
        CommandLine::Shell(text) => {
            let commands = text.split([';', '&', '|', '\n']);
            let programs: Vec<&str> = commands.filter_map(|command| command.split_whitespace().next()).collect();
            !programs.is_empty() && programs.into_iter().all(is_safe_program)
        }
    }
}

fn is_safe_program(program: &str) -> bool {
    let path = Path::new(program);
    let is_in_system_folder =
        path.parent().is_some_and(|folder| SYSTEM_FOLDERS.iter().any(|known| folder == Path::new(known)));
    is_in_system_folder && path.file_name().is_some_and(|name| SAFE_PROGRAMS.iter().any(|safe| name == *safe))
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

    #[test]
    fn a_safe_program_is_one_of_the_system() {
        for program in ["cat", "/bin/cat", "/usr//bin/./cat"] {
            assert!(is_safe_program(program), "{program}");
        }
        for program in ["./cat", "bin/cat", "/tmp/cat", "/usr/bin/../../tmp/cat", "/usr/bin/python3", "..", "/", ""] {
            assert!(!is_safe_program(program), "{program}");
        }
    }
}
