//! The cryptography of secrets that must be read back, over the crate `ring`.

use ring::signature::{self, Ed25519KeyPair};
use ring::{aead, hkdf};
use subtle::ConstantTimeEq as _;

use crate::error::{Error, Result};

/// Returns the private key of a seed as PKCS #8 (RFC 8410, 7), and the public key.
pub(crate) fn ed25519(seed: [u8; 32]) -> Result<(Vec<u8>, Vec<u8>)> {
    const BEFORE_THE_SEED: [u8; 16] =
        [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
    let private = [&BEFORE_THE_SEED[..], &seed].concat();
    let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&private);
    let pair = pair.map_err(|e| Error::internal("making a signing key", e.to_string()))?;
    let public = signature::KeyPair::public_key(&pair).as_ref().to_vec();
    Ok((private, public))
}

/// The secret that all processes of a shop share. From it come the keys that encrypt secrets in the database. `Debug`
/// does not show it.
#[derive(Clone)]
pub struct SecretKey([u8; 32]);

impl PartialEq for SecretKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for SecretKey {}

impl std::fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretKey(…)")
    }
}

/// The length of a derived key.
struct Length;

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        32
    }
}

impl SecretKey {
    /// The minimum number of characters of [`SecretKey::from_text`].
    pub const MIN_LENGTH: usize = 32;

    /// Derives the key from a text of at least [`SecretKey::MIN_LENGTH`] characters, without the white space around it.
    /// The text must be random, such as the output of `openssl rand -base64 32`. Returns `None` if it is shorter.
    pub fn from_text(text: &str) -> Option<Self> {
        let text = text.trim();
        (text.chars().count() >= Self::MIN_LENGTH).then(|| {
            let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
            let mut key = [0; 32];
            key.copy_from_slice(digest.as_ref());
            Self(key)
        })
    }

    /// Returns the key of these random bytes.
    pub const fn from_random(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns a key for one purpose (HKDF-SHA256, RFC 5869).
    pub(crate) fn derive(&self, purpose: &str) -> [u8; 32] {
        let pseudorandom = hkdf::Salt::new(hkdf::HKDF_SHA256, b"ecom").extract(&self.0);
        let mut key = [0; 32];
        let info = [purpose.as_bytes()];
        // 32 bytes are within the bounds of HKDF, so that neither step can fail.
        let filled = pseudorandom.expand(&info, Length).and_then(|out| out.fill(&mut key));
        debug_assert!(filled.is_ok());
        key
    }

    /// Encrypts a secret, which can only be opened for the same purpose (ChaCha20-Poly1305, RFC 8439). The first bytes
    /// of `random` are the nonce.
    ///
    /// # Errors
    /// `Internal`.
    pub(crate) fn seal(&self, purpose: &str, secret: &[u8], random: [u8; 32]) -> Result<Vec<u8>> {
        let mut nonce = [0; aead::NONCE_LEN];
        nonce.copy_from_slice(&random[..aead::NONCE_LEN]);
        let mut sealed = secret.to_vec();
        self.sealing()?
            .seal_in_place_append_tag(
                aead::Nonce::assume_unique_for_key(nonce),
                aead::Aad::from(purpose.as_bytes()),
                &mut sealed,
            )
            .map_err(|e| Error::internal("encrypting a secret", e.to_string()))?;
        Ok([&nonce[..], &sealed].concat())
    }

    /// Decrypts a secret. Returns `None` if it was encrypted with another key or for another purpose, or was changed.
    pub(crate) fn open(&self, purpose: &str, sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, rest) = sealed.split_at_checked(aead::NONCE_LEN)?;
        let nonce = aead::Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut rest = rest.to_vec();
        let opened = self.sealing().ok()?.open_in_place(nonce, aead::Aad::from(purpose.as_bytes()), &mut rest).ok()?;
        Some(opened.to_vec())
    }

    fn sealing(&self) -> Result<aead::LessSafeKey> {
        let key = aead::UnboundKey::new(&aead::CHACHA20_POLY1305, &self.derive("secrets in the database"));
        Ok(aead::LessSafeKey::new(key.map_err(|e| Error::internal("encrypting a secret", e.to_string()))?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_opened_with_its_key_and_for_its_purpose_only() {
        let key = SecretKey::from_text(&"k".repeat(32)).unwrap();
        let sealed = key.seal("one", b"secret", [7; 32]).unwrap();
        assert_eq!(key.open("one", &sealed).as_deref(), Some(&b"secret"[..]));
        assert_eq!(key.open("two", &sealed), None);
        assert_eq!(SecretKey::from_text(&"l".repeat(32)).unwrap().open("one", &sealed), None);
        for cut in 0..sealed.len() {
            assert_eq!(key.open("one", &sealed[..cut]), None);
        }
        let mut changed = sealed.clone();
        for at in 0..changed.len() {
            changed[at] ^= 1;
            assert_eq!(key.open("one", &changed), None);
            changed[at] ^= 1;
        }
        assert!(SecretKey::from_text(&"k".repeat(31)).is_none());
        assert_eq!(format!("{key:?}"), "SecretKey(…)");
        assert_ne!(key.derive("a"), key.derive("b"));
    }
}
