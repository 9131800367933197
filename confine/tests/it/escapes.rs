//! Attempts to escape. Each attempt is a real program. The attempts also run without a sandbox, so that an attempt that
//! never succeeds is visible in the table.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use orch_confine::confine::Policy;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pty::{OpenptFlags, openpt, ptsname, unlockpt};

use super::attempts::Evidence::{self, ExitCode, File, ProcessEnd, SharedFile, TerminalOutput, UdpPacket};
use super::attempts::{ATTEMPTS, SUCCEED_AT_BASIC, SUCCEED_WITH_SHARED_PROC};
use super::support::{Fixture, User, attempts, has};

/// The file with the table of the results.
const TABLE_FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/ESCAPES.md");
/// The beginning of the table.
const TABLE_START: &str = "| layer | attempt |";

/// The results of all attempts in a kind of sandbox for a user: whether each attempt succeeded, and its standard error.
type Column = (&'static str, User, Vec<(bool, String)>);

/// The targets outside of the sandbox: services, a terminal, and another process of the user.
struct Outside {
    tcp: TcpListener,
    tcp6: TcpListener,
    udp: UdpSocket,
    dns: UdpSocket,
    abstract_name: String,
    victim: Child,
    _sockets: (UnixListener, UnixDatagram, UnixListener),
    /// The key of a System V shared memory segment.
    shm_key: String,
    /// The terminal emulator's end of the user's terminal.
    terminal: OwnedFd,
    terminal_path: String,
}

impl Outside {
    fn new(fixture: &Fixture) -> Self {
        let stream = UnixListener::bind(fixture.path("outside/socket")).unwrap();
        let datagrams = UnixDatagram::bind(fixture.path("outside/datagrams")).unwrap();
        for name in ["outside/socket", "outside/datagrams"] {
            fs::set_permissions(fixture.path(name), fs::Permissions::from_mode(0o777)).unwrap();
        }
        let abstract_name = format!("confine-test-{}", fixture.folder.path().display());
        let address = SocketAddr::from_abstract_name(&abstract_name).unwrap();
        let abstract_socket = UnixListener::bind_addr(&address).unwrap();
        let udp = || {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(30))).unwrap();
            socket
        };
        let output = fixture.user.command("ipcmk").args(["-M", "4096"]).output().unwrap();
        let id = String::from_utf8(output.stdout).unwrap().rsplit(' ').next().unwrap().trim().to_owned();
        let keys = fs::read_to_string("/proc/sysvipc/shm").unwrap();
        let key = keys.lines().find(|line| line.split_whitespace().nth(1) == Some(&id)).unwrap();
        let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        unlockpt(&terminal).unwrap();
        let terminal_path = ptsname(&terminal, Vec::new()).unwrap().into_string().unwrap();
        fixture.chown(terminal_path.as_ref());
        Self {
            terminal,
            terminal_path,
            tcp: TcpListener::bind("127.0.0.1:0").unwrap(),
            tcp6: TcpListener::bind("[::1]:0").unwrap(),
            udp: udp(),
            dns: udp(),
            abstract_name,
            victim: victim(fixture),
            _sockets: (stream, datagrams, abstract_socket),
            shm_key: key.split_whitespace().next().unwrap().to_owned(),
        }
    }

    /// Whether the terminal emulator received output.
    fn received_text(&self) -> bool {
        let mut poll_fds = [PollFd::new(&self.terminal, PollFlags::IN)];
        poll(&mut poll_fds, Some(&Timespec { tv_sec: 0, tv_nsec: 50_000_000 })).unwrap();
        poll_fds[0].revents().contains(PollFlags::IN)
    }

    fn received_udp(&self) -> bool {
        [&self.udp, &self.dns].into_iter().any(|socket| socket.recv(&mut [0; 8]).is_ok())
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        drop(self.victim.kill());
        drop(self.victim.wait());
        drop(Command::new("ipcrm").args(["-M", &format!("{:#x}", self.shm_key.parse::<i64>().unwrap())]).status());
    }
}

