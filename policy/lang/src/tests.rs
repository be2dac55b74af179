//! The language as its users meet it: what compiles, what is refused and with which words, and that the monitor and the
//! interpreter agree.

use bulkhead_model::{MAX_ARGS, Phase, Reason, method, object};
use bulkhead_monitor::{Call, decide};
use proptest::prelude::*;

use crate::{Compiled, compile, interpret};

const SITE: &str = r#"
edition 1
policy test
interface Plant {
    enum Mode { off, manual, auto }
    method level() -> (millimetres: u16)
    method set(rpm: u16 in 0..3000, mode: Mode) -> ()
    method trim(offset: i16, secret code: u32) -> ()
}
app plant
app hmi
service plant: Plant by plant
resource uart: mmio 0x09000000 size 0x1000 interrupt 33
let slow = { 0, 200..2400 }
allow guest use uart
allow guest plant.level
allow guest plant.set when rpm in slow and mode != auto audit
deny guest plant.set when rpm in 1000..1010 because "resonance"
allow hmi plant.*
allow guest plant.trim when not (offset < -10 or offset > 10)
"#;

fn build(text: &str) -> Result<Compiled, String> {
    let mut load = |name: &str| if name == "site.policy" { Ok(text.to_string()) } else { Err("not found".to_string()) };
    compile(&mut load, "site.policy").map_err(|report| {
        report.findings.iter().map(|finding| finding.render(&report.sources).to_string()).collect::<String>()
    })
}

fn ask(compiled: &Compiled, subject: &str, target: &str, arguments: &[u64]) -> (Reason, Option<u32>) {
    let (object, method) = target.split_once('.').unwrap();
    let (subject, object) = (compiled.subject(subject).unwrap(), compiled.object(object).unwrap());
    let methods = &compiled.policy.objects[usize::from(object)].methods;
    let method = u16::try_from(methods.iter().position(|known| known.name == method).unwrap()).unwrap();
    let table = bulkhead_model::Policy::verify(&compiled.table).unwrap();
    let mut args = [0; MAX_ARGS];
    args[..arguments.len()].copy_from_slice(arguments);
    let len = u8::try_from(arguments.len()).unwrap();
    let verdict = decide(&table, &Call { subject, object, method, phase: Phase::Request, len, args: &args });
    let (reason, rule) = interpret::decide(&compiled.policy, subject, object, method, arguments);
    assert_eq!(verdict.reason, reason, "monitor and interpreter");
    assert_eq!(rule.map_or(0xffff, |rule| u16::try_from(rule).unwrap()), verdict.rule);
    (reason, table.rule_place(verdict.rule).map(|(_, line)| line))
}

#[test]
fn what_a_rule_names_is_allowed_and_its_neighbours_are_not() {
    let site = build(SITE).unwrap();
    assert_eq!(ask(&site, "guest", "plant.level", &[]), (Reason::Allowed, Some(16)));
    assert_eq!(ask(&site, "guest", "plant.set", &[200, 1]), (Reason::Allowed, Some(17)));
    assert_eq!(ask(&site, "guest", "plant.set", &[0, 0]).0, Reason::Allowed);
    assert_eq!(ask(&site, "guest", "plant.set", &[199, 1]).0, Reason::NoRule);
    assert_eq!(ask(&site, "guest", "plant.set", &[200, 2]).0, Reason::NoRule, "auto");
    assert_eq!(ask(&site, "guest", "plant.set", &[200, 3]).0, Reason::Malformed, "no such mode");
    assert_eq!(ask(&site, "guest", "plant.set", &[3001, 0]).0, Reason::Malformed);
    assert_eq!(ask(&site, "guest", "plant.set", &[1005, 0]), (Reason::DeniedByRule, Some(18)));
    assert_eq!(ask(&site, "hmi", "plant.set", &[1005, 2]).0, Reason::Allowed);
    assert_eq!(ask(&site, "plant", "plant.level", &[]).0, Reason::NoRule);
}

#[test]
fn signed_arguments_and_negation_are_as_written() {
    let site = build(SITE).unwrap();
    let minus = |value: i64| value.cast_unsigned();
    assert_eq!(ask(&site, "guest", "plant.trim", &[minus(-10), 7]).0, Reason::Allowed);
    assert_eq!(ask(&site, "guest", "plant.trim", &[minus(-11), 7]).0, Reason::NoRule);
    assert_eq!(ask(&site, "guest", "plant.trim", &[10, 7]).0, Reason::Allowed);
    assert_eq!(ask(&site, "guest", "plant.trim", &[0xffff, 7]).0, Reason::Malformed, "not sign-extended");
}

