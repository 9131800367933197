//! TypeScript's checker for the bodies of requests, with the types of the official SDKs.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sdk-types");

/// The folder with the SDKs; `None`, with a notice, where npm can't install them.
fn modules() -> Option<&'static Path> {
    static FOLDER: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    match FOLDER.get_or_init(|| super::npm::install(SOURCES, "sdk-types")) {
        Ok(folder) => Some(folder),
        Err(why) => {
            // The macro's output is only shown for failing tests.
            let _ = writeln!(std::io::stderr(), "SKIPPED: the types of the official SDKs are not tested: {why}");
            None
        }
    }
}

/// The output of the checker for this code, which may import `./types`; `None` where npm can't install the SDKs. The
/// code is the file `bodies.ts` in its messages.
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
