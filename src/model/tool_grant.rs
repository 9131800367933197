//! The notation of a tool that an agent may use: `read`, `edit(src/**)`, `shell(cargo:*)`, `fetch(docs.rs)`.

use std::fmt;

use globset::GlobBuilder;
use regex::bytes::{Regex, RegexBuilder};

use super::allowed_host::AllowedHost;
use super::sandbox::SandboxNetwork;
use super::tool::{BuiltinTool, ToolGrant};

/// The ending of a pattern of `shell` that allows any further words.
const ANY_WORDS: &str = ":*";

/// The maximum length of a pattern, in bytes. Without a limit, a model or a pipeline could exhaust the memory with one
/// glob: parsing it takes hundreds of times its size.
const MAX_PATTERN_BYTES: usize = 4096;

/// The maximum size of a compiled glob, in bytes.
const MAX_COMPILED_BYTES: usize = 4 << 20;

impl ToolGrant {
    /// Parses a tool with an optional pattern in parentheses.
    ///
    /// # Errors
    /// There is no such tool, or the pattern is not valid for it. The error is the reason, with what is allowed.
    pub fn parse(text: &str) -> Result<Self, String> {
        let grant = Self::parse_unchecked(text)?;
        if let Some(pattern) = &grant.pattern {
            check_length(pattern)?;
            check_pattern(grant.tool, pattern).map_err(|reason| format!("`{text}` is not valid: {reason}"))?;
        }
        Ok(grant)
    }

    /// Parses a tool without checking its pattern, which takes far longer.
    ///
    /// # Errors
    /// There is no such tool, or the pattern does not end with `)`. The error is the reason, with what is allowed.
    pub(super) fn parse_unchecked(text: &str) -> Result<Self, String> {
        let (name, pattern) = match text.split_once('(') {
            None => (text, None),
            Some((name, rest)) => match rest.strip_suffix(')') {
                Some(pattern) => (name, Some(pattern)),
                None => return Err(format!("`{text}` has no `)` at its end: write `{name}(PATTERN)`")),
            },
        };
        let Some(tool) = BuiltinTool::from_name(name) else {
            let names: Vec<String> = BuiltinTool::ALL.iter().map(|tool| format!("`{tool}`")).collect();
            return Err(format!("orch has no tool `{name}`; its tools are {}", names.join(", ")));
        };
        Ok(Self { tool, pattern: pattern.map(str::to_owned) })
    }

    /// Why no call can fit the grant: without a pattern, `fetch` reads pages of the hosts in the sandbox's `network`,
    /// and there are none. `network` is `None` for an agent without a sandbox.
    pub fn missing_hosts(&self, network: Option<&SandboxNetwork>) -> Option<&'static str> {
        let has_hosts = match network {
            None | Some(SandboxNetwork::None) => false,
            Some(SandboxNetwork::All) => true,
            Some(SandboxNetwork::Hosts(hosts)) => !hosts.is_empty(),
        };
        (self.tool == BuiltinTool::Fetch && self.pattern.is_none() && !has_hosts).then_some(
            "`fetch` may read no host: name the hosts, as in `fetch(docs.rs)`, or list them under the sandbox's \
             `network`",
        )
    }
}

impl fmt::Display for ToolGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.pattern {
            None => f.write_str(self.tool.as_str()),
            Some(pattern) => write!(f, "{}({pattern})", self.tool),
        }
    }
}

/// Checks the length of a pattern. The error does not repeat the pattern.
fn check_length(pattern: &str) -> Result<(), String> {
    let length = pattern.len();
    if length > MAX_PATTERN_BYTES {
        return Err(format!("the pattern has {length} bytes, and at most {MAX_PATTERN_BYTES} are allowed"));
    }
    Ok(())
}

fn check_pattern(tool: BuiltinTool, pattern: &str) -> Result<(), String> {
    match tool {
        BuiltinTool::Read | BuiltinTool::List | BuiltinTool::Search | BuiltinTool::Edit | BuiltinTool::Write => {
            PathPattern::parse(pattern).map(drop)
        }
        BuiltinTool::Shell => CommandPattern::parse(pattern).map(drop),
        BuiltinTool::Fetch => check_host(pattern),
    }
}

/// Checks the host in a pattern of `fetch`. A pattern can't say that its host is private, as an address must that may be
/// the metadata service of a cloud.
fn check_host(pattern: &str) -> Result<(), String> {
    let parse = |private| AllowedHost { host: pattern.to_owned(), private }.parse().map(drop);
    match (parse(false), parse(true)) {
        (Err(_), Ok(())) => Err(format!(
            "`{pattern}` is an address that may be the metadata service of a cloud; list it with \
             `private: true` under `sandbox.network` in `orch.yaml`, and use `fetch` without a pattern"
        )),
        (parsed, _) => parsed,
    }
}

