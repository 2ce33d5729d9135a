//! Which files are rewritten together, and where new rows go. Files whose keys overlap belong together. Neighbours are
//! joined while they are small, but never over a file between them, and never across windows. So a new file does not
//! cover keys of files that stay.

use super::prune::Span;
use super::rewrite::{MEMORY, Scanned};
use super::sorted::Upserts;
use std::collections::BTreeMap;
use std::ops::Range;

/// New rows of up to this many windows get a file for each window.
const WINDOWS: usize = 32;

/// Rows that are written in one order.
#[derive(Default)]
pub(super) struct Unit {
    pub files: Vec<Scanned>,
    /// Ranges of the sorted new rows.
    pub upserts: Vec<Range<usize>>,
    /// About the size of the rows that are written.
    pub bytes: u64,
    /// About the bytes of its files in memory.
    pub memory: usize,
    low: Vec<u8>,
    high: Vec<u8>,
    low_window: Option<i64>,
    high_window: Option<i64>,
}

impl Unit {
    pub(super) fn of(file: Scanned) -> Self {
        Unit {
            bytes: file.file.size.max(0) as u64,
            memory: file.memory(),
            low: file.low.clone(),
            high: file.high.clone(),
            low_window: file.low_window,
            high_window: file.high_window,
            files: vec![file],
            upserts: vec![],
        }
    }

    pub(super) fn take(&mut self, other: Unit) {
        if other.high > self.high {
            (self.high, self.high_window) = (other.high, other.high_window);
        }
        self.files.extend(other.files);
        self.upserts.extend(other.upserts);
        self.bytes += other.bytes;
        self.memory += other.memory;
    }
}

/// The files that stay.
pub(super) struct Around {
    /// By their lowest key.
    spans: Vec<Span>,
    /// The highest key of each file and those before it.
    highest: Vec<Vec<u8>>,
}

impl Around {
    pub(super) fn new(mut spans: Vec<Span>) -> Self {
        spans.sort_unstable_by(|a, b| a.low.cmp(&b.low));
        let mut highest: Vec<Vec<u8>> = Vec::with_capacity(spans.len());
        for span in &spans {
            let before = highest.last().filter(|h| **h > span.high);
            highest.push(before.unwrap_or(&span.high).clone());
        }
        Self { spans, highest }
    }

    /// Whether no file can have a key between the two, which are in order.
    fn is_free(&self, from: &[u8], to: &[u8]) -> bool {
        let first = self.highest.partition_point(|h| h.as_slice() < from);
        self.spans.get(first).is_none_or(|s| s.low.as_slice() > to)
    }
}

/// Files whose keys overlap, as far as they fit into memory together. `files` are sorted by their lowest key.
fn overlapping(files: Vec<Scanned>) -> Vec<Unit> {
    let mut out: Vec<Unit> = vec![];
    for file in files {
        match out.last_mut() {
            Some(last) if file.low <= last.high && last.memory + file.memory() <= MEMORY => last.take(Unit::of(file)),
            _ => out.push(Unit::of(file)),
        }
    }
    out
}

pub(super) fn units(
    mut found: Vec<Scanned>,
    upserts: &Upserts,
    around: &Around,
    windowed: bool,
    target: u64,
) -> Vec<Unit> {
    found.sort_by(|a, b| a.low.cmp(&b.low));
    let mut units = overlapping(found);
    let same = |a: Option<i64>, b: Option<i64>| !windowed || a.is_some() && a == b;
    // A new row whose key is between the lowest and the highest key of a unit goes into the unit. A new row below or
    // above these keys also goes into the unit, on two conditions: the unit is smaller than `target`, and no file that
    // stays has keys between the row and the unit. `at` is the first new row above the unit before, and `loose`
    // collects the rows that no unit takes.
    let (mut at, mut loose) = (0, vec![]);
    for i in 0..units.len() {
        let (before, unit) = units.split_at_mut(i);
        let unit = &mut unit[0];
        let start = at + upserts.keys[at..].partition_point(|k| k.as_slice() < unit.low.as_slice());
        let mut gap = at..start;
        if let Some(left) = before.last_mut() {
            gap = beside(left, gap, upserts, around, &same, target);
        }
        while gap.end > gap.start
            && unit.bytes < target
            && same(upserts.window(gap.end - 1), unit.low_window)
            && around.is_free(&upserts.keys[gap.end - 1], &unit.low)
        {
            gap.end -= 1;
            unit.low = upserts.keys[gap.end].clone();
            unit.bytes += upserts.row_bytes;
        }
        if !gap.is_empty() {
            loose.push(gap.clone());
        }
        at = start + upserts.keys[start..].partition_point(|k| *k <= unit.high);
        unit.bytes += (at - start) as u64 * upserts.row_bytes;
        unit.upserts.push(gap.end..at);
    }
    let mut gap = at..upserts.len();
    if let Some(left) = units.last_mut() {
        gap = beside(left, gap, upserts, around, &same, target);
    }
    if !gap.is_empty() {
        loose.push(gap);
    }
    let mut out: Vec<Unit> = vec![];
    for unit in units {
        match out.last_mut() {
            Some(last)
                if last.bytes + unit.bytes <= target
                    && last.high < unit.low
                    && last.memory + unit.memory <= MEMORY
                    && same(last.high_window, unit.low_window)
                    && around.is_free(&last.high, &unit.low) =>
            {
                last.take(unit)
            }
            _ => out.push(unit),
        }
    }
    out.extend(apart(loose, upserts, windowed));
    out
}

