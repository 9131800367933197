//! Records the files of reused results that orch writes, so that it knows them as its own.

use crate::durable::Interrupt;
use crate::model::Artifact;

use super::LocalRun;
use super::write_job::ReusedFile;

impl LocalRun {
    /// Records that orch is about to write the file of a reused result, and waits until all facts so far are committed
    /// and their files are written.
    ///
    /// The event of the result recorded the file for the workspace of its own session, and for none if the run was
    /// imported. Without this record, a resume in the same workspace would take the file for one of the user.
    pub(super) async fn record_reused_file(&self, artifact: &Artifact) -> Result<(), Interrupt> {
        let hold = self.clock.hold_virtual_time();
        let file = ReusedFile { run: self.run, artifact: artifact.clone(), at: self.clock.now() };
        let ack = self.writer.record_file(file);
        self.until_committed(ack, hold).await
    }
}
