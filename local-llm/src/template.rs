//! Chat templates: turn messages into the text of a prompt.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Value;
use minijinja::{Environment, ErrorKind, State, context};

use crate::{Error, PromptMessage};

/// The template for a model file that has none.
const CHATML: &str = "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

/// The message for a file that has no template and lacks the special tokens of `ChatML`.
pub(crate) const WITHOUT: &str = "it brings no chat template, and its vocabulary lacks the signs of ChatML: it may be a \
     base model, which only goes on with a text; take an instruct file";

const NAME: &str = "chat";

/// The chat template of a model.
pub(crate) struct Template {
    environment: Environment<'static>,
    bos: String,
    eos: String,
}

fn fail(error: minijinja::Error) -> Error {
    let mut text = error.to_string();
    if let Some(detail) = error.detail() {
        text = format!("{detail}: {text}");
    }
    Error::Request(format!("the model's chat template cannot take these messages: {text}"))
}

/// Methods that templates written for Python call on strings, lists and maps.
fn method(_: &mut State<'_, '_>, value: &Value, name: &str, args: &[Value]) -> Result<Value, minijinja::Error> {
    let argument = |index: usize| args.get(index).and_then(Value::as_str);
    let unknown = || minijinja::Error::from(ErrorKind::UnknownMethod);
    if let Some(text) = value.as_str() {
        let set = argument(0);
        let strip = |c: char| set.map_or_else(|| c.is_whitespace(), |set| set.contains(c));
        return Ok(match name {
            "strip" => Value::from(text.trim_matches(strip)),
            "lstrip" => Value::from(text.trim_start_matches(strip)),
            "rstrip" => Value::from(text.trim_end_matches(strip)),
            "upper" => Value::from(text.to_uppercase()),
            "lower" => Value::from(text.to_lowercase()),
            "title" | "capitalize" => {
                let mut letters = text.chars();
                let first = letters.next().map(|c| c.to_uppercase().collect::<String>());
                Value::from(first.unwrap_or_default() + &letters.as_str().to_lowercase())
            }
            "startswith" => Value::from(text.starts_with(argument(0).unwrap_or_default())),
            "endswith" => Value::from(text.ends_with(argument(0).unwrap_or_default())),
            "replace" => Value::from(text.replace(argument(0).unwrap_or_default(), argument(1).unwrap_or_default())),
            "split" => match argument(0) {
                Some(separator) if !separator.is_empty() => text.split(separator).map(Value::from).collect(),
                _ => text.split_whitespace().map(Value::from).collect(),
            },
            _ => return Err(unknown()),
        });
    }
    match name {
        "get" => {
            let key = args.first().ok_or_else(unknown)?;
            let found = value.get_item(key)?;
            let fallback = || args.get(1).cloned().unwrap_or_default();
            Ok(if found.is_undefined() { fallback() } else { found })
        }
        "keys" => Ok(value.try_iter()?.collect()),
        "values" => value.try_iter()?.map(|key| value.get_item(&key)).collect(),
        "items" => value.try_iter()?.map(|key| Ok(Value::from(vec![key.clone(), value.get_item(&key)?]))).collect(),
        _ => Err(unknown()),
    }
}

impl Template {
    /// Compiles the template; without one, uses `ChatML` if the model has its special tokens.
    pub(crate) fn new(source: Option<&str>, bos: Option<&str>, eos: &str, chatml: bool) -> Result<Self, Error> {
        let source = match source {
            Some(source) => source,
            None if chatml => CHATML,
            None => return Err(Error::Format(WITHOUT.to_owned())),
        };
        let mut environment = Environment::new();
        environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().map_err(fail)?);
        environment.set_unknown_method_callback(method);
        environment.add_function("raise_exception", |text: String| -> Result<Value, _> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, text))
        });
        environment
            .add_template_owned(NAME, source.to_owned())
            .map_err(|error| Error::Format(format!("its chat template is broken: {error}")))?;
        Ok(Self { environment, bos: bos.unwrap_or_default().to_owned(), eos: eos.to_owned() })
    }

    /// The prompt for these messages, ending where the reply begins.
    ///
    /// If the template refuses a system prompt, it becomes the head of the first message.
    pub(crate) fn render(&self, messages: &[PromptMessage]) -> Result<String, Error> {
        let rendered = self.fill(messages);
        match (&rendered, messages) {
            (Err(_), [system, first, rest @ ..]) if system.role == "system" && first.role == "user" => {
                let both = format!("{}\n\n{}", system.content, first.content);
                let folded: Vec<PromptMessage> =
                    std::iter::once(PromptMessage::new("user", both)).chain(rest.iter().cloned()).collect();
                self.fill(&folded).or(rendered)
            }
            _ => rendered,
        }
    }

    fn fill(&self, messages: &[PromptMessage]) -> Result<String, Error> {
        let messages: Vec<Value> =
            messages.iter().map(|message| context! { role => &message.role, content => &message.content }).collect();
        let template = self.environment.get_template(NAME).map_err(fail)?;
        template
            .render(context! {
                messages,
                add_generation_prompt => true,
                // Replies are short, and a schema may constrain them from the first token on.
                enable_thinking => false,
                bos_token => &self.bos,
                eos_token => &self.eos,
            })
            .map_err(fail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(text: &str) -> [PromptMessage; 1] {
        [PromptMessage::new("user", text)]
    }

    #[test]
    fn without_a_template_messages_take_the_usual_form() {
        let template = Template::new(None, None, "<|im_end|>", true).unwrap();
        let prompt = template.render(&user("Hi")).unwrap();
        assert_eq!(prompt, "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
    }

    #[test]
    fn python_methods_work() {
        let source = "{% for m in messages %}{{ m.content.strip().split(' ')[1].upper() }}{{ m.get('x', 'no') }}{% endfor %}{% if messages[0].content.startswith(' a') %}!{% endif %}";
        let template = Template::new(Some(source), None, "", false).unwrap();
        assert_eq!(template.render(&user(" a b ")).unwrap(), "Bno!");
    }

    #[test]
    fn a_refusal_of_the_template_is_told() {
        let template = Template::new(Some("{{ raise_exception('no turns') }}"), None, "", false).unwrap();
        let error = template.render(&user("x")).unwrap_err().to_string();
        assert!(error.contains("no turns"), "{error}");
    }

    #[test]
    fn a_system_prompt_that_the_template_refuses_goes_into_the_first_message() {
        let source = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}{% for m in messages %}[{{ m.role }}: {{ m.content }}]{% endfor %}";
        let template = Template::new(Some(source), None, "", false).unwrap();
        let messages = [PromptMessage::new("system", "Be short."), PromptMessage::new("user", "Hi")];
        assert_eq!(template.render(&messages).unwrap(), "[user: Be short.\n\nHi]");
        let error = template.render(&messages[..1]).unwrap_err().to_string();
        assert!(error.contains("no system"), "{error}");
    }

    #[test]
    fn a_file_without_a_template_and_without_the_usual_signs_is_refused() {
        let error = Template::new(None, None, "", false).err().unwrap().to_string();
        assert!(error.contains("instruct file"), "{error}");
    }
}
