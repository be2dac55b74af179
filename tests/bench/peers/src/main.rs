//! What other policy engines take for the bench's 10,000 rules and calls, warm, on this machine: thread CPU time, medians. Each is
//! used in its fastest form: rules as data where it can, requests made beforehand. Prints one JSON object.

use std::error::Error;
use std::hint::black_box;

use bulkhead_bench_policy::{CALLS, Question, SPAN, TURNS, lowest, per_turn, place, questions, rounded, services};
use serde_json::json;

const RULES: usize = 10_000;
/// Decisions of a run, for engines of microseconds and of milliseconds.
const FEWER: usize = 20_000;
const FEWEST: usize = 8;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let figures = json!({
        "dense_table_allow_10k_ns": rounded(dense(true)),
        "dense_table_deny_10k_ns": rounded(dense(false)),
        "regorus_allow_10k_ns": rounded(regorus(true)?),
        "regorus_deny_10k_ns": rounded(regorus(false)?),
        "cedar_allow_10k_ns": rounded(cedar(true)?),
        "cedar_deny_10k_ns": rounded(cedar(false)?),
        "casbin_allow_10k_ns": rounded(casbin(true)?),
        "casbin_deny_10k_ns": rounded(casbin(false)?),
    });
    println!("{figures}");
    Ok(())
}

/// Asks the calls in turn, after each was seen to be answered as it should.
fn measure<Q>(asked: &[Q], turns: usize, allowed: bool, mut ask: impl FnMut(&Q) -> bool) -> f64 {
    assert!(asked.iter().take(turns).all(|question| ask(question) == allowed), "a peer answers otherwise");
    per_turn(turns, |turn| {
        black_box(asked.get(turn % CALLS).map(|question| ask(black_box(question))));
    })
}

/// Two arrays, one in the other, and a range: what a decision costs that does nothing else.
fn dense(allowed: bool) -> f64 {
    let mut table = vec![vec![None; RULES.div_ceil(services(RULES))]; services(RULES)];
    for rule in 0..RULES {
        let (service, register) = place(rule, RULES);
        let slot = table.get_mut(service).and_then(|registers| registers.get_mut(register));
        slot.into_iter().for_each(|slot| *slot = Some((lowest(rule), lowest(rule) + SPAN)));
    }
    measure(&questions(RULES, allowed), TURNS, allowed, |&(service, register, value)| {
        let range = table.get(service).and_then(|registers| registers.get(usize::from(register)).copied().flatten());
        range.is_some_and(|(low, high)| (low..=high).contains(&usize::from(value)))
    })
}

/// Regorus' virtual machine: one Rego rule, the 10,000 as its data.
fn regorus(allowed: bool) -> Result<f64> {
    use regorus::languages::rego::compiler::Compiler;
    use regorus::rvm::vm::RegoVM;
    const POLICY: &str = "package bench
import rego.v1
default allow := false
allow if {
    range := data.rules[input.service][input.register]
    input.value >= range.low
    input.value <= range.high
}";
    let mut rules = vec![serde_json::Map::new(); services(RULES)];
    for rule in 0..RULES {
        let (service, register) = place(rule, RULES);
        let range = json!({ "low": lowest(rule), "high": lowest(rule) + SPAN });
        rules.get_mut(service).into_iter().for_each(|rules| drop(rules.insert(register.to_string(), range.clone())));
    }
    let rules = rules.into_iter().enumerate().map(|(service, rules)| (format!("s{service}"), rules.into()));
    let data = json!({ "rules": serde_json::Value::Object(rules.collect()) });
    let mut engine = regorus::Engine::new();
    engine.add_policy("bench.rego".to_string(), POLICY.to_string())?;
    let entry = "data.bench.allow";
    let compiled = engine.compile_with_entrypoint(&entry.into())?;
    let mut machine = RegoVM::new();
    machine.load_program(Compiler::compile_from_policy(&compiled, &[entry])?);
    machine.set_data(regorus::Value::from_json_str(&data.to_string())?)?;
    let input = |(service, register, value): Question| {
        let text = json!({ "service": format!("s{service}"), "register": register.to_string(), "value": value });
        regorus::Value::from_json_str(&text.to_string())
    };
    let inputs = questions(RULES, allowed).into_iter().map(input).collect::<std::result::Result<Vec<_>, _>>()?;
    Ok(measure(&inputs, FEWER, allowed, |input| {
        machine.set_input(input.clone());
        machine.execute().is_ok_and(|answer| answer == regorus::Value::from(true))
    }))
}

