//! The graph as SVG, for browsers and for the report: callers at the left, what they call at the right, the methods between them; below it
//! a chart for each flow. The same policy gives the same picture.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use bulkhead_lang::policy::Policy;

use crate::graph::{Calls, Chart, calls, charts};

/// Pixels: a line of text, a letter, and what is left free around and between.
const LINE: usize = 18;
const LETTER: usize = 8;
const GAP: usize = 10;
/// Between two columns, or two states.
const AISLE: usize = 90;
/// From a letter's middle down to the line that it stands on.
const FOOT: usize = 4;

const STYLE: &str = "text{font:13px monospace}.c{text-anchor:middle}.s,.p{fill:none;stroke:#333}.s{fill:#f6f6f6}\
.some{stroke-dasharray:6 4}.late{stroke-dasharray:2 4}";

fn width(text: &str) -> usize {
    text.chars().count() * LETTER + 2 * GAP
}

fn widest<'t>(texts: impl Iterator<Item = &'t str>) -> usize {
    texts.map(width).max().unwrap_or(0)
}

/// What is drawn, and how far it reaches.
#[derive(Default)]
struct Canvas {
    shapes: String,
    right: usize,
    bottom: usize,
}

impl Canvas {
    /// A box (`round` 4) or an oval (`round` half its height) with a name.
    fn shape(&mut self, (x, y): (usize, usize), wide: usize, round: usize, name: &str) {
        let (top, middle, foot, tall) = (y.saturating_sub(LINE * 3 / 4), x + wide / 2, y + FOOT, LINE * 3 / 2);
        let _ = writeln!(
            self.shapes,
            "<rect class=\"s\" x=\"{x}\" y=\"{top}\" width=\"{wide}\" height=\"{tall}\" rx=\"{round}\"/>\
             <text class=\"c\" x=\"{middle}\" y=\"{foot}\">{name}</text>"
        );
        (self.right, self.bottom) = (self.right.max(x + wide + GAP), self.bottom.max(y + LINE + GAP));
    }

    fn path(&mut self, path: &str, class: &str, has_arrow: bool) {
        let arrow = if has_arrow { " marker-end=\"url(#a)\"" } else { "" };
        let _ = writeln!(self.shapes, "<path class=\"p{class}\" d=\"{path}\"{arrow}/>");
    }

    fn text(&mut self, (x, y): (usize, usize), class: &str, text: &str) {
        let foot = y + FOOT;
        let _ = writeln!(self.shapes, "<text{class} x=\"{x}\" y=\"{foot}\">{text}</text>");
    }
}

/// The whole picture, as a file.
pub(crate) fn file(policy: &Policy) -> String {
    svg(policy).replacen("<svg ", "<svg xmlns=\"http://www.w3.org/2000/svg\" ", 1)
}

/// The whole picture, as a part of a page.
pub(crate) fn svg(policy: &Policy) -> String {
    let mut canvas = Canvas { bottom: GAP, ..Canvas::default() };
    matrix(&mut canvas, &calls(policy));
    charts(policy).for_each(|flow| chart(&mut canvas, &flow));
    let Canvas { shapes, right, bottom } = canvas;
    format!(
        "<svg width=\"{right}\" height=\"{bottom}\" viewBox=\"0 0 {right} {bottom}\">\n<style>{STYLE}</style>\n\
         <defs><marker id=\"a\" viewBox=\"0 0 10 8\" refX=\"10\" refY=\"4\" markerWidth=\"10\" markerHeight=\"8\" orient=\"auto\">\
         <path d=\"M0 0 10 4 0 8z\" fill=\"#333\"/></marker></defs>\n{shapes}</svg>\n"
    )
}

