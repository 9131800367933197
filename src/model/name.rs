//! Resolves the model names that files and flags give.

use std::collections::BTreeMap;

use super::chat::ModelRef;

/// The HTTP providers that need no entry in `orch.yaml`.
pub const BUILT_IN: [&str; 9] =
    ["anthropic", "openai", "gemini", "openrouter", "ollama", "lmstudio", "llamacpp", "vllm", "litellm"];

/// The provider of the embedded models.
pub const LOCAL: &str = "local";

/// The prefix before the path of a model that is a file: `local:models/small.gguf`.
pub const FILE: &str = "local:";

/// The longest reply of an embedded model in tokens, whatever its agent allows: at a few tokens per second, a longer
/// one takes too long to be useful. A reply with a schema is closed before this limit.
const LOCAL_LONGEST: u32 = 2048;

/// The longest reply in tokens that a model gives, if its agent allows `allowed` tokens.
pub fn longest_reply(model: &ModelRef, allowed: u32) -> u32 {
    if model.provider == LOCAL { allowed.min(LOCAL_LONGEST) } else { allowed }
}

/// Why a model's name can't be resolved.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// No alias has this name, and it is not `provider/model`.
    #[error("unknown model `{name}`")]
    Unknown {
        /// The name.
        name: String,
        /// The known name with the closest spelling.
        nearest: Option<String>,
    },
    /// The part before the slash is not a provider.
    #[error("unknown provider `{provider}` in model `{name}`")]
    Provider {
        /// The name.
        name: String,
        /// The part before the slash.
        provider: String,
        /// The provider with the closest spelling.
        nearest: Option<String>,
    },
    /// An alias resolves to itself.
    #[error("the alias `{name}` in orch.yaml leads back to itself")]
    Circle {
        /// The name.
        name: String,
    },
}

/// Resolves a name other than `auto`: an alias, `local`, `local:PATH`, or `provider/model`.
///
/// `default_local` is the embedded model to which `local` alone resolves.
pub fn resolve_name(
    name: &str,
    aliases: &BTreeMap<String, String>,
    providers: &[String],
    default_local: &str,
) -> Result<ModelRef, NameError> {
    let mut current = name;
    for _ in 0..=aliases.len() {
        if let Some(target) = aliases.get(current) {
            current = target;
            continue;
        }
        if current == LOCAL {
            return Ok(ModelRef::new(LOCAL, default_local));
        }
        let Some(model) = ModelRef::parse(current) else {
            let known = aliases.keys().map(String::as_str).chain(["auto", LOCAL]);
            return Err(NameError::Unknown { name: current.to_owned(), nearest: nearest(current, known) });
        };
        if providers.contains(&model.provider) {
            return Ok(model);
        }
        let nearest = nearest(&model.provider, providers.iter().map(String::as_str));
        return Err(NameError::Provider { name: current.to_owned(), provider: model.provider, nearest });
    }
    Err(NameError::Circle { name: name.to_owned() })
}

/// The candidate whose spelling is closest to `name`, if any is close.
pub(crate) fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len().min(name.len()) / 3)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(name: &str) -> Result<ModelRef, NameError> {
        let aliases = [("fast", "lab/qwen"), ("a", "b"), ("b", "a")];
        let aliases = aliases.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        resolve_name(name, &aliases, &["lab".to_owned(), "anthropic".to_owned(), LOCAL.to_owned()], "small")
    }

    #[test]
    fn names_lead_to_models() {
        assert_eq!(resolve("fast"), Ok(ModelRef::new("lab", "qwen")));
        assert_eq!(resolve("local"), Ok(ModelRef::new("local", "small")));
        assert_eq!(resolve("local:/m/x.gguf"), Ok(ModelRef::new("local", "/m/x.gguf")));
        assert_eq!(resolve("local:m/x.gguf"), Ok(ModelRef::new("local", "./m/x.gguf")));
        assert_eq!(resolve("local:m/x.gguf").unwrap().to_string(), "local:m/x.gguf");
        assert_eq!(resolve("local:../x").unwrap().path(), Some("../x"));
        assert_eq!(resolve("local/small").unwrap().path(), None);
        assert!(resolve("local:").is_err());
        assert_eq!(resolve("anthropic/x/y"), Ok(ModelRef::new("anthropic", "x/y")));
    }

    #[test]
    fn misspelt_names_get_a_suggestion() {
        let unknown = resolve("fats").unwrap_err();
        assert_eq!(unknown, NameError::Unknown { name: "fats".into(), nearest: Some("fast".into()) });
        let provider = resolve("antropic/x").unwrap_err();
        assert!(matches!(provider, NameError::Provider { nearest: Some(n), .. } if n == "anthropic"));
        assert_eq!(resolve("a"), Err(NameError::Circle { name: "a".into() }));
    }
}
