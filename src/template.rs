//! Templates and expressions: minijinja, bounded, and the only place JSON becomes a template value.
//!
//! Promises: nothing is HTML-escaped; rendering an undefined value is an error, testing its
//! truth is not; a template that loops for ever runs out of fuel; `import`, `extends`, macros,
//! blocks and dynamic includes are refused, so that templates can be checked.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use minijinja::machinery::{ast, parse};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, ValueKind};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior, Value as Templated};
use serde_json::Value;

/// Instructions that one rendering may take.
const FUEL: u64 = 5_000_000;
/// The longest text that one rendering may give, in bytes.
const MAX_OUTPUT: usize = 16 * 1024 * 1024;
/// The name of inline templates and expressions in errors.
const INLINE: &str = "<inline>";

/// A template or an expression that can't be used, with the place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateError {
    /// The prompt's file name; `None` for inline templates and expressions.
    pub file: Option<String>,
    /// The line, from 1; 0 when it is not known.
    pub line: usize,
    /// The bytes of the template that are meant.
    pub range: Option<Range<usize>>,
    /// What is wrong, lower case, without a full stop.
    pub message: String,
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.file {
            Some(file) if self.line > 0 => write!(f, "prompts/{file}:{}: {}", self.line, self.message),
            Some(file) => write!(f, "prompts/{file}: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl std::error::Error for TemplateError {}

/// The variables of a rendering.
#[derive(Clone, Debug, Default)]
pub struct Context {
    values: BTreeMap<String, Templated>,
}

impl Context {
    /// Adds a variable.
    pub fn insert(&mut self, name: &str, value: &Value) {
        self.values.insert(name.to_owned(), templated(value));
    }
}

/// A set of prompts that may include one another.
pub struct Templates {
    environment: Environment<'static>,
}

impl fmt::Debug for Templates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Templates").finish_non_exhaustive()
    }
}

impl Templates {
    /// Compiles prompts given as file name and text; every mistake is reported.
    pub fn new<'a>(sources: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, Vec<TemplateError>> {
        let mut environment = environment();
        let mut errors = Vec::new();
        for (name, source) in sources {
            if let Err(error) = shape(source, Some(name)).and_then(|_| {
                environment
                    .add_template_owned(name.to_owned(), source.to_owned())
                    .map_err(|error| explain(&error, Some(name), source))
            }) {
                errors.push(error);
            }
        }
        if errors.is_empty() { Ok(Self { environment }) } else { Err(errors) }
    }

    /// Renders a prompt.
    pub fn render(&self, name: &str, context: &Context) -> Result<String, TemplateError> {
        let missing = |error: &Error| explain(error, Some(name), "");
        let template = self.environment.get_template(name).map_err(|error| missing(&error))?;
        let text = template.render(root(context)).map_err(|error| explain(&error, Some(name), template.source()))?;
        bounded(text, Some(name))
    }

    /// Renders a template that stands in the pipeline file.
    pub fn render_inline(&self, source: &str, context: &Context) -> Result<String, TemplateError> {
        shape(source, None)?;
        let text = self
            .environment
            .render_named_str(INLINE, source, root(context))
            .map_err(|error| explain(&error, None, source))?;
        bounded(text, None)
    }

    /// Evaluates a bare expression that must give a boolean.
    pub fn eval_bool(&self, expression: &str, context: &Context) -> Result<bool, TemplateError> {
        let compiled =
            self.environment.compile_expression(expression).map_err(|error| explain(&error, None, expression))?;
        let value = compiled.eval(root(context)).map_err(|error| explain(&error, None, expression))?;
        if value.kind() == ValueKind::Bool {
            return Ok(value.is_true());
        }
        let message = format!("`{expression}` gives {}, not a boolean", with_article(value.kind()));
        Err(TemplateError { file: None, line: 0, range: Some(0..expression.len()), message })
    }
}

/// What the static checks need to know of a template.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// The variables that it uses and does not set itself.
    pub variables: Vec<String>,
    /// The prompts that it includes, with the bytes of the name.
    pub includes: Vec<(String, Range<usize>)>,
}

/// Reads a template: its variables and includes, or why it is refused.
pub fn shape(source: &str, name: Option<&str>) -> Result<Shape, TemplateError> {
    let tree = parse(source, name.unwrap_or(INLINE), SyntaxConfig::default())
        .map_err(|error| explain(&error, name, source))?;
    let mut shape = Shape::default();
    walk(&tree, source, name, &mut shape)?;
    let environment = environment();
    let template = environment
        .template_from_named_str(name.unwrap_or(INLINE), source)
        .map_err(|error| explain(&error, name, source))?;
    shape.variables = template
        .undeclared_variables(false)
        .into_iter()
        .filter(|v| environment.globals().all(|(g, _)| g != v))
        .collect();
    shape.variables.sort_unstable();
    Ok(shape)
}

