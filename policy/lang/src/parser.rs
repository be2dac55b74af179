//! Tokens to statements. A statement that cannot be read is reported once and skipped.

mod expressions;
mod models;

use crate::diagnostic::{Diagnostic, Span};
use crate::lexer::{MISTAKES, Placed, Token};
use crate::tree::{
    Call, Constant, Decision, Effect, Event, Expected, Expression, Field, FlowLine, Import, Interface, Item, Key,
    Limit, Literal, Method, Name, Never, Number, Operator, Profile, Range, Reason, Record, Register, Registers, Rule,
    Shape, Space, State, StateKind, Step, Targets, Test, Way,
};

/// How deep expressions may nest.
const DEPTH: usize = 32;
/// How many operands and negations the expressions of a rule may have.
const TERMS: usize = 256;
/// The words that begin a statement.
pub(crate) const STATEMENTS: [&str; 31] = [
    "edition",
    "policy",
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

    /// What is remembered: `KIND NAME`, `per` what, and what is particular to the kind, in any order.
    fn state(&mut self, kind: &str, start: Span) -> Parsed<State> {
        let name = self.name("its name")?;
        let mut keys = if self.skip_word("per") { self.list(Self::key)? } else { Vec::new() };
        let kind = match kind {
            "flow" => StateKind::Flow(self.flow()?),
            "timer" => StateKind::Timer,
            "counter" => {
                self.expect_word("in", "counter NAME in 0..5")?;
                let range = self.constant_range()?;
                let start = if self.skip_word("start") { Some(self.signed()?) } else { None };
                StateKind::Counter { range, start }
            }
            "rate" => {
                let start = self.span();
                self.expect_word("at", "rate NAME at most 10 per min")?;
                StateKind::Rate(self.limit(start)?)
            }
            "grant" => {
                self.expect_word("lasts", "grant NAME lasts 10 min")?;
                StateKind::Grant(self.quantity()?)
            }
            _ => {
                self.expect_word("max", "say how many it holds at the most: max 16")?;
                let most = self.whole("how many it holds at the most")?;
                if kind == "set" { StateKind::Set(most) } else { StateKind::Map(most) }
            }
        };
        if self.skip_word("per") {
            keys.extend(self.list(Self::key)?);
        }
        Ok(State { name, kind, keys, span: start.to(self.last_span()) })
    }

    fn key(&mut self) -> Parsed<Key> {
        let span = self.span();
        if self.skip_word("caller") {
            return Ok(Key::Caller(span));
        }
        let name = self.name("what there is one for: caller, or NAME in A..B")?;
        self.expect_word("in", "say which: per unit in 1..8")?;
        Ok(Key::Values(name, Box::new(self.constant_range()?)))
    }

    fn flow(&mut self) -> Parsed<Vec<FlowLine>> {
        const FORM: &str = "a flow's lines are: STATE -> STATE, STATE; STATE holds VALUE; STATE lasts 30 s -> STATE";
        self.expect("{", "flow NAME { idle -> busy  busy -> idle }")?;
        let mut lines = Vec::new();
        loop {
            if self.skip("}") {
                return Ok(lines);
            }
            if self.skip(";") {
                continue;
            }
            let state = self.name("a state's name, or }")?;
            lines.push(if self.skip("->") {
                FlowLine::Steps(state, self.list(|parser| parser.name("a state"))?)
            } else if self.skip_word("holds") {
                FlowLine::Holds(state, self.list(|parser| parser.name("a value's name"))?)
            } else if self.skip_word("lasts") {
                let time = self.quantity()?;
                self.expect("->", FORM)?;
                FlowLine::Lasts(state, time, self.name("the state that follows")?)
            } else {
                return self.error("expected `->`, `holds` or `lasts`", FORM);
            });
        }
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

    fn service(&mut self) -> Parsed<Item> {
        const FORM: &str = "service NAME: INTERFACE by APP";
        let name = self.name("the service's name")?;
        self.expect(":", FORM)?;
        let interface = self.name("an interface's name")?;
        self.expect_word("by", FORM)?;
        Ok(Item::Service(name, interface, self.name("an app's name")?, self.joined()?))
    }

    fn device(&mut self) -> Parsed<Item> {
        const FORM: &str = "device NAME: at ADDRESS size BYTES interrupt INTID by APP, or \
            device NAME: pci BUS:DEVICE.FUNCTION ports FIRST size COUNT interrupt LINE or PIN by APP";
        let range = self.range(&[("at", Space::Memory), ("pci", Space::Ports)], FORM)?;
        self.expect_word("by", FORM)?;
        Ok(Item::Device(range, self.name("an app's name")?, self.joined()?))
    }

    fn resource(&mut self) -> Parsed<Item> {
        const FORM: &str = "resource NAME: mmio ADDRESS size BYTES, … ports FIRST size COUNT, or … msr FIRST size COUNT; \
            then `read only`, `interrupt NUMBER`";
        let spaces = [Space::Memory, Space::Ports, Space::Registers].map(|space| (space.word(), space));
        self.range(&spaces, FORM).map(Item::Resource)
    }

    fn range(&mut self, words: &[(&str, Space)], form: &str) -> Parsed<Range> {
        let name = self.name("its name")?;
        self.expect(":", form)?;
        let start = self.span();
        let Some(&(word, space)) = words.iter().find(|(word, _)| self.skip_word(word)) else {
            let known: Vec<String> = words.iter().map(|(word, _)| format!("`{word}`")).collect();
            return self.error(&format!("expected {}", known.join(" or ")), form);
        };
        let function = if word == "pci" { Some(self.function(form)?) } else { None };
        let base = self.whole("the first address or number")?;
        self.expect_word("size", form)?;
        let size = self.whole("a length")?;
        let is_read_only = self.skip_words(&["read", "only"]);
        let interrupt = if self.skip_word("interrupt") { Some(self.whole("an interrupt's number")?) } else { None };
        let has_pin = function.is_some() && interrupt.is_some() && self.skip_word("or");
        let pin = if has_pin { Some(self.whole("an interrupt's number")?) } else { None };
        let span = start.to(self.last_span());
        Ok(Range { name, space, base, size, is_read_only, interrupt, pin, function, span })
    }

    /// `0:30.0 ports`: a number with one digit after its point is a device and its function.
    fn function(&mut self, form: &str) -> Parsed<[i128; 3]> {
        let bus = self.whole("a PCI bus")?;
        self.expect(":", form)?;
        let Token::Number(digits, 1) = *self.peek() else {
            return self.error("expected a PCI device and its function", form);
        };
        self.at += 1;
        self.expect_word("ports", form)?;
        Ok([bus, digits / 10, digits % 10])
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

    fn interface(&mut self) -> Parsed<Interface> {
        let name = self.name("the interface's name")?;
        self.expect("{", "interface NAME { method … }")?;
        let (enums, flags, records) = (Vec::new(), Vec::new(), Vec::new());
        let mut interface = Interface { name, enums, flags, records, errors: Vec::new(), methods: Vec::new() };
        loop {
            if self.skip("}") {
                return Ok(interface);
            }
            if self.skip(";") {
            } else if self.skip_word("enum") {
                interface.enums.push(self.enumeration()?);
            } else if self.skip_word("flags") {
                interface.flags.push(self.enumeration()?);
            } else if self.skip_word("record") {
                let name = self.name("the record's name")?;
                interface.records.push((name, self.fields("{", "}")?));
            } else if self.skip_word("errors") {
                interface.errors.extend(self.words("errors { first, second }")?);
            } else if self.skip_word("method") {
                interface.methods.push(self.method()?);
            } else if self.skip_word("question") {
                let (name, arguments) = (self.name("the question's name")?, self.fields("(", ")")?);
                let (replies, errors, is_question, way) = (Vec::new(), None, true, Way::Calls);
                interface.methods.push(Method { name, arguments, replies, errors, is_question, way });
            } else {
                let help = "method NAME(FIELD: TYPE, …) -> (FIELD: TYPE, …)";
                return self.error("expected `method`, `question`, `enum`, `flags`, `record`, `errors` or `}`", help);
            }
        }
    }

    fn enumeration(&mut self) -> Parsed<(Name, Vec<Name>)> {
        let name = self.name("the enumeration's name")?;
        Ok((name, self.words("enum NAME { first, second }")?))
    }

    fn words(&mut self, help: &str) -> Parsed<Vec<Name>> {
        self.expect("{", help)?;
        let mut words = vec![self.name("a word")?];
        while self.skip(",") {
            words.push(self.name("a word")?);
        }
        self.expect("}", help)?;
        Ok(words)
    }

    fn method(&mut self) -> Parsed<Method> {
        let name = self.name("the method's name")?;
        let arguments = self.fields("(", ")")?;
        self.expect("->", "say what it answers, () for nothing: method NAME(…) -> ()")?;
        let replies = self.fields("(", ")")?;
        let ways = [("reads", Way::Reads), ("writes", Way::Writes), ("executes", Way::Executes)];
        let way = ways.into_iter().find(|(word, _)| self.skip_word(word)).map_or(Way::Calls, |(_, way)| way);
        let errors = self.method_errors()?;
        Ok(Method { name, arguments, replies, errors, is_question: false, way })
    }

    fn method_errors(&mut self) -> Parsed<Option<Vec<Name>>> {
        if self.skip_words(&["never", "fails"]) {
            return Ok(Some(Vec::new()));
        }
        if !self.skip_words(&["fails", "with"]) {
            return Ok(None);
        }
        let mut errors = vec![self.name("one of the interface's errors")?];
        while self.skip(",") {
            errors.push(self.name("one of the interface's errors")?);
        }
        Ok(Some(errors))
    }

    fn fields(&mut self, open: &str, close: &str) -> Parsed<Vec<Field>> {
        self.expect(open, "fields are (NAME: TYPE, …), those of a record { NAME: TYPE, … }")?;
        let mut all = Vec::new();
        while !self.skip(close) {
            if !all.is_empty() {
                self.expect(",", "fields are separated by commas")?;
            }
            let is_secret = self.skip_word("secret");
            let name = self.name("a field's name")?;
            self.expect(":", "a field is NAME: TYPE")?;
            let (mut shape, mut kind) = (Shape::One, self.name("a type")?);
            match kind.text.as_str() {
                "optional" => (shape, kind) = (Shape::Optional, self.name("a type")?),
                "list" => {
                    self.expect_word("of", "list of TYPE max 4")?;
                    kind = self.name("a type")?;
                    shape = Shape::List(1);
                }
                "text" | "bytes" => {
                    self.expect_word("max", "text max 16")?;
                    shape = Shape::Text(self.whole("how many bytes at the most")?);
                }
                _ => {}
            }
            let range = if self.skip_word("in") { Some(self.constant_range()?) } else { None };
            let step = if self.skip_word("step") { Some(self.quantity()?) } else { None };
            let unit = if self.skip_word("unit") { Some(self.name("a unit's name")?) } else { None };
            if let Shape::List(most) = &mut shape {
                self.expect_word("max", "list of TYPE max 4")?;
                *most = self.whole("how many elements at the most")?;
            }
            all.push(Field { name, shape, kind, range, step, unit, is_secret });
        }
        Ok(all)
    }

    fn test(&mut self, start: Span) -> Parsed<Test> {
        let name = self.text("what the test shows")?;
        self.expect("{", "test \"what it shows\" { guest -> plant.level() allowed }")?;
        let mut steps = Vec::new();
        while !self.skip("}") {
            if self.skip(";") {
                continue;
            }
            let start = self.span();
            self.terms = 0;
            let step = self.step()?;
            steps.push((step, start.to(self.last_span())));
        }
        Ok(Test { name, steps, span: start })
    }

    fn step(&mut self) -> Parsed<Step> {
        if self.skip_word("wait") {
            return self.quantity().map(Step::Wait);
        }
        if self.skip_words(&["time", "of", "day"]) {
            return self.quantity().map(Step::TimeOfDay);
        }
        if self.skip_words(&["day", "of", "week"]) {
            return self.whole("a day: 1 is Monday").map(Step::DayOfWeek);
        }
        if self.skip_word("given") {
            let effect = Box::new(self.effect()?);
            return Ok(Step::Given(effect, self.for_whom()?));
        }
        if self.skip_word("expect") {
            let condition = Box::new(self.expression(0)?);
            return Ok(Step::Expect(condition, self.for_whom()?));
        }
        self.call().map(|call| Step::Call(Box::new(call)))
    }

    fn for_whom(&mut self) -> Parsed<Option<Name>> {
        if self.skip_word("for") { self.name("a subject").map(Some) } else { Ok(None) }
    }

    /// A call without what is expected of it: `SUBJECT -> OBJECT.METHOD(ARGUMENTS)`, with `reply` or `error` before the values.
    pub(crate) fn bare_call(&mut self) -> Parsed<Call> {
        const FORM: &str = "SUBJECT -> OBJECT.METHOD(VALUE, VALUE)";
        let subject = self.name("who calls: guest or an app; or wait, given, expect")?;
        self.expect("->", FORM)?;
        let object = self.name("a service or an object")?;
        self.expect(".", FORM)?;
        let method = self.name("a method")?;
        let event = match (self.skip_word("reply"), self.skip_word("error")) {
            (true, _) => Event::Reply,
            (_, true) => Event::Error,
            _ => Event::Request,
        };
        self.expect("(", FORM)?;
        let mut arguments = Vec::new();
        while !self.skip(")") {
            if !arguments.is_empty() {
                self.expect(",", FORM)?;
            }
            arguments.push(self.literal(0)?);
        }
        let (expected, by, recorded, because) = (Expected::Refused, None, None, None);
        Ok(Call { subject, object, method, event, arguments, expected, by, recorded, because })
    }

    /// A value of a call.
    fn literal(&mut self, depth: usize) -> Parsed<Literal> {
        let start = self.span();
        if let Token::Text(text) = self.peek() {
            let text = text.clone();
            self.at += 1;
            return Ok(Literal::Text(text, start));
        }
        for (open, close) in [("[", "]"), ("{", "}")] {
            if depth > 2 || !self.skip(open) {
                continue;
            }
            let mut all = Vec::new();
            while !self.skip(close) {
                if !all.is_empty() {
                    self.expect(",", "[1, 2]; {1, 2}")?;
                }
                all.push(self.literal(depth + 1)?);
            }
            let span = start.to(self.last_span());
            return Ok(if open == "[" { Literal::List(all, span) } else { Literal::Record(all, span) });
        }
        if self.skip_word("none") {
            return Ok(Literal::None(start));
        }
        match self.constant()? {
            Constant::Word(first) if self.peek() == &Token::Mark("|") => {
                let mut all = vec![first];
                while self.skip("|") {
                    all.push(self.name("a flag")?);
                }
                Ok(Literal::Flags(all))
            }
            constant => Ok(Literal::One(constant)),
        }
    }

    fn call(&mut self) -> Parsed<Call> {
        const VERDICTS: &str = "allowed, refused, denied, refused no rule, failed, too often or malformed; then by NAME, recorded, because \"TEXT\"";
        let mut call = self.bare_call()?;
        let known: [(&[&str], Expected); 7] = [
            (&["allowed"], Expected::Allowed),
            (&["denied"], Expected::Denied),
            (&["failed"], Expected::Failed),
            (&["malformed"], Expected::Malformed),
            (&["too", "often"], Expected::TooOften),
            (&["refused", "no", "rule"], Expected::NoRule),
            (&["refused"], Expected::Refused),
        ];
        let Some((_, expected)) = known.into_iter().find(|(words, _)| self.skip_words(words)) else {
            return self.error("expected a verdict", VERDICTS);
        };
        call.expected = expected;
        if self.skip_word("by") {
            call.by = Some(self.name("a rule's name")?);
        }
        if self.skip_words(&["not", "recorded"]) {
            call.recorded = Some(false);
        } else if self.skip_word("recorded") {
            call.recorded = Some(true);
        }
        if self.skip_word("because") {
            call.because = Some(self.text("what people are told")?);
        }
        Ok(call)
    }

    fn rule(&mut self, decision: Decision, start: Span) -> Parsed<Rule> {
        let is_observed = decision == Decision::Observe;
        if is_observed && self.skip_words(&["policy", "swap"]) {
            let help = "the wall swaps no policy while it runs; `on boot` is the start of each";
            return Err(Diagnostic::error(start.to(self.last_span()), "there is no such event", help));
        }
        let mut subject = self.name("who: guest, kernel, an app or a group")?;
        let mut event = Event::Request;
        let name = |text: &str| Name { text: text.to_string(), span: start };
        let life = |method: &str| Targets::Methods(vec![(name("life"), Some(name(method)))]);
        let names_method = self.tokens.get(self.at + 1).is_some_and(|next| next.token == Token::Mark("."));
        let targets = if self.skip_word("use") {
            Targets::Use(self.list(|parser| parser.name("a resource's name"))?)
        } else if is_observed && self.skip_word("start") {
            event = Event::Reply;
            life("guest_start")
        } else if is_observed && subject.text == "boot" && !names_method {
            (event, subject) = (Event::Reply, name("kernel"));
            life("boot")
        } else {
            Targets::Methods(self.list(Self::target)?)
        };
        if self.skip_word("reply") {
            event = Event::Reply;
        } else if self.skip_word("error") {
            event = Event::Error;
        }
        let mut rule = Rule {
            decision,
            subject,
            targets,
            event,
            condition: None,
            limits: Vec::new(),
            rates: Vec::new(),
            grants: Vec::new(),
            effects: Vec::new(),
            audit: None,
            because: None,
            name: None,
            span: start,
        };
        self.terms = 0;
        while self.clause(&mut rule)? {}
        rule.span = start.to(self.last_span());
        Ok(rule)
    }

    /// One clause of a rule; `false` if none follows. Clauses stand in any order.
    fn clause(&mut self, rule: &mut Rule) -> Parsed<bool> {
        let start = self.span();
        let again = |what: &str| {
            let help = "write it once; conditions are joined by `and`";
            Err(Diagnostic::error(start, format!("this rule has `{what}` twice"), help))
        };
        if self.skip_word("when") {
            let condition = self.expression(0)?;
            rule.condition = Some(joined(rule.condition.take(), condition));
        } else if self.skip_word("except") {
            let condition = Expression::Not(Box::new(self.expression(0)?));
            rule.condition = Some(joined(rule.condition.take(), condition));
        } else if self.skip_word("at") {
            rule.limits.push(self.limit(start)?);
        } else if self.skip_word("within") {
            rule.rates.push(self.reference()?);
        } else if self.skip_word("using") {
            rule.grants.push(self.reference()?);
        } else if self.skip_word("then") {
            rule.effects.extend(self.list(Self::effect)?);
        } else if self.skip_word("audit") {
            let profile = if self.skip_word("by") { Some(self.name("a profile's name")?) } else { None };
            if rule.audit.replace(profile).is_some() {
                return again("audit");
            }
        } else if self.skip_word("because") {
            let span = self.span();
            let text = self.text("the reason")?;
            let to_caller = self.skip_words(&["to", "caller"]);
            if rule.because.replace(Reason { text, span, to_caller }).is_some() {
                return again("because");
            }
        } else if self.skip_word("as") {
            if rule.name.replace(self.name("the rule's name")?).is_some() {
                return again("as");
            }
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    fn target(&mut self) -> Parsed<(Name, Option<Name>)> {
        let object = self.name("a service, a device, a group, psci, sysreg, mmio or task")?;
        self.expect(".", "name the method too: SERVICE.METHOD, or SERVICE.* for all")?;
        if self.skip("*") { Ok((object, None)) } else { Ok((object, Some(self.name("a method's name")?))) }
    }

    /// `most 10 per min burst 3`, after `at`
    fn limit(&mut self, start: Span) -> Parsed<Limit> {
        const FORM: &str = "at most 10 per min; at most 100 per 10 s burst 5";
        self.expect_word("most", FORM)?;
        let many = self.whole("how many")?;
        self.expect_word("per", FORM)?;
        let period = match self.peek() {
            Token::Number(..) => self.quantity()?,
            _ => {
                let unit = self.name("a time: s, min, h")?;
                Number { digits: 1, decimals: 0, span: unit.span, unit: Some(unit) }
            }
        };
        let burst = if self.skip_word("burst") { Some(self.whole("how many at once")?) } else { None };
        Ok(Limit { many, period, burst, span: start.to(self.last_span()) })
    }

    fn effect(&mut self) -> Parsed<Effect> {
        const FORM: &str = "FLOW becomes STATE, count COUNTER, add A to NAME, set COUNTER to A, remove A from NAME, \
            put A at KEY in MAP, start TIMER, give GRANT, reset NAME, commit MAP, roll back MAP";
        let word = match (self.peek(), self.tokens.get(self.at + 1).map(|next| &next.token)) {
            (Token::Word(word), Some(Token::Word(next))) if next != "becomes" => word.clone(),
            (Token::Word(word), _) if word == "add" || word == "set" || word == "put" || word == "remove" => {
                word.clone()
            }
            _ => String::new(),
        };
        if !word.is_empty() {
            self.at += 1;
        }
        Ok(match word.as_str() {
            "count" => {
                let span = self.last_span();
                let one = Expression::Number(Number { digits: 1, decimals: 0, unit: None, span });
                Effect::Add(one, self.reference()?)
            }
            "add" => {
                let amount = self.sum(0)?;
                self.expect_word("to", FORM)?;
                Effect::Add(amount, self.reference()?)
            }
            "set" => {
                let counter = self.reference()?;
                self.expect_word("to", FORM)?;
                Effect::Set(counter, self.sum(0)?)
            }
            "remove" => {
                let value = self.sum(0)?;
                self.expect_word("from", FORM)?;
                Effect::Remove(value, self.reference()?)
            }
            "put" => {
                let value = self.sum(0)?;
                self.expect_word("at", FORM)?;
                let key = self.sum(0)?;
                self.expect_word("in", FORM)?;
                Effect::Put(value, key, self.reference()?)
            }
            "start" => Effect::Start(self.reference()?),
            "give" => Effect::Give(self.reference()?),
            "commit" => Effect::Commit(self.reference()?),
            "reset" if self.skip_word("all") => Effect::ResetAll(self.name("a state object's name")?),
            "reset" => Effect::Reset(self.reference()?),
            "roll" => {
                self.expect_word("back", FORM)?;
                Effect::RollBack(self.reference()?)
            }
            "" => {
                let flow = self.reference()?;
                self.expect_word("becomes", FORM)?;
                let state = self.name("a state")?;
                let values = if self.skip("(") { self.rest_of_list()? } else { Vec::new() };
                Effect::Become(flow, state, values)
            }
            _ => {
                self.at -= 1;
                return self.error(&format!("`{word}` begins no effect"), FORM);
            }
        })
    }

    /// `NAME` or `NAME(KEYS)`
    fn reference(&mut self) -> Parsed<Expression> {
        let name = self.name("a state object's name")?;
        if !self.skip("(") {
            return Ok(Expression::Word(name));
        }
        let keys = self.rest_of_list()?;
        Ok(Expression::Keyed(name, keys, self.last_span()))
    }

    /// Expressions up to the closing parenthesis.
    fn rest_of_list(&mut self) -> Parsed<Vec<Expression>> {
        let all = self.list(|parser| parser.sum(0))?;
        self.expect(")", "close the parenthesis")?;
        Ok(all)
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
