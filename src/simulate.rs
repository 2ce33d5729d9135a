//! Simulated events. The same seed gives the same rows.

use crate::{
    error::{Error, Result},
    time::{EventTime, micros},
};
use arrow::{
    array::{ArrayRef, Int32Array, RecordBatch, StringBuilder, TimestampMicrosecondArray},
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::{fmt::Write, sync::Arc, sync::LazyLock, time::Duration};

/// Fitness trackers that report a pulse. `FitnessOptions::new` has the defaults.
#[derive(Debug, Clone)]
pub struct FitnessOptions {
    pub rows: u64,
    pub seed: u64,
    /// The time of the first row. The following rows are `interval` apart.
    pub start: EventTime,
    pub interval: Duration,
    /// Rows are out of order: the time of a row can be earlier by up to this duration.
    pub disorder: Duration,
    /// This share of the rows is late by a further `late_by`.
    pub late_fraction: f64,
    pub late_by: Duration,
    /// The region whose resting pulse rises. None means no outbreak.
    pub fever_region: Option<String>,
    /// The fever begins after this share of the rows.
    pub fever_start: f64,
    /// Beats per minute that the fever adds at the last row.
    pub fever_bpm: f64,
    /// The share of rows with model 'undef'.
    pub undef_fraction: f64,
    /// The share of rows with a pulse of 0.
    pub zero_fraction: f64,
    pub batch_rows: usize,
}

impl FitnessOptions {
    /// Rows that are 10 ms apart and end at `now`. So a notebook sees recent data, and the watermark is not ahead of
    /// the clock.
    pub fn new(rows: u64, seed: u64, now: EventTime) -> Self {
        let interval = Duration::from_millis(10);
        let span = interval.saturating_mul(u32::try_from(rows).unwrap_or(u32::MAX));
        Self {
            rows,
            seed,
            start: now.minus(span),
            interval,
            disorder: Duration::ZERO,
            late_fraction: 0.0,
            late_by: Duration::from_secs(300),
            fever_region: Some("Bayern".into()),
            fever_start: 0.5,
            fever_bpm: 15.0,
            undef_fraction: 0.10,
            zero_fraction: 0.05,
            batch_rows: 8192,
        }
    }
}

const MODELS: [&str; 6] = ["runner-1", "runner-2", "swim-pro", "bike-x", "classic", "classic-s"];
const COLORS: [&str; 6] = ["black", "white", "red", "blue", "green", "silver"];
const VERSIONS: [&str; 5] = ["1.0.0", "1.0.1", "1.1.0", "2.0.0", "2.0.1"];
/// The regions, and how many of a hundred trackers each has.
const REGIONS: [(&str, u32); 8] = [
    ("Bayern", 16),
    ("Berlin", 8),
    ("Hamburg", 6),
    ("Hessen", 12),
    ("Niedersachsen", 14),
    ("Nordrhein-Westfalen", 26),
    ("Sachsen", 8),
    ("Schleswig-Holstein", 10),
];
/// The activity, from resting to running, and the mean pulse in it.
const MEAN_BPM: f64 = 90.0;
const SPREAD_BPM: f64 = 15.0;

/// The batches, one after another.
pub struct Fitness {
    options: FitnessOptions,
    random: ChaCha8Rng,
    next: u64,
    fever: Option<usize>,
}

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    Arc::new(Schema::new(vec![
        text("ip"),
        Field::new("time", crate::time::timestamp_type(), true),
        text("version"),
        text("model"),
        text("color"),
        Field::new("heart_bpm", DataType::Int32, true),
        Field::new("kcal", DataType::Int32, true),
        text("region"),
    ]))
});

impl Fitness {
    pub fn new(options: FitnessOptions) -> Result<Self> {
        for (name, share) in [
            ("late_fraction", options.late_fraction),
            ("fever_start", options.fever_start),
            ("undef_fraction", options.undef_fraction),
            ("zero_fraction", options.zero_fraction),
        ] {
            if !(0.0..=1.0).contains(&share) {
                return Err(Error::config(format!("{name} must be between 0 and 1, not {share}")));
            }
        }
        if options.batch_rows == 0 {
            return Err(Error::config("batch_rows must be at least 1"));
        }
        let fever = match &options.fever_region {
            None => None,
            Some(wanted) => Some(REGIONS.iter().position(|(name, _)| name == wanted).ok_or_else(|| {
                let names: Vec<_> = REGIONS.iter().map(|(name, _)| *name).collect();
                Error::config(format!("there is no simulated region '{wanted}'. The regions are {}.", names.join(", ")))
            })?),
        };
        let random = ChaCha8Rng::seed_from_u64(options.seed);
        Ok(Self { options, random, next: 0, fever })
    }

