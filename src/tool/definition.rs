//! The built-in tools as a request describes them to a model.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::model::{BuiltinTool, ToolDefinition, ToolGrant};

/// The maximum time that a call of `shell` may request, in seconds.
pub(super) const MAX_SHELL_SECONDS: u64 = 3600;

/// The definition of a tool for a request. The description contains what the grants of an agent for this tool allow.
pub fn definition(tool: BuiltinTool, grants: &[ToolGrant]) -> ToolDefinition {
    let grants: Vec<&ToolGrant> = grants.iter().filter(|grant| grant.tool == tool).collect();
    let mut description = description(tool).to_owned();
    let patterns: Option<Vec<String>> = grants.iter().map(|grant| grant.pattern.clone()).collect();
    if let Some(patterns) = patterns.filter(|patterns| !patterns.is_empty()) {
        description.push_str(&narrowing(tool, &patterns));
    }
    ToolDefinition { name: tool.as_str().to_owned(), description, parameters: Arc::new(parameters(tool)) }
}

fn description(tool: BuiltinTool) -> &'static str {
    match tool {
        BuiltinTool::Read => {
            "Reads a text file of the workspace. Each line of the result begins with its number and a tab, which are \
             not part of the file. Of a long file, the result has the beginning and the end; `from` and `lines` read \
             other lines."
        }
        BuiltinTool::List => {
            "Lists files of the workspace with their sizes in bytes. A folder ends with `/`. Without `glob`, lists the \
             entries of one folder. With `glob`, lists the files at any depth whose paths match it. Leaves out files \
             that `.gitignore` excludes."
        }
        BuiltinTool::Search => {
            "Searches the text files of the workspace for a regular expression in the syntax of Rust's `regex` crate, \
             line by line. The result has a line `PATH:NUMBER: TEXT` for each line that matches. `(?i)` at the start \
             ignores case. Leaves out files that `.gitignore` excludes."
        }
        BuiltinTool::Edit => {
            "Replaces a text in a file of the workspace. `old` must be exactly the text in the file, with its \
             indentation and without line numbers, and must occur only once; otherwise add lines around it, or set \
             `all` to replace every occurrence. Read the file first."
        }
        BuiltinTool::Write => {
            "Writes a file of the workspace, and creates its folders. Replaces an existing file as a whole; to change \
             a part of a file, use `edit` if it is available."
        }
        BuiltinTool::Shell => {
            "Runs a command in the folder of the workspace, in a sandbox. Each call starts in that folder, without \
             variables of earlier calls and without standard input. The result has the output and the exit code. All \
             processes end with the call. The sandbox may have no network, and some files can't be changed."
        }
        BuiltinTool::Fetch => {
            "Reads a page from the web over HTTP or HTTPS with a GET request. Returns a page in HTML as text, and \
             other texts unchanged."
        }
    }
}

/// The sentence about what the patterns of the grants allow.
fn narrowing(tool: BuiltinTool, patterns: &[String]) -> String {
    let quote = |pattern: &String| match pattern.strip_suffix(":*") {
        Some(words) if tool == BuiltinTool::Shell => format!("`{words} …`"),
        _ => format!("`{pattern}`"),
    };
    let patterns = patterns.iter().map(quote).collect::<Vec<_>>().join(", ");
    match tool {
        BuiltinTool::Read | BuiltinTool::List | BuiltinTool::Search | BuiltinTool::Edit | BuiltinTool::Write => {
            format!(" Only paths that match one of these globs are allowed: {patterns}.")
        }
        BuiltinTool::Shell => format!(
            " Only these commands are allowed: {patterns}. A call runs one of them directly, without a shell: \
             variables, globs, pipes, redirections and several commands in one call are not available."
        ),
        BuiltinTool::Fetch => format!(" Only these hosts are allowed: {patterns}."),
    }
}

/// The JSON Schema of the arguments of a tool.
pub(super) fn parameters(tool: BuiltinTool) -> Value {
    let path = json!({"type": "string", "minLength": 1, "description": "The path, relative to the workspace."});
    let (properties, required) = match tool {
        BuiltinTool::Read => (
            json!({
                "path": path,
                "from": {"type": "integer", "minimum": 1, "description": "The number of the first line, from 1."},
                "lines": {"type": "integer", "minimum": 1, "description": "The number of lines."},
            }),
            json!(["path"]),
        ),
        BuiltinTool::List => (
            json!({
                "path": {"type": "string",
                    "description": "The folder, relative to the workspace. Default: the workspace."},
                "glob": {"type": "string", "minLength": 1,
                    "description": "A glob relative to the workspace, such as `src/**/*.rs` or `*.md`."},
            }),
            json!([]),
        ),
        BuiltinTool::Search => (
            json!({
                "regex": {"type": "string", "minLength": 1, "description": "The regular expression."},
                "glob": {"type": "string", "minLength": 1,
                    "description": "Searches only files whose paths match this glob, such as `src/**` or `*.rs`."},
            }),
            json!(["regex"]),
        ),
        BuiltinTool::Edit => (
            json!({
                "path": path,
                "old": {"type": "string", "minLength": 1, "description": "The exact text to replace."},
                "new": {"type": "string", "description": "The text that replaces it. Empty to delete it."},
                "all": {"type": "boolean", "description": "Whether to replace every occurrence. Default: false."},
            }),
            json!(["path", "old", "new"]),
        ),
        BuiltinTool::Write => (
            json!({
                "path": path,
                "content": {"type": "string", "description": "The whole content of the file."},
            }),
            json!(["path", "content"]),
        ),
        BuiltinTool::Shell => (
            json!({
                "command": {"type": "string", "minLength": 1, "description": "The command."},
                "timeout": {"type": "integer", "minimum": 1, "maximum": MAX_SHELL_SECONDS,
                    "description": "The time limit in seconds. Default: the limit of the agent, which is the maximum."},
            }),
            json!(["command"]),
        ),
        BuiltinTool::Fetch => (
            json!({
                "url": {"type": "string", "minLength": 1,
                    "description": "The address, beginning with `https://` or `http://`."},
            }),
            json!(["url"]),
        ),
    };
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Schema;

    #[test]
    fn every_tool_has_a_valid_schema_of_an_object() {
        for tool in BuiltinTool::ALL {
            let definition = definition(tool, &[]);
            assert_eq!(definition.name, tool.as_str());
            assert_eq!(definition.parameters["type"], "object");
            Schema::compile("arguments", (*definition.parameters).clone()).unwrap();
        }
    }

    #[test]
    fn the_description_contains_what_the_grants_allow() {
        let grants = ["shell(cargo:*)", "shell(git diff)", "read(src/**)", "edit", "edit(src/**)", "fetch(docs.rs)"];
        let grants: Vec<ToolGrant> = grants.iter().map(|text| ToolGrant::parse(text).unwrap()).collect();
        let text = |tool| definition(tool, &grants).description;
        assert!(text(BuiltinTool::Shell).contains("are allowed: `cargo …`, `git diff`."));
        assert!(text(BuiltinTool::Read).ends_with("globs are allowed: `src/**`."));
        assert!(text(BuiltinTool::Fetch).ends_with("hosts are allowed: `docs.rs`."));
        for tool in [BuiltinTool::Edit, BuiltinTool::Write] {
            assert!(!text(tool).contains("are allowed"), "a grant without a pattern allows everything");
        }
    }
}
