//! What must hold on any input: one function a target, which panics when it does not.
//!
//! `fuzz_targets/` gives each function to libFuzzer; `tests/replay.rs` runs them on stable Rust over the corpus. An
//! input of several files or messages has them one after another, with [`SEPARATOR`] between.

mod extract;
mod import;
mod load;
mod lsp;
mod schema;
mod stream;
mod template;

pub use extract::extract;
pub use import::import;
pub use load::load;
pub use lsp::lsp;
pub use schema::schema;
pub use stream::stream;
pub use template::template;

/// A target: its name, which is that of its binary and of its folder in `corpus/`, and its function.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: &[Target] = &[
    ("extract", extract),
    ("import", import),
    ("load", load),
    ("lsp", lsp),
    ("schema", schema),
    ("stream", stream),
    ("template", template),
];

/// What stands between the parts of an input: the record separator of ASCII.
pub const SEPARATOR: u8 = 0x1e;

/// The largest input that is tried; larger ones only take longer.
const MAX_INPUT: usize = 64 << 10;

/// The parts of an input as texts; parts that are missing are empty.
fn parts<const N: usize>(input: &[u8]) -> [String; N] {
    let input = input.get(..MAX_INPUT).unwrap_or(input);
    let mut each = input.splitn(N, |byte| *byte == SEPARATOR);
    std::array::from_fn(|_| String::from_utf8_lossy(each.next().unwrap_or_default()).into_owned())
}

/// Checks that a range is a place in a text.
fn assert_place(text: &str, range: &std::ops::Range<usize>, what: &dyn std::fmt::Debug) {
    assert!(text.get(range.clone()).is_some(), "{range:?} is no place in a text of {} bytes: {what:?}", text.len());
}
