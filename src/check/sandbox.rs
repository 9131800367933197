//! Checks sandboxes: every host and path is valid, every key has an effect, and no agent or step allows more than
//! `orch.yaml`.

use std::ffi::OsStr;
use std::path::{Component, Path};

use crate::config::{Document, Project, Settings, child_pointer, item_pointer, steps_with_pointers};
use crate::diagnostic::{Code, Diagnostic};
use crate::model::{LoosenedSetting, Sandbox, SandboxLevel, SandboxNetwork, SandboxOwner, loosened_settings};

/// Folders that no sandbox may make writable, because a program could change the machine through them.
const NEVER_WRITABLE: [&str; 4] = ["/", "/proc", "/sys", "/dev"];

/// Checks the sandboxes of `orch.yaml`.
pub(super) fn check_settings(document: &Document, settings: &Settings) -> Vec<Diagnostic> {
    let mut diagnostics = Vec::new();
    let check = SandboxCheck { document, pointer: "/sandbox".to_owned(), sandbox: &settings.sandbox };
    check.check_values(&mut diagnostics);
    // The file also sets the bounds, so a server may allow more than the defaults for other programs.
    for (name, server) in &settings.mcp {
        let Some(sandbox) = server.sandbox.as_ref().filter(|_| server.command.is_some()) else { continue };
        let pointer = child_pointer(&child_pointer("/mcp", name), "sandbox");
        SandboxCheck { document, pointer, sandbox }.check_values(&mut diagnostics);
    }
    diagnostics
}

/// Checks the sandboxes of a pipeline.
pub(super) fn check(project: &Project) -> Vec<Diagnostic> {
    let settings = &project.settings.sandbox;
    let mut diagnostics = Vec::new();
    let document = &project.document;
    for (name, agent) in &project.pipeline.agents {
        let pointer = child_pointer(&child_pointer("/agents", name), "sandbox");
        // `tools::check` reports a `sandbox` of a model without tools.
        let has_sandbox = agent.cli_kind().is_some() || !agent.tools.names().is_empty();
        if let Some(sandbox) = agent.sandbox.as_ref().filter(|_| has_sandbox) {
            let check = SandboxCheck { document, pointer, sandbox };
            check.check_values(&mut diagnostics);
            check.check_bounds(settings, SandboxOwner::Agent, &mut diagnostics);
        }
    }
    for (pointer, step) in steps_with_pointers(&project.pipeline) {
        // `kinds` and `call_steps` report a `sandbox` that does not apply. As an agent, a tool of orch has a sandbox by
        // default.
        let owner = if step.called_builtin().is_some() { SandboxOwner::Agent } else { SandboxOwner::Command };
        let has_sandbox = step.run.is_some() || step.called_builtin().is_some();
        if let Some(sandbox) = step.sandbox.as_ref().filter(|_| has_sandbox) {
            let check = SandboxCheck { document, pointer: child_pointer(&pointer, "sandbox"), sandbox };
            check.check_values(&mut diagnostics);
            check.check_bounds(settings, owner, &mut diagnostics);
        }
    }
    diagnostics
}

/// The check of one `sandbox` in a file.
struct SandboxCheck<'a> {
    document: &'a Document,
    pointer: String,
    sandbox: &'a Sandbox,
}

