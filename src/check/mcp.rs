//! Checks the MCP servers of `orch.yaml`: each has exactly one transport, a valid address and valid headers, a command
//! that names no value but the project's folder, and only keys that apply to its transport.

use super::endpoints::header_name_error;
use crate::config::{Document, McpServerSettings, Settings, child_pointer, item_pointer};
use crate::diagnostic::{Code, Diagnostic};
use crate::model::http_url::http_url_error;
use crate::model::{McpHeader, unsupported_placeholder};

/// Headers that the protocol uses, so that only orch sets them.
const PROTOCOL_HEADERS: &[&str] =
    &["accept", "content-type", "last-event-id", "mcp-method", "mcp-name", "mcp-protocol-version", "mcp-session-id"];

pub(super) fn check(document: &Document, settings: &Settings) -> Vec<Diagnostic> {
    let mut diagnostics = Vec::new();
    for (name, server) in &settings.mcp {
        let check = ServerCheck { document, name, server, pointer: child_pointer("/mcp", name) };
        check.check(&mut diagnostics);
    }
    diagnostics
}

/// The check of one server.
struct ServerCheck<'a> {
    document: &'a Document,
    name: &'a str,
    server: &'a McpServerSettings,
    pointer: String,
}

impl ServerCheck<'_> {
    fn key_pointer(&self, key: &str) -> String {
        child_pointer(&self.pointer, key)
    }

    fn has_key(&self, key: &str) -> bool {
        self.document.spans.contains(&self.key_pointer(key))
    }

    fn at_key(&self, diagnostic: Diagnostic, pointer: &str) -> Diagnostic {
        diagnostic.with_span(&self.document.file, self.document.spans.key(pointer))
    }

    fn at_value(&self, diagnostic: Diagnostic, pointer: &str) -> Diagnostic {
        diagnostic.with_span(&self.document.file, self.document.spans.value(pointer))
    }

    fn check(&self, diagnostics: &mut Vec<Diagnostic>) {
        let name = self.name;
        let unused_keys: &[(&str, &str)] = match (&self.server.command, &self.server.url) {
            (None, None) => {
                let message = format!("the MCP server `{name}` has neither `command` nor `url`");
                let diagnostic = self.at_key(Diagnostic::error(Code::WrongMcpTransport, message), &self.pointer);
                let help = "write the program and its arguments, `command: [PROGRAM, ARGUMENT]`, or the address of a \
                            running server, `url: ADDRESS`";
                diagnostics.push(diagnostic.with_help(help));
                return;
            }
            (Some(_), Some(_)) => {
                let message = format!("the MCP server `{name}` has both `command` and `url`");
                let diagnostic = Diagnostic::error(Code::WrongMcpTransport, message);
                let diagnostic = self.at_key(diagnostic, &self.key_pointer("url"));
                let help = "remove `url` if orch should start the server, or `command` if the server runs already";
                diagnostics.push(diagnostic.with_help(help));
                return;
            }
            (Some(_), None) => &[
                ("headers", "remove `headers`; a program gets secrets as variables: `env: [NAME]`"),
                ("insecure", "remove `insecure`, which is about `headers`"),
            ],
            (None, Some(url)) => {
                diagnostics.extend(self.check_url(url));
                self.check_headers(diagnostics);
                &[
                    ("env", "remove `env`; send a secret in a header: `headers: { NAME: { env: VARIABLE } }`"),
                    ("sandbox", "remove `sandbox`: orch does not start this server"),
                ]
            }
        };
        let transport = if self.server.command.is_some() { "command" } else { "url" };
        for (key, help) in unused_keys.iter().filter(|(key, _)| self.has_key(key)) {
            let message = format!("`{key}` does not apply to an MCP server with `{transport}`");
            let diagnostic = Diagnostic::error(Code::KeyNotApplicable, message);
            diagnostics.push(self.at_key(diagnostic, &self.key_pointer(key)).with_help(*help));
        }
        self.check_command(diagnostics);
        self.check_tools(diagnostics);
    }

    /// Reports expressions other than the project's folder in the arguments of the command.
    fn check_command(&self, diagnostics: &mut Vec<Diagnostic>) {
        for (index, argument) in self.server.command.iter().flatten().enumerate() {
            let Some(expression) = unsupported_placeholder(argument) else { continue };
            let diagnostic = if expression.split('.').next() == Some("project") {
                let message = format!("unknown variable `{expression}`");
                Diagnostic::error(Code::UnknownVariable, message).with_help("write `{{ project.root }}`")
            } else {
                let message = format!("orch passes `{{{{ {expression} }}}}` to the MCP server unchanged");
                let help = "the command of a server can use only `{{ project.root }}`; pass other values as arguments of \
                            its tools, or as variables: `env: [NAME]`";
                Diagnostic::warning(Code::LiteralPlaceholder, message).with_help(help)
            };
            diagnostics.push(self.at_value(diagnostic, &item_pointer(&self.key_pointer("command"), index)));
        }
    }

    fn check_url(&self, url: &str) -> Option<Diagnostic> {
        let reason = http_url_error(url)?;
        let message = format!("`{url}` is not the address of an MCP server: {reason}");
        let diagnostic = self.at_value(Diagnostic::error(Code::InvalidUrl, message), &self.key_pointer("url"));
        Some(diagnostic.with_help("write it with its scheme, as in `https://example.com/mcp`"))
    }

    fn check_headers(&self, diagnostics: &mut Vec<Diagnostic>) {
        for (name, value) in &self.server.headers {
            let pointer = child_pointer(&self.key_pointer("headers"), name);
            let is_protocol_header = PROTOCOL_HEADERS.contains(&name.to_ascii_lowercase().as_str());
            if let Some(error) = header_name_error(name) {
                let diagnostic = self.at_key(Diagnostic::error(Code::InvalidHeader, error), &pointer);
                diagnostics.push(diagnostic.with_help("letters, digits and `-`, as in `x-team`"));
            } else if is_protocol_header {
                let message = format!("orch sets the header `{name}` itself: the protocol uses it");
                let diagnostic = self.at_key(Diagnostic::error(Code::InvalidHeader, message), &pointer);
                diagnostics.push(diagnostic.with_help("remove the header"));
            } else if let McpHeader::Text(text) = value
                && text.bytes().any(|byte| (byte < b' ' && byte != b'\t') || byte == 0x7f)
            {
                let message = format!("the header `{name}` has a control character in its value");
                let diagnostic = self.at_value(Diagnostic::error(Code::InvalidHeader, message), &pointer);
                diagnostics.push(diagnostic.with_help("write it on one line"));
            }
        }
    }

    /// Reports tools that are listed twice.
    fn check_tools(&self, diagnostics: &mut Vec<Diagnostic>) {
        let tools = self.server.tools.as_deref().unwrap_or_default();
        for (index, tool) in tools.iter().enumerate() {
            if tools.iter().take(index).any(|earlier| earlier == tool) {
                let diagnostic = Diagnostic::error(Code::DuplicateName, format!("the tool `{tool}` is listed twice"));
                let pointer = item_pointer(&self.key_pointer("tools"), index);
                diagnostics.push(self.at_value(diagnostic, &pointer));
            }
        }
    }
}
