//! Waits for a started program with a limit: a program that hangs fails its test, and does not stop all tests.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, ExitStatus, Output};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// The maximum time until a program ends, or prints what a test waits for. Only a program that hangs takes longer, also
/// on a busy machine.
const PATIENCE: Duration = Duration::from_mins(2);

/// Waits until a program has ended.
#[track_caller]
pub(crate) fn until_ended(child: &mut Child) -> ExitStatus {
    let began = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if began.elapsed() > PATIENCE {
            child.kill().unwrap();
            panic!("the program did not end");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Waits until a program has ended, and returns its output.
#[track_caller]
pub(crate) fn output_of(child: Child) -> Output {
    let id = child.id().to_string();
    let (sender, receiver) = channel();
    std::thread::spawn(move || drop(sender.send(child.wait_with_output())));
    if let Ok(output) = receiver.recv_timeout(PATIENCE) {
        return output.unwrap();
    }
    let _ = Command::new("kill").args(["-KILL", &id]).status();
    panic!("the program did not end");
}

/// The standard error of a program, line by line.
pub(crate) struct StderrLines {
    lines: Receiver<String>,
    /// The lines so far.
    text: String,
}

impl StderrLines {
    /// Reads the piped standard error of a program on a separate thread.
    pub(crate) fn of(child: &mut Child) -> Self {
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in stderr.lines() {
                if sender.send(line.unwrap()).is_err() {
                    return;
                }
            }
        });
        Self { lines, text: String::new() }
    }

    /// Waits for a line that contains a text.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, text: &str) {
        assert!(self.has_line_within(text, PATIENCE), "no line contains {text:?}:\n{}", self.text);
    }

    /// Whether a line that contains a text arrives within this time.
    pub(crate) fn has_line_within(&mut self, text: &str, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        while let Ok(line) = self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            self.push(&line);
            if line.contains(text) {
                return true;
            }
        }
        false
    }

    /// Waits for the end of standard error, and returns all its lines.
    #[track_caller]
    pub(crate) fn read_to_end(mut self) -> String {
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => self.push(&line),
                Err(RecvTimeoutError::Disconnected) => return self.text,
                Err(RecvTimeoutError::Timeout) => panic!("standard error did not end:\n{}", self.text),
            }
        }
    }

    fn push(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }
}
