//! Explains why the text of an edit does not occur in a file: shows the most similar lines and what differs.

use super::read::numbered_lines;

/// The maximum number of lines of a file that orch compares with the text.
const MAX_COMPARED_LINES: usize = 50_000;
/// The maximum number of lines that a message shows.
const MAX_SHOWN_LINES: usize = 20;
/// The maximum number of characters of a line that orch compares or shows.
const MAX_LINE_CHARS: usize = 200;
/// The minimum similarity of a line, from 0 to 1.
const MIN_SIMILARITY: f64 = 0.5;

/// The message for a text (`old`) that does not occur in a file.
pub(super) fn explain_missing(path: &str, text: &str, old: &str) -> String {
    let intro = format!("`old` does not occur in `{path}`");
    if let Some(without_numbers) = without_line_numbers(old)
        && text.contains(&without_numbers)
    {
        return format!("{intro}: it contains the line numbers of `read`, which are not part of the file; remove them");
    }
    let lines: Vec<&str> = text.lines().take(MAX_COMPARED_LINES).collect();
    let wanted: Vec<&str> = old.lines().skip_while(|line| line.trim().is_empty()).collect();
    let blank_count = wanted.iter().rev().take_while(|line| line.trim().is_empty()).count();
    let wanted = wanted.get(..wanted.len() - blank_count).unwrap_or_default();
    if wanted.is_empty() {
        return format!("{intro}: it consists of white space only; add the lines around it");
    }
    if let Some(start) = find_ignoring_spaces(&lines, wanted) {
        let (difference, excerpt) = (describe_spaces(&lines, start, wanted), excerpt(&lines, start, wanted.len()));
        return format!(
            "{intro}. It differs from the file only in white space: {difference}. The file has:\n{excerpt}"
        );
    }
    match find_similar(&lines, wanted) {
        Some(start) => {
            let difference = describe_difference(&lines, start, wanted);
            let excerpt = excerpt(&lines, start, wanted.len());
            format!("{intro}. The most similar lines of the file are:\n{excerpt}{difference}")
        }
        None if text.lines().nth(MAX_COMPARED_LINES).is_some() => {
            format!("{intro}, and none of its first {MAX_COMPARED_LINES} lines is similar; read the file again")
        }
        None => format!("{intro}, and no line of the file is similar; read the file again"),
    }
}

/// Removes the numbers that the tool `read` adds to lines; `None` if a line has no number.
fn without_line_numbers(text: &str) -> Option<String> {
    let lines = text.lines().map(|line| {
        let (number, content) = line.split_once('\t')?;
        let digits = number.trim_start();
        (!digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())).then_some(content)
    });
    lines.collect::<Option<Vec<&str>>>().filter(|lines| !lines.is_empty()).map(|lines| lines.join("\n"))
}

/// Finds consecutive lines that equal the wanted lines except for white space. A single wanted line may be a part of a
/// line.
fn find_ignoring_spaces(lines: &[&str], wanted: &[&str]) -> Option<usize> {
    if wanted.len() > lines.len() {
        return None;
    }
    let normalized: Vec<String> = lines.iter().map(|line| collapse_spaces(line)).collect();
    let wanted: Vec<String> = wanted.iter().map(|line| collapse_spaces(line)).collect();
    match wanted.as_slice() {
        [] => None,
        [line] => normalized.iter().position(|other| other.contains(line.as_str())),
        wanted => find_sequence(&normalized, wanted),
    }
}

/// Finds where a sequence of lines begins among other lines, in linear time (with the algorithm of Knuth, Morris and
/// Pratt): a model may want thousands of equal lines of a file with even more of them.
fn find_sequence(lines: &[String], wanted: &[String]) -> Option<usize> {
    // For each beginning of the wanted lines: the length of the longest shorter beginning with which it ends.
    let mut borders = vec![0; wanted.len()];
    let mut length = 0;
    for (index, line) in wanted.iter().enumerate().skip(1) {
        length = extend_match(length, line, wanted, &borders);
        borders[index] = length;
    }
    let mut matched = 0;
    for (index, line) in lines.iter().enumerate() {
        matched = extend_match(matched, line, wanted, &borders);
        if matched == wanted.len() {
            return Some(index + 1 - matched);
        }
    }
    None
}

/// The length of the longest beginning of the wanted lines with which some lines end after this line. Before it, they
/// ended with the first `length` wanted lines, and not with all of them.
fn extend_match(mut length: usize, line: &str, wanted: &[String], borders: &[usize]) -> usize {
    while length > 0 && wanted[length].as_str() != line {
        length = borders[length - 1];
    }
    length + usize::from(wanted[length].as_str() == line)
}

