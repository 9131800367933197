//! The keys of other tools (GitHub Actions, GitLab, Argo, Airflow, Ansible, LangGraph, CrewAI and others), each with
//! its equivalent in orch.

use super::Say::{Advice, Called};
use super::{KeyRow, Place, Say};

const PIPELINE: Place = "Pipeline";
const STEP: Place = "Step";
const REPEAT: Place = "Repeat";
const RETRY: Place = "Retry";
const EXPECT: Place = "Expect";
const AGENT: Place = "Agent";
const ACP: Place = "Acp";
const ACCEPT: Place = "Accept";
const BUDGET: Place = "Budget";
const SETTINGS: Place = "Settings";
const PROVIDER: Place = "ProviderSettings";
const MODEL: Place = "ModelSettings";
const CONVEX: Place = "ConvexSettings";
const WEBHOOK: Place = "WebhookSettings";
const CASE: Place = "Case";
const ANSWER: Place = "CannedAnswer";
const EXPECTED: Place = "Expected";

const fn row(places: &'static [Place], words: &'static str, say: Say) -> KeyRow {
    KeyRow { places, words, say }
}

/// The rows. Each word has at most one row per place.
#[rustfmt::skip]
pub(super) const KEYS: &[KeyRow] = &[
    // Which step runs, and when.
    row(&[STEP], "if condition only_if run_if", Called("when")),
    row(&[STEP], "unless skip_if", Advice("write the opposite as `when: not (CONDITION)`")),
    row(&[STEP], "else elif else_if otherwise", Advice("write a second step with the opposite condition: `when: not (CONDITION)`")),
    row(&[STEP], "then on_success next goto jump routes route router branch branches edges switch case cases choice choices transitions", Advice("steps run from top to bottom, without jumps: write the next step below, and give each step of a branch its own `when: CONDITION`")),
    row(&[STEP], "needs depends_on dependencies depends after requires upstream wait_for context", Advice("steps run from top to bottom: put this step below those that it needs, and list the artifacts that it reads, as `inputs: [NAME]`")),
    row(&[PIPELINE], "edges conditional_edges routes goto entry_point start needs depends_on transitions", Advice("steps run from top to bottom, without jumps: order them under `steps:`, and give each step of a branch its own `when: CONDITION`")),
    // Words of other tools for steps and pipelines.
    row(&[PIPELINE], "jobs stages tasks nodes", Advice("write a list `steps:`, each item with `id: NAME`; steps that run at the same time go under `parallel:` of a step")),
    row(&[STEP], "name title label display_name", Advice("a step is named by its `id: NAME`; a longer title can be a comment")),
    row(&[STEP], "description comment doc tags labels metadata annotations", Advice("a step has no description: write it as a comment, `# TEXT`")),
    row(&[PIPELINE], "id title", Called("name")),
    row(&[PIPELINE], "version api_version schema_version kind metadata", Advice("the file has no version or kind: remove this key; `name: TEXT` and `description: TEXT` are there for people")),
    row(&[STEP], "type kind step_type operator action plugin executor", Advice("the kind of a step follows from its key: `agent: NAME`, `run: COMMAND`, `write: EXPRESSION`, `approve: TEXT`, `parallel`, `repeat`, `steps` or `pipeline: FILE`")),
    row(&[PIPELINE], "crew team process state nodes_and_edges", Advice("a pipeline has `agents:`, a mapping, and `steps:`, a list that runs from top to bottom")),
    // Triggers.
    row(&[PIPELINE], "on trigger triggers schedule cron", Advice("orch does not start runs by itself: remove this key, and call `orch pipeline run FILE` from cron or a CI job")),
    // Commands.
    row(&[STEP], "cmd command bash sh exec shell_command", Called("run")),
    row(&[STEP], "script before_script", Advice("write the lines as one text for `sh -c`: `run: COMMAND`")),
    row(&[STEP], "shell", Advice("`run: COMMAND` with one text runs with `sh -c`; for another shell write `run: [bash, -c, COMMAND]`")),
    row(&[STEP], "args arguments", Advice("write the program and its arguments as one list: `run: [PROGRAM, ARGUMENT]`")),
    row(&[STEP], "working_directory working_dir workdir dir directory chdir", Called("cwd")),
    row(&[STEP], "input_text stdin_text", Called("stdin")),
    row(&[STEP], "exit_code exit_codes allowed_exit_codes expected_exit_code", Advice("write `expect: { exit_code: [CODE] }`")),
    row(&[STEP], "uses", Advice("orch has no actions: call the program itself with `run: COMMAND`, or another pipeline with `pipeline: FILE`")),
    row(&[STEP, PIPELINE], "image container docker runs_on runner pool services resources agent_pool", Advice("commands run on this machine: remove this key, and start a container yourself, as `run: [docker, run, --rm, IMAGE, COMMAND]`")),
    row(&[STEP], "sleep delay", Advice("write `run: [sleep, SECONDS]` with `access: none`")),
    row(&[STEP], "environment environment_variables env_vars", Advice("list the names of variables that the command sees, as `env: [NAME]`")),
    row(&[PIPELINE], "env environment env_vars", Advice("variables come from the environment of orch: list those that a command sees at its step, as `env: [NAME]`")),
    row(&[STEP, AGENT], "secrets secret", Advice("secrets are environment variables: list their names where they are used, as `env: [NAME]`, and under `secrets:` of orch.yaml")),
    // Loops.
    row(&[STEP], "while", Advice("write `repeat: { until: not (CONDITION), max: ROUNDS, steps: [STEPS] }`")),
    row(&[STEP], "loop", Advice("write `for_each: LIST` to run the step for each item, or `repeat: { until: CONDITION, max: ROUNDS, steps: [STEPS] }`")),
    row(&[STEP], "for foreach each map with_items with_param items iterate iterate_over expand", Called("for_each")),
    row(&[STEP, PIPELINE], "matrix strategy", Advice("write `for_each: LIST` at the step, whose texts see each value as `item`; nest steps for a second dimension")),
    row(&[STEP], "max_iterations max_rounds iterations times", Advice("write `repeat: { max: ROUNDS, steps: [STEPS] }`")),
    row(&[STEP, PIPELINE], "concurrency max_concurrency fail_fast", Advice("bound the items of `for_each` or the steps of `parallel` with `max_parallel: NUMBER`, and a whole run with `limits: { max_concurrency: NUMBER }` in orch.yaml")),
    row(&[STEP], "async background detach", Advice("steps that run at the same time stand together in a group: `parallel: [STEPS]`")),
    row(&[REPEAT], "on_exhausted", Called("on_max_iterations")),
    row(&[REPEAT], "while", Advice("write the opposite as `until: not (CONDITION)`")),
    row(&[REPEAT], "condition if when stop_when break_if", Called("until")),
    row(&[REPEAT], "max_iterations max_rounds max_attempts iterations times limit count rounds", Called("max")),
    row(&[REPEAT], "do body tasks jobs", Called("steps")),
    // Failures.
    row(&[STEP], "on_failure on_fail catch rescue", Advice("write `on_error: continue`, and below a step with `when: steps.ID.status == \"failed\"`")),
    row(&[PIPELINE], "on_failure on_fail on_error after_script cleanup always teardown post hooks ensure", Advice("steps that run at the end whatever happened stand under `finally:`; one that runs only after a failure has `when: steps.ID.status == \"failed\"` there")),
    row(&[PIPELINE], "on_success then", Advice("write it as the last of `steps:`, which runs only if the steps above did not fail")),
    row(&[STEP], "always ensure cleanup", Advice("put the step under `finally:` of the pipeline, which runs whatever happened")),
    row(&[STEP], "continue_on_error ignore_errors allow_failure soft_fail continue_on_failure", Advice("write `on_error: continue`")),
    row(&[STEP], "retries max_retries max_attempts attempts tries retry_count num_retries", Advice("write `retry: { max: NUMBER }`, which counts the first try too")),
    row(&[STEP], "backoff retry_delay", Advice("write `retry: { max: NUMBER, backoff: 1s }`")),
    row(&[STEP], "timeout_minutes timeout_seconds time_limit timeout_in_minutes execution_timeout", Advice("write `timeout: 10m`, with its unit")),
    row(&[PIPELINE], "timeout timeout_minutes timeout_seconds deadline", Advice("a run is bounded by `budget: { seconds: NUMBER }`, a step by `timeout: 10m`")),
    row(&[PIPELINE], "retry retries", Advice("each step has its own `retry: { max: NUMBER }`")),
    row(&[RETRY], "attempts max_attempts limit count times retries max_retries tries", Called("max")),
    row(&[RETRY], "delay interval wait initial_delay initial_interval", Called("backoff")),
    row(&[RETRY], "when if on_errors retry_on", Called("on")),
    row(&[RETRY], "factor multiplier backoff_factor jitter max_delay max_backoff strategy", Advice("the pause doubles with every try, up to 30 s: remove this key; `backoff: 1s` is the first pause")),
    row(&[EXPECT], "exit_codes code codes status", Called("exit_code")),
    // Approvals.
    row(&[STEP], "approval manual wait_for_approval confirm human human_input interrupt interrupt_before gate ask prompt_user", Advice("write a step that asks a person before this one: `approve: TEXT`")),
    // Artifacts and their schemas.
    row(&[STEP], "outputs", Advice("a step has one artifact, whose fields its schema names: `output: NAME`")),
    row(&[STEP], "produces save_as result artifact output_key output_name register as returns", Called("output")),
    row(&[STEP], "artifacts", Advice("what a step gives is `output: NAME`, what it reads is `inputs: [NAME]`")),
    row(&[STEP], "reads consumes", Called("inputs")),
    row(&[STEP], "output_schema response_format response_schema response_model output_type output_json output_pydantic output_format json_schema format expected_output structured_output", Advice("a schema is a file of `schemas/`: write `schema: NAME` for `schemas/NAME.schema.json`, or `schema: text`")),
    row(&[PIPELINE], "vars variables params parameters arguments args input_schema", Advice("values that a run is given are `inputs:`, each a JSON Schema, such as `NAME: { type: string, default: TEXT }`")),
    row(&[STEP], "vars variables params parameters", Advice("texts of a step see the inputs of the run by name; a called pipeline is given values with `with: { NAME: EXPRESSION }`")),
    row(&[PIPELINE], "output result returns return", Called("outputs")),
    row(&[STEP], "file files path content copy save write_file", Advice("write files with `write: \"[{'path': 'FILE', 'content': NAME}]\"`")),
    row(&[STEP], "guardrail guardrails assert asserts assertions validate validation validators checks", Advice("write what must hold of a reply as `accept: [{ that: CONDITION, else: TEXT }]`")),
    row(&[ACCEPT], "condition if when assert check expression", Called("that")),
    row(&[ACCEPT], "message error hint feedback otherwise", Called("else")),
    // Other files.
    row(&[STEP], "call workflow subflow sub_workflow subgraph template template_ref include import import_playbook", Called("pipeline")),
    row(&[PIPELINE], "import imports include includes extends uses templates", Advice("a file is not merged into another: call it as a step, `pipeline: FILE`")),
    row(&[PIPELINE], "cache", Advice("results are kept by themselves: remove this key; `orch pipeline run FILE --reuse` takes those of earlier runs")),
    row(&[PIPELINE, STEP], "permissions", Advice("what a step does to the workspace is its `access: none`, `read` or `write`")),
    // Agents.
    row(&[STEP, AGENT], "system_prompt system instructions role goal backstory persona prompt_file prompt_template", Advice("who an agent is and what it does stands in a file of `prompts/`, which the step names: `prompt: FILE.md`")),
    row(&[STEP], "user_prompt user messages user_message text query question task content_template", Advice("what the agent is asked is `message: TEXT`; without it the agent is shown the inputs of the run and of the step")),
    row(&[STEP], "llm", Advice("the model belongs to the agent: `model: PROVIDER/MODEL` under `agents:`")),
    row(&[AGENT], "llm engine model_name model_id", Called("model")),
    row(&[AGENT], "provider", Advice("the provider is part of the name of the model: `model: PROVIDER/MODEL`")),
    row(&[AGENT], "api_key api_base base_url url endpoint headers", Advice("addresses and keys stand in orch.yaml: `providers: { NAME: { dialect: openai, base_url: ADDRESS, api_key: { env: VARIABLE } } }`")),
    row(&[AGENT], "max_tokens max_completion_tokens num_predict max_new_tokens", Called("max_output_tokens")),
    row(&[STEP], "max_tokens max_completion_tokens num_predict max_new_tokens", Advice("it belongs to the agent: `max_output_tokens: NUMBER` under `agents:`")),
    row(&[STEP, AGENT], "top_p top_k seed presence_penalty frequency_penalty stop stop_sequences logit_bias reasoning_effort reasoning thinking effort", Advice("an agent has no such parameter: remove it; `temperature: NUMBER` and `max_output_tokens: NUMBER` under `agents:` are those that orch sends")),
    row(&[STEP, AGENT, PIPELINE, SETTINGS], "mcp mcp_servers mcps", Advice("orch starts no MCP servers: take a program that brings its own, `acp: { command: [PROGRAM, --acp] }` under `agents:`, with the servers in its settings")),
    row(&[AGENT], "allowed_tools permissions functions", Called("tools")),
    row(&[PIPELINE], "tools functions", Advice("tools belong to agents that are programs: `cli: claude` with `tools: [NAME]` under `agents:`")),
    row(&[AGENT], "max_iter max_iterations max_steps recursion_limit", Called("max_turns")),
    row(&[AGENT], "name id title", Advice("an agent is named by its key under `agents:`, as `NAME: { model: auto }`: remove this key")),
    row(&[AGENT], "description", Advice("an agent has no description: write it as a comment, `# TEXT`")),
    row(&[AGENT], "type kind", Advice("an agent is a model, `model: PROVIDER/MODEL`, or a program: `cli: claude`, `acp: { command: [PROGRAM] }` or `command: [PROGRAM]`")),
    row(&[AGENT], "memory verbose allow_delegation streaming stream", Advice("an agent has no such option: remove it; `orch runs show` and `orch runs events` show what was said")),
    row(&[AGENT], "output_schema response_format response_schema response_model output_type schema output", Advice("the form of an answer belongs to the step: `output: NAME` with `schema: NAME`")),
    row(&[AGENT], "fallbacks fallback_models", Advice("fallbacks belong to the step: `fallback: [PROVIDER/MODEL]`")),
    row(&[AGENT], "args arguments", Advice("write the program and its arguments as one list: `command: [PROGRAM, ARGUMENT]`")),
    row(&[ACP], "args arguments", Advice("write the program and its arguments as one list: `command: [PROGRAM, ARGUMENT]`")),
    row(&[ACP], "cmd program run", Called("command")),
    row(&[AGENT], "cost_limit max_cost", Advice("write `budget: { usd: NUMBER }`")),
    row(&[PIPELINE], "model llm", Advice("the model belongs to an agent: `agents: { NAME: { model: PROVIDER/MODEL } }`; that of all is `defaults: { model: PROVIDER/MODEL }` in orch.yaml")),
    // Budgets.
    row(&[BUDGET], "cost max_cost dollars max_usd price", Called("usd")),
    row(&[BUDGET], "max_tokens total_tokens", Called("tokens")),
    row(&[BUDGET], "time timeout duration time_limit max_seconds", Advice("write `seconds: NUMBER`")),
    // Settings.
    row(&[SETTINGS], "model default_model", Advice("write `defaults: { model: PROVIDER/MODEL }`")),
    row(&[SETTINGS], "timeout re_ask max_output_tokens", Advice("defaults stand together: `defaults: { timeout: 10m, re_ask: 2, max_output_tokens: 4096 }`")),
    row(&[SETTINGS], "max_concurrency concurrency", Advice("write `limits: { max_concurrency: NUMBER }`")),
    row(&[SETTINGS], "aliases", Called("models")),
    row(&[SETTINGS], "api_key api_keys keys base_url", Advice("keys and addresses belong to a provider: `providers: { NAME: { dialect: openai, base_url: ADDRESS, api_key: { env: VARIABLE } } }`")),
    row(&[SETTINGS], "webhook webhooks convex", Advice("write it under `tracker:`, as `tracker: { webhook: { url: ADDRESS, secret: { env: VARIABLE } } }`")),
    row(&[SETTINGS], "env environment vars variables", Advice("orch.yaml sets no variables: export them before you start orch, and list those that a command sees at its step, as `env: [NAME]`")),
    row(&[PROVIDER], "type kind api provider protocol", Called("dialect")),
    row(&[PROVIDER], "url endpoint api_base host address", Called("base_url")),
    row(&[PROVIDER], "key token api_key_env env_key", Advice("name the variable that holds the key: `api_key: { env: VARIABLE }`")),
    row(&[PROVIDER], "rpm rate_limit", Called("requests_per_minute")),
    row(&[PROVIDER], "tpm", Called("tokens_per_minute")),
    row(&[PROVIDER], "concurrency", Called("max_concurrency")),
    row(&[PROVIDER], "model models", Advice("names for models stand beside the providers: `models: { ALIAS: PROVIDER/MODEL }`")),
    row(&[MODEL], "input_cost prompt_price input", Called("input_price")),
    row(&[MODEL], "output_cost completion_price output", Called("output_price")),
    row(&[MODEL], "context_length max_context context max_tokens", Called("context_window")),
    row(&[MODEL], "name id", Called("model")),
    row(&[MODEL], "provider", Advice("the provider is part of the name of the model: `model: PROVIDER/MODEL`")),
    row(&[CONVEX], "key token deploy_key api_key", Advice("name the variable that holds the key: `auth: { env: VARIABLE }`")),
    row(&[WEBHOOK], "key token signing_key", Advice("name the variable that holds the secret: `secret: { env: VARIABLE }`")),
    // Test cases.
    row(&[CASE], "name title", Called("description")),
    row(&[CASE], "task", Advice("write `inputs: { task: TEXT }`")),
    row(&[CASE], "file workflow", Called("pipeline")),
    row(&[CASE], "mocks fixtures cassettes cassette replay recording", Called("recordings")),
    row(&[CASE], "expected assertions then", Called("expect")),
    row(&[CASE], "assert asserts status files", Advice("what must come out stands together: `expect: { status: completed, assert: [EXPRESSION], files: [FILE] }`")),
    row(&[CASE], "approvals", Called("answers")),
    row(&[ANSWER], "comment reason text message", Called("note")),
    row(&[ANSWER], "answer yes accept accepted", Called("approved")),
    row(&[EXPECTED], "asserts assertions that", Called("assert")),
    row(&[EXPECTED], "outputs artifacts equals contains output result", Advice("compare artifacts with expressions: `assert: [EXPRESSION]`")),
    row(&[EXPECTED], "exit_code success", Advice("write `status: completed`, or `status: failed`")),
];
