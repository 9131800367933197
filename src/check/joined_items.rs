//! Reports what `join` does not join as the author means: the characters of a string, objects and lists, and null.

use super::filters::AppliedFilter;
use super::infer::Checker;
use super::types::TypeKind;
use crate::diagnostic::Code;
use crate::template::expr_range;

impl<'a> Checker<'a> {
    /// Reports the operand of `join` if its items are characters, objects, lists or null.
    pub(super) fn check_joined_items(&mut self, filter: &AppliedFilter<'_, 'a>) {
        if filter.name != "join" {
            return;
        }
        let (source, operand) = (self.source(filter.operand), self.operand_text(filter.operand));
        let range = expr_range(filter.operand);
        if filter.base.kind() == Some(TypeKind::Text) {
            let message = format!("`{source}` is a string, and `join` joins its characters");
            let diagnostic = self.warning(Code::UnsupportedOperation, range, message);
            return self
                .report(diagnostic.with_help(format!("leave out `join`, or join its lines: `{operand} | lines`")));
        }
        // With `attribute`, `join` joins properties of the items.
        if filter.base.kind() != Some(TypeKind::List) || filter.argument("attribute", 1).is_some() {
            return;
        }
        let Some(kinds) = self.element_type(&filter.base).kinds() else { return };
        if let Some(kind) = kinds.iter().find(|kind| matches!(kind, TypeKind::List | TypeKind::Object)) {
            let message = format!("an item of `{source}` is {}, which `join` does not print as JSON", kind.describe());
            let help = match kind {
                TypeKind::Object => format!("join a property of each: `{operand} | map(attribute=\"KEY\")`"),
                _ => format!("join the items of each: `{operand} | map(\"join\", \", \")`"),
            };
            let diagnostic = self.warning(Code::PrintsRawStructure, range, message);
            self.report(diagnostic.with_help(help));
        } else if kinds.contains(&TypeKind::Null) {
            let message = format!("an item of `{source}` may be null, and its text is then `None`");
            let diagnostic = self.warning(Code::PossiblyMissing, range, message);
            self.report(diagnostic.with_help(format!("leave it out: `{operand} | reject(\"none\") | join(…)`")));
        }
    }
}
