//! Finds where tags open and close in a text that can't be parsed. A brace that the user meant as text opens a tag, and
//! the parser may notice that only at the end of the file.

use std::ops::Range;

use crate::diagnostic::equivalents;

use super::error::{TemplateError, TemplateErrorKind as Kind};

/// The length in bytes up to which advice repeats a tag.
const LONGEST: usize = 80;

/// The blocks that have an end tag.
const BLOCKS: &[&str] = &["if", "for", "with", "filter", "set", "block", "macro", "call", "autoescape"];

/// The largest text, in bytes, in which each diagnostic gets advice about its tag.
const LARGEST: usize = 64 << 10;

/// A tag in the source text.
#[derive(Clone, Debug, PartialEq, Eq)]
struct SourceTag {
    /// Its byte range, with the braces. Extends to the end of the text if the tag is not closed.
    range: Range<usize>,
    closed: bool,
}

impl TemplateError {
    /// A syntax error of a template, which starts where its tag opens.
    pub(super) fn in_template(error: &minijinja::Error, text: &str) -> Self {
        let found = Self::syntax(error, text);
        let tags = tags(text);
        if let Some(open) = tags.last().filter(|tag| !tag.closed && tag.range.start <= found.range.start) {
            return found.not_closed(text, open);
        }
        if found.message.contains("unexpected end of input")
            && let Some((block, name)) = open_block(text, &tags)
        {
            let message = format!("syntax error: `{{% {name} %}}` is not closed");
            let error = Self::new(Kind::Syntax, text, block.range.clone(), message);
            return error.hint(&format!("close it with `{{% end{name} %}}`"));
        }
        let tag = tags.iter().rev().find(|tag| tag.range.start <= found.range.start);
        if let Some(error) = tag.and_then(|tag| found.known_elsewhere(text, tag, &tags)) {
            return error;
        }
        match tag {
            Some(tag) if found.range.start <= tag.range.end => {
                let range = tag.range.start..found.range.end.max(tag.range.start + 2);
                let error = Self::new(Kind::Syntax, text, range, found.message);
                error.hint(&as_text(text, tag))
            }
            _ => found,
        }
    }

    /// The error with other advice, if the tag's content is known from another language.
    fn known_elsewhere(&self, text: &str, tag: &SourceTag, tags: &[SourceTag]) -> Option<Self> {
        let written = text.get(tag.range.clone())?;
        let inside = written.get(2..written.len().checked_sub(2)?).filter(|_| tag.closed)?;
        let from = tag.range.start + 2;
        if !written.starts_with("{%") {
            return equivalents::in_expression(inside).map(|slip| Self::slip(text, from, slip));
        }
        let new = |help: &str| Self::new(Kind::Syntax, text, tag.range.clone(), self.message.clone()).hint(help);
        let statement = inside.trim_matches(['-', '+']).trim();
        if let Some(help) = equivalents::in_template(statement) {
            return Some(new(help));
        }
        let before: Vec<SourceTag> = tags.iter().filter(|other| other.range.start < tag.range.start).cloned().collect();
        if let Some((_, name)) = open_block(text, &before).filter(|_| statement.starts_with("end")) {
            return Some(new(&format!("`{{% {name} %}}` is open here: close it first, with `{{% end{name} %}}`")));
        }
        // In `if` and `elif`, the expression follows the first word. In other statements, `=` is an assignment and not
        // a slip.
        let word = statement.split_whitespace().next().filter(|word| matches!(*word, "if" | "elif"))?;
        let at = inside.find(word)? + word.len();
        equivalents::in_expression(inside.get(at..)?).map(|slip| Self::slip(text, from + at, slip))
    }

    fn not_closed(self, text: &str, tag: &SourceTag) -> Self {
        let open = text.get(tag.range.clone()).unwrap_or_default();
        let line_end = open.find('\n').unwrap_or(open.len());
        let (message, end) = match open.get(..2) {
            Some("{#") => ("syntax error: the comment that `{#` opens is not closed by `#}`".to_owned(), 2),
            _ if is_raw(open) => ("syntax error: `{% raw %}` is not closed by `{% endraw %}`".to_owned(), line_end),
            _ => (self.message, line_end),
        };
        let range = tag.range.start..tag.range.start + end;
        let error = Self::new(Kind::Syntax, text, range, message);
        if is_raw(open) {
            return error.hint("add `{% endraw %}`");
        }
        let text_advice = as_text(text, tag);
        match one_brace_short(open) {
            Some(name) => {
                error.hint(&format!("{text_advice}; a value is printed with two on each side: `{{{{ {name} }}}}`"))
            }
            None => error.hint(&text_advice),
        }
    }

