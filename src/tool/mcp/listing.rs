//! Reads the tools that a server lists, and leaves out those that orch can't offer.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::model::visible::escape_unsafe;
use crate::model::{McpListing, McpServerSpec, McpToolDefinition};
use crate::process::shorten_middle;
use crate::schema::Schema;
use crate::secret::Redactor;

use super::listed_tools::UNREADABLE;
use super::tool_pages::ToolPages;

/// The maximum length of a tool's name, in bytes.
const MAX_NAME_BYTES: usize = 128;
/// The maximum length of a description, in bytes. orch cuts off the rest.
const MAX_DESCRIPTION_BYTES: usize = 4 << 10;
/// The maximum size of a schema, in bytes.
const MAX_SCHEMA_BYTES: usize = 128 << 10;
/// The maximum number of notes about a listing.
const MAX_NOTES: usize = 20;
/// The maximum length of the text of a server in a note, in bytes.
const MAX_QUOTED_BYTES: usize = 200;

/// The tools of a server, and what orch left out.
#[derive(Clone, Debug)]
pub struct ListedServer {
    /// The tools that agents and steps may call.
    pub listing: Arc<McpListing>,
    /// The tools that orch left out, and the reasons, as sentences.
    pub notes: Vec<String>,
}

impl ToolPages {
    /// The tools that orch can offer, without secrets.
    pub(super) fn into_listing(
        self,
        server: &McpServerSpec,
        protocol_version: String,
        redactor: &Redactor,
    ) -> ListedServer {
        let mut notes = Notes { server: &server.name, texts: Vec::new(), omitted: 0 };
        if let Some(reason) = self.cut_off {
            notes.push(format!("the MCP server `{}` is read only in part: {reason}", server.name));
        }
        let mut tools: Vec<McpToolDefinition> = Vec::new();
        for tool in self.tools {
            let tool = redactor.redact_value(tool);
            let name = match tool_name(&tool) {
                Ok(name) if !server.allows(name) => continue,
                Ok(name) => name.to_owned(),
                Err((name, reason)) => {
                    notes.leave_out(name, &reason);
                    continue;
                }
            };
            if tools.iter().any(|tool| tool.name == name) {
                notes.leave_out(&name, "the server lists another one with this name");
                continue;
            }
            match read_definition(&name, tool, &mut notes) {
                Ok(definition) => tools.push(definition),
                Err(reason) => notes.leave_out(&name, &reason),
            }
        }
        for name in server.tools.iter().flatten() {
            if !tools.iter().any(|tool| tool.name == *name) && !notes.mentions(name) {
                notes.push(format!("the MCP server `{}` does not list the tool `{name}` of its `tools`", server.name));
            }
        }
        tools.sort_by(|a, b| a.name.cmp(&b.name));
        let listing = Arc::new(McpListing { server: server.name.clone(), protocol_version, tools });
        ListedServer { listing, notes: notes.finish() }
    }
}

/// Collects notes about a server.
struct Notes<'a> {
    server: &'a str,
    texts: Vec<String>,
    omitted: usize,
}

impl Notes<'_> {
    fn push(&mut self, note: String) {
        if self.texts.len() < MAX_NOTES {
            self.texts.push(note);
        } else {
            self.omitted += 1;
        }
    }

    fn leave_out(&mut self, tool: &str, reason: &str) {
        let note = format!("{}, so orch leaves it out: {}", self.tool(tool), shorten_middle(reason, MAX_QUOTED_BYTES));
        self.push(note);
    }

    /// The beginning of a note about a tool. The name comes from the server.
    fn tool(&self, name: &str) -> String {
        let name = shorten_middle(name, MAX_QUOTED_BYTES);
        let name = escape_unsafe(&name).replace(['\n', '\r', '\t'], " ");
        format!("the tool `{name}` of the MCP server `{}` can't be offered", self.server)
    }

    fn mentions(&self, tool: &str) -> bool {
        let beginning = self.tool(tool);
        self.texts.iter().any(|note| note.starts_with(&beginning))
    }

    fn finish(mut self) -> Vec<String> {
        if self.omitted > 0 {
            self.texts.push(format!("there are {} more notes about the MCP server `{}`", self.omitted, self.server));
        }
        self.texts
    }
}

