//! `orch runs track`: brings to the trackers what they have not got.

use crate::config;
use crate::model::RunId;
use crate::session::execute::short_path;
use crate::store::{Journal, Outbox};
use crate::track::{DeliveryReport, DeliveryStart, TrackerTarget, deliver};

use super::trust::TrustArgs;
use super::ui::Ui;
use super::{State, runner, runs, runtime};
use crate::session::trackers::{Trackers, events, missing};
use crate::session::{ExitStatus, SessionError};

/// Deliver runs to the trackers of orch.yaml
///
/// Brings what a tracker has not got yet, because it was away or refused it, in order. What it
/// has already is not sent again. Exit code 1 when something is left over.
#[derive(Debug, clap::Args)]
pub(super) struct TrackArgs {
    /// The run, by its id or the start of it; the latest one when left out
    #[arg(value_name = "RUN", conflicts_with = "all")]
    run: Option<String>,

    /// Every run that some tracker follows
    #[arg(long)]
    all: bool,

    /// Begin with the first event, for a tracker that has lost what it had
    #[arg(long)]
    again: bool,

    #[command(flatten)]
    trust: TrustArgs,

    #[command(flatten)]
    state: State,
}

pub(super) fn run(args: &TrackArgs, ui: &Ui) -> Result<ExitStatus, SessionError> {
    let runner = runner(ui)?;
    let here = runner.current_dir();
    let root = runs::root(here);
    let settings = config::load_settings(&short_path(&root, here))?;
    if settings.tracker.convex.is_none() && settings.tracker.webhook.is_none() {
        return Err(
            SessionError::usage("orch.yaml has no tracker").hint("add one under `tracker:`; see docs/tracking.md")
        );
    }
    let trusted = runner.ensure_trusted(&root, &settings, args.trust.digest().as_deref())?;
    let trackers = Trackers::new(&settings.tracker, &runner.environment.variables(), &trusted);
    let journal = runs::journal(&args.state, &root)?;
    let list = which(args, &journal)?;
    crate::network::prepare_tls();
    let runtime = runtime()?;
    let begin = if args.again { DeliveryStart::Anew } else { DeliveryStart::Refused };
    let not = |run, name, why: &str| ui.text(&format!("{run}  {name:<8} {}: {why}", ui.out_style.bad("not delivered")));
    let (mut complete, mut away) = (true, Vec::new());
    for run in list {
        for target in &trackers.targets {
            // Who did not take one run is not waited for with every other.
            if away.contains(&target.name()) {
                not(run, target.name(), "it is away")?;
                continue;
            }
            let report = runtime.block_on(deliver(journal.state(), run, target, begin, jiff::Timestamp::now));
            complete &= tell(run, target, &report, ui)?;
            away.extend(report.away.then_some(target.name()));
        }
        for (name, why) in &trackers.off {
            not(run, name, why)?;
            complete = false;
        }
    }
    Ok(if complete { ExitStatus::Success } else { ExitStatus::Failed })
}

fn which(args: &TrackArgs, journal: &Journal) -> Result<Vec<RunId>, SessionError> {
    if args.all {
        return Ok(Outbox::open(journal.state())?.runs()?);
    }
    let row = match &args.run {
        Some(name) => runs::find(journal, name)?,
        None => journal.runs(1)?.into_iter().next().ok_or_else(|| SessionError::usage("there are no runs yet"))?,
    };
    Ok(vec![row.run])
}

/// Says what was done; whether nothing is left over.
fn tell(run: RunId, target: &TrackerTarget, report: &DeliveryReport, ui: &Ui) -> Result<bool, SessionError> {
    let words = match (report.is_complete(), report.delivered) {
        (true, 0) => "nothing to deliver".to_owned(),
        (true, count) => format!("{} delivered", events(count)),
        (false, count) => format!("{} delivered; {}", events(count), ui.out_style.bad(missing(report))),
    };
    ui.text(&format!("{run}  {:<8} {words}", target.name()))?;
    Ok(report.is_complete())
}
