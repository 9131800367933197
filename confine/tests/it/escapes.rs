//! The escape table: each attempt is a real program, and the same attempts run bare, so that a wrong one shows.

use std::collections::BTreeSet;
use std::fs;
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

use super::attempts::Sign::{self, Code, Dead, File, Shared, Terminal, Udp};
use super::attempts::{ATTEMPTS, THROUGH_AT_BASIC, THROUGH_WITH_SHARED_PROC};
use super::support::{Lab, User, attempts, has};

/// The results of all attempts in a kind of sandbox for a user: whether each got through, and what it said.
type Column = (&'static str, User, Vec<(bool, String)>);

/// What is outside: services and another process of the user.
struct Outside {
    tcp: TcpListener,
    tcp6: TcpListener,
    udp: UdpSocket,
    dns: UdpSocket,
    abstract_name: String,
    victim: Child,
    _sockets: (UnixListener, UnixDatagram, UnixListener),
    shm: String,
    /// The terminal emulator's end of the user's terminal.
    terminal: OwnedFd,
    terminal_path: String,
}

impl Outside {
    fn new(lab: &Lab) -> Self {
        let stream = UnixListener::bind(lab.path("outside/socket")).unwrap();
        let datagrams = UnixDatagram::bind(lab.path("outside/datagrams")).unwrap();
        for name in ["outside/socket", "outside/datagrams"] {
            fs::set_permissions(lab.path(name), fs::Permissions::from_mode(0o777)).unwrap();
        }
        let abstract_name = format!("confine-test-{}", lab.folder.path().display());
        let address = SocketAddr::from_abstract_name(&abstract_name).unwrap();
        let abstract_socket = UnixListener::bind_addr(&address).unwrap();
        let udp = || {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(30))).unwrap();
            socket
        };
        let output = lab.user.command("ipcmk").args(["-M", "4096"]).output().unwrap();
        let id = String::from_utf8(output.stdout).unwrap().rsplit(' ').next().unwrap().trim().to_owned();
        let keys = fs::read_to_string("/proc/sysvipc/shm").unwrap();
        let key = keys.lines().find(|line| line.split_whitespace().nth(1) == Some(&id)).unwrap();
        let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        unlockpt(&terminal).unwrap();
        let terminal_path = ptsname(&terminal, Vec::new()).unwrap().into_string().unwrap();
        lab.give(terminal_path.as_ref());
        Self {
            terminal,
            terminal_path,
            tcp: TcpListener::bind("127.0.0.1:0").unwrap(),
            tcp6: TcpListener::bind("[::1]:0").unwrap(),
            udp: udp(),
            dns: udp(),
            abstract_name,
            victim: victim(lab),
            _sockets: (stream, datagrams, abstract_socket),
            shm: key.split_whitespace().next().unwrap().to_owned(),
        }
    }

    /// Whether the terminal emulator has something to show.
    fn received_text(&self) -> bool {
        let mut ends = [PollFd::new(&self.terminal, PollFlags::IN)];
        poll(&mut ends, Some(&Timespec { tv_sec: 0, tv_nsec: 50_000_000 })).unwrap();
        ends[0].revents().contains(PollFlags::IN)
    }

    fn received_udp(&self) -> bool {
        [&self.udp, &self.dns].into_iter().any(|socket| socket.recv(&mut [0; 8]).is_ok())
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        drop(self.victim.kill());
        drop(self.victim.wait());
        drop(Command::new("ipcrm").args(["-M", &format!("{:#x}", self.shm.parse::<i64>().unwrap())]).status());
    }
}

fn victim(lab: &Lab) -> Child {
    lab.user.command("sleep").arg("98765").env("SECRET", "hidden-text").stdin(Stdio::null()).spawn().unwrap()
}

