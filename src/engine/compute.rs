//! Work of the interpreter that may take long: templates, expressions and replies that are large, or that make much of
//! little. It is handed over with all that it needs ([`Durable::compute`](crate::durable::Durable::compute)); what is small
//! is done at once.

use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

use crate::durable::{Interrupt, ScopeDelta};
use crate::model::{Class, Failure, StepKey};
use crate::template::{TemplateError, eval, may_take_long};

use super::interpret::Run;
use super::message::holds_in;
use super::node::PlanNode;
use super::scope::ValueScope;

/// Whether what these texts make of the values in reach may take long.
pub(super) fn takes_long<'t>(scope: &ValueScope, texts: impl IntoIterator<Item = &'t str>) -> bool {
    texts.into_iter().any(may_take_long) || scope.is_large()
}

impl Run<'_> {
    /// Has work done that may take long, and waits for its result.
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

    /// The value of an expression over what a step sees.
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

    /// Whether a condition holds over what a step sees, and what its own steps gained.
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
