//! Describes how a request differs from the nearest recorded one, and which normalizer (a rule that replaces what
//! differs from run to run) would make them equal.

use std::sync::LazyLock;

use regex::Regex;
use similar::TextDiff;

use super::exchange::RequestText;

/// The maximum number of lines of a diff in a message.
const MAX_DIFF_LINES: usize = 24;
/// The number of equal lines around the lines that differ.
const CONTEXT_LINES: usize = 2;
/// The number of equal characters that a long line shows before its first difference.
const CHARS_BEFORE_DIFFERENCE: usize = 40;
/// The maximum number of characters of a line in a message.
const MAX_LINE_CHARS: usize = 160;
/// The maximum number of literal characters that a suggested pattern keeps on each side of the variable part.
const MAX_ANCHOR_CHARS: usize = 24;

/// Describes the difference between two normalized requests, as the lines of a message. `rule_location` says where the
/// user can add a normalizer.
pub(super) fn describe_difference(recorded: &RequestText, requested: &RequestText, rule_location: &str) -> String {
    if recorded.parts == requested.parts {
        return "only the schema of the reply differs".to_owned();
    }
    let mut lines = Vec::new();
    let difference = first_difference(recorded, requested);
    if let Some(difference) = &difference {
        lines.push(format!("the first difference is in {}:", difference.location));
        let (recorded, requested) = (&difference.recorded, &difference.requested);
        lines.push(format!("  recorded:  {}", shorten_around_difference(recorded, requested)));
        lines.push(format!("  requested: {}", shorten_around_difference(requested, recorded)));
    }
    let (recorded_text, requested_text) = (recorded.full_text(), requested.full_text());
    let diff = TextDiff::from_lines(&recorded_text, &requested_text);
    let diff = diff.unified_diff().context_radius(CONTEXT_LINES).to_string();
    lines.push("the difference (- recorded, + requested):".to_owned());
    // The line numbers in the hunk headers (`@@ … @@`) refer to the joined text, not to a file, so they are hidden.
    let diff_lines = diff.lines().map(|line| if line.starts_with("@@ ") { "…".to_owned() } else { shorten(line) });
    lines.extend(diff_lines.take(MAX_DIFF_LINES));
    if diff.lines().count() > MAX_DIFF_LINES {
        lines.push("…".to_owned());
    }
    if let Some(advice) = difference.and_then(|difference| normalizer_advice(&difference, rule_location)) {
        lines.push(advice);
    }
    lines.join("\n")
}

/// The first line that differs.
struct LineDifference {
    /// The line and the part of the request, such as `line 2 of the user message`.
    location: String,
    recorded: String,
    requested: String,
}

fn first_difference(recorded: &RequestText, requested: &RequestText) -> Option<LineDifference> {
    let count = recorded.parts.len().max(requested.parts.len());
    (0..count).find_map(|index| {
        let (recorded, requested) = (recorded.parts.get(index), requested.parts.get(index));
        let name = requested.or(recorded).map(|part| describe_part(&part.name)).unwrap_or_default();
        let lines = |text: Option<&str>| text.map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>());
        let recorded = lines(recorded.map(|part| part.text.as_str()));
        let requested = lines(requested.map(|part| part.text.as_str()));
        let (Some(recorded), Some(requested)) = (&recorded, &requested) else {
            let is_new = recorded.is_none();
            let first_line = |lines: Option<Vec<String>>| lines.and_then(|lines| lines.into_iter().next());
            let absent = || "(nothing)".to_owned();
            return Some(LineDifference {
                location: if is_new {
                    format!("{name}, which is new")
                } else {
                    format!("{name}, which is missing now")
                },
                recorded: first_line(recorded).unwrap_or_else(absent),
                requested: first_line(requested).unwrap_or_else(absent),
            });
        };
        let line_count = recorded.len().max(requested.len());
        let line = (0..line_count).find(|line| recorded.get(*line) != requested.get(*line))?;
        let text = |lines: &[String]| lines.get(line).cloned().unwrap_or_else(|| "(the end)".to_owned());
        Some(LineDifference {
            location: format!("line {} of {name}", line + 1),
            recorded: text(recorded),
            requested: text(requested),
        })
    })
}

/// Describes a part of a request in a message.
fn describe_part(name: &str) -> String {
    match name {
        "system" => "the system prompt".to_owned(),
        "user" => "the user message".to_owned(),
        "assistant" => "an earlier reply".to_owned(),
        "command" => "the command".to_owned(),
        "cwd" => "the working directory of the command".to_owned(),
        "standard input" => "the standard input".to_owned(),
        "tool" => "the name of the tool".to_owned(),
        "arguments" => "the arguments of the tool call".to_owned(),
        name => format!("the value `{name}`"),
    }
}

