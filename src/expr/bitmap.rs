//! Bitmaps of 32,768 bits, which count distinct numbers by buckets: `bitmap_construct_agg(bitmap_bit_position(id))` of each
//! `bitmap_bucket_number(id)`, and `bitmap_or_agg` of such bitmaps.

use crate::{Error, Result};
use arrow::array::{Array, ArrayRef, AsArray, BinaryBuilder, ListArray};
use arrow::datatypes::Int64Type;
use std::sync::Arc;

/// The bytes of a bitmap.
const BYTES: usize = 4096;

/// The bitmap of each list of positions, or of bitmaps.
pub(super) fn of_lists(lists: &ListArray, sql: &str) -> Result<ArrayRef> {
    let mut out = BinaryBuilder::with_capacity(lists.len(), lists.len() * BYTES);
    let mut bitmap = vec![0u8; BYTES];
    for row in 0..lists.len() {
        bitmap.fill(0);
        if lists.is_valid(row) {
            let values = lists.value(row);
            if let Some(positions) = values.as_primitive_opt::<Int64Type>() {
                for position in positions.iter().flatten() {
                    let byte = usize::try_from(position / 8).ok().filter(|_| position >= 0);
                    let Some(byte) = byte.and_then(|b| bitmap.get_mut(b)) else {
                        return Err(Error::malformed("a position is not between 0 and 32767").context(sql));
                    };
                    *byte |= 1 << (position % 8);
                }
            } else if let Some(others) = values.as_binary_opt::<i32>() {
                for other in others.iter().flatten() {
                    bitmap.iter_mut().zip(other).for_each(|(byte, more)| *byte |= more);
                }
            }
        }
        out.append_value(&bitmap);
    }
    Ok(Arc::new(out.finish()))
}
