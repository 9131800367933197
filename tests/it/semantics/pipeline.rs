//! Generated pipelines, which can be written as pipeline files.

use std::path::Path;

use serde_json::{Map, Value, json};

/// A generated pipeline.
#[derive(Clone, Debug, Default)]
pub(crate) struct TestPipeline {
    pub(crate) steps: Vec<Step>,
    pub(crate) finally: Vec<Step>,
    /// The step in `success: steps.ID.status == "completed"`.
    pub(crate) success: Option<String>,
    /// The names in `outputs`, each with the artifact that it returns.
    pub(crate) outputs: Vec<(String, String)>,
}

/// A step of a generated pipeline.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) id: String,
    pub(crate) kind: Kind,
    pub(crate) when: Option<When>,
    pub(crate) for_each: Option<ForEachSpec>,
    pub(crate) inputs: Vec<StepInput>,
    pub(crate) output: Option<String>,
    pub(crate) on_error: Option<OnError>,
    /// A number in the text of the step. An edit increases it to change the request.
    pub(crate) revision: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnError {
    Stop,
    Continue,
}

/// The kind of a step. `continues` means `on_reject: continue` or `on_max_iterations: continue`.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Agent { max_tries: Option<u32>, fallback: bool },
    Run { max_tries: Option<u32>, access: Access },
    Write { escapes_workspace: bool },
    Approve { continues: bool },
    Parallel { limit: Option<usize>, steps: Vec<Step> },
    Repeat { until: Option<String>, max: u32, continues: bool, steps: Vec<Step> },
    Steps(Vec<Step>),
    Call(Box<TestPipeline>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    None,
    Read,
    Write,
}

/// The expression in `when`.
#[derive(Clone, Debug)]
pub(crate) enum When {
    /// `NAME.ok`
    Ok(String),
    /// `steps.ID.status == "completed"`
    Completed(String),
    /// `NAME.v`, which is a number.
    NotABoolean(String),
}

/// The expression in `for_each`, and `max_parallel`.
#[derive(Clone, Debug)]
pub(crate) struct ForEachSpec {
    pub(crate) items: ItemSource,
    pub(crate) limit: usize,
}

#[derive(Clone, Debug)]
pub(crate) enum ItemSource {
    /// The numbers from 1 to this number.
    Literal(u32),
    /// `NAME.list`
    Artifact(String),
    /// `NAME.v`, which is a number.
    NotAList(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StepInput {
    pub(crate) name: String,
    pub(crate) optional: bool,
    /// Whether the text of the step reads the artifact of the previous iteration, which `inputs` does not list.
    pub(crate) from_previous_iteration: bool,
}

/// The values that the text of a step can use in addition to the inputs of the step.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TemplateScope {
    pub(crate) has_item: bool,
    pub(crate) has_iteration: bool,
    /// Whether the pipeline is called by another one and has the input `p`.
    pub(crate) is_called: bool,
}

impl Kind {
    /// Whether a step of this kind contains no other steps.
    pub(crate) fn is_leaf(&self) -> bool {
        matches!(self, Self::Agent { .. } | Self::Run { .. } | Self::Write { .. } | Self::Approve { .. })
    }

    pub(crate) fn children(&self) -> Vec<&Step> {
        match self {
            Self::Parallel { steps, .. } | Self::Repeat { steps, .. } | Self::Steps(steps) => steps.iter().collect(),
            Self::Call(pipeline) => pipeline.steps.iter().chain(&pipeline.finally).collect(),
            Self::Agent { .. } | Self::Run { .. } | Self::Write { .. } | Self::Approve { .. } => Vec::new(),
        }
    }
}

impl Step {
    /// The names of the artifacts that later steps can use.
    pub(crate) fn artifact_names(&self) -> Vec<String> {
        match (&self.output, &self.for_each, &self.kind) {
            (Some(name), _, _) => vec![name.clone()],
            (None, Some(_), _) => Vec::new(),
            (None, None, Kind::Call(pipeline)) => pipeline.outputs.iter().map(|(name, _)| name.clone()).collect(),
            (None, None, kind) => kind.children().iter().flat_map(|step| step.artifact_names()).collect(),
        }
    }

