//! The steps of the reference model without steps inside.

use serde_json::{Value, json};

use super::memory::{Fact, RecordedResult};
use super::pipeline::{Access, Kind, Step};
use super::reference::{Ending, Env, Evaluation, Model};
use super::script::{ScriptedOutcome, answer, hash};

/// How often an invalid reply is sent back.
const RE_ASKS: u32 = 2;

/// A running step.
struct Leaf<'a> {
    model: &'a Model<'a>,
    path: &'a str,
    recipe: String,
    ran: Evaluation,
    cut: u64,
    /// When a stop was requested, unless the step ignores stops.
    stop: Option<u64>,
    is_command: bool,
    number: usize,
    /// Outcomes of an attempt that an earlier session began.
    replayed: std::vec::IntoIter<ScriptedOutcome>,
}

impl Leaf<'_> {
    /// Makes one call; returns `None` when it may not begin any more.
    fn call(&mut self, is_question: bool) -> Option<ScriptedOutcome> {
        if let Some(say) = self.replayed.next() {
            return Some(say);
        }
        let (model, path, at) = (self.model, self.path.to_owned(), self.ran.end);
        if at >= self.cut {
            self.ran.facts.push(Fact::Dropped { at });
            self.ran.ending = Ending::Dropped;
            return None;
        }
        if self.stop.is_some_and(|stop| at > stop) {
            self.ran.ending = Ending::Stopped;
            return None;
        }
        let say = model.script.outcome(model.session, &path, self.number, is_question);
        let end = at + model.script.takes(model.session, &path, self.number);
        // A stop waits for a request in flight, but not for a command or a question.
        let given_up = self.stop.filter(|stop| end > *stop && (self.is_command || is_question));
        if let Some(stop) = given_up.filter(|stop| !is_question || *stop < self.cut) {
            self.ran.ending = Ending::Stopped;
            self.ran.end = stop;
            return None;
        }
        if is_question && end > self.cut {
            // The run does not wait for an answer that has no effect.
            self.ran.ending = Ending::Dropped;
            self.ran.end = self.cut;
            return None;
        }
        self.ran.facts.push(Fact::Call { start: at, end, path, recipe: self.recipe.clone(), say });
        self.ran.end = end;
        if say == ScriptedOutcome::Later {
            self.ran.ending = Ending::Parked;
            return None;
        }
        self.number += 1;
        Some(say)
    }
}

impl Model<'_> {
    /// A whole step, or one item of it.
    pub(crate) fn step_or_item(&self, path: &str, step: &Step, env: &Env, time: u64, cut: u64) -> Evaluation {
        match &step.kind {
            Kind::Parallel { limit, steps } => {
                // `max_parallel` of a step with items and a group limits both.
                let limit = step.each.as_ref().map(|each| each.limit).or(*limit);
                match self.parallel(path, limit, steps, (env, time, cut)) {
                    Ok(ran) => self.close(path, step, env, ran),
                    Err(over) => *over,
                }
            }
            Kind::Repeat { until, max, goes_on, steps } => {
                let ran = self.rounds(path, (until.as_ref(), *max, *goes_on, steps), &step.reads, (env, time, cut));
                self.close(path, step, env, ran)
            }
            Kind::Steps(steps) => {
                let ran = self.list(path, steps, env, time, cut);
                self.close(path, step, env, ran)
            }
            Kind::Call(pipeline) => {
                let read = step.reads.iter().find(|read| !read.optional);
                let given = read.map_or(json!([1, 2]), |read| env.artifacts[&read.name].clone());
                let inside =
                    Env { given: Some(given), hidden: true, tree: env.tree, closing: env.closing, ..Env::default() };
                let mut ran = self.body(path, pipeline, &inside, time, cut);
                ran.ends.clear();
                ran.artifacts.clear();
                if ran.ending == Ending::Well {
                    // Failures inside a step that succeeded do not count outside of it.
                    ran.failed = None;
                    let outputs = ran.value.take().unwrap_or_default();
                    outputs.as_object().into_iter().flatten().for_each(|(name, value)| ran.give(name, value.clone()));
                }
                self.close(path, step, env, ran)
            }
            Kind::Agent { .. } | Kind::Run { .. } | Kind::Write { .. } | Kind::Approve { .. } => {
                self.leaf(path, step, env, time, cut)
            }
        }
    }

    fn leaf(&self, path: &str, step: &Step, env: &Env, time: u64, cut: u64) -> Evaluation {
        let words = text_of(step, env);
        let access = match &step.kind {
            Kind::Run { access, .. } => *access,
            Kind::Write { .. } => Access::Write,
            _ => Access::None,
        };
        let tree = if access == Access::None { String::new() } else { format!(" in {}", env.tree) };
        let recipe = format!("{words}{tree}");
        let mut ran = Evaluation::at(time, env);
        let touched = |execution: u64| hash(&["tree", &env.tree.to_string(), &execution.to_string()]);
        if !env.closing {
            match self.memory.lookup(path, &recipe, access != Access::None) {
                RecordedResult::Reusable(done) => {
                    if access == Access::Write {
                        ran.tree = touched(done.execution);
                    }
                    return self.completed(path, step, env, ran, done.value.clone());
                }
                RecordedResult::Elsewhere => self.open.set(true),
                RecordedResult::Nothing => {}
            }
        }
        if time >= cut {
            ran.facts.push(Fact::Dropped { at: time });
            return Evaluation { ending: Ending::Dropped, ..ran };
        }
        // `finally` continues after a stop.
        let stop = self.stop.filter(|_| !env.closing);
        if stop.is_some_and(|stop| time > stop) {
            return Evaluation { ending: Ending::Stopped, ..ran };
        }
        ran.facts.push(Fact::Began { at: time, path: path.to_owned() });
        let mut leaf = Leaf {
            model: self,
            path,
            ran,
            cut,
            stop,
            is_command: matches!(step.kind, Kind::Run { .. }),
            number: self.memory.count(path),
            replayed: self.memory.replays(path, &recipe).into_iter(),
            recipe: recipe.clone(),
        };
        let result = match &step.kind {
            Kind::Agent { tries, fallback } => leaf.agent(tries.unwrap_or(3), 1 + usize::from(*fallback)),
            Kind::Run { tries, .. } => leaf.command(tries.unwrap_or(1), step.output.is_some()),
            Kind::Write { escapes } => leaf.write(*escapes),
            Kind::Approve { goes_on } => leaf.approve(*goes_on),
            _ => Some(Ok(())),
        };
        let mut ran = leaf.ran;
        let Some(result) = result else { return ran };
        if access == Access::Write {
            ran.tree = touched(self.execution(path));
        }
        match result {
            Err(class) => self.failed(path, ran, class),
            Ok(()) => {
                let value = match &step.kind {
                    Kind::Approve { .. } => {
                        let no =
                            ran.facts.iter().any(|fact| matches!(fact, Fact::Call { say: ScriptedOutcome::No, .. }));
                        Some(json!({ "approved": !no, "note": "", "by": "test" }))
                    }
                    Kind::Write { .. } => {
                        let (name, content) = file(step, env);
                        ran.facts.push(Fact::File { at: ran.end, path: name, content });
                        None
                    }
                    _ => step.output.is_some().then(|| answer(&words)),
                };
                let execution = self.execution(path);
                ran.facts.push(Fact::Done {
                    at: ran.end,
                    path: path.to_owned(),
                    recipe,
                    value: value.clone(),
                    execution,
                });
                self.completed(path, step, env, ran, value)
            }
        }
    }
}

