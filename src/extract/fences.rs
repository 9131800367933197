//! Finds fenced blocks by the rules of `CommonMark`, but with any indentation.

/// A line that opens or closes a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fence<'a> {
    pub(super) mark: u8,
    pub(super) length: usize,
    /// The rest of the line after the marks.
    pub(super) info: &'a str,
    /// The byte after the marks.
    pub(super) end: usize,
}

/// The end of the line that starts at `at`, without its line break.
pub(super) fn line_end(text: &str, at: usize) -> usize {
    text.as_bytes().get(at..).and_then(|rest| rest.iter().position(|b| *b == b'\n')).map_or(text.len(), |i| at + i)
}

/// The fence on the line that starts at `at`.
pub(super) fn fence(text: &str, at: usize) -> Option<Fence<'_>> {
    let bytes = text.as_bytes();
    let indent = bytes.get(at..)?.iter().take_while(|b| matches!(b, b' ' | b'\t')).count();
    let start = at + indent;
    let mark = *bytes.get(start).filter(|b| matches!(b, b'`' | b'~'))?;
    let length = bytes.get(start..)?.iter().take_while(|b| **b == mark).count();
    if length < 3 {
        return None;
    }
    let end = start + length;
    let info = text.get(end..line_end(text, end))?;
    Some(Fence { mark, length, info, end })
}

/// Where the line that closes a block starts, searched from the line at `at`; `None` when no line closes it.
pub(super) fn closing(text: &str, mut at: usize, open: &Fence<'_>) -> Option<usize> {
    while at < text.len() {
        if fence(text, at)
            .is_some_and(|found| found.mark == open.mark && found.length >= open.length && found.info.trim().is_empty())
        {
            return Some(at);
        }
        at = line_end(text, at) + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_ends_at_its_own_kind_of_fence() {
        let text = "````json\n```\n~~~~\n  `````  \nx";
        let open = fence(text, 0).unwrap();
        assert_eq!((open.length, open.info), (4, "json"));
        assert_eq!(closing(text, 9, &open), Some(18));
        assert!(fence("``x", 0).is_none());
    }
}
