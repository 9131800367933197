//! `orch runs gc`: deletes old runs and unused data.

use std::time::Duration;

use anyhow::Result;

use crate::cli::args::{OutputFormat, StateArgs};
use crate::cli::output::Ui;
use crate::cli::startup::current_dir;
use crate::model::{RunId, RunStatus};
use crate::runner::ExitStatus;
use crate::runner::project_state::project_root;
use crate::store::RunRow;

use super::delete::{DeletedRuns, delete_runs};
use super::open_journal;

/// Delete old runs and unused data
///
/// If you pass both --keep and --older-than, orch deletes only the runs that match both options. Without these options,
/// it deletes no runs. orch never deletes runs that are in progress or wait for an approval. It always deletes data
/// that no run uses.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  orch runs gc --older-than 30d --dry-run\n  orch runs gc --keep 100 --older-than 7d --vacuum"
)]
pub(in crate::cli) struct RunsGcArgs {
    /// Delete all runs except for this many of the latest runs
    #[arg(long, value_name = "COUNT")]
    keep: Option<usize>,

    /// Delete only runs that ended longer ago than this: `30d`, `12h`, `4w`
    #[arg(long, value_name = "DURATION", value_parser = parse_age)]
    older_than: Option<Duration>,

    /// Only show what orch would delete
    #[arg(long)]
    dry_run: bool,

    /// Return the freed space to the disk; this takes time, and space for a copy of the journal
    #[arg(long, conflicts_with = "dry_run")]
    vacuum: bool,

    /// The output format
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    output: OutputFormat,

    #[command(flatten)]
    state: StateArgs,
}

pub(super) fn run(args: &RunsGcArgs, ui: &Ui) -> Result<ExitStatus> {
    let journal = open_journal(&args.state, &project_root(&current_dir()?))?;
    let rows = journal.runs(usize::MAX)?;
    let selected_rows = select_runs(args, &rows, jiff::Timestamp::now());
    let runs: Vec<RunId> = selected_rows.iter().map(|row| row.run).collect();
    let mut summary = if args.dry_run {
        DeletedRuns { runs: runs.len(), ..DeletedRuns::default() }
    } else {
        delete_runs(&journal, &runs)?
    };
    let unused = journal.collect_garbage(!args.dry_run)?;
    summary.removed_blobs.blobs += unused.blobs;
    summary.removed_blobs.bytes += unused.bytes;
    if args.vacuum {
        journal.compact()?;
    }
    if args.output == OutputFormat::Json {
        ui.write_data(&format!("{:#}", summary.to_json(&runs, args.dry_run)))?;
        return Ok(ExitStatus::Success);
    }
    for row in selected_rows {
        let started = row.started.to_zoned(jiff::tz::TimeZone::system()).strftime("%Y-%m-%d %H:%M").to_string();
        let columns = format!("{}  {started}  {:<11} ", row.run, row.status.as_str());
        ui.write_row(&columns, &crate::model::visible::escape_line_breaks(&row.pipeline))?;
    }
    ui.print_message(summary.describe(if args.dry_run { "would delete" } else { "deleted" }));
    if args.keep.is_none() && args.older_than.is_none() {
        ui.print_message("to delete runs, use --keep or --older-than");
    }
    Ok(ExitStatus::Success)
}

/// Selects the runs to delete, the latest first.
fn select_runs<'a>(args: &RunsGcArgs, rows: &'a [RunRow], now: jiff::Timestamp) -> Vec<&'a RunRow> {
    if args.keep.is_none() && args.older_than.is_none() {
        return Vec::new();
    }
    let is_old = |row: &&RunRow| {
        let age = Duration::try_from(now.duration_since(row.ended.unwrap_or(row.started))).unwrap_or_default();
        args.older_than.is_none_or(|limit| age > limit)
    };
    let has_ended = |row: &&RunRow| !matches!(row.status, RunStatus::Running | RunStatus::Waiting);
    rows.iter().skip(args.keep.unwrap_or(0)).filter(is_old).filter(has_ended).collect()
}

/// Parses a number followed by a unit: `s`, `m`, `h`, `d` or `w`.
fn parse_age(text: &str) -> Result<Duration, String> {
    let invalid = || format!("`{text}` is not a duration such as `30d`, `12h` or `4w`");
    let unit = text.chars().last().ok_or_else(invalid)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        'w' => 604_800,
        _ => return Err(invalid()),
    };
    let count: u64 = text.strip_suffix(unit).and_then(|digits| digits.parse().ok()).ok_or_else(invalid)?;
    count.checked_mul(seconds).map(Duration::from_secs).ok_or_else(invalid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_has_a_number_and_a_unit() {
        assert_eq!(parse_age("30d"), Ok(Duration::from_hours(30 * 24)));
        assert_eq!(parse_age("4w"), Ok(Duration::from_hours(28 * 24)));
        for text in ["", "d", "30", "3 d", "-1d", "30y", "99999999999999999d", "ä"] {
            assert!(parse_age(text).is_err(), "{text}");
        }
    }
}
