//! Finds where tags open and close in a text that can't be parsed. A brace that the user meant as text opens a tag, and
//! the parser may report this only at the end of the file.

use std::ops::Range;

use crate::diagnostic::equivalents;

use super::error::{TemplateError, TemplateErrorKind};

/// The maximum length of a tag that a help text quotes, in bytes.
const MAX_QUOTED_TAG_BYTES: usize = 80;

/// The blocks that have an end tag.
const BLOCKS: &[&str] = &["if", "for", "with", "filter", "set", "block", "macro", "call", "autoescape"];

/// The maximum length of a text in which orch looks for the tag around each error, in bytes.
const MAX_SCANNED_TEXT_BYTES: usize = 64 << 10;

/// A tag in the source text.
#[derive(Clone, Debug, PartialEq, Eq)]
struct SourceTag {
    /// Its byte range, with the braces. Extends to the end of the text if the tag is not closed.
    range: Range<usize>,
    closed: bool,
}

impl TemplateError {
    /// A syntax error of a template. Its range starts where the tag that contains it opens.
    pub(super) fn from_template_parser(error: &minijinja::Error, text: &str) -> Self {
        let error = Self::from_syntax_error(error, text);
        let tags = find_tags(text);
        if let Some(unclosed) = tags.last().filter(|tag| !tag.closed && tag.range.start <= error.range.start) {
            return error.unclosed_tag_error(text, unclosed);
        }
        if error.message.contains("unexpected end of input")
            && let Some((block, name)) = innermost_open_block(text, &tags)
        {
            let message = format!("syntax error: `{{% {name} %}}` is not closed");
            let error = Self::new(TemplateErrorKind::Syntax, text, block.range.clone(), message);
            return error.with_help(&format!("close it with `{{% end{name} %}}`"));
        }
        let tag = tags.iter().rev().find(|tag| tag.range.start <= error.range.start);
        if let Some(error) = tag.and_then(|tag| error.foreign_syntax_error(text, tag, &tags)) {
            return error;
        }
        match tag {
            Some(tag) if error.range.start <= tag.range.end => {
                let range = tag.range.start..error.range.end.max(tag.range.start + 2);
                let error = Self::new(TemplateErrorKind::Syntax, text, range, error.message);
                error.with_help(&braces_help(text, tag))
            }
            _ => error,
        }
    }

    /// The error with help about the syntax of another language, if the tag contains such syntax.
    fn foreign_syntax_error(&self, text: &str, tag: &SourceTag, tags: &[SourceTag]) -> Option<Self> {
        let tag_text = text.get(tag.range.clone())?;
        let content = tag_text.get(2..tag_text.len().checked_sub(2)?).filter(|_| tag.closed)?;
        let content_start = tag.range.start + 2;
        if !tag_text.starts_with("{%") {
            return equivalents::find_expression_mistake(content)
                .map(|mistake| Self::from_syntax_mistake(text, content_start, mistake));
        }
        let new_error = |help: &str| {
            Self::new(TemplateErrorKind::Syntax, text, tag.range.clone(), self.message.clone()).with_help(help)
        };
        let statement = content.trim_matches(['-', '+']).trim();
        if let Some(help) = equivalents::template_tag_help(statement) {
            return Some(new_error(help));
        }
        let earlier_tags: Vec<SourceTag> =
            tags.iter().filter(|earlier| earlier.range.start < tag.range.start).cloned().collect();
        if matches!(statement.split_whitespace().next(), Some("else" | "elif")) {
            match open_block_with_else(text, &earlier_tags) {
                Some((name, true)) => {
                    return Some(new_error(&format!(
                        "`{{% {name} %}}` has an `{{% else %}}` already: write `{{% elif CONDITION %}}` for another case \
                         before it, or remove this one"
                    )));
                }
                None => {
                    return Some(new_error(&format!(
                        "no `{{% if %}}` is open here: write `{{% if CONDITION %}}` before, or remove `{{% {statement} %}}`"
                    )));
                }
                Some((_, false)) => {}
            }
        }
        if let Some((_, name)) = innermost_open_block(text, &earlier_tags).filter(|_| statement.starts_with("end")) {
            return Some(new_error(&format!(
                "`{{% {name} %}}` is open here: close it first, with `{{% end{name} %}}`"
            )));
        }
        // In `if` and `elif`, the expression follows the first word. In other statements, `=` is an assignment and not
        // a mistake.
        let keyword = statement.split_whitespace().next().filter(|keyword| matches!(*keyword, "if" | "elif"))?;
        let offset = content.find(keyword)? + keyword.len();
        equivalents::find_expression_mistake(content.get(offset..)?)
            .map(|mistake| Self::from_syntax_mistake(text, content_start + offset, mistake))
    }

