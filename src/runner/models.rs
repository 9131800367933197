//! Resolves the model names in the files and options of a run, including `auto`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::agent::{AutoError, ModelRegistry, REPLAY_PROVIDER, Recorder, Replay, ReplayOptions, choose_model};
use crate::config::{self, Project};
use crate::engine::PlannedModel;
use crate::folder::{FolderAccess, NoFollowFolder, is_link_refused};
use crate::model::ModelRef;
use crate::model::name::{LOCAL_PROVIDER, NameError};
use crate::provider::{is_loopback_address, served_models};
use crate::secret::secrets_among;
use crate::trust::Disclosures;

use super::error::RunnerError;
use super::trust::Trusted;
use super::{Runner, agent_options, weights};

/// The model for each model name.
pub(crate) type ResolvedModels = BTreeMap<String, ModelRef>;

impl Runner {
    /// Creates the registry of the models that a project can use, with the variables and the model cache of this
    /// session.
    ///
    /// If `trusted` is `None`, orch does not connect to the providers that need the user's agreement.
    pub(crate) fn model_registry(
        &self,
        root: &Path,
        settings: &crate::config::Settings,
        trusted: Option<&Trusted>,
    ) -> Arc<ModelRegistry> {
        let environment = &self.environment;
        let models = ModelRegistry::new(settings, &environment.variable_lookup(), environment.model_cache().to_owned())
            .with_root(root);
        let models = if trusted.is_some() { models } else { models.with_untrusted(untrusted_providers(settings)) };
        Arc::new(models.with_secrets(secrets_among(environment.all_variables())))
    }
}

/// The providers in these settings that need the user's agreement.
fn untrusted_providers(settings: &crate::config::Settings) -> BTreeSet<String> {
    let disclosures = Disclosures::from_settings(settings);
    let names = disclosures.needing_agreement().filter_map(|disclosure| disclosure.key.strip_prefix("providers."));
    names.map(ToOwned::to_owned).collect()
}

/// Resolves every model name of a project, downloads embedded models and checks that keys are set.
pub(crate) async fn resolve_and_install(
    project: &Project,
    models: &ModelRegistry,
    pinned: Option<&ResolvedModels>,
    may_download: bool,
    runner: &Runner,
) -> Result<ResolvedModels, RunnerError> {
    let (resolved_models, orch_chose_local) = resolve_model_names(project, models, pinned, runner).await?;
    for model in resolved_models.values() {
        if let Some(failure) = models.invalid_address(&model.provider) {
            return Err(failure.into());
        }
        if let Some(variable) = models.missing_key(&model.provider) {
            return Err(RunnerError::usage(format!("{model} needs a key, and {variable} is not set"))
                .with_hint(format!("export {variable}=…, or name another model with --model")));
        }
        if model.provider == LOCAL_PROVIDER {
            weights::ensure_installed(models.local_models(), model, !orch_chose_local || may_download, runner).await?;
        }
    }
    agent_options::note_unsent_options(project, models, &resolved_models, runner);
    Ok(resolved_models)
}

/// The names of the unset key variables, each with a model that needs the key.
pub(crate) type MissingKeys = BTreeMap<String, ModelRef>;

/// Finds the keys that these models need and that are not set.
pub(crate) fn missing_keys<'a>(
    used_models: impl IntoIterator<Item = &'a ModelRef>,
    registry: &ModelRegistry,
) -> MissingKeys {
    let missing_key = |model: &ModelRef| Some((registry.missing_key(&model.provider)?.to_owned(), model.clone()));
    used_models.into_iter().filter_map(missing_key).collect()
}

