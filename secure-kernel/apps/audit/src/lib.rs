//! The audit trail's reading end: which records are complete, how many were lost, and how a record reads as a line.
#![no_std]
#![forbid(unsafe_code)]

use core::fmt;

use bulkhead_abi::audit::{Kind, RING_RECORDS, Record};
use bulkhead_model::{Phase, Policy, Reason, Told, Values};
use bulkhead_types::Bytes;
use sha2::{Digest, Sha256};

include!(concat!(env!("OUT_DIR"), "/interfaces.rs"));

/// The ring as this app sees it: memory that the wall writes to at any time.
pub trait Ring {
    /// The number that the next record will get.
    fn next_seq(&self) -> u64;
    /// How long a record stays open for like events, in ticks.
    fn window_ticks(&self) -> u64;
    /// A copy of the record in a place; it may be torn, which its `seq` before and after tells the implementor, who gives `None`.
    fn record(&self, place: usize) -> Option<Record>;
}

/// How far the trail was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reader {
    /// The number of the next record to read.
    pub next: u64,
    /// Records that were overwritten before they were read.
    pub lost: u64,
}

impl Reader {
    /// The next complete record, if there is one: a later one exists, or it is too old to grow.
    pub fn read(&mut self, ring: &impl Ring, now: u64) -> Option<Record> {
        let end = ring.next_seq();
        let oldest = end.saturating_sub(RING_RECORDS as u64);
        if self.next < oldest {
            self.lost += oldest - self.next;
            self.next = oldest;
        }
        if self.next >= end {
            return None;
        }
        let record = ring.record(usize::try_from(self.next % RING_RECORDS as u64).ok()?)?;
        if record.seq != self.next {
            // Overtaken while reading: the next turn counts what was lost.
            return None;
        }
        let is_last = self.next + 1 == end;
        if is_last && record.kind == Kind::Call as u8 && now.wrapping_sub(record.time_ticks) < ring.window_ticks() {
            return None;
        }
        self.next += 1;
        Some(record)
    }
}

/// How many lines may be printed in a period: the console is for people.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    limit: u32,
    left: u32,
    /// Records that were not printed since the start.
    pub unprinted: u64,
}

impl Rate {
    /// At most `limit` lines a period.
    #[must_use]
    pub const fn new(limit: u32) -> Self {
        Self { limit, left: limit, unprinted: 0 }
    }

    /// A new period begins.
    pub const fn refill(&mut self) {
        self.left = self.limit;
    }

    /// Whether one more line may be printed; counts it if not.
    pub const fn allows(&mut self) -> bool {
        if self.left == 0 {
            self.unprinted += 1;
            return false;
        }
        self.left -= 1;
        true
    }
}

/// What the app answers: how the trail fares, and which policy is in force.
#[derive(Clone, Debug)]
pub struct Service {
    totals: audit::TotalsReply,
    sha256: Bytes<32>,
}

impl Service {
    /// For the policy's table as it lies in memory, the same that the monitors of wall and kernel decide by. It is hashed here and now: what the loader
    /// saw is no proof of what is there.
    #[must_use]
    pub fn new(table: &[u8]) -> Self {
        let sha256 = Bytes::new(&Sha256::digest(table)).unwrap_or_default();
        Self { totals: audit::TotalsReply { records: 0, lost: 0, unprinted: 0 }, sha256 }
    }

    /// Takes the counts that the next answer tells.
    pub const fn count(&mut self, reader: &Reader, rate: &Rate) {
        self.totals = audit::TotalsReply { records: reader.next, lost: reader.lost, unprinted: rate.unprinted };
    }
}

impl audit::Server for Service {
    fn totals(&mut self) -> audit::TotalsReply {
        self.totals
    }

    fn policy(&mut self) -> audit::PolicyReply {
        audit::PolicyReply { sha256: self.sha256 }
    }
}

/// A record as one line for people.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    /// The record.
    pub record: &'a Record,
    /// The policy, for the names.
    pub policy: &'a Policy<'a>,
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let record = self.record;
        write!(f, "#{} ", record.seq)?;
        let subject = self.policy.subject_name(record.subject).unwrap_or("?");
        let [first, second, third, ..] = record.args;
        match Kind::from_raw(record.kind) {
            Some(Kind::Call) => self.call(f, subject)?,
            Some(Kind::TaskStart) => write!(f, "{subject} started (restarts: {first})")?,
            Some(Kind::TaskFault) => write!(f, "{subject} faulted (syndrome {first:#x}, address {second:#x})")?,
            Some(Kind::TaskGivenUp) => write!(f, "{subject} given up (restarts: {first})")?,
            Some(Kind::GuestStart) => write!(f, "guest started (restarts: {first})")?,
            Some(Kind::GuestStop) => write!(f, "guest stopped")?,
            Some(Kind::CallTimedOut) => write!(f, "a call of the guest timed out")?,
            Some(Kind::KernelFatal) => write!(f, "the secure kernel failed ({first:#x}, {second:#x}, {third:#x})")?,
            Some(Kind::GuestFault) => {
                write!(f, "guest: an access that no call describes (syndrome {first:#x}, address {second:#x})")?;
            }
            Some(Kind::Grant) => match self.policy.grant(first) {
                Some((file, line, told)) => write!(f, "granted by {file}:{line}: {told}")?,
                None => write!(f, "granted: number {first}, which the policy does not tell")?,
            },
            None => write!(f, "unknown record")?,
        }
        if record.count > 1 { write!(f, ", {} times", record.count) } else { Ok(()) }
    }
}

