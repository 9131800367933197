//! Lists the keys of a `sandbox` in `orch.yaml` that allow more than the defaults.

use crate::model::{AllowedHost, Sandbox, SandboxLevel, SandboxNetwork, is_outside_workspace};

use super::disclosure::{Destination, Disclosure, TrustReason};

/// Returns a disclosure for each key that allows more than the default. Without the user's agreement, a cloned project
/// could give CLI agents more access than the user expects. `owner` is the key that contains the `sandbox`; it is empty
/// for the one of the project.
pub(super) fn sandbox_disclosures(owner: &str, sandbox: &Sandbox) -> Vec<Disclosure> {
    let Sandbox { enabled, min, network, write, deny_read: _, unix_sockets, limits: _ } = sandbox;
    let mut allowed: Vec<(&str, String)> = Vec::new();
    // The sandbox of an MCP server concerns only its own program.
    let connecting = if owner.is_empty() { "confined programs and the tool `fetch`" } else { "confined programs" };
    if *enabled == Some(false) {
        allowed.push(("enabled", "lets programs run with all your rights, without a sandbox".to_owned()));
    }
    if let Some(min) = min.filter(|min| *min < SandboxLevel::Full) {
        allowed.push(("min", format!("lets confined programs run at the level `{min}`")));
    }
    match network {
        None | Some(SandboxNetwork::None) => {}
        Some(SandboxNetwork::All) => {
            allowed.push(("network", format!("lets {connecting} reach every host")));
        }
        Some(SandboxNetwork::Hosts(hosts)) => {
            let describe_host = |host: &AllowedHost| match (host.private, host.may_be_private()) {
                (true, _) => format!("{} (also at a private address)", host.host),
                (false, true) => format!("{} (on this machine or in a private network)", host.host),
                (false, false) => host.host.clone(),
            };
            let names: Vec<String> = hosts.iter().map(describe_host).collect();
            let text = format!("lets {connecting} reach {}", names.join(", "));
            allowed.push(("network", text));
        }
    }
    let outside: Vec<&str> =
        write.iter().flatten().map(String::as_str).filter(|path| is_outside_workspace(path)).collect();
    if !outside.is_empty() {
        allowed.push(("write", format!("lets confined programs change {}", outside.join(", "))));
    }
    if *unix_sockets == Some(true) {
        allowed.push(("unix_sockets", "lets confined programs use UNIX sockets".to_owned()));
    }
    let separator = if owner.is_empty() { "" } else { "." };
    let disclosure = |(key, text): (&str, String)| Disclosure {
        key: format!("{owner}{separator}sandbox.{key}"),
        variable: None,
        destination: Destination::Programs(text),
        reasons: vec![TrustReason::LoosensSandbox],
        insecure: false,
        aws_region: None,
    };
    allowed.into_iter().map(disclosure).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn texts(sandbox: Value) -> Vec<String> {
        let sandbox: Sandbox = serde_json::from_value(sandbox).unwrap();
        sandbox_disclosures("", &sandbox).iter().map(ToString::to_string).collect()
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
}
