//! The reference model: evaluates what a pipeline does according to the documentation.
//!
//! It does not use the engine. Time is a number: each call takes as long as the script says, and everything else takes
//! none. The model evaluates a step from its start. It evaluates parallel steps separately, and a second time up to the
//! instant at which the failure of one of them prevents new calls.

use std::cell::Cell;
use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::memory::{Fact, Memory};
use super::pipeline::{Each, List, OnError, Step, When};
use super::script::{Script, hash};

pub(crate) const NEVER: u64 = u64::MAX;

/// Evaluates one session of a run.
pub(crate) struct Model<'a> {
    pub(crate) script: Script,
    pub(crate) session: u32,
    /// Whether the run has `--continue-on-error`.
    pub(crate) lenient: bool,
    pub(crate) memory: &'a Memory,
    /// When a stop was requested, after everything of that instant had begun.
    pub(crate) stop: Option<u64>,
    /// Whether two things happened at the same instant or two steps have the same request, so that more than one
    /// outcome is right.
    pub(crate) open: Cell<bool>,
}

/// What is visible at one place.
#[derive(Clone, Default)]
pub(crate) struct Env {
    pub(crate) artifacts: BTreeMap<String, Value>,
    pub(crate) given: Option<Value>,
    pub(crate) item: Option<(Value, usize)>,
    pub(crate) round: Option<u32>,
    pub(crate) ends: BTreeMap<String, &'static str>,
    /// Artifacts of the previous round that this round has not produced yet: only optional inputs see them.
    pub(crate) recalled: Vec<String>,
    /// Represents everything that was written into the workspace so far.
    pub(crate) tree: u64,
    /// Whether the place is inside an item or a called pipeline, where artifacts are not written as files.
    pub(crate) hidden: bool,
    pub(crate) closing: bool,
}

/// How something ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Well,
    Failed(String),
    /// Cancelled, because a parallel step failed.
    Dropped,
    /// Waits for a person.
    Parked,
    /// Cancelled by a stop.
    Stopped,
}

/// The result of an evaluation.
#[derive(Clone)]
pub(crate) struct Evaluation {
    pub(crate) end: u64,
    pub(crate) facts: Vec<Fact>,
    pub(crate) ending: Ending,
    pub(crate) value: Option<Value>,
    /// What later steps see.
    pub(crate) artifacts: Vec<(String, Value)>,
    pub(crate) ends: Vec<(String, &'static str)>,
    pub(crate) tree: u64,
    /// The class of the first failure, at any depth.
    pub(crate) failed: Option<String>,
}

impl Evaluation {
    pub(crate) fn at(time: u64, env: &Env) -> Self {
        let (facts, artifacts, ends) = Default::default();
        Self { end: time, facts, ending: Ending::Well, value: None, artifacts, ends, tree: env.tree, failed: None }
    }

    pub(crate) fn give(&mut self, name: &str, value: Value) {
        match self.artifacts.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => *old = value,
            None => self.artifacts.push((name.to_owned(), value)),
        }
    }

    /// Adds the result of what ran afterwards or in parallel.
    pub(crate) fn join(&mut self, other: &Self) {
        self.facts.extend(other.facts.iter().cloned());
        other.artifacts.iter().for_each(|(name, value)| self.give(name, value.clone()));
        self.ends.extend(other.ends.iter().cloned());
        self.fail(other.failed.as_ref());
        self.end = self.end.max(other.end);
    }

    pub(crate) fn fail(&mut self, class: Option<&String>) {
        self.failed = self.failed.take().or_else(|| class.cloned());
    }

    fn object(&self) -> Value {
        Value::Object(self.artifacts.iter().cloned().collect())
    }
}

impl Env {
    fn has(&self, name: &String) -> bool {
        self.artifacts.contains_key(name) && !self.recalled.contains(name)
    }

    pub(crate) fn see(&mut self, ran: &Evaluation) {
        self.artifacts.extend(ran.artifacts.iter().cloned());
        self.recalled.retain(|name| !ran.artifacts.iter().any(|(known, _)| known == name));
        self.ends.extend(ran.ends.iter().cloned());
        self.tree = ran.tree;
    }
}

