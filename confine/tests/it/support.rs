//! A fixture for tests of confined programs: folders inside and outside of the workspace, for two users.

use std::fs;
use std::io::Write as _;
use std::ops::{Deref, DerefMut};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use orch_confine::confine::{Level, Policy, probe, usually_protected};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// The id of the user `nobody` and of its group.
pub(crate) const NOBODY: u32 = 65534;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum User {
    Root,
    Nobody,
}

impl User {
    /// The users as which this process can run programs.
    pub(crate) fn all() -> Vec<Self> {
        if is_root() { vec![Self::Root, Self::Nobody] } else { vec![Self::Nobody] }
    }

    pub(crate) fn name(self) -> &'static str {
        if self == Self::Root { "root" } else { "user" }
    }

    /// A command that runs a program as the user.
    pub(crate) fn command(self, program: &str) -> Command {
        if self == Self::Root || !is_root() {
            return Command::new(program);
        }
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", program]);
        command
    }
}

pub(crate) fn is_root() -> bool {
    rustix::process::getuid().is_root()
}

/// The oldest Landlock version with which all levels work that the tests use.
const LANDLOCK_OF_TESTS: u32 = 6;

/// Whether this machine reaches the level `full` and has the Landlock that the other levels need. If not, reports that
/// the test is skipped, and why.
#[track_caller]
pub(crate) fn reaches_full() -> bool {
    static OBSTACLE: OnceLock<Option<String>> = OnceLock::new();
    let obstacle = OBSTACLE.get_or_init(|| {
        let machine = probe(Path::new(binary())).unwrap();
        let (level, landlock) = (machine.level(), machine.best.landlock);
        if level < Level::Full {
            let obstacles: Vec<String> = machine.obstacles.iter().map(ToString::to_string).collect();
            let obstacles = obstacles.join("; ");
            return Some(format!("the test needs the level `full`, and this machine reaches `{level}`: {obstacles}"));
        }
        (landlock < LANDLOCK_OF_TESTS)
            .then(|| format!("the test needs Landlock {LANDLOCK_OF_TESTS}, and this kernel has {landlock}"))
    });
    if let Some(reason) = obstacle {
        skip(reason);
    }
    obstacle.is_none()
}

/// Reports that a test or a part of it is skipped. With `ORCH_TEST_REQUIRE=all`, the test fails instead.
#[track_caller]
pub(crate) fn skip(reason: &str) {
    let is_required = std::env::var_os("ORCH_TEST_REQUIRE").is_some_and(|value| value == "all");
    assert!(!is_required, "a required test can't run: {reason}");
    let thread = std::thread::current();
    // The harness names the thread after the test. `println!` would print this only for tests that fail.
    let _ = writeln!(std::io::stderr(), "SKIPPED: {}: {reason}", thread.name().unwrap_or_default());
}

/// A fixture for a user. A confined program may change the folder `ws`, may only read `outside`, and may not read
/// `secret`.
pub(crate) struct Fixture {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) user: User,
}

