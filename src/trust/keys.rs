//! A table of the keys of `orch.yaml` with their effects on the data that orch sends to other machines. Every new key
//! must have an entry.

/// The effect of a key of `orch.yaml` on the data that orch sends to other machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyClass {
    /// None. The key changes only how a run works, or which data orch refuses and redacts.
    Inert,
    /// The key sets an address to which orch sends data.
    Address,
    /// The key names an environment variable whose value orch sends or signs with.
    Variable,
    /// The key weakens the protection of data that orch sends, or loosens the sandbox of programs.
    WeakensProtection,
    /// orch sends the value of the key itself.
    Literal,
    /// The key names a program that orch starts.
    Program,
    /// The key determines what an MCP server may do, or which of its tools models and steps may call.
    ServerTerms,
}

impl KeyClass {
    /// Whether the user has to agree again when the key's value changes.
    pub fn needs_agreement(self) -> bool {
        match self {
            Self::Address | Self::Variable | Self::WeakensProtection | Self::Program | Self::ServerTerms => true,
            // The author of the file knows a literal value already, so sending it discloses no secret of the user.
            Self::Inert | Self::Literal => false,
        }
    }
}

/// Every key of `orch.yaml` that has a value, with `*` for names that the user chooses.
pub const SETTINGS_KEYS: &[(&str, KeyClass)] = &[
    ("providers.*.dialect", KeyClass::Inert),
    ("providers.*.base_url", KeyClass::Address),
    ("providers.*.api_key.env", KeyClass::Variable),
    ("providers.*.insecure", KeyClass::WeakensProtection),
    ("providers.*.structured_output", KeyClass::Inert),
    ("providers.*.max_concurrency", KeyClass::Inert),
    ("providers.*.requests_per_minute", KeyClass::Inert),
    ("providers.*.tokens_per_minute", KeyClass::Inert),
    ("providers.*.key_header", KeyClass::Literal),
    ("providers.*.aws.region", KeyClass::Address),
    ("providers.*.query.*", KeyClass::Literal),
    ("providers.*.headers.*", KeyClass::Literal),
    ("models.*", KeyClass::Inert),
    ("models.*.model", KeyClass::Inert),
    ("models.*.gguf", KeyClass::Inert),
    ("models.*.input_price", KeyClass::Inert),
    ("models.*.output_price", KeyClass::Inert),
    ("models.*.cached_input_price", KeyClass::Inert),
    ("models.*.context_window", KeyClass::Inert),
    ("defaults.model", KeyClass::Inert),
    ("defaults.timeout", KeyClass::Inert),
    ("defaults.re_ask", KeyClass::Inert),
    ("defaults.max_output_tokens", KeyClass::Inert),
    ("limits.max_concurrency", KeyClass::Inert),
    ("recordings.normalize", KeyClass::Inert),
    ("budget.usd", KeyClass::Inert),
    ("budget.tokens", KeyClass::Inert),
    ("budget.seconds", KeyClass::Inert),
    ("budget.unpriced", KeyClass::Inert),
    ("budget.unreported", KeyClass::Inert),
    ("sandbox.enabled", KeyClass::WeakensProtection),
    ("sandbox.min", KeyClass::WeakensProtection),
    ("sandbox.network", KeyClass::WeakensProtection),
    ("sandbox.write", KeyClass::WeakensProtection),
    ("sandbox.deny_read", KeyClass::Inert),
    ("sandbox.unix_sockets", KeyClass::WeakensProtection),
    ("sandbox.limits.memory", KeyClass::Inert),
    ("sandbox.limits.processes", KeyClass::Inert),
    ("sandbox.limits.cpu_time", KeyClass::Inert),
    ("sandbox.limits.file_size", KeyClass::Inert),
    ("sandbox.limits.open_files", KeyClass::Inert),
    ("mcp.*.command", KeyClass::Program),
    ("mcp.*.url", KeyClass::Address),
    ("mcp.*.headers.*", KeyClass::ServerTerms),
    ("mcp.*.headers.*.env", KeyClass::Variable),
    ("mcp.*.insecure", KeyClass::WeakensProtection),
    ("mcp.*.env", KeyClass::Variable),
    ("mcp.*.sandbox.enabled", KeyClass::WeakensProtection),
    ("mcp.*.sandbox.min", KeyClass::WeakensProtection),
    ("mcp.*.sandbox.network", KeyClass::WeakensProtection),
    ("mcp.*.sandbox.write", KeyClass::WeakensProtection),
    ("mcp.*.sandbox.deny_read", KeyClass::ServerTerms),
    ("mcp.*.sandbox.unix_sockets", KeyClass::WeakensProtection),
    ("mcp.*.sandbox.limits.memory", KeyClass::Inert),
    ("mcp.*.sandbox.limits.processes", KeyClass::Inert),
    ("mcp.*.sandbox.limits.cpu_time", KeyClass::Inert),
    ("mcp.*.sandbox.limits.file_size", KeyClass::Inert),
    ("mcp.*.sandbox.limits.open_files", KeyClass::Inert),
    ("mcp.*.tools", KeyClass::ServerTerms),
    ("mcp.*.access", KeyClass::ServerTerms),
    ("secrets", KeyClass::Inert),
    ("tracker.convex.url", KeyClass::Address),
    ("tracker.convex.url.env", KeyClass::Address),
    ("tracker.convex.auth.env", KeyClass::Variable),
    ("tracker.convex.insecure", KeyClass::WeakensProtection),
    ("tracker.webhook.url", KeyClass::Address),
    ("tracker.webhook.url.env", KeyClass::Address),
    ("tracker.webhook.secret.env", KeyClass::Variable),
    ("tracker.flush", KeyClass::Inert),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::{Value, json};

    use super::*;
    use crate::trust::Disclosures;

    /// Collects the keys of a schema that have values, in the notation of [`SETTINGS_KEYS`].
    fn collect_keys(schema: &Value, root: &Value, path: &str, out: &mut BTreeSet<String>) {
        let referenced = schema["$ref"].as_str().map(|name| root.pointer(name.trim_start_matches('#')).unwrap());
        let schema = referenced.unwrap_or(schema);
        let child_path = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        let mut has_children = false;
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            has_children = true;
            collect_keys(property, root, &child_path(name), out);
        }
        if schema["additionalProperties"].is_object() {
            has_children = true;
            collect_keys(&schema["additionalProperties"], root, &child_path("*"), out);
        }
        // If the value may be a string or a mapping, the table lists both the key and its children.
        let may_be_string = schema["type"].as_array().is_some_and(|types| types.contains(&"string".into()));
        if !has_children || may_be_string {
            out.insert(path.to_owned());
        }
    }

    #[test]
    fn every_key_of_the_settings_has_a_class() {
        let schema = crate::config::settings_schema();
        let mut schema_keys = BTreeSet::new();
        collect_keys(schema, schema, "", &mut schema_keys);
        let table: BTreeSet<String> = SETTINGS_KEYS.iter().map(|(key, _)| (*key).to_owned()).collect();
        assert_eq!(schema_keys, table, "give a new key of orch.yaml a class in src/trust/keys.rs");
    }

    /// Settings in which each key that needs an agreement has a value.
    fn settings() -> Value {
        json!({
            "providers": {
                "lab": {
                    "dialect": "openai", "base_url": "https://a.example/v1", "api_key": { "env": "A_KEY" }, "insecure": false,
                },
                "bedrock": { "dialect": "converse", "base_url": "https://a.example", "aws": { "region": "us-east-1" } },
            },
            "tracker": {
                "convex": { "url": "https://a.example", "auth": { "env": "A_KEY" }, "insecure": false },
                "webhook": { "url": "https://a.example", "secret": { "env": "A_KEY" } },
            },
            "sandbox": { "enabled": true, "min": "full", "network": "none", "write": ["."], "unix_sockets": false },
            "mcp": {
                "lab": { "url": "https://a.example", "headers": { "lab": { "env": "A_KEY" } }, "insecure": false },
                "program": {
                    "command": ["a-server"], "env": ["A_KEY"], "tools": ["a"], "access": "write",
                    "sandbox": {
                        "enabled": true, "min": "full", "network": "none", "write": ["."], "unix_sockets": false,
                        "deny_read": ["~/a"],
                    },
                },
            },
        })
    }

    fn digest(settings: Value) -> Option<crate::model::Digest> {
        Disclosures::from_settings(&serde_json::from_value(settings).unwrap()).digest()
    }

    #[test]
    fn a_changed_value_of_an_address_or_a_variable_needs_another_agreement() {
        let before = digest(settings());
        assert!(before.is_some());
        for (key, class) in SETTINGS_KEYS.iter().filter(|(_, class)| class.needs_agreement()) {
            let value = match class {
                _ if key.ends_with("sandbox.enabled") => json!(false),
                _ if key.ends_with("sandbox.min") => json!("basic"),
                _ if key.ends_with("sandbox.network") => json!("all"),
                _ if key.ends_with("sandbox.write") => json!(["~/x"]),
                _ if *key == "mcp.*.env" => json!(["B_KEY"]),
                _ if *key == "mcp.*.access" => json!("read"),
                _ if *key == "mcp.*.headers.*" => json!("b"),
                KeyClass::ServerTerms => json!(["b"]),
                KeyClass::Program => json!(["b-server"]),
                KeyClass::WeakensProtection => json!(true),
                KeyClass::Variable => json!("B_KEY"),
                _ if key.ends_with(".env") => json!({ "env": "B_URL" }),
                _ => json!("https://b.example/v1"),
            };
            let is_program = ["mcp.*.command", "mcp.*.env", "mcp.*.tools", "mcp.*.access"].contains(key)
                || key.starts_with("mcp.*.sandbox.");
            let provider = if key.contains(".aws.") { "bedrock" } else { "lab" };
            let entry = if is_program { "program" } else { provider };
            // `url.env` replaces a plain `url`.
            let pointer = format!("/{}", key.replace(".url.env", ".url").replace('*', entry).replace('.', "/"));
            let mut changed = settings();
            *changed.pointer_mut(&pointer).unwrap_or_else(|| panic!("give {key} a value in `settings`")) = value;
            assert_ne!(digest(changed), before, "{key}");
        }
    }
}
