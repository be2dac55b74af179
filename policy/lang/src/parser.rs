//! Tokens to statements. A statement that cannot be read is reported once and skipped.

use crate::diagnostic::{Diagnostic, Span};
use crate::lexer::{Placed, Token};
use crate::tree::{Condition, Constant, Field, Interface, Item, Method, Name, Operator, Range, Rule, Set, Targets};

/// How deep conditions may nest.
const DEPTH: usize = 32;
/// How many tests and negations a condition may have.
const TESTS: usize = 256;
const STATEMENTS: [&str; 11] =
    ["edition", "policy", "include", "interface", "app", "service", "device", "resource", "let", "allow", "deny"];

type Parsed<T> = Result<T, Diagnostic>;

/// Reads all statements of a file.
pub(crate) fn items(tokens: &[Placed], errors: &mut Vec<Diagnostic>) -> Vec<Item> {
    let mut parser = Parser { tokens, at: 0, tests: 0 };
    let mut all = Vec::new();
    while parser.peek() != &Token::End {
        if parser.skip(";") {
            continue;
        }
        match parser.item() {
            Ok(item) => all.push(item),
            Err(error) => {
                errors.push(error);
                parser.recover();
            }
        }
    }
    all
}

struct Parser<'a> {
    tokens: &'a [Placed],
    at: usize,
    /// Tests in the condition at hand.
    tests: usize,
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
            Token::Word(text) => {
                let name = Name { text: text.clone(), span: self.span() };
                self.at += 1;
                Ok(name)
            }
            _ => self.error(&format!("expected {what}"), "write a name: letters, digits, underscores"),
        }
    }

    fn number(&mut self, what: &str) -> Parsed<i128> {
        match self.peek() {
            Token::Number(value) => {
                let value = *value;
                self.at += 1;
                Ok(value)
            }
            _ => self.error(&format!("expected {what}"), "write a number"),
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
            "edition" => Ok(Item::Edition(self.number("the edition")?, start)),
            "policy" => Ok(Item::Policy(self.name("the policy's name")?)),
            "include" => Ok(Item::Include(self.text("a file's name")?, start)),
            "interface" => self.interface().map(Item::Interface),
            "app" => Ok(Item::App(self.name("the app's name")?)),
            "service" => self.service(),
            "device" => self.device(),
            "resource" => self.resource(),
            "let" => self.set_definition(),
            "allow" => self.rule(true, start).map(Item::Rule),
            "deny" => self.rule(false, start).map(Item::Rule),
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

    fn service(&mut self) -> Parsed<Item> {
        const FORM: &str = "service NAME: INTERFACE by APP";
        let name = self.name("the service's name")?;
        self.expect(":", FORM)?;
        let interface = self.name("an interface's name")?;
        self.expect_word("by", FORM)?;
        Ok(Item::Service(name, interface, self.name("an app's name")?))
    }

    fn device(&mut self) -> Parsed<Item> {
        const FORM: &str = "device NAME: at ADDRESS size BYTES interrupt INTID by APP";
        let range = self.range("at", FORM)?;
        self.expect_word("by", FORM)?;
        Ok(Item::Device(range, self.name("an app's name")?))
    }

    fn resource(&mut self) -> Parsed<Item> {
        self.range("mmio", "resource NAME: mmio ADDRESS size BYTES interrupt INTID").map(Item::Resource)
    }

    fn range(&mut self, word: &str, form: &str) -> Parsed<Range> {
        let name = self.name("its name")?;
        self.expect(":", form)?;
        let start = self.span();
        self.expect_word(word, form)?;
        let base = self.number("an address")?;
        self.expect_word("size", form)?;
        let bytes = self.number("a length in bytes")?;
        let interrupt = if self.skip_word("interrupt") { Some(self.number("an interrupt's INTID")?) } else { None };
        Ok(Range { name, base, bytes, interrupt, span: start.to(self.last_span()) })
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
        let span = self.span();
        match self.peek() {
            Token::Number(value) => {
                let value = *value;
                self.at += 1;
                Ok(Constant::Number(value, span))
            }
            Token::Word(_) => self.name("a constant").map(Constant::Word),
            _ => self.error("expected a constant", "write a number, true, false or an enumeration's word"),
        }
    }

    fn interface(&mut self) -> Parsed<Interface> {
        let name = self.name("the interface's name")?;
        self.expect("{", "interface NAME { method … }")?;
        let (mut enums, mut methods) = (Vec::new(), Vec::new());
        loop {
            if self.skip("}") {
                return Ok(Interface { name, enums, methods });
            }
            if self.skip(";") {
            } else if self.skip_word("enum") {
                enums.push(self.enumeration()?);
            } else if self.skip_word("method") {
                methods.push(self.method()?);
            } else {
                return self
                    .error("expected `method`, `enum` or `}`", "method NAME(FIELD: TYPE, …) -> (FIELD: TYPE, …)");
            }
        }
    }

    fn enumeration(&mut self) -> Parsed<(Name, Vec<Name>)> {
        let name = self.name("the enumeration's name")?;
        self.expect("{", "enum NAME { first, second }")?;
        let mut words = vec![self.name("a word")?];
        while self.skip(",") {
            words.push(self.name("a word")?);
        }
        self.expect("}", "enum NAME { first, second }")?;
        Ok((name, words))
    }

    fn method(&mut self) -> Parsed<Method> {
        let name = self.name("the method's name")?;
        let arguments = self.fields()?;
        self.expect("->", "say what it answers, () for nothing: method NAME(…) -> ()")?;
        Ok(Method { name, arguments, replies: self.fields()? })
    }

    fn fields(&mut self) -> Parsed<Vec<Field>> {
        self.expect("(", "fields stand in parentheses: (NAME: TYPE, …)")?;
        let mut all = Vec::new();
        while !self.skip(")") {
            if !all.is_empty() {
                self.expect(",", "fields are separated by commas")?;
            }
            let is_secret = self.skip_word("secret");
            let name = self.name("a field's name")?;
            self.expect(":", "a field is NAME: TYPE")?;
            let kind = self.name("a type")?;
            let range = if self.skip_word("in") { Some(self.constant_range()?) } else { None };
            all.push(Field { name, kind, range, is_secret });
        }
        Ok(all)
    }

    fn rule(&mut self, is_allow: bool, start: Span) -> Parsed<Rule> {
        let subject = self.name("who: guest, kernel or an app")?;
        let targets = if self.skip_word("use") {
            let mut all = vec![self.name("a resource's name")?];
            while self.skip(",") {
                all.push(self.name("a resource's name")?);
            }
            Targets::Use(all)
        } else {
            let mut all = vec![self.target()?];
            while self.skip(",") {
                all.push(self.target()?);
            }
            Targets::Methods(all)
        };
        self.tests = 0;
        let condition = if self.skip_word("when") { Some(self.condition(0)?) } else { None };
        let audit = self.skip_word("audit");
        let because = if self.skip_word("because") { Some(self.text("the reason")?) } else { None };
        Ok(Rule { is_allow, subject, targets, condition, audit, because, span: start.to(self.last_span()) })
    }

    fn target(&mut self) -> Parsed<(Name, Option<Name>)> {
        let object = self.name("a service, a device, psci, sysreg, mmio or task")?;
        self.expect(".", "name the method too: SERVICE.METHOD, or SERVICE.* for all")?;
        if self.skip("*") { Ok((object, None)) } else { Ok((object, Some(self.name("a method's name")?))) }
    }

    fn condition(&mut self, depth: usize) -> Parsed<Condition> {
        let mut left = self.conjunction(depth)?;
        while self.skip_word("or") {
            left = Condition::Or(Box::new(left), Box::new(self.conjunction(depth)?));
        }
        Ok(left)
    }

    fn conjunction(&mut self, depth: usize) -> Parsed<Condition> {
        let mut left = self.negation(depth)?;
        while self.skip_word("and") {
            left = Condition::And(Box::new(left), Box::new(self.negation(depth)?));
        }
        Ok(left)
    }

    fn negation(&mut self, depth: usize) -> Parsed<Condition> {
        self.tests += 1;
        if depth > DEPTH || self.tests > TESTS {
            return self.error("this condition is too long or nests too deep", "split it into several rules");
        }
        if self.skip_word("not") {
            return Ok(Condition::Not(Box::new(self.negation(depth + 1)?)));
        }
        if self.skip("(") {
            let inner = self.condition(depth + 1)?;
            self.expect(")", "close the parenthesis")?;
            return Ok(inner);
        }
        let field = self.name("an argument's name")?;
        if self.skip_word("in") {
            let set = match self.peek() {
                Token::Word(_) if !matches!(self.tokens.get(self.at + 1), Some(next) if next.token == Token::Mark("..")) => {
                    Set::Named(self.name("a set's name")?)
                }
                _ => Set::Ranges(self.ranges()?),
            };
            return Ok(Condition::In(field, set));
        }
        let operators = [
            ("==", Operator::Equal),
            ("!=", Operator::Unequal),
            ("<=", Operator::LessOrEqual),
            (">=", Operator::GreaterOrEqual),
            ("<", Operator::Less),
            (">", Operator::Greater),
        ];
        let Some((_, operator)) = operators.into_iter().find(|(mark, _)| self.skip(mark)) else {
            return self.error("expected a comparison", "FIELD in A..B, FIELD == VALUE, != < <= > >=");
        };
        Ok(Condition::Compare(field, operator, self.constant()?))
    }
}
