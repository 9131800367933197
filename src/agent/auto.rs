//! Chooses the model for `auto`: the first available one in a fixed order.
//!
//! The caller checks `defaults.model` of orch.yaml and `--model` first; both take precedence.

use crate::model::ModelRef;

/// The model that orch chose for `auto`, and the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AutoChoice {
    /// The chosen model.
    pub model: ModelRef,
    /// The reason for the choice, for messages: `ANTHROPIC_API_KEY is set`.
    pub reason: String,
}

/// A hosted provider that `auto` may choose when its key is set.
#[derive(Clone, Copy, Debug)]
pub struct AutoCandidate {
    /// The environment variable that holds the key.
    pub variable: &'static str,
    /// The name of the provider.
    pub provider: &'static str,
    /// The model to use when the user does not name one.
    pub model: &'static str,
}

/// The hosted providers, in order of preference.
pub const AUTO_CANDIDATES: [AutoCandidate; 3] = [
    AutoCandidate { variable: "ANTHROPIC_API_KEY", provider: "anthropic", model: "claude-sonnet-5-5" },
    AutoCandidate { variable: "OPENAI_API_KEY", provider: "openai", model: "gpt-6.1-sol" },
    AutoCandidate { variable: "GEMINI_API_KEY", provider: "gemini", model: "gemini-3.8-flash" },
];

/// Why orch can't choose a model for `auto`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AutoError {
    /// The local server has several models, and no setting names one of them.
    #[error("`auto` can't choose: the server at {url} has {} models", models.len())]
    SeveralModels {
        /// The address of the server.
        url: String,
        /// The names of the models.
        models: Vec<String>,
    },
}

/// Chooses a model by the keys that are set, or else the model of a local server. Returns `None` if only the embedded
/// model is available.
///
/// `has_key` returns whether a variable is set. `local_server` is the address and the models of the server on Ollama's
/// loopback port, if one responds.
pub fn choose_model(
    has_key: &dyn Fn(&str) -> bool,
    local_server: Option<(&str, Vec<String>)>,
) -> Result<Option<AutoChoice>, AutoError> {
    if let Some(candidate) = AUTO_CANDIDATES.iter().find(|candidate| has_key(candidate.variable)) {
        let model = ModelRef::new(candidate.provider, candidate.model);
        return Ok(Some(AutoChoice { model, reason: format!("{} is set", candidate.variable) }));
    }
    let Some((url, mut models)) = local_server else {
        return Ok(None);
    };
    match models.len() {
        0 => Ok(None),
        1 => {
            let model = ModelRef::new("ollama", models.remove(0));
            Ok(Some(AutoChoice { model, reason: format!("it is the only model of the server at {url}") }))
        }
        _ => Err(AutoError::SeveralModels { url: url.to_owned(), models }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_have_a_known_price_and_window() {
        for candidate in AUTO_CANDIDATES {
            let model = ModelRef::new(candidate.provider, candidate.model);
            assert!(crate::catalog::context_window(&model).is_some(), "{model}");
            assert!(crate::catalog::cost(&model, &crate::model::Usage::default()).is_some(), "{model}");
        }
    }

    #[test]
    fn keys_take_precedence_over_servers_in_a_fixed_order() {
        let choice =
            choose_model(&|name| name == "OPENAI_API_KEY" || name == "GEMINI_API_KEY", Some(("u", vec!["m".into()])))
                .unwrap()
                .unwrap();
        assert_eq!((choice.model.provider.as_str(), choice.reason.as_str()), ("openai", "OPENAI_API_KEY is set"));
    }

    #[test]
    fn a_server_with_one_model_is_chosen_and_several_models_are_an_error() {
        let choice = choose_model(&|_| false, Some(("u", vec!["m".into()]))).unwrap().unwrap();
        assert_eq!(choice.model, ModelRef::new("ollama", "m"));
        assert!(choose_model(&|_| false, Some(("u", vec!["m".into(), "n".into()]))).is_err());
        assert_eq!(choose_model(&|_| false, None), Ok(None));
        assert_eq!(choose_model(&|_| false, Some(("u", Vec::new()))), Ok(None));
    }
}
