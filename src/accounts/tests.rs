//! The accounts decide by their keys, and what budgets and rates receive and return is data.

use std::fmt::Debug;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::FutureExt as _;
use serde::de::DeserializeOwned;

use super::*;
use crate::model::FailureClass;

fn amount(tokens: u64) -> Amount {
    Amount { tokens, ..Amount::default() }
}

fn claim(step: &str, tokens: u64) -> BudgetClaim {
    let amount = ReservedAmount { amount: amount(tokens), ..ReservedAmount::NOTHING };
    BudgetClaim { step: StepKey::root(step), in_finally: false, amount }
}

fn usage(step: &str, tokens: u64, tokens_certainty: Certainty) -> CountedUsage {
    let (step, amount) = (StepKey::root(step), amount(tokens));
    CountedUsage { step, amount, tokens_certainty, usd_certainty: Certainty::Reported, replied: true }
}

fn budgets_of(scope: BudgetScope, tokens: u64) -> Arc<LocalBudgets> {
    let limit = Budget { tokens: Some(tokens), ..Budget::default() };
    LocalBudgets::new(vec![(scope, limit)], Duration::ZERO)
}

fn reserve(budgets: &Arc<LocalBudgets>, claim: BudgetClaim) -> BoxFuture<'static, Result<Permit, Failure>> {
    budgets.clone().reserve(claim, Box::new(|| {}))
}

#[test]
fn a_call_waits_while_another_one_may_make_room() {
    let budgets = budgets_of(BudgetScope::Run, 100);
    let first = reserve(&budgets, claim("a", 80)).now_or_never().unwrap().unwrap();
    let waits = Arc::new(AtomicUsize::new(0));
    let counter = waits.clone();
    let on_wait = Box::new(move || {
        counter.fetch_add(1, Ordering::SeqCst);
    });
    let mut second = budgets.clone().reserve(claim("b", 30), on_wait);
    assert!(second.as_mut().now_or_never().is_none(), "the first call may use less");
    assert_eq!(waits.load(Ordering::SeqCst), 1);
    drop(first);
    assert!(second.now_or_never().is_some_and(|reserved| reserved.is_ok()));
    assert_eq!(budgets.settle(&usage("a", 80, Certainty::Reported)), None);
    let refused = reserve(&budgets, claim("b", 30)).now_or_never().unwrap().err();
    assert_eq!(refused.as_ref().map(|failure| failure.class), Some(FailureClass::BudgetExceeded));
    assert_eq!(budgets.end_reason(), refused);
    let in_finally = BudgetClaim { in_finally: true, ..claim("clean", 10) };
    assert!(reserve(&budgets, in_finally).now_or_never().is_some_and(|reserved| reserved.is_ok()));
}

#[test]
fn a_budget_of_a_step_counts_only_its_own_calls() {
    let budgets = budgets_of(BudgetScope::Step(StepKey::root("a")), 100);
    assert_eq!(budgets.settle(&usage("b", 500, Certainty::Unknown)), None);
    assert!(
        budgets
            .clone()
            .reserve(claim("a", 100), Box::new(|| {}))
            .now_or_never()
            .is_some_and(|reserved| reserved.is_ok())
    );
    let uncounted = budgets.settle(&usage("a", 0, Certainty::Unknown)).unwrap();
    assert_eq!((uncounted.scope, uncounted.unit), (BudgetScope::Step(StepKey::root("a")), Unit::Tokens));
    assert_eq!(budgets.raise(&Budget { tokens: Some(900), ..Budget::default() }), Budget::default(), "not of the run");
}

/// Checks that a value is the same after it was sent as JSON.
fn crosses<T: Serialize + DeserializeOwned + Debug + PartialEq>(value: &T) {
    let text = serde_json::to_string(value).unwrap();
    assert_eq!(&serde_json::from_str::<T>(&text).unwrap(), value, "{text}");
}

#[test]
fn what_accounts_receive_and_return_can_be_serialized() {
    crosses(&BudgetClaim { in_finally: true, ..claim("a", 7) });
    crosses(&CountedUsage {
        amount: Amount { tokens: 7, usd: 0.25, time: Duration::from_millis(1500) },
        ..usage("a", 7, Certainty::Estimated)
    });
    let limit = Budget { usd: Some(2.0), ..Budget::default() };
    for scope in [
        BudgetScope::Run,
        BudgetScope::Step(StepKey::root("a")),
        BudgetScope::Agent("coder".to_owned(), vec![StepKey::root("a")]),
    ] {
        crosses(&UncountedLimit { scope, limit: limit.clone(), unit: Unit::Usd });
    }
    crosses(&RatedRequest { provider: "lab".to_owned(), tokens: 12 });
}
