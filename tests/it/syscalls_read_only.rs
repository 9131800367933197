//! The system calls of read-only commands, compared with the table in docs/security.md.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::step_kinds::{AGENT, answering_server, project};
use crate::support::{Orch, Server};

/// The system calls with which a process writes, connects or starts another process.
const TRACED_CALLS: &str = "trace=open,openat,openat2,creat,unlink,unlinkat,rmdir,mkdir,mkdirat,rename,renameat,renameat2,\
                     link,linkat,symlink,symlinkat,truncate,chmod,fchmod,fchmodat,chown,lchown,fchownat,\
                     utimensat,mknod,mknodat,setxattr,connect,sendto,sendmsg,execve,execveat";

/// An effect of a command.
#[derive(Debug, PartialEq)]
pub(crate) enum Effect {
    Write(String),
    Connect(String),
    Start(String),
}

/// Runs a command under `strace` with this input; returns the effects of the command and its child processes.
fn trace(orch: &Orch, args: &[&str], input: &str) -> Vec<Effect> {
    let place = tempfile::tempdir().unwrap();
    let steps_run = args.contains(&"run");
    trace_with_folder(place.path(), orch, args, input, steps_run)
}

/// Runs a traced command with a folder for temporary files. Programs are in the path only if the command runs steps.
pub(crate) fn trace_with_folder(place: &Path, orch: &Orch, args: &[&str], input: &str, steps_run: bool) -> Vec<Effect> {
    let (log, programs) = (place.join("log"), place.join("programs"));
    fs::create_dir(&programs).unwrap();
    let path = std::env::var("PATH").unwrap_or_default();
    let strace = std::env::split_paths(&path).map(|folder| folder.join("strace")).find(|file| file.is_file());
    let strace = strace.expect("`strace` is needed for this test: install it, as by `apt-get install strace`");
    let asked = orch.command(args);
    let mut command = Command::new(strace);
    command
        .args(["-f", "-y", "-qq", "-s", "4096", "-e", TRACED_CALLS, "-o"])
        .arg(&log)
        .arg(asked.get_program())
        .args(args);
    command.current_dir(orch.path()).env_clear();
    command.envs(asked.get_envs().filter_map(|(name, value)| Some((name, value?))));
    // The environment contains nothing of this machine except for what a test sets, and keys that could be sent.
    command.env("TMPDIR", place).env("OPENAI_API_KEY", "sk-abcdefgh12345678").env("CLOUD_KEY", "k-abcdefgh1234");
    if !steps_run {
        command.env("PATH", &programs);
    }
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let ended = child.wait_with_output().unwrap();
    let text = fs::read_to_string(&log).unwrap_or_else(|error| panic!("strace wrote no log: {error}; {ended:?}"));
    assert!(text.contains("execve("), "strace saw nothing: {ended:?}\n{text}");
    let own = asked.get_program().to_string_lossy().into_owned();
    let confining_processes = confining_processes(&text);
    let lines = text.lines().filter(|line| !confining_processes.contains(process_id(line)));
    lines.filter_map(|line| parse_line(line, &own)).collect()
}

/// The process id in a line of the log.
fn process_id(line: &str) -> &str {
    line.split_whitespace().next().unwrap_or_default()
}

/// The ids of the processes in which orch confines itself. The test ignores them, because they change only their own
/// namespaces, which end with them.
fn confining_processes(log: &str) -> BTreeSet<&str> {
    let starts_confining = |line: &&str| line.contains("execve(\"/proc/self/exe\"") && line.contains("\"__confine\"");
    log.lines().filter(starts_confining).map(process_id).collect()
}

/// The effect in a line of the log, if it is relevant.
fn parse_line(line: &str, own: &str) -> Option<Effect> {
    // The lines look like `12345 openat(AT_FDCWD</folder>, "name", O_WRONLY|O_CREAT, 0666) = 3`; `<... openat resumed>`
    // continues an earlier line.
    let (_, call) = line.trim_start().split_once(' ')?;
    let (name, arguments) = call.trim_start().split_once('(')?;
    match name {
        "connect" | "sendto" | "sendmsg" => remote_address(arguments).map(Effect::Connect),
        "execve" | "execveat" => {
            let program = quoted(arguments)?;
            (program != own && program != "/proc/self/exe").then(|| Effect::Start(program.to_owned()))
        }
        "open" | "openat" | "openat2" => {
            let writes = ["O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC"].iter().any(|flag| arguments.contains(flag));
            let path = path_of_call(arguments)?;
            (writes && !["/dev/null", "/dev/tty"].contains(&path.as_str())).then_some(Effect::Write(path))
        }
        // A change of the mode of a socket or a pipe writes no file.
        _ if name.chars().all(|c| c.is_ascii_alphanumeric()) => Some(Effect::Write(path_of_call(arguments)?)),
        _ => None,
    }
}

