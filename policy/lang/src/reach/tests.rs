//! The search for what can be remembered, held against calls at random and against visiting every microsecond.

use proptest::prelude::*;

use super::*;
use crate::tests::build;

const HEAD: &str = "edition 1\npolicy p\ninterface I {\n method m(x: u8 in 0..3) -> (y: bool)\n method n(x: u16) -> ()\n}\napp a\nservice s: I by a\n\
    flow f { one -> two, three\n two -> one, three\n three -> one\n two lasts 4 s -> three }\ncounter c in 0..3\n\
    flow g per x in 0..3 { shut -> open\n open -> shut }\ntimer t\n";

fn condition() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "f is one",
        "f is two",
        "f is not three",
        "c < 2",
        "c == 0",
        "x == 2",
        "x >= 1",
        "f is two and c > 0",
        "f is three or x == 0",
    ])
}

fn rule() -> impl Strategy<Value = String> {
    let effect = prop::sample::select(vec![
        "f becomes one",
        "f becomes two",
        "f becomes three",
        "count c",
        "reset c",
        "set c to x",
        "start t",
        "f becomes two, count c",
    ]);
    let kind = prop::sample::select(vec!["allow guest s.m", "allow guest s.n", "allow a s.m", "on guest s.m reply"]);
    (kind, condition(), effect, any::<bool>(), any::<bool>()).prop_map(|(kind, when, effect, is_rated, is_timed)| {
        let is_reply = kind.starts_with("on");
        let when = if is_reply {
            when.replace("x == 2", "y").replace("x >= 1", "y").replace("x == 0", "not y")
        } else {
            when.to_string()
        };
        let effect = if is_reply { effect.replace("to x", "to 2") } else { effect.to_string() };
        let rate = if is_rated && !is_reply { " at most 2 per 9 s" } else { "" };
        let timed = if is_timed && !is_reply { " and age of t above 2 s" } else { "" };
        if effect.is_empty() && is_reply {
            return "allow guest s.m".to_string();
        }
        let then = if effect.is_empty() { String::new() } else { format!(" then {effect}") };
        format!("{kind} when ({when}){timed}{rate}{then}")
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, max_global_rejects: 100_000, ..ProptestConfig::default() })]

    /// What the search says is never reached, no calls reach; and where nothing was left out, calls reach what it reaches.
    #[test]
    fn calls_reach_nothing_that_the_search_does_not(
        rules in prop::collection::vec(rule(), 1..6),
        deny in prop::option::of(condition()),
        never in prop::sample::select(vec![
            "when f is three and c == 2", "when c == 3", "when f is two and c > 1", "when f is three", "guest s.m when f is three",
            "guest s.m when x == 2 and c > 1", "guest s.m unless s.n came before", "a s.m when f is two",
        ]),
        calls in prop::collection::vec((0_u16..2, any::<bool>(), 0_u64..4, 0_u64..6_000_000), 60),
    ) {
        let deny = deny.map_or(String::new(), |when| format!("deny guest s.m when {when}\n"));
        let text = format!("{HEAD}{}\n{deny}never {never}\n", rules.join("\n"));
        let Ok(compiled) = build(&text) else { return Err(TestCaseError::reject("rules that quarrel")) };
        let policy = &compiled.policy;
        let what = &policy.nevers[0].what;
        let object = compiled.object("s").unwrap();
        let found = search(policy, what);
        let mut walk = Walk { policy, what, remembered: Remembered::default(), times: Times { microseconds: Some(0), local_seconds: None }, came: false };
        if let Found::Nowhere(_) = found {
            for (method, is_reply, value, wait) in calls {
                walk.times.microseconds = walk.times.microseconds.map(|now| now + wait);
                let subject = u16::try_from(value % 2).unwrap() * 2;
                let event = if is_reply && method == 0 { Event::Reply } else { Event::Request };
                let words = [if event == Event::Reply { value % 2 } else { value }];
                prop_assert!(!walk.breaks(&Message { subject, object, method, event, words: &words }), "{}", text);
            }
        } else if let (Found::Ways(ways), false) = (&found, text.contains("at most")) {
            prop_assert!(walk.goes(&ways[0]), "{} {:?}", text, ways);
        }
    }
}

