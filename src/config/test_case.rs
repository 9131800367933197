//! Loads a test case. Every path in a test case must stay in its project, because the user may not trust the author.

use std::path::{Component, Path};

use super::spans::{Document, item_pointer};
use super::{files, generate, load, root, sources::Sources};
use crate::diagnostic::{Code, Diagnostic};
use crate::model::test_case::TestCase;

/// Loads a test case.
///
/// # Errors
/// Every mistake of the file.
pub fn load_case(path: &Path) -> Result<(Document, TestCase), Vec<Diagnostic>> {
    load_case_from(&Sources::default(), path)
}

/// Like [`load_case`], with texts that replace files.
///
/// # Errors
/// Every mistake of the file.
pub fn load_case_from(sources: &Sources, path: &Path) -> Result<(Document, TestCase), Vec<Diagnostic>> {
    let display_path = path.to_string_lossy().replace('\\', "/");
    if let Some(diagnostic) = files::check_link_target(&root::find_root_from(sources, path), path, &display_path) {
        return Err(vec![*diagnostic]);
    }
    let file = sources.read(path, &display_path).map_err(|diagnostic| vec![*diagnostic])?;
    let (document, case) = load::parse_with_form(&file, generate::case_form(), "Case")?;
    let diagnostics = path_diagnostics(sources, path, &document, &case);
    if diagnostics.is_empty() { Ok((document, case)) } else { Err(diagnostics) }
}

/// Returns a diagnostic for each path in a test case that leads out of the project, the folder or the workspace of the
/// test case. `path` is the file of the test case.
fn path_diagnostics(sources: &Sources, path: &Path, document: &Document, case: &TestCase) -> Vec<Diagnostic> {
    let new_diagnostic = |code: Code, message: String, pointer: &str, help: &str| {
        let span = document.spans.value(pointer);
        Diagnostic::error(code, message).with_span(&document.file, span).with_help(help)
    };
    let project_root = root::find_root_from(sources, path);
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut diagnostics = Vec::new();
    for (key, name) in [("pipeline", Some(&case.pipeline)), ("workspace", case.workspace.as_ref())] {
        let Some(name) = name else { continue };
        let (target, pointer) = (folder.join(name), format!("/{key}"));
        if Path::new(name).is_absolute() || !root::absolute(&target).starts_with(root::absolute(&project_root)) {
            let message = format!("`{key}: {name}` leads out of the project of the test case");
            let help = "the project is the folder with `orch.yaml`, else the folder that contains `pipelines`";
            diagnostics.push(new_diagnostic(Code::PathOutsideFolder, message, &pointer, help));
        } else if files::is_outside_folder(&project_root, &target) {
            let message = format!("`{key}: {name}` is reached by a link that leads out of the project");
            diagnostics.push(new_diagnostic(
                Code::LinkOutsideProject,
                message,
                &pointer,
                "copy the link's target into the project",
            ));
        } else if key == "pipeline"
            && root::absolute(&root::find_root_from(sources, &target)) != root::absolute(&project_root)
        {
            let message = format!("`pipeline: {name}` belongs to another project, which has an orch.yaml of its own");
            diagnostics.push(new_diagnostic(
                Code::PathOutsideFolder,
                message,
                &pointer,
                "put the test case into that project",
            ));
        }
    }
    if let Some(name) = case.recordings.as_ref().filter(|name| !stays_in_folder(name)) {
        let message = format!("`recordings: {name}` leads out of the folder of the test case");
        diagnostics.push(new_diagnostic(
            Code::PathOutsideFolder,
            message,
            "/recordings",
            "name a folder beside or below the test case",
        ));
    }
    for (index, name) in case.expect.files.iter().enumerate().filter(|(_, name)| !stays_in_folder(name)) {
        let message = format!("`{name}` leads out of the workspace");
        let help = "name a file by its path from the workspace";
        diagnostics.push(new_diagnostic(Code::PathOutsideFolder, message, &item_pointer("/expect/files", index), help));
    }
    diagnostics
}

/// Whether a path stays in the folder to which it is relative. Does not resolve links.
fn stays_in_folder(name: &str) -> bool {
    Path::new(name).components().all(|component| matches!(component, Component::Normal(_)))
}
