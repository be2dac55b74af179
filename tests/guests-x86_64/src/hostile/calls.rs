//! Calls of services.

use core::fmt::Write;

use bulkhead_guests_x86_64::{call, service_call};
use bulkhead_wire::call::SERVICE_INFO;

use crate::report::{DENIED, MALFORMED, NOT_SUPPORTED, Report, UNKNOWN};

pub(crate) fn calls(report: &mut Report, plant: u64) {
    let is_svm = report.is_svm;
    let mut status = |what: &str, header: u64, words: [u64; 6], wanted: u64| {
        let verdict = if wanted == 0 { "OK" } else { "D" };
        report.equal(what, verdict, service_call(is_svm, header, words)[0], wanted);
    };
    let set_pump = plant | 2 << 16 | 1 << 32;
    status("H06 an unknown service", 0x1234, [0; 6], UNKNOWN);
    status("H06 an object of the wall's own", 7 << 16 | 1 << 32, [0; 6], DENIED);
    status("H06 an unknown method", plant | 99 << 16, [0; 6], UNKNOWN);
    status("H02 too few arguments", plant | 2 << 16, [0; 6], MALFORMED);
    status("H02 too many", plant | 2 << 16 | 6 << 32, [0; 6], MALFORMED);
    status("H02 a length of 255", plant | 255 << 32, [0; 6], MALFORMED);
    status("H02 reserved bits", plant | 1 << 63, [0; 6], MALFORMED);
    status("H02 out of range", set_pump, [9999, 0, 0, 0, 0, 0], MALFORMED);
    status("H14 no rule allows it", set_pump, [2900, 0, 0, 0, 0, 0], DENIED);
    status("H14 a rule allows it", set_pump, [1500, 0, 0, 0, 0, 0], 0);
    let leaked = service_call(is_svm, set_pump, [2900, 2, 3, 4, 5, 6]);
    report.none("H04 a refusal leaks nothing", "D", leaked[2..].iter().filter(|word| **word != 0));
    report.none(
        "H01 numbers 0 to 65,535",
        "D",
        (0..0x1_0000_u64).filter(|id| call(is_svm, [*id, 1, 2, 3, 4, 5, 6, 7])[0] != NOT_SUPPORTED),
    );
    report.none(
        "H01 the numbers of our own",
        "D",
        (0xc600_0003..0xc600_1000_u64).filter(|id| call(is_svm, [*id, 0, 0, 0, 0, 0, 0, 0])[0] != NOT_SUPPORTED),
    );
    report.equal(
        "H06 a service beyond the last",
        "D",
        call(is_svm, [SERVICE_INFO.into(), u64::MAX, 0, 0, 0, 0, 0, 0])[0],
        UNKNOWN,
    );
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let random = (0..4096).map(|_| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    });
    let answered = random.filter(|id| call(is_svm, [*id, *id, *id, *id, *id, *id, *id, *id])[0] != NOT_SUPPORTED);
    report.none("H01 4,096 of all numbers", "D", answered);
}

/// More refused calls than the trail has records, by far, while it is empty: all are on record, which who reads the trail's lines counts.
pub(crate) fn flood(report: &mut Report, plant: u64) {
    let is_svm = report.is_svm;
    let turns = if report.is_qemu { 500_000 } else { 100_000 };
    let answered = (0..turns).filter(|_| drain(is_svm, plant) != DENIED);
    report.none("H11 refused calls", "D", answered);
    let _ = writeln!(report.out, "hostile: {turns} refused calls of drain");
    report.equal("H11 the next good call", "OK", service_call(is_svm, plant, [0; 6])[0], 0);
}

/// While nothing else happens.
pub(crate) fn one_more(report: &mut Report, plant: u64) {
    report.equal("H11 one more", "D", drain(report.is_svm, plant), DENIED);
}

fn drain(is_svm: bool, plant: u64) -> u64 {
    service_call(is_svm, plant | 3 << 16 | 1 << 32, [1, 0, 0, 0, 0, 0])[0]
}
