//! Cost against size, and the power of the size that fits it.

/// What one operation cost at several sizes.
pub(crate) struct Series {
    /// The operation.
    pub(crate) name: String,
    /// Size and cost.
    pub(crate) points: Vec<(f64, f64)>,
    /// The exponent that it may have.
    pub(crate) goal: f64,
}

/// `cost = factor · size ^ exponent`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Line {
    pub(crate) exponent: f64,
    pub(crate) factor: f64,
}

/// An exponent this much higher is still taken for the goal: a cost that doubles over seven decades, or is a quarter off over one.
const TOLERANCE: f64 = 0.1;

impl Series {
    pub(crate) fn new(name: impl Into<String>, goal: f64) -> Self {
        Self { name: name.into(), points: Vec::new(), goal }
    }

    /// The line through all points.
    pub(crate) fn line(&self) -> Line {
        fit(&self.points)
    }

    /// The line through the larger half: where a constant part hides the growth of small sizes, it is seen here.
    pub(crate) fn upper(&self) -> Line {
        let half = self.points.len().div_ceil(2).max(2);
        fit(&self.points[self.points.len().saturating_sub(half)..])
    }

    /// Neither of the two is steeper than allowed.
    pub(crate) fn is_good(&self) -> bool {
        self.line().exponent.max(self.upper().exponent) <= self.goal + TOLERANCE
    }
}

/// Least squares over the logarithms.
fn fit(points: &[(f64, f64)]) -> Line {
    // What takes less than the clock shows is no point.
    let logs: Vec<(f64, f64)> = points.iter().filter(|(_, y)| *y > 0.0).map(|(x, y)| (x.ln(), y.ln())).collect();
    if logs.is_empty() {
        return Line { exponent: 0.0, factor: 0.0 };
    }
    let many = logs.len() as f64;
    let (mean_x, mean_y) = (logs.iter().map(|(x, _)| x).sum::<f64>() / many, logs.iter().map(|(_, y)| y).sum::<f64>() / many);
    let along: f64 = logs.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
    let wide: f64 = logs.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
    let exponent = if wide > 0.0 { along / wide } else { 0.0 };
    Line { exponent, factor: (mean_y - exponent * mean_x).exp() }
}

impl Line {
    /// What it says of this size.
    pub(crate) fn at(self, size: f64) -> f64 {
        self.factor * size.powf(self.exponent)
    }
}
