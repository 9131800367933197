//! The stable codes of findings.

use std::fmt;

use super::Severity;

macro_rules! codes {
    ($($(#[doc = $doc:literal])* $variant:ident = $name:literal $severity:ident),+ $(,)?) => {
        /// The stable code of a kind of finding.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Code {
            $($(#[doc = $doc])* $variant),+
        }

        impl Code {
            /// Every code.
            pub const ALL: &'static [Code] = &[$(Code::$variant),+];

            /// The code as printed: `ORCH0101`.
            pub fn as_str(self) -> &'static str {
                match self { $(Code::$variant => $name),+ }
            }

            /// How bad such a finding is.
            pub fn severity(self) -> Severity {
                match self { $(Code::$variant => Severity::$severity),+ }
            }

            /// What it means, in a sentence.
            pub fn title(self) -> &'static str {
                match self { $(Code::$variant => concat!($($doc),*)),+ }
            }
        }
    };
}

codes! {
    #[doc = " A file can't be read."]
    Unreadable = "ORCH0001" Error,
    #[doc = " A file is no valid YAML or JSON."]
    Syntax = "ORCH0101" Error,
    #[doc = " A key stands twice in one block."]
    DuplicateKey = "ORCH0102" Error,
    #[doc = " A feature of YAML that pipeline files do not use."]
    RefusedYaml = "ORCH0103" Error,
    #[doc = " A file is larger or nested deeper than allowed."]
    TooLarge = "ORCH0104" Error,
    #[doc = " A key that does not exist."]
    UnknownKey = "ORCH0201" Error,
    #[doc = " A key that must be there is not."]
    MissingKey = "ORCH0202" Error,
    #[doc = " A value of the wrong type or outside its range."]
    WrongValue = "ORCH0203" Error,
    #[doc = " A name that is not written as names are."]
    BadName = "ORCH0301" Error,
    #[doc = " Two things have the same name."]
    NameTaken = "ORCH0302" Error,
    #[doc = " An agent that is not defined."]
    UnknownAgent = "ORCH0303" Error,
    #[doc = " An input that no earlier step produces."]
    UnknownArtifact = "ORCH0304" Error,
    #[doc = " An agent that no step uses."]
    UnusedAgent = "ORCH0305" Warning,
    #[doc = " A model's name that stands for nothing."]
    UnknownModel = "ORCH0306" Error,
    #[doc = " A prompt that is not there."]
    MissingPrompt = "ORCH0401" Error,
    #[doc = " A prompt or message that is no valid template."]
    BadTemplate = "ORCH0402" Error,
    #[doc = " A template uses a variable that its step does not have."]
    UnknownVariable = "ORCH0403" Error,
    #[doc = " An expression that can't be read."]
    BadExpression = "ORCH0404" Error,
    #[doc = " A schema that is not there."]
    MissingSchema = "ORCH0501" Error,
    #[doc = " A file in schemas/ that is no valid JSON Schema."]
    BadSchema = "ORCH0502" Error,
    #[doc = " An input's default does not fit its own schema."]
    BadDefault = "ORCH0503" Error,
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_titled() {
        let mut names: Vec<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Code::ALL.len());
        assert!(Code::ALL.iter().all(|code| code.title().trim().ends_with('.')));
    }
}
