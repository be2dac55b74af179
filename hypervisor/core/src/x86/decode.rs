//! The few instructions by which a guest reaches a register in memory that traps (SDM 2 chapter 2): moves between a general register, or
//! a constant, and memory. The address is not decoded: the hardware told it. All else is refused.

use super::control::{Access, cr0};
use super::walk::{LMA, Regime};

/// How the code that exited is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Real mode, virtual 8086 mode, 16-bit segments.
    Bits16,
    /// 32-bit segments.
    Bits32,
    /// 64-bit mode.
    Bits64,
}

impl Mode {
    /// Of a partition that translates so, with these attributes of its code segment (L: bit 9, D: bit 10).
    #[must_use]
    pub const fn of(regime: &Regime, attributes: u16) -> Self {
        let is_long = regime.efer & LMA != 0;
        match (is_long && attributes >> 9 & 1 != 0, attributes >> 10 & 1 != 0 && regime.cr0 & cr0::PE != 0) {
            (true, _) => Self::Bits64,
            (false, true) => Self::Bits32,
            (false, false) => Self::Bits16,
        }
    }

    /// What of a general register counts for a move to a control register: outside 64-bit mode the upper half may hold anything.
    #[must_use]
    pub const fn cut(self, register: u64) -> u64 {
        if matches!(self, Self::Bits64) { register } else { register & 0xffff_ffff }
    }
}

/// What moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    /// Memory to a general register, zero- or sign-extended to `width` bytes.
    Load {
        /// Which: 0 RAX, 1 RCX, 2 RDX, 3 RBX, 4 RSP, 5 RBP, 6 RSI, 7 RDI, 8 R8 …
        register: u8,
        /// Bits 8 to 15 of it (AH, CH, DH, BH).
        is_high: bool,
        /// How many bytes of the register are written: 4 clears the upper half, 1 and 2 keep the rest.
        width: u8,
        /// The value is sign-extended.
        is_signed: bool,
    },
    /// A general register to memory.
    Store {
        /// Which.
        register: u8,
        /// Bits 8 to 15 of it.
        is_high: bool,
    },
    /// A constant to memory.
    Constant(u32),
    /// `xchg`: the register gets what was in memory, memory what was in it. Old kernels write their local APIC so.
    Exchange {
        /// Which.
        register: u8,
    },
}

/// An instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// What moves.
    pub what: Move,
    /// How many bytes of memory: 1, 2, 4 or 8.
    pub bytes: u8,
    /// Its length.
    pub length: u8,
}

/// The longest instruction.
pub const LONGEST: usize = 15;

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn next(&mut self) -> Option<u8> {
        let byte = self.bytes.get(self.at).copied();
        self.at += 1;
        byte
    }

    fn skip(&mut self, count: usize) -> Option<()> {
        self.at += count;
        (self.at <= self.bytes.len()).then_some(())
    }

    fn constant(&mut self, count: u8) -> Option<u32> {
        (0..count).try_fold(0, |value, place| Some(value | u32::from(self.next()?) << (8 * place)))
    }
}

/// What stands before an instruction's opcode.
struct Prefixes {
    other_operand: bool,
    other_address: bool,
    /// 0, or a REX prefix.
    rex: u8,
}

/// The prefixes, and the opcode behind them. Those that repeat or lock are none of them.
#[inline(never)]
fn prefixes(reader: &mut Reader<'_>, mode: Mode) -> Option<(Prefixes, u8)> {
    let mut found = Prefixes { other_operand: false, other_address: false, rex: 0 };
    loop {
        let byte = reader.next()?;
        match byte {
            0x66 => found.other_operand = true,
            0x67 => found.other_address = true,
            0x26 | 0x2e | 0x36 | 0x3e | 0x64 | 0x65 => {}
            0x40..=0x4f if mode == Mode::Bits64 => {
                found.rex = byte;
                // Nothing but the opcode may follow it.
                return Some((found, reader.next()?));
            }
            _ => return Some((found, byte)),
        }
    }
}

