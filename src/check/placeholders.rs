//! Reports placeholders in the syntax of other tools: `{task}`, `${task}` and `$task`.

use std::ops::Range;

use super::infer::{Checker, TextLocation};
use super::scope::TypeScope;
use crate::diagnostic::Code;

/// Variables of templates that are also ordinary words. orch does not report placeholders with these names.
const COMMON_WORDS: &[&str] = &["index", "item", "loop", "steps"];

impl<'a> Checker<'a> {
    /// Reports placeholders for known variables in text outside of tags.
    pub(super) fn check_plain_text(&mut self, range: Range<usize>, scope: &TypeScope<'a>) {
        // In a command line, `$name` refers to a variable of the shell.
        let is_command =
            matches!(&self.location, TextLocation::Yaml(pointer) if pointer.split('/').any(|key| key == "run"));
        let text = self.text.get(range.clone()).unwrap_or_default();
        if is_command || !text.contains(['{', '$']) || self.is_raw(range.start) {
            return;
        }
        for (range_in_text, name) in find_placeholders(text) {
            if COMMON_WORDS.contains(&name) || scope.get(name).is_none() {
                continue;
            }
            let placeholder_range = range.start + range_in_text.start..range.start + range_in_text.end;
            let placeholder = text.get(range_in_text).unwrap_or_default();
            let message = format!("`{placeholder}` is not replaced by the value of `{name}`");
            let diagnostic = self.warning(Code::LiteralPlaceholder, placeholder_range, message);
            self.report(diagnostic.with_help(format!(
                "write `{{{{ {name} }}}}`, or `{{% raw %}}{placeholder}{{% endraw %}}` for literal text"
            )));
        }
    }

    /// Whether the text that starts at this offset is inside `{% raw %}`.
    fn is_raw(&self, start: usize) -> bool {
        let preceding = self.text.get(..start).unwrap_or_default();
        let last_tag = preceding.rfind("{%").and_then(|index| preceding.get(index..)).unwrap_or_default();
        last_tag.contains("raw") && !last_tag.contains("endraw") && last_tag.matches("%}").count() <= 1
    }
}

/// Finds names in single braces or after a `$`, each with the range of the whole placeholder.
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
        let length = after_prefix.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after_prefix.len());
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
        if has_valid_prefix && is_not_code && !is_escaped && !name.is_empty() {
            placeholders.push((start..end, name));
        }
        next_start = start + prefix_length.max(1);
    }
    placeholders
}

#[cfg(test)]
mod tests {
    use super::find_placeholders;

    #[test]
    fn placeholders_are_names_in_single_braces_or_after_a_dollar() {
        let placeholders_in =
            |text| find_placeholders(text).into_iter().map(|(range, name)| (&text[range], name)).collect::<Vec<_>>();
        assert_eq!(
            placeholders_in("a {task} ${plan} $code."),
            [("{task}", "task"), ("${plan}", "plan"), ("$code", "code")]
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
