//! Tracks the lines of a file content between fences: detects the closing fence, and the lines that the model must not
//! write.
//!
//! The closing fence is a line of exactly three backticks, with nothing but white space after them. So four backticks
//! do not end a content. Three backticks with a language after them open a block inside the content, as in a
//! documentation comment; the next line of backticks closes this block and not the content.

/// The opening and the closing fence of a content, without the language.
pub(super) const FENCE: &[u8] = b"```";

/// The state of a file content after its last character.
#[derive(Debug, Default)]
pub(super) struct ContentLines {
    /// The last line, which is incomplete.
    partial: Vec<u8>,
    /// The length of `partial` without an incomplete character at its end.
    complete_len: usize,
    /// Whether a complete line precedes `partial`.
    has_line: bool,
    /// The number of backticks that opened a block inside the content; `None` outside of such blocks.
    inner_fence: Option<usize>,
}

/// Splits a line into the number of backticks at its beginning, and the rest.
fn split_fence(line: &[u8]) -> (usize, &[u8]) {
    let count = line.iter().take_while(|byte| **byte == b'`').count();
    (count, line.get(count..).unwrap_or_default())
}

/// Whether the rest of a line after backticks names a language, so that the line opens a block.
fn is_language(rest: &[u8]) -> bool {
    let rest = rest.trim_ascii();
    rest.first().is_some_and(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'{' | b'.'))
        && !rest.contains(&b'`')
}

impl ContentLines {
    /// Whether the content has a complete line.
    pub(super) fn has_line(&self) -> bool {
        self.has_line
    }

    /// Whether the last line is empty.
    pub(super) fn is_at_line_start(&self) -> bool {
        self.partial.is_empty()
    }

    /// The last line, without an incomplete character at its end.
    pub(super) fn last_line(&self) -> String {
        let complete_chars = self.partial.get(..self.complete_len).unwrap_or_default();
        String::from_utf8_lossy(complete_chars).into_owned()
    }

    /// Whether the last line is the closing fence, unless the model continues this line.
    pub(super) fn is_at_fence(&self) -> bool {
        let rest = self.partial.strip_prefix(FENCE);
        self.inner_fence.is_none() && rest.is_some_and(|rest| rest.trim_ascii().is_empty())
    }

    /// Whether the content ends before this byte. A comma or a closing bracket directly after the backticks also ends
    /// it: the model then continues the JSON document without a line end.
    pub(super) fn ends_before(&self, byte: u8) -> bool {
        let is_after_backticks = self.partial == FENCE;
        self.is_at_fence()
            && (matches!(byte, b'\n' | b'\r') || (is_after_backticks && matches!(byte, b',' | b'}' | b']')))
    }

    /// Adds a byte that does not end the content.
    pub(super) fn push(&mut self, byte: u8) {
        self.partial.push(byte);
        if self.partial.get(self.complete_len..).is_some_and(|char| std::str::from_utf8(char).is_ok()) {
            self.complete_len = self.partial.len();
        }
    }

    /// Completes the last line and begins a new one.
    pub(super) fn end_line(&mut self) {
        let (count, rest) = split_fence(&self.partial);
        self.inner_fence = match self.inner_fence {
            None if count >= FENCE.len() && self.has_line && is_language(rest) => Some(count),
            // Other characters may follow the backticks: the end of the string or the comment that contains the block.
            Some(opening) if count >= opening && !is_language(rest) => None,
            inner_fence => inner_fence,
        };
        self.has_line = true;
        self.partial.clear();
        self.complete_len = 0;
    }

    /// The number of bytes of an incomplete character at the end of the last line.
    pub(super) fn incomplete_char_len(&self) -> usize {
        self.partial.len().saturating_sub(self.complete_len)
    }

    /// Whether the content is still UTF-8 after it continues with these bytes, except for an incomplete character at
    /// its end.
    fn remains_utf8(&self, bytes: &[u8]) -> bool {
        let is_utf8 = |bytes: &[u8]| std::str::from_utf8(bytes).err().is_none_or(|error| error.error_len().is_none());
        match self.partial.get(self.complete_len..).unwrap_or_default() {
            [] => is_utf8(bytes),
            incomplete_char => is_utf8(&[incomplete_char, bytes].concat()),
        }
    }

