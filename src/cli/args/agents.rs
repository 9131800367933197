//! The values of `--agent`.

use std::collections::BTreeMap;

use crate::runner::RunnerError;

/// Parses `--agent NAME=MODEL`.
pub(in crate::cli) fn parse(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, choice)) if !name.trim().is_empty() => Ok((name.trim().to_owned(), choice.trim().to_owned())),
        Some(_) | None => Err("write the name of the agent, `=` and a model, as in `coder=openai/gpt-4.1`".to_owned()),
    }
}

/// Collects the values of `--agent` by the name of the agent.
///
/// # Errors
/// The command line has two different choices for an agent.
pub(in crate::cli) fn by_name(choices: &[(String, String)]) -> Result<BTreeMap<String, String>, RunnerError> {
    let mut agents = BTreeMap::new();
    for (name, choice) in choices {
        let earlier = agents.insert(name.clone(), choice.clone());
        if earlier.is_some_and(|earlier| earlier != *choice) {
            return Err(RunnerError::usage(format!("--agent replaces the agent `{name}` twice"))
                .with_hint("leave out one of the two"));
        }
    }
    Ok(agents)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that can't continue fails")]
mod tests {
    use super::*;

    #[test]
    fn an_agent_has_one_replacement() {
        let choice = |text| parse(text).unwrap();
        assert_eq!(choice("coder = ollama/qwen3:8b"), ("coder".to_owned(), "ollama/qwen3:8b".to_owned()));
        assert!(parse("coder").is_err() && parse("=x").is_err());
        let same = [choice("a=x"), choice("a=x"), choice("b=y")];
        assert_eq!(by_name(&same).unwrap().len(), 2);
        assert!(by_name(&[choice("a=x"), choice("a=y")]).is_err());
    }
}
