//! Derives from the pipeline file which artifacts of agents become files. orch checks such an artifact when the reply
//! arrives, so that it can re-ask the agent about problems that would make the `write` step fail later.
//!
//! The analysis follows only expressions that look up a value (`code`, `code.files`), through groups, loops and called
//! pipelines, and assumes that every condition is true. orch checks all other files when it writes them.

use std::collections::{BTreeMap, BTreeSet};

use rpds::RedBlackTreeMap;

use crate::model::StepKey;
use crate::model::name_scope::{PARENT_LOOP, PREVIOUS_ITERATION};
use crate::template::lookup;

use super::node::{FileWriter, NodeKind, PipelineNode, PlanBody, PlanNode};

/// Stores in each agent node the steps that write its files, and in each `write` node the agent steps that list the
/// files.
pub(super) fn annotate_writes(body: &mut PlanBody) {
    let mut flow = ArtifactFlow::default();
    flow.follow_body(body, None, &mut ArtifactSources::default());
    for node in body.nodes.iter_mut().chain(&mut body.finally) {
        flow.annotate(node, None);
    }
}

/// The variable of an iteration.
const LOOP: &str = "loop";

/// A part of an agent's artifact that a value contains.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct ArtifactPart {
    /// The names of the members that lead from the value to the part.
    path_in_value: Vec<String>,
    /// The agent step.
    step: StepKey,
    /// The names of the members that lead from the artifact to the part.
    path_in_artifact: Vec<String>,
}

/// For each variable, the parts of artifacts that its value may contain; cheap to clone.
type ArtifactSources = RedBlackTreeMap<String, BTreeSet<ArtifactPart>>;

#[derive(Default)]
struct ArtifactFlow {
    /// For each agent step, the steps that write its files.
    writers: BTreeMap<StepKey, BTreeSet<FileWriter>>,
    /// For each `write` step, the agent steps whose files it writes.
    sources: BTreeMap<StepKey, BTreeSet<StepKey>>,
    /// Whether the analysis is in the first of its two walks over a loop, which finds the values at the end of an
    /// iteration. It then walks inner loops only once, so that the time does not double with each level of nesting.
    in_first_walk: bool,
}

impl ArtifactFlow {
    fn follow_body(&mut self, body: &PlanBody, parent: Option<&StepKey>, env: &mut ArtifactSources) {
        self.follow_nodes(&body.nodes, parent, env);
        self.follow_nodes(&body.finally, parent, &mut env.clone());
    }

    fn follow_nodes(&mut self, nodes: &[PlanNode], parent: Option<&StepKey>, env: &mut ArtifactSources) {
        for node in nodes {
            self.follow_node(node, parent, env);
        }
    }

    /// Analyzes one step, and updates `env` to the values that the steps after it see.
    fn follow_node(&mut self, node: &PlanNode, parent: Option<&StepKey>, env: &mut ArtifactSources) {
        let key = StepKey::child_of(parent, &node.id);
        let mut inner = env.clone();
        let own_parts = self.follow_kind(node, &key, &mut inner);
        if let Some(output) = &node.output {
            inner.insert_mut(output.name.clone(), own_parts);
        }
        for name in node.artifact_names() {
            // The analysis does not look inside the list that a `for_each` step produces.
            let parts = if node.for_each.is_some() { BTreeSet::new() } else { variable_parts(&inner, &name) };
            env.insert_mut(name, parts);
        }
    }

