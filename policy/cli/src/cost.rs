//! `bulkhead check --cost`: what each decision costs at the most, the dearest first.

use bulkhead_lang::Compiled;
use bulkhead_lang::cost::Decision;
use serde_json::{Value, json};

fn dearest_first(compiled: &Compiled) -> Vec<&Decision> {
    let mut all: Vec<&Decision> = compiled.costs.iter().collect();
    // The sort is stable: equal ones stay in the order of callers and methods.
    all.sort_by_key(|decision| std::cmp::Reverse(decision.cost.total()));
    all
}

/// A line for each, below a line that says what the columns are.
pub(crate) fn lines(compiled: &Compiled) -> Vec<String> {
    let line = |decision: &Decision| {
        let cost = decision.cost;
        let shown = decision.show(&compiled.policy);
        format!("{:>7} {:>6} {:>6} {:>12}  {shown}", cost.total(), cost.rules, cost.tests, cost.steps)
    };
    let head = format!("{:>7} {:>6} {:>6} {:>12}  decision", "steps", "rows", "tests", "instructions");
    std::iter::once(head).chain(dearest_first(compiled).into_iter().map(line)).collect()
}

/// The same as JSON.
pub(crate) fn facts(compiled: &Compiled) -> Value {
    let fact = |decision: &Decision| {
        json!({
            "decision": decision.show(&compiled.policy),
            "steps": decision.cost.total(),
            "rows": decision.cost.rules,
            "tests": decision.cost.tests,
            "instructions": decision.cost.steps,
        })
    };
    dearest_first(compiled).into_iter().map(fact).collect()
}
