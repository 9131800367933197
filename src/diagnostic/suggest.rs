//! "Did you mean": finds the known name that is most similar to an unknown one.

use crate::model::most_similar_name;

/// Returns the candidate that the user most likely meant by `unknown_name`, if one is similar enough; see
/// [`most_similar_name`].
pub fn did_you_mean<'a>(unknown_name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    most_similar_name(unknown_name, candidates).map(|similar| similar.name)
}
