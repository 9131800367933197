//! The reports that a supervisor sends to orch over their socket.

/// The length of a report on the socket, in bytes.
pub(super) const REPORT_BYTES: usize = 5;

/// A report of the supervisor about its program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SupervisorReport {
    /// The program has started with this process id, which is also the id of its process group.
    Started(i32),
    /// The program can't be started. Contains the system's error number.
    NotStarted(i32),
    /// The program itself has exited with this exit code. For a signal, it is 128 plus the number of the signal.
    Exited(i32),
}

impl SupervisorReport {
    pub(super) fn encode(self) -> [u8; REPORT_BYTES] {
        let (tag, value) = match self {
            Self::Started(pid) => (b'S', pid),
            Self::NotStarted(error) => (b'N', error),
            Self::Exited(code) => (b'X', code),
        };
        let [a, b, c, d] = value.to_le_bytes();
        [tag, a, b, c, d]
    }

    pub(super) fn decode([tag, a, b, c, d]: [u8; REPORT_BYTES]) -> Option<Self> {
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
    fn decode_reverses_encode() {
        for report in [
            SupervisorReport::Started(70_000),
            SupervisorReport::NotStarted(2),
            SupervisorReport::Exited(137),
            SupervisorReport::Exited(-1),
        ] {
            assert_eq!(SupervisorReport::decode(report.encode()), Some(report));
        }
        assert_eq!(SupervisorReport::decode(*b"?1234"), None);
    }
}
