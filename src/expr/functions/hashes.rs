//! Hashes of values: Spark's `hash` (Murmur3) and `xxhash64`, and SHA-1.

use super::{Call, Spec, spec};
use crate::Result;
use crate::expr::coerce::Param::{Any, Bytes};
use crate::expr::evaluate::row_error;
use crate::expr::kernel::{Args, nums, written};
use crate::expr::node::Typed;
use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::*;
use datafusion::error::Result as DfResult;

pub(super) const LIST: &[Spec] = &[
    spec("sha", "sha(expr)", sha1),
    spec("sha1", "sha1(expr)", sha1),
    spec("hash", "hash(a, b, …)", |c| {
        all(c)?.build(DataType::Int32, |a| {
            let hashes = hashed::<Murmur>(a)?;
            nums::<Int32Type>(a.rows, |i| Ok(Some(hashes[i] as i32)))
        })
    }),
    spec("xxhash64", "xxhash64(a, b, …)", |c| {
        all(c)?.build(DataType::Int64, |a| {
            let hashes = hashed::<Xx>(a)?;
            nums::<Int64Type>(a.rows, |i| Ok(Some(hashes[i] as i64)))
        })
    }),
];

fn all(c: Call) -> Result<Call> {
    let most = c.args.len().max(1);
    let mut c = c.take(&vec![Any; most], 1)?;
    // A hash is never NULL: a NULL leaves it as it is.
    c.args.iter_mut().for_each(|a| a.nullable = false);
    if let Some(map) = c.args.iter().find(|a| matches!(a.data_type, DataType::Map(..))) {
        return Err(c.error(format!("{} is a MAP, whose entries have no order", map.sql)));
    }
    Ok(c)
}

fn hashed<H: Hasher>(a: &Args) -> DfResult<Vec<u64>> {
    let mut hashes = vec![42u64; a.rows];
    for k in 0..a.len() {
        let array = a.full(k)?;
        for (i, hash) in hashes.iter_mut().enumerate() {
            *hash = one::<H>(&array, i, *hash)?;
        }
    }
    Ok(hashes)
}

trait Hasher {
    fn int(value: i32, seed: u64) -> u64;
    fn long(value: i64, seed: u64) -> u64;
    fn bytes(value: &[u8], seed: u64) -> u64;
}

fn one<H: Hasher>(array: &ArrayRef, i: usize, seed: u64) -> DfResult<u64> {
    if array.is_null(i) {
        return Ok(seed);
    }
    macro_rules! value {
        ($t:ty) => {
            array.as_primitive::<$t>().value(i)
        };
    }
    // As in Spark: -0.0 is 0.0, and all NaNs are one.
    Ok(match array.data_type() {
        DataType::Boolean => H::int(array.as_boolean().value(i).into(), seed),
        DataType::Int8 => H::int(value!(Int8Type).into(), seed),
        DataType::Int16 => H::int(value!(Int16Type).into(), seed),
        DataType::Int32 => H::int(value!(Int32Type), seed),
        DataType::Date32 => H::int(value!(Date32Type), seed),
        DataType::Interval(IntervalUnit::YearMonth) => H::int(value!(IntervalYearMonthType), seed),
        DataType::Int64 => H::long(value!(Int64Type), seed),
        DataType::Timestamp(..) => H::long(value!(TimestampMicrosecondType), seed),
        DataType::Duration(_) => H::long(value!(DurationMicrosecondType), seed),
        DataType::Float32 => {
            let v = value!(Float32Type);
            H::int((if v.is_nan() { f32::NAN } else { v + 0.0 }).to_bits() as i32, seed)
        }
        DataType::Float64 => {
            let v = value!(Float64Type);
            H::long((if v.is_nan() { f64::NAN } else { v + 0.0 }).to_bits() as i64, seed)
        }
        DataType::Decimal128(p, _) => {
            let v = value!(Decimal128Type);
            if *p <= 18 {
                H::long(v as i64, seed)
            } else {
                // As Java's BigInteger writes it: the fewest bytes that hold the sign.
                let bytes = v.to_be_bytes();
                let sign = if v < 0 { 0xff } else { 0 };
                let extra = bytes.windows(2).take_while(|w| w[0] == sign && (w[1] ^ sign) < 0x80).count();
                H::bytes(&bytes[extra..], seed)
            }
        }
        DataType::Utf8 => H::bytes(array.as_string::<i32>().value(i).as_bytes(), seed),
        DataType::Binary => H::bytes(array.as_binary::<i32>().value(i), seed),
        DataType::List(_) => {
            let items = array.as_list::<i32>().value(i);
            (0..items.len()).try_fold(seed, |hash, k| one::<H>(&items, k, hash))?
        }
        DataType::Struct(_) => array.as_struct().columns().iter().try_fold(seed, |hash, c| one::<H>(c, i, hash))?,
        DataType::Null => seed,
        other => return Err(row_error(format!("{other} has no hash"))),
    })
}

