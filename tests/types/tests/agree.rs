//! The types that interfaces become say what the policy's compiler says, and take what the monitor takes.
#![expect(clippy::unwrap_used, reason = "a test ends where its set-up fails")]

use std::fs;
use std::path::Path;

use bulkhead_lang::{Compiled, compile_folder};
use bulkhead_model::{Phase, Policy, Reason, Values};
use bulkhead_monitor::{Call, Clock, decide};
use bulkhead_test_types::gateway::{self, Access as Rights};
use bulkhead_test_types::shapes::{
    Access, MaybePointReply, MaybePointRequest, MaybeReply, MaybeRequest, Mode, NamedReply, NamedRequest, NestedReply,
    NestedRequest, NumbersOfReply, NumbersOfRequest, NumbersReply, NumbersRequest, Pair, Point, PointsReply,
    PointsRequest, RawReply, RawRequest, TypeReply, TypeRequest, UnlockRequest, WordsReply, WordsRequest,
};
use bulkhead_types::{Bytes, List, Malformed, Text, Value};
use proptest::prelude::*;

struct NoClock;

impl Clock for NoClock {
    fn microseconds(&self) -> Option<u64> {
        None
    }

    fn local_seconds(&self) -> Option<u64> {
        None
    }
}

fn shapes() -> Compiled {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("shapes.policy")).unwrap();
    let compiled = bulkhead_lang::compile(&mut |_| Ok(text.clone()), "site.policy");
    compiled
        .map_err(|report| {
            report.findings.iter().map(|finding| finding.render(&report.sources).to_string()).collect::<String>()
        })
        .unwrap()
}

/// Whether the monitor finds that these words fit a method's message.
fn fits(compiled: &Compiled, method: u16, phase: Phase, words: &[u64; 6]) -> bool {
    let object = compiled.object("shapes").unwrap();
    let policy = Policy::verify(&compiled.table).unwrap();
    let method_row = policy.method(policy.object(object).unwrap(), method).unwrap().1;
    let len = u8::try_from(policy.fields(method_row, phase == Phase::Reply).len()).unwrap();
    let call = Call { subject: 0, object, method, phase, len, args: words };
    decide(&policy, &mut [], &NoClock, &call).reason != Reason::Malformed
}

/// What the monitor takes is decoded, and encoded again to the same words; what it refuses as malformed is malformed.
fn agree<T: Value>(compiled: &Compiled, method: u16, phase: Phase, mut words: [u64; 6]) {
    words.iter_mut().skip(T::WIDTH).for_each(|word| *word = 0);
    let decoded = T::decode(&words);
    assert_eq!(decoded.is_ok(), fits(compiled, method, phase, &words), "method {method} {phase:?} {words:x?}");
    if let Ok(value) = decoded {
        assert_eq!(value.encode(), Ok(words));
    }
}

