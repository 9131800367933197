//! Records where the parser could have read repaired JSON in another way.
//!
//! Inner quotes come in pairs. When each inner quote in the strings and comments has its partner, the reading is the
//! one that was meant. When a quote has no partner, its string may end elsewhere. This module counts the unpaired
//! quotes, and records each decision that would lead to another reading as a fork; [`super::rivals`] tries the forks.

use super::cursor::is_space;
use super::strings::StringRole;

/// What a quote does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum QuoteRole {
    /// It closes its string.
    Closes,
    /// It is part of the string's text.
    Text,
}

/// What the quote at a byte position does.
pub(super) type Decision = (usize, QuoteRole);

/// The most forks that one reading stores; a reading with more counts as ambiguous.
pub(super) const MOST_FORKS: usize = 64;

/// The decisions of one reading.
#[derive(Clone, Debug, Default)]
pub(super) struct Doubts {
    /// The decisions that were made before the reading, sorted.
    pub(super) given: Vec<Decision>,
    /// Decisions that would lead to another reading.
    pub(super) forks: Vec<Decision>,
    /// The number of quotes in strings and comments that have no partner.
    pub(super) unpaired: usize,
    /// Whether no reading can be trusted. That is so when a comment follows a string directly and both contain quotes,
    /// or either contains an unpaired quote. It is also so when an inner quote opens something that nothing closes, or
    /// when inner quotes are laid out like those of members or items.
    pub(super) lost: bool,
    /// The position of the quote that closed the last string that is a value.
    last_close: Option<usize>,
    /// Whether that string contains quotes, and whether one of them is unpaired.
    last_holds: (bool, bool),
}

impl Doubts {
    /// What the quote at `quote` does, if that was decided before the reading.
    pub(super) fn given(&self, quote: usize) -> Option<QuoteRole> {
        self.given.iter().find(|(at, _)| *at == quote).map(|(_, role)| *role)
    }

    fn fork(&mut self, quote: usize, role: QuoteRole) {
        if self.forks.len() <= MOST_FORKS && self.given(quote).is_none() {
            self.forks.push((quote, role));
        }
    }

    /// Records that a string ends at the quote at `close`.
    ///
    /// `bare_keys`: whether keys of this value have no quotes, so that the string may contain such a key.
    pub(super) fn string_ends(&mut self, pairs: &Pairs, close: usize, role: StringRole, bare_keys: bool) {
        let unpaired = pairs.unpaired();
        // The text has one quote too many or lost its closing quote, as in `"say "yes"`, or its quotes lie where those
        // of members and items do.
        let laid_out =
            pairs.at_line_end || pairs.after_key && bare_keys || pairs.after_comma && role == StringRole::Item;
        self.lost |= pairs.is_open() || laid_out;
        if unpaired > 0 {
            self.unpaired += unpaired;
            // The first unpaired quote may pair with one in the string before.
            if let Some(before) = self.last_close {
                self.fork(before, QuoteRole::Text);
            }
            self.fork(close, QuoteRole::Text);
            for quote in &pairs.may_close {
                self.fork(*quote, QuoteRole::Closes);
            }
        }
        if role != StringRole::Key {
            self.last_close = Some(close);
            self.last_holds = (pairs.count > 0, unpaired > 0);
        }
    }

    /// Records the comment at `at`; an unpaired quote in it may be the one that closes the string before.
    pub(super) fn comment(&mut self, text: &str, at: usize, body: &str) {
        let mut pairs = Pairs::default();
        for (at, c) in body.char_indices().filter(|(_, c)| matches!(c, '"' | '\'' | '“' | '”')) {
            pairs.see(body, at, c, 0);
        }
        let unpaired = pairs.unpaired();
        let gap = self.last_close.and_then(|close| text.get(close..at));
        let directly = gap.is_some_and(|gap| gap.chars().skip(1).all(is_space));
        let (quotes, odd) = self.last_holds;
        self.lost |= directly && (odd || quotes && pairs.count > 0 || unpaired > 0);
        self.unpaired += unpaired;
        if let Some(before) = self.last_close.filter(|_| unpaired > 0) {
            self.fork(before, QuoteRole::Text);
        }
    }

    /// Records a string whose closing quote is missing before the quote at `next`.
    pub(super) fn missing_quote(&mut self, next: usize) {
        self.unpaired += 1;
        self.fork(next, QuoteRole::Text);
    }
}

/// The inner quotes of one string, paired in the order in which they come.
#[derive(Debug, Default)]
pub(super) struct Pairs {
    open: usize,
    /// Quotes in the middle of a word, which may be opening quotes.
    middle: usize,
    stray: usize,
    /// Quotes before a colon: the text contains what looks like a key.
    keys: usize,
    /// Whether a quote begins or ends a line, as the quotes around members do.
    at_line_end: bool,
    /// Whether a quote follows what looks like a key without quotes.
    after_key: bool,
    /// Whether a quote follows a comma, as the next item of a list does.
    after_comma: bool,
    /// The number of quotes, without apostrophes.
    count: usize,
    may_close: Vec<usize>,
}