/// The name of a tool. The error is the name, as far as there is one, and what is wrong with it.
fn tool_name(tool: &Value) -> Result<&str, (&str, String)> {
    let name = tool.get("name").and_then(Value::as_str).unwrap_or_default();
    let reason = if name.is_empty() {
        "it has no name, or its name is not a text".to_owned()
    } else if name.len() > MAX_NAME_BYTES {
        format!("its name has more than {MAX_NAME_BYTES} bytes")
    } else if name.contains(char::is_whitespace) || escape_unsafe(name) != name {
        "its name has spaces, or characters that can't be seen".to_owned()
    } else if name == "*" {
        "its name stands for all tools".to_owned()
    } else {
        return Ok(name);
    };
    Err((name, reason))
}

/// Reads the definition of a tool. The error is the reason why orch can't offer the tool.
fn read_definition(name: &str, tool: Value, notes: &mut Notes<'_>) -> Result<McpToolDefinition, String> {
    let mut members = match tool {
        Value::Object(members) => members,
        _ => Map::new(),
    };
    if let Some(Value::String(reason)) = members.remove(UNREADABLE) {
        return Err(reason);
    }
    let mut text = |key: &str| match members.remove(key) {
        Some(Value::String(text)) => Ok(text),
        None | Some(Value::Null) => Ok(String::new()),
        Some(_) => Err(format!("its `{key}` is not a text")),
    };
    let (description, title) = (text("description")?, text("title")?);
    let description = shorten_end(if description.is_empty() { title } else { description });
    let input_schema = read_input_schema(members.remove("inputSchema"))?;
    let output_schema = match members.remove("outputSchema") {
        None | Some(Value::Null) => None,
        Some(schema) => match check_schema(&schema) {
            Ok(()) => Some(Arc::new(schema)),
            Err(reason) => {
                let reason = shorten_middle(&reason, MAX_QUOTED_BYTES).into_owned();
                notes.push(format!(
                    "the tool `{name}` of the MCP server `{}` has no structured result: its output schema {reason}",
                    notes.server
                ));
                None
            }
        },
    };
    Ok(McpToolDefinition { name: name.to_owned(), description, input_schema: Arc::new(input_schema), output_schema })
}

/// Cuts off the end of a description that is too long.
fn shorten_end(mut text: String) -> String {
    if text.len() > MAX_DESCRIPTION_BYTES {
        text.truncate(text.floor_char_boundary(MAX_DESCRIPTION_BYTES));
        text.push('…');
    }
    text
}

/// Reads the schema of the arguments, which must be an object.
fn read_input_schema(schema: Option<Value>) -> Result<Value, String> {
    let mut members = match schema {
        Some(Value::Object(members)) => members,
        None | Some(Value::Null) => Map::new(),
        Some(_) => return Err("its input schema is not an object".to_owned()),
    };
    if *members.entry("type").or_insert_with(|| json!("object")) != "object" {
        return Err("its arguments are not an object".to_owned());
    }
    let schema = Value::Object(members);
    check_schema(&schema).map_err(|reason| format!("its input schema {reason}"))?;
    Ok(schema)
}

