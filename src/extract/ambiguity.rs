//! Records where the parser could have parsed repaired JSON in another way.
//!
//! Inner quotes come in pairs. If each inner quote in the strings and comments has a partner, the parser's result is
//! the value that the model meant. If a quote has no partner, its string may end at another quote. This module counts
//! the unpaired quotes. It also records forks: decisions about the role of one quote that would lead to another
//! result. orch then parses the text again with these decisions.

use super::cursor::is_space;
use super::strings::StringRole;

/// The role of a quote in a string.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum QuoteRole {
    /// The quote closes its string.
    Closes,
    /// The quote is part of the string's text.
    Text,
}

/// The byte position of a quote, and its role.
pub(super) type QuoteDecision = (usize, QuoteRole);

/// The maximum number of forks that one parse stores. A parse with more forks counts as ambiguous.
pub(super) const MAX_FORKS: usize = 64;

/// The ambiguities of one parse.
#[derive(Clone, Debug, Default)]
pub(super) struct QuoteAmbiguity {
    /// The roles that the caller of the parser fixed, sorted by position.
    pub(super) fixed_roles: Vec<QuoteDecision>,
    /// Decisions that would lead to another result.
    pub(super) forks: Vec<QuoteDecision>,
    /// The number of quotes in strings and comments that have no partner.
    pub(super) unpaired_quotes: usize,
    /// Whether no parse is reliable, for one of these reasons:
    ///
    /// - A comment directly follows a string, and both contain quotes, or one of them contains an unpaired quote.
    /// - No later quote closes an inner quote that opens a quotation.
    /// - The positions of the inner quotes are typical of the quotes around members or items.
    pub(super) is_unreliable: bool,
    /// The position of the closing quote of the last string that is a value.
    last_closing_quote: Option<usize>,
    /// Whether that string contains quotes.
    last_has_quotes: bool,
    /// Whether that string contains an unpaired quote.
    last_has_unpaired: bool,
}

impl QuoteAmbiguity {
    /// The fixed role of the quote at `pos`, if it has one.
    pub(super) fn fixed_role(&self, pos: usize) -> Option<QuoteRole> {
        self.fixed_roles.iter().find(|(quote_pos, _)| *quote_pos == pos).map(|(_, role)| *role)
    }

    fn add_fork(&mut self, pos: usize, role: QuoteRole) {
        if self.forks.len() <= MAX_FORKS && self.fixed_role(pos).is_none() {
            self.forks.push((pos, role));
        }
    }

    /// Records the end of a string at its closing quote.
    ///
    /// `has_bare_keys` is true if keys of this value have no quotes. The string may then contain such a key.
    pub(super) fn record_string_end(
        &mut self,
        pairs: &QuotePairs,
        closing_quote: usize,
        role: StringRole,
        has_bare_keys: bool,
    ) {
        let unpaired_count = pairs.unpaired_count();
        // These positions are typical of the quotes around members and items.
        let looks_like_members = pairs.has_quote_at_line_boundary
            || pairs.has_quote_after_bare_key && has_bare_keys
            || pairs.has_quote_after_comma && role == StringRole::Item;
        // In `"say "yes"`, a quote is open: the text has one quote too many, or the closing quote is missing.
        self.is_unreliable |= pairs.is_open() || looks_like_members;
        if unpaired_count > 0 {
            self.unpaired_quotes += unpaired_count;
            // The first unpaired quote may pair with a quote in the previous string.
            if let Some(last_closing_quote) = self.last_closing_quote {
                self.add_fork(last_closing_quote, QuoteRole::Text);
            }
            self.add_fork(closing_quote, QuoteRole::Text);
            for pos in &pairs.possible_ends {
                self.add_fork(*pos, QuoteRole::Closes);
            }
        }
        if role != StringRole::Key {
            self.last_closing_quote = Some(closing_quote);
            self.last_has_quotes = pairs.quote_count > 0;
            self.last_has_unpaired = unpaired_count > 0;
        }
    }

