//! Hash functions of keys and placements.
//!
//! Those of 32 bits are widened; the digests of md5 and sha1 give their first four bytes, little
//! endian. The vectors of the tests are those that other balancers of this kind publish.

use std::fmt;

use siphasher::sip::SipHasher24;
use xxhash_rust::xxh3::xxh3_64;

/// Which function keys are hashed with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum HashFunction {
    /// XXH3, 64 bit, seed 0.
    #[default]
    Xxh3,
    /// MurmurHash3 x86, 32 bit, seed 0.
    Murmur3,
    /// FNV-1a, 32 bit.
    Fnv1a,
    /// Bernstein's h·33 + c from 5381, 32 bit.
    Djb2,
    /// CRC-32 as in IEEE 802.3.
    Crc32,
    /// The first 32 bits of MD5.
    Md5,
    /// The first 32 bits of SHA-1.
    Sha1,
    /// SipHash-2-4 under a secret key, so that clients cannot choose keys of one slot.
    Siphash(HashKey),
    /// The sum of the bytes: what is written in a minute, for comparison.
    Simple,
    /// The course's H(i) = i² + 2i + 17 mod M, for comparison.
    Polynomial,
}

/// The secret of [`HashFunction::Siphash`]. Never shown.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct HashKey([u8; 16]);

impl fmt::Debug for HashKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HashKey(fingerprint {:08x})", self.fingerprint())
    }
}

impl HashKey {
    /// A key from 32 hexadecimal digits.
    pub fn from_hex(text: &str) -> Option<Self> {
        if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        u128::from_str_radix(text, 16).ok().map(|number| Self(number.to_be_bytes()))
    }

    /// The digits that [`Self::from_hex`] reads; for the state file only.
    pub fn to_hex(self) -> String {
        format!("{:032x}", u128::from_be_bytes(self.0))
    }

    /// Tells two keys apart without showing them.
    pub fn fingerprint(self) -> u32 {
        SipHasher24::new_with_key(&self.0).hash(b"fingerprint") as u32
    }
}

impl HashFunction {
    /// The names of all of them, in the order of the documentation.
    pub const NAMES: [&'static str; 10] = [
        "xxh3",
        "murmur3",
        "fnv1a",
        "djb2",
        "crc32",
        "md5",
        "sha1",
        "siphash",
        "simple",
        "polynomial",
    ];

    /// The one that bears a name; `key` is what `siphash` needs.
    pub fn from_name(name: &str, key: Option<HashKey>) -> Option<Self> {
        Some(match name {
            "xxh3" => Self::Xxh3,
            "murmur3" => Self::Murmur3,
            "fnv1a" => Self::Fnv1a,
            "djb2" => Self::Djb2,
            "crc32" => Self::Crc32,
            "md5" => Self::Md5,
            "sha1" => Self::Sha1,
            "siphash" => Self::Siphash(key?),
            "simple" => Self::Simple,
            "polynomial" => Self::Polynomial,
            _ => return None,
        })
    }

    /// The name in configuration and API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Xxh3 => "xxh3",
            Self::Murmur3 => "murmur3",
            Self::Fnv1a => "fnv1a",
            Self::Djb2 => "djb2",
            Self::Crc32 => "crc32",
            Self::Md5 => "md5",
            Self::Sha1 => "sha1",
            Self::Siphash(_) => "siphash",
            Self::Simple => "simple",
            Self::Polynomial => "polynomial",
        }
    }

    /// The hash value. That of `polynomial` is not reduced yet, modulo 2⁶⁴.
    pub fn hash(self, bytes: &[u8]) -> u64 {
        match self {
            Self::Xxh3 => xxh3(bytes),
            Self::Murmur3 => u64::from(murmur3(bytes)),
            Self::Fnv1a => u64::from(fnv1a(bytes)),
            Self::Djb2 => u64::from(djb2(bytes)),
            Self::Crc32 => u64::from(crc32fast::hash(bytes)),
            Self::Md5 => u64::from(first_word(&<md5::Md5 as md5::Digest>::digest(bytes))),
            Self::Sha1 => u64::from(first_word(&<sha1::Sha1 as sha1::Digest>::digest(bytes))),
            Self::Siphash(key) => SipHasher24::new_with_key(&key.0).hash(bytes),
            Self::Simple => {
                let sum = bytes.iter().fold(0u32, |sum, &byte| sum.wrapping_add(byte.into()));
                u64::from(sum)
            }
            Self::Polynomial => {
                let i = u128::from(decimal(bytes));
                (i * i + 2 * i + 17) as u64
            }
        }
    }

    /// The index below `slots` that a key belongs to: its hash value mod `slots`.
    #[inline]
    pub fn index(self, bytes: &[u8], slots: u64) -> u64 {
        if let Self::Polynomial = self {
            let (i, modulus) = (u128::from(decimal(bytes)), u128::from(slots.max(1)));
            return ((i * i + 2 * i + 17) % modulus) as u64;
        }
        let value = self.hash(bytes);
        // The usual sizes are powers of two, where a division would cost more than the hash.
        if slots.is_power_of_two() { value & (slots - 1) } else { value % slots.max(1) }
    }
}

/// XXH3, 64 bit, seed 0.
#[inline]
pub fn xxh3(bytes: &[u8]) -> u64 {
    xxh3_64(bytes)
}

