//! A compact histogram of durations: bucket widths grow with the durations, so that every percentile is exact to 1 / 64
//! (1.6 %).

/// Buckets for each doubling of the duration. Below twice as many milliseconds, each has a bucket of its own.
const BUCKETS: u64 = 32;

/// A bucket's number and count, as stored.
const STORED: usize = size_of::<u16>() + size_of::<u32>();

/// Count of each non-empty bucket, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Histogram(Vec<(u16, u64)>);

impl Histogram {
    /// Counts a duration.
    pub(super) fn add(&mut self, milliseconds: i64) {
        self.count(0, bucket(milliseconds.unsigned_abs()), 1);
    }

    /// Adds the counts of another histogram.
    pub(super) fn merge(&mut self, other: &Self) {
        let mut from = 0;
        for &(bucket, count) in &other.0 {
            from = self.count(from, bucket, count);
        }
    }

    /// Adds to a bucket at or after position `from`; returns its position.
    fn count(&mut self, from: usize, bucket: u16, count: u64) -> usize {
        let place = from + self.0[from..].partition_point(|(there, _)| *there < bucket);
        match self.0.get_mut(place) {
            Some((there, counted)) if *there == bucket => *counted += count,
            _ => self.0.insert(place, (bucket, count)),
        }
        place
    }

    /// Returns the duration, in milliseconds, that at least `percent` of all do not exceed (nearest rank).
    pub(super) fn percentile(&self, percent: u64) -> i64 {
        let all: u64 = self.0.iter().map(|(_, count)| count).sum();
        let rank = (all * percent).div_ceil(100);
        let mut counted = 0;
        let found = self.0.iter().find(|(_, count)| {
            counted += count;
            counted >= rank
        });
        found.map_or(0, |(bucket, _)| middle(*bucket))
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let stored = |(bucket, count): &(u16, u64)| {
            let count = u32::try_from(*count).unwrap_or(u32::MAX);
            bucket.to_le_bytes().into_iter().chain(count.to_le_bytes())
        };
        self.0.iter().flat_map(stored).collect()
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Self {
        let read = |stored: &[u8; STORED]| {
            let [low, high, count @ ..] = *stored;
            (u16::from_le_bytes([low, high]), u32::from_le_bytes(count).into())
        };
        Self(bytes.as_chunks().0.iter().map(read).collect())
    }
}

/// Returns a duration's bucket: the number of halvings to bring it below `2 * BUCKETS`, and the rest.
fn bucket(milliseconds: u64) -> u16 {
    let halvings = halvings(milliseconds);
    let number = u64::from(halvings) * BUCKETS + (milliseconds >> halvings);
    u16::try_from(number).unwrap_or(u16::MAX)
}

fn halvings(milliseconds: u64) -> u32 {
    (milliseconds / BUCKETS).checked_ilog2().unwrap_or(0)
}

/// Returns the duration in the middle of a bucket.
fn middle(bucket: u16) -> i64 {
    let bucket = u64::from(bucket);
    let halvings = (bucket / BUCKETS).saturating_sub(1);
    let lowest = (bucket - halvings * BUCKETS) << halvings;
    i64::try_from(lowest + ((1 << halvings) >> 1)).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(durations: impl IntoIterator<Item = i64>) -> Histogram {
        let mut histogram = Histogram::default();
        durations.into_iter().for_each(|milliseconds| histogram.add(milliseconds));
        histogram
    }

    #[test]
    fn durations_are_exact_to_a_64th() {
        let all = (0..100_000).chain((17..63).flat_map(|bits| [(1 << bits) - 1, 1 << bits, (1 << bits) / 5 * 6]));
        for milliseconds in all.chain([i64::MAX]) {
            let found = of([milliseconds]).percentile(50);
            assert!(found.abs_diff(milliseconds) <= milliseconds.unsigned_abs() / 64, "{milliseconds}: {found}");
        }
    }

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let exact = of([10, 20, 30, 40]);
        assert_eq!([1, 25, 26, 50, 75, 76, 100].map(|percent| exact.percentile(percent)), [10, 10, 20, 20, 30, 40, 40]);
        assert_eq!(Histogram::default().percentile(50), 0);
    }

    #[test]
    fn merged_histograms_count_everything() {
        let (mut even, odd) = (of((0..5000).step_by(2)), of((1..5000).step_by(2)));
        even.merge(&odd);
        assert_eq!(even, of(0..5000));
    }

    #[test]
    fn stored_histograms_read_back_unchanged() {
        let histogram = of([0, 1, 1, 63, 64, 65, 1_000_000, i64::MAX]);
        assert_eq!(Histogram::from_bytes(&histogram.to_bytes()), histogram);
        assert_eq!(histogram.to_bytes().len(), 6 * STORED, "64 and 65 share a bucket");
        assert_eq!(Histogram::from_bytes(&[1, 2, 3]), Histogram::default());
    }
}
