//! Rows of the table.

/// One measured value.
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) value: f64,
    pub(crate) bar: Option<Bar>,
}

/// What a value is to be at least or at most.
#[derive(Clone, Copy)]
pub(crate) enum Bar {
    AtLeast(f64),
    AtMost(f64),
}

impl Row {
    /// Without a bar: for information.
    pub(crate) fn new(name: impl Into<String>, value: f64) -> Self {
        Self { name: name.into(), value, bar: None }
    }

    pub(crate) fn at_least(self, bar: f64) -> Self {
        Self { bar: Some(Bar::AtLeast(bar)), ..self }
    }

    pub(crate) fn at_most(self, bar: f64) -> Self {
        Self { bar: Some(Bar::AtMost(bar)), ..self }
    }
}

/// Prints what several runs measured; each has the same rows.
pub(crate) fn print(runs: &[Vec<Row>]) {
    for (at, Row { name, bar, .. }) in runs[0].iter().enumerate() {
        let mut values: Vec<f64> = runs.iter().map(|rows| rows[at].value).collect();
        values.sort_by(f64::total_cmp);
        let (median, count) = (values[values.len() / 2], values.len());
        let range = match count {
            1 => "one run".to_owned(),
            _ => format!("{} to {}", short(values[0]), short(values[count - 1])),
        };
        let (bar, met) = bar.map_or((String::new(), ""), |bar| bar.judge(median));
        println!("| {name} | {} | {range} | {bar} | {met} |", short(median));
    }
}

impl Bar {
    fn judge(self, median: f64) -> (String, &'static str) {
        let (bar, is_met) = match self {
            Self::AtLeast(bar) => (format!("≥ {bar}"), median >= bar),
            Self::AtMost(bar) => (format!("≤ {bar}"), median <= bar),
        };
        (bar, if is_met { "met" } else { "missed" })
    }
}

/// Three digits that count.
fn short(value: f64) -> String {
    match value.abs() {
        0.0..1.0 => format!("{value:.3}"),
        1.0..10.0 => format!("{value:.2}"),
        10.0..100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}
