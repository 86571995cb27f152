//! Signed tokens: JSON Web Signatures in the compact form (RFC 7515), over the crate `ring`.
//!
//! The crate `jsonwebtoken` delegates cryptography to one provider per process, which the application may have chosen
//! differently, and other crates bring their own cryptography. The compact form is three texts in base64, so this
//! module reads and writes it, and `ring` signs and verifies.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use ring::signature::{self as s, Ed25519KeyPair, RsaPublicKeyComponents, UnparsedPublicKey};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The fields of the header of a token that this module reads.
#[derive(Debug, Deserialize)]
pub(crate) struct Header {
    pub alg: String,
    pub typ: Option<String>,
    pub kid: Option<String>,
    /// Extensions that the recipient must understand. This module knows none (RFC 7515, 4.1.11).
    crit: Option<IgnoredAny>,
}

/// The header of a new token.
#[derive(Debug, Serialize)]
struct NewHeader<'a> {
    alg: &'a str,
    typ: &'a str,
    kid: &'a str,
}

/// A token that was parsed, but not verified.
pub(crate) struct Jws<'t> {
    pub header: Header,
    /// The part of the text that is signed.
    signed: &'t [u8],
    payload: Vec<u8>,
    signature: Vec<u8>,
}

impl<'t> Jws<'t> {
    /// Parses a token. Returns `None` for a text that is not a token, and for a token with critical extensions.
    pub fn parse(token: &'t str) -> Option<Self> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, payload) = signed.split_once('.')?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).ok();
        // A part that contains a further dot is not base64.
        let (payload, signature) = (decode(payload)?, decode(signature)?);
        let header: Header = object(&decode(header)?)?;
        if header.crit.is_some() {
            return None;
        }
        Some(Self { header, signed: signed.as_bytes(), payload, signature })
    }

    /// Returns the claims if the key verifies the signature by the algorithm that the header names. The caller has
    /// checked that it accepts the algorithm.
    pub fn verified<T: DeserializeOwned>(&self, key: &VerifyingKey) -> Option<T> {
        key.verifies(&self.header.alg, self.signed, &self.signature).then(|| self.unverified())?
    }

    /// Returns the claims without verifying the signature, to find out whose keys must verify it.
    pub fn unverified<T: DeserializeOwned>(&self) -> Option<T> {
        object(&self.payload)
    }
}

/// Reads a JSON object.
fn object<T: DeserializeOwned>(json: &[u8]) -> Option<T> {
    // Serde also reads a structure from an array.
    json.trim_ascii_start().starts_with(b"{").then(|| serde_json::from_slice(json).ok())?
}

/// A key that verifies signatures.
pub(crate) enum VerifyingKey {
    Hmac(hmac::Key),
    Ed25519(Vec<u8>),
    /// A point on the curve P-256, uncompressed.
    P256(Vec<u8>),
    /// A point on the curve P-384, uncompressed.
    P384(Vec<u8>),
    Rsa(RsaPublicKeyComponents<Vec<u8>>),
}

impl VerifyingKey {
    /// Returns true if the signature is by this key and this algorithm. A key verifies only by the algorithms of its
    /// type, so that a public key is never used as the secret of HMAC.
    fn verifies(&self, algorithm: &str, message: &[u8], signature: &[u8]) -> bool {
        let verified = match (self, algorithm) {
            (Self::Hmac(key), "HS256") => return hmac::verify(key, message, signature).is_ok(),
            (Self::Ed25519(key), "EdDSA") => UnparsedPublicKey::new(&s::ED25519, key).verify(message, signature),
            (Self::P256(key), "ES256") => {
                UnparsedPublicKey::new(&s::ECDSA_P256_SHA256_FIXED, key).verify(message, signature)
            }
            (Self::P384(key), "ES384") => {
                UnparsedPublicKey::new(&s::ECDSA_P384_SHA384_FIXED, key).verify(message, signature)
            }
            (Self::Rsa(key), algorithm) => {
                let by = match algorithm {
                    "RS256" => &s::RSA_PKCS1_2048_8192_SHA256,
                    "RS384" => &s::RSA_PKCS1_2048_8192_SHA384,
                    "RS512" => &s::RSA_PKCS1_2048_8192_SHA512,
                    "PS256" => &s::RSA_PSS_2048_8192_SHA256,
                    "PS384" => &s::RSA_PSS_2048_8192_SHA384,
                    "PS512" => &s::RSA_PSS_2048_8192_SHA512,
                    _ => return false,
                };
                key.verify(by, message, signature)
            }
            _ => return false,
        };
        verified.is_ok()
    }
}

