//! Finds the protocol of a port. If the client's security protocol is not the listener's, librdkafka only reports that there is no answer. So bayou
//! looks first, with one connection and one or two requests. Only a certain result counts.
//!
//! - A listener with TLS answers plain bytes with a TLS alert (RFC 8446, section 6), or closes the connection; and it answers a TLS ClientHello.
//! - A listener without TLS answers an ApiVersions request (Kafka protocol, API 18) with its correlation id, and drops a TLS ClientHello.
//! - A SASL listener answers ApiVersions, and closes the connection at any other request before the handshake.

use super::ask::Question;
use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// How long bayou waits for a port. A slower port is left to librdkafka, which waits longer.
const PATIENCE: Duration = Duration::from_millis(1500);
const CORRELATION: [u8; 4] = *b"bayu";

/// The port's answer to a request.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Bytes(Vec<u8>),
    Closed,
    /// There is a connection, but no answer came in time.
    Silence,
    /// There is no connection. librdkafka reports this error.
    Unreached,
}

/// How long `check` waits for its answer. A name server that does not answer takes longer, and a lookup cannot be stopped.
const CHECK: Duration = Duration::from_millis(3500);

/// Returns an error if it is certain that the first address speaks a different protocol than the properties say.
pub(super) fn check(properties: &BTreeMap<String, String>, addresses: &str) -> Result<()> {
    let (properties, addresses) = (properties.clone(), addresses.to_string());
    Question::ask(move || certainly_different(&properties, &addresses))?.answer(CHECK).unwrap_or(Ok(()))
}

fn certainly_different(properties: &BTreeMap<String, String>, addresses: &str) -> Result<()> {
    let Some(address) = addresses.split(',').map(str::trim).find(|a| !a.is_empty()) else { return Ok(()) };
    let protocol = properties.get("security.protocol").map_or("plaintext".to_string(), |p| p.to_lowercase());
    // An address such as "SSL://host:9093" has its own protocol.
    let (scheme, address) = address.split_once("://").map_or((None, address), |(s, a)| (Some(s.to_lowercase()), a));
    let protocol = scheme.unwrap_or(protocol);
    let wrong = |text: String| Err(Error::connection(format!("Kafka at {address}: {text}")).retryable(false));
    match protocol.as_str() {
        "plaintext" | "sasl_plaintext" => match ask(address, &api_versions()) {
            Answer::Bytes(bytes) if is_tls(&bytes) => wrong(with_tls(&protocol)),
            Answer::Closed if speaks_tls(address) => wrong(with_tls(&protocol)),
            Answer::Bytes(bytes) if is_web(&bytes) => wrong(WEB.into()),
            // Some web servers wait for the end of a line.
            Answer::Silence if matches!(ask(address, b"GET / HTTP/1.0\r\n\r\n"), Answer::Bytes(b) if is_web(&b)) => wrong(WEB.into()),
            Answer::Bytes(bytes)
                if protocol == "plaintext"
                    && is_ours(&bytes)
                    && wants_sasl(address)
                    // A broker that is stopping also closes connections. So it must still answer a request that needs no login, and close again.
                    && matches!(ask(address, &api_versions()), Answer::Bytes(b) if is_ours(&b))
                    && wants_sasl(address) =>
            {
                wrong(
                    "the port requires SASL: it answers no request before a login. Set security.protocol=SASL_PLAINTEXT, sasl.mechanism, \
                 sasl.username and sasl.password; or use the port of a different listener."
                    .into(),
                )
            }
            _ => Ok(()),
        },
        "ssl" | "sasl_ssl" => match ask(address, &api_versions()) {
            Answer::Bytes(bytes) if is_ours(&bytes) => wrong(format!(
                "the port does not speak TLS, and security.protocol is {}. Set security.protocol={}, or use the port of the TLS listener.",
                protocol.to_uppercase(),
                if protocol == "ssl" { "PLAINTEXT" } else { "SASL_PLAINTEXT" }
            )),
            _ => Ok(()),
        },
        _ => Ok(()),
    }
}

fn with_tls(protocol: &str) -> String {
    format!(
        "the port speaks TLS, and security.protocol is {}. Set security.protocol={}, and ssl.ca.location if the cluster has a CA of its own.",
        protocol.to_uppercase(),
        if protocol == "plaintext" { "SSL (or SASL_SSL, with sasl.mechanism, user and password)" } else { "SASL_SSL" }
    )
}

const WEB: &str = "an HTTP server answers there, not Kafka. Check the port.";

fn is_web(bytes: &[u8]) -> bool {
    bytes.starts_with(b"HTTP") || bytes.trim_ascii_start().to_ascii_lowercase().starts_with(b"<!doctype html")
}

