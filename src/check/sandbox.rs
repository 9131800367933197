//! Checks sandboxes: their hosts and paths are valid, their keys have an effect, and agents and steps allow no more than
//! `orch.yaml`.

use crate::config::{Document, Project, child_pointer, item_pointer, steps_with_pointers};
use crate::diagnostic::{Code, Diagnostic};
use crate::model::{LooseKey, Sandbox, SandboxLevel, SandboxNetwork, SandboxOwner, loose_keys};

/// Folders that no sandbox may make writable: a program could change the machine through them.
const NEVER_WRITABLE: [&str; 4] = ["/", "/proc", "/sys", "/dev"];

pub(super) fn check(project: &Project) -> Vec<Diagnostic> {
    let settings = &project.settings.sandbox;
    let mut diagnostics = Vec::new();
    if let Some(document) = &project.settings_document {
        let site = SandboxSite { document, pointer: "/sandbox".to_owned(), sandbox: settings };
        site.check_values(&mut diagnostics);
    }
    let document = &project.document;
    for (name, agent) in &project.pipeline.agents {
        let pointer = child_pointer(&child_pointer("/agents", name), "sandbox");
        // An agent with a model starts no program; the check of agents reports this.
        if let Some(sandbox) = agent.sandbox.as_ref().filter(|_| agent.cli_kind().is_some()) {
            let site = SandboxSite { document, pointer, sandbox };
            site.check_values(&mut diagnostics);
            site.check_narrows(settings, SandboxOwner::Agent, &mut diagnostics);
        }
    }
    for (pointer, step) in steps_with_pointers(&project.pipeline) {
        if let Some(sandbox) = step.sandbox.as_ref().filter(|_| step.run.is_some()) {
            let site = SandboxSite { document, pointer: child_pointer(&pointer, "sandbox"), sandbox };
            site.check_values(&mut diagnostics);
            site.check_narrows(settings, SandboxOwner::Command, &mut diagnostics);
        }
    }
    diagnostics
}

/// A `sandbox` in a file.
struct SandboxSite<'a> {
    document: &'a Document,
    pointer: String,
    sandbox: &'a Sandbox,
}

impl SandboxSite<'_> {
    fn pointer_of(&self, keys: &str) -> String {
        keys.split('/').fold(self.pointer.clone(), |pointer, key| child_pointer(&pointer, key))
    }

    fn at_key(&self, diagnostic: Diagnostic, keys: &str) -> Diagnostic {
        diagnostic.with_span(&self.document.file, self.document.spans.key(&self.pointer_of(keys)))
    }

    fn check_values(&self, diagnostics: &mut Vec<Diagnostic>) {
        self.check_hosts(diagnostics);
        let write = self.sandbox.write.as_deref().unwrap_or_default();
        for (key, paths) in [("write", write), ("deny_read", self.sandbox.deny_read.as_slice())] {
            for (index, path) in paths.iter().enumerate() {
                let Some((problem, help)) = path_problem(key, path) else { continue };
                let span = self.document.spans.value(&item_pointer(&self.pointer_of(key), index));
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
            let pointer = item_pointer(&self.pointer_of("network"), index);
            let nested = child_pointer(&pointer, "host");
            let pointer = if self.document.spans.contains(&nested) { nested } else { pointer };
            let diagnostic = Diagnostic::error(Code::WrongValue, problem)
                .with_span(&self.document.file, self.document.spans.value(&pointer));
            diagnostics.push(diagnostic.with_help(help));
        }
    }

    /// Reports keys that have no effect, or that contradict each other.
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
            // The keys of `orch.yaml` are defaults, also for programs that turn the sandbox on again.
            let is_settings = self.pointer == "/sandbox";
            for (key, _) in keys.into_iter().filter(|(_, is_set)| *is_set && !is_settings) {
                let message = format!("`{key}` has no effect with `enabled: false`");
                let diagnostic = self.at_key(Diagnostic::error(Code::KeyNotApplicable, message), key);
                diagnostics.push(diagnostic.with_help(format!("remove `{key}`, or `enabled: false`")));
            }
        }
        let Some(min) = min.filter(|min| *min < SandboxLevel::Full) else { return };
        let full_only = [
            (matches!(network, Some(SandboxNetwork::Hosts(_))), "a list of hosts"),
            (*unix_sockets == Some(true), "`unix_sockets`"),
        ];
        for (_, what) in full_only.into_iter().filter(|(is_set, _)| *is_set) {
            let message = format!("`min: {min}` has no effect, because only the level `full` can enforce {what}");
            let diagnostic = self.at_key(Diagnostic::warning(Code::KeyNotApplicable, message), "min");
            diagnostics.push(diagnostic.with_help("remove `min`, or write `network: none` or `network: all`"));
        }
    }

    /// Reports keys that allow more than `orch.yaml`.
    fn check_narrows(&self, above: &Sandbox, owner: SandboxOwner, diagnostics: &mut Vec<Diagnostic>) {
        for LooseKey { key, allowed } in loose_keys(self.sandbox, above, owner) {
            let name = key.replace('/', ".");
            let message = format!("`{name}` allows more than `orch.yaml`, which allows `{name}: {allowed}`");
            let help = match owner {
                SandboxOwner::Agent => {
                    format!("narrow it, or set `sandbox: {{ {} }}` in `orch.yaml` (`orch trust` shows it)", nested(key))
                }
                SandboxOwner::Command => format!("narrow it, or change `sandbox.{name}` in `orch.yaml`"),
            };
            diagnostics.push(self.at_key(Diagnostic::error(Code::SandboxTooLoose, message), key).with_help(help));
        }
    }
}

/// A key as `orch.yaml` writes it: `limits: { memory: … }`.
fn nested(key: &str) -> String {
    key.split_once('/').map_or_else(|| format!("{key}: …"), |(outer, inner)| format!("{outer}: {{ {inner}: … }}"))
}

/// What is wrong with a path, and what to do.
fn path_problem(key: &str, path: &str) -> Option<(String, &'static str)> {
    if path.split('/').any(|part| part == "..") {
        return Some((format!("`{path}` of `{key}` contains `..`"), "write the path from `~/` or `/` on"));
    }
    if path.starts_with('~') && path != "~" && !path.starts_with("~/") {
        let help = "write the path from `/` on; `~/` is your own home";
        return Some((format!("`{path}` of `{key}` names the home of another user"), help));
    }
    let is_never_writable = NEVER_WRITABLE.contains(&path.trim_end_matches('/')) || path == "/";
    if key == "write" && is_never_writable {
        let help = "name the folders below it that the program must change";
        return Some((format!("`{path}` can't be writable"), help));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_have_no_parts_that_lead_up_and_the_machine_is_never_writable() {
        for (key, path) in [
            ("write", ".."),
            ("write", "a/../b"),
            ("deny_read", "~/../x"),
            ("write", "~other/x"),
            ("write", "/"),
            ("write", "/proc/"),
        ] {
            assert!(path_problem(key, path).is_some(), "{key} {path}");
        }
        for (key, path) in [("write", "."), ("write", "~/x"), ("deny_read", "/"), ("write", "a..b"), ("write", "~")] {
            assert!(path_problem(key, path).is_none(), "{key} {path}");
        }
    }
}
