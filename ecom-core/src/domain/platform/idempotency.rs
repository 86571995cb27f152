//! Idempotency keys: the name of a call, the hash of its request, and its stored answer (R12, R42).

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::domain::access::principal::Principal;
use crate::error::{Error, FieldCode, Result, ValidationErrors};
use crate::id::CustomerId;

/// The field that errors of a key name: the header of the HTTP API.
const FIELD: &str = "Idempotency-Key";
/// Separates an operation from the actor in a scope. An operation cannot contain it, so that the scopes of two callers
/// are never equal.
const SEPARATOR: char = '|';

/// The name of a call that has its effect at most once: the key that the caller has chosen, and its scope. The same key
/// in another scope is another name.
///
/// Keys sort by scope and key, bytewise, which is the order in which a transaction claims them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IdempotencyKey {
    scope: String,
    key: String,
}

impl IdempotencyKey {
    /// The maximum length of a scope, in characters.
    pub const MAX_SCOPE: usize = 200;
    /// The maximum length of an operation, in characters, so that a scope has room for the actor.
    pub const MAX_OPERATION: usize = 99;
    /// The maximum length of a key, in bytes.
    pub const MAX_KEY: usize = 255;

    /// Returns a key in a scope that the application chooses. A scope that contains the caller and the operation keeps
    /// the keys of different callers apart; [`IdempotencyKey::of`] makes such a scope.
    ///
    /// # Errors
    /// `Validation` unless the key has 1 to 255 visible ASCII characters and the scope 1 to 200 characters without
    /// NUL.
    pub fn new(scope: impl Into<String>, key: impl Into<String>) -> Result<Self> {
        let (scope, key) = (scope.into(), key.into());
        let mut errors = ValidationErrors::default();
        let length = if scope.len() > Self::MAX_SCOPE * 4 { usize::MAX } else { scope.chars().count() };
        if !(1..=Self::MAX_SCOPE).contains(&length) || scope.contains('\0') {
            let message = format!("must have 1 to {} characters, and no NUL", Self::MAX_SCOPE);
            errors.out_of_bounds("scope", message);
        }
        if !(1..=Self::MAX_KEY).contains(&key.len()) || !key.bytes().all(|b| b.is_ascii_graphic()) {
            let message = format!("must have 1 to {} visible ASCII characters", Self::MAX_KEY);
            errors.push(FIELD, FieldCode::Malformed, message);
        }
        errors.into_result()?;
        Ok(Self { scope, key })
    }

    /// Returns a key of a principal for an operation, such as `orders.import`: the same key of another principal, or
    /// for another operation, is another key.
    ///
    /// # Errors
    /// `Validation` unless the key has 1 to 255 visible ASCII characters and the operation 1 to 99 characters without
    /// NUL and `|`.
    pub fn of(principal: &Principal, operation: &str, key: impl Into<String>) -> Result<Self> {
        let fits = (1..=Self::MAX_OPERATION).contains(&operation.chars().count());
        if !fits || operation.contains(SEPARATOR) {
            let message = format!("must have 1 to {} characters, and no `{SEPARATOR}`", Self::MAX_OPERATION);
            return Err(Error::invalid("operation", FieldCode::OutOfBounds, message));
        }
        Self::new(format!("{operation}{SEPARATOR}{}", principal.actor().as_str()), key)
    }

    /// Returns the scope.
    pub fn scope(&self) -> &str {
        &self.scope
    }

    /// Returns the key as the caller has sent it.
    pub fn key(&self) -> &str {
        &self.key
    }
}

/// The SHA-256 hash of a request, by which a repetition is distinguished from another request with the same key.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestHash([u8; Self::LENGTH]);

impl RequestHash {
    /// The length in bytes.
    pub const LENGTH: usize = 32;

    /// Returns the hash of the parts of a request, such as its path and its body. The same bytes in other parts have
    /// another hash.
    pub fn of<'p>(parts: impl IntoIterator<Item = &'p [u8]>) -> Self {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        Self(hash.finalize().into())
    }

    /// Returns the hash of an input, in the form of its JSON.
    ///
    /// # Errors
    /// `Internal` if it cannot be serialized.
    pub fn of_json<T: Serialize + ?Sized>(input: &T) -> Result<Self> {
        let json = serde_json::to_vec(input).map_err(|e| Error::internal("hashing a request", e))?;
        Ok(Self::of([json.as_slice()]))
    }

    /// Returns the bytes.
    pub const fn as_bytes(&self) -> &[u8; Self::LENGTH] {
        &self.0
    }

    /// Returns an id that is derived from the hash: its first 16 bytes as a UUID of version 8 (RFC 9562).
    pub fn to_id(self) -> Uuid {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&self.0[..16]);
        uuid::Builder::from_custom_bytes(bytes).into_uuid()
    }
}

impl From<[u8; 32]> for RequestHash {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for RequestHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RequestHash(")?;
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))?;
        f.write_str(")")
    }
}

/// Whose personal data a stored answer contains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnswerSubject {
    /// The personal data of a customer.
    Customer(CustomerId),
    /// The personal data of the guest who has the cart or the order with this id. Either can become a customer's later;
    /// the erasure of the customer then removes the answer too.
    Guest(Uuid),
}

