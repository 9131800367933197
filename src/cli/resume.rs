//! `orch pipeline resume`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::agent::Models;
use crate::config::Project;
use crate::diagnostic::did_you_mean;
use crate::engine::Plan;
use crate::engine::perform::Exchange;
use crate::model::budget::Budget;
use crate::model::event::{Event, Fact, RunPlace, RunResumed};
use crate::model::{ModelRef, RunId, RunState, RunStatus, StepKey};
use crate::store::{Journal, RunRow, View};

use super::edits::{Accepted, Choice, Edits, listed};
use super::error::{CliError, Code};
use super::placed::{Placed, file, placed};
use super::prepare::{self, Flags};
use super::report::{Output, printed_commands, tell};
use super::resolve::{self, Consent};
use super::session::{self, Ready};
use super::trackers::Trackers;
use super::trust::{self, TrustArgs, Trusted};
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

    /// The workspace, for a run whose record came from elsewhere [default: the one on record]
    #[arg(long, short, value_name = "DIR")]
    workspace: Option<PathBuf>,

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

    /// Take artifact files that were edited since as what their steps produced, and go on without
    /// files of `write` steps and agent programs that were taken away
    #[arg(long, conflicts_with = "discard_changed")]
    accept_changed: bool,

    /// Put artifact files that were edited since back as they were recorded, and write files of `write`
    /// steps and agent programs again that were taken away
    #[arg(long)]
    discard_changed: bool,

    /// Agree to downloading the embedded model
    #[arg(long, short)]
    yes: bool,

    /// What the run may spend: `usd=2,tokens=500000,seconds=3600`; takes the place of the file's
    #[arg(long, value_name = "LIMITS", value_parser = prepare::budget)]
    budget: Option<Budget>,

    /// Write what is asked of models from now on into this folder, for `orch pipeline run --replay`
    #[arg(long, value_name = "DIR")]
    record: Option<PathBuf>,

    /// No progress, and no summary of a run that completed
    #[arg(long, short)]
    quiet: bool,

    #[command(flatten)]
    trust: TrustArgs,

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
pub(super) fn go_on(run: RunId, state: State, trust: TrustArgs, ui: &mut Ui) -> Result<Code, CliError> {
    let args = Args {
        run: Some(run.to_string()),
        workspace: None,
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
        trust,
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
    let Placed { root, workspace, moved } = located(args, &journal, &old, (&root, &here))?;
    if moved {
        let words = format!("the project was in `{}` when this run was last taken up; it goes on here", old.root);
        ui.say(format!("{} {words}", ui.style.warn("note:")));
    }
    let project = prepare::load(&file(&journal, &old, &root)?, &here, flag.as_deref(), ui)?;

    let trusted = trusted(args, &project, &here, ui)?;
    let runtime = runtime()?;
    let models = resolve::models(&project.root, &project.settings, trusted.as_ref());
    let pinned = args.model.is_none().then_some(&old.models);
    not_replayed(row.run, pinned)?;
    let names = runtime.block_on(resolve::resolve(&project, &models, pinned, Consent { yes: args.yes }, ui))?;
    let continue_on_error = args.continue_on_error || old.continue_on_error;
    let budget = args.budget.clone().or_else(|| old.budget.clone());
    // An input that came later has its default.
    let known = |(name, _): &(String, serde_json::Value)| project.pipeline.inputs.contains_key(name);
    let inputs = old.inputs.clone().into_iter().filter(known).collect();
    let inputs = super::inputs::of(&project.pipeline, &inputs)?;
    let plan =
        prepare::plan(&project, inputs.clone(), &names, &models, &Flags { continue_on_error, budget: budget.clone() })?;

    let from = args.from.as_deref().map(|name| named(&plan, name)).transpose()?;
    let resumed = RunResumed {
        models: names,
        model: flag,
        continue_on_error,
        from: None,
        budget,
        last_seen: None,
        place: None,
        without: Vec::new(),
        steps: plan.announced(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let Some(trusted) = trusted else {
        let plan = match View::existing(&workspace)? {
            Some(view) => super::own::checked(plan, &project, &here, view.folder())?.0,
            None => plan,
        };
        let rehearsed =
            Rehearsed { journal: &journal, project: &project, plan: &plan, run: row.run, workspace: &workspace };
        ui.say(format!("run {}: {}", row.run, crate::model::visible::one_line(&old.pipeline)));
        return rehearsed.tell(args, resumed, from.as_ref(), ui);
    };
    let recorder = args.record.as_deref().map(|folder| resolve::recorder(folder, &project.root)).transpose()?;
    let exchange = Exchange { recorder, replay: None };
    let view = View::open(&workspace)?;
    let locks = session::lock(&journal, row.run, &view)?;
    // Read again under the lock: the former owner may have written until it let go.
    let events = journal.events(row.run)?;
    let (plan, own) = super::own::checked(plan, &project, &here, view.folder())?;
    let edits = Edits {
        journal: &journal,
        run: row.run,
        view: Some(&view),
        events: &events,
        died: locks.run.last_seen(),
        plan: &plan,
        from: from.as_ref(),
    };
    if moved {
        journal.workspace_moved(row.run, &old.workspace, &view.name())?;
    }
    // Nothing is put back before all that may refuse was asked.
    let found = edits.find(ui)?;
    let (records, paths, edited) = (journal.records(&view.name())?, plan.paths(), found.artifacts());
    view.check_free(paths.iter().map(String::as_str).filter(|path| !edited.contains(path)), &records)?;
    let accepted = found.settle(&view, args.choice(), &project, ui)?;
    without_secrets(&accepted, &models)?;

    let place = new_place(&old, &root, &view, moved);
    let resumed = RunResumed { from, last_seen: locks.run.last_seen(), without: accepted.without, place, ..resumed };
    let mut first = vec![Fact::RunResumed(resumed)];
    first.extend(accepted.artifacts.into_iter().map(Fact::ArtifactAccepted));
    let redactor = models.redactor_with(&session::listed(&plan));
    let place = (&view, paths.as_slice(), locks.run.last_seen());
    first.extend(super::interrupted::turns((&journal, row.run, &events), place, &redactor, ui)?);
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
        trackers: Trackers::new(&project.settings.tracker, &resolve::variables(), &trusted),
        first,
    };
    let state = runtime.block_on(session::execute(ready, ui))?;
    tell(&state, args.output, &printed_commands(journal.state(), &here, &ui.commands), ui)?;
    session::closed(&state, &exchange)
}

/// Refuses a run that was answered from recordings, unless another model is named.
fn not_replayed(run: RunId, pinned: Option<&BTreeMap<String, ModelRef>>) -> Result<(), CliError> {
    if !pinned.is_some_and(|names| names.values().any(|model| model.provider == crate::agent::REPLAY)) {
        return Ok(());
    }
    let error = CliError::could_not(format!("run {run} was answered from recordings, and they are not asked again"));
    Err(error.hint("run it anew with `--replay DIR`, or name a model with --model"))
}

/// Where the run continues: its project, and the workspace that the user names or that is on record.
fn located(args: &Args, journal: &Journal, old: &RunState, (root, here): (&Path, &Path)) -> Result<Placed, CliError> {
    let mut found = placed(journal, old, &args.state, root)?;
    found.workspace = super::placed::workspace((journal, old.run), args.workspace.as_ref(), &found, here)?;
    Ok(found)
}

/// Where the run continues, if that is elsewhere than on record.
fn new_place(old: &RunState, root: &Path, view: &View, moved: bool) -> Option<RunPlace> {
    let place = RunPlace { root: root.display().to_string(), workspace: view.name() };
    (moved || place.workspace != old.workspace).then_some(place)
}

/// The user's agreement to what the resumed run sends; a dry run sends nothing.
fn trusted(args: &Args, project: &Project, here: &Path, ui: &Ui) -> Result<Option<Trusted>, CliError> {
    if args.dry_run {
        return Ok(None);
    }
    trust::ensure(&session::places(project, here).0, &project.settings, &args.trust, ui).map(Some)
}

/// Refuses artifacts that a person put a key into: they would be recorded.
fn without_secrets(accepted: &Accepted, models: &Models) -> Result<(), CliError> {
    let redactor = models.redactor();
    match accepted.artifacts.iter().find(|fact| redactor.finds_in(&fact.artifact.value.to_string())) {
        None => Ok(()),
        Some(fact) => {
            let error = format!("`{}` holds a key, and artifacts are recorded", fact.artifact.name);
            Err(CliError::could_not(error).hint("take the key out of the file"))
        }
    }
}

/// What a dry run is told of.
struct Rehearsed<'a> {
    journal: &'a Journal,
    project: &'a Project,
    plan: &'a Plan,
    run: RunId,
    workspace: &'a Path,
}

impl Rehearsed<'_> {
    /// Tells what a resume would find and do.
    fn tell(&self, args: &Args, mut resumed: RunResumed, from: Option<&StepKey>, ui: &Ui) -> Result<Code, CliError> {
        let Self { journal, project, plan, run, workspace } = *self;
        let events = journal.events(run)?;
        let view = View::existing(workspace)?;
        let edits = Edits { journal, run, view: view.as_ref(), events: &events, died: None, plan, from };
        let found = edits.find(ui)?;
        let lines = found.words(workspace);
        if !lines.is_empty() {
            ui.say(format!("{} {} since this run wrote it", ui.style.warn("note:"), listed(&lines)));
            ui.say(format!("      {}", args.choice().outlook()));
        }
        let mut accepted = Accepted::default();
        if let Some(view) = view.filter(|_| args.accept_changed) {
            accepted = found.accept(&view, project)?;
        }
        resumed.without = accepted.without;
        let facts = std::iter::once(Fact::RunResumed(resumed))
            .chain(accepted.artifacts.into_iter().map(Fact::ArtifactAccepted));
        let (seq, at) = (events.last().map_or(0, |event| event.seq), jiff::Timestamp::now());
        let after = (seq + 1..).zip(facts).map(|(seq, fact)| Event { run, seq, at, fact });
        let events: Vec<Event> = events.into_iter().chain(after).collect();
        super::rehearse::rehearse(plan, &events, from, args.output, ui)
    }
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
