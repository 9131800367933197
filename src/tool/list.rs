//! The tool `list`: the files of a folder, with their sizes.

use crate::files::FolderEntryKind;
use crate::model::PathPattern;
use crate::model::visible::escape_line_breaks;

use super::arguments::ListArguments;
use super::job::{FileJob, ToolError};
use super::output::{LineCollector, RawOutput};
use super::walk::{WalkEntry, WorkspaceWalk};

/// How a model can get the rest of a list.
const REST_ADVICE: &str = "list a folder of the rest with `path`";

/// Lists a folder.
pub(super) fn list(job: &FileJob, arguments: &ListArguments) -> Result<RawOutput, ToolError> {
    let folder = job.readable_path(&arguments.path)?;
    if !job.access.allows_entering(&folder) {
        job.access.check_reading(&folder)?;
    }
    let glob = arguments.glob.as_deref().map(PathPattern::parse).transpose();
    let glob = glob.map_err(|reason| format!("the glob can't be used: {reason}; correct it, or omit it"))?;
    let walk = WorkspaceWalk::new(job, &folder, glob.is_some());
    let mut walk = walk.map_err(|error| job.describe_error(&folder, &error))?;
    let mut lines = LineCollector::default();
    for entry in &mut walk {
        let is_folder = entry.kind == FolderEntryKind::Folder;
        let is_listed = match &glob {
            Some(glob) => !is_folder && glob.matches(&entry.path) && job.access.allows_reading(&entry.path),
            // The walk visits only folders that may contain files which the grants allow.
            None => is_folder || job.access.allows_reading(&entry.path),
        };
        if is_listed {
            lines.push(&format_entry(&entry));
        }
    }
    let mut notes = Vec::new();
    if lines.is_empty() {
        let note = match (&glob, walk.is_complete()) {
            (Some(_), true) => "[no file matches]",
            (Some(_), false) => "[no file matches among those that were visited]",
            (None, _) => "[there is nothing to list; excluded files are left out]",
        };
        notes.push(note.to_owned());
    }
    if lines.omitted_count() > 0 {
        notes.push(format!("[… and {} more; use `path` or `glob` to list fewer files]", lines.omitted_count()));
    }
    notes.extend(walk.notes(REST_ADVICE));
    Ok(lines.into_output(&notes))
}

fn format_entry(entry: &WalkEntry) -> String {
    let path = escape_line_breaks(&entry.path);
    match entry.kind {
        FolderEntryKind::Folder => format!("{path}/"),
        FolderEntryKind::File => format!("{path}\t{}", entry.size),
        FolderEntryKind::Link => format!("{path}\t(symbolic link)"),
        FolderEntryKind::Other => format!("{path}\t(not a regular file)"),
    }
}