/// The answer of a call, as it is stored with its key: bytes that the library does not interpret.
///
/// The database stores them in clear. An answer that contains a secret must not be stored. If an answer contains
/// personal data, [`StoredAnswer::about`] says whose, so that an erasure (R45) finds it.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredAnswer {
    bytes: Vec<u8>,
    about: Option<AnswerSubject>,
}

impl StoredAnswer {
    /// The maximum length in bytes.
    pub const MAX: usize = 8 * 1024 * 1024;

    /// Returns an answer with these bytes.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self { bytes: bytes.into(), about: None }
    }

    /// Sets whose personal data the answer contains; `None` if it contains none. The erasure of that customer, or of the
    /// customer to whom the cart or order of the guest belongs by then, removes the answer. A repetition of the call then
    /// fails with `IDEMPOTENCY_ANSWER_ERASED`.
    #[must_use]
    pub fn about(mut self, subject: Option<AnswerSubject>) -> Self {
        self.about = subject;
        self
    }

    /// Returns whose personal data the answer contains, or `None` if it contains none.
    pub const fn subject(&self) -> Option<AnswerSubject> {
        self.about
    }

    /// Returns a value as an answer, in the form of its JSON.
    ///
    /// # Errors
    /// `Internal` if it cannot be serialized.
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<Self> {
        serde_json::to_vec(value).map(Self::new).map_err(|e| Error::internal("storing an answer", e))
    }

    /// Reads the value of [`StoredAnswer::json`].
    ///
    /// # Errors
    /// `Internal` if the answer is not the JSON of such a value.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(&self.bytes).map_err(|e| Error::internal("reading a stored answer", e))
    }

    /// Refuses an answer that is too long to be stored on every database.
    ///
    /// # Errors
    /// `Validation` on field `answer`.
    pub(crate) fn check(&self) -> Result<()> {
        if self.bytes.len() <= Self::MAX {
            return Ok(());
        }
        let message = format!("must have at most {} bytes to be stored with an idempotency key", Self::MAX);
        Err(Error::invalid("answer", FieldCode::OutOfBounds, message))
    }

    /// Returns the bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the bytes, owned.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

impl fmt::Debug for StoredAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Answers can contain personal data, which logs must not show.
        write!(f, "StoredAnswer({} bytes)", self.bytes.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorCode;

    #[test]
    fn r42_a_key_has_visible_ascii_characters_and_bounds() {
        for good in ["a", "8e03978e-40d5-43dd-bc93-6894a57f9324", "\"quoted\"", &"k".repeat(255)] {
            assert_eq!(IdempotencyKey::new("s", good).unwrap().key(), good);
        }
        for bad in ["", " ", "a b", "a\n", "é", "a\0", &"k".repeat(256)] {
            let error = IdempotencyKey::new("s", bad).unwrap_err();
            assert!(error.to_string().contains("Idempotency-Key"), "{error}");
        }
        let long = "ä".repeat(200);
        assert_eq!(IdempotencyKey::new(long.as_str(), "k").unwrap().scope(), long);
        for bad in ["", "a\0b", &"ä".repeat(201), &"x".repeat(100_000)] {
            assert_eq!(IdempotencyKey::new(bad, "k").unwrap_err().code(), ErrorCode::Validation);
        }
    }

    #[test]
    fn r42_a_scope_belongs_to_one_caller_and_one_operation() {
        let of = |actor: &str, operation: &str| {
            IdempotencyKey::of(&Principal::trusted(actor), operation, "k").map(|k| k.scope().to_owned())
        };
        let long = of(&"ö".repeat(100), &"ü".repeat(99)).unwrap();
        assert_eq!(long.chars().count(), 200);
        let scopes = [of("a", "b"), of("b", "a"), of("a|b", "c"), of("b", "c"), of("", "b"), of("a\nb", "b")];
        let mut scopes = scopes.map(Result::unwrap).to_vec();
        scopes.sort();
        scopes.dedup();
        assert_eq!(scopes.len(), 6);
        for bad in ["", "c|a", &"x".repeat(100)] {
            assert!(of("a", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn r12_a_hash_tells_requests_apart() {
        let hash = |parts: &[&str]| RequestHash::of(parts.iter().map(|p| p.as_bytes()));
        assert_eq!(hash(&["ab", "c"]), hash(&["ab", "c"]));
        for other in [["a", "bc"].as_slice(), &["abc"], &["ab", "c", ""], &["ab", "C"], &[]] {
            assert_ne!(hash(&["ab", "c"]), hash(other), "{other:?}");
        }
        assert_ne!(RequestHash::of_json(&[1, 2]).unwrap(), RequestHash::of_json(&[2, 1]).unwrap());
        let answer = StoredAnswer::json(&["Ada"]).unwrap();
        assert_eq!(answer.read::<Vec<String>>().unwrap(), ["Ada"]);
        assert!(!format!("{answer:?}").contains("Ada"));
        assert!(answer.read::<u8>().is_err());
    }
}
