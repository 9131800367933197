//! `orch pipeline resume`.

use std::path::{Path, PathBuf};

use crate::diagnostic::did_you_mean;
use crate::engine::Plan;
use crate::engine::perform::Exchange;
use crate::model::budget::Budget;
use crate::model::event::{Event, Fact, RunResumed};
use crate::model::{RunId, RunState, RunStatus, StepKey};
use crate::store::{Journal, RunRow, View};

use super::edits::{Choice, Edits};
use super::error::{CliError, Code};
use super::report::{Output, resume_command, tell};
use super::resolve::{self, Consent};
use super::session::{self, Flags, Ready};
use super::ui::Ui;
use super::{State, here, runtime};

/// Go on with a run that failed or was stopped
///
/// The files are read anew, so a prompt, a schema or the pipeline may have been mended. A step's
/// recorded result stands while what it was asked and how its answer is read are the same; nothing
/// that was answered is asked again.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The run, by its id or the start of it; the latest run that did not complete when left out
    #[arg(value_name = "RUN")]
    run: Option<String>,

    /// The model of every agent from now on
    #[arg(long, short, value_name = "MODEL")]
    model: Option<String>,

    /// What goes to standard output
    #[arg(long, value_enum, default_value_t, value_name = "FORM")]
    output: Output,

    /// Go on after a failed step with every step that does not need it
    #[arg(long)]
    continue_on_error: bool,

    /// Run this step again, whatever stands; what its new output changes runs too
    #[arg(long, value_name = "STEP")]
    from: Option<String>,

    /// Tell what would be kept and what would run, and why; do nothing
    #[arg(long)]
    dry_run: bool,

    /// Take artifact files that were edited since as what their steps produced
    #[arg(long, conflicts_with = "discard_changed")]
    accept_changed: bool,

    /// Put artifact files that were edited since back as they were recorded
    #[arg(long)]
    discard_changed: bool,

    /// Agree to downloading the embedded model
    #[arg(long, short)]
    yes: bool,

    /// What the run may spend: `usd=2,tokens=500000,seconds=3600`; takes the place of the file's
    #[arg(long, value_name = "LIMITS", value_parser = session::budget)]
    budget: Option<Budget>,

    /// Write what is asked of models from now on into this folder, for `orch pipeline run --replay`
    #[arg(long, value_name = "DIR")]
    record: Option<PathBuf>,

    /// No progress, and no summary of a run that completed
    #[arg(long, short)]
    quiet: bool,

    #[command(flatten)]
    state: State,
}

impl Args {
    fn choice(&self) -> Choice {
        match (self.accept_changed, self.discard_changed) {
            (true, _) => Choice::Accept,
            (false, true) => Choice::Discard,
            (false, false) => Choice::Refuse,
        }
    }
}

/// Goes on with a run that somebody has just answered.
pub(super) fn go_on(run: RunId, state: State, ui: &mut Ui) -> Result<Code, CliError> {
    let args = Args {
        run: Some(run.to_string()),
        model: None,
        output: Output::Text,
        continue_on_error: false,
        from: None,
        dry_run: false,
        budget: None,
        accept_changed: false,
        discard_changed: false,
        yes: false,
        record: None,
        quiet: ui.quiet,
        state,
    };
    self::run(&args, ui)
}

