//! The OpenAPI document: the documentation of the handlers, and the parts that all operations share.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write as _;

use ecom_core::ErrorCode;
use serde::Serialize;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{Operation, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{AnyOfBuilder, ArrayItems, KnownFormat, ObjectBuilder, OneOfBuilder, SchemaFormat, Type};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::tag::TagBuilder;
use utoipa::openapi::{
    Content, ContentBuilder, OpenApi as Document, Ref, RefOr, Required, Response, ResponseBuilder, Schema, Server,
};
use utoipa::{IntoParams as _, Modify, OpenApi};

use crate::app::HttpConfig;
use crate::error::status_of;
use crate::extract::IfMatchHeader;
use crate::routes::{self, RouteGroup, Tag};

/// The envelope of an error response.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(example = json!({"error": {
    "code": "VALIDATION_FAILED",
    "message": "the input is not valid: price: must be 0 or more",
    "details": [{"field": "price", "code": "out_of_bounds", "message": "must be 0 or more"}],
    "timestamp": "2026-01-31T12:00:00.000000Z",
    "request_id": "019ab000-0000-7000-8000-000000000000"
}}))]
pub(crate) struct ErrorEnvelope {
    /// The error.
    error: ErrorBody,
}

/// An error.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct ErrorBody {
    /// The stable code for programs, such as `VALIDATION_FAILED`.
    code: String,
    /// The description of the error, for people.
    message: String,
    /// The details of the error: one object for each invalid field, or objects that depend on the code.
    details: Vec<serde_json::Value>,
    /// When the error occurred (RFC 3339, UTC).
    timestamp: String,
    /// The id of the request, as in the header `X-Request-Id`.
    request_id: String,
}

/// The response to a client that already has the document.
#[derive(utoipa::IntoResponses)]
#[response(status = 304, description = "The document has not changed: `If-None-Match` contains its entity tag")]
pub(crate) struct NotModified;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "ecom",
        description = "The catalog, reviews, stock, customers, carts, orders, bills and search of a shop.\n\nEvery \
                       response is an envelope with `data`, `meta` and `links`, or with `error`. A write names the \
                       version that the client has read, in `If-Match` or in `version` (R1). Prices and measures are \
                       exact: they are strings, or numbers if the request has `numbers=true`.",
        license(name = "MIT OR Apache-2.0")
    ),
    components(schemas(ErrorEnvelope, ErrorBody)),
    modifiers(&Credentials),
    tags((name = "operations", description = "Health and documentation of the server"))
)]
struct Frame;

/// The credentials that a request can have, as the handlers name them in `security`: `bearer` with the permissions that
/// the caller needs, or with `own` if a customer needs none for its own rows; `cart_token`; or nothing.
struct Credentials;

impl Modify for Credentials {
    fn modify(&self, document: &mut Document) {
        let bearer = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some(
                "An access token of `/auth/login`, or an API key. An operation names the permissions that it requires; \
                 `own` stands for customers who have logged in and ask for what is their own.",
            ))
            .build();
        let token = ApiKeyValue::with_description(
            "X-Cart-Token",
            "The token of a guest's cart, which the response to the creation of the cart contains.",
        );
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
        components.add_security_scheme("cart_token", SecurityScheme::ApiKey(ApiKey::Header(token)));
    }
}

/// Adds a sentence to the description of an operation that says who may call it, as its handler declares.
fn describe_access(operation: &mut Operation) {
    let declared = serde_json::to_value(&operation.security).unwrap_or_default();
    let declared: Vec<BTreeMap<String, Vec<String>>> = serde_json::from_value(declared).unwrap_or_default();
    if declared.iter().any(BTreeMap::is_empty) {
        return;
    }
    let mut text = String::new();
    for scopes in declared.iter().filter_map(|alternative| alternative.get("bearer")) {
        match &scopes[..] {
            [] => text.push_str("Requires a login."),
            [own] if own == "own" => text.push_str(" A customer needs no permission for what is its own."),
            [one] => text.extend(["Requires the permission `", one, "`."]),
            several => text.extend(["Requires the permissions `", &several.join("` and `"), "`."]),
        }
    }
    if declared.iter().any(|alternative| alternative.contains_key("cart_token")) {
        text.push_str(" With the token of the guest's cart in `X-Cart-Token`, the request needs no login.");
    }
    let before = operation.description.take().filter(|before| !before.is_empty());
    operation.description = Some(before.map_or_else(|| text.clone(), |before| format!("{before}\n\n{text}")));
}

