//! References to models, and the names in files and flags that resolve to them.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::similar_name::most_similar_name;

/// The provider of the embedded models.
pub const LOCAL_PROVIDER: &str = "local";

/// The prefix before the path of a model file: `local:models/small.gguf`.
pub const LOCAL_FILE_PREFIX: &str = "local:";

/// A model of a provider, such as `anthropic/claude-sonnet-5`, `lab/qwen3-coder` or `local/smollm2-135m`; or a model
/// file, such as `local:models/small.gguf`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub struct ModelRef {
    /// The provider's name: a built-in one or a key of `providers:` in `orch.yaml`.
    pub provider: String,
    /// The name of the model at the provider, which may contain slashes. For a model file: the path, which begins with
    /// `/`, `./` or `../`.
    pub model: String,
}

impl ModelRef {
    /// A reference to a model of a provider.
    pub fn new(provider: impl Into<String>, model: impl Into<String>) -> Self {
        Self { provider: provider.into(), model: model.into() }
    }

    /// A reference to a model file; a relative path starts at the project's root.
    pub fn from_file_path(path: &str) -> Self {
        let model = if is_path(path) { path.to_owned() } else { format!("./{path}") };
        Self::new(LOCAL_PROVIDER, model)
    }

    /// The path, if the model is a file.
    pub fn file_path(&self) -> Option<&str> {
        (self.provider == LOCAL_PROVIDER && is_path(&self.model)).then_some(self.model.as_str())
    }

    /// Parses `provider/model` or `local:PATH`; `None` if the slash or a name is missing.
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(path) = text.strip_prefix(LOCAL_FILE_PREFIX) {
            return (!path.trim().is_empty()).then(|| Self::from_file_path(path));
        }
        let (provider, model) = text.split_once('/')?;
        (!provider.is_empty() && !model.is_empty()).then(|| Self::new(provider, model))
    }
}

impl fmt::Display for ModelRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.file_path() {
            Some(path) => write!(f, "{LOCAL_FILE_PREFIX}{}", path.strip_prefix("./").unwrap_or(path)),
            None => write!(f, "{}/{}", self.provider, self.model),
        }
    }
}

/// Whether an embedded model's name is a path. No name of a built-in model begins with such a prefix.
fn is_path(name: &str) -> bool {
    ["/", "./", "../"].iter().any(|prefix| name.starts_with(prefix)) || Path::new(name).is_absolute()
}

/// The maximum length of a reply of an embedded model in tokens, even if its agent allows more: at a few tokens per
/// second, a longer reply takes too long to be useful. A reply with a schema is closed before this limit.
const MAX_LOCAL_REPLY_TOKENS: u32 = 2048;

/// The maximum length of a reply of a model in tokens, if its agent allows `max_output_tokens`.
pub fn max_reply_tokens(model: &ModelRef, max_output_tokens: u32) -> u32 {
    if model.provider == LOCAL_PROVIDER { max_output_tokens.min(MAX_LOCAL_REPLY_TOKENS) } else { max_output_tokens }
}

/// Why a model's name can't be resolved.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// No alias has this name, and it is not `provider/model`.
    #[error("unknown model `{name}`")]
    UnknownModel {
        /// The unknown name.
        name: String,
        /// The known name with the closest spelling.
        nearest: Option<String>,
    },
    /// The part before the slash is not a provider.
    #[error("unknown provider `{provider}` in model `{name}`")]
    UnknownProvider {
        /// The whole name.
        name: String,
        /// The part before the slash.
        provider: String,
        /// The provider with the closest spelling.
        nearest: Option<String>,
    },
    /// An alias refers to itself, directly or through other aliases.
    #[error("the alias `{name}` in orch.yaml leads back to itself")]
    AliasCycle {
        /// The alias.
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
        if current == LOCAL_PROVIDER {
            return Ok(ModelRef::new(LOCAL_PROVIDER, default_local));
        }
        let Some(model) = ModelRef::parse(current) else {
            let names = aliases.keys().map(String::as_str).chain(["auto", LOCAL_PROVIDER]);
            return Err(NameError::UnknownModel { name: current.to_owned(), nearest: closest_name(current, names) });
        };
        if providers.contains(&model.provider) {
            return Ok(model);
        }
        let nearest = closest_name(&model.provider, providers.iter().map(String::as_str));
        return Err(NameError::UnknownProvider { name: current.to_owned(), provider: model.provider, nearest });
    }
    Err(NameError::AliasCycle { name: name.to_owned() })
}

fn closest_name<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    most_similar_name(name, candidates).map(|similar| similar.name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(name: &str) -> Result<ModelRef, NameError> {
        let aliases = [("fast", "lab/qwen"), ("a", "b"), ("b", "a")];
        let aliases = aliases.map(|(alias, target)| (alias.to_owned(), target.to_owned())).into();
        resolve_name(name, &aliases, &["lab".to_owned(), "anthropic".to_owned(), LOCAL_PROVIDER.to_owned()], "small")
    }

    #[test]
    fn names_resolve_to_models() {
        assert_eq!(resolve("fast"), Ok(ModelRef::new("lab", "qwen")));
        assert_eq!(resolve("local"), Ok(ModelRef::new("local", "small")));
        assert_eq!(resolve("local:/m/x.gguf"), Ok(ModelRef::new("local", "/m/x.gguf")));
        assert_eq!(resolve("local:m/x.gguf"), Ok(ModelRef::new("local", "./m/x.gguf")));
        assert_eq!(resolve("local:m/x.gguf").unwrap().to_string(), "local:m/x.gguf");
        assert_eq!(resolve("local:../x").unwrap().file_path(), Some("../x"));
        assert_eq!(resolve("local/small").unwrap().file_path(), None);
        assert!(resolve("local:").is_err());
        assert_eq!(resolve("anthropic/x/y"), Ok(ModelRef::new("anthropic", "x/y")));
    }

    #[test]
    fn misspelt_names_get_a_suggestion() {
        let unknown = resolve("fats").unwrap_err();
        assert_eq!(unknown, NameError::UnknownModel { name: "fats".into(), nearest: Some("fast".into()) });
        let provider = resolve("antropic/x").unwrap_err();
        assert!(matches!(provider, NameError::UnknownProvider { nearest: Some(name), .. } if name == "anthropic"));
        assert_eq!(resolve("a"), Err(NameError::AliasCycle { name: "a".into() }));
    }
}
