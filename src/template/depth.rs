//! Computes the depth of a text's syntax tree from its tokens, before the parser builds the tree.
//!
//! The parser limits brackets and blocks, but not chains such as `a ~ b ~ c` or one `elif` after another, whose trees
//! are as deep as the chain is long. Code that walks a tree is recursive and could overflow the stack.

use std::ops::Range;

use minijinja::machinery::{Token, tokenize};

use super::inspect::template_syntax;
use super::ranges::byte_range;

/// The largest depth of a syntax tree: each operator, filter, dot and bracket on the way to a value adds one.
const MAX_DEPTH: usize = 200;

/// The tokenizer's error at the first character that does not start a token. After a string, MiniJinja's parser treats
/// such a character as the end of the text, so that `a != 'x' && b` would mean `a != 'x'`.
pub(super) fn find_invalid_token(text: &str, is_expression: bool) -> Option<minijinja::Error> {
    tokenize(text, is_expression, template_syntax()).find_map(Result::err)
}

/// The byte range of the token at which the syntax tree becomes deeper than [`MAX_DEPTH`]; `None` if it never does, or
/// if the text has an invalid token, which the parser reports.
pub(super) fn find_too_deep_token(text: &str, is_expression: bool) -> Option<Range<usize>> {
    let mut counter = DepthCounter::default();
    for result in tokenize(text, is_expression, template_syntax()) {
        let (token, span) = result.ok()?;
        if counter.read_token(&token) > MAX_DEPTH {
            return Some(byte_range(span));
        }
    }
    None
}

#[derive(Default)]
struct DepthCounter {
    /// The depth at the current token.
    depth: usize,
    /// The depth at each open bracket.
    bracket_depths: Vec<usize>,
    /// The number of `elif`s of each open `if`.
    elif_counts: Vec<usize>,
    /// Whether the next token is the name of a block.
    expects_block_name: bool,
}

impl DepthCounter {
    /// Reads a token and returns the depth after it.
    fn read_token(&mut self, token: &Token<'_>) -> usize {
        let expects_block_name = std::mem::take(&mut self.expects_block_name);
        match token {
            Token::TemplateData(_) => {}
            Token::VariableStart | Token::BlockStart => {
                self.depth = 0;
                self.bracket_depths.clear();
                self.expects_block_name = matches!(token, Token::BlockStart);
            }
            Token::Ident(name) if expects_block_name => return self.read_statement(name),
            Token::ParenOpen | Token::BracketOpen | Token::BraceOpen => {
                self.depth += 1;
                self.bracket_depths.push(self.depth);
            }
            Token::ParenClose | Token::BracketClose | Token::BraceClose => {
                self.depth = self.bracket_depths.pop().unwrap_or_default();
            }
            // The next item is a sibling of the previous one.
            Token::Comma => self.depth = self.bracket_depths.last().copied().unwrap_or_default(),
            Token::Ident("and" | "or" | "not" | "is" | "in" | "if" | "else") => self.depth += 1,
            Token::Ident(_) | Token::Str(_) | Token::String(_) => {}
            Token::Int(_) | Token::Int128(_) | Token::Float(_) => {}
            Token::Colon | Token::Assign | Token::VariableEnd | Token::BlockEnd => {}
            // Every other token is an operator, a dot or a pipe.
            _ => self.depth += 1,
        }
        self.depth
    }

    fn read_statement(&mut self, name: &str) -> usize {
        match name {
            "if" => self.elif_counts.push(0),
            "endif" => drop(self.elif_counts.pop()),
            "elif" => {
                if let Some(count) = self.elif_counts.last_mut() {
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
    fn the_depth_of_chains_is_limited_and_the_length_of_lists_is_not() {
        for link in [" | trim", " ~ a", " + a", "[0]", ".a", " and a", " if a else a", "(a)", " ** a", " is string"] {
            let text = |count: usize| format!("{{{{ a{} }}}}", link.repeat(count));
            assert_eq!(find_too_deep_token(&text(50), false), None, "{link}");
            assert!(find_too_deep_token(&text(201), false).is_some(), "{link}");
        }
        assert!(find_too_deep_token(&"not ".repeat(201), true).is_some());
        assert!(
            find_too_deep_token(&format!("{{% if a %}}{}{{% endif %}}", "{% elif a %}".repeat(201)), false).is_some()
        );
        for wide_text in ["{{ [".to_owned() + &"-a.b, ".repeat(500) + "1] }}", "{{ a.b }} + ~ | ".repeat(500)] {
            assert_eq!(find_too_deep_token(&wide_text, false), None);
        }
        assert_eq!(find_too_deep_token(&"{% if a %}{% elif b %}{% endif %}".repeat(500), false), None);
    }
}