pub(crate) fn below(path: &str, id: &str) -> String {
    if path.is_empty() { id.to_owned() } else { format!("{path}/{id}") }
}

impl Model<'_> {
    /// Steps one after another.
    pub(crate) fn list(&self, path: &str, steps: &[Step], env: &Env, time: u64, cut: u64) -> Evaluation {
        let mut all = Evaluation::at(time, env);
        let mut env = env.clone();
        let mut stopped: Option<(String, String)> = None;
        for step in steps {
            let key = below(path, &step.id);
            if let Some((id, _)) = &stopped {
                all.ends.push((step.id.clone(), "skipped"));
                all.facts.push(Fact::ended(all.end, &key, "skipped", format!("step {id} failed")));
                continue;
            }
            let ran = self.step(&key, step, &env, all.end, cut);
            env.see(&ran);
            all.join(&ran);
            all.tree = ran.tree;
            match ran.ending {
                Ending::Well => {}
                Ending::Failed(class) => stopped = Some((step.id.clone(), class)),
                Ending::Dropped | Ending::Parked | Ending::Stopped => return Evaluation { ending: ran.ending, ..all },
            }
        }
        all.ending = stopped.map_or(Ending::Well, |(_, class)| Ending::Failed(class));
        all
    }

    /// One step of a list: `Failed` when it stops the list.
    pub(crate) fn step(&self, path: &str, step: &Step, env: &Env, time: u64, cut: u64) -> Evaluation {
        let mut nothing = Evaluation::at(time, env);
        let mut skip = |reason: String| {
            nothing.facts.push(Fact::ended(time, path, "skipped", reason));
            nothing.ends.push((step.id.clone(), "skipped"));
            nothing.clone()
        };
        if let Some(read) = step.reads.iter().find(|read| !read.optional && !env.has(&read.name)) {
            return skip(format!("input {} missing", read.name));
        }
        let condition = step.when.as_ref().map_or(Some(true), |when| match when {
            When::Ok(name) => env.artifacts.get(name).and_then(|value| value["ok"].as_bool()),
            When::Completed(id) => env.ends.get(id).map(|end| *end == "completed"),
            When::Wrong(_) => None,
        });
        if condition == Some(false) {
            return skip("when:".to_owned());
        }
        let mut ran = match (condition, &step.each) {
            (None, _) => self.failed(path, Evaluation::at(time, env), "expression_error"),
            (Some(_), Some(each)) => self.each(path, step, each, env, time, cut),
            (Some(_), None) => self.step_or_item(path, step, env, time, cut),
        };
        let stops = match step.on_error {
            Some(on_error) => on_error == OnError::Stop,
            None => !self.lenient,
        };
        match &ran.ending {
            Ending::Well => {
                if let (Some(name), Some(value)) = (&step.output, &ran.value) {
                    ran.give(name, value.clone());
                }
                ran.ends.push((step.id.clone(), "completed"));
            }
            Ending::Failed(_) => {
                ran.ends.push((step.id.clone(), "failed"));
                if !stops {
                    ran.ending = Ending::Well;
                }
            }
            Ending::Dropped | Ending::Parked | Ending::Stopped => {}
        }
        ran
    }

    /// A step or an item that fails at this instant.
    pub(crate) fn failed(&self, path: &str, mut ran: Evaluation, class: &str) -> Evaluation {
        ran.facts.push(Fact::ended(ran.end, path, "failed", class.to_owned()));
        ran.fail(Some(&class.to_owned()));
        Evaluation { ending: Ending::Failed(class.to_owned()), value: None, ..ran }
    }

    fn each(&self, path: &str, step: &Step, each: &Each, env: &Env, time: u64, cut: u64) -> Evaluation {
        let list = match &each.list {
            List::Literal(count) => Some((1..=*count).map(Value::from).collect()),
            List::Of(name) => env.artifacts.get(name).and_then(|value| value["list"].as_array().cloned()),
            List::Wrong(_) => None,
        };
        let Some(list) = list else { return self.failed(path, Evaluation::at(time, env), "expression_error") };
        let stops = match step.on_error {
            Some(on_error) => on_error == OnError::Stop,
            None => !self.lenient,
        };
        let item = |index: usize, value: &Value, tree: u64, from: u64, cut: u64| {
            let env = Env { item: Some((value.clone(), index)), hidden: true, tree, ..env.clone() };
            self.step_or_item(&format!("{path}[{index}]"), step, &env, from, cut)
        };
        let mut all = Evaluation::at(time, env);
        let items: Vec<Option<Evaluation>> = if each.limit == 1 {
            let mut ended: Vec<Option<Evaluation>> = Vec::new();
            for (index, value) in list.iter().enumerate() {
                if stops && ended.iter().flatten().any(|ran| matches!(ran.ending, Ending::Failed(_))) {
                    break;
                }
                let ran = item(index, value, all.tree, all.end, cut);
                all.end = ran.end;
                all.tree = ran.tree;
                if matches!(ran.ending, Ending::Dropped | Ending::Parked | Ending::Stopped) {
                    all.facts.extend(ended.into_iter().flatten().flat_map(|ran| ran.facts).chain(ran.facts));
                    return Evaluation { ending: ran.ending, ..all };
                }
                ended.push(Some(ran));
            }
            ended.resize_with(list.len(), || None);
            ended
        } else {
            let run = |index: usize, from: u64, cut: u64| item(index, &list[index], env.tree, from, cut);
            match self.window(list.len(), each.limit, stops, time, cut, &run) {
                Ok(items) => items,
                Err(over) => return *over,
            }
        };
        let mut entries = Vec::new();
        let mut first = None;
        for (index, ran) in items.iter().enumerate() {
            let Some(ran) = ran else { continue };
            all.facts.extend(ran.facts.iter().cloned());
            all.fail(ran.failed.as_ref());
            all.end = all.end.max(ran.end);
            let value = ran.value.clone().unwrap_or(Value::Null);
            let told_apart = step.on_error == Some(OnError::Continue);
            match &ran.ending {
                Ending::Well if told_apart => {
                    entries.push(json!({ "index": index, "status": "completed", "value": value }))
                }
                Ending::Well => entries.push(value),
                Ending::Failed(class) if told_apart => {
                    entries.push(json!({ "index": index, "status": "failed", "error": { "class": class } }));
                }
                Ending::Failed(class) => first = first.or(Some(class.clone())),
                Ending::Dropped | Ending::Parked | Ending::Stopped => {}
            }
        }
        if let Some(class) = first {
            return self.failed(path, all, &class);
        }
        self.completed(path, step, env, all, Some(Value::Array(entries)))
    }

    /// A group, or an item of it, that ended.
    pub(crate) fn close(&self, path: &str, step: &Step, env: &Env, ran: Evaluation) -> Evaluation {
        let is_item = step.each.is_some();
        let value = ran.object();
        let mut ran = match ran.ending.clone() {
            Ending::Well => self.completed(path, step, env, ran, Some(value)),
            Ending::Failed(class) => self.failed(path, ran, &class),
            // A cancelled group has no artifacts.
            Ending::Dropped | Ending::Parked | Ending::Stopped => {
                Evaluation { artifacts: Vec::new(), ends: Vec::new(), ..ran }
            }
        };
        if is_item {
            ran.artifacts.clear();
            ran.ends.clear();
        }
        ran
    }

    /// Records that a step or an item completed.
    pub(crate) fn completed(
        &self,
        path: &str,
        step: &Step,
        env: &Env,
        mut ran: Evaluation,
        value: Option<Value>,
    ) -> Evaluation {
        let shown = step.output.as_ref().and(value.clone());
        ran.facts.push(Fact::Ended {
            at: ran.end,
            path: path.to_owned(),
            status: "completed",
            why: String::new(),
            value: shown,
        });
        if let (Some(name), Some(value), false) = (&step.output, &value, env.hidden) {
            ran.facts.push(Fact::File { at: ran.end, path: format!("{name}.json"), content: value.to_string() });
        }
        Evaluation { ending: Ending::Well, value, ..ran }
    }

    /// A number that identifies an execution that changed the workspace.
    pub(crate) fn execution(&self, path: &str) -> u64 {
        hash(&["execution", &self.session.to_string(), path])
    }
}