pub(super) fn run(args: &Args, ui: &mut Ui) -> Result<Code, CliError> {
    ui.quiet = args.quiet;
    let here = here()?;
    let root = super::runs::root(&here);
    let journal = super::runs::journal(&args.state, &root)?;
    let row = find(&journal, args.run.as_deref())?;
    let old = RunState::fold(row.run, &journal.events(row.run)?);
    let flag = args.model.clone().or_else(|| old.model.clone());
    // The journal may lie elsewhere (`--state`): the run knows where its files are.
    let root = Some(PathBuf::from(&old.root)).filter(|root| root.join(&old.file).is_file()).unwrap_or(root);
    let project = session::load(&root.join(&old.file), &here, flag.as_deref(), ui)?;

    let runtime = runtime()?;
    let models = resolve::models(&project.settings);
    let pinned = args.model.is_none().then_some(&old.models);
    if pinned.is_some_and(|names| names.values().any(|model| model.provider == crate::agent::REPLAY)) {
        let error =
            CliError::could_not(format!("run {} was answered from recordings, and they are not asked again", row.run));
        return Err(error.hint("run it anew with `--replay DIR`, or name a model with --model"));
    }
    let names = runtime.block_on(resolve::resolve(&project, &models, pinned, Consent { yes: args.yes }, ui))?;
    let continue_on_error = args.continue_on_error || old.continue_on_error;
    let budget = args.budget.clone().or_else(|| old.budget.clone());
    // An input that came later has its default.
    let known = |(name, _): &(String, serde_json::Value)| project.pipeline.inputs.contains_key(name);
    let inputs = old.inputs.clone().into_iter().filter(known).collect();
    let inputs = super::inputs::complete(&project.pipeline, inputs)?;
    let plan =
        session::plan(&project, inputs.clone(), &names, &models, &Flags { continue_on_error, budget: budget.clone() })?;

    let from = args.from.as_deref().map(|name| named(&plan, name)).transpose()?;
    if args.dry_run {
        let mut events = journal.events(row.run)?;
        if let Some(view) = View::existing(Path::new(&old.workspace)).filter(|_| args.accept_changed) {
            let edits = Edits { journal: &journal, view: &view, events: &events, died: None, plan: &plan };
            let accepted = edits.settle(args.choice(), &project, ui)?;
            let seq = events.last().map_or(0, |event| event.seq);
            let event = |(seq, fact)| Event { run: row.run, seq, at: jiff::Timestamp::now(), fact };
            events.extend((seq + 1..).zip(accepted.into_iter().map(Fact::ArtifactAccepted)).map(event));
        }
        ui.say(format!("run {}: {}", row.run, old.pipeline));
        return super::rehearse::rehearse(&plan, &events, from.as_ref(), args.output, ui);
    }
    let recorder = args.record.as_deref().map(resolve::recorder).transpose()?;
    let exchange = Exchange { recorder, replay: None };
    let view = View::open(Path::new(&old.workspace))?;
    let locks = session::lock(&journal, row.run, &view)?;
    // Read again under the lock: the former owner may have written until it let go.
    let events = journal.events(row.run)?;
    let edits = Edits { journal: &journal, view: &view, events: &events, died: locks.run.last_seen(), plan: &plan };
    let accepted = edits.settle(args.choice(), &project, ui)?;
    let redactor = models.redactor();
    if let Some(fact) = accepted.iter().find(|fact| redactor.finds_in(&fact.artifact.value.to_string())) {
        let error = CliError::could_not(format!("`{}` holds a key, and artifacts are recorded", fact.artifact.name));
        return Err(error.hint("take the key out of the file"));
    }
    let own = super::own::files(&project, &here, view.folder());
    super::own::check(&plan, &own)?;
    let records = journal.records(&view.name())?;
    let edited: Vec<&str> = accepted.iter().filter_map(|fact| fact.artifact.path.as_deref()).collect();
    let paths = plan.paths();
    view.check_free(paths.iter().map(String::as_str).filter(|path| !edited.contains(path)), &records)?;

    let mut first = vec![Fact::RunResumed(RunResumed {
        models: names,
        model: flag,
        continue_on_error,
        from,
        budget,
        last_seen: locks.run.last_seen(),
        steps: plan.announced(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    })];
    first.extend(accepted.into_iter().map(Fact::ArtifactAccepted));
    let ready = Ready {
        journal: &journal,
        run: row.run,
        events: &events,
        locks: &locks,
        view,
        project: own,
        plan: &plan,
        models,
        gates: session::gates(&project),
        reuse: None,
        asker: None,
        exchange: exchange.clone(),
        tracker: &project.settings.tracker,
        first,
    };
    let state = runtime.block_on(session::execute(ready, ui))?;
    tell(&state, args.output, &resume_command(row.run, journal.state(), &here), ui)?;
    session::closed(&state, &exchange)
}

/// The step of the plan that `--from` names.
pub(super) fn named(plan: &Plan, name: &str) -> Result<StepKey, CliError> {
    let steps = plan.announced();
    let whole = steps.iter().find(|step| step.step.as_str() == name);
    // The id alone will do: ids are unique in a file.
    let found = whole.or_else(|| steps.iter().find(|step| step.step.last() == name));
    found.map(|step| step.step.clone()).ok_or_else(|| {
        let known: Vec<&str> = steps.iter().map(|step| step.step.as_str()).collect();
        let error = CliError::could_not(format!("there is no step `{name}`"));
        match did_you_mean(name, known.iter().copied()) {
            Some(near) => error.hint(format!("did you mean `{near}`?")),
            None => error.hint(format!("the steps are {}", known.join(", "))),
        }
    })
}

fn find(journal: &Journal, name: Option<&str>) -> Result<RunRow, CliError> {
    if let Some(name) = name {
        super::runs::find(journal, name)
    } else {
        let open = journal.runs(1000)?.into_iter().find(|row| row.status != RunStatus::Completed);
        if open.is_none() && journal.runs(1)?.is_empty() {
            return Err(CliError::could_not("there are no runs yet").hint("`orch pipeline run` starts one"));
        }
        open.ok_or_else(|| {
            CliError::could_not("every run is completed")
                .hint("name one to run again what changed: `orch runs list` shows them")
        })
    }
}
