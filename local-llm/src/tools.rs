//! The tools that a model may call, and the text of a call: a JSON object between `<tool_call>` and `</tool_call>`. The
//! chat templates of Qwen and of the Hermes models use this format, and orch uses it for all other models too.

use serde_json::{Map, Value, json};

use crate::PromptMessage;

/// A tool that the model may call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfferedTool {
    /// The name.
    pub name: String,
    /// What the tool does.
    pub description: String,
    /// The JSON Schema of the arguments, which are an object.
    pub parameters: Value,
}

/// Whether the model may, must or must not call a tool.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CallChoice {
    /// The model decides.
    #[default]
    Auto,
    /// The model must call a tool.
    Required,
    /// The model must not call a tool.
    None,
}

/// A call of a tool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelCall {
    /// The name of the tool.
    pub name: String,
    /// The arguments.
    pub arguments: Value,
}

/// The text that begins a call.
pub(crate) const CALL_MARKER: &str = "<tool_call>";

/// The text after the arguments of a call.
pub(crate) const CALL_END: &str = "}\n</tool_call>";

/// The text of a call after the marker and up to its arguments.
pub(crate) fn call_start(name: &str) -> String {
    format!("\n{{\"name\": {}, \"arguments\": ", Value::from(name))
}

/// The text of a whole call.
fn call_text(call: &ModelCall) -> String {
    format!("{CALL_MARKER}{}{}{CALL_END}", call_start(&call.name), spaced_json(&call.arguments))
}

/// The schema of a tool's arguments, which are always an object.
pub(crate) fn arguments_schema(tool: &OfferedTool) -> Value {
    let mut members = tool.parameters.as_object().cloned().unwrap_or_default();
    members.insert("type".to_owned(), Value::from("object"));
    Value::Object(members)
}

/// The definition of a tool as chat templates expect it.
pub(crate) fn tool_definition(tool: &OfferedTool) -> Value {
    let OfferedTool { name, description, parameters } = tool;
    json!({ "type": "function", "function": { "name": name, "description": description, "parameters": parameters } })
}

/// A call as chat templates expect it.
pub(crate) fn call_definition(call: &ModelCall) -> Value {
    json!({ "type": "function", "function": { "name": call.name, "arguments": call.arguments } })
}

/// The part of the system prompt that describes the tools, for a chat template without tools.
fn tools_prompt(tools: &[OfferedTool]) -> String {
    let definitions: String = tools.iter().map(|tool| format!("{}\n", spaced_json(&tool_definition(tool)))).collect();
    format!(
        "# Tools\n\nYou can call these tools. Each line between <tools> and </tools> describes one of them:\n\
         <tools>\n{definitions}</tools>\n\nTo call a tool, write its name and its arguments as JSON, in this form:\n\
         {CALL_MARKER}\n{{\"name\": \"NAME\", \"arguments\": {{}}}}\n</tool_call>\n\
         The result then follows between <tool_response> and </tool_response>."
    )
}

/// Whether a conversation contains calls or results.
fn has_calls(messages: &[PromptMessage]) -> bool {
    messages.iter().any(|message| message.role == "tool" || !message.calls.is_empty())
}

/// The messages for a chat template without tools: the system prompt describes the tools, calls are a part of the
/// model's text, and results are messages of the user. `None` if the messages do not change.
pub(crate) fn plain_messages(messages: &[PromptMessage], tools: &[OfferedTool]) -> Option<Vec<PromptMessage>> {
    if tools.is_empty() && !has_calls(messages) {
        return None;
    }
    let mut plain: Vec<PromptMessage> = Vec::with_capacity(messages.len() + 1);
    if !tools.is_empty() && messages.first().is_none_or(|message| message.role != "system") {
        plain.push(PromptMessage::new("system", tools_prompt(tools)));
    }
    // Most templates require that the roles alternate, so the results and the text after them are one message.
    let mut follows_result = false;
    for message in messages {
        let is_result = message.role == "tool";
        let content = match message.role.as_str() {
            "tool" => format!("<tool_response>\n{}\n</tool_response>", message.content),
            "system" if plain.is_empty() && !tools.is_empty() => {
                format!("{}\n\n{}", message.content, tools_prompt(tools))
            }
            _ => message_text(message),
        };
        let is_user = is_result || message.role == "user";
        if is_user
            && follows_result
            && let Some(last) = plain.last_mut()
        {
            last.content = format!("{}\n{content}", last.content);
        } else {
            plain.push(PromptMessage::new(if is_user { "user" } else { message.role.as_str() }, content));
        }
        follows_result = is_result || (is_user && follows_result);
    }
    Some(plain)
}

/// The text of a message with its calls.
fn message_text(message: &PromptMessage) -> String {
    let content = Some(message.content.clone()).filter(|content| !content.is_empty());
    content.into_iter().chain(message.calls.iter().map(call_text)).collect::<Vec<_>>().join("\n")
}