/// For a cluster that has not answered a client with TLS and without SASL: an error that suggests SASL. A listener with SASL accepts the
/// handshake of TLS, and then waits. None also if the port does not answer within `wait`.
pub(super) fn may_want_sasl(properties: &BTreeMap<String, String>, addresses: &str, wait: Duration) -> Option<Error> {
    let protocol = properties.get("security.protocol").map(|p| p.to_lowercase());
    let address = addresses.split(',').map(str::trim).find(|a| !a.is_empty())?.to_string();
    if protocol.as_deref() != Some("ssl") {
        return None;
    }
    let asked = address.clone();
    let speaks = Question::ask(move || Ok(speaks_tls(&asked))).ok()?.answer(wait)?.ok()?;
    speaks.then(|| {
        Error::connection(format!(
            "Kafka at {address}: the port speaks TLS, and then does not answer a request. A listener with SASL behaves in this way: set \
             security.protocol=SASL_SSL, sasl.mechanism, sasl.username and sasl.password."
        ))
    })
}

/// Sends bytes and returns the beginning of the answer.
fn ask(address: &str, bytes: &[u8]) -> Answer {
    let Ok(mut stream) = connected(address) else { return Answer::Unreached };
    stream.write_all(bytes).map_or(Answer::Silence, |()| read(&mut stream))
}

