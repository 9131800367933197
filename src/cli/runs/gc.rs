//! `orch runs gc`: old runs go, and what no run uses any more.

use std::time::Duration;

use crate::cli::report::OutputFormat;
use crate::cli::ui::Ui;
use crate::cli::{State, here};
use crate::model::{RunId, RunStatus};
use crate::session::{ExitStatus, SessionError};
use crate::store::RunRow;

use super::delete::{Gone, delete};
use super::{journal, root};

/// Delete old runs, and what no run uses any more
///
/// With --keep and --older-than only runs go of which both are true: they are not among the
/// latest, and they ended so long ago. Runs that go on or wait for a person always stay.
/// Without either no run goes; what processes that died left behind does.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  orch runs gc --older-than 30d --dry-run\n  orch runs gc --keep 100 --older-than 7d --vacuum"
)]
pub(in crate::cli) struct RunsGcArgs {
    /// Keep the latest runs, so many of them
    #[arg(long, value_name = "COUNT")]
    keep: Option<usize>,

    /// Delete only runs that ended longer ago than this: `30d`, `12h`, `4w`
    #[arg(long, value_name = "TIME", value_parser = age)]
    older_than: Option<Duration>,

    /// Only say what would be deleted
    #[arg(long)]
    dry_run: bool,

    /// Give the space back to the disk; takes a while, and room for a copy of the journal
    #[arg(long, conflicts_with = "dry_run")]
    vacuum: bool,

    /// What goes to standard output
    #[arg(long, value_enum, default_value_t, value_name = "FORM")]
    output: OutputFormat,

    #[command(flatten)]
    state: State,
}

pub(super) fn run(args: &RunsGcArgs, ui: &Ui) -> Result<ExitStatus, SessionError> {
    let journal = journal(&args.state, &root(&here()?))?;
    let rows = journal.runs(usize::MAX)?;
    let old = choose(args, &rows, jiff::Timestamp::now());
    let runs: Vec<RunId> = old.iter().map(|row| row.run).collect();
    let mut gone = if args.dry_run { Gone { runs: runs.len(), ..Gone::default() } } else { delete(&journal, &runs)? };
    let swept = journal.sweep_all(!args.dry_run)?;
    gone.swept.blobs += swept.blobs;
    gone.swept.bytes += swept.bytes;
    if args.vacuum {
        journal.compact()?;
    }
    if args.output == OutputFormat::Json {
        ui.data(&format!("{:#}", gone.as_json(&runs, args.dry_run)))?;
        return Ok(ExitStatus::Success);
    }
    for row in old {
        let started = row.started.to_zoned(jiff::tz::TimeZone::system()).strftime("%Y-%m-%d %H:%M").to_string();
        ui.text(&format!(
            "{}  {started}  {:<11} {}",
            row.run,
            row.status.as_str(),
            crate::model::visible::one_line(&row.pipeline)
        ))?;
    }
    ui.say(gone.words(if args.dry_run { "would delete" } else { "deleted" }));
    if args.keep.is_none() && args.older_than.is_none() {
        ui.say("say which runs may go with --keep and --older-than");
    }
    Ok(ExitStatus::Success)
}

/// The runs that may go, the latest first.
fn choose<'a>(args: &RunsGcArgs, rows: &'a [RunRow], now: jiff::Timestamp) -> Vec<&'a RunRow> {
    if args.keep.is_none() && args.older_than.is_none() {
        return Vec::new();
    }
    let old = |row: &&RunRow| {
        let age = Duration::try_from(now.duration_since(row.ended.unwrap_or(row.started))).unwrap_or_default();
        args.older_than.is_none_or(|limit| age > limit)
    };
    let over = |row: &&RunRow| !matches!(row.status, RunStatus::Running | RunStatus::Waiting);
    rows.iter().skip(args.keep.unwrap_or(0)).filter(old).filter(over).collect()
}

/// A number with a unit: `s`, `m`, `h`, `d` or `w`.
fn age(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no time such as `30d`, `12h` or `4w`");
    let unit = text.chars().last().ok_or_else(wrong)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        'w' => 604_800,
        _ => return Err(wrong()),
    };
    let count: u64 = text.strip_suffix(unit).and_then(|digits| digits.parse().ok()).ok_or_else(wrong)?;
    count.checked_mul(seconds).map(Duration::from_secs).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_a_number_and_a_unit() {
        assert_eq!(age("30d"), Ok(Duration::from_hours(30 * 24)));
        assert_eq!(age("4w"), Ok(Duration::from_hours(28 * 24)));
        for text in ["", "d", "30", "3 d", "-1d", "30y", "99999999999999999d", "ä"] {
            assert!(age(text).is_err(), "{text}");
        }
    }
}
