//! Renders prompts and evaluates expressions with MiniJinja, within limits. The only place where JSON becomes a
//! template value.
//!
//! The same text and data always give the same result. Work and output are bounded, orch escapes nothing, and printing
//! or comparing an undefined value is an error. Refuses `import`, `extends`, blocks, macros, and includes without a
//! constant name, so that the checker can type-check templates. Does no I/O: the caller passes the sources.

mod builtins;
mod call_help;
mod depth;
mod error;
mod fence;
mod filter_wrap;
mod inspect;
mod lookup;
mod loop_reads;
mod parameters;
mod ranges;
mod shell;
pub(crate) mod signatures;
mod sole_expression;
mod tags;
mod value;
mod value_limits;
pub(crate) mod walk;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::sync::Arc;

use minijinja::{Environment, UndefinedBehavior, Value as TemplateValue};
use serde_json::{Map, Value};

pub use builtins::{FILTERS, FUNCTIONS, TESTS};
use error::TextKind;
pub use error::{TemplateError, TemplateErrorKind};
pub use fence::{fence, fence_text};
pub(crate) use filter_wrap::{expression_range, operand_text};
pub use inspect::{Inspection, includes, inspect_expression, inspect_template};
pub(crate) use inspect::{expression_in_braces, parse_expression, parse_template, template_syntax};
pub use lookup::lookup;
pub use loop_reads::{LoopReads, loop_reads_in_expression, loop_reads_in_template, previous_reads};
pub(crate) use ranges::{byte_range, expr_range, trailing_name_range};
pub use shell::ShellScript;
pub(crate) use shell::{ValueQuoting, value_quotings};
pub use sole_expression::sole_expression;
pub use tags::comments;
pub(crate) use tags::{follows_dollar, literal_braces_help};
pub use value::{LazyMember, LazyObject, kind_of};

/// The maximum work of one rendering, in units of fuel. One unit pays for an instruction or for 64 bytes of data.
const MAX_FUEL: u64 = 2_000_000;
/// The maximum length of a rendered text, in bytes.
const MAX_OUTPUT_BYTES: usize = 16 << 20;
/// The maximum nesting depth of includes.
const MAX_INCLUDE_DEPTH: usize = 64;

/// The values that a template or expression may use, by name.
#[derive(Clone, Default)]
pub struct TemplateContext {
    values: BTreeMap<Arc<str>, TemplateValue>,
}

impl TemplateContext {
    /// A context without values.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a value, and replaces an earlier value of the same name.
    pub fn insert(&mut self, name: &str, value: &Value) {
        self.values.insert(name.into(), value::to_template_value(value));
    }

    /// Sets an object that looks up its members only when a template uses them.
    pub fn insert_lazy(&mut self, name: &str, object: LazyObject) {
        self.values.insert(name.into(), TemplateValue::from_object(object));
    }

    fn root_value(&self) -> TemplateValue {
        TemplateValue::from_pairs(self.values.iter().map(|(name, value)| (name.to_string(), value.clone())))
    }
}

impl fmt::Debug for TemplateContext {
    /// Shows only the names, because values may be large or secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.values.keys()).finish()
    }
}

/// The prompts of a project, ready to render.
pub struct Templates {
    env: Environment<'static>,
    sources: BTreeMap<String, TemplateSource>,
}

/// The original text of a template, and its inspection, which contains the changes that orch makes to the text.
struct TemplateSource {
    text: String,
    inspection: Inspection,
}

impl fmt::Debug for Templates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Templates").field("names", &self.sources.keys()).finish_non_exhaustive()
    }
}