/// Murmur3 with 32 bits. Spark mixes each of the last bytes by itself.
struct Murmur;

fn mixed(hash: u32, k: u32) -> u32 {
    let k = k.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593);
    (hash ^ k).rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64)
}

fn finished(hash: u32, len: u32) -> u64 {
    let mut h = hash ^ len;
    h = (h ^ (h >> 16)).wrapping_mul(0x85eb_ca6b);
    h = (h ^ (h >> 13)).wrapping_mul(0xc2b2_ae35);
    u64::from(h ^ (h >> 16))
}

impl Hasher for Murmur {
    fn int(value: i32, seed: u64) -> u64 {
        finished(mixed(seed as u32, value as u32), 4)
    }
    fn long(value: i64, seed: u64) -> u64 {
        finished(mixed(mixed(seed as u32, value as u32), (value >> 32) as u32), 8)
    }
    fn bytes(value: &[u8], seed: u64) -> u64 {
        let mut hash = seed as u32;
        let words = value.chunks_exact(4);
        let rest = words.remainder();
        for w in words {
            hash = mixed(hash, u32::from_le_bytes([w[0], w[1], w[2], w[3]]));
        }
        for b in rest {
            hash = mixed(hash, i32::from(*b as i8) as u32);
        }
        finished(hash, value.len() as u32)
    }
}

/// XXH64.
struct Xx;

const P1: u64 = 0x9e37_79b1_85eb_ca87;
const P2: u64 = 0xc2b2_ae3d_27d4_eb4f;
const P3: u64 = 0x1656_67b1_9e37_79f9;
const P4: u64 = 0x85eb_ca77_c2b2_ae63;
const P5: u64 = 0x27d4_eb2f_1656_67c5;

fn avalanche(mut h: u64) -> u64 {
    h = (h ^ (h >> 33)).wrapping_mul(P2);
    h = (h ^ (h >> 29)).wrapping_mul(P3);
    h ^ (h >> 32)
}

fn round(acc: u64, input: u64) -> u64 {
    acc.wrapping_add(input.wrapping_mul(P2)).rotate_left(31).wrapping_mul(P1)
}

fn word(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |all, b| all << 8 | u64::from(*b))
}

