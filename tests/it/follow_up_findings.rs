//! A mistake that makes other parts of a project unknown gives one finding, and no further ones about these parts.

use crate::signatures::findings;
use crate::support::Orch;

const START: &str = "name: test\ninputs: { task: { type: string } }\n";

fn found(orch: &Orch) -> Vec<String> {
    findings(orch, &[]).into_values().flatten().collect()
}

#[test]
fn a_mistake_in_the_settings_of_a_server_is_the_only_finding() {
    let orch = Orch::empty();
    orch.write("orch.yaml", "mcp: { docs: { url: \"https://docs.example/mcp\", acess: read } }\n");
    let steps = "steps:\n  - { id: look, call: docs.find, args: { a: \"{{ task }}\" } }\n  - { id: again, call: \
                 docs.find, args: { a: b } }\n";
    orch.write("pipelines/main.yaml", &format!("{START}{steps}"));
    let found = found(&orch);
    assert!(found.len() == 1 && found[0].starts_with("ORCH0201 unknown key `acess`"), "{found:#?}");
}

#[test]
fn a_called_pipeline_that_does_not_exist_is_the_only_finding() {
    let orch = Orch::empty();
    let steps = "steps:\n  - { id: sub, pipeline: subb.yaml, with: { n: task } }\n  - { id: use, inputs: [total, \"rest?\"], \
                 run: [echo, \"{{ total.value }}\", \"{{ rest | default('x') }}\"], access: none, when: total.value > 3 }\n\
                 outputs: { sum: total.value }\n";
    orch.write("pipelines/main.yaml", &format!("{START}{steps}"));
    let found = found(&orch);
    assert!(found.len() == 1 && found[0].starts_with("ORCH0320"), "{found:#?}");
}
