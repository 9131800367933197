//! Attempts to leave the workspace with the file tools: through links, and through links that appear during a call.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use orch::model::BuiltinTool;
use serde_json::json;

use super::ToolSite;

const FILE_TOOLS: [&str; 5] = ["read", "list", "search", "edit", "write"];

/// A workspace with links that lead out of it in every way.
fn site_with_links() -> ToolSite {
    let site = ToolSite::new(&FILE_TOOLS);
    site.put("real/file", "in\n");
    site.link(site.outside(""), "folder").link(site.outside("file"), "file").link("..", "parent");
    site.link("../../outside", "real/up").link("/etc", "absolute").link("/proc/self/root", "proc");
    site.link(site.outside("new"), "dangling").link("loop", "loop").link("folder/file", "through");
    site
}

#[test]
fn no_link_leads_a_tool_out_of_the_workspace() {
    let site = site_with_links();
    let paths = [
        "folder/file",
        "file",
        "parent/outside/file",
        "real/up/file",
        "absolute/passwd",
        "proc/etc/passwd",
        "through",
        "dangling",
        "loop",
    ];
    for path in paths {
        let call = site.call("read", json!({"path": path}));
        assert!(call.is_error && !call.text.contains("sentinel"), "{path}: {call:?}");
        for (tool, arguments) in [
            ("write", json!({"path": path, "content": "owned"})),
            ("edit", json!({"path": path, "old": "sentinel", "new": "owned"})),
        ] {
            let call = site.call(tool, arguments);
            assert!(call.is_error && call.activity.is_empty(), "{path}: {call:?}");
        }
    }
    for path in ["folder", "parent", "real/up", "absolute", "proc", "through"] {
        assert!(site.call("list", json!({"path": path})).is_error, "{path}");
        assert!(site.call("list", json!({"path": path, "glob": "**"})).is_error, "{path}");
    }
    let listed = site.call("list", json!({"glob": "**"})).succeeds().text;
    assert!(listed.contains("folder\t(symbolic link)\n") && !listed.contains("folder/"), "{listed}");
    assert_eq!(site.call("search", json!({"regex": "sentinel|root:"})).succeeds().text, "[no line matches]\n");
    assert_eq!(fs::read_to_string(site.outside("file")).unwrap(), "sentinel");
    assert!(!site.outside("new").exists());
}

#[test]
fn a_link_in_the_workspace_is_followed_for_reading_and_named_for_writing() {
    let site = ToolSite::new(&FILE_TOOLS);
    site.put("AGENTS.md", "rules\n").put("real/a", "x\n").link("AGENTS.md", "CLAUDE.md").link("real", "alias");
    assert_eq!(site.call("read", json!({"path": "CLAUDE.md"})).succeeds().text, "     1\trules\n");
    assert_eq!(site.call("list", json!({"path": "alias"})).succeeds().text, "real/a\t2\n");
    let call = site.call("edit", json!({"path": "CLAUDE.md", "old": "rules", "new": "x"}));
    call.fails_with("is a symbolic link; it leads to `AGENTS.md`, which you can change instead");
    let call = site.call("write", json!({"path": "alias/b", "content": "x"}));
    call.fails_with("which is a symbolic link");
    assert_eq!(fs::read_dir(site.path("real")).unwrap().count(), 1);
}

#[test]
fn a_link_to_a_protected_file_is_no_way_round_its_protection() {
    let site = ToolSite::new(&["edit", "write"]);
    let settings = "[core]\n\thooksPath = hooks\n\tpager = 'sp ace/x.sh'\n[diff]\n\texternal = tl/ext.sh\n";
    site.put(".git/config", settings).put("real-hooks/post-merge", "old").put("real-tools/ext.sh", "old");
    site.put("sp ace/x.sh", "old").link("real-hooks", "hooks").link("real-tools", "tl").link(".git/config", "settings");
    let paths =
        ["hooks/post-merge", "real-hooks/post-merge", "tl/ext.sh", "real-tools/ext.sh", "sp ace/x.sh", "settings"];
    for path in paths {
        let before = site.content(path);
        for (tool, arguments) in [
            ("write", json!({"path": path, "content": "new"})),
            ("edit", json!({"path": path, "old": before, "new": "new"})),
        ] {
            let call = site.call(tool, arguments).fails_with(path);
            assert!(!call.text.contains("instead"), "{}", call.text);
            assert!(call.text.ends_with("so that the user can make it"), "{}", call.text);
        }
        assert_eq!(site.content(path), before, "{path}");
    }
    site.call("write", json!({"path": "real-hooks/pre-commit", "content": "x"})).fails_with("`real-hooks`");
    site.call("write", json!({"path": "real-tools/other.sh", "content": "x"})).succeeds();
}

