//! Finds the writes that Codex's sandbox refused, by the error messages of the commands.
//!
//! Codex has no event for a refusal: the command sees a read-only file system (on macOS, an operation that is not
//! permitted), prints an error, and Codex continues. Codex's events lack the output of some commands that exit at once;
//! its session file has the output of every command.

use std::fs;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde_json::Value;

/// How much of a session file is read at most, in bytes.
const LARGEST: u64 = 64 << 20;

/// The system's error messages for a refused write, in lower case, with their error numbers.
const REFUSALS: &[(&str, &str)] = &[
    ("read-only file system", "30"),
    #[cfg(target_os = "macos")]
    ("operation not permitted", "1"),
];

/// The line of a command's output that reports a refused write. For a failed command, the error formats of all known
/// languages count. For a successful one, only the formats of the system, Python and Node count, since it may have
/// printed a text with these words, such as a log.
pub(super) fn refused(output: &str, succeeded: bool) -> Option<&str> {
    output.lines().map(str::trim).find(|line| says_plainly(line) || (!succeeded && says_somehow(line)))
}

fn says_plainly(line: &str) -> bool {
    // The formats of the system, Python and Node; a text that merely quotes the words usually continues after them.
    line.ends_with(": Read-only file system")
        || line.contains("[Errno 30] Read-only file system")
        || line.contains("EROFS: read-only file system, ")
        || (cfg!(target_os = "macos") && line.ends_with(": Operation not permitted"))
        || line.contains("rejected by user approval settings")
}

/// Whether a line has the words where error messages have them: after a separator, and before the end of the line or
/// what some language adds there.
fn says_somehow(line: &str) -> bool {
    let lower = line.to_ascii_lowercase();
    REFUSALS.iter().any(|(words, number)| {
        lower.match_indices(words).any(|(start, _)| {
            let (before, rest) = lower.split_at(start);
            let after = rest.strip_prefix(words).unwrap_or_default();
            let parted = before.is_empty() || [": ", "(", "] ", "- ", "\""].iter().any(|end| before.ends_with(end));
            parted && is_end(after, number)
        })
    })
}

/// Whether a text is what may follow the system's words in an error message: nothing (shells, Go), a parenthesis
/// (Java), the error number (Rust), or a location (Perl, PHP, Ruby, .NET).
fn is_end(after: &str, number: &str) -> bool {
    let placed = [" at ", " in "].iter().any(|word| after.starts_with(word)) && after.contains(" line ");
    after.trim_end_matches(['.', ')', '}', ' ', '"', '\'']).is_empty()
        || after.starts_with(&format!(" (os error {number})"))
        || placed
        || after.starts_with(" @ ")
        || after.starts_with(" : '")
}

/// The refusals in the session file in Codex's home, from `since` on.
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
        kind.ends_with("call_output").then(|| line["payload"]["output"].take())
    });
    let refusals = outputs.filter_map(|output| {
        let (text, succeeded) = recorded(output);
        refused(&text, succeeded).map(str::to_owned)
    });
    refusals.collect()
}

/// The text of a recorded output, and whether its command is known to have succeeded. The exit code is in a header of
/// the text or in a field next to it.
fn recorded(output: Value) -> (String, bool) {
    let of_header = |text: &str| {
        let head = text.lines().take_while(|line| !line.starts_with("Output:"));
        let codes = head.filter_map(|line| {
            line.strip_prefix("Exit code: ").or_else(|| line.strip_prefix("Process exited with code "))
        });
        codes.last().is_some_and(|code| code.trim() == "0")
    };
    let text = match output {
        Value::String(text) => text,
        // The text of an output that is a list or an object of parts.
        other => other["content"].as_str().map_or_else(|| other.to_string().replace("\\n", "\n"), str::to_owned),
    };
    let fields: Value = serde_json::from_str(&text).unwrap_or_default();
    let Some(words) = fields["output"].as_str() else {
        let succeeded = of_header(&text);
        return (text, succeeded);
    };
    (words.to_owned(), fields["metadata"]["exit_code"] == 0)
}

/// The session file: a file in `folder` or below it whose name ends with the session's id.
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
            for succeeded in [true, false] {
                assert_eq!(refused(&format!("before\n{line}\nafter"), succeeded), Some(line.trim()));
            }
        }
        for line in [
            "A Read-only file system is one that",
            "if EROFS: read-only file system: retry",
            "# read-only file system: see mount(8)",
            "cat: /etc/shadow: Permission denied",
            "",
        ] {
            assert_eq!((refused(line, true), refused(line, false)), (None, None), "{line}");
        }
    }

    #[test]
    fn of_a_command_that_failed_the_words_of_every_language_are_known() {
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
            assert_eq!(refused(&format!("before\n{line}\nafter"), false), Some(line), "{line}");
            // A command that succeeded may only have printed the words.
            assert_eq!(refused(line, true), None, "{line}");
        }
    }

    #[test]
    fn the_record_tells_what_failed_from_what_succeeded() {
        let rust = "Error: Read-only file system (os error 30)";
        let exec = |code: &str| format!("Chunk ID: 1\nProcess exited with code {code}\nOutput:\n{rust}\n");
        let shell = |code: &str| format!("Exit code: {code}\nWall time: 0 seconds\nOutput:\n{rust}\nExit code: 1\n");
        let json = |code: u8| serde_json::json!({ "output": rust, "metadata": { "exit_code": code } }).to_string();
        for (failed, succeeded) in [(exec("1"), exec("0")), (shell("101"), shell("0")), (json(1), json(0))] {
            let [failed, succeeded] = [failed, succeeded].map(|text| recorded(text.into()));
            assert_eq!(refused(&failed.0, failed.1), Some(rust), "{failed:?}");
            assert_eq!(refused(&succeeded.0, succeeded.1), None, "{succeeded:?}");
        }
        // Without an exit code it is unknown whether the command succeeded.
        let (text, succeeded) = recorded(serde_json::json!({ "content": rust }));
        assert_eq!(refused(&text, succeeded), Some(rust));
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
