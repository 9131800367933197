//! Selects the findings that a check reports.

use crate::diagnostic::Code;

/// Which findings a check reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strictness {
    /// Mistakes, and what may go wrong with the values that the schemas describe.
    Normal,
    /// Also the values that orch reads, but other YAML tools refuse. `validate --fix` corrects them.
    Portable,
    /// Also the values about which the schemas say too little to check their uses.
    Strict,
}

impl Strictness {
    /// Whether a check reports findings with this code.
    pub fn reports(self, code: Code) -> bool {
        match self {
            Self::Normal => !matches!(code, Code::UnportableYaml | Code::UncheckedValue),
            Self::Portable => code != Code::UncheckedValue,
            Self::Strict => true,
        }
    }
}