/// Resolves every model name of a project, and checks that each model can receive the requests of its agents. Also
/// returns whether orch itself chose the embedded model for `auto`.
pub(crate) async fn resolve_model_names(
    project: &Project,
    models: &ModelRegistry,
    pinned: Option<&ResolvedModels>,
    runner: &Runner,
) -> Result<(ResolvedModels, bool), RunnerError> {
    let projects = project.with_called_projects();
    let steps =
        || projects.iter().flat_map(|project| project.pipeline.all_steps().into_iter().map(|step| (*project, step)));
    let agents = steps().filter_map(|(project, step)| project.pipeline.agents.get(step.agent.as_ref()?));
    let agents = agents.filter(|agent| agent.cli_kind().is_none()).map(|agent| &agent.model);
    let fallbacks = steps().flat_map(|(_, step)| &step.fallback);
    let mut names = ResolvedModels::new();
    let mut orch_chose_local = false;
    for name in agents.chain(fallbacks) {
        if names.contains_key(name) {
            continue;
        }
        let model = if name == "auto" {
            let (model, orch_chose) = resolve_auto(project, models, pinned, runner).await?;
            orch_chose_local |= orch_chose && model.provider == LOCAL_PROVIDER;
            model
        } else {
            resolve_model_name(models, name)?
        };
        names.insert(name.clone(), model);
    }
    agent_options::check(project, models, &names)?;
    Ok((names, orch_chose_local))
}

/// Resolves every model name of a project to a placeholder, for a run that replays recordings. A placeholder needs no
/// key.
pub(crate) fn replayed_models(project: &Project) -> ResolvedModels {
    let projects = project.with_called_projects();
    let steps =
        projects.iter().flat_map(|project| project.pipeline.all_steps().into_iter().map(|step| (*project, step)));
    let mut names = ResolvedModels::new();
    for (project, step) in steps {
        let agent = step.agent.as_ref().and_then(|name| project.pipeline.agents.get(name));
        for name in agent.map(|agent| &agent.model).into_iter().chain(&step.fallback) {
            names.insert(name.clone(), ModelRef::new(REPLAY_PROVIDER, name.clone()));
        }
    }
    names
}

/// Opens a recorder that writes into `folder`. Inside the project's root, the recorder follows no links, because the
/// project may contain links that the user does not know. Elsewhere, `folder` may be a link of the user.
///
/// # Errors
/// The folder can't be created or written, or is a link in the project.
pub(crate) fn open_recorder(folder: &Path, root: &Path, runner: &Runner) -> Result<Arc<Recorder>, RunnerError> {
    let to_runner_error = |error: std::io::Error| {
        let is_link = is_link_refused(&error);
        let error = RunnerError::usage(format!("the folder `{}` can't be created: {error}", folder.display()));
        if is_link { error.with_hint("to write to the target of the link, pass the target to --record") } else { error }
    };
    let root = root.canonicalize().map_err(to_runner_error)?;
    let absolute = config::absolute(&runner.current_dir().join(folder));
    let recorder = match absolute.strip_prefix(&root).ok().and_then(Path::to_str) {
        Some(relative) => NoFollowFolder::open(&root, FolderAccess::Private)
            .and_then(|root| root.create_subfolder(&relative.replace('\\', "/")))
            .map(Recorder::from_folder),
        None => Recorder::new(&super::project_state::resolve_link(folder.to_owned())),
    };
    let recorder = recorder.map_err(to_runner_error)?;
    recorder.check_writable().map_err(|error| {
        let message = format!("the recordings can't be written to `{}`: {error}", folder.display());
        RunnerError::usage(message).with_hint("make the folder writable, or name another folder with --record")
    })?;
    Ok(Arc::new(recorder))
}

/// Opens the recordings in a folder.
pub(crate) fn open_recordings(folder: &Path, options: ReplayOptions) -> Result<Arc<Replay>, RunnerError> {
    let default_hint = || "`orch pipeline run … --record DIR` writes recordings".to_owned();
    let hint = options.remedy.clone().unwrap_or_else(default_hint);
    Replay::open(folder, options).map(Arc::new).map_err(|error| RunnerError::usage(error).with_hint(hint))
}

