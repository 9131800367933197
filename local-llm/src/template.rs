//! Renders messages as a prompt, with the chat template of a model.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Value;
use minijinja::{Environment, ErrorKind, State, context};

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
        environment.add_function("raise_exception", |text: String| -> Result<Value, _> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, text))
        });
        environment
            .add_template_owned(TEMPLATE_NAME, source.to_owned())
            .map_err(|error| Error::Format(format!("its chat template is broken: {error}")))?;
        Ok(Self { environment, bos: bos.unwrap_or_default().to_owned(), eos: eos.to_owned() })
    }

    /// Renders the prompt for these messages, up to the beginning of the reply.
    ///
    /// Some templates reject a system prompt. This function then prepends the system prompt to the first message.
    pub(crate) fn render(&self, messages: &[PromptMessage]) -> Result<String, Error> {
        let result = self.render_messages(messages);
        match (&result, messages) {
            (Err(_), [system, first, rest @ ..]) if system.role == "system" && first.role == "user" => {
                let content = format!("{}\n\n{}", system.content, first.content);
                let merged_messages: Vec<PromptMessage> =
                    std::iter::once(PromptMessage::new("user", content)).chain(rest.iter().cloned()).collect();
                self.render_messages(&merged_messages).or(result)
            }
            _ => result,
        }
    }

    fn render_messages(&self, messages: &[PromptMessage]) -> Result<String, Error> {
        let messages: Vec<Value> =
            messages.iter().map(|message| context! { role => &message.role, content => &message.content }).collect();
        let template = self.environment.get_template(TEMPLATE_NAME).map_err(template_error)?;
        template
            .render(context! {
                messages,
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
        let prompt = template.render(&user_message("Hi")).unwrap();
        assert_eq!(prompt, "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
    }

    #[test]
    fn python_methods_work() {
        let source = "{% for m in messages %}{{ m.content.strip().split(' ')[1].upper() }}{{ m.get('x', 'no') }}{% endfor %}{% if messages[0].content.startswith(' a') %}!{% endif %}";
        let template = Template::new(Some(source), None, "", false).unwrap();
        assert_eq!(template.render(&user_message(" a b ")).unwrap(), "Bno!");
    }

    #[test]
    fn the_error_contains_the_message_of_raise_exception() {
        let template = Template::new(Some("{{ raise_exception('no turns') }}"), None, "", false).unwrap();
        let error = template.render(&user_message("x")).unwrap_err().to_string();
        assert!(error.contains("no turns"), "{error}");
    }

    #[test]
    fn a_rejected_system_prompt_is_prepended_to_the_first_message() {
        let source = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}{% for m in messages %}[{{ m.role }}: {{ m.content }}]{% endfor %}";
        let template = Template::new(Some(source), None, "", false).unwrap();
        let messages = [PromptMessage::new("system", "Be short."), PromptMessage::new("user", "Hi")];
        assert_eq!(template.render(&messages).unwrap(), "[user: Be short.\n\nHi]");
        let error = template.render(&messages[..1]).unwrap_err().to_string();
        assert!(error.contains("no system"), "{error}");
    }

    #[test]
    fn a_file_without_a_template_and_without_chatml_tokens_is_rejected() {
        let error = Template::new(None, None, "", false).err().unwrap().to_string();
        assert!(error.contains("instruct file"), "{error}");
    }
}
