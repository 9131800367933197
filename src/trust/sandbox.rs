//! Describes what the `sandbox` keys allow: those of `orch.yaml` that allow more than the defaults, and the whole sandbox
//! of a program.

use crate::model::{AllowedHost, Sandbox, SandboxLevel, SandboxNetwork, SandboxSpec, is_outside_workspace};

use super::disclosure::{Destination, Disclosure, TrustReason};

/// Returns a disclosure for each key of the project's `sandbox` that allows more than the default. Without the user's
/// agreement, a cloned project could give CLI agents more access than the user expects.
pub(super) fn sandbox_disclosures(sandbox: &Sandbox) -> Vec<Disclosure> {
    let Sandbox { enabled, min, network, write, deny_read: _, unix_sockets, limits: _ } = sandbox;
    let mut allowed: Vec<(&str, String)> = Vec::new();
    if *enabled == Some(false) {
        allowed.push(("enabled", "lets programs run with all your rights, without a sandbox".to_owned()));
    }
    if let Some(min) = min.filter(|min| *min < SandboxLevel::Full) {
        allowed.push(("min", format!("lets confined programs run at the level `{min}`")));
    }
    if let Some(hosts) = network.as_ref().and_then(describe_hosts) {
        allowed.push(("network", format!("lets confined programs and the tool `fetch` reach {hosts}")));
    }
    let outside: Vec<&String> = write.iter().flatten().filter(|path| is_outside_workspace(path)).collect();
    if !outside.is_empty() {
        allowed.push(("write", format!("lets confined programs change {}", list(outside))));
    }
    if *unix_sockets == Some(true) {
        allowed.push(("unix_sockets", "lets confined programs use UNIX sockets".to_owned()));
    }
    let disclosure = |(key, text): (&str, String)| Disclosure {
        key: format!("sandbox.{key}"),
        variable: None,
        destination: Destination::Programs(text),
        reasons: vec![TrustReason::LoosensSandbox],
        insecure: false,
        aws_region: None,
        terms: None,
    };
    allowed.into_iter().map(disclosure).collect()
}

/// Describes a program's sandbox as a part of a sentence about the program, with everything that it allows and the files
/// that the settings keep from the program: "in a sandbox that lets it change the workspace and reach docs.rs". `None`
/// means that orch does not confine the program.
pub fn describe_sandbox(sandbox: Option<&SandboxSpec>) -> String {
    let Some(sandbox) = sandbox else { return "without a sandbox, with all your rights".to_owned() };
    let allowed = allowances(sandbox);
    let allowed = match allowed.split_last() {
        None => "change no file and reach no host".to_owned(),
        Some((only, [])) => only.clone(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
    };
    let text = format!("in a sandbox that lets it {allowed}");
    if sandbox.deny_read.is_empty() { text } else { format!("{text}; it can't read {}", list(&sandbox.deny_read)) }
}

/// Whether a sandbox allows a program more than to read files.
pub(super) fn allows_more_than_reading(sandbox: Option<&SandboxSpec>) -> bool {
    sandbox.is_none_or(|sandbox| !allowances(sandbox).is_empty())
}

/// What a sandbox allows beside reading files, as infinitives.
fn allowances(sandbox: &SandboxSpec) -> Vec<String> {
    let SandboxSpec { min, network, write, protects_workspace, deny_read: _, unix_sockets, limits: _ } = sandbox;
    let mut allowed = Vec::new();
    if !write.is_empty() {
        let except = if *protects_workspace { " outside of the workspace" } else { "" };
        allowed.push(format!("change {}{except}", written_paths(write)));
    }
    allowed.extend(describe_hosts(network).map(|hosts| format!("reach {hosts}")));
    if *unix_sockets {
        allowed.push("use UNIX sockets".to_owned());
    }
    if *min < SandboxLevel::Full {
        allowed.push(format!("run at the level `{min}`"));
    }
    allowed
}

/// The hosts that programs may reach; `None` if there are none.
pub fn describe_hosts(network: &SandboxNetwork) -> Option<String> {
    let describe_host = |host: &AllowedHost| {
        let name = unambiguous(&host.host);
        match (host.private, host.may_be_private()) {
            (true, _) => format!("{name} (also at a private address)"),
            (false, true) => format!("{name} (on this machine or in a private network)"),
            (false, false) => name,
        }
    };
    match network {
        SandboxNetwork::None => None,
        SandboxNetwork::All => Some("every host".to_owned()),
        SandboxNetwork::Hosts(hosts) => Some(hosts.iter().map(describe_host).collect::<Vec<_>>().join(", ")),
    }
}

/// Lists names that a file contains.
pub(super) fn list<'a>(names: impl IntoIterator<Item = &'a String>) -> String {
    names.into_iter().map(|name| unambiguous(name)).collect::<Vec<_>>().join(", ")
}