/// Returns the document of these groups without paths, with the table of all error codes (R16).
pub(crate) fn frame(groups: &[RouteGroup]) -> Document {
    let mut document = Frame::openapi();
    let areas = routes::tags_in(groups).into_iter();
    let areas = areas.map(|tag| TagBuilder::new().name(tag.name).description(Some(tag.text)).build());
    let operations = document.tags.take().unwrap_or_default();
    document.tags = Some(areas.chain(operations).collect());
    let mut text = document.info.description.take().unwrap_or_default();
    text.push_str(
        "\n\nAn error has one of the following values of `error.code`. If fields of the request are invalid, \
         `error.details` has one entry with `field`, `code` and `message` for each of them.\n\n\
         | Code | Status | Meaning |\n|---|---|---|\n",
    );
    for code in ErrorCode::ALL {
        let status = status_of(*code).as_u16();
        text.extend(["| `", code.as_str(), "` | ", &status.to_string(), " | ", code.meaning(), " |\n"]);
    }
    document.info.description = Some(text);
    document
}

/// Adds to every operation the errors that it can have, and the texts that depend on the configuration.
fn complete(document: &mut Document, config: &HttpConfig) {
    use ErrorCode as C;
    inline_patches(document);
    describe_optional_bodies(document);
    allow_picks(document);
    describe_creations(document);
    let all = [
        C::BadRequest,
        C::Unauthenticated,
        C::Forbidden,
        C::UriTooLong,
        C::Validation,
        C::RateLimited,
        C::HeadersTooLarge,
        C::Internal,
        C::Unavailable,
    ];
    let with_body = [C::RequestTimeout, C::PayloadTooLarge, C::UnsupportedMediaType];
    let versioned = IfMatchHeader::into_params(|| None);
    let versioned = |operation: &Operation| {
        operation.parameters.iter().flatten().any(|p| matches!(p, RefOr::T(p) if versioned.contains(p)))
    };
    for (path, item) in &mut document.paths.paths {
        // The handlers of different resources have the same names, but generated clients need unique ones.
        for operation in
            [&mut item.get, &mut item.post, &mut item.put, &mut item.patch, &mut item.delete].into_iter().flatten()
        {
            let tag = operation.tags.iter().flatten().next().cloned();
            if let Some((tag, id)) = tag.zip(operation.operation_id.take()) {
                operation.operation_id = Some(format!("{tag}_{id}"));
            }
            page_sizes(operation, config);
            describe_access(operation);
        }
        if path == "/" || path.starts_with("/health") {
            // The routes of health have no quota.
            if let Some(operation) = item.get.as_mut().filter(|_| path == "/") {
                add(operation, &[C::RateLimited]);
            }
            continue;
        }
        // A path without a parameter does not name a resource that might not exist.
        let names_one = path.contains('{');
        for operation in
            [&mut item.get, &mut item.post, &mut item.put, &mut item.patch, &mut item.delete].into_iter().flatten()
        {
            add(operation, &all);
            if names_one {
                add(operation, &[C::NotFound]);
            }
            if operation.request_body.is_some() {
                add(operation, &with_body);
            }
        }
        // An audit changes nothing.
        let changes = !path.ends_with("/admin/audit");
        // Requests and responses with secrets are not stored.
        let secrets = ["/users", "/api-keys", "/events/ticket", "/webhooks", "/rotate-secret"];
        let has_secret = secrets.iter().any(|end| path.ends_with(end)) || path.contains("/auth/");
        // Events of products are counted in memory.
        let is_counted = path.ends_with("/products/{id}/events");
        if let Some(operation) = item.post.as_mut().filter(|_| changes && !has_secret && !is_counted) {
            takes_a_key(operation);
        }
        for operation in [&mut item.post, &mut item.put, &mut item.patch, &mut item.delete].into_iter().flatten() {
            let is_of = |tag: &&Tag| operation.tags.iter().flatten().any(|name| name == tag.name);
            let of_resource = routes::tags().find(is_of).map_or(&[][..], |tag| tag.conflicts);
            add(operation, of_resource);
            add(operation, &[C::StateConflict]);
            if changes {
                returns_its_event(operation);
            }
            if takes(operation, "Idempotency-Key") {
                add(operation, &[C::IdempotencyKeyReused, C::IdempotencyAnswerErased]);
            }
            if versioned(operation) {
                add(operation, &[C::VersionRequired]);
            }
            if takes(operation, "If-Match") {
                add(operation, &[C::VersionConflict]);
                let failed = response(
                    "VERSION_CONFLICT: `If-Match` is stale or belongs to another resource: read the resource again.",
                );
                operation.responses.responses.entry("412".to_owned()).or_insert(failed);
            }
        }
    }
}

