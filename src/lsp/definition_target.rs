//! The place of a definition.

use std::ops::Range;
use std::sync::Arc;

use crate::diagnostic::SourceFile;

/// A definition: a range in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DefinitionTarget {
    pub(super) file: Arc<SourceFile>,
    pub(super) span: Range<usize>,
}
