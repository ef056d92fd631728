//! Random numbers by address: the same seed, stream and draw always give the same 64 bits.
//!
//! In: a seed, a stream name, a range of rows. Out: per row its draw number and one random word.
//! Each row takes one word of a ChaCha8 stream at a fixed place, so any range is read directly and
//! what one column takes never moves another. What the word means is up to the caller.

use std::ops::Range;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use sha2::{Digest, Sha256};

/// 32-bit words of the stream that one draw takes.
const WORDS_PER_DRAW: u128 = 2;

/// What a range of rows drew.
#[derive(Debug, Clone, Default)]
pub(super) struct Draws {
    /// The draw's number, per row.
    pub at: Vec<u64>,
    /// 64 random bits, per row.
    pub words: Vec<u64>,
}

impl Draws {
    /// The draws of some rows only.
    pub(super) fn of(&self, rows: &[usize]) -> Draws {
        Draws {
            at: rows.iter().map(|&i| self.at[i]).collect(),
            words: rows.iter().map(|&i| self.words[i]).collect(),
        }
    }
}

/// One stream of random words.
#[derive(Debug, Clone)]
pub(super) struct Stream(ChaCha8Rng);

impl Stream {
    /// The stream of `name` under `seed`.
    pub(super) fn new(seed: u64, name: &str) -> Self {
        let digest = Sha256::digest(name.as_bytes());
        let id = digest.iter().take(8).fold(0, |id, byte| id << 8 | u64::from(*byte));
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(id);
        Self(rng)
    }

    /// The draws of `rows`, `repeat` neighbours sharing one.
    pub(super) fn draws(&self, rows: Range<u64>, repeat: u64) -> Draws {
        let mut rng = self.0.clone();
        let mut draws = Draws::default();
        draws.at.extend(rows.map(|row| row / repeat));
        let Some(&first) = draws.at.first() else { return draws };
        rng.set_word_pos(u128::from(first) * WORDS_PER_DRAW);
        draws.words.reserve_exact(draws.at.len());
        let (mut at, mut word) = (first, rng.next_u64());
        for &draw in &draws.at {
            if draw != at {
                (at, word) = (draw, rng.next_u64());
            }
            draws.words.push(word);
        }
        draws
    }
}

/// A whole number below `n`, each alike; `n` must not be 0.
pub(super) fn below(word: u64, n: u64) -> u64 {
    ((u128::from(word) * u128::from(n)) >> 64) as u64
}

/// A number strictly between 0 and 1, in steps of 2^-53.
pub(super) fn unit(word: u64) -> f64 {
    ((word >> 11) as f64 + 0.5) / (1u64 << 53) as f64
}

/// Draws indices by weight in constant time (Vose's alias method).
#[derive(Debug, Clone)]
pub(super) struct Weighted {
    /// Per slot: below this of 2^32 the slot itself, else its alias.
    threshold: Vec<u64>,
    alias: Vec<u32>,
}

impl Weighted {
    /// From weights that are finite, not negative and not all 0.
    pub(super) fn new(weights: &[f64]) -> Self {
        let sum: f64 = weights.iter().sum();
        let mut share: Vec<f64> = weights.iter().map(|w| w / sum * weights.len() as f64).collect();
        let mut alias: Vec<u32> = (0..weights.len() as u32).collect();
        let (mut small, mut large): (Vec<usize>, Vec<usize>) =
            (0..weights.len()).partition(|&i| share[i] < 1.0);
        while let (Some(&s), Some(&l)) = (small.last(), large.last()) {
            small.pop();
            alias[s] = l as u32;
            share[l] -= 1.0 - share[s];
            if share[l] < 1.0 {
                large.pop();
                small.push(l);
            }
        }
        // What is left without an alias is full up to rounding.
        for i in small.into_iter().chain(large) {
            share[i] = 1.0;
        }
        let full = (1u64 << 32) as f64;
        Self { threshold: share.iter().map(|s| (s * full) as u64).collect(), alias }
    }

    /// The index that `word` stands for.
    pub(super) fn index(&self, word: u64) -> u32 {
        let slot = ((word >> 32) * self.threshold.len() as u64) >> 32;
        if (word & 0xffff_ffff) < self.threshold[slot as usize] {
            slot as u32
        } else {
            self.alias[slot as usize]
        }
    }
}
