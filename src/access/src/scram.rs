//! SCRAM-SHA-256 (RFC 5802 and 7677), the server's side.
//!
//! Written here rather than taken from pgwire because pgwire 0.41 keeps the handshake in the handler and needs the
//! salted password, while a server should store only what lets it check a proof.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::{digest, hmac, pbkdf2};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

/// The verifier of a password: enough to check it, not enough to use it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verifier {
    iterations: u32,
    salt: Vec<u8>,
    stored_key: [u8; 32],
    server_key: [u8; 32],
}

/// Iterations of a new verifier, as many as in Postgres by default.
const ITERATIONS: u32 = 4096;

impl Verifier {
    /// Derives the verifier of a password with a fresh salt.
    pub fn derive(password: &str) -> Self {
        Self::derive_with(password, rand::random::<[u8; 16]>().to_vec(), ITERATIONS)
    }

    fn derive_with(password: &str, salt: Vec<u8>, iterations: u32) -> Self {
        // Like Postgres, a password that SASLprep refuses is used as it is.
        let prepared = stringprep::saslprep(password);
        let password = prepared.as_deref().unwrap_or(password);
        let mut salted = [0; 32];
        let rounds = std::num::NonZeroU32::new(iterations).unwrap_or(std::num::NonZeroU32::MIN);
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, &salt, password.as_bytes(), &mut salted);
        let stored_key = sha256(&sign(&salted, b"Client Key"));
        let server_key = sign(&salted, b"Server Key");
        Self { iterations, salt, stored_key, server_key }
    }

    /// Reads `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`, as in Postgres' `pg_authid`.
    pub fn parse(text: &str) -> Option<Self> {
        let (rounds, keys) = text.strip_prefix("SCRAM-SHA-256$")?.split_once('$')?;
        let (iterations, salt) = rounds.split_once(':')?;
        let (stored_key, server_key) = keys.split_once(':')?;
        let verifier = Self {
            iterations: iterations.parse().ok().filter(|rounds| (1..=10_000_000).contains(rounds))?,
            salt: BASE64.decode(salt).ok()?,
            stored_key: BASE64.decode(stored_key).ok()?.try_into().ok()?,
            server_key: BASE64.decode(server_key).ok()?.try_into().ok()?,
        };
        (!verifier.salt.is_empty()).then_some(verifier)
    }

    /// Returns the text that [`Verifier::parse`] reads.
    pub fn to_text(&self) -> String {
        let [salt, stored_key, server_key] =
            [&self.salt[..], &self.stored_key, &self.server_key].map(|bytes| BASE64.encode(bytes));
        format!("SCRAM-SHA-256${}:{salt}${stored_key}:{server_key}", self.iterations)
    }

    /// Returns true if this is the verifier of a password. Takes milliseconds, as many for a wrong one.
    pub fn is_of(&self, password: &str) -> bool {
        let given = Self::derive_with(password, self.salt.clone(), self.iterations);
        verify_slices_are_equal(&given.stored_key, &self.stored_key).is_ok()
    }

    /// Makes a verifier for a user that does not exist: the conversation must look and last the same. The salt is a
    /// function of the name, so that asking twice does not give the game away.
    pub fn mock(user: &str, secret: &[u8; 32]) -> Self {
        let salt = sign(secret, user.as_bytes())[..16].to_vec();
        Self { iterations: ITERATIONS, salt, stored_key: rand::random(), server_key: rand::random() }
    }
}

/// The server's side of one handshake, after the client's first message.
pub struct Exchange {
    verifier: Verifier,
    nonce: String,
    client_first_bare: String,
    server_first: String,
    /// The bytes that the client must send again: the start of its first message, and the channel's own bytes if it is
    /// bound.
    binding: Vec<u8>,
}

/// The binding of a conversation to the encrypted channel that it goes through (RFC 5929, `tls-server-end-point`), so
/// that nobody in the middle can lead it.
#[derive(Debug, Clone, Copy)]
pub enum ChannelBinding<'a> {
    /// The mechanism with a binding was not offered.
    NotOffered,
    /// The mechanism with a binding was offered, and the client chose the one without.
    Declined,
    /// The client chose the mechanism with a binding; the hash of the server's certificate.
    Chosen(&'a [u8]),
}

impl Exchange {
    /// Reads `client-first-message` and prepares the answer.
    pub fn begin(client_first: &str, verifier: Verifier, channel: ChannelBinding) -> Option<Self> {
        let nonce = BASE64.encode(rand::random::<[u8; 18]>());
        Self::begin_with(client_first, verifier, channel, &nonce)
    }

    fn begin_with(client_first: &str, verifier: Verifier, channel: ChannelBinding, server_nonce: &str) -> Option<Self> {
        // gs2-header is "flag,[a=authzid],".
        let mut parts = client_first.splitn(3, ',');
        let (flag, authzid, bare) = (parts.next()?, parts.next()?, parts.next()?);
        let data = match (channel, flag) {
            (ChannelBinding::Chosen(data), "p=tls-server-end-point") => data,
            // "y" means that the client could bind and was not offered to: somebody changed the offer.
            (ChannelBinding::NotOffered, "n" | "y") | (ChannelBinding::Declined, "n") => &[],
            _ => return None,
        };
        if !authzid.is_empty() {
            return None;
        }
        // The user name in here is ignored, as in Postgres: the startup packet has it.
        let mut fields = bare.split(',');
        fields.next()?.strip_prefix("n=")?;
        let client_nonce = fields.next()?.strip_prefix("r=")?;
        let printable = |byte: u8| (0x21..=0x7e).contains(&byte);
        if client_nonce.is_empty() || client_nonce.len() > 256 || !client_nonce.bytes().all(printable) {
            return None;
        }
        let nonce = format!("{client_nonce}{server_nonce}");
        let server_first = format!("r={nonce},s={},i={}", BASE64.encode(&verifier.salt), verifier.iterations);
        Some(Self {
            verifier,
            nonce,
            client_first_bare: bare.to_string(),
            server_first,
            binding: [format!("{flag},,").as_bytes(), data].concat(),
        })
    }

