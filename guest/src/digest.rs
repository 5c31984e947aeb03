//! Telling texts apart. Invariant: a digest notices what happens, it withstands no forger; where it is used,
//! who could make two texts look alike could write the file itself.

use serde::{Deserialize, Serialize};

/// FNV-1a, 64 bits.
pub(crate) fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// What is remembered of a text to see whether it is still the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Digest {
    bytes: u64,
    pub(crate) fnv1a: u64,
}

impl Digest {
    pub(crate) fn of(text: &[u8]) -> Self {
        Digest { bytes: text.len() as u64, fnv1a: fnv1a(text) }
    }
}
