//! Which windows an event time belongs to. Pure.

use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// Windows of one size that start every `slide`, from `offset` after 1970-01-01 UTC. All in microseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowSpec {
    pub column: String,
    pub size: i64,
    pub slide: i64,
    pub offset: i64,
}

impl WindowSpec {
    pub fn new(column: &str, size: &str, slide: Option<&str>, offset: Option<&str>) -> Result<Self> {
        let read = |what: &str, text: &str| {
            let d = crate::time::parse_duration(text).map_err(|e| Error::config(format!("window {what}: {e}")))?;
            Ok::<i64, Error>(crate::time::micros(d))
        };
        let size = read("size", size)?;
        let slide = slide.map_or(Ok(size), |s| read("slide", s))?;
        let offset = offset.map_or(Ok(0), |o| read("offset", o))?;
        if size <= 0 || slide <= 0 {
            return Err(Error::config("a window's size and slide must be longer than nothing"));
        }
        if slide > size {
            return Err(Error::config(
                "a window's slide must not be longer than its size: rows between windows would be lost",
            ));
        }
        if size / slide > 10_000 {
            return Err(Error::config("each row would belong to more than 10,000 windows: use a longer slide"));
        }
        Ok(Self { column: column.into(), size, slide, offset })
    }

    pub fn is_tumbling(&self) -> bool {
        self.size == self.slide
    }

    /// The start of the last window that `time` belongs to.
    #[inline]
    pub fn last_start(&self, time: i64) -> i64 {
        let since = time.saturating_sub(self.offset);
        time.saturating_sub(since.rem_euclid(self.slide))
    }

    #[inline]
    pub fn end_of(&self, start: i64) -> i64 {
        start.saturating_add(self.size)
    }

    /// The starts of all windows that `time` belongs to, latest first.
    pub fn starts(&self, time: i64) -> impl Iterator<Item = i64> + '_ {
        let last = self.last_start(time);
        (0..)
            .map_while(move |k: i64| last.checked_sub(k.checked_mul(self.slide)?))
            .take_while(move |s| self.end_of(*s) > time && *s <= time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};

    #[test]
    fn every_window_that_holds_the_time_is_found_and_no_other() {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(3);
        for _ in 0..2000 {
            let slide = rng.random_range(1..20i64);
            let size = slide + rng.random_range(0..50i64);
            let spec = WindowSpec { column: "t".into(), size, slide, offset: rng.random_range(0..30) };
            let time = rng.random_range(-500..500i64);
            // All starts that are a multiple of the slide from the offset, tried one by one.
            let want: Vec<i64> = (time - size - slide..=time)
                .rev()
                .filter(|s| (s - spec.offset).rem_euclid(slide) == 0 && *s <= time && time < s + size)
                .collect();
            assert_eq!(spec.starts(time).collect::<Vec<_>>(), want, "{spec:?} {time}");
        }
    }
}
