//! Commands of orch as messages print them: with the options that they need to work where they are copied to.

use std::fmt::Display;
use std::path::Path;

use crate::model::RunId;

/// Prints commands for one state folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PrintedCommands {
    options: String,
}

/// The commands that look for runs, and so take `--state`.
const TAKE_STATE: &[&str] = &["orch runs ", "orch pipeline resume", "orch pipeline run"];

impl PrintedCommands {
    /// Commands that find the runs in `state`; without one, those of the project in the current folder.
    pub fn new(state: Option<&Path>) -> Self {
        let options = state.map(|folder| format!(" --state {}", shell_word(&folder.display().to_string())));
        Self { options: options.unwrap_or_default() }
    }

    /// The command that resumes a run.
    pub fn resume(&self, run: RunId) -> String {
        self.of(format!("orch pipeline resume {run}"))
    }

    /// A command about runs.
    pub fn of(&self, command: impl Display) -> String {
        format!("{command}{}", self.options)
    }

    /// A hint in which every command between backticks that looks for runs has the options.
    pub fn complete(&self, hint: &str) -> String {
        if self.options.is_empty() {
            return hint.to_owned();
        }
        let parts = hint.split('`').enumerate();
        let command = |text: &str| TAKE_STATE.iter().any(|begin| text.starts_with(begin)) && !text.contains("--state");
        let complete = |(index, text): (usize, &str)| {
            if index % 2 == 1 && command(text) { self.of(text) } else { text.to_owned() }
        };
        parts.map(complete).collect::<Vec<_>>().join("`")
    }
}

/// A word as a POSIX shell reads it.
fn shell_word(text: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "_-./:@%+=,".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_in_a_hint_name_the_state_folder_that_was_given() {
        let commands = PrintedCommands::new(Some(Path::new("my state/it's")));
        let hint = "see `orch runs show --replies`; `expect: 1` and `orch init` do not look for runs";
        assert_eq!(
            commands.complete(hint),
            r"see `orch runs show --replies --state 'my state/it'\''s'`; `expect: 1` and `orch init` do not look for runs"
        );
        assert_eq!(commands.complete("`orch runs list --state x`"), "`orch runs list --state x`");
        assert_eq!(PrintedCommands::default().complete(hint), hint);
    }

    #[test]
    fn plain_words_need_no_quotes() {
        assert_eq!(shell_word("../a-b/.orch"), "../a-b/.orch");
        assert_eq!(shell_word("a$b"), "'a$b'");
    }
}
