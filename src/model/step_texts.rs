//! The templates and expressions of a step.

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
    /// The expression that ends a loop. Unlike the others, it sees a round of the loop.
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
        let expressions = self.when.iter().chain(&self.for_each).chain(&self.write).chain(&self.stdin);
        texts.extend(expressions.map(|text| StepText::Expression(text)));
        texts.extend(self.with.values().map(|Expression(text)| StepText::Expression(text)));
        texts.extend(self.accept.iter().map(|condition| StepText::Expression(&condition.that)));
        let until = self.repeat.as_ref().and_then(|repeat| repeat.until.as_ref());
        texts.extend(until.map(|text| StepText::Until(text)));
        texts
    }
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
            "accept": [{ "that": "t", "else": "no template" }],
            "repeat": { "until": "u", "max": 2, "steps": [{ "id": "inner", "message": "not of this step" }] }
        }))
        .unwrap();
        let templates = ["m", "a", "b", "c", "q"].map(Template);
        let expressions = ["w", "f", "d", "s", "v", "t"].map(Expression);
        let expected = [Prompt("p.md")].into_iter().chain(templates).chain(expressions).chain([Until("u")]);
        assert_eq!(step.texts(), expected.collect::<Vec<_>>());
        let shell = Step { run: Some(CommandLine::Shell("echo".to_owned())), ..Step::default() };
        assert_eq!(shell.texts(), [Template("echo")]);
    }
}
