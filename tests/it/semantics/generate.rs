//! Generates random pipelines, most of which the check accepts, and smaller variants of a pipeline.

use super::edits::Edit;
use super::pipeline::{Access, ForEachSpec, ItemSource, Kind, OnError, Step, StepInput, TestPipeline, When};
use super::script::hash;

/// Generates the pipeline of a case and the other random values of the case from a seed.
pub(crate) struct PipelineGenerator {
    seed: u64,
    draw_count: u64,
    name_count: u32,
}

/// An artifact that a step can use.
#[derive(Clone)]
struct VisibleArtifact {
    name: String,
    /// Whether the value is an answer of the script, which has the members `ok`, `v` and `list`.
    is_answer: bool,
}

/// The limits for a generated step and the steps inside it.
#[derive(Clone, Copy)]
struct Constraints {
    depth: u32,
    may_write: bool,
    may_ask: bool,
}

impl PipelineGenerator {
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed, draw_count: 0, name_count: 0 }
    }

    /// Returns a random number below `count`, or 0 if `count` is 0.
    pub(crate) fn random_below(&mut self, count: u64) -> u64 {
        self.draw_count += 1;
        hash(&["choice", &self.seed.to_string(), &self.draw_count.to_string()]) % count.max(1)
    }

    /// Returns true in this percentage of cases.
    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.random_below(100) < percent
    }

    fn pick<T: Clone>(&mut self, items: &[T]) -> Option<T> {
        let index = usize::try_from(self.random_below(items.len() as u64)).unwrap();
        items.get(index).cloned()
    }

    fn new_name(&mut self, prefix: &str) -> String {
        self.name_count += 1;
        format!("{prefix}{}", self.name_count)
    }

    /// Generates a whole pipeline.
    pub(crate) fn pipeline(&mut self) -> TestPipeline {
        self.pipeline_at_depth(0, true, 6)
    }

    /// Generates an edit in three of ten cases.
    pub(crate) fn edit(&mut self) -> Option<Edit> {
        let index = usize::try_from(self.random_below(1000)).unwrap();
        match self.random_below(10) {
            0 => Some(Edit::ChangeText(index)),
            1 => Some(Edit::AddStep(index)),
            2 => Some(Edit::RemovePart(index)),
            _ => None,
        }
    }

    fn pipeline_at_depth(&mut self, depth: u32, may_ask: bool, max_steps: u64) -> TestPipeline {
        let (mut visible, mut step_ids) = (Vec::new(), Vec::new());
        let constraints = Constraints { depth, may_write: true, may_ask };
        let count = 1 + self.random_below(max_steps);
        let steps = self.steps(count, &mut visible, &mut step_ids, constraints);
        let success = if self.chance(20) { steps.last().map(|step| step.id.clone()) } else { None };
        let count = if self.chance(25) { 1 + self.random_below(2) } else { 0 };
        let finally = self.steps(
            count,
            &mut visible.clone(),
            &mut step_ids,
            Constraints { depth: 2, may_ask: false, ..constraints },
        );
        let outputs = match self.pick(&visible) {
            Some(artifact) if depth > 0 || self.chance(40) => vec![(self.new_name("r"), artifact.name)],
            _ => Vec::new(),
        };
        TestPipeline { steps, finally, success, outputs }
    }

    fn steps(
        &mut self,
        count: u64,
        visible: &mut Vec<VisibleArtifact>,
        step_ids: &mut Vec<String>,
        constraints: Constraints,
    ) -> Vec<Step> {
        let mut steps = Vec::new();
        for _ in 0..count {
            let step = self.step(visible, step_ids, constraints);
            step_ids.push(step.id.clone());
            visible.extend(visible_artifacts(&step));
            steps.push(step);
        }
        steps
    }

    fn step(&mut self, visible: &[VisibleArtifact], step_ids: &[String], constraints: Constraints) -> Step {
        let id = self.new_name("s");
        let mut inputs: Vec<StepInput> = Vec::new();
        for _ in 0..self.random_below(3) {
            if let Some(artifact) = self.pick(visible) {
                add_input(&mut inputs, &artifact.name, self.chance(30));
            }
        }
        let answer_artifacts: Vec<VisibleArtifact> =
            visible.iter().filter(|artifact| artifact.is_answer).cloned().collect();
        let when = match self.random_below(10) {
            0 | 1 => self.pick(&answer_artifacts).map(|artifact| When::Ok(artifact.name)),
            2 => self.pick(step_ids).map(When::Completed),
            3 if self.chance(30) => self.pick(&answer_artifacts).map(|artifact| When::NotABoolean(artifact.name)),
            _ => None,
        };
        if let Some(When::Ok(name) | When::NotABoolean(name)) = &when {
            add_input(&mut inputs, name, false);
        }
        let for_each = self.chance(22).then(|| {
            let items = match (self.random_below(10), self.pick(&answer_artifacts)) {
                (0, Some(artifact)) => ItemSource::NotAList(artifact.name),
                (1..=6, Some(artifact)) => ItemSource::Artifact(artifact.name),
                _ => ItemSource::Literal(u32::try_from(self.random_below(4)).unwrap()),
            };
            ForEachSpec { items, limit: usize::try_from(1 + self.random_below(3)).unwrap() }
        });
        if let Some(ForEachSpec { items: ItemSource::Artifact(name) | ItemSource::NotAList(name), .. }) = &for_each {
            add_input(&mut inputs, name, false);
        }
        let is_sequential = for_each.as_ref().is_none_or(|for_each| for_each.limit == 1);
        let inner_constraints = Constraints {
            may_write: constraints.may_write && is_sequential,
            depth: constraints.depth + 1,
            ..constraints
        };
        let kind = self.kind(visible, step_ids, inner_constraints);
        let output = match &kind {
            Kind::Agent { .. } => true,
            Kind::Run { .. } | Kind::Approve { .. } => self.chance(70),
            Kind::Write { .. } => false,
            Kind::Parallel { .. } | Kind::Repeat { .. } | Kind::Steps(_) | Kind::Call(_) => {
                for_each.is_some() && self.chance(70)
            }
        };
        let on_error = match self.random_below(10) {
            0..3 => Some(OnError::Continue),
            3..5 => Some(OnError::Stop),
            _ => None,
        };
        let output = output.then(|| self.new_name("o"));
        Step { id, kind, when, for_each, inputs, output, on_error, revision: 0 }
    }

    fn kind(&mut self, visible: &[VisibleArtifact], step_ids: &[String], constraints: Constraints) -> Kind {
        let max_tries = [None, Some(1), Some(2)][usize::try_from(self.random_below(3)).unwrap()];
        let (mut visible, mut step_ids) = (visible.to_vec(), step_ids.to_vec());
        let kind_number = if constraints.depth > 3 { self.random_below(62) } else { self.random_below(100) };
        let count = 1 + self.random_below(3);
        match kind_number {
            0..34 => Kind::Agent { max_tries, fallback: self.chance(20) },
            34..46 => Kind::Run { max_tries, access: if self.chance(50) { Access::Read } else { Access::None } },
            46..62 if !constraints.may_write => Kind::Run { max_tries, access: Access::Read },
            46..54 => Kind::Run { max_tries, access: Access::Write },
            54..62 => Kind::Write { escapes_workspace: self.chance(15) },
            62..68 if constraints.may_ask => Kind::Approve { continues: self.chance(50) },
            62..77 => {
                let writer = self.random_below(4);
                let mut steps = Vec::new();
                for index in 0..=count {
                    let constraints =
                        Constraints { may_write: constraints.may_write && index == writer, ..constraints };
                    steps.push(self.step(&visible, &step_ids, constraints));
                }
                let limit =
                    if self.chance(40) { Some(usize::try_from(1 + self.random_below(2)).unwrap()) } else { None };
                Kind::Parallel { limit, steps }
            }
            77..86 => {
                let mut steps = self.steps(count, &mut visible, &mut step_ids, constraints);
                let round_artifacts: Vec<VisibleArtifact> = steps.iter().flat_map(visible_artifacts).collect();
                let candidates: Vec<VisibleArtifact> =
                    round_artifacts.iter().filter(|artifact| artifact.is_answer).cloned().collect();
                let until = if self.chance(80) { self.pick(&candidates).map(|artifact| artifact.name) } else { None };
                for step in &mut steps {
                    // The steps of a round can use the artifacts of the previous iteration.
                    if let Some(artifact) = self.pick(&round_artifacts).filter(|_| self.chance(50)) {
                        let (name, optional) = (artifact.name, true);
                        step.inputs.push(StepInput { name, optional, from_previous_iteration: true });
                    }
                }
                let max = u32::try_from(1 + self.random_below(3)).unwrap();
                Kind::Repeat { until, max, continues: self.chance(50), steps }
            }
            86..94 => Kind::Steps(self.steps(count, &mut visible, &mut step_ids, constraints)),
            _ => {
                let mut pipeline = self.pipeline_at_depth(constraints.depth + 1, constraints.may_ask, 3);
                if !constraints.may_write {
                    remove_writes(&mut pipeline.steps);
                    remove_writes(&mut pipeline.finally);
                }
                Kind::Call(Box::new(pipeline))
            }
        }
    }
}