/// Puts the files back as they were.
fn reset(lab: &Lab) {
    for name in ["ws", "tmp"] {
        drop(fs::remove_dir_all(lab.path(name)));
        fs::create_dir(lab.path(name)).unwrap();
        lab.give(&lab.path(name));
    }
    for name in ["file", "moved", "new", "link", "pipe", "folder", "secret", "empty"] {
        let path = lab.path("outside").join(name);
        drop(fs::remove_file(&path).or_else(|_| fs::remove_dir(&path)));
    }
    drop(fs::remove_dir(Path::new("/sys/fs/cgroup/pids").join(lab.unique())));
    for folder in ["/dev/shm", "/tmp"] {
        drop(fs::remove_file(Path::new(folder).join(lab.unique())));
    }
    for folder in ["outside/empty", "ws/.git", "ws/.git/hooks", "ws/.git/objects"] {
        fs::create_dir(lab.path(folder)).unwrap();
        lab.give(&lab.path(folder));
    }
    if !lab.path("secret").exists() {
        fs::create_dir(lab.path("secret")).unwrap();
        lab.give(&lab.path("secret"));
    }
    for (name, text) in [
        ("outside/file", "original"),
        ("outside/open", "original"),
        ("ws/file", "original"),
        ("ws/.git/config", "[core]\n"),
        ("ws/.git/HEAD", "ref: refs/heads/main\n"),
        ("secret/key", "secret-text"),
    ] {
        lab.write(name, text);
    }
    std::os::unix::fs::symlink(lab.path("secret"), lab.path("ws/to-secret")).unwrap();
}

/// The command of an attempt in a kind of sandbox.
fn command(lab: &Lab, kind: &str, policy: &Policy, argv: &[&str]) -> Command {
    // A descriptor that a careless parent left open.
    let shell = "exec 9>>\"$0\"; exec \"$@\"";
    let open = lab.text("outside/open");
    let inner = match kind {
        "bare" if lab.user == User::Root => {
            // What a bare root mounts must not stay.
            let mut command = Command::new("unshare");
            command.args(["-m", "--propagation", "private"]).args(argv);
            command
        }
        "bare" => {
            let mut command = lab.user.command(argv[0]);
            command.args(&argv[1..]);
            command
        }
        "bwrap" => {
            let mut command = lab.user.command("bwrap");
            command.args("--ro-bind / / --dev /dev --proc /proc --tmpfs /tmp --tmpfs /run".split(' '));
            for name in ["ws", "tmp"] {
                command.args(["--bind", &lab.text(name), &lab.text(name)]);
            }
            command.args(["--unshare-all", "--die-with-parent", "--new-session", "--"]).args(argv);
            command
        }
        level => lab.command(level, policy, argv),
    };
    let mut command = Command::new("sh");
    command.args(["-c", shell, &open]).arg(inner.get_program()).args(inner.get_args());
    command.current_dir(lab.path("ws")).env("HOME", lab.path("home")).stdin(Stdio::null());
    command
}

/// Makes an attempt; returns whether it got through, and what it said.
fn attempt(lab: &Lab, outside: &mut Outside, kind: &str, (line, sign): (&str, Sign)) -> (bool, String) {
    reset(lab);
    if sign == Udp {
        while outside.received_udp() {}
    }
    let disk = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let disk = disk.lines().find(|line| line.split(' ').nth(4) == Some("/")).unwrap();
    let disk = disk.rsplit(' ').nth(1).unwrap().to_owned();
    let suid = lab.path("bin/suid");
    let replaced = line
        .replace("{ws}", &lab.text("ws"))
        .replace("{out}", &lab.text("outside"))
        .replace("{secret}", &lab.text("secret"))
        .replace("{unique}", &lab.unique())
        .replace("{other}", if lab.user == User::Root { "1" } else { "65534" })
        .replace("{disk}", &disk)
        .replace("{tcp}", &outside.tcp.local_addr().unwrap().port().to_string())
        .replace("{tcp6}", &outside.tcp6.local_addr().unwrap().port().to_string())
        .replace("{udp}", &outside.udp.local_addr().unwrap().port().to_string())
        .replace("{dns}", &outside.dns.local_addr().unwrap().port().to_string())
        .replace("{abstract}", &outside.abstract_name)
        .replace("{pid}", &outside.victim.id().to_string())
        .replace("{shm}", &outside.shm)
        .replace("{terminal}", &outside.terminal_path)
        .replace("{suid}", &suid.display().to_string());
    let program = attempts().display().to_string();
    let argv: Vec<&str> = std::iter::once(program.as_str()).chain(replaced.split(' ')).collect();
    let output = command(lab, kind, &lab.policy(), &argv).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    assert!(output.status.code() != Some(125), "{kind} {line}: {said}");
    let got_through = match sign {
        Code => output.status.success(),
        Terminal => outside.received_text(),
        Udp => outside.received_udp(),
        Dead => {
            thread::sleep(Duration::from_millis(30));
            let dead = outside.victim.try_wait().unwrap().is_some();
            if dead {
                outside.victim = victim(lab);
                thread::sleep(Duration::from_millis(30));
            }
            dead
        }
        Shared(folder) => says_escaped(&Path::new(folder).join(lab.unique())),
        File(name) => says_escaped(&lab.path(name)),
    };
    (got_through, said)
}

