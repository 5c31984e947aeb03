//! Telling texts apart. Invariant: a digest notices what happens, it withstands no forger; where it is used,
//! who could make two texts look alike could write the file itself.

use crate::json::{Read, Reader, Writer};

/// FNV-1a, 64 bits.
pub(crate) fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// What is remembered of a text to see whether it is still the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Digest {
    bytes: u64,
    pub(crate) fnv1a: u64,
}

impl Digest {
    pub(crate) fn of(text: &[u8]) -> Self {
        Digest { bytes: text.len() as u64, fnv1a: fnv1a(text) }
    }

    pub(crate) fn write(self, json: &mut Writer) {
        json.begin(b'{');
        json.name(b"bytes");
        json.number(self.bytes);
        json.name(b"fnv1a");
        json.number(self.fnv1a);
        json.end(b'}');
    }

    pub(crate) fn read(json: &mut Reader<'_>) -> Read<Self> {
        const NAMES: [&str; 2] = ["bytes", "fnv1a"];
        let (mut numbers, mut met) = ([0; 2], 0);
        json.begin(b'{')?;
        while let Some(index) = json.known(&NAMES, &mut met)? {
            numbers[index] = json.u64()?;
        }
        json.all_of(&NAMES, met, 0b11)?;
        Ok(Digest { bytes: numbers[0], fnv1a: numbers[1] })
    }
}
