//! `orch pipeline run`.

use std::path::{Path, PathBuf};

use crate::config::Project;
use crate::engine::perform::Exchange;
use serde_json::{Map, Value};

use crate::model::RunId;
use crate::model::budget::Budget;
use crate::model::event::{Fact, RunStarted};
use crate::secret::Redactor;
use crate::store::{Earlier, Journal, View};

use super::error::{CliError, Code};
use super::inputs::Given;
use super::prepare::{self, Flags};
use super::report::{Output, printed_commands, tell};
use super::resolve::{self, Consent};
use super::session::{self, Ready};
use super::trackers::Trackers;
use super::trust::{self, TrustArgs, Trusted};
use super::ui::Ui;
use super::{State, here, named, runtime};

/// Run a pipeline
///
/// The files are checked first: nothing is asked while anything is wrong. Then the steps run in
/// order. Every reply is recorded before it is used; what a step produces lies in the workspace
/// as NAME.json. A run that fails or is stopped goes on with `orch pipeline resume`.
///
/// Examples:
///   orch pipeline run pipelines/default.yaml --task "Create a User model with authentication"
///   orch pipeline run pipelines/default.yaml --task - --model anthropic/claude-sonnet-5-5 < task.md
///   orch pipeline run pipelines/default.yaml --task-file task.md --output json > report.json
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Args {
    /// The pipeline: its file, or its name in `pipelines/`
    #[arg(value_name = "PIPELINE")]
    pipeline: PathBuf,

    #[command(flatten)]
    given: Given,

    /// Where the artifacts go [default: workspace]
    #[arg(long, short, value_name = "DIR")]
    workspace: Option<PathBuf>,

    /// The model of every agent: `provider/model`, an alias, `local` or `auto`
    #[arg(long, short, value_name = "MODEL")]
    model: Option<String>,

    /// What goes to standard output
    #[arg(long, value_enum, default_value_t, value_name = "FORM")]
    output: Output,

    /// The workflow of `tracker.convex` that the run belongs to, by its id; a new one when left out
    #[arg(long, value_name = "ID")]
    workflow_id: Option<String>,

    /// Go on after a failed step with every step that does not need it; the run fails all the same
    #[arg(long)]
    continue_on_error: bool,

    /// Before the run, remove the files that earlier runs made in the workspace, artifacts and those of
    /// `write` steps, as long as nobody changed them; nothing else
    #[arg(long)]
    clean: bool,

    /// Agree to downloading the embedded model
    #[arg(long, short)]
    yes: bool,

    /// Take over results of earlier runs that were asked exactly the same; never those of commands,
    /// of agents that see the workspace, or of people
    #[arg(long)]
    reuse: bool,

    /// Write each exchange with a model into a folder, without secrets; `--replay` reads it
    #[arg(long, value_name = "DIR", conflicts_with = "replay")]
    record: Option<PathBuf>,

    /// Answer from a folder of recordings and ask no model; what is not recorded fails
    #[arg(long, value_name = "DIR", conflicts_with_all = ["model", "reuse"])]
    replay: Option<PathBuf>,

    /// What the run may spend: `usd=2,tokens=500000,seconds=3600`; takes the place of the file's
    #[arg(long, value_name = "LIMITS", value_parser = prepare::budget)]
    budget: Option<Budget>,

    /// No progress, and no summary of a run that completed
    #[arg(long, short)]
    quiet: bool,

    #[command(flatten)]
    trust: TrustArgs,

    #[command(flatten)]
    state: State,
}

