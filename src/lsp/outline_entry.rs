//! The entries of an outline.

use std::ops::Range;

/// The maximum number of values in an outline; the same as the limit for files.
pub(super) const MAX_ENTRIES: usize = 100_000;

/// A segment of the path to a value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum PathSegment {
    /// The name of a key.
    Key(String),
    /// The index of a list item, from 0.
    Item(usize),
}

/// The YAML style of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ValueStyle {
    /// Empty, or with its content on the lines below.
    Empty,
    /// A word or a line, with or without quotes.
    Scalar,
    /// Indented lines after `|` or `>`.
    Block,
    /// `{…}` or `[…]`.
    Flow,
}

/// A value, with its key if it has one.
#[derive(Clone, Debug)]
pub(super) struct OutlineEntry {
    /// The path to the value. A word without a colon, which may become a key, has the path of the mapping that contains
    /// it.
    pub(super) path: Vec<PathSegment>,
    /// The bytes of the key.
    pub(super) key_range: Option<Range<usize>>,
    /// The bytes of the value, without quotes.
    pub(super) value_range: Range<usize>,
    /// The last byte at which the user can continue the value, for example after a trailing space.
    pub(super) editable_end: usize,
    /// The style of the value.
    pub(super) style: ValueStyle,
}