#[test]
fn resources_are_given_only_by_a_rule() {
    assert_eq!(build(SITE).unwrap().policy.resources.len(), 1);
    let without = SITE.replace("allow guest use uart", "");
    assert!(build(&without).unwrap().policy.resources.is_empty());
}

#[test]
fn a_resource_has_one_owner_which_may_be_an_app() {
    let text = SITE.replace("allow guest use uart", "allow plant use uart");
    let site = build(&text).unwrap();
    assert!(site.policy.resources.is_empty());
    assert_eq!(site.policy.driven.first().map(|(subject, _)| *subject), site.subject("plant"));
    assert!(build(&format!("{SITE}\nallow plant use uart")).unwrap_err().contains("given twice"));
    assert!(build(&text.replace("allow plant use", "deny plant use")).unwrap_err().contains("for good, or not at all"));
}

#[test]
fn findings_name_the_place_and_the_remedy() {
    for (wrong, right, message, help) in [
        (
            "allow guest plant.levle",
            "allow guest plant.level\n",
            "no method of `plant` called `levle`",
            "did you mean `level`?",
        ),
        ("allow gest plant.level", "allow guest plant.level\n", "no subject `gest`", "did you mean `guest`?"),
        ("rpm in slw", "rpm in slow", "no set `slw`", "did you mean `slow`?"),
        ("mode != automatic", "mode != auto", "no value of `mode` called `automatic`", "known: off, manual, auto"),
        ("rpm in 1000..4000", "rpm in 1000..1010", "`rpm` is never 4000", "its values are 0..3000"),
        ("edition 9", "edition 1", "edition 9 is not known", "edition 1"),
        ("size 0x100 i", "size 0x1000 i", "shares a page", "a multiple of 0x1000"),
    ] {
        let text = build(&SITE.replacen(right.trim_end(), wrong, 1)).unwrap_err();
        assert!(text.contains(message) && text.contains(help) && text.contains("site.policy:"), "{wrong}: {text}");
    }
}

#[test]
fn all_errors_are_reported_at_once() {
    let text = build("edition 1\nalow guest x.y\nallow =\ndeny guest nothing.at_all\nlet a = 5..1\n").unwrap_err();
    assert_eq!(text.matches("error:").count(), 3, "{text}");
}

#[test]
fn names_are_declared_once_and_an_app_serves_one_object() {
    assert!(build(&format!("{SITE}\napp plant")).unwrap_err().contains("declared twice"));
    assert!(build(&format!("{SITE}\nservice other: Plant by plant")).unwrap_err().contains("serves something already"));
    assert!(build(&format!("{SITE}\ninclude \"missing.policy\"")).unwrap_err().contains("cannot read missing.policy"));
}

#[test]
fn a_condition_that_would_blow_the_table_up_is_refused() {
    let set = (0..100).map(|n| (n * 2).to_string()).collect::<Vec<_>>().join(", ");
    let text = format!("{SITE}\nallow guest plant.set when rpm in {{ {set} }}");
    assert!(build(&text).unwrap_err().contains("more than 64 rows"));
    let long = vec!["rpm == 1"; 1000].join(" or ");
    assert!(build(&format!("{SITE}\nallow guest plant.set when {long}")).unwrap_err().contains("too long"));
    let deep = format!("{}rpm == 1{}", "(".repeat(5000), ")".repeat(5000));
    assert!(build(&format!("{SITE}\nallow guest plant.set when {deep}")).unwrap_err().contains("nests too deep"));
}

#[test]
fn a_rule_that_never_matches_is_a_warning() {
    let site = build(&format!("{SITE}\nallow guest plant.set when rpm == 1 and rpm == 2")).unwrap();
    assert!(site.warnings.iter().any(|warning| warning.message.contains("never matches")));
}

