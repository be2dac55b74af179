//! Tagged values in a bounded ring: the newest are kept.
#![no_std]
#![forbid(unsafe_code)]

include!(concat!(env!("OUT_DIR"), "/interfaces.rs"));

use historian::{AppendReply, CountReply, Error, QueryReply, Server};

/// How many values are kept.
pub const CAPACITY: usize = 1024;
/// One value, and whose it is.
#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    tag: u16,
    value: QueryReply,
}

/// The ring.
#[derive(Debug)]
pub struct History {
    entries: [Entry; CAPACITY],
    count: u64,
    seconds: fn() -> u64,
}

impl History {
    /// An empty one, and what tells the time.
    #[must_use]
    pub fn new(seconds: fn() -> u64) -> Self {
        Self { entries: [Entry::default(); CAPACITY], count: 0, seconds }
    }
}

impl Server for History {
    fn append(&mut self, tag: u16, value: i32) -> AppendReply {
        let index = self.count;
        if let Some(slot) = self.entries.get_mut(place(index)) {
            *slot = Entry { tag, value: QueryReply { index, value, seconds: (self.seconds)() } };
        }
        self.count += 1;
        AppendReply { index }
    }

    fn query(&mut self, tag: u16, newest: u16) -> Result<QueryReply, Error> {
        let oldest = self.count.saturating_sub(CAPACITY as u64);
        let kept = (oldest..self.count).rev().filter_map(|index| self.entries.get(place(index)));
        let found = kept.filter(|entry| entry.tag == tag).nth(newest.into());
        found.map(|entry| entry.value).ok_or(Error::NotFound)
    }

    fn count(&mut self) -> CountReply {
        CountReply { records: self.count }
    }
}

fn place(index: u64) -> usize {
    usize::try_from(index % CAPACITY as u64).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_values_of_a_tag_come_first_and_other_tags_are_not_seen() {
        let mut history = History::new(|| 7);
        for (index, (tag, value)) in (0..).zip([(1, 10), (2, 20), (1, -30)]) {
            assert_eq!(history.append(tag, value), AppendReply { index });
        }
        assert_eq!(history.query(1, 0), Ok(QueryReply { index: 2, value: -30, seconds: 7 }));
        assert_eq!(history.query(1, 1).map(|found| found.value), Ok(10));
        assert_eq!(history.query(1, 2), Err(Error::NotFound));
        assert_eq!(history.query(3, 0), Err(Error::NotFound));
    }

    #[test]
    fn it_forgets_the_oldest_and_never_grows() {
        let mut history = History::new(|| 0);
        for value in 0..3000 {
            history.append(7, value);
        }
        assert_eq!(history.count(), CountReply { records: 3000 });
        assert_eq!(history.query(7, 1023).map(|found| found.value), Ok(3000 - 1024));
        assert_eq!(history.query(7, 1024), Err(Error::NotFound));
    }
}
