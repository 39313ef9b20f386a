//! Hash functions of keys and placements.

use xxhash_rust::xxh3::xxh3_64;

/// XXH3, 64 bit, seed 0.
pub fn xxh3(bytes: &[u8]) -> u64 {
    xxh3_64(bytes)
}

/// The course's request hash H(i) = i² + 2i + 17 mod M. A key that is not a decimal number of at
/// most 18 digits is hashed first.
pub fn polynomial_request(key: &[u8], slots: u32) -> u32 {
    let number = std::str::from_utf8(key)
        .ok()
        .filter(|text| (1..=18).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit()))
        .and_then(|text| text.parse::<u64>().ok())
        .unwrap_or_else(|| xxh3(key));
    let (modulus, i) = (u128::from(slots), u128::from(number));
    ((i * i + 2 * i + 17) % modulus) as u32
}

/// The course's placement Φ(i,j) = i² + j² + 2j + 25 mod M of the j-th virtual server of the i-th
/// replica.
pub fn polynomial_placement(i: u32, j: u32, slots: u32) -> u32 {
    let (i, j) = (u128::from(i), u128::from(j));
    ((i * i + j * j + 2 * j + 25) % u128::from(slots)) as u32
}
