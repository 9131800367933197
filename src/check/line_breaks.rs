//! Reports comparisons of a command's output with a text that it never equals, because the output ends with a line break.

use minijinja::machinery::ast::{BinOpKind, Expr};

use super::command_outputs::command_with_output;
use super::infer::Checker;
use super::narrowing::member_of;
use super::scope::TypeScope;
use crate::config::{OutputType, output_type};
use crate::diagnostic::Code;
use crate::model::step::CommandLine;
use crate::template::expr_range;

/// Programs that end every output with a line break, without the options of [`SPECIAL_OPTIONS`].
const LINE_PROGRAMS: &[&str] = &[
    "basename", "cut", "date", "df", "dirname", "du", "echo", "git", "grep", "hostname", "id", "jq", "ls", "nproc",
    "pwd", "realpath", "seq", "sort", "uname", "uniq", "wc", "which", "whoami",
];

/// Parts of arguments that change how the output of such a program ends, such as `-z`, `-0` and `--join-output`.
const SPECIAL_OPTIONS: &[char] = &['z', 'Z', '0', 'j'];

/// The commands of `git` that print the contents of files, which may have no line break at their end.
const GIT_CONTENTS: &[&str] = &["archive", "cat-file", "show"];

impl<'a> Checker<'a> {
    /// Reports a comparison of `left` and `right` that is never true (`==`, `in`) or always true (`!=`) because of the
    /// line break at the end of an output.
    pub(super) fn check_line_break(&mut self, op: BinOpKind, left: &Expr<'a>, right: &Expr<'a>, scope: &TypeScope<'a>) {
        match (op, right) {
            (BinOpKind::Eq | BinOpKind::Ne, _) => {
                self.check_output(left, right, scope);
                self.check_output(right, left, scope);
            }
            (BinOpKind::In, Expr::List(list)) => {
                list.items.iter().for_each(|constant| self.check_output(left, constant, scope));
            }
            (_, _) => {}
        }
    }

    fn check_output(&mut self, value: &Expr<'a>, constant: &Expr<'a>, scope: &TypeScope<'a>) {
        let Expr::Const(text) = constant else { return };
        let Some(text) = text.value.as_str().filter(|text| !text.is_empty() && !text.ends_with('\n')) else { return };
        let Some(program) = self.line_program(value, scope) else { return };
        let source = self.source(value);
        let message = format!("`{source}` is never `{text}`: the output of `{program}` ends with a line break");
        let diagnostic = self.warning(Code::NeverEqual, expr_range(constant), message);
        self.report(diagnostic.with_help(format!("compare it without the line break: `{source} | trim`")));
    }

    /// The program of the command whose whole output is this value, if every output of the program ends with a line
    /// break.
    fn line_program(&self, value: &Expr<'a>, scope: &TypeScope<'a>) -> Option<&'a str> {
        let (base, is_result) = match member_of(value) {
            Some((base, "stdout")) => (base, true),
            Some(_) | None => (value, false),
        };
        // A template may have assigned another value to the name.
        let root = root_variable(base)?;
        if scope.key(root) != Some(root) && root != "loop" {
            return None;
        }
        let (_, step) = command_with_output(self.project, self.source(base))?;
        let has_result = matches!(output_type(step), Some(OutputType::BuiltIn(_)));
        let is_text = matches!(output_type(step), Some(OutputType::Text));
        let is_whole_output = if is_result { has_result } else { is_text };
        let line = step.run.as_ref().filter(|_| is_whole_output && step.for_each.is_none())?;
        last_program(line)
    }
}

/// The variable at which a path begins.
fn root_variable<'e>(expr: &'e Expr<'_>) -> Option<&'e str> {
    match expr {
        Expr::Var(var) => Some(var.id),
        _ => member_of(expr).and_then(|(base, _)| root_variable(base)),
    }
}

/// The program that writes the end of a command's output, if it is one that ends its output with a line break.
fn last_program(line: &CommandLine) -> Option<&str> {
    let words: Vec<&str> = match line {
        CommandLine::Argv(argv) => argv.iter().map(String::as_str).collect(),
        CommandLine::Shell(line) => {
            let last = line.trim_end().rsplit(['\n', ';', '|', '&']).next().unwrap_or_default();
            let is_assignment = |word: &&str| word.contains('=') && !word.starts_with('-');
            last.split_whitespace().skip_while(is_assignment).collect()
        }
    };
    let (program, arguments) = words.split_first()?;
    let is_special = |argument: &&str| argument.starts_with('-') && argument.contains(SPECIAL_OPTIONS);
    let has_own_end = match *program {
        "echo" => {
            arguments.first().is_some_and(|first| first.starts_with('-'))
                || words.iter().any(|word| word.contains("\\c"))
        }
        "git" => arguments.iter().any(|argument| GIT_CONTENTS.contains(argument)),
        _ => false,
    };
    let ends_lines = LINE_PROGRAMS.contains(program) && !has_own_end && !arguments.iter().any(is_special);
    ends_lines.then_some(*program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_programs_that_end_their_output_with_a_line_break_count() {
        for (line, program) in [
            ("echo yes", Some("echo")),
            ("test -f x && echo yes", Some("echo")),
            ("LANG=C git rev-parse HEAD", Some("git")),
            ("cat x | wc -l", Some("wc")),
            ("echo -n yes", None),
            ("echo 'yes\\c'", None),
            ("echo yes | tr -d '\\n'", None),
            ("printf yes", None),
            ("git show HEAD:x", None),
            ("jq -rj .a x.json", None),
            ("python3 x.py", None),
            ("if a; then echo yes; fi", None),
        ] {
            assert_eq!(last_program(&CommandLine::Shell(line.to_owned())), program, "{line}");
        }
        let argv = |words: &[&str]| CommandLine::Argv(words.iter().map(|word| (*word).to_owned()).collect());
        assert_eq!(last_program(&argv(&["echo", "a; b"])), Some("echo"));
        assert_eq!(last_program(&argv(&["printf", "a"])), None);
    }
}
