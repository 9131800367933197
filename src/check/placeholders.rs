//! Reports placeholders in the syntax of other tools: `{task}`, `${task.title}`, `$task`, `[[ task ]]`, `<%= task %>`,
//! `%(task)s`, and `{ task }}` with half of its braces.

use std::ops::Range;

use super::infer::{Checker, TextLocation};
use super::scope::TypeScope;
use crate::diagnostic::Code;
use crate::model::step::CommandLine;

/// Variables of templates that are also ordinary words. orch does not report placeholders with these names.
const COMMON_WORDS: &[&str] = &["index", "item", "loop", "steps"];

/// How tags of other tools begin and end.
const FOREIGN_TAGS: &[(&str, &str)] = &[("[[", "]]"), ("<%=", "%>"), ("%(", ")s"), ("{", "}}")];

/// Programs whose arguments are code, in which braces and `$` have a meaning of their own.
const CODE_PROGRAMS: &[&str] = &["awk", "gawk", "mawk", "jq", "yq", "sed", "perl", "sh", "bash", "dash", "zsh", "ksh"];
/// Options whose next argument is code.
const CODE_OPTIONS: &[&str] = &["-c", "-e", "--eval", "-command"];

/// How a text uses braces and `$` itself.
#[derive(Clone, Copy, PartialEq, Eq)]
enum PlaceholderUse {
    /// Not at all.
    Plain,
    /// It is a line for a shell, which replaces `$name`.
    ShellLine,
    /// It is code of another language.
    Code,
}

impl<'a> Checker<'a> {
    /// Reports placeholders for known variables in text outside of tags.
    pub(super) fn check_plain_text(&mut self, range: Range<usize>, scope: &TypeScope<'a>) {
        let text = self.text.get(range.clone()).unwrap_or_default();
        let placeholder_use = self.placeholder_use();
        if placeholder_use == PlaceholderUse::Code
            || !text.contains(['{', '$', '[', '<', '%'])
            || self.is_raw(range.start)
        {
            return;
        }
        let mut placeholders = find_placeholders(text);
        if placeholder_use == PlaceholderUse::Plain {
            placeholders.extend(find_foreign_tags(text));
        }
        for (range_in_text, path) in placeholders {
            let name = path.split('.').next().unwrap_or(path);
            if COMMON_WORDS.contains(&name) || scope.get(name).is_none() {
                continue;
            }
            let placeholder_range = range.start + range_in_text.start..range.start + range_in_text.end;
            let placeholder = text.get(range_in_text).unwrap_or_default();
            let is_shell_line = placeholder_use == PlaceholderUse::ShellLine;
            if is_shell_line && (is_in_single_quotes(self.text, placeholder_range.start) || self.sets_variable(name)) {
                continue;
            }
            let message = format!("`{placeholder}` is not replaced by the value of `{path}`");
            let diagnostic = self.warning(Code::LiteralPlaceholder, placeholder_range, message);
            let is_shell_variable = is_shell_line && placeholder.starts_with('$') && path == name;
            self.report(diagnostic.with_help(if is_shell_variable {
                format!("write `{{{{ {name} }}}}`; a variable of the environment is listed, as `env: [{name}]`")
            } else {
                format!("write `{{{{ {path} }}}}`, or `{{% raw %}}{placeholder}{{% endraw %}}` for literal text")
            }));
        }
    }

    /// How the current text uses braces and `$` itself.
    fn placeholder_use(&self) -> PlaceholderUse {
        let (TextLocation::Yaml(pointer), Some(scoped_step)) = (&self.location, self.scoped_step) else {
            return PlaceholderUse::Plain;
        };
        let key = pointer.strip_prefix(scoped_step.pointer.as_str()).unwrap_or_default();
        match (&scoped_step.step.run, key.strip_prefix("/run")) {
            (Some(CommandLine::Shell(_)), Some("")) => PlaceholderUse::ShellLine,
            (Some(CommandLine::Argv(argv)), Some(_)) => {
                let program = argv.first().and_then(|program| program.rsplit('/').next()).unwrap_or_default();
                let is_code = CODE_PROGRAMS.contains(&program)
                    || argv.iter().any(|argument| CODE_OPTIONS.contains(&argument.as_str()));
                if is_code { PlaceholderUse::Code } else { PlaceholderUse::Plain }
            }
            (_, _) => PlaceholderUse::Plain,
        }
    }

