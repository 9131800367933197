//! Confinement on macOS: a Seatbelt profile, which `sandbox-exec` applies.
//!
//! Apple has deprecated `sandbox-exec` without a successor; other agents use it nevertheless. In a profile, the last
//! matching rule counts. The program shares the loopback interface of the machine. It may listen there, but connect
//! only to the proxy and to the services that the policy lists.

#![cfg_attr(target_os = "linux", allow(dead_code, reason = "Linux compiles and tests what macOS runs"))]

use std::fmt::Write as _;
use std::fs;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

use rustix::process::{Resource, Rlimit, Signal, setrlimit};

use super::error::{ConfineError, InStep as _, Step};
use super::host::Host;
use super::limits::{Limit, LimitReached};
use super::policy::{Level, Limits, Network, Policy};
use super::wire::{AppliedSandbox, Report, Start, receive, send};
use super::{Job, environment, listen, write_probe_result};

/// The program that applies a profile and starts another program.
const SANDBOX_EXEC: &str = "/usr/bin/sandbox-exec";
/// The rules for every program: it may start other programs, query the system, read all files, and use a terminal.
const BASE: &str = r#"(version 1)
(deny default)
(allow process-exec process-fork)
(allow process-info* (target same-sandbox))
(allow signal (target same-sandbox))
(allow sysctl-read)
(allow ipc-posix-sem)
(allow ipc-posix-shm)
(allow pseudo-tty)
(allow mach-lookup (global-name "com.apple.system.opendirectoryd.libinfo"))
(allow mach-lookup (global-name "com.apple.SecurityServer"))
(allow mach-lookup (global-name "com.apple.trustd.agent"))
(allow file-read*)
(allow file-write-data file-ioctl (literal "/dev/null") (literal "/dev/zero") (literal "/dev/tty"))
(allow file-read* file-write* file-ioctl (literal "/dev/ptmx") (regex #"^/dev/ttys[0-9]+$"))
"#;

/// Creates the profile for a policy. Its paths must not contain links. `proxy_port` is the port of the proxy.
pub(super) fn profile(policy: &Policy, proxy_port: Option<u16>) -> String {
    let mut text = BASE.to_owned();
    for path in policy.writable() {
        push(&mut text, "allow file-write*", path);
    }
    for path in policy.protect.iter().map(|protected| &protected.path) {
        push(&mut text, "deny file-write*", path);
        hold_parents(&mut text, policy, path);
    }
    // A writable folder may be inside a protected folder.
    for path in policy.writable() {
        let is_inside = policy.protect.iter().any(|outer| path.starts_with(&outer.path) && *path != outer.path);
        if is_inside {
            push(&mut text, "allow file-write*", path);
        }
    }
    for path in &policy.deny_read {
        push(&mut text, "deny file-read* file-write*", path);
        hold_parents(&mut text, policy, path);
    }
    push_network(&mut text, policy, proxy_port);
    text
}

/// Forbids to rename the folders between a writable folder and a path: a program could otherwise create a new folder in
/// place of a protected one, or read a denied file under its new path.
fn hold_parents(text: &mut String, policy: &Policy, path: &Path) {
    let is_between = |folder: &&Path| policy.writable().any(|root| folder.starts_with(root) && *folder != root);
    for folder in path.ancestors().skip(1).take_while(is_between) {
        let _ = writeln!(text, "(deny file-write-unlink (literal {}))", quoted(folder));
    }
}

fn push_network(text: &mut String, policy: &Policy, proxy_port: Option<u16>) {
    if policy.network == Network::All {
        text.push_str("(allow network-bind network-inbound network-outbound (local ip))\n");
        text.push_str("(allow network-outbound (remote ip))\n");
        text.push_str("(allow network-outbound (literal \"/private/var/run/mDNSResponder\"))\n");
        text.push_str("(allow system-socket)\n");
    } else {
        text.push_str("(allow network-bind network-inbound (local ip \"localhost:*\"))\n");
        let services = policy.hosts().unwrap_or_default().iter().filter_map(Host::service_port);
        for port in proxy_port.into_iter().chain(services) {
            let _ = writeln!(text, "(allow network-outbound (remote ip \"localhost:{port}\"))");
        }
    }
    if policy.unix_sockets {
        text.push_str("(allow system-socket (socket-domain AF_UNIX))\n");
        for path in policy.writable() {
            push(text, "allow network-bind network-inbound network-outbound", path);
        }
    }
}

fn push(text: &mut String, rule: &str, path: &Path) {
    let _ = writeln!(text, "({rule} (subpath {}))", quoted(path));
}

/// Quotes a path as a string in the language of profiles.
fn quoted(path: &Path) -> String {
    format!("\"{}\"", path.display().to_string().replace('\\', "\\\\").replace('"', "\\\""))
}

/// Resolves the links in the paths of a policy, because Seatbelt compares resolved paths. On macOS, `/tmp` is a link.
fn resolve_links(policy: &Policy) -> Policy {
    let mut policy = policy.clone();
    let protect = policy.protect.iter_mut().map(|protected| &mut protected.path);
    for path in policy.write.iter_mut().chain(&mut policy.deny_read).chain(&mut policy.tmp).chain(protect) {
        if let Ok(real) = fs::canonicalize(&*path) {
            *path = real;
        } else if let (Some(parent), Some(name)) = (path.parent(), path.file_name())
            && let Ok(parent) = fs::canonicalize(parent)
        {
            *path = parent.join(name);
        }
    }
    policy
}

/// Runs a program under Seatbelt; returns its exit code.
#[expect(clippy::disallowed_methods, reason = "runs in `orch __confine`, which is a separate process")]
pub(super) fn run(job: Job) -> Result<i32, ConfineError> {
    let Job { request, mut argv, input, control, is_probe } = job;
    let policy = resolve_links(&request.policy);
    let proxy_port = listen::listen(&policy, control.as_ref())?;
    set_rlimits(&policy.limits)?;
    let is_unconfined = request.level == Level::None;
    let profile = profile(&policy, proxy_port);
    if !is_unconfined {
        try_profile(&profile)?;
    }
    let limits_by = (policy.limits != Limits::default()).then(|| "rlimits".to_owned());
    let unenforced = unenforced_restrictions(&policy.limits);
    let applied = AppliedSandbox {
        level: request.level,
        landlock: 0,
        has_pid_namespace: false,
        limits_by,
        cgroup: None,
        unenforced,
    };
    if is_probe {
        write_probe_result(&Ok(applied));
        return Ok(0);
    }
    let start = confirm(control.as_ref(), applied)?;
    if let Some(replacement) = start.argv {
        argv = replacement.into_iter().map(Into::into).collect();
    }
    if !is_unconfined {
        argv = [SANDBOX_EXEC.into(), "-p".into(), profile.into()].into_iter().chain(argv).collect();
    }
    let Some((name, arguments)) = argv.split_first() else {
        return Err(ConfineError::new(Step::Start, "the command line names no program".to_owned()));
    };
    let mut command = Command::new(name);
    command.args(arguments).stdin(input.map_or_else(Stdio::null, Stdio::from)).envs(start.env);
    command.envs(environment::variables(&policy, request.level, proxy_port));
    let mut child = command.spawn().in_step(Step::Start)?;
    drop(command);
    let code = exit_code(child.wait().in_step(Step::Start)?);
    if let Some(control) = control {
        // Sending fails only if orch has died, and then no process needs the report.
        let limit = limit_from_exit_code(code, &policy.limits);
        let _ = send(&control, &Report::Ended { code, limit, unknown: Vec::new() }, &[]);
    }
    Ok(code)
}

/// The limits that are not in force, or whose effect orch may not detect, each as a sentence.
fn unenforced_restrictions(limits: &Limits) -> Vec<String> {
    let memory = limits.memory.map(|_| "macOS can't limit memory".to_owned());
    memory.into_iter().chain(limits.file_size.map(|_| Limit::FileSize.undetected_in_children())).collect()
}

/// Reports the level in force to orch, and waits until orch lets the program start.
fn confirm(control: Option<&UnixStream>, applied: AppliedSandbox) -> Result<Start, ConfineError> {
    let Some(control) = control else { return Ok(Start::default()) };
    send(control, &Report::Confined(applied), &[]).in_step(Step::Control)?;
    Ok(receive(control).in_step(Step::Control)?.0)
}

/// Runs `true` under a profile, so that an invalid profile is an error before the program starts.
#[expect(clippy::disallowed_methods, reason = "runs in `orch __confine`, which is a separate process")]
fn try_profile(profile: &str) -> Result<(), ConfineError> {
    let output = Command::new(SANDBOX_EXEC).args(["-p", profile, "/usr/bin/true"]).stdin(Stdio::null()).output();
    let output = output.in_step_at(Step::Seatbelt, SANDBOX_EXEC)?;
    if output.status.success() {
        return Ok(());
    }
    let cause = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(ConfineError::new(Step::Seatbelt, cause)
        .at(SANDBOX_EXEC)
        .advise("if orch itself runs in a sandbox, start it outside: macOS does not allow nested sandboxes"))
}

fn exit_code(status: ExitStatus) -> i32 {
    status.code().or_else(|| Some(128 + status.signal()?)).unwrap_or(-1)
}

/// The limit because of which the kernel killed the program.
fn limit_from_exit_code(code: i32, limits: &Limits) -> Option<LimitReached> {
    match code - 128 {
        signal if signal == Signal::XCPU.as_raw() => Limit::CpuTime.reached(limits, true),
        signal if signal == Signal::XFSZ.as_raw() => Limit::FileSize.reached(limits, true),
        _ => None,
    }
}

fn set_rlimits(limits: &Limits) -> Result<(), ConfineError> {
    let resource_limits = [
        (Resource::Core, Some(0)),
        (Resource::Cpu, limits.cpu_time),
        (Resource::Fsize, limits.file_size),
        (Resource::Nofile, limits.open_files),
        (Resource::Nproc, limits.processes),
    ];
    for (resource, limit) in resource_limits {
        if limit.is_some() {
            setrlimit(resource, Rlimit { current: limit, maximum: limit }).in_step(Step::Limits)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::policy::{Mask, Protected};
    use super::*;

    fn lines(policy: &Policy, proxy_port: Option<u16>) -> Vec<String> {
        profile(policy, proxy_port).lines().map(str::to_owned).collect()
    }

    #[test]
    fn the_last_rule_for_a_path_is_the_strictest() {
        let protect =
            [".git/hooks", ".orch"].map(|name| Protected { path: Path::new("/w").join(name), mask: Mask::Folder });
        let policy = Policy {
            write: vec!["/w".into(), "/w/.orch/tree".into()],
            protect: protect.into(),
            deny_read: vec!["/Users/me/.ssh".into(), "/w/a/b/secret".into()],
            tmp: Some("/private/tmp/t".into()),
            ..Policy::default()
        };
        let lines = lines(&policy, None);
        let position = |line: &str| lines.iter().rposition(|other| other == line).unwrap_or_else(|| panic!("{line}"));
        assert!(
            position(r#"(allow file-write* (subpath "/w"))"#)
                < position(r#"(deny file-write* (subpath "/w/.git/hooks"))"#)
        );
        position(r#"(deny file-write-unlink (literal "/w/.git"))"#);
        assert!(
            position(r#"(deny file-write* (subpath "/w/.orch"))"#)
                < position(r#"(allow file-write* (subpath "/w/.orch/tree"))"#)
        );
        assert!(
            position("(allow file-read*)") < position(r#"(deny file-read* file-write* (subpath "/Users/me/.ssh"))"#)
        );
        for folder in ["/w/a", "/w/a/b"] {
            position(&format!("(deny file-write-unlink (literal \"{folder}\"))"));
        }
        position(r#"(allow file-write* (subpath "/private/tmp/t"))"#);
        assert!(!lines.iter().any(|line| line.contains(r#"unlink (literal "/w")"#)));
    }

    #[test]
    fn a_program_connects_only_to_the_proxy_and_to_listed_services() {
        let hosts = ["example.org", "127.0.0.1:8080"].map(|host| host.parse().unwrap());
        let policy = Policy { network: Network::Hosts(hosts.into()), ..Policy::default() };
        let outbound = |policy: &Policy, port| -> Vec<String> {
            lines(policy, port).into_iter().filter(|line| line.contains("network-outbound")).collect()
        };
        let expected = [9, 8080].map(|port| format!("(allow network-outbound (remote ip \"localhost:{port}\"))"));
        assert_eq!(outbound(&policy, Some(9)), expected);
        assert!(outbound(&Policy::default(), None).is_empty());
        assert!(outbound(&Policy { network: Network::All, ..Policy::default() }, None).len() > 1);
    }

    #[test]
    fn quotes_in_a_path_are_escaped() {
        let policy = Policy { write: vec![r#"/w") (allow default) ("\"#.into()], ..Policy::default() };
        let line = lines(&policy, None).into_iter().find(|line| line.contains("/w")).unwrap();
        assert_eq!(line, r#"(allow file-write* (subpath "/w\") (allow default) (\"\\"))"#);
    }
}