struct Walk<'a> {
    policy: &'a Policy,
    what: &'a NeverWhat,
    remembered: Remembered,
    times: Times,
    came: bool,
}

impl Walk<'_> {
    /// Whether a way ends where it must never end.
    fn goes(&mut self, way: &[Move]) -> bool {
        let mut is_broken = matches!(self.what, NeverWhat::State(_)) && way.is_empty();
        for step in way {
            match step {
                Move::Wait(time) => self.times.microseconds = self.times.microseconds.map(|now| now + time),
                Move::Send { subject, object, method, event, words } => {
                    let message = Message { subject: *subject, object: *object, method: *method, event: *event, words };
                    is_broken = self.breaks(&message);
                }
            }
        }
        match self.what {
            NeverWhat::State(condition) => is_so(self.policy, &self.remembered, self.times, condition),
            NeverWhat::Call(..) => is_broken,
        }
    }

    /// Whether a message brings about what must never be.
    fn breaks(&mut self, message: &Message<'_>) -> bool {
        let is_meant = match self.what {
            NeverWhat::Call(rule, _) => rule
                .bodies_for(message.subject, message.object, message.method, message.event)
                .any(|body| self.remembered.matches(self.policy, self.times, message, body) == Ok(true)),
            NeverWhat::State(_) => false,
        };
        let reason = self.remembered.decide(self.policy, self.times, message).reason;
        let is_granted = reason == bulkhead_model::Reason::Allowed && message.event == Event::Request;
        let breaks = match self.what {
            NeverWhat::Call(..) => is_granted && is_meant && !self.came,
            NeverWhat::State(condition) => is_so(self.policy, &self.remembered, self.times, condition),
        };
        if let NeverWhat::Call(_, before) = self.what {
            self.came |= is_granted && before.contains(&(message.object, message.method));
        }
        breaks
    }
}

fn outcome(rules: &str) -> Found {
    let compiled = build(&format!("{HEAD}{rules}\n")).unwrap();
    search(&compiled.policy, &compiled.policy.nevers[0].what)
}

#[test]
fn what_must_come_before_is_kept_apart_for_each_key() {
    let opens = "allow guest s.m when g(x) is shut then g(x) becomes open\n";
    let used = "allow a s.m when g(x) is open then g(x) becomes shut\n";
    assert!(matches!(outcome(&format!("{opens}{used}never a s.m when g(x) is shut")), Found::Nowhere(_)));
    assert!(matches!(outcome(&format!("{opens}{used}never guest s.m when g(x) is open")), Found::Nowhere(_)));
    assert!(
        matches!(outcome(&format!("{opens}{used}never a s.m when g(x) is open")), Found::Ways(ways) if ways[0].len() == 2)
    );
    let before = "allow guest s.n then count c\nallow guest s.m when c > 0\n";
    assert!(matches!(outcome(&format!("{before}never guest s.m unless s.n came before")), Found::Nowhere(2..)));
    let without = "allow guest s.n then count c\nallow guest s.m\n";
    assert!(
        matches!(outcome(&format!("{without}never guest s.m unless s.n came before")), Found::Ways(ways) if ways[0].len() == 1)
    );
}

/// In the third state the first rule fails, unless it is held back: then the second allows.
#[test]
fn a_rule_that_is_held_back_leaves_the_call_to_others() {
    for held in ["when age of t above 2 s then f becomes two", "at most 2 per 9 s then f becomes two"] {
        let rules = format!("allow guest s.n then start t\nallow guest s.m {held}\nallow guest s.m\n");
        assert!(matches!(outcome(&format!("{rules}never guest s.m when f is three")), Found::Ways(_)), "{held}");
    }
    let rules = "allow guest s.m then f becomes two\nallow guest s.m\n";
    assert!(matches!(outcome(&format!("{rules}never guest s.m when f is three")), Found::Nowhere(_)));
}

