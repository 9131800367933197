//! The option `--trust` of the commands that send data to the addresses in `orch.yaml`.

/// The ID of the argument that contains a digest.
pub(in crate::cli) const DIGEST_ARG_ID: &str = "trust_digest";

/// The option with which the user trusts `orch.yaml` for one command.
#[derive(Clone, Debug, Default, clap::Args)]
pub(in crate::cli) struct TrustArgs {
    /// Trust orch.yaml if its digest is DIGEST; `orch trust --print` prints the digest
    #[arg(id = DIGEST_ARG_ID, long = "trust", value_name = "DIGEST", env = "ORCH_TRUST", hide_env_values = true)]
    digest: Option<String>,
}

impl TrustArgs {
    /// The digest, if the user passed one.
    pub(in crate::cli) fn digest(&self) -> Option<String> {
        self.digest.clone()
    }
}