/// Decodes the instruction at the start of `bytes` if it moves from or to CR0 or to CR4 by a general register, or is an `lmsw` or `smsw` of one: the
/// access and its length (SDM 2 "MOV—Move to/from Control Registers", "LMSW", "SMSW"). `general` tells the general registers.
#[must_use]
pub fn control(bytes: &[u8], mode: Mode, general: impl Fn(u8) -> u64) -> Option<(Access, u8)> {
    let mut reader = Reader { bytes: bytes.get(..LONGEST.min(bytes.len()))?, at: 0 };
    let (Prefixes { other_operand, rex, .. }, 0x0f) = prefixes(&mut reader, mode)? else { return None };
    let (opcode, modrm) = (reader.next()?, reader.next()?);
    let (kind, middle, register) = (modrm >> 6, modrm >> 3 & 7 | (rex & 4) << 1, modrm & 7 | (rex & 1) << 3);
    let access = match (opcode, kind, middle & 7) {
        // The kind is not looked at by the CPU.
        (0x20, _, _) if middle == 0 => {
            Access::Read { target: register, bytes: if mode == Mode::Bits64 { 8 } else { 4 } }
        }
        (0x22, _, _) if middle == 0 || middle == 4 => Access::Write { register: middle, source: register },
        (0x01, 3, 4) => Access::Read { target: register, bytes: operand(mode, other_operand, rex) },
        #[expect(clippy::cast_possible_truncation, reason = "the low word")]
        (0x01, 3, 6) => Access::LoadMachineStatus(general(register) as u16),
        _ => return None,
    };
    Some((access, u8::try_from(reader.at).ok()?))
}

/// How many bytes an operand has.
const fn operand(mode: Mode, other_operand: bool, rex: u8) -> u8 {
    match (rex >> 3 & 1, matches!(mode, Mode::Bits16) != other_operand) {
        (1, _) => 8,
        (_, true) => 2,
        _ => 4,
    }
}

/// Decodes the instruction at the start of `bytes`; `None` if it is none of those above.
#[must_use]
#[inline(never)]
pub fn decode(bytes: &[u8], mode: Mode) -> Option<Instruction> {
    let mut reader = Reader { bytes: bytes.get(..LONGEST.min(bytes.len()))?, at: 0 };
    let (Prefixes { other_operand, other_address, rex }, opcode) = prefixes(&mut reader, mode)?;
    let is_16 = (mode == Mode::Bits16) != other_operand;
    let operand = operand(mode, other_operand, rex);
    let address = match (mode, other_address) {
        (Mode::Bits64, false) => 8,
        (Mode::Bits64, true) | (Mode::Bits32, false) | (Mode::Bits16, true) => 4,
        _ => 2,
    };
    let load = |register, is_high, width, is_signed| Move::Load { register, is_high, width, is_signed };
    let (what, bytes) = match opcode {
        0x88 | 0x8a => {
            let (register, is_high) = byte_register(modrm(&mut reader, address, rex)?, rex);
            let store = Move::Store { register, is_high };
            (if opcode == 0x88 { store } else { load(register, is_high, 1, false) }, 1)
        }
        0x89 => (Move::Store { register: modrm(&mut reader, address, rex)?, is_high: false }, operand),
        0x8b => (load(modrm(&mut reader, address, rex)?, false, operand, false), operand),
        0x87 => (Move::Exchange { register: modrm(&mut reader, address, rex)? }, operand),
        0xc6 if modrm(&mut reader, address, rex)? & 7 == 0 => (Move::Constant(reader.constant(1)?), 1),
        0xc7 if modrm(&mut reader, address, rex)? & 7 == 0 => {
            // A constant of eight bytes is sign-extended from four: such a store is refused, nothing here is that wide.
            (Move::Constant(reader.constant(if is_16 { 2 } else { 4 })?), if is_16 { 2 } else { 4 })
        }
        0xa0..=0xa3 => {
            reader.skip(address)?;
            let bytes = if opcode & 1 == 0 { 1 } else { operand };
            let store = Move::Store { register: 0, is_high: false };
            (if opcode >= 0xa2 { store } else { load(0, false, bytes, false) }, bytes)
        }
        0x0f => {
            let second = reader.next()?;
            let bytes = if second & 1 == 0 { 1 } else { 2 };
            if !matches!(second, 0xb6 | 0xb7 | 0xbe | 0xbf) {
                return None;
            }
            (load(modrm(&mut reader, address, rex)?, false, operand, second >= 0xbe), bytes)
        }
        _ => return None,
    };
    if rex >> 3 & 1 != 0 && matches!(what, Move::Constant(_)) {
        return None;
    }
    Some(Instruction { what, bytes, length: u8::try_from(reader.at).ok()? })
}

/// Registers 4 to 7 of a byte access without a REX prefix are AH, CH, DH, BH (SDM 2 §3.1.1.1).
const fn byte_register(register: u8, rex: u8) -> (u8, bool) {
    if rex == 0 && register >= 4 { (register - 4, true) } else { (register, false) }
}