/// Returns true if an operation has a parameter of this name.
fn takes(operation: &Operation, name: &str) -> bool {
    operation.parameters.iter().flatten().any(|p| matches!(p, RefOr::T(p) if p.name == name))
}

/// Adds the header with the last event of a write to the responses of an operation.
fn returns_its_event(operation: &mut Operation) {
    for (status, answer) in &mut operation.responses.responses {
        if let RefOr::T(answer) = answer
            && status.starts_with('2')
        {
            let id = ObjectBuilder::new().schema_type(Type::String);
            let id = id.format(Some(SchemaFormat::KnownFormat(KnownFormat::Uuid))).build();
            let header = HeaderBuilder::new()
                .schema(Some(id))
                .description(Some(
                    "The id of the last event that the request has written; absent if it has written none, as a request \
                     that changes nothing or that enqueues a job. A search with this id as `at_least` finds the change.",
                ))
                .build();
            answer.headers.insert("X-Last-Event-Id".to_owned(), header.into());
        }
    }
}

/// Adds the header `Idempotency-Key` to an operation, and the header of a response that was stored before.
fn takes_a_key(operation: &mut Operation) {
    let text = ObjectBuilder::new().schema_type(Type::String).min_length(Some(1)).max_length(Some(255)).build();
    let parameter = ParameterBuilder::new()
        .name("Idempotency-Key")
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(
            "A key that the client chooses for this request, such as a UUID: 1 to 255 visible ASCII characters. If the \
             client repeats the request with the same key, the request does not run again, and the response is the \
             stored one. A request that was refused leaves the key free. A key is kept for 24 hours by default.",
        ))
        .schema(Some(text))
        .build();
    operation.parameters.get_or_insert_default().push(parameter.into());
    for (status, answer) in &mut operation.responses.responses {
        if let RefOr::T(answer) = answer
            && status.starts_with('2')
        {
            let header = HeaderBuilder::new()
                .schema(Some(ObjectBuilder::new().schema_type(Type::String).enum_values(Some(["true"])).build()))
                .description(Some("Present if an earlier request with the same `Idempotency-Key` made this response."))
                .build();
            answer.headers.insert("Idempotency-Replayed".to_owned(), header.into());
        }
    }
}

/// The finished document, except for the path of the server.
pub(crate) struct Text {
    /// The text before the path, and the text after it.
    parts: (String, String),
}

impl Text {
    /// Finishes a document.
    pub(crate) fn of(mut document: Document, config: &HttpConfig) -> Self {
        const OPEN: &str = "\u{1}";
        complete(&mut document, config);
        document.servers = Some(vec![Server::new(OPEN)]);
        let text = document.to_json().unwrap_or_default();
        let open = serde_json::Value::from(OPEN).to_string();
        let (before, after) = text.split_once(&open).unwrap_or((&text, ""));
        Self { parts: (before.to_owned(), after.to_owned()) }
    }

