//! What becomes of the paths of a policy at `full`, wherever they are.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use orch_confine::confine::{Mask, Policy, Protected, Seal};

use super::support::{Lab, Run, User, attempts};

fn sh(lab: &Lab, policy: &Policy, text: &str) -> Run {
    lab.drive("full", policy, &["sh", "-c", text])
}

fn make(lab: &Lab, name: &str) -> PathBuf {
    let path = lab.path(name);
    fs::create_dir_all(&path).unwrap();
    for ancestor in path.ancestors().take_while(|ancestor| *ancestor != lab.folder.path()) {
        lab.give(ancestor);
    }
    path
}

#[test]
fn a_folder_inside_a_protected_one_can_be_writable() {
    if !super::support::reaches_full() {
        return;
    }
    for user in User::all() {
        let lab = Lab::new(user);
        let tree = make(&lab, "ws/.orch/tree");
        make(&lab, "ws/.orch/tree/.git/hooks");
        let mut policy = lab.policy();
        policy.write.push(tree.clone());
        policy.protect.push(Protected { path: tree.join(".git/hooks"), mask: Mask::Folder });
        sh(&lab, &policy, "echo a > .orch/tree/a && ! echo b > .orch/b && ! echo c > .orch/tree/.git/hooks/c")
            .succeeded();
        assert!(tree.join("a").exists() && !lab.path("ws/.orch/b").exists());
        assert!(sh(&lab, &policy, "mv .orch/tree/.git x").stderr.contains("busy"));
    }
}

#[test]
fn a_workspace_in_tmp_stays_visible_while_the_rest_of_tmp_is_not() {
    if !super::support::reaches_full() {
        return;
    }
    for user in User::all() {
        let lab = Lab::new(user);
        let folder = tempfile::Builder::new().prefix("confine-").tempdir_in("/tmp").unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        for name in ["ws", "server", "other"] {
            fs::create_dir(folder.path().join(name)).unwrap();
            lab.give(&folder.path().join(name));
        }
        fs::write(folder.path().join("server/tool"), "tool").unwrap();
        let policy = Policy {
            write: vec![folder.path().join("ws")],
            read: vec![folder.path().join("server")],
            ..Policy { protect: Vec::new(), ..lab.policy() }
        };
        let text = format!(
            "cd {0}/ws && echo a > a && cat {0}/server/tool && ! echo b > {0}/server/b && ! test -e {0}/other && ls {0}",
            folder.path().display()
        );
        assert_eq!(sh(&lab, &policy, &text).succeeded().stdout, "toolserver\nws\n");
        assert!(folder.path().join("ws/a").exists());
    }
}

#[test]
fn a_link_that_should_be_protected_is_refused_with_the_reason() {
    if !super::support::reaches_full() {
        return;
    }
    let lab = Lab::new(User::all()[0]);
    let hooks = make(&lab, "ws/my-hooks");
    make(&lab, "ws/.git");
    std::os::unix::fs::symlink(hooks, lab.path("ws/.git/hooks")).unwrap();
    let policy =
        Policy { protect: vec![Protected { path: lab.path("ws/.git/hooks"), mask: Mask::Folder }], ..lab.policy() };
    let run = sh(&lab, &policy, "true");
    let error = run.result["error"].as_str().unwrap();
    assert!(error.contains("a symbolic link can't be protected; replace the link"), "{error}");
    assert!(error.contains(".git/hooks`"), "{error}");
}

#[test]
fn denied_paths_are_empty_and_the_tools_around_them_work() {
    if !super::support::reaches_full() {
        return;
    }
    for user in User::all() {
        let lab = Lab::new(user);
        lab.write("outside/file", "secret-text");
        lab.write("ws/.env", "secret-text");
        let policy = Policy {
            deny_read: vec![lab.path("secret"), lab.path("outside/file"), lab.path("ws/.env"), lab.path("missing")],
            ..lab.policy()
        };
        let text =
            format!("cd {} && cat outside/file ws/.env && ls secret && ls . outside", lab.folder.path().display());
        let run = sh(&lab, &policy, &text);
        assert!(!run.succeeded().stdout.contains("secret-text"), "{run:#?}");
        // At `basic` the same paths can't be opened, and those beside them can.
        let basic = |text: &str| lab.drive("basic", &policy, &["sh", "-c", text]);
        for path in ["secret/key", "outside/file", "ws/.env"] {
            let run = basic(&format!("cat {}", lab.text(path)));
            assert!(path == "ws/.env" || run.stderr.contains("Permission denied"), "{path} {run:#?}");
        }
        basic(&format!("ls / /usr > /dev/null; cat /etc/passwd > /dev/null && echo a > {}/a", lab.text("ws")))
            .succeeded();
    }
}

#[test]
fn unix_sockets_outside_are_covered_when_the_program_may_have_its_own() {
    if !super::support::reaches_full() {
        return;
    }
    for user in User::all() {
        let lab = Lab::new(user);
        let _socket = UnixListener::bind(lab.path("outside/socket")).unwrap();
        let _inside = UnixListener::bind(lab.path("ws/socket")).unwrap();
        for name in ["outside/socket", "ws/socket"] {
            fs::set_permissions(lab.path(name), fs::Permissions::from_mode(0o777)).unwrap();
        }
        let policy = Policy { unix_sockets: true, ..lab.policy() };
        let program = attempts().display().to_string();
        let run = |name: &str| lab.drive("full", &policy, &[&program, "unix", &lab.text(name)]);
        assert_eq!(run("outside/socket").code, Some(1));
        // A socket in a writable folder is the program's as far as orch can tell.
        assert_eq!(run("ws/socket").code, Some(0));
    }
}

#[test]
fn what_the_kernel_cannot_protect_at_basic_is_found_afterwards() {
    if !super::support::reaches_full() {
        return;
    }
    for user in User::all() {
        let lab = Lab::new(user);
        make(&lab, "ws/.git/hooks");
        lab.write("ws/.git/config", "[core]\n");
        let policy = lab.policy();
        let policy = Policy { protect: orch_confine::confine::usually_protected(&lab.path("ws")), ..policy };
        let seal = Seal::take(&policy);
        lab.drive("basic", &policy, &["sh", "-c", "echo a > a; git status"]);
        assert_eq!(seal.broken(), Vec::<PathBuf>::new());
        lab.drive("basic", &policy, &["sh", "-c", "echo a > .git/hooks/pre-commit"]).succeeded();
        assert!(seal.broken().contains(&lab.path("ws/.git/hooks/pre-commit")));
    }
}