/// Skips ModRM, SIB and displacement of a memory operand; the register that it names. `None` if it names two registers.
#[inline(never)]
fn modrm(reader: &mut Reader<'_>, address: usize, rex: u8) -> Option<u8> {
    let modrm = reader.next()?;
    let (kind, register, base) = (modrm >> 6, modrm >> 3 & 7 | (rex & 4) << 1, modrm & 7);
    if kind == 3 {
        return None;
    }
    let displacement = if address == 2 {
        match (kind, base) {
            (0, 6) | (2, _) => 2,
            (1, _) => 1,
            _ => 0,
        }
    } else {
        let sib = if base == 4 { Some(reader.next()?) } else { None };
        match (kind, base, sib.map(|sib| sib & 7)) {
            (0, 5, None) | (0, _, Some(5)) | (2, ..) => 4,
            (1, ..) => 1,
            _ => 0,
        }
    };
    reader.skip(displacement)?;
    Some(register)
}

impl Move {
    /// A register after a load of `value`, from what it was.
    #[must_use]
    pub const fn loaded(self, before: u64, value: u64, bytes: u8) -> u64 {
        let Self::Load { is_high, width, is_signed, .. } = self else { return before };
        let shift = 64 - bytes as u32 * 8;
        let value = value << shift;
        let value = if is_signed { (value.cast_signed() >> shift).cast_unsigned() } else { value >> shift };
        match (width, is_high) {
            (1, true) => before & !0xff00 | (value & 0xff) << 8,
            (1, false) => before & !0xff | value & 0xff,
            (2, _) => before & !0xffff | value & 0xffff,
            (4, _) => value & 0xffff_ffff,
            _ => value,
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use proptest::prelude::*;

    fn store(register: u8) -> Move {
        Move::Store { register, is_high: false }
    }

    fn load(register: u8, width: u8) -> Move {
        Move::Load { register, is_high: false, width, is_signed: false }
    }

    #[test]
    fn the_forms_that_kernels_use_are_known() {
        let cases: [(&[u8], Mode, Move, u8); 12] = [
            (&[0x89, 0xb7, 0x00, 0xd0, 0x5f, 0xff], Mode::Bits64, store(6), 4),
            (&[0x8b, 0x80, 0x20, 0xd0, 0x5f, 0xff], Mode::Bits64, load(0, 4), 4),
            (&[0x44, 0x89, 0x00], Mode::Bits64, store(8), 4),
            (&[0x48, 0x8b, 0x04, 0x25, 0, 0, 0, 0], Mode::Bits64, load(0, 8), 8),
            (&[0x87, 0x01], Mode::Bits32, Move::Exchange { register: 0 }, 4),
            (&[0xa3, 0xb0, 0x00, 0xe0, 0xfe], Mode::Bits32, store(0), 4),
            (&[0xa1, 0x30, 0x00, 0xe0, 0xfe], Mode::Bits32, load(0, 4), 4),
            (&[0xc7, 0x05, 0xb0, 0, 0xe0, 0xfe, 1, 2, 3, 4], Mode::Bits32, Move::Constant(0x0403_0201), 4),
            (&[0x66, 0x89, 0x0a], Mode::Bits32, store(1), 2),
            (&[0x89, 0x0e, 0x34, 0x12], Mode::Bits16, store(1), 2),
            (&[0x67, 0x66, 0x8b, 0x43, 0x04], Mode::Bits16, load(0, 4), 4),
            (&[0x0f, 0xb7, 0x10], Mode::Bits32, load(2, 4), 2),
        ];
        for (code, mode, what, bytes) in cases {
            let length = u8::try_from(code.len()).unwrap();
            let mut padded = code.to_vec();
            padded.resize(LONGEST, 0x90);
            assert_eq!(decode(&padded, mode), Some(Instruction { what, bytes, length }), "{code:02x?}");
            for cut in 0..code.len() {
                assert_eq!(decode(&code[..cut], mode), None, "{code:02x?} cut to {cut}");
            }
        }
    }

    #[test]
    fn what_names_no_memory_or_does_more_than_move_is_refused() {
        for code in [
            &[0x89_u8, 0xc0, 0, 0, 0, 0][..],
            &[0xf0, 0x01, 0x00, 0, 0],
            &[0xa5, 0, 0],
            &[0x0f, 0x11, 0x00, 0],
            &[0xff, 0x30, 0, 0],
        ] {
            assert_eq!(decode(code, Mode::Bits32), None, "{code:02x?}");
        }
        assert_eq!(decode(&[0x48, 0xc7, 0x00, 1, 0, 0, 0], Mode::Bits64), None, "a constant of eight bytes");
    }

    #[test]
    fn high_bytes_and_extensions_go_where_they_belong() {
        let high = decode(&[0x8a, 0x20, 0, 0], Mode::Bits32).expect("mov ah, [eax]");
        assert_eq!(high.what.loaded(0x1122_3344, 0xaa, 1), 0x1122_aa44);
        assert_eq!(decode(&[0x40, 0x8a, 0x20, 0], Mode::Bits64).map(|known| known.what), Some(load(4, 1)), "SPL");
        let signed = decode(&[0x48, 0x0f, 0xbe, 0x00], Mode::Bits64).expect("movsx rax, byte [rax]");
        assert_eq!(signed.what.loaded(0, 0x80, 1), 0xffff_ffff_ffff_ff80);
        assert_eq!(load(0, 4).loaded(u64::MAX, u64::MAX, 4), 0xffff_ffff);
        assert_eq!(load(0, 2).loaded(u64::MAX << 32, 0x1234, 2), u64::MAX << 32 | 0x1234);
    }

    #[test]
    fn an_upper_half_counts_in_64_bit_mode_only() {
        let cut = [Mode::Bits16, Mode::Bits32, Mode::Bits64].map(|mode| mode.cut(u64::MAX << 16));
        assert_eq!(cut, [0xffff_0000, 0xffff_0000, u64::MAX << 16]);
    }

    #[test]
    fn moves_of_control_registers_are_told_and_no_others() {
        let write = |register, source| Access::Write { register, source };
        let read = |target, bytes| Access::Read { target, bytes };
        let cases: [(&[u8], Mode, Access); 12] = [
            (&[0x0f, 0x22, 0xc0], Mode::Bits64, write(0, 0)),
            (&[0x0f, 0x22, 0xe7], Mode::Bits64, write(4, 7)),
            (&[0x41, 0x0f, 0x22, 0xe1], Mode::Bits64, write(4, 9)),
            (&[0x0f, 0x22, 0xc4], Mode::Bits32, write(0, 4)),
            (&[0x66, 0x0f, 0x22, 0x03], Mode::Bits16, write(0, 3)),
            (&[0x0f, 0x20, 0xc1], Mode::Bits64, read(1, 8)),
            (&[0x0f, 0x20, 0xc1], Mode::Bits32, read(1, 4)),
            (&[0x49, 0x0f, 0x01, 0xe0], Mode::Bits64, read(8, 8)),
            (&[0x0f, 0x01, 0xe2], Mode::Bits64, read(2, 4)),
            (&[0x0f, 0x01, 0xe2], Mode::Bits16, read(2, 2)),
            (&[0x0f, 0x01, 0xf3], Mode::Bits16, Access::LoadMachineStatus(0x1233)),
            (&[0x41, 0x0f, 0x01, 0xf3], Mode::Bits64, Access::LoadMachineStatus(0x123b)),
        ];
        let general = |number: u8| 0xabcd_1230 | u64::from(number);
        for (code, mode, access) in cases {
            let length = u8::try_from(code.len()).unwrap();
            let mut padded = code.to_vec();
            padded.resize(LONGEST, 0x90);
            assert_eq!(control(&padded, mode, general), Some((access, length)), "{code:02x?}");
            for cut in 0..code.len() {
                assert_eq!(control(&code[..cut], mode, general), None, "{code:02x?} cut to {cut}");
            }
        }
        // CR2, CR8 (by REX.R, and by LOCK), a read of CR4, in memory, `lidt`, a debug register, an old `mov`.
        for code in [
            &[0x0f_u8, 0x22, 0xd0][..],
            &[0x44, 0x0f, 0x22, 0xc0],
            &[0xf0, 0x0f, 0x22, 0xc0],
            &[0x0f, 0x20, 0xe0],
            &[0x0f, 0x01, 0x30],
            &[0x0f, 0x01, 0x20],
            &[0x0f, 0x01, 0x18],
            &[0x0f, 0x23, 0xc0],
            &[0x89, 0xc0, 0xc0],
        ] {
            assert_eq!(control(code, Mode::Bits64, general), None, "{code:02x?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_break_the_decoder_of_control_registers(code in prop::collection::vec(any::<u8>(), 0..20)) {
            for mode in [Mode::Bits16, Mode::Bits32, Mode::Bits64] {
                if let Some((_, length)) = control(&code, mode, u64::from) {
                    prop_assert!(usize::from(length) <= code.len().min(LONGEST) && length >= 3);
                }
            }
        }

        #[test]
        fn no_bytes_break_the_decoder(code in prop::collection::vec(any::<u8>(), 0..20)) {
            for mode in [Mode::Bits16, Mode::Bits32, Mode::Bits64] {
                if let Some(known) = decode(&code, mode) {
                    prop_assert!(usize::from(known.length) <= code.len().min(LONGEST) && known.length > 0);
                    prop_assert!(matches!(known.bytes, 1 | 2 | 4 | 8));
                }
            }
        }
    }
}
