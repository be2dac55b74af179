//! A plugin of the emulator (QEMU's TCG plugin interface, version 1): counts the instructions that run at the addresses
//! `from=` up to and without `to=`, and prints `count: N` when the emulator ends. For the share of one level of a machine.
#![expect(unsafe_code, reason = "the emulator calls by C's conventions, and is called so")]

use core::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

// The names and types are those of QEMU's include/qemu/qemu-plugin.h, version 1.
unsafe extern "C" {
    fn qemu_plugin_register_vcpu_tb_trans_cb(id: u64, translated: extern "C" fn(u64, *mut c_void));
    fn qemu_plugin_register_atexit_cb(id: u64, ended: extern "C" fn(u64, *mut c_void), data: *mut c_void);
    fn qemu_plugin_tb_n_insns(block: *const c_void) -> usize;
    fn qemu_plugin_tb_get_insn(block: *const c_void, index: usize) -> *mut c_void;
    fn qemu_plugin_insn_vaddr(instruction: *const c_void) -> u64;
    fn qemu_plugin_register_vcpu_insn_exec_inline(
        instruction: *mut c_void,
        operation: c_uint,
        sum: *const c_void,
        add: u64,
    );
}

/// The version of the interface that this plugin speaks; the emulator looks for it.
#[unsafe(no_mangle)]
pub static qemu_plugin_version: c_int = 1;

/// QEMU_PLUGIN_INLINE_ADD_U64.
const ADD: c_uint = 0;

static COUNT: AtomicU64 = AtomicU64::new(0);
static RANGE: OnceLock<(u64, u64)> = OnceLock::new();

/// Called once by the emulator; 0 if the words say a range.
///
/// # Safety
/// `words` are `count` C strings.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qemu_plugin_install(
    id: u64,
    _info: *const c_void,
    count: c_int,
    words: *const *const c_char,
) -> c_int {
    let mut range = (0, 0);
    for index in 0..usize::try_from(count).unwrap_or(0) {
        // SAFETY: there are `count` words, each a C string (the emulator's contract).
        let word = unsafe { CStr::from_ptr(*words.add(index)) }.to_string_lossy();
        let number = |text: &str| u64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap_or(0);
        match word.split_once('=') {
            Some(("from", text)) => range.0 = number(text),
            Some(("to", text)) => range.1 = number(text),
            _ => {}
        }
    }
    if range.0 >= range.1 {
        eprintln!("count: give from=ADDRESS,to=ADDRESS");
        return 1;
    }
    let _ = RANGE.set(range);
    // SAFETY: the two functions live as long as the plugin, which is never unloaded.
    unsafe { qemu_plugin_register_vcpu_tb_trans_cb(id, translated) };
    // SAFETY: as above.
    unsafe { qemu_plugin_register_atexit_cb(id, ended, core::ptr::null_mut()) };
    0
}

extern "C" fn translated(_id: u64, block: *mut c_void) {
    let Some((from, to)) = RANGE.get() else { return };
    // SAFETY: the emulator gives a block that lives through this call, and its instructions by index.
    unsafe {
        for index in 0..qemu_plugin_tb_n_insns(block) {
            let instruction = qemu_plugin_tb_get_insn(block, index);
            if (*from..*to).contains(&qemu_plugin_insn_vaddr(instruction)) {
                // The emulator has one CPU here: its additions do not race.
                qemu_plugin_register_vcpu_insn_exec_inline(instruction, ADD, COUNT.as_ptr().cast(), 1);
            }
        }
    }
}

extern "C" fn ended(_id: u64, _data: *mut c_void) {
    eprintln!("count: {}", COUNT.load(Relaxed));
}
