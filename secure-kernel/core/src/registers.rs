//! A task's registers while it does not run, in the order in which each architecture's trap entry stores them. All have
//! `x` (the numbered registers of a system call), `sp`, `pc` and `pstate`; the rest is the trap entry's own.

pub use layout::Registers;

#[cfg(target_arch = "aarch64")]
mod layout {
    /// AArch64's.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    #[repr(C, align(16))]
    pub struct Registers {
        /// x0-x30.
        pub x: [u64; 31],
        /// `SP_EL0`.
        pub sp: u64,
        /// Where it goes on.
        pub pc: u64,
        /// `SPSR_EL1`.
        pub pstate: u64,
    }

    impl Registers {
        /// Those of a task that starts: at EL0, interrupts on, its place in the manifest as its entry's argument.
        pub(crate) const fn start(pc: u64, sp: u64, place: u64) -> Self {
            let mut x = [0; 31];
            x[0] = place;
            Self { x, sp, pc, pstate: 0 }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod layout {
    /// x86-64's. From `error` on it is what an interrupt gate pushes (SDM 3 §6.14.2).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    #[repr(C, align(16))]
    pub struct Registers {
        /// RAX, RDI, RSI, RDX, RCX, R8-R15, RBX, RBP.
        pub x: [u64; 15],
        /// The vector that stopped it.
        pub vector: u64,
        /// The error code; 0 for a vector that has none.
        pub error: u64,
        /// Where it goes on.
        pub pc: u64,
        /// [`Registers::USER_CODE`].
        pub cs: u64,
        /// `RFLAGS`.
        pub pstate: u64,
        /// `RSP`.
        pub sp: u64,
        /// [`Registers::USER_DATA`].
        pub ss: u64,
    }

    impl Registers {
        /// The selector of a task's stack segment, at privilege level 3.
        pub const USER_DATA: u16 = 0x1b;
        /// The selector of its code segment.
        pub const USER_CODE: u16 = 0x23;
        /// `RFLAGS` of a task that starts: bit 1, which is always set (SDM 3 §2.3).
        const FLAGS: u64 = 2;

        /// Those of a task that starts: at privilege level 3, interrupts masked: those of the machine are the guest's, and wait. Its
        /// place in the manifest is its entry's argument (RDI).
        pub(crate) const fn start(pc: u64, sp: u64, place: u64) -> Self {
            let (cs, ss) = (Self::USER_CODE as u64, Self::USER_DATA as u64);
            let mut x = [0; 15];
            x[1] = place;
            Self { x, vector: 0, error: 0, pc, cs, pstate: Self::FLAGS, sp, ss }
        }
    }
}

impl Registers {
    /// x1-x6 (a call's or a reply's words).
    #[inline(always)]
    pub(crate) fn words(&self) -> [u64; 6] {
        let x = &self.x;
        [x[1], x[2], x[3], x[4], x[5], x[6]]
    }

    /// As [`Registers::words`], with zeros after the first `len`.
    #[inline(always)]
    pub(crate) fn words_up_to(&self, len: u8) -> [u64; 6] {
        let kept = |at: u8, word| if at < len { word } else { 0 };
        let [w0, w1, w2, w3, w4, w5] = self.words();
        [kept(0, w0), kept(1, w1), kept(2, w2), kept(3, w3), kept(4, w4), kept(5, w5)]
    }

    pub(crate) fn set_words(&mut self, words: [u64; 6]) {
        self.x[1..7].copy_from_slice(&words);
    }
}
