//! Links the program for Linux at a fixed address, and tells the compiler what `orch --version --output json` shows.
//!
//! A position-independent program contains 48 000 addresses that the loader changes at each start, and it copies every
//! page of memory that contains one. docs/security.md describes what that means for the randomization of addresses.
//! With `ORCH_PIE=1`, the program is position-independent.

#![allow(clippy::print_stdout, reason = "cargo reads what a build script prints")]

use std::env;
use std::fs;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=ORCH_PIE");
    if has_known_loader() && env::var("ORCH_PIE").as_deref() != Ok("1") {
        // rustc passes `-pie` earlier in the command line; the last of these options counts, for gcc and for clang.
        println!("cargo::rustc-link-arg-bins=-no-pie");
    }
    println!("cargo::rerun-if-env-changed=ORCH_COMMIT");
    println!("cargo::rustc-env=ORCH_BUILD_TARGET={}", env::var("TARGET").unwrap_or_default());
    if let Some(commit) = commit() {
        println!("cargo::rustc-env=ORCH_BUILD_COMMIT={commit}");
    }
}

/// The commit of the source: the variable ORCH_COMMIT, or the record in a crate that cargo packed. The git repository is
/// not asked, because then each commit would compile orch again.
fn commit() -> Option<String> {
    let packed = || {
        let record = fs::read_to_string(".cargo_vcs_info.json").ok()?;
        let (_, rest) = record.split_once("\"sha1\": \"")?;
        rest.split('"').next().map(str::to_owned)
    };
    let commit = env::var("ORCH_COMMIT").ok().filter(|commit| !commit.is_empty()).or_else(packed)?;
    commit.chars().all(|character| character.is_ascii_hexdigit()).then_some(commit)
}

/// Whether the target is Linux on x86-64 or AArch64, with a dynamically linked glibc. A statically linked program would
/// not start: gcc ignores `-static-pie` if `-no-pie` follows.
fn has_known_loader() -> bool {
    let is = |name: &str, values: &[&str]| env::var(name).is_ok_and(|value| values.contains(&value.as_str()));
    let features = env::var("CARGO_CFG_TARGET_FEATURE").unwrap_or_default();
    is("CARGO_CFG_TARGET_OS", &["linux"])
        && is("CARGO_CFG_TARGET_ENV", &["gnu"])
        && is("CARGO_CFG_TARGET_ARCH", &["x86_64", "aarch64"])
        && !features.split(',').any(|feature| feature == "crt-static")
}
