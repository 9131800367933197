//! The limits of a program, and the detection of the limit that it reached.

use serde::{Deserialize, Serialize};

use super::policy::Limits;

/// A limit that a program can reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// [`Limits::memory`].
    Memory,
    /// [`Limits::processes`].
    Processes,
    /// [`Limits::cpu_time`].
    CpuTime,
    /// [`Limits::file_size`].
    FileSize,
    /// [`Limits::open_files`].
    OpenFiles,
}

/// What the counters of a control group show.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct CounterFindings {
    /// The limit that the program reached, according to the counters that orch could read.
    pub(super) limit: Option<LimitReached>,
    /// The counters that orch could not read, each as a sentence.
    pub(super) unknown: Vec<String>,
}

/// A limit that a program reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitReached {
    /// The limit.
    pub limit: Limit,
    /// The limit's value, in the unit of [`Limits`].
    pub value: u64,
    /// Whether the kernel or orch ended the program because of the limit. Otherwise a system call of the program
    /// failed, according to the program's output.
    pub is_certain: bool,
}

impl std::fmt::Display for LimitReached {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let verb = if self.is_certain { "reached" } else { "probably reached" };
        let value = self.value;
        let size = size_text(value);
        match self.limit {
            Limit::Memory => write!(f, "the program {verb} its limit of {size} of memory")?,
            Limit::Processes => write!(f, "the program {verb} its limit of {value} processes and threads")?,
            Limit::CpuTime => write!(f, "the program {verb} its limit of {value} s of processor time")?,
            Limit::FileSize => write!(f, "the program {verb} its limit of {size} in one file")?,
            Limit::OpenFiles => write!(f, "the program {verb} its limit of {value} open files in one process")?,
        }
        write!(f, "; raise `limits.{}` if it needs more", self.limit.key())
    }
}

/// A size in the largest unit of which it is a multiple.
fn size_text(bytes: u64) -> String {
    let units = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let unit = units.into_iter().find(|(_, shift)| bytes > 0 && bytes.trailing_zeros() >= *shift);
    unit.map_or_else(|| format!("{bytes} bytes"), |(unit, shift)| format!("{} {unit}", bytes >> shift))
}

impl Limit {
    /// The key of the limit in a policy.
    pub fn key(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Processes => "processes",
            Self::CpuTime => "cpu_time",
            Self::FileSize => "file_size",
            Self::OpenFiles => "open_files",
        }
    }

    /// The value of the limit in a policy.
    pub(super) fn value_in(self, limits: &Limits) -> Option<u64> {
        match self {
            Self::Memory => limits.memory,
            Self::Processes => limits.processes,
            Self::CpuTime => limits.cpu_time,
            Self::FileSize => limits.file_size,
            Self::OpenFiles => limits.open_files,
        }
    }

    /// Describes that orch may not detect that this limit ended a child process of the program: the kernel reports the
    /// end of a process only to its parent process.
    pub(super) fn undetected_in_children(self) -> String {
        format!(
            "orch does not detect that a child process reached `{}` if the program ignores the child's exit status, as \
             a shell does for all commands of a pipeline except the last",
            self.key()
        )
    }

    /// Creates the report that a program reached this limit; `None` if the limit is not set.
    pub(super) fn reached(self, limits: &Limits, is_certain: bool) -> Option<LimitReached> {
        Some(LimitReached { limit: self, value: self.value_in(limits)?, is_certain })
    }
}

/// The messages of programs and languages for a system call that failed because of a limit. The first matching entry
/// determines the limit.
const LIMIT_MESSAGES: &[(Limit, &[&str])] = &[
    (Limit::OpenFiles, &["Too many open files", "EMFILE"]),
    (Limit::FileSize, &["File too large", "EFBIG", "File size limit exceeded"]),
    (Limit::CpuTime, &["CPU time limit exceeded", "Cputime limit exceeded"]),
    (
        Limit::Processes,
        &["Resource temporarily unavailable", "BlockingIOError: [Errno 11]", "EAGAIN", "can't start new thread"],
    ),
    (
        Limit::Memory,
        &[
            "Cannot allocate memory",
            "ENOMEM",
            "MemoryError",
            "std::bad_alloc",
            "heap out of memory",
            "OutOfMemoryError",
            "Out of memory",
            "out of memory",
            "memory allocation of",
            "virtual memory exhausted",
        ],
    ),
];

/// Finds the limit that a failed program probably reached, from the last lines of its output. If a limit makes a system
/// call of the program fail, only the program's own messages show this.
pub fn limit_in_output(output: &str, limits: &Limits) -> Option<LimitReached> {
    let mentions = |messages: &[&str]| messages.iter().any(|message| output.contains(message));
    LIMIT_MESSAGES
        .iter()
        .find(|(limit, messages)| limit.value_in(limits).is_some() && mentions(messages))
        .and_then(|(limit, _)| limit.reached(limits, false))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_matches_only_limits_that_are_set() {
        let limits = Limits { open_files: Some(16), memory: Some(1 << 20), ..Limits::default() };
        let reached = |text| limit_in_output(text, &limits).map(|reached| reached.limit);
        assert_eq!(reached("OSError: [Errno 24] Too many open files: 'x'"), Some(Limit::OpenFiles));
        assert_eq!(reached("terminate called after throwing an instance of 'std::bad_alloc'"), Some(Limit::Memory));
        assert_eq!(reached("sh: fork: Resource temporarily unavailable"), None);
        assert_eq!(reached("all fine"), None);
    }

    #[test]
    fn a_report_names_the_limit_its_value_and_its_key() {
        let limits = Limits { cpu_time: Some(3), ..Limits::default() };
        let text = Limit::CpuTime.reached(&limits, true).unwrap().to_string();
        assert_eq!(
            text,
            "the program reached its limit of 3 s of processor time; raise `limits.cpu_time` if it needs more"
        );
    }

    #[test]
    fn a_size_has_the_unit_of_the_settings() {
        for (bytes, text) in [
            (512 << 20, "512 MiB"),
            (2 << 30, "2 GiB"),
            (1 << 40, "1 TiB"),
            (1536, "1536 bytes"),
            (1 << 10, "1 KiB"),
            (0, "0 bytes"),
        ] {
            assert_eq!(size_text(bytes), text);
        }
        let limits = Limits { file_size: Some(1 << 20), ..Limits::default() };
        let text = Limit::FileSize.reached(&limits, true).unwrap().to_string();
        assert!(text.starts_with("the program reached its limit of 1 MiB in one file; "), "{text}");
    }
}
