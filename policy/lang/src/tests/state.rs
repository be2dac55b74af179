//! What is remembered: flows, counters, rates, sets, maps, grants; and clocks.

use super::*;

/// A switchgear bay: what is remembered, in every kind that there is.
pub(super) const BAY: &str = r#"
edition 1
policy bay
interface Bay {
    enum Place { local, remote }
    method select(unit: u8 in 1..4, value: i16) -> ()
    method operate(unit: u8 in 1..4, value: i16) -> ()
    method cancel(unit: u8 in 1..4) -> ()
    method login(code: u16) -> (ok: bool)
    method write(register: u16, value: u16) -> ()
    method speed(speed: u16 in 0.00..60.00 step 0.01 unit Hz) -> ()
    method learn(register: u16, high: u16) -> ()
    method keep() -> ()
    method drop() -> ()
    method open_door(place: Place) -> ()
    method ping() -> (delay: u16)
}
app bay
app hmi
app plc
service bay: Bay by bay
group operators: guest, hmi
let ready_after = 2

flow breaker per unit in 1..4 {
    idle -> selected
    selected -> idle, operated
    operated -> idle
    selected holds value
    selected lasts 30 s -> idle
}
counter failures per caller in 0..3
timer seen per unit in 1..4
rate writes at most 3 per 10 s
rate bursts per caller at most 60 per min burst 2
set known max 3
map limits max 2
grant maintenance per caller lasts 1 min

allow operators bay.select then breaker(unit) becomes selected(value)
allow operators bay.operate
    when breaker(unit) is selected and breaker(unit).value == value
    except age of breaker(unit) < 1 s
    then breaker(unit) becomes operated, start seen(unit)
allow operators bay.cancel when breaker(unit) is not idle then breaker(unit) becomes idle
deny operators bay.cancel when age of seen(unit) below 2 s as just_operated because "let the contacts rest"
allow guest bay.login when failures < 3
deny hmi bay.login when code != 1234 then count failures
allow hmi bay.login when code == 1234 then reset failures, give maintenance
on guest bay.login reply when not ok then count failures
deny guest bay.ping reply when delay above 900
allow guest bay.write when register * 2 + value / (register - 5) < 1000 within writes
allow hmi bay.write when register in known at most 2 per s
allow hmi bay.open_door when place == local using maintenance
allow guest bay.speed when speed between 10.00 Hz and 50.00 Hz within bursts
allow guest bay.learn when register implies_not_zero then put high at register in limits, add register to known
allow hmi bay.learn when high <= register of limits
allow guest bay.keep then commit limits
allow guest bay.drop then roll back limits, reset known
allow guest bay.ping
on guest start then reset all breaker, reset known
"#;

fn bay() -> Compiled {
    build(&BAY.replace("register implies_not_zero", "register > 0")).unwrap()
}

#[test]
fn a_flow_goes_its_steps_and_a_state_ends_when_its_time_is_over() {
    let compiled = bay();
    let mut bay = Both::new(&compiled);
    assert_eq!(bay.ask("guest", "bay.operate", &[1, 7]).0, NO);
    assert_eq!(bay.ask("guest", "bay.select", &[1, 7]).0, YES);
    assert_eq!(bay.ask("guest", "bay.select", &[1, 7]).0, Reason::Failed, "no step from selected to selected");
    assert_eq!(bay.ask("guest", "bay.operate", &[1, 7]).0, NO, "too soon");
    bay.wait(1_000_000);
    assert_eq!(bay.ask("guest", "bay.operate", &[1, 8]).0, NO, "another value");
    assert_eq!(bay.ask("guest", "bay.operate", &[2, 7]).0, NO, "another unit");
    assert_eq!(bay.ask("guest", "bay.operate", &[1, 7]).0, YES);
    assert_eq!(bay.ask("guest", "bay.select", &[2, -5]).0, YES);
    bay.wait(30_000_000);
    assert_eq!(bay.ask("hmi", "bay.operate", &[2, -5]).0, YES, "at the last moment");
    assert_eq!(bay.ask("guest", "bay.select", &[3, 1]).0, YES);
    bay.wait(30_000_001);
    assert_eq!(bay.ask("guest", "bay.operate", &[3, 1]).0, NO, "over");
    assert_eq!(bay.ask("guest", "bay.select", &[3, 1]).0, YES, "idle again");
}

