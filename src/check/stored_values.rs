//! The types of values that a template stores in a list, an object or a namespace, where conditions about the parts of
//! the values still hold.

use minijinja::machinery::ast::Expr;

use super::infer::Checker;
use super::narrowing::expression_path;
use super::scope::{Narrowing, TypeScope, path_below};
use super::types::Type;

/// The maximum number of facts about the parts of a value to store in its type.
const MAX_FACTS: usize = 32;

impl<'a> Checker<'a> {
    /// The type of the value of an expression with what conditions have established about its parts. A stored value has
    /// another path, at which these conditions would be lost.
    pub(super) fn stored_type(&self, expr: &Expr<'_>, ty: Type<'a>, scope: &TypeScope<'a>) -> Type<'a> {
        let Some(path) = expression_path(expr).filter(|_| !has_member_conditions(&ty)) else { return ty };
        let mut facts: Vec<(&str, &Narrowing)> = scope
            .narrowings()
            .filter_map(|(narrowed, narrowing)| {
                let part = path_below(narrowed, &path)?.strip_prefix('.')?;
                (!part.contains('[')).then_some((part, narrowing))
            })
            .collect();
        // Only a property that is known to exist can be narrowed further. Each check of a text must give the same type.
        facts.sort_by_cached_key(|(part, narrowing)| {
            let shows_existence = matches!(narrowing, Narrowing::Defined | Narrowing::Truthy);
            (!shows_existence, *part, format!("{narrowing:?}"))
        });
        facts.into_iter().take(MAX_FACTS).fold(ty, |ty, (part, narrowing)| self.schemas.refine(&ty, part, narrowing))
    }
}

/// Whether the members of an object of the type exist under conditions, which name the object.
fn has_member_conditions(ty: &Type<'_>) -> bool {
    ty.branches().iter().any(|branch| matches!(branch, Type::RefinedObject(refined) if refined.conditions.is_some()))
}
