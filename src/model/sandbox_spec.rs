//! The sandbox of a program with every default filled in, and the check that agents and steps allow only what
//! `orch.yaml` allows.

use std::path::{Component, Path};

use serde::{Deserialize, Serialize};

use super::allowed_host::AllowedHost;
use super::sandbox::{Sandbox, SandboxLevel, SandboxLimits, SandboxNetwork};
use super::step::Access;

/// The path of the workspace in `write`.
const WORKSPACE: &str = ".";

/// The sandbox of a program: the settings of its step or agent, with the defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxSpec {
    /// The weakest level at which the program may run.
    pub min: SandboxLevel,
    /// The hosts that the program may connect to.
    pub network: SandboxNetwork,
    /// The folders and files that the program may change, as in the settings.
    pub write: Vec<String>,
    /// Whether the workspace stays read-only even if it is inside a folder that the program may change.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub protects_workspace: bool,
    /// The folders and files that the program may not read, as in the settings.
    pub deny_read: Vec<String>,
    /// Whether the program may create UNIX sockets.
    pub unix_sockets: bool,
    /// The limits on the resources of the program.
    pub limits: SandboxLimits,
}

impl SandboxSpec {
    /// Merges the settings of a program with the defaults in `orch.yaml`. Returns `None` if orch does not confine the
    /// program. Without `access: write`, the program can't change the workspace.
    pub fn resolve(settings: &Sandbox, defaults: &Sandbox, access: Access) -> Option<Self> {
        if !settings.enabled.or(defaults.enabled).unwrap_or(true) {
            return None;
        }
        let write = settings.write.as_ref().or(defaults.write.as_ref());
        let mut write = write.cloned().unwrap_or_else(|| vec![WORKSPACE.to_owned()]);
        if access != Access::Write {
            write.retain(|path| is_outside_workspace(path));
        }
        let mut deny_read = defaults.deny_read.clone();
        deny_read.extend(settings.deny_read.iter().filter(|path| !defaults.deny_read.contains(*path)).cloned());
        Some(Self {
            min: settings.min.or(defaults.min).unwrap_or_default(),
            network: settings.network.clone().or_else(|| defaults.network.clone()).unwrap_or_default(),
            write,
            protects_workspace: access != Access::Write,
            deny_read,
            unix_sockets: settings.unix_sockets.or(defaults.unix_sockets).unwrap_or(false),
            limits: settings.limits.with_defaults(defaults.limits),
        })
    }

    /// The sandbox for a fingerprint: without the minimum level, which determines only whether the program runs, and
    /// not its result.
    #[must_use]
    pub fn without_level(&self) -> Self {
        Self { min: SandboxLevel::None, ..self.clone() }
    }
}

/// The kind of program that has a sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SandboxOwner {
    /// A CLI agent. orch confines it by default.
    Agent,
    /// The command of a step. orch confines it only if the step has a `sandbox`.
    Command,
}

/// A setting of a sandbox that allows more than `orch.yaml`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoosenedSetting {
    /// The path of the setting below `sandbox`: `min`, `limits/memory`.
    pub key: &'static str,
    /// The value in `orch.yaml`, or the default.
    pub allowed: String,
    /// The hosts that the setting lists and that `orch.yaml` does not, if only these hosts allow more.
    pub hosts: Vec<String>,
}

/// Returns the settings of `requested` that allow more than `bounds`, the sandbox of `orch.yaml`.
///
/// If `orch.yaml` leaves a setting out, a command step may set any value: without a sandbox, the command could do
/// anything. For an agent, the default is the bound, except that an agent may list public hosts.
pub fn loosened_settings(requested: &Sandbox, bounds: &Sandbox, owner: SandboxOwner) -> Vec<LoosenedSetting> {
    let is_agent = owner == SandboxOwner::Agent;
    let mut settings = Vec::new();
    let mut add =
        |key: &'static str, allowed: String| settings.push(LoosenedSetting { key, allowed, hosts: Vec::new() });
    if is_agent && requested.enabled == Some(false) && bounds.enabled != Some(false) {
        add("enabled", "true".to_owned());
    }
    let min_bound = bounds.min.or(is_agent.then_some(SandboxLevel::Full));
    if let (Some(min), Some(min_bound)) = (requested.min, min_bound)
        && min < min_bound
    {
        add("min", min_bound.to_string());
    }
    let workspace = vec![WORKSPACE.to_owned()];
    if let Some(write) = &requested.write
        && let Some(allowed) = bounds.write.as_ref().or(is_agent.then_some(&workspace))
        && write.iter().any(|path| !allowed.iter().any(|folder| is_at_or_below(path, folder)))
    {
        add("write", format!("[{}]", allowed.join(", ")));
    }
    if requested.unix_sockets == Some(true) && !bounds.unix_sockets.unwrap_or(!is_agent) {
        add("unix_sockets", "false".to_owned());
    }
    let requested_limits = requested.limits.values().into_iter();
    let limit_bounds = bounds.limits.values().into_iter().zip(limit_texts(&bounds.limits));
    for ((key, limit), ((_, bound), bound_text)) in requested_limits.zip(limit_bounds) {
        if limit.zip(bound).is_some_and(|(limit, bound)| limit > bound) {
            add(limit_key(key), bound_text);
        }
    }
    if let Some(network) = &requested.network {
        settings.extend(loosened_network(network, bounds.network.as_ref(), is_agent));
    }
    settings
}