pub(super) fn run(args: Args, ui: &mut Ui) -> Result<Code, CliError> {
    ui.quiet = args.quiet;
    let here = here()?;
    let project = prepare::load(&named::pipeline(&args.pipeline, &here)?, &here, args.model.as_deref(), ui)?;
    if args.workflow_id.is_some() && project.settings.tracker.convex.is_none() {
        return Err(CliError::could_not(
            "--workflow-id names a workflow of Convex, and orch.yaml has no `tracker.convex`",
        )
        .hint("add `tracker: { convex: { url: { env: CONVEX_URL } } }`, or leave the flag out"));
    }
    let inputs = args.given.values(&project.pipeline)?;
    let runtime = runtime()?;
    let trusted = trusted(&args, &project, &here, ui)?;
    let models = resolve::models(&project.root, &project.settings, Some(&trusted));
    without_secrets(&inputs, &models.redactor())?;
    let consent = Consent { yes: args.yes };
    let exchange = exchange(&args, &project.root)?;
    let names = if exchange.replay.is_some() {
        resolve::replayed(&project)
    } else {
        runtime.block_on(resolve::resolve(&project, &models, None, consent, ui))?
    };
    let flags = Flags { continue_on_error: args.continue_on_error, budget: args.budget.clone() };
    let plan = prepare::plan(&project, inputs.clone(), &names, &models, &flags)?;

    let (root, file) = session::places(&project, &here);
    let journal = Journal::open(&args.state.folder(&root))?;
    if let Some(why) = journal.why_all_foreign() {
        ui.say(format!("{} {why}; to resume one needs --workspace, and --reuse takes nothing", ui.style.warn("note:")));
    }
    let view = View::open(&session::workspace(args.workspace.as_ref(), &here))?;
    let run = RunId(uuid::Uuid::now_v7());
    let locks = session::lock(&journal, run, &view)?;
    let records = journal.records(&view.name())?;
    let (plan, own) = super::own::checked(plan, &project, &here, view.folder())?;
    // Nothing is removed for a run that can't begin.
    view.check_free(plan.paths().iter().map(String::as_str), &records)?;
    if args.clean {
        super::clean::clean(&journal, &view, &records, &own, ui)?;
    }

    let first = Fact::RunStarted(RunStarted {
        inputs,
        model: args.model.clone(),
        models: names,
        continue_on_error: args.continue_on_error,
        budget: args.budget.clone(),
        workflow_id: args.workflow_id.clone(),
        ..session::started((&root, &file), &project, &view, &plan)
    });
    let ready = Ready {
        journal: &journal,
        run,
        events: &[],
        locks: &locks,
        view,
        project: own,
        plan: &plan,
        models,
        gates: session::gates(&project),
        asker: None,
        exchange: exchange.clone(),
        reuse: args.reuse.then(|| Earlier::open(&journal)).transpose()?,
        trackers: Trackers::new(&project.settings.tracker, &resolve::variables(), &trusted),
        first: vec![first],
    };
    let state = runtime.block_on(session::execute(ready, ui))?;
    tell(&state, args.output, &printed_commands(journal.state(), &here, &ui.commands), ui)?;
    session::closed(&state, &exchange)
}

/// The user's agreement to what the run sends; recordings answer in place of providers, and only trackers are left.
fn trusted(args: &Args, project: &Project, here: &Path, ui: &Ui) -> Result<Trusted, CliError> {
    let tracker = &project.settings.tracker;
    if args.replay.is_some() && tracker.convex.is_none() && tracker.webhook.is_none() {
        return Ok(trust::not_needed());
    }
    trust::ensure(&session::places(project, here).0, &project.settings, &args.trust, ui)
}

/// What the flags say about exchanges with models.
fn exchange(args: &Args, root: &Path) -> Result<Exchange, CliError> {
    let recorder = args.record.as_deref().map(|folder| resolve::recorder(folder, root)).transpose()?;
    let replay = args.replay.as_deref().map(resolve::replay).transpose()?;
    Ok(Exchange { recorder, replay })
}

/// Inputs are recorded as they are given, so that a run can go on: keys have no place in them.
fn without_secrets(inputs: &Map<String, Value>, redactor: &Redactor) -> Result<(), CliError> {
    match inputs.iter().find(|(_, value)| redactor.finds_in(&value.to_string())) {
        None => Ok(()),
        Some((name, _)) => Err(CliError::could_not(format!("the input `{name}` holds a key, and inputs are recorded"))
            .hint("leave the key out; a command that needs one gets it with `env: [NAME]`")),
    }
}
