//! Checks that the user agreed to the data that orch sends to other machines because of a project's `orch.yaml`.

use std::path::Path;

use crate::config::Settings;
use crate::model::Digest;
use crate::model::visible::path_for_display;
use crate::trust::{Disclosures, TrustLedger, TrustStatus};

use super::Runner;
use super::error::SessionError;
use super::project_state::project_root;

/// A proof that the user agreed to the disclosures in `orch.yaml`, or that the run needs no agreement.
///
/// Functions that send secrets require this proof. Only [`Runner::ensure_trusted`] and [`Trusted::not_needed`] create
/// it.
#[derive(Debug)]
pub(crate) struct Trusted(());

impl Trusted {
    /// Creates the proof for a run that needs no agreement, because it replays recordings and has no tracker.
    pub(crate) fn not_needed() -> Self {
        Self(())
    }
}

impl Runner {
    /// Makes sure that the user agreed to the disclosures in a project's settings. If not, asks the user through the
    /// prompter.
    ///
    /// `agreed_digest` is the digest of the disclosures to which the user agrees in the request.
    ///
    /// # Errors
    /// The user did not agree (exit code 2), or orch would have to send a key without encryption and `orch.yaml` does
    /// not allow this.
    pub(crate) fn ensure_trusted(
        &self,
        root: &Path,
        settings: &Settings,
        agreed_digest: Option<&str>,
    ) -> Result<Trusted, SessionError> {
        let agreed_digest = validate_digest(agreed_digest)?;
        let disclosures = Disclosures::from_settings(settings);
        check_encryption(&disclosures)?;
        let Some(digest) = disclosures.digest() else { return Ok(Trusted(())) };
        if agreed_digest == Some(digest.as_str()) {
            return Ok(Trusted(()));
        }
        let status = self.trust_status(root, &digest)?;
        if status == TrustStatus::Trusted {
            return Ok(Trusted(()));
        }
        let status_text = match status {
            TrustStatus::Changed => "changed since you trusted it",
            TrustStatus::Trusted | TrustStatus::Unknown => "is not trusted yet",
        };
        let lines: Vec<String> = disclosures.needing_agreement().map(|disclosure| format!("  {disclosure}")).collect();
        if let Some(ledger) = self.trust_ledger() {
            let question =
                format!("{} {status_text}. Its orch.yaml:\n{}\nTrust it?", path_for_display(root), lines.join("\n"));
            if self.prompter.confirm(&question) == Some(true) {
                ledger.record(root, &digest).map_err(|error| ledger_error(&ledger, &error))?;
                return Ok(Trusted(()));
            }
        }
        let mut error =
            SessionError::usage(format!("this project {status_text}, and its orch.yaml:")).with_details(lines);
        if agreed_digest.is_some() {
            error = error.with_hint("the digest in --trust or ORCH_TRUST belongs to other settings");
        }
        let is_current_project = project_root(self.current_dir()) == root;
        let argument = if is_current_project { String::new() } else { format!(" '{}'", root.display()) };
        Err(error
            .with_hint(format!("if you agree, run `orch trust{argument}` once"))
            .with_hint(format!("or, in CI, pass `--trust {digest}`")))
    }

    /// Whether the user agreed to the disclosures in `orch.yaml`, or there are none that need an agreement.
    pub(crate) fn is_trusted(&self, root: &Path, disclosures: &Disclosures) -> Result<bool, SessionError> {
        let status = |digest| self.trust_status(root, &digest);
        disclosures.digest().map_or(Ok(true), |digest| Ok(status(digest)? == TrustStatus::Trusted))
    }

    fn trust_status(&self, root: &Path, digest: &Digest) -> Result<TrustStatus, SessionError> {
        let Some(ledger) = self.trust_ledger() else { return Ok(TrustStatus::Unknown) };
        ledger.status(root, digest).map_err(|error| ledger_error(&ledger, &error))
    }

    /// The record of the user's agreements, or `None` if the environment names no folder for it.
    pub(crate) fn trust_ledger(&self) -> Option<TrustLedger> {
        self.environment.config_dir().map(TrustLedger::new)
    }
}

/// Validates the digest in a request. An empty digest counts as none, since an unset CI variable is empty.
fn validate_digest(digest: Option<&str>) -> Result<Option<&str>, SessionError> {
    let Some(digest) = digest.map(str::trim).filter(|digest| !digest.is_empty()) else { return Ok(None) };
    if digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(Some(digest));
    }
    Err(SessionError::usage(format!("`{digest}`, from --trust or ORCH_TRUST, is not a digest"))
        .with_hint("`orch trust --print` prints it: 64 hexadecimal digits"))
}

/// Returns an error if orch would send a key without encryption and `orch.yaml` does not allow this.
pub(crate) fn check_encryption(disclosures: &Disclosures) -> Result<(), SessionError> {
    match disclosures.all().iter().find(|disclosure| disclosure.is_refused()) {
        None => Ok(()),
        Some(refused) => Err(SessionError::usage(format!("{refused}, where others on the network can read it"))
            .with_hint(format!("use https://, or set `insecure: true` under `{}` of orch.yaml", refused.key))),
    }
}

/// The error for a record of trusted projects that orch can't read or write.
pub(crate) fn ledger_error(ledger: &TrustLedger, error: &std::io::Error) -> SessionError {
    let folder = ledger.folder().display();
    SessionError::usage(format!("the record of trusted projects in `{folder}` can't be used: {error}"))
        .with_hint("remove a damaged file there and trust again, or set XDG_CONFIG_HOME to another folder")
}
