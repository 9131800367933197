//! Answers the interpreter's questions from the recorded events of a run: which calls have an outcome, which results
//! can be reused, which attempt comes next.

use std::collections::{HashMap, HashSet};

use crate::durable::{CallOutcome, CallReply, StepSpec};
use crate::model::event::{
    ApprovalAnswered, ApprovalAsked, ApprovalDecision, CallEnded, Event, Fact, FingerprintPart, StepCompleted,
    StepStarted,
};
use crate::model::{Artifact, CallKey, ChatReply, Class, Digest, Fingerprint, StepKey, StopReason, Usage};

/// An index over the events of one run, kept up to date as they are appended.
///
/// It does not store outcomes and results of this session: no step looks them up again.
#[derive(Default)]
pub(super) struct Index {
    earlier: bool,
    outcomes: HashMap<CallKey, (Digest, CallOutcome)>,
    /// Calls with a reply, by request digest: for steps that were renamed or moved while they were in progress.
    replied: HashMap<Digest, Vec<CallKey>>,
    calls: HashMap<(StepKey, u32), Vec<CallKey>>,
    read: HashSet<CallKey>,
    completed: HashMap<Fingerprint, Vec<Completed>>,
    recipes: HashMap<u64, Fingerprint>,
    /// The execution id to use for a result (by its `seq`) whose files the user deleted or reverted since: that counts
    /// as a new write.
    renewed: HashMap<u64, u64>,
    /// The `seq` of each step's last result.
    latest: HashMap<StepKey, u64>,
    started: HashMap<StepKey, Vec<StepStarted>>,
    asked: HashMap<Digest, Vec<StepStarted>>,
    /// Attempts whose start this session recorded, including attempts that an earlier session began.
    announced: HashSet<(StepKey, u32)>,
    ended: HashMap<StepKey, u32>,
    failed: HashMap<StepKey, Class>,
    /// Steps that the user wants to re-run, each with an event's `seq`: results from before it are not reused.
    forgotten: Vec<(StepKey, u64)>,
    questions: Vec<ApprovalAsked>,
    answers: Vec<ApprovalAnswered>,
}

struct Completed {
    seq: u64,
    step: StepKey,
    artifact: Option<Artifact>,
    /// Whether the user wrote the artifact.
    accepted: bool,
}

impl Index {
    pub(super) fn of(events: &[Event]) -> Self {
        let mut index = Self { earlier: true, ..Self::default() };
        for event in events {
            index.apply(event);
        }
        index.earlier = false;
        index.announced.clear();
        index
    }

    pub(super) fn apply(&mut self, event: &Event) {
        match &event.fact {
            Fact::StepStarted(fact) => self.step_started(fact),
            Fact::CallEnded(fact) if self.earlier => self.call_ended(fact),
            Fact::ReplyParsed(fact) if self.earlier => {
                self.read.insert(fact.call.clone());
            }
            Fact::StepCompleted(fact) => {
                self.end(&fact.step, fact.attempt);
                // A step of this session has its own result already; only later sessions look it up.
                if self.earlier {
                    let accepted = self.holds_edit(fact);
                    let (seq, step, artifact) = (event.seq, fact.step.clone(), fact.artifact.clone());
                    self.latest.insert(step.clone(), seq);
                    let completed = Completed { seq, step, artifact, accepted };
                    self.completed.entry(fact.fingerprint.clone()).or_default().push(completed);
                    self.recipes.insert(event.seq, fact.fingerprint.clone());
                }
            }
            Fact::StepFailed(fact) => {
                self.end(&fact.step, fact.attempt);
                self.failed.insert(fact.step.clone(), fact.failure.class);
            }
            Fact::RunResumed(fact) => {
                if let Some(step) = &fact.from {
                    self.forget(step, event.seq);
                }
                self.renewed.extend(fact.missing_files.iter().filter_map(|file| Some((file.completed?, event.seq))));
            }
            Fact::ArtifactAccepted(fact) => self.accepted(fact.completed, &fact.artifact),
            Fact::ApprovalAsked(fact) => self.questions.push(fact.clone()),
            Fact::ApprovalAnswered(fact) => self.answers.push(fact.clone()),
            Fact::CallEnded(_)
            | Fact::ReplyParsed(_)
            | Fact::RunStarted(_)
            | Fact::RunEnded(_)
            | Fact::StepReused(_)
            | Fact::StepSkipped(_) => {}
        }
    }