/// Checks that orch can use a schema. The error continues a sentence.
fn check_schema(schema: &Value) -> Result<(), String> {
    if schema.to_string().len() > MAX_SCHEMA_BYTES {
        return Err(format!("has more than {} KiB", MAX_SCHEMA_BYTES >> 10));
    }
    match Schema::compile("schema", schema.clone()) {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("can't be used: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use secrecy::SecretString;

    use super::*;
    use crate::model::{McpAccess, McpTransport};
    use crate::tool::mcp::tool_pages::ToolsPage;

    fn server(tools: Option<&[&str]>) -> McpServerSpec {
        McpServerSpec {
            name: "files".to_owned(),
            transport: McpTransport::Http { url: "http://localhost".to_owned(), headers: indexmap::IndexMap::new() },
            tools: tools.map(|tools| tools.iter().map(|tool| (*tool).to_owned()).collect()),
            access: McpAccess::Read,
        }
    }

    fn page(result: Value) -> ToolsPage {
        ToolsPage::read(result, 1).unwrap()
    }

    fn listed(tools: Value, allowed: Option<&[&str]>) -> ListedServer {
        let mut pages = ToolPages::default();
        assert_eq!(pages.push(page(json!({ "tools": tools }))), None);
        pages.into_listing(&server(allowed), "2025-11-25".to_owned(), &Redactor::default())
    }

    fn names(listed: &ListedServer) -> Vec<&str> {
        listed.listing.tools.iter().map(|tool| tool.name.as_str()).collect()
    }

    #[test]
    fn allowed_tools_are_sorted_and_have_object_schemas() {
        let tools = json!([
            { "name": "read", "description": "Reads.", "inputSchema": { "type": "object" }, "annotations": { "x": 1 } },
            { "name": "other", "inputSchema": { "type": "object" } },
            { "name": "list", "title": "Lists", "inputSchema": { "properties": {} }, "outputSchema": { "minItems": 1 } },
        ]);
        let listed = listed(tools, Some(&["read", "list"]));
        assert_eq!((names(&listed), listed.notes.len()), (vec!["list", "read"], 0), "{:?}", listed.notes);
        let list = listed.listing.find("list").unwrap();
        assert_eq!(*list.input_schema, json!({ "properties": {}, "type": "object" }));
        assert_eq!(
            (list.description.as_str(), list.output_schema.as_deref()),
            ("Lists", Some(&json!({ "minItems": 1 })))
        );
    }

    #[test]
    fn a_tool_that_cannot_be_offered_is_left_out_with_a_reason() {
        let object = json!({ "type": "object" });
        let large = json!({ "type": "object", "description": "x".repeat(MAX_SCHEMA_BYTES) });
        for (tool, reason) in [
            (json!({ "inputSchema": object }), "it has no name"),
            (json!({ "name": "a b", "inputSchema": object }), "spaces, or characters that can't be seen"),
            (json!({ "name": "a\u{1b}[31m", "inputSchema": object }), "the tool `a\\u{1b}[31m` of"),
            (json!({ "name": "*", "inputSchema": object }), "stands for all tools"),
            (json!({ "name": "x".repeat(129), "inputSchema": object }), "more than 128 bytes"),
            (json!({ "name": "a", "inputSchema": { "type": "array" } }), "its arguments are not an object"),
            (json!({ "name": "a", "inputSchema": true }), "its input schema is not an object"),
            (json!({ "name": 5, "inputSchema": object }), "its name is not a text"),
            (json!({ "name": "a", "description": 5 }), "its `description` is not a text"),
            (json!({ "name": "a", UNREADABLE: "it is wrong" }), "it is wrong"),
            (
                json!({ "name": "a", "inputSchema": { "type": "object", "properties": 1 } }),
                "its input schema can't be used",
            ),
            (
                json!({ "name": "a", "inputSchema": { "type": "object", "$ref": "https://example.org/x" } }),
                "its input schema can't be used",
            ),
            (json!({ "name": "a", "inputSchema": large }), "its input schema has more than 128 KiB"),
        ] {
            let listed = listed(json!([tool, { "name": "good" }]), None);
            assert_eq!((names(&listed), listed.notes.len()), (vec!["good"], 1), "{reason}: {:?}", listed.notes);
            assert!(listed.notes[0].contains(reason), "{reason}: {}", listed.notes[0]);
        }
        let twice = listed(json!([{ "name": "a", "description": "1" }, { "name": "a", "description": "2" }]), None);
        assert_eq!((names(&twice), twice.listing.tools[0].description.as_str()), (vec!["a"], "1"));
        assert!(twice.notes[0].contains("another one with this name"), "{:?}", twice.notes);
    }

    #[test]
    fn an_unusable_output_schema_takes_away_only_the_structured_result() {
        let listed = listed(json!([{ "name": "a", "outputSchema": { "type": "nothing" } }]), None);
        assert_eq!((names(&listed), listed.listing.tools[0].output_schema.as_ref()), (vec!["a"], None));
        assert!(listed.notes[0].contains("has no structured result"), "{:?}", listed.notes);
    }

    #[test]
    fn a_tool_of_the_settings_that_the_server_does_not_list_is_noted() {
        let listed = listed(json!([{ "name": "a" }, { "name": "b", "inputSchema": 1 }]), Some(&["a", "b", "c"]));
        assert_eq!(listed.notes.len(), 2, "{:?}", listed.notes);
        assert!(listed.notes[0].contains("`b`") && listed.notes[1].contains("does not list the tool `c`"));
    }

    #[test]
    fn definitions_contain_no_secret_and_descriptions_are_short() {
        let secret = SecretString::from("s3cret-value-of-a-key");
        let mut pages = ToolPages::default();
        let schema = json!({ "type": "object", "properties": { "a": { "default": "s3cret-value-of-a-key" } } });
        let description = format!("s3cret-value-of-a-key {}", "ä".repeat(4000));
        let tools = json!([{ "name": "a", "description": description, "inputSchema": schema }]);
        pages.push(page(json!({ "tools": tools })));
        let redactor = Redactor::new([("KEY", &secret)]);
        let listed = pages.into_listing(&server(None), String::new(), &redactor);
        let text = json!(listed.listing.tools).to_string();
        assert!(!text.contains("s3cret") && text.contains("[secret KEY]"), "{text}");
        assert!(listed.listing.tools[0].description.len() <= MAX_DESCRIPTION_BYTES + "…".len());
    }
}