    pub fn schema() -> SchemaRef {
        SCHEMA.clone()
    }

    /// The progress of the fever at this row, from 0 to 1.
    fn fever_at(&self, row: u64) -> f64 {
        let begin = self.options.fever_start * self.options.rows as f64;
        let length = self.options.rows as f64 - begin;
        if length <= 0.0 { 0.0 } else { ((row as f64 - begin) / length).clamp(0.0, 1.0) }
    }

    fn time_of(&mut self, row: u64) -> i64 {
        let o = &self.options;
        let step = micros(o.interval).saturating_mul(i64::try_from(row).unwrap_or(i64::MAX));
        let mut time = o.start.0.saturating_add(step);
        let disorder = micros(o.disorder);
        if disorder > 0 {
            time -= self.random.random_range(0..=disorder);
        }
        if o.late_fraction > 0.0 && self.random.random_bool(o.late_fraction) {
            time -= micros(o.late_by);
        }
        time
    }

    fn batch(&mut self, rows: usize) -> Result<RecordBatch> {
        let texts = |bytes: usize| StringBuilder::with_capacity(rows, rows * bytes);
        let (mut ip, mut version, mut model, mut color, mut region) =
            (texts(12), texts(5), texts(8), texts(6), texts(12));
        let mut time = Vec::with_capacity(rows);
        let (mut bpm, mut kcal) = (Vec::with_capacity(rows), Vec::with_capacity(rows));
        for row in self.next..self.next + rows as u64 {
            time.push(self.time_of(row));
            // One random number serves several small choices, because the generator needs most of the time.
            let draw = self.random.next_u64();
            let tracker = draw & 0xFFFF;
            // Writing to a string cannot fail.
            let _ = write!(ip, "10.{}.{}.{}", tracker & 3, (tracker >> 2) & 255, (tracker >> 10) & 63);
            ip.append_value("");
            // A tracker keeps its model, colour, version and region.
            let traits = tracker.wrapping_mul(0x9E37_79B9_7F4A_7C15);
            version.append_value(VERSIONS[(traits >> 13) as usize % VERSIONS.len()]);
            color.append_value(COLORS[(traits >> 29) as usize % COLORS.len()]);
            let undef = chance(draw >> 16, self.options.undef_fraction);
            model.append_value(if undef { "undef" } else { MODELS[(traits >> 41) as usize % MODELS.len()] });
            let place = region_of((traits >> 52) as u32 % 100);
            region.append_value(REGIONS[place].0);

            let noise = gaussian(&mut self.random);
            let mut pulse = MEAN_BPM + SPREAD_BPM * noise;
            if self.fever == Some(place) {
                pulse += self.options.fever_bpm * self.fever_at(row);
            }
            let pulse = (pulse.round() as i32).clamp(35, 230);
            let zero = chance(draw >> 40, self.options.zero_fraction);
            bpm.push(if zero { 0 } else { pulse });
            kcal.push(pulse * 5 + (draw >> 58) as i32);
        }
        self.next += rows as u64;
        let time = TimestampMicrosecondArray::from(time).with_timezone("UTC");
        let columns: Vec<ArrayRef> = vec![
            Arc::new(ip.finish()),
            Arc::new(time),
            Arc::new(version.finish()),
            Arc::new(model.finish()),
            Arc::new(color.finish()),
            Arc::new(Int32Array::from(bpm)),
            Arc::new(Int32Array::from(kcal)),
            Arc::new(region.finish()),
        ];
        Ok(RecordBatch::try_new(SCHEMA.clone(), columns)?)
    }
}

/// True with probability `share`, from the lowest 16 bits of a random number.
fn chance(draw: u64, share: f64) -> bool {
    ((draw & 0xFFFF) as f64) < share * 65_536.0
}

fn region_of(percent: u32) -> usize {
    let mut sum = 0;
    REGIONS
        .iter()
        .position(|(_, share)| {
            sum += share;
            percent < sum
        })
        .unwrap_or(REGIONS.len() - 1)
}

/// Nearly normally distributed with mean 0 and spread 1: the sum of twelve 10-bit numbers (Irwin–Hall), from two random
/// numbers and without logarithms.
fn gaussian(random: &mut impl Rng) -> f64 {
    let mut sum = 0;
    for _ in 0..2 {
        let draw = random.next_u64();
        sum += (0..6).map(|i| (draw >> (10 * i)) & 1023).sum::<u64>();
    }
    (sum as f64 / 1023.0) - 6.0
}

