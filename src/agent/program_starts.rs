//! The state of the repositories and of the protected files before each confined program. It stays on disk until the
//! journal contains the end of the call.
//!
//! orch writes it before the program starts. If orch is killed meanwhile, the process that resumes the run compares the
//! files with it, so that the user learns of damage by the program.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::folder::NoFollowFolder;
use crate::model::{CallKey, Digest, ModelRef};
use crate::process::{ProgramStart, StartRecorder};

use super::call_files::CallFiles;
use super::program::CallContext;

/// The folder for these files, in the folder of the run's CLI agents.
const PROGRAMS_FOLDER: &str = "programs";

/// The call to which a program belongs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ProgramCall {
    /// The key of the call.
    pub key: CallKey,
    /// The digest of its request.
    pub request_digest: Digest,
    /// The model that the request of a turn names; `None` for a command and for a tool.
    pub model: Option<ModelRef>,
    /// When the call started.
    pub start_time: Timestamp,
}

/// The start of a program, as orch writes it to disk.
#[derive(Serialize)]
struct WrittenStart<'a> {
    call: &'a ProgramCall,
    start: &'a ProgramStart,
}

/// A confined program whose start is on disk. The journal may contain its end.
#[derive(Debug, Deserialize)]
pub struct StartedProgram {
    /// The call to which the program belongs.
    pub call: ProgramCall,
    /// The state before the program.
    pub start: ProgramStart,
}

fn program_files(agents_folder: &NoFollowFolder) -> CallFiles<'_> {
    CallFiles::new(agents_folder, PROGRAMS_FOLDER)
}

/// A recorder that writes the state before the program of a call to disk.
pub fn program_start_recorder(
    agents_folder: &NoFollowFolder,
    context: &CallContext,
    model: Option<ModelRef>,
) -> StartRecorder {
    let agents_folder = agents_folder.clone();
    let CallContext { start_time, call_key, request_digest, .. } = context.clone();
    let call = ProgramCall { key: call_key, request_digest, model, start_time };
    StartRecorder::new(move |start| {
        program_files(&agents_folder).write(&call.key, &WrittenStart { call: &call, start })
    })
}

/// Removes the state before the program of a call when the journal contains the end of the call.
pub fn remove_program_start(agents_folder: &NoFollowFolder, call: &CallKey) {
    program_files(agents_folder).remove(call);
}

/// Returns the programs whose start is still on disk, the oldest first, and an error message for each file that can't
/// be read.
pub fn find_started_programs(agents_folder: &NoFollowFolder) -> (Vec<StartedProgram>, Vec<String>) {
    let (mut programs, errors) = program_files(agents_folder).read_all::<StartedProgram>();
    programs.sort_by_key(|program| program.call.start_time);
    (programs, errors)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::folder::FolderAccess;
    use crate::model::StepKey;
    use crate::process::start_in;

    #[test]
    fn the_start_of_a_program_is_on_disk_until_its_end_is_recorded() {
        let (folder, workspace) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let workspace = workspace.path().canonicalize().unwrap();
        let agents_folder = NoFollowFolder::open(folder.path(), FolderAccess::Private).unwrap();
        assert!(find_started_programs(&agents_folder).0.is_empty());
        let step = StepKey::root("a");
        let key = CallKey { step, attempt: 1, ordinal: 1, tool_call: None, input_round: None };
        let context = CallContext {
            start_time: Timestamp::UNIX_EPOCH,
            max_cost: None,
            call_key: key.clone(),
            request_digest: Digest::compute(b"request"),
        };
        let recorder = program_start_recorder(&agents_folder, &context, Some(ModelRef::new("claude", "m")));
        recorder.record(&start_in(&workspace)).unwrap();
        std::fs::write(workspace.join("file"), "").unwrap();
        let (mut programs, errors) = find_started_programs(&agents_folder);
        assert!(errors.is_empty() && programs.len() == 1, "{errors:?}");
        let StartedProgram { call, start } = programs.remove(0);
        assert_eq!((&call.key, call.model), (&key, Some(ModelRef::new("claude", "m"))));
        assert_eq!(start.sandbox_after_kill(&workspace, &|_| false).unwrap().changed_protected.len(), 1);
        remove_program_start(&agents_folder, &key);
        assert!(find_started_programs(&agents_folder).0.is_empty());
    }
}
