//! The monitor and the interpreter agree on generated policies and calls; and no text makes the compiler panic.

use super::state::BAY;
use super::*;

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

/// A random number over the arguments `a: u8` and `b: i8` and what is remembered.
fn quantity() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(vec![
        "a",
        "b",
        "1",
        "3",
        "7",
        "100",
        "made",
        "made",
        "tally(a)",
        "tally(3)",
        "f(a).x",
        "a of m",
        "b of m",
        "7 of m",
        "9223372036854775807",
        "18446744073709551615",
    ]);
    leaf.prop_map(str::to_string).prop_recursive(3, 12, 2, |inner| {
        let operator = prop::sample::select(vec!["+", "-", "*", "/", "%", "&", "|", "^", "<<", ">>"]);
        (inner.clone(), operator, inner).prop_map(|(x, o, y)| format!("({x} {o} {y})"))
    })
}

/// A random condition on all of it.
fn stateful_condition() -> impl Strategy<Value = String> {
    let operator = prop::sample::select(vec!["==", "!=", "<", "<=", ">", ">="]);
    let compare = (quantity(), operator, quantity()).prop_map(|(x, o, y)| format!("({x} {o} {y})"));
    let within = (quantity(), 0..60_i32).prop_map(|(x, low)| format!("({x} in {{ {low}..{}, 90..95 }})", low + 9));
    let plain = prop::sample::select(vec![
        "f(a) is one",
        "f(a) is not two",
        "f(1) is three",
        "age of f(a) < 3 s",
        "age of t > 2 s",
        "a in s",
        "b in s",
        "a in m",
        "a < 5",
        "b in -5..5",
        "a != 3",
        "time of day < 8 h",
        "day of week in 1..5",
        "caller == guest",
    ]);
    prop_oneof![2 => compare, 1 => within, 4 => plain.prop_map(str::to_string)].prop_recursive(3, 12, 2, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(x, y)| format!("({x} and {y})")),
            (inner.clone(), inner.clone()).prop_map(|(x, y)| format!("({x} or {y})")),
            (inner.clone(), inner.clone()).prop_map(|(x, y)| format!("({x} implies {y})")),
            inner.prop_map(|x| format!("not {x}")),
        ]
    })
}

/// Random effects, each of another state object.
fn effects() -> impl Strategy<Value = String> {
    let one = |choices: Vec<&'static str>| prop::option::weighted(0.3, prop::sample::select(choices));
    let amounts = (
        one(vec!["count made", "add a to made", "set made to b", "reset made"]),
        one(vec!["count tally(a)", "add b to tally(3)", "reset all tally", "set tally(a) to a * 2"]),
        one(vec![
            "f(a) becomes one(b)",
            "f(a) becomes two",
            "f(a) becomes three(a, b)",
            "reset f(a)",
            "f(1) becomes one(a)",
        ]),
        one(vec!["start t", "reset t", "set level to a", "mode becomes alert", "mode becomes calm"]),
        one(vec!["add a to s", "add b to s", "remove a from s", "reset s"]),
        one(vec!["put a at b in m", "put b at a in m", "remove a from m", "commit m", "roll back m", "reset m"]),
    );
    amounts.prop_map(|(a, b, c, d, e, f)| {
        let all: Vec<&str> = [a, b, c, d, e, f].into_iter().flatten().collect();
        if all.is_empty() { String::new() } else { format!(" then {}", all.join(", ")) }
    })
}

/// A random rule for the guest or both subjects, for one of two methods.
fn stateful_rule() -> impl Strategy<Value = String> {
    let condition = || prop::option::weighted(0.8, stateful_condition());
    let when = |condition: Option<String>| condition.map_or(String::new(), |condition| format!(" when {condition}"));
    let limit = prop::sample::select(vec!["", "", "", " at most 2 per 3 s", " at most 5 per s burst 2", " within r"]);
    let method = || prop::sample::select(vec!["s.m", "s.n", "s.m, s.n", "s.q", "s.m, s.q"]);
    let who = || prop::sample::select(vec!["guest", "guest", "all", "acting"]);
    let audit = prop::sample::select(vec!["", " audit", " audit by loud", " audit by thin", " audit by calm"]);
    let audit_reply = audit.clone();
    let deny_audit = prop::sample::select(vec!["", "", " audit by loud", " audit by thin", " audit by calm"]);
    prop_oneof![
        3 => (who(), method(), condition(), limit, effects(), audit)
            .prop_map(move |(who, method, c, limit, effects, audit)| format!("allow {who} {method}{}{limit}{effects}{audit}", when(c))),
        1 => (who(), method(), condition(), any::<bool>(), deny_audit)
            .prop_map(move |(who, method, c, counts, audit)| format!("deny {who} {method}{}{}{audit}", when(c), if counts { " then count made" } else { "" })),
        1 => (condition(), effects(), audit_reply).prop_map(move |(c, effects, audit)| {
            let effects = if effects.is_empty() && audit.is_empty() { " then count made".to_string() } else { effects };
            format!("on guest s.m reply{}{effects}{audit}", when(c))
        }),
        1 => condition().prop_map(move |c| format!("deny guest s.m reply{}", when(c))),
        1 => who().prop_map(|who| format!("deny {who} s.n error when made > 2 then count made")),
    ]
}