    /// Adds advice on keeping braces as text if a `$` before the tag shows that the text is meant for another program.
    pub(super) fn with_braces_as_text(self, text: &str) -> Self {
        match braces_as_text(text, self.range.start) {
            Some(advice) if self.hint.is_none() && follows_dollar(text, self.range.start) => self.hint(&advice),
            _ => self,
        }
    }
}

/// The name in a tag such as `{{name}`, which lacks a closing brace.
fn one_brace_short(open: &str) -> Option<&str> {
    let name = open.strip_prefix("{{")?.split_once('}')?.0.trim();
    let is_path = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '.'));
    is_path.then_some(name)
}

/// How to write the tag around this offset if its braces are meant as text; `None` outside of tags.
pub(crate) fn braces_as_text(text: &str, at: usize) -> Option<String> {
    let tag = tag_at(text, at)?;
    Some(as_text(text, &tag))
}

/// Whether a `$` precedes the tag around this offset, as in the `${{ … }}` of other programs.
pub(crate) fn follows_dollar(text: &str, at: usize) -> bool {
    tag_at(text, at).is_some_and(|tag| text.get(..tag.range.start).is_some_and(|before| before.ends_with('$')))
}

fn tag_at(text: &str, at: usize) -> Option<SourceTag> {
    // Each call scans the whole text, and every tag may have a diagnostic.
    if text.len() > LARGEST {
        return None;
    }
    tags(text).into_iter().find(|tag| tag.range.contains(&at))
}

fn as_text(text: &str, tag: &SourceTag) -> String {
    let rest = text.get(tag.range.start..).unwrap_or_default();
    let line = rest.lines().next().unwrap_or_default();
    let end = if tag.closed { tag.range.len() } else { line.find('}').map_or(2, |at| at + 1) };
    let shown = line.get(..end).filter(|shown| shown.len() <= LONGEST).or_else(|| line.get(..2)).unwrap_or_default();
    format!("if these braces are meant as text, write `{{% raw %}}{shown}{{% endraw %}}`")
}

/// The innermost block without an end tag, and its name.
fn open_block<'a>(text: &str, tags: &'a [SourceTag]) -> Option<(&'a SourceTag, String)> {
    let mut open: Vec<(&SourceTag, String)> = Vec::new();
    for tag in tags {
        let Some(inside) = text.get(tag.range.clone()).and_then(|tag| tag.strip_prefix("{%")) else { continue };
        let inside = inside.trim_start_matches(['-', '+']).trim_start();
        let name: String = inside.chars().take(16).take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        if name.starts_with("end") {
            open.pop();
        } else if BLOCKS.contains(&name.as_str()) && !(name == "set" && inside.contains('=')) {
            open.push((tag, name));
        }
    }
    open.pop()
}

/// The tags of a text in order. The content of `{% raw %}` has none.
fn tags(text: &str) -> Vec<SourceTag> {
    let mut tags = Vec::new();
    let mut from = 0;
    while let Some(start) = next_open(text, from) {
        let length = text.get(start..).and_then(length);
        let end = length.map_or(text.len(), |length| start + length);
        tags.push(SourceTag { range: start..end, closed: length.is_some() });
        from = end;
    }
    tags
}

fn next_open(text: &str, from: usize) -> Option<usize> {
    let rest = text.as_bytes().get(from..)?;
    let opens = |pair: &[u8]| matches!(pair, [b'{', b'{' | b'%' | b'#']);
    rest.windows(2).position(opens).map(|at| from + at)
}

/// The length of the tag at the start of a text; `None` if it is not closed.
fn length(rest: &str) -> Option<usize> {
    match rest.get(..2)? {
        "{#" => rest.find("#}").map(|at| at + 2),
        _ if is_raw(rest) => end_of_raw(rest),
        open => end_of_code(rest, if open == "{%" { "%}" } else { "}}" }),
    }
}

fn is_raw(rest: &str) -> bool {
    is_tag_of(rest, "raw")
}

fn is_tag_of(rest: &str, name: &str) -> bool {
    let Some(inside) = rest.strip_prefix("{%") else { return false };
    let inside = inside.trim_start_matches(['-', '+']).trim_start();
    let Some(after) = inside.strip_prefix(name) else { return false };
    after.trim_start().trim_start_matches(['-', '+']).starts_with("%}")
}