impl Leaf<'_> {
    fn agent(&mut self, tries: u32, models: usize) -> Option<Result<(), &'static str>> {
        let mut class = "";
        for _ in 0..models {
            for attempt in 1..=tries {
                let mut asked = 0;
                class = loop {
                    match self.call(false)? {
                        ScriptedOutcome::Well | ScriptedOutcome::Later => return Some(Ok(())),
                        ScriptedOutcome::Garbage if asked < RE_ASKS => asked += 1,
                        ScriptedOutcome::Garbage => break "no_json",
                        ScriptedOutcome::Busy => break "timeout",
                        ScriptedOutcome::No => break "bad_request",
                    }
                };
                if class != "timeout" || attempt == tries {
                    break;
                }
            }
        }
        Some(Err(class))
    }

    fn command(&mut self, tries: u32, takes_output: bool) -> Option<Result<(), &'static str>> {
        let mut class = "";
        for _ in 0..tries {
            class = match self.call(false)? {
                ScriptedOutcome::Well | ScriptedOutcome::Later => return Some(Ok(())),
                ScriptedOutcome::Garbage if takes_output => return Some(Err("no_json")),
                ScriptedOutcome::Garbage => return Some(Ok(())),
                ScriptedOutcome::Busy => "timeout",
                ScriptedOutcome::No => "command_failed",
            };
        }
        Some(Err(class))
    }

    /// Makes two calls: the snapshot of the files, and the write.
    fn write(&mut self, escapes: bool) -> Option<Result<(), &'static str>> {
        self.call(false)?;
        if escapes {
            return Some(Err("path_refused"));
        }
        self.call(false)?;
        Some(Ok(()))
    }

    fn approve(&mut self, goes_on: bool) -> Option<Result<(), &'static str>> {
        match self.call(true)? {
            ScriptedOutcome::No if !goes_on => Some(Err("rejected")),
            _ => Some(Ok(())),
        }
    }
}

/// The text of a step with its values.
fn text_of(step: &Step, env: &Env) -> String {
    let mut text = format!("{} {}", step.id, step.word);
    for read in &step.reads {
        let value = env.artifacts.get(&read.name).map_or_else(|| "-".to_owned(), Value::to_string);
        text += &format!("|{}={value}", read.name);
    }
    if let Some(given) = &env.given {
        text += &format!("|p={given}");
    }
    if let Some((item, index)) = &env.item {
        text += &format!("|item={item}@{index}");
    }
    if let Some(round) = env.round {
        text += &format!("|loop={round}");
    }
    if let Kind::Write { .. } = step.kind {
        let (name, content) = file(step, env);
        return format!("{name}: {content}");
    }
    text
}

/// The file that a step writes.
fn file(step: &Step, env: &Env) -> (String, String) {
    let place = env.item.as_ref().map_or_else(String::new, |(_, index)| format!("-{index}"));
    let read = step.reads.iter().find(|read| !read.optional);
    let content = read.map_or_else(|| "x".to_owned(), |read| env.artifacts[&read.name].to_string());
    (format!("files/{}{place}", step.id), content)
}
