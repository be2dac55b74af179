//! Words of messages: their ranges, and how their values are written.

use bulkhead_model::form;

use super::Values;

/// Whether a word of a message is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Presence {
    /// Always.
    #[default]
    Always,
    /// If the message's word `.0` is above `.1`; else it is zero.
    Above(usize, u8),
    /// It holds eight bytes of a text, from byte `.1` on; the message's word `.0` is the length, and what lies beyond is zero.
    Bytes(usize, u8),
}

/// What a word says of those that follow it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    /// How long the text is; `true` for bytes that are no text.
    Text(bool),
    /// How many elements the list has, each of so many words.
    List(usize),
    /// Whether the value is there.
    Optional,
}

/// A word of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// The values that fit.
    pub range: Values,
    /// How its values are written and compared.
    pub kind: Kind,
    /// Never recorded.
    pub is_secret: bool,
    /// Whether it is there.
    pub presence: Presence,
    /// What it says of those that follow.
    pub head: Option<Head>,
}

/// How values are written, and with which others they may be compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kind {
    /// The values of its type, as they travel.
    pub values: Values,
    /// What one of them is worth: `step.0` divided by ten to the power of `step.1`.
    pub step: (i128, u32),
    /// The unit's name; empty without one.
    pub unit: String,
    /// Words that stand for values from 0 on, where one has a word; for flags, of bits.
    pub words: Vec<String>,
    /// Its values are sets of flags.
    pub is_flags: bool,
}

/// Values of an expression.
pub const EVERY: Values = (i64::MIN as i128, u64::MAX as i128);

impl Kind {
    /// Whole numbers without a unit.
    #[must_use]
    pub const fn plain(values: Values) -> Self {
        Self { values, step: (1, 0), unit: String::new(), words: Vec::new(), is_flags: false }
    }

    /// False and true.
    #[must_use]
    pub fn truth() -> Self {
        Self { words: vec!["false".to_string(), "true".to_string()], ..Self::plain((0, 1)) }
    }

    /// A time, in microseconds.
    #[must_use]
    pub fn time() -> Self {
        Self { step: (1, 6), unit: "s".to_string(), ..Self::plain(EVERY) }
    }

    /// Whether values of both can be compared and added.
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        self.step == other.step && self.unit == other.unit && self.words == other.words
    }

    /// Whether it is false or true.
    #[must_use]
    pub fn is_truth(&self) -> bool {
        !self.is_flags && self.words.first().is_some_and(|word| word == "false")
    }

    /// A value as a person writes it.
    #[must_use]
    pub fn show(&self, value: i128) -> String {
        if self.is_flags {
            let set =
                self.words.iter().enumerate().filter(|(at, _)| value >> at & 1 == 1).map(|(_, word)| word.as_str());
            let set: Vec<&str> = set.collect();
            return if set.is_empty() { "0".to_string() } else { set.join(" | ") };
        }
        let word = usize::try_from(value).ok().and_then(|value| self.words.get(value));
        if let Some(word) = word.filter(|word| !word.is_empty()) {
            return word.clone();
        }
        let (step, decimals) = self.step;
        let unit = if self.unit.is_empty() { String::new() } else { format!(" {}", self.unit) };
        let Some(scaled) = value.checked_mul(step) else { return format!("{value}{unit}") };
        if decimals == 0 {
            return format!("{scaled}{unit}");
        }
        let power = 10_i128.pow(decimals);
        let sign = if scaled < 0 { "-" } else { "" };
        let (whole, rest) = (scaled.abs() / power, scaled.abs() % power);
        format!("{sign}{whole}.{rest:0>width$}{unit}", width = decimals as usize)
    }
}

impl Field {
    /// What it is called in a sentence: `speed`, `length of tag`, `tag from byte 8`.
    #[must_use]
    pub fn label(&self) -> String {
        match (self.head, self.presence, self.name.split_once('\'')) {
            (Some(Head::Text(_) | Head::List(_)), ..) => format!("length of {}", self.name),
            (_, Presence::Bytes(_, 0), Some((text, _))) => text.to_string(),
            (_, Presence::Bytes(_, first), Some((text, _))) => format!("{text} from byte {first}"),
            _ => self.name.clone(),
        }
    }

    /// A value as a person writes it; eight bytes of a text in quotes.
    #[must_use]
    pub fn show(&self, value: i128) -> String {
        if let Presence::Bytes(..) = self.presence {
            let bytes = u64::try_from(value).unwrap_or(0).to_be_bytes();
            let end = bytes.iter().rposition(|&byte| byte != 0 && byte != 0xff).map_or(0, |last| last + 1);
            return format!("\"{}\"", bytes.get(..end).unwrap_or_default().escape_ascii());
        }
        self.kind.show(value)
    }

    /// How its values are written by who has the table alone: one of [`form`], and its words. `None` for a plain number.
    #[must_use]
    pub fn form(&self) -> Option<(&'static str, String)> {
        let kind = &self.kind;
        Some(match self.head {
            Some(Head::Text(false)) => (form::TEXT, String::new()),
            Some(Head::Text(true)) => (form::BYTES, String::new()),
            Some(Head::List(width)) => (form::LIST, width.to_string()),
            Some(Head::Optional) => (form::OPTIONAL, String::new()),
            None if kind.is_flags => (form::FLAGS, kind.words.join(" ")),
            None if !kind.words.is_empty() => (form::WORDS, kind.words.join(" ")),
            None if kind.step != (1, 0) || !kind.unit.is_empty() => {
                (form::SCALED, format!("{} {} {}", kind.step.0, kind.step.1, kind.unit))
            }
            None => return None,
        })
    }

    /// Whether values are compared as signed numbers.
    #[must_use]
    pub const fn is_signed(&self) -> bool {
        self.kind.values.0 < 0
    }

    /// The value of a word as it travels.
    #[must_use]
    pub fn value(&self, word: u64) -> i128 {
        if self.is_signed() { word.cast_signed().into() } else { word.into() }
    }
}
