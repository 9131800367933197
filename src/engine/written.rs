//! Finds out from the text of a pipeline which artifacts of agents become files. So orch can report what `write` would
//! refuse while the agent can still answer again.
//!
//! The analysis follows only expressions that look something up (`code`, `code.files`), through groups, loops and
//! called pipelines, and assumes that every condition holds. Whatever it misses is checked when the files are written.

use std::collections::{BTreeMap, BTreeSet};

use rpds::RedBlackTreeMap;

use crate::model::StepKey;
use crate::template::lookup;

use super::node::{NodeKind, PipelineNode, PlanBody, PlanNode, WrittenBy};

/// Notes in each agent node which steps write its files, and in each `write` node whose files it writes.
pub(super) fn note(body: &mut PlanBody) {
    let mut flow = ArtifactFlow::default();
    flow.body(body, None, &mut ArtifactSources::default());
    for node in body.nodes.iter_mut().chain(&mut body.finally) {
        flow.put(node, None);
    }
}

/// A part of an agent's artifact, and where a value contains it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct ArtifactPart {
    /// The members of the value that lead to the part.
    at: Vec<String>,
    /// The step of the agent.
    step: StepKey,
    /// The members of the artifact that lead to the part.
    members: Vec<String>,
}

/// The parts of artifacts that each variable may contain; cheap to clone.
type ArtifactSources = RedBlackTreeMap<String, BTreeSet<ArtifactPart>>;

#[derive(Default)]
struct ArtifactFlow {
    /// By agent step: the steps that write its files.
    by: BTreeMap<StepKey, BTreeSet<WrittenBy>>,
    /// By `write` step: the agent steps whose files it writes.
    from: BTreeMap<StepKey, BTreeSet<StepKey>>,
    /// Whether the walk only collects what a round leaves. Then inner loops are walked once, so that the time does not
    /// double with each level of nesting.
    scouting: bool,
}

impl ArtifactFlow {
    fn body(&mut self, body: &PlanBody, parent: Option<&StepKey>, env: &mut ArtifactSources) {
        self.list(&body.nodes, parent, env);
        self.list(&body.finally, parent, &mut env.clone());
    }

    fn list(&mut self, nodes: &[PlanNode], parent: Option<&StepKey>, env: &mut ArtifactSources) {
        for node in nodes {
            self.node(node, parent, env);
        }
    }

    /// Follows one step, and updates `env` to what the following steps see.
    fn node(&mut self, node: &PlanNode, parent: Option<&StepKey>, env: &mut ArtifactSources) {
        let key = StepKey::below(parent, &node.id);
        let mut after = env.clone();
        let own = self.kind(node, &key, &mut after);
        if let Some(output) = &node.output {
            after.insert_mut(output.name.clone(), own);
        }
        for name in node.names() {
            // The parts of a list of items are not followed.
            let mut parts = if node.each.is_some() { BTreeSet::new() } else { parts_of(&after, &name) };
            // A step that is skipped or fails leaves the previous value in place.
            if node.when.is_some() || !node.stops {
                parts.extend(parts_of(env, &name));
            }
            env.insert_mut(name, parts);
        }
    }