    fn unclosed_tag_error(self, text: &str, tag: &SourceTag) -> Self {
        let tag_text = text.get(tag.range.clone()).unwrap_or_default();
        let line_end = tag_text.find('\n').unwrap_or(tag_text.len());
        let (message, end) = match tag_text.get(..2) {
            Some("{#") => ("syntax error: the comment that `{#` opens is not closed by `#}`".to_owned(), 2),
            _ if is_raw(tag_text) => ("syntax error: `{% raw %}` is not closed by `{% endraw %}`".to_owned(), line_end),
            _ => (self.message, line_end),
        };
        let range = tag.range.start..tag.range.start + end;
        let error = Self::new(TemplateErrorKind::Syntax, text, range, message);
        if is_raw(tag_text) {
            return error.with_help("add `{% endraw %}`");
        }
        error.with_help(&braces_help(text, tag))
    }

    /// Sets the help on how to keep braces as text, if a `$` before the tag shows that the tag is meant for another
    /// program.
    pub(super) fn with_literal_braces_help(self, text: &str) -> Self {
        match literal_braces_help(text, self.range.start) {
            Some(help) if self.help.is_none() && follows_dollar(text, self.range.start) => self.with_help(&help),
            _ => self,
        }
    }
}

/// Help for braces that do not enclose a valid tag: how to close them if they are meant as a tag, and how to write them if
/// they are meant as text.
fn braces_help(text: &str, tag: &SourceTag) -> String {
    let raw_block_help = raw_block_help(text, tag);
    match text.get(tag.range.clone()).and_then(half_closed_name) {
        Some(name) => format!("close it with `}}}}`: write `{{{{ {name} }}}}`; {raw_block_help}"),
        None => match text.get(tag.range.clone()).and_then(equivalents::handlebars_help) {
            Some(help) => format!("{raw_block_help}; {help}"),
            None => raw_block_help,
        },
    }
}

/// The name in a tag such as `{{name}`, which lacks a closing brace. The tag may end with that of a later one.
fn half_closed_name(tag_text: &str) -> Option<&str> {
    let (name, following) = tag_text.strip_prefix("{{")?.split_once('}')?;
    let name = Some(name.trim()).filter(|_| !following.starts_with('}'))?;
    let is_path = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '.'));
    is_path.then_some(name)
}

/// Help on how to write the tag around this offset as plain text; `None` outside tags.
pub(crate) fn literal_braces_help(text: &str, offset: usize) -> Option<String> {
    let tag = tag_at(text, offset)?;
    Some(raw_block_help(text, &tag))
}

/// Whether a `$` precedes the tag around this offset, as in the `${{ … }}` of other programs.
pub(crate) fn follows_dollar(text: &str, offset: usize) -> bool {
    tag_at(text, offset)
        .is_some_and(|tag| text.get(..tag.range.start).is_some_and(|preceding| preceding.ends_with('$')))
}

fn tag_at(text: &str, offset: usize) -> Option<SourceTag> {
    // Each call scans the whole text, and every tag may have a diagnostic.
    if text.len() > MAX_SCANNED_TEXT_BYTES {
        return None;
    }
    find_tags(text).into_iter().find(|tag| tag.range.contains(&offset))
}

fn raw_block_help(text: &str, tag: &SourceTag) -> String {
    let remaining = text.get(tag.range.start..).unwrap_or_default();
    let line = remaining.lines().next().unwrap_or_default();
    let is_closed = tag.closed && text.get(tag.range.clone()).and_then(half_closed_name).is_none();
    let end = if is_closed { tag.range.len() } else { line.find('}').map_or(2, |offset| offset + 1) };
    let quoted = line
        .get(..end)
        .filter(|quoted| quoted.len() <= MAX_QUOTED_TAG_BYTES)
        .or_else(|| line.get(..2))
        .unwrap_or_default();
    format!("if these braces are meant as text, write `{{% raw %}}{quoted}{{% endraw %}}`")
}

