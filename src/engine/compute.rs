//! Work of the interpreter that may take long: large templates, expressions and replies, or those that expand to much
//! more than their size. It gets its own copy of everything that it needs and goes through
//! [`Durable::compute`](crate::durable::Durable::compute); small work runs at once.

use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

use crate::durable::{Interrupt, ScopeDelta};
use crate::model::{Class, Failure, StepKey};
use crate::template::{TemplateError, eval, may_take_long};

use super::interpret::Run;
use super::message::holds_in;
use super::node::PlanNode;
use super::scope::ValueScope;

/// Whether evaluating these texts may take long, given the values in scope.
pub(super) fn takes_long<'t>(scope: &ValueScope, texts: impl IntoIterator<Item = &'t str>) -> bool {
    texts.into_iter().any(may_take_long) || scope.is_large()
}

impl Run<'_> {
    /// Does work that may take long, and waits for its result.
    pub(super) async fn compute<T: Send + 'static>(
        self,
        key: &StepKey,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Interrupt> {
        let slot = Arc::new(Mutex::new(None));
        let result = slot.clone();
        let work = move || *result.lock().unwrap_or_else(PoisonError::into_inner) = Some(work());
        self.durable.compute(key.clone(), Box::new(work)).await?;
        let result = slot.lock().unwrap_or_else(PoisonError::into_inner).take();
        result.ok_or_else(|| {
            let failure = Failure::new(Class::Storage, format!("a computation of step `{key}` gave no result"));
            Interrupt::Storage(failure.with_hint("this is a defect of orch"))
        })
    }

    /// Evaluates an expression over the values that a step sees.
    pub(super) async fn eval(
        self,
        key: &StepKey,
        node: &PlanNode,
        expression: &str,
        scope: &ValueScope,
    ) -> Result<Result<Value, TemplateError>, Interrupt> {
        if !takes_long(scope, [expression]) {
            return Ok(eval(expression, &scope.context(node)));
        }
        let (expression, inputs, scope) = (expression.to_owned(), node.inputs.clone(), scope.clone());
        self.compute(key, move || eval(&expression, &scope.context_of(&inputs))).await
    }

    /// Evaluates a condition over the values that a step sees and what the steps inside it produced.
    pub(super) async fn holds(
        self,
        key: &StepKey,
        node: &PlanNode,
        condition: &str,
        scope: &ValueScope,
        gained: &ScopeDelta,
    ) -> Result<Result<bool, Failure>, Interrupt> {
        if !takes_long(scope, [condition]) {
            return Ok(holds_in(condition, scope.context(node), gained));
        }
        let (condition, inputs) = (condition.to_owned(), node.inputs.clone());
        let (scope, gained) = (scope.clone(), gained.clone());
        self.compute(key, move || holds_in(&condition, scope.context_of(&inputs), &gained)).await
    }
}
