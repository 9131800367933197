//! Generates random pipelines that the check mostly accepts, and smaller variants of a pipeline.

use super::edits::Edit;
use super::pipeline::{Access, Each, Kind, List, OnError, Read, Step, TestPipeline, When};
use super::script::hash;

/// Choices that a seed determines.
pub(crate) struct Choices {
    seed: u64,
    drawn: u64,
    names: u32,
}

/// A visible artifact.
#[derive(Clone)]
struct Seen {
    name: String,
    /// Whether its value is an answer of the script, with `ok`, `v` and `list`.
    answer: bool,
}

/// What a step may be at a place.
#[derive(Clone, Copy)]
struct Place {
    depth: u32,
    may_write: bool,
    may_ask: bool,
}

impl Choices {
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed, drawn: 0, names: 0 }
    }

    pub(crate) fn below(&mut self, count: u64) -> u64 {
        self.drawn += 1;
        hash(&["choice", &self.seed.to_string(), &self.drawn.to_string()]) % count.max(1)
    }

    pub(crate) fn of_hundred(&mut self, part: u64) -> bool {
        self.below(100) < part
    }

    fn pick<T: Clone>(&mut self, list: &[T]) -> Option<T> {
        let at = usize::try_from(self.below(list.len() as u64)).unwrap();
        list.get(at).cloned()
    }

    fn name(&mut self, prefix: &str) -> String {
        self.names += 1;
        format!("{prefix}{}", self.names)
    }

    /// A whole pipeline.
    pub(crate) fn pipeline(&mut self) -> TestPipeline {
        self.body(0, true, 6)
    }

    /// An edit before a session, if any.
    pub(crate) fn edit(&mut self) -> Option<Edit> {
        let at = usize::try_from(self.below(1000)).unwrap();
        match self.below(10) {
            0 => Some(Edit::Word(at)),
            1 => Some(Edit::New(at)),
            2 => Some(Edit::Less(at)),
            _ => None,
        }
    }

    fn body(&mut self, depth: u32, may_ask: bool, most: u64) -> TestPipeline {
        let (mut seen, mut ids) = (Vec::new(), Vec::new());
        let place = Place { depth, may_write: true, may_ask };
        let count = 1 + self.below(most);
        let steps = self.list(count, &mut seen, &mut ids, place);
        let success = if self.of_hundred(20) { steps.last().map(|step| step.id.clone()) } else { None };
        let count = if self.of_hundred(25) { 1 + self.below(2) } else { 0 };
        let finally = self.list(count, &mut seen.clone(), &mut ids, Place { depth: 2, may_ask: false, ..place });
        let outputs = match self.pick(&seen) {
            Some(one) if depth > 0 || self.of_hundred(40) => vec![(self.name("r"), one.name)],
            _ => Vec::new(),
        };
        TestPipeline { steps, finally, success, outputs }
    }

    fn list(&mut self, count: u64, seen: &mut Vec<Seen>, ids: &mut Vec<String>, place: Place) -> Vec<Step> {
        let mut steps = Vec::new();
        for _ in 0..count {
            let step = self.step(seen, ids, place);
            ids.push(step.id.clone());
            seen.extend(artifacts_of(&step));
            steps.push(step);
        }
        steps
    }

    fn step(&mut self, seen: &[Seen], ids: &[String], place: Place) -> Step {
        let id = self.name("s");
        let mut reads: Vec<Read> = Vec::new();
        for _ in 0..self.below(3) {
            if let Some(one) = self.pick(seen) {
                read(&mut reads, &one.name, self.of_hundred(30));
            }
        }
        let answers: Vec<Seen> = seen.iter().filter(|seen| seen.answer).cloned().collect();
        let when = match self.below(10) {
            0 | 1 => self.pick(&answers).map(|one| When::Ok(one.name)),
            2 => self.pick(ids).map(When::Completed),
            3 if self.of_hundred(30) => self.pick(&answers).map(|one| When::Wrong(one.name)),
            _ => None,
        };
        if let Some(When::Ok(name) | When::Wrong(name)) = &when {
            read(&mut reads, name, false);
        }
        let each = self.of_hundred(22).then(|| {
            let list = match (self.below(10), self.pick(&answers)) {
                (0, Some(one)) => List::Wrong(one.name),
                (1..=6, Some(one)) => List::Of(one.name),
                _ => List::Literal(u32::try_from(self.below(4)).unwrap()),
            };
            Each { list, limit: usize::try_from(1 + self.below(3)).unwrap() }
        });
        if let Some(Each { list: List::Of(name) | List::Wrong(name), .. }) = &each {
            read(&mut reads, name, false);
        }
        let alone = each.as_ref().is_none_or(|each| each.limit == 1);
        let inside = Place { may_write: place.may_write && alone, depth: place.depth + 1, ..place };
        let kind = self.kind(seen, ids, inside);
        let output = match &kind {
            Kind::Agent { .. } => true,
            Kind::Run { .. } | Kind::Approve { .. } => self.of_hundred(70),
            Kind::Write { .. } => false,
            Kind::Parallel { .. } | Kind::Repeat { .. } | Kind::Steps(_) | Kind::Call(_) => {
                each.is_some() && self.of_hundred(70)
            }
        };
        let on_error = match self.below(10) {
            0..3 => Some(OnError::Continue),
            3..5 => Some(OnError::Stop),
            _ => None,
        };
        let output = output.then(|| self.name("o"));
        Step { id, kind, when, each, reads, output, on_error, word: 0 }
    }

    fn kind(&mut self, seen: &[Seen], ids: &[String], place: Place) -> Kind {
        let tries = [None, Some(1), Some(2)][usize::try_from(self.below(3)).unwrap()];
        let (mut seen, mut ids) = (seen.to_vec(), ids.to_vec());
        let draw = if place.depth > 3 { self.below(62) } else { self.below(100) };
        let count = 1 + self.below(3);
        match draw {
            0..34 => Kind::Agent { tries, fallback: self.of_hundred(20) },
            34..46 => Kind::Run { tries, access: if self.of_hundred(50) { Access::Read } else { Access::None } },
            46..62 if !place.may_write => Kind::Run { tries, access: Access::Read },
            46..54 => Kind::Run { tries, access: Access::Write },
            54..62 => Kind::Write { escapes: self.of_hundred(15) },
            62..68 if place.may_ask => Kind::Approve { goes_on: self.of_hundred(50) },
            62..77 => {
                let writer = self.below(4);
                let mut steps = Vec::new();
                for at in 0..=count {
                    let place = Place { may_write: place.may_write && at == writer, ..place };
                    steps.push(self.step(&seen, &ids, place));
                }
                let limit = if self.of_hundred(40) { Some(usize::try_from(1 + self.below(2)).unwrap()) } else { None };
                Kind::Parallel { limit, steps }
            }
            77..86 => {
                let mut steps = self.list(count, &mut seen, &mut ids, place);
                let given: Vec<Seen> = steps.iter().flat_map(artifacts_of).collect();
                let until: Vec<Seen> = given.iter().filter(|one| one.answer).cloned().collect();
                let until = if self.of_hundred(80) { self.pick(&until).map(|one| one.name) } else { None };
                for step in &mut steps {
                    // The steps of a round see the artifacts of the previous round.
                    if let Some(one) = self.pick(&given).filter(|_| self.of_hundred(50)) {
                        read(&mut step.reads, &one.name, true);
                    }
                }
                let max = u32::try_from(1 + self.below(3)).unwrap();
                Kind::Repeat { until, max, goes_on: self.of_hundred(50), steps }
            }
            86..94 => Kind::Steps(self.list(count, &mut seen, &mut ids, place)),
            _ => {
                let mut pipeline = self.body(place.depth + 1, place.may_ask, 3);
                if !place.may_write {
                    remove_writes(&mut pipeline.steps);
                    remove_writes(&mut pipeline.finally);
                }
                Kind::Call(Box::new(pipeline))
            }
        }
    }
}

