//! Checks whether repaired JSON can be parsed in another way that also fits the schema.

use std::collections::{HashSet, VecDeque};

use serde_json::Value;

use super::ambiguity::{MAX_FORKS, QuoteDecision, QuotePairs};
use super::parser::{self, ParsedValue};

/// The maximum number of alternatives that orch parses for one value.
const MAX_PARSES: usize = 256;

/// The result of trying to parse a value in other ways.
pub(super) enum ParseResolution {
    /// Only this result is possible.
    Unambiguous(ParsedValue),
    /// Several results are possible. Contains the byte offset of the end of the longest result.
    Ambiguous(usize),
}

/// Tries to parse a value in other ways. Returns the resolution, and the number of bytes that the parser read for it.
///
/// An alternative counts only if it has at most as many unpaired quotes as the first result, or ends later. The value
/// is ambiguous if such an alternative has another value that fits the schema, or if there are too many alternatives.
pub(super) fn resolve(
    text: &str,
    start: usize,
    allow_unquoted: bool,
    first_result: ParsedValue,
    fits_schema: &dyn Fn(&Value) -> bool,
) -> (ParseResolution, usize) {
    let first_unpaired_count = first_result.ambiguity.unpaired_quotes;
    if first_result.repairs.is_empty() {
        // Valid JSON is ambiguous only if its last string escapes some inner quotes, but not all. The string may then
        // have ended too early: `"a \"b"} c"}`.
        let is_ambiguous = quote_follows_on_line(text, first_result.end)
            && last_string_has_open_quote(text.get(start..first_result.end).unwrap_or_default());
        return (
            if is_ambiguous {
                ParseResolution::Ambiguous(first_result.end)
            } else {
                ParseResolution::Unambiguous(first_result)
            },
            0,
        );
    }
    if first_result.ambiguity.is_unreliable {
        return (ParseResolution::Ambiguous(first_result.end), 0);
    }
    if first_unpaired_count == 0 {
        return (ParseResolution::Unambiguous(first_result), 0);
    }
    let mut longest_end = first_result.end;
    if quote_follows_on_line(text, longest_end) {
        return (ParseResolution::Ambiguous(longest_end), 0);
    }
    let mut parsed_bytes = 0;
    let max_parsed_bytes = 2 * (text.len() - start) + (1 << 20);
    let mut queue: VecDeque<Vec<QuoteDecision>> = first_result.ambiguity.forks.iter().map(|fork| vec![*fork]).collect();
    let mut queued: HashSet<Vec<QuoteDecision>> = queue.iter().cloned().collect();
    let mut attempts = 0;
    while let Some(decisions) = queue.pop_front() {
        attempts += 1;
        if parsed_bytes > max_parsed_bytes || attempts > MAX_PARSES || first_result.ambiguity.forks.len() > MAX_FORKS {
            return (ParseResolution::Ambiguous(longest_end), parsed_bytes);
        }
        match parser::parse_with_decisions(text, start, allow_unquoted, decisions.clone()) {
            Err(failure) => parsed_bytes += failure.pos - start,
            Ok(alternative) => {
                parsed_bytes += alternative.end - start;
                longest_end = longest_end.max(alternative.end);
                // A longer alternative may have more unpaired quotes, because it leaves less text unparsed.
                let is_longer = alternative.end > first_result.end;
                let unpaired_count = alternative.ambiguity.unpaired_quotes;
                // One more unpaired quote is acceptable for now, because a further decision may pair it.
                if unpaired_count > first_unpaired_count + 1 && !is_longer {
                    continue;
                }
                for fork in &alternative.ambiguity.forks {
                    let mut extended_decisions = decisions.clone();
                    extended_decisions.push(*fork);
                    extended_decisions.sort_unstable();
                    if queued.insert(extended_decisions.clone()) {
                        queue.push_back(extended_decisions);
                    }
                }
                if unpaired_count > first_unpaired_count && !is_longer || !fits_schema(&alternative.value) {
                    continue;
                }
                if alternative.value != first_result.value {
                    return (ParseResolution::Ambiguous(longest_end), parsed_bytes);
                }
            }
        }
    }
    (ParseResolution::Unambiguous(first_result), parsed_bytes)
}

/// Whether a quote follows the value on the same line. The value may then have ended too early.
fn quote_follows_on_line(text: &str, end: usize) -> bool {
    let tail = text.get(end..).unwrap_or_default();
    tail.chars().take(400).take_while(|c| *c != '\n').any(|c| matches!(c, '"' | '“' | '”'))
}

/// Whether the last string of strict JSON contains an opening quote that no other quote closes.
fn last_string_has_open_quote(json: &str) -> bool {
    let bytes = json.as_bytes();
    let (mut pos, mut string_start) = (0, None);
    let mut pairs = QuotePairs::default();
    while let Some(byte) = bytes.get(pos) {
        match (byte, string_start) {
            (b'"', None) => (string_start, pairs) = (Some(pos + 1), QuotePairs::default()),
            (b'"', Some(_)) => string_start = None,
            (b'\\', Some(start)) => {
                if bytes.get(pos + 1) == Some(&b'"') {
                    pairs.add_escaped_quote(json, pos, '"', start);
                }
                pos += 1;
            }
            _ => {}
        }
        pos += 1;
    }
    pairs.is_open()
}
