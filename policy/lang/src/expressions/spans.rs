//! `ADDRESS for COUNT in SET`: so many values from one on, all in the set, and within one range of it.

use super::{Scope, Typed};
use crate::check::Checker;
use crate::policy::{EVERY, Expression, Kind, Values};
use crate::tree::{self, Operator};

impl Checker<'_> {
    /// As ranges and sums: the first value in the set, no more values than its longest range has, and the last one in the range of the first.
    pub(super) fn span(
        &mut self,
        scope: Scope<'_>,
        first: &tree::Expression,
        count: &tree::Expression,
        set: &tree::Set,
    ) -> Typed {
        let (within, _) = self.within(scope, first, set)?;
        let (_, kind) = self.typed(scope, first, None)?;
        let Expression::Within(first_value, ranges) = within else {
            let help = "write ranges, or a set that `let` names: address for count in 100..199";
            self.error(first.span(), "a span lies in ranges of numbers", help);
            return None;
        };
        let (count_value, count_kind) = self.typed(scope, count, Some(&Kind::plain(EVERY)))?;
        for (kind, place) in [(kind, first.span()), (count_kind, count.span())] {
            if kind.step != (1, 0) || !kind.unit.is_empty() || !kind.words.is_empty() {
                self.error(place, "a span is of whole numbers", "name an argument without a unit, a step or words");
                return None;
            }
        }
        let and = |one, other| Expression::And(Box::new(one), Box::new(other));
        let last = Expression::Binary(Operator::Add, first_value.clone(), Box::new(count_value.clone()));
        let ends = |high: i128| {
            let end = Box::new(Expression::Number(high + 1));
            Expression::Binary(Operator::LessOrEqual, Box::new(last.clone()), end)
        };
        let inside = |&(low, high): &Values| match ranges.len() {
            1 => ends(high),
            _ => and(Expression::Within(first_value.clone(), vec![(low, high)]), ends(high)),
        };
        let any = ranges.iter().map(inside).reduce(|any, one| Expression::Or(Box::new(any), Box::new(one)))?;
        // What the set alone says of each comes first: it becomes tests of rows, and bounds what `prove` has to look at.
        let most = ranges.iter().map(|(low, high)| high - low + 1).max()?;
        let counted = Expression::Within(Box::new(count_value.clone()), vec![(1, most)]);
        let any = and(and(Expression::Within(first_value.clone(), ranges.clone()), counted), any);
        Some((any, Kind::truth()))
    }
}

#[cfg(test)]
mod tests {
    use bulkhead_model::Reason;

    use crate::tests::{Both, build};

    const SITE: &str = "edition 1\npolicy p\ninterface I {\n enum E { one }\n method m(a: u8, n: u8) -> ()\n method o(t: text max 4, e: E, v: u16 in 0.0..9.0 step 0.1 unit Hz, n: u8) -> ()\n}\n\
        app x\nservice s: I by x\nset known max 4\n";

    /// Every call of a byte for each: the monitor and the interpreter say what the sentence says.
    #[test]
    fn a_span_is_inside_if_each_of_its_values_is_and_all_are_in_one_range() {
        for (set, ranges) in [("10..20", vec![10..=20]), ("{ 0..3, 4, 9..12, 255 }", vec![0..=4, 9..=12, 255..=255])] {
            let compiled = build(&format!("{SITE}allow guest s.m when a for n in {set}\n")).unwrap();
            let mut both = Both::new(&compiled);
            for (first, count) in (0..=255).flat_map(|first| (0..=255).map(move |count| (first, count))) {
                let is_inside =
                    count > 0 && ranges.iter().any(|range| (first..first + count).all(|value| range.contains(&value)));
                let reason = both.ask("guest", "s.m", &[first, count]).0;
                assert_eq!(reason == Reason::Allowed, is_inside, "{first} for {count} in {set}: {reason:?}");
            }
        }
    }

    #[test]
    fn what_is_no_span_of_whole_numbers_is_refused_in_words() {
        for (wrong, message) in [
            ("s.m when a for n in known", "a span lies in ranges of numbers"),
            ("s.o when t for n in { \"a\" }", "expected"),
            ("s.o when e for n in 0..0", "a span is of whole numbers"),
            ("s.o when v for n in 0.0..1.0", "a span is of whole numbers"),
            ("s.o when n for v in 0..1", "a span is of whole numbers"),
            ("s.m when a for in 0..1", "expected"),
            ("s.m when a for n", "ADDRESS for COUNT in SET"),
            ("s.m when a for n in nowhere", "there is no set `nowhere`"),
        ] {
            let text = build(&format!("{SITE}allow guest {wrong}\n")).unwrap_err();
            assert!(text.contains(message) && text.contains("help: "), "{wrong}: {text}");
        }
    }
}
