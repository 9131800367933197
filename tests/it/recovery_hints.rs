//! Recovery hints: each test causes a failure with the real program, does what the message says, and copies and runs
//! the commands in the message literally.
#![cfg(unix)]

mod agent_programs;
mod approvals;
mod file_writes;
mod keys;
mod limits;
mod replies;
mod servers;
mod steps;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use orch::model::FailureClass;

use crate::support::{Orch, ReceivedRequest, Reply, RunOutput, Server};

/// How to cause a failure, what its message says, and how to follow it.
pub(super) struct Row {
    class: FailureClass,
    /// The reply of the model server; the flag is whether the test has repaired it.
    serve: fn(&ReceivedRequest, bool) -> Reply,
    /// Writes the files of the project.
    setup: fn(&Case),
    /// Makes the run fail; returns the output with the message.
    fail: fn(&Case) -> RunOutput,
    /// A text in the message.
    says: &'static [&'static str],
    /// The commands in the message, for the run `RUN`; without any, the test repeats the command that failed.
    commands: &'static [&'static str],
    /// Does what the message describes, before this command.
    repair: fn(&Case, &str),
    /// The beginnings of commands in a second message, to follow if the first command did not succeed.
    then: &'static [&'static str],
}

/// A pipeline with one agent, whose failure is never repaired.
const ROW: Row = Row {
    class: FailureClass::Crashed,
    serve: |_, _| Reply::openai_text("{\"n\": 1}"),
    setup: |_| {},
    fail: Case::run,
    says: &[],
    commands: &["orch pipeline resume RUN"],
    repair: |_, _| {},
    then: &[],
};

/// The state folder that the second round names on the command line.
const STATE: &str = "the runs";

/// A project with a failure.
pub(super) struct Case {
    orch: Orch,
    is_repaired: Arc<AtomicBool>,
    env: RefCell<Vec<(String, String)>>,
    /// The arguments of `orch pipeline run` besides the pipeline.
    more: RefCell<Vec<String>>,
    _server: Server,
}

impl Case {
    fn new(row: &Row, elsewhere: bool) -> Self {
        let is_repaired = Arc::new(AtomicBool::new(false));
        let (flag, serve) = (is_repaired.clone(), row.serve);
        let server = Server::start(move |request| serve(request, flag.load(Ordering::SeqCst)));
        let orch = Orch::empty().with(&server);
        for name in ["ask", "plan", "code"] {
            orch.write(&format!("prompts/{name}.md"), &format!("step:{name}\n"));
        }
        orch.write("pipelines/decoy.yaml", "name: decoy\nsteps:\n  - { id: no, run: \"false\" }\n");
        let programs = orch.configuration().join("bin");
        std::fs::create_dir_all(&programs).unwrap();
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_orch"), programs.join("orch")).unwrap();
        let path = std::env::var("PATH").unwrap();
        let path = format!("{}:{}:{path}", orch.path().join("bin").display(), programs.display());
        let more = if elsewhere { vec!["--state".to_owned(), STATE.to_owned()] } else { Vec::new() };
        let case = Self {
            orch,
            is_repaired,
            env: RefCell::new(vec![("PATH".to_owned(), path)]),
            more: RefCell::new(more),
            _server: server,
        };
        (row.setup)(&case);
        case
    }

    /// Writes a pipeline with one agent with these settings, and these steps.
    fn pipeline(&self, agent: &str, steps: &str) -> &Self {
        let text =
            format!("name: test\ninputs:\n  task: {{ type: string }}\nagents:\n  a: {{ {agent} }}\nsteps:\n{steps}");
        self.orch.write("pipelines/main.yaml", &text);
        if !agent.starts_with("model:") {
            self.orch.disable_unsupported_sandboxes();
        }
        self
    }

    /// Replaces text in the pipeline, as a user edits it.
    fn edit(&self, from: &str, to: &str) {
        self.orch.edit("pipelines/main.yaml", from, to);
    }

    /// Makes the server give valid replies from now on.
    fn repair_server(&self) {
        self.is_repaired.store(true, Ordering::SeqCst);
    }

