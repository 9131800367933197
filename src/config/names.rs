//! Names of files that a pipeline gives: confined to their folders.

use std::path::{Component, Path, PathBuf};

/// The path of a named file below `folder`, or why the name is refused.
pub(super) fn confined(folder: &Path, name: &str) -> Result<PathBuf, String> {
    let path = Path::new(name);
    let plain = path.components().all(|part| matches!(part, Component::Normal(_)));
    if name.is_empty() || !plain || name.contains('\\') {
        return Err(format!("`{name}` leads out of its folder; give the name of a file in it"));
    }
    let full = folder.join(path);
    // A link may lead anywhere: what counts is where the file really is.
    if let (Ok(real), Ok(folder)) = (full.canonicalize(), folder.canonicalize())
        && !real.starts_with(&folder)
    {
        return Err(format!("`{name}` is a link that leads out of its folder"));
    }
    Ok(full)
}