    /// Analyzes a step by its kind, and updates `env` to the values that the steps inside it produce. Returns the parts
    /// that the step's own artifact contains.
    fn follow_kind(&mut self, node: &PlanNode, key: &StepKey, env: &mut ArtifactSources) -> BTreeSet<ArtifactPart> {
        match &node.kind {
            NodeKind::Agent(agent) => {
                // Only the pipelines that a model calls see what they produce.
                self.follow_nodes(&agent.pipelines, Some(key), &mut ArtifactSources::default());
                return [ArtifactPart { path_in_value: Vec::new(), step: key.clone(), path_in_artifact: Vec::new() }]
                    .into();
            }
            NodeKind::Write(write) => {
                for part in lookup_parts(&write.files, env).into_iter().filter(|part| part.path_in_value.is_empty()) {
                    self.sources.entry(key.clone()).or_default().insert(part.step.clone());
                    let writer = FileWriter { step: key.clone(), members: part.path_in_artifact };
                    self.writers.entry(part.step).or_default().insert(writer);
                }
            }
            NodeKind::Sequence(nodes) => self.follow_nodes(nodes, Some(key), env),
            NodeKind::Parallel(nodes, _) => {
                let outer_env = env.clone();
                for child in nodes {
                    let mut inner = outer_env.clone();
                    self.follow_node(child, Some(key), &mut inner);
                    for name in child.artifact_names() {
                        let parts = variable_parts(&inner, &name);
                        env.insert_mut(name, parts);
                    }
                }
            }
            NodeKind::Repeat(repeat) => {
                let mut loop_parts = parts_of_member(PARENT_LOOP, &variable_parts(env, LOOP));
                env.insert_mut(LOOP.to_owned(), loop_parts.clone());
                // The second walk sees the values at the end of the previous iteration, as members of `loop.previous`.
                if !self.in_first_walk {
                    let mut iteration_env = env.clone();
                    self.in_first_walk = true;
                    self.follow_nodes(&repeat.nodes, Some(key), &mut iteration_env);
                    self.in_first_walk = false;
                    for name in repeat.nodes.iter().flat_map(PlanNode::artifact_names) {
                        let artifact_parts = parts_of_member(&name, &variable_parts(&iteration_env, &name));
                        loop_parts.extend(parts_of_member(PREVIOUS_ITERATION, &artifact_parts));
                    }
                    env.insert_mut(LOOP.to_owned(), loop_parts);
                }
                self.follow_nodes(&repeat.nodes, Some(key), env);
            }
            NodeKind::Pipeline(call) => {
                let output_parts = self.follow_call(call, key, env);
                let value_parts = output_parts.iter().flat_map(|(name, parts)| parts_of_member(name, parts)).collect();
                for (name, parts) in &output_parts {
                    env.insert_mut(name.clone(), parts.clone());
                }
                return value_parts;
            }
            NodeKind::Command(_) | NodeKind::Call(_) | NodeKind::Approve(_) => {}
        }
        BTreeSet::new()
    }

    /// Analyzes a called pipeline, and returns the parts in its outputs, by output name.
    fn follow_call(&mut self, call: &PipelineNode, key: &StepKey, env: &ArtifactSources) -> ArtifactSources {
        let input_parts = |(name, expression): (&String, &String)| (name.clone(), lookup_parts(expression, env));
        let mut inner: ArtifactSources = call.with.iter().map(input_parts).collect();
        self.follow_body(&call.body, Some(key), &mut inner);
        call.body.outputs.iter().map(|(name, expression)| (name.clone(), lookup_parts(expression, &inner))).collect()
    }

    /// Stores the result of the analysis in a node and in the nodes inside it.
    fn annotate(&self, node: &mut PlanNode, parent: Option<&StepKey>) {
        let key = StepKey::child_of(parent, &node.id);
        match &mut node.kind {
            NodeKind::Agent(agent) if node.for_each.is_none() => {
                agent.writers =
                    self.writers.get(&key).map(|writers| writers.iter().cloned().collect()).unwrap_or_default();
            }
            NodeKind::Write(write) => {
                write.source_steps =
                    self.sources.get(&key).map(|sources| sources.iter().cloned().collect()).unwrap_or_default();
            }
            NodeKind::Agent(_)
            | NodeKind::Command(_)
            | NodeKind::Call(_)
            | NodeKind::Approve(_)
            | NodeKind::Parallel(..)
            | NodeKind::Repeat(_)
            | NodeKind::Sequence(_)
            | NodeKind::Pipeline(_) => {}
        }
        node.children_mut().for_each(|child| self.annotate(child, Some(&key)));
    }
}

fn variable_parts(env: &ArtifactSources, name: &str) -> BTreeSet<ArtifactPart> {
    env.get(name).cloned().unwrap_or_default()
}

/// The parts of an object whose member `name` contains these parts.
fn parts_of_member(name: &str, parts: &BTreeSet<ArtifactPart>) -> BTreeSet<ArtifactPart> {
    let inside_object = |part: &ArtifactPart| {
        let mut part = part.clone();
        part.path_in_value.insert(0, name.to_owned());
        part
    };
    parts.iter().map(inside_object).collect()
}

/// The parts of artifacts in an expression's value. Empty unless the expression only looks up a value.
fn lookup_parts(expression: &str, env: &ArtifactSources) -> BTreeSet<ArtifactPart> {
    let Some((name, members)) = lookup(expression) else { return BTreeSet::new() };
    let parts = env.get(&name).into_iter().flatten();
    let select_part = |part: &ArtifactPart| {
        if let Some(remaining_members) = members.strip_prefix(part.path_in_value.as_slice()) {
            let path_in_artifact = part.path_in_artifact.iter().chain(remaining_members).cloned().collect();
            return Some(ArtifactPart { path_in_value: Vec::new(), step: part.step.clone(), path_in_artifact });
        }
        let path_in_value = part.path_in_value.strip_prefix(members.as_slice())?.to_vec();
        Some(ArtifactPart { path_in_value, ..part.clone() })
    };
    parts.filter_map(select_part).collect()
}
