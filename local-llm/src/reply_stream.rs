//! The text of a reply as the caller receives it, piece by piece.

/// The reply so far, and the length of its prefix that the caller has already received.
#[derive(Default)]
pub(crate) struct ReplyStream {
    reply: Vec<u8>,
    reported_len: usize,
}

impl ReplyStream {
    /// Returns the characters of `reply` that the caller has not received yet, except an incomplete one at its end. If
    /// the reply differs from the previous one, the text starts at the first difference.
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

/// Returns the reply up to the first of the texts that end it, and whether it contains one.
pub(crate) fn cut_at_stop(mut reply: Vec<u8>, stop: &[String]) -> (Vec<u8>, bool) {
    let position_of = |text: &[u8]| reply.windows(text.len()).position(|window| window == text);
    let texts = stop.iter().map(String::as_bytes).filter(|text| !text.is_empty());
    let end = texts.filter_map(position_of).min();
    if let Some(end) = end {
        reply.truncate(end);
    }
    (reply, end.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_ends_before_the_first_text_that_ends_it() {
        let cut = |reply: &str, stop: &[&str]| {
            let stop: Vec<String> = stop.iter().map(|text| (*text).to_owned()).collect();
            let (reply, is_cut) = cut_at_stop(reply.into(), &stop);
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
