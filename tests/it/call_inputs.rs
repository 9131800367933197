//! Values that a step passes to a called pipeline: which of them the check reports, and which only a strict check does.

use std::fs;

use orch::check::{Strictness, check_with_suppressions};
use orch::config::load;

/// A pipeline whose inputs accept only some values.
const CALLED: &str = r#"name: called
inputs:
  word: { type: string, minLength: 3 }
  code: { type: string, pattern: "^[a-z]+$", maxLength: 8 }
  size: { type: integer, minimum: 1, maximum: 5 }
  kind: { enum: [a, b] }
  names: { type: array, items: { type: string, minLength: 1 }, minItems: 1 }
  plan: { type: object, required: [title], properties: { title: { type: string, minLength: 3 }, size: { type: integer } } }
  free: { type: object }
steps:
  - { id: tell, run: [echo, "{{ word }}{{ code }}{{ size }}{{ kind }}{{ names | join }}{{ plan.title }}{{ free | length }}"], access: none }
"#;

/// The inputs of the calling pipeline.
const INPUTS: &str = r#"
  text: { type: string }
  word: { type: string, minLength: 4 }
  code: { type: string, description: The code, pattern: "^[a-z]+$", maxLength: 6 }
  n: { type: integer }
  small: { type: integer, minimum: 1, maximum: 5 }
  positive: { type: integer, minimum: 1 }
  kind: { enum: [a, b] }
  letter: { enum: [a, b, c] }
  names: { type: array, items: { type: string } }
  words: { type: array, items: { type: string, minLength: 1 }, minItems: 2 }
  plan: { type: object, required: [title], properties: { title: { type: string, minLength: 3 }, size: { type: integer } } }
  draft: { type: object, required: [title], properties: { title: { type: string } } }
  data: {}
"#;

/// The findings about the call of a pipeline with one input, each with its code.
fn findings(input: &str, value: &str, when: Option<&str>, strictness: Strictness) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("pipelines")).unwrap();
    let names = ["word", "code", "size", "kind", "names", "plan", "free"];
    let valid = ["'abcd'", "'abc'", "1", "'a'", "['x']", "{'title': 'abc'}", "{}"];
    let others = names.iter().zip(valid).filter(|(name, _)| **name != input);
    let mut with: Vec<String> = others.map(|(name, value)| format!("{name}: \"{value}\"")).collect();
    with.push(format!("{input}: \"{value}\""));
    let when = when.map_or(String::new(), |when| format!("when: \"{when}\", "));
    let main = format!(
        "name: main\ninputs:{INPUTS}steps:\n  - {{ id: call, {when}pipeline: called.yaml, with: {{ {} }} }}\n",
        with.join(", ")
    );
    fs::write(folder.path().join("pipelines/main.yaml"), &main).unwrap();
    fs::write(folder.path().join("pipelines/called.yaml"), CALLED).unwrap();
    let project = load(&folder.path().join("pipelines/main.yaml")).unwrap_or_else(|found| panic!("{found:?}\n{main}"));
    let found = check_with_suppressions(&project, strictness).0;
    // An input that no text uses is irrelevant here.
    let relevant = found.iter().filter(|finding| finding.code.as_str() != "ORCH0310");
    relevant.map(|finding| format!("{} {}", finding.code.as_str(), finding.message)).collect()
}

#[test]
fn a_guard_with_bounds_makes_a_number_fit() {
    let none: [&str; 0] = [];
    for (value, when) in [
        ("n", "n >= 1 and n <= 5"),
        ("n", "n > 0 and n < 6"),
        ("n", "not (n < 1 or n > 5)"),
        ("n", "1 <= n <= 5"),
        ("n", "n == 3"),
        ("n", "n in [1, 2]"),
        ("n", "n is ge(1) and n is le(5)"),
        ("positive", "positive <= 5"),
        ("positive", "not positive > 5"),
    ] {
        assert_eq!(findings("size", value, Some(when), Strictness::Strict), none, "{value} {when}");
    }
    for value in ["positive if positive <= 5 else 5", "[positive, 5] | min", "small"] {
        assert_eq!(findings("size", value, None, Strictness::Strict), none, "{value}");
    }
    for (value, when) in [
        ("positive", "positive >= 2"),
        ("positive", "positive <= 6"),
        ("positive", "positive <= 5 or n == 1"),
        ("positive", "positive in [5, 6]"),
        ("n", "n <= 5"),
        ("n", "n >= 1"),
    ] {
        let found = findings("size", value, Some(when), Strictness::Normal);
        assert!(found.len() == 1 && found[0].starts_with("ORCH0609"), "{value} {when}: {found:?}");
    }
}

#[test]
fn a_strict_check_reports_that_nothing_ensures_that_a_value_fits() {
    let none: [&str; 0] = [];
    for (input, value, requirement) in [
        ("word", "text", "`minLength`"),
        ("word", "kind ~ text", "`minLength`"),
        ("code", "text", "`pattern`"),
        ("code", "word", "`pattern`"),
        ("size", "n", "`minimum`"),
        ("kind", "text", "`enum`"),
        ("names", "names", "`minLength` of an item"),
        ("plan", "draft", "`minLength` of `title`"),
        ("plan", "data", "`type`"),
    ] {
        assert_eq!(findings(input, value, None, Strictness::Normal), none, "{input}: {value}");
        let found = findings(input, value, None, Strictness::Strict);
        let expected = format!("ORCH0630 nothing ensures that `{value}` fits the input `{input}`, which requires ");
        let is_expected = |message: &String| message.starts_with(&expected) && message.ends_with(requirement);
        assert!(found.iter().any(is_expected), "{input}: {value}: {found:?}");
    }
    for (input, value) in [
        ("word", "word"),
        ("word", "plan.title"),
        ("code", "code"),
        ("size", "small"),
        ("kind", "kind"),
        ("names", "words"),
        ("plan", "plan"),
        ("free", "plan"),
        ("free", "draft"),
    ] {
        assert_eq!(findings(input, value, None, Strictness::Strict), none, "{input}: {value}");
    }
    // A condition may show what the schema of the value does not say.
    for (input, value, when) in [("word", "text", "text | length >= 3"), ("kind", "text", "text in ['a', 'b']")] {
        assert_eq!(findings(input, value, Some(when), Strictness::Strict), none, "{input}: {value}");
    }
    for (input, value, when) in [("word", "text", "text | length >= 2"), ("kind", "text", "text in ['a', 'c']")] {
        assert_eq!(findings(input, value, Some(when), Strictness::Strict).len(), 1, "{input}: {value}");
    }
}

#[test]
fn what_a_schema_says_and_an_input_refuses_is_a_warning_without_strict_too() {
    for (input, value, words) in [
        ("kind", "letter", "may be `c`"),
        ("size", "positive", "may be any number at least 1"),
        ("word", "small", "is a number, but the input `word` accepts a string"),
    ] {
        let found = findings(input, value, None, Strictness::Normal);
        let is_found = found.iter().any(|message| message.starts_with("ORCH0609") && message.contains(words));
        assert!(is_found, "{input}: {value}: {found:?}");
    }
}
