//! Validates documents against JSON Schemas with ajv in its strict mode.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::{Value, json};

const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/ajv");

/// The folder with ajv. Prints a notice and returns `None` if npm can't install it.
fn modules() -> Option<&'static Path> {
    static FOLDER: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    match FOLDER.get_or_init(|| super::npm::install(SOURCES, "ajv")) {
        Ok(folder) => Some(folder),
        Err(reason) => {
            super::print_skipped("the published schemas are not tested with ajv", reason);
            None
        }
    }
}

/// Validates documents. Returns the first error of each document that does not fit the schema. Fails if ajv refuses the
/// schema; returns `None` if npm can't install ajv.
pub(crate) fn validation_errors(schema: &Value, documents: &[&Value]) -> Option<Vec<Option<String>>> {
    let folder = tempfile::tempdir_in(modules()?).unwrap();
    let (script, input) = (folder.path().join("validate.cjs"), folder.path().join("input.json"));
    fs::copy(format!("{SOURCES}/validate.cjs"), &script).unwrap();
    fs::write(&input, json!({ "schema": schema, "documents": documents }).to_string()).unwrap();
    let output = Command::new("node").arg(script).arg(input).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(serde_json::from_slice(&output.stdout).unwrap())
}
