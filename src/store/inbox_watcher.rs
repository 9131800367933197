//! Watches the inbox of a run while this process executes the run.
//!
//! A thread asks the journal for new messages every 100 ms. The query uses an index and takes some tens of microseconds,
//! so orch spends less than a thousandth of a processor on it. The alternatives need a second file that each sender
//! touches after its commit: a sender that dies in between would not be heard, and a notification of the system about
//! that file (inotify) does not exist on every system and file system. Here the commit of the sender is enough.
//!
//! The thread is separate, since neither the thread of the run nor the writer of the journal may delay it: a computation
//! can occupy the former, and a full pipe of the output the latter. It does not stop virtual time in tests: it sleeps in
//! real time, and wakes the run only for a message.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::mpsc::UnboundedSender;

use crate::model::RunId;

use super::inbox::messages_after;
use super::open::open_read_write;
use super::{InboxMessage, Journal, StoreError};

/// The pause between two queries.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// What a watcher reports: a message with its id, or that it can't read the inbox.
pub type WatchedMessage = Result<(i64, InboxMessage), StoreError>;

/// Watches the inbox of a run until the caller drops it.
#[derive(Debug)]
pub struct InboxWatcher {
    /// Dropping it wakes the thread, which then ends.
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Journal {
    /// Sends each message to a run after the message `after`, within some 100 ms of its commit. If the inbox can't be
    /// read, sends the error once and tries again.
    pub fn watch_inbox(
        &self,
        run: RunId,
        after: i64,
        messages: UnboundedSender<WatchedMessage>,
    ) -> Result<InboxWatcher, StoreError> {
        let (stop, stopped) = channel();
        let inbox = WatchedInbox { path: self.path.clone(), run, last: after, connection: None };
        let thread = std::thread::Builder::new()
            .name("inbox".to_owned())
            .spawn(move || inbox.watch(&stopped, &messages))
            .map_err(StoreError::io("watch", &self.path))?;
        Ok(InboxWatcher { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for InboxWatcher {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // If the thread panicked, the next session reads the messages.
            drop(thread.join());
        }
    }
}

/// The inbox as the thread sees it.
struct WatchedInbox {
    path: PathBuf,
    run: RunId,
    /// The id of the last message that was sent.
    last: i64,
    /// The connection of the thread. The first query opens it, so that a short run does not pay for it.
    connection: Option<Connection>,
}

impl WatchedInbox {
    fn watch(mut self, stopped: &Receiver<()>, messages: &UnboundedSender<WatchedMessage>) {
        let mut has_failed = false;
        while stopped.recv_timeout(POLL_INTERVAL) == Err(RecvTimeoutError::Timeout) {
            let found = match self.new_messages() {
                Ok(found) => found,
                Err(error) => {
                    // The session has ended if nothing receives.
                    if !has_failed && messages.send(Err(error)).is_err() {
                        return;
                    }
                    has_failed = true;
                    continue;
                }
            };
            has_failed = false;
            for (id, message) in found {
                self.last = id;
                if messages.send(Ok((id, message))).is_err() {
                    return;
                }
            }
        }
    }

    fn new_messages(&mut self) -> Result<Vec<(i64, InboxMessage)>, StoreError> {
        // After an error, the next query opens a connection again.
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => open_read_write(&self.path)?,
        };
        let found = messages_after(&connection, &self.path, self.run, self.last)?;
        self.connection = Some(connection);
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use tokio::sync::mpsc::unbounded_channel;

    use super::*;
    use crate::model::event::CancelRequested;

    #[tokio::test(start_paused = true)]
    async fn a_watcher_hears_messages_and_does_not_stop_virtual_time() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(&folder.path().join(".orch")).unwrap();
        let (run, other) = (RunId(uuid::Uuid::now_v7()), RunId(uuid::Uuid::now_v7()));
        let (sender, mut receiver) = unbounded_channel();
        let watcher = journal.watch_inbox(run, 0, sender).unwrap();
        let started = tokio::time::Instant::now();
        tokio::time::sleep(Duration::from_hours(1)).await;
        assert_eq!(started.elapsed(), Duration::from_hours(1));
        let message = |by: &str| InboxMessage::Cancel(CancelRequested { by: by.to_owned(), at: Timestamp::UNIX_EPOCH });
        journal.send_message(other, &message("a")).unwrap();
        for by in ["b", "c"] {
            journal.send_message(run, &message(by)).unwrap();
            assert_eq!(receiver.recv().await.unwrap().unwrap().1, message(by));
        }
        drop(watcher);
        assert!(receiver.recv().await.is_none(), "each message comes once");
    }
}
