//! The groups of the reference model: what runs side by side, again and again, or as a pipeline of its own.

use serde_json::{Map, Value};

use super::memory::Fact;
use super::pipe::{Pipe, Read, Step};
use super::reference::{Env, How, Model, NEVER, Ran, below};

impl Model<'_> {
    /// Things side by side, at most `limit` at once, the next as soon as one ends. Where one fails that
    /// `stops`, nothing new begins: neither one of them, nor a call of those under way.
    pub(crate) fn window(
        &self,
        count: usize,
        limit: usize,
        stops: bool,
        time: u64,
        cut: u64,
        run: &dyn Fn(usize, u64, u64) -> Ran,
    ) -> Result<Vec<Option<Ran>>, Box<Ran>> {
        let mut ended: Vec<Option<Ran>> = (0..count).map(|_| None).collect();
        let mut begun: Vec<u64> = vec![NEVER; count];
        let mut going: Vec<usize> = Vec::new();
        let (mut next, mut now, mut halt, mut dropped) = (0, time, NEVER, false);
        loop {
            while going.len() < limit && next < count && halt == NEVER && !dropped {
                begun[next] = now;
                ended[next] = Some(run(next, now, cut));
                going.push(next);
                next += 1;
            }
            let end = |index: &usize| ended[*index].as_ref().map_or(NEVER, |ran| ran.end);
            let Some(at) = (0..going.len()).min_by_key(|at| end(&going[*at])) else { break };
            let index = going.remove(at);
            now = end(&index);
            dropped |= ended[index].as_ref().is_some_and(|ran| matches!(ran.how, How::Dropped | How::Stopped));
            let fails = ended[index].as_ref().is_some_and(|ran| matches!(ran.how, How::Failed(_)));
            if stops && fails && halt == NEVER && !dropped {
                halt = now;
                for other in &going {
                    ended[*other] = Some(run(*other, begun[*other], cut.min(halt)));
                    self.check_instant(ended[*other].as_ref(), halt);
                }
            }
        }
        // What ends at the very instant of the failure may have come first, and made room.
        if ended.iter().flatten().filter(|ran| ran.end == halt && ran.how != How::Dropped).count() > 1 {
            self.open.set(true);
        }
        let whole = |ended: &[Option<Ran>], how: How| {
            let mut all = Ran::at(time, &Env::default());
            ended.iter().flatten().for_each(|ran| all.join(ran));
            // What was given up gives nothing.
            all.artifacts.clear();
            all.ends.clear();
            Err(Box::new(Ran { how, ..all }))
        };
        let any = |how: &How| ended.iter().flatten().any(|ran| ran.how == *how);
        if any(&How::Stopped) {
            return whole(&ended, How::Stopped);
        }
        if any(&How::Dropped) && halt == NEVER {
            return whole(&ended, How::Dropped);
        }
        if any(&How::Parked) && halt == NEVER {
            return whole(&ended, How::Parked);
        }
        Ok(ended)
    }

    /// A call that begins as everything stops: it may have been first, or not.
    fn check_instant(&self, ran: Option<&Ran>, instant: u64) {
        let same = |fact: &Fact| matches!(fact, Fact::Dropped { at } if *at == instant);
        if ran.is_some_and(|ran| ran.facts.iter().any(same)) {
            self.open.set(true);
        }
    }

    pub(crate) fn parallel(
        &self,
        path: &str,
        limit: Option<usize>,
        steps: &[Step],
        (env, time, cut): (&Env, u64, u64),
    ) -> Result<Ran, Box<Ran>> {
        let run = |index: usize, from: u64, cut: u64| {
            let step: &Step = &steps[index];
            self.step(&below(path, &step.id), step, env, from, cut)
        };
        let ended = self.window(steps.len(), limit.unwrap_or(steps.len()), true, time, cut, &run)?;
        let mut all = Ran::at(time, env);
        let mut stopped = None;
        for ran in ended.iter().flatten() {
            if ran.how == How::Dropped {
                // What was given up gives nothing.
                all.facts.extend(ran.facts.iter().cloned());
                all.end = all.end.max(ran.end);
                continue;
            }
            all.join(ran);
            if ran.tree != env.tree {
                all.tree = ran.tree;
            }
            if let How::Failed(class) = &ran.how {
                stopped = stopped.or(Some(class.clone()));
            }
        }
        for (step, ran) in steps.iter().zip(&ended) {
            if ran.is_none() {
                all.facts.push(Fact::ended(all.end, &below(path, &step.id), "skipped", "step".to_owned()));
                all.ends.push((step.id.clone(), "skipped"));
            }
        }
        all.how = stopped.map_or(How::Well, How::Failed);
        Ok(all)
    }

    pub(crate) fn rounds(
        &self,
        path: &str,
        (until, max, goes_on, steps): (Option<&String>, u32, bool, &[Step]),
        reads: &[Read],
        (env, time, cut): (&Env, u64, u64),
    ) -> Ran {
        let mut all = Ran::at(time, env);
        let mut last = Ran::at(time, env);
        for round in 0..max {
            let mut inside = Env { round: Some(round + 1), ..env.clone() };
            inside.see(&last);
            inside.recalled.extend(last.artifacts.iter().map(|(name, _)| name.clone()));
            inside.tree = all.tree;
            last = self.list(&format!("{path}[{round}]"), steps, &inside, all.end, cut);
            all.facts.extend(last.facts.iter().cloned());
            all.end = last.end;
            all.tree = last.tree;
            all.fail(last.failed.as_ref());
            all.how = last.how.clone();
            all.artifacts.clone_from(&last.artifacts);
            all.ends.clone_from(&last.ends);
            if all.how != How::Well {
                return all;
            }
            if let Some(name) = until {
                let listed = reads.iter().any(|read| read.name == *name);
                let around = env.artifacts.get(name).filter(|_| listed);
                let value = last.artifacts.iter().find(|(known, _)| known == name).map(|(_, value)| value).or(around);
                match value.and_then(|value| value["ok"].as_bool()) {
                    Some(true) => return all,
                    Some(false) => {}
                    None => return Ran { how: How::Failed("expression_error".to_owned()), ..all },
                }
            }
        }
        if until.is_some() && !goes_on {
            all.how = How::Failed("max_iterations_reached".to_owned());
        }
        all
    }

    /// A pipeline with what it does at its end; its value is what it gives.
    pub(crate) fn body(&self, path: &str, pipe: &Pipe, env: &Env, time: u64, cut: u64) -> Ran {
        let mut all = self.list(path, &pipe.steps, env, time, cut);
        if all.how == How::Parked {
            return all;
        }
        let mut after = env.clone();
        after.see(&all);
        after.closing = true;
        let end = self.list(path, &pipe.finally, &after, all.end, if cut == NEVER { cut } else { NEVER });
        after.see(&end);
        let (before, how) = (all.failed.clone(), all.how.clone());
        all.join(&end);
        all.tree = end.tree;
        all.how = match (how, end.how, &pipe.success) {
            (How::Stopped, _, _) => How::Stopped,
            (How::Dropped, _, _) => How::Dropped,
            (_, How::Parked, _) => How::Parked,
            (How::Failed(class), _, _) | (_, How::Failed(class), _) => How::Failed(class),
            (_, _, _) if end.failed.is_some() => How::Failed(all.failed.clone().unwrap_or_default()),
            (_, _, Some(id)) if after.ends.get(id) != Some(&"completed") => {
                How::Failed("success_condition_false".to_owned())
            }
            (_, _, None) if before.is_some() => How::Failed(before.unwrap_or_default()),
            _ => How::Well,
        };
        let mut outputs = Map::new();
        for (name, artifact) in &pipe.outputs {
            outputs.insert(name.clone(), after.artifacts.get(artifact).cloned().unwrap_or(Value::Null));
        }
        let undefined = pipe.outputs.iter().any(|(_, artifact)| !after.artifacts.contains_key(artifact));
        if all.how == How::Well && undefined {
            all.how = How::Failed("expression_error".to_owned());
        }
        all.value = Some(Value::Object(outputs));
        all
    }
}
