use axum::extract::Request;
use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ecom_core::Error;
use ecom_core::access::{ApiKeyInput, Permission, Secret, UserInput};
use ecom_core::id::CartId;
use ecom_core::sales::{CartAccess, CartInput, CartToken};
use ecom_http::HttpConfig;
use ring::hmac;

use crate::shop::{TestShop, kept};

/// A shop with one of each credential.
struct Login {
    shop: TestShop,
    access: String,
    key: String,
    cart: (CartId, String),
    /// The public key that verifies access tokens.
    public: Vec<u8>,
}

thread_local! {
    static LOGIN: &'static Login = {
        let shop = TestShop::new(HttpConfig::default().rate_limits(None), |own| own);
        let login = shop.run(async {
            let services = &shop.shop;
            let password = Some(Secret::new("correct horse battery"));
            let user = UserInput { password, ..UserInput::new("ada@example.com") };
            let access = services.auth().register(&user, None).await.expect("a user").access.reveal().to_owned();
            let key = ApiKeyInput::new("robot", [Permission::StockRead]);
            let key = services.api_keys().create(&key).await.expect("a key").secret.reveal().to_owned();
            let cart = services.carts().create(&CartInput::default()).await.expect("a cart");
            let token = cart.token.expect("the cart of a guest has a token").reveal().to_owned();
            let keys = services.auth().key_set().await.expect("keys");
            let public = keys["keys"][0]["x"].as_str().and_then(|x| URL_SAFE_NO_PAD.decode(x).ok()).expect("a key");
            (access, key, (cart.cart.cart.id, token), public)
        });
        let (access, key, cart, public) = login;
        kept(Login { shop, access, key, cart, public })
    };
}

/// Credentials: a text that differs from an access token, an API key or the token of a cart in any character opens
/// nothing, whatever algorithm or key it names, and whatever it is signed with.
///
/// The input is a text, in which `{header}`, `{payload}` and `{signature}` stand for the parts of a valid access token,
/// `{key}` for an API key and `{cart}` for the token of a cart; or two lines, which are the JSON of a header and of a
/// payload, and in which `{kid}` stands for the id of the signing key.
pub fn token(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    LOGIN.with(|login| match text.split_once('\n') {
        Some((header, payload)) => login.forged(header, payload),
        None => login.check(&login.filled(text)),
    });
}

impl Login {
    fn parts(&self) -> [&str; 3] {
        let mut parts = self.access.split('.');
        std::array::from_fn(|_| parts.next().expect("a token has three parts"))
    }

    fn filled(&self, text: &str) -> String {
        let [header, payload, signature] = self.parts();
        [
            ("{header}", header),
            ("{payload}", payload),
            ("{signature}", signature),
            ("{key}", &self.key),
            ("{cart}", &self.cart.1),
        ]
        .iter()
        .fold(text.to_owned(), |text, (name, value)| text.replace(name, value))
    }

    /// Checks the tokens with this header and payload that somebody can make who does not have the signing key.
    fn forged(&self, header: &str, payload: &str) {
        let decoded = |part: &str| {
            let bytes = URL_SAFE_NO_PAD.decode(part).expect("base64");
            String::from_utf8(bytes).expect("a text")
        };
        let [own_header, own_payload, own_signature] = self.parts();
        let kid: serde_json::Value = serde_json::from_str(&decoded(own_header)).expect("a header");
        let header = header.replace("{kid}", kid["kid"].as_str().expect("an id"));
        let payload = payload.replace("{payload}", &decoded(own_payload));
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(&header), URL_SAFE_NO_PAD.encode(payload));
        let by = |secret: &[u8]| {
            let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
            URL_SAFE_NO_PAD.encode(hmac::sign(&key, signed.as_bytes()))
        };
        let x = URL_SAFE_NO_PAD.encode(&self.public);
        for signature in [String::new(), own_signature.to_owned(), by(&self.public), by(x.as_bytes()), by(b"")] {
            self.check(&format!("{signed}.{signature}"));
        }
    }

    fn check(&self, text: &str) {
        let services = &self.shop.shop;
        let is_valid = text == self.access || text == self.key;
        match self.shop.run(services.auth().authenticate(&Secret::new(text))) {
            Ok(_) => assert!(is_valid, "{text:?} is accepted"),
            Err(Error::Unauthenticated) => assert!(!is_valid, "{text:?} is refused"),
            Err(error) => panic!("{text:?}: {error:?}"),
        }
        if let Some(answer) =
            self.shop.send(Request::get("/api/v1/auth/me").header("authorization", format!("Bearer {text}")), None)
        {
            // A header has no spaces around it. An API key is valid, but is no user.
            let is_user = text.trim() == self.access;
            let statuses =
                if is_user { [StatusCode::OK; 2] } else { [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN] };
            assert!(statuses.contains(&answer.status), "{text:?} has {}: {}", answer.status, answer.body);
        }
        let (id, cart) = &self.cart;
        let stranger = ecom_core::access::Principal::anonymous([]);
        let opened =
            self.shop.run(services.acting_as(&stranger).carts().get(*id, &CartAccess::Token(CartToken::new(text))));
        match opened {
            Ok(_) => assert_eq!(text, cart),
            Err(Error::NotFound { .. }) => assert_ne!(text, cart),
            Err(error) => panic!("{text:?}: {error:?}"),
        }
    }
}
