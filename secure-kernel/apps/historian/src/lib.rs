//! Tagged values in a bounded ring: the newest are kept.
#![no_std]
#![forbid(unsafe_code)]

/// Methods of the interface `Historian`.
pub mod method {
    /// `append(tag: u16, value: i32) -> (index: u64)`.
    pub const APPEND: u16 = 0;
    /// `query(tag: u16, newest: u16) -> (index: u64, value: i32, seconds: u64)`: the n-th newest value of a tag.
    pub const QUERY: u16 = 1;
    /// `count() -> (records: u64)`.
    pub const COUNT: u16 = 2;
}

/// How many values are kept.
pub const CAPACITY: usize = 1024;
/// The error code of a query that finds nothing.
pub const NOT_FOUND: u64 = 1;

/// One value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// Its number since the start.
    pub index: u64,
    /// Whose value it is.
    pub tag: u16,
    /// The value, sign-extended.
    pub value: u64,
    /// When it came.
    pub seconds: u64,
}

/// The ring.
#[derive(Debug)]
pub struct History {
    entries: [Entry; CAPACITY],
    count: u64,
}

impl Default for History {
    fn default() -> Self {
        Self::new()
    }
}

impl History {
    /// An empty one.
    #[must_use]
    pub const fn new() -> Self {
        Self { entries: [Entry { index: 0, tag: 0, value: 0, seconds: 0 }; CAPACITY], count: 0 }
    }

    /// Keeps a value; returns its number.
    pub fn append(&mut self, tag: u16, value: u64, seconds: u64) -> u64 {
        let index = self.count;
        if let Some(slot) = self.entries.get_mut(place(index)) {
            *slot = Entry { index, tag, value, seconds };
        }
        self.count += 1;
        index
    }

    /// The `newest`-th newest value of a tag, 0 for the last one.
    #[must_use]
    pub fn query(&self, tag: u16, newest: u64) -> Option<Entry> {
        let oldest = self.count.saturating_sub(CAPACITY as u64);
        let kept = (oldest..self.count).rev().filter_map(|index| self.entries.get(place(index)));
        kept.filter(|entry| entry.tag == tag).nth(usize::try_from(newest).ok()?).copied()
    }

    /// How many values ever came.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
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
        let mut history = History::new();
        history.append(1, 10, 0);
        history.append(2, 20, 1);
        history.append(1, 30, 2);
        assert_eq!(history.query(1, 0).map(|entry| (entry.index, entry.value)), Some((2, 30)));
        assert_eq!(history.query(1, 1).map(|entry| entry.value), Some(10));
        assert_eq!(history.query(1, 2), None);
        assert_eq!(history.query(3, 0), None);
    }

    #[test]
    fn it_forgets_the_oldest_and_never_grows() {
        let mut history = History::new();
        (0..3000_u64).for_each(|value| {
            history.append(7, value, 0);
        });
        assert_eq!(history.count(), 3000);
        assert_eq!(history.query(7, 1023).map(|entry| entry.value), Some(3000 - 1024));
        assert_eq!(history.query(7, 1024), None);
    }
}