/// The innermost block without an end tag, and its name.
fn innermost_open_block<'a>(text: &str, tags: &'a [SourceTag]) -> Option<(&'a SourceTag, String)> {
    let mut open_blocks: Vec<(&SourceTag, String)> = Vec::new();
    for tag in tags {
        let name = statement_name(text, tag);
        if name.starts_with("end") {
            open_blocks.pop();
        } else if BLOCKS.contains(&name.as_str()) && !is_inline_set(text, tag) {
            open_blocks.push((tag, name));
        }
    }
    open_blocks.pop()
}

/// The name of the innermost `if` or `for` without an end tag, and whether it has an `{% else %}`.
fn open_block_with_else(text: &str, tags: &[SourceTag]) -> Option<(String, bool)> {
    let (block, name) = innermost_open_block(text, tags)?;
    let mut depth = 0_usize;
    let mut has_else = false;
    for tag in tags.iter().filter(|tag| tag.range.start > block.range.start) {
        match statement_name(text, tag).as_str() {
            name if name.starts_with("end") => depth = depth.saturating_sub(1),
            name if BLOCKS.contains(&name) && !is_inline_set(text, tag) => depth += 1,
            "else" if depth == 0 => has_else = true,
            _ => {}
        }
    }
    Some((name, has_else))
}