impl Templates {
    /// Compiles prompts. `sources` has the name and the text of each.
    ///
    /// # Errors
    /// The mistakes of all prompts.
    pub fn new<'a>(sources: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, Vec<TemplateError>> {
        let mut templates = Self { env: environment(), sources: BTreeMap::new() };
        let mut all_errors = Vec::new();
        for (name, text) in sources {
            if let Err(errors) = templates.add(name, text) {
                all_errors.extend(errors);
            }
        }
        if all_errors.is_empty() { Ok(templates) } else { Err(all_errors) }
    }

    fn add(&mut self, name: &str, text: &str) -> Result<(), Vec<TemplateError>> {
        let inspection = inspect_template(text).map_err(|errors| with_file(errors, name))?;
        let rewritten = inspection.rewrite(text);
        let source = TemplateSource { text: text.to_owned(), inspection };
        let result = self.env.add_template_owned(name.to_owned(), rewritten);
        result.map_err(|error| {
            vec![TemplateError::from_minijinja(&error, |_| Some((Some(name), &source.text, &source.inspection)))]
        })?;
        self.sources.insert(name.to_owned(), source);
        Ok(())
    }

    /// The text of a prompt, without the prompts that it includes.
    pub fn prompt_text(&self, name: &str) -> Option<&str> {
        self.sources.get(name).map(|source| source.text.as_str())
    }

    /// The name and the text of each prompt, sorted by name.
    pub fn texts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.sources.iter().map(|(name, source)| (name.as_str(), source.text.as_str()))
    }

    /// The text of a prompt, followed by the texts of the prompts that it includes.
    pub fn source_text(&self, name: &str) -> String {
        let mut names = vec![name.to_owned()];
        let mut next_index = 0;
        let mut out = String::new();
        while let Some(source) = names.get(next_index).and_then(|name| self.sources.get(name)) {
            out.push_str(&source.text);
            let included: Vec<String> =
                includes(&source.text).into_iter().filter(|name| !names.contains(name)).collect();
            names.extend(included.into_iter().filter(|name| self.sources.contains_key(name)));
            next_index += 1;
        }
        out
    }

    /// Renders a prompt.
    ///
    /// # Errors
    /// The error with its location, in the prompt or in a prompt that it includes.
    pub fn render(&self, name: &str, context: &TemplateContext) -> Result<String, TemplateError> {
        let convert_error = |error: &minijinja::Error| TemplateError::from_minijinja(error, |file| self.source(file));
        let template = self.env.get_template(name).map_err(|error| convert_error(&error))?;
        render(&template, context).map_err(|error| convert_error(&error))
    }

    /// Renders a text from the pipeline file, which may include prompts.
    ///
    /// # Errors
    /// The error with its location. `file` is `None` for the text itself.
    pub fn render_inline(&self, text: &str, context: &TemplateContext) -> Result<String, TemplateError> {
        let inspection = inspect_template(text).map_err(first_error)?;
        let rewritten = inspection.rewrite(text);
        let convert_error = |error: &minijinja::Error| {
            TemplateError::from_minijinja(error, |file| self.source(file).or(Some((None, text, &inspection))))
        };
        let template = self.env.template_from_named_str(INLINE, &rewritten).map_err(|error| convert_error(&error))?;
        render(&template, context).map_err(|error| convert_error(&error))
    }

    /// Renders every text in a JSON value. A text that is only one expression in braces becomes the value of the
    /// expression; any other text becomes the rendered text.
    ///
    /// # Errors
    /// The first error, with its location in its text.
    pub fn render_value(&self, value: &Value, context: &TemplateContext) -> Result<Value, TemplateError> {
        Ok(match value {
            Value::String(text) => match sole_expression(text) {
                Some(expression) => eval(expression, context)?,
                // The template engine drops the line break at the end of a template, which may be part of a file.
                None => Value::String(self.render_inline(text, context)? + trailing_line_break(text)),
            },
            Value::Array(items) => {
                Value::Array(items.iter().map(|item| self.render_value(item, context)).collect::<Result<_, _>>()?)
            }
            Value::Object(members) => {
                let render = |(name, member): (&String, &Value)| -> Result<_, TemplateError> {
                    Ok((name.clone(), self.render_value(member, context)?))
                };
                Value::Object(members.iter().map(render).collect::<Result<Map<String, Value>, TemplateError>>()?)
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
        })
    }

    /// The variables that a prompt uses, including the variables of the prompts that it includes.
    pub fn variables(&self, name: &str) -> BTreeSet<String> {
        let mut names = vec![name.to_owned()];
        let (mut variables, mut next_index) = (BTreeSet::new(), 0);
        while let Some(name) = names.get(next_index).cloned() {
            if let Ok(template) = self.env.get_template(&name) {
                variables.extend(template.undeclared_variables(false));
            }
            let source = self.sources.get(&name).map(|source| source.text.as_str()).unwrap_or_default();
            variables.extend(iteration_variable(source));
            let included = includes(source);
            names.extend(included.into_iter().filter(|name| !names.contains(name)).collect::<Vec<_>>());
            next_index += 1;
        }
        variables
    }

    /// The variables that a text in the pipeline file uses, including the variables of the prompts that it
    /// includes.
    pub fn variables_inline(&self, text: &str) -> BTreeSet<String> {
        let template = self.env.template_from_named_str(INLINE, text);
        let own_variables = template.map(|template| template.undeclared_variables(false)).unwrap_or_default();
        let included_variables = includes(text).into_iter().flat_map(|name| self.variables(&name));
        own_variables.into_iter().chain(iteration_variable(text)).chain(included_variables).collect()
    }

    fn source(&self, file: &str) -> Option<(Option<&str>, &str, &Inspection)> {
        let (name, source) = self.sources.get_key_value(file)?;
        Some((Some(name), &source.text, &source.inspection))
    }
}

