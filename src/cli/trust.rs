//! `orch trust`, and what every command asks that sends something by way of `orch.yaml`.

mod programs;

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::config::{self, Settings};
use crate::model::Digest;
use crate::model::visible::shown_path;
use crate::trust::{Disclosure, Disclosures, TrustLedger, TrustStatus};

use super::error::{CliError, Code};
use super::here;
use super::report::Output;
use super::ui::Ui;

/// Trust a project to send keys and runs where its orch.yaml says
///
/// Shows which environment variable orch.yaml sends to which address, and which programs the pipelines start,
/// and records that you agree. orch asks for this once for a project whose orch.yaml sends a key to a host that
/// is not the provider's own, names another variable than the provider's own, or has a tracker. The agreement
/// holds until one of these settings changes or the project moves.
///
/// In CI, give the digest that `orch trust --print` prints as `--trust DIGEST` or in ORCH_TRUST.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
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
    output: Output,
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
    /// The digest that was given; an empty one counts as none, as an unset variable of CI is empty.
    fn given(&self) -> Result<Option<&str>, CliError> {
        let Some(digest) = self.digest.as_deref().map(str::trim).filter(|digest| !digest.is_empty()) else {
            return Ok(None);
        };
        if digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Ok(Some(digest));
        }
        Err(CliError::could_not(format!("`{digest}`, given with --trust or ORCH_TRUST, is not a digest"))
            .hint("`orch trust --print` prints it: 64 hexadecimal digits"))
    }
}

/// Proof that the user agreed to what `orch.yaml` sends, or that it sends nothing that needs an agreement.
///
/// Only [`ensure`] makes one, and what opens connections with secrets asks for it.
#[derive(Debug)]
pub(super) struct Trusted(());

pub(super) fn run(args: &Args, ui: &Ui) -> Result<Code, CliError> {
    let here = here()?;
    let root = match &args.folder {
        Some(folder) => here.join(folder),
        None => super::runs::root(&here),
    };
    let root = root.canonicalize().map_err(|error| CliError::unread(&root, &error))?;
    let ledger = ledger();
    if args.revoke {
        let revoke = |ledger: TrustLedger| ledger.revoke(&root).map_err(|error| unusable(&ledger, &error));
        let revoked = ledger.map_or(Ok(false), revoke)?;
        let words = if revoked { "is no longer trusted" } else { "was not trusted" };
        ui.say(format!("{} {words}", shown_path(&root)));
        return Ok(Code::Ok);
    }
    let settings = config::load_settings(&super::session::given(&root, &here))?;
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
    if args.output == Output::Json {
        let trusted = is_trusted(&root, &disclosures)?;
        ui.data(&format!("{:#}", as_json(&root, &disclosures, trusted, &programs)))?;
        return Ok(Code::Ok);
    }
    show(&root, &disclosures, &programs, ui);
    match (&digest, args.print) {
        (None, _) => ui.say("nothing here needs an agreement"),
        (Some(digest), true) => ui.data(digest.as_str())?,
        (Some(digest), false) => {
            ui.say(format!("\n{} is trusted with this; in CI: `--trust {digest}`", shown_path(&root)));
        }
    }
    Ok(Code::Ok)
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

/// Makes sure that the user agreed to what the settings of a project send; asks on a terminal.
///
/// # Errors
/// The user did not agree (exit code 2), or a key would be sent without encryption and the file does not allow it.
pub(super) fn ensure(root: &Path, settings: &Settings, args: &TrustArgs, ui: &Ui) -> Result<Trusted, CliError> {
    let disclosures = Disclosures::of(settings);
    check_encryption(&disclosures)?;
    let Some(digest) = disclosures.digest() else { return Ok(Trusted(())) };
    let given = args.given()?;
    if given == Some(digest.as_str()) {
        return Ok(Trusted(()));
    }
    let status = status(root, &digest)?;
    if status == TrustStatus::Trusted {
        return Ok(Trusted(()));
    }
    let state = match status {
        TrustStatus::Changed => "changed since you trusted it",
        TrustStatus::Trusted | TrustStatus::Unknown => "is not trusted yet",
    };
    let lines: Vec<String> = disclosures.untrusted().map(|disclosure| format!("  {disclosure}")).collect();
    let what = lines.join("\n");
    if let Some(ledger) = ledger() {
        let question = format!("{} {state}. Its orch.yaml:\n{what}\nTrust it?", shown_path(root));
        if ui.ask(&question) == Some(true) {
            ledger.record(root, &digest).map_err(|error| unusable(&ledger, &error))?;
            return Ok(Trusted(()));
        }
    }
    let mut error = CliError::could_not(format!("this project {state}, and its orch.yaml:")).listing(lines);
    if given.is_some() {
        error = error.hint("the digest given with --trust or ORCH_TRUST is of other settings");
    }
    let target = if super::runs::root(&here()?) == root { String::new() } else { format!(" '{}'", root.display()) };
    Err(error
        .hint(format!("if you agree, run `orch trust{target}` once"))
        .hint(format!("or, in CI, give `--trust {digest}`")))
}

/// The proof for what sends nothing by way of `orch.yaml`: answers come from recordings and nothing follows the run.
pub(super) fn not_needed() -> Trusted {
    Trusted(())
}

/// Whether the user agreed to what orch.yaml sends, or nothing of it needs an agreement.
pub(super) fn is_trusted(root: &Path, disclosures: &Disclosures) -> Result<bool, CliError> {
    disclosures.digest().map_or(Ok(true), |digest| Ok(status(root, &digest)? == TrustStatus::Trusted))
}

fn status(root: &Path, digest: &Digest) -> Result<TrustStatus, CliError> {
    let Some(ledger) = ledger() else { return Ok(TrustStatus::Unknown) };
    ledger.status(root, digest).map_err(|error| unusable(&ledger, &error))
}

/// Refuses keys that anyone on the way could read, unless the file says that this is meant.
fn check_encryption(disclosures: &Disclosures) -> Result<(), CliError> {
    match disclosures.all().iter().find(|disclosure| disclosure.is_refused()) {
        None => Ok(()),
        Some(refused) => Err(CliError::could_not(format!("{refused}, where it can be read on its way"))
            .hint(format!("use https://, or set `insecure: true` under `{}` of orch.yaml", refused.key))),
    }
}

/// The user's agreements; `None` when there is no folder for them.
fn ledger() -> Option<TrustLedger> {
    configuration().map(|folder| TrustLedger::new(&folder))
}

/// The folder of the user's configuration: `$XDG_CONFIG_HOME/orch`, else `~/.config/orch` (on Windows, in the folder of
/// application data). `None` when the environment names no such folder.
pub(super) fn configuration() -> Option<PathBuf> {
    // A relative one would be wherever the program is started, as in a project.
    let variable = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let folder = variable("XDG_CONFIG_HOME")
        .or_else(|| variable("APPDATA"))
        .or_else(|| variable("HOME").map(|home| home.join(".config")))?;
    Some(folder.join("orch"))
}

fn no_configuration() -> CliError {
    CliError::could_not("there is no folder to record this in: neither XDG_CONFIG_HOME nor HOME is set")
        .hint("set HOME, or give `--trust DIGEST` to each command; `orch trust --print` prints the digest")
}

fn unusable(ledger: &TrustLedger, error: &std::io::Error) -> CliError {
    let folder = ledger.folder().display();
    CliError::could_not(format!("the record of trusted projects in `{folder}` can't be used: {error}"))
        .hint("remove a damaged file there and trust again, or set XDG_CONFIG_HOME to another folder")
}
