//! Finds the descendants of a process in `/proc`.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use rustix::process::Pid;

/// Returns the descendants of a process that have not ended, each with a flag for a suspended process (state `T`).
/// Returns `None` if `/proc` is not mounted, or the process no longer exists.
pub(super) fn live_descendants(ancestor: u32) -> Option<Vec<(Pid, bool)>> {
    descendants(Path::new("/proc"), ancestor)
}

fn descendants(proc_folder: &Path, ancestor: u32) -> Option<Vec<(Pid, bool)>> {
    fs::metadata(proc_folder.join(ancestor.to_string()).join("stat")).ok()?;
    let mut children: HashMap<i32, Vec<(i32, char)>> = HashMap::new();
    for entry in fs::read_dir(proc_folder).ok()?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // The process may have ended meanwhile.
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        if let Some((state, parent)) = state_and_parent(&stat) {
            children.entry(parent).or_default().push((pid, state));
        }
    }
    let mut descendants = Vec::new();
    let mut parents = vec![i32::try_from(ancestor).unwrap_or_default()];
    while let Some(parent) = parents.pop() {
        for (pid, state) in children.remove(&parent).unwrap_or_default() {
            parents.push(pid);
            // The states `Z` (zombie) and `X` (dead) mean that the process has ended.
            if !matches!(state, 'Z' | 'X') {
                descendants.extend(Pid::from_raw(pid).map(|pid| (pid, matches!(state, 'T' | 't'))));
            }
        }
    }
    Some(descendants)
}

/// The state and the parent's id in the text of `/proc/PID/stat`. The name before these fields may contain any
/// characters, even parentheses.
fn state_and_parent(stat: &str) -> Option<(char, i32)> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_proc_folder_differs_from_a_process_without_children() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(descendants(folder.path(), 7), None);
        fs::create_dir(folder.path().join("7")).unwrap();
        fs::write(folder.path().join("7/stat"), "7 (orch) S 1 7 7 0").unwrap();
        assert_eq!(descendants(folder.path(), 7), Some(Vec::new()));
    }

    #[test]
    fn a_name_with_parentheses_does_not_hide_the_parent() {
        assert_eq!(state_and_parent("42 (a) R 1) S 7 42 42 0"), Some(('S', 7)));
        assert_eq!(state_and_parent("42 (cut"), None);
    }
}
