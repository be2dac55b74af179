//! A simulated tank: a pump fills it, an outlet empties it. It stands in for field devices until real protocols come.
#![no_std]
#![forbid(unsafe_code)]

/// Methods of the interface `Plant`.
pub mod method {
    /// `level() -> (millimetres: u16)`.
    pub const LEVEL: u16 = 0;
    /// `state() -> (state: State, rpm: u16)`.
    pub const STATE: u16 = 1;
    /// `set_pump(rpm: u16 in 0..3000) -> ()`.
    pub const SET_PUMP: u16 = 2;
    /// `drain(open: bool) -> ()`.
    pub const DRAIN: u16 = 3;
}

/// Height of the tank in millimetres.
pub const FULL_MM: u64 = 5000;
/// How often the simulation advances, a second.
pub const STEPS_PER_SECOND: u64 = 10;

/// What the tank does, as the interface numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum State {
    /// The pump rests and the outlet is shut.
    Stopped = 0,
    /// The level rises or holds against the outlet.
    Filling = 1,
    /// The outlet is open and the pump does not keep up.
    Draining = 2,
    /// The tank overflowed: the pump is off until it is set again.
    Fault = 3,
}

/// The tank, its pump and its outlet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tank {
    level_um: u64,
    rpm: u64,
    is_open: bool,
    has_overflowed: bool,
}

impl Default for Tank {
    fn default() -> Self {
        Self::new()
    }
}

impl Tank {
    /// A tank that is a fifth full, at rest.
    #[must_use]
    pub const fn new() -> Self {
        Self { level_um: FULL_MM * 1000 / 5, rpm: 0, is_open: false, has_overflowed: false }
    }

    /// One step of the simulation: 1 rpm lifts 1 micrometre a step; the outlet takes 800.
    pub fn step(&mut self) {
        self.level_um += self.rpm;
        self.level_um = self.level_um.saturating_sub(if self.is_open { 800 } else { 0 });
        if self.level_um >= FULL_MM * 1000 {
            self.level_um = FULL_MM * 1000;
            self.has_overflowed = true;
            self.rpm = 0;
        }
    }

    /// Level in millimetres.
    #[must_use]
    pub const fn level(&self) -> u64 {
        self.level_um / 1000
    }

    /// The pump's speed.
    #[must_use]
    pub const fn rpm(&self) -> u64 {
        self.rpm
    }

    /// Sets the pump's speed, which ends a fault.
    pub const fn set_pump(&mut self, rpm: u64) {
        self.rpm = rpm;
        self.has_overflowed = false;
    }

    /// Opens or shuts the outlet.
    pub const fn set_outlet(&mut self, is_open: bool) {
        self.is_open = is_open;
    }

    /// What it does.
    #[must_use]
    pub const fn state(&self) -> State {
        match (self.has_overflowed, self.is_open, self.rpm) {
            (true, _, _) => State::Fault,
            (_, true, 0..800) => State::Draining,
            (_, false, 0) => State::Stopped,
            _ => State::Filling,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pump_fills_and_the_outlet_empties() {
        let mut tank = Tank::new();
        tank.set_pump(1000);
        (0..10).for_each(|_| tank.step());
        assert_eq!((tank.level(), tank.state()), (1010, State::Filling));
        tank.set_pump(0);
        tank.set_outlet(true);
        (0..10_000).for_each(|_| tank.step());
        assert_eq!((tank.level(), tank.state()), (0, State::Draining));
    }

    #[test]
    fn an_overflow_stops_the_pump_until_it_is_set_again() {
        let mut tank = Tank::new();
        tank.set_pump(3000);
        (0..10_000).for_each(|_| tank.step());
        assert_eq!((tank.level(), tank.rpm(), tank.state()), (FULL_MM, 0, State::Fault));
        tank.set_pump(0);
        assert_eq!(tank.state(), State::Stopped);
    }
}