/// The most quotes of one string that are stored as possible ends.
const MOST_ENDS: usize = 8;

impl Pairs {
    /// The number of quotes without a partner.
    pub(super) fn unpaired(&self) -> usize {
        self.open + self.middle + self.stray + self.keys
    }

    /// Whether a quote opened something that no later quote closed.
    pub(super) fn is_open(&self) -> bool {
        self.open > 0
    }

    /// Records the quote `c` at `at` in a string that starts at `start`.
    pub(super) fn see(&mut self, text: &str, at: usize, c: char, start: usize) {
        let before = text.get(start..at).unwrap_or_default();
        let rest = text.get(at + c.len_utf8()..).unwrap_or_default();
        self.pair(before, c, rest);
        self.place(before, rest, at);
    }

    /// Records an escaped quote whose backslash is at `at`; it may be the partner of one without a backslash.
    pub(super) fn see_escaped(&mut self, text: &str, at: usize, c: char, start: usize) {
        let before = text.get(start..at).unwrap_or_default();
        self.pair(before, c, text.get(at + 1 + c.len_utf8()..).unwrap_or_default());
    }

    fn pair(&mut self, before: &str, c: char, rest: &str) {
        let side = side(before, c, rest);
        self.count += usize::from(!matches!(side, Side::Apostrophe));
        match side {
            Side::Opens => self.open += 1,
            Side::Closes if self.open > 0 => self.open -= 1,
            Side::Closes if self.middle > 0 => self.middle -= 1,
            Side::Closes => self.stray += 1,
            Side::Middle => self.middle += 1,
            Side::Apostrophe => {}
        }
    }

    /// Records what is around a quote.
    fn place(&mut self, before: &str, rest: &str, at: usize) {
        let after = rest.trim_start_matches(is_space);
        self.after_comma |= before.trim_end_matches(is_space).ends_with([',', '，']);
        self.after_key |= follows_key(before);
        let tail = rest.trim_start_matches([' ', '\t', ',', '}', ']']);
        self.at_line_end |= before.trim_end_matches([' ', '\t']).ends_with('\n') || tail.starts_with('\n');
        if after.starts_with([':', '：']) {
            self.keys += 1;
        }
        let line =
            rest.len() > after.len() && rest.get(..rest.len() - after.len()).is_some_and(|gap| gap.contains('\n'));
        let ends = after.starts_with([',', '，', '}', ']', '"', '\'', '“', '#', '/']) || line;
        if ends && self.may_close.len() < MOST_ENDS {
            self.may_close.push(at);
        }
    }
}

/// Whether a text ends with `, key:`, as it does when the closing quote before the key is missing.
fn follows_key(before: &str) -> bool {
    let lead = before.trim_end_matches([' ', '\t']);
    let Some(head) = lead.strip_suffix(':') else { return false };
    let key = head.len() - head.trim_end_matches(|c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '$')).len();
    let head = head.get(..head.len() - key).unwrap_or_default();
    key > 0 && head.trim_end_matches([' ', '\t']).ends_with([',', '\n', '{'])
}

enum Side {
    Opens,
    Closes,
    Middle,
    Apostrophe,
}

/// Classifies a quote by the characters next to it.
fn side(before: &str, c: char, rest: &str) -> Side {
    let before = before.chars().next_back();
    let next = rest.chars().next();
    let word = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    if matches!(c, '\'' | '’') && word(before) && word(next) {
        return Side::Apostrophe;
    }
    match c {
        '“' | '„' | '«' | '‘' | '‚' => return Side::Opens,
        '”' | '»' | '’' => return Side::Closes,
        _ => {}
    }
    let apart = before.is_none_or(|c| is_space(c) || matches!(c, '(' | '[' | '{' | '<' | '`'));
    let beside = before.is_some_and(|c| "=:,;/-—–|\"'“‘".contains(c));
    let gap = next.is_none_or(is_space);
    let starts_word = word(next) || next.is_some_and(|c| "([{<$#@/\\_-.~\"'“".contains(c));
    if apart && !gap || beside && starts_word {
        Side::Opens
    } else if !apart && (gap || !word(next)) {
        Side::Closes
    } else {
        Side::Middle
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unpaired(text: &str) -> usize {
        let mut pairs = Pairs::default();
        for (at, c) in text.char_indices().filter(|(_, c)| matches!(c, '"' | '“' | '”')) {
            pairs.see(text, at, c, 0);
        }
        pairs.unpaired()
    }

    #[test]
    fn quotes_pair_by_their_neighbours() {
        for text in [
            r#"call it "Queue" instead"#,
            r#""a", "b" or "c""#,
            r#"x = "a"  # first"#,
            r#"f("x", "y")"#,
            r#"say "" now"#,
        ] {
            assert_eq!(unpaired(text), 0, "{text}");
        }
        for text in [r#"say "yes"#, r#"a 5" disk"#, r#"no" or "maybe""#, r#"mid"dle"#, r#"the "k": v"#] {
            assert_eq!(unpaired(text), 1, "{text}");
        }
        assert_eq!(unpaired(r#"x", "y"#), 2);
    }
}
