//! An abstract pipeline, and its files.

use std::path::Path;

use serde_json::{Map, Value, json};

/// A pipeline file.
#[derive(Clone, Debug, Default)]
pub(crate) struct TestPipeline {
    pub(crate) steps: Vec<Step>,
    pub(crate) finally: Vec<Step>,
    /// The step in `success: steps.ID.status == "completed"`.
    pub(crate) success: Option<String>,
    /// The names of `outputs`, each with its artifact.
    pub(crate) outputs: Vec<(String, String)>,
}

/// A step.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) id: String,
    pub(crate) kind: Kind,
    pub(crate) when: Option<When>,
    pub(crate) each: Option<Each>,
    pub(crate) reads: Vec<Read>,
    pub(crate) output: Option<String>,
    pub(crate) on_error: Option<OnError>,
    /// A number in its text: another number makes another request.
    pub(crate) word: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnError {
    Stop,
    Continue,
}

#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Agent { tries: Option<u32>, fallback: bool },
    Run { tries: Option<u32>, access: Access },
    Write { escapes: bool },
    Approve { goes_on: bool },
    Parallel { limit: Option<usize>, steps: Vec<Step> },
    Repeat { until: Option<String>, max: u32, goes_on: bool, steps: Vec<Step> },
    Steps(Vec<Step>),
    Call(Box<TestPipeline>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    None,
    Read,
    Write,
}

#[derive(Clone, Debug)]
pub(crate) enum When {
    /// `NAME.ok`
    Ok(String),
    /// `steps.ID.status == "completed"`
    Completed(String),
    /// `NAME.v`, which is a number.
    Wrong(String),
}

#[derive(Clone, Debug)]
pub(crate) struct Each {
    pub(crate) list: List,
    pub(crate) limit: usize,
}

#[derive(Clone, Debug)]
pub(crate) enum List {
    Literal(u32),
    /// `NAME.list`
    Of(String),
    /// `NAME.v`, which is a number.
    Wrong(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Read {
    pub(crate) name: String,
    pub(crate) optional: bool,
}

/// What the text of a step can refer to, besides its inputs.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TemplateScope {
    pub(crate) item: bool,
    pub(crate) round: bool,
    pub(crate) called: bool,
}

impl Kind {
    /// Whether it has no steps inside.
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
    /// The names of the artifacts that exist after it completed.
    pub(crate) fn artifact_names(&self) -> Vec<String> {
        match (&self.output, &self.each, &self.kind) {
            (Some(name), _, _) => vec![name.clone()],
            (None, Some(_), _) => Vec::new(),
            (None, None, Kind::Call(pipeline)) => pipeline.outputs.iter().map(|(name, _)| name.clone()).collect(),
            (None, None, kind) => kind.children().iter().flat_map(|step| step.artifact_names()).collect(),
        }
    }

    /// The text of the step, as a template.
    fn text(&self, around: TemplateScope) -> String {
        let mut text = format!("{} {}", self.id, self.word);
        for Read { name, optional } in &self.reads {
            text += &match optional {
                true => format!(
                    "|{name}={{% if {name} is defined %}}{{{{ {name} | tojson(indent=0) }}}}{{% else %}}-{{% endif %}}"
                ),
                false => format!("|{name}={{{{ {name} | tojson(indent=0) }}}}"),
            };
        }
        if around.called {
            text += "|p={{ p | tojson(indent=0) }}";
        }
        if around.item {
            text += "|item={{ item | tojson(indent=0) }}@{{ index }}";
        }
        if around.round {
            text += "|loop={{ loop.index }}";
        }
        text
    }