/// Adds the first rows of a gap to the unit before it. Returns the others.
fn beside(
    unit: &mut Unit,
    mut gap: Range<usize>,
    upserts: &Upserts,
    around: &Around,
    same: &dyn Fn(Option<i64>, Option<i64>) -> bool,
    target: u64,
) -> Range<usize> {
    let from = gap.start;
    while !gap.is_empty()
        && unit.bytes < target
        && same(unit.high_window, upserts.window(gap.start))
        && around.is_free(&unit.high, &upserts.keys[gap.start])
    {
        unit.high = upserts.keys[gap.start].clone();
        unit.bytes += upserts.row_bytes;
        gap.start += 1;
    }
    if gap.start > from {
        unit.upserts.push(from..gap.start);
    }
    gap
}

/// New rows that are not next to a file. If there are few windows, each window has a unit. Otherwise all rows are in one
/// order, and their files are cut by size.
fn apart(gaps: Vec<Range<usize>>, upserts: &Upserts, windowed: bool) -> Vec<Unit> {
    let mut by_window: BTreeMap<Option<i64>, Vec<Range<usize>>> = BTreeMap::new();
    for gap in &gaps {
        let mut from = gap.start;
        while from < gap.end {
            let window = upserts.window(from);
            let run = match windowed {
                true => (from..gap.end).find(|r| upserts.window(*r) != window).unwrap_or(gap.end),
                false => gap.end,
            };
            by_window.entry(window.filter(|_| windowed)).or_default().push(from..run);
            from = run;
        }
    }
    let all: Vec<Vec<Range<usize>>> = match by_window.len() {
        0 => vec![],
        n if n <= WINDOWS => by_window.into_values().collect(),
        _ => vec![gaps],
    };
    let unit = |ranges: Vec<Range<usize>>| {
        let rows: usize = ranges.iter().map(|r| r.len()).sum();
        Unit { upserts: ranges, bytes: rows as u64 * upserts.row_bytes, ..Unit::default() }
    };
    all.into_iter().map(unit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use deltalake::kernel::Add;

    fn file(low: u8, high: u8, size: i64, window: Option<i64>) -> Scanned {
        Scanned {
            file: Add { path: format!("{low}-{high}"), size, ..Add::default() },
            data: None,
            keep: None,
            rows: 1,
            dropped: 1,
            deleted: 0,
            sorted: true,
            low: vec![low],
            high: vec![high],
            low_window: window,
            high_window: window,
        }
    }

    fn shown(units: &[Unit]) -> Vec<String> {
        let one = |u: &Unit| {
            let files: Vec<&str> = u.files.iter().map(|f| f.file.path.as_str()).collect();
            format!("{} {:?}", files.join(","), u.upserts.iter().flat_map(|r| r.clone()).collect::<Vec<_>>())
        };
        units.iter().map(one).collect()
    }

    fn around(spans: &[(u8, u8)]) -> Around {
        Around::new(spans.iter().map(|(l, h)| Span { low: vec![*l], high: vec![*h] }).collect())
    }

    #[test]
    fn files_that_overlap_are_rewritten_together_and_small_neighbours_are_joined_but_not_over_others() {
        let files =
            || vec![file(70, 80, 10, None), file(10, 20, 10, None), file(15, 30, 10, None), file(40, 50, 10, None)];
        let none = Upserts::of_keys(&[]);
        assert_eq!(shown(&units(files(), &none, &around(&[]), false, 100)), ["10-20,15-30,40-50,70-80 []"]);
        assert_eq!(shown(&units(files(), &none, &around(&[]), false, 35)), ["10-20,15-30,40-50 []", "70-80 []"]);
        let others = around(&[(0, 5), (60, 65)]);
        assert_eq!(shown(&units(files(), &none, &others, false, 100)), ["10-20,15-30,40-50 []", "70-80 []"]);
        // A wide file overlaps everything.
        let wide = around(&[(0, 255)]);
        assert_eq!(shown(&units(files(), &none, &wide, false, 100)), ["10-20,15-30 []", "40-50 []", "70-80 []"]);
    }

    #[test]
    fn new_rows_go_where_they_widen_no_file_over_another() {
        let files = || vec![file(20, 30, 10, None), file(60, 70, 10, None)];
        let keys = Upserts::of_keys(&[10, 25, 40, 50, 65, 90]);
        assert_eq!(shown(&units(files(), &keys, &around(&[]), false, 15)), ["20-30 [0, 1, 2, 3]", "60-70 [4, 5]"]);
        let others = around(&[(45, 46), (80, 85)]);
        assert_eq!(shown(&units(files(), &keys, &others, false, 100)), ["20-30 [0, 1, 2]", "60-70 [3, 4]", " [5]"]);
        let all =
            |units: &[Unit]| units.iter().map(|u| u.upserts.iter().map(|r| r.len()).sum::<usize>()).sum::<usize>();
        assert_eq!(all(&units(vec![], &keys, &others, false, 100)), 6);
    }

    #[test]
    fn windows_are_kept_apart() {
        let files = || vec![file(20, 30, 1, Some(1)), file(40, 50, 1, Some(1)), file(60, 70, 1, Some(2))];
        let keys = Upserts::of_windows(&[(55, 1), (57, 2), (90, 2), (91, 3), (92, 4)]);
        assert_eq!(
            shown(&units(files(), &keys, &around(&[]), true, 100)),
            ["20-30,40-50 [0]", "60-70 [1, 2]", " [3]", " [4]"]
        );
        let many: Vec<(u8, i64)> = (100..200).map(|k| (k, k.into())).collect();
        let units = units(files(), &Upserts::of_windows(&many), &around(&[]), true, 100);
        assert_eq!(units.len(), 3, "the files of many new windows are cut by size");
        assert_eq!(units[2].upserts.iter().map(|r| r.len()).sum::<usize>(), 100);
    }
}