/// The commands that `shell(PATTERN)` allows: the first words of a command, with `:*` for any further words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandPattern {
    words: Vec<String>,
    allows_more_words: bool,
}

impl CommandPattern {
    /// Parses a pattern.
    ///
    /// # Errors
    /// The pattern has no word, or a word that is not plain. The error is the reason.
    pub fn parse(pattern: &str) -> Result<Self, String> {
        let (text, allows_more_words) = match pattern.strip_suffix(ANY_WORDS) {
            Some(text) => (text, true),
            None => (pattern, false),
        };
        let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        let Some(first) = words.first() else {
            return Err("the pattern has no word; `shell` without a pattern allows every command".to_owned());
        };
        if first.contains('=') {
            return Err(format!("`{first}` sets a variable, and a pattern begins with the name of a program"));
        }
        let is_plain = |c: char| c.is_alphanumeric() || "_-./+=@%:,~^".contains(c);
        if let Some((word, c)) = words.iter().find_map(|word| Some((word, word.chars().find(|c| !is_plain(*c))?))) {
            return Err(format!(
                "the word `{word}` contains `{c}`; a pattern consists of the first words of a command, and `:*` at its \
                 end allows any further words, as in `cargo:*`"
            ));
        }
        Ok(Self { words, allows_more_words })
    }

    /// Whether the pattern allows a command with these words.
    pub fn matches(&self, command: &[String]) -> bool {
        if self.allows_more_words { command.starts_with(&self.words) } else { command == self.words }
    }
}

/// The paths that a glob allows, as in a `.gitignore`: `src/**`, `*.md`. A pattern without `/` applies to the names in
/// all folders. A pattern that matches a folder also matches everything in it.
#[derive(Clone, Debug)]
pub struct PathPattern(Regex);

impl PathPattern {
    /// Parses a pattern.
    ///
    /// # Errors
    /// The pattern is empty, too long, leads out of the workspace, or is not a valid glob. The error is the reason.
    pub fn parse(pattern: &str) -> Result<Self, String> {
        check_length(pattern)?;
        let (anchored, relative) = split_pattern(pattern);
        if relative.is_empty() {
            return Err("the pattern is empty".to_owned());
        }
        if relative.split('/').any(|name| name == "..") || relative.starts_with('~') {
            return Err("a pattern can't lead out of the workspace".to_owned());
        }
        let glob = if anchored { relative.to_owned() } else { format!("**/{relative}") };
        compile_glob(&glob).map(Self)
    }

    /// Whether the pattern matches a path relative to the workspace, or a folder that contains it.
    pub fn matches(&self, path: &str) -> bool {
        let mut folders = path.match_indices('/').filter_map(|(end, _)| path.get(..end));
        self.0.is_match(path.as_bytes()) || folders.any(|folder| self.0.is_match(folder.as_bytes()))
    }
}

/// The glob of a pattern without the slashes around it, and whether it begins in the workspace instead of in any folder.
pub(super) fn split_pattern(pattern: &str) -> (bool, &str) {
    let trimmed = pattern.strip_prefix("./").unwrap_or(pattern);
    let (anchored, relative) = match trimmed.strip_prefix('/') {
        Some(relative) => (true, relative),
        None => (trimmed.trim_end_matches('/').contains('/'), trimmed),
    };
    (anchored, relative.trim_end_matches('/'))
}

