//! The values of a line, as people write them, to the words of a call. Neighbour: `bulkhead_model::Values`, the way back.

use bulkhead_model::{Field, Policy, Step, form};
use bulkhead_wire::port::{ARGUMENTS, number};

/// How deep records stand in records at the most.
const DEPTH: usize = 6;

/// The names of a message's values, each with the place of its first word.
pub(crate) fn names<'a>(policy: &'a Policy<'a>, fields: &'a [Field]) -> impl Iterator<Item = (usize, &'a str)> {
    let mut last = "";
    fields.iter().enumerate().filter_map(move |(at, field)| {
        let name = policy.value_name(field);
        (core::mem::replace(&mut last, name) != name).then_some((at, name))
    })
}

/// The words of the value that begins at a field.
///
/// # Errors
/// What it is not.
pub(crate) fn read(
    policy: &Policy<'_>,
    fields: &[Field],
    (at, name): (usize, &str),
    text: &str,
    words: &mut [u64; ARGUMENTS],
) -> Result<(), &'static str> {
    let mut reader = Reader { policy, fields, rest: text, words };
    let mut at = at;
    reader.value(name, &mut at, DEPTH)?;
    if reader.rest.trim_start().is_empty() { Ok(()) } else { Err("value") }
}

struct Reader<'a, 'w> {
    policy: &'a Policy<'a>,
    fields: &'a [Field],
    rest: &'a str,
    words: &'w mut [u64; ARGUMENTS],
}

impl<'a> Reader<'a, '_> {
    fn skip(&mut self, mark: char) -> bool {
        let rest = self.rest.trim_start().strip_prefix(mark);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn put(&mut self, at: usize, word: u64) {
        if let Some(slot) = self.words.get_mut(at) {
            *slot = word;
        }
    }

    fn name(&self, at: usize) -> &'a str {
        self.fields.get(at).map(|field| self.policy.text(field.name)).unwrap_or_default()
    }

    /// What stands before a comma or a closing bracket.
    fn token(&mut self) -> &'a str {
        let text = self.rest.trim_start();
        let (token, rest) = text.split_at(text.find([',', ']', '}']).unwrap_or(text.len()));
        self.rest = rest;
        token.trim_end()
    }

    /// The value that has this path and begins at a word; moves on to the next one.
    fn value(&mut self, path: &str, at: &mut usize, depth: usize) -> Result<(), &'static str> {
        let part = |name: &'a str| {
            let rest = name.strip_prefix(path)?.strip_prefix('.')?;
            name.get(..path.len() + 1 + rest.find(['.', '[', '\'', ' ']).unwrap_or(rest.len()))
        };
        if depth == 0 || part(self.name(*at)).is_none() {
            return self.one(path, at, depth);
        }
        let mut mark = '{';
        while let Some(path) = part(self.name(*at)) {
            if !self.skip(mark) {
                return Err("record");
            }
            mark = ',';
            self.value(path, at, depth - 1)?;
        }
        if self.skip('}') { Ok(()) } else { Err("record") }
    }

    fn one(&mut self, path: &str, at: &mut usize, depth: usize) -> Result<(), &'static str> {
        let (first, behind) = (*at, self.policy.followers(self.fields, *at));
        *at += 1 + behind;
        let Some(field) = self.fields.get(first) else { return Err("value") };
        let (form, words) = self.policy.form(field);
        match form {
            form::TEXT | form::BYTES => self.text(first, behind, form == form::BYTES),
            form::LIST => self.list(first, behind, words.parse().unwrap_or(1), depth),
            form::OPTIONAL if depth > 0 => {
                let before = self.rest;
                if self.token() == "none" {
                    return Ok(());
                }
                self.rest = before;
                self.put(first, 1);
                self.value(path, &mut (first + 1), depth - 1)
            }
            _ => {
                let word = scalar(field, form, words, self.token())?;
                self.put(first, word);
                Ok(())
            }
        }
    }

    fn list(&mut self, first: usize, behind: usize, width: usize, depth: usize) -> Result<(), &'static str> {
        let (mut at, mut count) = (first + 1, 0);
        if !self.skip('[') || width == 0 || depth == 0 {
            return Err("list");
        }
        while !self.skip(']') {
            if count > 0 && !self.skip(',') || at > first + behind {
                return Err("list");
            }
            let name = self.name(at);
            let path = name.find(']').and_then(|end| name.get(..=end)).unwrap_or(name);
            let before = at;
            self.value(path, &mut at, depth - 1)?;
            // A number among guarded ones has none behind it; an element is so many words in any case.
            at = before + width;
            count += 1;
        }
        self.put(first, count);
        Ok(())
    }

    /// `"text"` with `\"`, `\\` and `\xff`, or a word without spaces; bytes as hexadecimal digits.
    fn text(&mut self, first: usize, chunks: usize, is_bytes: bool) -> Result<(), &'static str> {
        let what = if is_bytes { "bytes" } else { "text" };
        let is_quoted = self.skip('"');
        let mut rest = if is_quoted { self.rest } else { self.token() };
        let mut length = 0;
        loop {
            let byte = match rest.as_bytes() {
                [b'"', ..] if is_quoted => {
                    self.rest = rest.get(1..).unwrap_or_default();
                    break;
                }
                [] if is_quoted => return Err(what),
                [] => break,
                _ if is_bytes => take_hex(&mut rest, 0),
                [b'\\', b'x', ..] if is_quoted => take_hex(&mut rest, 2),
                [b'\\', byte @ (b'"' | b'\\'), ..] if is_quoted => {
                    rest = rest.get(2..).unwrap_or_default();
                    Some(*byte)
                }
                [b'\\', ..] if is_quoted => None,
                [byte, ..] => {
                    rest = rest.get(1..).unwrap_or_default();
                    Some(*byte)
                }
            };
            let (byte, chunk) = (byte.ok_or(what)?, length / 8);
            if chunk >= chunks {
                return Err(what);
            }
            if let Some(word) = self.words.get_mut(first + 1 + chunk) {
                *word |= u64::from(byte) << (56 - length % 8 * 8);
            }
            length += 1;
        }
        self.put(first, length as u64);
        Ok(())
    }
}

