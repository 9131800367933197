//! Where a repaired reading could have gone another way.
//!
//! Quotes in a text come in pairs. A reading in whose strings and comments every inner quote has its
//! partner is the one that was meant. A quote without a partner casts doubt: its string may end
//! elsewhere. What is unpaired is counted, and every place where another decision leads to another
//! reading is a fork; [`super::rivals`] follows the forks.

use super::cursor::is_space;
use super::strings::StringRole;

/// What a quote does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum QuoteRole {
    /// It closes its string.
    Closes,
    /// It belongs to the text.
    Text,
}

/// A decision about the quote at a place.
pub(super) type Decision = (usize, QuoteRole);

/// The most forks of one reading that are kept; past it the reading counts as ambiguous.
pub(super) const MOST_FORKS: usize = 64;

/// The decisions of a reading.
#[derive(Clone, Debug, Default)]
pub(super) struct Doubts {
    /// Decisions that are given, in order.
    pub(super) given: Vec<Decision>,
    /// Decisions that another reading may take otherwise.
    pub(super) forks: Vec<Decision>,
    /// How many quotes of texts and comments have no partner.
    pub(super) unpaired: usize,
    /// Whether no reading can be trusted: a string with quotes of its own goes straight over into a comment
    /// with quotes, or an unpaired one into any comment.
    pub(super) lost: bool,
    /// The quote that closed the last string that is a value.
    last_close: Option<usize>,
    /// Whether that string holds quotes, and whether one of them is unpaired.
    last_holds: (bool, bool),
}

impl Doubts {
    /// What the quote at `quote` does, where that is given.
    pub(super) fn given(&self, quote: usize) -> Option<QuoteRole> {
        self.given.iter().find(|(at, _)| *at == quote).map(|(_, role)| *role)
    }

    fn fork(&mut self, quote: usize, role: QuoteRole) {
        if self.forks.len() <= MOST_FORKS && self.given(quote).is_none() {
            self.forks.push((quote, role));
        }
    }

    /// A string ends at the quote at `close`.
    ///
    /// `bare_keys`: keys of this value have no quotes, so that a text may hold them as well.
    pub(super) fn string_ends(&mut self, pairs: &Pairs, close: usize, role: StringRole, bare_keys: bool) {
        let unpaired = pairs.unpaired();
        // A quote too many, or the one that closes is missing: `"say "yes"`.
        let laid_out =
            pairs.at_line_end || pairs.after_key && bare_keys || pairs.after_comma && role == StringRole::Item;
        self.lost |= pairs.is_open() || laid_out;
        if unpaired > 0 {
            self.unpaired += unpaired;
            // Its first unpaired quote may pair with one of the string before.
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

    /// The comment at `at`; an unpaired quote in it may close the string before.
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

    /// A string whose closing quote is missing before the quote at `next`.
    pub(super) fn missing_quote(&mut self, next: usize) {
        self.unpaired += 1;
        self.fork(next, QuoteRole::Text);
    }
}

/// The inner quotes of one string, paired as they come.
#[derive(Debug, Default)]
pub(super) struct Pairs {
    open: usize,
    /// Quotes in the middle of a word, which may open.
    middle: usize,
    stray: usize,
    /// Quotes before a colon: the text holds what looks like a key.
    keys: usize,
    /// Whether one begins or ends a line, as the quotes around members do.
    at_line_end: bool,
    /// Whether one follows what looks like a key without quotes.
    after_key: bool,
    /// Whether one follows a comma, as the next item of a list does.
    after_comma: bool,
    /// All of them, apostrophes left out.
    count: usize,
    may_close: Vec<usize>,
}

/// The most quotes of one string that are remembered as possible ends.
const MOST_ENDS: usize = 8;

impl Pairs {
    /// How many have no partner.
    pub(super) fn unpaired(&self) -> usize {
        self.open + self.middle + self.stray + self.keys
    }

    /// Whether the last quotes opened something.
    pub(super) fn is_open(&self) -> bool {
        self.open > 0
    }

    /// Takes in the quote `c` at `at` of a string that starts at `start`.
    pub(super) fn see(&mut self, text: &str, at: usize, c: char, start: usize) {
        let before = text.get(start..at).unwrap_or_default();
        let rest = text.get(at + c.len_utf8()..).unwrap_or_default();
        self.pair(before, c, rest);
        self.place(before, rest, at);
    }

    /// Takes in a quote whose backslash is at `at`: it may be the partner of one without.
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

    /// Looks at what is around a quote.
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

/// Whether a text ends as one does in which the quote that closes is missing: `, key:`.
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

/// What a quote looks like by its neighbours.
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