    /// Records the comment at `start`. An unpaired quote in the comment may close the previous string.
    pub(super) fn record_comment(&mut self, text: &str, start: usize, comment: &str) {
        let mut pairs = QuotePairs::default();
        for (pos, quote) in comment.char_indices().filter(|(_, c)| matches!(c, '"' | '\'' | '“' | '”')) {
            pairs.add_quote(comment, pos, quote, 0);
        }
        let unpaired_count = pairs.unpaired_count();
        let gap = self.last_closing_quote.and_then(|closing_quote| text.get(closing_quote..start));
        let follows_string = gap.is_some_and(|gap| gap.chars().skip(1).all(is_space));
        let both_have_quotes = self.last_has_quotes && pairs.quote_count > 0;
        self.is_unreliable |= follows_string && (self.last_has_unpaired || both_have_quotes || unpaired_count > 0);
        self.unpaired_quotes += unpaired_count;
        if let Some(last_closing_quote) = self.last_closing_quote.filter(|_| unpaired_count > 0) {
            self.add_fork(last_closing_quote, QuoteRole::Text);
        }
    }

    /// Records a string whose closing quote is missing before the quote at `next_quote`.
    pub(super) fn record_missing_quote(&mut self, next_quote: usize) {
        self.unpaired_quotes += 1;
        self.add_fork(next_quote, QuoteRole::Text);
    }
}

/// The inner quotes of one string, paired in order.
#[derive(Debug, Default)]
pub(super) struct QuotePairs {
    /// The number of opening quotes without a closing quote.
    open_quotes: usize,
    /// The number of quotes in the middle of a word, which may be opening quotes.
    mid_word_quotes: usize,
    /// The number of closing quotes without an opening quote.
    stray_closing_quotes: usize,
    /// The number of quotes before a colon, which may end a key.
    quotes_before_colon: usize,
    /// Whether a quote begins or ends a line, as the quotes around members do.
    has_quote_at_line_boundary: bool,
    /// Whether a quote follows text that may be a key without quotes.
    has_quote_after_bare_key: bool,
    /// Whether a quote follows a comma, as the opening quote of the next item does.
    has_quote_after_comma: bool,
    /// The number of all quotes; apostrophes do not count.
    quote_count: usize,
    /// The positions of quotes that may close the string.
    possible_ends: Vec<usize>,
}

/// The maximum number of possible ends that orch stores for one string.
const MAX_POSSIBLE_ENDS: usize = 8;

impl QuotePairs {
    /// The number of quotes without a partner.
    pub(super) fn unpaired_count(&self) -> usize {
        self.open_quotes + self.mid_word_quotes + self.stray_closing_quotes + self.quotes_before_colon
    }

    /// Whether an opening quote has no closing quote.
    pub(super) fn is_open(&self) -> bool {
        self.open_quotes > 0
    }

    /// Records the quote at `pos` in a string that starts at `start`.
    pub(super) fn add_quote(&mut self, text: &str, pos: usize, quote: char, start: usize) {
        let preceding = text.get(start..pos).unwrap_or_default();
        let following = text.get(pos + quote.len_utf8()..).unwrap_or_default();
        self.pair_quote(preceding, quote, following);
        self.record_surroundings(preceding, following, pos);
    }

    /// Records an escaped quote whose backslash is at `pos`. It may be the partner of a quote without a backslash.
    pub(super) fn add_escaped_quote(&mut self, text: &str, pos: usize, quote: char, start: usize) {
        let preceding = text.get(start..pos).unwrap_or_default();
        self.pair_quote(preceding, quote, text.get(pos + 1 + quote.len_utf8()..).unwrap_or_default());
    }

    fn pair_quote(&mut self, preceding: &str, quote: char, following: &str) {
        let side = classify_quote(preceding, quote, following);
        self.quote_count += usize::from(!matches!(side, QuoteSide::Apostrophe));
        match side {
            QuoteSide::Opening => self.open_quotes += 1,
            QuoteSide::Closing if self.open_quotes > 0 => self.open_quotes -= 1,
            QuoteSide::Closing if self.mid_word_quotes > 0 => self.mid_word_quotes -= 1,
            QuoteSide::Closing => self.stray_closing_quotes += 1,
            QuoteSide::MidWord => self.mid_word_quotes += 1,
            QuoteSide::Apostrophe => {}
        }
    }