impl SandboxCheck<'_> {
    /// The pointer of a nested key, such as `limits/memory`.
    fn nested_pointer(&self, keys: &str) -> String {
        keys.split('/').fold(self.pointer.clone(), |pointer, key| child_pointer(&pointer, key))
    }

    fn with_key_span(&self, diagnostic: Diagnostic, keys: &str) -> Diagnostic {
        diagnostic.with_span(&self.document.file, self.document.spans.key(&self.nested_pointer(keys)))
    }

    fn check_values(&self, diagnostics: &mut Vec<Diagnostic>) {
        self.check_hosts(diagnostics);
        let write = self.sandbox.write.as_deref().unwrap_or_default();
        for (key, paths) in [("write", write), ("deny_read", self.sandbox.deny_read.as_slice())] {
            for (index, path) in paths.iter().enumerate() {
                let Some((problem, help)) = path_problem(key, path) else { continue };
                let span = self.document.spans.value(&item_pointer(&self.nested_pointer(key), index));
                let diagnostic = Diagnostic::error(Code::WrongValue, problem);
                diagnostics.push(diagnostic.with_span(&self.document.file, span).with_help(help));
            }
        }
        self.check_effects(diagnostics);
    }

    fn check_hosts(&self, diagnostics: &mut Vec<Diagnostic>) {
        let Some(SandboxNetwork::Hosts(hosts)) = &self.sandbox.network else { return };
        for (index, host) in hosts.iter().enumerate() {
            let Err(reason) = host.parse() else { continue };
            let (problem, help) = reason.split_once("; ").unwrap_or((reason.as_str(), "write `NAME` or `NAME:PORT`"));
            let entry_pointer = item_pointer(&self.nested_pointer("network"), index);
            let host_pointer = child_pointer(&entry_pointer, "host");
            let pointer = if self.document.spans.contains(&host_pointer) { host_pointer } else { entry_pointer };
            let diagnostic = Diagnostic::error(Code::WrongValue, problem)
                .with_span(&self.document.file, self.document.spans.value(&pointer));
            diagnostics.push(diagnostic.with_help(help));
        }
    }

    /// Reports keys that have no effect because of another key.
    fn check_effects(&self, diagnostics: &mut Vec<Diagnostic>) {
        let Sandbox { enabled, min, network, write, deny_read, unix_sockets, limits } = self.sandbox;
        if *enabled == Some(false) {
            let keys = [
                ("min", min.is_some()),
                ("network", network.is_some()),
                ("write", write.is_some()),
                ("deny_read", !deny_read.is_empty()),
                ("unix_sockets", unix_sockets.is_some()),
                ("limits", !limits.is_unset()),
            ];
            // The keys of `orch.yaml` are also the defaults of programs with `enabled: true`.
            let is_settings = self.pointer == "/sandbox";
            for (key, _) in keys.into_iter().filter(|(_, is_set)| *is_set && !is_settings) {
                let message = format!("`{key}` has no effect with `enabled: false`");
                let diagnostic = self.with_key_span(Diagnostic::error(Code::KeyNotApplicable, message), key);
                diagnostics.push(diagnostic.with_help(format!("remove `{key}`, or `enabled: false`")));
            }
        }
        let Some(min) = min.filter(|min| *min < SandboxLevel::Full) else { return };
        let full_level_settings = [
            (
                matches!(network, Some(SandboxNetwork::Hosts(_))),
                "a list of hosts",
                "remove `min`, or write `network: none` or `network: all`",
            ),
            (*unix_sockets == Some(true), "`unix_sockets`", "remove `min`, or `unix_sockets`"),
        ];
        for (_, setting, help) in full_level_settings.into_iter().filter(|(is_set, ..)| *is_set) {
            let message = format!("`min: {min}` has no effect, because only the level `full` can enforce {setting}");
            let diagnostic = self.with_key_span(Diagnostic::warning(Code::KeyNotApplicable, message), "min");
            diagnostics.push(diagnostic.with_help(help));
        }
    }

    /// Reports settings that allow more than `orch.yaml`.
    fn check_bounds(&self, bounds: &Sandbox, owner: SandboxOwner, diagnostics: &mut Vec<Diagnostic>) {
        for LoosenedSetting { key, allowed, hosts } in loosened_settings(self.sandbox, bounds, owner) {
            let dotted_key = key.replace('/', ".");
            let (message, help) = if hosts.is_empty() {
                let message =
                    format!("`{dotted_key}` allows more than `orch.yaml`, which allows `{dotted_key}: {allowed}`");
                (message, loosened_setting_help(key, owner))
            } else {
                let hosts = hosts.join("`, `");
                let message = format!("`{dotted_key}` allows more than `orch.yaml`, which allows {allowed}: `{hosts}`");
                let help = "remove these hosts here, or list all hosts that programs need under `sandbox.network` in \
                            `orch.yaml`";
                (message, help.to_owned())
            };
            let diagnostic = Diagnostic::error(Code::SandboxTooLoose, message);
            diagnostics.push(self.with_key_span(diagnostic, key).with_help(help));
        }
    }
}

