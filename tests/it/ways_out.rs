//! Every way out that orch names leads out: each failure is caused with the real program, what its message says is
//! done, and the commands that stand in it are copied literally and run.
#![cfg(unix)]

mod keys;
mod limits;
mod people;
mod programs;
mod replies;
mod servers;
mod steps;
mod written;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use orch::model::FailureClass;

use crate::support::{Orch, Ran, Recorded, Reply, Server};

/// How a failure comes about, what its message says, and how a person does that.
pub(super) struct Row {
    class: FailureClass,
    /// What the server of models answers; the flag is whether the test has mended it.
    serve: fn(&Recorded, bool) -> Reply,
    /// Writes the files of the project.
    lay: fn(&Case),
    /// Makes the run fail; what it gives holds the message.
    fail: fn(&Case) -> Ran,
    /// What the message says, in its words.
    says: &'static [&'static str],
    /// The commands in the message, of the run `RUN`; without one the same command is given again.
    ways: &'static [&'static str],
    /// Does what the message says in words, before this command.
    mend: fn(&Case, &str),
    /// What the commands of a second message begin with, that are followed if the first one did not end in success.
    then: &'static [&'static str],
}

/// A run of a pipeline with one agent that is never mended.
const ROW: Row = Row {
    class: FailureClass::Crashed,
    serve: |_, _| Reply::openai_text("{\"n\": 1}"),
    lay: |_| {},
    fail: Case::run,
    says: &[],
    ways: &["orch pipeline resume RUN"],
    mend: |_, _| {},
    then: &[],
};

/// The state folder that is named on the command line in the second round.
const STATE: &str = "the runs";

/// A project in which something fails.
pub(super) struct Case {
    orch: Orch,
    mended: Arc<AtomicBool>,
    env: RefCell<Vec<(String, String)>>,
    /// What `orch pipeline run` is given beside the pipeline.
    more: RefCell<Vec<String>>,
    _server: Server,
}

impl Case {
    fn new(row: &Row, elsewhere: bool) -> Self {
        let mended = Arc::new(AtomicBool::new(false));
        let (flag, serve) = (mended.clone(), row.serve);
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
            mended,
            env: RefCell::new(vec![("PATH".to_owned(), path)]),
            more: RefCell::new(more),
            _server: server,
        };
        (row.lay)(&case);
        case
    }

    /// Writes the pipeline: one agent with these settings, and these steps.
    fn pipeline(&self, agent: &str, steps: &str) -> &Self {
        let text =
            format!("name: test\ninputs:\n  task: {{ type: string }}\nagents:\n  a: {{ {agent} }}\nsteps:\n{steps}");
        self.orch.write("pipelines/main.yaml", &text);
        self
    }

    /// Replaces text in the pipeline, as a person edits it.
    fn edit(&self, from: &str, to: &str) {
        self.orch.edit("pipelines/main.yaml", from, to);
    }

    /// The server answers well from now on.
    fn mended(&self) {
        self.mended.store(true, Ordering::SeqCst);
    }

    fn set(&self, name: &str, value: &str) {
        self.env.borrow_mut().retain(|(known, _)| known != name);
        self.env.borrow_mut().push((name.to_owned(), value.to_owned()));
    }

    fn with(&self, arguments: &[&str]) {
        self.more.borrow_mut().extend(arguments.iter().map(|argument| (*argument).to_owned()));
    }

    /// A program of the project that is found by its name.
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

    fn run(&self) -> Ran {
        Ran::of(&self.command().output().unwrap())
    }

    /// Runs a line that was copied out of a message, in the same environment.
    fn shell(&self, line: &str) -> Ran {
        let own = self.command();
        let mut shell = Command::new("sh");
        shell.args(["-c", line]).current_dir(self.orch.path()).env_clear().stdin(Stdio::null());
        shell.envs(own.get_envs().filter_map(|(name, value)| Some((name, value?))));
        Ran::of(&shell.output().unwrap())
    }

    /// The same of the commands of the message that begin so, one after another; the last one must succeed.
    #[track_caller]
    fn follows(&self, message: &Ran, begins: &[&str]) -> Ran {
        let printed = commands(message);
        let mut last = None;
        for begin in begins {
            let command = printed.iter().find(|command| command.starts_with(begin));
            last = Some(self.shell(command.unwrap_or_else(|| panic!("no `{begin}` in {message:?}"))).exits(0));
        }
        last.unwrap()
    }

    /// A run that began later and failed too: commands without the id of theirs would take it up.
    fn decoy(&self) {
        let line = format!("orch pipeline run pipelines/decoy.yaml --workspace decoy --state '{STATE}'");
        self.shell(&line).exits(1);
    }
}

/// The commands of orch that a message prints, each once.
fn commands(message: &Ran) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for words in message.stderr.split('`').skip(1).step_by(2) {
        if words.starts_with("orch ") && !found.iter().any(|known| known == words) {
            found.push(words.to_owned());
        }
    }
    found
}