impl Hasher for Xx {
    fn int(value: i32, seed: u64) -> u64 {
        let hash = seed.wrapping_add(P5).wrapping_add(4) ^ u64::from(value as u32).wrapping_mul(P1);
        avalanche(hash.rotate_left(23).wrapping_mul(P2).wrapping_add(P3))
    }
    fn long(value: i64, seed: u64) -> u64 {
        let hash = seed.wrapping_add(P5).wrapping_add(8) ^ round(0, value as u64);
        avalanche(hash.rotate_left(27).wrapping_mul(P1).wrapping_add(P4))
    }
    fn bytes(value: &[u8], seed: u64) -> u64 {
        let mut rest = value;
        let mut hash = if value.len() >= 32 {
            let mut v = [seed.wrapping_add(P1).wrapping_add(P2), seed.wrapping_add(P2), seed, seed.wrapping_sub(P1)];
            while rest.len() >= 32 {
                for (k, v) in v.iter_mut().enumerate() {
                    *v = round(*v, word(&rest[8 * k..8 * k + 8]));
                }
                rest = &rest[32..];
            }
            let all = v[0].rotate_left(1).wrapping_add(v[1].rotate_left(7));
            let all = all.wrapping_add(v[2].rotate_left(12)).wrapping_add(v[3].rotate_left(18));
            v.iter().fold(all, |h, v| (h ^ round(0, *v)).wrapping_mul(P1).wrapping_add(P4))
        } else {
            seed.wrapping_add(P5)
        };
        hash = hash.wrapping_add(value.len() as u64);
        while rest.len() >= 8 {
            hash = (hash ^ round(0, word(&rest[..8]))).rotate_left(27).wrapping_mul(P1).wrapping_add(P4);
            rest = &rest[8..];
        }
        if rest.len() >= 4 {
            hash = (hash ^ word(&rest[..4]).wrapping_mul(P1)).rotate_left(23).wrapping_mul(P2).wrapping_add(P3);
            rest = &rest[4..];
        }
        for b in rest {
            hash = (hash ^ u64::from(*b).wrapping_mul(P5)).rotate_left(11).wrapping_mul(P1);
        }
        avalanche(hash)
    }
}

fn sha1(c: Call) -> Result<Typed> {
    c.take(&[Bytes], 1)?.build(DataType::Utf8, |a| {
        let b = a.bytes(0)?;
        written(a.rows, |i, out| {
            let Some(bytes) = b.get(i) else { return Ok(false) };
            for word in digest(bytes) {
                out.extend_from_slice(format!("{word:08x}").as_bytes());
            }
            Ok(true)
        })
    })
}

/// SHA-1 (FIPS 180-4).
fn digest(bytes: &[u8]) -> [u32; 5] {
    let mut h = [0x6745_2301u32, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0];
    let mut block = |chunk: &[u8]| {
        let mut w = [0u32; 80];
        for (k, w) in w.iter_mut().take(16).enumerate() {
            *w = u32::from_be_bytes([chunk[4 * k], chunk[4 * k + 1], chunk[4 * k + 2], chunk[4 * k + 3]]);
        }
        for k in 16..80 {
            w[k] = (w[k - 3] ^ w[k - 8] ^ w[k - 14] ^ w[k - 16]).rotate_left(1);
        }
        let [mut a, mut b, mut c, mut d, mut e] = h;
        for (k, w) in w.iter().enumerate() {
            let (f, add) = match k / 20 {
                0 => ((b & c) | (!b & d), 0x5a82_7999),
                1 => (b ^ c ^ d, 0x6ed9_eba1),
                2 => ((b & c) | (b & d) | (c & d), 0x8f1b_bcdc),
                _ => (b ^ c ^ d, 0xca62_c1d6u32),
            };
            let next = a.rotate_left(5).wrapping_add(f).wrapping_add(e).wrapping_add(add).wrapping_add(*w);
            (e, d, c, b, a) = (d, c, b.rotate_left(30), a, next);
        }
        for (h, v) in h.iter_mut().zip([a, b, c, d, e]) {
            *h = h.wrapping_add(v);
        }
    };
    let whole = bytes.chunks_exact(64);
    let rest = whole.remainder();
    whole.for_each(&mut block);
    let mut last = rest.to_vec();
    last.push(0x80);
    while last.len() % 64 != 56 {
        last.push(0);
    }
    last.extend_from_slice(&(bytes.len() as u64 * 8).to_be_bytes());
    last.chunks_exact(64).for_each(&mut block);
    h
}
