//! The calendar against chrono, at random dates and at the changes of many zones' clocks.

use super::zone::to_utc;
use super::*;
use chrono::{DateTime, Datelike, NaiveDate, Offset, TimeZone, Timelike, Utc};
use chrono_tz::{TZ_VARIANTS, Tz};
use rand::{RngExt, SeedableRng};

fn random() -> rand_chacha::ChaCha8Rng {
    rand_chacha::ChaCha8Rng::seed_from_u64(20_240_331)
}

fn utc(micros: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(micros).unwrap()
}

fn offset_at(zone: Tz, instant: i64) -> i64 {
    i64::from(zone.offset_from_utc_datetime(&utc(instant).naive_utc()).fix().local_minus_utc()) * SECOND
}

/// Instants at which the zone's offset changes, with the offsets before and after, found by bisecting.
fn changes(zone: Tz, from: i64, until: i64) -> Vec<(i64, i64, i64)> {
    let mut out = vec![];
    let mut low = from;
    while low < until {
        let high = low + 7 * DAY;
        let (before, after) = (offset_at(zone, low), offset_at(zone, high));
        if before != after {
            let (mut same, mut other) = (low, high);
            while other - same > 1 {
                let middle = same + (other - same) / 2;
                if offset_at(zone, middle) == before { same = middle } else { other = middle }
            }
            out.push((other, before, offset_at(zone, other)));
        }
        low = high;
    }
    out
}

#[test]
fn dates_agree_with_chrono_over_all_years_that_it_has() {
    let mut random = random();
    let edges = [*DAYS.start(), *DAYS.end(), -1, 0, 59, 60, 11_016, -141_428, -95_000_000, 95_000_000];
    for days in edges.into_iter().chain((0..50_000).map(|_| random.random_range(-95_000_000..95_000_000))) {
        let theirs = NaiveDate::from_epoch_days(days as i32).unwrap();
        let (year, month, day) = (i64::from(theirs.year()), i64::from(theirs.month()), i64::from(theirs.day()));
        assert_eq!(civil_from_days(days), (year, month, day));
        assert_eq!(days_from_civil(year, month, day), days);
        assert_eq!(date(year, month, day), Some(days));
    }
    assert_eq!((utc(*MICROS.start()).year(), utc(*MICROS.end()).year()), (1, 9999));
    assert_eq!((MICROS.start() / DAY, MICROS.end() / DAY), (*DAYS.start(), *DAYS.end()));
    for year in [0, 4, 1900, 2000, 2023, 2024, 2100, -4] {
        for month in -1..=14 {
            for day in -1..=33 {
                let valid = |v: i64| u32::try_from(v).ok();
                let theirs = valid(month).zip(valid(day)).and_then(|(m, d)| NaiveDate::from_ymd_opt(year, m, d));
                let theirs = theirs.map(|d| i64::from(d.to_epoch_days()));
                assert_eq!(date(i64::from(year), month, day), theirs, "{year}-{month}-{day}");
            }
        }
    }
}

#[test]
fn months_are_added_as_chrono_adds_them() {
    let mut random = random();
    for _ in 0..20_000 {
        let (days, months) = (random.random_range(-700_000..700_000), random.random_range(-5_000..5_000));
        let start = NaiveDate::from_epoch_days(days).unwrap();
        let by = chrono::Months::new(i32::unsigned_abs(months));
        let theirs = if months < 0 { start.checked_sub_months(by) } else { start.checked_add_months(by) };
        assert_eq!(add_months(days.into(), months.into()), i64::from(theirs.unwrap().to_epoch_days()));
    }
}

#[test]
fn times_of_day_are_taken_apart_and_put_together() {
    let mut random = random();
    for _ in 0..20_000 {
        let micros = random.random_range(0..DAY);
        let time = utc(micros);
        let (h, m, s, us) = clock(micros);
        let theirs = (time.hour(), time.minute(), time.second(), time.timestamp_subsec_micros());
        assert_eq!((h as u32, m as u32, s as u32, us as u32), theirs);
        assert_eq!(time_of_day(h, m, s, us), Some(micros));
    }
    for (h, m, s) in [(24, 0, 0), (0, 60, 0), (0, 0, 60), (-1, 0, 0), (0, -1, 0), (0, 0, -1)] {
        assert_eq!(time_of_day(h, m, s, 0), None);
    }
}

