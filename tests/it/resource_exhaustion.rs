//! Resource exhaustion: orch refuses files that would take too much time or memory, with a clear message, soon and in
//! little memory.
#![cfg(target_os = "linux")]

use std::fs::File;
use std::io::Write as _;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::support::{Orch, Reply, RunOutput, Server};

/// The maximum time of a check; a debug build on a busy machine is slow.
const TIME: Duration = Duration::from_mins(3);
/// The maximum memory of a check, in kB.
const MEMORY: u64 = 400_000;

/// Runs the program to its end, and asserts how long it takes and how much memory it uses.
#[track_caller]
fn run_within_limits(orch: &Orch, args: &[&str]) -> RunOutput {
    let mut command = orch.command(args);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (begun, mut most) = (Instant::now(), 0);
    // Threads read the output, so that a long one does not block the program.
    let read = |from: Option<Box<dyn std::io::Read + Send>>| {
        std::thread::spawn(move || {
            let mut text = String::new();
            from.unwrap().read_to_string(&mut text).unwrap();
            text
        })
    };
    let stdout = read(child.stdout.take().map(|pipe| Box::new(pipe) as _));
    let stderr = read(child.stderr.take().map(|pipe| Box::new(pipe) as _));
    let status = loop {
        most = most.max(memory(&child));
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if begun.elapsed() > TIME {
            child.kill().unwrap();
            panic!("{args:?} still runs after {TIME:?}");
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    assert!(most < MEMORY, "{args:?} took {most} kB");
    RunOutput { code: status.code().unwrap_or(-1), stdout: stdout.join().unwrap(), stderr: stderr.join().unwrap() }
}

/// The peak memory of the program so far, in kB; 0 before it has begun and when it has ended. A new process has the
/// name and the memory of this one for a moment. It gets the name of its program after the memory of its own.
fn memory(child: &Child) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
    if !status.starts_with("Name:\torch\n") {
        return 0;
    }
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|text| text.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

#[test]
fn the_memory_of_the_program_is_measured() {
    let orch = Orch::empty();
    orch.write("pipelines/main.yaml", "name: main\nsteps:\n  - { id: wait, run: [sleep, '600'] }\n");
    let mut child = orch
        .command(&["pipeline", "run", "pipelines/main.yaml"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    while memory(&child) == 0 {
        assert!(begun.elapsed() < TIME && child.try_wait().unwrap().is_none());
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_prompt_that_includes_itself_is_refused_quickly() {
    let orch = Orch::empty();
    orch.write("prompts/a.md", &"{% include 'a.md' %}\n".repeat(30));
    orch.write("pipelines/main.yaml", "name: main\nagents: { w: { model: openai/gpt-4 } }\nsteps:\n  - { id: go, agent: w, prompt: a.md, output: x, schema: text }\n");
    validate(&orch).exits(2).says("ORCH0404");
}

#[track_caller]
fn validate(orch: &Orch) -> RunOutput {
    run_within_limits(orch, &["pipeline", "validate"])
}

fn create_huge_file(orch: &Orch, name: &str) {
    let mut file = File::create(orch.path().join(name)).unwrap();
    let line = "# nothing but a comment\n".repeat(4096);
    for _ in 0..1100 {
        file.write_all(line.as_bytes()).unwrap();
    }
    assert!(file.metadata().unwrap().len() > 100 << 20);
}

#[test]
fn a_file_of_100_mb_is_refused_unread() {
    for name in ["pipelines/default.yaml", "orch.yaml", "prompts/coder.md", "schemas/plan.schema.json"] {
        let orch = Orch::new();
        create_huge_file(&orch, name);
        validate(&orch).exits(2).says(&format!("`{name}` is larger than 4 MiB"));
    }
    let orch = Orch::new();
    create_huge_file(&orch, "review.json");
    let args = ["schema", "check", "--artifact", "review.json", "--schema", "review"];
    run_within_limits(&orch, &args).exits(2).says("`review.json` is larger than 4 MiB");
}

#[test]
fn nested_yaml_aliases_do_not_exhaust_the_memory() {
    let mut text = String::from("name: x\nsteps:\n  - &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for i in 1..30 {
        let line = format!("*a{}, ", i - 1).repeat(10);
        text.push_str(&format!("  - &a{i} [{}]\n", line.trim_end_matches(", ")));
    }
    for name in ["pipelines/default.yaml", "orch.yaml"] {
        let orch = Orch::new();
        orch.write(name, &text);
        validate(&orch).exits(2).says("the file holds more than 100000 values").says("counted with aliases expanded");
    }
}

#[test]
fn deep_nesting_does_not_overflow_the_stack() {
    let (open, close) = ("[".repeat(10_000), "]".repeat(10_000));
    let block: String = (0..10_000).map(|depth| format!("{}a:\n", " ".repeat(depth % 180))).collect();
    let indented: String = (0..2_000).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
    for text in [format!("name: {open}{close}\n"), format!("name: {open}\n"), block, indented, "- ".repeat(10_000)] {
        let orch = Orch::new();
        orch.write("pipelines/default.yaml", &text);
        let ran = validate(&orch).exits(2);
        assert!(ran.stderr.contains("error[ORCH01"), "{}", &ran.stderr[..ran.stderr.len().min(500)]);
    }
    let deep = ["{\"items\":".repeat(10_000), "{}".to_owned(), "}".repeat(10_000)].concat();
    let orch = Orch::new();
    orch.write("schemas/plan.schema.json", &deep);
    let ran = validate(&orch).exits(2);
    assert!(
        ran.stderr.contains("error[ORCH01") && ran.stderr.contains("schemas/plan.schema.json"),
        "{}",
        ran.stderr.len()
    );
}

#[test]
fn deep_templates_do_not_overflow_the_stack() {
    let many = |text: &str| text.repeat(10_000);
    for text in [
        format!("{{{{ {}1{} }}}}", many("("), many(")")),
        format!("{{{{ {}{} }}}}", many("["), many("]")),
        format!("{{{{ {}task }}}}", many("not ")),
        format!("{{{{ task{} }}}}", many(" | trim")),
        format!("{{{{ task{} }}}}", many(" ~ task")),
        format!("{{{{ task{} }}}}", many("[0]")),
        format!("{{{{ {}2 }}}}", many("1 if task else ")),
        format!("{}{}", many("{% if task %}"), many("{% endif %}")),
        format!("{{% if task %}}{}{{% endif %}}", many("{% elif task %}")),
        format!("{{% filter trim{} %}}{{% endfilter %}}", many(" | trim")),
    ] {
        let orch = Orch::new();
        orch.write("prompts/coder.md", &text);
        let ran = validate(&orch).exits(2);
        assert!(ran.stderr.contains("error[ORCH0401]"), "{}", &text[..40]);
        // The template is nested through an include, and in the pipeline itself.
        let orch = Orch::new();
        orch.write("prompts/deep.md", &text);
        orch.write("prompts/coder.md", "{% include \"deep.md\" %}");
        let ran = validate(&orch).exits(2);
        assert!(ran.stderr.contains("error[ORCH0401]"), "{}", &text[..40]);
    }
    let orch = Orch::new();
    let when = format!("prompt: coder.md\n    when: {}task", many("not "));
    orch.edit("pipelines/default.yaml", "prompt: coder.md", &when);
    validate(&orch).exits(2).says("error[ORCH0401]");
}

#[test]
fn an_endless_loop_in_a_prompt_fails_the_step() {
    let server = Server::start(|_| Reply::status(500, "nobody asks"));
    let orch = Orch::new().with(&server);
    let endless = "{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}{{ c }}{% endfor %}{% endfor %}{% endfor %}";
    orch.write("prompts/planner.md", endless);
    validate(&orch).exits(0);
    let args = ["pipeline", "run", "pipelines/default.yaml", "--task", "x"];
    let ran = run_within_limits(&orch, &args).exits(1);
    assert!(ran.stderr.contains("template_error"), "{}", ran.stderr);
    assert_eq!(server.requests().len(), 0);
}

#[test]
fn an_endlessly_growing_prompt_fails_the_step() {
    let server = Server::start(|_| Reply::status(500, "nobody asks"));
    let orch = Orch::new().with(&server);
    let grows = "{% set n = namespace(x=task) %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}{{ n.x }}";
    orch.write("prompts/planner.md", grows);
    let ran = run_within_limits(&orch, &["pipeline", "run", "pipelines/default.yaml", "--task", "0123456789"]).exits(1);
    assert!(ran.stderr.contains("template_error"), "{}", ran.stderr);
}

#[test]
fn a_pattern_with_catastrophic_backtracking_does_not_hang_a_check() {
    let orch = Orch::new();
    let value = format!("{}!", "a".repeat(50_000));
    for pattern in ["^(a+)+$", "^(a|a)*$", "^(.*a){20}$"] {
        orch.write("schemas/odd.schema.json", &format!("{{ \"type\": \"string\", \"pattern\": \"{pattern}\" }}"));
        orch.write("odd.json", &format!("\"{value}\""));
        let ran = run_within_limits(&orch, &["schema", "check", "--artifact", "odd.json", "--schema", "odd"]).exits(2);
        assert!(ran.stderr.contains("text that matches"), "{}", &ran.stderr[..ran.stderr.len().min(500)]);
    }
    // Only a backtracking engine accepts one of these patterns; the other one compiles to a huge program.
    for pattern in ["^(?=a)(a+)+$", "^((a{1000}){1000}){1000}$"] {
        orch.write("schemas/odd.schema.json", &format!("{{ \"type\": \"string\", \"pattern\": \"{pattern}\" }}"));
        run_within_limits(&orch, &["schema", "check"]).exits(2).says("error[ORCH0502]").says("schemas/odd.schema.json");
    }
}

#[test]
fn a_remote_reference_is_refused_and_nothing_is_fetched() {
    let server = Server::start(|_| Reply::status(200, "{}"));
    let orch = Orch::new();
    orch.edit(
        "schemas/plan.schema.json",
        "\"type\": \"object\"",
        &format!("\"$ref\": \"{}/x.json\", \"type\": \"object\"", server.url()),
    );
    validate(&orch).exits(2).says("error[ORCH0502]").says("is remote; put a copy into schemas/");
    run_within_limits(&orch, &["schema", "check"]).exits(2).says("is remote");
    assert_eq!(server.requests().len(), 0);
}

#[test]
fn circular_references_end() {
    let orch = Orch::new();
    orch.write("schemas/a.schema.json", "{ \"$ref\": \"b.schema.json\" }");
    orch.write("schemas/b.schema.json", "{ \"$ref\": \"a.schema.json\" }");
    orch.edit("pipelines/default.yaml", "    prompt: coder.md", "    schema: a\n    prompt: coder.md");
    let ran = validate(&orch);
    assert!([0, 2].contains(&ran.code), "{ran:?}");
    orch.write("odd.json", "{}");
    let ran = run_within_limits(&orch, &["schema", "check", "--artifact", "odd.json", "--schema", "a"]);
    assert!([0, 2].contains(&ran.code), "{ran:?}");
}

#[test]
fn pipelines_whose_calls_multiply_are_refused() {
    let orch = Orch::empty();
    for level in 0..26 {
        let step = |side: &str| format!("  - {{ id: {side}, pipeline: {side}{}.yaml }}\n", level + 1);
        for side in ["a", "b"] {
            let steps =
                if level == 25 { "  - { id: end, run: \"true\" }\n".to_owned() } else { step("a") + &step("b") };
            orch.write(&format!("pipelines/{side}{level}.yaml"), &format!("name: {side}{level}\nsteps:\n{steps}"));
        }
    }
    let ran = run_within_limits(&orch, &["pipeline", "validate", "pipelines/a0.yaml"]);
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("more than 100000 steps"), "{}", ran.stderr);
}

#[test]
fn nested_loops_are_checked_in_time() {
    let orch = Orch::empty();
    let mut steps = "{ id: end, run: \"true\" }".to_owned();
    for level in 0..30 {
        steps = format!("{{ id: s{level}, repeat: {{ max: 2, steps: [{steps}] }} }}");
    }
    orch.write("pipelines/deep.yaml", &format!("name: deep\nsteps:\n  - {steps}\n"));
    assert_eq!(run_within_limits(&orch, &["pipeline", "validate"]).code, 0);
}

#[test]
fn a_graph_of_pipelines_whose_calls_multiply_omits_their_steps() {
    let orch = Orch::empty();
    for level in 0..10 {
        let calls: String = (0..10).map(|at| format!("  - {{ id: s{at}, pipeline: p{}.yaml }}\n", level + 1)).collect();
        orch.write(&format!("pipelines/p{level}.yaml"), &format!("name: p{level}\nsteps:\n{calls}"));
    }
    orch.write("pipelines/p10.yaml", "name: last\nsteps:\n  - { id: a, run: 'true' }\n");
    for format in ["text", "mermaid", "dot", "svg"] {
        let ran = run_within_limits(&orch, &["pipeline", "graph", "pipelines/p0.yaml", "--format", format]).exits(0);
        assert!(ran.stdout.contains("steps not shown"), "{format}");
    }
}

#[test]
fn a_schema_with_nested_alternatives_is_a_finding() {
    let orch = Orch::new();
    let mut defs = serde_json::Map::new();
    for level in 0..40 {
        let next = serde_json::json!({ "$ref": format!("#/$defs/l{}", level + 1) });
        defs.insert(format!("l{level}"), serde_json::json!({ "anyOf": [next, next] }));
    }
    defs.insert("l40".to_owned(), serde_json::json!({ "type": "string" }));
    orch.write("schemas/plan.schema.json", &serde_json::json!({ "$ref": "#/$defs/l0", "$defs": defs }).to_string());
    for args in [&["pipeline", "validate"][..], &["schema", "check"]] {
        run_within_limits(&orch, args).exits(2).says("ORCH0502").says("this is too complex");
    }
}

#[test]
fn a_template_that_doubles_its_values_fails_the_step_quickly() {
    let orch = Orch::empty();
    orch.write("prompts/a.md", "{% set ns = namespace(s=[1]) %}{% for i in range(60) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}{{ ns.s == ns.s }}");
    let server = Server::saying("x");
    let orch = orch.with(&server);
    orch.write("pipelines/main.yaml", "name: main\nagents: { w: { model: lab/m } }\nsteps:\n  - { id: go, agent: w, prompt: a.md, output: x, schema: text }\n");
    run_within_limits(&orch, &["pipeline", "run", "pipelines/main.yaml"])
        .exits(1)
        .says("the value has more than a million nodes");
    assert!(server.requests().is_empty());
}

#[test]
fn an_import_that_is_too_deep_or_endless_is_refused() {
    let orch = Orch::new();
    orch.write("deep.json", &format!("{{\"orch_run\": 3, \"x\": {}{}}}", "[".repeat(20_000), "]".repeat(20_000)));
    run_within_limits(&orch, &["runs", "import", "deep.json"])
        .exits(2)
        .says("it is nested 20001 levels deep, and an export is nested 1024 levels deep at most");
    orch.write("long.json", "{");
    let long = File::options().write(true).open(orch.path().join("long.json")).unwrap();
    long.set_len(600 << 20).unwrap();
    run_within_limits(&orch, &["runs", "import", "long.json"]).exits(2).says("it is larger than 512 MiB");
    run_within_limits(&orch, &["extract", "long.json", "--schema", "plan"]).exits(2).says("it is larger than 64 MiB");
    run_within_limits(&orch, &["extract", "/dev/zero", "--schema", "plan"]).exits(2).says("it is larger than 64 MiB");
}
