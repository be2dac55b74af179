//! Regular expressions over a text's bytes, for the whole text: to an automaton of one step a byte, which the monitor runs in
//! place (`bulkhead_model::code::Operation::Matches`), and as such for the interpreter, by another engine.

use std::collections::HashMap;

use bulkhead_model::code::CLASS_WORDS;
use regex_automata::dfa::{Automaton, StartKind, dense};
use regex_automata::nfa::thompson::{Config, WhichCaptures, pikevm::PikeVM};
use regex_automata::util::{primitives::StateID, start, syntax};
use regex_automata::{Anchored, Input};

/// The most steps of an automaton.
const STEPS: usize = 1 << 14;
/// The text may end after this step.
const ENDS: u32 = 1 << 31;

fn whole(pattern: &str) -> String {
    format!("(?:{pattern})\\z")
}

fn config() -> syntax::Config {
    syntax::Config::new().unicode(false).utf8(false).nest_limit(32)
}

/// Whether the pattern is one, and its automaton small enough.
pub(crate) fn check(pattern: &str) -> Result<(), String> {
    if !pattern.is_ascii() {
        return Err("write bytes that are not ASCII as \\xNN".to_string());
    }
    words(pattern).map(|_| ())
}

/// The automaton's words: bytes' classes and, if the empty text is one, bit 31; the class of each byte; the steps of each state,
/// the first state first.
pub(crate) fn words(pattern: &str) -> Result<Vec<u32>, String> {
    let first_line = |text: String| text.lines().last().unwrap_or_default().to_string();
    let built = dense::Builder::new()
        .configure(dense::Config::new().start_kind(StartKind::Anchored).minimize(true).dfa_size_limit(Some(1 << 22)))
        .syntax(config())
        .thompson(Config::new().utf8(false).nfa_size_limit(Some(1 << 20)))
        .build(&whole(pattern));
    let dfa = built.map_err(|error| {
        first_line(std::error::Error::source(&error).map_or(error.to_string(), ToString::to_string))
    })?;
    let begin = dfa.start_state(&start::Config::new().anchored(Anchored::Yes)).map_err(|error| error.to_string())?;
    let may_end = |state: StateID| if dfa.is_match_state(dfa.next_eoi_state(state)) { ENDS } else { 0 };
    let mut numbers = HashMap::from([(begin, 0_u32)]);
    let mut waiting = vec![begin];
    let mut rows: Vec<Vec<u32>> = Vec::new();
    while let Some(&state) = waiting.get(rows.len()) {
        if rows.len() * 256 > STEPS * 16 {
            return Err("its automaton is too large: make it shorter".to_string());
        }
        let mut row = Vec::new();
        for byte in 0..=u8::MAX {
            let next = dfa.next_state(state, byte);
            let known = u32::try_from(numbers.len()).unwrap_or(u32::MAX);
            let number = *numbers.entry(next).or_insert_with(|| {
                waiting.push(next);
                known
            });
            row.push(number | may_end(next));
        }
        rows.push(row);
    }
    let mut columns: Vec<Vec<u32>> = Vec::new();
    let mut classes = Vec::new();
    for byte in 0..256 {
        let column: Vec<u32> = rows.iter().filter_map(|row| row.get(byte).copied()).collect();
        let class = columns.iter().position(|known| *known == column).unwrap_or_else(|| {
            columns.push(column);
            columns.len() - 1
        });
        classes.push(u8::try_from(class).unwrap_or(u8::MAX));
    }
    if rows.len() * columns.len() > STEPS {
        return Err("its automaton is too large: make it shorter".to_string());
    }
    let mut all = vec![u32::try_from(columns.len()).unwrap_or(u32::MAX) | may_end(begin)];
    all.extend(
        classes.chunks_exact(4).map(|four| four.iter().rev().fold(0, |word, &class| word << 8 | u32::from(class))),
    );
    debug_assert_eq!(all.len(), 1 + CLASS_WORDS, "the monitor counts on it");
    for state in 0..rows.len() {
        all.extend(columns.iter().filter_map(|column| column.get(state).copied()));
    }
    Ok(all)
}

/// Whether a text is one of the pattern's, by an engine of its own.
pub(crate) fn is_match(pattern: &str, text: &[u8]) -> bool {
    let thompson = Config::new().utf8(false).which_captures(WhichCaptures::None);
    let engine = PikeVM::builder().syntax(config()).thompson(thompson).build(&whole(pattern));
    engine.is_ok_and(|engine| engine.is_match(&mut engine.create_cache(), Input::new(text).anchored(Anchored::Yes)))
}
