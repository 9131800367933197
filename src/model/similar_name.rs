//! Finds the known name that a user most likely meant by an unknown one.

/// The known name that is most similar to an unknown one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SimilarName<'a> {
    /// The known name.
    pub name: &'a str,
    /// Whether fewer than a third of the letters differ.
    pub is_close: bool,
    /// Whether every other similar name differs in at least two letters more.
    pub is_unique: bool,
}

impl SimilarName<'_> {
    /// Whether the user surely meant this name.
    pub fn is_certain(self) -> bool {
        self.is_close && self.is_unique
    }
}

/// Returns the candidate that is most similar to `unknown_name`, if one is similar enough.
///
/// A candidate is similar enough if at most a third of the letters differ, counted with the names as they are and
/// without a plural `s`. Case and `-` instead of `_` do not count, nor does a plural `s` that is the only difference.
/// If several candidates are equally similar, returns the first.
pub fn most_similar_name<'a>(
    unknown_name: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<SimilarName<'a>> {
    let unknown = normalize(unknown_name);
    let mut similar: Vec<(Difference, &'a str)> = Vec::new();
    for name in candidates.into_iter().filter(|name| *name != unknown_name) {
        similar.extend(Difference::between(&unknown, &normalize(name)).map(|difference| (difference, name)));
    }
    let (best, name) = similar.iter().copied().min_by_key(|(difference, _)| difference.distance)?;
    let is_unique =
        similar.iter().all(|(other, other_name)| *other_name == name || other.distance >= best.distance + 2);
    Some(SimilarName { name, is_close: best.is_small, is_unique })
}

/// The difference between two similar names.
#[derive(Clone, Copy)]
struct Difference {
    /// The edit distance.
    distance: usize,
    /// Whether fewer than a third of the letters differ.
    is_small: bool,
}

impl Difference {
    /// The difference between two normalized names; `None` if they are not similar.
    fn between(unknown: &str, known: &str) -> Option<Self> {
        // Long strings are not typos of each other, and comparing them takes quadratic time.
        if unknown.len() > 200 || known.len() > 200 {
            return None;
        }
        let (unknown_stem, known_stem) = (stem(unknown), stem(known));
        if unknown_stem == known_stem {
            return Some(Self { distance: 0, is_small: true });
        }
        let distance = strsim::osa_distance(unknown, known);
        let length = unknown.chars().count().max(known.chars().count());
        // With the stems alone, `lots` would be as similar to `low` as `lot` is.
        let stem_distance = strsim::osa_distance(unknown_stem, known_stem);
        let is_similar = distance * 3 <= length && stem_distance * 3 <= unknown_stem.chars().count();
        is_similar.then_some(Self { distance: stem_distance, is_small: distance * 3 < length })
    }
}

/// A name in lower case, with `_` as the only separator.
fn normalize(name: &str) -> String {
    name.to_lowercase().replace(['-', ' '], "_")
}

/// A normalized name without a plural `s`.
fn stem(name: &str) -> &str {
    name.strip_suffix('s').filter(|stem| stem.len() > 1).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn similar_names_are_found_and_other_names_are_not() {
        let known = ["timeout", "inputs", "on_error", "id", "low", "e"];
        for (unknown_name, expected) in [
            ("timout", Some("timeout")),
            ("input", Some("inputs")),
            ("inpt", Some("inputs")),
            ("onError", Some("on_error")),
            ("on-error", Some("on_error")),
            ("ids", Some("id")),
            ("ID", Some("id")),
            ("name", None),
            ("lots", None),
            ("d", None),
            ("ie", None),
            ("", None),
        ] {
            let found = most_similar_name(unknown_name, known).map(|similar| similar.name);
            assert_eq!(found, expected, "{unknown_name}");
        }
    }

    #[test]
    fn a_name_is_certain_if_few_letters_differ_and_no_other_name_is_as_similar() {
        for (unknown_name, known, expected) in [
            ("codr", &["coder", "planner"][..], Some(("coder", true))),
            ("codr", &["coder", "coder"], Some(("coder", true))),
            ("codr", &["coder", "code"], Some(("coder", false))),
            ("min_lenght", &["max_length", "min_length"], Some(("min_length", true))),
            ("codr", &["planner"], None),
            ("itm", &["item"], Some(("item", true))),
            ("agents", &["agent"], Some(("agent", true))),
            // A third of the letters: it may be another name.
            ("lot", &["low"], Some(("low", false))),
            ("inpt", &["inputs"], Some(("inputs", false))),
        ] {
            let found = most_similar_name(unknown_name, known.iter().copied());
            assert_eq!(found.map(|similar| (similar.name, similar.is_certain())), expected, "{unknown_name}");
        }
    }
}
