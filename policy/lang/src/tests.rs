//! The language as its users meet it: what compiles, what is refused and with which words, and that the monitor and the
//! interpreter agree.

use std::collections::{BTreeMap, VecDeque};

use bulkhead_model::{MAX_ARGS, NO_RULE, Policy, Reason, method, object};
use bulkhead_monitor::{Call, Clock, decide, redacted};
use proptest::prelude::*;

use crate::interpret::{Memory, Message, Remembered, Times, Verdict};
use crate::policy::StateKind;
use crate::tree::Event;
use crate::{Compiled, compile};

mod agreement;
mod state;

const NO: Reason = Reason::NoRule;
const YES: Reason = Reason::Allowed;

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

pub(crate) fn build(text: &str) -> Result<Compiled, String> {
    let mut load = |name: &str| if name == "site.policy" { Ok(text.to_string()) } else { Err("not found".to_string()) };
    compile(&mut load, "site.policy").map_err(|report| {
        report.findings.iter().map(|finding| finding.render(&report.sources).to_string()).collect::<String>()
    })
}

impl Clock for Times {
    fn microseconds(&self) -> Option<u64> {
        self.microseconds
    }

    fn local_seconds(&self) -> Option<u64> {
        self.local_seconds
    }
}

/// Monitor and interpreter side by side: each question is put to both, and both must say and remember the same.
pub(crate) struct Both<'a> {
    compiled: &'a Compiled,
    pub(crate) table: Policy<'a>,
    words: Vec<u64>,
    remembered: Remembered,
    pub(crate) times: Times,
}

impl<'a> Both<'a> {
    pub(crate) fn new(compiled: &'a Compiled) -> Self {
        let table = Policy::verify(&compiled.table).unwrap();
        let words = vec![0; table.state_words()];
        let times = Times { microseconds: Some(1_000_000), local_seconds: Some(3 * 86_400) };
        Self { compiled, table, words, remembered: Remembered::default(), times }
    }

    fn wait(&mut self, microseconds: u64) {
        self.times.microseconds = self.times.microseconds.map(|now| now + microseconds);
    }

    pub(crate) fn tell(&mut self, event: Event, subject: &str, target: &str, arguments: &[i128]) -> Verdict {
        let (object, method) = target.split_once('.').unwrap();
        let (subject, object) = (self.compiled.subject(subject).unwrap(), self.compiled.object(object).unwrap());
        let methods = &self.compiled.policy.objects[usize::from(object)].methods;
        let method = u16::try_from(methods.iter().position(|known| known.name == method).unwrap()).unwrap();
        let mut args = [0; MAX_ARGS];
        let words: Vec<u64> = arguments.iter().map(|&value| bulkhead_model::build::word(value)).collect();
        args[..words.len()].copy_from_slice(&words);
        let len = u8::try_from(words.len()).unwrap();
        let phase = self.compiled.policy.phase(object, method, event);
        let call = Call { subject, object, method, phase, len, args: &args };
        let by_table = decide(&self.table, &mut self.words, &self.times, &call);
        let message = Message { subject, object, method, event, words: &words };
        let by_tree = self.remembered.decide(&self.compiled.policy, self.times, &message);
        let rule = by_tree.rule.map_or(NO_RULE, |rule| u32::try_from(rule).unwrap());
        assert_eq!((by_table.reason, by_table.rule), (by_tree.reason, rule), "monitor and interpreter");
        assert_eq!(by_table.audit, by_tree.audit, "recorded");
        assert_eq!(redacted(&self.table, &call, by_table.rule), self.left_out(&message, by_tree.rule), "arguments");
        self.same_state();
        by_tree
    }

    /// The words of a message that are not recorded.
    fn left_out(&self, message: &Message<'_>, rule: Option<usize>) -> u8 {
        let policy = &self.compiled.policy;
        let &Message { subject, object, method, event, .. } = message;
        let secrets = policy.fields(object, method, event).iter().zip(0..);
        let secrets = secrets.fold(0, |bits, (field, bit)| bits | u8::from(field.is_secret) << bit);
        let rule = rule.map(|rule| &policy.rules[rule]);
        let mut bodies = rule.into_iter().flat_map(|rule| rule.bodies_for(subject, object, method, event));
        let recording = bodies.next().and_then(|body| body.recording.as_ref());
        secrets | recording.map_or(0, |recording| recording.left_out)
    }

