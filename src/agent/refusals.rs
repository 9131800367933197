//! Finds the writes that Codex's sandbox refused, by the error messages of the commands.
//!
//! Codex has no event for a refusal. The write of the command fails, because the file system is read-only or, on macOS,
//! because the operation is not permitted. The command prints an error, and Codex continues. Codex's events lack the
//! output of some commands that exit immediately, but its session file has the output of every command.

use std::fs;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde_json::Value;

/// The size of the largest session file that orch reads, in bytes.
const MAX_SESSION_BYTES: u64 = 64 << 20;

/// The system's error messages for a refused write, in lower case, with their error numbers.
const REFUSAL_MESSAGES: &[(&str, &str)] = &[
    ("read-only file system", "30"),
    #[cfg(target_os = "macos")]
    ("operation not permitted", "1"),
];

/// Returns the line of a command's output that reports a refused write. For a failed command, this recognizes the error
/// formats of all known languages. For a successful one, it recognizes only the formats of the system, Python and Node,
/// since the command may have printed such a message as part of another text, such as a log.
pub(super) fn find_refusal(output: &str, succeeded: bool) -> Option<&str> {
    output.lines().map(str::trim).find(|line| is_system_error(line) || (!succeeded && is_language_error(line)))
}

/// Whether a line has an error format of the system, Python or Node. A text that only quotes the message usually
/// continues after it.
fn is_system_error(line: &str) -> bool {
    line.ends_with(": Read-only file system")
        || line.contains("[Errno 30] Read-only file system")
        || line.contains("EROFS: read-only file system, ")
        || (cfg!(target_os = "macos") && line.ends_with(": Operation not permitted"))
        || line.contains("rejected by user approval settings")
}

/// Whether a line has the message where an error message would be: after a separator, and before the end of the line or
/// a suffix that a known language adds.
fn is_language_error(line: &str) -> bool {
    let lower = line.to_ascii_lowercase();
    let separators = [": ", "(", "] ", "- ", "\""];
    REFUSAL_MESSAGES.iter().any(|(message, number)| {
        lower.match_indices(message).any(|(start, _)| {
            let (before, message_and_after) = lower.split_at(start);
            let after = message_and_after.strip_prefix(message).unwrap_or_default();
            let is_separated = before.is_empty() || separators.iter().any(|separator| before.ends_with(separator));
            is_separated && is_error_suffix(after, number)
        })
    })
}

/// Whether a text may follow the system's error message: nothing (shells, Go), a parenthesis (Java), the error number
/// (Rust), or a location (Perl, PHP, Ruby, .NET).
fn is_error_suffix(after: &str, number: &str) -> bool {
    let is_location = [" at ", " in "].iter().any(|word| after.starts_with(word)) && after.contains(" line ");
    after.trim_end_matches(['.', ')', '}', ' ', '"', '\'']).is_empty()
        || after.starts_with(&format!(" (os error {number})"))
        || is_location
        || after.starts_with(" @ ")
        || after.starts_with(" : '")
}

/// The refusals that the session file in Codex's home reports from `since` on.
pub(super) fn session_refusals(home: &Path, session: &str, since: Timestamp) -> Vec<String> {
    let Some(path) = find_session_file(&home.join("sessions"), session, 4) else { return Vec::new() };
    if fs::metadata(&path).map_or(true, |metadata| metadata.len() > MAX_SESSION_BYTES) {
        return Vec::new();
    }
    let text = fs::read(&path).unwrap_or_default();
    let lines = text.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice::<Value>(line).ok());
    let is_recent = |line: &Value| {
        let timestamp = line["timestamp"].as_str().and_then(|text| text.parse::<Timestamp>().ok());
        timestamp.is_some_and(|timestamp| timestamp >= since)
    };
    let outputs = lines.filter(is_recent).filter_map(|mut line| {
        let kind = line["payload"]["type"].as_str()?;
        kind.ends_with("call_output").then(|| line["payload"]["output"].take())
    });
    let refusals = outputs.filter_map(|output| {
        let (text, succeeded) = parse_output(output);
        find_refusal(&text, succeeded).map(str::to_owned)
    });
    refusals.collect()
}

/// Returns the text of a recorded output, and whether its exit code shows that the command succeeded. The exit code is
/// in a header of the text or in a field next to it.
fn parse_output(output: Value) -> (String, bool) {
    let header_reports_success = |text: &str| {
        let header = text.lines().take_while(|line| !line.starts_with("Output:"));
        let codes = header.filter_map(|line| {
            line.strip_prefix("Exit code: ").or_else(|| line.strip_prefix("Process exited with code "))
        });
        codes.last().is_some_and(|code| code.trim() == "0")
    };
    let text = match output {
        Value::String(text) => text,
        // The output may also be an object, or a list of parts.
        other => other["content"].as_str().map_or_else(|| other.to_string().replace("\\n", "\n"), str::to_owned),
    };
    let fields: Value = serde_json::from_str(&text).unwrap_or_default();
    let Some(inner_text) = fields["output"].as_str() else {
        let succeeded = header_reports_success(&text);
        return (text, succeeded);
    };
    (inner_text.to_owned(), fields["metadata"]["exit_code"] == 0)
}