    /// Returns the document of a router that is nested at `base`.
    pub(crate) fn at(&self, base: &str) -> String {
        let (before, after) = &self.parts;
        let url = serde_json::Value::from(if base.is_empty() { "/" } else { base });
        format!("{before}{url}{after}")
    }
}

/// Adds the configured sizes of a page to the descriptions of parameters.
fn page_sizes(operation: &mut Operation, config: &HttpConfig) {
    let has_pages = operation.parameters.iter().flatten().any(|p| matches!(p, RefOr::T(p) if p.name == "per_page"));
    // Elsewhere, `limit` is not the size of a page.
    for parameter in operation.parameters.iter_mut().flatten().filter(|_| has_pages) {
        if let RefOr::T(p) = parameter
            && matches!(p.name.as_str(), "per_page" | "limit")
            && let Some(text) = &mut p.description
        {
            let _ = write!(text, " 1 to {}, and {} if absent.", config.max_page_size, config.page_size);
        }
    }
}

/// Replaces references to the schemas of patched fields by the schemas, because generated clients would have a type
/// `Patch_String`. Types that have a schema of their own, as in `Patch_ExactDecimal` and `Patch_Vec_ImageInput`, are
/// still referred to by name.
fn inline_patches(document: &mut Document) {
    const PREFIX: &str = "Patch_";
    let Some(components) = &mut document.components else { return };
    let (patches, mut own): (HashMap<_, _>, HashMap<_, _>) =
        std::mem::take(&mut components.schemas).into_iter().partition(|(name, _)| name.starts_with(PREFIX));
    let named = |name: &str| own.contains_key(name).then(|| Ref::from_schema_name(name));
    let inlined: HashMap<&str, Schema> = patches
        .iter()
        .filter_map(|(name, schema)| {
            let RefOr::T(schema) = schema else { return None };
            let value = name.strip_prefix(PREFIX)?;
            let mut schema = schema.clone();
            if let Some(value) = named(value) {
                let null = ObjectBuilder::new().schema_type(Type::Null);
                schema = Schema::OneOf(OneOfBuilder::new().item(value).item(null).build());
            } else if let (Schema::Array(array), Some(item)) = (&mut schema, value.strip_prefix("Vec_").and_then(named))
            {
                array.items = item.into();
            }
            Some((name.as_str(), schema))
        })
        .collect();
    for schema in own.values_mut() {
        let RefOr::T(Schema::Object(object)) = schema else { continue };
        for property in object.properties.values_mut() {
            let RefOr::Ref(reference) = property else { continue };
            let name = reference.ref_location.rsplit('/').next().unwrap_or_default();
            if let Some(patch) = inlined.get(name) {
                *property = RefOr::T(described(patch.clone(), std::mem::take(&mut reference.description)));
            }
        }
    }
    components.schemas = own.into_iter().collect();
}

/// Allows the response 200 of an operation with the parameter `fields` to contain only some fields of its data.
fn allow_picks(document: &mut Document) {
    let Some(components) = &mut document.components else { return };
    for item in document.paths.paths.values_mut() {
        let Some(operation) = &mut item.get else { continue };
        let picks = takes(operation, "fields");
        let Some(RefOr::T(response)) = operation.responses.responses.get_mut("200").filter(|_| picks) else { continue };
        for content in response.content.values_mut() {
            let RefOr::T(content) = content else { continue };
            let Some(RefOr::Ref(whole)) = &content.schema else { continue };
            let Some(name) = whole.ref_location.rsplit('/').next().map(str::to_owned) else { continue };
            let Some(RefOr::T(schema)) = components.schemas.get(&name) else { continue };
            let (picked, mut partial) = (format!("Picked_{name}"), schema.clone());
            if let Schema::Object(object) = &mut partial {
                object.description = Some(
                    "The same envelope, whose data contains only the fields that the parameter `fields` selects."
                        .to_owned(),
                );
                if let Some(data) = object.properties.get_mut("data") {
                    without_required(data);
                }
            }
            let either = AnyOfBuilder::new().item(whole.clone()).item(Ref::from_schema_name(&picked));
            content.schema = Some(Schema::AnyOf(either.build()).into());
            components.schemas.insert(picked, partial.into());
        }
    }
}

