//! The targets' work from a fixed seed, by the hundred thousand, on as many threads as the machine has.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::*;

/// A policy with most of the language in it.
const LARGE: &str = include_str!("../../../policy/examples/drive/site.policy");
const OTHERS: [&str; 5] = [
    include_str!("../../../policy/examples/bay/site.policy"),
    include_str!("../../../policy/examples/lights/site.policy"),
    include_str!("../../../policy/examples/login/site.policy"),
    include_str!("../../../policy/examples/messages/site.policy"),
    include_str!("../../../policy/examples/recipe/site.policy"),
];

/// Numbers by a linear congruence (Knuth, MMIX).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % limit
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| u8::try_from(self.below(256)).unwrap()).collect()
    }
}

/// Tells the other threads when one fails.
struct Watch<'a>(&'a AtomicBool);

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        self.0.fetch_or(thread::panicking(), Ordering::Relaxed);
    }
}

/// Runs the cases on all threads and adds up what they give.
fn sum(cases: usize, work: impl Fn(usize) -> usize + Sync) -> usize {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let has_failed = AtomicBool::new(false);
    let share = |first: usize| {
        let _watch = Watch(&has_failed);
        let mine = (first..cases).step_by(threads).take_while(|_| !has_failed.load(Ordering::Relaxed));
        mine.map(&work).sum::<usize>()
    };
    thread::scope(|scope| {
        let share = &share;
        let all: Vec<_> = (0..threads).map(|first| scope.spawn(move || share(first))).collect();
        all.into_iter().map(|thread| thread.join().unwrap()).sum()
    })
}

/// A piece is cut out, doubled, moved, or something is put in: bytes, or words of the language.
fn mutated(random: &mut Random, text: &[u8]) -> Vec<u8> {
    const WORDS: [&str; 24] = [
        "{",
        "}",
        "(",
        ")",
        "..",
        "-1",
        "18446744073709551616",
        "0x",
        "\"",
        "//",
        "when",
        "not ",
        "in",
        "per caller",
        "then count",
        "reply",
        "at most 1 per s",
        "text max 40",
        "list of u8 max 4",
        "\n",
        "\r",
        "\u{202e}",
        "\0",
        "never ",
    ];
    let mut text = text.to_vec();
    for _ in 0..=random.below(3) {
        let at = random.below(text.len());
        let end = (at + random.below(20)).min(text.len());
        match random.below(5) {
            0 => drop(text.drain(at..end)),
            1 => text[at] = random.bytes(1)[0],
            2 => {
                let piece = text[at..end].to_vec();
                let to = random.below(text.len());
                drop(text.splice(to..to, piece));
            }
            3 => {
                let word = WORDS[random.below(WORDS.len())].bytes();
                drop(text.splice(at..end, word));
            }
            _ => text[at] ^= 1 << random.below(8),
        }
        if text.is_empty() {
            break;
        }
    }
    text
}

#[test]
fn every_prefix_of_a_policy_is_compiled_or_refused() {
    let compiled: usize = [LARGE, OTHERS[0], OTHERS[3]]
        .into_iter()
        .map(|whole| {
            assert!(text(whole.as_bytes()), "it is sound as a whole");
            sum(whole.len(), |length| usize::from(text(&whole.as_bytes()[..length])))
        })
        .sum();
    assert!(compiled > 0, "some end after a statement");
}

#[test]
fn a_hundred_thousand_mutations_of_policies_are_compiled_or_refused() {
    let compiled = sum(100_000, |case| {
        let mut random = Random(case as u64);
        let whole = if case % 4 == 0 { OTHERS[case / 4 % OTHERS.len()] } else { LARGE };
        usize::from(text(&mutated(&mut random, whole.as_bytes())))
    });
    assert!(compiled > 5_000 && compiled < 95_000, "{compiled}: of both kinds");
}

#[test]
fn every_single_bit_flip_of_a_table_is_refused_or_harmless() {
    let whole = build(LARGE).unwrap().table;
    assert!(table(&whole));
    let taken = sum(whole.len() * 8, |bit| {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        usize::from(table(&bytes))
    });
    assert!(taken > 0 && taken < whole.len() * 8, "{taken}: a name may be another one, a place may not");
}

#[test]
fn a_hundred_thousand_mutations_of_tables_are_refused_or_harmless() {
    let tables: Vec<Vec<u8>> = OTHERS.iter().map(|text| build(text).unwrap().table).collect();
    let taken = sum(100_000, |case| {
        let mut random = Random(case as u64);
        let mut bytes = tables[case % tables.len()].clone();
        for _ in 0..=random.below(4) {
            let at = random.below(bytes.len());
            bytes[at] = [0, 1, 0x7f, 0xff, bytes[at].wrapping_add(1)][random.below(5)];
        }
        if random.below(8) == 0 {
            bytes.truncate(random.below(bytes.len()));
        }
        usize::from(table(&bytes))
    });
    assert!(taken > 1_000 && taken < 99_000, "{taken}: of both kinds");
}

#[test]
fn monitor_and_interpreter_agree_on_a_hundred_thousand_calls() {
    let calls = sum(6_000, |case| {
        let bytes = Random(case as u64 + 1_000_000).bytes(1000);
        policy_and_calls(&bytes).unwrap_or(0)
    });
    assert!(calls > 100_000, "{calls}");
}

#[test]
fn what_has_no_bytes_is_a_policy_too() {
    assert_eq!(policy_and_calls(&[]), Some(0));
    assert!(!table(&[]) && !text(&[]) && !text(&[0xff]));
}