#[test]
fn a_denying_rule_wins_and_one_that_fails_refuses_too() {
    let compiled = bay();
    let mut bay = Both::new(&compiled);
    bay.ask("guest", "bay.select", &[1, 7]);
    assert_eq!(bay.ask("guest", "bay.cancel", &[1]).0, Reason::Failed, "nobody ever operated it: its age has no value");
    bay.wait(1_000_000);
    bay.ask("guest", "bay.operate", &[1, 7]);
    bay.wait(1_999_999);
    let verdict = bay.tell(Event::Request, "guest", "bay.cancel", &[1]);
    assert_eq!(verdict.reason, Reason::DeniedByRule);
    let label = bay.table.rule_label(u16::try_from(verdict.rule.unwrap()).unwrap());
    assert_eq!(label, ("just_operated", "let the contacts rest"));
    bay.wait(1);
    assert_eq!(bay.ask("guest", "bay.cancel", &[1]).0, YES);
}

#[test]
fn a_denying_rule_may_count_and_a_reply_may_be_observed_or_refused() {
    let compiled = bay();
    let mut bay = Both::new(&compiled);
    for _ in 0..3 {
        assert_eq!(bay.ask("guest", "bay.login", &[1]).0, YES);
        assert_eq!(bay.tell(Event::Reply, "guest", "bay.login", &[0]).reason, YES);
    }
    assert_eq!(bay.ask("guest", "bay.login", &[1]).0, NO, "three failures");
    for _ in 0..3 {
        assert_eq!(bay.ask("hmi", "bay.login", &[1]).0, Reason::DeniedByRule);
    }
    assert_eq!(bay.ask("hmi", "bay.login", &[1]).0, Reason::Failed, "the counter is full, and it stays closed");
    assert_eq!(bay.ask("hmi", "bay.login", &[1234]).0, YES);
    assert_eq!(bay.ask("hmi", "bay.login", &[1]).0, Reason::DeniedByRule);
    assert_eq!(bay.ask("guest", "bay.ping", &[]).0, YES);
    assert_eq!(bay.tell(Event::Reply, "guest", "bay.ping", &[900]).reason, YES);
    assert_eq!(bay.tell(Event::Reply, "guest", "bay.ping", &[901]).reason, Reason::DeniedByRule);
    assert_eq!(bay.tell(Event::Reply, "guest", "bay.ping", &[70_000]).reason, Reason::Malformed);
    assert_eq!(bay.tell(Event::Error, "guest", "bay.ping", &[]).reason, YES);
}

#[test]
fn rates_admit_so_many_in_any_such_time_and_only_granted_calls_count() {
    let compiled = bay();
    let mut bay = Both::new(&compiled);
    for _ in 0..3 {
        assert_eq!(bay.ask("guest", "bay.write", &[7, 1]).0, YES);
        assert_eq!(bay.ask("guest", "bay.write", &[700, 1]).0, NO);
        bay.wait(1_000_000);
    }
    assert_eq!(bay.ask("guest", "bay.write", &[7, 1]).0, Reason::Rate);
    bay.wait(6_999_999);
    assert_eq!(bay.ask("guest", "bay.write", &[7, 1]).0, Reason::Rate);
    bay.wait(1);
    assert_eq!(bay.ask("guest", "bay.write", &[7, 1]).0, YES, "the first is ten seconds old");
    assert_eq!(bay.ask("guest", "bay.write", &[7, 1]).0, Reason::Rate);
    for (wanted, wait) in [(YES, 0), (YES, 0), (Reason::Rate, 999_999), (Reason::Rate, 1), (YES, 0), (Reason::Rate, 0)]
    {
        assert_eq!(bay.ask("guest", "bay.speed", &[5000]).0, wanted);
        bay.wait(wait);
    }
}

#[test]
fn arithmetic_without_a_value_refuses() {
    let compiled = bay();
    let mut bay = Both::new(&compiled);
    assert_eq!(bay.ask("guest", "bay.write", &[5, 1]).0, Reason::Failed, "a division by zero");
    assert_eq!(bay.ask("guest", "bay.write", &[4, 3000]).0, YES, "8 + 3000 / -1");
    assert_eq!(bay.ask("guest", "bay.write", &[600, 0]).0, NO);
}

