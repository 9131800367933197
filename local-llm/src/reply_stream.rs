//! Streams the text of a reply to the caller, and ends it at stop sequences.

/// The reply so far, and the length of the prefix that the caller has received.
#[derive(Default)]
pub(crate) struct ReplyStream {
    reply: Vec<u8>,
    reported_len: usize,
}

impl ReplyStream {
    /// Returns the text of `reply` that the caller has not received yet. If `reply` ends within a character, the text
    /// ends before that character. If `reply` differs from the previous reply, the text starts at the first difference.
    pub(crate) fn take_unreported(&mut self, reply: Vec<u8>) -> String {
        let common_len = self.reply.iter().zip(&reply).take_while(|(a, b)| a == b).count();
        let max_start = self.reported_len.min(common_len);
        let is_boundary = |index: usize| reply.get(index).is_none_or(|byte| byte & 0xc0 != 0x80);
        let start = (0..=max_start).rev().find(|index| is_boundary(*index)).unwrap_or(0);
        let mut text = String::new();
        for chunk in reply.get(start..).unwrap_or_default().utf8_chunks() {
            text.push_str(chunk.valid());
            let invalid = chunk.invalid();
            let is_incomplete = std::str::from_utf8(invalid).is_err_and(|error| error.error_len().is_none());
            if is_incomplete {
                self.reported_len = reply.len() - invalid.len();
                self.reply = reply;
                return text;
            }
            if !invalid.is_empty() {
                text.push(char::REPLACEMENT_CHARACTER);
            }
        }
        self.reported_len = reply.len();
        self.reply = reply;
        text
    }
}

/// Cuts the reply off before the first stop sequence, and returns whether it contained one.
pub(crate) fn cut_at_stop(mut reply: Vec<u8>, stop_sequences: &[String]) -> (Vec<u8>, bool) {
    let position_of = |sequence: &[u8]| reply.windows(sequence.len()).position(|window| window == sequence);
    let non_empty = stop_sequences.iter().map(String::as_bytes).filter(|sequence| !sequence.is_empty());
    let end = non_empty.filter_map(position_of).min();
    if let Some(end) = end {
        reply.truncate(end);
    }
    (reply, end.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_ends_before_the_first_stop_sequence() {
        let cut = |reply: &str, stop_sequences: &[&str]| {
            let stop_sequences: Vec<String> = stop_sequences.iter().map(|sequence| (*sequence).to_owned()).collect();
            let (reply, is_cut) = cut_at_stop(reply.into(), &stop_sequences);
            (String::from_utf8(reply).unwrap(), is_cut)
        };
        assert_eq!(cut("one two three", &["three", "two"]), ("one ".to_owned(), true));
        assert_eq!(cut("one two", &["twos", ""]), ("one two".to_owned(), false));
        assert_eq!(cut("äö", &["ö"]), ("ä".to_owned(), true));
        assert_eq!(cut("", &["x"]), (String::new(), false));
    }

    #[test]
    fn only_complete_characters_are_reported() {
        let mut stream = ReplyStream::default();
        assert_eq!(stream.take_unreported(b"a\xc3".into()), "a");
        assert_eq!(stream.take_unreported(b"a\xc3\xa4b".into()), "äb");
        assert_eq!(stream.take_unreported("aäb".into()), "");
        assert_eq!(stream.take_unreported(b"a\xc3\xa4b\xff!".into()), "\u{fffd}!");
        assert_eq!(stream.take_unreported("aäc".into()), "c");
        assert_eq!(stream.take_unreported("aöc".into()), "öc");
    }
}
