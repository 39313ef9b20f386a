//! Numbers as text.

/// Appends a number in decimal digits.
pub(crate) fn push_decimal(number: u64, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut rest = number;
    loop {
        at -= 1;
        // Below ten, so it fits.
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// A number that consists of digits and of nothing else, up to 2⁶³−1: what every reader can hold.
pub(crate) fn decimal(text: &[u8]) -> Option<u64> {
    let add = |number: u64, digit: &u8| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        number.checked_mul(10)?.checked_add(digit).filter(|number| i64::try_from(*number).is_ok())
    };
    if text.is_empty() { None } else { text.iter().try_fold(0, add) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_digits_and_nothing_else() {
        for number in [0, 7, 10, 1_000, u64::MAX / 2] {
            let mut text = Vec::new();
            push_decimal(number, &mut text);
            assert_eq!(text, number.to_string().into_bytes());
            assert_eq!(decimal(&text), Some(number));
        }
        let mut text = Vec::new();
        push_decimal(u64::MAX, &mut text);
        assert_eq!(text, u64::MAX.to_string().into_bytes());
        assert_eq!(decimal(b"0000000000000000000000003"), Some(3));
        for odd in ["", "+3", "-3", "3 ", "0x3", "3,3", "\u{663}", "9223372036854775808"] {
            assert_eq!(decimal(odd.as_bytes()), None, "{odd:?}");
        }
    }
}