    /// The step as in the file; adds the pipelines that it calls to `files`.
    fn file(&self, around: TemplateScope, files: &mut Vec<(String, Value)>) -> Value {
        let inside = TemplateScope { item: around.item || self.each.is_some(), ..around };
        let words = self.text(inside);
        let mut step = Map::new();
        step.insert("id".into(), json!(self.id));
        let mut put = |key: &str, value: Value| drop(step.insert(key.to_owned(), value));
        let list = |steps: &[Step], around: TemplateScope, files: &mut Vec<(String, Value)>| -> Value {
            steps.iter().map(|step| step.file(around, files)).collect()
        };
        match &self.kind {
            Kind::Agent { tries, fallback } => {
                put("agent", json!("a"));
                put("prompt", json!("p.md"));
                put("message", json!(words));
                put("schema", json!("any"));
                if let Some(tries) = tries {
                    put("retry", json!({ "max": tries }));
                }
                if *fallback {
                    put("fallback", json!(["lab/second"]));
                }
            }
            Kind::Run { tries, access } => {
                put("run", json!(["tool", words]));
                put("access", json!(["none", "read", "write"][*access as usize]));
                if self.output.is_some() {
                    put("schema", json!("any"));
                }
                if let Some(tries) = tries {
                    put("retry", json!({ "max": tries }));
                }
            }
            Kind::Write { escapes } => {
                let path = if *escapes { format!("../{}", self.id) } else { format!("files/{}", self.id) };
                let place = if inside.item { format!("'{path}-' ~ index") } else { format!("'{path}'") };
                let read = self.reads.iter().find(|read| !read.optional);
                let content = read.map_or_else(|| "'x'".to_owned(), |read| format!("{} | tojson(indent=0)", read.name));
                put("write", json!(format!("[{{'path': {place}, 'content': {content}}}]")));
            }
            Kind::Approve { goes_on } => {
                put("approve", json!(words));
                put("on_reject", json!(if *goes_on { "continue" } else { "fail" }));
            }
            Kind::Parallel { limit, steps } => {
                put("parallel", list(steps, inside, files));
                if let Some(limit) = limit {
                    put("max_parallel", json!(limit));
                }
            }
            Kind::Repeat { until, max, goes_on, steps } => {
                let mut repeat = Map::new();
                if let Some(name) = until {
                    repeat.insert("until".into(), json!(format!("{name}.ok")));
                }
                repeat.insert("max".into(), json!(max));
                repeat.insert("on_max_iterations".into(), json!(if *goes_on { "continue" } else { "fail" }));
                repeat.insert("steps".into(), list(steps, TemplateScope { round: true, ..inside }, files));
                put("repeat", Value::Object(repeat));
            }
            Kind::Steps(steps) => put("steps", list(steps, inside, files)),
            Kind::Call(pipeline) => {
                let name = format!("{}.yaml", self.id);
                let called = pipeline.file(true, files);
                files.push((name.clone(), called));
                put("pipeline", json!(name));
                let given = self.reads.iter().find(|read| !read.optional).map_or("[1, 2]", |read| read.name.as_str());
                put("with", json!({ "p": given }));
            }
        }
        let reads: Vec<String> =
            self.reads.iter().map(|r| if r.optional { format!("{}?", r.name) } else { r.name.clone() }).collect();
        if !reads.is_empty() {
            put("inputs", json!(reads));
        }
        if let Some(when) = &self.when {
            put(
                "when",
                json!(match when {
                    When::Ok(name) => format!("{name}.ok"),
                    When::Completed(id) => format!("steps.{id}.status == 'completed'"),
                    When::Wrong(name) => format!("{name}.v"),
                }),
            );
        }
        if let Some(each) = &self.each {
            put(
                "for_each",
                json!(match &each.list {
                    List::Literal(count) => format!("{:?}", (1..=*count).collect::<Vec<u32>>()),
                    List::Of(name) => format!("{name}.list"),
                    List::Wrong(name) => format!("{name}.v"),
                }),
            );
            put("max_parallel", json!(each.limit));
        }
        if let Some(name) = &self.output {
            put("output", json!(name));
        }
        if let Some(on) = self.on_error {
            put("on_error", json!(if on == OnError::Stop { "stop" } else { "continue" }));
        }
        Value::Object(step)
    }
}

impl TestPipeline {
    fn file(&self, called: bool, files: &mut Vec<(String, Value)>) -> Value {
        let around = TemplateScope { called, ..TemplateScope::default() };
        let mut list = |steps: &[Step]| -> Value { steps.iter().map(|step| step.file(around, files)).collect() };
        let mut file =
            json!({ "name": "generated", "agents": { "a": { "model": "lab/first" } }, "steps": list(&self.steps) });
        if called {
            file["inputs"] = json!({ "p": {} });
        }
        if !self.finally.is_empty() {
            file["finally"] = list(&self.finally);
        }
        if let Some(id) = &self.success {
            file["success"] = json!(format!("steps.{id}.status == 'completed'"));
        }
        if !self.outputs.is_empty() {
            file["outputs"] = self.outputs.iter().map(|(name, artifact)| (name.clone(), json!(artifact))).collect();
        }
        file
    }

    /// The files of this pipeline, as JSON, which is also YAML.
    pub(crate) fn files(&self) -> Vec<(String, Value)> {
        let mut files = Vec::new();
        let main = self.file(false, &mut files);
        files.push(("main.yaml".to_owned(), main));
        files
    }

    /// Writes the project of this pipeline.
    pub(crate) fn write(&self, folder: &Path) {
        for (name, file) in self.files() {
            std::fs::write(folder.join("pipelines").join(name), file.to_string()).unwrap();
        }
    }
}
