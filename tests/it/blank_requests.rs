//! Requests of agents whose message or prompt renders to nothing.

use crate::step_kinds::{project, run};
use crate::support::{Orch, Server};

/// A template that prints nothing in these tests.
const BLANK: &str = "{% if task == 'never' %}{{ task }}{% endif %}";

fn agent_step(message: &str) -> String {
    format!("  - {{ id: one, agent: a, schema: text, prompt: one.md, message: \"{message}\", output: said }}\n")
}

#[test]
fn the_prompt_takes_the_place_of_a_message_that_renders_to_nothing() {
    for message in [BLANK, "{% for word in [] %}{{ word }}{{ task }}{% endfor %}", "{{ task | replace('do it', ' ') }}"]
    {
        let server = Server::saying("fine");
        let orch = project(&server, &agent_step(message));
        let checked = orch.run(&["pipeline", "validate", "--strict"]).exits(0);
        assert!(!checked.stderr.contains("ORCH0312"), "{message}: {checked:?}");
        let (ran, report) = run(&orch, &[]);
        assert_eq!(ran.code, 0, "{message}: {ran:?}\n{report}");
        let requests = server.requests();
        assert_eq!(requests.len(), 1, "{message}");
        assert_eq!((requests[0].system().as_str(), requests[0].last().as_str()), ("", "step:one"), "{message}");
    }
}

#[test]
fn a_prompt_that_renders_to_nothing_leaves_the_system_prompt_empty() {
    let server = Server::saying("fine");
    let orch = project(&server, &agent_step("Say it: {{ task }}"));
    orch.write("prompts/one.md", BLANK);
    let checked = orch.run(&["pipeline", "validate", "--strict"]).exits(0);
    assert!(!checked.stderr.contains("ORCH0312"), "{checked:?}");
    let (ran, report) = run(&orch, &[]);
    assert_eq!(ran.code, 0, "{ran:?}\n{report}");
    let requests = server.requests();
    assert_eq!((requests[0].system().as_str(), requests[0].last().as_str()), ("", "Say it: do it"));
}

#[test]
fn a_request_without_any_text_is_reported_and_fails_with_the_right_advice() {
    let server = Server::saying("fine");
    let orch = project(&server, &agent_step(BLANK));
    orch.write("prompts/one.md", BLANK);
    let warning = "the message and the prompt of step `one` may both be empty, and the step then fails";
    orch.run(&["pipeline", "validate"]).exits(0).says("warning[ORCH0312]").says(warning);
    let (ran, report) = run(&orch, &[]);
    assert_eq!(ran.code, 1, "{ran:?}");
    let error = &report["steps"][0]["error"];
    assert_eq!(error["class"], "template_error", "{error}");
    assert_eq!(error["message"], "the message and the prompt of step `one` are both empty", "{error}");
    assert!(error["hint"].as_str().unwrap().contains("`prompts/one.md` or into the `message`"), "{error}");
    assert!(server.requests().is_empty());
}

/// The findings of a pipeline without inputs, whose only step has this prompt and further keys.
fn says_blank(prompt: &str, keys: &str) -> bool {
    let orch = Orch::empty();
    let step = format!("{{ id: one, agent: a, prompt: one.md, output: said, schema: text{keys} }}");
    orch.write("pipelines/main.yaml", &format!("name: test\nagents: {{ a: {{ model: auto }} }}\nsteps:\n  - {step}\n"));
    orch.write("prompts/one.md", prompt);
    let ran = orch.run(&["pipeline", "validate", "--format", "json"]);
    assert_eq!(ran.code, 0, "{prompt} {keys}: {ran:?}");
    ran.stdout.contains("ORCH0312")
}

#[test]
fn only_a_prompt_that_may_print_nothing_is_reported() {
    for prompt in [
        "Say it.",
        "{% set x = 3 %}{{ x }}",
        "{{ 'a' }}",
        "{{ [1, 2] | tojson }}",
        "{% if steps %}a{% else %}b{% endif %}",
        "{% with x = 1 %}{{ x }}{% endwith %}",
        "{% if steps %}{% endif %}{# a comment #}Say it.",
    ] {
        assert!(!says_blank(prompt, ""), "{prompt}");
    }
    for prompt in [
        "{% if steps %}a{% endif %}",
        "{% for x in [1] %}{{ x }}{% endfor %}",
        "{% set x %}Say it.{% endset %}",
        "{{ 'a' if steps }}",
        "{% if steps %}a{% elif steps is none %}b{% endif %}",
        "{{ ' ' }}{# Say it. #}",
    ] {
        assert!(says_blank(prompt, ""), "{prompt}");
    }
    // The item of the list is in the message.
    assert!(!says_blank("{{ ' ' }}", ", for_each: \"[1]\""));
    assert!(says_blank("{{ ' ' }}", ", message: \"{% for x in [1] %}{{ x }}{% endfor %}\""));
    assert!(!says_blank("{{ ' ' }}", ", message: \"Say it.\""));
}