/// Compiles a glob.
///
/// # Errors
/// It is not valid, or too complex. The error is the reason.
pub(super) fn compile_glob(glob: &str) -> Result<Regex, String> {
    let glob = GlobBuilder::new(glob).literal_separator(true).build();
    let glob = glob.map_err(|error| format!("the pattern is not a valid glob: {}", error.kind()))?;
    // `Glob::compile_matcher` panics if the regular expression does not compile.
    let regex = RegexBuilder::new(glob.regex()).dot_matches_new_line(true).size_limit(MAX_COMPILED_BYTES).build();
    regex.map_err(|_| "the pattern is too complex; write a simpler one".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        ToolGrant::parse(text).unwrap_err()
    }

    #[test]
    fn a_grant_is_displayed_as_it_was_written() {
        for text in ["read", "edit(src/**)", "shell(cargo:*)", "shell(npm run test:unit)", "fetch(docs.rs:443)"] {
            assert_eq!(ToolGrant::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_mistake_is_explained_with_what_is_allowed() {
        for (text, expected) in [
            ("bash", "its tools are `read`, `list`, `search`"),
            ("shell(cargo", "write `shell(PATTERN)`"),
            ("shell()", "`shell` without a pattern allows every command"),
            ("shell(:*)", "`shell` without a pattern allows every command"),
            ("shell(cargo *)", "contains `*`"),
            ("shell(a && b)", "contains `&`"),
            ("shell(X=1 cargo:*)", "sets a variable"),
            ("edit(../x)", "can't lead out of the workspace"),
            ("edit(~/x)", "can't lead out of the workspace"),
            ("edit([a)", "not a valid glob"),
            ("edit(/)", "is empty"),
            ("fetch(*.docs.rs)", "patterns are not supported"),
            ("fetch(https://docs.rs)", "is not a valid host"),
            ("fetch(169.254.169.254)", "use `fetch` without a pattern"),
            ("fetch(168.63.129.16:80)", "may be the metadata service of a cloud"),
        ] {
            let error = error(text);
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn a_pattern_that_is_too_long_is_refused_without_repeating_it() {
        let alternatives: Vec<String> = (0..200_000).map(|number| format!("a{number}")).collect();
        for text in [
            format!("edit({})", "*".repeat(100_000)),
            format!("edit({}x)", "**/".repeat(50_000)),
            format!("read({{{}}})", alternatives.join(",")),
            format!("search([{}])", "a-z".repeat(300_000)),
            format!("shell({}:*)", "a ".repeat(50_000)),
            format!("fetch({})", "a".repeat(5000)),
        ] {
            let error = error(&text);
            assert!(error.ends_with("bytes, and at most 4096 are allowed") && error.len() < 100, "{error}");
        }
        assert!(PathPattern::parse(&"a".repeat(MAX_PATTERN_BYTES + 1)).is_err());
    }

    #[test]
    fn every_glob_within_the_limit_compiles_or_is_refused() {
        let (open, close) = ("{".repeat(100), "}".repeat(100));
        for (pattern, is_valid) in [
            ("a".repeat(MAX_PATTERN_BYTES), true),
            ("*".repeat(MAX_PATTERN_BYTES), true),
            ("?".repeat(MAX_PATTERN_BYTES), true),
            ("**/".repeat(MAX_PATTERN_BYTES / 3), true),
            ("[!a-y]".repeat(MAX_PATTERN_BYTES / 6), true),
            ("*a{b,c*}[d-f]?".repeat(MAX_PATTERN_BYTES / 14), true),
            (format!("{open}a{close}"), true),
            (format!("{{{open}a{close}}}"), false),
            (format!("{}x{close}", "{a,b".repeat(100)), false),
        ] {
            let parsed = PathPattern::parse(&pattern);
            assert_eq!(parsed.is_ok(), is_valid, "{pattern}: {parsed:?}");
        }
    }

    #[test]
    fn a_command_must_begin_with_the_words_of_the_pattern() {
        let matches = |pattern: &str, command: &str| {
            let words: Vec<String> = command.split(' ').map(str::to_owned).collect();
            CommandPattern::parse(pattern).unwrap().matches(&words)
        };
        assert!(matches("cargo:*", "cargo") && matches("cargo:*", "cargo test -q"));
        assert!(!matches("cargo:*", "cargo-evil") && !matches("cargo:*", "./cargo") && !matches("cargo:*", "git"));
        assert!(matches("git diff:*", "git diff HEAD") && !matches("git diff:*", "git -c x=y diff"));
        assert!(matches("cargo test", "cargo test") && !matches("cargo test", "cargo test -q"));
    }

    #[test]
    fn a_path_pattern_matches_as_in_a_gitignore() {
        for (pattern, path, expected) in [
            ("src/**", "src/a/b.rs", true),
            ("src/**", "srcs/a", false),
            ("src", "src/a/b.rs", true),
            ("src/", "lib/src/a", true),
            ("/src", "lib/src/a", false),
            ("*.md", "README.md", true),
            ("*.md", "docs/a.md", true),
            ("docs/*.md", "docs/x/a.md", false),
            ("./docs/*.md", "docs/a.md", true),
            ("*.{rs,toml}", "Cargo.toml", true),
            ("**", "a/b", true),
            ("a?c", "a\nc", true),
            ("é*", "été/a", true),
        ] {
            assert_eq!(PathPattern::parse(pattern).unwrap().matches(path), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn fetch_without_a_pattern_needs_hosts_in_the_network_of_the_sandbox() {
        let hosts = SandboxNetwork::Hosts(vec![AllowedHost { host: "docs.rs".to_owned(), private: false }]);
        let fetch = ToolGrant::parse("fetch").unwrap();
        for network in [None, Some(&SandboxNetwork::None)] {
            assert!(fetch.missing_hosts(network).is_some(), "{network:?}");
        }
        for network in [Some(&hosts), Some(&SandboxNetwork::All)] {
            assert!(fetch.missing_hosts(network).is_none(), "{network:?}");
        }
        assert!(ToolGrant::parse("fetch(docs.rs)").unwrap().missing_hosts(None).is_none());
        assert!(ToolGrant::parse("read").unwrap().missing_hosts(None).is_none());
    }
}