/// Cedar: one policy, the 10,000 as attributes of as many entities.
fn cedar(allowed: bool) -> Result<f64> {
    use cedar_policy::{Authorizer, Context, Decision, Entities, EntityUid, PolicySet, Request};
    let name = |service: usize, register: usize| format!("s{service}/{register}");
    let policies: PolicySet =
        "permit(principal, action, resource) when { context.value >= resource.low && context.value <= resource.high };"
            .parse()?;
    let entity = |rule: usize| {
        let (service, register) = place(rule, RULES);
        json!({
            "uid": { "type": "Register", "id": name(service, register) },
            "attrs": { "low": lowest(rule), "high": lowest(rule) + SPAN },
            "parents": [],
        })
    };
    let entities = Entities::from_json_value((0..RULES).map(entity).collect(), None)?;
    let request = |(service, register, value): Question| -> Result<Request> {
        let resource: EntityUid = format!("Register::\"{}\"", name(service, register.into())).parse()?;
        let context = Context::from_json_value(json!({ "value": value }), None)?;
        Ok(Request::new("User::\"guest\"".parse()?, "Action::\"write\"".parse()?, resource, context, None)?)
    };
    let requests = questions(RULES, allowed).into_iter().map(request).collect::<Result<Vec<_>>>()?;
    let authorizer = Authorizer::new();
    Ok(measure(&requests, FEWER, allowed, |request| {
        authorizer.is_authorized(request, &policies, &entities).decision() == Decision::Allow
    }))
}

/// casbin: one policy line a rule, which it reads one after the other.
fn casbin(allowed: bool) -> Result<f64> {
    use casbin::prelude::*;
    use casbin::{function_map::OperatorFunction, rhai::Dynamic};
    const MODEL: &str = "[request_definition]
r = service, register, value
[policy_definition]
p = service, register, low, high
[policy_effect]
e = some(where (p.eft == allow))
[matchers]
m = r.service == p.service && r.register == p.register && within(r.value, p.low, p.high)
";
    let lines = (0..RULES).map(|rule| {
        let (service, register) = place(rule, RULES);
        let numbers = [register, lowest(rule), lowest(rule) + SPAN].map(|number| number.to_string());
        std::iter::once(format!("s{service}")).chain(numbers).collect()
    });
    let lines: Vec<Vec<String>> = lines.collect();
    let enforcer = tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
        let model = DefaultModel::from_str(MODEL).await?;
        let mut enforcer = Enforcer::new(model, MemoryAdapter::default()).await?;
        enforcer.add_function(
            "within",
            OperatorFunction::Arg3(|value: Dynamic, low: Dynamic, high: Dynamic| {
                let number = |text: Dynamic| text.to_string().parse::<u32>().ok();
                let is_within = number(low).zip(number(high)).zip(number(value));
                is_within.is_some_and(|((low, high), value)| (low..=high).contains(&value)).into()
            }),
        );
        enforcer.add_policies(lines).await?;
        Ok::<_, casbin::Error>(enforcer)
    })?;
    let ask = |(service, register, value): Question| (format!("s{service}"), register.to_string(), value.to_string());
    let asked: Vec<_> = questions(RULES, allowed).into_iter().map(ask).collect();
    Ok(measure(&asked, FEWEST, allowed, |(service, register, value)| {
        enforcer.enforce((service.as_str(), register.as_str(), value.as_str())).unwrap_or(!allowed)
    }))
}
