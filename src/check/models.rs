//! Checks what is known about models before a run: whether a prompt fits the context window, whether a price is known,
//! and whether a parameter has an effect.
//!
//! Nothing is reported about a name that the files alone do not resolve, such as `auto` without a default model.

use std::collections::BTreeSet;

use minijinja::machinery::ast::{Expr, Stmt};
use minijinja::machinery::parse;

use super::program_usage;
use crate::catalog;
use crate::config::{DialectSetting, Project, child, item, places};
use crate::diagnostic::{Code, Diagnostic};
use crate::model::agent::MAX_OUTPUT_TOKENS;
use crate::model::budget::{Budget, Unpriced};
use crate::model::name::{BUILT_IN, LOCAL, longest_reply, resolve_name};
use crate::model::{ModelRef, Step, Usage};
use crate::template::syntax;

/// A token has at most about this many bytes, which gives a lower bound of tokens. Prose has about four.
const BYTES_PER_TOKEN: usize = 5;

/// How many includes of a prompt are followed, and how many levels deep.
const INCLUDES: usize = 500;
const DEPTH: usize = 16;

pub(super) fn check(project: &Project) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let steps = places(&project.pipeline);
    let strict =
        StrictLimits::of(project, &steps, |budget| budget.usd.is_some() && budget.unpriced != Some(Unpriced::Allow));
    found.extend(program_usage::check(project, &steps));
    for (at, step) in &steps {
        for (pointer, name) in asked(project, at, step) {
            let Some(model) = resolved(project, &name) else { continue };
            found.extend(window(project, at, step, &model));
            found.extend(if strict.holds(at) { price(project, &pointer, &model) } else { None });
        }
    }
    for (name, agent) in project.pipeline.agents.iter().filter(|(_, agent)| agent.kind().is_none()) {
        let model = resolved(project, &agent.model);
        found.extend(model.and_then(|model| temperature(project, name, agent.temperature?, &model)));
    }
    let mut told = BTreeSet::new();
    found.retain(|problem| told.insert((problem.code.as_str(), problem.message.clone())));
    found
}

/// The models that a project's files name, including those of called pipelines. Leaves out `auto` without a default
/// model, and `local`, which are resolved only when orch runs.
pub fn models(project: &Project) -> BTreeSet<ModelRef> {
    let mut found = BTreeSet::new();
    for project in project.with_called() {
        let steps = places(&project.pipeline).into_iter().flat_map(|(at, step)| asked(project, &at, step));
        found.extend(steps.filter_map(|(_, name)| resolved(project, &name)));
    }
    found
}

/// The models that a step may call: the pointer to each name, and the name.
fn asked(project: &Project, at: &str, step: &Step) -> Vec<(String, String)> {
    let Some(name) = &step.agent else { return Vec::new() };
    let agent = project.pipeline.agents.get(name).filter(|agent| agent.kind().is_none());
    let first = agent.map(|agent| (child(&child("/agents", name), "model"), agent.model.clone()));
    let others = step.fallback.iter().enumerate();
    let others = others.map(|(number, name)| (item(&child(at, "fallback"), number), name.clone()));
    first.into_iter().chain(others).collect()
}

/// The model that a name stands for, if the files alone determine it.
fn resolved(project: &Project, name: &str) -> Option<ModelRef> {
    let settings = &project.settings;
    let name = match (name, &settings.defaults.model) {
        ("auto", Some(model)) => model.as_str(),
        (name, _) => name,
    };
    let aliases = settings.models.iter().map(|(name, entry)| (name.clone(), entry.model.clone())).collect();
    let providers: Vec<String> = BUILT_IN
        .iter()
        .chain([&LOCAL])
        .map(|name| (*name).to_owned())
        .chain(settings.providers.keys().cloned())
        .collect();
    // `local` without a model leaves the model empty here, because the choice is made when orch runs, not in the files.
    resolve_name(name, &aliases, &providers, "").ok().filter(|model| !model.model.is_empty() && name != "auto")
}

pub(super) fn span(project: &Project, pointer: &str) -> std::ops::Range<usize> {
    project.document.spans.value(pointer)
}