fn read(reads: &mut Vec<Read>, name: &str, optional: bool) {
    match reads.iter_mut().find(|read| read.name == name) {
        Some(read) => read.optional &= optional,
        None => reads.push(Read { name: name.to_owned(), optional }),
    }
}

/// The artifacts that a step produces for later ones.
fn artifacts_of(step: &Step) -> Vec<Seen> {
    match (&step.kind, &step.each) {
        (Kind::Parallel { steps, .. } | Kind::Repeat { steps, .. } | Kind::Steps(steps), None) => {
            steps.iter().flat_map(artifacts_of).collect()
        }
        (kind, each) => {
            let answer = each.is_none() && matches!(kind, Kind::Agent { .. } | Kind::Run { .. });
            step.artifact_names().into_iter().map(|name| Seen { name, answer }).collect()
        }
    }
}

/// Removes every write from steps.
fn remove_writes(steps: &mut [Step]) {
    for step in steps {
        match &mut step.kind {
            Kind::Run { access, .. } if *access == Access::Write => *access = Access::Read,
            Kind::Write { .. } => step.kind = Kind::Run { tries: None, access: Access::Read },
            Kind::Parallel { steps, .. } | Kind::Repeat { steps, .. } | Kind::Steps(steps) => remove_writes(steps),
            Kind::Call(pipeline) => {
                remove_writes(&mut pipeline.steps);
                remove_writes(&mut pipeline.finally);
            }
            Kind::Agent { .. } | Kind::Run { .. } | Kind::Approve { .. } => {}
        }
    }
}

