//! The attack catalogue's H14: each method that a site's policy lets somebody call is denied, one by one, and each rule that allows
//! something is turned round and left out, one by one. The monitor judges calls at every edge that the rules have, on the compiled
//! table, before and after: what the change is about is refused, and of no other call does the verdict change. What `allow … use` gives
//! is no call: no rule denies a resource. Each call is judged from the start on, a Monday: policies of which nothing is allowed then are not
//! tried here.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use bulkhead_lang::interpret::{Message, Remembered, Times};
use bulkhead_lang::policy::{Body, Field, Rule, Step};
use bulkhead_lang::regions::{Place, extent};
use bulkhead_lang::tree::{Decision, Event};
use bulkhead_lang::{Arch, Compiled, MAIN, compile_for};
use bulkhead_model::build::word;
use bulkhead_model::{MAX_ARGS, NO_RULE, Reason};
use bulkhead_monitor::{Call, Clock, Verdict, decide};

/// The most values of one field that are tried, and the most calls of one place.
const VALUES: usize = 400;
const CALLS: usize = 60_000;

/// A policy's files as they are, or with a change.
struct Site {
    name: &'static str,
    arch: Option<Arch>,
    files: BTreeMap<String, String>,
}

impl Site {
    fn open(name: &'static str, arch: Option<Arch>) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(name);
        let mut files = BTreeMap::new();
        for inner in ["", "interfaces/"] {
            let Ok(entries) = fs::read_dir(folder.join(inner)) else { continue };
            for path in entries.map(|entry| entry.expect("an entry").path()).filter(|path| path.is_file()) {
                let file = path.file_name().expect("a name").to_string_lossy().into_owned();
                files.insert(format!("{inner}{file}"), fs::read_to_string(&path).unwrap_or_default());
            }
        }
        Self { name, arch, files }
    }

    fn compile(&self) -> Result<Compiled, String> {
        let mut load = |name: &str| self.files.get(name).cloned().ok_or_else(|| "not there".to_string());
        compile_for(&mut load, MAIN, self.arch).map_err(|report| {
            let errors = report.findings.iter().map(|finding| finding.render(&report.sources).to_string());
            errors.collect::<Vec<_>>().join("\n")
        })
    }

    /// The same site with the text of a piece of a file replaced.
    fn with(&self, file: &str, range: std::ops::Range<usize>, text: &str) -> Self {
        let mut files = self.files.clone();
        files.get_mut(file).expect("one of its files").replace_range(range, text);
        Self { files, ..*self }
    }

    fn with_line(&self, line: &str) -> Self {
        let end = self.files[MAIN].len();
        self.with(MAIN, end..end, &format!("\n{line}\n"))
    }
}

/// A Monday, ten in the morning, ten seconds after the start.
struct Monday;

impl Monday {
    const MICROSECONDS: u64 = 10_000_000;
    const SECONDS: u64 = 1_764_583_200;
}

impl Clock for Monday {
    fn microseconds(&self) -> Option<u64> {
        Some(Self::MICROSECONDS)
    }

    fn local_seconds(&self) -> Option<u64> {
        Some(Self::SECONDS)
    }
}

/// A call, its verdict, and the rules that speak for it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Judged {
    place: Place,
    words: Vec<u64>,
    verdict: Verdict,
    allowed_by: Vec<usize>,
}

