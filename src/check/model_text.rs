//! Finds the values of a pipeline that may contain text of a model, and the steps that write files of a model into the
//! workspace. Follows the calls of other pipelines.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use crate::config::Project;
use crate::model::step::Access;
use crate::model::{Agent, Step, StepAction};
use crate::template::{sole_expression, variables};

/// What is known about a project and the pipelines that it calls. The keys are the paths of the pipeline files, and
/// whether the inputs of the pipeline may contain text of a model.
#[derive(Default)]
pub(super) struct ModelTextAnalysis<'a> {
    calls_agents: HashMap<&'a str, bool>,
    names: HashMap<(&'a str, bool), Rc<HashSet<&'a str>>>,
    writing_pipelines: HashMap<(&'a str, bool), bool>,
}

impl<'a> ModelTextAnalysis<'a> {
    /// The names in a pipeline whose values may contain text of a model: the outputs of agent steps, of groups with
    /// agent steps and of calls, the items of such values, and the inputs if `has_model_inputs` is true.
    pub(super) fn names(&mut self, project: &'a Project, has_model_inputs: bool) -> Rc<HashSet<&'a str>> {
        let key = (project.document.file.path.as_str(), has_model_inputs);
        if let Some(names) = self.names.get(&key) {
            return Rc::clone(names);
        }
        let pipeline = &project.pipeline;
        let mut names = HashSet::new();
        if has_model_inputs {
            names.extend(pipeline.inputs.keys().map(String::as_str));
        }
        // In a loop, a step also reads artifacts that later steps wrote in the previous iteration.
        for _ in 0..2 {
            for step in pipeline.steps.iter().chain(&pipeline.finally) {
                self.add_names(project, step, &mut names);
            }
        }
        let names = Rc::new(names);
        self.names.insert(key, Rc::clone(&names));
        names
    }

    /// Adds the names that a step defines for text of a model. Returns whether its own output may contain such text.
    fn add_names(&mut self, project: &'a Project, step: &'a Step, names: &mut HashSet<&'a str>) -> bool {
        if step.for_each.as_ref().is_some_and(|list| reads_model_text(names, list)) {
            names.insert("item");
        }
        let mut has_model_text = step.agent.is_some() || has_model_arguments(names, step);
        for child in step.children().1 {
            has_model_text |= self.add_names(project, child, names);
        }
        if let Some(StepAction::Pipeline(file)) = step.action()
            && let Some(called) = project.called_projects.get(file)
            && (passes_model_text(names, step) || self.calls_agents(called))
        {
            has_model_text = true;
            names.extend(called.pipeline.outputs.keys().map(String::as_str));
        }
        names.extend(step.output.as_deref().filter(|_| has_model_text));
        has_model_text
    }

    /// Whether a pipeline, or one that it calls, has agent steps.
    fn calls_agents(&mut self, project: &'a Project) -> bool {
        let has_agent_step =
            |project: &Project| project.pipeline.all_steps().into_iter().any(|step| step.agent.is_some());
        *self
            .calls_agents
            .entry(&project.document.file.path)
            .or_insert_with(|| project.with_called_projects().into_iter().any(has_agent_step))
    }

    /// Whether a step itself, or a pipeline that it calls, writes files of a model: an agent writes them, or a `write`
    /// step writes a value with text of a model. `names` are those of the step's pipeline.
    pub(super) fn writes_files(&mut self, project: &'a Project, names: &HashSet<&'a str>, step: &'a Step) -> bool {
        let agents = &project.pipeline.agents;
        match step.action() {
            Some(StepAction::Agent { agent, .. }) => {
                let has_tools = |agent: &&Agent| agent.cli_kind().is_some() || !agent.tools.names().is_empty();
                let own_access = |agent: &Agent| step.access.unwrap_or(agent.own_access());
                let writes_itself = agents.get(agent).filter(has_tools).map(own_access) == Some(Access::Write);
                let mut called = project.projects_called_by(step).into_iter();
                writes_itself || called.any(|called| self.pipeline_writes_files(called, true))
            }
            Some(StepAction::Call(_)) => {
                step.effective_access(agents) == Access::Write && has_model_arguments(names, step)
            }
            Some(StepAction::Write(files)) => reads_model_text(names, files),
            Some(StepAction::Pipeline(file)) => {
                let called = project.called_projects.get(file);
                called.is_some_and(|called| self.pipeline_writes_files(called, passes_model_text(names, step)))
            }
            _ => false,
        }
    }

    fn pipeline_writes_files(&mut self, project: &'a Project, has_model_inputs: bool) -> bool {
        let key = (project.document.file.path.as_str(), has_model_inputs);
        if let Some(writes_files) = self.writing_pipelines.get(&key) {
            return *writes_files;
        }
        let names = self.names(project, has_model_inputs);
        let mut steps = project.pipeline.all_steps().into_iter();
        let writes_files = steps.any(|step| self.writes_files(project, &names, step));
        self.writing_pipelines.insert(key, writes_files);
        writes_files
    }
}

/// Whether a step passes text of a model to the pipeline that it calls. `names` are those of the calling pipeline.
pub(super) fn passes_model_text(names: &HashSet<&str>, step: &Step) -> bool {
    step.with.values().any(|expression| reads_model_text(names, &expression.0))
}

/// Whether a step passes text of a model to the tool that it calls. `names` are those of the step's pipeline.
fn has_model_arguments(names: &HashSet<&str>, step: &Step) -> bool {
    let is_name_char = |c: char| c.is_alphanumeric() || c == '_';
    step.argument_texts().into_iter().any(|text| match sole_expression(text) {
        Some(expression) => reads_model_text(names, expression),
        None => text.contains('{') && text.split(|c: char| !is_name_char(c)).any(|word| names.contains(word)),
    })
}

fn reads_model_text(names: &HashSet<&str>, expression: &str) -> bool {
    variables(expression).iter().any(|name| names.contains(name.as_str()))
}
