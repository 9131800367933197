//! Steps that write files. A snapshot of the current files is recorded first; then either all files are written or
//! none.

use serde_json::{Value, json};

use crate::durable::{Call, CallReply, Effect, Files, Interrupt};
use crate::model::event::CallOutput;
use crate::model::{Class, Failure, StepKey};

use super::interpret::{Run, StepResult};
use super::leaf::{Leaf, OpenedStep, common_parts, digest, mixed_up, part, recipe, tree_of};
use super::node::{PlanNode, WriteNode};
use super::scope::ValueScope;

pub(super) async fn run(
    run: Run<'_>,
    key: &StepKey,
    node: &PlanNode,
    kind: &WriteNode,
    scope: &mut ValueScope,
) -> Result<StepResult, Interrupt> {
    let files = match run.eval(key, node, &kind.files, scope).await? {
        Ok(files) => files,
        Err(error) => {
            let failure = Failure::new(Class::ExpressionError, error.to_string());
            run.fail(key, node, scope, 0, &failure).await?;
            return Ok(Err(failure));
        }
    };
    let ask = json!({ "files": files, "tree": tree_of(node, scope) });
    let mut parts = common_parts(node, scope);
    parts.push(part("files", &files));
    let mut leaf = Leaf::new(run, key, node, recipe(&ask, &json!("write")), parts);
    let attempt = match leaf.begin(scope).await? {
        OpenedStep::Stands(value) => return Ok(Ok(value)),
        OpenedStep::Run(_, attempt) => attempt,
    };
    leaf.start(attempt).await?;
    let result = write(&leaf, attempt, files).await?;
    leaf.end(scope, attempt, result.map(Some)).await
}

/// Takes a snapshot, then writes. Each outcome is on record before the next call, so that after a crash the same calls
/// can be repeated, and the previous contents can be restored.
async fn write(leaf: &Leaf<'_>, attempt: u32, files: Value) -> Result<Result<Value, Failure>, Interrupt> {
    let effect = Effect::Look(Files { files: files.clone(), reserved: leaf.run.plan.kept().artifacts.clone() });
    let ask = digest(&json!({ "look": files }));
    let looked = leaf.run.durable.call(Call { key: leaf.call(attempt, 1), request_digest: ask, effect }).await?;
    let record = match looked.result {
        Ok(CallReply::Output(CallOutput::Snapshot(record))) => record,
        Ok(_) => return Ok(Err(mixed_up())),
        Err(failure) => return Ok(Err(failure)),
    };
    let ask = digest(&json!({ "write": record }));
    let call = Call { key: leaf.call(attempt, 2), request_digest: ask, effect: Effect::Write(record) };
    Ok(match leaf.run.durable.call(call).await?.result {
        // The number of files that this call changed differs when it is repeated after a crash. The list of files does
        // not, so the artifact contains only the list.
        Ok(CallReply::Output(CallOutput::Applied(record))) => Ok(json!({ "files": record.get("files") })),
        Ok(_) => Err(mixed_up()),
        Err(failure) => Err(failure),
    })
}