    pub(crate) fn ask(&mut self, subject: &str, target: &str, arguments: &[i128]) -> (Reason, Option<u32>) {
        let verdict = self.tell(Event::Request, subject, target, arguments);
        let rule = verdict.rule.and_then(|rule| self.table.rule_place(u16::try_from(rule).unwrap()));
        (verdict.reason, rule.map(|(_, line)| line))
    }

    /// Every instance that the tree remembers stands in the table's words as it should, and nothing else does.
    fn same_state(&self) {
        let policy = &self.compiled.policy;
        let mut base = 0;
        for (number, state) in policy.states.iter().enumerate() {
            let (number, width) = (u16::try_from(number).unwrap(), state.words() as usize);
            for instance in 0..usize::try_from(state.instances()).unwrap() {
                let mut rest = i128::try_from(instance).unwrap();
                let mut keys: Vec<i128> = Vec::new();
                for key in state.keys.iter().rev() {
                    let count = key.values.1 - key.values.0 + 1;
                    keys.insert(0, key.values.0 + rest % count);
                    rest /= count;
                }
                let words = &self.words[base..base + width];
                let memory = self.remembered.memory(policy, number, &keys).unwrap();
                let sorted = |memory| {
                    if let Memory::Set(mut all) = memory {
                        all.sort_unstable();
                        Memory::Set(all)
                    } else {
                        memory
                    }
                };
                assert_eq!(sorted(decoded(&state.kind, words)), sorted(memory), "{} {keys:?}", state.name);
                base += width;
            }
        }
    }
}

/// The words of an instance, read as `bulkhead_model::kind` lays them out.
fn decoded(kind: &StateKind, words: &[u64]) -> Memory {
    let long = |word: u64| i128::from(word.cast_signed());
    let time = |word: u64| word.checked_sub(1);
    match kind {
        StateKind::Counter { start, .. } => {
            Memory::Counter(long(words[0].wrapping_add(bulkhead_model::build::word(*start))))
        }
        StateKind::Flow { .. } => {
            let held =
                words[2..].iter().enumerate().map(|(at, &word)| (words[0] >> (8 + at) & 1 != 0).then(|| long(word)));
            Memory::Flow(words[0].to_le_bytes()[0], time(words[1]), held.collect())
        }
        StateKind::Timer => Memory::Timer(time(words[0])),
        StateKind::Rate { burst: 0, .. } => {
            let first = usize::try_from(words[0]).unwrap();
            let times = &words[1..];
            let in_order = times[first..].iter().chain(&times[..first]).filter_map(|&word| time(word));
            Memory::Window(in_order.collect::<VecDeque<u64>>())
        }
        StateKind::Rate { .. } => Memory::Bucket(words[0]),
        StateKind::Set(_) => {
            Memory::Set(words[1..=usize::try_from(words[0]).unwrap()].iter().map(|&word| long(word)).collect())
        }
        StateKind::Map(_) => {
            let half = |words: &[u64]| {
                let entries = words[1..=2 * usize::try_from(words[0]).unwrap()].chunks_exact(2);
                entries.map(|entry| (long(entry[0]), long(entry[1]))).collect::<BTreeMap<_, _>>()
            };
            let (counts, works) = words.split_at(words.len() / 2);
            Memory::Map(half(counts), half(works))
        }
    }
}

pub(crate) fn ask(compiled: &Compiled, subject: &str, target: &str, arguments: &[i128]) -> (Reason, Option<u32>) {
    Both::new(compiled).ask(subject, target, arguments)
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
    assert_eq!(ask(&site, "guest", "plant.trim", &[-10, 7]).0, Reason::Allowed);
    assert_eq!(ask(&site, "guest", "plant.trim", &[-11, 7]).0, Reason::NoRule);
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
        ("mode != automatic", "mode != auto", "no value called `automatic`", "known: off, manual, auto"),
        ("rpm in 1000..4000", "rpm in 1000..1010", "`rpm` is never 4000", "its values are 0..3000"),
        ("edition 9", "edition 1", "edition 9 is newer than this tool, which knows 1", "take a newer tool"),
        ("edition 0", "edition 1", "edition 0 is not known", "edition 1"),
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
    let set = |count: i32| (0..count).map(|n| (n * 2).to_string()).collect::<Vec<_>>().join(", ");
    let text = |count: i32| format!("{SITE}\nallow hmi plant.set when rpm in {{ {} }}", set(count));
    assert!(build(&text(100)).is_ok());
    assert!(build(&text(300)).err().unwrap().contains("too long for the monitor"));
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
    let own = [
        ("psci", object::PSCI),
        ("sysreg", object::SYSREG),
        ("mmio", object::MMIO),
        ("task", object::TASK),
        ("life", object::LIFE),
        ("time", object::TIME),
    ];
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
    assert_eq!(number(object::LIFE, "guest_start"), Some(method::GUEST_START));
    assert_eq!(number(object::LIFE, "boot"), Some(method::BOOT));
    assert_eq!(number(object::LIFE, "policy_swap"), Some(method::POLICY_SWAP));
    assert_eq!(number(object::TIME, "set"), Some(method::SET_TIME));
}

