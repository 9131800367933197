//! Tests that common tools work at `full`.

use std::path::PathBuf;

use orch_confine::confine::Policy;

use super::support::{Fixture, Run, User, has, skip};

/// Runs a shell script in the workspace at `full`.
fn run_script(fixture: &Fixture, policy: &Policy, text: &str) -> Run {
    fixture.drive("full", policy, &["bash", "-c", &format!("set -eu\n{text}")])
}

/// A fixture for each user whose search path contains a program.
fn fixtures(program: &str) -> Vec<Fixture> {
    // An ordinary user can't use tools in the home folder of root.
    let is_for_all = |user: &User| *user == User::Root || std::path::Path::new("/usr/bin").join(program).exists();
    if !has(program) {
        skip(&format!("{program} is not installed"));
        return Vec::new();
    }
    User::all().into_iter().filter(is_for_all).map(Fixture::new).collect()
}

/// Creates a git repository in the workspace.
fn init_repository(fixture: &Fixture) {
    let mut command = fixture.user.command("git");
    command.args(["init", "-q", "-b", "main"]).current_dir(fixture.path("ws")).env("HOME", fixture.path("home"));
    assert!(command.status().unwrap().success());
}

const AUTHOR: &str = "export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a";

#[test]
fn git_commits_while_its_hooks_and_settings_are_protected() {
    if !super::support::reaches_full() {
        return;
    }
    for fixture in fixtures("git") {
        init_repository(&fixture);
        let text = format!(
            "{AUTHOR}\necho a > a\ngit add a\ngit commit -qm one\ngit checkout -qb side\necho b > b\ngit add b\n\
             git commit -qm two\ngit checkout -q main\ngit merge -q side\ngit log --oneline\ngit status --short\n\
             git gc -q\ngit stash list\ngit worktree list\n! git config user.name x\ntest ! -w .git/config"
        );
        let run = run_script(&fixture, &fixture.policy(), &text);
        assert!(run.succeeded().stdout.contains(" two"), "{run:?}");
        // orch has removed the placeholders for missing paths.
        for name in ["ws/.git/commondir", "ws/.orch", "ws/.github", "ws/orch.yaml"] {
            assert!(!fixture.path(name).exists(), "{name}");
        }
        let mut log = fixture.user.command("git");
        let log = log.args(["log", "--oneline"]).current_dir(fixture.path("ws")).output().unwrap();
        assert_eq!(String::from_utf8(log.stdout).unwrap().lines().count(), 2);
    }
}

#[test]
fn gcc_compiles_and_the_program_runs() {
    if !super::support::reaches_full() {
        return;
    }
    for fixture in fixtures("gcc") {
        let text = "echo 'int main(void) { return 7; }' > a.c\ngcc -o a a.c\n./a || test $? = 7";
        run_script(&fixture, &fixture.policy(), text).succeeded();
    }
}

#[test]
fn python_runs_virtual_environments_event_loops_and_processes() {
    if !super::support::reaches_full() {
        return;
    }
    for fixture in fixtures("python3") {
        let asyncio = r"
import asyncio, subprocess, tempfile, multiprocessing, socket, threading
async def serve(r, w):
    w.write(await r.readline()); await w.drain(); w.close()
async def main():
    server = await asyncio.start_server(serve, '127.0.0.1', 0)
    port = server.sockets[0].getsockname()[1]
    r, w = await asyncio.open_connection('localhost', port)
    w.write(b'hello\n')
    assert await r.readline() == b'hello\n'
    process = await asyncio.create_subprocess_exec('true')
    assert await process.wait() == 0
def work(x): return x * x
if __name__ == '__main__':
    asyncio.run(main())
    with multiprocessing.Pool(2) as pool: assert pool.map(work, [1, 2, 3]) == [1, 4, 9]
    q = multiprocessing.Queue()
    p = multiprocessing.Process(target=q.put, args=(5,)); p.start(); assert q.get() == 5; p.join()
    with tempfile.NamedTemporaryFile() as f: f.write(b'x')
    import getpass, pwd, os; pwd.getpwuid(os.getuid())
";
        fixture.write("ws/a.py", asyncio);
        let text = "python3 a.py\npython3 -m venv --without-pip env\nenv/bin/python -c 'import sys; assert sys.prefix != sys.base_prefix'";
        run_script(&fixture, &fixture.policy(), text).succeeded();
    }
}

