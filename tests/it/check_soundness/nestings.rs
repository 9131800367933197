//! Random nestings of groups: the check shows a step exactly the names that the interpreter shows it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use orch::check::{COMPLETION_MARKER, ProbedText, visible_artifacts, visible_names};
use orch::config::{Project, load, steps_with_pointers};
use orch::engine::{PlannedModel, StepDefaults, interpret};
use orch::model::ModelRef;
use orch::model::name_scope::TextScope;
use orch::runner::plan_project;
use serde_json::{Map, Value, json};

use super::generate::Rng;
use super::memory_durable::{MemoryDurable, RunBehavior};

/// Generates commands in nested groups, loops and lists.
struct NestingGenerator<'a> {
    rng: &'a mut Rng,
    step_count: usize,
}

impl NestingGenerator<'_> {
    fn steps(&mut self, depth: usize) -> Vec<Value> {
        let count = 1 + self.rng.below(3);
        (0..count).map(|_| self.step(depth)).collect()
    }

    fn step(&mut self, depth: usize) -> Value {
        self.step_count += 1;
        let number = self.step_count;
        let mut step = json!({ "id": format!("s{number}") });
        let kind = if depth > 2 { 0 } else { self.rng.below(7) };
        match kind {
            0..3 => {
                step["run"] = json!(["echo", ""]);
                step["access"] = json!("none");
                step["schema"] = json!("text");
            }
            3 => step["steps"] = json!(self.steps(depth + 1)),
            4 => step["parallel"] = json!(self.steps(depth + 1)),
            _ => step["repeat"] = json!({ "max": 1 + self.rng.below(3).min(1), "steps": self.steps(depth + 1) }),
        }
        let is_group = kind > 2;
        if self.rng.chance(25) {
            step["for_each"] = json!("[1, 2]");
        }
        if !is_group || self.rng.chance(15) {
            step["output"] = json!(format!("a{number}"));
        }
        if self.rng.chance(25) {
            step["when"] = json!(self.rng.pick(&["1 == 1", "1 == 2"]));
        }
        step
    }
}

/// Calls a function for each step, the outer steps first.
fn for_each_step(steps: &mut [Value], visit: &mut dyn FnMut(&mut Value)) {
    for step in steps {
        visit(step);
        for pointer in ["/steps", "/parallel", "/repeat/steps"] {
            if let Some(Value::Array(children)) = step.pointer_mut(pointer) {
                for_each_step(children, visit);
            }
        }
    }
}

/// A template that prints each of these names that is defined.
fn probe_template(artifacts: &[String], ids: &[String]) -> String {
    let probe = |path: &str| format!("{{% if {path} is defined %}}{path} {{% endif %}}");
    let probe_all = |prefix: &str, names: &[String]| -> String {
        names.iter().map(|name| probe(&format!("{prefix}{name}"))).collect()
    };
    let round = |path: &str| {
        let (artifacts, steps) = (probe_all(&format!("{path}.previous."), artifacts), format!("{path}.previous.steps"));
        format!("{path} {artifacts}{}", probe(&steps))
    };
    let parent = format!("{{% if loop.parent is defined %}}{}{{% endif %}}", round("loop.parent"));
    let loops = format!("{{% if loop is defined %}}{}{parent}{{% endif %}}", round("loop"));
    [probe("item"), probe("index"), probe_all("", artifacts), probe_all("steps.", ids), loops].concat()
}

/// The generated pipeline, whose commands print the names that they see.
fn generated_pipeline(rng: &mut Rng) -> Value {
    let mut generator = NestingGenerator { rng, step_count: 0 };
    let (mut steps, mut finally) = (generator.steps(0), generator.steps(3));
    let (mut ids, mut artifacts) = (Vec::new(), Vec::new());
    let mut collect = |step: &mut Value| {
        ids.push(step["id"].as_str().unwrap().to_owned());
        artifacts.extend(step["output"].as_str().map(str::to_owned));
    };
    for_each_step(&mut steps, &mut collect);
    for_each_step(&mut finally, &mut collect);
    let text = probe_template(&artifacts, &ids);
    let inputs: Vec<String> = artifacts.iter().map(|name| format!("{name}?")).collect();
    let mut fill = |step: &mut Value| {
        if step.get("run").is_some() {
            step["run"] = json!(["echo", text]);
            step["inputs"] = json!(inputs);
        }
    };
    for_each_step(&mut steps, &mut fill);
    for_each_step(&mut finally, &mut fill);
    json!({ "name": "nested", "steps": steps, "finally": finally })
}

