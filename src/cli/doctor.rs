//! `orch doctor`.

mod probe;
mod programs;
mod providers;

use crate::session::execute::short_path;
use std::path::Path;

use crate::config;
use crate::model::visible::one_line;
use crate::store::Journal;
use crate::trust::Disclosures;

use super::ui::Ui;
use super::{State, runner, trust};
use crate::session::{ExitStatus, Runner, SessionError};

/// Say what is set up and what is missing
///
/// Looks at the project, the keys in the environment, model servers on this machine, agent programs, the
/// embedded model and the journal, and says what `model: auto` would be. Sends nothing outside this
/// machine unless --probe is given. Exit code 2 when something is set up that can't work.
#[derive(Debug, clap::Args)]
pub(super) struct DoctorArgs {
    /// Ask every model and agent program that seems usable one small question, which may cost a little
    #[arg(long)]
    probe: bool,

    #[command(flatten)]
    trust: trust::TrustArgs,

    #[command(flatten)]
    state: State,
}

/// What is told, a line each.
struct DoctorReport<'a> {
    ui: &'a Ui,
    bad: usize,
}

impl DoctorReport<'_> {
    /// Tells of one thing: good, bad, or neither.
    fn line(&mut self, ok: Option<bool>, name: &str, words: String) -> Result<(), SessionError> {
        let style = &self.ui.out_style;
        let mark = match ok {
            Some(true) => style.good("ok  "),
            Some(false) => style.bad("bad "),
            None => style.dim("-   "),
        };
        self.bad += usize::from(ok == Some(false));
        self.ui.text(&one_line(&format!("{mark} {name:<11} {words}")))
    }
}

pub(super) fn run(args: &DoctorArgs, ui: &Ui) -> Result<ExitStatus, SessionError> {
    let runner = runner(ui)?;
    let here = runner.current_dir();
    let root = super::runs::root(here);
    let mut report = DoctorReport { ui, bad: 0 };
    let system = format!("{} ({} {})", env!("CARGO_PKG_VERSION"), std::env::consts::OS, std::env::consts::ARCH);
    report.line(Some(true), "orch", system)?;
    let (pipelines, unread) = super::runs::pipelines(&root, here);
    let many = if pipelines.len() == 1 { "" } else { "s" };
    let words = format!("{} with {} pipeline{many}", root.display(), pipelines.len());
    let readable = !unread.iter().any(crate::diagnostic::Diagnostic::is_error);
    let words = if readable { words } else { format!("{words}; not all can be read, see above") };
    ui.findings(&unread);
    report.line(if readable { (!pipelines.is_empty()).then_some(true) } else { Some(false) }, "project", words)?;
    let settings = match config::load_settings(&short_path(&root, here)) {
        Ok(settings) => settings,
        Err(findings) => {
            ui.findings(&findings);
            report.line(Some(false), "orch.yaml", "it can't be used; see above".to_owned())?;
            config::Settings::default()
        }
    };
    let digest = args.trust.digest();
    let trusted = args.probe.then(|| runner.ensure_trusted(&root, &settings, digest.as_deref())).transpose()?;
    let models = runner.models(&root, &settings, trusted.as_ref());
    let known = providers::tell(&models, &settings, &mut report)?;
    providers::default_model(&models, &runner, &settings, &known, &mut report)?;
    disclosures(&root, &settings, &runner, &mut report)?;
    let usable = programs::tell(&pipelines, &runner, &mut report)?;
    #[cfg(feature = "local")]
    embedded(models.shelf(), &mut report)?;
    journal(&args.state.folder(&root), &mut report)?;
    if args.probe {
        probe::all(&models, &runner, &providers::to_probe(&models, &settings, &known), &usable, &mut report)?;
    }
    Ok(if report.bad == 0 { ExitStatus::Success } else { ExitStatus::Usage })
}

/// Tells what orch.yaml sends away, and whether the user agreed to it.
fn disclosures(
    root: &Path,
    settings: &config::Settings,
    runner: &Runner,
    report: &mut DoctorReport<'_>,
) -> Result<(), SessionError> {
    let disclosures = Disclosures::of(settings);
    let trusted = runner.is_trusted(root, &disclosures)?;
    for disclosure in disclosures.all() {
        let (ok, note) = match disclosure.needs_trust() {
            _ if disclosure.is_refused() => (Some(false), "; refused: it could be read on its way"),
            false => (None, ""),
            true if trusted => (Some(true), "; trusted"),
            true => (None, "; not trusted yet: `orch trust`"),
        };
        report.line(ok, "sends", format!("{disclosure}{note}"))?;
    }
    Ok(())
}

#[cfg(feature = "local")]
fn embedded(shelf: &crate::agent::Shelf, report: &mut DoctorReport<'_>) -> Result<(), SessionError> {
    for spec in local_llm::catalog::all() {
        let there = local_llm::weights::installed(&shelf.cache, spec).is_some();
        let state = if there { "here" } else { "not downloaded" };
        let words = format!("{} ({}), {state}", spec.title, crate::report::human::bytes(spec.bytes));
        report.line(there.then_some(true), "local", words)?;
    }
    for name in shelf.added() {
        let problem = shelf.problem(&name);
        let ok = problem.is_none();
        let words = problem.map_or_else(|| shelf.own_file(&name).display().to_string(), |problem| problem.message);
        report.line(Some(ok), "local", format!("local/{name}, added: {words}"))?;
    }
    Ok(())
}

fn journal(state: &Path, report: &mut DoctorReport<'_>) -> Result<(), SessionError> {
    match Journal::open_to_read(state) {
        Ok(None) => report.line(None, "journal", "no runs yet".to_owned()),
        Ok(Some(journal)) => match journal.integrity() {
            Ok(None) => {
                let count = journal.runs(usize::MAX)?.len();
                let runs = if count == 1 { "run" } else { "runs" };
                report.line(Some(true), "journal", format!("{count} {runs} in {}", journal.state().display()))
            }
            Ok(Some(what)) => report.line(Some(false), "journal", format!("damaged: {what}")),
            Err(error) => report.line(Some(false), "journal", error.to_string()),
        },
        Err(error) => {
            let hint = error.failure().hint.map(|hint| format!("; {hint}")).unwrap_or_default();
            report.line(Some(false), "journal", format!("{error}{hint}"))
        }
    }
}
