//! The frame of POSTs: with the header `Idempotency-Key`, a request has its effect at most once, and a repetition gets
//! the stored response (R12).
//!
//! A handler extracts its body with [`Post`] and returns the response of [`Keyed::answer`].

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{FromRequest, MatchedPath, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use ecom_core::platform::{AnswerSubject, IdempotencyKey, KeyedCall, Once, RequestHash, StoredAnswer};
use ecom_core::{Error, ErrorCode, FieldCode, Tx};
use futures::future::{BoxFuture, FutureExt as _};
use http_body_util::BodyExt as _;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::admission::Replays;
use crate::app::App;
use crate::error::{ApiError, ApiResult};
use crate::extract::{Received, RequestTarget, X_CART_TOKEN, receive};
use crate::headers::with_event;
use crate::resource::{About, Reply, principal};

/// The header with the key.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// The header of a response that was stored before.
pub(crate) const IDEMPOTENCY_REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// The body of a POST, and the key of the request.
pub(crate) struct Post<B> {
    pub body: B,
    pub keyed: Keyed,
}

/// The idempotency key of a request, with the hash of the request, if the client has sent a key, and which stored
/// responses the caller may get, or why it may get none.
pub(crate) struct Keyed(Option<(IdempotencyKey, RequestHash, ApiResult<Replays>)>);

impl<B: Received> FromRequest<Arc<App>> for Post<B> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        let identified = match key(&parts, app)? {
            Some(key) => {
                let replays = app.admission.check_keyed(&parts, principal(&parts, app));
                Some((key, replays, parts.method.clone(), RequestTarget::of(&parts)))
            }
            None => None,
        };
        let (bytes, body) = receive::<B>(Request::from_parts(parts, body), app).await?;
        let keyed = identified.map(|(key, replays, method, target)| {
            let query = target.query().unwrap_or_default();
            let parts = [method.as_str().as_bytes(), target.own_path().as_bytes(), query.as_bytes(), &bytes];
            (key, RequestHash::of(parts), replays)
        });
        Ok(Self { body, keyed: Keyed(keyed) })
    }
}

/// Returns the key of a request, which belongs to the caller and to the route. A caller with the token of a cart is
/// known by the token, so that nobody else gets the stored responses.
fn key(parts: &Parts, app: &App) -> ApiResult<Option<IdempotencyKey>> {
    let mut sent = parts.headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(first) = sent.next() else { return Ok(None) };
    // A list of keys, or bytes that are no text, are refused as an invalid key.
    let text = if sent.next().is_some() { "" } else { first.to_str().unwrap_or_default() };
    let route = parts.extensions.get::<MatchedPath>().map_or(parts.uri.path(), MatchedPath::as_str);
    let mut operation = operation(parts.method.as_str(), route, &app.config.api_prefix);
    if let Some(token) = parts.headers.get(X_CART_TOKEN) {
        operation = format!("{:?}", RequestHash::of([operation.as_bytes(), token.as_bytes()]));
    }
    Ok(Some(IdempotencyKey::of(principal(parts, app), &operation, text)?))
}

/// Returns the method and the route without the prefix of the API, or their hash if they are too long.
fn operation(method: &str, route: &str, prefix: &str) -> String {
    let own = route.split_once(prefix).map_or(route, |(_, own)| own);
    let text = format!("{method} {own}");
    let fits = text.chars().count() <= IdempotencyKey::MAX_OPERATION && !text.contains('|');
    if fits { text } else { format!("{:?}", RequestHash::of([text.as_bytes()])) }
}

impl Keyed {
    /// Refuses a key, if there is one. Responses that contain a secret are not stored, because stored ones are in
    /// clear.
    pub(crate) fn refuse(&self, why: &str) -> ApiResult<()> {
        if self.0.is_none() {
            return Ok(());
        }
        let message = format!("the header Idempotency-Key is not allowed here: {why}");
        Err(ApiError::new(ErrorCode::BadRequest, message).at("Idempotency-Key", FieldCode::Inconsistent))
    }