fn shorten(line: &str) -> String {
    match line.char_indices().nth(MAX_LINE_CHARS) {
        Some((end, _)) => format!("{}…", line.get(..end).unwrap_or_default()),
        None => line.to_owned(),
    }
}

/// Shortens a line so that it shows where it begins to differ from another line.
fn shorten_around_difference(line: &str, other: &str) -> String {
    let common = line.chars().zip(other.chars()).take_while(|(first, second)| first == second).count();
    let hidden = common.saturating_sub(CHARS_BEFORE_DIFFERENCE);
    if line.chars().count() <= MAX_LINE_CHARS || hidden == 0 {
        return shorten(line);
    }
    let rest: String = line.chars().skip(hidden).collect();
    format!("…{}", shorten(&rest))
}

/// The parts of a line that often change from run to run: absolute paths, hexadecimal numbers, and numbers.
static VARIABLE_PARTS: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r#"/[^\s"'`<>|:;,()\[\]{}]+|\b0x[0-9a-fA-F]+|[0-9]+(?:[.,:][0-9]+)*"#).ok());

/// Suggests a normalizer for the first variable part that differs, if the lines differ only in numbers and paths.
fn normalizer_advice(difference: &LineDifference, rule_location: &str) -> Option<String> {
    let pattern = VARIABLE_PARTS.as_ref()?;
    let (recorded, requested) = (difference.recorded.as_str(), difference.requested.as_str());
    let variable_parts = |text| pattern.find_iter(text).collect::<Vec<_>>();
    let (recorded_parts, requested_parts) = (variable_parts(recorded), variable_parts(requested));
    if recorded_parts.len() != requested_parts.len()
        || pattern.replace_all(recorded, "…") != pattern.replace_all(requested, "…")
    {
        return None;
    }
    let mut pairs = recorded_parts.iter().zip(&requested_parts);
    let (part, requested_part) = pairs.find(|(recorded, requested)| recorded.as_str() != requested.as_str())?;
    let (kind, part_pattern) = kind_and_pattern(part.as_str());
    if kind_and_pattern(requested_part.as_str()) != (kind, part_pattern) {
        return None;
    }
    let before = last_chars(recorded.get(..part.start())?.trim_start());
    let after = first_chars(recorded.get(part.end()..)?.trim_end());
    let rule = format!(
        "{{ match: {}, as: {} }}",
        quote(&format!("{}{part_pattern}{}", regex::escape(before), regex::escape(after))),
        quote(&format!("{before}…{after}"))
    );
    Some(format!("if {kind} differs in every run, let orch ignore it: `normalize: [{rule}]` in {rule_location}"))
}

