//! Tests of git repositories in the workspace: git works inside, and a program can neither plant a program that a later
//! `git` command runs, nor damage a repository unnoticed.

use std::fs;

use orch_confine::confine::{DamageCheck, Policy, Seal, protected_repositories, usually_protected};

use super::support::{Fixture, Run, User, has, reaches_full, skip};

const LEVELS: [&str; 4] = ["full", "shared", "basic", "none"];

/// The beginning of every script: `refused LINE` fails if the line succeeds.
const PRELUDE: &str = "set -eu\nrefused() { if sh -c \"$1\"; then echo \"it succeeded: $1\" >&2; exit 1; fi; }\n";

/// Runs a shell script in the workspace.
fn run_script(fixture: &Fixture, level: &str, policy: &Policy, text: &str) -> Run {
    fixture.drive(level, policy, &["sh", "-c", &format!("{PRELUDE}{text}")])
}

/// Runs a shell script in the workspace without a sandbox.
fn prepare(fixture: &Fixture, text: &str) {
    let mut command = fixture.user.command("sh");
    command.args(["-c", &format!("set -eu\nexport HOME={}\n{text}", fixture.text("home"))]);
    assert!(command.current_dir(fixture.path("ws")).status().unwrap().success(), "{text}");
}

/// A fixture for each user whose workspace is a repository with a commit.
fn repositories() -> Vec<Fixture> {
    if !has("git") {
        skip("git is not installed");
        return Vec::new();
    }
    let fixtures: Vec<Fixture> = User::all().into_iter().map(Fixture::new).collect();
    for fixture in &fixtures {
        prepare(
            fixture,
            "git init -q -b main\ngit config user.name a\ngit config user.email a\n\
             git commit -q --allow-empty -m one\nmkdir -p sub/inner",
        );
    }
    fixtures
}

/// The policy for the workspace in its current state.
fn policy(fixture: &Fixture) -> Policy {
    Policy { protect: usually_protected(&fixture.path("ws")), ..fixture.policy() }
}

/// Runs a script that damages a repository, and asserts that orch detects this.
#[track_caller]
fn assert_detected(fixture: &Fixture, level: &str, cwd: &str, script: &str, damaged: &str) {
    let policy = policy(fixture);
    let check = DamageCheck::take(&policy, &fixture.path(cwd));
    run_script(fixture, level, &policy, script).succeeded();
    let expected = format!("`{}`", fixture.text(damaged));
    let damage = check.damage();
    assert!(damage.iter().any(|sentence| sentence.contains(&expected)), "{level}: {script}: {damage:?}");
}

#[test]
fn a_damaged_repository_is_detected_at_every_level() {
    if !reaches_full() {
        return;
    }
    for fixture in repositories() {
        for level in LEVELS {
            for (script, damaged, repair) in [
                ("mv .git/HEAD .git/away", "ws/.git/HEAD", "mv .git/away .git/HEAD"),
                ("cp .git/HEAD .git/away; echo x > .git/HEAD", "ws/.git/HEAD", "mv .git/away .git/HEAD"),
                ("mv .git/objects .git/away", "ws/.git/objects", "mv .git/away .git/objects"),
                ("mv .git/refs away; ln -s ../away .git/refs", "ws/.git/refs", "rm .git/refs; mv away .git/refs"),
            ] {
                assert_detected(&fixture, level, "ws", script, damaged);
                prepare(&fixture, repair);
                prepare(&fixture, "git status > /dev/null");
            }
        }
    }
}

#[test]
fn a_folder_that_becomes_a_repository_is_detected_at_every_level() {
    if !reaches_full() {
        return;
    }
    let plant = "mkdir -p objects refs\necho 'ref: refs/heads/x' > HEAD\n\
                 printf '[core]\\nrepositoryformatversion = 0\\nworktree = .\\nfsmonitor = touch planted\\n' > config";
    for fixture in repositories() {
        for level in LEVELS {
            for (cwd, folder) in [("ws", "ws"), ("ws/sub/inner", "ws/sub"), ("ws/sub/inner", "ws/sub/inner")] {
                let script = format!("cd {}\n{plant}", fixture.text(folder));
                assert_detected(&fixture, level, cwd, &script, &format!("{folder}/HEAD"));
                prepare(&fixture, &format!("cd {} && rm -r objects refs HEAD config", fixture.text(folder)));
            }
        }
        // git itself uses such a folder, and runs the program that its settings name.
        prepare(&fixture, &format!("cd sub\n{plant}\ngit status > /dev/null 2>&1 || true\ntest -e planted"));
    }
}

#[test]
fn a_submodule_that_a_program_creates_is_detected_at_every_level() {
    if !reaches_full() {
        return;
    }
    let plant = "git init -q evil\ngit -C evil config core.fsmonitor 'touch planted'\n\
                 git update-index --add --cacheinfo 160000,$(git rev-parse HEAD),evil";
    for fixture in repositories() {
        for level in LEVELS {
            assert_detected(&fixture, level, "ws", plant, "ws/evil");
            prepare(&fixture, "git update-index --force-remove evil\nrm -r evil");
        }
        // git itself runs the program that the settings of the submodule name.
        prepare(&fixture, &format!("{plant}\ngit status > /dev/null 2>&1 || true\ntest -e evil/planted"));
    }
}

