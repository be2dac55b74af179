//! Services, and what of the machine is served or given away: devices and resources.

use super::{Parsed, Parser};
use crate::lexer::Token;
use crate::tree::{Item, Range, Space};

impl Parser<'_> {
    pub(super) fn service(&mut self) -> Parsed<Item> {
        const FORM: &str = "service NAME: INTERFACE by APP";
        let name = self.name("the service's name")?;
        self.expect(":", FORM)?;
        let interface = self.name("an interface's name")?;
        self.expect_word("by", FORM)?;
        Ok(Item::Service(name, interface, self.name("an app's name")?, self.joined()?))
    }

    pub(super) fn device(&mut self) -> Parsed<Item> {
        const FORM: &str = "device NAME: at ADDRESS size BYTES interrupt INTID by APP, or \
            device NAME: ports FIRST size COUNT interrupt LINE by APP, or \
            device NAME: pci BUS:DEVICE.FUNCTION ports FIRST size COUNT interrupt LINE or PIN by APP";
        let range = self.range(&[("at", Space::Memory), ("ports", Space::Ports), ("pci", Space::Ports)], FORM)?;
        self.expect_word("by", FORM)?;
        Ok(Item::Device(range, self.name("an app's name")?, self.joined()?))
    }

    pub(super) fn resource(&mut self) -> Parsed<Item> {
        const FORM: &str = "resource NAME: mmio ADDRESS size BYTES, … ports FIRST size COUNT, or … msr FIRST size COUNT; \
            then `read only`, `interrupt NUMBER`";
        let spaces = [Space::Memory, Space::Ports, Space::Registers].map(|space| (space.word(), space));
        self.range(&spaces, FORM).map(Item::Resource)
    }

    pub(super) fn range(&mut self, words: &[(&str, Space)], form: &str) -> Parsed<Range> {
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
    pub(super) fn function(&mut self, form: &str) -> Parsed<[i128; 3]> {
        let bus = self.whole("a PCI bus")?;
        self.expect(":", form)?;
        let Token::Number(digits, 1) = *self.peek() else {
            return self.error("expected a PCI device and its function", form);
        };
        self.at += 1;
        self.expect_word("ports", form)?;
        Ok([bus, digits / 10, digits % 10])
    }
}
