//! The sandbox of a program with every default filled in, and the rule that settings closer to the program only narrow
//! those of `orch.yaml`.

use std::path::{Component, Path};

use serde::{Deserialize, Serialize};

use super::sandbox::{Sandbox, SandboxLevel, SandboxLimits, SandboxNetwork};
use super::step::Access;

/// The workspace, as `write` names it.
const WORKSPACE: &str = ".";

/// The sandbox of a program: the settings of its step or agent, with the defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxSpec {
    /// The weakest level at which the program may run.
    pub min: SandboxLevel,
    /// What it may connect to.
    pub network: SandboxNetwork,
    /// The folders and files that it may change, as written.
    pub write: Vec<String>,
    /// The folders and files that it may not read, as written.
    pub deny_read: Vec<String>,
    /// Whether it may create UNIX sockets.
    pub unix_sockets: bool,
    /// How much it may use.
    pub limits: SandboxLimits,
}

impl SandboxSpec {
    /// The sandbox for a program with these settings of its own, in a project whose `orch.yaml` has these `defaults`.
    /// `None` if the program is not confined. Without `access: write`, the program can't change the workspace.
    pub fn resolve(own: &Sandbox, defaults: &Sandbox, access: Access) -> Option<Self> {
        if !own.enabled.or(defaults.enabled).unwrap_or(true) {
            return None;
        }
        let write = own.write.as_ref().or(defaults.write.as_ref());
        let mut write = write.cloned().unwrap_or_else(|| vec![WORKSPACE.to_owned()]);
        if access != Access::Write {
            write.retain(|path| is_outside_workspace(path));
        }
        let mut deny_read = defaults.deny_read.clone();
        deny_read.extend(own.deny_read.iter().filter(|path| !defaults.deny_read.contains(*path)).cloned());
        Some(Self {
            min: own.min.or(defaults.min).unwrap_or_default(),
            network: own.network.clone().or_else(|| defaults.network.clone()).unwrap_or_default(),
            write,
            deny_read,
            unix_sockets: own.unix_sockets.or(defaults.unix_sockets).unwrap_or(false),
            limits: own.limits.or(defaults.limits),
        })
    }

    /// The parts that can change what the program returns, for the fingerprint: everything but the level, which decides
    /// only whether the program runs.
    #[must_use]
    pub fn without_level(&self) -> Self {
        Self { min: SandboxLevel::None, ..self.clone() }
    }
}

/// What a sandbox belongs to. It decides which settings are in force without any in the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SandboxOwner {
    /// A CLI agent, which orch confines by default.
    Agent,
    /// A command step, which orch confines only if the step says so.
    Command,
}

/// A key of a sandbox that allows more than `orch.yaml` does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LooseKey {
    /// The key, below `sandbox`: `min`, `limits/memory`.
    pub key: &'static str,
    /// What `orch.yaml`, or its default, sets.
    pub allowed: String,
}

/// Returns the keys of `own` that allow more than `above`, the settings of `orch.yaml`.
///
/// A command step may allow everything that `orch.yaml` does not mention, since without a sandbox it could do anything.
/// An agent is confined by default, so `orch.yaml` must name what loosens that default. Only a list of hosts is the
/// agent's own choice.
pub fn loose_keys(own: &Sandbox, above: &Sandbox, owner: SandboxOwner) -> Vec<LooseKey> {
    let is_agent = owner == SandboxOwner::Agent;
    let mut keys = Vec::new();
    let mut add = |key: &'static str, allowed: String| keys.push(LooseKey { key, allowed });
    if is_agent && own.enabled == Some(false) && above.enabled != Some(false) {
        add("enabled", "true".to_owned());
    }
    let min = above.min.or(is_agent.then_some(SandboxLevel::Full));
    if let (Some(own), Some(min)) = (own.min, min)
        && own < min
    {
        add("min", min.to_string());
    }
    if let Some(own) = &own.network
        && let Some(allowed) = network_bound(own, above.network.as_ref(), is_agent)
    {
        add("network", allowed.to_string());
    }
    let workspace = vec![WORKSPACE.to_owned()];
    if let Some(own) = &own.write
        && let Some(allowed) = above.write.as_ref().or(is_agent.then_some(&workspace))
        && own.iter().any(|path| !allowed.iter().any(|folder| contains(folder, path)))
    {
        add("write", format!("[{}]", allowed.join(", ")));
    }
    if own.unix_sockets == Some(true) && !above.unix_sockets.unwrap_or(!is_agent) {
        add("unix_sockets", "false".to_owned());
    }
    let texts = limit_texts(&above.limits);
    for (((key, own), (_, above)), text) in own.limits.values().into_iter().zip(above.limits.values()).zip(texts) {
        if own.zip(above).is_some_and(|(own, above)| own > above) {
            add(limit_pointer(key), text);
        }
    }
    keys
}