/// Returns the reference to the schema of the body of an operation.
fn body_of(operation: &mut Option<Operation>) -> Option<&mut Ref> {
    let RefOr::T(body) = operation.as_mut()?.request_body.as_mut()? else { return None };
    match body.content.values_mut().next()? {
        RefOr::T(Content { schema: Some(RefOr::Ref(schema)), .. }) => Some(schema),
        _ => None,
    }
}

/// Describes the bodies of requests that create a resource without the field `version`, which such requests refuse.
/// Their type is that of the replacement (PUT) of the resource, in which the field names the version that the client
/// read.
fn describe_creations(document: &mut Document) {
    let Some(components) = &mut document.components else { return };
    let items = &mut document.paths.paths;
    let replaced = items.values_mut().filter_map(|item| body_of(&mut item.put).map(|body| body.ref_location.clone()));
    let replaced: HashSet<String> = replaced.collect();
    for body in items.values_mut().filter_map(|item| body_of(&mut item.post)) {
        if !replaced.contains(&body.ref_location) {
            continue;
        }
        let name = body.ref_location.rsplit('/').next().unwrap_or_default().to_owned();
        let Some(RefOr::T(Schema::Object(replacement))) = components.schemas.get(&name) else { continue };
        let mut creation = replacement.clone();
        creation.properties.shift_remove("version");
        let name = format!("New_{name}");
        *body = Ref::from_schema_name(&name);
        components.schemas.insert(name, Schema::Object(creation).into());
    }
}

/// Describes the bodies whose type is `Option`: they can be left out, but they cannot be null.
fn describe_optional_bodies(document: &mut Document) {
    for operation in document.paths.paths.values_mut().filter_map(|item| item.post.as_mut()) {
        let Some(RefOr::T(body)) = &mut operation.request_body else { continue };
        for content in body.content.values_mut() {
            if let RefOr::T(Content { schema: Some(schema), .. }) = content
                && let RefOr::T(Schema::OneOf(or_null)) = schema
                && let Some(value @ RefOr::Ref(_)) = or_null.items.iter().find(|s| matches!(s, RefOr::Ref(_)))
            {
                *schema = value.clone();
                body.required = Some(Required::False);
            }
        }
    }
}

/// Makes the fields of an object, or of the objects in a list, optional.
fn without_required(schema: &mut RefOr<Schema>) {
    match schema {
        RefOr::T(Schema::Object(object)) => object.required.clear(),
        RefOr::T(Schema::Array(array)) => {
            if let ArrayItems::RefOrSchema(item) = &mut array.items {
                without_required(item);
            }
        }
        _ => {}
    }
}

/// Returns a schema with the description of the field that uses it.
fn described(mut schema: Schema, text: String) -> Schema {
    let text = Some(text).filter(|t| !t.is_empty());
    match &mut schema {
        Schema::Object(o) => o.description = text,
        Schema::Array(a) => a.description = text,
        Schema::OneOf(o) => match o.items.first_mut() {
            Some(RefOr::Ref(r)) => r.description = text.unwrap_or_default(),
            _ => o.description = text,
        },
        _ => {}
    }
    schema
}

/// Adds errors to the responses of an operation. Those with the same status share a response.
fn add(operation: &mut Operation, codes: &[ErrorCode]) {
    for code in codes {
        let status = status_of(*code).as_u16().to_string();
        let text = format!("{}: {}", code.as_str(), code.meaning());
        let responses = &mut operation.responses.responses;
        match responses.get_mut(&status) {
            Some(RefOr::T(others)) => others.description = format!("{}\n\n{text}", others.description),
            Some(RefOr::Ref(_)) => {}
            None => drop(responses.insert(status, response(&text))),
        }
    }
}

fn response(description: &str) -> RefOr<Response> {
    ResponseBuilder::new()
        .description(description)
        .content("application/json", ContentBuilder::new().schema(Some(Ref::from_schema_name("ErrorEnvelope"))).build())
        .build()
        .into()
}
