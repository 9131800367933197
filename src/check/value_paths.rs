//! Paths of values, such as `plan.notes[0]`.

/// The variable at which a path begins.
pub(super) fn root_name(path: &str) -> &str {
    path.split(['.', '[']).next().unwrap_or_default()
}

/// The rest of a path that leads to the value at another path or to a part of it; `None` for any other path.
pub(super) fn path_below<'p>(path: &'p str, other: &str) -> Option<&'p str> {
    path.strip_prefix(other).filter(|suffix| suffix.is_empty() || suffix.starts_with(['.', '[']))
}

/// Whether a path leads to the value of `name`, a variable or a member of one, or to a part of it, or computes an index
/// from it, as in `list[name + 1]`.
pub(super) fn depends_on(path: &str, name: &str) -> bool {
    let mut indexes = path.split('[').skip(1).filter_map(|tail| tail.split(']').next());
    path_below(path, name).is_some() || indexes.any(|index| contains_name(index, name))
}

/// Whether a text contains a name that is not a part of a longer one.
fn contains_name(text: &str, name: &str) -> bool {
    let is_name_char = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(name).any(|(start, found)| {
        let (preceding, following) = (text.get(..start), text.get(start + found.len()..));
        preceding.is_none_or(|text| !text.ends_with(is_name_char))
            && following.is_none_or(|text| !text.starts_with(is_name_char))
    })
}
