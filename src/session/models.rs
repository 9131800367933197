//! Resolves the models of a run: names in files and flags, including `auto`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::agent::{AutoError, ModelRegistry, REPLAY, Recorder, Replay, choose};
use crate::config::{self, Project};
use crate::engine::PlannedModel;
use crate::folder::{FolderAccess, OwnFolder, is_link_refused};
use crate::model::ModelRef;
use crate::model::name::{LOCAL, NameError};
use crate::provider::{is_loopback_address, served_models};
use crate::secret::secrets_among;
use crate::trust::Disclosures;

use super::error::SessionError;
use super::trust::Trusted;
use super::{Runner, weights};

/// The model that each name stands for.
pub(crate) type ResolvedModels = BTreeMap<String, ModelRef>;

impl Runner {
    /// The models that a project can use, with the variables and the cache of this session.
    ///
    /// Without the user's agreement, orch does not connect to providers that need it because of what `orch.yaml` sends
    /// them.
    pub(crate) fn models(
        &self,
        root: &Path,
        settings: &crate::config::Settings,
        trusted: Option<&Trusted>,
    ) -> Arc<ModelRegistry> {
        let environment = &self.environment;
        let models =
            ModelRegistry::new(settings, &environment.variables(), environment.model_cache().to_owned()).at(root);
        let models = if trusted.is_some() { models } else { models.withholding(untrusted(settings)) };
        Arc::new(models.with_secrets(secrets_among(environment.all_variables())))
    }
}

/// The providers in these settings that need the user's agreement.
fn untrusted(settings: &crate::config::Settings) -> BTreeSet<String> {
    let disclosures = Disclosures::of(settings);
    let names = disclosures.untrusted().filter_map(|disclosure| disclosure.key.strip_prefix("providers."));
    names.map(ToOwned::to_owned).collect()
}

/// Resolves every model name of a project, downloads embedded models, and checks that keys are set.
pub(crate) async fn resolve(
    project: &Project,
    models: &ModelRegistry,
    pinned: Option<&ResolvedModels>,
    may_download: bool,
    runner: &Runner,
) -> Result<ResolvedModels, SessionError> {
    let (names, by_choice) = named_by(project, models, pinned, runner).await?;
    for model in names.values() {
        if let Some(failure) = models.bad_address(&model.provider) {
            return Err(failure.into());
        }
        if let Some(variable) = models.missing_key(&model.provider) {
            return Err(SessionError::usage(format!("{model} needs a key, and {variable} is not set"))
                .hint(format!("export {variable}=…, or name another model with --model")));
        }
        if model.provider == LOCAL {
            weights::ensure(models.shelf(), model, !by_choice || may_download, runner).await?;
        }
    }
    Ok(names)
}

/// The variables of keys that are not set, each with a model that needs it.
pub(crate) type Missing = BTreeMap<String, ModelRef>;

/// The keys that these models need and that are not set.
pub(crate) fn missing_keys<'a>(named: impl IntoIterator<Item = &'a ModelRef>, models: &ModelRegistry) -> Missing {
    let missing = |model: &ModelRef| Some((models.missing_key(&model.provider)?.to_owned(), model.clone()));
    named.into_iter().filter_map(missing).collect()
}

/// Resolves every model name of a project. Also returns whether `auto` chose the embedded model, without the user
/// naming it.
pub(crate) async fn named_by(
    project: &Project,
    models: &ModelRegistry,
    pinned: Option<&ResolvedModels>,
    runner: &Runner,
) -> Result<(ResolvedModels, bool), SessionError> {
    let all = project.with_called();
    let steps = || all.iter().flat_map(|project| project.pipeline.all_steps().into_iter().map(|step| (*project, step)));
    let agents = steps().filter_map(|(project, step)| project.pipeline.agents.get(step.agent.as_ref()?));
    let agents = agents.filter(|agent| agent.kind().is_none()).map(|agent| &agent.model);
    let fallbacks = steps().flat_map(|(_, step)| &step.fallback);
    let mut names = ResolvedModels::new();
    let mut by_choice = false;
    for name in agents.chain(fallbacks) {
        if names.contains_key(name) {
            continue;
        }
        let model = if name == "auto" {
            let (model, chosen) = auto(project, models, pinned, runner).await?;
            by_choice |= chosen && model.provider == LOCAL;
            model
        } else {
            named(models, name)?
        };
        names.insert(name.clone(), model);
    }
    Ok((names, by_choice))
}

/// The names of a project whose replies are replayed: they stand for no model and need no key.
pub(crate) fn replayed(project: &Project) -> ResolvedModels {
    let all = project.with_called();
    let steps = all.iter().flat_map(|project| project.pipeline.all_steps().into_iter().map(|step| (*project, step)));
    let mut names = ResolvedModels::new();
    for (project, step) in steps {
        let agent = step.agent.as_ref().and_then(|name| project.pipeline.agents.get(name));
        for name in agent.map(|agent| &agent.model).into_iter().chain(&step.fallback) {
            names.insert(name.clone(), ModelRef::new(REPLAY, name.clone()));
        }
    }
    names
}

