//! Tests of the paths of a policy: protected, hidden and readable paths in special places.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use orch_confine::confine::{Mask, Policy, Protected, Seal};

use super::support::{Fixture, Run, User, attempts};

/// Runs a shell command at `full`.
fn sh(fixture: &Fixture, policy: &Policy, text: &str) -> Run {
    fixture.drive("full", policy, &["sh", "-c", text])
}

/// Creates a folder of the user, with its parents.
fn create_folder(fixture: &Fixture, name: &str) -> PathBuf {
    let path = fixture.path(name);
    fs::create_dir_all(&path).unwrap();
    for ancestor in path.ancestors().take_while(|ancestor| *ancestor != fixture.folder.path()) {
        fixture.chown(ancestor);
    }
    path
}

#[test]
fn a_folder_inside_a_protected_one_can_be_writable() {
    if !super::support::reaches_full() {
        return;
    }
    for user in User::all() {
        let fixture = Fixture::new(user);
        let tree = create_folder(&fixture, "ws/.orch/tree");
        create_folder(&fixture, "ws/.orch/tree/.git/hooks");
        let mut policy = fixture.policy();
        policy.write.push(tree.clone());
        policy.protect.push(Protected { path: tree.join(".git/hooks"), mask: Mask::Folder });
        sh(&fixture, &policy, "echo a > .orch/tree/a && ! echo b > .orch/b && ! echo c > .orch/tree/.git/hooks/c")
            .succeeded();
        assert!(tree.join("a").exists() && !fixture.path("ws/.orch/b").exists());
        assert!(sh(&fixture, &policy, "mv .orch/tree/.git x").stderr.contains("busy"));
    }
}

#[test]
fn a_workspace_in_tmp_stays_visible_while_the_rest_of_tmp_is_not() {
    if !super::support::reaches_full() {
        return;
    }
    for user in User::all() {
        let fixture = Fixture::new(user);
        let folder = tempfile::Builder::new().prefix("confine-").tempdir_in("/tmp").unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        for name in ["ws", "server", "other"] {
            fs::create_dir(folder.path().join(name)).unwrap();
            fixture.chown(&folder.path().join(name));
        }
        fs::write(folder.path().join("server/tool"), "tool").unwrap();
        let policy = Policy {
            write: vec![folder.path().join("ws")],
            read: vec![folder.path().join("server")],
            ..Policy { protect: Vec::new(), ..fixture.policy() }
        };
        let text = format!(
            "cd {0}/ws && echo a > a && cat {0}/server/tool && ! echo b > {0}/server/b && ! test -e {0}/other && ls {0}",
            folder.path().display()
        );
        assert_eq!(sh(&fixture, &policy, &text).succeeded().stdout, "toolserver\nws\n");
        assert!(folder.path().join("ws/a").exists());
    }
}

#[test]
fn protecting_a_symbolic_link_is_an_error_with_advice() {
    if !super::support::reaches_full() {
        return;
    }
    let fixture = Fixture::new(User::all()[0]);
    let hooks = create_folder(&fixture, "ws/my-hooks");
    create_folder(&fixture, "ws/.git");
    std::os::unix::fs::symlink(hooks, fixture.path("ws/.git/hooks")).unwrap();
    let policy = Policy {
        protect: vec![Protected { path: fixture.path("ws/.git/hooks"), mask: Mask::Folder }],
        ..fixture.policy()
    };
    let run = sh(&fixture, &policy, "true");
    let error = run.result["error"].as_str().unwrap();
    assert!(error.contains("a symbolic link can't be protected; replace the link"), "{error}");
    assert!(error.contains(".git/hooks`"), "{error}");
}

#[test]
fn denied_paths_are_hidden_and_their_siblings_are_readable() {
    if !super::support::reaches_full() {
        return;
    }
    for user in User::all() {
        let fixture = Fixture::new(user);
        fixture.write("outside/file", "secret-text");
        fixture.write("ws/.env", "secret-text");
        let policy = Policy {
            deny_read: vec![
                fixture.path("secret"),
                fixture.path("outside/file"),
                fixture.path("ws/.env"),
                fixture.path("missing"),
            ],
            ..fixture.policy()
        };
        let text =
            format!("cd {} && cat outside/file ws/.env && ls secret && ls . outside", fixture.folder.path().display());
        let run = sh(&fixture, &policy, &text);
        assert!(!run.succeeded().stdout.contains("secret-text"), "{run:#?}");
        // At `basic`, the program can open the siblings of these paths, but not the paths themselves.
        let basic = |text: &str| fixture.drive("basic", &policy, &["sh", "-c", text]);
        for path in ["secret/key", "outside/file", "ws/.env"] {
            let run = basic(&format!("cat {}", fixture.text(path)));
            assert!(path == "ws/.env" || run.stderr.contains("Permission denied"), "{path} {run:#?}");
        }
        basic(&format!("ls / /usr > /dev/null; cat /etc/passwd > /dev/null && echo a > {}/a", fixture.text("ws")))
            .succeeded();
    }
}

#[test]
fn unix_sockets_outside_are_hidden_if_the_program_may_create_sockets() {
    if !super::support::reaches_full() {
        return;
    }
    for user in User::all() {
        let fixture = Fixture::new(user);
        let _socket = UnixListener::bind(fixture.path("outside/socket")).unwrap();
        let _inside = UnixListener::bind(fixture.path("ws/socket")).unwrap();
        for name in ["outside/socket", "ws/socket"] {
            fs::set_permissions(fixture.path(name), fs::Permissions::from_mode(0o777)).unwrap();
        }
        let policy = Policy { unix_sockets: true, ..fixture.policy() };
        let program = attempts().display().to_string();
        let run = |name: &str| fixture.drive("full", &policy, &[&program, "unix", &fixture.text(name)]);
        assert_eq!(run("outside/socket").code, Some(1));
        // orch can't distinguish a socket in a writable folder from a socket of the program.
        assert_eq!(run("ws/socket").code, Some(0));
    }
}

#[test]
fn at_basic_changes_of_protected_paths_are_detected_afterwards() {
    if !super::support::reaches_full() {
        return;
    }
    for user in User::all() {
        let fixture = Fixture::new(user);
        create_folder(&fixture, "ws/.git/hooks");
        fixture.write("ws/.git/config", "[core]\n");
        let policy = fixture.policy();
        let policy = Policy { protect: orch_confine::confine::usually_protected(&fixture.path("ws")), ..policy };
        let seal = Seal::take(&policy);
        fixture.drive("basic", &policy, &["sh", "-c", "echo a > a; git status"]);
        assert_eq!(seal.broken(), Vec::<PathBuf>::new());
        fixture.drive("basic", &policy, &["sh", "-c", "echo a > .git/hooks/pre-commit"]).succeeded();
        assert!(seal.broken().contains(&fixture.path("ws/.git/hooks/pre-commit")));
    }
}
