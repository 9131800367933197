//! The project's folder in the command of an MCP server: `{{ project.root }}`.
//!
//! A command keeps this text until a program starts, so that agreements, fingerprints and recordings do not depend on the
//! folder in which the project is.

use std::path::Path;

use super::mcp::{McpServerSpec, McpTransport};

/// The only expression in the command of a server.
const PROJECT_ROOT: &str = "project.root";

/// A text in double braces: what precedes it, the text itself, and what follows.
struct Braces<'a> {
    before: &'a str,
    expression: &'a str,
    after: &'a str,
}

impl<'a> Braces<'a> {
    fn first_in(text: &'a str) -> Option<Self> {
        let (before, rest) = text.split_once("{{")?;
        let (expression, after) = rest.split_once("}}")?;
        Some(Self { before, expression, after })
    }

    fn is_project_root(&self) -> bool {
        self.expression.trim() == PROJECT_ROOT
    }
}

/// The text of an argument with the project's folder in place of `{{ project.root }}`. Other braces belong to the program.
pub fn with_project_root(argument: &str, root: &Path) -> String {
    let (mut out, mut rest) = (String::new(), argument);
    while let Some(braces) = Braces::first_in(rest) {
        out.push_str(braces.before);
        if braces.is_project_root() {
            out.push_str(&root.to_string_lossy());
        } else {
            out.push_str("{{");
            out.push_str(braces.expression);
            out.push_str("}}");
        }
        rest = braces.after;
    }
    out.push_str(rest);
    out
}

/// The first placeholder of an argument that looks like one of orch and is not `{{ project.root }}`. Braces around
/// anything that does not begin with a name, such as `{{.Names}}`, belong to the program.
pub fn unsupported_placeholder(argument: &str) -> Option<&str> {
    let begins_with_name = |text: &str| text.starts_with(|c: char| c.is_alphabetic() || c == '_');
    let mut rest = argument;
    while let Some(braces) = Braces::first_in(rest) {
        let expression = braces.expression.trim();
        if begins_with_name(expression) && !braces.is_project_root() {
            return Some(expression);
        }
        rest = braces.after;
    }
    None
}

impl McpServerSpec {
    /// The server with the project's folder in its command.
    #[must_use]
    pub fn in_project(&self, root: &Path) -> Self {
        let transport = match &self.transport {
            McpTransport::Stdio { command, env, sandbox } => McpTransport::Stdio {
                command: command.iter().map(|argument| with_project_root(argument, root)).collect(),
                env: env.clone(),
                sandbox: sandbox.clone(),
            },
            McpTransport::Http { .. } => self.transport.clone(),
        };
        Self { transport, ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_folder_of_the_project_is_replaced() {
        for (argument, expected) in [
            ("{{ project.root }}/servers/shop.py", "/p/servers/shop.py"),
            ("--dir={{project.root}}:{{ project.root }}/b", "--dir=/p:/p/b"),
            ("{{.Names}} {{ project.root }} {{", "{{.Names}} /p {{"),
            ("shop.py", "shop.py"),
        ] {
            assert_eq!(with_project_root(argument, Path::new("/p")), expected, "{argument}");
        }
    }

    #[test]
    fn another_placeholder_is_unsupported_and_braces_of_a_program_are_not() {
        for (argument, expected) in [
            ("{{ project.rot }}", Some("project.rot")),
            ("{{ project.root }}/{{ inputs.name }}", Some("inputs.name")),
            ("{{ project.root }}/a", None),
            ("{{.Names}}", None),
            ("{{\"a\":1}}", None),
            ("{{ project.root", None),
        ] {
            assert_eq!(unsupported_placeholder(argument), expected, "{argument}");
        }
    }
}