/// Adds an input. An input is optional only if every caller adds it as optional.
fn add_input(inputs: &mut Vec<StepInput>, name: &str, optional: bool) {
    match inputs.iter_mut().find(|input| input.name == name) {
        Some(input) => input.optional &= optional,
        None => inputs.push(StepInput { name: name.to_owned(), optional, from_previous_iteration: false }),
    }
}

/// The artifacts of a step that later steps can use.
fn visible_artifacts(step: &Step) -> Vec<VisibleArtifact> {
    match (&step.kind, &step.for_each) {
        (Kind::Parallel { steps, .. } | Kind::Repeat { steps, .. } | Kind::Steps(steps), None) => {
            steps.iter().flat_map(visible_artifacts).collect()
        }
        (kind, for_each) => {
            let is_answer = for_each.is_none() && matches!(kind, Kind::Agent { .. } | Kind::Run { .. });
            step.artifact_names().into_iter().map(|name| VisibleArtifact { name, is_answer }).collect()
        }
    }
}

/// Replaces every step that writes by a step that reads.
fn remove_writes(steps: &mut [Step]) {
    for step in steps {
        match &mut step.kind {
            Kind::Run { access, .. } if *access == Access::Write => *access = Access::Read,
            Kind::Write { .. } => step.kind = Kind::Run { max_tries: None, access: Access::Read },
            Kind::Parallel { steps, .. } | Kind::Repeat { steps, .. } | Kind::Steps(steps) => remove_writes(steps),
            Kind::Call(pipeline) => {
                remove_writes(&mut pipeline.steps);
                remove_writes(&mut pipeline.finally);
            }
            Kind::Agent { .. } | Kind::Run { .. } | Kind::Approve { .. } => {}
        }
    }
}

