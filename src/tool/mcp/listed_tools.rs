//! Reads lists of tools in which single definitions are wrong, and lists with too many definitions.

use serde_json::{Map, Value, json};

use super::json_parts::{elements, find, measure, members};
use super::messages::{MAX_DEPTH, UnreadableJson, read_value};
use super::tool_pages::MAX_TOOLS;

/// How many levels a tool may be nested, which is in a list in a result in a message.
const MAX_TOOL_DEPTH: usize = MAX_DEPTH - 3;
/// How many tools of one list orch reads: with one too many, it can say that there are too many.
const MAX_READ_TOOLS: usize = MAX_TOOLS + 1;
/// The member of a result with the tools.
const TOOLS: &str = "tools";
/// The member of a tool that orch could not read. It says why.
pub(super) const UNREADABLE: &str = "orch/unreadable";

/// Whether a result lists more tools than orch reads. Parsing all of them would take long.
pub(super) fn has_too_many_tools(result: &[(String, &[u8])]) -> bool {
    find(result, TOOLS).is_some_and(|tools| elements(tools).len() > MAX_READ_TOOLS)
}

/// The answer to a request for tools, with the reason in the place of each tool that can't be read, and without those that
/// orch does not read. `None` if the message is another one, or if another part of it is wrong.
pub(super) fn replace_wrong_tools(json: &[u8]) -> Option<Vec<u8>> {
    let envelope = members(json);
    let listed = members(find(&envelope, "result")?);
    find(&listed, TOOLS).filter(|tools| tools.first() == Some(&b'['))?;
    let mut result = Map::new();
    for (name, value) in listed {
        let value: Value = if name == TOOLS {
            elements(value).into_iter().take(MAX_READ_TOOLS).map(read_tool).collect()
        } else {
            read_value(value).ok()?
        };
        result.insert(name, value);
    }
    let member = |name: &str| serde_json::from_slice::<Value>(find(&envelope, name)?).ok();
    let message = json!({ "jsonrpc": member("jsonrpc")?, "id": member("id")?, "result": result });
    serde_json::to_vec(&message).ok()
}

fn read_tool(json: &[u8]) -> Value {
    let reason = if measure(json).depth > MAX_TOOL_DEPTH {
        format!("its definition is nested more than {MAX_TOOL_DEPTH} levels deep")
    } else {
        match read_value(json) {
            Ok(tool) => return tool,
            Err(UnreadableJson::Repeated(problem)) => format!("its definition has {problem}"),
            Err(UnreadableJson::Invalid(error)) => format!("its definition is not valid JSON ({error})"),
        }
    };
    let members = members(json);
    let name = find(&members, "name").and_then(|name| serde_json::from_slice::<String>(name).ok());
    // The crate keeps unknown members only of what it does not take for a tool.
    json!({ "name": name.unwrap_or_default(), "inputSchema": false, UNREADABLE: reason })
}

#[cfg(test)]
mod tests {
    use rmcp::model::RequestId;

    use super::*;
    use crate::tool::mcp::messages::read_message;

    /// The result in the only message of a text.
    fn result(text: &str) -> Value {
        let incoming = read_message(text.as_bytes(), &[RequestId::Number(7)]);
        assert_eq!(incoming.messages.len(), 1);
        serde_json::to_value(&incoming.messages[0]).unwrap()["result"].take()
    }

    #[test]
    fn a_tool_that_cannot_be_read_leaves_the_other_tools() {
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        let text = format!(
            r#"{{"jsonrpc":"2.0","id":7,"result":{{"tools":[{{"name":"a"}},{{"name":"deep","inputSchema":{{"x":{deep}}}}},{{"name":"inf","inputSchema":{{"maximum":Infinity}}}},5],"nextCursor":"c"}}}}"#
        );
        let incoming = read_message(text.as_bytes(), &[RequestId::Number(7)]);
        let message = serde_json::to_value(&incoming.messages[0]).unwrap();
        let (tools, cursor) = (&message["result"]["tools"], &message["result"]["nextCursor"]);
        assert_eq!((&tools[0]["name"], &tools[3], cursor), (&json!("a"), &json!(5), &json!("c")));
        for (tool, name, reason) in [(&tools[1], "deep", "124 levels"), (&tools[2], "inf", "not valid JSON")] {
            assert_eq!(tool["name"], name);
            assert!(tool[UNREADABLE].as_str().unwrap().contains(reason), "{tool}");
        }
    }

    #[test]
    fn only_a_tool_with_a_repeated_member_is_left_out() {
        let text = r#"{"jsonrpc":"2.0","id":7,"result":{"tools":[{"name":"a"},{"name":"b","inputSchema":{"type":"object","type":"array"}}]}}"#;
        let tools = result(text)["tools"].take();
        assert_eq!((&tools[0], &tools[1]["name"]), (&json!({ "name": "a" }), &json!("b")));
        let reason = "its definition has the member `type` twice, with different values";
        assert_eq!(tools[1][UNREADABLE], reason);
    }

    #[test]
    fn orch_reads_only_one_tool_more_than_it_offers() {
        for tool in [r#"{"n":NaN}"#, r#"{"n":1}"#] {
            for count in [MAX_READ_TOOLS, 100_000] {
                let tools = vec![tool; count].join(",");
                let text = format!(r#"{{"jsonrpc":"2.0","id":7,"result":{{"tools":[{tools}],"nextCursor":"c"}}}}"#);
                let result = result(&text);
                let tools = result["tools"].as_array().unwrap();
                assert_eq!((tools.len(), &result["nextCursor"]), (MAX_READ_TOOLS, &json!("c")));
            }
        }
    }
}
