//! Tokens to statements. A statement that cannot be read is reported once and skipped.

mod calls;
mod expressions;
mod interfaces;
mod machine;
mod models;
mod rules;
mod states;

use crate::diagnostic::{Diagnostic, Span};
use crate::lexer::{MISTAKES, Placed, Token};
use crate::tree::{
    Call, Constant, Decision, Expression, Field, Import, Item, Name, Never, Number, Operator, Profile, Record,
    Register, Registers,
};

/// How deep expressions may nest.
const DEPTH: usize = 32;
/// How many operands and negations the expressions of a rule may have.
const TERMS: usize = 256;
/// The words that begin a statement.
pub(crate) const STATEMENTS: [&str; 33] = [
    "edition",
    "policy",
    "revision",
    "cost",
    "include",
    "import",
    "part",
    "interface",
    "app",
    "group",
    "exclusive",
    "lattice",
    "channel",
    "service",
    "device",
    "resource",
    "zone",
    "let",
    "counter",
    "flow",
    "timer",
    "rate",
    "set",
    "map",
    "grant",
    "profile",
    "allow",
    "deny",
    "on",
    "never",
    "require",
    "registers",
    "test",
];
/// Words that are never a unit, as they may follow a number.
const RESERVED: [&str; 38] = [
    "and",
    "or",
    "not",
    "implies",
    "in",
    "is",
    "between",
    "above",
    "below",
    "when",
    "except",
    "at",
    "within",
    "using",
    "then",
    "audit",
    "because",
    "as",
    "to",
    "from",
    "per",
    "burst",
    "max",
    "start",
    "lasts",
    "size",
    "interrupt",
    "by",
    "step",
    "unit",
    "of",
    "for",
    "has",
    "unless",
    "starts",
    "ends",
    "matches",
    "record",
];

type Parsed<T> = Result<T, Diagnostic>;

/// Reads all statements of a file.
pub(crate) fn items(tokens: &[Placed], errors: &mut Vec<Diagnostic>) -> Vec<Item> {
    let mut parser = Parser { tokens, at: 0, terms: 0 };
    let most = errors.len() + MISTAKES;
    let mut all = Vec::new();
    while parser.peek() != &Token::End {
        if parser.skip(";") {
            continue;
        }
        match parser.item() {
            Ok(item) => all.push(item),
            Err(_) if errors.len() >= most => break,
            Err(error) => {
                errors.push(error);
                parser.recover();
            }
        }
    }
    all
}

/// The files that a file names for inclusion.
pub(crate) fn includes(tokens: &[Placed]) -> Vec<String> {
    let named = |pair: &[Placed]| match pair {
        [Placed { token: Token::Word(word), .. }, Placed { token: Token::Text(file), .. }] if word == "include" => {
            Some(file.clone())
        }
        _ => None,
    };
    tokens.windows(2).filter_map(named).collect()
}

/// Reads one call: `SUBJECT -> OBJECT.METHOD(VALUES)`.
pub(crate) fn call(tokens: &[Placed]) -> Parsed<Call> {
    let mut parser = Parser { tokens, at: 0, terms: 0 };
    let call = parser.bare_call()?;
    if parser.peek() == &Token::End { Ok(call) } else { parser.error("the call ends here", "remove what follows") }
}

/// Reads the parameters of a part.
pub(crate) fn part(tokens: &[Placed]) -> Parsed<Vec<Field>> {
    let begins = |placed: &Placed| placed.starts_line && placed.token == Token::Word("part".to_string());
    let Some(at) = tokens.iter().position(begins) else {
        let span = tokens.first().map_or(Span::default(), |placed| placed.span);
        return Err(Diagnostic::error(
            span,
            "this file is no part",
            "begin it with `part NAME(PARAMETER: TYPE, …)`, or include it",
        ));
    };
    let mut parser = Parser { tokens, at: at + 1, terms: 0 };
    parser.name("the part's name")?;
    parser.fields("(", ")")
}

/// Reads one register: a line of a table.
pub(crate) fn register(tokens: &[Placed]) -> Parsed<Register> {
    let mut parser = Parser { tokens, at: 0, terms: 0 };
    let register = parser.register()?;
    if parser.peek() == &Token::End {
        Ok(register)
    } else {
        parser.error("the register ends here", "remove what follows")
    }
}

struct Parser<'a> {
    tokens: &'a [Placed],
    at: usize,
    /// Operands in the rule at hand.
    terms: usize,
}

