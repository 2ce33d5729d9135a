//! The part of Kafka's protocol that the gate needs: where the batches are in a Produce request, and the flag that
//! creates topics.

/// The batch of one partition within a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BatchAt {
    pub topic: String,
    pub partition: i32,
    pub start: usize,
    pub len: usize,
}

pub(super) const PRODUCE: i16 = 0;
pub(super) const METADATA: i16 = 3;

/// From this version on, a request has compact lengths and tagged fields.
const FLEXIBLE: i16 = 9;
/// The byte of a batch that has its format.
const MAGIC: usize = 16;
/// A format that does not exist. The mock answers UNSUPPORTED_VERSION for this partition and appends nothing.
const NO_SUCH_FORMAT: u8 = 127;

pub(super) fn api_key(request: &[u8]) -> Option<i16> {
    Cursor::new(request).i16()
}

/// Makes the mock refuse this batch.
pub(super) fn spoil(request: &mut [u8], batch: &BatchAt) {
    if batch.len > MAGIC {
        request[batch.start + MAGIC] = NO_SUCH_FORMAT;
    }
}

/// The batches of a Produce request. None if the request cannot be read; then it must not be passed on.
pub(super) fn batches(request: &[u8]) -> Option<Vec<BatchAt>> {
    let mut c = Cursor::new(request);
    let version = c.header()?;
    c.flexible = version >= FLEXIBLE;
    if version >= 3 {
        c.text()?; // transactional id
    }
    c.skip(2 + 4)?; // acks, timeout
    let mut batches = Vec::new();
    for _ in 0..c.count()? {
        let topic = c.text()?;
        for _ in 0..c.count()? {
            let partition = c.i32()?;
            let len = c.length()?;
            if let Some(len) = len {
                batches.push(BatchAt { topic: topic.clone(), partition, start: c.at, len });
                c.skip(len)?;
            }
            c.tags()?;
        }
        c.tags()?;
    }
    Some(batches)
}

/// Turns off "create topics that do not exist" in a Metadata request.
pub(super) fn forbid_auto_create(request: &mut [u8]) -> Option<()> {
    let mut c = Cursor::new(request);
    let version = c.header()?;
    c.flexible = version >= FLEXIBLE;
    if version < 4 {
        // Old versions do not have this flag and always create topics. librdkafka and current clients are newer.
        return None;
    }
    for _ in 0..c.count()? {
        if version >= 10 {
            c.skip(16)?; // topic id
        }
        c.text()?;
        c.tags()?;
    }
    let flag = c.at;
    *request.get_mut(flag)? = 0;
    Some(())
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    flexible: bool,
}

impl<'a> Cursor<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, flexible: false }
    }

    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(n)?)?;
        self.at += n;
        Some(taken)
    }
    fn skip(&mut self, n: usize) -> Option<()> {
        self.take(n).map(drop)
    }
    fn i16(&mut self) -> Option<i16> {
        Some(i16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }
    fn i32(&mut self) -> Option<i32> {
        Some(i32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }
    fn varint(&mut self) -> Option<usize> {
        let mut value = 0usize;
        for shift in (0..35).step_by(7) {
            let byte = *self.take(1)?.first()?;
            value |= usize::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    /// Skips key, version, correlation id, client id and the tags of the header. Returns the version.
    fn header(&mut self) -> Option<i16> {
        self.i16()?;
        let version = self.i16()?;
        self.i32()?;
        let client = self.i16()?;
        self.skip(usize::try_from(client).unwrap_or(0))?;
        self.flexible = version >= FLEXIBLE;
        self.tags()?;
        Some(version)
    }

    /// The number of elements of an array. Zero for a null array.
    fn count(&mut self) -> Option<usize> {
        if self.flexible {
            return Some(self.varint()?.saturating_sub(1));
        }
        Some(usize::try_from(self.i32()?).unwrap_or(0))
    }
    /// The length of bytes. Zero for null.
    fn length(&mut self) -> Option<Option<usize>> {
        if self.flexible {
            return Some(self.varint()?.checked_sub(1));
        }
        Some(usize::try_from(self.i32()?).ok())
    }
    /// A text. A null text is empty.
    fn text(&mut self) -> Option<String> {
        let len =
            if self.flexible { self.varint()?.saturating_sub(1) } else { usize::try_from(self.i16()?).unwrap_or(0) };
        String::from_utf8(self.take(len)?.to_vec()).ok()
    }
    fn tags(&mut self) -> Option<()> {
        if !self.flexible {
            return Some(());
        }
        for _ in 0..self.varint()? {
            self.varint()?;
            let len = self.varint()?;
            self.skip(len)?;
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(key: i16, version: i16) -> Vec<u8> {
        let mut r = Vec::new();
        r.extend(key.to_be_bytes());
        r.extend(version.to_be_bytes());
        r.extend(7i32.to_be_bytes());
        r.extend(2i16.to_be_bytes());
        r.extend(b"me");
        if version >= 9 {
            r.push(0);
        }
        r
    }

    #[test]
    fn batches_are_found_in_the_old_and_in_the_compact_format() {
        let batch = [9u8; 40];
        let mut old = header(PRODUCE, 7);
        old.extend((-1i16).to_be_bytes()); // no transactional id
        old.extend([0, 1, 0, 0, 0, 9]);
        old.extend(1i32.to_be_bytes());
        old.extend(1i16.to_be_bytes());
        old.extend(b"t");
        old.extend(1i32.to_be_bytes());
        old.extend(3i32.to_be_bytes());
        old.extend(40i32.to_be_bytes());
        let start = old.len();
        old.extend(batch);
        assert_eq!(batches(&old).unwrap(), [BatchAt { topic: "t".into(), partition: 3, start, len: 40 }]);

        let mut new = header(PRODUCE, 10);
        new.push(0); // no transactional id
        new.extend([0, 1, 0, 0, 0, 9]);
        new.extend([2, 2, b't', 2]);
        new.extend(3i32.to_be_bytes());
        new.push(41);
        let start = new.len();
        new.extend(batch);
        new.extend([0, 0, 0]);
        let found = batches(&new).unwrap();
        assert_eq!(found, [BatchAt { topic: "t".into(), partition: 3, start, len: 40 }]);
        spoil(&mut new, &found[0]);
        assert_eq!(new[start + MAGIC], NO_SUCH_FORMAT);

        for cut in 0..start {
            let _ = batches(&new[..cut]); // never panics
        }
        assert!(batches(&new[..start - 1]).is_none());
    }

    #[test]
    fn metadata_requests_no_longer_make_topics() {
        let mut request = header(METADATA, 12);
        request.push(2); // one topic
        request.extend([0; 16]);
        request.extend([5, b't', b'y', b'p', b'o', 0]);
        let flag = request.len();
        request.extend([1, 0, 0]);
        forbid_auto_create(&mut request).unwrap();
        assert_eq!(&request[flag..], [0, 0, 0]);
    }
}