/// Returns the variants of a pipeline that lack one step or have one simpler step.
pub(crate) fn smaller_pipelines(pipeline: &TestPipeline) -> Vec<TestPipeline> {
    let mut variants: Vec<TestPipeline> = Vec::new();
    let mut push_variant = |steps: Vec<Step>, finally: Vec<Step>| {
        variants.push(TestPipeline { steps, finally, ..pipeline.clone() });
    };
    for steps in simpler_step_lists(&pipeline.steps) {
        push_variant(steps, pipeline.finally.clone());
    }
    for finally in simpler_step_lists(&pipeline.finally) {
        push_variant(pipeline.steps.clone(), finally);
    }
    variants.push(TestPipeline { success: None, ..pipeline.clone() });
    variants.push(TestPipeline { outputs: Vec::new(), ..pipeline.clone() });
    variants.retain(|variant| !variant.steps.is_empty());
    variants
}

/// Returns the variants of a list that lack one step or have one simpler step.
fn simpler_step_lists(steps: &[Step]) -> Vec<Vec<Step>> {
    let mut variants = Vec::new();
    for (index, step) in steps.iter().enumerate() {
        let replaced_with = |replacement: Vec<Step>| [&steps[..index], &replacement, &steps[index + 1..]].concat();
        variants.push(replaced_with(Vec::new()));
        variants.push(replaced_with(step.kind.children().into_iter().cloned().collect()));
        if step.when.is_some() {
            variants.push(replaced_with(vec![Step { when: None, ..step.clone() }]));
        }
        if step.for_each.is_some() {
            variants.push(replaced_with(vec![Step { for_each: None, ..step.clone() }]));
        }
        if step.on_error.is_some() {
            variants.push(replaced_with(vec![Step { on_error: None, ..step.clone() }]));
        }
        for input in &step.inputs {
            let inputs = step.inputs.iter().filter(|other| *other != input).cloned().collect();
            variants.push(replaced_with(vec![Step { inputs, ..step.clone() }]));
        }
        let with_kind = |kind: Kind| replaced_with(vec![Step { kind, ..step.clone() }]);
        match &step.kind {
            Kind::Parallel { limit, steps } => {
                variants.extend(
                    simpler_step_lists(steps)
                        .into_iter()
                        .map(|steps| with_kind(Kind::Parallel { limit: *limit, steps })),
                );
            }
            Kind::Repeat { until, max, continues, steps } => {
                let repeat = |until: Option<String>, max, steps| {
                    with_kind(Kind::Repeat { until, max, continues: *continues, steps })
                };
                variants.extend(simpler_step_lists(steps).into_iter().map(|steps| repeat(until.clone(), *max, steps)));
                variants.push(repeat(None, *max, steps.clone()));
                variants.push(repeat(until.clone(), (*max - 1).max(1), steps.clone()));
            }
            Kind::Steps(steps) => {
                variants.extend(simpler_step_lists(steps).into_iter().map(|steps| with_kind(Kind::Steps(steps))))
            }
            Kind::Call(pipeline) => variants.extend(
                smaller_pipelines(pipeline).into_iter().map(|pipeline| with_kind(Kind::Call(Box::new(pipeline)))),
            ),
            Kind::Agent { .. } | Kind::Run { .. } | Kind::Write { .. } | Kind::Approve { .. } => {}
        }
    }
    variants
}