fn end_of_raw(rest: &str) -> Option<usize> {
    let mut ends = rest.match_indices("{%").map(|(at, _)| at);
    let at = ends.find(|at| rest.get(*at..).is_some_and(|tag| is_tag_of(tag, "endraw")))?;
    let close = rest.get(at..)?.find("%}")?;
    Some(at + close + 2)
}

/// The end of a tag that contains an expression, whose strings may contain braces.
fn end_of_code(rest: &str, close: &str) -> Option<usize> {
    let (mut quote, mut escaped) = (None, false);
    for (at, char) in rest.char_indices().skip(2) {
        match (quote, char) {
            (Some(_), _) if escaped => escaped = false,
            (Some(_), '\\') => escaped = true,
            (Some(open), char) if open == char => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(char),
            (None, _) if rest.get(at..).is_some_and(|rest| rest.starts_with(close)) => return Some(at + 2),
            (None, _) => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::inspect_template;

    /// The line, the start and the advice of the first error of a text.
    fn first(text: &str) -> (usize, usize, String) {
        let error = inspect_template(text).unwrap_err().remove(0);
        (error.line, error.range.start, error.hint.unwrap_or_default())
    }

    /// The text that the advice says to write.
    fn written(advice: &str) -> &str {
        advice.split('`').nth(1).unwrap()
    }

    #[test]
    fn braces_that_are_text_are_told_where_they_open_and_the_advice_checks_clean() {
        let more = "Text.\n".repeat(30);
        for (text, opens, meant) in [
            (format!("## Installing {{#install}}\n\n{more}"), 14, "{#install}"),
            (format!("One {{#a}} line\n{more}"), 4, "{#a}"),
            ("Use style={{ color: 'red' }} in it.\n".to_owned(), 10, "{{ color: 'red' }}"),
            ("Write \\frac{%a%}.\n".to_owned(), 11, "{%a%}"),
            (format!("Write \\frac{{%a}}.\n{more}"), 11, "{%a}"),
            (format!("A set {{{{a, b}}\n{more}"), 6, "{{a, b}"),
            ("{{#if name}}x{{/if}}\n".to_owned(), 0, "{{#if name}}"),
            ("{{- define \"x\" -}}\n".to_owned(), 0, "{{- define \"x\" -}}"),
            (format!("It ends with {{{{\n{more}"), 13, "{{"),
        ] {
            let (line, start, advice) = first(&text);
            assert_eq!((line, start), (1, opens), "{text}");
            let escaped = written(&advice);
            assert_eq!(escaped, format!("{{% raw %}}{meant}{{% endraw %}}"), "{text}");
            let mended = text.replacen(meant, escaped, 1);
            let again = inspect_template(&mended);
            // Handlebars have an end tag of their own, which stays an error.
            let again =
                again.map(drop).map_err(|errors| errors.into_iter().map(|error| error.range.start).collect::<Vec<_>>());
            assert!(
                again.is_ok() || again == Err(vec![mended.find("{{/if}}").unwrap_or_default()]),
                "{mended}: {again:?}"
            );
        }
    }

    #[test]
    fn a_tag_of_another_language_that_begins_with_a_keyword_is_advised_to_be_text() {
        for tag in ["{{- if .Values.x }}", "{{ if .Values.x }}", "{{- not.a }}"] {
            assert_eq!(written(&first(tag).2), format!("{{% raw %}}{tag}{{% endraw %}}"));
        }
        assert!(first("{{ 1 + if.x }}").2.contains("parentheses"));
    }

    #[test]
    fn a_block_that_is_not_closed_is_told_where_it_opens() {
        let text = "{% for a in b %}\n{% if a %}x{% endif %}\n{% set c = 1 %}\n{% if c %}\ntext\n";
        assert_eq!(first(text), (4, text.rfind("{% if c").unwrap(), "close it with `{% endif %}`".to_owned()));
        let text = "a\n{% raw %}\n{{ x }}";
        assert_eq!(first(text), (2, 2, "add `{% endraw %}`".to_owned()));
    }

    #[test]
    fn tags_end_where_the_parser_ends_them() {
        let text = "{{ '}}' }} {% if a == \"%}\" %}{% endif %} {# {{ #} {% raw %}{{ {% endraw %} {{ x";
        let found: Vec<(&str, bool)> =
            tags(text).into_iter().map(|tag| (text.get(tag.range.clone()).unwrap(), tag.closed)).collect();
        assert_eq!(
            found,
            [
                ("{{ '}}' }}", true),
                ("{% if a == \"%}\" %}", true),
                ("{% endif %}", true),
                ("{# {{ #}", true),
                ("{% raw %}{{ {% endraw %}", true),
                ("{{ x", false),
            ]
        );
    }
}
