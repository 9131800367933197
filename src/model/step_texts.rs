//! The templates and expressions of a step.

use serde_json::{Map, Value};

use super::step::{CommandLine, Expression, Step};

/// A template or an expression of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepText<'a> {
    /// The name of a prompt file, which contains a template.
    Prompt(&'a str),
    /// A template.
    Template(&'a str),
    /// An expression.
    Expression(&'a str),
    /// The expression that ends a loop. Unlike the others, it sees an iteration of the loop.
    Until(&'a str),
}

impl Step {
    /// Every template and expression of the step, without the steps inside it.
    pub fn texts(&self) -> Vec<StepText<'_>> {
        let mut texts: Vec<StepText<'_>> = self.prompt.iter().map(|name| StepText::Prompt(name)).collect();
        let command = match &self.run {
            Some(CommandLine::Shell(line)) => std::slice::from_ref(line),
            Some(CommandLine::Argv(argv)) => argv.as_slice(),
            None => &[],
        };
        let templates = self.message.iter().chain(command).chain(&self.cwd).chain(&self.approve);
        texts.extend(templates.map(|text| StepText::Template(text)));
        texts.extend(self.argument_texts().into_iter().map(StepText::Template));
        let expressions = self.when.iter().chain(&self.for_each).chain(&self.write).chain(&self.stdin);
        texts.extend(expressions.map(|text| StepText::Expression(text)));
        texts.extend(self.with.values().map(|Expression(text)| StepText::Expression(text)));
        texts.extend(self.accept.iter().map(|condition| StepText::Expression(&condition.that)));
        let until = self.repeat.as_ref().and_then(|repeat| repeat.until.as_ref());
        texts.extend(until.map(|text| StepText::Until(text)));
        texts
    }

    /// The templates in the arguments of the called tool, in order.
    pub fn argument_texts(&self) -> Vec<&str> {
        argument_texts(&self.args)
    }
}

/// The texts in the arguments of a tool, at any depth, in order. The names of members do not count.
pub fn argument_texts(args: &Map<String, Value>) -> Vec<&str> {
    fn collect<'v>(value: &'v Value, texts: &mut Vec<&'v str>) {
        match value {
            Value::String(text) => texts.push(text),
            Value::Array(items) => items.iter().for_each(|item| collect(item, texts)),
            Value::Object(members) => members.values().for_each(|member| collect(member, texts)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
    let mut texts = Vec::new();
    args.values().for_each(|value| collect(value, &mut texts));
    texts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_template_and_expression_is_listed_once() {
        use StepText::{Expression, Prompt, Template, Until};
        let step: Step = serde_json::from_value(serde_json::json!({
            "id": "x", "prompt": "p.md", "message": "m", "run": ["a", "b"], "cwd": "c", "approve": "q", "when": "w",
            "for_each": "f", "write": "d", "stdin": "s", "with": { "n": "v" },
            "args": { "e": "g", "h": ["i", 1, { "j": "k" }], "l": null },
            "accept": [{ "that": "t", "else": "no template" }],
            "repeat": { "until": "u", "max": 2, "steps": [{ "id": "inner", "message": "not of this step" }] }
        }))
        .unwrap();
        let templates = ["m", "a", "b", "c", "q", "g", "i", "k"].map(Template);
        let expressions = ["w", "f", "d", "s", "v", "t"].map(Expression);
        let expected = [Prompt("p.md")].into_iter().chain(templates).chain(expressions).chain([Until("u")]);
        assert_eq!(step.texts(), expected.collect::<Vec<_>>());
        let shell = Step { run: Some(CommandLine::Shell("echo".to_owned())), ..Step::default() };
        assert_eq!(shell.texts(), [Template("echo")]);
    }
}