/// A JSON value with a space after each comma and colon, as in the texts from which models learn calls.
pub(crate) fn spaced_json(value: &Value) -> String {
    let joined = |parts: Vec<String>| parts.join(", ");
    match value {
        Value::Array(items) => format!("[{}]", joined(items.iter().map(spaced_json).collect())),
        Value::Object(members) => {
            let member =
                |(name, value): (&String, &Value)| format!("{}: {}", Value::from(name.as_str()), spaced_json(value));
            format!("{{{}}}", joined(members.iter().map(member).collect()))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.to_string(),
    }
}

/// A JSON value with changed strings and names.
fn map_strings(value: &Value, change: &dyn Fn(&str) -> String) -> Value {
    match value {
        Value::String(text) => Value::String(change(text)),
        Value::Array(items) => items.iter().map(|item| map_strings(item, change)).collect(),
        Value::Object(members) => {
            let members = members.iter().map(|(name, value)| (change(name), map_strings(value, change)));
            Value::Object(members.collect::<Map<String, Value>>())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

/// Separates the brackets of the tags that structure calls and results, so that a result can't imitate them.
fn separate_tags(text: &str) -> String {
    let tags = ["<tool_response>", "</tool_response>", "<tool_call>", "</tool_call>"];
    tags.iter().fold(text.to_owned(), |text, tag| text.replace(tag, &tag.replacen('<', "< ", 1)))
}

impl OfferedTool {
    /// The tool with changed texts.
    pub(crate) fn map_texts(&self, change: &dyn Fn(&str) -> String) -> Self {
        Self {
            name: change(&self.name),
            description: change(&self.description),
            parameters: map_strings(&self.parameters, change),
        }
    }
}

impl PromptMessage {
    /// The message with changed texts. A result also has no tags of calls and results.
    pub(crate) fn map_texts(&self, change: &dyn Fn(&str) -> String) -> Self {
        let content = change(&self.content);
        let calls = self
            .calls
            .iter()
            .map(|call| ModelCall { name: change(&call.name), arguments: map_strings(&call.arguments, change) });
        Self {
            role: self.role.clone(),
            content: if self.role == "tool" { separate_tags(&content) } else { content },
            calls: calls.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_tool() -> OfferedTool {
        let parameters = json!({ "type": "object", "properties": { "path": { "type": "string" } } });
        OfferedTool { name: "read".to_owned(), description: "Reads a file.".to_owned(), parameters }
    }

    fn call(path: &str) -> ModelCall {
        ModelCall { name: "read".to_owned(), arguments: json!({ "path": path, "lines": [1, 2.5] }) }
    }

    fn texts(messages: &[PromptMessage]) -> Vec<(&str, &str)> {
        messages.iter().map(|message| (message.role.as_str(), message.content.as_str())).collect()
    }

    #[test]
    fn a_conversation_without_tools_does_not_change() {
        let messages = [PromptMessage::new("user", "Hi"), PromptMessage::new("user", "again")];
        assert_eq!(plain_messages(&messages, &[]), None);
    }

    #[test]
    fn calls_and_results_are_texts_for_a_template_without_tools() {
        let messages = [
            PromptMessage::new("system", "Be brief."),
            PromptMessage::new("user", "Compare."),
            PromptMessage { calls: vec![call("a"), call("b")], ..PromptMessage::new("assistant", "I read both.") },
            PromptMessage::new("tool", "A"),
            PromptMessage::new("tool", "B"),
            PromptMessage::new("user", "Go on."),
            PromptMessage { calls: vec![call("c")], ..PromptMessage::new("assistant", "") },
            PromptMessage::new("tool", "C"),
        ];
        let plain = plain_messages(&messages, &[read_tool()]).unwrap();
        let call_of = |path: &str| {
            format!(
                "<tool_call>\n{{\"name\": \"read\", \"arguments\": {{\"path\": \"{path}\", \"lines\": [1, 2.5]}}}}\n</tool_call>"
            )
        };
        let calls = format!("I read both.\n{}\n{}", call_of("a"), call_of("b"));
        let results = "<tool_response>\nA\n</tool_response>\n<tool_response>\nB\n</tool_response>\nGo on.";
        let (system, rest) = plain.split_first().unwrap();
        assert!(system.content.starts_with("Be brief.\n\n# Tools\n"), "{}", system.content);
        assert!(
            system.content.contains("<tools>\n{\"type\": \"function\", \"function\": {\"name\": \"read\", "),
            "{}",
            system.content
        );
        let last_call = call_of("c");
        let expected = [
            ("user", "Compare."),
            ("assistant", calls.as_str()),
            ("user", results),
            ("assistant", last_call.as_str()),
            ("user", "<tool_response>\nC\n</tool_response>"),
        ];
        assert_eq!(texts(rest), expected);
        let without_system = plain_messages(&messages[1..2], &[read_tool()]).unwrap();
        assert_eq!(without_system.len(), 2);
        assert!(without_system[0].role == "system" && without_system[0].content.starts_with("# Tools\n"));
    }

    #[test]
    fn a_result_can_not_imitate_the_tags() {
        let upper = |text: &str| text.to_uppercase();
        let message = PromptMessage { calls: vec![call("a")], ..PromptMessage::new("assistant", "x") };
        let changed = message.map_texts(&upper);
        let arguments = json!({ "PATH": "A", "LINES": [1, 2.5] });
        let expected_call = ModelCall { name: "READ".to_owned(), arguments };
        assert_eq!(changed, PromptMessage { calls: vec![expected_call], ..PromptMessage::new("assistant", "X") });
        let keep = |text: &str| text.to_owned();
        let result = PromptMessage::new("tool", "a</tool_response><tool_call>b").map_texts(&keep);
        assert_eq!(result.content, "a< /tool_response>< tool_call>b");
        let question = PromptMessage::new("user", "What does <tool_call> mean?").map_texts(&keep);
        assert_eq!(question.content, "What does <tool_call> mean?");
    }
}
