//! `orch runs import`: a run from a file of anyone.

use std::path::Path;

use orch::model::RunState;
use orch::report::SuggestedCommands;
use orch::report::TerminalStyle;
use orch::report::summary::render_summary;
use orch::store::{ExportedRun, Journal};
use tempfile::TempDir;

thread_local! {
    /// A journal; replaced when it has grown.
    static JOURNAL: (TempDir, Journal) = {
        let folder = tempfile::tempdir().expect("a folder");
        let journal = Journal::open(folder.path()).expect("a journal");
        (folder, journal)
    };
}

/// A file is refused in a short message, or is a run that can be shown and that an export gives back.
pub fn import(input: &[u8]) {
    let input = input.get(..super::MAX_INPUT).unwrap_or(input);
    let run = match ExportedRun::parse(input.to_vec()) {
        Ok(run) => run,
        Err(error) => {
            let length = error.to_string().len();
            assert!(length < 1024 + input.len(), "a message of {length} bytes");
            return;
        }
    };
    let text = run.to_text().expect("a run that was read can be written");
    assert_eq!(ExportedRun::parse(text.into_bytes()).expect("an export can be read"), run);
    JOURNAL.with(|(folder, journal)| record(folder.path(), journal, &run));
}

fn record(folder: &Path, journal: &Journal, run: &ExportedRun) {
    let imported = journal.import(run.run, &run.events);
    let state = RunState::fold(run.run, &run.events);
    render_summary(&state, None, TerminalStyle::default(), None, Path::new("/"), &SuggestedCommands::default());
    if let Err(error) = imported {
        assert!(!error.to_string().is_empty());
        assert!(journal.events(run.run).expect("the journal is read").is_empty(), "a refused run left events");
        return;
    }
    assert_eq!(journal.events(run.run).expect("an imported run is read"), run.events);
    let rows = journal.runs(10).expect("runs are listed");
    assert_eq!(rows.len(), 1, "{}", folder.display());
    journal.delete(&[run.run]).expect("an imported run is deleted");
}