    /// Whether a variable of this name exists in the shell that runs the current text.
    fn sets_variable(&self, name: &str) -> bool {
        let is_passed = self.scoped_step.is_some_and(|scoped_step| scoped_step.step.env.iter().any(|env| env == name));
        is_passed || assigns(self.text, name)
    }

    /// Whether the text that starts at this offset is inside `{% raw %}`.
    fn is_raw(&self, start: usize) -> bool {
        let preceding = self.text.get(..start).unwrap_or_default();
        let last_tag = preceding.rfind("{%").and_then(|index| preceding.get(index..)).unwrap_or_default();
        last_tag.contains("raw") && !last_tag.contains("endraw") && last_tag.matches("%}").count() <= 1
    }
}

/// Whether a script for a shell sets a variable: by an assignment, or as the variable of `for` or `read`.
fn assigns(script: &str, name: &str) -> bool {
    let is_name_char = |c: char| c.is_alphanumeric() || c == '_';
    script.match_indices(name).any(|(start, _)| {
        let (preceding, following) = (script.get(..start).unwrap_or_default(), script.get(start + name.len()..));
        let following = following.unwrap_or_default();
        let is_word = !preceding.ends_with(is_name_char) && !following.starts_with(is_name_char);
        let last_words = preceding.rsplit(['\n', ';', '&', '|', '(']).next().unwrap_or_default();
        let is_read = last_words.split_whitespace().any(|word| matches!(word, "for" | "read" | "export" | "local"));
        let is_reference = preceding.ends_with(['$', '{']);
        is_word && !is_reference && (following.starts_with('=') || is_read)
    })
}

/// Whether a position of a script for a shell is inside single quotes, where the shell replaces nothing.
fn is_in_single_quotes(script: &str, offset: usize) -> bool {
    let (mut quote, mut previous) = (None, ' ');
    for c in script.get(..offset).unwrap_or_default().chars() {
        match (quote, c) {
            (Some(open), c) if c == open && (open == '\'' || previous != '\\') => quote = None,
            (None, '\'' | '"') if previous != '\\' => quote = Some(c),
            (_, _) => {}
        }
        previous = c;
    }
    quote == Some('\'')
}

/// Finds paths in tags of other tools, each with the range of the whole tag.
fn find_foreign_tags(text: &str) -> Vec<(Range<usize>, &str)> {
    let mut tags = Vec::new();
    for (opening, closing) in FOREIGN_TAGS {
        for (start, _) in text.match_indices(opening) {
            let inner_start = start + opening.len();
            let rest = text.get(inner_start..).unwrap_or_default();
            let Some(length) = rest.find(closing) else { break };
            let path = rest.get(..length).unwrap_or_default().trim();
            let is_escaped = text.get(..start).is_some_and(|preceding| preceding.ends_with(['{', '$', '\\', '%']));
            if is_path(path) && !is_escaped {
                tags.push((start..inner_start + length + closing.len(), path));
            }
        }
    }
    tags
}

/// Whether a text is the name of a variable, or a path such as `plan.title`.
fn is_path(text: &str) -> bool {
    text.split('.').all(|name| {
        name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    })
}

