//! The table of codes: one line a kind of mistake.
//!
//! A code never changes its meaning and is never given twice. Messages may change.

use std::fmt;

macro_rules! codes {
    ($($variant:ident = $code:literal, $title:literal;)+) => {
        /// The kind of a mistake, with a stable code such as `ORCH0201`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code {
            $(#[doc = concat!("`", $code, "`: ", $title, ".")] $variant),+
        }

        impl Code {
            /// Every code, in order.
            pub const ALL: &'static [Code] = &[$(Code::$variant),+];

            /// The stable code, such as `ORCH0201`.
            pub fn as_str(self) -> &'static str {
                match self { $(Code::$variant => $code),+ }
            }

            /// What the code stands for, in a few words.
            pub fn title(self) -> &'static str {
                match self { $(Code::$variant => $title),+ }
            }
        }
    };
}

codes! {
    // 01: reading files
    FileNotFound = "ORCH0101", "a file does not exist";
    FileUnreadable = "ORCH0102", "a file cannot be read";
    NotText = "ORCH0103", "a file is not UTF-8 text";
    TooLarge = "ORCH0104", "a file is too large";
    OutsideFolder = "ORCH0105", "a name leaves its folder";
    LinkOutside = "ORCH0106", "a link leads out of the project";
    YamlSyntax = "ORCH0110", "the YAML cannot be parsed";
    DuplicateKey = "ORCH0111", "a key is written twice";
    YamlRefused = "ORCH0112", "a YAML feature that pipeline files may not use";
    YamlBounds = "ORCH0113", "a file is nested too deeply or expands too far";
    JsonSyntax = "ORCH0114", "the JSON cannot be parsed";
    // 02: the shape of a file
    UnknownKey = "ORCH0201", "a key is unknown";
    MissingKey = "ORCH0202", "a key is missing";
    WrongType = "ORCH0203", "a value has the wrong type";
    WrongValue = "ORCH0204", "a value is not allowed";
    WrongKind = "ORCH0205", "a step has no kind, or more than one";
    KeyOfOtherKind = "ORCH0206", "a key does not belong to the kind of a step or an agent";
    TwoPrograms = "ORCH0207", "an agent is more than one program";
    // 03: how steps fit together
    BadName = "ORCH0301", "a name is malformed or reserved";
    NameTaken = "ORCH0302", "a name is used twice";
    TwoWriters = "ORCH0303", "an artifact has two writers";
    UnknownAgent = "ORCH0304", "an agent is unknown";
    UnknownArtifact = "ORCH0305", "an artifact is unknown";
    LaterArtifact = "ORCH0306", "an artifact is produced only later";
    OutOfReach = "ORCH0307", "an artifact is out of reach";
    WritesAtOnce = "ORCH0308", "two steps could write the workspace at once";
    TooDeep = "ORCH0309", "steps are nested too deeply";
    UnusedInput = "ORCH0310", "an input is never used";
    UnusedAgent = "ORCH0311", "an agent is never used";
    NothingToSay = "ORCH0312", "a message is empty";
    PipelineNotFound = "ORCH0320", "a called pipeline does not exist";
    PipelineCycle = "ORCH0321", "a pipeline calls itself";
    InputMissing = "ORCH0322", "a called pipeline lacks an input";
    InputUnknown = "ORCH0323", "a called pipeline has no such input";
    // 04: templates and expressions
    TemplateSyntax = "ORCH0401", "a template or expression cannot be parsed";
    TemplateRefused = "ORCH0402", "a template feature that prompts may not use";
    IncludeNotFound = "ORCH0403", "an included prompt does not exist";
    IncludeCycle = "ORCH0404", "a prompt includes itself";
    UnknownCallable = "ORCH0405", "a filter, test or function is unknown";
    UnknownVariable = "ORCH0406", "a variable is unknown";
    PromptNotFound = "ORCH0407", "a prompt does not exist";
    NotReplaced = "ORCH0408", "a name stands as text where its value may be meant";
    // 05: schemas
    SchemaNotFound = "ORCH0501", "a schema does not exist";
    SchemaInvalid = "ORCH0502", "a schema is not a valid JSON Schema";
    DefaultMismatch = "ORCH0503", "a default does not fit its schema";
    ArtifactMismatch = "ORCH0504", "an artifact does not fit its schema";
    NeverFits = "ORCH0505", "no value fits a schema";
    // 06: types
    UnknownProperty = "ORCH0601", "a property does not exist";
    MaybeMissing = "ORCH0602", "a value may be missing";
    WrongOperand = "ORCH0603", "a value does not support what is done with it";
    NeverEqual = "ORCH0604", "two values can never be equal";
    NotBoolean = "ORCH0605", "a condition is not a boolean";
    PrintsStructure = "ORCH0606", "a list or object is printed as it is";
    NotList = "ORCH0607", "a step runs over something that is not a list";
    NotFiles = "ORCH0608", "a step writes something that is not a list of files";
    InputMismatch = "ORCH0609", "a value does not fit the input of a called pipeline";
    // 07: models
    BadModel = "ORCH0701", "a model reference is malformed";
    UnknownProvider = "ORCH0702", "a provider is unknown";
    NoAddress = "ORCH0703", "a provider has no address";
    BadAddress = "ORCH0704", "the address of a provider or tracker is malformed";
    BadHeader = "ORCH0705", "a header of a provider cannot be sent";
    ModelFile = "ORCH0706", "a model file cannot be used";
    NoPrice = "ORCH0710", "a model has no known price under a budget in dollars";
    Parameter = "ORCH0711", "a model does not take a parameter";
    TooLongForModel = "ORCH0712", "a prompt does not fit the context of its model";
    NoUsage = "ORCH0713", "a program may not report what a budget limits";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn codes_are_distinct_and_ordered() {
        let codes: Vec<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert!(codes.is_sorted());
        assert_eq!(codes.iter().collect::<HashSet<_>>().len(), codes.len());
        assert!(Code::ALL.iter().all(|code| !code.title().ends_with('.')));
    }
}