/// How advice calls a variable part, and a pattern that matches all parts of this kind.
fn kind_and_pattern(part: &str) -> (&'static str, &'static str) {
    if part.starts_with('/') {
        ("a path", r#"/[^\s"']+"#)
    } else if part.starts_with("0x") {
        ("a hexadecimal number", "0x[0-9a-fA-F]+")
    } else {
        ("a number", "[0-9.,:]+")
    }
}

/// At most [`MAX_ANCHOR_CHARS`] characters from the end of a text, from after the last digit on, because numbers may
/// change too.
fn last_chars(text: &str) -> &str {
    let start = text.char_indices().rev().nth(MAX_ANCHOR_CHARS - 1).map_or(0, |(start, _)| start);
    let end = text.get(start..).unwrap_or_default();
    end.rfind(|c: char| c.is_ascii_digit()).and_then(|digit| end.get(digit + 1..)).unwrap_or(end)
}

/// At most [`MAX_ANCHOR_CHARS`] characters from the start of a text, up to the first digit or slash, because numbers
/// and paths may change too.
fn first_chars(text: &str) -> &str {
    let end = text.char_indices().nth(MAX_ANCHOR_CHARS).map_or(text.len(), |(end, _)| end);
    let start = text.get(..end).unwrap_or_default();
    start.find(|c: char| c.is_ascii_digit() || c == '/').and_then(|end| start.get(..end)).unwrap_or(start)
}

/// Puts a text in single quotes for YAML.
fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::recording::exchange::RequestPart;
    use crate::model::Normalizer;

    fn request(user: &str) -> RequestText {
        let part = |name: &str, text: &str| RequestPart { name: name.to_owned(), text: text.to_owned() };
        RequestText { parts: vec![part("system", "Test it.\nBe brief."), part("user", user)], schema: None }
    }

    #[test]
    fn the_first_line_that_differs_is_named() {
        let text = describe_difference(&request("a\nold"), &request("a\nnew\nb"), "the test case");
        assert!(
            text.starts_with("the first difference is in line 2 of the user message:\n  recorded:  old\n"),
            "{text}"
        );
        assert!(text.contains("\n  requested: new\n") && text.contains("\n-old\n+new\n"), "{text}");
        assert!(!text.contains("normalize"), "{text}");
        let longer = RequestText { parts: [request("a").parts, request("b").parts].concat(), schema: None };
        let text = describe_difference(&request("a"), &longer, "the test case");
        assert!(text.contains("in the system prompt, which is new:\n  recorded:  (nothing)\n"), "{text}");
        let text = describe_difference(&request("a\nb"), &request("a"), "the test case");
        assert!(text.contains("recorded:  b\n  requested: (the end)\n"), "{text}");
    }

    #[test]
    fn a_long_line_is_shown_from_the_part_that_differs() {
        let line = |end: &str| format!("{}{end}", "long ".repeat(100));
        let text = describe_difference(&request(&line("red")), &request(&line("blue")), "the test case");
        assert!(text.contains("recorded:  …") && text.contains(" long red\n"), "{text}");
        assert!(text.contains("requested: …") && text.contains(" long blue\n"), "{text}");
    }

    #[test]
    fn the_difference_has_only_a_few_equal_lines() {
        let lines = |changed: &str| {
            let line = |number: i32| if number == 20 { changed.to_owned() } else { format!("line {number}") };
            (0..40).map(line).collect::<Vec<_>>().join("\n")
        };
        let text = describe_difference(&request(&lines("old")), &request(&lines("new")), "the test case");
        assert!(text.contains("\n line 18\n line 19\n-old\n+new\n line 21\n line 22"), "{text}");
        assert!(!text.contains("line 17") && !text.contains("line 23") && !text.contains("@@"), "{text}");
    }

    #[test]
    fn the_suggested_normalizer_makes_lines_equal_that_differ_in_a_number_or_a_path() {
        for (recorded, requested) in [
            ("it's seed 17 (of 20)", "it's seed 4 (of 20)"),
            ("using port 8080.", "using port 41231."),
            ("cache: /var/cache/x1 ok", "cache: /home/u/cache ok"),
            ("<object at 0x7f01>", "<object at 0x5aff>"),
            ("handle 0xAB01.", "handle 0xFFcd."),
            ("rate 1,234.5 req", "rate 99.1 req"),
        ] {
            let text = describe_difference(&request(recorded), &request(requested), "the test case");
            let yaml = text.split("normalize: [").nth(1).unwrap().split("]`").next().unwrap();
            let rule: Normalizer = serde_json::from_value(parse_rule(yaml)).unwrap();
            let pattern = rule.compile().unwrap();
            let replaced = |text: &str| pattern.replace_all(text, regex::NoExpand(&rule.replacement)).into_owned();
            assert_eq!(replaced(recorded), replaced(requested), "{yaml}");
        }
    }

    #[test]
    fn the_suggested_pattern_matches_both_lines_even_if_more_differs() {
        for (recorded, requested) in [("copy /a/x to /b/y", "copy /c/x to /d/z"), ("seed 1 of /a/x", "seed 2 of /b/x")]
        {
            let text = describe_difference(&request(recorded), &request(requested), "the test case");
            let yaml = text.split("normalize: [").nth(1).unwrap().split("]`").next().unwrap();
            let rule: Normalizer = serde_json::from_value(parse_rule(yaml)).unwrap();
            let pattern = rule.compile().unwrap();
            assert!(pattern.is_match(recorded) && pattern.is_match(requested), "{yaml}");
        }
        for (recorded, requested) in [("at 0xff", "at 17"), ("in /tmp/a", "in 7")] {
            let text = describe_difference(&request(recorded), &request(requested), "the test case");
            assert!(!text.contains("normalize"), "no rule matches both: {text}");
        }
    }

    /// The mapping of a line of YAML with texts in single quotes.
    fn parse_rule(text: &str) -> serde_json::Value {
        let (pattern, replacement) = text.split_once(", as: ").unwrap();
        let unquote = |text: &str| text.trim().trim_matches('\'').replace("''", "'");
        let pattern = unquote(pattern.trim_start_matches("{ match: "));
        serde_json::json!({ "match": pattern, "as": unquote(replacement.trim_end_matches(" }")) })
    }
}