impl Iterator for Fitness {
    type Item = Result<RecordBatch>;
    fn next(&mut self) -> Option<Self::Item> {
        let left = self.options.rows - self.next;
        let rows = self.options.batch_rows.min(usize::try_from(left).unwrap_or(usize::MAX));
        (rows > 0).then(|| self.batch(rows))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::{array::AsArray, compute::concat_batches, datatypes::Int32Type, datatypes::TimestampMicrosecondType};

    const NOW: EventTime = EventTime(1_700_000_000_000_000);

    fn rows(options: FitnessOptions) -> RecordBatch {
        let batches: Vec<_> = Fitness::new(options).unwrap().map(Result::unwrap).collect();
        concat_batches(&SCHEMA, &batches).unwrap()
    }

    fn mean(values: impl Iterator<Item = i32>) -> f64 {
        let (sum, count) = values.fold((0f64, 0f64), |(s, n), v| (s + f64::from(v), n + 1.0));
        sum / count
    }

    #[test]
    fn the_same_seed_gives_the_same_rows_and_another_seed_others() {
        let options = FitnessOptions::new(10_000, 7, NOW);
        assert_eq!(rows(options.clone()), rows(options.clone()));
        assert_eq!(rows(options.clone()), rows(FitnessOptions { batch_rows: 333, ..options.clone() }));
        assert_ne!(rows(options.clone()), rows(FitnessOptions { seed: 8, ..options }));
    }

    #[test]
    fn a_tenth_has_no_model_and_a_twentieth_no_pulse_and_the_rest_is_normal_around_90() {
        let all = rows(FitnessOptions { fever_region: None, ..FitnessOptions::new(200_000, 1, NOW) });
        assert_eq!(all.num_rows(), 200_000);
        let undef = all["model"].as_string::<i32>().iter().filter(|m| *m == Some("undef")).count() as f64;
        assert!((undef / 200_000.0 - 0.10).abs() < 0.005, "{undef}");
        let bpm: Vec<i32> = all["heart_bpm"].as_primitive::<Int32Type>().values().to_vec();
        let zero = bpm.iter().filter(|b| **b == 0).count() as f64;
        assert!((zero / 200_000.0 - 0.05).abs() < 0.005, "{zero}");
        let living = mean(bpm.iter().copied().filter(|b| *b > 0));
        assert!((living - 90.0).abs() < 0.5, "{living}");
        let spread =
            (bpm.iter().filter(|b| **b > 0).map(|b| (f64::from(*b) - living).powi(2)).sum::<f64>() / 190_000.0).sqrt();
        assert!((spread - 15.0).abs() < 0.5, "{spread}");
        assert_eq!(all.schema().fields().last().unwrap().name(), "region");
    }

    #[test]
    fn one_region_develops_a_fever_and_the_others_stay_well() {
        let all = rows(FitnessOptions::new(200_000, 3, NOW));
        let last = all.slice(180_000, 20_000);
        let regions = last["region"].as_string::<i32>();
        let bpm = last["heart_bpm"].as_primitive::<Int32Type>();
        let of = |sick: bool| {
            mean(
                (0..last.num_rows())
                    .filter(|i| (regions.value(*i) == "Bayern") == sick && bpm.value(*i) > 0)
                    .map(|i| bpm.value(i)),
            )
        };
        assert!(of(true) > 100.0, "{}", of(true));
        assert!((of(false) - 90.0).abs() < 1.0, "{}", of(false));
    }

    #[test]
    fn times_rise_unless_disorder_or_late_rows_are_asked_for() {
        let times = |options: FitnessOptions| {
            rows(options)["time"].as_primitive::<TimestampMicrosecondType>().values().to_vec()
        };
        let plain = FitnessOptions::new(1_000, 1, NOW);
        assert!(times(plain.clone()).is_sorted());
        assert!(times(plain.clone()).iter().all(|t| *t < NOW.0));
        let disordered = times(FitnessOptions { disorder: Duration::from_secs(1), ..plain.clone() });
        assert!(!disordered.is_sorted());
        let late = times(FitnessOptions { late_fraction: 0.01, ..plain.clone() });
        let behind = late.iter().zip(times(plain)).filter(|(late, plain)| **late < plain - 200_000_000).count();
        assert!((1..50).contains(&behind), "{behind}");
    }

    #[test]
    fn a_million_rows_take_about_a_second_at_most() {
        let start = std::time::Instant::now();
        let rows: usize =
            Fitness::new(FitnessOptions::new(1_000_000, 1, NOW)).unwrap().map(|b| b.unwrap().num_rows()).sum();
        println!("{:.1} M rows/s", rows as f64 / start.elapsed().as_secs_f64() / 1e6);
        assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    }

    #[test]
    fn a_region_that_is_not_simulated_is_refused() {
        let options = FitnessOptions { fever_region: Some("Atlantis".into()), ..FitnessOptions::new(1, 1, NOW) };
        assert!(Fitness::new(options).err().unwrap().message.contains("Atlantis"));
    }
}