fn quoted(text: &str) -> Option<&str> {
    text.split_once('"')?.1.split_once('"').map(|(inner, _)| inner)
}

/// The path of a call: its name, in the folder of the descriptor before it.
fn path_of_call(arguments: &str) -> Option<String> {
    let folder = arguments.split_once('<').and_then(|(_, rest)| rest.split_once('>')).map(|(folder, _)| folder);
    match (quoted(arguments), folder) {
        (Some(name), _) if name.starts_with('/') => Some(name.to_owned()),
        (Some(name), Some(folder)) => Some(format!("{folder}/{name}")),
        (Some(name), None) => Some(name.to_owned()),
        (None, folder) => folder.map(str::to_owned),
    }
}

/// The address of a call that leads to another machine; a local name server leads there, too.
fn remote_address(arguments: &str) -> Option<String> {
    let internet = arguments.contains("AF_INET");
    let here = arguments.contains("inet_addr(\"127.") || arguments.contains("\"::1\"");
    let name_server = arguments.contains("htons(53)");
    (internet && (!here || name_server)).then(|| arguments.to_owned())
}

/// A project that names addresses, programs and secrets, with a run in its journal; its server need not run.
fn project_with_secrets() -> (Server, Orch) {
    let server = answering_server(|_, _| json!({ "a": 1 }));
    let steps =
        format!("  - {{ id: one, {AGENT}, prompt: one.md, output: x }}\n  - {{ id: two, run: [touch, ran] }}\n");
    let orch = project(&server, &steps);
    orch.run(&["pipeline", "run", "pipelines/main.yaml", "--task", "do it"]).exits(0);
    let settings = orch.read("orch.yaml");
    orch.write(
        "orch.yaml",
        &format!(
            "{settings}tracker: {{ webhook: {{ url: \"http://tracker.invalid/\", secret: {{ env: CLOUD_KEY }} }} }}\n"
        )
        .replace(
            "  lab:",
            "  evil: { dialect: openai, base_url: \"http://evil.invalid/v1\", api_key: { env: CLOUD_KEY } }\n  lab:",
        ),
    );
    orch.write(
        "pipelines/evil.yaml",
        &format!("name: evil\nagents: {{ a: {{ model: evil/m }} }}\nsteps:\n  - {{ id: one, {AGENT}, prompt: one.md, output: x }}\n"),
    );
    (server, orch)
}

/// The same project, in which the files of orch are links to a folder of the user.
fn project_with_links(victim: &Path) -> (Server, Orch) {
    let (server, orch) = project_with_secrets();
    fs::write(victim.join("one.md"), "theirs").unwrap();
    for name in ["prompts", "workspace", ".orch/blobs", ".orch/locks"] {
        let path = orch.path().join(name);
        if path.is_dir() {
            fs::remove_dir_all(&path).unwrap();
        }
        symlink(victim, path).unwrap();
    }
    (server, orch)
}

/// The messages of an editor that opens the pipeline.
fn editor_session(orch: &Orch) -> String {
    let uri = |name: &str| format!("file://{}", orch.path().join(name).display());
    let document = json!({ "uri": uri("pipelines/main.yaml"), "languageId": "yaml", "version": 1, "text": orch.read("pipelines/main.yaml") });
    let messages = [
        json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": { "capabilities": {}, "rootUri": uri("") } }),
        json!({ "jsonrpc": "2.0", "method": "initialized", "params": {} }),
        json!({ "jsonrpc": "2.0", "method": "textDocument/didOpen", "params": { "textDocument": document } }),
        json!({ "jsonrpc": "2.0", "id": 2, "method": "textDocument/hover", "params": {
            "textDocument": { "uri": uri("pipelines/main.yaml") }, "position": { "line": 8, "character": 30 } } }),
        json!({ "jsonrpc": "2.0", "id": 3, "method": "shutdown" }),
        json!({ "jsonrpc": "2.0", "method": "exit" }),
    ];
    let framed = messages.iter().map(|message| {
        let text = message.to_string();
        format!("Content-Length: {}\r\n\r\n{text}", text.len())
    });
    framed.collect()
}

