//! Says what the user can do about credentials that a server refuses.

use crate::model::{Failure, FailureClass, McpServerSpec, McpTransport};

/// The header that contains the credentials by the rules of HTTP.
const AUTHORIZATION: &str = "authorization";

/// Replaces the advice to send a token, if the settings of the server already send one.
pub(super) fn with_credentials_hint(failure: Failure, server: &McpServerSpec) -> Failure {
    // A failure with a status is an answer of the server.
    if failure.class != FailureClass::Auth || failure.status.is_none() {
        return failure;
    }
    match credentials_hint(server) {
        Some(hint) => failure.with_hint(hint),
        None => failure,
    }
}

/// What the user can do about the credentials in the headers of a server; `None` if there are none.
fn credentials_hint(server: &McpServerSpec) -> Option<String> {
    let McpTransport::Http { headers, .. } = &server.transport else { return None };
    let name = &server.name;
    let variables: Vec<String> = headers
        .iter()
        .filter_map(|(header, value)| Some(format!("{} (header `{header}`)", value.variable()?)))
        .collect();
    if !variables.is_empty() {
        return Some(format!(
            "check the value of {}: `mcp.{name}.headers` sends it as it is, so a token for `Authorization` needs its \
             scheme, as in `Bearer TOKEN`; it may also have expired, or not permit this",
            variables.join(" and ")
        ));
    }
    let has_text = headers.keys().any(|header| header.eq_ignore_ascii_case(AUTHORIZATION));
    has_text
        .then(|| format!("check the text of `Authorization` in `mcp.{name}.headers`, which the server does not accept"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::tool::mcp::http_failures::AUTH_HINT;

    fn hint(headers: &Value) -> String {
        let transport = json!({ "http": { "url": "https://docs.example/mcp", "headers": headers } });
        let server = json!({ "name": "docs", "transport": transport, "access": "read" });
        let server: McpServerSpec = serde_json::from_value(server).unwrap();
        let failure = Failure { status: Some(401), ..Failure::new(FailureClass::Auth, "refused") };
        with_credentials_hint(failure.with_hint(AUTH_HINT), &server).hint.unwrap()
    }

    #[test]
    fn credentials_that_orch_sends_are_to_be_checked() {
        let of_variable = hint(&json!({ "Authorization": { "env": "DOCS_AUTH" } }));
        assert!(of_variable.starts_with("check the value of DOCS_AUTH (header `Authorization`)"), "{of_variable}");
        let of_key = hint(&json!({ "x-api-key": { "env": "DOCS_KEY" } }));
        assert!(of_key.starts_with("check the value of DOCS_KEY (header `x-api-key`)"), "{of_key}");
        let of_text = hint(&json!({ "authorization": "Bearer x" }));
        assert!(of_text.starts_with("check the text of `Authorization` in `mcp.docs.headers`"), "{of_text}");
        for headers in [json!({}), json!({ "x-team": "search" })] {
            assert_eq!(hint(&headers), AUTH_HINT);
        }
    }

    #[test]
    fn a_variable_that_is_not_set_keeps_its_own_advice() {
        let server = json!({
            "name": "docs", "access": "read",
            "transport": { "http": { "url": "https://a.example", "headers": { "a": { "env": "A" } } } },
        });
        let server: McpServerSpec = serde_json::from_value(server).unwrap();
        let failure = Failure::new(FailureClass::Auth, "needs the variable A").with_hint("set A");
        assert_eq!(with_credentials_hint(failure.clone(), &server), failure);
    }
}
