//! Checks the use of models: whether a prompt fits the context window, and whether a price is known.
//!
//! Reports nothing about a name that the files alone do not resolve, such as `auto` without a default model.

use std::collections::BTreeSet;

use minijinja::machinery::ast::{Expr, Stmt};
use minijinja::machinery::parse;

use super::budgeted_steps::{BudgetedSteps, sample_cost};
use super::cli_agent_usage;
use crate::catalog;
use crate::config::{Project, child_pointer, item_pointer, steps_with_pointers};
use crate::diagnostic::{Code, Diagnostic};
use crate::model::budget::{Budget, Unpriced};
use crate::model::name::{LOCAL_PROVIDER, max_reply_tokens, resolve_name};
use crate::model::{BuiltinProvider, ModelRef, PricedModel, Step};
use crate::template::template_syntax;

/// The number of bytes per token for a lower bound of the tokens of a prompt. Prose has about four bytes per token.
const MAX_BYTES_PER_TOKEN: usize = 5;

/// The maximum number of includes of a prompt to follow.
const MAX_INCLUDES: usize = 500;
/// The maximum depth of includes to follow.
const MAX_INCLUDE_DEPTH: usize = 16;

/// Checks the models of a pipeline. `budgets` are the budgets that apply to all its steps.
pub(super) fn check(project: &Project, budgets: &[&Budget]) -> Vec<Diagnostic> {
    let mut diagnostics = Vec::new();
    let steps = steps_with_pointers(&project.pipeline);
    let needs_prices = |budget: &Budget| budget.usd.is_some() && budget.unpriced != Some(Unpriced::Allow);
    let usd_limited_steps = BudgetedSteps::new(&steps, budgets, needs_prices);
    diagnostics.extend(cli_agent_usage::check(project, &steps, budgets));
    for (pointer, step) in &steps {
        let agent_budget = step.agent.as_ref().and_then(|name| project.pipeline.agents.get(name)?.budget.as_ref());
        let is_usd_limited = usd_limited_steps.contains(pointer) || agent_budget.is_some_and(needs_prices);
        for (model_pointer, name) in step_models(project, pointer, step) {
            let Some(model) = resolve_model(project, &name) else { continue };
            diagnostics.extend(check_context_window(project, pointer, step, &model));
            diagnostics.extend(if is_usd_limited {
                check_price(project, &model_pointer, &model, price_option(project, step, &model).as_deref())
            } else {
                None
            });
        }
    }
    let mut reported = BTreeSet::new();
    diagnostics.retain(|diagnostic| reported.insert((diagnostic.code.as_str(), diagnostic.message.clone())));
    diagnostics
}

/// The models that a project's files name, including called pipelines. Omits `auto` without a default model, and
/// `local`, which orch resolves only at run time.
pub fn named_models(project: &Project) -> BTreeSet<ModelRef> {
    let mut models = BTreeSet::new();
    for project in project.with_called_projects() {
        let names = steps_with_pointers(&project.pipeline)
            .into_iter()
            .flat_map(|(pointer, step)| step_models(project, &pointer, step));
        models.extend(names.filter_map(|(_, name)| resolve_model(project, &name)));
    }
    models
}

/// The models that a step may call: the pointer of each name, and the name.
pub(super) fn step_models(project: &Project, step_pointer: &str, step: &Step) -> Vec<(String, String)> {
    let Some(name) = &step.agent else { return Vec::new() };
    let agent = project.pipeline.agents.get(name).filter(|agent| agent.cli_kind().is_none());
    let agent_model = agent.map(|agent| (child_pointer(&child_pointer("/agents", name), "model"), agent.model.clone()));
    let fallbacks = step.fallback.iter().enumerate();
    let fallbacks =
        fallbacks.map(|(index, name)| (item_pointer(&child_pointer(step_pointer, "fallback"), index), name.clone()));
    agent_model.into_iter().chain(fallbacks).collect()
}

/// Resolves the name of a model, if the files alone determine the model.
fn resolve_model(project: &Project, name: &str) -> Option<ModelRef> {
    // `local` without a model leaves the model empty, because orch chooses it at run time.
    resolve_reference(project, name).filter(|model| !model.model.is_empty())
}

