//! The tool `list`: the files of a folder, with their sizes.

use crate::files::FolderEntryKind;
use crate::model::{PathPattern, counted};

use super::arguments::ListArguments;
use super::job::{FileJob, ToolError};
use super::output::{LineCollector, RawOutput};
use super::walk::{WalkEntry, WorkspaceWalk};

/// Lists a folder.
pub(super) fn list(job: &FileJob, arguments: &ListArguments) -> Result<RawOutput, ToolError> {
    let folder = job.readable_path(&arguments.path)?;
    let glob = arguments.glob.as_deref().map(PathPattern::parse).transpose();
    let glob = glob.map_err(|reason| format!("the glob can't be used: {reason}; correct it, or omit it"))?;
    let walk = WorkspaceWalk::new(job, &folder, glob.is_some());
    let mut walk = walk.map_err(|error| job.describe_error(&folder, &error))?;
    let mut lines = LineCollector::default();
    for entry in &mut walk {
        let is_folder = entry.kind == FolderEntryKind::Folder;
        let is_listed = match &glob {
            Some(glob) => !is_folder && glob.matches(&entry.path) && job.access.allows_reading(&entry.path),
            // A folder may contain files that the grants allow.
            None => is_folder || job.access.allows_reading(&entry.path),
        };
        if is_listed {
            lines.push(&format_entry(&entry));
        }
    }
    let mut notes = Vec::new();
    if lines.is_empty() {
        notes.push(if glob.is_some() { "[no file matches]".to_owned() } else { "[the folder is empty]".to_owned() });
    }
    if lines.omitted_count() > 0 {
        notes.push(format!("[… and {} more; use `path` or `glob` to list fewer files]", lines.omitted_count()));
    }
    notes.extend(walk_notes(&walk));
    Ok(lines.into_output(&notes))
}

fn format_entry(entry: &WalkEntry) -> String {
    match entry.kind {
        FolderEntryKind::Folder => format!("{}/", entry.path),
        FolderEntryKind::File => format!("{}\t{}", entry.path, entry.size),
        FolderEntryKind::Link => format!("{}\t(symbolic link)", entry.path),
        FolderEntryKind::Other => format!("{}\t(not a regular file)", entry.path),
    }
}

/// The notes about a walk that did not reach every file.
pub(super) fn walk_notes(walk: &WorkspaceWalk<'_>) -> Vec<String> {
    let mut notes = Vec::new();
    if walk.unreadable_count > 0 {
        notes.push(format!("[{} can't be read]", counted(walk.unreadable_count, "folder")));
    }
    if walk.is_incomplete {
        notes.push("[the result is incomplete, since there are too many files]".to_owned());
    }
    if walk.is_stopped {
        let note = "[the result is incomplete, since the call reached its time limit; name fewer files]";
        notes.push(note.to_owned());
    }
    notes
}
