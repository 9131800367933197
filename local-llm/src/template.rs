//! Renders messages as a prompt, with the chat template of a model.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Value, ValueKind};
use minijinja::{Environment, ErrorKind, State, context};
use serde_json::{Number, json};

use crate::tools::{ModelCall, OfferedTool, call_definition, plain_messages, spaced_json, tool_definition};
use crate::{Error, PromptMessage};

/// The default template, for a model file without a template.
const CHATML: &str = "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

/// The message for a file that has neither a template nor the special tokens of `ChatML`.
pub(crate) const NO_CHAT_TEMPLATE: &str = "it has no chat template, and its vocabulary lacks the special tokens of \
     ChatML: it may be a base model, which only continues a text; use an instruct file";

const TEMPLATE_NAME: &str = "chat";

/// The chat template of a model.
pub(crate) struct Template {
    environment: Environment<'static>,
    bos: String,
    eos: String,
    /// Whether the template renders tools, calls and results itself, in the format in which this crate writes calls.
    has_tools: bool,
}

fn template_error(error: minijinja::Error) -> Error {
    let mut text = error.to_string();
    if let Some(detail) = error.detail() {
        text = format!("{detail}: {text}");
    }
    Error::InvalidRequest(format!("the model's chat template rejects these messages: {text}"))
}

/// Calls a Python method of a string, list or map: chat templates use some.
fn call_python_method(
    _: &mut State<'_, '_>,
    value: &Value,
    name: &str,
    args: &[Value],
) -> Result<Value, minijinja::Error> {
    let string_arg = |index: usize| args.get(index).and_then(Value::as_str);
    let unknown_method = || minijinja::Error::from(ErrorKind::UnknownMethod);
    if let Some(text) = value.as_str() {
        let chars = string_arg(0);
        let is_stripped = |c: char| chars.map_or_else(|| c.is_whitespace(), |chars| chars.contains(c));
        return Ok(match name {
            "strip" => Value::from(text.trim_matches(is_stripped)),
            "lstrip" => Value::from(text.trim_start_matches(is_stripped)),
            "rstrip" => Value::from(text.trim_end_matches(is_stripped)),
            "upper" => Value::from(text.to_uppercase()),
            "lower" => Value::from(text.to_lowercase()),
            "title" | "capitalize" => {
                let mut chars = text.chars();
                let first = chars.next().map(|c| c.to_uppercase().collect::<String>());
                Value::from(first.unwrap_or_default() + &chars.as_str().to_lowercase())
            }
            "startswith" => Value::from(text.starts_with(string_arg(0).unwrap_or_default())),
            "endswith" => Value::from(text.ends_with(string_arg(0).unwrap_or_default())),
            "replace" => {
                Value::from(text.replace(string_arg(0).unwrap_or_default(), string_arg(1).unwrap_or_default()))
            }
            "split" => match string_arg(0) {
                Some(separator) if !separator.is_empty() => text.split(separator).map(Value::from).collect(),
                _ => text.split_whitespace().map(Value::from).collect(),
            },
            _ => return Err(unknown_method()),
        });
    }
    match name {
        "get" => {
            let key = args.first().ok_or_else(unknown_method)?;
            let item = value.get_item(key)?;
            let fallback = || args.get(1).cloned().unwrap_or_default();
            Ok(if item.is_undefined() { fallback() } else { item })
        }
        "keys" => Ok(value.try_iter()?.collect()),
        "values" => value.try_iter()?.map(|key| value.get_item(&key)).collect(),
        "items" => value.try_iter()?.map(|key| Ok(Value::from(vec![key.clone(), value.get_item(&key)?]))).collect(),
        _ => Err(unknown_method()),
    }
}

