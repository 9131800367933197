//! How deep the syntax tree of a text would be, told from its tokens.
//!
//! The parser bounds brackets and blocks, but not chains such as `a ~ b ~ c` or `elif` after
//! `elif`, whose trees are as deep as the chain is long; and what walks a tree calls itself.

use std::ops::Range;

use minijinja::machinery::{Token, tokenize};

use super::inspect::{bytes, syntax};

/// How many operators, filters and brackets may stand on the way to one value.
const MAX_LINKS: usize = 200;

/// The first character that no word of the language begins with. The engine's parser reads on as if the text ended there
/// when a string stands before it, so that `a != 'x' && b` would mean `a != 'x'`.
pub(super) fn unreadable(text: &str, expression: bool) -> Option<minijinja::Error> {
    tokenize(text, expression, syntax()).find_map(Result::err)
}

/// The place from which on a text is too deep to be parsed; `None` when it is not, or when its
/// tokens are wrong, which is for the parser to say.
pub(super) fn too_deep(text: &str, expression: bool) -> Option<Range<usize>> {
    let mut depth = Depth::default();
    for next in tokenize(text, expression, syntax()) {
        let (token, span) = next.ok()?;
        if depth.after(&token) > MAX_LINKS {
            return Some(bytes(span));
        }
    }
    None
}

#[derive(Default)]
struct Depth {
    /// How many links lead to the value that is being read.
    links: usize,
    /// The links at which each open bracket stands.
    brackets: Vec<usize>,
    /// How many `elif` each open `if` has.
    branches: Vec<usize>,
    /// Whether the name of a block comes next.
    block: bool,
}

impl Depth {
    /// The depth once a token was read.
    fn after(&mut self, token: &Token<'_>) -> usize {
        let block = std::mem::take(&mut self.block);
        match token {
            Token::TemplateData(_) => {}
            Token::VariableStart | Token::BlockStart => {
                self.links = 0;
                self.brackets.clear();
                self.block = matches!(token, Token::BlockStart);
            }
            Token::Ident(name) if block => return self.statement(name),
            Token::ParenOpen | Token::BracketOpen | Token::BraceOpen => {
                self.links += 1;
                self.brackets.push(self.links);
            }
            Token::ParenClose | Token::BracketClose | Token::BraceClose => {
                self.links = self.brackets.pop().unwrap_or_default();
            }
            // The next item is beside the one before, not below it.
            Token::Comma => self.links = self.brackets.last().copied().unwrap_or_default(),
            Token::Ident("and" | "or" | "not" | "is" | "in" | "if" | "else") => self.links += 1,
            Token::Ident(_) | Token::Str(_) | Token::String(_) => {}
            Token::Int(_) | Token::Int128(_) | Token::Float(_) => {}
            Token::Colon | Token::Assign | Token::VariableEnd | Token::BlockEnd => {}
            // Every other token is an operator, a dot or a pipe.
            _ => self.links += 1,
        }
        self.links
    }

    fn statement(&mut self, name: &str) -> usize {
        match name {
            "if" => self.branches.push(0),
            "endif" => drop(self.branches.pop()),
            "elif" => {
                if let Some(count) = self.branches.last_mut() {
                    *count += 1;
                    return *count;
                }
            }
            _ => {}
        }
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_are_bounded_and_lists_are_not() {
        for link in [" | trim", " ~ a", " + a", "[0]", ".a", " and a", " if a else a", "(a)", " ** a", " is string"] {
            let text = |count: usize| format!("{{{{ a{} }}}}", link.repeat(count));
            assert_eq!(too_deep(&text(50), false), None, "{link}");
            assert!(too_deep(&text(201), false).is_some(), "{link}");
        }
        assert!(too_deep(&"not ".repeat(201), true).is_some());
        assert!(too_deep(&format!("{{% if a %}}{}{{% endif %}}", "{% elif a %}".repeat(201)), false).is_some());
        for wide in ["{{ [".to_owned() + &"-a.b, ".repeat(500) + "1] }}", "{{ a.b }} + ~ | ".repeat(500)] {
            assert_eq!(too_deep(&wide, false), None);
        }
        assert_eq!(too_deep(&"{% if a %}{% elif b %}{% endif %}".repeat(500), false), None);
    }
}