/// The variables of a bare expression, or why it can't be read.
pub fn expression_variables(source: &str) -> Result<Vec<String>, TemplateError> {
    let environment = environment();
    let expression = environment.compile_expression(source).map_err(|error| explain(&error, None, source))?;
    let mut variables: Vec<String> = expression.undeclared_variables(false).into_iter().collect();
    variables.sort_unstable();
    Ok(variables)
}

fn walk(node: &ast::Stmt<'_>, source: &str, name: Option<&str>, shape: &mut Shape) -> Result<(), TemplateError> {
    let refuse = |span: minijinja::machinery::Span, what: &str| {
        let range = span.start_offset as usize..span.end_offset as usize;
        let message = format!("`{what}` can't be used in prompts; only `include` with a constant name can");
        Err(TemplateError {
            file: name.map(ToOwned::to_owned),
            line: line_of(source, range.start),
            range: Some(range),
            message,
        })
    };
    let all =
        |list: &[ast::Stmt<'_>], shape: &mut Shape| list.iter().try_for_each(|node| walk(node, source, name, shape));
    match node {
        ast::Stmt::Template(node) => all(&node.children, shape),
        ast::Stmt::ForLoop(node) => all(&node.body, shape).and_then(|()| all(&node.else_body, shape)),
        ast::Stmt::IfCond(node) => all(&node.true_body, shape).and_then(|()| all(&node.false_body, shape)),
        ast::Stmt::WithBlock(node) => all(&node.body, shape),
        ast::Stmt::SetBlock(node) => all(&node.body, shape),
        ast::Stmt::AutoEscape(node) => refuse(node.span(), "autoescape"),
        ast::Stmt::FilterBlock(node) => all(&node.body, shape),
        ast::Stmt::Block(node) => refuse(node.span(), "block"),
        ast::Stmt::Import(node) => refuse(node.span(), "import"),
        ast::Stmt::FromImport(node) => refuse(node.span(), "from … import"),
        ast::Stmt::Extends(node) => refuse(node.span(), "extends"),
        ast::Stmt::Macro(node) => refuse(node.span(), "macro"),
        ast::Stmt::CallBlock(node) => refuse(node.span(), "call"),
        ast::Stmt::Include(node) => match &node.name {
            ast::Expr::Const(constant) if constant.value.as_str().is_some() => {
                let span = constant.span();
                let range = span.start_offset as usize..span.end_offset as usize;
                shape.includes.push((constant.value.as_str().unwrap_or_default().to_owned(), range));
                Ok(())
            }
            other => refuse(other.span(), "include of a computed name"),
        },
        ast::Stmt::EmitExpr(_)
        | ast::Stmt::EmitRaw(_)
        | ast::Stmt::Set(_)
        | ast::Stmt::Do(_)
        | ast::Stmt::Continue(_)
        | ast::Stmt::Break(_) => Ok(()),
    }
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::SemiStrict);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(64);
    // Needed for the byte ranges of errors; the variables that it collects are never shown.
    environment.set_debug(true);
    environment.add_filter("tojson", to_json);
    for filter in ["safe", "escape", "e", "urlencode", "pprint"] {
        environment.remove_filter(filter);
    }
    environment.remove_global("debug");
    environment
}

/// Plain JSON with two-space indentation, or on one line with `indent=0`.
fn to_json(value: &Templated, kwargs: Kwargs) -> Result<Templated, Error> {
    if value.is_undefined() {
        return Err(Error::from(ErrorKind::UndefinedError));
    }
    let indent: Option<usize> = kwargs.get("indent")?;
    kwargs.assert_all_used()?;
    let broken = |error: serde_json::Error| Error::new(ErrorKind::InvalidOperation, error.to_string());
    let json = serde_json::to_value(value).map_err(broken)?;
    Ok(Templated::from(if indent == Some(0) { json.to_string() } else { format!("{json:#}") }))
}

fn root(context: &Context) -> Templated {
    Templated::from_pairs(context.values.clone())
}

/// JSON as a template value: integers that fit stay integers, everything else is a float.
fn templated(value: &Value) -> Templated {
    match value {
        Value::Null => Templated::from(()),
        Value::Bool(flag) => Templated::from(*flag),
        Value::Number(number) => {
            let text = number.to_string();
            let integer =
                text.parse::<i64>().map(Templated::from).or_else(|_| text.parse::<i128>().map(Templated::from));
            integer.unwrap_or_else(|_| Templated::from(text.parse::<f64>().unwrap_or(f64::NAN)))
        }
        Value::String(text) => Templated::from(text.as_str()),
        Value::Array(items) => items.iter().map(templated).collect(),
        Value::Object(map) => Templated::from_pairs(map.iter().map(|(key, value)| (key.clone(), templated(value)))),
    }
}

fn bounded(text: String, name: Option<&str>) -> Result<String, TemplateError> {
    if text.len() <= MAX_OUTPUT {
        return Ok(text);
    }
    let message = format!("the rendered text has {} bytes, and at most {MAX_OUTPUT} are allowed", text.len());
    Err(TemplateError { file: name.map(ToOwned::to_owned), line: 0, range: None, message })
}