#[test]
fn built_in_numbers_are_those_of_the_model() {
    let site = build(SITE).unwrap();
    let number = |target: u16, name: &str| {
        let methods = &site.policy.objects[usize::from(target)].methods;
        methods.iter().position(|method| method.name == name).and_then(|at| u16::try_from(at).ok())
    };
    let own = [("psci", object::PSCI), ("sysreg", object::SYSREG), ("mmio", object::MMIO), ("task", object::TASK)];
    own.iter().for_each(|(name, wanted)| assert_eq!(site.object(name), Some(*wanted)));
    for (name, wanted) in [
        ("version", method::psci::VERSION),
        ("features", method::psci::FEATURES),
        ("migrate_info_type", method::psci::MIGRATE_INFO_TYPE),
        ("off", method::psci::OFF),
        ("reset", method::psci::RESET),
        ("cpu_on", method::psci::CPU_ON),
        ("smccc_version", method::psci::SMCCC_VERSION),
        ("other", method::psci::OTHER),
    ] {
        assert_eq!(number(object::PSCI, name), Some(wanted), "{name}");
    }
    assert_eq!(number(object::SYSREG, "read"), Some(method::READ));
    assert_eq!(number(object::MMIO, "write"), Some(method::WRITE));
    assert_eq!(number(object::TASK, "start"), Some(method::START));
}

#[test]
fn capabilities_are_what_rules_reach() {
    let site = build(SITE).unwrap();
    let plant = site.object("plant").unwrap();
    assert_eq!(site.reach(site.subject("hmi").unwrap()).iter().map(|reach| reach.object).collect::<Vec<_>>(), [plant]);
    assert!(site.reach(site.subject("plant").unwrap()).is_empty());
}

/// A random condition over `a: u8`, `b: i8`, `c: Kind`.
fn condition() -> impl Strategy<Value = String> {
    let operator = prop::sample::select(vec!["==", "!=", "<", "<=", ">", ">="]);
    let compare =
        (prop::sample::select(vec!["a", "b"]), operator, 0..100_i32).prop_map(|(f, o, c)| format!("{f} {o} {c}"));
    let range = (0..60_i32, 0..60_i32).prop_map(|(low, size)| format!("a in {low}..{}", low + size));
    let set = (-90..0_i32, 1..30_i32).prop_map(|(low, size)| format!("b in {{ {low}..{}, 5, 7..9 }}", low + size));
    let word = prop::sample::select(vec!["c == on", "c != off", "c in named"]).prop_map(str::to_string);
    prop_oneof![compare, range, set, word].prop_recursive(4, 24, 2, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} and {b})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} or {b})")),
            inner.prop_map(|a| format!("not ({a})")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whatever the policy and the call, table and tree decide alike, and by the same rule.
    #[test]
    fn monitor_and_interpreter_agree(
        rules in prop::collection::vec((any::<bool>(), prop::option::of(condition())), 1..5),
        calls in prop::collection::vec((any::<u8>(), any::<i8>(), 0_u64..4), 1..60),
    ) {
        let mut text = "edition 1\npolicy p\ninterface I { enum Kind { off, on, other }\n \
            method m(a: u8 in 0..200, b: i8, c: Kind) -> () }\napp x\nservice s: I by x\nlet named = on..other\n".to_string();
        for (is_allow, condition) in &rules {
            let verb = if *is_allow { "allow" } else { "deny" };
            let when = condition.as_ref().map_or(String::new(), |condition| format!(" when {condition}"));
            text.push_str(&format!("{verb} guest s.m{when}\n"));
        }
        let compiled = match build(&text) {
            Ok(compiled) => compiled,
            Err(findings) => {
                prop_assert!(findings.contains("more than 64 rows"), "{}", findings);
                return Ok(());
            }
        };
        for (a, b, c) in calls {
            ask(&compiled, "guest", "s.m", &[a.into(), i64::from(b).cast_unsigned(), c]);
        }
    }

    /// No text makes the compiler panic or take long.
    #[test]
    fn any_text_is_compiled_or_refused(text in "\\PC{0,200}") {
        let _ = build(&text);
    }

    #[test]
    fn any_mutation_of_a_policy_is_compiled_or_refused(at in 0..SITE.len(), cut in 0_usize..40, put in "[a-z0-9{}().,:<>= \n\"-]{0,8}") {
        let end = (at + cut).min(SITE.len());
        let text = format!("{}{put}{}", &SITE[..at], &SITE[end..]);
        let _ = build(&text);
    }
}