/// The calls of a policy, to be judged each from the start on.
fn calls(compiled: &Compiled) -> Vec<(Place, Vec<u64>)> {
    let policy = &compiled.policy;
    let mut all = Vec::new();
    for (object, row) in (0_u16..).zip(&policy.objects) {
        for (method, signature) in (0_u16..).zip(&row.methods) {
            let about = |body: &&Body| (body.object, body.method) == (object, method);
            let bodies = policy.rules.iter().filter(|rule| rule.event == Event::Request).flat_map(|rule| &rule.bodies);
            let extents: Vec<_> = bodies
                .filter(about)
                .map(|body| (body.rates.is_empty(), extent(policy, body, Event::Request).expect("few ranges")))
                .collect();
            let cubes: Vec<_> = extents.iter().flat_map(|(_, extent)| &extent.region).collect();
            // Where more than ranges is asked for: bit by bit.
            let has_bits = extents.iter().any(|(is_free, extent)| *is_free && !extent.is_exact);
            let edges = |(at, field): (usize, &Field)| {
                let of_rules = cubes.iter().flat_map(|cube| [cube[at].0 - 1, cube[at].0, cube[at].1, cube[at].1 + 1]);
                let (low, high) = field.range;
                let bits = (0..64).map(|bit| 1 << bit).filter(|_| has_bits && high - low > 1 << 20);
                let edges: BTreeSet<i128> = of_rules
                    .chain([low - 1, low, high, high + 1])
                    .chain(bits)
                    .filter(|value| (i128::from(i64::MIN)..=i128::from(u64::MAX)).contains(value))
                    .collect();
                assert!(edges.len() <= VALUES, "{}.{}: {} values", row.name, signature.name, edges.len());
                edges
            };
            let mut messages: Vec<Vec<u64>> = vec![Vec::new()];
            for values in signature.arguments.iter().enumerate().map(edges) {
                let longer = |words: &Vec<u64>| {
                    values.iter().map(|&value| [&words[..], &[word(value)]].concat()).collect::<Vec<_>>()
                };
                messages = messages.iter().flat_map(longer).collect();
            }
            assert!(messages.len() <= CALLS, "{}.{}: {} calls", row.name, signature.name, messages.len());
            for (subject, _) in (0_u16..).zip(&policy.subjects) {
                all.extend(messages.iter().map(|words| ((subject, object, method), words.clone())));
            }
        }
    }
    // What the policy's own tests try.
    for (step, _) in policy.tests.iter().flat_map(|test| &test.steps) {
        let Step::Call(call) = step else { continue };
        if call.event == Event::Request {
            all.push(((call.subject, call.object, call.method), call.words.clone()));
        }
    }
    all
}

/// What the monitor says of each call, on the real table; and which rules speak for it, by the interpreter of the text.
fn judge(compiled: &Compiled, calls: &[(Place, Vec<u64>)]) -> Vec<Judged> {
    let table = bulkhead_model::Policy::verify(&compiled.table).expect("a sound table");
    let times = Times { microseconds: Some(Monday::MICROSECONDS), local_seconds: Some(Monday::SECONDS) };
    let mut state = vec![0; table.state_words()];
    calls
        .iter()
        .map(|(place, words)| {
            let &(subject, object, method) = place;
            let mut args = [0; MAX_ARGS];
            args.iter_mut().zip(words).for_each(|(slot, word)| *slot = *word);
            let phase = compiled.policy.phase(object, method, Event::Request);
            let len = u8::try_from(words.len()).expect("few words");
            let call = Call { subject, object, method, phase, len, args: &args };
            state.fill(0);
            let verdict = decide(&table, &mut state, &Monday, &call);
            let message = Message { subject, object, method, event: Event::Request, words };
            let by_tree = Remembered::default().decide(&compiled.policy, times, &message);
            let rule = by_tree.rule.map_or(NO_RULE, |rule| u32::try_from(rule).expect("few rules"));
            assert_eq!((verdict.reason, verdict.rule), (by_tree.reason, rule), "{message:?}");
            Judged { place: *place, words: words.clone(), verdict, allowed_by: by_tree.observed }
        })
        .collect()
}

/// What was turned round in a policy, and what came of it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    /// Calls that were judged each time.
    calls: usize,
    /// Of these, allowed by the policy as it is.
    allowed: usize,
    /// Who may call which method: so many were denied, one by one.
    places: usize,
    /// Rules that allow: so many were turned round, and left out, one by one.
    rules: usize,
    /// `allow … use`: so many were tried to be turned round.
    uses: usize,
}

struct Whole {
    site: Site,
    compiled: Compiled,
    before: Vec<Judged>,
    calls: Vec<(Place, Vec<u64>)>,
}

impl Whole {
    fn show(&self, judged: &Judged) -> String {
        let call = self.compiled.request(judged.place, &[]);
        self.compiled.show(&bulkhead_lang::policy::Call { words: judged.words.clone(), ..call })
    }

