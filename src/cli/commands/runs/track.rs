//! `orch runs track`: delivers the undelivered events of runs to the trackers.

use anyhow::Result;

use crate::cli::args::{StateArgs, TrustArgs};
use crate::cli::output::Ui;
use crate::cli::startup::{runner, runtime};
use crate::model::RunId;
use crate::runner::project_state::{project_root, project_settings};
use crate::runner::trackers::{Trackers, delivery_message, format_event_count};
use crate::runner::{ExitStatus, RunnerError};
use crate::store::{Journal, Outbox};
use crate::track::{DeliveryReport, DeliveryStart, TrackerTarget, deliver};
use crate::trust::VariableDisclosures;

use super::{find_run_or_latest, open_journal};

/// Deliver runs to the trackers of orch.yaml
///
/// orch sends each tracker, in order, the events that it has not received. If the tracker refused an event, orch sends
/// that event and all later ones again. The exit code is 1 if some events are still undelivered.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct TrackArgs {
    /// The ID of the run, or the start of it [default: the latest run]
    #[arg(value_name = "RUN", conflicts_with = "all")]
    run: Option<String>,

    /// Deliver every tracked run
    #[arg(long)]
    all: bool,

    /// Start with the first event, for a tracker that has lost its data
    #[arg(long)]
    again: bool,

    #[command(flatten)]
    trust: TrustArgs,

    #[command(flatten)]
    state: StateArgs,
}

pub(super) fn run(args: &TrackArgs, ui: &Ui) -> Result<ExitStatus> {
    let runner = runner(ui)?;
    let current_dir = runner.current_dir();
    let root = project_root(current_dir);
    let settings = project_settings(&root, current_dir).map_err(RunnerError::with_findings)?;
    if settings.tracker.convex.is_none() && settings.tracker.webhook.is_none() {
        let error = RunnerError::usage("orch.yaml has no tracker");
        return Err(error.with_hint("add one under `tracker:`; see docs/tracking.md").into());
    }
    // The command starts no program.
    let variables = VariableDisclosures::default();
    let trusted = runner.ensure_trusted(&root, &settings, &variables, args.trust.digest().as_deref())?;
    let trackers = Trackers::new(&settings.tracker, &runner.environment.variable_lookup(), &trusted);
    let journal = open_journal(&args.state, &root)?;
    let run_ids = select_runs(args, &journal)?;
    crate::network::install_tls_provider();
    let runtime = runtime()?;
    let start = if args.again { DeliveryStart::FirstEvent } else { DeliveryStart::FirstRefused };
    let print_failure = |run, name, reason: &str| {
        ui.write_row(&format!("{run}  {name:<8} "), &format!("{}: {reason}", ui.stdout_style.error("not delivered")))
    };
    let (mut is_complete, mut unreachable) = (true, Vec::new());
    for run in run_ids {
        for target in &trackers.targets {
            // Try an unreachable tracker only once.
            if unreachable.contains(&target.name()) {
                print_failure(run, target.name(), "it is unreachable")?;
                continue;
            }
            let report = runtime.block_on(deliver(journal.state_folder(), run, target, start, jiff::Timestamp::now));
            is_complete &= print_report(run, target, &report, ui)?;
            unreachable.extend(report.gave_up.then_some(target.name()));
        }
        for (name, reason) in &trackers.unusable {
            print_failure(run, name, reason)?;
            is_complete = false;
        }
    }
    Ok(if is_complete { ExitStatus::Success } else { ExitStatus::Failed })
}

fn select_runs(args: &TrackArgs, journal: &Journal) -> Result<Vec<RunId>> {
    if args.all {
        return Ok(Outbox::open(journal.state_folder())?.runs()?);
    }
    Ok(vec![find_run_or_latest(journal, args.run.as_deref())?.run])
}

/// Prints the result of a delivery, and returns whether it is complete.
fn print_report(run: RunId, target: &TrackerTarget, report: &DeliveryReport, ui: &Ui) -> Result<bool> {
    let status = match (report.is_complete(), report.delivered) {
        (true, 0) => "nothing to deliver".to_owned(),
        (true, count) => format!("{} delivered", format_event_count(count)),
        (false, count) => {
            format!("{} delivered; {}", format_event_count(count), ui.stdout_style.error(delivery_message(report)))
        }
    };
    ui.write_row(&format!("{run}  {:<8} ", target.name()), &status)?;
    Ok(report.is_complete())
}
