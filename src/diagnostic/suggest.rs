//! "Did you mean": finds the known name that is most similar to an unknown one.

/// The name in `known` that the user most likely meant by `got`, if one is similar enough.
///
/// A name is similar enough if its edit distance to `got` is at most a third of the letters of `got`; a distance of 1
/// is always accepted. Case, `-` instead of `_`, and a plural `s` do not count. Of equally similar names, the first
/// wins.
pub fn did_you_mean<'a>(got: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    near(got, known).map(|(name, _)| name)
}

/// The same, and whether no other name is similar enough.
pub(super) fn near<'a>(got: &str, known: impl IntoIterator<Item = &'a str>) -> Option<(&'a str, bool)> {
    let wanted = fold(got);
    let limit = (wanted.chars().count() / 3).max(1);
    let mut best: Option<(usize, &'a str)> = None;
    let mut only = true;
    for name in known {
        if name == got {
            continue;
        }
        let distance = distance(&wanted, &fold(name));
        if distance > limit {
            continue;
        }
        only &= best.is_none_or(|(_, first)| first == name);
        if best.is_none_or(|(least, _)| distance < least) {
            best = Some((distance, name));
        }
    }
    best.map(|(_, name)| (name, only))
}

fn distance(a: &str, b: &str) -> usize {
    // Long strings are not typos of each other, and the comparison takes quadratic time.
    if a.len() > 200 || b.len() > 200 {
        return usize::MAX;
    }
    strsim::osa_distance(a, b)
}

fn fold(name: &str) -> String {
    let lower = name.to_lowercase().replace(['-', ' '], "_");
    match lower.strip_suffix('s') {
        Some(stem) if stem.len() > 2 => stem.to_owned(),
        Some(_) | None => lower,
    }
}

#[cfg(test)]
mod tests {
    use super::{did_you_mean, near};

    #[test]
    fn close_names_are_suggested_and_far_ones_are_not() {
        let known = ["timeout", "inputs", "on_error", "id"];
        for (got, want) in [
            ("timout", Some("timeout")),
            ("input", Some("inputs")),
            ("onError", Some("on_error")),
            ("on-error", Some("on_error")),
            ("name", None),
            ("", None),
        ] {
            assert_eq!(did_you_mean(got, known), want, "{got}");
        }
    }

    #[test]
    fn a_name_with_a_rival_is_not_the_only_one() {
        assert_eq!(near("codr", ["coder", "planner"]), Some(("coder", true)));
        assert_eq!(near("codr", ["coder", "coder"]), Some(("coder", true)));
        assert_eq!(near("codr", ["coder", "code"]), Some(("coder", false)));
        assert_eq!(near("codr", ["planner"]), None);
    }
}