/// A recorder that writes into `folder`. Below the project's root it follows no links, since the project may contain
/// them; elsewhere the folder may be a link of the user's.
pub(crate) fn recorder(folder: &Path, root: &Path, runner: &Runner) -> Result<Arc<Recorder>, SessionError> {
    let refuse = |error: std::io::Error| {
        let linked = is_link_refused(&error);
        let error = SessionError::usage(format!("the folder `{}` can't be made: {error}", folder.display()));
        if linked { error.hint("give --record the folder that the link leads to, if you mean that one") } else { error }
    };
    let root = root.canonicalize().map_err(refuse)?;
    let whole = config::absolute(&runner.current_dir().join(folder));
    let made = match whole.strip_prefix(&root).ok().and_then(Path::to_str) {
        Some(below) => OwnFolder::open(&root, FolderAccess::Private)
            .and_then(|root| root.make(&below.replace('\\', "/")))
            .map(Recorder::into),
        None => Recorder::new(&super::project_state::without_link(folder.to_owned())),
    };
    made.map(Arc::new).map_err(refuse)
}

/// The recordings in a folder.
pub(crate) fn replay(folder: &Path) -> Result<Arc<Replay>, SessionError> {
    Replay::open(folder)
        .map(Arc::new)
        .map_err(|why| SessionError::usage(why).hint("`orch pipeline run … --record DIR` writes recordings"))
}

/// The model that a name other than `auto` stands for.
pub(crate) fn named(models: &ModelRegistry, name: &str) -> Result<ModelRef, SessionError> {
    models.resolve(name).map_err(|error| {
        let hint = match &error {
            NameError::Unknown { nearest: Some(nearest), .. } | NameError::Provider { nearest: Some(nearest), .. } => {
                format!("did you mean `{nearest}`?")
            }
            NameError::Unknown { .. } => {
                "write `provider/model`, `local:PATH`, an alias of orch.yaml, `local` or `auto`".to_owned()
            }
            NameError::Provider { .. } => format!(
                "the providers are local, {}; others go into orch.yaml",
                models.providers().collect::<Vec<_>>().join(", ")
            ),
            NameError::Circle { .. } => "let one of the aliases stand for `provider/model`".to_owned(),
        };
        SessionError::usage(error.to_string()).hint(hint)
    })
}

/// Resolves `auto`. Also returns whether orch chose the model, so that neither orch.yaml nor an earlier session had
/// named it.
async fn auto(
    project: &Project,
    models: &ModelRegistry,
    pinned: Option<&ResolvedModels>,
    runner: &Runner,
) -> Result<(ModelRef, bool), SessionError> {
    if let Some(name) = project.settings.defaults.model.as_deref().filter(|name| *name != "auto") {
        let model = named(models, name)?;
        runner.reporter.info(&format!("model: {model} (auto: `defaults.model` in orch.yaml)"));
        return Ok((model, false));
    }
    if let Some(model) = pinned.and_then(|names| names.get("auto")) {
        runner.reporter.info(&format!("model: {model} (auto: chosen when the run began)"));
        return Ok((model.clone(), false));
    }
    let variables = runner.environment.variables();
    let has_key = |name: &str| variables(name).is_some();
    let served = if crate::agent::CANDIDATES.iter().any(|candidate| has_key(candidate.variable)) {
        None
    } else {
        served(models).await
    };
    let choice =
        choose(&has_key, served.as_ref().map(|(url, list)| (url.as_str(), list.clone()))).map_err(|error| {
            let AutoError::Several { url: _, models: list } = &error;
            let names: Vec<String> = list.iter().map(|name| format!("ollama/{name}")).collect();
            SessionError::usage(error.to_string()).hint(format!("name one with --model: {}", names.join(", ")))
        })?;
    if let Some(choice) = choice {
        runner.reporter.info(&format!("model: {} (auto: {})", choice.model, choice.why));
        return Ok((choice.model, true));
    }
    let model = named(models, LOCAL)?;
    runner.reporter.info(&format!("model: {model} (auto: no key is set and no local server answers)"));
    Ok((model, true))
}

/// The address and the models of the server on Ollama's loopback port, if one answers.
async fn served(models: &ModelRegistry) -> Option<(String, Vec<String>)> {
    // orch asks only a server on this machine for its models.
    if models.bad_address("ollama").is_some() {
        return None;
    }
    let endpoint = models.endpoint("ollama")?;
    if !is_loopback_address(&endpoint.base_url) {
        return None;
    }
    let list = served_models(endpoint, Duration::from_millis(300)).await.ok()?;
    Some((endpoint.base_url.clone(), list))
}

/// A model in the form that the engine plans with.
pub(crate) fn planned(models: &ModelRegistry, reference: &ModelRef) -> Result<PlannedModel, SessionError> {
    let dialect = match reference.provider.as_str() {
        REPLAY => REPLAY,
        provider => models.dialect(provider)?,
    };
    let weights = models.weights(reference)?;
    Ok(PlannedModel { weights, ..PlannedModel::of(reference.clone(), dialect) })
}
