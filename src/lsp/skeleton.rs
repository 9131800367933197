//! Extracts the part of a template that decides what is visible at a position. The result can be parsed even if the
//! template is broken around the position.

use super::lex::{Lexeme, lex};
use super::template_cursor::TemplateTag;
use crate::check::MARK;
use crate::template::inspect_template;

/// The tags before a position that bind names or imply facts, each one replaced by a valid tag if it can't be parsed.
#[derive(Default)]
pub(super) struct Skeleton {
    out: String,
    /// The closing words of the open blocks.
    open: Vec<&'static str>,
}

impl Skeleton {
    /// Adds a tag from before the position, if it matters.
    pub(super) fn tag(&mut self, text: &str, tag: &TemplateTag) {
        let inner = text.get(tag.inner.clone()).unwrap_or_default().trim();
        let tokens = lex(text, tag.inner.clone());
        let first = tokens.first().map(|token| token.text(text)).unwrap_or_default();
        let sets = tokens.iter().any(|token| token.is(text, "="));
        match first {
            "for" => self.begin(inner, "endfor", "for orch_none__ in []"),
            "if" => self.begin(inner, "endif", "if true"),
            "with" => self.begin(inner, "endwith", "with"),
            "filter" => self.begin(inner, "endfilter", "filter trim"),
            "set" if !sets => self.begin(inner, "endset", "set orch_none__"),
            "set" => self.alone(inner, ""),
            "elif" if self.open.last() == Some(&"endif") => {
                let condition = inner.strip_prefix("elif").unwrap_or_default();
                let fits = fits(&format!("{{% if {condition} %}}{{% endif %}}"));
                self.push(if fits { inner } else { "elif true" });
            }
            "else" if matches!(self.open.last(), Some(&"endif" | &"endfor")) => self.push("else"),
            word => self.end(word),
        }
    }

    fn begin(&mut self, inner: &str, end: &'static str, instead: &str) {
        let fits = fits(&format!("{{% {inner} %}}{{% {end} %}}"));
        self.push(if fits { inner } else { instead });
        self.open.push(end);
    }

    fn alone(&mut self, inner: &str, instead: &str) {
        let inner = if fits(&format!("{{% {inner} %}}")) { inner } else { instead };
        if !inner.is_empty() {
            self.push(inner);
        }
    }

    fn end(&mut self, word: &str) {
        if let Some(depth) = self.open.iter().rposition(|open| *open == word) {
            for open in self.open.split_off(depth).into_iter().rev() {
                self.push(open);
            }
        }
    }

    /// If the position is in the filter of a loop, adds the loop, because the filter sees the item:
    /// `{% for s in plan.steps if s. %}`.
    pub(super) fn filtered(&mut self, text: &str, left: &[Lexeme]) {
        let condition = left.iter().position(|token| token.is(text, "if"));
        if let (Some(first), Some(condition)) = (left.first().filter(|token| token.is(text, "for")), condition) {
            let end = left.get(condition).map_or(first.at.start, |token| token.at.start);
            self.begin(text.get(first.at.start..end).unwrap_or_default().trim(), "endfor", "for orch_none__ in []");
        }
    }

    fn push(&mut self, inner: &str) {
        self.out.push_str("{% ");
        self.out.push_str(inner);
        self.out.push_str(" %}");
    }

    /// Returns the finished template, with the mark at the position and all blocks closed.
    pub(super) fn finish(mut self) -> String {
        self.out.push_str(&format!("{{{{ {MARK} }}}}"));
        for open in std::mem::take(&mut self.open).into_iter().rev() {
            self.push(open);
        }
        self.out
    }
}

fn fits(template: &str) -> bool {
    inspect_template(template).is_ok()
}
