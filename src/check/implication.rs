//! Decides whether conditions imply another condition.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::condition::{Condition, ConditionTest};

/// The maximum number of assignments to try. Deciding an implication can take exponential time.
const MAX_STEPS: usize = 2_000;

/// Whether `goal` is true whenever all `assumptions` are true. Returns false if this takes too long to decide.
pub(super) fn implies(assumptions: &[Condition], goal: &Condition) -> bool {
    if goal.is_always() || assumptions.contains(goal) {
        return true;
    }
    if goal.is_never() {
        return false;
    }
    let constraints = relevant_constraints(assumptions, goal);
    let mut search = AssignmentSearch { constraints, assignment: BTreeMap::new(), remaining_steps: MAX_STEPS };
    !search.may_be_satisfiable()
}

/// The opposite of the goal, and the assumptions that it depends on, directly or through other assumptions.
fn relevant_constraints(assumptions: &[Condition], goal: &Condition) -> Vec<Condition> {
    let mut constraints = vec![goal.clone().negate()];
    let mut tests: BTreeSet<Rc<ConditionTest>> = BTreeSet::new();
    collect_tests(goal, &mut tests);
    let mut remaining: Vec<&Condition> = assumptions.iter().collect();
    loop {
        let (related, unrelated): (Vec<&Condition>, Vec<&Condition>) =
            remaining.into_iter().partition(|condition| is_related(condition, &tests));
        if related.is_empty() {
            return constraints;
        }
        for condition in related {
            collect_tests(condition, &mut tests);
            constraints.push(condition.clone());
        }
        remaining = unrelated;
    }
}

/// Whether the condition depends on one of the tests, or on a test of the same value.
fn is_related(condition: &Condition, tests: &BTreeSet<Rc<ConditionTest>>) -> bool {
    condition.any_test(&mut |test| tests.contains(test) || tests.iter().any(|other| other.has_same_subject(test)))
}

fn collect_tests(condition: &Condition, tests: &mut BTreeSet<Rc<ConditionTest>>) {
    condition.any_test(&mut |test| {
        tests.insert(Rc::clone(test));
        false
    });
}

/// Searches for an assignment of the tests that makes all constraints true.
struct AssignmentSearch {
    constraints: Vec<Condition>,
    assignment: BTreeMap<Rc<ConditionTest>, bool>,
    remaining_steps: usize,
}

impl AssignmentSearch {
    /// Whether such an assignment exists; also true if the search takes too long.
    fn may_be_satisfiable(&mut self) -> bool {
        let Some(remaining_steps) = self.remaining_steps.checked_sub(1) else { return true };
        self.remaining_steps = remaining_steps;
        let mut open_test = None;
        for constraint in &self.constraints {
            match self.evaluate(constraint) {
                Some(true) => {}
                Some(false) => return false,
                None => open_test = open_test.or_else(|| self.find_open_test(constraint)),
            }
        }
        let Some(test) = open_test else { return true };
        for value in [true, false] {
            if value && self.is_excluded(&test) {
                continue;
            }
            self.assignment.insert(Rc::clone(&test), value);
            if self.may_be_satisfiable() {
                return true;
            }
        }
        self.assignment.remove(&test);
        false
    }

    /// The value of a condition; `None` if it depends on tests without a value.
    fn evaluate(&self, condition: &Condition) -> Option<bool> {
        match condition {
            Condition::Always => Some(true),
            Condition::Never => Some(false),
            Condition::Test(test) => self.assignment.get(test).copied(),
            Condition::Not(inner) => self.evaluate(inner).map(|value| !value),
            Condition::All(parts) => self.evaluate_parts(parts, false),
            Condition::Any(parts) => self.evaluate_parts(parts, true),
        }
    }

    /// The value of a combination whose value is `decisive` if one of its parts has this value.
    fn evaluate_parts(&self, parts: &[Condition], decisive: bool) -> Option<bool> {
        let mut result = Some(!decisive);
        for part in parts {
            match self.evaluate(part) {
                Some(value) if value == decisive => return Some(decisive),
                Some(_) => {}
                None => result = None,
            }
        }
        result
    }

    /// A test of the condition that has no value yet.
    fn find_open_test(&self, condition: &Condition) -> Option<Rc<ConditionTest>> {
        let mut open_test = None;
        condition.any_test(&mut |test| {
            let is_open = !self.assignment.contains_key(test);
            if is_open {
                open_test = Some(Rc::clone(test));
            }
            is_open
        });
        open_test
    }

    /// Whether the test can't be true because another test is.
    fn is_excluded(&self, test: &ConditionTest) -> bool {
        self.assignment.iter().any(|(other, value)| *value && other.excludes(test))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_implication_follows_from_several_assumptions() {
        let (a, b, c) = (Condition::test("a"), Condition::test("b"), Condition::test("c"));
        assert!(implies(&[Condition::any([a.clone(), b.clone()]), a.clone().negate()], &b));
        assert!(implies(&[Condition::all([a.clone(), b.clone()])], &b));
        let chain = [Condition::any([a.clone().negate(), b.clone()]), Condition::any([b.clone().negate(), c.clone()])];
        assert!(implies(&[chain.as_slice(), std::slice::from_ref(&a)].concat(), &c));
        assert!(!implies(&chain, &c));
        assert!(!implies(&[Condition::any([a.clone(), b.clone()])], &a));
        assert!(!implies(&[], &a));
        assert!(!implies(&[c], &a));
        assert!(implies(&[], &Condition::Always));
        assert!(!implies(&[], &Condition::Never));
    }

    #[test]
    fn a_value_equals_one_constant_at_most() {
        let equality = |constant: &str| Condition::equality("kind".to_owned(), constant);
        assert!(implies(&[equality("\"a\"")], &equality("\"b\"").negate()));
        assert!(!implies(&[equality("\"a\"").negate()], &equality("\"b\"")));
        assert!(!implies(&[Condition::equality("size".to_owned(), "1")], &equality("\"b\"").negate()));
    }

    #[test]
    fn an_implication_that_takes_too_long_to_decide_is_not_assumed() {
        // Each of nine pigeons is in one of eight holes, and no two share one. This contradiction is hard to find.
        let place = |pigeon: usize, hole: usize| Condition::test(format!("{pigeon} in {hole}"));
        let mut assumptions: Vec<Condition> =
            (0..9).map(|pigeon| Condition::any((0..8).map(|hole| place(pigeon, hole)))).collect();
        for hole in 0..8 {
            for first in 0..9 {
                let pairs = (0..first).map(|second| Condition::all([place(first, hole), place(second, hole)]).negate());
                assumptions.extend(pairs);
            }
        }
        assert!(!implies(&assumptions, &place(0, 0)));
    }
}