/// Converts a JSON value for the template. The conversion of minijinja turns each number into a map, because the
/// feature `arbitrary_precision` of serde_json is on.
fn to_template_value(value: &serde_json::Value) -> Value {
    match value {
        serde_json::Value::Null => Value::from(()),
        serde_json::Value::Bool(flag) => Value::from(*flag),
        serde_json::Value::Number(number) => match number.as_i64() {
            Some(integer) => Value::from(integer),
            None => Value::from(number.as_f64().unwrap_or_default()),
        },
        serde_json::Value::String(text) => Value::from(text.as_str()),
        serde_json::Value::Array(items) => items.iter().map(to_template_value).collect(),
        serde_json::Value::Object(members) => {
            Value::from_pairs(members.iter().map(|(name, value)| (name.as_str(), to_template_value(value))))
        }
    }
}

/// Converts a value of the template to JSON.
fn to_json_value(value: &Value) -> Result<serde_json::Value, minijinja::Error> {
    Ok(match value.kind() {
        ValueKind::Undefined | ValueKind::None => serde_json::Value::Null,
        ValueKind::Bool => serde_json::Value::Bool(value.is_true()),
        ValueKind::Number => match value.as_i64().filter(|_| value.is_integer()) {
            Some(integer) => serde_json::Value::from(integer),
            None => {
                let number = f64::try_from(value.clone()).ok().and_then(Number::from_f64);
                number.map_or(serde_json::Value::Null, serde_json::Value::Number)
            }
        },
        ValueKind::Seq | ValueKind::Iterable => {
            value.try_iter()?.map(|item| to_json_value(&item)).collect::<Result<Vec<_>, _>>()?.into()
        }
        ValueKind::Map => {
            let mut members = serde_json::Map::new();
            for name in value.try_iter()? {
                members.insert(name.to_string(), to_json_value(&value.get_item(&name)?)?);
            }
            serde_json::Value::Object(members)
        }
        _ => serde_json::Value::String(value.to_string()),
    })
}

/// The filter `tojson`. That of minijinja escapes the characters `<`, `>`, `&` and `'` for HTML, and models have
/// learned calls and tools without these escapes.
fn to_json(value: &Value, indent: Option<Value>, options: Kwargs) -> Result<Value, minijinja::Error> {
    if indent.is_some() || options.has("indent") {
        return minijinja::filters::tojson(value, indent, options);
    }
    Ok(Value::from(spaced_json(&to_json_value(value)?)))
}

/// A message for the template.
fn message_value(message: &PromptMessage) -> Value {
    let mut members =
        vec![("role", Value::from(message.role.as_str())), ("content", Value::from(message.content.as_str()))];
    if !message.calls.is_empty() {
        let calls = message.calls.iter().map(|call| to_template_value(&call_definition(call)));
        members.push(("tool_calls", calls.collect()));
    }
    Value::from_pairs(members)
}