/// Reports a prompt that exceeds the model's context window whatever values it is rendered with.
fn window(project: &Project, at: &str, step: &Step, model: &ModelRef) -> Option<Diagnostic> {
    let window = project.settings.window(model).or_else(|| catalog::window(model))?;
    let prompt = step.prompt.as_ref()?;
    let agent = project.pipeline.agents.get(step.agent.as_ref()?)?;
    let defaults = &project.settings.defaults;
    let reply = agent.max_output_tokens.or(defaults.max_output_tokens).unwrap_or(MAX_OUTPUT_TOKENS);
    let reply = longest_reply(model, reply);
    let text = project.prompts.get(prompt)?;
    let mut includes = INCLUDES;
    let mut size = |text: &str| always(project, text, &mut includes, 0);
    let message = step.message.as_deref().map_or(0, &mut size);
    let tokens = u64::try_from((size(&text.text) + message) / BYTES_PER_TOKEN).unwrap_or(u64::MAX);
    if tokens.saturating_add(u64::from(reply)) <= window {
        return None;
    }
    let message = format!(
        "`{prompt}` has at least {tokens} tokens, and with a reply of up to {reply} that is more than the {window} of `{model}`"
    );
    let problem = Diagnostic::warning(Code::TooLongForModel, message)
        .at(&project.document.file, span(project, &child(at, "prompt")));
    Some(problem.help("shorten the prompt, lower `max_output_tokens`, or take a model with a larger context"))
}

/// How many bytes a template renders to at least, whatever its values are.
fn always(project: &Project, text: &str, left: &mut usize, depth: usize) -> usize {
    let Ok(Stmt::Template(template)) = parse(text, "", syntax()) else { return 0 };
    let raw = template.children.iter().map(|statement| match statement {
        Stmt::EmitRaw(raw) => raw.raw.len(),
        // Bounded, because includes can multiply and form cycles. An include that is not followed only lowers the
        // minimum.
        Stmt::Include(include) if *left > 0 && depth < DEPTH => {
            *left -= 1;
            let name = match &include.name {
                Expr::Const(name) => name.value.as_str(),
                _ => None,
            };
            let file = name.and_then(|name| project.prompts.get(name));
            file.map_or(0, |file| always(project, &file.text, &mut *left, depth + 1))
        }
        _ => 0,
    });
    raw.sum()
}

/// Reports a model without a known price where a budget limits money: orch refuses to start such a run.
fn price(project: &Project, pointer: &str, model: &ModelRef) -> Option<Diagnostic> {
    let one = Usage { input: 1, output: 1, ..Usage::default() };
    if project.settings.prices(model).is_some() || catalog::cost(model, &one).is_some() {
        return None;
    }
    let message = format!("`{model}` has no known price, and there is a budget in dollars");
    let problem = Diagnostic::warning(Code::NoPrice, message).at(&project.document.file, span(project, pointer));
    Some(problem.help("give its prices under `models:` in `orch.yaml`, or say `unpriced: allow` in the budget"))
}

/// Where budgets apply that have a given property, such as a limit in dollars.
pub(super) struct StrictLimits<'a> {
    /// Whether the run's own budget has it, so that it applies to every step.
    run: bool,
    /// The pointers of the steps whose own budget has it.
    steps: Vec<&'a str>,
}

impl<'a> StrictLimits<'a> {
    pub(super) fn of(project: &Project, steps: &'a [(String, &Step)], refuses: fn(&Budget) -> bool) -> Self {
        let own = steps.iter().filter(|(_, step)| step.budget.as_ref().is_some_and(refuses));
        let run = project.pipeline.budget.as_ref().or(project.settings.budget.as_ref());
        Self { run: run.is_some_and(refuses), steps: own.map(|(at, _)| at.as_str()).collect() }
    }

    /// Whether such a budget applies to the step at this pointer: that of the run, of the step, or of a group around
    /// it.
    pub(super) fn holds(&self, at: &str) -> bool {
        let around =
            |outer: &&str| at.strip_prefix(*outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        self.run || self.steps.iter().any(around)
    }
}

/// Reports a temperature that the model refuses, or that orch never sends to it.
fn temperature(project: &Project, agent: &str, temperature: f64, model: &ModelRef) -> Option<Diagnostic> {
    let declared = project.settings.providers.get(&model.provider);
    let own_server = declared.is_some_and(|provider| provider.base_url.is_some());
    let speaks = |name: &str, dialect| declared.map_or(model.provider == name, |provider| provider.dialect == dialect);
    let is_anthropic = speaks("anthropic", DialectSetting::Anthropic);
    let own = match model.provider.as_str() {
        "openai" => !own_server && catalog::reasons(&model.model),
        _ if is_anthropic => catalog::claude_has_own_temperature(&model.model),
        _ => speaks("gemini", DialectSetting::Gemini) && catalog::gemini_has_own_temperature(&model.model),
    };
    let pointer = child(&child("/agents", agent), "temperature");
    let problem = if own {
        let message = format!("`{model}` has a temperature of its own: this one is not sent");
        Diagnostic::warning(Code::Parameter, message).help("leave `temperature` out")
    } else if is_anthropic && temperature > 1.0 {
        let message = format!("`{model}` takes a temperature from 0 to 1, not {temperature}");
        Diagnostic::error(Code::Parameter, message).help("write a number from 0 to 1")
    } else {
        return None;
    };
    Some(problem.at(&project.document.file, span(project, &pointer)))
}
