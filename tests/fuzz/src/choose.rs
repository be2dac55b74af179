//! Bytes as choices: of rules, conditions, effects and calls of one small site that has every kind of state and of message.

use bulkhead_lang::tree::Event;

/// What all generated policies begin with.
pub(crate) const SITE: &str = "edition 1\npolicy p\nzone UTC\ninterface I {\n    method m(a: u8, b: i8) -> (a: u8, b: i8)\n    method n(a: u8, secret b: i8) -> ()\n    \
    method t(tag: text max 12) -> ()\n    method l(values: list of u16 max 2, o: optional i16) -> ()\n    \
    question q(a: u8, secret b: i8)\n}\n\
    app x\nservice s: I by x\ngroup all: guest, x\n\
    counter level in 0..3 start 1\nflow mode {\n    calm -> alert\n    alert -> calm\n}\n\
    flow shift per caller {\n    closed -> open\n    open -> closed\n    open lasts 3 s -> closed\n}\n\
    group on_duty: guest, x when shift is open\ngroup off_duty: guest when shift is closed\nexclusive on_duty, off_duty\n\
    group watchers: all when level >= 1\n\
    profile thin {\n    record 1 in 3 allowed when level >= 2\n    record 1 in 2 denied\n}\n\
    profile some {\n    record allowed when mode is alert or level == 0\n    record denied when level >= 1 and mode is calm\n    record only b\n}\n\
    profile none for s.q {\n    record 1 in 4 allowed\n    record denied when mode is alert\n    record only a\n}\ncounter made in -3..20\ncounter tally per a in 0..9 in 0..50 start 5\n\
    flow f per a in 0..9 {\n    one -> two, three\n    two -> one, two\n    three -> one\n    one holds x\n    three holds x, y\n    one lasts 4 s -> two\n}\n\
    timer t\nrate r at most 3 per 2 s\nrate c per caller at most 6 per s burst 2\nset s1 max 3\nmap m1 max 2\ngrant g per caller lasts 3 s\n";

/// What is remembered.
const OBJECTS: [&str; 10] = ["made", "tally", "f", "t", "s1", "m1", "g", "level", "mode", "shift"];

/// The number of the service's question among its methods.
pub(crate) const QUESTION: u16 = 4;

/// Bytes that are used up by choices; after the last, every choice is the first one.
#[derive(Clone, Debug)]
pub struct Choices<'a>(&'a [u8]);