    /// A rule's file and piece.
    fn text_of(&self, rule: &Rule) -> (String, std::ops::Range<usize>) {
        let file = self.compiled.sources.0[rule.span.file].name.clone();
        (file, rule.span.start..rule.span.end)
    }

    /// Judges all calls by a changed site. Those that `is_meant` names were allowed and are now refused for `reason`; of the others no
    /// verdict is another; the rule that decides is the same too, by its new number. How many changed.
    fn after(
        &self,
        what: &str,
        changed: &Site,
        reason: Reason,
        renumbered: impl Fn(u32) -> u32,
        is_meant: impl Fn(&Judged) -> bool,
    ) -> usize {
        let compiled = changed.compile().unwrap_or_else(|why| panic!("{}, {what}: {why}", self.site.name));
        let after = judge(&compiled, &self.calls);
        let mut count = 0;
        for (before, after) in self.before.iter().zip(&after) {
            let told = || {
                format!("{}, {what}: {} {:?} -> {:?}", self.site.name, self.show(before), before.verdict, after.verdict)
            };
            let was_allowed = before.verdict.is_allowed();
            if was_allowed && is_meant(before) {
                assert!(after.verdict.reason == reason && after.verdict.audit, "{}", told());
                count += 1;
            } else if is_meant(before) {
                // It was refused before, and is: who says so may be another now.
                assert!(!after.verdict.is_allowed(), "{}", told());
            } else {
                let same = (after.verdict.reason, after.verdict.audit) == (before.verdict.reason, before.verdict.audit);
                assert!(same, "{}", told());
                // Of several rules that allow it, another may be told now.
                if before.allowed_by == after.allowed_by {
                    assert_eq!(after.verdict.rule, renumbered(before.verdict.rule), "{}", told());
                }
            }
        }
        count
    }
}

/// Without its rates, which only an allowing rule has.
fn without_rates(text: &str) -> String {
    const CLAUSES: [&str; 7] = ["when", "except", "audit", "as", "because", "then", "using"];
    let Some((first, rest)) = text.split_once(" at most ") else { return text.to_string() };
    let mut words = rest.split_inclusive(char::is_whitespace);
    let rest: String = words.by_ref().skip_while(|word| !CLAUSES.contains(&word.trim())).collect();
    without_rates(&format!("{first} {rest}"))
}