#[test]
fn the_manager_of_python_needs_unix_sockets() {
    if !super::support::reaches_full() {
        return;
    }
    for fixture in fixtures("python3") {
        let manager = "from multiprocessing import Manager\nif __name__ == '__main__':\n    with Manager() as m:\n        d = m.dict(); d['a'] = 1; assert d['a'] == 1\n";
        fixture.write("ws/a.py", manager);
        let policy = Policy { unix_sockets: true, ..fixture.policy() };
        run_script(&fixture, &policy, "python3 a.py").succeeded();
        assert_ne!(run_script(&fixture, &fixture.policy(), "python3 a.py").code, Some(0));
    }
}

#[test]
fn node_serves_http_and_forks() {
    if !super::support::reaches_full() {
        return;
    }
    for fixture in fixtures("node") {
        let server = r"
const http = require('http'), { fork } = require('child_process'), { Worker } = require('worker_threads');
if (process.argv[2] === 'child') { process.send('up'); process.exit(0); }
const server = http.createServer((q, a) => a.end('hello')).listen(0, () => {
  http.get({ host: 'localhost', port: server.address().port }, answer => {
    answer.on('data', text => { if (String(text) !== 'hello') process.exit(1); });
    answer.on('end', () => {
      const child = fork(__filename, ['child']);
      child.on('message', () => new Worker('1 + 1', { eval: true }).on('exit', () => server.close()));
    });
  });
});
";
        fixture.write("ws/a.js", server);
        run_script(&fixture, &fixture.policy(), "node a.js").succeeded();
    }
}