/// Lists the paths under `write`.
fn written_paths(paths: &[String]) -> String {
    let describe = |path: &String| if path == "." { "the workspace".to_owned() } else { unambiguous(path) };
    paths.iter().map(describe).collect::<Vec<_>>().join(", ")
}

/// A name as the file contains it, in quotes if it could look like a part of the sentence around it.
fn unambiguous(name: &str) -> String {
    let is_part_of_sentence = |c: char| c.is_whitespace() || ",;()\"".contains(c);
    if name.contains(is_part_of_sentence) { format!("{name:?}") } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::model::step::Access;

    fn texts(sandbox: Value) -> Vec<String> {
        let sandbox: Sandbox = serde_json::from_value(sandbox).unwrap();
        sandbox_disclosures(&sandbox).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn only_keys_that_allow_more_than_the_default_need_an_agreement() {
        let strict = json!({
            "enabled": true, "min": "full", "network": "none", "write": [".", "src"], "deny_read": ["~/x"],
            "unix_sockets": false, "limits": { "memory": "1GiB" },
        });
        assert_eq!(texts(strict), Vec::<String>::new());
        assert_eq!(texts(json!({})), Vec::<String>::new());
        let loose = json!({
            "enabled": false, "min": "basic",
            "network": ["a.example", { "host": "b.internal", "private": true }, "localhost:5432"],
            "write": [".", "~/.cache"], "unix_sockets": true,
        });
        assert_eq!(
            texts(loose),
            [
                "`sandbox.enabled` lets programs run with all your rights, without a sandbox",
                "`sandbox.min` lets confined programs run at the level `basic`",
                "`sandbox.network` lets confined programs and the tool `fetch` reach a.example, b.internal (also at a \
                 private address), localhost:5432 (on this machine or in a private network)",
                "`sandbox.write` lets confined programs change ~/.cache",
                "`sandbox.unix_sockets` lets confined programs use UNIX sockets",
            ]
        );
        assert_eq!(
            texts(json!({ "network": "all" })),
            ["`sandbox.network` lets confined programs and the tool `fetch` reach every host"]
        );
    }
    fn described(settings: Value, access: Access) -> String {
        let settings: Sandbox = serde_json::from_value(settings).unwrap();
        describe_sandbox(SandboxSpec::resolve(&settings, &Sandbox::default(), access).as_ref())
    }

    #[test]
    fn everything_that_a_sandbox_allows_is_described() {
        for (settings, access, expected) in [
            (json!({ "write": [] }), Access::Write, "in a sandbox that lets it change no file and reach no host"),
            (json!({}), Access::Write, "in a sandbox that lets it change the workspace"),
            (
                json!({ "write": ["src"], "network": "all" }),
                Access::Write,
                "in a sandbox that lets it change src and reach every host",
            ),
            (
                json!({ "write": ["~"], "network": ["a.example"], "unix_sockets": true, "min": "basic" }),
                Access::Read,
                "in a sandbox that lets it change ~ outside of the workspace, reach a.example, use UNIX sockets and run at \
                 the level `basic`",
            ),
            (
                json!({ "deny_read": ["~/notes"] }),
                Access::Write,
                "in a sandbox that lets it change the workspace; it can't read ~/notes",
            ),
            (json!({ "enabled": false }), Access::Write, "without a sandbox, with all your rights"),
        ] {
            assert_eq!(described(settings.clone(), access), expected, "{settings}");
        }
    }

    #[test]
    fn a_name_that_looks_like_a_part_of_the_sentence_is_in_quotes() {
        let text = described(json!({ "write": ["x and reach no host; it"] }), Access::Write);
        assert_eq!(text, "in a sandbox that lets it change \"x and reach no host; it\"");
    }
}
