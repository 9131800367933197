//! The steps of the reference model that have none inside.

use serde_json::{Value, json};

use super::memory::{Fact, Known};
use super::pipe::{Access, Kind, Step};
use super::reference::{Env, How, Model, Ran};
use super::script::{Say, answer, hash};

/// How often a reply that does not validate is sent back.
const RE_ASKS: u32 = 2;

/// One step under way.
struct Leaf<'a> {
    model: &'a Model<'a>,
    path: &'a str,
    recipe: String,
    ran: Ran,
    cut: u64,
    /// When a stop was asked for, if that holds for it.
    stop: Option<u64>,
    is_command: bool,
    number: usize,
    /// Outcomes of an attempt that an earlier session began.
    replayed: std::vec::IntoIter<Say>,
}

impl Leaf<'_> {
    /// One call; `None` when it may not begin any more.
    fn call(&mut self, is_question: bool) -> Option<Say> {
        if let Some(say) = self.replayed.next() {
            return Some(say);
        }
        let (model, path, at) = (self.model, self.path.to_owned(), self.ran.end);
        if at >= self.cut {
            self.ran.facts.push(Fact::Dropped { at });
            self.ran.how = How::Dropped;
            return None;
        }
        if self.stop.is_some_and(|stop| at > stop) {
            self.ran.how = How::Stopped;
            return None;
        }
        let say = model.script.say(model.session, &path, self.number, is_question);
        let end = at + model.script.takes(model.session, &path, self.number);
        // A request in flight is waited for; a command and a question are not.
        let given_up = self.stop.filter(|stop| end > *stop && (self.is_command || is_question));
        if let Some(stop) = given_up.filter(|stop| !is_question || *stop < self.cut) {
            self.ran.how = How::Stopped;
            self.ran.end = stop;
            return None;
        }
        if is_question && end > self.cut {
            // Nobody waits for a person when the answer decides nothing.
            self.ran.how = How::Dropped;
            self.ran.end = self.cut;
            return None;
        }
        self.ran.facts.push(Fact::Call { start: at, end, path, recipe: self.recipe.clone(), say });
        self.ran.end = end;
        if say == Say::Later {
            self.ran.how = How::Parked;
            return None;
        }
        self.number += 1;
        Some(say)
    }
}

impl Model<'_> {
    /// The whole of a step, or one item of it.
    pub(crate) fn once(&self, path: &str, step: &Step, env: &Env, time: u64, cut: u64) -> Ran {
        match &step.kind {
            Kind::Parallel { limit, steps } => {
                // `max_parallel` of a step with both is that of the items and of the group.
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
            Kind::Call(pipe) => {
                let read = step.reads.iter().find(|read| !read.optional);
                let given = read.map_or(json!([1, 2]), |read| env.artifacts[&read.name].clone());
                let inside =
                    Env { given: Some(given), hidden: true, tree: env.tree, closing: env.closing, ..Env::default() };
                let mut ran = self.body(path, pipe, &inside, time, cut);
                ran.ends.clear();
                ran.artifacts.clear();
                if ran.how == How::Well {
                    // What failed inside is its own affair once it says that it succeeded.
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

    fn leaf(&self, path: &str, step: &Step, env: &Env, time: u64, cut: u64) -> Ran {
        let words = words(step, env);
        let access = match &step.kind {
            Kind::Run { access, .. } => *access,
            Kind::Write { .. } => Access::Write,
            _ => Access::None,
        };
        let tree = if access == Access::None { String::new() } else { format!(" in {}", env.tree) };
        let recipe = format!("{words}{tree}");
        let mut ran = Ran::at(time, env);
        let touched = |execution: u64| hash(&["tree", &env.tree.to_string(), &execution.to_string()]);
        if !env.closing {
            match self.memory.stands(path, &recipe, access != Access::None) {
                Known::Stands(done) => {
                    if access == Access::Write {
                        ran.tree = touched(done.execution);
                    }
                    return self.completed(path, step, env, ran, done.value.clone());
                }
                Known::Elsewhere => self.open.set(true),
                Known::Nothing => {}
            }
        }
        if time >= cut {
            ran.facts.push(Fact::Dropped { at: time });
            return Ran { how: How::Dropped, ..ran };
        }
        // `finally` goes on after a stop.
        let stop = self.stop.filter(|_| !env.closing);
        if stop.is_some_and(|stop| time > stop) {
            return Ran { how: How::Stopped, ..ran };
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
                        let no = ran.facts.iter().any(|fact| matches!(fact, Fact::Call { say: Say::No, .. }));
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
                        Say::Well | Say::Later => return Some(Ok(())),
                        Say::Garbage if asked < RE_ASKS => asked += 1,
                        Say::Garbage => break "no_json",
                        Say::Busy => break "timeout",
                        Say::No => break "bad_request",
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
                Say::Well | Say::Later => return Some(Ok(())),
                Say::Garbage if takes_output => return Some(Err("no_json")),
                Say::Garbage => return Some(Ok(())),
                Say::Busy => "timeout",
                Say::No => "command_failed",
            };
        }
        Some(Err(class))
    }

    /// Two calls: a look at what is there, and the writing.
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
            Say::No if !goes_on => Some(Err("rejected")),
            _ => Some(Ok(())),
        }
    }
}

/// What a step says, with its values.
fn words(step: &Step, env: &Env) -> String {
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