impl Fixture {
    pub(crate) fn new(user: User) -> Self {
        // Not in `/tmp`, which a confined program sees as an empty private folder.
        let folder = tempfile::Builder::new().prefix("confine-").tempdir_in("/var/tmp").unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let fixture = Self { folder, user };
        for name in ["ws", "outside", "secret", "bin", "tmp", "home"] {
            fs::create_dir(fixture.path(name)).unwrap();
            fixture.chown(&fixture.path(name));
        }
        fixture.write("secret/key", "secret-text");
        fixture
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// A name that no other fixture has.
    pub(crate) fn unique(&self) -> String {
        self.folder.path().file_name().unwrap().to_string_lossy().into_owned()
    }

    /// Makes the user the owner of a file.
    pub(crate) fn chown(&self, path: &Path) {
        if self.user == User::Nobody && is_root() {
            std::os::unix::fs::lchown(path, Some(NOBODY), Some(NOBODY)).unwrap();
        }
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
        self.chown(&self.path(name));
    }

    pub(crate) fn policy(&self) -> Policy {
        Policy {
            min: Level::None,
            write: vec![self.path("ws")],
            protect: usually_protected(&self.path("ws")),
            deny_read: vec![self.path("secret")],
            tmp: Some(self.path("tmp")),
            ..Policy::default()
        }
    }

    /// Runs a program at a level, as orch would.
    pub(crate) fn drive(&self, level: &str, policy: &Policy, argv: &[&str]) -> Run {
        let mut command = self.command(level, policy, argv);
        command.stdin(Stdio::null());
        Run::new(command.output().unwrap(), &self.path("home/result"))
    }

    /// The command of [`Fixture::drive`].
    pub(crate) fn command(&self, level: &str, policy: &Policy, argv: &[&str]) -> Command {
        self.write("home/policy", &serde_json::to_string(policy).unwrap());
        drop(fs::remove_file(self.path("home/result")));
        let mut command = self.user.command(binary());
        command.args(["drive", level, &self.text("home/policy"), &self.text("home/result"), "--"]).args(argv);
        command.current_dir(self.path("ws")).env("HOME", self.path("home"));
        command
    }
}

/// A process that a test started. Dropping it kills the process and its descendants, also if an assertion fails.
pub(crate) struct Running(Child);

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        Self(command.spawn().unwrap())
    }

    /// The descendants of the process, parents before their children.
    pub(crate) fn descendants(&self) -> Vec<Pid> {
        let mut found = children(self.0.id());
        let mut next = 0;
        while let Some(parent) = found.get(next).copied() {
            found.extend(children(parent.as_raw_pid().unsigned_abs()));
            next += 1;
        }
        found
    }
}

impl Deref for Running {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.0
    }
}

impl DerefMut for Running {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The process itself is killed last, because it adopts the processes whose parents have ended.
        while matches!(self.0.try_wait(), Ok(None)) {
            let descendants = self.descendants();
            if descendants.is_empty() {
                drop(self.0.kill());
            }
            for pid in descendants {
                // A process may have ended in the meantime.
                let _ = kill_process(pid, Signal::KILL);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// The children of a process; none if it has ended.
fn children(pid: u32) -> Vec<Pid> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().map(|pid| Pid::from_raw(pid.parse().unwrap()).unwrap()).collect()
}

/// The result of a confined program.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    /// The result that `orch-confine drive` wrote.
    pub(crate) result: Value,
}

impl Run {
    pub(crate) fn new(output: Output, result: &Path) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Self {
            code: output.status.code(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
            result: fs::read(result).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default(),
        }
    }

    /// The sentence about the limit that the program reached.
    pub(crate) fn limit(&self) -> Option<&str> {
        self.result["ended"][1].as_str()
    }

    /// Asserts that the program succeeded.
    #[track_caller]
    pub(crate) fn succeeded(&self) -> &Self {
        assert_eq!(self.code, Some(0), "{self:#?}");
        self
    }
}

/// A new folder for programs that every user can run.
fn program_folder() -> tempfile::TempDir {
    let folder = tempfile::Builder::new().prefix("confine-bin-").tempdir_in("/var/tmp").unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

/// The program `orch-confine`, in a folder that every user can read: the build folder may be in the home of `root`.
pub(crate) fn binary() -> &'static str {
    static COPY: OnceLock<(tempfile::TempDir, String)> = OnceLock::new();
    let (_, path) = COPY.get_or_init(|| {
        let folder = program_folder();
        let path = folder.path().join("orch-confine");
        fs::copy(env!("CARGO_BIN_EXE_orch-confine"), &path).unwrap();
        (folder, path.display().to_string())
    });
    path
}

/// The compiled program `attempts.c`.
pub(crate) fn attempts() -> &'static Path {
    static BUILT: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = BUILT.get_or_init(|| {
        let folder = program_folder();
        let path = folder.path().join("attempts");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/attempts.c");
        let status = Command::new("gcc").args(["-O1", "-w", "-o"]).arg(&path).arg(source).status().unwrap();
        assert!(status.success(), "gcc can't compile the attempts");
        (folder, path)
    });
    path
}

/// Whether a program is on the search path.
pub(crate) fn has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}
