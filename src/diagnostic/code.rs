//! The table of codes: one line per kind of mistake.
//!
//! A code never changes its meaning and is never reused. Messages may change.

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

            /// Returns the stable code, such as `ORCH0201`.
            pub fn as_str(self) -> &'static str {
                match self { $(Code::$variant => $code),+ }
            }

            /// Returns a short description of the mistake.
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
    NotUtf8 = "ORCH0103", "a file is not UTF-8 text";
    FileTooLarge = "ORCH0104", "a file is too large";
    PathOutsideFolder = "ORCH0105", "a path leads out of its folder";
    LinkOutsideProject = "ORCH0106", "a link leads out of the project";
    YamlSyntax = "ORCH0110", "the YAML cannot be parsed";
    DuplicateKey = "ORCH0111", "a key is written twice";
    UnsupportedYaml = "ORCH0112", "a file uses an unsupported YAML feature";
    YamlTooComplex = "ORCH0113", "a file is nested too deeply or expands too far";
    JsonSyntax = "ORCH0114", "the JSON cannot be parsed";
    UnportableYaml = "ORCH0115", "other YAML tools cannot read a value";
    // 02: the shape of a file
    UnknownKey = "ORCH0201", "a key is unknown";
    MissingKey = "ORCH0202", "a key is missing";
    WrongType = "ORCH0203", "a value has the wrong type";
    WrongValue = "ORCH0204", "a value is not allowed";
    WrongStepKind = "ORCH0205", "a step has no kind, or more than one";
    KeyNotApplicable = "ORCH0206", "a key does not apply to this kind of step or agent";
    MultipleAgentKinds = "ORCH0207", "an agent has more than one of `cli`, `acp` and `command`";
    UnknownTool = "ORCH0208", "a tool is unknown, or its pattern is invalid";
    WrongMcpTransport = "ORCH0209", "an MCP server has neither `command` nor `url`, or both";
    // 03: how steps depend on one another
    InvalidName = "ORCH0301", "a name is malformed or reserved";
    DuplicateName = "ORCH0302", "a name is used twice";
    DuplicateArtifact = "ORCH0303", "two steps produce the same artifact";
    UnknownAgent = "ORCH0304", "an agent is unknown";
    UnknownArtifact = "ORCH0305", "an artifact is unknown";
    ArtifactUsedTooEarly = "ORCH0306", "a step reads an artifact that a later step produces";
    ArtifactNotInScope = "ORCH0307", "an artifact is not in scope";
    ConcurrentWrites = "ORCH0308", "parallel steps could write to the workspace at the same time";
    StepsTooDeep = "ORCH0309", "steps are nested too deeply";
    UnusedInput = "ORCH0310", "an input is never used";
    UnusedAgent = "ORCH0311", "an agent is never used";
    EmptyMessage = "ORCH0312", "a message is empty";
    UnconfinedCommand = "ORCH0313", "a command without a sandbox may run files that a model wrote";
    SandboxTooLoose = "ORCH0314", "a sandbox or a tool allows more than `orch.yaml`";
    UnusableTool = "ORCH0315", "a tool cannot do anything in its sandbox";
    AccessTooLow = "ORCH0316", "the access of a step is too low for the tools of its agent";
    UnknownMcpServer = "ORCH0317", "an MCP server is unknown";
    McpToolNotAllowed = "ORCH0318", "`orch.yaml` does not allow a tool of an MCP server";
    RetriedWrite = "ORCH0319", "a call that may change something would be retried";
    PipelineNotFound = "ORCH0320", "a called pipeline does not exist";
    PipelineCycle = "ORCH0321", "a pipeline calls itself";
    MissingPipelineInput = "ORCH0322", "a called pipeline or tool lacks an input";
    UnknownPipelineInput = "ORCH0323", "a called pipeline or tool has no such input";
    // 04: templates and expressions
    TemplateSyntax = "ORCH0401", "a template or expression cannot be parsed";
    UnsupportedTemplate = "ORCH0402", "a template uses an unsupported feature";
    IncludeNotFound = "ORCH0403", "an included prompt does not exist";
    IncludeCycle = "ORCH0404", "a prompt includes itself";
    UnknownCallable = "ORCH0405", "a filter, test or function is unknown";
    UnknownVariable = "ORCH0406", "a variable is unknown";
    PromptNotFound = "ORCH0407", "a prompt does not exist";
    LiteralPlaceholder = "ORCH0408", "a placeholder is not written in template syntax";
    NotShellWord = "ORCH0409", "a shell does not take a value as one word";
    ShellSyntaxInList = "ORCH0410", "a list of a program and its arguments uses the syntax of a shell";
    WrongArgument = "ORCH0420", "a filter, test or function gets a wrong argument";
    // 05: schemas
    SchemaNotFound = "ORCH0501", "a schema does not exist";
    SchemaInvalid = "ORCH0502", "a schema is not a valid JSON Schema";
    DefaultMismatch = "ORCH0503", "a default does not fit its schema";
    ArtifactMismatch = "ORCH0504", "an artifact does not fit its schema";
    UnsatisfiableSchema = "ORCH0505", "a schema is unsatisfiable";
    IneffectiveKeyword = "ORCH0506", "a keyword of a schema has no effect";
    // 06: types
    UnknownProperty = "ORCH0601", "a property does not exist";
    PossiblyMissing = "ORCH0602", "a value may be missing";
    UnsupportedOperation = "ORCH0603", "a value does not support an operation";
    NeverEqual = "ORCH0604", "two values can never be equal";
    NotBoolean = "ORCH0605", "a condition is not a boolean";
    PrintsRawStructure = "ORCH0606", "a template prints a list or object directly";
    NotList = "ORCH0607", "the value of `for_each` is not a list";
    NotFileList = "ORCH0608", "the value of `write` is not a list of files";
    InputMismatch = "ORCH0609", "a value does not fit the input of a called pipeline or the argument of a tool";
    NeverTrue = "ORCH0620", "a comparison can never be true";
    RefusedPath = "ORCH0625", "a step would write a file at a path that orch refuses";
    UncheckedValue = "ORCH0630", "a schema says too little about a value to check its use";
    // 07: models
    InvalidModel = "ORCH0701", "a model reference is malformed";
    UnknownProvider = "ORCH0702", "a provider is unknown";
    MissingBaseUrl = "ORCH0703", "a provider has no address";
    InvalidUrl = "ORCH0704", "the address of a provider, a tracker or an MCP server is malformed";
    InvalidHeader = "ORCH0705", "a header of a provider or an MCP server is invalid";
    UnusableModelFile = "ORCH0706", "a model file cannot be used";
    UnknownPrice = "ORCH0710", "a budget in dollars covers a model without a known price";
    UnsupportedParameter = "ORCH0711", "a model does not support a parameter";
    ContextWindowExceeded = "ORCH0712", "a prompt exceeds the context window of its model";
    UsageNotReported = "ORCH0713", "a budget covers a CLI agent that may not report its usage";
    CutsRepliesOff = "ORCH0714", "an option can cut replies off";
    MisspeltModel = "ORCH0715", "the name of a model is probably misspelt";
    ModelWithoutTools = "ORCH0716", "an agent has tools that its model cannot call";
    // 08: comments that suppress warnings
    InvalidSuppression = "ORCH0801", "a comment that suppresses a warning is invalid";
    UnusedSuppression = "ORCH0802", "a comment suppresses nothing";
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
