//! Agents and models: each is defined, used, and its model's name stands for something.

use std::collections::BTreeMap;

use crate::config::Project;
use crate::diagnostic::{Code, Diagnostic, did_you_mean};
use crate::model::name::{BUILT_IN, NameError, resolve_name};

use super::{at, at_key};

pub(super) fn check(project: &Project, findings: &mut Vec<Diagnostic>) {
    let pipeline = &project.pipeline;
    for (i, step) in pipeline.steps.iter().enumerate() {
        if !pipeline.agents.contains_key(&step.agent) {
            let help = did_you_mean(&step.agent, pipeline.agents.keys().map(String::as_str))
                .unwrap_or_else(|| format!("define it: `agents: {{ {}: {{ model: auto }} }}`", step.agent));
            findings.push(
                at(
                    project,
                    Code::UnknownAgent,
                    format!("there is no agent `{}`", step.agent),
                    &format!("/steps/{i}/agent"),
                )
                .help(help),
            );
        }
        for (n, name) in step.fallback.iter().enumerate() {
            model(project, name, &format!("/steps/{i}/fallback/{n}"), findings);
        }
    }
    for (name, agent) in &pipeline.agents {
        if !pipeline.steps.iter().any(|step| step.agent == *name) {
            findings.push(at_key(
                project,
                Code::UnusedAgent,
                format!("no step uses the agent `{name}`"),
                &format!("/agents/{name}"),
            ));
        }
        model(project, &agent.model, &format!("/agents/{name}/model"), findings);
    }
}

fn model(project: &Project, name: &str, pointer: &str, findings: &mut Vec<Diagnostic>) {
    if name == "auto" {
        return;
    }
    let settings = &project.settings;
    let aliases: BTreeMap<String, String> = settings.models.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
    let providers: Vec<String> =
        settings.providers.keys().cloned().chain(BUILT_IN.map(ToOwned::to_owned)).chain(["local".to_owned()]).collect();
    if let Err(error) = resolve_name(name, &aliases, &providers, "") {
        let help = match &error {
            NameError::Unknown { nearest: Some(nearest), .. } | NameError::Provider { nearest: Some(nearest), .. } => {
                format!("did you mean `{nearest}`?")
            }
            NameError::Unknown { .. } => "write `provider/model`, an alias of orch.yaml, `local` or `auto`".to_owned(),
            NameError::Provider { .. } => {
                format!("the providers are {}; others go into orch.yaml", providers.join(", "))
            }
            NameError::Circle { .. } => "let one of the aliases stand for `provider/model`".to_owned(),
        };
        findings.push(at(project, Code::UnknownModel, error.to_string(), pointer).help(help));
    }
}