/// A connection whose reads and writes wait for at most `PATIENCE`.
fn connected(address: impl ToSocketAddrs) -> std::io::Result<TcpStream> {
    let to = address.to_socket_addrs()?.next().ok_or(ErrorKind::NotFound)?;
    let stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn read(stream: &mut TcpStream) -> Answer {
    let mut buffer = [0; 64];
    match stream.read(&mut buffer) {
        Ok(0) => Answer::Closed,
        Ok(n) => Answer::Bytes(buffer[..n].to_vec()),
        Err(e) if matches!(e.kind(), ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted) => Answer::Closed,
        Err(_) => Answer::Silence,
    }
}

/// A TLS alert or handshake record.
fn is_tls(bytes: &[u8]) -> bool {
    matches!(bytes, [0x15 | 0x16, 3, ..])
}

/// The answer to a request of this file: a length, and the correlation id.
fn is_ours(bytes: &[u8]) -> bool {
    bytes.get(4..8) == Some(&CORRELATION)
}

fn speaks_tls(address: &str) -> bool {
    matches!(ask(address, &client_hello()), Answer::Bytes(bytes) if is_tls(&bytes))
}

/// Whether a metadata request closes the connection.
fn wants_sasl(address: &str) -> bool {
    // Metadata (API 3), version 1, with an empty list of topics, which asks for none.
    ask(address, &request(3, 1, &0i32.to_be_bytes())) == Answer::Closed
}

/// The release of the broker, by the newest version of the cluster's metadata that it supports (KIP-584, KIP-778). None: the broker does not report
/// the version. This is so for servers other than Apache Kafka, and for brokers before 3.3.
pub(super) fn release(host: &str, port: u16) -> Option<String> {
    let asked = || -> std::io::Result<Vec<u8>> {
        let mut stream = connected((host, port))?;
        // Header version 2 ends with tagged fields. The body: name and version of the client, and tagged fields.
        stream.write_all(&request(18, 3, &[&[0u8][..], &[6], b"bayou", &[2], b"1", &[0]].concat()))?;
        let mut length = [0; 4];
        stream.read_exact(&mut length)?;
        let length =
            usize::try_from(i32::from_be_bytes(length)).ok().filter(|n| *n < 1 << 20).ok_or(ErrorKind::InvalidData)?;
        let mut answer = vec![0; length];
        stream.read_exact(&mut answer)?;
        Ok(answer)
    };
    let answer = asked().ok()?;
    let mut rest = Bytes(answer.strip_prefix(&CORRELATION)?);
    if rest.take(2)? != [0, 0] {
        return None; // The broker does not know this version of the request.
    }
    for _ in 1..rest.varint()? {
        rest.take(6)?; // key, lowest and highest version
        rest.tags()?;
    }
    rest.take(4)?; // throttle time
    for _ in 0..rest.varint()? {
        let (tag, size) = (rest.varint()?, rest.varint()?);
        let mut field = Bytes(rest.take(usize::try_from(size).ok()?)?);
        if tag == 0 {
            for _ in 1..field.varint()? {
                let name = usize::try_from(field.varint()?).ok()?.checked_sub(1)?;
                let (name, versions) = (field.take(name)?.to_vec(), field.take(4)?);
                field.tags()?;
                if name == b"metadata.version" {
                    return Some(of_metadata_version(i16::from_be_bytes([versions[2], versions[3]])));
                }
            }
        }
    }
    None
}

/// The releases by their newest metadata.version (Kafka's `MetadataVersion`).
fn of_metadata_version(level: i16) -> String {
    const NEWEST: [(i16, &str); 12] = [
        (7, "3.3"),
        (8, "3.4"),
        (11, "3.5"),
        (14, "3.6"),
        (19, "3.7"),
        (20, "3.8"),
        (21, "3.9"),
        (25, "4.0"),
        (27, "4.1"),
        (29, "4.2"),
        (30, "4.3"),
        (i16::MAX, "newer than 4.3"),
    ];
    NEWEST.iter().find(|(newest, _)| level <= *newest).map_or(String::new(), |(_, release)| release.to_string())
}

/// The bytes of an answer that are not read yet.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(taken)
    }

    /// An unsigned number in groups of seven bits.
    fn varint(&mut self) -> Option<u32> {
        let mut value = 0u32;
        for shift in (0..32).step_by(7) {
            let byte = self.take(1)?[0];
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn tags(&mut self) -> Option<()> {
        for _ in 0..self.varint()? {
            self.varint()?;
            let size = self.varint()?;
            self.take(usize::try_from(size).ok()?)?;
        }
        Some(())
    }
}

/// A request of the Kafka protocol with header version 1.
fn request(api: i16, version: i16, body: &[u8]) -> Vec<u8> {
    let client = b"bayou";
    let mut rest = vec![];
    rest.extend(api.to_be_bytes());
    rest.extend(version.to_be_bytes());
    rest.extend(CORRELATION);
    rest.extend((client.len() as i16).to_be_bytes());
    rest.extend(client);
    rest.extend(body);
    let mut out = (rest.len() as i32).to_be_bytes().to_vec();
    out.extend(rest);
    out
}

fn api_versions() -> Vec<u8> {
    request(18, 0, &[])
}

/// A TLS 1.2 ClientHello with one cipher suite and no extensions. A server answers with its hello or with an alert.
fn client_hello() -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([7; 32]); // the random
    body.push(0); // no session
    body.extend([0, 2, 0xc0, 0x2f]); // TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
    body.extend([1, 0]); // no compression
    let mut hello = vec![1, 0, 0, body.len() as u8];
    hello.extend(body);
    let mut record = vec![0x16, 3, 1, 0, hello.len() as u8];
    record.extend(hello);
    record
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// A server that gives each connection the same answer and closes it.
    fn server(answer: impl Fn(&[u8]) -> Vec<u8> + Send + 'static) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut buffer = [0; 256];
                let n = stream.read(&mut buffer).unwrap_or(0);
                let _ = stream.write_all(&answer(&buffer[..n]));
            }
        });
        address
    }

    fn plain(request: &[u8]) -> Vec<u8> {
        let is_request = request.get(8..12) == Some(&CORRELATION);
        if is_request { [&[0, 0, 0, 10], &CORRELATION[..], &[0, 0, 0, 0, 0, 0]].concat() } else { vec![] }
    }

    fn said(protocol: &str, address: &str) -> String {
        let properties = BTreeMap::from([("security.protocol".to_string(), protocol.to_string())]);
        check(&properties, address).map_or_else(|e| e.message, |()| "nothing".into())
    }

    #[test]
    fn a_listener_of_another_protocol_is_told_apart() {
        let open = server(plain);
        assert_eq!(said("PLAINTEXT", &open), "nothing");
        assert_eq!(said("SASL_PLAINTEXT", &open), "nothing");
        assert!(said("SSL", &open).contains("security.protocol=PLAINTEXT"));
        assert!(said("SASL_SSL", &open).contains("security.protocol=SASL_PLAINTEXT"));
        assert!(said("PLAINTEXT", &format!("ssl://{open}")).contains("does not speak TLS"));

        let tls = server(|r| if is_tls(r) { vec![0x16, 3, 3, 0, 1, 2] } else { vec![0x15, 3, 3, 0, 2, 2, 10] });
        assert!(said("PLAINTEXT", &tls).contains("the port speaks TLS"));
        assert!(said("SASL_PLAINTEXT", &tls).contains("SASL_SSL"));
        assert_eq!(said("SSL", &tls), "nothing");
        // Some servers close instead of sending an alert.
        let silent = server(|r| if is_tls(r) { vec![0x16, 3, 3, 0, 1, 2] } else { vec![] });
        assert!(said("PLAINTEXT", &silent).contains("the port speaks TLS"));

        let sasl = server(|r| if r.get(5) == Some(&18) { plain(r) } else { vec![] });
        assert!(said("PLAINTEXT", &sasl).contains("SASL_PLAINTEXT"));
        assert_eq!(said("SASL_PLAINTEXT", &sasl), "nothing");

        let web = server(|_| b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec());
        assert!(said("PLAINTEXT", &web).contains("HTTP"));
        assert_eq!(said("PLAINTEXT", "127.0.0.1:1"), "nothing", "a closed port is librdkafka's to tell");
        assert_eq!(said("PLAINTEXT", "no.such.host.invalid:9092"), "nothing");
    }
}
