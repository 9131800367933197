//! Warns about names of hosted models that are probably misspelt.

use super::models::{resolve_reference, step_models};
use crate::catalog;
use crate::config::{Document, Project, child_pointer, steps_with_pointers};
use crate::diagnostic::{Code, Diagnostic};

pub(super) fn check(project: &Project) -> Vec<Diagnostic> {
    let settings = &project.settings;
    let mut diagnostics = Vec::new();
    for (step_pointer, step) in steps_with_pointers(&project.pipeline) {
        let names = step_models(project, &step_pointer, step).into_iter();
        // A name of `orch.yaml` stands for a model there.
        let own_names = names.filter(|(_, name)| name != "auto" && !settings.models.contains_key(name));
        let document = &project.document;
        diagnostics.extend(own_names.filter_map(|(pointer, name)| misspelt_name(project, document, &pointer, &name)));
    }
    let Some(document) = &project.settings_document else { return diagnostics };
    let default_model = settings.defaults.model.iter().map(|name| ("/defaults/model".to_owned(), name));
    let aliases = settings.models.iter().map(|(alias, entry)| (alias_pointer(document, alias), &entry.model));
    let names = default_model.chain(aliases).filter(|(_, name)| !settings.models.contains_key(*name));
    diagnostics.extend(names.filter_map(|(pointer, name)| misspelt_name(project, document, &pointer, name)));
    diagnostics
}

/// The location of the model for which an alias stands.
fn alias_pointer(document: &Document, alias: &str) -> String {
    let pointer = child_pointer("/models", alias);
    let model_pointer = child_pointer(&pointer, "model");
    if document.value.pointer(&model_pointer).is_some() { model_pointer } else { pointer }
}

/// Returns the warning for a misspelt name. Does not judge the names of a provider in `orch.yaml`, which may have any
/// models, and those of models for which `orch.yaml` has prices.
fn misspelt_name(project: &Project, document: &Document, pointer: &str, name: &str) -> Option<Diagnostic> {
    let (model, settings) = (resolve_reference(project, name)?, &project.settings);
    if settings.providers.contains_key(&model.provider) || settings.entry_with_prices(&model).is_some() {
        return None;
    }
    let intended = catalog::misspelt_model(&model)?;
    let diagnostic = Diagnostic::warning(Code::MisspeltModel, format!("`{model}` is probably misspelt"))
        .with_span(&document.file, document.spans.value(pointer))
        .with_help(format!("did you mean `{}/{}`?", model.provider, intended.name));
    Some(diagnostic.with_replacement(&model.model, intended.is_certain.then_some(intended.name)))
}
