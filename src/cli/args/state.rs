//! The option `--state`.

use std::path::{Path, PathBuf};

use crate::runner::StateFolder;

/// The option that selects the journal.
#[derive(Clone, Debug, Default, clap::Args)]
pub(in crate::cli) struct StateArgs {
    /// The folder of the journal [default: `.orch` in the root of the project]
    #[arg(long, value_name = "DIR")]
    pub(in crate::cli) state: Option<PathBuf>,
}

impl StateArgs {
    /// The state folder for a session.
    pub(in crate::cli) fn state_folder(&self) -> StateFolder {
        StateFolder::new(self.state.clone())
    }

    /// The path of the state folder for the project at `root`.
    pub(in crate::cli) fn folder(&self, root: &Path) -> PathBuf {
        self.state_folder().path_for(root)
    }
}
