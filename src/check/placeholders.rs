//! Reports text that would be a placeholder in other tools: `{task}`, `${task}` and `$task`.

use std::ops::Range;

use super::infer::{Checker, ExpressionPlace};
use super::scope::TypeScope;
use crate::diagnostic::Code;

/// Variables of templates that are also ordinary words; they are not reported.
const COMMON: &[&str] = &["index", "item", "loop", "steps"];

impl<'a> Checker<'a> {
    /// Reports placeholders for known variables in text outside of tags.
    pub(super) fn plain_text(&mut self, range: Range<usize>, scope: &TypeScope<'a>) {
        // In a command line, `$name` refers to a variable of the shell.
        let is_command =
            matches!(&self.place, ExpressionPlace::Yaml(pointer) if pointer.split('/').any(|key| key == "run"));
        let text = self.text.get(range.clone()).unwrap_or_default();
        if is_command || !text.contains(['{', '$']) || self.is_raw(range.start) {
            return;
        }
        for (at, name) in names(text) {
            if COMMON.contains(&name) || scope.get(name).is_none() {
                continue;
            }
            let whole = range.start + at.start..range.start + at.end;
            let written = text.get(at).unwrap_or_default();
            let message = format!("`{written}` is not replaced by the value of `{name}`");
            let problem = self.warning(Code::NotReplaced, whole, message);
            self.report(problem.help(format!(
                "write `{{{{ {name} }}}}`, or `{{% raw %}}{written}{{% endraw %}}` for the text itself"
            )));
        }
    }

    /// Whether the text that starts at this offset is inside `{% raw %}`.
    fn is_raw(&self, start: usize) -> bool {
        let before = self.text.get(..start).unwrap_or_default();
        let tag = before.rfind("{%").and_then(|at| before.get(at..)).unwrap_or_default();
        tag.contains("raw") && !tag.contains("endraw") && tag.matches("%}").count() <= 1
    }
}

/// The names in a text that are in single braces or after a `$`, each with the range of the whole placeholder.
fn names(text: &str) -> Vec<(Range<usize>, &str)> {
    let mut found = Vec::new();
    let mut done = 0;
    for (at, char) in text.char_indices() {
        if at < done || !matches!(char, '{' | '$') {
            continue;
        }
        let rest = text.get(at..).unwrap_or_default();
        let open = rest.len() - rest.trim_start_matches('$').trim_start_matches('{').len();
        let braces = rest.get(..open).unwrap_or_default().matches('{').count();
        let dollars = open - braces;
        let after = rest.get(open..).unwrap_or_default();
        let length = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len());
        let name = after.get(..length).unwrap_or_default();
        let closed = after.get(length..).is_some_and(|rest| rest.starts_with('}') && !rest.starts_with("}}"));
        let end = at + open + length + usize::from(braces == 1);
        // Quoted program code has calls and members, as in `$task->run()`.
        let ends = braces == 1 || !after.get(length..).is_some_and(|rest| rest.starts_with(['-', '[', '(', ':', '=']));
        let is_one = dollars + braces > 0 && braces <= 1 && dollars <= 1 && (braces == 0 || closed);
        let inside = text.get(..at).is_some_and(|before| before.ends_with(['{', '$', '\\']));
        if is_one && ends && !inside && !name.is_empty() {
            found.push((at..end, name));
        }
        done = at + open.max(1);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::names;

    #[test]
    fn names_stand_in_single_braces_or_behind_a_dollar() {
        let found = |text| names(text).into_iter().map(|(range, name)| (&text[range], name)).collect::<Vec<_>>();
        assert_eq!(found("a {task} ${plan} $code."), [("{task}", "task"), ("${plan}", "plan"), ("$code", "code")]);
        assert_eq!(found("ends with $task"), [("$task", "task")]);
        for text in
            ["{{task}}", "{ task }", "{task: 1}", "{task", "$$task", "\\$task", "$task->run()", "$5", "{}", "é{", "{é}"]
        {
            let some: Vec<_> = found(text).into_iter().filter(|(_, name)| *name == "task").collect();
            assert!(some.is_empty(), "{text}: {some:?}");
        }
    }
}
