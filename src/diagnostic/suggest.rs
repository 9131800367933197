//! "Did you mean": finds the known name that is most similar to an unknown one.

/// Returns the candidate that the user most likely meant by `unknown_name`, if one is similar enough.
///
/// A candidate is similar enough if its edit distance to `unknown_name` is at most a third of the letters of
/// `unknown_name`; a distance of 1 is always accepted. Case, `-` instead of `_`, and a plural `s` do not count. If
/// several candidates are equally similar, returns the first.
pub fn did_you_mean<'a>(unknown_name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    closest_candidate(unknown_name, candidates).map(|(name, _)| name)
}

/// Like [`did_you_mean`], but also returns whether no other candidate is similar enough.
pub(super) fn closest_candidate<'a>(
    unknown_name: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<(&'a str, bool)> {
    let normalized = normalize(unknown_name);
    let max_distance = (normalized.chars().count() / 3).max(1);
    let mut best: Option<(usize, &'a str)> = None;
    let mut is_unique = true;
    for name in candidates {
        if name == unknown_name {
            continue;
        }
        let distance = edit_distance(&normalized, &normalize(name));
        if distance > max_distance {
            continue;
        }
        is_unique &= best.is_none_or(|(_, best_name)| best_name == name);
        if best.is_none_or(|(best_distance, _)| distance < best_distance) {
            best = Some((distance, name));
        }
    }
    best.map(|(_, name)| (name, is_unique))
}

fn edit_distance(first: &str, second: &str) -> usize {
    // Long strings are not typos of each other, and comparing them takes quadratic time.
    if first.len() > 200 || second.len() > 200 {
        return usize::MAX;
    }
    strsim::osa_distance(first, second)
}

fn normalize(name: &str) -> String {
    let lowercase = name.to_lowercase().replace(['-', ' '], "_");
    match lowercase.strip_suffix('s') {
        Some(stem) if stem.len() > 2 => stem.to_owned(),
        Some(_) | None => lowercase,
    }
}

#[cfg(test)]
mod tests {
    use super::{closest_candidate, did_you_mean};

    #[test]
    fn similar_names_are_suggested_and_other_names_are_not() {
        let known = ["timeout", "inputs", "on_error", "id"];
        for (unknown_name, expected) in [
            ("timout", Some("timeout")),
            ("input", Some("inputs")),
            ("onError", Some("on_error")),
            ("on-error", Some("on_error")),
            ("name", None),
            ("", None),
        ] {
            assert_eq!(did_you_mean(unknown_name, known), expected, "{unknown_name}");
        }
    }

    #[test]
    fn a_candidate_with_a_similar_alternative_is_not_unique() {
        assert_eq!(closest_candidate("codr", ["coder", "planner"]), Some(("coder", true)));
        assert_eq!(closest_candidate("codr", ["coder", "coder"]), Some(("coder", true)));
        assert_eq!(closest_candidate("codr", ["coder", "code"]), Some(("coder", false)));
        assert_eq!(closest_candidate("codr", ["planner"]), None);
    }
}