fn take_hex(rest: &mut &str, skip: usize) -> Option<u8> {
    let digits = rest.get(skip..skip + 2).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))?;
    *rest = rest.get(skip + 2..)?;
    u8::from_str_radix(digits, 16).ok()
}

/// A value of one word.
fn scalar(field: &Field, form: &str, words: &str, text: &str) -> Result<u64, &'static str> {
    let position = |wanted: &str| words.split(' ').zip(0_u64..).find(|(word, _)| *word == wanted).map(|(_, at)| at);
    let plain = || number(text, field.signed != 0).ok_or("number");
    match form {
        form::WORDS => position(text).map_or_else(|| plain().map_err(|_| "word"), Ok),
        form::FLAGS if text.starts_with(|c: char| c.is_ascii_digit()) => plain(),
        form::FLAGS => text.split('|').try_fold(0, |bits, word| {
            let bit = position(word.trim()).filter(|bit| *bit < 64).ok_or("flags")?;
            Ok(bits | 1 << bit)
        }),
        form::SCALED => scaled(field, text, words).ok_or("number"),
        _ => plain(),
    }
}

/// A decimal number in its unit, which must be a whole number of steps; where a step is one, also a hexadecimal number.
fn scaled(field: &Field, text: &str, step: &str) -> Option<u64> {
    let step = Step::parse(step)?;
    let text = text.strip_suffix(step.unit).unwrap_or(text).trim_end();
    if (step.digits, step.decimals) == (1, 0) && text.starts_with("0x") {
        return number(text, false);
    }
    let (sign, digits) = text.strip_prefix('-').map_or((1, text), |digits| (-1, digits));
    let (whole, rest) = digits.split_once('.').unwrap_or((digits, ""));
    let rest = rest.trim_end_matches('0');
    let decimals = u32::try_from(rest.len()).ok().filter(|count| *count <= step.decimals)?;
    let is_number = |digits: &str| digits.bytes().all(|digit| digit.is_ascii_digit());
    if whole.is_empty() || !is_number(whole) || !is_number(rest) {
        return None;
    }
    let whole = whole.parse::<i128>().ok()?.checked_mul(10_i128.pow(step.decimals))?;
    let rest = if rest.is_empty() { 0 } else { rest.parse::<i128>().ok()? * 10_i128.pow(step.decimals - decimals) };
    let all = whole.checked_add(rest)? * sign;
    let value = (step.digits != 0 && all % step.digits == 0).then(|| all / step.digits)?;
    if field.signed != 0 { i64::try_from(value).ok().map(i64::cast_unsigned) } else { value.try_into().ok() }
}