#[test]
fn npm_runs_scripts() {
    if !super::support::reaches_full() {
        return;
    }
    for fixture in fixtures("npm") {
        fixture.write("ws/package.json", r#"{"name": "a", "version": "1.0.0", "scripts": {"hello": "node -p 1+1"}}"#);
        let run = run_script(&fixture, &fixture.policy(), "npm run --silent hello");
        assert_eq!(run.succeeded().stdout.trim(), "2", "{run:?}");
    }
}

#[test]
fn cargo_builds_and_tests_offline() {
    if !super::support::reaches_full() {
        return;
    }
    for fixture in fixtures("cargo") {
        std::fs::create_dir(fixture.path("ws/src")).unwrap();
        fixture.chown(&fixture.path("ws/src"));
        fixture.write("ws/Cargo.toml", "[package]\nname = \"a\"\nversion = \"0.1.0\"\nedition = \"2024\"\n");
        fixture.write("ws/src/lib.rs", "#[test]\nfn one() {\n    assert_eq!(1, 1);\n}\n");
        let home = std::env::var("HOME").unwrap_or_default();
        let text = format!(
            "export HOME={home}\nunset CARGO_TARGET_DIR\ncargo build --offline --target-dir target\ncargo test --offline --target-dir target"
        );
        let run = run_script(&fixture, &fixture.policy(), &text);
        assert!(run.succeeded().stdout.contains("1 passed"), "{run:?}");
    }
}

#[test]
fn a_shell_can_use_jobs_pipes_temporary_files_and_a_terminal() {
    if !super::support::reaches_full() {
        return;
    }
    for fixture in fixtures("bash") {
        let text = "sleep 5 & kill %1; wait || true\necho a | cat | grep -q a\nf=$(mktemp)\necho x > $f\ntest -s $f\n\
                    test $TMPDIR = ${f%/*}\nset +e\nscript -qec 'tty' /dev/null | grep -q /dev/pts\nset -e\n\
                    dd if=/dev/urandom of=/dev/null count=1 2>/dev/null\necho ok";
        let run = run_script(&fixture, &fixture.policy(), text);
        assert!(run.succeeded().stdout.ends_with("ok\n"), "{run:?}");
    }
}

/// The folder with the programs of Postgres: one of the search path, or that of Debian, which is not on it.
fn postgres_folder() -> Option<PathBuf> {
    let has_server = |folder: &PathBuf| ["initdb", "postgres", "psql"].iter().all(|name| folder.join(name).is_file());
    let path = std::env::var_os("PATH").unwrap_or_default();
    let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut folders = debian.map(|entry| entry.path().join("bin")).chain(std::env::split_paths(&path));
    folders.find(has_server)
}

#[test]
fn postgres_serves_on_the_loopback() {
    if !super::support::reaches_full() {
        return;
    }
    let Some(folder) = postgres_folder() else {
        skip("Postgres is not installed");
        return;
    };
    // Postgres refuses to run as root.
    let fixture = Fixture::new(User::Nobody);
    let text = "initdb -D data -U me -A trust > log\n\
                postgres -D data -c unix_socket_directories= -c listen_addresses=127.0.0.1 -p 54321 > log 2>&1 &\n\
                for i in $(seq 600); do pg_isready -q -h 127.0.0.1 -p 54321 && break; sleep 0.1; done\n\
                psql -h 127.0.0.1 -p 54321 -U me -d postgres -qAt -v ON_ERROR_STOP=1 \
                -c 'create table t (n int)' -c 'insert into t select generate_series(1, 1000)' -c 'select sum(n) from t'\n\
                kill -INT %1\nwait";
    let text = format!("export PATH={}:$PATH\n{text}", folder.display());
    let run = run_script(&fixture, &fixture.policy(), &text);
    assert_eq!(run.succeeded().stdout.trim(), "500500", "{run:?}");
}

/// Starts a server on the loopback and loads its page in headless Chromium, which prints the page after its script has
/// run. The sandbox of Chromium needs namespaces, which this sandbox refuses. The other options turn off services that
/// need the network.
const BROWSE: &str = "\
export HOME=$PWD
python3 -m http.server 8123 --bind 127.0.0.1 > log 2>&1 &
for i in $(seq 600); do python3 -c 'import socket; socket.create_connection((\"127.0.0.1\", 8123))' 2> log && break; sleep 0.1; done
set +e
timeout 100 chromium --headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync \
  --disable-background-networking --disable-component-update --user-data-dir=$TMPDIR/profile \
  --dump-dom http://127.0.0.1:8123/a.html
code=$?
kill %1
exit $code";

#[test]
fn chromium_renders_a_page_with_unix_sockets() {
    if !super::support::reaches_full() {
        return;
    }
    if !has("chromium") || !has("python3") {
        skip("chromium or python3 is not installed");
        return;
    }
    for user in User::all() {
        let fixture = Fixture::new(user);
        fixture.write("ws/a.html", "<p>six times seven is <b id=x></b></p><script>x.textContent = 6 * 7</script>");
        let policy = Policy { unix_sockets: true, ..fixture.policy() };
        let run = run_script(&fixture, &policy, BROWSE);
        assert!(run.succeeded().stdout.contains("<b id=\"x\">42</b>"), "{run:?}");
        let run = run_script(&fixture, &fixture.policy(), BROWSE);
        assert!(run.code != Some(0) && !run.stdout.contains("<b"), "Chromium needs UNIX sockets: {run:?}");
    }
}

#[test]
fn common_tools_run_at_basic() {
    if !super::support::reaches_full() {
        return;
    }
    for fixture in fixtures("gcc") {
        init_repository(&fixture);
        let policy = Policy { min: orch_confine::confine::Level::Basic, ..fixture.policy() };
        let text = format!(
            "set -eu\n{AUTHOR}\necho 'int main(void) {{ return 0; }}' > a.c\ngcc -o a a.c\n./a\ngit add a.c\n\
             git commit -qm one\nf=$(mktemp)\necho x > $f\nfind . -name a.c | xargs cat > /dev/null"
        );
        fixture.drive("basic", &policy, &["bash", "-c", &text]).succeeded();
    }
}
