//! What images that are built to be looked at do at each exit besides, and only they, as it costs each exit instructions: they count (`count-exits`), look
//! whether the wall's memory is as it was (`watch`), or take the CPU for a later one of SVM (`later-svm`).

#[cfg(feature = "count-exits")]
mod count;
#[cfg(feature = "later-svm")]
mod later_svm;
#[cfg(feature = "watch")]
mod watch;

use super::entry::Frame;
use super::{Next, field, svm, vmx};
use crate::console::Console;

/// Both partitions' exits lead here first.
pub(crate) fn begin(guest: &mut Frame, secure: &mut Frame) {
    let [guest_control, secure_control] = if field::is_svm() { svm::controls() } else { [0; 2] };
    guest.bind(guest_exit, guest_control);
    secure.bind(secure_exit, secure_control);
}

extern "C" fn guest_exit(frame: &mut Frame) -> Next {
    #[cfg(feature = "count-exits")]
    count::guest();
    #[cfg(feature = "watch")]
    watch::look_now_and_then();
    #[cfg(feature = "later-svm")]
    let told = later_svm::left();
    let next = if field::is_svm() { svm::guest_exit(frame) } else { vmx::guest_exit(frame) };
    #[cfg(feature = "later-svm")]
    later_svm::entering(told);
    next
}

extern "C" fn secure_exit(frame: &mut Frame) -> Next {
    #[cfg(feature = "count-exits")]
    count::secure();
    #[cfg(feature = "later-svm")]
    later_svm::keep();
    let next = if field::is_svm() { svm::secure_exit(frame) } else { vmx::secure_exit(frame) };
    #[cfg(feature = "later-svm")]
    later_svm::entering(None);
    next
}

/// Says what was seen: the machine ends.
pub(crate) fn tell(console: &mut Console) {
    #[cfg(feature = "count-exits")]
    count::tell(console);
    #[cfg(feature = "watch")]
    watch::tell(console);
    #[cfg(feature = "later-svm")]
    later_svm::tell(console);
}
