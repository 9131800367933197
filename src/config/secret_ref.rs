//! References to environment variables that hold secrets.

use schemars::JsonSchema;
use serde::Deserialize;

/// The pattern of the name of an environment variable.
pub(super) const ENV_PATTERN: &str = "^[A-Za-z_][A-Za-z0-9_]*$";

/// A reference to a secret.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("writeOnly" = true))]
pub struct SecretRef {
    /// The environment variable that holds the secret.
    #[schemars(example = &"LAB_KEY", regex(pattern = ENV_PATTERN))]
    pub env: String,
}