/// A command as the table has it.
fn as_listed(command: &str) -> String {
    let words = command.replace(&format!(" --state '{STATE}'"), "");
    let is_run = |word: &str| word.len() == 12 && word.chars().all(|c| c.is_ascii_hexdigit());
    words.split(' ').map(|word| if is_run(word) { "RUN" } else { word }).collect::<Vec<_>>().join(" ")
}

/// The lines that say what is wrong.
fn errors(ran: &Ran) -> Vec<String> {
    ran.stderr.lines().filter(|line| line.starts_with("error:")).map(str::to_owned).collect()
}

/// Adds a message to a file, when somebody wants to read them all.
fn shown(class: FailureClass, ran: &Ran) {
    if let Some(file) = std::env::var_os("ORCH_TEST_MESSAGES") {
        let mut file = std::fs::File::options().create(true).append(true).open(file).unwrap();
        writeln!(file, "=== {class}\n{}", ran.stderr).unwrap();
    }
}

/// Causes the failure, and looks at its message.
fn caused(row: &Row, elsewhere: bool) -> (Case, Ran) {
    let case = Case::new(row, elsewhere);
    let ran = (row.fail)(&case);
    let class = row.class;
    shown(class, &ran);
    assert_ne!(ran.code, 0, "{class}: {ran:?}");
    assert!(ran.stderr.contains("hint:") || ran.stderr.contains("next:"), "{class} has no way out:\n{}", ran.stderr);
    for words in row.says {
        assert!(ran.stderr.contains(words), "{class} does not say {words:?}:\n{}", ran.stderr);
    }
    let listed: BTreeSet<String> = commands(&ran).iter().map(|command| as_listed(command)).collect();
    assert_eq!(listed, row.ways.iter().map(|way| (*way).to_owned()).collect(), "{class}:\n{}", ran.stderr);
    (case, ran)
}

/// Follows each command of the message, in a project of its own.
fn leads_out(row: &Row) {
    for (elsewhere, place) in [false, true].into_iter().flat_map(|it| (0..row.ways.len().max(1)).map(move |n| (it, n)))
    {
        let (case, ran) = caused(row, elsewhere);
        let class = row.class;
        if elsewhere {
            case.decoy();
        }
        let Some(command) = commands(&ran).get(place).cloned() else {
            (row.mend)(&case, "");
            let after = case.run();
            assert_eq!(after.code, 0, "{class}, again: {after:?}");
            continue;
        };
        (row.mend)(&case, &as_listed(&command));
        let mut after = case.shell(&command);
        if after.code != 0 && !row.then.is_empty() {
            assert_ne!(errors(&after), errors(&ran), "{class}: `{command}` leads to the same message");
            after = case.follows(&after, row.then);
            // What kept the command from its work is out of the way.
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

fn table() -> Vec<Row> {
    let files = [
        keys::rows,
        limits::rows,
        people::rows,
        programs::rows,
        replies::rows,
        servers::rows,
        steps::rows,
        written::rows,
    ];
    files.iter().flat_map(|rows| rows()).collect()
}

#[test]
fn every_class_has_a_row() {
    let rows = table();
    let missing: Vec<&str> = FailureClass::ALL
        .iter()
        .filter(|class| !rows.iter().any(|row| row.class == **class))
        // Nothing that a user writes or a server sends causes it.
        .filter(|class| **class != FailureClass::Internal)
        .map(|class| class.as_str())
        .collect();
    assert!(missing.is_empty(), "no row causes {}", missing.join(", "));
}

/// The commands find a run of a project elsewhere from the folder in which they were printed.
#[test]
fn from_another_folder() {
    let case = Case::new(&ROW, false);
    case.pipeline("model: lab/test", "  - { id: check, run: [linter-of-tomorrow] }\n");
    std::fs::create_dir(case.orch.path().join("deep down")).unwrap();
    let there = |line: &str| case.shell(&format!("cd 'deep down' && {line}"));
    let ran = there("orch pipeline run ../pipelines/main.yaml --task t").exits(1).says("(not_installed)");
    case.program("linter-of-tomorrow", "true");
    for command in commands(&ran) {
        there(&command).exits(0).says(" completed");
    }
    assert_eq!(commands(&ran).len(), 1, "{ran:?}");
}

/// Follows the ways of one file's rows.
pub(super) fn lead_out(rows: &[Row]) {
    // Each is tried, so that one failure tells of all.
    let failed = rows.iter().filter(|row| catch_unwind(AssertUnwindSafe(|| leads_out(row))).is_err());
    let failed: Vec<&str> = failed.map(|row| row.class.as_str()).collect();
    assert!(failed.is_empty(), "no way leads out of {}", failed.join(", "));
}
