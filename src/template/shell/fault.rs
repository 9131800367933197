//! Why a shell does not take a value as one word, and what the author of the command line can do.

/// The maximum length of an expression that a message repeats, in bytes.
const MAX_QUOTED_BYTES: usize = 60;

/// The reason why a shell does not take a value at its place as one word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ShellFault {
    /// It is in a heredoc whose delimiter is quoted.
    QuotedHeredoc,
    /// It is in the delimiter of a heredoc.
    HeredocDelimiter,
    /// It is in an arithmetic expression.
    Arithmetic,
    /// It is in the index of an array.
    ArrayIndex,
    /// It is inside `${…}`.
    ParameterExpansion,
    /// A backslash precedes it.
    Escaped,
    /// A `$` precedes it.
    AfterDollar,
    /// It is the name of a command.
    CommandName,
    /// It is the name of a variable.
    VariableName,
    /// This command can run it as shell code.
    Executed(String),
    /// Bash evaluates the text that a script assigns to this variable.
    EvaluatedVariable(String),
    /// This command takes it as an option if it begins with `-`.
    ProbableOption(String),
    /// It is in `$'…'`.
    AnsiQuotes,
    /// It is in backticks whose content shells read in different ways.
    Backticks,
    /// It is in a `[[ … ]]` of bash that other shells read as several commands.
    BashCondition,
    /// This quote or bracket before it is not closed.
    Unterminated(&'static str),
    /// Shells read the text before it in different ways.
    Undecidable,
}

impl ShellFault {
    /// Returns the message about a value, which is the text of its expression.
    pub(crate) fn message(&self, expression: &str) -> String {
        let expression = quotable(expression);
        format!("a shell does not take `{{{{ {expression} }}}}` as one word: {}", self.reason())
    }

    fn reason(&self) -> String {
        match self {
            Self::QuotedHeredoc => "a heredoc with a quoted delimiter has no variables".to_owned(),
            Self::HeredocDelimiter => "it is in the delimiter of a heredoc".to_owned(),
            Self::Arithmetic => "it is in arithmetic, where bash runs commands that a value contains".to_owned(),
            Self::ArrayIndex => "it is in an array index, where bash runs commands that a value contains".to_owned(),
            Self::ParameterExpansion => "it is inside `${…}`".to_owned(),
            Self::Escaped => "a backslash precedes it".to_owned(),
            Self::AfterDollar => "a `$` precedes it".to_owned(),
            Self::CommandName => "it is the name of a command, which may be one such as `eval`".to_owned(),
            Self::VariableName => "it is the name of a variable".to_owned(),
            Self::Executed(command) => format!("`{command}` may run it as commands"),
            Self::EvaluatedVariable(name) => format!("bash evaluates what a script assigns to `{name}`"),
            Self::ProbableOption(command) => format!("`{command}` takes it as an option if it begins with `-`"),
            Self::AnsiQuotes => "shells read `$'…'` in different ways".to_owned(),
            Self::Backticks => "it is in backticks with a backslash, a comment or a heredoc".to_owned(),
            Self::BashCondition => "shells other than bash read this `[[ … ]]` as several commands".to_owned(),
            Self::Unterminated(opening) => format!("`{opening}` before it is not closed"),
            Self::Undecidable => "shells read the text before it in different ways".to_owned(),
        }
    }

    /// Returns advice on how to pass the value.
    pub(crate) fn help(&self, expression: &str) -> String {
        let expression = quotable(expression);
        let general =
            format!("pass it in a list, `run: [PROGRAM, \"{{{{ {expression} }}}}\"]`, or as `stdin: {expression}`");
        match self.advice(expression) {
            Some(advice) => format!("{advice}; or {general}"),
            None => general,
        }
    }

    /// Returns advice that applies only to this fault.
    fn advice(&self, expression: &str) -> Option<String> {
        let value = format!("{{{{ {expression} }}}}");
        Some(match self {
            Self::QuotedHeredoc => "remove the quotes of the delimiter".to_owned(),
            Self::Arithmetic => "compute the result in the template".to_owned(),
            Self::ParameterExpansion => format!("assign it to a variable before: `name={value}`"),
            Self::Escaped => "remove the backslash".to_owned(),
            Self::AfterDollar => "remove the `$`".to_owned(),
            Self::CommandName => format!("write its path with a slash, such as `./{value}`"),
            Self::Executed(command) if is_shell(command) => {
                format!("pass it as an argument of the script: `{command} -c 'echo \"$1\"' {command} {value}`")
            }
            Self::Executed(command) if command == "trap" => {
                format!("assign it to a variable before: `name={value}; trap 'rm -r \"$name\"' EXIT`")
            }
            Self::ProbableOption(command) if command == "printf" => {
                format!("write a format before it: `printf '%s\\n' {value}`")
            }
            Self::ProbableOption(command) => format!("write `--` before it: `{command} -- {value}`"),
            Self::AnsiQuotes => "write it outside of the quotes".to_owned(),
            Self::Backticks => "write `$(…)` in place of the backticks".to_owned(),
            Self::BashCondition => "write several `[ … ]`".to_owned(),
            Self::Unterminated(_) => "close it, in each branch of the template".to_owned(),
            Self::HeredocDelimiter
            | Self::ArrayIndex
            | Self::VariableName
            | Self::Executed(_)
            | Self::EvaluatedVariable(_)
            | Self::Undecidable => return None,
        })
    }
}

/// The shells whose `-c` runs a text as commands.
const SHELLS: &[&str] = &["ash", "bash", "dash", "fish", "ksh", "ksh93", "mksh", "rbash", "sh", "yash", "zsh"];

/// Whether a command is a shell, by its name or path.
pub(super) fn is_shell(command: &str) -> bool {
    let name = command.rsplit('/').next().unwrap_or(command);
    SHELLS.contains(&name)
}

/// The expression, if it is short and has one line.
fn quotable(expression: &str) -> &str {
    let expression = expression.trim();
    let is_short = !expression.is_empty() && expression.len() <= MAX_QUOTED_BYTES && !expression.contains('\n');
    if is_short { expression } else { "…" }
}
