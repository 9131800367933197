//! The text of a reply, which the Responses API sends up to three times: in pieces, as complete parts, and as complete
//! messages. Some servers send no pieces, and some send the complete texts only after the last piece.

use crate::model::surrogates;

/// The text of a reply so far, and how much of it the server has confirmed with complete texts.
#[derive(Debug, Default)]
pub(super) struct ReceivedText {
    text: String,
    /// The total length of the complete parts so far.
    confirmed_in_parts: usize,
    /// The total length of the complete messages so far.
    confirmed_in_items: usize,
}

impl ReceivedText {
    /// Appends a piece.
    pub(super) fn push(&mut self, piece: &str) {
        surrogates::append(&mut self.text, piece);
    }

    /// The end of a complete part that has not arrived in pieces; `None` if the pieces differ from the part.
    pub(super) fn missing_in_part<'a>(&self, full_text: &'a str) -> Option<&'a str> {
        self.missing_after(self.confirmed_in_parts, full_text)
    }

    /// The end of a complete message that has not arrived in pieces; `None` if the pieces differ from the message.
    pub(super) fn missing_in_item<'a>(&self, full_text: &'a str) -> Option<&'a str> {
        self.missing_after(self.confirmed_in_items, full_text)
    }

    /// The end of the whole text of a response that has not arrived in pieces; `None` if the pieces differ from it. No
    /// further pieces can arrive, so the pieces must be the beginning of the text.
    pub(super) fn missing_in_response<'a>(&self, full_text: &'a str) -> Option<&'a str> {
        full_text.strip_prefix(self.text.as_str())
    }

    fn missing_after<'a>(&self, start: usize, full_text: &'a str) -> Option<&'a str> {
        let received = self.text.get(start..).unwrap_or_default();
        if received.starts_with(full_text) { Some("") } else { full_text.strip_prefix(received) }
    }

    /// Records that a part of this length is complete.
    pub(super) fn confirm_part(&mut self, length: usize) {
        self.confirmed_in_parts += length;
    }

    /// Records that a message of this length is complete, with all its parts.
    pub(super) fn confirm_item(&mut self, length: usize) {
        self.confirmed_in_items += length;
        self.confirmed_in_parts = self.confirmed_in_parts.max(self.confirmed_in_items);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(text: &str) -> ReceivedText {
        let mut received = ReceivedText::default();
        received.push(text);
        received
    }

    #[test]
    fn received_text_is_not_missing_and_different_text_is_detected() {
        assert_eq!(received("Hello").missing_in_item("Hello"), Some(""));
        assert_eq!(received("").missing_in_item("Hello"), Some("Hello"));
        assert_eq!(received("Hel").missing_in_item("Hello"), Some("lo"));
        assert_eq!(received("Help").missing_in_item("Hello"), None);
    }

    #[test]
    fn the_text_of_a_response_must_begin_with_all_pieces() {
        assert_eq!(received("Hello").missing_in_response("Hello"), Some(""));
        assert_eq!(received("Hel").missing_in_response("Hello"), Some("lo"));
        for text in ["Hel", "Help", ""] {
            assert_eq!(received("Hello").missing_in_response(text), None, "{text}");
        }
    }

    #[test]
    fn complete_parts_and_messages_may_arrive_after_all_pieces() {
        let mut text = received("one two");
        assert_eq!(text.missing_in_part("one "), Some(""));
        text.confirm_part(4);
        assert_eq!(text.missing_in_part("two"), Some(""));
        text.confirm_part(3);
        assert_eq!(text.missing_in_item("one "), Some(""));
        text.confirm_item(4);
        assert_eq!(text.missing_in_item("two!"), Some("!"));
    }
}
