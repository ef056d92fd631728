//! A sparkline: numbers over time in the space of a line of text.
//!
//! In: times and values. Out: points of lines. Gaps stay gaps; nothing is drawn of a single point.
//! It knows nothing of SVG but its coordinates.

/// Width and height of the picture.
pub(super) const SIZE: (f64, f64) = (240.0, 44.0);

/// What stays free at each side, for the last point's dot.
const MARGIN: f64 = 4.0;

/// A line, ready to be drawn.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Plot {
    /// Points of each piece without a gap, as SVG writes them.
    pub pieces: Vec<String>,
    /// The last point.
    pub last: (f64, f64),
    /// The least, the greatest and the last value.
    pub range: (f64, f64, f64),
    /// How many values there are.
    pub count: usize,
}

impl Plot {
    /// `values` at `times`, which only grow. None where there are fewer than two values, or two at
    /// one time: then it is not one series.
    pub(super) fn of(times: &[i64], values: &[Option<f64>]) -> Option<Self> {
        if times.windows(2).any(|pair| pair[0] >= pair[1]) {
            return None;
        }
        let finite =
            |(at, value): (&i64, &Option<f64>)| (*at, value.filter(|value| value.is_finite()));
        let all: Vec<(i64, Option<f64>)> = times.iter().zip(values).map(finite).collect();
        let known: Vec<(i64, f64)> =
            all.iter().filter_map(|(at, value)| Some((*at, (*value)?))).collect();
        let (first, last) = (known.first()?, known.last()?);
        if known.len() < 2 {
            return None;
        }
        let least = known.iter().map(|(_, value)| *value).fold(f64::INFINITY, f64::min);
        let most = known.iter().map(|(_, value)| *value).fold(f64::NEG_INFINITY, f64::max);
        let place = |at: i64, value: f64| {
            let x = share(at as f64, first.0 as f64, last.0 as f64);
            let y = 1.0 - share(value, least, most);
            let inside = |share: f64, size: f64| MARGIN + share * (size - 2.0 * MARGIN);
            (inside(x, SIZE.0), inside(y, SIZE.1))
        };
        let pieces = all.split(|(_, value)| value.is_none()).filter(|piece| !piece.is_empty());
        let written = |piece: &[(i64, Option<f64>)]| {
            let points = piece.iter().filter_map(|(at, value)| Some(place(*at, (*value)?)));
            let texts: Vec<String> = points.map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
            texts.join(" ")
        };
        Some(Self {
            pieces: pieces.map(written).collect(),
            last: place(last.0, last.1),
            range: (least, most, last.1),
            count: known.len(),
        })
    }
}

/// Where `value` is between two others; in the middle where those are one.
fn share(value: f64, from: f64, to: f64) -> f64 {
    let width = to - from;
    if width > 0.0 && width.is_finite() { (value - from) / width } else { 0.5 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_fill_the_picture() {
        let plot = Plot::of(&[0, 5, 10], &[Some(1.0), Some(3.0), Some(2.0)]).unwrap();
        assert_eq!(plot.pieces, ["4.0,40.0 120.0,4.0 236.0,22.0"]);
        assert_eq!((plot.last, plot.range, plot.count), ((236.0, 22.0), (1.0, 3.0, 2.0), 3));
    }

    #[test]
    fn time_is_to_scale_and_gaps_stay() {
        let values = [Some(0.0), None, Some(f64::NAN), Some(1.0), Some(0.0)];
        let plot = Plot::of(&[0, 1, 2, 75, 100], &values).unwrap();
        assert_eq!(plot.pieces, ["4.0,40.0", "178.0,4.0 236.0,40.0"]);
    }

    #[test]
    fn what_does_not_change_is_in_the_middle() {
        let plot = Plot::of(&[0, 1], &[Some(7.0), Some(7.0)]).unwrap();
        assert_eq!(plot.pieces, ["4.0,22.0 236.0,22.0"]);
        let plot = Plot::of(&[0, 1], &[Some(f64::MIN), Some(f64::MAX)]).unwrap();
        assert_eq!(plot.pieces, ["4.0,22.0 236.0,22.0"]);
    }

    #[test]
    fn what_is_no_series_is_not_drawn() {
        let one = Some(1.0);
        assert_eq!(Plot::of(&[], &[]), None);
        assert_eq!(Plot::of(&[1], &[one]), None);
        assert_eq!(Plot::of(&[1, 2], &[one, None]), None);
        assert_eq!(Plot::of(&[1, 1], &[one, one]), None);
        assert_eq!(Plot::of(&[2, 1], &[one, one]), None);
        assert!(Plot::of(&[i64::MIN, i64::MAX], &[one, one]).is_some());
    }
}
