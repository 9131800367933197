//! Numbers of things in messages.

use std::fmt::Display;

/// A number with a noun in singular or plural: `1 line`, `3 lines`. The plural of the noun ends with an additional `s`.
pub fn counted<N: Display + PartialEq + From<u8>>(count: N, noun: &str) -> String {
    let ending = if count == N::from(1) { "" } else { "s" };
    format!("{count} {noun}{ending}")
}

#[cfg(test)]
mod tests {
    use super::counted;

    #[test]
    fn only_one_thing_is_singular() {
        assert_eq!(
            [counted(0_usize, "line"), counted(1_u64, "line"), counted(2_u32, "line")],
            ["0 lines", "1 line", "2 lines"]
        );
    }
}
