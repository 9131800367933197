//! The options of an agent's requests, other than the temperature and the limit of a reply.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::name::ModelRef;

/// How much a model reasons before it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReasoningEffort {
    /// The model answers without reasoning.
    None,
    /// As little reasoning as the model supports.
    Minimal,
    /// Little reasoning.
    Low,
    /// A medium amount of reasoning.
    Medium,
    /// Much reasoning.
    High,
    /// As much reasoning as the model supports.
    Max,
}

impl ReasoningEffort {
    /// Every effort, from the smallest to the largest.
    pub const ALL: [Self; 6] = [Self::None, Self::Minimal, Self::Low, Self::Medium, Self::High, Self::Max];

    /// The name in files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Minimal => "minimal",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Max => "max",
        }
    }
}

/// Options that an agent sets for its requests. For an absent option, the provider's default applies.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ModelOptions {
    /// How much the model reasons before it answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<ReasoningEffort>,
    /// Nucleus sampling: the model samples only from the likeliest tokens that together have this probability.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f64>,
    /// The seed of the sampling.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u32>,
    /// Stop sequences: the model stops when it writes one of these texts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stop: Vec<String>,
    /// Members of the request's body that only this provider knows.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub provider_options: Map<String, Value>,
}

/// Whether orch sends the `provider_options` of an agent to a model: only if the model has the same provider as the
/// agent's own model, since the APIs of other providers have other members.
pub fn receives_provider_options(own_model: &ModelRef, model: &ModelRef) -> bool {
    own_model.provider == model.provider
}

impl ModelOptions {
    /// The options of a request to a model; `own_model` is the agent's own model.
    #[must_use]
    pub fn for_model(mut self, own_model: &ModelRef, model: &ModelRef) -> Self {
        if !receives_provider_options(own_model, model) {
            self.provider_options.clear();
        }
        self
    }

    /// Whether no option is set.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The field of `provider_options` that changes the price of the tokens, as it is written there.
    pub fn price_option(&self) -> Option<&str> {
        let mut options = self.provider_options.iter();
        options.find(|(name, value)| changes_price(name, value)).map(|(name, _)| name.as_str())
    }
}

/// The fields of `provider_options` that change the price of the tokens, in lower case without `_`, each with the
/// values for which the list price applies.
const PRICE_OPTIONS: [(&str, &[&str]); 4] = [
    ("servicetier", &["default", "auto", "standard", "standard_only"]),
    ("speed", &["standard"]),
    ("inferencegeo", &["global"]),
    // Anthropic charges more for a cache that lasts an hour.
    ("cachecontrol", &["5m", "ephemeral"]),
];

fn changes_price(name: &str, value: &Value) -> bool {
    let name = name.trim().replace('_', "").to_lowercase();
    let Some((_, list_price_values)) = PRICE_OPTIONS.iter().find(|(known, _)| *known == name) else { return false };
    // Bedrock's `serviceTier` is a mapping with a `type`, and `cache_control` may have a `ttl` too.
    match value.get("ttl").or_else(|| value.get("type")).unwrap_or(value) {
        Value::Null => false,
        Value::String(text) => !list_price_values.iter().any(|known| known.eq_ignore_ascii_case(text)),
        _ => true,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that can't continue fails")]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn absent_options_are_not_serialized() {
        assert_eq!(serde_json::to_value(ModelOptions::default()).unwrap(), json!({}));
        let options = ModelOptions { seed: Some(7), ..ModelOptions::default() };
        assert_eq!(serde_json::to_value(&options).unwrap(), json!({"seed": 7}));
        assert!(ModelOptions::default().is_empty() && !options.is_empty());
    }

    #[test]
    fn some_provider_options_change_the_price() {
        for (provider_options, changed_by) in [
            (json!({"service_tier": "priority"}), Some("service_tier")),
            (json!({"service_tier": "flex", "top_k": 5}), Some("service_tier")),
            (json!({"serviceTier": {"type": "flex"}}), Some("serviceTier")),
            (json!({"speed": "fast"}), Some("speed")),
            (json!({"inference_geo": "us"}), Some("inference_geo")),
            (json!({"cache_control": {"type": "ephemeral", "ttl": "1h"}}), Some("cache_control")),
            (json!({"service_tier": ["flex"]}), Some("service_tier")),
            (json!({"service_tier": "Default"}), None),
            (json!({"service_tier": null}), None),
            (json!({"service_tier": "standard_only", "speed": "standard", "inference_geo": "global"}), None),
            (json!({"serviceTier": {"type": "default"}}), None),
            (json!({"cache_control": {"type": "ephemeral"}}), None),
            (json!({"top_k": 40, "user": "priority"}), None),
        ] {
            let options: ModelOptions = serde_json::from_value(json!({"provider_options": provider_options})).unwrap();
            assert_eq!(options.price_option(), changed_by, "{provider_options}");
        }
    }

    #[test]
    fn only_the_provider_of_the_own_model_gets_provider_options() {
        let options: ModelOptions =
            serde_json::from_value(json!({"seed": 7, "provider_options": {"top_k": 5}})).unwrap();
        let own_model = ModelRef::new("lab", "a");
        assert_eq!(options.clone().for_model(&own_model, &ModelRef::new("lab", "b")), options);
        let for_other = options.for_model(&own_model, &ModelRef::new("openai", "a"));
        assert_eq!(for_other, ModelOptions { seed: Some(7), ..ModelOptions::default() });
    }

    #[test]
    fn an_effort_has_one_name_in_files_and_in_messages() {
        for effort in ReasoningEffort::ALL {
            assert_eq!(serde_json::to_value(effort).unwrap(), json!(effort.as_str()));
        }
    }
}