    fn set(&self, name: &str, value: &str) {
        self.env.borrow_mut().retain(|(known, _)| known != name);
        self.env.borrow_mut().push((name.to_owned(), value.to_owned()));
    }

    fn add_arguments(&self, arguments: &[&str]) {
        self.more.borrow_mut().extend(arguments.iter().map(|argument| (*argument).to_owned()));
    }

    /// Creates a program of the project that is in the path.
    fn program(&self, name: &str, script: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        self.orch.write(&format!("bin/{name}"), &format!("#!/bin/sh\n{script}\n"));
        let path = self.orch.path().join("bin").join(name);
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// The command that runs the pipeline.
    fn command(&self) -> Command {
        let more = self.more.borrow();
        let more: Vec<&str> = more.iter().map(String::as_str).collect();
        let mut command =
            self.orch.command(&[&["pipeline", "run", "pipelines/main.yaml", "--task", "t"], &more[..]].concat());
        command.envs(self.env.borrow().iter().cloned());
        command
    }

    fn run(&self) -> RunOutput {
        RunOutput::of(&self.command().output().unwrap())
    }

    /// Runs a line that was copied from a message, in the same environment.
    fn shell(&self, line: &str) -> RunOutput {
        let own = self.command();
        let mut shell = Command::new("sh");
        shell.args(["-c", line]).current_dir(self.orch.path()).env_clear().stdin(Stdio::null());
        shell.envs(own.get_envs().filter_map(|(name, value)| Some((name, value?))));
        RunOutput::of(&shell.output().unwrap())
    }

    /// Runs the commands of the message that begin like this, one after another; the last one must succeed.
    #[track_caller]
    fn run_commands(&self, message: &RunOutput, begins: &[&str]) -> RunOutput {
        let printed = commands_in(message);
        let mut last = None;
        for begin in begins {
            let command = printed.iter().find(|command| command.starts_with(begin));
            last = Some(self.shell(command.unwrap_or_else(|| panic!("no `{begin}` in {message:?}"))).exits(0));
        }
        last.unwrap()
    }

    /// Starts a later run that fails, too: a command without an id would resume it instead.
    fn start_decoy(&self) {
        let line = format!("orch pipeline run pipelines/decoy.yaml --workspace decoy --state '{STATE}'");
        self.shell(&line).exits(1);
    }
}

/// The commands of orch in a message, without repeats.
fn commands_in(message: &RunOutput) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for words in message.stderr.split('`').skip(1).step_by(2) {
        if words.starts_with("orch ") && !found.iter().any(|known| known == words) {
            found.push(words.to_owned());
        }
    }
    found
}

/// A command in the form of the table.
fn as_listed(command: &str) -> String {
    let words = command.replace(&format!(" --state '{STATE}'"), "");
    let is_run = |word: &str| word.len() == 12 && word.chars().all(|c| c.is_ascii_hexdigit());
    let as_listed = |word: &str| match word.split_once('=') {
        // A suggested limit follows from the sizes of the requests.
        Some((unit @ ("tokens" | "usd" | "seconds"), _)) => format!("{unit}=LIMIT"),
        _ if is_run(word) => "RUN".to_owned(),
        _ => word.to_owned(),
    };
    words.split(' ').map(as_listed).collect::<Vec<_>>().join(" ")
}

/// The lines of a message that describe the failure.
fn error_lines(ran: &RunOutput) -> Vec<String> {
    ran.stderr.lines().filter(|line| line.starts_with("error:")).map(str::to_owned).collect()
}

/// Appends a message to a file, for those who want to read all of them.
fn save_message(class: FailureClass, ran: &RunOutput) {
    if let Some(file) = std::env::var_os("ORCH_TEST_MESSAGES") {
        let mut file = std::fs::File::options().create(true).append(true).open(file).unwrap();
        writeln!(file, "=== {class}\n{}", ran.stderr).unwrap();
    }
}

