//! What Codex's sandbox refused its commands, by what they said.
//!
//! Codex has no event for that: a command that may not write sees a file system that is read-only (on macOS an
//! operation that is not permitted), says so, and Codex goes on. Its events have the output of commands, but not of
//! each that ends at once; its own record of the session has that of all.

use std::fs;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde_json::Value;

/// What is read of a session's record, in bytes.
const LARGEST: u64 = 64 << 20;

/// The line of an output by which a command says that its sandbox refused a write.
pub(super) fn refused(output: &str) -> Option<&str> {
    output.lines().map(str::trim).find(|line| {
        // As the system, Python and Node say it; a text that only quotes the words goes on after them.
        line.ends_with(": Read-only file system")
            || line.contains("[Errno 30] Read-only file system")
            || line.contains("EROFS: read-only file system, ")
            || (cfg!(target_os = "macos") && line.ends_with(": Operation not permitted"))
            || line.contains("rejected by user approval settings")
    })
}

/// What commands of a session were refused since a time, by its record in Codex's home.
pub(super) fn on_record(home: &Path, session: &str, since: Timestamp) -> Vec<String> {
    let Some(path) = record(&home.join("sessions"), session, 4) else { return Vec::new() };
    if fs::metadata(&path).map_or(true, |data| data.len() > LARGEST) {
        return Vec::new();
    }
    let text = fs::read(&path).unwrap_or_default();
    let lines = text.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice::<Value>(line).ok());
    let later = |line: &Value| {
        let at = line["timestamp"].as_str().and_then(|text| text.parse::<Timestamp>().ok());
        at.is_some_and(|at| at >= since)
    };
    let outputs = lines.filter(later).filter_map(|mut line| {
        let kind = line["payload"]["type"].as_str()?;
        kind.ends_with("call_output").then(|| match line["payload"]["output"].take() {
            Value::String(text) => text,
            // The words of a list or an object of parts.
            other => other["content"].as_str().map_or_else(|| other.to_string().replace("\\n", "\n"), str::to_owned),
        })
    });
    outputs.filter_map(|output| refused(&output).map(str::to_owned)).collect()
}

/// The record of a session: a file below a folder whose name ends with the session's id.
fn record(folder: &Path, session: &str, depth: usize) -> Option<PathBuf> {
    let end = format!("-{session}.jsonl");
    let entries: Vec<PathBuf> = fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path()).collect();
    let own = entries.iter().find(|path| path.to_string_lossy().ends_with(&end)).cloned();
    let below = || entries.iter().filter(|path| depth > 0 && path.is_dir());
    own.or_else(|| below().find_map(|path| record(path, session, depth - 1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_write_is_known_by_how_systems_and_languages_say_it() {
        for line in [
            "/bin/bash: line 1: /etc/x: Read-only file system",
            "touch: cannot touch '/etc/x': Read-only file system\r",
            "OSError: [Errno 30] Read-only file system: '/etc/x'",
            "Error: EROFS: read-only file system, open '/etc/x'",
        ] {
            assert_eq!(refused(&format!("before\n{line}\nafter")), Some(line.trim()));
        }
        for line in [
            "A Read-only file system is one that",
            "if EROFS: read-only file system: retry",
            "cat: /etc/shadow: Permission denied",
            "",
        ] {
            assert_eq!(refused(line), None, "{line}");
        }
    }

    #[test]
    fn only_what_was_refused_since_the_turn_began_counts() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("sessions/2026/11/28");
        fs::create_dir_all(&folder).unwrap();
        let line = |at: &str, text: &str| {
            let payload = serde_json::json!({ "type": "function_call_output", "output": format!("Output:\n{text}: Read-only file system\n") });
            format!("{}\n", serde_json::json!({ "timestamp": at, "type": "response_item", "payload": payload }))
        };
        let text = line("2026-11-28T10:00:00.000Z", "old") + "{ cut" + "\n" + &line("2026-11-28T12:00:00.000Z", "new");
        fs::write(folder.join("rollout-2026-11-28T10-00-00-t-1.jsonl"), text).unwrap();
        let since = "2026-11-28T11:00:00Z".parse().unwrap();
        assert_eq!(on_record(home.path(), "t-1", since), ["new: Read-only file system"]);
        assert!(on_record(home.path(), "t-2", since).is_empty());
    }
}