    /// The first required input, which `write` and `with` use.
    pub(crate) fn required_input(&self) -> Option<&StepInput> {
        self.inputs.iter().find(|input| !input.optional && !input.from_previous_iteration)
    }

    /// The template of the step's message, command argument or question.
    fn template_text(&self, scope: TemplateScope) -> String {
        let mut text = format!("{} {}", self.id, self.revision);
        for StepInput { name, optional, from_previous_iteration } in &self.inputs {
            let value = if *from_previous_iteration { format!("loop.previous.{name}") } else { name.clone() };
            text += &match optional {
                true => format!(
                    "|{value}={{% if {value} is defined %}}{{{{ {value} | tojson(indent=0) }}}}{{% else %}}-{{% endif %}}"
                ),
                false => format!("|{value}={{{{ {value} | tojson(indent=0) }}}}"),
            };
        }
        if scope.is_called {
            text += "|p={{ p | tojson(indent=0) }}";
        }
        if scope.has_item {
            text += "|item={{ item | tojson(indent=0) }}@{{ index }}";
        }
        if scope.has_iteration {
            text += "|loop={{ loop.index }}";
        }
        text
    }

    /// Returns the step as it is in the pipeline file. Adds the files of the pipelines that it calls to `files`.
    fn to_json(&self, scope: TemplateScope, files: &mut Vec<(String, Value)>) -> Value {
        let inner_scope = TemplateScope { has_item: scope.has_item || self.for_each.is_some(), ..scope };
        let text = self.template_text(inner_scope);
        let mut step = Map::new();
        step.insert("id".into(), json!(self.id));
        let mut set = |key: &str, value: Value| drop(step.insert(key.to_owned(), value));
        let steps_json = |steps: &[Step], scope: TemplateScope, files: &mut Vec<(String, Value)>| -> Value {
            steps.iter().map(|step| step.to_json(scope, files)).collect()
        };
        match &self.kind {
            Kind::Agent { max_tries, fallback } => {
                set("agent", json!("a"));
                set("prompt", json!("p.md"));
                set("message", json!(text));
                set("schema", json!("any"));
                if let Some(max_tries) = max_tries {
                    set("retry", json!({ "max": max_tries }));
                }
                if *fallback {
                    set("fallback", json!(["lab/second"]));
                }
            }
            Kind::Run { max_tries, access } => {
                set("run", json!(["tool", text]));
                set("access", json!(["none", "read", "write"][*access as usize]));
                if self.output.is_some() {
                    set("schema", json!("any"));
                }
                if let Some(max_tries) = max_tries {
                    set("retry", json!({ "max": max_tries }));
                }
            }
            Kind::Write { escapes_workspace } => {
                let path = if *escapes_workspace { format!("../{}", self.id) } else { format!("files/{}", self.id) };
                let path_expression =
                    if inner_scope.has_item { format!("'{path}-' ~ index") } else { format!("'{path}'") };
                // The check finds constant paths that leave the workspace, and does not compute this filter.
                let path_expression = if *escapes_workspace {
                    format!("{path_expression} | replace('none', '')")
                } else {
                    path_expression
                };
                let content = self
                    .required_input()
                    .map_or_else(|| "'x'".to_owned(), |input| format!("{} | tojson(indent=0)", input.name));
                set("write", json!(format!("[{{'path': {path_expression}, 'content': {content}}}]")));
            }
            Kind::Approve { continues } => {
                set("approve", json!(text));
                set("on_reject", json!(if *continues { "continue" } else { "fail" }));
            }
            Kind::Parallel { limit, steps } => {
                set("parallel", steps_json(steps, inner_scope, files));
                if let Some(limit) = limit {
                    set("max_parallel", json!(limit));
                }
            }
            Kind::Repeat { until, max, continues, steps } => {
                let mut repeat = Map::new();
                if let Some(name) = until {
                    repeat.insert("until".into(), json!(format!("{name}.ok")));
                }
                repeat.insert("max".into(), json!(max));
                repeat.insert("on_max_iterations".into(), json!(if *continues { "continue" } else { "fail" }));
                repeat.insert(
                    "steps".into(),
                    steps_json(steps, TemplateScope { has_iteration: true, ..inner_scope }, files),
                );
                set("repeat", Value::Object(repeat));
            }
            Kind::Steps(steps) => set("steps", steps_json(steps, inner_scope, files)),
            Kind::Call(pipeline) => {
                let name = format!("{}.yaml", self.id);
                let called_pipeline = pipeline.to_json(true, files);
                files.push((name.clone(), called_pipeline));
                set("pipeline", json!(name));
                let input_expression = self.required_input().map_or("[1, 2]", |input| input.name.as_str());
                set("with", json!({ "p": input_expression }));
            }
        }
        let inputs: Vec<String> = self
            .inputs
            .iter()
            .filter(|input| !input.from_previous_iteration)
            .map(|input| format!("{}{}", input.name, if input.optional { "?" } else { "" }))
            .collect();
        if !inputs.is_empty() {
            set("inputs", json!(inputs));
        }
        if let Some(when) = &self.when {
            set(
                "when",
                json!(match when {
                    When::Ok(name) => format!("{name}.ok"),
                    When::Completed(id) => format!("steps.{id}.status == 'completed'"),
                    When::NotABoolean(name) => format!("{name}.v"),
                }),
            );
        }
        if let Some(for_each) = &self.for_each {
            set(
                "for_each",
                json!(match &for_each.items {
                    ItemSource::Literal(count) => format!("{:?}", (1..=*count).collect::<Vec<u32>>()),
                    ItemSource::Artifact(name) => format!("{name}.list"),
                    ItemSource::NotAList(name) => format!("{name}.v"),
                }),
            );
            set("max_parallel", json!(for_each.limit));
        }
        if let Some(name) = &self.output {
            set("output", json!(name));
        }
        if let Some(on_error) = self.on_error {
            set("on_error", json!(if on_error == OnError::Stop { "stop" } else { "continue" }));
        }
        Value::Object(step)
    }
}

impl TestPipeline {
    fn to_json(&self, is_called: bool, files: &mut Vec<(String, Value)>) -> Value {
        let scope = TemplateScope { is_called, ..TemplateScope::default() };
        let mut steps_json =
            |steps: &[Step]| -> Value { steps.iter().map(|step| step.to_json(scope, files)).collect() };
        let steps = steps_json(&self.steps);
        let mut file = json!({ "name": "generated", "agents": { "a": { "model": "lab/first" } }, "steps": steps });
        if is_called {
            file["inputs"] = json!({ "p": {} });
        }
        if !self.finally.is_empty() {
            file["finally"] = steps_json(&self.finally);
        }
        if let Some(id) = &self.success {
            file["success"] = json!(format!("steps.{id}.status == 'completed'"));
        }
        if !self.outputs.is_empty() {
            file["outputs"] = self.outputs.iter().map(|(name, artifact)| (name.clone(), json!(artifact))).collect();
        }
        file
    }

    /// The files of this pipeline and of the pipelines that it calls. The content is JSON, which is valid YAML.
    pub(crate) fn files(&self) -> Vec<(String, Value)> {
        let mut files = Vec::new();
        let main = self.to_json(false, &mut files);
        files.push(("main.yaml".to_owned(), main));
        files
    }

    /// Writes the files into the folder `pipelines` of a project.
    pub(crate) fn write(&self, folder: &Path) {
        for (name, file) in self.files() {
            std::fs::write(folder.join("pipelines").join(name), file.to_string()).unwrap();
        }
    }
}
