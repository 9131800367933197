//! Finds fenced blocks by the rules of `CommonMark`, but with any indentation.

/// A fence: a line that opens or closes a fenced block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fence<'a> {
    /// The character of the fence: a backtick or a tilde.
    pub(super) marker: u8,
    /// The number of markers.
    pub(super) length: usize,
    /// The info string: the text after the markers.
    pub(super) info: &'a str,
    /// The byte after the markers.
    pub(super) info_start: usize,
}

/// The end of the line that contains `pos`, without its line break.
pub(super) fn line_end(text: &str, pos: usize) -> usize {
    text.as_bytes().get(pos..).and_then(|tail| tail.iter().position(|b| *b == b'\n')).map_or(text.len(), |i| pos + i)
}

/// The fence on the line that starts at `line_start`.
pub(super) fn fence_at(text: &str, line_start: usize) -> Option<Fence<'_>> {
    let bytes = text.as_bytes();
    let indent = bytes.get(line_start..)?.iter().take_while(|b| matches!(b, b' ' | b'\t')).count();
    let start = line_start + indent;
    let marker = *bytes.get(start).filter(|b| matches!(b, b'`' | b'~'))?;
    let length = bytes.get(start..)?.iter().take_while(|b| **b == marker).count();
    if length < 3 {
        return None;
    }
    let info_start = start + length;
    let info = text.get(info_start..line_end(text, info_start))?;
    Some(Fence { marker, length, info, info_start })
}

/// The start of the first line at or after `line_start` that closes a block; `None` if no line closes it.
pub(super) fn closing_line(text: &str, mut line_start: usize, opening: &Fence<'_>) -> Option<usize> {
    let is_closing = |fence: Fence<'_>| {
        fence.marker == opening.marker && fence.length >= opening.length && fence.info.trim().is_empty()
    };
    while line_start < text.len() {
        if fence_at(text, line_start).is_some_and(is_closing) {
            return Some(line_start);
        }
        line_start = line_end(text, line_start) + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_ends_at_a_fence_of_its_own_marker() {
        let text = "````json\n```\n~~~~\n  `````  \nx";
        let opening = fence_at(text, 0).unwrap();
        assert_eq!((opening.length, opening.info), (4, "json"));
        assert_eq!(closing_line(text, 9, &opening), Some(18));
        assert!(fence_at("``x", 0).is_none());
    }
}