/// The template name of texts from the pipeline file; no prompt can have it.
const INLINE: &str = "<inline>";

/// Evaluates an expression.
///
/// # Errors
/// The error with its location; an undefined result is an error.
pub fn eval(expression: &str, context: &TemplateContext) -> Result<Value, TemplateError> {
    eval_text(expression, context).map_err(|error| error.with_undefined_help(TextKind::Expression))
}

fn eval_text(expression: &str, context: &TemplateContext) -> Result<Value, TemplateError> {
    let inspection = inspect_expression(expression).map_err(first_error)?;
    let rewritten = inspection.rewrite(expression);
    let convert_error =
        |error: &minijinja::Error| TemplateError::from_minijinja(error, |_| Some((None, expression, &inspection)));
    let env = environment();
    let compiled = env.compile_expression(&rewritten).map_err(|error| convert_error(&error))?;
    let result = compiled.eval(context.root_value()).map_err(|error| convert_error(&error))?;
    if result.is_undefined() {
        return Err(TemplateError::undefined(expression, 0..expression.len()));
    }
    value::from_template_value(&result)
        .ok_or_else(|| TemplateError::wrong_type(expression, format!("`{}` is not JSON", expression.trim())))
}

/// The variable `loop`, if a template reads it. `undeclared_variables` omits it if a template only iterates over one of
/// its members.
fn iteration_variable(text: &str) -> Option<String> {
    (!loop_reads_in_template(text).is_empty()).then(|| "loop".to_owned())
}

/// The variables that an expression uses; empty if it can't be parsed.
pub fn variables(expression: &str) -> BTreeSet<String> {
    let env = environment();
    let compiled = env.compile_expression(expression);
    compiled.map(|compiled| compiled.undeclared_variables(false).into_iter().collect()).unwrap_or_default()
}

/// Evaluates an expression whose result must be `true` or `false`.
///
/// # Errors
/// Like [`eval`], or the result is something else.
pub fn eval_bool(expression: &str, context: &TemplateContext) -> Result<bool, TemplateError> {
    match eval_text(expression, context).map_err(|error| error.with_undefined_help(TextKind::Condition))? {
        Value::Bool(flag) => Ok(flag),
        other => {
            let message = format!("`{}` is {}, not `true` or `false`", expression.trim(), kind_of(&other));
            Err(TemplateError::wrong_type(expression, message))
        }
    }
}

/// Whether a template or expression may take long even with little data: it has several loops, or creates data itself.
pub fn may_take_long(text: &str) -> bool {
    let words = || text.split(|c: char| !c.is_alphanumeric() && c != '_');
    words().filter(|word| *word == "for").count() > 1 || words().any(|word| word == "range") || text.contains('*')
}

fn environment() -> Environment<'static> {
    let mut env = Environment::empty();
    env.set_undefined_behavior(UndefinedBehavior::SemiStrict);
    env.set_fuel(Some(MAX_FUEL));
    env.set_recursion_limit(MAX_INCLUDE_DEPTH);
    // Adds byte ranges to errors; orch shows nothing else that debug mode records.
    env.set_debug(true);
    env.set_syntax(template_syntax());
    builtins::register(&mut env);
    env
}

fn render(template: &minijinja::Template<'_, '_>, context: &TemplateContext) -> Result<String, minijinja::Error> {
    let mut out = CappedBuffer(Vec::new());
    template.render_captured_to(context.root_value(), &mut out)?;
    String::from_utf8(out.0).map_err(|_| minijinja::ErrorKind::WriteFailure.into())
}

/// A buffer that refuses to grow beyond [`MAX_OUTPUT_BYTES`].
struct CappedBuffer(Vec<u8>);

impl io::Write for CappedBuffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_OUTPUT_BYTES {
            return Err(io::Error::other("too large"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn with_file(mut errors: Vec<TemplateError>, name: &str) -> Vec<TemplateError> {
    for error in &mut errors {
        error.file = Some(name.to_owned());
    }
    errors
}

fn first_error(errors: Vec<TemplateError>) -> TemplateError {
    errors.into_iter().next().unwrap_or_else(|| TemplateError::undefined("", 0..0))
}

/// The line break at the end of a text.
fn trailing_line_break(text: &str) -> &str {
    let end = if text.ends_with("\r\n") { 2 } else { usize::from(text.ends_with('\n')) };
    &text[text.len() - end..]
}

#[cfg(test)]
mod tests;