/// A good hash of two numbers; for placements, where it is wanted by the million.
///
/// The finaliser is that of SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number
/// generators, 2014).
#[inline]
pub fn mix(seed: u64, number: u64) -> u64 {
    let mut z = seed ^ number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// The number that the course's polynomial takes. A key that is not a decimal number of at most 18
/// digits is hashed first.
fn decimal(key: &[u8]) -> u64 {
    std::str::from_utf8(key)
        .ok()
        .filter(|text| (1..=18).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit()))
        .and_then(|text| text.parse::<u64>().ok())
        .unwrap_or_else(|| xxh3(key))
}

/// The course's placement Φ(i,j) = i² + j² + 2j + 25 mod M of the j-th virtual server of the i-th
/// replica.
pub fn polynomial_placement(i: u32, j: u32, slots: u32) -> u32 {
    let (i, j) = (u128::from(i), u128::from(j));
    ((i * i + j * j + 2 * j + 25) % u128::from(slots)) as u32
}

fn first_word(digest: &[u8]) -> u32 {
    digest.iter().take(4).rev().fold(0, |word, &byte| word << 8 | u32::from(byte))
}

fn fnv1a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811C_9DC5, |hash, &byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

fn djb2(bytes: &[u8]) -> u32 {
    bytes.iter().fold(5381, |hash, &byte| hash.wrapping_mul(33).wrapping_add(byte.into()))
}

/// MurmurHash3_x86_32 with seed 0 (Austin Appleby, public domain).
fn murmur3(bytes: &[u8]) -> u32 {
    let scramble =
        |block: u32| block.wrapping_mul(0xCC9E_2D51).rotate_left(15).wrapping_mul(0x1B87_3593);
    let blocks = bytes.chunks_exact(4);
    let tail = blocks.remainder();
    let mut hash = blocks.fold(0u32, |hash, block| {
        let hash = hash ^ scramble(first_word(block));
        hash.rotate_left(13).wrapping_mul(5).wrapping_add(0xE654_6B64)
    });
    if !tail.is_empty() {
        hash ^= scramble(first_word(tail));
    }
    hash ^= bytes.len() as u32;
    hash = (hash ^ (hash >> 16)).wrapping_mul(0x85EB_CA6B);
    hash = (hash ^ (hash >> 13)).wrapping_mul(0xC2B2_AE35);
    hash ^ (hash >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_published_vectors_hold() {
        let cases = [
            ("djb2", 1_170_319_130, 3_725_531_447),
            ("fnv1a", 122_042_374, 2_177_285_067),
            ("crc32", 1_231_517_047, 2_812_124_135),
            ("md5", 2_840_318_314, 4_252_844_062),
            ("sha1", 3_209_087_381, 923_604_904),
            ("murmur3", 538_840_311, 2_551_820_956u64),
        ];
        for (name, user, server) in cases {
            let function = HashFunction::from_name(name, None).unwrap();
            assert_eq!(function.hash(b"user123"), user, "{name} of user123");
            assert_eq!(function.hash(b"server1:0"), server, "{name} of server1:0");
        }
        // The reference vector of SipHash-2-4 with the key 00..0f and the input 00..0e.
        let key = HashKey::from_hex("000102030405060708090a0b0c0d0e0f").unwrap();
        let input: Vec<u8> = (0..15).collect();
        assert_eq!(HashFunction::Siphash(key).hash(&input), 0xA129_CA61_49BE_45E5);
        assert_eq!(HashFunction::Simple.hash(b"abc"), 97 + 98 + 99);
        assert_eq!(HashFunction::Polynomial.hash(b"7"), 49 + 14 + 17);
    }

    #[test]
    fn every_name_is_one_function() {
        let key = HashKey::from_hex(&"5a".repeat(16));
        for name in HashFunction::NAMES {
            assert_eq!(HashFunction::from_name(name, key).unwrap().name(), name);
        }
        assert_eq!(HashFunction::from_name("siphash", None), None);
        assert_eq!(HashFunction::from_name("sha256", key), None);
    }

    #[test]
    fn a_hash_key_is_32_digits_and_is_not_shown() {
        for bad in ["", "00", &"0".repeat(33), &"g".repeat(32), "+0000000000000000000000000000000"]
        {
            assert_eq!(HashKey::from_hex(bad), None, "{bad}");
        }
        let text = "00112233445566778899aabbccddeeff";
        let key = HashKey::from_hex(text).unwrap();
        assert_eq!(key.to_hex(), text);
        assert!(!format!("{:?}", HashFunction::Siphash(key)).contains("2233"));
        let other = HashKey::from_hex(&"1".repeat(32)).unwrap();
        assert_ne!(key.fingerprint(), other.fingerprint());
    }

    proptest! {
        #[test]
        fn murmur3_agrees_with_its_crate(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let mut reader = std::io::Cursor::new(&bytes);
            let oracle = murmur3::murmur3_32(&mut reader, 0).unwrap();
            prop_assert_eq!(HashFunction::Murmur3.hash(&bytes), u64::from(oracle));
        }

        #[test]
        fn an_index_is_the_value_mod_slots(
            bytes in prop::collection::vec(any::<u8>(), 0..40),
            slots in 1u64..70_000,
            which in 0usize..9,
        ) {
            let key = HashKey::from_hex(&"07".repeat(16));
            let function = HashFunction::from_name(HashFunction::NAMES[which], key).unwrap();
            prop_assert_eq!(function.index(&bytes, slots), function.hash(&bytes) % slots);
        }
    }
}
