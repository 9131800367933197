//! The members of namespaces, which statements of a template set.
//!
//! A member has the type of its last value, as far as the checker can follow the statements. A loop repeats its
//! statements, so before its body a member may also have any value that the body assigns to it. The checker learns these
//! values only in the body. Therefore it checks a template several times, until the types no longer change.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use minijinja::machinery::ast::{Expr, Stmt};

use super::refined_types::object_with_optional_members;
use super::scope::{Narrowing, TypeScope};
use super::type_size::has_few_parts;
use super::type_union::merged_type;
use super::types::{ObjectMembers, Schemas, Type, is_same_type, union};
use super::unpacking::targets;
use crate::template::walk::{Visit, walk_stmts};

/// How often the checker checks a template until the types of members no longer change. After that, it treats the
/// members as values of unknown type.
const MAX_PASSES: usize = 12;

/// The call of `namespace` that makes a namespace: the text that contains it, and its position there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct NamespaceSite<'a> {
    pub(super) text: &'a str,
    pub(super) offset: usize,
}

/// What is known about the value of a member.
#[derive(Clone, Debug)]
pub(super) struct MemberValue<'a> {
    pub(super) ty: Type<'a>,
    /// Whether the namespace may lack the member.
    pub(super) may_be_missing: bool,
}

/// A namespace at one point of a template.
#[derive(Clone, Debug)]
pub(super) struct Namespace<'a> {
    pub(super) site: NamespaceSite<'a>,
    members: Rc<BTreeMap<&'a str, MemberValue<'a>>>,
}

impl<'a> Namespace<'a> {
    /// Whether the namespace has, or may have, a member.
    pub(super) fn knows(&self, member: &str) -> bool {
        self.members.contains_key(member)
    }

    /// The type of the object that the namespace is at this point.
    pub(super) fn ty(&self) -> Type<'a> {
        let members = self.members.iter();
        object_with_optional_members(
            members.map(|(name, value)| (*name, value.ty.clone(), value.may_be_missing)).collect(),
        )
    }

    fn set(&mut self, member: &'a str, value: MemberValue<'a>) {
        Rc::make_mut(&mut self.members).insert(member, value);
    }

    /// Adds the values that a repeated statement may have assigned to a member.
    fn widen(&mut self, schemas: Schemas<'a>, member: &'a str, assigned: &MemberValue<'a>) {
        let value = match self.members.get(member) {
            Some(current) => MemberValue {
                ty: schemas.merged_type(&current.ty, &assigned.ty),
                may_be_missing: current.may_be_missing || assigned.may_be_missing,
            },
            None => MemberValue { ty: assigned.ty.clone(), may_be_missing: true },
        };
        self.set(member, value);
    }

    /// Narrows the types of the members by what is known about them in a scope, in which the variable `name` holds the
    /// namespace.
    pub(super) fn settle(&mut self, name: &str, scope: &TypeScope<'a>) {
        for (member, value) in Rc::make_mut(&mut self.members) {
            let path = format!("{name}.{member}");
            value.ty = scope.settled_type(&path, &value.ty);
            value.may_be_missing &= !scope.has_narrowing(Some(&path), &Narrowing::Defined);
        }
    }

    /// The namespace after one of two branches of a condition; `None` if the branches have different namespaces.
    pub(super) fn merge(&self, other: &Self) -> Option<Self> {
        if self.site != other.site {
            return None;
        }
        if Rc::ptr_eq(&self.members, &other.members) {
            return Some(self.clone());
        }
        let names: BTreeSet<&'a str> = self.members.keys().chain(other.members.keys()).copied().collect();
        let members = names.into_iter().map(|name| {
            let values: Vec<&MemberValue<'a>> =
                [self, other].into_iter().filter_map(|namespace| namespace.members.get(name)).collect();
            let ty = merged_type(values.iter().map(|value| value.ty.clone()).collect());
            let may_be_missing = values.len() < 2 || values.iter().any(|value| value.may_be_missing);
            (name, MemberValue { ty, may_be_missing })
        });
        Some(Self { site: self.site, members: Rc::new(members.collect()) })
    }
}

/// The values that a text assigns to the members of its namespaces, as far as the checker has seen them.
#[derive(Default)]
pub(super) struct AssignedMembers<'a> {
    by_site: BTreeMap<NamespaceSite<'a>, BTreeMap<&'a str, MemberValue<'a>>>,
    /// Whether the current pass has added a value.
    has_changed: bool,
    /// Whether nothing is known about members, because the text sets one of a namespace that the checker can't identify.
    is_untracked: bool,
    passes: usize,
}

