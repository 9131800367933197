//! The filter of the log: which records of which modules `ORCH_LOG` turns on.

use tracing_subscriber::filter::LevelFilter;

use crate::runner::RunnerError;

use super::targets::unknown_target_warning;

/// The variable that turns the log on.
pub(super) const VARIABLE: &str = "ORCH_LOG";

/// The crate whose records a level without a target turns on.
pub(super) const OWN_CRATE: &str = "orch";

/// The crates whose records the log may contain. Other libraries log headers, bodies and messages, which contain secrets.
pub(super) const LOGGED_CRATES: [&str; 2] = [OWN_CRATE, "hyper_util"];

const LEVEL_NAMES: &str = "off, error, warn, info, debug and trace";

/// The directives of a filter, such as `orch=debug,orch::store=off`.
#[derive(Debug)]
pub(super) struct LogFilter(Vec<Directive>);

/// The most detailed level of the records of a module and of the modules inside it.
#[derive(Debug)]
struct Directive {
    target: String,
    level: LevelFilter,
}

impl LogFilter {
    /// Parses directives that are separated by commas.
    ///
    /// # Errors
    /// A directive has another form, an unknown level, or a target that the log must not contain.
    pub(super) fn parse(text: &str) -> Result<Self, RunnerError> {
        let directives = text.split(',').map(str::trim).filter(|directive| !directive.is_empty());
        directives.map(Directive::parse).collect::<Result<Vec<_>, _>>().map(Self)
    }

    /// The filter for records of orch up to `debug`.
    pub(super) fn debug() -> Self {
        Self(vec![Directive { target: OWN_CRATE.to_owned(), level: LevelFilter::DEBUG }])
    }

    /// The most detailed level of records with this target. The directive with the longest matching target decides, and
    /// of several such directives the last.
    pub(super) fn level_of(&self, target: &str) -> LevelFilter {
        let matching = self.0.iter().filter(|directive| directive.matches(target));
        matching.max_by_key(|directive| directive.target.len()).map_or(LevelFilter::OFF, |directive| directive.level)
    }

    /// The warnings about directives that match no record, each once.
    pub(super) fn warnings(&self) -> Vec<String> {
        let mut warnings: Vec<String> =
            self.0.iter().filter_map(|directive| unknown_target_warning(&directive.target)).collect();
        warnings.sort();
        warnings.dedup();
        warnings
    }

    /// The most detailed level of any record.
    pub(super) fn max_level(&self) -> LevelFilter {
        self.0.iter().map(|directive| directive.level).max().unwrap_or(LevelFilter::OFF)
    }
}

impl Directive {
    fn parse(text: &str) -> Result<Self, RunnerError> {
        let (target, level) = match text.split_once('=') {
            Some((target, level)) => {
                let (target, level) = (target.trim(), level.trim());
                let unknown = || directive_error(text, &format!("`{level}` is not a level"));
                (target, parse_level(level).ok_or_else(unknown)?)
            }
            None => parse_level(text).map_or((text, LevelFilter::TRACE), |level| (OWN_CRATE, level)),
        };
        if target.contains(['[', '{', '/', '"']) {
            return Err(directive_error(text, "orch can't filter by spans, fields or texts"));
        }
        let crate_name = target.split("::").next().unwrap_or(target);
        if !LOGGED_CRATES.contains(&crate_name) {
            let problem = format!("the log never contains records of `{target}`, which may contain secrets");
            let problem =
                if text.contains('=') { problem } else { format!("`{target}` is not a level, and {problem}") };
            return Err(directive_error(text, &problem));
        }
        Ok(Self { target: target.to_owned(), level })
    }

    /// Whether a target is the module of this directive or inside it.
    fn matches(&self, target: &str) -> bool {
        target.strip_prefix(self.target.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    }
}

fn parse_level(text: &str) -> Option<LevelFilter> {
    let level = match text.to_ascii_lowercase().as_str() {
        "off" => LevelFilter::OFF,
        "error" => LevelFilter::ERROR,
        "warn" => LevelFilter::WARN,
        "info" => LevelFilter::INFO,
        "debug" => LevelFilter::DEBUG,
        "trace" => LevelFilter::TRACE,
        _ => return None,
    };
    Some(level)
}

fn directive_error(directive: &str, problem: &str) -> RunnerError {
    RunnerError::usage(format!("the directive `{directive}` of the variable {VARIABLE} is not valid: {problem}")).with_hint(
        format!("write `{VARIABLE}=debug`, or a level for a module, such as `{VARIABLE}=info,orch::network=debug`; the levels are {LEVEL_NAMES}, and the modules are those of the crates {}", LOGGED_CRATES.join(" and ")),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level(filter: &str, target: &str) -> LevelFilter {
        LogFilter::parse(filter).unwrap().level_of(target)
    }

    #[test]
    fn a_level_without_a_target_is_for_orch_alone() {
        assert_eq!(level("debug", "orch::store::calls"), LevelFilter::DEBUG);
        for target in ["h2::client", "rmcp", "hyper_util::client", "orchestra", ""] {
            assert_eq!(level("trace", target), LevelFilter::OFF, "{target}");
        }
    }

    #[test]
    fn the_longest_matching_target_decides() {
        let filter = "orch::store=off, INFO ,orch::store::writer=trace,hyper_util=debug";
        assert_eq!(level(filter, "orch::store::calls"), LevelFilter::OFF);
        assert_eq!(level(filter, "orch::store::writer"), LevelFilter::TRACE);
        assert_eq!(level(filter, "orch::store_x"), LevelFilter::INFO);
        assert_eq!(level(filter, "hyper_util::client::legacy"), LevelFilter::DEBUG);
        assert_eq!(LogFilter::parse(filter).unwrap().max_level(), LevelFilter::TRACE);
        assert_eq!(level("orch=debug,orch=warn", "orch"), LevelFilter::WARN);
        assert_eq!(level("orch", "orch::engine"), LevelFilter::TRACE);
        assert_eq!(LogFilter::parse(" , ").unwrap().max_level(), LevelFilter::OFF);
    }

    #[test]
    fn a_wrong_directive_is_named_with_the_reason() {
        for (filter, reason) in [
            (
                "info,orch=loud",
                "the directive `orch=loud` of the variable ORCH_LOG is not valid: `loud` is not a level",
            ),
            ("loud", "`loud` is not a level, and the log never contains records of `loud`"),
            ("h2=trace", "the log never contains records of `h2`, which may contain secrets"),
            ("hyper=trace", "the log never contains records of `hyper`"),
            ("rmcp::service=debug", "the log never contains records of `rmcp::service`"),
            ("orch[step]=debug", "orch can't filter by spans, fields or texts"),
            ("=debug", "the log never contains records of ``"),
            ("orch=", "`` is not a level"),
        ] {
            let error = LogFilter::parse(filter).unwrap_err();
            assert!(error.message().contains(reason), "{filter}: {}", error.message());
            assert!(error.hints()[0].contains("off, error, warn, info, debug and trace"), "{filter}");
        }
    }
}