/// Pipelines that are a little smaller: with one step less, or with a simpler step.
pub(crate) fn smaller(pipeline: &TestPipeline) -> Vec<TestPipeline> {
    let mut found: Vec<TestPipeline> = Vec::new();
    let mut put = |steps: Vec<Step>, finally: Vec<Step>| {
        found.push(TestPipeline { steps, finally, ..pipeline.clone() });
    };
    for steps in simpler_lists(&pipeline.steps) {
        put(steps, pipeline.finally.clone());
    }
    for finally in simpler_lists(&pipeline.finally) {
        put(pipeline.steps.clone(), finally);
    }
    found.push(TestPipeline { success: None, ..pipeline.clone() });
    found.push(TestPipeline { outputs: Vec::new(), ..pipeline.clone() });
    found.retain(|small| !small.steps.is_empty());
    found
}

fn simpler_lists(steps: &[Step]) -> Vec<Vec<Step>> {
    let mut found = Vec::new();
    for (at, step) in steps.iter().enumerate() {
        let with = |new: Vec<Step>| [&steps[..at], &new, &steps[at + 1..]].concat();
        found.push(with(Vec::new()));
        found.push(with(step.kind.children().into_iter().cloned().collect()));
        if step.when.is_some() {
            found.push(with(vec![Step { when: None, ..step.clone() }]));
        }
        if step.each.is_some() {
            found.push(with(vec![Step { each: None, ..step.clone() }]));
        }
        if step.on_error.is_some() {
            found.push(with(vec![Step { on_error: None, ..step.clone() }]));
        }
        for read in &step.reads {
            let reads = step.reads.iter().filter(|other| *other != read).cloned().collect();
            found.push(with(vec![Step { reads, ..step.clone() }]));
        }
        let inner = |kind: Kind| with(vec![Step { kind, ..step.clone() }]);
        match &step.kind {
            Kind::Parallel { limit, steps } => {
                found.extend(
                    simpler_lists(steps).into_iter().map(|steps| inner(Kind::Parallel { limit: *limit, steps })),
                );
            }
            Kind::Repeat { until, max, goes_on, steps } => {
                let repeat =
                    |until: Option<String>, max, steps| inner(Kind::Repeat { until, max, goes_on: *goes_on, steps });
                found.extend(simpler_lists(steps).into_iter().map(|steps| repeat(until.clone(), *max, steps)));
                found.push(repeat(None, *max, steps.clone()));
                found.push(repeat(until.clone(), (*max - 1).max(1), steps.clone()));
            }
            Kind::Steps(steps) => found.extend(simpler_lists(steps).into_iter().map(|steps| inner(Kind::Steps(steps)))),
            Kind::Call(pipeline) => {
                found.extend(smaller(pipeline).into_iter().map(|pipeline| inner(Kind::Call(Box::new(pipeline)))))
            }
            Kind::Agent { .. } | Kind::Run { .. } | Kind::Write { .. } | Kind::Approve { .. } => {}
        }
    }
    found
}
