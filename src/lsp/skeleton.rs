//! Reduces a template to the tags that decide which names are in scope at the cursor. The result can be parsed even if
//! the template is broken around the cursor.

use super::template_tags::TemplateTag;
use super::tokens::{TemplateToken, tokenize};
use crate::check::COMPLETION_MARKER;
use crate::template::inspect_template;

/// The block tags before the cursor. A stub of the same kind, such as `if true`, replaces a tag that can't be parsed;
/// an assignment that can't be parsed is left out.
#[derive(Default)]
pub(super) struct Skeleton {
    out: String,
    /// The end tags of the open blocks.
    open_blocks: Vec<&'static str>,
}

impl Skeleton {
    /// Adds a tag before the cursor, if it affects which names are in scope.
    pub(super) fn add_tag(&mut self, text: &str, tag: &TemplateTag) {
        let inner = text.get(tag.content_range.clone()).unwrap_or_default().trim();
        let tokens = tokenize(text, tag.content_range.clone());
        let keyword = tokens.first().map(|token| token.text(text)).unwrap_or_default();
        let has_assignment = tokens.iter().any(|token| token.matches_text(text, "="));
        match keyword {
            "for" => self.open_block(inner, "endfor", "for orch_none__ in []"),
            "if" => self.open_block(inner, "endif", "if true"),
            "with" => self.open_block(inner, "endwith", "with"),
            "filter" => self.open_block(inner, "endfilter", "filter trim"),
            "set" if !has_assignment => self.open_block(inner, "endset", "set orch_none__"),
            "set" => self.add_valid_tag(inner),
            "elif" if self.open_blocks.last() == Some(&"endif") => {
                let condition = inner.strip_prefix("elif").unwrap_or_default();
                let is_valid = can_be_parsed(&format!("{{% if {condition} %}}{{% endif %}}"));
                self.push_tag(if is_valid { inner } else { "elif true" });
            }
            "else" if matches!(self.open_blocks.last(), Some(&"endif" | &"endfor")) => self.push_tag("else"),
            word => self.close_block(word),
        }
    }

    fn open_block(&mut self, inner: &str, end_tag: &'static str, replacement: &str) {
        let is_valid = can_be_parsed(&format!("{{% {inner} %}}{{% {end_tag} %}}"));
        self.push_tag(if is_valid { inner } else { replacement });
        self.open_blocks.push(end_tag);
    }

    fn add_valid_tag(&mut self, inner: &str) {
        if can_be_parsed(&format!("{{% {inner} %}}")) {
            self.push_tag(inner);
        }
    }

    fn close_block(&mut self, end_tag: &str) {
        if let Some(depth) = self.open_blocks.iter().rposition(|open| *open == end_tag) {
            for end in self.open_blocks.split_off(depth).into_iter().rev() {
                self.push_tag(end);
            }
        }
    }

    /// If the cursor is in the inline `if` of a `for` tag, adds the loop, because that condition can use the item:
    /// `{% for s in plan.steps if s. %}`.
    pub(super) fn add_loop_filter(&mut self, text: &str, preceding: &[TemplateToken]) {
        let condition = preceding.iter().position(|token| token.matches_text(text, "if"));
        if let (Some(first), Some(condition)) =
            (preceding.first().filter(|token| token.matches_text(text, "for")), condition)
        {
            let end = preceding.get(condition).map_or(first.range.start, |token| token.range.start);
            self.open_block(
                text.get(first.range.start..end).unwrap_or_default().trim(),
                "endfor",
                "for orch_none__ in []",
            );
        }
    }

    fn push_tag(&mut self, inner: &str) {
        self.out.push_str("{% ");
        self.out.push_str(inner);
        self.out.push_str(" %}");
    }

    /// Returns the finished template, with the completion marker at the cursor and all blocks closed.
    pub(super) fn finish(mut self) -> String {
        self.out.push_str(&format!("{{{{ {COMPLETION_MARKER} }}}}"));
        for end in std::mem::take(&mut self.open_blocks).into_iter().rev() {
            self.push_tag(end);
        }
        self.out
    }
}

fn can_be_parsed(template: &str) -> bool {
    inspect_template(template).is_ok()
}
