//! `orch --version` and `orch self-update`.

use serde_json::{Value, json};

use crate::support::Orch;

#[test]
fn the_version_as_json_describes_the_build() {
    let orch = Orch::empty();
    let text = format!("orch {}\n", env!("CARGO_PKG_VERSION"));
    for args in [&["--version"][..], &["-V"], &["--version", "--output", "text"], &["--color", "never", "-V"]] {
        assert_eq!(orch.run(args).exits(0).stdout, text, "{args:?}");
    }
    let parse = |args: &[&str]| -> Value { serde_json::from_str(&orch.run(args).exits(0).stdout).unwrap() };
    let shown = parse(&["--version", "--output", "json"]);
    assert_eq!(shown, parse(&["--output=json", "--version"]));
    assert_eq!((&shown["name"], &shown["version"]), (&json!("orch"), &json!(env!("CARGO_PKG_VERSION"))));
    assert_eq!(shown["journal_format"], orch::store::JOURNAL_FORMAT);
    assert_eq!(shown["export_format"], orch::store::EXPORT_FORMAT);
    assert!(shown["target"].as_str().unwrap().contains(std::env::consts::ARCH), "{shown}");
    let features = shown["features"].as_array().unwrap();
    assert_eq!(features.contains(&json!("local")), cfg!(feature = "local"), "{shown}");
    assert!(shown["commit"].is_null() || shown["commit"].as_str().unwrap().len() >= 7, "{shown}");
}

#[test]
fn an_invalid_format_of_the_version_is_an_error() {
    let orch = Orch::empty();
    orch.run(&["--version", "--output", "yaml"]).exits(2).says("invalid value 'yaml'");
    orch.run(&["--output", "json", "init"]).exits(2).says("write it after the command");
    assert!(orch.files().is_empty(), "the command did not run");
}

#[test]
fn self_update_describes_the_installation_and_changes_nothing() {
    let orch = Orch::empty();
    let shown: Value = serde_json::from_str(&orch.run(&["self-update", "--output", "json"]).exits(0).stdout).unwrap();
    // cargo built the tested program.
    assert_eq!(shown["method"], "build", "{shown}");
    assert_eq!(shown["version"], env!("CARGO_PKG_VERSION"));
    let text = orch.run(&["self-update"]).exits(0).stdout;
    let (note, command) = (shown["note"].as_str().unwrap(), shown["command"].as_str().unwrap());
    assert!(note.starts_with("built by cargo"), "{note}");
    assert!(text.ends_with(&format!(": {note}\n\nto update it, run: {command}\n")), "{text}");
    assert!(orch.files().is_empty());
}