/// Starts the process that attempts try to signal, inspect or change.
fn victim(fixture: &Fixture) -> Child {
    fixture.user.command("sleep").arg("98765").env("SECRET", "hidden-text").stdin(Stdio::null()).spawn().unwrap()
}

/// Restores the files of the fixture.
fn reset(fixture: &Fixture) {
    for name in ["ws", "tmp"] {
        drop(fs::remove_dir_all(fixture.path(name)));
        fs::create_dir(fixture.path(name)).unwrap();
        fixture.chown(&fixture.path(name));
    }
    for name in ["file", "moved", "new", "link", "pipe", "folder", "secret", "empty"] {
        let path = fixture.path("outside").join(name);
        drop(fs::remove_file(&path).or_else(|_| fs::remove_dir(&path)));
    }
    drop(fs::remove_dir(Path::new("/sys/fs/cgroup/pids").join(fixture.unique())));
    for folder in ["/dev/shm", "/tmp"] {
        drop(fs::remove_file(Path::new(folder).join(fixture.unique())));
    }
    for folder in [
        "outside/empty",
        "ws/.git",
        "ws/.git/hooks",
        "ws/.git/objects",
        "ws/.git/refs",
        "ws/.git/worktrees",
        "ws/.git/worktrees/side",
        "ws/.husky",
        "ws/.husky/_",
        "ws/deep",
        "ws/deep/inner",
    ] {
        fs::create_dir(fixture.path(folder)).unwrap();
        fixture.chown(&fixture.path(folder));
    }
    if !fixture.path("secret").exists() {
        fs::create_dir(fixture.path("secret")).unwrap();
        fixture.chown(&fixture.path("secret"));
    }
    for (name, text) in [
        ("outside/file", "original"),
        ("outside/open", "original"),
        ("ws/file", "original"),
        ("ws/.git/config", "[core]\n\thooksPath = .husky/_\n"),
        ("ws/.git/HEAD", "ref: refs/heads/main\n"),
        ("ws/.git/worktrees/side/HEAD", "ref: refs/heads/side\n"),
        ("ws/.git/worktrees/side/commondir", "../..\n"),
        ("ws/.git/worktrees/side/gitdir", "/nowhere/.git\n"),
        ("ws/.orch.lock", "process 1"),
        ("ws/.orch.programs.lock", "process 1"),
        ("ws/deep/inner/secret", "secret-text"),
        ("secret/key", "secret-text"),
    ] {
        fixture.write(name, text);
    }
    std::os::unix::fs::symlink(fixture.path("secret"), fixture.path("ws/to-secret")).unwrap();
}

/// The command of an attempt in a kind of sandbox.
fn command(fixture: &Fixture, kind: &str, policy: &Policy, argv: &[&str]) -> Command {
    // The shell leaves a descriptor open, as a careless parent process does.
    let shell = "exec 9>>\"$0\"; exec \"$@\"";
    let open = fixture.text("outside/open");
    let inner = match kind {
        "bare" if fixture.user == User::Root => {
            // In this namespace, the mounts of an attempt end with it.
            let mut command = Command::new("unshare");
            command.args(["-m", "--propagation", "private"]).args(argv);
            command
        }
        "bare" => {
            let mut command = fixture.user.command(argv[0]);
            command.args(&argv[1..]);
            command
        }
        "bwrap" => {
            let mut command = fixture.user.command("bwrap");
            command.args("--ro-bind / / --dev /dev --proc /proc --tmpfs /tmp --tmpfs /run".split(' '));
            for name in ["ws", "tmp"] {
                command.args(["--bind", &fixture.text(name), &fixture.text(name)]);
            }
            command.args(["--unshare-all", "--die-with-parent", "--new-session", "--"]).args(argv);
            command
        }
        level => fixture.command(level, policy, argv),
    };
    let mut command = Command::new("sh");
    command.args(["-c", shell, &open]).arg(inner.get_program()).args(inner.get_args());
    command.current_dir(fixture.path("ws")).env("HOME", fixture.path("home")).stdin(Stdio::null());
    command
}

