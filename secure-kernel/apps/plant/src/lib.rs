//! A simulated tank: a pump fills it, an outlet empties it. It stands in for field devices until real protocols come.
#![no_std]
#![forbid(unsafe_code)]

include!(concat!(env!("OUT_DIR"), "/interfaces.rs"));

use plant::{LevelReply, Server, State, StateReply};

/// Height of the tank in micrometres.
const FULL_UM: u32 = 5_000_000;
/// How often the simulation advances, a second.
pub const STEPS_PER_SECOND: u64 = 10;

/// The tank, its pump and its outlet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tank {
    level_um: u32,
    /// The same as it is told: worked out once a step, as it is asked for more often.
    level: LevelReply,
    rpm: u16,
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
    pub fn new() -> Self {
        let level_um = FULL_UM / 5;
        Self { level_um, level: told(level_um), rpm: 0, is_open: false, has_overflowed: false }
    }

    /// One step of the simulation: 1 rpm lifts 1 micrometre a step; the outlet takes 800.
    pub fn step(&mut self) {
        self.level_um += u32::from(self.rpm);
        self.level_um = self.level_um.saturating_sub(if self.is_open { 800 } else { 0 });
        if self.level_um >= FULL_UM {
            self.level_um = FULL_UM;
            self.has_overflowed = true;
            self.rpm = 0;
        }
        self.level = told(self.level_um);
    }
}

fn told(level_um: u32) -> LevelReply {
    LevelReply { millimetres: u16::try_from(level_um / 1000).unwrap_or(u16::MAX) }
}

impl Server for Tank {
    fn level(&mut self) -> LevelReply {
        self.level
    }

    /// Filling: the level rises, or holds against the outlet. Draining: the pump does not keep up. Fault: the tank overflowed, and
    /// the pump is off until it is set again.
    fn state(&mut self) -> StateReply {
        let state = match (self.has_overflowed, self.is_open, self.rpm) {
            (true, _, _) => State::Fault,
            (_, true, 0..800) => State::Draining,
            (_, false, 0) => State::Stopped,
            _ => State::Filling,
        };
        StateReply { state, rpm: self.rpm }
    }

    fn set_pump(&mut self, rpm: u16) {
        self.rpm = rpm;
        self.has_overflowed = false;
    }

    fn drain(&mut self, open: bool) {
        self.is_open = open;
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
        assert_eq!((tank.level().millimetres, tank.state().state), (1010, State::Filling));
        tank.set_pump(0);
        tank.drain(true);
        (0..10_000).for_each(|_| tank.step());
        assert_eq!((tank.level().millimetres, tank.state().state), (0, State::Draining));
    }

    #[test]
    fn an_overflow_stops_the_pump_until_it_is_set_again() {
        let mut tank = Tank::new();
        tank.set_pump(3000);
        (0..10_000).for_each(|_| tank.step());
        assert_eq!((tank.level().millimetres, tank.state()), (5000, StateReply { state: State::Fault, rpm: 0 }));
        tank.set_pump(0);
        assert_eq!(tank.state().state, State::Stopped);
    }
}