/// Whether the `network` of `orch.yaml` allows an agent to connect to a host that the pipeline lists. If `orch.yaml`
/// does not set `network`, an agent may list public hosts.
pub fn allows_agent_host(bound: Option<&SandboxNetwork>, host: &AllowedHost) -> bool {
    match bound {
        None => !host.may_be_private(),
        Some(SandboxNetwork::None) => false,
        Some(SandboxNetwork::All) => true,
        Some(SandboxNetwork::Hosts(allowed)) => allowed.iter().any(|entry| entry.covers(host)),
    }
}

/// Returns the setting `network` if `requested` allows more than the bound.
fn loosened_network(
    requested: &SandboxNetwork,
    bound: Option<&SandboxNetwork>,
    is_agent: bool,
) -> Option<LoosenedSetting> {
    let hosts: Vec<String> = match (requested, bound) {
        (SandboxNetwork::None, _) | (_, Some(SandboxNetwork::All)) => return None,
        (SandboxNetwork::Hosts(_) | SandboxNetwork::All, None) if !is_agent => return None,
        (SandboxNetwork::Hosts(hosts), Some(SandboxNetwork::Hosts(_)) | None) => {
            hosts.iter().filter(|host| !allows_agent_host(bound, host)).map(|host| host.host.clone()).collect()
        }
        (SandboxNetwork::Hosts(_), Some(SandboxNetwork::None))
        | (SandboxNetwork::All, Some(SandboxNetwork::None | SandboxNetwork::Hosts(_)) | None) => {
            let allowed = bound.cloned().unwrap_or_default().to_string();
            return Some(LoosenedSetting { key: "network", allowed, hosts: Vec::new() });
        }
    };
    let allowed = bound.map_or_else(|| "public hosts".to_owned(), ToString::to_string);
    (!hosts.is_empty()).then_some(LoosenedSetting { key: "network", allowed, hosts })
}

/// The path of a limit's key below `sandbox`.
fn limit_key(key: &str) -> &'static str {
    match key {
        "memory" => "limits/memory",
        "processes" => "limits/processes",
        "cpu_time" => "limits/cpu_time",
        "file_size" => "limits/file_size",
        _ => "limits/open_files",
    }
}

/// The limits in the notation of the settings, in the order of [`SandboxLimits::values`]. A limit that is not set is an
/// empty string.
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

/// Whether a path of `write` is outside the workspace.
pub fn is_outside_workspace(path: &str) -> bool {
    path == "~" || path.starts_with("~/") || Path::new(path).is_absolute() || has_parent_component(path)
}

/// Whether a path contains `..`.
fn has_parent_component(path: &str) -> bool {
    Path::new(path).components().any(|component| component == Component::ParentDir)
}

/// Whether a path is `folder` or below it. Compares the paths as texts, and does not resolve links.
fn is_at_or_below(path: &str, folder: &str) -> bool {
    if folder == path {
        return true;
    }
    if has_parent_component(path) || is_outside_workspace(folder) != is_outside_workspace(path) {
        return false;
    }
    components(path).starts_with(&components(folder))
}