/// Makes an attempt; returns whether it succeeded, and its standard error.
fn attempt(fixture: &Fixture, outside: &mut Outside, kind: &str, (line, evidence): (&str, Evidence)) -> (bool, String) {
    reset(fixture);
    if evidence == UdpPacket {
        while outside.received_udp() {}
    }
    let disk = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let disk = disk.lines().find(|line| line.split(' ').nth(4) == Some("/")).unwrap();
    let disk = disk.rsplit(' ').nth(1).unwrap().to_owned();
    let suid = fixture.path("bin/suid");
    let arguments = line
        .replace("{ws}", &fixture.text("ws"))
        .replace("{out}", &fixture.text("outside"))
        .replace("{secret}", &fixture.text("secret"))
        .replace("{unique}", &fixture.unique())
        .replace("{other}", if fixture.user == User::Root { "1" } else { "65534" })
        .replace("{disk}", &disk)
        .replace("{tcp}", &outside.tcp.local_addr().unwrap().port().to_string())
        .replace("{tcp6}", &outside.tcp6.local_addr().unwrap().port().to_string())
        .replace("{udp}", &outside.udp.local_addr().unwrap().port().to_string())
        .replace("{dns}", &outside.dns.local_addr().unwrap().port().to_string())
        .replace("{abstract}", &outside.abstract_name)
        .replace("{pid}", &outside.victim.id().to_string())
        .replace("{shm}", &outside.shm_key)
        .replace("{terminal}", &outside.terminal_path)
        .replace("{suid}", &suid.display().to_string());
    let program = attempts().display().to_string();
    let argv: Vec<&str> = std::iter::once(program.as_str()).chain(arguments.split(' ')).collect();
    let mut policy = fixture.policy();
    policy.deny_read.push(fixture.path("ws/deep/inner/secret"));
    let output = command(fixture, kind, &policy, &argv).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    assert!(output.status.code() != Some(125), "{kind} {line}: {stderr}");
    let succeeded = match evidence {
        ExitCode => output.status.success(),
        TerminalOutput => outside.received_text(),
        UdpPacket => outside.received_udp(),
        ProcessEnd => {
            thread::sleep(Duration::from_millis(30));
            let has_ended = outside.victim.try_wait().unwrap().is_some();
            if has_ended {
                outside.victim = victim(fixture);
                thread::sleep(Duration::from_millis(30));
            }
            has_ended
        }
        SharedFile(folder) => contains_escaped(&Path::new(folder).join(fixture.unique())),
        File(name) => contains_escaped(&fixture.path(name)),
    };
    (succeeded, stderr)
}

fn contains_escaped(path: &Path) -> bool {
    fs::read_to_string(path).is_ok_and(|text| text.contains("escaped"))
}

/// The results of all attempts of a user in a kind of sandbox.
fn column(user: User, kind: &str) -> Vec<(bool, String)> {
    let fixture = Fixture::new(user);
    fs::copy(attempts(), fixture.path("bin/suid")).unwrap();
    fs::set_permissions(fixture.path("bin/suid"), fs::Permissions::from_mode(0o4755)).unwrap();
    let mut outside = Outside::new(&fixture);
    let verbose = std::env::var_os("CONFINE_REASONS").is_some();
    let mut results = Vec::new();
    for (_, name, line, evidence) in ATTEMPTS {
        let (succeeded, stderr) = attempt(&fixture, &mut outside, kind, (line, *evidence));
        if verbose {
            println!("{kind} {}: {name}: {} {stderr}", user.name(), if succeeded { "✗" } else { "·" });
        }
        results.push((succeeded, stderr));
    }
    results
}

/// The attempts that succeed in a kind of sandbox of orch; `None` for other kinds.
fn known_escapes(kind: &str) -> Option<&'static [&'static str]> {
    match kind {
        "full" => Some(&[]),
        "shared" => Some(SUCCEED_WITH_SHARED_PROC),
        "basic" => Some(SUCCEED_AT_BASIC),
        _ => None,
    }
}

/// Whether to update the table in [`TABLE_FILE`].
fn is_update() -> bool {
    std::env::var_os("ORCH_UPDATE").is_some()
}

