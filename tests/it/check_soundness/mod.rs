//! Soundness of the check: a random project without findings does not fail when it runs with random valid replies.
//!
//! Of every project without any finding, a run may not end with an undefined variable, a wrong type in an expression,
//! or a missing artifact. `ORCH_TEST_CASES` sets the number of projects.

mod generate;
mod memory_durable;

use std::collections::BTreeMap;
use std::path::Path;

use orch::check::check;
use orch::config::{Project, load};
use orch::engine::{PlannedModel, StepDefaults, interpret};
use orch::model::{FailureClass, ModelRef};
use orch::schema::Schema;
use orch::session::plan_project;
use serde_json::{Map, Value, json};

use generate::{Place, Rng, Writer, fitting_value, schema};
use memory_durable::MemoryDurable;

/// How many texts the test tries with the same artifacts.
const TEXTS: u64 = 10;

/// A project with two artifacts with schemas, and one text that uses them.
struct GeneratedProject {
    files: BTreeMap<String, String>,
}

/// The smallest project with these artifacts.
fn base_project(rng: &mut Rng) -> (GeneratedProject, Vec<Place>) {
    let mut files = BTreeMap::from([("prompts/go.md".to_owned(), "Go on.\n".to_owned())]);
    let mut places = vec![Place::new("task", &json!({ "type": "string" }))];
    for name in ["plan", "code"] {
        let own = schema(rng, 0);
        files.insert(format!("schemas/{name}.schema.json"), own.to_string());
        places.push(Place::new(name, &own));
    }
    (GeneratedProject { files }, places)
}

impl GeneratedProject {
    /// Puts a random text into the project: into a prompt, a message, a condition, a list, or a command.
    fn fill(&mut self, rng: &mut Rng, places: &[Place]) {
        let optional = if rng.chance(20) { "?" } else { "" };
        let reads = format!("inputs: [plan{optional}, code]");
        let mut writer = Writer::new(rng, places.to_vec());
        let mut prompt = "Go on.\n".to_owned();
        let last = match writer.rng.below(7) {
            0 | 1 => {
                prompt = format!("Go on. {}", writer.template(0));
                format!("{{ id: last, agent: a, prompt: text.md, {reads}, schema: text, output: end }}")
            }
            2 => {
                let text = json!(format!("Go on. {}", writer.template(0)));
                format!(
                    "{{ id: last, agent: a, prompt: text.md, {reads}, schema: text, output: end, message: {text} }}"
                )
            }
            3 => format!("{{ id: last, run: [\"true\"], {reads}, when: {} }}", json!(writer.condition(0))),
            4 => {
                let list = json!(writer.value(1));
                writer.places.push(Place::new("item", &Value::Null));
                let text = json!(writer.template(1));
                format!("{{ id: last, run: [echo, {text}], {reads}, for_each: {list} }}")
            }
            5 => {
                writer.places.push(Place::new(
                    "said",
                    &json!({ "type": "object", "properties": { "stdout": { "type": "string" } } }),
                ));
                let (until, text) = (json!(writer.condition(0)), json!(format!("{{{{ {} }}}}", writer.value(0))));
                format!(
                    "{{ id: last, {reads}, repeat: {{ max: 2, on_max_iterations: continue, until: {until}, steps: [{{ id: say, run: [echo, {text}], inputs: [plan, code, 'said?'], output: said }}] }} }}"
                )
            }
            _ => format!(
                "{{ id: last, approve: {}, {reads}, on_reject: continue, output: end }}",
                json!(format!("Well? {}", writer.template(0)))
            ),
        };
        let first = "  - { id: first, agent: a, prompt: go.md, output: plan }\n  - { id: second, agent: a, prompt: go.md, output: code }\n";
        let first = if optional.is_empty() {
            first.to_owned()
        } else {
            first.replace("output: plan", "output: plan, when: \"task == 'x'\"")
        };
        self.files.insert("prompts/text.md".to_owned(), prompt);
        let text = format!(
            "name: main\ninputs: {{ task: {{ type: string }} }}\nagents: {{ a: {{ model: auto }} }}\nsteps:\n{first}  - {last}\n"
        );
        self.files.insert("pipelines/main.yaml".to_owned(), text);
    }
}

impl GeneratedProject {
    fn put(&self, folder: &Path) {
        for (name, text) in &self.files {
            let path = folder.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
    }

    fn shown(&self) -> String {
        self.files.iter().map(|(name, text)| format!("-- {name}\n{text}\n")).collect()
    }
}

/// Runs a project with random replies; returns a failure that a check could have predicted.
fn predictable_failure(project: &Project, seed: u64) -> Option<String> {
    let inputs = Map::from_iter([("task".to_owned(), json!("do it"))]);
    let planned = |name: &str| Ok(PlannedModel::new(ModelRef::new("test", name), "test"));
    let plan = plan_project(project, inputs, &StepDefaults::default(), &planned).unwrap();
    let memory = MemoryDurable::new(seed);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(interpret(&memory, &plan)).unwrap();
    let (failed, replies) = memory.into_results();
    let is_predictable =
        |class: FailureClass| matches!(class, FailureClass::TemplateError | FailureClass::ExpressionError);
    let (step, failure) = failed.into_iter().find(|(_, failure)| is_predictable(failure.class))?;
    let replies: Vec<String> = replies.iter().map(|(step, value)| format!("{step}: {value}")).collect();
    Some(format!("step {step}: {}\nreplies:\n{}", failure.message, replies.join("\n")))
}

#[test]
fn random_values_fit_their_schemas() {
    let mut rng = Rng::new(1);
    for _ in 0..500 {
        let schema = schema(&mut rng, 0);
        let compiled = Schema::compile("a", schema.clone()).unwrap();
        let value = fitting_value(&schema, &mut rng);
        assert!(compiled.is_valid(&value), "{schema} {value}");
    }
}

#[test]
fn a_project_without_findings_does_not_fail_predictably() {
    let cases: u64 = std::env::var("ORCH_TEST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(60);
    let first: u64 = std::env::var("ORCH_TEST_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let folder = tempfile::tempdir().unwrap();
    let (mut clean, mut wrong) = (0, Vec::new());
    for seed in first..first + cases {
        let rng = &mut Rng::new(seed);
        let (mut made, places) = base_project(rng);
        for _ in 0..TEXTS {
            made.fill(rng, &places);
            made.put(folder.path());
            let Ok(project) = load(&folder.path().join("pipelines/main.yaml")) else { continue };
            // Findings about unused definitions, for example, are irrelevant here.
            if check(&project).iter().any(|finding| finding.code.as_str() >= "ORCH04") {
                continue;
            }
            clean += 1;
            if let Some(why) = (0..8).find_map(|run| predictable_failure(&project, seed * 100 + run)) {
                wrong.push(format!("seed {seed}: {why}\n{}", made.shown()));
            }
        }
    }
    let few = wrong.iter().take(5).cloned().collect::<Vec<_>>().join("\n\n");
    assert!(wrong.is_empty(), "{} of {clean} clean projects fail when they run:\n{few}", wrong.len());
    assert!(clean * 2 > cases, "only {clean} of {cases} times {TEXTS} projects are clean: the test tells little");
}
