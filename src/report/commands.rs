//! Adds the necessary options to the commands that messages suggest, so that the user can run these commands unchanged.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use crate::model::RunId;

/// An option with a folder that a resume of a run needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResumeOption {
    /// The option, such as `--workspace`.
    pub name: &'static str,
    /// The folder.
    pub folder: PathBuf,
}

/// Builds the commands that messages suggest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SuggestedCommands {
    run: Option<RunId>,
    /// The option `--state` with a space before it, or an empty text.
    state_option: String,
    /// The option `--trust` with a space before it, or an empty text.
    trust_option: String,
    /// The options of a resume.
    resume_options: Vec<ResumeOption>,
}

/// The commands that read a journal and therefore accept `--state`.
const STATE_COMMANDS: &[&str] =
    &["orch runs ", "orch pipeline resume", "orch pipeline run", "orch resume", "orch run ", "orch tools "];
/// The commands that use the latest run when the user names none.
const RUN_COMMANDS: &[&str] = &["orch pipeline resume", "orch runs show", "orch runs approve", "orch runs reject"];
/// The commands that resume a run.
const RESUME_COMMANDS: &[&str] = &["orch pipeline resume", "orch resume"];
/// The commands that send data to the addresses in orch.yaml and therefore accept `--trust`.
const TRUST_COMMANDS: &[&str] =
    &["orch pipeline resume", "orch pipeline run", "orch resume", "orch run ", "orch runs track", "orch tools "];

impl SuggestedCommands {
    /// Creates the commands for the runs in the state folder `state`. If `state` is `None`, the commands need no
    /// `--state`. `trust` is the digest that the user passed as `--trust`.
    pub fn new(state: Option<&Path>, trust: Option<&str>) -> Self {
        let trust_option = trust.map(|digest| format!(" --trust {}", quote_for_shell(digest))).unwrap_or_default();
        Self { trust_option, ..Self::default() }.with_state(state)
    }

    /// Replaces the state folder.
    #[must_use]
    pub fn with_state(self, state: Option<&Path>) -> Self {
        let option = state.map(|folder| format!(" --state {}", quote_for_shell(&folder.display().to_string())));
        Self { state_option: option.unwrap_or_default(), ..self }
    }

    /// Adds the id of this run to the commands that otherwise use the latest run. When the user runs such a command,
    /// another run may be the latest.
    #[must_use]
    pub fn for_run(self, run: RunId) -> Self {
        Self { run: Some(run), ..self }
    }

    /// Adds these options to the commands that resume a run.
    #[must_use]
    pub fn with_resume_options(self, options: Vec<ResumeOption>) -> Self {
        Self { resume_options: options, ..self }
    }

    /// The command that resumes a run.
    pub fn resume(&self, run: RunId) -> String {
        self.with_options(format!("orch pipeline resume {run}"))
    }

    /// Adds the options that a command accepts and does not contain yet.
    pub fn with_options(&self, command: impl Display) -> String {
        let mut command = self.with_run_id(command.to_string());
        let starts_with_any =
            |command: &str, prefixes: &[&str]| prefixes.iter().any(|prefix| command.starts_with(prefix));
        if starts_with_any(&command, RESUME_COMMANDS) {
            for ResumeOption { name, folder } in &self.resume_options {
                if !command.contains(&format!(" {name}")) {
                    command.push_str(&format!(" {name} {}", quote_for_shell(&folder.display().to_string())));
                }
            }
        }
        if starts_with_any(&command, STATE_COMMANDS) && !command.contains(" --state") {
            command.push_str(&self.state_option);
        }
        if starts_with_any(&command, TRUST_COMMANDS) && !command.contains(" --trust") {
            command.push_str(&self.trust_option);
        }
        command
    }

    /// Adds the run's id to a command that accepts a run id and contains none.
    fn with_run_id(&self, command: String) -> String {
        let Some(run) = self.run else { return command };
        let prefix_and_options = RUN_COMMANDS.iter().find_map(|prefix| Some((prefix, command.strip_prefix(prefix)?)));
        match prefix_and_options {
            Some((prefix, options)) if options.is_empty() || options.starts_with(" --") => {
                format!("{prefix} {run}{options}")
            }
            _ => command,
        }
    }

    /// Adds the missing options to every command between backticks in a text.
    pub fn complete_commands(&self, text: &str) -> String {
        let complete_part =
            |(i, part): (usize, &str)| if i % 2 == 1 { self.with_options(part) } else { part.to_owned() };
        text.split('`').enumerate().map(complete_part).collect::<Vec<_>>().join("`")
    }
}

/// Quotes an argument for a POSIX shell, if necessary.
pub(crate) fn quote_for_shell(text: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "_-./:@%+=,".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_in_hints_get_the_missing_options() {
        let commands = SuggestedCommands::new(Some(Path::new("my state/it's")), None);
        let hint = "see `orch runs show --replies`; `expect: 1` and `orch init` read no runs";
        assert_eq!(
            commands.complete_commands(hint),
            r"see `orch runs show --replies --state 'my state/it'\''s'`; `expect: 1` and `orch init` read no runs"
        );
        assert_eq!(commands.complete_commands("`orch runs list --state x`"), "`orch runs list --state x`");
        assert_eq!(SuggestedCommands::default().complete_commands(hint), hint);
        let run = RunId(uuid::Uuid::nil());
        let commands_for_run = SuggestedCommands::default().for_run(run);
        assert_eq!(
            commands_for_run.complete_commands(
                "`orch runs show --replies`, `orch pipeline resume` or `orch pipeline resume 01 --from a`"
            ),
            format!(
                "`orch runs show {run} --replies`, `orch pipeline resume {run}` or `orch pipeline resume 01 --from a`"
            )
        );
        let commands_with_trust = SuggestedCommands::new(None, Some("ab12"));
        let hint = "`orch tools list --server a` and `orch runs list` and `orch pipeline run p --trust cd`";
        let expected =
            "`orch tools list --server a --trust ab12` and `orch runs list` and `orch pipeline run p --trust cd`";
        assert_eq!(commands_with_trust.complete_commands(hint), expected);
    }

    #[test]
    fn commands_that_resume_get_the_folders_of_the_run() {
        let option = |name, folder: &str| ResumeOption { name, folder: PathBuf::from(folder) };
        let options = vec![option("--workspace", "my files"), option("--record", "rec")];
        let commands = SuggestedCommands::default().with_resume_options(options);
        let hint = "`orch pipeline resume x --record y` or `orch runs show x`";
        let expected = "`orch pipeline resume x --record y --workspace 'my files'` or `orch runs show x`";
        assert_eq!(commands.complete_commands(hint), expected);
    }

    #[test]
    fn only_arguments_with_special_characters_get_quotes() {
        assert_eq!(quote_for_shell("../a-b/.orch"), "../a-b/.orch");
        assert_eq!(quote_for_shell("a$b"), "'a$b'");
    }
}