#[test]
fn local_times_follow_the_clock_through_every_gap_and_overlap_of_the_last_century() {
    let (from, until) = (days_from_civil(1920, 1, 1) * DAY, days_from_civil(2037, 1, 1) * DAY);
    let (mut gaps, mut overlaps) = (0, 0);
    // Every seventh zone, and those whose clock does something rare: a day left out, half an hour, a zone that moved.
    let rare = [Tz::Pacific__Apia, Tz::Australia__Lord_Howe, Tz::Europe__Berlin, Tz::America__Caracas];
    for zone in TZ_VARIANTS.iter().copied().step_by(7).chain(rare) {
        let all = changes(zone, from, until);
        for (i, (at, before, after)) in all.iter().copied().enumerate() {
            // This oracle is too simple for two changes on one day.
            let near = |other: &(i64, i64, i64)| (other.0 - at).abs() < 3 * DAY;
            if all.iter().enumerate().any(|(k, other)| k != i && near(other)) {
                continue;
            }
            let (low, high) = (at + before.min(after), at + before.max(after));
            let inside = [low, low + SECOND, low + (high - low) / 2, high - 1];
            for local in inside {
                if before < after {
                    gaps += 1;
                    assert_eq!(to_utc(zone, local), Some(local - before), "{zone} {} is skipped", utc(local));
                    assert_eq!(first_moment(zone, local), Some(at), "{zone} {} is skipped", utc(local));
                } else {
                    overlaps += 1;
                    assert_eq!(to_utc(zone, local), Some(local - before), "{zone} {} comes twice", utc(local));
                    assert_eq!(first_moment(zone, local), Some(local - before), "{zone} {} comes twice", utc(local));
                }
            }
            for (local, offset) in [(low - 1, before), (low - DAY, before), (high, after), (high + DAY, after)] {
                for ours in [to_utc(zone, local), first_moment(zone, local)] {
                    assert_eq!(ours, Some(local - offset), "{zone} {}", utc(local));
                }
                assert_eq!(to_local(zone, local - offset), Some(local), "{zone} {}", utc(local));
            }
        }
    }
    assert!(gaps > 5_000 && overlaps > 5_000, "{gaps} gaps, {overlaps} overlaps");
}

#[test]
fn instants_become_local_times_as_chrono_has_them() {
    let mut random = random();
    for _ in 0..20_000 {
        let zone = TZ_VARIANTS[random.random_range(0..TZ_VARIANTS.len())];
        let instant = random.random_range(-4_000_000_000_000_000..4_000_000_000_000_000);
        let theirs = zone.from_utc_datetime(&utc(instant).naive_utc()).naive_local().and_utc().timestamp_micros();
        assert_eq!(to_local(zone, instant), Some(theirs), "{zone}");
    }
    // Times outside the calendar do not panic.
    for edge in [i64::MIN, i64::MAX, i64::MIN / 2, i64::MAX / 2] {
        for zone in [Tz::Europe__Berlin, Tz::Pacific__Apia] {
            let _ = (to_local(zone, edge), to_utc(zone, edge), first_moment(zone, edge));
        }
        assert_eq!(Zone::Fixed(SECOND).to_utc(i64::MIN), None);
    }
}

#[test]
fn timestamps_are_read_and_written_as_chrono_writes_and_reads_them() {
    let mut random = random();
    for _ in 0..50_000 {
        let micros = random.random_range(MICROS);
        let theirs = utc(micros);
        let zone = chrono::FixedOffset::east_opt(random.random_range(-18 * 60..=18 * 60) * 60).unwrap();
        let Some(local) = theirs.naive_utc().checked_add_offset(zone) else { continue };
        if !(1..=9999).contains(&local.year()) {
            continue;
        }
        let text = theirs.with_timezone(&zone).to_rfc3339_opts(chrono::SecondsFormat::AutoSi, random.random());
        assert_eq!(iso_timestamp(text.as_bytes(), Some(Tz::Europe__Berlin)), Some(micros), "{text}");
        assert_eq!(cast_timestamp(&text, Some(Tz::Europe__Berlin)), Some(micros), "{text}");
        let local = local.and_utc().timestamp_micros();
        let day = local.div_euclid(DAY);
        let written = timestamp_text(local);
        let (whole, fraction) = (utc(local).format("%F %T").to_string(), utc(local).format("%.6f").to_string());
        assert_eq!(written, whole + fraction.trim_end_matches('0').trim_end_matches('.'));
        assert_eq!(cast_timestamp(&written, None), Some(local), "{written}");
        assert_eq!(iso_timestamp(written.as_bytes(), None), Some(local), "{written}");
        let mut fixed = *b"0000-00-00T00:00:00.000000";
        put_date(day, &mut fixed[..10]).unwrap();
        put_time(local.rem_euclid(DAY), &mut fixed[11..]);
        assert_eq!(std::str::from_utf8(&fixed).unwrap(), utc(local).format("%FT%T%.6f").to_string());
        let date = date_text(day as i32);
        assert_eq!(date, utc(local).format("%F").to_string());
        assert_eq!((iso_date(date.as_bytes()), cast_date(&date)), (Some(day as i32), Some(day as i32)));
    }
    for beyond in [DAYS.start() - 1, DAYS.end() + 1, i64::MIN, i64::MAX] {
        assert_eq!(put_date(beyond, &mut [0; 10]), None);
    }
    assert_eq!((date_text(2_932_897), date_text(-719_529)), ("+10000-01-01".into(), "-0001-12-31".into()));
}