#[test]
fn sets_and_maps_have_their_size_and_maps_a_committed_half() {
    let compiled = bay();
    let mut bay = Both::new(&compiled);
    assert_eq!(bay.ask("hmi", "bay.learn", &[1, 5]).0, Reason::Failed, "no such key");
    assert_eq!(bay.ask("guest", "bay.learn", &[1, 5]).0, YES);
    assert_eq!(bay.ask("hmi", "bay.learn", &[1, 5]).0, Reason::Failed, "not committed");
    assert_eq!(bay.ask("guest", "bay.keep", &[]).0, YES);
    assert_eq!(bay.ask("hmi", "bay.learn", &[1, 5]).0, YES);
    assert_eq!(bay.ask("hmi", "bay.learn", &[1, 6]).0, NO);
    assert_eq!(bay.ask("guest", "bay.learn", &[2, 9]).0, YES);
    assert_eq!(
        bay.ask("guest", "bay.learn", &[3, 9]).0,
        Reason::Failed,
        "the map is full: the set is not changed either"
    );
    assert_eq!(bay.ask("hmi", "bay.write", &[3, 0]).0, NO);
    assert_eq!(bay.ask("hmi", "bay.write", &[2, 0]).0, YES);
    assert_eq!(bay.ask("guest", "bay.drop", &[]).0, YES);
    assert_eq!(bay.ask("hmi", "bay.write", &[2, 0]).0, NO);
    assert_eq!(bay.tell(Event::Reply, "guest", "life.guest_start", &[]).reason, YES);
}

#[test]
fn a_grant_is_used_up_by_its_use_and_by_time() {
    let compiled = bay();
    let mut bay = Both::new(&compiled);
    assert_eq!(bay.ask("hmi", "bay.open_door", &[0]).0, NO);
    bay.ask("hmi", "bay.login", &[1234]);
    assert_eq!(bay.ask("hmi", "bay.open_door", &[1]).0, NO, "the grant is still there");
    assert_eq!(bay.ask("hmi", "bay.open_door", &[0]).0, YES);
    assert_eq!(bay.ask("hmi", "bay.open_door", &[0]).0, NO);
    bay.ask("hmi", "bay.login", &[1234]);
    bay.wait(60_000_001);
    assert_eq!(bay.ask("hmi", "bay.open_door", &[0]).0, NO);
}

#[test]
fn without_a_clock_what_asks_for_a_time_is_refused() {
    let compiled = bay();
    let mut bay = Both::new(&compiled);
    bay.times = Times::default();
    assert_eq!(bay.ask("guest", "bay.select", &[1, 1]).0, Reason::Failed);
    assert_eq!(bay.ask("guest", "bay.write", &[7, 1]).0, Reason::Failed);
    assert_eq!(bay.ask("guest", "bay.ping", &[]).0, YES);
}

#[test]
fn mistakes_with_state_are_told_with_the_remedy() {
    let site = BAY.replace("register implies_not_zero", "register > 0");
    for (wrong, right, message) in [
        ("breaker becomes selected(value)", "breaker(unit) becomes selected(value)", "`breaker` has 1 keys"),
        ("breaker(unit) becomes selected", "breaker(unit) becomes selected(value)", "`selected` holds 1 values"),
        ("breaker(unit) becomes slected(value)", "breaker(unit) becomes selected(value)", "did you mean `selected`?"),
        ("lasts 30 -> idle", "lasts 30 s -> idle", "this time has no unit"),
        ("speed between 10 and 50.001", "speed between 10.00 Hz and 50.00 Hz", "no whole number of steps of 0.01 Hz"),
        ("speed between 10 rpm and 50", "speed between 10.00 Hz and 50.00 Hz", "write it in Hz"),
        ("speed between 10 and 70", "speed between 10.00 Hz and 50.00 Hz", "its values are 0.00 Hz..60.00 Hz"),
        ("when failures", "when failures < 3", "this is a number, and a condition is needed"),
        ("when breaker(1) < 3", "when failures < 3", "`breaker` is no number"),
        ("then reset failures, count failures", "then reset failures, give maintenance", "changes `failures` twice"),
        ("then start seen(1)", "then count failures\nallow hmi", "a denying rule may only count"),
        ("max 65", "max 3", "write max 1 to max 64"),
        ("at most 100 per 10 s", "at most 3 per 10 s", "a window counts at most 64 calls"),
    ] {
        assert!(site.contains(right.split('\n').next().unwrap()), "{right}");
        let text = build(&site.replacen(right.split('\n').next().unwrap(), wrong, 1)).err();
        assert!(text.as_ref().is_some_and(|text| text.contains(message)), "{wrong}: {text:?}");
    }
    let quarrel = format!("{site}\nallow guest bay.select when unit in 2..3 and value > 5 then start seen(unit)");
    let text = build(&quarrel).err().unwrap();
    assert!(text.contains("both match bay.select(unit: 2, value: 6)"), "{text}");
    let apart = format!("{site}\nallow guest bay.operate when breaker(unit) is operated then start seen(unit)");
    assert!(build(&apart).is_ok(), "two states of one flow exclude each other");
}