impl Parser<'_> {
    fn peek(&self) -> &Token {
        self.tokens.get(self.at).map_or(&Token::End, |placed| &placed.token)
    }

    fn span(&self) -> Span {
        self.tokens.get(self.at).or(self.tokens.last()).map_or(Span::default(), |placed| placed.span)
    }

    fn last_span(&self) -> Span {
        self.tokens.get(self.at.saturating_sub(1)).map_or(Span::default(), |placed| placed.span)
    }

    /// Moves on to the next line that begins with a statement's word; at least by one token.
    fn recover(&mut self) {
        self.at += 1;
        while let Some(placed) = self.tokens.get(self.at) {
            let is_statement =
                matches!(&placed.token, Token::Word(word) if placed.starts_line && STATEMENTS.contains(&word.as_str()));
            if is_statement || placed.token == Token::End {
                return;
            }
            self.at += 1;
        }
    }

    fn skip(&mut self, mark: &str) -> bool {
        let is_there = matches!(self.peek(), Token::Mark(found) if *found == mark);
        self.at += usize::from(is_there);
        is_there
    }

    fn skip_word(&mut self, word: &str) -> bool {
        let is_there = matches!(self.peek(), Token::Word(found) if found == word);
        self.at += usize::from(is_there);
        is_there
    }

    fn skip_words(&mut self, words: &[&str]) -> bool {
        let next = self.tokens.iter().skip(self.at).map(|placed| &placed.token);
        let are_there = next.zip(words).filter(|(token, word)| matches!(token, Token::Word(found) if found == *word));
        let are_there = are_there.count() == words.len();
        self.at += if are_there { words.len() } else { 0 };
        are_there
    }

    /// One or more, with commas between.
    fn list<T>(&mut self, one: impl Fn(&mut Self) -> Parsed<T>) -> Parsed<Vec<T>> {
        let mut all = vec![one(self)?];
        while self.skip(",") {
            all.push(one(self)?);
        }
        Ok(all)
    }

    fn error<T>(&self, message: &str, help: &str) -> Parsed<T> {
        Err(Diagnostic::error(self.span(), message, help))
    }

    fn expect(&mut self, mark: &str, help: &str) -> Parsed<()> {
        if self.skip(mark) { Ok(()) } else { self.error(&format!("expected `{mark}`"), help) }
    }

    fn expect_word(&mut self, word: &str, help: &str) -> Parsed<()> {
        if self.skip_word(word) { Ok(()) } else { self.error(&format!("expected `{word}`"), help) }
    }

    fn name(&mut self, what: &str) -> Parsed<Name> {
        match self.peek() {
            Token::Word(text) if text.starts_with('$') => self.error(
                &format!("`{text}` stands outside a part"),
                "parameters are used in files that begin with `part`",
            ),
            Token::Word(text) => {
                let name = Name { text: text.clone(), span: self.span() };
                self.at += 1;
                Ok(name)
            }
            _ => self.error(&format!("expected {what}"), "write a name: letters, digits, underscores"),
        }
    }

    /// A whole number without a unit.
    fn whole(&mut self, what: &str) -> Parsed<i128> {
        match *self.peek() {
            Token::Number(value, 0) => {
                self.at += 1;
                Ok(value)
            }
            _ => self.error(&format!("expected {what}"), "write a whole number"),
        }
    }

    fn text(&mut self, what: &str) -> Parsed<String> {
        match self.peek() {
            Token::Text(text) => {
                let text = text.clone();
                self.at += 1;
                Ok(text)
            }
            _ => self.error(&format!("expected {what}"), "write it in quotes: \"…\""),
        }
    }

    fn item(&mut self) -> Parsed<Item> {
        let start = self.span();
        let word = match self.peek() {
            Token::Word(word) => word.clone(),
            _ => {
                return self
                    .error("expected a statement", "statements begin with allow, deny, interface, app, service, …");
            }
        };
        self.at += 1;
        match word.as_str() {
            "edition" => Ok(Item::Edition(self.whole("the edition")?, start)),
            "policy" => Ok(Item::Policy(self.name("the policy's name")?)),
            "revision" => Ok(Item::Revision(self.whole("the revision")?, start)),
            "cost" => self.cost(start),
            "include" => Ok(Item::Include(self.text("a file's name")?, start)),
            "import" => self.import(start),
            "part" => {
                self.name("the part's name")?;
                self.fields("(", ")").map(|_| Item::Part)
            }
            "interface" => self.interface().map(Item::Interface),
            "app" => Ok(Item::App(self.name("the app's name")?, self.joined()?)),
            "service" => self.service(),
            "device" => self.device(),
            "resource" => self.resource(),
            "zone" => self.zone(start),
            "let" => self.set_definition(),
            "group" => self.group(start).map(Item::Group),
            "exclusive" => self.exclusive(),
            "channel" => self.channel(start).map(Item::Channel),
            "lattice" => self.lattice(start).map(Item::Lattice),
            "counter" | "flow" | "timer" | "rate" | "set" | "map" | "grant" => {
                self.state(&word, start).map(Item::State)
            }
            "registers" => self.registers().map(Item::Registers),
            "profile" => self.profile().map(Item::Profile),
            "require" => self.requirement(start).map(Item::Require),
            "never" => self.never(start).map(Item::Never),
            "test" => self.test(start).map(Item::Test),
            "allow" => self.rule(Decision::Allow, start).map(|rule| Item::Rule(Box::new(rule))),
            "deny" => self.rule(Decision::Deny, start).map(|rule| Item::Rule(Box::new(rule))),
            "on" => self.rule(Decision::Observe, start).map(|rule| Item::Rule(Box::new(rule))),
            _ => {
                self.at -= 1;
                let near = crate::diagnostic::nearest(&word, STATEMENTS);
                let help = near
                    .map_or("statements begin with allow, deny, interface, app, service, …".to_string(), |near| {
                        format!("did you mean `{near}`?")
                    });
                self.error(&format!("`{word}` begins no statement"), &help)
            }
        }
    }

    fn import(&mut self, start: Span) -> Parsed<Item> {
        const FORM: &str = "import \"FILE\" as NAME with PARAMETER = VALUE, …";
        let file = self.text("a part's file name")?;
        self.expect_word("as", FORM)?;
        let name = self.name("a name for what it declares")?;
        let mut arguments = Vec::new();
        if self.skip_word("with") {
            arguments = self.list(|parser| {
                let name = parser.name("a parameter")?;
                parser.expect("=", FORM)?;
                let first = parser.at;
                let value = parser.constant()?;
                let tokens = parser.tokens.get(first..parser.at).unwrap_or_default();
                Ok((name, value, tokens.iter().map(|placed| placed.token.clone()).collect()))
            })?;
        }
        Ok(Item::Import(Import { file, name, arguments, span: start.to(self.last_span()) }))
    }

    fn never(&mut self, start: Span) -> Parsed<Never> {
        if self.skip_word("when") {
            self.terms = 0;
            let condition = self.expression(0)?;
            return Ok(Never::State(condition, start.to(self.last_span())));
        }
        let mut rule = self.rule(Decision::Deny, start)?;
        let mut before = Vec::new();
        if self.skip_word("unless") {
            before = self.list(Self::target)?;
            if !self.skip_words(&["came", "before"]) {
                return self
                    .error("expected `came before`", "never SUBJECT OBJECT.METHOD unless OBJECT.METHOD came before");
            }
            rule.span = start.to(self.last_span());
        }
        Ok(Never::Call(Box::new(rule), before))
    }

    fn registers(&mut self) -> Parsed<Registers> {
        const FORM: &str =
            "registers NAME via OBJECT.METHOD(REGISTER, VALUE) { speed 40001 in 0..50 }, or … from \"FILE.csv\"";
        let name = self.name("the table's name")?;
        self.expect_word("via", FORM)?;
        let object = self.name("a service")?;
        self.expect(".", FORM)?;
        let method = self.name("a method")?;
        self.expect("(", FORM)?;
        let arguments = self.list(|parser| parser.name("an argument of the method"))?;
        self.expect(")", FORM)?;
        let mut table = Registers { name, object, method, arguments, rows: Vec::new(), file: None };
        if self.skip_word("from") {
            let span = self.span();
            table.file = Some((self.text("a file's name")?, span));
            return Ok(table);
        }
        self.expect("{", FORM)?;
        while !self.skip("}") {
            if !self.skip(";") {
                table.rows.push(self.register()?);
            }
        }
        Ok(table)
    }

    fn profile(&mut self) -> Parsed<Profile> {
        let name = self.name("the profile's name")?;
        let targets = if self.skip_word("for") { self.list(Self::target)? } else { Vec::new() };
        self.expect("{", "profile NAME { record allowed when CONDITION }")?;
        let mut profile = Profile { name, targets, allowed: None, denied: None, only: None };
        while !self.skip("}") {
            if !self.skip(";") {
                self.record(&mut profile)?;
            }
        }
        Ok(profile)
    }

    /// A line of a profile.
    fn record(&mut self, profile: &mut Profile) -> Parsed<()> {
        const FORM: &str = "record allowed when CONDITION; record 1 in 10 denied; record only ARGUMENT, ARGUMENT";
        let start = self.span();
        self.expect_word("record", FORM)?;
        let is_again = if self.skip_word("only") {
            profile.only.replace(self.list(|parser| parser.name("an argument"))?).is_some()
        } else {
            let sample = match self.peek() {
                Token::Number(1, 0) => {
                    self.at += 1;
                    self.expect_word("in", FORM)?;
                    self.whole("one in how many")?
                }
                _ => 1,
            };
            let kind = self.span();
            let what = self.name("allowed, denied or only")?.text;
            let which = match what.as_str() {
                "allowed" => &mut profile.allowed,
                "denied" => &mut profile.denied,
                "refused" | "no" | "malformed" | "failed" | "too" => {
                    let help = "a profile is about what a rule allows or denies; leave this line out";
                    return Err(Diagnostic::error(kind, "what no rule decides is always recorded", help));
                }
                _ => return Err(Diagnostic::error(kind, format!("`{what}` is nothing that is recorded"), FORM)),
            };
            self.terms = 0;
            let condition = if self.skip_word("when") { Some(self.expression(0)?) } else { None };
            which.replace(Record { sample, condition, span: start.to(self.last_span()) }).is_some()
        };
        if is_again {
            return Err(Diagnostic::error(start, "this profile says it twice", "join conditions by `and`"));
        }
        Ok(())
    }

    /// `speed 40001 in 0.00..50.00 step 0.01 unit Hz`
    pub(crate) fn register(&mut self) -> Parsed<Register> {
        let name = self.name("a register's name, or }")?;
        let numbers = self.constant_range()?;
        let range = if self.skip_word("in") { Some(self.constant_range()?) } else { None };
        let step = if self.skip_word("step") { Some(self.quantity()?) } else { None };
        let unit = if self.skip_word("unit") { Some(self.name("a unit's name")?) } else { None };
        Ok(Register { name, numbers, range, step, unit })
    }

    fn signed(&mut self) -> Parsed<Number> {
        let start = self.span();
        let is_negative = self.skip("-");
        let mut number = self.quantity()?;
        if is_negative {
            (number.digits, number.span) = (-number.digits, start.to(number.span));
        }
        Ok(number)
    }

    /// `cost at most 64 steps`
    fn cost(&mut self, start: Span) -> Parsed<Item> {
        const FORM: &str = "cost at most 64 steps";
        self.expect_word("at", FORM)?;
        self.expect_word("most", FORM)?;
        let bound = self.whole("a number of steps")?;
        self.expect_word("steps", FORM)?;
        Ok(Item::Cost(bound, start.to(self.last_span())))
    }

    /// `zone UTC`, `zone UTC + 1 h`
    fn zone(&mut self, start: Span) -> Parsed<Item> {
        self.expect_word("UTC", "zone UTC, zone UTC + 1 h, zone UTC - 3.5 h")?;
        let is_behind = self.skip("-");
        if !is_behind && !self.skip("+") {
            return Ok(Item::Zone(None, start.to(self.last_span())));
        }
        let mut ahead = self.quantity()?;
        ahead.digits = if is_behind { -ahead.digits } else { ahead.digits };
        Ok(Item::Zone(Some(ahead), start.to(self.last_span())))
    }

    fn set_definition(&mut self) -> Parsed<Item> {
        let name = self.name("the set's name")?;
        self.expect("=", "let NAME = 1..5, or let NAME = { 1, 4..7 }")?;
        Ok(Item::Let(name, self.ranges()?))
    }

    fn ranges(&mut self) -> Parsed<Vec<(Constant, Constant)>> {
        if !self.skip("{") {
            return Ok(vec![self.constant_range()?]);
        }
        let mut all = vec![self.constant_range()?];
        while self.skip(",") {
            all.push(self.constant_range()?);
        }
        self.expect("}", "a set is { A, B..C, … }")?;
        Ok(all)
    }

    fn constant_range(&mut self) -> Parsed<(Constant, Constant)> {
        let low = self.constant()?;
        let high = if self.skip("..") { self.constant()? } else { low.clone() };
        Ok((low, high))
    }

    fn constant(&mut self) -> Parsed<Constant> {
        match self.peek() {
            Token::Number(..) | Token::Mark("-") => self.signed().map(Constant::Number),
            Token::Word(_) => self.name("a constant").map(Constant::Word),
            _ => self.error("expected a constant", "write a number, true, false or an enumeration's word"),
        }
    }

    /// A number with its unit, if a unit's name follows on the same line.
    fn quantity(&mut self) -> Parsed<Number> {
        let span = self.span();
        let Token::Number(digits, decimals) = *self.peek() else {
            return self.error("expected a number", "write a number");
        };
        self.at += 1;
        let unit = match self.tokens.get(self.at) {
            Some(Placed { token: Token::Word(word), starts_line: false, span })
                if !RESERVED.contains(&word.as_str()) =>
            {
                Some(Name { text: word.clone(), span: *span })
            }
            _ => None,
        };
        self.at += usize::from(unit.is_some());
        Ok(Number { digits, decimals, unit, span: span.to(self.last_span()) })
    }
}

fn joined(before: Option<Expression>, next: Expression) -> Expression {
    match before {
        Some(before) => expressions::binary(Operator::And, before, next),
        None => next,
    }
}