#[test]
fn a_pipe_or_a_device_is_not_opened() {
    let site = ToolSite::new(&FILE_TOOLS);
    assert!(Command::new("mkfifo").arg(site.path("pipe")).status().unwrap().success());
    site.put("a", "needle\n");
    site.call("read", json!({"path": "pipe"})).fails_with("neither a file nor a folder");
    site.call("write", json!({"path": "pipe", "content": "x"})).fails_with("neither a file nor a folder");
    assert!(
        site.call("search", json!({"regex": "needle"}))
            .succeeds()
            .text
            .starts_with("a:1: needle\n[1 line in 1 file matches]")
    );
    assert_eq!(site.call("list", json!({})).succeeds().text, "a\t7\npipe\t(not a regular file)\n");
}

/// Replaces a folder by a link to a folder outside, and back, as fast as possible while `work` runs. A tool may create
/// the folder again in the meantime, so every step may fail.
fn while_swapping(site: &ToolSite, work: impl Fn()) {
    let (real, moved, link) = (site.path("swap"), site.path("moved"), site.path("link-to-outside"));
    let outside = site.outside("");
    let stopped = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let swapper = scope.spawn(|| {
            let mut swap_count = 0;
            while !stopped.load(Ordering::Relaxed) {
                if fs::rename(&real, &moved).is_err() {
                    drop(fs::remove_dir_all(&moved));
                    continue;
                }
                drop(symlink(&outside, &link));
                swap_count += usize::from(fs::rename(&link, &real).is_ok());
                // This removes the link itself, not the folder to which it leads.
                drop(fs::remove_file(&real).or_else(|_| fs::remove_dir_all(&real)));
                drop(fs::rename(&moved, &real));
            }
            swap_count
        });
        // Stops the other thread even if an assertion fails.
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        stopped.store(true, Ordering::Relaxed);
        assert!(swapper.join().unwrap() > 0);
        if let Err(panic) = result {
            std::panic::resume_unwind(panic);
        }
    });
}

#[test]
fn a_folder_that_is_replaced_by_a_link_during_a_call_is_never_followed() {
    let site = ToolSite::new(&FILE_TOOLS);
    site.put("swap/file", "inside");
    fs::write(site.outside("secret"), "sentinel").unwrap();
    while_swapping(&site, || {
        for number in 0..100 {
            for (tool, arguments) in [
                (BuiltinTool::Read, json!({"path": "swap/file"})),
                (BuiltinTool::Read, json!({"path": "swap/secret"})),
                (BuiltinTool::List, json!({"path": "swap"})),
                (BuiltinTool::List, json!({"glob": "**"})),
                (BuiltinTool::Search, json!({"regex": "sentinel"})),
                (BuiltinTool::Write, json!({"path": format!("swap/new-{number}"), "content": "x"})),
                (BuiltinTool::Edit, json!({"path": "swap/file", "old": "sentinel", "new": "owned"})),
            ] {
                // A folder that disappears during a call may also be an error of the disk.
                let performed = site.perform(tool, &arguments, std::future::pending());
                let text = performed.result.map_or_else(|failure| failure.message, |output| output.content);
                assert!(!text.contains("sentinel\n") && !text.contains("secret\t"), "{tool}: {text}");
            }
        }
    });
    assert_eq!(fs::read_to_string(site.outside("file")).unwrap(), "sentinel");
    let names = fs::read_dir(site.outside("")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    assert_eq!(names, ["file", "secret"], "nothing was written outside");
}