impl<'a> AssignedMembers<'a> {
    /// The namespace that a call creates with these members; `None` if nothing is known about members. Before the first
    /// assignment to it, a further member is missing.
    pub(super) fn new_namespace(&self, site: NamespaceSite<'a>, members: &ObjectMembers<'a>) -> Option<Namespace<'a>> {
        if self.is_untracked {
            return None;
        }
        let later = self.by_site.get(&site).into_iter().flatten();
        let later = later.map(|(name, value)| (*name, MemberValue { ty: value.ty.clone(), may_be_missing: true }));
        let initial = members.iter().map(|(name, ty)| (*name, MemberValue { ty: ty.clone(), may_be_missing: false }));
        // The initial values replace the later ones of the same names.
        Some(Namespace { site, members: Rc::new(later.chain(initial).collect()) })
    }

    /// Adds a value that a statement assigns to a member.
    pub(super) fn add(
        &mut self,
        schemas: Schemas<'a>,
        site: NamespaceSite<'a>,
        member: &'a str,
        assigned: &MemberValue<'a>,
    ) {
        let members = self.by_site.entry(site).or_default();
        let value = match members.get(member) {
            None => assigned.clone(),
            Some(earlier) => {
                let merged = without_growing_bounds(&earlier.ty, &schemas.merged_type(&earlier.ty, &assigned.ty));
                let may_be_missing = earlier.may_be_missing || assigned.may_be_missing;
                if is_same_type(&merged, &earlier.ty) && may_be_missing == earlier.may_be_missing {
                    return;
                }
                MemberValue { ty: merged, may_be_missing }
            }
        };
        members.insert(member, value);
        self.has_changed = true;
    }

    /// Gives up on the types of members, because a statement sets a member of a namespace that the checker can't
    /// identify.
    pub(super) fn stop_tracking(&mut self) {
        self.has_changed |= !self.is_untracked;
        self.is_untracked = true;
    }

    /// Ends a check of the whole text. Returns whether the text must be checked again, because values were added.
    pub(super) fn end_pass(&mut self) -> bool {
        self.passes += 1;
        let has_changed = std::mem::take(&mut self.has_changed);
        self.is_untracked |= has_changed && self.passes >= MAX_PASSES;
        has_changed
    }
}

/// The members that statements may set.
#[derive(Default)]
pub(super) struct MemberChanges<'a> {
    names: BTreeSet<&'a str>,
    /// Whether the statements include another prompt, which may set any member.
    has_include: bool,
}

impl<'a> MemberChanges<'a> {
    /// Any member.
    pub(super) fn any() -> Self {
        Self { names: BTreeSet::new(), has_include: true }
    }

    /// The members that statements may set.
    pub(super) fn in_statements(statements: &[Stmt<'a>]) -> Self {
        let mut changes = Self::default();
        walk_stmts(statements, &mut changes);
        changes
    }

    /// The members that these or other statements may set.
    pub(super) fn and(mut self, other: Self) -> Self {
        self.names.extend(other.names);
        self.has_include |= other.has_include;
        self
    }

    fn contains(&self, member: &str) -> bool {
        self.has_include || self.names.contains(member)
    }

    fn add(&mut self, target: &Expr<'a>) {
        if let Expr::GetAttr(member) = target {
            self.names.insert(member.name);
        }
        targets(target).into_iter().flatten().for_each(|target| self.add(target));
    }
}

impl<'a> Visit<'a> for MemberChanges<'a> {
    fn visit_stmt(&mut self, statement: &Stmt<'a>) {
        match statement {
            Stmt::Set(inner) => self.add(&inner.target),
            Stmt::SetBlock(inner) => self.add(&inner.target),
            Stmt::Include(_) => self.has_include = true,
            _ => {}
        }
    }
}