/// Finds names and paths in single braces, and names after a `$`, each with the range of the whole placeholder.
fn find_placeholders(text: &str) -> Vec<(Range<usize>, &str)> {
    let mut placeholders = Vec::new();
    let mut next_start = 0;
    for (start, c) in text.char_indices() {
        if start < next_start || !matches!(c, '{' | '$') {
            continue;
        }
        let remaining = text.get(start..).unwrap_or_default();
        let prefix_length = remaining.len() - remaining.trim_start_matches('$').trim_start_matches('{').len();
        let brace_count = remaining.get(..prefix_length).unwrap_or_default().matches('{').count();
        let dollar_count = prefix_length - brace_count;
        let after_prefix = remaining.get(prefix_length..).unwrap_or_default();
        // After a `$` without braces, a full stop may end a sentence.
        let is_path_char = |c: char| c.is_ascii_alphanumeric() || c == '_' || (c == '.' && brace_count == 1);
        let length = after_prefix.find(|c: char| !is_path_char(c)).unwrap_or(after_prefix.len());
        let name = after_prefix.get(..length).unwrap_or_default();
        let is_closed =
            after_prefix.get(length..).is_some_and(|suffix| suffix.starts_with('}') && !suffix.starts_with("}}"));
        let end = start + prefix_length + length + usize::from(brace_count == 1);
        // In quoted program code, a call or a member may follow a variable, as in `$task->run()`.
        let is_not_code = brace_count == 1
            || !after_prefix.get(length..).is_some_and(|suffix| suffix.starts_with(['-', '[', '(', ':', '=']));
        let has_valid_prefix =
            dollar_count + brace_count > 0 && brace_count <= 1 && dollar_count <= 1 && (brace_count == 0 || is_closed);
        let is_escaped = text.get(..start).is_some_and(|preceding| preceding.ends_with(['{', '$', '\\']));
        if has_valid_prefix && is_not_code && !is_escaped && is_path(name) {
            placeholders.push((start..end, name));
        }
        next_start = start + prefix_length.max(1);
    }
    placeholders
}

#[cfg(test)]
mod tests {
    use super::{assigns, find_foreign_tags, find_placeholders, is_in_single_quotes};

    #[test]
    fn a_script_that_sets_a_variable_may_use_it() {
        for script in ["task=1; echo $task", "for task in a b; do echo $task; done", "read -r a task; echo $task"] {
            assert!(assigns(script, "task"), "{script}");
        }
        for script in ["echo $task", "echo ${task}", "my_task=1; echo $task", "echo task"] {
            assert!(!assigns(script, "task"), "{script}");
        }
        assert!(is_in_single_quotes("awk '{print $task}'", 12));
        assert!(!is_in_single_quotes("echo \"it's $task\"", 12));
        assert!(!is_in_single_quotes("echo 'a' $task", 10));
    }

    #[test]
    fn tags_of_other_tools_are_placeholders() {
        let text = "[[ plan.title ]] [[a]] <%= task %> %(task)s { plan.title }} a{b}}";
        let tags: Vec<_> = find_foreign_tags(text).into_iter().map(|(range, path)| (&text[range], path)).collect();
        assert_eq!(
            tags,
            [
                ("[[ plan.title ]]", "plan.title"),
                ("[[a]]", "a"),
                ("<%= task %>", "task"),
                ("%(task)s", "task"),
                ("{ plan.title }}", "plan.title"),
                ("{b}}", "b")
            ]
        );
        for text in ["[[ -n a ]]", "[[1, 2]]", "%(a b)s", "{{ task }}", "{ \"a\": {} }}", "[[a", "50 % (a)s"] {
            assert!(find_foreign_tags(text).is_empty(), "{text}");
        }
    }

    #[test]
    fn placeholders_are_names_in_single_braces_or_after_a_dollar() {
        let placeholders_in =
            |text| find_placeholders(text).into_iter().map(|(range, name)| (&text[range], name)).collect::<Vec<_>>();
        assert_eq!(
            placeholders_in("a {task} ${plan} $code."),
            [("{task}", "task"), ("${plan}", "plan"), ("$code", "code")]
        );
        assert_eq!(
            placeholders_in("{plan.title} ${plan.steps.first} $code.x {a..b} {.a}"),
            [("{plan.title}", "plan.title"), ("${plan.steps.first}", "plan.steps.first"), ("$code", "code")]
        );
        assert_eq!(placeholders_in("ends with $task"), [("$task", "task")]);
        for text in
            ["{{task}}", "{ task }", "{task: 1}", "{task", "$$task", "\\$task", "$task->run()", "$5", "{}", "é{", "{é}"]
        {
            let placeholders: Vec<_> = placeholders_in(text).into_iter().filter(|(_, name)| *name == "task").collect();
            assert!(placeholders.is_empty(), "{text}: {placeholders:?}");
        }
    }
}