/// A key that signs.
pub(crate) enum SigningKey {
    Hmac(hmac::Key),
    Ed25519(Ed25519KeyPair),
}

impl SigningKey {
    /// Returns the key of a secret for HMAC with SHA-256.
    pub fn hmac(secret: &[u8]) -> Self {
        Self::Hmac(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// Reads a private key for Ed25519 (PKCS #8).
    pub fn ed25519(der: &[u8]) -> Option<Self> {
        Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).ok().map(Self::Ed25519)
    }

    /// Returns a token with these claims.
    ///
    /// # Errors
    /// `Internal`.
    pub fn sign(&self, typ: &str, kid: &str, claims: &impl Serialize) -> Result<String> {
        let alg = match self {
            Self::Hmac(_) => "HS256",
            Self::Ed25519(_) => "EdDSA",
        };
        let encode = |json: serde_json::Result<Vec<u8>>| {
            json.map(|json| URL_SAFE_NO_PAD.encode(json)).map_err(|e| Error::internal("signing a token", e))
        };
        let header = encode(serde_json::to_vec(&NewHeader { alg, typ, kid }))?;
        let signed = format!("{header}.{}", encode(serde_json::to_vec(claims))?);
        let signature = match self {
            Self::Hmac(key) => URL_SAFE_NO_PAD.encode(hmac::sign(key, signed.as_bytes())),
            Self::Ed25519(key) => URL_SAFE_NO_PAD.encode(key.sign(signed.as_bytes())),
        };
        Ok(format!("{signed}.{signature}"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::service::access::crypto;

    fn b64(text: &str) -> String {
        URL_SAFE_NO_PAD.encode(text)
    }

    fn hmac_key(secret: &[u8]) -> VerifyingKey {
        VerifyingKey::Hmac(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    fn verified(token: &str, key: &VerifyingKey) -> Option<Value> {
        Jws::parse(token)?.verified(key)
    }

    fn unb64(text: &str) -> Vec<u8> {
        URL_SAFE_NO_PAD.decode(text).unwrap()
    }

    #[test]
    fn the_examples_of_the_standards_are_verified() {
        // RFC 7515, A.1.
        let secret = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
        let token = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQog\
                     Imh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
        assert_eq!(verified(token, &hmac_key(&unb64(secret))).unwrap()["iss"], "joe");
        // RFC 7515, A.2.
        let n = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d\
                     4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbB\
                     YUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNm\
                     oudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ";
        let token = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxl\
                     LmNvbS9pc19yb290Ijp0cnVlfQ.cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHI\
                     m4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xB\
                     ArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1ph\
                     CnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";
        let rsa = VerifyingKey::Rsa(RsaPublicKeyComponents { n: unb64(n), e: unb64("AQAB") });
        assert_eq!(verified(token, &rsa).unwrap()["iss"], "joe");
        // RFC 7515, A.3.
        let point = [
            vec![4],
            unb64("f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU"),
            unb64("x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"),
        ];
        let token = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxl\
                     LmNvbS9pc19yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQx\
                     fKTUJqPP3-Kg6NU1Q";
        assert_eq!(verified(token, &VerifyingKey::P256(point.concat())).unwrap()["iss"], "joe");
        // RFC 8037, A.4. The payload is no object.
        let ed = VerifyingKey::Ed25519(unb64("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"));
        let token = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PG\
                     cvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
        let jws = Jws::parse(token).unwrap();
        assert!(ed.verifies("EdDSA", jws.signed, &jws.signature));
        assert!(!ed.verifies("EdDSA", &jws.signed[1..], &jws.signature));
    }

    #[test]
    fn a_token_is_verified_by_the_key_that_has_signed_it_and_by_no_other() {
        let (private, public) = crypto::ed25519([3; 32]).unwrap();
        let (ed, hmac) = (SigningKey::ed25519(&private).unwrap(), SigningKey::hmac(&[5; 32]));
        let own = [VerifyingKey::Ed25519(public.clone()), hmac_key(&[5; 32])];
        let others = [
            VerifyingKey::Ed25519(crypto::ed25519([4; 32]).unwrap().1),
            VerifyingKey::P256([vec![4], public.clone(), public.clone()].concat()),
            VerifyingKey::Rsa(RsaPublicKeyComponents { n: vec![0xff; 256], e: vec![1, 0, 1] }),
            hmac_key(&[6; 32]),
            // The public key as the secret of HMAC.
            hmac_key(&public),
        ];
        let claims = json!({"sub": "ada"});
        for (i, key) in [ed, hmac].iter().enumerate() {
            let token = key.sign("at+jwt", "one", &claims).unwrap();
            let header = Jws::parse(&token).unwrap().header;
            assert_eq!((header.typ.as_deref(), header.kid.as_deref()), (Some("at+jwt"), Some("one")));
            assert_eq!(verified(&token, &own[i]), Some(claims.clone()));
            assert!(others.iter().chain([&own[1 - i]]).all(|key| verified(&token, key).is_none()));
            // Every change of a character makes it void.
            for at in 0..token.len() {
                let mut changed = token.clone().into_bytes();
                changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
                let changed = String::from_utf8(changed).unwrap();
                assert_eq!(verified(&changed, &own[i]), None, "{at}");
            }
        }
    }

    #[test]
    fn a_public_key_is_no_secret_of_hmac() {
        let (_, public) = crypto::ed25519([3; 32]).unwrap();
        let forged = SigningKey::hmac(&public).sign("at+jwt", "one", &json!({})).unwrap();
        assert_eq!(verified(&forged, &VerifyingKey::Ed25519(public.clone())), None);
        // An algorithm that the key does not have, and none at all.
        let (private, public) = crypto::ed25519([3; 32]).unwrap();
        let SigningKey::Ed25519(pair) = SigningKey::ed25519(&private).unwrap() else { panic!("Ed25519") };
        for alg in ["none", "None", "", "HS256", "ES256", "eddsa", "Ed25519", "RS256"] {
            let signed = format!("{}.{}", b64(&json!({ "alg": alg }).to_string()), b64("{}"));
            let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(pair.sign(signed.as_bytes())));
            assert_eq!(verified(&token, &VerifyingKey::Ed25519(public.clone())), None, "{alg}");
        }
    }

    #[test]
    fn what_is_no_token_is_refused() {
        let (header, payload) = (b64(r#"{"alg":"EdDSA"}"#), b64("{}"));
        assert!(Jws::parse(&format!("{header}.{payload}.AA")).is_some());
        for text in [
            String::new(),
            ".".to_owned(),
            "..".to_owned(),
            header.clone(),
            format!("{header}.{payload}"),
            format!("{header}.{payload}.AA.AA"),
            format!("{header}=.{payload}.AA"),
            // The unused bits of the last character are not zero.
            format!("{header}.{payload}.AB"),
            format!("{header}.{payload}.A A"),
            format!("{}.{payload}.AA", b64("[\"EdDSA\",null,null,null]")),
            format!("{}.{payload}.AA", b64(r#"{"alg":"EdDSA","alg":"none"}"#)),
            format!("{}.{payload}.AA", b64(r#"{"alg":1}"#)),
            format!("{}.{payload}.AA", b64(r#"{"typ":"JWT"}"#)),
            format!("{}.{payload}.AA", b64(r#"{"alg":"EdDSA","crit":["b64"],"b64":false}"#)),
            format!("{}.{payload}.AA", b64(&"[".repeat(100_000))),
            format!("{header}.{payload}.ä"),
        ] {
            assert!(Jws::parse(&text).is_none(), "{text}");
        }
    }
}