#[test]
fn a_repository_in_a_folder_with_files_of_the_repository_is_detected_at_every_level() {
    if !reaches_full() {
        return;
    }
    for fixture in repositories() {
        prepare(&fixture, "echo a > sub/inner/a\ngit add sub\ngit commit -q -m two");
        for level in LEVELS {
            assert_detected(&fixture, level, "ws", "git init -q sub/inner", "ws/sub/inner/.git");
            prepare(&fixture, "rm -r sub/inner/.git");
        }
    }
}

#[test]
fn the_git_file_of_a_submodule_is_protected() {
    if !reaches_full() {
        return;
    }
    for fixture in repositories() {
        let add = format!(
            "git clone -q . {0}/lib\ngit -c protocol.file.allow=always submodule --quiet add {0}/lib lib\n\
             git commit -q -m two",
            fixture.text("home")
        );
        prepare(&fixture, &add);
        let policy = policy(&fixture);
        let check = DamageCheck::take(&policy, &fixture.path("ws"));
        let script = "refused 'echo x > lib/.git'\nrefused 'rm lib/.git'\nrefused 'mv lib away'\n\
                      refused 'echo x > .git/modules/lib/config'\ngit status\ngit log --oneline";
        run_script(&fixture, "full", &policy, script).succeeded();
        assert_eq!(check.damage(), Vec::<String>::new());
    }
}

#[test]
fn the_files_that_the_settings_of_git_name_are_protected() {
    if !reaches_full() {
        return;
    }
    for fixture in repositories() {
        prepare(
            &fixture,
            "git config include.path ../.gitconfig\ngit config filter.x.clean 'sh tools/clean.sh'\n\
             mkdir tools\necho cat > tools/clean.sh\necho '*.x filter=x' > .gitattributes",
        );
        let policy = policy(&fixture);
        let script = "refused 'echo x > .gitconfig'\nrefused 'echo x > tools/clean.sh'\nrefused 'mv tools away'\n\
                      echo a > a.x\ngit add a.x\ngit commit -q -m two";
        run_script(&fixture, "full", &policy, script).succeeded();
        assert!(!fixture.path("ws/.gitconfig").exists(), "orch removes the placeholder");
        let seal = Seal::take(&policy);
        run_script(&fixture, "basic", &policy, "echo x > .gitconfig\necho x > tools/clean.sh").succeeded();
        for name in ["ws/.gitconfig", "ws/tools/clean.sh"] {
            assert!(seal.broken().contains(&fixture.path(name)), "{name}");
        }
    }
}

#[test]
fn a_program_that_git_finds_through_a_link_or_in_quotes_is_protected() {
    if !reaches_full() {
        return;
    }
    for fixture in repositories() {
        prepare(
            &fixture,
            "mkdir real 'a b'\ntouch real/ext.sh 'a b/x.sh'\nln -s real tools\n\
             git config diff.external tools/ext.sh\ngit config core.pager \"'a b/x.sh'\"",
        );
        let script = "refused 'echo x > real/ext.sh'\nrefused 'echo x > tools/ext.sh'\nrefused 'mv real away'\n\
                      refused \"echo x > 'a b/x.sh'\"\necho y > real/other";
        run_script(&fixture, "full", &policy(&fixture), script).succeeded();
        for level in LEVELS {
            let script = "rm tools\nmkdir tools\necho x > tools/ext.sh";
            assert_detected(&fixture, level, "ws", script, "ws/tools");
            prepare(&fixture, "rm -r tools\nln -s real tools");
        }
    }
}

#[test]
fn git_works_in_a_worktree_and_other_settings_for_a_worktree_are_detected() {
    if !reaches_full() {
        return;
    }
    for fixture in repositories() {
        let policy = policy(&fixture);
        let check = DamageCheck::take(&policy, &fixture.path("ws"));
        let add = "git worktree add -q side\ncd side\ngit commit -q --allow-empty -m two\ngit log --oneline";
        let run = run_script(&fixture, "full", &policy, add);
        assert!(run.succeeded().stdout.contains(" two"), "{run:#?}");
        assert_eq!(check.damage(), Vec::<String>::new());
        // The new worktree is protected from the next program, which can still work in it.
        let policy = self::policy(&fixture);
        let change = "cd side\ngit commit -q --allow-empty -m three\n\
                      refused 'echo x > ../.git/worktrees/side/commondir'\n\
                      refused 'mv ../.git/worktrees/side ../.git/worktrees/away'";
        run_script(&fixture, "full", &policy, change).succeeded();
        for level in LEVELS {
            let plant = "mkdir -p .git/worktrees/evil\ncp .git/HEAD .git/worktrees/evil/\n\
                         cp -r .git/objects .git/refs .\necho ../../.. > .git/worktrees/evil/commondir";
            assert_detected(&fixture, level, "ws", plant, "ws/.git/worktrees/evil/commondir");
            prepare(&fixture, "rm -rf .git/worktrees/evil objects refs");
            // The space at the end belongs to the name of the folder.
            let plant = "mkdir -p .git/worktrees/evil '.git/other '\ncp .git/HEAD .git/worktrees/evil/\n\
                         cp -r .git/objects .git/refs '.git/other '\n\
                         echo '../../../.git/other ' > .git/worktrees/evil/commondir";
            assert_detected(&fixture, level, "ws", plant, "ws/.git/worktrees/evil/commondir");
            prepare(&fixture, "rm -rf .git/worktrees/evil '.git/other '");
        }
    }
}

