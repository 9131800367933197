//! `orch doctor`.

mod cli_agents;
mod probe;
mod providers;

use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use crate::cli::args::{StateArgs, TrustArgs, parse_time_limit};
use crate::cli::output::Ui;
use crate::cli::startup::{runner, runtime};
use crate::config;
use crate::model::visible::escape_line_breaks;
use crate::model::{HumanDuration, McpServerSpec, McpTransport, SandboxLevel, counted};
use crate::runner::passed_variables::project_variables_needing_agreement;
use crate::runner::prepare::mcp_servers;
use crate::runner::project_state::{pipeline_files, project_root, project_settings};
use crate::runner::{ExitStatus, Runner};
use crate::store::Journal;
use crate::trust::{Disclosures, VariableDisclosures};

/// Show what is set up and what is missing
///
/// Checks the project, the keys in the environment, model servers on this machine, CLI agents, the embedded model and
/// the journal, lists the MCP servers without starting them, and shows which model `model: auto` selects. Sends nothing
/// outside this machine unless you pass --probe. The exit code is 2 if something is broken.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct DoctorArgs {
    /// Send a small question to every provider and CLI agent that seems usable, and ask models to call a tool; this may
    /// cost a little
    #[arg(long)]
    probe: bool,

    /// How long each server, program and CLI agent may take to answer, such as `90s` or `5m`
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = parse_time_limit)]
    timeout: HumanDuration,

    #[command(flatten)]
    trust: TrustArgs,

    #[command(flatten)]
    state: StateArgs,
}

/// Prints a line for each check, and counts the problems.
struct DoctorReport<'a> {
    ui: &'a Ui,
    problem_count: usize,
    /// How long each server, program and CLI agent may take to answer.
    timeout: Duration,
}

impl DoctorReport<'_> {
    /// Prints the result of a check. `is_ok` is `None` if the result is neither good nor bad.
    fn print_check(&mut self, is_ok: Option<bool>, name: &str, text: String) -> Result<()> {
        let style = &self.ui.stdout_style;
        let label = match is_ok {
            Some(true) => style.success("ok  "),
            Some(false) => style.error("bad "),
            None => style.dim("-   "),
        };
        self.problem_count += usize::from(is_ok == Some(false));
        self.ui.write_row(&escape_line_breaks(&format!("{label} {name:<11} ")), &escape_line_breaks(&text))
    }
}

pub(in crate::cli) fn run(args: &DoctorArgs, ui: &Ui) -> Result<ExitStatus> {
    let runner = runner(ui)?;
    let current_dir = runner.current_dir();
    let root = project_root(current_dir);
    let mut report = DoctorReport { ui, problem_count: 0, timeout: args.timeout.0 };
    let version = format!("{} ({} {})", env!("CARGO_PKG_VERSION"), std::env::consts::OS, std::env::consts::ARCH);
    report.print_check(Some(true), "orch", version)?;
    let (pipelines, findings) = pipeline_files(&root, current_dir);
    let summary = format!("{} with {}", root.display(), counted(pipelines.len(), "pipeline"));
    let is_readable = !findings.iter().any(crate::diagnostic::Diagnostic::is_error);
    let summary = if is_readable { summary } else { format!("{summary}; orch can't read all of them, see above") };
    ui.print_findings(&findings);
    report.print_check(
        if is_readable { (!pipelines.is_empty()).then_some(true) } else { Some(false) },
        "project",
        summary,
    )?;
    let settings = match project_settings(&root, current_dir) {
        Ok(settings) => settings,
        Err(findings) => {
            ui.print_findings(&findings);
            report.print_check(Some(false), "orch.yaml", "orch can't use it; see above".to_owned())?;
            config::Settings::default()
        }
    };
    let digest = args.trust.digest();
    let ensure_trusted = || {
        let variables = project_variables_needing_agreement(&root, current_dir);
        runner.ensure_trusted(&root, &settings, &variables, digest.as_deref())
    };
    let trusted = args.probe.then(ensure_trusted).transpose()?;
    let registry = runner.model_registry(&root, &settings, trusted.as_ref());
    let providers = providers::report_providers(&registry, &settings, &mut report)?;
    providers::report_default_model(&registry, &runner, &settings, &providers, &mut report)?;
    report_disclosures(&root, &settings, &runner, &mut report)?;
    report_mcp_servers(&root, &settings, &runner, &mut report)?;
    report_sandbox(&runner, &mut report)?;
    let cli_agents = cli_agents::report_cli_agents(&pipelines, &settings, &runner, &mut report)?;
    #[cfg(feature = "local")]
    report_embedded_models(registry.local_models(), &mut report)?;
    report_journal(&args.state.folder(&root), &mut report)?;
    if args.probe {
        probe::probe_all(
            &registry,
            &runner,
            &providers::models_to_probe(&registry, &settings, &providers),
            &cli_agents,
            &mut report,
        )?;
    }
    Ok(if report.problem_count == 0 { ExitStatus::Success } else { ExitStatus::Usage })
}

