//! Versions in the names of models.

/// The family and the version of a Claude model; `None` for other models and for early Claude models, whose names begin
/// with the version (`claude-3-5-sonnet`).
pub(super) fn claude_version(name: &str) -> Option<(&str, (u32, u32))> {
    let (_, name) = name.rsplit_once("claude-")?;
    let (family, version) = name.split_once('-').filter(|(family, _)| family.starts_with(char::is_alphabetic))?;
    Some((family, parse_version(version)))
}

/// The version of a Claude model, including early models (`claude-3-5-sonnet`); `None` for other models and for names
/// without a version.
pub(super) fn claude_generation(name: &str) -> Option<(u32, u32)> {
    let version = match claude_version(name) {
        // The first model of these families had version 5.
        Some(("fable" | "mythos", version)) => version.max((5, 0)),
        Some((_, version)) => version,
        None => parse_version(name.rsplit_once("claude-")?.1),
    };
    (version != (0, 0)).then_some(version)
}

/// The major and minor version at the start of a text such as `4-7`, `4.7@20260301` or `4`. A number that is missing or
/// has three or more digits (a date) becomes 0.
pub(super) fn parse_version(text: &str) -> (u32, u32) {
    let mut numbers = text.split(['-', '.', '@']).map(|part| part.parse::<u32>().ok().filter(|number| *number < 100));
    let major = numbers.next().flatten().unwrap_or(0);
    (major, numbers.next().flatten().unwrap_or(0))
}