/// Who may call what: each caller stands in the middle of its calls, each object as near to its own as those above it allow.
fn matrix(canvas: &mut Canvas, calls: &[Calls<'_>]) {
    let subject_wide = widest(calls.iter().map(|calls| calls.subject));
    let methods_at = GAP + subject_wide + AISLE;
    let methods_wide = widest(calls.iter().flat_map(|calls| &calls.methods).map(String::as_str));
    let object_at = methods_at + methods_wide + AISLE;
    let object_wide = widest(calls.iter().map(|calls| calls.object));
    // Where each of them is: all rows' middles, to be averaged.
    let (mut subjects, mut objects) = (BTreeMap::<&str, Vec<usize>>::new(), BTreeMap::<&str, Vec<usize>>::new());
    let mut middles = Vec::new();
    let mut top = canvas.bottom;
    for Calls { subject, object, methods, .. } in calls {
        let tall = methods.len().max(2) * LINE + GAP;
        let middle = top + tall / 2;
        subjects.entry(subject).or_default().push(middle);
        objects.entry(object).or_default().push(middle);
        middles.push(middle);
        top += tall;
    }
    let mean = |all: &Vec<usize>| all.iter().sum::<usize>() / all.len().max(1);
    let subjects: BTreeMap<&str, usize> = subjects.iter().map(|(name, all)| (*name, mean(all))).collect();
    let mut wanted: Vec<(usize, &str)> = objects.iter().map(|(name, all)| (mean(all), *name)).collect();
    wanted.sort_unstable();
    let mut free = 0;
    let objects: BTreeMap<&str, usize> = wanted
        .into_iter()
        .map(|(y, name)| {
            let y = y.max(free);
            free = y + 2 * LINE;
            (name, y)
        })
        .collect();
    for (Calls { subject, object, methods, is_free }, &middle) in calls.iter().zip(&middles) {
        let class = if *is_free { "" } else { " some" };
        let (from, to) = (subjects.get(subject).copied().unwrap_or(0), objects.get(object).copied().unwrap_or(0));
        let mut bend = |x: usize, y: usize, end: usize, end_y: usize, has_arrow: bool| {
            let half = (end - x) / 2 + x;
            canvas.path(&format!("M{x} {y}C{half} {y} {half} {end_y} {end} {end_y}"), class, has_arrow);
        };
        bend(GAP + subject_wide, from, methods_at, middle, false);
        bend(methods_at + methods_wide, middle, object_at, to, true);
        let first = middle + LINE / 2 - methods.len() * LINE / 2;
        for (line, method) in methods.iter().enumerate() {
            canvas.text((methods_at + GAP, first + line * LINE), "", method);
        }
    }
    subjects.iter().for_each(|(name, y)| canvas.shape((GAP, *y), subject_wide, 4, name));
    objects.iter().for_each(|(name, y)| canvas.shape((object_at, *y), object_wide, LINE * 3 / 4, name));
    canvas.bottom = canvas.bottom.max(top + GAP);
}

/// A flow's states in a row, the first one in a box; steps to the next are straight, others bend above (forwards) or below (back).
fn chart(canvas: &mut Canvas, Chart { name, states, steps }: &Chart<'_>) {
    let is_straight = |from: usize, to: usize, after: Option<u64>| to == from + 1 && after.is_none();
    let height = |from: usize, to: usize| LINE + LINE * from.abs_diff(to);
    let reach = |is_above: bool| {
        let bent = steps.iter().filter(|(from, to, after)| !is_straight(*from, *to, *after) && (to > from) == is_above);
        bent.map(|(from, to, _)| height(*from, *to) + LINE).max().unwrap_or(0)
    };
    canvas.text((GAP, canvas.bottom + LINE), "", &format!("flow {name}"));
    let y = canvas.bottom + 3 * LINE + reach(true);
    let mut at = GAP;
    let places: Vec<(usize, usize)> = states
        .iter()
        .map(|state| {
            let place = (at, width(state));
            at += width(state) + AISLE;
            place
        })
        .collect();
    for &(from, to, after) in steps {
        let (Some(&(start, start_wide)), Some(&(end, end_wide))) = (places.get(from), places.get(to)) else { continue };
        let class = if after.is_some() { " late" } else { "" };
        if is_straight(from, to, after) {
            canvas.path(&format!("M{} {y}L{end} {y}", start + start_wide), class, true);
            continue;
        }
        // Beginnings and ends of steps stand apart.
        let (x, end_x) = (start + start_wide * 2 / 3, end + end_wide / 3);
        let (edge, top) = if to > from {
            (y - LINE * 3 / 4, (y - LINE * 3 / 4).saturating_sub(height(from, to)))
        } else {
            (y + LINE * 3 / 4, y + LINE * 3 / 4 + height(from, to))
        };
        canvas.path(&format!("M{x} {edge}C{x} {top} {end_x} {top} {end_x} {edge}"), class, true);
        if let Some(seconds) = after {
            canvas.text(
                (usize::midpoint(x, end_x), usize::midpoint(edge, top)),
                " class=\"c\"",
                &format!("after {seconds} s"),
            );
        }
    }
    for (number, (state, &(x, wide))) in states.iter().zip(&places).enumerate() {
        canvas.shape((x, y), wide, if number == 0 { 4 } else { LINE * 3 / 4 }, state);
    }
    canvas.bottom = canvas.bottom.max(y + LINE + GAP + reach(false));
}
