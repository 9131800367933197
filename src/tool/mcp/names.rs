//! The names under which models see the tools of MCP servers.

use crate::model::{Digest, McpToolName};

/// The maximum length of a tool's name that every API accepts.
const MAX_NAME_CHARS: usize = 64;
/// How many digits of a digest a name has that can't be written as it is.
const DIGEST_CHARS: usize = 16;
/// What separates the server and the tool.
const SEPARATOR: &str = "__";

/// The name of a tool for a model: `github__list_issues`, with letters, digits, `_` and `-` only, and at most 64
/// characters. A name that would need other characters or more of them, or that could be the name of another tool too,
/// ends with a digest of the full name.
pub fn model_tool_name(name: &McpToolName) -> String {
    let full_name = format!("{}{SEPARATOR}{}", name.server, name.tool);
    let is_plain = full_name.chars().all(is_allowed) && full_name.len() <= MAX_NAME_CHARS;
    // The first separator must be the one between the server and the tool.
    let is_unambiguous = !name.server.contains(SEPARATOR) && !name.server.ends_with('_');
    if is_plain && is_unambiguous && !ends_with_digest(&full_name) {
        return full_name;
    }
    let beginning: String = full_name
        .chars()
        .map(|c| if is_allowed(c) { c } else { '_' })
        .take(MAX_NAME_CHARS - DIGEST_CHARS - 1)
        .collect();
    let digest = Digest::compute(name.to_string().as_bytes());
    format!("{beginning}_{}", digest.as_str().get(..DIGEST_CHARS).unwrap_or_default())
}

fn is_allowed(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-')
}

/// Whether a name looks like one that ends with a digest.
fn ends_with_digest(name: &str) -> bool {
    let digits = name.rsplit('_').next().unwrap_or_default();
    digits.len() == DIGEST_CHARS && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn model_name(server: &str, tool: &str) -> String {
        model_tool_name(&McpToolName { server: server.to_owned(), tool: tool.to_owned() })
    }

    #[test]
    fn a_plain_name_is_the_server_and_the_tool() {
        assert_eq!(model_name("github", "list_issues"), "github__list_issues");
        assert_eq!(model_name("files-2", "read-file"), "files-2__read-file");
        assert_eq!(model_name("a", "_b"), "a___b");
    }

    #[test]
    fn every_name_is_one_that_apis_accept_and_no_two_tools_share_one() {
        let digest = Digest::compute(b"a.b.c");
        let imitation = format!("b_c_{}", digest.as_str().get(..DIGEST_CHARS).unwrap());
        let long = "x".repeat(200);
        let tools = [
            ("a", "b__c"),
            ("a__b", "c"),
            ("a_", "b"),
            ("a", "_b"),
            ("a", "b.c"),
            ("a", "b_c"),
            ("a", "b/c"),
            ("a", imitation.as_str()),
            ("a", "größe"),
            ("a", long.as_str()),
            ("a", &long[1..]),
        ];
        let names: BTreeSet<String> = tools.iter().map(|(server, tool)| model_name(server, tool)).collect();
        assert_eq!(names.len(), tools.len(), "{names:?}");
        for name in names {
            assert!(name.len() <= MAX_NAME_CHARS && name.chars().all(is_allowed), "{name}");
        }
    }
}
