//! The keys of other tools (GitHub Actions, GitLab, Argo, Airflow, Ansible, LangGraph, CrewAI and others), each with
//! its equivalent in orch.

use super::KeyEquivalent::{Advice, Renamed};
use super::{KeyEquivalent, KeyRow, MappingType};

const PIPELINE: MappingType = "Pipeline";
const STEP: MappingType = "Step";
const REPEAT: MappingType = "Repeat";
const RETRY: MappingType = "Retry";
const EXPECT: MappingType = "Expect";
const AGENT: MappingType = "Agent";
const ACP: MappingType = "Acp";
const ACCEPT: MappingType = "Accept";
const BUDGET: MappingType = "Budget";
const SETTINGS: MappingType = "Settings";
const PROVIDER: MappingType = "ProviderSettings";
const MODEL: MappingType = "ModelSettings";
const MCP_SERVER: MappingType = "McpServerSettings";
const CONVEX: MappingType = "ConvexSettings";
const WEBHOOK: MappingType = "WebhookSettings";
const CASE: MappingType = "Case";
const ANSWER: MappingType = "CannedAnswer";
const ANSWERS: MappingType = "CannedAnswers";
const EXPECTED: MappingType = "Expected";

const fn row(mapping_types: &'static [MappingType], foreign_keys: &'static str, equivalent: KeyEquivalent) -> KeyRow {
    KeyRow { mapping_types, foreign_keys, equivalent }
}