    fn step_started(&mut self, fact: &StepStarted) {
        self.announced.insert((fact.step.clone(), fact.attempt));
        self.started.entry(fact.step.clone()).or_default().push(fact.clone());
        if self.earlier {
            self.asked.entry(fact.fingerprint.request.clone()).or_default().push(fact.clone());
        }
    }

    fn call_ended(&mut self, fact: &CallEnded) {
        let result = match (&fact.reply, &fact.output, &fact.failure) {
            (Some(reply), _, _) => Ok(CallReply::Chat(reply.clone())),
            (None, Some(done), _) => Ok(CallReply::Output(done.clone())),
            // A call that the budget, a stop or the death of the process ended has no outcome.
            (None, None, Some(failure))
                if matches!(failure.class, Class::BudgetExceeded | Class::Cancelled | Class::Crashed) =>
            {
                return;
            }
            (None, None, Some(failure)) => Err(failure.clone()),
            (None, None, None) => return,
        };
        let (started, ended, work) = (fact.started, fact.ended, fact.agent_activity.clone());
        let outcome = CallOutcome {
            started,
            ended,
            result,
            agent_activity: work,
            cost: fact.cost,
            estimated: fact.estimated,
            estimated_cost: fact.estimated_cost,
            reverted_files: Vec::new(),
        };
        self.calls.entry((fact.call.step.clone(), fact.call.attempt)).or_default().push(fact.call.clone());
        if fact.reply.is_some() {
            self.replied.entry(fact.request_digest.clone()).or_default().push(fact.call.clone());
        }
        self.outcomes.insert(fact.call.clone(), (fact.request_digest.clone(), outcome));
    }

    fn end(&mut self, step: &StepKey, attempt: u32) {
        let last = self.ended.entry(step.clone()).or_default();
        *last = (*last).max(attempt);
    }

    /// Whether a result is the user's edit of the step's previous result, parsed again under other decode rules.
    fn holds_edit(&self, fact: &StepCompleted) -> bool {
        let before = self.latest.get(&fact.step);
        let before = before.and_then(|seq| Some((seq, self.recipes.get(seq)?)));
        let Some((seq, recipe)) = before.filter(|(_, recipe)| recipe.request == fact.fingerprint.request) else {
            return false;
        };
        let list = self.completed.get(recipe).map(Vec::as_slice).unwrap_or_default();
        let value = fact.artifact.as_ref().map(|artifact| &artifact.value);
        let holds = |last: &Completed| last.artifact.as_ref().map(|artifact| &artifact.value) == value;
        list.iter().any(|last| last.seq == *seq && last.accepted && holds(last))
    }

    fn accepted(&mut self, completed: u64, artifact: &Artifact) {
        let list = self.recipes.get(&completed).and_then(|recipe| self.completed.get_mut(recipe));
        if let Some(found) = list.and_then(|list| list.iter_mut().find(|entry| entry.seq == completed)) {
            found.artifact = Some(artifact.clone());
            found.accepted = true;
        }
    }

    /// Stops reusing what a step, its items and its rounds produced before the event numbered `before`.
    pub(super) fn forget(&mut self, step: &StepKey, before: u64) {
        let stale = |key: &StepKey| covers(step, key);
        for list in self.asked.values_mut() {
            list.retain(|started| !stale(&started.step));
        }
        let started: Vec<(StepKey, u32)> = self
            .started
            .iter()
            .filter(|(key, _)| stale(key))
            .filter_map(|(key, list)| Some((key.clone(), list.iter().map(|s| s.attempt).max()?)))
            .collect();
        for (key, attempt) in started {
            self.end(&key, attempt);
        }
        self.forgotten.push((step.clone(), before));
    }

    /// Whether the user wants a step to re-run and it has not completed since.
    fn is_forgotten(&self, step: &StepKey) -> bool {
        let since = |before: u64| self.latest.get(step).is_none_or(|seq| *seq < before);
        self.forgotten.iter().any(|(key, before)| covers(key, step) && since(*before))
    }

    /// The execution id that a reused result has for later steps that see the workspace.
    pub(super) fn mark(&self, completed: u64) -> u64 {
        self.renewed.get(&completed).copied().unwrap_or(completed)
    }

    /// The last artifact of a step, whether it can be reused or not.
    pub(super) fn last_result(&self, step: &StepKey) -> Option<&Artifact> {
        let all = self.completed.values().flatten().filter(|completed| completed.step == *step);
        all.max_by_key(|completed| completed.seq)?.artifact.as_ref()
    }

