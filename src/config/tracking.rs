//! The key `tracker` of `orch.yaml`: the external services to which orch sends the events of runs.
//!
//! Like all settings, the key contains the *names* of variables with secrets, never the secrets.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use super::secret_ref::{ENV_PATTERN, SecretRef};
use crate::model::HumanDuration;

/// External services to which orch sends the events of runs.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TrackerSettings {
    /// A Convex deployment with the functions of `convex/`.
    #[schemars(example = json!({"url": {"env": "CONVEX_URL"}, "auth": {"env": "CONVEX_DEPLOY_KEY"}}))]
    pub convex: Option<ConvexSettings>,
    /// An address to which orch posts every event.
    #[schemars(example = json!({"url": "https://example.com/orch", "secret": {"env": "ORCH_WEBHOOK_SECRET"}}))]
    pub webhook: Option<WebhookSettings>,
    /// How long orch waits at the end of a run for undelivered events. Default: `5s`.
    #[schemars(example = &"10s")]
    pub flush: Option<HumanDuration>,
}

/// A Convex deployment.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConvexSettings {
    /// The URL of the deployment.
    #[schemars(example = json!({"env": "CONVEX_URL"}))]
    pub url: Address,
    /// The variable that holds the deploy key. Without it, orch calls the functions without authentication.
    #[schemars(example = json!({"env": "CONVEX_DEPLOY_KEY"}))]
    pub auth: Option<SecretRef>,
    /// Whether orch may send the deploy key over plain HTTP to another machine, so that others on the network can read
    /// it.
    #[serde(default)]
    #[schemars(example = true)]
    pub insecure: bool,
}

/// A receiver of events.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WebhookSettings {
    /// The address to which orch posts events.
    #[schemars(example = &"https://example.com/orch")]
    pub url: Address,
    /// The variable that holds the secret with which orch signs every request.
    #[schemars(example = json!({"env": "ORCH_WEBHOOK_SECRET"}))]
    pub secret: SecretRef,
}

/// An address, or the variable that holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// The address itself.
    Plain(String),
    /// The environment variable that holds the address.
    Env(String),
}

/// The mapping form of [`Address`].
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct AddressMapping {
    /// The environment variable that holds the address.
    #[schemars(example = &"CONVEX_URL", regex(pattern = ENV_PATTERN))]
    env: String,
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        if let Value::String(address) = value {
            return Ok(Self::Plain(address));
        }
        let AddressMapping { env } = serde_json::from_value(value).map_err(D::Error::custom)?;
        Ok(Self::Env(env))
    }
}

impl JsonSchema for Address {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Address".into()
    }

    /// A string or a mapping. The schema needs no `anyOf`, for the same reason as the schema of `ModelSettings`.
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = AddressMapping::json_schema(generator);
        schema.insert("type".to_owned(), json!(["string", "object"]));
        schema.insert("minLength".to_owned(), json!(1));
        schema.insert("description".to_owned(), json!("An address, or the variable that holds it."));
        schema
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_string_or_names_a_variable() {
        let value = json!({"url": "http://127.0.0.1:9", "secret": {"env": "S"}});
        let webhook: WebhookSettings = serde_json::from_value(value).unwrap();
        assert_eq!(webhook.url, Address::Plain("http://127.0.0.1:9".into()));
        let convex: ConvexSettings = serde_json::from_value(json!({"url": {"env": "U"}})).unwrap();
        assert_eq!(convex.url, Address::Env("U".into()));
    }
}