#[test]
fn git_finds_files_elsewhere_and_a_redirection_to_another_git_folder_is_detected() {
    if !reaches_full() {
        return;
    }
    for fixture in repositories() {
        prepare(&fixture, "git config core.worktree ../sub");
        // The placeholder `commondir` would make git ignore this setting.
        let script = "git rev-parse --show-toplevel | grep '/sub$'";
        run_script(&fixture, "full", &policy(&fixture), script).succeeded();
        for level in LEVELS {
            assert_detected(&fixture, level, "ws", "echo ../sub > .git/commondir", "ws/.git/commondir");
            prepare(&fixture, "rm .git/commondir");
        }
    }
}

#[test]
fn the_folder_under_hooks_path_is_protected_and_its_hooks_run() {
    if !reaches_full() {
        return;
    }
    for fixture in repositories() {
        prepare(
            &fixture,
            "git config core.hooksPath .husky/_\nmkdir -p .husky/_\n\
             printf '#!/bin/sh\\nsh .husky/pre-commit\\n' > .husky/_/pre-commit\nchmod +x .husky/_/pre-commit\n\
             echo 'echo hook ran' > .husky/pre-commit",
        );
        let policy = policy(&fixture);
        let script = "git commit -q --allow-empty -m two\nrefused 'echo x > .husky/pre-commit'\n\
                      refused 'rm .husky/_/pre-commit'\nrefused 'mv .husky away'";
        let run = run_script(&fixture, "full", &policy, script);
        assert!(format!("{}{}", run.succeeded().stdout, run.stderr).contains("hook ran"), "{run:#?}");
        let seal = Seal::take(&policy);
        run_script(&fixture, "basic", &policy, "echo x > .husky/pre-commit").succeeded();
        assert!(seal.broken().contains(&fixture.path("ws/.husky/pre-commit")));
    }
}

#[test]
fn a_missing_folder_under_hooks_path_cannot_be_created() {
    if !reaches_full() {
        return;
    }
    for fixture in repositories() {
        prepare(&fixture, "git config core.hooksPath .githooks");
        let script = "refused 'mkdir -p .githooks/x'\nrefused 'echo x > .githooks/pre-commit'\n\
                      git commit -q --allow-empty -m two";
        run_script(&fixture, "full", &policy(&fixture), script).succeeded();
        assert!(!fixture.path("ws/.githooks").exists(), "orch removes the placeholder");
    }
}

#[test]
fn a_writable_repository_outside_of_the_workspace_is_protected_too() {
    if !reaches_full() {
        return;
    }
    for fixture in repositories() {
        // The workspace is a linked worktree, whose repository must be writable for git.
        prepare(&fixture, &format!("git worktree add -q {}/side", fixture.text("outside")));
        let side = fixture.path("outside/side");
        let repository = fixture.path("ws");
        let mut protect = usually_protected(&side);
        protect.extend(protected_repositories(&repository));
        let policy = Policy { write: vec![side, repository], protect, ..fixture.policy() };
        let script = format!(
            "cd {}/side\ngit commit -q --allow-empty -m two\nrefused 'echo x > .git'\n\
             for path in config hooks/pre-commit commondir worktrees/side/commondir worktrees/side/gitdir; do\n\
             refused \"echo x > {}/.git/$path\"\ndone",
            fixture.text("outside"),
            fixture.text("ws")
        );
        run_script(&fixture, "full", &policy, &script).succeeded();
    }
}

#[test]
fn an_empty_folder_and_an_empty_file_of_the_user_stay() {
    if !reaches_full() {
        return;
    }
    for fixture in User::all().into_iter().map(Fixture::new) {
        fs::create_dir(fixture.path("ws/.github")).unwrap();
        fixture.chown(&fixture.path("ws/.github"));
        fixture.write("ws/orch.yaml", "{}\n");
        let script = "refused 'touch .github/x'\nrefused 'echo x > orch.yaml'\ntest -d .orch";
        run_script(&fixture, "full", &policy(&fixture), script).succeeded();
        let exists = |name: &str| fixture.path("ws").join(name).exists();
        assert!(exists(".github") && exists("orch.yaml"), "these are the user's");
        assert!(!exists(".orch") && !exists(".git"), "these were placeholders");
    }
}
