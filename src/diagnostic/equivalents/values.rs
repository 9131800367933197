//! Advice for values whose shape is valid in other tools but not in orch.

use super::MappingType;

/// The shape of a YAML value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum YamlShape {
    /// A string.
    Text,
    /// A number.
    Number,
    /// `true` or `false`.
    Bool,
    /// A list.
    List,
    /// A mapping.
    Mapping,
}

use YamlShape::{Bool, List, Mapping, Number, Text};

/// A type of mapping, a key, the wrong shapes of its value, and the advice. An empty key means an item of a list or
/// mapping of that type. orch replaces `VALUE` in the advice by the value as JSON.
type ValueRow = (MappingType, &'static str, &'static [YamlShape], &'static str);

#[rustfmt::skip]
const VALUES: &[ValueRow] = &[
    ("Pipeline", "steps", &[Mapping], "steps are a list: write `- id: NAME` in place of `NAME:`"),
    ("Pipeline", "finally", &[Mapping], "steps are a list: write `- id: NAME` in place of `NAME:`"),
    ("Step", "steps", &[Mapping], "steps are a list: write `- id: NAME` in place of `NAME:`"),
    ("Step", "parallel", &[Mapping], "steps are a list: write `- id: NAME` in place of `NAME:`"),
    ("Repeat", "steps", &[Mapping], "steps are a list: write `- id: NAME` in place of `NAME:`"),
    ("Step", "parallel", &[Bool, Number, Text], "`parallel` contains the steps that run at the same time: `parallel: [STEPS]`"),
    ("Step", "", &[Text], "a step is a mapping, such as `{ id: NAME, run: VALUE }`"),
    ("Pipeline", "agents", &[List], "agents are a mapping: write `NAME: { model: PROVIDER/MODEL }` in place of an item"),
    ("Agent", "", &[Text], "an agent is a mapping: `{ model: VALUE }`"),
    ("Agent", "command", &[Text], "write the program and its arguments as a list: `command: [PROGRAM, ARGUMENT]`"),
    ("Agent", "acp", &[Text, List], "write `acp: { command: [PROGRAM, ARGUMENT] }`"),
    ("Acp", "command", &[Text], "write the program and its arguments as a list: `command: [PROGRAM, ARGUMENT]`"),
    ("Agent", "tools", &[Mapping], "name the tools in a list: `tools: [NAME]`"),
    ("Agent", "tool_choice", &[Bool, Number], "write one word: `tool_choice: required`, or `tool_choice: auto`"),
    ("Agent", "tool_choice", &[Mapping, List], "write one word, `tool_choice: required`; orch can't require a certain tool, so say in the prompt which one the model must call first"),
    ("Agent", "approve_tools", &[Text], "write it as a list: `approve_tools: [VALUE]`"),
    ("Agent", "approve_tools", &[Bool, Mapping], "name the tools in a list: `approve_tools: [NAME]`"),
    ("Agent", "stop", &[Text], "write it as a list: `stop: [VALUE]`"),
    ("Agent", "reasoning", &[Bool, Number, Mapping, List], "write how much the model reasons as one word: `reasoning: high`"),
    ("Agent", "provider_options", &[Text, List], "write a mapping: `provider_options: { NAME: SETTING }`"),
    ("Agent", "env", &[Mapping], "`env` sets no values: export them before you start orch, and list their names, as `env: [NAME]`"),
    ("Step", "env", &[Mapping], "`env` sets no values: export them before you start orch, and list their names, as `env: [NAME]`"),
    ("Step", "env", &[Text], "list the names of variables: `env: [VALUE]`"),
    ("Pipeline", "inputs", &[List], "inputs are a mapping of names to JSON Schemas: `inputs: { NAME: { type: string } }`"),
    ("Pipeline", "outputs", &[List, Text], "outputs are a mapping of names to expressions: `outputs: { NAME: NAME }`"),
    ("Step", "inputs", &[Mapping], "list the artifacts that the step reads, as `inputs: [NAME]`; pass values to a called pipeline with `with: { NAME: EXPRESSION }`"),
    ("Step", "inputs", &[Text], "write it as a list: `inputs: [VALUE]`"),
    ("Step", "with", &[List, Text], "`with` passes inputs to a called pipeline: `with: { NAME: EXPRESSION }`"),
    ("Step", "output", &[List, Mapping], "a step has one artifact, whose fields its schema names: `output: NAME`"),
    ("Step", "schema", &[Mapping], "put the schema into a file `schemas/NAME.schema.json`, and write `schema: NAME`"),
    ("Step", "agent", &[Mapping], "declare the agent under `agents:` of the pipeline, and name it here: `agent: NAME`"),
    ("Step", "prompt", &[Mapping, List], "put the prompt into a file of `prompts/`, and write `prompt: FILE.md`"),
    ("Step", "message", &[List, Mapping], "`message` is the user message, `message: TEXT`; the system prompt is the file that `prompt` names"),
    ("Step", "run", &[Mapping], "write one line for `sh -c`, `run: COMMAND`, or a list, `run: [PROGRAM, ARGUMENT]`"),
    ("Step", "args", &[List, Text], "write the program and its arguments as one list, `run: [PROGRAM, ARGUMENT]`; the arguments of a tool are a mapping, `args: { NAME: TEXT }`"),
    ("Step", "write", &[Mapping, List], "`write` is an expression in quotes: `write: \"[{'path': 'FILE', 'content': NAME}]\"`"),
    ("Step", "approve", &[Bool, Mapping, List], "write the question for the user: `approve: TEXT`"),
    ("Step", "repeat", &[Number], "write `repeat: { max: VALUE, steps: [STEPS] }`"),
    ("Step", "repeat", &[Bool, Text, List], "write `repeat: { until: CONDITION, max: ROUNDS, steps: [STEPS] }`"),
    ("Step", "for_each", &[List, Mapping], "`for_each` is an expression in quotes: `for_each: 'VALUE'`"),
    ("Step", "for_each", &[Number], "`for_each` iterates over a list: `for_each: range(VALUE)`"),
    ("Step", "when", &[Mapping, List], "`when` is one expression: join conditions with `and` and `or`, as `when: CONDITION and CONDITION`"),
    ("Repeat", "until", &[Mapping, List], "`until` is one expression: join conditions with `and` and `or`, as `until: CONDITION and CONDITION`"),
    ("Step", "retry", &[Number], "write `retry: { max: VALUE }`, which includes the first attempt"),
    ("Step", "retry", &[Bool, Text, List], "write `retry: { max: NUMBER }`, which includes the first attempt"),
    ("Step", "accept", &[Text], "write `accept: [{ that: VALUE, else: TEXT }]`"),
    ("Step", "accept", &[Mapping], "write it as a list: `accept: [{ that: CONDITION, else: TEXT }]`"),
    ("Accept", "", &[Text], "write an entry as `{ that: VALUE, else: TEXT }`"),
    ("Step", "timeout", &[Mapping], "write one duration with its unit: `timeout: 10m`"),
    ("Step", "expect", &[Number], "write `expect: { exit_code: [VALUE] }`"),
    ("Step", "expect", &[List], "write `expect: { exit_code: VALUE }`"),
    ("Expect", "exit_code", &[Number], "write it as a list: `exit_code: [VALUE]`"),
    ("Step", "fallback", &[Text], "write it as a list: `fallback: [VALUE]`"),
    ("Pipeline", "budget", &[Number], "name the limit: `budget: { usd: VALUE }`"),
    ("Step", "budget", &[Number], "name the limit: `budget: { usd: VALUE }`"),
    ("Agent", "budget", &[Number], "name the limit: `budget: { usd: VALUE }`"),
    ("Settings", "budget", &[Number], "name the limit: `budget: { usd: VALUE }`"),
    ("Budget", "seconds", &[Text], "write the number of seconds without a unit: `seconds: NUMBER`"),
    ("Settings", "providers", &[List], "providers are a mapping: write `NAME: { dialect: openai, base_url: ADDRESS }` in place of an item"),
    ("Settings", "models", &[List], "models are a mapping of short names: `models: { NAME: PROVIDER/MODEL }`"),
    ("Settings", "mcp", &[List], "servers are a mapping: write `NAME: { command: [PROGRAM] }` in place of an item"),
    ("McpServerSettings", "", &[Text, List], "a server is a mapping: `{ command: [PROGRAM, ARGUMENT] }`, or `{ url: ADDRESS }`"),
    ("McpServerSettings", "command", &[Text], "write the program and its arguments as a list: `command: [PROGRAM, ARGUMENT]`"),
    ("McpServerSettings", "env", &[Mapping], "`env` sets no values: export them before you start orch, and list their names, as `env: [NAME]`"),
    ("McpServerSettings", "env", &[Text], "list the names of variables: `env: [VALUE]`"),
    ("McpServerSettings", "tools", &[Text], "write it as a list: `tools: [VALUE]`"),
    ("McpServerSettings", "headers", &[Text, List], "write a mapping of names to texts or variables: `headers: { NAME: { env: VARIABLE } }`"),
    ("Settings", "secrets", &[Mapping], "list the names of variables: `secrets: [NAME]`"),
    ("Case", "expect", &[List], "write expressions under `assert`: `expect: { assert: VALUE }`"),
    ("Case", "inputs", &[List], "inputs are a mapping: `inputs: { NAME: TEXT }`"),
    ("CannedAnswers", "", &[Bool], "an answer is a mapping: `{ approved: VALUE }`"),
    ("CannedAnswers", "", &[Text], "an answer is a mapping: `{ approved: true, note: TEXT }`"),
    ("Expected", "assert", &[Text], "write it as a list: `assert: [VALUE]`"),
    ("Expected", "files", &[Text], "write it as a list: `files: [VALUE]`"),
    ("Expected", "steps", &[List], "name each step with its expected status: `steps: { NAME: completed }`"),
];

/// Returns advice for a value of this shape at a key of a mapping; `json_value` is the value as JSON.
pub fn value_help(mapping_type: &str, key: &str, shape: YamlShape, json_value: &str) -> Option<String> {
    let (_, _, _, advice) = VALUES.iter().find(|(row_type, row_key, shapes, _)| {
        *row_type == mapping_type && *row_key == key && shapes.contains(&shape)
    })?;
    Some(advice.replace("VALUE", json_value))
}

/// Returns all combinations of mapping type, key and shape with advice.
pub fn known_values() -> impl Iterator<Item = (&'static str, &'static str, YamlShape)> {
    VALUES
        .iter()
        .flat_map(|(mapping_type, key, shapes, _)| shapes.iter().map(move |shape| (*mapping_type, *key, *shape)))
}
