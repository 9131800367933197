//! Chat templates: messages to the text of a prompt.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Value;
use minijinja::{Environment, ErrorKind, State, context};

use crate::{Error, Message};

/// Used when the model file brings no template of its own.
const CHATML: &str = "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

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
    /// Compiles the template; without one, the `ChatML` form is used.
    pub(crate) fn new(source: Option<&str>, bos: Option<&str>, eos: &str) -> Result<Self, Error> {
        let mut environment = Environment::new();
        environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().map_err(fail)?);
        environment.set_unknown_method_callback(method);
        environment.add_function("raise_exception", |text: String| -> Result<Value, _> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, text))
        });
        let source = source.unwrap_or(CHATML).to_owned();
        environment
            .add_template_owned(NAME, source)
            .map_err(|error| Error::Format(format!("its chat template is broken: {error}")))?;
        Ok(Self { environment, bos: bos.unwrap_or_default().to_owned(), eos: eos.to_owned() })
    }

    /// The prompt for these messages, ending where the reply begins.
    pub(crate) fn render(&self, messages: &[Message]) -> Result<String, Error> {
        let messages: Vec<Value> =
            messages.iter().map(|message| context! { role => &message.role, content => &message.content }).collect();
        let template = self.environment.get_template(NAME).map_err(fail)?;
        template
            .render(context! {
                messages,
                add_generation_prompt => true,
                bos_token => &self.bos,
                eos_token => &self.eos,
            })
            .map_err(fail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(text: &str) -> [Message; 1] {
        [Message::new("user", text)]
    }

    #[test]
    fn without_a_template_messages_take_the_usual_form() {
        let template = Template::new(None, None, "<|im_end|>").unwrap();
        let prompt = template.render(&user("Hi")).unwrap();
        assert_eq!(prompt, "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
    }

    #[test]
    fn python_methods_work() {
        let source = "{% for m in messages %}{{ m.content.strip().split(' ')[1].upper() }}{{ m.get('x', 'no') }}{% endfor %}{% if messages[0].content.startswith(' a') %}!{% endif %}";
        let template = Template::new(Some(source), None, "").unwrap();
        assert_eq!(template.render(&user(" a b ")).unwrap(), "Bno!");
    }

    #[test]
    fn a_refusal_of_the_template_is_told() {
        let template = Template::new(Some("{{ raise_exception('no turns') }}"), None, "").unwrap();
        let error = template.render(&user("x")).unwrap_err().to_string();
        assert!(error.contains("no turns"), "{error}");
    }
}
