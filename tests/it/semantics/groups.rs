//! The groups of the reference model: parallel steps and items, loops, and called pipelines.

use serde_json::{Map, Value};

use super::memory::Fact;
use super::pipeline::{Read, Step, TestPipeline};
use super::reference::{Ending, Env, Evaluation, Model, NEVER, below};

impl Model<'_> {
    /// Runs things in parallel, at most `limit` at once, and the next one as soon as one ends. After the failure of one
    /// that `stops`, nothing new begins: neither one of them, nor a call of those that are running.
    pub(crate) fn window(
        &self,
        count: usize,
        limit: usize,
        stops: bool,
        time: u64,
        cut: u64,
        run: &dyn Fn(usize, u64, u64) -> Evaluation,
    ) -> Result<Vec<Option<Evaluation>>, Box<Evaluation>> {
        let mut ended: Vec<Option<Evaluation>> = (0..count).map(|_| None).collect();
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
            dropped |= ended[index].as_ref().is_some_and(|ran| matches!(ran.ending, Ending::Dropped | Ending::Stopped));
            let fails = ended[index].as_ref().is_some_and(|ran| matches!(ran.ending, Ending::Failed(_)));
            if stops && fails && halt == NEVER && !dropped {
                halt = now;
                for other in &going {
                    ended[*other] = Some(run(*other, begun[*other], cut.min(halt)));
                    self.check_instant(ended[*other].as_ref(), halt);
                }
            }
        }
        // One that ends at the very instant of the failure may have ended before it, and made room.
        if ended.iter().flatten().filter(|ran| ran.end == halt && ran.ending != Ending::Dropped).count() > 1 {
            self.open.set(true);
        }
        let whole = |ended: &[Option<Evaluation>], ending: Ending| {
            let mut all = Evaluation::at(time, &Env::default());
            ended.iter().flatten().for_each(|ran| all.join(ran));
            // A cancelled group has no artifacts.
            all.artifacts.clear();
            all.ends.clear();
            Err(Box::new(Evaluation { ending, ..all }))
        };
        let any = |ending: &Ending| ended.iter().flatten().any(|ran| ran.ending == *ending);
        if any(&Ending::Stopped) {
            return whole(&ended, Ending::Stopped);
        }
        if any(&Ending::Dropped) && halt == NEVER {
            return whole(&ended, Ending::Dropped);
        }
        if any(&Ending::Parked) && halt == NEVER {
            return whole(&ended, Ending::Parked);
        }
        Ok(ended)
    }

    /// A call that begins at the very instant of the stop may have begun before it or not.
    fn check_instant(&self, ran: Option<&Evaluation>, instant: u64) {
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
    ) -> Result<Evaluation, Box<Evaluation>> {
        let run = |index: usize, from: u64, cut: u64| {
            let step: &Step = &steps[index];
            self.step(&below(path, &step.id), step, env, from, cut)
        };
        let ended = self.window(steps.len(), limit.unwrap_or(steps.len()), true, time, cut, &run)?;
        let mut all = Evaluation::at(time, env);
        let mut stopped = None;
        for ran in ended.iter().flatten() {
            if ran.ending == Ending::Dropped {
                // A cancelled branch has no artifacts.
                all.facts.extend(ran.facts.iter().cloned());
                all.end = all.end.max(ran.end);
                continue;
            }
            all.join(ran);
            if ran.tree != env.tree {
                all.tree = ran.tree;
            }
            if let Ending::Failed(class) = &ran.ending {
                stopped = stopped.or(Some(class.clone()));
            }
        }
        for (step, ran) in steps.iter().zip(&ended) {
            if ran.is_none() {
                all.facts.push(Fact::ended(all.end, &below(path, &step.id), "skipped", "step".to_owned()));
                all.ends.push((step.id.clone(), "skipped"));
            }
        }
        all.ending = stopped.map_or(Ending::Well, Ending::Failed);
        Ok(all)
    }

    pub(crate) fn rounds(
        &self,
        path: &str,
        (until, max, goes_on, steps): (Option<&String>, u32, bool, &[Step]),
        reads: &[Read],
        (env, time, cut): (&Env, u64, u64),
    ) -> Evaluation {
        let mut all = Evaluation::at(time, env);
        let mut last = Evaluation::at(time, env);
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
            all.ending = last.ending.clone();
            all.artifacts.clone_from(&last.artifacts);
            all.ends.clone_from(&last.ends);
            if all.ending != Ending::Well {
                return all;
            }
            if let Some(name) = until {
                let listed = reads.iter().any(|read| read.name == *name);
                let around = env.artifacts.get(name).filter(|_| listed);
                let value = last.artifacts.iter().find(|(known, _)| known == name).map(|(_, value)| value).or(around);
                match value.and_then(|value| value["ok"].as_bool()) {
                    Some(true) => return all,
                    Some(false) => {}
                    None => return Evaluation { ending: Ending::Failed("expression_error".to_owned()), ..all },
                }
            }
        }
        if until.is_some() && !goes_on {
            all.ending = Ending::Failed("max_iterations_reached".to_owned());
        }
        all
    }

    /// A pipeline with its `finally`; its value is that of its outputs.
    pub(crate) fn body(&self, path: &str, pipeline: &TestPipeline, env: &Env, time: u64, cut: u64) -> Evaluation {
        let mut all = self.list(path, &pipeline.steps, env, time, cut);
        if all.ending == Ending::Parked {
            return all;
        }
        let mut after = env.clone();
        after.see(&all);
        after.closing = true;
        let end = self.list(path, &pipeline.finally, &after, all.end, if cut == NEVER { cut } else { NEVER });
        after.see(&end);
        let (before, ending) = (all.failed.clone(), all.ending.clone());
        all.join(&end);
        all.tree = end.tree;
        all.ending = match (ending, end.ending, &pipeline.success) {
            (Ending::Stopped, _, _) => Ending::Stopped,
            (Ending::Dropped, _, _) => Ending::Dropped,
            (_, Ending::Parked, _) => Ending::Parked,
            (Ending::Failed(class), _, _) | (_, Ending::Failed(class), _) => Ending::Failed(class),
            (_, _, _) if end.failed.is_some() => Ending::Failed(all.failed.clone().unwrap_or_default()),
            (_, _, Some(id)) if after.ends.get(id) != Some(&"completed") => {
                Ending::Failed("success_condition_false".to_owned())
            }
            (_, _, None) if before.is_some() => Ending::Failed(before.unwrap_or_default()),
            _ => Ending::Well,
        };
        let mut outputs = Map::new();
        for (name, artifact) in &pipeline.outputs {
            outputs.insert(name.clone(), after.artifacts.get(artifact).cloned().unwrap_or(Value::Null));
        }
        let undefined = pipeline.outputs.iter().any(|(_, artifact)| !after.artifacts.contains_key(artifact));
        if all.ending == Ending::Well && undefined {
            all.ending = Ending::Failed("expression_error".to_owned());
        }
        all.value = Some(Value::Object(outputs));
        all
    }
}
