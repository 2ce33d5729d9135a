//! SCRAM-SHA-256 (RFC 5802, RFC 7677), the side of the broker. Both sides prove that they know the secret, and the
//! secret is never sent. So a client also notices if a different program has taken the port of a broker that is gone.

use base64::{Engine, engine::general_purpose::STANDARD};
use sha2::{Digest, Sha256};

pub(super) const MECHANISM: &str = "SCRAM-SHA-256";
/// The name is the same for all clients, because only the secret matters.
pub(super) const USER: &str = "bayou";
/// The smallest number that clients accept. The secret is 122 random bits, not a password that could be guessed.
const ITERATIONS: u32 = 4096;

type Hash = [u8; 32];

fn hash(parts: &[&[u8]]) -> Hash {
    let mut hash = Sha256::new();
    parts.iter().for_each(|p| hash.update(p));
    hash.finalize().into()
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> Hash {
    let mut block = [0u8; 64];
    match key.len() <= block.len() {
        true => block[..key.len()].copy_from_slice(key),
        false => block[..32].copy_from_slice(&hash(&[key])),
    }
    let pad = |with: u8| block.map(|b| b ^ with);
    let mut inner: Vec<&[u8]> = vec![];
    let first = pad(0x36);
    inner.push(&first);
    inner.extend(parts);
    hash(&[&pad(0x5c), &hash(&inner)])
}

fn xor(a: &Hash, b: &Hash) -> Hash {
    std::array::from_fn(|i| a[i] ^ b[i])
}

/// The data that the broker stores about the secret.
pub(super) struct Verifier {
    salt: String,
    stored: Hash,
    server: Hash,
}

impl Verifier {
    pub(super) fn new(secret: &str, salt: &[u8]) -> Self {
        let mut round = hmac(secret.as_bytes(), &[salt, &1u32.to_be_bytes()]);
        let mut salted = round;
        for _ in 1..ITERATIONS {
            round = hmac(secret.as_bytes(), &[&round]);
            salted = xor(&salted, &round);
        }
        let client = hmac(&salted, &[b"Client Key"]);
        Self { salt: STANDARD.encode(salt), stored: hash(&[&client]), server: hmac(&salted, &[b"Server Key"]) }
    }
}

/// The login of one client.
#[derive(Default)]
pub(super) struct Login {
    /// The first message of each side, after the two messages were exchanged.
    said: Option<(String, String)>,
    pub done: bool,
}

impl Login {
    /// The answer to a client's message. None if the client does not know the secret or does not use SCRAM.
    pub(super) fn answer(&mut self, verifier: &Verifier, message: &[u8]) -> Option<Vec<u8>> {
        let message = std::str::from_utf8(message).ok()?;
        match self.said.take() {
            None => {
                let bare = message.strip_prefix("n,,")?;
                let field = |name: &str| bare.split(',').find_map(|part| part.strip_prefix(name));
                if field("n=")? != USER {
                    return None;
                }
                let nonce = format!("{}{}", field("r=")?, uuid::Uuid::new_v4().simple());
                let first = format!("r={nonce},s={},i={ITERATIONS}", verifier.salt);
                self.said = Some((bare.to_string(), first.clone()));
                Some(first.into_bytes())
            }
            Some((client, server)) => {
                let (without_proof, proof) = message.rsplit_once(",p=")?;
                let nonce = server.split(',').next()?;
                if without_proof != format!("c=biws,{nonce}") {
                    return None;
                }
                let proof: Hash = STANDARD.decode(proof).ok()?.try_into().ok()?;
                let said: [&[u8]; 5] = [client.as_bytes(), b",", server.as_bytes(), b",", without_proof.as_bytes()];
                let key = xor(&proof, &hmac(&verifier.stored, &said));
                if hash(&[&key]) != verifier.stored {
                    return None;
                }
                self.done = true;
                Some(format!("v={}", STANDARD.encode(hmac(&verifier.server, &said))).into_bytes())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_7677_is_followed() {
        // The example of the RFC: its secret and salt, with the broker's nonce inserted.
        let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let verifier = Verifier::new("pencil", &salt);
        let server = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        let last = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
        let login = || Login { said: Some(("n=user,r=rOprNGfwEbeRWgbNEkqO".into(), server.into())), done: false };
        let mut good = login();
        let answer = good.answer(&verifier, last.as_bytes()).unwrap();
        assert_eq!(answer, b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
        assert!(good.done);
        for wrong in [last.replace("p=dH", "p=dI"), last.replace("k0,p", "k1,p"), "x".into(), last[..40].into()] {
            let mut bad = login();
            assert!(bad.answer(&verifier, wrong.as_bytes()).is_none() && !bad.done, "{wrong}");
        }
        let mut other = login();
        assert!(other.answer(&Verifier::new("pencil2", &salt), last.as_bytes()).is_none());
    }

    #[test]
    fn a_first_message_is_answered_only_for_the_known_name() {
        let verifier = Verifier::new("secret", b"salt");
        assert!(Login::default().answer(&verifier, b"n,,n=bayou,r=abc").unwrap().starts_with(b"r=abc"));
        for wrong in [&b"n,,n=root,r=abc"[..], b"n,,r=abc", b"n,,n=bayou", b"y,,n=bayou,r=a", b"", b"\xff"] {
            assert!(Login::default().answer(&verifier, wrong).is_none());
        }
    }
}
