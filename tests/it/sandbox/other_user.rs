//! Tests of orch as a user without the rights of root. If the tests run as root, orch runs as the user `nobody`.
//! Otherwise it runs as the user of the tests.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use serde_json::json;
use tempfile::TempDir;

use super::{can_remove_namespaces, command_project, project_with, reaches_full, run_with_report};
use crate::support::{Orch, Reply, RunOutput, Server};

/// The id of the user `nobody` and of its group.
const NOBODY: u32 = 65534;
/// The arguments of a run.
const RUN: &[&str] = &["pipeline", "run", "pipelines/main.yaml", "--output", "json"];
/// A shell line that tries to write outside of the workspace, to read a key, and to connect to a port of this machine.
const ATTEMPTS: &str = "id -u; echo in > in.txt && echo in; echo out > ../out.txt || echo refused; \
                        cat ~/.ssh/id || echo denied; \
                        python3 -c \"import socket; socket.create_connection(('127.0.0.1', PORT), 9)\" || echo offline";

fn is_root() -> bool {
    rustix::process::getuid().is_root()
}

/// The id of the user as which orch runs.
fn user_id() -> u32 {
    if is_root() { NOBODY } else { rustix::process::getuid().as_raw() }
}

/// The shell line [`ATTEMPTS`] for a server.
fn attempts(server: &Server) -> String {
    ATTEMPTS.replace("PORT", server.url().rsplit(':').next().unwrap())
}

/// The output of [`ATTEMPTS`] in a sandbox.
fn expected_output() -> String {
    format!("{}\nin\nrefused\ndenied\noffline\n", user_id())
}

/// A project of the user. Its folder is the home of the user and contains a key.
struct UserProject {
    orch: Orch,
    /// A folder with orch that the user can reach. The build folder may be in the home of root.
    programs: TempDir,
}