/// Denies each declared call by a line of its own; turns round each rule that allows; leaves each of them out.
fn flip(name: &'static str, arch: Option<Arch>) -> Counts {
    let site = Site::open(name, arch);
    let compiled = site.compile().unwrap_or_else(|why| panic!("{name}: {why}"));
    let calls = calls(&compiled);
    let before = judge(&compiled, &calls);
    let whole = Whole { site, compiled, before, calls };
    let allowed = || whole.before.iter().filter(|judged| judged.verdict.is_allowed());
    let mut counts = Counts { calls: whole.calls.len(), allowed: allowed().count(), ..Counts::default() };

    let places: BTreeSet<Place> = allowed().map(|judged| judged.place).collect();
    for &(subject, object, method) in &places {
        let policy = &whole.compiled.policy;
        let row = &policy.objects[usize::from(object)];
        let (who, what) = (&policy.subjects[usize::from(subject)], &row.methods[usize::from(method)].name);
        let line = format!("deny {who} {}.{what}", row.name);
        let changed = whole.site.with_line(&line);
        let is_meant = |judged: &Judged| judged.place == (subject, object, method);
        let count = whole.after(&line, &changed, Reason::DeniedByRule, |rule| rule, is_meant);
        assert!(count > 0, "{name}: {line}");
        counts.places += 1;
    }

    let rules = &whole.compiled.policy.rules;
    let mut reached: BTreeSet<Place> = BTreeSet::new();
    for (number, rule) in rules.iter().enumerate() {
        if rule.decision != Decision::Allow {
            continue;
        }
        let (file, range) = whole.text_of(rule);
        let text = whole.site.files[&file][range.clone()].to_string();
        assert!(rule.event == Event::Request && text.starts_with("allow "), "{name}: {text}");
        let denying = without_rates(&text.replacen("allow", "deny", 1));
        let speaks = |judged: &Judged| judged.allowed_by.contains(&number);
        let changed = whole.site.with(&file, range.clone(), &denying);
        let count = whole.after(&denying, &changed, Reason::DeniedByRule, |rule| rule, speaks);
        assert!(count > 0, "{name}: no call shows that this rule allows anything: {text}");
        // Each method that it names, for each whom it names, is among the calls that it allows.
        for body in &rule.bodies {
            for &subject in &rule.subjects {
                let place = (subject, body.object, body.method);
                reached.extend(allowed().any(|judged| judged.place == place && speaks(judged)).then_some(place));
                assert!(reached.contains(&place), "{name}: {place:?} of {text}");
            }
        }
        counts.rules += 1;

        let mut changed = whole.site.with(&file, range, "");
        if let Some(name) = &rule.name {
            // The policy's own tests name it.
            changed
                .files
                .values_mut()
                .for_each(|text| *text = text.replace(&format!(" allowed by {name}"), " allowed"));
        }
        let alone = |judged: &Judged| judged.allowed_by == [number];
        let at = u32::try_from(number).expect("few rules");
        let renumbered = |rule: u32| if rule != NO_RULE && rule > at { rule - 1 } else { rule };
        let count = whole.after(&format!("without {text}"), &changed, Reason::NoRule, renumbered, alone);
        assert!(count > 0, "{name}: another rule allows all that this one does: {text}");
    }
    assert_eq!(reached, places, "{name}: what rules allow is what was denied one by one");

    // Counted once more by the text alone.
    let (mut uses, mut others) = (Vec::new(), 0);
    for source in whole.compiled.sources.0.iter().filter(|source| whole.site.files.contains_key(&source.name)) {
        for line in source.text.lines().filter(|line| line.starts_with("allow ")) {
            if line.contains(" use ") { uses.push((&source.name, line)) } else { others += 1 }
        }
    }
    assert_eq!(counts.rules, others, "{name}: every rule that allows");
    for &(file, line) in &uses {
        let at = whole.site.files[file].find(line).expect("it is from there");
        let changed = whole.site.with(file, at..at + "allow".len(), "deny");
        let why = changed.compile().expect_err("no rule denies a resource");
        assert!(why.contains("a resource is given to the guest or to an app for good, or not at all"), "{why}");
    }
    Counts { uses: uses.len(), ..counts }
}

#[test]
fn each_call_and_each_rule_of_the_demonstration_is_denied_by_itself() {
    let on_a_pc = flip("policy/sites/demo", Some(Arch::X86_64));
    assert_eq!((on_a_pc.places, on_a_pc.rules, on_a_pc.uses), (20, 22, 6));
    assert!(on_a_pc.calls > 60_000 && on_a_pc.allowed > 400, "{on_a_pc:?}");
    let on_arm = flip("policy/sites/demo", Some(Arch::Aarch64));
    assert_eq!((on_arm.places, on_arm.rules, on_arm.uses), (20, 12, 2));
    assert!(on_arm.calls > 4_000 && on_arm.allowed > 60, "{on_arm:?}");
}

#[test]
fn each_call_and_each_rule_of_other_sites_and_examples_is_denied_by_itself() {
    for (name, arch, places, rules) in [
        ("policy/sites/minimal", Some(Arch::X86_64), 7, 12),
        ("policy/sites/minimal", Some(Arch::Aarch64), 8, 3),
        ("tests/sites/serial", Some(Arch::X86_64), 22, 24),
        ("tests/sites/ports", Some(Arch::X86_64), 31, 7),
        ("tests/sites/faulty", Some(Arch::Aarch64), 17, 3),
        ("policy/examples/arm", None, 10, 9),
        ("policy/examples/drive", None, 3, 4),
        ("policy/examples/hours", None, 3, 3),
        ("policy/examples/machine", None, 9, 11),
        ("policy/examples/one-way", None, 4, 4),
        ("policy/examples/registers", None, 3, 6),
    ] {
        let counts = flip(name, arch);
        assert_eq!((counts.places, counts.rules), (places, rules), "{name} {counts:?}");
    }
}