    /// Records the text around the quote at `pos`.
    fn record_surroundings(&mut self, preceding: &str, following: &str, pos: usize) {
        let next = following.trim_start_matches(is_space);
        self.has_quote_after_comma |= preceding.trim_end_matches(is_space).ends_with([',', '，']);
        self.has_quote_after_bare_key |= ends_with_bare_key(preceding);
        let after_punctuation = following.trim_start_matches([' ', '\t', ',', '}', ']']);
        self.has_quote_at_line_boundary |=
            preceding.trim_end_matches([' ', '\t']).ends_with('\n') || after_punctuation.starts_with('\n');
        if next.starts_with([':', '：']) {
            self.quotes_before_colon += 1;
        }
        let has_line_break = following.get(..following.len() - next.len()).is_some_and(|gap| gap.contains('\n'));
        let may_close = next.starts_with([',', '，', '}', ']', '"', '\'', '“', '#', '/']) || has_line_break;
        if may_close && self.possible_ends.len() < MAX_POSSIBLE_ENDS {
            self.possible_ends.push(pos);
        }
    }
}

/// Whether a text ends with `, key:`, as it does if the closing quote before the key is missing.
fn ends_with_bare_key(text: &str) -> bool {
    let trimmed = text.trim_end_matches([' ', '\t']);
    let Some(before_colon) = trimmed.strip_suffix(':') else { return false };
    let before_key = before_colon.trim_end_matches(|c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '$'));
    let has_key = before_key.len() < before_colon.len();
    has_key && before_key.trim_end_matches([' ', '\t']).ends_with([',', '\n', '{'])
}

/// The side of the quoted text on which a quote is.
enum QuoteSide {
    Opening,
    Closing,
    MidWord,
    Apostrophe,
}

/// Determines the side of a quote by the characters next to it.
fn classify_quote(preceding: &str, quote: char, following: &str) -> QuoteSide {
    let previous = preceding.chars().next_back();
    let next = following.chars().next();
    let is_word_char = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    if matches!(quote, '\'' | '’') && is_word_char(previous) && is_word_char(next) {
        return QuoteSide::Apostrophe;
    }
    match quote {
        '“' | '„' | '«' | '‘' | '‚' => return QuoteSide::Opening,
        '”' | '»' | '’' => return QuoteSide::Closing,
        _ => {}
    }
    let follows_gap = previous.is_none_or(|c| is_space(c) || matches!(c, '(' | '[' | '{' | '<' | '`'));
    let follows_punctuation = previous.is_some_and(|c| "=:,;/-—–|\"'“‘".contains(c));
    let precedes_space = next.is_none_or(is_space);
    let precedes_word = is_word_char(next) || next.is_some_and(|c| "([{<$#@/\\_-.~\"'“".contains(c));
    if follows_gap && !precedes_space || follows_punctuation && precedes_word {
        QuoteSide::Opening
    } else if !follows_gap && (precedes_space || !is_word_char(next)) {
        QuoteSide::Closing
    } else {
        QuoteSide::MidWord
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count_unpaired(text: &str) -> usize {
        let mut pairs = QuotePairs::default();
        for (pos, quote) in text.char_indices().filter(|(_, c)| matches!(c, '"' | '“' | '”')) {
            pairs.add_quote(text, pos, quote, 0);
        }
        pairs.unpaired_count()
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
            assert_eq!(count_unpaired(text), 0, "{text}");
        }
        for text in [r#"say "yes"#, r#"a 5" disk"#, r#"no" or "maybe""#, r#"mid"dle"#, r#"the "k": v"#] {
            assert_eq!(count_unpaired(text), 1, "{text}");
        }
        assert_eq!(count_unpaired(r#"x", "y"#), 2);
    }
}