fn says_escaped(path: &Path) -> bool {
    fs::read_to_string(path).is_ok_and(|text| text.contains("escaped"))
}

/// The results of all attempts for a user, in each kind of sandbox.
fn column(user: User, kind: &str) -> Vec<(bool, String)> {
    let lab = Lab::new(user);
    fs::copy(attempts(), lab.path("bin/suid")).unwrap();
    fs::set_permissions(lab.path("bin/suid"), fs::Permissions::from_mode(0o4755)).unwrap();
    let mut outside = Outside::new(&lab);
    let verbose = std::env::var_os("CONFINE_REASONS").is_some();
    let mut results = Vec::new();
    for (_, name, line, sign) in ATTEMPTS {
        let (through, said) = attempt(&lab, &mut outside, kind, (line, *sign));
        if verbose {
            println!("{kind} {}: {name}: {} {said}", user.name(), if through { "✗" } else { "·" });
        }
        results.push((through, said));
    }
    results
}

#[test]
fn no_attempt_escapes_at_full_and_only_known_ones_at_basic() {
    if !super::support::reaches_full() {
        return;
    }
    let kinds: Vec<&'static str> = ["bare", "bwrap", "basic", "shared", "full"]
        .into_iter()
        .filter(|kind| *kind != "bwrap" || has("bwrap"))
        .collect();
    let only = std::env::var("CONFINE_KINDS").unwrap_or_default();
    let kinds: Vec<&'static str> = kinds.into_iter().filter(|kind| only.is_empty() || only.contains(kind)).collect();
    let users = User::all();
    let pairs = kinds.iter().flat_map(|kind| users.iter().map(|user| (*kind, *user)));
    // Each column has its own laboratory, and mostly waits.
    let columns: Vec<Column> = thread::scope(|scope| {
        let threads: Vec<_> = pairs.map(|(kind, user)| (kind, user, scope.spawn(move || column(user, kind)))).collect();
        threads.into_iter().map(|(kind, user, thread)| (kind, user, thread.join().unwrap())).collect()
    });
    let heads: String = columns.iter().map(|(kind, user, _)| format!(" {kind} {} |", user.name())).collect();
    let mut table = format!("| layer | attempt |{heads}\n|---|---|{}\n", "---|".repeat(columns.len()));
    for (index, (layer, name, ..)) in ATTEMPTS.iter().enumerate() {
        let cells: String =
            columns.iter().map(|(.., results)| if results[index].0 { " ✗ |" } else { " · |" }).collect();
        table.push_str(&format!("| {layer} | {name} |{cells}\n"));
    }
    println!("✗: got through, ·: stopped\n\n{table}");
    for (kind, user, results) in &columns {
        let through: BTreeSet<&str> =
            ATTEMPTS.iter().zip(results).filter(|(_, (through, _))| *through).map(|((_, name, ..), _)| *name).collect();
        let allowed: BTreeSet<&str> = match *kind {
            "full" => BTreeSet::new(),
            "shared" => THROUGH_WITH_SHARED_PROC.iter().copied().collect(),
            "basic" => THROUGH_AT_BASIC.iter().copied().collect(),
            _ => continue,
        };
        let unexpected: Vec<&&str> = through.difference(&allowed).collect();
        assert!(unexpected.is_empty(), "{kind} {}: {unexpected:?} got through", user.name());
    }
}
