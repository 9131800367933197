//! `orch trust`.

mod actions;

use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::json;

use crate::cli::args::OutputFormat;
use crate::cli::output::Ui;
use crate::cli::startup::{current_dir, runner};
use crate::model::visible::path_for_display;
use crate::runner::passed_variables::project_variables;
use crate::runner::project_state::{project_root, project_settings};
use crate::runner::trust::{check_encryption, ledger_error};
use crate::runner::{ExitStatus, RunnerError};
use crate::trust::{Disclosures, TrustLedger, VariableDisclosures};

use actions::{ListedAction, ProjectActions};

/// The mark of a risky line. It is a word, because colours may be off.
const RISK: &str = "risk";
/// What the mark means.
const RISKS: &str = "what needs your agreement; programs and tools that have no sandbox, may run below the level \
                     `full`, reach every host, or get variables of your environment; and pipelines that orch can't read.";

/// Trust a project to send keys and runs to the addresses in its orch.yaml
///
/// Shows which environment variables orch.yaml sends to which addresses, what its MCP servers may do,
/// and which variables its pipelines pass to programs, and records that you agree. Also lists the
/// programs that the project starts, and the tools with which it reaches hosts and servers. orch
/// requires this once for a project whose orch.yaml sends a key to a host other than the provider's
/// own, reads a key from another variable, has a tracker, loosens the sandbox of programs, or names MCP
/// servers, and for a run that passes variables to confined programs (`env:`) and can send data to
/// other machines. The agreement is valid until one of these settings changes, a variable is added, or
/// the project moves.
///
/// In CI, pass the digest from `orch trust --print` as `--trust DIGEST` or in ORCH_TRUST.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct TrustCommandArgs {
    /// The folder of the project [default: the project of the current folder]
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,

    /// Print the digest of these settings and do not record an agreement
    #[arg(long)]
    print: bool,

    /// Withdraw an earlier agreement
    #[arg(long, conflicts_with = "print")]
    revoke: bool,

    /// The output format
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT", conflicts_with = "revoke")]
    output: OutputFormat,
}

pub(in crate::cli) fn run(args: &TrustCommandArgs, ui: &Ui) -> Result<ExitStatus> {
    let current_dir = current_dir()?;
    let root = match &args.folder {
        Some(folder) => current_dir.join(folder),
        None => project_root(&current_dir),
    };
    let root = root.canonicalize().map_err(|error| RunnerError::unreadable(&root, &error))?;
    let runner = runner(ui)?;
    let ledger = runner.trust_ledger();
    if args.revoke {
        let revoke = |ledger: TrustLedger| ledger.revoke(&root).map_err(|error| ledger_error(&ledger, &error));
        let was_trusted = ledger.map_or(Ok(false), revoke)?;
        let status = if was_trusted { "is no longer trusted" } else { "was not trusted" };
        ui.print_message(format!("{} {status}", path_for_display(&root)));
        return Ok(ExitStatus::Success);
    }
    let settings = project_settings(&root, &current_dir).map_err(RunnerError::with_findings)?;
    let disclosures = Disclosures::from_settings(&settings);
    check_encryption(&disclosures)?;
    let variables = project_variables(&root, &current_dir);
    let digest = disclosures.digest_with(&variables.names());
    let actions = ProjectActions::find(&root, &current_dir, &settings, ui);
    if !args.print && digest.is_some() {
        let ledger = ledger.ok_or_else(no_config_dir_error)?;
        let recorded = ledger.record(&root, disclosures.digest().as_ref(), &variables.names());
        recorded.map_err(|error| ledger_error(&ledger, &error))?;
    }
    if args.output == OutputFormat::Json {
        let json = json!({
            "root": root.display().to_string(),
            "digest": digest,
            "trusted": runner.is_trusted(&root, &disclosures, &variables)?,
            "disclosures": disclosures.to_json(),
            "variables": variables.to_json(),
            "programs": texts(&actions.programs),
            "tools": texts(&actions.tools),
        });
        ui.write_data(&format!("{json:#}"))?;
        return Ok(ExitStatus::Success);
    }
    print_disclosures(&root, &disclosures, &variables, &actions, ui);
    match (&digest, args.print) {
        (None, _) => ui
            .print_message("orch.yaml requires no agreement, and the pipelines pass no variables to confined programs"),
        (Some(digest), true) => ui.write_data(digest.as_str())?,
        (Some(digest), false) => {
            ui.print_message(format!(
                "\n{} is trusted with these settings; in CI, use `--trust {digest}`",
                path_for_display(&root)
            ));
        }
    }
    Ok(ExitStatus::Success)
}

/// Prints the data that orch sends to other machines because of orch.yaml, what its sandbox allows beyond the defaults,
/// the variables that the pipelines pass to confined programs, and the programs that they start.
fn print_disclosures(
    root: &Path,
    disclosures: &Disclosures,
    variables: &VariableDisclosures,
    actions: &ProjectActions,
    ui: &Ui,
) {
    let is_risky = |actions: &[ListedAction]| actions.iter().any(|action| action.is_risky);
    let needs_agreement = !variables.is_empty() || disclosures.needing_agreement().next().is_some();
    if needs_agreement || is_risky(&actions.programs) || is_risky(&actions.tools) {
        ui.print_message(format!("{} marks {RISKS}\n", ui.stderr_style.warning(RISK)));
    }
    if !disclosures.all().is_empty() {
        ui.print_message(format!("orch.yaml of {}:", path_for_display(root)));
    }
    for disclosure in disclosures.all() {
        print_line(disclosure.needs_trust(), &disclosure.to_string(), ui);
    }
    if !variables.is_empty() {
        ui.print_message(
            "\nIts pipelines pass environment variables to confined programs, which could send their values to every host \
             and model that a run reaches:",
        );
    }
    for disclosure in variables.all() {
        print_line(true, &disclosure.to_string(), ui);
    }
    for (heading, listed) in [
        (
            "This project starts these programs. Without a sandbox, a program runs with all your rights:",
            &actions.programs,
        ),
        ("Its models and steps reach hosts and MCP servers with these tools:", &actions.tools),
    ] {
        if !listed.is_empty() {
            ui.print_message(format!("\n{heading}"));
        }
        for action in listed {
            print_line(action.is_risky, &action.text, ui);
        }
    }
}

/// Prints a line of the list, with the mark if it is risky.
fn print_line(is_risky: bool, text: &str, ui: &Ui) {
    let mark = if is_risky { ui.stderr_style.warning(RISK) } else { " ".repeat(RISK.len()) };
    ui.print_row(&format!("  {mark}  "), text);
}

fn texts(actions: &[ListedAction]) -> Vec<&str> {
    actions.iter().map(|action| action.text.as_str()).collect()
}

fn no_config_dir_error() -> RunnerError {
    RunnerError::usage("orch has no folder to record the agreement in: neither XDG_CONFIG_HOME nor HOME is set")
        .with_hint("set HOME, or pass `--trust DIGEST` to each command; `orch trust --print` prints the digest")
}
