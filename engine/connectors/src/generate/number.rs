//! Numbers of a distribution from one random number each.
//!
//! In: a number strictly between 0 and 1. Out: the distribution's value there (its quantile), cut
//! to `min` and `max` by narrowing the range of the input, so that no value piles up at the ends.
//! It does not round: scales belong to the column.

use super::config::Outliers;

/// Halvings of the unit interval that find the share below a value; f64 holds no more.
const HALVINGS: u32 = 64;

/// The curve of a distribution.
#[derive(Debug, Clone, Copy)]
pub(super) enum Shape {
    /// Between two ends.
    Uniform { from: f64, to: f64 },
    /// The bell.
    Normal { mean: f64, std_dev: f64 },
    /// e to the power of the bell.
    LogNormal { mu: f64, sigma: f64 },
    /// Falling from 0.
    Exponential { mean: f64 },
}

impl Shape {
    /// The value below which the share `u` of all numbers lies.
    fn quantile(self, u: f64) -> f64 {
        match self {
            Shape::Uniform { from, to } => from + u * (to - from),
            Shape::Normal { mean, std_dev } => mean + std_dev * probit(u),
            Shape::LogNormal { mu, sigma } => (mu + sigma * probit(u)).exp(),
            Shape::Exponential { mean } => -mean * (-u).ln_1p(),
        }
    }

    /// The share of all numbers below `value`.
    fn share_below(self, value: f64) -> f64 {
        let (mut low, mut high) = (0.0, 1.0);
        for _ in 0..HALVINGS {
            let middle = (low + high) / 2.0;
            if self.quantile(middle) < value {
                low = middle;
            } else {
                high = middle;
            }
        }
        (low + high) / 2.0
    }
}

/// A distribution between limits, with outliers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Curve {
    shape: Shape,
    /// The part of the unit interval that lies within the limits.
    low: f64,
    width: f64,
    limits: (f64, f64),
    outliers: Outliers,
}

impl Curve {
    /// `shape` between `min` and `max`; `None` when hardly a number lies there.
    pub(super) fn new(
        shape: Shape,
        (min, max): (Option<f64>, Option<f64>),
        outliers: Option<Outliers>,
    ) -> Option<Self> {
        let low = min.map_or(0.0, |value| shape.share_below(value));
        let high = max.map_or(1.0, |value| shape.share_below(value));
        let limits = (min.unwrap_or(f64::NEG_INFINITY), max.unwrap_or(f64::INFINITY));
        let outliers = outliers.unwrap_or(Outliers { rate: 0.0, factor: 1.0 });
        let curve = Self { shape, low, width: high - low, limits, outliers };
        (curve.width > 1e-9).then_some(curve)
    }

    /// The value at `u`, strictly between 0 and 1.
    pub(super) fn at(&self, u: f64) -> f64 {
        let Outliers { rate, factor } = self.outliers;
        if u < rate {
            self.inside(u / rate) * factor
        } else {
            self.inside((u - rate) / (1.0 - rate))
        }
    }

    fn inside(&self, u: f64) -> f64 {
        let u = (self.low + u * self.width).clamp(f64::EPSILON / 4.0, 1.0 - f64::EPSILON);
        self.shape.quantile(u).clamp(self.limits.0, self.limits.1)
    }
}

/// The quantile of the standard normal distribution, by Acklam's rational approximation; its
/// relative error is below 1.2e-9.
fn probit(u: f64) -> f64 {
    const A: [f64; 6] = [
        -3.969683028665376e1,
        2.209460984245205e2,
        -2.759285104469687e2,
        1.38357751867269e2,
        -3.066479806614716e1,
        2.506628277459239,
    ];
    const B: [f64; 6] = [
        -5.447609879822406e1,
        1.615858368580409e2,
        -1.556989798598866e2,
        6.680131188771972e1,
        -1.328068155288572e1,
        1.0,
    ];
    const C: [f64; 6] = [
        -7.784894002430293e-3,
        -3.223964580411365e-1,
        -2.400758277161838,
        -2.549732539343734,
        4.374664141464968,
        2.938163982698783,
    ];
    const D: [f64; 5] =
        [7.784695709041462e-3, 3.224671290700398e-1, 2.445134137142996, 3.754408661907416, 1.0];
    const TAIL: f64 = 0.02425;
    if (TAIL..=1.0 - TAIL).contains(&u) {
        let q = u - 0.5;
        return q * polynomial(&A, q * q) / polynomial(&B, q * q);
    }
    let tail = |u: f64| {
        let q = (-2.0 * u.ln()).sqrt();
        polynomial(&C, q) / polynomial(&D, q)
    };
    if u < TAIL { tail(u) } else { -tail(1.0 - u) }
}

