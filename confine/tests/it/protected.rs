//! Tests of the paths of a policy: protected, hidden and readable paths in special places.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use orch_confine::confine::{DamageCheck, Mask, Policy, Protected, Seal, usually_protected};

use super::support::{Fixture, Run, User, attempts};

/// Runs a shell command at `full`.
fn sh(fixture: &Fixture, policy: &Policy, text: &str) -> Run {
    fixture.drive("full", policy, &["sh", "-c", text])
}

/// Runs a program that renames a path of the fixture; returns its exit code.
fn rename(fixture: &Fixture, level: &str, policy: &Policy, (from, to): (&str, &str)) -> Option<i32> {
    let program = attempts().display().to_string();
    fixture.drive(level, policy, &[&program, "rename", &fixture.text(from), &fixture.text(to)]).code
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
        let policy = Policy { protect: usually_protected(&fixture.path("ws")), ..policy };
        let seal = Seal::take(&policy);
        fixture.drive("basic", &policy, &["sh", "-c", "echo a > a; git status"]);
        assert_eq!(seal.broken(), Vec::<PathBuf>::new());
        fixture.drive("basic", &policy, &["sh", "-c", "echo a > .git/hooks/pre-commit"]).succeeded();
        assert!(seal.broken().contains(&fixture.path("ws/.git/hooks/pre-commit")));
    }
}

#[test]
fn a_denied_file_stays_denied_for_the_next_program_although_its_folder_is_writable() {
    if !super::support::reaches_full() {
        return;
    }
    for user in User::all() {
        let fixture = Fixture::new(user);
        create_folder(&fixture, "ws/a/b");
        fixture.write("ws/a/b/secret", "secret-text");
        fixture.write("ws/a/b/other", "other");
        let policy = Policy { deny_read: vec![fixture.path("ws/a/b/secret")], ..fixture.policy() };
        for level in ["full", "shared"] {
            for (from, to) in [
                ("ws/a", "ws/moved"),
                ("ws/a/b", "ws/moved"),
                ("ws/a/b", "ws/a/moved"),
                ("ws/a/b/secret", "ws/a/b/moved"),
            ] {
                assert_eq!(rename(&fixture, level, &policy, (from, to)), Some(1), "{level} {from} {to}");
            }
            let line = "echo new > a/b/new && mv a/b/new a/new && rm a/new && cat a/b/other";
            assert_eq!(fixture.drive(level, &policy, &["sh", "-c", line]).succeeded().stdout, "other");
            let run = fixture.drive(level, &policy, &["sh", "-c", "grep -r secret-text . || true"]);
            assert!(!run.succeeded().stdout.contains("secret-text"), "{run:#?}");
        }
    }
}

#[test]
fn a_link_to_a_denied_file_can_be_moved_but_orch_detects_it() {
    if !super::support::reaches_full() {
        return;
    }
    for user in User::all() {
        let fixture = Fixture::new(user);
        create_folder(&fixture, "ws/a");
        fixture.write("ws/a/secret", "secret-text");
        std::os::unix::fs::symlink("a", fixture.path("ws/link")).unwrap();
        fixture.chown(&fixture.path("ws/link"));
        let policy = Policy { deny_read: vec![fixture.path("ws/link/secret")], ..fixture.policy() };
        let check = DamageCheck::take(&policy, &fixture.path("ws"));
        let run = sh(&fixture, &policy, "cat a/secret; mv link away");
        assert!(!run.succeeded().stdout.contains("secret-text"), "{run:#?}");
        let damage = check.damage();
        assert!(damage.len() == 1 && damage[0].contains("ws/link/secret"), "{damage:?}");
    }
}

#[test]
fn a_workspace_inside_a_writable_folder_can_be_read_only() {
    if !super::support::reaches_full() {
        return;
    }
    for user in User::all() {
        let fixture = Fixture::new(user);
        create_folder(&fixture, "outside/project/ws");
        create_folder(&fixture, "outside/project/ws/.orch/home");
        let protected = |name: &str| Protected { path: fixture.path(name), mask: Mask::Nothing };
        let policy = Policy {
            write: vec![fixture.path("outside"), fixture.path("outside/project/ws/.orch/home")],
            protect: vec![protected("outside/project/ws")],
            ..fixture.policy()
        };
        for level in ["full", "shared"] {
            let line = format!(
                "cd {}; echo a > a && echo b > project/b && echo c > project/ws/.orch/home/c && echo written; \
                 echo d > project/ws/d || echo refused",
                fixture.text("outside")
            );
            let run = fixture.drive(level, &policy, &["sh", "-c", &line]);
            assert_eq!(run.succeeded().stdout, "written\nrefused\n", "{run:#?}");
            for from in ["outside/project", "outside/project/ws"] {
                assert_eq!(rename(&fixture, level, &policy, (from, "outside/away")), Some(1), "{level} {from}");
            }
        }
    }
}

#[test]
fn a_program_cannot_remove_the_locks_of_orch_which_stay_locked() {
    if !super::support::reaches_full() {
        return;
    }
    for user in User::all() {
        let fixture = Fixture::new(user);
        for name in ["ws/.orch.lock", "ws/.orch.programs.lock"] {
            fixture.write(name, "process 1");
        }
        let policy = Policy { protect: usually_protected(&fixture.path("ws")), ..fixture.policy() };
        let lock = fs::File::options().read(true).write(true).open(fixture.path("ws/.orch.lock")).unwrap();
        lock.try_lock().unwrap();
        let line = "rm -f .orch.lock .orch.programs.lock; echo x > .orch.lock; mv .orch.lock away; cat .orch.lock";
        for level in ["full", "shared"] {
            let run = fixture.drive(level, &policy, &["sh", "-c", line]);
            assert_eq!(run.succeeded().stdout, "process 1", "{run:#?}");
            let second = fs::File::open(fixture.path("ws/.orch.lock")).unwrap();
            assert!(second.try_lock().is_err(), "another run can't start");
        }
        // orch itself can remove the file, although it was a mount point for the program.
        fs::remove_file(fixture.path("ws/.orch.lock")).unwrap();
        let seal = Seal::take(&policy);
        fixture.drive("basic", &policy, &["sh", "-c", "rm .orch.programs.lock"]).succeeded();
        assert_eq!(seal.broken(), [fixture.path("ws/.orch.programs.lock")]);
    }
}
