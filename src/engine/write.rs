//! Steps that write files. orch first records the change set: the contents of each file before and after. Then it
//! writes either all files or none.

use serde_json::{Value, json};

use crate::durable::{Call, CallReply, Effect, FilesToWrite, Interrupt};
use crate::model::event::{CallOutput, PartKind};
use crate::model::{Failure, StepKey};

use super::interpret::{Interpreter, StepResult};
use super::node::{PlanNode, WriteNode};
use super::scope::ValueScope;
use super::step_execution::{
    FIRST_CALL, StepExecution, StepStart, common_fingerprint_parts, compute_fingerprint, digest, fingerprint_part,
    unexpected_record, workspace_version,
};
use super::template_failure::expression_failure;

pub(super) async fn run(
    interpreter: Interpreter<'_>,
    key: &StepKey,
    node: &PlanNode,
    write_node: &WriteNode,
    scope: &mut ValueScope,
) -> Result<StepResult, Interrupt> {
    let files = match interpreter.eval(key, node, &write_node.files, scope).await? {
        Ok(files) => files,
        Err(error) => {
            let failure = expression_failure(&write_node.files, error);
            interpreter.fail(key, node, scope, 0, &failure).await?;
            return Ok(Err(failure));
        }
    };
    let request = json!({ "files": files, "tree": workspace_version(node, scope) });
    let mut parts = common_fingerprint_parts(node, scope);
    parts.push(fingerprint_part(PartKind::Files, &files));
    let mut execution =
        StepExecution::new(interpreter, key, node, compute_fingerprint(&request, &json!("write")), parts);
    let attempt = match execution.begin(scope).await? {
        StepStart::Reusable(value) => return Ok(Ok(value)),
        StepStart::Run(_, attempt) => attempt,
    };
    execution.record_start(attempt).await?;
    let result = write_files(&execution, attempt, files).await?;
    execution.finish(scope, attempt, result.map(Some)).await
}

/// Computes the change set and then writes the files. orch records the change set before it writes, so that it can
/// repeat the write after a crash and can restore the previous contents.
async fn write_files(
    execution: &StepExecution<'_>,
    attempt: u32,
    files: Value,
) -> Result<Result<Value, Failure>, Interrupt> {
    let effect = Effect::Snapshot(FilesToWrite { files: files.clone() });
    let request_digest = digest(&json!({ "look": files }));
    let snapshot_outcome = execution
        .interpreter
        .durable
        .call(Call { key: execution.call_key(attempt, FIRST_CALL), request_digest, effect })
        .await?;
    let record = match snapshot_outcome.result {
        Ok(CallReply::Output(CallOutput::Snapshot(record))) => record,
        Ok(_) => return Ok(Err(unexpected_record())),
        Err(failure) => return Ok(Err(failure)),
    };
    let request_digest = digest(&json!({ "write": record }));
    let call = Call { key: execution.call_key(attempt, FIRST_CALL + 1), request_digest, effect: Effect::Write(record) };
    Ok(match execution.interpreter.durable.call(call).await?.result {
        // The artifact contains only the list of files. The record also counts the changed files, and this count is
        // different if orch repeats the call after a crash.
        Ok(CallReply::Output(CallOutput::Applied(record))) => Ok(json!({ "files": record.get("files") })),
        Ok(_) => Err(unexpected_record()),
        Err(failure) => Err(failure),
    })
}
