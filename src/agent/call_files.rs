//! The files about the calls in flight: one file for each call, in a folder that orch creates for the run.
//!
//! Such a file survives the end of the process, but not a power failure, since orch does not sync it.

use std::io;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::folder::{NoFollowFile, NoFollowFolder};
use crate::model::{CallKey, Digest};

/// The files of one kind about the calls in flight.
#[derive(Clone, Copy)]
pub(super) struct CallFiles<'a> {
    /// The folder of the run's CLI agents.
    agents_folder: &'a NoFollowFolder,
    /// The name of the folder for these files.
    name: &'static str,
}

impl<'a> CallFiles<'a> {
    pub(super) fn new(agents_folder: &'a NoFollowFolder, name: &'static str) -> Self {
        Self { agents_folder, name }
    }

    /// Writes the file about a call.
    ///
    /// # Errors
    /// The folder can't be written.
    pub(super) fn write(self, call: &CallKey, content: &impl Serialize) -> io::Result<()> {
        let text = serde_json::to_vec(content)?;
        // This replaces the file by a rename, so a kill never leaves an incomplete file under this name.
        self.agents_folder.create_subfolder(self.name)?.file(file_name(call)).replace_unsynced(&text)
    }

    /// Removes the file about a call, if there is one.
    pub(super) fn remove(self, call: &CallKey) {
        // The file may not exist.
        drop(self.agents_folder.file(format!("{}/{}", self.name, file_name(call))).remove());
    }

    /// Reads all files. Also returns an error message for each file that can't be read.
    pub(super) fn read_all<T: DeserializeOwned>(self) -> (Vec<T>, Vec<String>) {
        let (mut contents, mut errors) = (Vec::new(), Vec::new());
        // Other files are temporary files of a process that was killed before its program started.
        let is_call_file = |name: &str| Path::new(name).extension().is_some_and(|extension| extension == "json");
        match self.list() {
            Ok(files) => {
                for file in files.into_iter().filter(|file| is_call_file(file.file_name())) {
                    match file.read().and_then(|text| Ok(serde_json::from_slice::<T>(&text)?)) {
                        Ok(content) => contents.push(content),
                        // Its process removed the file after the folder was listed.
                        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                        Err(error) => errors.push(format!("`{}` can't be read: {error}", file.path().display())),
                    }
                }
            }
            Err(error) => {
                errors
                    .push(format!("`{}` can't be read: {error}", self.agents_folder.path().join(self.name).display()));
            }
        }
        (contents, errors)
    }

    /// Lists the files. The list is empty if the folder does not exist.
    fn list(self) -> io::Result<Vec<NoFollowFile>> {
        let entries = self.agents_folder.list(self.name)?.into_iter();
        Ok(entries.map(|(name, _)| self.agents_folder.file(format!("{}/{name}", self.name))).collect())
    }
}

fn file_name(call: &CallKey) -> String {
    format!("{}.json", Digest::compute(call.to_string().as_bytes()))
}