#[test]
fn what_is_kept_per_caller_is_looked_at_for_each() {
    let rules = "counter tries per caller in 0..2\nallow a s.n then count tries\nallow guest s.n\n";
    assert!(matches!(outcome(&format!("{rules}never when tries == 2")), Found::Ways(ways) if ways[0].len() == 2));
    let rules = rules.replace("then count", "when x > 5 and x < 5 then count");
    assert!(matches!(outcome(&format!("{rules}never when tries == 2")), Found::Nowhere(1)));
}

#[test]
fn what_the_search_cannot_follow_is_unknown() {
    for (rules, why) in [
        ("allow guest s.n then set c to x % 4\nnever when c == 2", "narrow it to 256"),
        ("allow guest s.n then start t\nnever when age of t + 1 s above 2 s", "ages that are compared with constants"),
        ("zone UTC\non guest s.m reply when time of day above 1 h then count c\nnever when c == 2", "asks for a time"),
        ("allow guest s.n then start t\nallow guest s.m then set c to age of t\nnever when c == 2", "remembers a time"),
    ] {
        let found = outcome(rules);
        assert!(matches!(&found, Found::Unknown(text) if text.contains(why)), "{rules}: {found:?}");
    }
}

#[test]
fn ages_are_followed_and_no_wait_is_too_short_or_too_long() {
    let starts = "allow guest s.n then start t\n";
    let late = "allow guest s.m when age of t >= 3 s then count c\n";
    let between = "allow guest s.m when age of t between 1 s and 2 s and f is one then f becomes two\n";
    let at_once = "allow guest s.m when f is one then f becomes two\n";
    for (rules, never, is_reached) in [
        ("", "when age of t above 2 s", true),
        (late, "when c == 1 and age of t below 3 s", true),
        (late, "guest s.m when age of t below 1 s", false),
        ("allow guest s.m when age of t >= 3 s then count c, start t\n", "when c == 1 and age of t below 0 s", false),
        // Two ages that run together: `two` begins at 2 s at the latest, and is over after 4 s.
        (between, "when f is two and age of t above 6 s", false),
        (between, "when f is two and age of t >= 6 s", true),
        (at_once, "when f is three and age of f below 1 s", true),
        (at_once, "when f is two and age of f above 4 s", false),
        ("allow guest s.m when age of t > 1 s and age of t < 1 s then count c\n", "when c == 1", false),
    ] {
        let found = outcome(&format!("{starts}{rules}never {never}"));
        assert!(
            matches!((&found, is_reached), (Found::Ways(_), true) | (Found::Nowhere(_), false)),
            "{rules}{never}: {found:?}"
        );
    }
    let found = outcome(&format!("{starts}{between}never when f is two and age of t >= 6 s"));
    let Found::Ways(ways) = found else { panic!("{found:?}") };
    assert_eq!(ways[0].iter().filter(|step| matches!(step, Move::Wait(2_000_000 | 4_000_000))).count(), 2, "{ways:?}");
}

const TINY: &str = "edition 1\npolicy p\ninterface I {\n method m(x: bool) -> (y: bool)\n method n() -> ()\n}\napp a\nservice s: I by a\n\
    flow f { one -> two, three\n two -> one, three\n three -> one\n two lasts 2 us -> three }\ncounter c in 0..2\ntimer t\n\
    flow g per caller { shut -> open\n open -> shut }\n";
/// Beyond every constant of these policies, in microseconds.
const OLD: u64 = 8;

fn tiny_condition() -> impl Strategy<Value = String> {
    let compared = prop::sample::select(vec!["<", "<=", "==", "!=", ">=", ">"]);
    let age = prop::sample::select(vec!["t", "f", "g"]);
    let leaf = prop_oneof![
        3 => (age, compared, 0_u8..4).prop_map(|(of, by, time)| format!("age of {of} {by} {time} us")),
        1 => prop::sample::select(vec!["age of t between 1 us and 2 us", "f is one", "f is two", "f is three", "g is open", "c < 2", "c == 1"])
            .prop_map(str::to_string),
    ];
    leaf.prop_recursive(2, 4, 2, |inner| {
        prop_oneof![
            inner.clone().prop_map(|one| format!("not ({one})")),
            (inner.clone(), inner.clone()).prop_map(|(one, other)| format!("({one}) and ({other})")),
            (inner.clone(), inner).prop_map(|(one, other)| format!("({one}) or ({other})")),
        ]
    })
}

