//! The commands that messages suggest, with the options that they need to work when the user copies them.

use std::fmt::Display;
use std::path::Path;

use crate::model::RunId;

/// The options that suggested commands need.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PrintedCommands {
    run: Option<RunId>,
    state: String,
    trust: String,
}

/// The commands that read a journal and so take `--state`.
const TAKE_STATE: &[&str] = &["orch runs ", "orch pipeline resume", "orch pipeline run", "orch resume", "orch run "];
/// The commands that use the latest run when the user names none.
const TAKE_RUN: &[&str] = &["orch pipeline resume", "orch runs show", "orch runs approve", "orch runs reject"];
/// The commands that send what orch.yaml configures and so take `--trust`.
const TAKE_TRUST: &[&str] =
    &["orch pipeline resume", "orch pipeline run", "orch resume", "orch run ", "orch runs track"];

impl PrintedCommands {
    /// Commands for the runs in `state` (if `None`, those of the project in the current folder) that trust the settings
    /// with the digest from the command line.
    pub fn new(state: Option<&Path>, trust: Option<&str>) -> Self {
        let trust = trust.map(|digest| format!(" --trust {}", shell_word(digest))).unwrap_or_default();
        Self { trust, ..Self::default() }.in_state(state)
    }

    /// The same for another state folder.
    #[must_use]
    pub fn in_state(self, state: Option<&Path>) -> Self {
        let state = state.map(|folder| format!(" --state {}", shell_word(&folder.display().to_string())));
        Self { state: state.unwrap_or_default(), ..self }
    }

    /// The same for messages about this run, which may not be the latest one when the user runs the command.
    #[must_use]
    pub fn about(self, run: RunId) -> Self {
        Self { run: Some(run), ..self }
    }

    /// The command that resumes a run.
    pub fn resume(&self, run: RunId) -> String {
        self.of(format!("orch pipeline resume {run}"))
    }

    /// A command, with the options that it takes and does not have yet.
    pub fn of(&self, command: impl Display) -> String {
        let mut command = self.named(command.to_string());
        let takes = |command: &str, list: &[&str]| list.iter().any(|begin| command.starts_with(begin));
        if takes(&command, TAKE_STATE) && !command.contains(" --state") {
            command.push_str(&self.state);
        }
        if takes(&command, TAKE_TRUST) && !command.contains(" --trust") {
            command.push_str(&self.trust);
        }
        command
    }

    /// A command, with the run's id if it takes one and has none.
    fn named(&self, command: String) -> String {
        let Some(run) = self.run else { return command };
        let parts = TAKE_RUN.iter().find_map(|begin| Some((begin, command.strip_prefix(begin)?)));
        match parts {
            Some((begin, rest)) if rest.is_empty() || rest.starts_with(" --") => format!("{begin} {run}{rest}"),
            _ => command,
        }
    }

    /// A text, with these options added to every command between backticks.
    pub fn complete(&self, text: &str) -> String {
        let complete = |(index, text): (usize, &str)| if index % 2 == 1 { self.of(text) } else { text.to_owned() };
        text.split('`').enumerate().map(complete).collect::<Vec<_>>().join("`")
    }
}

/// Quotes a word for a POSIX shell, if necessary.
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
        let commands = PrintedCommands::new(Some(Path::new("my state/it's")), None);
        let hint = "see `orch runs show --replies`; `expect: 1` and `orch init` do not look for runs";
        assert_eq!(
            commands.complete(hint),
            r"see `orch runs show --replies --state 'my state/it'\''s'`; `expect: 1` and `orch init` do not look for runs"
        );
        assert_eq!(commands.complete("`orch runs list --state x`"), "`orch runs list --state x`");
        assert_eq!(PrintedCommands::default().complete(hint), hint);
        let run = RunId(uuid::Uuid::nil());
        let about = PrintedCommands::default().about(run);
        assert_eq!(
            about.complete("`orch runs show --replies`, `orch pipeline resume` or `orch pipeline resume 01 --from a`"),
            format!(
                "`orch runs show {run} --replies`, `orch pipeline resume {run}` or `orch pipeline resume 01 --from a`"
            )
        );
        let trusts = PrintedCommands::new(None, Some("ab12"));
        let hint = "`orch pipeline resume x` and `orch runs list` and `orch pipeline run p --trust cd`";
        let complete =
            "`orch pipeline resume x --trust ab12` and `orch runs list` and `orch pipeline run p --trust cd`";
        assert_eq!(trusts.complete(hint), complete);
    }

    #[test]
    fn plain_words_need_no_quotes() {
        assert_eq!(shell_word("../a-b/.orch"), "../a-b/.orch");
        assert_eq!(shell_word("a$b"), "'a$b'");
    }
}
