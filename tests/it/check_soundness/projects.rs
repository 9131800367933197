//! Random projects: steps of every kind, then one step with a random text or expression over their artifacts.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::generate::{Rng, schema};
use super::texts::{Place, Writer};

/// The schemas that all artifacts of a project have.
const SCHEMA_NAMES: [&str; 2] = ["plan", "code"];

/// The files of a project, by path.
pub(crate) struct GeneratedProject {
    files: BTreeMap<String, String>,
}

impl GeneratedProject {
    /// Writes the files into a folder.
    pub(crate) fn write(&self, folder: &Path) {
        for (name, text) in &self.files {
            let path = folder.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
    }

    /// The files as one text, for messages.
    pub(crate) fn describe(&self) -> String {
        self.files.iter().map(|(name, text)| format!("-- {name}\n{text}\n")).collect()
    }
}

/// Two random schemas, which several projects share.
pub(crate) fn schemas(rng: &mut Rng) -> [Value; 2] {
    [schema(rng, 0), schema(rng, 0)]
}

/// A random project over these schemas.
pub(crate) fn project(rng: &mut Rng, schemas: &[Value; 2]) -> GeneratedProject {
    let mut writer =
        ProjectWriter { rng, schemas, files: BTreeMap::new(), artifacts: Vec::new(), steps: Vec::new(), count: 0 };
    writer.add_first_steps();
    for _ in 0..writer.rng.below(3) {
        writer.add_group();
    }
    writer.add_last_step();
    writer.finish()
}

/// An artifact in scope.
#[derive(Clone)]
struct Artifact {
    name: String,
    schema: Value,
    /// Whether it may be missing although the run continues.
    optional: bool,
}

struct ProjectWriter<'a> {
    rng: &'a mut Rng,
    schemas: &'a [Value; 2],
    files: BTreeMap<String, String>,
    artifacts: Vec<Artifact>,
    steps: Vec<Value>,
    /// How many names the project has.
    count: usize,
}