impl UserProject {
    fn new(orch: Orch) -> Self {
        orch.write(".ssh/id", "secret");
        let programs = tempfile::Builder::new().prefix("orch-bin-").tempdir_in("/var/tmp").unwrap();
        fs::set_permissions(programs.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let (original, reachable) = (env!("CARGO_BIN_EXE_orch"), programs.path().join("orch"));
        // A link needs less time than a copy, but works only inside a file system.
        if fs::hard_link(original, &reachable).is_err() {
            fs::copy(original, &reachable).unwrap();
        }
        if is_root() {
            let mut command = Command::new("chown");
            command.args(["-R", &format!("{NOBODY}:{NOBODY}")]).args([orch.path(), orch.configuration()]);
            assert!(command.status().unwrap().success());
        }
        Self { orch, programs }
    }

    /// A command that runs orch as the user, through other programs if `prefix` is not empty.
    fn command_through(&self, prefix: &[&str], args: &[&str]) -> Command {
        let id = user_id().to_string();
        let change_user = ["setpriv", "--reuid", &id, "--regid", &id, "--clear-groups"];
        let orch = self.programs.path().join("orch").display().to_string();
        let line = if is_root() { &change_user[..] } else { &[] };
        let mut line = line.iter().chain(prefix).copied().chain([orch.as_str()]).chain(args.iter().copied());
        let mut command = Command::new(line.next().unwrap());
        command.args(line).current_dir(self.orch.path()).env_clear().stdin(Stdio::null());
        let environment = self.orch.command(args);
        command.envs(environment.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.env("HOME", self.orch.path()).env_remove("XDG_CACHE_HOME");
        command
    }

    /// A command that runs orch as the user.
    fn command(&self, args: &[&str]) -> Command {
        self.command_through(&[], args)
    }

    /// A command that runs orch as the user, in which no process can create a namespace. The level is then `basic`.
    fn command_without_namespaces(&self, args: &[&str]) -> Command {
        let (user, group) = (format!("--map-user={}", user_id()), format!("--map-group={}", user_id()));
        // The shell needs the rights of the new namespace for the setting; orch starts without them.
        let script = "echo 0 > /proc/sys/user/max_user_namespaces && \
                      exec setpriv --ambient-caps -all --inh-caps -all \"$@\"";
        let prefix = ["unshare", "-U", user.as_str(), group.as_str(), "--keep-caps", "sh", "-c", script, "sh"];
        self.command_through(&prefix, args)
    }
}

#[test]
fn as_another_user_a_command_is_confined_at_full() {
    if !reaches_full() {
        return;
    }
    let server = Server::always(Reply::status(200, ""));
    let line = format!("{}; echo x > .git/hooks/x || echo protected", attempts(&server));
    let orch = command_project(&line, json!({}));
    orch.write("workspace/.git/hooks/y", "").write("workspace/.git/config", "");
    let project = UserProject::new(orch);
    let (ran, report) = run_with_report(&mut project.command(RUN));
    assert_eq!(ran.code, 0, "{ran:?}");
    let output = project.orch.json("workspace/said.json")["stdout"].clone();
    assert_eq!(output, expected_output() + "protected\n", "{report:#}");
    assert_eq!(report["steps"][0]["sandbox"], "full");
    assert!(server.requests().is_empty() && !project.orch.exists("out.txt"));
}

#[test]
fn as_another_user_a_command_is_confined_at_basic() {
    if !can_remove_namespaces() {
        return;
    }
    let server = Server::always(Reply::status(200, ""));
    let project = UserProject::new(command_project(&attempts(&server), json!({ "min": "basic" })));
    let (ran, report) = run_with_report(&mut project.command_without_namespaces(RUN));
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(project.orch.json("workspace/said.json")["stdout"], expected_output(), "{report:#}");
    assert_eq!(report["steps"][0]["sandbox"], "basic");
    assert!(server.requests().is_empty() && !project.orch.exists("out.txt"));
}

#[test]
fn as_another_user_at_basic_a_changed_hook_and_a_damaged_repository_fail_the_step() {
    if !can_remove_namespaces() {
        return;
    }
    for (line, path) in [("echo x > .git/hooks/x", ".git/hooks"), ("rm .git/HEAD", ".git/HEAD")] {
        let orch = command_project(line, json!({ "min": "basic" }));
        orch.write("workspace/.git/HEAD", "ref: refs/heads/main\n").write("workspace/.git/config", "");
        for name in ["hooks/y", "objects/x", "refs/x"] {
            orch.write(&format!("workspace/.git/{name}"), "");
        }
        let project = UserProject::new(orch);
        let (ran, report) = run_with_report(&mut project.command_without_namespaces(RUN));
        let error = &report["steps"][0]["error"];
        assert_eq!((ran.code, &error["class"]), (1, &json!("path_refused")), "{report:#}");
        assert!(error["message"].as_str().unwrap().contains(path), "{report:#}");
    }
}

#[test]
fn as_another_user_an_agent_is_confined_at_full() {
    if !reaches_full() {
        return;
    }
    let server = Server::always(Reply::status(200, ""));
    let agent = json!({ "command": ["sh", "-c", attempts(&server)], "tools": ["any"] });
    let step = json!({ "id": "ask", "agent": "a", "prompt": "ask.md", "output": "said", "schema": "text" });
    let project = UserProject::new(project_with(&json!({ "a": agent }), &json!([step])));
    let (ran, report) = run_with_report(&mut project.command(RUN));
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(project.orch.read("workspace/said.md"), expected_output());
    assert_eq!(report["steps"][0]["sandbox"], "full");
    assert!(server.requests().is_empty() && !project.orch.exists("out.txt"));
}

#[test]
fn as_another_user_doctor_shows_the_level() {
    if !reaches_full() || !can_remove_namespaces() {
        return;
    }
    let project = UserProject::new(Orch::new());
    for (mut command, level) in
        [(project.command(&["doctor"]), "full"), (project.command_without_namespaces(&["doctor"]), "basic")]
    {
        let ran = RunOutput::of(&command.output().unwrap()).exits(0);
        assert!(ran.stdout.contains(&format!("this machine reaches the level `{level}`")), "{ran:?}");
    }
}