fn collapse_spaces(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The first difference in white space, as a phrase.
fn describe_spaces(lines: &[&str], start: usize, wanted: &[&str]) -> String {
    let pairs = lines.get(start..).unwrap_or_default().iter().zip(wanted);
    for (index, (line, wanted)) in pairs.enumerate() {
        let number = start + index + 1;
        // A single wanted line may be a part of the line.
        if line == wanted || collapse_spaces(line) != collapse_spaces(wanted) {
            continue;
        }
        if indentation(line) != indentation(wanted) {
            return format!(
                "line {number} is indented with {}, and `old` with {}",
                describe_indentation(indentation(line)),
                describe_indentation(indentation(wanted))
            );
        }
        if line.trim_end() == wanted.trim_end() {
            let place = if line.len() > wanted.len() { "the file" } else { "`old`" };
            return format!("line {number} ends with more spaces in {place}");
        }
        return format!("the spaces inside line {number} differ");
    }
    "the spaces or line breaks differ".to_owned()
}

fn indentation(line: &str) -> &str {
    line.get(..line.len() - line.trim_start().len()).unwrap_or_default()
}

fn describe_indentation(spaces: &str) -> String {
    let tabs = spaces.matches('\t').count();
    let others = spaces.chars().count() - tabs;
    let count = |count: usize, noun: &str| format!("{count} {noun}{}", if count == 1 { "" } else { "s" });
    match (tabs, others) {
        (0, 0) => "nothing".to_owned(),
        (0, others) => count(others, "space"),
        (tabs, 0) => count(tabs, "tab"),
        (tabs, others) => format!("{} and {}", count(tabs, "tab"), count(others, "space")),
    }
}

/// Finds where the lines that are most similar to the wanted lines begin. Computes the similarity of the longest wanted
/// line only, since computing it for all of them would take too long for a large file.
fn find_similar(lines: &[&str], wanted: &[&str]) -> Option<usize> {
    let wanted = wanted.get(..wanted.len().min(MAX_SHOWN_LINES)).unwrap_or_default();
    let (offset, anchor) = wanted.iter().enumerate().max_by_key(|(_, line)| line.trim().len())?;
    let anchor = shortened(anchor.trim());
    let mut best: Option<(usize, f64)> = None;
    for (index, line) in lines.iter().enumerate() {
        let line = line.trim();
        let similarity = if line.is_empty() { 0.0 } else { strsim::sorensen_dice(anchor, shortened(line)) };
        if similarity < MIN_SIMILARITY {
            continue;
        }
        let start = index.saturating_sub(offset);
        let score = similarity + equal_share(lines.get(start..).unwrap_or_default(), wanted);
        if best.is_none_or(|(_, highest)| score > highest) {
            best = Some((start, score));
        }
    }
    best.map(|(start, _)| start)
}

/// The share of the wanted lines that equal the lines at the same place, from 0 to 1.
fn equal_share(lines: &[&str], wanted: &[&str]) -> f64 {
    let equal_count = lines.iter().zip(wanted).filter(|(line, wanted)| line.trim() == wanted.trim()).count();
    let to_float = |count: usize| f64::from(u8::try_from(count).unwrap_or(u8::MAX));
    to_float(equal_count) / to_float(wanted.len().max(1))
}

/// The first line that differs, as two lines of text.
fn describe_difference(lines: &[&str], start: usize, wanted: &[&str]) -> String {
    let pairs = lines.get(start..).unwrap_or_default().iter().zip(wanted).enumerate();
    let mut different = pairs.filter(|(_, (line, wanted))| line != wanted);
    match different.next() {
        Some((index, (line, wanted))) => {
            let number = start + index + 1;
            format!("Line {number} has: {}\n`old` has: {}", with_ellipsis(line), with_ellipsis(wanted))
        }
        None => "`old` has more lines than the end of the file".to_owned(),
    }
}

fn excerpt(lines: &[&str], start: usize, count: usize) -> String {
    let end = (start + count.min(MAX_SHOWN_LINES)).min(lines.len());
    let shown: Vec<String> = lines.get(start..end).unwrap_or_default().iter().map(|line| with_ellipsis(line)).collect();
    let numbered = numbered_lines(&(shown.join("\n") + "\n"), start as u64 + 1);
    if count <= MAX_SHOWN_LINES { numbered } else { format!("{numbered}[only {MAX_SHOWN_LINES} lines are shown]\n") }
}

/// A line as messages show it: of a long line, its beginning and an ellipsis.
fn with_ellipsis(line: &str) -> String {
    let shown = shortened(line);
    if shown.len() == line.len() { shown.to_owned() } else { format!("{shown}…") }
}

fn shortened(line: &str) -> &str {
    line.char_indices().nth(MAX_LINE_CHARS).and_then(|(end, _)| line.get(..end)).unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "fn main() {\n\tlet total = compute(1, 2);\n\tprintln!(\"{total}\");\n}\n";

    #[test]
    fn differences_in_white_space_are_named() {
        let message = explain_missing("a.rs", TEXT, "    let total = compute(1, 2);\n    println!(\"{total}\");");
        assert!(message.contains("line 2 is indented with 1 tab, and `old` with 4 spaces"), "{message}");
        let lines = "     2\t\tlet total = compute(1, 2);\n     3\t\tprintln!(\"{total}\");\n";
        assert!(message.ends_with(lines), "{message}");
        let message = explain_missing("a.rs", TEXT, "compute(1,  2)");
        assert!(message.contains("only in white space") && message.contains("     2\t"), "{message}");
        let message = explain_missing("a.rs", "x = 1  \ny = 2\n", "x = 1\ny = 2");
        assert!(message.contains("line 1 ends with more spaces in the file"), "{message}");
    }

    #[test]
    fn the_most_similar_lines_and_the_first_difference_are_shown() {
        let message = explain_missing("a.rs", TEXT, "fn main() {\n\tlet total = compute(1, 3);\n");
        assert!(message.contains("     1\tfn main() {\n     2\t\tlet total = compute(1, 2);\n"), "{message}");
        assert!(message.contains("Line 2 has: \tlet total = compute(1, 2);\n`old` has: \tlet total = compute(1, 3);"));
        let message = explain_missing("a.rs", TEXT, "something else entirely");
        assert!(message.ends_with("no line of the file is similar; read the file again"), "{message}");
        assert!(explain_missing("a.rs", TEXT, " \n").contains("white space only"));
    }

    #[test]
    fn what_a_message_leaves_out_is_marked() {
        let long = "x".repeat(MAX_LINE_CHARS + 1);
        let message = explain_missing("a", &format!("{long}\nb\n"), &format!("{long}y\nb"));
        assert!(message.contains(&format!("     1\t{}…\n", "x".repeat(MAX_LINE_CHARS))), "{message}");
        let text: String = (0..30).map(|number| format!("the line {number}\n")).collect();
        let message = explain_missing("a", &text, &text.replace("line 29", "line x"));
        assert!(message.contains("the line 19\n[only 20 lines are shown]\nLine 30 has: "), "{message}");
        let huge = format!("{}the end\n", "\n".repeat(MAX_COMPARED_LINES));
        let message = explain_missing("a", &huge, "the end?");
        assert!(message.ends_with("none of its first 50000 lines is similar; read the file again"), "{message}");
    }

    #[test]
    fn a_sequence_of_lines_is_found_where_it_first_occurs() {
        let to_lines = |text: &str| -> Vec<String> { text.chars().map(String::from).collect() };
        let texts = ["ab", "aab", "abab", "aaab", "abcabd", "aabaaab", "abaababaab"];
        for text in ["", "a", "aaaaab", "abababab", "abcabcabd", "aabaabaaabaaab", "abaabaababaababaab", "xaabx"] {
            for wanted in texts {
                let found = find_sequence(&to_lines(text), &to_lines(wanted));
                assert_eq!(found, text.find(wanted), "{wanted} in {text}");
            }
        }
    }

    #[test]
    fn many_equal_lines_are_compared_in_linear_time() {
        // Comparing the wanted lines at each line of the file would compare a billion lines.
        let text = "same\n".repeat(MAX_COMPARED_LINES);
        let wanted = "same\n".repeat(MAX_COMPARED_LINES / 2);
        let message = explain_missing("a", &text, &format!("{wanted}other\n"));
        assert!(message.contains("The most similar lines of the file are:\n     1\tsame\n"), "{message}");
        let message = explain_missing("a", &text, &format!("{wanted}same "));
        assert!(message.contains("differs from the file only in white space: line 25001 ends"), "{message}");
    }

    #[test]
    fn line_numbers_in_the_text_are_recognized() {
        let message = explain_missing("a.rs", TEXT, "     1\tfn main() {\n     2\t\tlet total = compute(1, 2);");
        assert!(message.contains("contains the line numbers of `read`"), "{message}");
    }
}