impl ProjectWriter<'_> {
    fn new_name(&mut self, prefix: &str) -> String {
        self.count += 1;
        format!("{prefix}{}", self.count)
    }

    fn add_artifact(&mut self, name: &str, schema: Value, optional: bool) {
        self.artifacts.push(Artifact { name: name.to_owned(), schema, optional });
    }

    /// The `inputs` of a step that reads every artifact.
    fn inputs(&self) -> Vec<String> {
        self.artifacts
            .iter()
            .map(|artifact| format!("{}{}", artifact.name, if artifact.optional { "?" } else { "" }))
            .collect()
    }

    /// The places that a step's texts can use.
    fn places(&mut self, locals: &[Place]) -> Vec<Place> {
        let mut places = vec![Place::new("task", &json!({ "type": "string" }))];
        places.extend(self.artifacts.iter().map(|artifact| Place::new(&artifact.name, &artifact.schema)));
        places.extend(locals.iter().cloned());
        if self.rng.chance(25) {
            let ids = self.steps.iter().map(|step| step["id"].as_str().unwrap().to_owned());
            let properties: Map<String, Value> = ids.map(|id| (id, status_schema())).collect();
            places.push(Place::new("steps", &json!({ "type": "object", "properties": properties })));
        }
        places
    }

    fn condition(&mut self, locals: &[Place]) -> String {
        let places = self.places(locals);
        Writer::new(self.rng, places).condition(1)
    }

    fn value(&mut self, locals: &[Place]) -> String {
        let places = self.places(locals);
        Writer::new(self.rng, places).value(1)
    }

    fn template(&mut self, locals: &[Place]) -> String {
        let places = self.places(locals);
        Writer::new(self.rng, places).template(1)
    }

    /// An agent step with its output, the schema of the output, and occasionally a random message.
    fn agent_step(&mut self, output: &str, locals: &[Place]) -> (Value, Value) {
        let which = self.rng.below(2);
        (self.agent_step_with(which, output, locals), self.schemas[which].clone())
    }

    /// An agent step whose output has the schema of this index.
    fn agent_step_with(&mut self, which: usize, output: &str, locals: &[Place]) -> Value {
        let mut step = json!({
            "id": self.new_name("s"), "agent": "a", "prompt": "go.md", "schema": SCHEMA_NAMES[which], "output": output,
        });
        if self.rng.chance(15) {
            step["inputs"] = json!(self.inputs());
            step["message"] = json!(format!("Go on. {}", self.template(locals)));
        }
        step
    }

    /// The steps that produce the artifacts of the two schemas. The first may be skipped.
    fn add_first_steps(&mut self) {
        let optional = self.rng.chance(20);
        for (index, name) in SCHEMA_NAMES.iter().enumerate() {
            let mut step = json!({ "id": format!("make_{name}"), "agent": "a", "prompt": "go.md", "output": name });
            if optional && index == 0 {
                step["when"] = json!("task == 'x'");
            }
            self.steps.push(step);
            self.add_artifact(name, self.schemas[index].clone(), optional && index == 0);
        }
    }

    /// A step that may fail, a step that may be skipped, a group, a loop, a list, or a call.
    fn add_group(&mut self) {
        match self.rng.below(6) {
            0 => self.add_failing_step(),
            1 => self.add_conditional_group(),
            2 => self.add_parallel(),
            3 => self.add_loop(),
            4 => self.add_for_each(),
            _ => self.add_call(),
        }
    }

    fn add_failing_step(&mut self) {
        let output = self.new_name("x");
        let (mut step, schema) = self.agent_step(&output, &[]);
        step["on_error"] = json!("continue");
        self.steps.push(step);
        self.add_artifact(&output, schema, true);
    }

    fn add_conditional_group(&mut self) {
        let (output, when) = (self.new_name("x"), self.condition(&[]));
        let (step, schema) = self.agent_step(&output, &[]);
        let group = json!({ "id": self.new_name("s"), "when": when, "inputs": self.inputs(), "steps": [step] });
        self.steps.push(group);
        self.add_artifact(&output, schema, true);
    }

    fn add_parallel(&mut self) {
        let (first, second) = (self.new_name("x"), self.new_name("x"));
        let (first_step, first_schema) = self.agent_step(&first, &[]);
        let (mut second_step, second_schema) = self.agent_step(&second, &[]);
        second_step["on_error"] = json!("continue");
        let group = self.new_name("s");
        self.steps.push(json!({ "id": group, "parallel": [first_step, second_step] }));
        self.add_artifact(&first, first_schema, false);
        self.add_artifact(&second, second_schema, true);
    }

    /// A loop, with a loop inside in half of the cases.
    fn add_loop(&mut self) {
        let round = Place::new(
            "loop",
            &json!({
                "type": "object", "required": ["index", "first", "last", "max"], "properties": {
                    "index": { "type": "integer" }, "first": { "type": "boolean" }, "last": { "type": "boolean" },
                    "max": { "type": "integer" },
                },
            }),
        );
        let (output, which, inner_which) = (self.new_name("x"), self.rng.below(2), self.rng.below(2));
        let (schema, inner_schema) = (self.schemas[which].clone(), self.schemas[inner_which].clone());
        let previous = Place::new(&format!("loop.previous.{output}"), &schema);
        let mut steps = vec![self.agent_step_with(which, &output, &[round.clone(), previous])];
        let mut produced = vec![(output.clone(), schema.clone())];
        if self.rng.chance(50) {
            let inner_output = self.new_name("x");
            let previous = Place::new(&format!("loop.previous.{inner_output}"), &inner_schema);
            let outer = Place::new(&format!("loop.parent.previous.{output}"), &schema);
            let inner = self.agent_step_with(inner_which, &inner_output, &[round, previous, outer]);
            steps.push(json!({ "id": self.new_name("s"), "repeat": { "max": 2, "steps": [inner] } }));
            produced.push((inner_output, inner_schema));
        }
        let mut repeat = json!({ "max": 2, "on_max_iterations": "continue", "steps": steps });
        if self.rng.chance(60) {
            let places: Vec<Place> = produced.iter().map(|(name, schema)| Place::new(name, schema)).collect();
            repeat["until"] = json!(self.condition(&places));
        }
        let group = json!({ "id": self.new_name("s"), "inputs": self.inputs(), "repeat": repeat });
        self.steps.push(group);
        for (name, schema) in produced {
            self.add_artifact(&name, schema, false);
        }
    }

    /// A list over a group of steps, of which one may fail and one may run over a list of each item.
    fn add_for_each(&mut self) {
        let (list, item) = self.find_list();
        let locals = [Place::new("item", &item), Place::new("index", &json!({ "type": "integer" }))];
        let (draft, output) = (self.new_name("x"), self.new_name("x"));
        let (step, schema) = self.agent_step(&draft, &locals);
        let mut steps = vec![step];
        let mut properties = Map::from_iter([(draft.clone(), schema)]);
        if self.rng.chance(50) {
            let optional = self.new_name("x");
            let (mut failing, failing_schema) = self.agent_step(&optional, &locals);
            failing["on_error"] = json!("continue");
            steps.push(failing);
            properties.insert(optional, failing_schema);
        }
        if let Some(inner_list) = required_list(&item) {
            let inner = Place::new("item", &item["properties"][&inner_list]["items"]);
            let text = self.template(&[inner]);
            let (id, inputs) = (self.new_name("s"), self.inputs());
            let over = format!("item.{inner_list}");
            steps
                .push(json!({ "id": id, "for_each": over, "inputs": inputs, "run": ["echo", text], "access": "none" }));
        }
        let value = json!({ "type": "object", "required": [draft], "properties": properties });
        let records_status = self.rng.chance(50);
        let (id, inputs) = (self.new_name("s"), self.inputs());
        let mut group = json!({ "id": id, "for_each": list, "inputs": inputs, "output": output, "steps": steps });
        if records_status {
            group["on_error"] = json!("continue");
        }
        self.steps.push(group);
        let entry = if records_status { entry_schema(&value) } else { value };
        self.add_artifact(&output, json!({ "type": "array", "items": entry }), false);
    }

    /// An expression for a list, and the schema of its items.
    fn find_list(&self) -> (String, Value) {
        let mut artifacts = self.artifacts.iter().filter(|artifact| !artifact.optional);
        match artifacts.find_map(|artifact| Some((artifact, required_list(&artifact.schema)?))) {
            Some((artifact, property)) => {
                let items = artifact.schema["properties"][&property]["items"].clone();
                (format!("{}.{property}", artifact.name), items)
            }
            None => ("[1, 2, 3]".to_owned(), json!({ "type": "integer" })),
        }
    }

    /// A call of another pipeline, which may fail.
    fn add_call(&mut self) {
        let (answer, side) = (self.new_name("x"), self.new_name("x"));
        let [plan, code] = self.schemas.clone();
        let topic = [Place::new("topic", &code)];
        let when = Writer::new(self.rng, topic.to_vec()).condition(1);
        let side_value = if self.rng.chance(30) {
            let mut places = topic.to_vec();
            places.push(Place::new("thought", &plan));
            Writer::new(self.rng, places).value(1)
        } else {
            "aside if aside is defined else topic".to_owned()
        };
        let child = json!({
            "name": "child", "inputs": { "topic": code }, "agents": { "b": { "model": "auto" } },
            "steps": [
                { "id": "think", "agent": "b", "prompt": "go.md", "output": "thought", "schema": "plan" },
                {
                    "id": "wander", "when": when, "agent": "b", "prompt": "go.md", "output": "aside", "schema": "plan",
                    "on_error": "continue",
                },
            ],
            "outputs": { answer.clone(): "thought", side.clone(): side_value },
            "success": "thought is defined",
        });
        let file = format!("child_{answer}.yaml");
        self.files.insert(format!("pipelines/{file}"), format!("{child:#}\n"));
        let optional = self.rng.chance(40);
        let mut call =
            json!({ "id": self.new_name("s"), "pipeline": file, "inputs": ["code"], "with": { "topic": "code" } });
        if optional {
            call["on_error"] = json!("continue");
        }
        self.steps.push(call);
        self.add_artifact(&answer, plan, optional);
        self.add_artifact(&side, Value::Null, optional);
    }

    /// A step with a random text or expression: a prompt, a message, a condition, a list, a file, standard input, the
    /// arguments of a tool, or a question.
    fn add_last_step(&mut self) {
        let inputs = self.inputs();
        let mut prompt = "Go on.\n".to_owned();
        let mut agent = json!({
            "id": "last", "agent": "a", "prompt": "text.md", "inputs": inputs, "schema": "text", "output": "end",
        });
        let step = match self.rng.below(9) {
            0 | 1 => {
                prompt = format!("Go on. {}", self.template(&[]));
                agent
            }
            2 => {
                agent["message"] = json!(format!("Go on. {}", self.template(&[])));
                agent
            }
            3 => json!({ "id": "last", "run": ["true"], "inputs": inputs, "when": self.condition(&[]) }),
            4 => {
                let (list, item) = (self.value(&[]), Place::new("item", &Value::Null));
                let text = self.template(&[item]);
                json!({ "id": "last", "run": ["echo", text], "inputs": inputs, "for_each": list, "access": "none" })
            }
            5 => {
                let files = format!("[{{'path': 'a.txt', 'content': {}}}]", self.value(&[]));
                json!({ "id": "last", "write": files, "inputs": inputs })
            }
            6 => json!({ "id": "last", "run": ["cat"], "inputs": inputs, "stdin": self.value(&[]) }),
            7 => {
                let glob = format!("{{{{ {} }}}}", self.value(&[]));
                let args = json!({ "regex": format!("a{}", self.template(&[])), "glob": glob });
                json!({ "id": "last", "call": "search", "args": args, "inputs": inputs, "output": "end", "schema": "text" })
            }
            _ => {
                let question = format!("Well? {}", self.template(&[]));
                json!({ "id": "last", "approve": question, "inputs": inputs, "on_reject": "continue", "output": "end" })
            }
        };
        self.files.insert("prompts/text.md".to_owned(), prompt);
        self.steps.push(step);
    }

    fn finish(mut self) -> GeneratedProject {
        let mut main = json!({
            "name": "main", "inputs": { "task": { "type": "string" } }, "agents": { "a": { "model": "auto" } },
            "steps": self.steps,
        });
        if self.rng.chance(30) {
            main["outputs"] = json!({ "result": self.value(&[]) });
            main["success"] = json!("steps.make_code.status == 'completed'");
        }
        self.files.insert("pipelines/main.yaml".to_owned(), format!("{main:#}\n"));
        self.files.insert("prompts/go.md".to_owned(), "Go on.\n".to_owned());
        for (name, schema) in SCHEMA_NAMES.iter().zip(self.schemas) {
            self.files.insert(format!("schemas/{name}.schema.json"), schema.to_string());
        }
        GeneratedProject { files: self.files }
    }
}

/// The schema of how a step ended.
fn status_schema() -> Value {
    json!({
        "type": "object", "required": ["status"], "properties": {
            "status": { "enum": ["completed", "failed", "skipped", "cancelled"] }, "error": { "type": "string" },
        },
    })
}

/// The schema of an entry of a list with `on_error: continue`.
fn entry_schema(value: &Value) -> Value {
    json!({
        "type": "object", "required": ["index", "status"], "properties": {
            "index": { "type": "integer" }, "status": { "enum": ["completed", "failed"] }, "value": value,
            "error": { "type": "object", "required": ["message"], "properties": { "message": { "type": "string" } } },
        },
    })
}

/// The name of a required property that is a list.
fn required_list(schema: &Value) -> Option<String> {
    let required = schema["required"].as_array()?;
    let lists = schema["properties"].as_object()?.iter().filter(|(_, inner)| inner["type"] == "array");
    lists.map(|(name, _)| name.clone()).find(|name| required.contains(&json!(name)))
}
