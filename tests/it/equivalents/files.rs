//! Keys of pipelines, of orch.yaml and of test cases.

use super::At::{Agent, Before, Case, File, Settings, Step, Top};
use super::{Row, row};

#[rustfmt::skip]
pub(super) const ROWS: &[Row] = &[
    row(File, "name: words\njobs:\n  build:\n    run: make\n", "write a list `steps:`, each item with `id: NAME`; steps that run at the same time go under `parallel:` of a step", &[
        (File, "name: words\nsteps:\n  - id: build\n    run: make\n"),
    ]),
    row(File, "title: words\nsteps:\n  - id: build\n    run: make\n", "write `name` in place of `title`", &[(File, "name: words\nsteps:\n  - id: build\n    run: make\n")]),
    row(Top, "version: 2", "the file has no version or kind: remove this key; `name: TEXT` and `description: TEXT` describe the pipeline", &[(Top, "description: Second edition")]),
    row(Top, "crew: { agents: [] }", "a pipeline has `agents:`, a mapping, and `steps:`, a list that runs from top to bottom", &[(File, "name: words\nagents: {}\nsteps:\n  - { id: it, run: make }\n")]),
    row(Top, "edges: [[a, b]]", "steps run from top to bottom, without jumps: order them under `steps:`, and give each step of a branch its own `when: CONDITION`", &[
        (Step, "run: make\nwhen: task == 'x'"),
    ]),
    row(Top, "on: [push]", "orch does not start runs by itself: remove this key, and call `orch pipeline run FILE` from cron or a CI job", &[]),
    row(Top, "schedule: '0 0 * * *'", "orch does not start runs by itself: remove this key, and call `orch pipeline run FILE` from cron or a CI job", &[]),
    row(Top, "runs-on: ubuntu-latest", "commands run on this machine: remove this key, and start a container yourself, as `run: [docker, run, --rm, IMAGE, COMMAND]`", &[]),
    row(Top, "env: { A: b }", "variables come from the environment of orch: list the variables of a command at its step, as `env: [NAME]`", &[(Step, "run: make\nenv: [A]")]),
    row(Top, "secrets: [TOKEN]", "`secrets` belongs into orch.yaml", &[(Settings, "# orch.yaml\nsecrets: [TOKEN]")]),
    row(Top, "matrix: { os: [a, b] }", "write `for_each: LIST` at the step, and use each value as `item` in its templates; nest steps for a second dimension", &[
        (Step, "run: [make, '{{ item }}']\nfor_each: \"['a', 'b']\"\nmax_parallel: 1"),
    ]),
    row(Top, "concurrency: 2", "limit the parallel items of `for_each` or steps of `parallel` with `max_parallel: NUMBER`, and those of a run with `limits: { max_concurrency: NUMBER }` in orch.yaml", &[
        (Settings, "limits: { max_concurrency: 2 }"),
    ]),
    row(Top, "on_failure: notify", "put steps that always run at the end under `finally:`; give a step that runs only after a failure `when: steps.ID.status == \"failed\"` there", &[
        (Top, "finally:\n  - { id: notify, run: notify, when: 'steps.it.status == \"failed\"' }"),
    ]),
    row(Top, "on_success: notify", "write it as the last step under `steps:`; it runs only if no step above it failed", &[
        (File, "name: words\nsteps:\n  - { id: it, run: make }\n  - { id: notify, run: notify }\n"),
    ]),
    row(Top, "timeout: 10m", "limit a run with `budget: { seconds: NUMBER }`, and a step with `timeout: 10m`", &[(Top, "budget: { seconds: 600 }")]),
    row(Top, "retry: { max: 3 }", "each step has its own `retry: { max: NUMBER }`", &[(Step, "run: make\nretry: { max: 3 }")]),
    row(Top, "vars: { a: b }", "declare the inputs of a run under `inputs:`, each as a JSON Schema, such as `NAME: { type: string, default: TEXT }`", &[
        (File, "name: words\ninputs:\n  a: { type: string, default: b }\nsteps:\n  - { id: it, run: \"make {{ a }}\" }\n"),
    ]),
    row(Top, "result: { title: plan.title }", "write `outputs` in place of `result`", &[(Top, "outputs: { title: plan.title }")]),
    row(Top, "include: [other.yaml]", "orch does not merge files: call the other pipeline from a step, `pipeline: FILE`", &[(Step, "pipeline: other.yaml")]),
    row(Top, "cache: true", "orch records results by itself: remove this key; `orch pipeline run FILE --reuse` reuses results of earlier runs", &[]),
    row(Top, "permissions: read-all", "declare how a step uses the workspace with `access: none`, `read` or `write`", &[(Step, "run: make\naccess: none")]),
    row(Top, "mcp_servers: { git: {} }", "MCP servers belong into orch.yaml, `mcp: { NAME: { command: [PROGRAM] } }`; an agent uses a tool of a server with `tools: [NAME.TOOL]`", &[
        (Settings, "mcp: { git: { command: [mcp-server-git] } }"),
        (Agent, "model: openai/gpt-4.1-mini\ntools: [git.git_log]"),
    ]),
    row(Top, "tools: [bash]", "tools belong to an agent: `tools: [read, edit]` under `agents:`", &[(Agent, "model: openai/gpt-4.1-mini\ntools: [read, edit]")]),
    row(Top, "model: openai/gpt-4.1-mini", "the model belongs to an agent: `agents: { NAME: { model: PROVIDER/MODEL } }`; set a default for all agents with `defaults: { model: PROVIDER/MODEL }` in orch.yaml", &[
        (Settings, "defaults: { model: openai/gpt-4.1-mini }"),
    ]),
    row(Top, "temperature: 0.1", "`temperature` belongs to an agent: write it under `agents:`", &[(Agent, "# under agents:\nmodel: openai/gpt-4.1-mini\ntemperature: 0.1")]),
    row(Top, "budget:\n  max_cost: 1", "write `usd` in place of `max_cost`", &[(Top, "budget:\n  usd: 1")]),
    row(Top, "budget:\n  max_tokens: 1000000", "write `tokens` in place of `max_tokens`", &[(Top, "budget:\n  tokens: 1000000")]),
    row(Top, "budget:\n  duration: 60", "write `seconds: NUMBER`", &[(Top, "budget:\n  seconds: 60")]),
    row(Settings, "model: openai/gpt-4.1-mini", "write `defaults: { model: PROVIDER/MODEL }`", &[(Settings, "defaults: { model: openai/gpt-4.1-mini }")]),
    row(Settings, "timeout: 5m", "put defaults under one key: `defaults: { timeout: 10m, re_ask: 2, max_output_tokens: 4096 }`", &[
        (Settings, "defaults: { timeout: 10m, re_ask: 2, max_output_tokens: 4096 }"),
    ]),
    row(Settings, "concurrency: 4", "write `limits: { max_concurrency: NUMBER }`", &[(Settings, "limits: { max_concurrency: 4 }")]),
    row(Settings, "aliases: { small: openai/gpt-4.1-mini }", "write `models` in place of `aliases`", &[(Settings, "models: { small: openai/gpt-4.1-mini }")]),
    row(Settings, "api_keys: { openai: X }", "keys and addresses belong to a provider: `providers: { NAME: { dialect: openai, base_url: ADDRESS, api_key: { env: VARIABLE } } }`", &[
        (Settings, "providers: { lab: { dialect: openai, base_url: 'http://127.0.0.1:1/v1', api_key: { env: LAB_KEY } } }"),
    ]),
    row(Settings, "webhook: { url: 'http://127.0.0.1:1' }", "write it under `tracker:`, as `tracker: { webhook: { url: ADDRESS, secret: { env: VARIABLE } } }`", &[
        (Settings, "tracker: { webhook: { url: 'http://127.0.0.1:1', secret: { env: HOOK_KEY } } }"),
    ]),
    row(Settings, "env: { A: b }", "orch.yaml sets no variables: export them before you start orch, and list the variables of a command at its step, as `env: [NAME]`", &[(Step, "run: make\nenv: [A]")]),
    row(Settings, "mcp:\n  git:\n    command: [mcp-server-git]\n    args: [--all]", "write the program and its arguments as one list: `command: [PROGRAM, ARGUMENT]`", &[
        (Settings, "mcp:\n  git:\n    command: [mcp-server-git, --all]"),
    ]),
    row(Settings, "mcp:\n  git:\n    type: stdio\n    command: [mcp-server-git]", "remove this key: orch starts a server with `command`, and reaches one with `url` over HTTP", &[
        (Settings, "mcp:\n  git:\n    command: [mcp-server-git]"),
    ]),
    row(Settings, "mcp:\n  docs:\n    httpUrl: 'https://docs.example/mcp'", "write `url` in place of `httpUrl`", &[(Settings, "mcp:\n  docs:\n    url: 'https://docs.example/mcp'")]),
    row(Settings, "mcp:\n  git:\n    command: [mcp-server-git]\n    allowed_tools: [log]", "write `tools` in place of `allowed_tools`", &[
        (Settings, "mcp:\n  git:\n    command: [mcp-server-git]\n    tools: [log]"),
    ]),
    row(Settings, "mcp:\n  docs:\n    url: 'https://docs.example/mcp'\n    http_headers: { x-team: a }", "write `headers` in place of `http_headers`", &[
        (Settings, "mcp:\n  docs:\n    url: 'https://docs.example/mcp'\n    headers: { x-team: a }"),
    ]),
    row(Settings, "mcp:\n  git:\n    cmd: [mcp-server-git]", "write `command` in place of `cmd`", &[(Settings, "mcp:\n  git:\n    command: [mcp-server-git]")]),
    row(Settings, "mcp:\n  git:\n    command: [mcp-server-git]\n    disabledTools: [push]", "list the tools that pipelines may call: `tools: [NAME]`", &[
        (Settings, "mcp:\n  git:\n    command: [mcp-server-git]\n    tools: [log]"),
    ]),
    row(Settings, "mcp:\n  docs:\n    url: 'https://docs.example/mcp'\n    bearer_token_env_var: DOCS", "name the variable that holds the secret: `headers: { Authorization: { env: VARIABLE } }`", &[
        (Settings, "mcp:\n  docs:\n    url: 'https://docs.example/mcp'\n    headers: { Authorization: { env: DOCS } }"),
    ]),
    row(Settings, "mcp:\n  git:\n    command: [mcp-server-git]\n    cwd: src", "remove this key: a server starts in the workspace; if it needs a folder, pass it as an argument, as `command: [PROGRAM, FOLDER]`", &[
        (Settings, "mcp:\n  git:\n    command: [mcp-server-git, src]"),
    ]),
    row(Settings, "mcp:\n  git:\n    command: [mcp-server-git]\n    envFile: .env", "export the variables before you start orch, and list their names: `env: [NAME]`", &[
        (Settings, "mcp:\n  git:\n    command: [mcp-server-git]\n    env: [GIT_TOKEN]"),
    ]),
    row(Settings, "mcp:\n  git:\n    command: [mcp-server-git]\n    disabled: true", "remove this key: orch starts a server only for a step that uses its tools; to turn a server off, remove its entry or write `#` before each line of it", &[
        (Settings, "# mcp:\n#   git:\n#     command: [mcp-server-git]"),
    ]),
    row(Settings, "mcp:\n  git:\n    command: [mcp-server-git]\n    alwaysAllow: [log]", "remove this key: orch calls the tools that an agent lists without asking, except those under `approve_tools` of the agent", &[
        (Settings, "mcp:\n  git:\n    command: [mcp-server-git]"),
    ]),
    row(Settings, "mcp:\n  git:\n    command: [mcp-server-git]\n    timeout: 30000", "remove this key: each call has the time limit of its step, a number with a unit, as in `timeout: 90s`", &[
        (Settings, "mcp:\n  git:\n    command: [mcp-server-git]"), (Step, "run: make\ntimeout: 30s"),
    ]),
    row(Settings, "mcp:\n  git:\n    command: [mcp-server-git]\n    startup_timeout_sec: 20", "remove this key: a server has one minute to answer after its start, and no setting changes that; the `timeout` of a step limits its calls", &[
        (Settings, "mcp:\n  git:\n    command: [mcp-server-git]"),
    ]),
    row(Settings, "mcp:\n  git:\n    name: git\n    command: [mcp-server-git]", "a server is named by its key under `mcp:`, as `NAME: { command: [PROGRAM] }`: remove this key", &[
        (Settings, "mcp:\n  git:\n    command: [mcp-server-git]"),
    ]),
    row(Settings, "mcp:\n  git:\n    description: Reads the log.\n    command: [mcp-server-git]", "a server has no description: write it as a comment, `# TEXT`", &[
        (Settings, "mcp:\n  # Reads the log.\n  git:\n    command: [mcp-server-git]"),
    ]),
    row(Settings, "mcp:\n  git:\n    command: [mcp-server-git]\n    network: [docs.rs]", "it belongs to the sandbox of the server: `sandbox: { network: [HOST], write: [FOLDER] }`", &[
        (Settings, "mcp:\n  git:\n    command: [mcp-server-git]\n    sandbox: { network: [docs.rs], write: [.] }"),
    ]),
    row(Settings, "mcpServers:\n  git:\n    command: [mcp-server-git]", "write `mcp` in place of `mcpServers`", &[
        (Settings, "mcp:\n  git:\n    command: [mcp-server-git]"),
    ]),
    row(Settings, "agents: {}", "`agents` belongs to the pipeline: write it at the top of the file", &[(File, "# at the top of the file\nname: words\nagents: {}\nsteps:\n  - { id: it, run: make }\n")]),
    row(Settings, "providers:\n  lab:\n    type: openai\n    base_url: http://127.0.0.1:1/v1", "write `dialect` in place of `type`", &[(Settings, "providers:\n  lab:\n    dialect: openai\n    base_url: http://127.0.0.1:1/v1")]),
    row(Settings, "providers:\n  lab:\n    dialect: openai\n    url: http://127.0.0.1:1/v1", "write `base_url` in place of `url`", &[(Settings, "providers:\n  lab:\n    dialect: openai\n    base_url: http://127.0.0.1:1/v1")]),
    row(Settings, "providers:\n  openai:\n    dialect: openai\n    token: X", "name the variable that holds the key: `api_key: { env: VARIABLE }`", &[(Settings, "providers:\n  openai:\n    dialect: openai\n    api_key: { env: X }")]),
    row(Settings, "providers:\n  openai:\n    dialect: openai\n    rpm: 5", "write `requests_per_minute` in place of `rpm`", &[(Settings, "providers:\n  openai:\n    dialect: openai\n    requests_per_minute: 5")]),
    row(Settings, "providers:\n  openai:\n    dialect: openai\n    tpm: 5", "write `tokens_per_minute` in place of `tpm`", &[(Settings, "providers:\n  openai:\n    dialect: openai\n    tokens_per_minute: 5")]),
    row(Settings, "providers:\n  openai:\n    dialect: openai\n    concurrency: 5", "write `max_concurrency` in place of `concurrency`", &[(Settings, "providers:\n  openai:\n    dialect: openai\n    max_concurrency: 5")]),
    row(Settings, "providers:\n  openai:\n    dialect: openai\n    models: [a]", "put names for models beside the providers: `models: { ALIAS: PROVIDER/MODEL }`", &[(Settings, "models: { small: openai/gpt-4.1-mini }")]),
    row(Settings, "models:\n  small:\n    model: openai/gpt-4.1-mini\n    input_cost: 1", "write `input_price` in place of `input_cost`", &[(Settings, "models:\n  small:\n    model: openai/gpt-4.1-mini\n    input_price: 1")]),
    row(Settings, "models:\n  small:\n    model: openai/gpt-4.1-mini\n    output_cost: 1", "write `output_price` in place of `output_cost`", &[(Settings, "models:\n  small:\n    model: openai/gpt-4.1-mini\n    output_price: 1")]),
    row(Settings, "models:\n  small:\n    model: openai/gpt-4.1-mini\n    context_length: 100000", "write `context_window` in place of `context_length`", &[(Settings, "models:\n  small:\n    model: openai/gpt-4.1-mini\n    context_window: 100000")]),
    row(Settings, "models:\n  small:\n    id: openai/gpt-4.1-mini", "write `model` in place of `id`", &[(Settings, "models:\n  small:\n    model: openai/gpt-4.1-mini")]),
    row(Settings, "models:\n  small:\n    provider: openai\n    model: gpt-4.1-mini", "the provider is part of the model's name: `model: PROVIDER/MODEL`", &[(Settings, "models:\n  small:\n    model: openai/gpt-4.1-mini")]),
    row(Settings, "tracker:\n  convex:\n    url: https://x.convex.cloud\n    deploy_key: X", "name the variable that holds the key: `auth: { env: VARIABLE }`", &[(Settings, "tracker:\n  convex:\n    url: https://x.convex.cloud\n    auth: { env: X }")]),
    row(Settings, "tracker:\n  webhook:\n    url: https://x.example\n    signing_key: X", "name the variable that holds the secret: `secret: { env: VARIABLE }`", &[(Settings, "tracker:\n  webhook:\n    url: https://x.example\n    secret: { env: X }")]),
    row(Case, "inputs: { task: x }\nanswers:\n  ask: { approved: true, comment: fine }", "write `note` in place of `comment`", &[(Before, "- { id: ask, approve: Go on? }"), (Case, "inputs: { task: x }\nanswers:\n  ask: { approved: true, note: fine }")]),
    row(Case, "inputs: { task: x }\nanswers:\n  ask: { accepted: true }", "write `approved` in place of `accepted`", &[(Before, "- { id: ask, approve: Go on? }"), (Case, "inputs: { task: x }\nanswers:\n  ask: { approved: true }")]),
    row(Case, "inputs: { task: x }\nname: It works", "write `description` in place of `name`", &[(Case, "inputs: { task: x }\ndescription: It works")]),
    row(Case, "task: Do it", "write `inputs: { task: TEXT }`", &[(Case, "inputs: { task: Do it }")]),
    row(Case, "inputs: { task: x }\nfixtures: words", "write `recordings` in place of `fixtures`", &[(Case, "inputs: { task: x }\nrecordings: words")]),
    row(Case, "inputs: { task: x }\nassert: [plan.ok]", "put the expected results under one key: `expect: { status: completed, assert: [EXPRESSION], files: [FILE] }`", &[
        (Case, "inputs: { task: x }\nexpect: { status: completed, assert: [plan.ok], files: [plan.json] }"),
    ]),
    row(Case, "inputs: { task: x }\nexpect:\n  outputs: { a: b }", "compare artifacts with expressions: `assert: [EXPRESSION]`", &[(Case, "inputs: { task: x }\nexpect:\n  assert: [plan.title == 'b']")]),
    row(Case, "inputs: { task: x }\nexpect:\n  exit_code: 0", "write `status: completed`, or `status: failed`", &[(Case, "inputs: { task: x }\nexpect:\n  status: completed")]),
    row(Case, "inputs: { task: x }\nexpect:\n  asserts: [plan.ok]", "write `assert` in place of `asserts`", &[(Case, "inputs: { task: x }\nexpect:\n  assert: [plan.ok]")]),
    row(Case, "inputs: { task: x }\nexpected: { status: completed }", "write `expect` in place of `expected`", &[(Case, "inputs: { task: x }\nexpect: { status: completed }")]),
    row(Case, "inputs: { task: x }\napprovals: { ask: { approved: true } }", "write `answers` in place of `approvals`", &[
        (Before, "- { id: ask, approve: Go on? }"), (Case, "inputs: { task: x }\nanswers: { ask: { approved: true } }"),
    ]),
    row(Case, "workflow: ../words.yaml\ninputs: { task: x }", "write `pipeline` in place of `workflow`", &[(Case, "pipeline: ../words.yaml\ninputs: { task: x }")]),
];