/// The names that the check sees in a text of the step, and whether each may be missing.
fn checked_names(project: &Project, pointer: &str) -> BTreeMap<String, bool> {
    let text = format!("{{{{ {COMPLETION_MARKER} }}}}");
    let names_of = |base: Option<&str>| {
        visible_names(project, ProbedText::Step { pointer, text_scope: TextScope::Step }, &text, base)
    };
    let mut names: BTreeMap<String, bool> = BTreeMap::new();
    for artifact in visible_artifacts(project, pointer) {
        names.insert(artifact.name, artifact.may_be_absent);
    }
    for variable in names_of(None) {
        if ["item", "index", "loop"].contains(&variable.name.as_str()) {
            names.insert(variable.name, variable.may_be_absent);
        }
    }
    if names_of(Some("loop")).iter().any(|member| member.name == "parent") {
        names.insert("loop.parent".to_owned(), false);
    }
    for base in ["steps", "loop.previous", "loop.parent.previous"] {
        for member in names_of(Some(base)) {
            names.insert(format!("{base}.{}", member.name), member.may_be_absent);
        }
    }
    names
}

/// The id of each step that ran, and the names that it printed.
fn printed_names(project: &Project, seed: u64) -> Vec<(String, BTreeSet<String>)> {
    let planned = |name: &str| Ok(PlannedModel::new(ModelRef::new("test", name), "test"));
    let plan = plan_project(project, Map::new(), &StepDefaults::default(), &planned).unwrap();
    let memory = MemoryDurable::new(RunBehavior::without_failures(seed));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(interpret(&memory, &plan)).unwrap();
    let commands = memory.commands().into_iter();
    let printed = commands.map(|(step, argv)| {
        let id = step.last_segment().split('[').next().unwrap().to_owned();
        (id, argv[1].split_whitespace().map(str::to_owned).collect())
    });
    printed.collect()
}

fn load_pipeline(folder: &Path, pipeline: &Value) -> Project {
    let path = folder.join("pipelines/main.yaml");
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, pipeline.to_string()).unwrap();
    load(&path).unwrap_or_else(|found| panic!("{found:?}\n{pipeline}"))
}

#[test]
fn the_check_shows_a_step_the_names_that_the_interpreter_shows_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut seen: BTreeSet<String> = BTreeSet::new();
    for seed in 1..80 {
        let pipeline = generated_pipeline(&mut Rng::new(seed));
        let project = load_pipeline(folder.path(), &pipeline);
        let steps = steps_with_pointers(&project.pipeline).into_iter();
        let pointers: BTreeMap<&str, String> = steps.map(|(pointer, step)| (step.id.as_str(), pointer)).collect();
        let mut checked: BTreeMap<String, BTreeMap<String, bool>> = BTreeMap::new();
        for (id, printed) in printed_names(&project, seed) {
            let names = checked.entry(id.clone()).or_insert_with(|| checked_names(&project, &pointers[id.as_str()]));
            for name in &printed {
                assert!(names.contains_key(name), "seed {seed}: only the interpreter shows {id} `{name}`\n{pipeline}");
            }
            for (name, _) in names.iter().filter(|(_, may_be_absent)| !**may_be_absent) {
                assert!(printed.contains(name), "seed {seed}: only the check shows {id} `{name}`\n{pipeline}");
            }
            seen.extend(printed.into_iter().map(|name| name.trim_end_matches(char::is_numeric).to_owned()));
        }
    }
    for kind in ["item", "a", "steps.s", "loop.parent", "loop.previous.a", "loop.parent.previous.a"] {
        assert!(seen.contains(kind), "no case has `{kind}`: {seen:?}");
    }
}