/// The first word of a statement; empty for any other tag.
fn statement_name(text: &str, tag: &SourceTag) -> String {
    let content = text.get(tag.range.clone()).and_then(|tag| tag.strip_prefix("{%")).unwrap_or_default();
    let content = content.trim_start_matches(['-', '+']).trim_start();
    content.chars().take(16).take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// Whether a tag is a `set` that has no end tag.
fn is_inline_set(text: &str, tag: &SourceTag) -> bool {
    statement_name(text, tag) == "set" && text.get(tag.range.clone()).is_some_and(|tag| tag.contains('='))
}

/// The ranges of the comments `{# … #}` of a template, in order.
pub fn comments(text: &str) -> Vec<Range<usize>> {
    let is_comment =
        |tag: &SourceTag| tag.closed && text.get(tag.range.clone()).is_some_and(|source| source.starts_with("{#"));
    find_tags(text).into_iter().filter(is_comment).map(|tag| tag.range).collect()
}

/// The tags of a text in order. The content of `{% raw %}` contains no tags.
fn find_tags(text: &str) -> Vec<SourceTag> {
    let mut tags = Vec::new();
    let mut search_start = 0;
    while let Some(start) = find_tag_start(text, search_start) {
        let tag_length = text.get(start..).and_then(tag_length);
        let end = tag_length.map_or(text.len(), |tag_length| start + tag_length);
        tags.push(SourceTag { range: start..end, closed: tag_length.is_some() });
        search_start = end;
    }
    tags
}

fn find_tag_start(text: &str, search_start: usize) -> Option<usize> {
    let remaining = text.as_bytes().get(search_start..)?;
    let is_tag_start = |pair: &[u8]| matches!(pair, [b'{', b'{' | b'%' | b'#']);
    remaining.windows(2).position(is_tag_start).map(|offset| search_start + offset)
}

/// The length of the tag at the start of a text; `None` if it is not closed.
fn tag_length(remaining: &str) -> Option<usize> {
    match remaining.get(..2)? {
        "{#" => remaining.find("#}").map(|offset| offset + 2),
        _ if is_raw(remaining) => raw_block_length(remaining),
        opening => code_tag_length(remaining, if opening == "{%" { "%}" } else { "}}" }),
    }
}

fn is_raw(text: &str) -> bool {
    is_tag_named(text, "raw")
}

fn is_tag_named(text: &str, name: &str) -> bool {
    let Some(content) = text.strip_prefix("{%") else { return false };
    let content = content.trim_start_matches(['-', '+']).trim_start();
    let Some(following) = content.strip_prefix(name) else { return false };
    following.trim_start().trim_start_matches(['-', '+']).starts_with("%}")
}

fn raw_block_length(remaining: &str) -> Option<usize> {
    let mut tag_starts = remaining.match_indices("{%").map(|(offset, _)| offset);
    let offset = tag_starts.find(|offset| remaining.get(*offset..).is_some_and(|tag| is_tag_named(tag, "endraw")))?;
    let closing = remaining.get(offset..)?.find("%}")?;
    Some(offset + closing + 2)
}

/// The length of a tag that contains an expression. Braces in the strings of the expression do not close the tag.
fn code_tag_length(remaining: &str, closing: &str) -> Option<usize> {
    let (mut quote, mut escaped) = (None, false);
    for (offset, c) in remaining.char_indices().skip(2) {
        match (quote, c) {
            (Some(_), _) if escaped => escaped = false,
            (Some(_), '\\') => escaped = true,
            (Some(open), c) if open == c => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, _) if remaining.get(offset..).is_some_and(|remaining| remaining.starts_with(closing)) => {
                return Some(offset + 2);
            }
            (None, _) => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::inspect_template;

    /// The line, the start and the help of the first error of a text.
    fn first_error(text: &str) -> (usize, usize, String) {
        let error = inspect_template(text).unwrap_err().remove(0);
        (error.line, error.range.start, error.help.unwrap_or_default())
    }

    /// The text that the help recommends.
    fn recommended_text(help: &str) -> &str {
        help.split('`').nth(1).unwrap()
    }

    #[test]
    fn literal_braces_are_reported_at_their_start_with_valid_help() {
        let filler = "Text.\n".repeat(30);
        for (text, open_offset, braces) in [
            (format!("## Installing {{#install}}\n\n{filler}"), 14, "{#install}"),
            (format!("One {{#a}} line\n{filler}"), 4, "{#a}"),
            ("Use style={{ color: 'red' }} in it.\n".to_owned(), 10, "{{ color: 'red' }}"),
            ("Write \\frac{%a%}.\n".to_owned(), 11, "{%a%}"),
            (format!("Write \\frac{{%a}}.\n{filler}"), 11, "{%a}"),
            (format!("A set {{{{a, b}}\n{filler}"), 6, "{{a, b}"),
            ("{{#if name}}x{{/if}}\n".to_owned(), 0, "{{#if name}}"),
            ("{{- define \"x\" -}}\n".to_owned(), 0, "{{- define \"x\" -}}"),
            (format!("It ends with {{{{\n{filler}"), 13, "{{"),
        ] {
            let (line, start, help) = first_error(&text);
            assert_eq!((line, start), (1, open_offset), "{text}");
            let escaped = recommended_text(&help);
            assert_eq!(escaped, format!("{{% raw %}}{braces}{{% endraw %}}"), "{text}");
            let fixed = text.replacen(braces, escaped, 1);
            let result = inspect_template(&fixed);
            // A Handlebars block also has an end tag, which is still an error after the fix of its start.
            let result = result
                .map(drop)
                .map_err(|errors| errors.into_iter().map(|error| error.range.start).collect::<Vec<_>>());
            assert!(
                result.is_ok() || result == Err(vec![fixed.find("{{/if}}").unwrap_or_default()]),
                "{fixed}: {result:?}"
            );
        }
    }

    #[test]
    fn the_help_for_a_foreign_tag_that_begins_with_a_keyword_keeps_it_as_text() {
        for tag in ["{{- if .Values.x }}", "{{ if .Values.x }}", "{{- not.a }}"] {
            assert_eq!(recommended_text(&first_error(tag).2), format!("{{% raw %}}{tag}{{% endraw %}}"));
        }
        assert!(first_error("{{ 1 + if.x }}").2.contains("parentheses"));
    }

    #[test]
    fn a_tag_with_one_closing_brace_is_completed() {
        for text in ["For {{ who }.\n", "For {{ who }, read {{ log }}.\n", "For {{ who }:\n{{ log }}\n"] {
            let (line, start, help) = first_error(text);
            assert_eq!((line, start), (1, 4), "{text}");
            let expected = "close it with `}}`: write `{{ who }}`; if these braces are meant as text, write `{% raw %}{{ \
                            who }{% endraw %}`";
            assert_eq!(help, expected, "{text}");
        }
    }

    #[test]
    fn an_unclosed_block_is_reported_at_its_start() {
        let text = "{% for a in b %}\n{% if a %}x{% endif %}\n{% set c = 1 %}\n{% if c %}\ntext\n";
        assert_eq!(first_error(text), (4, text.rfind("{% if c").unwrap(), "close it with `{% endif %}`".to_owned()));
        let text = "a\n{% raw %}\n{{ x }}";
        assert_eq!(first_error(text), (2, 2, "add `{% endraw %}`".to_owned()));
    }

    #[test]
    fn tags_end_where_the_parser_ends_them() {
        let text = "{{ '}}' }} {% if a == \"%}\" %}{% endif %} {# {{ #} {% raw %}{{ {% endraw %} {{ x";
        let tags: Vec<(&str, bool)> =
            find_tags(text).into_iter().map(|tag| (text.get(tag.range.clone()).unwrap(), tag.closed)).collect();
        assert_eq!(
            tags,
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