    /// Follows a step in the scope of the steps inside it, and returns the parts that its own artifact contains.
    fn kind(&mut self, node: &PlanNode, key: &StepKey, env: &mut ArtifactSources) -> BTreeSet<ArtifactPart> {
        match &node.kind {
            NodeKind::Agent(_) => {
                return [ArtifactPart { at: Vec::new(), step: key.clone(), members: Vec::new() }].into();
            }
            NodeKind::Write(write) => {
                for part in looked_up(&write.files, env).into_iter().filter(|part| part.at.is_empty()) {
                    self.from.entry(key.clone()).or_default().insert(part.step.clone());
                    let by = WrittenBy { step: key.clone(), members: part.members };
                    self.by.entry(part.step).or_default().insert(by);
                }
            }
            NodeKind::Sequence(nodes) => self.list(nodes, Some(key), env),
            NodeKind::Parallel(nodes, _) => {
                let before = env.clone();
                for child in nodes {
                    let mut inner = before.clone();
                    self.node(child, Some(key), &mut inner);
                    for name in child.names() {
                        let parts = parts_of(&inner, &name);
                        env.insert_mut(name, parts);
                    }
                }
            }
            NodeKind::Repeat(repeat) => {
                // The second walk sees what the previous round left.
                if !self.scouting {
                    let mut first = env.clone();
                    self.scouting = true;
                    self.list(&repeat.nodes, Some(key), &mut first);
                    self.scouting = false;
                    for name in repeat.nodes.iter().flat_map(PlanNode::names) {
                        let mut parts = parts_of(env, &name);
                        parts.extend(parts_of(&first, &name));
                        env.insert_mut(name, parts);
                    }
                }
                self.list(&repeat.nodes, Some(key), env);
            }
            NodeKind::Pipeline(call) => {
                let given = self.called(call, key, env);
                let named = given.iter().flat_map(|(name, parts)| parts.iter().map(move |part| (name, part)));
                let inside = |(name, part): (&String, &ArtifactPart)| ArtifactPart {
                    at: std::iter::once(name).chain(&part.at).cloned().collect(),
                    ..part.clone()
                };
                let whole = named.map(inside).collect();
                for (name, parts) in &given {
                    env.insert_mut(name.clone(), parts.clone());
                }
                return whole;
            }
            NodeKind::Command(_) | NodeKind::Approve(_) => {}
        }
        BTreeSet::new()
    }

    /// The parts in the outputs of a called pipeline, by output name.
    fn called(&mut self, call: &PipelineNode, key: &StepKey, env: &ArtifactSources) -> ArtifactSources {
        let given = |(name, text): (&String, &String)| (name.clone(), looked_up(text, env));
        let mut inner: ArtifactSources = call.with.iter().map(given).collect();
        self.body(&call.body, Some(key), &mut inner);
        call.body.outputs.iter().map(|(name, text)| (name.clone(), looked_up(text, &inner))).collect()
    }

    /// Stores the findings in the nodes.
    fn put(&self, node: &mut PlanNode, parent: Option<&StepKey>) {
        let key = StepKey::below(parent, &node.id);
        match &mut node.kind {
            NodeKind::Agent(agent) if node.each.is_none() => {
                agent.written = self.by.get(&key).map(|by| by.iter().cloned().collect()).unwrap_or_default();
            }
            NodeKind::Write(write) => {
                write.from = self.from.get(&key).map(|from| from.iter().cloned().collect()).unwrap_or_default();
            }
            NodeKind::Agent(_)
            | NodeKind::Command(_)
            | NodeKind::Approve(_)
            | NodeKind::Parallel(..)
            | NodeKind::Repeat(_)
            | NodeKind::Sequence(_)
            | NodeKind::Pipeline(_) => {}
        }
        node.children_mut().for_each(|child| self.put(child, Some(&key)));
    }
}

fn parts_of(env: &ArtifactSources, name: &str) -> BTreeSet<ArtifactPart> {
    env.get(name).cloned().unwrap_or_default()
}

/// The parts of artifacts in an expression's value, if the expression only looks something up.
fn looked_up(expression: &str, env: &ArtifactSources) -> BTreeSet<ArtifactPart> {
    let Some((name, members)) = lookup(expression) else { return BTreeSet::new() };
    let parts = env.get(&name).into_iter().flatten();
    let part = |part: &ArtifactPart| {
        if let Some(rest) = members.strip_prefix(part.at.as_slice()) {
            let members = part.members.iter().chain(rest).cloned().collect();
            return Some(ArtifactPart { at: Vec::new(), step: part.step.clone(), members });
        }
        let at = part.at.strip_prefix(members.as_slice())?.to_vec();
        Some(ArtifactPart { at, ..part.clone() })
    };
    parts.filter_map(part).collect()
}