/// The error in our words: the innermost cause, without variables.
fn explain(error: &Error, name: Option<&str>, source: &str) -> TemplateError {
    let mut error = error;
    while let Some(inner) = std::error::Error::source(error).and_then(|inner| inner.downcast_ref::<Error>()) {
        error = inner;
    }
    // An error inside an included prompt is that prompt's.
    let file = error.name().filter(|name| *name != INLINE && *name != "<expression>").or(name).map(ToOwned::to_owned);
    let own = file.as_deref() == name;
    let snippet = error.range().filter(|_| own).and_then(|range| source.get(range)).map(str::trim);
    let detail = error.detail().unwrap_or_default();
    let message = match (error.kind(), snippet) {
        (ErrorKind::UndefinedError, Some(snippet)) if !snippet.is_empty() => format!("`{snippet}` is undefined"),
        (ErrorKind::UndefinedError, _) if detail.is_empty() => "an undefined value is used".to_owned(),
        (ErrorKind::UndefinedError, _) => detail.to_owned(),
        (ErrorKind::OutOfFuel, _) => "it takes too long: a loop is too large".to_owned(),
        (ErrorKind::TemplateNotFound, _) => {
            format!("there is no prompt `{}`", error.name().or(name).unwrap_or_default())
        }
        (kind, _) if detail.is_empty() => kind.to_string(),
        (kind, _) => format!("{kind}: {detail}"),
    };
    TemplateError { line: error.line().unwrap_or(0), range: error.range().filter(|_| own), file, message }
}

fn line_of(source: &str, offset: usize) -> usize {
    source.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count() + 1
}

fn with_article(kind: ValueKind) -> String {
    let name = kind.to_string();
    if name.starts_with(['a', 'e', 'i', 'o', 'u']) { format!("an {name}") } else { format!("a {name}") }
}

/// A value as a fenced block whose fence is longer than any run of backticks in it.
pub fn fence(value: &Value) -> String {
    let json = format!("{value:#}");
    let longest = json.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    format!("{fence}json\n{json}\n{fence}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn context() -> Context {
        let mut context = Context::default();
        context.insert(
            "plan",
            &json!({ "title": "a < b", "steps": [{ "n": 1 }, { "n": 2 }], "big": 12_345_678_901_234_567_890_u64 }),
        );
        context
    }

    fn inline(source: &str) -> Result<String, String> {
        let templates = Templates::new([]).unwrap();
        templates.render_inline(source, &context()).map_err(|error| error.to_string())
    }

    #[test]
    fn json_in_a_prompt_is_plain_json() {
        assert_eq!(
            inline("{{ plan.steps | tojson(indent=0) }} {{ plan.title }}"),
            Ok(r#"[{"n":1},{"n":2}] a < b"#.into())
        );
        assert_eq!(inline("{{ plan.title | tojson }}"), Ok(r#""a < b""#.into()));
        assert_eq!(
            inline("{{ plan.big }} {{ plan.big | tojson }}"),
            Ok("12345678901234567890 12345678901234567890".into())
        );
    }

    #[test]
    fn undefined_values_are_named() {
        assert_eq!(inline("x {{ plan.titel }}"), Err("`plan.titel` is undefined".into()));
        assert_eq!(inline("{% if plan.titel %}x{% else %}y{% endif %}"), Ok("y".into()));
        assert_eq!(inline("{{ code.files }}").unwrap_err(), "`code.files` is undefined");
    }

    #[test]
    fn endless_templates_end() {
        let error =
            inline("{% for a in range(9000) %}{% for b in range(9000) %}x{% endfor %}{% endfor %}").unwrap_err();
        assert_eq!(error, "it takes too long: a loop is too large");
    }

    #[test]
    fn constructs_that_hide_names_are_refused() {
        for source in
            ["{% import 'a' as b %}", "{% macro a() %}{% endmacro %}", "{% extends 'a' %}", "{% include plan.title %}"]
        {
            assert!(inline(source).unwrap_err().contains("can't be used in prompts"), "{source}");
        }
    }

    #[test]
    fn conditions_must_be_boolean() {
        let templates = Templates::new([]).unwrap();
        assert_eq!(templates.eval_bool("plan.steps | length == 2", &context()), Ok(true));
        assert_eq!(
            templates.eval_bool("plan.title", &context()).unwrap_err().message,
            "`plan.title` gives a string, not a boolean"
        );
    }

    #[test]
    fn includes_are_found_and_rendered() {
        let templates = Templates::new([("a.md", "A {% include 'b.md' %}"), ("b.md", "B {{ plan.nope }}")]).unwrap();
        let error = templates.render("a.md", &context()).unwrap_err();
        assert_eq!(error.to_string(), "prompts/b.md:1: `plan.nope` is undefined");
        assert_eq!(shape("A {% include 'b.md' %}{{ x.y }}", None).unwrap().includes[0].0, "b.md");
    }

    #[test]
    fn fences_are_longer_than_what_they_hold() {
        assert!(fence(&json!("a ```` b")).starts_with("`````json\n"));
        assert!(fence(&json!(1)).starts_with("```json\n"));
    }
}
