//! The audit trail's writing end: a ring of records in memory that the secure side reads. A run of like events is one
//! record with a count, so that a flood costs the reader nothing; nothing is ever lost without a gap in the numbers.

use bulkhead_abi::audit::{Kind, RING_MAGIC, Record, RingHeader};
use bulkhead_model::{Phase, Reason};

/// The ring: the header and as many records as the memory holds.
#[derive(Debug)]
pub struct Trail<'a> {
    header: &'a mut RingHeader,
    records: &'a mut [Record],
    /// A record stands for events of this many ticks at the most; then a new one begins.
    window_ticks: u64,
    /// Where the last record lies.
    last: usize,
    /// What it is about.
    last_key: Packed,
}

impl<'a> Trail<'a> {
    /// Starts an empty trail.
    pub fn new(header: &'a mut RingHeader, records: &'a mut [Record], window_ticks: u64) -> Self {
        *header = RingHeader { magic: RING_MAGIC, version: 1, next_seq: 0, events: 0, window_ticks, reserved: [0; 12] };
        Self { header, records, window_ticks, last: usize::MAX, last_key: Packed::NONE }
    }

    /// Counts an event with the last record if it is like it and that record is young. False: [`Trail::begin`] a record.
    #[must_use]
    #[inline(always)]
    pub fn merge(&mut self, key: &Key, now: u64) -> bool {
        self.header.events += 1;
        if key.packed() == self.last_key
            && let Some(last) = self.records.get_mut(self.last)
            && now.wrapping_sub(last.time_ticks) < self.window_ticks
        {
            last.count += 1;
            last.last_ticks = now;
            return true;
        }
        false
    }

    /// Puts an event that was not merged on record; `fill` writes what the key does not hold.
    pub fn begin(&mut self, key: &Key, now: u64, fill: impl FnOnce(&mut Record)) {
        // Only calls are counted together.
        self.last_key = if key.kind == Kind::Call { key.packed() } else { Packed::NONE };
        let seq = self.header.next_seq;
        let next = self.last.wrapping_add(1);
        self.last = if next < self.records.len() { next } else { 0 };
        if let Some(record) = self.records.get_mut(self.last) {
            *record = Record { seq, time_ticks: now, last_ticks: now, count: 1, ..Record::default() };
            key.write(record);
            fill(record);
        }
        self.header.next_seq = seq + 1;
    }

    /// [`Trail::merge`], else [`Trail::begin`].
    pub fn add(&mut self, key: &Key, now: u64, fill: impl FnOnce(&mut Record)) {
        if !self.merge(key, now) {
            self.begin(key, now, fill);
        }
    }
}

/// A [`Key`] in two words, to be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Packed(u64, u32);

impl Packed {
    /// Like no key's.
    const NONE: Self = Self(u64::MAX, u32::MAX);
}

/// What makes two events alike: all but arguments and time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// Who.
    pub subject: u16,
    /// To what.
    pub object: u16,
    /// Which method.
    pub method: u16,
    /// The rule that decided.
    pub rule: u16,
    /// What the record is about.
    pub kind: Kind,
    /// Request, reply or error.
    pub phase: Phase,
    /// Why it was allowed or refused.
    pub reason: Reason,
}

impl Key {
    #[inline(always)]
    const fn packed(&self) -> Packed {
        let call =
            self.subject as u64 | (self.object as u64) << 16 | (self.method as u64) << 32 | (self.rule as u64) << 48;
        Packed(call, self.kind as u32 | (self.phase as u32) << 8 | (self.reason as u32) << 16)
    }

    const fn write(&self, record: &mut Record) {
        record.subject = self.subject;
        record.object = self.object;
        record.method = self.method;
        record.rule = self.rule;
        record.kind = self.kind as u8;
        record.phase = self.phase as u8;
        record.reason = self.reason as u8;
        record.allowed = matches!(self.reason, Reason::Allowed) as u8;
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use zerocopy::FromZeros;

    fn event(method: u16) -> Key {
        let (kind, phase, reason) = (Kind::Call, Phase::Request, Reason::NoRule);
        Key { subject: 0, object: 0, method, rule: 0xffff, kind, phase, reason }
    }

    fn trail(events: &[(u16, u64)]) -> (RingHeader, std::vec::Vec<Record>) {
        let mut header = RingHeader::new_zeroed();
        let mut records = std::vec![Record::default(); 4];
        let mut trail = Trail::new(&mut header, &mut records, 100);
        events.iter().for_each(|&(method, now)| trail.add(&event(method), now, |record| record.pc = now));
        (header, records)
    }

    #[test]
    fn a_million_like_events_are_one_record_with_an_exact_count() {
        let mut header = RingHeader::new_zeroed();
        let mut records = std::vec![Record::default(); 4];
        let mut trail = Trail::new(&mut header, &mut records, u64::MAX);
        (0..1_000_000).for_each(|now| trail.add(&event(1), now, |record| record.pc = now));
        assert_eq!((header.next_seq, header.events), (1, 1_000_000));
        assert_eq!((records[0].count, records[0].last_ticks, records[0].pc), (1_000_000, 999_999, 0));
    }

    #[test]
    fn other_events_and_late_ones_begin_a_record() {
        let (header, records) = trail(&[(1, 0), (1, 99), (1, 100), (2, 101)]);
        assert_eq!(header.next_seq, 3);
        assert_eq!(records[0].count, 2);
        assert_eq!((records[1].count, records[1].time_ticks), (1, 100));
        assert_eq!(records[2].method, 2);
    }

    #[test]
    fn an_overwritten_record_leaves_a_gap_in_the_numbers() {
        let (header, records) = trail(&[(1, 0), (2, 0), (3, 0), (4, 0), (5, 0), (6, 0)]);
        assert_eq!(header.next_seq, 6);
        let sequence: std::vec::Vec<u64> = records.iter().map(|record| record.seq).collect();
        assert_eq!(sequence, [4, 5, 2, 3]);
        assert_eq!(header.events, 6);
    }

    #[test]
    fn starts_and_faults_are_never_merged() {
        let mut header = RingHeader::new_zeroed();
        let mut records = std::vec![Record::default(); 4];
        let mut trail = Trail::new(&mut header, &mut records, u64::MAX);
        let fault = Key { kind: Kind::TaskFault, ..event(0) };
        trail.add(&fault, 0, |_| {});
        trail.add(&fault, 0, |_| {});
        assert_eq!(header.next_seq, 2);
    }
}