impl<'a> TypeScope<'a> {
    /// The namespace that a variable holds; `None` if it holds none, or if nothing is known about its members.
    pub(super) fn namespace(&self, name: &str) -> Option<&Namespace<'a>> {
        self.vars.get(name)?.namespace.as_ref()
    }

    /// Whether an expression reads a member of a namespace.
    pub(super) fn is_namespace_member(&self, expr: &Expr<'_>) -> bool {
        match expr {
            Expr::GetAttr(inner) => matches!(&inner.expr, Expr::Var(var) if self.namespace(var.id).is_some()),
            _ => false,
        }
    }

    /// Sets a member of the namespaces that a call created.
    pub(super) fn set_member(&mut self, site: NamespaceSite<'a>, member: &'a str, value: &MemberValue<'a>) {
        self.forget_member(site, member);
        self.update_namespaces(site, |namespace| namespace.set(member, value.clone()));
    }

    /// Adds the values that repeated statements assign to members, and removes the facts about the earlier values.
    pub(super) fn widen_members(
        &mut self,
        changes: &MemberChanges<'a>,
        assigned: &AssignedMembers<'a>,
        schemas: Schemas<'a>,
    ) {
        for site in self.namespace_sites() {
            for (&member, value) in assigned.by_site.get(&site).into_iter().flatten() {
                if changes.contains(member) {
                    self.update_namespaces(site, |namespace| namespace.widen(schemas, member, value));
                }
            }
        }
        self.forget_members(changes, assigned);
    }

    /// Removes the facts about members that statements set.
    pub(super) fn forget_members(&mut self, changes: &MemberChanges<'a>, assigned: &AssignedMembers<'a>) {
        for site in self.namespace_sites() {
            for member in assigned.by_site.get(&site).into_iter().flat_map(BTreeMap::keys) {
                if changes.contains(member) {
                    self.forget_member(site, member);
                }
            }
        }
    }

    /// Takes over what statements with a scope of their own have assigned to the members of namespaces.
    pub(super) fn adopt_members(&mut self, inner: &Self, changes: &MemberChanges<'a>) {
        for site in self.namespace_sites() {
            let (Some(own), Some(changed)) = (self.namespace_of(site), inner.namespace_of(site)) else { continue };
            if Rc::ptr_eq(&own.members, &changed.members) {
                continue;
            }
            for member in changed.members.keys().filter(|member| changes.contains(member)) {
                self.forget_member(site, member);
            }
            self.update_namespaces(site, |namespace| namespace.members = Rc::clone(&changed.members));
        }
    }

    fn namespace_sites(&self) -> BTreeSet<NamespaceSite<'a>> {
        self.vars.values().filter_map(|binding| Some(binding.namespace.as_ref()?.site)).collect()
    }

    fn namespace_of(&self, site: NamespaceSite<'a>) -> Option<&Namespace<'a>> {
        let mut namespaces = self.vars.values().filter_map(|binding| binding.namespace.as_ref());
        namespaces.find(|namespace| namespace.site == site)
    }

    fn update_namespaces(&mut self, site: NamespaceSite<'a>, update: impl Fn(&mut Namespace<'a>)) {
        for binding in self.vars.values_mut() {
            if binding.namespace.as_ref().is_some_and(|namespace| namespace.site == site) {
                Rc::make_mut(binding).namespace.iter_mut().for_each(&update);
            }
        }
    }

    fn forget_member(&mut self, site: NamespaceSite<'a>, member: &str) {
        let holds_namespace = |name: &&String| self.namespace(name).is_some_and(|namespace| namespace.site == site);
        let paths: Vec<String> =
            self.vars.keys().filter(holds_namespace).map(|name| format!("{name}.{member}")).collect();
        for path in &paths {
            self.forget(path);
        }
    }
}

/// The value that an assignment adds to a member, whose types must not become larger without end.
pub(super) fn assigned_member<'a>(ty: &Type<'a>, may_be_missing: bool) -> MemberValue<'a> {
    let ty = if has_few_parts(ty) { ty.clone() } else { Type::Unknown };
    MemberValue { ty, may_be_missing }
}

/// A type that contains an earlier one, without the bounds of numbers that have moved since. They would move with each
/// repetition of `{% set ns.count = ns.count + 1 %}`.
fn without_growing_bounds<'a>(earlier: &Type<'a>, merged: &Type<'a>) -> Type<'a> {
    let Some(earlier) = earlier.numbers() else { return merged.clone() };
    union(merged.branches().into_iter().map(|branch| match branch.number_range() {
        Some(mut range) => {
            if range.min < earlier.min {
                (range.min, range.excludes_min) = (f64::NEG_INFINITY, false);
            }
            if range.max > earlier.max {
                (range.max, range.excludes_max) = (f64::INFINITY, false);
            }
            Type::Numeric(range)
        }
        None => branch,
    }))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::check::number_range::NumberRange;

    #[test]
    fn the_types_of_members_stop_changing() {
        let documents = BTreeMap::new();
        let schemas = Schemas(&documents);
        let site = NamespaceSite { text: "", offset: 0 };
        let mut assigned = AssignedMembers::default();
        let mut count = NumberRange::exactly(1.0);
        for pass in 0..4 {
            assigned.add(schemas, site, "count", &assigned_member(&Type::Numeric(count), false));
            assert_eq!(assigned.end_pass(), pass < 2, "{pass}");
            let namespace = assigned.new_namespace(site, &ObjectMembers::new()).unwrap();
            count = namespace.members["count"].ty.number_range().unwrap().add(NumberRange::exactly(1.0));
        }
        assert_eq!((count.min, count.max), (2.0, f64::INFINITY));
    }

    #[test]
    fn a_type_that_grows_in_each_pass_becomes_unknown() {
        let documents = BTreeMap::new();
        let schemas = Schemas(&documents);
        let site = NamespaceSite { text: "", offset: 0 };
        let mut assigned = AssignedMembers::default();
        let mut ty = Type::Null;
        for _ in 0..MAX_PASSES {
            let members: ObjectMembers<'static> = [("inner", ty)].into_iter().collect();
            ty = Type::FixedObject(members.into());
            assigned.add(schemas, site, "chain", &assigned_member(&ty, false));
            assert!(assigned.end_pass());
        }
        assert!(assigned.new_namespace(site, &ObjectMembers::new()).is_none());
        assert!(!assigned.end_pass());
    }
}