    /// Returns `server-first-message`.
    pub fn challenge(&self) -> &str {
        &self.server_first
    }

    /// Checks `client-final-message`; `Some(server-final-message)` if the client knows the password.
    pub fn finish(self, client_final: &str) -> Option<String> {
        let (without_proof, proof) = client_final.rsplit_once(",p=")?;
        let mut fields = without_proof.split(',');
        let binding = fields.next()?.strip_prefix("c=")?;
        let nonce = fields.next()?.strip_prefix("r=")?;
        if BASE64.decode(binding).ok()? != self.binding || nonce != self.nonce {
            return None;
        }
        let proof: [u8; 32] = BASE64.decode(proof).ok()?.try_into().ok()?;
        let message = format!("{},{},{without_proof}", self.client_first_bare, self.server_first);
        let signature = sign(&self.verifier.stored_key, message.as_bytes());
        let client_key: [u8; 32] = std::array::from_fn(|i| proof[i] ^ signature[i]);
        verify_slices_are_equal(&sha256(&client_key), &self.verifier.stored_key).ok()?;
        let server_signature = sign(&self.verifier.server_key, message.as_bytes());
        Some(format!("v={}", BASE64.encode(server_signature)))
    }
}

fn sign(key: &[u8], message: &[u8]) -> [u8; 32] {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message);
    let mut out = [0; 32];
    out.copy_from_slice(tag.as_ref());
    out
}

fn sha256(message: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, message).as_ref());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    // The example conversation of RFC 7677, section 3.
    const CLIENT_FIRST: &str = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
    const SERVER_NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    const CLIENT_FINAL: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                                p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";

    fn exchange(password: &str) -> Exchange {
        let salt = BASE64.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let verifier = Verifier::derive_with(password, salt, 4096);
        Exchange::begin_with(CLIENT_FIRST, verifier, ChannelBinding::NotOffered, SERVER_NONCE).unwrap()
    }

    #[test]
    fn rfc_7677() {
        let exchange = exchange("pencil");
        assert_eq!(
            exchange.challenge(),
            "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
        );
        let last = exchange.finish(CLIENT_FINAL);
        assert_eq!(last.as_deref(), Some("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="));
    }

    #[test]
    fn anything_else_is_refused() {
        assert!(exchange("pencils").finish(CLIENT_FINAL).is_none());
        assert!(exchange("pencil").finish(&CLIENT_FINAL.replace("c=biws", "c=eSws")).is_none());
        assert!(exchange("pencil").finish(&CLIENT_FINAL.replace("k0,p", "k1,p")).is_none());
        assert!(exchange("pencil").finish("c=biws").is_none());
        for first in ["", "n,,", "p=tls-server-end-point,,n=,r=x", "n,a=other,n=,r=x", "n,,n=,r=", "n,,r=x,n="] {
            assert!(
                Exchange::begin(first, Verifier::derive("pencil"), ChannelBinding::NotOffered).is_none(),
                "{first}"
            );
        }
    }

    #[test]
    fn a_bound_conversation_needs_the_channel() {
        let begin = |flag: &str, channel| Exchange::begin(&format!("{flag},,n=,r=abc"), Verifier::derive("x"), channel);
        let chosen = ChannelBinding::Chosen(b"hash");
        assert!(begin("p=tls-server-end-point", chosen).is_some_and(|e| e.binding == b"p=tls-server-end-point,,hash"));
        assert!(begin("n", ChannelBinding::Declined).is_some());
        for (flag, channel) in [("n", chosen), ("y", chosen), ("p=tls-unique", chosen), ("y", ChannelBinding::Declined)]
        {
            assert!(begin(flag, channel).is_none(), "{flag}");
        }
    }

    #[test]
    fn verifiers_of_postgres_are_read() {
        let text = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$\
                    WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
        let salt = BASE64.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        assert_eq!(Verifier::parse(text), Some(Verifier::derive_with("pencil", salt, 4096)));
        assert_eq!(Verifier::parse(text).map(|verifier| verifier.to_text()).as_deref(), Some(text));
        for bad in ["SCRAM-SHA-256$", "SCRAM-SHA-256$0:AA==$AA==:AA==", "md5abc", ""] {
            assert_eq!(Verifier::parse(bad), None);
        }
    }

    #[test]
    fn unknown_users_always_get_the_same_salt() {
        let secret = [7; 32];
        assert_eq!(Verifier::mock("eve", &secret).salt, Verifier::mock("eve", &secret).salt);
        assert_ne!(Verifier::mock("eve", &secret).salt, Verifier::mock("eva", &secret).salt);
    }
}
