//! The two 8259s as the guest programs them: the vectors that it gave their lines, which cannot be read back.

/// What was learnt of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pic {
    /// The first vector of each; 0: not programmed.
    base: [u8; 2],
    /// The next initialisation word of each that is awaited; 0: none.
    awaited: [u8; 2],
}

impl Pic {
    /// As the guest finds them: it has programmed neither.
    #[must_use]
    pub const fn new() -> Self {
        Self { base: [0; 2], awaited: [0; 2] }
    }

    /// A write of the guest to port 0x20, 0x21, 0xa0 or 0xa1 (8259A data sheet, "Initialization command words").
    pub fn write(&mut self, port: u16, value: u8) {
        let Some(chip) = [0x20, 0xa0].iter().position(|first| port & !1 == *first) else { return };
        let (Some(base), Some(awaited)) = (self.base.get_mut(chip), self.awaited.get_mut(chip)) else { return };
        match (port & 1, *awaited) {
            // ICW1: bit 4.
            (0, _) if value >> 4 & 1 != 0 => *awaited = 2,
            (1, 2) => {
                *base = value & 0xf8;
                *awaited = 3;
            }
            (1, 3) => *awaited = 4,
            (1, _) => *awaited = 0,
            _ => {}
        }
    }

    /// The vector of a line that is not masked; `masks` are both mask registers. `None` too if the guest has programmed no vectors.
    #[must_use]
    pub fn vector(&self, line: u32, masks: [u32; 2]) -> Option<u8> {
        let chip = usize::try_from(line / 8).ok()?;
        let base = *self.base.get(chip).filter(|base| **base >= 16)?;
        let is_masked = |chip: usize, line: u32| masks.get(chip).is_none_or(|mask| mask >> line & 1 != 0);
        // The second hangs on line 2 of the first.
        if is_masked(chip, line % 8) || chip == 1 && is_masked(0, 2) {
            return None;
        }
        u8::try_from(line % 8).ok().map(|line| base + line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn programmed() -> Pic {
        let mut pic = Pic::new();
        for (port, value) in
            [(0x20, 0x11), (0x21, 0x30), (0x21, 4), (0x21, 1), (0xa0, 0x11), (0xa1, 0x38), (0xa1, 2), (0xa1, 1)]
        {
            pic.write(port, value);
        }
        pic
    }

    #[test]
    fn vectors_are_those_that_the_guest_programmed() {
        let pic = programmed();
        assert_eq!((pic.vector(4, [0, 0]), pic.vector(11, [0, 0])), (Some(0x34), Some(0x3b)));
        assert_eq!(Pic::new().vector(4, [0, 0]), None, "not programmed");
    }

    #[test]
    fn masked_lines_are_not_delivered() {
        let pic = programmed();
        assert_eq!(pic.vector(4, [1 << 4, 0]), None);
        assert_eq!(pic.vector(11, [0, 1 << 3]), None);
        assert_eq!(pic.vector(11, [1 << 2, 0]), None, "the second is masked as a whole");
        assert_eq!(pic.vector(24, [0, 0]), None, "no such line");
    }

    #[test]
    fn masks_and_ends_of_interrupts_are_no_vectors() {
        let mut pic = programmed();
        pic.write(0x21, 0xff);
        pic.write(0x20, 0x20);
        pic.write(0x21, 0x08);
        assert_eq!(pic.vector(0, [0, 0]), Some(0x30));
    }
}