/// The components of a path without `.`.
fn components(path: &str) -> Vec<Component<'_>> {
    Path::new(path).components().filter(|component| *component != Component::CurDir).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn sandbox(value: Value) -> Sandbox {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn the_settings_of_a_program_take_precedence_over_those_of_the_project() {
        let defaults =
            sandbox(json!({ "min": "basic", "network": "all", "deny_read": ["~/a"], "limits": { "memory": "1GiB" } }));
        let settings = sandbox(json!({ "network": "none", "deny_read": ["~/b", "~/a"], "limits": { "processes": 9 } }));
        let spec = SandboxSpec::resolve(&settings, &defaults, Access::Write).unwrap();
        assert_eq!((spec.min, &spec.network), (SandboxLevel::Basic, &SandboxNetwork::None));
        assert_eq!((spec.write, spec.deny_read), (vec![".".to_owned()], vec!["~/a".to_owned(), "~/b".to_owned()]));
        assert_eq!(json!(spec.limits), json!({ "memory": "1GiB", "processes": 9 }));
        let spec = SandboxSpec::resolve(&Sandbox::default(), &Sandbox::default(), Access::Write).unwrap();
        assert_eq!((spec.min, spec.network, spec.unix_sockets), (SandboxLevel::Full, SandboxNetwork::None, false));
        let disabled = sandbox(json!({ "enabled": false }));
        assert_eq!(SandboxSpec::resolve(&Sandbox::default(), &disabled, Access::Write), None);
        assert!(SandboxSpec::resolve(&sandbox(json!({ "enabled": true })), &disabled, Access::Write).is_some());
    }

    #[test]
    fn a_program_without_write_access_cannot_change_the_workspace() {
        let settings = sandbox(json!({ "write": [".", "src", "~/.cache/x", "/opt/x"] }));
        for access in [Access::Read, Access::None] {
            let spec = SandboxSpec::resolve(&settings, &Sandbox::default(), access).unwrap();
            assert_eq!(spec.write, ["~/.cache/x", "/opt/x"]);
            assert!(spec.protects_workspace, "a folder above the workspace may be writable");
        }
        let spec = SandboxSpec::resolve(&settings, &Sandbox::default(), Access::Write).unwrap();
        assert!(!spec.protects_workspace && json!(spec).get("protects_workspace").is_none());
    }

    #[test]
    fn the_level_is_not_part_of_the_fingerprint() {
        let spec =
            |settings: Value| SandboxSpec::resolve(&sandbox(settings), &Sandbox::default(), Access::Write).unwrap();
        assert_eq!(spec(json!({ "min": "basic" })).without_level(), spec(json!({})).without_level());
        assert_ne!(spec(json!({ "network": "all" })).without_level(), spec(json!({})).without_level());
    }

    #[test]
    fn an_agent_may_not_exceed_its_defaults_and_a_command_may_not_exceed_the_project() {
        use SandboxOwner::{Agent, Command};
        let none = json!({});
        for (requested, bounds, loose_for_agent, loose_for_command) in [
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
            (json!({ "network": ["localhost:5432"] }), none.clone(), "network", ""),
            (json!({ "network": ["10.1.2.3:80"] }), none.clone(), "network", ""),
            (json!({ "network": [{ "host": "git.corp", "private": true }] }), none.clone(), "network", ""),
            (json!({ "network": [{ "host": "169.254.169.254", "private": true }] }), none.clone(), "network", ""),
            (json!({ "network": ["localhost:5432"] }), json!({ "network": ["localhost:5432"] }), "", ""),
            (json!({ "network": ["localhost:5432"] }), json!({ "network": "all" }), "", ""),
            (json!({ "network": ["a.example"] }), json!({ "network": ["b.example", "a.example"] }), "", ""),
            (json!({ "network": ["c.example"] }), json!({ "network": ["b.example"] }), "network", "network"),
            (
                json!({ "network": ["a.example:443", "git.corp"] }),
                json!({ "network": ["A.example", { "host": "git.corp", "private": true }] }),
                "",
                "",
            ),
            (json!({ "network": ["a.example:22"] }), json!({ "network": ["a.example"] }), "network", "network"),
            (
                json!({ "network": [{ "host": "git.corp", "private": true }] }),
                json!({ "network": ["git.corp"] }),
                "network",
                "network",
            ),
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
            let (requested_sandbox, bounds_sandbox) = (sandbox(requested.clone()), sandbox(bounds.clone()));
            for (owner, expected) in [(Agent, loose_for_agent), (Command, loose_for_command)] {
                let keys: Vec<&str> = loosened_settings(&requested_sandbox, &bounds_sandbox, owner)
                    .into_iter()
                    .map(|setting| setting.key)
                    .collect();
                let expected: Vec<&str> = [expected].into_iter().filter(|key| !key.is_empty()).collect();
                assert_eq!(keys, expected, "{owner:?}: {requested} in {bounds}");
            }
        }
    }

    #[test]
    fn a_loose_network_names_the_hosts_that_the_project_does_not_list() {
        let requested = sandbox(json!({ "network": ["a.example", "localhost:1", "b.example"] }));
        let hosts = |bounds: Value| {
            let settings = loosened_settings(&requested, &sandbox(bounds), SandboxOwner::Agent);
            settings.into_iter().map(|setting| (setting.hosts, setting.allowed)).collect::<Vec<_>>()
        };
        let entry = |hosts: &[&str], allowed: &str| {
            [(hosts.iter().map(|host| (*host).to_owned()).collect::<Vec<_>>(), allowed.to_owned())]
        };
        assert_eq!(hosts(json!({})), entry(&["localhost:1"], "public hosts"));
        assert_eq!(hosts(json!({ "network": ["a.example"] })), entry(&["localhost:1", "b.example"], "[a.example]"));
        assert_eq!(hosts(json!({ "network": "none" })), entry(&[], "none"));
    }
}
