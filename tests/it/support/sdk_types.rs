//! Checks the bodies of requests against the types of the official SDKs, with TypeScript.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sdk-types");

/// The folder with the SDKs. Prints a notice and returns `None` if npm can't install them.
fn modules() -> Option<&'static Path> {
    static FOLDER: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    match FOLDER.get_or_init(|| super::npm::install(SOURCES, "sdk-types")) {
        Ok(folder) => Some(folder),
        Err(reason) => {
            super::print_skipped("the types of the official SDKs are not tested", reason);
            None
        }
    }
}

/// Checks TypeScript code, which may import `./types`, and returns the output of the checker. The messages call the
/// code `bodies.ts`. Returns `None` if npm can't install the SDKs.
pub(crate) fn type_check(code: &str) -> Option<Output> {
    let modules = modules()?;
    let folder = tempfile::tempdir_in(modules).unwrap();
    for name in ["types.ts", "tsconfig.json"] {
        fs::copy(format!("{SOURCES}/{name}"), folder.path().join(name)).unwrap();
    }
    fs::write(folder.path().join("bodies.ts"), code).unwrap();
    let checker = modules.join("node_modules/typescript/bin/tsc");
    Some(Command::new("node").arg(checker).arg("-p").arg(folder.path()).output().unwrap())
}
