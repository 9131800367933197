//! Computations of the interpreter that may take long, because their templates, expressions or replies are large or
//! expand to much more than their size. The interpreter passes such a computation, with a copy of its data, to
//! [`Durable::compute`](crate::durable::Durable::compute). It runs a small computation itself.

use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

use crate::durable::{Interrupt, ScopeDelta};
use crate::model::{Failure, FailureClass, StepKey};
use crate::template::{TemplateError, eval, may_take_long};

use super::interpret::Interpreter;
use super::message::eval_condition_with_delta;
use super::node::PlanNode;
use super::scope::ValueScope;

/// Whether evaluating these texts may take long, given the values in scope.
pub(super) fn takes_long<'t>(scope: &ValueScope, texts: impl IntoIterator<Item = &'t str>) -> bool {
    texts.into_iter().any(may_take_long) || scope.is_large()
}

impl Interpreter<'_> {
    /// Runs a computation that may take long, and waits for its result.
    pub(super) async fn compute<T: Send + 'static>(
        self,
        key: &StepKey,
        computation: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Interrupt> {
        let result_cell = Arc::new(Mutex::new(None));
        let result_writer = result_cell.clone();
        let computation = move || *result_writer.lock().unwrap_or_else(PoisonError::into_inner) = Some(computation());
        self.durable.compute(key.clone(), Box::new(computation)).await?;
        let result = result_cell.lock().unwrap_or_else(PoisonError::into_inner).take();
        result.ok_or_else(|| {
            let failure =
                Failure::new(FailureClass::Storage, format!("a computation of step `{key}` returned no result"));
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
        let (expression, inputs, scope) = (expression.to_owned(), node.inputs.clone(), scope.snapshot());
        self.compute(key, move || eval(&expression, &scope.context_for_inputs(&inputs))).await
    }

    /// Evaluates a condition over the values that a step sees and the artifacts of the steps inside it.
    pub(super) async fn eval_condition(
        self,
        key: &StepKey,
        node: &PlanNode,
        condition: &str,
        scope: &ValueScope,
        delta: &ScopeDelta,
    ) -> Result<Result<bool, Failure>, Interrupt> {
        if !takes_long(scope, [condition]) {
            return Ok(eval_condition_with_delta(condition, scope.context(node), delta));
        }
        let (condition, inputs) = (condition.to_owned(), node.inputs.clone());
        let (scope, delta) = (scope.snapshot(), delta.clone());
        self.compute(key, move || eval_condition_with_delta(&condition, scope.context_for_inputs(&inputs), &delta))
            .await
    }
}
