//! Checks whether the bytes of a repaired value can be read in another way that also fits the schema.

use std::collections::{HashSet, VecDeque};

use serde_json::Value;

use super::doubts::{Decision, MOST_FORKS, Pairs};
use super::parser::{self, Parsed};

/// How many readings of one value are tried.
const MOST_READINGS: usize = 256;

/// The result of trying the other readings of a value.
pub(super) enum Settled {
    /// Only one reading is possible.
    One(Parsed),
    /// Several readings are possible; holds the byte after the longest one.
    Ambiguous(usize),
}

/// Tries the other readings of a value. Returns the result, and the number of bytes that the readings cost.
///
/// A reading is a rival when it leaves no more quotes unpaired than the first reading, or when it reaches further. The
/// first reading is accepted when no rival with another value fits. If one fits, or if there are too many readings to
/// try, the result is ambiguous.
pub(super) fn settle(
    text: &str,
    start: usize,
    bare: bool,
    first: Parsed,
    fits: &dyn Fn(&Value) -> bool,
) -> (Settled, usize) {
    let most = first.doubts.unpaired;
    if first.repairs.is_empty() {
        // Exact JSON has only one reading, unless just some quotes of its last string have a backslash: `"a \"b"} c"}`.
        let broken_off = goes_on(text, first.end) && last_stays_open(text.get(start..first.end).unwrap_or_default());
        return (if broken_off { Settled::Ambiguous(first.end) } else { Settled::One(first) }, 0);
    }
    if first.doubts.lost {
        return (Settled::Ambiguous(first.end), 0);
    }
    if most == 0 {
        return (Settled::One(first), 0);
    }
    let mut end = first.end;
    if goes_on(text, end) {
        return (Settled::Ambiguous(end), 0);
    }
    let first_end = first.end;
    let mut work = 0;
    let limit = 2 * (text.len() - start) + (1 << 20);
    let mut waiting: VecDeque<Vec<Decision>> = first.doubts.forks.iter().map(|fork| vec![*fork]).collect();
    let mut seen: HashSet<Vec<Decision>> = waiting.iter().cloned().collect();
    let mut tried = 0;
    while let Some(given) = waiting.pop_front() {
        tried += 1;
        if work > limit || tried > MOST_READINGS || first.doubts.forks.len() > MOST_FORKS {
            return (Settled::Ambiguous(end), work);
        }
        match parser::read_given(text, start, bare, given.clone()) {
            Err(failure) => work += failure.at - start,
            Ok(rival) => {
                work += rival.end - start;
                end = end.max(rival.end);
                // A reading that reaches further leaves less text unexplained.
                let longer = rival.end > first_end;
                if rival.doubts.unpaired > most + 1 && !longer {
                    continue;
                }
                for fork in &rival.doubts.forks {
                    let mut more = given.clone();
                    more.push(*fork);
                    more.sort_unstable();
                    if seen.insert(more.clone()) {
                        waiting.push_back(more);
                    }
                }
                if rival.doubts.unpaired > most && !longer || !fits(&rival.value) {
                    continue;
                }
                if rival.value != first.value {
                    return (Settled::Ambiguous(end), work);
                }
            }
        }
    }
    (Settled::One(first), work)
}

/// Whether a quote follows on the same line, which means that the value may have ended too early.
fn goes_on(text: &str, end: usize) -> bool {
    let rest = text.get(end..).unwrap_or_default();
    rest.chars().take(400).take_while(|c| *c != '\n').any(|c| matches!(c, '"' | '“' | '”'))
}

/// Whether the last string of exact JSON contains an opening quote without a partner.
fn last_stays_open(json: &str) -> bool {
    let bytes = json.as_bytes();
    let (mut at, mut open) = (0, None);
    let mut pairs = Pairs::default();
    while let Some(byte) = bytes.get(at) {
        match (byte, open) {
            (b'"', None) => (open, pairs) = (Some(at + 1), Pairs::default()),
            (b'"', Some(_)) => open = None,
            (b'\\', Some(start)) => {
                if bytes.get(at + 1) == Some(&b'"') {
                    pairs.see_escaped(json, at, '"', start);
                }
                at += 1;
            }
            _ => {}
        }
        at += 1;
    }
    pairs.is_open()
}