    /// Runs the write of a request and returns its response.
    ///
    /// Without a key, the write is `plain`. With a key, it is `within`, which takes a transaction and uses the `…_in`
    /// form of the same call; the response is rendered in the transaction and stored with the key. If an earlier
    /// request with the key has succeeded, its response is returned, and nothing runs. The caller must still have the
    /// permissions that the route declares.
    ///
    /// The future is boxed, because it holds both forms of the write.
    pub(crate) fn answer<'a, T, F>(
        self,
        reply: &'a Reply,
        plain: impl Future<Output = Result<T, Error>> + Send + 'a,
        within: impl Fn(Tx<'static>) -> F + Send + Sync + 'a,
        render: impl Fn(&T) -> ApiResult + Send + Sync + 'a,
    ) -> BoxFuture<'a, Result<Response, Error>>
    where
        T: Send + Sync + 'a,
        F: Future<Output = Result<(T, Tx<'static>), Error>> + Send + 'a,
    {
        Box::pin(self.run(reply, plain, within, render))
    }

    /// Runs a write that shares its commit with others, and returns its response, as [`Self::answer`] does. With a key,
    /// the write is `once`.
    pub(crate) async fn answer_once<T, F>(
        self,
        plain: impl Future<Output = Result<T, Error>>,
        once: impl FnOnce(KeyedCall<T>) -> F,
        render: impl Fn(&T) -> ApiResult + Clone + Send + Sync + 'static,
    ) -> Result<Response, Error>
    where
        F: Future<Output = Result<Once<T>, Error>>,
    {
        let Some((key, hash, replays)) = self.0 else {
            return render(&plain.await?).map_err(ApiError::into_error);
        };
        let replays = replays.map_err(ApiError::into_error)?;
        let rendered = render.clone();
        let stored = move |value: &T, event| {
            let mut response = rendered(value).map_err(ApiError::into_error)?;
            with_event(response.headers_mut(), event);
            Answer::of(response)?.stored()
        };
        match once(KeyedCall::new(key, hash, stored)).await? {
            Once::Ran(value) => render(&value).map_err(ApiError::into_error),
            Once::Replayed(stored) => replayed(&stored, replays),
        }
    }

    /// Returns the response to a request that was refused before its write began. If an earlier request with the key
    /// has succeeded, it may be the reason for the refusal, so this returns its stored response. Otherwise, this
    /// returns the error.
    pub(crate) async fn replayed_or(self, reply: &Reply, refused: Error) -> Result<Response, Error> {
        let Some((key, hash, replays)) = self.0 else { return Err(refused) };
        let replays = replays.map_err(ApiError::into_error)?;
        let refused = &Mutex::new(Some(refused));
        let calls = reply.shop().idempotency();
        // The call is only made if there is no stored response, and ends the transaction without an effect.
        let call = |_: Tx<'static>| async move {
            let refused = refused.lock().take().unwrap_or(Error::Contention { source: None });
            Err::<(Infallible, StoredAnswer, Tx<'static>), Error>(refused)
        };
        match calls.run_short(&key, hash, call).await? {
            Once::Ran(never) => match never {},
            Once::Replayed(stored) => replayed(&stored, replays),
        }
    }

    async fn run<T, F>(
        self,
        reply: &Reply,
        plain: impl Future<Output = Result<T, Error>>,
        within: impl Fn(Tx<'static>) -> F,
        render: impl Fn(&T) -> ApiResult,
    ) -> Result<Response, Error>
    where
        F: Future<Output = Result<(T, Tx<'static>), Error>>,
    {
        let Some((key, hash, replays)) = self.0 else {
            return render(&plain.await?).map_err(ApiError::into_error);
        };
        let replays = replays.map_err(ApiError::into_error)?;
        let (within, render) = (&within, &render);
        let calls = reply.shop().idempotency();
        let done = calls.run_short(&key, hash, |tx| async move {
            let (value, tx) = within(tx).await?;
            let mut response = render(&value).map_err(ApiError::into_error)?;
            with_event(response.headers_mut(), tx.last_event());
            let answer = Answer::of(response)?;
            let stored = answer.stored()?;
            Ok((answer, stored, tx))
        });
        match done.await? {
            Once::Ran(answer) => Ok(answer.response()),
            Once::Replayed(stored) => replayed(&stored, replays),
        }
    }
}

/// Returns the response that an earlier request has stored.
fn replayed(stored: &StoredAnswer, replays: Replays) -> Result<Response, Error> {
    replays.check(stored)?;
    let mut response = Answer::read(stored)?.response();
    response.headers_mut().insert(IDEMPOTENCY_REPLAYED, HeaderValue::from_static("true"));
    Ok(response)
}

/// A response, as it is stored with a key: a line of JSON with the status and the headers, and then the body.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
    about: Option<AnswerSubject>,
}

/// The first line of a stored response.
#[derive(Serialize, Deserialize)]
struct Head {
    status: u16,
    headers: Vec<(String, String)>,
}

const STORING: &str = "storing a response";
const READING: &str = "reading a stored response";

impl Answer {
    /// Returns a response whose body is complete, as those of the handlers are.
    fn of(response: Response) -> Result<Self, Error> {
        let (parts, body) = response.into_parts();
        let body = body.collect().now_or_never().ok_or(Error::Internal { context: STORING, source: None })?;
        let body = body.map_err(|e| Error::internal(STORING, e))?.to_bytes();
        let about = parts.extensions.get().map(|About(subject)| *subject);
        Ok(Self { status: parts.status, headers: parts.headers, body, about })
    }

    fn stored(&self) -> Result<StoredAnswer, Error> {
        let mut headers = Vec::with_capacity(self.headers.len());
        for (name, value) in &self.headers {
            let value = value.to_str().map_err(|e| Error::internal(STORING, e))?;
            headers.push((name.as_str().to_owned(), value.to_owned()));
        }
        let head = Head { status: self.status.as_u16(), headers };
        let mut bytes = serde_json::to_vec(&head).map_err(|e| Error::internal(STORING, e))?;
        bytes.reserve(1 + self.body.len());
        bytes.push(b'\n');
        bytes.extend_from_slice(&self.body);
        Ok(StoredAnswer::new(bytes).about(self.about))
    }

    fn read(stored: &StoredAnswer) -> Result<Self, Error> {
        let bytes = stored.as_bytes();
        let end = bytes.iter().position(|b| *b == b'\n');
        let (head, body) = end.map_or((bytes, [].as_slice()), |end| (&bytes[..end], &bytes[end + 1..]));
        let head: Head = serde_json::from_slice(head).map_err(|e| Error::internal(READING, e))?;
        let mut headers = HeaderMap::with_capacity(head.headers.len() + 1);
        for (name, value) in head.headers {
            let name = HeaderName::try_from(name).map_err(|e| Error::internal(READING, e))?;
            headers.append(name, HeaderValue::try_from(value).map_err(|e| Error::internal(READING, e))?);
        }
        let status = StatusCode::from_u16(head.status).map_err(|e| Error::internal(READING, e))?;
        Ok(Self { status, headers, body: Bytes::copy_from_slice(body), about: stored.subject() })
    }

    fn response(self) -> Response {
        let mut response = Response::new(Body::from(self.body));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response
    }
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse as _;

    use super::*;

    #[test]
    fn r42_an_operation_is_the_method_and_the_route() {
        let nested = operation("POST", "/shop/api/v1/customers/{id}/addresses", "/api/v1");
        assert_eq!(nested, "POST /customers/{id}/addresses");
        assert_eq!(operation("POST", "/customers", ""), "POST /customers");
        assert_eq!(operation("POST", "/elsewhere", "/api/v1"), "POST /elsewhere");
        let long = [format!("/{}", "a".repeat(200)), format!("/{}", "b".repeat(200)), "/a|b".to_owned()];
        let [a, b, c] = long.map(|route| operation("POST", &route, ""));
        assert!(a != b && b != c && [a, b, c].iter().all(|o| o.len() <= IdempotencyKey::MAX_OPERATION));
    }

    #[test]
    fn r12_a_response_is_stored_byte_by_byte() {
        let headers = [("location", "/a"), ("etag", "\"1.1-x\"")];
        let body = vec![b'\n', 0, 255, b'\n'];
        let answer = Answer::of((StatusCode::CREATED, headers, body.clone()).into_response()).unwrap();
        let read = Answer::read(&answer.stored().unwrap()).unwrap();
        assert_eq!((read.status, &read.headers, &read.body[..]), (StatusCode::CREATED, &answer.headers, &body[..]));
        for bad in ["", "x\n", "{\"status\":201}\n", "{\"status\":1,\"headers\":[]}\n"] {
            assert!(Answer::read(&StoredAnswer::new(bad)).is_err(), "{bad}");
        }
    }
}
