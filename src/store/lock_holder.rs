//! The process that holds a lock, as other processes describe it.

use std::fmt;

/// A description of the process that holds a lock, from the lock file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockHolder(String);

impl LockHolder {
    pub(super) fn new(description: &str) -> Self {
        Self(description.to_owned())
    }

    /// The process without what it does: `process 42`, or `another process` if it is not known.
    pub fn process(&self) -> &str {
        self.0.split_once(" (").map_or(self.0.as_str(), |(process, _)| process)
    }

    /// The id of the run that the process executes, if it is known.
    pub fn run(&self) -> Option<&str> {
        let (_, run) = self.0.split_once(" (run ")?;
        let run = run.strip_suffix(')')?;
        (!run.is_empty() && run.chars().all(|c| c.is_ascii_hexdigit())).then_some(run)
    }
}

impl fmt::Display for LockHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_names_its_process_and_its_run() {
        for (text, process, run) in [
            ("process 42 (run 7d1df57a761c)", "process 42", Some("7d1df57a761c")),
            ("process 42", "process 42", None),
            ("process 42 (run `rm`)", "process 42", None),
            ("another process", "another process", None),
        ] {
            let holder = LockHolder::new(text);
            assert_eq!((holder.process(), holder.run()), (process, run), "{text}");
        }
    }
}
