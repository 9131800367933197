//! Checks what `orch.yaml` says about programs, servers and addresses. These checks need no pipeline, so every command
//! that uses the file makes them.

use std::path::Path;

use super::{endpoints, mcp, normalizers, sandbox};
use crate::config::{self, Document, Settings, Sources};
use crate::diagnostic::{Diagnostic, sort_and_dedup};

/// Loads the settings of a root; returns the defaults if there is no `orch.yaml`. Refuses what the pipeline check refuses,
/// such as an MCP server with both `command` and `url`, so that no command shows or starts what a run would not.
///
/// # Errors
/// Every mistake of the file.
pub fn load_valid_settings(sources: &Sources, root: &Path) -> Result<Settings, Vec<Diagnostic>> {
    let Some((document, settings)) = config::load_settings(sources, root)? else {
        return Ok(Settings::default());
    };
    let mut errors: Vec<Diagnostic> = check(&document, &settings).into_iter().filter(Diagnostic::is_error).collect();
    sort_and_dedup(&mut errors);
    if errors.is_empty() { Ok(settings) } else { Err(errors) }
}

/// Checks the parts of `orch.yaml` that do not depend on the models and pipelines of the project.
pub(super) fn check(document: &Document, settings: &Settings) -> Vec<Diagnostic> {
    let mut diagnostics = endpoints::check(document, settings);
    diagnostics.extend(mcp::check(document, settings));
    diagnostics.extend(sandbox::check_settings(document, settings));
    diagnostics.extend(normalizers::check(document, settings));
    diagnostics
}