#[test]
fn capabilities_are_what_rules_reach() {
    let site = build(SITE).unwrap();
    let plant = site.object("plant").unwrap();
    assert_eq!(site.reach(site.subject("hmi").unwrap()).iter().map(|reach| reach.object).collect::<Vec<_>>(), [plant]);
    assert!(site.reach(site.subject("plant").unwrap()).is_empty());
}

const TABLE: &str = "edition 1\npolicy t\ninterface I {\n method write(register: u16, value: u16 in 0..5000) -> ()\n}\napp x\nservice s: I by x\n\
    registers drive via s.write(register, value) {\n speed 1 in 0.00..50.00 step 0.01 unit Hz\n ramp 2..3 in 5..600\n}\n\
    allow guest drive.speed when value above 10 Hz\nallow guest drive.ramp\n";

#[test]
fn a_register_has_its_own_range_and_unit_and_its_neighbours_are_refused() {
    let compiled = build(TABLE).unwrap();
    let mut both = Both::new(&compiled);
    for (register, value, wanted) in [
        (1, 1001, YES),
        (1, 1000, NO),
        (1, 5000, YES),
        (2, 5, YES),
        (3, 600, YES),
        (3, 601, NO),
        (2, 4, NO),
        (4, 5, NO),
        (0, 1001, NO),
    ] {
        assert_eq!(both.ask("guest", "s.write", &[register, value]).0, wanted, "{register} {value}");
    }
    for (wrong, right, message) in [
        ("drive.sped", "drive.speed when", "did you mean `speed`?"),
        ("s.write(registr, value)", "s.write(register, value)", "did you mean `register`?"),
        ("in 0.00..50.01", "in 0.00..50.00", "its values are 0.00 Hz..50.00 Hz"),
        ("ramp 2..70000", "ramp 2..3", "`register` is never 70000"),
        ("speed 2", "ramp 2", "declared twice"),
    ] {
        let text = build(&TABLE.replacen(right.trim_end_matches(" when"), wrong, 1)).err();
        assert!(text.as_ref().is_some_and(|text| text.contains(message)), "{wrong}: {text:?}");
    }
}

#[test]
fn a_table_may_come_from_a_file_and_its_mistakes_name_the_files_line() {
    let with = |csv: &str| {
        let (from, to) = (TABLE.find(" {\n speed").unwrap(), TABLE.find("allow guest drive.speed").unwrap());
        let main = format!("{} from \"drive.csv\"\n{}", &TABLE[..from], &TABLE[to..]);
        let mut load = |name: &str| Ok(if name == "drive.csv" { csv.to_string() } else { main.clone() });
        compile(&mut load, "site.policy").map_err(|report| {
            report.findings.iter().map(|finding| finding.render(&report.sources).to_string()).collect::<String>()
        })
    };
    let good = "number, name ,low,high,step,unit\n1,speed,0.00,50.00,0.01,Hz\n2..3,ramp,5,600,,\n";
    let compiled = with(good).unwrap();
    assert_eq!(ask(&compiled, "guest", "s.write", &[1, 1001]).0, YES);
    assert_eq!(ask(&compiled, "guest", "s.write", &[3, 601]).0, NO);
    for (wrong, right, message) in [
        ("numer", "number", "there is no column `number`"),
        ("1,sp eed", "1,speed", "drive.csv:2:1"),
        ("x..y", "2..3", "drive.csv:3:1"),
        ("5,60000", "5,600", "never 60000"),
        ("\n1,speed,0,1,,\n2..3", "\n2..3", "declared twice"),
    ] {
        let text = with(&good.replacen(right, wrong, 1)).err();
        assert!(text.as_ref().is_some_and(|text| text.contains(message)), "{wrong}: {text:?}");
    }
}