/// Reports the data that orch sends to other machines because of orch.yaml, the variables that the pipelines pass to
/// confined programs, and whether the user agreed to this.
fn report_disclosures(
    root: &Path,
    settings: &config::Settings,
    runner: &Runner,
    report: &mut DoctorReport<'_>,
) -> Result<()> {
    let disclosures = Disclosures::from_settings(settings);
    let is_trusted = runner.is_trusted(root, &disclosures, &VariableDisclosures::default())?;
    for disclosure in disclosures.all() {
        let (is_ok, note) = match disclosure.needs_trust() {
            _ if disclosure.is_refused() => (Some(false), "; refused: the connection is not encrypted"),
            false => (None, ""),
            true if is_trusted => (Some(true), "; trusted"),
            true => (None, "; not trusted yet: `orch trust`"),
        };
        report.print_check(is_ok, disclosure.label(), format!("{disclosure}{note}"))?;
    }
    let variables = project_variables_needing_agreement(root, runner.current_dir());
    let is_trusted = runner.is_trusted(root, &disclosures, &variables)?;
    let (is_ok, note) = if is_trusted { (Some(true), "; trusted") } else { (None, "; not trusted yet: `orch trust`") };
    variables.all().iter().try_for_each(|variables| report.print_check(is_ok, "passes", format!("{variables}{note}")))
}

/// Lists the MCP servers in orch.yaml, and what they need and this machine lacks. Starts and calls none, because a server
/// can be any program.
fn report_mcp_servers(
    root: &Path,
    settings: &config::Settings,
    runner: &Runner,
    report: &mut DoctorReport<'_>,
) -> Result<()> {
    let runtime = runtime()?;
    for spec in mcp_servers(settings).values() {
        let McpServerSpec { name, transport, .. } = spec;
        let transport = match transport {
            McpTransport::Stdio { command, .. } => format!("command `{}`, not started", command.join(" ")),
            McpTransport::Http { url, .. } => format!("at {url}, not called"),
        };
        let text = format!("{name}: {transport}; `orch tools list --server {name}` lists its tools");
        report.print_check(None, "mcp", text)?;
        let hidden = runtime.block_on(runner.hidden_server(spec, root));
        for missing in runner.missing_for_servers([spec], root).into_iter().chain(hidden) {
            report.print_check(None, "mcp", missing.message)?;
        }
    }
    Ok(())
}

/// Reports the level at which this machine can confine programs, and why stronger levels do not work.
fn report_sandbox(runner: &Runner, report: &mut DoctorReport<'_>) -> Result<()> {
    let machine = match runtime()?.block_on(runner.sandbox_probe.machine()) {
        Ok(machine) => machine,
        Err(failure) => return report.print_check(Some(false), "sandbox", failure.message),
    };
    let landlock = if machine.landlock() > 0 { format!(", Landlock {}", machine.landlock()) } else { String::new() };
    let is_full = machine.level() == SandboxLevel::Full;
    let unenforced = if is_full { machine.unenforced() } else { &[] };
    let unenforced: String = unenforced.iter().map(|sentence| format!("; {sentence}")).collect();
    let text = format!("this machine reaches the level `{}`{landlock}{unenforced}", machine.level());
    report.print_check(is_full.then_some(true), "sandbox", text)?;
    machine.obstacles().into_iter().try_for_each(|obstacle| report.print_check(None, "sandbox", obstacle))
}

#[cfg(feature = "local")]
fn report_embedded_models(local_models: &crate::agent::LocalModels, report: &mut DoctorReport<'_>) -> Result<()> {
    for spec in local_llm::catalog::all() {
        let is_installed = local_llm::weights::installed_path(&local_models.cache, spec).is_some();
        let state = if is_installed { "downloaded" } else { "not downloaded" };
        let description = format!("{} ({}), {state}", spec.title, crate::report::human::format_bytes(spec.bytes));
        report.print_check(is_installed.then_some(true), "local", description)?;
    }
    for name in local_models.added_names() {
        let problem = local_models.file_problem(&name);
        let is_ok = problem.is_none();
        let description =
            problem.map_or_else(|| local_models.own_model_path(&name).display().to_string(), |problem| problem.message);
        report.print_check(Some(is_ok), "local", format!("local/{name} (added): {description}"))?;
    }
    Ok(())
}

fn report_journal(state_folder: &Path, report: &mut DoctorReport<'_>) -> Result<()> {
    match Journal::open_read_only(state_folder) {
        Ok(None) => report.print_check(None, "journal", "no runs yet".to_owned()),
        Ok(Some(journal)) => match journal.quick_check() {
            Ok(None) => {
                let count = journal.runs(usize::MAX)?.len();
                let runs = if count == 1 { "run" } else { "runs" };
                report.print_check(
                    Some(true),
                    "journal",
                    format!("{count} {runs} in {}", journal.state_folder().display()),
                )
            }
            Ok(Some(damage)) => report.print_check(Some(false), "journal", format!("damaged: {damage}")),
            Err(error) => report.print_check(Some(false), "journal", error.to_string()),
        },
        Err(error) => {
            let hint = error.failure().hint.map(|hint| format!("; {hint}")).unwrap_or_default();
            report.print_check(Some(false), "journal", format!("{error}{hint}"))
        }
    }
}