/// Resolves a model name other than `auto`.
pub(crate) fn resolve_model_name(models: &ModelRegistry, name: &str) -> Result<ModelRef, RunnerError> {
    models.resolve(name).map_err(|error| {
        let hint = match &error {
            NameError::UnknownModel { nearest: Some(nearest), .. }
            | NameError::UnknownProvider { nearest: Some(nearest), .. } => {
                format!("did you mean `{nearest}`?")
            }
            NameError::UnknownModel { .. } => {
                "write `provider/model`, `local:PATH`, an alias of orch.yaml, `local` or `auto`".to_owned()
            }
            NameError::UnknownProvider { .. } => format!(
                "the providers are local, {}; add others to orch.yaml",
                models.providers().collect::<Vec<_>>().join(", ")
            ),
            NameError::AliasCycle { .. } => "set one of the aliases to `provider/model`".to_owned(),
        };
        RunnerError::usage(error.to_string()).with_hint(hint)
    })
}

/// Resolves `auto`. Also returns whether orch itself chose the model. It does so if neither orch.yaml nor an earlier
/// session of the run determines the model.
async fn resolve_auto(
    project: &Project,
    models: &ModelRegistry,
    pinned: Option<&ResolvedModels>,
    runner: &Runner,
) -> Result<(ModelRef, bool), RunnerError> {
    if let Some(name) = project.settings.defaults.model.as_deref().filter(|name| *name != "auto") {
        let model = resolve_model_name(models, name)?;
        runner.reporter.info(&format!("model: {model} (auto: `defaults.model` in orch.yaml)"));
        return Ok((model, false));
    }
    if let Some(model) = pinned.and_then(|models| models.get("auto")) {
        runner.reporter.info(&format!("model: {model} (auto: chosen when the run started)"));
        return Ok((model.clone(), false));
    }
    let variables = runner.environment.variable_lookup();
    let has_key = |name: &str| variables(name).is_some();
    let local_server = if crate::agent::AUTO_CANDIDATES.iter().any(|candidate| has_key(candidate.variable)) {
        None
    } else {
        find_ollama(models).await
    };
    let choice = choose_model(&has_key, local_server.as_ref().map(|(url, names)| (url.as_str(), names.clone())))
        .map_err(|error| {
            let AutoError::SeveralModels { url: _, models: names } = &error;
            let names: Vec<String> = names.iter().map(|name| format!("ollama/{name}")).collect();
            RunnerError::usage(error.to_string()).with_hint(format!("name one with --model: {}", names.join(", ")))
        })?;
    if let Some(choice) = choice {
        runner.reporter.info(&format!("model: {} (auto: {})", choice.model, choice.reason));
        return Ok((choice.model, true));
    }
    let model = resolve_model_name(models, LOCAL_PROVIDER)?;
    runner.reporter.info(&format!("model: {model} (auto: no key is set and no local server answers)"));
    Ok((model, true))
}

/// The URL and the models of the Ollama server on this machine, if the server responds.
async fn find_ollama(models: &ModelRegistry) -> Option<(String, Vec<String>)> {
    // `auto` must not send requests to other machines.
    if models.invalid_address("ollama").is_some() {
        return None;
    }
    let endpoint = models.endpoint("ollama")?;
    if !is_loopback_address(&endpoint.base_url) {
        return None;
    }
    // If no server listens, this fails at once.
    let names = served_models(endpoint, Duration::from_secs(5)).await.ok()?;
    Some((endpoint.base_url.clone(), names))
}

/// Converts a model reference to the data that the engine's planner needs.
pub(crate) fn to_planned_model(models: &ModelRegistry, reference: &ModelRef) -> Result<PlannedModel, RunnerError> {
    let dialect = match reference.provider.as_str() {
        REPLAY_PROVIDER => REPLAY_PROVIDER,
        provider => models.dialect(provider)?,
    };
    let weights = models.weights_digest(reference)?;
    let context_window = models.context_window(reference);
    Ok(PlannedModel { weights, context_window, ..PlannedModel::new(reference.clone(), dialect) })
}
