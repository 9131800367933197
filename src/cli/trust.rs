//! `orch trust`, and what every command asks that sends something by way of `orch.yaml`.

mod programs;

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::config;
use crate::model::visible::shown_path;
use crate::trust::{Disclosure, Disclosures, TrustLedger};

use super::here;
use super::report::OutputFormat;
use super::ui::Ui;
use crate::session::execute::short_path;
use crate::session::trust::{check_encryption, unusable};
use crate::session::{ExitStatus, SessionError};

/// Trust a project to send keys and runs where its orch.yaml says
///
/// Shows which environment variable orch.yaml sends to which address, and which programs the pipelines start,
/// and records that you agree. orch asks for this once for a project whose orch.yaml sends a key to a host that
/// is not the provider's own, names another variable than the provider's own, or has a tracker. The agreement
/// holds until one of these settings changes or the project moves.
///
/// In CI, give the digest that `orch trust --print` prints as `--trust DIGEST` or in ORCH_TRUST.
#[derive(Debug, clap::Args)]
pub(super) struct TrustCommandArgs {
    /// The project's folder; the project of the current folder when left out
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,

    /// Show what would be trusted and print its digest; record nothing
    #[arg(long)]
    print: bool,

    /// Take an earlier agreement back
    #[arg(long, conflicts_with = "print")]
    revoke: bool,

    /// What goes to standard output
    #[arg(long, value_enum, default_value_t, value_name = "FORM", conflicts_with = "revoke")]
    output: OutputFormat,
}

/// The name of the argument that holds a digest.
pub(super) const DIGEST: &str = "trust_digest";

/// The agreement on the command line of commands that send something.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct TrustArgs {
    /// Trust orch.yaml to send keys and runs away while its digest is this one; see `orch trust --print`
    #[arg(id = DIGEST, long = "trust", value_name = "DIGEST", env = "ORCH_TRUST", hide_env_values = true)]
    digest: Option<String>,
}

impl TrustArgs {
    /// The digest that was given.
    pub(super) fn digest(&self) -> Option<String> {
        self.digest.clone()
    }
}

pub(super) fn run(args: &TrustCommandArgs, ui: &Ui) -> Result<ExitStatus, SessionError> {
    let here = here()?;
    let root = match &args.folder {
        Some(folder) => here.join(folder),
        None => super::runs::root(&here),
    };
    let root = root.canonicalize().map_err(|error| SessionError::unreadable(&root, &error))?;
    let runner = super::runner(ui)?;
    let ledger = runner.trust_ledger();
    if args.revoke {
        let revoke = |ledger: TrustLedger| ledger.revoke(&root).map_err(|error| unusable(&ledger, &error));
        let revoked = ledger.map_or(Ok(false), revoke)?;
        let words = if revoked { "is no longer trusted" } else { "was not trusted" };
        ui.say(format!("{} {words}", shown_path(&root)));
        return Ok(ExitStatus::Success);
    }
    let settings = config::load_settings(&short_path(&root, &here))?;
    let disclosures = Disclosures::of(&settings);
    check_encryption(&disclosures)?;
    let digest = disclosures.digest();
    let programs = programs::started(&root, &here, ui);
    if !args.print
        && let Some(digest) = &digest
    {
        let ledger = ledger.ok_or_else(no_configuration)?;
        ledger.record(&root, digest).map_err(|error| unusable(&ledger, &error))?;
    }
    if args.output == OutputFormat::Json {
        let trusted = runner.is_trusted(&root, &disclosures)?;
        ui.data(&format!("{:#}", as_json(&root, &disclosures, trusted, &programs)))?;
        return Ok(ExitStatus::Success);
    }
    show(&root, &disclosures, &programs, ui);
    match (&digest, args.print) {
        (None, _) => ui.say("nothing here needs an agreement"),
        (Some(digest), true) => ui.data(digest.as_str())?,
        (Some(digest), false) => {
            ui.say(format!("\n{} is trusted with this; in CI: `--trust {digest}`", shown_path(&root)));
        }
    }
    Ok(ExitStatus::Success)
}

/// Shows what leaves the machine, and which programs the pipelines start.
fn show(root: &Path, disclosures: &Disclosures, programs: &[String], ui: &Ui) {
    if !disclosures.all().is_empty() {
        ui.say(format!("orch.yaml of {}:", shown_path(root)));
    }
    for disclosure in disclosures.all() {
        let mark = if disclosure.needs_trust() { ui.style.warn("!") } else { " ".to_owned() };
        ui.say(format!(" {mark} {disclosure}"));
    }
    if !programs.is_empty() {
        ui.say("\nIts pipelines start these programs, with your rights, as a Makefile would:");
        for program in programs {
            ui.say(format!("   {program}"));
        }
    }
}

fn as_json(root: &Path, disclosures: &Disclosures, trusted: bool, programs: &[String]) -> Value {
    json!({
        "root": root.display().to_string(),
        "digest": disclosures.digest(),
        "trusted": trusted,
        "disclosures": list(disclosures),
        "programs": programs,
    })
}

/// The disclosures as JSON, in the order of the file.
pub(super) fn list(disclosures: &Disclosures) -> Value {
    disclosures.all().iter().map(Disclosure::to_json).collect()
}

fn no_configuration() -> SessionError {
    SessionError::usage("there is no folder to record this in: neither XDG_CONFIG_HOME nor HOME is set")
        .hint("set HOME, or give `--trust DIGEST` to each command; `orch trust --print` prints the digest")
}
