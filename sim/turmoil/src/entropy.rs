//! The run's only entropy: the system's call, answered from the seed.
//!
//! Everything that draws from the system (ids of nodes, seeds of retries, hash maps' keys) calls libc's `getrandom`; this
//! definition takes its place in this binary.

use std::sync::atomic::{AtomicU64, Ordering};

static STATE: AtomicU64 = AtomicU64::new(0);

/// From now on, draws are a function of this seed alone.
pub fn seed(seed: u64) {
    STATE.store(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15), Ordering::SeqCst);
}

/// splitmix64.
fn next() -> u64 {
    const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut x = STATE.fetch_add(STEP, Ordering::SeqCst).wrapping_add(STEP);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[expect(unsafe_code, reason = "takes the place of libc's function of this name")]
#[unsafe(no_mangle)]
unsafe extern "C" fn getrandom(buffer: *mut u8, length: usize, _flags: u32) -> isize {
    for at in 0..length {
        let byte = (next() >> 32) as u8;
        // SAFETY: the caller hands over a buffer of this length.
        unsafe { buffer.add(at).write(byte) };
    }
    length as isize
}

/// Whether draws of the code under test come from the seed: the same seed gives the same names, another one others.
pub fn is_seeded() -> bool {
    let names = |of| {
        seed(of);
        (sheaf_runtime::entropy::name(), sheaf_runtime::entropy::seed())
    };
    names(1) == names(1) && names(1) != names(2)
}