/// Resolves the name of a model, if the files alone determine its provider. The model of `local` is empty.
pub fn resolve_reference(project: &Project, name: &str) -> Option<ModelRef> {
    let settings = &project.settings;
    let name = match (name, &settings.defaults.model) {
        ("auto", Some(model)) => model.as_str(),
        (name, _) => name,
    };
    let aliases = settings.models.iter().map(|(name, entry)| (name.clone(), entry.model.clone())).collect();
    let providers: Vec<String> = BuiltinProvider::names()
        .chain([LOCAL_PROVIDER])
        .map(ToOwned::to_owned)
        .chain(settings.providers.keys().cloned())
        .collect();
    resolve_name(name, &aliases, &providers, "").ok().filter(|_| name != "auto")
}

fn value_span(project: &Project, pointer: &str) -> std::ops::Range<usize> {
    project.document.spans.value(pointer)
}

/// Warns about a prompt that exceeds the model's context window whatever values its variables have.
fn check_context_window(project: &Project, step_pointer: &str, step: &Step, model: &ModelRef) -> Option<Diagnostic> {
    let window = project.settings.context_window(model).or_else(|| catalog::context_window(model))?;
    let prompt = step.prompt.as_ref()?;
    let agent = project.pipeline.agents.get(step.agent.as_ref()?)?;
    let reply_tokens = max_reply_tokens(model, project.settings.reply_limit(agent));
    let text = project.prompts.get(prompt)?;
    let mut remaining_includes = MAX_INCLUDES;
    let mut min_bytes = |text: &str| min_rendered_bytes(project, text, &mut remaining_includes, 0);
    let message_bytes = step.message.as_deref().map_or(0, &mut min_bytes);
    let tokens = u64::try_from((min_bytes(&text.text) + message_bytes) / MAX_BYTES_PER_TOKEN).unwrap_or(u64::MAX);
    if tokens.saturating_add(u64::from(reply_tokens)) <= window {
        return None;
    }
    let message = format!(
        "`{prompt}` has at least {tokens} tokens; with a reply of up to {reply_tokens}, \
         that exceeds the context window of `{model}` ({window})"
    );
    let diagnostic = Diagnostic::warning(Code::ContextWindowExceeded, message)
        .with_span(&project.document.file, value_span(project, &child_pointer(step_pointer, "prompt")));
    Some(diagnostic.with_help("shorten the prompt, lower `max_output_tokens`, or use a model with a larger context"))
}

/// The minimum number of bytes to which a template renders, whatever values its variables have.
fn min_rendered_bytes(project: &Project, text: &str, remaining_includes: &mut usize, depth: usize) -> usize {
    let Ok(Stmt::Template(template)) = parse(text, "", template_syntax()) else { return 0 };
    let sizes = template.children.iter().map(|statement| match statement {
        Stmt::EmitRaw(raw) => raw.raw.len(),
        // Bounded, because includes can multiply and form cycles. Skipping an include only lowers the minimum.
        Stmt::Include(include) if *remaining_includes > 0 && depth < MAX_INCLUDE_DEPTH => {
            *remaining_includes -= 1;
            let name = match &include.name {
                Expr::Const(name) => name.value.as_str(),
                _ => None,
            };
            let file = name.and_then(|name| project.prompts.get(name));
            file.map_or(0, |file| min_rendered_bytes(project, &file.text, &mut *remaining_includes, depth + 1))
        }
        _ => 0,
    });
    sizes.sum()
}

/// The field of `provider_options` that changes the price of a request of a step to a model.
fn price_option(project: &Project, step: &Step, model: &ModelRef) -> Option<String> {
    let agent = project.pipeline.agents.get(step.agent.as_ref()?)?;
    let own_model = resolve_reference(project, &agent.model)?;
    agent.options().for_model(&own_model, model).price_option().map(str::to_owned)
}

/// Reports a model without a known price under a budget that limits money, in the words in which orch refuses to start
/// such a run.
fn check_price(project: &Project, pointer: &str, model: &ModelRef, price_option: Option<&str>) -> Option<Diagnostic> {
    let own_prices = project.settings.entry_with_prices(model);
    let is_known = |cost: f64| price_option.is_none() || own_prices.is_some() || cost == 0.0;
    if sample_cost(project, model).is_some_and(is_known) {
        return None;
    }
    let priced_model = PricedModel { model: model.clone(), changed_by: price_option.map(str::to_owned) };
    let message = format!("{priced_model} has no known price, and there is a budget in dollars");
    let diagnostic =
        Diagnostic::error(Code::UnknownPrice, message).with_span(&project.document.file, value_span(project, pointer));
    let prices = match own_prices {
        Some(_) => "set both `input_price` and `output_price`",
        None => "set its prices",
    };
    let help = format!("{prices} under `models:` in `orch.yaml`, or set `unpriced: allow` in the budget");
    Some(diagnostic.with_help(help))
}
