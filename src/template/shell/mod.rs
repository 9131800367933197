//! Renders command lines for a shell. Values never become part of the script.
//!
//! Each value that a template prints goes into an environment variable, and the script refers to that variable. A shell
//! does not parse the value of a variable, so no value can end a quotation or start a command. The form of the
//! reference depends on the text around it: `"${V}"` outside of quotes (one word, whatever the value contains), `${V}`
//! in double quotes and heredocs, `'"${V}"'` in single quotes, and nothing in a comment. orch refuses a value at any
//! other place, such as arithmetic, where bash evaluates the text of a variable.

mod capture;
mod expansions;
mod fault;
mod hazards;
mod heredocs;
mod lists;
mod piped_values;
mod scanner;
mod simple;
mod words;

use std::ops::Range;

use minijinja::OutputSpanKind;

use self::capture::{CapturedValue, ShellCapture};
pub(crate) use self::fault::ShellFault;
use self::scanner::ScriptScanner;
use super::{INLINE, TemplateContext, TemplateError, TemplateErrorKind, Templates, first_error, inspect_template};

/// A script and the variables that contain its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShellScript {
    /// The command line for `sh -c`.
    pub script: String,
    /// The names and values of the variables that the script refers to.
    pub values: Vec<(String, String)>,
}

/// How a shell takes a value at its place in a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ValueQuoting {
    /// Outside of quotes, as a word or as a part of one.
    Word,
    /// In double quotes or in a heredoc.
    Quoted,
    /// In single quotes.
    SingleQuoted,
    /// In a comment.
    Comment,
    /// The shell would not take it as one word.
    Refused(ShellFault),
}

impl ValueQuoting {
    /// Returns the text that refers to a variable at such a place; `None` where the value has no effect.
    fn reference(&self, name: &str) -> Option<String> {
        match self {
            Self::Word => Some(format!("\"${{{name}}}\"")),
            Self::Quoted => Some(format!("${{{name}}}")),
            Self::SingleQuoted => Some(format!("'\"${{{name}}}\"'")),
            Self::Comment | Self::Refused(_) => None,
        }
    }
}

/// Finds out how a shell takes values at these byte offsets of a script, which are sorted. An offset can occur several
/// times.
pub(crate) fn value_quotings(script: &str, places: &[usize]) -> Vec<ValueQuoting> {
    ScriptScanner::new(script, places).scan()
}

impl Templates {
    /// Renders a command line for a shell; see [`ShellScript`].
    ///
    /// # Errors
    /// The error with its location: an error of the template, or a value at a place where the shell would not take it
    /// as one word.
    pub fn render_shell(&self, text: &str, context: &TemplateContext) -> Result<ShellScript, TemplateError> {
        let inspection = inspect_template(text).map_err(first_error)?;
        let rewritten = inspection.rewrite(text);
        let convert_error = |error: &minijinja::Error| {
            TemplateError::from_minijinja(error, |file| self.source(file).or(Some((None, text, &inspection))))
        };
        let capture = ShellCapture::default();
        let mut env = self.env.clone();
        env.set_formatter(capture.formatter());
        let template = env.template_from_named_str(INLINE, &rewritten).map_err(|error| convert_error(&error))?;
        template.render_captured_to(context.root_value(), capture.clone()).map_err(|error| convert_error(&error))?;
        let (script, values) = capture.finish().map_err(|error| convert_error(&error))?;
        let places: Vec<usize> = values.iter().map(|value| value.offset).collect();
        let uses = value_quotings(&script, &places);
        let first_fault = uses.iter().enumerate().find_map(|(index, value_quoting)| match value_quoting {
            ValueQuoting::Refused(fault) => Some((index, fault)),
            ValueQuoting::Word | ValueQuoting::Quoted | ValueQuoting::SingleQuoted | ValueQuoting::Comment => None,
        });
        let Some((index, fault)) = first_fault else { return Ok(insert_references(&script, values, &uses)) };
        let origin = self.value_origin(&rewritten, context, rendered_offset(&values, index));
        let (file, range) = origin.unwrap_or_default();
        let (file, text, inspection) = self.source(&file).unwrap_or((None, text, &inspection));
        Err(refused_value(file, text, inspection.original_range(range), fault))
    }

    /// Returns the template that printed the value at this offset of the rendered text, and the byte range of the
    /// expression in the text that MiniJinja runs. An empty value has none.
    fn value_origin(
        &self,
        rewritten: &str,
        context: &TemplateContext,
        rendered_offset: usize,
    ) -> Option<(String, Range<usize>)> {
        let template = self.env.template_from_named_str(INLINE, rewritten).ok()?;
        let (_, spans) = template.render_with_spans(context.root_value()).ok()?;
        let span = spans
            .iter()
            .find(|span| span.kind() == OutputSpanKind::Expression && span.output_range().start == rendered_offset)?;
        Some((span.name().to_owned(), span.source_range()))
    }
}

/// The offset of a value in the rendered text that contains all values.
fn rendered_offset(values: &[CapturedValue], index: usize) -> usize {
    let preceding: usize = values.iter().take(index).map(|value| value.text.len()).sum();
    values.get(index).map_or(0, |value| value.offset) + preceding
}

/// The error for a value that the shell would not take as one word.
fn refused_value(file: Option<&str>, text: &str, range: Range<usize>, fault: &ShellFault) -> TemplateError {
    let expression = text.get(range.clone()).unwrap_or_default();
    let mut error = TemplateError::new(TemplateErrorKind::NotShellWord, text, range.clone(), fault.message(expression));
    error.file = file.map(str::to_owned);
    error.with_help(&fault.help(expression))
}

/// Inserts a reference to a variable at the place of each value.
fn insert_references(script_without_values: &str, captured: Vec<CapturedValue>, uses: &[ValueQuoting]) -> ShellScript {
    let (mut script, mut values) = (String::with_capacity(script_without_values.len()), Vec::new());
    let mut copied_until = 0;
    for (value, value_quoting) in captured.into_iter().zip(uses) {
        script.push_str(script_without_values.get(copied_until..value.offset).unwrap_or_default());
        copied_until = value.offset;
        let name = format!("ORCH_VALUE_{}", values.len() + 1);
        if let Some(reference) = value_quoting.reference(&name) {
            script.push_str(&reference);
            values.push((name, value.text));
        }
    }
    script.push_str(script_without_values.get(copied_until..).unwrap_or_default());
    ShellScript { script, values }
}

#[cfg(test)]
mod tests;
