//! Admission: before anything else, a client proves that it knows the broker's secret, by SASL as every Kafka client
//! implements it.

use super::scram::{Login, MECHANISM, Verifier};
use std::{
    io::{self, Read, Write},
    net::TcpStream,
    os::unix::net::UnixStream,
    time::Duration,
};

/// Requests before the proof are small.
const FRAME_BYTES: usize = 16 << 10;
/// A client that does not prove it within this time is disconnected.
const PATIENCE: Duration = Duration::from_secs(10);

const API_VERSIONS: i16 = 18;
const HANDSHAKE: i16 = 17;
const AUTHENTICATE: i16 = 36;

const UNSUPPORTED_VERSION: i16 = 35;
const UNSUPPORTED_MECHANISM: i16 = 33;
const REFUSED: i16 = 58;

/// Admits the client, or fails. `broker` is only asked for the versions that it supports.
pub(super) fn admit(client: &mut TcpStream, broker: &mut UnixStream, verifier: &Verifier) -> io::Result<()> {
    client.set_read_timeout(Some(PATIENCE))?;
    let mut login = Login::default();
    // Since version 1 of the handshake, the proof has Kafka's header. Before, it has only its length.
    let mut bare = false;
    while !login.done {
        let request = frame(client)?;
        if bare {
            let answer = login.answer(verifier, &request).ok_or_else(refused)?;
            reply(client, &[&answer])?;
            continue;
        }
        let header = Header::read(&request).ok_or_else(|| io::Error::other("a request that cannot be read"))?;
        match (header.key, header.version) {
            (API_VERSIONS, 0..=2) => {
                reply(broker, &[&request])?;
                let versions = with_sasl(frame(broker)?).ok_or_else(|| io::Error::other("no versions"))?;
                reply(client, &[&versions])?;
            }
            // Answers as version 0, which every client can read. The client then asks again.
            (API_VERSIONS, _) => {
                let mut out = header.id.to_vec();
                put(&mut out, &[UNSUPPORTED_VERSION, 0, 1, API_VERSIONS, 0, 2]);
                reply(client, &[&out])?;
            }
            (HANDSHAKE, 0..=1) => {
                let known = header.text(&request) == Some(MECHANISM.as_bytes());
                let mut out = header.id.to_vec();
                put(&mut out, &[if known { 0 } else { UNSUPPORTED_MECHANISM }, 0, 1, MECHANISM.len() as i16]);
                out.extend_from_slice(MECHANISM.as_bytes());
                reply(client, &[&out])?;
                if !known {
                    return Err(refused());
                }
                bare = header.version == 0;
            }
            (AUTHENTICATE, 0..=1) => {
                let answer = header.bytes(&request).and_then(|message| login.answer(verifier, message));
                let mut out = header.id.to_vec();
                match &answer {
                    Some(_) => put(&mut out, &[0, -1]),
                    None => {
                        let why = "this broker is only for its user, and the secret is missing or wrong";
                        put(&mut out, &[REFUSED, why.len() as i16]);
                        out.extend_from_slice(why.as_bytes());
                    }
                }
                let proof = answer.as_deref().unwrap_or_default();
                out.extend_from_slice(&(proof.len() as i32).to_be_bytes());
                out.extend_from_slice(proof);
                if header.version >= 1 {
                    out.extend_from_slice(&0i64.to_be_bytes()); // the session has no end
                }
                reply(client, &[&out])?;
                if answer.is_none() {
                    return Err(refused());
                }
            }
            _ => return Err(refused()),
        }
    }
    client.set_read_timeout(None)
}

fn refused() -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, "a client without the broker's secret")
}

fn frame(from: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let size = u32::from_be_bytes(length) as usize;
    if size > FRAME_BYTES {
        return Err(io::Error::other(format!("{size} bytes before the proof")));
    }
    let mut bytes = vec![0; size];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn reply(to: &mut impl Write, parts: &[&[u8]]) -> io::Result<()> {
    let size: usize = parts.iter().map(|p| p.len()).sum();
    let mut out = (size as u32).to_be_bytes().to_vec();
    parts.iter().for_each(|p| out.extend_from_slice(p));
    to.write_all(&out)
}

/// The error, the upper half of the count, and so on: everything here is a sequence of 16-bit numbers.
fn put(out: &mut Vec<u8>, numbers: &[i16]) {
    numbers.iter().for_each(|n| out.extend_from_slice(&n.to_be_bytes()));
}

struct Header {
    key: i16,
    version: i16,
    id: [u8; 4],
    body: usize,
}

impl Header {
    fn read(request: &[u8]) -> Option<Self> {
        let short = |at: usize| Some(i16::from_be_bytes(request.get(at..at + 2)?.try_into().ok()?));
        let id = request.get(4..8)?.try_into().ok()?;
        let client = usize::try_from(short(8)?).unwrap_or(0);
        Some(Self { key: short(0)?, version: short(2)?, id, body: 10 + client })
    }

    /// A text with its length in two bytes.
    fn text<'a>(&self, request: &'a [u8]) -> Option<&'a [u8]> {
        let (length, rest) = request.get(self.body..)?.split_first_chunk::<2>()?;
        rest.get(..usize::from(u16::from_be_bytes(*length)))
    }

    /// Bytes with their length in four bytes.
    fn bytes<'a>(&self, request: &'a [u8]) -> Option<&'a [u8]> {
        let (length, rest) = request.get(self.body..)?.split_first_chunk::<4>()?;
        rest.get(..u32::from_be_bytes(*length) as usize)
    }
}

/// The broker's answer (correlation id, error, count, entries of key, lowest and highest version, …), with the two
/// entries of SASL added.
fn with_sasl(mut answer: Vec<u8>) -> Option<Vec<u8>> {
    let count = answer.get_mut(6..10)?;
    let more = i32::from_be_bytes(count.try_into().ok()?).checked_add(2)?;
    count.copy_from_slice(&more.to_be_bytes());
    let mut entries = vec![];
    put(&mut entries, &[HANDSHAKE, 0, 1, AUTHENTICATE, 0, 1]);
    answer.splice(10..10, entries);
    Some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_versions_of_sasl_come_first_in_the_brokers_list() {
        let mut answer = 7i32.to_be_bytes().to_vec();
        put(&mut answer, &[0, 0, 1, 3, 0, 12]);
        let mut wanted = 7i32.to_be_bytes().to_vec();
        put(&mut wanted, &[0, 0, 3, HANDSHAKE, 0, 1, AUTHENTICATE, 0, 1, 3, 0, 12]);
        assert_eq!(with_sasl(answer).unwrap(), wanted);
        assert!(with_sasl(vec![0; 9]).is_none());
    }

    #[test]
    fn requests_that_are_cut_off_are_no_requests() {
        let mut request = vec![];
        put(&mut request, &[HANDSHAKE, 1, 0, 9, 2]);
        request.extend(b"me\x00\x05PLAIN");
        let header = Header::read(&request).unwrap();
        assert_eq!((header.key, header.version, header.text(&request)), (HANDSHAKE, 1, Some(&b"PLAIN"[..])));
        for cut in 0..request.len() {
            if let Some(header) = Header::read(&request[..cut]) {
                assert!(header.text(&request[..cut]).is_none() && header.bytes(&request[..cut]).is_none());
            }
        }
    }
}
