//! Narrows types: what remains of a value's type after conditions have shown facts about it.

use super::infer::Checker;
use super::scope::{KnownValue, PathFact, TypeScope};
use super::types::{Property, Type, union};

impl<'a> Checker<'a> {
    /// A value, narrowed by what conditions have shown about its path.
    pub(super) fn narrowed(
        &self,
        known: KnownValue<'a>,
        path: Option<&String>,
        scope: &TypeScope<'a>,
    ) -> KnownValue<'a> {
        let Some(path) = path else { return known };
        let maybe = known.maybe && !scope.knows(Some(path), &PathFact::Defined);
        let mut ty = if scope.knows(Some(path), &PathFact::NotNull) { known.ty.without_null() } else { known.ty };
        for (name, fact) in scope.shown(path) {
            ty = self.only(&ty, name, fact);
        }
        KnownValue { ty, maybe, unnamed: known.unnamed }
    }

    /// The branches of a union that are compatible with a fact. All of them if none is, since then the condition is the
    /// mistake, not the value.
    fn only(&self, ty: &Type<'a>, name: &str, fact: &PathFact) -> Type<'a> {
        let Type::Union(all) = ty else { return ty.clone() };
        let kept: Vec<Type<'a>> = all.iter().filter(|branch| self.fits(branch, name, fact)).cloned().collect();
        if kept.is_empty() { ty.clone() } else { union(kept) }
    }

    fn fits(&self, branch: &Type<'a>, name: &str, fact: &PathFact) -> bool {
        match fact {
            PathFact::Kinds(kinds, holds) => branch.kind().is_none_or(|kind| kinds.contains(&kind) == *holds),
            PathFact::Among(texts, true) => {
                self.texts(branch, name).is_none_or(|all| all.iter().any(|text| held(texts, text)))
            }
            PathFact::Among(texts, false) => {
                self.texts(branch, name).is_none_or(|all| all.is_empty() || !all.iter().all(|text| held(texts, text)))
            }
            PathFact::Defined | PathFact::NotNull | PathFact::True | PathFact::AtLeast(_) => true,
        }
    }

    /// The strings that a value can have under a dotted name; empty if it never has anything there, `None` if they are
    /// not known.
    fn texts(&self, ty: &Type<'a>, name: &str) -> Option<Vec<&'a str>> {
        let (first, rest) = name.split_once('.').map_or((name, None), |(first, rest)| (first, Some(rest)));
        let inner = match self.schemas.property(ty, first)? {
            Property::Present(ty) => ty,
            Property::Optional(_) | Property::Open(_) => return None,
            Property::Absent(_) => return Some(Vec::new()),
        };
        match (rest, inner) {
            (Some(rest), inner) => self.texts(&inner, rest),
            (None, Type::Text(Some(texts))) => Some(texts),
            (None, _) => None,
        }
    }
}

fn held(texts: &[String], text: &str) -> bool {
    texts.iter().any(|held| held == text)
}
