//! Inserts events into the tables of the journal.

use rusqlite::{Connection, params};
use serde_json::Value;

use crate::model::event::{Event, Fact, RunStarted, StepCompleted};
use crate::model::{Artifact, Digest, RunStatus, StepKey};

use super::event_ids::EventIds;
use super::payload::Payload;

/// Inserts an event into the tables. Without a `workspace_path`, does not record that orch wrote the file of the event.
pub(super) fn insert_event(
    connection: &Connection,
    event: &Event,
    workspace_path: Option<&str>,
    payload: &Payload,
) -> rusqlite::Result<()> {
    let blob = payload.blob.as_ref().map(Digest::as_str);
    let body = blob.is_none().then_some(&payload.body);
    let (run, micros) = (event.run.0.to_string(), event.at.as_microsecond());
    let seq = i64::try_from(event.seq).unwrap_or(i64::MAX);
    let (kind, step) = (event.fact.kind(), event.fact.step());
    let id = EventIds::find_or_create(connection, &run)?.id(seq)?;
    connection
        .prepare_cached(
            "INSERT INTO events (id, at, kind, step, body, blob, value) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![id, micros, kind, step.map(StepKey::as_str), body, blob, payload.value])?;
    match &event.fact {
        Fact::RunStarted(fact) => insert_run(connection, &run, micros, fact),
        Fact::RunResumed(_) => set_status(connection, &run, RunStatus::Running, None),
        Fact::RunEnded(fact) => set_status(connection, &run, fact.status, Some(micros)),
        Fact::StepCompleted(fact) => {
            insert_result(connection, id, fact)?;
            insert_file(connection, workspace_path, &run, micros, fact.artifact.as_ref())
        }
        Fact::ArtifactAccepted(fact) => insert_file(connection, workspace_path, &run, micros, Some(&fact.artifact)),
        Fact::StepReused(fact) => insert_file(connection, workspace_path, &run, micros, fact.renamed_artifact.as_ref()),
        Fact::StepStarted(_)
        | Fact::CallStarted(_)
        | Fact::CallEnded(_)
        | Fact::ReplyParsed(_)
        | Fact::StepFailed(_)
        | Fact::StepSkipped(_)
        | Fact::ApprovalAsked(_)
        | Fact::ApprovalAnswered(_)
        | Fact::ToolsListed(_)
        | Fact::CancelRequested(_)
        | Fact::BudgetRaised(_) => Ok(()),
    }
}

fn insert_run(connection: &Connection, run: &str, started: i64, fact: &RunStarted) -> rusqlite::Result<()> {
    let task = fact.inputs.get("task").and_then(Value::as_str);
    connection
        .prepare_cached("INSERT INTO runs (run, pipeline, file, workspace, task, status, started) VALUES (?1, ?2, ?3, ?4, ?5, 'running', ?6)")?
        .execute(params![run, fact.pipeline, fact.file, fact.workspace, task, started])?;
    Ok(())
}

fn set_status(connection: &Connection, run: &str, status: RunStatus, ended: Option<i64>) -> rusqlite::Result<()> {
    connection.prepare_cached("UPDATE runs SET status = ?2, ended = ?3 WHERE run = ?1")?.execute(params![
        run,
        status.as_str(),
        ended
    ])?;
    Ok(())
}

/// Inserts the result of a step. `id` is the id of the event.
fn insert_result(connection: &Connection, id: i64, fact: &StepCompleted) -> rusqlite::Result<()> {
    // A reused result is recorded under the run that produced it.
    if fact.artifact.is_none() || fact.reused_from.is_some() {
        return Ok(());
    }
    // An imported run may contain anything as a digest. No step has such a fingerprint.
    let Some([request, decode]) = fact.fingerprint.to_bytes() else { return Ok(()) };
    connection
        .prepare_cached(
            "INSERT INTO results (request, decode, id, event) VALUES (?1, ?2,
             (SELECT coalesce(max(id), 0) + 1 FROM results WHERE request = ?1 AND decode = ?2), ?3)",
        )?
        .execute(params![request, decode, id])?;
    Ok(())
}

/// Records that orch writes the file of an artifact into a workspace, if both exist.
pub(super) fn insert_file(
    connection: &Connection,
    workspace_path: Option<&str>,
    run: &str,
    micros: i64,
    artifact: Option<&Artifact>,
) -> rusqlite::Result<()> {
    let artifact_file = artifact.and_then(|artifact| Some((artifact, artifact.path.as_ref()?)));
    let (Some((artifact, path)), Some(workspace_path)) = (artifact_file, workspace_path) else { return Ok(()) };
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO files (workspace, path, digest, run, event) VALUES (?1, ?2, ?3, ?4,
             max(?5, (SELECT coalesce(max(event), 0) + 1 FROM files WHERE workspace = ?1 AND path = ?2)))",
        )?
        .execute(params![workspace_path, path, artifact.digest.as_str(), run, micros])?;
    Ok(())
}