#[test]
fn no_attempt_succeeds_at_full_and_only_known_attempts_at_basic() {
    if !super::support::reaches_full() {
        return;
    }
    if !has("bwrap") {
        // A comparison and no requirement: a bubblewrap on PATH changes how Codex runs commands in other tests.
        let _ = writeln!(std::io::stderr(), "bubblewrap is not installed, so the table has no column for comparison");
    }
    let kinds: Vec<&'static str> = ["bare", "bwrap", "basic", "shared", "full"]
        .into_iter()
        .filter(|kind| *kind != "bwrap" || has("bwrap"))
        .collect();
    let only = std::env::var("CONFINE_KINDS").unwrap_or_default();
    let kinds: Vec<&'static str> = kinds.into_iter().filter(|kind| only.is_empty() || only.contains(kind)).collect();
    let users = User::all();
    let pairs = kinds.iter().flat_map(|kind| users.iter().map(|user| (*kind, *user)));
    // Each column has its own fixture and mostly waits, so the columns run in parallel.
    let columns: Vec<Column> = thread::scope(|scope| {
        let threads: Vec<_> = pairs.map(|(kind, user)| (kind, user, scope.spawn(move || column(user, kind)))).collect();
        threads.into_iter().map(|(kind, user, thread)| (kind, user, thread.join().unwrap())).collect()
    });
    let headings: String = columns.iter().map(|(kind, user, _)| format!(" {kind} {} |", user.name())).collect();
    let mut table = format!("{TABLE_START}{headings}\n|---|---|{}\n", "---|".repeat(columns.len()));
    for (index, (layer, name, ..)) in ATTEMPTS.iter().enumerate() {
        let cells: String =
            columns.iter().map(|(.., results)| if results[index].0 { " ✗ |" } else { " · |" }).collect();
        table.push_str(&format!("| {layer} | {name} |{cells}\n"));
    }
    println!("✗: the attempt succeeded, ·: the sandbox stopped it\n\n{table}");
    for (kind, user, results) in &columns {
        let succeeded: BTreeSet<&str> = ATTEMPTS
            .iter()
            .zip(results)
            .filter(|(_, (succeeded, _))| *succeeded)
            .map(|((_, name, ..), _)| *name)
            .collect();
        let Some(known) = known_escapes(kind) else { continue };
        let unexpected: Vec<&&str> = succeeded.iter().filter(|name| !known.contains(name)).collect();
        assert!(unexpected.is_empty(), "{kind} {}: {unexpected:?} succeeded", user.name());
    }
    if is_update() {
        assert_eq!(columns.len(), 10, "the table needs root, bubblewrap and all kinds of sandboxes");
        let text = fs::read_to_string(TABLE_FILE).unwrap();
        let (introduction, _) = text.split_once(TABLE_START).unwrap();
        fs::write(TABLE_FILE, format!("{introduction}{table}")).unwrap();
    }
}

#[test]
fn the_documented_table_has_every_attempt_and_only_known_escapes() {
    if is_update() {
        return;
    }
    let text = fs::read_to_string(TABLE_FILE).unwrap();
    let lines = text.lines().skip_while(|line| !line.starts_with(TABLE_START));
    let rows: Vec<Vec<&str>> = lines.map(|line| line.trim_matches('|').split('|').map(str::trim).collect()).collect();
    let (headings, rows) = (&rows[0], &rows[2..]);
    let names: Vec<&str> = rows.iter().map(|row| row[1]).collect();
    let expected: Vec<&str> = ATTEMPTS.iter().map(|(_, name, ..)| *name).collect();
    assert_eq!(names, expected, "`ORCH_UPDATE=1 cargo test -p orch-confine --test it escapes` updates {TABLE_FILE}");
    for row in rows {
        for (heading, cell) in headings.iter().zip(row).skip(2) {
            let kind = heading.split(' ').next().unwrap();
            let is_known = known_escapes(kind).is_none_or(|known| known.contains(&row[1]));
            assert!(*cell == "·" || is_known, "{heading}: {}", row[1]);
        }
    }
}