/// The rows. Each key of another tool has at most one row per type of mapping.
#[rustfmt::skip]
pub(super) const KEYS: &[KeyRow] = &[
    // Conditions and order of steps.
    row(&[STEP], "if condition only_if run_if", Renamed("when")),
    row(&[STEP], "unless skip_if", Advice("write the opposite as `when: not (CONDITION)`")),
    row(&[STEP], "else elif else_if otherwise", Advice("write a second step with the opposite condition: `when: not (CONDITION)`")),
    row(&[STEP], "then on_success next goto jump routes route router branch branches edges switch case cases choice choices transitions", Advice("steps run from top to bottom, without jumps: write the next step below, and give each step of a branch its own `when: CONDITION`")),
    row(&[STEP], "needs depends_on dependencies depends after requires upstream wait_for context", Advice("steps run from top to bottom: put this step below those that it needs, and list the artifacts that it reads, as `inputs: [NAME]`")),
    row(&[PIPELINE], "edges conditional_edges routes goto entry_point start needs depends_on transitions", Advice("steps run from top to bottom, without jumps: order them under `steps:`, and give each step of a branch its own `when: CONDITION`")),
    // Names and kinds of steps and pipelines.
    row(&[PIPELINE], "jobs stages tasks nodes", Advice("write a list `steps:`, each item with `id: NAME`; steps that run at the same time go under `parallel:` of a step")),
    row(&[STEP], "name title label display_name", Advice("a step is named by its `id: NAME`; a longer title can be a comment")),
    row(&[STEP], "description comment doc tags labels metadata annotations", Advice("a step has no description: write it as a comment, `# TEXT`")),
    row(&[PIPELINE], "id title", Renamed("name")),
    row(&[PIPELINE], "version api_version schema_version kind metadata", Advice("the file has no version or kind: remove this key; `name: TEXT` and `description: TEXT` describe the pipeline")),
    row(&[STEP], "type kind step_type operator action plugin executor", Advice("the kind of a step follows from its key: `agent: NAME`, `run: COMMAND`, `call: TOOL`, `write: EXPRESSION`, `approve: TEXT`, `parallel`, `repeat`, `steps` or `pipeline: FILE`")),
    row(&[PIPELINE], "crew team process state nodes_and_edges", Advice("a pipeline has `agents:`, a mapping, and `steps:`, a list that runs from top to bottom")),
    // Triggers.
    row(&[PIPELINE], "on trigger triggers schedule cron", Advice("orch does not start runs by itself: remove this key, and call `orch pipeline run FILE` from cron or a CI job")),
    // Commands.
    row(&[STEP], "cmd command bash sh exec shell_command", Renamed("run")),
    row(&[STEP], "script before_script", Advice("write the lines as one text for `sh -c`: `run: COMMAND`")),
    row(&[STEP], "shell", Advice("`run: COMMAND` with one text runs with `sh -c`; for another shell write `run: [bash, -c, COMMAND]`")),
    row(&[STEP], "arguments", Advice("write the program and its arguments as one list, `run: [PROGRAM, ARGUMENT]`; the arguments of a tool are a mapping, `args: { NAME: TEXT }`")),
    row(&[STEP], "tool tool_name use_tool", Renamed("call")),
    row(&[STEP], "tool_args tool_arguments tool_input tool_params", Renamed("args")),
    row(&[STEP], "working_directory working_dir workdir dir directory chdir", Renamed("cwd")),
    row(&[STEP], "input_text stdin_text", Renamed("stdin")),
    row(&[STEP], "exit_code exit_codes allowed_exit_codes expected_exit_code", Advice("write `expect: { exit_code: [CODE] }`")),
    row(&[STEP], "uses", Advice("orch has no actions: call the program itself with `run: COMMAND`, or another pipeline with `pipeline: FILE`")),
    row(&[STEP, PIPELINE], "image container docker runs_on runner pool services resources agent_pool", Advice("commands run on this machine: remove this key, and start a container yourself, as `run: [docker, run, --rm, IMAGE, COMMAND]`")),
    row(&[STEP], "sleep delay", Advice("write `run: [sleep, SECONDS]` with `access: none`")),
    row(&[STEP], "environment environment_variables env_vars", Advice("list the names of the variables that the command reads, as `env: [NAME]`")),
    row(&[PIPELINE], "env environment env_vars", Advice("variables come from the environment of orch: list the variables of a command at its step, as `env: [NAME]`")),
    row(&[STEP, AGENT], "secrets secret", Advice("secrets are environment variables: list their names where they are used, as `env: [NAME]`, and under `secrets:` of orch.yaml")),
    // Loops.
    row(&[STEP], "while", Advice("write `repeat: { until: not (CONDITION), max: ROUNDS, steps: [STEPS] }`")),
    row(&[STEP], "loop", Advice("write `for_each: LIST` to run the step for each item, or `repeat: { until: CONDITION, max: ROUNDS, steps: [STEPS] }`")),
    row(&[STEP], "for foreach each map with_items with_param items iterate iterate_over expand", Renamed("for_each")),
    row(&[STEP, PIPELINE], "matrix strategy", Advice("write `for_each: LIST` at the step, and use each value as `item` in its templates; nest steps for a second dimension")),
    row(&[STEP], "max_iterations max_rounds iterations times", Advice("write `repeat: { max: ROUNDS, steps: [STEPS] }`")),
    row(&[STEP, PIPELINE], "concurrency max_concurrency fail_fast", Advice("limit the parallel items of `for_each` or steps of `parallel` with `max_parallel: NUMBER`, and those of a run with `limits: { max_concurrency: NUMBER }` in orch.yaml")),
    row(&[STEP], "async background detach", Advice("put steps that run at the same time into a group: `parallel: [STEPS]`")),
    row(&[REPEAT], "on_exhausted", Renamed("on_max_iterations")),
    row(&[REPEAT], "while", Advice("write the opposite as `until: not (CONDITION)`")),
    row(&[REPEAT], "condition if when stop_when break_if", Renamed("until")),
    row(&[REPEAT], "max_iterations max_rounds max_attempts iterations times limit count rounds", Renamed("max")),
    row(&[REPEAT], "do body tasks jobs", Renamed("steps")),
    // Failures.
    row(&[STEP], "on_failure on_fail catch rescue", Advice("write `on_error: continue`, and add a step below it with `when: steps.ID.status == \"failed\"`")),
    row(&[PIPELINE], "on_failure on_fail on_error after_script cleanup always teardown post hooks ensure", Advice("put steps that always run at the end under `finally:`; give a step that runs only after a failure `when: steps.ID.status == \"failed\"` there")),
    row(&[PIPELINE], "on_success then", Advice("write it as the last step under `steps:`; it runs only if no step above it failed")),
    row(&[STEP], "always ensure cleanup", Advice("put the step under `finally:` of the pipeline, which always runs at the end")),
    row(&[STEP], "continue_on_error ignore_errors allow_failure soft_fail continue_on_failure", Advice("write `on_error: continue`")),
    row(&[STEP], "retries max_retries max_attempts attempts tries retry_count num_retries", Advice("write `retry: { max: NUMBER }`, which includes the first attempt")),
    row(&[STEP], "backoff retry_delay", Advice("write `retry: { max: NUMBER, backoff: 1s }`")),
    row(&[STEP], "timeout_minutes timeout_seconds time_limit timeout_in_minutes execution_timeout", Advice("write `timeout: 10m`, with its unit")),
    row(&[PIPELINE], "timeout timeout_minutes timeout_seconds deadline", Advice("limit a run with `budget: { seconds: NUMBER }`, and a step with `timeout: 10m`")),
    row(&[PIPELINE], "retry retries", Advice("each step has its own `retry: { max: NUMBER }`")),
    row(&[RETRY], "attempts max_attempts limit count times retries max_retries tries", Renamed("max")),
    row(&[RETRY], "delay interval wait initial_delay initial_interval", Renamed("backoff")),
    row(&[RETRY], "when if on_errors retry_on", Renamed("on")),
    row(&[RETRY], "factor multiplier backoff_factor jitter max_delay max_backoff strategy", Advice("the delay doubles with every attempt, up to 30 s: remove this key; `backoff: 1s` sets the first delay")),
    row(&[EXPECT], "exit_codes code codes status", Renamed("exit_code")),
    // Approvals.
    row(&[STEP], "approval manual wait_for_approval confirm human human_input interrupt interrupt_before gate ask prompt_user", Advice("put a step that requests an approval before this one: `approve: TEXT`")),
    // Artifacts and their schemas.
    row(&[STEP], "outputs", Advice("a step has one artifact, whose fields its schema names: `output: NAME`")),
    row(&[STEP], "produces save_as result artifact output_key output_name register as returns", Renamed("output")),
    row(&[STEP], "artifacts", Advice("name the artifact that the step produces, `output: NAME`, and the artifacts that it reads, `inputs: [NAME]`")),
    row(&[STEP], "reads consumes", Renamed("inputs")),
    row(&[STEP], "output_schema response_format response_schema response_model output_type output_json output_pydantic output_format json_schema format expected_output structured_output", Advice("a schema is a file in `schemas/`: write `schema: NAME` for `schemas/NAME.schema.json`, or `schema: text`")),
    row(&[PIPELINE], "vars variables params parameters arguments args input_schema", Advice("declare the inputs of a run under `inputs:`, each as a JSON Schema, such as `NAME: { type: string, default: TEXT }`")),
    row(&[STEP], "vars variables params parameters", Advice("templates use the inputs of the run by their names; pass values to a called pipeline with `with: { NAME: EXPRESSION }`")),
    row(&[PIPELINE], "output result returns return", Renamed("outputs")),
    row(&[STEP], "file files path content copy save write_file", Advice("write files with `write: \"[{'path': 'FILE', 'content': NAME}]\"`")),
    row(&[STEP], "guardrail guardrails assert asserts assertions validate validation validators checks", Advice("write the conditions that a reply must meet as `accept: [{ that: CONDITION, else: TEXT }]`")),
    row(&[ACCEPT], "condition if when assert check expression", Renamed("that")),
    row(&[ACCEPT], "message error hint feedback otherwise", Renamed("else")),
    // Other files.
    row(&[STEP], "workflow subflow sub_workflow subgraph template template_ref include import import_playbook", Renamed("pipeline")),
    row(&[PIPELINE], "import imports include includes extends uses templates", Advice("orch does not merge files: call the other pipeline from a step, `pipeline: FILE`")),
    row(&[PIPELINE], "cache", Advice("orch records results by itself: remove this key; `orch pipeline run FILE --reuse` reuses results of earlier runs")),
    row(&[PIPELINE, STEP], "permissions", Advice("declare how a step uses the workspace with `access: none`, `read` or `write`")),
    // Agents.
    row(&[STEP, AGENT], "system_prompt system instructions role goal backstory persona prompt_file prompt_template", Advice("write the role and the instructions of an agent into a file in `prompts/`, and name it in the step: `prompt: FILE.md`")),
    row(&[STEP], "user_prompt user messages user_message text query question task content_template", Advice("write the user message as `message: TEXT`; without it, orch sends the inputs of the run and of the step")),
    row(&[STEP], "llm", Advice("the model belongs to the agent: `model: PROVIDER/MODEL` under `agents:`")),
    row(&[AGENT], "llm engine model_name model_id", Renamed("model")),
    row(&[AGENT], "provider", Advice("the provider is part of the model's name: `model: PROVIDER/MODEL`")),
    row(&[AGENT], "api_key api_base base_url url endpoint headers", Advice("put addresses and keys into orch.yaml: `providers: { NAME: { dialect: openai, base_url: ADDRESS, api_key: { env: VARIABLE } } }`")),
    row(&[AGENT], "max_tokens max_completion_tokens num_predict max_new_tokens", Renamed("max_output_tokens")),
    row(&[STEP], "max_tokens max_completion_tokens num_predict max_new_tokens", Advice("it belongs to the agent: `max_output_tokens: NUMBER` under `agents:`")),
    row(&[AGENT], "reasoning_effort effort thinking_level", Renamed("reasoning")),
    row(&[AGENT], "thinking thinking_budget budget_tokens thinking_config", Advice("write how much the model reasons as one word: `reasoning: high`; orch translates it for each provider")),
    row(&[AGENT], "topP", Renamed("top_p")),
    row(&[AGENT], "stop_sequences stop_words stop_strings", Renamed("stop")),
    row(&[AGENT], "extra_body extra_params model_kwargs", Renamed("provider_options")),
    row(&[AGENT], "model_settings model_params model_parameters generation_config", Advice("write each option as a key of the agent, such as `temperature: NUMBER` or `top_p: NUMBER`")),
    row(&[AGENT], "top_k min_p presence_penalty frequency_penalty repetition_penalty logit_bias", Advice("only some providers have it: write `provider_options: { NAME: NUMBER }`, with the provider's name for it")),
    row(&[STEP], "top_p seed stop reasoning provider_options", Advice("it belongs to an agent: write it under `agents:`")),
    row(&[STEP], "reasoning_effort effort thinking thinking_budget", Advice("it belongs to the agent: `reasoning: high` under `agents:`")),
    row(&[STEP], "stop_sequences", Advice("it belongs to the agent: `stop: [TEXT]` under `agents:`")),
    row(&[STEP], "top_k presence_penalty frequency_penalty logit_bias extra_body model_kwargs", Advice("it belongs to the agent: `provider_options: { NAME: NUMBER }` under `agents:`")),
    row(&[STEP, AGENT, PIPELINE], "mcp mcp_servers mcps", Advice("MCP servers belong into orch.yaml, `mcp: { NAME: { command: [PROGRAM] } }`; an agent uses a tool of a server with `tools: [NAME.TOOL]`")),
    row(&[SETTINGS], "mcp_servers mcps", Renamed("mcp")),
    row(&[AGENT], "allowed_tools permissions functions", Renamed("tools")),
    row(&[PIPELINE], "tools functions", Advice("tools belong to an agent: `tools: [read, edit]` under `agents:`")),
    row(&[AGENT], "toolChoice function_call", Renamed("tool_choice")),
    row(&[AGENT], "max_iter max_iterations max_steps recursion_limit", Renamed("max_turns")),
    row(&[AGENT], "name id title", Advice("an agent is named by its key under `agents:`, as `NAME: { model: auto }`: remove this key")),
    row(&[AGENT], "description", Advice("an agent has no description: write it as a comment, `# TEXT`")),
    row(&[AGENT], "type kind", Advice("an agent is a model, `model: PROVIDER/MODEL`, or a CLI agent: `cli: claude`, `acp: { command: [PROGRAM] }` or `command: [PROGRAM]`")),
    row(&[AGENT], "memory verbose allow_delegation streaming stream", Advice("an agent has no such option: remove it; `orch runs show` and `orch runs events` show the replies")),
    row(&[AGENT], "output_schema response_format response_schema response_model output_type schema output", Advice("the format of the reply belongs to the step: `output: NAME` with `schema: NAME`")),
    row(&[AGENT], "fallbacks fallback_models", Advice("fallbacks belong to the step: `fallback: [PROVIDER/MODEL]`")),
    row(&[AGENT], "args arguments", Advice("write the program and its arguments as one list: `command: [PROGRAM, ARGUMENT]`")),
    row(&[ACP], "args arguments", Advice("write the program and its arguments as one list: `command: [PROGRAM, ARGUMENT]`")),
    row(&[ACP], "cmd program run", Renamed("command")),
    row(&[AGENT], "cost_limit max_cost", Advice("write `budget: { usd: NUMBER }`")),
    row(&[PIPELINE], "model llm", Advice("the model belongs to an agent: `agents: { NAME: { model: PROVIDER/MODEL } }`; set a default for all agents with `defaults: { model: PROVIDER/MODEL }` in orch.yaml")),
    // Budgets.
    row(&[BUDGET], "cost max_cost dollars max_usd price", Renamed("usd")),
    row(&[BUDGET], "max_tokens total_tokens", Renamed("tokens")),
    row(&[BUDGET], "time timeout duration time_limit max_seconds", Advice("write `seconds: NUMBER`")),
    // Settings.
    row(&[SETTINGS], "model default_model", Advice("write `defaults: { model: PROVIDER/MODEL }`")),
    row(&[SETTINGS], "timeout re_ask max_output_tokens", Advice("put defaults under one key: `defaults: { timeout: 10m, re_ask: 2, max_output_tokens: 4096 }`")),
    row(&[SETTINGS], "max_concurrency concurrency", Advice("write `limits: { max_concurrency: NUMBER }`")),
    row(&[SETTINGS], "aliases", Renamed("models")),
    row(&[SETTINGS], "api_key api_keys keys base_url", Advice("keys and addresses belong to a provider: `providers: { NAME: { dialect: openai, base_url: ADDRESS, api_key: { env: VARIABLE } } }`")),
    row(&[SETTINGS], "webhook webhooks convex", Advice("write it under `tracker:`, as `tracker: { webhook: { url: ADDRESS, secret: { env: VARIABLE } } }`")),
    row(&[SETTINGS], "env environment vars variables", Advice("orch.yaml sets no variables: export them before you start orch, and list the variables of a command at its step, as `env: [NAME]`")),
    row(&[PROVIDER], "type kind api provider protocol", Renamed("dialect")),
    row(&[PROVIDER], "url endpoint api_base host address", Renamed("base_url")),
    row(&[PROVIDER], "key token api_key_env env_key", Advice("name the variable that holds the key: `api_key: { env: VARIABLE }`")),
    row(&[PROVIDER], "rpm rate_limit", Renamed("requests_per_minute")),
    row(&[PROVIDER], "tpm", Renamed("tokens_per_minute")),
    row(&[PROVIDER], "concurrency", Renamed("max_concurrency")),
    row(&[PROVIDER], "model models", Advice("put names for models beside the providers: `models: { ALIAS: PROVIDER/MODEL }`")),
    row(&[MCP_SERVER], "args arguments", Advice("write the program and its arguments as one list: `command: [PROGRAM, ARGUMENT]`")),
    row(&[MCP_SERVER], "transport type", Advice("remove this key: orch starts a server with `command`, and reaches one with `url` over HTTP")),
    row(&[MCP_SERVER], "cmd program executable run", Renamed("command")),
    row(&[MCP_SERVER], "endpoint http_url server_url", Renamed("url")),
    row(&[MCP_SERVER], "allowed_tools enabled_tools include_tools", Renamed("tools")),
    row(&[MCP_SERVER], "disabled_tools exclude_tools excluded_tools blocked_tools", Advice("list the tools that pipelines may call: `tools: [NAME]`")),
    row(&[MCP_SERVER], "http_headers", Renamed("headers")),
    row(&[MCP_SERVER], "auth authorization oauth token api_key bearer_token bearer_token_env_var env_http_headers", Advice("name the variable that holds the secret: `headers: { Authorization: { env: VARIABLE } }`")),
    row(&[MCP_SERVER], "cwd working_directory work_dir dir", Advice("remove this key: a server starts in the workspace; if it needs a folder, pass it as an argument, as `command: [PROGRAM, FOLDER]`")),
    row(&[MCP_SERVER], "env_vars environment env_file", Advice("export the variables before you start orch, and list their names: `env: [NAME]`")),
    row(&[MCP_SERVER], "disabled enabled enable disable", Advice("remove this key: orch starts a server only for a step that uses its tools; to turn a server off, remove its entry or write `#` before each line of it")),
    row(&[MCP_SERVER], "always_allow auto_approve auto_allow trust", Advice("remove this key: orch calls the tools that an agent lists without asking, except those under `approve_tools` of the agent")),
    row(&[MCP_SERVER], "timeout timeout_ms request_timeout tool_timeout tool_timeout_sec call_timeout", Advice("remove this key: each call has the time limit of its step, a number with a unit, as in `timeout: 90s`")),
    row(&[MCP_SERVER], "startup_timeout startup_timeout_sec startup_timeout_ms init_timeout", Advice("remove this key: a server has one minute to answer after its start, and no setting changes that; the `timeout` of a step limits its calls")),
    row(&[MCP_SERVER], "name id title", Advice("a server is named by its key under `mcp:`, as `NAME: { command: [PROGRAM] }`: remove this key")),
    row(&[MCP_SERVER], "description", Advice("a server has no description: write it as a comment, `# TEXT`")),
    row(&[MCP_SERVER], "network write deny_read unix_sockets", Advice("it belongs to the sandbox of the server: `sandbox: { network: [HOST], write: [FOLDER] }`")),
    row(&[MODEL], "input_cost prompt_price input", Renamed("input_price")),
    row(&[MODEL], "output_cost completion_price output", Renamed("output_price")),
    row(&[MODEL], "context_length max_context context max_tokens", Renamed("context_window")),
    row(&[MODEL], "name id", Renamed("model")),
    row(&[MODEL], "provider", Advice("the provider is part of the model's name: `model: PROVIDER/MODEL`")),
    row(&[CONVEX], "key token deploy_key api_key", Advice("name the variable that holds the key: `auth: { env: VARIABLE }`")),
    row(&[WEBHOOK], "key token signing_key", Advice("name the variable that holds the secret: `secret: { env: VARIABLE }`")),
    // Test cases.
    row(&[CASE], "name title", Renamed("description")),
    row(&[CASE], "task", Advice("write `inputs: { task: TEXT }`")),
    row(&[CASE], "file workflow", Renamed("pipeline")),
    row(&[CASE], "mocks fixtures cassettes cassette replay recording", Renamed("recordings")),
    row(&[CASE], "expected assertions then", Renamed("expect")),
    row(&[CASE], "assert asserts status files", Advice("put the expected results under one key: `expect: { status: completed, assert: [EXPRESSION], files: [FILE] }`")),
    row(&[CASE], "approvals", Renamed("answers")),
    row(&[ANSWER, ANSWERS], "comment reason text message", Renamed("note")),
    row(&[ANSWER, ANSWERS], "answer yes accept accepted", Renamed("approved")),
    row(&[EXPECTED], "asserts assertions that", Renamed("assert")),
    row(&[EXPECTED], "outputs artifacts equals contains output result", Advice("compare artifacts with expressions: `assert: [EXPRESSION]`")),
    row(&[EXPECTED], "exit_code success", Advice("write `status: completed`, or `status: failed`")),
];