#[test]
fn iso_timestamps_are_the_spellings_of_producers_and_casts_those_of_spark() {
    let noon = Some(1_704_110_400_000_000);
    // The results of both functions: (the text, as ISO, as a cast).
    for (text, iso, cast) in [
        ("2024-01-01T12:00:00Z", noon, noon),
        ("2024-01-01 12:00:00", noon, noon),
        ("2024-01-01T12:00", noon, noon),
        ("2024-01-01T13:00:00+01:00", noon, noon),
        ("2024-01-01T13:00:00+0100", noon, noon),
        ("2024-01-01T11:00:00.000000000-01", noon, noon),
        ("2024-01-01T12:00:00.000000999Z", noon, noon),
        ("2024-01-02T06:00:00+18:00", noon, noon),
        ("2023-12-31T18:00:00-18:00", noon, noon),
        ("2024-01-01t12:00:00z", noon, None),
        ("2024-01-01T12:00:00,0Z", noon, None),
        ("2024-01-01T13:00+01:00", noon, None),
        ("2024-01-01 12:00:00 UTC", None, noon),
        ("2024-01-01 13:00:00 +0100", None, noon),
        ("2024-01-01 13:00:00+01:00:00", None, noon),
        ("2024-01-01 13:00:00+010000", None, noon),
        ("2024-1-1 12:0:0", None, noon),
        ("2024-01-01T12", None, noon),
        ("2024-01-01T17:30:00+5:30", None, noon),
        ("2024-01-01 13:00:00 Europe/Berlin", None, noon),
        ("2024-01-01 14:00:00 UTC+2", None, noon),
        (" 2024-01-01T12:00:00Z ", None, noon),
    ] {
        assert_eq!(iso_timestamp(text.as_bytes(), None), iso, "{text}");
        assert_eq!(cast_timestamp(text, None), cast, "{text}");
    }
    for bad in [
        "",
        "2024-02-30",
        "2024-13-01",
        "2024-00-01",
        "2024/01/01",
        "2024-01-01T",
        "2024-01-01T24:00:00Z",
        "2024-01-01T12:60:00Z",
        "2024-01-01T12:00:60Z",
        "2024-01-01T12-00:00Z",
        "2024-01-01T12:00:00.Z",
        "2024-01-01T12:00:00X",
        "2024-01-01T12:00:00+18:01",
        "2024-01-01T12:00:00-18:30",
        "2024-01-01T12:00:00+19",
        "2024-01-01T12:00:00+01:60",
        "2024-01-01T12:00:00+1800:0",
        "2024-01-01T12:00:00+",
        "2024-01-01T12:00:00+01:00[Europe/Berlin]",
        "2024-01-01T12:00:00+äö",
        "12/31/2024",
        "ä024-01-01",
    ] {
        assert_eq!(iso_timestamp(bad.as_bytes(), None), None, "{bad}");
        // CAST reads a point without digits behind it.
        if bad != "2024-01-01T12:00:00.Z" {
            assert_eq!(cast_timestamp(bad, None), None, "{bad}");
        }
    }
    for (text, days) in [
        ("2024", Some(19_723)),
        ("2024-01", Some(19_723)),
        ("2024-1-1", Some(19_723)),
        (" 2024-01-01T whatever", Some(19_723)),
        ("+12024-01-01", Some(3_672_148)),
        ("-0001-12-31", Some(-719_529)),
        ("24-01-01", None),
        ("2024-01-01x", None),
        ("9999999-01-01", None),
    ] {
        assert_eq!(cast_date(text), days, "{text}");
    }
}

#[test]
fn offsets_go_up_to_eighteen_hours_in_every_spelling() {
    let minutes = |n: i64| Some(Zone::Fixed(n * 60 * SECOND));
    for (text, zone) in [
        ("Z", minutes(0)),
        ("UTC", minutes(0)),
        ("GMT", minutes(0)),
        ("UT", minutes(0)),
        ("+1", minutes(60)),
        ("-01:30", minutes(-90)),
        ("+0530", minutes(330)),
        ("UTC-18:00", minutes(-1080)),
        ("+18:00:00", minutes(1080)),
        ("+180000", minutes(1080)),
        ("Europe/Berlin", Some(Zone::Region(Tz::Europe__Berlin))),
        ("+18:01", None),
        ("+18:00:01", None),
        ("-1801", None),
        ("+180001", None),
        ("+1:2:3:4", None),
        ("+001", None),
        ("+", None),
        ("+1:", None),
        ("+01:60", None),
        ("UTC+19", None),
        ("PST", None),
        ("europe/berlin", None),
        ("", minutes(0)),
    ] {
        assert_eq!(Zone::parse(text), zone, "{text}");
    }
}

#[test]
fn zones_of_options_are_found_in_any_case_and_utc_is_none() {
    for utc in ["UTC", "utc", "Z", "Etc/UTC", " GMT ", "zulu"] {
        assert_eq!(named(utc).unwrap(), None, "{utc}");
    }
    for berlin in ["Europe/Berlin", "europe/berlin", " Europe/Berlin "] {
        assert_eq!(named(berlin).unwrap(), Some(Tz::Europe__Berlin));
    }
    for wrong in ["Europe/Berln", "+01:00", ""] {
        let e = named(wrong).unwrap_err();
        assert!(e.message.contains(&format!("'{wrong}'")) && e.message.contains("UTC"), "{e:?}");
    }
    assert!(named("Europe/Berln").unwrap_err().message.contains("Europe/Berlin"));
}
