//! Values in the syntax of other tools.

use super::At::{Agent, Before, Case, File, Settings, Step, Top};
use super::{LAB, Row, row};

#[rustfmt::skip]
pub(super) const ROWS: &[Row] = &[
    row(File, "name: words\nsteps:\n  build: { run: make }\n", "steps are a list: write `- id: NAME` in place of `NAME:`", &[(File, "name: words\nsteps:\n  - id: build\n    run: make\n")]),
    row(Top, "finally:\n  build: { run: make }", "steps are a list: write `- id: NAME` in place of `NAME:`", &[(Top, "finally:\n  - id: build\n    run: make\n")]),
    row(Step, "parallel: true\nrun: make", "`parallel` contains the steps that run at the same time: `parallel: [STEPS]`", &[
        (Step, "parallel: [{ id: make, run: make, access: none }, { id: lint, run: lint, access: none }]"),
    ]),
    row(Before, "- make all", "a step is a mapping, such as `{ id: NAME, run: \"make all\" }`", &[(Before, "- { id: first, run: \"make all\" }")]),
    row(File, "name: words\nagents:\n  - { name: coder, model: auto }\nsteps:\n  - { id: it, run: make }\n", "agents are a mapping: write `NAME: { model: PROVIDER/MODEL }` in place of an item", &[
        (File, "name: words\nagents:\n  coder: { model: openai/gpt-4.1-mini }\nsteps:\n  - { id: it, agent: coder, prompt: coder.md, output: x, schema: text }\n"),
    ]),
    row(File, "name: words\nagents:\n  coder: openai/gpt-4.1-mini\nsteps:\n  - { id: it, run: make }\n", "an agent is a mapping: `{ model: openai/gpt-4.1-mini }`", &[
        (File, "name: words\nagents:\n  coder: { model: openai/gpt-4.1-mini }\nsteps:\n  - { id: it, agent: coder, prompt: coder.md, output: x, schema: text }\n"),
    ]),
    row(Step, "run: make\nargs: [test]", "write the program and its arguments as one list, `run: [PROGRAM, ARGUMENT]`; the arguments of a tool are a mapping, `args: { NAME: TEXT }`", &[(Step, "run: [make, test]")]),
    row(Agent, "command: lint --fix", "write the program and its arguments as a list: `command: [PROGRAM, ARGUMENT]`", &[(Agent, "command: [lint, --fix]")]),
    row(Agent, "acp: gemini", "write `acp: { command: [PROGRAM, ARGUMENT] }`", &[(Agent, "acp: { command: [gemini, --acp] }")]),
    row(Agent, "acp: { command: gemini }", "write the program and its arguments as a list: `command: [PROGRAM, ARGUMENT]`", &[(Agent, "acp: { command: [gemini, --acp] }")]),
    row(Agent, "cli: claude\ntools: { bash: true }", "name the tools in a list: `tools: [NAME]`", &[(Agent, "cli: claude\ntools: [bash]")]),
    row(Agent, "model: lab/x\nstop: END", "write it as a list: `stop: [END]`", &[(Agent, "model: lab/x\nstop: [END]"), (Settings, LAB)]),
    row(Agent, "model: lab/x\nreasoning: 2000", "write how much the model reasons as one word: `reasoning: high`", &[(Agent, "model: lab/x\nreasoning: high"), (Settings, LAB)]),
    row(Agent, "model: lab/x\nprovider_options: [top_k]", "write a mapping: `provider_options: { NAME: SETTING }`", &[(Agent, "model: lab/x\nprovider_options: { top_k: 40 }"), (Settings, LAB)]),
    row(Agent, "cli: claude\nenv: { A: b }", "`env` sets no values: export them before you start orch, and list their names, as `env: [NAME]`", &[(Agent, "cli: claude\nenv: [A]")]),
    row(Step, "run: make\nenv: { A: b }", "`env` sets no values: export them before you start orch, and list their names, as `env: [NAME]`", &[(Step, "run: make\nenv: [A]")]),
    row(Step, "run: make\nenv: A", "list the names of variables: `env: [A]`", &[(Step, "run: make\nenv: [A]")]),
    row(Step, "run: make\nenv: A, B", "list the names of variables: `env: [A, B]`", &[(Step, "run: make\nenv: [A, B]")]),
    row(Step, "run: make\ninputs: 'plan?, '", "write it as a list: `inputs: [\"plan?\"]`", &[(Step, "run: make\ninputs: [\"plan?\"]")]),
    row(File, "name: words\ninputs: [task]\nsteps:\n  - { id: it, run: \"make {{ task }}\" }\n", "inputs are a mapping of names to JSON Schemas: `inputs: { NAME: { type: string } }`", &[
        (File, "name: words\ninputs: { task: { type: string } }\nsteps:\n  - { id: it, run: \"make {{ task }}\" }\n"),
    ]),
    row(File, "name: words\ninputs: { task: str }\nsteps:\n  - { id: it, run: \"make {{ task }}\" }\n", "an input is a JSON Schema: write `{ type: string }`", &[
        (File, "name: words\ninputs: { task: { type: string } }\nsteps:\n  - { id: it, run: \"make {{ task }}\" }\n"),
    ]),
    row(File, "name: words\ninputs: { rounds: 3 }\nsteps:\n  - { id: it, run: \"make {{ rounds }}\" }\n", "an input is a JSON Schema: write `{ type: integer, default: 3 }`", &[
        (File, "name: words\ninputs: { rounds: { type: integer, default: 3 } }\nsteps:\n  - { id: it, run: \"make {{ rounds }}\" }\n"),
    ]),
    row(File, "name: words\ninputs: { rounds: { type: int } }\nsteps:\n  - { id: it, run: \"make {{ rounds }}\" }\n", "write `integer`", &[
        (File, "name: words\ninputs: { rounds: { type: integer } }\nsteps:\n  - { id: it, run: \"make {{ rounds }}\" }\n"),
    ]),
    row(File, "name: words\ninputs: { task: { type: string, required: true } }\nsteps:\n  - { id: it, run: \"make {{ task }}\" }\n", "remove `required`: an input without a `default` is required", &[
        (File, "name: words\ninputs: { task: { type: string } }\nsteps:\n  - { id: it, run: \"make {{ task }}\" }\n"),
    ]),
    row(Top, "outputs: [plan]", "outputs are a mapping of names to expressions: `outputs: { NAME: NAME }`", &[(Top, "outputs: { plan: plan }")]),
    row(Step, "run: make\ninputs: { a: plan }", "list the artifacts that the step reads, as `inputs: [NAME]`; pass values to a called pipeline with `with: { NAME: EXPRESSION }`", &[(Step, "run: make\ninputs: [plan]")]),
    row(Step, "run: make\ninputs: plan", "write it as a list: `inputs: [plan]`", &[(Step, "run: make\ninputs: [plan]")]),
    row(Step, "pipeline: other.yaml\nwith: [task]", "`with` passes inputs to a called pipeline: `with: { NAME: EXPRESSION }`", &[(Step, "pipeline: other.yaml\nwith: { topic: task }")]),
    row(Step, "run: make\noutput: { log: text }", "a step has one artifact, whose fields its schema names: `output: NAME`", &[(Step, "run: make\nschema: text\noutput: log")]),
    row(Step, "run: make\noutput: log\nschema: { type: object }", "put the schema into a file `schemas/NAME.schema.json`, and write `schema: NAME`", &[(Step, "run: make\noutput: log\nschema: plan")]),
    row(Step, "agent: { model: auto }\nprompt: coder.md\noutput: x\nschema: text", "declare the agent under `agents:` of the pipeline, and name it here: `agent: NAME`", &[(Step, "agent: coder\nprompt: coder.md\noutput: x\nschema: text")]),
    row(Step, "agent: coder\nprompt: { system: Do it }\noutput: x\nschema: text", "put the prompt into a file of `prompts/`, and write `prompt: FILE.md`", &[(Step, "agent: coder\nprompt: coder.md\noutput: x\nschema: text")]),
    row(Step, "agent: coder\nprompt: coder.md\nmessage: [{ role: user, content: x }]\noutput: x\nschema: text", "`message` is the user message, `message: TEXT`; the system prompt is the file that `prompt` names", &[
        (Step, "agent: coder\nprompt: coder.md\nmessage: x\noutput: x\nschema: text"),
    ]),
    row(Step, "run: { command: make }", "write one line for `sh -c`, `run: COMMAND`, or a list, `run: [PROGRAM, ARGUMENT]`", &[(Step, "run: make")]),
    row(Step, "write: { path: a.txt, content: x }", "`write` is an expression in quotes: `write: \"[{'path': 'FILE', 'content': NAME}]\"`", &[(Step, "write: \"[{'path': 'a.txt', 'content': task}]\"")]),
    row(Step, "approve: true", "write the question for the user: `approve: TEXT`", &[(Step, "approve: Go on?")]),
    row(Step, "repeat: 3\nrun: make", "write `repeat: { max: 3, steps: [STEPS] }`", &[(Step, "repeat: { max: 3, steps: [{ id: make, run: make }] }")]),
    row(Step, "repeat: [{ id: make, run: make }]", "write `repeat: { until: CONDITION, max: ROUNDS, steps: [STEPS] }`", &[(Step, "repeat: { until: task == 'x', max: 3, steps: [{ id: make, run: make }] }")]),
    row(Step, "for_each: [a, b]\nrun: [make, '{{ item }}']\nmax_parallel: 1", "`for_each` is an expression in quotes: `for_each: '[\"a\",\"b\"]'`", &[
        (Step, "for_each: '[\"a\",\"b\"]'\nrun: [make, '{{ item }}']\nmax_parallel: 1"),
    ]),
    row(Step, "for_each: 3\nrun: [make, '{{ item }}']\nmax_parallel: 1", "`for_each` iterates over a list: `for_each: range(3)`", &[(Step, "for_each: range(3)\nrun: [make, '{{ item }}']\nmax_parallel: 1")]),
    row(Step, "run: make\nwhen: [task == 'x', task == 'y']", "`when` is one expression: join conditions with `and` and `or`, as `when: CONDITION and CONDITION`", &[(Step, "run: make\nwhen: task == 'x' and task == 'y'")]),
    row(Step, "run: make\ncwd: 1", "put quotes around it", &[(Step, "run: make\n# put quotes around it\ncwd: '1'")]),
    row(Step, "run: make\nretry: 3", "write `retry: { max: 3 }`, which includes the first attempt", &[(Step, "run: make\nretry: { max: 3 }")]),
    row(Step, "run: make\nretry: true", "write `retry: { max: NUMBER }`, which includes the first attempt", &[(Step, "run: make\nretry: { max: 3 }")]),
    row(Step, "agent: coder\nprompt: coder.md\noutput: again\nschema: plan\naccept: again.ok", "write `accept: [{ that: again.ok, else: TEXT }]`", &[(Step, "agent: coder\nprompt: coder.md\noutput: again\nschema: plan\naccept: [{ that: again.ok, else: Make it right. }]")]),
    row(Step, "agent: coder\nprompt: coder.md\noutput: again\nschema: plan\naccept: { that: again.ok, else: Make it right. }", "write it as a list: `accept: [{ that: CONDITION, else: TEXT }]`", &[(Step, "agent: coder\nprompt: coder.md\noutput: again\nschema: plan\naccept: [{ that: again.ok, else: Make it right. }]")]),
    row(Step, "agent: coder\nprompt: coder.md\noutput: again\nschema: plan\naccept: [again.ok]", "write an entry as `{ that: again.ok, else: TEXT }`", &[(Step, "agent: coder\nprompt: coder.md\noutput: again\nschema: plan\naccept: [{ that: again.ok, else: Make it right. }]")]),
    row(Step, "run: make\ntimeout: { minutes: 10 }", "write one duration with its unit: `timeout: 10m`", &[(Step, "run: make\ntimeout: 10m")]),
    row(Step, "run: make\nexpect: 0", "write `expect: { exit_code: [0] }`", &[(Step, "run: make\nexpect: { exit_code: [0] }")]),
    row(Step, "run: make\nexpect: [0, 2]", "write `expect: { exit_code: [0,2] }`", &[(Step, "run: make\nexpect: { exit_code: [0,2] }")]),
    row(Step, "run: make\nexpect: { exit_code: 2 }", "write it as a list: `exit_code: [2]`", &[(Step, "run: make\nexpect: { exit_code: [2] }")]),
    row(Step, "agent: coder\nprompt: coder.md\noutput: x\nschema: text\nfallback: openai/gpt-5-mini", "write it as a list: `fallback: [openai/gpt-5-mini]`", &[
        (Step, "agent: coder\nprompt: coder.md\noutput: x\nschema: text\nfallback: [openai/gpt-5-mini]"),
    ]),
    row(Top, "budget: 5", "name the limit: `budget: { usd: 5 }`", &[(Top, "budget: { usd: 5 }")]),
    row(Step, "run: make\nbudget: 5", "name the limit: `budget: { usd: 5 }`", &[(Step, "run: make\nbudget: { usd: 5 }")]),
    row(Top, "budget: { seconds: 10m }", "write the number of seconds without a unit: `seconds: NUMBER`", &[(Top, "budget: { seconds: 600 }")]),
    row(Settings, "providers:\n  - { name: lab, base_url: x }", "providers are a mapping: write `NAME: { dialect: openai, base_url: ADDRESS }` in place of an item", &[
        (Settings, "providers:\n  lab: { dialect: openai, base_url: 'http://127.0.0.1:1/v1' }"),
    ]),
    row(Settings, "models: [openai/gpt-4.1-mini]", "models are a mapping of short names: `models: { NAME: PROVIDER/MODEL }`", &[(Settings, "models: { small: openai/gpt-4.1-mini }")]),
    row(Settings, "mcp:\n  - { name: git, command: [mcp-server-git] }", "servers are a mapping: write `NAME: { command: [PROGRAM] }` in place of an item", &[
        (Settings, "mcp:\n  git: { command: [mcp-server-git] }"),
    ]),
    row(Settings, "mcp:\n  git: mcp-server-git --all", "a server is a mapping: `{ command: [PROGRAM, ARGUMENT] }`, or `{ url: ADDRESS }`", &[
        (Settings, "mcp:\n  git: { command: [mcp-server-git, --all] }"),
    ]),
    row(Settings, "mcp:\n  git:\n    command: mcp-server-git --all", "write the program and its arguments as a list: `command: [PROGRAM, ARGUMENT]`", &[
        (Settings, "mcp:\n  git:\n    command: [mcp-server-git, --all]"),
    ]),
    row(Settings, "mcp:\n  git:\n    command: [mcp-server-git]\n    env: { TOKEN: x }", "`env` sets no values: export them before you start orch, and list their names, as `env: [NAME]`", &[
        (Settings, "mcp:\n  git:\n    command: [mcp-server-git]\n    env: [TOKEN]"),
    ]),
    row(Settings, "mcp:\n  git:\n    command: [mcp-server-git]\n    env: TOKEN", "list the names of variables: `env: [TOKEN]`", &[
        (Settings, "mcp:\n  git:\n    command: [mcp-server-git]\n    env: [TOKEN]"),
    ]),
    row(Settings, "mcp:\n  git:\n    command: [mcp-server-git]\n    tools: log", "write it as a list: `tools: [log]`", &[
        (Settings, "mcp:\n  git:\n    command: [mcp-server-git]\n    tools: [log]"),
    ]),
    row(Settings, "mcp:\n  docs:\n    url: 'https://docs.example/mcp'\n    headers: [x-team]", "write a mapping of names to texts or variables: `headers: { NAME: { env: VARIABLE } }`", &[
        (Settings, "mcp:\n  docs:\n    url: 'https://docs.example/mcp'\n    headers: { x-team: { env: TEAM } }"),
    ]),
    row(Settings, "secrets: { TOKEN: x }", "list the names of variables: `secrets: [NAME]`", &[(Settings, "secrets: [TOKEN]")]),
    row(Settings, "budget: 5", "name the limit: `budget: { usd: 5 }`", &[(Settings, "budget: { usd: 5 }")]),
    row(Case, "inputs: { task: x }\nexpect: [plan.ok]", "write expressions under `assert`: `expect: { assert: [\"plan.ok\"] }`", &[(Case, "inputs: { task: x }\nexpect: { assert: [\"plan.ok\"] }")]),
    row(Case, "inputs: { task: x }\nanswers: { ask: true }", "an answer is a mapping: `{ approved: true }`", &[
        (Before, "- { id: ask, approve: Go on? }"), (Case, "inputs: { task: x }\nanswers: { ask: { approved: true } }"),
    ]),
    row(Case, "inputs: { task: x }\nanswers: { ask: fine }", "an answer is a mapping: `{ approved: true, note: TEXT }`", &[
        (Before, "- { id: ask, approve: Go on? }"), (Case, "inputs: { task: x }\nanswers: { ask: { approved: true, note: fine } }"),
    ]),
    row(Case, "inputs: [x]", "inputs are a mapping: `inputs: { NAME: TEXT }`", &[(Case, "inputs: { task: x }")]),
    row(Case, "inputs: { task: x }\nexpect: { assert: plan.ok }", "write it as a list: `assert: [plan.ok]`", &[(Case, "inputs: { task: x }\nexpect: { assert: [plan.ok] }")]),
    row(Case, "inputs: { task: x }\nexpect: { files: plan.json }", "write it as a list: `files: [plan.json]`", &[(Case, "inputs: { task: x }\nexpect: { files: [plan.json] }")]),
    row(Case, "inputs: { task: x }\nexpect: { steps: [plan] }", "name each step with its expected status: `steps: { NAME: completed }`", &[(Case, "inputs: { task: x }\nexpect: { steps: { plan: completed } }")]),
];