/// The bound that a network exceeds, if it does.
fn network_bound(own: &SandboxNetwork, above: Option<&SandboxNetwork>, is_agent: bool) -> Option<SandboxNetwork> {
    let is_within = match (own, above) {
        (SandboxNetwork::None, _) | (_, Some(SandboxNetwork::All)) => true,
        (SandboxNetwork::Hosts(own), Some(SandboxNetwork::Hosts(above))) => own.iter().all(|host| above.contains(host)),
        (SandboxNetwork::Hosts(_), None) => true,
        (SandboxNetwork::All, None) => !is_agent,
        (SandboxNetwork::Hosts(_), Some(SandboxNetwork::None))
        | (SandboxNetwork::All, Some(SandboxNetwork::None | SandboxNetwork::Hosts(_))) => false,
    };
    (!is_within).then(|| above.cloned().unwrap_or_default())
}

/// The pointer of a limit below `sandbox`.
fn limit_pointer(key: &str) -> &'static str {
    match key {
        "memory" => "limits/memory",
        "processes" => "limits/processes",
        "cpu_time" => "limits/cpu_time",
        "file_size" => "limits/file_size",
        _ => "limits/open_files",
    }
}

/// The limits as written, in the order of [`SandboxLimits::values`].
fn limit_texts(limits: &SandboxLimits) -> [String; 5] {
    let number = |value: Option<u64>| value.map_or_else(String::new, |value| value.to_string());
    [
        limits.memory.map_or_else(String::new, |bytes| bytes.to_string()),
        number(limits.processes),
        limits.cpu_time.map_or_else(String::new, |time| time.to_string()),
        limits.file_size.map_or_else(String::new, |bytes| bytes.to_string()),
        number(limits.open_files),
    ]
}

/// Whether a path of `write` is outside of the workspace.
pub fn is_outside_workspace(path: &str) -> bool {
    path == "~" || path.starts_with("~/") || Path::new(path).is_absolute() || leads_up(path)
}

fn leads_up(path: &str) -> bool {
    Path::new(path).components().any(|part| part == Component::ParentDir)
}

/// Whether a path, as written, is a folder or below it. Both are compared as text, so links do not count.
fn contains(folder: &str, path: &str) -> bool {
    if folder == path {
        return true;
    }
    if leads_up(path) || is_outside_workspace(folder) != is_outside_workspace(path) {
        return false;
    }
    normal_parts(path).starts_with(&normal_parts(folder))
}