/// Horner's rule, the highest power first.
fn polynomial(coefficients: &[f64], x: f64) -> f64 {
    coefficients.iter().fold(0.0, |sum, c| sum * x + c)
}

/// Ranks 1 to `n`, the k-th about as frequent as 1 / k^exponent.
///
/// The ranks come from the integral of x^-exponent, which needs one random number and no table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Zipf {
    exponent: f64,
    n: f64,
    from: f64,
    width: f64,
}

impl Zipf {
    /// `exponent` must be above 0 and `n` at least 1.
    pub(super) fn new(exponent: f64, n: u64) -> Self {
        let n = n as f64;
        let from = area(0.5, exponent);
        Self { exponent, n, from, width: area(n + 0.5, exponent) - from }
    }

    /// The rank at `u`, counted from 0.
    pub(super) fn rank(&self, u: f64) -> u64 {
        let area = self.from + u * self.width;
        let x =
            if self.exponent == 1.0 { area.exp() } else { area.powf(1.0 / (1.0 - self.exponent)) };
        x.round().clamp(1.0, self.n) as u64 - 1
    }
}

/// An integral of x^-exponent, up to a constant factor.
fn area(x: f64, exponent: f64) -> f64 {
    if exponent == 1.0 { x.ln() } else { x.powf(1.0 - exponent) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_normal_quantile_agrees_with_tables() {
        let table = [(0.5, 0.0), (0.841_344_746_068_543, 1.0), (0.975, 1.959_963_984_540_054)];
        for (u, z) in table.into_iter().chain([(0.001, -3.090_232_306_167_813)]) {
            assert!((probit(u) - z).abs() < 1e-7, "u={u} z={}", probit(u));
        }
    }

    #[test]
    fn limits_cut_without_piling_up() {
        let shape = Shape::Normal { mean: 0.0, std_dev: 1.0 };
        let curve = Curve::new(shape, (Some(0.5), Some(2.0)), None).expect("numbers lie there");
        let values: Vec<f64> = (0..1000).map(|i| curve.at((f64::from(i) + 0.5) / 1000.0)).collect();
        assert!(values.iter().all(|v| (0.5..=2.0).contains(v)));
        assert!(values.windows(2).all(|w| w[0] < w[1]));
        assert!(Curve::new(shape, (Some(50.0), Some(60.0)), None).is_none());
    }

    #[test]
    fn outliers_come_at_their_rate() {
        let outliers = Outliers { rate: 0.01, factor: 1000.0 };
        let shape = Shape::Uniform { from: 1.0, to: 2.0 };
        let curve = Curve::new(shape, (None, None), Some(outliers)).expect("numbers lie there");
        let far = (0..10_000).filter(|i| curve.at((f64::from(*i) + 0.5) / 1e4) >= 1000.0).count();
        assert_eq!(far, 100);
    }

    #[test]
    fn low_ranks_are_frequent_and_all_are_reached() {
        for exponent in [0.5, 1.0, 1.5] {
            let zipf = Zipf::new(exponent, 10);
            let mut seen = [0u32; 10];
            for i in 0..100_000 {
                seen[zipf.rank((f64::from(i) + 0.5) / 1e5) as usize] += 1;
            }
            assert!(seen.windows(2).all(|w| w[0] > w[1] && w[1] > 0), "{exponent} {seen:?}");
        }
    }
}
