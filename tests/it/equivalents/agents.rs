//! Keys of agents.

use super::At::{Agent, Settings, Step};
use super::{LAB, Row, row};

#[rustfmt::skip]
pub(super) const ROWS: &[Row] = &[
    row(Agent, "model: openai/gpt-4.1-mini\nrole: Coder", "write the role and the instructions of an agent into a file in `prompts/`, and name it in the step: `prompt: FILE.md`", &[
        (Step, "agent: coder\nprompt: coder.md\noutput: again\nschema: text"),
    ]),
    row(Agent, "llm: openai/gpt-4.1-mini", "write `model` in place of `llm`", &[(Agent, "model: openai/gpt-4.1-mini")]),
    row(Agent, "provider: openai\nmodel: gpt-4.1-mini", "the provider is part of the model's name: `model: PROVIDER/MODEL`", &[(Agent, "model: openai/gpt-4.1-mini")]),
    row(Agent, "model: lab/x\nbase_url: http://127.0.0.1:1/v1", "put addresses and keys into orch.yaml: `providers: { NAME: { dialect: openai, base_url: ADDRESS, api_key: { env: VARIABLE } } }`", &[
        (Agent, "model: lab/x"), (Settings, "providers: { lab: { dialect: openai, base_url: 'http://127.0.0.1:1/v1', api_key: { env: LAB_KEY } } }"),
    ]),
    row(Agent, "model: openai/gpt-4.1-mini\nmax_tokens: 100", "write `max_output_tokens` in place of `max_tokens`", &[(Agent, "model: openai/gpt-4.1-mini\nmax_output_tokens: 100")]),
    row(Agent, "model: lab/x\nreasoning_effort: high", "write `reasoning` in place of `reasoning_effort`", &[
        (Agent, "model: lab/x\nreasoning: high"), (Settings, LAB),
    ]),
    row(Agent, "model: lab/x\nthinking: { type: enabled, budget_tokens: 2000 }", "write how much the model reasons as one word: `reasoning: high`; orch translates it for each provider", &[
        (Agent, "model: lab/x\nreasoning: high"), (Settings, LAB),
    ]),
    row(Agent, "model: lab/x\nthinking_budget: 2000", "write how much the model reasons as one word: `reasoning: high`; orch translates it for each provider", &[
        (Agent, "model: lab/x\nreasoning: high"), (Settings, LAB),
    ]),
    row(Agent, "model: openai/gpt-4.1-mini\ntopP: 0.9", "write `top_p` in place of `topP`", &[(Agent, "model: openai/gpt-4.1-mini\ntop_p: 0.9")]),
    row(Agent, "model: lab/x\nstop_sequences: [END]", "write `stop` in place of `stop_sequences`", &[
        (Agent, "model: lab/x\nstop: [END]"), (Settings, LAB),
    ]),
    row(Agent, "model: lab/x\nextra_body: { top_k: 40 }", "write `provider_options` in place of `extra_body`", &[
        (Agent, "model: lab/x\nprovider_options: { top_k: 40 }"), (Settings, LAB),
    ]),
    row(Agent, "model: lab/x\nmodel_kwargs: { top_k: 40 }", "write `provider_options` in place of `model_kwargs`", &[
        (Agent, "model: lab/x\nprovider_options: { top_k: 40 }"), (Settings, LAB),
    ]),
    row(Agent, "model: openai/gpt-4.1-mini\nmodel_settings: { temperature: 0.5 }", "write each option as a key of the agent, such as `temperature: NUMBER` or `top_p: NUMBER`", &[
        (Agent, "model: openai/gpt-4.1-mini\ntemperature: 0.5"),
    ]),
    row(Agent, "model: lab/x\ntop_k: 40", "only some providers have it: write `provider_options: { NAME: NUMBER }`, with the provider's name for it", &[
        (Agent, "model: lab/x\nprovider_options: { top_k: 40 }"), (Settings, LAB),
    ]),
    row(Agent, "model: openai/gpt-4.1-mini\nmcp_servers: [git]", "MCP servers belong into orch.yaml, `mcp: { NAME: { command: [PROGRAM] } }`; an agent uses a tool of a server with `tools: [NAME.TOOL]`", &[
        (Agent, "model: openai/gpt-4.1-mini\ntools: [git.git_log]"), (Settings, "mcp: { git: { command: [mcp-server-git] } }"),
    ]),
    row(Agent, "cli: claude\nallowed_tools: [Bash]", "write `tools` in place of `allowed_tools`", &[(Agent, "cli: claude\ntools: [Bash]")]),
    row(Agent, "cli: claude\ntools: bash", "write it as a list: `[bash]`", &[(Agent, "cli: claude\ntools: [bash]")]),
    row(Agent, "model: openai/gpt-4.1-mini\ntools: [bash]", "orch's tool for this is `shell`", &[(Agent, "model: openai/gpt-4.1-mini\ntools: [shell]")]),
    row(Agent, "model: openai/gpt-4.1-mini\ntools: [Grep, Glob]", "orch's tool for this is `search`", &[(Agent, "model: openai/gpt-4.1-mini\ntools: [search, list]")]),
    row(Agent, "model: openai/gpt-4.1-mini\ntools: all", "name the tools in a list: `[read, list, search, edit, write]`; `shell` and `fetch` exist too, and a CLI agent has names of its own", &[(Agent, "model: openai/gpt-4.1-mini\ntools: [read, list, search, edit, write]")]),
    row(Agent, "model: openai/gpt-4.1-mini\ntools: true", "name the tools in a list: `[read, list, search, edit, write]`; `shell` and `fetch` exist too, and a CLI agent has names of its own", &[(Agent, "model: openai/gpt-4.1-mini\ntools: [read, list, search, edit, write]")]),
    row(Agent, "model: openai/gpt-4.1-mini\ntools: [all]", "name the tools in a list: `[read, list, search, edit, write]`; `shell` and `fetch` exist too, and a CLI agent has names of its own", &[(Agent, "model: openai/gpt-4.1-mini\ntools: [read, list, search, edit, write]")]),
    row(Agent, "model: openai/gpt-4.1-mini\ntools: false", "write `tools: none`", &[(Agent, "model: openai/gpt-4.1-mini\ntools: none")]),
    row(Agent, "model: openai/gpt-4.1-mini\ntools: read", "write it as a list: `[read]`", &[(Agent, "model: openai/gpt-4.1-mini\ntools: [read]")]),
    row(Agent, "model: openai/gpt-4.1-mini\ntools: read edit", "write it as a list: `[read, edit]`", &[(Agent, "model: openai/gpt-4.1-mini\ntools: [read, edit]")]),
    row(Agent, "model: openai/gpt-4.1-mini\ntools: [\"shell(git:*)\"]\napprove_tools: [\"shell(git:*)\"]", "write `shell`: orch asks about each call of the tool that its patterns in `tools` allow", &[(Agent, "model: openai/gpt-4.1-mini\ntools: [\"shell(git:*)\"]\napprove_tools: [shell]")]),
    row(Agent, "model: openai/gpt-4.1-mini\ntools: [read, edit]\napprove_tools: [all]", "name each tool: `[read, edit]`", &[(Agent, "model: openai/gpt-4.1-mini\ntools: [read, edit]\napprove_tools: [read, edit]")]),
    row(Agent, "model: openai/gpt-4.1-mini\ntools: [edit]\napprove_tools: edit", "write it as a list: `approve_tools: [edit]`", &[(Agent, "model: openai/gpt-4.1-mini\ntools: [edit]\napprove_tools: [edit]")]),
    row(Agent, "model: openai/gpt-4.1-mini\ntools: [edit]\napprove_tools: true", "name the tools in a list: `approve_tools: [NAME]`", &[(Agent, "model: openai/gpt-4.1-mini\ntools: [edit]\napprove_tools: [edit]")]),
    row(Agent, "model: openai/gpt-4.1-mini\ntools: [read]\ntoolChoice: required", "write `tool_choice` in place of `toolChoice`", &[(Agent, "model: openai/gpt-4.1-mini\ntools: [read]\ntool_choice: required")]),
    row(Agent, "model: openai/gpt-4.1-mini\ntools: [read]\ntool_choice: any", "write `required`: the first reply of a conversation must then call a tool", &[(Agent, "model: openai/gpt-4.1-mini\ntools: [read]\ntool_choice: required")]),
    row(Agent, "model: openai/gpt-4.1-mini\ntools: [read]\ntool_choice: none", "a model without tools calls none: remove `tool_choice`, and the `tools` and `pipelines` of the agent", &[(Agent, "model: openai/gpt-4.1-mini")]),
    row(Agent, "model: openai/gpt-4.1-mini\ntools: [read]\ntool_choice: read", "orch can't require a certain tool: write `required`, and say in the prompt which tool the model must call first", &[(Agent, "model: openai/gpt-4.1-mini\ntools: [read]\ntool_choice: required")]),
    row(Agent, "model: openai/gpt-4.1-mini\ntools: [read]\ntool_choice: true", "write one word: `tool_choice: required`, or `tool_choice: auto`", &[(Agent, "model: openai/gpt-4.1-mini\ntools: [read]\ntool_choice: required")]),
    row(Agent, "model: openai/gpt-4.1-mini\ntools: [read]\ntool_choice: { type: function, function: { name: read } }", "write one word, `tool_choice: required`; orch can't require a certain tool, so say in the prompt which one the model must call first", &[(Agent, "model: openai/gpt-4.1-mini\ntools: [read]\ntool_choice: required")]),
    row(Agent, "acp: { command: [gemini], args: [--acp] }", "write the program and its arguments as one list: `command: [PROGRAM, ARGUMENT]`", &[(Agent, "acp: { command: [gemini, --acp] }")]),
    row(Agent, "acp: { program: [gemini, --acp] }", "write `command` in place of `program`", &[(Agent, "acp: { command: [gemini, --acp] }")]),
    row(Agent, "cli: claude\nmax_iter: 3", "write `max_turns` in place of `max_iter`", &[(Agent, "cli: claude\nmax_turns: 3")]),
    row(Agent, "model: openai/gpt-4.1-mini\nname: Coder", "an agent is named by its key under `agents:`, as `NAME: { model: auto }`: remove this key", &[(Agent, "model: openai/gpt-4.1-mini")]),
    row(Agent, "model: openai/gpt-4.1-mini\ndescription: Writes code", "an agent has no description: write it as a comment, `# TEXT`", &[(Agent, "# Writes code\nmodel: openai/gpt-4.1-mini")]),
    row(Agent, "type: claude", "an agent is a model, `model: PROVIDER/MODEL`, or a CLI agent: `cli: claude`, `acp: { command: [PROGRAM] }` or `command: [PROGRAM]`", &[(Agent, "cli: claude")]),
    row(Agent, "model: openai/gpt-4.1-mini\nverbose: true", "an agent has no such option: remove it; `orch runs show` and `orch runs events` show the replies", &[(Agent, "model: openai/gpt-4.1-mini")]),
    row(Agent, "model: openai/gpt-4.1-mini\nschema: plan", "the format of the reply belongs to the step: `output: NAME` with `schema: NAME`", &[
        (Step, "agent: coder\nprompt: coder.md\noutput: again\nschema: plan"),
    ]),
    row(Agent, "model: openai/gpt-4.1-mini\nfallbacks: [a/b]", "fallbacks belong to the step: `fallback: [PROVIDER/MODEL]`", &[
        (Step, "agent: coder\nprompt: coder.md\noutput: again\nschema: text\nfallback: [openai/gpt-5-mini]"),
    ]),
    row(Agent, "command: [lint]\nargs: [x]", "write the program and its arguments as one list: `command: [PROGRAM, ARGUMENT]`", &[(Agent, "command: [lint, x]")]),
    row(Agent, "model: openai/gpt-4.1-mini\nmax_cost: 1", "write `budget: { usd: NUMBER }`", &[(Agent, "model: openai/gpt-4.1-mini\nbudget: { usd: 1 }")]),
    row(Agent, "model: openai/gpt-4.1-mini\nprompt: coder.md", "`prompt` belongs to a step: write it under `steps:`", &[
        (Step, "# under steps:\nagent: coder\nprompt: coder.md\noutput: again\nschema: text"),
    ]),
    row(Agent, "model: openai/gpt-4.1-mini\ntimeout: 5m", "`timeout` belongs to a step: write it under `steps:`", &[(Step, "# under steps:\nrun: make\ntimeout: 5m")]),
];