/// The parts of a path without those that mean the folder itself.
fn normal_parts(path: &str) -> Vec<Component<'_>> {
    Path::new(path).components().filter(|part| *part != Component::CurDir).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn sandbox(value: Value) -> Sandbox {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn the_settings_of_a_program_come_before_those_of_the_project() {
        let defaults =
            sandbox(json!({ "min": "basic", "network": "all", "deny_read": ["~/a"], "limits": { "memory": "1GiB" } }));
        let own = sandbox(json!({ "network": "none", "deny_read": ["~/b", "~/a"], "limits": { "processes": 9 } }));
        let spec = SandboxSpec::resolve(&own, &defaults, Access::Write).unwrap();
        assert_eq!((spec.min, &spec.network), (SandboxLevel::Basic, &SandboxNetwork::None));
        assert_eq!((spec.write, spec.deny_read), (vec![".".to_owned()], vec!["~/a".to_owned(), "~/b".to_owned()]));
        assert_eq!(json!(spec.limits), json!({ "memory": "1GiB", "processes": 9 }));
        let spec = SandboxSpec::resolve(&Sandbox::default(), &Sandbox::default(), Access::Write).unwrap();
        assert_eq!((spec.min, spec.network, spec.unix_sockets), (SandboxLevel::Full, SandboxNetwork::None, false));
        let off = sandbox(json!({ "enabled": false }));
        assert_eq!(SandboxSpec::resolve(&Sandbox::default(), &off, Access::Write), None);
        assert!(SandboxSpec::resolve(&sandbox(json!({ "enabled": true })), &off, Access::Write).is_some());
    }

    #[test]
    fn a_program_without_write_access_cannot_change_the_workspace() {
        let own = sandbox(json!({ "write": [".", "src", "~/.cache/x", "/opt/x"] }));
        for access in [Access::Read, Access::None] {
            let spec = SandboxSpec::resolve(&own, &Sandbox::default(), access).unwrap();
            assert_eq!(spec.write, ["~/.cache/x", "/opt/x"]);
        }
    }

    #[test]
    fn the_level_is_not_part_of_what_a_program_returns() {
        let spec = |own: Value| SandboxSpec::resolve(&sandbox(own), &Sandbox::default(), Access::Write).unwrap();
        assert_eq!(spec(json!({ "min": "basic" })).without_level(), spec(json!({})).without_level());
        assert_ne!(spec(json!({ "network": "all" })).without_level(), spec(json!({})).without_level());
    }

    #[test]
    fn an_agent_only_narrows_its_default_and_a_command_only_what_the_project_sets() {
        use SandboxOwner::{Agent, Command};
        let none = json!({});
        for (own, above, agent, command) in [
            (json!({ "enabled": false }), none.clone(), "enabled", ""),
            (json!({ "enabled": false }), json!({ "enabled": false }), "", ""),
            (json!({ "min": "basic" }), none.clone(), "min", ""),
            (json!({ "min": "basic" }), json!({ "min": "basic" }), "", ""),
            (json!({ "min": "basic" }), json!({ "min": "full" }), "min", "min"),
            (json!({ "min": "full" }), json!({ "min": "none" }), "", ""),
            (json!({ "network": "all" }), none.clone(), "network", ""),
            (json!({ "network": "all" }), json!({ "network": ["a.example"] }), "network", "network"),
            (json!({ "network": "all" }), json!({ "network": "all" }), "", ""),
            (json!({ "network": ["a.example"] }), none.clone(), "", ""),
            (json!({ "network": ["a.example"] }), json!({ "network": "none" }), "network", "network"),
            (json!({ "network": ["a.example"] }), json!({ "network": ["b.example", "a.example"] }), "", ""),
            (json!({ "network": ["c.example"] }), json!({ "network": ["b.example"] }), "network", "network"),
            (json!({ "network": "none" }), json!({ "network": "none" }), "", ""),
            (json!({ "write": ["src", "./a/b"] }), none.clone(), "", ""),
            (json!({ "write": ["~/x"] }), none.clone(), "write", ""),
            (json!({ "write": ["../x"] }), none.clone(), "write", ""),
            (json!({ "write": ["~/x/y"] }), json!({ "write": [".", "~/x"] }), "", ""),
            (json!({ "write": ["~/x/../y"] }), json!({ "write": ["~/x"] }), "write", "write"),
            (json!({ "write": ["."] }), json!({ "write": ["src"] }), "write", "write"),
            (json!({ "unix_sockets": true }), none.clone(), "unix_sockets", ""),
            (json!({ "unix_sockets": true }), json!({ "unix_sockets": false }), "unix_sockets", "unix_sockets"),
            (json!({ "unix_sockets": true }), json!({ "unix_sockets": true }), "", ""),
            (json!({ "limits": { "memory": "2GiB" } }), none.clone(), "", ""),
            (
                json!({ "limits": { "memory": "2GiB" } }),
                json!({ "limits": { "memory": "1024MiB" } }),
                "limits/memory",
                "limits/memory",
            ),
            (json!({ "limits": { "cpu_time": "60s" } }), json!({ "limits": { "cpu_time": "1m" } }), "", ""),
        ] {
            let (own_sandbox, above_sandbox) = (sandbox(own.clone()), sandbox(above.clone()));
            for (owner, expected) in [(Agent, agent), (Command, command)] {
                let keys: Vec<&str> =
                    loose_keys(&own_sandbox, &above_sandbox, owner).into_iter().map(|loose| loose.key).collect();
                let expected: Vec<&str> = [expected].into_iter().filter(|key| !key.is_empty()).collect();
                assert_eq!(keys, expected, "{owner:?}: {own} in {above}");
            }
        }
    }
}