#[test]
fn rules_that_change_more_at_once_than_the_monitor_gathers_are_refused() {
    let with = |count: usize, decision: &str| {
        let mut text = state::BAY.replace("register implies_not_zero", "register > 0");
        (0..count)
            .for_each(|n| text.push_str(&format!("counter c{n} in 0..9\n{decision} bay.ping reply then count c{n}\n")));
        build(&text)
    };
    assert!(with(8, "on guest").is_ok());
    assert!(with(9, "on guest").err().unwrap().contains("one call may make 9 changes by 9 rules"));
    let counters = |count: usize| (0..count).map(|n| format!("counter c{n} in 0..9\n")).collect::<String>();
    let counts = |count: usize| (0..count).map(|n| format!("count c{n}")).collect::<Vec<_>>().join(", ");
    let one = |count: usize| build(&format!("{SITE}{}allow hmi plant.set then {}\n", counters(count), counts(count)));
    assert!(one(16).is_ok());
    assert!(one(17).err().unwrap().contains("17 changes by 1 rules"));
}

#[test]
fn many_rules_of_one_method_are_found_by_an_index() {
    let mut text = SITE.replace("allow guest plant.set when", "allow hmi plant.level when false or");
    text = text.replace("allow hmi plant.level when false or rpm in slow and mode != auto audit", "");
    for n in 0..500 {
        text.push_str(&format!("allow guest plant.set when rpm in {}..{} and mode == manual\n", n * 5, n * 5 + 2));
        if n % 50 == 0 {
            text.push_str(&format!("deny guest plant.set when rpm in {}..{}\n", n * 5 + 1, n * 5 + 20));
        }
    }
    let compiled = build(&text).unwrap();
    assert!(compiled.worst.rules < 20, "{:?}", compiled.worst);
    let mut both = Both::new(&compiled);
    for rpm in 0..3000 {
        both.ask("guest", "plant.set", &[rpm, rpm % 3]);
    }
    both.ask("guest", "plant.trim", &[-30_000, 1]);
}

const GATEWAY: &str = "edition 1\npolicy g\ninterface G {\n method send() -> ()\n question write(unit: u8 in 1..4, value: u16)\n}\n\
    app g\napp h\nservice gw: G by g\ncounter writes in 0..2\ntimer up\non boot then start up\n\
    allow guest gw.* when age of up > 1 s\nallow guest gw.write when value <= 10 then count writes\nallow g gw.write\n";

#[test]
fn a_question_is_judged_with_its_fields_and_effects_and_is_no_call() {
    let compiled = build(GATEWAY).unwrap();
    let mut both = Both::new(&compiled);
    assert_eq!(both.ask("guest", "gw.send", &[]).0, Reason::Failed, "the wall has not started");
    assert_eq!(both.tell(Event::Reply, "kernel", "life.boot", &[]).reason, YES);
    both.wait(1_000_001);
    assert_eq!(both.ask("guest", "gw.send", &[]).0, YES);
    assert_eq!(both.ask("guest", "gw.write", &[1, 11]).0, NO, "`*` names calls");
    assert_eq!(both.ask("guest", "gw.write", &[5, 10]).0, Reason::Malformed);
    assert_eq!([both.ask("guest", "gw.write", &[1, 10]).0, both.ask("guest", "gw.write", &[1, 10]).0], [YES; 2]);
    assert_eq!(both.ask("guest", "gw.write", &[1, 10]).0, Reason::Failed, "each was counted");
    assert_eq!(both.ask("g", "gw.write", &[1, 5000]).0, YES);
    assert_eq!(both.tell(Event::Reply, "guest", "gw.write", &[]).reason, Reason::UnknownMethod);
    assert!(compiled.reach(compiled.subject("g").unwrap()).is_empty(), "a question needs no capability");
}