/// The help for a setting that allows more than `orch.yaml`.
fn loosened_setting_help(key: &str, owner: SandboxOwner) -> String {
    match owner {
        SandboxOwner::Agent => {
            format!("allow less here, or set `sandbox: {{ {} }}` in `orch.yaml`", yaml_notation(key))
        }
        SandboxOwner::Command => {
            format!("allow less here, or change `sandbox.{}` in `orch.yaml`", key.replace('/', "."))
        }
    }
}

/// A key in YAML notation: `limits: { memory: … }`.
fn yaml_notation(key: &str) -> String {
    key.split_once('/').map_or_else(|| format!("{key}: …"), |(outer, inner)| format!("{outer}: {{ {inner}: … }}"))
}

/// Returns the problem of an invalid path, and the help for it; `None` for a valid path.
fn path_problem(key: &str, path: &str) -> Option<(String, &'static str)> {
    let components = || Path::new(path).components();
    if components().any(|component| component == Component::ParentDir) {
        return Some((format!("`{path}` of `{key}` contains `..`"), "write the whole path, from `~/` or `/`"));
    }
    let names_other_home = |first: &OsStr| first != "~" && first.as_encoded_bytes().starts_with(b"~");
    if matches!(components().next(), Some(Component::Normal(first)) if names_other_home(first)) {
        let help = "write the whole path, from `/`; `~/` is your own home";
        return Some((format!("`{path}` of `{key}` names the home of another user"), help));
    }
    // A writable folder may have a name such as `[id]`.
    let patterns: &[char] = if key == "write" { &['*', '?'] } else { &['*', '?', '['] };
    if let Some(pattern) = path.chars().find(|character| patterns.contains(character)) {
        let problem = format!("`{path}` of `{key}` contains `{pattern}`, and patterns are not supported");
        return Some((problem, "list each path, or the folder that contains the paths"));
    }
    if key == "deny_read" && !components().any(|component| matches!(component, Component::Normal(_))) {
        let help = "list the folders and files below it that the program must not read";
        let folder = if path.starts_with('/') { "all files" } else { "the workspace, in which the program runs" };
        return Some((format!("`{path}` of `{key}` contains {folder}"), help));
    }
    let is_never_writable = NEVER_WRITABLE.iter().any(|folder| Path::new(path) == Path::new(folder));
    if key == "write" && is_never_writable {
        let help = "name the folders below it that the program must change";
        return Some((format!("`{path}` of `{key}` can't be writable"), help));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_with_parent_components_and_system_folders_are_invalid() {
        for (key, path) in [
            ("write", ".."),
            ("write", "a/../b"),
            ("deny_read", "~/../x"),
            ("write", "~other/x"),
            ("write", "/"),
            ("write", "//"),
            ("write", "/proc/"),
            ("write", "//proc"),
            ("write", "/./dev/."),
            ("write", "~other"),
            ("write", "/./dev"),
            ("write", "out/*"),
            ("write", "~/cache?"),
            ("deny_read", "/"),
            ("deny_read", "//"),
            ("deny_read", "/."),
            ("deny_read", "."),
            ("deny_read", "./"),
            ("deny_read", "*.pem"),
            ("deny_read", "~/.env?"),
            ("deny_read", "secrets/[ab]"),
        ] {
            assert!(path_problem(key, path).is_some(), "{key} {path}");
        }
        for (key, path) in [
            ("write", "."),
            ("write", "~/x"),
            ("write", "a..b"),
            ("write", "~"),
            ("write", "app/[id]"),
            ("write", "proc"),
            ("deny_read", "~"),
            ("deny_read", "/etc"),
            ("deny_read", "src"),
        ] {
            assert!(path_problem(key, path).is_none(), "{key} {path}");
        }
    }
}
