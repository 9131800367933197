//! Loads a test case. Every path in it must stay in its project, because the author of a test case may not be trusted.

use std::path::{Component, Path};

use super::spans::{Document, item};
use super::{files, generate, load, root, sources::Sources};
use crate::diagnostic::{Code, Diagnostic};
use crate::model::case::Case;

/// Loads a test case.
///
/// # Errors
/// Every mistake of the file.
pub fn load_case(path: &Path) -> Result<(Document, Case), Vec<Diagnostic>> {
    load_case_from(&Sources::default(), path)
}

/// Like [`load_case`], with texts that replace files.
///
/// # Errors
/// Every mistake of the file.
pub fn load_case_from(sources: &Sources, path: &Path) -> Result<(Document, Case), Vec<Diagnostic>> {
    let shown = path.to_string_lossy().replace('\\', "/");
    if let Some(problem) = files::link_outside(&root::find_root_from(sources, path), path, &shown) {
        return Err(vec![*problem]);
    }
    let file = sources.read(path, &shown).map_err(|problem| vec![*problem])?;
    let (document, case) = load::parse(&file, generate::case_form(), "Case")?;
    let found = outside(sources, path, &document, &case);
    if found.is_empty() { Ok((document, case)) } else { Err(found) }
}

/// The diagnostics for each path in a test case at `path` that leads out of its project, its folder or the workspace.
fn outside(sources: &Sources, path: &Path, document: &Document, case: &Case) -> Vec<Diagnostic> {
    let refuse = |code: Code, message: String, pointer: &str, help: &str| {
        let span = document.spans.value(pointer);
        Diagnostic::error(code, message).at(&document.file, span).help(help)
    };
    let home = root::find_root_from(sources, path);
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut found = Vec::new();
    for (key, name) in [("pipeline", Some(&case.pipeline)), ("workspace", case.workspace.as_ref())] {
        let Some(name) = name else { continue };
        let (place, pointer) = (folder.join(name), format!("/{key}"));
        if Path::new(name).is_absolute() || !root::absolute(&place).starts_with(root::absolute(&home)) {
            let message = format!("`{key}: {name}` leads out of the project of the test case");
            let help = "the project is the folder with `orch.yaml`, else the one that holds `pipelines`";
            found.push(refuse(Code::OutsideFolder, message, &pointer, help));
        } else if files::escapes(&home, &place) {
            let message = format!("`{key}: {name}` is reached by a link that leads out of the project");
            found.push(refuse(Code::LinkOutside, message, &pointer, "copy what it leads to into the project"));
        } else if key == "pipeline" && root::absolute(&root::find_root_from(sources, &place)) != root::absolute(&home) {
            let message = format!("`pipeline: {name}` belongs to another project, which has an orch.yaml of its own");
            found.push(refuse(Code::OutsideFolder, message, &pointer, "put the test case into that project"));
        }
    }
    if let Some(name) = case.recordings.as_ref().filter(|name| !is_below(name)) {
        let message = format!("`recordings: {name}` leads out of the folder of the test case");
        found.push(refuse(Code::OutsideFolder, message, "/recordings", "name a folder beside the case, or below"));
    }
    for (index, name) in case.expect.files.iter().enumerate().filter(|(_, name)| !is_below(name)) {
        let message = format!("`{name}` leads out of the workspace");
        let help = "name a file by its path from the workspace";
        found.push(refuse(Code::OutsideFolder, message, &item("/expect/files", index), help));
    }
    found
}

/// Whether a name stays in its folder, judged by the name alone.
fn is_below(name: &str) -> bool {
    Path::new(name).components().all(|part| matches!(part, Component::Normal(_)))
}