fn tiny_rule() -> impl Strategy<Value = String> {
    let kind = prop::sample::select(vec!["allow guest s.m", "allow guest s.n", "allow a s.n", "on guest s.m reply"]);
    let effects = vec![
        "f becomes one",
        "f becomes two",
        "f becomes three",
        "count c",
        "reset c",
        "start t",
        "g becomes open",
        "g becomes shut",
        "reset t",
    ];
    let when = prop_oneof![Just(String::new()), tiny_condition().prop_map(|when| format!(" when {when}"))];
    (kind, when, prop::sample::select(effects)).prop_map(|(kind, when, then)| format!("{kind}{when} then {then}"))
}

/// Visits every microsecond: whether what must never be is reached.
fn is_reached_step_by_step(policy: &Policy, object: u16, what: &NeverWhat) -> bool {
    let start = Walk { policy, what, remembered: Remembered::default(), times: at(OLD), came: false };
    let mut messages = Vec::new();
    for subject in [0, 2] {
        for words in [[0], [1]] {
            messages.extend([(subject, 0, Event::Request, words.to_vec()), (subject, 0, Event::Reply, words.to_vec())]);
        }
        messages.push((subject, 1, Event::Request, Vec::new()));
    }
    let mut seen = BTreeSet::from([(start.remembered.clone(), false)]);
    let mut waiting = vec![(start.remembered, false)];
    while let Some((remembered, came)) = waiting.pop() {
        if matches!(what, NeverWhat::State(condition) if is_so(policy, &remembered, at(OLD), condition)) {
            return true;
        }
        let mut later = remembered.clone();
        later.0.values_mut().for_each(|memory| {
            if let Memory::Flow(_, Some(time), _) | Memory::Timer(Some(time)) = memory {
                *time = time.saturating_sub(1);
            }
        });
        let mut next = vec![(later, came)];
        for (subject, method, event, words) in &messages {
            let mut walk = Walk { policy, what, remembered: remembered.clone(), times: at(OLD), came };
            if walk.breaks(&Message { subject: *subject, object, method: *method, event: *event, words }) {
                return true;
            }
            next.push((walk.remembered, walk.came));
        }
        waiting.extend(next.into_iter().filter(|state| seen.insert(state.clone())));
    }
    false
}

fn at(microseconds: u64) -> Times {
    Times { microseconds: Some(microseconds), local_seconds: None }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, max_global_rejects: 100_000, ..ProptestConfig::default() })]

    /// The search finds a way exactly where visiting every microsecond does, and the way that it finds leads there.
    #[test]
    fn ages_are_followed_as_visiting_every_microsecond_does(
        rules in prop::collection::vec(tiny_rule(), 2..6),
        deny in prop::option::of(tiny_condition()),
        condition in tiny_condition(),
        is_call in any::<bool>(),
    ) {
        let deny = deny.map_or(String::new(), |when| format!("deny guest s.m when {when}\n"));
        let never = if is_call { format!("guest s.m when {condition}") } else { format!("when {condition}") };
        let text = format!("{TINY}{}\n{deny}never {never}\n", rules.join("\n"));
        let Ok(compiled) = build(&text) else { return Err(TestCaseError::reject("rules that quarrel")) };
        let (policy, object) = (&compiled.policy, compiled.object("s").unwrap());
        let what = &policy.nevers[0].what;
        let is_reached = is_reached_step_by_step(policy, object, what);
        match search(policy, what) {
            Found::Nowhere(_) => prop_assert!(!is_reached, "{}", text),
            Found::Unknown(why) => prop_assert!(false, "{} {}", text, why),
            Found::Ways(ways) => {
                prop_assert!(is_reached, "{} {:?}", text, ways);
                for way in ways {
                    let mut walk = Walk { policy, what, remembered: Remembered::default(), times: at(0), came: false };
                    prop_assert!(walk.goes(&way), "{} {:?}", text, way);
                }
            }
        }
    }
}