#[test]
fn mistakes_with_questions_events_and_zones_are_told_with_the_remedy() {
    for (wrong, right, message) in [
        ("allow h gw.write", "allow g gw.write", "asked by the app that serves it alone"),
        ("deny guest gw.write reply", "allow g gw.write", "a question, which has no reply"),
        (
            "question write(unit: u8) -> ()",
            "question write(unit: u8 in 1..4, value: u16)",
            "expected `method`, `question`",
        ),
        ("on policy then", "on boot then", "name the method too"),
        ("revision 1\nrevision 2\ntimer up", "timer up", "the revision is stated twice"),
        ("revision 18_446_744_073_709_551_616\ntimer up", "timer up", "at most 64 bits"),
        ("revision one\ntimer up", "timer up", "expected the revision"),
        ("on bot then", "on boot then", "name the method too"),
        ("zone UTC + 15 h\ntimer up", "timer up", "no zone is so far"),
        ("zone UTC + 1\ntimer up", "timer up", "this time has no unit"),
        ("zone UTC\nzone UTC - 3.5 h\ntimer up", "timer up", "the zone is stated twice"),
        ("zone CET\ntimer up", "timer up", "expected `UTC`"),
        ("day of week == 1", "value <= 10", "states no zone"),
    ] {
        assert!(GATEWAY.contains(right), "{right}");
        let text = build(&GATEWAY.replacen(right, wrong, 1)).err().unwrap_or_default();
        assert!(text.contains(message) && text.contains("site.policy:"), "{wrong}: {text}");
    }
    let zone = |text: &str| build(&GATEWAY.replacen("timer up", &format!("{text}\ntimer up"), 1)).unwrap().table;
    let seconds = |table: &[u8]| Policy::verify(table).unwrap().zone;
    assert_eq!(seconds(&zone("zone UTC - 3.5 h")), -12_600);
    assert_eq!(seconds(&zone("zone UTC + 2 h")), 7_200);
    let revision = |table: &[u8]| Policy::verify(table).unwrap().revision;
    assert_eq!(revision(&zone("revision 18_446_744_073_709_551_615")), u64::MAX);
    assert_eq!(revision(&zone("zone UTC")), 0, "none is stated");
}

#[test]
fn declared_errors_are_told_apart_by_their_words() {
    const STORE: &str = "edition 1\npolicy p\ninterface Store {\n errors { not_found, full }\n method get(key: u8) -> ()\n method put(key: u8) -> ()\n\
        method find(key: u8) -> () reads fails with not_found\n method size() -> () never fails\n}\n\
        interface Plain { method ping() -> () }\napp a\napp b\nservice store: Store by a\nservice plain: Plain by b\ncounter misses in 0..3\n\
        allow guest store.*, plain.ping\non guest store.get error when error == not_found then count misses\n\
        deny guest store.put error when error == full as no_full\n";
    let compiled = build(&format!("{STORE}deny guest store.put error when error > full as undeclared\n")).unwrap();
    let mut store = Both::new(&compiled);
    assert_eq!(store.ask("guest", "store.get", &[1]).0, YES);
    for (event, words, counted) in
        [(Event::Error, &[1][..], 1), (Event::Error, &[2], 1), (Event::Error, &[], 1), (Event::Error, &[1], 2)]
    {
        assert_eq!(store.tell(event, "guest", "store.get", words).reason, YES);
        assert_eq!(store.remembered.memory(&compiled.policy, 0, &[]), Some(Memory::Counter(counted)), "{words:?}");
    }
    for (words, wanted) in [(&[1][..], YES), (&[2], Reason::DeniedByRule), (&[77], Reason::DeniedByRule), (&[], YES)] {
        assert_eq!(store.tell(Event::Error, "guest", "store.put", words).reason, wanted, "{words:?}");
    }
    for (rules, message) in [
        ("deny guest store.put error when error == ful", "did you mean `full`"),
        ("deny guest plain.ping error when error == full", "there is no"),
        ("interface X { errors { a, a } method m() -> () }", "`a` is declared twice"),
        ("interface X { enum K { a, a } method m(k: K) -> () }", "`a` is declared twice"),
        ("interface X { errors { other } method m() -> () }", "no error can be called `other`"),
        ("interface X { errors { } method m() -> () }", "expected a word"),
        ("interface X { errors { bad } method m() -> () fails with bed }", "did you mean `bad`"),
        ("interface X { errors { bad } method m() -> () fails with bad, bad }", "`bad` is declared twice"),
        ("interface X { method m() -> () fails with bad }", "nothing of that kind is declared"),
        ("deny guest store.size error when error == full", "there is no"),
        ("deny guest store.find error when error == full", "known: other, not_found"),
    ] {
        let findings = build(&format!("{STORE}{rules}\n")).err().unwrap_or_default();
        assert!(findings.contains(message), "{rules}: {findings}");
    }
}
