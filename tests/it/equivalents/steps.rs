//! Keys of steps.

use super::At::{Before, File, Step, Top};
use super::{LAB, Row, row};

#[rustfmt::skip]
pub(super) const ROWS: &[Row] = &[
    row(Step, "run: make\nif: task == 'x'", "write `when` in place of `if`", &[(Step, "run: make\nwhen: task == 'x'")]),
    row(Step, "run: make\nunless: task == 'x'", "write the opposite as `when: not (CONDITION)`", &[(Step, "run: make\nwhen: not (task == 'x')")]),
    row(Step, "run: make\nelse: deploy", "write a second step with the opposite condition: `when: not (CONDITION)`", &[
        (Before, "- { id: first, run: make, when: task == 'x' }"), (Step, "run: deploy\nwhen: not (task == 'x')"),
    ]),
    row(Step, "run: make\ngoto: plan", "steps run from top to bottom, without jumps: write the next step below, and give each step of a branch its own `when: CONDITION`", &[
        (Step, "run: make\nwhen: task == 'x'"),
    ]),
    row(Step, "run: make\nneeds: [plan]", "steps run from top to bottom: put this step below those that it needs, and list the artifacts that it reads, as `inputs: [NAME]`", &[
        (Step, "run: make\ninputs: [plan]"),
    ]),
    row(Step, "run: make\nname: Build it", "a step is named by its `id: NAME`; a longer title can be a comment", &[
        (File, "name: words\nsteps:\n  - id: build # Build it\n    run: make\n"),
    ]),
    row(Step, "run: make\ndescription: Build it", "a step has no description: write it as a comment, `# TEXT`", &[(Step, "# Build it\nrun: make")]),
    row(Step, "type: command\nrun: make", "the kind of a step follows from its key: `agent: NAME`, `run: COMMAND`, `call: TOOL`, `write: EXPRESSION`, `approve: TEXT`, `parallel`, `repeat`, `steps` or `pipeline: FILE`", &[
        (Step, "run: make"),
    ]),
    row(Step, "cmd: make", "write `run` in place of `cmd`", &[(Step, "run: make")]),
    row(Step, "command: make", "write `run` in place of `command`", &[(Step, "run: make")]),
    row(Step, "script: [make, make test]", "write the lines as one text for `sh -c`: `run: COMMAND`", &[(Step, "run: |\n  make\n  make test")]),
    row(Step, "run: make\nshell: bash", "`run: COMMAND` with one text runs with `sh -c`; for another shell write `run: [bash, -c, COMMAND]`", &[(Step, "run: [bash, -c, make]")]),
    row(Step, "run: make\narguments: [test]", "write the program and its arguments as one list, `run: [PROGRAM, ARGUMENT]`; the arguments of a tool are a mapping, `args: { NAME: TEXT }`", &[(Step, "run: [make, test]")]),
    row(Step, "tool: read\nargs: { path: a.txt }", "write `call` in place of `tool`", &[(Step, "call: read\nargs: { path: a.txt }")]),
    row(Step, "call: read\ntool_args: { path: a.txt }", "write `args` in place of `tool_args`", &[(Step, "call: read\nargs: { path: a.txt }")]),
    row(Step, "run: make\nworking-directory: app", "write `cwd` in place of `working-directory`", &[(Step, "run: make\ncwd: app")]),
    row(Step, "run: cat\nstdin_text: task", "write `stdin` in place of `stdin_text`", &[(Step, "run: cat\nstdin: task")]),
    row(Step, "run: make\nexit_codes: [0, 2]", "write `expect: { exit_code: [CODE] }`", &[(Step, "run: make\nexpect: { exit_code: [0, 2] }")]),
    row(Step, "uses: actions/checkout@v4", "orch has no actions: call the program itself with `run: COMMAND`, or another pipeline with `pipeline: FILE`", &[
        (Step, "run: [git, clone, 'https://example.com/x']"),
    ]),
    row(Step, "run: make\nimage: rust:1", "commands run on this machine: remove this key, and start a container yourself, as `run: [docker, run, --rm, IMAGE, COMMAND]`", &[
        (Step, "run: [docker, run, --rm, 'rust:1', make]"),
    ]),
    row(Step, "sleep: 5", "write `run: [sleep, SECONDS]` with `access: none`", &[(Step, "run: [sleep, '5']\naccess: none")]),
    row(Step, "run: make\nenvironment: { A: b }", "list the names of the variables that the command reads, as `env: [NAME]`", &[(Step, "run: make\nenv: [A]")]),
    row(Step, "run: make\nsecrets: [TOKEN]", "secrets are environment variables: list their names where they are used, as `env: [NAME]`, and under `secrets:` of orch.yaml", &[
        (Step, "run: make\nenv: [TOKEN]"),
    ]),
    row(Step, "run: make\nwhile: not plan.ok", "write `repeat: { until: not (CONDITION), max: ROUNDS, steps: [STEPS] }`", &[
        (Step, "inputs: [plan]\nrepeat: { until: not (not plan.ok), max: 3, steps: [{ id: make, run: make, inputs: [plan] }] }"),
    ]),
    row(Step, "run: make\nloop: [a, b]", "write `for_each: LIST` to run the step for each item, or `repeat: { until: CONDITION, max: ROUNDS, steps: [STEPS] }`", &[
        (Step, "run: [make, '{{ item }}']\nfor_each: \"['a', 'b']\"\nmax_parallel: 1"),
    ]),
    row(Step, "run: make\ninputs: [plan]\nmax_parallel: 1\nforeach: plan.steps", "write `for_each` in place of `foreach`", &[
        (Step, "run: make\ninputs: [plan]\nmax_parallel: 1\nfor_each: plan.steps"),
    ]),
    row(Step, "run: make\nmatrix: { os: [a, b] }", "write `for_each: LIST` at the step, and use each value as `item` in its templates; nest steps for a second dimension", &[
        (Step, "run: [make, '{{ item }}']\nfor_each: \"['a', 'b']\"\nmax_parallel: 1"),
    ]),
    row(Step, "run: make\nmax_iterations: 3", "write `repeat: { max: ROUNDS, steps: [STEPS] }`", &[(Step, "repeat: { max: 3, steps: [{ id: make, run: make }] }")]),
    row(Step, "run: make\nuntil: task == 'x'", "`until` belongs to a loop: write it under `repeat:`", &[(Step, "repeat:\n  until: task == 'x'\n  max: 3\n  steps: [{ id: make, run: make }]")]),
    row(Step, "run: make\nconcurrency: 2", "limit the parallel items of `for_each` or steps of `parallel` with `max_parallel: NUMBER`, and those of a run with `limits: { max_concurrency: NUMBER }` in orch.yaml", &[
        (Step, "run: make\nfor_each: \"['a', 'b']\"\naccess: none\nmax_parallel: 2"),
    ]),
    row(Step, "run: make\nasync: true", "put steps that run at the same time into a group: `parallel: [STEPS]`", &[
        (Step, "parallel: [{ id: make, run: make, access: none }, { id: lint, run: lint, access: none }]"),
    ]),
    row(Step, "repeat:\n  while: task == 'x'\n  max: 3\n  steps: [{ id: make, run: make }]", "write the opposite as `until: not (CONDITION)`", &[
        (Step, "repeat:\n  until: not (task == 'x')\n  max: 3\n  steps: [{ id: make, run: make }]"),
    ]),
    row(Step, "repeat:\n  condition: task == 'x'\n  max: 3\n  steps: [{ id: make, run: make }]", "write `until` in place of `condition`", &[
        (Step, "repeat:\n  until: task == 'x'\n  max: 3\n  steps: [{ id: make, run: make }]"),
    ]),
    row(Step, "repeat:\n  max_iterations: 3\n  steps: [{ id: make, run: make }]", "write `max` in place of `max_iterations`", &[(Step, "repeat:\n  max: 3\n  steps: [{ id: make, run: make }]")]),
    row(Step, "repeat:\n  max: 3\n  do: [{ id: make, run: make }]", "write `steps` in place of `do`", &[(Step, "repeat:\n  max: 3\n  steps: [{ id: make, run: make }]")]),
    row(Step, "repeat:\n  until: task == 'x'\n  max: 3\n  on_exhausted: continue\n  steps: [{ id: make, run: make }]", "write `on_max_iterations` in place of `on_exhausted`", &[
        (Step, "repeat:\n  until: task == 'x'\n  max: 3\n  on_max_iterations: continue\n  steps: [{ id: make, run: make }]"),
    ]),
    row(Step, "run: make\non_failure: notify", "write `on_error: continue`, and add a step below it with `when: steps.ID.status == \"failed\"`", &[
        (Before, "- { id: build, run: make, on_error: continue }"), (Step, "run: notify\nwhen: steps.build.status == \"failed\""),
    ]),
    row(Step, "run: make\nalways: true", "put the step under `finally:` of the pipeline, which always runs at the end", &[(Top, "finally:\n  - { id: make, run: make }")]),
    row(Step, "run: make\ncontinue-on-error: true", "write `on_error: continue`", &[(Step, "run: make\non_error: continue")]),
    row(Step, "run: make\nmax_retries: 3", "write `retry: { max: NUMBER }`, which includes the first attempt", &[(Step, "run: make\nretry: { max: 4 }")]),
    row(Step, "run: make\nbackoff: 2s", "write `retry: { max: NUMBER, backoff: 1s }`", &[(Step, "run: make\nretry: { max: 3, backoff: 1s }")]),
    row(Step, "run: make\ntimeout-minutes: 10", "write `timeout: 10m`, with its unit", &[(Step, "run: make\ntimeout: 10m")]),
    row(Step, "run: make\ntimeout: 10", "give it a unit, as in `10s` or `10m`", &[(Step, "run: make\ntimeout: 10m")]),
    row(Step, "run: make\ntimeout: 30000", "give it a unit, as in `30000ms` for milliseconds or `30000s` for seconds", &[(Step, "run: make\ntimeout: 30000ms")]),
    row(Step, "run: make\ntimeout: '10'", "give it a unit, as in `10s` or `10m`", &[(Step, "run: make\ntimeout: 10m")]),
    row(Step, "run: make\ntimeout: 10 minutes", "write `10m`", &[(Step, "run: make\ntimeout: 10m")]),
    row(Step, "run: make\nretry:\n  attempts: 3", "write `max` in place of `attempts`", &[(Step, "run: make\nretry:\n  max: 3")]),
    row(Step, "run: make\nretry:\n  delay: 2s", "write `backoff` in place of `delay`", &[(Step, "run: make\nretry:\n  backoff: 2s")]),
    row(Step, "run: make\nretry:\n  retry_on: [timeout]", "write `on` in place of `retry_on`", &[(Step, "run: make\nretry:\n  on: [timeout]")]),
    row(Step, "run: make\nretry:\n  factor: 2", "the delay doubles with every attempt, up to 30 s: remove this key; `backoff: 1s` sets the first delay", &[(Step, "run: make\nretry:\n  backoff: 1s")]),
    row(Step, "run: make\nexpect:\n  code: [0]", "write `exit_code` in place of `code`", &[(Step, "run: make\nexpect:\n  exit_code: [0]")]),
    row(Step, "manual: true\nrun: deploy", "put a step that requests an approval before this one: `approve: TEXT`", &[(Before, "- { id: ask, approve: Deploy it? }"), (Step, "run: deploy")]),
    row(Step, "run: make\noutputs: { a: b }", "a step has one artifact, whose fields its schema names: `output: NAME`", &[(Step, "run: make\nschema: text\noutput: log")]),
    row(Step, "run: make\nschema: text\nsave_as: log", "write `output` in place of `save_as`", &[(Step, "run: make\nschema: text\noutput: log")]),
    row(Step, "run: make\nartifacts: { paths: [x] }", "name the artifact that the step produces, `output: NAME`, and the artifacts that it reads, `inputs: [NAME]`", &[(Step, "run: make\nschema: text\noutput: log")]),
    row(Step, "run: make\nreads: [plan]", "write `inputs` in place of `reads`", &[(Step, "run: make\ninputs: [plan]")]),
    row(Step, "agent: coder\nprompt: coder.md\noutput: again\nresponse_format: { type: json_object }", "a schema is a file in `schemas/`: write `schema: NAME` for `schemas/NAME.schema.json`, or `schema: text`", &[
        (Step, "agent: coder\nprompt: coder.md\noutput: again\nschema: plan"),
    ]),
    row(Step, "run: make\nvariables: { A: b }", "templates use the inputs of the run by their names; pass values to a called pipeline with `with: { NAME: EXPRESSION }`", &[
        (Step, "pipeline: other.yaml\nwith: { topic: task }"),
    ]),
    row(Step, "path: a.txt\ncontent: x", "write files with `write: \"[{'path': 'FILE', 'content': NAME}]\"`", &[(Step, "write: \"[{'path': 'a.txt', 'content': task}]\"")]),
    row(Step, "workflow: other.yaml", "write `pipeline` in place of `workflow`", &[(Step, "pipeline: other.yaml")]),
    row(Step, "run: make\npermissions: read-all", "declare how a step uses the workspace with `access: none`, `read` or `write`", &[(Step, "run: make\naccess: none")]),
    row(Step, "agent: coder\noutput: again\nschema: text\nsystem_prompt: Do it.", "write the role and the instructions of an agent into a file in `prompts/`, and name it in the step: `prompt: FILE.md`", &[
        (Step, "agent: coder\noutput: again\nschema: text\nprompt: coder.md"),
    ]),
    row(Step, "agent: coder\nprompt: coder.md\noutput: again\nschema: text\nuser_prompt: Do it.", "write the user message as `message: TEXT`; without it, orch sends the inputs of the run and of the step", &[
        (Step, "agent: coder\nprompt: coder.md\noutput: again\nschema: text\nmessage: Do it."),
    ]),
    row(Step, "run: make\nllm: gpt", "the model belongs to the agent: `model: PROVIDER/MODEL` under `agents:`", &[(super::At::Agent, "model: openai/gpt-4.1-mini")]),
    row(Step, "run: make\nmodel: gpt", "`model` belongs to an agent: write it under `agents:`", &[(super::At::Agent, "# under agents:\nmodel: openai/gpt-4.1-mini")]),
    row(Step, "run: make\ntools: [bash]", "`tools` belongs to an agent: write it under `agents:`", &[(super::At::Agent, "# under agents:\ncli: claude\ntools: [Bash]\nbudget: { seconds: 60 }")]),
    row(Step, "run: make\nmax_tokens: 100", "it belongs to the agent: `max_output_tokens: NUMBER` under `agents:`", &[(super::At::Agent, "model: openai/gpt-4.1-mini\nmax_output_tokens: 100")]),
    row(Step, "run: make\ntop_p: 0.9", "it belongs to an agent: write it under `agents:`", &[
        (super::At::Agent, "# under agents:\nmodel: lab/x\ntop_p: 0.9"), (super::At::Settings, LAB),
    ]),
    row(Step, "run: make\nstop: [END]", "it belongs to an agent: write it under `agents:`", &[
        (super::At::Agent, "# under agents:\nmodel: lab/x\nstop: [END]"), (super::At::Settings, LAB),
    ]),
    row(Step, "run: make\nreasoning_effort: high", "it belongs to the agent: `reasoning: high` under `agents:`", &[
        (super::At::Agent, "model: lab/x\nreasoning: high"), (super::At::Settings, LAB),
    ]),
    row(Step, "run: make\nstop_sequences: [END]", "it belongs to the agent: `stop: [TEXT]` under `agents:`", &[
        (super::At::Agent, "model: lab/x\nstop: [END]"), (super::At::Settings, LAB),
    ]),
    row(Step, "run: make\ntop_k: 40", "it belongs to the agent: `provider_options: { NAME: NUMBER }` under `agents:`", &[
        (super::At::Agent, "model: lab/x\nprovider_options: { top_k: 40 }"), (super::At::Settings, LAB),
    ]),
    row(Step, "run: make\npresence_penalty: 0.5", "it belongs to the agent: `provider_options: { NAME: NUMBER }` under `agents:`", &[
        (super::At::Agent, "model: lab/x\nprovider_options: { presence_penalty: 0.5 }"), (super::At::Settings, LAB),
    ]),
    row(Step, "run: make\nfrequency_penalty: 0.5", "it belongs to the agent: `provider_options: { NAME: NUMBER }` under `agents:`", &[
        (super::At::Agent, "model: lab/x\nprovider_options: { frequency_penalty: 0.5 }"), (super::At::Settings, LAB),
    ]),
    row(Step, "run: make\nlogit_bias: { a: 1 }", "it belongs to the agent: `provider_options: { NAME: NUMBER }` under `agents:`", &[
        (super::At::Agent, "model: lab/x\nprovider_options: { logit_bias: { a: 1 } }"), (super::At::Settings, LAB),
    ]),
    row(Step, "agent: coder\nprompt: Write the code.\noutput: again\nschema: text", "put the text into a file of `prompts/`, and write `prompt: FILE.md`", &[
        (Step, "agent: coder\nprompt: coder.md\noutput: again\nschema: text"),
    ]),
    row(Step, "agent: coder\nprompt: |\n  You are a coder.\n  Write {{ task }}.\noutput: again\nschema: text", "put the text into a file of `prompts/`, and write `prompt: FILE.md`", &[
        (super::At::Prompt, "You are a coder.\nWrite {{ task }}.\n"), (Step, "agent: coder\nprompt: coder.md\noutput: again\nschema: text"),
    ]),
    row(Step, "agent: coder\nprompt: coder.md\noutput: again\nschema: plan\nguardrail: again.ok", "write the conditions that a reply must meet as `accept: [{ that: CONDITION, else: TEXT }]`", &[(Step, "agent: coder\nprompt: coder.md\noutput: again\nschema: plan\naccept: [{ that: again.ok, else: Make it right. }]")]),
    row(Step, "agent: coder\nprompt: coder.md\noutput: again\nschema: plan\naccept: [{ condition: again.ok, else: Make it right. }]", "write `that` in place of `condition`", &[(Step, "agent: coder\nprompt: coder.md\noutput: again\nschema: plan\naccept: [{ that: again.ok, else: Make it right. }]")]),
    row(Step, "agent: coder\nprompt: coder.md\noutput: again\nschema: plan\naccept: [{ that: again.ok, message: Make it right. }]", "write `else` in place of `message`", &[(Step, "agent: coder\nprompt: coder.md\noutput: again\nschema: plan\naccept: [{ that: again.ok, else: Make it right. }]")]),
    row(File, "name: words\nsteps:\n  - id: code-review\n    run: make\n", "write `code_review`; allowed: lower-case letters, digits and `_`, not starting with a digit", &[
        (File, "name: words\nsteps:\n  - id: code_review\n    run: make\n"),
    ]),
    row(File, "name: words\nsteps:\n  - id: codeReview\n    run: make\n", "write `code_review`; allowed: lower-case letters, digits and `_`, not starting with a digit", &[
        (File, "name: words\nsteps:\n  - id: code_review\n    run: make\n"),
    ]),
];