impl<'a> Choices<'a> {
    /// From these bytes.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    pub(crate) fn small(&mut self, limit: u16) -> u16 {
        u16::from(self.byte()) % limit
    }

    pub(crate) fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[usize::from(self.byte()) % all.len()]
    }

    /// A number that is small, or at an edge, or any.
    pub(crate) fn word(&mut self) -> u64 {
        match self.small(8) {
            0..4 => u64::from(self.small(12)),
            4 => u64::MAX - u64::from(self.small(12)),
            5 => 1 << self.small(64),
            6 => u64::from(u16::from_le_bytes([self.byte(), self.byte()])),
            _ => u64::from_le_bytes(std::array::from_fn(|_| self.byte())),
        }
    }

    /// Seconds since 1970: a day of some week, at some time of day; or nobody has told them.
    pub(crate) fn local_seconds(&mut self) -> Option<u64> {
        let (day, hour) = (u64::from(self.small(8)), u64::from(self.small(24)));
        (day != 7).then_some((20_780 + day) * 86_400 + hour * 3_600 + 1_799)
    }

    /// How many values a message of a method has, with some that are wrong.
    pub(crate) fn length(&mut self, method: u16, event: Event) -> usize {
        let right = match (event, method) {
            (Event::Request, 0 | 1 | QUESTION) | (Event::Reply, 0) => 2,
            (Event::Request, 2) => 3,
            (Event::Request, 3) => 5,
            _ => 0,
        };
        if self.small(20) == 19 { usize::from(self.small(7)) } else { right }
    }

    /// A value, most often one that the method takes.
    pub(crate) fn argument(&mut self, method: u16, at: usize) -> u64 {
        if self.small(24) == 23 {
            return self.word();
        }
        match (method, at) {
            (0 | 1 | QUESTION, 1) => (i64::from(self.small(24)) - 12).cast_unsigned(),
            (2, 0) => u64::from(self.of(&[3_u8, 3, 3, 0, 2, 8, 9, 12])),
            (2, 1) => u64::from_be_bytes(self.of(&[
                *b"P01\0\0\0\0\0",
                *b"V12\0\0\0\0\0",
                *b"P0\0\0\0\0\0\0",
                *b"P01.leve",
                [0; 8],
            ])),
            (2, _) => u64::from_be_bytes(self.of(&[[0; 8], *b"l\0\0\0\0\0\0\0", *b"l.12\0\0\0\0"])),
            (3, 0) => u64::from(self.small(3)),
            (3, 3) => u64::from(self.small(2)),
            (3, 4) => self.of(&[0, 1, 3, 5, 9, u64::MAX, u64::MAX - 4]),
            (3, _) => self.of(&[0, 0, 1, 3, 9, 500]),
            _ => u64::from(self.small(12)),
        }
    }

    /// A policy.
    pub(crate) fn policy(&mut self) -> String {
        let mut text = SITE.to_string();
        // Now and then enough rules of one method for an index.
        if self.small(8) == 7 {
            for _ in 0..40 {
                let (verb, low) = (self.of(&["allow", "allow", "allow", "deny"]), self.small(100));
                let (high, b) = (low + self.small(20), self.small(24));
                let and = self.of(&["", "", " and b > -"]);
                let rest = if and.is_empty() { String::new() } else { format!("{and}{b}") };
                text.push_str(&format!("{verb} guest s.n when a in {low}..{high}{rest}\n"));
            }
        }
        // Most often the kernel's calls move what the others' rules ask for, one thing each.
        if self.small(4) != 3 {
            for a in 0..6 {
                let effect = self.effect(0);
                text.push_str(&format!("allow kernel s.n when a == {a} then {effect}\n"));
            }
        }
        for _ in 0..=self.small(5) {
            let rule = self.rule();
            text.push_str(&rule);
            text.push('\n');
        }
        text
    }

    fn rule(&mut self) -> String {
        let who = self.of(&["guest", "guest", "all", "x", "on_duty", "off_duty", "watchers"]);
        let (method, message) =
            self.of(&[("m", 0), ("n", 0), ("m, s.n", 0), ("t", 1), ("l", 2), ("q", 0), ("q, s.m", 0), ("*", 3)]);
        let depth = self.of(&[0, 0, 1, 1, 2, 3]);
        let mut when =
            if self.small(5) == 0 { String::new() } else { format!(" when {}", self.condition(message, depth)) };
        if self.small(8) == 7 {
            when.push_str(&format!(" except {}", self.condition(message, 1)));
        }
        let audit = self.of(&["", " audit", " audit by thin", " audit by some", " audit by none"]);
        let audit = if message == 0 { audit } else { audit.split(" by").next().unwrap_or_default() };
        match self.small(9) {
            0 | 1 => format!("deny {who} s.{method}{when}{}{audit}", self.of(&["", " then count made"])),
            8 => format!(
                "on {} then {}",
                self.of(&["boot", "guest start", "policy swap"]),
                self.of(&["start t", "count made", "reset level"])
            ),
            2 if message == 0 => format!("deny {who} s.m {}{when}", self.of(&["reply", "reply", "error"]))
                .replace("error when", "error // "),
            3 if message == 0 => {
                let effects = self.effects(0);
                let effects = if effects.is_empty() { " then count made".to_string() } else { effects };
                format!("on {who} s.m reply{when}{effects}{audit}")
            }
            _ => {
                let limit = self.of(&[
                    "",
                    "",
                    "",
                    " at most 2 per 3 s",
                    " at most 5 per s burst 2",
                    " within r",
                    " within c",
                    " using g",
                ]);
                let effects = self.effects(message);
                format!("allow {who} s.{method}{when}{limit}{effects}{audit}")
            }
        }
    }

    fn condition(&mut self, message: usize, depth: u8) -> String {
        let choice = self.small(if depth == 0 { 3 } else { 7 });
        match choice {
            3 => format!("({} and {})", self.condition(message, depth - 1), self.condition(message, depth - 1)),
            4 => format!("({} or {})", self.condition(message, depth - 1), self.condition(message, depth - 1)),
            5 => format!("({} implies {})", self.condition(message, depth - 1), self.condition(message, depth - 1)),
            6 => format!("not ({})", self.condition(message, depth - 1)),
            0 if message == 0 => {
                let operator = self.of(&["==", "!=", "<", "<=", ">", ">="]);
                let (one, other) = (self.of(&[0, 1, 1, 2]), self.of(&[0, 0, 1]));
                format!("({} {operator} {})", self.quantity(one), self.quantity(other))
            }
            1 if message == 0 => {
                let low = self.small(60);
                format!("({} in {{ {low}..{}, 90..95 }})", self.quantity(1), low + 9)
            }
            _ => self.plain(message).to_string(),
        }
    }

    fn plain(&mut self, message: usize) -> &'static str {
        let anywhere = [
            "made < 3",
            "f(1) is three",
            "age of t > 2 s",
            "3 in s1",
            "time of day < 8 h",
            "day of week in 1..5",
            "day of week == 7",
            "time of day in 8 h..16 h",
            "caller == guest",
            "level >= 2",
            "mode is alert",
            "shift is open",
            "age of shift <= 1 s",
        ];
        let of_message: &[&str] = match message {
            0 => &[
                "a < 5",
                "b in -5..5",
                "a != 3",
                "f(a) is one",
                "f(a) is not two",
                "age of f(a) < 3 s",
                "a in s1",
                "b in s1",
                "a in m1",
                "a in { 1, 3..7 }",
                "a for b in { 1..3, 5..8 }",
                "a for made in 0..4",
                "(f(a) is three implies f(a).x < 6)",
                "(f(a) is three and f(a).y == 3)",
                "(f(a) is one or f(a) is two or f(a).y > b)",
                "(f(1) is three implies f(1).x < 6)",
                "(f(3) is three and f(3).y <= b)",
                "(a in m1 implies a of m1 > 2)",
                "(a in m1 and a of m1 <= b)",
                "b < 0",
            ],
            1 => &[
                "tag starts with \"P\"",
                "tag ends with \"1\"",
                "tag == \"P01\"",
                "tag in { \"P01\", \"V12\" }",
                "tag matches \"[PV][0-9]{2}\"",
                "tag matches \"[PV][0-9]+(\\.level)?(\\.12)?\"",
                "length of tag > 2",
            ],
            3 => &["made > 0", "mode is calm", "level in 1..2"],
            _ => &[
                "for all v in values: v < 9",
                "for any v in values: v == 3",
                "values[0] < 5",
                "length of values == 1",
                "o is present",
                "o > 3",
                "o is present and o < 0",
                "o is present implies o in -5..3",
                "o is present implies o in 1..9",
                "values[1] == 3",
            ],
        };
        if self.small(3) == 0 { self.of(&anywhere) } else { self.of(of_message) }
    }

    fn quantity(&mut self, depth: u8) -> String {
        let choice = self.small(if depth == 0 { 2 } else { 4 });
        if choice < 2 {
            return self
                .of(&[
                    "a",
                    "b",
                    "1",
                    "3",
                    "7",
                    "100",
                    "made",
                    "tally(a)",
                    "tally(3)",
                    "f(a).x",
                    "a of m1",
                    "b of m1",
                    "7 of m1",
                    "9223372036854775807",
                    "18446744073709551615",
                ])
                .to_string();
        }
        let operator = self.of(&["+", "-", "*", "/", "%", "&", "|", "^", "<<", ">>"]);
        format!("({} {operator} {})", self.quantity(depth - 1), self.quantity(depth - 1))
    }

    fn effects(&mut self, message: usize) -> String {
        let mut all: Vec<&str> = Vec::new();
        for _ in 0..self.of(&[0, 0, 1, 1, 2, 3]) {
            let effect = self.effect(message);
            let object =
                |effect: &str| effect.split(['(', ' ']).find(|word| OBJECTS.contains(word)).map(str::to_string);
            // A rule changes each object once.
            if all.iter().all(|known| object(known) != object(effect)) {
                all.push(effect);
            }
        }
        if all.is_empty() { String::new() } else { format!(" then {}", all.join(", ")) }
    }

    fn effect(&mut self, message: usize) -> &'static str {
        let of_numbers: [&[&'static str]; 10] = [
            &["count made", "add a to made", "set made to b", "reset made"],
            &["count tally(a)", "add b to tally(3)", "reset all tally", "set tally(a) to a * 2"],
            &[
                "f(a) becomes one(b)",
                "f(a) becomes two",
                "f(a) becomes three(a, b)",
                "f(a) becomes three(b, a)",
                "f(3) becomes three(a, b)",
                "reset f(a)",
                "f(1) becomes one(a)",
                "reset all f",
            ],
            &["start t", "reset t"],
            &["add a to s1", "add b to s1", "remove a from s1", "reset s1"],
            &["put a at b in m1", "put b at a in m1", "remove a from m1", "commit m1", "roll back m1", "reset m1"],
            &["give g"],
            &["set level to a", "count level", "reset level"],
            &["mode becomes alert", "mode becomes calm"],
            &["shift becomes open", "shift becomes closed", "reset shift"],
        ];
        let others: [&[&'static str]; 5] = [
            &["count made", "reset made"],
            &["start t"],
            &["add 3 to s1", "remove 3 from s1"],
            &["count level", "set level to 2"],
            &["shift becomes open", "mode becomes alert", "mode becomes calm"],
        ];
        let lists: &[&[&'static str]] = if message == 0 { &of_numbers } else { &others };
        let list = self.of(lists);
        self.of(list)
    }
}