    /// Why a step runs although it ran before; `None` if it never started.
    pub(super) fn why(&self, open: &StepSpec) -> Option<String> {
        if self.is_forgotten(&open.step) {
            return Some("asked for with --from".to_owned());
        }
        let last = self.started.get(&open.step)?.last()?;
        if last.fingerprint == open.fingerprint {
            let class = self.failed.get(&open.step);
            return Some(
                class.map_or_else(|| "it did not come to its end".to_owned(), |class| format!("failed: {class}")),
            );
        }
        let changed = changes(&last.parts, &open.parts);
        Some(if changed.is_empty() { "what it asks changed".to_owned() } else { changed.join(", ") })
    }

    /// The recorded outcome of a call, if its request was the same. Otherwise the reply to the same request from an
    /// attempt that never ended, each reply once: its step has been renamed or moved since.
    pub(super) fn outcome(&mut self, key: &CallKey, ask: &Digest) -> Option<CallOutcome> {
        let own = self.outcomes.get(key).filter(|(asked, _)| asked == ask).map(|(_, outcome)| outcome.clone());
        let list = self.replied.get_mut(ask);
        if own.is_some() {
            // This outcome must not serve another call as well.
            if let Some(list) = list {
                list.retain(|other| other != key);
            }
            return own;
        }
        let covered = self.forgotten.iter().any(|(step, _)| covers(step, &key.step));
        let list = list.filter(|_| !covered)?;
        let ended = |other: &CallKey| self.ended.get(&other.step).is_some_and(|last| *last >= other.attempt);
        let at = list.iter().position(|other| !ended(other))?;
        // Removed, so that it serves no other call, not even its own.
        self.outcomes.remove(&list.remove(at)).map(|(_, outcome)| outcome)
    }

    /// Takes a completed result for a step: its own with this fingerprint, else an unclaimed one of another step. If
    /// the user edited the step's last result for the same request, results from before the edit are not taken: orch
    /// parses the edit first. Returns the `seq` of the result and its artifact.
    pub(super) fn claim(&mut self, open: &StepSpec) -> Option<(u64, Option<Artifact>)> {
        let edit = self.edit(open).map(|edited| edited.seq);
        let Self { completed, forgotten, latest, .. } = self;
        let fits = |found: &Completed| {
            if edit.is_some_and(|edit| found.step != open.step || found.seq < edit) {
                return false;
            }
            let stale = forgotten.iter().any(|(key, before)| covers(key, &open.step) && found.seq < *before);
            let undone = open.depends_on_workspace && latest.get(&found.step) != Some(&found.seq);
            !stale && !undone && (open.output.is_none() || found.artifact.is_some())
        };
        let recipes = || std::iter::once(&open.fingerprint).chain(&open.also);
        let find = |fits: &dyn Fn(&Completed) -> bool| {
            recipes().find_map(|recipe| Some((recipe, completed.get(recipe)?.iter().rposition(fits)?)))
        };
        let (recipe, at) = find(&|found| found.step == open.step && fits(found)).or_else(|| find(&fits))?;
        let found = completed.get_mut(recipe)?.remove(at);
        Some((found.seq, found.artifact))
    }

    /// The last result of a step, if the user edited it and the request is the same.
    fn edit(&self, open: &StepSpec) -> Option<&Completed> {
        let mut recipes = std::iter::once(&open.fingerprint).chain(&open.also);
        let mut asks = |recipe: &Fingerprint| recipes.any(|same| same.request == recipe.request);
        let last = *self.latest.get(&open.step)?;
        let list =
            self.recipes.get(&last).filter(|recipe| asks(recipe)).and_then(|recipe| self.completed.get(recipe))?;
        list.iter().find(|found| found.seq == last && found.accepted)
    }

    /// The user's edit of a step's last result in the form of a reply, if the request is the same.
    fn written(&self, open: &StepSpec) -> Option<CallReply> {
        let text = String::from_utf8(self.edit(open)?.artifact.as_ref()?.bytes()).ok()?;
        // The edit used no tokens.
        let (usage, stop) = (Usage::default().into(), StopReason::End);
        Some(CallReply::Chat(ChatReply {
            text,
            stop,
            usage,
            model: None,
            id: None,
            constrained: false,
            agent_activity: None,
            remarks: Box::default(),
        }))
    }