    /// Whether the content may continue with these bytes. `may_end` is true if the schema allows the content to end.
    ///
    /// - A JSON string contains only complete characters, so another character may not follow an incomplete one.
    /// - If the content may not end, no line may begin with a fence: the decoder cannot remove the backticks again.
    /// - The first line may begin with a fence only to end an empty content. A model that writes anything else after
    ///   the backticks repeats the opening fence.
    pub(super) fn may_continue(&self, bytes: &[u8], may_end: bool) -> bool {
        if bytes.is_empty() || !self.remains_utf8(bytes) {
            return false;
        }
        if self.inner_fence.is_some() || (may_end && self.has_line) {
            return true;
        }
        let mut line = self.partial.iter().chain(bytes);
        let starts_with_fence = line.by_ref().take(FENCE.len()).eq(FENCE);
        if may_end {
            let may_follow = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b',' | b'}' | b']');
            return !starts_with_fence || line.next().is_none_or(may_follow);
        }
        let mut later_lines = bytes.split(|byte| *byte == b'\n').skip(1);
        !starts_with_fence && !later_lines.any(|line| line.starts_with(FENCE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The part of `text` that belongs to the content, and whether the content ends after it.
    fn until_end(text: &str) -> (&str, bool) {
        let mut lines = ContentLines::default();
        for (index, byte) in text.bytes().enumerate() {
            if lines.ends_before(byte) {
                return (&text[..index - lines.last_line().len()], true);
            }
            lines.push(byte);
            if byte == b'\n' {
                lines.end_line();
            }
        }
        (text, lines.is_at_fence())
    }

    #[test]
    fn a_line_of_three_backticks_ends_a_content() {
        for text in ["", "x\n", "x\n\n", "``\n````\n", " ```\n", "x```\n", "```echo `x` ```\n", "x\n```\"\"\"\n"] {
            for end in ["```\n", "```\r\n", "``` \t\n", "```}", "```,\"b\"", "```]\n"] {
                assert_eq!(until_end(&format!("{text}{end}y\n```\n")), (text, true), "{text:?} {end:?}");
            }
            for end in ["```", "```  "] {
                assert!(until_end(&format!("{text}{end}")).1, "{text:?} {end:?}");
            }
        }
        for text in ["", "x", "`", "``", "x\n````", "x\n```rust", "x\n```rust\ny\n```"] {
            assert!(!until_end(text).1, "{text:?}");
        }
    }

    #[test]
    fn a_fence_that_closes_an_inner_block_does_not_end_the_content() {
        for text in [
            "//! x\n```rust\nf();\n```\nmod a;\n",
            "x = \"\"\"\n```json\n{}\n```\"\"\"\ny\n",
            "/**\n```{.js}\nx\n``` */\n",
            "x\n````md\n```js\n```\n````\n",
            "x\n``` ts\n```js\n```\n```js\n``````\n",
        ] {
            assert_eq!(until_end(&format!("{text}```\n}}")), (text, true), "{text:?}");
        }
    }

    #[test]
    fn a_content_that_may_not_end_has_no_fences() {
        let lines = |text: &str| {
            let mut lines = ContentLines::default();
            for byte in text.bytes() {
                lines.push(byte);
                if byte == b'\n' {
                    lines.end_line();
                }
            }
            lines
        };
        for (partial, next) in [("", "```"), ("``", "`"), ("x\n`", "``py"), ("x", "\n```"), ("x\n", "y\n\n````\n")] {
            assert!(!lines(partial).may_continue(next.as_bytes(), false), "{partial:?} {next:?}");
            assert!(lines(partial).may_continue(next.as_bytes(), true), "{partial:?} {next:?}");
        }
        for (partial, next) in [("", "``"), ("", "x```"), ("x``", "`"), ("``", "x\n"), ("x\n```py\n", "```")] {
            assert!(lines(partial).may_continue(next.as_bytes(), false), "{partial:?} {next:?}");
        }
        // The first line may be a closing fence, but not an opening one.
        for (next, may_follow) in [("\n", true), (" ", true), ("}", true), ("python", false), ("`", false)] {
            assert_eq!(lines("```").may_continue(next.as_bytes(), true), may_follow, "{next:?}");
            assert!(lines("x\n```").may_continue(next.as_bytes(), true), "{next:?}");
        }
        assert!(!lines("").may_continue(b"```python\n", true));
    }

    #[test]
    fn a_content_has_only_complete_characters() {
        let mut lines = ContentLines::default();
        for byte in b"x\xf0\x9f" {
            lines.push(*byte);
        }
        assert_eq!(lines.last_line(), "x");
        for (next, may_follow) in [
            (&b"\x98"[..], true),
            (b"\x98\x80", true),
            (b"\x98\x80\n\xc3", true),
            (b"\n", false),
            (b"y", false),
            (b"\x98y", false),
            (b"\xff", false),
            (b"", false),
        ] {
            assert_eq!(lines.may_continue(next, true), may_follow, "{next:?}");
        }
        lines.push(0x98);
        lines.push(0x80);
        assert_eq!(lines.last_line(), "x😀");
        assert!(lines.may_continue(b"\n", true) && !lines.may_continue(b"\x80", true));
    }
}