/// Causes the failure, and checks its message.
fn cause(row: &Row, elsewhere: bool) -> (Case, RunOutput) {
    let case = Case::new(row, elsewhere);
    let ran = (row.fail)(&case);
    let class = row.class;
    save_message(class, &ran);
    assert_ne!(ran.code, 0, "{class}: {ran:?}");
    assert!(ran.stderr.contains("hint:") || ran.stderr.contains("next:"), "{class} has no way out:\n{}", ran.stderr);
    for words in row.says {
        assert!(ran.stderr.contains(words), "{class} does not say {words:?}:\n{}", ran.stderr);
    }
    let listed: BTreeSet<String> = commands_in(&ran).iter().map(|command| as_listed(command)).collect();
    assert_eq!(listed, row.commands.iter().map(|command| (*command).to_owned()).collect(), "{class}:\n{}", ran.stderr);
    (case, ran)
}

/// Follows each command of the message, in a new project.
fn assert_row_works(row: &Row) {
    for (elsewhere, place) in
        [false, true].into_iter().flat_map(|it| (0..row.commands.len().max(1)).map(move |n| (it, n)))
    {
        let (case, ran) = cause(row, elsewhere);
        let class = row.class;
        if elsewhere {
            case.start_decoy();
        }
        let Some(command) = commands_in(&ran).get(place).cloned() else {
            (row.repair)(&case, "");
            let after = case.run();
            assert_eq!(after.code, 0, "{class}, again: {after:?}");
            continue;
        };
        (row.repair)(&case, &as_listed(&command));
        let mut after = case.shell(&command);
        if after.code != 0 && !row.then.is_empty() {
            assert_ne!(error_lines(&after), error_lines(&ran), "{class}: `{command}` leads to the same message");
            after = case.run_commands(&after, row.then);
            // This repairs what made the command fail.
            if !row.then.iter().any(|begin| begin.starts_with("orch pipeline")) {
                after = case.shell(&command);
            }
        }
        assert_eq!(after.code, 0, "{class}: `{command}` after {ran:?} gives {after:?}");
        if command.starts_with("orch pipeline") {
            assert!(after.stderr.contains(" completed"), "{class}: `{command}` gives {after:?}");
        }
    }
}

fn all_rows() -> Vec<Row> {
    let files = [
        keys::rows,
        limits::rows,
        approvals::rows,
        agent_programs::rows,
        replies::rows,
        servers::rows,
        steps::rows,
        file_writes::rows,
    ];
    files.iter().flat_map(|rows| rows()).collect()
}

#[test]
fn every_class_of_failure_has_a_row() {
    let rows = all_rows();
    let missing: Vec<&str> = FailureClass::ALL
        .iter()
        .filter(|class| !rows.iter().any(|row| row.class == **class))
        // No user or server can cause these classes.
        .filter(|class| **class != FailureClass::Internal)
        .map(|class| class.as_str())
        .collect();
    assert!(missing.is_empty(), "no row causes {}", missing.join(", "));
}

/// The commands also work in the folder in which they were printed, for a project in another folder.
#[test]
fn commands_work_from_another_folder() {
    let case = Case::new(&ROW, false);
    case.pipeline("model: lab/test", "  - { id: check, run: [linter-of-tomorrow] }\n");
    std::fs::create_dir(case.orch.path().join("deep down")).unwrap();
    let there = |line: &str| case.shell(&format!("cd 'deep down' && {line}"));
    let ran = there("orch pipeline run ../pipelines/main.yaml --task t").exits(1).says("(not_installed)");
    case.program("linter-of-tomorrow", "true");
    for command in commands_in(&ran) {
        there(&command).exits(0).says(" completed");
    }
    assert_eq!(commands_in(&ran).len(), 1, "{ran:?}");
}

/// Follows the hints of one file's rows.
pub(super) fn assert_hints_work(rows: &[Row]) {
    // All rows run, so that the test reports every failure.
    let failed = rows.iter().filter(|row| catch_unwind(AssertUnwindSafe(|| assert_row_works(row))).is_err());
    let failed: Vec<&str> = failed.map(|row| row.class.as_str()).collect();
    assert!(failed.is_empty(), "no way leads out of {}", failed.join(", "));
}