    /// Recorded replies to the same request that were parsed under other rules, latest first. The user's edit of the
    /// last result comes before them.
    pub(super) fn replies(&self, open: &StepSpec) -> Vec<CallReply> {
        if self.is_forgotten(&open.step) {
            return Vec::new();
        }
        let recipes = open.also.iter().chain([&open.fingerprint]);
        let asked: Vec<&StepStarted> = recipes.filter_map(|recipe| self.asked.get(&recipe.request)).flatten().collect();
        // If the step itself made this request before, the replies to other steps do not count.
        let own = asked.iter().any(|started| started.step == open.step);
        let asked = || asked.iter().filter(|started| !own || started.step == open.step);
        let same: HashSet<(&StepKey, u32)> = asked()
            .filter(|started| started.fingerprint.decode == open.fingerprint.decode)
            .map(|started| (&started.step, started.attempt))
            .collect();
        let mut replies: Vec<CallReply> = self.written(open).into_iter().collect();
        for started in asked().rev().filter(|started| !same.contains(&(&started.step, started.attempt))) {
            let calls = self.calls.get(&(started.step.clone(), started.attempt)).into_iter().flatten().rev();
            replies.extend(calls.filter_map(|key| self.outcomes.get(key)?.1.result.clone().ok()));
        }
        replies
    }

    /// The attempt to continue: the unfinished one with this fingerprint, else a new one.
    pub(super) fn next_attempt(&self, open: &StepSpec) -> u32 {
        let first_open = self.ended.get(&open.step).copied().unwrap_or(0) + 1;
        let started = self.started.get(&open.step).map(Vec::as_slice).unwrap_or_default();
        let unfinished: Vec<&StepStarted> = started.iter().filter(|s| s.attempt >= first_open).collect();
        // Unfinished attempts with another fingerprint are over, although no event records their end.
        let stale = unfinished.iter().filter(|s| s.fingerprint != open.fingerprint).map(|s| s.attempt).max();
        stale.map_or(first_open, |stale| stale + 1)
    }

    pub(super) fn is_announced(&self, fact: &StepStarted) -> bool {
        self.announced.contains(&(fact.step.clone(), fact.attempt))
    }

    pub(super) fn has_attempt(&self, key: &CallKey) -> bool {
        self.started.get(&key.step).is_some_and(|list| list.iter().any(|s| s.attempt == key.attempt))
    }

    pub(super) fn has_read(&self, call: &CallKey) -> bool {
        self.read.contains(call)
    }

    /// The recorded question with exactly this text; its `until` is the deadline for an answer.
    pub(super) fn asked(&self, key: &CallKey, ask: &Digest) -> Option<&ApprovalAsked> {
        let same = |q: &&ApprovalAsked| q.step == key.step && q.attempt == key.attempt && q.shown_digest == *ask;
        self.questions.iter().find(same)
    }

    /// The recorded answer to exactly this text, if it came in time.
    pub(super) fn answer(&self, key: &CallKey, ask: &Digest) -> Option<ApprovalDecision> {
        let until = self.asked(key, ask).and_then(|asked| asked.until);
        let same = |a: &&ApprovalAnswered| a.step == key.step && a.attempt == key.attempt && a.shown_digest == *ask;
        let in_time = |a: &&ApprovalAnswered| until.is_none_or(|until| a.answer.at <= until);
        self.answers.iter().filter(same).find(in_time).map(|answer| answer.answer.clone())
    }
}

/// Whether a step is `named`, one of its items or rounds, or inside of it.
fn covers(named: &StepKey, step: &StepKey) -> bool {
    step == named || step.place() == *named || step.is_within(named) || step.place().is_within(named)
}

/// Which parts of a fingerprint differ, in words: `prompt planner.md changed`.
fn changes(old: &[FingerprintPart], new: &[FingerprintPart]) -> Vec<String> {
    if old.is_empty() {
        return Vec::new();
    }
    let find = |list: &[FingerprintPart], name: &str| {
        list.iter().find(|part| part.name == name).map(|part| part.digest.clone())
    };
    let mut words = Vec::new();
    for part in new {
        match find(old, &part.name) {
            Some(digest) if digest == part.digest => {}
            Some(_) => words.push(format!("{} changed", part.name)),
            None => words.push(format!("{} is new", part.name)),
        }
    }
    words
        .extend(old.iter().filter(|part| find(new, &part.name).is_none()).map(|part| format!("{} is gone", part.name)));
    words
}