/// Finds the session file: a file in `folder` or below it whose name ends with the session's id.
fn find_session_file(folder: &Path, session: &str, depth: usize) -> Option<PathBuf> {
    let suffix = format!("-{session}.jsonl");
    let entries: Vec<PathBuf> = fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path()).collect();
    let file = entries.iter().find(|path| path.to_string_lossy().ends_with(&suffix)).cloned();
    let subfolders = || entries.iter().filter(|path| depth > 0 && path.is_dir());
    file.or_else(|| subfolders().find_map(|path| find_session_file(path, session, depth - 1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_messages_of_the_system_python_and_node_are_recognized() {
        for line in [
            "/bin/bash: line 1: /etc/x: Read-only file system",
            "touch: cannot touch '/etc/x': Read-only file system\r",
            "OSError: [Errno 30] Read-only file system: '/etc/x'",
            "Error: EROFS: read-only file system, open '/etc/x'",
        ] {
            for succeeded in [true, false] {
                assert_eq!(find_refusal(&format!("before\n{line}\nafter"), succeeded), Some(line.trim()));
            }
        }
        for line in [
            "A Read-only file system is one that",
            "if EROFS: read-only file system: retry",
            "# read-only file system: see mount(8)",
            "cat: /etc/shadow: Permission denied",
            "",
        ] {
            assert_eq!((find_refusal(line, true), find_refusal(line, false)), (None, None), "{line}");
        }
    }

    #[test]
    fn error_messages_of_all_languages_are_recognized_for_a_failed_command() {
        for line in [
            "Error: Read-only file system (os error 30)",
            "Error: Os { code: 30, kind: ReadOnlyFilesystem, message: \"Read-only file system\" }",
            "open /etc/x: read-only file system",
            "panic: open /etc/x: read-only file system",
            "java.io.FileNotFoundException: /etc/x (Read-only file system)",
            "can't open: Read-only file system at -e line 1.",
            "Warning: fopen(/etc/x): Failed to open stream: Read-only file system in /srv/x.php on line 3",
            "x.rb:1:in `initialize': Read-only file system @ rb_sysopen - /etc/x (Errno::EROFS)",
            "Unhandled exception. System.IO.IOException: Read-only file system : '/etc/x'",
        ] {
            assert_eq!(find_refusal(&format!("before\n{line}\nafter"), false), Some(line), "{line}");
            // A successful command may have printed the message as part of another text.
            assert_eq!(find_refusal(line, true), None, "{line}");
        }
    }

    #[test]
    fn recorded_outputs_show_whether_the_command_failed() {
        let rust = "Error: Read-only file system (os error 30)";
        let exec = |code: &str| format!("Chunk ID: 1\nProcess exited with code {code}\nOutput:\n{rust}\n");
        let shell = |code: &str| format!("Exit code: {code}\nWall time: 0 seconds\nOutput:\n{rust}\nExit code: 1\n");
        let json = |code: u8| serde_json::json!({ "output": rust, "metadata": { "exit_code": code } }).to_string();
        for (failed, succeeded) in [(exec("1"), exec("0")), (shell("101"), shell("0")), (json(1), json(0))] {
            let [failed, succeeded] = [failed, succeeded].map(|text| parse_output(text.into()));
            assert_eq!(find_refusal(&failed.0, failed.1), Some(rust), "{failed:?}");
            assert_eq!(find_refusal(&succeeded.0, succeeded.1), None, "{succeeded:?}");
        }
        // Without an exit code it is unknown whether the command succeeded.
        let (text, succeeded) = parse_output(serde_json::json!({ "content": rust }));
        assert_eq!(find_refusal(&text, succeeded), Some(rust));
    }

    #[test]
    fn only_refusals_since_the_start_of_the_turn_count() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("sessions/2026/11/28");
        fs::create_dir_all(&folder).unwrap();
        let line = |timestamp: &str, text: &str| {
            let payload = serde_json::json!({ "type": "function_call_output", "output": format!("Output:\n{text}: Read-only file system\n") });
            format!("{}\n", serde_json::json!({ "timestamp": timestamp, "type": "response_item", "payload": payload }))
        };
        let text = line("2026-11-28T10:00:00.000Z", "old") + "{ cut" + "\n" + &line("2026-11-28T12:00:00.000Z", "new");
        fs::write(folder.join("rollout-2026-11-28T10-00-00-t-1.jsonl"), text).unwrap();
        let since = "2026-11-28T11:00:00Z".parse().unwrap();
        assert_eq!(session_refusals(home.path(), "t-1", since), ["new: Read-only file system"]);
        assert!(session_refusals(home.path(), "t-2", since).is_empty());
    }
}