/// The row of a command in the table: what it writes, connects to and starts.
pub(crate) fn table_row(command: &str) -> [String; 3] {
    let table = fs::read_to_string("docs/security.md").unwrap();
    let start = format!("| `{command}`");
    let named = |line: &&str| line.strip_prefix(&start).is_some_and(|rest| rest.starts_with([',', ' ']));
    let line = table.lines().find(named).unwrap_or_else(|| panic!("no row of `{command}`"));
    let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
    [cells[2], cells[3], cells[4]].map(str::to_owned)
}

#[test]
fn read_only_commands_do_no_more_than_the_table_says() {
    let victim = tempfile::tempdir().unwrap();
    let file = "pipelines/main.yaml";
    for (_server, orch) in [project_with_secrets(), project_with_links(victim.path())] {
        for (command, more) in [
            ("orch pipeline validate", &[][..]),
            ("orch pipeline plan", &[file, "--task", "x"]),
            ("orch pipeline plan", &["pipelines/evil.yaml"]),
            ("orch pipeline plan", &[file, "--task", "x", "--reuse"]),
            ("orch pipeline list", &[]),
            ("orch pipeline show", &[file]),
            ("orch pipeline graph", &[file]),
            ("orch doctor", &[]),
            ("orch lsp", &[]),
        ] {
            let args: Vec<&str> = command.split(' ').skip(1).chain(more.iter().copied()).collect();
            let input = if command == "orch lsp" { editor_session(&orch) } else { String::new() };
            let [writes, network, starts] = table_row(command);
            // Otherwise, the command writes only to the cache of models, and this project has no embedded model.
            let nothing = writes == "nothing" || writes.starts_with("nothing; in your cache of models");
            assert!(nothing, "{command}: commands that write need another test");
            assert!(["nothing", "this machine"].contains(&network.as_str()), "{command}: {network}");
            let known = |program: &str| starts.contains(&format!("`{}", program.rsplit('/').next().unwrap_or(program)));
            let acts = trace(&orch, &args, &input);
            let beyond: Vec<&Effect> =
                acts.iter().filter(|act| !matches!(act, Effect::Start(name) if known(name))).collect();
            assert!(beyond.is_empty(), "{command} {more:?} did more than docs/security.md says: {beyond:#?}");
        }
    }
    assert_eq!(fs::read_dir(victim.path()).unwrap().count(), 1);
}

#[test]
fn the_effects_of_a_run_are_traced() {
    let server = answering_server(|_, _| json!({ "a": 1 }));
    let orch = project(
        &server,
        &format!("  - {{ id: one, {AGENT}, prompt: one.md, output: x }}\n  - {{ id: two, run: [touch, ran] }}\n"),
    );
    let acts = trace(&orch, &["pipeline", "run", "pipelines/main.yaml", "--task", "do it"], "");
    let wrote = |name: &str| acts.iter().any(|act| matches!(act, Effect::Write(path) if path.ends_with(name)));
    assert!(wrote(".orch/journal.db") && wrote("workspace/.orch.lock") && wrote("workspace/ran"), "{acts:#?}");
    assert!(acts.iter().any(|act| matches!(act, Effect::Start(program) if program.ends_with("/touch"))), "{acts:#?}");
    let folder = orch.path().display().to_string();
    let key = orch.configuration().join("orch").display().to_string();
    let elsewhere = |act: &&Effect| matches!(act, Effect::Write(path) if !path.starts_with(&folder) && !key.starts_with(path) && !path.starts_with(&key));
    assert_eq!(acts.iter().find(elsewhere), None, "a run writes in its project alone, and the key that it makes once");
    let again = trace(&orch, &["pipeline", "run", "pipelines/main.yaml", "--task", "do it", "--clean"], "");
    let elsewhere = |act: &&Effect| matches!(act, Effect::Write(path) if !path.starts_with(&folder));
    assert_eq!(again.iter().find(elsewhere), None, "a later run writes in its project alone");
    assert_eq!(
        parse_line(
            "7 connect(3<socket:[1]>, {sa_family=AF_INET, sin_port=htons(443), sin_addr=inet_addr(\"10.1.2.3\")}, 16) = 0",
            "x"
        ),
        Some(Effect::Connect(
            "3<socket:[1]>, {sa_family=AF_INET, sin_port=htons(443), sin_addr=inet_addr(\"10.1.2.3\")}, 16) = 0"
                .to_owned()
        ))
    );
}
