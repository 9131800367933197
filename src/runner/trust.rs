//! Checks that the user agreed to the data that orch sends to other machines because of a project's `orch.yaml`, and to
//! the environment variables that its pipelines pass to confined programs.

use std::path::Path;

use crate::config::Settings;
use crate::model::Digest;
use crate::model::visible::path_for_display;
use crate::trust::{Disclosures, TrustLedger, TrustStatus, VariableDisclosures};

use super::Runner;
use super::error::RunnerError;
use super::passed_variables::project_variables;
use super::project_state::project_root;

/// A proof that the user agreed to the disclosures of a project, or that the run needs no agreement.
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
    /// Makes sure that the user agreed to the disclosures in a project's settings, and to the variables that a session
    /// passes to confined programs. If not, asks the user through the prompter.
    ///
    /// `agreed_digest` is the digest of what the user agrees to in the request.
    ///
    /// # Errors
    /// The user did not agree (exit code 2), or orch would have to send a key without encryption and `orch.yaml` does
    /// not allow this.
    pub(crate) fn ensure_trusted(
        &self,
        root: &Path,
        settings: &Settings,
        variables: &VariableDisclosures,
        agreed_digest: Option<&str>,
    ) -> Result<Trusted, RunnerError> {
        let agreed_digest = validate_digest(agreed_digest)?;
        let disclosures = Disclosures::from_settings(settings);
        check_encryption(&disclosures)?;
        let settings_digest = disclosures.digest();
        if variables.is_empty() && settings_digest.as_ref().is_none_or(|digest| agreed_digest == Some(digest.as_str()))
        {
            return Ok(Trusted(()));
        }
        let status = self.trust_status(root, &disclosures, variables)?;
        if status == TrustStatus::Trusted {
            return Ok(Trusted(()));
        }
        // The user agrees to the variables of all pipelines at once, so that the digest does not depend on the pipeline.
        let listed = project_variables(root, self.current_dir());
        let is_listed = variables.names().is_subset(&listed.names());
        let asked = Agreement { disclosures, variables: listed.merged_with(variables) };
        let Some(digest) = asked.digest() else { return Ok(Trusted(())) };
        if agreed_digest == Some(digest.as_str()) {
            return Ok(Trusted(()));
        }
        let status_text = match status {
            TrustStatus::Changed => "changed since you trusted it",
            TrustStatus::Trusted | TrustStatus::Unknown => "is not trusted yet",
        };
        let (files, lines) = (asked.files(), asked.lines());
        if let Some(ledger) = self.trust_ledger() {
            let question =
                format!("{} {status_text}. Its {files}:\n{}\nTrust it?", path_for_display(root), lines.join("\n"));
            if self.prompter.confirm(&question) == Some(true) {
                let recorded = ledger.record(root, settings_digest.as_ref(), &asked.variables.names());
                recorded.map_err(|error| ledger_error(&ledger, &error))?;
                return Ok(Trusted(()));
            }
        }
        let mut error = RunnerError::usage(format!("this project {status_text}, and its {files}:")).with_details(lines);
        if agreed_digest.is_some() {
            error = error.with_hint("the digest in --trust or ORCH_TRUST belongs to other settings");
        }
        if !is_listed {
            return Err(error.with_hint(format!(
                "if you agree, pass `--trust {digest}`; `orch trust` covers only the pipelines in `pipelines/`"
            )));
        }
        let is_current_project = project_root(self.current_dir()) == root;
        let argument = if is_current_project { String::new() } else { format!(" '{}'", root.display()) };
        Err(error
            .with_hint(format!("if you agree, run `orch trust{argument}` once"))
            .with_hint(format!("or, in CI, pass `--trust {digest}`")))
    }

    /// Whether the user agreed to the disclosures in `orch.yaml` and to the variables, or there are none that need an
    /// agreement.
    pub(crate) fn is_trusted(
        &self,
        root: &Path,
        disclosures: &Disclosures,
        variables: &VariableDisclosures,
    ) -> Result<bool, RunnerError> {
        Ok(self.trust_status(root, disclosures, variables)? == TrustStatus::Trusted)
    }

    fn trust_status(
        &self,
        root: &Path,
        disclosures: &Disclosures,
        variables: &VariableDisclosures,
    ) -> Result<TrustStatus, RunnerError> {
        let digest = disclosures.digest();
        match self.trust_ledger() {
            None if digest.is_none() && variables.is_empty() => Ok(TrustStatus::Trusted),
            None => Ok(TrustStatus::Unknown),
            Some(ledger) => {
                let status = ledger.status(root, digest.as_ref(), &variables.names());
                status.map_err(|error| ledger_error(&ledger, &error))
            }
        }
    }

    /// The record of the user's agreements, or `None` if the environment names no folder for it.
    pub(crate) fn trust_ledger(&self) -> Option<TrustLedger> {
        self.environment.config_dir().map(TrustLedger::new)
    }
}

/// What the user agrees to.
struct Agreement {
    disclosures: Disclosures,
    variables: VariableDisclosures,
}

impl Agreement {
    fn digest(&self) -> Option<Digest> {
        self.disclosures.digest_with(&self.variables.names())
    }

    /// The files that contain what the user agrees to.
    fn files(&self) -> &'static str {
        match (self.disclosures.digest().is_some(), self.variables.is_empty()) {
            (true, true) => "orch.yaml",
            (true, false) => "orch.yaml and its pipelines",
            (false, _) => "pipelines",
        }
    }

    fn lines(&self) -> Vec<String> {
        let disclosures = self.disclosures.needing_agreement().map(|disclosure| format!("  {disclosure}"));
        disclosures.chain(self.variables.all().iter().map(|variables| format!("  {variables}"))).collect()
    }
}

/// Validates the digest in a request. An empty digest counts as none, since an unset CI variable is empty.
fn validate_digest(digest: Option<&str>) -> Result<Option<&str>, RunnerError> {
    let Some(digest) = digest.map(str::trim).filter(|digest| !digest.is_empty()) else { return Ok(None) };
    if digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(Some(digest));
    }
    Err(RunnerError::usage(format!("`{digest}`, from --trust or ORCH_TRUST, is not a digest"))
        .with_hint("`orch trust --print` prints it: 64 hexadecimal digits"))
}

/// Returns an error if orch would send a key without encryption and `orch.yaml` does not allow this.
pub(crate) fn check_encryption(disclosures: &Disclosures) -> Result<(), RunnerError> {
    match disclosures.all().iter().find(|disclosure| disclosure.is_refused()) {
        None => Ok(()),
        Some(refused) => Err(RunnerError::usage(format!("{refused}, where others on the network can read it"))
            .with_hint(format!("use https://, or set `insecure: true` under `{}` of orch.yaml", refused.key))),
    }
}

/// The error for a record of trusted projects that orch can't read or write.
pub(crate) fn ledger_error(ledger: &TrustLedger, error: &std::io::Error) -> RunnerError {
    let folder = ledger.folder().display();
    RunnerError::usage(format!("the record of trusted projects in `{folder}` can't be used: {error}"))
        .with_hint("remove a damaged file there and trust again, or set XDG_CONFIG_HOME to another folder")
}