impl Template {
    /// Compiles the template. Without one, uses `ChatML` if the vocabulary has its special tokens.
    pub(crate) fn new(source: Option<&str>, bos: Option<&str>, eos: &str, has_chatml: bool) -> Result<Self, Error> {
        let source = match source {
            Some(source) => source,
            None if has_chatml => CHATML,
            None => return Err(Error::Format(NO_CHAT_TEMPLATE.to_owned())),
        };
        let mut environment = Environment::new();
        environment
            .set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().map_err(template_error)?);
        environment.set_unknown_method_callback(call_python_method);
        environment.add_filter("tojson", to_json);
        environment.add_function("raise_exception", |text: String| -> Result<Value, _> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, text))
        });
        environment
            .add_template_owned(TEMPLATE_NAME, source.to_owned())
            .map_err(|error| Error::Format(format!("its chat template is broken: {error}")))?;
        let (bos, eos) = (bos.unwrap_or_default().to_owned(), eos.to_owned());
        let template = Self { environment, bos, eos, has_tools: false };
        Ok(Self { has_tools: template.renders_tools(), ..template })
    }

    /// Whether the template renders tools, calls and results itself, in the format in which this crate writes calls.
    fn renders_tools(&self) -> bool {
        let tool =
            OfferedTool { name: "probe".to_owned(), description: "What it does".to_owned(), parameters: json!({}) };
        let calls = vec![ModelCall { name: "probe".to_owned(), arguments: json!({}) }];
        let messages = [
            PromptMessage::new("user", "Hi"),
            PromptMessage { calls, ..PromptMessage::new("assistant", "") },
            PromptMessage::new("tool", "The result"),
        ];
        let call = "<tool_call>\n{\"name\": \"probe\", \"arguments\": {}}\n</tool_call>";
        let parts = [call, "What it does", "The result"];
        self.render_messages(&messages, &[tool]).is_ok_and(|text| parts.iter().all(|part| text.contains(part)))
    }

    /// Renders the prompt for these messages and tools, up to the beginning of the reply.
    ///
    /// A template without tools receives them as a part of the system prompt. Some templates reject a system prompt.
    /// This function then prepends the system prompt to the first message.
    pub(crate) fn render(&self, messages: &[PromptMessage], tools: &[OfferedTool]) -> Result<String, Error> {
        match plain_messages(messages, tools).filter(|_| !self.has_tools) {
            Some(plain) => self.render_with_system(&plain, &[]),
            None => self.render_with_system(messages, tools),
        }
    }

    fn render_with_system(&self, messages: &[PromptMessage], tools: &[OfferedTool]) -> Result<String, Error> {
        let result = self.render_messages(messages, tools);
        match (&result, messages) {
            (Err(_), [system, first, rest @ ..]) if system.role == "system" && first.role == "user" => {
                let content = format!("{}\n\n{}", system.content, first.content);
                let merged_messages: Vec<PromptMessage> =
                    std::iter::once(PromptMessage::new("user", content)).chain(rest.iter().cloned()).collect();
                self.render_messages(&merged_messages, tools).or(result)
            }
            _ => result,
        }
    }

    fn render_messages(&self, messages: &[PromptMessage], tools: &[OfferedTool]) -> Result<String, Error> {
        let messages: Vec<Value> = messages.iter().map(message_value).collect();
        let definitions: Vec<Value> = tools.iter().map(|tool| to_template_value(&tool_definition(tool))).collect();
        // Without tools, templates expect `none`.
        let tools = if definitions.is_empty() { Value::from(()) } else { Value::from(definitions) };
        let template = self.environment.get_template(TEMPLATE_NAME).map_err(template_error)?;
        template
            .render(context! {
                messages,
                tools,
                add_generation_prompt => true,
                // Reasoning would use up short replies, and a schema may constrain a reply from its first token on.
                enable_thinking => false,
                bos_token => &self.bos,
                eos_token => &self.eos,
            })
            .map_err(template_error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user_message(text: &str) -> [PromptMessage; 1] {
        [PromptMessage::new("user", text)]
    }

    #[test]
    fn a_model_without_a_template_uses_chatml() {
        let template = Template::new(None, None, "<|im_end|>", true).unwrap();
        let prompt = template.render(&user_message("Hi"), &[]).unwrap();
        assert_eq!(prompt, "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
    }

    #[test]
    fn python_methods_work() {
        let source = "{% for m in messages %}{{ m.content.strip().split(' ')[1].upper() }}{{ m.get('x', 'no') }}{% endfor %}{% if messages[0].content.startswith(' a') %}!{% endif %}";
        let template = Template::new(Some(source), None, "", false).unwrap();
        assert_eq!(template.render(&user_message(" a b "), &[]).unwrap(), "Bno!");
    }

    #[test]
    fn the_error_contains_the_message_of_raise_exception() {
        let template = Template::new(Some("{{ raise_exception('no turns') }}"), None, "", false).unwrap();
        let error = template.render(&user_message("x"), &[]).unwrap_err().to_string();
        assert!(error.contains("no turns"), "{error}");
    }

    #[test]
    fn a_rejected_system_prompt_is_prepended_to_the_first_message() {
        let source = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}{% for m in messages %}[{{ m.role }}: {{ m.content }}]{% endfor %}";
        let template = Template::new(Some(source), None, "", false).unwrap();
        let messages = [PromptMessage::new("system", "Be short."), PromptMessage::new("user", "Hi")];
        assert_eq!(template.render(&messages, &[]).unwrap(), "[user: Be short.\n\nHi]");
        let error = template.render(&messages[..1], &[]).unwrap_err().to_string();
        assert!(error.contains("no system"), "{error}");
    }

    #[test]
    fn a_file_without_a_template_and_without_chatml_tokens_is_rejected() {
        let error = Template::new(None, None, "", false).err().unwrap().to_string();
        assert!(error.contains("instruct file"), "{error}");
    }

    /// The parts of Qwen's template that render tools, calls and results.
    const WITH_TOOLS: &str = r#"{% if tools %}[{% for tool in tools %}{{ tool | tojson }}{% endfor %}]{% endif %}
{%- for message in messages %}
{%- if message.role == 'tool' %}<tool_response>{{ message.content }}</tool_response>
{%- else %}<{{ message.role }}>{{ message.content }}
{%- for tool_call in message.tool_calls %}
    {%- if tool_call.function is defined %}
        {%- set tool_call = tool_call.function %}
    {%- endif %}
    {{- '<tool_call>\n{"name": "' }}{{ tool_call.name }}{{ '", "arguments": ' }}
    {{- tool_call.arguments | tojson }}{{ '}\n</tool_call>' }}
{%- endfor %}{% endif %}{% endfor %}"#;

    fn conversation() -> ([PromptMessage; 3], [OfferedTool; 1]) {
        let parameters = json!({ "properties": { "path": { "type": "string", "maxLength": 9 } } });
        let tool = OfferedTool { name: "read".to_owned(), description: "<Reads> a & 'b'".to_owned(), parameters };
        let calls = vec![ModelCall { name: "read".to_owned(), arguments: json!({ "path": "a", "n": [1, 2.5, null] }) }];
        let messages = [
            PromptMessage::new("user", "Hi"),
            PromptMessage { calls, ..PromptMessage::new("assistant", "Look:") },
            PromptMessage::new("tool", "A"),
        ];
        (messages, [tool])
    }

    #[test]
    fn a_template_with_tools_receives_tools_calls_and_results() {
        let template = Template::new(Some(WITH_TOOLS), None, "", false).unwrap();
        assert!(template.has_tools);
        let (messages, tools) = conversation();
        let prompt = template.render(&messages, &tools).unwrap();
        let definition = r#"[{"type": "function", "function": {"name": "read", "description": "<Reads> a & 'b'", "parameters": {"properties": {"path": {"type": "string", "maxLength": 9}}}}}]"#;
        let call =
            "<tool_call>\n{\"name\": \"read\", \"arguments\": {\"path\": \"a\", \"n\": [1, 2.5, null]}}\n</tool_call>";
        let expected = format!("{definition}<user>Hi<assistant>Look:{call}<tool_response>A</tool_response>");
        assert_eq!(prompt, expected);
    }

    #[test]
    fn a_template_without_tools_receives_them_as_text() {
        for source in [None, Some("{% for m in messages %}[{{ m.role }}: {{ m.content }}]{% endfor %}")] {
            let template = Template::new(source, None, "", true).unwrap();
            assert!(!template.has_tools);
            let (messages, tools) = conversation();
            let prompt = template.render(&messages, &tools).unwrap();
            for part in [
                "# Tools",
                "\"description\": \"<Reads> a & 'b'\"",
                "Look:\n<tool_call>\n{\"name\": \"read\", \"arguments\": {\"path\": \"a\", \"n\": [1, 2.5, null]}}\n</tool_call>",
                "<tool_response>\nA\n</tool_response>",
            ] {
                assert!(prompt.contains(part), "{part}: {prompt}");
            }
            assert!(!prompt.contains("tool:") && !prompt.contains("<|im_start|>tool"), "{prompt}");
        }
    }
}