const STATEFUL: &str = "edition 1\npolicy p\ninterface I {\n method m(a: u8, b: i8) -> (a: u8, b: i8)\n method n(a: u8, b: i8) -> ()\n question q(a: u8, b: i8)\n}\nzone UTC\n\
    app x\nservice s: I by x\ngroup all: guest, x\ncounter made in -3..20\ncounter tally per a in 0..9 in 0..50 start 5\n\
    flow f per a in 0..9 { one -> two, three\n two -> one, two\n three -> one\n one holds x\n three holds x, y\n one lasts 4 s -> two }\n\
    counter level in 0..12\nflow mode { calm -> alert\n alert -> calm }\n\
    profile loud { record allowed when level >= 2 and mode is calm; record 1 in 3 denied when level < 9; record only b }\n\
    profile thin { record 1 in 2 allowed; record denied when mode is alert or not level in 2..5 }\n\
    profile calm for s.n { record 1 in 4 allowed when mode is calm; record 1 in 2 denied }\n\
    timer t\ngroup acting: guest, x when f(1) is two or made > 2\nrate r at most 3 per 2 s\nset s max 3\nmap m max 2\n";

proptest! {
    // With 24 to 40 calls each, more than ten to the fifth calls.
    #![proptest_config(ProptestConfig { cases: 4000, max_global_rejects: 1_000_000, ..ProptestConfig::default() })]

    /// Whatever the policy remembers and the calls are, table and tree say, record and remember alike.
    #[test]
    fn monitor_and_interpreter_agree_on_state(
        rules in prop::collection::vec(stateful_rule(), 1..7),
        calls in prop::collection::vec((0_usize..6, 0_i128..12, -12_i128..12, any::<bool>(), 0_u64..3_000_000), 24..40),
        knows_time in any::<bool>(),
    ) {
        let text = format!("{STATEFUL}{}\n", rules.join("\n"));
        let compiled = match build(&text) {
            Ok(compiled) => compiled,
            Err(findings) => {
                let is_known = ["both change what is remembered", "too long", "is never", "changes `", "one call may make"];
                prop_assert!(is_known.iter().any(|known| findings.contains(known)), "{}\n{}", text, findings);
                return Err(TestCaseError::reject("rules that quarrel"));
            }
        };
        let mut both = Both::new(&compiled);
        if !knows_time {
            both.times.local_seconds = None;
        }
        for (kind, a, b, is_guest, wait) in calls {
            let who = if is_guest { "guest" } else { "x" };
            match kind {
                0 | 1 => both.tell(Event::Request, who, "s.m", &[a, b]),
                2 => both.tell(Event::Request, who, "s.n", &[a, b]),
                3 => both.tell(Event::Request, who, "s.q", &[a, b]),
                4 => both.tell(Event::Error, who, "s.n", &[]),
                _ => both.tell(Event::Reply, "guest", "s.m", &[a, b]),
            };
            both.wait(wait);
        }
    }
}

#[test]
fn every_prefix_of_a_policy_is_compiled_or_refused() {
    let examples = [LATTICE, ROLES, ONE_WAY, REQUIRE];
    let own = [BAY, GATEWAY, crate::profiles::tests::SITE, crate::reasons::tests::SITE];
    for text in own.into_iter().chain(examples) {
        (0..text.len()).for_each(|length| {
            let _ = build(&text[..length]);
        });
    }
}

const LATTICE: &str = include_str!("../../../examples/lattice/site.policy");
const ROLES: &str = include_str!("../../../examples/roles/site.policy");
const ONE_WAY: &str = include_str!("../../../examples/one-way/site.policy");
const REQUIRE: &str = include_str!("../../../examples/require/site.policy");

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    /// Whatever the policy and the call, table and tree decide alike, and by the same rule.
    #[test]
    fn monitor_and_interpreter_agree(
        rules in prop::collection::vec((any::<bool>(), prop::option::of(condition())), 1..5),
        calls in prop::collection::vec((any::<u8>(), any::<i8>(), 0_u8..4), 1..60),
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
                prop_assert!(findings.contains("too long for the monitor"), "{}", findings);
                return Ok(());
            }
        };
        for (a, b, c) in calls {
            ask(&compiled, "guest", "s.m", &[a.into(), b.into(), c.into()]);
        }
    }

    /// No text makes the compiler panic or take long.
    #[test]
    fn any_text_is_compiled_or_refused(text in "\\PC{0,200}") {
        let _ = build(&text);
    }

    #[test]
    fn any_mutation_of_a_policy_is_compiled_or_refused(
        of in prop::sample::select(vec![BAY, BAY, LATTICE, ROLES, ONE_WAY, REQUIRE]),
        at in any::<prop::sample::Index>(),
        cut in 0_usize..40,
        put in "[a-z0-9{}().,:<>= \n\"-]{0,8}",
    ) {
        let at = at.index(of.len());
        let end = (at + cut).min(of.len());
        let text = format!("{}{put}{}", &of[..at], &of[end..]);
        let _ = build(&text);
    }
}
