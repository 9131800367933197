//! The text of a reply, which the Responses API sends up to three times: in pieces, at the end of each part, and at the
//! end of each message. Some servers leave the pieces out, and some send all ends after the last piece.

/// The text that has arrived, and how much of it was repeated as a whole.
#[derive(Debug, Default)]
pub(super) struct ArrivedText {
    text: String,
    /// The length of the text whose parts have ended.
    in_ended_parts: usize,
    /// The length of the text whose messages have ended.
    in_ended_items: usize,
}

impl ArrivedText {
    /// Appends a piece.
    pub(super) fn push(&mut self, piece: &str) {
        self.text.push_str(piece);
    }

    /// The end of a complete part that has not arrived in pieces; `None` if the pieces differ from the part.
    pub(super) fn missing_in_part<'a>(&self, whole: &'a str) -> Option<&'a str> {
        self.missing_after(self.in_ended_parts, whole)
    }

    /// The end of a complete message that has not arrived in pieces; `None` if the pieces differ from the message.
    pub(super) fn missing_in_item<'a>(&self, whole: &'a str) -> Option<&'a str> {
        self.missing_after(self.in_ended_items, whole)
    }

    fn missing_after<'a>(&self, start: usize, whole: &'a str) -> Option<&'a str> {
        let arrived = self.text.get(start..).unwrap_or_default();
        if arrived.starts_with(whole) { Some("") } else { whole.strip_prefix(arrived) }
    }

    /// Ends a part of this length.
    pub(super) fn confirm_part(&mut self, length: usize) {
        self.in_ended_parts += length;
    }

    /// Ends a message of this length, with all its parts.
    pub(super) fn confirm_item(&mut self, length: usize) {
        self.in_ended_items += length;
        self.in_ended_parts = self.in_ended_parts.max(self.in_ended_items);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrived(text: &str) -> ArrivedText {
        let mut arrived = ArrivedText::default();
        arrived.push(text);
        arrived
    }

    #[test]
    fn text_that_arrived_is_not_missing_and_other_text_differs() {
        assert_eq!(arrived("Hello").missing_in_item("Hello"), Some(""));
        assert_eq!(arrived("").missing_in_item("Hello"), Some("Hello"));
        assert_eq!(arrived("Hel").missing_in_item("Hello"), Some("lo"));
        assert_eq!(arrived("Help").missing_in_item("Hello"), None);
    }

    #[test]
    fn the_ends_of_parts_and_messages_may_come_after_all_pieces() {
        let mut text = arrived("one two");
        assert_eq!(text.missing_in_part("one "), Some(""));
        text.confirm_part(4);
        assert_eq!(text.missing_in_part("two"), Some(""));
        text.confirm_part(3);
        assert_eq!(text.missing_in_item("one "), Some(""));
        text.confirm_item(4);
        assert_eq!(text.missing_in_item("two!"), Some("!"));
    }
}
