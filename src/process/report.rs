//! The reports that a guard sends to orch over their socket.

/// The length of a report on the socket, in bytes.
pub(super) const LENGTH: usize = 5;

/// One report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GuardReport {
    /// The program runs; this is its process id, and the id of its process group.
    Started(i32),
    /// The program can't be started; this is the system's error number.
    NotStarted(i32),
    /// The program itself has exited with this exit code, or with 128 plus the number of the signal that ended it.
    Exited(i32),
}

impl GuardReport {
    pub(super) fn encode(self) -> [u8; LENGTH] {
        let (tag, value) = match self {
            Self::Started(pid) => (b'S', pid),
            Self::NotStarted(error) => (b'N', error),
            Self::Exited(code) => (b'X', code),
        };
        let [a, b, c, d] = value.to_le_bytes();
        [tag, a, b, c, d]
    }

    pub(super) fn decode([tag, a, b, c, d]: [u8; LENGTH]) -> Option<Self> {
        let value = i32::from_le_bytes([a, b, c, d]);
        match tag {
            b'S' => Some(Self::Started(value)),
            b'N' => Some(Self::NotStarted(value)),
            b'X' => Some(Self::Exited(value)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_read_as_it_was_written() {
        for report in [
            GuardReport::Started(70_000),
            GuardReport::NotStarted(2),
            GuardReport::Exited(137),
            GuardReport::Exited(-1),
        ] {
            assert_eq!(GuardReport::decode(report.encode()), Some(report));
        }
        assert_eq!(GuardReport::decode(*b"?1234"), None);
    }
}