/// Words near what fields hold: small ones of both signs, pieces of text, and any.
fn word() -> impl Strategy<Value = u64> {
    prop_oneof![
        6 => 0_u64..4,
        2 => (-12_i64..12).prop_map(i64::cast_unsigned),
        1 => prop::sample::select(vec![0xff_u64, 0x100, 999, 1000, 1001, 3999, 4001, 6000, 6001, 0x7fff_ffff, 0x8000_0000]),
        2 => prop::sample::select(vec![0x61 << 56, 0x6162 << 48, 0x61_6263 << 40, 0x6162_6364 << 32, 0x6162_6364_6566_6768]),
        1 => any::<u64>(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn types_take_exactly_what_the_monitor_takes(words in prop::array::uniform6(word())) {
        thread_local!(static SHAPES: Compiled = shapes());
        SHAPES.with(|shapes| {
            use bulkhead_test_types::shapes::method;
            // The monitor does not ask whether a text is UTF-8: of what is none it takes more.
            let is_ascii = words.iter().all(|word| word.to_be_bytes().is_ascii());
            agree::<NumbersRequest>(shapes, method::NUMBERS, Phase::Request, words);
            agree::<NumbersReply>(shapes, method::NUMBERS, Phase::Reply, words);
            agree::<WordsRequest>(shapes, method::WORDS, Phase::Request, words);
            agree::<WordsReply>(shapes, method::WORDS, Phase::Reply, words);
            agree::<MaybeRequest>(shapes, method::MAYBE, Phase::Request, words);
            agree::<MaybeReply>(shapes, method::MAYBE, Phase::Reply, words);
            agree::<MaybePointRequest>(shapes, method::MAYBE_POINT, Phase::Request, words);
            agree::<MaybePointReply>(shapes, method::MAYBE_POINT, Phase::Reply, words);
            agree::<NumbersOfRequest>(shapes, method::NUMBERS_OF, Phase::Request, words);
            agree::<NumbersOfReply>(shapes, method::NUMBERS_OF, Phase::Reply, words);
            agree::<PointsRequest>(shapes, method::POINTS, Phase::Request, words);
            agree::<PointsReply>(shapes, method::POINTS, Phase::Reply, words);
            agree::<RawRequest>(shapes, method::RAW, Phase::Request, words);
            agree::<RawReply>(shapes, method::RAW, Phase::Reply, words);
            agree::<NestedRequest>(shapes, method::NESTED, Phase::Request, words);
            agree::<NestedReply>(shapes, method::NESTED, Phase::Reply, words);
            agree::<UnlockRequest>(shapes, method::UNLOCK, Phase::Request, words);
            agree::<TypeRequest>(shapes, method::TYPE, Phase::Request, words);
            agree::<TypeReply>(shapes, method::TYPE, Phase::Reply, words);
            agree::<()>(shapes, method::NOTHING, Phase::Request, words);
            if is_ascii {
                agree::<NamedRequest>(shapes, method::NAMED, Phase::Request, words);
                agree::<NamedReply>(shapes, method::NAMED, Phase::Reply, words);
            }
        });
    }

    #[test]
    fn numbers_come_back_and_what_is_outside_its_range_is_not_sent(
        (a, b, c, d, e, f) in (any::<u8>(), -9_i8..14, any::<u64>(), any::<i64>(), 0_u16..7000, 5_u32..12),
    ) {
        let request = NumbersRequest { a, b, c, d, e, f };
        let is_in_range = (-5..=9).contains(&b) && e <= 6000 && (7..=9).contains(&f);
        prop_assert_eq!(request.encode().is_ok(), is_in_range);
        if let Ok(words) = request.encode() {
            prop_assert_eq!(NumbersRequest::decode(&words), Ok(request));
        }
    }

    #[test]
    fn texts_lists_and_optional_values_come_back(
        tag in "\\PC{0,4}", other in "[a-z]{0,8}", values in prop::collection::vec(-9_i16..10, 0..6),
        points in prop::collection::vec((-1000_i16..=1000, any::<i8>()), 0..3), frame in prop::collection::vec(any::<u8>(), 0..13),
        maybe in prop::option::of(2_u16..=4000),
    ) {
        // A character has at most four bytes: some texts are too long, and are refused before they are sent.
        let Ok(tag) = Text::new(&tag) else { return Ok(()) };
        let named = NamedRequest { tag, other: Text::new(&other).unwrap() };
        prop_assert_eq!(NamedRequest::decode(&named.encode().unwrap()), Ok(named));
        let numbers = NumbersOfRequest { values: List::new(&values).unwrap() };
        prop_assert_eq!(NumbersOfRequest::decode(&numbers.encode().unwrap()), Ok(numbers));
        let points: Vec<Point> = points.into_iter().map(|(x, y)| Point { x, y }).collect();
        let points = PointsRequest { values: List::new(&points).unwrap() };
        prop_assert_eq!(PointsRequest::decode(&points.encode().unwrap()), Ok(points));
        let raw = RawRequest { frame: Bytes::new(&frame).unwrap() };
        prop_assert_eq!(RawRequest::decode(&raw.encode().unwrap()), Ok(raw));
        let maybe = MaybeRequest { value: maybe, mode: Some(Mode::Manual) };
        prop_assert_eq!(MaybeRequest::decode(&maybe.encode().unwrap()), Ok(maybe));
    }
}

/// The words that the policy's compiler makes of a call, or of a reply, as a person writes it.
fn written(compiled: &Compiled, call: &str) -> [u64; 6] {
    let mut words = [0; 6];
    let written = compiled.call(call).unwrap().words;
    words.iter_mut().zip(written).for_each(|(slot, word)| *slot = word);
    words
}

/// A call as the audit app writes it.
fn recorded(compiled: &Compiled, call: &str, redacted: u8) -> String {
    let policy = Policy::verify(&compiled.table).unwrap();
    let call = compiled.call(call).unwrap();
    let method = policy.method(policy.object(call.object).unwrap(), call.method).unwrap().1;
    let fields = policy.fields(method, false);
    let policy = &policy;
    format!("{}", Values { policy, fields, words: &call.words, redacted, is_plain: false })
}

#[test]
fn records_are_written_as_the_tools_write_calls() {
    let compiled = shapes();
    for call in [
        "numbers(1, -5, 77, -9, 47.11 Hz, 9)",
        "words(auto, manual, true, local | service)",
        "words(off, auto, false, 0)",
        "maybe(none, manual)",
        "maybe_point({-1000, -1})",
        "numbers_of([-9, 9])",
        "numbers_of([])",
        "points([{1, 2}, {3, -4}])",
        "named(\"a b\", \"\")",
        "raw(\"0103ff\")",
        "nested({{-1, 2}, auto})",
        "nothing()",
    ] {
        let call = format!("guest -> shapes.{call}");
        let shown = compiled.show(&compiled.call(&call).unwrap());
        let (_, values) = shown.split_once('(').unwrap();
        assert_eq!(format!("{})", recorded(&compiled, &call, 0)), values);
    }
    assert_eq!(recorded(&compiled, "guest -> shapes.unlock(7, 3)", 1), "code: (secret), who: 3");
    assert_eq!(recorded(&compiled, "guest -> shapes.named(\"ab\", \"c\")", 0b11), "tag: (not recorded), other: \"c\"");
}

#[test]
fn words_that_fit_no_field_are_written_as_numbers() {
    let compiled = shapes();
    let policy = Policy::verify(&compiled.table).unwrap();
    let object = policy.object(compiled.object("shapes").unwrap()).unwrap();
    let shown = |method, words: &[u64]| {
        let fields = policy.fields(policy.method(object, method).unwrap().1, false);
        Values { policy: &policy, fields, words, redacted: 0, is_plain: false }.to_string()
    };
    use bulkhead_test_types::shapes::method;
    assert_eq!(shown(method::WORDS, &[9, 1, 2, 8]), "mode: 9, some: manual, on: 2, access: 8");
    assert_eq!(shown(method::NAMED, &[99, 0, 0]), "tag: 99");
    assert_eq!(shown(method::NUMBERS_OF, &[77]), "values: 77");
    assert_eq!(shown(method::NOTHING, &[1, 0x1_0000]), "?: 1, ?: 0x10000");
    assert_eq!(shown(method::NESTED, &[1]), "pair: {{1, 0}, off}");
}

#[test]
fn values_travel_as_the_compiler_writes_them() {
    let all = shapes();
    let point = Point { x: -1000, y: -1 };
    let says = |call: &str| Ok(written(&all, &format!("guest -> shapes.{call}")));
    let numbers = NumbersRequest { a: 1, b: -5, c: u64::MAX, d: i64::MIN, e: 4711, f: 9 };
    assert_eq!(numbers.encode(), says("numbers(1, -5, 18446744073709551615, -9223372036854775808, 47.11 Hz, 9)"));
    let words =
        WordsRequest { mode: Mode::Auto, some: Mode::Manual, on: true, access: Access::LOCAL | Access::SERVICE };
    assert_eq!(words.encode(), says("words(auto, manual, true, local | service)"));
    assert_eq!(MaybeRequest { value: None, mode: Some(Mode::Manual) }.encode(), says("maybe(none, manual)"));
    assert_eq!(MaybePointRequest { value: Some(point) }.encode(), says("maybe_point({-1000, -1})"));
    assert_eq!(NumbersOfRequest { values: List::new(&[-9, 9]).unwrap() }.encode(), says("numbers_of([-9, 9])"));
    assert_eq!(PointsRequest { values: List::new(&[point]).unwrap() }.encode(), says("points([{-1000, -1}])"));
    let named = NamedRequest { tag: Text::new("P01.speed.é").unwrap(), other: Text::default() };
    assert_eq!(named.encode(), says("named(\"P01.speed.é\", \"\")"));
    assert_eq!(RawRequest { frame: Bytes::new(&[1, 3, 0xff]).unwrap() }.encode(), says("raw(\"0103ff\")"));
    assert_eq!(NestedRequest { pair: Pair { point, mode: Mode::Auto } }.encode(), says("nested({{-1000, -1}, auto})"));
    assert_eq!(MaybeReply { value: Some(-2) }.encode(), says("maybe reply (-2)"));
}

#[test]
fn an_example_travels_as_its_tests_write_it() {
    let site =
        compile_folder(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policy/examples/messages"), None).unwrap();
    let says = |call: &str| Ok(written(&site, &format!("guest -> plc.{call}")));
    let write = gateway::WriteRequest { tag: Text::new("P01.speed").unwrap(), value: Some(3000) };
    assert_eq!(write.encode(), says("write(\"P01.speed\", 3000)"));
    let login = gateway::LoginRequest { who: Text::new("operator").unwrap(), access: Rights::REMOTE | Rights::LOCAL };
    assert_eq!(login.encode(), says("login(\"operator\", remote | local)"));
    assert_eq!(gateway::MoveToRequest { target: gateway::Point { x: 1001, y: 0 } }.encode(), Err(Malformed));
}

#[test]
fn words_that_are_no_value_are_malformed() {
    for words in [[3, 1, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0], [0, 1, 2, 0, 0, 0], [0, 1, 1, 8, 0, 0]] {
        assert_eq!(WordsRequest::decode(&words), Err(Malformed), "{words:?}");
    }
    assert!(WordsRequest::decode(&[0, 1, 1, 7, 0, 0]).is_ok());
    assert_eq!(MaybeRequest::decode(&[0, 2, 0, 0, 0, 0]), Err(Malformed), "what is not there is zero");
    assert_eq!(NumbersOfRequest::decode(&[6, 1, 1, 1, 1, 1]), Err(Malformed), "too long a list");
}

#[test]
fn a_secret_is_not_printed() {
    let shown = format!("{:?}", UnlockRequest { code: 4711, who: 3 });
    assert_eq!(shown, "UnlockRequest { code: (secret), who: 3 }");
}

#[test]
fn the_policy_tells_errors_apart_by_name() {
    let compiled = shapes();
    assert!(compiled.call("guest -> shapes.numbers error (not_found)").is_ok());
    assert!(
        compiled.call("guest -> shapes.numbers error (not_fond)").unwrap_err().contains("did you mean `not_found`")
    );
    let call = compiled.call("guest -> shapes.numbers error (full)").unwrap();
    assert_eq!(call.words, [bulkhead_test_types::shapes::Error::Full.code()]);
    assert_eq!(compiled.show(&call), "guest -> shapes.numbers error(error: full)");
}