impl Line<'_> {
    fn call(&self, f: &mut fmt::Formatter<'_>, subject: &str) -> fmt::Result {
        let (record, policy) = (self.record, self.policy);
        let object = policy.object(record.object);
        let method = object.and_then(|object| policy.method(object, record.method)).map(|(_, method)| method);
        let verdict = if record.allowed != 0 { "allowed" } else { "REFUSED" };
        write!(f, "{verdict} {subject} -> ")?;
        let words = record.args.get(..record.len.into()).unwrap_or(&record.args);
        let (redacted, is_reply) = (record.redacted, record.phase == Phase::Reply as u8);
        let fields = method.map_or(&[][..], |method| match record.phase == Phase::Error as u8 {
            true => policy.error_fields(method),
            false => policy.fields(method, is_reply),
        });
        match (object, method) {
            (Some(object), Some(method)) => {
                write!(f, "{}.{}", policy.text(object.name), policy.text(method.name))?;
                if record.phase == Phase::Error as u8 {
                    let code = words.first().copied().unwrap_or(0);
                    match policy.error_name(method, code) {
                        _ if redacted & 1 != 0 => write!(f, " error((not recorded))")?,
                        Some(name) => write!(f, " error({name})")?,
                        None => write!(f, " error({code})")?,
                    }
                } else {
                    let values = Values { policy, fields, words, redacted, is_plain: false };
                    write!(f, "{}({values})", if is_reply { " reply" } else { "" })?;
                }
            }
            _ => write!(f, "object {} method {}", record.object, record.method)?,
        }
        match policy.rule_place(record.rule) {
            Some((file, line)) => write!(f, " by {file}:{line}")?,
            None => return write!(f, ": {}", Reason::from_raw(record.reason).word()),
        }
        let (name, because) = policy.rule_label(record.rule);
        if !name.is_empty() {
            write!(f, " ({name})")?;
        }
        let reason = Reason::from_raw(record.reason);
        if !matches!(reason, Reason::Allowed | Reason::DeniedByRule) {
            write!(f, ", {}", reason.word())?;
        }
        if because.is_empty() {
            return Ok(());
        }
        let Record { rule, subject, .. } = *record;
        write!(f, ": {}", Told { policy, rule, subject, fields, words, left_out: redacted })
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use bulkhead_model::build::Tables;
    use bulkhead_model::{Cell, Field, Label, Method, NONE, Object, Source};
    use std::string::ToString;
    use std::vec::Vec;

    struct Fake {
        records: Vec<Record>,
        next: u64,
    }

    impl Ring for Fake {
        fn next_seq(&self) -> u64 {
            self.next
        }
        fn window_ticks(&self) -> u64 {
            100
        }
        fn record(&self, place: usize) -> Option<Record> {
            self.records.get(place).copied()
        }
    }

    fn ring(next: u64) -> Fake {
        let mut records = std::vec![Record::default(); RING_RECORDS];
        for seq in next.saturating_sub(RING_RECORDS as u64)..next {
            records[usize::try_from(seq).unwrap() % RING_RECORDS] = Record { seq, count: 1, ..Record::default() };
        }
        Fake { records, next }
    }

    #[test]
    fn the_last_record_is_read_only_when_it_cannot_grow() {
        let mut reader = Reader::default();
        let ring = ring(2);
        assert_eq!(reader.read(&ring, 50).map(|record| record.seq), Some(0));
        assert_eq!(reader.read(&ring, 50), None);
        assert_eq!(reader.read(&ring, 100).map(|record| record.seq), Some(1));
        assert_eq!(reader.read(&ring, 1000), None);
    }

    #[test]
    fn what_was_overwritten_is_counted_exactly() {
        let mut reader = Reader::default();
        let ring = ring(RING_RECORDS as u64 + 40);
        assert_eq!(reader.read(&ring, 0).map(|record| record.seq), Some(40));
        assert_eq!(reader.lost, 40);
    }

    #[test]
    fn the_console_is_not_flooded() {
        let mut rate = Rate::new(2);
        assert!(rate.allows() && rate.allows() && !rate.allows());
        assert_eq!(rate.unprinted, 1);
        rate.refill();
        assert!(rate.allows());
    }

    fn table() -> Vec<u8> {
        table_with(1, "it is loud")
    }

    fn table_with(secret: u8, because: &str) -> Vec<u8> {
        let mut tables = Tables::default();
        let (value, plant, set, guest) =
            (tables.add_text("value"), tables.add_text("plant"), tables.add_text("set"), tables.add_text("guest"));
        tables.fields.push(Field { min: 0, max: u64::MAX, name: value, signed: 1, secret, ..Field::default() });
        tables.methods.push(Method { name: set, first_field: 0, arguments: 1, ..Method::default() });
        tables.objects.push(Object { name: plant, first_method: 0, method_count: 1, server: 0 });
        tables.subjects = std::vec![guest];
        let (name, because) = (tables.add_text("calm"), tables.add_text(because));
        tables.labels.push(Label { name, because, to_caller: 0 });
        let place = tables.add_file("site.policy") << 24 | 12;
        tables.sources = std::vec![Source { place, label: 0 }, Source { place, label: 1 }];
        tables.cells.push(Cell { index: Cell::PLAIN, ..Cell::default() });
        tables.to_bytes()
    }

    #[test]
    fn the_service_tells_the_digest_of_the_table_that_lies_in_memory_and_the_counts() {
        let mut table = table();
        let digest = |table: &[u8]| match audit::dispatch(&mut Service::new(table), 1, &[0; 6]) {
            bulkhead_types::Answer::Reply(5, [32, digest @ .., 0]) => digest.map(u64::to_be_bytes).concat(),
            other => panic!("{other:?}"),
        };
        assert_eq!(digest(b"abc")[..4], [0xba, 0x78, 0x16, 0xbf], "FIPS 180-4's example");
        let before = digest(&table);
        assert_eq!(before, Sha256::digest(&table).as_slice());
        *table.last_mut().unwrap() ^= 1;
        assert_ne!(digest(&table), before, "one bit more, another digest");
        let mut service = Service::new(&table);
        service.count(&Reader { next: 7, lost: 2 }, &Rate { limit: 1, left: 1, unprinted: 3 });
        let answer = audit::dispatch(&mut service, 0, &[0; 6]);
        assert_eq!(answer, bulkhead_types::Answer::Reply(3, [7, 2, 3, 0, 0, 0]));
    }

    #[test]
    fn a_grant_that_can_undo_the_wall_is_a_line_with_its_place_and_its_reason() {
        let mut tables = Tables::default();
        tables.subjects = std::vec![tables.add_text("guest")];
        let because = tables.add_text("the guest is given `gic`, which can undo the wall: it is {not} a copy");
        tables.labels.push(Label { because, ..Label::default() });
        let place = tables.add_file("site.policy") << 24 | 4;
        tables.sources = std::vec![Source { place, label: 0 }, Source { place: place + 5, label: 1 }];
        tables.grants = 1;
        let bytes = tables.to_bytes();
        let policy = Policy::verify(&bytes).unwrap();
        let mut record = Record { kind: Kind::Grant as u8, rule: NONE, len: 3, count: 1, ..Record::default() };
        let told = "granted by site.policy:9: the guest is given `gic`, which can undo the wall: it is {not} a copy";
        assert_eq!(Line { record: &record, policy: &policy }.to_string(), std::format!("#0 {told}"));
        record.args[0] = 1;
        let line = Line { record: &record, policy: &policy }.to_string();
        assert_eq!(line, "#0 granted: number 1, which the policy does not tell");
    }

    #[test]
    fn a_line_names_who_what_and_the_rule() {
        let bytes = table();
        let policy = Policy::verify(&bytes).unwrap();
        let args = [(-5_i64).cast_unsigned(), 0, 0, 0, 0, 0];
        let mut record = Record { seq: 7, count: 3, rule: 0, reason: 2, len: 1, args, ..Record::default() };
        let line = Line { record: &record, policy: &policy }.to_string();
        assert_eq!(line, "#7 REFUSED guest -> plant.set(value: -5) by site.policy:12, 3 times");
        record = Record { rule: 1, ..record };
        let line = Line { record: &record, policy: &policy }.to_string();
        assert_eq!(line, "#7 REFUSED guest -> plant.set(value: -5) by site.policy:12 (calm): it is loud, 3 times");
        record = Record { reason: 6, ..record };
        let line = Line { record: &record, policy: &policy }.to_string();
        assert!(line.contains("by site.policy:12 (calm), an expression failed: it is loud"), "{line}");
        record = Record { rule: NONE, reason: 1, redacted: 1, count: 1, ..record };
        let line = Line { record: &record, policy: &policy }.to_string();
        assert_eq!(line, "#7 REFUSED guest -> plant.set(value: (secret)): no rule");
        record = Record { seq: 7, rule: NONE, reason: 1, object: 0, redacted: 1, count: 1, len: 1, args, ..record };
        let open = table_with(0, "{value} is above 5");
        let policy = Policy::verify(&open).unwrap();
        let line = Line { record: &record, policy: &policy }.to_string();
        assert_eq!(line, "#7 REFUSED guest -> plant.set(value: (not recorded)): no rule");
        record = Record { rule: 1, reason: 2, redacted: 0, ..record };
        let line = Line { record: &record, policy: &policy }.to_string();
        assert!(line.ends_with("by site.policy:12 (calm): -5 is above 5"), "{line}");
        record = Record { redacted: 1, ..record };
        let line = Line { record: &record, policy: &policy }.to_string();
        assert!(line.ends_with(": (not recorded) is above 5"), "{line}");
        record = Record { object: 9, len: 200, ..record };
        assert!(Line { record: &record, policy: &policy }.to_string().contains("object 9 method 0"));
    }
}
