//! Small numbers as Parquet's hybrid of runs and bit-packed groups of eight.
//!
//! In: numbers below 2^width. Out: bytes. It knows neither pages nor what the numbers mean.

/// Numbers in a group.
const GROUP: usize = 8;

/// Equal numbers from which on a run is shorter than groups, at any width.
const RUN_MIN: usize = 2 * GROUP;

/// Bits that every number below `count` fits in.
pub(super) fn width_of(count: usize) -> u8 {
    let largest = count.saturating_sub(1);
    (usize::BITS - largest.leading_zeros()) as u8
}

/// Appends `numbers`, each of at most `width` bits, to `out`.
pub(super) fn encode(numbers: &[u32], width: u8, out: &mut Vec<u8>) {
    let (mut packed, mut at) = (0, 0);
    while at < numbers.len() {
        let run = run_at(&numbers[at..]);
        if run < RUN_MIN {
            at += GROUP;
            continue;
        }
        pack(&numbers[packed..at], width, out);
        encode_run(numbers[at], run, width, out);
        at += run;
        packed = at;
    }
    pack(&numbers[packed..], width, out);
}

/// Appends one number `count` times.
pub(super) fn encode_run(number: u32, count: usize, width: u8, out: &mut Vec<u8>) {
    varint((count as u64) << 1, out);
    out.extend_from_slice(&number.to_le_bytes()[..usize::from(width.div_ceil(8))]);
}

/// How many numbers at the beginning are equal.
fn run_at(numbers: &[u32]) -> usize {
    let Some((first, rest)) = numbers.split_first() else { return 0 };
    1 + rest.iter().take_while(|number| *number == first).count()
}

/// Numbers as groups; the last one is filled up with zeros.
fn pack(numbers: &[u32], width: u8, out: &mut Vec<u8>) {
    if numbers.is_empty() {
        return;
    }
    varint(((numbers.len().div_ceil(GROUP) as u64) << 1) | 1, out);
    let (mut bits, mut held) = (0_u64, 0_u32);
    let padding = numbers.len().next_multiple_of(GROUP) - numbers.len();
    for number in numbers.iter().chain(std::iter::repeat_n(&0, padding)) {
        bits |= u64::from(*number) << held;
        held += u32::from(width);
        if held >= 32 {
            out.extend_from_slice(&(bits as u32).to_le_bytes());
            bits >>= 32;
            held -= 32;
        }
    }
    out.extend_from_slice(&bits.to_le_bytes()[..held.div_ceil(8) as usize]);
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads back what [`encode`] wrote, as the format's description has it.
    fn decode(mut bytes: &[u8], width: u8, count: usize) -> Vec<u32> {
        let mut numbers = Vec::new();
        while numbers.len() < count {
            let mut header = 0;
            for shift in (0..).step_by(7) {
                let (byte, rest) = bytes.split_first().unwrap();
                bytes = rest;
                header |= u64::from(byte & 0x7F) << shift;
                if byte & 0x80 == 0 {
                    break;
                }
            }
            let many = (header >> 1) as usize;
            let size =
                if header & 1 == 1 { many * usize::from(width) } else { width.div_ceil(8).into() };
            let (body, rest) = bytes.split_at(size);
            bytes = rest;
            let bit = |at: usize| u32::from(body[at / 8] >> (at % 8) & 1);
            let number =
                |from: usize| (0..usize::from(width)).map(|b| bit(from + b) << b).sum::<u32>();
            match header & 1 {
                1 => numbers.extend((0..many * 8).map(|i| number(i * usize::from(width)))),
                _ => numbers.extend(std::iter::repeat_n(number(0), many)),
            }
        }
        assert!(bytes.is_empty());
        numbers.truncate(count);
        numbers
    }

    #[test]
    fn numbers_come_back_at_every_width_and_length() {
        for width in 1..=20_u8 {
            for count in [1, 7, 8, 9, 15, 16, 17, 100, 1000] {
                for spread in [1, 2, 3, 40, 1000] {
                    let number = |i: u32| (i / spread).wrapping_mul(2_654_435_761) >> (32 - width);
                    let numbers: Vec<u32> = (0..count).map(number).collect();
                    let mut bytes = Vec::new();
                    encode(&numbers, width, &mut bytes);
                    assert_eq!(decode(&bytes, width, numbers.len()), numbers, "{width} {spread}");
                }
            }
        }
    }

    #[test]
    fn equal_numbers_take_a_few_bytes() {
        let mut bytes = Vec::new();
        encode(&[5; 20_000], 3, &mut bytes);
        assert_eq!(bytes.len(), 4);
        assert_eq!([0, 1, 2, 3, 256, 257].map(width_of), [0, 0, 1, 2, 8, 9]);
    }
}
